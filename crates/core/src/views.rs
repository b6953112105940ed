//! What others may read of the pool: runs, workers and figures as they are now.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::evidence::Standing;
use super::kin::Kin;
use super::pool::Pool;
use super::workers::Worker;
use super::{AttemptRecord, Class, Explained, Portable, Time};
use vocabulary::id::{AttemptId, RunId, WorkerId};
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
    pub explain: Arc<Vec<Explained>>,
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
    /// Its class for `det-1`.
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
    /// What its evidence says, as of its last entry.
    pub evidence: Standing,
    /// The probability that its next result is wrong, in parts per billion.
    pub error_ppb: u64,
    /// Whether it is a trusted executor.
    pub is_arbiter: bool,
    /// Its classes for `det-1-portable`.
    pub portable: Portable,
    /// Other active workers that give the same portable results.
    pub portable_peers: usize,
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

/// What peers are counted in.
const SHOWN: [Kin; 2] = [Kin::Native, Kin::Portable];

/// What everybody can see of it.
impl Pool {
    /// A run that is not final. While its final record is being written it is shown as it was before.
    pub fn run(&self, run: RunId) -> Option<RunView> {
        self.runs.get(&run).map(|run| run.view())
    }

    /// A worker that joined at some time since the coordinator started.
    pub fn worker(&self, worker: WorkerId) -> Option<WorkerView> {
        Some(self.shown(self.floor.crew.get(worker)?, &self.classes()))
    }

    /// All of them, in the order in which they first joined.
    pub fn workers(&self) -> Vec<WorkerView> {
        let classes = self.classes();
        self.floor.crew.iter().map(|worker| self.shown(worker, &classes)).collect()
    }

    /// Active workers of each class.
    fn classes(&self) -> BTreeMap<(Kin, Class), usize> {
        let mut classes = BTreeMap::new();
        for worker in self.floor.crew.iter().filter(|worker| worker.is_active()) {
            for kin in SHOWN {
                *classes.entry((kin, worker.class_of(kin))).or_default() += 1;
            }
        }
        classes
    }

    fn shown(&self, worker: &Worker, classes: &BTreeMap<(Kin, Class), usize>) -> WorkerView {
        let there = |kin| classes.get(&(kin, worker.class_of(kin))).copied().unwrap_or(0);
        worker.view(SHOWN.map(|kin| there(kin) - usize::from(worker.is_active())))
    }

    /// Figures for metrics.
    pub fn stats(&self) -> Stats {
        let active = self.floor.crew.iter().filter(|worker| worker.is_active());
        let suspect = |worker: &&Worker| worker.standing() == WorkerStanding::Suspect;
        Stats {
            queued: self.runs.len() - self.floor.running,
            running: self.floor.running,
            attempts_live: self.floor.attempts_live,
            workers_active: self.floor.active,
            workers_suspect: self.floor.crew.iter().filter(suspect).count(),
            slots: active.map(|worker| worker.slots).sum(),
        }
    }
}
