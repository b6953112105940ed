//! Lists of runs by filter, and what the figures and the retention say about them.

use std::sync::Arc;

use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::id::{WorkerId, WorkspaceId};
use crate::result::{RunState, VerdictKind};
use crate::spec::RunSpec;
use crate::store::{Outlook, RecentFinal, Retention, RunFilter, Store, StoredModule};

fn all() -> RunFilter {
    RunFilter::default()
}

/// The numbers of one page, and the number at which the next begins.
async fn page(
    store: &dyn Store,
    filter: RunFilter,
    cursor: Option<u64>,
    limit: u32,
) -> (Vec<u64>, Option<u64>) {
    let number = |id: crate::id::RunId| u64::try_from(id.0 - run_id(0).0).unwrap();
    let found = store.runs(filter, cursor.map(run_id), limit).await.unwrap();
    (found.runs.iter().map(|run| number(run.id)).collect(), found.next.map(number))
}

pub(crate) async fn lists_are_newest_first_filtered_and_paged(place: &dyn Place) {
    let store = place.open().await;
    for number in 1..=9 {
        let mut run = new_run(number);
        run.workspace = WorkspaceId(u32::try_from(number % 2).unwrap());
        if number % 3 == 0 {
            run.spec = Arc::new(RunSpec::new(digest("stdin")));
        }
        write(&*store, insert(run)).await.unwrap();
    }
    let mut failed = canceled(5, Time(50));
    failed.record.state = Failed;
    let ends = [
        final_run(1, Time(50)),
        final_run(2, Time(50)),
        canceled(3, Time(50)),
        canceled(4, Time(50)),
        failed,
    ];
    store.write_runs(Arc::new(ends.into_iter().map(finish).collect())).await.unwrap();

    let pages = async |filter, cursor, limit| page(&*store, filter, cursor, limit).await;
    assert_eq!(pages(all(), None, 4).await, (vec![9, 8, 7, 6], Some(6)));
    assert_eq!(pages(all(), Some(6), 4).await, (vec![5, 4, 3, 2], Some(2)));
    assert_eq!(pages(all(), Some(2), 4).await, (vec![1], None));
    assert_eq!(pages(all(), Some(5), 4).await, (vec![4, 3, 2, 1], None), "a full page can be the last");
    assert_eq!(pages(all(), Some(1), 4).await, (vec![], None));
    let list = async |filter, cursor, limit| page(&*store, filter, cursor, limit).await.0;
    let state = |states: &[RunState]| RunFilter { states: states.to_vec(), ..all() };
    use RunState::{Canceled, Failed, Queued, Running, Succeeded};
    assert_eq!(list(state(&[Queued]), None, 9).await, [9, 8, 7, 6]);
    assert_eq!(list(state(&[Running]), None, 9).await, [9, 8, 7, 6], "which of them run is not known here");
    assert_eq!(list(state(&[Succeeded]), None, 9).await, [2, 1]);
    assert_eq!(list(state(&[Canceled]), None, 9).await, [4, 3]);
    assert_eq!(list(state(&[Canceled]), Some(4), 9).await, [3]);
    assert_eq!(list(state(&[Failed]), None, 9).await, [5]);
    assert_eq!(list(state(&[Canceled, Failed]), None, 9).await, [5, 4, 3]);
    assert_eq!(list(state(&[Succeeded, Failed]), None, 9).await, [5, 2, 1]);
    assert_eq!(list(state(&[Queued, Running, Failed]), None, 9).await, [9, 8, 7, 6, 5]);
    assert_eq!(list(state(&RunState::ALL), None, 9).await.len(), 9);
    assert_eq!(list(RunFilter { workspace: Some(WorkspaceId(1)), ..all() }, None, 9).await, [9, 7, 5, 3, 1]);
    let module = |name| RunFilter { module: Some(digest(name)), ..all() };
    assert_eq!(list(module("stdin"), None, 9).await, [9, 6, 3]);
    assert_eq!(list(module("nothing"), None, 9).await, [0_u64; 0]);
    let times = RunFilter { since: Some(Time(3_000)), until: Some(Time(6_000)), ..all() };
    assert_eq!(list(times, None, 9).await, [5, 4, 3]);
    let every = RunFilter {
        workspace: Some(WorkspaceId(1)),
        states: vec![Queued],
        module: Some(digest("stdin")),
        worker: Some(WorkerId(7)),
        verdict: Some(VerdictKind::Agreed),
        text: Some("00000009".to_owned()),
        since: Some(Time(1)),
        until: Some(Time(10_000)),
    };
    assert_eq!(
        list(every, Some(100), 9).await,
        [9],
        "of what is not final nobody knows workers and verdict here"
    );
}

