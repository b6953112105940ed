//! The wire types of the public API: what callers send and what they read, as JSON.
//!
//! Invariants: requests refuse unknown fields; every field but `module` has a default, which is the one of
//! [`crate::spec`]; ids and digests are text, times are RFC 3339 with microseconds. What is written here is promised
//! to callers and described by the served OpenAPI document.
//!
//! No behaviour beyond conversion, and no knowledge of HTTP, of the store or of who asks. Bounds are checked by
//! `coordinator/submission.rs`, so that an error can name field, value and allowed range.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::core::Time;

mod cache;
mod callback;
mod compare;
mod divergence;
mod pool;
mod problem;
mod receipt;
mod repair;
mod request;
mod run;
mod stats;

pub use cache::*;
pub use callback::*;
pub use compare::*;
pub use divergence::*;
pub use pool::*;
pub use problem::*;
pub use receipt::*;
pub use repair::*;
pub use request::*;
pub use run::*;
pub use stats::*;

/// An instant: RFC 3339 in UTC, written with microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp(pub jiff::Timestamp);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Timestamp, jiff::Error> {
        text.parse().map(Timestamp)
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Timestamp {
        let micros = i64::try_from(time.0).unwrap_or(i64::MAX);
        // beyond the year 9999 only for a clock that is broken
        Timestamp(jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl From<Timestamp> for Time {
    /// Instants before 1970 become 1970.
    fn from(timestamp: Timestamp) -> Time {
        Time(u64::try_from(timestamp.0.as_microsecond()).unwrap_or(0))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is no RFC 3339 time with its offset")))
    }
}

vocabulary::text_schemas! {
    Timestamp: "RFC 3339 in UTC, with microseconds", None, "2026-01-01T00:00:00.000000Z";
    Clock: "RFC 3339, or `now` for the time of submission", None, "2026-01-01T00:00:00Z";
}

#[cfg(test)]
mod tests;
