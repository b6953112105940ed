//! Receipts: fetched from real pools, checked offline with the real command, executed again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::remote::{crew, empty_pool, worker_token};
use crate::support::{Pool, eventually, guest};

/// What the example of the documentation counts the words of.
const TEXT: &str = "to be or not to be\n";

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/prebuilt").join(name);
    path.to_str().unwrap().to_owned()
}

/// A command without any server, network or environment to find one in.
async fn offline(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().env("LOCKSTEP_DATA", "/nonexistent").args(args).stdin(Stdio::null());
    ended(command).await
}

/// A command beside the pool.
async fn cli(pool: &Pool, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().env("LOCKSTEP_DATA", &pool.data).args(args).stdin(Stdio::null());
    ended(command).await
}

async fn ended(mut command: Command) -> (i32, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A run of the word counter by a quorum of two or more.
async fn counted(pool: &Pool, n: u64) -> Value {
    let module = pool.push(guest("wordcount.wasm")).await;
    let request = json!({"module": module, "stdin": {"text": TEXT}, "verify": {"policy": "quorum", "n": n}});
    let run = pool.run(request).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    run
}

/// The bytes of a run's receipt.
async fn fetched(pool: &Pool, run: &Value) -> Vec<u8> {
    let path = format!("/v1/runs/{}/receipt", run["id"].as_str().unwrap());
    let response = pool.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap().to_vec()
}

/// Writes a file and gives its name.
fn file(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_receipt_of_an_embedded_pool_is_checked_and_executed_again_offline() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start().await;
    let run = counted(&pool, 3).await;
    let receipt = dir.path().join("run.receipt.json").to_str().unwrap().to_owned();
    let got = cli(&pool, &["receipt", run["id"].as_str().unwrap(), "-o", &receipt]).await;
    assert_eq!((got.0, got.1.as_str()), (0, ""), "{got:?}");
    let listed = cli(&pool, &["keys", "--json"]).await;
    assert_eq!(listed.0, 0, "{listed:?}");
    let keys = file(dir.path(), "keys.json", &listed.1);
    let key = parsed(&listed.1)["items"][0]["keyid"].as_str().unwrap().to_owned();
    let shown = cli(&pool, &["keys"]).await.1;
    assert!(shown.contains(&key), "{shown}");
    // what follows asks nobody
    pool.kill();

    let (code, text, _) = offline(&["verify", &receipt, "--keys", &keys]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("which you trust") && text.contains("quorum of 3: satisfied by 3"), "{text}");
    assert!(text.contains("they are its word"), "it says what is not proven: {text}");
    let (code, json, _) = offline(&["verify", &receipt, "--key", &key, "--json"]).await;
    let report = parsed(&json);
    assert_eq!((code, &report["valid"], &report["trust"]), (0, &json!(true), &json!("trusted")), "{report}");
    for field in ["result", "module", "run_key"] {
        assert_eq!(report[field], run[field]);
    }
    assert_eq!(report["votes"].as_array().unwrap().len(), 3);
    assert!(report["votes"].as_array().unwrap().iter().all(|vote| vote["signed"] == "for_receipt"));

    // without a key, and with somebody else's, it is consistent and no more
    let (code, text, note) = offline(&["verify", &receipt]).await;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("NOT known to be trusted") && note.contains("--any-key"), "{text} {note}");
    let other = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(offline(&["verify", &receipt, "--key", other]).await.0, 3);
    assert_eq!(offline(&["verify", &receipt, "--any-key"]).await.0, 0);
    assert_eq!(offline(&["verify", &receipt, "--any-key", "--key", &key]).await.0, 2);

    // one byte is enough
    let mut bytes = std::fs::read(&receipt).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let (code, _, why) = offline(&["verify", &file(dir.path(), "bad.json", bytes), "--key", &key]).await;
    assert_eq!(code, 1);
    assert!(why.contains("is no valid receipt"), "{why}");

    // executed again: its input is found by what it contains
    let module = example("wordcount.wasm");
    let replay = ["verify", &receipt, "--key", &key, "--replay", &module];
    let (code, _, why) = offline(&replay).await;
    assert_eq!(code, 2);
    assert!(why.contains("is missing: put it into --blobs DIR"), "{why}");
    let blobs = dir.path().join("inputs");
    std::fs::create_dir(&blobs).unwrap();
    file(&blobs, "whatever.txt", TEXT);
    let blobs = blobs.to_str().unwrap();
    let (code, json, why) = offline(&[&replay[..], &["--blobs", blobs, "--json"]].concat()).await;
    assert_eq!(code, 0, "{json} {why}");
    let replayed = &parsed(&json)["replay"];
    assert_eq!((&replayed["agrees"], &replayed["same_class"]), (&json!(true), &json!(true)), "{replayed}");
    assert_eq!(replayed["result"], run["result"]);
    // another module is not what the receipt is of
    let other = example("primes.wasm");
    let (code, text, _) = offline(&["verify", &receipt, "--key", &key, "--replay", &other]).await;
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("the receipt is of another module"), "{text}");
}

