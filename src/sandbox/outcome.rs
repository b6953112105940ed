//! What an error of the engine means: something that the guest did (an [`Outcome`]), or no answer ([`SandboxError`]).
//!
//! Invariant: decided by the error's type alone. Message text carries addresses and wording that voters may differ
//! in, so it reaches people only. An error of a type that is not listed here is the engine's: never an answer.

use wasmtime::{Error, OutOfMemory, PoolConcurrencyLimitError, Trap as EngineTrap, UnknownImportError};

use super::SandboxError;
use super::limits::{HostRefused, MinimumOverBudget};
use crate::result::{Outcome, Trap};

/// Sorts an error that instantiating or calling a guest gave.
pub(super) fn classify(error: &Error) -> Result<Outcome, SandboxError> {
    if let Some(trap) = error.downcast_ref::<EngineTrap>() {
        return of_trap(*trap);
    }
    if error.is::<MinimumOverBudget>() {
        return Ok(Outcome::Trapped { trap: Trap::Instantiation });
    }
    let text = format!("{error:#}");
    let capacity = error.is::<HostRefused>()
        || error.is::<PoolConcurrencyLimitError>()
        || error.is::<OutOfMemory>()
        || error.is::<std::io::Error>();
    if capacity {
        return Err(SandboxError::Capacity(text));
    }
    if error.is::<UnknownImportError>() {
        return Err(SandboxError::Artifact(text));
    }
    // `WasmtimeBug` and whatever has no type of its own.
    Err(SandboxError::Engine(text))
}

/// The traps that a core module of this profile can reach, and what the others say about the engine.
fn of_trap(trap: EngineTrap) -> Result<Outcome, SandboxError> {
    let trap = match trap {
        EngineTrap::UnreachableCodeReached => Trap::Unreachable,
        EngineTrap::MemoryOutOfBounds => Trap::MemoryOutOfBounds,
        EngineTrap::TableOutOfBounds => Trap::TableOutOfBounds,
        EngineTrap::IndirectCallToNull => Trap::IndirectCallToNull,
        EngineTrap::BadSignature => Trap::BadSignature,
        EngineTrap::IntegerOverflow => Trap::IntegerOverflow,
        EngineTrap::IntegerDivisionByZero => Trap::IntegerDivisionByZero,
        EngineTrap::BadConversionToInteger => Trap::BadConversionToInteger,
        EngineTrap::HeapMisaligned => Trap::HeapMisaligned,
        EngineTrap::StackOverflow => Trap::StackOverflow,
        EngineTrap::NullReference => Trap::NullReference,
        EngineTrap::UncaughtException => Trap::UncaughtException,
        EngineTrap::OutOfFuel => return Ok(Outcome::OutOfFuel),
        // Interruption is the wall clock's; the rest belongs to proposals that this profile has off.
        other => return Err(SandboxError::Engine(format!("unexpected trap: {other}"))),
    };
    Ok(Outcome::Trapped { trap })
}
