//! The HTTP API as callers see it.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use lockstep::digest::Digest;
use lockstep::protocol::api::{self, ProblemCode, Scope};
use lockstep::result::{FailReason, Outcome, RunState, VerdictKind};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::typed::{ADD, CAT, LOOP, Pool, TRAP, problem};

#[tokio::test]
async fn without_a_token_nothing_but_health_and_the_document_answers() {
    let pool = Pool::start().await;
    let document: Value =
        pool.anonymous(Method::GET, "/openapi.json").send().await.unwrap().json().await.unwrap();
    // public keys are for those who check a receipt without a token
    let open = ["/healthz", "/readyz", "/openapi.json", "/v1/keys"];
    // a worker shows its key there, in the session
    let has_keys = |path: &&String| path.as_str() != "/v1/pool/session";
    for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| has_keys(path)) {
        let path = path
            .replace("{digest}", &Digest::EMPTY.to_string())
            .replace(
                "{id}",
                if path.contains("runs") { "01920000-0000-7000-8000-000000000001" } else { "w1" },
            )
            .replace("{path}", "out/x");
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = pool.anonymous(method.clone(), &path).send().await.unwrap();
            if open.contains(&path.as_str()) {
                assert_eq!(answer.status(), StatusCode::OK, "{method} {path}");
                continue;
            }
            assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"lockstep\"", "{method} {path}");
            assert_eq!(problem(answer).await.code, ProblemCode::Unauthorized, "{method} {path}");
            let wrong = pool.anonymous(method, &path).bearer_auth("wrong").send().await.unwrap();
            assert_eq!(problem(wrong).await.code, ProblemCode::Unauthorized, "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_allows_what_its_scopes_say_until_it_is_deleted() {
    let pool = Pool::start().await;
    let made = pool.post("/v1/tokens", &json!({"name": "reader", "scopes": ["read"]})).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: api::NewToken = made.json().await.unwrap();
    assert_eq!(made.token.scopes, [Scope::Read]);
    let with = |method, path: &str| pool.anonymous(method, path).bearer_auth(&made.secret);
    assert_eq!(with(Method::GET, "/v1/runs").send().await.unwrap().status(), StatusCode::OK);
    for (method, path, scope) in
        [(Method::POST, "/v1/blobs", "`submit`"), (Method::GET, "/v1/tokens", "`admin`")]
    {
        let refusal = problem(with(method, path).send().await.unwrap()).await;
        assert_eq!(refusal.code, ProblemCode::Forbidden);
        assert!(refusal.detail.contains(scope), "{}", refusal.detail);
    }
    let listed: api::TokenPage = pool.get("/v1/tokens").await.json().await.unwrap();
    assert!(listed.items.iter().any(|token| token.id == made.token.id && token.scopes == [Scope::Read]));
    let gone = pool.request(Method::DELETE, &format!("/v1/tokens/{}", made.token.id)).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let late = with(Method::GET, "/v1/runs").send().await.unwrap();
    assert_eq!(problem(late).await.code, ProblemCode::Unauthorized);
}

#[tokio::test]
async fn every_answer_carries_its_request_id_and_the_security_headers() {
    let pool = Pool::start().await;
    let answer = pool.request(Method::GET, "/v1/info").header("x-request-id", "mine-1").send().await.unwrap();
    let headers = answer.headers();
    assert_eq!(headers["x-request-id"], "mine-1");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    assert!(!headers.contains_key("access-control-allow-origin"));
    let lost =
        pool.request(Method::GET, "/v1/nowhere").header("x-request-id", "mine-2").send().await.unwrap();
    assert_eq!(problem(lost).await.request_id, "mine-2");
}

