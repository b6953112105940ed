//! `lockstep call`: standard input in, the agreed standard output out, in one request.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::StreamExt as _;
use reqwest::{Method, Response};
use tokio_util::io::ReaderStream;

use super::args::CallArgs;
use super::client::{Client, Upload};
use super::error::CliError;
use super::exit;
use super::run::module_of;
use super::screen::Screen;
use crate::protocol::api::{Run, StreamName};

/// The server may take so much longer than it was asked to wait.
const ANSWER_SLACK: Duration = Duration::from_secs(30);
/// How long the server waits if it is not told.
const WAIT: Duration = Duration::from_secs(60);

/// Calls a module; the exit code is the guest's.
pub async fn call(client: &Client, args: &CallArgs) -> Result<u8, CliError> {
    let mut screen = Screen::new(args.raw);
    let module = module_of(client, &args.module, &screen).await?.to_string();
    let wait = args.wait.map_or(WAIT, |period| period.duration());
    let request = client.request(Method::POST, &["modules", &module, "call"]).query(&query_of(args));
    let request = request.timeout(wait + ANSWER_SLACK).body(stdin()?);
    match client.send(request).await {
        Ok(answer) => print(answer, args, &mut screen).await.map(|()| 0),
        Err(CliError::Problem(problem)) => match problem.run.as_deref().map(run_of) {
            // the run ended, only not well
            Some(Some(run)) => {
                screen.note(&format!("{problem}; `lockstep runs show {}` tells more", run.id));
                Ok(exit::code_of(&run))
            }
            _ => Err(CliError::Problem(problem)),
        },
        Err(error) => Err(error),
    }
}

fn run_of(json: &serde_json::value::RawValue) -> Option<Run> {
    serde_json::from_str(json.get()).ok()
}

fn query_of(args: &CallArgs) -> Vec<(&'static str, String)> {
    let mut query: Vec<_> = args.args.iter().map(|arg| ("arg", arg.clone())).collect();
    query.extend(args.env.iter().map(|(name, value)| ("env", format!("{name}={value}"))));
    query.extend(args.entry.iter().map(|entry| ("entry", entry.clone())));
    query.extend(args.timeout.iter().map(|period| ("timeout_ms", period.ms.to_string())));
    query.extend(args.wait.iter().map(|period| ("wait_ms", period.ms.to_string())));
    query.extend(args.verify.iter().map(|verify| ("verify", verify.to_string())));
    query.extend(args.quorum.iter().map(|n| ("verify", format!("quorum:{n}"))));
    query.extend(args.cache.iter().map(|cache| ("cache", cache.name().to_owned())));
    query.extend(args.verify.iter().map(|verify| ("verify", verify.to_string())));
    if args.once {
        query.push(("verify", "once".to_owned()));
    }
    if args.no_durable {
        query.push(("durable", "false".to_owned()));
    }
    query
}

/// What is piped in, as it comes; nothing at a terminal.
fn stdin() -> Result<Upload, CliError> {
    if std::io::stdin().is_terminal() {
        return Ok(Upload::default());
    }
    let name = Path::new("standard input");
    let own = std::io::stdin().as_fd().try_clone_to_owned().map_err(CliError::file("read", name))?;
    Ok(Upload::wrap_stream(ReaderStream::new(tokio::fs::File::from_std(own.into()))))
}

async fn print(answer: Response, args: &CallArgs, screen: &mut Screen) -> Result<(), CliError> {
    let broken =
        |error: reqwest::Error| CliError::Broken { doing: "reading the answer", why: error.to_string() };
    if !args.connect.json {
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            screen.guest(StreamName::Stdout, &piece.map_err(broken)?)?;
        }
        return Ok(());
    }
    let header =
        |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let [run, result] = ["lockstep-run", "lockstep-result"].map(header);
    let [verdict, outcome] = ["lockstep-verdict", "lockstep-outcome"].map(header);
    let bytes = answer.bytes().await.map_err(broken)?;
    let stdout = match std::str::from_utf8(&bytes) {
        Ok(text) => serde_json::json!({ "text": text }),
        Err(_) => serde_json::json!({ "base64": BASE64.encode(&bytes) }),
    };
    screen.json(&serde_json::json!({
        "run": run, "result": result, "verdict": verdict, "outcome": outcome, "stdout": stdout,
    }))
}
