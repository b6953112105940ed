//! Guest speed inside Lockstep over straight wasmtime: the same module, the same host functions, one with the profile's
//! engine and everything around it, one with the stock configuration and no instrumentation.
//!
//! `cargo bench --bench guest` interleaves both and prints the ratio of the fastest of several rounds of each.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep::sandbox::wasi::{WasiConfig, WasiState, add_to_linker};
use lockstep::sandbox::{Invocation, Variant};
use lockstep::sandbox::{Loaded, Sandbox, compile};
use lockstep::spec::Limits;

const ROUNDS: usize = 7;

struct Guest(WasiState);

impl AsMut<WasiState> for Guest {
    fn as_mut(&mut self) -> &mut WasiState {
        &mut self.0
    }
}

fn main() {
    println!("{:<36} {:>12} {:>12}  ratio (bound 1.05)", "guest", "lockstep", "wasmtime");
    let batch = stdout_of("verify-signatures.wasm", &["generate", "2000", "7"], Bytes::new());
    let text = Bytes::from("the quick brown fox jumps over the lazy dog\n".repeat(200_000));
    compare("primes.wasm", "count", &["3000000"], Bytes::new());
    compare("verify-signatures.wasm", "_start", &[], batch);
    compare("mandelbrot.wasm", "_start", &["1024", "768", "500"], Bytes::new());
    compare("montecarlo.wasm", "_start", &["20000000"], Bytes::new());
    compare("wordcount.wasm", "_start", &[], text);
    compare("misbehave.wasm", "_start", &["work", "300000000"], Bytes::new());
}

fn wasm(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/prebuilt").join(name);
    std::fs::read(path).expect("a prebuilt guest")
}

fn invocation(entry: &str, args: &[&str], stdin: Bytes) -> Invocation {
    Invocation {
        entry: entry.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        stdin,
        mounts: Vec::new(),
        clock_ns: 0,
        seed: 0,
        limits: Limits::default(),
    }
}

fn stdout_of(name: &str, args: &[&str], stdin: Bytes) -> Bytes {
    let sandbox = Sandbox::new().expect("a sandbox");
    let loaded = load(&sandbox, &wasm(name));
    sandbox.execute(&loaded, invocation("_start", args, stdin), None).expect("it runs").stdout
}

fn load(sandbox: &Sandbox, wasm: &[u8]) -> Loaded {
    let file = tempfile::tempfile().expect("a file");
    let artifact = compile(wasm, Variant::Plain).expect("it compiles");
    std::io::Write::write_all(&mut &file, &artifact).expect("written");
    sandbox.load_file(&file, Variant::Plain).expect("it loads")
}

fn compare(name: &str, entry: &str, args: &[&str], stdin: Bytes) {
    let wasm = wasm(name);
    let sandbox = Sandbox::new().expect("a sandbox");
    let loaded = load(&sandbox, &wasm);
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, &wasm).expect("it compiles");
    let mut linker = wasmtime::Linker::<Guest>::new(&engine);
    add_to_linker(&mut linker).expect("linked");
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let execution =
            sandbox.execute(&loaded, invocation(entry, args, stdin.clone()), None).expect("it runs");
        best[0] = best[0].min(begun.elapsed());
        assert!(execution.outcome.is_success(), "{name}: {}", execution.outcome);
        let begun = Instant::now();
        straight(&linker, &module, invocation(entry, args, stdin.clone()));
        best[1] = best[1].min(begun.elapsed());
    }
    let ratio = best[0].as_secs_f64() / best[1].as_secs_f64();
    let what = format!("{} {entry} {}", name.trim_end_matches(".wasm"), args.join(" "));
    println!(
        "{what:<36} {:>9.1} ms {:>9.1} ms  {ratio:.3}",
        best[0].as_secs_f64() * 1e3,
        best[1].as_secs_f64() * 1e3
    );
}

fn straight(linker: &wasmtime::Linker<Guest>, module: &wasmtime::Module, invocation: Invocation) {
    let wasi = WasiState::new(WasiConfig {
        args: invocation.args.clone(),
        env: invocation.env,
        stdin: invocation.stdin,
        mounts: invocation.mounts,
        clock_ns: 0,
        seed: 0,
        limits: invocation.limits,
        live: None,
    })
    .expect("no mounts");
    let mut store = wasmtime::Store::new(linker.engine(), Guest(wasi));
    let instance = linker.instantiate(&mut store, module).expect("instantiates");
    if invocation.entry == "_start" {
        // a command may end by `proc_exit`, which comes back as an error
        let _ =
            instance.get_typed_func::<(), ()>(&mut store, "_start").expect("a command").call(&mut store, ());
    } else {
        let number: i32 = invocation.args[0].parse().expect("a number");
        let function = instance.get_typed_func::<i32, i32>(&mut store, &invocation.entry).expect("exported");
        function.call(&mut store, number).expect("it returns");
    }
}
