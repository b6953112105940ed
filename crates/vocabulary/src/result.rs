//! What came of a run: outcome (what the guest did), fault (what the infrastructure did), verdict (what
//! comparing votes says), and the result manifest that is hashed and voted on.
//!
//! Invariants: the three axes state, outcome and verdict are never mixed; a fault never is part of a
//! result; the manifest holds nothing that two honest workers of one class could disagree on.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::spec::{GuestPath, canonical_json};

/// What the guest did. Deterministic, part of the result, votes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// A command ended, by returning from `_start` (0) or by `proc_exit`.
    Exited {
        /// The exit code as the guest gave it.
        code: u32,
    },
    /// An exported function returned; its values as text, in the form that the sandbox prints.
    Returned {
        /// One text per result: decimal integers, shortest round-trip floats, `nan:0x…` for NaN bits.
        values: Vec<String>,
    },
    /// A web function answered.
    Responded {
        /// HTTP status.
        status: u16,
    },
    /// The guest trapped.
    Trapped {
        /// Which trap; the only part of a trap that may vote.
        trap: Trap,
    },
    /// The fuel that the spec granted is used up.
    OutOfFuel,
    /// Standard output and error together passed `output_bytes`, or it left files whose paths are longer than 16 MiB
    /// together.
    OutputLimit,
}

impl Outcome {
    /// Whether the run counts as succeeded.
    pub fn is_success(&self) -> bool {
        match self {
            Outcome::Exited { code } => *code == 0,
            Outcome::Returned { .. } => true,
            Outcome::Responded { status } => *status < 500,
            Outcome::Trapped { .. } | Outcome::OutOfFuel | Outcome::OutputLimit => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited { code } => write!(f, "exited with code {code}"),
            Outcome::Returned { values } => write!(f, "returned ({})", values.join(", ")),
            Outcome::Responded { status } => write!(f, "responded with status {status}"),
            Outcome::Trapped { trap } => write!(f, "trapped: {trap}"),
            Outcome::OutOfFuel => f.write_str("ran out of fuel"),
            Outcome::OutputLimit => f.write_str("passed its output limit"),
        }
    }
}

/// Why a guest trapped, as far as every voter must agree on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trap {
    /// The `unreachable` instruction: a panic or abort in most languages.
    Unreachable,
    /// A load or store outside of its memory.
    MemoryOutOfBounds,
    /// An access outside of its table.
    TableOutOfBounds,
    /// An indirect call through an empty table element.
    IndirectCallToNull,
    /// An indirect call with another signature than the function has.
    BadSignature,
    /// An integer result that does not fit.
    IntegerOverflow,
    /// A division by zero.
    IntegerDivisionByZero,
    /// A float that no integer can represent.
    BadConversionToInteger,
    /// An atomic access that is not aligned.
    HeapMisaligned,
    /// The call stack is exhausted. Exact only within one class.
    StackOverflow,
    /// A null reference was used.
    NullReference,
    /// An uncaught exception.
    UncaughtException,
    /// The guest misused a host function, for instance with a pointer outside of its memory.
    HostAbi,
    /// A start function or initialiser could not be carried out within the limits.
    Instantiation,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trap::Unreachable => "unreachable instruction (a panic or abort in the guest)",
            Trap::MemoryOutOfBounds => "memory access out of bounds",
            Trap::TableOutOfBounds => "table access out of bounds",
            Trap::IndirectCallToNull => "indirect call to an empty table element",
            Trap::BadSignature => "indirect call with the wrong signature",
            Trap::IntegerOverflow => "integer overflow",
            Trap::IntegerDivisionByZero => "integer division by zero",
            Trap::BadConversionToInteger => "float does not fit an integer",
            Trap::HeapMisaligned => "misaligned atomic access",
            Trap::StackOverflow => "call stack exhausted",
            Trap::NullReference => "null reference",
            Trap::UncaughtException => "uncaught exception",
            Trap::HostAbi => "misuse of a host function",
            Trap::Instantiation => "the module could not be instantiated within its limits",
        })
    }
}

