//! Rows of those who take part: tokens, and workers with their sessions. Reads and writes.
//!
//! Notes of use and of hearing never go backwards, so that their order does not matter.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batch::Batch;
use super::evidence;
use super::reads::{self, ReadError};
use super::repairs;
use super::values::{int, time};
use super::writer::Abort;
use crate::core::Time;
use crate::digest::Digest;
use crate::id::{WorkerId, WorkspaceId};
use crate::store::{Enrolment, Quarantine, StoreError, TokenRow, WorkerFacts, WorkerRow, WorkerSession};

const TOKEN_COLUMNS: &str = "id, hash, name, workspace, scopes, created_at, expires_at, domain, last_used_at, \
                             owned, arbiter";

fn stored_token(row: &Row<'_>) -> Result<TokenRow, ReadError> {
    let scopes = row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?;
    let scopes = serde_json::from_str(scopes)
        .map_err(|error| StoreError::Decode { what: "token's scopes", why: error.to_string() })?;
    Ok(TokenRow {
        id: row.get(0)?,
        hash: Digest::from_bytes(row.get(1)?),
        name: row.get(2)?,
        workspace: WorkspaceId(row.get(3)?),
        scopes,
        created_at: time(row.get(5)?),
        expires_at: row.get::<_, Option<i64>>(6)?.map(time),
        domain: row.get(7)?,
        last_used_at: row.get::<_, Option<i64>>(8)?.map(time),
        owned: row.get(9)?,
        arbiter: row.get(10)?,
    })
}

/// See [`crate::store::Store::token`].
pub(super) fn token(connection: &Connection, hash: Digest) -> Result<Option<TokenRow>, ReadError> {
    let sql = format!("SELECT {TOKEN_COLUMNS} FROM tokens WHERE hash = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![hash.as_bytes()])?;
    rows.next()?.map(stored_token).transpose()
}

/// See [`crate::store::Store::tokens`].
pub(super) fn tokens(connection: &Connection) -> Result<Vec<TokenRow>, ReadError> {
    let sql = format!("SELECT {TOKEN_COLUMNS} FROM tokens ORDER BY id");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([])?;
    let mut tokens = Vec::new();
    while let Some(row) = rows.next()? {
        tokens.push(stored_token(row)?);
    }
    Ok(tokens)
}

/// See [`crate::store::Store::put_token`].
pub(super) fn put_token(batch: &mut Batch<'_>, token: &TokenRow) -> Result<TokenRow, Abort> {
    let (connection, _) = batch.rows()?;
    let scopes = serde_json::to_string(&token.scopes).expect("a list of texts is always JSON");
    connection
        .prepare_cached(
            "INSERT INTO tokens (hash, name, workspace, scopes, created_at, expires_at, domain, last_used_at, owned,
                 arbiter)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (hash) DO NOTHING",
        )?
        .execute(params![
            token.hash.as_bytes(),
            token.name,
            token.workspace.0,
            scopes,
            int(token.created_at.0),
            token.expires_at.map(|at| int(at.0)),
            token.domain,
            token.last_used_at.map(|at| int(at.0)),
            token.owned,
            token.arbiter,
        ])?;
    let stored = self::token(connection, token.hash).map_err(reads::own_or_sql)?;
    stored.ok_or(Abort::Sql(rusqlite::Error::QueryReturnedNoRows))
}

/// See [`crate::store::Store::delete_token`].
pub(super) fn delete_token(batch: &mut Batch<'_>, id: u32) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    Ok(connection.prepare_cached("DELETE FROM tokens WHERE id = ?1")?.execute(params![id])? > 0)
}

/// See [`crate::store::Store::note_tokens_used`].
pub(super) fn note_tokens_used(batch: &mut Batch<'_>, used: &[(u32, Time)]) -> Result<(), Abort> {
    let (connection, _) = batch.rows()?;
    let mut update = connection.prepare_cached(
        "UPDATE tokens SET last_used_at = ?2 WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)",
    )?;
    for (id, at) in used {
        update.execute(params![id, int(at.0)])?;
    }
    Ok(())
}

const WORKER_COLUMNS: &str = "id, key, name, domain, embedded, enrolled_by, quarantined, created_at, \
                              labels, class, version, slots, connected_at, left_at, seen_at, owned, arbiter, for_votes";

fn stored_worker(row: &Row<'_>) -> Result<WorkerRow, ReadError> {
    Ok(WorkerRow {
        id: WorkerId(row.get(0)?),
        key: row.get(1)?,
        name: row.get(2)?,
        domain: row.get(3)?,
        embedded: row.get(4)?,
        enrolled_by: row.get(5)?,
        quarantined: row.get(6)?,
        created_at: time(row.get(7)?),
        session: stored_session(row)?,
        owned: row.get(15)?,
        arbiter: row.get(16)?,
        for_votes: row.get(17)?,
        standings: BTreeMap::new(),
        proven_as: BTreeMap::new(),
    })
}

fn stored_session(row: &Row<'_>) -> Result<Option<WorkerSession>, ReadError> {
    let Some(connected_at) = row.get::<_, Option<i64>>(12)? else { return Ok(None) };
    let labels = row.get_ref(8)?.as_str().map_err(rusqlite::Error::from)?;
    let labels: BTreeMap<String, String> = serde_json::from_str(labels)
        .map_err(|error| StoreError::Decode { what: "worker's labels", why: error.to_string() })?;
    let facts = WorkerFacts {
        labels,
        class: Digest::from_bytes(row.get(9)?),
        version: row.get(10)?,
        slots: row.get(11)?,
    };
    Ok(Some(WorkerSession {
        facts,
        connected_at: time(connected_at),
        left_at: row.get::<_, Option<i64>>(13)?.map(time),
        seen_at: time(row.get(14)?),
    }))
}

