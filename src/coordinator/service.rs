//! Stub bodies: this file is replaced by the real one.
#![allow(missing_docs, unused_variables, clippy::unused_async, reason = "replaced at the merge")]

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use crate::coordinator::metrics::Metrics;
use crate::core::{Stats, WorkerView};
use crate::digest::Digest;
use crate::id::{RunId, WorkerId, WorkspaceId};
use crate::spec::{Policy, RunSpec};

pub use crate::store::{ModuleState, RunFilter, StoredModule, StoredRun, TokenRow, Usage, WorkerRow};

/// Who calls: made by the authentication layer from the token's row.
#[derive(Clone, Debug)]
pub struct Caller {
    pub token: u32,
    pub workspace: WorkspaceId,
    pub scopes: Vec<String>,
}

/// A validated submission.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub spec: Arc<RunSpec>,
    pub run_key: Digest,
    pub policy: Policy,
    /// Inputs that came in the request (stdin text/base64, file text/base64), by digest.
    pub blobs: Vec<(Digest, Bytes)>,
    /// Idempotency-Key and digest of the canonical request body.
    pub idempotency: Option<(String, Digest)>,
    pub rerun_of: Option<RunId>,
    /// Watch output as it comes.
    pub live: bool,
}

/// A run as it is shown.
#[derive(Clone, Debug)]
pub struct RunDetail {
    pub run: StoredRun,
    pub stdout: Option<Bytes>,
    pub stderr: Option<Bytes>,
}

pub enum SubmitAnswer {
    Accepted(Box<RunDetail>),
    Existing(Box<RunDetail>),
}

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("no {what} {id}")]
    NotFound { what: &'static str, id: String },
    #[error("missing blob")]
    MissingBlob(Digest),
    #[error("missing module")]
    ModuleNotThere(Digest),
    #[error("refused")]
    ModuleRefused { code: String, text: String },
    #[error("quarantined")]
    ModuleQuarantined(String),
    #[error("in use")]
    ModuleInUse,
    #[error("bad entry")]
    BadEntry(String),
    #[error("queue full")]
    QueueFull { queued: usize },
    #[error("too few")]
    TooFewWorkers { wanted: u8, there: usize },
    #[error("idempotency")]
    IdempotencyMismatch,
    #[error("mismatch")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("too large")]
    TooLarge { max: u64 },
    #[error("broken")]
    BodyBroken(String),
    #[error("refused")]
    Refused { code: String, text: String },
    #[error("disk full")]
    DiskFull,
    #[error("shutting down")]
    ShuttingDown,
    #[error("internal")]
    Internal(String),
}

#[derive(Debug)]
pub enum RunEvent {
    Changed(Box<RunDetail>),
    Live { attempt: u32, is_stderr: bool, offset: u64, bytes: Bytes },
}

#[derive(Debug)]
pub enum PoolEvent {
    Run(RunId),
    Worker(WorkerId),
    Module(Digest),
    Lagged,
}

pub struct Service {
    metrics: Metrics,
}

fn stub<T>() -> Result<T, ServiceError> {
    Err(ServiceError::Internal("stub".into()))
}

impl Service {
    pub async fn submit(
        &self,
        caller: &Caller,
        prepared: Prepared,
        wait: Option<Duration>,
    ) -> Result<SubmitAnswer, ServiceError> {
        stub()
    }
    pub async fn run(&self, caller: &Caller, id: RunId) -> Result<RunDetail, ServiceError> {
        stub()
    }
    pub async fn wait_run(
        &self,
        caller: &Caller,
        id: RunId,
        wait: Duration,
    ) -> Result<RunDetail, ServiceError> {
        stub()
    }
    pub async fn runs(
        &self,
        caller: &Caller,
        filter: RunFilter,
        cursor: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunDetail>, ServiceError> {
        stub()
    }
    pub async fn cancel(&self, caller: &Caller, id: RunId) -> Result<RunDetail, ServiceError> {
        stub()
    }
    pub async fn rerun(
        &self,
        caller: &Caller,
        id: RunId,
        wait: Option<Duration>,
    ) -> Result<SubmitAnswer, ServiceError> {
        stub()
    }
    pub async fn watch_run(
        &self,
        caller: &Caller,
        id: RunId,
    ) -> Result<impl Stream<Item = RunEvent> + Send + 'static, ServiceError> {
        Ok(futures_util::stream::empty())
    }
    pub fn watch_all(&self, caller: &Caller) -> impl Stream<Item = PoolEvent> + Send + 'static {
        futures_util::stream::empty()
    }
    pub async fn upload_module(
        &self,
        caller: &Caller,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin,
        expected: Option<Digest>,
        name: Option<String>,
        wait: Duration,
    ) -> Result<(StoredModule, bool), ServiceError> {
        stub()
    }
    pub async fn module(&self, caller: &Caller, digest: Digest) -> Result<StoredModule, ServiceError> {
        stub()
    }
    pub async fn modules(
        &self,
        caller: &Caller,
        cursor: Option<Digest>,
        limit: u32,
    ) -> Result<Vec<StoredModule>, ServiceError> {
        stub()
    }
    pub async fn delete_module(&self, caller: &Caller, digest: Digest) -> Result<(), ServiceError> {
        stub()
    }
    pub async fn quarantine_module(
        &self,
        caller: &Caller,
        digest: Digest,
        why: String,
    ) -> Result<StoredModule, ServiceError> {
        stub()
    }
    pub async fn readmit_module(
        &self,
        caller: &Caller,
        digest: Digest,
    ) -> Result<StoredModule, ServiceError> {
        stub()
    }
    pub async fn put_blob(
        &self,
        caller: &Caller,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin,
        expected: Option<Digest>,
    ) -> Result<(Digest, u64, bool), ServiceError> {
        stub()
    }
    pub async fn blob_size(&self, caller: &Caller, digest: Digest) -> Result<u64, ServiceError> {
        stub()
    }
    pub async fn read_blob(
        &self,
        caller: &Caller,
        digest: Digest,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, ServiceError>> + Send + 'static, ServiceError> {
        Ok(futures_util::stream::empty())
    }
    pub async fn blob_bytes(&self, digest: Digest, max: u64) -> Result<Bytes, ServiceError> {
        stub()
    }
    pub async fn workers(&self, caller: &Caller) -> Result<Vec<(WorkerRow, WorkerView)>, ServiceError> {
        stub()
    }
    pub async fn drain_worker(&self, caller: &Caller, id: WorkerId) -> Result<(), ServiceError> {
        stub()
    }
    pub async fn quarantine_worker(
        &self,
        caller: &Caller,
        id: WorkerId,
        why: String,
    ) -> Result<(), ServiceError> {
        stub()
    }
    pub async fn readmit_worker(&self, caller: &Caller, id: WorkerId) -> Result<(), ServiceError> {
        stub()
    }
    pub async fn authenticate(&self, token: &str) -> Result<Option<Caller>, ServiceError> {
        Ok(None)
    }
    pub async fn tokens(&self, caller: &Caller) -> Result<Vec<TokenRow>, ServiceError> {
        stub()
    }
    /// The secret and the row.
    pub async fn create_token(
        &self,
        caller: &Caller,
        name: String,
        scopes: Vec<String>,
        expires_at: Option<crate::core::Time>,
    ) -> Result<(String, TokenRow), ServiceError> {
        stub()
    }
    pub async fn delete_token(&self, caller: &Caller, id: u32) -> Result<(), ServiceError> {
        stub()
    }
    pub async fn stats(&self) -> Result<(Stats, Usage), ServiceError> {
        stub()
    }
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    pub fn is_ready(&self) -> bool {
        true
    }
}
