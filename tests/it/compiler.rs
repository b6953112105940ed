//! The compiler service with real children.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use lockstep::compiler::{AdmitError, CompileLimits, Compiler, CompilerConfig, InfraError};
use lockstep::digest::Digest;
use lockstep::result::Outcome;
use lockstep::sandbox::{Invocation, Refusal, Sandbox, Variant};
use lockstep::spec::Limits;

const ADD: &str = r#"(module (memory 1) (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))"#;

fn compiler(dir: &Path) -> Compiler {
    with_limits(dir, CompileLimits::default())
}

fn with_limits(dir: &Path, limits: CompileLimits) -> Compiler {
    with_program(dir, limits, env!("CARGO_BIN_EXE_lockstep"))
}

fn with_program(dir: &Path, limits: CompileLimits, exe: &str) -> Compiler {
    let config = CompilerConfig {
        cache_dir: dir.join("artifacts"),
        cache_bytes_max: 1 << 30,
        exe: exe.into(),
        limits,
        concurrency: 2,
    };
    Compiler::new(config).unwrap()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn wasm(text: &str) -> (Digest, Vec<u8>) {
    let wasm = wat::parse_str(text).unwrap();
    (Digest::of(&wasm), wasm)
}

async fn refusal(compiler: &Compiler, bytes: &[u8]) -> Refusal {
    match compiler.admit(Digest::of(bytes), file(bytes)).await {
        Err(AdmitError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal: {other:?}"),
    }
}

fn add(artifact: &File) -> Outcome {
    let sandbox = Sandbox::new().unwrap();
    let loaded = sandbox.load_file(artifact, Variant::Plain).unwrap();
    let invocation = Invocation {
        entry: "add".into(),
        args: vec!["40".into(), "2".into()],
        env: vec![],
        stdin: bytes::Bytes::new(),
        mounts: vec![],
        clock_ns: 0,
        seed: 0,
        limits: Limits::default(),
    };
    sandbox.execute(&loaded, invocation, None).unwrap().outcome
}

/// Many values that are all live at the end: register allocation takes out of proportion long.
pub fn many_live_locals(count: usize) -> Vec<u8> {
    let mut text = String::from("(module (func (export \"f\") (param i64) (result i64)");
    text += &"(local i64)".repeat(count);
    for local in 1..=count {
        text += &format!("(local.set {local} (i64.mul (local.get {}) (i64.const {local})))", local - 1);
    }
    text += "(loop $l ";
    for local in (1..=count).rev() {
        text +=
            &format!("(local.set {local} (i64.xor (local.get {local}) (local.get {})))", (local * 7) % count);
    }
    text += "(br_if $l (i64.eqz (local.get 1)))) (local.get 0)";
    for local in 1..=count {
        text += &format!("(i64.add (local.get {local}))");
    }
    wat::parse_str(text + "))").unwrap()
}

#[tokio::test]
async fn a_good_module_is_analysed_compiled_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let compiler = compiler(dir.path());
    let (digest, wasm) = wasm(ADD);
    let analysis = compiler.analyse(digest, file(&wasm)).await.unwrap();
    let admission = compiler.admit(digest, file(&wasm)).await.unwrap();
    assert_eq!(admission.analysis, analysis);
    assert_eq!(analysis.exports[0].signature, "(i32, i32) -> (i32)");
    let artifact = admission.artifact;
    assert_eq!(artifact.size, artifact.file.metadata().unwrap().len());
    assert_eq!(add(&artifact.file), Outcome::Returned { values: vec!["42".into()] });
}

#[tokio::test]
async fn the_module_files_cursor_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let (digest, wasm) = wasm(ADD);
    let mut module = file(&wasm);
    module.seek(SeekFrom::Start(7)).unwrap();
    compiler(dir.path()).admit(digest, module).await.unwrap();
}

#[tokio::test]
async fn the_same_module_gives_the_same_artifact_everywhere() {
    let (digest, wasm) = wasm(ADD);
    let mut digests = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let compiler = compiler(dir.path());
        digests.insert((Variant::Plain, compiler.admit(digest, file(&wasm)).await.unwrap().artifact.digest));
        let bytes = wasm.clone();
        let fueled = compiler.artifact(digest, Variant::Fueled, move || Ok(file(&bytes))).await.unwrap();
        digests.insert((Variant::Fueled, fueled.digest));
    }
    assert_eq!(digests.len(), 2, "{digests:?}");
}

