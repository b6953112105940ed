//! The run spec (what determines a result) and the policy (what does not).
//!
//! Invariants: a [`RunSpec`] has every default filled in, so equal specs have equal canonical JSON
//! (RFC 8785) and hence equal run keys; numbers stay below 2^53, which is what RFC 8785 can write.
//! Nothing in a [`Policy`] may change what a guest computes.

mod policy;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::policy::{
    CacheUse, Callback, ParseCacheUseError, ParseVerifyError, Placement, Policy, Retry, Verify,
};
use crate::digest::Digest;

/// The largest integer that canonical JSON can carry exactly: 2^53 − 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Arguments and environment together, in bytes: what a Linux `execve` takes by default.
pub const ARGS_BYTES_MAX: usize = 128 * 1024;
/// Input files and trees of one run (a tree of any size counts once).
pub const FILES_MAX: usize = 1_024;
/// Paths of all output files of a run together, in bytes as JSON writes them; more is the outcome `output_limit`. With it
/// and the most files that a run may leave, every result manifest is below 32 MiB.
pub const OUTPUT_PATHS_BYTES_MAX: usize = 16 << 20;
/// Length of a guest path in bytes, as `PATH_MAX` has it.
pub const PATH_BYTES_MAX: usize = 4_096;

/// A named, versioned set of semantics.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, ToSchema,
)]
pub enum Profile {
    /// Voters run the same artifact; nothing is paid for equality across machines.
    #[default]
    #[serde(rename = "det-1")]
    Det1,
    /// Machine code that gives the same results on other CPUs and architectures: no CPU features beyond the
    /// architecture's base, one bit pattern for every NaN that arithmetic makes. Only the depth at which a stack
    /// overflows still belongs to the machine code.
    #[serde(rename = "det-1-portable")]
    Det1Portable,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 2] = [Profile::Det1, Profile::Det1Portable];

    /// The name that JSON and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Det1 => "det-1",
            Profile::Det1Portable => "det-1-portable",
        }
    }
}

/// The profile's name.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no profile.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no profile: there are `det-1` and `det-1-portable`")]
pub struct ParseProfileError(String);

impl FromStr for Profile {
    type Err = ParseProfileError;

    fn from_str(text: &str) -> Result<Profile, ParseProfileError> {
        let named = Profile::ALL.into_iter().find(|profile| profile.name() == text);
        named.ok_or_else(|| ParseProfileError(text.chars().take(80).collect()))
    }
}

/// An absolute path inside the guest: no `.`, `..`, empty or NUL parts; the root itself is not one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GuestPath(String);

/// Why a text is no guest path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot be a guest path: {why}")]
pub struct GuestPathError {
    path: String,
    why: &'static str,
}

impl GuestPath {
    /// The path as text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `self` lies below the directory `ancestor`.
    pub fn is_below(&self, ancestor: &str) -> bool {
        self.0.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for GuestPath {
    type Err = GuestPathError;

    fn from_str(path: &str) -> Result<GuestPath, GuestPathError> {
        let refuse = |why| GuestPathError { path: path.chars().take(80).collect(), why };
        let Some(rest) = path.strip_prefix('/') else {
            return Err(refuse("it must be absolute"));
        };
        if path.len() > PATH_BYTES_MAX {
            return Err(refuse("it is longer than 4096 bytes"));
        }
        for part in rest.split('/') {
            match part {
                "" => return Err(refuse("it has an empty part")),
                "." | ".." => return Err(refuse("`.` and `..` are not allowed in it")),
                _ if part.len() > 255 => return Err(refuse("a part is longer than 255 bytes")),
                _ if part.contains('\0') => return Err(refuse("it has a NUL byte")),
                _ => {}
            }
        }
        Ok(GuestPath(path.to_owned()))
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for GuestPath {
    type Error = GuestPathError;

    fn try_from(path: String) -> Result<GuestPath, GuestPathError> {
        path.parse()
    }
}

impl From<GuestPath> for String {
    fn from(path: GuestPath) -> String {
        path.0
    }
}

/// What is put at a guest path before the run, read-only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FileInput {
    /// One file: the blob's bytes.
    #[serde(rename = "digest")]
    Blob(Digest),
    /// A directory packed into one blob (`tree.rs`).
    #[serde(rename = "tree")]
    Tree(Digest),
}

impl FileInput {
    /// The blob that holds it.
    pub fn digest(&self) -> Digest {
        match self {
            FileInput::Blob(digest) | FileInput::Tree(digest) => *digest,
        }
    }
}

/// Bounds on what a guest may use; part of the spec, because reaching one is part of the answer. The fields are in the order
/// of their names, as in [`RunSpec`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Contents of all files that the guest writes, in bytes; more is `ENOSPC`.
    pub file_bytes: u64,
    /// Files, directories and links that the guest makes; more is `ENOSPC`.
    pub file_count: u32,
    /// Fuel, or none: then the guest runs uninstrumented until its timeout.
    pub fuel: Option<u64>,
    /// All linear memories and tables together, in bytes (a table element counts 8).
    pub memory_bytes: u64,
    /// Standard output and standard error together, in bytes; one byte more ends the run.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 256 << 20,
            output_bytes: 16 << 20,
            file_bytes: 64 << 20,
            file_count: 4_096,
            fuel: None,
        }
    }
}

