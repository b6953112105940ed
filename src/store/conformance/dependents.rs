//! Runs that have the result of another: corrected when that one is, and never without it.

use super::Place;
use super::fixtures::*;
use super::repairs::{correction, figures, finished, suspicion, worker};
use crate::core::{Explained, Final, Time};
use crate::digest::Digest;
use crate::id::RunId;
use crate::spec::{Callback, Policy};
use crate::store::{FinalRun, Looked, NewRun, Retained, Retention, Source, Store, StoredRun, WriteAnswer};

/// Run `number` with a result that another computed.
fn answered(number: u64, source: Source, of: &StoredRun) -> FinalRun {
    let end = final_run(number, Time(50 + number));
    FinalRun {
        record: Final {
            state: of.state,
            reason: of.reason,
            outcome: of.outcome.clone(),
            verdict: of.verdict.clone(),
            result: of.result,
            attempts: vec![],
            explain: std::sync::Arc::new(vec![Explained::kept(Time(3), "answered")]),
            ..end.record
        },
        manifest: of.manifest.clone(),
        blobs: vec![],
        dissents: vec![],
        votes: vec![],
        source: Some(source),
        ..end
    }
}

async fn answer(store: &dyn Store, number: u64, source: Source, of: &StoredRun) {
    let writes = vec![insert(new_run(number)), finish(answered(number, source, of))];
    assert_eq!(store.write_runs(writes.into()).await.unwrap(), vec![WriteAnswer::Committed; 2]);
}

async fn read(store: &dyn Store, number: u64) -> StoredRun {
    store.run(run_id(number)).await.unwrap().unwrap()
}

/// Pages of that length until nothing is left: which runs each corrected.
async fn followed(store: &dyn Store, at: u64, limit: u32) -> Vec<RunId> {
    let mut all = Vec::new();
    loop {
        let page = store.follow_corrections(Time(at), limit, u32::MAX).await.unwrap();
        assert!(page.corrected.len() <= limit as usize);
        for run in &page.corrected {
            let stored = store.run(run.id).await.unwrap().unwrap();
            assert_eq!(text(run), text(&stored), "what is told is what is stored");
            all.push(run.id);
        }
        if !page.has_more {
            return all;
        }
    }
}

pub(crate) async fn a_correction_reaches_every_run_that_has_the_result_over_a_restart(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1, 9]).await;
    let first = read(&*store, 1).await;
    for number in [2, 3, 4] {
        answer(&*store, number, Source::Cached(run_id(1)), &first).await;
    }
    // one that has to be told of, one that shared, and one whose source is another
    let callback = Callback { url: "https://example.org/hook".into() };
    let told =
        NewRun { policy: Policy { callback: Some(callback.clone()), ..new_run(5).policy }, ..new_run(5) };
    let end = FinalRun { callback: Some(callback), ..answered(5, Source::Shared(run_id(1)), &first) };
    store.write_runs(vec![insert(told), finish(end)].into()).await.unwrap();
    let ninth = read(&*store, 9).await;
    answer(&*store, 6, Source::Cached(run_id(9)), &ninth).await;
    assert!(followed(&*store, 89, 9).await.is_empty(), "nothing was corrected");
    let before = [2, 5, 6, 9].map(run_id);
    let mut was = Vec::new();
    for id in before {
        was.push(store.run(id).await.unwrap().unwrap());
    }

    // on account of a worker
    let liar = worker(&*store, 1).await;
    assert!(store.quarantine_worker(liar, quarantine(60, true), Time(60)).await.unwrap());
    let suspects = vec![suspicion(1, 5, 51)];
    let looked = Looked { since: Time(60), after: 0, count: 1, cursor: 1, is_complete: true, suspects };
    assert!(store.put_suspects(liar, looked).await.unwrap());
    assert_eq!(write(&*store, correct(correction(1, 2, 90))).await.unwrap(), WriteAnswer::Committed);
    let right = read(&*store, 1).await;
    let page = store.follow_corrections(Time(91), 1, u32::MAX).await.unwrap();
    assert_eq!((page.corrected.len(), page.has_more), (1, true));
    let halfway = figures(&*store, liar).await;
    assert_eq!((halfway.corrected, halfway.dependents, halfway.is_followed), (1, 1, false));
    store.close().await;

    let store = place.open().await;
    assert_eq!(followed(&*store, 92, 2).await, [3, 4, 5].map(run_id));
    assert!(followed(&*store, 93, 2).await.is_empty());
    let done = figures(&*store, liar).await;
    assert_eq!((done.corrected, done.dependents, done.is_followed), (1, 4, true));
    let (second, fifth) = (read(&*store, 2).await, read(&*store, 5).await);
    for (run, was) in [(&second, &was[0]), (&fifth, &was[1])] {
        assert_eq!((run.revision, run.state, run.reason), (2, right.state, right.reason));
        assert_eq!(
            (run.result, &run.manifest, &run.verdict),
            (right.result, &right.manifest, &right.verdict)
        );
        assert_eq!((run.source, run.finished_at), (was.source, was.finished_at), "when it ended stays");
        assert!(run.attempts.is_empty() && run.explain[0].text().contains(&run_id(1).to_string()));
        let revisions = store.revisions(run.id).await.unwrap();
        assert_eq!(text(&revisions[0]), text(was));
        assert_eq!(text(&revisions[1]), text(run));
    }
    assert_eq!((second.corrected_at, fifth.corrected_at), (Some(Time(91)), Some(Time(92))));
    for (id, was) in before.into_iter().zip(&was).skip(2) {
        assert_eq!(text(&store.run(id).await.unwrap().unwrap()), text(was), "it has nothing to do with it");
    }
    let told: Vec<_> = store.callbacks(run_id(5)).await.unwrap().iter().map(|it| it.id.revision).collect();
    assert_eq!(told, [1, 2]);
    // each refers to the outputs of both of its revisions
    check_references(&*store).await;
    assert_eq!(store.take_garbage(FOREVER, 99).await.unwrap().taken, 0);
}

