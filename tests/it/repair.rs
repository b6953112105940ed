//! What rested on a worker that was caught is verified anew, with real processes: corrected, confirmed, told, and kept apart.

use std::process::{Command, Stdio};

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::receiver::Receiver;
use crate::support::remote::{Worker, figure, ready, shown, texts};
use crate::support::{Pool, eventually, guest};

/// Names the same false result as every other such worker, for so many of 100 specs.
pub const COLLUDES: &str = "collude:100";

/// A pool with an arbiter and nobody else.
async fn arbitrated() -> Pool {
    Pool::with(&["--workers", "0", "--arbiters", "1", "--slots", "1", "--set", "heartbeat=100ms"]).await
}

/// A worker of the operator's own, which may do wrong.
pub async fn joins(pool: &Pool, dir: &std::path::Path, name: &str, wrong: Option<&str>) -> Worker {
    let body = json!({"name": name, "scopes": ["worker"], "owned": true, "domain": "local"});
    let (status, token) = pool.post("/v1/tokens", &body).await;
    assert_eq!(status, 201, "{token}");
    let mut args = vec!["--token", token["secret"].as_str().unwrap(), "--name", name];
    args.extend(wrong.iter().flat_map(|wrong| ["--unsafe-misbehave", wrong]));
    Worker::join(&pool.url, &dir.join(name), &args).await
}

async fn run(pool: &Pool, module: &str, number: usize, n: u64) -> Value {
    // long enough that the first of many is corrected well before the last
    let request = json!({"module": module, "args": ["work", "10000000"], "seed": number,
        "verify": {"policy": "quorum", "n": n}, "timeout_ms": 60_000});
    let run = pool.run(request).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    run
}

pub fn id(run: &Value) -> &str {
    run["id"].as_str().unwrap()
}

pub fn is_lie(run: &Value) -> bool {
    run["stdout"]["text"].as_str().unwrap_or_default().starts_with("a conspiracy")
}

/// A command beside the pool: its standard output, and what it said.
pub async fn cli(pool: &Pool, args: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().env("LOCKSTEP_DATA", &pool.data).args(args).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{args:?}: {stdout}{stderr}");
    (stdout, stderr)
}

/// What comes on an event stream until this does.
pub async fn hears(pool: &Pool, path: &str, until: &'static str) -> tokio::task::JoinHandle<String> {
    let response = pool.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut pieces = response.bytes_stream();
    tokio::spawn(async move {
        let mut text = String::new();
        while let Some(Ok(piece)) = pieces.next().await {
            text.push_str(&String::from_utf8_lossy(&piece));
            if text.contains(until) {
                break;
            }
        }
        text
    })
}

async fn repair_of(pool: &Pool, worker: &str) -> Value {
    let (status, repairs) = pool.get("/v1/repairs").await;
    assert_eq!(status, 200, "{repairs}");
    repairs["items"].as_array().unwrap().iter().find(|it| it["worker"] == worker).cloned().unwrap_or_default()
}

pub async fn repaired(pool: &Pool, worker: &str) -> Value {
    eventually("everything is verified anew", async || {
        let repair = repair_of(pool, worker).await;
        (repair["state"] == "done").then_some(repair)
    })
    .await
}

