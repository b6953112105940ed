//! What a liar gave out, beside what was agreed on.

use lockstep::protocol::api::{self, ProblemCode};
use reqwest::Method;
use serde_json::json;

use crate::support::{Pool, eventually, guest};

/// A worker process; killed when it is dropped.
struct Worker {
    child: std::process::Child,
    /// Its number in the pool.
    id: String,
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A pool without workers of its own.
async fn empty_pool(settings: &[&str]) -> Pool {
    let mut args = vec!["--workers", "0", "--set", "heartbeat=100ms"];
    args.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
    Pool::with(&args).await
}

/// So many workers with these further arguments, joined; in the order in which they are named here.
async fn crew(pool: &Pool, dir: &std::path::Path, kinds: &[&[&str]]) -> Vec<Worker> {
    enrolled(pool, dir, json!({"name": "worker", "scopes": ["worker"], "owned": true}), kinds).await
}

/// The same with a token of its own, whose name is the beginning of theirs.
async fn enrolled(
    pool: &Pool,
    dir: &std::path::Path,
    token: serde_json::Value,
    kinds: &[&[&str]],
) -> Vec<Worker> {
    let named = token["name"].as_str().unwrap().to_owned();
    let (_, token) = pool.post("/v1/tokens", &token).await;
    let token = token["secret"].as_str().unwrap();
    let mut workers = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let name = format!("{named}-{number}");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lockstep"));
        command.env_clear().args(["worker", "--coordinator", &pool.url, "--slots", "1", "--memory", "1GiB"]);
        command.arg("--data").arg(dir.join(&name)).args(["--token", token, "--name", &name]).args(*kind);
        let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
        let mut worker = Worker { child: child.unwrap(), id: String::new() };
        worker.id = eventually("a worker gets work", async || {
            let (_, workers) = pool.get("/v1/workers").await;
            let worker = workers["items"].as_array()?.iter().find(|it| it["name"] == name)?.clone();
            let is_ready = worker["standing"] == "active" && worker["credits"].as_u64() > Some(0);
            is_ready.then(|| worker["id"].as_str().map(str::to_owned))?
        })
        .await;
        workers.push(worker);
    }
    workers
}

