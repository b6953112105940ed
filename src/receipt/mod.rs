//! What a worker signs: its votes, one signature for a batch of them.
//!
//! Invariants: the encoding of a statement has one form and a fixed length, so equal statements have equal bytes; leaves,
//! inner nodes and signed roots are hashed with different prefixes, so none can stand for another. It does not know how
//! statements travel or what is decided from them.

pub mod merkle;
pub mod statement;

pub use statement::{RootSignature, VoteProof, VoteStatement, sign_root, verify_root};
