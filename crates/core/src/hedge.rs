//! A second attempt beside a slow one.
//!
//! Under every policy whose attempts may be repeated, an attempt that takes longer than half as long again as most of its
//! module gets company on another worker, if one is free and nobody waits for it. The first to vote is taken, and where
//! votes are compared the second is one more of them. All attempts together earn a few such attempts (Dean and Barroso,
//! The Tail at Scale: a few percent more work for a far shorter tail), so a pool that is slow as a whole is not made
//! slower (I9).

use super::credibility::Seat;
use super::explain::Note;
use super::floor::Floor;
use super::placement::is_placeable;
use super::run::Run;
use vocabulary::spec::Retry;

/// What one second attempt costs, in thousandths.
const COST_MILLI: u64 = 1_000;

impl Floor {
    /// An attempt was handed out: it earns a part of a second one.
    pub(super) fn earn_hedge(&mut self) {
        let most = u64::from(self.config.hedge_burst) * COST_MILLI;
        self.hedge_milli = (self.hedge_milli + u64::from(self.config.hedge_permille)).min(most);
    }

    /// An attempt takes `took_ms` and is slow after `slow_ms`: hands out a second one, if that takes nothing from anybody.
    pub(super) fn hedge(&mut self, run: &mut Run, position: usize, took_ms: u64, slow_ms: u64) {
        let is_possible = run.policy.retry == Retry::Reassign
            && self.config.hedge_permille > 0
            && self.hedge_milli >= COST_MILLI
            && self.queue.is_empty()
            && !self.crew.free().is_empty();
        if !is_possible || run.attempts[position].is_hedged || run.reverify.is_some() || run.is_settled() {
            return;
        }
        let crashes_max = self.config.crashes_max;
        if run.spent().crashes > 0
            || run.live() >= crashes_max
            || !self.modules[run.module].admits(&self.config)
        {
            return;
        }
        let shape = run.shape(1, Seat::Voter);
        let suited = self.queue.suited(&shape, &self.crew, self.now).1;
        if !is_placeable(&shape, suited, &self.crew) {
            return;
        }
        self.hedge_milli -= COST_MILLI;
        run.attempts[position].is_hedged = true;
        run.wants_hedge = true;
        let (number, worker) = (run.attempts[position].record.number, run.attempts[position].record.worker);
        self.note(run, Note::Hedged { number, worker, took_ms, slow_ms });
        self.advance(run);
    }
}
