//! A runner as its agent sees it: a process, a socket, two memory files.
//!
//! Runners are started by one thread that lives as long as the agent, because a child that dies with its parent dies
//! with the *thread* that started it. A runner that is dropped is killed and reaped.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::runner::frames::{FRAME_BYTES_MAX, FrameError, FromRunner, ToRunner, encode, receive, send};
use crate::runner::read_mark;

/// Room for a few frames of the largest size.
const SOCKET_BUFFER_BYTES: usize = 4 * FRAME_BYTES_MAX;

/// Starts children for everybody in this process; see the module.
#[derive(Clone)]
pub(super) struct Spawner {
    orders: mpsc::Sender<(Command, oneshot::Sender<io::Result<Child>>)>,
}

impl Spawner {
    pub(super) fn start() -> io::Result<Spawner> {
        let (orders, queue) = mpsc::channel::<(Command, oneshot::Sender<io::Result<Child>>)>();
        std::thread::Builder::new().name("runner-spawner".to_owned()).spawn(move || {
            for (mut command, answer) in queue {
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Spawner { orders })
    }

    async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, child) = oneshot::channel();
        let gone = || io::Error::other("the spawner is gone");
        self.orders.send((command, answer)).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}

/// See the module.
pub(super) struct Runner {
    child: Option<Child>,
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    mark: File,
    /// What it shows of long attempts.
    pub(super) live: File,
}

impl Runner {
    /// Starts one and waits until it is confined.
    pub(super) async fn start(spawner: &Spawner, exe: &Path) -> io::Result<Runner> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        for end in [&ours, &theirs] {
            rustix::net::sockopt::set_socket_send_buffer_size(end, SOCKET_BUFFER_BYTES)?;
        }
        // the runner reads and writes one frame at a time and has nothing else to do meanwhile
        rustix::io::ioctl_fionbio(&theirs, false)?;
        let mut command = Command::new(exe);
        command.arg("runner").env_clear().stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = spawner.spawn(command).await?;
        // when memory is short the kernel takes a runner, not the agent; if it cannot be said it is not fatal
        let _ = std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "900");
        let mut runner = Runner {
            child: Some(child),
            socket: AsyncFd::new(ours)?,
            buffer: vec![0; FRAME_BYTES_MAX],
            mark: anonymous_file("begun", &[0; 16])?,
            live: anonymous_file("live", &[0; 16])?,
        };
        let setup = encode(&ToRunner::Setup).map_err(io::Error::other)?;
        let (mark, live) = (runner.mark.try_clone()?, runner.live.try_clone()?);
        runner.send(&setup, &[mark.as_fd(), live.as_fd()]).await.map_err(io::Error::other)?;
        match runner.receive().await.map_err(io::Error::other)? {
            (FromRunner::Ready, _) => Ok(runner),
            (other, _) => Err(io::Error::other(format!("expected Ready, got {other:?}"))),
        }
    }

    /// Sends a frame; waits while the socket is full.
    pub(super) async fn send(&self, frame: &[u8], beside: &[BorrowedFd<'_>]) -> Result<(), FrameError> {
        loop {
            match send(self.socket.get_ref(), frame, beside) {
                Err(FrameError::WouldBlock) => {
                    let mut ready = self.socket.writable().await.map_err(|_| FrameError::Gone)?;
                    ready.clear_ready();
                }
                other => return other,
            }
        }
    }

    /// The next frame. Cancel safe: a packet is taken whole or left.
    pub(super) async fn receive(&mut self) -> Result<(FromRunner, Vec<OwnedFd>), FrameError> {
        loop {
            let mut ready = self.socket.ready(Interest::READABLE).await.map_err(|_| FrameError::Gone)?;
            match receive(self.socket.get_ref(), &mut self.buffer) {
                Err(FrameError::WouldBlock) => ready.clear_ready(),
                other => return other,
            }
        }
    }

    /// When it began this attempt, in microseconds since the Unix epoch.
    pub(super) fn begun_at(&self, sequence: u64) -> Option<u64> {
        read_mark(&self.mark).filter(|(begun, _)| *begun == sequence).map(|(_, at)| at)
    }

    /// CPU time of the whole process so far, in microseconds.
    pub(super) fn cpu_us(&self) -> u64 {
        let Some(child) = &self.child else { return 0 };
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1_000
    }

    /// Kills it and waits for its end: nothing of the attempt goes on afterwards.
    pub(super) async fn end(mut self) -> io::Result<ExitStatus> {
        let Some(mut child) = self.child.take() else { return Err(io::Error::other("it has ended")) };
        let _ = child.kill();
        tokio::task::spawn_blocking(move || child.wait()).await.map_err(io::Error::other)?
    }

    /// How it ended by itself.
    pub(super) async fn post_mortem(mut self) -> (Option<i32>, String) {
        let Some(mut child) = self.child.take() else { return (None, "it has ended".to_owned()) };
        // its socket is closed, so it is dying or does something that it should not: either way it ends here
        let waited = tokio::task::spawn_blocking(move || {
            for _ in 0..200 {
                if let Ok(Some(status)) = child.try_wait() {
                    return Ok(status);
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let _ = child.kill();
            child.wait()
        });
        match waited.await {
            Ok(Ok(status)) => (status.signal(), status.to_string()),
            Ok(Err(error)) => (None, error.to_string()),
            Err(error) => (None, error.to_string()),
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            // reaped by a thread: a wait must not hold up whoever drops it
            std::thread::spawn(move || child.wait());
        }
    }
}

/// A file in memory with these bytes: for inputs that are handed on by descriptor.
///
/// # Errors
///
/// If there is no memory for it.
pub fn anonymous_file(name: &str, bytes: &[u8]) -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0)?;
    Ok(file)
}
