//! What is kept of verifying anew: whose finals are looked at, which of them wait, and what became of each.
//!
//! Invariants: a quarantine and the intention to look at what rests on the worker are one write; what was looked at is never
//! looked at twice, over any restart, unless what it rests on has changed; a final that waits is counted in exactly one of
//! the figures when it waits no longer. Plain data, the same for every backend.

use std::sync::Arc;

use super::{CastVote, StoredRun};
use crate::core::{Explained, Time};
use crate::id::{RunId, WorkerId};

/// After so many tries in vain a final counts as undecided; it is tried on, at longer intervals.
pub const UNDECIDED_AFTER: u32 = 5;

/// A worker is taken out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantine {
    /// Why.
    pub why: String,
    /// When.
    pub at: Time,
    /// Whether the pool says so, for its votes, and may take it back; otherwise it is an operator's word.
    pub for_votes: bool,
}

/// How verifying a final anew ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reverdict {
    /// Trusted voters found the same.
    Confirmed,
    /// They found something else: there is a revision more.
    Corrected,
    /// Nobody could tell so far, though it was tried often: it is tried on.
    Undecided,
    /// Trusted executions differ: its module gives no result that could be verified.
    Nondeterministic,
    /// Its module, its inputs or the run itself are not kept any more.
    NotVerifiable,
}

impl Reverdict {
    /// The name that JSON, the store and the metrics use.
    pub fn name(self) -> &'static str {
        match self {
            Reverdict::Confirmed => "confirmed",
            Reverdict::Corrected => "corrected",
            Reverdict::Undecided => "undecided",
            Reverdict::Nondeterministic => "nondeterministic",
            Reverdict::NotVerifiable => "not_verifiable",
        }
    }
}

/// What verifying a final anew said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reverification {
    /// When.
    pub at: Time,
    /// What.
    pub verdict: Reverdict,
    /// The decisions on the way; of a correction they are the revision's own.
    pub explain: Arc<Vec<Explained>>,
}

/// A worker whose finals are looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// Whose votes count no more.
    pub worker: WorkerId,
    /// Since when.
    pub since: Time,
    /// Why.
    pub why: String,
    /// Finals in which it had voted for what won, when it was taken out.
    pub finals: u64,
    /// Of these, looked at so far.
    pub looked_at: u64,
    /// Of these, such as would not have been without its vote: they are verified anew.
    pub decisive: u64,
    /// Of these, those that wait or are being verified, and do not count as undecided.
    pub pending: u64,
    /// Found to be right.
    pub confirmed: u64,
    /// Found to be wrong, and replaced.
    pub corrected: u64,
    /// Such as nobody could tell in [`UNDECIDED_AFTER`] tries; they are tried on.
    pub undecided: u64,
    /// Given up, because what they need is gone, or because trusted executions differ.
    pub not_verifiable: u64,
    /// Runs that had been answered with what was replaced, and were corrected along.
    pub dependents: u64,
    /// Whether that is all of them, as far as is known.
    pub is_followed: bool,
    /// Up to where its finals were looked at.
    pub cursor: u64,
    /// Whether all were that there are.
    pub is_complete: bool,
    /// When it was found to have been right, and nothing was looked at any more.
    pub lifted_at: Option<Time>,
}

/// A final, and the votes that it rests on.
#[derive(Clone, Debug)]
pub struct SupportedFinal {
    /// Its place among those of the worker: the cursor of what follows.
    pub seq: u64,
    /// The run.
    pub run: StoredRun,
    /// The votes that were counted when it was decided. Empty where none were kept; `run.attempts` names the voters then.
    pub votes: Vec<CastVote>,
    /// The votes that confirmed it since.
    pub confirmations: Vec<CastVote>,
}

/// Finals that were looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looked {
    /// Of which repair of the worker, by its [`Repair::since`].
    pub since: Time,
    /// From where on, exclusively: its [`Repair::cursor`] of before.
    pub after: u64,
    /// How many.
    pub count: u64,
    /// Up to where.
    pub cursor: u64,
    /// Whether nothing is behind it now.
    pub is_complete: bool,
    /// Those that are to be verified anew.
    pub suspects: Vec<Suspicion>,
}

/// A final that is to be verified anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspicion {
    /// Which.
    pub run: RunId,
    /// The probability that it is wrong without the votes that count no more, in parts per billion.
    pub error_ppb: u64,
    /// When it ended.
    pub finished_at: Time,
}

/// One whose turn has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DueSuspect {
    /// Which.
    pub run: RunId,
    /// How often it was tried in vain.
    pub tries: u32,
    /// Attempts up to this number have been.
    pub numbers: u32,
}

/// How one try of verifying a final anew ended, if not with a correction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Concluded {
    /// It stays as it is, or nothing more can be done: kept with the run, if it still is of this revision.
    Done {
        /// Of which revision.
        revision: u32,
        /// What is kept with it.
        found: Reverification,
        /// The votes that confirmed it.
        confirmations: Vec<CastVote>,
    },
    /// It cannot be tried yet, and was not: its turn comes again, not before `due_at`.
    Later {
        /// When.
        due_at: Time,
    },
    /// Nobody could tell: it is tried again, not before `due_at`.
    Again {
        /// When.
        due_at: Time,
        /// Attempts up to this number have been.
        numbers: u32,
        /// What is kept with the run meanwhile, if it still is of this revision.
        found: Option<(u32, Reverification)>,
    },
}
