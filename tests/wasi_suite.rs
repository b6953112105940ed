//! Runs the preview 1 part of the public WASI test suite (github.com/WebAssembly/wasi-testsuite), where it is at hand.
//!
//! The suite's binaries are not part of this repository. `LOCKSTEP_WASI_TESTSUITE` names a checkout of its branch
//! `prod/testsuite-base`, which holds them prebuilt; without it this test says that it was skipped. What the suite checks is
//! also held by the unit tests of `sandbox::vfs` and `sandbox::wasi`.
//!
//! The suite wants a host directory as the root. Its files are mounted instead, read-only, at the same paths: the root
//! around them is writable, which is all that its tests need. Where it wants no directory at all, descriptor 3 is closed
//! before the guest starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lockstep::sandbox::Mount;
use lockstep::sandbox::wasi::{self, Exit, WasiConfig, WasiState};
use lockstep::spec::{GuestPath, Limits};
use wasmtime::{Config, Engine, Linker, Module, Store};

/// What a test is given and what it must do; the file is optional, and so is every field.
#[derive(serde::Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Specification {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    root: Option<String>,
    exit_code: u32,
    stdout: Option<String>,
    stderr: Option<String>,
}

#[test]
fn the_public_wasi_test_suite_passes_where_it_is_at_hand() {
    let Ok(suite) = std::env::var("LOCKSTEP_WASI_TESTSUITE") else {
        println!(
            "SKIPPED: set LOCKSTEP_WASI_TESTSUITE to a checkout of wasi-testsuite, branch prod/testsuite-base"
        );
        return;
    };
    let mut modules = Vec::new();
    find_modules(&Path::new(&suite).join("tests"), &mut modules);
    modules.sort();
    assert!(!modules.is_empty(), "{suite} has no tests/*/testsuite/wasm32-wasip1/*.wasm");
    let engine = Engine::new(&Config::new()).expect("the engine's defaults");
    let mut failures = Vec::new();
    for module in &modules {
        let name = module.strip_prefix(&suite).unwrap_or(module).display().to_string();
        match run(&engine, module) {
            Ok(()) => println!("passed  {name}"),
            Err(why) => {
                println!("FAILED  {name}: {why}");
                failures.push(name);
            }
        }
    }
    println!("{} of {} passed", modules.len() - failures.len(), modules.len());
    assert!(failures.is_empty(), "{failures:#?}");
}

fn find_modules(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the suite") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find_modules(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "wasm")
            && path.parent().is_some_and(|parent| parent.ends_with("testsuite/wasm32-wasip1"))
        {
            found.push(path);
        }
    }
}

fn run(engine: &Engine, path: &Path) -> Result<(), String> {
    let specification: Specification = match fs::read(path.with_extension("json")) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| error.to_string())?,
        Err(_) => Specification::default(),
    };
    let mut env: Vec<_> = specification.env.into_iter().collect();
    if path.components().any(|part| part.as_os_str() == "rust") {
        // Take only the errno of a Unix, where other hosts may answer otherwise.
        env.push(("ERRNO_MODE_UNIX".to_owned(), "1".to_owned()));
    }
    let mut mounts = Vec::new();
    if let Some(root) = &specification.root {
        mount_files(&path.with_file_name(root), "", &mut mounts);
    }
    let config = WasiConfig {
        args: specification.args,
        env,
        stdin: bytes::Bytes::new(),
        mounts,
        clock_ns: 1_767_225_600_000_000_000,
        seed: 0,
        limits: Limits::default(),
        live: None,
    };
    let mut store = Store::new(engine, WasiState::new(config).map_err(|error| error.to_string())?);
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker).map_err(|error| error.to_string())?;
    if specification.root.is_none() {
        let close = linker
            .get(&mut store, wasi::MODULE, "fd_close")
            .expect("it is offered")
            .into_func()
            .expect("a function");
        assert_eq!(
            close.typed::<u32, u32>(&store).and_then(|close| close.call(&mut store, 3)).expect("a call"),
            0
        );
    }
    let module = Module::from_file(engine, path).map_err(|error| format!("{error:#}"))?;
    let ended = linker
        .instantiate(&mut store, &module)
        .and_then(|instance| instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ()));
    let output = store.into_data().finish();
    let code = match ended {
        Ok(()) => 0,
        Err(error) => match error.downcast_ref::<Exit>() {
            Some(Exit(code)) => *code,
            None => return Err(format!("{error:#}\n{}", String::from_utf8_lossy(&output.stderr))),
        },
    };
    if code != specification.exit_code {
        return Err(format!("exit code {code}\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    for (wanted, bytes) in [(specification.stdout, output.stdout), (specification.stderr, output.stderr)] {
        if let Some(wanted) = wanted
            && wanted.as_bytes() != bytes
        {
            return Err(format!("wrote {:?} instead of {wanted:?}", String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(())
}

fn mount_files(directory: &Path, prefix: &str, mounts: &mut Vec<(GuestPath, Mount)>) {
    for entry in fs::read_dir(directory).expect("a directory of the suite") {
        let entry = entry.expect("an entry");
        let inside = format!("{prefix}/{}", entry.file_name().into_string().expect("a name in UTF-8"));
        if entry.path().is_dir() {
            mount_files(&entry.path(), &inside, mounts);
        } else {
            mounts.push((
                inside.parse().expect("a guest path"),
                Mount::File(fs::read(entry.path()).expect("a file of the suite").into()),
            ));
        }
    }
}