/// What a receipt of a revision certifies, checked as anybody would.
pub async fn certified(pool: &Pool, run: &str, revision: u32) -> lockstep::receipt::Predicate {
    let path = format!("/v1/runs/{run}/receipt?revision={revision}");
    let response = pool.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let checked = lockstep::receipt::check(&response.bytes().await.unwrap()).unwrap();
    checked.statement.predicate
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_told_to_whom_the_final_was_told() {
    let receiver = Receiver::start().await;
    let args = ["--workers", "0", "--arbiters", "1", "--slots", "1", "--callback-allow", "loopback"];
    let pool = Pool::with(&[&args[..], &["--set", "heartbeat=100ms"]].concat()).await;
    let dir = tempfile::tempdir().unwrap();
    let one = joins(&pool, dir.path(), "one", Some(COLLUDES)).await;
    let _other = joins(&pool, dir.path(), "other", Some(COLLUDES)).await;
    ready(&pool, 3).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let request = json!({"module": module, "args": ["args", "true"], "verify": {"policy": "quorum", "n": 2},
        "timeout_ms": 60_000, "callback": {"url": receiver.url("/hook")}});
    let run = pool.run(request).await;
    assert!(is_lie(&run), "{run}");
    let told = receiver.first(1).await.remove(0);
    assert_eq!(told.header("webhook-id"), format!("{}_1", id(&run)));
    assert_eq!(told.json()["data"]["stdout"]["text"], run["stdout"]["text"]);
    cli(&pool, &["workers", "quarantine", &one.id, "--why", "it lied"]).await;
    let corrected = receiver.first(2).await.remove(1);
    assert_eq!(corrected.header("webhook-id"), format!("{}_2", id(&run)));
    assert_eq!(corrected.header("lockstep-event"), "run.corrected");
    let (body, (_, secret)) = (corrected.json(), pool.get("/v1/callbacks/secret").await);
    assert!(corrected.is_signed_with(secret["secret"].as_str().unwrap()));
    assert_eq!((&body["type"], &body["data"]["revision"]), (&json!("run.corrected"), &json!(2)), "{body}");
    assert_eq!(body["data"]["stdout"]["text"], "true\n");
    assert!(body["timestamp"].as_str() > told.json()["timestamp"].as_str(), "{body}");
    let path = format!("/v1/runs/{}/callbacks", id(&run));
    let both = eventually("both are delivered", async || {
        let both = pool.get(&path).await.1["items"].as_array().unwrap().clone();
        both.iter().all(|one| one["state"] == "delivered").then_some(both)
    })
    .await;
    let events: Vec<_> = both.iter().map(|one| (one["event"].clone(), one["revision"].clone())).collect();
    assert_eq!(events, [(json!("run.final"), json!(1)), (json!("run.corrected"), json!(2))]);
}

#[tokio::test]
async fn what_two_colluders_got_through_is_corrected_over_a_kill_of_the_coordinator() {
    const RUNS: usize = 10;
    let mut pool = arbitrated().await;
    let dir = tempfile::tempdir().unwrap();
    let one = joins(&pool, dir.path(), "one", Some(COLLUDES)).await;
    let other = joins(&pool, dir.path(), "other", Some(COLLUDES)).await;
    ready(&pool, 3).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut runs = Vec::new();
    for number in 0..RUNS {
        let run = run(&pool, &module, number, 2).await;
        assert!(is_lie(&run) && run["verdict"]["kind"] == "agreed" && run["revision"] == 1, "{run}");
        runs.push(run);
    }
    let newest = id(&runs[RUNS - 1]).to_owned();
    let of_run =
        hears(&pool, &format!("/v1/runs/{newest}/events?corrections=true"), "event: corrected").await;
    let of_pool = hears(&pool, "/v1/events", "event: corrected").await;

    let (_, said) = cli(&pool, &["workers", "quarantine", &one.id, "--why", "it lied"]).await;
    assert!(said.contains(&format!("{RUNS} final(s) in which {} had voted", one.id)), "{said}");
    // equally weak ones: the newest is the first
    let told = of_run.await.unwrap();
    assert!(told.contains("event: end") && told.contains("\"revision\":2"), "{told}");
    assert!(of_pool.await.unwrap().contains(&newest));
    pool.kill();
    pool.start_again();
    let halfway = repair_of(&pool, &one.id).await;
    assert!(halfway["corrected"].as_u64() >= Some(1) && halfway["pending"].as_u64() >= Some(1), "{halfway}");
    let repair = repaired(&pool, &one.id).await;
    for (figure, count) in
        [("finals", RUNS), ("found", RUNS), ("decisive", RUNS), ("corrected", RUNS), ("pending", 0)]
    {
        assert_eq!(repair[figure], count, "{figure}: {repair}");
    }
    for before in &runs {
        let path = format!("/v1/runs/{}", id(before));
        let (_, now) = pool.get(&path).await;
        assert_eq!((&now["revision"], &now["state"]), (&json!(2), &json!("succeeded")), "{now}");
        assert_eq!(now["verification"]["conclusion"], "corrected");
        assert!(
            !is_lie(&now) && now["result"] != before["result"] && now["corrected_at"].is_string(),
            "{now}"
        );
        assert_eq!(now["finished_at"], before["finished_at"], "when it ended stays");
        let (_, first) = pool.get(&format!("{path}?revision=1")).await;
        for field in ["result", "outcome", "verdict", "attempts", "stdout", "explain", "revision"] {
            assert_eq!(first[field], before[field], "{field}");
        }
    }
    // the other one named the very same
    let caught = eventually("the other one is caught by its own lies", async || {
        // it has not come back: the new life of the coordinator listens elsewhere
        let other = shown(&pool, &other.id).await;
        other["why"].is_string().then_some(other)
    })
    .await;
    assert!(caught["why"].as_str().unwrap().contains("named the very same"), "{caught}");

    let (first, second) = (certified(&pool, &newest, 1).await, certified(&pool, &newest, 2).await);
    assert_eq!((first.revision, first.rule.policy.as_str(), first.votes.len()), (1, "quorum", 2));
    assert_eq!((second.revision, second.rule.policy.as_str()), (2, "standard"));
    assert!(second.votes.iter().all(|vote| vote.arbiter) && first.result != second.result);
    let (_, revisions) = pool.get(&format!("/v1/runs/{newest}/revisions")).await;
    let results: Vec<&Value> =
        revisions["items"].as_array().unwrap().iter().map(|revision| &revision["result"]).collect();
    assert_eq!(results, [&json!(first.result), &json!(second.result)], "{revisions}");
    for (revision, is_lie) in [("?revision=1", true), ("?revision=2", false), ("", false)] {
        let path = format!("/v1/runs/{newest}/stdout{revision}");
        let text = pool.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
        assert_eq!(text.starts_with("a conspiracy"), is_lie, "{path}: {text}");
    }
    assert_eq!(pool.get(&format!("/v1/runs/{newest}?revision=3")).await.0, 404);
    attempts_are_read_by_revision(&pool, &newest).await;
    let (show, _) = cli(&pool, &["runs", "show", &newest]).await;
    assert!(show.contains("corrected: this is revision 2"), "{show}");
    let (table, _) = cli(&pool, &["repairs"]).await;
    assert!(table.contains("CORRECTED") && table.contains(&one.id) && table.contains("done"), "{table}");
    assert!(figure(&pool, "lockstep_reverifications_total{verdict=\"corrected\"}").await >= 1);
}

/// What each attempt gave out stays readable with the revision that it belongs to.
async fn attempts_are_read_by_revision(pool: &Pool, run: &str) {
    let number_in = async |revision: u32| {
        let (_, shown) = pool.get(&format!("/v1/runs/{run}?revision={revision}")).await;
        shown["attempts"][0]["number"].as_u64().unwrap()
    };
    let (first, second) = (number_in(1).await, number_in(2).await);
    let read = async |number: u64, query: &str| {
        let path = format!("/v1/runs/{run}/attempts/{number}/stdout{query}");
        let response = pool.request(Method::GET, &path).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, text) = read(first, "?revision=1").await;
    assert!(status == 200 && text.starts_with("a conspiracy"), "{status} {text}");
    for query in ["?revision=2", ""] {
        let (status, text) = read(second, query).await;
        assert!(status == 200 && !text.starts_with("a conspiracy"), "{query}: {status} {text}");
    }
    assert_eq!(read(first, "?revision=3").await.0, 404);
    let stderr = pool.get(&format!("/v1/runs/{run}/attempts/{first}/stderr?revision=3")).await;
    let file = pool.get(&format!("/v1/runs/{run}/attempts/{first}/files/out/x?revision=3")).await;
    for (status, answer) in [stderr, file] {
        assert!(status == 404 && answer["detail"].to_string().contains("revision"), "{answer}");
    }
}

#[tokio::test]
async fn who_was_outvoted_by_liars_works_again_when_they_are_caught() {
    let pool = arbitrated().await;
    let dir = tempfile::tempdir().unwrap();
    let liars = [
        joins(&pool, dir.path(), "one", Some(COLLUDES)).await,
        joins(&pool, dir.path(), "two", Some(COLLUDES)).await,
    ];
    let honest = joins(&pool, dir.path(), "honest", None).await;
    ready(&pool, 4).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    for number in 0..2 {
        let run = run(&pool, &module, number, 3).await;
        assert!(is_lie(&run) && run["verdict"]["dissenters"] == json!([honest.id]), "{run}");
    }
    eventually("the honest one is quarantined for it", async || {
        (shown(&pool, &honest.id).await["standing"] == "quarantined").then_some(())
    })
    .await;
    for liar in &liars {
        let path = format!("/v1/workers/{}/quarantine", liar.id);
        assert_eq!(pool.post(&path, &json!({"why": "it lied"})).await.0, 200);
    }
    let back = eventually("the honest one works again", async || {
        let honest = shown(&pool, &honest.id).await;
        // after the first correction it is suspect still
        (honest["standing"] == "active" && honest["suspect_since"].is_null()).then_some(honest)
    })
    .await;
    assert_eq!(back["why"], Value::Null, "{back}");
    eventually("its log says why", async || {
        let (_, worker) = pool.get(&format!("/v1/workers/{}", honest.id)).await;
        let counts = &worker["evidence"]["counts"];
        (counts["lone_dissent"] == 2 && counts["absolved"] == 2).then_some(())
    })
    .await;
    let repair = eventually("nothing of it is looked at any more", async || {
        let repair = repair_of(&pool, &honest.id).await;
        (repair["state"] == "lifted").then_some(repair)
    })
    .await;
    assert_eq!(repair["corrected"], 0, "{repair}");
    // who named what is told for each revision
    let lied = &pool.get("/v1/runs?limit=1").await.1["items"][0];
    let diff = async |query: &str| pool.get(&format!("/v1/runs/{}/diff{query}", id(lied))).await;
    let (status, before) = diff("?revision=1").await;
    assert_eq!((status, &before["equal"]), (200, &json!(false)), "{before}");
    assert_eq!(before["outvoted"][0]["worker"], json!(honest.id), "{before}");
    assert!(before["rule"].as_str().unwrap().starts_with("`quorum:3`: 2 equal votes decide"), "{before}");
    assert_eq!(
        (lied["revision"].clone(), diff("").await.0),
        (json!(2), 404),
        "no votes differ in the second"
    );
    assert_eq!(diff("?revision=3").await.0, 404);
    // and it is believed
    let request = json!({"module": module, "args": ["work", "10"], "verify": {"policy": "once"}});
    let run = pool.run(request).await;
    assert!(!is_lie(&run) && run["attempts"][0]["worker"] == json!(honest.id), "{run}");
}

#[tokio::test]
async fn what_is_caught_by_itself_is_repaired_by_itself_and_what_was_right_is_confirmed() {
    let pool = arbitrated().await;
    let dir = tempfile::tempdir().unwrap();
    let liars = [
        joins(&pool, dir.path(), "one", Some("collude:50")).await,
        joins(&pool, dir.path(), "two", Some("collude:50")).await,
    ];
    ready(&pool, 3).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut runs = Vec::new();
    for number in 0..10 {
        runs.push(run(&pool, &module, number, 2).await);
    }
    let lies = runs.iter().filter(|run| is_lie(run)).count();
    assert!((1..10).contains(&lies), "{lies} of 10");
    let mut honest = Vec::new();
    for number in 0..3 {
        honest.push(joins(&pool, dir.path(), &format!("honest-{number}"), None).await);
    }
    ready(&pool, 6).await;
    let mut number = 100;
    eventually("both are caught", async || {
        run(&pool, &module, number, 5).await;
        number += 1;
        let both = [shown(&pool, &liars[0].id).await, shown(&pool, &liars[1].id).await];
        both.iter().all(|worker| worker["standing"] == "quarantined").then_some(())
    })
    .await;
    for liar in &liars {
        let repair = repaired(&pool, &liar.id).await;
        // what was settled for the one before the other one was looked at rests on others by then
        let count = |what: &str| repair[what].as_u64().unwrap();
        assert_eq!(count("corrected") + count("confirmed"), count("decisive"), "{repair}");
        assert!(count("corrected") <= lies as u64 && count("undecided") == 0, "{repair}");
    }
    for before in &runs {
        let (_, now) = pool.get(&format!("/v1/runs/{}", id(before))).await;
        assert!(!is_lie(&now), "{now}");
        let (revision, conclusion) = if is_lie(before) { (2, "corrected") } else { (1, "confirmed") };
        assert_eq!(
            (&now["revision"], &now["verification"]["conclusion"]),
            (&json!(revision), &json!(conclusion))
        );
        if revision == 1 {
            assert!(texts(&now).contains("confirmed: revision 1 stays as it is"), "{}", texts(&now));
            assert_eq!(now["attempts"], before["attempts"]);
        }
    }
}
