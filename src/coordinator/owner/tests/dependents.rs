//! Runs that are corrected along with the one that computed their result: who hears of it.

use super::cached::{executed, hit};
use super::*;
use crate::coordinator::service::PoolEvent;

#[tokio::test]
async fn everybody_hears_of_those_that_are_corrected_along() {
    let mut bench = Bench::caching();
    let (detail, _) = executed(&mut bench).await;
    let mut events = bench.owner.parts.events.subscribe();
    let callback = Some(crate::spec::Callback { url: "https://example.org/done".into() });
    let mut runs = Vec::new();
    for revision in [2, 3] {
        let mut run = StoredRun { revision, ..hit(&bench, &detail, true, None).detail.run.clone() };
        run.policy.callback.clone_from(&callback);
        runs.push(run);
    }
    let ids = [runs[0].id, runs[1].id];
    let made = Arc::clone(&bench.owner.parts.callback_made);
    bench.owner.handle(Command::Followed(runs));
    let mut heard = Vec::new();
    while let Ok((workspace, event)) = events.try_recv() {
        assert_eq!(workspace, Some(WorkspaceId(0)));
        heard.push(event);
    }
    let expected = [
        PoolEvent::Corrected(ids[0], 2),
        PoolEvent::Run(ids[0]),
        PoolEvent::Corrected(ids[1], 3),
        PoolEvent::Run(ids[1]),
    ];
    assert_eq!(format!("{heard:?}"), format!("{expected:?}"));
    assert_eq!(bench.owner.parts.metrics.dependents_corrected.get(), 2);
    tokio::time::timeout(PATIENCE, made.notified()).await.expect("deliveries were made");
}

#[tokio::test]
async fn an_answer_whose_source_was_withdrawn_on_its_way_is_looked_at() {
    let mut bench = Bench::caching();
    let (detail, _) = executed(&mut bench).await;
    // nobody waits for the row, and it is written after the source was corrected
    let answered = hit(&bench, &detail, true, None);
    bench.owner.withdraw_run(detail.run.id);
    bench.owner.handle(Command::Hit(answered));
    bench.owner.flush();
    bench.commit_all();
    let woken = bench.owner.parts.repair.clone();
    tokio::time::timeout(PATIENCE, woken.woken()).await.expect("the repairer is woken");
}
