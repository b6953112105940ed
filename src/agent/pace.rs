//! How long attempts take, so that short ones can be handed ahead.

use std::collections::HashMap;

use crate::digest::Digest;

/// An attempt below this is short, in nanoseconds.
pub(super) const SHORT_NS: u64 = 5_000_000;
/// One below this is tiny: what is said about it costs more than it does.
const TINY_NS: u64 = 1_000_000;
/// Attempts that are remembered of each module.
const SAMPLES: usize = 20;
/// So many must be known before a judgement.
const SAMPLES_MIN: usize = 5;
/// Modules that are remembered; beyond it everything is forgotten, which only costs speed.
const MODULES_MAX: usize = 1_024;

/// The last attempts of something.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// Bit set: it was long.
    long: u32,
    /// Bit set: it was not tiny.
    large: u32,
    count: usize,
}

impl Pace {
    fn add(&mut self, took_ns: u64) {
        let shift = |bits: u32, bit| (bits << 1 | u32::from(bit)) & ((1 << SAMPLES) - 1);
        self.long = shift(self.long, took_ns >= SHORT_NS);
        self.large = shift(self.large, took_ns >= TINY_NS);
        self.count = (self.count + 1).min(SAMPLES);
    }

    /// Whether the 95th percentile of the last twenty is short.
    pub(super) fn is_short(&self) -> bool {
        self.is_rare(self.long)
    }

    /// Whether it is tiny.
    pub(super) fn is_tiny(&self) -> bool {
        self.is_rare(self.large)
    }

    fn is_rare(&self, bits: u32) -> bool {
        self.count >= SAMPLES_MIN && bits.count_ones() as usize * 20 <= self.count
    }
}

/// The pace of the whole agent and of each module.
#[derive(Default)]
pub(super) struct Paces {
    /// Of all of them.
    pub(super) all: Pace,
    modules: HashMap<Digest, Pace>,
}

impl Paces {
    pub(super) fn add(&mut self, module: Digest, took_ns: u64) {
        if self.modules.len() >= MODULES_MAX && !self.modules.contains_key(&module) {
            self.modules.clear();
        }
        self.all.add(took_ns);
        self.modules.entry(module).or_default().add(took_ns);
    }

    pub(super) fn is_short(&self, module: &Digest) -> bool {
        self.modules.get(module).is_some_and(Pace::is_short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_short_while_one_in_twenty_is_long_at_the_most() {
        let mut paces = Paces::default();
        for _ in 0..SAMPLES_MIN {
            assert!(!paces.is_short(&Digest::EMPTY));
            paces.add(Digest::EMPTY, 1);
        }
        assert!(paces.is_short(&Digest::EMPTY) && paces.all.is_short() && paces.all.is_tiny());
        paces.add(Digest::EMPTY, SHORT_NS);
        assert!(!paces.is_short(&Digest::EMPTY), "one in six");
        (0..14).for_each(|_| paces.add(Digest::EMPTY, 1));
        assert!(paces.is_short(&Digest::EMPTY), "one in twenty");
        paces.add(Digest::EMPTY, SHORT_NS);
        assert!(!paces.is_short(&Digest::EMPTY), "two in twenty");
        (0..SAMPLES).for_each(|_| paces.add(Digest::EMPTY, TINY_NS));
        assert!(paces.all.is_short() && !paces.all.is_tiny());
    }
}
