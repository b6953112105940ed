//! What the sandbox's tests share: modules as text, and plain invocations.

use std::fs::File;
use std::io::Write as _;
use std::sync::LazyLock;

use super::{Execution, Invocation, Loaded, Sandbox, SandboxError, Variant, compile};
use vocabulary::result::Outcome;
use vocabulary::spec::{Limits, Profile};

/// One sandbox for all tests of a process: they may execute at the same time.
pub(crate) static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| Sandbox::new().unwrap());

/// An anonymous file with these bytes.
pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Compiles WebAssembly text and loads it.
pub(crate) fn load(sandbox: &Sandbox, text: &str, variant: Variant) -> Loaded {
    let artifact = compile(&wat::parse_str(text).unwrap(), variant).unwrap();
    sandbox.load_file(&file(&artifact), variant).unwrap()
}

/// An invocation of `entry` with nothing but arguments.
pub(crate) fn invocation(entry: &str, args: &[&str], limits: Limits) -> Invocation {
    Invocation {
        entry: entry.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        stdin: bytes::Bytes::new(),
        mounts: Vec::new(),
        clock_ns: 0,
        seed: 0,
        limits,
    }
}

/// Executes `entry` of a module given as text.
pub(crate) fn execute(
    text: &str,
    entry: &str,
    args: &[&str],
    limits: Limits,
) -> Result<Execution, SandboxError> {
    let loaded = load(&SANDBOX, text, Variant::of(Profile::Det1, &limits));
    SANDBOX.execute(&loaded, invocation(entry, args, limits), None)
}

/// The outcome of `entry` with default limits.
pub(crate) fn outcome(text: &str, entry: &str, args: &[&str]) -> Outcome {
    execute(text, entry, args, Limits::default()).unwrap().outcome
}

/// An outcome of returned values.
pub(crate) fn returned(values: &[&str]) -> Outcome {
    Outcome::Returned { values: values.iter().map(|value| (*value).to_owned()).collect() }
}
