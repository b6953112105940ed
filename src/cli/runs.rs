//! `lockstep runs`: list, show, outputs, wait, watch, cancel, rerun.

use reqwest::Method;

use super::args::{RunsArgs, RunsCommand, RunsFilter, StateArg, VerdictArg};
use super::client::Client;
use super::error::CliError;
use super::live::Live;
use super::modules::resolve;
use super::result::{self, Followed, Wanted};
use super::screen::Screen;
use super::show;
use super::show_diff;
use crate::id::RunId;
use crate::protocol::api::{Comparison, Run, RunSummary, StreamName};
use crate::result::{RunState, VerdictKind};

/// Lists, follows and manages runs.
pub async fn runs(client: &Client, args: &RunsArgs) -> Result<u8, CliError> {
    let json = args.connect.json;
    let screen = Screen::new(false);
    match &args.command {
        None => list(client, &args.filter, json).await?,
        Some(RunsCommand::List(filter)) => list(client, filter, json).await?,
        Some(RunsCommand::Show { id, revision }) => {
            match (json, result::get_at(client, *id, *revision).await?) {
                (true, run) => screen.json(&run)?,
                (false, run) => screen.text(&show::run(&run))?,
            }
        }
        Some(RunsCommand::Stdout { id, raw }) => outputs(client, *id, *raw, &[StreamName::Stdout]).await?,
        Some(RunsCommand::Stderr { id, raw }) => {
            let run = with_result(client, *id).await?;
            // Asked for by name, it is the result: on standard output, where it can be piped.
            let mut screen = Screen::new(*raw);
            result::read_output(client, &run, StreamName::Stderr, |bytes| {
                screen.guest(StreamName::Stdout, bytes)
            })
            .await?;
        }
        Some(RunsCommand::Logs { id, raw }) => {
            outputs(client, *id, *raw, &[StreamName::Stdout, StreamName::Stderr]).await?;
        }
        Some(RunsCommand::Files { id, out }) => {
            let run = with_result(client, *id).await?;
            match (out, json) {
                (Some(dir), _) => {
                    for path in result::download_files(client, &run, dir).await? {
                        screen.text(&format!("{}\n", path.display()))?;
                    }
                }
                (None, true) => screen.json(&run.files)?,
                (None, false) => screen.text(&show::files(&run))?,
            }
        }
        Some(RunsCommand::Diff { id, left, right, stream, revision }) => {
            let numbers = [("left", left), ("right", right), ("revision", revision)];
            let named = numbers.into_iter().filter_map(|(name, number)| Some((name, (*number)?.to_string())));
            let query: Vec<_> = named.chain(stream.clone().map(|stream| ("stream", stream))).collect();
            let request = client.request(Method::GET, &["runs", &id.to_string(), "diff"]).query(&query);
            match (json, client.json::<Comparison>(request).await?) {
                (true, found) => screen.json(&found)?,
                (false, found) => screen.text(&show_diff::comparison(&found))?,
            }
        }
        Some(RunsCommand::Wait { id, output }) => {
            let mut screen = Screen::new(output.raw);
            let run = result::wait(client, *id).await?;
            let wanted = Wanted { json, explain: output.explain, out: output.out.as_deref() };
            return result::report(client, &run, &Live::default(), wanted, &mut screen).await;
        }
        Some(RunsCommand::Watch { id }) => watch(client, *id, json).await?,
        Some(RunsCommand::Cancel { ids }) => {
            for id in ids {
                let run: Run = client.post(&["runs", &id.to_string(), "cancel"]).await?;
                print_one(&screen, &run, json)?;
            }
        }
        Some(RunsCommand::Rerun { id }) => {
            let run: Run = client.post(&["runs", &id.to_string(), "rerun"]).await?;
            match json {
                true => screen.json(&run)?,
                false => screen.text(&format!("{}\n", run.id))?,
            }
        }
    }
    Ok(0)
}

