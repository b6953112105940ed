//! `lockstep verify`: what a receipt proves, in words.
//!
//! Invariant: nothing is asked over the network unless `--fetch` says so.

use std::io::Read as _;
use std::path::Path;

use serde::Serialize;

use super::args::VerifyArgs;
use super::error::CliError;
use super::replay::{self, Replayed};
use super::screen::Screen;
use super::terminal::plain;
use super::{client_for, exit};
use crate::config::Environment;
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};
use crate::protocol::api::KeyPage;
use crate::receipt::{Checked, Predicate, PublicKey, RECEIPT_BYTES_MAX, Rule, SignedWhen, Vote, check};
use crate::result::VerdictKind;

/// A page of keys is shorter.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// Why a signer is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Trust {
    /// It was named.
    Trusted,
    /// Nobody asked.
    AnyKey,
    /// Not among those that were named, or none was.
    Unknown,
    /// Named, but it did not sign at the time that the receipt says.
    OutOfTime,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    trust: Trust,
    signer: PublicKey,
    run: RunId,
    revision: u32,
    module: Digest,
    run_key: Digest,
    result: Digest,
    outcome: String,
    verdict: VerdictKind,
    rule: &'a Rule,
    votes: Vec<Voter<'a>>,
    dissents: Vec<Voter<'a>>,
    finished_at: jiff::Timestamp,
    issued_at: jiff::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<&'a Replayed>,
}

#[derive(Serialize)]
struct Voter<'a> {
    worker: WorkerId,
    domain: &'a str,
    key: PublicKey,
    result: Digest,
    signed: SignedWhen,
}

/// Checks a receipt and says what came of it.
pub fn verify(args: &VerifyArgs, environment: &Environment) -> Result<u8, CliError> {
    let bytes = read(&args.file, RECEIPT_BYTES_MAX as u64 + 1)?;
    let checked = check(&bytes).map_err(|source| CliError::Receipt { path: args.file.clone(), source })?;
    let trust = trust(args, &checked)?;
    let replayed = args.replay.as_ref().map(|module| replay(args, module, &checked, environment));
    let replayed = replayed.transpose()?;
    let screen = Screen::new(false);
    match args.connect.json {
        true => screen.json(&report(&checked, trust, replayed.as_ref()))?,
        false => screen.text(&words(&checked, trust, replayed.as_ref()))?,
    }
    if trust == Trust::Unknown && args.keys.is_empty() && args.key_file.is_none() {
        screen.note("name the key that you trust with --key or --keys, or say --any-key");
    }
    let differs = replayed.is_some_and(|replayed| !replayed.agrees);
    Ok(match trust {
        _ if differs => exit::DIFFERS,
        Trust::Trusted | Trust::AnyKey => 0,
        Trust::Unknown | Trust::OutOfTime => exit::NOT_TRUSTED,
    })
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let failed = CliError::file("read", path);
    if path == Path::new("-") {
        std::io::stdin().lock().take(max).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(CliError::file("read", path))?;
        file.take(max).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}

fn trust(args: &VerifyArgs, checked: &Checked) -> Result<Trust, CliError> {
    if args.any_key {
        return Ok(Trust::AnyKey);
    }
    if args.keys.contains(&checked.signer) {
        return Ok(Trust::Trusted);
    }
    let Some(path) = &args.key_file else { return Ok(Trust::Unknown) };
    let page: KeyPage = serde_json::from_slice(&read(path, KEYS_BYTES_MAX)?)
        .map_err(|error| CliError::Usage(format!("`{}` is no list of keys: {error}", path.display())))?;
    let Some(key) = page.items.iter().find(|key| key.keyid == checked.signer) else {
        return Ok(Trust::Unknown);
    };
    let at = checked.statement.predicate.issued_at;
    let was_valid = key.valid_from.0 <= at && key.valid_until.is_none_or(|until| at <= until.0);
    Ok(if was_valid { Trust::Trusted } else { Trust::OutOfTime })
}

fn replay(
    args: &VerifyArgs,
    module: &Path,
    checked: &Checked,
    environment: &Environment,
) -> Result<Replayed, CliError> {
    let client = match args.fetch {
        true => Some(client_for(&args.connect, environment)?),
        false => None,
    };
    let wanted = replay::Wanted {
        module,
        spec: args.spec.as_deref(),
        blobs: args.blobs.as_deref(),
        timeout: args.timeout.duration(),
    };
    // an agent and its runners work beside each other
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(CliError::Runtime)?;
    runtime.block_on(replay::replay(&checked.statement.predicate, wanted, client.as_ref()))
}

fn voter(vote: &Vote) -> Voter<'_> {
    let Vote { worker, domain, key, result, signed, .. } = vote;
    Voter { worker: *worker, domain, key: *key, result: *result, signed: *signed }
}

