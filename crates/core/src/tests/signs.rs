//! Dead, slow and stuck told apart.

use super::*;

/// One run on worker 1 of two, begun.
fn running() -> Bench {
    let mut bench = Bench::with_workers(1);
    let mut submission = submission(5, 7, Verify::Once);
    submission.policy.timeout_ms = 3_600_000;
    bench.submit(submission);
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    bench.step(Event::AttemptBegun { attempt: attempt(5, 1), worker: worker(1), at: bench.now });
    bench
}

fn beat(cpu_us: u64) -> Vec<Beat> {
    vec![Beat { attempt: attempt(5, 1), cpu_us, begun_at: None }]
}

impl Bench {
    fn count(&self, run: u128, what: &str) -> usize {
        self.explained(run).iter().filter(|text| text.contains(what)).count()
    }
}

#[test]
fn a_worker_that_missed_two_beats_is_suspect_and_keeps_what_it_holds() {
    let mut bench = running();
    bench.wait(2_400);
    assert_eq!(bench.standing(1), WorkerStanding::Active, "as late as two late beats may be");
    bench.wait(200);
    assert_eq!(bench.standing(1), WorkerStanding::Suspect);
    assert_eq!(bench.standing(1).name(), "suspect");
    assert_eq!((bench.pool.stats().workers_active, bench.pool.stats().workers_suspect), (0, 1));
    assert!(
        bench.says(5, "w1 was not heard of for 2.5 s: attempt 1 stays there"),
        "{:?}",
        bench.explained(5)
    );
    bench.submit(submission(6, 7, Verify::Once));
    assert_eq!(bench.assigned(), [], "nothing new goes there");
    bench.beat(1, Vec::new());
    assert_eq!(bench.standing(1), WorkerStanding::Active);
    assert!(bench.says(5, "w1 is heard of again after 2.6 s: attempt 1 goes on"));
    assert_eq!(bench.assigned(), [(6, 1, 7, 1)]);
}

#[test]
fn one_that_stays_silent_is_lost_after_three_seconds() {
    let mut bench = running();
    bench.wait(2_990);
    assert_eq!(bench.standing(1), WorkerStanding::Suspect);
    bench.wait(20);
    assert_eq!(bench.standing(1), WorkerStanding::Lost);
    assert!(bench.says(5, "attempt 1 on w1 ended"));
    assert_eq!(bench.pool.stats().workers_suspect, 0);
    bench.wait(60_000);
    assert_eq!(bench.pool.next_deadline(), None, "nobody looks at it again before it is back");
    bench.beat(1, Vec::new());
    assert_eq!(bench.standing(1), WorkerStanding::Active);
    assert_eq!(bench.assigned(), [(5, 2, 7, 1)]);
    bench.wait(10_000);
    assert_eq!(bench.standing(1), WorkerStanding::Lost, "it is watched again");
}

#[test]
fn a_suspect_worker_is_counted_on_and_waited_for() {
    let mut bench = Bench::with_workers(2);
    bench.wait(2_000);
    bench.beat(1, Vec::new());
    bench.wait(600);
    assert_eq!((bench.standing(1), bench.standing(2)), (WorkerStanding::Active, WorkerStanding::Suspect));
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)], "it is not refused, and the suspect one gets nothing");
    bench.beat(2, Vec::new());
    assert_eq!(bench.assigned(), [(5, 2, 7, 2)]);
}

#[test]
fn a_slow_attempt_is_explained_once_with_its_cpu_time() {
    let mut bench = running();
    for second in 1..=6 {
        bench.wait(1_000);
        bench.beat(1, beat(second * 900_000));
        let record = &bench.pool.run(RunId(5)).unwrap().attempts[0];
        assert_eq!(record.cpu_us, second * 900_000, "its view shows what it has used");
    }
    assert!(bench.says(5, "attempt 1 on w1 is slow: still computing, 1.8 s of CPU in 2.0 s"));
    assert_eq!(bench.count(5, "slow"), 1);
    assert_eq!(bench.count(5, "stuck"), 0);
}