/// Bytes that a run gave out, by name and size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutputRef {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

impl OutputRef {
    /// Names `bytes`.
    pub fn of(bytes: &[u8]) -> OutputRef {
        OutputRef { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

/// A file that the guest left under `/out`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutputFile {
    /// Where it was, `/out/…`.
    pub path: GuestPath,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// The result: what voters must agree on, byte for byte.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResultManifest {
    /// What the guest did.
    pub outcome: Outcome,
    /// All that it wrote to standard output.
    pub stdout: OutputRef,
    /// All that it wrote to standard error.
    pub stderr: OutputRef,
    /// Its files under `/out`, by path.
    pub files: Vec<OutputFile>,
    /// Fuel used, only where the spec grants fuel and the guest ended by itself (exact then, not after a trap).
    pub fuel_used: Option<u64>,
}

impl ResultManifest {
    /// The canonical JSON (RFC 8785): the blob that the result digest names.
    pub fn canonical(&self) -> Vec<u8> {
        canonical_json(self)
    }

    /// Every blob it refers to, without the empty one; a digest may come twice.
    pub fn outputs(&self) -> impl Iterator<Item = OutputRef> + '_ {
        let files = self.files.iter().map(|file| OutputRef { digest: file.digest, size: file.size });
        [self.stdout, self.stderr].into_iter().chain(files).filter(|output| output.size > 0)
    }
}

/// What the infrastructure did to an attempt. Never votes; leads to a rerun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// The runner died while the attempt ran.
    Crashed {
        /// The signal that ended it, if one did.
        signal: Option<i32>,
        /// What is known beyond the signal.
        detail: String,
    },
    /// The attempt was killed at its timeout.
    TimedOut,
    /// The worker was lost while it held the attempt.
    Lost,
    /// The worker could not or would not start it (no memory, a blob it could not get); the guest never ran.
    Refused {
        /// The worker's words.
        detail: String,
    },
    /// What arrived is not what was voted for, or the artifact differs inside its class.
    Corrupt {
        /// What did not match.
        detail: String,
    },
    /// The worker drained before the attempt ended; costs nobody anything.
    Drained,
}

impl Fault {
    /// The name that JSON, evidence and metrics use.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Crashed { .. } => "crashed",
            Fault::TimedOut => "timed_out",
            Fault::Lost => "lost",
            Fault::Refused { .. } => "refused",
            Fault::Corrupt { .. } => "corrupt",
            Fault::Drained => "drained",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crashed { signal: Some(signal), .. } => {
                write!(f, "its runner was killed by signal {signal}")
            }
            Fault::Crashed { signal: None, detail } => write!(f, "its runner died: {detail}"),
            Fault::TimedOut => f.write_str("it reached its timeout and was killed"),
            Fault::Lost => f.write_str("its worker was lost"),
            Fault::Refused { detail } => write!(f, "its worker refused it: {detail}"),
            Fault::Corrupt { detail } => write!(f, "its result was corrupt: {detail}"),
            Fault::Drained => f.write_str("its worker drained"),
        }
    }
}

/// Life cycle of a run as callers see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Accepted; no attempt has been handed out.
    Queued,
    /// At least one attempt was handed out.
    Running,
    /// Final: the agreed outcome is a success.
    Succeeded,
    /// Final: see the reason.
    Failed,
    /// Final: somebody canceled it first.
    Canceled,
}

impl RunState {
    /// Every state, in the order of a life.
    pub const ALL: [RunState; 5] =
        [RunState::Queued, RunState::Running, RunState::Succeeded, RunState::Failed, RunState::Canceled];

    /// Whether nothing can follow (I7).
    pub fn is_final(self) -> bool {
        matches!(self, RunState::Succeeded | RunState::Failed | RunState::Canceled)
    }

