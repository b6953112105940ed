//! Finals of `durable: false` runs: kept in memory for a while, gone with the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::service::RunDetail;
use crate::digest::Digest;
use crate::id::{RunId, WorkspaceId};

/// Finals kept at most.
const RUNS_MAX: usize = 10_000;
/// Bytes that they take in memory at most; larger outputs are blobs.
const BYTES_MAX: usize = 64 << 20;
/// What a map entry, a record or a sentence takes beside its texts, in bytes.
const ENTRY: usize = 96;

/// The newest finals, oldest dropped first.
#[derive(Default)]
pub struct Ring {
    by_id: HashMap<RunId, Kept>,
    order: VecDeque<RunId>,
    bytes: usize,
}

/// A final with its small output files, which are nowhere else.
struct Kept {
    detail: Arc<RunDetail>,
    outputs: BTreeMap<Digest, Bytes>,
}

impl Kept {
    fn weight(&self) -> usize {
        weight(&self.detail) + self.outputs.values().map(|bytes| bytes.len() + ENTRY).sum::<usize>()
    }
}

impl Ring {
    /// Takes a final and its small output files; gives those that went for it.
    pub fn put(&mut self, detail: Arc<RunDetail>, outputs: BTreeMap<Digest, Bytes>) -> Vec<RunId> {
        let id = detail.run.id;
        let kept = Kept { detail, outputs };
        self.bytes += kept.weight();
        self.order.push_back(id);
        self.by_id.insert(id, kept);
        let mut gone = Vec::new();
        while self.order.len() > RUNS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(kept) = self.by_id.remove(&oldest) {
                self.bytes -= kept.weight();
                gone.push(oldest);
            }
        }
        gone
    }

    /// A final, if it is still there and of this workspace.
    pub fn get(&self, workspace: WorkspaceId, run: RunId) -> Option<Arc<RunDetail>> {
        self.kept(workspace, run).map(|kept| Arc::clone(&kept.detail))
    }

    /// A small output file of a final, if that is still there and of this workspace.
    pub fn output(&self, workspace: WorkspaceId, run: RunId, digest: Digest) -> Option<Bytes> {
        self.kept(workspace, run)?.outputs.get(&digest).cloned()
    }

    fn kept(&self, workspace: WorkspaceId, run: RunId) -> Option<&Kept> {
        self.by_id.get(&run).filter(|kept| kept.detail.run.workspace == workspace)
    }
}

/// About what a final takes in memory, in bytes: whatever a caller can make large is counted.
pub fn weight(detail: &RunDetail) -> usize {
    let run = &detail.run;
    let outputs = [&detail.stdout, &detail.stderr].into_iter().flatten().map(Bytes::len);
    let files =
        run.manifest.iter().flat_map(|manifest| &manifest.files).map(|file| file.path.as_str().len() + ENTRY);
    let args = run.spec.args.iter().map(|arg| arg.len() + ENTRY);
    let env = run.spec.env.iter().map(|(name, value)| name.len() + value.len() + ENTRY);
    let inputs = run.spec.files.keys().map(|path| path.as_str().len() + ENTRY);
    let explain = run.explain.iter().map(crate::core::Explained::held_bytes);
    let attempts = run.attempts.iter().map(|_| 2 * ENTRY);
    let parts: usize =
        outputs.chain(files).chain(args).chain(env).chain(inputs).chain(explain).chain(attempts).sum();
    parts + 8 * ENTRY
}
