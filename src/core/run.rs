//! One run: its attempts, its votes, its budgets, and where it stands between submission and final.
//!
//! ```text
//!            first attempt            votes decide             blobs stored
//!   Open(queued) ────▶ Open(running) ──────────▶ Collecting ───────────────▶ Finishing ──▶ gone
//!        │                 │   ▲ no voter delivers │                            ▲
//!        │                 │   └──────────────────┘                            │
//!        └─────────────────┴── cancel, deadline, budget, no quorum ─────────────┘
//! ```
//!
//! It knows no worker's state and no queue: the pool asks it what it wants.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::queue::{Constraint, Place};
use super::quorum::{Tally, tally};
use super::types::{
    AttemptRecord, AttemptState, Class, Explained, Final, RunView, Submission, Time, WorkerView,
};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use crate::result::{Fault, Outcome, RunState, Verdict, VerdictKind};
use crate::spec::{Placement, Policy};

/// Entries of an explain log at most; a run that needs more has said enough.
const EXPLAINED_MAX: usize = 200;

/// Where a run stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It wants votes.
    Open,
    /// The votes decided; this attempt's worker was asked for the blobs, at `since`.
    Collecting {
        /// Whose.
        attempt: u32,
        /// When.
        since: Time,
    },
    /// Its final write is on its way; nothing can change it any more (I7, I8).
    Finishing,
}

/// A vote that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cast {
    /// By which attempt.
    pub attempt: u32,
    /// By whom.
    pub worker: WorkerId,
    /// For what.
    pub result: Digest,
    /// What the guest did.
    pub outcome: Outcome,
    /// Whether all blobs came with it.
    pub complete: bool,
    /// It was asked for its blobs and did not deliver.
    pub failed: bool,
}

/// Faults so far, each kind against its own budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// Runners killed.
    pub crashes: u32,
    /// Timeouts.
    pub timeouts: u32,
    /// Workers lost, or results not delivered.
    pub losses: u32,
    /// Refusals.
    pub refusals: u32,
}

/// A run that is not final.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its owner's term.
    pub epoch: Epoch,
    /// Whose turn it takes.
    pub workspace: WorkspaceId,
    /// What it executes.
    pub module: Digest,
    /// Memory leased per attempt.
    pub memory_bytes: u64,
    /// What was asked.
    pub policy: Policy,
    /// Base of its deadline.
    pub submitted_at: Time,
    /// Where it stands.
    pub phase: Phase,
    /// Bound by the first attempt.
    pub class: Option<Class>,
    /// Every attempt, by number.
    pub attempts: Vec<AttemptRecord>,
    /// Attempts that a worker brought back from before a restart, under the term of then.
    pub adopted: BTreeMap<u32, Epoch>,
    /// Votes that count, in the order in which they came.
    pub votes: Vec<Cast>,
    /// Faults so far.
    pub spent: Spent,
    /// Since when a rerun waits for a worker that held none of its attempts.
    pub waits_since: Option<Time>,
    /// That wait is over: any worker that has not voted will do.
    pub takes_any: bool,
    /// Since when no worker could cast a vote that it needs.
    pub voteless_since: Option<Time>,
    /// Where it stands in the queue, if it does.
    pub queued: Option<Constraint>,
    /// Its age among all runs.
    pub sequence: u64,
    /// The reasons for everything.
    pub explain: Vec<Explained>,
}

impl Run {
    /// A run as it is submitted or recovered.
    pub fn new(submission: Submission, sequence: u64) -> Run {
        let mut spent = Spent::default();
        for record in &submission.history {
            if let AttemptState::Faulted { fault } = &record.state {
                spent.count(fault, record.begun_at.is_some());
            }
        }
        Run {
            id: submission.run,
            epoch: submission.epoch,
            workspace: submission.workspace,
            module: submission.module,
            memory_bytes: submission.memory_bytes,
            policy: submission.policy,
            submitted_at: submission.submitted_at,
            phase: Phase::Open,
            class: None,
            attempts: submission.history,
            adopted: BTreeMap::new(),
            votes: Vec::new(),
            spent,
            waits_since: None,
            takes_any: false,
            voteless_since: None,
            queued: None,
            sequence,
            explain: submission.explained,
        }
    }

    /// The id of one of its attempts.
    pub fn attempt_id(&self, number: u32) -> AttemptId {
        AttemptId { run: self.id, number }
    }

    /// The term under which one of its attempts was assigned.
    pub fn epoch_of(&self, number: u32) -> Epoch {
        self.adopted.get(&number).copied().unwrap_or(self.epoch)
    }

    /// One of its attempts.
    pub fn attempt_mut(&mut self, number: u32) -> Option<&mut AttemptRecord> {
        self.attempts.iter_mut().find(|record| record.number == number)
    }

    /// Attempts that a worker may still be executing.
    pub fn live(&self) -> impl Iterator<Item = &AttemptRecord> {
        self.attempts.iter().filter(|record| record.state.is_live())
    }

    /// The next attempt's number.
    pub fn next_number(&self) -> u32 {
        self.attempts.iter().map(|record| record.number).max().unwrap_or(0) + 1
    }

    /// What its votes say.
    pub fn tally(&self) -> Tally {
        let votes: Vec<(WorkerId, Digest)> =
            self.votes.iter().map(|cast| (cast.worker, cast.result)).collect();
        tally(self.policy.verify, &votes)
    }

