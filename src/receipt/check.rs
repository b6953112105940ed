//! Checking a receipt, with nothing but its bytes.
//!
//! What passes is signed by the key that is answered, has the one form that receipts have, and is consistent: its votes are
//! signed by distinct workers, are of this run, and satisfy the rule that is named. Whether the key belongs to somebody who
//! is to be trusted is for the caller to say.

use std::collections::BTreeSet;

use super::certificate::{PREDICATE_TYPE, Predicate, STATEMENT_TYPE, Statement, Vote, subjects};
use super::text::PublicKey;
use super::{envelope, merkle, parse_fraction, verify_root};
use crate::core::{Opinion, Rule as Credibility, Weighing, Weight, majority, weigh};
use crate::digest::Digest;
use crate::result::{Outcome, Trap, VerdictKind};
use crate::spec::{Profile, Verify, canonical_json};

/// Votes of a run are far fewer.
const VOTES_MAX: usize = 256;

/// Why a file is no valid receipt.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Too long.
    #[error("it is longer than any receipt")]
    TooLarge,
    /// It is not written as receipts are.
    #[error("it has not the form of a receipt: {0}")]
    Form(String),
    /// The signature does not verify.
    #[error("its signature does not verify: it was changed, or was never signed by this key")]
    Signature,
    /// It is something else, or of a version that this build does not know.
    #[error("it is no receipt that this build knows: `{0}`")]
    Unknown(String),
    /// Two of its parts contradict each other.
    #[error("it contradicts itself: {0}")]
    Contradiction(String),
    /// A vote does not stand.
    #[error("the vote of attempt {attempt} does not stand: {why}")]
    Vote {
        /// Number of the attempt.
        attempt: u32,
        /// Why not.
        why: &'static str,
    },
    /// The votes do not satisfy the rule.
    #[error("its votes do not satisfy its rule: {0}")]
    Rule(String),
}

/// A receipt that passed.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    /// The key that signed it.
    pub signer: PublicKey,
    /// What it says.
    pub statement: Statement,
}

/// Checks the bytes of a receipt.
///
/// # Errors
///
/// See [`ReceiptError`].
pub fn check(file: &[u8]) -> Result<Checked, ReceiptError> {
    let (signer, payload) = envelope::open(file)?;
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|error| ReceiptError::Form(error.to_string()))?;
    if statement.canonical() != payload {
        return Err(ReceiptError::Form("its statement is not canonical JSON".to_owned()));
    }
    if statement.kind != STATEMENT_TYPE {
        return Err(ReceiptError::Unknown(statement.kind));
    }
    if statement.predicate_type != PREDICATE_TYPE {
        return Err(ReceiptError::Unknown(statement.predicate_type));
    }
    content(&statement)?;
    votes(&statement.predicate)?;
    rule(&statement.predicate)?;
    Ok(Checked { signer, statement })
}

/// Spec, manifest and class inputs are what their digests name, and everything that repeats a part of them agrees.
fn content(statement: &Statement) -> Result<(), ReceiptError> {
    let predicate = &statement.predicate;
    let contradiction = |why: &str| Err(ReceiptError::Contradiction(why.to_owned()));
    if let Some(spec) = &predicate.spec {
        if spec.key() != predicate.run_key {
            return contradiction("the spec does not hash to the run key");
        }
        if spec.module != predicate.module || spec.profile != predicate.profile {
            return contradiction("the spec names another module or profile");
        }
    }
    if let Some(manifest) = &predicate.manifest {
        if Digest::of(&manifest.canonical()) != predicate.result {
            return contradiction("the manifest does not hash to the result");
        }
        if manifest.outcome != predicate.outcome {
            return contradiction("the manifest has another outcome");
        }
    }
    if statement.subject != subjects(predicate.result, predicate.manifest.as_ref()) {
        return contradiction("its subjects are not the result and its outputs");
    }
    if let Some(inputs) = &predicate.class_inputs
        && Digest::of(&canonical_json(inputs)) != predicate.class
    {
        return contradiction("what the class is made of does not hash to it");
    }
    if predicate.issued_at < predicate.finished_at {
        return contradiction("it was issued before the run ended");
    }
    Ok(())
}

/// Each vote is signed by its worker, for this run and this class, and no worker has two.
fn votes(predicate: &Predicate) -> Result<(), ReceiptError> {
    if predicate.votes.len() + predicate.dissents.len() > VOTES_MAX {
        return Err(ReceiptError::Form("it has too many votes".to_owned()));
    }
    let code = predicate.votes.first().map_or(Digest::EMPTY, |vote| vote.artifact);
    let mut workers = BTreeSet::new();
    let mut keys = BTreeSet::new();
    let mut attempts = BTreeSet::new();
    let all = predicate.votes.iter().map(|vote| (vote, true));
    for (vote, has_won) in all.chain(predicate.dissents.iter().map(|vote| (vote, false))) {
        let refuse = |why| Err(ReceiptError::Vote { attempt: vote.attempt, why });
        if (vote.result == predicate.result) != has_won {
            return refuse(if has_won { "it is for another result" } else { "it is for the result" });
        }
        if vote.class != predicate.class {
            return refuse("it is of another class");
        }
        if !attempts.insert(vote.attempt) {
            return refuse("the attempt has voted before");
        }
        // a trusted executor is asked twice in a dispute, whether it agrees with itself
        if !(workers.insert(vote.worker) & keys.insert(vote.key)) && !vote.arbiter {
            return refuse("its worker has voted before");
        }
        // the profile promises equal results of different machine code, but not that a stack ends at the same depth
        if is_of_the_code(predicate) && vote.artifact != code {
            return refuse("a stack overflow is compared within one machine code, and it is of another");
        }
        if !is_signed(vote, predicate) {
            return refuse("its worker's signature does not verify");
        }
    }
    Ok(())
}

