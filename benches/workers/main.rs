//! Workers elsewhere: what their deaths, silences and lies cost, each figure beside a reference measured in the same run.
//!
//! `cargo bench --bench workers` prints a line per figure; names after `--` choose some: `kills`, `silence`, `restart`, `cpu`,
//! `liar`. `LOCKSTEP_BENCH_RUNS` (20,000) scales all of them. It ends with an error if a run was lost, doubled, wrong or
//! stuck, if a restart did not keep what ran, or if a liar was not caught; times are printed with their bounds only, because
//! machines differ.

#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

mod cpu;
mod faults;
mod history;
mod liar;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use support::remote::{Worker, ready, worker_token};
use support::{Pool, wat};

/// What every figure has.
struct Bench {
    /// Runs of the largest figure.
    runs: usize,
    broken: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let runs = std::env::var("LOCKSTEP_BENCH_RUNS").map_or(20_000, |text| text.parse().expect("a number"));
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|given| given == name);
    let mut bench = Bench { runs, broken: Vec::new() };
    println!("{:<62} {:>16} {:>30}  bound", "figure", "value", "reference");
    if wanted("kills") {
        faults::kills(&mut bench).await;
    }
    if wanted("silence") {
        faults::silence(&mut bench).await;
    }
    if wanted("restart") {
        faults::restart(&mut bench).await;
    }
    if wanted("cpu") {
        cpu::per_run(&mut bench).await;
    }
    if wanted("liar") {
        liar::outvoted(&mut bench).await;
    }
    for broken in &bench.broken {
        eprintln!("BROKEN: {broken}");
    }
    if bench.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Bench {
    fn line(&self, figure: &str, value: &str, reference: &str, bound: &str) {
        println!("{figure:<62} {value:>16} {reference:>30}  {bound}");
    }

    /// A figure that must hold, whatever the machine.
    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(what());
        }
    }

    fn history(&mut self, figure: &str, findings: &history::Findings, during: &str) {
        let history::Findings { runs, lost, doubled, wrong, stuck, slowest_again, .. } = findings;
        self.line(
            &format!("{figure}: lost, doubled, wrong, stuck"),
            &format!("{lost}, {doubled}, {wrong}, {stuck}"),
            &format!("{runs} runs, {during}"),
            &format!("each 0; asked again, an answer took {} at most", millis(*slowest_again)),
        );
        self.must(findings.is_clean(), || format!("{figure}: {findings:?}"));
    }
}

fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100]
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// A command that is busy for so many steps (1 to 2 ns each) and then copies its standard input to its output.
fn busy_echo(steps: u64) -> Vec<u8> {
    wat(&format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $left i64) (local $x i64)
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $left (i64.const {steps}))
    (loop $again
      (local.set $x (i64.add
        (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br_if $again (i64.ne (local.get $left) (i64.const 0))))
    (i64.store (i32.const 16) (local.get $x))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    ))
}

/// A run of [`busy_echo`] under `quorum: n`, which answers with its key.
fn echo(module: &str, key: &str, n: u64) -> Value {
    json!({"module": module, "stdin": {"text": key}, "verify": {"policy": "quorum", "n": n}, "timeout_ms": 60_000})
}

/// Whether a run ended as an honest pool lets it end: its own input comes back, on the votes of distinct workers.
fn echoed(key: &str, run: &Value) -> Result<(), String> {
    let voted =
        run["attempts"].as_array().into_iter().flatten().filter(|attempt| attempt["state"] == "voted");
    let mut voters: Vec<&str> = voted.filter_map(|attempt| attempt["worker"].as_str()).collect();
    let votes = voters.len();
    voters.sort_unstable();
    voters.dedup();
    let is_right = run["state"] == "succeeded" && run["stdout"]["text"] == key && run["revision"] == 1;
    if is_right && voters.len() == votes { Ok(()) } else { Err(format!("unexpected: {run}")) }
}

/// So many workers that join at `url`, the i-th over the folder `i` below `dir`.
async fn crew_at(pool: &Pool, url: &str, dir: &Path, count: usize, more: &[&str]) -> Vec<Worker> {
    let token = worker_token(pool).await;
    let args = [&["--token", &token][..], more].concat();
    let mut workers: Vec<Worker> =
        (0..count).map(|number| Worker::spawn(url, &dir.join(number.to_string()), &args)).collect();
    for worker in &mut workers {
        worker.id = worker.joined().await;
    }
    ready(pool, count).await;
    workers
}

/// A pool without workers of its own and with the timings that users have.
async fn pool_of_remotes(more: &[&str]) -> Pool {
    Pool::with(&[&["--workers", "0"], more].concat()).await
}
