//! The outbox: made with the final, due, tried, given up, asked for again, gone with the run.

use std::collections::BTreeMap;

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::id::WorkspaceId;
use crate::spec::Callback;
use crate::store::{
    CallbackId, Delivery, DeliveryState, FinalRun, OutboxLimits, Receivers, Retention, RunWrite,
    SkippedCallbacks, Store, Tried, WriteAnswer,
};

fn told(number: u64, at: Time, url: &str) -> RunWrite {
    finish(FinalRun { callback: Some(Callback { url: url.into() }), ..canceled(number, at) })
}

fn id(number: u64) -> CallbackId {
    CallbackId { run: run_id(number), revision: 1 }
}

fn failed(at: u64, next_at: Option<u64>) -> Tried {
    Tried {
        at: Time(at),
        status: Some(500),
        error: Some("it is broken".to_owned()),
        next_at: next_at.map(Time),
    }
}

async fn only(store: &dyn Store, number: u64) -> Delivery {
    let mut deliveries = store.callbacks(run_id(number)).await.unwrap();
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    deliveries.remove(0)
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn limits(due: u32) -> OutboxLimits {
    OutboxLimits { due, per_receiver: 4, full: 99 }
}

fn pending(count: u64) -> BTreeMap<WorkspaceId, u64> {
    [(new_run(1).workspace, count)].into()
}

async fn due(store: &dyn Store, now: u64) -> Vec<CallbackId> {
    let found = store.due_callbacks(Time(now), SkippedCallbacks::default(), limits(9)).await.unwrap();
    found.due.into_iter().map(|delivery| delivery.id).collect()
}

pub(crate) async fn a_delivery_is_made_with_its_final_and_only_with_it(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1, 2]).await;
    assert_eq!(due(&*store, 99).await, []);
    // one that was there, one that is inserted and finished in one batch, one that nobody wants to be told of
    let whole = vec![
        told(1, Time(5), "https://a.example:8443/x?y"),
        finish(canceled(2, Time(6))),
        insert(new_run(3)),
        told(3, Time(7), "http://b.example"),
    ];
    assert!(store.write_runs(whole.into()).await.unwrap().iter().all(|it| *it == WriteAnswer::Committed));
    assert_eq!(due(&*store, 6).await, [id(1)]);
    assert_eq!(due(&*store, 7).await, [id(1), id(3)]);
    let first = Delivery {
        id: id(1),
        url: "https://a.example:8443/x?y".into(),
        receiver: "a.example:8443".to_owned(),
        state: DeliveryState::Pending,
        created_at: Time(5),
        since: Time(5),
        tries: 0,
        last_at: None,
        last_status: None,
        last_error: None,
        next_at: Some(Time(5)),
    };
    assert_eq!(only(&*store, 1).await, first);
    assert_eq!(only(&*store, 3).await.receiver, "b.example");
    assert_eq!(store.callbacks(run_id(2)).await.unwrap(), []);
    assert_eq!(store.callbacks(run_id(99)).await.unwrap(), []);
    // a final that is refused tells nobody
    assert_eq!(write(&*store, told(1, Time(9), "https://c.example")).await.unwrap(), WriteAnswer::Refused);
    assert_eq!(only(&*store, 1).await, first);
    store.close().await;
    let store = place.open().await;
    assert_eq!(due(&*store, 9).await, [id(1), id(3)]);
}