async fn text(pool: &Pool, path: &str) -> (u16, String) {
    let answer = pool.request(Method::GET, path).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A run with a dissenter: its detail, the winner's attempt and the liar's.
async fn disputed_run(pool: &Pool, module: &str, liar: &str, n: u64) -> (api::Run, u32, u32) {
    for seed in 0..50 {
        let request = json!({"module": module, "stdin": {"text": "what is true\n"}, "seed": seed,
            "verify": {"policy": "quorum", "n": n}});
        let run = pool.run(request).await;
        let run: api::Run = serde_json::from_value(run).unwrap();
        let lied = run.attempts.iter().find(|it| it.worker.to_string() == liar && it.result.is_some());
        if let Some(lied) = lied {
            let honest = run.attempts.iter().find(|it| it.result.is_some() && it.result != lied.result);
            let (honest, lied) = (honest.map_or(0, |it| it.number), lied.number);
            return (run, honest, lied);
        }
    }
    panic!("the liar never took part");
}

#[tokio::test]
async fn the_output_of_a_dissenter_is_kept_and_compared_with_the_winners() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let workers = crew(&pool, dir.path(), &[&[], &[], &["--unsafe-misbehave", "lie"]]).await;
    let module = pool.push(crate::support::wat(crate::support::typed::CAT)).await;
    let (run, honest, lied) = disputed_run(&pool, &module, &workers[2].id, 3).await;
    assert_eq!(run.verdict.dissenters.len(), 1, "{run:?}");
    let at = |number, what| format!("/v1/runs/{}/attempts/{number}/{what}", run.id);
    assert_eq!(text(&pool, &at(honest, "stdout")).await, (200, "what is true\n".to_owned()));
    let (status, lie) = text(&pool, &at(lied, "stdout")).await;
    assert!(status == 200 && lie.starts_with("a lie of"), "{status} {lie}");
    let part = pool.request(Method::GET, &at(lied, "stdout")).header("range", "bytes=2-4");
    let part = part.send().await.unwrap();
    assert_eq!(part.status().as_u16(), 206);
    let headers = part.headers();
    assert!(headers["content-disposition"].to_str().unwrap().starts_with("attachment"));
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("sandbox"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(part.text().await.unwrap(), "lie");
    for (path, status) in [
        (at(lied, "stderr"), 200),
        (at(lied, "files/out/none"), 404),
        (at(99, "stdout"), 404),
        (at(0, "stdout"), 404),
        (format!("/v1/runs/{}/attempts/-1/stdout", run.id), 400),
        (format!("/v1/runs/{}/attempts/4294967296/stdout", run.id), 400),
    ] {
        assert_eq!(text(&pool, &path).await.0, status, "{path}");
    }

    let diff = async |query: &str| pool.get(&format!("/v1/runs/{}/diff{query}", run.id)).await;
    let (status, found) = diff("").await;
    assert_eq!(status, 200, "{found}");
    let found: api::Comparison = serde_json::from_value(found).unwrap();
    assert!(!found.equal && found.stream == "stdout" && found.differing == ["stdout"], "{found:?}");
    assert_eq!((found.left.result, found.left.attempt != lied), (run.result.unwrap(), true));
    assert_eq!((found.right.attempt, found.right.worker.to_string()), (lied, workers[2].id.clone()));
    let rule = "`quorum:3`: 2 equal votes decide once 3 are in, and 2 named ";
    assert!(found.rule.starts_with(rule) && found.arbiter.is_none(), "{found:?}");
    let [lost] = &found.outvoted[..] else { panic!("{found:?}") };
    assert_eq!((lost.attempt, lost.worker.to_string(), lost.blamed), (lied, workers[2].id.clone(), true));
    assert!(lost.why.contains("alone named another result"), "{lost:?}");
    // "what is true" and "a lie of …" differ in their first byte
    assert_eq!(found.first_difference, Some(0));
    let window = found.right.window.unwrap();
    assert_eq!((window.offset, found.right.size), (0, lie.len() as u64));
    let same = diff(&format!("?left={honest}&right={lied}&stream=stderr")).await;
    assert_eq!((same.0, &same.1["equal"], &same.1["first_difference"]), (200, &json!(true), &json!(null)));
    assert_eq!(same.1["left"]["window"], json!(null));
    for (query, status) in [
        ("?left=1", 400),
        ("?stream=stdin", 400),
        ("?stream=file:/out/none", 404),
        ("?left=1&right=98", 404),
        ("?left=1&right=2&colour=red", 400),
    ] {
        assert_eq!(diff(query).await.0, status, "{query}");
    }
    eventually("the lie is evidence", async || {
        let (_, worker) = pool.get(&format!("/v1/workers/{}", workers[2].id)).await;
        (worker["evidence"]["counts"]["dissented"] == 1).then_some(())
    })
    .await;
    let (_, stats) = pool.get("/v1/stats").await;
    assert_eq!(stats["last_hour"]["dissents"], 1, "{stats}");
}

#[tokio::test]
async fn of_a_run_without_agreement_every_result_is_kept() {
    let pool = empty_pool(&["quorum_wait=500ms"]).await;
    let dir = tempfile::tempdir().unwrap();
    let lie: &[&str] = &["--unsafe-misbehave", "lie"];
    let _workers = crew(&pool, dir.path(), &[lie, lie]).await;
    let module = pool.push(crate::support::wat(crate::support::typed::CAT)).await;
    let run = pool.run(json!({"module": module, "verify": {"policy": "quorum", "n": 2}})).await;
    assert_eq!((&run["reason"], &run["verdict"]["kind"]), (&json!("no_quorum"), &json!("disputed")), "{run}");
    let id = run["id"].as_str().unwrap();
    let (status, found) = pool.get(&format!("/v1/runs/{id}/diff")).await;
    assert_eq!((status, &found["equal"]), (200, &json!(false)), "{found}");
    for number in [1, 2] {
        let (status, lie) = text(&pool, &format!("/v1/runs/{id}/attempts/{number}/stdout")).await;
        assert!(status == 200 && lie.starts_with("a lie of"), "{status} {lie}");
    }
}

#[tokio::test]
async fn of_a_run_whose_trusted_executions_differ_every_result_is_kept() {
    let pool = Pool::with(&["--workers", "2", "--slots", "1", "--set", "heartbeat=100ms"]).await;
    let dir = tempfile::tempdir().unwrap();
    let token = json!({"name": "arbiter", "scopes": ["worker"], "owned": true, "arbiter": true});
    let arbiter = enrolled(&pool, dir.path(), token, &[&["--unsafe-misbehave", "lie"]]).await;
    let module = pool.push(crate::support::wat(crate::support::typed::CAT)).await;
    // two newcomers agree, so an arbiter is asked, and then once more: it says something else each time
    let run = pool.run(json!({"module": module, "verify": {"policy": "standard"}})).await;
    assert_eq!(run["verdict"]["kind"], "nondeterministic", "{run}");
    let id = run["id"].as_str().unwrap();
    let (status, found) = pool.get(&format!("/v1/runs/{id}/diff")).await;
    assert_eq!((status, &found["equal"]), (200, &json!(false)), "{found}");
    // the lottery may have asked it before anybody had agreed
    let attempts: Vec<api::Attempt> = serde_json::from_value(run["attempts"].clone()).unwrap();
    let lies: Vec<u32> =
        attempts.iter().filter(|it| it.worker.to_string() == arbiter[0].id).map(|it| it.number).collect();
    assert_eq!(lies.len(), 2, "{run}");
    for number in lies {
        let (status, lie) = text(&pool, &format!("/v1/runs/{id}/attempts/{number}/stdout")).await;
        assert!(status == 200 && lie.starts_with("a lie of"), "{status} {lie}");
    }
}

#[tokio::test]
async fn what_lost_goes_with_its_run() {
    let pool = empty_pool(&["retention_runs=1"]).await;
    let dir = tempfile::tempdir().unwrap();
    let workers = crew(&pool, dir.path(), &[&[], &[], &["--unsafe-misbehave", "lie"]]).await;
    let module = pool.push(crate::support::wat(crate::support::typed::CAT)).await;
    let (run, _, lied) = disputed_run(&pool, &module, &workers[2].id, 3).await;
    let path = format!("/v1/runs/{}/attempts/{lied}/stdout", run.id);
    assert_eq!(text(&pool, &path).await.0, 200);
    let lie = run.attempts.iter().find(|it| it.number == lied).and_then(|it| it.result).unwrap();
    assert_eq!(pool.get(&format!("/v1/blobs/{lie}")).await.0, 200);
    // the next one takes its place; housekeeping is twice a minute
    pool.run(json!({"module": pool.push(guest("hello.wasm")).await})).await;
    eventually("retention deletes the run and what lost in it", async || {
        let gone = pool.get(&format!("/v1/runs/{}", run.id)).await.0 == 404;
        (gone && pool.get(&format!("/v1/blobs/{lie}")).await.0 == 404).then_some(())
    })
    .await;
    let (status, refusal) = pool.get(&path).await;
    assert_eq!((status, &refusal["code"]), (404, &json!(ProblemCode::NotFound.name())));
}
