//! Writes of everything but runs; each is one call's part of a transaction.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batch::Batch;
use super::callbacks;
use super::dependents;
use super::reads;
use super::references::{self, References, delete_blob, insert_blob};
use super::repairs;
use super::values::{int, run_id, run_key, uint};
use super::writer::Abort;
use crate::core::Time;
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkspaceId};
use crate::spec::Verify;
use crate::store::{
    BlobRow, Garbage, ModuleState, Nondeterminism, Retained, Retention, StoreError, StoredModule,
    WorkspaceSettings, WriteAnswer,
};

/// See [`crate::store::Store::adopt_open_runs`].
pub(super) fn adopt_open_runs(batch: &mut Batch<'_>) -> Result<Epoch, Abort> {
    let (connection, _) = batch.rows()?;
    let known: i64 = connection.query_row("SELECT value FROM epoch", [], |row| row.get(0))?;
    let used: Option<i64> =
        connection.query_row("SELECT max(epoch) FROM runs WHERE state = 0", [], |row| row.get(0))?;
    let epoch = known.max(used.unwrap_or(0)) + 1;
    connection.execute("UPDATE epoch SET value = ?1", params![epoch])?;
    connection.execute("UPDATE runs SET epoch = ?1 WHERE state = 0", params![epoch])?;
    Ok(Epoch(uint(epoch)))
}

/// See [`crate::store::Store::put_module`].
pub(super) fn put_module(batch: &mut Batch<'_>, module: &StoredModule) -> Result<bool, Abort> {
    let (connection, references) = batch.rows()?;
    let is_there = connection
        .prepare_cached("SELECT 1 FROM modules WHERE digest = ?1")?
        .exists(params![module.digest.as_bytes()])?;
    if is_there {
        return Ok(false);
    }
    if !references.exists(module.digest)? {
        return Err(Abort::Own(StoreError::MissingBlob(module.digest)));
    }
    references.hold(module.digest, None)?;
    let (code, text) = module.refusal.as_ref().map(|(code, text)| (code, text)).unzip();
    connection
        .prepare_cached(
            "INSERT INTO modules (digest, size, name, state, analysis, refusal_code, refusal_text, quarantined,
                 created_at, verify, nondeterministic_run, nondeterministic_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            module.digest.as_bytes(),
            int(module.size),
            module.name,
            reads::module_state_name(module.state),
            module.analysis,
            code,
            text,
            module.quarantined,
            int(module.created_at.0),
            module.verify.map(|verify| verify.to_string()),
            module.nondeterministic.map(|found| run_key(found.run)),
            module.nondeterministic.map(|found| int(found.at.0)),
        ])?;
    Ok(true)
}

/// See [`crate::store::Store::set_module_verify`].
pub(super) fn set_module_verify(
    batch: &mut Batch<'_>,
    digest: Digest,
    verify: Option<Verify>,
) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let changed = connection
        .prepare_cached("UPDATE modules SET verify = ?2 WHERE digest = ?1")?
        .execute(params![digest.as_bytes(), verify.map(|verify| verify.to_string())])?;
    Ok(changed > 0)
}

/// See [`crate::store::Store::blame_module`].
pub(super) fn blame_module(
    batch: &mut Batch<'_>,
    digest: Digest,
    found: Nondeterminism,
) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let changed = connection
        .prepare_cached(
            "UPDATE modules SET nondeterministic_run = ?2, nondeterministic_at = ?3
             WHERE digest = ?1 AND nondeterministic_at IS NULL",
        )?
        .execute(params![digest.as_bytes(), run_key(found.run), int(found.at.0)])?;
    Ok(changed > 0)
}

/// See [`crate::store::Store::readmit_module`].
pub(super) fn readmit_module(batch: &mut Batch<'_>, digest: Digest) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let changed = connection
        .prepare_cached(
            "UPDATE modules SET quarantined = NULL, nondeterministic_run = NULL, nondeterministic_at = NULL
             WHERE digest = ?1",
        )?
        .execute(params![digest.as_bytes()])?;
    Ok(changed > 0)
}

/// See [`crate::store::Store::put_workspace`].
pub(super) fn put_workspace(
    batch: &mut Batch<'_>,
    workspace: WorkspaceId,
    settings: WorkspaceSettings,
) -> Result<(), Abort> {
    let (connection, _) = batch.rows()?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO workspaces (id, verify) VALUES (?1, ?2)")?
        .execute(params![workspace.0, settings.verify.map(|verify| verify.to_string())])?;
    Ok(())
}