#[tokio::test]
async fn a_coordinator_that_lies_about_a_result_is_found_out_by_executing_again() {
    // its receipt is as valid as any: it holds the keys of its own workers
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start().await;
    let run = counted(&pool, 2).await;
    let lie = lockstep::receipt::make_key().unwrap();
    let checked = lockstep::receipt::check(&fetched(&pool, &run).await).unwrap();
    pool.kill();
    let mut predicate = checked.statement.predicate;
    let mut manifest = predicate.manifest.clone().unwrap();
    manifest.stdout = lockstep::result::OutputRef::of(b"42\n");
    predicate.result = lockstep::digest::Digest::of(&manifest.canonical());
    predicate.manifest = Some(manifest);
    for vote in &mut predicate.votes {
        let key = lockstep::receipt::make_key().unwrap();
        (vote.key, vote.result) = (lockstep::receipt::PublicKey::of(&key), predicate.result);
        let statement = vote.statement(predicate.run, predicate.run_key);
        vote.batch.signature =
            lockstep::receipt::Hex(lockstep::receipt::sign_one(&key, &statement).signature);
    }
    let statement = lockstep::receipt::Statement::new(predicate);
    let receipt = file(dir.path(), "lie.json", lockstep::receipt::seal(&lie, &statement.canonical()));
    assert_eq!(offline(&["verify", &receipt, "--any-key"]).await.0, 0);
    file(dir.path(), "text", TEXT);
    let blobs = dir.path().to_str().unwrap();
    let module = example("wordcount.wasm");
    let args = ["verify", &receipt, "--any-key", "--replay", &module, "--blobs", blobs];
    let (code, text, why) = offline(&args).await;
    assert_eq!(code, 4, "{text} {why}");
    assert!(text.contains("ANOTHER result") && text.contains("(stdout)"), "{text}");
}

#[tokio::test]
async fn remote_workers_have_signed_with_their_votes_and_may_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let pool = empty_pool(&[]).await;
    let mut workers = crew(&pool, dir.path(), &[&[], &[]]).await;
    let run = counted(&pool, 2).await;
    let first = fetched(&pool, &run).await;
    keep_example(&first);
    for worker in &mut workers {
        worker.signal("KILL");
        worker.ended().await;
    }
    for worker in &workers {
        eventually("a worker is forgotten", async || {
            let path = format!("/v1/workers/{}", worker.id);
            let response = pool.request(Method::DELETE, &path).send().await.unwrap();
            (response.status() == 204).then_some(())
        })
        .await;
    }
    let receipt = file(dir.path(), "r.json", fetched(&pool, &run).await);
    let (code, json, why) = offline(&["verify", &receipt, "--any-key", "--json"]).await;
    assert_eq!(code, 0, "{why}");
    let report = parsed(&json);
    let votes = report["votes"].as_array().unwrap();
    assert_eq!(votes.len(), 2);
    assert!(votes.iter().all(|vote| vote["signed"] == "with_vote" && vote["domain"] == "local"), "{report}");
    assert_ne!(votes[0]["key"], votes[1]["key"]);
    // the input comes from the server, because this asks for it
    let module = example("wordcount.wasm");
    let (code, text, why) =
        cli(&pool, &["verify", &receipt, "--any-key", "--replay", &module, "--fetch"]).await;
    assert_eq!(code, 0, "{text} {why}");
    assert!(text.contains("executed again here: the same result"), "{text}");
}

/// Renews the example of the documentation, if that is asked for.
fn keep_example(receipt: &[u8]) {
    if std::env::var_os("UPDATE_RECEIPT_EXAMPLE").is_some() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/receipt.example.json");
        std::fs::write(path, receipt).unwrap();
    }
}

#[tokio::test]
async fn a_lie_is_in_the_receipt_with_its_liars_signature() {
    let dir = tempfile::tempdir().unwrap();
    let pool = empty_pool(&[]).await;
    let kinds: [&[&str]; 3] = [&[], &[], &["--unsafe-misbehave", "lie"]];
    let workers = crew(&pool, dir.path(), &kinds).await;
    let run = counted(&pool, 3).await;
    let receipt = file(dir.path(), "r.json", fetched(&pool, &run).await);
    let (code, json, why) = offline(&["verify", &receipt, "--any-key", "--json"]).await;
    assert_eq!(code, 0, "{why}");
    let report = parsed(&json);
    assert_eq!(report["votes"].as_array().unwrap().len(), 2);
    assert_eq!(report["dissents"][0]["worker"], workers[2].id.as_str(), "{report}");
    assert_ne!(report["dissents"][0]["result"], report["result"]);
    assert_eq!(report["dissents"][0]["signed"], "with_vote");
}

