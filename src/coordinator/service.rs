//! The use cases behind the HTTP layer: what a caller may ask of this pool.
//!
//! Everything here may be called from any task. It checks what needs the store (is the module there, are the inputs, who
//! has the idempotency key) and leaves every decision about runs to the owner. It knows no HTTP status.

mod access;
mod cached;
mod caches;
mod callbacks;
mod compare;
mod figures;
mod modules;
mod receipts;
mod repairs;
mod runs;
mod streams;
mod workers;
mod workspaces;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use access::{NewToken, TokenSpec, new_token_text, store_token};
pub use caches::{ModuleCache, ModuleFacts, TokenCache, UsageCache};
pub use compare::AttemptResult;
pub use figures::{Figures, WorkerReport};
pub use runs::INLINE_SHARES_MAX;
pub use streams::{STREAMS_MAX, Streams};
pub use workspaces::{WorkspaceCache, name_of_workspace};

use super::cache::ResultCache;
pub use super::cache::{CacheConfig, CacheStats};
use super::callbacks::Callbacks;
use super::chores::RetentionConfig;
use super::classes::ClassBook;
use super::clock::Clock;
use super::keys::Keyring;
use super::metrics::Metrics;
use super::owner::Command;
pub use super::owner::{CurrentAttempt, Glance, WorkerNow};
use super::pool_service::{Admission, PoolService};
use crate::blobs::{BlobError, Blobs};
use crate::class::Classes;
use crate::compiler::Compiler;
use crate::core::{Stats, Time};
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkerId, WorkspaceId};
use crate::spec::{Policy, RunSpec, Verify};
pub use crate::store::{
    Delivery, DeliveryState, Evidence, ModuleState, Outlook, Repair, Reverdict, RunFilter, Source,
    StoredModule, StoredRun, TokenRow, Usage, Withdrawal, WorkerRow, WorkspaceSettings,
};
use crate::store::{Store, StoreError};

/// The trust domain of workers whose token names none: foreign ones, and tokens of before the operator's own had one.
const DOMAIN_DEFAULT: &str = "default";

/// Who calls: made from a token's row.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's number.
    pub token: u32,
    /// Where it is valid.
    pub workspace: WorkspaceId,
    /// What it allows: `admin`, `submit`, `read`, `worker`.
    pub scopes: Vec<String>,
    /// The trust domain of workers that enrol with it.
    pub domain: Option<String>,
    /// Whether those are the operator's own machines.
    pub owned: bool,
    /// Whether they are trusted executors.
    pub arbiter: bool,
    /// The worker, if it is one with the token of its session.
    pub worker: Option<WorkerId>,
}

impl Caller {
    /// What workers that show this caller's token become.
    pub fn admission(&self) -> Admission {
        let domain = self.domain.clone().unwrap_or_else(|| DOMAIN_DEFAULT.to_owned());
        Admission { token: self.token, domain, owned: self.owned, arbiter: self.arbiter }
    }
}

/// A validated submission.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What to execute.
    pub spec: Arc<RunSpec>,
    /// Its digest.
    pub run_key: Digest,
    /// The rest of what was asked.
    pub policy: Policy,
    /// Whether how to verify it was left to the pool.
    pub has_default_verify: bool,
    /// Inputs that came in the request.
    pub blobs: Vec<(Digest, Bytes)>,
    /// Idempotency key and digest of the canonical request.
    pub idempotency: Option<(String, Digest)>,
    /// Its caller says in so many words that nothing may be acknowledged that is not written: an answer from the cache, too.
    pub must_be_written: bool,
    /// The run that it repeats.
    pub rerun_of: Option<RunId>,
    /// Whether its output is watched as it comes.
    pub live: bool,
}

/// A run as it is shown: an open one as the pool sees it now, a final one as it was written.
#[derive(Clone, Debug)]
pub struct RunDetail {
    /// The run.
    pub run: StoredRun,
    /// Standard output, if it is final and small.
    pub stdout: Option<Bytes>,
    /// Standard error, if it is final and small.
    pub stderr: Option<Bytes>,
}

