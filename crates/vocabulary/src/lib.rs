//! The words of Lockstep, which every other part uses, and their canonical encodings.
//!
//! Invariant: equal things have equal bytes, so that digests can be compared. It knows nobody who uses it.

pub mod class;
pub mod digest;
pub mod id;
pub mod network;
pub mod result;
mod schema;
pub mod spec;
pub mod tree;
pub mod units;
