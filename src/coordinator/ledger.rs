//! What happened in each minute, by workspace, and how many runs end each second: the figures behind the plots.
//!
//! Invariants: counting one thing costs a look at the newest minute, whatever was counted before; a workspace takes at
//! most [`MINUTES_MAX`] minutes, and only those in which something happened; nothing is counted twice. It is memory only:
//! after a start the runs that ended are counted again from the store, and `since` says from when on that is everything.

use std::collections::{HashMap, VecDeque};

use crate::core::Time;
use crate::id::WorkspaceId;
use crate::protocol::api::{Tally, VerdictCounts};
use crate::result::{RunState, VerdictKind};
use crate::store::RecentFinal;

/// Minutes that are kept: a day.
pub const MINUTES_MAX: u64 = 24 * 60;
/// Seconds over which [`Ledgers::rate`] looks.
const RATE_SECONDS: u64 = 10;
/// A minute in microseconds.
const MINUTE_US: u64 = 60_000_000;
/// A second in microseconds.
const SECOND_US: u64 = 1_000_000;

/// Figures of one workspace.
#[derive(Debug, Default)]
struct Ledger {
    /// By their number since the epoch, ascending.
    minutes: VecDeque<(u64, Tally)>,
    /// Runs that ended in a second, by its number modulo the length; with the second that it was counted for.
    seconds: [(u64, u32); 16],
    /// Takes what happened too long ago to be kept.
    scrap: Tally,
}

/// Figures of every workspace.
#[derive(Debug)]
pub struct Ledgers {
    since: Time,
    by_workspace: HashMap<WorkspaceId, Ledger>,
}

impl Ledgers {
    /// Nothing counted before `now`.
    pub fn new(now: Time) -> Ledgers {
        Ledgers { since: now, by_workspace: HashMap::new() }
    }

    /// The minute in which something happened, to be counted in. What is older than is kept goes.
    pub fn minute(&mut self, workspace: WorkspaceId, at: Time) -> &mut Tally {
        let minute = at.0 / MINUTE_US;
        let Ledger { minutes, scrap, .. } = self.by_workspace.entry(workspace).or_default();
        let newest = minutes.back().map_or(0, |(newest, _)| *newest);
        if minutes.is_empty() || newest < minute {
            minutes.push_back((minute, Tally::default()));
            while minutes.front().is_some_and(|(oldest, _)| oldest + MINUTES_MAX <= minute) {
                minutes.pop_front();
            }
        }
        if minute + MINUTES_MAX <= newest {
            return scrap;
        }
        let mut place = minutes.len() - 1;
        if minutes[place].0 != minute {
            place = minutes.partition_point(|(other, _)| *other < minute);
            if minutes[place].0 != minute {
                minutes.insert(place, (minute, Tally::default()));
            }
        }
        &mut minutes[place].1
    }

    /// A run ended.
    pub fn finished(&mut self, workspace: WorkspaceId, at: Time, state: RunState, verdict: VerdictKind) {
        self.minute(workspace, at).end(state, verdict);
        let second = at.0 / SECOND_US;
        let seconds = &mut self.by_workspace.entry(workspace).or_default().seconds;
        let length = seconds.len() as u64;
        let slot = &mut seconds[usize::try_from(second % length).unwrap_or(0)];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 = slot.1.saturating_add(1);
    }

    /// Counts what ended before this process began to count, and knows from `covered` on.
    pub fn restore(&mut self, finals: &[RecentFinal], covered: Time) {
        let counted_since = self.since;
        for run in finals.iter().filter(|run| run.finished_at < counted_since) {
            let tally = self.minute(run.workspace, run.finished_at);
            tally.end(run.state, run.verdict);
            tally.faults += u64::from(run.faults);
            tally.reruns += u64::from(run.reruns);
            tally.dissents += u64::from(run.dissents);
            if run.created_at >= covered {
                self.minute(run.workspace, run.created_at).submitted += 1;
            }
        }
        self.since = self.since.min(covered);
    }

