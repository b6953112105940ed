//! The wire types of the public API: what callers send and what they read, as JSON.
//!
//! Invariants: requests refuse unknown fields; every field but `module` has a default, which is the one of
//! [`crate::spec`]; ids and digests are text, times are RFC 3339 with microseconds. What is written here is promised
//! to callers and described by the served OpenAPI document.
//!
//! No behaviour beyond conversion, and no knowledge of HTTP, of the store or of who asks. Bounds are checked by
//! `coordinator/submission.rs`, so that an error can name field, value and allowed range.

#![expect(unused_qualifications, reason = "the schema derive of a generic type writes them")]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::core::Time;
use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId};
use crate::result::{FailReason, Fault, Outcome, OutputRef, RunState, VerdictKind};
use crate::spec::{Profile, Retry};

/// An instant: RFC 3339 in UTC, written with microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp(pub jiff::Timestamp);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Timestamp, jiff::Error> {
        text.parse().map(Timestamp)
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Timestamp {
        let micros = i64::try_from(time.0).unwrap_or(i64::MAX);
        // beyond the year 9999 only for a clock that is broken
        Timestamp(jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl From<Timestamp> for Time {
    /// Instants before 1970 become 1970.
    fn from(timestamp: Timestamp) -> Time {
        Time(u64::try_from(timestamp.0.as_microsecond()).unwrap_or(0))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is no RFC 3339 time with its offset")))
    }
}

/// Describes types that travel as text.
macro_rules! text_schemas {
    ($($type:ty: $description:literal, $pattern:expr, $example:literal;)+) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String).description(Some($description));
                let pattern: Option<&str> = $pattern;
                text.pattern(pattern).examples([serde_json::json!($example)]).build().into()
            }
        }

        impl ToSchema for $type {}
    )+};
}

text_schemas! {
    Digest: "SHA-256 of bytes", Some("^sha256:[0-9a-f]{64}$"),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    RunId: "A UUIDv7", Some("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"), "01920000-0000-7000-8000-000000000001";
    AttemptId: "The run's id, a dot and the attempt's number", None, "01920000-0000-7000-8000-000000000001.1";
    WorkerId: "`w` and the worker's number", Some("^w[0-9]+$"), "w1";
    Timestamp: "RFC 3339 in UTC, with microseconds", None, "2026-01-01T00:00:00.000000Z";
    Clock: "RFC 3339, or `now` for the time of submission", None, "2026-01-01T00:00:00Z";
}

// ---------------------------------------------------------------------------------------------------------------
// What a caller submits.

/// A run as it is submitted. Everything but `module` has a default.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunRequest {
    /// Digest of an uploaded module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<Digest>,
    /// Name of a function instead of a module. Not available yet: answered with `not_available`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Exported function to call; `_start`, the entry of commands, by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// For commands the arguments after the program's name, for plain functions their numbers as text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The whole environment; nothing is inherited from the worker.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Standard input; empty by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<InputBytes>,
    /// Read-only inputs by their absolute path in the guest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, InputFile>,
    /// The semantics; `det-1` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Where the guest's virtual clock starts: RFC 3339, or `now` for the time of submission.
    /// 2026-01-01T00:00:00Z by default, so that equal submissions have equal run keys on any day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// Seed of every random source, below 2^53; 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Bounds on what the guest may use.
    #[serde(skip_serializing_if = "LimitsRequest::is_default")]
    pub limits: LimitsRequest,
    /// How many workers compute it and when their votes decide; `quorum` of 2 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyRequest>,
    /// What a fault leads to; `reassign` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Timed-out attempts after which the run is final; 3 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u64>,
    /// Which workers may run it; any by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementRequest>,
    /// Wall time of one attempt from its beginning, in milliseconds; 30000 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Wall time of the whole run from its submission, in milliseconds; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Higher goes first within a workspace; -128 to 127, 0 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// How long the answer may wait for the run's end, in milliseconds, up to 300000; 0 (no waiting) by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Whether the run is written to the store before it is acknowledged; true by default. With false the run lives
    /// in memory only: that needs `wait_ms` and takes no Idempotency-Key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// Whether an earlier verified result may answer. Accepted, but results are not reused yet: every run is
    /// executed and `cached` is always false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheUse>,
    /// Whether output is forwarded while it is written (event `output` of the run's event stream); false by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
}

