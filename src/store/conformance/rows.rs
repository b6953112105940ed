//! Modules, tokens, workers, evidence, named values, and figures.

use std::sync::Arc;

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::id::{AttemptId, WorkerId, WorkspaceId};
use crate::store::{
    Evidence, ModuleState, Retention, StoreError, StoredModule, TokenRow, Usage, WriteAnswer,
};

fn module(name: &str, at: u64) -> StoredModule {
    StoredModule {
        digest: digest(name),
        size: name.len() as u64,
        name: Some(name.to_owned()),
        state: ModuleState::Analysed,
        analysis: Some("{}".to_owned()),
        refusal: None,
        quarantined: None,
        created_at: Time(at),
    }
}

fn text(module: &StoredModule) -> String {
    format!("{module:?}")
}

pub(crate) async fn modules_are_put_changed_quarantined_listed_and_deleted(place: &dyn Place) {
    let store = place.open().await;
    for (name, at) in [("a", 1), ("b", 2), ("c", 3), ("d", 3)] {
        put(&*store, name, Time(0)).await;
        store.put_module(module(name, at)).await.unwrap();
    }
    let read = async |name| store.module(digest(name)).await.unwrap();
    assert_eq!(text(&read("a").await.unwrap()), text(&module("a", 1)));
    assert!(read("absent").await.is_none());

    assert!(store.quarantine_module(digest("a"), Some("it kills runners".to_owned())).await.unwrap());
    assert!(!store.quarantine_module(digest("absent"), None).await.unwrap());
    let mut changed = module("a", 77);
    changed.state = ModuleState::Refused;
    changed.refusal = Some(("compile_bomb".to_owned(), "too large".to_owned()));
    changed.name = None;
    changed.analysis = None;
    store.put_module(changed.clone()).await.unwrap();
    // a change keeps the quarantine and the time of the first upload
    changed.created_at = Time(1);
    changed.quarantined = Some("it kills runners".to_owned());
    assert_eq!(text(&read("a").await.unwrap()), text(&changed));
    assert!(store.quarantine_module(digest("a"), None).await.unwrap());
    assert_eq!(read("a").await.unwrap().quarantined, None);
    for state in [ModuleState::Compiling, ModuleState::Ready] {
        store.put_module(StoredModule { state, ..module("b", 2) }).await.unwrap();
        assert_eq!(read("b").await.unwrap().state, state);
    }

    // a long analysis is whole where one module is read, and short in lists
    let exports = vec!["x"; 40_000];
    let whole = serde_json::json!({"exports": exports, "imports": exports, "kind": "command"}).to_string();
    store.put_module(StoredModule { analysis: Some(whole.clone()), ..module("d", 3) }).await.unwrap();
    assert!(read("d").await.unwrap().analysis == Some(whole));
    let listed = store.modules(None, 10).await.unwrap();
    let analysis =
        |name| listed.iter().find(|it| it.digest == digest(name)).unwrap().analysis.clone().unwrap();
    let short: serde_json::Value = serde_json::from_str(&analysis("d")).unwrap();
    assert_eq!(short, serde_json::json!({"exports": [], "imports": [], "kind": "command"}));
    assert_eq!(analysis("c"), "{}");

    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.modules(cursor, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        cursor = Some(last.digest);
        seen.extend(page.into_iter().map(|module| (module.created_at.0, module.digest)));
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first");

    assert_eq!(store.delete_module(digest("a")).await.unwrap(), WriteAnswer::Committed);
    assert_eq!(store.delete_module(digest("a")).await.unwrap(), WriteAnswer::Committed);
    assert!(read("a").await.is_none());
    check_references(&*store).await;
}

pub(crate) async fn a_module_of_an_open_run_stays(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1, 2]).await;
    store.put_module(module("module", 1)).await.unwrap();
    store.write_runs(vec![finish(final_run(1, Time(5)))].into()).await.unwrap();
    assert_eq!(store.delete_module(digest("module")).await.unwrap(), WriteAnswer::Refused);
    assert!(store.module(digest("module")).await.unwrap().is_some());
    store.write_runs(vec![finish(canceled(2, Time(6)))].into()).await.unwrap();
    assert_eq!(store.delete_module(digest("module")).await.unwrap(), WriteAnswer::Committed);
    // the runs still refer to its blob
    assert_eq!(store.take_garbage(FOREVER, 9).await.unwrap().taken, 0);
    check_references(&*store).await;
}

pub(crate) async fn a_module_holds_its_blob(place: &dyn Place) {
    let store = place.open().await;
    let refused = store.put_module(module("module", 1)).await;
    assert!(matches!(refused, Err(StoreError::MissingBlob(blob)) if blob == digest("module")), "{refused:?}");
    assert!(store.module(digest("module")).await.unwrap().is_none());
    put(&*store, "module", Time(0)).await;
    store.put_module(module("module", 1)).await.unwrap();
    store.put_module(module("module", 1)).await.unwrap();
    check_references(&*store).await;
    assert_eq!(store.take_garbage(FOREVER, 9).await.unwrap().taken, 0);
    store.delete_module(digest("module")).await.unwrap();
    check_references(&*store).await;
    assert_eq!(store.take_garbage(FOREVER, 9).await.unwrap().taken, 1);
}

