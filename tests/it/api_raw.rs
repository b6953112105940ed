//! Requests that no client library sends, through a plain socket: what is too large, what stops half way, what is of the
//! wrong type. Whoever sends them hears why they are refused.

use std::time::Duration;

use lockstep::digest::Digest;
use lockstep::protocol::api::{Problem, ProblemCode};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::PATIENCE;
use crate::support::typed::{CAT, Pool, problem};

/// Sends all of `parts` before it reads anything, as the simplest client does.
async fn send(pool: &Pool, parts: &[&[u8]]) -> TcpStream {
    let mut stream = TcpStream::connect(pool.address()).await.unwrap();
    for part in parts {
        stream.write_all(part).await.expect("the server takes what is sent");
    }
    stream
}

/// Reads to the end: head and body of the answer.
async fn answer(mut stream: TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an end");
    read.expect("the connection is not reset");
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    (String::from_utf8(bytes[..split].to_vec()).unwrap(), bytes[split + 4..].to_vec())
}

async fn refusal(stream: TcpStream) -> Problem {
    let (head, body) = answer(stream).await;
    assert!(head.contains("application/problem+json"), "{head}");
    let problem: Problem = serde_json::from_slice(&body).unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {}", problem.status)), "{head}");
    problem
}

fn head(pool: &Pool, method: &str, path: &str, headers: &str) -> Vec<u8> {
    let token = pool.token();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{headers}\r\n")
        .into_bytes()
}

#[tokio::test]
async fn whoever_sends_too_much_hears_it_although_it_sends_everything_first() {
    let pool = Pool::with(&["--set", "blob_max=1MiB", "--set", "module_max=1MiB"]).await;
    let large = vec![b' '; 24 << 20];
    let length = format!("content-length: {}\r\n", large.len());
    let json = format!("content-type: application/json\r\n{length}");
    for (path, headers) in [("/v1/runs", &json), ("/v1/blobs", &length), ("/v1/modules", &length)] {
        // several times: a reset is a matter of luck
        for _ in 0..3 {
            let sent = send(&pool, &[&head(&pool, "POST", path, headers), &large]).await;
            let refusal = refusal(sent).await;
            assert_eq!(refusal.code, ProblemCode::TooLarge, "{path}: {}", refusal.detail);
        }
    }
    // without a length it is found out on the way
    let chunked = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    let mut parts = vec![head(&pool, "POST", "/v1/runs", chunked)];
    parts.extend(std::iter::repeat_n(chunk, 24));
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    assert_eq!(refusal(send(&pool, &parts).await).await.code, ProblemCode::TooLarge);
}

#[tokio::test]
async fn whoever_may_not_send_hears_it_after_a_large_body_too() {
    let pool = Pool::start().await;
    let large = vec![b' '; 16 << 20];
    for _ in 0..3 {
        let head = format!("POST /v1/blobs HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", large.len());
        let refusal = refusal(send(&pool, &[head.as_bytes(), &large]).await).await;
        assert_eq!(refusal.code, ProblemCode::Unauthorized);
    }
    // one that asks first is answered before it sends anything
    let asks = head(&pool, "POST", "/v1/runs", "expect: 100-continue\r\ncontent-length: 99999999\r\n");
    let refusal = refusal(send(&pool, &[&asks]).await).await;
    assert_eq!(refusal.code, ProblemCode::UnsupportedMediaType);
}

