//! Blob rows: references, pins, garbage (I12).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::digest::Digest;
use crate::spec::{FileInput, RunSpec};
use crate::store::{BlobRow, Garbage, Store, WriteAnswer};

async fn there(store: &dyn Store, name: &str) -> bool {
    store.blob(digest(name)).await.unwrap().is_some()
}

pub(crate) async fn a_blob_row_is_made_once_and_pinned_for_the_longest(place: &dyn Place) {
    let store = place.open().await;
    let (name, bytes) = blob("small");
    let row = BlobRow { size: 5, inline: Some(bytes) };
    assert!(!store.put_blob(name, row.clone(), Time(10)).await.unwrap());
    assert!(store.put_blob(name, row.clone(), Time(5)).await.unwrap());
    assert_eq!(store.blob(name).await.unwrap(), Some(row.clone()));
    let large = BlobRow { size: 1 << 40, inline: None };
    assert!(!store.put_blob(digest("large"), large.clone(), Time(0)).await.unwrap());
    assert_eq!(store.blob(digest("large")).await.unwrap(), Some(large.clone()));

    // an earlier end never shortens a pin
    assert_eq!(store.pin_blob(name, Time(3)).await.unwrap(), Some(row));
    assert_eq!(store.pin_blob(digest("large"), Time(20)).await.unwrap(), Some(large));
    assert_eq!(store.pin_blob(digest("absent"), Time(20)).await.unwrap(), None);
    assert_eq!(store.take_garbage(Time(9), 10).await.unwrap(), Garbage::default());
    let taken = store.take_garbage(Time(10), 10).await.unwrap();
    assert_eq!(taken, Garbage { taken: 1, bytes: 5, files: vec![] });
    let taken = store.take_garbage(Time(20), 10).await.unwrap();
    assert_eq!(taken, Garbage { taken: 1, bytes: 1 << 40, files: vec![digest("large")] });
    assert_eq!(store.blob(name).await.unwrap(), None);
}

pub(crate) async fn many_blobs_are_pinned_at_once_or_the_missing_one_is_named(place: &dyn Place) {
    let store = place.open().await;
    for text in ["a", "b"] {
        put(&*store, text, Time(5)).await;
    }
    let (a, b, absent) = (digest("a"), digest("b"), digest("absent"));
    assert_eq!(store.missing_blob(vec![a, absent, b]).await.unwrap(), Some(absent));
    assert_eq!(store.missing_blob(vec![a, b]).await.unwrap(), None);
    assert_eq!(store.pin_blobs(vec![a, absent], Time(9)).await.unwrap(), Some(absent));
    assert_eq!(store.pin_blobs(vec![a, b], Time(20)).await.unwrap(), None);
    assert_eq!(store.take_garbage(Time(19), 9).await.unwrap().taken, 0);
    assert_eq!(store.take_garbage(Time(20), 9).await.unwrap().taken, 2);
}

pub(crate) async fn a_run_with_a_missing_input_is_not_inserted(place: &dyn Place) {
    let store = place.open().await;
    for input in ["module", "stdin", "file"] {
        let mut run = new_run(1);
        run.blobs.retain(|(blob, _)| *blob != digest(input));
        let answer = write(&*store, insert(run)).await.unwrap();
        assert_eq!(answer, WriteAnswer::MissingBlob(digest(input)));
    }
    assert!(store.run(run_id(1)).await.unwrap().is_none());
    assert_eq!(store.usage().await.unwrap().blobs, 0);
    // what is there already need not come along
    for input in ["module", "stdin", "file"] {
        put(&*store, input, Time(0)).await;
    }
    let mut run = new_run(1);
    run.blobs.clear();
    assert_eq!(write(&*store, insert(run)).await.unwrap(), WriteAnswer::Committed);
    check_references(&*store).await;
}

pub(crate) async fn a_final_with_a_missing_output_is_not_written(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1]).await;
    let complete = final_run(1, Time(50));
    for missing in complete.blobs.iter().map(|(blob, _)| *blob) {
        let mut end = complete.clone();
        end.blobs.retain(|(blob, _)| *blob != missing);
        // against a stored run, and against one of the same batch
        let answer = write(&*store, finish(end)).await.unwrap();
        assert_eq!(answer, WriteAnswer::MissingBlob(missing));
    }
    let mut end = final_run(2, Time(50));
    end.blobs.retain(|(blob, _)| *blob != digest("picture"));
    let answers = store.write_runs(vec![insert(new_run(2)), finish(end)].into()).await.unwrap();
    assert_eq!(answers, [WriteAnswer::Committed, WriteAnswer::MissingBlob(digest("picture"))]);
    assert_eq!(store.open_runs(None, 9).await.unwrap().len(), 2);
    assert_eq!(store.usage().await.unwrap().blobs, 3, "only the inputs");
    check_references(&*store).await;
}

