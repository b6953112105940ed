//! Profile `det-1-portable`: the same answers from machine code for other CPUs, and from other architectures.
//!
//! `make portable` executes this file for AArch64 too.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::compile::compile_for;
use super::corpus::{self, Case};
use super::testing::file;
use super::{CompileError, CpuLevel, Execution, Invocation, Mount, Sandbox, Variant, compile};
use vocabulary::digest::Digest;
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::{FileInput, Limits, Profile};

/// Levels that this machine can execute.
fn levels() -> Vec<CpuLevel> {
    let all = [CpuLevel::Baseline, CpuLevel::X86V2, CpuLevel::X86V3];
    all.into_iter().filter(|level| *level <= CpuLevel::of_this_machine()).collect()
}

fn at(level: CpuLevel) -> fn(Variant) -> CpuLevel {
    match level {
        CpuLevel::Baseline => |_| CpuLevel::Baseline,
        CpuLevel::X86V2 => |_| CpuLevel::X86V2,
        CpuLevel::X86V3 => |_| CpuLevel::X86V3,
    }
}

fn input(digest: Digest) -> Bytes {
    Bytes::from_static(corpus::input(digest).unwrap())
}

/// The case as a runner is handed it.
fn invocation(case: &Case) -> Invocation {
    let spec = case.spec.clone();
    let mount = |(path, input_of): (vocabulary::spec::GuestPath, FileInput)| {
        (path, Mount::File(input(input_of.digest())))
    };
    Invocation {
        entry: spec.entry,
        args: spec.args,
        env: spec.env.into_iter().collect(),
        stdin: input(spec.stdin),
        mounts: spec.files.into_iter().map(mount).collect(),
        clock_ns: u64::try_from(spec.clock.as_nanosecond()).unwrap(),
        seed: spec.seed,
        limits: spec.limits,
    }
}

/// Every case of the corpus with the machine code of a level.
fn answers(cases: &[Case], level: CpuLevel) -> BTreeMap<&'static str, Execution> {
    let sandbox = Sandbox::at(at(level));
    let mut loaded = BTreeMap::new();
    let answer = |case: &Case| {
        let variant = Variant::of(case.spec.profile, &case.spec.limits);
        let module = loaded.entry(variant).or_insert_with(|| {
            let artifact = compile_for(corpus::MODULE, variant, level).unwrap();
            sandbox.load_file(&file(&artifact), variant).unwrap()
        });
        (case.name, sandbox.execute(module, invocation(case), None).unwrap())
    };
    cases.iter().map(answer).collect()
}

/// Result digests of the cases that promise to be equal everywhere.
fn digests(level: CpuLevel) -> Vec<(&'static str, Digest)> {
    let cases = corpus::cases(Profile::Det1Portable);
    let all = answers(&cases, level);
    let promised = cases.iter().filter(|case| !case.is_stack);
    promised.map(|case| (case.name, Digest::of(&all[case.name].manifest().canonical()))).collect()
}

#[test]
fn portable_the_module_is_what_its_source_says() {
    let made = wat::parse_str(include_str!("corpus/corpus.wat")).unwrap();
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/corpus/corpus.wasm");
        std::fs::write(path, &made).unwrap();
        return;
    }
    assert!(
        made == corpus::MODULE,
        "corpus.wat was changed; run\n  UPDATE_CORPUS=1 cargo test --workspace --lib portable_the_module\nand commit corpus.wasm"
    );
}

#[test]
fn portable_answers_are_the_ones_that_were_written_down() {
    let found = digests(CpuLevel::Baseline);
    let short: Vec<(&str, String)> =
        found.iter().map(|(name, digest)| (*name, digest.hex()[..32].to_owned())).collect();
    println!("{} answers of {} with machine code for its base", found.len(), std::env::consts::ARCH);
    for (name, digest) in &short {
        println!("{name:<16}{digest}");
    }
    let known: Vec<(&str, String)> =
        corpus::PORTABLE.iter().map(|(name, digest)| (*name, (*digest).to_owned())).collect();
    assert_eq!(short, known);
    assert!(corpus::strange(&found).is_empty());
    let wrong = vec![("f64", Digest::EMPTY), ("f32", found[1].1), ("new", Digest::EMPTY)];
    assert_eq!(corpus::strange(&wrong), ["f64"]);
}

#[test]
fn portable_answers_do_not_depend_on_the_cpu() {
    let base = digests(CpuLevel::Baseline);
    for level in levels() {
        assert_eq!(digests(level), base, "{level:?}");
    }
}

