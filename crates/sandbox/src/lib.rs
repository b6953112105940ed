//! Executes one guest deterministically: the only module that knows wasmtime.
//!
//! The promise: for equal (artifact, [`Invocation`]) every machine of one class gives an equal [`Execution`], bit for
//! bit, or an error that is no answer ([`SandboxError`]). A guest sees only what its invocation holds: no host
//! descriptor, no clock, no entropy, no network. What a guest does is an [`Outcome`], never an `Err`.
//!
//! It does not know processes, sockets, digests of modules, or who asked.

mod analysis;
#[cfg(test)]
mod analysis_tests;
mod class;
#[cfg(test)]
mod command_tests;
mod compile;
pub mod corpus;
#[cfg(test)]
mod det1_tests;
mod engine;
mod execute;
mod limits;
mod outcome;
#[cfg(test)]
mod portable_tests;
mod refusal;
mod survey;
#[cfg(test)]
pub(crate) mod testing;
mod values;
pub mod vfs;
pub mod wasi;

pub use analysis::{
    Analysis, ExportInfo, FunctionType, ImportInfo, Kind, SizeRange, WasiLevel, check_entry, examine,
};
pub use class::{Answers, ClassParts};
pub use compile::{CompileError, compile};
pub use engine::{
    CpuLevel, ENGINE_VERSION, FEATURES, MEMORIES_MAX, MEMORY_BYTES_MAX, STACK_BYTES, TABLE_ELEMENTS_MAX,
    TABLES_MAX, compatibility, engine_name, policy,
};
pub use execute::{Loaded, REACTOR_START, SYSTEM_CALLS, Sandbox};
pub use limits::TABLE_ELEMENT_BYTES;
pub use refusal::Refusal;
pub use values::{NumericType, ParseValueError};

use bytes::Bytes;

use vocabulary::result::{Outcome, OutputFile, OutputRef, ResultManifest};
use vocabulary::spec::{GuestPath, Limits, Profile};

/// Which machine code: several artifacts of one module, because fuel is paid for in every block, and equal results on
/// other machines with every number that may be a NaN.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Of `det-1`, uninstrumented.
    Plain,
    /// Of `det-1`, counts fuel.
    Fueled,
    /// Of `det-1-portable`, without fuel.
    Portable,
    /// Of `det-1-portable`, counts fuel.
    PortableFueled,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 4] =
        [Variant::Plain, Variant::Fueled, Variant::Portable, Variant::PortableFueled];

    /// The one that a run of this profile with these limits needs.
    pub fn of(profile: Profile, limits: &Limits) -> Variant {
        match (profile, limits.fuel) {
            (Profile::Det1, None) => Variant::Plain,
            (Profile::Det1, Some(_)) => Variant::Fueled,
            (Profile::Det1Portable, None) => Variant::Portable,
            (Profile::Det1Portable, Some(_)) => Variant::PortableFueled,
        }
    }

    /// The semantics that it has.
    pub fn profile(self) -> Profile {
        match self {
            Variant::Plain | Variant::Fueled => Profile::Det1,
            Variant::Portable | Variant::PortableFueled => Profile::Det1Portable,
        }
    }

    /// Whether it counts fuel.
    pub fn is_fueled(self) -> bool {
        matches!(self, Variant::Fueled | Variant::PortableFueled)
    }
}

/// What is at a guest path. The bytes may be a mapped blob: they are shared, never copied.
#[derive(Clone, Debug)]
pub enum Mount {
    /// One file.
    File(Bytes),
    /// A packed directory (`tree.rs`), mapped as a whole.
    Tree(Bytes),
}

/// Everything that a guest can observe.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// `_start`, or the name of an exported function.
    pub entry: String,
    /// The arguments after the program's name (`argv[0]` is always `main`), or a function's numbers.
    pub args: Vec<String>,
    /// The environment, sorted by name.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Bytes,
    /// Read-only inputs, sorted by path.
    pub mounts: Vec<(GuestPath, Mount)>,
    /// The virtual clock's first reading, nanoseconds since the Unix epoch.
    pub clock_ns: u64,
    /// Seed of every random source.
    pub seed: u64,
    /// Bounds.
    pub limits: Limits,
}

/// Hears output as it is written, for people who watch; must not block.
pub trait LiveOutput: Send {
    /// `bytes` were appended to standard output, or to standard error.
    fn wrote(&mut self, is_stderr: bool, bytes: &[u8]);
}

/// What a guest did and left.
#[derive(Debug)]
pub struct Execution {
    /// What it did.
    pub outcome: Outcome,
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error.
    pub stderr: Bytes,
    /// Files under `/out`, sorted by path.
    pub files: Vec<(GuestPath, Bytes)>,
    /// Fuel used, where it is exact.
    pub fuel_used: Option<u64>,
}

impl Execution {
    /// What votes are about: its canonical JSON hashes to the result digest.
    pub fn manifest(&self) -> ResultManifest {
        let file = |(path, bytes): &(GuestPath, Bytes)| {
            let OutputRef { digest, size } = OutputRef::of(bytes);
            OutputFile { path: path.clone(), digest, size }
        };
        ResultManifest {
            outcome: self.outcome.clone(),
            stdout: OutputRef::of(&self.stdout),
            stderr: OutputRef::of(&self.stderr),
            files: self.files.iter().map(file).collect(),
            fuel_used: self.fuel_used,
        }
    }
}

/// The infrastructure failed: no answer, never votes.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine has no room: mapping, growing or a pool slot was refused by the host.
    #[error("the host has no capacity: {0}")]
    Capacity(String),
    /// The artifact does not load in this engine: the machine is misconfigured or the artifact damaged.
    #[error("the artifact was not accepted by the engine: {0}")]
    Artifact(String),
    /// The engine itself failed.
    #[error("the engine failed: {0}")]
    Engine(String),
    /// The invocation names an entry or arguments that the module does not have. Admission checks the same,
    /// so that this is decided before a run is accepted.
    #[error("{0}")]
    Entry(String),
}