/// Bytes of an input: as text, as base64, or by the digest of an uploaded blob. Exactly one of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", try_from = "InputParts")]
pub enum InputBytes {
    /// UTF-8 text.
    Text(String),
    /// Standard base64 with padding.
    Base64(String),
    /// An uploaded blob.
    Digest(Digest),
}

/// What is put at a path: a file's bytes, or a directory packed into one blob. Exactly one of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", try_from = "InputParts")]
pub enum InputFile {
    /// A file of UTF-8 text.
    Text(String),
    /// A file's bytes as standard base64 with padding.
    Base64(String),
    /// A file that was uploaded as a blob.
    Digest(Digest),
    /// A packed directory that was uploaded as a blob; mapped as a whole.
    Tree(Digest),
}

/// The JSON object behind [`InputBytes`] and [`InputFile`], so that two keys at once get a clear refusal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputParts {
    text: Option<String>,
    base64: Option<String>,
    digest: Option<Digest>,
    tree: Option<Digest>,
}

impl TryFrom<InputParts> for InputFile {
    type Error = &'static str;

    fn try_from(parts: InputParts) -> Result<InputFile, &'static str> {
        match (parts.text, parts.base64, parts.digest, parts.tree) {
            (Some(text), None, None, None) => Ok(InputFile::Text(text)),
            (None, Some(base64), None, None) => Ok(InputFile::Base64(base64)),
            (None, None, Some(digest), None) => Ok(InputFile::Digest(digest)),
            (None, None, None, Some(tree)) => Ok(InputFile::Tree(tree)),
            _ => Err("give exactly one of `text`, `base64`, `digest` and `tree`"),
        }
    }
}

impl TryFrom<InputParts> for InputBytes {
    type Error = &'static str;

    fn try_from(parts: InputParts) -> Result<InputBytes, &'static str> {
        match InputFile::try_from(parts) {
            Ok(InputFile::Text(text)) => Ok(InputBytes::Text(text)),
            Ok(InputFile::Base64(base64)) => Ok(InputBytes::Base64(base64)),
            Ok(InputFile::Digest(digest)) => Ok(InputBytes::Digest(digest)),
            Ok(InputFile::Tree(_)) | Err(_) => Err("give exactly one of `text`, `base64` and `digest`"),
        }
    }
}

/// Where the guest's virtual clock starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// The time of submission, the same for every attempt.
    Now,
    /// This instant.
    At(Timestamp),
}

impl FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Clock, String> {
        match text {
            "now" => Ok(Clock::Now),
            _ => text
                .parse()
                .map(Clock::At)
                .map_err(|_| format!("`{text}` is neither `now` nor an RFC 3339 time")),
        }
    }
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Clock::Now => serializer.serialize_str("now"),
            // all digits that matter: this is an input, not a time for people
            Clock::At(Timestamp(at)) => serializer.collect_str(at),
        }
    }
}

impl<'de> Deserialize<'de> for Clock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Clock, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Bounds on what the guest may use; a missing one has its default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsRequest {
    /// All linear memories and tables together, in bytes; 256 MiB by default, up to 4 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Standard output and standard error together, in bytes; 16 MiB by default, up to 1 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Contents of all files that the guest writes, in bytes; 64 MiB by default, up to 1 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Files, directories and links that the guest makes; 4096 by default, up to 65536.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_count: Option<u64>,
    /// Fuel; none by default: then the guest runs uninstrumented until its timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

impl LimitsRequest {
    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == LimitsRequest::default()
    }
}

/// How a result is verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// Which rule.
    pub policy: VerifyPolicy,
    /// Voters placed at once, 2 to 15; only with `quorum`, 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
}

/// A rule of verification.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerifyPolicy {
    /// One attempt; nothing is compared. Verdict `unchecked`.
    Once,
    /// `n` voters; floor(n/2)+1 equal votes decide.
    Quorum,
    /// Adaptive. Not available yet: answered with `policy_not_available`.
    Standard,
    /// Adaptive with a smaller error. Not available yet: answered with `policy_not_available`.
    High,
}

/// Which workers may run it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacementRequest {
    /// How workers are chosen.
    pub mode: PlacementMode,
    /// Labels that a worker must carry, with their values; only with `labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// How workers are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlacementMode {
    /// Any worker.
    Any,
    /// Workers that carry all of the labels.
    Labels,
    /// One elected worker. Not available yet: answered with `policy_not_available`.
    Primary,
}

/// Whether an earlier verified result may answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheUse {
    /// It may, once results are reused; today every run is executed.
    #[default]
    Use,
    /// Execute, and replace what is cached.
    Refresh,
    /// Execute, and leave the cache alone.
    Off,
}

