//! What is kept: runs, modules, blobs' rows, tokens, workers and their evidence.
//!
//! The trait [`Store`] has one method per use case. A backend promises: a write that was answered is durable; a batch
//! is one transaction in which each write stands for itself (a refused one never aborts the others); a run's row
//! changes only for the owner's epoch and never after its final (I6, I7); references of blobs are counted in the
//! transaction of the row that refers. The conformance suite holds every backend to it.
//!
//! It knows no HTTP, no scheduling rule and no file: large blobs live behind [`crate::blobs`], here are their rows.

mod failure;
mod records;
pub mod sqlite;

#[cfg(test)]
mod conformance;

use std::sync::Arc;

use bytes::Bytes;

use crate::core::{AttemptRecord, Explained, Final, Time};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use crate::result::{FailReason, Outcome, ResultManifest, RunState, Verdict};
use crate::spec::{Policy, RunSpec};

pub use failure::Failure;

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

/// A run as it is inserted.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Whose.
    pub workspace: WorkspaceId,
    /// Its owner's first term.
    pub epoch: Epoch,
    /// What it executes.
    pub spec: Arc<RunSpec>,
    /// Digest of the spec.
    pub run_key: Digest,
    /// The rest of what was asked.
    pub policy: Policy,
    /// When it was submitted.
    pub created_at: Time,
    /// The caller's key and the digest of the payload that came with it (I11).
    pub idempotency: Option<(String, Digest)>,
    /// The run that it repeats, if it is a rerun.
    pub rerun_of: Option<RunId>,
    /// Small inputs that came in the request: their rows are made in the same transaction. The run refers to each.
    pub blobs: Vec<(Digest, Bytes)>,
}

/// A run as it is finished.
#[derive(Clone, Debug)]
pub struct FinalRun {
    /// What the core decided.
    pub record: Final,
    /// The manifest of the result, if there is one.
    pub manifest: Option<ResultManifest>,
    /// Small outputs and the manifest itself; their rows are made in the same transaction. Every other blob of the
    /// manifest must have its row already. The run refers to each, also to one that no manifest names.
    pub blobs: Vec<(Digest, Bytes)>,
    /// Dissenting attempts whose manifest (the digest) was kept for comparison; its row must exist or be in `blobs`.
    pub dissents: Vec<(AttemptId, Digest)>,
}

/// A conditional write.
#[derive(Clone, Debug)]
pub enum RunWrite {
    /// Insert a run. With an `Insert` and a `Finish` of one run in one batch the row is written once.
    Insert(Box<NewRun>),
    /// Record an attempt.
    Attempt {
        /// Whose.
        run: RunId,
        /// The writer's term.
        epoch: Epoch,
        /// The attempt.
        record: AttemptRecord,
        /// The run's explain log so far.
        explain: Vec<Explained>,
    },
    /// Finish a run.
    Finish(Box<FinalRun>),
}

/// How a write ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteAnswer {
    /// It is durable.
    Committed,
    /// Another owner, or final already: nothing was changed.
    Refused,
    /// The idempotency key belongs to another run: nothing was inserted.
    Duplicate {
        /// That run.
        run: RunId,
        /// Whether its payload is the same.
        same_payload: bool,
    },
    /// A blob that the run refers to has no row (any more): nothing was changed.
    MissingBlob(Digest),
}