impl Limits {
    /// The most that a run may ask for: one 32-bit memory, and outputs that a coordinator can stream.
    pub const MAX: Limits = Limits {
        memory_bytes: 4 << 30,
        output_bytes: 1 << 30,
        file_bytes: 1 << 30,
        file_count: 65_536,
        fuel: Some(INTEGER_MAX),
    };

    /// What an attempt may hold at once, in bytes: its memories, and what it writes, which stays in memory until it ends.
    pub fn held_bytes(&self) -> u64 {
        self.memory_bytes.saturating_add(self.output_bytes).saturating_add(self.file_bytes)
    }
}

/// Everything that determines a result. Immutable; its canonical JSON hashes to the run key.
///
/// The fields are in the order of their names: so what serde writes is canonical already, but for keys that UTF-16 sorts
/// differently. An unknown field would change the result, so it is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// For commands the arguments after the program's name, for plain functions their numbers.
    pub args: Vec<String>,
    /// What the virtual clock says at the start; nanoseconds would not fit canonical JSON, so RFC 3339 text.
    pub clock: jiff::Timestamp,
    /// Exported function to call; `_start` for commands.
    pub entry: String,
    /// Environment, in the order of the names.
    pub env: BTreeMap<String, String>,
    /// Read-only inputs by their place in the guest.
    pub files: BTreeMap<GuestPath, FileInput>,
    /// Bounds on the guest.
    pub limits: Limits,
    /// The module to execute.
    pub module: Digest,
    /// The semantics.
    pub profile: Profile,
    /// Seed of every random source, below 2^53.
    pub seed: u64,
    /// Standard input.
    pub stdin: Digest,
}

impl RunSpec {
    /// The spec of a plain run of `module`, all defaults.
    pub fn new(module: Digest) -> RunSpec {
        RunSpec {
            module,
            entry: DEFAULT_ENTRY.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            stdin: Digest::EMPTY,
            files: BTreeMap::new(),
            profile: Profile::default(),
            clock: default_clock(),
            seed: 0,
            limits: Limits::default(),
        }
    }

    /// The canonical JSON (RFC 8785).
    pub fn canonical(&self) -> Vec<u8> {
        // UTF-16 puts what is beyond the basic plane before U+E000, UTF-8 after it
        let is_usual = |key: &str| key.chars().all(|char| char < '\u{e000}');
        if self.env.keys().all(|key| is_usual(key)) && self.files.keys().all(|path| is_usual(path.as_str())) {
            // several times as quick, and every run needs it at both ends of the way to a worker
            return serde_json::to_vec(self).expect("a spec has only string keys");
        }
        canonical_json(self)
    }

    /// The run key: the digest of the canonical JSON.
    pub fn key(&self) -> Digest {
        Digest::of(&self.canonical())
    }

    /// Every blob that must exist before the run can start, the module first, without the empty one.
    pub fn inputs(&self) -> impl Iterator<Item = Digest> + '_ {
        let inputs = std::iter::once(self.stdin).chain(self.files.values().map(FileInput::digest));
        std::iter::once(self.module).chain(inputs.filter(|digest| *digest != Digest::EMPTY))
    }
}

/// The entry of a WASI command.
pub const DEFAULT_ENTRY: &str = "_start";

/// 2026-01-01T00:00:00Z: a fixed instant, so that equal submissions have equal run keys on any day.
pub fn default_clock() -> jiff::Timestamp {
    jiff::Timestamp::constant(1_767_225_600, 0)
}