pub(crate) async fn runs_are_found_by_worker_verdict_and_text(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, 1..=6).await;
    let mut disputed = final_run(3, Time(50));
    disputed.record.state = RunState::Failed;
    disputed.record.verdict.kind = VerdictKind::Disputed;
    let mut elsewhere = final_run(2, Time(50));
    elsewhere.record.attempts.truncate(1);
    elsewhere.record.attempts[0].worker = WorkerId(33);
    let ends = [final_run(1, Time(50)), elsewhere, disputed, canceled(4, Time(50))];
    store.write_runs(Arc::new(ends.into_iter().map(finish).collect())).await.unwrap();
    let list = async |filter: RunFilter| page(&*store, filter, None, 9).await.0;
    let is_final = vec![RunState::Succeeded, RunState::Failed, RunState::Canceled];

    let worker = |number| RunFilter { worker: Some(WorkerId(number)), states: is_final.clone(), ..all() };
    assert_eq!(list(worker(33)).await, [2]);
    assert_eq!(list(worker(3)).await, [4, 3, 1], "w3 is not w33");
    assert_eq!(list(RunFilter { worker: Some(WorkerId(33)), ..all() }).await, [6, 5, 2]);
    let verdict = |kind| RunFilter { verdict: Some(kind), states: is_final.clone(), ..all() };
    assert_eq!(list(verdict(VerdictKind::Disputed)).await, [3]);
    assert_eq!(list(verdict(VerdictKind::Agreed)).await, [2, 1]);
    assert_eq!(list(verdict(VerdictKind::Pending)).await, [4]);
    assert_eq!(list(verdict(VerdictKind::Unchecked)).await, [0_u64; 0]);
    assert_eq!(list(RunFilter { verdict: Some(VerdictKind::Disputed), ..all() }).await, [6, 5, 3]);

    let text = |text: &str| RunFilter { text: Some(text.to_owned()), ..all() };
    assert_eq!(list(text("8000-000000000005")).await, [5]);
    assert_eq!(list(text("ü \"\\")).await.len(), 6, "an argument, however JSON writes it");
    assert_eq!(list(text("\"")).await.len(), 6);
    assert_eq!(list(text("Ü")).await, [0_u64; 0]);
    assert_eq!(list(text("_star")).await.len(), 6);
    assert_eq!(list(text("memory_bytes")).await, [0_u64; 0], "nothing else of the spec is looked at");
    assert_eq!(list(text("Mandel")).await, [0_u64; 0]);
    put(&*store, "module", Time(0)).await;
    let named = StoredModule {
        digest: digest("module"),
        size: 6,
        name: Some("100%_mandelbrot.wasm".to_owned()),
        state: crate::store::ModuleState::Ready,
        analysis: None,
        refusal: None,
        quarantined: None,
        verify: None,
        created_at: Time(1),
        nondeterministic: None,
    };
    store.put_module(named).await.unwrap();
    assert_eq!(list(text("Mandel")).await.len(), 6);
    assert_eq!(list(text("0%_m")).await.len(), 6);
    assert_eq!(list(text("0_m")).await, [0_u64; 0], "wildcards are letters");
    assert_eq!(list(text(&digest("module").to_string().to_uppercase()[10..30])).await.len(), 6);
}

