//! Starts runner processes, from one thread that lives as long as its agent.
//!
//! Invariants: the kernel kills a runner when the thread that started it ends, so it must be this thread and no other.
//! A started process is reaped exactly once: by whoever waits for it, or when its [`Child`] is dropped.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::sync::oneshot;

/// What the out-of-memory killer takes first, and so the only thing it takes.
const OOM_SCORE: &str = "1000";

/// A runner process.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    reaped: AtomicBool,
}

impl Child {
    fn new(mut process: std::process::Child) -> io::Result<Child> {
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH);
        let opened = pid.and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::NONBLOCK)?)));
        match opened {
            Ok((pid, pidfd)) => Ok(Child { pid, pidfd, reaped: AtomicBool::new(false) }),
            Err(errno) => {
                // It is ours and not reaped, so the signal can hit nobody else.
                let _ = process.kill();
                let _ = process.wait();
                Err(errno.into())
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when the process has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(super) fn kill(&self) {
        // It may have ended by itself already, and that is as good.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// CPU time that it has used, in microseconds, with the kernel's resolution of a clock tick (10 ms); also of one that
    /// has ended and was not reaped.
    pub(super) fn cpu_us(&self) -> u64 {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .and_then(|stat| ticks(&stat))
            .map_or(0, |ticks| ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
    }

    /// Takes its status; only after it has ended, otherwise this blocks.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, if somebody else has taken it.
    pub(super) fn reap(&self) -> io::Result<WaitIdStatus> {
        self.reaped.store(true, Ordering::Relaxed);
        loop {
            match waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(status),
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !*self.reaped.get_mut() {
            // The agent is going, and with it whoever would have waited. A killed process ends at once.
            self.kill();
            let _ = self.reap();
        }
    }
}

/// User and system time out of `/proc/PID/stat`: fields 14 and 15, counted behind the name in parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A process that is wanted.
struct Request {
    socket: OwnedFd,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// The thread's handle; the thread ends, and its runners die, when this is dropped.
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
}

impl Spawner {
    /// Starts the thread. What runners say to their standard error comes out of the pipe.
    ///
    /// # Errors
    ///
    /// If the machine has no thread or pipe left.
    pub(super) fn start(exe: PathBuf, name: &str) -> io::Result<(Spawner, PipeReader)> {
        let (words, stderr) = io::pipe()?;
        let (requests, wanted) = mpsc::channel::<Request>();
        std::thread::Builder::new().name(format!("{name}-spawner")).spawn(move || {
            for Request { socket, reply } in wanted {
                // Nobody waits any more: the child is killed and reaped where it is dropped.
                drop(reply.send(spawn(&exe, socket, &stderr)));
            }
        })?;
        Ok((Spawner { requests }, words))
    }

    /// Asks for a process whose standard input is `socket`.
    pub(super) fn spawn(&self, socket: OwnedFd) -> oneshot::Receiver<io::Result<Child>> {
        let (reply, answer) = oneshot::channel();
        // Without the thread the answer never comes, which the receiver sees.
        let _ = self.requests.send(Request { socket, reply });
        answer
    }
}

fn spawn(exe: &Path, socket: OwnedFd, stderr: &PipeWriter) -> io::Result<Child> {
    let process = Command::new(exe)
        .args(["runner", &std::process::id().to_string()])
        .env_clear()
        .current_dir("/")
        // A Ctrl-C in the terminal is for the coordinator, which may want to finish what runs.
        .process_group(0)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(stderr.try_clone()?)))
        .spawn()?;
    let child = Child::new(process)?;
    // Without it the kernel may take the agent instead, but the runner works.
    if let Err(error) = std::fs::write(format!("/proc/{}/oom_score_adj", child.pid()), OOM_SCORE) {
        tracing::debug!(%error, "the out-of-memory score of a runner could not be set");
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(12));
        assert_eq!(ticks("42 (a) S 1"), None);
    }
}
