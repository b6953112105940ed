//! One transaction as it grows: conditional writes of runs, and the way in for all others.
//!
//! Invariants: a refused write has changed nothing (everything is checked before anything is changed), a run is
//! changed only under its owner's epoch and never after its final (I6, I7, I8). Insertions are held back until the end
//! of the transaction, or until somebody must see their rows: a run that finishes meanwhile is written once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::references::References;
use super::values::{int, join, run_id, run_key, split, state_code};
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkspaceId};
use crate::store::records::{self, Ending, Request};
use crate::store::votes;
use crate::store::{FinalRun, NewRun, RunWrite, Source, WriteAnswer};

/// A [`RunWrite`] with its parts encoded, which its caller does: the writer is the one thing that all share.
pub(super) enum PreparedWrite {
    Insert(Box<InsertRow>),
    Attempt { run: RunId, epoch: Epoch, number: u32, record: Vec<u8>, explain: Vec<u8> },
    Finish(Box<FinishRow>),
}

pub(super) struct InsertRow {
    id: RunId,
    workspace: WorkspaceId,
    epoch: Epoch,
    module: Digest,
    created_at: i64,
    idempotency: Option<(String, Digest)>,
    request: Vec<u8>,
    /// Everything that the run refers to, the empty blob excepted.
    inputs: BTreeSet<Digest>,
    blobs: HashMap<Digest, Bytes>,
}

pub(super) struct FinishRow {
    run: RunId,
    epoch: Epoch,
    state: i64,
    finished_at: i64,
    ending: Vec<u8>,
    votes: Vec<u8>,
    source: Option<RunId>,
    reusable: bool,
    /// Everything that the final refers to, the empty blob excepted.
    refers: BTreeSet<Digest>,
    blobs: HashMap<Digest, Bytes>,
}

impl PreparedWrite {
    pub(super) fn of(write: &RunWrite) -> PreparedWrite {
        match write {
            RunWrite::Insert(run) => PreparedWrite::Insert(Box::new(InsertRow::of(run))),
            RunWrite::Attempt { run, epoch, record, explain } => PreparedWrite::Attempt {
                run: *run,
                epoch: *epoch,
                number: record.number,
                record: records::encode_attempt(record),
                explain: records::encode_explain(explain),
            },
            RunWrite::Finish(run) => PreparedWrite::Finish(Box::new(FinishRow::of(run))),
        }
    }
}

impl InsertRow {
    fn of(run: &NewRun) -> InsertRow {
        let given = run.blobs.iter().map(|(digest, _)| *digest);
        InsertRow {
            id: run.id,
            workspace: run.workspace,
            epoch: run.epoch,
            module: run.spec.module,
            created_at: int(run.created_at.0),
            request: Request::encode(run),
            inputs: run.spec.inputs().chain(given).filter(|digest| *digest != Digest::EMPTY).collect(),
            idempotency: run.idempotency.clone(),
            blobs: run.blobs.iter().cloned().collect(),
        }
    }
}

impl FinishRow {
    fn of(run: &FinalRun) -> FinishRow {
        let manifest = run.manifest.iter().flat_map(|manifest| {
            let outputs = manifest.outputs().map(|output| output.digest);
            run.record.result.into_iter().chain(outputs)
        });
        let dissents = run.dissents.iter().map(|(_, digest)| *digest);
        let given = run.blobs.iter().map(|(digest, _)| *digest);
        let refers = manifest.chain(dissents).chain(given);
        FinishRow {
            run: run.record.run,
            epoch: run.record.epoch,
            state: state_code(run.record.state),
            finished_at: int(run.record.finished_at.0),
            ending: Ending::encode(run),
            votes: votes::encode(&run.votes),
            source: run.source.map(Source::run),
            reusable: run.reusable,
            refers: refers.filter(|digest| *digest != Digest::EMPTY).collect(),
            blobs: run.blobs.iter().cloned().collect(),
        }
    }
}

/// An insertion that is answered but not yet a row.
struct PendingRun {
    row: Box<InsertRow>,
    attempts: BTreeMap<u32, Vec<u8>>,
    explain: Option<Vec<u8>>,
}

/// The open transaction.
pub(super) struct Batch<'c> {
    connection: &'c Connection,
    references: References<'c>,
    /// By id, so that rows are made in the order of submission.
    pending: BTreeMap<RunId, PendingRun>,
    /// Idempotency keys of `pending`.
    keys: HashMap<(WorkspaceId, String), (RunId, Digest)>,
}

