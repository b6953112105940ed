//! The invariants that the pool alone can check, all of them over everything: for tests.

use std::collections::BTreeMap;

use super::attempt::Attempt;
use super::floor::Floor;
use super::pool::Pool;
use super::run::{Phase, Run};
use super::timers::Timer;
use super::{AttemptState, Time, WorkerStanding};
use vocabulary::id::{AttemptId, WorkerId};
use vocabulary::result::Fault;

/// What must hold between events.
impl Pool {
    /// Says which invariant is broken, if one is.
    ///
    /// # Errors
    /// The number of the invariant and what breaks it.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut tickets = BTreeMap::new();
        let mut held: Vec<(WorkerId, AttemptId, u64)> = Vec::new();
        let mut live_of_module = BTreeMap::<u32, u32>::new();
        let (mut running, mut live) = (0, 0);
        for run in self.runs.values() {
            if let Some(ticket) = run.ticket {
                tickets.insert((ticket.lane, ticket.age), run.id);
            }
            running += usize::from(!run.attempts.is_empty());
            for attempt in run.attempts.iter().filter(|attempt| attempt.is_live()) {
                live += 1;
                if !attempt.is_orphan {
                    *live_of_module.entry(run.module).or_default() += 1;
                    held.push((
                        attempt.record.worker,
                        run.attempt_id(attempt.record.number),
                        run.memory_bytes,
                    ));
                }
            }
            self.floor.check_run(run).map_err(|broken| format!("run {}: {broken}", run.id))?;
        }
        self.floor.queue.check(&tickets, &self.floor.modules)?;
        self.check_repair()?;
        self.check_flights()?;
        self.check_workers_hold(held)?;
        if (running, live) != (self.floor.running, self.floor.attempts_live) {
            return Err(format!("counted {running} running and {live} live: the figures are wrong"));
        }
        for module in self.floor.modules.numbers() {
            let counted = live_of_module.get(&module).copied().unwrap_or(0);
            let module = &self.floor.modules[module];
            if counted != module.live {
                return Err(format!("{} has {counted} live attempts, not {}", module.digest, module.live));
            }
        }
        Ok(())
    }

    /// I9: what is verified anew holds no more than its part of the slots.
    fn check_repair(&self) -> Result<(), String> {
        let anew = self.runs.values().filter(|run| run.reverify.is_some());
        let (mut tokens, mut parked) = (0, 0);
        for run in anew {
            (tokens, parked) = (tokens + usize::from(run.has_token), parked + usize::from(run.is_parked));
            if run.live() > 1 || (run.live() > 0 && !run.has_token) {
                return Err(format!("I9: {} is verified anew by {} attempts at once", run.id, run.live()));
            }
        }
        self.floor.repair.check(tokens, parked)
    }

    fn check_workers_hold(&self, mut held: Vec<(WorkerId, AttemptId, u64)>) -> Result<(), String> {
        for worker in self.floor.crew.iter() {
            let mut leased = 0;
            for attempt in &worker.holds {
                let position = held.iter().position(|(holder, id, _)| *holder == worker.id && id == attempt);
                let position =
                    position.ok_or_else(|| format!("{} holds {attempt}, which is not live", worker.id))?;
                leased += held.swap_remove(position).2;
            }
            if leased != worker.memory_leased || leased > worker.memory_bytes {
                return Err(format!("I13: {} leases {leased} of {} bytes", worker.id, worker.memory_bytes));
            }
            if worker.is_connected && !worker.is_silent && worker.silence_at.is_none() {
                return Err(format!("nothing finds out that {} is silent", worker.id));
            }
            let is_awaited = self.floor.is_grace() && !worker.is_connected;
            let has_nothing = matches!(worker.standing(), WorkerStanding::Lost | WorkerStanding::Quarantined);
            if has_nothing && !is_awaited && !worker.holds.is_empty() {
                return Err(format!("I14: {} is {} and holds attempts", worker.id, worker.standing().name()));
            }
        }
        held.first()
            .map_or(Ok(()), |(worker, attempt, _)| Err(format!("{worker} does not know of {attempt}")))
    }
}

