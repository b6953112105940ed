//! The evidence log: appended, read newest first, trimmed from its old end; and what the whole of it says of a worker, which is
//! folded in the transaction that appends.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batch::Batch;
use super::values::{int, run_id, run_key, time, uint};
use super::writer::Abort;
use crate::class::Portable;
use crate::core::{LAPSES_MAX, Lapse, Standing, Time};
use crate::digest::Digest;
use crate::id::{AttemptId, Class, RunId, WorkerId};
use crate::store::{Evidence, EvidenceRetention, kind};

/// See [`crate::store::Store::append_evidence`].
pub(super) fn append(batch: &mut Batch<'_>, evidence: &[Evidence]) -> Result<(), Abort> {
    let (connection, _) = batch.rows()?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO evidence (worker, class, kind, run, number, result, at, count)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for seen in evidence {
        insert.execute(params![
            seen.worker.0,
            seen.class.as_bytes(),
            seen.kind,
            seen.attempt.map(|attempt| run_key(attempt.run)).as_ref().map_or(&[][..], |key| &key[..]),
            seen.attempt.map_or(0, |attempt| attempt.number),
            seen.result.as_ref().map(Digest::as_bytes),
            int(seen.at.0),
            seen.count,
        ])?;
        if let Some(entry) = seen.integrity() {
            let (mut known, mut portable) = standing(connection, seen.worker, seen.class)?;
            if seen.portable.is_some() && portable != seen.portable {
                if portable.is_some() {
                    known = known.unproven();
                }
                portable = seen.portable;
            }
            let after = known.with(seen.at, seen.attempt.map(|attempt| attempt.run), entry);
            put_standing(connection, (seen.worker, seen.class, portable), after)?;
        }
    }
    Ok(())
}

fn standing(
    connection: &Connection,
    worker: WorkerId,
    class: Digest,
) -> rusqlite::Result<(Standing, Option<Portable>)> {
    let known = connection
        .prepare_cached(
            "SELECT k_milli, suspect_since, day, lapses, has_more, results, code FROM standings
             WHERE worker = ?1 AND class = ?2",
        )?
        .query_row(params![worker.0, class.as_bytes()], |row| {
            Ok((stored_standing(row, 0)?, stored_portable(row, 5)?))
        })
        .optional()?;
    Ok(known.unwrap_or_default())
}

/// A standing, its columns from `at` on.
fn stored_standing(row: &Row<'_>, at: usize) -> rusqlite::Result<Standing> {
    Ok(Standing {
        k_milli: uint(row.get(at)?),
        suspect_since: row.get(at + 1)?,
        day: row.get(at + 2)?,
        lapses: split_lapses(&row.get::<_, Option<Vec<u8>>>(at + 3)?.unwrap_or_default()),
        has_more: row.get(at + 4)?,
    })
}

fn stored_portable(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Portable>> {
    let (results, code) = (row.get::<_, Option<[u8; 32]>>(at)?, row.get::<_, Option<[u8; 32]>>(at + 1)?);
    let class = |bytes| Class(Digest::from_bytes(bytes));
    Ok(results.zip(code).map(|(results, code)| Portable { results: class(results), code: class(code) }))
}

/// Bytes of a lapse: run, whether it is lone (1) and had one before it (2), the two days, confirmations.
const LAPSE_BYTES: usize = 16 + 1 + 4 + 4 + 8;

fn join_lapses(standing: &Standing) -> Vec<u8> {
    let mut bytes = Vec::new();
    for lapse in standing.lapses.iter().flatten() {
        bytes.extend(lapse.run.0.to_be_bytes());
        bytes.push(u8::from(lapse.is_lone) | u8::from(lapse.suspect_before.is_some()) << 1);
        bytes.extend(lapse.day.to_be_bytes());
        bytes.extend(lapse.suspect_before.unwrap_or(0).to_be_bytes());
        bytes.extend(lapse.k_milli.to_be_bytes());
    }
    bytes
}

fn split_lapses(bytes: &[u8]) -> [Option<Lapse>; LAPSES_MAX] {
    let mut lapses = [None; LAPSES_MAX];
    let (all, _) = bytes.as_chunks::<LAPSE_BYTES>();
    for (place, bytes) in lapses.iter_mut().zip(all) {
        let (mut run, mut day, mut before, mut k_milli) = ([0; 16], [0; 4], [0; 4], [0; 8]);
        run.copy_from_slice(&bytes[..16]);
        day.copy_from_slice(&bytes[17..21]);
        before.copy_from_slice(&bytes[21..25]);
        k_milli.copy_from_slice(&bytes[25..]);
        *place = Some(Lapse {
            run: RunId(u128::from_be_bytes(run)),
            is_lone: bytes[16] & 1 > 0,
            day: u32::from_be_bytes(day),
            k_milli: u64::from_be_bytes(k_milli),
            suspect_before: (bytes[16] & 2 > 0).then_some(u32::from_be_bytes(before)),
        });
    }
    lapses
}

fn put_standing(
    connection: &Connection,
    (worker, class, portable): (WorkerId, Digest, Option<Portable>),
    standing: Standing,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO standings
                 (worker, class, k_milli, suspect_since, day, lapses, has_more, results, code)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            worker.0,
            class.as_bytes(),
            int(standing.k_milli),
            standing.suspect_since,
            standing.day,
            join_lapses(&standing),
            standing.has_more,
            portable.as_ref().map(|portable| portable.results.0.as_bytes()),
            portable.as_ref().map(|portable| portable.code.0.as_bytes()),
        ])?;
    Ok(())
}