async fn list(client: &Client, filter: &RunsFilter, json: bool) -> Result<(), CliError> {
    let screen = Screen::new(false);
    let mut query = Vec::new();
    if let Some(state) = filter.state {
        query.push(("state", state_of(state).name().to_owned()));
    }
    if let Some(module) = &filter.module {
        query.push(("module", resolve(client, module).await?.to_string()));
    }
    if let Some(verdict) = filter.verdict {
        query.push(("verdict", verdict_of(verdict).name().to_owned()));
    }
    let runs: Vec<RunSummary> = client.list(&["runs"], &query, filter.limit as usize).await?;
    match (json, runs.is_empty()) {
        (true, _) => screen.json(&runs),
        (false, true) => {
            screen.note("no such runs; `lockstep run app.wasm` submits one");
            Ok(())
        }
        (false, false) => screen.text(&show::runs(&runs)),
    }
}

fn state_of(state: StateArg) -> RunState {
    match state {
        StateArg::Queued => RunState::Queued,
        StateArg::Running => RunState::Running,
        StateArg::Succeeded => RunState::Succeeded,
        StateArg::Failed => RunState::Failed,
        StateArg::Canceled => RunState::Canceled,
    }
}

fn verdict_of(verdict: VerdictArg) -> VerdictKind {
    match verdict {
        VerdictArg::Pending => VerdictKind::Pending,
        VerdictArg::Agreed => VerdictKind::Agreed,
        VerdictArg::Vouched => VerdictKind::Vouched,
        VerdictArg::Unchecked => VerdictKind::Unchecked,
        VerdictArg::Disputed => VerdictKind::Disputed,
        VerdictArg::Nondeterministic => VerdictKind::Nondeterministic,
    }
}

fn print_one(screen: &Screen, run: &Run, json: bool) -> Result<(), CliError> {
    if json {
        return screen.json(run);
    }
    screen.text(&format!("{}  {}\n", run.id, show::ending(run.state, run.reason, run.outcome.as_ref())))
}

/// A run that has a result to read.
async fn with_result(client: &Client, id: RunId) -> Result<Run, CliError> {
    let run = result::get(client, id).await?;
    if !run.state.is_final() {
        let why = format!("the run is {}: `lockstep runs wait {id}` waits for its end", run.state.name());
        return Err(CliError::NoOutput(why));
    }
    if run.result.is_none() {
        let ending = show::ending(run.state, run.reason, run.outcome.as_ref());
        return Err(CliError::NoOutput(format!("the run has no result: {ending}")));
    }
    Ok(run)
}

async fn outputs(client: &Client, id: RunId, raw: bool, streams: &[StreamName]) -> Result<(), CliError> {
    let run = with_result(client, id).await?;
    let mut screen = Screen::new(raw);
    for stream in streams {
        result::read_output(client, &run, *stream, |bytes| screen.guest(*stream, bytes)).await?;
    }
    Ok(())
}

/// Prints each decision when it is made; with `json` each view of the run, one per line.
async fn watch(client: &Client, id: RunId, json: bool) -> Result<(), CliError> {
    let screen = Screen::new(false);
    let mut told = 0;
    let mut state = None;
    result::follow(client, id, |followed| {
        let Followed::Changed(run) = followed else { return Ok(()) };
        if json {
            let line = serde_json::to_string(run).map_err(|error| CliError::Output(error.into()))?;
            return screen.text(&format!("{line}\n"));
        }
        let news: String = show::explain(run).lines().skip(told).map(|line| format!("{line}\n")).collect();
        told += news.lines().count();
        screen.text(&news)?;
        if state.replace(run.state) != Some(run.state) {
            let ending = show::ending(run.state, run.reason, run.outcome.as_ref());
            screen.text(&format!(
                "{}: {ending}; {}\n",
                run.state.name(),
                show::verdict(run.state, &run.verdict)
            ))?;
        }
        Ok(())
    })
    .await
}
