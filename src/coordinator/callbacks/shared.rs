//! What the deliverer of callbacks shares with the service and the owner: where they may go, what signs them, how many wait.
//!
//! How many wait is known as of the last look at the outbox, and bounds what is taken in, not what open runs may still add.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use super::CallbackConfig;
use super::address::{self, Rules};
use super::sign::{Secret, Secrets};
use crate::coordinator::CoordinatorError;
use crate::core::Time;
use crate::id::WorkspaceId;
use crate::store::{Store, StoreError, receiver};

/// Where the secrets are in the store.
const SECRETS: &str = "callback_secrets";
/// Deliveries that are pending at most: beyond it no run with a callback is accepted. Runs that are open then may still pass
/// it.
const PENDING_MAX: u64 = 100_000;
/// The same of one workspace, of which corrections leave half to callers …
pub const PENDING_PER_WORKSPACE_MAX: u64 = 50_000;
/// … and of it to one receiver: one that is down keeps no run from being told to others.
pub(super) const PENDING_PER_RECEIVER_MAX: u64 = 25_000;
/// What the deliverer shares with the service and the owner.
#[derive(Debug)]
pub struct Callbacks {
    pub(super) rules: Arc<Rules>,
    secrets: RwLock<Secrets>,
    /// Held while they change.
    rotating: tokio::sync::Mutex<()>,
    pending: RwLock<Pending>,
    /// Says that a delivery was made.
    pub wake: Arc<Notify>,
}

/// What was pending when it was last looked.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub of_workspaces: BTreeMap<WorkspaceId, u64>,
    pub full: BTreeSet<(WorkspaceId, String)>,
}

/// Why no further callback is taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany {
    /// Deliveries that are pending.
    pub pending: u64,
    /// Whose, for people.
    pub of: &'static str,
}

impl Callbacks {
    /// Reads the secrets, or makes the first one.
    pub async fn open(
        config: &CallbackConfig,
        store: &dyn Store,
        now: Time,
    ) -> Result<Callbacks, CoordinatorError> {
        let first = Secret::random()
            .map_err(|error| CoordinatorError::Callbacks(format!("no randomness: {error}")))?;
        let stored = store.init_meta(SECRETS, Secrets::first(first, now).encode()).await?;
        let secrets = Secrets::decode(&stored).ok_or_else(|| StoreError::Decode {
            what: "secret of callbacks",
            why: "it is not of this build's form".to_owned(),
        })?;
        Ok(Callbacks {
            rules: Arc::new(Rules::new(config.allow.clone())),
            secrets: RwLock::new(secrets),
            rotating: tokio::sync::Mutex::default(),
            pending: RwLock::default(),
            wake: Arc::default(),
        })
    }

    /// Whether a callback may be asked for, as far as that is known before its name is resolved.
    ///
    /// # Errors
    ///
    /// Why not, for people.
    pub fn judge(&self, url: &str) -> Result<(), String> {
        let url = address::parse(url)?;
        self.rules.judge_url(&url).map_err(|refused| refused.to_string())
    }

    /// Deliveries that were pending when it was last looked.
    pub fn pending(&self) -> u64 {
        self.pending.read().unwrap_or_else(PoisonError::into_inner).of_workspaces.values().sum()
    }

    /// Whether there is room for one more of a workspace to a URL, as far as was known at the last look.
    ///
    /// # Errors
    ///
    /// What is full.
    pub fn has_room(&self, workspace: WorkspaceId, url: &str) -> Result<(), TooMany> {
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        let of_pool = pending.of_workspaces.values().sum();
        let of_workspace = pending.of_workspaces.get(&workspace).copied().unwrap_or(0);
        let to = (workspace, receiver(url).to_owned());
        if of_pool >= PENDING_MAX {
            Err(TooMany { pending: of_pool, of: "the pool" })
        } else if of_workspace >= PENDING_PER_WORKSPACE_MAX {
            Err(TooMany { pending: of_workspace, of: "this workspace" })
        } else if pending.full.contains(&to) {
            Err(TooMany { pending: PENDING_PER_RECEIVER_MAX, of: "this receiver" })
        } else {
            Ok(())
        }
    }

    /// Notes what a look at the outbox found.
    pub(super) fn note(&self, pending: Pending) {
        *self.pending.write().unwrap_or_else(PoisonError::into_inner) = pending;
    }

    /// What is signed with.
    pub fn secrets(&self) -> Secrets {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signs with a new secret from now on, unless the request of this `key` has seen to that already. Two that rotate at once
    /// do so one after the other.
    pub async fn rotate(
        &self,
        store: &dyn Store,
        new: Secret,
        now: Time,
        key: Option<String>,
    ) -> Result<Secrets, StoreError> {
        let _alone = self.rotating.lock().await;
        let before = self.secrets();
        if key.as_ref().is_some_and(|key| before.was_rotated_by(key)) {
            return Ok(before);
        }
        let rotated = before.rotated(new, now, key);
        store.put_meta(SECRETS, rotated.encode()).await?;
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = rotated.clone();
        Ok(rotated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Networks;

    const START: Time = Time(1);

    #[test]
    fn a_full_receiver_or_workspace_keeps_out_only_its_own() {
        let callbacks = Callbacks {
            rules: Arc::new(Rules::new(Networks::default())),
            secrets: RwLock::new(Secrets::first(Secret::random().unwrap(), START)),
            rotating: tokio::sync::Mutex::default(),
            pending: RwLock::default(),
            wake: Arc::default(),
        };
        let (one, other) = (WorkspaceId(0), WorkspaceId(1));
        let (down, up) = ("https://down.example/x", "https://up.example/x");
        let of = |workspace, url| callbacks.has_room(workspace, url).map_err(|full| full.of);
        assert_eq!(of(one, down), Ok(()));
        let full = BTreeSet::from([(one, "down.example".to_owned())]);
        let some = BTreeMap::from([(one, PENDING_PER_RECEIVER_MAX)]);
        callbacks.note(Pending { of_workspaces: some, full: full.clone() });
        assert_eq!((of(one, down), of(one, up), of(other, down)), (Err("this receiver"), Ok(()), Ok(())));
        let some = BTreeMap::from([(one, PENDING_PER_WORKSPACE_MAX)]);
        callbacks.note(Pending { of_workspaces: some, full });
        assert_eq!((of(one, up), of(other, up)), (Err("this workspace"), Ok(())));
        let some = BTreeMap::from([(one, 1), (other, PENDING_MAX)]);
        callbacks.note(Pending { of_workspaces: some, full: BTreeSet::new() });
        assert_eq!((of(one, up), callbacks.pending()), (Err("the pool"), PENDING_MAX + 1));
    }
}
