//! `lockstep cache`.

use std::time::Duration;

use super::args::{CacheArgs, CacheCommand};
use super::client::Client;
use super::error::CliError;
use super::screen::Screen;
use super::terminal::{duration, size};
use crate::protocol::api::{CacheView, Timestamp, WithdrawRequest, Withdrawn, Worker};

/// Shows the cache's figures, or withdraws results from it.
pub async fn cache(client: &Client, args: &CacheArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let json = args.connect.json;
    match args.command.as_ref().unwrap_or(&CacheCommand::Stats) {
        CacheCommand::Stats => {
            let view: CacheView = client.get(&["cache"]).await?;
            match json {
                true => screen.json(&view)?,
                false => screen.text(&stats(&view))?,
            }
        }
        CacheCommand::Withdraw { all, run, worker, class, module, after, before } => {
            let request = WithdrawRequest {
                all: *all,
                run: *run,
                worker: *worker,
                class: *class,
                module: *module,
                after: after.map(Timestamp),
                before: before.map(Timestamp),
            };
            let done: Withdrawn =
                client.post_json(&["cache", "withdraw"], &request, &[], Duration::ZERO).await?;
            match json {
                true => screen.json(&done)?,
                false => screen.text(&format!("{} results withdrawn\n", done.withdrawn))?,
            }
            // one that is gone may have been meant: what rested on it is withdrawn all the same
            if let Some(worker) = worker
                && client.find::<Worker>(&["workers", &worker.to_string()]).await?.is_none()
            {
                screen.note(&format!("there is no worker {worker} now: was another one meant?"));
            }
        }
    }
    Ok(0)
}

fn stats(view: &CacheView) -> String {
    if view.entries_max == 0 {
        return "the cache is off\n".to_owned();
    }
    let asked = view.hits + view.misses;
    let percent = (view.hits * 100).checked_div(asked).unwrap_or(0);
    format!(
        "results    {} of at most {}\nmemory     {} of at most {}\nage        at most {}\nhits       {} of {asked} \
         ({percent} %)\nwithdrawn  {}\n",
        view.entries,
        view.entries_max,
        size(view.bytes),
        size(view.bytes_max),
        duration(view.age_ms as f64),
        view.hits,
        view.withdrawn,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_put_into_words() {
        let view = CacheView {
            entries: 3,
            bytes: 2_048,
            hits: 1,
            misses: 3,
            withdrawn: 2,
            entries_max: 10,
            bytes_max: 1 << 20,
            age_ms: 60_000,
        };
        let text = stats(&view);
        assert!(text.contains("results    3 of at most 10\n") && text.contains("1 of 4 (25 %)"), "{text}");
        assert_eq!(stats(&CacheView { entries_max: 0, ..view }), "the cache is off\n");
    }
}
