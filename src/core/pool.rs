//! The pool: applies events to runs, workers and modules, and says what follows.
//!
//! One event is applied whole, then everything that can be placed is placed. `placement.rs` chooses workers, `votes.rs`
//! decides and finishes, `faults.rs` reruns, `census.rs` hears of workers, `timers.rs` of time.

use super::map::IdMap;
use super::queue::Queue;
use super::run::{Phase, Run};
use super::timers::{Timer, Timers};
use super::types::{
    AttemptState, Config, Effect, Event, RunView, Stats, Submission, SubmitError, Time, WorkerView, Write,
    WriteKind,
};
use super::worker::Worker;
use crate::digest::Digest;
use crate::id::{RunId, WorkerId, WorkspaceId};
use crate::spec::{Retry, Verify};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the pool knows of a module.
#[derive(Clone, Debug, Default)]
pub(super) struct Module {
    /// Its artifact is there.
    pub ready: bool,
    /// Why it may not run.
    pub quarantined: Option<String>,
    /// One attempt of it has voted: it is no longer on probation.
    pub proven: bool,
    /// Attempts of it that workers hold.
    pub live: u32,
    /// Runs that crashed on it, with the time of their first crash.
    pub crashed: VecDeque<(Time, RunId)>,
    /// Open runs of it: when none is left and nothing is remembered, it goes.
    pub runs: usize,
    /// Mean CPU time of its attempts, in microseconds: the estimate that a placement is charged with.
    pub cpu_us: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Pool {
    pub(super) config: Config,
    pub(super) started_at: Time,
    pub(super) runs: IdMap<RunId, Run>,
    pub(super) per_workspace: BTreeMap<WorkspaceId, usize>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Active workers with a credit: where a placement looks.
    pub(super) free: BTreeSet<WorkerId>,
    pub(super) modules: IdMap<Digest, Module>,
    pub(super) queue: Queue,
    pub(super) timers: Timers,
    pub(super) sequence: u64,
    pub(super) live: usize,
    pub(super) running: usize,
}

impl Pool {
    /// An empty pool.
    pub fn new(config: Config, now: Time) -> Pool {
        Pool {
            config,
            started_at: now,
            runs: IdMap::default(),
            per_workspace: BTreeMap::new(),
            workers: BTreeMap::new(),
            free: BTreeSet::new(),
            modules: IdMap::default(),
            queue: Queue::default(),
            timers: Timers::default(),
            sequence: 0,
            live: 0,
            running: 0,
        }
    }

    /// Takes a run, or says why not; then nothing was changed.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]. A recovered run is never refused: it was acknowledged before.
    pub fn submit(
        &mut self,
        now: Time,
        submission: Submission,
        effects: &mut Vec<Effect>,
    ) -> Result<(), SubmitError> {
        if !submission.recovered {
            self.check(now, &submission)?;
        }
        if self.runs.contains_key(&submission.run) {
            return Ok(());
        }
        let (id, epoch, recovered) = (submission.run, submission.epoch, submission.recovered);
        let module = self.modules.entry(submission.module).or_default();
        module.ready |= submission.module_ready;
        module.runs += 1;
        let quarantine = module.quarantined.clone();
        self.sequence += 1;
        let mut run = Run::new(submission, self.sequence);
        if recovered {
            run.explain(now, "taken up again after the coordinator had restarted");
        }
        if let Some(deadline) = run.policy.deadline_ms {
            self.timers.set(run.submitted_at.plus_ms(deadline), Timer::Deadline(id));
        }
        *self.per_workspace.entry(run.workspace).or_default() += 1;
        self.running += usize::from(!run.attempts.is_empty());
        let durable = run.policy.durable;
        self.runs.insert(id, run);
        if durable && !recovered {
            effects.push(Effect::Write(Write::Insert { run: id, epoch }));
        }
        match quarantine {
            Some(why) => self.end_poisoned(now, id, &format!("its module is quarantined: {why}"), effects),
            None => self.reconsider(now, id, effects),
        }
        self.place(now, effects);
        Ok(())
    }