#[tokio::test]
async fn a_body_that_stops_half_way_is_a_problem_and_leaves_nothing() {
    let pool = Pool::start().await;
    let digest = Digest::of(b"whole body");
    let json = "content-type: application/json\r\ncontent-length: 100\r\n";
    let put = format!("/v1/blobs/{digest}");
    let halves: [(Vec<u8>, &[u8]); 3] = [
        (head(&pool, "POST", "/v1/runs", json), b"{\"module\""),
        (head(&pool, "PUT", &put, "content-length: 10\r\n"), b"whole"),
        (head(&pool, "POST", "/v1/modules", "content-length: 99\r\n"), b"\0asm\x01\0\0\0"),
    ];
    for (head, half) in &halves {
        let mut stream = send(&pool, &[head, half]).await;
        // it says that nothing more comes, and waits for the answer
        stream.shutdown().await.unwrap();
        let refusal = refusal(stream).await;
        assert_eq!(refusal.code, ProblemCode::InvalidBody, "{}", refusal.detail);
        assert!(refusal.detail.contains("before it was whole"), "{}", refusal.detail);
        // it goes away without a word
        drop(send(&pool, &[head, half]).await);
    }
    assert_eq!(problem(pool.get(&put).await).await.code, ProblemCode::NotFound);
    let runs = pool.get("/v1/runs").await.text().await.unwrap();
    assert!(runs.contains("\"items\":[]"), "{runs}");
    let modules = pool.get("/v1/modules").await.text().await.unwrap();
    assert!(modules.contains("\"items\":[]"), "{modules}");
}

#[tokio::test]
async fn a_body_of_the_wrong_type_is_refused_with_a_word() {
    let pool = Pool::start().await;
    let form = "multipart/form-data; boundary=x";
    let cat = pool.upload(CAT).await.digest;
    let call = format!("/v1/modules/{cat}/call");
    for (path, media_type) in [
        ("/v1/runs", "text/plain"),
        ("/v1/runs", "application/x-www-form-urlencoded"),
        ("/v1/runs", "application/jsonx"),
        ("/v1/runs/cancel", "text/json"),
        ("/v1/tokens", ""),
        ("/v1/blobs", form),
        ("/v1/modules", form),
        (call.as_str(), form),
    ] {
        let request = pool.request(Method::POST, path).header("content-type", media_type);
        let refusal = problem(request.body("--x\r\n\r\n{}\r\n--x--").send().await.unwrap()).await;
        assert_eq!(
            refusal.code,
            ProblemCode::UnsupportedMediaType,
            "{path} {media_type}: {}",
            refusal.detail
        );
    }
    let with_charset =
        pool.request(Method::POST, "/v1/runs").header("content-type", "Application/JSON; charset=utf-8");
    let refusal = problem(with_charset.body("{}").send().await.unwrap()).await;
    assert_eq!(refusal.code, ProblemCode::InvalidField, "a charset is fine, the field is missing");
    // what `curl --data-binary` says by itself
    let curl =
        pool.request(Method::POST, "/v1/blobs").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(curl.body("bytes").send().await.unwrap().status().as_u16(), 201);
}

#[tokio::test]
async fn paths_that_do_not_decode_or_climb_are_refused() {
    let pool = Pool::start().await;
    let run = pool.run(json!({"module": pool.upload(CAT).await.digest})).await;
    for path in [
        "/v1/runs/%ff".to_owned(),
        format!("/v1/runs/{}/files/%ff", run.id),
        format!("/v1/runs/{}/files/..%2f..%2fetc/passwd", run.id),
        format!("/v1/runs/{}/attempts/1/files/../../../token", run.id),
        "/v1/../token".to_owned(),
        "/..%2f..%2ftoken".to_owned(),
        "//etc/passwd".to_owned(),
    ] {
        let sent = head(&pool, "GET", &path, "connection: close\r\n");
        let refusal = refusal(send(&pool, &[&sent]).await).await;
        assert!(
            matches!(refusal.code, ProblemCode::NotFound | ProblemCode::InvalidParameter),
            "{path}: {refusal:?}"
        );
    }
}

#[tokio::test]
async fn a_refused_sender_that_never_stops_is_cut() {
    let pool = Pool::start().await;
    let endless =
        head(&pool, "POST", "/v1/runs", "content-type: text/plain\r\ncontent-length: 999999999999\r\n");
    let mut stream = send(&pool, &[&endless]).await;
    let piece = vec![0; 1 << 20];
    let cut = tokio::time::timeout(PATIENCE, async {
        while stream.write_all(&piece).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    cut.await.expect("the server closes at its bound");
    tokio::time::timeout(Duration::from_secs(30), pool.get("/healthz")).await.expect("others are served");
}
