//! What shows a receiver that a callback comes from this pool: HMAC-SHA256 over id, time and body, as Standard Webhooks
//! (standardwebhooks.com, 1.0.0) has it, so that its libraries can be used.
//!
//! Invariant: a secret is shown only where it is asked for ([`Secret::text`]), never by `Debug`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::core::Time;

/// What the text of a secret begins with.
const PREFIX: &str = "whsec_";
/// Length of a secret in bytes: that of the hash.
const SECRET_BYTES: usize = 32;
/// How long a secret that was replaced still signs, beside the new one, in milliseconds: a day in which receivers take up the
/// new one.
pub const OVERLAP_MS: u64 = 24 * 60 * 60 * 1_000;

/// Requests to replace it that are known again when they are repeated.
const KEYS_MAX: usize = 16;

/// What a pool and its receivers share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one.
    pub fn random() -> Result<Secret, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Secret(bytes))
    }

    /// Its text: `whsec_` and base64.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(self.0))
    }

    fn of_text(text: &str) -> Option<Secret> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
        bytes.try_into().ok().map(Secret)
    }

    /// The signature of one callback: `v1,` and base64 of the HMAC over `id.timestamp.body`; `timestamp` in seconds since the
    /// Unix epoch.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        // a key of any length is taken
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

/// The secret that signs, and the one before it for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secrets {
    /// Signs.
    pub current: Secret,
    /// Since when.
    pub since: Time,
    /// Signs too, until then.
    pub previous: Option<(Secret, Time)>,
    /// Idempotency keys of the requests that replaced one lately, the oldest first.
    keys: Vec<String>,
}

/// [`Secrets`] as they are stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    current: String,
    since: u64,
    previous: Option<(String, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
}

impl Secrets {
    /// The first one of a pool.
    pub fn first(current: Secret, now: Time) -> Secrets {
        Secrets { current, since: now, previous: None, keys: Vec::new() }
    }

    /// The same after the secret was replaced. Only one of before goes on signing.
    #[must_use]
    pub fn rotated(&self, new: Secret, now: Time, key: Option<String>) -> Secrets {
        let previous = Some((self.current.clone(), now.plus_ms(OVERLAP_MS)));
        let mut keys: Vec<String> = self.keys.iter().cloned().chain(key).collect();
        keys.drain(..keys.len().saturating_sub(KEYS_MAX));
        Secrets { current: new, since: now, previous, keys }
    }

    /// Whether the request of this key has replaced one already.
    pub fn was_rotated_by(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key)
    }

    /// The one of before, while it signs.
    pub fn previous(&self, now: Time) -> Option<&(Secret, Time)> {
        self.previous.as_ref().filter(|(_, until)| now < *until)
    }

    /// The header `webhook-signature`: a signature of each secret that signs at `now`, separated by spaces.
    pub fn signatures(&self, id: &str, timestamp: u64, body: &[u8], now: Time) -> String {
        let previous = self.previous(now).map(|(secret, _)| secret);
        let all = std::iter::once(&self.current).chain(previous);
        all.map(|secret| secret.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
    }

    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            current: self.current.text(),
            since: self.since.0,
            previous: self.previous.as_ref().map(|(secret, until)| (secret.text(), until.0)),
            keys: self.keys.clone(),
        };
        serde_json::to_vec(&stored).expect("texts and numbers are always JSON")
    }

    /// The other way; `None` if that is no such thing.
    pub fn decode(bytes: &[u8]) -> Option<Secrets> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let previous = match stored.previous {
            Some((text, until)) => Some((Secret::of_text(&text)?, Time(until))),
            None => None,
        };
        let (current, since) = (Secret::of_text(&stored.current)?, Time(stored.since));
        Some(Secrets { current, since, previous, keys: stored.keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second 1,700,000,000.
    const NOW: Time = Time(1_700_000_000_000_000);

    #[test]
    fn the_signature_is_the_one_that_others_compute() {
        // Python: base64.b64encode(hmac.digest(bytes(range(32)), b'id_1.1700000000.{"a":1}', 'sha256'))
        let secret = Secret(std::array::from_fn(|index| index as u8));
        assert_eq!(secret.text(), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let expected = "v1,HWzQ8kbR7vMyB0KQlEHHaoNVKo2ptGOPMJJKcfoDycE=";
        assert_eq!(secret.sign("id_1", 1_700_000_000, br#"{"a":1}"#), expected);
        let secrets = Secrets::first(secret, NOW);
        assert_eq!(secrets.signatures("id_1", 1_700_000_000, br#"{"a":1}"#, NOW), expected);
    }

    #[test]
    fn every_part_is_signed() {
        let secret = Secret::random().unwrap();
        let signed = secret.sign("id", 1, b"body");
        assert_ne!(signed, secret.sign("ie", 1, b"body"));
        assert_ne!(signed, secret.sign("id", 2, b"body"));
        assert_ne!(signed, secret.sign("id", 1, b"bodz"));
        assert_ne!(signed, Secret::random().unwrap().sign("id", 1, b"body"));
    }

    #[test]
    fn a_secret_that_was_replaced_signs_for_a_day_more() {
        let (old, new) = (Secret::random().unwrap(), Secret::random().unwrap());
        let secrets = Secrets::first(old.clone(), Time(5)).rotated(new.clone(), NOW, None);
        let both = format!("{} {}", new.sign("id", 7, b"x"), old.sign("id", 7, b"x"));
        assert_eq!(secrets.signatures("id", 7, b"x", NOW), both);
        let later = NOW.plus_ms(OVERLAP_MS);
        assert_eq!(secrets.signatures("id", 7, b"x", later), new.sign("id", 7, b"x"));
        assert_eq!(Secrets::decode(&secrets.encode()), Some(secrets.clone()));
        // rotated twice, the first one is gone at once
        let third = secrets.rotated(Secret::random().unwrap(), NOW, None);
        assert_eq!(third.previous(NOW).map(|(secret, _)| secret), Some(&new));
        assert_eq!(Secrets::decode(b"{}"), None);
        assert!(!format!("{secrets:?}").contains("whsec"));
    }

    #[test]
    fn a_request_that_is_repeated_is_known_for_a_while_and_over_a_restart() {
        let rotate = |secrets: &Secrets, key: &str| {
            secrets.rotated(Secret::random().unwrap(), NOW, Some(key.to_owned()))
        };
        let mut secrets = rotate(&Secrets::first(Secret::random().unwrap(), NOW), "first");
        assert!(secrets.was_rotated_by("first") && !secrets.was_rotated_by("second"));
        secrets = Secrets::decode(&secrets.encode()).unwrap();
        assert!(secrets.was_rotated_by("first"));
        (0..KEYS_MAX).for_each(|number| secrets = rotate(&secrets, &number.to_string()));
        assert!(secrets.was_rotated_by("0") && !secrets.was_rotated_by("first"), "they are bounded");
    }
}
