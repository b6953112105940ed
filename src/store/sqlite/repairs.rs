//! Finals by the workers that they rest on, revisions, and the rows of what is verified anew.
//!
//! Whatever changes what a final rests on (its end, a confirmation, a correction) gives it a new place in one order, in the
//! transaction that changes it. So whoever looks at the finals of a worker goes on from where it was and misses nothing.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batch::Batch;
use super::dependents;
use super::reads::{self, ReadError};
use super::values::{int, run_id, run_key, split, state_of, time, uint};
use super::writer::Abort;
use crate::core::Time;
use crate::id::{RunId, WorkerId};
use crate::store::records::{self, Ending};
use crate::store::votes as cast;
use crate::store::{
    CastVote, Concluded, DueSuspect, Looked, Quarantine, Repair, Reverdict, StoredRun, SupportedFinal,
    UNDECIDED_AFTER,
};

/// Revisions of one run that are listed.
const REVISIONS_MAX: u32 = 100;

/// Workers as a run's row has them: four bytes each.
pub(super) fn join_workers(workers: impl IntoIterator<Item = WorkerId>) -> Vec<u8> {
    workers.into_iter().flat_map(|worker| worker.0.to_be_bytes()).collect()
}

pub(super) fn split_workers(bytes: &[u8]) -> impl Iterator<Item = WorkerId> + '_ {
    let (workers, _) = bytes.as_chunks::<4>();
    workers.iter().map(|bytes| WorkerId(u32::from_be_bytes(*bytes)))
}

/// Says on whom a final rests, from its place `seq` on.
pub(super) fn support(
    connection: &Connection,
    row: i64,
    seq: i64,
    supporters: &[u8],
) -> rusqlite::Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT OR REPLACE INTO supports (worker, seq, run) VALUES (?1, ?2, ?3)")?;
    for worker in split_workers(supporters) {
        insert.execute(params![worker.0, seq, row])?;
    }
    Ok(())
}

/// A final rests on nobody any more, because it goes or because others take their places.
pub(super) fn unsupport(connection: &Connection, seq: i64, supporters: &[u8]) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM supports WHERE worker = ?1 AND seq = ?2")?;
    for worker in split_workers(supporters) {
        delete.execute(params![worker.0, seq])?;
    }
    Ok(())
}

/// What goes with a run's row.
pub(super) fn forget_run(
    connection: &Connection,
    row: i64,
    seq: i64,
    supporters: &[u8],
) -> rusqlite::Result<()> {
    unsupport(connection, seq, supporters)?;
    connection.prepare_cached("DELETE FROM revisions WHERE run = ?1")?.execute(params![row])?;
    connection.prepare_cached("DELETE FROM corrections WHERE run = ?1")?.execute(params![row])?;
    Ok(())
}

/// Puts the present revision of a run aside.
pub(super) fn keep_revision(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO revisions (run, revision, state, ending, votes, reverified)
             SELECT row, revision, state, ending, votes, reverified FROM runs WHERE row = ?1",
        )?
        .execute(params![row])?;
    Ok(())
}

/// A final waits no longer: it is counted for everybody on whose account it did.
pub(super) fn settle(connection: &Connection, run: RunId, verdict: Reverdict) -> rusqlite::Result<()> {
    let workers: Vec<u32> = connection
        .prepare_cached("SELECT worker FROM suspects WHERE run = ?1")?
        .query_map(params![run_key(run)], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let column = match verdict {
        Reverdict::Confirmed => "confirmed",
        Reverdict::Corrected => "corrected",
        Reverdict::Undecided => "undecided",
        Reverdict::Nondeterministic | Reverdict::NotVerifiable => "not_verifiable",
    };
    let sql = format!("UPDATE repairs SET {column} = {column} + 1 WHERE worker = ?1");
    let mut update = connection.prepare_cached(&sql)?;
    for worker in workers {
        update.execute(params![worker])?;
    }
    connection.prepare_cached("DELETE FROM suspects WHERE run = ?1")?.execute(params![run_key(run)])?;
    Ok(())
}

/// Begins to look at the finals of a worker, from the beginning.
pub(super) fn begin(
    connection: &Connection,
    worker: WorkerId,
    quarantine: &Quarantine,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM suspects WHERE worker = ?1")?.execute(params![worker.0])?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO repairs (worker, since, why, finals)
             VALUES (?1, ?2, ?3, (SELECT count(*) FROM supports WHERE worker = ?1))",
        )?
        .execute(params![worker.0, int(quarantine.at.0), quarantine.why])?;
    Ok(())
}

/// A worker that is out already is so for another reason: what rests on it is looked at as before.
pub(super) fn go_on(connection: &Connection, worker: WorkerId, why: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE repairs SET why = ?2 WHERE worker = ?1")?
        .execute(params![worker.0, why])?;
    Ok(())
}

