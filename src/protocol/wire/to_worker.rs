//! Frames from coordinator to worker.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Attempt, WireError, bounded};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, WorkspaceId};
use crate::protocol::agent::{Assignment, ToAgent};
use crate::spec::RunSpec;

/// Small inputs that travel with an assignment: more than a spec can name.
const INLINE_MAX: usize = crate::spec::FILES_MAX + 2;
/// Blobs that are asked for at once: every output of the largest result.
pub(super) const DIGESTS_MAX: usize = 66_000;

/// Coordinator to worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// See [`ToAgent::Assign`].
    Assign(Box<Assign>),
    /// See [`ToAgent::Abort`].
    Abort(Attempt),
    /// See [`ToAgent::Collect`].
    Collect {
        /// Which attempt.
        attempt: Attempt,
        /// The blobs that are wanted.
        #[serde(deserialize_with = "bounded::list::<_, _, DIGESTS_MAX>")]
        digests: Vec<Digest>,
    },
    /// See [`ToAgent::Release`].
    Release(Attempt),
    /// See [`ToAgent::Watch`].
    Watch(Attempt),
    /// See [`ToAgent::Drain`].
    Drain {
        /// In milliseconds.
        within_ms: u64,
    },
    /// A new bearer token for blobs; the one before ends soon.
    HttpToken(String),
    /// So many messages of this session were taken: what was in them need not be kept for saying it again.
    Taken {
        /// Since the welcome.
        messages: u64,
    },
    /// How long votes may wait for each other from now on: nought where few runs are open, since somebody may wait for
    /// just this one.
    Patience {
        /// In milliseconds.
        ms: u16,
    },
}

/// An assignment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assign {
    attempt: Attempt,
    epoch: u64,
    mac: [u8; 32],
    nonce: [u8; 16],
    workspace: u32,
    /// Canonical JSON.
    spec: Bytes,
    run_key: Digest,
    #[serde(deserialize_with = "bounded::list::<_, _, INLINE_MAX>")]
    inline: Vec<(Digest, Bytes)>,
    timeout_ms: u64,
    live: bool,
}

impl From<&Assignment> for Assign {
    fn from(assignment: &Assignment) -> Assign {
        Assign {
            attempt: assignment.attempt.into(),
            epoch: assignment.epoch.0,
            mac: assignment.mac,
            nonce: assignment.nonce,
            workspace: assignment.workspace.0,
            spec: assignment.spec.canonical().into(),
            run_key: assignment.run_key,
            inline: assignment.inline.iter().map(|(digest, bytes)| (*digest, bytes.clone())).collect(),
            timeout_ms: assignment.timeout_ms,
            live: assignment.live,
        }
    }
}

impl TryFrom<Assign> for Assignment {
    type Error = WireError;

    fn try_from(frame: Assign) -> Result<Assignment, WireError> {
        let attempt = AttemptId::from(frame.attempt);
        // a field that this build does not know would change the result: reading it fails
        let spec: RunSpec =
            serde_json::from_slice(&frame.spec).map_err(|error| WireError::Malformed(error.to_string()))?;
        if Digest::of(&frame.spec) != frame.run_key {
            return Err(WireError::RunKey(attempt));
        }
        Ok(Assignment {
            attempt,
            epoch: Epoch(frame.epoch),
            mac: frame.mac,
            nonce: frame.nonce,
            workspace: WorkspaceId(frame.workspace),
            spec: Arc::new(spec),
            run_key: frame.run_key,
            inline: Arc::new(frame.inline.into_iter().collect()),
            timeout_ms: frame.timeout_ms,
            live: frame.live,
        })
    }
}

impl Assign {
    /// Which attempt, under which term.
    pub fn name(&self) -> (AttemptId, Epoch) {
        (self.attempt.into(), Epoch(self.epoch))
    }
}

impl From<&ToAgent> for ToWorker {
    fn from(message: &ToAgent) -> ToWorker {
        match message {
            ToAgent::Assign(assignment) => ToWorker::Assign(Box::new(Assign::from(assignment.as_ref()))),
            ToAgent::Abort(attempt) => ToWorker::Abort((*attempt).into()),
            ToAgent::Collect { attempt, digests } => {
                ToWorker::Collect { attempt: (*attempt).into(), digests: digests.clone() }
            }
            ToAgent::Release(attempt) => ToWorker::Release((*attempt).into()),
            ToAgent::Watch(attempt) => ToWorker::Watch((*attempt).into()),
            ToAgent::Drain { within_ms } => ToWorker::Drain { within_ms: *within_ms },
        }
    }
}
