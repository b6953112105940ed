//! The cache through the front door, with workers that are played.

use super::*;

const CACHE: CacheConfig = CacheConfig { entries_max: 100, bytes_max: 16 << 20, age_ms: 3_600_000 };

impl Stage {
    async fn caching() -> Stage {
        Stage::with(CACHE).await
    }

    fn request(&self, more: Value) -> Value {
        let mut request =
            json!({"module": self.module, "verify": {"policy": "quorum", "n": 2}, "wait_ms": 60_000});
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        request
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let (status, bytes) = self.send("POST", path, Body::from(body.to_string())).await;
        (status, serde_json::from_slice(&bytes).unwrap())
    }
}

fn id(run: &Value) -> &str {
    run["id"].as_str().unwrap()
}

#[tokio::test]
async fn a_verified_result_answers_equal_runs_until_it_is_refreshed_or_withdrawn() {
    let stage = Stage::caching().await;
    for number in 1..=3 {
        stage.worker(number, b"the answer".to_vec()).await;
    }
    let first = stage.run(stage.request(json!({}))).await;
    assert_eq!((&first["cached"], &first["cached_from"]), (&json!(false), &json!(null)), "{first}");
    let second = stage.run(stage.request(json!({}))).await;
    assert_ne!(id(&first), id(&second));
    assert_eq!((&second["cached"], &second["cached_from"]), (&json!(true), &first["id"]), "{second}");
    for same in ["result", "run_key", "verdict", "outcome", "stdout", "stderr", "state"] {
        assert_eq!(first[same], second[same], "{same}");
    }
    assert_eq!((&second["attempts"], &second["policy"]["cache"]), (&json!([]), &json!("use")));
    let told = second["explain"][0]["text"].as_str().unwrap();
    assert!(
        told.starts_with(&format!("answered from the cache: run {} computed it at ", id(&first))),
        "{told}"
    );
    assert!(told.ends_with("with verdict agreed (2 votes), under the policy quorum:2"), "{told}");
    // it exists, like any other
    let (status, again) = stage.json(&format!("/v1/runs/{}", id(&second))).await;
    assert_eq!((status, &again["cached_from"]), (StatusCode::OK, &first["id"]));
    assert_eq!(stage.get(&format!("/v1/runs/{}/stdout", id(&second))).await.1, "the answer");
    let listed = eventually("it is listed", async || {
        let (_, page) = stage.json("/v1/runs").await;
        page["items"].as_array().unwrap().iter().find(|run| run["id"] == second["id"]).cloned()
    })
    .await;
    assert_eq!((&listed["cached"], &listed["cached_from"]), (&json!(true), &first["id"]));
    assert_eq!((&listed["attempt_count"], &listed["shared_with"]), (&json!(0), &json!(null)));

    // executed anew
    let off = stage.run(stage.request(json!({"cache": "off"}))).await;
    let refreshed = stage.run(stage.request(json!({"cache": "refresh"}))).await;
    for run in [&off, &refreshed] {
        assert_eq!((&run["cached"], run["attempts"].as_array().unwrap().len()), (&json!(false), 2), "{run}");
    }
    let after = stage.run(stage.request(json!({}))).await;
    assert_eq!(after["cached_from"], refreshed["id"], "what was off is not in the cache");
    let (_, rerun) = stage.post(&format!("/v1/runs/{}/rerun?wait_ms=60000", id(&after)), json!({})).await;
    assert_eq!((&rerun["cached"], &rerun["policy"]["cache"]), (&json!(false), &json!("refresh")), "{rerun}");
    assert_eq!(stage.run(stage.request(json!({}))).await["cached_from"], rerun["id"]);

    let (status, answer) = stage.post("/v1/cache/withdraw", json!({"run": rerun["id"]})).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"withdrawn": 1})));
    assert_eq!(stage.run(stage.request(json!({}))).await["cached"], false);
    let (_, figures) = stage.json("/v1/cache").await;
    for (name, value) in [("entries", 1), ("hits", 3), ("misses", 2), ("withdrawn", 1), ("entries_max", 100)]
    {
        assert_eq!(figures[name], json!(value), "{name} of {figures}");
    }
    let (_, text) = stage.get("/metrics").await;
    let text = String::from_utf8_lossy(&text).into_owned();
    for line in
        ["lockstep_cache_hits_total 3", "lockstep_cache_withdrawn_total 1", "lockstep_cache_entries 1"]
    {
        assert!(text.lines().any(|there| there == line), "{line} is missing in\n{text}");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_result_serves_no_run_that_asks_for_more_or_is_another() {
    let stage = Stage::caching().await;
    for number in 1..=4 {
        stage.worker(number, b"the answer".to_vec()).await;
    }
    let first = stage.run(stage.request(json!({}))).await;
    let with = |policy: Value| stage.request(json!({ "verify": policy }));
    let once = stage.run(with(json!({"policy": "once"}))).await;
    assert_eq!((&once["cached_from"], &once["verdict"]["kind"]), (&first["id"], &json!("agreed")));
    for more in
        [json!({"policy": "quorum", "n": 3}), json!({"policy": "standard"}), json!({"policy": "high"})]
    {
        assert_eq!(stage.run(with(more.clone())).await["cached"], false, "{more}");
    }
    let three = stage.run(with(json!({"policy": "quorum", "n": 3}))).await;
    assert_eq!((&three["cached"], &three["verdict"]["votes"]), (&json!(true), &json!(3)));
    for other in [json!({"seed": 1}), json!({"args": ["x"]}), json!({"stdin": {"text": "x"}})] {
        assert_eq!(stage.run(stage.request(other.clone())).await["cached"], false, "{other}");
    }
    // what nobody compared answers nobody
    let alone = stage.request(json!({"seed": 9, "verify": {"policy": "once"}}));
    for _ in 0..2 {
        let run = stage.run(alone.clone()).await;
        assert_eq!((&run["cached"], &run["verdict"]["kind"]), (&json!(false), &json!("unchecked")));
    }
    stage.end().await;
}

#[tokio::test]
async fn a_receipt_of_a_cached_result_is_that_of_the_run_that_computed_it() {
    let stage = Stage::caching().await;
    for number in 1..=2 {
        stage.worker(number, b"the answer".to_vec()).await;
    }
    let first = stage.run(stage.request(json!({}))).await;
    let second = stage.run(stage.request(json!({}))).await;
    assert_eq!(second["cached"], true);
    // a played worker's key is nowhere, so neither has one, for the same reason
    let receipts = [&first, &second].map(|run| format!("/v1/runs/{}/receipt", id(run)));
    let (status, problem) = stage.json(&receipts[1]).await;
    let (first_status, first_problem) = stage.json(&receipts[0]).await;
    assert_eq!((status, &problem["detail"]), (first_status, &first_problem["detail"]));
    // retention would take the run that computed it: it stays as long as the hit does, and its receipt with it
    let store = Arc::clone(&stage.running().store);
    let everything = crate::store::Retention { finished_before: Time(u64::MAX), runs_max: 0, batch_max: 1 };
    assert_eq!(store.retain(everything).await.unwrap().gone, []);
    let (again_status, again) = stage.json(&receipts[1]).await;
    assert_eq!((again_status, &again["detail"]), (status, &problem["detail"]));
    assert_eq!(stage.get(&format!("/v1/runs/{}/stdout", id(&second))).await.1, "the answer");
    let gone = store.retain(everything).await.unwrap().gone;
    assert_eq!(gone.iter().map(ToString::to_string).collect::<Vec<_>>(), [id(&second), id(&first)]);
    stage.running().service.parts().cache.forget(&gone);
    assert_eq!(stage.run(stage.request(json!({}))).await["cached"], false);
    assert_eq!(store.recount_references().await.unwrap(), []);
    stage.end().await;
}

#[tokio::test]
async fn an_answer_from_the_cache_waits_for_no_commit_unless_a_key_has_to_stay_with_it() {
    let stage = Stage::caching().await;
    for number in 1..=2 {
        stage.worker(number, b"the answer".to_vec()).await;
    }
    let first = stage.run(stage.request(json!({}))).await;
    // somebody else holds the database: nothing can be written
    let held = held(&stage.dir.path().join("data"));
    let hit = stage.run(stage.request(json!({}))).await;
    assert_eq!(hit["cached_from"], first["id"], "{hit}");
    assert_eq!(stage.json(&format!("/v1/runs/{}", id(&hit))).await.1["state"], "succeeded");
    let with_key = async || {
        let request = Request::builder()
            .method("POST")
            .uri("/v1/runs")
            .header("authorization", format!("Bearer {}", stage.running().token))
            .header("content-type", "application/json")
            .header("idempotency-key", "k")
            .body(Body::from(stage.request(json!({})).to_string()))
            .unwrap();
        let answer = stage.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let waits = tokio::time::timeout(Duration::from_millis(300), with_key()).await;
    assert!(waits.is_err(), "{waits:?}");
    // nor one whose caller says so in so many words
    let durable = stage.run(stage.request(json!({"durable": true})));
    let waits = tokio::time::timeout(Duration::from_millis(300), durable).await;
    assert!(waits.is_err(), "{waits:?}");
    drop(held);
    let (status, run) = with_key().await;
    assert_eq!(
        (status, &run["cached_from"]),
        (StatusCode::OK, &first["id"]),
        "the first request made the run: {run}"
    );
    let (status, again) = with_key().await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &run["id"]));
    stage.end().await;
}