/// See [`crate::store::Store::lift_quarantine`].
pub(super) fn lift(batch: &mut Batch<'_>, worker: WorkerId, at: Time) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let changed = connection
        .prepare_cached(
            "UPDATE workers SET quarantined = NULL, for_votes = 0
             WHERE id = ?1 AND quarantined IS NOT NULL AND for_votes = 1",
        )?
        .execute(params![worker.0])?;
    if changed == 0 {
        return Ok(false);
    }
    connection.prepare_cached("DELETE FROM suspects WHERE worker = ?1")?.execute(params![worker.0])?;
    connection
        .prepare_cached("UPDATE repairs SET lifted_at = ?2 WHERE worker = ?1")?
        .execute(params![worker.0, int(at.0)])?;
    Ok(true)
}

/// See [`crate::store::Store::repairs`].
pub(super) fn repairs(connection: &Connection) -> rusqlite::Result<Vec<Repair>> {
    let waiting = |tries: &str| {
        format!(
            "(SELECT count(*) FROM suspects WHERE worker = repairs.worker AND tries {tries} {UNDECIDED_AFTER})"
        )
    };
    let sql = format!(
        "SELECT worker, since, why, finals, looked_at, decisive, confirmed, corrected, undecided + {}, not_verifiable,
             cursor, is_complete, lifted_at, {}, dependents
         FROM repairs ORDER BY since DESC, worker",
        waiting(">="),
        waiting("<"),
    );
    let followed = dependents::due_for(connection)?;
    connection
        .prepare_cached(&sql)?
        .query_map([], |row| {
            let figure = |at: usize| row.get(at).map(uint);
            let worker = WorkerId(row.get(0)?);
            Ok(Repair {
                is_followed: !followed.contains(&worker),
                dependents: figure(14)?,
                worker,
                since: time(row.get(1)?),
                why: row.get(2)?,
                finals: figure(3)?,
                looked_at: figure(4)?,
                decisive: figure(5)?,
                confirmed: figure(6)?,
                corrected: figure(7)?,
                undecided: figure(8)?,
                not_verifiable: figure(9)?,
                cursor: figure(10)?,
                is_complete: row.get(11)?,
                lifted_at: row.get::<_, Option<i64>>(12)?.map(time),
                pending: figure(13)?,
            })
        })?
        .collect()
}

fn decoded(row: &Row<'_>, at: usize) -> Result<Vec<CastVote>, ReadError> {
    let bytes = row.get_ref(at)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    Ok(bytes.map(cast::decode).transpose()?.unwrap_or_default())
}

/// Votes that do not decode are as good as none: the attempts name the voters.
fn decoded_or_none(row: &Row<'_>, at: usize) -> Result<Vec<CastVote>, ReadError> {
    match decoded(row, at) {
        Err(ReadError::Own(error)) => {
            tracing::warn!(%error, "votes of a final are taken as none");
            Ok(Vec::new())
        }
        votes => votes,
    }
}

/// See [`crate::store::Store::supported_finals`].
pub(super) fn supported(
    connection: &Connection,
    worker: WorkerId,
    after: u64,
    limit: u32,
) -> Result<Vec<SupportedFinal>, ReadError> {
    let columns: Vec<String> =
        reads::RUN_COLUMNS.split(", ").map(|column| format!("runs.{}", column.trim())).collect();
    let sql = format!(
        "SELECT {}, supports.seq, runs.votes, runs.confirmations FROM supports JOIN runs ON runs.row = supports.run
         WHERE supports.worker = ?1 AND supports.seq > ?2 ORDER BY supports.seq",
        columns.join(", ")
    );
    let behind = columns.len();
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![worker.0, int(after)])?;
    let mut finals = Vec::new();
    while finals.len() < limit as usize
        && let Some(row) = rows.next()?
    {
        let run = match reads::stored_run(connection, row) {
            Err(ReadError::Own(error)) => {
                // nobody can read it, whoever voted for it: the others are looked at all the same
                tracing::warn!(%error, %worker, "a final of a worker is stepped over");
                continue;
            }
            run => run?,
        };
        finals.push(SupportedFinal {
            run,
            seq: uint(row.get(behind)?),
            votes: decoded_or_none(row, behind + 1)?,
            confirmations: decoded_or_none(row, behind + 2)?,
        });
    }
    Ok(finals)
}

