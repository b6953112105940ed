//! Runs by the run that computed their result, and the corrections that have still to reach them.
//!
//! A row of `corrections` is made with a correction and stays as long as its run. It is due while one that has a result of
//! before may be behind its cursor; who comes late, its final written after the correction, moves the cursor back.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::batch::{Batch, FinishRow};
use super::reads::{self, ReadError};
use super::repairs::split_workers;
use super::values::{int, run_key};
use super::writer::Abort;
use crate::core::Time;
use crate::id::{RunId, WorkerId};
use crate::store::dependents::{as_corrected, follow as next_revision};
use crate::store::{Followed, StoredRun};

/// Corrections that are looked at when somebody asks on whose account some are due.
const DUE_MAX: u32 = 10_000;

/// The row of a run that computed a result: final, and not itself answered with another's.
pub(super) fn row_of(connection: &Connection, source: RunId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT row FROM runs WHERE id = ?1 AND state > 0 AND source IS NULL")?
        .query_row(params![run_key(source)], |row| row.get(0))
        .optional()
}

/// A final has the result of another. If that was corrected meanwhile, it is looked at.
pub(super) fn joined(connection: &Connection, row: i64, source: Option<i64>) -> rusqlite::Result<()> {
    if let Some(source) = source {
        connection
            .prepare_cached(
                "UPDATE corrections SET cursor = iif(due = 1, min(cursor, ?2 - 1), ?2 - 1), due = 1 WHERE run = ?1",
            )?
            .execute(params![source, row])?;
    }
    Ok(())
}

/// A final is corrected: those that have its result are to be.
pub(super) fn begin(connection: &Connection, row: i64, run: RunId) -> rusqlite::Result<()> {
    let mut select =
        connection.prepare_cached("SELECT worker FROM suspects WHERE run = ?1 ORDER BY worker")?;
    let workers = select.query_map(params![run_key(run)], |row| row.get(0).map(WorkerId))?;
    let workers: Vec<WorkerId> = workers.collect::<rusqlite::Result<_>>()?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO corrections (run, workers, due)
             VALUES (?1, ?2, EXISTS (SELECT 1 FROM runs WHERE source = ?1))",
        )?
        .execute(params![row, super::repairs::join_workers(workers)])?;
    Ok(())
}

/// Whether a run may have a result that was replaced.
pub(super) fn is_due(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM corrections WHERE due = 1")?.exists([])
}

/// On whose account some may.
pub(super) fn due_for(connection: &Connection) -> rusqlite::Result<BTreeSet<WorkerId>> {
    let mut select = connection.prepare_cached("SELECT workers FROM corrections WHERE due = 1 LIMIT ?1")?;
    let mut rows = select.query(params![DUE_MAX])?;
    let mut workers = BTreeSet::new();
    while let Some(row) = rows.next()? {
        workers.extend(split_workers(row.get_ref(0)?.as_blob()?));
    }
    Ok(workers)
}

/// Whether any run has the result of this row.
pub(super) fn has_any(connection: &Connection, row: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM runs WHERE source = ?1")?.exists(params![row])
}

/// See [`crate::store::Store::follow_corrections`].
pub(super) fn follow(
    batch: &mut Batch<'_>,
    at: Time,
    limit: u32,
    deliveries_max: u32,
) -> Result<Followed, Abort> {
    let (connection, _) = batch.rows()?;
    let due: Option<(i64, i64, Vec<u8>)> = connection
        .prepare_cached("SELECT run, cursor, workers FROM corrections WHERE due = 1 ORDER BY run LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((source, cursor, workers)) = due else { return Ok(Followed::default()) };
    let right = read(connection, "row = ?1", source, (-1, 1))?.pop().and_then(|(_, run)| run);
    let page = match right {
        Some(_) => read(connection, "source = ?1", source, (cursor, limit))?,
        // nobody can read it
        None => Vec::new(),
    };
    let mut last = page.last().filter(|_| page.len() >= limit as usize).map(|(row, _)| *row);
    let (mut corrected, mut deliveries) = (Vec::new(), 0);
    let mut page = page.into_iter();
    while let Some((row, run)) = page.next() {
        let next = run.and_then(|run| {
            let next = next_revision(&run, run.source?, right.as_ref()?, at)?;
            Some((run, next))
        });
        let Some((run, next)) = next else { continue };
        match batch.replace(&FinishRow::of(&next))? {
            Ok(_) => {
                deliveries += u32::from(next.callback.is_some());
                corrected.push(as_corrected(run, &next));
            }
            // what it refers to is referred to by the run that computed it, which is here
            Err(answer) => tracing::error!(run = %run.id, ?answer, "a run was not corrected along"),
        }
        if deliveries >= deliveries_max && page.len() > 0 {
            last = Some(row);
            break;
        }
    }
    let (connection, _) = batch.rows()?;
    connection
        .prepare_cached("UPDATE corrections SET due = ?2, cursor = coalesce(?3, cursor) WHERE run = ?1")?
        .execute(params![source, last.is_some(), last])?;
    let mut count =
        connection.prepare_cached("UPDATE repairs SET dependents = dependents + ?2 WHERE worker = ?1")?;
    for worker in split_workers(&workers) {
        count.execute(params![worker.0, int(corrected.len() as u64)])?;
    }
    Ok(Followed { corrected, has_more: is_due(connection)? })
}

/// Runs by their rows, in this order; `None` for one that does not decode.
fn read(
    connection: &Connection,
    of: &str,
    key: i64,
    (after, limit): (i64, u32),
) -> Result<Vec<(i64, Option<StoredRun>)>, Abort> {
    let columns = reads::RUN_COLUMNS;
    let sql = format!("SELECT {columns} FROM runs WHERE {of} AND row > ?2 ORDER BY row LIMIT ?3");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![key, after, limit])?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        let run = match reads::stored_run(connection, row) {
            Err(ReadError::Own(error)) => {
                tracing::warn!(%error, "a run is not corrected along");
                None
            }
            run => Some(run.map_err(reads::own_or_sql)?),
        };
        runs.push((row.get(0)?, run));
    }
    Ok(runs)
}
