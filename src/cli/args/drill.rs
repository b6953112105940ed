//! The grammar of `lockstep drill`.

use clap::{Args, ValueEnum};

use crate::agent::misbehave::Rate;
use crate::spec::Verify;

/// Start a pool with liars in it, and see what becomes of them
///
/// A coordinator and real worker processes on this machine, in a temporary directory and on the loopback only. Some of the
/// workers lie; runs with known answers are submitted, and a table says what got past and what it cost. Nothing is left of it.
#[derive(Debug, Args)]
#[command(after_long_help = DRILL_HELP)]
pub struct DrillArgs {
    /// Worker processes, each of a trust domain of its own
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub workers: u32,
    /// How many of them lie, in percent
    #[arg(long, value_name = "SHARE", default_value = "20%", value_parser = share)]
    pub liars: u32,
    /// In what way
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Behaviour::Colluding)]
    pub behaviour: Behaviour,
    /// How often, in percent of their attempts (of the runs, where they collude)
    #[arg(long, value_name = "RATE", default_value = "100%")]
    pub rate: Rate,
    /// Results for which sleepers are honest
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub honest_for: u64,
    /// How results are verified: standard, high, once or quorum:N
    #[arg(long, value_name = "POLICY", default_value_t = Verify::Standard)]
    pub policy: Verify,
    /// Runs to submit
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub runs: u64,
    /// Arbiters of the operator, beside the workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=4))]
    pub arbiters: u32,
    /// Decides who lies and what is computed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
}

/// How liars lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Behaviour {
    /// Each names a wrong result of its own
    Lone,
    /// All name the same wrong result
    Colluding,
    /// The same, after so many honest results (--honest-for)
    Sleeping,
    /// Each repeats what it found in the run before
    Parroting,
    /// A bit of the result flips
    Random,
    /// Each in another of these ways
    Mixed,
}

impl Behaviour {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Behaviour::Lone => "lone",
            Behaviour::Colluding => "colluding",
            Behaviour::Sleeping => "sleeping",
            Behaviour::Parroting => "parroting",
            Behaviour::Random => "random",
            Behaviour::Mixed => "mixed",
        }
    }
}

/// A percentage of the workers.
fn share(text: &str) -> Result<u32, String> {
    let share = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|share| *share <= 100);
    share.ok_or_else(|| format!("`{text}` is no share of the workers, from 0% to 100%"))
}

const DRILL_HELP: &str = "\
Examples:
  lockstep drill
  lockstep drill --behaviour sleeping --rate 10% --honest-for 50 --runs 5000
  lockstep drill --policy quorum:2 --arbiters 0          what a fixed quorum believes
  lockstep drill --workers 20 --liars 40% --behaviour mixed --json

The workers are somebody else's (`--foreign`), so newcomers are checked by several others. `wrong results exposed` counts what was
wrong when its caller heard it, `wrong after repair` what is wrong at the end.";
