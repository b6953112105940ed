//! Sets of small numbers (workers by their place in the crew), as words of 64 bits.

/// A set of numbers.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Puts a number in or takes it out.
    pub(super) fn set(&mut self, number: usize, present: bool) {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if self.0.len() <= word {
            if !present {
                return;
            }
            self.0.resize(word + 1, 0);
        }
        if present {
            self.0[word] |= bit;
        } else {
            self.0[word] &= !bit;
        }
    }

    /// Whether a number is in.
    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Whether none is in.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many are in.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The numbers that both sets have, ascending.
    pub(super) fn both<'a>(&'a self, other: &'a Bits) -> impl Iterator<Item = usize> + 'a {
        self.0.iter().zip(&other.0).enumerate().flat_map(|(position, (a, b))| {
            let mut rest = a & b;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(position * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_meet_in_their_common_numbers() {
        let set = |numbers: &[usize]| {
            let mut bits = Bits::default();
            numbers.iter().for_each(|number| bits.set(*number, true));
            bits
        };
        let mut odd = set(&[1, 3, 65, 129]);
        assert_eq!(odd.both(&set(&[0, 1, 65, 66])).collect::<Vec<_>>(), [1, 65]);
        assert_eq!(odd.both(&odd).count(), odd.len());
        odd.set(65, false);
        odd.set(1_000, false);
        assert!(odd.contains(129) && !odd.contains(65) && !odd.contains(1_000));
        assert!(set(&[]).is_empty() && !odd.is_empty());
    }
}