impl Floor {
    fn check_run(&self, run: &Run) -> Result<(), String> {
        let distinct = |mut workers: Vec<WorkerId>| {
            let all = workers.len();
            workers.sort_unstable();
            workers.dedup();
            workers.len() == all
        };
        // an arbiter may be asked twice, to see whether it agrees with itself
        let is_arbiter = |worker| self.crew.get(worker).is_some_and(|worker| worker.is_arbiter);
        let voters = run.votes().into_iter().map(|(worker, _)| worker);
        if !distinct(voters.filter(|worker| !is_arbiter(*worker)).collect()) {
            return Err("I4: a worker counts twice".into());
        }
        let live: Vec<&Attempt> = run.attempts.iter().filter(|attempt| attempt.is_live()).collect();
        // of an earlier life no row says whether an attempt had voted, and an arbiter may have been asked once more
        let is_doubled = |attempt: &&Attempt| {
            let same = live.iter().filter(|other| other.record.worker == attempt.record.worker);
            attempt.epoch == run.epoch && same.count() > 1
        };
        if live.iter().copied().any(|attempt| is_doubled(&attempt)) {
            return Err("I5: two live attempts on one worker".into());
        }
        let spent = run.spent();
        if spent.crashes > self.config.crashes_max {
            return Err(format!("I10: it killed {} runners", spent.crashes));
        }
        if spent.crashes > 0 && run.live() > 1 && run.attempts.last().is_some_and(|attempt| attempt.is_live())
        {
            let crash = run.attempts.iter().filter_map(|attempt| attempt.crashed_at()).min();
            let handed_out = run.attempts.last().map(|attempt| attempt.record.assigned_at);
            if handed_out > crash {
                return Err("I10: an attempt was added to a live one after a crash".into());
            }
        }
        if run.is_settled() && (run.live() > 0 || run.ticket.is_some()) {
            return Err("I7: it is final and still has work".into());
        }
        for attempt in &run.attempts {
            let is_quarantined =
                self.crew.get(attempt.record.worker).is_some_and(|worker| worker.quarantine.is_some());
            let counts = attempt.ballot.as_ref().is_some_and(|ballot| ballot.counts);
            if is_quarantined && counts && !run.is_settled() {
                return Err(format!("I14: the vote of {} counts", attempt.record.worker));
            }
            let id = run.attempt_id(attempt.record.number);
            if attempt.timeout_at.is_some_and(|at| !self.timers.is_set(at, Timer::Timeout(id))) {
                return Err(format!("no timer watches {id}"));
            }
            if attempt.is_live() && attempt.sent && attempt.timeout_at.is_none() && !attempt.is_orphan {
                return Err(format!("nothing ends {id}"));
            }
        }
        if run.idle_at.is_some_and(|at| run.ticket.is_none() || !self.timers.is_set(at, Timer::Idle(run.id)))
        {
            return Err("nothing asks whether its class has room, or it does not wait".into());
        }
        match run.phase {
            _ if run.is_held && !self.is_grace() && !self.timers.is_set(self.grace_until, Timer::Grace) => {
                Err("L1: it is held back after the grace".into())
            }
            _ if run.is_held && run.ticket.is_some() => Err("it is held back and queued".into()),
            _ if run.is_parked && (run.ticket.is_some() || run.has_token) => {
                Err("it waits for a token and has one".into())
            }
            Phase::Open if run.live() == 0 && run.ticket.is_none() && !run.is_held && !run.is_parked => {
                Err("L1: it waits for nothing".into())
            }
            Phase::Collecting { from, until: Some(at), .. }
                if !self.timers.is_set(at, Timer::Collect(run.attempt_id(from))) =>
            {
                Err("L1: no timer watches the voter that was asked".into())
            }
            _ => Ok(()),
        }
    }
}

impl Attempt {
    /// When it crashed, if it did.
    fn crashed_at(&self) -> Option<Time> {
        let is_crash = matches!(self.record.state, AttemptState::Faulted { fault: Fault::Crashed { .. } });
        self.record.ended_at.filter(|_| is_crash && self.record.begun_at.is_some())
    }
}
