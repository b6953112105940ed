//! The cache of verified results as a caller reads it, and what is withdrawn from it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;
use crate::digest::Digest;
use crate::id::{RunId, WorkerId};

/// The cache as the caller's workspace sees it. Counts are since the coordinator started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CacheView {
    /// Results that may answer equal runs.
    pub entries: u64,
    /// Memory that they take, in bytes, about.
    pub bytes: u64,
    /// Runs that one of them answered.
    pub hits: u64,
    /// Runs with `cache: use` that none could answer.
    pub misses: u64,
    /// Results that were withdrawn.
    pub withdrawn: u64,
    /// Results that are kept at most, of all workspaces; 0: the cache is off.
    pub entries_max: u64,
    /// Memory that they may take, in bytes, of all workspaces.
    pub bytes_max: u64,
    /// Results older than this answer nothing, in milliseconds.
    pub age_ms: u64,
}

/// Which results are not to answer anything any more: those that meet all that is named here. At least one thing has to be
/// named, or `all`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WithdrawRequest {
    /// Every one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// That this run computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// That this worker voted for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Of this equivalence class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Digest>,
    /// Of this module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<Digest>,
    /// Computed at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Timestamp>,
    /// Computed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
}

/// What was withdrawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Withdrawn {
    /// Results that were in the cache. The withdrawal also holds for those that were not, and after a restart.
    pub withdrawn: u64,
}
