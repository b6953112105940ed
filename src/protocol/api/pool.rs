//! Lists, modules, blobs, workers, tokens and the pool itself as a caller reads them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::{LimitsView, PolicyView, RetentionView, Scope, Timestamp, VerifyRequest};
use crate::class::ClassInputs;
use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId};
use crate::spec::Profile;

/// One page of a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// `cursor` of the next page; null on the last one.
    pub next: Option<String>,
}

/// A page of modules.
pub type ModulePage = Page<Module>;
/// A page of workers.
pub type WorkerPage = Page<Worker>;
/// A page of tokens.
pub type TokenPage = Page<Token>;

// By hand: the derive would repeat the item's whole schema in each page instead of referring to it.
impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let items = ArrayBuilder::new().items(Ref::from_schema_name(T::name()));
        let next = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .description(Some("`cursor` of the next page; null on the last one"));
        let page = ObjectBuilder::new().description(Some("One page of a list"));
        page.property("items", items).required("items").property("next", next).required("next").into()
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("{}Page", T::name()))
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// A module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Module {
    /// Its id: the digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// A name for people, as uploaded.
    #[schema(required)]
    pub name: Option<String>,
    /// Where it stands.
    pub state: ModuleStateName,
    /// What static analysis found: kind, WASI level, imports, exports, memories, whether its results can be verified
    /// and why not.
    #[schema(required, value_type = Option<Object>)]
    pub analysis: Option<serde_json::Value>,
    /// Why it was refused.
    #[schema(required)]
    pub refusal: Option<Refusal>,
    /// Why it is quarantined; null if it is not.
    #[schema(required)]
    pub quarantined: Option<String>,
    /// How its runs are verified that ask for nothing else; null: as the workspace says, or else the pool, see
    /// `policy_default` of `GET /v1/info`.
    #[schema(required)]
    pub verify: Option<VerifyRequest>,
    /// When it was first uploaded.
    pub created_at: Timestamp,
    /// What showed that it gives different results where it is trusted; null if nothing did. Nobody is blamed for a run of
    /// it until it is readmitted.
    #[schema(required)]
    pub nondeterministic: Option<Nondeterminism>,
}

/// How a module was found to be nondeterministic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Nondeterminism {
    /// The run that showed it.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
}

/// A workspace, with what holds for all of its runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Workspace {
    /// Its name; there is only `default` so far.
    pub name: String,
    /// How runs are verified that ask for nothing else, and whose module has no default of its own; null: as the pool does,
    /// see `policy_default` of `GET /v1/info`.
    #[schema(required)]
    pub verify: Option<VerifyRequest>,
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
    /// Its public key, its identity: `ed25519:` and the key in hex, as in receipts.
    pub key: String,
    /// Whether it gets work.
    pub standing: WorkerStandingName,
    /// Why it does not.
    #[schema(required)]
    pub why: Option<String>,
    /// Its trust domain.
    pub domain: String,
    /// Whether it is part of the coordinator's process.
    pub embedded: bool,
    /// Whether it is the operator's own machine.
    pub owned: bool,
    /// Whether it is a trusted executor, which settles disputes and audits and gets no ordinary work while others are there.
    pub arbiter: bool,
    /// The probability that its next result is right, as far as its record in this class tells. Crashes, losses and timeouts
    /// do not count.
    pub credibility: f64,
    /// Its results that others confirmed since it last was wrong, fewer as they age; at most 1000.
    pub confirmations: f64,
    /// The day on which its result was last outvoted alone, for as long as a second time means quarantine.
    #[schema(required)]
    pub suspect_since: Option<Timestamp>,
    /// Its build, as it said last.
    #[schema(required)]
    pub version: Option<String>,
    /// Its equivalence class for `det-1`, as it said last: only votes of one class are compared, and its record belongs to it.
    /// Null if it never connected.
    #[schema(required)]
    pub class: Option<Digest>,
    /// Other active workers of its class. With none, what it computes cannot be compared.
    pub peers: u64,
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
    /// When its latest session began.
    #[schema(required)]
    pub connected_at: Option<Timestamp>,
    /// When that ended; null while it is connected.
    #[schema(required)]
    pub left_at: Option<Timestamp>,
    /// When it was last heard of.
    pub heard_at: Timestamp,
    /// What `class` is the digest of. Null if nobody told since the coordinator started.
    #[serde(default)]
    #[schema(required)]
    pub class_parts: Option<ClassInputs>,
    /// Its class for `det-1-portable`, where it votes together with other CPUs. Null while it is not connected.
    #[serde(default)]
    #[schema(required)]
    pub portable_class: Option<Digest>,
    /// Other active workers of that class.
    #[serde(default)]
    pub portable_peers: u64,
}