pub(crate) async fn tokens_are_found_by_their_hash_until_deleted(place: &dyn Place) {
    let store = place.open().await;
    let token = |name: &str| TokenRow {
        id: 0,
        hash: digest(name),
        name: name.to_owned(),
        workspace: WorkspaceId(3),
        scopes: vec!["admin".to_owned(), "read".to_owned()],
        created_at: Time(4),
        expires_at: (name == "b").then_some(Time(5)),
    };
    let a = store.put_token(token("a")).await.unwrap();
    let b = store.put_token(token("b")).await.unwrap();
    assert_eq!(b, TokenRow { id: b.id, ..token("b") });
    assert_eq!(store.token(digest("b")).await.unwrap(), Some(b.clone()));
    assert_eq!(store.token(digest("c")).await.unwrap(), None);
    assert_eq!(store.tokens().await.unwrap(), [a.clone(), b.clone()]);
    assert_eq!(store.put_token(token("b")).await.unwrap(), b, "the same token is the same row");
    assert!(store.delete_token(b.id).await.unwrap());
    assert!(!store.delete_token(b.id).await.unwrap());
    assert_eq!(store.token(digest("b")).await.unwrap(), None);
    let c = store.put_token(token("c")).await.unwrap();
    assert!(c.id > b.id, "a revoked number is never given again");
}

pub(crate) async fn workers_are_enrolled_once_per_key(place: &dyn Place) {
    let store = place.open().await;
    let racers: Vec<_> = (0..8)
        .map(|racer: u64| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let key = [u8::try_from(racer % 2).unwrap(); 32];
                store.enrol_worker(key, "name", "domain", Time(racer)).await.unwrap()
            })
        })
        .collect();
    let mut enrolled = Vec::new();
    for racer in racers {
        enrolled.push(racer.await.unwrap());
    }
    let workers = store.workers().await.unwrap();
    assert_eq!(workers.len(), 2);
    assert_ne!(workers[0].id, workers[1].id);
    assert!(enrolled.iter().all(|worker| workers.contains(worker)));
    assert!(store.quarantine_worker(workers[0].id, Some("lied".to_owned())).await.unwrap());
    assert!(!store.quarantine_worker(WorkerId(99), None).await.unwrap());
    let again = store.enrol_worker(workers[0].key, "other", "other", Time(99)).await.unwrap();
    assert_eq!(again.quarantined.as_deref(), Some("lied"), "enrolling again does not wash anybody clean");
    assert_eq!((again.id, again.name), (workers[0].id, "name".to_owned()));
    assert!(store.quarantine_worker(workers[0].id, None).await.unwrap());
    assert_eq!(store.workers().await.unwrap(), workers);
}

pub(crate) async fn evidence_is_appended_and_read_newest_first(place: &dyn Place) {
    let store = place.open().await;
    let seen = |worker, at| Evidence {
        worker: WorkerId(worker),
        class: digest("class"),
        kind: "dissented".to_owned(),
        attempt: AttemptId { run: run_id(at), number: 2 },
        result: (at % 2 == 0).then(|| digest("wrong")),
        at: Time(at),
    };
    store.append_evidence(vec![seen(1, 1), seen(2, 2)]).await.unwrap();
    store.append_evidence(vec![seen(1, 3), seen(1, 4)]).await.unwrap();
    let of = async |worker, limit| store.evidence(WorkerId(worker), limit).await.unwrap();
    assert_eq!(of(1, 9).await, [seen(1, 4), seen(1, 3), seen(1, 1)]);
    assert_eq!(of(1, 1).await, [seen(1, 4)]);
    assert_eq!(of(2, 9).await, [seen(2, 2)]);
    assert_eq!(of(3, 9).await, []);
}

pub(crate) async fn the_first_value_of_a_name_stays(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.meta("secret").await.unwrap(), None);
    assert_eq!(store.init_meta("secret", vec![1, 0]).await.unwrap(), [1, 0]);
    assert_eq!(store.init_meta("secret", vec![2]).await.unwrap(), [1, 0]);
    assert_eq!(store.init_meta("empty", vec![]).await.unwrap(), [0_u8; 0]);
    store.close().await;
    let store = place.open().await;
    assert_eq!(store.meta("secret").await.unwrap(), Some(vec![1, 0]));
    assert_eq!(store.meta("empty").await.unwrap(), Some(vec![]));
}

pub(crate) async fn usage_counts_what_is_there(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.usage().await.unwrap(), Usage::default());
    insert_all(&*store, [1, 2]).await;
    store.write_runs(vec![finish(canceled(1, Time(5)))].into()).await.unwrap();
    store.put_module(module("module", 1)).await.unwrap();
    put(&*store, "loose", Time(0)).await;
    let inputs = ("module".len() + "stdin".len() + "file".len()) as u64;
    let expected =
        Usage { runs: 2, runs_open: 1, modules: 1, blobs: 4, blob_bytes: inputs + 5, garbage_bytes: 5 };
    assert_eq!(store.usage().await.unwrap(), expected);
}

pub(crate) async fn a_closed_store_says_so(place: &dyn Place) {
    let store = place.open().await;
    // what was asked before the end is still done
    let asked = tokio::join!(write(&*store, insert(new_run(1))), store.close()).0;
    assert!(matches!(asked, Ok(WriteAnswer::Committed) | Err(StoreError::Closed)), "{asked:?}");
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 2 };
    assert!(matches!(store.retain(everything).await, Err(StoreError::Closed)));
    assert!(matches!(write(&*store, insert(new_run(1))).await, Err(StoreError::Closed)));
    assert!(matches!(store.run(run_id(1)).await, Err(StoreError::Closed)));
    store.close().await;
    let store = place.open().await;
    assert_eq!(store.run(run_id(1)).await.unwrap().is_some(), asked.is_ok());
}
