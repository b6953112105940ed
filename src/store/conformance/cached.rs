//! What may answer equal runs: which finals are found again, and that withdrawals stay.

use std::sync::Arc;

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::id::{Class, WorkerId, WorkspaceId};
use crate::store::{FinalRun, Retention, Source, Withdrawal, WriteAnswer};

pub(crate) async fn finals_that_may_answer_others_are_found_newest_first(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, 1..=5).await;
    let reusable = |number, at| FinalRun { reusable: true, ..final_run(number, Time(at)) };
    let copy = |number, source| FinalRun {
        source: Some(source),
        votes: vec![],
        blobs: vec![],
        dissents: vec![],
        ..final_run(number, Time(70))
    };
    let [first, fourth] = [(1, 60), (4, 50)].map(|(number, at)| reusable(number, at));
    // the same result as the first one
    let same = |run: FinalRun| {
        let mut run = run;
        run.record.result = first.record.result;
        run.manifest.clone_from(&first.manifest);
        run
    };
    let cached = same(copy(2, Source::Cached(run_id(1))));
    let shared = same(copy(3, Source::Shared(run_id(1))));
    let unverified = final_run(5, Time(80));
    let finals = [first.clone(), fourth.clone(), cached, shared, unverified].map(finish);
    let answers = store.write_runs(Arc::new(finals.into())).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == WriteAnswer::Committed), "{answers:?}");

    let found = store.reusable(None, 10).await.unwrap();
    let ids: Vec<_> = found.iter().map(|(run, _)| run.id).collect();
    assert_eq!(ids, [run_id(4), run_id(1)]);
    assert_eq!(found[1].1, first.votes);
    assert_eq!(found[1].0.result, first.record.result);
    assert_eq!(store.reusable(Some(run_id(4)), 10).await.unwrap().len(), 1);
    assert_eq!(store.reusable(None, 1).await.unwrap().len(), 1);

    assert_eq!(store.run(run_id(2)).await.unwrap().unwrap().source, Some(Source::Cached(run_id(1))));
    assert_eq!(store.run(run_id(3)).await.unwrap().unwrap().source, Some(Source::Shared(run_id(1))));
    assert_eq!(store.run(run_id(1)).await.unwrap().unwrap().source, None);
    check_references(&*store).await;

    // what was corrected answers nobody any more
    insert_all(&*store, [6]).await;
    let mut sixth = FinalRun { reusable: true, ..final_run(6, Time(90)) };
    write(&*store, finish(sixth.clone())).await.unwrap();
    assert_eq!(store.reusable(None, 1).await.unwrap()[0].0.id, run_id(6));
    (sixth.record.revision, sixth.reusable) = (2, false);
    assert_eq!(write(&*store, correct(sixth)).await.unwrap(), WriteAnswer::Committed);
    assert_eq!(store.reusable(None, 1).await.unwrap()[0].0.id, run_id(4));

    // what goes is named; what others were answered with stays, and may answer further ones
    let one = Retention { finished_before: Time(61), runs_max: u64::MAX, batch_max: 10 };
    assert_eq!(store.retain(one).await.unwrap().gone, [run_id(4)]);
    assert_eq!(store.reusable(None, 10).await.unwrap().len(), 1);
    store.take_garbage(FOREVER, 99).await.unwrap();
    let stdout = first.manifest.unwrap().stdout.digest;
    assert!(store.blob(stdout).await.unwrap().is_some());
    check_references(&*store).await;
}

pub(crate) async fn an_answer_from_the_cache_is_there_with_its_result_or_not_at_all(place: &dyn Place) {
    let store = place.open().await;
    let finish_of = |number| {
        let last = final_run(number, Time(70));
        finish(FinalRun {
            source: Some(Source::Cached(run_id(1))),
            votes: vec![],
            blobs: vec![],
            dissents: vec![],
            ..last
        })
    };
    // in one write, and in two
    for (number, at_once) in [(2, true), (3, false)] {
        let writes = vec![insert(new_run(number)), finish_of(number)];
        let answers = match at_once {
            true => store.write_runs(Arc::new(writes)).await.unwrap(),
            false => {
                let mut answers = Vec::new();
                for write in writes {
                    answers.extend(store.write_runs(Arc::new(vec![write])).await.unwrap());
                    store.recount_references().await.unwrap();
                }
                answers
            }
        };
        assert!(matches!(answers[..], [WriteAnswer::Committed, WriteAnswer::MissingBlob(_)]), "{answers:?}");
        assert!(store.run(run_id(number)).await.unwrap().is_none());
        check_references(&*store).await;
        // nothing is in the way of the run that is executed instead
        let again = store.write_runs(Arc::new(vec![insert(new_run(number))])).await.unwrap();
        assert_eq!(again, [WriteAnswer::Committed]);
    }
    check_references(&*store).await;
}

pub(crate) async fn withdrawals_are_kept_until_everything_is_withdrawn(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.withdrawals().await.unwrap(), []);
    let full = Withdrawal {
        workspace: Some(WorkspaceId(3)),
        run: Some(run_id(1)),
        worker: Some(WorkerId(7)),
        alone: true,
        class: Some(Class(digest("class"))),
        module: Some(digest("module")),
        after: Some(Time(1)),
        before: Some(Time(2)),
        until: Time(10),
    };
    let of_worker = Withdrawal::of_worker(WorkerId(1), Time(30));
    store.put_withdrawal(full).await.unwrap();
    store.put_withdrawal(of_worker).await.unwrap();
    store.close().await;
    let store = place.open().await;
    assert_eq!(store.withdrawals().await.unwrap(), [full, of_worker]);
    // said again, it is one rule; what it contains goes, what asks for less stays
    let word = |worker, until| Withdrawal::of_its_word(WorkerId(worker), Time(until));
    for until in 31..50 {
        store.put_withdrawal(word(2, until)).await.unwrap();
        store.put_withdrawal(word(7, until)).await.unwrap();
    }
    assert_eq!(store.withdrawals().await.unwrap(), [of_worker, word(2, 49), word(7, 49)]);
    let whole = Withdrawal::of_worker(WorkerId(2), Time(60));
    store.put_withdrawal(whole).await.unwrap();
    store.put_withdrawal(word(2, 70)).await.unwrap();
    assert_eq!(store.withdrawals().await.unwrap(), [of_worker, word(7, 49), whole, word(2, 70)]);
    store.put_withdrawal(Withdrawal::everything(Time(29))).await.unwrap();
    store.put_withdrawal(Withdrawal::everything(Time(80))).await.unwrap();
    store.put_withdrawal(of_worker).await.unwrap();
    let all = Withdrawal::everything(Time(20));
    store.put_withdrawal(all).await.unwrap();
    assert_eq!(store.withdrawals().await.unwrap(), [Withdrawal::everything(Time(80)), of_worker, all]);
}
