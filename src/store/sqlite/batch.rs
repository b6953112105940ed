//! One transaction as it grows: conditional writes of runs, and the way in for all others.
//!
//! Invariants: a refused write has changed nothing (everything is checked before anything is changed), a run is
//! changed only under its owner's epoch and never after its final (I6, I7, I8). Insertions are held back until the end
//! of the transaction, or until somebody must see their rows: a run that finishes meanwhile is written once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::callbacks::{self, NewDelivery};
use super::dependents;
use super::references::References;
use super::repairs::{self, Replaced, join_workers};
use super::values::{int, join, run_id, run_key, split, state_code};
use crate::core::AttemptState;
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkerId, WorkspaceId};
use crate::store::records::{self, Ending, Request};
use crate::store::votes;
use crate::store::{FinalRun, NewRun, Reverdict, RunWrite, Source, WriteAnswer};

/// A [`RunWrite`] with its parts encoded, which its caller does: the writer is the one thing that all share.
pub(super) enum PreparedWrite {
    Insert(Box<InsertRow>),
    Attempt { run: RunId, epoch: Epoch, number: u32, record: Vec<u8>, explain: Vec<u8> },
    Finish(Box<FinishRow>),
    Correct(Box<FinishRow>),
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
    /// Whose result it is, if not its own.
    source: Option<RunId>,
    /// Its result, if it has one.
    result: Option<Digest>,
    /// Whether it was answered from the cache: its insertion stands and falls with it.
    is_hit: bool,
    reusable: bool,
    /// Whose votes were for what won.
    supporters: Vec<u8>,
    revision: i64,
    /// Everything that the final refers to, the empty blob excepted.
    refers: BTreeSet<Digest>,
    blobs: HashMap<Digest, Bytes>,
    callback: Option<NewDelivery>,
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
            RunWrite::Correct(run) => PreparedWrite::Correct(Box::new(FinishRow::of(run))),
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
    pub(super) fn of(run: &FinalRun) -> FinishRow {
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
            result: run.record.result,
            is_hit: matches!(run.source, Some(Source::Cached(_))),
            reusable: run.reusable,
            supporters: join_workers(supporters(run)),
            revision: i64::from(run.record.revision),
            refers: refers.filter(|digest| *digest != Digest::EMPTY).collect(),
            blobs: run.blobs.iter().cloned().collect(),
            callback: NewDelivery::of(run),
        }
    }
}

/// Whose votes were for what won.
fn supporters(run: &FinalRun) -> BTreeSet<WorkerId> {
    let has_result = run.record.result.is_some();
    let attempts = run.record.attempts.iter().filter(|_| has_result);
    let won = attempts.filter(|it| matches!(it.state, AttemptState::Voted { won: Some(true), .. }));
    won.map(|attempt| attempt.worker).collect()
}

/// A final as it becomes a row.
struct End<'a> {
    run: &'a FinishRow,
    seq: i64,
    outputs: Vec<u8>,
    /// The row of the run that computed its result, if that is another one.
    source: Option<i64>,
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
    /// The last place that was given in the order of what finals rest on, if any was.
    seq: Option<i64>,
    /// Finals that came, less those that went, since their number was last written.
    finals: i64,
}

