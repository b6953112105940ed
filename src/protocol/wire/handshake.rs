//! The first words of a session: challenge, hello, welcome or rejection.
//!
//! Their form never changes, so that peers of any two versions can at least tell each other that they don't match.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::{Attempt, Signed, WireError, decode_whole, encode_whole};
use crate::digest::Digest;
use crate::protocol::agent::AssignmentMac;

/// Versions that a coordinator may offer.
const VERSIONS_MAX: usize = 16;
/// Labels of a worker.
pub const LABELS_MAX: usize = 64;
/// Attempts that a worker may hold, votes that were not released included.
pub const HOLDS_MAX: usize = 16 * 1024;
/// Classes of a worker.
const ABOUT_MAX: usize = 4;
/// Says what is signed.
const HELLO_TAG: &[u8; 16] = b"lockstep hello1\0";
/// The form of the handshake: the first byte of its messages, never that of a batch.
pub(super) const HANDSHAKE: u8 = 0;

/// Coordinator to worker, before and after [`Hello`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Greeting {
    /// The first word.
    Challenge {
        /// Versions of the frames that it speaks.
        #[serde(deserialize_with = "bounded::list::<_, _, VERSIONS_MAX>")]
        versions: Vec<u16>,
        /// To be signed; new for each session.
        nonce: [u8; 32],
        /// The coordinator's build, for people.
        build: String,
    },
    /// The worker is in.
    Welcome(Welcome),
    /// It is not; the connection ends.
    Rejected {
        /// Stable word, see [`RejectCode`].
        code: String,
        /// What is wrong and what to do.
        text: String,
    },
}

/// What a worker that is let in has to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Its number in this pool.
    pub worker: u32,
    /// Its trust domain.
    pub domain: String,
    /// Between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// After so long without a word the other side is taken for dead, in milliseconds.
    pub silence_ms: u64,
    /// Bearer token for blobs.
    pub http_token: String,
    /// Why it gets nothing, if it is quarantined.
    pub quarantined: Option<String>,
}

/// Why a worker is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectCode {
    /// No common version.
    Version,
    /// Its key is not known and it showed no token that lets it in.
    Token,
    /// Its signature is wrong, or its key may not be used here.
    Identity,
    /// What it says of itself is out of bounds.
    Facts,
    /// It spoke when or what it should not.
    Protocol,
    /// As many workers are connected as are allowed.
    Full,
    /// The coordinator cannot say now.
    Unavailable,
}

impl RejectCode {
    /// All of them.
    const ALL: [RejectCode; 7] = [
        RejectCode::Version,
        RejectCode::Token,
        RejectCode::Identity,
        RejectCode::Facts,
        RejectCode::Protocol,
        RejectCode::Full,
        RejectCode::Unavailable,
    ];

    /// The stable word.
    pub fn name(self) -> &'static str {
        match self {
            RejectCode::Version => "version",
            RejectCode::Token => "token",
            RejectCode::Identity => "identity",
            RejectCode::Facts => "facts",
            RejectCode::Protocol => "protocol",
            RejectCode::Full => "full",
            RejectCode::Unavailable => "unavailable",
        }
    }

    /// Whether trying again cannot help. A word that this build does not know may be anything, so it is not.
    pub fn is_permanent(name: &str) -> bool {
        let known = RejectCode::ALL.into_iter().find(|code| code.name() == name);
        known.is_some_and(|code| !matches!(code, RejectCode::Full | RejectCode::Unavailable))
    }
}

/// An attempt that a worker still holds, with proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Which.
    pub attempt: Attempt,
    /// Under which term it was assigned.
    pub epoch: u64,
    /// Proof of the assignment.
    pub mac: AssignmentMac,
}

/// What a worker says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The version of the frames that follow.
    pub version: u16,
    /// What people call it.
    pub name: String,
    /// Its equivalence class for `det-1`.
    pub class: Digest,
    /// Attempts at once.
    pub slots: u32,
    /// Memory for all of them, in bytes.
    pub memory_bytes: u64,
    /// What placement may ask for.
    #[serde(deserialize_with = "bounded::list::<_, _, LABELS_MAX>")]
    pub labels: Vec<(String, String)>,
    /// What it still holds.
    #[serde(deserialize_with = "bounded::list::<_, _, HOLDS_MAX>")]
    pub holds: Vec<Hold>,
    /// Its build, for people.
    pub build: String,
    /// Its class for `det-1-portable`.
    pub portable: Digest,
    /// The same where machine code must be equal.
    pub portable_code: Digest,
    /// What its classes are made of, each as JSON, for people.
    #[serde(deserialize_with = "bounded::list::<_, _, ABOUT_MAX>")]
    pub about: Vec<String>,
}

/// Worker to coordinator: who it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`Facts`], encoded: these very bytes are signed.
    facts: Vec<u8>,
    /// Ed25519 public key.
    pub key: [u8; 32],
    signature: Signed,
}

impl Hello {
    /// Signs `facts` and the challenge's nonce.
    ///
    /// # Errors
    ///
    /// If the facts are too large to be sent.
    pub fn sign(facts: &Facts, nonce: &[u8; 32], key: &SigningKey) -> Result<Hello, WireError> {
        let facts = encode_whole(facts)?;
        let signature = Signed::from(key.sign(&signed_bytes(nonce, &facts)).to_bytes());
        Ok(Hello { facts, key: key.verifying_key().to_bytes(), signature })
    }

    /// The facts, if whoever has the key signed them for this challenge.
    ///
    /// # Errors
    ///
    /// If the signature is wrong ([`WireError::Signature`]), or the facts do not decode.
    pub fn verify(&self, nonce: &[u8; 32]) -> Result<Facts, WireError> {
        let key = VerifyingKey::from_bytes(&self.key).map_err(|_| WireError::Signature)?;
        let signature = Signature::from_bytes(&self.signature.clone().into());
        key.verify_strict(&signed_bytes(nonce, &self.facts), &signature).map_err(|_| WireError::Signature)?;
        decode_whole(&self.facts)
    }
}

fn signed_bytes(nonce: &[u8; 32], facts: &[u8]) -> [u8; 80] {
    let mut bytes = [0; 80];
    bytes[..16].copy_from_slice(HELLO_TAG);
    bytes[16..48].copy_from_slice(nonce);
    bytes[48..].copy_from_slice(Digest::of(facts).as_bytes());
    bytes
}
