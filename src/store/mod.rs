//! What is kept: runs, modules, blobs' rows, tokens, workers and their evidence.
//!
//! The trait [`Store`] has one method per use case. A backend promises: a write that was answered is durable; a batch
//! is one transaction in which each write stands for itself (a refused one never aborts the others); a run's row
//! changes only for the owner's epoch and never after its final (I6, I7), but that a correction puts the next revision in its
//! place and keeps the one before, outputs and votes included (I2, I12); references of blobs are counted in the
//! transaction of the row that refers. The conformance suite holds every backend to it.
//!
//! It knows no HTTP, no scheduling rule and no file: large blobs live behind [`crate::blobs`], here are their rows.

mod callbacks;
mod dependents;
mod failure;
mod records;
mod repairs;
mod rows;
pub mod sqlite;
mod votes;
mod withdrawal;
mod workers;

#[cfg(test)]
mod conformance;

use std::sync::Arc;

use crate::core::Time;
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkerId, WorkspaceId};
use crate::spec::Verify;

pub use callbacks::*;
pub use dependents::Followed;
pub use failure::Failure;
pub use repairs::*;
pub use rows::*;
pub use withdrawal::{Withdrawable, Withdrawal};
pub use workers::*;

/// Blobs up to this size live in their row; larger ones in the blob store, with their row here.
pub const INLINE_BLOB_BYTES_MAX: usize = 16 * 1024;

/// Why a store call failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full: nothing of the batch was written; submissions answer 507.
    #[error("the disk is full")]
    Full,
    /// What is stored cannot be trusted any more (failed fsync, I/O error, corruption): the process must end and
    /// recover by starting again. Never retried.
    #[error("the store failed: {0}")]
    Fatal(String),
    /// The writer has been shut down.
    #[error("the store is closed")]
    Closed,
    /// A row does not decode: written by a newer build, or damaged.
    #[error("a stored {what} does not decode: {why}")]
    Decode {
        /// Kind of row.
        what: &'static str,
        /// The decoder's words.
        why: String,
    },
    /// A module's blob has no row: nothing was changed.
    #[error("the blob {0} is not stored")]
    MissingBlob(Digest),
}

