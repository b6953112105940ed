use crate::digest::Digest;
use serde_json::{Value, json};

use super::*;
use crate::result::{Outcome, OutputRef, RunState, VerdictKind};

fn digest() -> Digest {
    Digest::of(b"x")
}

fn refused<T: serde::de::DeserializeOwned>(value: Value) -> String {
    match serde_json::from_value::<T>(value.clone()) {
        Ok(_) => panic!("{value} was taken"),
        Err(error) => error.to_string(),
    }
}

/// The request of the design document, every field of it.
fn designed_request() -> Value {
    json!({
        "module": digest(), "entry": "_start", "args": ["-n", "3"], "env": {"LANG": "C"},
        "stdin": {"text": "…"}, "files": {"/data/a.csv": {"digest": digest()}},
        "profile": "det-1", "clock": "2026-01-01T00:00:00Z", "seed": 7,
        "limits": {"memory_bytes": 268435456, "output_bytes": 16777216, "fuel": null},
        "verify": {"policy": "quorum", "n": 3}, "retry": "reassign", "attempts_max": 3, "placement": {"mode": "any"},
        "timeout_ms": 30000, "wait_ms": 10000, "durable": true, "cache": "use"
    })
}

#[test]
fn the_designed_request_is_taken_and_written_back_the_same() {
    let request: RunRequest = serde_json::from_value(designed_request()).unwrap();
    let mut written = serde_json::to_value(&request).unwrap();
    // a null is the same as a missing field, and the shorter one is written
    written["limits"]["fuel"] = Value::Null;
    assert_eq!(written, designed_request());
}

#[test]
fn nothing_is_written_of_a_request_that_asks_for_nothing() {
    let request: RunRequest = serde_json::from_value(json!({"module": digest()})).unwrap();
    assert_eq!(serde_json::to_value(&request).unwrap(), json!({"module": digest()}));
    assert_eq!(request, RunRequest { module: Some(digest()), ..RunRequest::default() });
}

#[test]
fn an_input_has_exactly_one_form() {
    for (form, input) in [
        (json!({"text": "a"}), InputFile::Text("a".into())),
        (json!({"base64": "YQ=="}), InputFile::Base64("YQ==".into())),
        (json!({"digest": digest()}), InputFile::Digest(digest())),
        (json!({"tree": digest()}), InputFile::Tree(digest())),
    ] {
        assert_eq!(serde_json::from_value::<InputFile>(form.clone()).unwrap(), input);
        assert_eq!(serde_json::to_value(&input).unwrap(), form);
    }
    for wrong in [json!({}), json!({"text": "a", "digest": digest()}), json!({"text": "a", "base64": "a"})] {
        assert!(refused::<InputFile>(wrong.clone()).contains("exactly one of"));
        assert!(refused::<InputBytes>(wrong).contains("exactly one of"));
    }
    assert!(refused::<InputBytes>(json!({"tree": digest()})).contains("`text`, `base64` and `digest`"));
    assert!(refused::<InputFile>(json!({"zip": "a"})).contains("unknown field `zip`"));
}

#[test]
fn requests_refuse_unknown_fields_at_every_level() {
    for wrong in [
        json!({"modul": digest()}),
        json!({"limits": {"memory": 1}}),
        json!({"verify": {"policy": "once", "m": 1}}),
        json!({"placement": {"mode": "any", "label": {}}}),
    ] {
        assert!(refused::<RunRequest>(wrong).contains("unknown field"));
    }
    assert!(refused::<TokenRequest>(json!({"name": "a", "scopes": [], "x": 1})).contains("unknown field"));
    assert!(refused::<QuarantineRequest>(json!({"why": "a", "x": 1})).contains("unknown field"));
}

#[test]
fn times_are_written_in_utc_with_microseconds() {
    let at: Timestamp = serde_json::from_value(json!("2026-01-01T01:00:00+01:00")).unwrap();
    assert_eq!(serde_json::to_value(at).unwrap(), "2026-01-01T00:00:00.000000Z");
    assert_eq!(Timestamp::from(Time(1_767_225_600_000_001)).to_string(), "2026-01-01T00:00:00.000001Z");
    assert_eq!(Time::from(at), Time(1_767_225_600_000_000));
    assert_eq!(Time::from(Timestamp(jiff::Timestamp::MIN)), Time(0));
    assert!(refused::<Timestamp>(json!("2026-01-01")).contains("no RFC 3339 time"));
}