    /// From when on everything was counted, as of `now`.
    pub fn since(&self, now: Time) -> Time {
        self.since.max(Time(now.0.saturating_sub(MINUTES_MAX * MINUTE_US)))
    }

    /// The last so many minutes up to `now`, the oldest first, empty ones included.
    pub fn series(&self, workspace: WorkspaceId, now: Time, count: u64) -> Vec<(Time, Tally)> {
        let last = now.0 / MINUTE_US;
        let first = (last + 1).saturating_sub(count.min(MINUTES_MAX));
        let known = self.by_workspace.get(&workspace);
        let mut counted = known.into_iter().flat_map(|ledger| &ledger.minutes).skip_while(|it| it.0 < first);
        let mut next = counted.next();
        let mut series = Vec::new();
        for minute in first..=last {
            let mut tally = Tally::default();
            if let Some((_, there)) = next.filter(|it| it.0 == minute) {
                tally = *there;
                next = counted.next();
            }
            series.push((Time(minute * MINUTE_US), tally));
        }
        series
    }

    /// The sum over the last so many minutes.
    pub fn sum(&self, workspace: WorkspaceId, now: Time, count: u64) -> Tally {
        let first = (now.0 / MINUTE_US + 1).saturating_sub(count);
        let known = self.by_workspace.get(&workspace);
        let minutes = known.into_iter().flat_map(|ledger| ledger.minutes.iter().rev());
        let mut sum = Tally::default();
        minutes.take_while(|it| it.0 >= first).for_each(|(_, tally)| sum.add(tally));
        sum
    }

    /// Runs that ended each second, over the last ten whole ones.
    pub fn rate(&self, workspace: WorkspaceId, now: Time) -> f64 {
        let second = now.0 / SECOND_US;
        let whole = second.saturating_sub(RATE_SECONDS)..second;
        let known = self.by_workspace.get(&workspace);
        let ended = known.into_iter().flat_map(|ledger| &ledger.seconds);
        let count: u32 = ended.filter(|(at, _)| whole.contains(at)).map(|(_, count)| count).sum();
        f64::from(count) / f64::from(u32::try_from(RATE_SECONDS).unwrap_or(1))
    }
}

impl Tally {
    /// Counts a run that ended.
    fn end(&mut self, state: RunState, verdict: VerdictKind) {
        self.finished += 1;
        match state {
            RunState::Succeeded => self.succeeded += 1,
            RunState::Failed => self.failed += 1,
            RunState::Canceled => self.canceled += 1,
            RunState::Queued | RunState::Running => {}
        }
        *self.verdicts.of(verdict) += 1;
    }

    fn add(&mut self, other: &Tally) {
        let Tally { submitted, finished, succeeded, failed, canceled, faults, reruns, dissents, verdicts } =
            other;
        self.submitted += submitted;
        self.finished += finished;
        self.succeeded += succeeded;
        self.failed += failed;
        self.canceled += canceled;
        self.faults += faults;
        self.reruns += reruns;
        self.dissents += dissents;
        self.verdicts.pending += verdicts.pending;
        self.verdicts.agreed += verdicts.agreed;
        self.verdicts.vouched += verdicts.vouched;
        self.verdicts.unchecked += verdicts.unchecked;
        self.verdicts.disputed += verdicts.disputed;
        self.verdicts.nondeterministic += verdicts.nondeterministic;
    }
}

