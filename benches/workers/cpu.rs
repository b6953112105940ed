//! What the way to a remote worker costs in CPU time.
//!
//! All processes of a pool are counted, the clients are not. Where workers use TLS the clients do too, since there is one port,
//! and the coordinator's part of that is counted; so the reference for them is an embedded pool whose clients use TLS.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::history::{Client, IN_FLIGHT};
use crate::support::remote::Worker;
use crate::support::{Pool, children};
use crate::{Bench, busy_echo, crew_at, echoed, pool_of_remotes};

const WORKERS: usize = 2;
const ROUNDS: usize = 10;
/// Of each run: so little that a worker's memory does not bound what it holds.
const MEMORY: u64 = 8 << 20;
const OUTPUT: u64 = 1 << 20;
/// Each remote kind comes after the embedded one that it is compared with.
const KINDS: [&str; 4] = ["embedded", "plaintext", "embedded, HTTPS", "TLS"];

/// A pool and its processes.
struct Side {
    pool: Pool,
    client: Client,
    workers: Vec<Worker>,
    _dir: tempfile::TempDir,
}

impl Side {
    fn of(pool: Pool, workers: Vec<Worker>, dir: tempfile::TempDir) -> Side {
        Side { client: Client::new(&pool, &pool.url), pool, workers, _dir: dir }
    }

    /// CPU time of coordinator, workers and runners, in clock ticks (10 ms).
    fn ticks(&self) -> [u64; 3] {
        let coordinator = self.pool.child.id();
        let workers: Vec<u32> = self.workers.iter().map(Worker::pid).collect();
        let parents = workers.iter().chain([&coordinator]);
        let runners = parents.flat_map(|parent| children(*parent)).map(ticks_of).sum();
        [ticks_of(coordinator), workers.into_iter().map(ticks_of).sum(), runners]
    }
}

/// Of a process and what it has reaped.
fn ticks_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(4).filter_map(|text| text.parse::<u64>().ok()).sum()
}

/// Certificates of a CA of our own; the CA's file.
fn certificates(dir: &Path) -> String {
    let status = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["cert", "--json", "--out"])
        .arg(dir)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("it runs");
    assert!(status.success(), "certificates are made");
    path(dir, "ca.pem")
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("a plain path").to_owned()
}

async fn sides() -> [Side; KINDS.len()] {
    let count = WORKERS.to_string();
    let embedded = ["--workers", &count, "--slots", "1", "--worker-memory", "1GiB"];
    let [first, second, third, fourth] = std::array::from_fn(|_| tempfile::tempdir().expect("a folder"));
    let plain_embedded = Side::of(Pool::with(&embedded).await, vec![], first);
    let pool = pool_of_remotes(&[]).await;
    let workers = crew_at(&pool, &pool.url, second.path(), WORKERS, &[]).await;
    let plain = Side::of(pool, workers, second);
    let tls = fourth.path().join("tls");
    let ca = certificates(&tls);
    let (cert, key) = (path(&tls, "server.pem"), path(&tls, "server.key"));
    let keys = ["--tls-cert", &*cert, "--tls-key", &*key];
    let encrypted = |mut pool: Pool| {
        let trusted = lockstep::tls::client_config(Some(Path::new(&ca))).expect("a certificate");
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(trusted);
        pool.http = http.build().expect("a client");
        pool
    };
    let tls_embedded = Side::of(encrypted(Pool::with(&[&embedded[..], &keys].concat()).await), vec![], third);
    let pool = encrypted(pool_of_remotes(&keys).await);
    let workers = crew_at(&pool, &pool.url, fourth.path(), WORKERS, &["--ca", &ca]).await;
    [plain_embedded, plain, tls_embedded, Side::of(pool, workers, fourth)]
}

/// The same runs on each kind of pool, in turns.
pub async fn per_run(bench: &mut Bench) {
    let sides = sides().await;
    for (name, steps, runs) in
        [("a tiny run", 1, bench.runs / 4), ("a run of 5 ms", 3_500_000, bench.runs / 40)]
    {
        let per_round = (runs / ROUNDS).max(10);
        let mut used = [[0; 3]; KINDS.len()];
        let mut took = [Duration::ZERO; KINDS.len()];
        let mut modules = Vec::new();
        for side in &sides {
            modules.push(side.pool.push(busy_echo(steps)).await);
        }
        for round in 0..=ROUNDS {
            for turn in 0..KINDS.len() {
                let place = (round + turn) % KINDS.len();
                let side = &sides[place];
                let request = |key: &str| {
                    json!({"module": modules[place], "stdin": {"text": key}, "verify": {"policy": "once"},
                        "limits": {"memory_bytes": MEMORY, "output_bytes": OUTPUT, "file_bytes": OUTPUT}})
                };
                let (before, began) = (side.ticks(), Instant::now());
                let entries =
                    side.client.drive(&format!("cpu-{steps}-{round}"), per_round, request, echoed).await;
                // the first round warms up
                if round > 0 {
                    took[place] += began.elapsed();
                    for (used, (after, before)) in
                        used[place].iter_mut().zip(side.ticks().into_iter().zip(before))
                    {
                        *used += after - before;
                    }
                }
                let wrong = entries.iter().filter(|entry| !matches!(entry.seen, Some(Ok(())))).count();
                bench.must(wrong == 0, || format!("{}: {wrong} runs did not succeed", KINDS[place]));
            }
        }
        let parts =
            used.map(|parts| parts.map(|ticks| ticks as f64 * 10_000.0 / (per_round * ROUNDS) as f64));
        let micros = parts.map(|parts| parts.iter().sum::<f64>());
        for ((kind, [coordinator, workers, runners]), took) in KINDS.iter().zip(parts).zip(took) {
            let used = format!("{coordinator:.0}, {workers:.0}, {runners:.0} us");
            let speed = format!(
                "{:.0} runs/s, {IN_FLIGHT} at once",
                (per_round * ROUNDS) as f64 / took.as_secs_f64()
            );
            bench.line(&format!("CPU of {name}, {kind}: coordinator, workers, runners"), &used, &speed, "");
        }
        for place in [1, 3] {
            let ratio = micros[place] / micros[place - 1];
            bench.line(
                &format!("CPU of {name}, remote over {}, to embedded", KINDS[place]),
                &format!("{:.0} us", micros[place]),
                &format!("{} {:.0} us", KINDS[place - 1], micros[place - 1]),
                &format!("ratio {ratio:.2}, bound 1.3{}", if place == 3 { "" } else { " (for TLS)" }),
            );
        }
    }
}
