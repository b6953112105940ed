//! Retention: by age, by count, in bounded batches, and what it frees.

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::store::{Retention, RunFilter, Store, WriteAnswer};

async fn numbers(store: &dyn Store) -> Vec<u128> {
    let runs = store.runs(RunFilter::default(), None, 100).await.unwrap().runs;
    runs.iter().map(|run| run.id.0 - run_id(0).0).collect()
}

/// Runs 1 to 6; 5 is open, the others ended at 60, 50, 40, 30 and 10: the order of the ends is not that of the ids.
async fn six_runs(store: &dyn Store) {
    insert_all(store, 1..=6).await;
    let ends = [(1, 60), (2, 50), (3, 40), (4, 30), (6, 10)];
    let finals = ends.map(|(number, at)| finish(final_run(number, Time(at))));
    store.write_runs(std::sync::Arc::new(finals.into())).await.unwrap();
}

pub(crate) async fn retention_by_age_takes_only_final_runs_that_ended_before(place: &dyn Place) {
    let store = place.open().await;
    six_runs(&*store).await;
    let older_than = |at| Retention { finished_before: Time(at), runs_max: u64::MAX, batch_max: 100 };
    assert_eq!(store.retain(older_than(10)).await.unwrap().gone.len(), 0);
    assert_eq!(store.retain(older_than(40)).await.unwrap().gone.len(), 2);
    assert_eq!(numbers(&*store).await, [5, 3, 2, 1]);
    assert_eq!(store.retain(older_than(u64::MAX)).await.unwrap().gone.len(), 3);
    assert_eq!(numbers(&*store).await, [5]);
    check_references(&*store).await;
}

pub(crate) async fn retention_by_count_keeps_the_newest(place: &dyn Place) {
    let store = place.open().await;
    six_runs(&*store).await;
    let newest = |runs_max| Retention { finished_before: Time(0), runs_max, batch_max: 100 };
    assert_eq!(store.retain(newest(5)).await.unwrap().gone.len(), 0);
    assert_eq!(store.retain(newest(2)).await.unwrap().gone.len(), 3);
    assert_eq!(numbers(&*store).await, [5, 2, 1]);
    let both = Retention { finished_before: Time(55), runs_max: 2, batch_max: 100 };
    assert_eq!(store.retain(both).await.unwrap().gone.len(), 1);
    assert_eq!(numbers(&*store).await, [5, 1]);
    check_references(&*store).await;
}

pub(crate) async fn retention_is_bounded_and_frees_what_nothing_else_refers_to(place: &dyn Place) {
    let store = place.open().await;
    six_runs(&*store).await;
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 2 };
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 2);
    assert_eq!(numbers(&*store).await, [5, 3, 2, 1], "the oldest ends go first");
    check_references(&*store).await;
    // stdout and manifest of the two; everything else is shared
    assert_eq!(store.take_garbage(FOREVER, 99).await.unwrap().taken, 4);
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 2);
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 1);
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 0);
    store.take_garbage(FOREVER, 99).await.unwrap();
    // the inputs of the open run
    assert_eq!(store.usage().await.unwrap().blobs, 3);
    check_references(&*store).await;
}

pub(crate) async fn a_deleted_run_frees_its_idempotency_key(place: &dyn Place) {
    let store = place.open().await;
    let keyed = |number| {
        let mut run = new_run(number);
        run.idempotency = Some(("key".to_owned(), digest("payload")));
        insert(run)
    };
    store.write_runs(vec![keyed(1), finish(final_run(1, Time(5)))].into()).await.unwrap();
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 2 };
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 1);
    assert_eq!(write(&*store, keyed(2)).await.unwrap(), WriteAnswer::Committed);
    check_references(&*store).await;
}
