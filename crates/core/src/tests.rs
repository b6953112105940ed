//! The pool as a whole, one event at a time: what each rule makes of it.

mod classes;
mod deciding;
mod epochs;
mod flows;
mod grace;
mod idle;
mod placing;
mod poison;
mod portable;
mod repair;
mod reruns;
mod signs;

use std::collections::BTreeMap;

use super::*;
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::{FailReason, Fault, Outcome, RunState};
use vocabulary::spec::{Policy, Profile, Verify};

/// A pool with a clock, checked after every event.
struct Bench {
    pool: Pool,
    now: Time,
    effects: Vec<Effect>,
}

const MODULE: Digest = Digest::from_bytes([9; 32]);

fn worker(number: u32) -> WorkerId {
    WorkerId(number)
}

fn attempt(run: u128, number: u32) -> AttemptId {
    AttemptId { run: RunId(run), number }
}

fn joining(number: u32) -> Joining {
    Joining {
        worker: worker(number),
        class: Class(Digest::from_bytes([1; 32])),
        domain: "here".to_owned(),
        labels: BTreeMap::new(),
        slots: 4,
        memory_bytes: 1 << 30,
        holds: Vec::new(),
        quarantined: false,
        standing: Standing::default(),
        prior: Prior::Owned,
        is_arbiter: false,
        portable: Portable::alike(Class(Digest::EMPTY)),
        for_votes: false,
        condemned_elsewhere: false,
    }
}

/// A draw that asks nobody to check, and by which the first workers come in their order.
fn in_order() -> u64 {
    let lots = |lottery| {
        let draw = placement::Draw { odds_milli: None, lottery, now: Time(0) };
        [0, 1, 2, 3, 4].map(|place| draw.lot(place))
    };
    let draws = (0..).map(|below| u64::MAX - below);
    draws.into_iter().find(|lottery| lots(*lottery).is_sorted_by(|one, next| one > next)).expect("one in 120")
}

fn submission(run: u128, epoch: u64, verify: Verify) -> Submission {
    Submission {
        run: RunId(run),
        epoch: Epoch(epoch),
        workspace: WorkspaceId(0),
        module: MODULE,
        memory_bytes: 1 << 20,
        policy: Policy { verify, ..Policy::default() },
        module_ready: true,
        recovered: false,
        submitted_at: Time(1),
        history: Vec::new(),
        explained: Vec::new(),
        lottery: in_order(),
        reverify: None,
        share: None,
        profile: Profile::Det1,
    }
}

fn vote(result: u8) -> Vote {
    Vote {
        result: Digest::from_bytes([result; 32]),
        outcome: Outcome::Exited { code: 0 },
        cpu_us: 10,
        complete: true,
    }
}

impl Bench {
    /// A pool that starts at one second, after an earlier life whose workers `expected` were connected.
    fn start(expected: &[u32]) -> Bench {
        let now = Time(1_000_000);
        let expected = expected.iter().map(|number| worker(*number));
        let pool = Pool::restarted(Config::default(), now, expected);
        let mut bench = Bench { pool, now, effects: Vec::new() };
        bench.step(Event::Serving);
        bench
    }

    /// One with workers 1 to `count`, each of which would take four attempts.
    fn with_workers(count: u32) -> Bench {
        let mut bench = Bench::start(&[]);
        (1..=count).for_each(|number| bench.join(joining(number)));
        bench
    }

    fn step(&mut self, event: Event) {
        self.pool.step(self.now, event, &mut self.effects);
        self.pool.check_invariants().expect("the invariants hold");
    }

    /// Time passes; timers fire when they are due.
    fn wait(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while let Some(at) = self.pool.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.step(Event::Tick);
        }
        self.now = until;
    }

    /// The same, while these workers say every half second that they are alive, and what they hold.
    fn wait_with(&mut self, ms: u64, alive: &[u32]) {
        for _ in 0..ms / 500 {
            alive.iter().for_each(|number| self.beat_all(*number));
            self.wait(500);
        }
        alive.iter().for_each(|number| self.beat_all(*number));
    }

    fn beat_all(&mut self, number: u32) {
        let holds = self.pool.worker(worker(number)).expect("it joined").holds;
        let beat = |attempt| Beat { attempt, cpu_us: 0, begun_at: None };
        self.beat(number, holds.into_iter().map(beat).collect());
    }

    fn beat(&mut self, number: u32, beats: Vec<Beat>) {
        self.step(Event::Heartbeat { worker: worker(number), beats });
    }

    fn join(&mut self, joining: Joining) {
        let worker = joining.worker;
        self.step(Event::WorkerJoined(Box::new(joining)));
        self.step(Event::Credits { worker, credits: 4 });
    }

    fn submit(&mut self, submission: Submission) {
        let answer = self.pool.submit(self.now, submission, &mut self.effects);
        answer.expect("it is accepted");
        self.pool.check_invariants().expect("the invariants hold");
    }

    fn vote(&mut self, run: u128, number: u32, epoch: u64, by: u32, result: u8) {
        let (attempt, worker) = (attempt(run, number), worker(by));
        self.step(Event::AttemptVoted { attempt, epoch: Epoch(epoch), worker, vote: vote(result) });
    }

    /// What was handed out since the last look: number of the attempt, term, worker.
    fn assigned(&mut self) -> Vec<(u128, u32, u64, u32)> {
        let of = |effect: &Effect| match effect {
            Effect::Assign { attempt, epoch, worker } => {
                Some((attempt.run.0, attempt.number, epoch.0, worker.0))
            }
            _ => None,
        };
        let assigned = self.effects.iter().filter_map(of).collect();
        self.effects.clear();
        assigned
    }

    fn last_final(&self) -> Option<&Final> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Write(Write::Finish(last)) => Some(last.as_ref()),
            _ => None,
        })
    }

    fn explained(&self, run: u128) -> Vec<String> {
        let view = self.pool.run(RunId(run)).expect("the run is open");
        view.explain.iter().map(|explained| explained.text()).collect()
    }

    fn says(&self, run: u128, what: &str) -> bool {
        self.explained(run).iter().any(|text| text.contains(what))
    }

    fn standing(&self, number: u32) -> WorkerStanding {
        self.pool.worker(worker(number)).expect("it joined").standing
    }
}