/// A durable store. All methods may be called from any task at any time.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies a batch in one transaction (usually shared with others: group commit) and answers, in order, how each
    /// write ended, once all of it is durable. Of a run that the cache answered ([`Source::Cached`]) a final for which a blob
    /// is missing, or the run that computed it, takes the insertion back: there is no such run then.
    async fn write_runs(&self, writes: Arc<Vec<RunWrite>>) -> Result<Vec<WriteAnswer>, StoreError>;

    /// A run.
    async fn run(&self, id: RunId) -> Result<Option<StoredRun>, StoreError>;
    /// The votes of a revision of a final ([`FinalRun::votes`]), by attempt as they were written. `None`: the run is not there,
    /// has no such revision, or became final under a build that kept none.
    async fn votes(&self, id: RunId, revision: u32) -> Result<Option<Vec<CastVote>>, StoreError>;
    /// The votes that confirmed the present revision of a final when it was verified anew; empty if none did.
    async fn confirmations(&self, id: RunId) -> Result<Vec<CastVote>, StoreError>;
    /// A final as it was (or is) in one revision.
    async fn revision(&self, id: RunId, revision: u32) -> Result<Option<StoredRun>, StoreError>;
    /// All revisions of a final, the first one first, a bounded number; none of a run that is not there or not final.
    async fn revisions(&self, id: RunId) -> Result<Vec<StoredRun>, StoreError>;
    /// Runs, newest first (by id), before `cursor`, at most `limit`. Looks at a bounded number of rows, see
    /// [`FoundRuns`]. Ids are expected to be UUIDv7 whose time is within an hour of their `created_at`.
    async fn runs(
        &self,
        filter: RunFilter,
        cursor: Option<RunId>,
        limit: u32,
    ) -> Result<FoundRuns, StoreError>;
    /// Runs that ended at or after `since`, the newest ends first, at most `limit`: for the figures after a start.
    async fn recent_finals(&self, since: Time, limit: u32) -> Result<Vec<RecentFinal>, StoreError>;
    /// What [`Store::retain`] with this retention would delete now and within the next day, at most: what others have the result
    /// of stays.
    async fn outlook(&self, retention: Retention) -> Result<Outlook, StoreError>;
    /// The latest instant at which a run was submitted or ended: no clock may start before it.
    async fn newest_instant(&self) -> Result<Time, StoreError>;
    /// Runs that are not final, oldest first, after `cursor`, for the restart.
    async fn open_runs(&self, cursor: Option<RunId>, limit: u32) -> Result<Vec<StoredRun>, StoreError>;
    /// Takes over every open run: raises all their epochs in one write and returns the new one. At start, embedded mode.
    async fn adopt_open_runs(&self) -> Result<Epoch, StoreError>;
    /// The run that an idempotency key belongs to, with the digest of its payload.
    async fn idempotency(
        &self,
        workspace: WorkspaceId,
        key: &str,
    ) -> Result<Option<(RunId, Digest)>, StoreError>;

    /// Inserts a module, unless it is there: then nothing changes, and the answer is false. Takes a reference to its blob.
    async fn put_module(&self, module: StoredModule) -> Result<bool, StoreError>;
    /// Says how a module's admission ended, `Ready` or `Refused` (with the reason). False, and nothing changes, if there is no
    /// such module (any more) or that was said before.
    async fn decide_module(
        &self,
        digest: Digest,
        state: ModuleState,
        refusal: Option<(String, String)>,
    ) -> Result<bool, StoreError>;
    /// Takes a module out of service; false if there is no such module.
    async fn quarantine_module(&self, digest: Digest, why: String) -> Result<bool, StoreError>;
    /// Says what showed a module to be nondeterministic; false if there is no such module, or that was said before.
    async fn blame_module(&self, digest: Digest, found: Nondeterminism) -> Result<bool, StoreError>;
    /// Clears a module's quarantine, and whatever it was found out to be; false if there is no such module.
    async fn readmit_module(&self, digest: Digest) -> Result<bool, StoreError>;
    /// Modules that are nondeterministic, for the restart.
    async fn nondeterministic_modules(&self) -> Result<Vec<Digest>, StoreError>;
    /// Says how a module's runs are verified that ask for nothing else (`None`: as the pool does); false if there is no such
    /// module.
    async fn set_module_verify(&self, digest: Digest, verify: Option<Verify>) -> Result<bool, StoreError>;
    /// A module.
    async fn module(&self, digest: Digest) -> Result<Option<StoredModule>, StoreError>;
    /// Modules, newest first, before `cursor`. Analyses longer than 64 KiB come without their imports and exports (empty
    /// lists): a page of them could be very long.
    async fn modules(&self, cursor: Option<Digest>, limit: u32) -> Result<Vec<StoredModule>, StoreError>;
    /// Deletes a module that no open run uses: `Refused` if one does, `Committed` if it is gone (or never was).
    async fn delete_module(&self, digest: Digest) -> Result<WriteAnswer, StoreError>;

    /// What a workspace has settled.
    async fn workspace(&self, id: WorkspaceId) -> Result<WorkspaceSettings, StoreError>;
    /// Settles something else, in place of what it had settled.
    async fn put_workspace(&self, id: WorkspaceId, settings: WorkspaceSettings) -> Result<(), StoreError>;

    /// Deliveries that are due at `now`, none of `skip`. Receivers take turns: first comes the one of which nothing was tried
    /// for the longest, and of each what has waited longest. However much waits, a look reads a number of rows that
    /// `limits` and `skip` bound: a receiver that is down costs the others nothing.
    async fn due_callbacks(
        &self,
        now: Time,
        skip: SkippedCallbacks,
        limits: OutboxLimits,
    ) -> Result<DueCallbacks, StoreError>;
    /// Takes a note of how a try of a delivery ended. False, and nothing changes, if it is not pending any more or somebody
    /// asked for it again since `tries` tries had been made.
    async fn callback_tried(&self, id: CallbackId, tries: u32, tried: Tried) -> Result<bool, StoreError>;
    /// Receivers that were tried, those tried latest first, and whether the last try of each was delivered: at most `limit`, of
    /// the `deliveries` that were made last. A walk over these, for the start.
    async fn tried_receivers(&self, limit: u32, deliveries: u32) -> Result<Vec<(String, bool)>, StoreError>;
    /// The deliveries of a run, by revision.
    async fn callbacks(&self, run: RunId) -> Result<Vec<Delivery>, StoreError>;
    /// Makes a run's delivery due at `at`, however it ended, with all of its tries before it; the newest revision's if none is
    /// named. False if there is none.
    async fn redeliver_callback(
        &self,
        run: RunId,
        revision: Option<u32>,
        at: Time,
    ) -> Result<bool, StoreError>;

    /// Makes a blob's row, or finds it there, and pins it against collection until `pin_until`. True if it was there.
    async fn put_blob(&self, digest: Digest, row: BlobRow, pin_until: Time) -> Result<bool, StoreError>;
    /// Pins a blob until `until` (never shortens) if it has a row; answers the row. How an upload that finds its
    /// digest stored keeps it.
    async fn pin_blob(&self, digest: Digest, until: Time) -> Result<Option<BlobRow>, StoreError>;
    /// Pins all of these until `until`, as [`Store::pin_blob`] does, or answers one that has no row; the others may be
    /// pinned then.
    async fn pin_blobs(&self, digests: Vec<Digest>, until: Time) -> Result<Option<Digest>, StoreError>;
    /// The first of these that has no row.
    async fn missing_blob(&self, digests: Vec<Digest>) -> Result<Option<Digest>, StoreError>;
    /// A blob's row.
    async fn blob(&self, digest: Digest) -> Result<Option<BlobRow>, StoreError>;
    /// Takes the rows of up to `limit` blobs that nothing refers to and whose pins have ended, and says which of them
    /// had their bytes in the blob store.
    async fn take_garbage(&self, now: Time, limit: u32) -> Result<Garbage, StoreError>;
    /// Deletes final runs beyond the retention and drops their references. One whose result others have is only marked: it
    /// is in nobody's way from then on, and goes with the last of them. So nothing may go although more is beyond the
    /// retention: that is over when nothing was looked at.
    async fn retain(&self, retention: Retention) -> Result<Retained, StoreError>;
    /// Recounts every reference from the rows that refer, sets right and answers the blobs whose count differed (a
    /// self-check: there are none unless something is broken).
    async fn recount_references(&self) -> Result<Vec<Digest>, StoreError>;

    /// Makes a token's row; the id is given by the store.
    async fn put_token(&self, token: TokenRow) -> Result<TokenRow, StoreError>;
    /// The token with this hash.
    async fn token(&self, hash: Digest) -> Result<Option<TokenRow>, StoreError>;
    /// All tokens.
    async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError>;
    /// Revokes one; false if there is none.
    async fn delete_token(&self, id: u32) -> Result<bool, StoreError>;
    /// Notes when tokens were last used; never backwards, and nothing of tokens that are gone.
    async fn note_tokens_used(&self, used: Vec<(u32, Time)>) -> Result<(), StoreError>;

    /// The worker with this key; enrolled now if it is new. One that is known stays what it was, its domain included.
    async fn enrol_worker(&self, enrolment: Enrolment) -> Result<WorkerRow, StoreError>;
    /// Records that a session of a worker began; false if there is no such worker.
    async fn begin_session(&self, id: WorkerId, facts: WorkerFacts, at: Time) -> Result<bool, StoreError>;
    /// Records that the session that began at `connected_at` ended; nothing if a later one has begun.
    async fn end_session(&self, id: WorkerId, connected_at: Time, at: Time) -> Result<(), StoreError>;
    /// Notes when workers were last heard of; never backwards, and nothing of those that had no session.
    async fn note_workers_seen(&self, seen: Vec<(WorkerId, Time)>) -> Result<(), StoreError>;
    /// Forgets a worker: its number is never given again, its evidence stays. False if there is none. A caller that
    /// knows of a session must not ask.
    async fn forget_worker(&self, id: WorkerId) -> Result<bool, StoreError>;
    /// All workers, also those that are not connected, by number.
    async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError>;
    /// Sets or clears a worker's quarantine; false if there is no such worker. In the same write as a quarantine its finals are
    /// put down to be looked at, see [`Store::repairs`]; those of one that is out already are looked at as before. What the
    /// pool says of a worker changes nothing where an operator's word stands. One that is cleared (at `at`) makes a newcomer:
    /// nothing is left of its standing, and its log says so.
    async fn quarantine_worker(
        &self,
        id: WorkerId,
        quarantine: Option<Quarantine>,
        at: Time,
    ) -> Result<bool, StoreError>;
    /// Ends a quarantine that the pool made for a worker's votes, because they had been right: its standing stays, and its
    /// finals are not looked at any more. False, and nothing changes, if there is no such quarantine.
    async fn lift_quarantine(&self, id: WorkerId, at: Time) -> Result<bool, StoreError>;
    /// The workers whose finals are or were looked at, those that were taken out last first: one row for each, of its latest
    /// quarantine.
    async fn repairs(&self) -> Result<Vec<Repair>, StoreError>;
    /// Finals in which this worker voted for what won (or confirmed it), in the order in which what they rest on last
    /// changed, after `after`. Those that do not decode are stepped over, and their votes taken as none.
    async fn supported_finals(
        &self,
        worker: WorkerId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SupportedFinal>, StoreError>;
    /// Records that finals of this worker were looked at, and which of them are to be verified anew. False, and nothing
    /// changes, if nobody wants to know any more, or if others were looked at since.
    async fn put_suspects(&self, worker: WorkerId, looked: Looked) -> Result<bool, StoreError>;
    /// Of the finals that are to be verified anew those whose turn it is, the weakest first, each once.
    async fn due_suspects(&self, now: Time, limit: u32) -> Result<Vec<DueSuspect>, StoreError>;
    /// Records what came of one; of corrections [`RunWrite::Correct`] does.
    async fn conclude_suspect(&self, run: RunId, concluded: Concluded) -> Result<(), StoreError>;
    /// Corrects runs that have a result which was replaced ([`RunWrite::Correct`]) in the run that computed it: each becomes a
    /// revision more, as [`crate::store::dependents::follow`] says, with the delivery of its callback. Looks at `limit` of
    /// them at most, from where the call before ended on, and at none behind the one with which it has made `deliveries_max`
    /// deliveries. That they are to be looked at is written with the correction, and with the final of one that comes later;
    /// so none is missed, whatever lies between, and none is corrected twice.
    async fn follow_corrections(
        &self,
        at: Time,
        limit: u32,
        deliveries_max: u32,
    ) -> Result<Followed, StoreError>;
    /// Appends evidence, in this order, and folds it into the standings of its workers.
    async fn append_evidence(&self, evidence: Vec<Evidence>) -> Result<(), StoreError>;
    /// Evidence of a worker with its position in the log, newest first, before position `before`, at most `limit`.
    async fn evidence(
        &self,
        worker: WorkerId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Evidence)>, StoreError>;
    /// How much evidence is kept of a worker, by kind.
    async fn evidence_counts(&self, worker: WorkerId) -> Result<Vec<(String, u64)>, StoreError>;
    /// Deletes evidence beyond the retention, of every worker, the oldest first; returns how much went.
    async fn trim_evidence(&self, retention: EvidenceRetention) -> Result<u32, StoreError>;

    /// Finals that may answer equal runs ([`FinalRun::reusable`]) with their votes, newest first (by id), before `before`.
    async fn reusable(
        &self,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<(StoredRun, Vec<CastVote>)>, StoreError>;
    /// Keeps a withdrawal. One of everything takes the place of those that it contains.
    async fn put_withdrawal(&self, withdrawal: Withdrawal) -> Result<(), StoreError>;
    /// All withdrawals, as they were made.
    async fn withdrawals(&self) -> Result<Vec<Withdrawal>, StoreError>;

    /// A small value by name (secrets of this pool, schema facts).
    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Sets one, unless it is there; answers what is there now.
    async fn init_meta(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, StoreError>;
    /// Sets one, whatever is there.
    async fn put_meta(&self, name: &str, value: Vec<u8>) -> Result<(), StoreError>;

    /// How much is stored.
    async fn usage(&self) -> Result<Usage, StoreError>;
    /// Flushes what is queued and closes; later calls answer [`StoreError::Closed`].
    async fn close(&self);
}
