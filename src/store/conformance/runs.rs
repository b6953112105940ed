//! Runs: conditional writes, idempotency, lists, durability (I1, I2, I6, I7, I8, I11).

use std::sync::Arc;

use super::Place;
use super::fixtures::*;
use crate::core::{Explained, Time};
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkspaceId};
use crate::result::RunState;
use crate::spec::RunSpec;
use crate::store::{FinalRun, Retention, RunFilter, RunWrite, Store, WriteAnswer};

async fn stored(store: &dyn Store, number: u64) -> String {
    text(&store.run(run_id(number)).await.unwrap().expect("the run is stored"))
}

pub(crate) async fn a_run_is_read_back_as_it_was_inserted(place: &dyn Place) {
    let store = place.open().await;
    let run = new_run(1);
    assert_eq!(write(&*store, insert(run.clone())).await.unwrap(), WriteAnswer::Committed);
    assert_eq!(stored(&*store, 1).await, text(&as_stored(&run)));
    assert!(store.run(run_id(2)).await.unwrap().is_none());
}

pub(crate) async fn a_run_is_read_back_as_it_was_finished(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1]).await;
    let faulted = RunWrite::Attempt {
        run: run_id(1),
        epoch: Epoch(1),
        record: faulted(1),
        explain: Arc::new(vec![Explained::kept(Time(2), "rerun")]),
    };
    assert_eq!(write(&*store, faulted).await.unwrap(), WriteAnswer::Committed);
    let end = final_run(1, Time(50));
    assert_eq!(write(&*store, finish(end.clone())).await.unwrap(), WriteAnswer::Committed);
    // the final has every attempt, so those written before must not come twice
    assert_eq!(stored(&*store, 1).await, text(&as_finished(&new_run(1), &end)));
    check_references(&*store).await;
}

pub(crate) async fn the_votes_of_a_final_live_and_die_with_it(place: &dyn Place) {
    let store = place.open().await;
    let of = |store: Arc<dyn Store>, number| async move { store.votes(run_id(number), 1).await.unwrap() };
    insert_all(&*store, [1, 2]).await;
    assert_eq!(of(Arc::clone(&store), 1).await, None, "it is not final");
    assert_eq!(of(Arc::clone(&store), 9).await, None, "it is not there");
    let mut stale = final_run(1, Time(50));
    stale.record.epoch = Epoch(2);
    assert_eq!(write(&*store, finish(stale)).await.unwrap(), WriteAnswer::Refused);
    assert_eq!(of(Arc::clone(&store), 1).await, None, "its final was refused");

    let ends = [1, 2, 3].map(|number| final_run(number, Time(50 + number)));
    // the last one is inserted and finished in one batch
    let writes = vec![
        finish(ends[0].clone()),
        finish(FinalRun { votes: vec![], ..ends[1].clone() }),
        insert(new_run(3)),
        finish(ends[2].clone()),
    ];
    assert_eq!(store.write_runs(writes.into()).await.unwrap(), vec![WriteAnswer::Committed; 4]);
    store.close().await;
    let store = place.open().await;
    assert_eq!(of(Arc::clone(&store), 1).await.as_ref(), Some(&ends[0].votes));
    assert_eq!(of(Arc::clone(&store), 2).await, Some(vec![]), "kept, and none were cast");
    assert_eq!(of(Arc::clone(&store), 3).await.as_ref(), Some(&ends[2].votes));

    let older = Retention { finished_before: Time(52), runs_max: u64::MAX, batch_max: 100 };
    assert_eq!(store.retain(older).await.unwrap().gone.len(), 1);
    assert_eq!(of(Arc::clone(&store), 1).await, None, "they went with their run");
    assert!(of(Arc::clone(&store), 3).await.is_some());
    check_references(&*store).await;
}

