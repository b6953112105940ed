//! What an operator settles for many runs: the default policy of a workspace; and what the pool finds out about a module.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{Pool, eventually, guest};

fn cli(pool: &Pool, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().env("LOCKSTEP_DATA", &pool.data).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Policy and first word of the explanation of a run.
fn verified(run: &Value) -> (Value, String) {
    (run["policy"]["verify"].clone(), run["explain"][0]["text"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_goes_before_its_module_its_workspace_and_the_pool() {
    let mut pool = Pool::with(&["--workers", "3", "--slots", "1", "--verify", "quorum:2"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = async |pool: &Pool, mut request: Value| {
        request["module"] = json!(module);
        request["args"] = json!(["args"]);
        verified(&pool.run(request).await)
    };
    let quorum = |n: u64| json!({"policy": "quorum", "n": n});
    let (verify, why) = run(&pool, json!({})).await;
    assert_eq!((verify, why.as_str()), (quorum(2), "is verified by quorum:2, the default of this pool"));

    let (status, workspace) = pool.get("/v1/workspaces/default").await;
    assert_eq!((status, workspace), (200, json!({"name": "default", "verify": null})));
    let put = async |pool: &Pool, name: &str, body: Value| {
        let request = pool.request(reqwest::Method::PUT, &format!("/v1/workspaces/{name}")).json(&body);
        Pool::json(request).await
    };
    let (status, set) = put(&pool, "default", json!({"verify": {"policy": "quorum", "n": 3}})).await;
    assert_eq!((status, &set["verify"]), (200, &quorum(3)), "{set}");
    let (verify, why) = run(&pool, json!({})).await;
    let of_workspace = "is verified by quorum:3, the default of the workspace `default`";
    assert_eq!((verify, why.as_str()), (quorum(3), of_workspace));

    // over a restart as well
    pool.stop();
    pool.start_again();
    assert_eq!(run(&pool, json!({})).await.1, of_workspace);

    text(&cli(&pool, &["modules", "verify", &module, "once"]));
    let (verify, why) = run(&pool, json!({})).await;
    assert_eq!(
        (&verify["policy"], why.as_str()),
        (&json!("once"), "is verified by once, the default of its module")
    );
    let (verify, why) = run(&pool, json!({"verify": {"policy": "quorum", "n": 2}})).await;
    assert_eq!(verify, quorum(2));
    assert!(!why.contains("is verified by"), "it said so itself: {why}");

    text(&cli(&pool, &["modules", "verify", &module, "pool"]));
    assert!(text(&cli(&pool, &["workspaces"])).contains("quorum of 3"));
    assert!(text(&cli(&pool, &["workspaces", "verify", "pool"])).contains("quorum of 2, as the pool says"));
    assert_eq!(run(&pool, json!({})).await.1, "is verified by quorum:2, the default of this pool");
    let set = text(&cli(&pool, &["workspaces", "verify", "standard", "--json"]));
    assert!(set.contains("\"standard\""), "{set}");
    assert_eq!(run(&pool, json!({})).await.0, json!({"policy": "standard"}));

    for (name, body, status) in [
        ("other", json!({}), 404),
        ("default", json!({"verify": {"policy": "quorum", "n": 99}}), 422),
        ("default", json!({"verfy": null}), 422),
    ] {
        assert_eq!(put(&pool, name, body.clone()).await.0, status, "{name} {body}");
    }
    assert_eq!(pool.get("/v1/workspaces/other").await.0, 404);
    let (_, token) = pool.post("/v1/tokens", &json!({"name": "ci", "scopes": ["submit"]})).await;
    let as_ci = |method| {
        let request = pool.anonymous(method, "/v1/workspaces/default").json(&json!({}));
        Pool::json(request.bearer_auth(token["secret"].as_str().unwrap()))
    };
    assert_eq!(as_ci(reqwest::Method::PUT).await.0, 403);
    assert_eq!(as_ci(reqwest::Method::GET).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_was_found_out_is_shown_so_until_it_is_readmitted() {
    let mut pool = Pool::start().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let run = pool.run(json!({"module": module, "args": ["args"]})).await;
    let id = run["id"].as_str().unwrap();
    let path = format!("/v1/modules/{module}");
    assert_eq!(pool.get(&path).await.1["nondeterministic"], Value::Null);
    pool.stop();
    // what a dispute between trusted executors leaves behind; tests of the owner see it written
    let database = rusqlite::Connection::open(pool.data.join("lockstep.db")).unwrap();
    let row =
        "UPDATE modules SET nondeterministic_run = (SELECT id FROM runs), nondeterministic_at = 1000000";
    assert_eq!(database.execute(row, []).unwrap(), 1);
    drop(database);
    pool.start_again();
    let (_, shown) = pool.get(&path).await;
    let found = json!({"run": id, "at": "1970-01-01T00:00:01.000000Z"});
    assert_eq!(shown["nondeterministic"], found, "{shown}");
    let words = text(&cli(&pool, &["modules", "show", &module]));
    assert!(words.contains("nondeterministic") && words.contains(id), "{words}");
    // it is no quarantine: it runs, and its results are compared
    assert_eq!(pool.run(json!({"module": module, "args": ["args"]})).await["verdict"]["kind"], "agreed");
    let readmitted = text(&cli(&pool, &["modules", "readmit", &module]));
    assert!(!readmitted.contains("nondeterministic"), "{readmitted}");
    pool.stop();
    pool.start_again();
    assert_eq!(pool.get(&path).await.1["nondeterministic"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readmission_is_in_the_workers_log() {
    let pool = Pool::start().await;
    let (_, workers) = pool.get("/v1/workers").await;
    let id = workers["items"][0]["id"].as_str().unwrap();
    let log = async || pool.get(&format!("/v1/workers/{id}/evidence")).await.1["items"].clone();
    // a drain says nothing of what it computes
    text(&cli(&pool, &["workers", "drain", id]));
    text(&cli(&pool, &["workers", "readmit", id]));
    assert_eq!(log().await, json!([]));
    text(&cli(&pool, &["workers", "quarantine", id, "--why", "a test"]));
    text(&cli(&pool, &["workers", "readmit", id]));
    let seen = eventually("the log says so", async || {
        let seen = log().await;
        (seen.as_array()?.len() == 1).then(|| seen[0].clone())
    })
    .await;
    assert_eq!(
        (&seen["kind"], &seen["run"], &seen["attempt"]),
        (&json!("readmitted"), &Value::Null, &Value::Null)
    );
    let (_, worker) = pool.get(&format!("/v1/workers/{id}")).await;
    assert_eq!(worker["evidence"]["counts"]["readmitted"], 1, "{worker}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_one_worker_vouched_for_is_told_apart_everywhere() {
    let pool = Pool::with(&["--workers", "3", "--slots", "1", "--verify", "standard"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut vouched = None;
    for number in 0..400 {
        let run = pool.run(json!({"module": module, "args": ["args", number.to_string()]})).await;
        if run["verdict"]["kind"] == "vouched" {
            vouched = Some(run);
            break;
        }
    }
    let vouched = vouched.expect("workers earn it by some dozen results");
    let id = vouched["id"].as_str().unwrap();
    let (_, found) = pool.get("/v1/runs?verdict=vouched").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(
        (&found["items"][0]["id"], &found["items"][0]["verdict"]["kind"]),
        (&json!(id), &json!("vouched"))
    );
    let listed = text(&cli(&pool, &["runs", "--verdict", "vouched"]));
    assert!(listed.contains(id) && listed.lines().count() == 2, "{listed}");
    assert!(text(&cli(&pool, &["runs", "--verdict", "agreed"])).contains("agreed"));
    assert!(text(&cli(&pool, &["runs", "show", id])).contains("vouched: one trusted vote stood alone"));
    let (_, metrics) = pool.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("lockstep_runs_judged_total{verdict=\"vouched\"} 1"), "{metrics}");
    assert!(metrics.contains("lockstep_runs_judged_total{verdict=\"agreed\"} "), "{metrics}");
    let (_, stats) = pool.get("/v1/stats").await;
    assert_eq!(stats["last_hour"]["verdicts"]["vouched"], 1, "{stats}");
    // a call says it in its header, and on the command line
    let mut seen = None;
    for number in 0..400 {
        let path = format!("/v1/modules/{module}/call?arg=args&arg=call-{number}&verify=standard");
        let answer = pool.request(reqwest::Method::POST, &path).send().await.unwrap();
        let verdict = answer.headers()["lockstep-verdict"].to_str().unwrap().to_owned();
        if verdict == "vouched" {
            seen = Some(verdict);
            break;
        }
        assert_eq!(verdict, "agreed");
    }
    assert_eq!(seen.as_deref(), Some("vouched"));
    let called = cli(&pool, &["call", &module, "--verify", "once", "--json", "--", "args"]);
    let called: Value = serde_json::from_str(&text(&called)).unwrap();
    assert_eq!(called["verdict"], "unchecked");
}
