//! The use cases behind the HTTP layer: what a caller may ask of this pool.
//!
//! Everything here may be called from any task. It checks what needs the store (is the module there, are the inputs, who
//! has the idempotency key) and leaves every decision about runs to the owner. It knows no HTTP status.

mod access;
mod caches;
mod modules;
mod runs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::sync::CancellationToken;

pub use access::{NewToken, new_token_text, store_token};
pub use caches::{ModuleCache, ModuleFacts, TokenCache};

use super::clock::Clock;
use super::metrics::Metrics;
use super::owner::{Command, WorkerOrder};
use crate::blobs::{BlobError, Blobs};
use crate::compiler::Compiler;
use crate::core::{Class, Stats, Time, WorkerView};
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkerId, WorkspaceId};
use crate::spec::{Policy, RunSpec};
pub use crate::store::{ModuleState, RunFilter, StoredModule, StoredRun, TokenRow, Usage, WorkerRow};
use crate::store::{Store, StoreError};

/// Who calls: made from a token's row.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's number.
    pub token: u32,
    /// Where it is valid.
    pub workspace: WorkspaceId,
    /// What it allows: `admin`, `submit`, `read`, `worker`.
    pub scopes: Vec<String>,
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
    /// Inputs that came in the request.
    pub blobs: Vec<(Digest, Bytes)>,
    /// Idempotency key and digest of the canonical request.
    pub idempotency: Option<(String, Digest)>,
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
    /// It changed. The last event is the final.
    Changed(Arc<RunDetail>),
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
    /// A worker changed.
    Worker(WorkerId),
    /// A module changed.
    Module(Digest),
    /// Events were lost: read everything anew.
    Lagged,
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
    /// Backpressure.
    #[error("the queue is full ({queued} runs): try again later")]
    QueueFull {
        /// Runs that are there.
        queued: usize,
    },
    /// The run was submitted to be forgotten.
    #[error("run {0} was submitted with `durable: false`, and nothing that it needs is kept: submit it anew")]
    NotKept(RunId),
    /// The policy cannot be met.
    #[error("a quorum of {wanted} needs {wanted} workers of one class, and there are {there}")]
    TooFewWorkers {
        /// Wanted.
        wanted: u8,
        /// There.
        there: usize,
    },
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
    /// No room.
    #[error("the disk of the coordinator is full")]
    DiskFull,
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
            other => ServiceError::Internal(other.to_string()),
        }
    }
}

/// Facts of this process that callers may read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The class of its own workers.
    pub class: Class,
    /// Largest module that it takes, in bytes.
    pub module_bytes_max: u64,
    /// Largest blob that it takes, in bytes.
    pub blob_bytes_max: u64,
    /// How long an upload stays that nothing refers to, in milliseconds.
    pub upload_keep_ms: u64,
    /// How long an upload waits for its admission before it answers `compiling`.
    pub admission_wait: Duration,
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
    /// Time.
    pub clock: Clock,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The pool's events.
    pub events: broadcast::Sender<(Option<WorkspaceId>, PoolEvent)>,
    /// The term of this process.
    pub epoch: Epoch,
    /// What callers may know.
    pub facts: Facts,
    /// Whether the restart is over and nothing is ending.
    pub ready: AtomicBool,
    /// Ends streams that would otherwise go on for ever.
    pub stopping: CancellationToken,
}

impl Service {
    /// A service over `parts`.
    pub fn new(parts: Parts) -> Service {
        Service { parts: Arc::new(parts) }
    }

    /// Facts of this process.
    pub fn facts(&self) -> &Facts {
        &self.parts.facts
    }

    /// Figures for `/metrics`.
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
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

    fn now(&self) -> Time {
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

    /// The workers that are there.
    pub async fn workers(&self, _caller: &Caller) -> Result<Vec<(WorkerRow, WorkerView)>, ServiceError> {
        self.ask(Command::Workers).await
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

    /// Lets a worker finish what it holds and gives it nothing more.
    pub async fn drain_worker(&self, caller: &Caller, id: WorkerId) -> Result<(), ServiceError> {
        let why = format!("drained with token {}", caller.token);
        self.order(id, WorkerOrder::Drain(why)).await
    }

    /// Takes a worker out: it gets nothing and its open votes count for nothing.
    pub async fn quarantine_worker(
        &self,
        _caller: &Caller,
        id: WorkerId,
        why: String,
    ) -> Result<(), ServiceError> {
        self.parts.store.quarantine_worker(id, Some(why.clone())).await?;
        self.order(id, WorkerOrder::Quarantine(why)).await
    }

    /// Lets a drained or quarantined worker work again.
    pub async fn readmit_worker(&self, _caller: &Caller, id: WorkerId) -> Result<(), ServiceError> {
        self.parts.store.quarantine_worker(id, None).await?;
        self.order(id, WorkerOrder::Readmit).await
    }

    async fn order(&self, id: WorkerId, order: WorkerOrder) -> Result<(), ServiceError> {
        let known = self.ask(|reply| Command::Order(id, order, reply)).await?;
        known.then_some(()).ok_or_else(|| ServiceError::NotFound { what: "worker", id: id.to_string() })
    }

    /// The pool's and the store's figures.
    pub async fn stats(&self) -> Result<(Stats, Usage), ServiceError> {
        let stats = self.ask(Command::Stats).await?;
        Ok((stats, self.parts.store.usage().await?))
    }

    /// Ids of what changes, for lists that are kept up to date.
    pub fn watch_all(&self, caller: &Caller) -> impl Stream<Item = PoolEvent> + Send + 'static {
        let workspace = caller.workspace;
        let stopping = self.parts.stopping.clone();
        let events = BroadcastStream::new(self.parts.events.subscribe()).filter_map(move |event| {
            std::future::ready(match event {
                Ok((Some(other), _)) if other != workspace => None,
                Ok((_, event)) => Some(event),
                Err(_) => Some(PoolEvent::Lagged),
            })
        });
        events.take_until(stopping.cancelled_owned())
    }
}