#[tokio::test]
async fn a_rotated_key_leaves_old_receipts_valid_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::start().await;
    let run = counted(&pool, 2).await;
    let keys_before = file(dir.path(), "before.json", cli(&pool, &["keys", "--json"]).await.1);
    let old = file(dir.path(), "old.json", fetched(&pool, &run).await);
    let rotated = cli(&pool, &["keys", "rotate", "--json"]).await;
    assert_eq!(rotated.0, 0, "{rotated:?}");
    let new = file(dir.path(), "new.json", fetched(&pool, &run).await);
    pool.kill();
    pool.start_again();
    let listed = cli(&pool, &["keys", "--json"]).await.1;
    assert_eq!(parsed(&listed), parsed(&rotated.1));
    let items = parsed(&listed)["items"].as_array().unwrap().clone();
    assert_eq!(items.len(), 2);
    assert!(items[0]["valid_until"].is_null());
    assert_eq!(items[1]["valid_until"], items[0]["valid_from"]);
    let keys_after = file(dir.path(), "after.json", &listed);
    let again = file(dir.path(), "again.json", fetched(&pool, &run).await);
    for (receipt, keys, expected) in [
        (&old, &keys_before, 0),
        (&old, &keys_after, 0),
        (&new, &keys_after, 0),
        (&again, &keys_after, 0),
        (&new, &keys_before, 3),
    ] {
        let (code, text, why) = offline(&["verify", receipt, "--keys", keys]).await;
        assert_eq!(code, expected, "{receipt} {keys}: {text} {why}");
    }
    // a key signs only in its time
    let closed = listed.replace("null", "\"2001-01-01T00:00:00Z\"");
    let closed = file(dir.path(), "closed.json", closed);
    let (code, text, _) = offline(&["verify", &new, "--keys", &closed]).await;
    assert_eq!(code, 3);
    assert!(text.contains("did NOT sign at that time"), "{text}");
    // a restart signs the same votes with the same keys
    let votes = |path: &str| {
        let checked = lockstep::receipt::check(&std::fs::read(path).unwrap()).unwrap();
        checked.statement.predicate.votes
    };
    assert_eq!(votes(&old), votes(&again));
}

#[tokio::test]
async fn what_has_no_receipt_says_why() {
    let pool = Pool::with(&["--workers", "2", "--slots", "1"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let no_receipt = async |id: &str| {
        let (status, problem) = pool.get(&format!("/v1/runs/{id}/receipt")).await;
        assert_eq!((status, &problem["code"]), (409, &json!("no_receipt")), "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    };
    let long = json!({"module": module, "args": ["work", "100000000000"], "verify": {"policy": "once"}});
    let (_, open) = pool.post("/v1/runs", &long).await;
    let open = open["id"].as_str().unwrap();
    assert!(no_receipt(open).await.contains("has not ended"));
    let (status, _) = pool.post(&format!("/v1/runs/{open}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
    assert!(no_receipt(open).await.contains("without a result"));
    let fleeting = pool.run(json!({"module": module, "args": ["work", "1"], "durable": false})).await;
    assert!(no_receipt(fleeting["id"].as_str().unwrap()).await.contains("durable: true"));

    let (status, problem) = pool.get("/v1/runs/01920000-0000-7000-8000-000000000000/receipt").await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    let path = format!("/v1/runs/{open}/receipt");
    let (status, _) = Pool::json(pool.anonymous(Method::GET, &path)).await;
    assert_eq!(status, 401);
    // public keys are for everybody, a new one is not
    let (status, keys) = Pool::json(pool.anonymous(Method::GET, "/v1/keys")).await;
    assert_eq!((status, keys["items"].as_array().unwrap().len()), (200, 1));
    let (status, _) = Pool::json(pool.anonymous(Method::POST, "/v1/keys/rotate")).await;
    assert_eq!(status, 401);
    let token = worker_token(&pool).await;
    let request = pool.anonymous(Method::POST, "/v1/keys/rotate").bearer_auth(token);
    assert_eq!(Pool::json(request).await.0, 403);
}

#[tokio::test]
async fn the_documented_example_is_executed_again() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "stdin", TEXT);
    let receipt = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/receipt.example.json");
    let module = example("wordcount.wasm");
    let args = ["verify", receipt, "--any-key", "--replay", &module, "--blobs", dir.path().to_str().unwrap()];
    let (code, text, why) = offline(&args).await;
    assert_eq!(code, 0, "{text} {why}");
    assert!(text.contains("executed again here: the same result"), "{text}");
}
