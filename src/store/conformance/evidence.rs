//! The evidence log: appended, paged, counted, trimmed.

use super::Place;
use super::fixtures::*;
use crate::class::{Classes, Portable};
use crate::core::{Standing, Time};
use crate::id::{AttemptId, Class, WorkerId};
use crate::store::{Enrolment, Evidence, EvidenceRetention, Store, kind};

fn seen(worker: u32, at: u64) -> Evidence {
    Evidence {
        worker: WorkerId(worker),
        class: digest("class"),
        portable: None,
        kind: if at.is_multiple_of(2) { "dissented" } else { "crashed" }.to_owned(),
        attempt: Some(AttemptId { run: run_id(at), number: 2 }),
        result: at.is_multiple_of(2).then(|| digest("wrong")),
        count: 1,
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

pub(crate) async fn the_standing_of_a_worker_is_the_fold_of_its_whole_log(place: &dyn Place) {
    const DAY: u64 = 24 * 60 * 60 * 1_000_000;
    let store = place.open().await;
    let enrolment = Enrolment {
        key: [7; 32],
        name: "ada".to_owned(),
        domain: "lab".to_owned(),
        embedded: false,
        owned: true,
        arbiter: false,
        token: None,
        at: Time(1),
    };
    let worker = store.enrol_worker(enrolment.clone()).await.unwrap();
    assert_eq!(worker.standings, [].into());
    let entry = |class: &str, kind: &str, count, at| Evidence {
        worker: worker.id,
        class: digest(class),
        kind: kind.to_owned(),
        count,
        ..seen(1, at)
    };
    let log = vec![
        entry("a", kind::CONFIRMED, 40, DAY),
        entry("a", "crashed", 1, 2 * DAY),
        entry("b", kind::CONFIRMED_BY_ARBITER, 9, 2 * DAY),
        entry("a", kind::CONFIRMED, 2, 31 * DAY),
        entry("b", kind::LONE_DISSENT, 1, 32 * DAY),
        entry("a", kind::CONFIRMED_BY_GOLDEN, 1, 33 * DAY),
    ];
    let folded = |class: &str, log: &[Evidence]| {
        let of_class = log.iter().filter(|seen| seen.class == digest(class));
        Standing::of(
            of_class.filter_map(|seen| Some((seen.at, seen.attempt.map(|it| it.run), seen.integrity()?))),
        )
    };
    store.append_evidence(log[..3].to_vec()).await.unwrap();
    store.append_evidence(log[3..].to_vec()).await.unwrap();
    let standings = async |store: &dyn Store| store.workers().await.unwrap().remove(0).standings;
    let expected = [(digest("a"), folded("a", &log)), (digest("b"), folded("b", &log))];
    assert!(expected[0].1.k_milli > 20_000 && expected[1].1.suspect_since == Some(32), "{expected:?}");
    assert_eq!(standings(&*store).await, expected.into());
    // what is trimmed is not forgotten, nor does it end with the process
    let all = EvidenceRetention { newest: 1, since: Time(99 * DAY), most: 1, batch_max: 100 };
    assert_eq!(store.trim_evidence(all).await.unwrap(), 5);
    assert_eq!(standings(&*store).await, expected.into());
    store.close().await;
    let store = place.open().await;
    assert_eq!(standings(&*store).await, expected.into());
    assert_eq!(store.enrol_worker(enrolment).await.unwrap().standings, expected.into());
    // a quarantine keeps what is known, its end makes a newcomer; to readmit one that was not out changes nothing
    assert!(store.quarantine_worker(worker.id, None, Time(50)).await.unwrap());
    assert!(store.quarantine_worker(worker.id, quarantine(1, true), Time(50)).await.unwrap());
    assert_eq!(standings(&*store).await, expected.into());
    assert!(store.quarantine_worker(worker.id, None, Time(99 * DAY)).await.unwrap());
    assert_eq!(standings(&*store).await, [].into());
    // and its log says so, in each class in which it had shown something
    let seen = store.evidence(worker.id, None, 9).await.unwrap();
    let readmitted: Vec<_> =
        seen.iter().map(|(_, seen)| seen).filter(|it| it.kind == kind::READMITTED).collect();
    assert_eq!(readmitted.len(), 2, "{seen:?}");
    for entry in &readmitted {
        assert_eq!((entry.attempt, entry.result, entry.count, entry.at), (None, None, 1, Time(99 * DAY)));
        assert_eq!(entry.integrity(), Some(crate::core::Evidence::Readmitted));
    }
    let classes: Vec<_> = readmitted.iter().map(|entry| entry.class).collect();
    assert!(classes.contains(&digest("a")) && classes.contains(&digest("b")), "{classes:?}");
    // it is read back as it was written
    store.append_evidence(vec![readmitted[0].clone()]).await.unwrap();
    assert_eq!(store.evidence(worker.id, None, 1).await.unwrap()[0].1, *readmitted[0]);
    confirmations_are_of_the_portable_classes_that_they_were_earned_with(place, store).await;
}

async fn confirmations_are_of_the_portable_classes_that_they_were_earned_with(
    place: &dyn Place,
    store: std::sync::Arc<dyn Store>,
) {
    let portable = |name: &str| Portable::alike(Class(digest(name)));
    let as_class = |name: &str| Classes { native: Class(digest("c")), portable: portable(name) };
    let entry = |portable, kind: &str, count, at| Evidence {
        worker: WorkerId(1),
        class: digest("c"),
        portable,
        kind: kind.to_owned(),
        count,
        ..seen(1, at)
    };
    let k = async |store: &dyn Store, name: &str| {
        store.workers().await.unwrap().remove(0).standing_as(as_class(name)).k_milli
    };
    store.append_evidence(vec![entry(None, kind::CONFIRMED, 5, 1)]).await.unwrap();
    assert_eq!(
        (k(&*store, "x").await, k(&*store, "y").await),
        (5_000, 5_000),
        "of before: the first that comes"
    );
    store.append_evidence(vec![entry(Some(portable("x")), kind::CONFIRMED, 2, 1)]).await.unwrap();
    assert_eq!((k(&*store, "x").await, k(&*store, "y").await), (7_000, 0));
    store.close().await;
    let store = place.open().await;
    assert_eq!((k(&*store, "x").await, k(&*store, "y").await), (7_000, 0), "also after a restart");
    let then = [
        entry(Some(portable("x")), kind::LONE_DISSENT, 1, 3),
        entry(Some(portable("y")), kind::CONFIRMED, 1, 5),
        entry(None, kind::ABSOLVED, 1, 3),
    ];
    store.append_evidence(then[..2].to_vec()).await.unwrap();
    assert_eq!((k(&*store, "x").await, k(&*store, "y").await), (0, 1_000), "it has begun anew");
    let standing = store.workers().await.unwrap().remove(0).standing_as(as_class("z"));
    assert_eq!(standing.lapses.iter().flatten().count(), 1, "but for what it did wrong");
    store.append_evidence(then[2..].to_vec()).await.unwrap();
    assert_eq!(k(&*store, "y").await, 1_000, "what is given back is not of this class");
}
