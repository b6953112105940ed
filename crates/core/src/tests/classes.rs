//! Classes are what workers say that they are: whom a run is bound to, and when it turns away.

use super::*;
use vocabulary::result::VerdictKind;

/// Somebody's machine, of this class and trust domain.
pub(super) fn stranger(number: u32, domain: &str, of_class: u8) -> Joining {
    Joining {
        class: Class(Digest::from_bytes([of_class; 32])),
        domain: domain.to_owned(),
        prior: Prior::Foreign,
        ..joining(number)
    }
}

/// Strangers 1 and 2 in a class of their own, and 3 to 7, which are enough for `standard`.
fn pool() -> Bench {
    let mut bench = Bench::start(&[]);
    for number in 1..=7_u32 {
        let of_class = if number <= 2 { 2 } else { 1 };
        bench.join(stranger(number, &format!("domain {number}"), of_class));
    }
    bench
}

/// Everybody that is asked votes for `result` until the run is final.
pub(super) fn all_vote(bench: &mut Bench, result: u8) -> (Final, Vec<u32>) {
    let mut voters = Vec::new();
    for _ in 0..20 {
        for (run, number, epoch, by) in bench.assigned() {
            voters.push(by);
            bench.vote(run, number, epoch, by, result);
        }
        if let Some(last) = bench.last_final() {
            return (last.clone(), voters);
        }
    }
    panic!("it does not end: {:?}", bench.explained(5));
}

#[test]
fn two_strangers_that_make_up_a_class_are_bound_to_no_run_that_they_cannot_decide() {
    let mut bench = pool();
    bench.submit(submission(5, 7, Verify::Standard));
    let (last, mut voters) = all_vote(&mut bench, 9);
    voters.sort_unstable();
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![3, 4, 5, 6, 7]));
    // two are enough where votes are counted
    bench.submit(submission(6, 7, Verify::Quorum { n: 2 }));
    assert_eq!(all_vote(&mut bench, 9).1.len(), 2);
}

/// One of the operator's own machines, of class 1.
pub(super) fn own(number: u32) -> Joining {
    Joining { domain: OWN_DOMAIN.to_owned(), ..joining(number) }
}

#[test]
fn two_workers_of_one_stranger_get_no_counted_run_where_the_operators_own_can_decide_it() {
    let mut bench = Bench::start(&[]);
    // the strangers are first in every order
    (1..=2).for_each(|number| bench.join(stranger(number, "ada", 2)));
    (3..=4).for_each(|number| bench.join(own(number)));
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    let voters: Vec<u32> = bench.assigned().iter().map(|it| it.3).collect();
    assert_eq!(
        voters,
        [3, 4],
        "all of the operator's own are of one trust domain, and yet no less than ada's"
    );
    // nobody else is there
    (3..=4).for_each(|number| bench.step(Event::WorkerLeft { worker: worker(number) }));
    let voters: Vec<u32> = bench.assigned().iter().map(|it| it.3).collect();
    assert_eq!(voters, [1, 2]);
}

#[test]
fn confirmations_make_a_class_one_that_may_be_asked() {
    // 1 and 2 are the operator's second kind of machine: new, they cannot decide `high`; 3 to 6 are proven and can
    let mut bench = Bench::start(&[]);
    let proven = Standing { k_milli: 900_000, ..Standing::default() };
    for number in 3..=6_u32 {
        bench.join(Joining { standing: proven, ..stranger(number, &format!("domain {number}"), 1) });
    }
    for number in 1..=2_u32 {
        bench.join(stranger(number, &format!("domain {number}"), 2));
    }
    let grant = |bench: &mut Bench, numbers: std::ops::RangeInclusive<u32>, credits| {
        numbers.for_each(|number| bench.step(Event::Credits { worker: worker(number), credits }));
    };
    let first = |bench: &mut Bench, run| {
        bench.effects.clear();
        bench.submit(submission(run, 7, Verify::High));
        let asked = bench.assigned().first().map(|it| it.3);
        bench.step(Event::Cancel { run: RunId(run) });
        bench.step(Event::Committed { run: RunId(run), write: WriteKind::Finished });
        asked
    };
    assert_eq!(first(&mut bench, 100), Some(3));
    grant(&mut bench, 3..=6, 0);
    assert_eq!(first(&mut bench, 101), None, "only those that are busy could decide it");
    // the others confirm each other where votes are counted
    for run in 1_000..1_600 {
        grant(&mut bench, 1..=2, 4);
        bench.effects.clear();
        bench.submit(submission(run, 7, Verify::Quorum { n: 2 }));
        let (_, voters) = all_vote(&mut bench, 9);
        assert!(voters.iter().all(|by| *by <= 2), "{voters:?}");
        bench.step(Event::Committed { run: RunId(run), write: WriteKind::Finished });
    }
    grant(&mut bench, 1..=2, 4);
    assert_eq!(first(&mut bench, 2_000), Some(1), "by now they could decide it as well");
}