/// See [`crate::store::Store::decide_module`].
pub(super) fn decide_module(
    batch: &mut Batch<'_>,
    digest: Digest,
    state: ModuleState,
    refusal: Option<(String, String)>,
) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let (code, text) = refusal.unzip();
    let [ready, refused] = [ModuleState::Ready, ModuleState::Refused].map(reads::module_state_name);
    let changed = connection
        .prepare_cached(
            "UPDATE modules SET state = ?2, refusal_code = ?3, refusal_text = ?4
             WHERE digest = ?1 AND state NOT IN (?5, ?6)",
        )?
        .execute(params![digest.as_bytes(), reads::module_state_name(state), code, text, ready, refused])?;
    Ok(changed > 0)
}

/// See [`crate::store::Store::quarantine_module`].
pub(super) fn quarantine_module(batch: &mut Batch<'_>, digest: Digest, why: &str) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let changed = connection
        .prepare_cached("UPDATE modules SET quarantined = ?2 WHERE digest = ?1")?
        .execute(params![digest.as_bytes(), why])?;
    Ok(changed > 0)
}

/// See [`crate::store::Store::delete_module`].
pub(super) fn delete_module(batch: &mut Batch<'_>, digest: Digest) -> Result<WriteAnswer, Abort> {
    let (connection, references) = batch.rows()?;
    // The named index holds the open runs only; the planner might prefer all runs of the module.
    let used = connection
        .prepare_cached("SELECT 1 FROM runs INDEXED BY runs_open WHERE state = 0 AND module = ?1 LIMIT 1")?
        .exists(params![digest.as_bytes()])?;
    if used {
        return Ok(WriteAnswer::Refused);
    }
    let deleted = connection
        .prepare_cached("DELETE FROM modules WHERE digest = ?1")?
        .execute(params![digest.as_bytes()])?;
    if deleted > 0 {
        references.release(digest);
    }
    Ok(WriteAnswer::Committed)
}

/// See [`crate::store::Store::put_blob`].
pub(super) fn put_blob(
    batch: &mut Batch<'_>,
    digest: Digest,
    row: &BlobRow,
    pin_until: Time,
) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    if pin(connection, digest, pin_until)? {
        return Ok(true);
    }
    insert_blob(connection, digest, row.size, row.inline.as_ref(), 0, int(pin_until.0))?;
    Ok(false)
}

/// See [`crate::store::Store::pin_blob`].
pub(super) fn pin_blob(batch: &mut Batch<'_>, digest: Digest, until: Time) -> Result<Option<BlobRow>, Abort> {
    let (connection, _) = batch.rows()?;
    if !pin(connection, digest, until)? {
        return Ok(None);
    }
    Ok(reads::blob(connection, digest)?)
}

/// See [`crate::store::Store::pin_blobs`].
pub(super) fn pin_blobs(
    batch: &mut Batch<'_>,
    digests: &[Digest],
    until: Time,
) -> Result<Option<Digest>, Abort> {
    let (connection, _) = batch.rows()?;
    for digest in digests {
        if !pin(connection, *digest, until)? {
            return Ok(Some(*digest));
        }
    }
    Ok(None)
}

fn pin(connection: &Connection, digest: Digest, until: Time) -> rusqlite::Result<bool> {
    let pinned = connection
        .prepare_cached("UPDATE blobs SET pinned_until = max(pinned_until, ?2) WHERE digest = ?1")?
        .execute(params![digest.as_bytes(), int(until.0)])?;
    Ok(pinned > 0)
}

/// See [`crate::store::Store::take_garbage`].
pub(super) fn take_garbage(batch: &mut Batch<'_>, now: Time, limit: u32) -> Result<Garbage, Abort> {
    let (connection, _) = batch.rows()?;
    let mut select = connection.prepare_cached(
        "SELECT digest, size, bytes_row FROM blobs WHERE refs = 0 AND pinned_until <= ?1
         ORDER BY pinned_until LIMIT ?2",
    )?;
    let rows = select.query_map(params![int(now.0), limit], |row| {
        Ok((Digest::from_bytes(row.get(0)?), row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?))
    })?;
    let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    let mut garbage = Garbage::default();
    for (digest, size, bytes_row) in rows {
        delete_blob(connection, digest, bytes_row)?;
        garbage.taken += 1;
        garbage.bytes += uint(size);
        if bytes_row.is_none() {
            garbage.files.push(digest);
        }
    }
    Ok(garbage)
}

