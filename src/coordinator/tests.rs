//! The whole coordinator but for its workers, which are played by the tests: real rules, store, blobs and routes.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::cache::ResultCache;
use super::owner::Command;
use super::start::start_over;
use super::*;
use crate::core::Time;
use crate::digest::Digest;
use crate::id::{AttemptId, Class, RunId, WorkerId};
use crate::protocol::agent::{Assignment, BlobBody, FromAgent, INLINE_BYTES_MAX, ToAgent, VoteReport};
use crate::result::{Outcome, OutputRef, ResultManifest};
use crate::store::sqlite::Options;
use crate::store::sqlite::tests::held;
use crate::store::{BlobRow, Enrolment, ModuleState, StoredModule};

mod cached;
mod full;

const CLASS: Class = Class(Digest::EMPTY);

/// A coordinator without workers of its own.
struct Stage {
    running: Option<Running>,
    router: axum::Router,
    module: Digest,
    dir: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Stage {
        // equal runs are submitted to see them executed
        Stage::with(CacheConfig { entries_max: 0, bytes_max: 1 << 20, age_ms: 60_000 }).await
    }

    async fn with(cache: CacheConfig) -> Stage {
        Stage::over(cache, Options::default()).await
    }

    async fn over(cache: CacheConfig, options: Options) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let retention =
            RetentionConfig { age_ms: 60_000, runs_max: 1_000, evidence_max: 1_000, evidence_age_ms: 60_000 };
        let config = CoordinatorConfig {
            classes: Some(Classes::alike(CLASS)),
            data: dir.path().join("data"),
            exe: std::env::current_exe().unwrap(),
            workers: 0,
            arbiters: 0,
            verify_default: Verify::Quorum { n: 2 },
            slots: 1,
            worker_memory_bytes: 1 << 30,
            heartbeat_ms: 1_000,
            worker_outputs_bytes_max: 1 << 30,
            spare_runners: 0,
            parked_runners: 0,
            begin_ms: 1_000,
            // played workers say nothing of their own accord
            core: core::Config { quorum_wait_ms: 200, worker_lost_ms: 600_000, ..core::Config::default() },
            retention,
            cache,
            upload_keep_ms: 60_000,
            compiler: CompilerConfig {
                cache_dir: dir.path().join("cache"),
                cache_bytes_max: 1 << 20,
                exe: std::env::current_exe().unwrap(),
                limits: crate::compiler::CompileLimits::default(),
                concurrency: 1,
            },
            module_bytes_max: 1 << 20,
            blob_bytes_max: 1 << 30,
            connections_max: 8,
            admission_wait: Duration::from_secs(1),
            http_drain: Duration::from_secs(1),
            tls: None,
            callbacks: Default::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let running = start_over(config, listener, options).await.unwrap();
        let module = Digest::of(b"a module that nobody executes");
        let bytes = BlobRow { size: 29, inline: Some(Bytes::from_static(b"a module that nobody executes")) };
        running.store.put_blob(module, bytes, Time(0)).await.unwrap();
        let row = StoredModule {
            digest: module,
            size: 29,
            name: None,
            state: ModuleState::Ready,
            analysis: None,
            refusal: None,
            quarantined: None,
            verify: None,
            created_at: Time(1),
            nondeterministic: None,
        };
        running.store.put_module(row).await.unwrap();
        let router = http::router(Arc::new(running.service.clone()));
        Stage { running: Some(running), router, module, dir }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs until the end of the test")
    }

    /// A worker that answers every assignment with this output.
    async fn worker(&self, number: u8, output: Vec<u8>) -> WorkerId {
        let (worker, orders, say) = self.joined(number).await;
        say(FromAgent::Credits { credits: 4, received: 0 });
        tokio::spawn(play(orders, output, say));
        worker
    }

    /// A worker that takes nothing before it says so.
    async fn idle_worker(
        &self,
        number: u8,
    ) -> (mpsc::Receiver<ToAgent>, impl Fn(FromAgent) -> bool + Send + 'static) {
        let (_, orders, say) = self.joined(number).await;
        (orders, say)
    }