#[test]
fn a_run_turns_away_from_a_class_that_can_no_longer_decide_it() {
    let mut bench = pool();
    for number in 8..=12 {
        bench.join(stranger(number, &format!("domain {number}"), 3));
    }
    bench.submit(submission(5, 7, Verify::Standard));
    let first = bench.assigned();
    let class_of = |by: u32| if by <= 7 { 3..=7 } else { 8..=12 };
    let (there, elsewhere) = (class_of(first[0].3), class_of(if first[0].3 <= 7 { 8 } else { 3 }));
    // all that have not been asked are thrown out
    let asked: Vec<u32> = first.iter().map(|it| it.3).collect();
    for number in there.filter(|number| !asked.contains(number)) {
        bench.step(Event::WorkerQuarantined { worker: worker(number), why: "for a test".to_owned() });
    }
    for (run, number, epoch, by) in first {
        bench.vote(run, number, epoch, by, 7);
    }
    if bench.last_final().is_none() {
        let (last, voters) = all_vote(&mut bench, 9);
        let of_the_other = voters.iter().filter(|by| elsewhere.contains(by)).count();
        assert_eq!((last.verdict.kind, last.verdict.votes, of_the_other), (VerdictKind::Agreed, 5, 5));
        assert!(last.verdict.dissenters.is_empty(), "another class's result is no wrong one");
        assert_eq!(last.result, Some(Digest::from_bytes([9; 32])));
        let told = last.explain.iter().any(|it| it.text().contains("could not decide it"));
        assert!(told, "{:?}", last.explain);
        let set_aside = last.attempts.iter().filter(|it| asked.contains(&it.worker.0));
        assert!(set_aside.clone().count() > 0);
        for record in set_aside {
            assert!(matches!(record.state, AttemptState::Voted { won: None, .. }), "{record:?}");
        }
        return;
    }
    panic!("so few cannot decide it");
}

#[test]
fn a_class_whose_workers_went_is_waited_for_and_then_left() {
    let mut bench = Bench::start(&[]);
    for (number, of_class) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        bench.join(stranger(number, "here", of_class));
    }
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    let asked = bench.assigned();
    assert_eq!(asked.iter().map(|it| it.3).collect::<Vec<_>>(), [1, 2]);
    bench.vote(5, asked[0].1, 7, 1, 7);
    bench.step(Event::WorkerLeft { worker: worker(2) });
    bench.wait_with(30_000, &[1, 3, 4]);
    assert!(bench.assigned().is_empty(), "it may come back");
    bench.wait_with(40_000, &[1, 3, 4]);
    let (last, voters) = all_vote(&mut bench, 9);
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![3, 4]));
    assert_eq!(last.verdict.dissenters, []);
}

/// A worker would not start an attempt.
fn refuse(bench: &mut Bench, number: u32, by: u32) {
    let fault = Fault::Refused { detail: "for a test".to_owned() };
    let (attempt, worker) = (attempt(5, number), worker(by));
    bench.step(Event::AttemptFaulted { attempt, epoch: Epoch(7), worker, fault, begun: false, cpu_us: 0 });
}

#[test]
fn one_that_refused_a_run_is_not_waited_for_where_another_class_can_decide_it() {
    let mut bench = Bench::start(&[]);
    (1..=2).for_each(|number| bench.join(stranger(number, &format!("domain {number}"), 2)));
    (3..=4).for_each(|number| bench.join(own(number)));
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    let asked = bench.assigned();
    assert_eq!(asked.iter().map(|it| it.3).collect::<Vec<_>>(), [1, 2]);
    bench.vote(5, asked[0].1, 7, 1, 7);
    refuse(&mut bench, asked[1].1, 2);
    let (last, voters) = all_vote(&mut bench, 9);
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![3, 4]));
    assert_eq!(last.result, Some(Digest::from_bytes([9; 32])));
}

#[test]
fn no_run_turns_to_a_class_of_one_stranger_as_long_as_there_is_a_wider_one() {
    let mut bench = Bench::start(&[]);
    (1..=2).for_each(|number| bench.join(stranger(number, "ada", 2)));
    (3..=4).for_each(|number| bench.join(own(number)));
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    let asked = bench.assigned();
    assert_eq!(asked.iter().map(|it| it.3).collect::<Vec<_>>(), [3, 4]);
    bench.vote(5, asked[0].1, 7, 3, 9);
    refuse(&mut bench, asked[1].1, 4);
    let (last, voters) = all_vote(&mut bench, 9);
    assert_eq!((last.verdict.kind, voters), (VerdictKind::Agreed, vec![4]), "it is asked once more");
}
