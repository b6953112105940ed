//! What is verified anew: the finals of workers that were taken out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Page, Timestamp};
use crate::id::WorkerId;

/// All repairs, on one page.
pub type RepairPage = Page<Repair>;

/// A worker that was taken out, and what becomes of the finals that rested on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Repair {
    /// Whose votes count no more.
    pub worker: WorkerId,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub why: String,
    /// How far it is.
    pub state: RepairState,
    /// Finals in which it had voted for what won, when it was taken out.
    pub finals: u64,
    /// How many were looked at so far: those, what ended just then, and once more what changed since (a confirmation).
    pub found: u64,
    /// Of these, such as would not have been without its vote: they are verified anew.
    pub decisive: u64,
    /// Of these, those that wait or are being verified.
    pub pending: u64,
    /// Right: trusted voters found the same.
    pub confirmed: u64,
    /// Wrong: there is a revision more.
    pub corrected: u64,
    /// Nobody could tell in five tries. They are tried on once a day.
    pub undecided: u64,
    /// Runs that had been answered with one of these wrong results, from the cache or because they shared attempts, and were
    /// corrected along.
    #[serde(default)]
    #[schema(required)]
    pub dependents: u64,
    /// Given up, because module, input or run are not kept any more, or because trusted executions differ.
    pub not_verifiable: u64,
}

/// How far a repair is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RepairState {
    /// Its finals are being looked at.
    Looking,
    /// Some are verified anew, the weakest first, or runs that were answered with a wrong one are being corrected.
    Verifying,
    /// Nothing is left to do.
    Done,
    /// The worker turned out to have been right, and works again.
    Lifted,
}

impl RepairState {
    /// The name that JSON uses.
    pub fn name(self) -> &'static str {
        match self {
            RepairState::Looking => "looking",
            RepairState::Verifying => "verifying",
            RepairState::Done => "done",
            RepairState::Lifted => "lifted",
        }
    }
}
