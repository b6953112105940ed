//! Outputs of what was voted for, kept until the coordinator releases them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::digest::Digest;
use crate::id::AttemptId;
use crate::protocol::agent::BlobBody;

/// Outputs of one attempt, by digest.
#[derive(Default)]
pub(super) struct Kept {
    blobs: BTreeMap<Digest, BlobBody>,
    bytes: u64,
}

impl Kept {
    pub(super) fn insert(&mut self, digest: Digest, body: BlobBody, size: u64) {
        if self.blobs.insert(digest, body).is_none() {
            self.bytes += size;
        }
    }

    /// The bodies of these digests; files are shared, not copied.
    pub(super) fn bodies(&self, digests: &[Digest]) -> Vec<(Digest, BlobBody)> {
        let body = |digest: &Digest| {
            let body = match self.blobs.get(digest)? {
                BlobBody::Inline(bytes) => BlobBody::Inline(bytes.clone()),
                BlobBody::File { file, offset, size } => {
                    BlobBody::File { file: Arc::clone(file), offset: *offset, size: *size }
                }
            };
            Some((*digest, body))
        };
        digests.iter().filter_map(body).collect()
    }
}

/// Outputs of all attempts that were not released.
#[derive(Default)]
pub(super) struct Outputs {
    by_attempt: HashMap<AttemptId, Kept>,
    bytes: u64,
}

impl Outputs {
    pub(super) fn keep(&mut self, attempt: AttemptId, kept: Kept) {
        self.bytes += kept.bytes;
        self.by_attempt.insert(attempt, kept);
    }

    pub(super) fn release(&mut self, attempt: AttemptId) {
        if let Some(kept) = self.by_attempt.remove(&attempt) {
            self.bytes -= kept.bytes;
        }
    }

    pub(super) fn bodies(&self, attempt: AttemptId, digests: &[Digest]) -> Vec<(Digest, BlobBody)> {
        self.by_attempt.get(&attempt).map(|kept| kept.bodies(digests)).unwrap_or_default()
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
