//! What survives `kill -9` of the whole process, and what the next life makes of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::json;

use crate::support::{Pool, children, eventually, guest};

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed_under_load() {
    let mut pool = Pool::start().await;
    let module = pool.push(guest("hello.wasm")).await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..8 {
            let request = pool.request(Method::POST, "/v1/runs");
            let (stop, module) = (Arc::clone(&stop), module.clone());
            clients.spawn(async move {
                let mut ids = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = json!({"module": module, "args": [format!("{round}-{client}-{number}")]});
                    let Some(again) = request.try_clone() else { break };
                    let Ok(response) = again.json(&body).send().await else { break };
                    if response.status() != 201 && response.status() != 202 {
                        break;
                    }
                    let Ok(run) = response.json::<serde_json::Value>().await else { break };
                    ids.push(run["id"].as_str().expect("an id").to_owned());
                }
                ids
            });
        }
        eventually("some runs were taken", async || {
            let (_, runs) = pool.get("/v1/runs?limit=100").await;
            (runs["items"].as_array()?.len() >= 15 * (round + 1)).then_some(())
        })
        .await;
        let children = children(pool.child.id());
        pool.kill();
        stop.store(true, Ordering::Relaxed);
        while let Some(ids) = clients.join_next().await {
            acknowledged.extend(ids.expect("no panic"));
        }
        eventually("runners die with their parent", async || {
            let alive = children.iter().any(|pid| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.contains("lockstep") && !stat.contains(") Z ")
            });
            (!alive).then_some(())
        })
        .await;
        pool.start_again();
    }
    assert!(acknowledged.len() >= 30, "{} runs", acknowledged.len());
    for id in &acknowledged {
        let run = pool.finished(id).await;
        assert_eq!(run["state"], "succeeded", "{run}");
    }
}

#[tokio::test]
async fn an_orderly_stop_and_start_keeps_everything() {
    let mut pool = Pool::start().await;
    let module = pool.push(guest("wordcount.wasm")).await;
    let done = pool.run(json!({"module": module, "stdin": {"text": "one two\n"}})).await;
    let misbehave = pool.push(guest("misbehave.wasm")).await;
    let slow = json!({"module": misbehave, "args": ["work", "300000000"], "timeout_ms": 120_000});
    let (_, open) = pool.post("/v1/runs", &slow).await;
    assert!(pool.stop().success());
    pool.start_again();
    let id = done["id"].as_str().expect("an id");
    assert_eq!(pool.get(&format!("/v1/runs/{id}")).await.1, done);
    let run = pool.finished(open["id"].as_str().expect("an id")).await;
    assert_eq!(run["state"], "succeeded", "{run}");
}

#[tokio::test]
async fn one_idempotency_key_makes_one_run_however_many_race() {
    let mut pool = Pool::start().await;
    let module = pool.push(guest("hello.wasm")).await;
    let body = json!({"module": module, "args": ["once"]});
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let request = pool.request(Method::POST, "/v1/runs").header("idempotency-key", "k1").json(&body);
        racing.spawn(Pool::json(request));
    }
    let mut ids = BTreeSet::new();
    while let Some(answer) = racing.join_next().await {
        let (status, run) = answer.expect("no panic");
        assert!(matches!(status, 200..=202), "{status} {run}");
        ids.insert(run["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(ids.len(), 1);
    let other = json!({"module": module, "args": ["twice"]});
    for _ in 0..2 {
        let request = pool.request(Method::POST, "/v1/runs").header("idempotency-key", "k1").json(&other);
        let (status, problem) = Pool::json(request).await;
        assert_eq!(status, 422, "{problem}");
        let request = pool.request(Method::POST, "/v1/runs").header("idempotency-key", "k1").json(&body);
        let (status, run) = Pool::json(request).await;
        assert_eq!((status, run["id"].as_str()), (200, ids.first().map(String::as_str)));
        // the key outlives the process
        pool.kill();
        pool.start_again();
    }
}

#[tokio::test]
async fn a_second_process_over_the_same_folder_is_refused() {
    let pool = Pool::start().await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&pool.data)
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("in use") || text.contains("another"), "{text}");
}
