//! Finals that are verified anew: a run of their own as far as the core is concerned, and none as far as callers see.
//!
//! Invariants: a run that is verified anew is never visible, counts as nobody's open run, and has no waiters: whoever asks
//! sees the final as it is stored. Whatever comes of it is told to the repairer, exactly once.

use std::sync::Arc;

use super::Owner;
use super::callers::submission;
use crate::coordinator::open_run::{OpenRun, recovered};
use crate::coordinator::repair::{Anew, Ended, Stays};
use crate::coordinator::service::{PoolEvent, RunDetail};
use crate::core::{Conclusion, Event, Reverified, Submission};
use crate::id::{RunId, WorkerId};
use crate::spec::{Policy, Retry};
use crate::store::{CastVote, Reverdict, StoredRun};

impl Owner {
    /// Has a final verified anew.
    pub(super) fn verify_anew(&mut self, anew: Anew) {
        let Anew { run: stored, reverify } = anew;
        let id = stored.id;
        if self.runs.contains_key(&id) {
            return self.parts.repair.tell(Ended::Dropped(id, 0));
        }
        let new = Arc::new(recovered(&stored, self.parts.epoch));
        let of_new = submission(&new, true, self.parts.key.lottery(id));
        let submission = Submission {
            submitted_at: self.now(),
            reverify: Some(reverify),
            // its deadline has passed, and it was executed already
            policy: Policy { deadline_ms: None, retry: Retry::Reassign, ..new.policy.clone() },
            ..of_new
        };
        let open = OpenRun::new(new, false, false);
        self.runs.insert(id, OpenRun { anew: stored.finished_at, ..open });
        self.step(Event::Submitted(Box::new(submission)));
    }

    /// A final stays as it is.
    pub(super) fn reverified(&mut self, done: Reverified) {
        let Reverified { last, conclusion } = done;
        let Some(open) = self.forget(last.run) else { return };
        let verdict = match conclusion {
            Conclusion::Confirmed => Reverdict::Confirmed,
            Conclusion::Undecided => Reverdict::Undecided,
            Conclusion::Nondeterministic => Reverdict::Nondeterministic,
        };
        let confirms =
            |vote: &CastVote| conclusion == Conclusion::Confirmed && Some(vote.result) == last.result;
        let stays = Stays {
            run: last.run,
            revision: last.revision,
            verdict,
            reason: last.reason,
            confirmations: open.counted(&last).into_iter().filter(confirms).collect(),
            numbers: last.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0),
            explain: last.explain,
        };
        self.parts.repair.tell(Ended::Stays(Box::new(stays)));
    }

    /// A correction is durable: everybody hears of it.
    pub(super) fn corrected(&mut self, detail: &Arc<RunDetail>) {
        let run = &detail.run;
        let (id, revision) = (run.id, run.revision);
        tracing::warn!(run = %id, revision, state = run.state.name(), "a final was wrong and is corrected");
        self.parts.metrics.reverified(Reverdict::Corrected.name());
        self.tell_corrected(run);
        self.parts.repair.tell(Ended::Corrected(id));
    }

    /// Runs that had the result of one that was corrected are corrected along, and that is durable.
    pub(super) fn followed(&mut self, corrected: Vec<StoredRun>) {
        self.parts.metrics.dependents_corrected.inc_by(corrected.len() as u64);
        for run in corrected {
            let detail = Arc::new(RunDetail { run, stdout: None, stderr: None });
            self.final_committed(&detail);
            self.tell_corrected(&detail.run);
        }
    }

    fn tell_corrected(&self, run: &StoredRun) {
        for event in [PoolEvent::Corrected(run.id, run.revision), PoolEvent::Run(run.id)] {
            let _ = self.parts.events.send((Some(run.workspace), event));
        }
    }

    /// What came of a final that was verified anew is not taken.
    pub(super) fn drop_anew(&self, run: RunId, came: Option<&RunDetail>) {
        let numbers = came.into_iter().flat_map(|detail| &detail.run.attempts).map(|attempt| attempt.number);
        self.parts.repair.tell(Ended::Dropped(run, numbers.max().unwrap_or(0)));
    }

    /// A worker that was quarantined for its votes had been right.
    pub(super) fn rehabilitated(&mut self, worker: WorkerId, why: &str) {
        tracing::warn!(%worker, why, "worker works again: what it was quarantined for is taken back");
        self.parts.quarantined.set(worker, false);
        let _ = self.parts.events.send((None, PoolEvent::Worker(worker)));
        self.note_lifted(worker);
    }
}