#[tokio::test]
async fn an_artifact_is_compiled_once_however_many_ask() {
    let dir = tempfile::tempdir().unwrap();
    let compiler = compiler(dir.path());
    let (digest, wasm) = wasm(ADD);
    let opened = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let (compiler, wasm, opened) = (compiler.clone(), wasm.clone(), opened.clone());
            tokio::spawn(async move {
                let open = move || {
                    opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    Ok(file(&wasm))
                };
                compiler.artifact(digest, Variant::Plain, open).await.unwrap().digest
            })
        })
        .collect();
    let mut digests = std::collections::BTreeSet::new();
    for asked in asking {
        digests.insert(asked.await.unwrap());
    }
    assert_eq!((digests.len(), opened.load(std::sync::atomic::Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn what_is_no_module_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let compiler = compiler(dir.path());
    assert_eq!(refusal(&compiler, b"MZ").await, Refusal::NotWasm);
    assert_eq!(refusal(&compiler, b"").await, Refusal::NotWasm);
    assert_eq!(refusal(&compiler, ADD.as_bytes()).await, Refusal::WasmText);
    let (_, wasm) = wasm(ADD);
    let truncated = refusal(&compiler, &wasm[..wasm.len() - 3]).await;
    assert!(matches!(truncated, Refusal::Invalid { .. }), "{truncated}");
    let component = refusal(&compiler, &wat::parse_str("(component)").unwrap()).await;
    assert_eq!(component, Refusal::Component);
    let imports = refusal(&compiler, &self::wasm(r#"(module (import "env" "f" (func)))"#).1).await;
    assert_eq!(imports.to_string(), "the module imports what is not offered: env.f");
}

#[tokio::test]
async fn a_module_of_200_mb_is_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let sparse = tempfile::tempfile().unwrap();
    sparse.set_len(200 << 20).unwrap();
    let result = compiler(dir.path()).admit(Digest::EMPTY, sparse).await;
    let expected = Refusal::TooLarge { size: 200 << 20, max: 64 << 20 };
    assert_eq!(result.unwrap_err(), AdmitError::Refused(expected));
}

#[tokio::test]
async fn a_compile_bomb_ends_at_its_cpu_time() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CompileLimits { cpu_s: 1, ..CompileLimits::default() };
    let compiler = with_limits(dir.path(), limits);
    let bomb = many_live_locals(15_000);
    let bound = "1 s of CPU time".to_owned();
    assert_eq!(refusal(&compiler, &bomb).await, Refusal::CompileBomb { bound });
    // The service is as good as new.
    let (digest, wasm) = wasm(ADD);
    compiler.admit(digest, file(&wasm)).await.unwrap();
}

#[tokio::test]
async fn a_refusal_of_the_variant_that_counts_fuel_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    // counting at every branch makes the machine code longer
    let branches = "(br_if 0 (i32.eqz (local.get 0)))".repeat(2_000);
    let (digest, wasm) = wasm(&format!("(module (func (export \"f\") (param i32) {branches}))"));
    let size = async |variant| {
        let dir = tempfile::tempdir().unwrap();
        let bytes = wasm.clone();
        compiler(dir.path()).artifact(digest, variant, move || Ok(file(&bytes))).await.unwrap().size
    };
    let (plain, fueled) = (size(Variant::Plain).await, size(Variant::Fueled).await);
    assert!(plain < fueled, "{plain} {fueled}");
    let limits = CompileLimits { artifact_bytes_max: plain, ..CompileLimits::default() };
    let compiler = with_limits(dir.path(), limits);
    compiler.admit(digest, file(&wasm)).await.unwrap();
    assert!(compiler.has(digest, Variant::Plain) && !compiler.has(digest, Variant::Fueled));
    let bytes = wasm.clone();
    let first = compiler.artifact(digest, Variant::Fueled, move || Ok(file(&bytes))).await.unwrap_err();
    assert!(matches!(&first, AdmitError::Refused(Refusal::CompileBomb { .. })), "{first:?}");
    let never = || -> std::io::Result<File> { panic!("it is compiled again") };
    assert_eq!(compiler.artifact(digest, Variant::Fueled, never).await.unwrap_err(), first);
    // the plain one is as good as before
    compiler.admit(digest, file(&wasm)).await.unwrap();
}

#[tokio::test]
async fn a_compilation_that_needs_too_much_memory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CompileLimits { address_space_bytes: 300 << 20, ..CompileLimits::default() };
    let compiler = with_limits(dir.path(), limits);
    let (digest, wasm) = wasm(ADD);
    compiler.admit(digest, file(&wasm)).await.unwrap();
    let many = wat::parse_str(format!("(module {})", "(func)".repeat(199_000))).unwrap();
    assert!(matches!(refusal(&compiler, &many).await, Refusal::CompileBomb { .. }));
}

