//! montecarlo: estimates pi by throwing random points at a square.
//!
//! Shows: a program that asks its host for randomness and is verifiable all the same. WASI's `random_get` is
//! seeded by the run spec, so every worker throws the same points; another `--seed` throws others.
//!
//! ```text
//! lockstep run guest-examples/prebuilt/montecarlo.wasm --quorum 3 -- 1000000
//! lockstep run guest-examples/prebuilt/montecarlo.wasm --seed 7 -- 1000000
//! ```
//!
//! Argument: how many points, by default 1,000,000.

use std::process::ExitCode;

/// How many points are thrown unless the argument says otherwise.
const POINTS: u64 = 1_000_000;

/// xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna, <https://prng.di.unimi.it>.
///
/// The host is asked for a seed only: one call instead of one per point.
struct Xoshiro256([u64; 4]);

impl Xoshiro256 {
    fn from_host() -> Result<Xoshiro256, getrandom::Error> {
        let mut words = [0; 4];
        for word in &mut words {
            *word = getrandom::u64()?;
        }
        // All zeros is the one state that the generator never leaves.
        words[0] |= u64::from(words == [0; 4]);
        Ok(Xoshiro256(words))
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1): the upper 53 bits, as many as an `f64` carries.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn main() -> ExitCode {
    let points = match std::env::args().nth(1).map(|text| text.parse()) {
        None => POINTS,
        Some(Ok(points)) if points > 0 => points,
        Some(_) => {
            eprintln!("usage: montecarlo [POINTS]");
            return ExitCode::from(2);
        }
    };
    let mut random = match Xoshiro256::from_host() {
        Ok(random) => random,
        Err(why) => {
            eprintln!("montecarlo: no randomness: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut inside = 0u64;
    for _ in 0..points {
        let (x, y) = (random.uniform(), random.uniform());
        inside += u64::from(x * x + y * y < 1.0);
    }
    let pi = 4.0 * inside as f64 / points as f64;
    println!("pi is about {pi:.9}: {inside} of {points} points were inside the circle");
    ExitCode::SUCCESS
}
