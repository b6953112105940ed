//! The processes of a drill: one coordinator, its workers, and the directory that they live in.
//!
//! Invariant: no child outlives [`DrillPool::stop`], nor the value itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::super::args::{ConnectArgs, DrillArgs};
use super::super::client::Client;
use super::super::connection::Connection;
use super::super::error::CliError;
use super::super::terminal::plain;
use super::roster::Roster;
use crate::config::Environment;
use crate::protocol::api::{NewToken, Page, Scope, TokenRequest, Worker, WorkerStandingName};

/// How long the processes may take to be there: generous, for a machine that is busy with all of them.
const START_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Of the coordinator's log, what is shown when the drill fails.
const LAST_WORDS_BYTES: usize = 600;
/// What a worker of the drill may lease: a few of the tiny runs at once.
const WORKER_MEMORY: &str = "256MiB";

/// The processes of a drill.
#[derive(Debug)]
pub struct DrillPool {
    exe: PathBuf,
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl DrillPool {
    /// Makes the directory; nothing is started yet.
    pub fn prepare() -> Result<DrillPool, CliError> {
        let exe = std::env::current_exe().map_err(CliError::Runtime)?;
        let dir = tempfile::Builder::new().prefix("lockstep-drill-").tempdir();
        let dir = dir.map_err(CliError::file("make", &std::env::temp_dir()))?;
        Ok(DrillPool { exe, dir, children: Vec::new() })
    }

    /// Starts a coordinator without ordinary workers of its own.
    pub async fn start_coordinator(&mut self, args: &DrillArgs) -> Result<Client, CliError> {
        let data = self.coordinator_dir();
        let arbiters = args.arbiters.to_string();
        let line = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--workers",
            "0",
            "--arbiters",
            &arbiters,
            "--slots",
            "1",
            "--worker-memory",
            "512MiB",
            "--log",
            "warn",
            "--data",
        ];
        let mut command = self.command();
        command.args(line).arg(&data);
        self.spawn(command, &self.coordinator_log())?;
        let deadline = Instant::now() + START_WITHIN;
        while !data.join("address").exists() || !data.join("token").exists() {
            self.check_alive("the coordinator")?;
            wait_until(deadline, "the coordinator does not start").await?;
        }
        let connect = ConnectArgs { data: Some(data), ..ConnectArgs::default() };
        Client::new(Connection::find(&connect, &Environment::default())?)
    }

    /// Starts the workers, each with a token and a trust domain of its own, and waits until all of them have joined. Gives
    /// them in the order of the roster.
    pub async fn start_workers(&mut self, client: &Client, roster: &Roster) -> Result<Vec<Worker>, CliError> {
        let server = std::fs::read_to_string(self.coordinator_dir().join("address"));
        let server = server.map_err(CliError::file("read", &self.coordinator_dir()))?;
        for (place, misbehave) in roster.misbehave.iter().enumerate() {
            let name = worker_name(place);
            let request = TokenRequest {
                name: name.clone(),
                scopes: vec![Scope::Worker],
                expires_at: None,
                domain: Some(name.clone()),
                owned: false,
                arbiter: false,
                foreign: true,
            };
            let token: NewToken = client.post_json(&["tokens"], &request, &[], Duration::ZERO).await?;
            let data = self.dir.path().join(&name);
            let mut command = self.command();
            command.args(["worker", "--slots", "1", "--memory", WORKER_MEMORY, "--log", "error"]);
            command.args(["--coordinator", server.trim(), "--name", &name, "--token", &token.secret]);
            command.arg("--data").arg(&data);
            command.args(misbehave.iter().flat_map(|way| ["--unsafe-misbehave", way]));
            self.spawn(command, &data.with_extension("log"))?;
        }
        let deadline = Instant::now() + START_WITHIN;
        loop {
            self.check_alive("a worker")?;
            let page: Page<Worker> = client.get(&["workers"]).await?;
            let joined = (0..roster.misbehave.len()).map(|place| {
                let name = worker_name(place);
                let is_it = |worker: &&Worker| {
                    worker.name == name && worker.standing == WorkerStandingName::Active && worker.credits > 0
                };
                page.items.iter().find(is_it).cloned()
            });
            if let Some(workers) = joined.collect::<Option<Vec<Worker>>>() {
                return Ok(workers);
            }
            wait_until(deadline, "the workers do not join").await?;
        }
    }

    /// Ends every process and waits for its end; then the directory may go.
    pub async fn stop(mut self) {
        for child in &mut self.children {
            // one that has ended already is waited for all the same
            drop(child.start_kill());
        }
        for child in &mut self.children {
            drop(child.wait().await);
        }
    }

    /// The end of what the coordinator logged, on one line.
    pub fn last_words(&self) -> String {
        let log = std::fs::read(self.coordinator_log()).unwrap_or_default();
        plain(&String::from_utf8_lossy(&log[log.len().saturating_sub(LAST_WORDS_BYTES)..])).trim().to_owned()
    }

    fn coordinator_dir(&self) -> PathBuf {
        self.dir.path().join("coordinator")
    }

    fn coordinator_log(&self) -> PathBuf {
        self.coordinator_dir().with_extension("log")
    }

    /// This very program, in an environment that says nothing to it.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.env_clear().kill_on_drop(true);
        command
    }

    fn spawn(&mut self, mut command: Command, log: &Path) -> Result<(), CliError> {
        let file = std::fs::File::create(log).map_err(CliError::file("write", log))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        self.children.push(command.spawn().map_err(CliError::file("start", &self.exe))?);
        Ok(())
    }

    /// A child that ends before the drill does is a failure of the drill.
    fn check_alive(&mut self, what: &str) -> Result<(), CliError> {
        for child in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(CliError::Serve(format!("{what} of the drill has ended: {status}")));
            }
        }
        Ok(())
    }
}

fn worker_name(place: usize) -> String {
    format!("drill-{}", place + 1)
}

async fn wait_until(deadline: Instant, what: &str) -> Result<(), CliError> {
    if Instant::now() > deadline {
        return Err(CliError::Serve(format!("{what} within {} s", START_WITHIN.as_secs())));
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}
