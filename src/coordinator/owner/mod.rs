//! The one task that owns the core: takes commands, applies events, carries out effects.
//!
//! Nobody else touches the pool, so nothing here is locked and events have one order. Commands are handled in batches; the
//! writes of a batch leave together and are answered together. What tells somebody something durable waits for them.
//! It awaits nothing but its queue and its timer: whatever takes time (store, blobs, agents) is another task that
//! answers with a command.

mod anew;
mod answers;
mod artifacts;
mod attention;
mod callers;
mod collect;
mod commands;
mod dissent;
mod effects;
mod evidence;
mod figures;
mod finals;
mod hits;
mod links;
mod macs;
mod outbox;
mod patience;
mod reports;
mod sessions;

pub use commands::{Command, FinalReceiver, Hit, Stored, Submit, Watch, WorkerOrder};
pub use figures::{CurrentAttempt, Glance, WorkerNow};
pub use macs::AssignmentKey;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use self::attention::Attention;
use self::callers::submission;
use self::patience::Patience;
use super::clock::Clock;
use super::ledger::Ledgers;
use super::metrics::Metrics;
use super::open_run::{OpenRun, Reported, recovered};
use super::ring::Ring;
use super::service::{PoolEvent, ServiceError};
use crate::blobs::Blobs;
use crate::class::Classes;
use crate::core::{Effect, Event, Pool, Submission, Time, WorkerView};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use crate::store::{RunWrite, Store, StoredRun, WorkerRow};

/// Commands that are handled before their writes leave and the timer is looked at again.
const COMMANDS_AT_ONCE: usize = 256;

/// Bounds on what a worker on another machine can say.
#[derive(Clone, Copy, Debug)]
pub struct Remote {
    /// Slots that it declared.
    pub slots: u32,
}

/// A worker's session.
struct Link {
    row: WorkerRow,
    /// `None` while it has no connection.
    to: Option<outbox::Outbox>,
    session: u64,
    remote: Option<Remote>,
    /// Known from its Hello.
    classes: Option<Classes>,
    /// Assignments sent in this session: what a grant must be held against.
    sent: u64,
    /// CPU time of what it holds, in microseconds, as of its last heartbeat.
    cpu_us: HashMap<AttemptId, u64>,
    /// It said so: its end costs nobody anything.
    has_drained: bool,
}

/// What the owner works with.
pub struct Parts {
    /// The rules.
    pub pool: Pool,
    /// Its time.
    pub clock: Clock,
    /// Where evidence goes.
    pub store: Arc<dyn Store>,
    /// Where outputs go.
    pub blobs: Arc<Blobs>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The pump's queue.
    pub writes: mpsc::UnboundedSender<Vec<RunWrite>>,
    /// The owner's own queue, for tasks that answer.
    pub commands: mpsc::UnboundedSender<Command>,
    /// Tells those who watch the whole pool.
    pub events: broadcast::Sender<(Option<WorkspaceId>, PoolEvent)>,
    /// What is known of modules; emptied when the poison rule quarantines one.
    pub modules: Arc<super::service::ModuleCache>,
    /// What classes are made of.
    pub classes: Arc<super::classes::ClassBook>,
    /// Ties answers to assignments, and draws audits.
    pub key: AssignmentKey,
    /// Verified results, which answer equal runs.
    pub cache: Arc<super::cache::ResultCache>,
    /// Whose tokens of sessions open nothing.
    pub quarantined: super::pool_service::Quarantined,
    /// How many runs are open: kept for the sessions.
    pub open_runs: Arc<AtomicUsize>,
    /// Who looks at what rested on a worker.
    pub repair: super::repair::Handle,
    /// The term in which this process owns what it takes.
    pub epoch: Epoch,
    /// Woken when a delivery was made.
    pub callback_made: Arc<Notify>,
    /// How long a remote worker without a connection may take to come back, in milliseconds.
    pub reconnect_ms: u64,
}

/// The owner; see the module.
pub struct Owner {
    parts: Parts,
    runs: HashMap<RunId, OpenRun>,
    keys: HashMap<(WorkspaceId, String), (RunId, Digest)>,
    links: BTreeMap<WorkerId, Link>,
    /// Machine code, as votes have shown it: what further votes must show.
    artifacts: artifacts::Artifacts,
    /// Modules that were admitted (or not) while this process lives: a submission may have looked just before.
    admitted: HashMap<Digest, bool>,
    ring: Ring,
    /// Dissenting outputs that were asked for: from whom, and which.
    keeping: HashMap<AttemptId, (WorkerId, Vec<Digest>)>,
    /// Whom the outputs of open runs were asked from.
    asked: BTreeSet<(WorkerId, AttemptId)>,
    /// Runs per workspace that are open, and those of them that have an attempt.
    open: HashMap<WorkspaceId, (u64, u64)>,
    ledgers: Ledgers,
    /// Workers that an operator drains, and why: over all of their sessions, until they are readmitted.
    drains: BTreeMap<WorkerId, String>,
    notes: evidence::Notes,
    effects: Vec<Effect>,
    patience: Patience,
    writes: Vec<RunWrite>,
    /// Runs that were answered from the cache and whose row is on its way.
    hits: HashMap<RunId, hits::Unwritten>,
    /// What runs in memory had reported that ended, while the effects of one step are carried out: those that shared their
    /// attempts take it over.
    landed: BTreeMap<RunId, Reported>,
}

