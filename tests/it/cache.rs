//! The cache of verified results over real workers: hits, the command line, and what a restart leaves.

use std::process::Command;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::{Pool, eventually, guest};

const ON: [&str; 6] = ["--workers", "3", "--slots", "1", "--set", "cache_entries=1000"];

async fn caching() -> Pool {
    Pool::with(&ON).await
}

fn lockstep(pool: &Pool, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.args(args).args(["--server", &pool.url, "--token", &pool.token]);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn results_outlive_a_restart_and_withdrawals_do_too() {
    let mut pool = caching().await;
    let module = pool.push(guest("hello.wasm")).await;
    let request = |seed: u64| json!({"module": module, "seed": seed, "verify": {"policy": "quorum", "n": 2}});
    let first = pool.run(request(1)).await;
    let withdrawn = pool.run(request(2)).await;
    assert_eq!((&first["cached"], first["attempts"].as_array().unwrap().len()), (&json!(false), 2));
    let hit = pool.run(request(1)).await;
    assert_eq!(hit["cached_from"], first["id"], "{hit}");
    // the receipt names the run that computed it
    let (status, receipt) = pool.get(&format!("/v1/runs/{}/receipt", hit["id"].as_str().unwrap())).await;
    assert_eq!(status, 200, "{receipt}");
    let payload =
        base64::engine::general_purpose::STANDARD.decode(receipt["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["predicate"]["run"], first["id"]);
    let (status, _) = pool.post("/v1/cache/withdraw", &json!({"run": withdrawn["id"]})).await;
    assert_eq!(status, 200);

    for is_killed in [false, true] {
        match is_killed {
            true => pool.kill(),
            false => assert!(pool.stop().success()),
        }
        pool.start_again();
        // it is read back beside everything else
        eventually("the cache is filled", async || {
            (pool.get("/v1/cache").await.1["entries"] == json!(1)).then_some(())
        })
        .await;
        let hit = pool.run(request(1)).await;
        assert_eq!(hit["cached_from"], first["id"], "{hit}");
        assert_eq!(hit["stdout"]["text"], first["stdout"]["text"]);
    }
    let anew = pool.run(request(2)).await;
    assert_eq!(anew["cached"], false, "it was withdrawn in an earlier life: {anew}");
}

/// An answer is given before its row is written. Whatever the power cut leaves, no id shows anything else than what was
/// answered: it is final with the same result, or is not known.
#[tokio::test]
async fn a_kill_between_an_answer_and_its_row_leaves_a_final_run_or_none() {
    let mut pool = caching().await;
    let module = pool.push(guest("hello.wasm")).await;
    let request = json!({"module": module, "verify": {"policy": "quorum", "n": 2}, "wait_ms": 30_000});
    let first = pool.run(request.clone()).await;
    let (mut known, mut unknown) = (0, 0);
    for _ in 0..5 {
        let mut hits: Vec<Value> = Vec::new();
        for _ in 0..20 {
            hits.push(pool.post("/v1/runs", &request).await.1);
        }
        pool.kill();
        pool.start_again();
        for hit in hits {
            assert_eq!(hit["cached_from"], first["id"], "{hit}");
            let (status, run) =
                pool.get(&format!("/v1/runs/{}?wait_ms=30000", hit["id"].as_str().unwrap())).await;
            match status {
                200 => {
                    known += 1;
                    let same =
                        ["state", "result", "verdict", "stdout"].iter().all(|name| run[name] == hit[name]);
                    assert!(same, "{run}");
                }
                _ => {
                    unknown += 1;
                    assert_eq!(run["code"], "not_found", "{run}");
                }
            }
        }
        eventually("the cache is filled", async || {
            (pool.get("/v1/cache").await.1["entries"] == json!(1)).then_some(())
        })
        .await;
    }
    println!("{known} rows were written, {unknown} were not");
    assert!(known > 0);
}

#[tokio::test]
async fn a_verified_failure_is_a_result_too() {
    let pool = caching().await;
    let trap = crate::support::wat(r#"(module (func (export "_start") unreachable))"#);
    let module = pool.push(trap).await;
    let request = json!({"module": module, "verify": {"policy": "quorum", "n": 2}});
    let first = pool.run(request.clone()).await;
    let second = pool.run(request).await;
    assert_eq!((&first["state"], &first["reason"]), (&json!("failed"), &json!("trap")), "{first}");
    assert_eq!((&second["cached_from"], &second["reason"]), (&first["id"], &json!("trap")), "{second}");
}

#[tokio::test]
async fn equal_runs_survive_a_kill_of_the_coordinator_and_all_end() {
    let mut pool = Pool::with(&["--workers", "1", "--slots", "1", "--set", "cache_entries=1000"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let blocker =
        json!({"module": module, "args": ["loop"], "verify": {"policy": "once"}, "timeout_ms": 600_000});
    let blocker = pool.post("/v1/runs", &blocker).await.1["id"].as_str().unwrap().to_owned();
    let hello = pool.push(guest("hello.wasm")).await;
    let request = json!({"module": hello, "verify": {"policy": "once"}});
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(pool.post("/v1/runs", &request).await.1["id"].as_str().unwrap().to_owned());
    }
    let (_, follower) = pool.get(&format!("/v1/runs/{}", ids[3])).await;
    assert!(follower["explain"].to_string().contains("is equal to it and in flight"), "{follower}");
    pool.kill();
    pool.start_again();
    pool.post(&format!("/v1/runs/{blocker}/cancel"), &json!({})).await;
    for id in &ids {
        assert_eq!(pool.finished(id).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn the_command_line_uses_shows_and_withdraws() {
    let pool = caching().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hello.wasm");
    std::fs::write(&file, guest("hello.wasm")).unwrap();
    let file = file.to_str().unwrap();
    let run = |cache: &str| {
        let (ok, text) = lockstep(&pool, &["run", file, "--quorum", "2", "--cache", cache, "--json"]);
        assert!(ok, "{text}");
        let json = text.find('{').map(|at| &text[at..]).unwrap();
        serde_json::Deserializer::from_str(json).into_iter::<Value>().next().unwrap().unwrap()
    };
    let first = run("use");
    let second = run("use");
    assert_eq!((&first["cached"], &second["cached_from"]), (&json!(false), &first["id"]), "{second}");
    assert_eq!(run("off")["cached"], false);
    let (_, shown) = lockstep(&pool, &["runs", "show", second["id"].as_str().unwrap()]);
    assert!(shown.contains(&format!("computed by {}", first["id"].as_str().unwrap())), "{shown}");
    assert!(shown.contains("answered from the cache"), "{shown}");
    let (ok, stats) = lockstep(&pool, &["cache"]);
    assert!(
        ok && stats.contains("results    1 of at most 1000") && stats.contains("1 of 2 (50 %)"),
        "{stats}"
    );
    let (ok, refused) = lockstep(&pool, &["cache", "withdraw"]);
    assert!(!ok && refused.contains("--all"), "{refused}");
    let (ok, done) = lockstep(&pool, &["cache", "withdraw", "--run", first["id"].as_str().unwrap()]);
    assert!(ok && done.contains("1 results withdrawn"), "{done}");
    assert_eq!(run("use")["cached"], false);
    let worker = pool.get("/v1/workers").await.1["items"][0]["id"].clone();
    for (worker, is_there) in [(worker.as_str().unwrap(), true), ("w99", false)] {
        let (ok, done) = lockstep(&pool, &["cache", "withdraw", "--worker", worker]);
        assert!(ok && done.contains("results withdrawn"), "{done}");
        assert_eq!(!done.contains(&format!("there is no worker {worker}")), is_there, "{done}");
    }
}
