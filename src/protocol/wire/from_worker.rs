//! Frames from worker to coordinator.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Attempt, Signed, bounded};
use crate::core::Class;
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch};
use crate::protocol::agent::{Beat, BlobBody, FromAgent, VoteReport};
use crate::result::Fault;

/// Attempts that one heartbeat tells of.
const BEATS_MAX: usize = 16 * 1024;
/// Outputs that travel with a vote: their bytes are bounded, so are they.
const INLINE_MAX: usize = 66_000;
/// Blobs that are delivered at once.
const BLOBS_MAX: usize = super::to_worker::DIGESTS_MAX;
/// Text that describes a fault, in bytes; the rest is cut off.
const DETAIL_BYTES_MAX: usize = 1_000;

/// Worker to coordinator. There is no hello: a session has one, in its handshake.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// See [`FromAgent::Credits`].
    Credits {
        /// Attempts beyond those that it holds.
        credits: u32,
        /// Assignments that it had received in this session.
        received: u64,
    },
    /// See [`FromAgent::Heartbeat`]: attempt, CPU time, begun at.
    Heartbeat(
        #[serde(deserialize_with = "bounded::list::<_, _, BEATS_MAX>")] Vec<(Attempt, u64, Option<u64>)>,
    ),
    /// See [`FromAgent::Voted`].
    Voted(Box<Vote>),
    /// See [`FromAgent::Faulted`].
    Faulted {
        /// Of which attempt.
        attempt: Attempt,
        /// Under which term.
        epoch: u64,
        /// What happened.
        fault: FaultFrame,
        /// When the runner had begun it.
        begun_at_us: Option<u64>,
        /// CPU time used.
        cpu_us: u64,
    },
    /// See [`FromAgent::Returned`].
    Returned {
        /// Which.
        attempt: Attempt,
        /// Under which term.
        epoch: u64,
    },
    /// See [`FromAgent::Blobs`].
    Blobs {
        /// Of which attempt.
        attempt: Attempt,
        /// By digest.
        #[serde(deserialize_with = "bounded::list::<_, _, BLOBS_MAX>")]
        blobs: Vec<(Digest, Body)>,
    },
    /// See [`FromAgent::Live`].
    Live {
        /// Of which attempt.
        attempt: Attempt,
        /// Standard error instead of standard output.
        is_stderr: bool,
        /// Position of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// See [`FromAgent::Drained`].
    Drained,
    /// Over the Merkle root of this message's votes, in their order.
    Signature(Signed),
}

/// A vote; its signature is that of its message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vote {
    attempt: Attempt,
    epoch: u64,
    nonce: [u8; 16],
    run_key: Digest,
    class: Digest,
    artifact: Digest,
    result: Digest,
    manifest: Bytes,
    #[serde(deserialize_with = "bounded::list::<_, _, INLINE_MAX>")]
    inline: Vec<(Digest, Bytes)>,
    cpu_us: u64,
    begun_at_us: u64,
}

/// A fault; see [`Fault`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FaultFrame {
    Crashed { signal: Option<i32>, detail: String },
    TimedOut,
    Lost,
    Refused { detail: String },
    Corrupt { detail: String },
    Drained,
}

/// A blob that is delivered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Here it is.
    Inline(Bytes),
    /// It was put into the blob store before.
    Stored {
        /// Its length.
        size: u64,
    },
}

impl From<Fault> for FaultFrame {
    fn from(fault: Fault) -> FaultFrame {
        match fault {
            Fault::Crashed { signal, detail } => FaultFrame::Crashed { signal, detail: cut(detail) },
            Fault::TimedOut => FaultFrame::TimedOut,
            Fault::Lost => FaultFrame::Lost,
            Fault::Refused { detail } => FaultFrame::Refused { detail: cut(detail) },
            Fault::Corrupt { detail } => FaultFrame::Corrupt { detail: cut(detail) },
            Fault::Drained => FaultFrame::Drained,
        }
    }
}

impl From<FaultFrame> for Fault {
    fn from(frame: FaultFrame) -> Fault {
        match frame {
            FaultFrame::Crashed { signal, detail } => Fault::Crashed { signal, detail: cut(detail) },
            FaultFrame::TimedOut => Fault::TimedOut,
            FaultFrame::Lost => Fault::Lost,
            FaultFrame::Refused { detail } => Fault::Refused { detail: cut(detail) },
            FaultFrame::Corrupt { detail } => Fault::Corrupt { detail: cut(detail) },
            FaultFrame::Drained => Fault::Drained,
        }
    }
}

/// The beginning of a text for people, without control characters.
fn cut(text: String) -> String {
    if text.len() <= DETAIL_BYTES_MAX && !text.contains(char::is_control) {
        return text;
    }
    let printable = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let mut length = 0;
    printable
        .take_while(|char| {
            length += char.len_utf8();
            length <= DETAIL_BYTES_MAX
        })
        .collect()
}

