//! What survives `kill -9` of the whole process, and what the next life makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Pool, children, eventually, guest, is_running};

/// Submits runs under keys of its own until it is told to stop, each until it is acknowledged, as a client does that
/// wants its work done; gives key and id of each, and the key of one that may or may not have been taken.
async fn submit_for_ever(
    request: reqwest::RequestBuilder,
    module: String,
    name: String,
    stop: Arc<AtomicBool>,
) -> (Vec<(String, String)>, Option<String>) {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let key = format!("{name}-{number}");
        if stop.load(Ordering::Relaxed) {
            return (acknowledged, None);
        }
        let body = json!({"module": module, "args": ["args", key]});
        let attempt =
            request.try_clone().expect("nothing streams").header("idempotency-key", &key).json(&body);
        let answer = match attempt.send().await {
            Ok(answer) => answer,
            Err(_) => return (acknowledged, Some(key)),
        };
        let status = answer.status().as_u16();
        let Ok(run) = answer.json::<Value>().await else { return (acknowledged, Some(key)) };
        match status {
            200..=202 => acknowledged.push((key, run["id"].as_str().expect("an id").to_owned())),
            // it had begun to stop
            503 => return (acknowledged, Some(key)),
            other => panic!("{other} {run}"),
        }
    }
    unreachable!("numbers do not end")
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed_under_load() {
    let mut pool = Pool::with(&["--workers", "3", "--slots", "1", "--verify", "quorum:2"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut acknowledged = BTreeMap::new();
    let mut open = BTreeSet::new();
    for round in 0..5 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..8 {
            let request = pool.request(Method::POST, "/v1/runs");
            let name = format!("{round}-{client}");
            clients.spawn(submit_for_ever(request, module.clone(), name, Arc::clone(&stop)));
        }
        eventually("some runs were taken", async || {
            let (_, runs) = pool.get("/v1/runs?limit=100").await;
            (runs["items"].as_array()?.len() >= (20 * (round + 1)).min(100)).then_some(())
        })
        .await;
        let children = children(pool.child.id());
        pool.kill();
        stop.store(true, Ordering::Relaxed);
        while let Some(submitted) = clients.join_next().await {
            let (runs, unanswered) = submitted.expect("no panic");
            acknowledged.extend(runs);
            open.extend(unanswered);
        }
        eventually("runners die with their parent", async || {
            children.iter().all(|pid| !is_running(*pid)).then_some(())
        })
        .await;
        assert_eq!(integrity(&pool.data), "ok");
        pool.start_again();
    }
    assert!(acknowledged.len() >= 60, "{} runs", acknowledged.len());
    assert!(!open.is_empty(), "a kill meets somebody in the middle");
    // who was not answered asks again, and so does one who was
    let again: Vec<String> = open.iter().chain(acknowledged.keys().take(20)).cloned().collect();
    for key in again {
        let body = json!({"module": module, "args": ["args", key]});
        let request = pool.request(Method::POST, "/v1/runs").header("idempotency-key", &key).json(&body);
        let (status, run) = Pool::json(request).await;
        assert!(matches!(status, 200..=202), "{status} {run}");
        let id = run["id"].as_str().expect("an id").to_owned();
        let known = acknowledged.insert(key, id.clone());
        assert!(known.is_none_or(|known| known == id), "one key, one run");
    }
    let ids: BTreeSet<&String> = acknowledged.values().collect();
    assert_eq!(ids.len(), acknowledged.len());
    for (key, id) in &acknowledged {
        let run = pool.finished(id).await;
        assert_eq!(
            (&run["state"], &run["stdout"]["text"]),
            (&json!("succeeded"), &json!(format!("{key}\n")))
        );
        assert_eq!(run["verdict"]["kind"], "agreed", "{run}");
    }
    // and nothing else is there: each key made one run
    assert_eq!(count_runs(&pool.data), acknowledged.len());
    assert!(pool.stop().success());
    assert_eq!(integrity(&pool.data), "ok");
}

fn database(data: &std::path::Path) -> rusqlite::Connection {
    rusqlite::Connection::open(data.join("lockstep.db")).expect("the database is there")
}

/// What SQLite says of the database.
fn integrity(data: &std::path::Path) -> String {
    database(data).query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it answers")
}

fn count_runs(data: &std::path::Path) -> usize {
    let count: i64 =
        database(data).query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).expect("it answers");
    count.try_into().expect("a count")
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

#[tokio::test]
async fn a_module_that_could_not_be_compiled_is_tried_again_until_it_can() {
    let pool = Pool::start().await;
    let (cache, away) = (pool.data.join("cache"), pool.data.join("cache.away"));
    std::fs::rename(&cache, &away).expect("the folder is there");
    let upload = pool
        .request(Method::POST, "/v1/modules")
        .header("content-type", "application/wasm")
        .body(crate::support::wat("(module (func (export \"_start\")))"));
    let upload = tokio::spawn(Pool::json(upload));
    let compiling = eventually("the module is there and cannot be compiled", async || {
        let (_, modules) = pool.get("/v1/modules").await;
        let module = modules["items"].get(0)?.clone();
        (module["state"] == "compiling").then_some(module)
    })
    .await;
    // a run may be submitted; it waits
    let (status, run) = pool.post("/v1/runs", &json!({"module": compiling["digest"]})).await;
    assert_eq!(status, 201, "{run}");
    std::fs::rename(&away, &cache).expect("the folder is there");
    let (status, module) = upload.await.expect("no panic");
    assert_eq!((status, &module["state"]), (201, &json!("ready")), "{module}");
    let run = pool.finished(run["id"].as_str().expect("an id")).await;
    assert_eq!(run["state"], "succeeded", "{run}");
}
