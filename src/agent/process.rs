//! One runner process from the outside: its socket, its shared page, and the order of its last events.
//!
//! Invariant: what a runner said before it died is heard before its death, and its death is reported once, after the
//! process has ended and was reaped. So whoever hears it may hand the attempt to somebody else at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::spawner::{Child, Spawner};
use crate::runner::frames::{self, FrameError, FromRunner, Receiver, ToRunner, decode, encode};
use crate::runner::page::AgentPage;

/// Descriptors with one frame of a runner: its outputs, or a frame that is too long for a packet and its outputs.
const DESCRIPTORS_SAID_MAX: usize = 2;

/// What happens to a runner.
#[derive(Debug)]
pub(super) enum Event {
    /// The process exists.
    Started(Arc<Child>),
    /// It said something, with a descriptor if the frame has one.
    Said(FromRunner, Option<OwnedFd>),
    /// It is gone, and this is the last event.
    Ended(End),
}

/// A frame, with its descriptor if it has one.
type Said = (FromRunner, Option<OwnedFd>);

/// How a runner ended.
#[derive(Debug)]
pub(super) struct End {
    /// The signal, if one did it.
    pub(super) signal: Option<i32>,
    /// For people.
    pub(super) detail: String,
    /// CPU time that the process had used, in microseconds.
    pub(super) cpu_us: u64,
}

/// The agent's end.
pub(super) struct Process {
    socket: Arc<UnixStream>,
    /// What the runner shares.
    pub(super) page: AgentPage,
}

impl Process {
    /// Starts a runner. Frames may be sent at once: they wait in the socket until it listens.
    ///
    /// # Errors
    ///
    /// If the machine has no descriptors or memory for the connection.
    pub(super) fn start(spawner: &Spawner) -> io::Result<(Process, BoxStream<'static, Event>)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let process = Process { socket: Arc::new(asynchronous(ours)?), page: AgentPage::new()? };
        let mut setup = Vec::new();
        encode(&ToRunner::Setup, &mut setup);
        process.send(&setup, &[process.page.file().as_fd()]).map_err(io::Error::other)?;
        let events = Events {
            socket: Arc::clone(&process.socket),
            receiver: Receiver::new(DESCRIPTORS_SAID_MAX),
            phase: Phase::Starting(spawner.spawn(theirs)),
        };
        let events = stream::unfold(events, |mut events| async move {
            let event = events.next().await?;
            Some((event, events))
        });
        Ok((process, events.boxed()))
    }

    /// Sends frames with their descriptors.
    ///
    /// # Errors
    ///
    /// If the runner is gone or does not listen; it is of no more use then.
    pub(super) fn send(&self, body: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), FrameError> {
        frames::send(&*self.socket, body, files)
    }
}

/// Lets the runtime wait for the socket. Its type speaks of streams; only readiness and our own packets are used of it.
fn asynchronous(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

enum Phase {
    Starting(oneshot::Receiver<io::Result<Child>>),
    Talking(Arc<Child>),
    /// It closed its end, or `broke` says what was wrong with it.
    Ending(Arc<Child>, Option<String>),
    Over,
}

struct Events {
    socket: Arc<UnixStream>,
    receiver: Receiver,
    phase: Phase,
}

impl Events {
    async fn next(&mut self) -> Option<Event> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Starting(answer) => return Some(self.started(answer.await)),
                Phase::Talking(child) => {
                    self.phase = match self.listen().await {
                        Ok(Some((frame, file))) => {
                            self.phase = Phase::Talking(child);
                            return Some(Event::Said(frame, file));
                        }
                        Ok(None) => Phase::Ending(child, None),
                        Err(error) => Phase::Ending(child, Some(error.to_string())),
                    };
                }
                Phase::Ending(child, broke) => return Some(Event::Ended(ended(&child, broke).await)),
                Phase::Over => return None,
            }
        }
    }

    fn started(&mut self, answer: Result<io::Result<Child>, oneshot::error::RecvError>) -> Event {
        match answer.unwrap_or_else(|_| Err(io::Error::other("the thread that starts runners is gone"))) {
            Ok(child) => {
                let child = Arc::new(child);
                self.phase = Phase::Talking(Arc::clone(&child));
                Event::Started(child)
            }
            Err(error) => {
                let detail = format!("it could not be started: {error}");
                Event::Ended(End { signal: None, detail, cpu_us: 0 })
            }
        }
    }

    /// What it says next; `None` when it has closed.
    async fn listen(&mut self) -> Result<Option<Said>, FrameError> {
        loop {
            self.socket.readable().await?;
            let (socket, receiver) = (&self.socket, &mut self.receiver);
            let received = socket.try_io(Interest::READABLE, || {
                match hear(socket, receiver) {
                    // So that the runtime knows to wait for more.
                    Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                    other => Ok(other),
                }
            });
            match received {
                Ok(heard) => return heard,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Takes a packet that is there apart: a runner puts one frame into each. `None` when it has closed.
fn hear(socket: &UnixStream, receiver: &mut Receiver) -> Result<Option<Said>, FrameError> {
    let Some(packet) = receiver.receive(socket)? else { return Ok(None) };
    let mut body = &*packet.body;
    let frame = decode(&mut body)?.ok_or(FrameError::Broken("an empty packet"))?;
    if !body.is_empty() {
        return Err(FrameError::Broken("more than one frame"));
    }
    Ok(Some((frame, packet.files.into_iter().next())))
}

/// Sees a runner to its end. One that closed its socket is of no use, whether it is dead or not.
async fn ended(child: &Arc<Child>, broke: Option<String>) -> End {
    child.kill();
    let waiting = async {
        // A pidfd is readable when its process has ended; the type is that of any descriptor to be read.
        let pidfd = pipe::Receiver::from_owned_fd_unchecked(child.pidfd().try_clone_to_owned()?)?;
        pidfd.readable().await
    };
    if let Err(error) = waiting.await {
        // It was killed, so that waiting for it without its descriptor is short.
        tracing::warn!(%error, "the end of a runner cannot be watched");
    }
    let cpu_us = child.cpu_us();
    match child.reap() {
        Ok(status) => {
            let signal = status.terminating_signal();
            let how = match (signal, status.exit_status()) {
                (Some(signal), _) => format!("signal {signal}"),
                (None, Some(code)) => format!("exit code {code}"),
                (None, None) => "it ended".to_owned(),
            };
            End { signal, detail: broke.unwrap_or(how), cpu_us }
        }
        Err(error) => End { signal: None, detail: error.to_string(), cpu_us },
    }
}