#[test]
fn slow_is_measured_against_others_of_the_module() {
    let mut bench = Bench::with_workers(1);
    // twenty of it take four seconds
    for run in 100..120 {
        bench.submit(submission(run, 7, Verify::Once));
        bench.step(Event::AttemptBegun { attempt: attempt(run, 1), worker: worker(1), at: bench.now });
        bench.wait_with(4_000, &[1]);
        bench.vote(run, 1, 7, 1, 1);
        bench.step(Event::Credits { worker: worker(1), credits: 4 });
    }
    bench.submit(submission(5, 7, Verify::Once));
    bench.step(Event::AttemptBegun { attempt: attempt(5, 1), worker: worker(1), at: bench.now });
    for second in 1..=5 {
        bench.wait(1_000);
        bench.beat(1, beat(second * 1_000_000));
    }
    assert_eq!(bench.count(5, "slow"), 0, "{:?}", bench.explained(5));
    bench.wait(1_000);
    bench.beat(1, beat(6_000_000));
    assert!(
        bench.says(5, "slow: still computing, 6.0 s of CPU in 6.0 s"),
        "half as long again as the others"
    );
}

#[test]
fn one_that_uses_no_cpu_time_is_stuck_until_it_moves() {
    let mut bench = running();
    bench.wait(500);
    bench.beat(1, beat(400_000));
    for _ in 0..8 {
        bench.wait(1_000);
        bench.beat(1, beat(400_000));
    }
    assert_eq!(bench.count(5, "attempt 1 on w1 is stuck: no CPU time used for 5.0 s"), 1);
    assert_eq!(bench.count(5, "slow"), 0, "it does not compute");
    bench.wait(1_000);
    bench.beat(1, beat(500_000));
    assert_eq!(bench.count(5, "computes again, after 9.0 s without CPU time"), 1);
    let before = bench.explained(5).len();
    // hours of it do not fill the log
    for round in 0..100 {
        for _ in 0..6 {
            bench.wait(1_000);
            bench.beat(1, beat(600_000 + round));
        }
    }
    assert!(bench.explained(5).len() <= before + 8, "{}", bench.explained(5).len());
}

#[test]
fn one_that_has_not_begun_is_neither_slow_nor_stuck() {
    let mut bench = Bench::with_workers(1);
    bench.submit(submission(5, 7, Verify::Once));
    for _ in 0..10 {
        bench.wait(1_000);
        bench.beat(1, beat(0));
    }
    assert_eq!((bench.count(5, "slow"), bench.count(5, "stuck")), (0, 0));
}

#[test]
fn what_a_living_worker_never_mentions_is_handed_out_again() {
    let mut bench = Bench::with_workers(2);
    bench.submit(submission(5, 7, Verify::Once));
    let holder = bench.assigned()[0].3;
    for _ in 0..9 {
        bench.wait(500);
        bench.beat(holder, Vec::new());
        bench.beat_all(3 - holder);
    }
    assert_eq!(bench.assigned(), [], "it may be on its way");
    bench.wait(500);
    bench.beat(holder, Vec::new());
    assert_eq!(bench.assigned(), [(5, 2, 7, 3 - holder)]);
    assert!(bench.says(5, "is alive and says nothing of attempt 1 for 5.0 s"));
    assert!(bench.pool.worker(worker(holder)).unwrap().holds.is_empty());
}

#[test]
fn what_is_mentioned_may_wait_for_minutes() {
    let mut bench = Bench::with_workers(2);
    bench.submit(submission(5, 7, Verify::Once));
    assert_eq!(bench.assigned().len(), 1);
    bench.wait_with(240_000, &[1, 2]);
    assert_eq!(bench.assigned(), []);
}

