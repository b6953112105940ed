//! Judges what the pool does at once: whom it hands what, and which writes it makes.

use std::collections::BTreeSet;

use lockstep_core::{AttemptState, Effect, OWN_DOMAIN, WorkerStanding, WorkerView, Write};
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId};
use vocabulary::spec::{Placement, Profile, Retry, Verify};

use super::{ATTEMPTS_MAX, CRASHES_MAX, Known, Oracle, SUSPECT_AFTER, Try};
use crate::credibility::Books;
use crate::shim::{Shim, finished};

impl Oracle {
    /// Judges what the pool made of the event.
    pub fn after(&mut self, effects: &[Effect], pool: &Shim) -> Result<(), String> {
        let workers = if effects.iter().any(|effect| matches!(effect, Effect::Assign { .. })) {
            pool.workers()
        } else {
            Vec::new()
        };
        for effect in effects {
            match effect {
                Effect::Assign { attempt, epoch, worker } => {
                    self.assigned(*attempt, *epoch, *worker, &workers)?;
                }
                Effect::Abort { attempt, worker } => {
                    if let Some(found) = self.live(*attempt, *worker) {
                        found.is_live = false;
                    }
                }
                Effect::Write(Write::Attempt { run, epoch, record }) => {
                    self.wrote(*run, *epoch)?;
                    let attempt = AttemptId { run: *run, number: record.number };
                    if matches!(record.state, AttemptState::Faulted { .. }) && self.storing.contains(&attempt)
                    {
                        return Err(format!("blame: {attempt} delivered, and the store is slow"));
                    }
                }
                Effect::Write(Write::Correct(last)) => {
                    let known = self.runs.get(&last.run).and_then(|known| known.submission.reverify.as_ref());
                    if known.is_none_or(|known| last.result.is_none_or(|result| result == known.result)) {
                        return Err(format!("I2: {} is corrected by the same result", last.run));
                    }
                }
                Effect::QuarantineModule { module, .. } => {
                    self.saw("a module quarantined by the poison rule");
                    self.poisoned.insert(*module);
                }
                // asked once more, because a vote beside it was discarded: it has to deliver again
                Effect::Collect { attempt, .. } => drop(self.storing.remove(attempt)),
                Effect::Evidence { worker, attempt, evidence, .. } => {
                    self.witnessed(*worker, attempt.map(|attempt| attempt.run), *evidence)?;
                }
                Effect::NondeterministicModule { module, run } => self.check_called(*module, *run)?,
                Effect::Dissented { .. } => self.saw("a dissenter"),
                Effect::QuarantineWorker { worker, .. } => {
                    self.saw("a worker quarantined for its votes");
                    self.quarantine(*worker);
                    self.for_votes.insert(*worker);
                }
                Effect::Rehabilitated { worker, .. } => {
                    self.check_rehabilitated(*worker)?;
                    self.quarantined.remove(worker);
                    self.for_votes.remove(worker);
                }
                _ => {}
            }
            if let Some(last) = finished(effect) {
                self.ended(last)?;
            }
        }
        self.check_evidence(effects)?;
        for last in effects.iter().filter_map(finished) {
            let known = &self.runs[&last.run];
            if known.tries.values().any(|found| found.is_live) {
                return Err(format!("I7: {} is final and an attempt of it still runs", last.run));
            }
        }
        for (run, known) in self.runs.iter().filter(|(_, known)| known.is_acked && !known.is_foreign) {
            if known.last.is_none() && pool.run(*run).is_none() {
                return Err(format!("I1: the pool does not know {run}"));
            }
            if known.was_canceled && known.last.is_none() {
                return Err(format!("I8: {run} goes on after a cancel"));
            }
        }
        Ok(())
    }

