//! What a pool does beside its runs: retention of old ones, collection of garbage, sweeping of leftovers.
//!
//! Each chore is woken by its own clock, reads all that it needs, does a bounded piece, and may be repeated at any time.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use crate::blobs::{BlobError, Blobs};
use crate::core::Time;
use crate::store::{Retention, Store, StoreError};

/// Between two rounds.
const PERIOD: Duration = Duration::from_secs(30);
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
pub async fn run(store: Arc<dyn Store>, blobs: Arc<Blobs>, clock: Clock, config: RetentionConfig) {
    let mut timer = tokio::time::interval(PERIOD);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
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
    let freed = blobs.collect_garbage(now, BATCH).await?;
    if deleted > 0 || freed.blobs > 0 {
        tracing::info!(runs = deleted, blobs = freed.blobs, bytes = freed.bytes, "housekeeping");
    }
    Ok(())
}
