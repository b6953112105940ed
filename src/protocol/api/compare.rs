//! Two results side by side, and calls about many runs at once.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Arbitration, Outvoted, Page, Problem, RunSummary};
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};
use crate::result::Outcome;

/// What two attempts gave out, compared byte by byte.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// Of which run.
    pub run: RunId,
    /// What is compared: `stdout`, `stderr` or `file:/out/PATH`.
    pub stream: String,
    /// Whether the bytes of this stream are equal.
    pub equal: bool,
    /// Position of the first byte that differs, or where the shorter one ends; null if they are equal.
    #[schema(required)]
    pub first_difference: Option<u64>,
    /// The one side.
    pub left: Side,
    /// The other.
    pub right: Side,
    /// Everything in which the two results differ: `outcome`, `fuel`, and streams as in `stream`; 100 at most.
    pub differing: Vec<String>,
    /// Whether there are more than are listed.
    pub differing_more: bool,
    /// Which rule decided between the results of the run, as a sentence without its full stop.
    pub rule: String,
    /// What trusted executors of the operator found; null if none executed it.
    #[schema(required)]
    pub arbiter: Option<Arbitration>,
    /// All votes of the run that lost, and whether they were held against their workers; if no result won, all votes.
    pub outvoted: Vec<Outvoted>,
}

/// One side of a comparison.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Side {
    /// Number of the attempt.
    pub attempt: u32,
    /// Who executed it.
    pub worker: WorkerId,
    /// The result that it voted for.
    pub result: Digest,
    /// What the guest did, as this attempt says.
    pub outcome: Outcome,
    /// Digest of the bytes; null if this side has no such file.
    #[schema(required)]
    pub digest: Option<Digest>,
    /// Their number.
    pub size: u64,
    /// The bytes around the first difference; null if the sides are equal or this one has no such file.
    #[schema(required)]
    pub window: Option<Window>,
}

/// A few bytes of a stream: 1024 at most, 256 of them before the first difference.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Window {
    /// Position of the first one.
    pub offset: u64,
    /// The bytes.
    pub base64: String,
}

/// Several runs at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkRequest {
    /// Which, 1 to 500, each once.
    #[schema(min_items = 1, max_items = 500)]
    pub ids: Vec<RunId>,
}

/// How it went with one of them; exactly one of `run` and `problem` is there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkItem {
    /// The run that was named.
    pub id: RunId,
    /// Whether it was done, or is being done.
    pub ok: bool,
    /// Whether it is still being done: a cancel that was taken while the end of its run is not written yet.
    pub pending: bool,
    /// The run as it is now; after a rerun the new one, whose `rerun_of` is `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunSummary>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// One item for each run that was named, in the same order.
pub type BulkPage = Page<BulkItem>;
