//! What the owner counts, and what it shows of the pool as a whole.

use std::sync::atomic::Ordering;

use super::Owner;
use crate::coordinator::open_run::OpenRun;
use crate::core::{Time, WorkerView};
use crate::id::{AttemptId, RunId, WorkerId, WorkspaceId};
use crate::protocol::api::{QueueCounts, Tally};
use crate::store::WorkerRow;

/// The last hour, in minutes.
const HOUR: u64 = 60;

/// The pool at a glance.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// When.
    pub at: Time,
    /// Runs of the workspace that have not ended.
    pub queue: QueueCounts,
    /// Runs of the workspace that end each second.
    pub runs_per_second: f64,
    /// Since when the next is complete.
    pub since: Time,
    /// What happened to the workspace's runs in the last hour.
    pub last_hour: Tally,
}

/// A worker with what it does now.
#[derive(Clone, Debug)]
pub struct WorkerNow {
    /// Its row.
    pub row: WorkerRow,
    /// What the pool sees of it.
    pub view: WorkerView,
    /// What it holds, the oldest first.
    pub current: Vec<CurrentAttempt>,
    /// When this was true.
    pub at: Time,
}

/// An attempt that a worker holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CurrentAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// When it was handed out.
    pub assigned_at: Time,
    /// When its runner began it.
    pub begun_at: Option<Time>,
    /// CPU time as of the last heartbeat, in microseconds.
    pub cpu_us: u64,
}

impl Owner {
    /// A run is open from now on.
    pub(super) fn enter(&mut self, open: OpenRun) {
        let counts = self.open.entry(open.new.workspace).or_default();
        counts.0 += 1;
        counts.1 += u64::from(open.has_begun);
        self.runs.insert(open.new.id, open);
        self.parts.open_runs.store(self.runs.len(), Ordering::Relaxed);
    }

    /// A run is open no longer.
    pub(super) fn left(&mut self, open: &OpenRun) {
        let counts = self.open.entry(open.new.workspace).or_default();
        counts.0 = counts.0.saturating_sub(1);
        counts.1 = counts.1.saturating_sub(u64::from(open.has_begun));
        self.parts.open_runs.store(self.runs.len(), Ordering::Relaxed);
    }

    /// A run is durable, or needs not be.
    pub(super) fn count_acknowledged(&mut self, workspace: WorkspaceId, created_at: Time) {
        self.parts.metrics.runs_submitted.inc();
        self.ledgers.minute(workspace, created_at).submitted += 1;
    }

    /// An attempt of a run was handed out.
    pub(super) fn handed_out(&mut self, run: RunId) {
        let now = self.now();
        let Some(open) = self.runs.get_mut(&run) else { return };
        if open.anew.is_some() {
            // nobody's open run
            return;
        }
        if !open.has_begun {
            open.has_begun = true;
            self.open.entry(open.new.workspace).or_default().1 += 1;
        }
        if open.reruns_owed > 0 {
            open.reruns_owed -= 1;
            self.ledgers.minute(open.new.workspace, now).reruns += 1;
        }
    }

    /// Counts something that happened just now to an open run.
    pub(super) fn count(&mut self, run: RunId, what: impl FnOnce(&mut Tally)) {
        let now = self.now();
        if let Some(open) = self.runs.get(&run) {
            what(self.ledgers.minute(open.new.workspace, now));
        }
    }

    pub(super) fn glance(&self, workspace: WorkspaceId) -> Glance {
        let at = self.now();
        let (open, running) = self.open.get(&workspace).copied().unwrap_or_default();
        Glance {
            at,
            queue: QueueCounts { queued: open.saturating_sub(running), running },
            runs_per_second: self.ledgers.rate(workspace, at),
            since: self.ledgers.since(at).max(Time(at.0.saturating_sub(HOUR * 60_000_000))),
            last_hour: self.ledgers.sum(workspace, at, HOUR),
        }
    }

    pub(super) fn worker_now(&self, worker: WorkerId) -> Option<WorkerNow> {
        let link = self.links.get(&worker)?;
        let view = self.parts.pool.worker(worker)?;
        let mut current: Vec<CurrentAttempt> = view
            .holds
            .iter()
            .filter_map(|attempt| {
                let run = self.parts.pool.run(attempt.run)?;
                let record = run.attempts.into_iter().find(|record| record.number == attempt.number)?;
                Some(CurrentAttempt {
                    attempt: *attempt,
                    assigned_at: record.assigned_at,
                    begun_at: record.begun_at,
                    cpu_us: link.cpu_us.get(attempt).copied().unwrap_or(record.cpu_us),
                })
            })
            .collect();
        current.sort_by_key(|current| (current.assigned_at, current.attempt));
        Some(WorkerNow { row: link.row.clone(), view, current, at: self.now() })
    }
}