#[tokio::test]
async fn what_runs_in_memory_is_answered_in_memory_and_by_what_is_stored() {
    let stage = Stage::caching().await;
    for number in 1..=2 {
        stage.worker(number, b"the answer".to_vec()).await;
    }
    let in_memory = stage.request(json!({"durable": false}));
    let first = stage.run(in_memory.clone()).await;
    let second = stage.run(in_memory.clone()).await;
    assert_eq!(second["cached_from"], first["id"], "{second}");
    assert_eq!(stage.get(&format!("/v1/runs/{}/stdout", id(&second))).await.1, "the answer");
    let stored = stage.run(stage.request(json!({}))).await;
    assert_eq!(stored["cached"], false, "what is in memory only answers nothing that is to be kept");
    let (status, _) = stage.post("/v1/cache/withdraw", json!({"run": first["id"]})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(stage.run(in_memory).await["cached_from"], stored["id"]);
    stage.end().await;
}

#[tokio::test]
async fn what_verifying_anew_said_is_shown_with_those_that_have_the_result() {
    let stage = Stage::caching().await;
    for number in 1..=2 {
        stage.worker(number, b"the answer".to_vec()).await;
    }
    let first = stage.run(stage.request(json!({}))).await;
    // answered when it is written: before, it is shown from memory
    let second = stage.run(stage.request(json!({"durable": true}))).await;
    assert_eq!((&second["cached_from"], &second["verification"]), (&first["id"], &json!(null)));
    let (verdict, explain) = (crate::store::Reverdict::Confirmed, Default::default());
    let found = crate::store::Reverification { at: Time(70), verdict, explain };
    let done = crate::store::Concluded::Done { revision: 1, found, confirmations: Vec::new() };
    stage.running().store.conclude_suspect(id(&first).parse().unwrap(), done).await.unwrap();
    for run in [&first, &second] {
        let (_, run) = stage.json(&format!("/v1/runs/{}", id(run))).await;
        assert_eq!(run["verification"]["conclusion"], "confirmed", "{run}");
    }
    stage.end().await;
}

#[tokio::test]
async fn concurrent_equal_submissions_have_the_attempts_of_one() {
    let stage = Stage::caching().await;
    let (mut orders, say) = stage.idle_worker(9).await;
    let request = stage.request(json!({"verify": {"policy": "once"}, "wait_ms": 0}));
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(id(&stage.run(request.clone()).await).to_owned());
    }
    let (_, follower) = stage.json(&format!("/v1/runs/{}", ids[7])).await;
    assert_eq!((&follower["state"], &follower["attempts"]), (&json!("queued"), &json!([])), "{follower}");
    let told = follower["explain"].to_string();
    assert!(told.contains(&format!("run {} is equal to it and in flight", ids[0])), "{told}");
    say(FromAgent::Credits { credits: 4, received: 0 });
    let mut assigned = 0;
    while let Ok(Some(order)) = tokio::time::timeout(Duration::from_millis(500), orders.recv()).await {
        if let ToAgent::Assign(assignment) = order {
            assigned += 1;
            say(FromAgent::Voted(Box::new(vote(&assignment, b"the answer"))));
        }
    }
    assert_eq!(assigned, 1);
    for (position, id) in ids.iter().enumerate() {
        let (_, run) = stage.json(&format!("/v1/runs/{id}?wait_ms=60000")).await;
        let leader = if position == 0 { json!(null) } else { json!(ids[0]) };
        assert_eq!((&run["state"], &run["shared_with"]), (&json!("succeeded"), &leader), "{run}");
        assert_eq!((&run["stdout"]["text"], &run["cached"]), (&json!("the answer"), &json!(false)));
    }
    stage.end().await;
}

