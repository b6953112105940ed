//! What a pool does beside its runs: retention of old ones, collection of garbage, sweeping of leftovers, notes of who was
//! seen.
//!
//! Each chore is woken by its own clock, reads all that it needs, does a bounded piece, and may be repeated at any time.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::service::Service;
use crate::blobs::{BlobError, Blobs};
use crate::core::Time;
use crate::store::{Retention, Store, StoreError};

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

/// What is kept of final runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetentionConfig {
    /// Final runs older than this go, in milliseconds.
    pub age_ms: u64,
    /// Final runs beyond this number go, oldest first.
    pub runs_max: u64,
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
) {
    let mut timer = tokio::time::interval(PERIOD);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sweep_at = tokio::time::Instant::now();
    let mut notes_at = sweep_at + NOTES_PERIOD;
    loop {
        timer.tick().await;
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
        if let Err(error) = round(store.as_ref(), &blobs, clock.now(), config).await {
            tracing::warn!(%error, "housekeeping failed; it will be tried again");
        }
    }
}

/// One round of everything.
async fn round(
    store: &dyn Store,
    blobs: &Blobs,
    now: Time,
    config: RetentionConfig,
) -> Result<(), ChoreError> {
    let retention = Retention {
        finished_before: Time(now.0.saturating_sub(config.age_ms.saturating_mul(1_000))),
        runs_max: config.runs_max,
        batch_max: BATCH,
    };
    let mut deleted = 0;
    loop {
        let count = store.retain(retention).await?;
        deleted += count;
        if count < BATCH {
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
