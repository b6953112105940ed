//! What a fault costs, and when a run has had enough (I9, I10).
//!
//! The budgets are separate: a machine that dies does not use up the patience with a module that crashes. Everything is
//! counted from the attempts themselves, so a recovered run stands where it stood.

use super::attempt::Attempt;
use super::{AttemptRecord, AttemptState, Config};
use vocabulary::result::{FailReason, Fault};

/// Faults that blame nobody and cost nothing (a drain, a runner that died before the attempt began) after which a
/// run gives up all the same. Far above what real maintenance causes; it ends a loop of a broken worker.
const FREE_FAULTS_MAX: u32 = 32;

/// Which budget a fault is taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cost {
    Crash,
    Timeout,
    Loss,
    Refusal,
    Free,
}

/// What an attempt cost, if it faulted. An attempt that never began costs nothing, unless it was refused.
pub(super) fn cost(record: &AttemptRecord) -> Option<Cost> {
    let AttemptState::Faulted { fault } = &record.state else { return None };
    Some(match fault {
        Fault::Refused { .. } => Cost::Refusal,
        Fault::Drained => Cost::Free,
        _ if record.begun_at.is_none() => Cost::Free,
        Fault::Crashed { .. } => Cost::Crash,
        Fault::TimedOut => Cost::Timeout,
        Fault::Lost | Fault::Corrupt { .. } => Cost::Loss,
    })
}

/// How often each budget was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Spent {
    pub crashes: u32,
    pub timeouts: u32,
    pub losses: u32,
    pub refusals: u32,
    pub free: u32,
}

impl Spent {
    /// Counts the faults of a run.
    pub(super) fn by(attempts: &[Attempt]) -> Spent {
        let mut spent = Spent::default();
        for cost in attempts.iter().filter_map(|attempt| cost(&attempt.record)) {
            *match cost {
                Cost::Crash => &mut spent.crashes,
                Cost::Timeout => &mut spent.timeouts,
                Cost::Loss => &mut spent.losses,
                Cost::Refusal => &mut spent.refusals,
                Cost::Free => &mut spent.free,
            } += 1;
        }
        spent
    }

    /// Why there must be no further attempt, with the figure in words.
    pub(super) fn exhausted(&self, config: &Config, attempts_max: u32) -> Option<(FailReason, String)> {
        if self.crashes >= config.crashes_max {
            Some((FailReason::Poisoned, format!("it killed {} runners", self.crashes)))
        } else if self.timeouts >= attempts_max {
            Some((FailReason::TimedOut, format!("{} attempts reached their timeout", self.timeouts)))
        } else if self.losses >= config.losses_max {
            Some((FailReason::Lost, format!("{} attempts were lost with their workers", self.losses)))
        } else if self.refusals >= config.refusals_max {
            Some((FailReason::Lost, format!("workers refused it {} times", self.refusals)))
        } else if self.free >= FREE_FAULTS_MAX {
            Some((FailReason::Lost, format!("{} attempts ended before they had begun", self.free)))
        } else {
            None
        }
    }
}

/// The reason that a single fault gives under `retry: never`.
pub(super) fn reason_of(fault: &Fault) -> FailReason {
    match fault {
        Fault::TimedOut => FailReason::TimedOut,
        Fault::Crashed { .. } => FailReason::Crashed,
        Fault::Lost | Fault::Refused { .. } | Fault::Corrupt { .. } | Fault::Drained => FailReason::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;
    use vocabulary::id::{Epoch, WorkerId};

    fn faulted(fault: Fault, begun: bool) -> Attempt {
        let mut attempt = Attempt::new(1, Epoch(1), WorkerId(1), Time(0), 0);
        attempt.record.begun_at = begun.then_some(Time(1));
        attempt.fault(Time(2), fault);
        attempt
    }

    #[test]
    fn each_fault_is_taken_from_its_own_budget() {
        let crashed = || Fault::Crashed { signal: Some(9), detail: String::new() };
        let refused = || Fault::Refused { detail: String::new() };
        let corrupt = || Fault::Corrupt { detail: String::new() };
        let table = [
            (crashed(), true, Cost::Crash),
            (crashed(), false, Cost::Free),
            (Fault::TimedOut, true, Cost::Timeout),
            (Fault::TimedOut, false, Cost::Free),
            (Fault::Lost, true, Cost::Loss),
            (Fault::Lost, false, Cost::Free),
            (refused(), true, Cost::Refusal),
            (refused(), false, Cost::Refusal),
            (corrupt(), true, Cost::Loss),
            (Fault::Drained, true, Cost::Free),
            (Fault::Drained, false, Cost::Free),
        ];
        for (fault, begun, expected) in table {
            let attempt = faulted(fault.clone(), begun);
            assert_eq!(cost(&attempt.record), Some(expected), "{fault:?}, begun: {begun}");
        }
        assert_eq!(cost(&Attempt::new(1, Epoch(1), WorkerId(1), Time(0), 0).record), None);
    }

    #[test]
    fn a_budget_ends_a_run_exactly_when_it_is_used_up() {
        let config = Config::default();
        let end = |spent: Spent| spent.exhausted(&config, 3).map(|(reason, _)| reason);
        let none = Spent::default();
        assert_eq!(end(Spent { crashes: 2, timeouts: 2, losses: 4, refusals: 4, free: 31 }), None);
        assert_eq!(end(Spent { crashes: 3, ..none }), Some(FailReason::Poisoned));
        assert_eq!(end(Spent { timeouts: 3, ..none }), Some(FailReason::TimedOut));
        assert_eq!(end(Spent { losses: 5, ..none }), Some(FailReason::Lost));
        assert_eq!(end(Spent { refusals: 5, ..none }), Some(FailReason::Lost));
        assert_eq!(end(Spent { free: 32, ..none }), Some(FailReason::Lost));
    }
}
