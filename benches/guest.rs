//! Guest speed inside Lockstep over straight wasmtime: the same module, the same host functions, one with the profile's
//! engine and everything around it, one with the stock configuration and no instrumentation.
//!
//! Beside them the same module under `det-1-portable`: what equal results on other machines cost, most of it where floats are
//! computed in tight loops.
//!
//! `cargo bench --bench guest` interleaves all three and prints the ratios of the fastest of several rounds of each.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep::sandbox::corpus::MODULE;
use lockstep::sandbox::wasi::{WasiConfig, WasiState, add_to_linker};
use lockstep::sandbox::{Invocation, Variant};
use lockstep::sandbox::{Loaded, Sandbox, compile};
use lockstep::spec::Limits;

const ROUNDS: usize = 7;
/// The golden corpus, which is built in.
const CORPUS: &str = "corpus.wasm";

struct Guest(WasiState);

impl AsMut<WasiState> for Guest {
    fn as_mut(&mut self) -> &mut WasiState {
        &mut self.0
    }
}

fn main() {
    println!(
        "{:<36} {:>12} {:>12}  ratio (bound 1.05)  {:>12}  det-1-portable / det-1",
        "guest", "lockstep", "wasmtime", "portable"
    );
    let batch = stdout_of("verify-signatures.wasm", &["generate", "2000", "7"], Bytes::new());
    let text = Bytes::from("the quick brown fox jumps over the lazy dog\n".repeat(200_000));
    compare("primes.wasm", "count", &["3000000"], Bytes::new());
    compare("verify-signatures.wasm", "_start", &[], batch);
    compare("mandelbrot.wasm", "_start", &["1024", "768", "500"], Bytes::new());
    compare("montecarlo.wasm", "_start", &["20000000"], Bytes::new());
    compare("wordcount.wasm", "_start", &[], text);
    compare("misbehave.wasm", "_start", &["work", "300000000"], Bytes::new());
    // nothing but float arithmetic and what is done with its bits: near the worst that a guest can pay
    compare(CORPUS, "f64", &["1", "2000000"], Bytes::new());
    compare(CORPUS, "f32x4", &["1", "500000"], Bytes::new());
}

fn wasm(name: &str) -> Vec<u8> {
    if name == CORPUS {
        return MODULE.to_vec();
    }
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
    let loaded = load(&sandbox, &wasm(name), Variant::Plain);
    sandbox.execute(&loaded, invocation("_start", args, stdin), None).expect("it runs").stdout
}

fn load(sandbox: &Sandbox, wasm: &[u8], variant: Variant) -> Loaded {
    let file = tempfile::tempfile().expect("a file");
    let artifact = compile(wasm, variant).expect("it compiles");
    std::io::Write::write_all(&mut &file, &artifact).expect("written");
    sandbox.load_file(&file, variant).expect("it loads")
}

fn compare(name: &str, entry: &str, args: &[&str], stdin: Bytes) {
    let wasm = wasm(name);
    let sandbox = Sandbox::new().expect("a sandbox");
    let loaded = [Variant::Plain, Variant::Portable].map(|variant| load(&sandbox, &wasm, variant));
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, &wasm).expect("it compiles");
    let mut linker = wasmtime::Linker::<Guest>::new(&engine);
    add_to_linker(&mut linker).expect("linked");
    let (mut best, mut reference) = ([Duration::MAX; 2], Duration::MAX);
    for _ in 0..ROUNDS {
        for (loaded, best) in loaded.iter().zip(&mut best) {
            let begun = Instant::now();
            let execution =
                sandbox.execute(loaded, invocation(entry, args, stdin.clone()), None).expect("it runs");
            *best = begun.elapsed().min(*best);
            assert!(execution.outcome.is_success(), "{name}: {}", execution.outcome);
        }
        let begun = Instant::now();
        straight(&linker, &module, invocation(entry, args, stdin.clone()));
        reference = reference.min(begun.elapsed());
    }
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (ratio, portable) = (ms(best[0]) / ms(reference), ms(best[1]) / ms(best[0]));
    let what = format!("{} {entry} {}", name.trim_end_matches(".wasm"), args.join(" "));
    println!(
        "{what:<36} {:>9.1} ms {:>9.1} ms  {ratio:<18.3}  {:>9.1} ms  {portable:.3}",
        ms(best[0]),
        ms(reference),
        ms(best[1])
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
    } else if let [seed, rounds] = &invocation.args[..] {
        let (seed, rounds) = (seed.parse().expect("a number"), rounds.parse().expect("a number"));
        let function =
            instance.get_typed_func::<(i64, i32), i64>(&mut store, &invocation.entry).expect("exported");
        function.call(&mut store, (seed, rounds)).expect("it returns");
    } else {
        let number: i32 = invocation.args[0].parse().expect("a number");
        let function = instance.get_typed_func::<i32, i32>(&mut store, &invocation.entry).expect("exported");
        function.call(&mut store, number).expect("it returns");
    }
}
