//! What the analysis tells and what it refuses.

use super::{Kind, Refusal, WasiLevel, check_entry, examine};

fn analyse(text: &str) -> Result<super::Analysis, Refusal> {
    examine(&wat::parse_str(text).unwrap())
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_module_is_described() {
    let analysis = analyse(
        r#"(module $calculator (memory (export "memory") 2 16) (memory 1) (table 3 9 funcref)
            (global (export "g") (mut i32) (i32.const 0))
            (func $start) (start $start)
            (func (export "add") (param i32 i64) (result f32 f64) (return_call 1 (local.get 0) (local.get 1)))
            (func (export "vector") (param v128) (result funcref) (ref.null func)))"#,
    )
    .unwrap();
    assert_eq!((analysis.kind, analysis.wasi), (Kind::Functions, WasiLevel::None));
    assert_eq!(analysis.name.as_deref(), Some("calculator"));
    assert_eq!((analysis.functions, analysis.has_start, analysis.verifiable), (3, true, true));
    let memories: Vec<_> = analysis.memories.iter().map(|size| (size.min, size.max)).collect();
    assert_eq!(memories, [(2, Some(16)), (1, None)]);
    assert_eq!((analysis.tables[0].min, analysis.tables[0].max), (3, Some(9)));
    assert_eq!(analysis.features, ["tail_call", "multi_memory"]);
    let exports: Vec<_> =
        analysis.exports.iter().map(|export| (export.name.as_str(), export.signature.as_str())).collect();
    assert_eq!(
        exports,
        [
            ("memory", "memory"),
            ("g", "global mut i32"),
            ("add", "(i32, i64) -> (f32, f64)"),
            ("vector", "(v128) -> (funcref)")
        ]
    );
    let json = serde_json::to_string(&analysis).unwrap();
    assert_eq!(serde_json::from_str::<super::Analysis>(&json).unwrap(), analysis);
}

