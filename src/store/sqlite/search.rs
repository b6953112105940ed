//! Lists of runs by filter, and what the figures need of those that ended.
//!
//! A list walks one index from its new end and looks at each row; it stops when the page is full or when it has looked
//! at [`ROWS_MAX`] rows, and says where to go on. So a page costs what it holds wherever an index knows the
//! filter (workspace-wide, by module, not final, failed or canceled, by time), and a bounded amount everywhere else.

use std::collections::HashSet;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::reads::{RUN_COLUMNS, ReadError, stored_run};
use super::values::{int, run_id, run_key, state_code, state_of, time, uint};
use crate::core::{AttemptRecord, AttemptState, Time};
use crate::digest::Digest;
use crate::id::{RunId, WorkspaceId};
use crate::result::{Fault, VerdictKind};
use crate::store::records::Ending;
use crate::store::{FoundRuns, Outlook, RecentFinal, Retention, RunFilter, StoredRun};

/// Rows that one list looks at; it takes about a tenth of a second.
const ROWS_MAX: usize = 20_000;
/// Modules whose name holds the text that is looked for; more is no search.
const NAMED_MODULES_MAX: u32 = 1_000;
/// How far the time in an id may be from `created_at`, in milliseconds.
const ID_SLACK_MS: u64 = 60 * 60 * 1_000;
/// A day in microseconds.
const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;

/// See [`crate::store::Store::runs`].
pub(super) fn runs(
    connection: &Connection,
    filter: &RunFilter,
    cursor: Option<RunId>,
    limit: u32,
) -> Result<FoundRuns, ReadError> {
    let Some(states) = states(filter) else { return Ok(FoundRuns::default()) };
    let (sql, values) = statement(filter, &states, cursor);
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    let probe = Probe::new(connection, filter)?;
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(values.as_slice())?;
    let mut found = FoundRuns::default();
    let limit = limit as usize;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        if looked_at == ROWS_MAX {
            return Ok(found);
        }
        looked_at += 1;
        let id = run_id(row.get(1)?);
        if probe.may_pass(row, id)? {
            let run = stored_run(connection, row)?;
            if probe.passes(&run) {
                if found.runs.len() == limit {
                    // one more than was asked for: there is a next page, and it begins after the last one of this
                    found.next = found.runs.last().map(|run| run.id).or(cursor);
                    return Ok(found);
                }
                found.runs.push(run);
            }
        }
        found.next = Some(id);
    }
    found.next = None;
    Ok(found)
}

/// The codes of the states that can be found, none meaning all; `None` if nothing can pass.
fn states(filter: &RunFilter) -> Option<Vec<i64>> {
    let mut codes: Vec<i64> = filter.states.iter().map(|state| state_code(*state)).collect();
    codes.sort_unstable();
    codes.dedup();
    // a success has been agreed on, vouched for, or was never compared: with another verdict an index leads there at once
    let no_success = matches!(
        filter.verdict,
        Some(VerdictKind::Pending | VerdictKind::Disputed | VerdictKind::Nondeterministic)
    );
    if no_success {
        if codes.is_empty() {
            codes = vec![0, 2, 3];
        }
        codes.retain(|code| *code != 1);
        return (!codes.is_empty()).then_some(codes);
    }
    if codes.len() == 4 {
        codes.clear();
    }
    Some(codes)
}

