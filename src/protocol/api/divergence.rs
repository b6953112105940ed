//! Why one of several results won, and what followed for those who had named another.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::id::WorkerId;

/// What trusted executors of the operator found when they executed a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Arbitration {
    /// How often they executed it to the end.
    pub executions: u32,
    /// Numbers of the attempts of others that named the same; none if the arbiters did not agree with each other.
    pub agreed_with: Vec<u32>,
    /// The different results that they named, in the order in which they did: more than one means that the module is
    /// nondeterministic.
    pub results: Vec<Digest>,
}

/// A vote that lost, or one of those of which none won.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Outvoted {
    /// Number of the attempt.
    pub attempt: u32,
    /// Whose vote it was.
    pub worker: WorkerId,
    /// What it named.
    pub result: Digest,
    /// Whether it was held against the worker.
    pub blamed: bool,
    /// Why, or why not, in words.
    pub why: String,
}
