//! The agent with real runners: the binary's own `runner` role, real modules, real signals.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::agent::{AgentConfig, AgentHandle, Input, InputSource};
use lockstep::compiler::{CompileLimits, Compiler, CompilerConfig};
use lockstep::core::Class;
use lockstep::digest::Digest;
use lockstep::id::{AttemptId, Epoch, RunId, WorkspaceId};
use lockstep::protocol::agent::{Assignment, BlobBody, FromAgent, ToAgent, VoteReport};
use lockstep::result::{Fault, Outcome, ResultManifest, Trap};
use lockstep::spec::{FileInput, RunSpec};

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
        let mut config = AgentConfig::new("test".into(), exe, slots, 1 << 30, Class(Digest::EMPTY));
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

/// Runner processes of this test process, with whether each is a zombie. Tests share a process under `cargo test`,
/// so counting needs a test of its own process; under `cargo nextest` each has one.
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

#[tokio::test]
async fn hello_is_voted_with_its_output() {
    let mut pool = Pool::start(1).await;
    let attempt = pool.run("hello").await;
    let vote = pool.vote(attempt).await;
    assert_eq!(outcome(&vote), Outcome::Exited { code: 0 });
    assert_eq!(stdout(&vote), "hello\n");
    assert_eq!(vote.run_key, pool.spec("hello").key());
    assert_ne!(vote.artifact, pool.verbs);
    pool.end().await;
}

#[tokio::test]
async fn exit_codes_and_traps_are_outcomes_and_vote() {
    let mut pool = Pool::start(1).await;
    let exit = pool.run("x").await;
    assert_eq!(outcome(&*pool.vote(exit).await), Outcome::Exited { code: 7 });
    let trap = pool.run("t").await;
    assert_eq!(outcome(&*pool.vote(trap).await), Outcome::Trapped { trap: Trap::Unreachable });
    let recursion = pool.run("r").await;
    assert_eq!(outcome(&*pool.vote(recursion).await), Outcome::Trapped { trap: Trap::StackOverflow });
    let mut spec = pool.spec("l");
    spec.limits.fuel = Some(100_000);
    let fueled = pool.assign(spec, |_| ()).await;
    assert_eq!(outcome(&*pool.vote(fueled).await), Outcome::OutOfFuel);
}

#[tokio::test]
async fn every_vote_on_the_same_spec_is_the_same() {
    let mut pool = Pool::start(2).await;
    let attempts = [pool.run("hello").await, pool.run("hello").await];
    let mut votes = Vec::new();
    for _ in attempts {
        votes.push(
            pool.hear(|message| match message {
                FromAgent::Voted(vote) => Ok(vote),
                other => Err(other.into()),
            })
            .await,
        );
    }
    assert_eq!((votes[0].result, votes[0].artifact), (votes[1].result, votes[1].artifact));
    assert_ne!(votes[0].attempt, votes[1].attempt);
}

#[tokio::test]
async fn a_timeout_kills_the_runner_before_it_is_reported() {
    let mut pool = Pool::with(1, Blobs::default(), |config| config.spares = 0).await;
    let spec = pool.spec("loop");
    let started = Instant::now();
    let attempt = pool.assign(spec, |assignment| assignment.timeout_ms = 300).await;
    let (fault, begun_at, cpu_us) = pool.fault(attempt).await;
    assert_eq!(fault, Fault::TimedOut);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(begun_at.is_some());
    assert!(cpu_us > 0, "it looped");
    assert_eq!(runners(), [], "it is dead and reaped");
    let next = pool.run("hello").await;
    pool.vote(next).await;
}

