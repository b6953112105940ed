//! Runs one compiler child to its end.
//!
//! Invariant: whoever calls [`run`] gets the child's end with it; no child outlives the call, none becomes a zombie.
//! The call blocks its thread for the child's whole life. That is on purpose: the kernel kills the child when the thread
//! that started it ends, and here that thread is waiting for it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::child::{Job, Report};
use super::{InfraError, memory_bomb};
use crate::sandbox::Refusal;

/// The longest report, in bytes: the analysis of a module with the most and longest names, as JSON, fits.
const REPORT_BYTES_MAX: usize = 16 << 20;
/// How much of a crash's last words is kept, in bytes.
const LAST_WORDS_BYTES: usize = 500;

/// Starts `exe compiler JOB` with the module as its standard input and the artifact as its standard output.
///
/// # Errors
///
/// [`InfraError`] if the child could not be started, overran `wall`, or ended without a report through no bound of its
/// own; a bound that it did reach is a [`Report::Refused`].
pub(super) fn run(
    exe: &Path,
    job: &Job,
    module: File,
    artifact: Option<File>,
    wall: Duration,
) -> Result<Report, InfraError> {
    let started = |error: io::Error| InfraError::Io(format!("starting the compiler: {error}"));
    let argument = serde_json::to_string(job).expect("a job has string keys only");
    let mut child = Command::new(exe)
        .args(["compiler", &argument])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(module))
        .stdout(artifact.map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(started)?;
    let deadline = Instant::now() + wall;
    let watched = watch(&mut child, deadline);
    if !matches!(watched, Ok(Watched { ended: true, .. })) {
        // Already gone is as good.
        let _ = child.kill();
    }
    let status =
        child.wait().map_err(|error| InfraError::Io(format!("waiting for the compiler: {error}")))?;
    let watched = watched.map_err(|error| InfraError::Io(format!("watching the compiler: {error}")))?;
    if !watched.ended {
        return Err(InfraError::Overran { wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) });
    }
    judge(status, &watched.words, job)
}

/// What a child said, and whether it ended by itself.
struct Watched {
    words: Vec<u8>,
    ended: bool,
}

/// Collects the child's words until it has ended or the deadline has come.
fn watch(child: &mut Child, deadline: Instant) -> io::Result<Watched> {
    let mut pipe = child.stderr.take().ok_or_else(|| io::Error::other("the child has no pipe"))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the child has no id"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut words = Vec::new();
    let mut open = true;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || words.len() > REPORT_BYTES_MAX {
            return Ok(Watched { words, ended: false });
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if open {
            fds.push(PollFd::new(&pipe, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ended = !fds[0].revents().is_empty();
        let readable = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if readable {
            open = read_some(&mut pipe, &mut words)?;
        } else if ended {
            return Ok(Watched { words, ended: true });
        }
    }
}

/// Reads what is there; `false` at the end.
fn read_some(pipe: &mut ChildStderr, words: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 64 << 10];
    let count = pipe.read(&mut piece)?;
    words.extend_from_slice(&piece[..count]);
    Ok(count > 0)
}

/// What the end of a child means. Only bounds that depend on the module alone refuse it.
fn judge(status: ExitStatus, words: &[u8], job: &Job) -> Result<Report, InfraError> {
    let bomb = |bound: String| Ok(Report::Refused(Refusal::CompileBomb { bound }));
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XCPU) => return bomb(format!("{} s of CPU time", job.cpu_s)),
        Some(Signal::XFSZ) => return bomb(format!("{} bytes of machine code", job.artifact_bytes_max)),
        // How an allocation that fails ends a program, and a stack that is exhausted.
        Some(Signal::ABORT) => return Ok(Report::Refused(memory_bomb(job.address_space_bytes))),
        _ => {}
    }
    let report = serde_json::from_slice(words).ok().filter(|_| status.success());
    report.ok_or_else(|| {
        let words = &words[..words.len().min(LAST_WORDS_BYTES)];
        InfraError::Died { status: status.to_string(), words: String::from_utf8_lossy(words).into_owned() }
    })
}
