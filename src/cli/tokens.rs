//! `lockstep tokens`.

use std::time::Duration;

use super::args::{ScopeArg, TokensArgs, TokensCommand};
use super::client::Client;
use super::error::CliError;
use super::screen::Screen;
use super::show_pool;
use crate::protocol::api::{NewToken, Page, Scope, Timestamp, Token, TokenRequest};
use crate::units::Period;

/// Lists, makes and revokes tokens.
pub async fn tokens(client: &Client, args: &TokensArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let json = args.connect.json;
    match args.command.as_ref().unwrap_or(&TokensCommand::List) {
        TokensCommand::List => {
            let page: Page<Token> = client.get(&["tokens"]).await?;
            match json {
                true => screen.json(&page.items)?,
                false => screen.text(&show_pool::tokens(&page.items))?,
            }
        }
        TokensCommand::Create { name, scopes, domain, owned, foreign, arbiter, expires } => {
            let is_worker = scopes.iter().any(|scope| matches!(scope, ScopeArg::Worker));
            // whoever types this on the coordinator's machine and says nothing means a machine of their own
            let is_own = is_worker && domain.is_none() && !*foreign && !*arbiter;
            let request = TokenRequest {
                name: name.clone(),
                scopes: scopes.iter().map(|scope| scope_of(*scope)).collect(),
                expires_at: expires.map(from_now).transpose()?,
                domain: domain.clone(),
                owned: *owned || is_own,
                foreign: *foreign,
                arbiter: *arbiter,
            };
            let made: NewToken = client.post_json(&["tokens"], &request, &[], Duration::ZERO).await?;
            if json {
                screen.json(&made)?;
                return Ok(0);
            }
            screen.text(&format!("{}\n", made.secret))?;
            screen.note(&format!("token {} is shown this once: keep it", made.token.id));
        }
        TokensCommand::Revoke { ids } => {
            for id in ids {
                client.delete(&["tokens", &id.to_string()]).await?;
            }
        }
    }
    Ok(0)
}

fn scope_of(scope: ScopeArg) -> Scope {
    match scope {
        ScopeArg::Admin => Scope::Admin,
        ScopeArg::Submit => Scope::Submit,
        ScopeArg::Read => Scope::Read,
        ScopeArg::Worker => Scope::Worker,
    }
}

fn from_now(period: Period) -> Result<Timestamp, CliError> {
    let end = jiff::Timestamp::now().checked_add(period.duration());
    end.map(Timestamp).map_err(|_| CliError::Usage(format!("--expires {period}: there is no such time")))
}