#[test]
fn portable_answers_are_real_answers() {
    let all = answers(&corpus::cases(Profile::Det1Portable), CpuLevel::Baseline);
    let outcome = |name: &str| all[name].outcome.clone();
    let trapped = |trap| Outcome::Trapped { trap };
    for (name, trap) in [
        ("endless", Trap::StackOverflow),
        ("depth", Trap::StackOverflow),
        ("divides", Trap::IntegerDivisionByZero),
        ("overflows", Trap::IntegerOverflow),
        ("truncates", Trap::BadConversionToInteger),
        ("strays", Trap::MemoryOutOfBounds),
        ("stops", Trap::Unreachable),
    ] {
        assert_eq!(outcome(name), trapped(trap), "{name}");
    }
    assert_eq!(outcome("exits"), Outcome::Exited { code: 42 });
    let Outcome::Returned { values } = outcome("nan-signalling") else {
        panic!("{:?}", outcome("nan-signalling"))
    };
    assert_eq!(values[..5], ["nan:0x8000000000000"; 5], "one bit pattern for all of them");
    let Outcome::Returned { values } = outcome("grow") else { panic!("{:?}", outcome("grow")) };
    assert_eq!(values, ["31", "31", "8192", "8129"], "up to the limit, and not beyond");
    let host = &all["host"];
    assert!(matches!(host.outcome, Outcome::Returned { .. }), "{:?}", host.outcome);
    assert_eq!(host.stdout.last(), Some(&8), "the last word is EBADF");
    for told in [&b"A=1"[..], b"golden input", b"what was given in a file"] {
        assert!(host.stdout.windows(told.len()).any(|piece| piece == told), "{:?}", host.stdout);
    }
    assert_eq!(host.files.len(), 1);
    assert_eq!((host.files[0].0.as_str(), host.files[0].1.len()), ("/out/answer", 256));
}

#[test]
fn portable_fuel_is_the_same_for_every_cpu() {
    let case = |fuel, case: Case| {
        let limits = Limits { fuel: Some(fuel), ..case.spec.limits };
        Case { spec: vocabulary::spec::RunSpec { limits, ..case.spec }, ..case }
    };
    let all = corpus::cases(Profile::Det1Portable);
    let enough: Vec<Case> =
        all.iter().filter(|it| !it.is_stack).cloned().map(|it| case(1 << 40, it)).collect();
    let short: Vec<Case> = all.iter().take(7).cloned().map(|it| case(10_000, it)).collect();
    let used = |execution: &Execution| (execution.outcome.clone(), execution.fuel_used);
    let mut seen = Vec::new();
    for level in levels() {
        let (enough, short) = (answers(&enough, level), answers(&short, level));
        assert!(short.values().all(|it| it.outcome == Outcome::OutOfFuel), "{short:?}");
        // what is exact: of guests that ended by themselves
        seen.push(enough.iter().map(|(name, it)| (*name, used(it))).collect::<Vec<_>>());
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    let f64s = seen[0].iter().find(|(name, _)| *name == "f64").unwrap();
    assert_eq!(f64s.1.1, Some(F64_FUEL), "equal on every architecture");
}

/// Fuel that the case `f64` uses.
const F64_FUEL: u64 = 442_815;

#[test]
fn portable_stacks_are_as_deep_as_their_machine_code_makes_them() {
    let depth = |profile, level| {
        let cases = corpus::cases(profile);
        let cases: Vec<Case> = cases.into_iter().filter(|case| case.is_stack).collect();
        answers(&cases, level)["depth"].stdout.len()
    };
    for profile in Profile::ALL {
        let first = depth(profile, CpuLevel::Baseline);
        assert!((1_000..100_000).contains(&first), "{first}");
        assert_eq!(depth(profile, CpuLevel::Baseline), first, "exact for one machine code");
        println!("{profile} on {}: {first} calls", std::env::consts::ARCH);
    }
}

#[test]
fn portable_code_has_no_relaxed_instructions() {
    // without FMA in the CPU the result is a NaN with the payload that was given: the engine's gap, see `features`
    let text = r#"(module (func (export "f") (result i64) (i64x2.extract_lane 0 (f64x2.relaxed_madd
        (v128.const i64x2 0x7ff0000000000001 0) (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))"#;
    let wasm = wat::parse_str(text).unwrap();
    assert!(compile(&wasm, Variant::Plain).is_ok());
    let refused = compile(&wasm, Variant::Portable);
    let Err(CompileError::Unsupported(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("relaxed"), "{why}");
}

#[test]
fn portable_is_what_the_other_profile_is_not() {
    // otherwise the proof above would prove nothing: these depend on the machine code
    let native = answers(&corpus::cases(Profile::Det1), CpuLevel::Baseline);
    let portable = answers(&corpus::cases(Profile::Det1Portable), CpuLevel::Baseline);
    assert_ne!(native["nan-quiet"].outcome, portable["nan-quiet"].outcome);
    assert_eq!(native["integers"].outcome, portable["integers"].outcome);
}
