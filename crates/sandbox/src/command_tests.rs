//! WASI commands, executed: what goes in, what comes out, and each way to end.

use super::testing::{SANDBOX, execute, file, invocation, load};
use super::{Execution, LiveOutput, Mount, Sandbox, SandboxError, Variant, compile};
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::Limits;

/// A command with the imports that these tests use; `body` is its `_start`.
fn command(body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 2)
        (data (i32.const 0) "\10\00\00\00\06\00\00\00hello\n")
        (data (i32.const 16) "hello\n")
        (data (i32.const 64) "\00\04\00\00\00\01\00\00")
        (func (export "_start") {body}))"#
    )
}

const HELLO: &str = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))";

fn run(body: &str, limits: Limits) -> Execution {
    execute(&command(body), "_start", &[], limits).unwrap()
}

#[test]
fn a_command_writes_and_returns() {
    let result = run(HELLO, Limits::default());
    assert_eq!(result.outcome, Outcome::Exited { code: 0 });
    assert_eq!((&result.stdout[..], &result.stderr[..]), (&b"hello\n"[..], &b""[..]));
    assert!(result.files.is_empty());
    assert_eq!(result.fuel_used, None);
}

#[test]
fn a_command_ends_with_its_exit_code() {
    for code in [0, 1, 255, 4_294_967_295_u32] {
        let result = run(&format!("{HELLO} (call $exit (i32.const {code})) unreachable"), Limits::default());
        assert_eq!(result.outcome, Outcome::Exited { code });
        assert_eq!(&result.stdout[..], b"hello\n");
    }
}

#[test]
fn what_was_written_before_a_trap_is_kept() {
    let result = run(&format!("{HELLO} unreachable"), Limits::default());
    assert_eq!(result.outcome, Outcome::Trapped { trap: Trap::Unreachable });
    assert_eq!(&result.stdout[..], b"hello\n");
}

#[test]
fn a_flood_ends_at_the_output_limit() {
    let flood = format!("(loop $l {HELLO} (br $l))");
    let result = run(&flood, Limits { output_bytes: 1_000, ..Limits::default() });
    assert_eq!(result.outcome, Outcome::OutputLimit);
    assert_eq!(result.stdout.len(), 1_000);
    let twice = HELLO.repeat(2);
    let fits = run(&twice, Limits { output_bytes: 12, ..Limits::default() });
    assert_eq!(fits.outcome, Outcome::Exited { code: 0 });
    let passes = run(&twice, Limits { output_bytes: 11, ..Limits::default() });
    assert_eq!((passes.outcome, passes.stdout.len()), (Outcome::OutputLimit, 11));
}

#[test]
fn a_pointer_outside_of_the_memory_is_a_misuse() {
    let result = run(
        "(drop (call $write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 32)))",
        Limits::default(),
    );
    assert_eq!(result.outcome, Outcome::Trapped { trap: Trap::HostAbi });
}

#[test]
fn fuel_is_exact_up_to_the_call_that_exits() {
    let body = format!("{HELLO} (call $exit (i32.const 3))");
    let limits = Limits { fuel: Some(1_000_000), ..Limits::default() };
    let (one, two) = (run(&body, limits), run(&body, limits));
    assert_eq!(one.outcome, Outcome::Exited { code: 3 });
    assert_eq!(one.fuel_used, two.fuel_used);
    assert!(one.fuel_used.is_some_and(|used| used > 0 && used < 100), "{:?}", one.fuel_used);
}

#[test]
fn everything_that_a_guest_sees_comes_from_its_invocation() {
    // Writes arguments, standard input, random bytes and the clock to standard output.
    let body = "
        (drop (call $args (i32.const 128) (i32.const 256)))
        (drop (call $read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 32)))
        (drop (call $random (i32.const 512) (i32.const 32)))
        (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 544)))
        (i32.store (i32.const 0) (i32.const 256)) (i32.store (i32.const 4) (i32.const 1024))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))";
    let artifact = compile(&wat::parse_str(command(body)).unwrap(), Variant::Plain).unwrap();
    let base = || {
        let mut invocation = invocation("_start", &["-n", "3"], Limits::default());
        invocation.stdin = "input".into();
        invocation.clock_ns = 1_767_225_600_000_000_000;
        invocation.seed = 7;
        invocation
    };
    let other = Sandbox::new().unwrap();
    let answer = |sandbox: &Sandbox, invocation| {
        let loaded = sandbox.load_file(&file(&artifact), Variant::Plain).unwrap();
        sandbox.execute(&loaded, invocation, None).unwrap().stdout
    };
    let first = answer(&SANDBOX, base());
    assert!(first.starts_with(b"main\0-n\x003\0"), "{first:?}");
    assert_eq!(first, answer(&SANDBOX, base()));
    assert_eq!(first, answer(&other, base()));
    let mut different = [base(), base(), base(), base()];
    different[0].args[1] = "4".into();
    different[1].stdin = "other".into();
    different[2].clock_ns += 1;
    different[3].seed += 1;
    for invocation in different {
        assert_ne!(first, answer(&SANDBOX, invocation));
    }
}

#[test]
fn watchers_hear_output_as_it_is_written() {
    struct Watcher(std::sync::mpsc::Sender<(bool, Vec<u8>)>);
    impl LiveOutput for Watcher {
        fn wrote(&mut self, is_stderr: bool, bytes: &[u8]) {
            self.0.send((is_stderr, bytes.to_vec())).unwrap();
        }
    }
    let (sender, heard) = std::sync::mpsc::channel();
    let loaded = load(&SANDBOX, &command(HELLO), Variant::Plain);
    let call = invocation("_start", &[], Limits::default());
    SANDBOX.execute(&loaded, call, Some(Box::new(Watcher(sender)))).unwrap();
    assert_eq!(heard.iter().collect::<Vec<_>>(), [(false, b"hello\n".to_vec())]);
}

