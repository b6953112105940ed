//! The pool at a glance, as a caller reads it: figures of this moment, and figures of each minute.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// The pool at a glance. What is about runs counts the caller's workspace only; workers, slots and storage are shared by all.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolStats {
    /// When these figures were taken.
    pub at: Timestamp,
    /// Every worker that is enrolled, by standing.
    pub workers: WorkerCounts,
    /// Slots of the workers that get work.
    pub slots: SlotCounts,
    /// Runs that have not ended.
    pub queue: QueueCounts,
    /// Runs that ended each second, over the last ten seconds.
    pub runs_per_second: f64,
    /// What happened in the last hour.
    pub last_hour: HourCounts,
    /// What is stored, and what retention will free.
    pub storage: StorageStats,
}

/// Workers by standing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct WorkerCounts {
    /// They get work.
    pub active: u64,
    /// They missed two heartbeats and get no new work.
    pub suspect: u64,
    /// They finish what they hold.
    pub draining: u64,
    /// They missed their heartbeats.
    pub lost: u64,
    /// They get nothing and count for nothing.
    pub quarantined: u64,
    /// They are enrolled and not connected.
    pub gone: u64,
}

/// Slots and how many are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SlotCounts {
    /// Slots of the active workers.
    pub total: u64,
    /// Those that have an attempt.
    pub busy: u64,
}

/// Runs that have not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct QueueCounts {
    /// Without an attempt.
    pub queued: u64,
    /// With one.
    pub running: u64,
}

/// What happened to the runs of a workspace in some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Tally {
    /// Runs that were accepted.
    pub submitted: u64,
    /// Runs that ended, however: the sum of the next three.
    pub finished: u64,
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Runs that were canceled.
    pub canceled: u64,
    /// Attempts that met a fault (a drained worker's are none).
    pub faults: u64,
    /// Attempts that were handed out because an earlier one had met a fault.
    pub reruns: u64,
    /// Votes that lost against an agreed result.
    pub dissents: u64,
    /// The verdicts of the runs that ended.
    pub verdicts: VerdictCounts,
}

/// Runs that ended, by verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct VerdictCounts {
    /// Ended before the votes decided: canceled, expired, or out of attempts.
    pub pending: u64,
    /// Compared, and enough votes were equal.
    pub agreed: u64,
    /// One trusted vote stood alone.
    pub vouched: u64,
    /// Policy `once`: nothing was compared.
    pub unchecked: u64,
    /// The votes differ and none won.
    pub disputed: u64,
    /// Trusted re-executions differ.
    pub nondeterministic: u64,
}

/// The last hour, as far as it was counted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HourCounts {
    /// Since when it is counted: an hour ago, or later if the coordinator has not known for so long.
    pub since: Timestamp,
    /// The figures.
    #[serde(flatten)]
    pub tally: Tally,
}

/// What is stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StorageStats {
    /// Runs, of every workspace.
    pub runs: u64,
    /// Runs that are not final.
    pub runs_open: u64,
    /// Modules.
    pub modules: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is kept and what will go.
    pub retention: RetentionStats,
}

/// What retention keeps, and what it will free.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RetentionStats {
    /// The settings.
    #[serde(flatten)]
    pub keeps: RetentionView,
    /// When the oldest final run ended.
    #[schema(required)]
    pub oldest_finished_at: Option<Timestamp>,
    /// Final runs that the next round (twice a minute) deletes at most: older than the age, or beyond the number. Of them stay
    /// those whose result others have, as long as these.
    pub would_free_runs: u64,
    /// The same within the next day, at most, if nothing new ends.
    pub would_free_runs_in_a_day: u64,
    /// Bytes of blobs that nothing refers to: they go when their pins end. What the runs above still hold comes on top,
    /// and is known only once they are gone.
    pub would_free_bytes: u64,
}

/// What an operator has set about keeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RetentionView {
    /// Final runs older than this go, in milliseconds.
    pub age_ms: u64,
    /// Of the final runs the newest so many stay.
    pub runs_max: u64,
    /// How long an upload stays that no run refers to, in milliseconds.
    pub upload_keep_ms: u64,
    /// Of the evidence about each worker the newest so many observations stay, however old.
    pub evidence_max: u64,
    /// Evidence younger than this stays too, up to ten times `evidence_max`, in milliseconds.
    pub evidence_age_ms: u64,
}

/// Figures of each minute.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Series {
    /// Since when they are complete: earlier minutes show zeros because nobody counted.
    pub since: Timestamp,
    /// How long a bucket is, in milliseconds.
    pub bucket_ms: u64,
    /// One a minute, the oldest first; the last one is still being counted.
    pub buckets: Vec<Bucket>,
}

/// One minute.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Bucket {
    /// When it begins.
    pub at: Timestamp,
    /// Its figures.
    #[serde(flatten)]
    pub tally: Tally,
}
