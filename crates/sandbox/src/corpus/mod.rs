//! The golden corpus: a small module whose answers say what kind of machine this is.
//!
//! Every worker executes it before it joins, as it executes any run (agent, jailed runner, this sandbox), and its class holds
//! the digest of what came out ([`super::Answers`]). Machines that compute the same answer alike; one whose
//! engine, host functions or processor behave otherwise lands in another class, where its votes are compared with nobody's.
//!
//! The source is `corpus.wat`; `corpus.wasm` is what the public text format makes of it, and a test compares them. Changing
//! a case changes every class, as a new build does.

use std::collections::BTreeMap;

use vocabulary::digest::Digest;
use vocabulary::spec::{FileInput, Limits, Profile, RunSpec, canonical_json};

/// The module.
pub const MODULE: &[u8] = include_bytes!("corpus.wasm");
/// Its standard input, and the file that it reads.
const STDIN: &[u8] = b"golden input\n";
const DATA: &[u8] = b"what was given in a file\n";
/// Where that file is.
const DATA_PATH: &str = "/in/data";
/// Rounds of the cases that draw numbers.
const ROUNDS: &str = "1000";
/// Frames of the case that calls deeply; a stack holds several times as many on every architecture.
const DEEP: &str = "2000";
/// Memory of the guest: a few growths away from the minimum.
const MEMORY_BYTES: u64 = 2 << 20;
/// Seed of the host's randomness.
const SEED: u64 = 48;

/// One execution of the corpus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// What it is called in reports.
    pub name: &'static str,
    /// What is executed.
    pub spec: RunSpec,
    /// Whether its answer depends on how deep the machine code's stack is.
    pub is_stack: bool,
}

/// Name, entry and arguments of each case.
const CASES: &[(&str, &str, &[&str])] = &[
    ("f64", "f64", &["1", ROUNDS]),
    ("f32", "f32", &["2", ROUNDS]),
    ("convert", "convert", &["3", ROUNDS]),
    ("integers", "integers", &["4", ROUNDS]),
    ("f64x2", "f64x2", &["5", ROUNDS]),
    ("f32x4", "f32x4", &["6", ROUNDS]),
    ("vectors", "vectors", &["7", ROUNDS]),
    ("nan-quiet", "nan", &["nan:0x8dead0000beef", "nan:0x40beef", "0"]),
    ("nan-negative", "nan", &["-nan:0x8000000000001", "-nan:0x400001", "-0"]),
    ("nan-signalling", "nan", &["nan:0x1", "-nan:0x2bcdef", "0"]),
    ("deep", "deep", &[DEEP, "1.5", "9"]),
    ("endless", "endless", &["0"]),
    ("depth", STACK_ENTRY, &["0"]),
    ("grow", "grow", &[]),
    ("bulk", "bulk", &["10"]),
    ("divides", "divides", &["0"]),
    ("overflows", "overflows", &["-1"]),
    ("truncates", "truncates", &["nan"]),
    ("strays", "strays", &["65530"]),
    ("calls", "calls", &["0"]),
    ("stops", "stops", &[]),
    ("exits", "exits", &["42"]),
    ("host", "host", &[]),
];
/// The entry whose output is as long as the stack is deep.
const STACK_ENTRY: &str = "depth";

/// The cases under a profile, in the order in which their answers are folded.
pub fn cases(profile: Profile) -> Vec<Case> {
    let case = |(name, entry, args): &(&'static str, &str, &[&str])| Case {
        name,
        spec: spec(profile, entry, args),
        is_stack: *entry == STACK_ENTRY,
    };
    CASES.iter().map(case).collect()
}

/// The spec of a call of the corpus.
fn spec(profile: Profile, entry: &str, args: &[&str]) -> RunSpec {
    let path = DATA_PATH.parse().expect("it is absolute and plain");
    RunSpec {
        entry: entry.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: BTreeMap::from([("A".to_owned(), "1".to_owned()), ("CORPUS".to_owned(), "golden".to_owned())]),
        stdin: Digest::of(STDIN),
        files: BTreeMap::from([(path, FileInput::Blob(Digest::of(DATA)))]),
        profile,
        seed: SEED,
        limits: Limits { memory_bytes: MEMORY_BYTES, ..Limits::default() },
        ..RunSpec::new(Digest::of(MODULE))
    }
}

/// An input of the cases: the module, what they read.
pub fn input(digest: Digest) -> Option<&'static [u8]> {
    [MODULE, STDIN, DATA].into_iter().find(|bytes| Digest::of(bytes) == digest)
}

/// Digest of answers: names and result digests, in order.
pub fn fold(answers: &[(&str, Digest)]) -> Digest {
    Digest::of(&canonical_json(&answers))
}

/// What each case answers under `det-1-portable`, on every machine: the first half of its result digest. Checked on x86-64 by
/// `portable_tests`, on AArch64 by `make portable`. Cases about the stack have no such answer.
pub const PORTABLE: &[(&str, &str)] = &[
    ("f64", "096ef92242c72b00938ca7e7c61931e0"),
    ("f32", "3b4d68305d428f15023d6ed6ef62d6f4"),
    ("convert", "0f8e86067ca264969991b5d1448fbc56"),
    ("integers", "1062a86a54d00f80e7842e9dbcd3d370"),
    ("f64x2", "ce0c2bcb4488fff37c8e668778a6979b"),
    ("f32x4", "4e1701dff0b15a7f30ccd3cac408a591"),
    ("vectors", "522c48fd75d779bef6b3c0e8762a3507"),
    ("nan-quiet", "b3fd5ecd91555fa8cef3a9fc261190c8"),
    ("nan-negative", "b3fd5ecd91555fa8cef3a9fc261190c8"),
    ("nan-signalling", "b3fd5ecd91555fa8cef3a9fc261190c8"),
    ("deep", "dc2d827ce132e97c249949d003b1e0f5"),
    ("endless", "059f8d639c6587c84dc4edb158505eb9"),
    ("grow", "9e3fae3d8463ffbd77cb33ffbe9463d5"),
    ("bulk", "13fae452929e848a93b671925549489b"),
    ("divides", "c2792971c85a0daa588813b92e6edb0b"),
    ("overflows", "00ea9504d9e5656bae00d208700b905d"),
    ("truncates", "b3d6a1dc40aa0eb80b9be50eb554732b"),
    ("strays", "e217dfd6785ee11beedc7b14f7d1a0df"),
    ("calls", "05a0e36075a95eb51d69b795b159deeb"),
    ("stops", "cf8c45bc43f21717ac9728ec30540982"),
    ("exits", "0b2faf52977fc1a18f7726605463fcc7"),
    ("host", "898b0e92e554dd9f6e292d3d9bf83dcb"),
];

/// The cases whose answers under `det-1-portable` are not those that this build knows to be right.
pub fn strange<'a>(answers: &[(&'a str, Digest)]) -> Vec<&'a str> {
    let known: BTreeMap<&str, &str> = PORTABLE.iter().copied().collect();
    let is_strange = |(name, answer): &&(&str, Digest)| {
        known.get(name).is_some_and(|expected| !answer.hex().starts_with(expected))
    };
    answers.iter().filter(is_strange).map(|(name, _)| *name).collect()
}
