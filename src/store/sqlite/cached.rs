//! Results that may answer equal runs, and withdrawals.

use rusqlite::{Connection, params};

use super::batch::Batch;
use super::reads::{RUN_COLUMNS, ReadError, stored_run};
use super::values::{int, run_id, run_key, time};
use super::writer::Abort;
use crate::digest::Digest;
use crate::id::{Class, RunId, WorkerId, WorkspaceId};
use crate::store::votes as cast;
use crate::store::{CastVote, StoredRun, Withdrawal};

/// See [`crate::store::Store::reusable`].
pub(super) fn reusable(
    connection: &Connection,
    before: Option<RunId>,
    limit: u32,
) -> Result<Vec<(StoredRun, Vec<CastVote>)>, ReadError> {
    let sql = format!(
        "SELECT {RUN_COLUMNS}, votes FROM runs INDEXED BY runs_reusable
         WHERE reusable = 1 AND id < ?1 ORDER BY id DESC LIMIT ?2"
    );
    // longer than any id, and so greater
    let last = before.map_or_else(|| vec![0xff; 17], |run| run_key(run).to_vec());
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![last, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let votes: Option<Vec<u8>> = row.get("votes")?;
        let votes = votes.map(|bytes| cast::decode(&bytes)).transpose()?.unwrap_or_default();
        found.push((stored_run(connection, row)?, votes));
    }
    Ok(found)
}

/// See [`crate::store::Store::put_withdrawal`].
pub(super) fn put_withdrawal(batch: &mut Batch<'_>, withdrawal: &Withdrawal) -> Result<(), Abort> {
    let (connection, _) = batch.rows()?;
    let Withdrawal { workspace, run, worker, alone, class, module, after, before, until } = withdrawal;
    let (workspace, run, worker) = (workspace.map(|it| it.0), run.map(run_key), worker.map(|it| it.0));
    let class = class.as_ref().map(|it| it.0.as_bytes());
    let module = module.as_ref().map(Digest::as_bytes);
    let (after, before, until) = (after.map(|it| int(it.0)), before.map(|it| int(it.0)), int(until.0));
    let all = params![workspace, run, worker, class, module, after, before, until, alone];
    // what it contains, see there
    connection
        .prepare_cached(
            "DELETE FROM withdrawals WHERE until <= ?8 AND alone >= ?9
                 AND (?1 IS NULL OR workspace IS ?1) AND (?2 IS NULL OR run IS ?2) AND (?3 IS NULL OR worker IS ?3)
                 AND (?4 IS NULL OR class IS ?4) AND (?5 IS NULL OR module IS ?5) AND (?6 IS NULL OR after IS ?6)
                 AND (?7 IS NULL OR before IS ?7)",
        )?
        .execute(all)?;
    connection
        .prepare_cached(
            "INSERT INTO withdrawals (workspace, run, worker, class, module, after, before, until, alone)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(all)?;
    Ok(())
}

/// See [`crate::store::Store::withdrawals`].
pub(super) fn withdrawals(connection: &Connection) -> rusqlite::Result<Vec<Withdrawal>> {
    let mut select = connection.prepare_cached(
        "SELECT workspace, run, worker, class, module, after, before, until, alone FROM withdrawals ORDER BY row",
    )?;
    let rows = select.query_map([], |row| {
        Ok(Withdrawal {
            workspace: row.get::<_, Option<u32>>(0)?.map(WorkspaceId),
            run: row.get::<_, Option<[u8; 16]>>(1)?.map(run_id),
            worker: row.get::<_, Option<u32>>(2)?.map(WorkerId),
            class: row.get::<_, Option<[u8; 32]>>(3)?.map(|bytes| Class(Digest::from_bytes(bytes))),
            module: row.get::<_, Option<[u8; 32]>>(4)?.map(Digest::from_bytes),
            after: row.get::<_, Option<i64>>(5)?.map(time),
            before: row.get::<_, Option<i64>>(6)?.map(time),
            until: time(row.get(7)?),
            alone: row.get(8)?,
        })
    })?;
    rows.collect()
}
