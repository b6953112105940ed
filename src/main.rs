//! The `lockstep` program: finds out which role it has, and plays it.

use std::process::ExitCode;

use lockstep::cli;
use lockstep::config::Environment;

fn main() -> ExitCode {
    ExitCode::from(cli::main(&Environment::of_process()))
}
