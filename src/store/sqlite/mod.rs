//! The store in one SQLite database: embedded mode, one process.
//!
//! Invariants: exactly one process has a directory open (a lock file says so); a write that was answered survives
//! the loss of power (write-ahead log, `synchronous = FULL`); one thread writes, others only read; a failed fsync, an
//! I/O error or corruption ends all of it and is reported once ([`Failure`]). Encoding and decoding happen in the
//! caller's or a reader's thread, never in the writer's; what a correction takes along is the exception, rare and bounded.

mod batch;
mod cached;
mod callbacks;
mod dependents;
mod evidence;
mod people;
mod readers;
mod reads;
mod references;
mod repairs;
mod rows;
mod schema;
mod search;
mod values;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use self::batch::PreparedWrite;
use self::readers::Readers;
use self::writer::Writer;
use super::{
    BlobRow, CallbackId, CastVote, Concluded, Delivery, DueCallbacks, DueSuspect, Enrolment, Evidence,
    EvidenceRetention, Failure, Followed, FoundRuns, Garbage, Looked, ModuleState, Nondeterminism,
    OutboxLimits, Outlook, Quarantine, RecentFinal, Repair, Retained, Retention, RunFilter, RunWrite,
    SkippedCallbacks, Store, StoreError, StoredModule, StoredRun, SupportedFinal, TokenRow, Tried, Usage,
    Withdrawal, WorkerFacts, WorkerRow, WorkspaceSettings, WriteAnswer,
};
use crate::core::Time;
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkerId, WorkspaceId};
use crate::spec::Verify;

/// SQLite before 3.51.3 could corrupt a database when its write-ahead log started anew.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// The database below the directory.
const DATABASE_FILE: &str = "lockstep.db";
/// The lock file beside it.
const LOCK_FILE: &str = "lockstep.lock";
/// How long SQLite waits for a lock that an operator's shell or a backup holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a store did not open.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process (it holds {LOCK_FILE})", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The SQLite in this build can corrupt databases.
    #[error("SQLite {found} is too old: 3.51.3 or newer is required")]
    SqliteTooOld {
        /// Its version.
        found: &'static str,
    },
    /// A newer build wrote it.
    #[error("the database has schema {found}, this build knows up to {known}: use the newer build")]
    NewerSchema {
        /// The schema of the database.
        found: u32,
        /// The newest that is known here.
        known: usize,
    },
    /// A file or thread could not be had.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        error: Arc<std::io::Error>,
    },
    /// SQLite refused.
    #[error("cannot open the database: {0}")]
    Sqlite(Arc<rusqlite::Error>),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> OpenError {
        OpenError::Sqlite(Arc::new(error))
    }
}

/// What an operator may set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Pages of 4096 bytes that the database may have; a write beyond answers [`StoreError::Full`]. No bound if `None`.
    pub pages_max: Option<u32>,
}

/// The store; see the module.
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
}

impl SqliteStore {
    /// Opens or makes the database in `dir`. Blocks for a moment: at most the recovery of the write-ahead log.
    pub fn open(dir: &Path, options: Options, failure: Failure) -> Result<SqliteStore, OpenError> {
        check_version(rusqlite::version_number(), rusqlite::version())?;
        let io = |what| move |error| OpenError::Io { what, error: Arc::new(error) };
        std::fs::create_dir_all(dir).map_err(io("make the data directory"))?;
        let lock = lock(dir)?;
        let file = dir.join(DATABASE_FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&file, flags)?;
        configure(&connection)?;
        configure_writer(&connection, options)?;
        schema::migrate(&mut connection)?;
        // The database's own name must survive the loss of power as its contents do.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync the data directory"))?;
        let readers = Readers::open(&file, failure.clone())?;
        let writer = Writer::start(connection, lock, failure)?;
        Ok(SqliteStore { writer, readers })
    }
}

fn check_version(number: i32, name: &'static str) -> Result<(), OpenError> {
    if number < SQLITE_VERSION_MIN { Err(OpenError::SqliteTooOld { found: name }) } else { Ok(()) }
}

/// The kernel drops the lock with the process, however it ends.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io { what: "open the lock file", error: Arc::new(error) };
    let file =
        File::options().create(true).truncate(false).write(true).open(dir.join(LOCK_FILE)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Settings of every connection.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Compiled once; there are fewer different texts than this.
    connection.set_prepared_statement_cache_capacity(128);
    // A mapped database turns an I/O error into a SIGBUS.
    connection.pragma_update(None, "mmap_size", 0)?;
    // Nothing of ours belongs into the system's temporary folder, and it must not fail when that is full.
    connection.pragma_update(None, "temp_store", "MEMORY")
}

