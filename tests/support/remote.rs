//! Worker processes for tests and benchmarks, and what a pool says of them.

#![expect(clippy::unwrap_used, reason = "what cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Pool, eventually, signal};

/// A worker process.
pub struct Worker {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    /// Its number in the pool.
    pub id: String,
}

fn follow(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if std::env::var_os("LOCKSTEP_TEST_LOG").is_some() {
                eprintln!("worker: {line}");
            }
            let mut text = shared.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

impl Worker {
    /// Starts one over a folder, without waiting for anything.
    pub fn spawn(url: &str, data: &Path, args: &[&str]) -> Worker {
        Worker::spawn_under(&[], &[], url, data, args)
    }

    /// The same as the arguments of another command, which becomes it.
    pub fn spawn_under(
        prefix: &[&str],
        environment: &[(&str, &str)],
        url: &str,
        data: &Path,
        args: &[&str],
    ) -> Worker {
        let line = [prefix, &[env!("CARGO_BIN_EXE_lockstep")]].concat();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).env_clear().envs(environment.iter().copied());
        command.arg("worker").args(["--coordinator", url, "--slots", "1", "--memory", "1GiB"]);
        command.arg("--data").arg(data).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = follow(child.stdout.take().unwrap());
        let stderr = follow(child.stderr.take().unwrap());
        Worker { child, stdout, stderr, id: String::new() }
    }

    /// Starts one and waits until it has joined.
    pub async fn join(url: &str, data: &Path, args: &[&str]) -> Worker {
        let mut worker = Worker::spawn(url, data, args);
        worker.id = worker.joined().await;
        worker
    }

    /// Waits until it says its number.
    pub async fn joined(&self) -> String {
        eventually("a worker joins", async || {
            let stdout = self.stdout.lock().unwrap().clone();
            let first = stdout.lines().next()?;
            Some(first.strip_prefix("Worker ")?.split(' ').next()?.to_owned())
        })
        .await
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for its end, and until all that it said is there.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = eventually("a worker ends", async || self.child.try_wait().unwrap()).await;
        // whoever reads along lets go of the text at its end
        let is_read = || [&self.stdout, &self.stderr].into_iter().all(|text| Arc::strong_count(text) == 1);
        eventually("its last words are read", async || is_read().then_some(())).await;
        status
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A pool without workers of its own, with quick timings.
pub async fn empty_pool(settings: &[&str]) -> Pool {
    let mut args = vec!["--workers", "0", "--set", "heartbeat=100ms"];
    args.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
    Pool::with(&args).await
}

/// A token that lets workers in.
pub async fn worker_token(pool: &Pool) -> String {
    let (status, token) =
        pool.post("/v1/tokens", &json!({"name": "workers", "scopes": ["worker"], "owned": true})).await;
    assert_eq!(status, 201, "{token}");
    token["secret"].as_str().unwrap().to_owned()
}

/// So many workers with folders below `dir`, joined.
pub async fn crew(pool: &Pool, dir: &Path, kinds: &[&[&str]]) -> Vec<Worker> {
    let token = worker_token(pool).await;
    let mut workers = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let name = format!("worker-{number}");
        let args = [&["--token", &token, "--name", &name], *kind].concat();
        workers.push(Worker::spawn(&pool.url, &dir.join(number.to_string()), &args));
    }
    for worker in &mut workers {
        worker.id = worker.joined().await;
    }
    ready(pool, workers.len()).await;
    workers
}

/// Waits until so many workers get work.
pub async fn ready(pool: &Pool, count: usize) {
    eventually(&format!("{count} workers are active"), async || {
        let (_, workers) = pool.get("/v1/workers").await;
        let active = |worker: &&Value| worker["standing"] == "active" && worker["credits"].as_u64() > Some(0);
        (workers["items"].as_array()?.iter().filter(active).count() == count).then_some(())
    })
    .await;
}

/// A worker as the API shows it.
pub async fn shown(pool: &Pool, id: &str) -> Value {
    let (_, workers) = pool.get("/v1/workers").await;
    workers["items"].as_array().unwrap().iter().find(|worker| worker["id"] == id).cloned().unwrap_or_default()
}

/// Submits a run without waiting for it; its id.
pub async fn submitted(pool: &Pool, request: &Value) -> String {
    let (status, run) = pool.post("/v1/runs", request).await;
    assert!(status == 201 || status == 202, "{status} {run}");
    run["id"].as_str().unwrap().to_owned()
}

/// Waits until an attempt of a run has begun, and tells who holds it.
pub async fn begun(pool: &Pool, run: &str) -> String {
    eventually("an attempt begins", async || {
        let (_, run) = pool.get(&format!("/v1/runs/{run}")).await;
        let attempts = run["attempts"].as_array()?;
        let begun = attempts.iter().find(|attempt| attempt["state"] == "begun")?;
        Some(begun["worker"].as_str()?.to_owned())
    })
    .await
}

/// A figure of `/metrics`.
pub async fn figure(pool: &Pool, name: &str) -> u64 {
    let text = pool.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// What a run says of itself.
pub fn texts(run: &Value) -> String {
    let entries = run["explain"].as_array().unwrap();
    entries.iter().map(|entry| entry["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// A run that takes a second or two and needs one worker.
pub fn busy(module: &str) -> Value {
    json!({"module": module, "args": ["work", "200000000"], "verify": {"policy": "once"}, "timeout_ms": 120_000})
}
