//! Faults: which budget they cost, who is to blame, what runs again.

use super::pool::Pool;
use super::run::Ending;
use super::types::{AttemptState, Effect, Time, WorkerStanding, Write};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId};
use crate::result::{FailReason, Fault};
use crate::spec::Retry;

/// A module's crashes are forgotten after a day, in milliseconds.
const CRASH_MEMORY_MS: u64 = 24 * 60 * 60 * 1_000;

impl Pool {
    #[expect(clippy::too_many_arguments, reason = "the fields of the event, each used once")]
    pub(super) fn faulted(
        &mut self,
        now: Time,
        attempt: AttemptId,
        epoch: Epoch,
        worker: WorkerId,
        fault: Fault,
        begun: bool,
        cpu_us: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.heard(now, worker);
        if self.is_current(attempt, epoch, worker) {
            self.attempt_failed(now, attempt, worker, fault, begun, cpu_us, effects);
        }
    }

    /// A live attempt has ended in a fault.
    #[expect(clippy::too_many_arguments, reason = "the fields of the event, each used once")]
    pub(super) fn attempt_failed(
        &mut self,
        now: Time,
        attempt: AttemptId,
        worker: WorkerId,
        fault: Fault,
        begun: bool,
        cpu_us: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.ended(now, attempt, worker, cpu_us);
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        let (module, durable, epoch) = (run.module, run.policy.durable, run.epoch);
        run.spent.count(&fault, begun);
        let how = if begun { "failed" } else { "had not begun" };
        run.explain(now, format!("attempt {} on {worker} {how}: {fault}", attempt.number));
        let Some(record) = run.attempt_mut(attempt.number) else { return };
        record.state = AttemptState::Faulted { fault: fault.clone() };
        record.begun_at = record.begun_at.or(begun.then_some(record.assigned_at)).filter(|_| begun);
        let record = record.clone();
        if durable {
            effects.push(Effect::Write(Write::Attempt { run: attempt.run, epoch, record }));
        }
        effects.push(Effect::Changed { run: attempt.run });
        self.blame(now, worker, module, &fault, begun, effects);
        if begun && matches!(fault, Fault::Crashed { .. }) {
            self.module_crashed(now, module, attempt.run, effects);
        }
        match self.exhausted(attempt.run, &fault) {
            Some(reason) => self.give_up(now, attempt.run, reason, effects),
            None => self.reconsider(now, attempt.run, effects),
        }
    }

    /// A worker that fails different modules and completes none in between is drained: it is the worker.
    fn blame(
        &mut self,
        now: Time,
        id: WorkerId,
        module: Digest,
        fault: &Fault,
        begun: bool,
        effects: &mut Vec<Effect>,
    ) {
        let bound = self.config.worker_failures_max as usize;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if *fault == Fault::Drained || !begun {
            return;
        }
        worker.view.faults += 1;
        if matches!(fault, Fault::Crashed { .. } | Fault::TimedOut | Fault::Corrupt { .. }) {
            worker.failing.insert(module);
        }
        if worker.failing.len() >= bound && worker.is_active() {
            let why = format!("{} different modules failed on it in a row", worker.failing.len());
            worker.failing.clear();
            self.draining(id, why, effects);
        }
        self.heard(now, id);
    }

    /// Which budget a run has used up, if one.
    fn exhausted(&self, id: RunId, fault: &Fault) -> Option<FailReason> {
        let run = self.runs.get(&id)?;
        let spent = run.spent;
        if run.policy.retry == Retry::Never && *fault != Fault::Drained {
            return Some(match fault {
                Fault::Crashed { .. } => FailReason::Crashed,
                Fault::TimedOut => FailReason::TimedOut,
                _ => FailReason::Lost,
            });
        }
        if spent.crashes >= self.config.crashes_max {
            Some(FailReason::Poisoned)
        } else if spent.timeouts >= run.policy.attempts_max {
            Some(FailReason::TimedOut)
        } else if spent.losses >= self.config.losses_max || spent.refusals >= self.config.refusals_max {
            Some(FailReason::Lost)
        } else {
            None
        }
    }

    fn give_up(&mut self, now: Time, id: RunId, reason: FailReason, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let spent = run.spent;
        let text = match (reason, run.policy.retry) {
            (_, Retry::Never) => "it is not tried again, as it asked: retry never".to_owned(),
            (FailReason::Poisoned, _) => format!("it killed {} runners: poisoned", spent.crashes),
            (FailReason::TimedOut, _) => {
                format!("{} attempts timed out and no more are allowed", spent.timeouts)
            }
            _ => format!("{} losses and {} refusals: it is given up", spent.losses, spent.refusals),
        };
        run.explain(now, text);
        self.end(now, id, Ending::failed(reason), effects);
    }

    /// A module that crashes run after run is taken out of service.
    fn module_crashed(&mut self, now: Time, digest: Digest, run: RunId, effects: &mut Vec<Effect>) {
        let bound = self.config.module_crashes_max as usize;
        let module = self.modules.entry(digest).or_default();
        let forgotten = |at: &Time| now.ms_since(*at) > CRASH_MEMORY_MS;
        while module.crashed.front().is_some_and(|(at, _)| forgotten(at)) {
            module.crashed.pop_front();
        }
        if !module.crashed.iter().any(|(_, other)| *other == run) {
            module.crashed.push_back((now, run));
        }
        if module.crashed.len() >= bound && module.quarantined.is_none() {
            let why = format!("{bound} runs of it killed a runner within a day");
            effects.push(Effect::QuarantineModule { module: digest, why: why.clone() });
            self.quarantine_module(now, digest, &why, effects);
        }
    }

    /// A module goes out of service: its open runs end.
    pub(super) fn quarantine_module(
        &mut self,
        now: Time,
        digest: Digest,
        why: &str,
        effects: &mut Vec<Effect>,
    ) {
        self.modules.entry(digest).or_default().quarantined = Some(why.to_owned());
        for id in self.runs_of(digest) {
            self.end_poisoned(now, id, &format!("its module was quarantined: {why}"), effects);
        }
    }

    pub(super) fn end_poisoned(&mut self, now: Time, id: RunId, why: &str, effects: &mut Vec<Effect>) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.explain(now, why);
        }
        self.end(now, id, Ending::failed(FailReason::Poisoned), effects);
    }

    /// Admission refused a module after runs of it had been accepted.
    pub(super) fn module_refused(&mut self, now: Time, digest: Digest, effects: &mut Vec<Effect>) {
        for id in self.runs_of(digest) {
            if let Some(run) = self.runs.get_mut(&id) {
                run.explain(now, "its module was refused at admission");
            }
            self.end(now, id, Ending::failed(FailReason::ModuleRefused), effects);
        }
    }

    /// Open runs of a module, oldest first. Rare: looks at every run.
    fn runs_of(&self, digest: Digest) -> Vec<RunId> {
        let mut of_it: Vec<(u64, RunId)> =
            self.runs.values().filter(|run| run.module == digest).map(|run| (run.sequence, run.id)).collect();
        of_it.sort_unstable();
        of_it.into_iter().map(|(_, id)| id).collect()
    }

    /// No new work for a worker.
    pub(super) fn draining(&mut self, id: WorkerId, why: String, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.view.standing == WorkerStanding::Active {
            worker.view.standing = WorkerStanding::Draining;
            worker.view.why = Some(why);
            self.free.remove(&id);
            effects.push(Effect::WorkerChanged { worker: id });
        }
    }
}
