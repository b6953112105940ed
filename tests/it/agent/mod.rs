//! The agent with real runners: the binary's own `runner` role, real modules, real signals.

mod faults;
mod hostile;
mod results;

use std::collections::HashMap;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::agent::{AgentConfig, AgentHandle, Input, InputSource};
use lockstep::class::Classes;
use lockstep::compiler::{CompileLimits, Compiler, CompilerConfig};
use lockstep::core::Class;
use lockstep::digest::Digest;
use lockstep::id::{AttemptId, Epoch, RunId, WorkspaceId};
use lockstep::protocol::agent::{Assignment, FromAgent, ToAgent, VoteReport};
use lockstep::result::{Fault, Outcome, ResultManifest};
use lockstep::spec::RunSpec;

/// A command that does one thing according to its first argument's first letter.
const VERBS: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 4)
    (data (i32.const 1024) "hello\n")
    (func $write (param $at i32) (param $len i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $len))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
    (func $recurse (param $depth i32) (result i32)
        (i32.add (call $recurse (i32.add (local.get $depth) (i32.const 1))) (local.get $depth)))
    (func (export "_start") (local $verb i32) (local $count i32)
        (drop (call $args_get (i32.const 64) (i32.const 128)))
        ;; the second argument's pointer
        (local.set $verb (i32.load8_u (i32.load (i32.const 68))))
        ;; h: hello
        (if (i32.eq (local.get $verb) (i32.const 104)) (then (call $write (i32.const 1024) (i32.const 6))))
        ;; x: exit code 7
        (if (i32.eq (local.get $verb) (i32.const 120)) (then (call $exit (i32.const 7))))
        ;; t: trap
        (if (i32.eq (local.get $verb) (i32.const 116)) (then (unreachable)))
        ;; l: hello, then loop for ever
        (if (i32.eq (local.get $verb) (i32.const 108)) (then
            (call $write (i32.const 1024) (i32.const 6))
            (loop $l (br $l))))
        ;; b: 8 MiB of output
        (if (i32.eq (local.get $verb) (i32.const 98)) (then
            (loop $b
                (call $write (i32.const 65536) (i32.const 65536))
                (local.set $count (i32.add (local.get $count) (i32.const 1)))
                (br_if $b (i32.lt_u (local.get $count) (i32.const 128))))))
        ;; w: hello again and again, for ever
        (if (i32.eq (local.get $verb) (i32.const 119)) (then
            (loop $w
                (call $write (i32.const 1024) (i32.const 6))
                (local.set $count (i32.const 0))
                (loop $pause
                    (local.set $count (i32.add (local.get $count) (i32.const 1)))
                    (br_if $pause (i32.lt_u (local.get $count) (i32.const 3000000))))
                (br $w))))
        ;; r: recurse for ever
        (if (i32.eq (local.get $verb) (i32.const 114)) (then (drop (call $recurse (i32.const 0)))))
        ;; c: standard input to standard output
        (if (i32.eq (local.get $verb) (i32.const 99)) (then
            (loop $c
                (i32.store (i32.const 0) (i32.const 65536))
                (i32.store (i32.const 4) (i32.const 65536))
                (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (local.set $count (i32.load (i32.const 8)))
                (if (local.get $count) (then
                    (call $write (i32.const 65536) (local.get $count))
                    (br $c))))))))"#;

/// Blobs in memory, small ones inline and others as files.
#[derive(Default)]
struct Blobs(HashMap<Digest, Bytes>);

impl Blobs {
    fn add(&mut self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.0.insert(digest, bytes);
        digest
    }
}

#[async_trait]
impl InputSource for Blobs {
    async fn open(&self, digest: Digest) -> Result<Option<Input>, String> {
        let Some(bytes) = self.0.get(&digest) else { return Ok(None) };
        if bytes.len() < 10_000 {
            return Ok(Some(Input::Inline(bytes.clone())));
        }
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Ok(Some(Input::File(file, bytes.len() as u64)))
    }
}

