//! Workers and tokens as text for people. Pure: from the API's types to a string.

use super::show::second;
use super::terminal::{plain, size, table};
use crate::class::ClassInputs;
use crate::protocol::api::{
    CallbackDelivery, DeliveryStateName, Key, Scope, Timestamp, Token, Worker, WorkerStandingName,
};

fn standing_name(standing: WorkerStandingName) -> &'static str {
    match standing {
        WorkerStandingName::Active => "active",
        WorkerStandingName::Suspect => "suspect",
        WorkerStandingName::Draining => "draining",
        WorkerStandingName::Lost => "lost",
        WorkerStandingName::Quarantined => "quarantined",
        WorkerStandingName::Gone => "gone",
    }
}

/// Whether it gets work, with why not and since when.
fn standing(worker: &Worker) -> String {
    let mut text = standing_name(worker.standing).to_owned();
    if let Some(left_at) = worker.left_at {
        text = format!("{text} since {}", second(left_at));
    }
    if worker.standing == WorkerStandingName::Active && worker.peers == 0 {
        text.push_str(match worker.portable_peers {
            0 => ", class has no peer: cannot be compared",
            _ => ", class has no peer: only det-1-portable can be compared",
        });
    }
    match &worker.why {
        Some(why) => format!("{text}: {}", plain(why)),
        None => text,
    }
}

fn place(worker: &Worker) -> &'static str {
    if worker.embedded { "embedded" } else { "remote" }
}

/// How far its votes are believed.
fn trust(worker: &Worker) -> String {
    if worker.arbiter {
        return "arbiter".to_owned();
    }
    // the rest of a percent is what counts
    let text = format!("{:.4}", worker.credibility);
    if worker.suspect_since.is_some() { format!("{text} suspect") } else { text }
}

/// The same with what it comes from.
fn trust_words(worker: &Worker) -> String {
    let owned = if worker.owned { "the operator's own" } else { "foreign" };
    let suspect = worker.suspect_since.map(|since| format!(", suspect since {}", second(since)));
    format!(
        "{}, after {:.1} confirmed results of late, {owned}{}",
        trust(worker),
        worker.confirmations,
        suspect.unwrap_or_default()
    )
}

fn class(worker: &Worker) -> String {
    worker.class.map_or_else(|| "-".to_owned(), |class| class.short().to_string())
}

/// What a class is made of.
fn parts(inputs: &ClassInputs) -> String {
    let target = inputs.target.as_deref().unwrap_or("any machine");
    format!(
        "build {}, engine {}, {}, {} with {} CPU features beyond its base, golden corpus {}",
        plain(&inputs.build),
        plain(&inputs.engine),
        plain(&inputs.policy),
        plain(target),
        inputs.cpu.as_ref().map_or(0, Vec::len),
        inputs.corpus.short()
    )
}

/// With whom it votes under the other profile.
fn portable(worker: &Worker) -> String {
    match worker.portable_class {
        Some(class) => format!("class {class}, {} other active workers of it", worker.portable_peers),
        None => "-".to_owned(),
    }
}

/// A list of the coordinator's keys.
pub fn keys(keys: &[Key]) -> String {
    let row = |key: &Key| {
        let until = key.valid_until.map_or_else(|| "now".to_owned(), second);
        [key.keyid.to_string(), second(key.valid_from), until]
    };
    table(["KEY", "FROM", "UNTIL"], &keys.iter().map(row).collect::<Vec<_>>())
}

/// A list of deliveries of callbacks.
pub fn deliveries(deliveries: &[CallbackDelivery]) -> String {
    let row = |delivery: &CallbackDelivery| {
        let state = match delivery.state {
            DeliveryStateName::Pending => "pending",
            DeliveryStateName::Delivered => "delivered",
            DeliveryStateName::GivenUp => "given up",
        };
        let last = match (delivery.last_status, &delivery.last_error) {
            (_, Some(error)) => plain(error),
            (Some(status), None) => status.to_string(),
            (None, None) => "-".to_owned(),
        };
        [
            delivery.event.name().to_owned(),
            delivery.revision.to_string(),
            state.to_owned(),
            delivery.tries.to_string(),
            delivery.next_at.map_or_else(|| "-".to_owned(), second),
            plain(&delivery.url),
            last,
        ]
    };
    let headers = ["EVENT", "REVISION", "STATE", "TRIES", "NEXT", "URL", "LAST"];
    table(headers, &deliveries.iter().map(row).collect::<Vec<_>>())
}

/// A list of workers.
pub fn workers(workers: &[Worker]) -> String {
    let row = |worker: &Worker| {
        [
            worker.id.to_string(),
            plain(&worker.name),
            place(worker).to_owned(),
            plain(&worker.domain),
            format!("{}/{}", worker.holds.len(), worker.slots),
            worker.votes.to_string(),
            worker.dissents.to_string(),
            worker.faults.to_string(),
            trust(worker),
            class(worker),
            standing(worker),
        ]
    };
    let headers = [
        "WORKER", "NAME", "PLACE", "DOMAIN", "BUSY", "VOTES", "DISSENTS", "FAULTS", "TRUST", "CLASS",
        "STANDING",
    ];
    table(headers, &workers.iter().map(row).collect::<Vec<_>>())
}

