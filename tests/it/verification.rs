//! Verification by credibility (`standard`, `high`), with real processes: who is checked, who is caught, who decides.

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::remote::{Worker, empty_pool, ready, shown, texts};
use crate::support::{Pool, eventually, guest};

/// A run of its own under a policy, waited for. Its result must be right.
async fn one(pool: &Pool, module: &str, number: usize, policy: &str) -> Value {
    let request = json!({"module": module, "args": ["args", format!("{policy}-{number}")],
        "verify": {"policy": policy}, "timeout_ms": 60_000});
    let run = pool.run(request).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let stdout = run["stdout"]["text"].as_str().unwrap_or_default();
    assert!(stdout.contains(&format!("{policy}-{number}")), "a wrong final: {run}");
    run
}

fn attempts(run: &Value) -> usize {
    run["attempts"].as_array().unwrap().len()
}

async fn workers(pool: &Pool) -> Vec<Value> {
    pool.get("/v1/workers").await.1["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn newcomers_are_checked_and_the_proven_are_spot_checked_over_a_restart() {
    let mut pool = Pool::with(&["--workers", "3", "--slots", "1", "--verify", "standard"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    // nothing is asked for: it is what this pool does
    let first = pool.run(json!({"module": module, "args": ["args", "first"]})).await;
    assert_eq!(first["policy"]["verify"], json!({"policy": "standard"}));
    assert_eq!((&first["verdict"]["kind"], attempts(&first)), (&json!("agreed"), 2), "{first}");
    assert!(texts(&first).contains("voted for"), "{}", texts(&first));
    let (mut vouched, mut checked, mut last) = (0, 0, String::new());
    for number in 0..120 {
        let run = one(&pool, &module, number, "standard").await;
        last = run["id"].as_str().unwrap().to_owned();
        match run["verdict"]["kind"].as_str().unwrap() {
            "vouched" => {
                assert_eq!(attempts(&run), 1, "{run}");
                vouched += 1;
            }
            _ => {
                assert!(attempts(&run) >= 2, "{run}");
                checked += 1;
            }
        }
    }
    // both kinds are certified with what each vote weighed, and judged by it
    for run in [first["id"].as_str().unwrap(), &last] {
        let receipt = pool.request(Method::GET, &format!("/v1/runs/{run}/receipt")).send().await.unwrap();
        let checked = lockstep::receipt::check(&receipt.bytes().await.unwrap()).unwrap();
        let predicate = checked.statement.predicate;
        assert_eq!(
            (predicate.rule.policy.as_str(), predicate.rule.epsilon.as_deref()),
            ("standard", Some("0.001"))
        );
        assert!(predicate.votes.iter().all(|vote| vote.credibility.is_some()), "{predicate:?}");
    }
    assert!(vouched > 20, "{vouched} of 120 stood alone");
    assert!(checked >= 15, "{checked} were checked: each of three had ten agreements to earn");
    let before = workers(&pool).await;
    for worker in &before {
        assert!(worker["confirmations"].as_f64().unwrap() >= 10.0, "{worker}");
        assert!(worker["credibility"].as_f64().unwrap() > 0.999, "{worker}");
        assert_eq!((&worker["owned"], &worker["suspect_since"]), (&json!(true), &Value::Null));
    }
    pool.stop();
    pool.start_again();
    let after = workers(&pool).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before["id"], &before["confirmations"]), (&after["id"], &after["confirmations"]));
    }
    // two proven workers satisfy `high`, and one never does
    let high = one(&pool, &module, 0, "high").await;
    assert_eq!(high["verdict"]["kind"], "agreed");
    assert!(attempts(&high) >= 2, "{high}");
}

#[tokio::test]
async fn a_liar_among_five_is_caught_at_its_second_lie() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let lie: &[&str] = &["--unsafe-misbehave", "lie"];
    // without a word it is the operator's own
    let body = json!({"name": "own", "scopes": ["worker"], "owned": true});
    let (_, token) = pool.post("/v1/tokens", &body).await;
    let mut crew = Vec::new();
    for number in 0..5 {
        let mut args = vec!["--token", token["secret"].as_str().unwrap()];
        args.extend(lie.iter().filter(|_| number == 2));
        crew.push(Worker::join(&pool.url, &dir.path().join(number.to_string()), &args).await);
    }
    ready(&pool, 5).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut number = 0;
    eventually("the liar is quarantined", async || {
        // many at once: one that is suspect is asked only where nobody better is free
        let runs = (number..number + 40).map(|number| one(&pool, &module, number, "standard"));
        futures_util::stream::iter(runs).buffer_unordered(20).collect::<Vec<_>>().await;
        number += 40;
        let liar = shown(&pool, &crew[2].id).await;
        (liar["standing"] == "quarantined").then_some(liar)
    })
    .await;
    let (_, liar) = pool.get(&format!("/v1/workers/{}", crew[2].id)).await;
    assert!(liar["why"].as_str().unwrap().contains("was wrong, as another one had been"), "{liar}");
    eventually("its lies are in its log", async || {
        let (_, liar) = pool.get(&format!("/v1/workers/{}", crew[2].id)).await;
        (liar["evidence"]["counts"]["lone_dissent"] == 2).then_some(())
    })
    .await;
    for honest in [0, 1, 3, 4] {
        assert_eq!(shown(&pool, &crew[honest].id).await["standing"], "active");
    }
    // a newcomer again, if an operator says so
    let (status, back) = pool.post(&format!("/v1/workers/{}/readmit", crew[2].id), &json!({})).await;
    assert_eq!(
        (status, &back["standing"], &back["suspect_since"]),
        (200, &json!("active"), &Value::Null),
        "{back}"
    );
}