/// A worker with what it does now and what was seen of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkerDetail {
    /// The worker.
    #[serde(flatten)]
    pub worker: Worker,
    /// How long ago it was last heard of, in milliseconds.
    pub heard_ago_ms: u64,
    /// The attempts that it holds, the oldest first.
    pub current: Vec<CurrentAttempt>,
    /// What was seen of it.
    pub evidence: EvidenceView,
}

/// An attempt that a worker holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CurrentAttempt {
    /// Of which run.
    pub run: RunId,
    /// Its number.
    pub number: u32,
    /// When it was handed out.
    pub since: Timestamp,
    /// When its runner began it; null if it waits for its turn.
    #[schema(required)]
    pub started_at: Option<Timestamp>,
    /// CPU time used up to the last heartbeat, in milliseconds.
    pub cpu_ms: f64,
}

/// What was seen of a worker.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// Observations that are kept, by kind.
    pub counts: BTreeMap<String, u64>,
    /// The newest 50; `GET /v1/workers/{id}/evidence` has the others.
    pub recent: Vec<EvidenceItem>,
}

/// One observation about a worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EvidenceItem {
    /// Its position in the worker's log: grows with time.
    pub number: u64,
    /// What was seen: `crashed`, `timed_out`, `lost`, `corrupt`, `refused` or `dissented`; of its integrity `confirmed`,
    /// `confirmed_by_arbiter`, `lone_dissent` or `collusion`, or `absolved`: what that run had said against it is taken back;
    /// or that an operator let it in again: `readmitted`.
    pub kind: String,
    /// Results that a confirmation stands for; 1 of everything else.
    pub count: u32,
    /// On an attempt of which run; null for an operator's word.
    #[schema(required)]
    pub run: Option<RunId>,
    /// Which attempt.
    #[schema(required)]
    pub attempt: Option<u32>,
    /// The result that it voted for, if it did.
    #[schema(required)]
    pub result: Option<Digest>,
    /// The worker's class then.
    pub class: Digest,
    /// When.
    pub at: Timestamp,
}

/// A page of evidence.
pub type EvidencePage = Page<EvidenceItem>;

/// Whether a worker gets work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStandingName {
    /// It does.
    Active,
    /// It missed two heartbeats: nothing new goes there, what it holds goes on.
    Suspect,
    /// It finishes what it holds.
    Draining,
    /// It missed so many heartbeats that what it held is rerun.
    Lost,
    /// It gets nothing and counts for nothing.
    Quarantined,
    /// It is enrolled, but not connected.
    Gone,
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
    #[schema(required)]
    pub expires_at: Option<Timestamp>,
    /// When a request last came with it, to the minute.
    #[schema(required)]
    pub last_used_at: Option<Timestamp>,
    /// The trust domain of workers that enrol with it.
    #[schema(required)]
    pub domain: Option<String>,
    /// Whether those are the operator's own machines.
    pub owned: bool,
    /// Whether they are trusted executors.
    pub arbiter: bool,
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
    /// Facts of the coordinator's process.
    pub server: ServerFacts,
    /// What a run gets that asks for no policy.
    pub policy_default: PolicyView,
    /// The bounds of what is taken.
    pub bounds: Bounds,
    /// What is kept, and how long.
    pub retention: RetentionView,
}

/// Facts of the coordinator's process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServerFacts {
    /// The engine that executes guests, with its version.
    pub engine: String,
    /// The class of this machine and build for `det-1`.
    pub class: Digest,
    /// The semantics that a run may ask for.
    pub profiles: Vec<Profile>,
    /// The address that it listens on.
    pub listen: String,
    /// Whether that address speaks TLS.
    pub tls: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// How long ago that is, in milliseconds.
    pub uptime_ms: u64,
    /// The class of this machine and build for `det-1-portable`.
    pub portable_class: Digest,
}

/// The bounds of what is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Bounds {
    /// Largest module, in bytes.
    pub module_bytes_max: u64,
    /// Largest blob, in bytes.
    pub blob_bytes_max: u64,
    /// Largest JSON body, in bytes.
    pub json_bytes_max: u64,
    /// Runs that may be queued or running at once.
    pub runs_max: u64,
    /// The same for one workspace.
    pub runs_per_workspace_max: u64,
    /// Runs that one bulk call may name.
    pub bulk_runs_max: u64,
    /// Items of a page.
    pub page_items_max: u64,
    /// Event streams at once.
    pub event_streams_max: u64,
    /// Connections at once.
    pub connections_max: u64,
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
    /// Workers that missed two heartbeats and get nothing new until they are heard of again.
    pub workers_suspect: u64,
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

/// Data of the event `resync` of the pool's stream: events were lost, read everything again that is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Resync {
    /// Why.
    pub reason: ResyncReason,
}

/// Why events were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResyncReason {
    /// The stream was opened again (with `Last-Event-ID`) and what came in between is not kept.
    Reconnected,
    /// The reader was too slow.
    Lagged,
}

/// Data of the events `run`, `worker` and `module` of the pool's stream: something changed, read it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// Id of the run or worker, digest of the module.
    pub id: String,
}
