//! What a module is, without executing it: told to whoever uploads it, and the ground for admission.
//!
//! [`examine`] is pure and its work is bounded by the module's size. It answers with the analysis of a module that this
//! profile can run, or with the first [`Refusal`]. It is given bytes of any kind, so it runs in the compiler child.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wasmparser::types::TypesRef;
use wasmparser::{ExternalKind, TypeRef, Validator, WasmFeatures};

use super::engine::FEATURES;
use super::execute::{REACTOR_START, offered};
use super::refusal::{LISTED_MAX, Refusal};
use super::survey::{SIGNATURE_BYTES_MAX, Survey, bound, invalid, survey};
use super::values::{self, NumericType};
use super::wasi;
use vocabulary::spec::DEFAULT_ENTRY;

/// How a module wants to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It has a `_start`: run it like a program.
    Command,
    /// It has an `_initialize`, which comes before any call of its exports.
    Reactor,
    /// It only has exported functions.
    Functions,
}

/// Which system interface it was built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WasiLevel {
    /// None: it computes only.
    None,
    /// Preview 1.
    Preview1,
}

/// Types of a function, by their names in the text format.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct FunctionType {
    /// Of its parameters.
    pub params: Vec<String>,
    /// Of its results.
    pub results: Vec<String>,
}

impl fmt::Display for FunctionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}) -> ({})", self.params.join(", "), self.results.join(", "))
    }
}

/// Something that the module wants from its host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportInfo {
    /// From where.
    pub module: String,
    /// By what name.
    pub name: String,
    /// What it is: `(i32, i32) -> (i32)` for a function.
    pub signature: String,
}

/// Something that the module offers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportInfo {
    /// By what name.
    pub name: String,
    /// What it is, as for imports.
    pub signature: String,
    /// Its types, for a function.
    pub function: Option<FunctionType>,
}

/// Size of a memory (in pages of 64 KiB) or of a table (in elements).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SizeRange {
    /// What it has from the start.
    pub min: u64,
    /// What it says it needs at most.
    pub max: Option<u64>,
}

/// What a module is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Analysis {
    /// How it wants to be run.
    pub kind: Kind,
    /// Its system interface.
    pub wasi: WasiLevel,
    /// Its name, if its name section has one.
    pub name: Option<String>,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Functions with a body.
    pub functions: u64,
    /// What it wants.
    pub imports: Vec<ImportInfo>,
    /// What it offers.
    pub exports: Vec<ExportInfo>,
    /// Its memories, in pages.
    pub memories: Vec<SizeRange>,
    /// Its tables, in elements.
    pub tables: Vec<SizeRange>,
    /// Whether a start function runs before any entry.
    pub has_start: bool,
    /// Proposals that its code uses beyond the first version of WebAssembly.
    pub features: Vec<String>,
    /// Whether results of several machines can be compared: true for every module that profile `det-1` admits.
    pub verifiable: bool,
    /// What a user should know before the first run, in sentences.
    pub notes: Vec<String>,
}

impl Analysis {
    /// The types of an exported function.
    pub fn function(&self, name: &str) -> Option<&FunctionType> {
        self.exports.iter().find(|export| export.name == name)?.function.as_ref()
    }
}

/// Whether a run may name this entry with these arguments: what a coordinator asks before it accepts one. The sandbox
/// decides the same again from the artifact.
///
/// # Errors
///
/// A sentence for the caller.
pub fn check_entry(analysis: &Analysis, entry: &str, args: &[String]) -> Result<(), String> {
    let Some(function) = analysis.function(entry) else {
        return Err(values::no_function(entry));
    };
    let types = |names: &[String]| -> Option<Vec<NumericType>> {
        names.iter().map(|name| NumericType::from_name(name)).collect()
    };
    let (Some(params), Some(_)) = (types(&function.params), types(&function.results)) else {
        return Err(values::not_numeric(entry));
    };
    let args = if entry == DEFAULT_ENTRY { &[] } else { args };
    values::parse_all(&params, args).map(drop)
}

/// Analyses `wasm`.
///
/// # Errors
///
/// The first reason for which this profile cannot run it.
pub fn examine(wasm: &[u8]) -> Result<Analysis, Refusal> {
    check_header(wasm)?;
    let survey = survey(wasm)?;
    let types = validate(wasm)?;
    let types = types.as_ref();
    let mut signature_bytes = 0;
    let mut bounded = |signature: &str| {
        signature_bytes += signature.len();
        bound("bytes in the signatures of imports and exports", signature_bytes, SIGNATURE_BYTES_MAX)
    };
    let mut imports = Vec::with_capacity(survey.imports.len());
    for import in &survey.imports {
        let info = import_info(import, types);
        bounded(&info.signature)?;
        imports.push(info);
    }
    check_imports(&survey, &imports)?;
    let mut exports = Vec::with_capacity(survey.exports.len());
    for export in &survey.exports {
        let info = export_info(export, types);
        bounded(&info.signature)?;
        exports.push(info);
    }
    let has = |name| exports.iter().any(|export| export.name == name && export.function.is_some());
    let reactor = exports.iter().find(|export| export.name == REACTOR_START);
    if let Some(function) = reactor.and_then(|export| export.function.as_ref())
        && !(function.params.is_empty() && function.results.is_empty())
    {
        return Err(Refusal::BadInitialize { signature: function.to_string() });
    }
    let kind = match (has(DEFAULT_ENTRY), has(REACTOR_START)) {
        (true, _) => Kind::Command,
        (false, true) => Kind::Reactor,
        (false, false) => Kind::Functions,
    };
    let level = match imports.iter().any(|import| import.module == wasi::MODULE) {
        true => WasiLevel::Preview1,
        false => WasiLevel::None,
    };
    Ok(Analysis {
        kind,
        wasi: level,
        name: survey.name.map(|name| name.chars().take(200).collect()),
        size_bytes: wasm.len() as u64,
        functions: survey.functions,
        notes: notes(&imports, &exports),
        imports,
        exports,
        memories: survey.memories.iter().map(|ty| SizeRange { min: ty.initial, max: ty.maximum }).collect(),
        tables: survey.tables.iter().map(|ty| SizeRange { min: ty.initial, max: ty.maximum }).collect(),
        has_start: survey.has_start,
        features: features(&survey),
        verifiable: true,
    })
}

