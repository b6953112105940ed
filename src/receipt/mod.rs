//! What is signed and can be checked by anybody: votes of workers (one signature for a batch of them), and receipts, in which
//! a coordinator certifies a final result together with the votes that it rests on.
//!
//! Invariants: everything that is signed has one form, so equal statements have equal bytes; leaves, inner nodes, signed
//! roots and envelopes are hashed with different prefixes, so none can stand for another; of a receipt nothing is read
//! that is not signed. It does not know how statements travel, where keys come from, or who trusts whom.

mod certificate;
mod check;
mod envelope;
mod fraction;
mod key_file;
pub mod merkle;
pub mod statement;
mod text;

pub use certificate::{
    Batch, CONTENT_BYTES_MAX, PREDICATE_TYPE, Predicate, Rule, STATEMENT_TYPE, SignedWhen, Statement,
    Subject, SubjectDigest, Vote, subjects,
};
pub use check::{Checked, ReceiptError, check};
pub use envelope::{PAYLOAD_TYPE, RECEIPT_BYTES_MAX, seal};
pub use fraction::{fraction, parse_fraction};
pub use key_file::{load_or_make, make_key, write_private};
pub use statement::{
    RootSignature, VoteProof, VoteStatement, sign_one, sign_root, verify_root, verify_root_by,
};
pub use text::{Hex, PublicKey};

#[cfg(test)]
mod tests;
