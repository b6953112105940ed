//! A runner that was taken over by its guest: what it says and writes may cost its own attempt, never its agent.
//!
//! The runner here is this very test, started as the agent starts a runner, which then does what its verb says.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::protocol::agent::ToAgent;
use lockstep::result::{Fault, OutputRef};
use lockstep::runner::clock::monotonic_ns;
use lockstep::runner::frames::{
    DESCRIPTORS_MAX, Done, Execute, FromRunner, Output, Receiver, ToRunner, decode, encode, send,
};
use lockstep::runner::page::{Begun, RunnerPage};

use super::{Blobs, Outcome, Pool, ResultManifest};

const VERB: &str = "LOCKSTEP_TEST_HOSTILE";
const TEST: &str = "agent::hostile::what_a_runner_says_costs_its_own_attempt_and_no_more";

/// A program that starts this test as a runner with a verb.
fn runner(verb: &str, dir: &std::path::Path) -> std::path::PathBuf {
    let path = dir.join(verb);
    let exe = std::env::current_exe().unwrap();
    let exe = exe.to_str().unwrap();
    let script = format!("#!/bin/sh\nexec env {VERB}={verb} '{exe}' --exact {TEST} --nocapture\n");
    let mut file = File::create(&path).unwrap();
    file.write_all(script.as_bytes()).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// Says one frame with descriptors.
fn say(frame: &FromRunner, files: &[&File]) {
    let mut body = Vec::new();
    encode(frame, &mut body);
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    send(std::io::stdin(), &body, &files).unwrap();
}

fn packet(bytes: &[u8]) {
    let sent = rustix::net::send(std::io::stdin(), bytes, rustix::net::SendFlags::NOSIGNAL);
    if sent.is_err() {
        std::process::exit(1);
    }
}

/// The agent's frames until the first attempt, with the shared page.
fn first_attempt() -> (File, RunnerPage, Box<Execute>) {
    let mut receiver = Receiver::new(DESCRIPTORS_MAX + 1);
    let mut page = None;
    loop {
        let packet = receiver.receive(std::io::stdin()).unwrap().unwrap_or_else(|| std::process::exit(0));
        let mut files = packet.files.into_iter();
        let mut body = &*packet.body;
        while let Some(frame) = decode::<ToRunner>(&mut body).unwrap() {
            let mut files = files.by_ref().take(frame.descriptors());
            match frame {
                ToRunner::Setup => page = Some(File::from(files.next().unwrap())),
                ToRunner::Execute(execute) => {
                    let file = page.expect("the page comes first");
                    let mapped = RunnerPage::map(&file).unwrap();
                    return (file, mapped, execute);
                }
                ToRunner::Load { .. } | ToRunner::Unload { .. } => {}
            }
        }
    }
}

fn done(seq: u64, outputs: Vec<(Digest, Output)>) -> FromRunner {
    let manifest = ResultManifest {
        outcome: Outcome::Exited { code: 0 },
        stdout: OutputRef::of(b""),
        stderr: OutputRef::of(b""),
        files: vec![],
        fuel_used: None,
    };
    let manifest: Bytes = manifest.canonical().into();
    let end = u64::MAX;
    FromRunner::Done(Box::new(Done { seq, manifest, outputs, begun_ns: 0, ended_ns: end, cpu_us: end }))
}

/// What the runner does.
fn act(verb: &str) -> ! {
    say(&FromRunner::Ready, &[]);
    let (file, page, execute) = first_attempt();
    let seq = execute.seq;
    let begin = |seq| page.begin(Begun { seq, at_ns: monotonic_ns(), cpu_us: 0 });
    match verb {
        "overtakes" => drop(begin(seq + 1_000)),
        "begins-again-and-again" => loop {
            begin(seq);
        },
        "shrinks-the-page" => file.set_len(0).unwrap(),
        "never-begins" => {}
        // A runner that is slow to start, as on a busy machine; nothing tells it when the agent has looked.
        "begins-late" => {
            std::thread::sleep(Duration::from_millis(600));
            begin(seq);
        }
        "announces-descriptors-for-ever" => loop {
            packet(&[2]);
        },
        "garbage" => packet(&[0xff; 1_000]),
        "ready-again" => say(&FromRunner::Ready, &[]),
        "answers-another" => say(&done(seq + 7, vec![]), &[]),
        "two-frames-in-one" => {
            let mut body = vec![0];
            encode(&FromRunner::Ready, &mut body);
            encode(&FromRunner::Ready, &mut body);
            packet(&body);
        }
        "outputs-beyond-their-file" => {
            begin(seq);
            let file = File::open("/dev/null").unwrap();
            let stored = Output::Stored { offset: u64::MAX, size: 2 };
            say(&done(seq, vec![(Digest::EMPTY, stored)]), &[&file]);
        }
        "many-words" => say(&FromRunner::Refused { seq, why: "w".repeat(10 << 20) }, &[]),
        "impossible-figures" => say(&done(seq, vec![]), &[]),
        other => panic!("{other} is no verb"),
    }
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn what_a_runner_says_costs_its_own_attempt_and_no_more() {
    if let Ok(verb) = std::env::var(VERB) {
        act(&verb);
    }
    let dir = tempfile::tempdir().unwrap();
    let start = async |verb: &str, begin_ms: u64| {
        let exe = runner(verb, dir.path());
        let mut pool = Pool::with(1, Blobs::default(), |config| {
            config.exe = exe;
            config.spares = 0;
            config.begin_ms = begin_ms;
        })
        .await;
        let spec = pool.spec("hello");
        let attempt = pool.assign(spec, |assignment| assignment.timeout_ms = 300).await;
        (pool, attempt)
    };
    for verb in ["overtakes", "begins-again-and-again"] {
        let (mut pool, attempt) = start(verb, 120_000).await;
        let began = Instant::now();
        let (fault, begun_at, cpu_us) = pool.fault(attempt).await;
        match verb {
            "overtakes" => {
                assert!(matches!(&fault, Fault::Crashed { detail, .. } if detail.contains("not handed")))
            }
            _ => assert_eq!(fault, Fault::TimedOut),
        }
        assert!(begun_at.is_some() && cpu_us < 60_000_000, "{verb}: {cpu_us}");
        assert!(began.elapsed() < Duration::from_secs(20), "{verb}: {:?}", began.elapsed());
        pool.end().await;
    }
    for verb in [
        "shrinks-the-page",
        "announces-descriptors-for-ever",
        "garbage",
        "ready-again",
        "answers-another",
        "two-frames-in-one",
    ] {
        // It never began, so others try; they are no better.
        let (mut pool, attempt) = start(verb, 500).await;
        let (fault, begun_at, _) = pool.fault(attempt).await;
        assert!(matches!(&fault, Fault::Refused { .. }), "{verb}: {fault:?}");
        assert_eq!(begun_at, None, "{verb}");
        pool.end().await;
    }
    let (mut pool, attempt) = start("outputs-beyond-their-file", 30_000).await;
    let (fault, ..) = pool.fault(attempt).await;
    assert!(matches!(&fault, Fault::Crashed { detail, .. } if detail.contains("outside")), "{fault:?}");
    let (mut pool, attempt) = start("many-words", 30_000).await;
    let (fault, ..) = pool.fault(attempt).await;
    assert!(matches!(&fault, Fault::Refused { detail } if detail.len() == 500), "it is cut");
    let (mut pool, attempt) = start("impossible-figures", 30_000).await;
    let vote = pool.vote(attempt).await;
    assert!(vote.cpu_us < 60_000_000, "{}", vote.cpu_us);
}

#[tokio::test]
async fn what_a_runner_says_does_not_save_it_from_an_abort() {
    let dir = tempfile::tempdir().unwrap();
    for verb in ["overtakes", "never-begins"] {
        let exe = runner(verb, dir.path());
        let mut pool = Pool::with(1, Blobs::default(), |config| {
            config.exe = exe;
            config.spares = 0;
            config.begin_ms = if verb == "overtakes" { 3_600_000 } else { 500 };
        })
        .await;
        let spec = pool.spec("hello");
        let first = pool.assign(spec.clone(), |assignment| assignment.timeout_ms = 3_600_000).await;
        if verb == "overtakes" {
            pool.begun(first).await;
        }
        pool.agent.to.send(ToAgent::Abort(first)).await.unwrap();
        // The slot is free again only if the first runner is gone.
        let second = pool.assign(spec, |assignment| assignment.timeout_ms = 3_600_000).await;
        if verb == "overtakes" {
            pool.begun(second).await;
        } else {
            let (fault, ..) = pool.fault(second).await;
            assert!(matches!(fault, Fault::Refused { .. }), "{fault:?}");
        }
        pool.end().await;
    }
}

#[tokio::test]
async fn a_timeout_shorter_than_the_start_of_a_runner_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let exe = runner("begins-late", dir.path());
    let mut pool = Pool::with(1, Blobs::default(), |config| {
        config.exe = exe;
        config.spares = 0;
    })
    .await;
    let spec = pool.spec("hello");
    let began = Instant::now();
    let attempt = pool.assign(spec, |assignment| assignment.timeout_ms = 20).await;
    assert_eq!(pool.fault(attempt).await.0, Fault::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