/// Standings of a worker by class, and with which classes for portable results they were earned.
type Standings = (BTreeMap<Digest, Standing>, BTreeMap<Digest, Portable>);

/// What the evidence of every worker says.
pub(super) fn standings(connection: &Connection) -> rusqlite::Result<BTreeMap<u32, Standings>> {
    let mut select = connection.prepare_cached(
        "SELECT worker, class, k_milli, suspect_since, day, lapses, has_more, results, code FROM standings",
    )?;
    let mut rows = select.query([])?;
    let mut all = BTreeMap::<u32, Standings>::new();
    while let Some(row) = rows.next()? {
        let class = Digest::from_bytes(row.get(1)?);
        let (standings, proven_as) = all.entry(row.get(0)?).or_default();
        standings.insert(class, stored_standing(row, 2)?);
        if let Some(portable) = stored_portable(row, 7)? {
            proven_as.insert(class, portable);
        }
    }
    Ok(all)
}

/// Nothing is left of what a worker has shown, and its log says so, once for each class in which it had shown something; one
/// that had not gets a line in the class of its latest session.
pub(super) fn begin_anew(connection: &Connection, worker: WorkerId, at: Time) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO evidence (worker, class, kind, run, number, result, at, count)
             SELECT ?1, class, ?2, x'', 0, NULL, ?3, 1 FROM (
                 SELECT class FROM standings WHERE worker = ?1
                 UNION SELECT class FROM workers WHERE id = ?1 AND class IS NOT NULL)",
        )?
        .execute(params![worker.0, kind::READMITTED, int(at.0)])?;
    connection.prepare_cached("DELETE FROM standings WHERE worker = ?1")?.execute(params![worker.0])?;
    Ok(())
}

/// See [`crate::store::Store::evidence`].
pub(super) fn page(
    connection: &Connection,
    worker: WorkerId,
    before: Option<u64>,
    limit: u32,
) -> rusqlite::Result<Vec<(u64, Evidence)>> {
    connection
        .prepare_cached(
            "SELECT row, class, kind, run, number, result, at, count FROM evidence WHERE worker = ?1 AND row < ?2
             ORDER BY row DESC LIMIT ?3",
        )?
        .query_map(params![worker.0, int(before.unwrap_or(u64::MAX)), limit], |row| {
            let seen = Evidence {
                worker,
                class: Digest::from_bytes(row.get(1)?),
                portable: None,
                kind: row.get(2)?,
                attempt: match row.get_ref(3)?.as_blob()? {
                    [] => None,
                    _ => Some(AttemptId { run: run_id(row.get(3)?), number: row.get(4)? }),
                },
                result: row.get::<_, Option<[u8; 32]>>(5)?.map(Digest::from_bytes),
                at: time(row.get(6)?),
                count: row.get(7)?,
            };
            Ok((uint(row.get(0)?), seen))
        })?
        .collect()
}

/// See [`crate::store::Store::evidence_counts`].
pub(super) fn counts(connection: &Connection, worker: WorkerId) -> rusqlite::Result<Vec<(String, u64)>> {
    connection
        .prepare_cached(
            "SELECT kind, sum(count) FROM evidence WHERE worker = ?1 GROUP BY kind ORDER BY kind",
        )?
        .query_map(params![worker.0], |row| Ok((row.get(0)?, uint(row.get(1)?))))?
        .collect()
}

/// Where the log of one worker is cut.
pub(super) struct Cut {
    worker: u32,
    /// Up to this row everything goes.
    up_to: i64,
}

