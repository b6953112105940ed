//! Which workers may come back after a start: those on other machines whose sessions lasted until the earlier life ended.
//!
//! Only observations are stored (sessions, and to the minute when each was heard of), so this is a judgement. One worker too
//! many makes runs of before wait for the grace, one too few makes its attempts be executed again; neither breaks a rule.

use crate::core::Time;
use crate::id::WorkerId;
use crate::store::{WorkerRow, WorkerSession};

/// Sessions that ended so shortly before the end of the process ended with it: it lets connections finish first.
const ENDED_WITH_IT_MS: u64 = 15_000;
/// When a worker was last heard of is noted once a minute, and a process that is killed does not note it.
const SEEN_MS: u64 = 150_000;

/// The workers that are expected back.
pub fn expected(rows: &[WorkerRow]) -> Vec<WorkerId> {
    let sessions = rows.iter().filter_map(|row| row.session.as_ref());
    // the earlier life went on at least until then
    let Some(ended) = sessions.map(last_seen).max() else { return Vec::new() };
    let lasted = |session: &WorkerSession| match session.left_at {
        Some(left_at) => left_at.plus_ms(ENDED_WITH_IT_MS) >= ended,
        None => session.seen_at.plus_ms(SEEN_MS) >= ended,
    };
    let is_expected = |row: &&WorkerRow| {
        !row.embedded && row.quarantined.is_none() && row.session.as_ref().is_some_and(lasted)
    };
    rows.iter().filter(is_expected).map(|row| row.id).collect()
}

fn last_seen(session: &WorkerSession) -> Time {
    session.left_at.unwrap_or(session.seen_at).max(session.seen_at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::digest::Digest;
    use crate::store::WorkerFacts;

    const MINUTE: u64 = 60_000_000;

    /// A worker that was seen and left at these minutes.
    fn row(id: u32, seen: u64, left: Option<u64>) -> WorkerRow {
        let facts =
            WorkerFacts { labels: BTreeMap::new(), class: Digest::EMPTY, version: String::new(), slots: 1 };
        let time = |minutes: u64| Time(minutes * MINUTE);
        let session =
            WorkerSession { facts, connected_at: time(1), left_at: left.map(time), seen_at: time(seen) };
        WorkerRow {
            id: WorkerId(id),
            key: [0; 32],
            name: String::new(),
            domain: String::new(),
            embedded: false,
            enrolled_by: None,
            owned: false,
            arbiter: false,
            standings: BTreeMap::new(),
            proven_as: BTreeMap::new(),
            quarantined: None,
            for_votes: false,
            created_at: Time(0),
            session: Some(session),
        }
    }

    fn numbers(rows: &[WorkerRow]) -> Vec<u32> {
        expected(rows).into_iter().map(|worker| worker.0).collect()
    }

    #[test]
    fn those_that_were_connected_when_it_was_killed_are_expected() {
        assert!(numbers(&[]).is_empty());
        assert_eq!(numbers(&[row(1, 99, None), row(2, 100, None), row(3, 100, None)]), [1, 2, 3]);
    }

    #[test]
    fn those_that_it_let_go_at_its_end_are_expected() {
        assert_eq!(numbers(&[row(1, 100, Some(100)), row(2, 100, Some(100))]), [1, 2]);
    }

    #[test]
    fn those_that_left_before_are_not() {
        assert_eq!(numbers(&[row(1, 50, Some(50)), row(2, 100, None)]), [2]);
        assert_eq!(numbers(&[row(1, 90, None), row(2, 100, None)]), [2], "lost in a life before that one");
    }

    #[test]
    fn neither_embedded_nor_quarantined_ones_nor_those_that_never_came_are() {
        let embedded = WorkerRow { embedded: true, ..row(1, 100, None) };
        let quarantined = WorkerRow { quarantined: Some("it lied".to_owned()), ..row(2, 100, None) };
        let absent = WorkerRow { session: None, ..row(3, 100, None) };
        assert!(numbers(&[embedded, quarantined, absent]).is_empty());
    }
}