fn configure_writer(connection: &Connection, options: Options) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    debug_assert_eq!(mode, "wal", "a file on a local disk can have a write-ahead log");
    connection.pragma_update(None, "synchronous", "FULL")?;
    // macOS only: there a plain fsync leaves the data in the drive's cache.
    connection.pragma_update(None, "fullfsync", true)?;
    // The writer copies the log itself, after it has answered, and sees errors that a commit would hide.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // After a burst the log's file shrinks back to this (64 MiB).
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // The hot pages of the indexes: 32 MiB.
    connection.pragma_update(None, "cache_size", -(32 << 10))?;
    if let Some(pages) = options.pages_max {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn write_runs(&self, writes: Arc<Vec<RunWrite>>) -> Result<Vec<WriteAnswer>, StoreError> {
        let writes: Vec<_> = writes.iter().map(PreparedWrite::of).collect();
        self.writer
            .call(move |batch| {
                writes.into_iter().map(|write| batch.write_run(write).map_err(Into::into)).collect()
            })
            .await
    }

    async fn run(&self, id: RunId) -> Result<Option<StoredRun>, StoreError> {
        self.readers.call(move |connection| reads::run(connection, id)).await
    }

    async fn votes(&self, id: RunId, revision: u32) -> Result<Option<Vec<CastVote>>, StoreError> {
        self.readers.call(move |connection| repairs::votes(connection, id, revision)).await
    }

    async fn confirmations(&self, id: RunId) -> Result<Vec<CastVote>, StoreError> {
        self.readers.call(move |connection| repairs::confirmations(connection, id)).await
    }

    async fn revision(&self, id: RunId, revision: u32) -> Result<Option<StoredRun>, StoreError> {
        self.readers.call(move |connection| repairs::revision(connection, id, revision)).await
    }

    async fn revisions(&self, id: RunId) -> Result<Vec<StoredRun>, StoreError> {
        self.readers.call(move |connection| repairs::revisions(connection, id)).await
    }

    async fn runs(
        &self,
        filter: RunFilter,
        cursor: Option<RunId>,
        limit: u32,
    ) -> Result<FoundRuns, StoreError> {
        self.readers.call(move |connection| search::runs(connection, &filter, cursor, limit)).await
    }

    async fn recent_finals(&self, since: Time, limit: u32) -> Result<Vec<RecentFinal>, StoreError> {
        self.readers.call(move |connection| search::recent_finals(connection, since, limit)).await
    }

    async fn outlook(&self, retention: Retention) -> Result<Outlook, StoreError> {
        self.readers.call(move |connection| search::outlook(connection, retention)).await
    }

    async fn newest_instant(&self) -> Result<Time, StoreError> {
        self.readers.call(reads::newest_instant).await
    }

    async fn open_runs(&self, cursor: Option<RunId>, limit: u32) -> Result<Vec<StoredRun>, StoreError> {
        self.readers.call(move |connection| reads::open_runs(connection, cursor, limit)).await
    }

    async fn adopt_open_runs(&self) -> Result<Epoch, StoreError> {
        self.writer.call(rows::adopt_open_runs).await
    }

    async fn idempotency(
        &self,
        workspace: WorkspaceId,
        key: &str,
    ) -> Result<Option<(RunId, Digest)>, StoreError> {
        let key = key.to_owned();
        self.readers.call(move |connection| batch::key_owner(connection, workspace, &key)).await
    }

    async fn put_module(&self, module: StoredModule) -> Result<bool, StoreError> {
        self.writer.call(move |batch| rows::put_module(batch, &module)).await
    }

    async fn decide_module(
        &self,
        digest: Digest,
        state: ModuleState,
        refusal: Option<(String, String)>,
    ) -> Result<bool, StoreError> {
        self.writer.call(move |batch| rows::decide_module(batch, digest, state, refusal)).await
    }

    async fn quarantine_module(&self, digest: Digest, why: String) -> Result<bool, StoreError> {
        self.writer.call(move |batch| rows::quarantine_module(batch, digest, &why)).await
    }

    async fn blame_module(&self, digest: Digest, found: Nondeterminism) -> Result<bool, StoreError> {
        self.writer.call(move |batch| rows::blame_module(batch, digest, found)).await
    }

    async fn readmit_module(&self, digest: Digest) -> Result<bool, StoreError> {
        self.writer.call(move |batch| rows::readmit_module(batch, digest)).await
    }

    async fn nondeterministic_modules(&self) -> Result<Vec<Digest>, StoreError> {
        self.readers.call(reads::nondeterministic_modules).await
    }

    async fn set_module_verify(&self, digest: Digest, verify: Option<Verify>) -> Result<bool, StoreError> {
        self.writer.call(move |batch| rows::set_module_verify(batch, digest, verify)).await
    }

    async fn module(&self, digest: Digest) -> Result<Option<StoredModule>, StoreError> {
        self.readers.call(move |connection| reads::module(connection, digest)).await
    }

    async fn modules(&self, cursor: Option<Digest>, limit: u32) -> Result<Vec<StoredModule>, StoreError> {
        self.readers.call(move |connection| reads::modules(connection, cursor, limit)).await
    }

    async fn delete_module(&self, digest: Digest) -> Result<WriteAnswer, StoreError> {
        self.writer.call(move |batch| rows::delete_module(batch, digest)).await
    }

    async fn workspace(&self, id: WorkspaceId) -> Result<WorkspaceSettings, StoreError> {
        self.readers.call(move |connection| reads::workspace(connection, id)).await
    }

    async fn put_workspace(&self, id: WorkspaceId, settings: WorkspaceSettings) -> Result<(), StoreError> {
        self.writer.call(move |batch| rows::put_workspace(batch, id, settings)).await
    }

    async fn due_callbacks(
        &self,
        now: Time,
        skip: SkippedCallbacks,
        limits: OutboxLimits,
    ) -> Result<DueCallbacks, StoreError> {
        self.readers.call(move |connection| callbacks::due(connection, now, &skip, limits)).await
    }

    async fn tried_receivers(&self, limit: u32, deliveries: u32) -> Result<Vec<(String, bool)>, StoreError> {
        self.readers.call(move |connection| callbacks::tried_receivers(connection, limit, deliveries)).await
    }

    async fn callback_tried(&self, id: CallbackId, tries: u32, tried: Tried) -> Result<bool, StoreError> {
        self.writer.call(move |batch| callbacks::tried(batch, id, tries, &tried)).await
    }

    async fn callbacks(&self, run: RunId) -> Result<Vec<Delivery>, StoreError> {
        self.readers.call(move |connection| callbacks::of_run(connection, run)).await
    }

    async fn redeliver_callback(
        &self,
        run: RunId,
        revision: Option<u32>,
        at: Time,
    ) -> Result<bool, StoreError> {
        self.writer.call(move |batch| callbacks::redeliver(batch, run, revision, at)).await
    }

    async fn put_blob(&self, digest: Digest, row: BlobRow, pin_until: Time) -> Result<bool, StoreError> {
        self.writer.call(move |batch| rows::put_blob(batch, digest, &row, pin_until)).await
    }

    async fn pin_blob(&self, digest: Digest, until: Time) -> Result<Option<BlobRow>, StoreError> {
        self.writer.call(move |batch| rows::pin_blob(batch, digest, until)).await
    }

    async fn pin_blobs(&self, digests: Vec<Digest>, until: Time) -> Result<Option<Digest>, StoreError> {
        self.writer.call(move |batch| rows::pin_blobs(batch, &digests, until)).await
    }

    async fn missing_blob(&self, digests: Vec<Digest>) -> Result<Option<Digest>, StoreError> {
        self.readers.call(move |connection| reads::missing_blob(connection, &digests)).await
    }

    async fn blob(&self, digest: Digest) -> Result<Option<BlobRow>, StoreError> {
        self.readers.call(move |connection| reads::blob(connection, digest)).await
    }

    async fn take_garbage(&self, now: Time, limit: u32) -> Result<Garbage, StoreError> {
        self.writer.call(move |batch| rows::take_garbage(batch, now, limit)).await
    }

    async fn retain(&self, retention: Retention) -> Result<Retained, StoreError> {
        self.writer.call(move |batch| rows::retain(batch, retention)).await
    }

    async fn recount_references(&self) -> Result<Vec<Digest>, StoreError> {
        // A reader counts in its snapshot; the writer is held up only when there is something to set right.
        let differing = self.readers.call(references::miscounted).await?;
        if differing.is_empty() {
            return Ok(Vec::new());
        }
        self.writer.call(rows::repair_references).await
    }

    async fn put_token(&self, token: TokenRow) -> Result<TokenRow, StoreError> {
        self.writer.call(move |batch| people::put_token(batch, &token)).await
    }

    async fn token(&self, hash: Digest) -> Result<Option<TokenRow>, StoreError> {
        self.readers.call(move |connection| people::token(connection, hash)).await
    }

    async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.readers.call(people::tokens).await
    }

    async fn delete_token(&self, id: u32) -> Result<bool, StoreError> {
        self.writer.call(move |batch| people::delete_token(batch, id)).await
    }

    async fn note_tokens_used(&self, used: Vec<(u32, Time)>) -> Result<(), StoreError> {
        self.writer.call(move |batch| people::note_tokens_used(batch, &used)).await
    }

    async fn enrol_worker(&self, enrolment: Enrolment) -> Result<WorkerRow, StoreError> {
        self.writer.call(move |batch| people::enrol_worker(batch, &enrolment)).await
    }

    async fn begin_session(&self, id: WorkerId, facts: WorkerFacts, at: Time) -> Result<bool, StoreError> {
        self.writer.call(move |batch| people::begin_session(batch, id, &facts, at)).await
    }

    async fn end_session(&self, id: WorkerId, connected_at: Time, at: Time) -> Result<(), StoreError> {
        self.writer.call(move |batch| people::end_session(batch, id, connected_at, at)).await
    }

    async fn note_workers_seen(&self, seen: Vec<(WorkerId, Time)>) -> Result<(), StoreError> {
        self.writer.call(move |batch| people::note_workers_seen(batch, &seen)).await
    }

    async fn forget_worker(&self, id: WorkerId) -> Result<bool, StoreError> {
        self.writer.call(move |batch| people::forget_worker(batch, id)).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        self.readers.call(people::workers).await
    }

    async fn quarantine_worker(
        &self,
        id: WorkerId,
        quarantine: Option<Quarantine>,
        at: Time,
    ) -> Result<bool, StoreError> {
        self.writer.call(move |batch| people::quarantine_worker(batch, id, quarantine.as_ref(), at)).await
    }

    async fn lift_quarantine(&self, id: WorkerId, at: Time) -> Result<bool, StoreError> {
        self.writer.call(move |batch| repairs::lift(batch, id, at)).await
    }

    async fn repairs(&self) -> Result<Vec<Repair>, StoreError> {
        self.readers.call(repairs::repairs).await
    }

    async fn supported_finals(
        &self,
        worker: WorkerId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<SupportedFinal>, StoreError> {
        self.readers.call(move |connection| repairs::supported(connection, worker, after, limit)).await
    }

    async fn put_suspects(&self, worker: WorkerId, looked: Looked) -> Result<bool, StoreError> {
        self.writer.call(move |batch| repairs::put(batch, worker, &looked)).await
    }

    async fn due_suspects(&self, now: Time, limit: u32) -> Result<Vec<DueSuspect>, StoreError> {
        self.writer.call(move |batch| repairs::due(batch, now, limit)).await
    }

    async fn conclude_suspect(&self, run: RunId, concluded: Concluded) -> Result<(), StoreError> {
        self.writer.call(move |batch| repairs::conclude(batch, run, &concluded)).await
    }

    async fn follow_corrections(
        &self,
        at: Time,
        limit: u32,
        deliveries_max: u32,
    ) -> Result<Followed, StoreError> {
        // as a rule there are none
        if !self.readers.call(dependents::is_due).await? {
            return Ok(Followed::default());
        }
        self.writer.call(move |batch| dependents::follow(batch, at, limit, deliveries_max)).await
    }

    async fn append_evidence(&self, evidence: Vec<Evidence>) -> Result<(), StoreError> {
        self.writer.call(move |batch| evidence::append(batch, &evidence)).await
    }

    async fn evidence(
        &self,
        worker: WorkerId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, Evidence)>, StoreError> {
        self.readers.call(move |connection| evidence::page(connection, worker, before, limit)).await
    }

    async fn evidence_counts(&self, worker: WorkerId) -> Result<Vec<(String, u64)>, StoreError> {
        self.readers.call(move |connection| evidence::counts(connection, worker)).await
    }

    async fn trim_evidence(&self, retention: EvidenceRetention) -> Result<u32, StoreError> {
        // Finding out where each worker's log is cut is the long part, so a reader does it.
        let cuts = self.readers.call(move |connection| evidence::cuts(connection, retention)).await?;
        if cuts.is_empty() {
            return Ok(0);
        }
        self.writer.call(move |batch| evidence::trim(batch, retention, &cuts)).await
    }

    async fn reusable(
        &self,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<(StoredRun, Vec<CastVote>)>, StoreError> {
        self.readers.call(move |connection| cached::reusable(connection, before, limit)).await
    }

    async fn put_withdrawal(&self, withdrawal: Withdrawal) -> Result<(), StoreError> {
        self.writer.call(move |batch| cached::put_withdrawal(batch, &withdrawal)).await
    }

    async fn withdrawals(&self) -> Result<Vec<Withdrawal>, StoreError> {
        self.readers.call(cached::withdrawals).await
    }

    async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        self.readers.call(move |connection| reads::meta(connection, &name)).await
    }

    async fn init_meta(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let name = name.to_owned();
        self.writer.call(move |batch| rows::init_meta(batch, &name, &value)).await
    }

    async fn put_meta(&self, name: &str, value: Vec<u8>) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer.call(move |batch| rows::put_meta(batch, &name, &value)).await
    }

    async fn usage(&self) -> Result<Usage, StoreError> {
        self.readers.call(reads::usage).await
    }

    async fn close(&self) {
        // Readers first: the last connection to go is then the writer's, which copies the log into the database.
        self.readers.close().await;
        self.writer.close().await;
    }
}
