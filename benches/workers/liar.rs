//! One liar among five.

use std::time::Duration;

use serde_json::{Value, json};

use crate::history::Client;
use crate::support::Pool;
use crate::support::remote::{Worker, crew, shown};
use crate::{Bench, busy_echo, echo, echoed, pool_of_remotes};

/// Modules that the runs are spread over: placement prefers who has one loaded, and everybody shall take part.
const MODULES: usize = 8;

/// How often the liar is let in again: it is put out after its second lie, and is to lie more often than that.
const READMIT_EVERY: Duration = Duration::from_millis(50);

/// What a run says of the liar.
struct Seen {
    /// Whether a vote of it was counted.
    has_lied: bool,
    /// Attempts of it, with those that counted no more or were taken from it because it was put out meanwhile.
    held: usize,
    /// Whether the dissenters are the liar if it voted, and nobody otherwise.
    is_named: bool,
    /// Attempts beyond the quorum that no fault explains.
    extra: usize,
}

/// 0 wrong finals, the liar named each time its vote counted, one extra attempt for each of its attempts at most.
pub async fn outvoted(bench: &mut Bench) {
    let pool = pool_of_remotes(&[]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let workers = crew(&pool, dir.path(), &[&[], &[], &["--unsafe-misbehave", "lie"], &[], &[]]).await;
    let liar = &workers[2];
    let mut modules = Vec::new();
    for number in 0..MODULES {
        modules.push(pool.push(busy_echo(100_000 + number as u64)).await);
    }
    let client = Client::new(&pool, &pool.url);
    let count = (bench.runs / 10).max(20);
    let mut all = Vec::new();
    let mut lies = 0;
    for n in [2, 3] {
        let request = |key: &str| {
            let number: usize = key.rsplit('-').next().and_then(|it| it.parse().ok()).unwrap_or(0);
            echo(&modules[number % MODULES], key, n)
        };
        let check = |key: &str, run: &Value| echoed(key, run).map(|()| seen(run, liar, n));
        let prefix = format!("liar-{n}");
        let entries = tokio::select! {
            entries = client.drive(&prefix, count, request, check) => entries,
            () = readmit(&pool, liar) => unreachable!("it never ends"),
        };
        let seen: Vec<&Seen> = entries.iter().filter_map(|it| it.seen.as_ref()?.as_ref().ok()).collect();
        let lied = seen.iter().filter(|seen| seen.has_lied).count();
        let unnamed = seen.iter().filter(|seen| !seen.is_named).count();
        let extra = seen.iter().map(|seen| seen.extra).max().unwrap_or(0);
        let needless = seen.iter().filter(|seen| seen.extra > seen.held).count();
        bench.line(
            &format!("liar among 5, quorum {n}: runs where dissenters are not as it lied"),
            &unnamed.to_string(),
            &format!("it voted in {lied} of {count}"),
            "0",
        );
        bench.line(
            &format!("liar among 5, quorum {n}: most extra attempts of a run"),
            &extra.to_string(),
            &format!("needless in {needless}"),
            "1 per disagreement",
        );
        bench.must(unnamed == 0 && needless == 0, || {
            format!("quorum {n}: {unnamed} unnamed, {needless} needless")
        });
        bench.must(lied > 0, || format!("quorum {n}: the liar never voted, nothing is shown"));
        lies += lied;
        all.extend(entries);
    }
    let findings = client.audit(&pool, &all).await;
    bench.history("liar among 5", &findings, &format!("{lies} lies"));
    let dissents = shown(&pool, &liar.id).await["dissents"].as_u64().unwrap_or(0);
    bench.must(dissents == lies as u64, || format!("the pool counts {dissents} dissents of {lies} lies"));
}

async fn readmit(pool: &Pool, liar: &Worker) {
    loop {
        tokio::time::sleep(READMIT_EVERY).await;
        if shown(pool, &liar.id).await["standing"] == "quarantined" {
            let _ = pool.post(&format!("/v1/workers/{}/readmit", liar.id), &json!({})).await;
        }
    }
}

fn seen(run: &Value, liar: &Worker, n: u64) -> Seen {
    let attempts: Vec<&Value> = run["attempts"].as_array().into_iter().flatten().collect();
    let held = attempts.iter().filter(|it| it["worker"] == liar.id);
    let has_lied = held.clone().any(|it| it["state"] == "voted" && it["won"].is_boolean());
    let held = held.count();
    let named = &run["verdict"]["dissenters"];
    let expected = if has_lied { json!([liar.id]) } else { json!([]) };
    let sound = attempts.iter().filter(|it| it["state"] != "faulted").count();
    Seen {
        has_lied,
        held,
        is_named: *named == expected,
        extra: sound.saturating_sub(usize::try_from(n).unwrap_or(0)),
    }
}
