//! Use cases of runs: submit, read, wait, cancel, rerun, watch.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use tokio_stream::wrappers::BroadcastStream;

use super::{Caller, Prepared, RunDetail, RunEvent, Service, ServiceError, SubmitAnswer};
use crate::coordinator::owner::{Command, Submit};
use crate::digest::Digest;
use crate::id::RunId;
use crate::result::RunState;
use crate::store::{INLINE_BLOB_BYTES_MAX, NewRun, RunFilter, StoredRun};

/// Pages that one list reads at most while it looks for runs in a state that only the pool knows.
const PAGES_MAX: usize = 50;

impl Service {
    /// Submits a run. Without `wait` it answers when the run is acknowledged, with it when the run is final or the
    /// wait is over.
    pub async fn submit(
        &self,
        caller: &Caller,
        prepared: Prepared,
        wait: Option<Duration>,
    ) -> Result<SubmitAnswer, ServiceError> {
        if !self.is_ready() {
            return Err(ServiceError::ShuttingDown);
        }
        if let Some((key, payload)) = &prepared.idempotency
            && let Some((run, known)) = self.parts.store.idempotency(caller.workspace, key).await?
        {
            return self.existing(caller, run, known == *payload, wait).await;
        }
        let module_ready = self.check_module(&prepared).await?;
        self.check_inputs(&prepared).await?;
        let id = RunId(uuid::Uuid::now_v7().as_u128());
        let new = NewRun {
            id,
            workspace: caller.workspace,
            epoch: self.parts.epoch,
            spec: prepared.spec,
            run_key: prepared.run_key,
            policy: prepared.policy,
            created_at: self.now(),
            idempotency: prepared.idempotency,
            rerun_of: prepared.rerun_of,
            blobs: prepared.blobs,
        };
        let live = prepared.live;
        let answer = self.ask_owner_to_submit(caller, new, module_ready, live, wait).await;
        match answer {
            Ok(detail) => Ok(SubmitAnswer::Accepted(detail)),
            Err(ServiceError::Duplicate { run, same_payload }) => {
                self.existing(caller, run, same_payload, wait).await
            }
            Err(error) => Err(error),
        }
    }

    async fn ask_owner_to_submit(
        &self,
        caller: &Caller,
        new: NewRun,
        module_ready: bool,
        live: bool,
        wait: Option<Duration>,
    ) -> Result<Arc<RunDetail>, ServiceError> {
        let id = new.id;
        let (reply, answer) = tokio::sync::oneshot::channel();
        let submit = Submit { new: Box::new(new), module_ready, live, wait: wait.is_some(), reply };
        self.parts.commands.send(Command::Submit(submit)).map_err(|_| ServiceError::ShuttingDown)?;
        let Some(wait) = wait else {
            return answer.await.map_err(|_| ServiceError::ShuttingDown)?;
        };
        if let Ok(answer) = tokio::time::timeout(wait, answer).await {
            return answer.map_err(|_| ServiceError::ShuttingDown)?;
        }
        // not final within the wait: then the acknowledgement is the answer, and it must be durable
        match self.ask(|reply| Command::Acknowledge(caller.workspace, id, reply)).await? {
            Err(ServiceError::TakenOver) => self.run(caller, id).await,
            answer => answer,
        }
    }

    /// The run that an idempotency key made before.
    async fn existing(
        &self,
        caller: &Caller,
        run: RunId,
        same_payload: bool,
        wait: Option<Duration>,
    ) -> Result<SubmitAnswer, ServiceError> {
        let (mut run, mut same_payload) = (run, same_payload);
        loop {
            if !same_payload {
                return Err(ServiceError::Duplicate { run, same_payload });
            }
            // acknowledged first: a run that is still being inserted may yet be refused, for one that came before it
            match self.ask(|reply| Command::Acknowledge(caller.workspace, run, reply)).await? {
                Err(ServiceError::Duplicate { run: earlier, same_payload: same }) if earlier != run => {
                    (run, same_payload) = (earlier, same);
                }
                Ok(_) | Err(ServiceError::TakenOver) => break,
                Err(error) => return Err(error),
            }
        }
        let detail = match wait {
            Some(wait) => self.wait_run(caller, run, wait).await?,
            None => self.run(caller, run).await?,
        };
        Ok(SubmitAnswer::Existing(detail))
    }

    /// Pins every input, or says which is missing.
    async fn check_inputs(&self, prepared: &Prepared) -> Result<(), ServiceError> {
        let came: BTreeSet<Digest> = prepared.blobs.iter().map(|(digest, _)| *digest).collect();
        let until = self.pin();
        for digest in prepared.spec.inputs().skip(1).filter(|digest| !came.contains(digest)) {
            if self.parts.store.pin_blob(digest, until).await?.is_none() {
                return Err(ServiceError::MissingBlob(digest));
            }
        }
        Ok(())
    }

    /// A run as it is now.
    pub async fn run(&self, caller: &Caller, id: RunId) -> Result<Arc<RunDetail>, ServiceError> {
        if let Some(detail) = self.ask(|reply| Command::See(caller.workspace, id, reply)).await? {
            return Ok(detail);
        }
        let stored = self.parts.store.run(id).await?.filter(|run| run.workspace == caller.workspace);
        let Some(run) = stored else { return Err(no_run(id)) };
        let (mut stdout, mut stderr) = (None, None);
        if let Some(manifest) = &run.manifest {
            stdout = self.small(manifest.stdout.digest, manifest.stdout.size).await?;
            stderr = self.small(manifest.stderr.digest, manifest.stderr.size).await?;
        }
        Ok(Arc::new(RunDetail { run, stdout, stderr }))
    }

