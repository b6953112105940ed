//! What a coordinator and an agent say to each other, over a channel (embedded) or a stream (remote).
//!
//! Each direction is ordered and may lose everything behind a cut, never something in between. An agent keeps
//! the outputs of what it voted for until [`ToAgent::Release`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::class::{ClassInputs, Classes};
use crate::core::Class;
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId};
use crate::receipt::{VoteProof, VoteStatement};
use crate::result::Fault;
use crate::spec::RunSpec;

/// Outputs of one attempt that travel inline with the vote, in bytes together; more is asked for by `Collect`.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;

/// HMAC-SHA-256 of the coordinator over run, attempt number and epoch: what an agent that comes back shows for the
/// attempts that it still holds.
pub type AssignmentMac = [u8; 32];

/// An attempt handed to an agent.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Which.
    pub attempt: AttemptId,
    /// The owner's term; named in every answer.
    pub epoch: Epoch,
    /// Proof of the assignment.
    pub mac: AssignmentMac,
    /// Makes the vote of this attempt unlike any other.
    pub nonce: [u8; 16],
    /// The workspace: a runner serves one.
    pub workspace: crate::id::WorkspaceId,
    /// What to execute.
    pub spec: Arc<RunSpec>,
    /// The spec's run key.
    pub run_key: Digest,
    /// Small inputs by digest, so that they need not be fetched.
    pub inline: Arc<BTreeMap<Digest, Bytes>>,
    /// Wall time from its beginning after which the runner is killed, in milliseconds.
    pub timeout_ms: u64,
    /// Whether somebody watches the output as it comes.
    pub live: bool,
}

/// Coordinator to agent.
#[derive(Clone, Debug)]
pub enum ToAgent {
    /// Execute this.
    Assign(Box<Assignment>),
    /// Kill it, or forget it if it has not begun. Answered by nothing.
    Abort(AttemptId),
    /// Deliver these blobs of the result of an attempt; answered by [`FromAgent::Blobs`].
    Collect {
        /// Which attempt.
        attempt: AttemptId,
        /// The blobs that are wanted.
        digests: Vec<Digest>,
    },
    /// Its outputs may go.
    Release(AttemptId),
    /// Somebody watches its output from now on.
    Watch(AttemptId),
    /// Take no more work, finish what runs within `within_ms`, then close.
    Drain {
        /// What still runs afterwards is killed and reported as drained.
        within_ms: u64,
    },
}

/// A blob that an agent delivers.
#[derive(Debug)]
pub enum BlobBody {
    /// Small.
    Inline(Bytes),
    /// Large, in an open (anonymous) file: the first `size` bytes from `offset`.
    File {
        /// The file; positions are explicit, nobody relies on its cursor.
        file: Arc<std::fs::File>,
        /// Where the blob begins.
        offset: u64,
        /// Its length in bytes.
        size: u64,
    },
    /// Already in the blob store: a remote agent put it there before it said so.
    Stored {
        /// Its length in bytes, as the agent has it.
        size: u64,
    },
}

/// A worker's statement that an attempt gave a result.
#[derive(Clone, Debug)]
pub struct VoteReport {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Under which term it was assigned.
    pub epoch: Epoch,
    /// The assignment's nonce.
    pub nonce: [u8; 16],
    /// What was executed.
    pub run_key: Digest,
    /// As what it was executed: the worker's class for the profile.
    pub class: Class,
    /// The machine code that was executed; equal inside a class or somebody is corrupt.
    pub artifact: Digest,
    /// Digest of `manifest`.
    pub result: Digest,
    /// The result manifest's canonical JSON.
    pub manifest: Bytes,
    /// Its outputs, if they are small together ([`INLINE_BYTES_MAX`]).
    pub inline: Vec<(Digest, Bytes)>,
    /// CPU time used, in microseconds.
    pub cpu_us: u64,
    /// When the runner began it, in microseconds since the Unix epoch by the agent's clock.
    pub begun_at_us: u64,
    /// That its worker signed it; checked before anybody else sees it. An embedded agent signs only when a receipt is
    /// asked for.
    pub proof: Option<Box<VoteProof>>,
}

impl VoteReport {
    /// What the worker states with it.
    pub fn statement(&self) -> VoteStatement {
        VoteStatement {
            attempt: self.attempt,
            nonce: self.nonce,
            run_key: self.run_key,
            class: self.class,
            artifact: self.artifact,
            result: self.result,
        }
    }
}

/// How an attempt fares, told with each heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// Which.
    pub attempt: AttemptId,
    /// CPU time used so far, in microseconds: rising is slow, flat is stuck.
    pub cpu_us: u64,
    /// When the runner began it, if it has.
    pub begun_at_us: Option<u64>,
}

/// Agent to coordinator.
#[derive(Debug)]
pub enum FromAgent {
    /// The first word of a session.
    Hello {
        /// Its equivalence classes.
        classes: Classes,
        /// What they are made of, for people.
        about: Vec<ClassInputs>,
        /// Attempts at once.
        slots: u32,
        /// Memory for all of them, in bytes.
        memory_bytes: u64,
        /// What placement may ask for.
        labels: BTreeMap<String, String>,
        /// What it still holds, with proof.
        holds: Vec<(AttemptId, Epoch, AssignmentMac)>,
        /// The build, for people.
        version: String,
    },
    /// It would take so many more attempts now. A worker says `Hello` first and grants afterwards.
    ///
    /// The number is absolute at the moment at which it was said, when the worker had received `received`
    /// assignments in this session. Assignments that were on their way then have used up a part of it: whoever sent `sent`
    /// so far has `credits - (sent - received)` left, not below 0. Each `Assign` uses up one; the worker says a new
    /// number only when something else than an assignment that it received has changed what it would take.
    Credits {
        /// Attempts beyond those that it holds.
        credits: u32,
        /// Assignments that it had received in this session.
        received: u64,
    },
    /// It is alive, and so are these.
    Heartbeat(Vec<Beat>),
    /// A vote.
    Voted(Box<VoteReport>),
    /// A fault.
    Faulted {
        /// Of which attempt.
        attempt: AttemptId,
        /// Under which term it was assigned.
        epoch: Epoch,
        /// What happened.
        fault: Fault,
        /// When the runner had begun it, if it had.
        begun_at_us: Option<u64>,
        /// CPU time used, in microseconds.
        cpu_us: u64,
    },
    /// It hands back an attempt that no runner has begun, because what it executes takes longer than it had expected: a
    /// word about itself, not about the attempt, which costs nobody anything. The worker holds it no longer.
    Returned {
        /// Which.
        attempt: AttemptId,
        /// Under which term it was assigned.
        epoch: Epoch,
    },
    /// The blobs that a `Collect` asked for; one that is not to be had is left out.
    Blobs {
        /// Of which attempt.
        attempt: AttemptId,
        /// By digest.
        blobs: Vec<(Digest, BlobBody)>,
    },
    /// Output as it comes: unverified, for people.
    Live {
        /// Of which attempt.
        attempt: AttemptId,
        /// Standard error instead of standard output.
        is_stderr: bool,
        /// Position of the first byte in its stream.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// It has drained and holds nothing.
    Drained,
}

/// The bytes over which a [`AssignmentMac`] is made: 16 of the run, 4 of the number, 8 of the epoch, big-endian.
pub fn mac_input(run: RunId, number: u32, epoch: Epoch) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..16].copy_from_slice(&run.0.to_be_bytes());
    bytes[16..20].copy_from_slice(&number.to_be_bytes());
    bytes[20..].copy_from_slice(&epoch.0.to_be_bytes());
    bytes
}
