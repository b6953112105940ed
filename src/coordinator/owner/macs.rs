//! What ties a worker's answers to an assignment: a MAC that it shows when it comes back, and the nonce of its vote.
//!
//! Both are functions of a secret and the assignment's name, so the coordinator remembers neither.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::{AttemptId, Epoch, RunId};
use crate::protocol::agent::{AssignmentMac, mac_input};

/// The secret, already taken in: an assignment costs two short hashes.
#[derive(Clone)]
pub struct AssignmentKey {
    mac: Hmac<Sha256>,
    nonce: Hmac<Sha256>,
    lottery: Hmac<Sha256>,
}

impl AssignmentKey {
    /// From the secret that the store keeps.
    pub fn new(key: &[u8; 32]) -> AssignmentKey {
        AssignmentKey {
            mac: keyed(key, b"assignment"),
            nonce: keyed(key, b"nonce"),
            lottery: keyed(key, b"lottery"),
        }
    }

    /// See [`AssignmentMac`].
    pub fn mac(&self, attempt: AttemptId, epoch: Epoch) -> AssignmentMac {
        finish(&self.mac, attempt, epoch)
    }

    /// A run's draw in the audit lottery: the same for every coordinator of this store, unknown to workers.
    pub fn lottery(&self, run: RunId) -> u64 {
        let mut mac = self.lottery.clone();
        mac.update(&run.0.to_be_bytes());
        let drawn: [u8; 32] = mac.finalize().into_bytes().into();
        drawn.iter().take(8).fold(0, |draw, byte| draw << 8 | u64::from(*byte))
    }

    /// A nonce that no worker can guess before it is assigned.
    pub fn nonce(&self, attempt: AttemptId, epoch: Epoch) -> [u8; 16] {
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&finish(&self.nonce, attempt, epoch)[..16]);
        nonce
    }
}

fn keyed(key: &[u8; 32], purpose: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(purpose);
    mac
}

fn finish(mac: &Hmac<Sha256>, attempt: AttemptId, epoch: Epoch) -> [u8; 32] {
    let mut mac = mac.clone();
    mac.update(&mac_input(attempt.run, attempt.number, epoch));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_assignment_and_each_purpose_has_its_own() {
        let key = AssignmentKey::new(&[7; 32]);
        let of = |run, number, epoch| {
            let attempt = AttemptId { run: RunId(run), number };
            (key.mac(attempt, Epoch(epoch)), key.nonce(attempt, Epoch(epoch)))
        };
        assert_eq!(of(1, 1, 1), of(1, 1, 1));
        for other in [of(2, 1, 1), of(1, 2, 1), of(1, 1, 2)] {
            assert!(other.0 != of(1, 1, 1).0 && other.1 != of(1, 1, 1).1);
        }
        assert_ne!(of(1, 1, 1).0[..16], of(1, 1, 1).1);
        let attempt = AttemptId { run: RunId(1), number: 1 };
        let draws: Vec<u64> = (0..64).map(|run| key.lottery(RunId(run))).collect();
        let large = draws.iter().filter(|draw| **draw > u64::MAX / 2).count();
        assert!((16..48).contains(&large), "{large} of 64 draws are in the upper half");
        assert_ne!(AssignmentKey::new(&[8; 32]).lottery(RunId(1)), draws[1]);
        assert_ne!(AssignmentKey::new(&[8; 32]).mac(attempt, Epoch(1)), of(1, 1, 1).0);
    }
}
