//! Use cases of runs: submit, read, list, wait, cancel, rerun.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Caller, Prepared, RunDetail, RunsFound, Service, ServiceError, SubmitAnswer};
use crate::coordinator::owner::{Command, FinalReceiver, Submit};
use crate::core::Time;
use crate::digest::Digest;
use crate::id::RunId;
use crate::spec::{CacheUse, Policy};
use crate::store::{FoundRuns, INLINE_BLOB_BYTES_MAX, NewRun, RunFilter, StoredRun};

/// Pages that one list reads at most while it looks for runs in a state that only the pool knows.
const PAGES_MAX: usize = 50;

/// Bytes of inputs that came in one request and stay in memory.
const INLINE_RUN_BYTES_MAX: usize = 64 << 10;
/// The unit in which [`Parts::inline_room`](super::Parts) is counted, in bytes.
pub const INLINE_SHARE_BYTES: usize = 1_024;
/// The same for all runs that are not final, in units: 256 MiB.
pub const INLINE_SHARES_MAX: usize = 256 << 10;
/// Inputs of one request that are stored at a time, so that they share commits.
const STORED_AT_ONCE: usize = 16;

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
        self.check_callback(caller, &prepared.policy)?;
        let (module_ready, of_module) = self.check_module(&prepared).await?;
        let mut policy = prepared.policy.clone();
        let mut why_verify = None;
        if prepared.has_default_verify {
            let (verify, whose) = self.default_verify(caller.workspace, of_module).await?;
            policy.verify = verify;
            why_verify = Some(format!("is verified by {verify}, {whose}"));
        }
        match self.answer_from_cache(caller, &prepared, &policy).await {
            Ok(None) => {}
            Ok(Some(answer)) => return Ok(answer),
            Err(ServiceError::Duplicate { run, same_payload }) => {
                return self.existing(caller, run, same_payload, wait).await;
            }
            Err(error) => return Err(error),
        }
        self.check_inputs(&prepared).await?;
        let (blobs, room) = self.keep_or_store(prepared.blobs).await?;
        let created_at = self.now();
        let id = new_id(created_at);
        let new = NewRun {
            id,
            workspace: caller.workspace,
            epoch: self.parts.epoch,
            spec: prepared.spec,
            run_key: prepared.run_key,
            policy,
            created_at,
            idempotency: prepared.idempotency,
            rerun_of: prepared.rerun_of,
            blobs,
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        let submit = Submit {
            new: Box::new(new),
            module_ready,
            live: prepared.live,
            wait: wait.is_some(),
            room,
            reply,
            why_verify,
        };
        self.parts.commands.send(Command::Submit(submit)).map_err(|_| ServiceError::ShuttingDown)?;
        let answer = self.answer_of_owner(caller, id, answer, wait).await;
        match answer {
            Ok(detail) => Ok(SubmitAnswer::Accepted(detail)),
            Err(ServiceError::Duplicate { run, same_payload }) => {
                self.existing(caller, run, same_payload, wait).await
            }
            Err(error) => Err(error),
        }
    }

    async fn answer_of_owner(
        &self,
        caller: &Caller,
        id: RunId,
        answer: FinalReceiver,
        wait: Option<Duration>,
    ) -> Result<Arc<RunDetail>, ServiceError> {
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

    /// Sees to it that every input is stored, or says which is missing. The insertion of a durable run looks again and
    /// takes the references in its own transaction; one that is kept in memory has only its pins.
    async fn check_inputs(&self, prepared: &Prepared) -> Result<(), ServiceError> {
        let came: BTreeSet<Digest> = prepared.blobs.iter().map(|(digest, _)| *digest).collect();
        let stored: Vec<Digest> =
            prepared.spec.inputs().skip(1).filter(|digest| !came.contains(digest)).collect();
        if stored.is_empty() {
            return Ok(());
        }
        let missing = match prepared.policy.durable {
            true => self.parts.store.missing_blob(stored).await?,
            false => self.parts.store.pin_blobs(stored, self.pin()).await?,
        };
        missing.map_or(Ok(()), |digest| Err(ServiceError::MissingBlob(digest)))
    }

    /// Inputs that came in the request stay in memory until the run is final, as far as there is room for them: of each
    /// run and of all together. The others are stored first.
    async fn keep_or_store(
        &self,
        blobs: Vec<(Digest, Bytes)>,
    ) -> Result<(Vec<(Digest, Bytes)>, Option<OwnedSemaphorePermit>), ServiceError> {
        let is_small = |(_, bytes): &(Digest, Bytes)| bytes.len() <= INLINE_BLOB_BYTES_MAX;
        let mut left = INLINE_RUN_BYTES_MAX;
        let (mut kept, mut stored): (Vec<_>, Vec<_>) = blobs.into_iter().partition(|blob| {
            let fits = is_small(blob) && blob.1.len() <= left;
            left -= if fits { blob.1.len() } else { 0 };
            fits
        });
        let bytes = INLINE_RUN_BYTES_MAX - left;
        let share = u32::try_from(bytes.div_ceil(INLINE_SHARE_BYTES)).unwrap_or(u32::MAX);
        let room = match share {
            0 => None,
            share => Arc::clone(&self.parts.inline_room).try_acquire_many_owned(share).ok(),
        };
        if room.is_none() {
            stored.append(&mut kept);
        }
        let pin = self.pin();
        stream::iter(stored)
            .map(|(_, bytes)| self.parts.blobs.put_bytes(bytes, pin))
            .buffer_unordered(STORED_AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok((kept, room))
    }

    /// A run as it is now.
    pub async fn run(&self, caller: &Caller, id: RunId) -> Result<Arc<RunDetail>, ServiceError> {
        if let Some(detail) = self.ask(|reply| Command::See(caller.workspace, id, reply)).await? {
            return Ok(detail);
        }
        let stored = self.parts.store.run(id).await?.filter(|run| run.workspace == caller.workspace);
        let Some(run) = stored else { return Err(no_run(id)) };
        self.with_outputs(run).await.map(Arc::new)
    }

    /// A run with what is shown along. Of one that has the result of another that is also what verifying that one anew said.
    pub(super) async fn with_outputs(&self, mut run: StoredRun) -> Result<RunDetail, ServiceError> {
        if let Some(source) = run.source
            && let Some(computed) = self.parts.store.run(source.run()).await?
            && computed.result == run.result
        {
            run.verification = computed.verification;
        }
        let (mut stdout, mut stderr) = (None, None);
        if let Some(manifest) = &run.manifest {
            stdout = self.small(manifest.stdout.digest, manifest.stdout.size).await?;
            stderr = self.small(manifest.stderr.digest, manifest.stderr.size).await?;
        }
        Ok(RunDetail { run, stdout, stderr })
    }

    /// An output of a run whose bytes need not be read from the blob store. Small ones of a run that is not written are
    /// nowhere else.
    pub async fn output_at_hand(
        &self,
        caller: &Caller,
        detail: &RunDetail,
        digest: Digest,
    ) -> Result<Option<Bytes>, ServiceError> {
        let Some(manifest) = &detail.run.manifest else { return Ok(None) };
        let shown = [(manifest.stdout.digest, &detail.stdout), (manifest.stderr.digest, &detail.stderr)];
        let known = shown.into_iter().find_map(|(other, bytes)| bytes.clone().filter(|_| other == digest));
        if known.is_some() || detail.run.policy.durable {
            return Ok(known);
        }
        self.ask(|reply| Command::Output(caller.workspace, detail.run.id, digest, reply)).await
    }

    /// A blob's bytes, if it is small enough to be shown along.
    pub(super) async fn small(&self, digest: Digest, size: u64) -> Result<Option<Bytes>, ServiceError> {
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

    /// Runs, newest first. Fewer than `limit` may come although there are more: then `next` says where to go on.
    pub async fn runs(
        &self,
        caller: &Caller,
        wanted: RunFilter,
        cursor: Option<RunId>,
        limit: u32,
    ) -> Result<RunsFound, ServiceError> {
        let filter = RunFilter { workspace: Some(caller.workspace), ..wanted };
        let mut found = RunsFound::default();
        let mut cursor = cursor;
        for _ in 0..PAGES_MAX {
            let page = self.page(filter.clone(), cursor, limit).await?;
            let was_full = page.runs.len() >= limit as usize;
            for run in page.runs.into_iter().filter(|run| passes(&filter, run)) {
                if found.runs.len() == limit as usize {
                    found.next = found.runs.last().map(|detail| detail.run.id);
                    return Ok(found);
                }
                found.runs.push(RunDetail { run, stdout: None, stderr: None });
            }
            found.next = page.next;
            // a page that is not full has used up what one request may look at
            if page.next.is_none() || !was_full || found.runs.len() == limit as usize {
                break;
            }
            cursor = page.next;
        }
        Ok(found)
    }

    /// One page of the store, its open runs as the pool sees them now.
    async fn page(
        &self,
        filter: RunFilter,
        cursor: Option<RunId>,
        limit: u32,
    ) -> Result<FoundRuns, ServiceError> {
        let mut found = self.parts.store.runs(filter, cursor, limit).await?;
        let runs = &mut found.runs;
        let open: Vec<RunId> = runs.iter().filter(|run| !run.state.is_final()).map(|run| run.id).collect();
        if !open.is_empty() {
            let mut views = self.ask(|reply| Command::SeeMany(open, reply)).await?;
            for run in runs {
                if let Some(view) = views.remove(&run.id) {
                    run.state = view.state;
                    run.verdict = view.verdict;
                    run.attempts = view.attempts;
                    run.explain = view.explain;
                }
            }
        }
        Ok(found)
    }

    /// Cancels a run, unless it is final: then it answers as it is (I8). It waits until `until` for the final to be
    /// written; then it answers with the run as it is, and the cancel goes on without the caller.
    pub async fn cancel(
        &self,
        caller: &Caller,
        id: RunId,
        until: Instant,
    ) -> Result<Arc<RunDetail>, ServiceError> {
        let waiting = self.ask(|reply| Command::Cancel(caller.workspace, id, reply)).await?;
        let Some(waiting) = waiting else { return self.run(caller, id).await };
        match tokio::time::timeout_at(until, waiting).await {
            Ok(answer) => answer.map_err(|_| ServiceError::ShuttingDown)?,
            Err(_) => self.run(caller, id).await,
        }
    }

    /// Submits a new run with the spec and the policy of another. Not of one that was not durable: its inline inputs are
    /// gone, and it would have to be waited for. It is executed anew, and its result replaces what is cached.
    pub async fn rerun(
        &self,
        caller: &Caller,
        id: RunId,
        wait: Option<Duration>,
    ) -> Result<SubmitAnswer, ServiceError> {
        let StoredRun { spec, run_key, policy, .. } = self.run(caller, id).await?.run.clone();
        if !policy.durable {
            return Err(ServiceError::NotKept(format!(
                "run {id} was submitted with `durable: false`, and nothing that it needs is kept: submit it anew"
            )));
        }
        let cache = match policy.cache {
            CacheUse::Use | CacheUse::Refresh => CacheUse::Refresh,
            CacheUse::Off => CacheUse::Off,
        };
        let prepared = Prepared {
            spec,
            run_key,
            policy: Policy { cache, ..policy },
            has_default_verify: false,
            blobs: Vec::new(),
            idempotency: None,
            must_be_written: false,
            rerun_of: Some(id),
            live: false,
        };
        self.submit(caller, prepared, wait).await
    }
}

/// Ids within a millisecond count up.
static IDS: Mutex<uuid::ContextV7> = Mutex::new(uuid::ContextV7::new());

/// The id of a run that is submitted now. Made of the coordinator's own time, which may differ from the machine's: lists
/// that are bounded in time rely on it.
pub(super) fn new_id(now: Time) -> RunId {
    let (seconds, micros) = (now.0 / 1_000_000, now.0 % 1_000_000);
    let nanos = u32::try_from(micros * 1_000).unwrap_or(0);
    let at = uuid::Timestamp::from_unix(&IDS, seconds, nanos);
    RunId(uuid::Uuid::new_v7(at).as_u128())
}

/// The part of a filter that the store cannot know of runs that are not final.
fn passes(filter: &RunFilter, run: &StoredRun) -> bool {
    run.state.is_final()
        || ((filter.states.is_empty() || filter.states.contains(&run.state))
            && filter.verdict.is_none_or(|verdict| run.verdict.kind == verdict)
            && filter.worker.is_none_or(|worker| run.attempts.iter().any(|it| it.worker == worker)))
}

pub(super) fn no_run(id: RunId) -> ServiceError {
    ServiceError::NotFound { what: "run", id: id.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_time_of_its_run_and_later_ones_are_greater() {
        let ids: Vec<_> = (0..100).map(|at| new_id(Time(1_767_225_600_000_999 + at * 17))).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        for (id, at) in ids.iter().zip(0..) {
            let uuid = uuid::Uuid::from_u128(id.0);
            assert_eq!(uuid.get_version_num(), 7);
            assert_eq!(id.0 >> 80, (1_767_225_600_000_999 + at * 17) / 1_000);
        }
    }
}
