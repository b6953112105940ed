//! Mirrors a guest's output into the shared page, for people who watch.
//!
//! Invariant: an attempt that nobody watches and that is short costs a copy of what it writes and no more. Nothing here
//! waits, and what does not fit is left out, oldest first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::page::RunnerPage;
use crate::sandbox::LiveOutput;

/// How long an attempt runs before its output is mirrored without anybody having asked.
const MIRROR_AFTER: Duration = Duration::from_millis(100);
/// Output of that time that is kept for somebody who comes later, in bytes for each stream.
const EARLY_BYTES_MAX: usize = 16 * 1024;

/// One attempt's sink.
pub(super) struct Mirror {
    page: Arc<RunnerPage>,
    seq: u64,
    began: Instant,
    mirroring: bool,
    streams: [Stream; 2],
}

#[derive(Default)]
struct Stream {
    /// Bytes of the stream before `early`.
    position: u64,
    early: Vec<u8>,
}

impl Mirror {
    pub(super) fn new(page: Arc<RunnerPage>, seq: u64, watched: bool) -> Mirror {
        if watched {
            page.open_rings(seq, [0, 0]);
        }
        Mirror { page, seq, began: Instant::now(), mirroring: watched, streams: Default::default() }
    }

    /// Begins to mirror, with what was kept.
    fn open(&mut self) {
        self.mirroring = true;
        self.page.open_rings(self.seq, [self.streams[0].position, self.streams[1].position]);
        for (index, stream) in self.streams.iter_mut().enumerate() {
            self.page.mirror(index, stream.position, &stream.early);
            stream.position += stream.early.len() as u64;
            stream.early = Vec::new();
        }
    }
}

impl LiveOutput for Mirror {
    fn wrote(&mut self, is_stderr: bool, bytes: &[u8]) {
        let index = usize::from(is_stderr);
        if !self.mirroring && self.began.elapsed() >= MIRROR_AFTER {
            self.open();
        }
        let stream = &mut self.streams[index];
        if self.mirroring {
            self.page.mirror(index, stream.position, bytes);
            stream.position += bytes.len() as u64;
        } else if stream.early.len() + bytes.len() <= EARLY_BYTES_MAX {
            stream.early.extend_from_slice(bytes);
        } else {
            stream.position += (stream.early.len() + bytes.len()) as u64;
            stream.early.clear();
        }
    }
}
