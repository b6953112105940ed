//! Runs as a caller reads them, whole, in lists and as events.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CacheUse, CallbackRequest, Clock, InputFile, Page, PlacementRequest, Timestamp, VerifyRequest};
use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId};
use crate::result::{FailReason, Fault, Outcome, OutputRef, RunState, VerdictKind};
use crate::spec::{Profile, Retry};

/// A run as it is read back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// A UUIDv7.
    pub id: RunId,
    /// Where it stands in its life.
    pub state: RunState,
    /// Why it failed; with `failed` only.
    #[schema(required)]
    pub reason: Option<FailReason>,
    /// What was executed.
    pub module: Digest,
    /// Digest of the run spec with all defaults filled in.
    pub run_key: Digest,
    /// 0 until it is final, then 1, and one more for each correction.
    pub revision: u32,
    /// What the guest did, once that is decided.
    #[schema(required)]
    pub outcome: Option<Outcome>,
    /// What comparing the votes says.
    pub verdict: RunVerdict,
    /// Digest of the result manifest.
    #[schema(required)]
    pub result: Option<Digest>,
    /// Whether a verified result of an earlier run answered: then it has no attempts, and its receipt is that of
    /// `cached_from`.
    pub cached: bool,
    /// Standard output of the result.
    #[schema(required)]
    pub stdout: Option<Output>,
    /// Standard error of the result.
    #[schema(required)]
    pub stderr: Option<Output>,
    /// Files that the guest left under `/out`.
    pub files: Vec<OutputFile>,
    /// Fuel used, where the run granted fuel and the guest ended by itself.
    #[schema(required)]
    pub fuel_used: Option<u64>,
    /// Every attempt so far.
    pub attempts: Vec<Attempt>,
    /// Every decision so far, in words.
    pub explain: Vec<Explanation>,
    /// What was executed, with all defaults filled in.
    pub spec: SpecView,
    /// How it is carried out, with all defaults filled in.
    pub policy: PolicyView,
    /// The run that it repeats.
    #[schema(required)]
    pub rerun_of: Option<RunId>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it ended.
    #[schema(required)]
    pub finished_at: Option<Timestamp>,
    /// The run that computed the result, if it was cached. It is kept as long as this one, and when it is corrected, so is this
    /// one: moments later, with a revision of its own.
    #[serde(default)]
    #[schema(required)]
    pub cached_from: Option<RunId>,
    /// The run whose attempts gave the result, if it shared those of an equal one in flight; its receipt is that of this run.
    /// Kept and corrected as with `cached_from`.
    #[serde(default)]
    #[schema(required)]
    pub shared_with: Option<RunId>,
    /// When this revision replaced the one before; null of the first one. `?revision=` reads the others.
    #[schema(required)]
    pub corrected_at: Option<Timestamp>,
    /// What came of verifying it anew, because somebody on whom it rested is not trusted any more; null if that never was. Of a
    /// result that another run computed: of verifying that one.
    #[schema(required)]
    pub verification: Option<Verification>,
}

/// What came of verifying a final anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// When that was known.
    pub reverified_at: Timestamp,
    /// What: this revision stays, it is itself a correction, or nothing could be said.
    pub conclusion: ConclusionName,
}

/// How verifying a final anew ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConclusionName {
    /// Trusted voters found the same.
    Confirmed,
    /// They found something else: this is it.
    Corrected,
    /// As often as it was tried, nobody could tell.
    Undecided,
    /// Trusted executions differ.
    Nondeterministic,
    /// Its module or an input is not kept any more.
    NotVerifiable,
}

impl ConclusionName {
    /// The name that JSON uses.
    pub fn name(self) -> &'static str {
        match self {
            ConclusionName::Confirmed => "confirmed",
            ConclusionName::Corrected => "corrected",
            ConclusionName::Undecided => "undecided",
            ConclusionName::Nondeterministic => "nondeterministic",
            ConclusionName::NotVerifiable => "not_verifiable",
        }
    }
}

/// A revision of a run's final.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    /// 1, and one more for each correction.
    pub revision: u32,
    /// How it says that the run ended.
    pub state: RunState,
    /// Why it failed.
    #[schema(required)]
    pub reason: Option<FailReason>,
    /// What the guest did.
    #[schema(required)]
    pub outcome: Option<Outcome>,
    /// What comparing the votes said.
    pub verdict: RunVerdict,
    /// Digest of the result manifest.
    #[schema(required)]
    pub result: Option<Digest>,
    /// When it was decided.
    #[schema(required)]
    pub decided_at: Option<Timestamp>,
    /// What came of verifying it anew.
    #[schema(required)]
    pub verification: Option<Verification>,
}

/// All revisions of a run, on one page.
pub type RevisionPage = Page<Revision>;

/// A run in a list: without its attempts, explanations, outputs and spec.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// A UUIDv7.
    pub id: RunId,
    /// Where it stands in its life.
    pub state: RunState,
    /// Why it failed.
    #[schema(required)]
    pub reason: Option<FailReason>,
    /// What was executed.
    pub module: Digest,
    /// Which exported function.
    pub entry: String,
    /// Digest of the run spec.
    pub run_key: Digest,
    /// 0 until it is final.
    pub revision: u32,
    /// What the guest did.
    #[schema(required)]
    pub outcome: Option<Outcome>,
    /// What comparing the votes says.
    pub verdict: RunVerdict,
    /// Digest of the result manifest.
    #[schema(required)]
    pub result: Option<Digest>,
    /// Whether a verified result of an earlier run answered.
    pub cached: bool,
    /// Attempts so far.
    pub attempt_count: u32,
    /// The run that it repeats.
    #[schema(required)]
    pub rerun_of: Option<RunId>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it ended.
    #[schema(required)]
    pub finished_at: Option<Timestamp>,
    /// The run that computed the result, if it was cached.
    #[serde(default)]
    #[schema(required)]
    pub cached_from: Option<RunId>,
    /// The run whose attempts gave the result, if it shared those of an equal one in flight.
    #[serde(default)]
    #[schema(required)]
    pub shared_with: Option<RunId>,
}