#[tokio::test]
async fn two_that_name_the_same_lie_are_both_caught_and_stay_out() {
    let mut pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    // each answers to somebody else: nobody is believed for a neighbour's word
    let mut crew = Vec::new();
    for number in 0..7 {
        let body = json!({"name": "one", "scopes": ["worker"], "domain": format!("owner-{number}")});
        let (status, token) = pool.post("/v1/tokens", &body).await;
        assert_eq!(status, 201, "{token}");
        let mut args = vec!["--token", token["secret"].as_str().unwrap()];
        if [1, 3].contains(&number) {
            args.extend(["--unsafe-misbehave", "collude:30"]);
        }
        crew.push(Worker::join(&pool.url, &dir.path().join(number.to_string()), &args).await);
    }
    ready(&pool, 7).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut number = 0;
    eventually("both are quarantined", async || {
        let request =
            json!({"module": module, "args": ["args", number.to_string()], "verify": {"policy": "standard"}});
        let run = pool.run(request).await;
        // newcomers that differ too much decide nothing, and nobody is blamed
        assert!(run["state"] == "succeeded" || run["reason"] == "no_quorum", "{run}");
        number += 1;
        let both = [shown(&pool, &crew[1].id).await, shown(&pool, &crew[3].id).await];
        both.iter().all(|worker| worker["standing"] == "quarantined").then_some(())
    })
    .await;
    for honest in [0, 2, 4, 5, 6] {
        assert_eq!(shown(&pool, &crew[honest].id).await["standing"], "active");
    }
    // the store knows it too
    pool.stop();
    pool.start_again();
    for liar in [1, 3] {
        let (_, liar) = pool.get(&format!("/v1/workers/{}", crew[liar].id)).await;
        assert!(liar["why"].as_str().is_some_and(|why| why.contains("was wrong")), "{liar}");
    }
}

#[tokio::test]
async fn an_arbiter_settles_what_differs() {
    let pool = Pool::with(&["--workers", "2", "--arbiters", "1", "--slots", "1"]).await;
    let dir = tempfile::tempdir().unwrap();
    let body = json!({"name": "own", "scopes": ["worker"], "owned": true, "domain": "local"});
    let (status, token) = pool.post("/v1/tokens", &body).await;
    assert_eq!((status, &token["token"]["owned"]), (201, &json!(true)), "{token}");
    let secret = token["secret"].as_str().unwrap();
    let args = ["--token", secret, "--name", "liar", "--unsafe-misbehave", "lie"];
    let liar = Worker::join(&pool.url, dir.path(), &args).await;
    ready(&pool, 4).await;
    let arbiter = workers(&pool).await.into_iter().find(|worker| worker["arbiter"] == true).unwrap();
    assert_eq!(arbiter["name"], "arbiter-1");
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut number = 0;
    let settled = eventually("the arbiter settles a dispute", async || {
        let run = one(&pool, &module, number, "standard").await;
        number += 1;
        let took_part = |id: &Value| run["attempts"].as_array().unwrap().iter().any(|it| &it["worker"] == id);
        let dissenters = run["verdict"]["dissenters"].as_array().unwrap();
        (took_part(&arbiter["id"]) && dissenters.contains(&json!(liar.id))).then_some(run)
    })
    .await;
    assert_eq!(settled["verdict"]["kind"], "agreed", "{settled}");
    let id = settled["id"].as_str().unwrap();
    let (status, found) = pool.get(&format!("/v1/runs/{id}/diff")).await;
    assert_eq!((status, &found["arbiter"]["executions"]), (200, &json!(2)), "{found}");
    assert_eq!(found["arbiter"]["results"], json!([settled["result"]]), "{found}");
    let right = settled["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|attempt| attempt["result"] == settled["result"] && attempt["worker"] != arbiter["id"]);
    let numbers: Vec<&Value> = right.map(|attempt| &attempt["number"]).collect();
    assert_eq!(found["arbiter"]["agreed_with"], json!(numbers), "{found}");
    let rule = found["rule"].as_str().unwrap();
    assert!(rule.starts_with("the votes differed: arbiters executed it 2 times"), "{found}");
    let lost = &found["outvoted"][0];
    assert_eq!((&lost["worker"], &lost["blamed"]), (&json!(liar.id), &json!(true)), "{found}");
    let args = ["runs", "diff", id, "--server", &pool.url, "--token", &pool.token];
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_lockstep")).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(
        told.contains("the first byte that differs is at 0\n") && told.contains("a lie of liar"),
        "{told}"
    );
    assert!(told.contains("arbiter   2 executions named ") && told.contains(", blamed: "), "{told}");
    assert!(shown(&pool, &liar.id).await["suspect_since"].is_string() || number > 1);
}

