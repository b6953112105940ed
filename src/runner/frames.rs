//! What an agent and its runner say to each other: postcard frames in the packets of a SEQPACKET socketpair, with
//! descriptors beside them.
//!
//! Invariants: a packet holds whole frames, in the order in which they were said; the descriptors of its frames come
//! with it in the same order. Everything has a bound, and a side that breaks the form is not talked to any more: the
//! agent kills such a runner, a runner ends itself. Result manifests travel as their canonical JSON, because that
//! is what is voted on.
//!
//! Shape of a packet: one byte says what follows. `BODY`: the frames. `LARGE`: their length, and the last
//! descriptor is an anonymous file that holds them. `MORE`: nothing, these descriptors belong to the next packet.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::mapping::size_of;
use crate::digest::Digest;
use crate::protocol::agent::INLINE_BYTES_MAX;
use crate::sandbox::Variant;
use crate::spec::{FILES_MAX, GuestPath, Limits, OUTPUT_PATHS_BYTES_MAX};

/// The longest packet, in bytes. Well below the smallest socket buffer of a stock kernel (208 KiB), so that a
/// packet that is sent to somebody who listens never has to wait.
pub const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Frames longer than a packet travel in a file; the longest such body, in bytes. Long enough for every answer that a
/// sandbox can give.
pub const LARGE_BYTES_MAX: u64 = 64 << 20;
/// What one output file takes in a frame beside its path, in bytes at the most: names, digest and size in the manifest,
/// digest and place among the outputs.
const OUTPUT_BYTES_MAX: usize = 300;
const _: () = assert!(
    OUTPUT_PATHS_BYTES_MAX
        + Limits::MAX.file_count as usize * OUTPUT_BYTES_MAX
        + INLINE_BYTES_MAX
        + (1 << 20)
        < LARGE_BYTES_MAX as usize,
    "an answer that cannot be sent would look like a crash of its runner"
);
/// The kernel takes 253 descriptors at once (`SCM_MAX_FD`).
const DESCRIPTORS_PER_PACKET: usize = 200;
/// The most descriptors that belong to the frames of one packet: every input of a run, and a few modules.
pub const DESCRIPTORS_MAX: usize = FILES_MAX + 32;

const BODY: u8 = 0;
const LARGE: u8 = 1;
const MORE: u8 = 2;

/// Agent to runner.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToRunner {
    /// The first frame, with one descriptor: the shared page ([`super::page`]).
    Setup,
    /// Map an artifact under this number, with one descriptor: the artifact.
    Load {
        /// The number; what was there before is dropped.
        slot: u16,
        /// What kind of machine code it is.
        variant: Variant,
    },
    /// Forget an artifact.
    Unload {
        /// Its number.
        slot: u16,
    },
    /// Execute an attempt, with `files` descriptors: the inputs that are not inline.
    Execute(Box<Execute>),
}

impl ToRunner {
    /// How many of the packet's descriptors belong to it.
    pub fn descriptors(&self) -> usize {
        match self {
            ToRunner::Setup | ToRunner::Load { .. } => 1,
            ToRunner::Unload { .. } => 0,
            ToRunner::Execute(execute) => usize::from(execute.files),
        }
    }
}

/// An attempt as a runner sees it: without the names of run, worker and owner.
#[derive(Debug, Serialize, Deserialize)]
pub struct Execute {
    /// Counts up from 1 within one runner.
    pub seq: u64,
    /// Which artifact.
    pub slot: u16,
    /// Descriptors that come with it.
    pub files: u16,
    /// See [`crate::sandbox::Invocation`].
    pub entry: String,
    /// The same.
    pub args: Vec<String>,
    /// The same.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Source,
    /// Read-only inputs, sorted by path.
    pub mounts: Vec<MountFrame>,
    /// The virtual clock's first reading.
    pub clock_ns: u64,
    /// Seed of every random source.
    pub seed: u64,
    /// Bounds on the guest.
    pub limits: Limits,
    /// Somebody watches from the beginning: mirror every write.
    pub watched: bool,
}

/// One input.
#[derive(Debug, Serialize, Deserialize)]
pub struct MountFrame {
    /// Where.
    pub path: GuestPath,
    /// A packed directory instead of one file.
    pub is_tree: bool,
    /// The bytes.
    pub source: Source,
}

/// Where the bytes of an input are.
#[derive(Debug, Serialize, Deserialize)]
pub enum Source {
    /// Here.
    Inline(Bytes),
    /// In one of the files that came with the frame. Their bytes never change: blobs, and sealed anonymous files.
    Mapped {
        /// Which file, counted from 0.
        file: u16,
        /// Where in it.
        offset: u64,
        /// How many bytes.
        size: u64,
    },
}

/// Runner to agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromRunner {
    /// Confined, and waiting for frames.
    Ready,
    /// An attempt ended; with one descriptor if an output is [`Output::Stored`].
    Done(Box<Done>),
    /// The guest never ran, or what it did is no answer ([`crate::sandbox::SandboxError`]).
    Refused {
        /// Which attempt.
        seq: u64,
        /// The sandbox's words.
        why: String,
    },
    /// The agent took the attempt back before it had begun.
    Skipped {
        /// Which attempt.
        seq: u64,
    },
}