/// A page of runs.
pub type RunPage = Page<RunSummary>;

/// What comparing the votes says, with its figures.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunVerdict {
    /// What comparing says. Only `agreed` means compared.
    pub kind: VerdictKind,
    /// Votes for the result that won, or all votes while none has.
    pub votes: u32,
    /// Workers whose vote lost.
    pub dissenters: Vec<WorkerId>,
}

/// Bytes that a run gave out: inline as `text` or `base64` when they are small, always by digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The bytes, if they are few and UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes, if they are few and not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl Output {
    /// Shows `output`, with its bytes if they are at hand.
    pub fn new(output: OutputRef, bytes: Option<&[u8]>) -> Output {
        let (text, base64) = match bytes {
            Some(bytes) if !bytes.is_empty() => text_or_base64(bytes),
            _ => (None, None),
        };
        Output { digest: output.digest, size: output.size, text, base64 }
    }
}

/// Bytes as JSON carries them: text if they are UTF-8, base64 otherwise; one of the two is there.
pub fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

/// A file that the guest left under `/out`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct OutputFile {
    /// Where it was, `/out/…`.
    pub path: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// One execution of a run on one worker.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// The run's id, a dot and the number.
    pub id: AttemptId,
    /// From 1.
    pub number: u32,
    /// Who held it.
    pub worker: WorkerId,
    /// Where it stands.
    pub state: AttemptStateName,
    /// The result that its worker voted for.
    #[schema(required)]
    pub result: Option<Digest>,
    /// What the guest did, by that vote; null while there is none, and in runs of before it was kept.
    #[schema(required)]
    pub outcome: Option<Outcome>,
    /// Whether that is the result that won; null while undecided.
    #[schema(required)]
    pub won: Option<bool>,
    /// What the infrastructure did to it.
    #[schema(required)]
    pub fault: Option<Fault>,
    /// When it was handed out.
    pub assigned_at: Timestamp,
    /// When its runner began it.
    #[schema(required)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(required)]
    pub ended_at: Option<Timestamp>,
    /// CPU time used, in milliseconds.
    pub cpu_ms: f64,
}

/// Where an attempt stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptStateName {
    /// Handed out; its runner has not begun it.
    Assigned,
    /// Its runner has begun it.
    Begun,
    /// Its worker voted.
    Voted,
    /// It met a fault.
    Faulted,
    /// It was stopped because nobody needs it any more.
    Canceled,
}

/// One decision in words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// When.
    pub at: Timestamp,
    /// A sentence without its full stop.
    pub text: String,
}

/// A run spec with all defaults filled in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SpecView {
    /// Exported function that is called.
    pub entry: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Standard input, by digest.
    pub stdin: Digest,
    /// Read-only inputs by their path, each by digest.
    pub files: BTreeMap<String, InputFile>,
    /// The semantics.
    pub profile: Profile,
    /// Where the virtual clock starts.
    pub clock: Clock,
    /// Seed of every random source.
    pub seed: u64,
    /// Bounds on the guest.
    pub limits: LimitsView,
}

/// Bounds on a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitsView {
    /// Memories and tables, in bytes.
    pub memory_bytes: u64,
    /// Standard output and standard error together, in bytes.
    pub output_bytes: u64,
    /// Contents of written files, in bytes.
    pub file_bytes: u64,
    /// Files, directories and links made.
    pub file_count: u32,
    /// Fuel, or none.
    #[schema(required)]
    pub fuel: Option<u64>,
}

impl From<crate::spec::Limits> for LimitsView {
    fn from(limits: crate::spec::Limits) -> LimitsView {
        let crate::spec::Limits { memory_bytes, output_bytes, file_bytes, file_count, fuel } = limits;
        LimitsView { memory_bytes, output_bytes, file_bytes, file_count, fuel }
    }
}

/// A policy with all defaults filled in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// How the result is verified.
    pub verify: VerifyRequest,
    /// What a fault leads to.
    pub retry: Retry,
    /// Timed-out attempts after which the run is final.
    pub attempts_max: u32,
    /// Which workers.
    pub placement: PlacementRequest,
    /// Wall time of one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// Wall time of the whole run, in milliseconds.
    #[schema(required)]
    pub deadline_ms: Option<u64>,
    /// Higher goes first within a workspace.
    pub priority: i8,
    /// Whether it was written before it was acknowledged.
    pub durable: bool,
    /// Whether it could be answered by an equal one.
    #[serde(default)]
    pub cache: CacheUse,
    /// Who is told when it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<CallbackRequest>,
}

/// Data of the event `output`: what an attempt wrote, as it writes it. Not verified; a rerun starts anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LiveOutput {
    /// Number of the attempt.
    pub attempt: u32,
    /// Which stream.
    pub stream: StreamName,
    /// Position of the first byte in its stream.
    pub offset: u64,
    /// The bytes, if they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Always false: no votes were compared.
    pub verified: bool,
}

/// One of a command's two output streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Data of the event `end`: nothing follows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunEnd {
    /// Which run.
    pub id: RunId,
    /// Its final state.
    pub state: RunState,
}

/// Data of the event `corrected`: a final was wrong, and is of this revision now. Read the run again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Correction {
    /// Which run.
    pub id: RunId,
    /// What it is now.
    pub revision: u32,
}
