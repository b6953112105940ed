//! Queries. Each runs in a read transaction of its own, so what it answers was true at one instant.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::values::{epoch, run_id, run_key, state_of, time, uint};
use super::writer::Abort;
use crate::core::Time;
use crate::digest::Digest;
use crate::id::{RunId, WorkspaceId};
use crate::spec::Verify;
use crate::store::records::{self, Ending, Request};
use crate::store::{
    BlobRow, ModuleState, Nondeterminism, Reverification, StoreError, StoredModule, StoredRun, Usage,
    WorkspaceSettings,
};

/// Why a query has no answer.
pub(super) enum ReadError {
    /// SQLite said so.
    Sql(rusqlite::Error),
    /// A row does not decode.
    Own(StoreError),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> ReadError {
        ReadError::Sql(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> ReadError {
        ReadError::Own(error)
    }
}

/// A read within a write.
pub(super) fn own_or_sql(error: ReadError) -> Abort {
    match error {
        ReadError::Sql(error) => Abort::Sql(error),
        ReadError::Own(error) => Abort::Own(error),
    }
}

pub(super) const RUN_COLUMNS: &str =
    "row, id, workspace, epoch, state, created_at, finished_at, request, ending, explain, reverified";

pub(super) fn stored_run(connection: &Connection, row: &Row<'_>) -> Result<StoredRun, ReadError> {
    let id = run_id(row.get(1)?);
    let request = Request::decode(row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?)?;
    let state = state_of(row.get(4)?)?;
    let mut run = StoredRun {
        id,
        workspace: WorkspaceId(row.get(2)?),
        epoch: epoch(row.get(3)?),
        state,
        reason: None,
        spec: request.spec,
        run_key: request.run_key,
        policy: request.policy,
        revision: 0,
        outcome: None,
        verdict: Default::default(),
        result: None,
        manifest: None,
        attempts: Vec::new(),
        explain: Arc::default(),
        dissents: Vec::new(),
        rerun_of: request.rerun_of,
        created_at: time(row.get(5)?),
        finished_at: row.get::<_, Option<i64>>(6)?.map(time),
        source: None,
        corrected_at: None,
        verification: None,
    };
    if !state.is_final() {
        run.attempts = attempts(connection, row.get(0)?)?;
        if let Some(explain) = row.get_ref(9)?.as_blob_or_null().map_err(rusqlite::Error::from)? {
            run.explain = records::decode_explain(explain)?;
        }
        return Ok(run);
    }
    let ending = Ending::decode(id, row.get_ref(8)?.as_blob().map_err(rusqlite::Error::from)?)?;
    let found = row.get_ref(10)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    Ok(ended(run, ending, found.map(records::decode_reverification).transpose()?))
}

/// A run with how it ended. What verifying it anew decided follows what was decided before.
pub(super) fn ended(run: StoredRun, ending: Ending, found: Option<Reverification>) -> StoredRun {
    let mut explain = ending.explain;
    if let Some(found) = found.as_ref().filter(|found| !found.explain.is_empty()) {
        Arc::make_mut(&mut explain).extend(found.explain.iter().cloned());
    }
    StoredRun {
        corrected_at: ending.corrected_at,
        verification: found,
        reason: ending.reason,
        revision: ending.revision,
        outcome: ending.outcome,
        verdict: ending.verdict,
        result: ending.result,
        manifest: ending.manifest,
        attempts: ending.attempts,
        explain,
        dissents: ending.dissents,
        source: ending.source,
        ..run
    }
}

fn attempts(connection: &Connection, run: i64) -> Result<Vec<crate::core::AttemptRecord>, ReadError> {
    let mut select =
        connection.prepare_cached("SELECT record FROM attempts WHERE run = ?1 ORDER BY number")?;
    let mut rows = select.query(params![run])?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        let record = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        attempts.push(records::decode_attempt(record)?);
    }
    Ok(attempts)
}

fn select_runs(
    connection: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<StoredRun>, ReadError> {
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(values)?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push(stored_run(connection, row)?);
    }
    Ok(runs)
}

/// See [`crate::store::Store::run`].
pub(super) fn run(connection: &Connection, id: RunId) -> Result<Option<StoredRun>, ReadError> {
    let sql = format!("SELECT {RUN_COLUMNS} FROM runs WHERE id = ?1");
    Ok(select_runs(connection, &sql, &[&run_key(id)])?.pop())
}

/// See [`crate::store::Store::open_runs`].
pub(super) fn open_runs(
    connection: &Connection,
    cursor: Option<RunId>,
    limit: u32,
) -> Result<Vec<StoredRun>, ReadError> {
    let sql = format!(
        "SELECT {RUN_COLUMNS} FROM runs INDEXED BY runs_open WHERE state = 0 AND id > ?1 ORDER BY id LIMIT ?2"
    );
    match cursor {
        Some(cursor) => select_runs(connection, &sql, &[&run_key(cursor), &limit]),
        // Any blob is greater than the empty one.
        None => select_runs(connection, &sql, &[&[0_u8; 0].as_slice(), &limit]),
    }
}

/// The name that the state column uses.
pub(super) fn module_state_name(state: ModuleState) -> &'static str {
    match state {
        ModuleState::Analysed => "analysed",
        ModuleState::Compiling => "compiling",
        ModuleState::Ready => "ready",
        ModuleState::Refused => "refused",
    }
}