impl<'c> Batch<'c> {
    pub(super) fn new(connection: &'c Connection) -> Batch<'c> {
        let references = References::new(connection);
        Batch { connection, references, pending: BTreeMap::new(), keys: HashMap::new(), seq: None, finals: 0 }
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
        if let Some(seq) = self.seq {
            self.connection.prepare_cached("UPDATE sequence SET value = ?1")?.execute(params![seq])?;
        }
        let finals = std::mem::take(&mut self.finals);
        if finals != 0 {
            self.connection
                .prepare_cached("UPDATE counts SET finals = finals + ?1")?
                .execute(params![finals])?;
        }
        self.references.flush()
    }

    /// So many finals were deleted.
    pub(super) fn went(&mut self, finals: usize) {
        self.finals -= finals as i64;
    }

    /// The next place in the order in which what finals rest on changes.
    pub(super) fn next_seq(&mut self) -> rusqlite::Result<i64> {
        let last = match self.seq {
            Some(seq) => seq,
            None => self
                .connection
                .prepare_cached("SELECT value FROM sequence")?
                .query_row([], |row| row.get(0))?,
        };
        self.seq = Some(last + 1);
        Ok(last + 1)
    }

    /// Applies one write of a run.
    pub(super) fn write_run(&mut self, write: PreparedWrite) -> rusqlite::Result<WriteAnswer> {
        match write {
            PreparedWrite::Insert(run) => self.insert(run),
            PreparedWrite::Attempt { run, epoch, number, record, explain } => {
                self.attempt(run, epoch, number, record, explain)
            }
            PreparedWrite::Finish(run) => self.finish(&run),
            PreparedWrite::Correct(run) => self.correct(&run),
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
        let source = match run.source {
            Some(source) => dependents::row_of(self.connection, source)?,
            None => None,
        };
        // What the run holds already it does not hold twice.
        let outputs: BTreeSet<Digest> = run.refers.difference(&inputs).copied().collect();
        let missing = match run.result {
            // the votes for it are nowhere
            Some(result) if run.source.is_some() && source.is_none() => Some(result),
            _ => self.first_missing(&outputs, &run.blobs)?,
        };
        if let Some(missing) = missing {
            if run.is_hit {
                self.take_back(run.run, row, &inputs)?;
            }
            return Ok(WriteAnswer::MissingBlob(missing));
        }
        for digest in &outputs {
            self.references.hold(*digest, run.blobs.get(digest))?;
        }
        let end = End { run, seq: self.next_seq()?, outputs: join(&outputs), source };
        let row = match row {
            Some(row) => {
                self.update_row(row, &end)?;
                row
            }
            None => {
                let Some(pending) = self.pending.remove(&run.run) else { return Ok(WriteAnswer::Refused) };
                self.insert_row(&pending, Some(&end))?;
                self.connection.last_insert_rowid()
            }
        };
        self.finals += 1;
        repairs::support(self.connection, row, end.seq, &run.supporters)?;
        callbacks::put(self.connection, row, run.callback.as_ref())?;
        dependents::joined(self.connection, row, source)?;
        Ok(WriteAnswer::Committed)
    }

    /// An insertion was for nothing.
    fn take_back(&mut self, run: RunId, row: Option<i64>, inputs: &BTreeSet<Digest>) -> rusqlite::Result<()> {
        inputs.iter().for_each(|digest| self.references.release(*digest));
        if let Some(row) = row {
            self.connection.prepare_cached("DELETE FROM runs WHERE row = ?1")?.execute(params![row])?;
            self.connection.prepare_cached("DELETE FROM attempts WHERE run = ?1")?.execute(params![row])?;
        } else if let Some(pending) = self.pending.remove(&run)
            && let Some((key, _)) = pending.row.idempotency
        {
            self.keys.remove(&(pending.row.workspace, key));
        }
        Ok(())
    }

    /// A final was wrong.
    fn correct(&mut self, run: &FinishRow) -> rusqlite::Result<WriteAnswer> {
        match self.replace(run)? {
            Ok(row) => {
                dependents::begin(self.connection, row, run.run)?;
                repairs::settle(self.connection, run.run, Reverdict::Corrected)?;
                Ok(WriteAnswer::Committed)
            }
            Err(refused) => Ok(refused),
        }
    }

    /// Puts the next revision in the place of a final, and gives its row or why not. What the one before refers to stays
    /// referred to.
    pub(super) fn replace(&mut self, run: &FinishRow) -> rusqlite::Result<Result<i64, WriteAnswer>> {
        let known = match run.state {
            0 => None,
            _ => Replaced::find(self.connection, run.run, int(run.epoch.0), run.revision - 1)?,
        };
        // what another run computed is corrected along with that one, and only so
        let known = known.filter(|known| known.is_anothers == run.source.is_some());
        let Some(known) = known else { return Ok(Err(WriteAnswer::Refused)) };
        let new: BTreeSet<Digest> = run.refers.difference(&known.held).copied().collect();
        if let Some(missing) = self.first_missing(&new, &run.blobs)? {
            return Ok(Err(WriteAnswer::MissingBlob(missing)));
        }
        for digest in &new {
            self.references.hold(*digest, run.blobs.get(digest))?;
        }
        let outputs: BTreeSet<Digest> =
            known.held.union(&new).filter(|digest| !known.inputs.contains(*digest)).copied().collect();
        let seq = self.next_seq()?;
        repairs::keep_revision(self.connection, known.row)?;
        known.give_way(self.connection)?;
        self.connection
            .prepare_cached(
                "UPDATE runs SET epoch = ?2, state = ?3, revision = ?4, outputs = ?5, ending = ?6, votes = ?7,
                     seq = ?8, supporters = ?9, reverified = NULL, confirmations = NULL, reusable = NULL
                 WHERE row = ?1",
            )?
            .execute(params![
                known.row,
                int(run.epoch.0),
                run.state,
                run.revision,
                join(&outputs),
                run.ending,
                run.votes,
                seq,
                run.supporters,
            ])?;
        repairs::support(self.connection, known.row, seq, &run.supporters)?;
        callbacks::put(self.connection, known.row, run.callback.as_ref())?;
        Ok(Ok(known.row))
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

    fn insert_row(&self, run: &PendingRun, end: Option<&End<'_>>) -> rusqlite::Result<()> {
        let PendingRun { row, explain, .. } = run;
        let (key, payload) = row.idempotency.as_ref().map(|(key, payload)| (key, payload.as_bytes())).unzip();
        let last = end.map(|end| end.run);
        self.connection
            .prepare_cached(
                "INSERT INTO runs (id, workspace, epoch, state, module, created_at, finished_at, idempotency_key,
                     fingerprint, inputs, outputs, request, ending, explain, votes, seq, supporters, reusable, source)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
            )?
            .execute(params![
                run_key(row.id),
                row.workspace.0,
                int(row.epoch.0),
                last.map_or(0, |last| last.state),
                row.module.as_bytes(),
                row.created_at,
                last.map(|last| last.finished_at),
                key,
                payload,
                join(&row.inputs),
                end.map(|end| &end.outputs),
                row.request,
                last.map(|last| &last.ending),
                // A final run has its explain log in its ending.
                explain.as_ref().filter(|_| end.is_none()),
                last.map(|last| &last.votes),
                end.map(|end| end.seq),
                last.map(|last| &last.supporters),
                last.and_then(|last| last.reusable.then_some(1)),
                end.and_then(|end| end.source),
            ])?;
        Ok(())
    }

    fn update_row(&self, row: i64, end: &End<'_>) -> rusqlite::Result<()> {
        let End { run, seq, outputs, source } = end;
        self.connection
            .prepare_cached(
                "UPDATE runs SET state = ?2, finished_at = ?3, outputs = ?4, ending = ?5, votes = ?6, explain = NULL,
                     seq = ?7, supporters = ?8, reusable = ?9, source = ?10
                 WHERE row = ?1",
            )?
            .execute(params![
                row,
                run.state,
                run.finished_at,
                outputs,
                run.ending,
                run.votes,
                seq,
                run.supporters,
                run.reusable.then_some(1),
                source,
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
