//! A few read-only connections, each used by one query at a time on a blocking thread.
//!
//! Readers see what was committed and never hold up the writer. There are few of them, so a crowd of readers waits in
//! line instead of taking threads and memory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::OpenError;
use super::reads::ReadError;
use super::values::Failed;
use crate::store::{Failure, StoreError};

/// Queries at once.
const READERS: usize = 4;

pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// One permit per connection.
    places: Arc<Semaphore>,
    failure: Failure,
}

impl Readers {
    pub(super) fn open(file: &Path, failure: Failure) -> Result<Readers, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut idle = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let connection = Connection::open_with_flags(file, flags)?;
            super::configure(&connection)?;
            idle.push(connection);
        }
        let places = Arc::new(Semaphore::new(READERS));
        Ok(Readers { idle: Arc::new(Mutex::new(idle)), places, failure })
    }

    /// Runs `query` in a read transaction.
    pub(super) async fn call<T, E, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        E: Into<ReadError>,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        if let Some(why) = self.failure.reason() {
            return Err(StoreError::Fatal(why));
        }
        let (idle, failure) = (Arc::clone(&self.idle), self.failure.clone());
        let read = tokio::task::spawn_blocking(move || {
            let connection = lock(&idle).pop().ok_or(StoreError::Closed)?;
            let answer = read(&connection, query);
            lock(&idle).push(connection);
            drop(place);
            answer.map_err(|error| match error {
                ReadError::Own(error) => error,
                ReadError::Sql(error) => {
                    let failed = Failed::from(&error);
                    if let Failed::Fatal(why) = &failed {
                        failure.report(why);
                    }
                    failed.to_error()
                }
            })
        });
        read.await.unwrap_or_else(|_| Err(StoreError::Fatal("a query panicked".to_owned())))
    }

    /// Waits for the queries that run and closes the connections; later calls answer `Closed`.
    pub(super) async fn close(&self) {
        let all = u32::try_from(READERS).unwrap_or(u32::MAX);
        // An error says that somebody else has closed them.
        if let Ok(_places) = self.places.acquire_many(all).await {
            self.places.close();
            lock(&self.idle).clear();
        }
    }
}

fn read<T, E: Into<ReadError>>(
    connection: &Connection,
    query: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, ReadError> {
    let transaction = connection.unchecked_transaction()?;
    let answer = query(&transaction).map_err(Into::into)?;
    transaction.commit()?;
    Ok(answer)
}

/// A query that panicked has lost its connection, not the list.
fn lock(idle: &Mutex<Vec<Connection>>) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