const MODULE_COLUMNS: &str =
    "digest, size, name, state, analysis, refusal_code, refusal_text, quarantined, created_at, verify,
     nondeterministic_run, nondeterministic_at";

fn verify_of(row: &Row<'_>, column: usize) -> Result<Option<Verify>, ReadError> {
    let verify = row.get::<_, Option<String>>(column)?.map(|text| text.parse::<Verify>()).transpose();
    let refuse = |why: String| StoreError::Decode { what: "policy of a module or workspace", why };
    Ok(verify.map_err(|error| refuse(error.to_string()))?)
}

fn stored_module(row: &Row<'_>) -> Result<StoredModule, ReadError> {
    let name: String = row.get(3)?;
    let states = [ModuleState::Analysed, ModuleState::Compiling, ModuleState::Ready, ModuleState::Refused];
    let state = states.into_iter().find(|state| module_state_name(*state) == name);
    let unknown = || StoreError::Decode { what: "module state", why: format!("`{name}` is not known") };
    let found = row.get::<_, Option<[u8; 16]>>(10)?.zip(row.get::<_, Option<i64>>(11)?);
    let code: Option<String> = row.get(5)?;
    let text: Option<String> = row.get(6)?;
    Ok(StoredModule {
        digest: Digest::from_bytes(row.get(0)?),
        size: uint(row.get(1)?),
        name: row.get(2)?,
        state: state.ok_or_else(unknown)?,
        analysis: row.get(4)?,
        refusal: code.zip(text),
        quarantined: row.get(7)?,
        created_at: time(row.get(8)?),
        verify: verify_of(row, 9)?,
        nondeterministic: found.map(|(run, at)| Nondeterminism { run: run_id(run), at: time(at) }),
    })
}

