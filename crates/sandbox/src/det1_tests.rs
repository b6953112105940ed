//! Profile `det-1`, executed: each row of the table in `engine.rs` and each kind of outcome.

use super::testing::{SANDBOX, execute, file, invocation, load, outcome, returned};
use super::{Sandbox, SandboxError, Variant, compile};
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::Limits;

const PAGE: u64 = 1 << 16;

fn with_memory(bytes: u64) -> Limits {
    Limits { memory_bytes: bytes, ..Limits::default() }
}

fn with_fuel(fuel: u64) -> Limits {
    Limits { fuel: Some(fuel), ..Limits::default() }
}

fn trapped(trap: Trap) -> Outcome {
    Outcome::Trapped { trap }
}

#[test]
fn numbers_go_in_and_come_out() {
    let text = r#"(module
        (func (export "fib") (param $n i32) (result i64) (local $a i64) (local $b i64)
            (local.set $b (i64.const 1))
            (block $done (loop $again
                (br_if $done (i32.eqz (local.get $n)))
                (local.get $b)
                (local.set $b (i64.add (local.get $a) (local.get $b)))
                (local.set $a)
                (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                (br $again)))
            (local.get $a))
        (func (export "all") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
            (local.get 3) (local.get 2) (local.get 1) (local.get 0)))"#;
    assert_eq!(outcome(text, "fib", &["90"]), returned(&["2880067194370816120"]));
    assert_eq!(
        outcome(text, "all", &["-1", "0x10", "0.1", "-nan:0x1"]),
        returned(&["-nan:0x1", "0.1", "16", "-1"])
    );
}

#[test]
fn entries_and_arguments_that_do_not_fit_are_no_outcome() {
    let text = r#"(module (memory (export "memory") 1)
        (func (export "f") (param i32))
        (func (export "v") (result v128) (v128.const i64x2 0 0))
        (func (export "r") (param funcref)))"#;
    for (entry, args) in [
        ("absent", &[][..]),
        ("memory", &[]),
        ("f", &[]),
        ("f", &["1", "2"]),
        ("f", &["1.5"]),
        ("v", &[]),
        ("r", &["0"]),
    ] {
        let result = execute(text, entry, args, Limits::default());
        assert!(matches!(result, Err(SandboxError::Entry(_))), "{entry} {args:?}");
    }
}

#[test]
fn nan_bits_are_the_same_on_every_sandbox() {
    let text = r#"(module (func (export "f") (param f64 f64) (result f64 f32 f64)
        (f64.add (local.get 0) (local.get 1))
        (f32.demote_f64 (local.get 0))
        (f64.mul (f64.sqrt (local.get 1)) (local.get 0))))"#;
    let artifact = compile(&wat::parse_str(text).unwrap(), Variant::Plain).unwrap();
    let other = Sandbox::new().unwrap();
    let mut answers = std::collections::BTreeSet::new();
    for sandbox in [&*SANDBOX, &other, &*SANDBOX] {
        let loaded = sandbox.load_file(&file(&artifact), Variant::Plain).unwrap();
        let call = invocation("f", &["nan:0x123456789", "-1"], Limits::default());
        answers.insert(format!("{:?}", sandbox.execute(&loaded, call, None).unwrap()));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers.first().unwrap().contains("nan:0x"), "{answers:?}");
}

#[test]
fn float_edges_are_those_of_ieee_754() {
    let text = r#"(module (func (export "f") (result f64 f64 f64 f32 f64 i32)
        (f64.min (f64.const 0) (f64.const -0))
        (f64.nearest (f64.const 2.5))
        (f64.div (f64.const -1) (f64.const 0))
        (f32.mul (f32.const 1e-38) (f32.const 1e-7))
        (f64.copysign (f64.const 3) (f64.const -0))
        (i32.trunc_sat_f64_s (f64.const 1e10))))"#;
    assert_eq!(outcome(text, "f", &[]), returned(&["-0.0", "2.0", "-inf", "1e-45", "-3.0", "2147483647"]));
}