impl VerdictCounts {
    fn of(&mut self, kind: VerdictKind) -> &mut u64 {
        match kind {
            VerdictKind::Pending => &mut self.pending,
            VerdictKind::Agreed => &mut self.agreed,
            VerdictKind::Vouched => &mut self.vouched,
            VerdictKind::Unchecked => &mut self.unchecked,
            VerdictKind::Disputed => &mut self.disputed,
            VerdictKind::Nondeterministic => &mut self.nondeterministic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: WorkspaceId = WorkspaceId(0);
    const NOON: u64 = 12 * 60 * MINUTE_US;

    fn at(minutes: u64, seconds: u64) -> Time {
        Time(NOON + minutes * MINUTE_US + seconds * SECOND_US)
    }

    #[test]
    fn each_minute_has_its_own_figures_and_workspaces_do_not_see_each_other() {
        let mut ledgers = Ledgers::new(at(0, 0));
        ledgers.minute(OURS, at(0, 1)).submitted += 1;
        ledgers.finished(OURS, at(2, 59), RunState::Failed, VerdictKind::Agreed);
        ledgers.finished(WorkspaceId(1), at(2, 59), RunState::Succeeded, VerdictKind::Agreed);
        // late news of an earlier minute finds its place
        ledgers.minute(OURS, at(1, 0)).faults += 3;
        let series = ledgers.series(OURS, at(2, 59), 4);
        let seen: Vec<_> =
            series.iter().map(|(at, tally)| (at.0, tally.submitted, tally.faults, tally.failed)).collect();
        let minute = |minutes: u64| NOON + minutes * MINUTE_US;
        assert_eq!(
            seen,
            [(NOON - MINUTE_US, 0, 0, 0), (minute(0), 1, 0, 0), (minute(1), 0, 3, 0), (minute(2), 0, 0, 1)]
        );
        let sum = ledgers.sum(OURS, at(2, 59), 2);
        assert_eq!((sum.submitted, sum.faults, sum.finished, sum.verdicts.agreed), (0, 3, 1, 1));
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut ledgers = Ledgers::new(at(0, 0));
        for minute in 0..2 * MINUTES_MAX {
            ledgers.minute(OURS, at(minute, 0)).submitted += 1;
        }
        let now = at(2 * MINUTES_MAX - 1, 0);
        assert_eq!(ledgers.by_workspace[&OURS].minutes.len() as u64, MINUTES_MAX);
        assert_eq!(ledgers.sum(OURS, now, u64::MAX).submitted, MINUTES_MAX);
        assert_eq!(ledgers.series(OURS, now, u64::MAX).len() as u64, MINUTES_MAX);
        assert_eq!(ledgers.since(now), Time(now.0 - MINUTES_MAX * MINUTE_US));
        // older than everything that is kept: counted nowhere, harms nothing
        ledgers.minute(OURS, at(0, 0)).faults += 1;
        assert_eq!(ledgers.by_workspace[&OURS].minutes.len() as u64, MINUTES_MAX);
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_whole_seconds() {
        let mut ledgers = Ledgers::new(at(0, 0));
        for second in 0..30 {
            ledgers.finished(OURS, at(0, second), RunState::Succeeded, VerdictKind::Agreed);
        }
        let close = |rate: f64, to: f64| (rate - to).abs() < 1e-9;
        assert!(close(ledgers.rate(OURS, at(0, 30)), 1.0));
        assert!(close(ledgers.rate(OURS, at(0, 35)), 0.5));
        assert!(close(ledgers.rate(OURS, at(2, 0)), 0.0));
    }

    #[test]
    fn what_an_earlier_life_finished_is_counted_once() {
        let mut ledgers = Ledgers::new(at(10, 0));
        let run = |created_at, finished_at| RecentFinal {
            workspace: OURS,
            state: RunState::Succeeded,
            verdict: VerdictKind::Agreed,
            faults: 2,
            reruns: 1,
            dissents: 1,
            created_at,
            finished_at,
        };
        // the second one ended in this life and is counted already
        ledgers.finished(OURS, at(11, 0), RunState::Succeeded, VerdictKind::Agreed);
        ledgers
            .restore(&[run(at(3, 0), at(4, 0)), run(at(2, 0), at(11, 0)), run(at(0, 0), at(1, 0))], at(1, 0));
        let sum = ledgers.sum(OURS, at(11, 0), 60);
        assert_eq!((sum.finished, sum.faults, sum.reruns, sum.dissents, sum.submitted), (3, 4, 2, 2, 1));
        assert_eq!(ledgers.since(at(11, 0)), at(1, 0));
    }
}
