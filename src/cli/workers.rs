//! `lockstep workers`.

use std::time::Duration;

use super::args::{WorkersArgs, WorkersCommand};
use super::client::Client;
use super::error::CliError;
use super::repairs;
use super::screen::Screen;
use super::show_pool;
use crate::id::WorkerId;
use crate::protocol::api::{Page, QuarantineRequest, Worker};

/// Lists and manages workers.
pub async fn workers(client: &Client, args: &WorkersArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let json = args.connect.json;
    let changed = match args.command.as_ref().unwrap_or(&WorkersCommand::List) {
        WorkersCommand::List => {
            let page: Page<Worker> = client.get(&["workers"]).await?;
            match json {
                true => screen.json(&page.items)?,
                false => screen.text(&show_pool::workers(&page.items))?,
            }
            return Ok(0);
        }
        WorkersCommand::Show { worker } => {
            let worker: Worker = client.get(&["workers", &worker.to_string()]).await?;
            match json {
                true => screen.json(&worker)?,
                false => screen.text(&show_pool::worker(&worker))?,
            }
            return Ok(0);
        }
        WorkersCommand::Rm { workers } => {
            for worker in workers {
                client.delete(&["workers", &worker.to_string()]).await?;
            }
            return Ok(0);
        }
        WorkersCommand::Drain { workers } => each(client, workers, "drain").await?,
        WorkersCommand::Readmit { workers } => each(client, workers, "readmit").await?,
        WorkersCommand::Quarantine { worker, why } => {
            let body = QuarantineRequest { why: why.clone() };
            let segments = ["workers", &worker.to_string(), "quarantine"];
            let changed = client.post_json(&segments, &body, &[], Duration::ZERO).await?;
            if let Some(repair) = repairs::of(client, *worker).await? {
                screen.note(&repairs::announced(&repair));
            }
            vec![changed]
        }
    };
    match (json, changed.as_slice()) {
        (true, [worker]) => screen.json(worker)?,
        (true, workers) => screen.json(&workers)?,
        (false, workers) => screen.text(&show_pool::workers(workers))?,
    }
    Ok(0)
}

async fn each(client: &Client, workers: &[WorkerId], order: &str) -> Result<Vec<Worker>, CliError> {
    let mut changed = Vec::with_capacity(workers.len());
    for worker in workers {
        changed.push(client.post(&["workers", &worker.to_string(), order]).await?);
    }
    Ok(changed)
}