#[test]
fn relaxed_simd_has_one_result() {
    // On this machine the native lowerings give other bits: a fused multiply-add rounds once.
    let text = r#"(module (func (export "f") (result i32 i64)
        (i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 nan 0 0 0)))
        (i64x2.extract_lane 0 (f64x2.relaxed_madd
            (v128.const f64x2 1.0000000000000002 0)
            (v128.const f64x2 1.0000000000000002 0)
            (v128.const f64x2 -1.0000000000000004 0)))))"#;
    let fused = 1.000_000_000_000_000_2_f64.mul_add(1.000_000_000_000_000_2, -1.000_000_000_000_000_4);
    assert_eq!(outcome(text, "f", &[]), returned(&["0", &fused.to_bits().to_string()]));
}

#[test]
fn growth_stops_exactly_at_the_limit() {
    let text = r#"(module (memory 1) (func (export "f") (param i32) (result i32 i32)
        (memory.grow (local.get 0)) (memory.size)))"#;
    let grow = |pages: &str| execute(text, "f", &[pages], with_memory(4 * PAGE)).unwrap().outcome;
    assert_eq!(grow("3"), returned(&["1", "4"]));
    assert_eq!(grow("4"), returned(&["-1", "1"]));
    assert_eq!(grow("65535"), returned(&["-1", "1"]));
    assert_eq!(grow("-1"), returned(&["-1", "1"]));
}

#[test]
fn memories_and_tables_share_one_limit() {
    let text = r#"(module (memory $a 1) (memory $b 1) (table $t 0 funcref)
        (func (export "f") (param i32 i32 i32) (result i32 i32 i32)
            (memory.grow $a (local.get 0))
            (memory.grow $b (local.get 1))
            (table.grow $t (ref.null func) (local.get 2))))"#;
    let grow = |args: &[&str]| execute(text, "f", args, with_memory(4 * PAGE)).unwrap().outcome;
    assert_eq!(grow(&["1", "1", "0"]), returned(&["1", "1", "0"]));
    assert_eq!(grow(&["2", "1", "0"]), returned(&["1", "-1", "0"]));
    assert_eq!(grow(&["1", "0", "8192"]), returned(&["1", "1", "0"]));
    assert_eq!(grow(&["1", "0", "8193"]), returned(&["1", "1", "-1"]));
}

#[test]
fn a_minimum_above_the_limit_is_an_outcome() {
    let one = r#"(module (memory 5) (func (export "f")))"#;
    let two = r#"(module (memory 3) (memory 2) (func (export "f")))"#;
    let table = r#"(module (memory 4) (table 1 funcref) (func (export "f")))"#;
    let huge = r#"(module (memory 65536) (func (export "f")))"#;
    for text in [one, two, table, huge] {
        let result = execute(text, "f", &[], with_memory(4 * PAGE)).unwrap();
        assert_eq!(result.outcome, trapped(Trap::Instantiation), "{text}");
    }
    assert_eq!(execute(two, "f", &[], with_memory(5 * PAGE)).unwrap().outcome, returned(&[]));
    assert_eq!(execute(huge, "f", &[], with_memory(4 << 30)).unwrap().outcome, returned(&[]));
}

#[test]
fn tables_grow_up_to_the_profiles_bound() {
    let text = r#"(module (table 1 funcref) (func (export "f") (param i32) (result i32)
        (table.grow (ref.null func) (local.get 0))))"#;
    assert_eq!(outcome(text, "f", &["524287"]), returned(&["1"]));
    assert_eq!(outcome(text, "f", &["524288"]), returned(&["-1"]));
}

