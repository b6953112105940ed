//! The coordinator's shell: owns sockets and time, drives the core, and keeps what it decided.
//!
//! Life of a run: `http` validates ([`submission`]), [`service`] checks inputs and module, [`owner`] applies the submission
//! to the core and carries out the effects (assignments to agents, writes through the [`pump`]), agents report, the
//! owner checks their votes, collects outputs into the blob store, finishes, and answers whoever waits. [`callbacks`] tells
//! those who asked to be told.
//!
//! Shutdown order: no new runs (`readyz` says so); HTTP finishes what it answers; agents are dropped, which kills
//! their runners (their runs are taken up at the next start); the owner ends; the pump writes what it has; the store closes.

mod cache;
pub mod callbacks;
pub mod chores;
pub mod classes;
pub mod clock;
pub mod http;
pub mod keys;
mod ledger;
pub mod metrics;
mod open_run;
mod owner;
mod pool_service;
mod pump;
mod repair;
mod returning;
mod ring;
pub mod service;
mod start;
pub mod submission;
#[cfg(test)]
mod testing;
mod workers;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use self::cache::CacheConfig;
use self::callbacks::CallbackConfig;
use self::chores::RetentionConfig;
use self::service::{Service, ServiceError};
pub use self::start::start;
use crate::agent::corpus::CorpusError;
use crate::blobs::BlobError;
use crate::class::Classes;
use crate::compiler::{CompilerConfig, InfraError};
use crate::core;
use crate::spec::Verify;
use crate::store::sqlite::OpenError;
use crate::store::{Failure, Store, StoreError};
use crate::tls;

/// What a coordinator with embedded workers is told.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// The equivalence classes of this machine and build; what is `None` is found out by the golden corpus.
    pub classes: Option<Classes>,
    /// Everything it keeps is below this folder.
    pub data: PathBuf,
    /// The program to start for runners and compilers: this one.
    pub exe: PathBuf,
    /// Embedded workers.
    pub workers: u32,
    /// Embedded workers beside them that settle disputes and audits, and get no ordinary work while others are there.
    pub arbiters: u32,
    /// Attempts that each executes at once.
    pub slots: u32,
    /// Memory that the attempts of each may use together, in bytes.
    pub worker_memory_bytes: u64,
    /// Between two heartbeats of a worker, in milliseconds.
    pub heartbeat_ms: u64,
    /// Outputs that each keeps until they are collected, in bytes.
    pub worker_outputs_bytes_max: u64,
    /// Runners that each keeps ready for a workspace that has none.
    pub spare_runners: u32,
    /// Idle runners that each keeps for their workspaces.
    pub parked_runners: u32,
    /// How long a runner may take to begin its first attempt, in milliseconds.
    pub begin_ms: u64,
    /// The rules' timings and bounds.
    pub core: core::Config,
    /// How results are verified of runs that ask for nothing else.
    pub verify_default: Verify,
    /// What is kept of final runs.
    pub retention: RetentionConfig,
    /// How many verified results answer equal runs, and how long.
    pub cache: CacheConfig,
    /// How long an upload stays that nothing refers to, in milliseconds.
    pub upload_keep_ms: u64,
    /// How modules are compiled.
    pub compiler: CompilerConfig,
    /// Facts and bounds that callers may read.
    pub module_bytes_max: u64,
    /// Largest blob that is taken, in bytes.
    pub blob_bytes_max: u64,
    /// Connections at once.
    pub connections_max: u32,
    /// How long an upload waits for its admission before it answers `compiling`.
    pub admission_wait: Duration,
    /// Connections get so long to finish what they answer when the process ends.
    pub http_drain: Duration,
    /// Speaks TLS with this, and nothing else.
    pub tls: Option<tls::Acceptor>,
    /// Who may be told of runs.
    pub callbacks: CallbackConfig,
}

/// Why a coordinator did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The data folder.
    #[error("the data folder `{path}` cannot be used")]
    Data {
        /// Which part of it.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The store did not open.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The store failed so that nothing it says can be trusted.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The blob store did not open.
    #[error("the blob store cannot be used")]
    Blobs(#[from] BlobError),
    /// The compile service did not start.
    #[error("the compile service cannot be used")]
    Compiler(#[from] InfraError),
    /// The golden corpus.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// An embedded worker did not start.
    #[error("embedded worker {0} cannot be started: {1}")]
    Worker(u32, String),
    /// A use case at the start.
    #[error("the start failed")]
    Start(#[from] ServiceError),
    /// Nothing can be sent to others.
    #[error("callbacks cannot be sent: {0}")]
    Callbacks(String),
    /// The listener.
    #[error("serving ended")]
    Serve(#[source] std::io::Error),
    /// A task that must not end did.
    #[error("an inner task ended: {0}")]
    Task(String),
}

/// A coordinator that serves.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The admin token of this data folder.
    pub token: String,
    server: http::ServerConfig,
    service: Service,
    owner: tokio::task::JoinHandle<()>,
    stop_owner: oneshot::Sender<()>,
    pump: tokio::task::JoinHandle<Result<(), StoreError>>,
    chores: tokio::task::JoinHandle<()>,
    deliverer: tokio::task::JoinHandle<()>,
    repairer: tokio::task::JoinHandle<()>,
    workers: workers::Embedded,
    store: Arc<dyn Store>,
    failure: Failure,
    listener: TcpListener,
    tls: Option<tls::Acceptor>,
}

impl Running {
    /// Serves until `shutdown` completes or something fails that only a new start can mend.
    pub async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), CoordinatorError> {
        let Running {
            server,
            service,
            mut owner,
            stop_owner,
            mut pump,
            chores,
            deliverer,
            repairer,
            workers,
            store,
            failure,
            listener,
            tls,
            ..
        } = self;
        let (stop_http, http_stopped) = oneshot::channel::<()>();
        let router = http::router(Arc::new(service.clone()));
        let mut http = tokio::spawn(http::serve(listener, tls, router, server, async move {
            let _ = http_stopped.await;
        }));
        let mut ended = tokio::select! {
            () = shutdown => Ok(()),
            reason = failure.reported() => Err(StoreError::Fatal(reason).into()),
            end = &mut pump => match end {
                Ok(Err(error)) => Err(error.into()),
                other => Err(CoordinatorError::Task(format!("pump: {other:?}"))),
            },
            end = &mut owner => Err(CoordinatorError::Task(format!("owner: {end:?}"))),
            end = &mut http => Err(CoordinatorError::Task(format!("http: {end:?}"))),
        };
        tracing::info!("shutting down");
        service.begin_shutdown();
        let _ = stop_http.send(());
        if ended.is_ok() {
            // bounded by its own drain timeout
            let _ = (&mut http).await;
        }
        http.abort();
        // what it had verified goes on after the next start
        repairer.abort();
        service.end_sessions().await;
        workers.stop().await;
        let _ = stop_owner.send(());
        if !owner.is_finished() {
            let _ = owner.await;
        }
        // the owner's sender is gone, so the pump ends when everything is written
        if ended.is_ok() && !pump.is_finished() {
            ended = match pump.await {
                Ok(Err(error)) => Err(error.into()),
                _ => Ok(()),
            };
        }
        chores.abort();
        // it was told to stop; what is on its way is sent again by the next life
        deliverer.abort();
        store.close().await;
        ended
    }
}

#[cfg(test)]
mod tests;