    async fn joined(
        &self,
        number: u8,
    ) -> (WorkerId, mpsc::Receiver<ToAgent>, impl Fn(FromAgent) -> bool + Send + 'static) {
        let enrolment = Enrolment {
            key: [number; 32],
            name: format!("played-{number}"),
            domain: "stage".to_owned(),
            embedded: true,
            owned: true,
            arbiter: false,
            token: None,
            at: Time(1),
        };
        let row = self.running().store.enrol_worker(enrolment).await.unwrap();
        let worker = row.id;
        let (to, orders) = mpsc::channel(64);
        let commands = self.running().service.parts().commands.clone();
        let joined = Command::Join { row: Box::new(row), to, session: 1, remote: None };
        commands.send(joined).ok().unwrap();
        let say = move |message| commands.send(Command::Said(worker, 1, message)).is_ok();
        say(FromAgent::Hello {
            classes: Classes::alike(CLASS),
            about: Vec::new(),
            slots: 4,
            memory_bytes: 4 << 30,
            labels: std::collections::BTreeMap::new(),
            holds: Vec::new(),
            version: "played".to_owned(),
        });
        (worker, orders, say)
    }

    async fn get(&self, path: &str) -> (StatusCode, Bytes) {
        self.send("GET", path, Body::empty()).await
    }

    async fn send(&self, method: &str, path: &str, body: Body) -> (StatusCode, Bytes) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.running().token))
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        (status, axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap())
    }

    async fn json(&self, path: &str) -> (StatusCode, Value) {
        let (status, bytes) = self.get(path).await;
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// Submits a run and waits for its end.
    async fn run(&self, request: Value) -> Value {
        let (status, bytes) = self.send("POST", "/v1/runs", Body::from(request.to_string())).await;
        assert_eq!(status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn end(mut self) {
        if let Some(running) = self.running.take() {
            running.serve(std::future::ready(())).await.unwrap();
        }
    }
}

/// Votes as told, delivers what it is asked for, forgets what is released.
async fn play(
    mut orders: mpsc::Receiver<ToAgent>,
    output: Vec<u8>,
    say: impl Fn(FromAgent) -> bool + Send + 'static,
) {
    let digest = Digest::of(&output);
    let mut kept = HashMap::<AttemptId, Arc<std::fs::File>>::new();
    let mut received = 0;
    while let Some(order) = orders.recv().await {
        match order {
            ToAgent::Assign(assignment) => {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&output).unwrap();
                kept.insert(assignment.attempt, Arc::new(file));
                say(FromAgent::Voted(Box::new(vote(&assignment, &output))));
                received += 1;
                say(FromAgent::Credits { credits: 4, received });
            }
            ToAgent::Collect { attempt, digests } => {
                let body = |file: &Arc<std::fs::File>| BlobBody::File {
                    file: Arc::clone(file),
                    offset: 0,
                    size: output.len() as u64,
                };
                let blobs = kept.get(&attempt).filter(|_| digests.contains(&digest)).map(body);
                let blobs = blobs.into_iter().map(|body| (digest, body)).collect();
                say(FromAgent::Blobs { attempt, blobs });
            }
            ToAgent::Release(attempt) => drop(kept.remove(&attempt)),
            _ => {}
        }
    }
}

fn vote(assignment: &Assignment, output: &[u8]) -> VoteReport {
    let manifest = ResultManifest {
        outcome: Outcome::Exited { code: 0 },
        stdout: OutputRef::of(output),
        stderr: OutputRef::of(b""),
        files: Vec::new(),
        fuel_used: None,
    };
    let canonical = Bytes::from(manifest.canonical());
    let is_small = !output.is_empty() && output.len() <= INLINE_BYTES_MAX;
    VoteReport {
        attempt: assignment.attempt,
        epoch: assignment.epoch,
        nonce: assignment.nonce,
        run_key: assignment.run_key,
        class: CLASS,
        artifact: Digest::of(b"artifact"),
        result: Digest::of(&canonical),
        manifest: canonical,
        inline: is_small.then(|| (Digest::of(output), Bytes::copy_from_slice(output))).into_iter().collect(),
        cpu_us: 5,
        begun_at_us: 1,
        proof: None,
    }
}

async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(found) = probe().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

fn large(changed_at: Option<usize>) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    if let Some(at) = changed_at {
        bytes[at] ^= 0xff;
    }
    bytes
}

