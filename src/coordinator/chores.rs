//! What a pool does beside its runs: retention of old ones and of evidence, collection of garbage, sweeping of leftovers,
//! notes of who was seen.
//!
//! Each chore is woken by its own clock, reads all that it needs, does a bounded piece, and may be repeated at any time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::cache::ResultCache;
use super::clock::Clock;
use super::owner::Command;
use super::service::Service;
use crate::blobs::{BlobError, Blobs};
use crate::core::Time;
use crate::store::{EvidenceRetention, Retention, Store, StoreError};

/// Between two rounds.
const PERIOD: Duration = Duration::from_secs(30);
/// Between two sweeps of files that no row names: what a crash leaves between two writes.
const SWEEP_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two notes of which tokens were used and which workers were heard of: a write a minute at most.
const NOTES_PERIOD: Duration = Duration::from_secs(60);
/// A file without a row that is younger than this may be about to get one.
const ORPHAN_AGE: Duration = Duration::from_secs(60 * 60);
/// Runs that one call deletes, blobs that one call frees.
const BATCH: u32 = 500;

/// Between two looks at the evidence: it grows slowly.
const EVIDENCE_PERIOD: Duration = Duration::from_secs(10 * 60);
/// Evidence that is young stays up to so many times the number that stays at any age.
const EVIDENCE_TIMES_MAX: u64 = 10;
/// So far the figures look back after a start.
const FIGURES_US: u64 = 60 * 60 * 1_000_000;
/// Runs that are counted again after a start.
const FIGURES_RUNS_MAX: u32 = 20_000;

/// What is kept of final runs and of evidence. A run whose result others have goes with the last of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetentionConfig {
    /// Final runs older than this go, in milliseconds.
    pub age_ms: u64,
    /// Final runs beyond this number go, oldest first.
    pub runs_max: u64,
    /// Of the evidence about each worker the newest so many observations stay, however old.
    pub evidence_max: u64,
    /// Evidence younger than this stays too, up to ten times that number, in milliseconds.
    pub evidence_age_ms: u64,
}

impl RetentionConfig {
    /// What goes at `now`.
    pub fn of_runs(&self, now: Time) -> Retention {
        Retention {
            finished_before: Time(now.0.saturating_sub(self.age_ms.saturating_mul(1_000))),
            runs_max: self.runs_max,
            batch_max: BATCH,
        }
    }

    fn of_evidence(&self, now: Time) -> EvidenceRetention {
        EvidenceRetention {
            newest: self.evidence_max,
            since: Time(now.0.saturating_sub(self.evidence_age_ms.saturating_mul(1_000))),
            most: self.evidence_max.saturating_mul(EVIDENCE_TIMES_MAX),
            batch_max: BATCH,
        }
    }
}

/// Why a round was cut short.
#[derive(Debug, thiserror::Error)]
enum ChoreError {
    /// Rows.
    #[error("rows: {0}")]
    Store(#[from] StoreError),
    /// Files.
    #[error("blobs: {0}")]
    Blobs(#[from] BlobError),
}

/// Runs until it is aborted; a round that is cut short is made good by the next.
pub async fn run(
    service: Service,
    store: Arc<dyn Store>,
    blobs: Arc<Blobs>,
    clock: Clock,
    config: RetentionConfig,
    cache: Arc<ResultCache>,
) {
    let mut timer = tokio::time::interval(PERIOD);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sweep_at = tokio::time::Instant::now();
    let mut evidence_at = sweep_at;
    let mut notes_at = sweep_at + NOTES_PERIOD;
    loop {
        timer.tick().await;
        if tokio::time::Instant::now() >= evidence_at {
            evidence_at += EVIDENCE_PERIOD;
            match trim_evidence(store.as_ref(), config.of_evidence(clock.now())).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "forgot old evidence"),
                Err(error) => tracing::warn!(%error, "evidence was not trimmed; it will be tried again"),
            }
        }
        if tokio::time::Instant::now() >= sweep_at {
            sweep_at += SWEEP_PERIOD;
            match blobs.sweep(ORPHAN_AGE).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "removed files that a crash had left"),
                Err(error) => tracing::warn!(%error, "sweeping failed; it will be tried again"),
            }
        }
        if tokio::time::Instant::now() >= notes_at {
            notes_at += NOTES_PERIOD;
            if let Err(error) = service.note_seen().await {
                tracing::warn!(%error, "who was seen was not noted");
            }
        }
        if let Err(error) = round(store.as_ref(), &blobs, &cache, clock.now(), config).await {
            tracing::warn!(%error, "housekeeping failed; it will be tried again");
        }
    }
}

/// Deletes evidence beyond the retention, in bounded pieces.
async fn trim_evidence(store: &dyn Store, retention: EvidenceRetention) -> Result<u32, StoreError> {
    let mut gone = 0;
    loop {
        let count = store.trim_evidence(retention).await?;
        gone += count;
        if count < retention.batch_max {
            return Ok(gone);
        }
        tokio::task::yield_now().await;
    }
}

/// Counts the runs that ended within the last hour again, for the plots, beside everything else: a start does not wait.
pub async fn restore_figures(store: Arc<dyn Store>, now: Time, owner: mpsc::UnboundedSender<Command>) {
    let since = Time(now.0.saturating_sub(FIGURES_US));
    match store.recent_finals(since, FIGURES_RUNS_MAX).await {
        Ok(finals) => {
            let is_cut = finals.len() >= FIGURES_RUNS_MAX as usize;
            // where it was cut, some of the oldest instant may be missing
            let oldest = finals.last().filter(|_| is_cut).map(|run| Time(run.finished_at.0 + 1));
            let _ = owner.send(Command::Restored(finals, oldest.unwrap_or(since)));
        }
        Err(error) => tracing::warn!(%error, "the figures of the last hour are not known"),
    }
}

/// One round of everything.
async fn round(
    store: &dyn Store,
    blobs: &Blobs,
    cache: &ResultCache,
    now: Time,
    config: RetentionConfig,
) -> Result<(), ChoreError> {
    let retention = config.of_runs(now);
    let mut deleted = 0;
    loop {
        let retained = store.retain(retention).await?;
        // before their blobs may go
        cache.forget(&retained.gone);
        deleted += retained.gone.len();
        // where all of a batch are only held, what is behind them may go all the same
        if retained.looked_at == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (mut freed, mut bytes) = (0, 0);
    loop {
        let round = blobs.collect_garbage(now, BATCH).await?;
        freed += round.blobs;
        bytes += round.bytes;
        if round.blobs < BATCH.into() {
            break;
        }
    }
    if deleted > 0 || freed > 0 {
        tracing::info!(runs = deleted, blobs = freed, bytes, "housekeeping");
    }
    Ok(())
}