#[tokio::test]
async fn a_pool_and_a_module_say_how_runs_are_verified_that_do_not() {
    let pool = Pool::with(&["--workers", "3", "--slots", "1", "--verify", "quorum:3"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let plain = json!({"module": module, "args": ["args"]});
    let policy = async |request: &Value| {
        let run = pool.run(request.clone()).await;
        (run["policy"]["verify"]["policy"].as_str().unwrap().to_owned(), attempts(&run))
    };
    assert_eq!(policy(&plain).await, ("quorum".to_owned(), 3));
    let path = format!("/v1/modules/{module}/verify");
    let put = |body: Value| Pool::json(pool.request(Method::PUT, &path).json(&body));
    let (status, shown) = put(json!({"policy": "once"})).await;
    assert_eq!((status, &shown["verify"]), (200, &json!({"policy": "once"})), "{shown}");
    assert_eq!(policy(&plain).await, ("once".to_owned(), 1));
    let mut asks = plain.clone();
    asks["verify"] = json!({"policy": "quorum", "n": 2});
    assert_eq!(policy(&asks).await, ("quorum".to_owned(), 2));
    assert_eq!(put(json!({"policy": "once", "n": 2})).await.0, 422);
    let (status, shown) = Pool::json(pool.request(Method::DELETE, &path)).await;
    assert_eq!((status, &shown["verify"]), (200, &Value::Null), "{shown}");
    assert_eq!(policy(&plain).await, ("quorum".to_owned(), 3));
}

#[tokio::test]
async fn a_run_that_nobody_could_decide_is_refused_with_advice() {
    let pool = Pool::with(&["--workers", "1", "--slots", "1"]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let request = json!({"module": module, "args": ["args"]});
    let (status, problem) = pool.post("/v1/runs", &request).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_few_workers")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("`standard` compares what several workers compute, and 1"), "{detail}");
    assert!(detail.contains("ask for `once`"), "{detail}");
    let mut once = request.clone();
    once["verify"] = json!({"policy": "once"});
    assert_eq!(pool.run(once).await["verdict"]["kind"], "unchecked");

    // a stranger is no help, however often it agrees; a second machine of one's own is
    let dir = tempfile::tempdir().unwrap();
    let mut joined = Vec::new();
    for (name, body) in [
        ("ada", json!({"name": "ada", "scopes": ["worker"], "domain": "ada"})),
        ("shed", json!({"name": "shed", "scopes": ["worker"], "owned": true})),
    ] {
        let (status, token) = pool.post("/v1/tokens", &body).await;
        assert_eq!((status, &token["token"]["owned"]), (201, &json!(name == "shed")), "{token}");
        let args = ["--token", token["secret"].as_str().unwrap(), "--name", name, "--label", "at=home"];
        joined.push(Worker::join(&pool.url, &dir.path().join(name), &args).await);
        ready(&pool, joined.len() + 1).await;
        let (status, answer) = pool.post("/v1/runs", &request).await;
        match name {
            "ada" => {
                let detail = answer["detail"].as_str().unwrap_or_default();
                assert_eq!((status, &answer["code"]), (409, &json!("too_few_workers")), "{answer}");
                assert!(detail.contains("the 2 workers") && detail.contains("--arbiters 1"), "{detail}");
            }
            _ => assert_eq!(pool.finished(answer["id"].as_str().unwrap()).await["verdict"]["kind"], "agreed"),
        }
    }
    // labels that leave one are as good as one
    let mut placed = request.clone();
    placed["placement"] = json!({"mode": "labels", "labels": {"at": "home"}});
    let (status, problem) = pool.post("/v1/runs", &placed).await;
    assert_eq!((status, &problem["pointer"]), (409, &json!("/verify")), "{problem}");
}

#[tokio::test]
async fn strangers_of_one_domain_decide_where_there_are_five() {
    let pool = empty_pool(&[]).await;
    let (_, token) =
        pool.post("/v1/tokens", &json!({"name": "s", "scopes": ["worker"], "foreign": true})).await;
    assert_eq!((&token["token"]["domain"], &token["token"]["owned"]), (&Value::Null, &json!(false)));
    let dir = tempfile::tempdir().unwrap();
    let secret = token["secret"].as_str().unwrap();
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut crew = Vec::new();
    for number in 0..5 {
        if number == 4 {
            ready(&pool, 4).await;
            let (status, problem) = pool.post("/v1/runs", &json!({"module": module, "args": ["args"]})).await;
            assert_eq!((status, &problem["code"]), (409, &json!("too_few_workers")), "{problem}");
        }
        crew.push(Worker::join(&pool.url, &dir.path().join(number.to_string()), &["--token", secret]).await);
    }
    ready(&pool, 5).await;
    let run = one(&pool, &module, 0, "standard").await;
    assert_eq!((&run["verdict"]["kind"], attempts(&run)), (&json!("agreed"), 5), "{run}");
}
