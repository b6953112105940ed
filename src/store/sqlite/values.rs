//! How the vocabulary's types look as SQL values, and how SQLite's errors look as ours.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::core::Time;
use crate::digest::Digest;
use crate::id::{Epoch, RunId};
use crate::result::RunState;
use crate::store::StoreError;

/// SQLite's integers are signed; what does not fit is as good as for ever.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The other way; nothing negative is ever written where this is read.
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn time(value: i64) -> Time {
    Time(uint(value))
}

pub(super) fn epoch(value: i64) -> Epoch {
    Epoch(uint(value))
}

pub(super) fn run_key(id: RunId) -> [u8; 16] {
    id.0.to_be_bytes()
}

pub(super) fn run_id(key: [u8; 16]) -> RunId {
    RunId(u128::from_be_bytes(key))
}

/// The state column; `Queued` and `Running` are both 0, because what happens between is the owner's memory.
pub(super) fn state_code(state: RunState) -> i64 {
    match state {
        RunState::Queued | RunState::Running => 0,
        RunState::Succeeded => 1,
        RunState::Failed => 2,
        RunState::Canceled => 3,
    }
}

pub(super) fn state_of(code: i64) -> Result<RunState, StoreError> {
    match code {
        0 => Ok(RunState::Queued),
        1 => Ok(RunState::Succeeded),
        2 => Ok(RunState::Failed),
        3 => Ok(RunState::Canceled),
        _ => Err(StoreError::Decode {
            what: "run state",
            why: format!("code {code} is not known to this build"),
        }),
    }
}

/// Distinct digests one after the other: the list of what a run refers to.
pub(super) fn join<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Vec<u8> {
    digests.into_iter().flat_map(|digest| *digest.as_bytes()).collect()
}

/// The other way.
pub(super) fn split(joined: &[u8]) -> Vec<Digest> {
    let (digests, _) = joined.as_chunks::<32>();
    digests.iter().map(|bytes| Digest::from_bytes(*bytes)).collect()
}

/// Why a whole transaction, or the store itself, failed; every waiter hears it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failed {
    /// No space. The transaction was rolled back; the next one may succeed.
    Full,
    /// Nothing can be trusted any more.
    Fatal(String),
}

impl Failed {
    pub(super) fn to_error(&self) -> StoreError {
        match self {
            Failed::Full => StoreError::Full,
            Failed::Fatal(why) => StoreError::Fatal(why.clone()),
        }
    }
}

impl From<&rusqlite::Error> for Failed {
    /// Everything but a full disk is fatal: an I/O error, corruption, a failed fsync, and also an error that only a
    /// mistake of ours could cause, because a store that does not do what it was told cannot be trusted either.
    fn from(error: &rusqlite::Error) -> Failed {
        match error {
            rusqlite::Error::SqliteFailure(failure, _)
                // A full disk shows as the latter when the shared index of the write-ahead log cannot grow.
                if failure.code == ErrorCode::DiskFull
                    || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE =>
            {
                Failed::Full
            }
            rusqlite::Error::SqliteFailure(failure, _) => {
                Failed::Fatal(format!("{error} (SQLite code {})", failure.extended_code))
            }
            _ => Failed::Fatal(error.to_string()),
        }
    }
}
