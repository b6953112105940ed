//! Answers from the cache, and what operators see and do of it.

use std::sync::Arc;

use super::{Caller, Prepared, RunDetail, Service, ServiceError, SubmitAnswer};
use crate::coordinator::cache::{CacheConfig, CacheStats, Entry, keep_withdrawal};
use crate::coordinator::clock::timestamp;
use crate::coordinator::owner::{Command, Hit};
use crate::core::{Explained, Time};
use crate::result::Verdict;
use crate::spec::{CacheUse, Policy};
use crate::store::{NewRun, Source, StoredRun, Withdrawal};

impl Service {
    /// Answers a submission with a verified result of an equal run, if there is one that does for its policy. The row of the
    /// new run is written with the next commit; only one with an Idempotency-Key, or that asks for it, waits for that.
    pub(super) async fn answer_from_cache(
        &self,
        caller: &Caller,
        prepared: &Prepared,
        policy: &Policy,
    ) -> Result<Option<SubmitAnswer>, ServiceError> {
        let cache = &self.parts.cache;
        if policy.cache != CacheUse::Use || !cache.is_on() {
            return Ok(None);
        }
        let created_at = self.now();
        let key = (caller.workspace, prepared.run_key);
        let class = self.parts.facts.classes.of(prepared.spec.profile);
        let Some(entry) = cache.find(key, policy, class, created_at) else {
            self.parts.metrics.cache_misses.inc();
            return Ok(None);
        };
        let Some(entry) = self.with_small_outputs(entry).await? else {
            self.parts.metrics.cache_misses.inc();
            return Ok(None);
        };
        self.parts.metrics.cache_hits.inc();
        let new = NewRun {
            id: super::runs::new_id(created_at),
            workspace: caller.workspace,
            epoch: self.parts.epoch,
            spec: Arc::clone(&prepared.spec),
            run_key: prepared.run_key,
            policy: policy.clone(),
            created_at,
            idempotency: prepared.idempotency.clone(),
            rerun_of: prepared.rerun_of,
            blobs: Vec::new(),
        };
        let detail = Arc::new(answer(&new, &entry));
        // beyond the bound of answers whose row is not written, they wait for it like everybody else
        let may_be_unwritten = policy.durable && new.idempotency.is_none() && !prepared.must_be_written;
        let is_counted = may_be_unwritten && cache.begin_unwritten();
        let waits = policy.durable && !is_counted;
        let (reply, written) = tokio::sync::oneshot::channel();
        let hit = Hit {
            new: Box::new(new),
            detail: Arc::clone(&detail),
            outputs: entry.outputs,
            reply: waits.then_some(reply),
            is_counted,
        };
        self.parts.commands.send(Command::Hit(hit)).map_err(|_| ServiceError::ShuttingDown)?;
        if !waits {
            return Ok(Some(SubmitAnswer::Accepted(detail)));
        }
        match written.await {
            Ok(Ok(detail)) => Ok(Some(SubmitAnswer::Accepted(detail))),
            // what was found went meanwhile
            Ok(Err(ServiceError::AnswerGone)) | Err(_) => Ok(None),
            Ok(Err(error)) => Err(error),
        }
    }

    /// The entry with the small outputs that are shown with a run: after a start they are still in the store. `None` if they
    /// are not there any more.
    async fn with_small_outputs(&self, mut entry: Entry) -> Result<Option<Entry>, ServiceError> {
        let run = &entry.detail.run;
        let Some(manifest) = &run.manifest else { return Ok(None) };
        let lacks_stdout = entry.detail.stdout.is_none() && is_shown(manifest.stdout.size);
        let lacks_stderr = entry.detail.stderr.is_none() && is_shown(manifest.stderr.size);
        if !lacks_stdout && !lacks_stderr {
            return Ok(Some(entry));
        }
        let read = async {
            let stdout = self.small(manifest.stdout.digest, manifest.stdout.size).await?;
            let stderr = self.small(manifest.stderr.digest, manifest.stderr.size).await?;
            Ok::<_, ServiceError>((stdout, stderr))
        };
        let (stdout, stderr) = match read.await {
            Ok(read) => read,
            Err(ServiceError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let detail = Arc::new(RunDetail { run: run.clone(), stdout, stderr });
        self.parts.cache.refine(run.id, Arc::clone(&detail));
        entry.detail = detail;
        Ok(Some(entry))
    }

    /// Figures of the cache.
    pub fn cache_stats(&self, caller: &Caller) -> CacheStats {
        self.parts.cache.stats(caller.workspace)
    }

    /// Bounds of the cache.
    pub fn cache_config(&self) -> CacheConfig {
        self.parts.cache.config()
    }

    /// Withdraws results of the caller's workspace from the cache; gives how many went. Answered when it will hold after a
    /// restart.
    pub async fn withdraw(&self, caller: &Caller, withdrawal: Withdrawal) -> Result<usize, ServiceError> {
        let withdrawal = Withdrawal { workspace: Some(caller.workspace), ..withdrawal };
        let (count, kept) = self.parts.cache.withdraw(withdrawal);
        self.parts.metrics.cache_withdrawn.inc_by(count as u64);
        // kept even if the caller does not wait for it
        let kept = tokio::spawn(keep_withdrawal(Arc::clone(&self.parts.store), kept)).await;
        kept.map_err(|error| ServiceError::Internal(error.to_string()))??;
        Ok(count)
    }
}

fn is_shown(size: u64) -> bool {
    (1..=crate::store::INLINE_BLOB_BYTES_MAX as u64).contains(&size)
}

/// The new run as its caller sees it.
fn answer(new: &NewRun, entry: &Entry) -> RunDetail {
    let had = &entry.detail.run;
    let finished_at = new.created_at;
    let run = StoredRun {
        id: new.id,
        workspace: new.workspace,
        epoch: new.epoch,
        state: had.state,
        reason: had.reason,
        spec: Arc::clone(&new.spec),
        run_key: new.run_key,
        policy: new.policy.clone(),
        revision: 1,
        outcome: had.outcome.clone(),
        verdict: had.verdict.clone(),
        result: had.result,
        manifest: had.manifest.clone(),
        attempts: Vec::new(),
        explain: Arc::new(vec![explained(finished_at, had)]),
        dissents: Vec::new(),
        rerun_of: new.rerun_of,
        created_at: new.created_at,
        finished_at: Some(finished_at),
        source: Some(Source::Cached(had.id)),
        corrected_at: None,
        verification: None,
    };
    RunDetail { run, stdout: entry.detail.stdout.clone(), stderr: entry.detail.stderr.clone() }
}

fn explained(at: Time, had: &StoredRun) -> Explained {
    let Verdict { kind, votes, dissenters } = &had.verdict;
    let kind = kind.name();
    let ended = timestamp(had.finished_at.unwrap_or(had.created_at));
    let lost = match dissenters.len() {
        0 => String::new(),
        lost => format!(", against {lost}"),
    };
    let words = if *votes == 1 { "vote" } else { "votes" };
    let text = format!(
        "answered from the cache: run {} computed it at {ended:.0} with verdict {kind} ({votes} {words}{lost}), under the \
         policy {}",
        had.id, had.policy.verify
    );
    Explained::kept(at, text)
}
