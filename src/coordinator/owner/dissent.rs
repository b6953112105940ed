//! Keeping what lost: one output of each dissenting result, and of a run whose votes never agreed one of each result.
//!
//! The manifest and small outputs live and die with their run, which refers to them. Large outputs are fetched from
//! the worker before it may forget them and stay for a while; best effort, a run never waits for them. The run may be
//! final and forgotten when they come, so what was asked for is remembered apart from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Owner;
use super::effects::store_bodies;
use crate::core::{AttemptState, Final};
use crate::digest::Digest;
use crate::id::{AttemptId, WorkerId};
use crate::protocol::agent::{BlobBody, ToAgent};
use crate::result::VerdictKind;

/// How long a large dissenting output stays for comparison.
const DISSENT_PIN_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Attempts of one worker whose outputs are asked for at once; one that lies that much is worth no more disk.
const ASKED_PER_WORKER_MAX: usize = 64;

impl Owner {
    /// Keeps the result of an attempt that did not win.
    pub(super) fn keep_dissent(&mut self, attempt: AttemptId, worker: WorkerId, result: Digest) {
        let Some(open) = self.runs.get_mut(&attempt.run) else { return };
        let Some(reported) = open.reported.get(&result) else { return };
        let missing = reported.missing();
        let at_hand: Vec<_> = match open.new.policy.durable {
            // they go into the final's own write
            true => Vec::new(),
            false => {
                reported.blobs(result).map(|(digest, bytes)| (digest, BlobBody::Inline(bytes))).collect()
            }
        };
        open.dissents.push((attempt, result));
        self.store_dissent(at_hand);
        let asked = self.keeping.values().filter(|(from, _)| *from == worker).count();
        if !missing.is_empty() && asked < ASKED_PER_WORKER_MAX {
            self.tell(worker, ToAgent::Collect { attempt, digests: missing.clone() });
            self.keeping.insert(attempt, (worker, missing));
        }
    }

    /// Of a run that ends disputed, or because its module gives different results, every result lost: keeps one attempt of
    /// each.
    pub(super) fn keep_disputed(&mut self, last: &Final) {
        let is_divided = matches!(last.verdict.kind, VerdictKind::Disputed | VerdictKind::Nondeterministic);
        if !is_divided || last.result.is_some() {
            return;
        }
        let mut kept = BTreeSet::new();
        for record in &last.attempts {
            if let AttemptState::Voted { result, .. } = record.state
                && kept.insert(result)
            {
                let attempt = AttemptId { run: last.run, number: record.number };
                self.keep_dissent(attempt, record.worker, result);
            }
        }
    }

    /// Stores dissenting outputs for a while.
    pub(super) fn store_dissent(&self, bodies: Vec<(Digest, BlobBody)>) {
        if bodies.is_empty() {
            return;
        }
        let (blobs, pin) = (Arc::clone(&self.parts.blobs), self.now().plus_ms(DISSENT_PIN_MS));
        tokio::spawn(async move {
            if let Err(error) = store_bodies(&blobs, bodies, pin).await {
                tracing::info!(%error, "a dissenting output was not kept");
            }
        });
    }
}