pub(crate) async fn a_delivery_is_due_until_it_succeeds_or_is_given_up(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1, 2, 3]).await;
    let all = (1..=3).map(|number| told(number, Time(number), &format!("https://r{number}.example/")));
    store.write_runs(all.collect::<Vec<_>>().into()).await.unwrap();
    let found = store.due_callbacks(Time(2), SkippedCallbacks::default(), limits(1)).await.unwrap();
    assert_eq!((found.due.len(), found.next_at, found.pending), (1, Some(Time(3)), pending(3)));
    // what is on its way, and whoever has all of its places, is left out
    let skip = SkippedCallbacks { ids: vec![id(1)], receivers: Receivers::AllBut(named(&["r2.example"])) };
    let found = store.due_callbacks(Time(9), skip, limits(9)).await.unwrap();
    assert_eq!(found.due.iter().map(|it| it.id).collect::<Vec<_>>(), [id(3)]);
    assert_eq!((found.next_at, found.pending), (None, pending(3)));
    let among =
        |names: &[&str]| SkippedCallbacks { ids: vec![id(1)], receivers: Receivers::Only(named(names)) };
    let names = ["r3.example", "r1.example", "r2.example", "r4.example"];
    let found = store.due_callbacks(Time(9), among(&names), limits(9)).await.unwrap();
    assert_eq!(found.due.iter().map(|it| it.id).collect::<Vec<_>>(), [id(2), id(3)], "in their turn");
    let found = store.due_callbacks(Time(2), among(&names[..3]), limits(9)).await.unwrap();
    assert_eq!(found.due.iter().map(|it| it.id).collect::<Vec<_>>(), [id(2)]);
    let found = store.due_callbacks(Time(9), among(&[]), limits(9)).await.unwrap();
    assert_eq!((found.due.len(), found.pending), (0, pending(3)));

    assert!(store.callback_tried(id(1), 0, failed(10, Some(20))).await.unwrap());
    assert!(!store.callback_tried(id(1), 0, failed(11, Some(12))).await.unwrap(), "that try is told already");
    assert_eq!(due(&*store, 15).await, [id(2), id(3)]);
    assert_eq!(due(&*store, 20).await, [id(2), id(3), id(1)]);
    let tried = only(&*store, 1).await;
    assert_eq!((tried.state, tried.tries, tried.next_at), (DeliveryState::Pending, 1, Some(Time(20))));
    assert_eq!((tried.last_at, tried.last_status), (Some(Time(10)), Some(500)));
    assert_eq!(tried.last_error.as_deref(), Some("it is broken"));

    let delivered = Tried { at: Time(21), status: Some(204), error: None, next_at: None };
    assert!(store.callback_tried(id(1), 1, delivered.clone()).await.unwrap());
    assert!(store.callback_tried(id(2), 0, failed(22, None)).await.unwrap());
    assert!(!store.callback_tried(id(1), 2, delivered.clone()).await.unwrap());
    assert!(!store.callback_tried(id(99), 0, delivered).await.unwrap());
    let (first, second) = (only(&*store, 1).await, only(&*store, 2).await);
    assert_eq!((first.state, first.tries, first.last_error), (DeliveryState::Delivered, 2, None));
    assert_eq!((second.state, second.next_at), (DeliveryState::GivenUp, None));
    assert_eq!(due(&*store, 99).await, [id(3)]);
    let tried = [("r2.example".to_owned(), false), ("r1.example".to_owned(), true)];
    assert_eq!(store.tried_receivers(9, 9).await.unwrap(), tried, "the latest first");
    assert_eq!(store.tried_receivers(1, 9).await.unwrap(), tried[..1]);
    assert_eq!(store.tried_receivers(9, 2).await.unwrap(), tried[..1], "of those that were made last");

    // asked for again, whatever became of it: a try of before says nothing of it any more
    assert!(store.redeliver_callback(run_id(2), None, Time(30)).await.unwrap());
    assert!(store.redeliver_callback(run_id(3), Some(1), Time(31)).await.unwrap());
    assert!(!store.redeliver_callback(run_id(3), Some(2), Time(31)).await.unwrap());
    assert!(!store.redeliver_callback(run_id(99), None, Time(31)).await.unwrap());
    let again = only(&*store, 2).await;
    assert_eq!((again.state, again.tries, again.since), (DeliveryState::Pending, 0, Time(30)));
    assert_eq!(again.created_at, Time(2));
    assert!(store.redeliver_callback(run_id(1), None, Time(50)).await.unwrap());
    assert_eq!(store.tried_receivers(9, 9).await.unwrap(), tried, "how it went stays what is known of it");
    assert_eq!(due(&*store, 40).await, [id(2), id(3)]);
}

pub(crate) async fn a_correction_makes_a_delivery_of_its_own(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1]).await;
    assert_eq!(write(&*store, told(1, Time(5), "https://a.example")).await.unwrap(), WriteAnswer::Committed);
    let mut second =
        FinalRun { callback: Some(Callback { url: "https://a.example".into() }), ..canceled(1, Time(77)) };
    second.record.revision = 2;
    assert_eq!(write(&*store, correct(second.clone())).await.unwrap(), WriteAnswer::Committed);
    // refused the second time, which tells nobody again
    assert_eq!(write(&*store, correct(second)).await.unwrap(), WriteAnswer::Refused);
    let both = store.callbacks(run_id(1)).await.unwrap();
    let seen: Vec<_> = both.iter().map(|one| (one.id.revision, one.created_at, one.next_at)).collect();
    assert_eq!(seen, [(1, Time(5), Some(Time(5))), (2, Time(77), Some(Time(77)))]);
    assert!(store.redeliver_callback(run_id(1), None, Time(90)).await.unwrap());
    // the newest, if none is named; it was pending, so it is only due at another time
    let newest = store.callbacks(run_id(1)).await.unwrap().pop().unwrap();
    assert_eq!((newest.since, newest.next_at), (Time(77), Some(Time(90))));
}

pub(crate) async fn a_delivery_goes_with_its_run(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1, 2]).await;
    let both = vec![told(1, Time(5), "https://a.example"), told(2, Time(6), "https://a.example")];
    store.write_runs(both.into()).await.unwrap();
    let retention = Retention { finished_before: Time(6), runs_max: 9, batch_max: 9 };
    assert_eq!(store.retain(retention).await.unwrap().gone.len(), 1);
    assert_eq!(due(&*store, 99).await, [id(2)]);
    assert_eq!(store.callbacks(run_id(1)).await.unwrap(), []);
    // a row that is used again does not inherit one
    insert_all(&*store, [7]).await;
    store.write_runs(vec![finish(canceled(7, Time(8)))].into()).await.unwrap();
    assert_eq!(store.callbacks(run_id(7)).await.unwrap(), []);
}
