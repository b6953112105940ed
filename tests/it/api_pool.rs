//! A pool of its own for each test: the real binary on port 0 with a temporary directory, and a small client.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lockstep::protocol::api;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

/// Nothing that a test waits for takes longer on a healthy machine, however busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `lockstep serve`; killed when it is dropped.
pub struct Pool {
    child: Child,
    directory: tempfile::TempDir,
    address: String,
    token: String,
}

impl Pool {
    /// Starts one with three workers and waits until it is ready.
    pub async fn start() -> Pool {
        Pool::start_with(&[]).await
    }

    /// The same with further arguments of `serve`.
    pub async fn start_with(arguments: &[&str]) -> Pool {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_lockstep"))
            .arg("serve")
            .arg("--data")
            .arg(directory.path())
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (found, address) = mpsc::channel();
        // reads on until the end, so that the child is never held up by a full pipe
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = address_in(&line) {
                    drop(found.send(address));
                }
                println!("serve: {line}");
            }
        });
        let address = address.recv_timeout(PATIENCE).expect("serve prints its address");
        let token = std::fs::read_to_string(directory.path().join("token")).expect("serve writes a token");
        let pool = Pool { child, directory, address, token: token.trim().to_owned() };
        poll("the pool to be ready", async || {
            let answer = pool.anonymous(Method::GET, "/readyz").send().await.ok()?;
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
        poll("its workers to join", async || {
            let workers = pool.get("/v1/workers").await.json::<api::WorkerPage>().await.ok()?;
            (!workers.items.is_empty()).then_some(())
        })
        .await;
        pool
    }

    /// Where it keeps everything.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The admin token of the first start.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request with the admin token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// A request without a token.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        crate::support::http().request(method, self.url(path)).timeout(PATIENCE)
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

impl Drop for Pool {
    fn drop(&mut self) {
        // it may have ended already; then there is nothing to do
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The first `127.0.0.1:PORT` of a line.
fn address_in(line: &str) -> Option<String> {
    let host = "127.0.0.1:";
    let start = line.find(host)?;
    let port: String = line[start + host.len()..].chars().take_while(char::is_ascii_digit).collect();
    (!port.is_empty()).then(|| format!("{host}{port}"))
}

/// Asks again and again, for at most [`PATIENCE`].
pub async fn poll<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began_at = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began_at.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
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