/// See [`crate::store::Store::put_suspects`].
pub(super) fn put(batch: &mut Batch<'_>, worker: WorkerId, looked: &Looked) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let is_wanted = connection
        .prepare_cached(
            "SELECT 1 FROM repairs WHERE worker = ?1 AND lifted_at IS NULL AND since = ?2 AND cursor = ?3",
        )?
        .exists(params![worker.0, int(looked.since.0), int(looked.after)])?;
    if !is_wanted {
        return Ok(false);
    }
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO suspects (run, worker, error_ppb, finished_at) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut decisive = 0;
    for suspect in &looked.suspects {
        let (error, at) = (int(suspect.error_ppb), int(suspect.finished_at.0));
        let new = insert.execute(params![run_key(suspect.run), worker.0, error, at])?;
        decisive += i64::from(new > 0);
    }
    connection
        .prepare_cached(
            "UPDATE repairs SET looked_at = looked_at + ?2, decisive = decisive + ?3, cursor = ?4, is_complete = ?5
             WHERE worker = ?1",
        )?
        .execute(params![worker.0, int(looked.count), decisive, int(looked.cursor), looked.is_complete])?;
    Ok(true)
}

/// See [`crate::store::Store::due_suspects`].
pub(super) fn due(batch: &mut Batch<'_>, now: Time, limit: u32) -> Result<Vec<DueSuspect>, Abort> {
    let (connection, _) = batch.rows()?;
    connection
        .prepare_cached("UPDATE suspects SET due_at = 0 WHERE due_at > 0 AND due_at <= ?1")?
        .execute(params![int(now.0)])?;
    let mut select = connection.prepare_cached(
        "SELECT run, tries, numbers FROM suspects WHERE due_at = 0
         ORDER BY error_ppb DESC, finished_at DESC, run LIMIT ?1",
    )?;
    let rows = select.query_map(params![limit], |row| {
        Ok(DueSuspect { run: run_id(row.get(0)?), tries: row.get(1)?, numbers: row.get(2)? })
    })?;
    let mut due: Vec<DueSuspect> = Vec::new();
    for suspect in rows {
        let suspect = suspect?;
        // several workers may have brought it here
        if due.iter().all(|other| other.run != suspect.run) {
            due.push(suspect);
        }
    }
    Ok(due)
}

/// See [`crate::store::Store::conclude_suspect`].
pub(super) fn conclude(batch: &mut Batch<'_>, run: RunId, concluded: &Concluded) -> Result<(), Abort> {
    let (connection, _) = batch.rows()?;
    match concluded {
        Concluded::Later { due_at } => {
            connection
                .prepare_cached("UPDATE suspects SET due_at = max(?2, 1) WHERE run = ?1")?
                .execute(params![run_key(run), int(due_at.0)])?;
        }
        Concluded::Again { due_at, numbers, found } => {
            if let Some((revision, found)) = found {
                connection
                    .prepare_cached(
                        "UPDATE runs SET reverified = ?3 WHERE id = ?1 AND state > 0 AND revision = ?2",
                    )?
                    .execute(params![run_key(run), revision, records::encode_reverification(found)])?;
            }
            connection
                .prepare_cached(
                    "UPDATE suspects SET tries = tries + 1, due_at = max(?2, 1), numbers = max(numbers, ?3)
                     WHERE run = ?1",
                )?
                .execute(params![run_key(run), int(due_at.0), numbers])?;
        }
        Concluded::Done { revision, found, confirmations } => {
            let known: Option<(i64, i64, Vec<u8>)> = connection
                .prepare_cached(
                    "SELECT row, seq, supporters FROM runs
                     WHERE id = ?1 AND state > 0 AND revision = ?2 AND seq IS NOT NULL",
                )?
                .query_row(params![run_key(run), revision], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default()))
                })
                .optional()?;
            if let Some((row, seq, supporters)) = known {
                let record = records::encode_reverification(found);
                connection
                    .prepare_cached("UPDATE runs SET reverified = ?2 WHERE row = ?1")?
                    .execute(params![row, record])?;
                if !confirmations.is_empty() {
                    confirm(batch, (row, seq), &supporters, confirmations)?;
                }
            }
            let (connection, _) = batch.rows()?;
            settle(connection, run, found.verdict)?;
        }
    }
    Ok(())
}

/// From now on a final rests on those that confirmed it too.
fn confirm(
    batch: &mut Batch<'_>,
    (row, before): (i64, i64),
    supporters: &[u8],
    confirmations: &[CastVote],
) -> rusqlite::Result<()> {
    let seq = batch.next_seq()?;
    let (connection, _) = batch.rows()?;
    unsupport(connection, before, supporters)?;
    let confirming = confirmations.iter().map(|vote| vote.worker);
    let mut workers: Vec<WorkerId> = split_workers(supporters).chain(confirming).collect();
    workers.sort_unstable();
    workers.dedup();
    let supporters = join_workers(workers);
    support(connection, row, seq, &supporters)?;
    connection
        .prepare_cached("UPDATE runs SET seq = ?2, supporters = ?3, confirmations = ?4 WHERE row = ?1")?
        .execute(params![row, seq, supporters, cast::encode(confirmations)])?;
    Ok(())
}