/// The worker that comes next in the log.
const NEXT_WORKER: &str = "SELECT min(worker) FROM evidence WHERE worker > ?1";
/// The newest row that is beyond the newest so many; rows begin at 1.
const BEYOND: &str = "SELECT row FROM evidence WHERE worker = ?1 ORDER BY row DESC LIMIT 1 OFFSET ?2";
/// The oldest rows that may go.
const OLDEST: &str =
    "SELECT row, at FROM evidence WHERE worker = ?1 AND row > ?2 AND row <= ?3 ORDER BY row LIMIT ?4";
/// Deletes from the old end.
const DELETE: &str = "DELETE FROM evidence WHERE row IN (
    SELECT row FROM evidence WHERE worker = ?1 AND row <= ?2 ORDER BY row LIMIT ?3)";

/// The logs that have something to give up. What is read of each is what goes, and index entries of the newest rows, of which
/// the retention bounds how many stay.
pub(super) fn cuts(connection: &Connection, retention: EvidenceRetention) -> rusqlite::Result<Vec<Cut>> {
    let mut next = connection.prepare_cached(NEXT_WORKER)?;
    let mut beyond = connection.prepare_cached(BEYOND)?;
    let mut oldest = connection.prepare_cached(OLDEST)?;
    let mut place = |worker: u32, newest: u64| -> rusqlite::Result<i64> {
        Ok(beyond.query_row(params![worker, int(newest)], |row| row.get(0)).optional()?.unwrap_or(0))
    };
    let mut cuts = Vec::new();
    let mut before = -1_i64;
    while let Some(worker) = next.query_row([before], |row| row.get::<_, Option<u32>>(0))? {
        before = worker.into();
        let old_up_to = place(worker, retention.newest)?;
        if old_up_to == 0 {
            continue;
        }
        let mut up_to = place(worker, retention.most.max(retention.newest))?;
        // times grow with the rows, so what is old ends at the first that is not
        let mut rows = oldest.query(params![worker, up_to, old_up_to, retention.batch_max])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? >= int(retention.since.0) {
                break;
            }
            up_to = row.get(0)?;
        }
        if up_to > 0 {
            cuts.push(Cut { worker, up_to });
        }
    }
    Ok(cuts)
}

/// See [`crate::store::Store::trim_evidence`]. The cuts were read before; what was appended since only makes them too
/// careful.
pub(super) fn trim(batch: &mut Batch<'_>, retention: EvidenceRetention, cuts: &[Cut]) -> Result<u32, Abort> {
    let (connection, _) = batch.rows()?;
    let mut delete = connection.prepare_cached(DELETE)?;
    let mut gone = 0;
    for cut in cuts {
        let left = retention.batch_max.saturating_sub(gone);
        if left == 0 {
            break;
        }
        let count = delete.execute(params![cut.worker, cut.up_to, left])?;
        gone += u32::try_from(count).unwrap_or(u32::MAX);
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::super::schema::{NEWEST, migrate_to};
    use super::*;

    #[test]
    fn what_stays_is_not_read_to_find_what_goes() {
        const OLD: u32 = 10;
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, 0, NEWEST).unwrap();
        let transaction = connection.transaction().unwrap();
        for row in 1..=20_000_u32 {
            let line = "INSERT INTO evidence (worker, class, kind, run, number, at) VALUES (?1, x'', '', x'', 0, ?2)";
            // of the first one most is young
            let at = if row <= 2 * OLD { 1 } else { 1_000 };
            transaction.execute(line, params![row % 2, at]).unwrap();
        }
        transaction.commit().unwrap();
        let retention = EvidenceRetention { newest: 100, since: Time(500), most: 9_995, batch_max: 1_000 };
        let cuts = cuts(&connection, retention).unwrap();
        let ends: Vec<_> = cuts.iter().map(|cut| (cut.worker, cut.up_to)).collect();
        assert_eq!(ends, [(0, 20), (1, 19)]);
        let steps = |sql: &str, run: &dyn Fn(&mut rusqlite::Statement<'_>)| {
            let mut statement = connection.prepare(sql).unwrap();
            run(&mut statement);
            statement.get_status(StatementStatus::VmStep)
        };
        let read = steps(NEXT_WORKER, &|next| {
            next.query_row([0], |row| row.get::<_, u32>(0)).unwrap();
        });
        let deleted = steps(DELETE, &|delete| {
            assert_eq!(delete.execute(params![1, 19, 1_000]).unwrap(), OLD as usize);
        });
        assert!(read < 50 && deleted < 1_000, "{read} and {deleted} steps beside 20,000 rows");
    }
}
