//! The end of a run: one final record, written once (I2, I7, I8).

use super::credibility::group_error_ppb;
use super::explain::Note;
use super::floor::Floor;
use super::run::{Phase, Run};
use super::timers::Timer;
use super::{AttemptState, Effect, Final, Write};
use vocabulary::digest::Digest;
use vocabulary::id::RunId;
use vocabulary::result::{FailReason, Outcome, RunState, Verdict, VerdictKind};

/// How a run ends.
#[derive(Clone)]
pub(super) struct Ending {
    state: RunState,
    reason: Option<FailReason>,
    outcome: Option<Outcome>,
    verdict: Verdict,
    result: Option<Digest>,
    /// See [`Final::error_ppb`].
    error_ppb: Option<u64>,
    /// The run whose attempts gave it.
    shared_with: Option<RunId>,
}

impl Ending {
    /// Of a run that compared nothing and has no result.
    fn without_result(state: RunState, reason: Option<FailReason>, verdict: Verdict) -> Ending {
        Ending { state, reason, outcome: None, verdict, result: None, error_ppb: None, shared_with: None }
    }

    /// The same for those that shared the attempts of `leader`.
    pub(super) fn shared(&self, leader: RunId) -> Ending {
        Ending { shared_with: Some(leader), ..self.clone() }
    }
}

impl Floor {
    /// Takes the result of an attempt that voted for what won.
    pub(super) fn accept(&mut self, run: &mut Run, position: usize) {
        let attempt = &run.attempts[position];
        let Some(ballot) = &attempt.ballot else { return };
        let (number, worker, result) = (attempt.record.number, attempt.record.worker, ballot.result);
        let outcome = ballot.outcome.clone();
        let verdict = run.verdict();
        if verdict.kind == VerdictKind::Agreed {
            let is_first = run.agreed.replace(result) != Some(result);
            let dissenters = verdict.dissenters.clone();
            self.note(run, Note::Agreed { result, votes: verdict.votes, dissenters });
            if is_first {
                let module = &mut self.modules[run.module];
                module.discord.agreed(run.id);
                module.survived(run.id);
                self.dissent(run, result);
                self.judge(run, result);
                self.remember_claims(run);
            }
        } else if verdict.kind == VerdictKind::Vouched {
            self.explain_vouched(run, position);
        } else {
            self.note(run, Note::Unchecked { number, worker, result });
        }
        for position in 0..run.attempts.len() {
            let counts = run.compared(position).is_some();
            if let AttemptState::Voted { result: voted, won, .. } = &mut run.attempts[position].record.state {
                *won = counts.then_some(*voted == result);
            }
        }
        run.log.conclude(self.now, Note::Accepted { outcome: outcome.clone() });
        let (state, reason) = match outcome.is_success() {
            true => (RunState::Succeeded, None),
            false => (RunState::Failed, Some(FailReason::of(&outcome))),
        };
        let error_ppb = run.rule().map(|_| group_error_ppb(&run.opinions(), result));
        let (outcome, result) = (Some(outcome), Some(result));
        let ending = Ending { state, reason, outcome, verdict, result, error_ppb, shared_with: None };
        self.land(run, &ending);
        self.finish(run, ending);
    }

    /// Counts the votes that lost, and keeps one output of each.
    fn dissent(&mut self, run: &Run, won: Digest) {
        let mut kept: Vec<Digest> = Vec::new();
        for position in &run.voted {
            let attempt = &run.attempts[*position];
            let Some(ballot) = run.compared(*position).filter(|ballot| ballot.result != won) else {
                continue;
            };
            let (id, worker, result) =
                (run.attempt_id(attempt.record.number), attempt.record.worker, ballot.result);
            if let Some(dissenter) = self.crew.get_mut(worker) {
                dissenter.dissents += 1;
            }
            self.effects.push(Effect::Dissented { worker, attempt: id, result });
            if !kept.contains(&result) {
                kept.push(result);
                self.effects.push(Effect::KeepDissent { attempt: id, worker, result });
            }
        }
    }

    /// Ends a run without a result.
    pub(super) fn fail(&mut self, run: &mut Run, reason: FailReason, why: &str) {
        if run.is_settled() {
            return;
        }
        run.log.conclude(self.now, Note::Failed { reason, why: why.into() });
        let mut verdict = undecided(run);
        if reason == FailReason::Nondeterministic {
            verdict.kind = VerdictKind::Nondeterministic;
        }
        // what it had no patience for says nothing of the others; anything else may be so for them too
        self.set_adrift(run, reason == FailReason::Expired);
        self.finish(run, Ending::without_result(RunState::Failed, Some(reason), verdict));
    }

