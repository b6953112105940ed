//! Cut connections, black holes, dead and frozen workers, a coordinator that restarts: nothing is lost, nothing done twice
//! without need.

use serde_json::{Value, json};

use super::proxy::Proxy;
use super::{Worker, begun, busy, crew, empty_pool, figure, ready, shown, submitted, texts, worker_token};
use crate::support::{Pool, eventually, guest};

async fn through(pool: &Pool, proxy: &Proxy, dir: &std::path::Path) -> Worker {
    let token = worker_token(pool).await;
    Worker::join(&proxy.url, dir, &["--token", &token]).await
}

fn attempts(run: &Value) -> &Vec<Value> {
    run["attempts"].as_array().unwrap()
}

#[tokio::test]
async fn a_cut_connection_stops_nothing_and_loses_nothing() {
    // losing a worker takes longer than coming back
    let pool = empty_pool(&["worker_lost=60s"]).await;
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(&pool.url).await;
    let worker = through(&pool, &proxy, dir.path()).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = submitted(&pool, &busy(&module)).await;
    begun(&pool, &run).await;
    proxy.cut();
    proxy.cut();
    let run = pool.finished(&run).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(attempts(&run).len(), 1, "{run}");
    assert!(worker.stderr().contains("the session with the coordinator ended"), "{}", worker.stderr());

    // the vote is cast while nobody listens
    let run = submitted(&pool, &busy(&module)).await;
    begun(&pool, &run).await;
    proxy.refuse();
    let ticks = eventually("its runner is idle", async || {
        let before = crate::support::children(worker.pid());
        let used = |pids: &[u32]| pids.iter().map(|pid| crate::support::cpu_ticks(*pid)).sum::<u64>();
        let first = used(&before);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        (first > 20 && used(&before) == first).then_some(first)
    })
    .await;
    assert!(ticks > 20);
    proxy.heal();
    let run = pool.finished(&run).await;
    assert_eq!((&run["state"], attempts(&run).len()), (&json!("succeeded"), 1), "{run}");
    assert_eq!(shown(&pool, &worker.id).await["faults"], 0);
}

#[tokio::test]
async fn a_black_hole_is_a_lost_worker_and_its_return_does_no_harm() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(&pool.url).await;
    let worker = through(&pool, &proxy, &dir.path().join("proxied")).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = submitted(&pool, &busy(&module)).await;
    assert_eq!(begun(&pool, &run).await, worker.id);
    let other = crew(&pool, dir.path(), &[&[]]).await;
    proxy.block();
    let run = pool.finished(&run).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let found: Vec<_> = attempts(&run).iter().map(|attempt| attempt["worker"].as_str().unwrap()).collect();
    assert_eq!(found, [worker.id.as_str(), other[0].id.as_str()], "{run}");
    assert_eq!(attempts(&run)[0]["fault"]["kind"], "lost", "{run}");
    proxy.heal();
    ready(&pool, 2).await;
    let run = pool.run(json!({"module": module, "args": ["exit", "0"]})).await;
    assert_eq!(run["verdict"]["votes"], 2, "{run}");
}

#[tokio::test]
async fn an_upload_that_is_cut_in_its_middle_is_tried_again() {
    let pool = empty_pool(&["worker_lost=60s"]).await;
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(&pool.url).await;
    let _worker = through(&pool, &proxy, dir.path()).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    proxy.cut_after(1 << 20);
    let run =
        pool.run(json!({"module": module, "args": ["flood", "8000000"], "verify": {"policy": "once"}})).await;
    assert!(proxy.has_cut());
    assert_eq!((&run["state"], attempts(&run).len()), (&json!("succeeded"), 1), "{run}");
    assert_eq!(run["stdout"]["size"], 8_000_000);
}

#[tokio::test]
async fn a_worker_that_is_killed_costs_its_attempt_only() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let workers = crew(&pool, dir.path(), &[&[], &[]]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = submitted(&pool, &busy(&module)).await;
    let holder = begun(&pool, &run).await;
    workers.iter().find(|worker| worker.id == holder).unwrap().signal("KILL");
    let run = pool.finished(&run).await;
    assert_eq!((&run["state"], attempts(&run).len()), (&json!("succeeded"), 2), "{run}");
    assert_eq!(attempts(&run)[0]["fault"]["kind"], "lost");
    assert_ne!(attempts(&run)[1]["worker"], json!(holder), "{}", texts(&run));
}

#[tokio::test]
async fn a_worker_that_was_frozen_wakes_up_harmless() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let workers = crew(&pool, dir.path(), &[&[], &[]]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = submitted(&pool, &busy(&module)).await;
    let holder = begun(&pool, &run).await;
    let frozen = workers.iter().find(|worker| worker.id == holder).unwrap();
    frozen.signal("STOP");
    let run = pool.finished(&run).await;
    assert_eq!((&run["state"], attempts(&run).len()), (&json!("succeeded"), 2), "{run}");
    frozen.signal("CONT");
    ready(&pool, 2).await;
    let again = pool.run(json!({"module": module, "args": ["exit", "0"]})).await;
    assert_eq!(again["verdict"]["votes"], 2, "{again}");
    let (_, after) = pool.get(&format!("/v1/runs/{}", run["id"].as_str().unwrap())).await;
    assert_eq!(after, run, "what is final stays as it was");
}

#[tokio::test]
async fn a_coordinator_that_restarts_keeps_what_its_workers_execute() {
    // no second attempts of slow ones, of which a busy machine has some: how many there are is what is looked at
    let mut pool = empty_pool(&["worker_lost=5s", "start_grace=20s", "hedge_permille=0"]).await;
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::to(&pool.url).await;
    let token = worker_token(&pool).await;
    let mut workers = Vec::new();
    for number in 0..3 {
        let data = dir.path().join(number.to_string());
        workers.push(Worker::join(&proxy.url, &data, &["--token", &token]).await);
    }
    ready(&pool, 3).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut runs = Vec::new();
    for seed in 0..3 {
        let mut request = busy(&module);
        request["seed"] = json!(seed);
        runs.push(submitted(&pool, &request).await);
    }
    for run in &runs {
        begun(&pool, run).await;
    }
    pool.kill();
    pool.start_again();
    proxy.lead_to(&pool.url);
    for run in &runs {
        let run = pool.finished(run).await;
        assert_eq!((&run["state"], attempts(&run).len()), (&json!("succeeded"), 1), "{run}\n{}", texts(&run));
    }
    assert_eq!(figure(&pool, "lockstep_reruns_total").await, 0);
}
