//! What operators do from the command line: workers, tokens, blobs, calls.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Pool, eventually, guest};

/// A command beside the pool, with bytes for its standard input.
fn cli_with(pool: &Pool, args: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().env("LOCKSTEP_DATA", &pool.data).args(args);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // a command that does not read it may be gone already
    let writing = std::thread::spawn(move || drop(std::io::Write::write_all(&mut pipe, &stdin)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

fn cli(pool: &Pool, args: &[&str]) -> Output {
    cli_with(pool, args, b"")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_used_and_revoked() {
    let pool = Pool::start().await;
    let create = ["tokens", "create", "--name", "lab", "--scope", "worker", "--scope", "read"];
    let secret = text(&cli(&pool, &[&create[..], &["--domain", "rack-2", "--expires", "7d"]].concat()));
    let secret = secret.trim();
    assert!(secret.starts_with("lsk_"), "{secret}");
    let listed = text(&cli(&pool, &["tokens"]));
    assert!(listed.contains("rack-2, foreign") && !listed.contains(secret), "{listed}");
    let lab = |tokens: Value| {
        let tokens = tokens.as_array().unwrap().clone();
        tokens.into_iter().find(|token| token["name"] == "lab").unwrap()
    };
    let token = lab(json(&cli(&pool, &["tokens", "--json"])));
    assert_eq!(token["domain"], "rack-2");
    assert_eq!(token["last_used_at"], Value::Null);
    assert!(token["expires_at"].as_str() > token["created_at"].as_str(), "{token}");

    assert!(cli(&pool, &["workers", "--token", secret]).status.success());
    let token = lab(json(&cli(&pool, &["tokens", "--json"])));
    assert!(token["last_used_at"].is_string(), "{token}");

    let id = token["id"].to_string();
    assert!(cli(&pool, &["tokens", "revoke", &id]).status.success());
    assert!(complaint(&cli(&pool, &["workers", "--token", secret])).contains("(unauthorized)"));
    assert!(complaint(&cli(&pool, &["tokens", "revoke", &id])).contains("(not_found)"));

    for (wrong, words) in [
        (&["--scope", "worker", "--domain", "Rack 2"][..], "/domain: a trust domain has 1 to 64"),
        (&["--scope", "read", "--domain", "rack-2"], "/domain: only a token with the scope `worker`"),
        (&["--scope", "worker", "--foreign", "--owned"], "cannot be used with"),
        (&["--scope", "worker", "--foreign", "--domain", "local"], "/foreign: the operator's own machines"),
        (&["--scope", "everything"], "possible values: admin, submit, read, worker"),
        (&["--scope", "read", "--expires", "7"], "such as `30s`"),
    ] {
        let refused = complaint(&cli(&pool, &[&["tokens", "create", "--name", "x"][..], wrong].concat()));
        assert!(refused.contains(words), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_of_tokens_and_sessions_of_workers_outlive_the_process() {
    let mut pool = Pool::with(&["--workers", "3", "--slots", "1"]).await;
    let (_, workers) = pool.get("/v1/workers").await;
    assert_eq!(workers["items"].as_array().unwrap().len(), 3);
    for worker in workers["items"].as_array().unwrap() {
        assert_eq!((&worker["standing"], &worker["embedded"]), (&"active".into(), &true.into()));
        assert_eq!(worker["version"], env!("CARGO_PKG_VERSION"));
        assert!(worker["connected_at"].is_string() && worker["left_at"].is_null(), "{worker}");
    }
    assert!(pool.stop().success());

    // with one worker less, the third one is missed
    let (data, args) = (pool.data.clone(), ["--workers", "2", "--slots", "1"].map(str::to_owned).to_vec());
    let again = Pool::over(data, args, None).await;
    let gone = eventually("the third worker is listed as gone", async || {
        let (_, workers) = again.get("/v1/workers").await;
        let workers = workers["items"].as_array()?.clone();
        let gone = workers.into_iter().find(|worker| worker["name"] == "local-3")?;
        (gone["standing"] == "gone").then_some(gone)
    })
    .await;
    assert!(gone["left_at"].is_string() && gone["class"].is_string(), "{gone}");
    let id = gone["id"].as_str().unwrap();
    let listed = text(&cli(&again, &["workers"]));
    assert!(listed.contains("gone since "), "{listed}");
    let shown = text(&cli(&again, &["workers", "show", id]));
    assert!(shown.contains("place     embedded\n") && shown.contains("version   "), "{shown}");

    assert!(complaint(&cli(&again, &["workers", "drain", id])).contains("(worker_not_connected)"));
    assert!(cli(&again, &["workers", "quarantine", id, "--why", "it smoked"]).status.success());
    let quarantined = json(&cli(&again, &["workers", "show", id, "--json"]));
    assert_eq!(
        (&quarantined["standing"], &quarantined["why"]),
        (&"gone".into(), &"quarantined: it smoked".into())
    );
    assert!(cli(&again, &["workers", "readmit", id]).status.success());

    assert!(cli(&again, &["workers", "rm", id]).status.success());
    assert!(complaint(&cli(&again, &["workers", "show", id])).contains("(not_found)"));
    assert!(complaint(&cli(&again, &["workers", "rm", id])).contains("(not_found)"));
    let (_, tokens) = again.get("/v1/tokens").await;
    assert!(tokens["items"][0]["last_used_at"].is_string(), "{tokens}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_worker_is_drained_quarantined_readmitted_and_not_forgotten() {
    let pool = Pool::start().await;
    let (_, workers) = pool.get("/v1/workers").await;
    let id = workers["items"][0]["id"].as_str().unwrap();
    assert!(complaint(&cli(&pool, &["workers", "rm", id])).contains("(worker_connected)"));
    assert_eq!(json(&cli(&pool, &["workers", "drain", id, "--json"]))["standing"], "draining");
    assert_eq!(json(&cli(&pool, &["workers", "readmit", id, "--json"]))["standing"], "active");
    let quarantined = text(&cli(&pool, &["workers", "quarantine", id, "--why", "a test"]));
    assert!(quarantined.contains("quarantined: a test"), "{quarantined}");
    assert!(text(&cli(&pool, &["workers", "readmit", id])).contains("active"));
    assert!(complaint(&cli(&pool, &["workers", "show", "w99"])).contains("(not_found)"));
    assert!(complaint(&cli(&pool, &["workers", "quarantine", "w99", "--why", "x"])).contains("(not_found)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_go_up_and_come_back_checked() {
    let pool = Pool::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (small, large, back) = (dir.path().join("small"), dir.path().join("large"), dir.path().join("back"));
    std::fs::write(&small, "to be").unwrap();
    let bytes: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&large, &bytes).unwrap();
    let [small, large, back] = [&small, &large, &back].map(|path| path.to_str().unwrap());
    let digests = text(&cli(&pool, &["blobs", "put", small, large]));
    let digests: Vec<_> = digests.lines().collect();
    assert_eq!(digests.len(), 2);
    assert_eq!(json(&cli(&pool, &["blobs", "put", large, "--json"]))[0]["size"], 2_000_000);
    assert_eq!(text(&cli(&pool, &["blobs", "get", digests[0]])), "to be");
    let got = cli(&pool, &["blobs", "get", digests[1], "-o", back, "--json"]);
    assert_eq!(json(&got)["digest"], digests[1]);
    assert!(std::fs::read(back).unwrap() == bytes);
    let absent = format!("sha256:{}", "0".repeat(64));
    assert!(complaint(&cli(&pool, &["blobs", "get", &absent])).contains("(not_found)"));
    assert!(complaint(&cli(&pool, &["blobs", "get", digests[0], "--json"])).contains("--output"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_answers_with_what_was_agreed_on() {
    let pool = Pool::start().await;
    let digest = pool.push(guest("wordcount.wasm")).await;
    let called =
        cli_with(&pool, &["call", &digest, "--quorum", "3", "--", "-n", "1"], b"the cat and the dog\n");
    assert!(text(&called).contains("2 the\n"), "{called:?}");
    let called = json(&cli_with(&pool, &["call", &digest, "--once", "--json", "--", "-n", "1"], b"a b a\n"));
    assert!(called["stdout"]["text"].as_str().unwrap().contains("2 a\n"), "{called}");
    assert!(called["run"].is_string() && called["verdict"].is_string(), "{called}");

    let misbehave = pool.push(guest("misbehave.wasm")).await;
    // large enough not to travel with the submission
    let large: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let copied = cli_with(&pool, &["call", &misbehave, "--once", "--no-durable", "--", "stdin"], &large);
    assert!(copied.status.success() && copied.stdout == large, "{}", String::from_utf8_lossy(&copied.stderr));
    for (verb, code) in [(&["exit", "7"][..], 7), (&["trap"], 120)] {
        let ended = cli(&pool, &[&["call", misbehave.as_str(), "--"][..], verb].concat());
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert!(complaint(&ended).contains("`lockstep runs show "), "{ended:?}");
    }
    let absent = cli(&pool, &["call", "no-such-file.wasm"]);
    assert_eq!(absent.status.code(), Some(119), "{absent:?}");
}
