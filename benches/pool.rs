//! The whole thing, through the front door, each figure next to a reference measured in the same run.
//!
//! `cargo bench --bench pool` prints a line per figure: what it is, its value, the reference, the ratio or the bound.
//! These machines are noisy: read the ratios.

#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep::core::{Final, Time};
use lockstep::digest::Digest;
use lockstep::id::{RunId, WorkspaceId};
use lockstep::result::{Outcome, RunState, Verdict};
use lockstep::spec::{Policy, RunSpec};
use lockstep::store::sqlite::SqliteStore;
use lockstep::store::{FinalRun, NewRun, RunWrite, Store};
use serde_json::json;
use support::{Pool, children, cpu_ticks, eventually, guest, signal};

const WARM_RUNS: usize = 400;
const COLD_RUNS: usize = 40;
const KILLS: usize = 15;
const STORED_RUNS: u128 = 100_000;
const IDLE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    if std::env::args().any(|arg| arg == "--one-shot") {
        return one_shot();
    }
    println!("{:<44} {:>14} {:>22}  ratio or bound", "figure", "value", "reference");
    warm_path().await;
    cached_path().await;
    rerun_after_kill().await;
    restart().await;
    idle().await;
}

fn line(figure: &str, value: &str, reference: &str, verdict: &str) {
    println!("{figure:<44} {value:>14} {reference:>22}  {verdict}");
}

fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100]
}

fn millis(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1e3)
}

/// One client, policy `once`, a tiny command; next to a process that does nothing but execute the same module
/// precompiled, which is what `wasmtime run --allow-precompiled` does.
async fn warm_path() {
    let pool = Pool::start().await;
    let module = pool.push(guest("hello.wasm")).await;
    let artifact = tempfile::NamedTempFile::new().expect("a file");
    let engine = wasmtime::Engine::default();
    let wasm = guest("hello.wasm");
    std::fs::write(artifact.path(), engine.precompile_module(&wasm).expect("it compiles")).expect("written");
    let itself = std::env::current_exe().expect("a path");

    let mut process = Vec::new();
    for _ in 0..COLD_RUNS {
        let begun = Instant::now();
        let status = Command::new(&itself)
            .arg("--one-shot")
            .arg(artifact.path())
            .stdout(Stdio::null())
            .status()
            .expect("it runs");
        assert!(status.success());
        process.push(begun.elapsed());
    }
    let reference = percentile(&mut process, 50);
    for (name, durable, bound_ms) in [("non-durable", false, 0.5), ("durable", true, 1.0)] {
        let request =
            json!({"module": module, "verify": {"policy": "once"}, "durable": durable, "wait_ms": 10_000});
        let mut connection = Connection::to(&pool, &request);
        let mut samples = Vec::new();
        for round in 0..WARM_RUNS + 50 {
            let begun = Instant::now();
            let answer = connection.call();
            let took = begun.elapsed();
            assert!(answer.contains("\"state\":\"succeeded\""), "{answer}");
            if round >= 50 {
                samples.push(took);
            }
        }
        let p50 = percentile(&mut samples, 50);
        line(
            &format!("warm run, once, {name}, p50 (p99 {})", millis(percentile(&mut samples, 99))),
            &millis(p50),
            &format!("process {}", millis(reference)),
            &format!(
                "{:.3} of a process per run; bound {bound_ms} ms",
                p50.as_secs_f64() / reference.as_secs_f64()
            ),
        );
    }
}

/// The same client and the same request: answered from the cache, next to executed. Each answer is checked to be what it is
/// called.
async fn cached_path() {
    let pool = Pool::with(&["--workers", "3", "--slots", "1", "--set", "cache_entries=1000"]).await;
    let module = pool.push(guest("hello.wasm")).await;
    let verified = pool.run(json!({"module": module, "verify": {"policy": "quorum", "n": 2}})).await;
    assert_eq!(verified["verdict"]["kind"], "agreed", "{verified}");
    // as a run is stored unless it says otherwise, which is what the bound is about; kept in memory only; and stored before
    // it is answered, which a hit is not by itself
    let kinds =
        [("stored, the default", None), ("in memory only", Some(false)), ("stored first", Some(true))];
    for (name, durable) in kinds {
        let floor = health(&pool);
        let mut p50 = [Duration::ZERO; 2];
        for (measured, (cache, cached)) in
            p50.iter_mut().zip([("off", "\"cached\":false"), ("use", "\"cached\":true")])
        {
            let mut request = json!({"module": module, "verify": {"policy": "once"}, "wait_ms": 10_000,
                "cache": cache});
            if let Some(durable) = durable {
                request["durable"] = json!(durable);
            }
            let mut connection = Connection::to(&pool, &request);
            let mut samples = Vec::new();
            for round in 0..WARM_RUNS + 50 {
                let begun = Instant::now();
                let answer = connection.call();
                let took = begun.elapsed();
                assert!(answer.contains("\"state\":\"succeeded\"") && answer.contains(cached), "{answer}");
                if round >= 50 {
                    samples.push(took);
                }
            }
            *measured = percentile(&mut samples, 50);
        }
        let [executed, answered] = p50;
        line(
            &format!("answer from the cache, {name}, p50"),
            &millis(answered),
            &format!("executed {}", millis(executed)),
            &format!(
                "{:.3} of the warm path; bound 0.25; `GET /healthz` takes {}",
                answered.as_secs_f64() / executed.as_secs_f64(),
                millis(floor)
            ),
        );
    }
}

