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
pub mod submission;
#[cfg(test)]
mod testing;
mod workers;

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use self::cache::CacheConfig;
use self::cache::ResultCache;
use self::callbacks::{CallbackConfig, Callbacks, Deliverer};
use self::chores::RetentionConfig;
use self::classes::ClassBook;
use self::clock::Clock;
use self::keys::Keyring;
use self::metrics::Metrics;
use self::owner::{Command, Owner};
use self::pool_service::PoolService;
use self::service::{
    Facts, ModuleCache, Service, ServiceError, TokenCache, TokenSpec, new_token_text, store_token,
};
use crate::agent::corpus::{self, CorpusError};
use crate::blobs::{BlobError, Blobs};
use crate::class::{ClassInputs, Classes};
use crate::compiler::{Compiler, CompilerConfig, InfraError};
use crate::core::{self, Pool, Time};
use crate::digest::Digest;
use crate::id::RunId;
use crate::spec::Verify;
use crate::store::sqlite::{OpenError, Options, SqliteStore};
use crate::store::{Failure, ModuleState, Store, StoreError};
use crate::tls;

/// Events of the whole pool that a slow reader may lag behind.
const EVENTS_MAX: usize = 4_096;
/// Open runs that are read at once at the start.
const RECOVERY_PAGE: u32 = 1_000;
/// Embedded workers join within milliseconds; one that has not by then will never.
const JOIN_WAIT: Duration = Duration::from_secs(10);

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

