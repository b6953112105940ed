//! Bytes as text with exactly one form: lower-case hex of a fixed length, and public keys.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// `N` bytes, written as lower-case hex digits and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// Why a text stands for no bytes of the expected length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {0} lower-case hex digits")]
pub struct ParseHexError(usize);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(2 * N);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        f.write_str(&text)
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Hex<N>, ParseHexError> {
        let refuse = ParseHexError(2 * N);
        let digits = text.as_bytes();
        if digits.len() != 2 * N {
            return Err(refuse);
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(refuse),
        };
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Hex(bytes))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hex<N>, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// An Ed25519 public key, written as `ed25519:` and 64 lower-case hex digits. The text is also its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// Why a text is no public key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no public key: expected `ed25519:` and 64 lower-case hex digits")]
pub struct ParseKeyError(String);

const KEY_PREFIX: &str = "ed25519:";

impl PublicKey {
    /// That of a secret key.
    pub fn of(key: &ed25519_dalek::SigningKey) -> PublicKey {
        PublicKey(key.verifying_key().to_bytes())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", Hex(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<PublicKey, ParseKeyError> {
        let refuse = || ParseKeyError(text.chars().take(80).collect());
        let Hex(bytes) = text.strip_prefix(KEY_PREFIX).ok_or_else(refuse)?.parse().map_err(|_| refuse())?;
        // bytes that are no point of the curve verify nothing: say so where they are given
        VerifyingKey::from_bytes(&bytes).map_err(|_| refuse())?;
        Ok(PublicKey(bytes))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn bytes_have_one_text() {
        let bytes = Hex([0x00, 0x9f, 0xff]);
        assert_eq!(bytes.to_string(), "009fff");
        assert_eq!("009fff".parse(), Ok(bytes));
        for wrong in ["009ff", "009fff0", "009fFf", "009fgf", " 09fff", ""] {
            assert!(wrong.parse::<Hex<3>>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_public_key_is_its_own_name() {
        let key = PublicKey::of(&SigningKey::from_bytes(&[7; 32]));
        assert_eq!(key.to_string().parse(), Ok(key));
        let text = key.to_string();
        for wrong in [&text[8..], &text.to_uppercase(), &text[..text.len() - 1]] {
            assert!(wrong.parse::<PublicKey>().is_err(), "{wrong}");
        }
        // y = 2 lies on no point
        assert!(format!("ed25519:02{}", "00".repeat(31)).parse::<PublicKey>().is_err());
    }
}