#[tokio::test]
async fn a_large_dissenting_output_is_kept_compared_and_collected() {
    let stage = Stage::new().await;
    let changed_at = 2_345_678;
    stage.worker(1, large(None)).await;
    let liar = stage.worker(2, large(Some(changed_at))).await;
    stage.worker(3, large(None)).await;
    let request = json!({"module": stage.module, "verify": {"policy": "quorum", "n": 3}, "wait_ms": 60_000});
    let run = stage.run(request).await;
    assert_eq!((&run["state"], &run["verdict"]["kind"]), (&json!("succeeded"), &json!("agreed")), "{run}");
    assert_eq!(run["verdict"]["dissenters"], json!([liar]));
    let attempts = run["attempts"].as_array().unwrap();
    let lied = attempts.iter().find(|attempt| attempt["worker"] == json!(liar)).unwrap();
    let id = run["id"].as_str().unwrap();
    // the run does not wait for what lost
    let path = format!("/v1/runs/{id}/attempts/{}/stdout", lied["number"]);
    let bytes = eventually("the liar's output is stored", async || {
        let (status, bytes) = stage.get(&path).await;
        (status == StatusCode::OK).then_some(bytes)
    })
    .await;
    assert_eq!(bytes, large(Some(changed_at)));

    let (status, diff) = stage.json(&format!("/v1/runs/{id}/diff")).await;
    assert_eq!((status, &diff["first_difference"]), (StatusCode::OK, &json!(changed_at)), "{diff}");
    assert_eq!((&diff["equal"], &diff["differing"]), (&json!(false), &json!(["stdout"])));
    for side in ["left", "right"] {
        assert_eq!(diff[side]["window"]["offset"], json!(changed_at - 256));
        let window = diff[side]["window"]["base64"].as_str().unwrap();
        assert_eq!(window.len(), 1_024_usize.div_ceil(3) * 4);
    }
    assert_ne!(diff["left"]["window"]["base64"], diff["right"]["window"]["base64"]);

    // its pin has ended: it is collected, and the answer says so; the manifest stays with its run
    let blobs = Arc::clone(&stage.running().service.parts().blobs);
    let week = stage.running().service.parts().clock.now().plus_ms(8 * 24 * 60 * 60 * 1_000);
    blobs.collect_garbage(week, 100).await.unwrap();
    let (status, problem) = stage.json(&path).await;
    assert_eq!((status, &problem["code"]), (StatusCode::GONE, &json!("gone")), "{problem}");
    let (status, problem) = stage.json(&format!("/v1/runs/{id}/diff")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::GONE, &json!("gone")), "{problem}");
    let (status, _) = stage.get(&format!("/v1/runs/{id}/stdout")).await;
    assert_eq!(status, StatusCode::OK, "what won is the run's");

    // retention deletes the run, and with it everything that only it referred to
    let everything = crate::store::Retention { finished_before: week, runs_max: 0, batch_max: 100 };
    let store = Arc::clone(&stage.running().store);
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 1);
    blobs.collect_garbage(week, 100).await.unwrap();
    assert_eq!(store.usage().await.unwrap().blobs, 1, "only the module is left");
    assert_eq!(store.recount_references().await.unwrap(), []);
    stage.end().await;
}

#[tokio::test]
async fn a_run_in_memory_keeps_what_lost_too() {
    let stage = Stage::new().await;
    stage.worker(1, b"true".to_vec()).await;
    stage.worker(2, b"false".to_vec()).await;
    stage.worker(3, b"true".to_vec()).await;
    let request = json!({"module": stage.module, "verify": {"policy": "quorum", "n": 3}, "wait_ms": 60_000,
        "durable": false});
    let run = stage.run(request).await;
    assert_eq!(run["verdict"]["kind"], "agreed", "{run}");
    let id = run["id"].as_str().unwrap();
    let diff = eventually("the liar's output is stored", async || {
        let (status, diff) = stage.json(&format!("/v1/runs/{id}/diff")).await;
        (status == StatusCode::OK).then_some(diff)
    })
    .await;
    assert_eq!((&diff["first_difference"], &diff["right"]["size"]), (&json!(0), &json!(5)), "{diff}");
    stage.end().await;
}