/// Why something is taken out of service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineRequest {
    /// Shown wherever the quarantine is; 1 to 500 characters.
    pub why: String,
}

/// A token as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What people call it; 1 to 100 characters.
    pub name: String,
    /// What it allows; at least one.
    pub scopes: Vec<Scope>,
    /// When it ends; never by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What a token allows. `admin` includes `submit` and `read`, `submit` includes `read`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything: workers, tokens, quarantine, deletion.
    Admin,
    /// Uploads and runs.
    Submit,
    /// Reading.
    Read,
    /// Joining as a worker; nothing of this API.
    Worker,
}

impl Scope {
    /// The name that JSON and the store use.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Admin => "admin",
            Scope::Submit => "submit",
            Scope::Read => "read",
            Scope::Worker => "worker",
        }
    }

    /// The scope of that name.
    pub fn of_name(name: &str) -> Option<Scope> {
        [Scope::Admin, Scope::Submit, Scope::Read, Scope::Worker]
            .into_iter()
            .find(|scope| scope.name() == name)
    }

    /// Whether a token with this scope may do what asks for `wanted`.
    pub fn includes(self, wanted: Scope) -> bool {
        match self {
            Scope::Admin => wanted != Scope::Worker,
            Scope::Submit => matches!(wanted, Scope::Submit | Scope::Read),
            Scope::Read | Scope::Worker => self == wanted,
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// What a caller reads.

/// One page of a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// `cursor` of the next page; null on the last one.
    pub next: Option<String>,
}

/// A run as it is read back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// A UUIDv7.
    pub id: RunId,
    /// Where it stands in its life.
    pub state: RunState,
    /// Why it failed; with `failed` only.
    pub reason: Option<FailReason>,
    /// What was executed.
    pub module: Digest,
    /// Digest of the run spec with all defaults filled in.
    pub run_key: Digest,
    /// 0 until it is final, then 1, and one more for each correction.
    pub revision: u32,
    /// What the guest did, once that is decided.
    pub outcome: Option<Outcome>,
    /// What comparing the votes says.
    pub verdict: RunVerdict,
    /// Digest of the result manifest.
    pub result: Option<Digest>,
    /// Whether an earlier result answered. Always false: results are not reused yet.
    pub cached: bool,
    /// Standard output of the result.
    pub stdout: Option<Output>,
    /// Standard error of the result.
    pub stderr: Option<Output>,
    /// Files that the guest left under `/out`.
    pub files: Vec<OutputFile>,
    /// Fuel used, where the run granted fuel and the guest ended by itself.
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
    pub rerun_of: Option<RunId>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A run in a list: without its attempts, explanations, outputs and spec.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunSummary {
    /// A UUIDv7.
    pub id: RunId,
    /// Where it stands in its life.
    pub state: RunState,
    /// Why it failed.
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
    pub outcome: Option<Outcome>,
    /// What comparing the votes says.
    pub verdict: RunVerdict,
    /// Digest of the result manifest.
    pub result: Option<Digest>,
    /// Always false: results are not reused yet.
    pub cached: bool,
    /// Attempts so far.
    pub attempt_count: u32,
    /// The run that it repeats.
    pub rerun_of: Option<RunId>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

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
    pub result: Option<Digest>,
    /// Whether that is the result that won; null while undecided.
    pub won: Option<bool>,
    /// What the infrastructure did to it.
    pub fault: Option<Fault>,
    /// When it was handed out.
    pub assigned_at: Timestamp,
    /// When its runner began it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
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
    pub deadline_ms: Option<u64>,
    /// Higher goes first within a workspace.
    pub priority: i8,
    /// Whether it was written before it was acknowledged.
    pub durable: bool,
}

/// A module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Module {
    /// Its id: the digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// A name for people, as uploaded.
    pub name: Option<String>,
    /// Where it stands.
    pub state: ModuleStateName,
    /// What static analysis found: kind, WASI level, imports, exports, memories, whether its results can be verified
    /// and why not.
    #[schema(value_type = Option<Object>)]
    pub analysis: Option<serde_json::Value>,
    /// Why it was refused.
    pub refusal: Option<Refusal>,
    /// Why it is quarantined; null if it is not.
    pub quarantined: Option<String>,
    /// When it was first uploaded.
    pub created_at: Timestamp,
}