impl FromRunner {
    /// How many of the packet's descriptors belong to it.
    pub fn descriptors(&self) -> usize {
        match self {
            FromRunner::Done(done) => {
                usize::from(done.outputs.iter().any(|(_, output)| matches!(output, Output::Stored { .. })))
            }
            FromRunner::Ready | FromRunner::Refused { .. } | FromRunner::Skipped { .. } => 0,
        }
    }
}

/// What came of an attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub seq: u64,
    /// The result manifest's canonical JSON.
    pub manifest: Bytes,
    /// Every output that is not empty, once: all inline, or all in the file.
    pub outputs: Vec<(Digest, Output)>,
    /// When it had begun, nanoseconds of the machine's monotonic clock.
    pub begun_ns: u64,
    /// When it had ended, by the same clock.
    pub ended_ns: u64,
    /// CPU time in between, in microseconds.
    pub cpu_us: u64,
}

/// Where the bytes of an output are.
#[derive(Debug, Serialize, Deserialize)]
pub enum Output {
    /// Here.
    Inline(Bytes),
    /// In the anonymous file that came with the frame.
    Stored {
        /// Where in it.
        offset: u64,
        /// How many bytes.
        size: u64,
    },
}

/// Why a packet could not be sent or understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket's answer. `WouldBlock` only says: not now.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side does not keep to the form.
    #[error("a broken frame: {0}")]
    Broken(&'static str),
}

impl From<rustix::io::Errno> for FrameError {
    fn from(errno: rustix::io::Errno) -> FrameError {
        FrameError::Io(errno.into())
    }
}

impl From<postcard::Error> for FrameError {
    fn from(_: postcard::Error) -> FrameError {
        FrameError::Broken("it cannot be decoded")
    }
}

/// Appends a frame to the body of a packet.
pub fn encode<T: Serialize>(frame: &T, body: &mut Vec<u8>) {
    postcard::to_io(frame, body).expect("a vector takes every byte, and every frame has a known shape");
}

/// Takes the next frame off a body; `None` at its end.
///
/// # Errors
///
/// [`FrameError::Broken`].
pub fn decode<T: DeserializeOwned>(body: &mut &[u8]) -> Result<Option<T>, FrameError> {
    if body.is_empty() {
        return Ok(None);
    }
    let (frame, rest) = postcard::take_from_bytes(body)?;
    *body = rest;
    Ok(Some(frame))
}

/// Sends one packet: the frames in `body` with their descriptors.
///
/// # Errors
///
/// [`FrameError::Io`]: `WouldBlock` from a non-blocking socket whose other side does not read; then nothing or a
/// part was sent, and the connection is of no more use.
pub fn send(socket: impl AsFd, body: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), FrameError> {
    let socket = socket.as_fd();
    if body.len() < PACKET_BYTES_MAX {
        return send_parts(socket, BODY, body, files);
    }
    let large = anonymous_file("frames")?;
    large.write_all_at(body, 0)?;
    let files: Vec<_> = files.iter().copied().chain([large.as_fd()]).collect();
    send_parts(socket, LARGE, &(body.len() as u64).to_le_bytes(), &files)
}

fn send_parts(
    socket: BorrowedFd<'_>,
    kind: u8,
    body: &[u8],
    files: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    if files.len() > DESCRIPTORS_MAX {
        return Err(FrameError::Broken("too many descriptors"));
    }
    let mut files = files;
    while files.len() > DESCRIPTORS_PER_PACKET {
        let (now, later) = files.split_at(DESCRIPTORS_PER_PACKET);
        send_one(socket, MORE, &[], now)?;
        files = later;
    }
    send_one(socket, kind, body, files)
}

fn send_one(
    socket: BorrowedFd<'_>,
    kind: u8,
    body: &[u8],
    files: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PACKET))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(FrameError::Broken("too many descriptors"));
    }
    loop {
        let parts = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(body)];
        match rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// One end's ear: keeps its buffer, and the descriptors that came ahead of their frames.
pub struct Receiver {
    buffer: Box<[u8]>,
    files: Vec<OwnedFd>,
    descriptors_max: usize,
}

/// Frames as they arrived.
pub struct Packet<'a> {
    /// To be taken apart with [`decode`].
    pub body: Cow<'a, [u8]>,
    /// The descriptors of all of its frames.
    pub files: Vec<OwnedFd>,
}

impl Receiver {
    /// Listens to somebody who sends so many descriptors with one packet at the most.
    pub fn new(descriptors_max: usize) -> Receiver {
        let buffer = vec![0; PACKET_BYTES_MAX].into_boxed_slice();
        Receiver { buffer, files: Vec::new(), descriptors_max }
    }

