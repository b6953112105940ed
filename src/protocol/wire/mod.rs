//! What coordinator and remote worker send each other: a WebSocket whose binary messages are batches of frames.
//!
//! A message begins with one byte: 0 for the handshake, otherwise the version of the frames behind it, one after the other in
//! postcard's encoding. Invariants: whatever bytes come, decoding them neither panics nor allocates more than a small multiple
//! of their number, itself bounded by [`MESSAGE_BYTES_MAX`]; every list has a bound. A spec travels as its canonical JSON, so
//! that the worker finds the run key by itself. No behaviour beyond encoding: what frames mean is in [`super::agent`].

mod bounded;
mod from_worker;
mod handshake;
mod to_worker;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use from_worker::{Body, FromWorker};
pub use handshake::{Facts, Greeting, HOLDS_MAX, Hello, Hold, LABELS_MAX, RejectCode, Welcome};
pub use to_worker::ToWorker;

use self::handshake::HANDSHAKE;
use crate::id::{AttemptId, RunId};

/// The version of the frames of this build.
pub const VERSION: u16 = 2;
/// The largest message that is taken, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// What is read at once: the library clears so much before each reading, and most messages are much shorter.
pub const READ_BUFFER_BYTES: usize = 16 << 10;
/// The largest frame that is sent, in bytes; a batch before it fits the same message.
pub const FRAME_BYTES_MAX: usize = 15 << 20;
/// A batch of so many bytes is sent before more is added.
pub const BATCH_BYTES: usize = 256 << 10;
/// Frames of one message.
pub const FRAMES_MAX: usize = 1024;

const _: () = assert!(FRAME_BYTES_MAX + BATCH_BYTES < MESSAGE_BYTES_MAX, "a frame fits behind a batch");

/// Why something cannot be sent or was not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// A frame is longer than it may be.
    #[error("a frame of {bytes} bytes is more than the {FRAME_BYTES_MAX} that may be sent")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A message has more frames than it may have.
    #[error("a message has more than {FRAMES_MAX} frames")]
    TooMany,
    /// A message is in another version, or out of place.
    #[error("a message begins with {0}, which was not expected")]
    Kind(u8),
    /// What came is no frame.
    #[error("a message does not decode: {0}")]
    Malformed(String),
    /// A signature is wrong.
    #[error("the signature does not verify")]
    Signature,
    /// A spec does not hash to its run key; the attempt can be refused by name.
    #[error("the spec that came hashes to another run key")]
    RunKey(AttemptId),
}

impl From<postcard::Error> for WireError {
    fn from(error: postcard::Error) -> WireError {
        WireError::Malformed(error.to_string())
    }
}

/// An attempt's name in 16 bytes of the run and its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Attempt([u8; 16], u32);

impl From<AttemptId> for Attempt {
    fn from(id: AttemptId) -> Attempt {
        Attempt(id.run.0.to_be_bytes(), id.number)
    }
}

impl From<Attempt> for AttemptId {
    fn from(Attempt(run, number): Attempt) -> AttemptId {
        AttemptId { run: RunId(u128::from_be_bytes(run)), number }
    }
}

/// The 64 bytes of a signature, as two halves: the longest array that serde knows has 32.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Signed([u8; 32], [u8; 32]);

impl From<[u8; 64]> for Signed {
    fn from(bytes: [u8; 64]) -> Signed {
        let (mut first, mut second) = ([0; 32], [0; 32]);
        first.copy_from_slice(&bytes[..32]);
        second.copy_from_slice(&bytes[32..]);
        Signed(first, second)
    }
}

impl From<Signed> for [u8; 64] {
    fn from(Signed(first, second): Signed) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&first);
        bytes[32..].copy_from_slice(&second);
        bytes
    }
}

fn encode_whole<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    let bytes = postcard::to_allocvec(value)?;
    if bytes.len() > FRAME_BYTES_MAX { Err(WireError::TooLarge { bytes: bytes.len() }) } else { Ok(bytes) }
}

fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        _ => Err(WireError::Malformed("there is more behind it".to_owned())),
    }
}

/// Encodes a message of the handshake.
///
/// # Errors
///
/// If it is too large.
pub fn encode_handshake<T: Serialize>(value: &T) -> Result<Bytes, WireError> {
    let mut message = vec![HANDSHAKE];
    message.extend(encode_whole(value)?);
    Ok(message.into())
}

/// Decodes a message of the handshake.
///
/// # Errors
///
/// If it is none.
pub fn decode_handshake<T: DeserializeOwned>(message: &[u8]) -> Result<T, WireError> {
    match message.split_first() {
        Some((&HANDSHAKE, rest)) => decode_whole(rest),
        Some((&kind, _)) => Err(WireError::Kind(kind)),
        None => Err(WireError::Malformed("it is empty".to_owned())),
    }
}

/// A message that is being put together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: usize,
}

impl Batch {
    /// Adds a frame. One that cannot be added leaves the batch as it was.
    ///
    /// # Errors
    ///
    /// If the frame is too large by itself.
    pub fn push<F: Serialize>(&mut self, frame: &F) -> Result<(), WireError> {
        if self.bytes.is_empty() {
            self.bytes.push(VERSION_BYTE);
        }
        let before = self.bytes.len();
        self.bytes = postcard::to_extend(frame, std::mem::take(&mut self.bytes))?;
        let bytes = self.bytes.len() - before;
        if bytes > FRAME_BYTES_MAX {
            self.bytes.truncate(before);
            return Err(WireError::TooLarge { bytes });
        }
        self.frames += 1;
        Ok(())
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Whether it is to be sent before more is added; there is room for one more small frame.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.frames >= FRAMES_MAX - 1
    }

    /// The message; the batch is empty afterwards.
    pub fn take(&mut self) -> Bytes {
        self.frames = 0;
        std::mem::take(&mut self.bytes).into()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a build whose version does not fit does not compile")]
const VERSION_BYTE: u8 = {
    assert!(VERSION > 0 && VERSION < 256);
    VERSION as u8
};

/// Takes a message apart.
///
/// # Errors
///
/// If it is of another version, has too many frames, or does not decode: then nothing of it is used.
pub fn decode<F: DeserializeOwned>(message: &[u8]) -> Result<Vec<F>, WireError> {
    let (&kind, mut rest) =
        message.split_first().ok_or_else(|| WireError::Malformed("it is empty".to_owned()))?;
    if kind != VERSION_BYTE {
        return Err(WireError::Kind(kind));
    }
    let mut frames = Vec::new();
    while !rest.is_empty() {
        if frames.len() == FRAMES_MAX {
            return Err(WireError::TooMany);
        }
        let (frame, behind) = postcard::take_from_bytes(rest)?;
        frames.push(frame);
        rest = behind;
    }
    Ok(frames)
}
