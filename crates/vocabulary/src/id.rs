//! Names of runs, attempts, workers and terms of ownership, each a type of its own.
//!
//! Nothing here makes an id: the shell does (time and randomness are its business), the core only compares.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::digest::Digest;

/// An equivalence class: only votes of one class are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Class(pub Digest);

/// A run: a UUIDv7, so that ids sort by the time of submission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u128);

/// The `number`-th execution of a run, counted from 1. Written `RUN.NUMBER`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The run it executes.
    pub run: RunId,
    /// Position among the attempts of the run, from 1; never used twice.
    pub number: u32,
}

/// A worker's number in its pool, given at enrolment and kept for life. Written `wNUMBER`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u32);

/// The term of a run's owner: the fencing token that every state-changing write names (I6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// A workspace's number; 0 is `default`. The unit of fairness and of access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkspaceId(pub u32);

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what} id")]
pub struct ParseIdError {
    what: &'static str,
    text: String,
}

fn refuse(what: &'static str, text: &str) -> ParseIdError {
    ParseIdError { what, text: text.chars().take(80).collect() }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).as_hyphenated().fmt(f)
    }
}

impl FromStr for RunId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<RunId, ParseIdError> {
        // only the hyphenated form: one run, one text
        let id = Uuid::try_parse(text).map_err(|_| refuse("run", text))?;
        if text.len() != 36 {
            return Err(refuse("run", text));
        }
        Ok(RunId(id.as_u128()))
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run, self.number)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<AttemptId, ParseIdError> {
        let (run, number) = text.split_once('.').ok_or_else(|| refuse("attempt", text))?;
        let number = number.parse().map_err(|_| refuse("attempt", text))?;
        Ok(AttemptId { run: run.parse()?, number })
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

impl FromStr for WorkerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<WorkerId, ParseIdError> {
        let digits = text.strip_prefix('w').filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
        let number = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| refuse("worker", text))?;
        Ok(WorkerId(number))
    }
}

macro_rules! debug_as_text {
    ($($id:ty),*) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_text!(RunId, AttemptId, WorkerId);

/// Text for people's formats, the bare numbers for the runner frames.
macro_rules! serde_as_text {
    ($id:ident, $compact:ty, $to:expr, $from:expr) => {
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    let compact: $compact = $to(self);
                    compact.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$id, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(D::Error::custom)
                } else {
                    <$compact>::deserialize(deserializer).map($from)
                }
            }
        }
    };
}
serde_as_text!(RunId, u128, |id: &RunId| id.0, RunId);
serde_as_text!(WorkerId, u32, |id: &WorkerId| id.0, WorkerId);
serde_as_text!(AttemptId, (u128, u32), |id: &AttemptId| (id.run.0, id.number), |(run, number)| AttemptId {
    run: RunId(run),
    number
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_text() {
        let run: RunId = "01920000-0000-7000-8000-000000000001".parse().expect("a run id");
        let attempt = AttemptId { run, number: 3 };
        assert_eq!(attempt.to_string(), "01920000-0000-7000-8000-000000000001.3");
        assert_eq!(attempt.to_string().parse(), Ok(attempt));
        assert_eq!("w12".parse(), Ok(WorkerId(12)));
        for wrong in ["", "w", "12", "w-1", "w+1", "w1x"] {
            assert!(wrong.parse::<WorkerId>().is_err(), "{wrong}");
        }
        assert!("019200000000700080000000000000 01".parse::<RunId>().is_err());
        assert!("01920000000070008000000000000001".parse::<RunId>().is_err());
    }
}