#[test]
fn endless_recursion_overflows_at_the_same_depth() {
    // The module cannot keep a count beyond its own end, so it stores the depth where the next call of `depth` in the
    // same instance would see it; a trap ends the attempt, hence the depth is found by search.
    let text = r#"(module (func $f (export "f") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
            (else (i32.const 0)))))"#;
    assert_eq!(outcome(text, "f", &["-1"]), trapped(Trap::StackOverflow));
    let deepest = |sandbox: &Sandbox| {
        let loaded = load(sandbox, text, Variant::Plain);
        let (mut fits, mut overflows) = (0_u32, 1 << 20);
        while overflows - fits > 1 {
            let depth = u32::midpoint(fits, overflows);
            let call = invocation("f", &[&depth.to_string()], Limits::default());
            match sandbox.execute(&loaded, call, None).unwrap().outcome {
                Outcome::Returned { .. } => fits = depth,
                _ => overflows = depth,
            }
        }
        fits
    };
    let depth = deepest(&SANDBOX);
    let elsewhere = std::thread::spawn(move || deepest(&Sandbox::new().unwrap())).join().unwrap();
    assert!(depth > 1_000, "{depth}");
    assert_eq!(depth, elsewhere);
}

#[test]
fn each_trap_has_its_kind() {
    let text = r#"(module (memory 1) (table 2 funcref)
        (type $none (func)) (elem (table 0) (i32.const 0) func $one)
        (func $one (param i32))
        (func (export "unreachable") unreachable)
        (func (export "load") (drop (i32.load (i32.const 65533))))
        (func (export "table") (drop (table.get (i32.const 2))))
        (func (export "null") (call_indirect (type $none) (i32.const 1)))
        (func (export "signature") (call_indirect (type $none) (i32.const 0)))
        (func (export "outside") (call_indirect (type $none) (i32.const 2)))
        (func (export "overflow") (drop (i32.div_s (i32.const 0x80000000) (i32.const -1))))
        (func (export "zero") (param i32) (drop (i32.rem_u (i32.const 1) (local.get 0))))
        (func (export "convert") (drop (i32.trunc_f32_s (f32.const nan))))
        (func (export "too_large") (drop (i32.trunc_f64_s (f64.const 1e10))))
        (func (export "fill") (memory.fill (i32.const 65535) (i32.const 0) (i32.const 2))))"#;
    for (entry, trap) in [
        ("unreachable", Trap::Unreachable),
        ("load", Trap::MemoryOutOfBounds),
        ("fill", Trap::MemoryOutOfBounds),
        ("table", Trap::TableOutOfBounds),
        ("outside", Trap::TableOutOfBounds),
        ("null", Trap::IndirectCallToNull),
        ("signature", Trap::BadSignature),
        ("overflow", Trap::IntegerOverflow),
        ("convert", Trap::BadConversionToInteger),
        ("too_large", Trap::IntegerOverflow),
    ] {
        assert_eq!(outcome(text, entry, &[]), trapped(trap), "{entry}");
    }
    assert_eq!(outcome(text, "zero", &["0"]), trapped(Trap::IntegerDivisionByZero));
}

#[test]
fn start_functions_trap_loop_and_initialise() {
    let traps = r#"(module (func $s unreachable) (start $s) (func (export "f")))"#;
    assert_eq!(outcome(traps, "f", &[]), trapped(Trap::Unreachable));
    let segment = r#"(module (memory 1) (data (i32.const 65536) "x") (func (export "f")))"#;
    assert_eq!(outcome(segment, "f", &[]), trapped(Trap::MemoryOutOfBounds));
    let element = r#"(module (table 1 funcref) (elem (i32.const 1) func $f) (func $f (export "f")))"#;
    assert_eq!(outcome(element, "f", &[]), trapped(Trap::TableOutOfBounds));
    let loops = r#"(module (func $s (loop $l (br $l))) (start $s) (func (export "f")))"#;
    assert_eq!(execute(loops, "f", &[], with_fuel(10_000)).unwrap().outcome, Outcome::OutOfFuel);
    let grows = r#"(module (memory 1) (func $s (drop (memory.grow (i32.const 9)))) (start $s)
        (func (export "f") (result i32) (memory.size)))"#;
    assert_eq!(execute(grows, "f", &[], with_memory(4 * PAGE)).unwrap().outcome, returned(&["1"]));
    assert_eq!(execute(grows, "f", &[], with_memory(10 * PAGE)).unwrap().outcome, returned(&["10"]));
}