fn report<'a>(checked: &'a Checked, trust: Trust, replay: Option<&'a Replayed>) -> Report<'a> {
    let predicate = &checked.statement.predicate;
    Report {
        valid: true,
        trust,
        signer: checked.signer,
        run: predicate.run,
        revision: predicate.revision,
        module: predicate.module,
        run_key: predicate.run_key,
        result: predicate.result,
        outcome: predicate.outcome.to_string(),
        verdict: predicate.verdict.kind,
        rule: &predicate.rule,
        votes: predicate.votes.iter().map(voter).collect(),
        dissents: predicate.dissents.iter().map(voter).collect(),
        finished_at: predicate.finished_at,
        issued_at: predicate.issued_at,
        replay,
    }
}

/// What the receipt says, and what that is worth.
fn words(checked: &Checked, trust: Trust, replay: Option<&Replayed>) -> String {
    let predicate = &checked.statement.predicate;
    let signer = match trust {
        Trust::Trusted => "which you trust",
        Trust::AnyKey => "whoever that is",
        Trust::Unknown => "which is NOT known to be trusted",
        Trust::OutOfTime => "which did NOT sign at that time",
    };
    let second = |at: jiff::Timestamp| format!("{at:.0}");
    let mut lines = vec![
        (
            "run",
            format!(
                "{}, revision {}, ended {}",
                predicate.run,
                predicate.revision,
                second(predicate.finished_at)
            ),
        ),
        ("module", predicate.module.to_string()),
        ("run key", predicate.run_key.to_string()),
        ("result", predicate.result.to_string()),
        ("outcome", plain(&predicate.outcome.to_string())),
    ];
    let outputs = checked.statement.subject.iter().skip(1);
    lines.extend(
        outputs.map(|output| ("output", format!("sha256:{} {}", output.digest.sha256, plain(&output.name)))),
    );
    lines.extend(predicate.votes.iter().map(|vote| ("vote", one(vote))));
    lines
        .extend(predicate.dissents.iter().map(|vote| ("dissent", format!("{}: {}", one(vote), vote.result))));
    lines.push(("rule", rule(predicate)));
    lines.push(("signed", format!("{} by {}, {signer}", second(predicate.issued_at), checked.signer)));
    if let Some(replay) = replay {
        lines.push(("replay", replay.words()));
    }
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<8} {value}\n")).collect();
    text.push('\n');
    for line in meaning(predicate, trust) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn one(vote: &Vote) -> String {
    let when = match vote.signed {
        SignedWhen::WithVote => "signed when it voted",
        SignedWhen::ForReceipt => "embedded, signed for this receipt",
    };
    let weight = vote.credibility.as_deref().map(|weight| format!(", held right with {}", plain(weight)));
    let arbiter = if vote.arbiter { ", an arbiter" } else { "" };
    format!(
        "{} of {}{arbiter}{}, {when}, {}",
        vote.worker,
        plain(&vote.domain),
        weight.unwrap_or_default(),
        vote.key
    )
}

