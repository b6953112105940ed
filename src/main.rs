//! The `lockstep` program: finds out which role it has, and plays it.

use std::process::ExitCode;

use lockstep::config::Environment;
use lockstep::{cli, compiler, runner};

fn main() -> ExitCode {
    // the roles of the children come first: they start thousands of times and need no command line
    match std::env::args_os().nth(1) {
        Some(role) if role == "runner" => runner::main(),
        Some(role) if role == "compiler" => compiler::child::main(),
        _ => ExitCode::from(cli::main(&Environment::of_process())),
    }
}