#[tokio::test]
async fn a_killed_runner_is_known_at_once_and_replaced() {
    let mut pool = Pool::start(1).await;
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::SEGV] {
        let attempt = pool.run("loop").await;
        pool.begun(attempt).await;
        let (victim, killed) = (busy_runner(), Instant::now());
        // The engine's handler takes the first SIGSEGV that nothing caused for a mistake of its own, and steps aside.
        while kill(victim, signal) && is_alive(victim) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (fault, begun_at, _) = pool.fault(attempt).await;
        assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
        let signal = Some(signal.as_raw());
        assert!(matches!(&fault, Fault::Crashed { signal: by, .. } if *by == signal), "{fault:?}");
        assert!(begun_at.is_some());
        let next = pool.run("hello").await;
        pool.vote(next).await;
    }
}

#[tokio::test]
async fn an_aborted_attempt_is_killed_and_not_answered() {
    let mut pool = Pool::start(1).await;
    let attempt = pool.run("loop").await;
    pool.begun(attempt).await;
    let victim = busy_runner();
    pool.agent.to.send(ToAgent::Abort(attempt)).await.unwrap();
    // Anything that is said of the aborted one would be unexpected here.
    let next = pool.run("hello").await;
    pool.vote(next).await;
    assert!(!kill(victim, rustix::process::Signal::CONT) || runners().iter().all(|(pid, _)| *pid != victim));
}

#[tokio::test]
async fn attempts_behind_a_crash_are_not_blamed() {
    let mut pool = Pool::start(1).await;
    let crowd = [pool.run("loop").await, pool.run("hello").await, pool.run("x").await];
    pool.begun(crowd[0]).await;
    kill(busy_runner(), rustix::process::Signal::KILL);
    let (fault, ..) = pool.fault(crowd[0]).await;
    assert!(matches!(fault, Fault::Crashed { signal: Some(9), .. }), "{fault:?}");
    assert_eq!(stdout(&*pool.vote(crowd[1]).await), "hello\n");
    assert_eq!(outcome(&*pool.vote(crowd[2]).await), Outcome::Exited { code: 7 });
}

#[tokio::test]
async fn short_attempts_are_handed_ahead_and_taken_back_from_a_long_one() {
    let mut pool = Pool::start(1).await;
    for _ in 0..30 {
        let attempt = pool.run("hello").await;
        pool.vote(attempt).await;
        pool.release(attempt).await;
    }
    // The module is known as short now, so these are handed ahead; the first one deceives.
    let long = pool.run("loop").await;
    let others = [pool.run("hello").await, pool.run("x").await];
    pool.begun(long).await;
    kill(busy_runner(), rustix::process::Signal::KILL);
    let (fault, ..) = pool.fault(long).await;
    assert!(matches!(fault, Fault::Crashed { .. }), "{fault:?}");
    for attempt in others {
        pool.vote(attempt).await;
    }
}

#[tokio::test]
async fn credits_are_absolute_and_say_what_they_count() {
    let mut pool = Pool::start(2).await;
    let credits = |message| match message {
        FromAgent::Credits { credits, received } => Ok((credits, received)),
        other => Err(other.into()),
    };
    assert_eq!(pool.hear(credits).await, (2, 0));
    let attempt = pool.run("hello").await;
    pool.vote(attempt).await;
    assert_eq!(pool.hear(credits).await, (2, 1));
}

#[tokio::test]
async fn large_outputs_are_collected_from_the_file_in_which_they_were_left() {
    let mut pool = Pool::start(1).await;
    let attempt = pool.run("big").await;
    let vote = pool.vote(attempt).await;
    let output = manifest(&vote).stdout;
    assert_eq!(output.size, 8 << 20);
    assert!(vote.inline.is_empty());
    let digests = vec![output.digest, vote.result, Digest::of(b"unknown")];
    pool.agent.to.send(ToAgent::Collect { attempt, digests: digests.clone() }).await.unwrap();
    let blobs = |message| match message {
        FromAgent::Blobs { blobs, .. } => Ok(blobs),
        other => Err(other.into()),
    };
    let mut found = BTreeMap::new();
    for (digest, body) in pool.hear(blobs).await {
        let bytes = match body {
            BlobBody::Inline(bytes) => bytes,
            BlobBody::File { file, offset, size } => {
                let mut bytes = vec![0; size as usize];
                file.read_exact_at(&mut bytes, offset).unwrap();
                bytes.into()
            }
        };
        found.insert(digest, bytes);
    }
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|(digest, bytes)| Digest::of(bytes) == *digest));
    pool.release(attempt).await;
    pool.agent.to.send(ToAgent::Collect { attempt, digests }).await.unwrap();
    assert_eq!(pool.hear(blobs).await.len(), 0, "they were released");
}

