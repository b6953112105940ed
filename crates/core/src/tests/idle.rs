//! Runs that are bound to votes to which nobody has room to add: they leave for others, and stay there.

use super::classes::{all_vote, own, stranger};
use super::portable::{class, machine, overflow, portable};
use super::*;
use vocabulary::result::VerdictKind;

fn grant(bench: &mut Bench, numbers: std::ops::RangeInclusive<u32>, credits: u32) {
    numbers.for_each(|number| bench.step(Event::Credits { worker: worker(number), credits }));
}

/// Strangers 1 and 2 of a class, which got a run first, and two of the operator's own; 1 has voted and 2 has no room.
fn idle() -> Bench {
    let mut bench = Bench::start(&[]);
    (1..=2).for_each(|number| bench.join(stranger(number, &format!("domain {number}"), 2)));
    (3..=4).for_each(|number| bench.join(own(number)));
    (2..=4).for_each(|number| bench.step(Event::Credits { worker: worker(number), credits: 0 }));
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    bench.vote(5, 1, 7, 1, 7);
    bench
}

#[test]
fn a_run_whose_class_has_no_room_for_it_turns_to_one_that_has() {
    let mut bench = idle();
    (3..=4).for_each(|number| bench.step(Event::Credits { worker: worker(number), credits: 4 }));
    bench.wait_with(59_000, &[1, 2, 3, 4]);
    assert!(bench.assigned().is_empty(), "2 may have room soon");
    bench.wait_with(2_000, &[1, 2, 3, 4]);
    let (last, voters) = all_vote(&mut bench, 9);
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![3, 4]));
    assert_eq!((last.verdict.votes, last.verdict.dissenters.as_slice()), (2, [].as_slice()));
    let told =
        last.explain.iter().any(|it| it.text().contains("had room for it, to which its votes bind it"));
    assert!(told, "{:?}", last.explain);
}

#[test]
fn a_run_keeps_its_class_where_nobody_else_has_room_and_turns_when_somebody_has() {
    let mut bench = idle();
    bench.wait_with(600_000, &[1, 2, 3, 4]);
    assert!(bench.assigned().is_empty());
    let notes = bench.explained(5).len();
    assert!(notes < 10, "{:?}", bench.explained(5));
    // its own class is as good as any
    let mut own_has_room = idle();
    own_has_room.wait_with(600_000, &[1, 2, 3, 4]);
    own_has_room.step(Event::Credits { worker: worker(2), credits: 4 });
    let (last, voters) = all_vote(&mut own_has_room, 7);
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![2]));
    (3..=4).for_each(|number| bench.step(Event::Credits { worker: worker(number), credits: 4 }));
    bench.wait_with(61_000, &[1, 2, 3, 4]);
    assert_eq!(all_vote(&mut bench, 9).1, [3, 4]);
}

/// One of these machines that nobody but the first of them has room for.
fn first_has_room(machines: Vec<Joining>) -> Bench {
    let mut bench = Bench::start(&[]);
    let count = machines.len() as u32;
    machines.into_iter().for_each(|machine| bench.join(machine));
    grant(&mut bench, 2..=count, 0);
    bench
}

#[test]
fn a_claim_of_an_overflow_binds_no_run_to_a_machine_code_that_takes_nothing() {
    // 1 and 2 say that they are of one machine code
    let mut bench = first_has_room(vec![machine(1, 7), machine(2, 7), machine(3, 1), machine(4, 1)]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    overflow(&mut bench, 1, 1, 9);
    grant(&mut bench, 3..=4, 4);
    assert!(bench.assigned().is_empty(), "2 could confirm it");
    bench.wait_with(61_000, &[1, 2, 3, 4]);
    let (last, voters) = all_vote(&mut bench, 8);
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![3, 4]));
    assert_eq!(last.result, Some(Digest::from_bytes([8; 32])));
    assert!(last.verdict.dissenters.is_empty());
    let turned = last.explain.iter().filter(|it| it.text().contains("had room for it, to which its votes"));
    assert_eq!(turned.count(), 1, "it did not turn back");
}

#[test]
fn a_run_whose_only_vote_is_an_overflow_does_not_turn_back_to_whom_it_left() {
    // nobody else is of the machine code of 1, and 2 and 3 promise the same results
    let other =
        |number| Joining { portable: Portable { results: class(200), code: class(1) }, ..machine(number, 1) };
    let mut bench = first_has_room(vec![machine(1, 7), machine(2, 8), machine(3, 8), other(4), other(5)]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    overflow(&mut bench, 1, 1, 9);
    grant(&mut bench, 4..=5, 4);
    assert!(bench.assigned().is_empty());
    bench.wait_with(61_000, &[1, 2, 3, 4, 5]);
    let (last, voters) = all_vote(&mut bench, 8);
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![4, 5]));
    let turned =
        last.explain.iter().filter(|it| it.text().contains("had room for it, to which its votes")).count();
    assert_eq!(turned, 1);
}

#[test]
fn a_class_of_strangers_that_voted_but_for_one_holds_no_run_up() {
    let mut bench = Bench::start(&[]);
    (1..=3).for_each(|number| bench.join(stranger(number, &format!("domain {number}"), 2)));
    (4..=6).for_each(|number| bench.join(own(number)));
    grant(&mut bench, 3..=6, 0);
    bench.submit(submission(5, 7, Verify::Quorum { n: 3 }));
    for (run, number, epoch, by) in bench.assigned() {
        assert!(by <= 2);
        bench.vote(run, number, epoch, by, 7);
    }
    grant(&mut bench, 4..=6, 4);
    bench.wait_with(61_000, &[1, 2, 3, 4, 5, 6]);
    let (last, mut voters) = all_vote(&mut bench, 9);
    voters.sort_unstable();
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![4, 5, 6]));
    assert_eq!((last.verdict.votes, last.result), (3, Some(Digest::from_bytes([9; 32]))));
}

#[test]
fn a_run_that_may_turn_no_more_ends_where_others_would_have_room() {
    let mut bench = idle();
    bench.pool.runs.get_mut(&RunId(5)).expect("it is open").turns = u8::MAX;
    bench.wait_with(200_000, &[1, 2, 3, 4]);
    assert!(bench.last_final().is_none(), "nobody has room");
    grant(&mut bench, 3..=4, 4);
    bench.wait_with(61_000, &[1, 2, 3, 4]);
    let last = bench.last_final().expect("it is final");
    assert_eq!(last.reason, Some(FailReason::NoQuorum));
    let words = last.explain.iter().map(|it| it.text()).collect::<Vec<_>>().join("\n");
    assert!(words.contains("it has turned to others as often as a run may"), "{words}");
}