    /// Attempts that came back with their worker and were taken up.
    /// Gives them.
    pub fn claimed(&mut self, holds: &[(AttemptId, Epoch)], worker: WorkerId, pool: &Shim) -> Vec<AttemptId> {
        let mut back = Vec::new();
        for (attempt, epoch) in holds {
            let Some(view) = pool.run(attempt.run) else { continue };
            let record = view.attempts.iter().find(|record| record.number == attempt.number);
            let is_live = record.is_some_and(|record| record.worker == worker && record.state.is_live());
            let Some(known) = self.runs.get_mut(&attempt.run).filter(|_| is_live) else { continue };
            let found = Try { worker, epoch: *epoch, is_live: true, has_begun: true, is_returned: false };
            if known.tries.insert(attempt.number, found).is_none_or(|before| !before.is_live) {
                known.claimed_now += 1;
                back.push(*attempt);
                self.saw("a recovered run took an attempt back");
            }
        }
        back
    }

    fn wrote(&self, run: RunId, epoch: Epoch) -> Result<(), String> {
        let Some(known) = self.runs.get(&run) else {
            return Err(format!("I1: a write of {run}, which nobody knows"));
        };
        if known.epoch != epoch {
            return Err(format!("I6: a write of {run} names term {} instead of {}", epoch.0, known.epoch.0));
        }
        match known.last {
            Some(_) => Err(format!("I7: a write of {run} after its final")),
            None => Ok(()),
        }
    }

    fn assigned(
        &mut self,
        attempt: AttemptId,
        epoch: Epoch,
        worker: WorkerId,
        workers: &[WorkerView],
    ) -> Result<(), String> {
        self.wrote(attempt.run, epoch)?;
        if self.quarantined.contains(&worker) {
            return Err(format!("I14: {attempt} goes to {worker}, which is quarantined"));
        }
        if self.draining.contains(&worker) || !self.connected.contains(&worker) {
            return Err(format!("{attempt} goes to {worker}, which takes no work"));
        }
        let silent = self.now - self.heard.get(&worker).copied().unwrap_or(0);
        if silent > SUSPECT_AFTER {
            return Err(format!("suspect: {attempt} goes to {worker}, silent for {} ms", silent / 1_000));
        }
        let is_grace = self.is_grace();
        let known = self.runs.get_mut(&attempt.run).ok_or("I1: an attempt of a run that nobody knows")?;
        if known.is_recovered && is_grace {
            return Err(format!("grace: {attempt} is handed out and its worker may come back"));
        }
        let policy = &known.submission.policy;
        let voters = u32::from(policy.verify.voters());
        let has_voted =
            known.votes.iter().any(|vote| vote.worker == worker) || known.discarded.contains(&worker);
        let compares = policy.verify != Verify::Once || known.submission.reverify.is_some();
        if has_voted && compares && !self.books.is_arbiter(worker) {
            return Err(format!("I4: {attempt} goes to {worker}, which voted"));
        }
        if known.tries.values().any(|found| found.is_live && found.worker == worker) {
            return Err(format!("I5: two live attempts of {} on {worker}", attempt.run));
        }
        if known.tries.contains_key(&attempt.number) && !known.rows.contains(&attempt.number) {
            return Err(format!("I5: {attempt} is handed out twice"));
        }
        if known.crashes >= CRASHES_MAX {
            return Err(format!("I10: {attempt} after {} crashes", known.crashes));
        }
        if known.crashes > 0 && known.tries.values().any(|found| found.is_live) {
            return Err(format!("I10: {attempt} beside another one after a crash"));
        }
        known.assigned += 1;
        known.assigned_now += 1;
        if known.assigned_now > ATTEMPTS_MAX || known.timeouts >= policy.attempts_max {
            return Err(format!("I9: {attempt} after {} timeouts", known.timeouts));
        }
        if policy.retry == Retry::Never {
            let allowed = match policy.verify {
                Verify::Once => 1,
                Verify::Quorum { n } => u32::from(n) + 2,
                Verify::Standard | Verify::High => 12 + 3,
            };
            if known.assigned > allowed {
                return Err(format!("I9: {attempt} of a run that is tried once"));
            }
            if policy.durable && !known.rows.contains(&attempt.number) {
                return Err(format!("I9: {attempt} is handed out before its row is committed"));
            }
        }
        if policy.retry != Retry::Never || !policy.durable {
            // the others were placed when their row was written, not now
            known.check_exclusion(attempt, worker, workers, &self.books)?;
        }
        let found = Try { worker, epoch, is_live: true, has_begun: false, is_returned: false };
        known.tries.insert(attempt.number, found);
        if known.tries.len() > 1 && voters == 1 {
            self.saw("a rerun");
        }
        Ok(())
    }
}