/// Opens the data folder, takes over what an earlier life left, starts the embedded workers. Serving begins with
/// [`Running::serve`]; until then connections wait in the listener's queue.
pub async fn start(config: CoordinatorConfig, listener: TcpListener) -> Result<Running, CoordinatorError> {
    let address = listener.local_addr().map_err(CoordinatorError::Serve)?;
    private_folder(&config.data)?;
    let failure = Failure::new();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&config.data, Options::default(), failure.clone())?);
    let clock = Clock::start(store.newest_instant().await?);
    let blobs = Arc::new(Blobs::open(&config.data.join("blobs"), Arc::clone(&store), failure.clone())?);
    let compiler = Compiler::new(config.compiler.clone())?;
    let proof = tokio::spawn(own_classes((config.classes, config.exe.clone()), compiler.clone()));
    let token = admin_token(&config.data, store.as_ref(), clock.now()).await?;
    let (keys, embedded) =
        Keyring::open(&config.data, store.as_ref(), config.workers + config.arbiters, clock.now()).await?;

    let mac_key = secret(store.as_ref(), "assignment_key").await?;
    let epoch = store.adopt_open_runs().await?;
    let (commands, queue) = mpsc::unbounded_channel();
    let (writes, batches) = mpsc::unbounded_channel();
    let events = broadcast::Sender::new(EVENTS_MAX);
    let metrics = Arc::new(Metrics::new());
    let modules = Arc::new(ModuleCache::default());
    let cache = Arc::new(ResultCache::new(config.cache));
    if let Some(together) = cache.recall(store.withdrawals().await?, clock.now()) {
        tokio::spawn(cache::keep_withdrawal(Arc::clone(&store), together));
    }
    let callbacks = Arc::new(Callbacks::open(&config.callbacks, store.as_ref(), clock.now()).await?);
    let (own, about) = proof.await.map_err(|error| CoordinatorError::Task(error.to_string()))??;
    let classes = Arc::new(ClassBook::of(about.clone()));
    let (repairs, repairs_ended) = repair::Handle::new();
    // embedded workers are new in each process; those on other machines outlive it and come back
    let rows = store.workers().await?;
    let (returning, quarantined) = (returning::expected(&rows), pool_service::Quarantined::of(&rows));
    let open_runs = Arc::<AtomicUsize>::default();
    let parts = owner::Parts {
        open_runs: Arc::clone(&open_runs),
        pool: Pool::restarted(config.core.clone(), clock.now(), returning),
        clock,
        store: Arc::clone(&store),
        blobs: Arc::clone(&blobs),
        metrics: Arc::clone(&metrics),
        modules: Arc::clone(&modules),
        cache: Arc::clone(&cache),
        classes: Arc::clone(&classes),
        writes,
        commands: commands.clone(),
        events: events.clone(),
        key: owner::AssignmentKey::new(&mac_key),
        quarantined: quarantined.clone(),
        repair: repairs.clone(),
        epoch,
        callback_made: Arc::clone(&callbacks.wake),
        // by then a worker that only lost its connection is back, and one that died is not waited for any longer
        reconnect_ms: config.core.worker_lost_ms / 3,
    };
    let mut owner = Owner::new(parts);
    recover(&mut owner, store.as_ref()).await?;
    let pump = tokio::spawn(pump::run(Arc::clone(&store), batches, commands.clone()));
    let (stop_owner, stop) = oneshot::channel();
    let owner = tokio::spawn(owner.run(queue, stop));
    let workers = workers::Embedded::start(
        &config,
        (own, &about),
        embedded,
        (store.as_ref(), &blobs),
        &compiler,
        &commands,
        clock.now(),
    )
    .await?;
    tokio::spawn(chores::restore_figures(Arc::clone(&store), clock.now(), commands.clone()));
    tokio::spawn(cache::load(Arc::clone(&store), Arc::clone(&cache), clock));
    let stopping = CancellationToken::new();
    let pool = PoolService::new(pool_service::Parts {
        open_runs,
        commands: commands.clone(),
        store: Arc::clone(&store),
        clock,
        metrics: Arc::clone(&metrics),
        mac_key,
        heartbeat_ms: config.heartbeat_ms,
        worker_lost_ms: config.core.worker_lost_ms,
        quarantined,
        stopping: stopping.clone(),
    });
    let repairer = repair::Repairer {
        store: Arc::clone(&store),
        commands: commands.clone(),
        clock,
        metrics: Arc::clone(&metrics),
        handle: repairs.clone(),
    };
    let blobs_of_chores = Arc::clone(&blobs);
    let owner_queue = commands.clone();
    let service = Service::new(service::Parts {
        commands,
        pool,
        keys: Arc::new(keys),
        store: Arc::clone(&store),
        blobs,
        compiler,
        modules,
        cache: Arc::clone(&cache),
        classes,
        tokens: TokenCache::default(),
        clock,
        metrics,
        callbacks,
        workspaces: service::WorkspaceCache::default(),
        events,
        epoch,
        facts: Facts {
            classes: own,
            module_bytes_max: config.module_bytes_max,
            blob_bytes_max: config.blob_bytes_max,
            admission_wait: config.admission_wait,
            upload_keep_ms: config.upload_keep_ms,
            listen: address,
            tls: config.tls.is_some(),
            started_at: clock.now(),
            connections_max: config.connections_max,
            runs_max: config.core.runs_max,
            runs_per_workspace_max: config.core.runs_per_workspace_max,
            retention: config.retention,
            verify_default: config.verify_default,
        },
        inline_room: Arc::new(tokio::sync::Semaphore::new(service::INLINE_SHARES_MAX)),
        usage: service::UsageCache::default(),
        repair: repairs,
        streams: service::Streams::default(),
        ready: AtomicBool::new(true),
        stopping: stopping.clone(),
    });
    let deliverer = Deliverer::new(&config.callbacks, service.clone(), Arc::clone(&store), clock)?;
    let chores = tokio::spawn(chores::run(
        service.clone(),
        Arc::clone(&store),
        blobs_of_chores,
        clock,
        config.retention,
        cache,
    ));
    service.resume_admissions().await?;
    service.wait_for_workers((config.workers + config.arbiters) as usize, JOIN_WAIT).await?;
    let _ = owner_queue.send(Command::Serving);
    let deliverer = tokio::spawn(deliverer.run(stopping));
    let repairer = tokio::spawn(repairer.run(repairs_ended));
    Ok(Running {
        address,
        token,
        server: http::ServerConfig {
            connections_max: config.connections_max as usize,
            drain_timeout: config.http_drain,
            ..http::ServerConfig::default()
        },
        service,
        owner,
        stop_owner,
        pump,
        chores,
        deliverer,
        repairer,
        workers,
        store,
        failure,
        listener,
        tls: config.tls,
    })
}