/// The first eight bytes: magic number, version and layer.
fn check_header(wasm: &[u8]) -> Result<(), Refusal> {
    if !wasm.starts_with(b"\0asm") {
        let text = wasm.trim_ascii_start();
        let is_text =
            [&b"(module"[..], b"(component", b";;", b"(;"].iter().any(|start| text.starts_with(start));
        return Err(if is_text { Refusal::WasmText } else { Refusal::NotWasm });
    }
    // The component model's layer; its version may still change.
    if wasm.get(6..8) == Some(&[1, 0]) {
        return Err(Refusal::Component);
    }
    Ok(())
}

/// Validates by the profile's rules. A module that only wider rules accept is told so.
fn validate(wasm: &[u8]) -> Result<wasmparser::types::Types, Refusal> {
    let refused = match Validator::new_with_features(FEATURES).validate_all(wasm) {
        Ok(types) => return Ok(types),
        Err(error) => error,
    };
    match Validator::new_with_features(WasmFeatures::all()).validate_all(wasm) {
        Ok(_) => Err(Refusal::UnsupportedFeature {
            offset: refused.offset() as u64,
            message: refused.message().to_owned(),
        }),
        Err(error) => Err(invalid(&error)),
    }
}

fn check_imports(survey: &Survey<'_>, imports: &[ImportInfo]) -> Result<(), Refusal> {
    let mut problems = Vec::new();
    for (import, info) in survey.imports.iter().zip(imports) {
        let ImportInfo { module, name, signature } = info;
        let key = (module.clone(), name.clone());
        match (offered().get(&key), import.ty) {
            (Some(ours), TypeRef::Func(_)) if ours == signature => {}
            (Some(ours), _) => problems.push(format!("{module}.{name} as {signature} (it is {ours})")),
            (None, TypeRef::Func(_)) => problems.push(format!("{module}.{name}")),
            (None, _) => problems.push(format!("{module}.{name} ({signature})")),
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let more = problems.len().saturating_sub(LISTED_MAX) as u64;
    problems.truncate(LISTED_MAX);
    Err(Refusal::UnknownImports { imports: problems, more })
}

fn import_info(import: &wasmparser::Import<'_>, types: TypesRef<'_>) -> ImportInfo {
    let signature = match import.ty {
        TypeRef::Func(index) | TypeRef::FuncExact(index) => {
            function_type(types, types.core_type_at_in_module(index)).to_string()
        }
        TypeRef::Table(ty) => format!("table of {}", ty.element_type),
        TypeRef::Memory(_) => "memory".to_owned(),
        TypeRef::Global(ty) => global_text(ty),
        TypeRef::Tag(_) => "tag".to_owned(),
    };
    ImportInfo { module: import.module.to_owned(), name: import.name.to_owned(), signature }
}

fn export_info(export: &wasmparser::Export<'_>, types: TypesRef<'_>) -> ExportInfo {
    let mut function = None;
    let signature = match export.kind {
        ExternalKind::Func | ExternalKind::FuncExact => {
            let ty = function_type(types, types.core_function_at(export.index));
            let text = ty.to_string();
            function = Some(ty);
            text
        }
        ExternalKind::Table => format!("table of {}", types.table_at(export.index).element_type),
        ExternalKind::Memory => "memory".to_owned(),
        ExternalKind::Global => global_text(types.global_at(export.index)),
        ExternalKind::Tag => "tag".to_owned(),
    };
    ExportInfo { name: export.name.to_owned(), signature, function }
}

fn function_type(types: TypesRef<'_>, id: wasmparser::types::CoreTypeId) -> FunctionType {
    let names = |types: &[wasmparser::ValType]| types.iter().map(ToString::to_string).collect();
    let ty = types[id].unwrap_func();
    FunctionType { params: names(ty.params()), results: names(ty.results()) }
}

fn global_text(ty: wasmparser::GlobalType) -> String {
    format!("global {}{}", if ty.mutable { "mut " } else { "" }, ty.content_type)
}

/// The proposals that are worth a word; the older ones are in every module of today.
fn features(survey: &Survey<'_>) -> Vec<String> {
    let named = ["relaxed_simd", "simd", "tail_call"];
    let mut features: Vec<_> =
        named.into_iter().filter(|name| survey.proposals.contains(name)).map(str::to_owned).collect();
    if survey.memories.len() > 1 {
        features.push("multi_memory".to_owned());
    }
    features
}

fn notes(imports: &[ImportInfo], exports: &[ExportInfo]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |names: &[&str], text: &str| {
        if imports.iter().any(|import| import.module == wasi::MODULE && names.contains(&import.name.as_str()))
        {
            notes.push(text.to_owned());
        }
    };
    note(
        &["clock_time_get", "poll_oneoff"],
        "It can read the clock or wait: it sees a virtual clock that starts at the run's `clock`.",
    );
    note(&["random_get"], "It can ask for random numbers: they come from the run's `seed`.");
    note(
        &["sock_accept", "sock_recv", "sock_send", "sock_shutdown"],
        "It can use sockets: every such call answers that they are not supported.",
    );
    if !exports.iter().any(|export| export.function.is_some()) {
        notes.push("It exports no function, so nothing in it can be run.".to_owned());
    }
    notes
}
