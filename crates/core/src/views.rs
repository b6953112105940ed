//! What others may read of the pool: runs, workers and figures as they are now.

use std::collections::BTreeMap;

use super::{AttemptRecord, Class, Explained, Time};
use vocabulary::id::{AttemptId, WorkerId};
use vocabulary::result::{RunState, Verdict};

/// A run as the pool sees it now, before it is final.
#[derive(Clone, PartialEq, Debug)]
pub struct RunView {
    /// `Queued` or `Running`: a final is shown from the store, once committed.
    pub state: RunState,
    /// So far.
    pub verdict: Verdict,
    /// So far.
    pub attempts: Vec<AttemptRecord>,
    /// So far.
    pub explain: Vec<Explained>,
}

/// Whether a worker gets work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerStanding {
    /// It does.
    Active,
    /// It missed two heartbeats: nothing new for it, what it holds goes on.
    Suspect,
    /// It finishes what it holds.
    Draining,
    /// It missed so many heartbeats that what it held is rerun, or its session ended.
    Lost,
    /// It gets nothing and counts for nothing.
    Quarantined,
}

impl WorkerStanding {
    /// The name that JSON uses.
    pub fn name(self) -> &'static str {
        match self {
            WorkerStanding::Active => "active",
            WorkerStanding::Suspect => "suspect",
            WorkerStanding::Draining => "draining",
            WorkerStanding::Lost => "lost",
            WorkerStanding::Quarantined => "quarantined",
        }
    }
}

/// A worker as the pool sees it now.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkerView {
    /// Who.
    pub worker: WorkerId,
    /// Whether it gets work.
    pub standing: WorkerStanding,
    /// Why it does not.
    pub why: Option<String>,
    /// Its class.
    pub class: Class,
    /// Other active workers of its class: with none, nothing that it votes for can be compared.
    pub peers: usize,
    /// Its trust domain.
    pub domain: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Declared slots.
    pub slots: u32,
    /// Attempts it would take now.
    pub credits: u32,
    /// Attempts it holds.
    pub holds: Vec<AttemptId>,
    /// Declared memory, in bytes.
    pub memory_bytes: u64,
    /// Memory leased to its attempts, in bytes.
    pub memory_leased: u64,
    /// Votes since it joined this coordinator.
    pub votes: u64,
    /// Votes that lost.
    pub dissents: u64,
    /// Crashes, timeouts, losses, refusals and corruptions.
    pub faults: u64,
    /// When it was last heard of.
    pub heard_at: Time,
}

/// Figures for metrics and overload decisions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Runs without an attempt.
    pub queued: usize,
    /// Runs with one.
    pub running: usize,
    /// Attempts that workers hold.
    pub attempts_live: usize,
    /// Workers that are active.
    pub workers_active: usize,
    /// Workers that are suspect.
    pub workers_suspect: usize,
    /// Slots that they declared.
    pub slots: u32,
}
