//! The one binary: matches the role.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(role) if role == "compiler" => lockstep::compiler::child::main(),
        Some(role) if role == "runner" => lockstep::runner::main(),
        _ => ExitCode::FAILURE,
    }
}
