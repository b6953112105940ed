//! The pool at a glance, minute by minute, searches and bulk calls, as callers see them.

use std::collections::BTreeSet;

use lockstep::digest::Digest;
use lockstep::protocol::api::{self, ProblemCode};
use lockstep::result::{RunState, VerdictKind};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::typed::{CAT, LOOP, Pool, TRAP, problem};
use crate::support::{self, eventually as poll};

#[tokio::test]
async fn the_pool_at_a_glance_tells_what_happened() {
    let pool = Pool::start().await;
    let (cat, trap) = (pool.upload(CAT).await.digest, pool.upload(TRAP).await.digest);
    for _ in 0..3 {
        pool.run(json!({"module": cat})).await;
    }
    pool.run(json!({"module": cat, "verify": {"policy": "once"}})).await;
    pool.run(json!({"module": trap})).await;
    let endless: api::Run =
        pool.post("/v1/runs", &json!({"module": pool.upload(LOOP).await.digest})).await.json().await.unwrap();
    let stats = poll("the endless run to begin", async || {
        let stats: api::PoolStats = pool.get("/v1/stats").await.json().await.ok()?;
        (stats.queue.running == 1 && stats.storage.runs == 6).then_some(stats)
    })
    .await;
    assert_eq!((stats.workers.active, stats.workers.gone, stats.workers.lost), (3, 0, 0));
    assert!(stats.slots.busy >= 1 && stats.slots.busy <= stats.slots.total, "{stats:?}");
    let hour = stats.last_hour.tally;
    assert_eq!((hour.submitted, hour.finished, hour.succeeded, hour.failed), (6, 5, 4, 1), "{hour:?}");
    assert_eq!((hour.verdicts.agreed, hour.verdicts.unchecked), (4, 1), "{hour:?}");
    assert_eq!((stats.storage.runs_open, stats.storage.modules), (1, 3));
    assert!(stats.storage.bytes > 0 && stats.storage.retention.oldest_finished_at.is_some());
    assert_eq!(stats.storage.retention.would_free_runs, 0);

    let series: api::Series = pool.get("/v1/stats/series?minutes=5").await.json().await.unwrap();
    assert_eq!((series.buckets.len(), series.bucket_ms), (5, 60_000));
    assert!(series.buckets.is_sorted_by(|a, b| a.at < b.at));
    let finished: u64 = series.buckets.iter().map(|bucket| bucket.tally.finished).sum();
    assert_eq!(finished, 5);
    let one: api::Series = pool.get("/v1/stats/series?minutes=1").await.json().await.unwrap();
    assert_eq!(one.buckets.len(), 1);
    for wrong in ["0", "1441", "-1", "x"] {
        let refusal = problem(pool.get(&format!("/v1/stats/series?minutes={wrong}")).await).await;
        assert_eq!(
            (refusal.code, refusal.pointer.as_deref()),
            (ProblemCode::InvalidParameter, Some("minutes"))
        );
    }
    pool.request(Method::POST, &format!("/v1/runs/{}/cancel", endless.id)).send().await.unwrap();
    let rate = poll("the rate", async || {
        let stats: api::PoolStats = pool.get("/v1/stats").await.json().await.ok()?;
        (stats.runs_per_second > 0.0 && stats.queue.running == 0).then_some(stats.runs_per_second)
    });
    assert!(rate.await <= 0.6);
}

#[tokio::test]
async fn after_a_restart_the_last_hour_is_counted_again() {
    let mut pool = support::Pool::start().await;
    let module = pool.push(support::wat(CAT)).await;
    for _ in 0..3 {
        pool.run(json!({"module": module})).await;
    }
    let (_, before) = pool.get("/v1/stats").await;
    assert_eq!(before["last_hour"]["finished"], 3, "{before}");
    pool.kill();
    pool.start_again();
    let after = support::eventually("the figures are back", async || {
        let (_, stats) = pool.get("/v1/stats").await;
        (stats["last_hour"]["finished"] == 3).then_some(stats)
    })
    .await;
    for figure in ["submitted", "succeeded", "failed", "faults", "verdicts"] {
        assert_eq!(after["last_hour"][figure], before["last_hour"][figure], "{figure}: {after}");
    }
    assert!(after["last_hour"]["since"].as_str() < before["at"].as_str(), "{after}");
}

