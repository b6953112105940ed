//! The outbox: a row per revision that somebody wants to be told of. Who has pending ones, how many and whose turn it is stands
//! in rows of its own, which the schema's triggers keep true: a look reads these and what it takes, however much waits.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::batch::Batch;
use super::values::{int, run_id, run_key, time, uint};
use super::writer::Abort;
use crate::core::Time;
use crate::id::{RunId, WorkspaceId};
use crate::store::{
    CallbackId, Delivery, DeliveryState, DueCallbacks, FinalRun, OutboxLimits, Receivers, SkippedCallbacks,
    Tried, receiver,
};

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

/// Makes a delivery in the transaction of its final, or of the correction that is in its place now.
pub(super) fn put(connection: &Connection, run: i64, delivery: Option<&NewDelivery>) -> rusqlite::Result<()> {
    let Some(delivery) = delivery else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO callbacks (run, revision, url, receiver, created_at, since, next_at, workspace)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?5, (SELECT workspace FROM runs WHERE row = ?1))",
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

/// Receivers whose turn it is.
const TURNS: &str = "SELECT workspace, receiver FROM receivers INDEXED BY receivers_turn
    WHERE turn_at <= ?1 AND receiver NOT IN (SELECT value FROM json_each(?2)) ORDER BY turn_at LIMIT ?3";
/// The same among a few: each is looked for by its name.
const TURNS_AMONG: &str = "SELECT receivers.workspace, receivers.receiver
    FROM json_each(?2) AS named CROSS JOIN outboxes CROSS JOIN receivers
        ON receivers.workspace = outboxes.workspace AND receivers.receiver = named.value
    WHERE turn_at <= ?1 ORDER BY turn_at LIMIT ?3";
/// What is due of one.
const DUE_OF_ONE: &str = "FROM callbacks INDEXED BY callbacks_pending JOIN runs ON runs.row = callbacks.run
    WHERE callbacks.workspace = ?1 AND callbacks.receiver = ?2 AND callbacks.next_at <= ?3
    ORDER BY callbacks.next_at LIMIT ?4";
/// When the next turn comes.
const NEXT_TURN: &str = "SELECT min(turn_at) FROM receivers WHERE turn_at > ?1";
/// Who has too many.
const FULL: &str =
    "SELECT workspace, receiver FROM receivers INDEXED BY receivers_pending WHERE pending >= ?1";