/// See [`crate::store::Store::module`].
pub(super) fn module(connection: &Connection, digest: Digest) -> Result<Option<StoredModule>, ReadError> {
    let sql = format!("SELECT {MODULE_COLUMNS} FROM modules WHERE digest = ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![digest.as_bytes()])?;
    rows.next()?.map(stored_module).transpose()
}

/// See [`crate::store::Store::nondeterministic_modules`].
pub(super) fn nondeterministic_modules(connection: &Connection) -> rusqlite::Result<Vec<Digest>> {
    connection
        .prepare_cached("SELECT digest FROM modules WHERE nondeterministic_at IS NOT NULL ORDER BY digest")?
        .query_map([], |row| Ok(Digest::from_bytes(row.get(0)?)))?
        .collect()
}

/// See [`crate::store::Store::workspace`].
pub(super) fn workspace(connection: &Connection, id: WorkspaceId) -> Result<WorkspaceSettings, ReadError> {
    let mut select = connection.prepare_cached("SELECT verify FROM workspaces WHERE id = ?1")?;
    let mut rows = select.query(params![id.0])?;
    let Some(row) = rows.next()? else { return Ok(WorkspaceSettings::default()) };
    Ok(WorkspaceSettings { verify: verify_of(row, 0)? })
}

/// The analysis as lists show it: without what makes it long, if it is. The bound is in bytes or characters.
const LISTED_ANALYSIS: &str = "CASE WHEN length(analysis) <= 65536 THEN analysis WHEN json_valid(analysis)
    THEN json_replace(analysis, '$.imports', json('[]'), '$.exports', json('[]')) END";

/// See [`crate::store::Store::modules`]. A cursor that is gone ends the list.
pub(super) fn modules(
    connection: &Connection,
    cursor: Option<Digest>,
    limit: u32,
) -> Result<Vec<StoredModule>, ReadError> {
    let columns = MODULE_COLUMNS.replace("analysis", LISTED_ANALYSIS);
    let sql = format!(
        "SELECT {columns} FROM modules
         WHERE ?1 IS NULL OR (created_at, digest) < (SELECT created_at, digest FROM modules WHERE digest = ?1)
         ORDER BY created_at DESC, digest DESC LIMIT ?2"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![cursor.as_ref().map(Digest::as_bytes), limit])?;
    let mut modules = Vec::new();
    while let Some(row) = rows.next()? {
        modules.push(stored_module(row)?);
    }
    Ok(modules)
}

/// See [`crate::store::Store::blob`].
pub(super) fn blob(connection: &Connection, digest: Digest) -> rusqlite::Result<Option<BlobRow>> {
    connection
        .prepare_cached(
            "SELECT size, bytes FROM blobs LEFT JOIN blob_bytes ON blob_bytes.row = bytes_row
             WHERE digest = ?1",
        )?
        .query_row(params![digest.as_bytes()], |row| {
            let inline: Option<Vec<u8>> = row.get(1)?;
            Ok(BlobRow { size: uint(row.get(0)?), inline: inline.map(Into::into) })
        })
        .optional()
}

/// See [`crate::store::Store::missing_blob`].
pub(super) fn missing_blob(connection: &Connection, digests: &[Digest]) -> rusqlite::Result<Option<Digest>> {
    let mut there = connection.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?;
    for digest in digests {
        if !there.exists(params![digest.as_bytes()])? {
            return Ok(Some(*digest));
        }
    }
    Ok(None)
}

/// See [`crate::store::Store::meta`].
pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row(params![name], |row| row.get(0))
        .optional()
}

/// See [`crate::store::Store::newest_instant`].
pub(super) fn newest_instant(connection: &Connection) -> rusqlite::Result<Time> {
    let instant = |sql: &'static str| -> rusqlite::Result<i64> {
        Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
    };
    let submitted = instant("SELECT created_at FROM runs ORDER BY id DESC LIMIT 1")?;
    let ended = instant(
        // one that is held ended no later than those that have its result
        "SELECT finished_at FROM runs WHERE finished_at IS NOT NULL AND held IS NULL
         ORDER BY finished_at DESC LIMIT 1",
    )?;
    Ok(Time(uint(submitted.max(ended))))
}

/// See [`crate::store::Store::usage`].
pub(super) fn usage(connection: &Connection) -> rusqlite::Result<Usage> {
    let count = |sql: &'static str| -> rusqlite::Result<u64> {
        Ok(uint(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?))
    };
    Ok(Usage {
        runs: count("SELECT count(*) FROM runs")?,
        runs_open: count("SELECT count(*) FROM runs WHERE state = 0")?,
        modules: count("SELECT count(*) FROM modules")?,
        blobs: count("SELECT count(*) FROM blobs")?,
        blob_bytes: count("SELECT coalesce(sum(size), 0) FROM blobs")?,
        garbage_bytes: count("SELECT coalesce(sum(size), 0) FROM blobs WHERE refs = 0")?,
    })
}
