//! Memory is bounded whatever the size of what goes through: bytes stream, and inputs are mapped.

use bytes::Bytes;
use futures_util::StreamExt as _;
use lockstep::digest::Hasher;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Pool, guest, status_bytes, wat};

/// What the coordinator may take beyond what it took before, in bytes.
const ROOM: u64 = 64 << 20;
const PIECE: usize = 1 << 20;

/// A command that reads the last byte of `/data/big` and ends with it as its exit code.
const LAST_BYTE: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "data/big")
  (func (export "_start")
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 8) (i32.const 0)
          (i64.const 6) (i64.const 0) (i32.const 0) (i32.const 0))
      (then (call $exit (i32.const 201))))
    (if (call $seek (i32.load (i32.const 0)) (i64.const -1) (i32.const 2) (i32.const 8))
      (then (call $exit (i32.const 202))))
    (i32.store (i32.const 16) (i32.const 128)) (i32.store (i32.const 20) (i32.const 1))
    (if (call $read (i32.load (i32.const 0)) (i32.const 16) (i32.const 1) (i32.const 24))
      (then (call $exit (i32.const 203))))
    (call $exit (i32.load8_u (i32.const 128)))))"#;

/// Bytes of a blob whose pieces all differ, one piece at a time.
fn pieces(count: usize) -> impl Iterator<Item = Bytes> {
    (1..=count).map(|number| {
        let mut piece = vec![42; PIECE];
        piece[..8].copy_from_slice(&number.to_le_bytes());
        Bytes::from(piece)
    })
}

async fn upload(pool: &Pool, count: usize) -> String {
    let body = futures_util::stream::iter(pieces(count).map(Ok::<_, std::io::Error>));
    let request = pool.request(Method::POST, "/v1/blobs").body(reqwest::Body::wrap_stream(body));
    let (status, blob) = Pool::json(request).await;
    assert_eq!(status, 201, "{blob}");
    assert_eq!(blob["size"], count * PIECE);
    blob["digest"].as_str().expect("a digest").to_owned()
}

/// Streams a path and gives size and digest of what came.
async fn download(pool: &Pool, path: &str) -> (u64, String) {
    let answer = pool.request(Method::GET, path).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let mut hasher = Hasher::new();
    let mut stream = answer.bytes_stream();
    while let Some(piece) = stream.next().await {
        hasher.update(&piece.expect("the body goes on"));
    }
    (hasher.size(), hasher.finish().to_string())
}

/// The most memory that the coordinator had at once.
fn peak(pool: &Pool) -> u64 {
    status_bytes(pool.child.id(), "VmHWM")
}

#[tokio::test]
async fn a_blob_of_a_gibibyte_goes_in_and_out_in_little_memory() {
    let pool = Pool::start().await;
    upload(&pool, 1).await;
    let before = peak(&pool);
    let digest = upload(&pool, 1_024).await;
    assert_eq!(download(&pool, &format!("/v1/blobs/{digest}")).await, (1 << 30, digest));
    let grown = peak(&pool) - before;
    assert!(grown < ROOM, "{grown} bytes more than the {before} of before");
}

#[tokio::test]
async fn a_large_input_file_is_mapped_and_not_copied() {
    let pool = Pool::start().await;
    let module = pool.push(wat(LAST_BYTE)).await;
    let small = upload(&pool, 1).await;
    let request = |digest: &str| json!({"module": module, "files": {"/data/big": {"digest": digest}}});
    let run = pool.run(request(&small)).await;
    assert_eq!(run["outcome"], json!({"kind": "exited", "code": 42}), "{run}");
    let (before, runners) = (peak(&pool), pool.runners());
    let largest = |runners: &[u32]| runners.iter().map(|pid| status_bytes(*pid, "VmHWM")).max().unwrap_or(0);
    let runner_before = largest(&runners);
    let big = upload(&pool, 512).await;
    let run = pool.run(request(&big)).await;
    assert_eq!(run["outcome"], json!({"kind": "exited", "code": 42}), "{run}");
    let (grown, runner) = (peak(&pool) - before, largest(&pool.runners()).saturating_sub(runner_before));
    assert!(grown < ROOM, "the coordinator took {grown} bytes more");
    assert!(runner < ROOM, "a runner took {runner} bytes more");
}

#[tokio::test]
async fn a_large_output_file_reaches_its_reader_in_little_memory() {
    let pool = Pool::start().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = async |bytes: u64| -> Value {
        let limits = json!({"file_bytes": 256 << 20, "memory_bytes": 512 << 20});
        let args = json!(["write-files", "1", bytes.to_string()]);
        let run = pool.run(json!({"module": module, "args": args, "limits": limits})).await;
        assert_eq!(run["state"], "succeeded", "{run}");
        assert_eq!(run["files"][0]["size"], bytes);
        run
    };
    run(1_000_000).await;
    let before = peak(&pool);
    let run = run(100_000_000).await;
    let file = &run["files"][0];
    let path = file["path"].as_str().expect("a path").trim_start_matches('/');
    let id = run["id"].as_str().expect("an id");
    let came = download(&pool, &format!("/v1/runs/{id}/files/{path}")).await;
    assert_eq!(came, (100_000_000, file["digest"].as_str().expect("a digest").to_owned()));
    let grown = peak(&pool) - before;
    assert!(grown < ROOM, "{grown} bytes more than the {before} of before");
}

#[tokio::test]
async fn what_a_run_may_write_is_leased_with_its_memory() {
    let pool = Pool::with(&["--workers", "1", "--set", "worker_memory=1GiB"]).await;
    let module = pool.push(wat("(module (memory 1) (func (export \"_start\") (loop (br 0))))")).await;
    let limits = json!({"memory_bytes": 64 << 10, "output_bytes": 300 << 20, "file_bytes": 300 << 20});
    let once = json!({"policy": "once"});
    let request = json!({"module": module, "limits": limits, "verify": once, "wait_ms": 0});
    let (status, run) = pool.post("/v1/runs", &request).await;
    assert!(status == 201 || status == 202, "{status} {run}");
    let leased = crate::support::eventually("it is leased", async || {
        let (_, workers) = pool.get("/v1/workers").await;
        workers["items"][0]["memory_leased_bytes"].as_u64().filter(|leased| *leased > 0)
    })
    .await;
    assert!(leased >= 600 << 20, "{leased}");
}
