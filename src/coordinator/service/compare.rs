//! What each attempt gave out, and where two of them differ.
//!
//! Outputs are compared as they stream from the blob store, so that two gigabytes cost two pieces of memory; few at
//! once, because each reads its two sides from the disk. What a dissenter's manifest says of sizes is its own word: the
//! store's count.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use tokio::sync::Semaphore;

use super::{Caller, RunDetail, Service, ServiceError};
use crate::core::{AttemptRecord, AttemptState};
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};
use crate::result::ResultManifest;
use crate::store::{CastVote, StoredRun};

/// The largest manifest that is read: it names as many files as a guest may leave.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Comparisons at once.
static COMPARISONS: Semaphore = Semaphore::const_new(4);

/// What an attempt gave out.
#[derive(Clone, Debug)]
pub struct AttemptResult {
    /// The attempt.
    pub attempt: AttemptRecord,
    /// The result that it voted for.
    pub result: Digest,
    /// What that names.
    pub manifest: ResultManifest,
}

impl Service {
    /// What an attempt of a run gave out, if its result won or was kept for comparison.
    pub async fn attempt_result(
        &self,
        detail: &RunDetail,
        number: u32,
    ) -> Result<AttemptResult, ServiceError> {
        let run = &detail.run;
        let missing = |id: String| ServiceError::NotFound { what: "attempt", id };
        let attempt = run.attempts.iter().find(|attempt| attempt.number == number).cloned();
        let attempt = attempt.ok_or_else(|| missing(format!("{}.{number}", run.id)))?;
        let AttemptState::Voted { result, .. } = attempt.state else {
            let state = attempt.state.name();
            return Err(missing(format!("{}.{number} with a result: it is {state}", run.id)));
        };
        if !run.state.is_final() {
            return Err(missing(format!("{}.{number} to be read before its run has ended", run.id)));
        }
        if run.result == Some(result)
            && let Some(manifest) = run.manifest.clone()
        {
            return Ok(AttemptResult { attempt, result, manifest });
        }
        if !run.dissents.iter().any(|(_, kept)| *kept == result) {
            return Err(not_kept(run.id, number));
        }
        let bytes = match self.blob_bytes(result, MANIFEST_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(ServiceError::NotFound { .. }) => return Err(not_kept(run.id, number)),
            Err(error) => return Err(error),
        };
        let manifest = serde_json::from_slice(&bytes).map_err(|error| {
            ServiceError::Internal(format!("the manifest {result} does not decode: {error}"))
        })?;
        Ok(AttemptResult { attempt, result, manifest })
    }

    /// Two attempts that are worth comparing, if the caller names none: one for each of two different results, that
    /// of the winner first.
    pub fn differing_attempts(detail: &RunDetail) -> Option<(u32, u32)> {
        let run = &detail.run;
        let vote = |attempt: &AttemptRecord| match attempt.state {
            AttemptState::Voted { result, .. } => Some((attempt.number, result)),
            _ => None,
        };
        let votes = || run.attempts.iter().filter_map(vote);
        let (left, first) = votes().find(|(_, result)| run.result.is_none_or(|won| won == *result))?;
        let (right, _) = votes().find(|(_, result)| *result != first)?;
        Some((left, right))
    }

    /// The arbiters that could have executed a run: those that are enrolled, and those that its votes remember.
    pub async fn arbiters_of(&self, run: &StoredRun) -> Result<BTreeSet<WorkerId>, ServiceError> {
        let rows = self.parts.store.workers().await?;
        let enrolled = rows.into_iter().filter(|row| row.arbiter).map(|row| row.id);
        let votes = self.parts.store.votes(run.id, run.revision).await?.unwrap_or_default();
        let is_arbiter = |vote: &CastVote| vote.weight.is_some_and(|weight| weight.is_arbiter);
        let remembered = votes.into_iter().filter(is_arbiter).map(|vote| vote.worker);
        Ok(enrolled.chain(remembered).collect())
    }

    /// The size of an output of an attempt, if it is (still) stored.
    pub async fn output_size(&self, run: RunId, number: u32, output: Digest) -> Result<u64, ServiceError> {
        match self.size_of(output).await {
            Err(ServiceError::NotFound { .. }) => Err(not_kept(run, number)),
            other => other,
        }
    }

    /// The position of the first byte in which two blobs differ, or where the shorter one ends.
    pub async fn first_difference(
        &self,
        _caller: &Caller,
        (left, left_size): (Digest, u64),
        (right, right_size): (Digest, u64),
    ) -> Result<Option<u64>, ServiceError> {
        if left == right {
            return Ok(None);
        }
        let closed = |_| ServiceError::ShuttingDown;
        let _place = COMPARISONS.acquire().await.map_err(closed)?;
        let left = self.parts.blobs.read_range(left, 0..left_size).await?;
        let right = self.parts.blobs.read_range(right, 0..right_size).await?;
        Ok(differ_at(left, right).await?)
    }

    /// A few bytes of a blob.
    pub async fn window(
        &self,
        _caller: &Caller,
        digest: Digest,
        range: Range<u64>,
    ) -> Result<Bytes, ServiceError> {
        let mut stream = self.parts.blobs.read_range(digest, range).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes.into())
    }
}

fn not_kept(run: RunId, number: u32) -> ServiceError {
    ServiceError::NotKept(format!(
        "what attempt {number} of run `{run}` gave out is not kept: of results that did not win one is kept for each \
         digest, its large outputs for a week, as long as its worker could deliver them"
    ))
}

/// Where two streams differ.
async fn differ_at<E>(
    mut left: impl Stream<Item = Result<Bytes, E>> + Unpin,
    mut right: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Option<u64>, E> {
    let (mut one, mut other) = (Bytes::new(), Bytes::new());
    let mut at = 0;
    loop {
        fill(&mut one, &mut left).await?;
        fill(&mut other, &mut right).await?;
        let length = one.len().min(other.len());
        if length == 0 {
            return Ok((one.len() != other.len()).then_some(at));
        }
        if one[..length] != other[..length] {
            let equal = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
            return Ok(Some(at + equal as u64));
        }
        at += length as u64;
        one.advance(length);
        other.advance(length);
    }
}

/// Takes the next bytes of a stream unless some are left; none are left after its end.
async fn fill<E>(
    piece: &mut Bytes,
    stream: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
) -> Result<(), E> {
    while piece.is_empty() {
        match stream.next().await {
            Some(next) => *piece = next?,
            None => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn at(left: &[&'static str], right: &[&'static str]) -> Option<u64> {
        let pieces = |of: &[&'static str]| {
            let pieces: Vec<_> =
                of.iter().map(|piece| Ok::<_, ()>(Bytes::from_static(piece.as_bytes()))).collect();
            stream::iter(pieces)
        };
        differ_at(pieces(left), pieces(right)).await.unwrap()
    }

    #[tokio::test]
    async fn the_first_difference_is_found_however_the_pieces_fall() {
        assert_eq!(at(&[], &[]).await, None);
        assert_eq!(at(&["abc"], &["a", "", "bc"]).await, None);
        assert_eq!(at(&["abc", "def"], &["abcd", "xf"]).await, Some(4));
        assert_eq!(at(&["abc"], &["ab"]).await, Some(2));
        assert_eq!(at(&[], &["x"]).await, Some(0));
        assert_eq!(at(&["x"], &["y"]).await, Some(0));
        assert_eq!(at(&["aaaa", "aaab"], &["aaaaaaaa"]).await, Some(7));
    }
}