/// Where a module stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModuleStateName {
    /// Validated; runs wait for its compilation.
    Analysed,
    /// Being compiled.
    Compiling,
    /// Runs may start.
    Ready,
    /// It will never run here.
    Refused,
}

/// Why a module was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// Stable code.
    pub code: String,
    /// The same for people.
    pub text: String,
}

/// A stored blob.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Blob {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// A worker.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// `w` and its number, kept for life.
    pub id: WorkerId,
    /// What people call it.
    pub name: String,
    /// Its Ed25519 public key, as base64: its identity.
    pub key: String,
    /// Whether it gets work.
    pub standing: WorkerStandingName,
    /// Why it does not.
    pub why: Option<String>,
    /// Its trust domain.
    pub domain: String,
    /// Its equivalence class: only votes of one class are compared.
    pub class: Digest,
    /// What placement may ask for.
    pub labels: BTreeMap<String, String>,
    /// Attempts that it executes at once.
    pub slots: u32,
    /// Attempts that it would take now.
    pub credits: u32,
    /// Attempts that it holds.
    pub holds: Vec<AttemptId>,
    /// Memory for its attempts, in bytes.
    pub memory_bytes: u64,
    /// Memory leased to its attempts, in bytes.
    pub memory_leased_bytes: u64,
    /// Votes since it joined.
    pub votes: u64,
    /// Votes that lost.
    pub dissents: u64,
    /// Crashes, timeouts, losses, refusals and corruptions.
    pub faults: u64,
    /// When it enrolled.
    pub created_at: Timestamp,
    /// When it was last heard of.
    pub heard_at: Timestamp,
}

/// Whether a worker gets work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStandingName {
    /// It does.
    Active,
    /// It finishes what it holds.
    Draining,
    /// It missed its heartbeats.
    Lost,
    /// It gets nothing and counts for nothing.
    Quarantined,
}

/// A token, without its secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// For deleting it.
    pub id: u32,
    /// What people call it.
    pub name: String,
    /// Where it is valid.
    pub workspace: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A token that was just made: the only time that its secret is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// The bearer token.
    pub secret: String,
    /// The rest.
    pub token: Token,
}

/// What this pool is and allows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// Version of the coordinator.
    pub version: String,
    /// The caller's workspace.
    pub workspace: String,
    /// What the caller's token allows.
    pub scopes: Vec<Scope>,
    /// Classes of the workers; one, in a pool of equal machines.
    pub classes: Vec<Digest>,
    /// What a run gets that asks for nothing.
    pub limits_default: LimitsView,
    /// The most that a run may ask for.
    pub limits_max: LimitsView,
    /// The largest JSON body of a request, in bytes; larger inputs go as blobs, by digest.
    pub json_bytes_max: u64,
    /// The longest `wait_ms`.
    pub wait_ms_max: u64,
    /// How busy the pool is.
    pub pool: PoolFigures,
    /// How much is stored.
    pub stored: StoredFigures,
}

/// How busy the pool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PoolFigures {
    /// Runs without an attempt.
    pub queued: u64,
    /// Runs with one.
    pub running: u64,
    /// Attempts that workers hold.
    pub attempts_live: u64,
    /// Workers that get work.
    pub workers_active: u64,
    /// Slots that they declared.
    pub slots: u64,
}

/// How much is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StoredFigures {
    /// Runs.
    pub runs: u64,
    /// Runs that are not final.
    pub runs_open: u64,
    /// Modules.
    pub modules: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
}

// ---------------------------------------------------------------------------------------------------------------
// Event streams.

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

/// Data of the events `run`, `worker` and `module` of the pool's stream: something changed, read it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// Id of the run or worker, digest of the module.
    pub id: String,
}

// ---------------------------------------------------------------------------------------------------------------
// Errors.

/// Problem details (RFC 9457), the one shape of every error.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:lockstep:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What programs tell errors apart by.
    pub code: ProblemCode,
    /// What happened and what to do about it.
    pub detail: String,
    /// JSON pointer (RFC 6901) of the field of the request body that is at fault; for a query parameter its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// With `missing_blob` and `missing_module`: what has to be uploaded first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// With `module_refused`: the stable code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// With `run_failed`, `run_timed_out` and `run_unfinished`: the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<Run>>,
    /// Names the request in the coordinator's log; also in the header `X-Request-Id`.
    pub request_id: String,
}