#[tokio::test]
async fn runs_are_searched_by_state_worker_verdict_and_text() {
    let pool = Pool::start().await;
    let wasm = wat::parse_str(CAT).unwrap();
    let named = pool.request(Method::POST, "/v1/modules?name=Copy-Cat.wasm").body(wasm).send().await.unwrap();
    let cat = named.json::<api::Module>().await.unwrap().digest;
    let trap = pool.upload(TRAP).await.digest;
    let first = pool.run(json!({"module": cat, "args": ["needle in \"hay\""]})).await;
    let once = pool.run(json!({"module": cat, "verify": {"policy": "once"}})).await;
    let failed = pool.run(json!({"module": trap})).await;
    let endless = pool.upload(LOOP).await.digest;
    let open: api::Run = pool.post("/v1/runs", &json!({"module": endless})).await.json().await.unwrap();
    poll("the endless run to begin", async || {
        let run: api::Run = pool.get(&format!("/v1/runs/{}", open.id)).await.json().await.ok()?;
        (run.state == RunState::Running).then_some(())
    })
    .await;
    let find = async |query: &[(&str, &str)]| {
        let answer = pool.request(Method::GET, "/v1/runs").query(query).send().await.unwrap();
        let page: api::RunPage = answer.json().await.unwrap();
        page.items.iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(find(&[("state", "failed")]).await, [failed.id]);
    assert_eq!(find(&[("state", "running")]).await, [open.id]);
    assert_eq!(find(&[("state", "queued")]).await, []);
    assert_eq!(find(&[("state", "running,failed")]).await, [open.id, failed.id]);
    assert_eq!(find(&[("state", "succeeded,failed")]).await, [failed.id, once.id, first.id]);
    assert_eq!(find(&[("verdict", "unchecked")]).await, [once.id]);
    assert_eq!(find(&[("verdict", "agreed")]).await, [failed.id, first.id]);
    let worker = once.attempts[0].worker;
    let by_worker: BTreeSet<_> = find(&[("worker", &worker.to_string())]).await.into_iter().collect();
    for run in [&first, &once, &failed] {
        let held = run.attempts.iter().any(|attempt| attempt.worker == worker);
        assert_eq!(by_worker.contains(&run.id), held, "{}", run.id);
    }
    assert_eq!(find(&[("worker", "w99")]).await, []);
    assert_eq!(find(&[("text", "in \"hay")]).await, [first.id]);
    assert_eq!(find(&[("text", "copy-cat")]).await, [once.id, first.id]);
    assert_eq!(find(&[("text", &once.id.to_string()[20..])]).await, [once.id]);
    assert_eq!(find(&[("text", &trap.to_string()[..30])]).await, [failed.id]);
    assert_eq!(find(&[("text", "copy-cat"), ("verdict", "agreed")]).await, [first.id]);
    let later = first.created_at.to_string();
    assert_eq!(find(&[("until", &later)]).await, []);
    for (name, wrong) in [
        ("state", "finished"),
        ("state", ""),
        ("verdict", "maybe"),
        ("worker", "3"),
        ("text", ""),
        ("text", "a\u{7}"),
        ("text", &"x".repeat(101)),
        ("since", "yesterday"),
        ("cursor", "zzz"),
    ] {
        let answer = pool.request(Method::GET, "/v1/runs").query(&[(name, wrong)]).send().await.unwrap();
        let refusal = problem(answer).await;
        assert_eq!(refusal.code, ProblemCode::InvalidParameter, "{name}={wrong}: {}", refusal.detail);
    }
}

#[tokio::test]
async fn many_runs_are_canceled_and_rerun_in_one_call() {
    let pool = Pool::start().await;
    let (cat, endless) = (pool.upload(CAT).await.digest, pool.upload(LOOP).await.digest);
    let done = pool.run(json!({"module": cat})).await;
    let mut ids = vec![done.id];
    for _ in 0..5 {
        let run: api::Run = pool.post("/v1/runs", &json!({"module": endless})).await.json().await.unwrap();
        ids.push(run.id);
    }
    let absent = "01920000-0000-7000-8000-000000000001".parse().unwrap();
    ids.push(absent);
    let bulk = async |what: &str, ids: &[lockstep::id::RunId]| {
        pool.post(&format!("/v1/runs/{what}"), &json!({"ids": ids})).await
    };
    let page: api::BulkPage = bulk("cancel", &ids).await.json().await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.id).collect::<Vec<_>>(), ids, "in the order of the call");
    // what had ended stays as it was, as with one cancel
    assert_eq!(page.items[0].run.as_ref().unwrap().state, RunState::Succeeded);
    for item in &page.items[1..6] {
        assert!(item.ok && !item.pending && item.problem.is_none(), "{item:?}");
        assert_eq!(item.run.as_ref().unwrap().state, RunState::Canceled);
    }
    let missing = &page.items[6];
    assert!(!missing.ok && missing.run.is_none());
    assert_eq!(missing.problem.as_ref().unwrap().code, ProblemCode::NotFound);

    let page: api::BulkPage = bulk("rerun", &[done.id, absent]).await.json().await.unwrap();
    let again = page.items[0].run.as_ref().unwrap();
    assert_eq!((again.rerun_of, again.run_key), (Some(done.id), done.run_key));
    assert!(again.id != done.id && !page.items[1].ok);

    for wrong in [vec![], vec![done.id; 2], vec![done.id; 501]] {
        let refusal = problem(bulk("cancel", &wrong).await).await;
        assert_eq!((refusal.code, refusal.pointer.as_deref()), (ProblemCode::InvalidField, Some("/ids")));
    }
    let reader = pool.post("/v1/tokens", &json!({"name": "reader", "scopes": ["read"]})).await;
    let reader: api::NewToken = reader.json().await.unwrap();
    let refused = pool.anonymous(Method::POST, "/v1/runs/cancel").bearer_auth(&reader.secret);
    let refused = refused.json(&json!({"ids": [done.id]})).send().await.unwrap();
    assert_eq!(problem(refused).await.code, ProblemCode::Forbidden);
}

