//! Clocks that are off, figures that cannot be, and a pool that was not looked after for a while.

use std::collections::BTreeMap;

use lockstep_core::{
    Beat, Class, Config, Effect, Event, Joining, Pool, Portable, Prior, Standing, Submission, Time, Vote,
    WorkerStanding, Write,
};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::Outcome;
use vocabulary::spec::{Policy, Profile, Verify};

const START: Time = Time(1_000_000_000_000);
const WORKER: WorkerId = WorkerId(1);
const RUN: RunId = RunId(1);
const ATTEMPT: AttemptId = AttemptId { run: RUN, number: 1 };

/// A pool with one worker, and a run that was handed to it.
fn pool(config: Config) -> Pool {
    let mut pool = Pool::new(config, START);
    let joining = Joining {
        worker: WORKER,
        class: Class(Digest::EMPTY),
        domain: String::new(),
        labels: BTreeMap::new(),
        slots: 4,
        memory_bytes: 1 << 40,
        holds: Vec::new(),
        quarantined: false,
        standing: Standing::default(),
        prior: Prior::Owned,
        is_arbiter: false,
        portable: Portable::alike(Class(Digest::EMPTY)),
        for_votes: false,
        condemned_elsewhere: false,
    };
    let mut effects = Vec::new();
    pool.step(START, Event::WorkerJoined(Box::new(joining)), &mut effects);
    pool.step(START, Event::Credits { worker: WORKER, credits: 4 }, &mut effects);
    let policy = Policy { verify: Verify::Once, timeout_ms: 10_000, durable: false, ..Policy::default() };
    let submission = Submission {
        run: RUN,
        epoch: Epoch(1),
        workspace: WorkspaceId(0),
        module: Digest::of(b"module"),
        memory_bytes: 1 << 20,
        policy,
        module_ready: true,
        recovered: false,
        submitted_at: START,
        history: Vec::new(),
        explained: Vec::new(),
        lottery: u64::MAX,
        reverify: None,
        share: None,
        profile: Profile::Det1,
    };
    pool.submit(START, submission, &mut effects).expect("there is a worker");
    assert!(effects.contains(&Effect::Assign { attempt: ATTEMPT, epoch: Epoch(1), worker: WORKER }));
    pool
}

fn attempts(pool: &Pool) -> usize {
    pool.run(RUN).expect("it goes on").attempts.len()
}

/// Lets time pass with a heartbeat every second.
fn beat(pool: &mut Pool, from: Time, seconds: u64) -> Time {
    let mut now = from;
    for _ in 0..seconds {
        now = now.plus_ms(1_000);
        let beat = Beat { attempt: ATTEMPT, cpu_us: (now.0 - START.0) / 2, begun_at: None };
        pool.step(now, Event::Heartbeat { worker: WORKER, beats: vec![beat] }, &mut Vec::new());
        pool.step(now, Event::Tick, &mut Vec::new());
    }
    now
}

#[test]
fn a_worker_whose_clock_is_behind_does_not_time_out_for_it() {
    let mut pool = pool(Config::default());
    let now = START.plus_ms(5);
    // an hour before it was handed out
    let at = Time(START.0 - 3_600_000_000);
    pool.step(now, Event::AttemptBegun { attempt: ATTEMPT, worker: WORKER, at }, &mut Vec::new());
    beat(&mut pool, now, 8);
    let view = pool.run(RUN).expect("it goes on");
    assert_eq!((view.attempts.len(), view.attempts[0].begun_at), (1, Some(START)), "when it was handed out");
    assert!(view.attempts[0].state.is_live(), "{:?}", view.attempts);
}

#[test]
fn nobody_is_lost_because_the_pool_was_not_looked_after() {
    let mut pool = pool(Config::default());
    let now = beat(&mut pool, START, 3).plus_ms(60_000);
    pool.step(now, Event::WasAway { ms: 60_000 }, &mut Vec::new());
    pool.step(now, Event::Tick, &mut Vec::new());
    let worker = pool.worker(WORKER).expect("it joined");
    assert_eq!(worker.standing, WorkerStanding::Active);
    assert_eq!(attempts(&pool), 1);
    assert!(worker.heard_at <= now);
    // who stays silent from then on is lost all the same
    let now = now.plus_ms(3_001);
    pool.step(now, Event::Tick, &mut Vec::new());
    assert_eq!(pool.worker(WORKER).expect("it joined").standing, WorkerStanding::Lost);
}

#[test]
fn an_impossible_cpu_time_is_cut_and_upsets_nothing() {
    let mut pool = pool(Config::default());
    let vote = Vote {
        result: Digest::of(b"result"),
        outcome: Outcome::Exited { code: 0 },
        cpu_us: u64::MAX,
        complete: true,
    };
    let event = Event::AttemptVoted { attempt: ATTEMPT, epoch: Epoch(1), worker: WORKER, vote };
    let mut effects = Vec::new();
    pool.step(START.plus_ms(1), event, &mut effects);
    let last = effects.iter().find_map(|effect| match effect {
        Effect::Finished(last) => Some(last),
        Effect::Write(Write::Finish(last)) => Some(last),
        _ => None,
    });
    let cpu_us = last.expect("the run is final").attempts[0].cpu_us;
    assert_eq!(cpu_us, 1_000, "no more than has passed");
    pool.check_invariants().expect("nothing is broken");
}