/// See [`crate::store::Store::due_callbacks`].
pub(super) fn due(
    connection: &Connection,
    now: Time,
    skip: &SkippedCallbacks,
    limits: OutboxLimits,
) -> rusqlite::Result<DueCallbacks> {
    let (turns, names) = match &skip.receivers {
        Receivers::AllBut(names) => (TURNS, names),
        Receivers::Only(names) => (TURNS_AMONG, names),
    };
    let names = serde_json::to_string(names).expect("a list of texts is always JSON");
    let on_their_way = u32::try_from(skip.ids.len()).unwrap_or(u32::MAX);
    // of so many, each has one that is not on its way, or it is one of as many as are
    let most = limits.due.saturating_add(on_their_way);
    let named = |row: &Row<'_>| Ok((WorkspaceId(row.get(0)?), row.get::<_, String>(1)?));
    let turns: Vec<(WorkspaceId, String)> = connection
        .prepare_cached(turns)?
        .query_map(params![int(now.0), names, most], named)?
        .collect::<rusqlite::Result<_>>()?;
    let mut found = DueCallbacks::default();
    let mut select = connection.prepare_cached(&format!("SELECT {COLUMNS} {DUE_OF_ONE}"))?;
    for (workspace, receiver) in turns {
        let wanted = limits.due as usize - found.due.len();
        if wanted == 0 {
            break;
        }
        let most = limits.per_receiver.saturating_add(on_their_way);
        let of_one = select.query_map(params![workspace.0, receiver, int(now.0), most], delivery)?;
        let of_one = of_one.filter(|it| it.as_ref().map_or(true, |it| !skip.ids.contains(&it.id)));
        for delivery in of_one.take(wanted.min(limits.per_receiver as usize)) {
            found.due.push(delivery?);
        }
    }
    let next_at: Option<i64> =
        connection.prepare_cached(NEXT_TURN)?.query_row(params![int(now.0)], |row| row.get(0))?;
    found.next_at = next_at.map(time);
    found.pending = connection
        .prepare_cached("SELECT workspace, pending FROM outboxes")?
        .query_map([], |row| Ok((WorkspaceId(row.get(0)?), uint(row.get(1)?))))?
        .collect::<rusqlite::Result<_>>()?;
    found.full = connection
        .prepare_cached(FULL)?
        .query_map(params![int(limits.full)], named)?
        .collect::<rusqlite::Result<_>>()?;
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

/// See [`crate::store::Store::tried_receivers`].
pub(super) fn tried_receivers(
    connection: &Connection,
    limit: u32,
    deliveries: u32,
) -> rusqlite::Result<Vec<(String, bool)>> {
    // beside a maximum SQLite gives the columns of the row that has it
    let mut select = connection.prepare(
        "SELECT receiver, last_error IS NULL, max(last_at) FROM
             (SELECT receiver, last_error, last_at FROM callbacks ORDER BY row DESC LIMIT ?2)
         WHERE last_at IS NOT NULL GROUP BY receiver ORDER BY 3 DESC LIMIT ?1",
    )?;
    select.query_map(params![limit, deliveries], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
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

#[cfg(test)]
mod tests {
    use super::super::schema::{NEWEST, migrate_to};
    use super::*;

    /// An outbox of so many deliveries to each of these receivers, all due.
    fn outbox(receivers: &[(&str, u32)]) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, 0, NEWEST).unwrap();
        let mut row = 0_i64;
        for (receiver, count) in receivers {
            for _ in 0..*count {
                row += 1;
                let run =
                    "INSERT INTO runs (row, id, workspace, epoch, state, module, created_at, inputs, request)
                           VALUES (?1, ?2, 0, 1, 1, x'', 0, x'', x'')";
                let id = run_key(RunId(row as u128));
                connection.execute(run, params![row, id]).unwrap();
                let url = format!("https://{receiver}/").into();
                let receiver = (*receiver).to_owned();
                let delivery = NewDelivery { revision: 1, url, receiver, at: row };
                put(&connection, row, Some(&delivery)).unwrap();
            }
        }
        connection
    }

    const LIMITS: OutboxLimits = OutboxLimits { due: 16, per_receiver: 4, full: 1_000 };
    const NOW: Time = Time(1_000_000);

    fn plan(connection: &Connection, sql: &str) -> String {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nothing = vec![rusqlite::types::Value::Integer(1); explain.parameter_count()];
        let steps = explain.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3));
        steps.unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    }

    #[test]
    fn no_look_reads_more_than_it_takes() {
        let connection = outbox(&[("a", 1)]);
        let looks = [
            (TURNS.to_owned(), "SEARCH receivers USING COVERING INDEX receivers_turn (turn_at<?)"),
            (
                format!("SELECT {COLUMNS} {DUE_OF_ONE}"),
                "SEARCH callbacks USING INDEX callbacks_pending (workspace=? AND receiver=? AND next_at<?)",
            ),
            (NEXT_TURN.to_owned(), "SEARCH receivers USING COVERING INDEX receivers_turn (turn_at>?)"),
            (FULL.to_owned(), "SEARCH receivers USING COVERING INDEX receivers_pending (pending>?)"),
        ];
        // sorted are only those that were found by their names
        let among = plan(&connection, TURNS_AMONG);
        assert!(among.contains("SEARCH receivers USING PRIMARY KEY (workspace=? AND receiver=?)"), "{among}");
        for (sql, expected) in looks {
            let plan = plan(&connection, &sql);
            assert!(plan.contains(expected), "{plan}");
            assert!(!plan.contains("SCAN callbacks") && !plan.contains("TEMP B-TREE"), "{plan}");
        }
    }

    #[test]
    fn a_receiver_that_is_down_with_many_rows_takes_nobodys_turn() {
        let connection = outbox(&[("down.example", 5_000), ("a.example", 2), ("b.example", 1)]);
        let look = |at: Time| {
            let found = due(&connection, at, &SkippedCallbacks::default(), LIMITS).unwrap();
            let mut to = std::collections::BTreeMap::<String, usize>::new();
            found.due.iter().for_each(|it| *to.entry(it.receiver.clone()).or_default() += 1);
            (to.into_iter().collect::<Vec<_>>(), found)
        };
        let (to, found) = look(NOW);
        let named = |name: &str, count| (name.to_owned(), count);
        assert_eq!(to, [named("a.example", 2), named("b.example", 1), named("down.example", 4)]);
        assert_eq!(found.pending[&WorkspaceId(0)], 5_003);
        assert_eq!(found.full, [(WorkspaceId(0), "down.example".to_owned())].into());
        // with one place only: once it was tried, it waits behind all others, though its rows are the oldest
        let one = OutboxLimits { due: 1, ..LIMITS };
        let mut order = Vec::new();
        for at in NOW.0..NOW.0 + 4 {
            let found = due(&connection, Time(at), &SkippedCallbacks::default(), one).unwrap();
            let next = found.due[0].clone();
            order.push(next.receiver.clone());
            let failed = params![run_key(next.id.run), int(at), int(at + 1_000_000)];
            let note = "UPDATE callbacks SET tries = 1, last_at = ?2, next_at = ?3
                        WHERE run = (SELECT row FROM runs WHERE id = ?1)";
            connection.execute(note, failed).unwrap();
        }
        assert_eq!(order, ["down.example", "a.example", "b.example", "down.example"]);
        // what goes with its run, or ends, is counted no more
        connection.execute("DELETE FROM callbacks WHERE receiver = 'down.example'", []).unwrap();
        connection
            .execute("UPDATE callbacks SET next_at = NULL, state = 1 WHERE receiver = 'b.example'", [])
            .unwrap();
        let (to, found) = look(Time(NOW.0 + 9));
        assert_eq!(to, [named("a.example", 1)]);
        assert_eq!((found.pending[&WorkspaceId(0)], found.full.len()), (2, 0));
        let rows: i64 = connection.query_row("SELECT count(*) FROM receivers", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1, "who has nothing pending has no row");
    }
}
