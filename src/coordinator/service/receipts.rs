//! Receipts of final results, and the keys that they are signed with.
//!
//! A receipt is made when it is asked for, of what was written with the final: nothing is signed before, so that a run costs no
//! signature of ours. It does not know how a receipt is checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::classes::ClassBook;
use super::super::clock::timestamp;
use super::super::keys::{Keyring, PublishedKey, RotateError};
use super::{Caller, Parts, RunDetail, Service, ServiceError};
use crate::digest::Digest;
use crate::id::RunId;
use crate::receipt::{
    Batch, CONTENT_BYTES_MAX, Hex, Predicate, PublicKey, Rule, SignedWhen, Statement, Vote, VoteProof,
    fraction,
};
use crate::spec::Verify;
use crate::store::{CastVote, StoredRun};

impl Service {
    /// The receipt of a run's result, as it is or as it was in a revision: the bytes of the envelope.
    pub async fn receipt(
        &self,
        caller: &Caller,
        id: RunId,
        revision: Option<u32>,
    ) -> Result<Bytes, ServiceError> {
        let mut detail = self.run_at(caller, id, revision).await?;
        if let Some(source) = detail.run.source {
            // the votes are those of the run that computed it, and so is the receipt
            let (computed_by, wanted) = (source.run(), detail.run.result);
            detail = self.run(caller, computed_by).await.map_err(|error| match error {
                ServiceError::NotFound { .. } => ServiceError::NoReceipt(format!(
                    "the receipt is that of run {computed_by}, which computed the result of run {id} and was not kept: run it \
                     again for a receipt"
                )),
                other => other,
            })?;
            if detail.run.result != wanted {
                detail = self.revision_with(computed_by, wanted).await?;
            }
        }
        let run = &detail.run;
        let id = run.id;
        let refuse = |why: String| Err(ServiceError::NoReceipt(why));
        if !run.state.is_final() {
            return refuse(format!("run {id} has not ended: a receipt is of a final result"));
        }
        if !run.policy.durable {
            return refuse(format!(
                "run {id} was submitted with `durable: false`, and its votes are not kept: submit it with \
                 `durable: true` for a receipt"
            ));
        }
        let Some(result) = run.result else {
            return refuse(format!("run {id} ended without a result that could be certified"));
        };
        let Some(votes) = self.parts.store.votes(id, run.revision).await? else {
            return refuse(format!(
                "run {id} ended under a build that kept no proofs of votes: run it again for a receipt"
            ));
        };
        let (parts, detail) = (Arc::clone(&self.parts), Arc::clone(&detail));
        // signatures and canonical JSON: a millisecond or two
        let made = tokio::task::spawn_blocking(move || {
            let predicate = predicate(&parts, &detail.run, result, votes)?;
            let payload = |now| {
                let at = timestamp(now);
                Statement::new(Predicate { issued_at: at, ..predicate }).canonical()
            };
            Ok(Bytes::from(parts.keys.certify(parts.clock, payload)))
        });
        made.await.unwrap_or_else(|error| Err(ServiceError::Internal(error.to_string())))
    }

    /// The newest revision of a run that has this result: it may have been corrected since others were answered with it.
    async fn revision_with(&self, id: RunId, result: Option<Digest>) -> Result<Arc<RunDetail>, ServiceError> {
        let revisions = self.parts.store.revisions(id).await?;
        let had = revisions.into_iter().rev().find(|run| run.result == result);
        let run = had.ok_or_else(|| {
            ServiceError::NoReceipt(format!(
                "run {id}, which computed the result, has another one in every revision that is kept: run it again for a \
                 receipt"
            ))
        })?;
        Ok(Arc::new(RunDetail { run, stdout: None, stderr: None }))
    }

    /// The coordinator's public keys, the newest first. They are for everybody.
    pub fn keys(&self) -> Vec<PublishedKey> {
        self.parts.keys.published()
    }

    /// Replaces the coordinator's key.
    pub async fn rotate_key(&self, caller: &Caller) -> Result<Vec<PublishedKey>, ServiceError> {
        let parts = Arc::clone(&self.parts);
        let rotated = tokio::task::spawn_blocking(move || parts.keys.rotate(parts.clock)).await;
        match rotated {
            Ok(Ok(())) => {
                tracing::info!(token = caller.token, "the coordinator signs with a new key");
                Ok(self.keys())
            }
            Ok(Err(RotateError::TooMany)) => Err(ServiceError::TooManyKeys),
            Ok(Err(RotateError::File(error))) if error.kind() == std::io::ErrorKind::StorageFull => {
                Err(ServiceError::DiskFull)
            }
            Ok(Err(error)) => Err(ServiceError::Internal(error.to_string())),
            Err(error) => Err(ServiceError::Internal(error.to_string())),
        }
    }
}

