//! Runs that have a result which another run computed, and what becomes of them when that one is corrected.
//!
//! Invariants: the run that computed a result is stored as long as one that has it; a result is never that of a run which
//! itself was answered with another's. Plain data, the same for every backend.

use super::{FinalRun, Source, StoredRun};
use crate::core::{Explained, Final, Time};

/// Runs that were corrected because the run which had computed their result was.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// As they are now.
    pub corrected: Vec<StoredRun>,
    /// Whether more wait to be looked at.
    pub has_more: bool,
}

/// The next revision of `run`, which has a result that `source` computed, now that this is `right`; `None` if it has that
/// already. It has no votes of its own, as before.
pub fn follow(run: &StoredRun, source: Source, right: &StoredRun, at: Time) -> Option<FinalRun> {
    if !right.state.is_final() || run.result == right.result {
        return None;
    }
    let text = format!(
        "corrected with run {}, which computed the result: that was wrong, and revision {} of it is the result now",
        right.id, right.revision
    );
    Some(FinalRun {
        record: Final {
            run: run.id,
            epoch: run.epoch,
            revision: run.revision + 1,
            state: right.state,
            reason: right.reason,
            outcome: right.outcome.clone(),
            verdict: right.verdict.clone(),
            result: right.result,
            votes: Vec::new(),
            error_ppb: None,
            attempts: run.attempts.clone(),
            explain: std::sync::Arc::new(vec![Explained::kept(at, text)]),
            finished_at: at,
            shared_with: None,
        },
        manifest: right.manifest.clone(),
        blobs: Vec::new(),
        dissents: Vec::new(),
        votes: Vec::new(),
        source: Some(source),
        reusable: false,
        callback: run.policy.callback.clone(),
    })
}

/// A run as it is read after a correction.
pub fn as_corrected(run: StoredRun, end: &FinalRun) -> StoredRun {
    let record = &end.record;
    StoredRun {
        epoch: record.epoch,
        state: record.state,
        reason: record.reason,
        revision: record.revision,
        outcome: record.outcome.clone(),
        verdict: record.verdict.clone(),
        result: record.result,
        manifest: end.manifest.clone(),
        attempts: record.attempts.clone(),
        explain: std::sync::Arc::clone(&record.explain),
        dissents: end.dissents.clone(),
        source: end.source,
        corrected_at: Some(record.finished_at),
        verification: None,
        ..run
    }
}
