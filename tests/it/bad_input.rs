//! What people send by mistake or on purpose: each gets a problem that says what to do, and nothing is lost.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Pool, guest, wat};

/// A problem detail of this status; its code.
fn problem((status, body): (u16, Value), expected: u16) -> String {
    assert_eq!(status, expected, "{body}");
    assert_eq!(body["status"], expected, "{body}");
    for field in ["title", "detail", "code"] {
        assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {body}");
    }
    body["code"].as_str().expect("a code").to_owned()
}

#[tokio::test]
async fn modules_that_are_none() {
    let pool = Pool::start().await;
    let good = guest("hello.wasm");
    problem(pool.upload(b"not wasm at all".to_vec()).await, 422);
    problem(pool.upload(Vec::new()).await, 422);
    problem(pool.upload(good[..good.len() / 2].to_vec()).await, 422);
    problem(pool.upload(b"(module)".to_vec()).await, 422);
    let imports = wat(r#"(module (import "env" "launch" (func)) (func (export "_start")))"#);
    let (status, body) = pool.upload(imports).await;
    assert!(
        body["detail"].as_str().is_some_and(|text| text.contains("env") && text.contains("launch")),
        "{body}"
    );
    problem((status, body), 422);
    problem(pool.upload(wat("(module (memory 1 2 shared))")).await, 422);
    // a component: refused with words until they are supported
    problem(pool.upload(b"\0asm\x0d\0\x01\0".to_vec()).await, 422);
    // nothing of it stays
    let (_, modules) = pool.get("/v1/modules").await;
    assert_eq!(modules["items"], json!([]), "{modules}");
}

#[tokio::test]
async fn a_module_of_200_megabytes_is_refused_while_it_streams() {
    let pool = Pool::start().await;
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    wasm.resize(200 << 20, 0);
    let request = pool.request(Method::POST, "/v1/modules").header("content-type", "application/wasm");
    match request.body(wasm).send().await {
        Ok(response) => assert_eq!(response.status(), 413),
        // the pool may close the connection before it has read everything
        Err(error) => assert!(error.is_request() || error.is_body(), "{error}"),
    }
    assert_eq!(pool.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn a_compile_bomb_is_refused_for_good() {
    let pool = Pool::with(&["--workers", "2", "--set", "compile_timeout=2s"]).await;
    // one function with very many live locals: register allocation goes wild
    let bomb = crate::compiler::many_live_locals(15_000);
    let (status, body) = pool.upload(bomb.clone()).await;
    if status == 201 {
        // on a busy machine the upload is answered before the compiler has reached its bound
        let digest = body["digest"].as_str().expect("a digest").to_owned();
        crate::support::eventually("it is refused", async || {
            let (_, module) = pool.get(&format!("/v1/modules/{digest}")).await;
            (module["state"] == "refused").then_some(())
        })
        .await;
    } else {
        assert_eq!(problem((status, body), 422), "module_refused");
    }
    let again = pool.upload(bomb).await;
    assert_eq!(again.1["refusal"], "compile_bomb", "{}", again.1);
    assert_eq!(problem(again, 422), "module_refused");
    // others are not held up
    pool.push(guest("hello.wasm")).await;
}

#[tokio::test]
async fn modules_that_misbehave_while_they_start_are_answers() {
    let pool = Pool::start().await;
    for (text, limits, outcome) in [
        ("(module (func $s unreachable) (start $s) (func (export \"_start\")))", json!({}), "trapped"),
        (
            "(module (func $s (loop (br 0))) (start $s) (func (export \"_start\")))",
            json!({"fuel": 100_000}),
            "out_of_fuel",
        ),
        ("(module (func $s (call $s)) (start $s) (func (export \"_start\")))", json!({}), "trapped"),
        ("(module (memory 8192) (func (export \"_start\")))", json!({"memory_bytes": 1 << 20}), "trapped"),
    ] {
        let module = pool.push(wat(text)).await;
        let run = pool.run(json!({"module": module, "limits": limits})).await;
        assert_eq!(run["state"], "failed", "{text}: {run}");
        assert_eq!(run["outcome"]["kind"], outcome, "{text}: {run}");
        assert_eq!(run["verdict"]["kind"], "agreed", "{text}: {run}");
    }
    let module =
        pool.push(wat("(module (func $s (loop (br 0))) (start $s) (func (export \"_start\")))")).await;
    let run = pool.run(json!({"module": module, "timeout_ms": 100, "attempts_max": 1})).await;
    assert_eq!(run["reason"], "timed_out", "{run}");
}

#[tokio::test]
async fn submissions_that_cannot_be() {
    let pool = Pool::start().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let absent = lockstep::digest::Digest::of(b"absent").to_string();
    for (body, status) in [
        (json!({}), 422),
        (json!({"module": "sha256:12"}), 422),
        (json!({"module": absent}), 422),
        (json!({"module": module, "stdin": {"digest": absent}}), 422),
        (json!({"module": module, "files": {"/a/../b": {"text": ""}}}), 422),
        (json!({"module": module, "files": {"relative": {"text": ""}}}), 422),
        (json!({"module": module, "colour": "red"}), 422),
        (json!({"module": module, "entry": "nothing"}), 422),
        (json!({"module": module, "verify": {"policy": "quorum", "n": 1}}), 422),
        (json!({"module": module, "verify": {"policy": "quorum", "n": 4}}), 409),
        (json!({"module": module, "seed": 9_007_199_254_740_992_u64}), 422),
        (json!({"module": module, "limits": {"memory_bytes": 0}}), 422),
        (json!({"module": module, "clock": "yesterday"}), 422),
        (json!({"module": module, "durable": false}), 422),
        (json!({"module": module, "timeout_ms": 0}), 422),
    ] {
        let answer = pool.post("/v1/runs", &body).await;
        assert_eq!(answer.0, status, "{body}: {}", answer.1);
        problem(answer, status);
    }
    let request = pool.request(Method::POST, "/v1/runs").header("content-type", "application/json").body("{");
    let answer = Pool::json(request).await;
    let status = answer.0;
    assert!((400..423).contains(&status));
    problem(answer, status);
    let (_, runs) = pool.get("/v1/runs").await;
    assert_eq!(runs["items"], json!([]), "nothing was created");
}

#[tokio::test]
async fn nobody_comes_in_without_a_token() {
    let pool = Pool::start().await;
    let http = crate::support::http();
    for path in ["/v1/runs", "/v1/modules", "/v1/workers", "/v1/tokens", "/metrics"] {
        for token in [None, Some("lsk_wrong")] {
            let mut request = http.get(format!("{}{path}", pool.url));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            problem(Pool::json(request).await, 401);
        }
    }
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(http.get(format!("{}{path}", pool.url)).send().await.unwrap().status(), 200, "{path}");
    }
    problem(pool.get("/v1/nothing").await, 404);
    problem(pool.get("/v1/runs/not-an-id").await, 400);
    problem(pool.get("/v1/runs/01920000-0000-7000-8000-000000000000").await, 404);
}

#[tokio::test]
async fn blobs_are_what_they_are_named() {
    let pool = Pool::start().await;
    let digest = lockstep::digest::Digest::of(b"hello").to_string();
    let put = |body: &'static str| pool.request(Method::PUT, &format!("/v1/blobs/{digest}")).body(body);
    problem(Pool::json(put("world")).await, 422);
    problem(pool.get(&format!("/v1/blobs/{digest}")).await, 404);
    let (status, _) = Pool::json(put("hello")).await;
    assert!(status == 200 || status == 201);
    let part = pool.request(Method::GET, &format!("/v1/blobs/{digest}")).header("range", "bytes=1-3");
    let part = part.send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.text().await.unwrap(), "ell");
    let beyond = pool.request(Method::GET, &format!("/v1/blobs/{digest}")).header("range", "bytes=9-");
    assert_eq!(beyond.send().await.unwrap().status(), 416);
    let wrong = pool.request(Method::PUT, &format!("/v1/modules/{digest}")).body(guest("hello.wasm"));
    problem(Pool::json(wrong).await, 422);
}

#[tokio::test]
async fn an_upload_that_stops_half_way_leaves_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let pool = Pool::start().await;
    let address = pool.url.strip_prefix("http://").expect("http").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.expect("connects");
    let head = format!(
        "POST /v1/blobs HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-length: 10000000\r\n\r\n",
        pool.token
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(&vec![7; 1_000_000]).await.expect("written");
    drop(stream);
    let staging = pool.data.join("blobs");
    crate::support::eventually("the temporary file is gone", async || {
        (files_below(&staging) == 0).then_some(())
    })
    .await;
}

fn files_below(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn beyond_the_queue_bound_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let pool =
        std::sync::Arc::new(Pool::with(&["--workers", "2", "--slots", "1", "--set", "runs_max=300"]).await);
    let module = pool.push(guest("misbehave.wasm")).await;
    let request = json!({"module": module, "args": ["work", "20000000"], "verify": {"policy": "once"}});
    let mut submitting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (pool, request) = (std::sync::Arc::clone(&pool), request.clone());
        submitting.spawn(async move {
            let mut accepted = Vec::new();
            let mut refused = 0;
            for _ in 0..200 {
                let answer = pool.request(Method::POST, "/v1/runs").json(&request).send().await;
                let answer = answer.expect("an answer");
                let (status, retry_after) =
                    (answer.status().as_u16(), answer.headers().get("retry-after").cloned());
                let body: Value = answer.json().await.expect("a run or a problem");
                match status {
                    201 | 202 => accepted.push(body["id"].as_str().expect("an id").to_owned()),
                    429 => {
                        let seconds = retry_after.expect("it says when to come again");
                        assert!(seconds.to_str().is_ok_and(|text| text.parse::<u32>().is_ok()));
                        problem((status, body), 429);
                        refused += 1;
                    }
                    other => panic!("{other} {body}"),
                }
            }
            (accepted, refused)
        });
    }
    let mut accepted = Vec::new();
    let mut refused = 0;
    while let Some(done) = submitting.join_next().await {
        let (ids, count) = done.expect("no panic");
        accepted.extend(ids);
        refused += count;
    }
    assert!(refused > 0 && accepted.len() >= 300, "{refused} refused, {} accepted", accepted.len());
    assert_eq!(refused + accepted.len(), 10_000);
    for id in &accepted {
        assert_eq!(pool.finished(id).await["state"], "succeeded");
    }
}