pub(crate) async fn insert_and_finish_in_one_batch_leave_one_final_run(place: &dyn Place) {
    let store = place.open().await;
    let (run, end) = (new_run(1), final_run(1, Time(50)));
    let attempt =
        RunWrite::Attempt { run: run.id, epoch: Epoch(1), record: faulted(1), explain: Arc::default() };
    let writes = vec![insert(run.clone()), attempt, finish(end.clone()), insert(new_run(2))];
    assert_eq!(store.write_runs(writes.into()).await.unwrap(), vec![WriteAnswer::Committed; 4]);
    assert_eq!(stored(&*store, 1).await, text(&as_finished(&run, &end)));
    assert_eq!(store.runs(RunFilter::default(), None, 10).await.unwrap().runs.len(), 2);
    let open = store.open_runs(None, 10).await.unwrap();
    assert_eq!(open.iter().map(|run| run.id).collect::<Vec<_>>(), [run_id(2)]);
    check_references(&*store).await;
}

pub(crate) async fn an_id_is_inserted_once(place: &dyn Place) {
    let store = place.open().await;
    let mut other = new_run(1);
    other.workspace = WorkspaceId(7);
    let writes = vec![insert(new_run(1)), insert(other.clone())];
    let answers = store.write_runs(writes.into()).await.unwrap();
    assert_eq!(answers, [WriteAnswer::Committed, WriteAnswer::Refused]);
    assert_eq!(write(&*store, insert(other)).await.unwrap(), WriteAnswer::Refused);
    assert_eq!(stored(&*store, 1).await, text(&as_stored(&new_run(1))));
    check_references(&*store).await;
}

pub(crate) async fn a_stale_epoch_changes_nothing(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1]).await;
    for stale in [Epoch(0), Epoch(2)] {
        let mut end = final_run(1, Time(50));
        end.record.epoch = stale;
        let attempt =
            RunWrite::Attempt { run: run_id(1), epoch: stale, record: faulted(1), explain: Arc::default() };
        // also for a run of the same batch
        let mut late = final_run(2, Time(50));
        late.record.epoch = stale;
        let writes = vec![finish(end), attempt, insert(new_run(2)), finish(late)];
        let answers = store.write_runs(writes.into()).await.unwrap();
        assert_eq!(answers[..2], [WriteAnswer::Refused, WriteAnswer::Refused]);
        assert_eq!(answers[3], WriteAnswer::Refused);
    }
    assert_eq!(stored(&*store, 1).await, text(&as_stored(&new_run(1))));
    assert_eq!(stored(&*store, 2).await, text(&as_stored(&new_run(2))));
    assert!(store.blob(digest("picture")).await.unwrap().is_none(), "a refused final leaves no blobs");
    check_references(&*store).await;
}

pub(crate) async fn a_final_run_never_changes(place: &dyn Place) {
    let store = place.open().await;
    let end = final_run(1, Time(50));
    store.write_runs(vec![insert(new_run(1)), finish(end.clone())].into()).await.unwrap();
    let before = stored(&*store, 1).await;
    let attempt =
        RunWrite::Attempt { run: run_id(1), epoch: Epoch(1), record: faulted(9), explain: Arc::default() };
    for late in [finish(canceled(1, Time(60))), finish(end), attempt, insert(new_run(1))] {
        assert_eq!(write(&*store, late).await.unwrap(), WriteAnswer::Refused);
    }
    assert_eq!(stored(&*store, 1).await, before);
    check_references(&*store).await;
}

pub(crate) async fn of_racing_finals_exactly_one_wins(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, 1..=8).await;
    for number in 1..=8 {
        let racers: Vec<_> = (0..6)
            .map(|racer| {
                let store = Arc::clone(&store);
                let end =
                    if racer % 2 == 0 { canceled(number, Time(50)) } else { final_run(number, Time(50)) };
                tokio::spawn(async move { (end.clone(), write(&*store, finish(end)).await.unwrap()) })
            })
            .collect();
        let mut won = Vec::new();
        for racer in racers {
            let (end, answer) = racer.await.unwrap();
            match answer {
                WriteAnswer::Committed => won.push(end),
                other => assert_eq!(other, WriteAnswer::Refused),
            }
        }
        assert_eq!(won.len(), 1);
        assert_eq!(stored(&*store, number).await, text(&as_finished(&new_run(number), &won[0])));
    }
    check_references(&*store).await;
}