#[test]
fn a_reactor_is_initialised_once_before_its_export() {
    let text = r#"(module (global $count (mut i32) (i32.const 0))
        (func $inc (export "_initialize") (global.set $count (i32.add (global.get $count) (i32.const 1))))
        (func (export "count") (result i32) (global.get $count)))"#;
    assert_eq!(outcome(text, "count", &[]), returned(&["1"]));
    assert_eq!(outcome(text, "_initialize", &[]), returned(&[]));
}

#[test]
fn a_command_that_returns_exits_with_0() {
    let result = execute(r#"(module (func (export "_start")))"#, "_start", &["a", "b"], Limits::default());
    assert_eq!(result.unwrap().outcome, Outcome::Exited { code: 0 });
}

#[test]
fn fuel_is_exact() {
    let text = r#"(module (memory 1) (data (i32.const 0) "data that costs nothing in an image")
        (func (export "f") (param i32)
            (loop $l
                (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                (br_if $l (local.get 0)))))"#;
    const BORDER: u64 = 596;
    let run = |count: &str, fuel| execute(text, "f", &[count], with_fuel(fuel)).unwrap();
    let used = run("100", 100_000).fuel_used.unwrap();
    // Six instructions per turn of the loop, and one for entering.
    assert_eq!(run("200", 100_000).fuel_used.unwrap() - used, 600);
    assert_eq!(run("100", used).fuel_used, Some(used));
    // The counter is looked at where a function begins and at each turn of a loop: this is the exact border.
    let last = run("100", BORDER);
    assert_eq!((last.outcome, last.fuel_used), (returned(&[]), Some(BORDER)));
    let short = run("100", BORDER - 1);
    assert_eq!((short.outcome, short.fuel_used), (Outcome::OutOfFuel, None));
    assert_eq!(used, 601, "a changed cost table would change results inside a profile");
}

#[test]
fn an_endless_loop_ends_with_its_fuel() {
    let text = r#"(module (func (export "f") (loop $l (br $l))))"#;
    for fuel in [0, 1, 1_000_000] {
        let result = execute(text, "f", &[], with_fuel(fuel)).unwrap();
        assert_eq!((result.outcome, result.fuel_used), (Outcome::OutOfFuel, None));
    }
}

#[test]
fn fuel_used_is_left_out_after_a_trap() {
    let result = execute(r#"(module (func (export "f") unreachable))"#, "f", &[], with_fuel(1_000)).unwrap();
    assert_eq!((result.outcome, result.fuel_used), (trapped(Trap::Unreachable), None));
}

#[test]
fn an_artifact_runs_only_under_its_own_variant() {
    let text = r#"(module (func (export "f")))"#;
    let plain = load(&SANDBOX, text, Variant::Plain);
    let result = SANDBOX.execute(&plain, invocation("f", &[], with_fuel(1)), None);
    assert!(matches!(result, Err(SandboxError::Artifact(_))));
    let artifact = compile(&wat::parse_str(text).unwrap(), Variant::Fueled).unwrap();
    let loaded = SANDBOX.load_file(&file(&artifact), Variant::Plain);
    assert!(matches!(loaded, Err(SandboxError::Artifact(_))));
}

#[test]
fn bytes_that_are_no_artifact_do_not_load() {
    let artifact = compile(b"\0asm\x01\0\0\0", Variant::Plain).unwrap();
    for wrong in [&b""[..], b"\0asm\x01\0\0\0", &artifact[..artifact.len() / 2]] {
        let loaded = SANDBOX.load_file(&file(wrong), Variant::Plain);
        assert!(matches!(loaded, Err(SandboxError::Artifact(_))));
    }
}

#[test]
fn proposals_outside_the_profile_are_refused() {
    for text in [
        "(module (memory 1 1 shared))",
        "(module (memory i64 1))",
        "(module (type (struct (field i32))))",
        "(module (tag))",
        "(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))",
        "(module (memory 1 (pagesize 1)))",
        "(module (func (param externref)))",
        "(module (func (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0))))",
    ] {
        assert!(compile(&wat::parse_str(text).unwrap(), Variant::Plain).is_err(), "{text}");
    }
}

#[test]
fn nothing_of_an_attempt_is_left_for_the_next() {
    let text = r#"(module (memory 2) (table 2 funcref) (global $g (mut i32) (i32.const 7))
        (data (i32.const 0) "\05") (elem declare func $f)
        (func $f (export "f") (result i32 i32 i32 i32 i32)
            (i32.load8_u (i32.const 0)) (i32.load (i32.const 70000)) (global.get $g)
            (ref.is_null (table.get (i32.const 1))) (memory.size)
            (i32.store8 (i32.const 0) (i32.const 99))
            (i32.store (i32.const 70000) (i32.const 99))
            (global.set $g (i32.const 99))
            (table.set (i32.const 1) (ref.func $f))
            (drop (memory.grow (i32.const 3)))))"#;
    let loaded = load(&SANDBOX, text, Variant::Plain);
    for _ in 0..100 {
        let result = SANDBOX.execute(&loaded, invocation("f", &[], Limits::default()), None).unwrap();
        assert_eq!(result.outcome, returned(&["5", "0", "7", "1", "2"]));
    }
}

#[test]
fn more_modules_than_warm_slots_still_run() {
    let modules: Vec<_> = (0..80)
        .map(|n| {
            let text = format!(
                r#"(module (memory 1) (data (i32.const 0) "\{n:02x}") (func (export "f") (result i32)
                    (i32.load8_u (i32.const 0)) (i32.store (i32.const 8) (i32.const 1))))"#
            );
            load(&SANDBOX, &text, Variant::Plain)
        })
        .collect();
    for _ in 0..2 {
        for (n, loaded) in modules.iter().enumerate() {
            let result = SANDBOX.execute(loaded, invocation("f", &[], Limits::default()), None).unwrap();
            assert_eq!(result.outcome, returned(&[&n.to_string()]));
        }
    }
}

