//! The evidence log: appended, paged, counted, trimmed.

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::id::{AttemptId, WorkerId};
use crate::store::{Evidence, EvidenceRetention, Store};

fn seen(worker: u32, at: u64) -> Evidence {
    Evidence {
        worker: WorkerId(worker),
        class: digest("class"),
        kind: if at.is_multiple_of(2) { "dissented" } else { "crashed" }.to_owned(),
        attempt: AttemptId { run: run_id(at), number: 2 },
        result: at.is_multiple_of(2).then(|| digest("wrong")),
        at: Time(at),
    }
}

async fn times(store: &dyn Store, worker: u32) -> Vec<u64> {
    let evidence = store.evidence(WorkerId(worker), None, 1_000).await.unwrap();
    assert!(evidence.is_sorted_by(|newer, older| newer.0 > older.0), "positions grow with time");
    evidence.iter().map(|(_, seen)| seen.at.0).collect()
}

pub(crate) async fn evidence_is_appended_and_read_newest_first(place: &dyn Place) {
    let store = place.open().await;
    store.append_evidence(vec![seen(1, 1), seen(2, 2)]).await.unwrap();
    store.append_evidence(vec![seen(1, 3), seen(1, 4)]).await.unwrap();
    let page = async |worker, before, limit| store.evidence(WorkerId(worker), before, limit).await.unwrap();
    let of = async |worker, limit| {
        page(worker, None, limit).await.into_iter().map(|(_, seen)| seen).collect::<Vec<_>>()
    };
    assert_eq!(of(1, 9).await, [seen(1, 4), seen(1, 3), seen(1, 1)]);
    assert_eq!(of(1, 1).await, [seen(1, 4)]);
    assert_eq!(of(2, 9).await, [seen(2, 2)]);
    assert_eq!(of(3, 9).await, []);
    let first = page(1, None, 2).await;
    let rest = page(1, Some(first[1].0), 2).await;
    assert_eq!(rest.iter().map(|(_, seen)| seen.clone()).collect::<Vec<_>>(), [seen(1, 1)]);
    let counts = store.evidence_counts(WorkerId(1)).await.unwrap();
    assert_eq!(counts, [("crashed".to_owned(), 2), ("dissented".to_owned(), 1)]);
    assert_eq!(store.evidence_counts(WorkerId(3)).await.unwrap(), []);
}

pub(crate) async fn evidence_is_trimmed_from_its_old_end(place: &dyn Place) {
    let store = place.open().await;
    store.append_evidence((1..=10).map(|at| seen(1, at)).collect()).await.unwrap();
    store.append_evidence((1..=3).map(|at| seen(2, at)).collect()).await.unwrap();
    let keep = |newest, since, most| EvidenceRetention { newest, since: Time(since), most, batch_max: 100 };
    // everything is young: only what is beyond the bound goes
    assert_eq!(store.trim_evidence(keep(2, 0, 9)).await.unwrap(), 1);
    assert_eq!(times(&*store, 1).await, [10, 9, 8, 7, 6, 5, 4, 3, 2]);
    // the newest stay, however old; of the others what is young does
    assert_eq!(store.trim_evidence(keep(2, 6, 9)).await.unwrap(), 4 + 1);
    assert_eq!(times(&*store, 1).await, [10, 9, 8, 7, 6]);
    assert_eq!(times(&*store, 2).await, [3, 2], "each worker has a log of its own");
    assert_eq!(store.trim_evidence(keep(5, 99, 9)).await.unwrap(), 0);
    // in bounded pieces, the oldest first
    let piece = EvidenceRetention { batch_max: 2, ..keep(1, 99, 9) };
    assert_eq!(store.trim_evidence(piece).await.unwrap(), 2);
    assert_eq!(times(&*store, 1).await, [10, 9, 8]);
    assert_eq!(store.trim_evidence(piece).await.unwrap(), 2);
    assert_eq!(store.trim_evidence(piece).await.unwrap(), 1);
    assert_eq!(store.trim_evidence(piece).await.unwrap(), 0);
    assert_eq!((times(&*store, 1).await, times(&*store, 2).await), (vec![10], vec![3]));
}
