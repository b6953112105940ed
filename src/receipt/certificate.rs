//! What a receipt says: an in-toto Statement v1 (<https://in-toto.io/Statement/v1>) with Lockstep's own predicate.
//!
//! Invariant: equal statements have equal bytes (RFC 8785), unknown fields are refused. A change of the meaning, or a field that
//! an older checker may not ignore, is a new [`PREDICATE_TYPE`]. `docs/receipts.md` describes every field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::statement::VoteStatement;
use super::text::{Hex, PublicKey};
use crate::core::Class;
use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId};
use crate::result::{Outcome, ResultManifest, Verdict};
use crate::spec::{Profile, RunSpec, canonical_json};

/// The form of the statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The form and the meaning of the predicate, with its version.
pub const PREDICATE_TYPE: &str = "urn:lockstep:receipt:v1";
/// Spec and manifest are in the receipt up to this size as canonical JSON, in bytes; longer ones are named by digest only.
pub const CONTENT_BYTES_MAX: usize = 64 << 10;

/// What is signed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What it is about: the result first, then what it names if the manifest is there, see [`subjects`].
    pub subject: Vec<Subject>,
    /// [`PREDICATE_TYPE`].
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What is said about it.
    pub predicate: Predicate,
}

/// Something that is named by its digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// `result`, `stdout`, `stderr`, or the path of an output file.
    pub name: String,
    /// Its digest.
    pub digest: SubjectDigest,
}

/// A digest as in-toto writes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectDigest {
    /// SHA-256.
    pub sha256: Hex<32>,
}

/// How a result came about.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    /// The run.
    pub run: RunId,
    /// Of its final: a corrected result has a higher one.
    pub revision: u32,
    /// What was executed.
    pub module: Digest,
    /// Digest of the run spec: module, entry, arguments, inputs, limits, everything that determines the result.
    pub run_key: Digest,
    /// The run spec itself, up to [`CONTENT_BYTES_MAX`].
    pub spec: Option<RunSpec>,
    /// The semantics.
    pub profile: Profile,
    /// The result digest: that of the manifest.
    pub result: Digest,
    /// The manifest itself, up to [`CONTENT_BYTES_MAX`].
    pub manifest: Option<ResultManifest>,
    /// What the guest did.
    pub outcome: Outcome,
    /// What comparing the votes said.
    pub verdict: Verdict,
    /// By which rule that was decided.
    pub rule: Rule,
    /// The equivalence class of those who voted.
    pub class: Digest,
    /// What the class is the digest of (build, engine, flags, CPU features), if the coordinator knows it.
    pub class_inputs: Option<BTreeMap<String, serde_json::Value>>,
    /// The votes that the result rests on.
    pub votes: Vec<Vote>,
    /// Votes for other results that were compared with it.
    pub dissents: Vec<Vote>,
    /// When the run was submitted, by the coordinator's clock.
    pub created_at: jiff::Timestamp,
    /// When it ended.
    pub finished_at: jiff::Timestamp,
    /// When this receipt was signed.
    pub issued_at: jiff::Timestamp,
}

/// The rule by which votes decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `once`, `quorum`, or one that decides by credibility: `standard` or `high`.
    pub policy: String,
    /// With `quorum`: voters that are placed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// With rules of credibility: the bound on the probability of a wrong result, as a decimal fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<String>,
}

/// When a worker signed its vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedWhen {
    /// When it voted: a worker with a machine and a key of its own.
    WithVote,
    /// When a receipt was asked for: an embedded worker, whose key the coordinator's process holds.
    ForReceipt,
}

/// A vote with what proves that its worker signed it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Number of the attempt.
    pub attempt: u32,
    /// The worker's number in its pool.
    pub worker: WorkerId,
    /// Who answers for the worker, as the coordinator has it.
    pub domain: String,
    /// The worker's public key.
    pub key: PublicKey,
    /// The assignment's nonce.
    pub nonce: Hex<16>,
    /// As what it was executed.
    pub class: Digest,
    /// The machine code that was executed.
    pub artifact: Digest,
    /// What came out.
    pub result: Digest,
    /// When it was signed.
    pub signed: SignedWhen,
    /// What was signed.
    pub batch: Batch,
    /// With rules of credibility: how likely its worker was right, as a decimal fraction, as the coordinator saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credibility: Option<String>,
    /// With rules of credibility: results of its worker that others had confirmed, in thousandths and aged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmations_milli: Option<u64>,
    /// With rules of credibility: workers of one fault domain count as the best of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<u32>,
    /// With rules of credibility: whether its worker is a trusted executor of the operator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arbiter: bool,
}

/// A batch of votes that was signed as a whole, as far as one of its votes needs it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Votes in it.
    pub count: u32,
    /// Position of the vote, from 0.
    pub index: u32,
    /// The way from the vote to the root that was signed, from the leaf upwards.
    pub path: Vec<Hex<32>>,
    /// The worker's signature over root and count.
    pub signature: Hex<64>,
}

impl Vote {
    /// What the worker stated, in a run with this key.
    pub fn statement(&self, run: RunId, run_key: Digest) -> VoteStatement {
        VoteStatement {
            attempt: AttemptId { run, number: self.attempt },
            nonce: self.nonce.0,
            run_key,
            class: Class(self.class),
            artifact: self.artifact,
            result: self.result,
        }
    }
}

impl Statement {
    /// A statement about the result of a run.
    pub fn new(predicate: Predicate) -> Statement {
        Statement {
            kind: STATEMENT_TYPE.to_owned(),
            subject: subjects(predicate.result, predicate.manifest.as_ref()),
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate,
        }
    }

    /// The canonical JSON (RFC 8785): what is signed.
    pub fn canonical(&self) -> Vec<u8> {
        canonical_json(self)
    }
}

/// What a receipt of this result is about.
pub fn subjects(result: Digest, manifest: Option<&ResultManifest>) -> Vec<Subject> {
    let subject = |name: &str, digest: Digest| Subject {
        name: name.to_owned(),
        digest: SubjectDigest { sha256: Hex(*digest.as_bytes()) },
    };
    let mut subjects = vec![subject("result", result)];
    if let Some(manifest) = manifest {
        subjects.push(subject("stdout", manifest.stdout.digest));
        subjects.push(subject("stderr", manifest.stderr.digest));
        subjects.extend(manifest.files.iter().map(|file| subject(file.path.as_str(), file.digest)));
    }
    subjects
}