    /// Takes the next packet; `None` when the other side has closed.
    ///
    /// # Errors
    ///
    /// See [`FrameError`]; after anything but `WouldBlock` the connection is of no more use.
    pub fn receive(&mut self, socket: impl AsFd) -> Result<Option<Packet<'_>>, FrameError> {
        let socket = socket.as_fd();
        let count = loop {
            let before = self.files.len();
            let count = self.receive_one(socket)?;
            if self.files.len() > self.descriptors_max {
                return Err(FrameError::Broken("too many descriptors"));
            }
            match self.buffer[..count].first() {
                None => return Ok(None),
                // Otherwise somebody who sends nothing else would keep this loop busy for ever.
                Some(&MORE) if self.files.len() == before => {
                    return Err(FrameError::Broken("descriptors were announced and did not come"));
                }
                Some(&MORE) => {}
                Some(_) => break count,
            }
        };
        let mut files = std::mem::take(&mut self.files);
        let body = &self.buffer[1..count];
        let body = match self.buffer[0] {
            BODY => Cow::Borrowed(body),
            LARGE => {
                let size = body.try_into().map_err(|_| FrameError::Broken("no length"))?;
                let file = files.pop().ok_or(FrameError::Broken("no file"))?;
                Cow::Owned(read_large(file, u64::from_le_bytes(size))?)
            }
            _ => return Err(FrameError::Broken("an unknown kind of packet")),
        };
        Ok(Some(Packet { body, files }))
    }

    fn receive_one(&mut self, socket: BorrowedFd<'_>) -> Result<usize, FrameError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PACKET))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message,
                Err(rustix::io::Errno::INTR) => {}
                // The other side died with something of ours unread: as good as closed.
                Err(rustix::io::Errno::CONNRESET) => return Ok(0),
                Err(errno) => return Err(errno.into()),
            }
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = part {
                self.files.extend(files);
            }
        }
        if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(FrameError::Broken("it was cut"));
        }
        Ok(message.bytes)
    }
}

fn read_large(file: OwnedFd, size: u64) -> Result<Vec<u8>, FrameError> {
    let file = File::from(file);
    if size > LARGE_BYTES_MAX || size_of(&file)? < size {
        return Err(FrameError::Broken("its file is not as long as it says"));
    }
    let mut body = vec![0; usize::try_from(size).map_err(|_| FrameError::Broken("its length"))?];
    file.read_exact_at(&mut body, 0)?;
    Ok(body)
}

/// Makes a file that has no name and is gone with its last descriptor.
///
/// # Errors
///
/// The kernel's refusal: no memory, no descriptor left.
pub fn anonymous_file(purpose: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(File::from(rustix::fs::memfd_create(purpose, flags)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn frames_of_one_packet_arrive_in_order_and_whole() {
        let (agent, runner) = pair();
        let mut body = Vec::new();
        encode(&ToRunner::Unload { slot: 3 }, &mut body);
        encode(&ToRunner::Load { slot: 4, variant: Variant::Fueled }, &mut body);
        let file = anonymous_file("test").unwrap();
        send(&agent, &body, &[file.as_fd()]).unwrap();
        drop(agent);
        let mut receiver = Receiver::new(DESCRIPTORS_MAX);
        let packet = receiver.receive(&runner).unwrap().unwrap();
        assert_eq!(packet.files.len(), 1);
        let mut rest = &*packet.body;
        assert!(matches!(decode(&mut rest).unwrap(), Some(ToRunner::Unload { slot: 3 })));
        let load = decode(&mut rest).unwrap();
        assert!(matches!(load, Some(ToRunner::Load { slot: 4, variant: Variant::Fueled })));
        assert!(decode::<ToRunner>(&mut rest).unwrap().is_none());
        assert!(receiver.receive(&runner).unwrap().is_none());
    }

    #[test]
    fn bodies_longer_than_a_packet_and_more_descriptors_than_one_takes_arrive() {
        let (agent, runner) = pair();
        let manifest = Bytes::from(vec![7; PACKET_BYTES_MAX * 3]);
        let done = Done { seq: 9, manifest, outputs: vec![], begun_ns: 1, ended_ns: 2, cpu_us: 3 };
        let mut body = Vec::new();
        encode(&FromRunner::Done(Box::new(done)), &mut body);
        let file = anonymous_file("test").unwrap();
        let files = vec![file.as_fd(); DESCRIPTORS_PER_PACKET * 2 + 1];
        send(&agent, &body, &files).unwrap();
        let mut receiver = Receiver::new(DESCRIPTORS_MAX);
        let packet = receiver.receive(&runner).unwrap().unwrap();
        assert_eq!(packet.files.len(), files.len());
        assert_eq!(*packet.body, body);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let (agent, runner) = pair();
        for broken in [&[9_u8][..], &[MORE], &[LARGE, 1, 2], &[LARGE, 1, 0, 0, 0, 0, 0, 0, 0]] {
            rustix::net::send(&agent, broken, SendFlags::empty()).unwrap();
            let mut receiver = Receiver::new(DESCRIPTORS_MAX);
            let received = receiver.receive(&runner);
            assert!(matches!(received, Err(FrameError::Broken(_))), "{broken:?}");
        }
        let mut garbage: &[u8] = &[0xff; 5];
        assert!(matches!(decode::<FromRunner>(&mut garbage), Err(FrameError::Broken(_))));
    }
}
