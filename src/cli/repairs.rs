//! `lockstep repairs`.

use super::args::RepairsArgs;
use super::client::Client;
use super::error::CliError;
use super::screen::Screen;
use super::show::second;
use super::terminal::{plain, table};
use crate::id::WorkerId;
use crate::protocol::api::{Page, Repair};

/// Lists what is verified anew.
pub async fn repairs(client: &Client, args: &RepairsArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let page: Page<Repair> = client.get(&["repairs"]).await?;
    match (args.connect.json, page.items.is_empty()) {
        (true, _) => screen.json(&page.items)?,
        (false, true) => screen.note("no worker was quarantined: nothing is verified anew"),
        (false, false) => screen.text(&text(&page.items))?,
    }
    Ok(0)
}

/// The repair of a worker that was quarantined just now.
pub async fn of(client: &Client, worker: WorkerId) -> Result<Option<Repair>, CliError> {
    let page: Page<Repair> = client.get(&["repairs"]).await?;
    Ok(page.items.into_iter().find(|repair| repair.worker == worker))
}

/// What a quarantine means for finals, as a sentence without its full stop.
pub fn announced(repair: &Repair) -> String {
    format!(
        "{} final(s) in which {} had voted for the result are looked at, and verified anew where they rest on it; \
         `lockstep repairs` shows how far that is",
        repair.finals, repair.worker
    )
}

/// Repairs as a table.
fn text(repairs: &[Repair]) -> String {
    let row = |repair: &Repair| {
        [
            repair.worker.to_string(),
            repair.state.name().to_owned(),
            repair.finals.to_string(),
            repair.decisive.to_string(),
            repair.pending.to_string(),
            repair.confirmed.to_string(),
            repair.corrected.to_string(),
            repair.dependents.to_string(),
            repair.undecided.to_string(),
            repair.not_verifiable.to_string(),
            second(repair.since),
            plain(&repair.why),
        ]
    };
    let headers = [
        "WORKER",
        "STATE",
        "FINALS",
        "DECISIVE",
        "PENDING",
        "CONFIRMED",
        "CORRECTED",
        "DEPENDENTS",
        "UNDECIDED",
        "NOT VERIFIABLE",
        "SINCE",
        "WHY",
    ];
    table(headers, &repairs.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_shows_its_figures_and_no_control_characters() {
        let repair: Repair = serde_json::from_value(serde_json::json!({
            "worker": "w3", "since": "2026-11-01T10:00:00.000000Z", "why": "lied\u{1b}[31m", "state": "verifying",
            "finals": 41, "found": 42, "decisive": 7, "pending": 3, "confirmed": 1, "corrected": 2, "dependents": 58,
            "undecided": 1, "not_verifiable": 0,
        }))
        .unwrap();
        let list = text(std::slice::from_ref(&repair));
        assert!(list.contains("w3") && list.contains("verifying") && list.contains("41"), "{list}");
        assert!(list.contains("DEPENDENTS") && list.contains("58"), "{list}");
        assert!(!list.contains('\u{1b}'), "{list}");
        assert!(
            announced(&repair).starts_with("41 final(s) in which w3 had voted"),
            "{}",
            announced(&repair)
        );
    }
}
