//! A worker that is told to stop.

use serde_json::json;

use super::{Worker, begun, busy, crew, empty_pool, shown, submitted, worker_token};
use crate::support::guest;

#[tokio::test]
async fn a_drained_worker_finishes_what_it_executes_and_counts_no_failure() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut workers = crew(&pool, dir.path(), &[&[]]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = submitted(&pool, &busy(&module)).await;
    begun(&pool, &run).await;
    workers[0].signal("TERM");
    let run = pool.finished(&run).await;
    assert_eq!((&run["state"], run["attempts"].as_array().unwrap().len()), (&json!("succeeded"), 1), "{run}");
    assert!(workers[0].ended().await.success(), "{}", workers[0].stderr());
    assert!(shown(&pool, &workers[0].id).await["faults"].as_u64().unwrap_or(0) == 0);
}

#[tokio::test]
async fn what_a_drain_does_not_wait_for_goes_elsewhere() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut workers = crew(&pool, dir.path(), &[&["--drain", "100ms"]]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let long = json!({"module": module, "args": ["work", "5000000000"], "verify": {"policy": "once"},
        "timeout_ms": 120_000});
    let run = submitted(&pool, &long).await;
    begun(&pool, &run).await;
    let token = worker_token(&pool).await;
    let _other = Worker::join(&pool.url, &dir.path().join("other"), &["--token", &token]).await;
    workers[0].signal("TERM");
    assert!(workers[0].ended().await.success(), "{}", workers[0].stderr());
    let run = pool.finished(&run).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["attempts"][0]["fault"]["kind"], "drained", "{run}");
    assert_ne!(run["attempts"][0]["worker"], run["attempts"][1]["worker"]);
}

#[tokio::test]
async fn a_worker_that_never_joined_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::spawn("http://127.0.0.1:9", dir.path(), &[]);
    crate::support::eventually("it tries", async || {
        worker.stderr().contains("no session with the coordinator").then_some(())
    })
    .await;
    worker.signal("TERM");
    assert!(worker.ended().await.success(), "{}", worker.stderr());
}
