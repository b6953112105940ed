//! Numbers of a guest as text, exactly: what a caller may write as arguments and what a result shows.
//!
//! Invariant: printing and parsing again gives the same bits, NaN bits included. One value has one printed form, so
//! equal results have equal text.
//!
//! Integers are printed as signed decimals; arguments may also be unsigned, or hexadecimal with `0x`. Floats are
//! printed with the fewest digits that give the same bits again; `inf`, `-inf`, and `nan:0x…` with the bits of
//! the significand, as in WebAssembly's text format. `nan` alone is the canonical NaN.

use wasmtime::{Val, ValType};

/// A type whose values have a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NumericType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
}

/// Why a text is no value of a type.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no {name}: {why}", name = .ty.name())]
pub struct ParseValueError {
    text: String,
    ty: NumericType,
    why: &'static str,
}

impl NumericType {
    /// The type that the text format calls `name`; `None` for vectors and references.
    pub fn from_name(name: &str) -> Option<NumericType> {
        match name {
            "i32" => Some(NumericType::I32),
            "i64" => Some(NumericType::I64),
            "f32" => Some(NumericType::F32),
            "f64" => Some(NumericType::F64),
            _ => None,
        }
    }

    /// Its name in the text format.
    pub fn name(self) -> &'static str {
        match self {
            NumericType::I32 => "i32",
            NumericType::I64 => "i64",
            NumericType::F32 => "f32",
            NumericType::F64 => "f64",
        }
    }

    pub(super) fn of(ty: &ValType) -> Option<NumericType> {
        match ty {
            ValType::I32 => Some(NumericType::I32),
            ValType::I64 => Some(NumericType::I64),
            ValType::F32 => Some(NumericType::F32),
            ValType::F64 => Some(NumericType::F64),
            ValType::V128 | ValType::Ref(_) => None,
        }
    }

    /// Whether `text` is a value of this type.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn check(self, text: &str) -> Result<(), ParseValueError> {
        self.bits(text).map(drop)
    }

    pub(super) fn parse(self, text: &str) -> Result<Val, ParseValueError> {
        let bits = self.bits(text)?;
        // A 32-bit value has its bits in the low half.
        let low = bits as u32;
        Ok(match self {
            NumericType::I32 => Val::I32(low.cast_signed()),
            NumericType::I64 => Val::I64(bits.cast_signed()),
            NumericType::F32 => Val::F32(low),
            NumericType::F64 => Val::F64(bits),
        })
    }

    fn bits(self, text: &str) -> Result<u64, ParseValueError> {
        let parsed = match self {
            NumericType::I32 => integer(text, 32),
            NumericType::I64 => integer(text, 64),
            NumericType::F32 => float(text, &F32),
            NumericType::F64 => float(text, &F64),
        };
        parsed.map_err(|why| ParseValueError { text: text.chars().take(80).collect(), ty: self, why })
    }
}

/// Parses one text per type.
///
/// # Errors
///
/// A sentence for the caller: the number of arguments, or which one is wrong and why.
pub(super) fn parse_all(types: &[NumericType], texts: &[String]) -> Result<Vec<Val>, String> {
    if types.len() != texts.len() {
        return Err(format!("it takes {} arguments, and {} were given", types.len(), texts.len()));
    }
    let parse = |(index, (ty, text)): (usize, (&NumericType, &String))| {
        ty.parse(text).map_err(|error| format!("argument {}: {error}", index + 1))
    };
    types.iter().zip(texts).enumerate().map(parse).collect()
}

/// Why a name is no entry.
pub(super) fn no_function(entry: &str) -> String {
    format!("the module exports no function `{entry}`")
}

/// Why an exported function cannot be an entry.
pub(super) fn not_numeric(entry: &str) -> String {
    format!("`{entry}` takes or returns vectors or references; only i32, i64, f32 and f64 have a text form")
}

/// The canonical text of a value; `None` for vectors and references.
pub(super) fn print(value: &Val) -> Option<String> {
    Some(match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => match print_nan(u64::from(*bits), &F32) {
            Some(text) => text,
            None => format!("{:?}", f32::from_bits(*bits)),
        },
        Val::F64(bits) => match print_nan(*bits, &F64) {
            Some(text) => text,
            None => format!("{:?}", f64::from_bits(*bits)),
        },
        _ => return None,
    })
}

fn integer(text: &str, width: u32) -> Result<u64, &'static str> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (radix, digits) = match magnitude.strip_prefix("0x") {
        Some(digits) => (16, digits),
        None => (10, magnitude),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err("expected decimal digits, or `0x` and hexadecimal digits");
    }
    let magnitude = u128::from_str_radix(digits, radix).map_err(|_| OUT_OF_RANGE)?;
    let bound = if negative { 1 << (width - 1) } else { (1 << width) - 1 };
    if magnitude > bound {
        return Err(OUT_OF_RANGE);
    }
    // At most 64 bits, so nothing is cut off; a negative number is its two's complement.
    let bits = magnitude as u64;
    let bits = if negative { bits.wrapping_neg() } else { bits };
    Ok(if width == 32 { bits & u64::from(u32::MAX) } else { bits })
}

const OUT_OF_RANGE: &str = "it is out of range";

/// Layout of a float.
struct Format {
    width: u32,
    fraction_bits: u32,
    from_decimal: fn(&str) -> Option<u64>,
}

const F32: Format = Format {
    width: 32,
    fraction_bits: 23,
    from_decimal: |text| {
        text.parse::<f32>().ok().filter(|value| value.is_finite()).map(|v| v.to_bits().into())
    },
};
const F64: Format = Format {
    width: 64,
    fraction_bits: 52,
    from_decimal: |text| text.parse::<f64>().ok().filter(|value| value.is_finite()).map(f64::to_bits),
};

