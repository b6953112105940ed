//! Makes machine code of a module that was analysed and admitted. Only the compiler child calls this.
//!
//! Reproducible: equal modules give equal bytes in every process of one class.

use wasmtime::OutOfMemory;

use super::engine::{self, CpuLevel, Role};
use super::{SandboxError, Variant};

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Memory ran out: under the child's limits that is the module's doing.
    #[error("memory ran out: {0}")]
    OutOfMemory(String),
    /// The code generator does not take it, though it is valid: a function that is too large for it, for instance.
    #[error("{0}")]
    Unsupported(String),
    /// The engine could not be built.
    #[error(transparent)]
    Engine(#[from] SandboxError),
}

/// Compiles `wasm`.
///
/// # Errors
///
/// See [`CompileError`].
pub fn compile(wasm: &[u8], variant: Variant) -> Result<Vec<u8>, CompileError> {
    compile_for(wasm, variant, engine::level(variant))
}

/// Compiles `wasm` for CPUs of a level.
pub(super) fn compile_for(wasm: &[u8], variant: Variant, level: CpuLevel) -> Result<Vec<u8>, CompileError> {
    let engine = engine::build(Role::Compile, variant, level)
        .map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
    engine.precompile_module(wasm).map_err(|error| {
        let text = format!("{error:#}");
        if error.is::<OutOfMemory>() || error.is::<std::io::Error>() {
            CompileError::OutOfMemory(text)
        } else {
            CompileError::Unsupported(text)
        }
    })
}