    /// The name that JSON, the store and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Queued => "queued",
            RunState::Running => "running",
            RunState::Succeeded => "succeeded",
            RunState::Failed => "failed",
            RunState::Canceled => "canceled",
        }
    }
}

/// Why a run failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// The agreed outcome is an exit code that is not 0.
    ExitCode,
    /// The agreed outcome is a trap.
    Trap,
    /// The agreed outcome is out of fuel.
    OutOfFuel,
    /// The agreed outcome is the output limit.
    OutputLimit,
    /// As many attempts timed out as the policy allows.
    TimedOut,
    /// An attempt crashed and the policy allows no other.
    Crashed,
    /// It killed three runners, or its module is quarantined.
    Poisoned,
    /// Its worker was lost, or refused it, as often as the policy allows.
    Lost,
    /// The votes never satisfied the policy, or too few workers were there to vote.
    NoQuorum,
    /// Its deadline passed.
    Expired,
    /// The module was refused at admission after the run had been accepted.
    ModuleRefused,
    /// Executions that are trusted gave different results: the module is to blame, and no worker.
    Nondeterministic,
}

impl FailReason {
    /// The reason that an unsuccessful outcome gives.
    pub fn of(outcome: &Outcome) -> FailReason {
        match outcome {
            Outcome::Exited { .. } | Outcome::Returned { .. } | Outcome::Responded { .. } => {
                FailReason::ExitCode
            }
            Outcome::Trapped { .. } => FailReason::Trap,
            Outcome::OutOfFuel => FailReason::OutOfFuel,
            Outcome::OutputLimit => FailReason::OutputLimit,
        }
    }
}

/// What comparing the votes says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Not decided.
    #[default]
    Pending,
    /// Compared, and enough votes were equal.
    Agreed,
    /// One trusted vote stood alone (`standard`): nothing was compared.
    Vouched,
    /// Policy `once`: nothing was compared.
    Unchecked,
    /// The votes differ and none won.
    Disputed,
    /// Trusted executions differ: the module is to blame.
    Nondeterministic,
}

impl VerdictKind {
    /// Every kind.
    pub const ALL: [VerdictKind; 6] = [
        VerdictKind::Pending,
        VerdictKind::Agreed,
        VerdictKind::Vouched,
        VerdictKind::Unchecked,
        VerdictKind::Disputed,
        VerdictKind::Nondeterministic,
    ];

    /// The name that JSON and metrics use.
    pub fn name(self) -> &'static str {
        match self {
            VerdictKind::Pending => "pending",
            VerdictKind::Agreed => "agreed",
            VerdictKind::Vouched => "vouched",
            VerdictKind::Unchecked => "unchecked",
            VerdictKind::Disputed => "disputed",
            VerdictKind::Nondeterministic => "nondeterministic",
        }
    }
}

/// The verdict with its figures.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// What comparing says.
    pub kind: VerdictKind,
    /// Votes for the digest that won, or all votes while none has.
    pub votes: u32,
    /// Workers whose vote lost, in the order of their votes.
    pub dissenters: Vec<crate::id::WorkerId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_form_is_pinned() {
        let manifest = ResultManifest {
            outcome: Outcome::Exited { code: 0 },
            stdout: OutputRef::of(b"hello\n"),
            stderr: OutputRef::of(b""),
            files: vec![],
            fuel_used: None,
        };
        let text = String::from_utf8(manifest.canonical()).unwrap();
        assert_eq!(
            text,
            format!(
                concat!(
                    r#"{{"files":[],"fuel_used":null,"outcome":{{"code":0,"kind":"exited"}},"#,
                    r#""stderr":{{"digest":"{}","size":0}},"stdout":{{"digest":"{}","size":6}}}}"#
                ),
                Digest::EMPTY,
                Digest::of(b"hello\n")
            )
        );
    }
}
