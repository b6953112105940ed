//! What a run asks of the pool beyond its spec: how it is verified, what a fault leads to, where it may go.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many voters a run gets and when their votes decide.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "lowercase")]
pub enum Verify {
    /// One attempt; nothing is compared. Verdict *unchecked*.
    Once,
    /// `n` voters at once; floor(n/2)+1 equal votes decide; up to two more voters on disagreement.
    Quorum {
        /// Voters placed at once, 2 to [`Verify::QUORUM_MAX`].
        n: u8,
    },
    /// The fewest workers whose combined credibility leaves an error of at most 10^-3, spot-checked.
    Standard,
    /// The same with an error of at most 10^-6: never one worker alone.
    High,
}

impl Verify {
    /// More voters than this prove no more, and would need as many workers of one class.
    pub const QUORUM_MAX: u8 = 15;

    /// Voters placed at once, whoever they are.
    pub fn voters(self) -> u8 {
        match self {
            Verify::Once | Verify::Standard | Verify::High => 1,
            Verify::Quorum { n } => n,
        }
    }

    /// Workers of one class without which the policy cannot be kept: the adaptive ones need somebody to check with.
    pub fn peers(self) -> u8 {
        match self {
            Verify::Once => 1,
            Verify::Quorum { n } => n,
            Verify::Standard | Verify::High => 2,
        }
    }

    /// The error that an adaptive policy allows, in parts per billion.
    pub fn epsilon_ppb(self) -> Option<u64> {
        match self {
            Verify::Once | Verify::Quorum { .. } => None,
            Verify::Standard => Some(1_000_000),
            Verify::High => Some(1_000),
        }
    }
}

/// `once`, `standard`, `high` or `quorum:N`.
impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verify::Once => f.write_str("once"),
            Verify::Quorum { n } => write!(f, "quorum:{n}"),
            Verify::Standard => f.write_str("standard"),
            Verify::High => f.write_str("high"),
        }
    }
}

/// Why a text is no policy of verification.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is none of `standard`, `high`, `once` and `quorum:N` with N from 2 to {max}", max = Verify::QUORUM_MAX)]
pub struct ParseVerifyError(String);

/// What [`Verify`] displays, and `quorum` for a quorum of two.
impl FromStr for Verify {
    type Err = ParseVerifyError;

    fn from_str(text: &str) -> Result<Verify, ParseVerifyError> {
        let refuse = || ParseVerifyError(text.to_owned());
        match text {
            "once" => Ok(Verify::Once),
            "standard" => Ok(Verify::Standard),
            "high" => Ok(Verify::High),
            "quorum" => Ok(Verify::Quorum { n: 2 }),
            _ => {
                let n = text.strip_prefix("quorum:").and_then(|n| n.parse().ok());
                let n = n.filter(|n| (2..=Verify::QUORUM_MAX).contains(n)).ok_or_else(refuse)?;
                Ok(Verify::Quorum { n })
            }
        }
    }
}

/// What a run has that is put together without a word about it; what a pool's runs get is a setting of the pool.
impl Default for Verify {
    fn default() -> Verify {
        Verify::Standard
    }
}

/// What happens to a run whose attempt met a fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// Run it again on another worker: at least once, made effectively once by fencing.
    #[default]
    Reassign,
    /// Each voter's place is tried at most once.
    Never,
}

/// Which workers may run it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Placement {
    /// Any worker.
    #[default]
    Any,
    /// Workers that carry all of these labels.
    Labels {
        /// Name and value that a worker must have been started with.
        labels: BTreeMap<String, String>,
    },
    // `primary` (one elected worker of a group) takes its place here.
}

/// Whether an earlier verified result may answer a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheUse {
    /// It may, and an equal run that is in flight may be executed for this one too.
    #[default]
    Use,
    /// It is executed anew by attempts of its own, and its result takes the place of what is cached unless that was verified
    /// for more.
    Refresh,
    /// It is executed by attempts of its own, and the cache is left alone.
    Off,
}

impl CacheUse {
    /// The name that JSON uses.
    pub fn name(self) -> &'static str {
        match self {
            CacheUse::Use => "use",
            CacheUse::Refresh => "refresh",
            CacheUse::Off => "off",
        }
    }
}

/// Why a text is no use of the cache.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is none of `use`, `refresh` and `off`")]
pub struct ParseCacheUseError(String);

impl FromStr for CacheUse {
    type Err = ParseCacheUseError;

    fn from_str(text: &str) -> Result<CacheUse, ParseCacheUseError> {
        let all = [CacheUse::Use, CacheUse::Refresh, CacheUse::Off];
        all.into_iter().find(|use_| use_.name() == text).ok_or_else(|| ParseCacheUseError(text.to_owned()))
    }
}

/// What a run asks of the pool beyond its spec.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Redundancy and the rule of the votes.
    pub verify: Verify,
    /// What a fault leads to.
    pub retry: Retry,
    /// Timed-out attempts after which the run is final `timed_out`.
    pub attempts_max: u32,
    /// Which workers.
    pub placement: Placement,
    /// Wall time of one attempt from its beginning, in milliseconds.
    pub timeout_ms: u64,
    /// Wall time of the whole run from its submission, in milliseconds; then it is `expired`.
    pub deadline_ms: Option<u64>,
    /// Higher goes first within a workspace.
    pub priority: i8,
    /// Written to the store before it is acknowledged.
    pub durable: bool,
    /// Whether an earlier verified result may answer it, and whether it shares the attempts of an equal run in flight.
    #[serde(default)]
    pub cache: CacheUse,
    /// Who is told when a revision of the run becomes final; only with `durable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
}

/// Where a run's end is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Callback {
    /// An `http` or `https` URL, checked when the run was submitted. Shared, because policies are copied.
    pub url: Arc<str>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            verify: Verify::default(),
            retry: Retry::default(),
            attempts_max: 3,
            placement: Placement::default(),
            timeout_ms: 30_000,
            deadline_ms: None,
            priority: 0,
            durable: true,
            cache: CacheUse::default(),
            callback: None,
        }
    }
}