pub(crate) async fn who_comes_after_a_correction_is_corrected_if_its_result_is_of_before(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1]).await;
    let first = read(&*store, 1).await;
    insert_all(&*store, [2]).await;
    answer(&*store, 3, Source::Cached(run_id(1)), &first).await;
    assert_eq!(write(&*store, correct(correction(1, 2, 90))).await.unwrap(), WriteAnswer::Committed);
    let right = read(&*store, 1).await;
    assert_eq!(followed(&*store, 91, 9).await, [run_id(3)]);
    // they were on their way when it was corrected; one has what is right
    answer(&*store, 4, Source::Cached(run_id(1)), &first).await;
    answer(&*store, 5, Source::Cached(run_id(1)), &right).await;
    let late = finish(answered(2, Source::Shared(run_id(1)), &first));
    assert_eq!(write(&*store, late).await.unwrap(), WriteAnswer::Committed);
    store.close().await;
    let store = place.open().await;
    assert_eq!(followed(&*store, 92, 1).await, [2, 4].map(run_id));
    for (number, revision) in [(2, 2), (3, 2), (4, 2), (5, 1)] {
        let run = read(&*store, number).await;
        assert_eq!((run.revision, run.result), (revision, right.result), "run {number}");
    }
    // it is corrected with the run that computed it, and only so
    assert_eq!(write(&*store, correct(correction(3, 3, 95))).await.unwrap(), WriteAnswer::Refused);
    // and answers nobody itself
    let hit = vec![insert(new_run(6)), finish(answered(6, Source::Cached(run_id(3)), &right))];
    let answers = store.write_runs(hit.into()).await.unwrap();
    assert_eq!(answers, [WriteAnswer::Committed, WriteAnswer::MissingBlob(right.result.unwrap())]);
    check_references(&*store).await;
}

pub(crate) async fn nothing_has_the_result_of_a_run_that_is_not_there(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1]).await;
    let first = read(&*store, 1).await;
    insert_all(&*store, [2, 3]).await;
    // what leads was refused, or has not ended: no votes are stored for it
    for leader in [8, 3] {
        let follows = finish(answered(2, Source::Shared(run_id(leader)), &first));
        assert_eq!(write(&*store, follows).await.unwrap(), WriteAnswer::MissingBlob(first.result.unwrap()));
        let open = read(&*store, 2).await;
        assert!(!open.state.is_final() && open.result.is_none(), "it may still be executed itself");
    }
    check_references(&*store).await;
    assert_eq!(write(&*store, finish(final_run(2, Time(70)))).await.unwrap(), WriteAnswer::Committed);
    let hit = vec![insert(new_run(4)), finish(answered(4, Source::Cached(run_id(8)), &first))];
    let answers = store.write_runs(hit.into()).await.unwrap();
    assert_eq!(answers, [WriteAnswer::Committed, WriteAnswer::MissingBlob(first.result.unwrap())]);
    assert!(store.run(run_id(4)).await.unwrap().is_none(), "a hit is executed by nobody");
    check_references(&*store).await;
}

pub(crate) async fn every_further_correction_reaches_them_again(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1]).await;
    let first = read(&*store, 1).await;
    for number in [2, 3] {
        answer(&*store, number, Source::Shared(run_id(1)), &first).await;
    }
    assert_eq!(write(&*store, correct(correction(1, 2, 90))).await.unwrap(), WriteAnswer::Committed);
    // one of them has heard of the second revision when the third comes
    let page = store.follow_corrections(Time(91), 1, u32::MAX).await.unwrap();
    assert_eq!((page.corrected.len(), page.has_more), (1, true));
    assert_eq!(write(&*store, correct(correction(1, 3, 95))).await.unwrap(), WriteAnswer::Committed);
    assert_eq!(followed(&*store, 96, 1).await, [2, 3].map(run_id));
    let third = read(&*store, 1).await;
    for (number, revision) in [(2, 3), (3, 2)] {
        let run = read(&*store, number).await;
        assert_eq!((run.revision, run.result), (revision, third.result), "run {number}");
        let all = store.revisions(run.id).await.unwrap();
        let results: Vec<Option<Digest>> = all.iter().map(|run| run.result).collect();
        assert_eq!((results.len() as u32, results[0]), (revision, first.result));
        assert!(results.iter().is_sorted_by(|one, other| one != other));
    }
    check_references(&*store).await;
}

