//! What a caller submits.
//!
//! Unknown fields are refused and every field but a few has a default. Bounds are not checked here.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::{CallbackRequest, Timestamp};
use crate::digest::Digest;
pub use crate::spec::CacheUse;
use crate::spec::{Profile, Retry, Verify};

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
    /// How many workers compute it and when their votes decide; by default as its module says (`PUT …/verify`), or else its
    /// workspace, or else the pool (`standard`, unless `serve --verify` says otherwise).
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
    /// in memory only: that needs `wait_ms` and takes no Idempotency-Key. An answer from the cache comes before its run is
    /// written, unless true is said in so many words (or the request has an Idempotency-Key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// Whether a verified result of an equal run (same run key, same workspace) may answer, or one that is in flight be
    /// executed for this run too; `use` by default. `refresh` executes anew, and its result takes the place of what is cached
    /// unless that was verified for more; `off` leaves the cache alone. A result answers only what asks for no more than it was verified for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheUse>,
    /// Whether output is forwarded while it is written (event `output` of the run's event stream); false by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<bool>,
    /// Who is told when the run is final, and when a final is corrected; nobody by default. Not with `durable` false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback: Option<CallbackRequest>,
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

impl From<Verify> for VerifyRequest {
    fn from(verify: Verify) -> VerifyRequest {
        let (policy, n) = match verify {
            Verify::Once => (VerifyPolicy::Once, None),
            Verify::Quorum { n } => (VerifyPolicy::Quorum, Some(n.into())),
            Verify::Standard => (VerifyPolicy::Standard, None),
            Verify::High => (VerifyPolicy::High, None),
        };
        VerifyRequest { policy, n }
    }
}

/// A rule of verification.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VerifyPolicy {
    /// One attempt; nothing is compared. Verdict `unchecked`.
    Once,
    /// `n` voters; floor(n/2)+1 equal votes decide.
    Quorum,
    /// As many workers as it takes until the result is wrong with a probability of at most 0.001, judged by what each has
    /// shown before; a proven worker may stand alone and is spot-checked.
    Standard,
    /// The same with 0.000001: never one worker alone.
    High,
}

impl VerifyPolicy {
    /// The name that JSON uses.
    pub fn name(self) -> &'static str {
        match self {
            VerifyPolicy::Once => "once",
            VerifyPolicy::Quorum => "quorum",
            VerifyPolicy::Standard => "standard",
            VerifyPolicy::High => "high",
        }
    }
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

/// Why something is taken out of service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineRequest {
    /// Shown wherever the quarantine is; 1 to 500 characters.
    pub why: String,
}

/// What holds for all runs of a workspace; what is left out is settled no more.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceRequest {
    /// How runs are verified that ask for nothing else, and whose module has no default of its own; null or left out: as the
    /// pool does.
    #[serde(default)]
    pub verify: Option<VerifyRequest>,
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
    /// With the scope `worker`: the trust domain of workers that enrol with it, such as `ada` or `rack-2`; 1 to 64 of the
    /// characters a-z, 0-9, `.`, `_` and `-`. With `owned` alone it is `local`, that of the operator's own machines, each of
    /// which counts for itself; workers of another domain are foreign, unless `owned` says otherwise, and count once where
    /// domains meet. Whose machines they are has to be said: by this, `owned`, `arbiter` or `foreign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// With the scope `worker`: workers that enrol with it are the operator's own machines, of which fewer are assumed to be
    /// faulty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owned: bool,
    /// With the scope `worker`: workers that enrol with it are trusted executors. They settle disputes and audits, and get
    /// no ordinary work while others are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arbiter: bool,
    /// With the scope `worker`: workers that enrol with it are somebody else's machines. Not with `owned`, `arbiter` or the
    /// domain `local`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
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
