//! The standard streams: input from the invocation, output into buffers that share one limit.

use bytes::Bytes;

use super::{Fail, HostMemoryError, OutputLimitReached};
use crate::LiveOutput;

/// The three streams of one run.
pub struct Stdio {
    stdin: Bytes,
    /// Bytes of input that were taken.
    taken: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Bytes that may still be written.
    room: u64,
    live: Option<Box<dyn LiveOutput>>,
}

impl Stdio {
    /// Input, limit on the output, and who watches.
    pub fn new(stdin: Bytes, output_bytes: u64, live: Option<Box<dyn LiveOutput>>) -> Stdio {
        Stdio { stdin, taken: 0, stdout: Vec::new(), stderr: Vec::new(), room: output_bytes, live }
    }

    /// Takes input into `buffer`; fewer bytes than it has only at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.stdin[self.taken..];
        let length = buffer.len().min(rest.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        length
    }

    /// Bytes of input that are left.
    pub fn unread(&self) -> u64 {
        (self.stdin.len() - self.taken) as u64
    }

    /// Bytes of output that may still be written.
    pub fn room(&self) -> u64 {
        self.room
    }

    /// Appends output. What passes the limit is cut off exactly there, and the guest is stopped.
    pub fn write(&mut self, is_stderr: bool, bytes: &[u8]) -> Result<(), Fail> {
        let kept = &bytes[..bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX))];
        let buffer = if is_stderr { &mut self.stderr } else { &mut self.stdout };
        let (length, needed) = (buffer.len(), buffer.len() + kept.len());
        if needed > buffer.capacity() {
            // Doubling keeps appending cheap; never beyond what the limit still allows.
            let most = length.saturating_add(usize::try_from(self.room).unwrap_or(usize::MAX));
            let wanted = buffer.capacity().saturating_mul(2).max(256).min(most).max(needed);
            buffer.try_reserve_exact(wanted - length).map_err(|_| HostMemoryError)?;
        }
        buffer.extend_from_slice(kept);
        self.room -= kept.len() as u64;
        if let Some(live) = &mut self.live
            && !kept.is_empty()
        {
            live.wrote(is_stderr, kept);
        }
        if kept.len() < bytes.len() { Err(OutputLimitReached.into()) } else { Ok(()) }
    }

    /// Standard output and standard error.
    pub fn finish(self) -> (Bytes, Bytes) {
        (self.stdout.into(), self.stderr.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_never_holds_more_than_the_limit_allows() {
        let mut stdio = Stdio::new(Bytes::new(), 1_000_000, None);
        for _ in 0..1_000 {
            stdio.write(false, &[b'x'; 900]).unwrap();
            assert!(stdio.stdout.capacity() <= 1_000_000, "{}", stdio.stdout.capacity());
        }
        stdio.write(true, &[b'x'; 100_000]).unwrap();
        assert!(stdio.stderr.capacity() <= 100_000);
        assert!(stdio.write(true, b"x").is_err());
    }
}