/// The statement that walks the index that knows most of the filter.
fn statement(filter: &RunFilter, states: &[i64], cursor: Option<RunId>) -> (String, Vec<Box<dyn ToSql>>) {
    let mut conditions = String::from("true");
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut filter_by = |condition: &str, value: Box<dyn ToSql>| {
        conditions.push_str(" AND ");
        conditions.push_str(condition);
        values.push(value);
    };
    let mut index = "runs_id";
    if !states.is_empty() && states.iter().all(|code| *code >= 2) {
        index = "runs_unsuccessful";
    } else if states == [0] {
        index = "runs_open";
    }
    if let Some(module) = filter.module {
        index = "runs_module";
        filter_by("module = ?", Box::new(*module.as_bytes()));
    }
    if let Some(cursor) = cursor {
        filter_by("id < ?", Box::new(run_key(cursor)));
    }
    if let Some(workspace) = filter.workspace {
        filter_by("workspace = ?", Box::new(workspace.0));
    }
    if let Some(since) = filter.since {
        filter_by("created_at >= ?", Box::new(int(since.0)));
        let first = (since.0 / 1_000).saturating_sub(ID_SLACK_MS);
        filter_by("id >= ?", Box::new(run_key(id_at(first))));
    }
    if let Some(until) = filter.until {
        filter_by("created_at < ?", Box::new(int(until.0)));
        let last = (until.0 / 1_000).saturating_add(ID_SLACK_MS);
        filter_by("id < ?", Box::new(run_key(id_at(last))));
    }
    // Written out, so that the planner sees that the partial indexes hold these rows.
    match states {
        [] => {}
        [0] => conditions.push_str(" AND state = 0"),
        codes => {
            if codes.iter().all(|code| *code >= 2) {
                conditions.push_str(" AND state >= 2");
            }
            let list: Vec<String> = codes.iter().map(i64::to_string).collect();
            conditions.push_str(&format!(" AND state IN ({})", list.join(", ")));
        }
    }
    let columns = RUN_COLUMNS;
    let sql =
        format!("SELECT {columns}, module FROM runs INDEXED BY {index} WHERE {conditions} ORDER BY id DESC");
    (sql, values)
}

/// The smallest UUIDv7 of a millisecond.
fn id_at(ms: u64) -> RunId {
    RunId(u128::from(ms.min((1 << 48) - 1)) << 80)
}

/// The part of a filter that no index knows: first held against the encoded row, which is cheap and lets too many pass,
/// then against the decoded run.
struct Probe<'a> {
    filter: &'a RunFilter,
    /// What an ending must contain.
    in_ending: Vec<String>,
    text: Option<TextProbe<'a>>,
}

struct TextProbe<'a> {
    /// As it was given: for entry and arguments.
    text: &'a str,
    /// In lower case: for ids and digests.
    lower: String,
    /// As JSON writes it inside of a string.
    encoded: String,
    /// Modules whose name holds it.
    named: HashSet<Digest>,
}

impl<'a> Probe<'a> {
    fn new(connection: &Connection, filter: &'a RunFilter) -> Result<Probe<'a>, ReadError> {
        let mut in_ending = Vec::new();
        if let Some(worker) = filter.worker {
            in_ending.push(format!("\"worker\":\"{worker}\""));
        }
        if let Some(verdict) = filter.verdict {
            let name = serde_json::to_string(&verdict).unwrap_or_default();
            in_ending.push(format!("\"kind\":{name}"));
        }
        let text = filter.text.as_deref().filter(|text| !text.is_empty());
        let text = text.map(|text| TextProbe::new(connection, text)).transpose()?;
        Ok(Probe { filter, in_ending, text })
    }

    /// Whether the row may pass; `row` has [`RUN_COLUMNS`] and then the module.
    fn may_pass(&self, row: &Row<'_>, id: RunId) -> rusqlite::Result<bool> {
        let is_final = row.get::<_, i64>(4)? != 0;
        if is_final && !self.in_ending.is_empty() {
            let ending = json_of(row.get_ref(8)?)?;
            if !self.in_ending.iter().all(|word| ending.contains(word)) {
                return Ok(false);
            }
        }
        let Some(probe) = &self.text else { return Ok(true) };
        let module = Digest::from_bytes(row.get(11)?);
        Ok(probe.names(id, module) || json_of(row.get_ref(7)?)?.contains(&probe.encoded))
    }

    fn passes(&self, run: &StoredRun) -> bool {
        let is_open = !run.state.is_final();
        let of_worker = self
            .filter
            .worker
            .is_none_or(|worker| is_open || run.attempts.iter().any(|attempt| attempt.worker == worker));
        let of_verdict = self.filter.verdict.is_none_or(|verdict| is_open || run.verdict.kind == verdict);
        let of_text = self.text.as_ref().is_none_or(|probe| {
            probe.names(run.id, run.spec.module)
                || run.spec.entry.contains(probe.text)
                || run.spec.args.iter().any(|arg| arg.contains(probe.text))
        });
        of_worker && of_verdict && of_text
    }
}

impl<'a> TextProbe<'a> {
    fn new(connection: &Connection, text: &'a str) -> Result<TextProbe<'a>, ReadError> {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let named = connection
            .prepare_cached("SELECT digest FROM modules WHERE name LIKE ?1 ESCAPE '\\' LIMIT ?2")?
            .query_map(params![format!("%{escaped}%"), NAMED_MODULES_MAX], |row| {
                row.get(0).map(Digest::from_bytes)
            })?
            .collect::<rusqlite::Result<_>>()?;
        let encoded = serde_json::to_string(text).unwrap_or_default();
        let frame = 1..encoded.len().saturating_sub(1);
        let encoded = encoded.get(frame).unwrap_or_default().to_owned();
        Ok(TextProbe { text, lower: text.to_lowercase(), encoded, named })
    }

    fn names(&self, id: RunId, module: Digest) -> bool {
        self.named.contains(&module)
            || id.to_string().contains(&self.lower)
            || module.to_string().contains(&self.lower)
    }
}

/// An encoded record; what is no text holds nothing that could be looked for.
fn json_of<'r>(value: ValueRef<'r>) -> rusqlite::Result<&'r str> {
    Ok(std::str::from_utf8(value.as_blob_or_null()?.unwrap_or_default()).unwrap_or_default())
}

