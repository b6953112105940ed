//! Random bytes that follow from the seed of the run: SHA-256 in counter mode.
//!
//! Block n of a stream is SHA-256(seed as 8 bytes, little-endian · name of the stream · n as 8 bytes, little-endian). How
//! the guest cuts its requests makes no difference to the bytes it gets.

use sha2::{Digest as _, Sha256};

const BLOCK_BYTES: usize = 32;

/// One endless stream of bytes.
#[derive(Clone, Debug)]
pub struct RandomStream {
    seed: u64,
    name: &'static str,
    next_block: u64,
    block: [u8; BLOCK_BYTES],
    /// Bytes of `block` that were given out.
    used: usize,
}

impl RandomStream {
    /// The stream called `name`: other names give unrelated bytes.
    pub fn new(seed: u64, name: &'static str) -> RandomStream {
        RandomStream { seed, name, next_block: 0, block: [0; BLOCK_BYTES], used: BLOCK_BYTES }
    }

    /// The next bytes of the stream.
    pub fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == BLOCK_BYTES {
                self.advance();
            }
            let length = out.len().min(BLOCK_BYTES - self.used);
            let (now, later) = out.split_at_mut(length);
            now.copy_from_slice(&self.block[self.used..self.used + length]);
            self.used += length;
            out = later;
        }
    }

    fn advance(&mut self) {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(self.name);
        hash.update(self.next_block.to_le_bytes());
        self.block = hash.finalize().into();
        self.next_block = self.next_block.wrapping_add(1);
        self.used = 0;
    }
}