#[test]
fn the_most_memories_and_tables_that_admission_takes_fit() {
    let text = format!(
        r#"(module {} {} (func (export "f")))"#,
        "(memory 1)".repeat(super::MEMORIES_MAX as usize),
        "(table 1 funcref)".repeat(super::TABLES_MAX as usize)
    );
    assert_eq!(outcome(&text, "f", &[]), returned(&[]));
}

#[test]
fn compiling_is_reproducible() {
    let wasm =
        wat::parse_str(r#"(module (memory 1) (func (export "f") (param f64) (result f64) (local.get 0)))"#)
            .unwrap();
    for variant in [Variant::Plain, Variant::Fueled] {
        assert_eq!(compile(&wasm, variant).unwrap(), compile(&wasm, variant).unwrap());
    }
}

#[test]
fn a_growth_that_the_host_refuses_is_no_answer() {
    let name = "det1_tests::a_growth_that_the_host_refuses_is_no_answer";
    let status = jail::testing::in_its_own_process(name, || {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let text = r#"(module (memory 1) (func (export "f") (param i32) (result i32)
            (memory.grow (local.get 0))))"#;
        let loaded = load(&SANDBOX, text, Variant::Plain);
        let grow = |pages| SANDBOX.execute(&loaded, invocation("f", &[pages], with_memory(1 << 30)), None);
        assert_eq!(grow("16").unwrap().outcome, returned(&["1"]));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let data = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
        let kib: u64 = data.trim().trim_end_matches(" kB").parse().unwrap();
        let bound = Some((kib << 10) + (64 << 20));
        setrlimit(Resource::Data, Rlimit { current: bound, maximum: bound }).unwrap();
        let refused = grow("4096");
        assert!(matches!(refused, Err(SandboxError::Capacity(_))), "{refused:?}");
        assert_eq!(grow("16").unwrap().outcome, returned(&["1"]), "the next attempt is not harmed");
        assert_eq!(grow("65536").unwrap().outcome, returned(&["-1"]), "beyond the limit it is the guest's");
    });
    assert!(status.success());
}