    /// Attempts that it would take now, given that all live ones vote.
    pub fn wants(&self) -> u8 {
        let Tally::Wanting(voters) = self.tally() else { return 0 };
        if self.phase != Phase::Open {
            return 0;
        }
        let live = u8::try_from(self.live().count()).unwrap_or(u8::MAX);
        let cast = u8::try_from(self.votes.len()).unwrap_or(u8::MAX);
        let missing = voters.saturating_sub(cast).saturating_sub(live);
        // after a crash one at a time: a poisonous module must not take several runners down at once (I10)
        if self.spent.crashes > 0 { missing.min(1_u8.saturating_sub(live)) } else { missing }
    }

    /// Whether `worker` may not have it: it votes or voted (I4, I5), or held an attempt while others could be asked.
    pub fn excludes(&self, worker: WorkerId) -> bool {
        self.attempts.iter().filter(|record| record.worker == worker).any(|record| match record.state {
            AttemptState::Assigned | AttemptState::Begun | AttemptState::Voted { .. } => true,
            // what never began says nothing about the worker
            AttemptState::Faulted { .. } => !self.takes_any && record.begun_at.is_some(),
            AttemptState::Canceled => false,
        })
    }

    /// The workers that it excludes, sorted.
    pub fn excluded(&self) -> Vec<WorkerId> {
        let mut workers: Vec<WorkerId> = self
            .attempts
            .iter()
            .map(|record| record.worker)
            .filter(|worker| self.excludes(*worker))
            .collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }

    /// Whether a worker of this class and with these labels could ever execute it.
    pub fn suits(&self, worker: &WorkerView) -> bool {
        let class_fits = self.class.is_none_or(|class| class == worker.class);
        let labels_fit = match &self.policy.placement {
            Placement::Any => true,
            Placement::Labels { labels } => {
                labels.iter().all(|(name, value)| worker.labels.get(name) == Some(value))
            }
        };
        class_fits && labels_fit && self.memory_bytes <= worker.memory_bytes
    }

    /// Its place in its lane.
    pub fn place(&self) -> Place {
        (Reverse(self.policy.priority), self.sequence)
    }

    /// Writes down why.
    pub fn explain(&mut self, at: Time, text: impl Into<String>) {
        match self.explain.len() {
            0..EXPLAINED_MAX => self.explain.push(Explained { at, text: text.into() }),
            EXPLAINED_MAX => {
                self.explain.push(Explained { at, text: "more was decided than is kept here".to_owned() })
            }
            _ => {}
        }
    }

    /// `Queued` until its first attempt.
    pub fn state(&self) -> RunState {
        if self.attempts.is_empty() { RunState::Queued } else { RunState::Running }
    }

    /// As others may see it.
    pub fn view(&self) -> RunView {
        RunView {
            state: self.state(),
            verdict: self.verdict(None, false),
            attempts: self.attempts.clone(),
            explain: self.explain.clone(),
        }
    }

    /// The verdict, with the digest that won if one did.
    pub fn verdict(&self, winner: Option<Digest>, hopeless: bool) -> Verdict {
        let Some(winner) = winner else {
            let kind = if hopeless { VerdictKind::Disputed } else { VerdictKind::Pending };
            let votes = u32::try_from(self.votes.len()).unwrap_or(u32::MAX);
            return Verdict { kind, votes, dissenters: Vec::new() };
        };
        let kind = match self.policy.verify {
            crate::spec::Verify::Once => VerdictKind::Unchecked,
            crate::spec::Verify::Quorum { .. } => VerdictKind::Agreed,
        };
        let (for_it, against): (Vec<_>, Vec<_>) = self.votes.iter().partition(|cast| cast.result == winner);
        Verdict {
            kind,
            votes: u32::try_from(for_it.len()).unwrap_or(u32::MAX),
            dissenters: against.into_iter().map(|cast| cast.worker).collect(),
        }
    }

    /// The final record of a run that ends now.
    pub fn finish(&mut self, now: Time, ending: Ending) -> Final {
        let winner = ending.result;
        let verdict = self.verdict(winner, ending.hopeless);
        for record in &mut self.attempts {
            if let AttemptState::Voted { result, won } = &mut record.state {
                *won = winner.map(|winner| winner == *result);
            }
        }
        Final {
            run: self.id,
            epoch: self.epoch,
            revision: 1,
            state: ending.state,
            reason: ending.reason,
            outcome: ending.outcome,
            verdict,
            result: winner,
            attempts: self.attempts.clone(),
            explain: self.explain.clone(),
            finished_at: now,
        }
    }
}

/// How a run ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ending {
    /// Its final state.
    pub state: RunState,
    /// With `Failed`.
    pub reason: Option<crate::result::FailReason>,
    /// The outcome that won.
    pub outcome: Option<Outcome>,
    /// The digest that won.
    pub result: Option<Digest>,
    /// The votes were exhausted.
    pub hopeless: bool,
}

impl Spent {
    /// Counts a fault against its budget. What never began costs nothing but a refusal's budget.
    pub fn count(&mut self, fault: &Fault, begun: bool) {
        match fault {
            Fault::Crashed { .. } if begun => self.crashes += 1,
            Fault::TimedOut => self.timeouts += 1,
            Fault::Lost if begun => self.losses += 1,
            Fault::Corrupt { .. } => self.losses += 1,
            Fault::Refused { .. } => self.refusals += 1,
            Fault::Crashed { .. } | Fault::Lost | Fault::Drained => {}
        }
    }
}