pub(crate) async fn the_empty_blob_needs_no_row(place: &dyn Place) {
    let store = place.open().await;
    let mut run = new_run(1);
    let mut spec = RunSpec::new(digest("module"));
    spec.files.insert("/empty".parse().unwrap(), FileInput::Blob(Digest::EMPTY));
    run.spec = Arc::new(spec);
    assert_eq!(write(&*store, insert(run)).await.unwrap(), WriteAnswer::Committed);
    assert!(store.blob(Digest::EMPTY).await.unwrap().is_none());
    // nor does a row that somebody made take part in counting
    put(&*store, "", Time(0)).await;
    check_references(&*store).await;
    assert_eq!(store.take_garbage(Time(0), 9).await.unwrap().taken, 1);
}

pub(crate) async fn a_run_counts_once_per_distinct_blob(place: &dyn Place) {
    let store = place.open().await;
    let mut run = new_run(1);
    let mut spec = RunSpec::clone(&run.spec);
    for path in ["/b", "/c"] {
        spec.files.insert(path.parse().unwrap(), FileInput::Blob(digest("stdin")));
    }
    run.spec = Arc::new(spec);
    // the output equals an input, and the dissent equals the picture
    let mut end = final_run(1, Time(50));
    let manifest = end.manifest.as_mut().unwrap();
    manifest.stdout.digest = digest("stdin");
    manifest.files[0].digest = digest("dissent");
    assert_eq!(write(&*store, insert(run)).await.unwrap(), WriteAnswer::Committed);
    check_references(&*store).await;
    assert_eq!(write(&*store, finish(end)).await.unwrap(), WriteAnswer::Committed);
    check_references(&*store).await;
    assert_eq!(store.take_garbage(Time(100), 99).await.unwrap().taken, 0);
    let everything = crate::store::Retention { finished_before: FOREVER, runs_max: 0, batch_max: 9 };
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 1);
    check_references(&*store).await;
    let rows = store.usage().await.unwrap();
    assert_eq!(rows.garbage_bytes, rows.blob_bytes, "nothing is referred to any more");
}

pub(crate) async fn garbage_is_neither_referenced_nor_pinned(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1]).await;
    write(&*store, finish(final_run(1, Time(50)))).await.unwrap();
    put(&*store, "pinned", Time(1_000)).await;
    put(&*store, "loose", Time(0)).await;
    let taken = store.take_garbage(Time(999), 99).await.unwrap();
    assert_eq!((taken.taken, taken.bytes), (1, 5));
    assert!(!there(&*store, "loose").await);
    for kept in ["pinned", "module", "stdin", "file", "picture", "dissent", "stdout of 1"] {
        assert!(there(&*store, kept).await, "{kept}");
    }
}

pub(crate) async fn garbage_is_taken_in_bounded_batches_and_files_are_named(place: &dyn Place) {
    let store = place.open().await;
    let mut large = BTreeSet::new();
    for number in 0..10 {
        let name = digest(&format!("large {number}"));
        large.insert(name);
        store.put_blob(name, BlobRow { size: 100_000, inline: None }, Time(number)).await.unwrap();
        put(&*store, &format!("small {number}"), Time(number)).await;
    }
    let (mut rows, mut files) = (0, BTreeSet::new());
    loop {
        let taken = store.take_garbage(Time(100), 3).await.unwrap();
        assert!(taken.taken <= 3);
        rows += taken.taken;
        files.extend(taken.files);
        if taken.taken < 3 {
            break;
        }
    }
    assert_eq!((rows, files), (20, large));
}

pub(crate) async fn an_unnamed_blob_of_a_final_is_kept_with_its_run(place: &dyn Place) {
    let store = place.open().await;
    let mut end = final_run(1, Time(50));
    end.blobs.push(blob("stdout of the dissenter"));
    store.write_runs(vec![insert(new_run(1)), finish(end)].into()).await.unwrap();
    assert_eq!(store.take_garbage(Time(100), 99).await.unwrap().taken, 0);
    assert!(there(&*store, "stdout of the dissenter").await);
    check_references(&*store).await;
}
