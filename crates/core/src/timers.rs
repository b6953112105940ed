//! Everything that happens because time passes, in one ordered set.
//!
//! A timer that is no longer needed is removed, never left to fire into nothing: at a million runs a second, those
//! left behind for the length of a timeout would be most of the memory.

use std::collections::BTreeSet;

use super::Time;
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, RunId};

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// The grace after the start is over: what nobody came back with is lost.
    Grace,
    /// A worker may have been silent for too long: checked against when it was heard, not moved each time it is.
    Silent(usize),
    /// A shape may have been short of workers for too long.
    Short(u32),
    /// The run's deadline.
    Deadline(RunId),
    /// The run has waited long enough for a worker that held no attempt of it.
    Fresh(RunId),
    /// The run is bound to a class that may have had no room for it for too long.
    Idle(RunId),
    /// The attempt's worker should have killed it.
    Timeout(AttemptId),
    /// The voter should have delivered.
    Collect(AttemptId),
    /// More runs wait of a module that is out of service.
    Unserved(Digest),
}

/// The timers that are set.
#[derive(Default)]
pub(super) struct Timers {
    set: BTreeSet<(Time, Timer)>,
}

impl Timers {
    /// Sets one.
    pub(super) fn set(&mut self, at: Time, timer: Timer) {
        self.set.insert((at, timer));
    }

    /// Removes one that was set for `at`.
    pub(super) fn unset(&mut self, at: Time, timer: Timer) {
        self.set.remove(&(at, timer));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.set.first().map(|(at, _)| *at)
    }

    /// Takes the next one that is due at `now`.
    pub(super) fn due(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, timer)| timer)
    }

    /// Whether it is set for `at`.
    pub(super) fn is_set(&self, at: Time, timer: Timer) -> bool {
        self.set.contains(&(at, timer))
    }
}
