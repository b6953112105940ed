//! A worker as the pool sees it: what it declared, what it holds, how it has done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::types::{Joining, Time, WorkerStanding, WorkerView};
use crate::digest::Digest;
use crate::id::AttemptId;

/// Modules that a worker is taken to have loaded: those that it executed last.
const LOADED_MAX: usize = 32;

/// See the module.
#[derive(Clone, Debug)]
pub struct Worker {
    /// What others may see; kept up to date in place.
    pub view: WorkerView,
    /// Memory of each attempt that it holds.
    pub leases: BTreeMap<AttemptId, u64>,
    /// Modules that it executed last, newest first.
    loaded: VecDeque<Digest>,
    /// Modules that failed on it since its last vote.
    pub failing: BTreeSet<Digest>,
}

impl Worker {
    /// As it joins.
    pub fn new(joining: &Joining, now: Time) -> Worker {
        let standing = if joining.quarantined { WorkerStanding::Quarantined } else { WorkerStanding::Active };
        Worker {
            view: WorkerView {
                worker: joining.worker,
                standing,
                why: joining.quarantined.then(|| "quarantined before it joined".to_owned()),
                class: joining.class,
                domain: joining.domain.clone(),
                labels: joining.labels.clone(),
                slots: joining.slots,
                credits: 0,
                holds: Vec::new(),
                memory_bytes: joining.memory_bytes,
                memory_leased: 0,
                votes: 0,
                dissents: 0,
                faults: 0,
                heard_at: now,
            },
            leases: BTreeMap::new(),
            loaded: VecDeque::new(),
            failing: BTreeSet::new(),
        }
    }

    /// Whether it may be given work at all.
    pub fn is_active(&self) -> bool {
        self.view.standing == WorkerStanding::Active
    }

    /// Whether it would take one more attempt of this size now (I13).
    pub fn has_room(&self, memory_bytes: u64) -> bool {
        self.is_active()
            && self.view.credits > 0
            && memory_bytes <= self.view.memory_bytes.saturating_sub(self.view.memory_leased)
    }

    /// Gives it an attempt.
    pub fn lease(&mut self, attempt: AttemptId, memory_bytes: u64) {
        self.view.credits = self.view.credits.saturating_sub(1);
        self.hold(attempt, memory_bytes);
    }

    /// It holds an attempt that it was given before.
    pub fn hold(&mut self, attempt: AttemptId, memory_bytes: u64) {
        if self.leases.insert(attempt, memory_bytes).is_none() {
            self.view.holds.push(attempt);
            self.view.memory_leased += memory_bytes;
        }
    }

    /// It no longer holds an attempt.
    pub fn release(&mut self, attempt: AttemptId) {
        if let Some(memory) = self.leases.remove(&attempt) {
            self.view.holds.retain(|held| *held != attempt);
            self.view.memory_leased -= memory;
        }
    }

    /// Whether it executed the module lately.
    pub fn has_loaded(&self, module: Digest) -> bool {
        self.loaded.contains(&module)
    }

    /// It executes the module.
    pub fn loads(&mut self, module: Digest) {
        if self.loaded.front() == Some(&module) {
            return;
        }
        self.loaded.retain(|other| *other != module);
        self.loaded.push_front(module);
        self.loaded.truncate(LOADED_MAX);
    }
}
