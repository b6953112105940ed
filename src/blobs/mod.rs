//! Bytes by their digest: small ones in their row of the store, large ones in files of a directory of their own.
//!
//! Invariants (I12): a row is committed only after its file is durable under its final name (written apart, synced, renamed,
//! directory synced), and a file goes only after its row; nobody is given bytes that do not hash to their name; memory
//! is bounded whatever the size of a blob. A failed sync is fatal and reported ([`Failure`]), never retried.
//!
//! It knows no HTTP and not why a blob is wanted. Counting references is the store's business.

mod collect;
mod files;
mod put;
mod read;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use self::collect::Freed;
use self::files::Files;
pub use self::read::BlobSource;
use crate::digest::Digest;
use crate::store::{Failure, Store, StoreError};

/// Why a blob could not be put or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk is full: nothing is left of what was put. Answers 507.
    #[error("the disk is full")]
    Full,
    /// More bytes came than the caller allows.
    #[error("the blob is larger than {max} bytes")]
    TooLarge {
        /// What was allowed.
        max: u64,
    },
    /// The bytes do not hash to the digest that was announced.
    #[error("the bytes hash to {actual}, not to {expected}")]
    Mismatch {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The machine has no descriptors or memory left for it just now; nothing is wrong with what is stored. Answers 503.
    #[error("the machine is at its bounds: {0}")]
    Exhausted(String),
    /// The bytes stopped coming before their end.
    #[error("the body broke off: {0}")]
    Body(String),
    /// There is no such blob.
    #[error("there is no blob {0}")]
    Missing(Digest),
    /// What is stored cannot be read, or does not hash to its name any more.
    #[error("the stored blob {digest} is damaged: {why}")]
    Damaged {
        /// Which.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// A file could not be made durable: the process must end. Never retried.
    #[error("the blob store failed: {0}")]
    Fatal(String),
    /// The store did not do its part.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for BlobError {
    fn from(error: StoreError) -> BlobError {
        match error {
            StoreError::Full => BlobError::Full,
            StoreError::Fatal(why) => BlobError::Fatal(why),
            other => BlobError::Store(other),
        }
    }
}

/// All blobs of a coordinator. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    store: Arc<dyn Store>,
    files: Arc<Files>,
    failure: Failure,
}

impl Blobs {
    /// Opens or makes `dir`. `store` holds the rows, and being open it shows that no other process writes here: what
    /// an earlier one left half-written is removed.
    pub fn open(dir: &Path, store: Arc<dyn Store>, failure: Failure) -> Result<Blobs, BlobError> {
        let files = Files::open(dir)
            .map_err(|error| BlobError::Fatal(format!("cannot open {}: {error}", dir.display())))?;
        Ok(Blobs { store, files: Arc::new(files), failure })
    }
}