#[tokio::test]
async fn an_agent_whose_outputs_wait_for_collection_takes_no_work() {
    let mut pool = Pool::with(1, Blobs::default(), |config| config.outputs_bytes_max = 1 << 20).await;
    let first = pool.run("big").await;
    pool.vote(first).await;
    let second = pool.run("hello").await;
    let (fault, ..) = pool.fault(second).await;
    assert!(matches!(fault, Fault::Refused { .. }), "{fault:?}");
    pool.release(first).await;
    let third = pool.run("hello").await;
    pool.vote(third).await;
}

#[tokio::test]
async fn inputs_reach_the_guest_whatever_their_size() {
    for size in [0, 10, 9_000, 100_000, 3_000_000] {
        let input: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let mut blobs = Blobs::default();
        let digest = blobs.add(input.clone());
        let mut pool = Pool::with(1, blobs, |_| ()).await;
        let mut spec = pool.spec("copy");
        spec.stdin = digest;
        let attempt = pool.assign(spec.clone(), |_| ()).await;
        let fetched = pool.vote(attempt).await;
        assert_eq!(manifest(&fetched).stdout.digest, digest, "{size} bytes");
        let given = Arc::new(BTreeMap::from([(digest, Bytes::from(input))]));
        let attempt = pool.assign(spec, |assignment| assignment.inline = given).await;
        assert_eq!(pool.vote(attempt).await.result, fetched.result);
    }
}

#[tokio::test]
async fn as_many_input_files_as_a_run_may_have_are_handed_over() {
    let mut blobs = Blobs::default();
    let mut files = BTreeMap::new();
    for number in 0..lockstep::spec::FILES_MAX {
        // Every fourth is too large to be inline.
        let size = if number % 4 == 0 { 10_001 } else { 100 };
        let digest = blobs.add(format!("{number:>size$}"));
        files.insert(format!("/data/{number}").parse().unwrap(), FileInput::Blob(digest));
    }
    let mut pool = Pool::with(1, blobs, |_| ()).await;
    let mut spec = pool.spec("hello");
    spec.files = files;
    let attempt = pool.assign(spec, |_| ()).await;
    assert_eq!(outcome(&*pool.vote(attempt).await), Outcome::Exited { code: 0 });
}

#[tokio::test]
async fn what_is_missing_or_damaged_is_refused_and_nothing_has_begun() {
    let mut pool = Pool::start(1).await;
    let mut absent = pool.spec("copy");
    absent.stdin = Digest::of(b"absent");
    let mut no_module = pool.spec("hello");
    no_module.module = Digest::of(b"no module");
    let mut no_entry = pool.spec("hello");
    no_entry.entry = "nothing".into();
    for spec in [absent, no_module, no_entry] {
        let attempt = pool.assign(spec, |_| ()).await;
        let (fault, begun_at, _) = pool.fault(attempt).await;
        assert!(matches!(fault, Fault::Refused { .. }), "{fault:?}");
        assert_eq!(begun_at, None);
    }
    let mut damaged = pool.spec("copy");
    damaged.stdin = Digest::of(b"right");
    let inline = Arc::new(BTreeMap::from([(damaged.stdin, Bytes::from_static(b"wrong"))]));
    let attempt = pool.assign(damaged, |assignment| assignment.inline = inline).await;
    assert!(matches!(pool.fault(attempt).await.0, Fault::Refused { .. }));
    let next = pool.run("hello").await;
    pool.vote(next).await;
}

