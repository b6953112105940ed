//! Insertions that wait a moment for their run's final.
//!
//! A caller who waits for the final hears nothing before it. If the run ends within [`WAIT_MS`], insertion and final are
//! one row and one commit; if it does not, the insertion leaves by itself, and a restart finds the run. Either way
//! nothing is told before it is durable (I1).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::core::Time;
use crate::id::RunId;
use crate::store::NewRun;

/// How long an insertion waits: several times what a short run takes, and nothing beside what a long one does.
const WAIT_MS: u64 = 2;

/// See the module.
#[derive(Default)]
pub struct Patience {
    insertions: HashMap<RunId, Arc<NewRun>>,
    /// When each of them leaves, the first in front; some have left already.
    due: VecDeque<(Time, RunId)>,
}

impl Patience {
    /// Keeps an insertion.
    pub fn keep(&mut self, now: Time, new: Arc<NewRun>) {
        self.due.push_back((now.plus_ms(WAIT_MS), new.id));
        self.insertions.insert(new.id, new);
    }

    /// The insertion of a run that is written again, if it is still here: it goes in front of that.
    pub fn take(&mut self, run: RunId) -> Option<Arc<NewRun>> {
        let taken = self.insertions.remove(&run)?;
        while let Some((_, first)) = self.due.front()
            && !self.insertions.contains_key(first)
        {
            self.due.pop_front();
        }
        Some(taken)
    }

    /// When the next one leaves.
    pub fn next(&self) -> Option<Time> {
        self.due.front().map(|(at, _)| *at)
    }

    /// Those that have waited long enough, in the order in which they came.
    pub fn leave(&mut self, now: Time) -> Vec<Arc<NewRun>> {
        let mut left = Vec::new();
        while let Some((at, run)) = self.due.front().copied()
            && at <= now
        {
            self.due.pop_front();
            left.extend(self.insertions.remove(&run));
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::testing::new_run;

    fn keep(patience: &mut Patience, ms: u64) -> RunId {
        let new = Arc::new(new_run());
        patience.keep(Time(0).plus_ms(ms), Arc::clone(&new));
        new.id
    }

    #[test]
    fn an_insertion_leaves_once_in_time_or_with_what_follows() {
        let mut patience = Patience::default();
        assert_eq!(patience.next(), None);
        let [first, second, third] = [0, 1, 1].map(|ms| keep(&mut patience, ms));
        assert_eq!(patience.next(), Some(Time(0).plus_ms(WAIT_MS)));
        assert_eq!(patience.take(second).map(|new| new.id), Some(second));
        assert!(patience.take(second).is_none());
        assert_eq!(patience.next(), Some(Time(0).plus_ms(WAIT_MS)), "the first still waits");
        let left: Vec<RunId> = patience.leave(Time(0).plus_ms(WAIT_MS)).iter().map(|new| new.id).collect();
        assert_eq!(left, [first]);
        assert_eq!(patience.take(third).map(|new| new.id), Some(third));
        assert_eq!(patience.next(), None, "nothing is due that has left");
        assert!(patience.leave(Time(u64::MAX)).is_empty());
    }
}
