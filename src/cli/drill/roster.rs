//! Who lies and how, and what is asked: all of it follows from the seed.

use crate::cli::args::{Behaviour, DrillArgs};
use crate::digest::Digest;
use crate::result::{Outcome, OutputRef, ResultManifest};

/// The ways of `mixed`, in turn.
const WAYS: [Behaviour; 5] =
    [Behaviour::Lone, Behaviour::Colluding, Behaviour::Sleeping, Behaviour::Parroting, Behaviour::Random];
/// Numbers that are asked about begin here: large enough that a run does something, small enough to be checked at once.
const FIRST_NUMBER: u64 = 1_000_003;

/// The workers of a drill.
#[derive(Debug)]
pub struct Roster {
    /// For each worker the argument of `--unsafe-misbehave`, if it lies.
    pub misbehave: Vec<Option<String>>,
}

impl Roster {
    /// Draws the liars.
    pub fn of(args: &DrillArgs) -> Roster {
        let workers = args.workers as usize;
        let liars = (workers * args.liars as usize + 50) / 100;
        let mut places: Vec<usize> = (0..workers).collect();
        let mut state = args.seed;
        for end in (1..workers).rev() {
            // Fisher and Yates
            places.swap(end, (mixed(&mut state) % (end as u64 + 1)) as usize);
        }
        let mut misbehave = vec![None; workers];
        for (place, way) in places.into_iter().take(liars).zip(WAYS.into_iter().cycle()) {
            let way = if args.behaviour == Behaviour::Mixed { way } else { args.behaviour };
            misbehave[place] = Some(misbehaviour(way, args));
        }
        Roster { misbehave }
    }

    /// How many lie.
    pub fn liars(&self) -> usize {
        self.misbehave.iter().flatten().count()
    }
}

fn misbehaviour(way: Behaviour, args: &DrillArgs) -> String {
    let (rate, votes) = (args.rate, args.honest_for);
    match way {
        Behaviour::Lone => format!("lie:{rate}"),
        Behaviour::Colluding | Behaviour::Mixed => format!("collude:{rate}"),
        Behaviour::Sleeping => format!("sleep:{votes}:{rate}"),
        Behaviour::Parroting => format!("parrot:{rate}"),
        Behaviour::Random => format!("flip:{rate}"),
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What one run is asked, and the only right answer.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Whether this number is prime.
    pub number: u64,
    /// The spec's seed, so that no two runs are the same.
    pub seed: u64,
}

impl Question {
    /// The question of a run, by its number from 0. Every second one is about a prime, so that who repeats the answer of
    /// another run is wrong half of the time.
    pub fn of(args: &DrillArgs, run: u64) -> Question {
        let mut state = args.seed ^ run.rotate_left(32);
        let number = FIRST_NUMBER + mixed(&mut state) % 1_000_000;
        let wants_prime = mixed(&mut state).is_multiple_of(2);
        let number = (number..).find(|number| is_prime(*number) == wants_prime).unwrap_or(number);
        Question { number, seed: run }
    }

    /// Digest of the manifest that every honest worker gives.
    pub fn right_result(&self) -> Digest {
        let values = vec![u8::from(is_prime(self.number)).to_string()];
        let manifest = ResultManifest {
            outcome: Outcome::Returned { values },
            stdout: OutputRef::of(b""),
            stderr: OutputRef::of(b""),
            files: Vec::new(),
            fuel_used: None,
        };
        Digest::of(&manifest.canonical())
    }
}

/// By trial division.
fn is_prime(number: u64) -> bool {
    let mut candidates = (2u64..).take_while(|divisor| divisor * divisor <= number);
    number > 1 && candidates.all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Verify;

    fn args(workers: u32, liars: u32, behaviour: Behaviour, seed: u64) -> DrillArgs {
        DrillArgs {
            workers,
            liars,
            behaviour,
            rate: "10%".parse().unwrap(),
            honest_for: 7,
            policy: Verify::Standard,
            runs: 100,
            arbiters: 1,
            seed,
            json: false,
        }
    }

    #[test]
    fn the_seed_says_who_lies() {
        let one = Roster::of(&args(10, 20, Behaviour::Colluding, 1));
        assert_eq!((one.misbehave.len(), one.liars()), (10, 2));
        assert_eq!(one.misbehave, Roster::of(&args(10, 20, Behaviour::Colluding, 1)).misbehave);
        let others = (2..6).map(|seed| Roster::of(&args(10, 20, Behaviour::Colluding, seed)).misbehave);
        assert!(others.into_iter().any(|other| other != one.misbehave));
        assert_eq!(Roster::of(&args(8, 0, Behaviour::Lone, 1)).liars(), 0);
        assert_eq!(Roster::of(&args(8, 100, Behaviour::Lone, 1)).liars(), 8);
        let mixed = Roster::of(&args(5, 100, Behaviour::Mixed, 1));
        let mut ways: Vec<String> = mixed.misbehave.into_iter().flatten().collect();
        ways.sort();
        assert_eq!(ways, ["collude:10", "flip:10", "lie:10", "parrot:10", "sleep:7:10"]);
    }

    #[test]
    fn every_way_is_one_that_workers_know() {
        for way in WAYS {
            let text = misbehaviour(way, &args(2, 50, way, 1));
            assert!(text.parse::<crate::agent::misbehave::Misbehaviour>().is_ok(), "{text}");
        }
    }

    #[test]
    fn primes_are_told_from_others() {
        let primes: Vec<u64> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(1_000_003) && !is_prime(1_000_001));
        let args = args(2, 0, Behaviour::Lone, 1);
        let primes = (0..1_000).filter(|run| is_prime(Question::of(&args, *run).number)).count();
        assert!((400..=600).contains(&primes), "both answers are as frequent: {primes}");
    }
}