#[tokio::test]
async fn output_is_heard_as_it_comes_from_the_beginning_or_later() {
    let mut pool = Pool::start(1).await;
    for from_the_beginning in [true, false] {
        let spec = pool.spec("write for ever");
        let attempt = pool.assign(spec, |assignment| assignment.live = from_the_beginning).await;
        if !from_the_beginning {
            pool.begun(attempt).await;
            pool.agent.to.send(ToAgent::Watch(attempt)).await.unwrap();
        }
        let mut position = None;
        while position.is_none_or(|position| position < 60) {
            let (of, offset, bytes) = pool
                .hear(|message| match message {
                    FromAgent::Live { attempt, is_stderr: false, offset, bytes } => {
                        Ok((attempt, offset, bytes))
                    }
                    other => Err(other.into()),
                })
                .await;
            assert_eq!(of, attempt);
            if from_the_beginning && position.is_none() {
                assert_eq!(offset, 0);
            }
            assert!(position.is_none_or(|position| position <= offset));
            let expected = b"hello\n".iter().cycle().skip((offset % 6) as usize);
            assert!(bytes.iter().eq(expected.take(bytes.len())), "{bytes:?}");
            position = Some(offset + bytes.len() as u64);
        }
        pool.agent.to.send(ToAgent::Abort(attempt)).await.unwrap();
    }
}

#[tokio::test]
async fn all_of_a_watched_short_attempts_output_is_heard_before_its_vote() {
    let mut pool = Pool::start(1).await;
    let spec = pool.spec("hello");
    let attempt = pool.assign(spec, |assignment| assignment.live = true).await;
    let live = |message| match message {
        FromAgent::Live { bytes, .. } => Ok(bytes),
        other => Err(other.into()),
    };
    assert_eq!(pool.hear(live).await, "hello\n");
    pool.vote(attempt).await;
}

#[tokio::test]
async fn a_drain_lets_work_end_and_then_closes() {
    let mut pool = Pool::start(1).await;
    let attempt = pool.run("hello").await;
    pool.agent.to.send(ToAgent::Drain { within_ms: 60_000 }).await.unwrap();
    pool.vote(attempt).await;
    let late = pool.run("hello").await;
    assert_eq!(pool.fault(late).await.0, Fault::Drained);
    pool.release(attempt).await;
    pool.hear(|message| if matches!(message, FromAgent::Drained) { Ok(()) } else { Err(message.into()) })
        .await;
    assert!(pool.agent.from.recv().await.is_none());
    pool.end().await;
}

#[tokio::test]
async fn what_a_drain_does_not_wait_for_is_handed_back() {
    let mut pool = Pool::start(1).await;
    let running = pool.run("loop").await;
    pool.begun(running).await;
    let waiting = pool.run("hello").await;
    pool.agent.to.send(ToAgent::Drain { within_ms: 50 }).await.unwrap();
    let mut drained = Vec::new();
    for _ in 0..2 {
        let found = pool
            .hear(|message| match message {
                FromAgent::Faulted { attempt, fault: Fault::Drained, .. } => Ok(attempt),
                other => Err(other.into()),
            })
            .await;
        drained.push(found);
    }
    drained.sort();
    assert_eq!(drained, [running, waiting]);
    pool.hear(|message| if matches!(message, FromAgent::Drained) { Ok(()) } else { Err(message.into()) })
        .await;
    assert_eq!(runners(), []);
}

#[tokio::test]
async fn a_runner_serves_one_workspace() {
    let mut pool = Pool::with(1, Blobs::default(), |config| config.parked_max = 1).await;
    let mut seen = BTreeMap::new();
    for workspace in [0, 1, 0, 2, 0] {
        let spec = pool.spec("loop");
        let attempt = pool.assign(spec, |assignment| assignment.workspace = WorkspaceId(workspace)).await;
        pool.begun(attempt).await;
        let before = seen.insert(busy_runner(), workspace);
        assert!(before.is_none_or(|before| before == workspace), "{seen:?}");
        pool.agent.to.send(ToAgent::Abort(attempt)).await.unwrap();
    }
    let parked = pool.run("hello").await;
    pool.vote(parked).await;
}

