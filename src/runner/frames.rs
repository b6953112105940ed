//! What an agent and its runner say to each other: postcard in packets of a socketpair, descriptors beside them.
//!
//! A packet is one frame and arrives whole or not at all. Nothing in a frame is trusted by the agent beyond what a
//! vote is: a guest that escaped into its runner can say whatever it likes, about its own attempt.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::spec::Limits;

/// Largest frame in bytes; both ends have socket buffers for it. What is larger travels by descriptor.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Inputs of one attempt that travel inside its frame, in bytes together.
pub const INLINE_INPUT_BYTES_MAX: usize = 32 * 1024;
/// Descriptors beside one frame; the kernel's own bound is 253.
pub const DESCRIPTORS_MAX: usize = 128;

/// Where an input's bytes are.
#[derive(Serialize, Deserialize, Debug)]
pub enum Source {
    /// In the frame.
    Inline(Bytes),
    /// The first `size` bytes of the next descriptor beside the frame.
    Descriptor {
        /// Bytes.
        size: u64,
    },
}

/// What is put at a guest path.
#[derive(Serialize, Deserialize, Debug)]
pub struct MountFrame {
    /// Where.
    pub path: String,
    /// A packed directory instead of a file.
    pub is_tree: bool,
    /// The bytes.
    pub source: Source,
}

/// One attempt.
#[derive(Serialize, Deserialize, Debug)]
pub struct Execute {
    /// Counts the attempts of this runner.
    pub sequence: u64,
    /// Which loaded module.
    pub module: u32,
    /// Exported function.
    pub entry: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Source,
    /// Files and trees, by path.
    pub mounts: Vec<MountFrame>,
    /// First reading of the clock, nanoseconds since the Unix epoch.
    pub clock_ns: u64,
    /// Seed.
    pub seed: u64,
    /// Bounds.
    pub limits: Limits,
}

/// Agent to runner.
#[derive(Serialize, Deserialize, Debug)]
pub enum ToRunner {
    /// The first frame, with two descriptors: the begun mark and the live output.
    Setup,
    /// Load the artifact in the descriptor beside it.
    Load {
        /// Under this number.
        module: u32,
        /// Whether it counts fuel.
        fueled: bool,
    },
    /// Forget a loaded artifact.
    Unload {
        /// Which.
        module: u32,
    },
    /// Execute.
    Execute(Box<Execute>),
}

/// Runner to agent.
#[derive(Serialize, Deserialize, Debug)]
pub enum FromRunner {
    /// It is confined and waits.
    Ready,
    /// An attempt ended, whatever the guest did.
    Done {
        /// Which.
        sequence: u64,
        /// The result manifest's canonical JSON.
        manifest: Bytes,
        /// Its outputs, if they are small together.
        inline: Vec<(Digest, Bytes)>,
        /// Otherwise where each is in the memory file beside the frame: digest, offset, size.
        stored: Vec<(Digest, u64, u64)>,
        /// CPU time, in microseconds.
        cpu_us: u64,
    },
    /// It could not be executed: the guest did not run, or what it did is no answer.
    Refused {
        /// Which.
        sequence: u64,
        /// Why.
        why: String,
    },
}

/// Why a frame did not go or come.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other end is gone.
    #[error("the other end is gone")]
    Gone,
    /// The socket would block.
    #[error("the socket would block")]
    WouldBlock,
    /// The kernel refused.
    #[error("socket: {0}")]
    Socket(Errno),
    /// A frame that cannot be: too large, cut, or not in the encoding.
    #[error("bad frame: {0}")]
    Bad(String),
}

impl From<Errno> for FrameError {
    fn from(errno: Errno) -> FrameError {
        match errno {
            Errno::AGAIN => FrameError::WouldBlock,
            Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN => FrameError::Gone,
            other => FrameError::Socket(other),
        }
    }
}

/// Encodes a frame.
///
/// # Errors
///
/// [`FrameError::Bad`] if it is larger than [`FRAME_BYTES_MAX`].
pub fn encode<T: Serialize>(frame: &T) -> Result<Vec<u8>, FrameError> {
    let bytes = postcard::to_stdvec(frame).map_err(|error| FrameError::Bad(error.to_string()))?;
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(FrameError::Bad(format!("{} bytes, at most {FRAME_BYTES_MAX}", bytes.len())));
    }
    Ok(bytes)
}

/// Sends an encoded frame with its descriptors in one packet.
///
/// # Errors
///
/// See [`FrameError`].
pub fn send(socket: impl AsFd, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), FrameError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(FrameError::Bad(format!("{} descriptors, at most {DESCRIPTORS_MAX}", descriptors.len())));
    }
    sendmsg(socket, &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a packet into `buffer` (of [`FRAME_BYTES_MAX`] bytes): the frame and its descriptors.
///
/// # Errors
///
/// See [`FrameError`].
pub fn receive<T: for<'de> Deserialize<'de>>(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(T, Vec<OwnedFd>), FrameError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Err(FrameError::Gone);
    }
    let frame = postcard::from_bytes(&buffer[..received.bytes])
        .map_err(|error| FrameError::Bad(error.to_string()))?;
    Ok((frame, descriptors))
}