    /// A blob's bytes, if it is small enough to be shown along.
    async fn small(&self, digest: Digest, size: u64) -> Result<Option<bytes::Bytes>, ServiceError> {
        if size > INLINE_BLOB_BYTES_MAX as u64 {
            return Ok(None);
        }
        self.blob_bytes(digest, size).await.map(Some)
    }

    /// Waits until a run is final or `wait` is over.
    pub async fn wait_run(
        &self,
        caller: &Caller,
        id: RunId,
        wait: Duration,
    ) -> Result<Arc<RunDetail>, ServiceError> {
        let waiting = self.ask(|reply| Command::Await(caller.workspace, id, reply)).await?;
        let Some(waiting) = waiting else { return self.run(caller, id).await };
        match tokio::time::timeout(wait, waiting).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ServiceError::ShuttingDown),
            Err(_) => self.run(caller, id).await,
        }
    }

    /// Runs, newest first.
    pub async fn runs(
        &self,
        caller: &Caller,
        filter: RunFilter,
        cursor: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<RunDetail>, ServiceError> {
        let wanted = filter.state;
        // the store knows open runs only as queued: which of them run is the pool's to say
        let open_only = matches!(wanted, Some(RunState::Queued | RunState::Running));
        let state = if open_only { Some(RunState::Queued) } else { wanted };
        let filter = RunFilter { workspace: Some(caller.workspace), state, ..filter };
        let mut found = Vec::new();
        let mut cursor = cursor;
        for _ in 0..PAGES_MAX {
            let page = self.page(filter.clone(), cursor, limit).await?;
            let is_last = page.len() < limit as usize;
            cursor = page.last().map(|run| run.id).or(cursor);
            found.extend(page.into_iter().filter(|run| !open_only || Some(run.state) == wanted));
            if is_last || found.len() >= limit as usize {
                break;
            }
        }
        found.truncate(limit as usize);
        Ok(found.into_iter().map(|run| RunDetail { run, stdout: None, stderr: None }).collect())
    }

    /// One page of the store, its open runs as the pool sees them now.
    async fn page(
        &self,
        filter: RunFilter,
        cursor: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<StoredRun>, ServiceError> {
        let mut runs = self.parts.store.runs(filter, cursor, limit).await?;
        let open: Vec<RunId> = runs.iter().filter(|run| !run.state.is_final()).map(|run| run.id).collect();
        if !open.is_empty() {
            let mut views = self.ask(|reply| Command::SeeMany(open, reply)).await?;
            for run in &mut runs {
                if let Some(view) = views.remove(&run.id) {
                    run.state = view.state;
                    run.verdict = view.verdict;
                    run.attempts = view.attempts;
                    run.explain = view.explain;
                }
            }
        }
        Ok(runs)
    }

    /// Cancels a run, unless it is final: then it answers as it is (I8).
    pub async fn cancel(&self, caller: &Caller, id: RunId) -> Result<Arc<RunDetail>, ServiceError> {
        let waiting = self.ask(|reply| Command::Cancel(caller.workspace, id, reply)).await?;
        match waiting {
            Some(waiting) => waiting.await.map_err(|_| ServiceError::ShuttingDown)?,
            None => self.run(caller, id).await,
        }
    }

    /// Submits a new run with the spec and the policy of another. Not of one that was not durable: its inline inputs are
    /// gone, and it would have to be waited for.
    pub async fn rerun(
        &self,
        caller: &Caller,
        id: RunId,
        wait: Option<Duration>,
    ) -> Result<SubmitAnswer, ServiceError> {
        let StoredRun { spec, run_key, policy, .. } = self.run(caller, id).await?.run.clone();
        if !policy.durable {
            return Err(ServiceError::NotKept(id));
        }
        let prepared = Prepared {
            spec,
            run_key,
            policy,
            blobs: Vec::new(),
            idempotency: None,
            rerun_of: Some(id),
            live: false,
        };
        self.submit(caller, prepared, wait).await
    }

    /// Changes and live output of one run; the last event is its final.
    pub async fn watch_run(
        &self,
        caller: &Caller,
        id: RunId,
    ) -> Result<impl Stream<Item = RunEvent> + Send + 'static, ServiceError> {
        let watch = self.ask(|reply| Command::Watch(caller.workspace, id, reply)).await?;
        let Some(watch) = watch else {
            let last = self.run(caller, id).await?;
            return Ok(stream::iter([RunEvent::Changed(last)]).boxed());
        };
        let service = self.clone();
        let caller = caller.clone();
        let next = BroadcastStream::new(watch.next).filter_map(move |event| {
            let (service, caller) = (service.clone(), caller.clone());
            async move {
                match event {
                    Ok(event) => Some(event),
                    // what was missed is made good by the present view; live output has a gap, as its offsets tell
                    Err(_) => service.run(&caller, id).await.ok().map(RunEvent::Changed),
                }
            }
        });
        let all = stream::iter(watch.now).chain(next);
        Ok(all.take_until(self.parts.stopping.clone().cancelled_owned()).boxed())
    }
}

fn no_run(id: RunId) -> ServiceError {
    ServiceError::NotFound { what: "run", id: id.to_string() }
}
