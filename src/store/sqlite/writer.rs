//! The one writer: a thread that owns the writing connection and makes one commit of what many tasks want written.
//!
//! Invariants: a call is answered only after the transaction that holds it is durable; calls are applied in the order
//! of the queue and each stands for itself; after a fatal error nothing is written any more, because a failed fsync
//! may have dropped pages that the kernel now calls clean. A lone call never waits for company.

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::{mpsc, oneshot, watch};

use super::OpenError;
use super::batch::Batch;
use super::values::Failed;
use crate::store::{Failure, StoreError};

/// Calls that wait for the writer; beyond it the callers wait for a place.
const QUEUE_MAX: usize = 4_096;
/// Calls in one transaction: a bound on how long the first of them waits for the others.
const BATCH_MAX: usize = 256;
/// Pages in the write-ahead log that have not reached the database: from here on they are copied (16 MiB).
const CHECKPOINT_PAGES: i64 = 4_000;
/// Pages in the log from where on the writer waits for readers, so that the log starts anew (160 MiB).
const RESTART_PAGES: i64 = 40_000;

/// Why a call's own part of a transaction did not come about.
pub(super) enum Abort {
    /// SQLite said so: the whole transaction is rolled back.
    Sql(rusqlite::Error),
    /// Only this call is concerned; it changed nothing.
    Own(StoreError),
}

impl From<rusqlite::Error> for Abort {
    fn from(error: rusqlite::Error) -> Abort {
        Abort::Sql(error)
    }
}

/// A call as the writer sees it: it does not know what is answered.
trait Call: Send {
    /// Does its part of the transaction; an error rolls back all of it.
    fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()>;
    /// Tells the caller, after the commit or after its failure.
    fn answer(self: Box<Self>, failed: Option<&Failed>);
}

struct Typed<F, T> {
    /// Taken when it is applied.
    work: Option<F>,
    done: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call for Typed<F, T>
where
    F: FnOnce(&mut Batch<'_>) -> Result<T, Abort> + Send,
    T: Send,
{
    fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        self.done = Some(match work(batch) {
            Ok(value) => Ok(value),
            Err(Abort::Own(error)) => Err(error),
            Err(Abort::Sql(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<&Failed>) {
        let answer = match (failed, self.done) {
            (Some(failed), _) => Err(failed.to_error()),
            (None, Some(done)) => done,
            (None, None) => Err(StoreError::Closed),
        };
        // A caller that went away needs no answer; what it wanted is durable all the same.
        drop(self.caller.send(answer));
    }
}

enum Command {
    Write(Box<dyn Call>),
    Close,
}

/// The callers' side.
pub(super) struct Writer {
    queue: mpsc::Sender<Command>,
    ended: watch::Receiver<()>,
}

impl Writer {
    /// Starts the thread. `lock` is held until the connection is closed.
    pub(super) fn start(
        connection: Connection,
        lock: std::fs::File,
        failure: Failure,
    ) -> Result<Writer, OpenError> {
        let (queue, commands) = mpsc::channel(QUEUE_MAX);
        let (alive, ended) = watch::channel(());
        let state = Thread { connection, commands, failure, failed: None };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                state.run();
                drop(lock);
                drop(alive);
            })
            .map_err(|error| OpenError::Io { what: "start the writer's thread", error: Arc::new(error) })?;
        Ok(Writer { queue, ended })
    }

    /// Has `work` done in a transaction and answers what it returned, once that is durable.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Batch<'_>) -> Result<T, Abort> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let call = Box::new(Typed { work: Some(work), done: None, caller });
        self.queue.send(Command::Write(call)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Fatal("the writer died".to_owned())))
    }

    /// Lets the writer finish what is queued and waits for its end.
    pub(super) async fn close(&self) {
        // An error says that it has ended already.
        drop(self.queue.send(Command::Close).await);
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

/// The thread's side.
struct Thread {
    connection: Connection,
    commands: mpsc::Receiver<Command>,
    failure: Failure,
    failed: Option<Failed>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failure.report("the store's writer died");
        }
    }
}

impl Thread {
    fn run(mut self) {
        while let Some(first) = self.commands.blocking_recv() {
            let mut calls = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Write(call) => calls.push(call),
                    // What was sent before is still received; what comes later is refused.
                    Command::Close => self.commands.close(),
                }
                next = if calls.len() < BATCH_MAX { self.commands.try_recv().ok() } else { None };
            }
            self.serve(calls);
        }
        if self.failed.is_some() {
            // Closing would copy the log into the database, which is a retry; the next start does that from the disk.
            drop(self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true));
        }
    }

    /// Commits the calls together and answers them; then copies the log, when that is due.
    fn serve(&mut self, mut calls: Vec<Box<dyn Call>>) {
        let failed = match &self.failed {
            Some(failed) => Some(failed.clone()),
            None => self.commit(&mut calls).err().map(|error| self.judge(&error)),
        };
        for call in calls {
            call.answer(failed.as_ref());
        }
        if self.failed.is_none()
            && let Err(error) = self.checkpoint()
        {
            // A full disk only delays the copy: the log keeps everything.
            self.judge(&error);
        }
    }

    fn commit(&mut self, calls: &mut [Box<dyn Call>]) -> rusqlite::Result<()> {
        if calls.is_empty() {
            return Ok(());
        }
        // The transaction takes the write lock at once; unless committed, its end rolls everything back.
        let transaction =
            rusqlite::Transaction::new_unchecked(&self.connection, rusqlite::TransactionBehavior::Immediate)?;
        let mut batch = Batch::new(&transaction);
        for call in calls {
            call.apply(&mut batch)?;
        }
        batch.flush()?;
        drop(batch);
        transaction.commit()
    }

    /// Remembers and reports a fatal error.
    fn judge(&mut self, error: &rusqlite::Error) -> Failed {
        let failed = Failed::from(error);
        if let Failed::Fatal(why) = &failed {
            self.failure.report(why);
            self.failed = Some(failed.clone());
        }
        failed
    }

    /// Copies the write-ahead log into the database when it has grown. SQLite would do so by itself within a commit,
    /// but then the commit's callers wait for it, and it hides a failed fsync.
    fn checkpoint(&self) -> rusqlite::Result<()> {
        let (log, copied) = self.log_pages("PRAGMA wal_checkpoint(NOOP)")?;
        if log >= RESTART_PAGES {
            self.log_pages("PRAGMA wal_checkpoint(RESTART)")?;
        } else if log - copied >= CHECKPOINT_PAGES {
            self.log_pages("PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(())
    }

    /// Runs a checkpoint pragma: pages in the log, and how many of them the database has.
    fn log_pages(&self, pragma: &'static str) -> rusqlite::Result<(i64, i64)> {
        self.connection.prepare_cached(pragma)?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
    }
}
