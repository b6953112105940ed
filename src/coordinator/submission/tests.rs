use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::spec::Retry;

fn module() -> Digest {
    Digest::of(b"module")
}

/// The request with these fields and a module.
fn request(mut fields: Value) -> RunRequest {
    fields.as_object_mut().unwrap().entry("module").or_insert_with(|| json!(module()));
    serde_json::from_value(fields).unwrap()
}

fn now() -> jiff::Timestamp {
    "2026-07-01T12:00:00.123456Z".parse().unwrap()
}

fn check(fields: Value) -> Result<Checked, Invalid> {
    prepare(&request(fields), None, now())
}

#[test]
fn a_request_of_nothing_but_a_module_has_every_default() {
    let checked = check(json!({})).unwrap();
    assert_eq!(*checked.prepared.spec, RunSpec::new(module()));
    assert_eq!(checked.prepared.run_key, RunSpec::new(module()).key());
    assert_eq!(checked.prepared.policy, Policy::default());
    assert!(checked.prepared.blobs.is_empty() && checked.prepared.idempotency.is_none());
    assert!(!checked.prepared.live);
    assert_eq!(checked.wait, None);
}

#[test]
fn explicit_nulls_and_defaults_give_the_same_run_key() {
    let spelled = json!({
        "entry": "_start", "args": [], "env": {}, "stdin": {"text": ""}, "files": {}, "profile": "det-1",
        "clock": "2026-01-01T01:00:00+01:00", "seed": 0,
        "limits": {"memory_bytes": 268435456, "output_bytes": 16777216, "fuel": null}, "deadline_ms": null,
    });
    assert_eq!(check(spelled).unwrap().prepared.run_key, check(json!({})).unwrap().prepared.run_key);
}

#[test]
fn a_callback_is_taken_in_its_normal_form_and_only_of_durable_runs() {
    let callback = |url: &str| json!({"callback": {"url": url}});
    let taken =
        check(callback("HTTPS://Example.org:443/hook?x=1")).unwrap().prepared.policy.callback.unwrap();
    assert_eq!(&*taken.url, "https://example.org/hook?x=1");
    let refused = check(callback("ftp://example.org/")).unwrap_err();
    assert_eq!((refused.code, refused.pointer.as_str()), (ProblemCode::CallbackRefused, "/callback/url"));
    assert!(check(callback("https://ada:pw@example.org/")).unwrap_err().detail.contains("password"));
    let unkept = json!({"callback": {"url": "https://example.org/"}, "durable": false, "wait_ms": 1});
    let refused = check(unkept).unwrap_err();
    assert_eq!((refused.code, refused.pointer.as_str()), (ProblemCode::InvalidField, "/callback"));
    // another receiver makes another request of an Idempotency-Key
    let key =
        |url| prepare(&request(callback(url)), Some("k"), now()).unwrap().prepared.idempotency.unwrap().1;
    assert_ne!(key("https://example.org/"), key("https://example.com/"));
}

#[test]
fn every_field_reaches_spec_or_policy() {
    let blob = Digest::of(b"blob");
    let checked = check(json!({
        "entry": "fib", "args": ["-n", "3"], "env": {"LANG": "C"}, "stdin": {"base64": "aGVsbG8="},
        "files": {"/data/a.csv": {"digest": blob}, "/data/b": {"text": "b"}, "/src": {"tree": blob}},
        "clock": "now", "seed": 7, "limits": {"fuel": 5, "file_count": 1},
        "verify": {"policy": "quorum", "n": 3}, "retry": "never", "attempts_max": 1,
        "placement": {"mode": "labels", "labels": {"zone": "a"}}, "timeout_ms": 1, "deadline_ms": 2,
        "priority": -128, "wait_ms": 10000, "durable": false, "cache": "off", "live": true,
    }))
    .unwrap();
    let Prepared { spec, policy, blobs, live, .. } = checked.prepared;
    assert_eq!((spec.entry.as_str(), spec.args.len(), spec.env["LANG"].as_str()), ("fib", 2, "C"));
    assert_eq!(spec.stdin, Digest::of(b"hello"));
    let files: Vec<_> = spec.files.iter().map(|(path, input)| (path.as_str(), input.clone())).collect();
    let expected = [
        ("/data/a.csv", FileInput::Blob(blob)),
        ("/data/b", FileInput::Blob(Digest::of(b"b"))),
        ("/src", FileInput::Tree(blob)),
    ];
    assert_eq!(files, expected);
    assert_eq!((spec.clock, spec.seed, spec.limits.fuel, spec.limits.file_count), (now(), 7, Some(5), 1));
    assert_eq!(
        (policy.verify, policy.retry, policy.attempts_max),
        (Verify::Quorum { n: 3 }, Retry::Never, 1)
    );
    let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    assert_eq!(policy.placement, Placement::Labels { labels });
    assert_eq!((policy.timeout_ms, policy.deadline_ms, policy.priority), (1, Some(2), -128));
    assert!(!policy.durable && live);
    assert_eq!(checked.wait, Some(Duration::from_secs(10)));
    let inline: BTreeMap<_, _> = blobs.into_iter().collect();
    assert_eq!(inline.len(), 2);
    assert_eq!(inline[&Digest::of(b"hello")], "hello");
    assert_eq!(inline[&Digest::of(b"b")], "b");
}

