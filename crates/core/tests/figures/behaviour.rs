//! How workers answer.

use vocabulary::digest::Digest;

use crate::rng::Rng;

/// What a cheat does; the others are honest, except that under `Flips` everybody's memory errs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    Honest,
    /// All cheats name the same wrong digest, on the same `percent` of the runs, after so many honest results each.
    Colludes {
        percent: u64,
        after: u64,
    },
    /// Names what it last saw another one name, in another run.
    Parrot,
    /// A digest of its own each time.
    Random,
    /// A digest of its own on so many percent of its results, drawn for each by itself.
    Lone {
        percent: u64,
    },
    /// One result in ten thousand is wrong, by accident.
    Flips,
}

fn mixed(run: u128, salt: u64) -> u64 {
    Rng::new(run as u64 ^ (run >> 64) as u64 ^ salt.rotate_left(17)).next()
}

/// What an honest worker finds.
pub fn truth(run: u128) -> Digest {
    let mut bytes = [1; 32];
    bytes[..16].copy_from_slice(&run.to_be_bytes());
    Digest::from_bytes(bytes)
}

/// What one worker has seen and done.
#[derive(Clone, Default)]
pub struct Mind {
    pub is_cheat: bool,
    pub results: u64,
}

impl Behaviour {
    /// What a worker names as the result of a run.
    pub fn answer(self, mind: &mut Mind, run: u128, last_seen: Digest, rng: &mut Rng) -> Digest {
        mind.results += 1;
        let own = |rng: &mut Rng| {
            let mut bytes = [2; 32];
            bytes[..8].copy_from_slice(&rng.next().to_be_bytes());
            bytes[8..16].copy_from_slice(&rng.next().to_be_bytes());
            Digest::from_bytes(bytes)
        };
        match self {
            Behaviour::Flips if rng.below(10_000) == 0 => own(rng),
            _ if !mind.is_cheat => truth(run),
            Behaviour::Colludes { percent, after }
                if mind.results > after && mixed(run, 77) % 100 < percent =>
            {
                let mut bytes = *truth(run).as_bytes();
                bytes[31] = 9;
                Digest::from_bytes(bytes)
            }
            Behaviour::Parrot => last_seen,
            Behaviour::Random => own(rng),
            Behaviour::Lone { percent } if rng.below(100) < percent => own(rng),
            Behaviour::Honest | Behaviour::Colludes { .. } | Behaviour::Lone { .. } | Behaviour::Flips => {
                truth(run)
            }
        }
    }
}