/// What a request and an answer take by themselves, p50: nothing is asked of the pool.
fn health(pool: &Pool) -> Duration {
    let mut connection = Connection::to(pool, &json!(null));
    connection.request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
    let mut samples = Vec::new();
    for _ in 0..WARM_RUNS {
        let begun = Instant::now();
        assert!(connection.call().starts_with("HTTP/1.1 200"));
        samples.push(begun.elapsed());
    }
    percentile(&mut samples, 50)
}

/// A kept connection that sends the same request again and again: so little of a client that the pool is what is timed.
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    fn to(pool: &Pool, request: &serde_json::Value) -> Connection {
        let address = pool.url.strip_prefix("http://").expect("plain HTTP");
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let body = request.to_string();
        let head = format!(
            "POST /v1/runs HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            pool.token,
            body.len()
        );
        Connection { stream, request: (head + &body).into_bytes(), answer: Vec::new() }
    }

    /// One request; the answer with its head.
    fn call(&mut self) -> &str {
        self.stream.write_all(&self.request).expect("sent");
        self.answer.clear();
        let mut part = [0; 16 << 10];
        loop {
            let read = self.stream.read(&mut part).expect("an answer");
            assert!(read > 0, "the connection ended");
            self.answer.extend_from_slice(&part[..read]);
            let text = std::str::from_utf8(&self.answer).expect("text");
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.expect("a length").parse().expect("a number") {
                    break;
                }
            }
        }
        std::str::from_utf8(&self.answer).expect("text")
    }
}

/// What a process per run does: load the precompiled module, link a `fd_write` and a `proc_exit`, call `_start`.
fn one_shot() {
    let path = std::env::args().nth(2).expect("an artifact");
    let engine = wasmtime::Engine::default();
    #[expect(unsafe_code, reason = "the artifact was made by this very benchmark a moment ago")]
    // SAFETY: `warm_path` wrote it with `precompile_module` of the same engine.
    let module = unsafe { wasmtime::Module::deserialize_file(&engine, path) }.expect("it loads");
    let mut linker = wasmtime::Linker::<()>::new(&engine);
    linker.define_unknown_imports_as_traps(&module).expect("linked");
    linker.allow_shadowing(true);
    linker
        .func_wrap(
            "wasi_snapshot_preview1",
            "fd_write",
            |mut caller: wasmtime::Caller<'_, ()>, _fd: i32, iovs: i32, _count: i32, written: i32| -> i32 {
                let memory =
                    caller.get_export("memory").and_then(wasmtime::Extern::into_memory).expect("memory");
                let mut word = [0; 4];
                memory.read(&caller, iovs as usize + 4, &mut word).expect("in bounds");
                memory.write(&mut caller, written as usize, &word).expect("in bounds");
                0
            },
        )
        .expect("linked");
    let mut store = wasmtime::Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &module).expect("instantiates");
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("a command");
    // `proc_exit` is a trap here: the end of the program either way
    let _ = start.call(&mut store, ());
}