/// Finds out what class this machine and build is of, while the rest starts.
async fn own_classes(
    config: (Option<Classes>, PathBuf),
    compiler: Compiler,
) -> Result<(Classes, Vec<ClassInputs>), CoordinatorError> {
    let (given, exe) = config;
    if let Some(classes) = given {
        return Ok((classes, Vec::new()));
    }
    let parts = corpus::prove(&exe, &compiler).await?;
    Ok((parts.classes(), parts.all()))
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

/// Hands every run that an earlier life acknowledged to the owner.
async fn recover(owner: &mut Owner, store: &dyn Store) -> Result<(), StoreError> {
    let mut cursor: Option<RunId> = None;
    let mut ready = std::collections::HashMap::<Digest, bool>::new();
    let mut refused = Vec::new();
    let mut count = 0_u64;
    loop {
        let page = store.open_runs(cursor, RECOVERY_PAGE).await?;
        let Some(last) = page.last() else { break };
        cursor = Some(last.id);
        count += page.len() as u64;
        for run in page {
            let module = run.spec.module;
            let is_ready = match ready.get(&module) {
                Some(is_ready) => *is_ready,
                None => {
                    let row = store.module(module).await?;
                    let is_ready = row.as_ref().is_some_and(|row| row.state == ModuleState::Ready);
                    if row.as_ref().is_none_or(|row| row.state == ModuleState::Refused) {
                        refused.push(module);
                    }
                    if let Some(why) = row.and_then(|row| row.quarantined) {
                        owner.quarantine(module, why);
                    }
                    ready.insert(module, is_ready);
                    is_ready
                }
            };
            owner.recover(&run, is_ready);
        }
    }
    for module in store.nondeterministic_modules().await? {
        owner.nondeterministic(module);
    }
    // nothing will ever admit these: their runs end, once all of them are there
    for module in refused {
        owner.refuse(module);
    }
    if count > 0 {
        tracing::info!(runs = count, "took over the runs of an earlier life");
    }
    Ok(())
}

/// Makes a folder that only its owner may enter.
fn private_folder(path: &Path) -> Result<(), CoordinatorError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| CoordinatorError::Data { path: path.to_owned(), source })
}

/// 32 secret bytes of this pool, made once.
async fn secret(store: &dyn Store, name: &str) -> Result<[u8; 32], CoordinatorError> {
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).map_err(|error| CoordinatorError::Task(format!("no randomness: {error}")))?;
    let bytes = store.init_meta(name, fresh.to_vec()).await?;
    bytes.try_into().map_err(|_| {
        StoreError::Decode { what: "secret", why: format!("`{name}` is not 32 bytes long") }.into()
    })
}

/// The admin token in `DIR/token` (mode 0600): made at the first start, or again when the file was deleted.
async fn admin_token(data: &Path, store: &dyn Store, now: Time) -> Result<String, CoordinatorError> {
    let path = data.join("token");
    let failed = |source| CoordinatorError::Data { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let text = text.trim().to_owned();
            if store.token(Digest::of(text.as_bytes())).await?.is_some() {
                return Ok(text);
            }
            tracing::warn!("the token in `{}` is not valid (any more); making a new one", path.display());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let text = new_token_text()?;
    let scopes = ["admin", "submit", "read", "worker"].map(str::to_owned).to_vec();
    let spec = TokenSpec {
        name: "admin of the first start".to_owned(),
        scopes,
        expires_at: None,
        domain: Some(core::OWN_DOMAIN.to_owned()),
        owned: true,
        arbiter: false,
    };
    store_token(store, &text, spec, now).await?;
    // beside and renamed, so that a crash leaves a whole token or none
    let beside = data.join("token.new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, &path).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