pub(crate) async fn a_search_that_finds_little_goes_on_where_it_stopped(place: &dyn Place) {
    let store = place.open().await;
    // more than any search looks at in one call, and the one that is looked for is the oldest
    let total = 21_000;
    for first in (1..=total).step_by(1_000) {
        let writes: Vec<_> = (first..first + 1_000)
            .flat_map(|number| {
                let mut run = new_run(number);
                if number == 1 {
                    Arc::make_mut(&mut run.spec).args = vec!["needle".to_owned()];
                }
                [insert(run), finish(canceled(number, Time(number)))]
            })
            .collect();
        store.write_runs(writes.into()).await.unwrap();
    }
    let filter = RunFilter { text: Some("needle".to_owned()), ..all() };
    let (mut found, mut cursor, mut calls) = (Vec::new(), None, 0);
    loop {
        let (numbers, next) = page(&*store, filter.clone(), cursor, 50).await;
        found.extend(numbers);
        calls += 1;
        match next {
            Some(next) => {
                assert!(cursor.is_none_or(|cursor| next < cursor), "it goes on");
                cursor = Some(next);
            }
            None => break,
        }
    }
    assert_eq!(found, [1]);
    assert!(calls > 1, "one call does not look at everything");
    // without a filter that needs looking a page is a page
    assert_eq!(page(&*store, all(), Some(15_001), 2).await, (vec![15_000, 14_999], Some(14_999)));
}

pub(crate) async fn recent_finals_tell_what_the_figures_need(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, 1..=4).await;
    let ends = [final_run(1, Time(50)), final_run(2, Time(40)), canceled(3, Time(60))];
    store.write_runs(Arc::new(ends.into_iter().map(finish).collect())).await.unwrap();
    let recent = async |since, limit| store.recent_finals(Time(since), limit).await.unwrap();
    let all = recent(0, 9).await;
    assert_eq!(all.iter().map(|run| run.finished_at.0).collect::<Vec<_>>(), [60, 50, 40]);
    let expected = RecentFinal {
        workspace: WorkspaceId(0),
        state: RunState::Succeeded,
        verdict: VerdictKind::Agreed,
        faults: 1,
        reruns: 0,
        dissents: 1,
        created_at: Time(1_000),
        finished_at: Time(50),
    };
    assert_eq!(all[1], expected);
    assert_eq!((all[0].state, all[0].verdict), (RunState::Canceled, VerdictKind::Pending));
    assert_eq!(recent(50, 9).await.len(), 2);
    assert_eq!(recent(0, 1).await.len(), 1);
}

pub(crate) async fn the_outlook_is_what_retention_will_do(place: &dyn Place) {
    const DAY: u64 = 86_400_000_000;
    let store = place.open().await;
    let outlook = async |before, runs_max| {
        let retention = Retention { finished_before: Time(before), runs_max, batch_max: 9 };
        store.outlook(retention).await.unwrap()
    };
    assert_eq!(outlook(100, 9).await, Outlook::default());
    insert_all(&*store, 1..=4).await;
    let ends = [(1, 50), (2, 70), (3, 71 + DAY)].map(|(number, at)| finish(final_run(number, Time(at))));
    store.write_runs(Arc::new(ends.into())).await.unwrap();
    let expected = |due, due_in_a_day| Outlook { oldest_finished_at: Some(Time(50)), due, due_in_a_day };
    assert_eq!(outlook(0, 9).await, expected(0, 2));
    assert_eq!(outlook(70, 9).await, expected(1, 2));
    assert_eq!(outlook(72, 9).await, expected(2, 3));
    assert_eq!(outlook(0, 1).await, expected(2, 2), "beyond the number");
}