/// What a receipt says of a run; the time of its signature is still to come.
fn predicate(
    parts: &Parts,
    run: &StoredRun,
    result: Digest,
    votes: Vec<CastVote>,
) -> Result<Predicate, ServiceError> {
    let broken = |what: &str| ServiceError::Internal(format!("run {} has a result and no {what}", run.id));
    let outcome = run.outcome.clone().ok_or_else(|| broken("outcome"))?;
    let votes =
        votes.into_iter().map(|vote| proven(&parts.keys, run, vote)).collect::<Result<Vec<_>, _>>()?;
    let (votes, dissents): (Vec<_>, Vec<_>) = votes.into_iter().partition(|vote| vote.result == result);
    let class = votes.first().map(|vote| vote.class).ok_or_else(|| broken("vote for it"))?;
    // a correction is decided later than its run had ended
    let ended_at = run.corrected_at.or(run.finished_at).ok_or_else(|| broken("end"))?;
    let finished_at = timestamp(ended_at);
    let manifest = run.manifest.clone();
    Ok(Predicate {
        run: run.id,
        revision: run.revision,
        module: run.spec.module,
        run_key: run.run_key,
        profile: run.spec.profile,
        spec: Some(run.spec.as_ref().clone()).filter(|spec| spec.canonical().len() <= CONTENT_BYTES_MAX),
        result,
        manifest: manifest.filter(|manifest| manifest.canonical().len() <= CONTENT_BYTES_MAX),
        outcome,
        verdict: run.verdict.clone(),
        rule: rule(run.policy.verify, run.revision),
        class,
        class_inputs: class_inputs(&parts.classes, class),
        votes,
        dissents,
        created_at: timestamp(run.created_at),
        finished_at,
        issued_at: finished_at,
    })
}

/// A vote with its worker's signature; an embedded worker signs now.
fn proven(keys: &Keyring, run: &StoredRun, vote: CastVote) -> Result<Vote, ServiceError> {
    let mut proven = Vote {
        attempt: vote.number,
        worker: vote.worker,
        domain: vote.domain,
        key: PublicKey(vote.key),
        nonce: Hex(vote.nonce),
        class: vote.class.0,
        artifact: vote.artifact,
        result: vote.result,
        signed: SignedWhen::WithVote,
        batch: Batch { count: 0, index: 0, path: Vec::new(), signature: Hex([0; 64]) },
        credibility: vote.weight.map(|weight| fraction(1_000_000_000 - weight.error_ppb)),
        confirmations_milli: vote.weight.map(|weight| weight.k_milli),
        fault_domain: vote.weight.map(|weight| weight.domain),
        arbiter: vote.weight.is_some_and(|weight| weight.is_arbiter),
    };
    let proof = match vote.proof {
        Some(proof) => *proof,
        None => {
            proven.signed = SignedWhen::ForReceipt;
            let statement = proven.statement(run.id, run.run_key);
            keys.sign_vote(&vote.key, &statement).ok_or_else(|| {
                ServiceError::NoReceipt(format!(
                    "the key of worker {}, which voted in run {}, is not here any more: run it again for a receipt",
                    vote.worker, run.id
                ))
            })?
        }
    };
    let VoteProof { count, index, path, signature, .. } = proof;
    let path = path.into_iter().map(Hex).collect();
    proven.batch = Batch { count, index, path, signature: Hex(signature) };
    Ok(proven)
}

/// The rule as receipts name it. Whatever was asked for, a correction is decided by credibility.
fn rule(verify: Verify, revision: u32) -> Rule {
    let verify = match verify.epsilon_ppb() {
        None if revision > 1 => Verify::Standard,
        _ => verify,
    };
    let (policy, n) = match verify {
        Verify::Once => ("once", None),
        Verify::Quorum { n } => ("quorum", Some(n)),
        Verify::Standard => ("standard", None),
        Verify::High => ("high", None),
    };
    Rule { policy: policy.to_owned(), n, epsilon: verify.epsilon_ppb().map(fraction) }
}

/// What a class is the digest of, if it is this machine's, or that of a worker which told.
fn class_inputs(classes: &ClassBook, class: Digest) -> Option<BTreeMap<String, serde_json::Value>> {
    serde_json::from_value(serde_json::to_value(classes.get(class)?).ok()?).ok()
}
