//! Maps whose order of nothing depends on a process's random state.
//!
//! Keys are ids and digests, which already are random (UUIDv7, SHA-256), so folding their words is hash enough. A
//! caller cannot choose a run's id, and a digest only by finding preimages, so there is no flooding to defend against.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from a random key.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<FoldHasher>>;

/// Folds the words of a key by rotate, xor and multiply (the constant is 2^64 divided by the golden ratio).
#[derive(Default)]
pub struct FoldHasher(u64);

impl FoldHasher {
    fn fold(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }

    fn write_u128(&mut self, word: u128) {
        self.fold(u64::try_from(word & u128::from(u64::MAX)).unwrap_or(0));
        self.fold(u64::try_from(word >> 64).unwrap_or(0));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
