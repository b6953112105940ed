//! One pass over a module's sections: counts what a compile bomb has too much of, and notes what the analysis tells.
//!
//! It runs before validation, on bytes of any kind, and refuses as soon as a bound is passed: work and memory are
//! bounded by the module's size. It knows nothing of what is offered to guests.

use std::collections::BTreeSet;

use wasmparser::{
    BinaryReaderError, Export, FunctionBody, Import, KnownCustom, MemoryType, Name, Operator, Parser,
    Payload, TableType, WasmFeatures,
};

use super::engine::{MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use super::refusal::Refusal;

/// Functions of one module: each costs time and memory however small it is.
pub const FUNCTIONS_MAX: u64 = 200_000;
/// Parameters and locals of one function: time to allocate registers grows faster than linearly with live ones.
pub const LOCALS_MAX: u64 = 20_000;
/// Code of one function, in bytes.
pub const BODY_BYTES_MAX: u64 = 4 << 20;
/// Types, globals, data segments and element segments, each.
pub const ITEMS_MAX: u64 = 100_000;
/// Imports: more than there are host functions, because linkers may repeat them.
pub const IMPORTS_MAX: u64 = 1_000;
/// Exports.
pub const EXPORTS_MAX: u64 = 10_000;
/// All names of imports and exports together, in bytes.
pub const NAME_BYTES_MAX: u64 = 1 << 20;
/// All signatures of imports and exports together as text, in bytes: many exports may share one long type.
pub const SIGNATURE_BYTES_MAX: u64 = 1 << 20;

/// What the pass found.
#[derive(Default)]
pub(super) struct Survey<'a> {
    pub(super) imports: Vec<Import<'a>>,
    pub(super) exports: Vec<Export<'a>>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) tables: Vec<TableType>,
    pub(super) functions: u64,
    pub(super) has_start: bool,
    pub(super) name: Option<&'a str>,
    /// Proposals that some instruction belongs to, by wasmparser's names.
    pub(super) proposals: BTreeSet<&'static str>,
    name_bytes: u64,
}

/// Walks through `wasm`, which begins like a core module.
pub(super) fn survey(wasm: &[u8]) -> Result<Survey<'_>, Refusal> {
    let mut survey = Survey::default();
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    for payload in parser.parse_all(wasm) {
        survey.take(payload.map_err(|error| invalid(&error))?)?;
    }
    Ok(survey)
}

impl<'a> Survey<'a> {
    fn take(&mut self, payload: Payload<'a>) -> Result<(), Refusal> {
        match payload {
            Payload::TypeSection(section) => bound("types", section.count(), ITEMS_MAX)?,
            Payload::GlobalSection(section) => bound("globals", section.count(), ITEMS_MAX)?,
            Payload::ElementSection(section) => bound("element segments", section.count(), ITEMS_MAX)?,
            Payload::DataSection(section) => bound("data segments", section.count(), ITEMS_MAX)?,
            Payload::FunctionSection(section) => {
                self.functions = section.count().into();
                bound("functions", section.count(), FUNCTIONS_MAX)?;
            }
            Payload::CodeSectionStart { count, .. } => bound("functions", count, FUNCTIONS_MAX)?,
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(|error| invalid(&error))?;
                    self.name_bytes(import.module.len() + import.name.len())?;
                    self.imports.push(import);
                    bound("imports", self.imports.len(), IMPORTS_MAX)?;
                }
            }
            Payload::ExportSection(section) => {
                bound("exports", section.count(), EXPORTS_MAX)?;
                for export in section {
                    let export = export.map_err(|error| invalid(&error))?;
                    self.name_bytes(export.name.len())?;
                    self.exports.push(export);
                }
            }
            Payload::MemorySection(section) => {
                bound("memories", section.count(), u64::from(MEMORIES_MAX))?;
                self.memories =
                    section.into_iter().collect::<Result<_, _>>().map_err(|error| invalid(&error))?;
            }
            Payload::TableSection(section) => {
                bound("tables", section.count(), u64::from(TABLES_MAX))?;
                for table in section {
                    let table = table.map_err(|error| invalid(&error))?.ty;
                    bound("elements in a table", table.initial, TABLE_ELEMENTS_MAX as u64)?;
                    self.tables.push(table);
                }
            }
            Payload::StartSection { .. } => self.has_start = true,
            Payload::CodeSectionEntry(body) => self.body(&body)?,
            Payload::CustomSection(section) => {
                // A damaged name section is no reason to refuse a module: it means nothing.
                if let KnownCustom::Name(names) = section.as_known()
                    && let Some(Ok(Name::Module { name, .. })) = names.into_iter().next()
                {
                    self.name = Some(name);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), Refusal> {
        let range = body.range();
        bound("bytes of code in a function", range.len(), BODY_BYTES_MAX)?;
        let mut locals = 0_u64;
        for group in body.get_locals_reader().map_err(|error| invalid(&error))? {
            let (count, _) = group.map_err(|error| invalid(&error))?;
            locals += u64::from(count);
            bound("locals in a function", locals, LOCALS_MAX)?;
        }
        let operators = body.get_operators_reader().map_err(|error| invalid(&error))?;
        for operator in operators {
            self.proposals.insert(proposal(&operator.map_err(|error| invalid(&error))?));
        }
        Ok(())
    }

    fn name_bytes(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.name_bytes += bytes as u64;
        bound("bytes in the names of imports and exports", self.name_bytes, NAME_BYTES_MAX)
    }
}

pub(super) fn invalid(error: &BinaryReaderError) -> Refusal {
    Refusal::Invalid { offset: error.offset() as u64, message: error.message().to_owned() }
}

pub(super) fn bound(what: &str, count: impl TryInto<u64>, max: u64) -> Result<(), Refusal> {
    let count = count.try_into().unwrap_or(u64::MAX);
    if count > max { Err(Refusal::TooComplex { what: what.to_owned(), count, max }) } else { Ok(()) }
}

macro_rules! proposals {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($annotation:tt)*) )*) => {
        /// The proposal that an instruction came with.
        fn proposal(operator: &Operator<'_>) -> &'static str {
            match operator {
                $( Operator::$op { .. } => stringify!($proposal), )*
                _ => "unknown",
            }
        }
    };
}
wasmparser::for_each_operator!(proposals);
