//! Finals of `durable: false` runs: kept in memory for a while, gone with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::service::RunDetail;
use crate::id::{RunId, WorkspaceId};

/// Finals kept at most.
const RUNS_MAX: usize = 10_000;
/// Bytes that they take in memory at most; larger outputs are blobs.
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

/// About what a final takes in memory, in bytes: whatever a caller can make large is counted.
fn weight(detail: &RunDetail) -> usize {
    /// What a map entry, a record or a sentence takes beside its texts.
    const ENTRY: usize = 96;
    let run = &detail.run;
    let outputs = [&detail.stdout, &detail.stderr].into_iter().flatten().map(Bytes::len);
    let files =
        run.manifest.iter().flat_map(|manifest| &manifest.files).map(|file| file.path.as_str().len() + ENTRY);
    let args = run.spec.args.iter().map(|arg| arg.len() + ENTRY);
    let env = run.spec.env.iter().map(|(name, value)| name.len() + value.len() + ENTRY);
    let inputs = run.spec.files.keys().map(|path| path.as_str().len() + ENTRY);
    let explain = run.explain.iter().map(|entry| entry.text.len() + ENTRY);
    let attempts = run.attempts.iter().map(|_| 2 * ENTRY);
    let parts: usize =
        outputs.chain(files).chain(args).chain(env).chain(inputs).chain(explain).chain(attempts).sum();
    parts + 8 * ENTRY
}
