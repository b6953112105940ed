//! Two results side by side as text for people, and why one of them won. Pure: from the API's types to a string.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::terminal::plain;
use crate::protocol::api::{Comparison, Side};

/// Bytes of each side that are shown, from a little before the first difference on.
const SHOWN_BYTES: usize = 160;
/// Of these, before it.
const SHOWN_BEFORE: usize = 40;

/// The whole comparison.
pub fn comparison(found: &Comparison) -> String {
    let mut out = match found.first_difference {
        Some(at) => {
            format!("{} of run {}: the first byte that differs is at {at}\n", plain(&found.stream), found.run)
        }
        None => format!("{} of run {}: equal\n", plain(&found.stream), found.run),
    };
    for of in [&found.left, &found.right] {
        out.push_str(&side(of, found.first_difference));
    }
    let more = if found.differing_more { ", and more" } else { "" };
    let mut line = |name: &str, text: &str| out.push_str(&format!("{name:<10}{}\n", plain(text)));
    if !found.differing.is_empty() {
        line("differing", &format!("{}{more}", found.differing.join(", ")));
    }
    line("rule", &found.rule);
    if let Some(arbiter) = &found.arbiter {
        let numbers: Vec<String> = arbiter.agreed_with.iter().map(ToString::to_string).collect();
        let results: Vec<String> = arbiter.results.iter().map(crate::digest::Digest::short).collect();
        let agreed = match (results.len(), numbers.is_empty()) {
            (1, false) => format!("agrees with attempt {}", numbers.join(", ")),
            (1, true) => "agrees with no attempt".to_owned(),
            _ => "does not agree with itself".to_owned(),
        };
        line("arbiter", &format!("{} executions named {}: {agreed}", arbiter.executions, results.join(", ")));
    }
    for vote in &found.outvoted {
        let blamed = if vote.blamed { "blamed" } else { "not blamed" };
        line(&vote.worker.to_string(), &format!("attempt {}, {blamed}: {}", vote.attempt, vote.why));
    }
    out
}

fn side(side: &Side, at: Option<u64>) -> String {
    let what = match side.digest {
        Some(digest) => format!("{} bytes, {}", side.size, digest.short()),
        None => "no such file".to_owned(),
    };
    let mut out = format!(
        "attempt {} on {}: {}; it {}\n",
        side.attempt,
        side.worker,
        what,
        plain(&side.outcome.to_string())
    );
    if let (Some(window), Some(at)) = (&side.window, at) {
        let bytes = BASE64.decode(&window.base64).unwrap_or_default();
        let from =
            usize::try_from(at.saturating_sub(window.offset)).unwrap_or(0).saturating_sub(SHOWN_BEFORE);
        let shown = bytes.get(from..).unwrap_or_default();
        let shown = &shown[..shown.len().min(SHOWN_BYTES)];
        out.push_str(&format!("    {}\n", readable(shown)));
    }
    out
}

/// Text as it is, with `\n` and the like written out; other bytes as `\x00`.
fn readable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_and_the_reasons_are_shown_without_escapes() {
        let side = |attempt: u32, text: &str| {
            serde_json::json!({
                "attempt": attempt, "worker": format!("w{attempt}"), "result": format!("sha256:{}", "0".repeat(64)),
                "outcome": {"kind": "exited", "code": 0}, "digest": format!("sha256:{}", "1".repeat(64)),
                "size": text.len(), "window": {"offset": 0, "base64": BASE64.encode(text)},
            })
        };
        let found: Comparison = serde_json::from_value(serde_json::json!({
            "run": "01920000-0000-7000-8000-000000000001", "stream": "stdout", "equal": false, "first_difference": 3,
            "left": side(1, "two\n"), "right": side(2, "tw0\u{1b}[31m"), "differing": ["stdout"],
            "differing_more": false, "rule": "`quorum:3`: 2 equal votes decide",
            "arbiter": {"executions": 2, "agreed_with": [1, 3], "results": [format!("sha256:{}", "0".repeat(64))]},
            "outvoted": [{"attempt": 2, "worker": "w2", "result": format!("sha256:{}", "2".repeat(64)), "blamed": true,
                "why": "w2 alone named another result"}],
        }))
        .unwrap();
        let text = comparison(&found);
        for line in [
            "stdout of run 01920000-0000-7000-8000-000000000001: the first byte that differs is at 3\n",
            "attempt 1 on w1: 4 bytes, 11111111; it exited with code 0\n    two\\n\n",
            "    tw0\\x1b[31m\n",
            "differing stdout\n",
            "rule      `quorum:3`: 2 equal votes decide\n",
            "arbiter   2 executions named 00000000: agrees with attempt 1, 3\n",
            "w2        attempt 2, blamed: w2 alone named another result\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