pub(crate) async fn deliveries_end_a_page_and_runs_that_nobody_hears_of_do_not(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1]).await;
    let first = read(&*store, 1).await;
    let callback = Callback { url: "https://example.org/hook".into() };
    for number in 2..=9 {
        if [3, 5, 6, 9].contains(&number) {
            let policy = Policy { callback: Some(callback.clone()), ..new_run(number).policy };
            let told = NewRun { policy, ..new_run(number) };
            let end = FinalRun {
                callback: Some(callback.clone()),
                ..answered(number, Source::Cached(run_id(1)), &first)
            };
            store.write_runs(vec![insert(told), finish(end)].into()).await.unwrap();
        } else {
            answer(&*store, number, Source::Cached(run_id(1)), &first).await;
        }
    }
    assert_eq!(write(&*store, correct(correction(1, 2, 90))).await.unwrap(), WriteAnswer::Committed);
    // the second delivery ends a page, and so does what is looked at
    for (limit, corrected, has_more) in
        [(99, &[2, 3, 4, 5][..], true), (2, &[6, 7], true), (99, &[8, 9], false), (99, &[], false)]
    {
        let page = store.follow_corrections(Time(91), limit, 2).await.unwrap();
        let ids: Vec<_> = page.corrected.iter().map(|run| run.id).collect();
        assert_eq!(ids, corrected.iter().map(|number| run_id(*number)).collect::<Vec<_>>());
        assert_eq!(page.has_more, has_more);
    }
}

pub(crate) async fn what_computed_a_result_stays_as_long_as_a_run_that_has_it(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1, 2]).await;
    let first = read(&*store, 1).await;
    for number in [3, 4] {
        answer(&*store, number, Source::Cached(run_id(1)), &first).await;
    }
    let older = |at| Retention { finished_before: Time(at), runs_max: u64::MAX, batch_max: 9 };
    assert_eq!(store.retain(older(53)).await.unwrap().gone, [run_id(2)]);
    assert_eq!(text(&read(&*store, 1).await), text(&first));
    assert!(store.retain(older(53)).await.unwrap().gone.is_empty());
    assert_eq!(store.outlook(older(53)).await.unwrap().due, 0, "it is in nobody's way");
    store.close().await;
    // so it may still be corrected, and whoever has its result with it
    let store = place.open().await;
    assert_eq!(write(&*store, correct(correction(1, 2, 90))).await.unwrap(), WriteAnswer::Committed);
    assert_eq!(followed(&*store, 91, 9).await, [3, 4].map(run_id));
    let newest = Retention { finished_before: Time(0), runs_max: 1, batch_max: 1 };
    assert_eq!(store.retain(newest).await.unwrap().gone, [run_id(3)]);
    assert!(store.retain(newest).await.unwrap().gone.is_empty(), "it is not one of those that are counted");
    check_references(&*store).await;
    // the last one takes it along
    assert_eq!(store.retain(older(99)).await.unwrap().gone, [4, 1].map(run_id));
    check_references(&*store).await;
    store.take_garbage(FOREVER, 99).await.unwrap();
    assert_eq!((store.usage().await.unwrap().runs, store.usage().await.unwrap().blobs), (0, 0));
    // the next run with its row has nothing to do with it
    finished(&*store, [5]).await;
    assert!(!store.follow_corrections(Time(99), 9, 9).await.unwrap().has_more);
    assert_eq!(store.retain(older(99)).await.unwrap().gone, [run_id(5)]);
}

pub(crate) async fn more_that_are_held_than_are_looked_at_at_once_keep_nothing_behind_them(
    place: &dyn Place,
) {
    let store = place.open().await;
    let (batch_max, sources) = (2, 1..=5);
    finished(&*store, sources.clone()).await;
    finished(&*store, [6]).await;
    for number in sources {
        let source = read(&*store, number).await;
        answer(&*store, 10 + number, Source::Cached(run_id(number)), &source).await;
    }
    // the sources and the one behind them, not the answers
    let older = Retention { finished_before: Time(60), runs_max: u64::MAX, batch_max };
    let outlook = async || store.outlook(older).await.unwrap().due;
    assert_eq!(outlook().await, 6, "at most");
    let mut rounds = Vec::new();
    loop {
        let retained = store.retain(older).await.unwrap();
        if retained.looked_at == 0 {
            assert_eq!(retained, Retained::default());
            break;
        }
        rounds.push((retained.gone, retained.looked_at));
    }
    assert_eq!(rounds, [(vec![], 2), (vec![], 2), (vec![run_id(6)], 2)]);
    assert_eq!(outlook().await, 0);
    check_references(&*store).await;
}
