//! What an error of the engine means: something that the guest did (an [`Outcome`]), or no answer ([`SandboxError`]).
//!
//! Invariant: decided by the error's type alone. Message text carries addresses and wording that voters may differ
//! in, so it reaches people only. An error of a type that is not listed here is the engine's: never an answer.

use wasmtime::{Error, OutOfMemory, PoolConcurrencyLimitError, Trap as EngineTrap, UnknownImportError};

use super::SandboxError;
use super::limits::{HostRefused, MinimumOverBudget};
use super::wasi::{Exit, HostAbiError, HostMemoryError, OutputLimitReached};
use vocabulary::result::{Outcome, Trap};

/// Sorts an error that instantiating or calling a guest gave.
pub(super) fn classify(error: &Error) -> Result<Outcome, SandboxError> {
    if let Some(trap) = error.downcast_ref::<EngineTrap>() {
        return of_trap(*trap);
    }
    if let Some(Exit(code)) = error.downcast_ref::<Exit>() {
        return Ok(Outcome::Exited { code: *code });
    }
    if error.is::<OutputLimitReached>() {
        return Ok(Outcome::OutputLimit);
    }
    if error.is::<HostAbiError>() {
        return Ok(Outcome::Trapped { trap: Trap::HostAbi });
    }
    if error.is::<MinimumOverBudget>() {
        return Ok(Outcome::Trapped { trap: Trap::Instantiation });
    }
    let text = format!("{error:#}");
    let capacity = error.is::<HostRefused>()
        || error.is::<HostMemoryError>()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Sorts `error` as it arrives: with context around it, as the engine adds on the way out of a guest.
    fn classified(error: impl Into<Error>) -> String {
        let error = error.into().context("error while executing at wasm backtrace");
        match classify(&error) {
            Ok(outcome) => format!("{outcome:?}"),
            Err(SandboxError::Capacity(_)) => "capacity".to_owned(),
            Err(SandboxError::Artifact(_)) => "artifact".to_owned(),
            Err(SandboxError::Engine(_)) => "engine".to_owned(),
            Err(SandboxError::Entry(_)) => "entry".to_owned(),
        }
    }

    fn trap(trap: Trap) -> String {
        format!("{:?}", Outcome::Trapped { trap })
    }

    #[test]
    fn what_a_guest_does_is_an_outcome() {
        let mut limiter = super::super::limits::Limiter::new(0, 1);
        let minimum = wasmtime::ResourceLimiter::memory_growing(&mut limiter, 0, 1 << 16, None).unwrap_err();
        assert_eq!(classified(minimum), trap(Trap::Instantiation));
        assert_eq!(classified(Exit(7)), format!("{:?}", Outcome::Exited { code: 7 }));
        assert_eq!(classified(OutputLimitReached), format!("{:?}", Outcome::OutputLimit));
        assert_eq!(classified(EngineTrap::OutOfFuel), format!("{:?}", Outcome::OutOfFuel));
    }

    #[test]
    fn each_trap_of_a_core_module_has_one_meaning() {
        for (engine, ours) in [
            (EngineTrap::UnreachableCodeReached, Trap::Unreachable),
            (EngineTrap::MemoryOutOfBounds, Trap::MemoryOutOfBounds),
            (EngineTrap::TableOutOfBounds, Trap::TableOutOfBounds),
            (EngineTrap::IndirectCallToNull, Trap::IndirectCallToNull),
            (EngineTrap::BadSignature, Trap::BadSignature),
            (EngineTrap::IntegerOverflow, Trap::IntegerOverflow),
            (EngineTrap::IntegerDivisionByZero, Trap::IntegerDivisionByZero),
            (EngineTrap::BadConversionToInteger, Trap::BadConversionToInteger),
            (EngineTrap::HeapMisaligned, Trap::HeapMisaligned),
            (EngineTrap::StackOverflow, Trap::StackOverflow),
            (EngineTrap::NullReference, Trap::NullReference),
            (EngineTrap::UncaughtException, Trap::UncaughtException),
        ] {
            assert_eq!(classified(engine), trap(ours));
        }
    }

    #[test]
    fn what_the_host_lacks_is_capacity() {
        let mut limiter = super::super::limits::Limiter::new(u64::MAX, 0);
        assert!(wasmtime::ResourceLimiter::memory_growing(&mut limiter, 0, 1 << 16, None).unwrap());
        let failed = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let refused = wasmtime::ResourceLimiter::memory_grow_failed(&mut limiter, failed.into()).unwrap_err();
        assert_eq!(classified(refused), "capacity");
        assert_eq!(classified(HostMemoryError), "capacity");
        assert_eq!(classified(OutOfMemory::new(1)), "capacity");
        assert_eq!(classified(std::io::Error::from(std::io::ErrorKind::OutOfMemory)), "capacity");
    }

    #[test]
    fn a_full_pool_is_capacity() {
        // The engine's own error has no constructor, so a pool of one slot is filled.
        let mut pool = wasmtime::PoolingAllocationConfig::new();
        pool.total_core_instances(1);
        let mut config = wasmtime::Config::new();
        config.allocation_strategy(pool);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let module = wasmtime::Module::new(&engine, wat::parse_str("(module)").unwrap()).unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        let _first = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let mut other = wasmtime::Store::new(&engine, ());
        let full = wasmtime::Instance::new(&mut other, &module, &[]).unwrap_err();
        assert_eq!(classified(full), "capacity");
    }

    #[test]
    fn an_unknown_import_is_the_artifacts() {
        let engine = wasmtime::Engine::default();
        let wasm = wat::parse_str(r#"(module (import "env" "f" (func)))"#).unwrap();
        let module = wasmtime::Module::new(&engine, wasm).unwrap();
        let unknown = wasmtime::Linker::<()>::new(&engine).instantiate_pre(&module).map(drop).unwrap_err();
        assert_eq!(classified(unknown), "artifact");
    }

    #[test]
    fn everything_else_is_the_engines() {
        for trap in [EngineTrap::Interrupt, EngineTrap::AllocationTooLarge, EngineTrap::DisabledOpcode] {
            assert_eq!(classified(trap), "engine");
        }
        // Its words are those of a trap; its type is not.
        assert_eq!(classified(Error::msg("wasm trap: call stack exhausted")), "engine");
    }
}