/// See [`crate::store::Store::workers`].
pub(super) fn workers(connection: &Connection) -> Result<Vec<WorkerRow>, ReadError> {
    let sql = format!("SELECT {WORKER_COLUMNS} FROM workers ORDER BY id");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([])?;
    let mut workers = Vec::new();
    let mut standings = evidence::standings(connection)?;
    while let Some(row) = rows.next()? {
        let mut worker = stored_worker(row)?;
        (worker.standings, worker.proven_as) = standings.remove(&worker.id.0).unwrap_or_default();
        workers.push(worker);
    }
    Ok(workers)
}

/// See [`crate::store::Store::enrol_worker`].
pub(super) fn enrol_worker(batch: &mut Batch<'_>, enrolment: &Enrolment) -> Result<WorkerRow, Abort> {
    let (connection, _) = batch.rows()?;
    connection
        .prepare_cached(
            "INSERT INTO workers (key, name, domain, embedded, enrolled_by, created_at, owned, arbiter)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (key)
             DO UPDATE SET owned = ?7, arbiter = ?8 WHERE embedded = 1 AND excluded.embedded = 1",
        )?
        .execute(params![
            enrolment.key,
            enrolment.name,
            enrolment.domain,
            enrolment.embedded,
            enrolment.token,
            int(enrolment.at.0),
            enrolment.owned,
            enrolment.arbiter,
        ])?;
    let sql = format!("SELECT {WORKER_COLUMNS} FROM workers WHERE key = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![enrolment.key])?;
    let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let mut worker = stored_worker(row).map_err(reads::own_or_sql)?;
    (worker.standings, worker.proven_as) =
        evidence::standings(connection)?.remove(&worker.id.0).unwrap_or_default();
    Ok(worker)
}

/// See [`crate::store::Store::begin_session`].
pub(super) fn begin_session(
    batch: &mut Batch<'_>,
    id: WorkerId,
    facts: &WorkerFacts,
    at: Time,
) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let labels = serde_json::to_string(&facts.labels).expect("a map of texts is always JSON");
    let changed = connection
        .prepare_cached(
            "UPDATE workers SET labels = ?2, class = ?3, version = ?4, slots = ?5, connected_at = ?6, left_at = NULL,
                 seen_at = ?6
             WHERE id = ?1",
        )?
        .execute(params![id.0, labels, facts.class.as_bytes(), facts.version, facts.slots, int(at.0)])?;
    Ok(changed > 0)
}

/// See [`crate::store::Store::end_session`].
pub(super) fn end_session(
    batch: &mut Batch<'_>,
    id: WorkerId,
    connected_at: Time,
    at: Time,
) -> Result<(), Abort> {
    let (connection, _) = batch.rows()?;
    connection
        .prepare_cached(
            "UPDATE workers SET left_at = ?3, seen_at = max(seen_at, ?3)
             WHERE id = ?1 AND connected_at = ?2 AND left_at IS NULL",
        )?
        .execute(params![id.0, int(connected_at.0), int(at.0)])?;
    Ok(())
}

/// See [`crate::store::Store::note_workers_seen`].
pub(super) fn note_workers_seen(batch: &mut Batch<'_>, seen: &[(WorkerId, Time)]) -> Result<(), Abort> {
    let (connection, _) = batch.rows()?;
    // a comparison with NULL is no truth: a worker without a session stays as it is
    let mut update =
        connection.prepare_cached("UPDATE workers SET seen_at = ?2 WHERE id = ?1 AND seen_at < ?2")?;
    for (id, at) in seen {
        update.execute(params![id.0, int(at.0)])?;
    }
    Ok(())
}

/// See [`crate::store::Store::forget_worker`].
pub(super) fn forget_worker(batch: &mut Batch<'_>, id: WorkerId) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    Ok(connection.prepare_cached("DELETE FROM workers WHERE id = ?1")?.execute(params![id.0])? > 0)
}

/// See [`crate::store::Store::quarantine_worker`].
pub(super) fn quarantine_worker(
    batch: &mut Batch<'_>,
    id: WorkerId,
    quarantine: Option<&Quarantine>,
    at: Time,
) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    // for its votes, or by an operator's word
    let was_out: Option<bool> = connection
        .prepare_cached("SELECT for_votes FROM workers WHERE id = ?1 AND quarantined IS NOT NULL")?
        .query_row(params![id.0], |row| row.get(0))
        .optional()?;
    if was_out == Some(false) && quarantine.is_some_and(|quarantine| quarantine.for_votes) {
        // what the pool found out, and wrote down behind other things, does not stand over what an operator has said since
        return Ok(true);
    }
    let changed = connection
        .prepare_cached("UPDATE workers SET quarantined = ?2, for_votes = ?3 WHERE id = ?1")?
        .execute(params![
            id.0,
            quarantine.map(|quarantine| &quarantine.why),
            quarantine.is_some_and(|quarantine| quarantine.for_votes),
        ])?;
    match quarantine {
        Some(quarantine) if was_out.is_some() => repairs::go_on(connection, id, &quarantine.why)?,
        Some(quarantine) if changed > 0 => repairs::begin(connection, id, quarantine)?,
        None if was_out.is_some() => evidence::begin_anew(connection, id, at)?,
        _ => {}
    }
    Ok(changed > 0)
}
