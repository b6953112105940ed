//! Sizes and periods as people write them: `256MiB`, `30s`.
//!
//! Invariant: what is displayed parses to the same value. A period needs its unit (a bare `30` could be seconds or
//! milliseconds); a size without one is bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Period {
    /// Its length.
    pub ms: u64,
}

/// Why a text is no size or no period.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no {what}")]
pub struct ParseUnitError {
    text: String,
    what: &'static str,
}

const SIZE_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

const PERIOD_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Takes `text` apart into a whole number and a unit of `units`; the product must fit 63 bits, which is what TOML and
/// SQLite can hold.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor).filter(|value| i64::try_from(*value).is_ok())
}

impl Size {
    /// `n` MiB.
    pub const fn mib(n: u64) -> Size {
        Size(n << 20)
    }
}

impl FromStr for Size {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Size, ParseUnitError> {
        let bare = text.parse::<u64>().ok().filter(|bytes| i64::try_from(*bytes).is_ok());
        let refuse = || ParseUnitError {
            text: text.chars().take(80).collect(),
            what: "size: expected a whole number of bytes or one with a unit, such as `256MiB`",
        };
        bare.or_else(|| scaled(text, &SIZE_UNITS)).map(Size).ok_or_else(refuse)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |unit: &&(&str, u64)| self.0.is_multiple_of(unit.1);
        match SIZE_UNITS[..4].iter().find(exact).filter(|_| self.0 > 0) {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Period {
    /// `n` seconds.
    pub const fn seconds(n: u64) -> Period {
        Period { ms: n * 1_000 }
    }

    /// The same as the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

impl FromStr for Period {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Period, ParseUnitError> {
        let refuse = || ParseUnitError {
            text: text.chars().take(80).collect(),
            what: "period: expected a whole number with a unit (ms, s, m, h, d), such as `30s`",
        };
        scaled(text, &PERIOD_UNITS).map(|ms| Period { ms }).ok_or_else(refuse)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |unit: &&(&str, u64)| self.ms.is_multiple_of(unit.1);
        let (name, factor) =
            PERIOD_UNITS.iter().rev().find(exact).expect("every number is whole milliseconds");
        write!(f, "{}{name}", self.ms / factor)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"256MiB\"")
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_units_and_bare_bytes() {
        let cases = [("0", 0), ("17", 17), ("1KiB", 1024), ("256 MiB", 256 << 20), ("2GB", 2_000_000_000)];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for wrong in ["", "MiB", "-1", "1.5GiB", "1 mib", "9999999TiB", "18446744073709551615"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn periods_need_their_unit() {
        let cases =
            [("250ms", 250), ("30s", 30_000), ("2 m", 120_000), ("1h", 3_600_000), ("30d", 2_592_000_000)];
        for (text, ms) in cases {
            assert_eq!(text.parse(), Ok(Period { ms }), "{text}");
        }
        for wrong in ["", "30", "s", "-1s", "1.5s", "1w"] {
            assert!(wrong.parse::<Period>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_displayed_parses_to_the_same() {
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, 1_000_000, 5 << 30, 3 << 40] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 86_400_000] {
            assert_eq!(Period { ms }.to_string().parse(), Ok(Period { ms }));
        }
        assert_eq!(Size::mib(256).to_string(), "256MiB");
        assert_eq!(Period::seconds(90).to_string(), "90s");
    }
}