/// What became of a submission.
#[derive(Clone, Debug)]
pub enum SubmitAnswer {
    /// A new run; final if it ended within the wait.
    Accepted(Arc<RunDetail>),
    /// The run that this idempotency key made before.
    Existing(Arc<RunDetail>),
}

/// What those who watch a run hear.
#[derive(Clone, Debug)]
pub enum RunEvent {
    /// It changed. The final is the last event, but for those who want to hear of corrections.
    Changed(Arc<RunDetail>),
    /// Its final was wrong and is another one now.
    Corrected(Arc<RunDetail>),
    /// Output as it comes: unverified.
    Live {
        /// Of which attempt.
        attempt: u32,
        /// Standard error instead of standard output.
        is_stderr: bool,
        /// Position in its stream.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
}

/// What those who watch the pool hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolEvent {
    /// A run changed.
    Run(RunId),
    /// A final was wrong: it is of this revision now.
    Corrected(RunId, u32),
    /// A worker changed.
    Worker(WorkerId),
    /// A module changed.
    Module(Digest),
    /// Events were lost, because the reader was too slow: read everything anew.
    Lagged,
}

/// A page of runs, and where the next one begins.
#[derive(Clone, Debug, Default)]
pub struct RunsFound {
    /// Newest first.
    pub runs: Vec<RunDetail>,
    /// The cursor of the next page; `None` if everything was looked at.
    pub next: Option<RunId>,
}

/// Why a use case failed, by what the caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is no such thing (in this workspace).
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// Its name as it was asked for.
        id: String,
    },
    /// An input is not stored.
    #[error("the blob {0} is not stored: upload it first")]
    MissingBlob(Digest),
    /// The module is not stored.
    #[error("the module {0} is not stored: upload it first")]
    ModuleNotThere(Digest),
    /// The module was refused, now or earlier.
    #[error("{text}")]
    ModuleRefused {
        /// Stable code.
        code: String,
        /// Why, and what to do.
        text: String,
    },
    /// The module is out of service.
    #[error("the module is quarantined: {0}")]
    ModuleQuarantined(String),
    /// An open run needs the module.
    #[error("a run that is not final needs the module: cancel it or wait for it")]
    ModuleInUse,
    /// Entry or arguments do not fit the module.
    #[error("{0}")]
    BadEntry(String),
    /// It was there and is not kept any longer.
    #[error("{0}")]
    NotKept(String),
    /// A worker puts what it was not asked for.
    #[error("the worker was not asked for this blob")]
    NotAsked,
    /// The run has no receipt.
    #[error("{0}")]
    NoReceipt(String),
    /// As many keys as are published.
    #[error("the coordinator has had as many keys as it publishes")]
    TooManyKeys,
    /// As many event streams are open as there may be.
    #[error("{open} event streams are open: close one, or try again later")]
    TooManyStreams {
        /// Those that count against the bound.
        open: usize,
    },
    /// Backpressure.
    #[error("the queue is full ({queued} runs): try again later")]
    QueueFull {
        /// Runs that are there.
        queued: usize,
    },
    /// No worker that is there could ever run it.
    #[error("no worker {lacks}")]
    NoWorker {
        /// What every worker lacks: the rest of the sentence.
        lacks: String,
    },
    /// Fewer workers of one class than the quorum has voters.
    #[error("a quorum of {wanted} needs {wanted} workers of one class, and there are {there}")]
    TooFewWorkers {
        /// Wanted.
        wanted: u8,
        /// There.
        there: usize,
    },
    /// Workers that could not satisfy a policy which weighs votes, if all of them agreed.
    #[error("`{verify}` cannot be kept by the {there} workers that are there")]
    Undecidable {
        /// The policy.
        verify: Verify,
        /// Workers of the class that would do best.
        there: usize,
        /// Fault domains among them.
        domains: usize,
        /// The error that they leave at best, in parts per billion.
        error_ppb: u64,
    },
    /// The worker has a session: it cannot be forgotten.
    #[error("the worker is connected: stop it first")]
    WorkerConnected,
    /// The worker has no session: it holds nothing that it could finish.
    #[error("the worker is not connected")]
    WorkerNotConnected,
    /// The idempotency key belongs to a run.
    #[error("the idempotency key belongs to run {run}")]
    Duplicate {
        /// That run.
        run: RunId,
        /// Whether it came with the same payload.
        same_payload: bool,
    },
    /// What was sent is not what was announced.
    #[error("expected {expected}, but the bytes that came hash to {actual}")]
    DigestMismatch {
        /// Announced.
        expected: Digest,
        /// Received.
        actual: Digest,
    },
    /// Too many bytes.
    #[error("more than {max} bytes are not accepted here")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// The upload broke off.
    #[error("the body broke off: {0}")]
    BodyBroken(String),
    /// The callback may not go there.
    #[error("{0}")]
    CallbackRefused(String),
    /// Backpressure of what is to be told to others.
    #[error("{pending} callbacks of {of} wait: try again later")]
    CallbacksFull {
        /// Deliveries that are pending.
        pending: u64,
        /// Whose.
        of: &'static str,
    },
    /// No room.
    #[error("the disk of the coordinator is full")]
    DiskFull,
    /// No room for what an operator said: it holds already, and is stored as soon as there is.
    #[error("it holds, and the disk of the coordinator is full: it is stored as soon as there is room")]
    HoldsUnstored,
    /// No descriptors or memory left.
    #[error("the coordinator is at its bounds, try again later: {0}")]
    Exhausted(String),
    /// What answered a submission went before that was stored: there is no such run.
    #[error("what was found for it went at this moment: try again")]
    AnswerGone,
    /// Another coordinator owns the run now.
    #[error("the run was taken over by another coordinator: read it again")]
    TakenOver,
    /// It is ending.
    #[error("the coordinator is shutting down")]
    ShuttingDown,
    /// Our fault; logged with its text, shown without.
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> ServiceError {
        match error {
            StoreError::Full => ServiceError::DiskFull,
            StoreError::Closed => ServiceError::ShuttingDown,
            StoreError::MissingBlob(digest) => ServiceError::MissingBlob(digest),
            StoreError::Fatal(_) | StoreError::Decode { .. } => ServiceError::Internal(error.to_string()),
        }
    }
}

