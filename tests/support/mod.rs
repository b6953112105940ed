//! A real pool for tests and benchmarks: the binary on a free port over a folder of its own, and a small client.
//!
//! What the server logs goes to a file, and from there to the test's own output when the test fails (or always, with
//! `LOCKSTEP_TEST_LOG=1`). [`typed`] is the same pool for those who want the API's own types.

pub mod proxy;
pub mod receiver;
pub mod remote;
pub mod typed;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take that a test waits for; long, because continuous integration has two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Of the server's log, what is shown when a test fails; a flood would hide the failure itself.
const LOG_BYTES_SHOWN: usize = 256 * 1024;

/// The prebuilt guest examples.
pub fn guest(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/prebuilt").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Wasm of a text.
pub fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's own text is right")
}

/// Polls until `probe` gives something.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A client for plain HTTP.
pub fn http() -> reqwest::Client {
    let tls = lockstep::tls::client_config_without_roots().expect("a provider");
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().expect("a client")
}

/// A pool that runs.
pub struct Pool {
    /// Its process.
    pub child: Child,
    /// `http://127.0.0.1:PORT`, or what it was told to listen on.
    pub url: String,
    /// The admin token.
    pub token: String,
    /// Everything it keeps; gone with this value.
    pub data: PathBuf,
    /// What it is asked with.
    pub http: reqwest::Client,
    args: Vec<String>,
    log: tempfile::NamedTempFile,
    _dir: Option<tempfile::TempDir>,
}

impl Pool {
    /// Three workers with a slot each, over an empty folder.
    pub async fn start() -> Pool {
        Pool::with(&["--workers", "3", "--slots", "1"]).await
    }

    /// With these options of `lockstep serve`.
    pub async fn with(args: &[&str]) -> Pool {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path().join("data");
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Pool::over(data, args, Some(dir)).await
    }

    /// Over a folder that stays.
    pub async fn over(data: PathBuf, args: Vec<String>, dir: Option<tempfile::TempDir>) -> Pool {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let (child, url) = spawn(&data, &args, log.path());
        let token = std::fs::read_to_string(data.join("token")).expect("the first start writes a token");
        let http = http();
        Pool { child, url, token: token.trim().to_owned(), data, args, http, log, _dir: dir }
    }

    /// Kills it as a power cut would, but for the disk.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again over the same folder.
    pub fn start_again(&mut self) {
        let (child, url) = spawn(&self.data, &self.args, self.log.path());
        (self.child, self.url) = (child, url);
    }

    /// Stops it as an operator would, and waits.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("the child is ours")
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").expect("it serves HTTP")
    }

    /// A request with the token.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// A request without a token.
    pub fn anonymous(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).timeout(2 * PATIENCE)
    }

    /// Status and JSON of an answer.
    pub async fn json(request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.send().await.expect("the pool answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// GET, JSON.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        Pool::json(self.request(reqwest::Method::GET, path)).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        Pool::json(self.request(reqwest::Method::POST, path).json(body)).await
    }

    /// Uploads a module and answers status and body.
    pub async fn upload(&self, wasm: Vec<u8>) -> (u16, Value) {
        let request = self.request(reqwest::Method::POST, "/v1/modules");
        Pool::json(request.header("content-type", "application/wasm").body(wasm)).await
    }

    /// Uploads a good module; its digest.
    pub async fn push(&self, wasm: Vec<u8>) -> String {
        let (status, body) = self.upload(wasm).await;
        assert!(status == 201 || status == 200, "{status} {body}");
        body["digest"].as_str().expect("a digest").to_owned()
    }

    /// Submits a run and waits until it is final.
    pub async fn run(&self, mut request: Value) -> Value {
        request["wait_ms"] = json!(30_000);
        let (status, body) = self.post("/v1/runs", &request).await;
        assert!(status == 200 || status == 201 || status == 202, "{status} {body}");
        let id = body["id"].as_str().expect("an id").to_owned();
        self.finished(&id).await
    }

    /// A run, when it is final.
    pub async fn finished(&self, id: &str) -> Value {
        eventually(&format!("run {id} ends"), async || {
            let (status, body) = self.get(&format!("/v1/runs/{id}?wait_ms=5000")).await;
            assert_eq!(status, 200, "{body}");
            is_final(&body).then_some(body)
        })
        .await
    }

    /// The runners of this pool, by pid.
    pub fn runners(&self) -> Vec<u32> {
        children(self.child.id()).into_iter().filter(|pid| command_line(*pid).contains("runner")).collect()
    }

    /// The runner that has used the most CPU time: the one that executes a busy guest.
    pub fn busiest_runner(&self) -> Option<u32> {
        self.runners().into_iter().max_by_key(|pid| cpu_ticks(*pid))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() || std::env::var_os("LOCKSTEP_TEST_LOG").is_some() {
            let log = std::fs::read(self.log.path()).unwrap_or_default();
            let tail = &log[log.len().saturating_sub(LOG_BYTES_SHOWN)..];
            eprintln!("--- what the server said ---\n{}--- end ---", String::from_utf8_lossy(tail));
        }
    }
}

fn spawn(data: &Path, args: &[String], log: &Path) -> (Child, String) {
    let log = std::fs::OpenOptions::new().append(true).open(log).expect("the log can be written");
    let listens = args.iter().any(|arg| arg == "--listen");
    let mut child = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        // equal runs are submitted to see them executed; a test of the cache asks for it with `--set cache_entries=…`
        .env("LOCKSTEP_CACHE_ENTRIES", "0")
        .arg("serve")
        .arg("--data")
        .arg(data)
        .args(if listens { &[][..] } else { &["--listen", "127.0.0.1:0"] })
        .args(args)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary starts");
    let stdout = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines();
    let url = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with("http://") || word.starts_with("https://"))
                .map(str::to_owned)
        })
        .expect("it prints its link");
    // what it prints later must not fill the pipe
    std::thread::spawn(move || lines.for_each(drop));
    let address = url.split('#').next().expect("split gives a part").trim_end_matches('/').to_owned();
    (child, address)
}

/// Whether a run's state is terminal.
pub fn is_final(run: &Value) -> bool {
    matches!(run["state"].as_str(), Some("succeeded" | "failed" | "canceled"))
}

/// Sends a signal by its name.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    found
}

/// A process's arguments, with spaces between them.
pub fn command_line(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

/// CPU time of a process in clock ticks (10 ms).
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}

/// Whether a process is there and no zombie.
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// A figure of `/proc/PID/status` in bytes, for instance `VmHWM`: the most memory that was resident at once.
pub fn status_bytes(pid: u32, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.expect("the kernel tells it in KiB") << 10
}