#[test]
fn a_refusal_names_field_value_and_range() {
    let long = "x".repeat(ARGS_BYTES_MAX);
    let cases = [
        (
            json!({"seed": 1u64 << 53}),
            "/seed",
            "9007199254740992 is out of range: it must be from 0 to 9007199254740991",
        ),
        (
            json!({"limits": {"memory_bytes": 1}}),
            "/limits/memory_bytes",
            "1 is out of range: it must be from 65536 to",
        ),
        (json!({"limits": {"memory_bytes": (4u64 << 30) + 1}}), "/limits/memory_bytes", "4294967297"),
        (json!({"limits": {"output_bytes": (1u64 << 30) + 1}}), "/limits/output_bytes", "0 to 1073741824"),
        (json!({"limits": {"file_bytes": u64::MAX}}), "/limits/file_bytes", "0 to 1073741824"),
        (json!({"limits": {"file_count": 65537}}), "/limits/file_count", "0 to 65536"),
        (json!({"limits": {"fuel": 0}}), "/limits/fuel", "0 is out of range"),
        (
            json!({"verify": {"policy": "quorum", "n": 1}}),
            "/verify/n",
            "1 is out of range: it must be from 2 to 15",
        ),
        (json!({"verify": {"policy": "quorum", "n": 16}}), "/verify/n", "2 to 15"),
        (json!({"verify": {"policy": "quorum", "n": 258}}), "/verify/n", "258 is out of range"),
        (json!({"verify": {"policy": "once", "n": 2}}), "/verify/n", "`once` has one attempt"),
        (json!({"attempts_max": 0}), "/attempts_max", "1 to 20"),
        (json!({"timeout_ms": 0}), "/timeout_ms", "1 to 86400000"),
        (json!({"deadline_ms": 0}), "/deadline_ms", "0 is out of range"),
        (json!({"priority": 128}), "/priority", "128 is out of range: it must be from -128 to 127"),
        (json!({"wait_ms": 300_001}), "/wait_ms", "0 to 300000"),
        (json!({"durable": false}), "/wait_ms", "set `wait_ms`"),
        (json!({"entry": ""}), "/entry", "1 to 255"),
        (json!({"args": ["a", "b\0"]}), "/args/1", "NUL"),
        (json!({"args": [long]}), "/args", "131072 bytes together"),
        (json!({"env": {"A": long}}), "/env", "131072 bytes together"),
        (json!({"env": {"": "x"}}), "/env/", "not empty"),
        (json!({"env": {"a/b=": "x"}}), "/env/a~1b=", "neither `=`"),
        (json!({"stdin": {"base64": "a"}}), "/stdin/base64", "no standard base64"),
        (json!({"files": {"/a/../b": {"text": ""}}}), "/files/~1a~1..~1b", "`..`"),
        (json!({"files": {"a": {"text": ""}}}), "/files/a", "must be absolute"),
        (json!({"files": {"/tmp": {"text": ""}}}), "/files/~1tmp", "directory of every run"),
        (json!({"files": {"/out": {"digest": module()}}}), "/files/~1out", "directory of every run"),
        (json!({"files": {"/a": {"base64": "?"}}}), "/files/~1a/base64", "base64"),
        (json!({"files": {"/a": {"text": ""}, "/a/b/c": {"text": ""}}}), "/files/~1a~1b~1c", "below `/a`"),
        (json!({"clock": "1969-12-31T23:59:59Z"}), "/clock", "between 1970-01-01"),
        (json!({"clock": "2600-01-01T00:00:00Z"}), "/clock", "2554"),
        (json!({"placement": {"mode": "any", "labels": {}}}), "/placement/labels", "takes no labels"),
        (json!({"placement": {"mode": "labels"}}), "/placement/labels", "1 to 16"),
        (json!({"placement": {"mode": "labels", "labels": {"a": ""}}}), "/placement/labels/a", "1 to 63"),
    ];
    for (fields, pointer, words) in cases {
        let refusal = check(fields.clone()).unwrap_err();
        assert_eq!(refusal.code, ProblemCode::InvalidField, "{refusal}");
        assert_eq!(refusal.pointer, pointer, "{refusal}");
        assert!(refusal.detail.contains(words), "{refusal} should say {words}");
    }
}

#[test]
fn the_largest_allowed_values_pass() {
    let checked = check(json!({
        "seed": INTEGER_MAX, "clock": "2554-07-21T23:34:33Z", "attempts_max": ATTEMPTS_MAX,
        "timeout_ms": TIMEOUT_MS_MAX, "deadline_ms": DEADLINE_MS_MAX, "priority": 127, "wait_ms": WAIT_MS_MAX,
        "verify": {"policy": "quorum", "n": Verify::QUORUM_MAX},
        "limits": {
            "memory_bytes": Limits::MAX.memory_bytes, "output_bytes": Limits::MAX.output_bytes,
            "file_bytes": Limits::MAX.file_bytes, "file_count": Limits::MAX.file_count, "fuel": INTEGER_MAX,
        },
    }))
    .unwrap();
    assert_eq!(checked.prepared.spec.limits, Limits::MAX);
}

