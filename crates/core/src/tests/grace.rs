//! The grace after a start: nobody is lost and nothing is handed out twice.

use super::*;
use vocabulary::spec::Retry;

fn recovered(run: u128, verify: Verify) -> Submission {
    Submission { recovered: true, ..submission(run, 7, verify) }
}

fn holding(number: u32, holds: &[(u128, u32)]) -> Joining {
    let holds = holds.iter().map(|(run, number)| (attempt(*run, *number), Epoch(4))).collect();
    Joining { holds, ..joining(number) }
}

#[test]
fn with_nobody_expected_there_is_no_grace() {
    let mut bench = Bench::start(&[]);
    bench.join(joining(1));
    bench.submit(recovered(5, Verify::Once));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
}

#[test]
fn the_grace_begins_when_workers_can_connect() {
    let mut bench = Bench::start(&[]);
    bench.pool = Pool::restarted(Config::default(), bench.now, [worker(1)]);
    bench.submit(recovered(5, Verify::Once));
    bench.submit(recovered(6, Verify::Quorum { n: 2 }));
    bench.join(joining(2));
    bench.wait_with(90_000, &[2]);
    assert_eq!(bench.assigned(), [], "runs are still being read back");
    bench.step(Event::Serving);
    bench.wait_with(4_500, &[2]);
    assert_eq!(bench.assigned(), []);
    bench.wait_with(1_000, &[2]);
    assert_eq!(bench.assigned(), [(5, 1, 7, 2)]);
    bench.wait_with(59_000, &[2]);
    assert!(bench.last_final().is_none());
    bench.wait_with(2_000, &[2]);
    assert_eq!(bench.last_final().expect("it has no second voter").reason, Some(FailReason::NoQuorum));
}

#[test]
fn a_recovered_run_waits_for_its_workers_and_a_new_one_does_not() {
    let mut bench = Bench::start(&[1, 2]);
    bench.submit(recovered(5, Verify::Once));
    bench.join(joining(3));
    bench.submit(submission(6, 7, Verify::Once));
    assert_eq!(bench.assigned(), [(6, 1, 7, 3)]);
    assert!(
        bench.says(5, "is not handed out for up to 5000 ms: 2 workers of before the restart may come back")
    );
    bench.wait_with(4_500, &[3]);
    assert_eq!(bench.assigned(), []);
    bench.wait_with(1_000, &[3]);
    assert_eq!(bench.assigned(), [(5, 1, 7, 3)]);
    assert!(bench.says(5, "the grace after the restart is over"));
}

#[test]
fn the_grace_ends_at_once_when_everybody_is_back() {
    let mut bench = Bench::start(&[1, 2]);
    bench.submit(recovered(5, Verify::Once));
    bench.submit(recovered(6, Verify::Once));
    bench.join(holding(1, &[(5, 1)]));
    assert_eq!(bench.assigned(), []);
    bench.wait(300);
    bench.join(holding(2, &[]));
    assert_eq!(bench.assigned(), [(6, 1, 7, 1)], "run 5 goes on where it was");
    assert!(bench.says(6, "all workers of before the restart are back"));
    assert!(!bench.says(5, "all workers of before the restart are back"), "it misses nothing");
    bench.wait_with(10_000, &[1, 2]);
    assert_eq!(bench.assigned(), []);
}

#[test]
fn only_the_voter_that_did_not_come_back_is_replaced() {
    let mut bench = Bench::start(&[1, 2]);
    bench.submit(recovered(5, Verify::Quorum { n: 2 }));
    bench.join(joining(3));
    bench.join(holding(1, &[(5, 1)]));
    bench.wait_with(4_500, &[1, 3]);
    assert_eq!(bench.assigned(), []);
    bench.wait_with(1_000, &[1, 3]);
    assert_eq!(bench.assigned(), [(5, 2, 7, 3)]);
    bench.vote(5, 1, 4, 1, 3);
    bench.vote(5, 2, 7, 3, 3);
    let last = bench.last_final().expect("both agree");
    assert_eq!((last.state, last.verdict.votes), (RunState::Succeeded, 2));
}

#[test]
fn a_vote_within_the_grace_places_nobody_before_its_end() {
    let mut bench = Bench::start(&[1, 2]);
    bench.submit(recovered(5, Verify::Quorum { n: 2 }));
    bench.join(joining(3));
    bench.join(holding(1, &[(5, 1)]));
    bench.vote(5, 1, 4, 1, 3);
    assert_eq!(bench.assigned(), []);
    bench.join(holding(2, &[(5, 2)]));
    bench.vote(5, 2, 4, 2, 3);
    assert_eq!(bench.last_final().expect("two agree").state, RunState::Succeeded);
}

#[test]
fn many_attempts_of_an_unproven_module_all_go_on() {
    let mut bench = Bench::start(&[1]);
    (0..20).for_each(|run| bench.submit(recovered(run, Verify::Once)));
    let holds: Vec<(u128, u32)> = (0..20).map(|run| (run, 1)).collect();
    bench.join(Joining { slots: 20, ..holding(1, &holds) });
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Abort { .. })));
    assert_eq!(bench.pool.stats().attempts_live, 20);
}

