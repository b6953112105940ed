//! What time alone brings: deadlines of runs, waits that end, workers that fall silent.
//!
//! A timer is a reminder to look, never a fact: what it was set for may be over. So nothing is ever unset.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pool::Pool;
use super::run::{Ending, Phase};
use super::types::{AttemptState, Effect, Time, WorkerStanding};
use crate::id::{RunId, WorkerId};
use crate::result::{FailReason, Fault, RunState};

/// What to look at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// The run's deadline.
    Deadline(RunId),
    /// A rerun has waited long enough for a fresh worker.
    FreshWorker(RunId),
    /// A run has waited long enough for a worker that could vote.
    Voteless(RunId),
    /// A voter was asked for blobs long ago.
    Collect(RunId),
    /// A worker may be silent, or an attempt of it overdue.
    Silence(WorkerId),
}

/// A heap of reminders.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Time, Timer)>>);

impl Timers {
    pub(super) fn set(&mut self, at: Time, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    fn due(&mut self, now: Time) -> Option<Timer> {
        self.0.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.0.pop().map(|Reverse((_, timer))| timer)
    }
}

impl Pool {
    pub(super) fn run_timers(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Deadline(run) => self.deadline(now, run, effects),
                Timer::FreshWorker(run) => self.reconsider(now, run, effects),
                Timer::Voteless(run) => self.voteless(now, run, effects),
                Timer::Collect(run) => self.collect_overdue(now, run, effects),
                Timer::Silence(worker) => self.silence(now, worker, effects),
            }
        }
    }

    fn deadline(&mut self, now: Time, id: RunId, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let deadline = run.policy.deadline_ms.unwrap_or_default();
        run.explain(now, format!("its deadline of {deadline} ms has passed"));
        self.end(now, id, Ending::failed(FailReason::Expired), effects);
    }

    fn voteless(&mut self, now: Time, id: RunId, effects: &mut Vec<Effect>) {
        let wait = self.config.quorum_wait_ms;
        let Some(run) = self.runs.get(&id) else { return };
        if run.phase != Phase::Open || run.wants() == 0 || run.live().next().is_some() {
            return;
        }
        if self.could_vote(run) {
            if let Some(run) = self.runs.get_mut(&id) {
                run.voteless_since = None;
            }
            return;
        }
        match run.voteless_since {
            Some(since) if now >= since.plus_ms(wait) => {
                let ending =
                    Ending { hopeless: !run.votes.is_empty(), ..Ending::failed(FailReason::NoQuorum) };
                let text =
                    format!("no worker that could cast the next vote was there for {wait} ms: no quorum");
                if let Some(run) = self.runs.get_mut(&id) {
                    run.explain(now, text);
                }
                self.end(now, id, ending, effects);
            }
            Some(since) => self.timers.set(since.plus_ms(wait), Timer::Voteless(id)),
            None => {}
        }
    }

    fn collect_overdue(&mut self, now: Time, id: RunId, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get(&id) else { return };
        let Phase::Collecting { attempt, since } = run.phase else { return };
        let due = since.plus_ms(self.config.collect_timeout_ms);
        if now < due {
            return self.timers.set(due, Timer::Collect(id));
        }
        let attempt = run.attempt_id(attempt);
        self.collect_failed(now, attempt, Fault::Lost, effects);
    }

    /// Looks at a worker once per loss period: silent ones are lost, overdue attempts of others given up.
    fn silence(&mut self, now: Time, id: WorkerId, effects: &mut Vec<Effect>) {
        let Some(worker) = self.workers.get(&id) else { return };
        if worker.view.standing == WorkerStanding::Lost {
            return;
        }
        let grace_ends = self.started_at.plus_ms(self.config.start_grace_ms);
        let silent_at = worker.view.heard_at.plus_ms(self.config.worker_lost_ms).max(grace_ends);
        if now >= silent_at {
            return self.lost(now, id, effects);
        }
        let overdue: Vec<_> =
            worker.view.holds.iter().copied().filter(|attempt| self.is_overdue(now, *attempt)).collect();
        self.timers.set(silent_at, Timer::Silence(id));
        for attempt in overdue {
            effects.push(Effect::Abort { attempt, worker: id });
            let epoch = self.runs.get(&attempt.run).map(|run| run.epoch).unwrap_or_default();
            self.faulted(now, attempt, epoch, id, Fault::TimedOut, true, 0, effects);
        }
    }

    /// Whether an attempt runs on although its worker should have killed it.
    fn is_overdue(&self, now: Time, attempt: crate::id::AttemptId) -> bool {
        let Some(run) = self.runs.get(&attempt.run) else { return false };
        let Some(record) = run.attempts.iter().find(|record| record.number == attempt.number) else {
            return false;
        };
        let bound = run.policy.timeout_ms.saturating_add(self.config.timeout_grace_ms);
        record.state == AttemptState::Begun && record.begun_at.is_some_and(|at| now >= at.plus_ms(bound))
    }
}

impl Ending {
    /// A failure without an outcome.
    pub(super) fn failed(reason: FailReason) -> Ending {
        Ending { state: RunState::Failed, reason: Some(reason), outcome: None, result: None, hopeless: false }
    }
}
