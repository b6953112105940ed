//! What goes to a terminal: tables, and guest output without its escape sequences.
//!
//! A guest may print bytes that move the cursor, set the title or answer queries into the user's shell; none of them
//! reaches a terminal unless it is asked for (`--raw`). Pipes and files get every byte as it is.

/// Removes terminal control from a stream of bytes, piece by piece.
///
/// Kept: printable text, newline, tab, carriage return. Removed: every other C0 control, the C1 controls (as UTF-8), and
/// whole escape sequences (CSI, OSC, DCS and their like, by ECMA-48). Bytes that are no UTF-8 become U+FFFD, because an
/// 8-bit terminal could take them for C1 controls.
#[derive(Debug, Default)]
pub struct Sanitizer {
    state: State,
    /// The bytes of a UTF-8 character that is not whole yet.
    partial: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Text.
    #[default]
    Ground,
    /// After ESC: the next byte says what it is.
    Escape,
    /// In a control sequence, which ends with a byte from `@` to `~`.
    Control,
    /// In a control string, which ends with BEL or ST.
    String,
    /// After ESC in a control string.
    StringEscape,
}

impl Sanitizer {
    /// The text of the next piece; what a later piece must complete is kept back.
    pub fn clean(&mut self, piece: &[u8]) -> String {
        let mut pending = std::mem::take(&mut self.partial);
        pending.extend_from_slice(piece);
        let mut out = String::with_capacity(pending.len());
        let mut rest = pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.feed(text, &mut out);
                    return out;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    self.feed(std::str::from_utf8(valid).unwrap_or_default(), &mut out);
                    let Some(length) = error.error_len() else {
                        self.partial = invalid.to_vec();
                        return out;
                    };
                    self.feed("\u{fffd}", &mut out);
                    rest = &invalid[length..];
                }
            }
        }
    }

    fn feed(&mut self, text: &str, out: &mut String) {
        for c in text.chars() {
            self.state = match (self.state, c) {
                // A newline is never part of a sequence: an open one must not swallow the rest of the output.
                (_, '\n') => {
                    out.push(c);
                    State::Ground
                }
                (State::String, '\u{7}' | '\u{9c}') | (State::StringEscape, '\\') => State::Ground,
                (State::String, '\u{1b}') => State::StringEscape,
                (State::String, _) => State::String,
                (_, '\u{1b}') => State::Escape,
                (_, '\u{9b}') | (State::Escape, '[') => State::Control,
                (_, '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}')
                | (State::Escape | State::StringEscape, 'P' | 'X' | ']' | '^' | '_') => State::String,
                (State::Escape, ' '..='/') => State::Escape,
                (State::Control, '@'..='~') | (State::Escape | State::StringEscape, _) => State::Ground,
                (State::Control, _) => State::Control,
                (State::Ground, _) => {
                    if !c.is_control() || matches!(c, '\t' | '\r') {
                        out.push(c);
                    }
                    State::Ground
                }
            };
        }
    }
}

/// A whole text without terminal control, on one line.
pub fn plain(text: &str) -> String {
    Sanitizer::default().clean(text.as_bytes()).replace(['\n', '\r', '\t'], " ")
}

/// Aligned columns, two spaces apart, without trailing spaces; each row has as many cells as there are headers.
pub fn table<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headers.map(|header| header.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in std::iter::once(&headers.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{:width$}  ", plain(cell)));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Bytes for people: `512 B`, `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Milliseconds for people: `0.4 ms`, `830 ms`, `12.4 s`, `3 min 20 s`, `5 h 12 min`, `7 d 0 h`.
pub fn duration(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1_000.0 {
        format!("{ms:.0} ms")
    } else if ms < 60_000.0 {
        format!("{:.1} s", ms / 1_000.0)
    } else {
        let seconds = (ms / 1_000.0) as u64;
        let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
        match (hours, days) {
            (0, _) => format!("{minutes} min {} s", seconds % 60),
            (_, 0) => format!("{hours} h {} min", minutes % 60),
            _ => format!("{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(bytes: &[u8]) -> String {
        Sanitizer::default().clean(bytes)
    }

    #[test]
    fn text_stays_and_control_goes() {
        let cases: [(&[u8], &str); 9] = [
            ("naïve 日本\t\r\n".as_bytes(), "naïve 日本\t\r\n"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1bP1$r0m\x1b\\x", "x"),
            (b"a\x08\x07\x00b\x7f", "ab"),
            ("\u{9b}31mred \u{9d}0;t\u{9c}x".as_bytes(), "red x"),
            (b"\x1b(Bplain \x1bcreset", "plain reset"),
            (b"8-bit \x9b31m", "8-bit \u{fffd}31m"),
        ];
        for (bytes, text) in cases {
            assert_eq!(clean(bytes), text, "{bytes:?}");
        }
    }

    #[test]
    fn a_sequence_or_character_may_be_cut_anywhere() {
        let bytes = "a\u{1b}[1;31mé\u{1b}]0;x\u{7}日\u{9b}2Jz".as_bytes();
        for cut in 0..=bytes.len() {
            let mut sanitizer = Sanitizer::default();
            let text = sanitizer.clean(&bytes[..cut]) + &sanitizer.clean(&bytes[cut..]);
            assert_eq!(text, "aé日z", "cut at {cut}");
        }
    }

    #[test]
    fn an_open_sequence_does_not_swallow_the_following_lines() {
        assert_eq!(clean(b"\x1b]0;never closed\nnext line\n"), "\nnext line\n");
    }

    #[test]
    fn columns_are_aligned_and_cells_cannot_break_out() {
        let rows = [["a".into(), "1".into()], ["long\x1b[2J\nname".into(), "22".into()]];
        assert_eq!(table(["NAME", "N"], &rows[..1]), "NAME  N\na     1\n");
        let lines = table(["NAME", "N"], &rows);
        assert_eq!(lines.lines().count(), 3);
        assert!(!lines.contains('\x1b'));
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            (size(512), size(1536), size(5 << 30)),
            ("512 B".into(), "1.5 KiB".into(), "5.0 GiB".into())
        );
        assert_eq!(duration(0.42), "0.4 ms");
        assert_eq!(duration(830.4), "830 ms");
        assert_eq!(duration(12_440.0), "12.4 s");
        assert_eq!(duration(200_000.0), "3 min 20 s");
    }
}
