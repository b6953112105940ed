//! The page that a runner shares with its agent: what it has begun, what was taken back from it, and what a guest
//! writes while somebody watches. Neither side wakes the other with it.
//!
//! The runner writes it through its mapping; the agent reads and writes the file. Every word has one writer, and the
//! agent believes nothing of it: a runner that lies here gets its own attempts wrong.
//!
//! **Taking back.** The agent writes the number of an attempt into `REVOKED` and then reads what has begun; the runner
//! marks an attempt begun and then looks whether it was taken back. With a full fence between the two steps on both
//! sides, at least one of them sees the other: an attempt that the agent saw not begun is never executed.
//!
//! **Live output.** Each stream has a ring. The writer announces in `RESERVED` how far it will overwrite, copies, and
//! then moves `END`; a reader that copies first and reads `RESERVED` afterwards knows which of its bytes are still true.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{Ordering, fence};

use rustix::fs::{SealFlags, fcntl_add_seals};

use super::frames::anonymous_file;
use super::mapping::Shared;

/// Bytes of each stream's ring.
pub const RING_BYTES: u64 = 64 * 1024;
/// Attempts that a runner may hold at once, those that it has not begun included.
pub const AHEAD_MAX: usize = 8;
/// Length of the whole page, in bytes.
pub const PAGE_BYTES: usize = RINGS + 2 * RING_BYTES as usize;

// Words of eight bytes.
const BEGUN_SEQ: usize = 0;
const BEGUN_NS: usize = 1;
const BEGUN_CPU_US: usize = 2;
const LIVE_SEQ: usize = 3;
/// Per stream: from which position on it is mirrored at all.
const START: usize = 4;
const RESERVED: usize = 6;
const END: usize = 8;
const REVOKED: usize = 16;
const WORDS: usize = REVOKED + AHEAD_MAX;
/// Where the rings begin, in bytes.
const RINGS: usize = 4096;

/// What a runner has begun last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Begun {
    /// The attempt's number; 0 before the first.
    pub seq: u64,
    /// When, nanoseconds of the machine's monotonic clock.
    pub at_ns: u64,
    /// CPU time that the runner had used before it, in microseconds.
    pub cpu_us: u64,
}

/// The runner's side.
pub struct RunnerPage(Shared);

impl RunnerPage {
    /// Maps the page that came with `Setup`.
    ///
    /// # Errors
    ///
    /// If the file is no such page.
    pub fn map(file: &File) -> io::Result<RunnerPage> {
        Ok(RunnerPage(Shared::map(file, PAGE_BYTES)?))
    }

    /// Marks an attempt begun. `false`: the agent has taken it back, it must not be executed.
    pub fn begin(&self, begun: Begun) -> bool {
        self.0.word(BEGUN_NS).store(begun.at_ns, Ordering::Relaxed);
        self.0.word(BEGUN_CPU_US).store(begun.cpu_us, Ordering::Relaxed);
        self.0.word(BEGUN_SEQ).store(begun.seq, Ordering::Release);
        fence(Ordering::SeqCst);
        self.0.word(revoked_word(begun.seq)).load(Ordering::Relaxed) != begun.seq
    }

    /// Opens the rings for an attempt of which `starts` bytes of each stream will not be mirrored.
    pub fn open_rings(&self, seq: u64, starts: [u64; 2]) {
        self.0.word(LIVE_SEQ).store(0, Ordering::Release);
        fence(Ordering::SeqCst);
        for (stream, start) in starts.into_iter().enumerate() {
            self.0.word(START + stream).store(start, Ordering::Relaxed);
            self.0.word(RESERVED + stream).store(start, Ordering::Relaxed);
            self.0.word(END + stream).store(start, Ordering::Relaxed);
        }
        self.0.word(LIVE_SEQ).store(seq, Ordering::Release);
    }

    /// Appends to a stream (0 is standard output) that has `position` bytes so far.
    pub fn mirror(&self, stream: usize, position: u64, bytes: &[u8]) {
        let end = position + bytes.len() as u64;
        self.0.word(RESERVED + stream).store(end, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Only the last ring's worth can be read anyway.
        let kept = &bytes[bytes.len().saturating_sub(RING_BYTES as usize)..];
        let at = ((end - kept.len() as u64) % RING_BYTES) as usize;
        let (first, second) = kept.split_at(kept.len().min(RING_BYTES as usize - at));
        self.0.copy_in(ring(stream) + at, first);
        self.0.copy_in(ring(stream), second);
        self.0.word(END + stream).store(end, Ordering::Release);
    }
}

/// The agent's side.
#[derive(Debug)]
pub struct AgentPage(File);

impl AgentPage {
    /// Makes an empty page.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn new() -> io::Result<AgentPage> {
        let file = anonymous_file("lockstep-page")?;
        file.set_len(PAGE_BYTES as u64)?;
        // A runner that changed its length would make every word unreadable, or hold memory in it that nobody counts.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(AgentPage(file))
    }

    /// The file, to be handed to the runner.
    pub fn file(&self) -> &File {
        &self.0
    }

    /// What has begun last.
    pub fn begun(&self) -> Begun {
        let words = self.words();
        Begun { seq: words[BEGUN_SEQ], at_ns: words[BEGUN_NS], cpu_us: words[BEGUN_CPU_US] }
    }