pub(crate) async fn a_refused_write_does_not_abort_its_batch(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1]).await;
    let mut missing = new_run(3);
    missing.blobs.retain(|(blob, _)| *blob != digest("file"));
    let mut spec = RunSpec::clone(&missing.spec);
    spec.stdin = digest("nowhere");
    missing.spec = Arc::new(spec);
    let writes = vec![
        insert(new_run(1)),
        insert(new_run(2)),
        insert(missing),
        finish(canceled(8, Time(50))),
        finish(canceled(1, Time(50))),
    ];
    let answers = store.write_runs(writes.into()).await.unwrap();
    let expected = [
        WriteAnswer::Refused,
        WriteAnswer::Committed,
        WriteAnswer::MissingBlob(digest("nowhere")),
        WriteAnswer::Refused,
        WriteAnswer::Committed,
    ];
    assert_eq!(answers, expected);
    assert!(store.run(run_id(3)).await.unwrap().is_none());
    check_references(&*store).await;
}

pub(crate) async fn writes_of_a_run_that_is_not_there_are_refused(place: &dyn Place) {
    let store = place.open().await;
    let attempt =
        RunWrite::Attempt { run: run_id(1), epoch: Epoch(1), record: faulted(1), explain: Arc::default() };
    let mut still_open = final_run(1, Time(50));
    still_open.record.state = RunState::Running;
    let writes = vec![attempt, finish(final_run(1, Time(50))), insert(new_run(1)), finish(still_open)];
    let answers = store.write_runs(writes.into()).await.unwrap();
    use WriteAnswer::{Committed, Refused};
    assert_eq!(answers, [Refused, Refused, Committed, Refused]);
    assert_eq!(stored(&*store, 1).await, text(&as_stored(&new_run(1))));
}

pub(crate) async fn an_idempotency_key_belongs_to_one_run_of_its_workspace(place: &dyn Place) {
    let store = place.open().await;
    let keyed = |number, workspace, payload: &str| {
        let mut run = new_run(number);
        run.workspace = WorkspaceId(workspace);
        run.idempotency = Some(("key".to_owned(), digest(payload)));
        insert(run)
    };
    // in one batch, and then against stored rows
    let answers =
        store.write_runs(vec![keyed(1, 0, "a"), keyed(2, 0, "a"), keyed(3, 0, "b")].into()).await.unwrap();
    let duplicate = |same_payload| WriteAnswer::Duplicate { run: run_id(1), same_payload };
    assert_eq!(answers, [WriteAnswer::Committed, duplicate(true), duplicate(false)]);
    store.write_runs(vec![finish(final_run(1, Time(9)))].into()).await.unwrap();
    assert_eq!(write(&*store, keyed(4, 0, "a")).await.unwrap(), duplicate(true));
    assert_eq!(write(&*store, keyed(5, 0, "b")).await.unwrap(), duplicate(false));
    assert_eq!(write(&*store, keyed(6, 1, "b")).await.unwrap(), WriteAnswer::Committed);

    let owner = |workspace| store.idempotency(WorkspaceId(workspace), "key");
    assert_eq!(owner(0).await.unwrap(), Some((run_id(1), digest("a"))));
    assert_eq!(owner(1).await.unwrap(), Some((run_id(6), digest("b"))));
    assert_eq!(store.idempotency(WorkspaceId(0), "other").await.unwrap(), None);
    assert!(store.run(run_id(2)).await.unwrap().is_none());
    check_references(&*store).await;
}

