//! The pool for tests that read answers with the API's own types.

use std::ops::Deref;

use lockstep::protocol::api;
use reqwest::{Method, Response};
use serde_json::Value;

/// A running pool; everything else is that of [`super::Pool`].
pub struct Pool(super::Pool);

impl Deref for Pool {
    type Target = super::Pool;

    fn deref(&self) -> &super::Pool {
        &self.0
    }
}

impl Pool {
    /// Three workers with a slot each, over an empty folder.
    pub async fn start() -> Pool {
        Pool(super::Pool::start().await)
    }

    /// With these options of `lockstep serve`.
    pub async fn with(args: &[&str]) -> Pool {
        Pool(super::Pool::with(args).await)
    }

    /// Where it keeps everything.
    pub fn directory(&self) -> &std::path::Path {
        &self.data
    }

    /// The admin token of the first start.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("an answer")
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.expect("an answer")
    }

    /// Uploads a module given as WAT.
    pub async fn upload(&self, wat: &str) -> api::Module {
        let wasm = wat::parse_str(wat).expect("valid WAT");
        let answer = self.request(Method::POST, "/v1/modules").body(wasm).send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).expect("a module")
    }

    /// Submits a run and waits for its end.
    pub async fn run(&self, mut request: Value) -> api::Run {
        request["wait_ms"] = 60_000.into();
        let answer = self.post("/v1/runs", &request).await;
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{status}: {text}");
        let run: api::Run = serde_json::from_str(&text).expect("a run");
        assert!(run.state.is_final(), "{run:?}");
        run
    }
}

/// The problem of an answer that must be one, with its status checked against its code.
pub async fn problem(answer: Response) -> api::Problem {
    let status = answer.status();
    let media_type = answer.headers().get("content-type").cloned();
    let text = answer.text().await.expect("a body");
    assert_eq!(media_type.expect("a content type"), "application/problem+json", "{status}: {text}");
    let problem: api::Problem = serde_json::from_str(&text).expect("a problem");
    assert_eq!((problem.status, problem.code.status()), (status.as_u16(), status.as_u16()), "{text}");
    assert!(!problem.request_id.is_empty() && !problem.detail.is_empty(), "{text}");
    problem
}

/// A command that copies its standard input to its standard output.
pub const CAT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (loop $again
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8))
        (then
          (i32.store (i32.const 4) (i32.load (i32.const 8)))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (br $again))))))"#;

/// A command that never ends.
pub const LOOP: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;

/// A command that traps.
pub const TRAP: &str = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

/// A plain function.
pub const ADD: &str =
    r#"(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;
