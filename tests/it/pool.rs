//! The main job, through the front door: upload, run, compare, rerun, answer.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Pool, eventually, guest, signal, wat};

/// A command that prints its argument count and its standard input.
const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "hello\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 6))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)))))"#;

fn texts(run: &Value) -> Vec<String> {
    let entries = run["explain"].as_array().expect("an explain log");
    entries.iter().map(|entry| entry["text"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn a_module_is_uploaded_run_compared_and_answered() {
    let pool = Pool::start().await;
    let (status, module) = pool.upload(wat(HELLO)).await;
    assert_eq!(status, 201, "{module}");
    let digest = module["digest"].as_str().expect("a digest");

    let run = pool.run(json!({ "module": digest })).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["outcome"], json!({"kind": "exited", "code": 0}));
    assert_eq!(run["stdout"]["text"], "hello\n");
    assert_eq!(run["verdict"]["kind"], "agreed");
    assert_eq!(run["verdict"]["votes"], 2);
    let attempts = run["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 2);
    assert_ne!(attempts[0]["worker"], attempts[1]["worker"]);
    assert_eq!(attempts[0]["result"], attempts[1]["result"]);
    assert_eq!(attempts[0]["result"], run["result"]);
    assert!(!texts(&run).is_empty());

    // the result digest names the manifest, and the manifest is there to be read
    let result = run["result"].as_str().expect("a result");
    let manifest = pool.request(Method::GET, &format!("/v1/blobs/{result}")).send().await.unwrap();
    assert_eq!(manifest.status(), 200);
    let bytes = manifest.bytes().await.unwrap();
    assert_eq!(lockstep::digest::Digest::of(&bytes).to_string(), result);

    // the same bytes again are the same module
    let (status, again) = pool.upload(wat(HELLO)).await;
    assert_eq!((status, &again["digest"]), (200, &module["digest"]));
}

#[tokio::test]
async fn once_compares_nothing_and_says_so() {
    let pool = Pool::start().await;
    let module = pool.push(wat(HELLO)).await;
    for durable in [true, false] {
        let run = pool.run(json!({"module": module, "verify": {"policy": "once"}, "durable": durable})).await;
        assert_eq!(run["state"], "succeeded", "{run}");
        assert_eq!(run["verdict"]["kind"], "unchecked");
        assert_eq!(run["attempts"].as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test]
async fn a_killed_runner_costs_its_attempt_and_the_rerun_goes_elsewhere() {
    let pool = Pool::start().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let request = json!({"module": module, "args": ["work", "3000000000"], "verify": {"policy": "once"},
        "timeout_ms": 120_000});
    let (status, run) = pool.post("/v1/runs", &request).await;
    assert_eq!(status, 201, "{run}");
    let id = run["id"].as_str().expect("an id");
    eventually("the runner is busy", async || {
        let busy = pool.busiest_runner()?;
        (crate::support::cpu_ticks(busy) >= 20).then_some(busy)
    })
    .await;
    let busy = pool.busiest_runner().expect("a runner");
    signal(busy, "KILL");
    let run = eventually("a second attempt", async || {
        let (_, run) = pool.get(&format!("/v1/runs/{id}")).await;
        (run["attempts"].as_array()?.len() == 2).then_some(run)
    })
    .await;
    let attempts = run["attempts"].as_array().expect("attempts");
    assert_eq!(attempts[0]["state"], "faulted", "{run}");
    assert_eq!(attempts[0]["fault"]["kind"], "crashed");
    assert_eq!(attempts[0]["fault"]["signal"], 9);
    assert_ne!(attempts[0]["worker"], attempts[1]["worker"]);
    assert!(texts(&run).iter().any(|text| text.contains("signal 9")), "{:?}", texts(&run));
    let (_, canceled) = pool.post(&format!("/v1/runs/{id}/cancel"), &json!({})).await;
    assert_eq!(canceled["state"], "canceled", "{canceled}");
    let (_, again) = pool.post(&format!("/v1/runs/{id}/cancel"), &json!({})).await;
    assert_eq!(again["state"], "canceled");
}

#[tokio::test]
async fn a_run_that_times_out_everywhere_is_final_after_its_attempts() {
    let pool = Pool::start().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = pool
        .run(json!({"module": module, "args": ["loop"], "verify": {"policy": "once"}, "timeout_ms": 150,
            "attempts_max": 2}))
        .await;
    assert_eq!((&run["state"], &run["reason"]), (&json!("failed"), &json!("timed_out")), "{run}");
    assert_eq!(run["attempts"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_guest_that_traps_is_a_verified_failure_and_never_retried() {
    let pool = Pool::start().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    for (args, reason, outcome) in [
        (json!(["trap"]), "trap", json!({"kind": "trapped", "trap": "unreachable"})),
        (json!(["exit", "3"]), "exit_code", json!({"kind": "exited", "code": 3})),
        (json!(["recurse"]), "trap", json!({"kind": "trapped", "trap": "stack_overflow"})),
        (json!(["flood"]), "output_limit", json!({"kind": "output_limit"})),
    ] {
        let run = pool.run(json!({"module": module, "args": args})).await;
        assert_eq!(run["state"], "failed", "{run}");
        assert_eq!(run["reason"], reason, "{run}");
        assert_eq!(run["outcome"], outcome, "{run}");
        assert_eq!(run["verdict"]["kind"], "agreed");
        assert_eq!(run["attempts"].as_array().map(Vec::len), Some(2), "a trap is an answer");
    }
}

#[tokio::test]
async fn randomness_and_time_are_the_same_on_every_worker() {
    let pool = Pool::start().await;
    let misbehave = pool.push(guest("misbehave.wasm")).await;
    let montecarlo = pool.push(guest("montecarlo.wasm")).await;
    let quorum = json!({"policy": "quorum", "n": 3});
    for (module, args) in [
        (&misbehave, json!(["read-clock"])),
        (&misbehave, json!(["random", "32"])),
        (&misbehave, json!(["sleep", "3600000"])),
        (&montecarlo, json!(["100000"])),
    ] {
        let run = pool.run(json!({"module": module, "args": args, "verify": quorum, "seed": 7})).await;
        assert_eq!(run["state"], "succeeded", "{run}");
        assert_eq!(run["verdict"], json!({"kind": "agreed", "votes": 3, "dissenters": []}));
    }
    let one = pool.run(json!({"module": misbehave, "args": ["random", "32"], "seed": 1})).await;
    let two = pool.run(json!({"module": misbehave, "args": ["random", "32"], "seed": 2})).await;
    assert_ne!(one["stdout"]["digest"], two["stdout"]["digest"]);
}

#[tokio::test]
async fn a_file_that_the_guest_leaves_under_out_comes_back() {
    let pool = Pool::start().await;
    let module = pool.push(guest("mandelbrot.wasm")).await;
    let run = pool.run(json!({"module": module, "args": ["320", "200"]})).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let file = &run["files"][0];
    assert_eq!(file["path"], "/out/mandelbrot.png");
    let id = run["id"].as_str().expect("an id");
    let png =
        pool.request(Method::GET, &format!("/v1/runs/{id}/files/out/mandelbrot.png")).send().await.unwrap();
    assert_eq!(png.status(), 200);
    let bytes = png.bytes().await.unwrap();
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(Value::from(lockstep::digest::Digest::of(&bytes).to_string()), file["digest"]);
}

#[tokio::test]
async fn what_a_run_left_that_is_not_written_can_be_read_from_memory() {
    let pool = Pool::start().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run =
        pool.run(json!({"module": module, "args": ["write-files", "3", "100"], "durable": false})).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let id = run["id"].as_str().expect("an id");
    let files = run["files"].as_array().expect("files");
    assert!(!files.is_empty(), "{run}");
    for file in files {
        let path = format!("/v1/runs/{id}/files{}", file["path"].as_str().expect("a path"));
        let response = pool.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{file}");
        let bytes = response.bytes().await.unwrap();
        assert_eq!(Value::from(lockstep::digest::Digest::of(&bytes).to_string()), file["digest"]);
    }
    for stream in ["stdout", "stderr"] {
        let response = pool.request(Method::GET, &format!("/v1/runs/{id}/{stream}")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{stream}");
        let bytes = response.bytes().await.unwrap();
        assert_eq!(Value::from(lockstep::digest::Digest::of(&bytes).to_string()), run[stream]["digest"]);
    }
}
