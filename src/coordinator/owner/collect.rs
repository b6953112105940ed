//! Taking what a worker delivered: checked against its digests, and stored.
//!
//! Invariant: only what came is held against the worker that sent it. Trouble of our own (a full disk, a store or a file
//! that fails) costs time and is tried again; the pool knows that nobody else is waited for.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::blobs::{BlobError, Blobs};
use crate::core::Time;
use crate::digest::Digest;
use crate::protocol::agent::BlobBody;
use crate::result::Fault;
use crate::store::{INLINE_BLOB_BYTES_MAX, StoreError};

/// Blobs of one delivery that are stored at once.
const AT_ONCE: usize = 4;
/// Bytes of small outputs of one delivery that go with the run's final instead of into the blob store: one commit for
/// all of them.
const WITH_FINAL_BYTES_MAX: u64 = 1 << 20;
/// Between two tries to store a blob, at first and at most.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Why a blob was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStored {
    /// What came is not what was announced.
    #[error("{0}")]
    Corrupt(String),
    /// Trouble of our own.
    #[error(transparent)]
    Ours(BlobError),
}

impl From<BlobError> for NotStored {
    fn from(error: BlobError) -> NotStored {
        match error {
            // the bytes, or the worker's file that should hold them
            BlobError::Mismatch { .. } | BlobError::TooLarge { .. } | BlobError::Body(_) => {
                NotStored::Corrupt(error.to_string())
            }
            ours => NotStored::Ours(ours),
        }
    }
}

/// Stores one blob, checked against its digest.
pub(super) async fn store_body(
    blobs: &Blobs,
    digest: Digest,
    body: &BlobBody,
    pin: Time,
) -> Result<(), NotStored> {
    match body {
        BlobBody::Inline(bytes) => {
            check(digest, bytes)?;
            blobs.put_bytes(bytes.clone(), pin).await?;
        }
        BlobBody::File { file, offset, size } => {
            blobs.put_file(file, *offset, *size, digest, pin).await?;
        }
        BlobBody::Stored { .. } => {
            if !blobs.pin(digest, pin).await? {
                return Err(NotStored::Corrupt(format!("{digest} was said to be stored and is not")));
            }
        }
    }
    Ok(())
}

/// Takes all of a delivery. Answers the small outputs that are to be written with the run's final; all others are
/// stored. `None`: the process is about to end, and nobody is to blame.
pub(super) async fn take(
    blobs: &Blobs,
    bodies: Vec<(Digest, BlobBody)>,
    pin: Time,
) -> Option<Result<Vec<(Digest, Bytes)>, Fault>> {
    let mut room = WITH_FINAL_BYTES_MAX;
    let (small, large): (Vec<_>, Vec<_>) = bodies.into_iter().partition(|(_, body)| {
        let size = size(body);
        let is_at_hand = !matches!(body, BlobBody::Stored { .. });
        let fits = is_at_hand && size <= INLINE_BLOB_BYTES_MAX as u64 && size <= room;
        room -= if fits { size } else { 0 };
        fits
    });
    let storing = stream::iter(large)
        .map(|(digest, body)| async move { store_persistently(blobs, digest, &body, pin).await })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|()| std::future::ready(Ok(())));
    let taken = async {
        storing.await?;
        read_small(small).await
    };
    match taken.await {
        Ok(small) => Some(Ok(small)),
        Err(NotStored::Corrupt(detail)) => Some(Err(Fault::Corrupt { detail })),
        Err(NotStored::Ours(error)) => {
            tracing::error!(%error, "a result cannot be stored, and the process ends");
            None
        }
    }
}

fn size(body: &BlobBody) -> u64 {
    match body {
        BlobBody::Inline(bytes) => bytes.len() as u64,
        BlobBody::File { size, .. } | BlobBody::Stored { size } => *size,
    }
}

/// Tries until the blob is stored, is found to be wrong, or the process cannot go on.
async fn store_persistently(
    blobs: &Blobs,
    digest: Digest,
    body: &BlobBody,
    pin: Time,
) -> Result<(), NotStored> {
    let mut pause = PAUSE;
    loop {
        let error = match store_body(blobs, digest, body, pin).await {
            Err(NotStored::Ours(error)) => error,
            done => return done,
        };
        if matches!(error, BlobError::Fatal(_) | BlobError::Store(StoreError::Closed)) {
            return Err(NotStored::Ours(error));
        }
        tracing::error!(%error, %digest, ?pause, "an output cannot be stored; it will be tried again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The bytes of small outputs, off the async threads: there may be many to hash.
async fn read_small(small: Vec<(Digest, BlobBody)>) -> Result<Vec<(Digest, Bytes)>, NotStored> {
    let reading = tokio::task::spawn_blocking(move || {
        let read = |(digest, body)| {
            let bytes = match body {
                BlobBody::Inline(bytes) => bytes,
                BlobBody::File { file, offset, size } => read_part(&file, offset, size)
                    .map_err(|error| NotStored::Corrupt(format!("{digest} cannot be read: {error}")))?,
                // it is not at hand
                BlobBody::Stored { .. } => return Err(NotStored::Ours(BlobError::Missing(digest))),
            };
            check(digest, &bytes)?;
            Ok((digest, bytes))
        };
        small.into_iter().map(read).collect()
    });
    reading.await.unwrap_or_else(|error| Err(NotStored::Ours(BlobError::Fatal(error.to_string()))))
}

/// `size` is at most [`INLINE_BLOB_BYTES_MAX`].
fn read_part(file: &Arc<File>, offset: u64, size: u64) -> std::io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(size).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

fn check(digest: Digest, bytes: &[u8]) -> Result<(), NotStored> {
    if Digest::of(bytes) == digest {
        return Ok(());
    }
    Err(NotStored::Corrupt(format!("{digest} does not name what was delivered")))
}