impl<'c> Batch<'c> {
    pub(super) fn new(connection: &'c Connection) -> Batch<'c> {
        let references = References::new(connection);
        Batch { connection, references, pending: BTreeMap::new(), keys: HashMap::new() }
    }

    /// For writes that read other rows: everything before them is a row now.
    pub(super) fn rows(&mut self) -> rusqlite::Result<(&'c Connection, &mut References<'c>)> {
        self.flush()?;
        Ok((self.connection, &mut self.references))
    }

    /// Makes rows of what was held back.
    pub(super) fn flush(&mut self) -> rusqlite::Result<()> {
        self.keys.clear();
        for run in std::mem::take(&mut self.pending).into_values() {
            self.insert_row(&run, None)?;
            let row = self.connection.last_insert_rowid();
            for (number, record) in &run.attempts {
                self.put_attempt(row, *number, record)?;
            }
        }
        self.references.flush()
    }

    /// Applies one write of a run.
    pub(super) fn write_run(&mut self, write: PreparedWrite) -> rusqlite::Result<WriteAnswer> {
        match write {
            PreparedWrite::Insert(run) => self.insert(run),
            PreparedWrite::Attempt { run, epoch, number, record, explain } => {
                self.attempt(run, epoch, number, record, explain)
            }
            PreparedWrite::Finish(run) => self.finish(&run),
        }
    }

    fn insert(&mut self, run: Box<InsertRow>) -> rusqlite::Result<WriteAnswer> {
        if self.pending.contains_key(&run.id) || self.is_stored(run.id)? {
            return Ok(WriteAnswer::Refused);
        }
        if let Some((key, payload)) = &run.idempotency
            && let Some((owner, first_payload)) = self.key_owner(run.workspace, key)?
        {
            return Ok(WriteAnswer::Duplicate { run: owner, same_payload: first_payload == *payload });
        }
        if let Some(missing) = self.first_missing(&run.inputs, &run.blobs)? {
            return Ok(WriteAnswer::MissingBlob(missing));
        }
        for digest in &run.inputs {
            self.references.hold(*digest, run.blobs.get(digest))?;
        }
        if let Some((key, payload)) = &run.idempotency {
            self.keys.insert((run.workspace, key.clone()), (run.id, *payload));
        }
        let pending = PendingRun { attempts: BTreeMap::new(), explain: None, row: run };
        self.pending.insert(pending.row.id, pending);
        Ok(WriteAnswer::Committed)
    }

    fn attempt(
        &mut self,
        run: RunId,
        epoch: Epoch,
        number: u32,
        record: Vec<u8>,
        explain: Vec<u8>,
    ) -> rusqlite::Result<WriteAnswer> {
        if let Some(pending) = self.pending.get_mut(&run) {
            if pending.row.epoch != epoch {
                return Ok(WriteAnswer::Refused);
            }
            pending.attempts.insert(number, record);
            pending.explain = Some(explain);
            return Ok(WriteAnswer::Committed);
        }
        let Some((row, _)) = self.owned(run, epoch)? else {
            return Ok(WriteAnswer::Refused);
        };
        self.put_attempt(row, number, &record)?;
        self.connection
            .prepare_cached("UPDATE runs SET explain = ?2 WHERE row = ?1")?
            .execute(params![row, explain])?;
        Ok(WriteAnswer::Committed)
    }

    fn finish(&mut self, run: &FinishRow) -> rusqlite::Result<WriteAnswer> {
        if run.state == 0 {
            return Ok(WriteAnswer::Refused);
        }
        let (row, inputs) = match self.pending.get(&run.run) {
            Some(pending) if pending.row.epoch == run.epoch => (None, pending.row.inputs.clone()),
            Some(_) => return Ok(WriteAnswer::Refused),
            None => match self.owned(run.run, run.epoch)? {
                Some((row, inputs)) => (Some(row), inputs),
                None => return Ok(WriteAnswer::Refused),
            },
        };
        // What the run holds already it does not hold twice.
        let outputs: BTreeSet<Digest> = run.refers.difference(&inputs).copied().collect();
        if let Some(missing) = self.first_missing(&outputs, &run.blobs)? {
            return Ok(WriteAnswer::MissingBlob(missing));
        }
        for digest in &outputs {
            self.references.hold(*digest, run.blobs.get(digest))?;
        }
        let outputs = join(&outputs);
        match row {
            Some(row) => self.update_row(row, run, &outputs)?,
            None => {
                if let Some(pending) = self.pending.remove(&run.run) {
                    self.insert_row(&pending, Some((run, &outputs)))?;
                }
            }
        }
        Ok(WriteAnswer::Committed)
    }

    fn is_stored(&self, id: RunId) -> rusqlite::Result<bool> {
        self.connection.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?.exists(params![run_key(id)])
    }

    fn key_owner(&self, workspace: WorkspaceId, key: &str) -> rusqlite::Result<Option<(RunId, Digest)>> {
        if let Some(owner) = self.keys.get(&(workspace, key.to_owned())) {
            return Ok(Some(*owner));
        }
        key_owner(self.connection, workspace, key)
    }

    fn first_missing(
        &mut self,
        refers: &BTreeSet<Digest>,
        given: &HashMap<Digest, Bytes>,
    ) -> rusqlite::Result<Option<Digest>> {
        for digest in refers {
            if !given.contains_key(digest) && !self.references.exists(*digest)? {
                return Ok(Some(*digest));
            }
        }
        Ok(None)
    }

    /// The condition of every change: the epoch owns the run and it is not final. Checked and changed in one
    /// transaction of the only writer, so nothing comes between.
    fn owned(&self, run: RunId, epoch: Epoch) -> rusqlite::Result<Option<(i64, BTreeSet<Digest>)>> {
        self.connection
            .prepare_cached("SELECT row, inputs FROM runs WHERE id = ?1 AND epoch = ?2 AND state = 0")?
            .query_row(params![run_key(run), int(epoch.0)], |row| {
                Ok((row.get(0)?, split(row.get_ref(1)?.as_blob()?).into_iter().collect()))
            })
            .optional()
    }

    fn put_attempt(&self, row: i64, number: u32, record: &[u8]) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO attempts (run, number, record) VALUES (?1, ?2, ?3)")?
            .execute(params![row, number, record])?;
        Ok(())
    }

