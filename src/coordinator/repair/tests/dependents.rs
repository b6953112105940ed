//! Runs that have the result of one that is corrected.

use super::*;
use crate::coordinator::callbacks::PENDING_PER_WORKSPACE_MAX;
use crate::spec::Callback;
use crate::store::Source;

/// The correction of a final by another result.
fn correction(run: &StoredRun, revision: u32) -> RunWrite {
    let result = Digest::of(format!("revision {revision}").as_bytes());
    let record = Final {
        run: run.id,
        epoch: Epoch(1),
        revision,
        state: RunState::Succeeded,
        reason: None,
        outcome: run.outcome.clone(),
        verdict: Verdict::default(),
        result: Some(result),
        votes: Vec::new(),
        error_ppb: None,
        attempts: Vec::new(),
        explain: Arc::default(),
        finished_at: Time(20),
        shared_with: None,
    };
    RunWrite::Correct(Box::new(final_of(record, None)))
}

fn final_of(record: Final, source: Option<Source>) -> FinalRun {
    FinalRun {
        record,
        manifest: None,
        blobs: Vec::new(),
        dissents: Vec::new(),
        votes: Vec::new(),
        source,
        reusable: false,
        callback: None,
    }
}

/// One more that is answered with what `run` had computed.
async fn answered(store: &dyn Store, run: &StoredRun) -> RunId {
    answered_and_told(store, run, None).await
}

async fn answered_and_told(store: &dyn Store, run: &StoredRun, callback: Option<Callback>) -> RunId {
    let new = NewRun { policy: Policy { callback: callback.clone(), ..new_run().policy }, ..new_run() };
    let id = new.id;
    let record = Final {
        run: id,
        epoch: Epoch(1),
        revision: 1,
        state: run.state,
        reason: None,
        outcome: run.outcome.clone(),
        verdict: Verdict::default(),
        result: run.result,
        votes: Vec::new(),
        error_ppb: None,
        attempts: Vec::new(),
        explain: Arc::default(),
        finished_at: Time(15),
        shared_with: None,
    };
    let last = FinalRun { callback, ..final_of(record, Some(Source::Cached(run.id))) };
    let writes = vec![RunWrite::Insert(Arc::new(new)), RunWrite::Finish(Box::new(last))];
    assert_eq!(store.write_runs(writes.into()).await.unwrap(), vec![WriteAnswer::Committed; 2]);
    id
}

async fn is_told(bench: &mut Bench) -> Vec<RunId> {
    match tokio::time::timeout(PATIENCE, bench.commands.recv()).await.expect("it tells") {
        Some(Command::Followed(runs)) => runs.iter().map(|run| run.id).collect(),
        _ => panic!("it asks for nothing"),
    }
}

#[tokio::test]
async fn what_was_not_corrected_along_before_the_end_is_after_the_next_start() {
    let (store, dir) = store().await;
    let run = ended(&*store, Verify::Once, &[1], &[], 11).await;
    let was = store.run(run).await.unwrap().unwrap();
    let mut first = Vec::new();
    for _ in 0..FOLLOW_PAGE + 5 {
        first.push(answered(&*store, &was).await);
    }
    let corrected = store.write_runs(vec![correction(&was, 2)].into()).await.unwrap();
    assert_eq!(corrected, [WriteAnswer::Committed]);
    // nobody has done anything when the process ends
    let mut bench = Bench::over(Arc::clone(&store), dir);
    assert_eq!(is_told(&mut bench).await, first[..FOLLOW_PAGE as usize]);
    assert_eq!(is_told(&mut bench).await, first[FOLLOW_PAGE as usize..]);
    // one that was on its way, and a further correction, are heard of when somebody says so
    let late = answered(&*store, &was).await;
    bench.handle.wake();
    assert_eq!(is_told(&mut bench).await, [late]);
    let again = store.write_runs(vec![correction(&was, 3)].into()).await.unwrap();
    assert_eq!(again, [WriteAnswer::Committed]);
    bench.handle.tell(Ended::Corrected(run));
    assert_eq!(is_told(&mut bench).await.len(), FOLLOW_PAGE as usize);
    assert_eq!(is_told(&mut bench).await.len(), 6);
    let all: Vec<u32> = {
        let mut all = Vec::new();
        for id in first.iter().chain([&late]) {
            all.push(store.run(*id).await.unwrap().unwrap().revision);
        }
        all
    };
    assert!(all.iter().all(|revision| *revision == 3), "{all:?}");
    assert!(bench.commands.try_recv().is_err());
}

#[tokio::test]
async fn those_that_are_to_be_told_do_not_fill_the_outbox_and_hold_up_nobody_else() {
    let (store, dir) = store().await;
    let run = ended(&*store, Verify::Once, &[1], &[], 11).await;
    let was = store.run(run).await.unwrap().unwrap();
    let callback = Some(Callback { url: "https://down.example/".into() });
    let told = FOLLOW_CROWDED as usize;
    // more of which nobody hears than are read at once, and only then those that are told of
    for _ in 0..FOLLOW_PAGE + 5 {
        answered(&*store, &was).await;
    }
    for _ in 0..told + 5 {
        answered_and_told(&*store, &was, callback.clone()).await;
        answered(&*store, &was).await;
    }
    store.write_runs(vec![correction(&was, 2)].into()).await.unwrap();
    // more than half of what may wait does
    let mut bench = Bench::with(Arc::clone(&store), Arc::clone(&dir), u64::from(FOLLOW_CROWDED));
    assert_eq!(is_told(&mut bench).await.len(), FOLLOW_PAGE as usize, "these are no deliveries");
    assert_eq!(is_told(&mut bench).await.len(), 5 + 2 * told - 1, "up to the last one that is told of");
    // whoever wakes it, the rest waits for the next period
    for _ in 0..20 {
        bench.handle.wake();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(bench.commands.try_recv().is_err());
    // as long as one may wait for its receiver, what comes at this pace leaves a workspace room for callers
    let in_a_day = u64::from(FOLLOW_CROWDED) * (24 * 60 * 60 / PERIOD.as_secs());
    assert!(in_a_day <= PENDING_PER_WORKSPACE_MAX / 2, "{in_a_day}");
    // with room again nothing waits
    bench.task.abort();
    let mut bench = Bench::with(store, dir, 1_000);
    assert_eq!(is_told(&mut bench).await.len(), 5 * 2 + 1);
}
