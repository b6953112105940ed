//! `lockstep workers`.

use std::time::Duration;

use super::args::{WorkersArgs, WorkersCommand};
use super::client::Client;
use super::error::CliError;
use super::screen::Screen;
use super::show;
use crate::protocol::api::{Page, QuarantineRequest, Worker};

/// Lists and manages workers.
pub async fn workers(client: &Client, args: &WorkersArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let json = args.connect.json;
    let changed: Worker = match args.command.as_ref().unwrap_or(&WorkersCommand::List) {
        WorkersCommand::List => {
            let page: Page<Worker> = client.get(&["workers"]).await?;
            match json {
                true => screen.json(&page.items)?,
                false => screen.text(&show::workers(&page.items))?,
            }
            return Ok(0);
        }
        WorkersCommand::Drain { worker } => client.post(&["workers", &worker.to_string(), "drain"]).await?,
        WorkersCommand::Readmit { worker } => {
            client.post(&["workers", &worker.to_string(), "readmit"]).await?
        }
        WorkersCommand::Quarantine { worker, why } => {
            let body = QuarantineRequest { why: why.clone() };
            let segments = ["workers", &worker.to_string(), "quarantine"];
            client.post_json(&segments, &body, &[], Duration::ZERO).await?
        }
    };
    match json {
        true => screen.json(&changed)?,
        false => screen.text(&show::workers(&[changed]))?,
    }
    Ok(0)
}
