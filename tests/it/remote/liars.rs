//! Workers that lie, spoil or lose: outvoted, named, and kept out of the result.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{crew, empty_pool, shown};
use crate::support::{Pool, guest};

/// Runs `count` different runs under a quorum of `n`, many at once.
async fn many(pool: &Pool, module: &str, n: u64, count: u64) -> Vec<Value> {
    let runs = (0..count).map(|number| async move {
        let request = json!({"module": module, "args": ["args", format!("{n}-{number}")],
            "verify": {"policy": "quorum", "n": n}, "timeout_ms": 60_000});
        let run = pool.run(request).await;
        assert_eq!(run["state"], "succeeded", "{run}");
        let stdout = run["stdout"]["text"].as_str().unwrap_or_default();
        assert!(stdout.contains(&format!("{n}-{number}")), "a wrong final: {run}");
        run
    });
    futures_util::stream::iter(runs).buffer_unordered(16).collect().await
}

#[tokio::test]
async fn a_liar_among_five_is_outvoted_named_and_after_its_second_lie_out() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let lie: &[&str] = &["--unsafe-misbehave", "lie"];
    let workers = crew(&pool, dir.path(), &[&[], &[], lie, &[], &[]]).await;
    let liar = &workers[2];
    assert!(liar.stderr().contains("MISBEHAVES ON PURPOSE"));
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut named = 0;
    for n in [2, 3] {
        for run in many(&pool, &module, n, 150).await {
            let attempts = run["attempts"].as_array().unwrap();
            // a quarantine in the middle of a run costs it one vote more
            assert!(attempts.len() as u64 <= n + 2, "{run}");
            for dissenter in run["verdict"]["dissenters"].as_array().unwrap() {
                assert_eq!(dissenter, &json!(liar.id), "{run}");
                named += 1;
            }
        }
    }
    assert!(named >= 2, "the liar took part: {named}");
    let shown = shown(&pool, &liar.id).await;
    assert_eq!((&shown["dissents"], &shown["standing"]), (&json!(named), &json!("quarantined")), "{shown}");
}

#[tokio::test]
async fn two_who_agree_on_a_lie_are_outvoted_by_three_and_both_are_named() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let collude: &[&str] = &["--unsafe-misbehave", "collude"];
    let workers = crew(&pool, dir.path(), &[&[], collude, &[], collude, &[]]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    for run in many(&pool, &module, 5, 1).await {
        let attempts = run["attempts"].as_array().unwrap();
        let liars: Vec<&Value> = attempts
            .iter()
            .filter(|attempt| attempt["worker"] == workers[1].id || attempt["worker"] == workers[3].id)
            .collect();
        assert_eq!((attempts.len(), liars.len()), (5, 2), "{run}");
        assert_eq!(liars[0]["result"], liars[1]["result"], "they agree: {run}");
        assert_ne!(liars[0]["result"], run["result"], "{run}");
        let dissenters = run["verdict"]["dissenters"].as_array().unwrap();
        assert!(
            liars.iter().all(|liar| dissenters.contains(&liar["worker"])) && dissenters.len() == 2,
            "{run}"
        );
    }
    // no accident: neither lies again
    for liar in [1, 3] {
        assert_eq!(shown(&pool, &workers[liar].id).await["standing"], "quarantined");
    }
    assert_eq!(many(&pool, &module, 3, 20).await.len(), 20);
}

#[tokio::test]
async fn what_is_delivered_corrupt_is_asked_from_the_next_voter() {
    let pool = empty_pool(&["worker_failures_max=1000"]).await;
    let dir = tempfile::tempdir().unwrap();
    let workers = crew(&pool, dir.path(), &[&["--unsafe-misbehave", "corrupt"], &[]]).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut asked = 0;
    for seed in 0..12 {
        // more than travels with a vote, and something else each time: what is stored already is not sent again
        let request = json!({"module": module, "args": ["random", "65536"], "seed": seed,
            "verify": {"policy": "quorum", "n": 2}});
        let run = pool.run(request).await;
        assert_eq!((&run["state"], &run["verdict"]["votes"]), (&json!("succeeded"), &json!(2)), "{run}");
        assert_eq!(run["attempts"].as_array().unwrap().len(), 2, "{run}");
        let corrupt =
            run["attempts"].as_array().unwrap().iter().filter(|it| it["fault"]["kind"] == "corrupt");
        for attempt in corrupt {
            assert_eq!(attempt["worker"], workers[0].id, "{run}");
            asked += 1;
        }
        if asked > 2 {
            break;
        }
    }
    assert!(asked > 0, "the corrupting worker was asked");
}

#[tokio::test]
async fn lost_and_late_votes_only_cost_time() {
    let pool =
        empty_pool(&["timeout_grace=200ms", "worker_failures_max=1000", "fresh_worker_wait=0ms"]).await;
    let dir = tempfile::tempdir().unwrap();
    let kinds: [&[&str]; 4] =
        [&["--unsafe-misbehave", "drop:100"], &["--unsafe-misbehave", "slow:300"], &[], &[]];
    let workers = crew(&pool, dir.path(), &kinds).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let runs = (0..6).map(|number| {
        let request = json!({"module": module, "args": ["args", number.to_string()], "timeout_ms": 1_000,
            "verify": {"policy": "quorum", "n": 3}, "attempts_max": 20});
        pool.run(request)
    });
    for run in futures_util::future::join_all(runs).await {
        assert_eq!((&run["state"], &run["verdict"]["votes"]), (&json!("succeeded"), &json!(3)), "{run}");
        let voted = |attempt: &Value| attempt["state"] == "voted" && attempt["worker"] == workers[0].id;
        assert!(!run["attempts"].as_array().unwrap().iter().any(voted), "{run}");
    }
}
