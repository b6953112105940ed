//! Runs of `det-1-portable` through the whole pool: who is compared with whom.

use super::*;
use vocabulary::result::Trap;

fn class(number: u8) -> Class {
    Class(Digest::from_bytes([number; 32]))
}

/// A machine of a class of its own for `det-1`, which gives the portable results of all, by this machine code.
fn machine(number: u32, code: u8) -> Joining {
    let portable = Portable { results: class(100), code: class(code) };
    Joining { class: class(number as u8), portable, ..joining(number) }
}

fn portable(run: u128, verify: Verify) -> Submission {
    Submission { profile: Profile::Det1Portable, ..submission(run, 7, verify) }
}

fn pool(codes: &[u8]) -> Bench {
    let mut bench = Bench::start(&[]);
    (1..).zip(codes).for_each(|(number, code)| bench.join(machine(number, *code)));
    bench
}

/// A vote for a stack that overflowed.
fn overflow(bench: &mut Bench, number: u32, by: u32, result: u8) {
    let outcome = Outcome::Trapped { trap: Trap::StackOverflow };
    let (attempt, worker) = (attempt(5, number), worker(by));
    let vote = Vote { outcome, ..vote(result) };
    bench.step(Event::AttemptVoted { attempt, epoch: Epoch(7), worker, vote });
}

/// Attempts that were taken from their workers since the last look.
fn aborted(bench: &Bench) -> Vec<u32> {
    let of = |effect: &Effect| match effect {
        Effect::Abort { worker, .. } => Some(worker.0),
        _ => None,
    };
    bench.effects.iter().filter_map(of).collect()
}

fn evidence(bench: &Bench) -> Vec<u32> {
    let of = |effect: &Effect| match effect {
        Effect::Evidence { worker, .. } | Effect::Dissented { worker, .. } => Some(worker.0),
        _ => None,
    };
    bench.effects.iter().filter_map(of).collect()
}

#[test]
fn machines_of_different_classes_vote_together_under_the_portable_profile_only() {
    let mut bench = pool(&[1, 2, 3]);
    let refused = bench.refused(submission(4, 7, Verify::Quorum { n: 2 }));
    assert_eq!(refused, SubmitError::TooFewWorkers { wanted: 2, there: 1 });
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    assert_eq!(voters.len(), 2);
    for (_, number, epoch, by) in voters {
        bench.vote(5, number, epoch, by, 9);
    }
    let last = bench.last_final().expect("they agree");
    assert_eq!((last.state, last.verdict.votes), (RunState::Succeeded, 2));
    let views = bench.pool.workers();
    assert!(views.iter().all(|view| (view.peers, view.portable_peers) == (0, 2)), "{views:?}");
}

#[test]
fn a_different_portable_build_is_not_compared() {
    let mut bench = pool(&[1]);
    bench.join(Joining { portable: Portable::alike(class(200)), ..machine(2, 1) });
    let refused = bench.refused(portable(5, Verify::Quorum { n: 2 }));
    assert_eq!(refused, SubmitError::TooFewWorkers { wanted: 2, there: 1 });
}