#[test]
fn the_kind_follows_from_the_exports() {
    let kind = |text: &str| analyse(text).unwrap().kind;
    assert_eq!(kind(r#"(module (func (export "_start")))"#), Kind::Command);
    assert_eq!(kind(r#"(module (func (export "_initialize")))"#), Kind::Reactor);
    assert_eq!(kind(r#"(module (func (export "_start")) (func (export "_initialize")))"#), Kind::Command);
    assert_eq!(kind(r#"(module (memory (export "_start") 1))"#), Kind::Functions);
}

#[test]
fn an_initialize_that_cannot_be_called_without_arguments_is_refused() {
    for (shape, signature) in [("(param i32)", "(i32) -> ()"), ("(result i32) (i32.const 1)", "() -> (i32)")]
    {
        let refusal = analyse(&format!(r#"(module (func (export "_initialize") {shape}))"#)).unwrap_err();
        assert_eq!(refusal, Refusal::BadInitialize { signature: signature.to_owned() });
    }
    let memory = r#"(module (memory (export "_initialize") 1) (func (export "f")))"#;
    assert_eq!(analyse(memory).unwrap().kind, Kind::Functions);
    assert_eq!(super::testing::outcome(memory, "f", &[]), super::testing::returned(&[]));
}

#[test]
fn entries_are_checked_without_executing() {
    let analysis = analyse(
        r#"(module (func (export "_start")) (func (export "add") (param i32 f64) (result i32) (i32.const 0))
            (func (export "vector") (param v128)) (func (export "reference") (result funcref) (ref.null func)))"#,
    )
    .unwrap();
    assert_eq!(check_entry(&analysis, "_start", &strings(&["--any", "thing"])), Ok(()));
    assert_eq!(check_entry(&analysis, "add", &strings(&["-1", "1e3"])), Ok(()));
    for (entry, args) in [
        ("absent", &[][..]),
        ("add", &["1"]),
        ("add", &["1", "2", "3"]),
        ("add", &["1.5", "1"]),
        ("vector", &["0"]),
        ("reference", &[]),
    ] {
        assert!(check_entry(&analysis, entry, &strings(args)).is_err(), "{entry} {args:?}");
    }
}

#[test]
fn what_is_no_module_is_told_so() {
    assert_eq!(examine(b""), Err(Refusal::NotWasm));
    assert_eq!(examine(b"\x7fELF"), Err(Refusal::NotWasm));
    assert_eq!(examine(b"\0as"), Err(Refusal::NotWasm));
    assert_eq!(examine(b"\n (module (func))"), Err(Refusal::WasmText));
    assert_eq!(examine(b";; a comment\n(module)"), Err(Refusal::WasmText));
    assert_eq!(examine(b"\0asm\x0d\0\x01\0"), Err(Refusal::Component));
    assert_eq!(examine(&wat::parse_str("(component)").unwrap()), Err(Refusal::Component));
}

#[test]
fn every_truncation_of_a_module_is_refused_with_its_place() {
    let wasm = wat::parse_str(
        r#"(module (memory 1) (data (i32.const 0) "abc") (func (export "f") (result i32) (i32.const 7)))"#,
    )
    .unwrap();
    // Cut between two sections, a module may still be one; without its code or data it is not.
    let mut refused = 0;
    for end in 4..wasm.len() {
        match examine(&wasm[..end]) {
            Err(Refusal::Invalid { offset, .. }) => {
                assert!(offset <= end as u64 + 1, "{offset} of {end}");
                refused += 1;
            }
            other => assert!(other.is_ok(), "{end}: {other:?}"),
        }
    }
    assert!(refused > wasm.len() * 8 / 10, "{refused} of {}", wasm.len());
}

#[test]
fn code_that_does_not_type_check_is_invalid() {
    let wasm = wat::parse_str("(module (func (result i32)))").unwrap();
    assert!(matches!(examine(&wasm), Err(Refusal::Invalid { .. })));
}

#[test]
fn proposals_outside_the_profile_are_told_from_damage() {
    for text in [
        "(module (memory 1 1 shared))",
        "(module (memory i64 1))",
        "(module (type (struct (field i32))))",
        "(module (tag))",
        "(module (func (param externref)))",
        "(module (memory 1 (pagesize 1)))",
    ] {
        let refusal = analyse(text).unwrap_err();
        assert!(matches!(refusal, Refusal::UnsupportedFeature { .. }), "{text}: {refusal}");
    }
}

#[test]
fn imports_that_are_not_offered_are_listed() {
    let refusal = analyse(
        r#"(module (import "env" "emscripten_thing" (func (param i32)))
            (import "env" "memory" (memory 1))
            (import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#,
    )
    .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the module imports what is not offered: env.emscripten_thing, env.memory (memory), wasi_unstable.fd_write"
    );
    let many: String = (0..80).map(|n| format!(r#"(import "env" "f{n}" (func))"#)).collect();
    let Err(Refusal::UnknownImports { imports, more }) = analyse(&format!("(module {many})")) else {
        panic!("it is refused");
    };
    assert_eq!((imports.len(), more), (50, 30));
}

#[test]
fn bounds_on_complexity_just_pass_and_just_fail() {
    let too_complex = |text: &str, expected: &str| {
        let refusal = analyse(text).unwrap_err();
        let Refusal::TooComplex { what, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!(what, expected);
    };
    let memories = |n: usize| format!("(module {})", "(memory 0)".repeat(n));
    assert!(analyse(&memories(8)).is_ok());
    too_complex(&memories(9), "memories");
    let tables = |n: usize| format!("(module {})", "(table 0 funcref)".repeat(n));
    assert!(analyse(&tables(8)).is_ok());
    too_complex(&tables(9), "tables");
    assert!(analyse("(module (table 524288 funcref))").is_ok());
    too_complex("(module (table 524289 funcref))", "elements in a table");
    let locals = |n: usize| format!("(module (func {}))", "(local i32)".repeat(n));
    assert!(analyse(&locals(20_000)).is_ok());
    too_complex(&locals(20_001), "locals in a function");
    let exports = |n: usize| {
        let exports: String = (0..n).map(|i| format!(r#"(export "f{i}" (func 0))"#)).collect();
        format!("(module (func) {exports})")
    };
    assert!(analyse(&exports(10_000)).is_ok());
    too_complex(&exports(10_001), "exports");
    too_complex(
        &format!(r#"(module (func) (export "{}" (func 0)))"#, "x".repeat(99_999)).replace(
            "(func) ",
            &format!(
                "(func) {}",
                (0..11).fold(String::new(), |text, n| {
                    text + &format!(r#"(export "{n}{}" (func 0))"#, "x".repeat(99_000))
                })
            ),
        ),
        "bytes in the names of imports and exports",
    );
    let globals = |n: usize| format!("(module {})", "(global i32 (i32.const 0))".repeat(n));
    too_complex(&globals(100_001), "globals");
    let body = format!("(module (func {}))", "(drop (i32.const 0))".repeat((4 << 20) / 3 + 1));
    too_complex(&body, "bytes of code in a function");
}

#[test]
fn a_long_type_that_many_exports_share_is_refused() {
    let exports = |n: usize| {
        let exports: String = (0..n).map(|i| format!(r#"(export "f{i}" (func 0))"#)).collect();
        format!("(module (func (param {})) {exports})", "i32 ".repeat(800))
    };
    // "(i32, …) -> ()" has 5 bytes for each parameter
    assert!(analyse(&exports(200)).is_ok());
    let refusal = analyse(&exports(1_000)).unwrap_err();
    let Refusal::TooComplex { what, .. } = &refusal else { panic!("{refusal}") };
    assert_eq!(what, "bytes in the signatures of imports and exports");
}

#[test]
fn two_hundred_thousand_functions_pass_and_one_more_fails() {
    let functions = |n: usize| format!("(module {})", "(func)".repeat(n));
    assert!(analyse(&functions(200_000)).is_ok());
    assert!(matches!(analyse(&functions(200_001)), Err(Refusal::TooComplex { .. })));
}