fn compiler_at(dir: &Path) -> Compiler {
    let config = CompilerConfig {
        cache_dir: dir.join("artifacts"),
        cache_bytes_max: 1 << 30,
        exe: env!("CARGO_BIN_EXE_lockstep").into(),
        limits: CompileLimits::default(),
        concurrency: 2,
    };
    Compiler::new(config).unwrap()
}

/// An agent as a coordinator sees it.
struct Pool {
    agent: AgentHandle,
    verbs: Digest,
    next: u128,
    assigned: u64,
    /// The last grant.
    credits: (u32, u64),
    _dir: tempfile::TempDir,
}

impl Pool {
    async fn start(slots: u32) -> Pool {
        Pool::with(slots, Blobs::default(), |_| ()).await
    }

    async fn with(slots: u32, mut blobs: Blobs, adjust: impl FnOnce(&mut AgentConfig)) -> Pool {
        let dir = tempfile::tempdir().unwrap();
        let verbs = blobs.add(wat::parse_str(VERBS).unwrap());
        let exe = env!("CARGO_BIN_EXE_lockstep").into();
        let mut config =
            AgentConfig::new("test".into(), exe, slots, 1 << 30, Classes::alike(Class(Digest::EMPTY)));
        adjust(&mut config);
        let mut agent =
            lockstep::agent::start(config, Arc::new(blobs), Arc::new(compiler_at(dir.path()))).unwrap();
        let hello = agent.from.recv().await.unwrap();
        assert!(matches!(hello, FromAgent::Hello { slots: said, .. } if said == slots), "{hello:?}");
        Pool { agent, verbs, next: 0, assigned: 0, credits: (0, 0), _dir: dir }
    }

    fn spec(&self, verb: &str) -> RunSpec {
        let mut spec = RunSpec::new(self.verbs);
        spec.args.push(verb.to_owned());
        spec
    }

    async fn assign(&mut self, spec: RunSpec, adjust: impl FnOnce(&mut Assignment)) -> AttemptId {
        self.next += 1;
        self.assigned += 1;
        let attempt = AttemptId { run: RunId(self.next), number: 1 };
        let mut assignment = Assignment {
            attempt,
            epoch: Epoch(3),
            mac: [0; 32],
            nonce: [7; 16],
            workspace: WorkspaceId(0),
            run_key: spec.key(),
            spec: Arc::new(spec),
            inline: Arc::default(),
            timeout_ms: 60_000,
            live: false,
        };
        adjust(&mut assignment);
        self.agent.to.send(ToAgent::Assign(Box::new(assignment))).await.unwrap();
        attempt
    }

    async fn run(&mut self, verb: &str) -> AttemptId {
        let spec = self.spec(verb);
        self.assign(spec, |_| ()).await
    }

    /// The next thing that `wanted` takes; everything else but a wrong epoch is skipped.
    async fn hear<T>(&mut self, mut wanted: impl FnMut(FromAgent) -> Result<T, Box<FromAgent>>) -> T {
        let hear = async {
            loop {
                let message = self.agent.from.recv().await.expect("the agent lives");
                if let FromAgent::Credits { credits, received } = message {
                    self.credits = (credits, received);
                }
                let skipped = match wanted(message) {
                    Ok(found) => return found,
                    Err(skipped) => skipped,
                };
                let harmless = !matches!(*skipped, FromAgent::Faulted { .. } | FromAgent::Voted(_));
                assert!(harmless, "unexpected: {skipped:?}");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), hear).await.expect("it says so in time")
    }

    async fn vote(&mut self, attempt: AttemptId) -> Box<VoteReport> {
        let vote = self
            .hear(|message| match message {
                FromAgent::Voted(vote) => Ok(vote),
                other => Err(other.into()),
            })
            .await;
        assert_eq!((vote.attempt, vote.epoch, vote.nonce), (attempt, Epoch(3), [7; 16]));
        vote
    }