#[test]
fn what_a_worker_never_begins_goes_to_another_one() {
    let mut bench = Bench::with_workers(2);
    bench.submit(submission(5, 7, Verify::Once));
    let holder = bench.assigned()[0].3;
    bench.wait_with(299_000, &[1, 2]);
    assert_eq!(bench.assigned(), [], "it may be fetching and compiling");
    bench.wait_with(2_000, &[1, 2]);
    assert_eq!(bench.assigned(), [(5, 2, 7, 3 - holder)]);
    assert!(bench.says(5, "it was not begun within 300000 ms"), "{:?}", bench.explained(5));
}

#[test]
fn a_clock_that_is_off_ends_nothing() {
    for begun_at in [Time(0), Time(u64::MAX)] {
        let mut bench = Bench::with_workers(1);
        bench.submit(submission(5, 7, Verify::Once));
        bench.wait_with(1_000, &[1]);
        bench.beat(1, vec![Beat { attempt: attempt(5, 1), cpu_us: 0, begun_at: Some(begun_at) }]);
        bench.wait_with(30_000, &[1]);
        assert!(bench.pool.run(RunId(5)).unwrap().attempts[0].state.is_live(), "{begun_at:?}");
        bench.wait_with(6_500, &[1]);
        assert!(bench.says(5, "attempt 1 on w1 ended: "), "timeout and grace: {begun_at:?}");
    }
}

#[test]
fn a_worker_that_grants_without_end_does_not_get_everything() {
    let mut bench = Bench::start(&[]);
    bench.join(Joining { memory_bytes: u64::MAX, ..joining(1) });
    for run in 100..900 {
        bench.submit(submission(run, 7, Verify::Once));
        if run == 100 {
            // the module leaves its probation
            bench.vote(run, 1, 7, 1, 1);
        }
        bench.step(Event::Credits { worker: worker(1), credits: u32::MAX });
    }
    assert_eq!(bench.pool.worker(worker(1)).unwrap().holds.len(), 4 * 64);
}

#[test]
fn beats_about_what_a_worker_does_not_hold_change_nothing() {
    let mut bench = Bench::with_workers(2);
    bench.submit(submission(5, 7, Verify::Once));
    let holder = bench.assigned()[0].3;
    bench.beat(3 - holder, beat(700));
    bench.beat(holder, vec![Beat { attempt: attempt(99, 1), cpu_us: 1, begun_at: None }]);
    for (stray, by) in [(attempt(5, 1), 3 - holder), (attempt(99, 1), holder)] {
        let abort = Effect::Abort { attempt: stray, worker: worker(by) };
        assert!(bench.effects.contains(&abort), "{stray} on w{by} is executed for nobody");
    }
    assert_eq!(bench.pool.run(RunId(5)).unwrap().attempts[0].cpu_us, 0);
}

#[test]
fn a_worker_that_slept_wakes_up_to_votes_that_change_nothing() {
    let mut bench = Bench::with_workers(2);
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    assert_eq!(bench.assigned().len(), 2);
    bench.wait_with(3_500, &[2]);
    assert_eq!(bench.standing(1), WorkerStanding::Lost);
    bench.join(joining(3));
    assert_eq!(bench.assigned(), [(5, 3, 7, 3)]);
    bench.vote(5, 2, 7, 2, 4);
    // it wakes up and votes, for the same and for something else
    bench.vote(5, 1, 7, 1, 4);
    bench.vote(5, 1, 7, 1, 6);
    assert!(bench.last_final().is_none(), "an attempt that was lost never votes");
    bench.vote(5, 3, 7, 3, 4);
    let last = bench.last_final().expect("two agree").clone();
    assert_eq!((last.verdict.votes, last.verdict.dissenters.len()), (2, 0));
    bench.effects.clear();
    // the final is on its way: what it says now is evidence against it
    bench.vote(5, 1, 7, 1, 6);
    let dissent =
        Effect::Dissented { worker: worker(1), attempt: attempt(5, 1), result: Digest::from_bytes([6; 32]) };
    assert!(bench.effects.contains(&dissent));
    assert!(bench.last_final().is_none());
}