#[tokio::test]
async fn a_worker_is_shown_with_what_it_does_and_what_was_seen_of_it() {
    let pool = Pool::with(&["--workers", "1", "--slots", "1"]).await;
    let endless = pool.upload(LOOP).await.digest;
    let once = json!({"module": endless, "verify": {"policy": "once"}, "timeout_ms": 300, "attempts_max": 1});
    let timed_out = pool.run(once).await;
    let long = json!({"module": endless, "verify": {"policy": "once"}, "timeout_ms": 60_000});
    let open: api::Run = pool.post("/v1/runs", &long).await.json().await.unwrap();
    let worker = poll("the worker to hold it and use CPU time", async || {
        let worker: api::WorkerDetail = pool.get("/v1/workers/w1").await.json().await.ok()?;
        let held = worker.current.first().is_some_and(|held| held.cpu_ms > 0.0 && held.started_at.is_some());
        (held && worker.evidence.recent.len() == 1).then_some(worker)
    })
    .await;
    assert_eq!((worker.current[0].run, worker.current[0].number), (open.id, 1));
    assert!(worker.heard_ago_ms < 10_000);
    let seen = &worker.evidence.recent[0];
    assert_eq!((seen.kind.as_str(), seen.run, seen.attempt), ("timed_out", Some(timed_out.id), Some(1)));
    assert_eq!((worker.evidence.counts["timed_out"], Some(seen.class)), (1, worker.worker.class));
    let page: api::EvidencePage = pool.get("/v1/workers/w1/evidence?limit=1").await.json().await.unwrap();
    assert_eq!((page.items, page.next), (vec![seen.clone()], None));
    let older = pool.get(&format!("/v1/workers/w1/evidence?cursor={}", seen.number)).await;
    assert_eq!(older.json::<api::EvidencePage>().await.unwrap().items, []);
    assert_eq!(problem(pool.get("/v1/workers/w7").await).await.code, ProblemCode::NotFound);
    let forged = pool.get("/v1/workers/w1/evidence?cursor=99999999999999999999999").await;
    assert_eq!(problem(forged).await.code, ProblemCode::InvalidParameter);
    pool.request(Method::POST, &format!("/v1/runs/{}/cancel", open.id)).send().await.unwrap();
}

#[tokio::test]
async fn information_tells_the_servers_facts() {
    let pool = Pool::with(&["--set", "retention_runs=77", "--set", "retention_evidence=1000"]).await;
    let info: api::Info = pool.get("/v1/info").await.json().await.unwrap();
    assert!(info.server.engine.starts_with("wasmtime ") && !info.server.tls, "{:?}", info.server);
    assert_eq!((info.server.listen.as_str(), info.server.class), (pool.address(), info.classes[0]));
    assert!(info.server.uptime_ms < 600_000);
    assert_eq!(info.policy_default.verify.policy, api::VerifyPolicy::Standard);
    assert_eq!((info.bounds.bulk_runs_max, info.bounds.page_items_max), (500, 200));
    assert_eq!((info.retention.runs_max, info.retention.evidence_max), (77, 1_000));
}

#[tokio::test]
async fn a_stream_of_the_pool_begins_with_where_it_stands() {
    use futures_util::StreamExt as _;
    let pool = Pool::start().await;
    let first = async |request: reqwest::RequestBuilder| {
        let mut pieces = request.send().await.unwrap().bytes_stream();
        let mut text = String::new();
        while !text.contains("\n\n") {
            text.push_str(std::str::from_utf8(&pieces.next().await.expect("an event").unwrap()).unwrap());
        }
        text
    };
    let fresh = first(pool.request(Method::GET, "/v1/events")).await;
    assert!(fresh.starts_with("event: open\n") && fresh.contains("id: 1"), "{fresh}");
    let again = first(pool.request(Method::GET, "/v1/events").header("last-event-id", "1")).await;
    assert!(again.starts_with("event: resync\n") && again.contains("reconnected"), "{again}");
    assert_eq!(pool.get("/v1/info").await.status(), StatusCode::OK);
    let absent = Digest::of(b"x");
    assert_eq!(problem(pool.get(&format!("/v1/blobs/{absent}")).await).await.code, ProblemCode::NotFound);
    let run = pool.run(json!({"module": pool.upload(CAT).await.digest})).await;
    assert_eq!(run.verdict.kind, VerdictKind::Agreed);
    let ended = pool.get(&format!("/v1/runs/{}/events", run.id)).await.text().await.unwrap();
    assert!(ended.starts_with("event: run\n") && ended.contains("event: end\n"), "{ended}");
}
