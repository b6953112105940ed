//! Real deaths of real processes: each costs exactly its own attempt, is explained, and leaves nothing behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    Pool, children, command_line, cpu_ticks, eventually, guest, is_running, signal, status_bytes, wat,
};

/// Computes for a while, then takes 256 MiB and touches every page of it.
const COMPUTES_THEN_TAKES: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start") (local $i i64) (local $at i32)
    (loop $compute
      (local.set $i (i64.add (local.get $i) (i64.const 1)))
      (br_if $compute (i64.lt_u (local.get $i) (i64.const 4000000000))))
    (if (i32.eq (memory.grow (i32.const 4096)) (i32.const -1)) (then (unreachable)))
    (local.set $at (i32.const 65536))
    (loop $touch
      (i32.store8 (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $touch (i32.lt_u (local.get $at) (i32.const 268435456))))))"#;

/// Submits a run that is not waited for; its id.
async fn submit(pool: &Pool, request: &Value) -> String {
    let (status, run) = pool.post("/v1/runs", request).await;
    assert_eq!(status, 201, "{run}");
    run["id"].as_str().expect("an id").to_owned()
}

/// The runner that has computed for 300 ms by now: longer than one takes to start.
async fn computing(pool: &Pool) -> u32 {
    eventually("a runner computes", async || {
        let busy = pool.busiest_runner()?;
        (cpu_ticks(busy) >= 30).then_some(busy)
    })
    .await
}

fn explained(run: &Value, words: &str) -> bool {
    let entries = run["explain"].as_array().expect("an explain log");
    entries.iter().any(|entry| entry["text"].as_str().is_some_and(|text| text.contains(words)))
}

/// A run of which one attempt met a fault and the next one, elsewhere, did it.
fn rerun_elsewhere(run: &Value, fault: &str) -> Value {
    assert_eq!(run["state"], "succeeded", "{run}");
    let attempts = run["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 2, "{run}");
    assert_eq!((&attempts[0]["state"], &attempts[0]["fault"]["kind"]), (&json!("faulted"), &json!(fault)));
    assert_eq!(attempts[1]["state"], "voted", "{run}");
    assert_ne!(attempts[0]["worker"], attempts[1]["worker"], "{run}");
    attempts[0]["fault"].clone()
}

/// A memory cgroup with a bound, by whichever version this machine has.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(bytes: u64) -> Result<Cgroup, String> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("lockstep-test-{}", std::process::id());
        let put = |path: &Path, text: &str| {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        let (folder, bound) = if root.join("cgroup.controllers").exists() {
            put(&root.join("cgroup.subtree_control"), "+memory")?;
            (root.join(name), "memory.max")
        } else {
            (root.join("memory").join(name), "memory.limit_in_bytes")
        };
        std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let group = Cgroup(folder);
        put(&group.0.join(bound), &bytes.to_string())?;
        // without swap, if that can be said here
        let _ = std::fs::write(group.0.join("memory.swap.max"), "0");
        let _ = std::fs::write(group.0.join("memory.swappiness"), "0");
        Ok(group)
    }

    fn take(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("the process can be moved");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // it goes once the process that died in it is reaped, which the pool sees to
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// A pool in which nothing but a fault leads to a second attempt.
async fn unhedged() -> Pool {
    Pool::with(&["--workers", "3", "--slots", "1", "--set", "hedge_permille=0"]).await
}

#[tokio::test]
async fn the_kernels_out_of_memory_killer_costs_one_attempt() {
    let group = match Cgroup::new(64 << 20) {
        Ok(group) => group,
        Err(why) => {
            eprintln!("\n!!! SKIPPED: no memory cgroup can be made here, so nothing was tested: {why}\n");
            return;
        }
    };
    let pool = unhedged().await;
    let module = pool.push(wat(COMPUTES_THEN_TAKES)).await;
    let request = json!({"module": module, "verify": {"policy": "once"}, "timeout_ms": 120_000,
        "limits": {"memory_bytes": 512 << 20}});
    let id = submit(&pool, &request).await;
    let victim = computing(&pool).await;
    assert!(status_bytes(victim, "VmRSS") < 200 << 20, "it has not taken its memory yet");
    group.take(victim);
    let run = pool.finished(&id).await;
    let fault = rerun_elsewhere(&run, "crashed");
    assert_eq!(fault["signal"], 9, "{run}");
    assert!(explained(&run, "signal 9"), "{run}");
    assert_eq!(pool.get("/healthz").await.0, 200);
    assert!(!is_running(victim));
}

#[tokio::test]
async fn a_segmentation_fault_costs_one_attempt() {
    let pool = unhedged().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let request = json!({"module": module, "args": ["work", "1000000000"], "verify": {"policy": "once"},
        "timeout_ms": 120_000});
    let id = submit(&pool, &request).await;
    let victim = computing(&pool).await;
    // the engine's handler takes the first one that nothing caused for a mistake of its own, and steps aside
    eventually("it is dead", async || {
        signal(victim, "SEGV");
        (!is_running(victim)).then_some(())
    })
    .await;
    let run = pool.finished(&id).await;
    assert_eq!(rerun_elsewhere(&run, "crashed")["signal"], 11, "{run}");
    assert!(explained(&run, "signal 11"), "{run}");
}

#[tokio::test]
async fn a_runner_that_is_stopped_is_killed_at_the_timeout() {
    let pool = unhedged().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let request = json!({"module": module, "args": ["work", "500000000"], "verify": {"policy": "once"},
        "timeout_ms": 20_000});
    let id = submit(&pool, &request).await;
    let victim = computing(&pool).await;
    signal(victim, "STOP");
    let run = pool.finished(&id).await;
    rerun_elsewhere(&run, "timed_out");
    assert!(explained(&run, "timeout"), "{run}");
    assert!(!is_running(victim), "a stopped process is killed too");
}

/// Every process below another one.
fn descendants(pid: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut pending = vec![pid];
    while let Some(next) = pending.pop() {
        pending.extend(children(next).into_iter().filter(|child| found.insert(*child)));
    }
    found
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files_below(&path)),
            path => found.push(path),
        }
    }
    found
}

