//! What anybody may ask of the owner.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{Glance, Remote, WorkerNow};
use crate::coordinator::open_run::Waiter;
use crate::coordinator::pool_service::Taken;
use crate::coordinator::pump::Written;
use crate::coordinator::repair::Anew;
use crate::coordinator::service::{RunDetail, RunEvent, ServiceError};
use crate::core::{RunView, Stats, Time, WorkerView, WriteKind};
use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId, WorkspaceId};
use crate::protocol::agent::{FromAgent, ToAgent};
use crate::protocol::api::Tally;
use crate::result::Fault;
use crate::store::{NewRun, RecentFinal, StoreError, StoredRun, WorkerRow};

/// A submission, its inputs checked and pinned.
#[derive(Debug)]
pub struct Submit {
    /// The run to insert.
    pub new: Box<NewRun>,
    /// Whether its module's artifact is there.
    pub module_ready: bool,
    /// Whether output is watched as it comes.
    pub live: bool,
    /// Answer when it is final, instead of when it is acknowledged.
    pub wait: bool,
    /// Held while its inputs are in memory.
    pub room: Option<tokio::sync::OwnedSemaphorePermit>,
    /// The answer; its sender is dropped only with the owner.
    pub reply: Waiter,
    /// Why it is verified as it is, if it did not say how: the first word of its explanation.
    pub why_verify: Option<String>,
}

/// A run that a cached result answers.
#[derive(Debug)]
pub struct Hit {
    /// The run to insert.
    pub new: Box<NewRun>,
    /// The run as it is answered.
    pub detail: Arc<RunDetail>,
    /// Small output files, if what answers it is in memory only.
    pub outputs: BTreeMap<Digest, Bytes>,
    /// Answered when its row is written; none if it was answered already. Dropped if it is not to be answered like this.
    pub reply: Option<Waiter>,
    /// Whether it counts among the answers whose row is not written.
    pub is_counted: bool,
}

/// Hears of a run's final.
pub type FinalReceiver = oneshot::Receiver<Result<Arc<RunDetail>, ServiceError>>;

/// Hears how an operator's word was stored: `false` if there is nothing of that name. On a full disk it hears so at once, and
/// the word, which holds already, is stored as soon as there is room.
pub type Stored = oneshot::Sender<Result<bool, StoreError>>;

/// What an operator does to a worker. It holds at once and is stored behind all that the pool has said before, so that of the
/// two the later word is the one that stays.
#[derive(Debug)]
pub enum WorkerOrder {
    /// Finish what it holds, take nothing more.
    Drain(String),
    /// Gets nothing and counts for nothing.
    Quarantine(String, Stored),
    /// Works again.
    Readmit(Stored),
}

/// Everything that anybody may ask of the owner.
pub enum Command {
    /// A new run.
    Submit(Submit),
    /// A run that was answered from the cache.
    Hit(Hit),
    /// Workers can connect from now on.
    Serving,
    /// A worker's session begins.
    Join {
        /// Its row.
        row: Box<WorkerRow>,
        /// How to speak to it.
        to: mpsc::Sender<ToAgent>,
        /// Its session's number: a newer one takes the place of an older one.
        session: u64,
        /// What must be held against what it says, if it is on another machine.
        remote: Option<Remote>,
    },
    /// A worker said something in a session.
    Said(WorkerId, u64, FromAgent),
    /// A remote worker said all of this in one message.
    SaidAll {
        /// Who.
        worker: WorkerId,
        /// In which session.
        session: u64,
        /// What, in its order.
        messages: Vec<FromAgent>,
        /// Dropped when it was heard.
        taken: Taken,
    },
    /// A worker's session ended.
    Gone(WorkerId, u64),
    /// The time that a remote worker has to come back is over.
    StillGone(WorkerId, u64),
    /// The store answered, in the order of the writes.
    Written(Vec<((RunId, WriteKind), Written)>),
    /// The blobs that an agent delivered are stored (the large ones), or are not what they should be.
    Collected {
        /// From which attempt.
        attempt: AttemptId,
        /// The small ones that go with the run's final, or what is wrong with what came.
        outcome: Result<Vec<(Digest, Bytes)>, Fault>,
    },
    /// A module's artifact is there, or never will be.
    Admitted {
        /// Which.
        module: Digest,
        /// Whether it may run.
        ready: bool,
    },
    /// An operator takes a module out of service (with the reason) or puts it back; as with a [`WorkerOrder`].
    ModuleQuarantine(Digest, Option<String>, Stored),
    /// An operator's order; answers whether there is such a worker.
    Order(WorkerId, WorkerOrder, oneshot::Sender<bool>),
    /// Stop a run; answered when it is final, with `None` if it is not open.
    Cancel(WorkspaceId, RunId, oneshot::Sender<Option<FinalReceiver>>),
    /// An open run, or one in the memory ring, as it is now.
    See(WorkspaceId, RunId, oneshot::Sender<Option<Arc<RunDetail>>>),
    /// A small output file of a final in the memory ring.
    Output(WorkspaceId, RunId, Digest, oneshot::Sender<Option<Bytes>>),
    /// Whether a worker was asked for a blob: then how long that may be, in bytes.
    Asked(WorkerId, Digest, oneshot::Sender<Option<u64>>),
    /// Open runs as they are now, those of the list that are open.
    SeeMany(Vec<RunId>, oneshot::Sender<HashMap<RunId, RunView>>),
    /// Answer when the run's insertion is durable (at once if it is), or with its refusal.
    Acknowledge(WorkspaceId, RunId, oneshot::Sender<Result<Arc<RunDetail>, ServiceError>>),
    /// Wait for an open run's final; `None` if it is not open.
    Await(WorkspaceId, RunId, oneshot::Sender<Option<FinalReceiver>>),
    /// Watch an open run; `None` if it is not open.
    Watch(WorkspaceId, RunId, oneshot::Sender<Option<Watch>>),
    /// The workers as they are now.
    Workers(oneshot::Sender<Vec<(WorkerRow, WorkerView)>>),
    /// The pool's figures.
    Stats(oneshot::Sender<Stats>),
    /// The pool at a glance, as this workspace sees it.
    Glance(WorkspaceId, oneshot::Sender<Glance>),
    /// The figures of the last so many minutes, and since when they are complete.
    Series(WorkspaceId, u64, oneshot::Sender<(Time, Vec<(Time, Tally)>)>),
    /// One worker with the attempts that it holds; `None` if it is not there.
    Worker(WorkerId, oneshot::Sender<Option<WorkerNow>>),
    /// Have a final verified anew; the repairer hears what comes of it.
    VerifyAnew(Box<Anew>),
    /// Runs that had been answered with the result of one that was corrected are corrected along, and that is stored.
    Followed(Vec<StoredRun>),
    /// Runs that ended before this process began to count, complete from the instant on.
    Restored(Vec<RecentFinal>, Time),
}

/// The start of a watch.
pub struct Watch {
    /// The run now, then the output that is known.
    pub now: Vec<RunEvent>,
    /// What comes.
    pub next: broadcast::Receiver<RunEvent>,
}
