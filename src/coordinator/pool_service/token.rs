//! Bearer tokens of sessions: they name a worker and an end, and need no memory.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use subtle::ConstantTimeEq;

use crate::core::Time;
use crate::id::WorkerId;

/// What such a token begins with: secret scanners can find it, and it is told from a caller's.
pub const PREFIX: &str = "lsw_";
/// How long a token is valid.
pub const VALID_MS: u64 = 15 * 60 * 1_000;
/// After so long a new one is sent.
pub const RENEW_MS: u64 = 10 * 60 * 1_000;

fn mac(key: &[u8; 32], facts: &[u8; 12]) -> [u8; 32] {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"worker token");
    mac.update(facts);
    mac.finalize().into_bytes().into()
}

/// Makes a token.
pub fn issue(key: &[u8; 32], worker: WorkerId, now: Time) -> String {
    let mut facts = [0; 12];
    facts[..4].copy_from_slice(&worker.0.to_be_bytes());
    facts[4..].copy_from_slice(&now.plus_ms(VALID_MS).0.to_be_bytes());
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([&facts[..], &mac(key, &facts)].concat()))
}

/// Whose it is, if it is ours and has not ended.
pub fn verify(key: &[u8; 32], token: &str, now: Time) -> Option<WorkerId> {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
    let (facts, shown) = bytes.split_first_chunk::<12>()?;
    if !bool::from(mac(key, facts).ct_eq(shown)) {
        return None;
    }
    let (worker, end) = facts.split_first_chunk::<4>()?;
    let end = Time(u64::from_be_bytes(end.try_into().ok()?));
    (end > now).then(|| WorkerId(u32::from_be_bytes(*worker)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_worker_until_its_end_and_no_other() {
        let (key, now) = ([7; 32], Time(1_000_000));
        let token = issue(&key, WorkerId(9), now);
        assert_eq!(verify(&key, &token, now), Some(WorkerId(9)));
        assert_eq!(verify(&key, &token, now.plus_ms(VALID_MS - 1)), Some(WorkerId(9)));
        assert_eq!(verify(&key, &token, now.plus_ms(VALID_MS)), None);
        assert_eq!(verify(&[8; 32], &token, now), None);
        for at in PREFIX.len()..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            // the last letter has bits that mean nothing
            assert!(other == token || verify(&key, &other, now).is_none() || at + 1 == token.len(), "{at}");
        }
        for wrong in ["", "lsw_", "lsk_x", &token[4..], &format!("{token}AAAA")] {
            assert_eq!(verify(&key, wrong, now), None, "{wrong}");
        }
    }
}
