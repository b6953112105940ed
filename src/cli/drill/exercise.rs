//! Submits the runs, watches who is caught, and looks at every result again at the end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use reqwest::Method;
use serde::Deserialize;
use tokio::time::Instant;

use super::super::args::DrillArgs;
use super::super::client::Client;
use super::super::error::CliError;
use super::super::result;
use super::figures::{Anew, Figures};
use super::pool::DrillPool;
use super::roster::{Question, Roster};
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};
use crate::protocol::api::{
    CacheUse, LimitsRequest, Module, Page, Run, RunRequest, VerifyRequest, Worker, WorkerStandingName,
};
use crate::result::RunState;

/// Tells primes from other numbers; 501 bytes.
const PRIMES: &[u8] = include_bytes!("../../../guest-examples/prebuilt/primes.wasm");
/// How long the answer to a submission may wait for the run's end.
const WAIT: Duration = Duration::from_secs(30);
/// Between two looks at the workers.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// How long what is verified anew is waited for.
const REPAIR_WITHIN: Duration = Duration::from_secs(120);
/// Results that are read again at a time.
const READ_AT_ONCE: usize = 16;

/// What became of one run.
struct Ended {
    question: Question,
    run: Option<Run>,
}

/// What the watch over the workers saw: finals by the time that each liar was out.
#[derive(Default)]
struct Watch {
    finals: Cell<u64>,
    caught: RefCell<BTreeMap<WorkerId, u64>>,
}

/// The whole drill over a pool that is started for it.
pub async fn exercise(args: &DrillArgs, roster: &Roster, pool: &mut DrillPool) -> Result<Figures, CliError> {
    let client = pool.start_coordinator(args).await?;
    let workers = pool.start_workers(&client, roster).await?;
    let module = push(&client).await?;
    let watch = Watch::default();
    let started = Instant::now();
    let ended = tokio::select! {
        ended = submit_all(&client, args, module, &watch) => ended?,
        error = watch_for_ever(&client, &watch) => return Err(error),
    };
    let took = started.elapsed();
    let anew = repaired(&client).await?;
    look(&client, &watch).await?;
    let wrong_left = wrong_now(&client, &ended).await?;
    let last: Page<Worker> = client.get(&["workers"]).await?;
    let mut figures = Figures::of(args, roster.liars());
    figures.took(took);
    for run in &ended {
        count(&mut figures, run, &last.items);
    }
    figures.wrong_after_repair = wrong_left;
    figures.verified_anew = anew;
    let caught = watch.caught.into_inner();
    for (worker, misbehave) in workers.iter().zip(&roster.misbehave) {
        let now = last.items.iter().find(|now| now.id == worker.id);
        let is_out = now.is_some_and(|now| now.standing == WorkerStandingName::Quarantined);
        let is_suspect = now.is_some_and(|now| now.suspect_since.is_some());
        match misbehave {
            Some(_) if is_out => figures.caught(caught.get(&worker.id).copied().unwrap_or(args.runs)),
            Some(_) => {}
            None => figures.honest_blamed += u64::from(is_out || is_suspect),
        }
    }
    Ok(figures)
}

async fn push(client: &Client) -> Result<Digest, CliError> {
    let digest = Digest::of(PRIMES);
    let query = [("wait_ms", WAIT.as_millis().to_string()), ("name", "primes.wasm".to_owned())];
    let segments = ["modules", &digest.to_string()];
    let body = PRIMES.into();
    let module: Module =
        client.upload(Method::PUT, &segments, &query, body, Some(PRIMES.len() as u64)).await?;
    Ok(super::super::upload::wait_until_ready(client, module).await?.digest)
}

/// Submits every run, so many at once that nearly all workers are busy.
async fn submit_all(
    client: &Client,
    args: &DrillArgs,
    module: Digest,
    watch: &Watch,
) -> Result<Vec<Ended>, CliError> {
    let bar = progress(args.runs);
    let at_once = (args.workers as usize * 9 / 10).max(1);
    let runs = (0..args.runs).map(|number| {
        let question = Question::of(args, number);
        let bar = &bar;
        async move {
            let run = submit(client, args, module, question).await?;
            watch.finals.set(watch.finals.get() + 1);
            bar.inc(1);
            Ok::<_, CliError>(Ended { question, run })
        }
    });
    let ended = stream::iter(runs).buffer_unordered(at_once).try_collect().await;
    bar.finish_and_clear();
    ended
}

