//! Deaths, timeouts, aborts, drains, and what is left behind.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};

use lockstep::id::WorkspaceId;
use lockstep::protocol::agent::{FromAgent, ToAgent};
use lockstep::result::{Fault, Outcome};

use super::{Blobs, Pool, alone, busy_runner, descriptors, is_alive, kill, outcome, poll, runners, stdout};

#[tokio::test]
async fn a_timeout_kills_the_runner_before_it_is_reported() {
    if !alone(module_path!(), "a_timeout_kills_the_runner_before_it_is_reported") {
        return;
    }
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
    if !alone(module_path!(), "a_killed_runner_is_known_at_once_and_replaced") {
        return;
    }
    let mut pool = Pool::start(1).await;
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::SEGV] {
        let attempt = pool.run("loop").await;
        pool.begun(attempt).await;
        let (victim, killed) = (busy_runner(), Instant::now());
        // The engine's handler takes the first SIGSEGV that nothing caused for a mistake of its own, and steps aside.
        poll(|| !kill(victim, signal) || !is_alive(victim), "the runner does not die").await;
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
    if !alone(module_path!(), "an_aborted_attempt_is_killed_and_not_answered") {
        return;
    }
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
async fn what_waits_behind_a_long_attempt_is_handed_back_and_not_blamed_for_its_crash() {
    let name = "what_waits_behind_a_long_attempt_is_handed_back_and_not_blamed_for_its_crash";
    if !alone(module_path!(), name) {
        return;
    }
    let mut pool = Pool::start(1).await;
    // Then nothing has to be fetched, and the order is that of the assignments.
    let first = pool.run("hello").await;
    pool.vote(first).await;
    let crowd = [pool.run("loop").await, pool.run("hello").await, pool.run("x").await];
    assert_eq!(pool.returned(2).await, crowd[1..]);
    pool.begun(crowd[0]).await;
    kill(busy_runner(), rustix::process::Signal::KILL);
    let (fault, ..) = pool.fault(crowd[0]).await;
    assert!(matches!(fault, Fault::Crashed { signal: Some(9), .. }), "{fault:?}");
    // It may have them again.
    let again = [pool.run("hello").await, pool.run("x").await];
    assert_eq!(stdout(&*pool.vote(again[0]).await), "hello\n");
    assert_eq!(outcome(&*pool.vote(again[1]).await), Outcome::Exited { code: 7 });
}

#[tokio::test]
async fn short_attempts_are_handed_ahead_and_taken_back_from_a_long_one() {
    if !alone(module_path!(), "short_attempts_are_handed_ahead_and_taken_back_from_a_long_one") {
        return;
    }
    let mut pool = Pool::start(1).await;
    let mut runs = 0;
    while pool.credits.0 < 2 {
        let attempt = pool.run("hello").await;
        pool.vote(attempt).await;
        pool.release(attempt).await;
        runs += 1;
        assert!(runs < 1_000, "it grants ahead once it knows that attempts are short");
    }
    // The module is known as short now, so these are handed ahead; the first one deceives.
    let long = pool.run("loop").await;
    let others = [pool.run("hello").await, pool.run("x").await];
    let forgotten = pool.run("t").await;
    pool.agent.to.send(ToAgent::Abort(forgotten)).await.unwrap();
    assert_eq!(pool.returned(2).await, others);
    pool.begun(long).await;
    // it is known as long, so nothing more is granted; on a busy machine a heartbeat may say sooner that it has begun
    while pool.credits.0 != 0 {
        let credits = |message| match message {
            FromAgent::Credits { .. } => Ok(()),
            other => Err(other.into()),
        };
        pool.hear(credits).await;
    }
    kill(busy_runner(), rustix::process::Signal::KILL);
    let (fault, ..) = pool.fault(long).await;
    assert!(matches!(fault, Fault::Crashed { .. }), "{fault:?}");
    let next = pool.run("hello").await;
    pool.vote(next).await;
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
async fn what_a_drain_does_not_wait_for_is_killed() {
    if !alone(module_path!(), "what_a_drain_does_not_wait_for_is_killed") {
        return;
    }
    let mut pool = Pool::start(2).await;
    let running = [pool.run("loop").await, pool.run("loop").await];
    for attempt in running {
        pool.begun(attempt).await;
    }
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
    assert_eq!(drained, running);
    pool.hear(|message| if matches!(message, FromAgent::Drained) { Ok(()) } else { Err(message.into()) })
        .await;
    assert_eq!(runners(), []);
}

#[tokio::test]
async fn a_runner_serves_one_workspace() {
    if !alone(module_path!(), "a_runner_serves_one_workspace") {
        return;
    }
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
    if !alone(module_path!(), "two_hundred_runs_leave_no_process_and_no_descriptor") {
        return;
    }
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
    if !alone(module_path!(), "the_agent_ends_when_nobody_listens") {
        return;
    }
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
        .args(["--exact", "agent::faults::runners_die_with_their_agent", "--nocapture"])
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