/// Whether the result is one of which only votes of the same machine code can be compared, though the profile is portable.
fn is_of_the_code(predicate: &Predicate) -> bool {
    let overflow = Outcome::Trapped { trap: Trap::StackOverflow };
    predicate.profile == Profile::Det1Portable && predicate.outcome == overflow
}

fn is_signed(vote: &Vote, predicate: &Predicate) -> bool {
    let leaf = vote.statement(predicate.run, predicate.run_key).leaf();
    let path: Vec<_> = vote.batch.path.iter().map(|node| node.0).collect();
    let (index, count) = (vote.batch.index as usize, vote.batch.count as usize);
    merkle::climb(leaf, index, count, &path)
        .is_some_and(|root| verify_root(&vote.key.0, &root, vote.batch.count, &vote.batch.signature.0))
}

/// The votes are enough, and the verdict says what they say.
fn rule(predicate: &Predicate) -> Result<(), ReceiptError> {
    let refuse = |why: String| Err(ReceiptError::Rule(why));
    let (rule, verdict) = (&predicate.rule, &predicate.verdict);
    let (won, lost) = (predicate.votes.len(), predicate.dissents.len());
    let by_credibility =
        rule.epsilon.is_some() || predicate.votes.iter().chain(&predicate.dissents).any(is_weighed);
    let expected = match (rule.policy.as_str(), rule.n) {
        ("once", None) if !by_credibility => {
            // a second one there may be: of a worker that was thought to be lost
            if won == 0 {
                return refuse("`once` rests on a vote, and there is none".to_owned());
            }
            VerdictKind::Unchecked
        }
        ("quorum", Some(n)) if n >= 2 && !by_credibility => {
            let needed = majority(n);
            if won < needed {
                return refuse(format!("a quorum of {n} needs {needed} equal votes, and there are {won}"));
            }
            if won + lost < usize::from(n) {
                return refuse(format!("a quorum of {n} hears {n} votes, and there are {}", won + lost));
            }
            VerdictKind::Agreed
        }
        ("standard", None) => by_weight(predicate, Verify::Standard)?,
        ("high", None) => by_weight(predicate, Verify::High)?,
        (policy, _) => return refuse(format!("this build does not know how to judge the rule `{policy}`")),
    };
    let dissenters: BTreeSet<_> = predicate.dissents.iter().map(|vote| vote.worker).collect();
    let named: BTreeSet<_> = verdict.dissenters.iter().copied().collect();
    if verdict.kind != expected || verdict.votes as usize != won || named != dissenters {
        return Err(ReceiptError::Contradiction("the verdict is not what the votes say".to_owned()));
    }
    Ok(())
}

/// Whether a vote says anything that only rules of credibility know.
fn is_weighed(vote: &Vote) -> bool {
    vote.credibility.is_some()
        || vote.confirmations_milli.is_some()
        || vote.fault_domain.is_some()
        || vote.arbiter
}

/// The votes decide by the credibility that the coordinator saw in each: what it computed is computed again. That a check was
/// drawn in the lottery cannot be seen from outside; every check that was made is among the votes.
fn by_weight(predicate: &Predicate, verify: Verify) -> Result<VerdictKind, ReceiptError> {
    let refuse = |why: String| Err(ReceiptError::Rule(why));
    let bound = predicate.rule.epsilon.as_deref().and_then(parse_fraction);
    let Some(epsilon_ppb) = bound.filter(|bound| Some(*bound) == verify.epsilon_ppb()) else {
        return refuse(format!("`{}` has another bound on the error", predicate.rule.policy));
    };
    let mut opinions = Vec::new();
    let mut all: Vec<&Vote> = predicate.votes.iter().chain(&predicate.dissents).collect();
    all.sort_by_key(|vote| vote.attempt);
    for vote in all {
        let credibility = vote.credibility.as_deref().and_then(parse_fraction);
        let (Some(good_ppb), Some(k_milli), Some(domain)) =
            (credibility, vote.confirmations_milli, vote.fault_domain)
        else {
            return Err(ReceiptError::Vote { attempt: vote.attempt, why: "its weight is missing" });
        };
        let error_ppb = 1_000_000_000 - good_ppb;
        let weight = Weight { error_ppb, k_milli, domain, is_arbiter: vote.arbiter };
        opinions.push(Opinion { worker: vote.worker, result: vote.result, weight });
    }
    // a correction is decided as one: by more than the first result was, whatever that had been
    let replaced = (predicate.revision > 1).then_some(Digest::EMPTY);
    let (lottery, arbiters, is_nondeterministic) = (u64::MAX, 0, false);
    let rule = Credibility { epsilon_ppb, lottery, arbiters, reverify: replaced, is_nondeterministic };
    if weigh(&rule, &opinions) != (Weighing::Decided { result: predicate.result }) {
        return refuse(format!(
            "by the bound of `{}` its votes are not enough: they leave too large an error, too few of them are of proven \
             voters of different fault domains, or another result is ahead",
            predicate.rule.policy
        ));
    }
    let is_alone = predicate.votes.len() == 1 && predicate.dissents.is_empty();
    // one that was verified anew has been compared with the revision before
    let is_vouched = is_alone && predicate.revision == 1;
    Ok(if is_vouched { VerdictKind::Vouched } else { VerdictKind::Agreed })
}