#[test]
fn a_panic_of_the_host_is_a_fault_and_harms_nothing() {
    struct Panics;
    impl LiveOutput for Panics {
        fn wrote(&mut self, _: bool, _: &[u8]) {
            panic!("a defect in the host");
        }
    }
    let loaded = load(&SANDBOX, &command(HELLO), Variant::Plain);
    let call = || invocation("_start", &[], Limits::default());
    let result = SANDBOX.execute(&loaded, call(), Some(Box::new(Panics)));
    assert!(matches!(&result, Err(SandboxError::Engine(why)) if why.contains("a defect")), "{result:?}");
    assert_eq!(SANDBOX.execute(&loaded, call(), None).unwrap().stdout, "hello\n");
}

#[test]
fn inputs_that_cannot_be_mounted_are_an_outcome_that_says_why() {
    let loaded = load(&SANDBOX, &command(""), Variant::Plain);
    let file = || Mount::File("x".into());
    for (path, mount, why) in [
        ("/a", Mount::Tree("no tree".into()), "the tree for `/a` cannot be mounted"),
        ("/tmp", file(), "`/tmp` is at or below the place of another input"),
        ("/out", file(), "`/out` is at or below the place of another input"),
    ] {
        let mut call = invocation("_start", &[], Limits::default());
        call.mounts = vec![(path.parse().unwrap(), mount)];
        let execution = SANDBOX.execute(&loaded, call.clone(), None).unwrap();
        assert_eq!(execution.outcome, Outcome::Trapped { trap: Trap::Instantiation }, "{path}");
        let words = String::from_utf8(execution.stderr.to_vec()).unwrap();
        assert!(words.contains(why), "{words}");
        call.limits.output_bytes = 7;
        assert_eq!(SANDBOX.execute(&loaded, call, None).unwrap().stderr, words.as_bytes()[..7]);
    }
}

#[test]
fn imports_with_other_types_than_ours_do_not_pass() {
    let text = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64)))
        (import "wasi_snapshot_preview1" "fd_teleport" (func)))"#;
    let wasm = wat::parse_str(text).unwrap();
    assert_eq!(
        super::examine(&wasm).unwrap_err().to_string(),
        "the module imports what is not offered: wasi_snapshot_preview1.proc_exit as (i64) -> () (it is (i32) -> ()), \
         wasi_snapshot_preview1.fd_teleport"
    );
    let artifact = compile(&wasm, Variant::Plain).unwrap();
    let loaded = SANDBOX.load_file(&file(&artifact), Variant::Plain);
    assert!(matches!(loaded, Err(SandboxError::Artifact(_))));
}

#[test]
fn the_analysis_of_a_command_names_its_interface() {
    let analysis = super::examine(&wat::parse_str(command("")).unwrap()).unwrap();
    assert_eq!((analysis.kind, analysis.wasi), (super::Kind::Command, super::WasiLevel::Preview1));
    assert_eq!(analysis.imports[0].signature, "(i32, i32, i32, i32) -> (i32)");
    assert_eq!(analysis.notes.len(), 2, "clock and random: {:?}", analysis.notes);
}

#[test]
fn all_functions_of_preview_1_are_offered_to_admission() {
    for name in super::wasi::FUNCTIONS {
        let key = (super::wasi::MODULE.to_owned(), (*name).to_owned());
        assert!(super::execute::offered().contains_key(&key), "{name}");
    }
    assert_eq!(super::execute::offered().len(), super::wasi::FUNCTIONS.len());
}

#[test]
fn a_confined_process_loads_and_executes() {
    use jail::testing::in_its_own_process;
    use jail::{Profile, Resources, confine};
    let status = in_its_own_process("command_tests::a_confined_process_loads_and_executes", || {
        let growing = "(drop (memory.grow (i32.const 64))) (i32.store (i32.const 4000000) (i32.const 1))";
        let artifact = |text: &str| file(&compile(&wat::parse_str(text).unwrap(), Variant::Plain).unwrap());
        let grows = artifact(&command(&format!("{growing} {HELLO}")));
        let recurses = artifact(r#"(module (func $f (export "f") (call $f)))"#);
        let sandbox = Sandbox::new().unwrap();
        let profile = Profile {
            last_descriptor: 100,
            resources: Resources::default(),
            extra_calls: super::SYSTEM_CALLS,
            executable_memory: true,
        };
        confine(&profile, None).unwrap();
        let loaded = sandbox.load_file(&grows, Variant::Plain).unwrap();
        for _ in 0..50 {
            let result =
                sandbox.execute(&loaded, invocation("_start", &[], Limits::default()), None).unwrap();
            assert_eq!((result.outcome, &result.stdout[..]), (Outcome::Exited { code: 0 }, &b"hello\n"[..]));
        }
        drop(loaded);
        let deep = sandbox.load_file(&recurses, Variant::Plain).unwrap();
        let result = sandbox.execute(&deep, invocation("f", &[], Limits::default()), None).unwrap();
        assert_eq!(result.outcome, Outcome::Trapped { trap: Trap::StackOverflow });
    });
    assert!(status.success(), "{status}");
}
