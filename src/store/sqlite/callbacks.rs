//! The outbox: a row per revision that somebody wants to be told of.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batch::Batch;
use super::values::{int, run_id, run_key, time, uint};
use super::writer::Abort;
use crate::core::Time;
use crate::id::RunId;
use crate::store::{CallbackId, Delivery, DeliveryState, DueCallbacks, FinalRun, SkippedCallbacks, Tried};

/// A delivery as it is made.
pub(super) struct NewDelivery {
    revision: u32,
    url: std::sync::Arc<str>,
    receiver: String,
    at: i64,
}

impl NewDelivery {
    /// The one of this final, if somebody wants to be told of it.
    pub(super) fn of(run: &FinalRun) -> Option<NewDelivery> {
        let callback = run.callback.as_ref()?;
        Some(NewDelivery {
            revision: run.record.revision,
            url: std::sync::Arc::clone(&callback.url),
            receiver: receiver(&callback.url).to_owned(),
            at: int(run.record.finished_at.0),
        })
    }
}

/// Host and port: what stands between `//` and the next `/`, `?` or `#`. URLs are checked where runs are submitted.
fn receiver(url: &str) -> &str {
    let rest = url.split_once("//").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// Makes a delivery in the transaction of its final, or of the correction that is in its place now.
pub(super) fn put(connection: &Connection, run: i64, delivery: Option<&NewDelivery>) -> rusqlite::Result<()> {
    let Some(delivery) = delivery else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO callbacks (run, revision, url, receiver, created_at, since, next_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?5)",
        )?
        .execute(params![run, delivery.revision, delivery.url, delivery.receiver, delivery.at])?;
    Ok(())
}

/// The run of this row is deleted.
pub(super) fn forget(connection: &Connection, run: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM callbacks WHERE run = ?1")?.execute(params![run])?;
    Ok(())
}

const COLUMNS: &str = "runs.id, callbacks.revision, callbacks.url, callbacks.receiver, callbacks.state,
    callbacks.created_at, callbacks.since, callbacks.tries, callbacks.last_at, callbacks.last_status,
    callbacks.last_error, callbacks.next_at";

fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: CallbackId { run: run_id(row.get(0)?), revision: row.get(1)? },
        url: row.get(2)?,
        receiver: row.get(3)?,
        state: match row.get::<_, i64>(4)? {
            0 => DeliveryState::Pending,
            1 => DeliveryState::Delivered,
            _ => DeliveryState::GivenUp,
        },
        created_at: time(row.get(5)?),
        since: time(row.get(6)?),
        tries: row.get(7)?,
        last_at: row.get::<_, Option<i64>>(8)?.map(time),
        last_status: row.get(9)?,
        last_error: row.get(10)?,
        next_at: row.get::<_, Option<i64>>(11)?.map(time),
    })
}

/// See [`crate::store::Store::due_callbacks`].
pub(super) fn due(
    connection: &Connection,
    now: Time,
    skip: &SkippedCallbacks,
    limit: u32,
) -> rusqlite::Result<DueCallbacks> {
    let sql = format!(
        "SELECT {COLUMNS} FROM callbacks JOIN runs ON runs.row = callbacks.run
         WHERE callbacks.next_at <= ?1 AND callbacks.receiver NOT IN (SELECT value FROM json_each(?2))
         ORDER BY callbacks.next_at, callbacks.row"
    );
    let receivers = serde_json::to_string(&skip.receivers).expect("a list of texts is always JSON");
    let mut found = DueCallbacks::default();
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![int(now.0), receivers])?;
    // only what is on its way is looked at in vain, and that is bounded
    while found.due.len() < limit as usize {
        let Some(row) = rows.next()? else { break };
        let delivery = delivery(row)?;
        if !skip.ids.contains(&delivery.id) {
            found.due.push(delivery);
        }
    }
    found.next_at = connection
        .prepare_cached("SELECT min(next_at) FROM callbacks WHERE next_at > ?1")?
        .query_row(params![int(now.0)], |row| row.get::<_, Option<i64>>(0))?
        .map(time);
    found.pending = connection
        .prepare_cached("SELECT count(*) FROM callbacks WHERE next_at IS NOT NULL")?
        .query_row([], |row| row.get(0).map(uint))?;
    Ok(found)
}

/// See [`crate::store::Store::callback_tried`].
pub(super) fn tried(batch: &mut Batch<'_>, id: CallbackId, tries: u32, tried: &Tried) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let state = match (&tried.error, tried.next_at) {
        (None, _) => 1,
        (Some(_), Some(_)) => 0,
        (Some(_), None) => 2,
    };
    let next_at = tried.next_at.filter(|_| tried.error.is_some()).map(|at| int(at.0));
    let changed = connection
        .prepare_cached(
            "UPDATE callbacks SET state = ?4, tries = tries + 1, last_at = ?5, last_status = ?6, last_error = ?7,
                 next_at = ?8
             WHERE run = (SELECT row FROM runs WHERE id = ?1) AND revision = ?2 AND tries = ?3 AND state = 0",
        )?
        .execute(params![
            run_key(id.run),
            id.revision,
            tries,
            state,
            int(tried.at.0),
            tried.status,
            tried.error,
            next_at,
        ])?;
    Ok(changed > 0)
}

/// See [`crate::store::Store::callbacks`].
pub(super) fn of_run(connection: &Connection, run: RunId) -> rusqlite::Result<Vec<Delivery>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM callbacks JOIN runs ON runs.row = callbacks.run
         WHERE runs.id = ?1 ORDER BY callbacks.revision"
    );
    connection.prepare_cached(&sql)?.query_map(params![run_key(run)], delivery)?.collect()
}

/// See [`crate::store::Store::redeliver_callback`].
pub(super) fn redeliver(
    batch: &mut Batch<'_>,
    run: RunId,
    revision: Option<u32>,
    at: Time,
) -> Result<bool, Abort> {
    let (connection, _) = batch.rows()?;
    let row: Option<i64> = connection
        .prepare_cached(
            "SELECT callbacks.row FROM callbacks JOIN runs ON runs.row = callbacks.run
             WHERE runs.id = ?1 AND (?2 IS NULL OR callbacks.revision = ?2)
             ORDER BY callbacks.revision DESC LIMIT 1",
        )?
        .query_row(params![run_key(run), revision], |row| row.get(0))
        .optional()?;
    let Some(row) = row else { return Ok(false) };
    // one that is pending is only sooner due: asking again and again does not keep it from being given up
    connection
        .prepare_cached(
            "UPDATE callbacks SET
                 tries = iif(state = 0, tries, 0), since = iif(state = 0, since, ?2), next_at = ?2, state = 0
             WHERE row = ?1",
        )?
        .execute(params![row, int(at.0)])?;
    Ok(true)
}