impl Known {
    /// I5: a worker that held an attempt gets no other while one that did not is free; and voters sit in distinct domains
    /// where there are enough.
    fn check_exclusion(
        &self,
        attempt: AttemptId,
        worker: WorkerId,
        workers: &[WorkerView],
        books: &Books,
    ) -> Result<(), String> {
        let Some(chosen) = workers.iter().find(|view| view.worker == worker) else {
            return Err(format!("{attempt} goes to {worker}, which is not there"));
        };
        let carries = |view: &&WorkerView| match &self.submission.policy.placement {
            Placement::Any => true,
            Placement::Labels { labels } => {
                labels.iter().all(|(name, value)| view.labels.get(name) == Some(value))
            }
        };
        let suits = |view: &&WorkerView| {
            matches!(view.standing, WorkerStanding::Active | WorkerStanding::Suspect)
                && view.memory_bytes >= self.submission.memory_bytes
        };
        if chosen.is_arbiter {
            // asked for what it is, or because there is nobody else
            return Ok(());
        }
        let suits = |view: &&WorkerView| suits(view) && !view.is_arbiter;
        let voters = usize::from(self.submission.policy.verify.peers());
        if self.submission.reverify.is_some() {
            return Ok(());
        }
        if voters == 1 {
            let held = |worker| self.tries.values().any(|found| found.worker == worker && !found.is_returned);
            let is_free = |view: &&WorkerView| {
                let may_take = view.standing == WorkerStanding::Active && view.credits > 0;
                may_take && view.memory_bytes - view.memory_leased >= self.submission.memory_bytes
            };
            let other =
                workers.iter().filter(suits).filter(carries).filter(is_free).find(|view| !held(view.worker));
            if let Some(other) = other.filter(|_| held(worker)) {
                return Err(format!("I5: {attempt} goes to {worker} again and {} is free", other.worker));
            }
            return Ok(());
        }
        let seated = self.tries.values().filter(|found| found.is_live).map(|found| found.worker);
        let seated =
            seated.chain(self.votes.iter().map(|vote| vote.worker)).chain(self.discarded.iter().copied());
        let is_portable = self.submission.profile == Profile::Det1Portable;
        if is_portable && self.has_overflowed {
            // whose vote would be compared is not the same for all of them
            return Ok(());
        }
        let class = |view: &WorkerView| if is_portable { view.portable.results } else { view.class };
        // votes of a class that the run turned away from are compared with nobody's here
        let is_peer = |worker: &WorkerId| {
            let mut views = workers.iter().filter(|view| view.worker == *worker);
            !books.is_arbiter(*worker) && views.any(|view| class(view) == class(chosen))
        };
        let seated: BTreeSet<WorkerId> = seated.filter(is_peer).collect();
        let same_class =
            workers.iter().filter(suits).filter(carries).filter(|view| class(view) == class(chosen));
        // where votes are weighed, the operator's own machines sit where they like
        let is_weighed = self.submission.policy.verify.epsilon_ppb().is_some();
        let is_apart =
            |view: &WorkerView| is_weighed && view.domain == OWN_DOMAIN && books.is_owned(view.worker);
        let domains: BTreeSet<&str> = same_class.map(|view| view.domain.as_str()).collect();
        let shares = workers
            .iter()
            .any(|view| seated.contains(&view.worker) && view.domain == chosen.domain && !is_apart(view));
        if shares && !is_apart(chosen) && domains.len() >= voters.max(seated.len() + 1) {
            return Err(format!("I5: {attempt} goes to {worker} and a voter sits in its domain already"));
        }
        Ok(())
    }
}
