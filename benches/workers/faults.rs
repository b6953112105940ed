//! Workers and coordinators that die or fall silent while runs are under way.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::history::{Client, Entry};
use crate::support::proxy::Proxy;
use crate::support::remote::{Worker, begun, ready, submitted};
use crate::support::{Pool, children, eventually, signal};
use crate::{Bench, busy_echo, crew_at, echo, echoed, millis, percentile, pool_of_remotes};

const WORKERS: usize = 6;
const KILL_EVERY: Duration = Duration::from_secs(2);
/// Of [`busy_echo`] for about 5 ms.
const STEPS: u64 = 3_500_000;
/// A random number's worth of seed: which worker dies when differs from run to run, and is printed.
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// kill -9 of one of six every 2 s, which is started again over the same folder at once.
pub async fn kills(bench: &mut Bench) {
    let pool = pool_of_remotes(&[]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut workers = crew_at(&pool, &pool.url, dir.path(), WORKERS, &[]).await;
    let module = pool.push(busy_echo(STEPS)).await;
    let client = Client::new(&pool, &pool.url);
    let request = |key: &str| echo(&module, key, 2);
    let calm_runs = (bench.runs / 10).max(64);

    let mut all = client.drive("warm", 100, request, echoed).await;
    let mut alone = Vec::new();
    for number in 0..20 {
        let entries = client.drive(&format!("alone-{number}"), 1, request, echoed).await;
        alone.extend(entries.iter().map(|entry| entry.took));
        all.extend(entries);
    }
    let mut calm = client.drive("calm", calm_runs, request, echoed).await;
    let mut killed = 0;
    let begun = Instant::now();
    let hit = tokio::select! {
        entries = client.drive("hit", bench.runs, request, echoed) => entries,
        () = kill_one_by_one(&pool, &mut workers, dir.path(), &mut killed) => unreachable!("it never ends"),
    };
    let during = begun.elapsed();
    ready(&pool, WORKERS).await;
    calm.extend(client.drive("again", calm_runs, request, echoed).await);

    let took = |entries: &[Entry<()>]| entries.iter().map(|entry| entry.took).collect::<Vec<_>>();
    let (mut calm_times, mut hit_times) = (took(&calm), took(&hit));
    all.extend(calm);
    all.extend(hit);
    let findings = client.audit(&pool, &all).await;
    bench.history("kill -9 of one of 6 workers every 2 s", &findings, &format!("{killed} kills"));
    bench.must(killed > 0, || "no worker was killed: too few runs".to_owned());
    let alone = percentile(&mut alone, 50);
    for (percent, bound) in [(50, None), (99, Some(Duration::from_millis(1_500) + alone)), (100, None)] {
        let (hit, calm) = (percentile(&mut hit_times, percent), percentile(&mut calm_times, percent));
        let added = hit.saturating_sub(calm);
        let verdict = bound.map_or(String::new(), |bound| format!(", bound {}", millis(bound)));
        bench.line(
            &format!("the same, 64 in flight, p{percent} with kills"),
            &millis(hit),
            &format!("without {}", millis(calm)),
            &format!("added {}{verdict}", millis(added)),
        );
    }
    let rate = hit_times.len() as f64 / during.as_secs_f64();
    bench.line(
        "the same, runs per second with kills",
        &format!("{rate:.0}"),
        &format!("one run alone {}", millis(alone)),
        "",
    );
}

async fn kill_one_by_one(pool: &Pool, workers: &mut [Worker], dir: &Path, killed: &mut usize) {
    let mut random = Timestamp::now().as_nanosecond().unsigned_abs() as u64 | 1;
    let mut every = tokio::time::interval(KILL_EVERY);
    every.tick().await;
    loop {
        every.tick().await;
        random = random.wrapping_mul(MULTIPLIER).wrapping_add(1);
        let victim = (random >> 33) as usize % workers.len();
        workers[victim].signal("KILL");
        workers[victim].ended().await;
        *killed += 1;
        // enrolled already: its key lets it in
        workers[victim] = Worker::spawn(&pool.url, &dir.join(victim.to_string()), &[]);
    }
}

/// SIGSTOP of the worker that executes: from there to the rerun's beginning elsewhere.
pub async fn silence(bench: &mut Bench) {
    let pool = pool_of_remotes(&[]).await;
    let dir = tempfile::tempdir().expect("a folder");
    let workers = crew_at(&pool, &pool.url, dir.path(), 3, &[]).await;
    // longer than it takes until its beginning is told, so that it is under way when its worker stops
    let module = pool.push(busy_echo(2_500_000_000)).await;
    let rounds = (bench.runs / 2_000).clamp(2, 10);
    let (mut samples, mut changed, mut alone) = (Vec::new(), 0, Vec::new());
    for round in 0..rounds {
        let request = json!({"module": module, "stdin": {"text": format!("silence-{round}")},
            "verify": {"policy": "once"}, "timeout_ms": 60_000});
        let run = submitted(&pool, &request).await;
        let holder = begun(&pool, &run).await;
        let frozen = workers.iter().find(|worker| worker.id == holder).expect("one of ours");
        // every other time its runner goes on and finishes, so that a whole vote arrives late
        let runners = if round % 2 == 0 { children(frozen.pid()) } else { Vec::new() };
        let stopped = Timestamp::now();
        frozen.signal("STOP");
        runners.iter().for_each(|pid| signal(*pid, "STOP"));
        // a runner's beginning is told with its worker's next beat: what counts is when it was
        let rerun = eventually("the rerun begins", async || {
            let (_, run) = pool.get(&format!("/v1/runs/{run}")).await;
            let elsewhere = |it: &&Value| it["worker"] != holder && it["started_at"].is_string();
            run["attempts"].as_array()?.iter().find(elsewhere)?["started_at"]
                .as_str()?
                .parse::<Timestamp>()
                .ok()
        })
        .await;
        samples.push(Duration::try_from(rerun.duration_since(stopped)).unwrap_or_default());
        let begun = Instant::now();
        let before = pool.finished(&run).await;
        alone.push(begun.elapsed());
        runners.iter().for_each(|pid| signal(*pid, "CONT"));
        frozen.signal("CONT");
        ready(&pool, workers.len()).await;
        eventually("it holds nothing any more", async || {
            let shown = crate::support::remote::shown(&pool, &holder).await;
            (shown["holds"] == json!([])).then_some(())
        })
        .await;
        let (_, after) = pool.get(&format!("/v1/runs/{run}")).await;
        changed += usize::from(before != after || echoed(&format!("silence-{round}"), &after).is_err());
    }
    let max = percentile(&mut samples, 100);
    bench.line(
        &format!("SIGSTOP of the worker to the rerun's beginning, {rounds} times"),
        &millis(percentile(&mut samples, 50)),
        &format!("the run itself {}", millis(percentile(&mut alone, 50))),
        "median, bound 3500 ms",
    );
    bench.line("the same, the longest", &millis(max), "", "bound 5000 ms");
    bench.line("the same, finals that the woken worker changed", &changed.to_string(), "", "0");
    bench.must(changed == 0, || format!("{changed} finals changed after the worker woke up"));
}

/// An attempt that was executed when its coordinator died.
struct Running {
    run: String,
    number: Value,
    at: Timestamp,
}

/// kill -9 of the coordinator while remote workers execute, and its start over the same folder.
pub async fn restart(bench: &mut Bench) {
    let mut pool = pool_of_remotes(&[]).await;
    let proxy = Proxy::to(&pool.url).await;
    let dir = tempfile::tempdir().expect("a folder");
    let _workers = crew_at(&pool, &proxy.url, dir.path(), WORKERS, &[]).await;
    let module = pool.push(busy_echo(50 * STEPS)).await;
    let client = Client::new(&pool, &proxy.url);
    let request = |key: &str| echo(&module, key, 2);
    let kills = (bench.runs / 1_000).clamp(3, 20);
    let mut all = client.drive("warm", WORKERS, request, echoed).await;
    let (mut running, mut away) = (Vec::new(), Vec::new());
    for kill in 0..kills {
        ready_or_busy(&pool).await;
        let prefix = format!("restart-{kill}");
        let over = Cell::new(false);
        let driven = async {
            let entries = client.drive(&prefix, 16, request, echoed).await;
            over.set(true);
            entries
        };
        let (entries, found) = tokio::join!(driven, interrupt(&mut pool, &proxy, &over));
        all.extend(entries);
        if let Some((found, took)) = found {
            running.extend(found);
            away.push(took);
        }
    }
    if away.is_empty() {
        return bench
            .must(false, || "the coordinator was never killed: no look found its workers busy".to_owned());
    }
    let (mut kept, mut counted) = (0, 0);
    for attempt in &running {
        let (_, run) = pool.get(&format!("/v1/runs/{}", attempt.run)).await;
        let found =
            run["attempts"].as_array().into_iter().flatten().find(|it| it["number"] == attempt.number);
        let state = found.map_or("gone", |it| it["state"].as_str().unwrap_or_default());
        let ended = found.and_then(|it| it["ended_at"].as_str()?.parse::<Timestamp>().ok());
        // it ended between the look and the kill
        if state == "voted" && ended.is_some_and(|ended| ended < attempt.at) {
            continue;
        }
        counted += 1;
        if state == "voted" {
            kept += 1;
        } else if counted - kept <= 3 {
            eprintln!("attempt {} of this run was not kept: {run}", attempt.number);
        }
    }
    let findings = client.audit(&pool, &all).await;
    bench.history("kill -9 of the coordinator", &findings, &format!("{} restarts", away.len()));
    let share = f64::from(kept) / f64::from(counted.max(1)) * 100.0;
    bench.line(
        "the same, running attempts kept",
        &format!("{share:.1} %"),
        &format!("{kept} of {counted}"),
        "at least 99 %",
    );
    bench.line(
        "the same, kill to the next answer, median",
        &millis(percentile(&mut away, 50)),
        &format!("max {}", millis(percentile(&mut away, 100))),
        "",
    );
    bench.must(share >= 99.0, || format!("{kept} of {counted} running attempts were kept"));
}

/// All workers are connected, whatever they hold.
async fn ready_or_busy(pool: &Pool) {
    eventually("all workers are back", async || {
        let (_, workers) = pool.get("/v1/workers").await;
        let is_back = |worker: &&Value| worker["left_at"].is_null() && worker["standing"] == "active";
        (workers["items"].as_array()?.iter().filter(is_back).count() == WORKERS).then_some(())
    })
    .await;
}

/// Waits until nearly all workers execute, kills the coordinator and starts it again; nothing if all is `over` before.
async fn interrupt(pool: &mut Pool, proxy: &Proxy, over: &Cell<bool>) -> Option<(Vec<Running>, Duration)> {
    let running = eventually("the workers execute", async || {
        if over.get() {
            return Some(Vec::new());
        }
        let (_, page) = pool.get("/v1/runs?state=running&limit=200").await;
        let ids = page["items"].as_array()?.iter().filter_map(|run| run["id"].as_str());
        // all at once: what is executed now is not when the last of them has answered
        let runs = ids.map(async |id| (id.to_owned(), pool.get(&format!("/v1/runs/{id}")).await.1));
        let mut running = Vec::new();
        for (id, run) in futures_util::future::join_all(runs).await {
            let begun = run["attempts"].as_array().into_iter().flatten().filter(|it| it["state"] == "begun");
            running.extend(begun.map(|it| (id.clone(), it["number"].clone())));
        }
        (running.len() >= WORKERS - 1).then_some(running)
    })
    .await;
    if running.is_empty() {
        return None;
    }
    let at = Timestamp::now();
    let begun = Instant::now();
    pool.kill();
    pool.start_again();
    proxy.lead_to(&pool.url);
    eventually("it is ready", async || (pool.get("/readyz").await.0 == 200).then_some(())).await;
    let away = begun.elapsed();
    Some((running.into_iter().map(|(run, number)| Running { run, number, at }).collect(), away))
}
