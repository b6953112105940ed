//! A vote as it is signed, and the signature over a batch of them.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::merkle::{self, Node};
use crate::core::Class;
use crate::digest::Digest;
use crate::id::AttemptId;

/// Says what the bytes behind it are, so that a signature over them can mean nothing else.
const VOTE_TAG: &[u8; 16] = b"lockstep vote 1\0";
const ROOT_TAG: &[u8; 16] = b"lockstep votes1\0";
/// Length of an encoded statement in bytes.
const STATEMENT_BYTES: usize = 16 + 16 + 4 + 16 + 4 * 32;

/// An Ed25519 signature over a batch's root.
pub type RootSignature = [u8; 64];

/// What a worker states with a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoteStatement {
    /// Which attempt.
    pub attempt: AttemptId,
    /// The assignment's nonce.
    pub nonce: [u8; 16],
    /// What was executed.
    pub run_key: Digest,
    /// As what it was executed.
    pub class: Class,
    /// The machine code that was executed.
    pub artifact: Digest,
    /// What came out.
    pub result: Digest,
}

impl VoteStatement {
    /// The bytes that are signed: a tag, 16 bytes of the run, 4 of the attempt's number (both big-endian), the nonce, and the
    /// digests of run key, class, artifact and result.
    pub fn encode(&self) -> [u8; STATEMENT_BYTES] {
        let mut bytes = [0; STATEMENT_BYTES];
        let parts: [&[u8]; 8] = [
            VOTE_TAG,
            &self.attempt.run.0.to_be_bytes(),
            &self.attempt.number.to_be_bytes(),
            &self.nonce,
            self.run_key.as_bytes(),
            self.class.0.as_bytes(),
            self.artifact.as_bytes(),
            self.result.as_bytes(),
        ];
        let mut rest = &mut bytes[..];
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        bytes
    }

    /// Its leaf in the batch's tree.
    pub fn leaf(&self) -> Node {
        merkle::leaf(&self.encode())
    }
}

/// Shows that a worker signed a vote: the signature over its batch, and the way from the vote to what was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VoteProof {
    /// Root of the batch's tree.
    pub root: Node,
    /// Votes in the batch.
    pub count: u32,
    /// Position of the vote, from 0.
    pub index: u32,
    /// From the leaf upwards.
    pub path: Vec<Node>,
    /// Over root and count.
    pub signature: RootSignature,
}

impl VoteProof {
    /// Whether the worker with this public key signed `statement`.
    pub fn verify(&self, key: &[u8; 32], statement: &VoteStatement) -> bool {
        merkle::is_included(statement.leaf(), self.index, self.count, &self.path, &self.root)
            && verify_root(key, &self.root, self.count, &self.signature)
    }
}

fn signed_bytes(root: &Node, count: u32) -> [u8; 52] {
    let mut bytes = [0; 52];
    bytes[..16].copy_from_slice(ROOT_TAG);
    bytes[16..48].copy_from_slice(root);
    bytes[48..].copy_from_slice(&count.to_be_bytes());
    bytes
}

/// Signs the root over `count` votes.
pub fn sign_root(key: &SigningKey, root: &Node, count: u32) -> RootSignature {
    key.sign(&signed_bytes(root, count)).to_bytes()
}

/// Signs one vote, as a batch of its own.
pub fn sign_one(key: &SigningKey, statement: &VoteStatement) -> VoteProof {
    let root = statement.leaf();
    VoteProof { root, count: 1, index: 0, path: Vec::new(), signature: sign_root(key, &root, 1) }
}

/// Whether the worker with this public key signed the root over `count` votes. Weak keys and malleable signatures are refused.
pub fn verify_root(key: &[u8; 32], root: &Node, count: u32, signature: &RootSignature) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| verify_root_by(&key, root, count, signature))
}

/// [`verify_root`] for who has many of one worker to check: its key was read before.
pub fn verify_root_by(key: &VerifyingKey, root: &Node, count: u32, signature: &RootSignature) -> bool {
    key.verify_strict(&signed_bytes(root, count), &Signature::from_bytes(signature)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;

    fn statement(number: u32) -> VoteStatement {
        VoteStatement {
            attempt: AttemptId { run: RunId(7), number },
            nonce: [1; 16],
            run_key: Digest::of(b"key"),
            class: Class(Digest::of(b"class")),
            artifact: Digest::of(b"artifact"),
            result: Digest::of(b"result"),
        }
    }

    #[test]
    fn a_vote_of_a_batch_is_proven_and_no_other() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let votes: Vec<_> = (1..=5).map(statement).collect();
        let leaves: Vec<_> = votes.iter().map(VoteStatement::leaf).collect();
        let root = merkle::root(&leaves);
        let signature = sign_root(&key, &root, 5);
        let proof = VoteProof { root, count: 5, index: 3, path: merkle::path(&leaves, 3), signature };
        let public = key.verifying_key().to_bytes();
        assert!(proof.verify(&public, &votes[3]));
        assert!(!proof.verify(&public, &votes[2]));
        assert!(!proof.verify(&SigningKey::from_bytes(&[4; 32]).verifying_key().to_bytes(), &votes[3]));
        let other = VoteProof { count: 6, ..proof.clone() };
        assert!(!other.verify(&public, &votes[3]), "the number of votes is signed");
        assert!(!VoteProof { signature: [0; 64], ..proof }.verify(&public, &votes[3]));
    }

    #[test]
    fn the_statement_depends_on_every_field() {
        let base = statement(1);
        let others = [
            VoteStatement { attempt: AttemptId { run: RunId(8), number: 1 }, ..base },
            statement(2),
            VoteStatement { nonce: [2; 16], ..base },
            VoteStatement { run_key: Digest::EMPTY, ..base },
            VoteStatement { class: Class(Digest::EMPTY), ..base },
            VoteStatement { artifact: Digest::EMPTY, ..base },
            VoteStatement { result: Digest::EMPTY, ..base },
        ];
        for other in others {
            assert_ne!(other.encode(), base.encode());
        }
    }
}