    async fn fault(&mut self, attempt: AttemptId) -> (Fault, Option<u64>, u64) {
        let (faulted, fault) = self
            .hear(|message| match message {
                FromAgent::Faulted { attempt, fault, begun_at_us, cpu_us, .. } => {
                    Ok((attempt, (fault, begun_at_us, cpu_us)))
                }
                other => Err(other.into()),
            })
            .await;
        assert_eq!(faulted, attempt, "{fault:?}");
        fault
    }

    /// The next so many attempts that it hands back, in their order.
    async fn returned(&mut self, count: usize) -> Vec<AttemptId> {
        let mut returned = Vec::new();
        while returned.len() < count {
            let attempt = self.hear(|message| match message {
                FromAgent::Returned { attempt, epoch } => {
                    assert_eq!(epoch, Epoch(3));
                    Ok(attempt)
                }
                other => Err(other.into()),
            });
            returned.push(attempt.await);
        }
        returned.sort();
        returned
    }

    /// Waits until the attempt's heartbeat says that it has begun.
    async fn begun(&mut self, attempt: AttemptId) -> u64 {
        self.hear(|message| match &message {
            FromAgent::Heartbeat(beats) => {
                let begun =
                    beats.iter().find(|beat| beat.attempt == attempt).and_then(|beat| beat.begun_at_us);
                begun.ok_or_else(|| message.into())
            }
            _ => Err(message.into()),
        })
        .await
    }

    async fn release(&mut self, attempt: AttemptId) {
        self.agent.to.send(ToAgent::Release(attempt)).await.unwrap();
    }

    /// Ends the agent and sees its runners end.
    async fn end(self) {
        drop(self.agent.to);
        tokio::time::timeout(Duration::from_secs(20), self.agent.ended).await.expect("it ends").unwrap();
    }
}

fn manifest(vote: &VoteReport) -> ResultManifest {
    assert_eq!(Digest::of(&vote.manifest), vote.result);
    serde_json::from_slice(&vote.manifest).unwrap()
}

fn outcome(vote: &VoteReport) -> Outcome {
    manifest(vote).outcome
}

fn stdout(vote: &VoteReport) -> Bytes {
    let wanted = manifest(vote).stdout.digest;
    vote.inline
        .iter()
        .find(|(digest, _)| *digest == wanted)
        .map(|(_, bytes)| bytes.clone())
        .unwrap_or_default()
}

/// Runner processes of this test process, with whether each is a zombie.
fn runners() -> Vec<(i32, bool)> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path().join("children");
        // A thread that has ended has no children.
        let children = std::fs::read_to_string(path).unwrap_or_default();
        for pid in children.split_whitespace() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let zombie = stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z');
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if zombie || command.contains("runner") {
                found.push((pid.parse().unwrap(), zombie));
            }
        }
    }
    found
}

/// The runner that computes: the one with the most CPU time.
fn busy_runner() -> i32 {
    let ticks = |pid: i32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    };
    runners().into_iter().max_by_key(|(pid, _)| ticks(*pid)).expect("a runner").0
}

fn kill(pid: i32, signal: rustix::process::Signal) -> bool {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).is_ok()
}

/// Whoever reaps it may be slow.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Whether the caller has this process for itself, because it counts processes or signals them. Otherwise the test runs
/// in one of its own, here and now.
fn alone(module: &str, test: &str) -> bool {
    const ROLE: &str = "LOCKSTEP_TEST_ALONE";
    let process_per_test =
        std::env::var("NEXTEST_EXECUTION_MODE").is_ok_and(|mode| mode == "process-per-test");
    if process_per_test || std::env::var_os(ROLE).is_some() {
        return true;
    }
    let name = format!("{}::{test}", module.split_once("::").unwrap().1);
    let exe = std::env::current_exe().unwrap();
    let output = std::process::Command::new(exe)
        .args(["--exact", &name, "--nocapture"])
        .env(ROLE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{words}");
    false
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn poll(mut done: impl FnMut() -> bool, otherwise: &str) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "{otherwise}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
