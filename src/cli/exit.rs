//! From a final run to a process's exit code. The table is printed by `lockstep run --help`.

use crate::protocol::api::Run;
use crate::result::{FailReason, Outcome, RunState};

/// Wrong usage, as clap has it.
pub const USAGE: u8 = 2;
/// Any other command of the client failed.
pub const FAILED: u8 = 1;
/// `verify`: the receipt is valid, and signed by a key that is not known to be trusted.
pub const NOT_TRUSTED: u8 = 3;
/// `verify --replay`: another result came out.
pub const DIFFERS: u8 = 4;
/// The run was canceled.
pub const CANCELED: u8 = 118;
/// `run` could not do it: no server, refused, a file that cannot be read. Not 1, which may be the guest's.
pub const NOT_DONE: u8 = 119;
/// The guest trapped.
pub const TRAPPED: u8 = 120;
/// The guest ran out of fuel.
pub const OUT_OF_FUEL: u8 = 121;
/// The guest passed its output limit.
pub const OUTPUT_LIMIT: u8 = 122;
/// The votes never satisfied the policy.
pub const NO_QUORUM: u8 = 123;
/// Timed out or expired; the code of `timeout(1)`.
pub const TIMED_OUT: u8 = 124;
/// The infrastructure gave up on it.
pub const GAVE_UP: u8 = 125;

/// The exit code for a final run.
pub fn code_of(run: &Run) -> u8 {
    match (run.state, run.reason) {
        (RunState::Canceled, _) => CANCELED,
        (RunState::Queued | RunState::Running, _) => NOT_DONE,
        (RunState::Succeeded, _) => 0,
        (RunState::Failed, Some(FailReason::ExitCode)) => match run.outcome {
            // An exit status has eight bits; 256 must not come out as success.
            Some(Outcome::Exited { code }) => u8::try_from(code).unwrap_or(u8::MAX),
            _ => FAILED,
        },
        (RunState::Failed, Some(FailReason::Trap)) => TRAPPED,
        (RunState::Failed, Some(FailReason::OutOfFuel)) => OUT_OF_FUEL,
        (RunState::Failed, Some(FailReason::OutputLimit)) => OUTPUT_LIMIT,
        (RunState::Failed, Some(FailReason::NoQuorum | FailReason::Nondeterministic)) => NO_QUORUM,
        (RunState::Failed, Some(FailReason::TimedOut | FailReason::Expired)) => TIMED_OUT,
        (
            RunState::Failed,
            Some(FailReason::Crashed | FailReason::Poisoned | FailReason::Lost | FailReason::ModuleRefused)
            | None,
        ) => GAVE_UP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;
    use crate::result::Trap;

    fn failed(reason: FailReason, outcome: Option<Outcome>) -> Run {
        Run { state: RunState::Failed, reason: Some(reason), outcome, ..sample::run() }
    }

    #[test]
    fn the_guests_own_code_is_the_exit_code() {
        assert_eq!(code_of(&sample::run()), 0);
        for (code, expected) in [(1, 1), (42, 42), (255, 255), (256, 255), (u32::MAX, 255)] {
            assert_eq!(code_of(&failed(FailReason::ExitCode, Some(Outcome::Exited { code }))), expected);
        }
    }

    #[test]
    fn what_is_no_exit_code_has_a_code_of_its_own() {
        let trap = Some(Outcome::Trapped { trap: Trap::Unreachable });
        assert_eq!(code_of(&failed(FailReason::Trap, trap)), 120);
        for (reason, expected) in [
            (FailReason::OutOfFuel, 121),
            (FailReason::OutputLimit, 122),
            (FailReason::NoQuorum, 123),
            (FailReason::Nondeterministic, 123),
            (FailReason::TimedOut, 124),
            (FailReason::Expired, 124),
            (FailReason::Crashed, 125),
            (FailReason::Poisoned, 125),
            (FailReason::Lost, 125),
            (FailReason::ModuleRefused, 125),
        ] {
            assert_eq!(code_of(&failed(reason, None)), expected, "{reason:?}");
        }
        assert_eq!(code_of(&Run { state: RunState::Canceled, ..sample::run() }), 118);
    }
}