#[tokio::test]
async fn an_artifact_that_is_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CompileLimits { artifact_bytes_max: 4_096, ..CompileLimits::default() };
    let refused = refusal(&with_limits(dir.path(), limits), &wasm(ADD).1).await;
    assert_eq!(refused, Refusal::CompileBomb { bound: "4096 bytes of machine code".into() });
}

#[tokio::test]
async fn bytes_that_do_not_hash_to_their_name_are_no_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let (_, wasm) = wasm(ADD);
    let result = compiler(dir.path()).admit(Digest::of(b"another module"), file(&wasm)).await;
    assert!(matches!(result, Err(AdmitError::Infra(InfraError::Failed(_)))), "{result:?}");
}

#[tokio::test]
async fn a_known_artifact_needs_no_module_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (digest, wasm) = wasm(ADD);
    let first = compiler(dir.path()).admit(digest, file(&wasm)).await.unwrap().artifact.digest;
    let restarted = compiler(dir.path());
    for _ in 0..2 {
        let absent = || Err(std::io::Error::other("it must not be opened"));
        let artifact = restarted.artifact(digest, Variant::Plain, absent).await.unwrap();
        assert_eq!(artifact.digest, first);
    }
}

#[tokio::test]
async fn a_tampered_artifact_is_thrown_away_and_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    let (digest, wasm) = wasm(ADD);
    let service = compiler(dir.path());
    let good = service.admit(digest, file(&wasm)).await.unwrap().artifact.digest;
    let path = artifact_path(dir.path());
    for restarted in [false, true] {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let service = if restarted { compiler(dir.path()) } else { service.clone() };
        let bytes = wasm.clone();
        let artifact = service.artifact(digest, Variant::Plain, move || Ok(file(&bytes))).await.unwrap();
        assert_eq!(artifact.digest, good);
        assert_eq!(Digest::of(&std::fs::read(&path).unwrap()), good);
    }
}

#[tokio::test]
async fn an_artifact_sealed_on_another_machine_is_foreign() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (digest, wasm) = wasm(ADD);
    compiler(there.path()).admit(digest, file(&wasm)).await.unwrap();
    let service = compiler(here.path());
    for entry in std::fs::read_dir(there.path().join("artifacts")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "key" {
            std::fs::copy(&path, here.path().join("artifacts").join(name)).unwrap();
        }
    }
    let opened = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let noted = opened.clone();
    let open = move || {
        noted.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(file(&wasm))
    };
    service.artifact(digest, Variant::Plain, open).await.unwrap();
    assert!(opened.load(std::sync::atomic::Ordering::Relaxed), "it was compiled here");
}

#[tokio::test]
async fn a_damaged_key_makes_every_artifact_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let (digest, wasm) = wasm(ADD);
    compiler(dir.path()).admit(digest, file(&wasm)).await.unwrap();
    std::fs::write(dir.path().join("artifacts/key"), b"short").unwrap();
    compiler(dir.path()).admit(digest, file(&wasm)).await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("artifacts/key")).unwrap().len(), 32);
}

