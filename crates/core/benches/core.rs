//! The scheduler core alone: events per second with 10 workers and 1,000, 10,000 and 1,000,000 queued runs.
//!
//! One iteration is the whole life of a run: submitted, its insertion committed, handed out, begun, voted on, written,
//! committed, the worker's new credit. The queue stays as long as it is.

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lockstep_core::{
    Class, Config, Effect, Event, Joining, Pool, Portable, Prior, Standing, Submission, Time, Vote, Write,
    WriteKind,
};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::Outcome;
use vocabulary::spec::{Policy, Profile, Verify};

const WORKERS: u32 = 10;
const SLOTS: u32 = 4;
const MODULES: u8 = 8;
/// Submitted, inserted, begun, voted, credits, finished.
const EVENTS_PER_RUN: u64 = 6;

struct Bench {
    pool: Pool,
    now: u64,
    runs: u128,
    verify: Verify,
    effects: Vec<Effect>,
    assigned: VecDeque<(AttemptId, WorkerId)>,
}

impl Bench {
    fn new(queued: usize, verify: Verify) -> Bench {
        let config = Config {
            runs_max: queued + 10_000,
            runs_per_workspace_max: queued + 10_000,
            ..Config::default()
        };
        let mut bench = Bench {
            pool: Pool::new(config, Time(0)),
            now: 1,
            runs: 0,
            verify,
            effects: Vec::new(),
            assigned: VecDeque::new(),
        };
        for worker in 1..=WORKERS {
            let joining = Joining {
                worker: WorkerId(worker),
                class: Class(Digest::EMPTY),
                domain: "here".to_owned(),
                labels: BTreeMap::new(),
                slots: SLOTS,
                memory_bytes: 64 << 30,
                holds: vec![],
                quarantined: false,
                standing: Standing::default(),
                prior: Prior::Owned,
                is_arbiter: false,
                portable: Portable::alike(Class(Digest::EMPTY)),
                for_votes: false,
                condemned_elsewhere: false,
            };
            bench.step(Event::WorkerJoined(Box::new(joining)));
        }
        for _ in 0..queued {
            bench.submit();
        }
        for worker in 1..=WORKERS {
            bench.step(Event::Credits { worker: WorkerId(worker), credits: SLOTS });
        }
        // the modules leave their probation
        for _ in 0..1_000 {
            bench.finish_one();
            bench.submit();
        }
        bench
    }

    fn step(&mut self, event: Event) {
        self.now += 1;
        self.pool.step(Time(self.now), event, &mut self.effects);
        self.carry_out();
    }

    fn submit(&mut self) {
        self.runs += 1;
        self.now += 1;
        // spread as random ids are
        let run = RunId(self.runs.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let module = (self.runs % u128::from(MODULES)) as u8;
        let submission = Submission {
            run,
            epoch: Epoch(1),
            workspace: WorkspaceId(u32::from(module % 3)),
            module: Digest::from_bytes([module; 32]),
            memory_bytes: 64 << 20,
            policy: Policy { verify: self.verify, ..Policy::default() },
            module_ready: true,
            recovered: false,
            submitted_at: Time(self.now),
            history: vec![],
            explained: vec![],
            lottery: u64::MAX,
            reverify: None,
            share: None,
            profile: Profile::Det1,
        };
        self.pool.submit(Time(self.now), submission, &mut self.effects).expect("there is room");
        self.carry_out();
        self.step(Event::Committed { run, write: WriteKind::Inserted });
    }

    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Assign { attempt, worker, .. } => self.assigned.push_back((attempt, worker)),
                Effect::Write(Write::Finish(last)) => {
                    let event = Event::Committed { run: last.run, write: WriteKind::Finished };
                    drop(black_box(last));
                    self.step(event);
                }
                other => drop(black_box(other)),
            }
        }
        // the commit above may have brought effects of its own
        if self.effects.is_empty() {
            self.effects = effects;
        }
    }

    /// Workers work until one more run has ended.
    fn finish_one(&mut self) {
        for _ in 0..self.verify.voters() {
            let (attempt, worker) = self.assigned.pop_front().expect("every slot is taken");
            self.step(Event::AttemptBegun { attempt, worker, at: Time(self.now) });
            let vote = Vote {
                result: Digest::from_bytes([attempt.run.0 as u8; 32]),
                outcome: Outcome::Exited { code: 0 },
                cpu_us: 50,
                complete: true,
            };
            self.step(Event::AttemptVoted { attempt, epoch: Epoch(1), worker, vote });
            self.step(Event::Credits { worker, credits: 1 });
        }
    }
}

fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("core");
    for (name, verify) in [("once", Verify::Once), ("quorum 2", Verify::Quorum { n: 2 })] {
        let attempts = u64::from(verify.voters());
        // three events of the run and three of each attempt
        group.throughput(Throughput::Elements(EVENTS_PER_RUN / 2 + attempts * EVENTS_PER_RUN / 2));
        for queued in [1_000, 10_000, 1_000_000] {
            let mut bench = Bench::new(queued, verify);
            group.bench_function(format!("{name}, {queued} queued"), |b| {
                b.iter(|| {
                    bench.submit();
                    bench.finish_one();
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
