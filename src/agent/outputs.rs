//! The outputs of attempts that were voted on, kept until they are released.
//!
//! Invariant: nothing is copied; large outputs stay in the anonymous file in which the runner left them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::Digest;
use crate::id::AttemptId;
use crate::protocol::agent::{BlobBody, INLINE_BYTES_MAX};
use crate::runner::frames::Output;

/// Outputs of one attempt.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The result manifest.
    manifest: Option<(Digest, Bytes)>,
    /// By their names: a run may leave very many.
    outputs: BTreeMap<Digest, Output>,
    file: Option<Arc<File>>,
    bytes: u64,
}

impl Kept {
    /// Takes what a runner delivered.
    ///
    /// # Errors
    ///
    /// If the file is not as long as the outputs in it, or more is inline than may be.
    pub(super) fn new(
        result: Digest,
        manifest: Bytes,
        outputs: Vec<(Digest, Output)>,
        file: Option<OwnedFd>,
    ) -> Result<Kept, &'static str> {
        let file = file.map(File::from);
        let length = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        let (mut inline, mut stored) = (0, 0);
        for (_, output) in &outputs {
            match output {
                Output::Inline(bytes) => inline += bytes.len(),
                Output::Stored { offset, size } => {
                    let end = offset.checked_add(*size).filter(|end| *end <= length);
                    stored = end.ok_or("an output lies outside of its file")?.max(stored);
                }
            }
        }
        if inline > INLINE_BYTES_MAX {
            return Err("its inline outputs are too large");
        }
        let bytes = (manifest.len() + inline) as u64 + stored;
        let outputs = outputs.into_iter().collect();
        Ok(Kept { manifest: Some((result, manifest)), outputs, file: file.map(Arc::new), bytes })
    }

    /// All outputs, if they are inline.
    pub(super) fn inline(&self) -> Vec<(Digest, Bytes)> {
        let inline = |(digest, output): (&Digest, &Output)| match output {
            Output::Inline(bytes) => Some((*digest, bytes.clone())),
            Output::Stored { .. } => None,
        };
        self.outputs.iter().filter_map(inline).collect()
    }

    fn blob(&self, digest: Digest) -> Option<BlobBody> {
        if let Some((_, manifest)) = self.manifest.as_ref().filter(|(result, _)| *result == digest) {
            return Some(BlobBody::Inline(manifest.clone()));
        }
        match self.outputs.get(&digest)? {
            Output::Inline(bytes) => Some(BlobBody::Inline(bytes.clone())),
            Output::Stored { offset, size } => {
                let file = Arc::clone(self.file.as_ref()?);
                Some(BlobBody::File { file, offset: *offset, size: *size })
            }
        }
    }
}

/// Outputs of all attempts.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    attempts: HashMap<AttemptId, Kept>,
    bytes: u64,
}

impl Outputs {
    pub(super) fn keep(&mut self, attempt: AttemptId, kept: Kept) {
        self.bytes += kept.bytes;
        if let Some(old) = self.attempts.insert(attempt, kept) {
            self.bytes -= old.bytes;
        }
    }

    pub(super) fn release(&mut self, attempt: AttemptId) {
        if let Some(old) = self.attempts.remove(&attempt) {
            self.bytes -= old.bytes;
        }
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Those of the wanted blobs that are there.
    pub(super) fn blobs(&self, attempt: AttemptId, wanted: &[Digest]) -> Vec<(Digest, BlobBody)> {
        let Some(kept) = self.attempts.get(&attempt) else { return Vec::new() };
        wanted.iter().filter_map(|digest| Some((*digest, kept.blob(*digest)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::id::RunId;
    use crate::spec::Limits;

    #[test]
    fn as_many_outputs_as_a_run_may_leave_are_found_at_once() {
        let digests: Vec<_> =
            (0..Limits::MAX.file_count).map(|number| Digest::of(&number.to_be_bytes())).collect();
        let stored = |digest: &Digest| (*digest, Output::Stored { offset: 0, size: 0 });
        let file = tempfile::tempfile().unwrap().into();
        let kept = Kept::new(Digest::EMPTY, Bytes::new(), digests.iter().map(stored).collect(), Some(file));
        let attempt = AttemptId { run: RunId(1), number: 1 };
        let mut outputs = Outputs::default();
        outputs.keep(attempt, kept.unwrap());
        let began = Instant::now();
        assert_eq!(outputs.blobs(attempt, &digests).len(), digests.len());
        // Far above what it takes, and far below what looking through all of them for each takes.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