    /// Ends a run because somebody asked for it. Too late once its final is on the way (I8).
    pub(super) fn cancel(&mut self, run: &mut Run) {
        if run.is_settled() {
            return;
        }
        run.log.conclude(self.now, Note::Canceled);
        let verdict = undecided(run);
        self.set_adrift(run, true);
        self.finish(run, Ending::without_result(RunState::Canceled, None, verdict));
    }

    /// Takes the result of the run whose attempts it shared.
    pub(super) fn take_shared(&mut self, run: &mut Run, ending: Ending) {
        if let (Phase::Following(leader), Some(outcome)) = (run.phase, &ending.outcome) {
            run.log.conclude(self.now, Note::Shared { leader, outcome: outcome.clone() });
            self.finish(run, ending);
        }
    }

    fn finish(&mut self, run: &mut Run, ending: Ending) {
        self.withdraw(run);
        let record = Box::new(Final {
            run: run.id,
            epoch: run.epoch,
            revision: run.reverify.as_ref().map_or(1, |reverify| reverify.revision),
            state: ending.state,
            reason: ending.reason,
            outcome: ending.outcome,
            verdict: ending.verdict,
            result: ending.result,
            votes: run.counted(),
            error_ppb: ending.error_ppb,
            attempts: run.records(),
            explain: run.log.all(),
            finished_at: self.now,
            shared_with: ending.shared_with,
        });
        if let Some(known) = run.reverify.as_ref().map(|reverify| reverify.result) {
            self.verified_anew(run, record, known);
        } else if run.policy.durable {
            run.phase = Phase::Finishing;
            self.effects.push(Effect::Write(Write::Finish(record)));
        } else {
            self.effects.push(Effect::Finished(record));
            self.release_voters(run);
            run.phase = Phase::Gone;
        }
    }

    /// Takes the run out of everything that could still move it.
    fn withdraw(&mut self, run: &mut Run) {
        self.stop_all(run);
        self.stop_collecting(run);
        self.unqueue(run);
        self.unpark(run);
        self.unset_fresh(run);
        if let Some(at) = run.deadline_at {
            self.timers.unset(at, Timer::Deadline(run.id));
        }
        for position in &run.voted {
            if let Some(worker) = self.crew.get_mut(run.attempts[*position].record.worker) {
                worker.voted.remove(&run.id);
            }
        }
    }

    /// The final was not taken, because blobs of the result are gone: its voters still have them, or a new attempt
    /// makes them again.
    pub(super) fn collect_anew(&mut self, run: &mut Run) {
        if run.phase != Phase::Finishing {
            return;
        }
        run.phase = Phase::Open;
        // what was decided in time stays so
        run.deadline_at = None;
        for attempt in &mut run.attempts {
            let Some(ballot) = &mut attempt.ballot else { continue };
            ballot.complete = false;
            if let AttemptState::Voted { won, .. } = &mut attempt.record.state {
                *won = None;
            }
            let Some(worker) = self.crew.get_mut(attempt.record.worker) else { continue };
            if worker.quarantine.is_some() {
                (ballot.counts, ballot.delivers) = (false, false);
            } else if ballot.counts {
                worker.voted.insert(run.id);
            }
        }
        self.note(run, Note::CollectsAnew);
        self.advance(run);
    }

    /// The store refused a write: somebody else owns the run, or it is final. Nothing of ours is needed.
    pub(super) fn disown(&mut self, run: &mut Run) {
        self.set_adrift(run, true);
        self.withdraw(run);
        self.release_voters(run);
        run.phase = Phase::Gone;
    }

    /// Its final is committed.
    pub(super) fn committed(&mut self, run: &mut Run) {
        if run.phase == Phase::Finishing {
            self.release_voters(run);
            run.phase = Phase::Gone;
        }
    }

    pub(super) fn release_voters(&mut self, run: &Run) {
        for position in &run.voted {
            let record = &run.attempts[*position].record;
            let attempt = run.attempt_id(record.number);
            self.effects.push(Effect::Release { attempt, worker: record.worker });
        }
    }
}

/// What the votes say about a run that ends without a result: disputed if any two differ.
fn undecided(run: &Run) -> Verdict {
    let votes = run.votes();
    let differ = votes.iter().any(|(_, result)| *result != votes[0].1);
    let kind = if differ { VerdictKind::Disputed } else { VerdictKind::Pending };
    Verdict { kind, votes: votes.len() as u32, dissenters: Vec::new() }
}
