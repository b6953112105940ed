//! Modules, named values, and figures.

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::id::WorkspaceId;
use crate::spec::Verify;
use crate::store::{
    ModuleState, Nondeterminism, Retention, StoreError, StoredModule, Usage, WorkspaceSettings, WriteAnswer,
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
        verify: None,
        created_at: Time(at),
        nondeterministic: None,
    }
}

fn text(module: &StoredModule) -> String {
    format!("{module:?}")
}

pub(crate) async fn modules_are_put_changed_quarantined_listed_and_deleted(place: &dyn Place) {
    let store = place.open().await;
    for (name, at) in [("a", 1), ("b", 2), ("c", 3)] {
        put(&*store, name, Time(0)).await;
        store.put_module(module(name, at)).await.unwrap();
    }
    let read = async |name| store.module(digest(name)).await.unwrap();
    assert_eq!(text(&read("a").await.unwrap()), text(&module("a", 1)));
    assert!(read("absent").await.is_none());

    assert!(store.quarantine_module(digest("a"), "it kills runners".to_owned()).await.unwrap());
    assert!(!store.quarantine_module(digest("absent"), "why".to_owned()).await.unwrap());
    // it is put once
    let again = StoredModule { name: None, analysis: None, state: ModuleState::Compiling, ..module("a", 77) };
    assert!(!store.put_module(again).await.unwrap());
    let mut changed = module("a", 1);
    changed.state = ModuleState::Refused;
    changed.refusal = Some(("compile_bomb".to_owned(), "too large".to_owned()));
    changed.quarantined = Some("it kills runners".to_owned());
    let refusal = changed.refusal.clone();
    assert!(store.decide_module(digest("a"), ModuleState::Refused, refusal).await.unwrap());
    assert_eq!(text(&read("a").await.unwrap()), text(&changed));
    // and decided once
    assert!(!store.decide_module(digest("a"), ModuleState::Ready, None).await.unwrap());
    assert_eq!(text(&read("a").await.unwrap()), text(&changed));
    assert!(!store.decide_module(digest("absent"), ModuleState::Ready, None).await.unwrap());
    assert!(read("absent").await.is_none());
    assert!(store.readmit_module(digest("a")).await.unwrap());
    assert_eq!(read("a").await.unwrap().quarantined, None);
    for verify in [Some(Verify::High), Some(Verify::Quorum { n: 3 }), None] {
        assert!(store.set_module_verify(digest("a"), verify).await.unwrap());
        assert_eq!(read("a").await.unwrap().verify, verify);
    }
    assert!(!store.set_module_verify(digest("absent"), Some(Verify::Once)).await.unwrap());
    assert!(store.decide_module(digest("b"), ModuleState::Ready, None).await.unwrap());
    assert_eq!(read("b").await.unwrap().state, ModuleState::Ready);

    // a long analysis is whole where one module is read, and short in lists
    let exports = vec!["x"; 40_000];
    let whole = serde_json::json!({"exports": exports, "imports": exports, "kind": "command"}).to_string();
    put(&*store, "d", Time(0)).await;
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
    assert!(store.put_module(module("module", 1)).await.unwrap());
    assert!(!store.put_module(module("module", 1)).await.unwrap());
    check_references(&*store).await;
    assert_eq!(store.take_garbage(FOREVER, 9).await.unwrap().taken, 0);
    store.delete_module(digest("module")).await.unwrap();
    check_references(&*store).await;
    assert_eq!(store.take_garbage(FOREVER, 9).await.unwrap().taken, 1);
}

pub(crate) async fn a_module_that_was_found_out_is_so_until_it_is_readmitted(place: &dyn Place) {
    let store = place.open().await;
    for (name, at) in [("a", 1), ("b", 2)] {
        put(&*store, name, Time(0)).await;
        store.put_module(module(name, at)).await.unwrap();
    }
    let found = Nondeterminism { run: run_id(7), at: Time(9) };
    assert!(store.blame_module(digest("a"), found).await.unwrap());
    assert!(!store.blame_module(digest("absent"), found).await.unwrap());
    // the first run that showed it is the one that is named
    assert!(!store.blame_module(digest("a"), Nondeterminism { run: run_id(8), ..found }).await.unwrap());
    store.close().await;
    let store = place.open().await;
    assert_eq!(store.module(digest("a")).await.unwrap().unwrap().nondeterministic, Some(found));
    assert_eq!(store.module(digest("b")).await.unwrap().unwrap().nondeterministic, None);
    assert_eq!(store.nondeterministic_modules().await.unwrap(), [digest("a")]);
    assert!(store.quarantine_module(digest("a"), "a test".to_owned()).await.unwrap());
    assert!(store.readmit_module(digest("a")).await.unwrap());
    assert!(!store.readmit_module(digest("absent")).await.unwrap());
    let readmitted = store.module(digest("a")).await.unwrap().unwrap();
    assert_eq!((readmitted.nondeterministic, readmitted.quarantined), (None, None));
    assert_eq!(store.nondeterministic_modules().await.unwrap(), []);
    assert!(store.blame_module(digest("a"), found).await.unwrap(), "it may be found out again");
}

pub(crate) async fn a_workspace_keeps_what_was_settled_last(place: &dyn Place) {
    let store = place.open().await;
    let (ours, other) = (WorkspaceId(0), WorkspaceId(3));
    assert_eq!(store.workspace(ours).await.unwrap(), WorkspaceSettings::default());
    for verify in [Some(Verify::High), Some(Verify::Quorum { n: 5 }), None, Some(Verify::Standard)] {
        store.put_workspace(ours, WorkspaceSettings { verify }).await.unwrap();
        assert_eq!(store.workspace(ours).await.unwrap().verify, verify);
    }
    store.close().await;
    let store = place.open().await;
    assert_eq!(store.workspace(ours).await.unwrap().verify, Some(Verify::Standard));
    assert_eq!(store.workspace(other).await.unwrap(), WorkspaceSettings::default());
}

pub(crate) async fn the_first_value_of_a_name_stays(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.meta("secret").await.unwrap(), None);
    assert_eq!(store.init_meta("secret", vec![1, 0]).await.unwrap(), [1, 0]);
    assert_eq!(store.init_meta("secret", vec![2]).await.unwrap(), [1, 0]);
    assert_eq!(store.init_meta("empty", vec![]).await.unwrap(), [0_u8; 0]);
    // unless it is put
    store.put_meta("secret", vec![3]).await.unwrap();
    assert_eq!(store.init_meta("secret", vec![2]).await.unwrap(), [3]);
    store.put_meta("secret", vec![1, 0]).await.unwrap();
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
