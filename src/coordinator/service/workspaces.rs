//! What a workspace has settled for all of its runs. There is one workspace so far, `default`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Caller, Service, ServiceError, WorkspaceSettings};
use crate::id::WorkspaceId;
use crate::spec::Verify;

/// What was read of the store, so that a submission need not. Emptied when somebody settles something else.
#[derive(Default)]
pub struct WorkspaceCache {
    settled: Mutex<HashMap<WorkspaceId, WorkspaceSettings>>,
    /// Held by whoever settles something, so that what is remembered last was written last.
    settling: tokio::sync::Mutex<()>,
}

/// A workspace's name; only the default one has a name of its own so far.
pub fn name_of_workspace(id: WorkspaceId) -> String {
    match id {
        WorkspaceId(0) => "default".to_owned(),
        WorkspaceId(number) => number.to_string(),
    }
}

impl Service {
    /// What the caller's workspace has settled. Others are not there, as far as a caller can tell.
    pub async fn workspace(&self, caller: &Caller, name: &str) -> Result<WorkspaceSettings, ServiceError> {
        if name != name_of_workspace(caller.workspace) {
            return Err(ServiceError::NotFound { what: "workspace", id: name.to_owned() });
        }
        self.settings_of(caller.workspace).await
    }

    /// Settles something else.
    pub async fn put_workspace(
        &self,
        caller: &Caller,
        name: &str,
        settings: WorkspaceSettings,
    ) -> Result<WorkspaceSettings, ServiceError> {
        self.workspace(caller, name).await?;
        let _settling = self.parts.workspaces.settling.lock().await;
        self.parts.store.put_workspace(caller.workspace, settings).await?;
        self.settled().insert(caller.workspace, settings);
        Ok(settings)
    }

    async fn settings_of(&self, workspace: WorkspaceId) -> Result<WorkspaceSettings, ServiceError> {
        let known = self.settled().get(&workspace).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let stored = self.parts.store.workspace(workspace).await?;
        // somebody may have settled something else meanwhile
        Ok(*self.settled().entry(workspace).or_insert(stored))
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, HashMap<WorkspaceId, WorkspaceSettings>> {
        self.parts.workspaces.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a run is verified that does not say, and whose word that is: its module's, its workspace's, or the pool's.
    pub(super) async fn default_verify(
        &self,
        workspace: WorkspaceId,
        of_module: Option<Verify>,
    ) -> Result<(Verify, String), ServiceError> {
        if let Some(verify) = of_module {
            return Ok((verify, "the default of its module".to_owned()));
        }
        let settings = self.settings_of(workspace).await?;
        Ok(match settings.verify {
            Some(verify) => {
                (verify, format!("the default of the workspace `{}`", name_of_workspace(workspace)))
            }
            None => (self.parts.facts.verify_default, "the default of this pool".to_owned()),
        })
    }
}