#[test]
fn a_clock_is_now_or_an_instant_with_all_its_digits() {
    assert_eq!(serde_json::from_value::<Clock>(json!("now")).unwrap(), Clock::Now);
    for text in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000001Z"] {
        let clock: Clock = serde_json::from_value(json!(text)).unwrap();
        assert_eq!(serde_json::to_value(clock).unwrap(), text);
    }
    assert!(refused::<Clock>(json!("noon")).contains("neither `now` nor"));
}

#[test]
fn small_outputs_are_text_or_base64_and_others_are_named_only() {
    let shown = |bytes: &[u8], at_hand| {
        let output = Output::new(OutputRef::of(bytes), at_hand);
        let mut value = serde_json::to_value(output).unwrap();
        value.as_object_mut().unwrap().remove("digest").unwrap();
        value
    };
    assert_eq!(shown(b"hello\n", Some(b"hello\n")), json!({"size": 6, "text": "hello\n"}));
    assert_eq!(shown(b"\xff", Some(b"\xff")), json!({"size": 1, "base64": "/w=="}));
    assert_eq!(shown(b"", Some(b"")), json!({"size": 0}));
    assert_eq!(shown(b"hello\n", None), json!({"size": 6}));
}

#[test]
fn the_designed_run_has_its_names() {
    let run: Run = serde_json::from_value(json!({
        "id": "01920000-0000-7000-8000-000000000001", "state": "succeeded", "reason": null, "module": digest(),
        "run_key": digest(), "revision": 1, "outcome": {"kind": "exited", "code": 0},
        "verdict": {"kind": "agreed", "votes": 3, "dissenters": ["w2"]}, "result": digest(), "cached": false,
        "stdout": {"digest": digest(), "size": 6, "text": "hello\n"}, "stderr": {"digest": digest(), "size": 0},
        "files": [{"path": "/out/plot.png", "digest": digest(), "size": 5120}],
        "fuel_used": null,
        "attempts": [{
            "id": "01920000-0000-7000-8000-000000000001.1", "number": 1, "worker": "w1", "state": "voted",
            "result": digest(), "outcome": {"kind": "exited", "code": 0}, "won": true, "fault": null, "assigned_at": "2026-01-01T00:00:00Z",
            "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z", "cpu_ms": 1.2
        }],
        "explain": [{"at": "2026-01-01T00:00:00Z", "text": "accepted"}],
        "spec": {
            "entry": "_start", "args": [], "env": {}, "stdin": digest(), "files": {}, "profile": "det-1",
            "clock": "2026-01-01T00:00:00Z", "seed": 0,
            "limits": {"memory_bytes": 1, "output_bytes": 1, "file_bytes": 1, "file_count": 1, "fuel": null}
        },
        "policy": {
            "verify": {"policy": "quorum", "n": 3}, "retry": "reassign", "attempts_max": 3,
            "placement": {"mode": "any"}, "timeout_ms": 30000, "deadline_ms": null, "priority": 0, "durable": true
        },
        "rerun_of": null, "created_at": "2026-01-01T00:00:00Z", "finished_at": null
    }))
    .unwrap();
    assert_eq!((run.state, run.verdict.kind), (RunState::Succeeded, VerdictKind::Agreed));
    assert_eq!(run.outcome, Some(Outcome::Exited { code: 0 }));
    assert_eq!(run.attempts[0].state, AttemptStateName::Voted);
    let again: Run = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
    assert_eq!(again, run);
}

#[test]
fn a_larger_scope_includes_the_smaller_ones_but_nobody_is_a_worker_by_it() {
    let includes = |scope: Scope| {
        let wanted = [Scope::Admin, Scope::Submit, Scope::Read, Scope::Worker].into_iter();
        wanted.filter(|wanted| scope.includes(*wanted)).map(Scope::name).collect::<Vec<_>>()
    };
    assert_eq!(includes(Scope::Admin), ["admin", "submit", "read"]);
    assert_eq!(includes(Scope::Submit), ["submit", "read"]);
    assert_eq!(includes(Scope::Read), ["read"]);
    assert_eq!(includes(Scope::Worker), ["worker"]);
    assert_eq!(Scope::of_name("submit"), Some(Scope::Submit));
    assert_eq!(Scope::of_name("root"), None);
}

#[test]
fn every_problem_code_writes_its_name() {
    let names: std::collections::BTreeSet<_> = ProblemCode::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), ProblemCode::ALL.len());
    for code in ProblemCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        assert!(
            (400..600).contains(&code.status()) && !code.title().is_empty() && !code.meaning().is_empty()
        );
    }
}
