//! Probabilities as text with exactly one form: decimal fractions of up to nine digits.

/// 1, in parts per billion.
const ONE_PPB: u64 = 1_000_000_000;

/// A probability in parts per billion as a decimal fraction: `0.001`, `1`.
pub fn fraction(ppb: u64) -> String {
    let (whole, rest) = (ppb / ONE_PPB, ppb % ONE_PPB);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The probability, in parts per billion, that a text of that one form stands for.
pub fn parse_fraction(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if rest.len() > 9 || !is_number(whole) || !is_number(rest) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let rest: u64 = format!("{rest:0<9}").parse().ok()?;
    let ppb = whole.checked_mul(ONE_PPB)?.checked_add(rest)?;
    (ppb <= ONE_PPB && fraction(ppb) == text).then_some(ppb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_has_one_form_and_is_read_as_it_was_written() {
        for (ppb, text) in
            [(0, "0"), (1, "0.000000001"), (1_000, "0.000001"), (1_000_000, "0.001"), (999_900_000, "0.9999")]
        {
            assert_eq!(fraction(ppb), text);
            assert_eq!(parse_fraction(text), Some(ppb));
        }
        assert_eq!(parse_fraction("1"), Some(ONE_PPB));
        for wrong in
            ["", ".", ".5", "0.", "0.10", "00.1", "1.1", "2", "-0.1", "0.1e2", "0.0000000001", "+0.1"]
        {
            assert_eq!(parse_fraction(wrong), None, "{wrong}");
        }
    }
}