    fn check(&self, now: Time, submission: &Submission) -> Result<(), SubmitError> {
        let of_workspace = self.per_workspace.get(&submission.workspace).copied().unwrap_or(0);
        if self.runs.len() >= self.config.runs_max || of_workspace >= self.config.runs_per_workspace_max {
            return Err(SubmitError::QueueFull { queued: self.runs.len() });
        }
        if let Some(why) = self.modules.get(&submission.module).and_then(|module| module.quarantined.clone())
        {
            return Err(SubmitError::ModuleQuarantined { why });
        }
        // right after a start the workers have not all come back: nobody is refused for that
        if now < self.started_at.plus_ms(self.config.start_grace_ms) {
            return Ok(());
        }
        let wanted = match submission.policy.verify {
            Verify::Once => 1,
            Verify::Quorum { n } => n,
        };
        let probe = Run::new(submission.clone(), 0);
        let there = self.largest_class(&probe);
        if there < usize::from(wanted) {
            return Err(SubmitError::TooFewWorkers { wanted, there });
        }
        Ok(())
    }

    /// Applies one event.
    pub fn step(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Submitted(submission) => {
                // only recovered runs come this way, and those are not refused
                let _ = self.submit(now, *submission, effects);
            }
            Event::Committed { run, write } => self.committed(now, run, write, effects),
            Event::Refused { run } => self.drop_run(run, effects),
            Event::WorkerJoined(joining) => self.joined(now, &joining, effects),
            Event::WorkerLeft { worker } => self.left(now, worker, effects),
            Event::Credits { worker, credits } => self.credited(now, worker, credits),
            Event::Heartbeat { worker } => self.heard(now, worker),
            Event::WorkerDraining { worker, why } => self.draining(worker, why, effects),
            Event::WorkerQuarantined { worker, why } => self.quarantined(now, worker, &why, effects),
            Event::WorkerReadmitted { worker } => self.readmitted(worker, effects),
            Event::AttemptBegun { attempt, worker, at } => self.begun(now, attempt, worker, at, effects),
            Event::AttemptVoted { attempt, epoch, worker, vote } => {
                self.voted(now, attempt, epoch, worker, vote, effects);
            }
            Event::AttemptFaulted { attempt, epoch, worker, fault, begun, cpu_us } => {
                self.faulted(now, attempt, epoch, worker, fault, begun, cpu_us, effects);
            }
            Event::Collected { attempt } => self.collected(now, attempt, effects),
            Event::CollectFailed { attempt, fault } => self.collect_failed(now, attempt, fault, effects),
            Event::Cancel { run } => self.cancel(now, run, effects),
            Event::ModuleReady { module } => self.modules.entry(module).or_default().ready = true,
            Event::ModuleRefused { module } => self.module_refused(now, module, effects),
            Event::ModuleQuarantined { module, why } => self.quarantine_module(now, module, &why, effects),
            Event::ModuleReadmitted { module } => {
                if let Some(known) = self.modules.get_mut(&module) {
                    known.quarantined = None;
                    known.crashed.clear();
                }
            }
            Event::Tick => {}
        }
        self.run_timers(now, effects);
        self.place(now, effects);
    }

    /// When `Tick` is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// A run that is not final.
    pub fn run(&self, run: RunId) -> Option<RunView> {
        self.runs.get(&run).map(Run::view)
    }

    /// A worker.
    pub fn worker(&self, worker: WorkerId) -> Option<WorkerView> {
        self.workers.get(&worker).map(|worker| worker.view.clone())
    }

    /// All workers.
    pub fn workers(&self) -> Vec<WorkerView> {
        self.workers.values().map(|worker| worker.view.clone()).collect()
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        let active = || self.workers.values().filter(|worker| worker.is_active());
        Stats {
            queued: self.runs.len() - self.running,
            running: self.running,
            attempts_live: self.live,
            workers_active: active().count(),
            slots: active().map(|worker| worker.view.slots).sum(),
        }
    }

    fn committed(&mut self, now: Time, run: RunId, write: WriteKind, effects: &mut Vec<Effect>) {
        match write {
            WriteKind::Inserted => effects.push(Effect::Changed { run }),
            WriteKind::Attempt(number) => self.dispatch_recorded(now, run, number, effects),
            WriteKind::Finished => self.drop_run(run, effects),
        }
    }

    /// Under `retry: never` an attempt leaves only when its row is durable.
    fn dispatch_recorded(&mut self, _now: Time, id: RunId, number: u32, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let (epoch, never) = (run.epoch, run.policy.retry == Retry::Never);
        let attempt = run.attempt_id(number);
        let Some(record) = run.attempt_mut(number) else { return };
        if never && record.state == AttemptState::Assigned {
            effects.push(Effect::Assign { attempt, epoch, worker: record.worker });
        }
    }