#[tokio::test]
async fn two_hundred_runs_leave_no_process_and_no_descriptor() {
    let mut pool = Pool::start(2).await;
    let mut after_ten = 0;
    for number in 0..200 {
        let verb = ["hello", "x", "t", "big"][number % 4];
        let attempt = pool.run(verb).await;
        pool.vote(attempt).await;
        pool.release(attempt).await;
        if number == 10 {
            after_ten = descriptors();
        }
    }
    // The last outputs may still be on their way out.
    poll(|| descriptors() <= after_ten, "descriptors are left").await;
    let left = runners();
    assert!(left.len() <= 4 && left.iter().all(|(_, zombie)| !zombie), "{left:?}");
    pool.end().await;
    assert_eq!(runners(), []);
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

#[tokio::test]
async fn a_program_that_is_no_runner_is_refused_and_not_started_for_ever() {
    let mut pool = Pool::with(1, Blobs::default(), |config| config.exe = "/bin/false".into()).await;
    let attempt = pool.run("hello").await;
    let (fault, begun_at, _) = pool.fault(attempt).await;
    assert!(matches!(&fault, Fault::Refused { detail } if detail.contains("exit code 1")), "{fault:?}");
    assert_eq!(begun_at, None);
    pool.end().await;
}

#[tokio::test]
async fn the_agent_ends_when_nobody_listens() {
    let pool = Pool::start(1).await;
    drop(pool.agent.from);
    tokio::time::timeout(Duration::from_secs(20), pool.agent.ended).await.expect("it ends").unwrap();
    assert_eq!(runners(), []);
}

const HELPER: &str = "LOCKSTEP_TEST_HELPER";

/// The process that is killed: it has one runner that computes and one that waits, says so, and waits itself.
async fn helper() {
    let mut pool = Pool::start(1).await;
    let attempt = pool.run("loop").await;
    pool.begun(attempt).await;
    for (pid, _) in runners() {
        println!("runner {pid}");
    }
    println!("runner end");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn runners_die_with_their_agent() {
    if std::env::var_os(HELPER).is_some() {
        return helper().await;
    }
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "agent::runners_die_with_their_agent", "--nocapture"])
        .env(HELPER, "1")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = {
        use tokio::io::AsyncBufReadExt as _;
        tokio::io::BufReader::new(parent.stdout.take().unwrap()).lines()
    };
    let mut pids = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.strip_prefix("runner ").map(str::parse::<i32>) {
            Some(Ok(pid)) => pids.push(pid),
            Some(Err(_)) => break,
            None => {}
        }
    }
    assert!(pids.len() >= 2, "one that computes and a spare: {pids:?}");
    parent.kill().await.unwrap();
    poll(|| !pids.iter().any(|pid| is_alive(*pid)), "a runner lives on").await;
}

#[test]
fn the_jail_of_this_machine_refuses_what_it_must() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["runner", "--self-test"])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert!(report.contains("compute: allowed") && report.contains("open a file: refused"), "{report}");
    assert!(report.contains("make a socket: refused") && report.contains("start a program: refused"));
}

#[test]
fn a_runner_that_no_agent_started_ends() {
    let runner = |argument: &str| {
        let socket = File::open("/dev/null").unwrap();
        std::process::Command::new(env!("CARGO_BIN_EXE_lockstep"))
            .args(["runner", argument])
            .stdin(socket)
            .output()
            .unwrap()
    };
    for argument in ["", "nonsense", "1", &std::process::id().to_string()] {
        assert!(!runner(argument).status.success(), "{argument}");
    }
}