impl From<BlobError> for ServiceError {
    fn from(error: BlobError) -> ServiceError {
        match error {
            BlobError::Mismatch { expected, actual } => ServiceError::DigestMismatch { expected, actual },
            BlobError::TooLarge { max } => ServiceError::TooLarge { max },
            BlobError::Body(text) => ServiceError::BodyBroken(text),
            BlobError::Full => ServiceError::DiskFull,
            BlobError::Exhausted(why) => ServiceError::Exhausted(why),
            BlobError::Missing(digest) => ServiceError::NotFound { what: "blob", id: digest.to_string() },
            other => ServiceError::Internal(other.to_string()),
        }
    }
}

/// Facts of this process that callers may read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The classes of this machine and build.
    pub classes: Classes,
    /// Largest module that it takes, in bytes.
    pub module_bytes_max: u64,
    /// Largest blob that it takes, in bytes.
    pub blob_bytes_max: u64,
    /// How long an upload stays that nothing refers to, in milliseconds.
    pub upload_keep_ms: u64,
    /// How long an upload waits for its admission before it answers `compiling`.
    pub admission_wait: Duration,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether that speaks TLS.
    pub tls: bool,
    /// When the process started.
    pub started_at: Time,
    /// Connections at once.
    pub connections_max: u32,
    /// Runs that may be queued or running at once.
    pub runs_max: usize,
    /// The same for one workspace.
    pub runs_per_workspace_max: usize,
    /// What is kept.
    pub retention: RetentionConfig,
    /// How results are verified of runs that ask for nothing else.
    pub verify_default: Verify,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    parts: Arc<Parts>,
}