    /// Forgets a run: it is final and written, or somebody else's. Its voters may forget their outputs.
    pub(super) fn drop_run(&mut self, id: RunId, effects: &mut Vec<Effect>) {
        self.dequeue(id);
        self.abort_live(id, effects);
        let Some(run) = self.runs.remove(&id) else { return };
        self.running -= usize::from(!run.attempts.is_empty());
        if let Some(count) = self.per_workspace.get_mut(&run.workspace) {
            *count -= 1;
            if *count == 0 {
                self.per_workspace.remove(&run.workspace);
            }
        }
        if let Some(module) = self.modules.get_mut(&run.module) {
            module.runs -= 1;
        }
        for record in &run.attempts {
            if matches!(record.state, AttemptState::Voted { .. }) {
                effects
                    .push(Effect::Release { attempt: run.attempt_id(record.number), worker: record.worker });
            }
        }
        effects.push(Effect::Changed { run: id });
    }

    /// Stops whatever of a run still executes.
    pub(super) fn abort_live(&mut self, id: RunId, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let mut stopped = Vec::new();
        for record in run.attempts.iter_mut().filter(|record| record.state.is_live()) {
            record.state = AttemptState::Canceled;
            stopped.push((record.number, record.worker));
        }
        for (number, worker) in stopped {
            let attempt = crate::id::AttemptId { run: id, number };
            effects.push(Effect::Abort { attempt, worker });
            self.forget_lease(attempt, worker);
        }
    }

    /// An attempt is no longer held.
    pub(super) fn forget_lease(&mut self, attempt: crate::id::AttemptId, worker: WorkerId) {
        let module = self.runs.get(&attempt.run).map(|run| run.module);
        let Some(worker) = self.workers.get_mut(&worker) else { return };
        if !worker.leases.contains_key(&attempt) {
            return;
        }
        worker.release(attempt);
        self.live -= 1;
        if let Some(module) = module.and_then(|module| self.modules.get_mut(&module)) {
            module.live -= 1;
        }
    }

    /// A run leaves the queue.
    pub(super) fn dequeue(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if let Some(constraint) = run.queued.take() {
            let (workspace, place) = (run.workspace, run.place());
            self.queue.remove(workspace, &constraint, place);
        }
    }

    /// What must hold after every event; the simulation asks.
    ///
    /// # Errors
    ///
    /// A sentence that names the invariant and what breaks it.
    pub fn check_invariants(&self) -> Result<(), String> {
        for worker in self.workers.values() {
            let view = &worker.view;
            let leased: u64 = worker.leases.values().sum();
            if leased != view.memory_leased || leased > view.memory_bytes {
                return Err(format!("I13: {} leases {leased} of {} bytes", view.worker, view.memory_bytes));
            }
            if view.holds.len() != worker.leases.len() {
                return Err(format!("{} holds and leases differ", view.worker));
            }
        }
        let mut live = 0;
        for run in self.runs.values() {
            let mut holders: Vec<WorkerId> = run.live().map(|record| record.worker).collect();
            live += holders.len();
            holders.sort_unstable();
            if holders.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(format!("I5: two live attempts of {} on one worker", run.id));
            }
            let mut voters: Vec<WorkerId> = run.votes.iter().map(|cast| cast.worker).collect();
            voters.sort_unstable();
            if voters.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(format!("I4: a worker counts twice for {}", run.id));
            }
            for record in run.live() {
                let holds = self
                    .workers
                    .get(&record.worker)
                    .is_some_and(|worker| worker.leases.contains_key(&run.attempt_id(record.number)));
                if !holds {
                    return Err(format!("{} is live and leased by nobody", run.attempt_id(record.number)));
                }
            }
            if run.spent.crashes > self.config.crashes_max + u32::from(run.policy.verify.voters()) {
                return Err(format!("I10: {} crashed {} runners", run.id, run.spent.crashes));
            }
            if run.phase == Phase::Open && run.wants() > 0 && run.queued.is_none() {
                return Err(format!("L1: {} wants an attempt and waits nowhere", run.id));
            }
        }
        if live != self.live {
            return Err(format!("{live} live attempts, {} counted", self.live));
        }
        Ok(())
    }
}
