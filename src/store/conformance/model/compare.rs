//! Everything that can be read, from the backend and from the model, side by side.

use std::collections::BTreeSet;

use super::{Model, ModelRun, small};
use crate::core::{AttemptRecord, AttemptState, Time};
use crate::id::{RunId, WorkerId, WorkspaceId};
use crate::result::{RunState, VerdictKind};
use crate::store::conformance::fixtures::*;
use crate::store::{RunFilter, Store, StoredRun};

/// Searches of every kind.
fn filters() -> Vec<RunFilter> {
    let all = RunFilter::default;
    let text = |text: &str| RunFilter { text: Some(text.to_owned()), ..all() };
    vec![
        RunFilter { states: vec![RunState::Queued], ..all() },
        RunFilter { states: vec![RunState::Succeeded], ..all() },
        RunFilter { states: vec![RunState::Running, RunState::Succeeded, RunState::Failed], ..all() },
        RunFilter { states: vec![RunState::Canceled, RunState::Failed], ..all() },
        RunFilter { module: Some(small(1).0), ..all() },
        RunFilter { module: Some(small(1).0), states: vec![RunState::Queued], ..all() },
        RunFilter { worker: Some(WorkerId(4)), ..all() },
        RunFilter { worker: Some(WorkerId(9)), ..all() },
        RunFilter { verdict: Some(VerdictKind::Agreed), ..all() },
        RunFilter { verdict: Some(VerdictKind::Disputed), states: vec![RunState::Succeeded], ..all() },
        RunFilter { since: Some(Time(2_000)), until: Some(Time(4_000)), ..all() },
        text("000000000003"),
        text(&small(2).0.to_string()[7..20].to_uppercase()),
        text("_start"),
        text("nowhere"),
    ]
}

/// The filter, in so many words.
fn passes(filter: &RunFilter, run: &StoredRun) -> bool {
    let is_open = !run.state.is_final();
    let states: BTreeSet<_> = filter.states.iter().map(|state| (*state, !state.is_final())).collect();
    let in_state = states.is_empty()
        || states.iter().any(|(state, open)| if is_open { *open } else { *state == run.state });
    let holds = |text: &str| {
        let lower = text.to_lowercase();
        run.id.to_string().contains(&lower)
            || run.spec.module.to_string().contains(&lower)
            || run.spec.entry.contains(text)
            || run.spec.args.iter().any(|arg| arg.contains(text))
    };
    in_state
        && filter.module.is_none_or(|module| run.spec.module == module)
        && filter.worker.is_none_or(|worker| is_open || run.attempts.iter().any(|it| it.worker == worker))
        && filter.verdict.is_none_or(|verdict| is_open || run.verdict.kind == verdict)
        && filter.since.is_none_or(|since| run.created_at >= since)
        && filter.until.is_none_or(|until| run.created_at < until)
        && filter.text.as_deref().is_none_or(holds)
}

/// Compares everything that can be read.
pub(super) async fn compare(store: &dyn Store, model: &Model) {
    let texts = |runs: &[StoredRun]| runs.iter().map(text).collect::<Vec<_>>();
    let expected: Vec<_> = model.runs.values().rev().map(|run| run.stored.clone()).collect();
    let all = store.runs(RunFilter::default(), None, 99).await.unwrap().runs;
    assert_eq!(texts(&all), texts(&expected));
    for filter in filters() {
        let passing: Vec<_> = expected.iter().filter(|run| passes(&filter, run)).cloned().collect();
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.runs(filter.clone(), cursor, 2).await.unwrap();
            found.extend(page.runs);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(texts(&found), texts(&passing), "{filter:?}");
    }
    let open = store.open_runs(None, 99).await.unwrap();
    let expected_open: Vec<_> =
        expected.iter().rev().filter(|run| run.state == RunState::Queued).cloned().collect();
    assert_eq!(texts(&open), texts(&expected_open));
    for (digest, blob) in &model.blobs {
        let row = store.blob(*digest).await.unwrap();
        assert_eq!(row.and_then(|row| row.inline).as_ref(), Some(&blob.bytes));
    }
    for (id, run) in &model.runs {
        if let Some((key, payload)) = &run.key {
            let owner = store.idempotency(WorkspaceId(0), key).await.unwrap();
            assert_eq!(owner, Some((*id, *payload)));
        }
    }
    for (id, run) in model.runs.iter().filter(|(_, run)| run.stored.state.is_final()) {
        let now = |before: &StoredRun| StoredRun { epoch: run.stored.epoch, ..before.clone() };
        let all: Vec<_> = run.before.iter().map(now).chain([run.stored.clone()]).collect();
        assert_eq!(texts(&store.revisions(*id).await.unwrap()), texts(&all));
        for (revision, votes) in (1..).zip(&run.votes) {
            assert_eq!(store.votes(*id, revision).await.unwrap().as_ref(), Some(votes));
        }
    }
    for worker in 1..=9 {
        let mut found: Vec<RunId> = store
            .supported_finals(WorkerId(worker), 0, 99)
            .await
            .unwrap()
            .iter()
            .map(|it| it.run.id)
            .collect();
        found.sort_unstable();
        let won = |run: &&ModelRun| {
            let is_it = |it: &AttemptRecord| {
                it.worker == WorkerId(worker)
                    && matches!(it.state, AttemptState::Voted { won: Some(true), .. })
            };
            run.stored.state.is_final() && run.stored.attempts.iter().any(is_it)
        };
        let expected: Vec<RunId> = model.runs.values().filter(won).map(|run| run.stored.id).collect();
        assert_eq!(found, expected, "finals that rest on w{worker}");
    }
    assert_eq!(store.usage().await.unwrap(), model.usage());
    check_references(store).await;
}