/// Files that are only there while something is being written.
fn temporary(data: &Path) -> Vec<PathBuf> {
    let is_temporary = |path: &PathBuf| {
        let text = path.to_string_lossy();
        text.contains("incoming") || text.contains("temporary-")
    };
    files_below(data).into_iter().filter(is_temporary).collect()
}

#[tokio::test]
async fn killing_the_coordinator_leaves_no_process_and_its_next_start_no_temporary_file() {
    let mut pool = unhedged().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    for _ in 0..3 {
        submit(&pool, &json!({"module": module, "args": ["loop"], "timeout_ms": 120_000})).await;
    }
    // a compilation that takes long, and an upload that is half way
    let bomb = crate::compiler::many_live_locals(15_000);
    let compiling = pool.request(Method::POST, "/v1/modules").body(bomb);
    let compiling = tokio::spawn(compiling.send());
    let mut upload = tokio::net::TcpStream::connect(pool.address()).await.expect("it listens");
    let head = format!(
        "POST /v1/blobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 10000000\r\n\r\n",
        pool.token
    );
    upload.write_all(head.as_bytes()).await.expect("written");
    upload.write_all(&vec![7; 3_000_000]).await.expect("written");
    let family = eventually("runners and a compiler are at work", async || {
        let family = descendants(pool.child.id());
        let with = |role: &str| family.iter().filter(|pid| command_line(**pid).contains(role)).count();
        (with(" runner ") >= 3 && with(" compiler ") >= 1 && temporary(&pool.data).len() >= 2)
            .then_some(family)
    })
    .await;

    pool.kill();
    let before = temporary(&pool.data);
    assert!(before.len() >= 2, "an upload and an artifact are half done: {before:?}");
    drop(upload);
    drop(compiling.await);
    eventually("everybody is gone", async || family.iter().all(|pid| !is_running(*pid)).then_some(())).await;

    pool.start_again();
    eventually("the temporary files of the earlier life are gone", async || {
        before.iter().all(|path| !path.exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn many_deaths_leave_no_zombie_and_no_descriptor() {
    let pool = Pool::with(&["--workers", "2", "--slots", "2"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let server = pool.child.id();
    let descriptors = || std::fs::read_dir(format!("/proc/{server}/fd")).expect("it lives").count();
    // each of these kills a runner for each attempt
    let round = async |count: usize| {
        let request = json!({"module": module, "args": ["loop"], "verify": {"policy": "once"},
            "timeout_ms": 20, "attempts_max": 2});
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(submit(&pool, &request).await);
        }
        for id in ids {
            let run = pool.finished(&id).await;
            assert_eq!(run["reason"], "timed_out", "{run}");
            assert_eq!(run["attempts"].as_array().map(Vec::len), Some(2), "{run}");
        }
    };
    round(20).await;
    let runners = pool.runners().len();
    let before = descriptors();
    round(80).await;
    eventually("the descriptors of the dead are closed", async || {
        (descriptors() <= before + 4).then_some(())
    })
    .await;
    let zombies: Vec<u32> = children(server).into_iter().filter(|pid| !is_running(*pid)).collect();
    eventually("the dead are reaped", async || {
        zombies.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
    assert!(pool.runners().len() <= runners + 4, "{runners} before, {:?} now", pool.runners());
}

#[tokio::test]
async fn long_runs_never_wait_behind_a_long_one_while_another_slot_is_free() {
    let pool = Pool::with(&["--workers", "2", "--slots", "1"]).await;
    let hello = pool.push(guest("hello.wasm")).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let once = json!({"policy": "once"});
    // now each worker takes several ahead, because everything that it knows is short
    for _ in 0..60 {
        pool.run(json!({"module": hello, "verify": once})).await;
    }
    let endless = json!({"module": module, "args": ["loop"], "verify": once, "timeout_ms": 600_000});
    let first = submit(&pool, &endless).await;
    let mut others = Vec::new();
    for number in 0..8 {
        let args = json!(["work", "50000000", number.to_string()]);
        others.push(submit(&pool, &json!({"module": module, "args": args, "verify": once})).await);
    }
    // all of them end, though the first never does and some were handed to its worker at first
    for id in &others {
        let run = tokio::time::timeout(Duration::from_secs(60), pool.finished(id)).await.expect("in time");
        assert_eq!(run["state"], "succeeded", "{run}");
        assert_eq!(run["attempts"].as_array().map(Vec::len), Some(1), "what was handed back is none: {run}");
    }
    let (_, run) = pool.get(&format!("/v1/runs/{first}")).await;
    assert_eq!(run["state"], "running", "{run}");
    let (_, workers) = pool.get("/v1/workers").await;
    for worker in workers["items"].as_array().expect("workers") {
        assert_eq!(worker["faults"], 0, "{worker}");
    }
    pool.post(&format!("/v1/runs/{first}/cancel"), &json!({})).await;
}