#[test]
fn a_stack_that_overflows_binds_its_run_to_the_machine_code() {
    // 1 and 3 execute other code than 2 and 4
    let mut bench = pool(&[1, 2, 1, 2]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    let (first, second) = (voters[0], voters[1]);
    assert_eq!((first.3, second.3), (1, 2), "the roomiest ones, in order");
    overflow(&mut bench, first.1, 1, 9);
    assert_eq!(aborted(&bench), [2], "what the other executes cannot be compared");
    assert!(bench.says(5, "attempt 2 on w2 is not compared: a stack overflowed"), "{:?}", bench.explained(5));
    let again = bench.assigned();
    assert_eq!(again.iter().map(|it| it.3).collect::<Vec<_>>(), [3], "its peer in machine code");
    overflow(&mut bench, again[0].1, 3, 9);
    let last = bench.last_final().expect("they agree");
    assert_eq!((last.state, last.verdict.kind), (RunState::Failed, vocabulary::result::VerdictKind::Agreed));
    assert_eq!((last.verdict.votes, last.verdict.dissenters.len()), (2, 0));
    assert_eq!(evidence(&bench), [1, 3], "both are confirmed, nobody is blamed");
}

#[test]
fn a_vote_of_other_code_is_set_aside_when_a_stack_overflows_later() {
    let mut bench = pool(&[1, 2, 1, 2]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    bench.vote(5, voters[0].1, 7, 1, 8);
    assert!(bench.last_final().is_none());
    overflow(&mut bench, voters[1].1, 2, 9);
    // the first vote stands, the overflow elsewhere says nothing against it
    let again = bench.assigned();
    assert_eq!(again.iter().map(|it| it.3).collect::<Vec<_>>(), [3]);
    bench.vote(5, again[0].1, 7, 3, 8);
    let last = bench.last_final().expect("they agree");
    assert_eq!((last.state, last.verdict.votes), (RunState::Succeeded, 2));
    assert!(last.verdict.dissenters.is_empty());
    assert_eq!(evidence(&bench), [1, 3]);
    let of_2 = last.attempts.iter().find(|record| record.worker == worker(2)).unwrap();
    assert!(matches!(of_2.state, AttemptState::Voted { won: None, .. }), "it neither won nor lost");
}

#[test]
fn an_overflow_against_the_same_code_is_a_dissent() {
    let mut bench = pool(&[1, 1, 1]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    bench.vote(5, voters[0].1, 7, 1, 8);
    overflow(&mut bench, voters[1].1, 2, 9);
    let third = bench.assigned();
    bench.vote(5, third[0].1, 7, 3, 8);
    let last = bench.last_final().expect("two of three agree");
    assert_eq!(last.verdict.dissenters, [worker(2)]);
}

#[test]
fn without_a_peer_in_its_code_an_overflow_ends_without_a_quorum() {
    let mut bench = pool(&[1, 2, 2]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    overflow(&mut bench, voters[0].1, 1, 9);
    bench.wait_with(61_000, &[1, 2, 3]);
    assert_eq!(bench.last_final().expect("it gave up").reason, Some(FailReason::NoQuorum));
}

#[test]
fn an_overflow_that_comes_late_from_other_code_is_no_evidence() {
    let mut bench = pool(&[1, 2, 3]);
    bench.submit(portable(5, Verify::Quorum { n: 3 }));
    let voters = bench.assigned();
    bench.vote(5, voters[0].1, 7, 1, 8);
    bench.vote(5, voters[1].1, 7, 2, 8);
    bench.vote(5, voters[2].1, 7, 3, 8);
    bench.effects.clear();
    overflow(&mut bench, voters[2].1, 3, 9);
    assert!(evidence(&bench).is_empty());
}

#[test]
fn a_vote_alone_is_compared_with_nothing() {
    let mut bench = pool(&[1, 2]);
    bench.submit(portable(5, Verify::Once));
    let voters = bench.assigned();
    overflow(&mut bench, voters[0].1, 1, 9);
    assert_eq!(bench.last_final().expect("it is final").state, RunState::Failed);
}

#[test]
fn a_worker_that_comes_back_with_another_portable_class_holds_nothing() {
    let mut bench = pool(&[1, 2]);
    bench.submit(portable(5, Verify::Quorum { n: 2 }));
    assert_eq!(bench.assigned().len(), 2);
    let upgraded = Portable { results: class(101), code: class(102) };
    let holds = vec![(attempt(5, 1), Epoch(7))];
    bench.step(Event::WorkerJoined(Box::new(Joining { portable: upgraded, holds, ..machine(1, 1) })));
    let view = bench.pool.run(RunId(5)).unwrap();
    assert!(matches!(view.attempts[0].state, AttemptState::Faulted { .. }), "{:?}", view.attempts);
}
