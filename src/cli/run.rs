//! `lockstep run`: upload, submit, wait or follow, write what was agreed on.

use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderName;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::RunArgs;
use super::client::Client;
use super::error::CliError;
use super::exit;
use super::inputs;
use super::live::Live;
use super::modules;
use super::parse::ModuleRef;
use super::result::{self, Wanted};
use super::screen::Screen;
use super::upload::{COMPILE_WAIT, push_module};
use crate::digest::Digest;
use crate::id::RunId;
use crate::protocol::api::{Run, RunRequest};

/// A short run's result comes with the answer to its submission.
const SUBMIT_WAIT: Duration = Duration::from_secs(1);
/// A run in memory is only known to the request that waits for it: the most that the server allows.
const MEMORY_WAIT: Duration = Duration::from_secs(300);
/// Pauses before a request whose connection broke is repeated; its key makes that harmless.
pub const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1_600)];

/// Executes the command; the exit code is the guest's.
pub async fn run(client: &Client, args: &RunArgs) -> Result<u8, CliError> {
    let mut screen = Screen::new(args.output.raw);
    let module = module_of(client, &args.module, &screen).await?;
    let mut request = inputs::request_of(client, args, module).await?;
    let wait = match (args.policy.no_durable, args.output.live || args.output.detach) {
        (true, _) => MEMORY_WAIT,
        (false, true) => Duration::ZERO,
        (false, false) => SUBMIT_WAIT,
    };
    request.wait_ms = (!wait.is_zero()).then_some(wait.as_millis() as u64);
    let key = match (&args.policy.idempotency_key, args.policy.no_durable) {
        (_, true) => None,
        (Some(key), false) => Some(key.clone()),
        (None, false) => Some(random_key()?),
    };
    // From here on Ctrl-C means the run, not only this process.
    let mut interrupts = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let submitted = submit(client, &request, key, wait).await?;
    if args.output.detach {
        match args.connect.json {
            true => screen.json(&submitted)?,
            false => screen.text(&format!("{}\n", submitted.id))?,
        }
        return Ok(0);
    }
    let Some((run, live)) = finish(client, submitted, args.output.live, &mut interrupts, &mut screen).await?
    else {
        return Ok(exit::CANCELED);
    };
    let wanted =
        Wanted { json: args.connect.json, explain: args.output.explain, out: args.output.out.as_deref() };
    result::report(client, &run, &live, wanted, &mut screen).await
}

/// The digest of the module that was named; a file is uploaded unless the server has it.
pub async fn module_of(client: &Client, module: &ModuleRef, screen: &Screen) -> Result<Digest, CliError> {
    if let Some(digest) = module.digest() {
        return Ok(digest);
    }
    let path = Path::new(&module.0);
    if !path.is_file() {
        return modules::resolve(client, module).await;
    }
    let pushed = push_module(client, path, None, COMPILE_WAIT).await?;
    for note in super::show::module_notes(&pushed.module) {
        if !pushed.was_there {
            screen.note(&note);
        }
    }
    Ok(pushed.module.digest)
}

/// A key under which a request may be sent again and does nothing twice: 128 random bits.
pub fn random_key() -> Result<String, CliError> {
    let mut bytes = [0; 16];
    let failed = |error: getrandom::Error| CliError::Broken { doing: "making a key", why: error.to_string() };
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(format!("cli-{}", uuid::Builder::from_random_bytes(bytes).into_uuid()))
}

async fn submit(
    client: &Client,
    request: &RunRequest,
    key: Option<String>,
    wait: Duration,
) -> Result<Run, CliError> {
    let headers: Vec<_> =
        key.into_iter().map(|key| (HeaderName::from_static("idempotency-key"), key)).collect();
    let mut pauses = RETRY_PAUSES.into_iter().filter(|_| !headers.is_empty());
    loop {
        match client.post_json(&["runs"], request, &headers, wait).await {
            Err(CliError::Broken { doing, why }) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(CliError::Broken { doing, why }),
            },
            other => return other,
        }
    }
}

/// The run at its end, with what was shown of it before. `None`: interrupted twice.
async fn finish(
    client: &Client,
    run: Run,
    live: bool,
    interrupts: &mut Signal,
    screen: &mut Screen,
) -> Result<Option<(Run, Live)>, CliError> {
    let id = run.id;
    let ending = async {
        match (run.state.is_final(), live) {
            (true, _) => Ok((run, Live::default())),
            (false, true) => result::follow_live(client, id, screen).await,
            (false, false) => result::wait(client, id).await.map(|run| (run, Live::default())),
        }
    };
    tokio::select! {
        ended = ending => ended.map(Some),
        _ = interrupts.recv() => cancel(client, id, interrupts).await,
    }
}

/// Cancels the run and waits for its end, which the cancellation may have missed.
async fn cancel(
    client: &Client,
    id: RunId,
    interrupts: &mut Signal,
) -> Result<Option<(Run, Live)>, CliError> {
    let canceling = async {
        let _: Run = client.post(&["runs", &id.to_string(), "cancel"]).await?;
        result::wait(client, id).await
    };
    tokio::select! {
        run = canceling => run.map(|run| Some((run, Live::default()))),
        _ = interrupts.recv() => Ok(None),
    }
}
