//! Why a module is not admitted: decided once, at upload, for good.
//!
//! Invariant: a refusal depends on the module and on the operator's bounds only, never on how busy a machine was.

use serde::{Deserialize, Serialize};

/// Most imports that one refusal lists.
pub const LISTED_MAX: usize = 50;

/// Why a module is not admitted. The text is a sentence for whoever uploaded it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Refusal {
    /// Something else than WebAssembly.
    #[error("this is no WebAssembly module: it does not begin with the bytes 00 61 73 6d")]
    NotWasm,
    /// The text format.
    #[error("this is WebAssembly text; compile it with `wat2wasm` or `wasm-tools parse`")]
    WasmText,
    /// Damaged, cut off, or not valid.
    #[error("the module is not valid: {message} (at byte {offset})")]
    Invalid {
        /// Where.
        offset: u64,
        /// What the validator says.
        message: String,
    },
    /// Larger than this installation takes.
    #[error("the module has {size} bytes, and at most {max} are taken")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        max: u64,
    },
    /// A component, which needs other host functions.
    #[error(
        "components are not supported yet: build a core module for WASI preview 1 (for Rust: target wasm32-wasip1)"
    )]
    Component,
    /// It needs something from its host that no guest gets here.
    #[error("the module imports what is not offered: {}", list(imports, *more))]
    UnknownImports {
        /// `module.name` and what is wrong with it, at most 50.
        imports: Vec<String>,
        /// How many were left off.
        more: u64,
    },
    /// Its `_initialize`, which comes before any call of its exports, cannot be called without arguments.
    #[error("the module exports `_initialize` as {signature}: it must take no parameters and return nothing")]
    BadInitialize {
        /// What it is.
        signature: String,
    },
    /// It uses a proposal that the profile has off, because its results could differ between machines.
    #[error("the module uses a feature that profile det-1 does not have: {message} (at byte {offset})")]
    UnsupportedFeature {
        /// Where.
        offset: u64,
        /// What the validator says.
        message: String,
    },
    /// It has more of something than real programs have, and compiling that takes out of proportion long.
    #[error("the module is too complex: it has {count} {what}, and at most {max} are taken")]
    TooComplex {
        /// Of what.
        what: String,
        /// How many.
        count: u64,
        /// The bound.
        max: u64,
    },
    /// Compiling it used up what a compilation may use.
    #[error("compiling the module took more than {bound}")]
    CompileBomb {
        /// What was used up.
        bound: String,
    },
    /// Valid, but beyond the code generator.
    #[error("the module cannot be compiled: {message}")]
    Uncompilable {
        /// What the code generator says.
        message: String,
    },
}

impl Refusal {
    /// The stable code of problem details; also the tag of the JSON form.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotWasm => "not_wasm",
            Refusal::WasmText => "wasm_text",
            Refusal::Invalid { .. } => "invalid",
            Refusal::TooLarge { .. } => "too_large",
            Refusal::Component => "component",
            Refusal::UnknownImports { .. } => "unknown_imports",
            Refusal::BadInitialize { .. } => "bad_initialize",
            Refusal::UnsupportedFeature { .. } => "unsupported_feature",
            Refusal::TooComplex { .. } => "too_complex",
            Refusal::CompileBomb { .. } => "compile_bomb",
            Refusal::Uncompilable { .. } => "uncompilable",
        }
    }
}

fn list(imports: &[String], more: u64) -> String {
    let listed = imports.join(", ");
    if more == 0 { listed } else { format!("{listed}, and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_tag_of_the_json_form() {
        let text = String::new;
        for refusal in [
            Refusal::NotWasm,
            Refusal::WasmText,
            Refusal::Invalid { offset: 1, message: text() },
            Refusal::TooLarge { size: 2, max: 1 },
            Refusal::Component,
            Refusal::UnknownImports { imports: vec![text()], more: 0 },
            Refusal::BadInitialize { signature: text() },
            Refusal::UnsupportedFeature { offset: 1, message: text() },
            Refusal::TooComplex { what: text(), count: 2, max: 1 },
            Refusal::CompileBomb { bound: text() },
            Refusal::Uncompilable { message: text() },
        ] {
            let json = serde_json::to_value(&refusal).unwrap();
            assert_eq!(json["code"], refusal.code());
            assert_eq!(serde_json::from_value::<Refusal>(json).unwrap(), refusal);
        }
    }
}