impl Owner {
    /// An owner of an empty pool.
    pub fn new(parts: Parts) -> Owner {
        Owner {
            ledgers: Ledgers::new(parts.clock.now()),
            keeping: HashMap::new(),
            asked: BTreeSet::new(),
            open: HashMap::new(),
            parts,
            runs: HashMap::new(),
            keys: HashMap::new(),
            links: BTreeMap::new(),
            artifacts: artifacts::Artifacts::default(),
            admitted: HashMap::new(),
            ring: Ring::default(),
            drains: BTreeMap::new(),
            notes: evidence::Notes::default(),
            effects: Vec::new(),
            patience: Patience::default(),
            writes: Vec::new(),
            hits: HashMap::new(),
            landed: BTreeMap::new(),
        }
    }

    /// Takes over a run that an earlier life acknowledged.
    pub fn recover(&mut self, stored: &StoredRun, module_ready: bool) {
        let new = Arc::new(recovered(stored, self.parts.epoch));
        let submission = Submission {
            history: stored.attempts.clone(),
            explained: stored.explain.to_vec(),
            recovered: true,
            ..submission(&new, module_ready, self.parts.key.lottery(new.id))
        };
        let share = submission.share.filter(|_| self.parts.cache.is_on());
        let submission = Submission { share, ..submission };
        let has_begun = !stored.attempts.is_empty();
        self.enter(OpenRun { has_begun, ..OpenRun::new(new, false, true) });
        self.ledgers.minute(stored.workspace, stored.created_at).submitted += 1;
        self.step(Event::Submitted(Box::new(submission)));
    }

    /// A module that an earlier life took out of service: runs of it that are taken over end.
    pub fn quarantine(&mut self, module: Digest, why: String) {
        self.step(Event::ModuleQuarantined { module, why });
    }

    /// A module whose trusted executions differed in an earlier life: nobody is blamed for a run of it.
    pub fn nondeterministic(&mut self, module: Digest) {
        self.parts.cache.bar(module);
        self.step(Event::ModuleNondeterministic { module });
    }

    /// A module that was refused, or deleted, in an earlier life: runs of it that were taken over end.
    pub fn refuse(&mut self, module: Digest) {
        self.admitted.insert(module, false);
        self.step(Event::ModuleRefused { module });
    }

