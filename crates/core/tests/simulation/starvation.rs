//! L2: no workspace starves, whatever another one queues, and shares follow CPU time, not counts.

use std::collections::BTreeMap;

use lockstep_core::{
    Class, Config, Effect, Event, Joining, Pool, Portable, Prior, Standing, Submission, Time, Vote,
};
use vocabulary::digest::Digest;
use vocabulary::id::{Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::Outcome;
use vocabulary::spec::{Policy, Profile, Verify};

const WORKER: WorkerId = WorkerId(1);

fn pool() -> Pool {
    let mut pool = Pool::new(Config::default(), Time(0));
    let joining = Joining {
        worker: WORKER,
        class: Class(Digest::EMPTY),
        domain: "here".to_owned(),
        labels: BTreeMap::new(),
        slots: 1,
        memory_bytes: 1 << 30,
        holds: vec![],
        quarantined: false,
        standing: Standing::default(),
        prior: Prior::Owned,
        is_arbiter: false,
        portable: Portable::alike(Class(Digest::EMPTY)),
        for_votes: false,
        condemned_elsewhere: false,
    };
    pool.step(Time(1), Event::WorkerJoined(Box::new(joining)), &mut Vec::new());
    pool
}

fn submit(pool: &mut Pool, run: u128, workspace: u32, effects: &mut Vec<Effect>) {
    let policy = Policy { verify: Verify::Once, durable: false, ..Policy::default() };
    let submission = Submission {
        run: RunId(run),
        epoch: Epoch(1),
        workspace: WorkspaceId(workspace),
        module: Digest::from_bytes([workspace as u8; 32]),
        memory_bytes: 1 << 20,
        policy,
        module_ready: true,
        recovered: false,
        submitted_at: Time(1),
        history: vec![],
        explained: vec![],
        lottery: u64::MAX,
        reverify: None,
        share: None,
        profile: Profile::Det1,
    };
    pool.submit(Time(1), submission, effects).expect("there is room and a worker");
}

/// Executes `count` attempts one after the other; `cpu_us` says what one of a workspace uses. Gives how many each had.
fn served(pool: &mut Pool, count: usize, cpu_us: impl Fn(u32) -> u64) -> BTreeMap<u32, usize> {
    let mut had = BTreeMap::new();
    let mut now = Time(2);
    for _ in 0..count {
        let mut effects = Vec::new();
        now = now.plus_ms(1);
        pool.step(now, Event::Credits { worker: WORKER, credits: 1 }, &mut effects);
        let assigned = effects.iter().find_map(|effect| match effect {
            Effect::Assign { attempt, epoch, worker } => Some((*attempt, *epoch, *worker)),
            _ => None,
        });
        let (attempt, epoch, worker) = assigned.expect("somebody waits and the worker is free");
        let workspace = (attempt.run.0 >> 64) as u32;
        *had.entry(workspace).or_default() += 1;
        let vote = Vote {
            result: Digest::EMPTY,
            outcome: Outcome::Exited { code: 0 },
            cpu_us: cpu_us(workspace),
            complete: true,
        };
        now = Time(now.0 + vote.cpu_us.min(100_000));
        pool.step(now, Event::AttemptVoted { attempt, epoch, worker, vote }, &mut effects);
    }
    had
}

fn id(workspace: u32, number: u128) -> u128 {
    u128::from(workspace) << 64 | number
}

#[test]
fn a_newcomer_is_served_though_another_workspace_queued_ten_thousand() {
    let mut pool = pool();
    let mut effects = Vec::new();
    for number in 0..10_000 {
        submit(&mut pool, id(1, number), 1, &mut effects);
    }
    served(&mut pool, 100, |_| 50_000);
    for number in 0..10 {
        submit(&mut pool, id(2, number), 2, &mut effects);
    }
    let had = served(&mut pool, 30, |_| 50_000);
    assert_eq!(had.get(&2), Some(&10), "{had:?}");
}

#[test]
fn shares_follow_cpu_time_and_not_counts() {
    let mut pool = pool();
    let mut effects = Vec::new();
    for number in 0..2_000 {
        submit(&mut pool, id(1, number), 1, &mut effects);
        submit(&mut pool, id(2, number), 2, &mut effects);
    }
    let had = served(&mut pool, 1_100, |workspace| if workspace == 1 { 100_000 } else { 10_000 });
    let ratio = had[&2] as f64 / had[&1] as f64;
    assert!((8.0..12.0).contains(&ratio), "{had:?}");
}

#[test]
fn a_worker_that_exaggerates_makes_no_workspace_wait() {
    let mut pool = pool();
    let mut effects = Vec::new();
    for number in 0..1_000 {
        submit(&mut pool, id(1, number), 1, &mut effects);
        submit(&mut pool, id(2, number), 2, &mut effects);
    }
    // what it says of the one is beyond all reason; both take as long
    let had = served(&mut pool, 400, |workspace| if workspace == 1 { u64::MAX } else { 100_000 });
    assert!(had[&1].abs_diff(had[&2]) < 20, "{had:?}");
}