macro_rules! problem_codes {
    ($($(#[doc = $doc:literal])+ $code:ident = $name:literal, $status:literal, $title:literal;)+) => {
        /// Every code that an error of this API can have. The list only grows.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
        pub enum ProblemCode {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $code,)+
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [ProblemCode] = &[$(ProblemCode::$code),+];

            /// The name that JSON uses.
            pub fn name(self) -> &'static str {
                match self { $(ProblemCode::$code => $name),+ }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(ProblemCode::$code => $status),+ }
            }

            /// The code in words.
            pub fn title(self) -> &'static str {
                match self { $(ProblemCode::$code => $title),+ }
            }

            /// What it means and what to do, for the OpenAPI document.
            pub fn meaning(self) -> &'static str {
                match self { $(ProblemCode::$code => concat!($($doc),+).trim_ascii_start()),+ }
            }
        }
    };
}

problem_codes! {
    /// The body is no JSON, or it ended or broke in the middle. Send it again, whole.
    InvalidBody = "invalid_body", 400, "The request body cannot be read";
    /// A query parameter or header has no valid form; `pointer` names it.
    InvalidParameter = "invalid_parameter", 400, "A parameter is not valid";
    /// No valid token. Send `Authorization: Bearer TOKEN`.
    Unauthorized = "unauthorized", 401, "A valid token is needed";
    /// The token lacks a scope. Use one that has it.
    Forbidden = "forbidden", 403, "The token does not allow this";
    /// There is no such thing, or not in the token's workspace.
    NotFound = "not_found", 404, "Not found";
    /// The path exists, but not with this method; `Allow` names those that do.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// The module is used by a run that has not ended. Cancel the run or wait for its end.
    ModuleInUse = "module_in_use", 409, "The module is in use";
    /// The module is out of service. An admin can readmit it.
    ModuleQuarantined = "module_quarantined", 409, "The module is quarantined";
    /// A quorum needs as many workers of one class as it has voters. Ask for fewer, or start workers.
    TooFewWorkers = "too_few_workers", 409, "Too few workers for this quorum";
    /// The body is larger than this route takes. Send large inputs as blobs, and refer to them by digest.
    TooLarge = "too_large", 413, "The request body is too large";
    /// The body has the wrong content type. JSON routes take `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415, "The content type is not supported";
    /// The range lies outside of the content; `Content-Range` tells its size.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range cannot be satisfied";
    /// A field is unknown, of the wrong type or out of its range; `pointer` names it.
    InvalidField = "invalid_field", 422, "A field of the request is not valid";
    /// The entry or its arguments do not fit the module; its analysis lists what it exports.
    BadEntry = "bad_entry", 422, "The entry does not fit the module";
    /// The module has not been uploaded; `digest` names it.
    MissingModule = "missing_module", 422, "The module is not there";
    /// An input has not been uploaded; `digest` names it.
    MissingBlob = "missing_blob", 422, "A blob is not there";
    /// The bytes have another digest than the request says. Nothing was stored.
    DigestMismatch = "digest_mismatch", 422, "The bytes do not match the digest";
    /// The module cannot run here; `refusal` says why.
    ModuleRefused = "module_refused", 422, "The module was refused";
    /// The policy is planned, not there yet; `detail` lists what there is.
    PolicyNotAvailable = "policy_not_available", 422, "The policy is not available yet";
    /// The feature is planned, not there yet.
    NotAvailable = "not_available", 422, "This is not available yet";
    /// The Idempotency-Key belongs to another request. Use a new key.
    IdempotencyMismatch = "idempotency_mismatch", 422, "The idempotency key belongs to another request";
    /// The run ended without success; `run` tells how. A verified failure will fail again.
    RunFailed = "run_failed", 422, "The run failed";
    /// The queue is full; nothing was accepted. Try again after `Retry-After` seconds.
    QueueFull = "queue_full", 429, "The queue is full";
    /// The coordinator failed; its log has the reason under the request id.
    Internal = "internal", 500, "The coordinator failed";
    /// The coordinator is starting, stopping or at its bound of requests. Try again.
    Unavailable = "unavailable", 503, "The coordinator is not available";
    /// The run did not end in the time that the request waits; `run` tells where it stands, and goes on.
    RunUnfinished = "run_unfinished", 504, "The run has not ended yet";
    /// The run failed because its attempts or the run itself took too long; `run` tells how. Raise the bound.
    RunTimedOut = "run_timed_out", 504, "The run took too long";
    /// The disk is full; nothing was accepted.
    DiskFull = "disk_full", 507, "The disk is full";
}