    /// Runs until every sender of commands but its own is gone or `stop` is heard.
    pub async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let mut batch = Vec::with_capacity(COMMANDS_AT_ONCE);
        let mut watch = Attention::new(self.now());
        loop {
            let deadline = watch.hold(self.parts.pool.next_deadline());
            let deadline = deadline.into_iter().chain(self.patience.next()).min();
            let timer = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(self.parts.clock.instant(at).into()).await,
                    None => std::future::pending().await,
                }
            };
            // cancel safe: `recv_many` loses nothing, the timer has no state
            tokio::select! {
                count = commands.recv_many(&mut batch, COMMANDS_AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                }
                () = timer => {}
                _ = &mut stop => return,
            }
            let woke = self.now();
            for command in batch.drain(..) {
                self.handle(command);
            }
            if let Some(ms) = watch.was_away(deadline, woke, self.now()) {
                tracing::warn!(
                    ms,
                    "the coordinator was away or busy for so long; no worker is blamed for it"
                );
                self.step(Event::WasAway { ms });
            }
            if watch.hold(self.parts.pool.next_deadline()).is_some_and(|at| at <= self.now()) {
                // what was said before the deadline counts, however late it is heard
                for _ in 0..commands.len() {
                    let Ok(command) = commands.try_recv() else { break };
                    self.handle(command);
                }
                self.step(Event::Tick);
            }
            self.flush();
        }
    }

    fn now(&self) -> Time {
        self.parts.clock.now()
    }

    /// Applies one event and carries out what follows.
    fn step(&mut self, event: Event) {
        let mut effects = std::mem::take(&mut self.effects);
        self.parts.pool.step(self.now(), event, &mut effects);
        self.carry_out(&mut effects);
        self.effects = effects;
    }

    /// Sends the writes of this batch on their way.
    fn flush(&mut self) {
        if self.patience.next().is_some() {
            let left = self.patience.leave(self.now());
            self.writes.extend(left.into_iter().map(RunWrite::Insert));
        }
        if !self.writes.is_empty() {
            let _ = self.parts.writes.send(std::mem::take(&mut self.writes));
        }
        self.notes.leave(&self.parts);
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Submit(submit) => self.submit(submit),
            Command::Hit(hit) => self.hit(hit),
            Command::Serving => self.step(Event::Serving),
            Command::Join { row, to, session, remote } => self.join(*row, to, session, remote),
            Command::Said(worker, session, message) => {
                if self.is_current(worker, session) {
                    self.said(worker, message);
                }
            }
            Command::SaidAll { worker, session, messages, taken } => {
                if self.is_current(worker, session) {
                    messages.into_iter().for_each(|message| self.said(worker, message));
                }
                drop(taken);
            }
            Command::Gone(worker, session) => self.gone(worker, session),
            Command::StillGone(worker, session) => self.still_gone(worker, session),
            Command::Written(answers) => self.written(answers),
            Command::Collected { attempt, outcome } => self.collected(attempt, outcome),
            Command::Admitted { module, ready } => {
                self.admitted.insert(module, ready);
                self.step(match ready {
                    true => Event::ModuleReady { module },
                    false => Event::ModuleRefused { module },
                });
            }
            Command::ModuleQuarantine(module, why, stored) => self.order_module(module, why, stored),
            Command::Order(worker, order, reply) => self.order(worker, order, reply),
            Command::Cancel(workspace, run, reply) => {
                let waiting = self.await_final(workspace, run);
                if waiting.is_some() {
                    self.step(Event::Cancel { run });
                }
                let _ = reply.send(waiting);
            }
            Command::See(workspace, run, reply) => {
                let _ = reply.send(self.see(workspace, run));
            }
            Command::Output(workspace, run, digest, reply) => {
                let _ = reply.send(self.ring.output(workspace, run, digest));
            }
            Command::Asked(worker, digest, reply) => {
                let _ = reply.send(self.asked_for(worker, digest));
            }
            Command::SeeMany(runs, reply) => {
                let view = |run: RunId| self.parts.pool.run(run).map(|view| (run, view));
                let _ = reply.send(runs.into_iter().filter_map(view).collect());
            }
            Command::Await(workspace, run, reply) => {
                let _ = reply.send(self.await_final(workspace, run));
            }
            Command::Acknowledge(workspace, run, reply) => self.acknowledge_to(workspace, run, reply),
            Command::Watch(workspace, run, reply) => {
                let _ = reply.send(self.watch(workspace, run));
            }
            Command::Workers(reply) => {
                let views = self.parts.pool.workers().into_iter();
                let row = |view: WorkerView| Some((self.links.get(&view.worker)?.row.clone(), view));
                let mut there: Vec<_> = views.filter_map(row).collect();
                there.sort_unstable_by_key(|(row, _)| row.id);
                let _ = reply.send(there);
            }
            Command::Stats(reply) => {
                let _ = reply.send(self.parts.pool.stats());
            }
            Command::Glance(workspace, reply) => {
                let _ = reply.send(self.glance(workspace));
            }
            Command::Series(workspace, minutes, reply) => {
                let now = self.now();
                let series = self.ledgers.series(workspace, now, minutes);
                let _ = reply.send((self.ledgers.since(now), series));
            }
            Command::Worker(worker, reply) => {
                let _ = reply.send(self.worker_now(worker));
            }
            Command::VerifyAnew(anew) => self.verify_anew(*anew),
            Command::Followed(corrected) => self.followed(corrected),
            Command::Restored(finals, covered) => self.ledgers.restore(&finals, covered),
        }
    }

    /// Forgets an open run and tells everybody who waits for it why.
    fn fail(&mut self, run: RunId, error: ServiceError) {
        let Some(open) = self.forget(run) else { return };
        if open.anew.is_some() {
            self.drop_anew(run, open.finished.as_deref());
        }
        for waiter in open.acks.into_iter().chain(open.finals) {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Removes an open run.
    fn forget(&mut self, run: RunId) -> Option<OpenRun> {
        let open = self.runs.remove(&run)?;
        if open.anew.is_none() {
            self.left(&open);
        }
        for (attempt, worker) in &open.collecting {
            self.asked.remove(&(*worker, *attempt));
        }
        if let Some((key, _)) = &open.new.idempotency {
            self.keys.remove(&(open.new.workspace, key.clone()));
        }
        Some(open)
    }
}

#[cfg(test)]
mod tests;