fn progress(runs: u64) -> ProgressBar {
    // it draws to a terminal only
    ProgressBar::new(runs)
}

/// One run, waited for; `None` if it was refused because too few workers are left.
async fn submit(
    client: &Client,
    args: &DrillArgs,
    module: Digest,
    question: Question,
) -> Result<Option<Run>, CliError> {
    let limits = LimitsRequest {
        memory_bytes: Some(4 << 20),
        output_bytes: Some(64 << 10),
        file_bytes: Some(0),
        ..LimitsRequest::default()
    };
    let request = RunRequest {
        module: Some(module),
        entry: Some("is_prime".to_owned()),
        args: vec![question.number.to_string()],
        seed: Some(question.seed),
        limits,
        verify: Some(VerifyRequest::from(args.policy)),
        wait_ms: Some(WAIT.as_millis() as u64),
        cache: Some(CacheUse::Off),
        ..RunRequest::default()
    };
    let run: Run = match client.post_json(&["runs"], &request, &[], WAIT).await {
        Ok(run) => run,
        Err(error) if error.code() == Some("too_few_workers") => return Ok(None),
        Err(error) => return Err(error),
    };
    if run.state.is_final() { Ok(Some(run)) } else { result::wait(client, run.id).await.map(Some) }
}

/// Looks at the workers again and again; gives the error that ended it.
async fn watch_for_ever(client: &Client, watch: &Watch) -> CliError {
    loop {
        if let Err(error) = look(client, watch).await {
            return error;
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Notes who is out by now.
async fn look(client: &Client, watch: &Watch) -> Result<(), CliError> {
    let page: Page<Worker> = client.get(&["workers"]).await?;
    let finals = watch.finals.get();
    let mut caught = watch.caught.borrow_mut();
    for worker in page.items.iter().filter(|worker| worker.standing == WorkerStandingName::Quarantined) {
        caught.entry(worker.id).or_insert(finals);
    }
    Ok(())
}

/// A repair, as far as the drill reads it.
#[derive(Deserialize)]
struct Repair {
    #[serde(default)]
    state: String,
    #[serde(default)]
    decisive: u64,
    #[serde(default)]
    corrected: u64,
}

/// Waits until nothing is left to be verified anew; `None` where a server knows of no such thing.
async fn repaired(client: &Client) -> Result<Option<Anew>, CliError> {
    let deadline = Instant::now() + REPAIR_WITHIN;
    loop {
        let Some(page) = client.find::<Page<Repair>>(&["repairs"]).await? else { return Ok(None) };
        let is_over = |repair: &Repair| matches!(repair.state.as_str(), "done" | "lifted");
        let is_done = page.items.iter().all(is_over);
        if is_done || Instant::now() > deadline {
            return Ok(Some(Anew {
                results: page.items.iter().map(|repair| repair.decisive).sum(),
                corrected: page.items.iter().map(|repair| repair.corrected).sum(),
                is_done,
            }));
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn is_wrong(question: &Question, run: &Run) -> bool {
    run.state == RunState::Succeeded && run.result != Some(question.right_result())
}

/// Wrong results, as they are now.
async fn wrong_now(client: &Client, ended: &[Ended]) -> Result<u64, CliError> {
    let known = ended.iter().filter_map(|ended| Some((ended.question, ended.run.as_ref()?.id)));
    let reads = known.map(|(question, id): (Question, RunId)| async move {
        let run: Run = client.get(&["runs", &id.to_string()]).await?;
        Ok::<_, CliError>(is_wrong(&question, &run))
    });
    let wrong: Vec<bool> = stream::iter(reads).buffer_unordered(READ_AT_ONCE).try_collect().await?;
    Ok(wrong.into_iter().filter(|is_wrong| *is_wrong).count() as u64)
}

fn count(figures: &mut Figures, ended: &Ended, workers: &[Worker]) {
    let Some(run) = &ended.run else {
        figures.no_verdict += 1;
        return;
    };
    figures.no_verdict += u64::from(run.state != RunState::Succeeded);
    figures.wrong_exposed += u64::from(is_wrong(&ended.question, run));
    for attempt in &run.attempts {
        let is_arbiter = workers.iter().any(|worker| worker.id == attempt.worker && worker.arbiter);
        match is_arbiter {
            true => figures.arbiter_attempts += 1,
            false => figures.attempts += 1,
        }
    }
}
