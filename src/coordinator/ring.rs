//! Finals of `durable: false` runs: kept in memory for a while, gone with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::service::RunDetail;
use crate::id::{RunId, WorkspaceId};

/// Finals kept at most.
const RUNS_MAX: usize = 10_000;
/// Bytes of their outputs kept at most; larger outputs are blobs.
const BYTES_MAX: usize = 64 << 20;

/// The newest finals, oldest dropped first.
#[derive(Default)]
pub struct Ring {
    by_id: HashMap<RunId, Arc<RunDetail>>,
    order: VecDeque<RunId>,
    bytes: usize,
}

impl Ring {
    /// Takes a final.
    pub fn put(&mut self, detail: Arc<RunDetail>) {
        self.bytes += weight(&detail);
        self.order.push_back(detail.run.id);
        self.by_id.insert(detail.run.id, detail);
        while self.order.len() > RUNS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(detail) = self.by_id.remove(&oldest) {
                self.bytes -= weight(&detail);
            }
        }
    }

    /// A final, if it is still there and of this workspace.
    pub fn get(&self, workspace: WorkspaceId, run: RunId) -> Option<Arc<RunDetail>> {
        self.by_id.get(&run).filter(|detail| detail.run.workspace == workspace).cloned()
    }
}

fn weight(detail: &RunDetail) -> usize {
    detail.stdout.as_ref().map_or(0, |bytes| bytes.len())
        + detail.stderr.as_ref().map_or(0, |bytes| bytes.len())
}