/// See [`crate::store::Store::retain`]. How many are too many is known from their number, which is kept, so that no step
/// looks at more rows than it deletes or holds, and one; one that is held is never looked at again.
pub(super) fn retain(batch: &mut Batch<'_>, retention: Retention) -> Result<Retained, Abort> {
    let (connection, references) = batch.rows()?;
    let finals = connection.prepare_cached("SELECT finals FROM counts")?.query_row([], |row| row.get(0))?;
    let beyond = uint(finals).saturating_sub(retention.runs_max);
    let sql = format!(
        "SELECT finished_at, {LEAVING} FROM runs WHERE finished_at IS NOT NULL AND held IS NULL
         ORDER BY finished_at, row LIMIT ?1"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let before = int(retention.finished_before.0);
    let mut due = Vec::new();
    let mut rows = select.query(params![retention.batch_max])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? >= before && due.len() as u64 >= beyond {
            break;
        }
        due.push(Leaving::of(row)?);
    }
    drop(rows);
    let uncounted = due.len();
    let mut hold = connection.prepare_cached("UPDATE runs SET held = 1 WHERE row = ?1")?;
    let mut held = connection
        .prepare_cached(&format!("SELECT NULL, {LEAVING} FROM runs WHERE row = ?1 AND held = 1"))?;
    let mut gone = Vec::new();
    for run in due {
        if dependents::has_any(connection, run.row)? {
            hold.execute(params![run.row])?;
            continue;
        }
        let source = run.source;
        gone.push(run.leave(connection, references)?);
        // the last one that had its result
        if let Some(source) = source
            && !dependents::has_any(connection, source)?
            && let Some(run) = held.query_row(params![source], Leaving::of).optional()?
        {
            gone.push(run.leave(connection, references)?);
        }
    }
    batch.went(uncounted);
    Ok(Retained { gone, looked_at: u32::try_from(uncounted).unwrap_or(u32::MAX) })
}

/// What is read of a run that goes, behind one other column.
const LEAVING: &str = "row, inputs, outputs, seq, supporters, id, source";

/// A final that goes.
struct Leaving {
    row: i64,
    id: RunId,
    refers: Vec<Digest>,
    seq: i64,
    supporters: Vec<u8>,
    source: Option<i64>,
}

impl Leaving {
    fn of(row: &Row<'_>) -> rusqlite::Result<Leaving> {
        Ok(Leaving {
            row: row.get(1)?,
            refers: references::of_run(row.get_ref(2)?, row.get_ref(3)?)?,
            seq: row.get::<_, Option<i64>>(4)?.unwrap_or(0),
            supporters: row.get::<_, Option<Vec<u8>>>(5)?.unwrap_or_default(),
            id: run_id(row.get(6)?),
            source: row.get(7)?,
        })
    }

    fn leave(self, connection: &Connection, references: &mut References<'_>) -> rusqlite::Result<RunId> {
        self.refers.iter().for_each(|digest| references.release(*digest));
        repairs::forget_run(connection, self.row, self.seq, &self.supporters)?;
        connection.prepare_cached("DELETE FROM runs WHERE row = ?1")?.execute(params![self.row])?;
        callbacks::forget(connection, self.row)?;
        Ok(self.id)
    }
}

/// Sets every miscounted reference right and answers whose they were.
pub(super) fn repair_references(batch: &mut Batch<'_>) -> Result<Vec<Digest>, Abort> {
    let (connection, _) = batch.rows()?;
    let differing = references::miscounted(connection)?;
    for (digest, count) in &differing {
        references::set_count(connection, *digest, *count)?;
    }
    Ok(differing.into_iter().map(|(digest, _)| digest).collect())
}

/// See [`crate::store::Store::init_meta`].
pub(super) fn init_meta(batch: &mut Batch<'_>, name: &str, value: &[u8]) -> Result<Vec<u8>, Abort> {
    let (connection, _) = batch.rows()?;
    connection
        .prepare_cached("INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")?
        .execute(params![name, value])?;
    let stored = reads::meta(connection, name).optional()?.flatten();
    Ok(stored.unwrap_or_else(|| value.to_vec()))
}

/// See [`crate::store::Store::put_meta`].
pub(super) fn put_meta(batch: &mut Batch<'_>, name: &str, value: &[u8]) -> Result<(), Abort> {
    let (connection, _) = batch.rows()?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])?;
    Ok(())
}
