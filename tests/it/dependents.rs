//! Runs that were answered with a wrong result, from the cache or because they shared attempts, with real processes: when the
//! run that computed it is corrected, they are too, over a kill of the coordinator in between.

use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::repair::{COLLUDES, certified, cli, hears, id, is_lie, joins, repaired};
use crate::support::receiver::Receiver;
use crate::support::remote::{Worker, figure, ready};
use crate::support::{Pool, eventually, guest};

/// A pool with an arbiter and two liars of one mind, and the module that they lie about.
async fn deceived(dir: &std::path::Path) -> (Pool, [Worker; 2], String) {
    let args = ["--workers", "0", "--arbiters", "1", "--slots", "1", "--callback-allow", "loopback"];
    let caching = ["--set", "heartbeat=100ms", "--set", "cache_entries=1000"];
    let pool = Pool::with(&[&args[..], &caching].concat()).await;
    let liars =
        [joins(&pool, dir, "one", Some(COLLUDES)).await, joins(&pool, dir, "other", Some(COLLUDES)).await];
    ready(&pool, 3).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    (pool, liars, module)
}

fn request(module: &str) -> Value {
    json!({"module": module, "args": ["args", "true"], "verify": {"policy": "quorum", "n": 2}, "timeout_ms": 60_000})
}