impl From<&VoteReport> for Vote {
    fn from(report: &VoteReport) -> Vote {
        Vote {
            attempt: report.attempt.into(),
            epoch: report.epoch.0,
            nonce: report.nonce,
            run_key: report.run_key,
            class: report.class.0,
            artifact: report.artifact,
            result: report.result,
            manifest: report.manifest.clone(),
            inline: report.inline.clone(),
            cpu_us: report.cpu_us,
            begun_at_us: report.begun_at_us,
        }
    }
}

impl From<Vote> for VoteReport {
    fn from(frame: Vote) -> VoteReport {
        VoteReport {
            attempt: frame.attempt.into(),
            epoch: Epoch(frame.epoch),
            nonce: frame.nonce,
            run_key: frame.run_key,
            class: Class(frame.class),
            artifact: frame.artifact,
            result: frame.result,
            manifest: frame.manifest,
            inline: frame.inline,
            cpu_us: frame.cpu_us,
            begun_at_us: frame.begun_at_us,
            proof: None,
        }
    }
}

impl FromWorker {
    /// The frame of a message of an agent; `None` for what a session does not say (its hello), or not so (a blob that has to
    /// be put into the store first).
    pub fn of(message: FromAgent) -> Option<FromWorker> {
        Some(match message {
            FromAgent::Hello { .. } => return None,
            FromAgent::Credits { credits, received } => FromWorker::Credits { credits, received },
            FromAgent::Heartbeat(beats) => FromWorker::Heartbeat(
                beats
                    .into_iter()
                    .take(BEATS_MAX)
                    .map(|beat| (beat.attempt.into(), beat.cpu_us, beat.begun_at_us))
                    .collect(),
            ),
            FromAgent::Voted(report) => FromWorker::Voted(Box::new(Vote::from(&*report))),
            FromAgent::Faulted { attempt, epoch, fault, begun_at_us, cpu_us } => FromWorker::Faulted {
                attempt: attempt.into(),
                epoch: epoch.0,
                fault: fault.into(),
                begun_at_us,
                cpu_us,
            },
            FromAgent::Returned { attempt, epoch } => {
                FromWorker::Returned { attempt: attempt.into(), epoch: epoch.0 }
            }
            FromAgent::Blobs { attempt, blobs } => {
                let bodies = blobs.into_iter().map(|(digest, body)| match body {
                    BlobBody::Inline(bytes) => Some((digest, Body::Inline(bytes))),
                    BlobBody::Stored { size } => Some((digest, Body::Stored { size })),
                    BlobBody::File { .. } => None,
                });
                FromWorker::Blobs { attempt: attempt.into(), blobs: bodies.collect::<Option<_>>()? }
            }
            FromAgent::Live { attempt, is_stderr, offset, bytes } => {
                FromWorker::Live { attempt: attempt.into(), is_stderr, offset, bytes }
            }
            FromAgent::Drained => FromWorker::Drained,
        })
    }

    /// What the owner hears; `None` for a signature.
    pub fn message(self) -> Option<FromAgent> {
        Some(match self {
            FromWorker::Credits { credits, received } => FromAgent::Credits { credits, received },
            FromWorker::Heartbeat(beats) => FromAgent::Heartbeat(
                beats
                    .into_iter()
                    .map(|(attempt, cpu_us, begun_at_us)| Beat {
                        attempt: attempt.into(),
                        cpu_us,
                        begun_at_us,
                    })
                    .collect(),
            ),
            FromWorker::Voted(vote) => FromAgent::Voted(Box::new((*vote).into())),
            FromWorker::Faulted { attempt, epoch, fault, begun_at_us, cpu_us } => FromAgent::Faulted {
                attempt: AttemptId::from(attempt),
                epoch: Epoch(epoch),
                fault: fault.into(),
                begun_at_us,
                cpu_us,
            },
            FromWorker::Returned { attempt, epoch } => {
                FromAgent::Returned { attempt: attempt.into(), epoch: Epoch(epoch) }
            }
            FromWorker::Blobs { attempt, blobs } => FromAgent::Blobs {
                attempt: attempt.into(),
                blobs: blobs
                    .into_iter()
                    .map(|(digest, body)| match body {
                        Body::Inline(bytes) => (digest, BlobBody::Inline(bytes)),
                        Body::Stored { size } => (digest, BlobBody::Stored { size }),
                    })
                    .collect(),
            },
            FromWorker::Live { attempt, is_stderr, offset, bytes } => {
                FromAgent::Live { attempt: attempt.into(), is_stderr, offset, bytes }
            }
            FromWorker::Drained => FromAgent::Drained,
            FromWorker::Signature(_) => return None,
        })
    }
}
