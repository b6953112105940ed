//! The cache after a start, and withdrawals that have to outlive it.

use std::sync::Arc;
use std::time::Duration;

use super::{Entry, ResultCache};
use crate::coordinator::clock::Clock;
use crate::coordinator::service::RunDetail;
use crate::id::RunId;
use crate::store::{Store, StoreError, Withdrawal};

/// Finals that are read at once.
const PAGE: u32 = 200;
/// Between two tries to keep a withdrawal that a full disk refused, at first and at most.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Fills the cache with what earlier lives verified, the newest first, beside everything else: until then their runs are
/// executed. Withdrawals were recalled before.
pub async fn load(store: Arc<dyn Store>, cache: Arc<ResultCache>, clock: Clock) {
    let mut before: Option<RunId> = None;
    let mut count = 0_u64;
    while cache.has_room() {
        let page = match store.reusable(before, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "results of before are not in the cache");
                return;
            }
        };
        let Some((last, _)) = page.last() else { break };
        before = Some(last.id);
        for (run, votes) in page {
            let detail = Arc::new(RunDetail { run, stdout: None, stderr: None });
            if let Some(entry) = Entry::of(detail, Default::default(), &votes) {
                count += 1;
                cache.insert(entry, clock.now());
            }
        }
        tokio::task::yield_now().await;
    }
    tracing::debug!(count, "results of before are in the cache");
}

/// Keeps a withdrawal, however long a full disk refuses it: otherwise the next start would use again what was withdrawn.
pub async fn keep_withdrawal(store: Arc<dyn Store>, withdrawal: Withdrawal) -> Result<(), StoreError> {
    let mut pause = PAUSE;
    loop {
        match store.put_withdrawal(withdrawal).await {
            Err(StoreError::Full) => {
                tracing::error!("a withdrawal from the cache was not stored: the disk is full");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            answer => return answer,
        }
    }
}