fn rule(predicate: &Predicate) -> String {
    let count = predicate.votes.len();
    let arbiters = predicate.votes.iter().filter(|vote| vote.arbiter).count();
    if let Some(epsilon) = &predicate.rule.epsilon {
        let contradicted = match () {
            () if !predicate.dissents.is_empty() => Some("the votes differed"),
            () if predicate.revision > 1 => Some("the revision before said otherwise"),
            () => None,
        };
        if let Some(contradicted) = contradicted.filter(|_| arbiters >= 2) {
            return format!(
                "{}: {contradicted}, and {arbiters} of the {count} equal votes are of arbiters, whom the operator trusts to \
                 settle that; the bound on the error, {}, was not what decided",
                plain(&predicate.rule.policy),
                plain(epsilon)
            );
        }
        return format!(
            "{}: satisfied by {count} equal {} an error of at most {}",
            plain(&predicate.rule.policy),
            if count == 1 { "vote that leaves" } else { "votes that together leave" },
            plain(epsilon)
        );
    }
    match predicate.rule.n {
        Some(n) => format!("quorum of {n}: satisfied by {count} equal votes of distinct workers"),
        None => format!("{}: {count} vote, nothing was compared", plain(&predicate.rule.policy)),
    }
}

/// What it proves and what it does not.
fn meaning(predicate: &Predicate, trust: Trust) -> Vec<String> {
    let mut lines = Vec::new();
    if matches!(trust, Trust::Trusted) {
        lines.push(
            "Proven: a coordinator that you trust certified exactly this; no byte was changed since."
                .to_owned(),
        );
    } else {
        lines.push("Proven: no byte was changed since it was signed. NOT proven: who signed it; anybody can make keys.".to_owned());
    }
    let remote = predicate.votes.iter().filter(|vote| vote.signed == SignedWhen::WithVote).count();
    if remote > 0 {
        lines.push(format!(
            "Proven: {remote} of the votes {}, each for this very attempt.",
            if remote == 1 {
                "was signed by a key that only its worker holds"
            } else {
                "were signed by keys that only their workers hold"
            }
        ));
    }
    if remote < predicate.votes.len() {
        lines.push(
            "Not proven: votes of embedded workers are signed in the coordinator's own process: they are its word."
                .to_owned(),
        );
    }
    if predicate.rule.epsilon.is_some() {
        lines.push(
            "Not proven: that the workers deserve the credibility that they are given: it is the coordinator's record of \
             them."
                .to_owned(),
        );
    }
    let is_alone = predicate.votes.len() + predicate.dissents.len() == 1;
    if predicate.rule.n.is_none() && (predicate.rule.epsilon.is_none() || is_alone) {
        lines.push(
            "Not proven: that the result is right: one worker computed it, and nobody compared.".to_owned(),
        );
    } else {
        lines.push(
            "Not proven: that the workers did not collude, or that they are different machines: the coordinator let them in."
                .to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decided_is_told() {
        let example = check(include_bytes!("../../docs/receipt.example.json")).unwrap();
        let mut predicate = example.statement.predicate;
        let dissents = predicate.votes.split_off(1);
        predicate.votes.push(predicate.votes[0].clone());
        predicate.rule = Rule { policy: "standard".to_owned(), n: None, epsilon: Some("0.001".to_owned()) };
        predicate.dissents.clear();
        assert!(rule(&predicate).contains("an error of at most 0.001"), "{}", rule(&predicate));
        predicate.votes.iter_mut().for_each(|vote| vote.arbiter = true);
        assert!(rule(&predicate).contains("an error of at most 0.001"), "{}", rule(&predicate));
        predicate.revision = 2;
        assert!(rule(&predicate).contains("the revision before said otherwise, and 2 of the 2 equal votes"));
        predicate.dissents = dissents;
        assert!(rule(&predicate).contains("the votes differed, and 2 of the 2 equal votes"));
        predicate.votes[0].arbiter = false;
        assert!(rule(&predicate).contains("an error of at most 0.001"), "one arbiter decides nothing alone");
    }
}