/// What the service works with.
pub struct Parts {
    /// The owner's queue.
    pub commands: mpsc::UnboundedSender<Command>,
    /// Rows.
    pub store: Arc<dyn Store>,
    /// Bytes.
    pub blobs: Arc<Blobs>,
    /// Admits modules.
    pub compiler: Compiler,
    /// Tokens that were seen lately.
    pub tokens: TokenCache,
    /// Modules as runs need them.
    pub modules: Arc<ModuleCache>,
    /// Verified results, which answer equal runs.
    pub cache: Arc<ResultCache>,
    /// What classes are made of.
    pub classes: Arc<ClassBook>,
    /// Time.
    pub clock: Clock,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Sessions of workers on other machines.
    pub pool: PoolService,
    /// What is signed with.
    pub keys: Arc<Keyring>,
    /// What is told to others.
    pub callbacks: Arc<Callbacks>,
    /// What workspaces have settled, as it was last read.
    pub workspaces: WorkspaceCache,
    /// The pool's events.
    pub events: broadcast::Sender<(Option<WorkspaceId>, PoolEvent)>,
    /// The term of this process.
    pub epoch: Epoch,
    /// What callers may know.
    pub facts: Facts,
    /// How much is stored, as of a moment ago.
    pub usage: UsageCache,
    /// Who looks at what rested on a worker.
    pub repair: super::repair::Handle,
    /// Event streams that are open.
    pub streams: Streams,
    /// Whether the restart is over and nothing is ending.
    pub ready: AtomicBool,
    /// Room for inputs that stay in memory, in units of `INLINE_SHARE_BYTES`.
    pub inline_room: Arc<tokio::sync::Semaphore>,
    /// Ends streams that would otherwise go on for ever.
    pub stopping: CancellationToken,
}

impl Service {
    /// A service over `parts`.
    pub fn new(parts: Parts) -> Service {
        Service { parts: Arc::new(parts) }
    }

    /// What it works with, for tests that play its neighbours.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What classes are made of, as far as somebody told.
    pub fn classes(&self) -> &ClassBook {
        &self.parts.classes
    }

    /// Facts of this process.
    pub fn facts(&self) -> &Facts {
        &self.parts.facts
    }

    /// Sessions of workers on other machines.
    pub fn pool(&self) -> &PoolService {
        &self.parts.pool
    }

    /// Figures for `/metrics`.
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// The same, to be kept.
    pub fn shared_metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.parts.metrics)
    }

    /// What is told to others.
    pub fn callbacks(&self) -> Arc<Callbacks> {
        Arc::clone(&self.parts.callbacks)
    }

    /// Whether runs are accepted.
    pub fn is_ready(&self) -> bool {
        self.parts.ready.load(Ordering::Relaxed)
    }

    /// Refuses new runs from now on (and says so to load balancers).
    pub fn begin_shutdown(&self) {
        self.parts.ready.store(false, Ordering::Relaxed);
        self.parts.stopping.cancel();
    }

    /// The coordinator's time.
    pub fn now(&self) -> Time {
        self.parts.clock.now()
    }

    /// Until when what is uploaded now stays without a reference.
    fn pin(&self) -> Time {
        self.now().plus_ms(self.parts.facts.upload_keep_ms)
    }

    /// Asks the owner and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ServiceError> {
        let (reply, answer) = oneshot::channel();
        self.parts.commands.send(command(reply)).map_err(|_| ServiceError::ShuttingDown)?;
        answer.await.map_err(|_| ServiceError::ShuttingDown)
    }

    /// Waits until so many workers have joined, so that nobody is refused for want of workers that are just starting.
    pub async fn wait_for_workers(&self, count: usize, within: Duration) -> Result<(), ServiceError> {
        let all_there = async {
            while self.ask(Command::Workers).await?.len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        };
        let late = |_| ServiceError::Internal(format!("the embedded workers did not join within {within:?}"));
        tokio::time::timeout(within, all_there).await.map_err(late)?
    }

    /// The pool's and the store's figures.
    pub async fn stats(&self) -> Result<(Stats, Usage), ServiceError> {
        let stats = self.ask(Command::Stats).await?;
        let cached = self.parts.cache.totals();
        self.parts.metrics.cache_holds(cached.entries, cached.bytes);
        Ok((stats, self.parts.store.usage().await?))
    }
}
