//! `lockstep callbacks` and `lockstep workspaces`.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderName;

use super::args::{CallbacksArgs, CallbacksCommand, WorkspacesArgs, WorkspacesCommand};
use super::client::Client;
use super::error::CliError;
use super::run::{RETRY_PAUSES, random_key};
use super::screen::Screen;
use super::{show, show_pool};
use crate::protocol::api::{CallbackSecret, DeliveryPage, Info, VerifyRequest, Workspace, WorkspaceRequest};

/// Shows how the callbacks of a run went, and what they are signed with.
pub async fn callbacks(client: &Client, args: &CallbacksArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let json = args.connect.json;
    let page: DeliveryPage = match &args.command {
        CallbacksCommand::List { id } => client.get(&["runs", &id.to_string(), "callbacks"]).await?,
        CallbacksCommand::Redeliver { id, revision } => {
            let segments = ["runs", &id.to_string(), "callbacks", "redeliver"];
            let request = client.request(Method::POST, &segments);
            let query = revision.map(|revision| ("revision", revision.to_string()));
            client.json(request.query(&query.as_slice())).await?
        }
        CallbacksCommand::Secret { rotate } => {
            let secret: CallbackSecret = match rotate {
                true => new_secret(client).await?,
                false => client.get(&["callbacks", "secret"]).await?,
            };
            match json {
                true => screen.json(&secret)?,
                // alone on its line, so that it can be piped
                false => screen.text(&format!("{}\n", secret.secret))?,
            }
            return Ok(0);
        }
    };
    match (json, page.items.is_empty()) {
        (true, _) => screen.json(&page.items)?,
        (false, true) => screen.note("the run has no callback, or has not ended"),
        (false, false) => screen.text(&show_pool::deliveries(&page.items))?,
    }
    Ok(0)
}

/// Asks for a new secret; an answer that breaks off is asked for again, under the same key.
async fn new_secret(client: &Client) -> Result<CallbackSecret, CliError> {
    let headers = [(HeaderName::from_static("idempotency-key"), random_key()?)];
    let segments = ["callbacks", "secret", "rotate"];
    let mut pauses = RETRY_PAUSES.into_iter();
    loop {
        match client.post_json(&segments, &serde_json::json!({}), &headers, Duration::ZERO).await {
            Err(error @ CliError::Broken { .. }) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            other => return other,
        }
    }
}

/// Shows or settles what holds for all runs of the token's workspace.
pub async fn workspaces(client: &Client, args: &WorkspacesArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let info: Info = client.get(&["info"]).await?;
    let segments = ["workspaces", info.workspace.as_str()];
    let workspace: Workspace = match args.command.as_ref().unwrap_or(&WorkspacesCommand::Show) {
        WorkspacesCommand::Show => client.get(&segments).await?,
        WorkspacesCommand::Verify { policy } => {
            let request = WorkspaceRequest { verify: policy.0.map(VerifyRequest::from) };
            client.put_json(&segments, &request).await?
        }
    };
    match args.connect.json {
        true => screen.json(&workspace)?,
        false => {
            let pool = || format!("{}, as the pool says", show::verify_words(&info.policy_default.verify));
            let verify = workspace.verify.as_ref().map_or_else(pool, show::verify_words);
            screen.text(&format!("{:<10} {}\n{:<10} {verify}\n", "workspace", workspace.name, "verified"))?;
        }
    }
    Ok(0)
}
