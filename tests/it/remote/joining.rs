//! Who is let in, and that a pool of remote workers alone does what a pool does.

use reqwest::Method;
use serde_json::json;

use super::{Worker, crew, empty_pool, ready, shown, worker_token};
use crate::support::{Pool, guest};

#[tokio::test]
async fn remote_workers_alone_compute_and_agree() {
    let pool = empty_pool(&[]).await;
    let module = pool.push(guest("wordcount.wasm")).await;
    let (status, problem) = pool.post("/v1/runs", &json!({ "module": module })).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_few_workers")), "{problem}");

    let dir = tempfile::tempdir().unwrap();
    let workers = crew(&pool, dir.path(), &[&["--label", "zone=b"], &[], &[]]).await;
    let stdout = workers[0].stdout();
    assert!(stdout.contains(&format!("of {}: domain local, class ", pool.url)), "{stdout}");
    let run = pool.run(json!({"module": module, "stdin": {"text": "one two\nthree\n"}})).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["verdict"], json!({"kind": "agreed", "votes": 2, "dissenters": []}), "{run}");
    assert_ne!(run["attempts"][0]["worker"], run["attempts"][1]["worker"]);

    // an input that is fetched, and is in the cache the second time
    let text = "lockstep\n".repeat(200_000);
    let upload = pool.request(Method::POST, "/v1/blobs").body(text.clone());
    let (_, blob) = Pool::json(upload).await;
    for seed in [1, 2] {
        let request = json!({"module": module, "stdin": {"digest": blob["digest"]}, "seed": seed,
            "verify": {"policy": "quorum", "n": 3}});
        let run = pool.run(request).await;
        assert_eq!(run["verdict"]["votes"], 3, "{run}");
        assert!(run["stdout"]["text"].as_str().unwrap().contains("200000"), "{run}");
    }
    let placed = json!({"module": module, "placement": {"mode": "labels", "labels": {"zone": "b"}},
        "verify": {"policy": "once"}});
    let run = pool.run(placed).await;
    assert_eq!(run["attempts"][0]["worker"], workers[0].id, "{run}");
}

#[tokio::test]
async fn large_outputs_and_files_are_put_into_the_store() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let _workers = crew(&pool, dir.path(), &[&[], &[]]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = pool.run(json!({"module": module, "args": ["flood", "6000000"]})).await;
    assert_eq!((&run["state"], &run["stdout"]["size"]), (&json!("succeeded"), &json!(6_000_000)), "{run}");
    let id = run["id"].as_str().unwrap();
    let bytes = pool.request(Method::GET, &format!("/v1/runs/{id}/stdout")).send().await.unwrap();
    let bytes = bytes.bytes().await.unwrap();
    assert_eq!(json!(lockstep::digest::Digest::of(&bytes).to_string()), run["stdout"]["digest"]);
}

#[tokio::test]
async fn a_stranger_needs_a_token_that_is_good() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let reader = json!({"name": "reader", "scopes": ["read"]});
    let (_, reader) = pool.post("/v1/tokens", &reader).await;
    let reader = reader["secret"].as_str().unwrap();
    let cases: [(&[&str], &str); 3] = [
        (&[], "not enrolled here yet"),
        (&["--token", "lsk_nobody"], "unknown, expired or deleted"),
        (&["--token", reader], "needs the scope `worker`"),
    ];
    for (args, words) in cases {
        let mut worker = Worker::spawn(&pool.url, &dir.path().join("stranger"), args);
        assert_eq!(worker.ended().await.code(), Some(1), "{}", worker.stderr());
        let stderr = worker.stderr();
        assert!(stderr.contains(words) && stderr.contains("refuses this worker (token)"), "{stderr}");
    }
    let (_, workers) = pool.get("/v1/workers").await;
    assert_eq!(workers["items"], json!([]));
}

#[tokio::test]
async fn an_enrolled_worker_comes_back_with_its_key_alone() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let (_, token) =
        pool.post("/v1/tokens", &json!({"name": "once", "scopes": ["worker"], "owned": true})).await;
    let secret = token["secret"].as_str().unwrap();
    let first = Worker::join(&pool.url, dir.path(), &["--token", secret]).await;
    let id = first.id.clone();
    let mut second = Worker::spawn(&pool.url, dir.path(), &["--token", secret]);
    assert_eq!(second.ended().await.code(), Some(1));
    assert!(second.stderr().contains("another worker uses the folder"), "{}", second.stderr());
    drop(first);
    let path = format!("/v1/tokens/{}", token["token"]["id"]);
    assert_eq!(pool.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    for args in [&[][..], &["--token", secret]] {
        let again = Worker::join(&pool.url, dir.path(), args).await;
        assert_eq!(again.id, id);
        ready(&pool, 1).await;
    }
}

#[tokio::test]
async fn a_quarantined_worker_is_let_in_and_gets_nothing() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let workers = crew(&pool, dir.path(), &[&[], &[]]).await;
    let path = format!("/v1/workers/{}/quarantine", workers[0].id);
    assert_eq!(pool.post(&path, &json!({"why": "a test"})).await.0, 200);
    let module = pool.push(guest("hello.wasm")).await;
    for seed in 0..5 {
        let run = pool.run(json!({"module": module, "seed": seed, "verify": {"policy": "once"}})).await;
        assert_eq!(run["attempts"][0]["worker"], workers[1].id, "{run}");
    }
    assert_eq!(shown(&pool, &workers[0].id).await["standing"], "quarantined");
}

#[tokio::test]
async fn it_joins_the_second_coordinator_when_the_first_is_not_there() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let token = worker_token(&pool).await;
    let args = ["--coordinator", &pool.url, "--token", &token];
    // nothing listens on the discard port
    let worker = Worker::join("http://127.0.0.1:9", dir.path(), &args).await;
    assert!(worker.stdout().contains(&pool.url));
}