#[tokio::test]
async fn of_a_run_that_ends_disputed_each_result_is_kept() {
    let stage = Stage::new().await;
    stage.worker(1, large(Some(7))).await;
    stage.worker(2, large(Some(8))).await;
    let request = json!({"module": stage.module, "verify": {"policy": "quorum", "n": 2}, "wait_ms": 60_000});
    let run = stage.run(request).await;
    assert_eq!((&run["reason"], &run["verdict"]["kind"]), (&json!("no_quorum"), &json!("disputed")), "{run}");
    let id = run["id"].as_str().unwrap();
    let diff = eventually("both outputs are stored", async || {
        let (status, diff) = stage.json(&format!("/v1/runs/{id}/diff")).await;
        (status == StatusCode::OK).then_some(diff)
    })
    .await;
    assert_eq!(
        (&diff["first_difference"], &diff["left"]["window"]["offset"]),
        (&json!(7), &json!(0)),
        "{diff}"
    );
    stage.end().await;
}

#[tokio::test]
async fn inputs_that_came_in_the_request_are_not_held_in_memory_but_for_small_ones() {
    let stage = Stage::new().await;
    let (mut orders, say) = stage.idle_worker(9).await;
    let large = "x".repeat(100_000);
    let request = json!({"module": stage.module, "stdin": {"text": large}, "files": {"/a": {"text": "small"}},
        "verify": {"policy": "once"}});
    let run = stage.run(request).await;
    // nobody takes it yet, so it is still open
    assert_eq!(run["state"], "queued", "{run}");
    let (status, bytes) = stage.get(&format!("/v1/blobs/{}", run["spec"]["stdin"].as_str().unwrap())).await;
    assert_eq!((status, bytes.len()), (StatusCode::OK, 100_000));
    let (_, stats) = stage.json("/v1/stats").await;
    assert_eq!(stats["queue"], json!({"queued": 1, "running": 0}), "{stats}");
    // a worker gets the small one along with its assignment, and has to fetch the other
    say(FromAgent::Credits { credits: 1, received: 0 });
    let assignment = loop {
        if let ToAgent::Assign(assignment) = orders.recv().await.expect("an order") {
            break assignment;
        }
    };
    let inline: Vec<_> = assignment.inline.values().map(|bytes| bytes.len()).collect();
    assert_eq!(inline, [5]);
    stage.end().await;
}

#[tokio::test]
async fn a_cancel_waits_for_the_store_no_longer_than_it_was_told() {
    let stage = Stage::new().await;
    let request = json!({"module": stage.module, "verify": {"policy": "once"}});
    let _idle = stage.idle_worker(9).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(stage.run(request.clone()).await["id"].clone());
    }
    let bulk = async |wait_ms: u64| {
        let path = format!("/v1/runs/cancel?wait_ms={wait_ms}");
        let (status, bytes) = stage.send("POST", &path, Body::from(json!({"ids": ids}).to_string())).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&bytes));
        let page: Value = serde_json::from_slice(&bytes).unwrap();
        let items = page["items"].as_array().unwrap().clone();
        assert_eq!(items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>(), ids);
        items
    };
    // somebody else holds the database, as a full disk would: nothing can be written
    let held = held(&stage.dir.path().join("data"));
    for item in bulk(200).await {
        assert_eq!((&item["ok"], &item["pending"]), (&json!(true), &json!(true)), "{item}");
        assert_eq!(item["run"]["state"], "queued", "what is not written is not told: {item}");
    }
    drop(held);
    // it goes on without whoever asked, and whoever asks again hears the end
    for item in bulk(60_000).await {
        assert_eq!((&item["ok"], &item["pending"]), (&json!(true), &json!(false)), "{item}");
        assert_eq!(item["run"]["state"], "canceled", "{item}");
    }
    let body = Body::from(json!({"ids": ids}).to_string());
    let (status, bytes) = stage.send("POST", "/v1/runs/cancel?wait_ms=300001", body).await;
    let problem: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_parameter")));
    stage.end().await;
}