/// Everything about one worker.
pub fn worker(worker: &Worker) -> String {
    let at = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), second);
    let labels: Vec<_> =
        worker.labels.iter().map(|(key, value)| format!("{}={}", plain(key), plain(value))).collect();
    let holds: Vec<_> = worker.holds.iter().map(ToString::to_string).collect();
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let memory = format!("{} of {}", size(worker.memory_leased_bytes), size(worker.memory_bytes));
    let lines = [
        ("worker", format!("{} {}", worker.id, plain(&worker.name))),
        ("standing", standing(worker)),
        ("place", place(worker).to_owned()),
        ("domain", plain(&worker.domain)),
        ("key", plain(&worker.key)),
        ("class", worker.class.map_or_else(|| "-".to_owned(), |class| class.to_string())),
        ("made of", worker.class_parts.as_ref().map_or_else(|| "-".to_owned(), parts)),
        ("peers", format!("{} other active workers of its class", worker.peers)),
        ("portable", portable(worker)),
        ("version", plain(worker.version.as_deref().unwrap_or("-"))),
        ("labels", or_dash(labels.join(" "))),
        ("slots", format!("{} of {} busy", worker.holds.len(), worker.slots)),
        ("memory", memory),
        ("holds", or_dash(holds.join(" "))),
        ("votes", format!("{}, of which {} lost", worker.votes, worker.dissents)),
        ("faults", worker.faults.to_string()),
        ("trust", trust_words(worker)),
        ("enrolled", second(worker.created_at)),
        ("connected", at(worker.connected_at)),
        ("left", at(worker.left_at)),
        ("heard of", second(worker.heard_at)),
    ];
    lines.into_iter().map(|(name, value)| format!("{name:<10}{value}\n")).collect()
}

/// A list of tokens.
pub fn tokens(tokens: &[Token]) -> String {
    let row = |token: &Token| {
        let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.name()).collect();
        let at = |at: Option<Timestamp>, none: &str| at.map_or_else(|| none.to_owned(), second);
        [
            token.id.to_string(),
            plain(&token.name),
            scopes.join(","),
            enrols(token),
            second(token.created_at),
            at(token.expires_at, "never"),
            at(token.last_used_at, "never"),
        ]
    };
    let headers = ["ID", "NAME", "SCOPES", "WORKERS", "CREATED", "EXPIRES", "LAST USED"];
    table(headers, &tokens.iter().map(row).collect::<Vec<_>>())
}

/// Whose machines enrol with a token.
fn enrols(token: &Token) -> String {
    if !token.scopes.contains(&Scope::Worker) {
        return "-".to_owned();
    }
    let whose = match (token.arbiter, token.owned) {
        (true, _) => "arbiters",
        (false, true) => "own",
        (false, false) => "foreign",
    };
    format!("{}, {whose}", plain(token.domain.as_deref().unwrap_or("default")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> Worker {
        serde_json::from_value(serde_json::json!({
            "id": "w7", "name": "ada\u{1b}[31m", "key": "AAAA", "standing": "gone", "why": null, "domain": "ada",
            "embedded": false, "owned": false, "arbiter": false, "credibility": 0.99213, "confirmations": 9.5,
            "suspect_since": "2026-11-01T00:00:00.000000Z", "version": "0.1.0", "class": null, "labels": {"zone": "b"}, "slots": 4, "credits": 0,
            "holds": [], "memory_bytes": 0, "memory_leased_bytes": 0, "votes": 3, "dissents": 1, "faults": 0, "peers": 0,
            "created_at": "2026-11-01T10:00:00.000000Z", "connected_at": "2026-11-02T10:00:00.000000Z",
            "left_at": "2026-11-03T10:00:00.000000Z", "heard_at": "2026-11-03T10:00:00.000000Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_worker_that_is_missing_says_since_when() {
        let list = workers(&[gone()]);
        assert!(list.contains("remote") && list.contains("gone since 2026-11-03"), "{list}");
        let one = worker(&gone());
        assert!(
            one.contains("labels    zone=b\n") && one.contains("votes     3, of which 1 lost\n"),
            "{one}"
        );
        assert!(list.contains(" 0.9921 suspect "), "{list}");
        assert!(
            one.contains("trust     0.9921 suspect, after 9.5 confirmed results of late, foreign, suspect"),
            "{one}"
        );
        for text in [list, one] {
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn a_worker_without_a_peer_says_that_nothing_compares() {
        let alone = Worker { standing: WorkerStandingName::Active, left_at: None, ..gone() };
        assert!(
            workers(std::slice::from_ref(&alone)).contains("active, class has no peer: cannot be compared")
        );
        let beside_others = Worker { portable_peers: 2, ..alone.clone() };
        let words = "active, class has no peer: only det-1-portable can be compared";
        assert!(workers(std::slice::from_ref(&beside_others)).contains(words));
        let one_of_two = Worker { peers: 1, ..alone };
        assert!(!workers(std::slice::from_ref(&one_of_two)).contains("no peer"));
        assert!(worker(&one_of_two).contains("peers     1 other active workers of its class\n"));
        let suspect = Worker { standing: WorkerStandingName::Suspect, ..one_of_two };
        assert!(workers(&[suspect]).contains("suspect"));
    }

    #[test]
    fn a_token_that_was_never_used_says_so() {
        let token: Token = serde_json::from_value(serde_json::json!({
            "id": 3, "name": "lab", "workspace": "default", "scopes": ["worker"], "domain": "rack-2", "owned": false, "arbiter": false,
            "created_at": "2026-11-01T10:00:00.000000Z", "expires_at": null, "last_used_at": null,
        }))
        .unwrap();
        let list = tokens(&[token]);
        assert!(list.contains("rack-2, foreign") && list.contains("never"), "{list}");
    }
}