#[tokio::test]
async fn an_operators_quarantine_withdraws_what_rests_on_the_worker() {
    let stage = Stage::caching().await;
    let mut workers = Vec::new();
    for number in 1..=2 {
        workers.push(stage.worker(number, b"the answer".to_vec()).await);
    }
    stage.run(stage.request(json!({}))).await;
    assert_eq!(stage.run(stage.request(json!({}))).await["cached"], true);
    let (status, _) = stage
        .post(&format!("/v1/workers/{}/quarantine", workers[1]), json!({"why": "its memory is bad"}))
        .await;
    assert_eq!(status, StatusCode::OK);
    stage.worker(3, b"the answer".to_vec()).await;
    assert_eq!(stage.run(stage.request(json!({}))).await["cached"], false);
    assert_eq!(stage.running().store.withdrawals().await.unwrap().len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_withdrawal_names_what_it_means() {
    let stage = Stage::caching().await;
    for number in 1..=2 {
        stage.worker(number, b"the answer".to_vec()).await;
    }
    for wrong in [json!({}), json!({"all": true, "worker": "w1"}), json!({"everything": true})] {
        let (status, problem) = stage.post("/v1/cache/withdraw", wrong.clone()).await;
        assert!(status.is_client_error(), "{wrong}: {problem}");
    }
    let tomorrow = "2999-01-01T00:00:00Z";
    let module = json!(stage.module);
    for (what, count) in [
        (json!({"class": Digest::of(b"other")}), 0),
        (json!({"before": "2020-01-01T00:00:00Z"}), 0),
        (json!({"after": tomorrow}), 0),
        (json!({"worker": "w1", "after": tomorrow}), 0),
        (json!({"class": CLASS.0, "before": tomorrow}), 1),
        (json!({ "module": module }), 1),
        (json!({"worker": "w1"}), 1),
        (json!({"all": true}), 1),
    ] {
        let run = stage.run(stage.request(json!({}))).await;
        assert_eq!(run["state"], "succeeded");
        let (status, answer) = stage.post("/v1/cache/withdraw", what.clone()).await;
        assert_eq!((status, answer), (StatusCode::OK, json!({"withdrawn": count})), "{what}");
    }
    stage.end().await;
}

#[tokio::test]
async fn after_a_crash_nothing_answers_that_rests_on_what_is_out() {
    let stage = Stage::caching().await;
    let mut workers = Vec::new();
    for number in 1..=2 {
        workers.push(stage.worker(number, b"the answer".to_vec()).await);
    }
    stage.run(stage.request(json!({}))).await;
    let parts = stage.running().service.parts();
    let (store, clock) = (Arc::clone(&parts.store), parts.clock);
    let loaded = async || {
        let cache = Arc::new(ResultCache::new(CACHE));
        cache::load(Arc::clone(&store), Arc::clone(&cache), clock).await;
        cache.totals().entries
    };
    assert_eq!(loaded().await, 1);
    // its withdrawal was never stored
    let at = clock.now();
    let quarantine = crate::store::Quarantine { why: "it lied".to_owned(), at, for_votes: false };
    assert!(store.quarantine_worker(workers[1], Some(quarantine), at).await.unwrap());
    assert_eq!(loaded().await, 0);
    // a newcomer now, what it said before counts for nothing
    assert!(store.quarantine_worker(workers[1], None, clock.now()).await.unwrap());
    assert_eq!(loaded().await, 0);
    stage.run(stage.request(json!({"cache": "refresh"}))).await;
    assert_eq!(loaded().await, 1);
    let found = crate::store::Nondeterminism { run: RunId(1), at };
    assert!(store.blame_module(stage.module, found).await.unwrap());
    assert_eq!(loaded().await, 0);
    stage.end().await;
}
