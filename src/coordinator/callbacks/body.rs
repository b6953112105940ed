//! What a callback says: the run as the API shows it, within bounds.
//!
//! Invariant: a body has at most [`BODY_BYTES_MAX`] bytes; what does not fit is left out by name, never cut in the middle.

use crate::core::Time;
use crate::protocol::api::{CallbackEvent, CallbackEventName, Output, Run};
use crate::store::CallbackId;

/// The longest body, in bytes: what common receivers take.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Outputs above this, in bytes of their text, are there by digest and size only.
const INLINE_BYTES_MAX: usize = 4 << 10;

/// What a delivery is about.
pub fn event_of(id: CallbackId) -> CallbackEventName {
    if id.revision > 1 { CallbackEventName::Corrected } else { CallbackEventName::Final }
}

/// The name of a delivery, which stays the same over all of its tries: what `webhook-id` says.
pub fn name_of(id: CallbackId) -> String {
    format!("{}_{}", id.run, id.revision)
}

/// The body of a delivery whose revision became final at `at`, with the run as it is shown now.
pub fn body(id: CallbackId, at: Time, mut data: Run) -> Vec<u8> {
    for output in [&mut data.stdout, &mut data.stderr].into_iter().flatten() {
        shorten(output);
    }
    let mut event = CallbackEvent { kind: event_of(id), timestamp: at.into(), data, omitted: Vec::new() };
    // the longest first that a receiver misses least
    /// Its name, and what empties it.
    type List = (&'static str, fn(&mut Run));
    let lists: [List; 6] = [
        ("explain", |run| run.explain.clear()),
        ("files", |run| run.files.clear()),
        ("attempts", |run| run.attempts.clear()),
        ("spec.files", |run| run.spec.files.clear()),
        ("spec.args", |run| run.spec.args.clear()),
        ("spec.env", |run| run.spec.env.clear()),
    ];
    let mut lists = lists.into_iter();
    loop {
        let body = serde_json::to_vec(&event).expect("a run has string keys and no failing impls");
        if body.len() <= BODY_BYTES_MAX {
            return body;
        }
        // what is left has bounds far below
        let Some((name, empty)) = lists.next() else { return body };
        empty(&mut event.data);
        event.omitted.push(name.to_owned());
    }
}

fn shorten(output: &mut Output) {
    output.text.take_if(|text| text.len() > INLINE_BYTES_MAX);
    output.base64.take_if(|text| text.len() > INLINE_BYTES_MAX);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::digest::Digest;
    use crate::id::RunId;

    const ID: CallbackId = CallbackId { run: RunId(0x0192_0000_0000_7000_8000_0000_0000_0001), revision: 1 };

    fn run(stdout: usize, notes: usize, arg: usize) -> Run {
        let digest = Digest::EMPTY;
        let note = json!({"at": "2026-01-01T00:00:00Z", "text": "x".repeat(1_000)});
        serde_json::from_value(json!({
            "id": ID.run, "state": "succeeded", "reason": null, "module": digest, "run_key": digest,
            "revision": 1, "outcome": {"kind": "exited", "code": 0},
            "verdict": {"kind": "agreed", "votes": 2, "dissenters": []}, "result": digest, "cached": false,
            "stdout": {"digest": digest, "size": stdout, "text": "o".repeat(stdout)},
            "stderr": {"digest": digest, "size": 3, "base64": "////"}, "files": [], "fuel_used": null,
            "attempts": [], "explain": vec![note; notes], "rerun_of": null,
            "created_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:00Z",
            "spec": {
                "entry": "_start", "args": ["\u{1}".repeat(arg)], "env": {}, "stdin": digest, "files": {},
                "profile": "det-1", "clock": "2026-01-01T00:00:00Z", "seed": 0,
                "limits": {"memory_bytes": 1, "output_bytes": 1, "file_bytes": 1, "file_count": 1, "fuel": null},
            },
            "policy": {
                "verify": {"policy": "once"}, "retry": "reassign", "attempts_max": 3, "placement": {"mode": "any"},
                "timeout_ms": 1, "deadline_ms": null, "priority": 0, "durable": true,
                "callback": {"url": "https://example.org/"},
            },
        }))
        .unwrap()
    }

    fn told(run: Run) -> Value {
        let body = body(ID, Time(1_000_000), run);
        assert!(body.len() <= BODY_BYTES_MAX, "{} bytes", body.len());
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_small_run_is_told_whole() {
        let told = told(run(4_096, 3, 1));
        assert_eq!(
            (&told["type"], &told["timestamp"]),
            (&json!("run.final"), &json!("1970-01-01T00:00:01.000000Z"))
        );
        assert_eq!(told["data"]["stdout"]["text"].as_str().unwrap().len(), 4_096);
        assert_eq!(told["data"]["stderr"]["base64"], "////");
        assert_eq!(told["data"]["explain"].as_array().unwrap().len(), 3);
        assert_eq!(told.get("omitted"), None);
    }

    #[test]
    fn what_is_long_is_left_out_by_name() {
        let large = told(run(4_097, 300, 1));
        assert_eq!(large["data"]["stdout"], json!({"digest": Digest::EMPTY, "size": 4_097}));
        assert_eq!((&large["omitted"], &large["data"]["explain"]), (&json!(["explain"]), &json!([])));
        // arguments of control characters are six times as long in JSON
        let largest = told(run(1, 300, 120_000));
        let omitted = json!(["explain", "files", "attempts", "spec.files", "spec.args"]);
        assert_eq!((&largest["omitted"], &largest["data"]["spec"]["args"]), (&omitted, &json!([])));
        assert_eq!(largest["data"]["stdout"]["text"], "o");
    }

    #[test]
    fn a_later_revision_is_a_correction_and_has_a_name_of_its_own() {
        let second = CallbackId { revision: 2, ..ID };
        assert_eq!(
            (event_of(ID), event_of(second)),
            (CallbackEventName::Final, CallbackEventName::Corrected)
        );
        assert_eq!(name_of(ID), "01920000-0000-7000-8000-000000000001_1");
        assert_ne!(name_of(ID), name_of(second));
    }
}