/// See [`crate::store::Store::recent_finals`].
pub(super) fn recent_finals(
    connection: &Connection,
    since: Time,
    limit: u32,
) -> Result<Vec<RecentFinal>, ReadError> {
    let mut select = connection.prepare_cached(
        "SELECT id, workspace, state, created_at, finished_at, ending FROM runs INDEXED BY runs_finished
         WHERE finished_at IS NOT NULL AND held IS NULL AND finished_at >= ?1 ORDER BY finished_at DESC LIMIT ?2",
    )?;
    let mut rows = select.query(params![int(since.0), limit])?;
    let mut finals = Vec::new();
    while let Some(row) = rows.next()? {
        let ending = row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?;
        let ending = Ending::decode(run_id(row.get(0)?), ending)?;
        let (faults, reruns) = faults(&ending.attempts);
        finals.push(RecentFinal {
            workspace: WorkspaceId(row.get(1)?),
            state: state_of(row.get(2)?)?,
            verdict: ending.verdict.kind,
            faults,
            reruns,
            dissents: u32::try_from(ending.verdict.dissenters.len()).unwrap_or(u32::MAX),
            created_at: time(row.get(3)?),
            finished_at: time(row.get(4)?),
        });
    }
    Ok(finals)
}

/// Attempts that met a fault, and those that were handed out after the first of them.
fn faults(attempts: &[AttemptRecord]) -> (u32, u32) {
    let met_one = |attempt: &&AttemptRecord| matches!(&attempt.state, AttemptState::Faulted { fault } if *fault != Fault::Drained);
    let first = attempts.iter().filter(met_one).filter_map(|attempt| attempt.ended_at).min();
    let after = |attempt: &&AttemptRecord| first.is_some_and(|first| attempt.assigned_at >= first);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (count(attempts.iter().filter(met_one).count()), count(attempts.iter().filter(after).count()))
}

/// See [`crate::store::Store::outlook`]. As `retain` does, it knows how many are too many from their number, which is kept.
pub(super) fn outlook(connection: &Connection, retention: Retention) -> rusqlite::Result<Outlook> {
    let oldest: Option<i64> = connection
        .prepare_cached(
            "SELECT finished_at FROM runs INDEXED BY runs_finished WHERE finished_at IS NOT NULL AND held IS NULL
             ORDER BY finished_at LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()?;
    let mut ended_before = connection.prepare_cached(
        "SELECT count(*) FROM runs INDEXED BY runs_finished
         WHERE finished_at IS NOT NULL AND held IS NULL AND finished_at < ?1",
    )?;
    let mut ended_before = |at: Time| -> rusqlite::Result<u64> {
        Ok(uint(ended_before.query_row(params![int(at.0)], |row| row.get(0))?))
    };
    let finals = connection.prepare_cached("SELECT finals FROM counts")?.query_row([], |row| row.get(0))?;
    let too_many = uint(finals).saturating_sub(retention.runs_max);
    let in_a_day = Time(retention.finished_before.0.saturating_add(DAY_US));
    Ok(Outlook {
        oldest_finished_at: oldest.map(time),
        due: ended_before(retention.finished_before)?.max(too_many),
        due_in_a_day: ended_before(in_a_day)?.max(too_many),
    })
}