/// A run as it is read.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// Its id.
    pub id: RunId,
    /// Whose.
    pub workspace: WorkspaceId,
    /// Its owner's term.
    pub epoch: Epoch,
    /// `Queued` until it is final: what happens between is the owner's memory.
    pub state: RunState,
    /// Why it failed.
    pub reason: Option<FailReason>,
    /// What it executes.
    pub spec: Arc<RunSpec>,
    /// Digest of the spec.
    pub run_key: Digest,
    /// The rest of what was asked.
    pub policy: Policy,
    /// 0 until it is final.
    pub revision: u32,
    /// The agreed outcome.
    pub outcome: Option<Outcome>,
    /// What the votes say.
    pub verdict: Verdict,
    /// The result digest.
    pub result: Option<Digest>,
    /// The result's manifest.
    pub manifest: Option<ResultManifest>,
    /// Attempts that were written: all of a final run, the faulted ones of another.
    pub attempts: Vec<AttemptRecord>,
    /// Decisions that were written.
    pub explain: Vec<Explained>,
    /// Dissenting attempts whose manifest was kept.
    pub dissents: Vec<(AttemptId, Digest)>,
    /// The run that it repeats.
    pub rerun_of: Option<RunId>,
    /// When it was submitted.
    pub created_at: Time,
    /// When it ended.
    pub finished_at: Option<Time>,
}

/// Which runs a list shows.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of one workspace; `None` for all.
    pub workspace: Option<WorkspaceId>,
    /// A final state by its name; `Queued` finds every run that is not final.
    pub state: Option<RunState>,
    /// Of one module.
    pub module: Option<Digest>,
    /// Created at or after.
    pub since: Option<Time>,
    /// Created before.
    pub until: Option<Time>,
}

/// Life cycle of a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleState {
    /// Parsed and validated; its artifact is not there yet.
    Analysed,
    /// Being compiled.
    Compiling,
    /// Runs may start.
    Ready,
    /// Decided for good: it will never run here.
    Refused,
}

/// A module's row.
#[derive(Clone, Debug)]
pub struct StoredModule {
    /// Its id.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// A name for people, as uploaded.
    pub name: Option<String>,
    /// Where it stands.
    pub state: ModuleState,
    /// The analysis, JSON text as the sandbox wrote it.
    pub analysis: Option<String>,
    /// Why it was refused: stable code and text.
    pub refusal: Option<(String, String)>,
    /// Why it is quarantined.
    pub quarantined: Option<String>,
    /// When it was first uploaded.
    pub created_at: Time,
}

/// A blob's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Its size in bytes.
    pub size: u64,
    /// The bytes, if they are small.
    pub inline: Option<Bytes>,
}

/// A token's row; the token itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// A number for people and for revoking.
    pub id: u32,
    /// SHA-256 of the token.
    pub hash: Digest,
    /// What people call it.
    pub name: String,
    /// Where it is valid.
    pub workspace: WorkspaceId,
    /// What it allows: `admin`, `submit`, `read`, `worker`.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Time,
    /// When it ends.
    pub expires_at: Option<Time>,
}

/// A worker's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    /// Its number.
    pub id: WorkerId,
    /// Its Ed25519 public key: the identity.
    pub key: [u8; 32],
    /// What people call it.
    pub name: String,
    /// Who answers for it.
    pub domain: String,
    /// Why it is quarantined.
    pub quarantined: Option<String>,
    /// When it enrolled.
    pub created_at: Time,
}

/// Something that was seen of a worker; appended, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Of whom.
    pub worker: WorkerId,
    /// In which class.
    pub class: Digest,
    /// What: `dissented`, `crashed`, `timed_out`, `lost`, `corrupt`, `refused`.
    pub kind: String,
    /// On which attempt.
    pub attempt: AttemptId,
    /// The result digest that it voted for, if it did.
    pub result: Option<Digest>,
    /// When.
    pub at: Time,
}

/// What retention keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Final runs that ended before this go.
    pub finished_before: Time,
    /// Of the rest, the newest so many stay.
    pub runs_max: u64,
    /// At most so many go in one call, so that the writer is not held up.
    pub batch_max: u32,
}

/// What [`Store::take_garbage`] took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Garbage {
    /// Rows that went; fewer than the limit means that no more are left.
    pub taken: u32,
    /// Bytes of their blobs.
    pub bytes: u64,
    /// Those that had their bytes in the blob store: the caller deletes them there.
    pub files: Vec<Digest>,
}