#[tokio::test]
async fn old_artifacts_make_room_for_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let one = {
        let (digest, wasm) = wasm(ADD);
        compiler(dir.path()).admit(digest, file(&wasm)).await.unwrap().artifact.size
    };
    let config = CompilerConfig {
        cache_dir: dir.path().join("artifacts"),
        cache_bytes_max: one * 5 / 2,
        exe: env!("CARGO_BIN_EXE_lockstep").into(),
        limits: CompileLimits::default(),
        concurrency: 1,
    };
    let service = Compiler::new(config).unwrap();
    for n in 0..4 {
        let (digest, wasm) = wasm(&format!(r#"(module (func (export "f") (result i32) (i32.const {n})))"#));
        service.admit(digest, file(&wasm)).await.unwrap();
    }
    let names: Vec<_> = std::fs::read_dir(dir.path().join("artifacts"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let artifacts = names.iter().filter(|name| name.ends_with(".cwasm")).count();
    let seals = names.iter().filter(|name| name.ends_with(".seal")).count();
    assert_eq!((artifacts, seals, names.len()), (2, 2, 5), "{names:?}");
}

#[tokio::test]
async fn a_child_that_dies_or_talks_nonsense_is_the_machines_fault() {
    let dir = tempfile::tempdir().unwrap();
    let (digest, wasm) = wasm(ADD);
    for (program, expected) in [("/bin/false", "exit status: 1"), ("/bin/true", "exit status: 0")] {
        let service = with_program(dir.path(), CompileLimits::default(), program);
        match service.admit(digest, file(&wasm)).await {
            Err(AdmitError::Infra(InfraError::Died { status, .. })) => assert_eq!(status, expected),
            other => panic!("{other:?}"),
        }
    }
    let service = with_program(dir.path(), CompileLimits::default(), "/nonexistent/lockstep");
    assert!(matches!(service.admit(digest, file(&wasm)).await, Err(AdmitError::Infra(InfraError::Io(_)))));
}

#[tokio::test]
async fn a_child_that_is_killed_is_the_machines_fault_and_can_be_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let service = compiler(dir.path());
    let slow = many_live_locals(6_000);
    let digest = Digest::of(&slow);
    let asked = {
        let (service, slow) = (service.clone(), slow.clone());
        tokio::spawn(async move { service.admit(digest, file(&slow)).await.map(drop) })
    };
    let mut killed = false;
    let killing = async {
        while !asked.is_finished() {
            killed |= kill_children_that_compile(digest);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), killing).await.unwrap();
    assert!(killed, "the child was seen");
    let ended = asked.await.unwrap();
    assert!(matches!(ended, Err(AdmitError::Infra(InfraError::Died { .. }))), "{ended:?}");
    assert!(children().is_empty(), "no zombie is left");
}

#[tokio::test]
async fn a_child_that_overruns_its_wall_time_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let limits = CompileLimits { wall_ms: 100, ..CompileLimits::default() };
    let slow = many_live_locals(15_000);
    let result = with_limits(dir.path(), limits).admit(Digest::of(&slow), file(&slow)).await;
    let expected = AdmitError::Infra(InfraError::Overran { wall_ms: 100 });
    assert_eq!(result.map(drop).unwrap_err(), expected);
    assert!(children_that_compile(Digest::of(&slow)).is_empty());
}

#[test]
fn children_die_with_the_service_that_started_them() {
    const ROLE: &str = "LOCKSTEP_TEST_COMPILES_UNTIL_KILLED";
    let slow = many_live_locals(15_000);
    let digest = Digest::of(&slow);
    if std::env::var_os(ROLE).is_some() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ended = runtime.block_on(compiler(dir.path()).admit(digest, file(&slow)));
        panic!("it was killed before: {ended:?}");
    }
    let name = "compiler::children_die_with_the_service_that_started_them";
    let exe = std::env::current_exe().unwrap();
    let mut service = std::process::Command::new(exe)
        .args(["--exact", name, "--nocapture"])
        .env(ROLE, "1")
        .spawn()
        .unwrap();
    let parent = i32::try_from(service.id()).unwrap();
    let compiling = || children_of(parent).into_iter().find(|pid| compiles(*pid, digest));
    let child = poll_until(|| compiling().or_else(|| service.try_wait().unwrap().map(|_| 0)));
    assert_ne!(child, 0, "the service ended early");
    service.kill().unwrap();
    service.wait().unwrap();
    poll_until(|| (!compiles(child, digest)).then_some(()));
}

/// Asks again and again until there is an answer, for a minute at most.
fn poll_until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while std::time::Instant::now() < deadline {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::yield_now();
    }
    panic!("it did not happen within a minute");
}

/// Process ids of this process's children, zombies included.
fn children() -> Vec<i32> {
    children_of(i32::try_from(std::process::id()).unwrap())
}

fn children_of(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let me = parent.to_string();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name, which is in parentheses and may hold anything: state and parent.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(me.as_str()) {
            found.push(pid);
        }
    }
    found
}

/// Whether the process is a child at work on this module.
fn compiles(pid: i32, module: Digest) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).contains(&module.to_string())
}

fn children_that_compile(module: Digest) -> Vec<i32> {
    children().into_iter().filter(|pid| compiles(*pid, module)).collect()
}

fn kill_children_that_compile(module: Digest) -> bool {
    let pids = children_that_compile(module);
    for pid in &pids {
        let pid = rustix::process::Pid::from_raw(*pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    !pids.is_empty()
}

fn artifact_path(dir: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(dir.join("artifacts")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|suffix| suffix == "cwasm")).unwrap()
}