    fn insert_row(&self, run: &PendingRun, ended: Option<(&FinishRow, &Vec<u8>)>) -> rusqlite::Result<()> {
        let PendingRun { row, explain, .. } = run;
        let (key, payload) = row.idempotency.as_ref().map(|(key, payload)| (key, payload.as_bytes())).unzip();
        self.connection
            .prepare_cached(
                "INSERT INTO runs (id, workspace, epoch, state, module, created_at, finished_at, idempotency_key,
                     fingerprint, inputs, outputs, request, ending, explain, votes, source, reusable)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            )?
            .execute(params![
                run_key(row.id),
                row.workspace.0,
                int(row.epoch.0),
                ended.map_or(0, |(end, _)| end.state),
                row.module.as_bytes(),
                row.created_at,
                ended.map(|(end, _)| end.finished_at),
                key,
                payload,
                join(&row.inputs),
                ended.map(|(_, outputs)| outputs),
                row.request,
                ended.map(|(end, _)| &end.ending),
                // A final run has its explain log in its ending.
                explain.as_ref().filter(|_| ended.is_none()),
                ended.map(|(end, _)| &end.votes),
                ended.and_then(|(end, _)| end.source).map(run_key),
                ended.and_then(|(end, _)| end.reusable.then_some(1)),
            ])?;
        Ok(())
    }

    fn update_row(&self, row: i64, run: &FinishRow, outputs: &[u8]) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE runs SET state = ?2, finished_at = ?3, outputs = ?4, ending = ?5, votes = ?6, explain = NULL,
                     source = ?7, reusable = ?8 WHERE row = ?1",
            )?
            .execute(params![
                row,
                run.state,
                run.finished_at,
                outputs,
                run.ending,
                run.votes,
                run.source.map(run_key),
                run.reusable.then_some(1)
            ])?;
        self.connection.prepare_cached("DELETE FROM attempts WHERE run = ?1")?.execute(params![row])?;
        Ok(())
    }
}

/// The run that an idempotency key belongs to, with the digest of its payload.
pub(super) fn key_owner(
    connection: &Connection,
    workspace: WorkspaceId,
    key: &str,
) -> rusqlite::Result<Option<(RunId, Digest)>> {
    connection
        .prepare_cached("SELECT id, fingerprint FROM runs WHERE workspace = ?1 AND idempotency_key = ?2")?
        .query_row(params![workspace.0, key], |row| {
            Ok((run_id(row.get(0)?), Digest::from_bytes(row.get(1)?)))
        })
        .optional()
}
