//! From votes to a final: counting, deciding, collecting, finishing.

use super::pool::Pool;
use super::quorum::Tally;
use super::run::{Cast, Ending, Phase};
use super::timers::Timer;
use super::types::{AttemptState, Effect, Time, Vote, WorkerStanding, Write};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId};
use crate::result::{FailReason, Fault, RunState, VerdictKind};
use crate::spec::Verify;

impl Pool {
    /// The runner has begun an attempt: its clock runs from `at`.
    pub(super) fn begun(
        &mut self,
        now: Time,
        attempt: AttemptId,
        worker: WorkerId,
        at: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.heard(now, worker);
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        let Some(record) = run.attempt_mut(attempt.number) else { return };
        if record.worker == worker && record.state == AttemptState::Assigned {
            record.state = AttemptState::Begun;
            record.begun_at = Some(at.min(now));
            effects.push(Effect::Changed { run: attempt.run });
        }
    }

    /// Whether a report is about an attempt that its worker still holds, under the term of its assignment.
    pub(super) fn is_current(&self, attempt: AttemptId, epoch: Epoch, worker: WorkerId) -> bool {
        let Some(run) = self.runs.get(&attempt.run) else { return false };
        let record = run.attempts.iter().find(|record| record.number == attempt.number);
        record.is_some_and(|record| record.worker == worker && record.state.is_live())
            && run.epoch_of(attempt.number) == epoch
    }

