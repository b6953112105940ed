//! Use cases of callbacks: who may have one, what is told, how it went, what it is signed with.

use super::runs::no_run;
use super::{Caller, Delivery, RunDetail, Service, ServiceError};
use crate::coordinator::callbacks::{Secret, Secrets, TooMany};
use crate::id::RunId;
use crate::spec::Policy;

impl Service {
    /// Whether a run with this policy may be told of.
    pub(super) fn check_callback(&self, caller: &Caller, policy: &Policy) -> Result<(), ServiceError> {
        let Some(callback) = &policy.callback else { return Ok(()) };
        self.parts.callbacks.judge(&callback.url).map_err(ServiceError::CallbackRefused)?;
        self.check_room(caller, &callback.url)
    }

    fn check_room(&self, caller: &Caller, url: &str) -> Result<(), ServiceError> {
        let full = |TooMany { pending, of }| ServiceError::CallbacksFull { pending, of };
        self.parts.callbacks.has_room(caller.workspace, url).map_err(full)
    }

    /// A run as its receiver is to see it: whoever submitted it named the receiver.
    pub async fn run_of_callback(&self, id: RunId) -> Result<RunDetail, ServiceError> {
        let run = self.parts.store.run(id).await?.ok_or_else(|| no_run(id))?;
        self.with_outputs(run).await
    }

    /// The deliveries of a run, by revision; none of a run without a callback, or one that is not final.
    pub async fn callbacks_of(&self, caller: &Caller, run: RunId) -> Result<Vec<Delivery>, ServiceError> {
        self.run(caller, run).await?;
        Ok(self.parts.store.callbacks(run).await?)
    }

    /// Delivers a revision once more, the newest if none is named, however that went before.
    pub async fn redeliver(
        &self,
        caller: &Caller,
        run: RunId,
        revision: Option<u32>,
    ) -> Result<Vec<Delivery>, ServiceError> {
        let detail = self.run(caller, run).await?;
        if let Some(callback) = &detail.run.policy.callback {
            self.check_room(caller, &callback.url)?;
        }
        if !self.parts.store.redeliver_callback(run, revision, self.now()).await? {
            let id = revision.map_or_else(|| run.to_string(), |revision| format!("{run}_{revision}"));
            return Err(ServiceError::NotFound { what: "delivery of a callback", id });
        }
        self.parts.callbacks.wake.notify_one();
        Ok(self.parts.store.callbacks(run).await?)
    }

    /// What callbacks are signed with.
    pub fn callback_secrets(&self, _caller: &Caller) -> Secrets {
        self.parts.callbacks.secrets()
    }

    /// Signs with a new secret from now on, and with the one before for a day more. A request that comes again under the same
    /// `key` is answered with the secret that there is.
    pub async fn rotate_callback_secret(
        &self,
        _caller: &Caller,
        key: Option<String>,
    ) -> Result<Secrets, ServiceError> {
        let failed = |error| ServiceError::Internal(format!("no randomness: {error}"));
        let new = Secret::random().map_err(failed)?;
        Ok(self.parts.callbacks.rotate(self.parts.store.as_ref(), new, self.now(), key).await?)
    }
}
