//! The cache after a start, and withdrawals that have to outlive it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Entry, ResultCache};
use crate::coordinator::clock::Clock;
use crate::coordinator::service::RunDetail;
use crate::core::{Time, day_of};
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};
use crate::store::{Store, StoreError, Withdrawal, WorkerRow};

/// Finals that are read at once.
const PAGE: u32 = 200;
/// Between two tries to keep a withdrawal that a full disk refused, at first and at most.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Fills the cache with what earlier lives verified, the newest first, beside everything else: until then their runs are
/// executed. Withdrawals were recalled before. One that a crash kept from being stored is made good by what the store knows of
/// workers and modules: what rests on one that is (or was) out is not taken, nor what stood alone on one that dissented alone since.
pub async fn load(store: Arc<dyn Store>, cache: Arc<ResultCache>, clock: Clock) {
    match fill(store.as_ref(), &cache, &clock).await {
        Ok(count) => tracing::debug!(count, "results of before are in the cache"),
        Err(error) => tracing::warn!(%error, "results of before are not in the cache"),
    }
    cache.end_loading();
}

async fn fill(store: &dyn Store, cache: &ResultCache, clock: &Clock) -> Result<u64, StoreError> {
    let out = Out::read(store).await?;
    let mut before: Option<RunId> = None;
    let mut count = 0_u64;
    while cache.has_room() {
        let page = store.reusable(before, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        before = Some(last.id);
        for (run, votes) in page {
            let detail = Arc::new(RunDetail { run, stdout: None, stderr: None });
            if let Some(entry) = Entry::of(detail, Default::default(), &votes).filter(|it| !out.covers(it)) {
                count += 1;
                cache.insert(entry, clock.now());
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(count)
}

/// What is not trusted, as the store has it.
struct Out {
    workers: BTreeSet<WorkerId>,
    /// Up to when nothing counts of those that were let in again as newcomers.
    until: BTreeMap<WorkerId, Time>,
    /// The day up to which nothing counts that stood on the word of one alone who dissented alone then.
    dissented: BTreeMap<WorkerId, u32>,
    modules: BTreeSet<Digest>,
}

impl Out {
    async fn read(store: &dyn Store) -> Result<Out, StoreError> {
        let workers = store.workers().await?;
        let last_dissent = |row: &WorkerRow| row.standings.values().filter_map(|it| it.suspect_since).max();
        let repairs = store.repairs().await?.into_iter();
        Ok(Out {
            dissented: workers.iter().filter_map(|row| Some((row.id, last_dissent(row)?))).collect(),
            workers: workers.iter().filter(|row| row.quarantined.is_some()).map(|row| row.id).collect(),
            until: repairs
                .filter(|repair| repair.lifted_at.is_none())
                .map(|repair| (repair.worker, repair.since))
                .collect(),
            modules: store.nondeterministic_modules().await?.into_iter().collect(),
        })
    }

    fn covers(&self, entry: &Entry) -> bool {
        let it = entry.withdrawable();
        let is_out = |worker: &WorkerId| {
            self.workers.contains(worker)
                || self.until.get(worker).is_some_and(|until| it.finished_at <= *until)
        };
        let day = day_of(it.finished_at);
        let stood_alone = |worker: &WorkerId| {
            it.is_alone && self.dissented.get(worker).is_some_and(|dissented| day <= *dissented)
        };
        self.modules.contains(&it.module)
            || it.workers.iter().any(|worker| is_out(worker) || stood_alone(worker))
    }
}

/// Keeps a withdrawal that holds in memory already, however long a full disk refuses it. Gives up where the store ends, and
/// the process with it: the next start goes by what is stored of workers and modules.
pub async fn keep_withdrawal(store: Arc<dyn Store>, withdrawal: Withdrawal) -> Result<(), StoreError> {
    let mut pause = PAUSE;
    loop {
        match store.put_withdrawal(withdrawal).await {
            answer @ (Ok(()) | Err(StoreError::Fatal(_) | StoreError::Closed)) => return answer,
            Err(error) => {
                tracing::error!(%error, "a withdrawal from the cache was not stored; it is tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::cache::tests::vouched;
    use crate::store::sqlite::{Options, SqliteStore};
    use crate::store::{Enrolment, Evidence, Failure};

    const DAY_US: u64 = 86_400_000_000;

    #[tokio::test]
    async fn what_stood_alone_on_one_that_dissented_alone_since_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap();
        for number in 1..=2 {
            let enrolment = Enrolment {
                key: [number; 32],
                name: "w".to_owned(),
                domain: "here".to_owned(),
                embedded: true,
                owned: true,
                arbiter: false,
                token: None,
                at: Time(1),
            };
            store.enrol_worker(enrolment).await.unwrap();
        }
        // the process ended before the withdrawal was stored
        let dissent = Evidence {
            portable: None,
            worker: WorkerId(1),
            class: Digest::EMPTY,
            kind: "lone_dissent".to_owned(),
            count: 1,
            attempt: None,
            result: None,
            at: Time(DAY_US + 5),
        };
        store.append_evidence(vec![dissent]).await.unwrap();
        let out = Out::read(&store).await.unwrap();
        let covers = |worker, at| out.covers(&vouched(worker, at));
        assert!(covers(1, 5) && covers(1, DAY_US + 4));
        assert!(!covers(1, 2 * DAY_US), "what it said since stands");
        assert!(!covers(2, 5), "of another");
        assert!(!out.covers(&crate::coordinator::cache::tests::agreed()), "what others said too stays");
        store.close().await;
    }
}