/// RFC 8785 text of a value made of strings, booleans, null, lists, maps and integers below 2^53.
pub fn canonical_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("specs and manifests have only string keys and no floats")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_key_depends_on_every_field_and_on_nothing_else() {
        let spec = RunSpec::new(Digest::of(b"module"));
        let mut variants = vec![spec.clone()];
        let mut vary = |change: &dyn Fn(&mut RunSpec)| {
            let mut other = spec.clone();
            change(&mut other);
            variants.push(other);
        };
        vary(&|s| s.module = Digest::of(b"other"));
        vary(&|s| s.entry = "fib".into());
        vary(&|s| s.args = vec!["".into()]);
        vary(&|s| drop(s.env.insert("A".into(), "b".into())));
        vary(&|s| s.stdin = Digest::of(b"x"));
        vary(&|s| s.files = [("/a".parse().unwrap(), FileInput::Blob(Digest::EMPTY))].into());
        vary(&|s| s.files = [("/a".parse().unwrap(), FileInput::Tree(Digest::EMPTY))].into());
        vary(&|s| s.clock = jiff::Timestamp::UNIX_EPOCH);
        vary(&|s| s.profile = Profile::Det1Portable);
        vary(&|s| s.seed = 1);
        vary(&|s| s.limits.memory_bytes += 1);
        vary(&|s| s.limits.output_bytes += 1);
        vary(&|s| s.limits.file_bytes += 1);
        vary(&|s| s.limits.file_count += 1);
        vary(&|s| s.limits.fuel = Some(1));
        let keys: std::collections::BTreeSet<_> = variants.iter().map(RunSpec::key).collect();
        assert_eq!(keys.len(), variants.len());
    }

    #[test]
    fn the_canonical_form_is_pinned() {
        // a changed form would silently change every run key
        let spec = RunSpec::new(Digest::EMPTY);
        let text = String::from_utf8(spec.canonical()).unwrap();
        assert_eq!(
            text,
            format!(
                concat!(
                    r#"{{"args":[],"clock":"2026-01-01T00:00:00Z","entry":"_start","env":{{}},"files":{{}},"#,
                    r#""limits":{{"file_bytes":67108864,"file_count":4096,"fuel":null,"memory_bytes":268435456,"#,
                    r#""output_bytes":16777216}},"module":"{0}","profile":"det-1","seed":0,"stdin":"{0}"}}"#
                ),
                Digest::EMPTY
            )
        );
        assert_eq!(serde_json::from_str::<RunSpec>(&text).unwrap(), spec);
    }

    proptest::proptest! {
        #[test]
        fn every_canonical_form_is_that_of_rfc_8785(
            args in proptest::collection::vec(".*", 0..3),
            env in proptest::collection::btree_map("\\PC{0,3}|[\u{0}-\u{7f}\u{d000}-\u{10ffff}]{1,3}", ".*", 0..6),
            paths in proptest::collection::btree_set("/[a-z\u{1}\u{d7f0}-\u{10ffff}]{1,3}", 0..4),
            seed in 0..=INTEGER_MAX,
            fuel in proptest::option::of(0..=INTEGER_MAX),
            second in -377_705_023_201_i64..253_402_207_200,
        ) {
            let mut spec = RunSpec::new(Digest::of(b"module"));
            let files = paths.iter().filter_map(|path| path.parse().ok());
            spec.files = files.map(|path| (path, FileInput::Tree(Digest::EMPTY))).collect();
            (spec.args, spec.env, spec.seed, spec.limits.fuel) = (args, env, seed, fuel);
            spec.clock = jiff::Timestamp::from_second(second).unwrap();
            proptest::prop_assert_eq!(spec.canonical(), canonical_json(&spec));
            proptest::prop_assert_eq!(serde_json::from_slice::<RunSpec>(&spec.canonical()).unwrap(), spec);
        }
    }

    #[test]
    fn a_field_that_is_not_known_is_refused() {
        let text = String::from_utf8(RunSpec::new(Digest::EMPTY).canonical()).unwrap();
        assert!(serde_json::from_str::<RunSpec>(&text).is_ok());
        for (from, to) in
            [(r#"{"args""#, r#"{"new":1,"args""#), (r#"{"file_bytes""#, r#"{"new":1,"file_bytes""#)]
        {
            assert!(serde_json::from_str::<RunSpec>(&text.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn profiles_are_written_as_they_are_named() {
        for profile in Profile::ALL {
            assert_eq!(serde_json::to_value(profile).unwrap(), profile.name());
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        assert!("det-2".parse::<Profile>().is_err());
    }

    #[test]
    fn guest_paths_are_absolute_and_plain() {
        assert!("/data/a.csv".parse::<GuestPath>().unwrap().is_below("/data"));
        assert!(!"/database".parse::<GuestPath>().unwrap().is_below("/data"));
        for wrong in ["", "/", "a", "/a/", "//a", "/a/../b", "/./a", "/a\0"] {
            assert!(wrong.parse::<GuestPath>().is_err(), "{wrong}");
        }
    }
}