#[test]
fn a_session_that_breaks_within_the_grace_loses_nothing() {
    let mut bench = Bench::start(&[1, 2]);
    bench.submit(recovered(5, Verify::Once));
    bench.join(holding(1, &[(5, 1)]));
    bench.step(Event::WorkerLeft { worker: worker(1) });
    bench.join(joining(3));
    bench.wait_with(1_000, &[3]);
    bench.join(holding(1, &[(5, 1)]));
    bench.vote(5, 1, 4, 1, 3);
    assert_eq!(bench.last_final().unwrap().attempts.len(), 1, "nothing was handed out again");
}

#[test]
fn one_that_does_not_come_back_a_second_time_is_lost_with_the_grace() {
    let mut bench = Bench::start(&[1, 2]);
    bench.submit(recovered(5, Verify::Once));
    bench.join(holding(1, &[(5, 1)]));
    bench.step(Event::WorkerLeft { worker: worker(1) });
    bench.join(joining(3));
    bench.wait_with(4_500, &[3]);
    assert_eq!(bench.assigned(), []);
    bench.wait_with(1_000, &[3]);
    assert_eq!(bench.assigned(), [(5, 2, 7, 3)]);
}

#[test]
fn nobody_is_declared_lost_before_the_grace_ends() {
    let mut bench = Bench::start(&[1, 2]);
    bench.submit(recovered(5, Verify::Once));
    bench.join(holding(1, &[(5, 1)]));
    bench.wait(4_900);
    assert_eq!(bench.standing(1), WorkerStanding::Suspect);
    bench.wait(200);
    assert_eq!(bench.standing(1), WorkerStanding::Lost);
}

#[test]
fn what_cannot_go_on_ends_within_the_grace() {
    let mut bench = Bench::start(&[1]);
    bench.submit(Submission { module_ready: false, ..recovered(5, Verify::Once) });
    bench.submit(Submission { module: Digest::from_bytes([8; 32]), ..recovered(6, Verify::Once) });
    let mut expiring = Submission { module: Digest::from_bytes([7; 32]), ..recovered(7, Verify::Once) };
    expiring.policy.deadline_ms = Some(2_000);
    bench.submit(expiring);
    bench.step(Event::ModuleRefused { module: MODULE });
    assert_eq!(bench.last_final().unwrap().reason, Some(FailReason::ModuleRefused));
    bench.step(Event::ModuleQuarantined { module: Digest::from_bytes([8; 32]), why: "no".to_owned() });
    assert_eq!(bench.last_final().unwrap().reason, Some(FailReason::Poisoned));
    bench.wait(2_000);
    assert_eq!(bench.last_final().unwrap().reason, Some(FailReason::Expired));
    bench.wait(10_000);
}

#[test]
fn a_canceled_run_is_not_handed_out_when_the_grace_ends() {
    let mut bench = Bench::start(&[1]);
    bench.submit(recovered(5, Verify::Once));
    bench.step(Event::Cancel { run: RunId(5) });
    bench.join(joining(1));
    assert_eq!(bench.last_final().unwrap().state, RunState::Canceled);
    assert_eq!(bench.assigned(), []);
}

#[test]
fn a_recovered_run_of_a_module_that_is_refused_later_ends() {
    let mut bench = Bench::start(&[1]);
    bench.submit(Submission { module_ready: false, ..recovered(5, Verify::Once) });
    bench.join(holding(1, &[(5, 1)]));
    bench.step(Event::ModuleRefused { module: MODULE });
    bench.step(Event::WorkerLeft { worker: worker(1) });
    assert_eq!(
        bench.last_final().expect("it can never be run again").reason,
        Some(FailReason::ModuleRefused)
    );
}

#[test]
fn an_arbiter_that_was_asked_once_more_may_come_back_with_both() {
    let mut bench = Bench::start(&[1]);
    let record = |number| AttemptRecord {
        number,
        worker: worker(1),
        state: AttemptState::Assigned,
        assigned_at: Time(1),
        begun_at: None,
        ended_at: None,
        cpu_us: 0,
    };
    // votes are written with the final only: whether it had voted on the first, no row says
    let submission = recovered(5, Verify::Standard);
    let policy = Policy { retry: Retry::Never, ..submission.policy };
    bench.submit(Submission { policy, history: vec![record(3), record(4)], ..submission });
    bench.join(Joining { is_arbiter: true, ..holding(1, &[(5, 3), (5, 4)]) });
    let view = bench.pool.run(RunId(5)).expect("it is open");
    assert!(view.attempts.iter().all(|record| record.state.is_live()), "{:?}", view.attempts);
    assert_eq!(bench.assigned(), []);
    bench.vote(5, 3, 4, 1, 3);
    bench.vote(5, 4, 4, 1, 3);
    assert_eq!(bench.last_final().expect("an arbiter's word is enough").state, RunState::Succeeded);
}