#[test]
fn too_many_files_are_refused_as_a_whole() {
    let files: serde_json::Map<_, _> =
        (0..=FILES_MAX).map(|index| (format!("/f{index}"), json!({"digest": Digest::EMPTY}))).collect();
    let refusal = check(json!({"files": files})).unwrap_err();
    assert_eq!(
        (refusal.pointer.as_str(), refusal.detail.contains("1025 inputs")),
        ("/files", true),
        "{refusal}"
    );
}

#[test]
fn what_is_planned_is_told_apart_from_what_is_wrong() {
    let not_there = ProblemCode::PolicyNotAvailable;
    for (fields, code, pointer) in [
        (json!({"verify": {"policy": "standard", "n": 2}}), ProblemCode::InvalidField, "/verify/n"),
        (json!({"verify": {"policy": "high", "n": 2}}), ProblemCode::InvalidField, "/verify/n"),
        (json!({"placement": {"mode": "primary"}}), not_there, "/placement/mode"),
        (json!({"function": "resize"}), ProblemCode::NotAvailable, "/function"),
    ] {
        let refusal = check(fields).unwrap_err();
        assert_eq!((refusal.code, refusal.pointer.as_str()), (code, pointer));
    }
    let refusal = prepare(&RunRequest::default(), None, now()).unwrap_err();
    assert_eq!((refusal.code, refusal.pointer.as_str()), (ProblemCode::InvalidField, "/module"));
}

#[test]
fn an_idempotency_key_goes_with_the_digest_of_what_determines_the_run() {
    let keyed = |fields: Value| {
        let checked = prepare(&request(fields), Some("key 1"), now()).unwrap();
        checked.prepared.idempotency.unwrap()
    };
    let (key, plain) = keyed(json!({}));
    assert_eq!(key, "key 1");
    assert_eq!(
        keyed(json!({"wait_ms": 5, "deadline_ms": null})).1,
        plain,
        "waiting does not make another run"
    );
    assert_ne!(keyed(json!({"seed": 1})).1, plain);
    assert_ne!(keyed(json!({"timeout_ms": 1})).1, plain);

    for key in ["", "a\nb", "ä", &"k".repeat(256)] {
        let refusal = prepare(&request(json!({})), Some(key), now()).unwrap_err();
        assert_eq!(refusal.code, ProblemCode::InvalidParameter);
        assert_eq!(refusal.pointer, "Idempotency-Key");
    }
    let volatile = request(json!({"durable": false, "wait_ms": 1}));
    assert_eq!(prepare(&volatile, Some("k"), now()).unwrap_err().pointer, "/durable");
}

#[test]
fn an_empty_standard_input_is_the_empty_blob_but_an_empty_file_is_sent() {
    for stdin in [json!({"text": ""}), json!({"base64": ""})] {
        let checked = check(json!({"stdin": stdin})).unwrap();
        assert_eq!(checked.prepared.spec.stdin, Digest::EMPTY);
        assert!(checked.prepared.blobs.is_empty());
    }
    let checked = check(json!({"files": {"/empty": {"text": ""}}})).unwrap();
    assert_eq!(checked.prepared.blobs, [(Digest::EMPTY, Bytes::new())]);
}

#[test]
fn an_input_below_another_is_found_whatever_lies_between() {
    let files = |paths: &[&str]| -> BTreeMap<GuestPath, FileInput> {
        paths.iter().map(|path| (path.parse().unwrap(), FileInput::Blob(Digest::EMPTY))).collect()
    };
    for (paths, expected) in [
        (&["/a", "/a-b", "/a.b", "/a/b"][..], Some(("/a", "/a/b"))),
        (&["/a", "/a b/c", "/a b", "/ab"], Some(("/a b", "/a b/c"))),
        (&["/x/y", "/x/y/z/w", "/x/y/z/v"], Some(("/x/y", "/x/y/z/v"))),
        (&["/a", "/ab", "/b/a", "/b/ab"], None),
        (&[], None),
    ] {
        let files = files(paths);
        let found = nested(&files).map(|(above, path)| (above.as_str(), path.as_str()));
        assert_eq!(found, expected, "{paths:?}");
    }
}

#[test]
fn as_many_deep_inputs_as_a_run_takes_are_checked_at_once() {
    let deep = |number: usize| format!("{}/{number:04}", "/a".repeat(2_045));
    let files: serde_json::Map<_, _> =
        (0..FILES_MAX).map(|number| (deep(number), json!({"digest": Digest::EMPTY}))).collect();
    let began = Instant::now();
    check(json!({"files": files})).unwrap();
    // Far above what it takes, and far below what a look at each of two million directories takes.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
