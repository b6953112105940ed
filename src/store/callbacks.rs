//! The outbox: what is to be told to others, and how that went. Plain data, the same for every backend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::Time;
use crate::id::{RunId, WorkspaceId};

/// Which delivery: there is one for each revision of a run that has a callback.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallbackId {
    /// Of which run.
    pub run: RunId,
    /// Of which revision, from 1.
    pub revision: u32,
}

/// Where a delivery stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryState {
    /// It is tried until it succeeds or is given up.
    Pending,
    /// The receiver took it.
    Delivered,
    /// It was tried for long enough.
    GivenUp,
}

/// A delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Which.
    pub id: CallbackId,
    /// Where to.
    pub url: Arc<str>,
    /// Host and port of the URL.
    pub receiver: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// When its revision became final.
    pub created_at: Time,
    /// From when its tries and their time count: when it was made, or asked for again.
    pub since: Time,
    /// Tries since then that have ended.
    pub tries: u32,
    /// When the last try ended.
    pub last_at: Option<Time>,
    /// The HTTP status that it was answered with, if it was.
    pub last_status: Option<u16>,
    /// Why it failed, if it did.
    pub last_error: Option<String>,
    /// When it is tried again; only while it is pending.
    pub next_at: Option<Time>,
}

/// How a try ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tried {
    /// When.
    pub at: Time,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// Why it failed; `None` if it did not.
    pub error: Option<String>,
    /// When it is tried again; `None` never.
    pub next_at: Option<Time>,
}

/// Deliveries that are left out of what is due.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SkippedCallbacks {
    /// These.
    pub ids: Vec<CallbackId>,
    /// All to receivers that are not among these.
    pub receivers: Receivers,
}

/// Some receivers, see [`Delivery::receiver`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Receivers {
    /// All but these.
    AllBut(Vec<String>),
    /// These.
    Only(Vec<String>),
}

impl Default for Receivers {
    fn default() -> Receivers {
        Receivers::AllBut(Vec::new())
    }
}

/// How far a look at the outbox goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutboxLimits {
    /// Deliveries that are wanted.
    pub due: u32,
    /// Of them, to one receiver.
    pub per_receiver: u32,
    /// A receiver of a workspace that has so many pending is named in [`DueCallbacks::full`].
    pub full: u64,
}

/// What there is to do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DueCallbacks {
    /// Due now.
    pub due: Vec<Delivery>,
    /// When the next one is due of those that are not.
    pub next_at: Option<Time>,
    /// Deliveries that are pending, by workspace, due or not, the skipped ones included.
    pub pending: BTreeMap<WorkspaceId, u64>,
    /// Receivers that have too many pending.
    pub full: BTreeSet<(WorkspaceId, String)>,
}

/// The receiver that a URL names: host and port, what stands between `//` and the next `/`, `?` or `#`. URLs are checked where
/// runs are submitted.
pub fn receiver(url: &str) -> &str {
    let rest = url.split_once("//").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}
