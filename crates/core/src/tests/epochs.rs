//! An attempt is named by its number and the term under which it was assigned (I6).

use super::*;

/// A run of term 7 that was recovered while worker 1 is expected back.
fn recovered(verify: Verify) -> Bench {
    let mut bench = Bench::start(&[1, 2]);
    bench.submit(Submission { recovered: true, ..submission(5, 7, verify) });
    bench
}

fn holding(number: u32, holds: &[(u128, u32, u64)]) -> Joining {
    let holds = holds.iter().map(|(run, number, epoch)| (attempt(*run, *number), Epoch(*epoch))).collect();
    Joining { holds, ..joining(number) }
}

#[test]
fn an_attempt_of_an_earlier_term_goes_on_and_its_vote_is_taken_under_that_term() {
    let mut bench = recovered(Verify::Once);
    bench.join(holding(1, &[(5, 1, 4)]));
    assert!(bench.says(5, "w1 came back and still holds attempt 1"), "{:?}", bench.explained(5));
    bench.vote(5, 1, 7, 1, 3);
    assert!(bench.last_final().is_none(), "no attempt 1 was assigned under term 7");
    bench.vote(5, 1, 4, 1, 3);
    let last = bench.last_final().expect("its vote decides");
    assert_eq!((last.state, last.epoch), (RunState::Succeeded, Epoch(7)), "the owner's term is written");
    assert_eq!(bench.assigned(), []);
}

#[test]
fn faults_and_beats_find_the_adopted_attempt() {
    let mut bench = recovered(Verify::Once);
    bench.join(holding(1, &[(5, 1, 4)]));
    let begun_at = Some(bench.now);
    bench.beat(1, vec![Beat { attempt: attempt(5, 1), cpu_us: 900, begun_at }]);
    let record = bench.pool.run(RunId(5)).unwrap().attempts[0].clone();
    assert_eq!((record.state, record.cpu_us), (AttemptState::Begun, 900));
    let fault = |epoch| Event::AttemptFaulted {
        attempt: attempt(5, 1),
        epoch: Epoch(epoch),
        worker: worker(1),
        fault: Fault::TimedOut,
        begun: true,
        cpu_us: 0,
    };
    bench.step(fault(7));
    assert!(bench.pool.run(RunId(5)).unwrap().attempts[0].state.is_live());
    bench.step(fault(4));
    assert_eq!(
        bench.pool.run(RunId(5)).unwrap().attempts[0].state,
        AttemptState::Faulted { fault: Fault::TimedOut }
    );
}

#[test]
fn a_claim_of_the_owners_own_or_a_later_term_is_refused() {
    for epoch in [7, 8] {
        let mut bench = recovered(Verify::Once);
        bench.join(holding(1, &[(5, 1, epoch)]));
        let aborted = Effect::Abort { attempt: attempt(5, 1), worker: worker(1) };
        assert!(bench.effects.contains(&aborted), "term {epoch}");
        assert!(bench.pool.run(RunId(5)).unwrap().attempts.is_empty());
    }
}

#[test]
fn a_number_that_was_shown_names_no_second_attempt() {
    let mut bench = recovered(Verify::Once);
    // its class has changed with its build, so what it holds cannot be compared with what others will say
    bench.step(Event::WorkerQuarantined { worker: worker(1), why: "it lied".to_owned() });
    bench.join(Joining { quarantined: true, ..holding(1, &[(5, 1, 4)]) });
    bench.step(Event::WorkerReadmitted { worker: worker(1) });
    bench.join(joining(2));
    let assigned = bench.assigned();
    assert_eq!(assigned.len(), 1);
    assert_eq!((assigned[0].1, assigned[0].2), (2, 7), "attempt 1 is what w1 was told to abort");
    bench.vote(5, 1, 4, 1, 3);
    assert!(bench.last_final().is_none(), "and its vote is late");
}

#[test]
fn a_vote_of_an_earlier_term_is_never_taken_for_the_new_attempt_of_that_number() {
    let mut bench = Bench::start(&[]);
    bench.submit(Submission { recovered: true, ..submission(5, 7, Verify::Once) });
    bench.join(joining(1));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    bench.vote(5, 1, 4, 1, 3);
    assert!(bench.last_final().is_none());
    assert!(bench.effects.contains(&Effect::Release { attempt: attempt(5, 1), worker: worker(1) }));
    bench.vote(5, 1, 7, 1, 4);
    assert_eq!(bench.last_final().unwrap().result, Some(Digest::from_bytes([4; 32])));
}

#[test]
fn a_worker_that_shows_another_term_no_longer_holds_what_it_was_given() {
    let mut bench = Bench::start(&[]);
    bench.submit(Submission { recovered: true, ..submission(5, 7, Verify::Once) });
    bench.join(joining(1));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    bench.join(holding(1, &[(5, 1, 4)]));
    let attempts = bench.pool.run(RunId(5)).unwrap().attempts;
    assert_eq!(attempts[0].state, AttemptState::Faulted { fault: Fault::Lost });
    assert_eq!(bench.assigned(), [(5, 2, 7, 1)], "nobody else is there");
}

#[test]
fn a_run_that_still_waits_after_the_grace_takes_an_attempt_back() {
    let mut bench = recovered(Verify::Once);
    bench.wait(5_000);
    assert!(bench.says(5, "the grace after the restart is over"));
    bench.join(Joining { memory_bytes: 1, ..joining(3) });
    bench.join(holding(1, &[(5, 1, 4)]));
    assert_eq!(bench.assigned(), [], "it goes on where it is");
    bench.vote(5, 1, 4, 1, 3);
    assert_eq!(bench.last_final().unwrap().state, RunState::Succeeded);
}

#[test]
fn a_run_that_was_placed_again_takes_no_attempt_back() {
    let mut bench = recovered(Verify::Once);
    bench.wait(5_000);
    bench.join(joining(2));
    assert_eq!(bench.assigned(), [(5, 1, 7, 2)]);
    bench.join(holding(1, &[(5, 1, 4)]));
    assert!(bench.effects.contains(&Effect::Abort { attempt: attempt(5, 1), worker: worker(1) }));
    bench.vote(5, 1, 4, 1, 3);
    assert!(bench.last_final().is_none());
    bench.vote(5, 1, 7, 2, 4);
    assert_eq!(bench.last_final().unwrap().result, Some(Digest::from_bytes([4; 32])));
}

#[test]
fn a_row_that_says_live_is_claimed_under_its_term_and_written_by_the_owners() {
    let mut bench = Bench::start(&[1]);
    let record = AttemptRecord {
        number: 1,
        worker: worker(1),
        state: AttemptState::Assigned,
        assigned_at: Time(3),
        begun_at: None,
        ended_at: None,
        cpu_us: 0,
    };
    let mut run = Submission { recovered: true, history: vec![record], ..submission(5, 7, Verify::Once) };
    run.policy.retry = vocabulary::spec::Retry::Never;
    bench.submit(run);
    bench.vote(5, 1, 4, 1, 3);
    assert!(bench.last_final().is_none(), "nobody came back with it yet");
    bench.join(holding(1, &[(5, 1, 4)]));
    bench.vote(5, 1, 4, 1, 3);
    assert_eq!(bench.last_final().unwrap().state, RunState::Succeeded);
}