/// An earlier revision in the place of the present one.
fn as_it_was(run: &StoredRun, row: &Row<'_>) -> Result<StoredRun, ReadError> {
    let state = state_of(row.get(0)?)?;
    let ending = Ending::decode(run.id, row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
    let found = row.get_ref(2)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    let found = found.map(records::decode_reverification).transpose()?;
    Ok(reads::ended(StoredRun { state, ..run.clone() }, ending, found))
}

/// See [`crate::store::Store::revisions`].
pub(super) fn revisions(connection: &Connection, id: RunId) -> Result<Vec<StoredRun>, ReadError> {
    let Some(run) = reads::run(connection, id)?.filter(|run| run.state.is_final()) else {
        return Ok(Vec::new());
    };
    let mut select = connection.prepare_cached(
        "SELECT state, ending, reverified FROM revisions WHERE run = (SELECT row FROM runs WHERE id = ?1)
         ORDER BY revision LIMIT ?2",
    )?;
    let mut rows = select.query(params![run_key(id), REVISIONS_MAX])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(as_it_was(&run, row)?);
    }
    all.push(run);
    Ok(all)
}

/// See [`crate::store::Store::revision`].
pub(super) fn revision(
    connection: &Connection,
    id: RunId,
    revision: u32,
) -> Result<Option<StoredRun>, ReadError> {
    let Some(run) = reads::run(connection, id)? else { return Ok(None) };
    if run.revision == revision {
        return Ok(Some(run).filter(|run| run.state.is_final()));
    }
    let mut select = connection.prepare_cached(
        "SELECT state, ending, reverified FROM revisions
         WHERE run = (SELECT row FROM runs WHERE id = ?1) AND revision = ?2",
    )?;
    let mut rows = select.query(params![run_key(id), revision])?;
    rows.next()?.map(|row| as_it_was(&run, row)).transpose()
}

/// See [`crate::store::Store::votes`].
pub(super) fn votes(
    connection: &Connection,
    id: RunId,
    revision: u32,
) -> Result<Option<Vec<CastVote>>, ReadError> {
    let sql = "SELECT votes FROM runs WHERE id = ?1 AND revision = ?2
               UNION ALL
               SELECT votes FROM revisions WHERE run = (SELECT row FROM runs WHERE id = ?1) AND revision = ?2";
    let votes: Option<Option<Vec<u8>>> = connection
        .prepare_cached(sql)?
        .query_row(params![run_key(id), revision], |row| row.get(0))
        .optional()?;
    Ok(votes.flatten().map(|bytes| cast::decode(&bytes)).transpose()?)
}

/// See [`crate::store::Store::confirmations`].
pub(super) fn confirmations(connection: &Connection, id: RunId) -> Result<Vec<CastVote>, ReadError> {
    let mut select = connection.prepare_cached("SELECT confirmations FROM runs WHERE id = ?1")?;
    let mut rows = select.query(params![run_key(id)])?;
    Ok(rows.next()?.map(|row| decoded(row, 0)).transpose()?.unwrap_or_default())
}

/// What a correction needs of the row that it replaces.
pub(super) struct Replaced {
    pub row: i64,
    /// Everything that the run refers to already: its inputs, and the outputs of every revision.
    pub held: std::collections::BTreeSet<crate::digest::Digest>,
    pub inputs: std::collections::BTreeSet<crate::digest::Digest>,
    /// Whether another run computed its result.
    pub is_anothers: bool,
    seq: i64,
    supporters: Vec<u8>,
}

impl Replaced {
    /// The final of the revision before, unless a later owner has it (I6) or it is of another revision (I2).
    pub(super) fn find(
        connection: &Connection,
        run: RunId,
        epoch: i64,
        before: i64,
    ) -> rusqlite::Result<Option<Replaced>> {
        connection
            .prepare_cached(
                "SELECT row, inputs, outputs, seq, supporters, source IS NOT NULL FROM runs
                 WHERE id = ?1 AND state > 0 AND revision = ?2 AND epoch <= ?3 AND seq IS NOT NULL",
            )?
            .query_row(params![run_key(run), before, epoch], |row| {
                let inputs = split(row.get_ref(1)?.as_blob()?).into_iter().collect();
                let held = super::references::of_run(row.get_ref(1)?, row.get_ref(2)?)?;
                Ok(Replaced {
                    row: row.get(0)?,
                    inputs,
                    is_anothers: row.get(5)?,
                    held: held.into_iter().collect(),
                    seq: row.get(3)?,
                    supporters: row.get::<_, Option<Vec<u8>>>(4)?.unwrap_or_default(),
                })
            })
            .optional()
    }

    /// The final rests on others from now on.
    pub(super) fn give_way(&self, connection: &Connection) -> rusqlite::Result<()> {
        unsupport(connection, self.seq, &self.supporters)
    }
}