    /// Takes an attempt back, and says what has begun: if that is an earlier one, this one will not be executed.
    pub fn revoke(&self, seq: u64) -> Begun {
        let at = (revoked_word(seq) * 8) as u64;
        if self.0.write_all_at(&seq.to_ne_bytes(), at).is_err() {
            // Not taken back, so it must count as begun.
            return Begun { seq, ..Begun::default() };
        }
        fence(Ordering::SeqCst);
        self.begun()
    }

    /// What the attempt wrote to a stream from position `from` on, as far as it is still there, with the position of
    /// the first byte.
    pub fn live(&self, seq: u64, stream: usize, from: u64) -> Option<(u64, Vec<u8>)> {
        let words = self.words();
        let (start, end) = (words[START + stream], words[END + stream]);
        let from = from.max(start).max(end.saturating_sub(RING_BYTES));
        if words[LIVE_SEQ] != seq || from >= end {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(end - from).ok()?];
        let at = (from % RING_BYTES) as usize;
        let split = bytes.len().min(RING_BYTES as usize - at);
        let (first, second) = bytes.split_at_mut(split);
        self.0.read_exact_at(first, (ring(stream) + at) as u64).ok()?;
        self.0.read_exact_at(second, ring(stream) as u64).ok()?;
        fence(Ordering::SeqCst);
        let words = self.words();
        let valid = words[RESERVED + stream].saturating_sub(RING_BYTES).max(from);
        if words[LIVE_SEQ] != seq || valid >= end {
            return None;
        }
        bytes.drain(..usize::try_from(valid - from).ok()?);
        Some((valid, bytes))
    }

    fn words(&self) -> [u64; WORDS] {
        let mut bytes = [0; WORDS * 8];
        // An anonymous file of this length can be read; if it cannot, nothing has begun.
        let _ = self.0.read_exact_at(&mut bytes, 0);
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        words
    }
}

/// Numbers held at the same time are fewer than [`AHEAD_MAX`] apart, so each has a word of its own.
fn revoked_word(seq: u64) -> usize {
    REVOKED + (seq % AHEAD_MAX as u64) as usize
}

fn ring(stream: usize) -> usize {
    RINGS + stream * RING_BYTES as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> (AgentPage, RunnerPage) {
        let agent = AgentPage::new().unwrap();
        let runner = RunnerPage::map(agent.file()).unwrap();
        (agent, runner)
    }

    #[test]
    fn what_has_begun_cannot_be_taken_back_and_what_was_taken_back_does_not_begin() {
        let (agent, runner) = both();
        assert_eq!(agent.begun(), Begun::default());
        let begun = Begun { seq: 1, at_ns: 10, cpu_us: 20 };
        assert!(runner.begin(begun));
        assert_eq!(agent.begun(), begun);
        assert_eq!((agent.revoke(1).seq, agent.revoke(3).seq), (1, 1));
        assert!(runner.begin(Begun { seq: 2, ..begun }));
        assert!(!runner.begin(Begun { seq: 3, ..begun }));
        assert!(runner.begin(Begun { seq: 3 + AHEAD_MAX as u64, ..begun }));
    }

    #[test]
    fn a_runner_cannot_change_the_length_of_the_page() {
        let (agent, _runner) = both();
        for length in [0, PAGE_BYTES as u64 - 1, PAGE_BYTES as u64 + 1] {
            assert!(agent.file().set_len(length).is_err(), "{length}");
        }
        assert!(agent.file().write_all_at(b"x", PAGE_BYTES as u64).is_err());
    }

    #[test]
    fn a_race_for_an_attempt_has_one_winner() {
        let (agent, runner) = both();
        for seq in 1..2_000 {
            let (revoked, began) = std::thread::scope(|scope| {
                let revoking = scope.spawn(|| agent.revoke(seq).seq < seq);
                let began = runner.begin(Begun { seq, ..Begun::default() });
                (revoking.join().unwrap(), began)
            });
            // Both may see the other; then nobody executes it and the runner says so.
            assert!(!(revoked && began), "attempt {seq} was taken back and executed");
        }
    }

    #[test]
    fn live_output_is_read_on_from_where_it_was_read_to() {
        let (agent, runner) = both();
        assert_eq!(agent.live(1, 0, 0), None);
        runner.open_rings(1, [0, 5]);
        runner.mirror(0, 0, b"hello ");
        assert_eq!(agent.live(1, 0, 0), Some((0, b"hello ".to_vec())));
        runner.mirror(0, 6, b"world");
        assert_eq!(agent.live(1, 0, 6), Some((6, b"world".to_vec())));
        assert_eq!(agent.live(1, 0, 11), None);
        runner.mirror(1, 5, b"late");
        assert_eq!(agent.live(1, 1, 0), Some((5, b"late".to_vec())));
        assert_eq!(agent.live(2, 0, 0), None, "it belongs to another attempt");
    }

    #[test]
    fn a_ring_keeps_the_end_of_what_was_written() {
        let (agent, runner) = both();
        runner.open_rings(1, [0, 0]);
        let flood: Vec<u8> = (0..RING_BYTES * 3 + 17).map(|at| (at % 251) as u8).collect();
        let (start, end) = flood.split_at(100);
        runner.mirror(0, 0, start);
        runner.mirror(0, 100, end);
        let (from, bytes) = agent.live(1, 0, 0).unwrap();
        assert_eq!(from, RING_BYTES * 2 + 17);
        assert!(bytes == flood[from as usize..]);
    }
}