pub(crate) async fn racing_duplicates_create_one_run(place: &dyn Place) {
    let store = place.open().await;
    let racers: Vec<_> = (1..=32)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut run = new_run(number);
                run.idempotency = Some(("once".to_owned(), digest("payload")));
                (run.id, write(&*store, insert(run)).await.unwrap())
            })
        })
        .collect();
    let (mut created, mut told): (Vec<RunId>, Vec<RunId>) = (vec![], vec![]);
    for racer in racers {
        match racer.await.unwrap() {
            (id, WriteAnswer::Committed) => created.push(id),
            (_, WriteAnswer::Duplicate { run, same_payload: true }) => told.push(run),
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!((created.len(), told.len()), (1, 31));
    assert!(told.iter().all(|run| *run == created[0]));
    assert_eq!(store.usage().await.unwrap().runs, 1);
}

pub(crate) async fn open_runs_are_listed_oldest_first_with_what_was_written_of_them(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [3, 1, 2, 5, 4]).await;
    store.write_runs(vec![finish(canceled(2, Time(50)))].into()).await.unwrap();
    let explain = Arc::new(vec![Explained::kept(Time(2), "rerun")]);
    let record =
        |record| RunWrite::Attempt { run: run_id(3), epoch: Epoch(1), record, explain: explain.clone() };
    // the second record of attempt 1 replaces the first
    let begun = attempt(1, crate::core::AttemptState::Begun);
    store.write_runs(vec![record(faulted(2)), record(begun), record(faulted(1))].into()).await.unwrap();

    let mut cursor = None;
    let mut seen = Vec::new();
    loop {
        let page = store.open_runs(cursor, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        cursor = Some(last.id);
        seen.extend(page);
    }
    assert_eq!(seen.iter().map(|run| run.id).collect::<Vec<_>>(), [1, 3, 4, 5].map(run_id));
    assert_eq!(seen[1].attempts, [faulted(1), faulted(2)]);
    assert_eq!(seen[1].explain, explain);
}

pub(crate) async fn adopting_raises_the_epoch_of_open_runs_only(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1, 2]).await;
    store.write_runs(vec![finish(final_run(2, Time(50)))].into()).await.unwrap();
    let epoch = store.adopt_open_runs().await.unwrap();
    assert!(epoch > Epoch(1));
    assert_eq!(store.run(run_id(1)).await.unwrap().unwrap().epoch, epoch);
    assert_eq!(store.run(run_id(2)).await.unwrap().unwrap().epoch, Epoch(1));
    // the former owner is fenced off, the new one is not
    assert_eq!(write(&*store, finish(final_run(1, Time(60)))).await.unwrap(), WriteAnswer::Refused);
    let mut end = final_run(1, Time(60));
    end.record.epoch = epoch;
    assert_eq!(write(&*store, finish(end)).await.unwrap(), WriteAnswer::Committed);
    // terms only grow, also when no run is open, and over a restart
    let second = store.adopt_open_runs().await.unwrap();
    assert!(second > epoch);
    store.close().await;
    let store = place.open().await;
    assert!(store.adopt_open_runs().await.unwrap() > second);
}

pub(crate) async fn acknowledged_writes_survive_reopening(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, 1..=3).await;
    let end = final_run(2, Time(50));
    write(&*store, finish(end.clone())).await.unwrap();
    let pinned = put(&*store, "pinned", FOREVER).await;
    store.close().await;
    let store = place.open().await;
    assert_eq!(stored(&*store, 1).await, text(&as_stored(&new_run(1))));
    assert_eq!(stored(&*store, 2).await, text(&as_finished(&new_run(2), &end)));
    assert_eq!(store.open_runs(None, 9).await.unwrap().len(), 2);
    assert_eq!(store.blob(pinned).await.unwrap().unwrap().inline.as_deref(), Some(b"pinned".as_slice()));
    let manifest = store.blob(end.record.result.unwrap()).await.unwrap().unwrap();
    assert_eq!(Digest::of(&manifest.inline.unwrap()), end.record.result.unwrap());
    check_references(&*store).await;
}

pub(crate) async fn the_newest_instant_is_of_any_run_and_of_its_end(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.newest_instant().await.unwrap(), Time(0));
    insert_all(&*store, [1, 2]).await;
    assert_eq!(store.newest_instant().await.unwrap(), new_run(2).created_at);
    // the older run ends last
    store.write_runs(vec![finish(canceled(1, Time(9_000_000)))].into()).await.unwrap();
    insert_all(&*store, [3]).await;
    assert_eq!(store.newest_instant().await.unwrap(), Time(9_000_000));
}