/// How much is stored, for people and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Runs.
    pub runs: u64,
    /// Runs that are not final.
    pub runs_open: u64,
    /// Modules.
    pub modules: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Bytes of blobs that nothing refers to.
    pub garbage_bytes: u64,
}

/// A durable store. All methods may be called from any task at any time.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies a batch in one transaction (usually shared with others: group commit) and answers, in order, how each
    /// write ended, once all of it is durable.
    async fn write_runs(&self, writes: Arc<Vec<RunWrite>>) -> Result<Vec<WriteAnswer>, StoreError>;

    /// A run.
    async fn run(&self, id: RunId) -> Result<Option<StoredRun>, StoreError>;
    /// Runs, newest first, before `cursor`, at most `limit`.
    async fn runs(
        &self,
        filter: RunFilter,
        cursor: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<StoredRun>, StoreError>;
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

    /// Inserts a module or changes state, analysis, refusal and name of a known one; takes a reference to its blob.
    async fn put_module(&self, module: StoredModule) -> Result<(), StoreError>;
    /// Sets or clears (`None`) a module's quarantine; false if there is no such module.
    async fn quarantine_module(&self, digest: Digest, why: Option<String>) -> Result<bool, StoreError>;
    /// A module.
    async fn module(&self, digest: Digest) -> Result<Option<StoredModule>, StoreError>;
    /// Modules, newest first, before `cursor`.
    async fn modules(&self, cursor: Option<Digest>, limit: u32) -> Result<Vec<StoredModule>, StoreError>;
    /// Deletes a module that no open run uses: `Refused` if one does, `Committed` if it is gone (or never was).
    async fn delete_module(&self, digest: Digest) -> Result<WriteAnswer, StoreError>;

    /// Makes a blob's row, or finds it there, and pins it against collection until `pin_until`. True if it was there.
    async fn put_blob(&self, digest: Digest, row: BlobRow, pin_until: Time) -> Result<bool, StoreError>;
    /// Pins a blob until `until` (never shortens) if it has a row; answers the row. How an upload that finds its
    /// digest stored keeps it.
    async fn pin_blob(&self, digest: Digest, until: Time) -> Result<Option<BlobRow>, StoreError>;
    /// A blob's row.
    async fn blob(&self, digest: Digest) -> Result<Option<BlobRow>, StoreError>;
    /// Takes the rows of up to `limit` blobs that nothing refers to and whose pins have ended, and says which of them
    /// had their bytes in the blob store.
    async fn take_garbage(&self, now: Time, limit: u32) -> Result<Garbage, StoreError>;
    /// Deletes final runs beyond the retention and drops their references; returns how many went.
    async fn retain(&self, retention: Retention) -> Result<u32, StoreError>;
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

    /// The worker with this key; enrolled now if it is new.
    async fn enrol_worker(
        &self,
        key: [u8; 32],
        name: &str,
        domain: &str,
        now: Time,
    ) -> Result<WorkerRow, StoreError>;
    /// All workers.
    async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError>;
    /// Sets or clears a worker's quarantine; false if there is none.
    async fn quarantine_worker(&self, id: WorkerId, why: Option<String>) -> Result<bool, StoreError>;
    /// Appends evidence.
    async fn append_evidence(&self, evidence: Vec<Evidence>) -> Result<(), StoreError>;
    /// Evidence of a worker, newest first.
    async fn evidence(&self, worker: WorkerId, limit: u32) -> Result<Vec<Evidence>, StoreError>;

    /// A small value by name (secrets of this pool, schema facts).
    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Sets one, unless it is there; answers what is there now.
    async fn init_meta(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, StoreError>;

    /// How much is stored.
    async fn usage(&self) -> Result<Usage, StoreError>;
    /// Flushes what is queued and closes; later calls answer [`StoreError::Closed`].
    async fn close(&self);
}
