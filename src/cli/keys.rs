//! `lockstep keys`.

use super::args::{KeysArgs, KeysCommand};
use super::client::Client;
use super::error::CliError;
use super::screen::Screen;
use super::show_pool;
use crate::protocol::api::KeyPage;

/// Lists the coordinator's keys, or has it make a new one.
pub async fn keys(client: &Client, args: &KeysArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let page: KeyPage = match args.command.as_ref().unwrap_or(&KeysCommand::List) {
        KeysCommand::List => client.get(&["keys"]).await?,
        KeysCommand::Rotate => client.post(&["keys", "rotate"]).await?,
    };
    match args.connect.json {
        // as the API has it: this is the file that `verify --keys` takes
        true => screen.json(&page)?,
        false => screen.text(&show_pool::keys(&page.items))?,
    }
    Ok(0)
}