#[tokio::test]
async fn the_page_may_load_from_here_only_and_nothing_inline() {
    let pool = Pool::start().await;
    for path in ["/", "/runs/0192", "/v1/info"] {
        let answer = pool.request(Method::GET, path).header("accept", "text/html").send().await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        let directives: Vec<&str> = policy.split(';').map(str::trim).collect();
        // scripts, styles, fonts, workers and connections have no directive of their own: the first one holds for them
        assert_eq!(
            directives,
            [
                "default-src 'self'",
                "img-src 'self' blob:",
                "object-src 'none'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
                "form-action 'none'"
            ],
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_by_code_and_pointer() {
    let pool = Pool::start().await;
    let there = pool.upload(CAT).await.digest;
    let absent = Digest::of(b"absent");
    let cases = [
        (json!({}), ProblemCode::InvalidField, Some("/module")),
        (json!({"modul": there}), ProblemCode::InvalidField, Some("/modul")),
        (json!({"module": "x"}), ProblemCode::InvalidField, Some("/module")),
        (json!({"module": there, "seed": -1}), ProblemCode::InvalidField, Some("/seed")),
        (
            json!({"module": there, "files": {"/a/../b": {"text": ""}}}),
            ProblemCode::InvalidField,
            Some("/files/~1a~1..~1b"),
        ),
        (
            json!({"module": there, "verify": {"policy": "high", "n": 3}}),
            ProblemCode::InvalidField,
            Some("/verify/n"),
        ),
        (
            json!({"module": there, "verify": {"policy": "quorum", "n": 15}}),
            ProblemCode::TooFewWorkers,
            Some("/verify/n"),
        ),
        (
            json!({"module": there, "placement": {"mode": "labels", "labels": {"gpu": "yes"}}}),
            ProblemCode::TooFewWorkers,
            None,
        ),
        (json!({"module": there, "entry": "fib"}), ProblemCode::BadEntry, Some("/entry")),
        (json!({"module": absent}), ProblemCode::MissingModule, None),
        (json!({"module": there, "stdin": {"digest": absent}}), ProblemCode::MissingBlob, None),
    ];
    for (request, code, pointer) in cases {
        let refusal = problem(pool.post("/v1/runs", &request).await).await;
        assert_eq!(
            (refusal.code, refusal.pointer.as_deref()),
            (code, pointer),
            "{request}: {}",
            refusal.detail
        );
        let named = matches!(code, ProblemCode::MissingModule | ProblemCode::MissingBlob).then_some(absent);
        assert_eq!(refusal.digest, named, "{request}");
    }
    let no_json = pool.request(Method::POST, "/v1/runs").body("{}").send().await.unwrap();
    assert_eq!(problem(no_json).await.code, ProblemCode::UnsupportedMediaType);
    let large = " ".repeat((8 << 20) + 1);
    let large = pool.request(Method::POST, "/v1/runs").header("content-type", "application/json").body(large);
    // the answer comes before the body has been read, so a client that is still sending may meet a closed connection
    match large.send().await {
        Ok(answer) => assert_eq!(problem(answer).await.code, ProblemCode::TooLarge),
        Err(error) => assert!(error.is_request() || error.is_body(), "{error}"),
    }
    let method = pool.request(Method::PATCH, "/v1/runs").send().await.unwrap();
    assert!(method.headers()["allow"].to_str().unwrap().contains("POST"));
    assert_eq!(problem(method).await.code, ProblemCode::MethodNotAllowed);
}

#[tokio::test]
async fn a_module_is_named_by_its_bytes_and_refused_when_it_cannot_run() {
    let pool = Pool::start().await;
    let wasm = wat::parse_str(CAT).unwrap();
    let digest = Digest::of(&wasm);
    let first = pool.request(Method::PUT, &format!("/v1/modules/{digest}?name=cat")).body(wasm.clone());
    let first = first.send().await.unwrap();
    assert_eq!(first.status(), StatusCode::CREATED);
    let module: api::Module = first.json().await.unwrap();
    assert_eq!(
        (module.digest, module.size, module.name.as_deref()),
        (digest, wasm.len() as u64, Some("cat"))
    );
    assert!(module.analysis.is_some());
    let again = pool.request(Method::POST, "/v1/modules").body(wasm.clone()).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);

    let content = pool.get(&format!("/v1/modules/{digest}/content")).await;
    assert_eq!(content.headers()["content-type"], "application/wasm");
    assert_eq!(content.bytes().await.unwrap(), wasm);

    let other = Digest::of(b"other");
    let mismatch = pool.request(Method::PUT, &format!("/v1/modules/{other}")).body(wasm.clone());
    assert_eq!(problem(mismatch.send().await.unwrap()).await.code, ProblemCode::DigestMismatch);
    assert_eq!(problem(pool.get(&format!("/v1/modules/{other}")).await).await.code, ProblemCode::NotFound);
    for wrong in [b"not wasm".to_vec(), wasm[..wasm.len() - 3].to_vec(), Vec::new()] {
        let refusal = pool.request(Method::POST, "/v1/modules").body(wrong).send().await.unwrap();
        let refusal = problem(refusal).await;
        assert_eq!(refusal.code, ProblemCode::ModuleRefused, "{}", refusal.detail);
        assert!(refusal.refusal.is_some());
    }
    let gone = pool.request(Method::DELETE, &format!("/v1/modules/{digest}")).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    assert_eq!(problem(pool.get(&format!("/v1/modules/{digest}")).await).await.code, ProblemCode::NotFound);
}

#[tokio::test]
async fn a_quarantined_module_takes_no_runs_until_it_is_readmitted() {
    let pool = Pool::start().await;
    let digest = pool.upload(CAT).await.digest;
    let path = format!("/v1/modules/{digest}");
    let out = pool.post(&format!("{path}/quarantine"), &json!({"why": "it is a test"})).await;
    assert_eq!(out.json::<api::Module>().await.unwrap().quarantined.as_deref(), Some("it is a test"));
    let refusal = problem(pool.post("/v1/runs", &json!({"module": digest})).await).await;
    assert_eq!(refusal.code, ProblemCode::ModuleQuarantined);
    assert!(refusal.detail.contains("it is a test"));
    let back = pool.request(Method::POST, &format!("{path}/readmit")).send().await.unwrap();
    assert_eq!(back.json::<api::Module>().await.unwrap().quarantined, None);
    assert_eq!(pool.run(json!({"module": digest})).await.state, RunState::Succeeded);
}

#[tokio::test]
async fn a_blob_is_read_whole_in_ranges_and_not_again() {
    let pool = Pool::start().await;
    // larger than what lives in a row, so that the files are read too
    let bytes: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    let digest = Digest::of(&bytes);
    let path = format!("/v1/blobs/{digest}");
    let stored = pool.request(Method::PUT, &path).body(bytes.clone()).send().await.unwrap();
    assert_eq!(stored.status(), StatusCode::CREATED);
    assert_eq!(stored.json::<api::Blob>().await.unwrap(), api::Blob { digest, size: 200_000 });
    let again = pool.request(Method::PUT, &path).body(bytes.clone()).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);

    let whole = pool.get(&path).await;
    let tag = whole.headers()["etag"].clone();
    assert_eq!(tag, format!("\"{digest}\""));
    assert!(whole.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(whole.bytes().await.unwrap(), bytes);
    let part = pool.request(Method::GET, &path).header("range", "bytes=100000-100009").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 100000-100009/200000");
    assert_eq!(part.bytes().await.unwrap(), bytes[100_000..100_010]);
    let outside = pool.request(Method::GET, &path).header("range", "bytes=200000-").send().await.unwrap();
    assert_eq!(outside.headers()["content-range"], "bytes */200000");
    assert_eq!(problem(outside).await.code, ProblemCode::RangeNotSatisfiable);
    let same = pool.request(Method::GET, &path).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    let head = pool.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(
        (head.status(), &head.headers()["content-length"]),
        (StatusCode::OK, &"200000".parse().unwrap())
    );

    let mismatch = pool.request(Method::PUT, &format!("/v1/blobs/{}", Digest::of(b"y"))).body("x");
    assert_eq!(problem(mismatch.send().await.unwrap()).await.code, ProblemCode::DigestMismatch);
    let absent = pool.get(&format!("/v1/blobs/{}", Digest::of(b"absent"))).await;
    assert_eq!(problem(absent).await.code, ProblemCode::NotFound);
}

#[tokio::test]
async fn a_body_that_stops_half_way_stores_nothing() {
    let pool = Pool::start().await;
    let digest = Digest::of(b"half");
    let mut stream = tokio::net::TcpStream::connect(pool.address()).await.unwrap();
    let head = format!(
        "PUT /v1/blobs/{digest} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 8\r\n\r\nhalf",
        pool.token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    // whether an answer still arrives is up to the connection; that it ends is not
    let mut answer = Vec::new();
    drop(
        tokio::time::timeout(crate::support::PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("an end"),
    );
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(problem(pool.get(&format!("/v1/blobs/{digest}")).await).await.code, ProblemCode::NotFound);
}

#[tokio::test]
async fn a_run_is_compared_and_read_back_in_every_way() {
    let pool = Pool::start().await;
    let digest = pool.upload(CAT).await.digest;
    let run = pool
        .run(json!({"module": digest, "stdin": {"text": "hello\n"}, "verify": {"policy": "quorum", "n": 3}}))
        .await;
    assert_eq!((run.state, run.verdict.kind), (RunState::Succeeded, VerdictKind::Agreed), "{run:?}");
    assert_eq!(run.outcome, Some(Outcome::Exited { code: 0 }));
    assert_eq!(run.stdout.as_ref().unwrap().text.as_deref(), Some("hello\n"));
    let workers: BTreeSet<_> = run.attempts.iter().map(|attempt| attempt.worker).collect();
    assert_eq!((workers.len(), run.attempts.len()), (3, 3));
    assert!(!run.explain.is_empty() && run.finished_at >= Some(run.created_at));

    let path = format!("/v1/runs/{}", run.id);
    assert_eq!(pool.get(&path).await.json::<api::Run>().await.unwrap(), run);
    let stdout = pool
        .request(Method::GET, &format!("{path}/stdout"))
        .header("range", "bytes=1-3")
        .send()
        .await
        .unwrap();
    assert_eq!(stdout.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(stdout.headers()["content-type"], "text/plain; charset=utf-8");
    assert!(stdout.headers()["content-security-policy"].to_str().unwrap().starts_with("sandbox"));
    assert_eq!(stdout.text().await.unwrap(), "ell");
    assert_eq!(pool.get(&format!("{path}/stderr")).await.text().await.unwrap(), "");
    let file = pool.get(&format!("{path}/files/out/none")).await;
    assert_eq!(problem(file).await.code, ProblemCode::NotFound);

    let again = pool.request(Method::POST, &format!("{path}/rerun?wait_ms=60000")).send().await.unwrap();
    let again: api::Run = again.json().await.unwrap();
    assert_eq!((again.rerun_of, again.run_key, again.result), (Some(run.id), run.run_key, run.result));

    let forgotten =
        pool.run(json!({"module": run.module, "stdin": {"text": "not kept"}, "durable": false})).await;
    assert_eq!(forgotten.state, RunState::Succeeded);
    let path = format!("/v1/runs/{}/rerun?wait_ms=1000", forgotten.id);
    let refused = problem(pool.request(Method::POST, &path).send().await.unwrap()).await;
    assert_eq!(refused.code, ProblemCode::Gone);
    assert!(refused.detail.contains("submit it anew"), "{}", refused.detail);
}

#[tokio::test]
async fn a_failed_run_is_an_answer_with_its_reason() {
    let pool = Pool::start().await;
    let run = pool.run(json!({"module": pool.upload(TRAP).await.digest})).await;
    assert_eq!((run.state, run.reason), (RunState::Failed, Some(FailReason::Trap)));
    assert_eq!(run.verdict.kind, VerdictKind::Agreed, "a trap on every worker is a verified failure");
}

#[tokio::test]
async fn an_idempotency_key_makes_one_run_of_many_requests() {
    let pool = Pool::start().await;
    let digest = pool.upload(CAT).await.digest;
    let send = async |body: Value| {
        let request = pool.request(Method::POST, "/v1/runs").header("idempotency-key", "k").json(&body);
        request.send().await.unwrap()
    };
    let body = || json!({"module": digest, "seed": 1});
    let racing = futures_util::future::join_all((0..10).map(|_| send(body()))).await;
    let mut ids = BTreeSet::new();
    let mut created = 0;
    for answer in racing {
        created += usize::from(answer.status() == StatusCode::CREATED);
        ids.insert(answer.json::<api::Run>().await.unwrap().id);
    }
    assert_eq!((ids.len(), created), (1, 1));
    let other = problem(send(json!({"module": digest, "seed": 2})).await).await;
    assert_eq!(other.code, ProblemCode::IdempotencyMismatch);
}

#[tokio::test]
async fn a_call_answers_with_what_was_agreed_on() {
    let pool = Pool::start().await;
    let cat = pool.upload(CAT).await.digest;
    // small: with the submission; large: through the blob store
    for size in [0, 5, 1 << 20] {
        let body = vec![b'x'; size];
        let call =
            pool.request(Method::POST, &format!("/v1/modules/{cat}/call?verify=quorum:2")).body(body.clone());
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["lockstep-verdict"], "agreed");
        assert_eq!(answer.headers()["lockstep-outcome"], "exited 0");
        assert!(answer.headers()["lockstep-result"].to_str().unwrap().starts_with("sha256:"));
        assert_eq!(answer.bytes().await.unwrap(), body);
    }
    let add = pool.upload(ADD).await.digest;
    let sum = pool.request(Method::POST, &format!("/v1/modules/{add}/call?entry=add&arg=2&arg=40"));
    assert_eq!(sum.send().await.unwrap().text().await.unwrap(), "42\n");

    let trap = pool.upload(TRAP).await.digest;
    let failed = pool.request(Method::POST, &format!("/v1/modules/{trap}/call")).send().await.unwrap();
    let failed = problem(failed).await;
    assert_eq!((failed.code, failed.run.unwrap().reason), (ProblemCode::RunFailed, Some(FailReason::Trap)));
    let endless = pool.upload(LOOP).await.digest;
    let late =
        pool.request(Method::POST, &format!("/v1/modules/{endless}/call?wait_ms=200&timeout_ms=60000"));
    let late = problem(late.send().await.unwrap()).await;
    assert_eq!(late.code, ProblemCode::RunUnfinished);
    let id = late.run.unwrap().id;
    let canceled = pool.request(Method::POST, &format!("/v1/runs/{id}/cancel")).send().await.unwrap();
    assert_eq!(canceled.json::<api::Run>().await.unwrap().state, RunState::Canceled);
}

#[tokio::test]
async fn a_watched_run_tells_its_life_to_the_end() {
    let pool = Pool::start().await;
    let endless = pool.upload(LOOP).await.digest;
    let run: api::Run = pool.post("/v1/runs", &json!({"module": endless})).await.json().await.unwrap();
    let watched = pool.get(&format!("/v1/runs/{}/events", run.id)).await;
    assert_eq!(watched.headers()["content-type"], "text/event-stream");
    let mut pieces = watched.bytes_stream();
    let mut text = String::new();
    while !text.contains("\n\n") {
        text.push_str(std::str::from_utf8(&pieces.next().await.expect("an event").unwrap()).unwrap());
    }
    assert!(text.starts_with("event: run\n"), "{text}");
    pool.request(Method::POST, &format!("/v1/runs/{}/cancel", run.id)).send().await.unwrap();
    // the stream ends by itself, which is what ends this loop
    while let Some(piece) = pieces.next().await {
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    let end = format!("event: end\ndata: {{\"id\":\"{}\",\"state\":\"canceled\"}}", run.id);
    assert!(text.trim_end().ends_with(&end), "{text}");
}

#[tokio::test]
async fn runs_are_listed_newest_first_in_pages_and_by_filter() {
    let pool = Pool::start().await;
    let (cat, trap) = (pool.upload(CAT).await.digest, pool.upload(TRAP).await.digest);
    let mut submitted = Vec::new();
    for _ in 0..5 {
        submitted.push(pool.run(json!({"module": cat})).await.id);
    }
    let failed = pool.run(json!({"module": trap})).await.id;
    let mut listed = Vec::new();
    let mut cursor = String::new();
    for _ in 0..3 {
        let path = format!("/v1/runs?module={cat}&limit=2{cursor}");
        let page: api::RunPage = pool.get(&path).await.json().await.unwrap();
        listed.extend(page.items.iter().map(|run| run.id));
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    submitted.reverse();
    assert_eq!(listed, submitted);
    let page: api::RunPage = pool.get("/v1/runs?state=failed").await.json().await.unwrap();
    assert_eq!(page.items.iter().map(|run| run.id).collect::<Vec<_>>(), [failed]);
}

#[tokio::test]
async fn figures_and_information_tell_what_happened() {
    let pool = Pool::start().await;
    pool.run(json!({"module": pool.upload(CAT).await.digest})).await;
    let text = pool.get("/metrics").await.text().await.unwrap();
    for line in ["lockstep_runs_submitted_total 1", "lockstep_runs_finished_total{state=\"succeeded\"} 1"] {
        assert!(text.lines().any(|there| there == line), "{line} is missing in\n{text}");
    }
    let info: api::Info = pool.get("/v1/info").await.json().await.unwrap();
    assert_eq!((info.workspace.as_str(), info.version.as_str()), ("default", env!("CARGO_PKG_VERSION")));
    assert_eq!((info.classes.len(), info.stored.runs, info.stored.modules), (1, 1, 1));
    assert!(pool.directory().join("token").is_file());
}
