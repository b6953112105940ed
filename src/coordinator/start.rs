//! How a coordinator starts: opens the data folder, takes over what an earlier life left, starts what serves.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::cache::{self, ResultCache};
use super::callbacks::{Callbacks, Deliverer, PENDING_PER_WORKSPACE_MAX};
use super::classes::ClassBook;
use super::clock::Clock;
use super::keys::Keyring;
use super::metrics::Metrics;
use super::owner::{self, Command, Owner};
use super::pool_service::{self, PoolService};
use super::service::{self, Facts, ModuleCache, Service, TokenCache, TokenSpec, new_token_text, store_token};
use super::{CoordinatorConfig, CoordinatorError, Running, chores, http, pump, repair, returning, workers};
use crate::agent::corpus;
use crate::blobs::Blobs;
use crate::class::{ClassInputs, Classes};
use crate::compiler::Compiler;
use crate::core::{self, Pool, Time};
use crate::digest::Digest;
use crate::id::RunId;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Failure, ModuleState, Store, StoreError};

/// Events of the whole pool that a slow reader may lag behind.
const EVENTS_MAX: usize = 4_096;
/// Open runs that are read at once at the start.
const RECOVERY_PAGE: u32 = 1_000;
/// Embedded workers join within milliseconds; one that has not by then will never.
const JOIN_WAIT: Duration = Duration::from_secs(10);

/// Opens the data folder, takes over what an earlier life left, starts the embedded workers. Serving begins with
/// [`Running::serve`]; until then connections wait in the listener's queue.
pub async fn start(config: CoordinatorConfig, listener: TcpListener) -> Result<Running, CoordinatorError> {
    start_over(config, listener, Options::default()).await
}

/// The same over a store that may have bounds.
pub(super) async fn start_over(
    config: CoordinatorConfig,
    listener: TcpListener,
    options: Options,
) -> Result<Running, CoordinatorError> {
    let address = listener.local_addr().map_err(CoordinatorError::Serve)?;
    private_folder(&config.data)?;
    let failure = Failure::new();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&config.data, options, failure.clone())?);
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
        callbacks_max: PENDING_PER_WORKSPACE_MAX,
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
pub(super) fn private_folder(path: &Path) -> Result<(), CoordinatorError> {
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