/// kill -9 of the runner in the middle of an attempt: from the kill to the next attempt's beginning elsewhere.
async fn rerun_after_kill() {
    let pool = Pool::with(&["--workers", "3", "--slots", "1"]).await;
    let mut samples = Vec::new();
    for kill in 0..KILLS {
        // a module that crashes five runs in a day is quarantined: each is another one
        let module = pool.push(tagged(guest("misbehave.wasm"), kill)).await;
        let request =
            json!({"module": module, "args": ["loop"], "verify": {"policy": "once"}, "timeout_ms": 600_000});
        let (_, run) = pool.post("/v1/runs", &request).await;
        let id = run["id"].as_str().expect("an id").to_owned();
        let busy =
            eventually("a busy runner", async || pool.runners().into_iter().find(|pid| is_running(*pid)))
                .await;
        let begun = Instant::now();
        signal(busy, "KILL");
        eventually("the rerun begins", async || {
            pool.runners().into_iter().find(|pid| *pid != busy && is_running(*pid))
        })
        .await;
        samples.push(begun.elapsed());
        let _ = pool.post(&format!("/v1/runs/{id}/cancel"), &json!({})).await;
        eventually("it is quiet", async || (!pool.runners().into_iter().any(is_running)).then_some(())).await;
    }
    line(
        "kill -9 of a runner to the rerun's beginning",
        &millis(percentile(&mut samples, 50)),
        &format!("max {}", millis(percentile(&mut samples, 100))),
        "median; bound 20 ms (the poll itself sees it up to 5 ms late)",
    );
}

/// The same module under another name: with a custom section, which nobody reads.
fn tagged(mut module: Vec<u8>, tag: usize) -> Vec<u8> {
    let tag = u8::try_from(tag).expect("few");
    module.extend([0, 3, 1, b't', tag]);
    module
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('R'))
}

/// From the start of the process to `readyz`, with many stored runs, next to an empty folder.
async fn restart() {
    let empty = time_start(Pool::start().await).await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut pool = Pool::over(dir.path().join("data"), vec![], None).await;
    pool.stop();
    fill(&pool.data).await;
    let full = time_start(pool).await;
    line(
        "restart to serving, 100,000 stored runs",
        &millis(full),
        &format!("empty {}", millis(empty)),
        &format!("{:.2} of an empty one; bound 1 s", full.as_secs_f64() / empty.as_secs_f64()),
    );
}

async fn time_start(mut pool: Pool) -> Duration {
    pool.stop();
    let begun = Instant::now();
    pool.start_again();
    eventually("it is ready", async || (pool.get("/readyz").await.0 == 200).then_some(())).await;
    begun.elapsed()
}

async fn fill(data: &std::path::Path) {
    let store =
        SqliteStore::open(data, lockstep::store::sqlite::Options::default(), lockstep::store::Failure::new())
            .expect("it opens");
    let spec = Arc::new(RunSpec::new(Digest::EMPTY));
    let run_key = spec.key();
    for chunk in 0..STORED_RUNS / 1_000 {
        let mut writes = Vec::new();
        for index in 0..1_000 {
            let id = RunId(chunk * 1_000 + index + (7 << 76));
            let at = Time(1_700_000_000_000_000 + u64::try_from(id.0 & 0xff_ffff).expect("small"));
            writes.push(RunWrite::Insert(Arc::new(NewRun {
                id,
                workspace: WorkspaceId::default(),
                epoch: lockstep::id::Epoch(1),
                spec: Arc::clone(&spec),
                run_key,
                policy: Policy::default(),
                created_at: at,
                idempotency: None,
                rerun_of: None,
                blobs: Vec::new(),
            })));
            writes.push(RunWrite::Finish(Box::new(FinalRun {
                record: Final {
                    run: id,
                    epoch: lockstep::id::Epoch(1),
                    revision: 1,
                    state: RunState::Succeeded,
                    reason: None,
                    outcome: Some(Outcome::Exited { code: 0 }),
                    verdict: Verdict::default(),
                    result: None,
                    votes: Vec::new(),
                    error_ppb: None,
                    attempts: Vec::new(),
                    explain: Arc::default(),
                    finished_at: at,
                    shared_with: None,
                },
                manifest: None,
                blobs: Vec::new(),
                dissents: Vec::new(),
                votes: Vec::new(),
                source: None,
                reusable: false,
                callback: None,
            })));
        }
        store.write_runs(Arc::new(writes)).await.expect("written");
    }
    store.close().await;
}

/// CPU time of the whole pool while nothing happens.
async fn idle() {
    let pool = Pool::start().await;
    let module = pool.push(guest("hello.wasm")).await;
    let _ = pool.run(json!({"module": module})).await;
    let total = || {
        let id = pool.child.id();
        std::iter::once(id).chain(children(id)).map(cpu_ticks).sum::<u64>()
    };
    let before = total();
    tokio::time::sleep(IDLE).await;
    let used = Duration::from_millis((total() - before) * 10);
    line(
        "idle, 3 workers, CPU time of all processes",
        &format!("{:.2} %", used.as_secs_f64() / IDLE.as_secs_f64() * 100.0),
        "one core",
        "bound 1 %",
    );
}
