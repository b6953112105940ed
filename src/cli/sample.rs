//! Values for tests.

use crate::digest::Digest;
use crate::protocol::api::{Module, Run};

/// A run that two workers agreed on.
pub fn run() -> Run {
    let digest = Digest::of(b"hello");
    let id = "01920000-0000-7000-8000-000000000001";
    let attempt = |number: u32| {
        serde_json::json!({
            "id": format!("{id}.{number}"), "number": number, "worker": format!("w{number}"), "state": "voted",
            "result": digest, "outcome": {"kind": "exited", "code": 0}, "won": true, "fault": null, "assigned_at": "2026-01-01T00:00:00Z",
            "started_at": "2026-01-01T00:00:00.000500Z", "ended_at": "2026-01-01T00:00:00.002Z", "cpu_ms": 1.2,
        })
    };
    let run = serde_json::json!({
        "id": id, "state": "succeeded", "reason": null, "module": digest, "run_key": digest, "revision": 1,
        "outcome": {"kind": "exited", "code": 0}, "verdict": {"kind": "agreed", "votes": 2, "dissenters": []},
        "result": digest, "cached": false, "stdout": {"digest": digest, "size": 5, "text": "hello"},
        "stderr": {"digest": Digest::EMPTY, "size": 0}, "files": [], "fuel_used": null,
        "attempts": [attempt(1), attempt(2)],
        "explain": [{"at": "2026-01-01T00:00:00.002Z", "text": "two equal votes"}],
        "spec": {
            "entry": "_start", "args": [], "env": {}, "stdin": Digest::EMPTY, "files": {}, "profile": "det-1",
            "clock": "2026-01-01T00:00:00Z", "seed": 0,
            "limits": {"memory_bytes": 1, "output_bytes": 1, "file_bytes": 1, "file_count": 1, "fuel": null},
        },
        "policy": {
            "verify": {"policy": "quorum", "n": 2}, "retry": "reassign", "attempts_max": 3,
            "placement": {"mode": "any"}, "timeout_ms": 30000, "deadline_ms": null, "priority": 0, "durable": true,
        },
        "rerun_of": null, "created_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:00.003Z",
    });
    serde_json::from_value(run).unwrap()
}

/// A module that may run.
pub fn module() -> Module {
    let module = serde_json::json!({
        "digest": Digest::of(b"wasm"), "size": 1024, "name": "app.wasm", "state": "ready",
        "analysis": {
            "kind": "command", "wasi": "preview1", "verifiable": true, "notes": [],
            "imports": [
                {"module": "wasi_snapshot_preview1", "name": "fd_write", "signature": "(i32) -> (i32)"},
            ],
            "exports": [{"name": "_start", "signature": "() -> ()"}],
        },
        "refusal": null, "quarantined": null, "verify": null, "created_at": "2026-01-01T00:00:00Z",
    });
    serde_json::from_value(module).unwrap()
}
