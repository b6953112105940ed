//! The rules of the pool, pure: `step(now, event, &mut effects)`.
//!
//! The core knows no clock, no randomness, no I/O, no serde, no logging, no HTTP status and no SQL. It holds the
//! life cycle of runs and attempts, queues and fairness, placement, votes and verdicts, budgets and timers; the
//! coordinator shell and the simulator drive it with the same events and carry out the same effects.
//!
//! Invariants, by the numbers that tests and assertions cite:
//!
//! - **I1** an acknowledged durable run exists in every later state, with the same spec. (An answer from the cache is no
//!   acknowledgement: it is given before its row is written, and is of no work.)
//! - **I2** at most one final result per run and revision.
//! - **I3** a verified final rests on votes that satisfied the policy when it was written.
//! - **I4** a worker counts once per run.
//! - **I5** never two live attempts of a run on one worker, nor a rerun on a worker that held one while
//!   another eligible one is free.
//! - **I6** every state-changing write names epoch and state; a stale owner commits nothing.
//! - **I7** terminal is absorbing.
//! - **I8** cancel and finalise are one conditional write; every caller hears the same answer.
//! - **I9** attempts, reruns and hedges stay within their budgets.
//! - **I10** a module kills at most 3 runners per run.
//! - **I11** same idempotency key: same run, or a rejection if the payload differs.
//! - **I12** every referenced blob exists and hashes to its name.
//! - **I13** slots and memory leased never exceed what was declared.
//! - **I14** a quarantined worker gets nothing and counts for nothing.
//! - **I15** nobody is blamed for a nondeterministic module.
//! - **L1** once faults stop every acknowledged run ends.
//! - **L2** no workspace starves.

mod attempt;
mod bits;
mod blame;
mod check;
mod claims;
mod credibility;
mod decide;
mod discord;
mod effects;
mod evidence;
mod explain;
mod failures;
mod floor;
mod frame;
mod grace;
mod hash;
mod hedge;
mod idle;
mod kin;
mod modules;
mod placement;
mod pool;
mod queue;
mod quorum;
mod reach;
mod repair;
mod retry;
mod returned;
mod roster;
mod run;
mod settle;
mod share;
mod signs;
mod slab;
mod ticks;
mod timers;
mod types;
mod views;
mod workers;

pub use credibility::{Opinion, Rule, Seat, Weighing, Weight, group_error_ppb, weigh};
pub use effects::*;
pub use evidence::{Evidence, LAPSES_MAX, Lapse, Prior, Standing, Witness, day_of};
pub use explain::Explained;
pub use pool::Pool;
pub use quorum::{EXTRA_VOTERS_MAX, Tally, majority, tally};
pub use repair::{PastVote, Suspect, is_decisive, repair_order, what_is_left_ppb};
pub use types::*;
pub use views::*;
pub use vocabulary::class::Portable;
pub use vocabulary::id::Class;

#[cfg(test)]
mod tests;