impl Format {
    fn sign(&self) -> u64 {
        1 << (self.width - 1)
    }

    fn fraction(&self) -> u64 {
        (1 << self.fraction_bits) - 1
    }

    /// The bits of infinity: exponent all ones, fraction zero.
    fn infinity(&self) -> u64 {
        (self.sign() - 1) & !self.fraction()
    }

    fn canonical_nan(&self) -> u64 {
        self.infinity() | 1 << (self.fraction_bits - 1)
    }
}

fn float(text: &str, format: &Format) -> Result<u64, &'static str> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (format.sign(), rest),
        None => (0, text),
    };
    if let Some(digits) = magnitude.strip_prefix("nan:0x") {
        let fraction = u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
        return match fraction {
            Some(fraction) if (1..=format.fraction()).contains(&fraction) => {
                Ok(sign | format.infinity() | fraction)
            }
            _ => Err("the bits of a NaN are hexadecimal, not 0, and no more than the significand holds"),
        };
    }
    match magnitude {
        "nan" => Ok(sign | format.canonical_nan()),
        "inf" => Ok(sign | format.infinity()),
        // The standard parser also knows other spellings of infinity and NaN; those have no digit.
        _ if magnitude.starts_with(|first: char| first.is_ascii_digit()) => (format.from_decimal)(magnitude)
            .map(|bits| sign | bits)
            .ok_or("expected a decimal number that is in range"),
        _ => Err("expected a decimal number, `inf`, `nan` or `nan:0x…`"),
    }
}

fn print_nan(bits: u64, format: &Format) -> Option<String> {
    let magnitude = bits & !format.sign();
    if magnitude <= format.infinity() {
        return None;
    }
    let sign = if bits & format.sign() == 0 { "" } else { "-" };
    Some(format!("{sign}nan:0x{:x}", bits & format.fraction()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(ty: NumericType, text: &str) -> String {
        print(&ty.parse(text).unwrap_or_else(|error| panic!("{error}"))).unwrap()
    }

    #[test]
    fn integers_are_taken_signed_unsigned_and_hexadecimal() {
        use NumericType::{I32, I64};
        for (ty, text, printed) in [
            (I32, "0", "0"),
            (I32, "-0", "0"),
            (I32, "-2147483648", "-2147483648"),
            (I32, "4294967295", "-1"),
            (I32, "0xffffffff", "-1"),
            (I32, "-0x1", "-1"),
            (I32, "007", "7"),
            (I64, "-9223372036854775808", "-9223372036854775808"),
            (I64, "18446744073709551615", "-1"),
            (I64, "0xFfFf", "65535"),
        ] {
            assert_eq!(round_trip(ty, text), printed, "{text}");
        }
    }

    #[test]
    fn integers_outside_of_their_type_are_refused() {
        use NumericType::{I32, I64};
        for (ty, text) in [
            (I32, "4294967296"),
            (I32, "-2147483649"),
            (I64, "18446744073709551616"),
            (I64, "-9223372036854775809"),
            (I64, "340282366920938463463374607431768211456"),
            (I32, ""),
            (I32, "-"),
            (I32, "0x"),
            (I32, "+1"),
            (I32, "--1"),
            (I32, "1.0"),
            (I32, " 1"),
            (I32, "1_000"),
            (I32, "a"),
        ] {
            assert!(ty.check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn floats_print_the_fewest_digits_that_keep_the_bits() {
        use NumericType::{F32, F64};
        for (ty, text, printed) in [
            (F64, "0", "0.0"),
            (F64, "-0", "-0.0"),
            (F64, "0.1", "0.1"),
            (F32, "0.1", "0.1"),
            (F64, "0.10000000149011612", "0.10000000149011612"),
            (F32, "16777217", "16777216.0"),
            (F64, "1e300", "1e300"),
            (F64, "5e-324", "5e-324"),
            (F64, "1.7976931348623157e308", "1.7976931348623157e308"),
            (F32, "3.4028235e38", "3.4028235e38"),
            (F64, "inf", "inf"),
            (F32, "-inf", "-inf"),
            (F32, "nan", "nan:0x400000"),
            (F64, "-nan", "-nan:0x8000000000000"),
            (F32, "nan:0x1", "nan:0x1"),
            (F64, "-nan:0xfffffffffffff", "-nan:0xfffffffffffff"),
        ] {
            assert_eq!(round_trip(ty, text), printed, "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_floats_are_refused() {
        use NumericType::{F32, F64};
        for (ty, text) in [
            (F64, ""),
            (F64, "-"),
            (F64, "+1"),
            (F64, ".5"),
            (F64, "infinity"),
            (F64, "NaN"),
            (F64, "1e999"),
            (F32, "1e39"),
            (F64, "0x10"),
            (F32, "nan:0x0"),
            (F32, "nan:0x800000"),
            (F32, "nan:0x"),
            (F32, "nan:0x+1"),
            (F64, "1.0f"),
        ] {
            assert!(ty.check(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_value_survives_its_text(bits: u64) {
            let low = bits as u32;
            let values = [
                (NumericType::I32, Val::I32(low.cast_signed())),
                (NumericType::I64, Val::I64(bits.cast_signed())),
                (NumericType::F32, Val::F32(low)),
                (NumericType::F64, Val::F64(bits)),
            ];
            for (ty, value) in values {
                let again = ty.parse(&print(&value).unwrap()).unwrap();
                prop_assert_eq!(format!("{value:?}"), format!("{again:?}"));
            }
        }
    }
}
