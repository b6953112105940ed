//! Sessions of workers on other machines: who is let in, what each side hears, and when it is over.
//!
//! Invariants: a worker is spoken to only after it has shown its key; what a session holds in memory is bounded, whatever its
//! worker sends or does not read; sessions are numbered, so that the end of an old one says nothing of a new one. A signature
//! is checked here, off the owner's task. What the words mean for runs is the owner's business.

mod handshake;
mod session;
mod token;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::WebSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub use self::session::Taken;
use super::clock::Clock;
use super::metrics::Metrics;
use super::owner::Command;
use crate::id::WorkerId;
use crate::store::{Store, WorkerRow};

/// Workers that are connected at once.
const SESSIONS_MAX: usize = 1_024;
/// Handshakes under way at once: nobody knows yet who they are.
const HANDSHAKES_MAX: usize = 64;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a token of the upgrade request lets in.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Its number.
    pub token: u32,
    /// The trust domain of workers that enrol with it.
    pub domain: String,
    /// Whether they are the operator's own machines.
    pub owned: bool,
    /// Whether they are trusted executors.
    pub arbiter: bool,
}

/// What the sessions work with.
pub struct Parts {
    /// The owner's queue.
    pub commands: mpsc::UnboundedSender<Command>,
    /// Workers' rows.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Clock,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Key of assignments' MACs and of the workers' tokens.
    pub mac_key: [u8; 32],
    /// Between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// After so long without a word a worker is lost, in milliseconds.
    pub worker_lost_ms: u64,
    /// Whose tokens of sessions open nothing.
    pub quarantined: Quarantined,
    /// How many runs are open.
    pub open_runs: Arc<AtomicUsize>,
    /// Ends all sessions.
    pub stopping: CancellationToken,
}

/// See the module.
pub struct PoolService {
    parts: Parts,
    sessions: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    next: AtomicU64,
    /// Of all workers that are connected.
    slots: AtomicUsize,
}

/// Workers that are quarantined, as everybody in this process knows them.
#[derive(Clone, Default)]
pub struct Quarantined(Arc<Mutex<HashSet<WorkerId>>>);

impl Quarantined {
    /// Those that the store says are.
    pub fn of(rows: &[WorkerRow]) -> Quarantined {
        let out = rows.iter().filter(|row| row.quarantined.is_some()).map(|row| row.id);
        Quarantined(Arc::new(Mutex::new(out.collect())))
    }

    /// Says whether a worker is.
    pub fn set(&self, worker: WorkerId, is_quarantined: bool) {
        let mut all = self.all();
        if is_quarantined {
            all.insert(worker);
        } else {
            all.remove(&worker);
        }
    }

    /// Whether a worker is.
    pub fn has(&self, worker: WorkerId) -> bool {
        self.all().contains(&worker)
    }

    fn all(&self) -> MutexGuard<'_, HashSet<WorkerId>> {
        // a set of whole entries is whole after any panic
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolService {
    /// A service without sessions.
    pub fn new(parts: Parts) -> PoolService {
        PoolService {
            parts,
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            next: AtomicU64::new(1),
            slots: AtomicUsize::new(0),
        }
    }

    /// Carries a connection from its handshake to its end.
    pub async fn serve(&self, mut socket: WebSocket, admission: Option<Admission>) {
        let (Ok(_session), Ok(handshake)) = (self.sessions.try_acquire(), self.handshakes.try_acquire())
        else {
            return handshake::reject(&mut socket, handshake::Refusal::full()).await;
        };
        let greeted = {
            let _handshake = handshake;
            let greeting = self.greet(&mut socket, admission);
            tokio::select! {
                greeted = tokio::time::timeout(HANDSHAKE_TIMEOUT, greeting) => greeted,
                () = self.parts.stopping.cancelled() => return,
            }
        };
        match greeted {
            Ok(Ok(greeted)) => self.run(socket, *greeted).await,
            Ok(Err(refusal)) => {
                tracing::info!(code = refusal.code.name(), why = %refusal.text, "a worker was not let in");
                self.parts.metrics.sessions_refused(refusal.code.name());
                handshake::reject(&mut socket, refusal).await;
            }
            Err(_) => tracing::debug!("a handshake took too long"),
        }
    }

    /// The worker that a token of a session stands for; `None` if it is wrong, has ended, or its worker is quarantined.
    pub fn bearer(&self, token: &str) -> Option<WorkerId> {
        let worker = token::verify(&self.parts.mac_key, token, self.parts.clock.now())?;
        (!self.parts.quarantined.has(worker)).then_some(worker)
    }

    fn next_session(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}