/// A run, two that share its attempts and two that the cache answers; the last one of each has a callback.
async fn lied_to(pool: &Pool, module: &str, receiver: &Receiver) -> Vec<Value> {
    // while one of the two is busy nobody decides, and equal runs wait for each other
    let blocker =
        json!({"module": module, "args": ["loop"], "verify": {"policy": "once"}, "timeout_ms": 600_000});
    let blocker = id(&pool.post("/v1/runs", &blocker).await.1).to_owned();
    let mut with_callback = request(module);
    with_callback["callback"] = json!({"url": receiver.url("/hook")});
    let mut waiting = Vec::new();
    for request in [request(module), request(module), with_callback.clone()] {
        waiting.push(id(&pool.post("/v1/runs", &request).await.1).to_owned());
    }
    pool.post(&format!("/v1/runs/{blocker}/cancel"), &json!({})).await;
    let mut before = Vec::new();
    for run in &waiting {
        before.push(pool.finished(run).await);
    }
    let first = waiting[0].clone();
    for run in &before[1..] {
        assert_eq!(run["shared_with"], json!(first), "{run}");
    }
    for request in [request(module), with_callback] {
        let hit = pool.run(request).await;
        assert_eq!(hit["cached_from"], json!(first), "{hit}");
        before.push(hit);
    }
    assert!(before.iter().all(is_lie), "{before:?}");
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_reaches_those_that_shared_and_those_that_the_cache_answered() {
    let receiver = Receiver::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (pool, liars, module) = deceived(dir.path()).await;
    let before = lied_to(&pool, &module, &receiver).await;
    let first = id(&before[0]).to_owned();
    let hit = id(&before[3]).to_owned();
    let (_, was) = pool.get(&format!("/v1/runs/{hit}")).await;
    let of_hit = hears(&pool, &format!("/v1/runs/{hit}/events?corrections=true"), "event: corrected").await;
    // it has nothing to do with them
    let other =
        pool.run(json!({"module": module, "args": ["args", "other"], "verify": {"policy": "once"}})).await;

    cli(&pool, &["workers", "quarantine", &liars[0].id, "--why", "it lied"]).await;
    let told = of_hit.await.unwrap();
    assert!(told.contains(&hit) && told.contains("\"revision\":2"), "{told}");
    let repair = repaired(&pool, &liars[0].id).await;
    assert!(repair["corrected"].as_u64() >= Some(1) && repair["dependents"] == json!(4), "{repair}");
    let (_, right) = pool.get(&format!("/v1/runs/{first}")).await;
    for before in &before {
        let path = format!("/v1/runs/{}", id(before));
        let (_, now) = pool.get(&path).await;
        assert_eq!((&now["revision"], &now["result"]), (&json!(2), &right["result"]), "{now}");
        assert_eq!((&now["stdout"]["text"], &now["verdict"]), (&json!("true\n"), &right["verdict"]), "{now}");
        assert_eq!(now["verification"]["conclusion"], "corrected");
        for field in ["finished_at", "cached_from", "shared_with", "run_key"] {
            assert_eq!(now[field], before[field], "{field}");
        }
        let (_, first) = pool.get(&format!("{path}?revision=1")).await;
        assert!(is_lie(&first) && first["explain"] == before["explain"], "{first}");
    }
    let (_, now) = pool.get(&format!("/v1/runs/{hit}")).await;
    let why = now["explain"][0]["text"].as_str().unwrap();
    assert!(why.contains(&format!("corrected with run {first}")), "{why}");
    assert!(now["corrected_at"].as_str() >= right["corrected_at"].as_str(), "{now}");
    assert_eq!(pool.get(&format!("/v1/runs/{hit}?revision=1")).await.1["cached_from"], was["cached_from"]);
    // the receipt of each revision is that of the same result
    for (revision, result) in [(1, &was["result"]), (2, &right["result"])] {
        let certified = certified(&pool, &hit, revision).await;
        assert_eq!((json!(certified.result), certified.revision), (result.clone(), revision));
        assert_eq!(json!(certified.run), json!(first));
    }
    // one that shared and one that was cached: each was told of, and is told again
    let all = receiver.first(4).await;
    let corrected: Vec<_> = all.iter().filter(|it| it.header("lockstep-event") == "run.corrected").collect();
    let told: Vec<String> = corrected.iter().map(|it| it.header("webhook-id").to_owned()).collect();
    for run in [&before[2], &before[4]] {
        assert!(told.contains(&format!("{}_2", id(run))), "{told:?}");
    }
    assert!(corrected.iter().all(|it| it.json()["data"]["stdout"]["text"] == "true\n"));
    let other = pool.get(&format!("/v1/runs/{}", id(&other))).await.1;
    assert_eq!(other["shared_with"], json!(null), "{other}");
    assert_eq!(figure(&pool, "lockstep_dependents_corrected_total").await, 4);
    let (table, _) = cli(&pool, &["repairs"]).await;
    assert!(table.contains("DEPENDENTS"), "{table}");
}

/// How many runs have the result of another, by their revision: as the database says that a kill has left.
fn left_behind(pool: &Pool) -> (u32, u32) {
    let database = rusqlite::Connection::open(pool.data.join("lockstep.db")).unwrap();
    let sql = "SELECT sum(revision = 1), sum(revision = 2) FROM runs WHERE source IS NOT NULL";
    database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_a_correction_and_those_that_follow_it_leaves_none_behind() {
    const HITS: usize = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let (mut pool, liars, module) = deceived(dir.path()).await;
    let first = pool.run(request(&module)).await;
    assert!(is_lie(&first), "{first}");
    let waits = request(&module);
    let hits = stream::iter(0..HITS).map(|_| pool.post("/v1/runs", &waits)).buffer_unordered(16);
    let hits: Vec<Value> = hits.map(|(_, run)| run).collect().await;
    assert!(hits.iter().all(|hit| hit["cached_from"] == first["id"]));
    eventually("all rows are written", async || (left_behind(&pool) == (HITS as u32, 0)).then_some(())).await;
    let path = format!("/v1/runs/{}/events?corrections=true", id(&first));
    let corrected = hears(&pool, &path, "event: corrected").await;
    let quarantine = format!("/v1/workers/{}/quarantine", liars[0].id);
    let asked = pool.request(Method::POST, &quarantine).json(&json!({"why": "it lied"}));
    let (heard, _) = tokio::join!(corrected, asked.send());
    pool.kill();
    assert!(heard.unwrap().contains("\"revision\":2"));
    let (wrong, right) = left_behind(&pool);
    assert!(wrong > 0, "it was killed too late: {right} were corrected already");
    println!("killed with {right} of {HITS} corrected");

    pool.start_again();
    eventually("everybody has what is right", async || {
        // verifying it anew may have shown who colluded: the other has a repair too
        let repairs = pool.get("/v1/repairs").await.1;
        let mut of = repairs["items"].as_array().into_iter().flatten();
        let repair = of.find(|repair| repair["worker"] == json!(liars[0].id))?;
        (repair["state"] == "done" && repair["dependents"] == json!(HITS)).then_some(())
    })
    .await;
    assert_eq!(left_behind(&pool), (0, HITS as u32));
    let (_, source) = pool.get(&format!("/v1/runs/{}", id(&first))).await;
    assert_eq!((&source["revision"], &source["stdout"]["text"]), (&json!(2), &json!("true\n")));
    for hit in [&hits[0], &hits[HITS / 2], &hits[HITS - 1]] {
        let (_, now) = pool.get(&format!("/v1/runs/{}", id(hit))).await;
        assert_eq!((&now["revision"], &now["result"]), (&json!(2), &source["result"]), "{now}");
    }
}