    pub(super) fn voted(
        &mut self,
        now: Time,
        attempt: AttemptId,
        epoch: Epoch,
        worker: WorkerId,
        vote: Vote,
        effects: &mut Vec<Effect>,
    ) {
        self.heard(now, worker);
        let quarantined = self
            .workers
            .get(&worker)
            .is_none_or(|worker| worker.view.standing == WorkerStanding::Quarantined);
        if quarantined || !self.is_current(attempt, epoch, worker) {
            // late, or from nobody: evidence at most, never state
            effects.push(Effect::Release { attempt, worker });
            return;
        }
        self.ended(now, attempt, worker, vote.cpu_us);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.view.votes += 1;
            worker.failing.clear();
        }
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        if let Some(module) = self.modules.get_mut(&run.module) {
            module.proven = true;
            module.cpu_us =
                if module.cpu_us == 0 { vote.cpu_us } else { (module.cpu_us * 7 + vote.cpu_us) / 8 };
        }
        let text = format!(
            "{worker} voted {} in attempt {}: the guest {}",
            vote.result.short(),
            attempt.number,
            vote.outcome
        );
        run.explain(now, text);
        if let Some(record) = run.attempt_mut(attempt.number) {
            record.state = AttemptState::Voted { result: vote.result, won: None };
        }
        run.votes.push(Cast {
            attempt: attempt.number,
            worker,
            result: vote.result,
            outcome: vote.outcome,
            complete: vote.complete,
            failed: false,
        });
        effects.push(Effect::Changed { run: attempt.run });
        self.decide(now, attempt.run, effects);
    }

    /// An attempt has ended, one way or another.
    pub(super) fn ended(&mut self, now: Time, attempt: AttemptId, worker: WorkerId, cpu_us: u64) {
        self.forget_lease(attempt, worker);
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        let (workspace, module) = (run.workspace, run.module);
        if let Some(record) = run.attempt_mut(attempt.number) {
            record.ended_at = Some(now);
            record.cpu_us = cpu_us;
        }
        // the estimate was charged at the placement; the difference to the truth is charged now
        let estimate = self.modules.get(&module).map_or(0, |module| module.cpu_us);
        self.queue.charge(workspace, cpu_us.saturating_sub(estimate));
    }

    /// Looks at the votes of an open run.
    pub(super) fn decide(&mut self, now: Time, id: RunId, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.phase == Phase::Open) else { return };
        match run.tally() {
            Tally::Decided(winner) => {
                let votes = run.votes.iter().filter(|cast| cast.result == winner).count();
                let text = match run.policy.verify {
                    Verify::Once => "one attempt was asked for and nothing is compared: unchecked".to_owned(),
                    Verify::Quorum { n } => format!(
                        "{votes} of {} votes are for {}, and {} decide a quorum of {n}: agreed",
                        run.votes.len(),
                        winner.short(),
                        n / 2 + 1
                    ),
                };
                run.explain(now, text);
                self.abort_live(id, effects);
                self.dequeue(id);
                self.keep_dissents(id, Some(winner), effects);
                self.collect(now, id, winner, effects);
            }
            Tally::Hopeless => {
                let votes = run.votes.len();
                run.explain(now, format!("{votes} votes and none has a majority: no quorum"));
                self.keep_dissents(id, None, effects);
                let ending = Ending { hopeless: true, ..Ending::failed(FailReason::NoQuorum) };
                self.end(now, id, ending, effects);
            }
            Tally::Wanting(voters) => {
                if run.votes.len() + 1 == usize::from(voters) && voters > run.policy.verify.voters() {
                    run.explain(now, format!("the votes differ: voter {voters} is asked"));
                }
                self.reconsider(now, id, effects);
            }
        }
    }

    /// One output of each losing digest is kept, so that people can see what differs.
    fn keep_dissents(&self, id: RunId, winner: Option<Digest>, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get(&id) else { return };
        let mut seen: Vec<Digest> = winner.into_iter().collect();
        for cast in &run.votes {
            if !seen.contains(&cast.result) {
                seen.push(cast.result);
                let attempt = run.attempt_id(cast.attempt);
                effects.push(Effect::KeepDissent { attempt, worker: cast.worker, result: cast.result });
            }
        }
    }

    /// Gets the blobs of the winning result, from one voter after the other.
    fn collect(&mut self, now: Time, id: RunId, winner: Digest, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let of_winner = |cast: &&Cast| cast.result == winner;
        if run.votes.iter().filter(of_winner).any(|cast| cast.complete) {
            return self.finish(now, id, winner, effects);
        }
        let Some(cast) = run.votes.iter().filter(of_winner).find(|cast| !cast.failed) else {
            return self.nobody_delivered(now, id, winner, effects);
        };
        let (number, worker) = (cast.attempt, cast.worker);
        run.phase = Phase::Collecting { attempt: number, since: now };
        run.explain(now, format!("asking {worker} for the outputs"));
        let attempt = run.attempt_id(number);
        effects.push(Effect::Collect { attempt, worker, result: winner });
        self.timers.set(now.plus_ms(self.config.collect_timeout_ms), Timer::Collect(id));
    }

    pub(super) fn collected(&mut self, now: Time, attempt: AttemptId, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get(&attempt.run) else { return };
        let Phase::Collecting { attempt: number, .. } = run.phase else { return };
        let cast = run.votes.iter().find(|cast| cast.attempt == number);
        if let Some(winner) = cast.filter(|_| number == attempt.number).map(|cast| cast.result) {
            self.finish(now, attempt.run, winner, effects);
        }
    }

    /// A voter did not deliver what it voted for: the next one is asked.
    pub(super) fn collect_failed(
        &mut self,
        now: Time,
        attempt: AttemptId,
        fault: Fault,
        effects: &mut Vec<Effect>,
    ) {
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        let Phase::Collecting { attempt: number, .. } = run.phase else { return };
        if number != attempt.number {
            return;
        }
        let Some(cast) = run.votes.iter_mut().find(|cast| cast.attempt == number) else { return };
        cast.failed = true;
        let (worker, winner) = (cast.worker, cast.result);
        run.explain(now, format!("{worker} did not deliver its outputs: {fault}"));
        run.spent.count(&fault, true);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.view.faults += 1;
        }
        self.collect(now, attempt.run, winner, effects);
    }

    /// No voter had the outputs: their votes are void, and others are asked to execute it again.
    fn nobody_delivered(&mut self, now: Time, id: RunId, winner: Digest, effects: &mut Vec<Effect>) {
        let losses_max = self.config.losses_max;
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.phase = Phase::Open;
        run.explain(now, "no voter delivered the outputs: it is executed again");
        let (void, kept) = std::mem::take(&mut run.votes).into_iter().partition(|cast| cast.result == winner);
        run.votes = kept;
        let void: Vec<Cast> = void;
        let detail = "its outputs were not to be had".to_owned();
        for cast in void {
            let (epoch, durable) = (run.epoch, run.policy.durable);
            let Some(record) = run.attempt_mut(cast.attempt) else { continue };
            record.state = AttemptState::Faulted { fault: Fault::Corrupt { detail: detail.clone() } };
            let record = record.clone();
            effects.push(Effect::Release {
                attempt: AttemptId { run: id, number: cast.attempt },
                worker: cast.worker,
            });
            if durable {
                effects.push(Effect::Write(Write::Attempt { run: id, epoch, record }));
            }
        }
        if run.spent.losses >= losses_max || run.policy.retry == crate::spec::Retry::Never {
            return self.end(now, id, Ending::failed(FailReason::Lost), effects);
        }
        self.decide(now, id, effects);
    }

    fn finish(&mut self, now: Time, id: RunId, winner: Digest, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get(&id) else { return };
        let outcome = run.votes.iter().find(|cast| cast.result == winner).map(|cast| cast.outcome.clone());
        let success = outcome.as_ref().is_some_and(crate::result::Outcome::is_success);
        let reason = outcome.as_ref().filter(|_| !success).map(FailReason::of);
        let state = if success { RunState::Succeeded } else { RunState::Failed };
        self.end(now, id, Ending { state, reason, outcome, result: Some(winner), hopeless: false }, effects);
    }

    /// Ends a run: its final is written once, and from here on nothing changes it (I2, I7, I8).
    pub(super) fn end(&mut self, now: Time, id: RunId, ending: Ending, effects: &mut Vec<Effect>) {
        if self.runs.get(&id).is_none_or(|run| run.phase == Phase::Finishing) {
            return;
        }
        self.dequeue(id);
        self.abort_live(id, effects);
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.phase = Phase::Finishing;
        let last = run.finish(now, ending);
        let durable = run.policy.durable;
        if last.verdict.kind == VerdictKind::Agreed {
            for cast in run.votes.iter().filter(|cast| Some(cast.result) != last.result) {
                if let Some(worker) = self.workers.get_mut(&cast.worker) {
                    worker.view.dissents += 1;
                }
                let attempt = AttemptId { run: id, number: cast.attempt };
                effects.push(Effect::Dissented { worker: cast.worker, attempt, result: cast.result });
                effects.push(Effect::WorkerChanged { worker: cast.worker });
            }
        }
        if durable {
            effects.push(Effect::Write(Write::Finish(Box::new(last))));
        } else {
            effects.push(Effect::Finished(Box::new(last)));
            self.drop_run(id, effects);
        }
    }

    /// Somebody wants it stopped. A final that is on its way wins (I8).
    pub(super) fn cancel(&mut self, now: Time, id: RunId, effects: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.phase != Phase::Finishing) else { return };
        run.explain(now, "canceled on request");
        let ending =
            Ending { state: RunState::Canceled, reason: None, outcome: None, result: None, hopeless: false };
        self.end(now, id, ending, effects);
    }
}
