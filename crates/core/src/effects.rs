//! What the shell owes for a step: effects, the writes among them, and the records that they carry.

use std::sync::Arc;

use super::Explained;
use super::credibility::Weight;
use super::evidence::Evidence;
use super::types::{AttemptRecord, Time};
use vocabulary::class::Portable;
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Class, Epoch, RunId, WorkerId};
use vocabulary::result::{FailReason, Fault, Outcome, RunState, Verdict};

/// What the shell owes. Writes of one step are one batch; everything after them in that step that tells somebody
/// something durable ([`Effect::Changed`], [`Effect::Release`]) waits for their commit.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// A conditional write; the store answers with `Committed` or `Refused`. Not for `durable: false` runs.
    Write(Write),
    /// A `durable: false` run is final: there is no write, and the pool has forgotten it.
    Finished(Box<Final>),
    /// Hand the attempt to the worker.
    Assign {
        /// Which.
        attempt: AttemptId,
        /// The term that the worker must name in its answers.
        epoch: Epoch,
        /// To whom.
        worker: WorkerId,
    },
    /// Kill the attempt: nobody needs it.
    Abort {
        /// Which.
        attempt: AttemptId,
        /// Where.
        worker: WorkerId,
    },
    /// Fetch the blobs of this vote's result and store them; answer with `Collected` or `CollectFailed`.
    Collect {
        /// From which attempt.
        attempt: AttemptId,
        /// Whose.
        worker: WorkerId,
        /// Of which result.
        result: Digest,
    },
    /// Fetch and keep one output of a dissenting digest, for comparison; best effort, no answer.
    KeepDissent {
        /// From which attempt.
        attempt: AttemptId,
        /// Whose.
        worker: WorkerId,
        /// Of which result.
        result: Digest,
    },
    /// The worker may forget the outputs of this attempt.
    Release {
        /// Which.
        attempt: AttemptId,
        /// Where.
        worker: WorkerId,
    },
    /// The run's view changed: tell waiters and event streams. A final is told when its write commits.
    Changed {
        /// Which.
        run: RunId,
    },
    /// The worker's view changed.
    WorkerChanged {
        /// Which.
        worker: WorkerId,
    },
    /// The poison rule quarantined a module: write it and say so.
    QuarantineModule {
        /// Which.
        module: Digest,
        /// What it did.
        why: String,
    },
    /// An attempt met a fault that is not free: evidence about its worker, appended to its log.
    Faulted {
        /// Who.
        worker: WorkerId,
        /// On which attempt.
        attempt: AttemptId,
        /// What happened.
        fault: Fault,
    },
    /// What a comparison says about a worker, to be appended to its log of evidence: a worker's standing is the fold of
    /// exactly these. Confirmations come in bundles, each counted from when it is told.
    Evidence {
        /// Who.
        worker: WorkerId,
        /// In which class.
        class: Class,
        /// With which classes for portable results, if it has joined: confirmations do not carry over to others.
        portable: Option<Portable>,
        /// On which attempt; none for an operator's word.
        attempt: Option<AttemptId>,
        /// When: what the fold takes for the day.
        at: Time,
        /// What.
        evidence: Evidence,
    },
    /// A worker was quarantined for what it voted: write it and say so. The pool has done its part.
    QuarantineWorker {
        /// Which.
        worker: WorkerId,
        /// What it did.
        why: String,
    },
    /// A worker that was quarantined for its votes had been right: its quarantine ends, and its standing is what it was.
    /// Write it and say so; nothing that rests on it need be verified anew.
    Rehabilitated {
        /// Which.
        worker: WorkerId,
        /// Why.
        why: String,
    },
    /// Look for finals that rest on this worker (see [`super::is_decisive`]), and submit them to be verified anew.
    Repair {
        /// Whose votes count no more.
        worker: WorkerId,
    },
    /// A final was verified anew and stays as it is, or nothing came of it: there is no write, and the pool has forgotten
    /// the run. One that turned out wrong comes as [`Write::Correct`].
    Reverified(Box<Reverified>),
    /// Trusted executions of a module differed: write it and say so.
    NondeterministicModule {
        /// Which.
        module: Digest,
        /// The run that showed it.
        run: RunId,
    },
    /// A worker's vote lost against an agreed result: evidence, appended to its log.
    Dissented {
        /// Who.
        worker: WorkerId,
        /// On which attempt.
        attempt: AttemptId,
        /// What it voted for.
        result: Digest,
    },
}

/// A conditional write of one run's row: commits only if `epoch` still owns it and it is not final (I6, I7).
#[derive(Clone, PartialEq, Debug)]
pub enum Write {
    /// Insert the run (queued); the shell adds its spec.
    Insert {
        /// Which.
        run: RunId,
        /// Its first term.
        epoch: Epoch,
    },
    /// Record an attempt: a faulted one, or under `retry: never` one about to be dispatched.
    Attempt {
        /// Whose.
        run: RunId,
        /// The writer's term.
        epoch: Epoch,
        /// The row.
        record: AttemptRecord,
    },
    /// Finish the run; the shell adds manifest, outputs and references.
    Finish(Box<Final>),
    /// Replace the final of a run by its next revision: commits only if the final is of the revision before. Answered as
    /// a `Finish` is.
    Correct(Box<Final>),
}

/// What became of a final that was verified anew and is not replaced.
#[derive(Clone, PartialEq, Debug)]
pub struct Reverified {
    /// What was found; its revision is the one that stays. Its result is there only if it was confirmed.
    pub last: Final,
    /// What it means.
    pub conclusion: Conclusion,
}

/// How verifying anew ended without a correction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conclusion {
    /// The same result again, by voters that are trusted.
    Confirmed,
    /// No verdict: too few workers, a dispute, or a budget was used up. It may be tried again.
    Undecided,
    /// Trusted executions differ.
    Nondeterministic,
}

/// A vote as it counted when its run was decided by credibility.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CountedVote {
    /// On which attempt.
    pub number: u32,
    /// Whose.
    pub worker: WorkerId,
    /// For what.
    pub result: Digest,
    /// How much it weighed.
    pub weight: Weight,
}

/// A final record.
#[derive(Clone, PartialEq, Debug)]
pub struct Final {
    /// Which run.
    pub run: RunId,
    /// The writer's term.
    pub epoch: Epoch,
    /// 1, and one more for each correction.
    pub revision: u32,
    /// `Succeeded`, `Failed` or `Canceled`.
    pub state: RunState,
    /// With `Failed`.
    pub reason: Option<FailReason>,
    /// The agreed (or unchecked) outcome, if there is one.
    pub outcome: Option<Outcome>,
    /// What the votes say.
    pub verdict: Verdict,
    /// The result digest, if there is one.
    pub result: Option<Digest>,
    /// The votes with their weights, in the order in which they came, under a policy that weighs them (`standard`, `high`);
    /// empty under the others.
    pub votes: Vec<CountedVote>,
    /// The probability that the result is wrong, in parts per billion, under such a policy.
    pub error_ppb: Option<u64>,
    /// Every attempt.
    pub attempts: Vec<AttemptRecord>,
    /// Every decision.
    pub explain: Arc<Vec<Explained>>,
    /// When it ended.
    pub finished_at: Time,
    /// The run whose attempts gave the result, if it shared those of another: then it has none of its own, and no votes.
    pub shared_with: Option<RunId>,
}
