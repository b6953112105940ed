//! Partitions both ways and one way, cuts in the middle of an upload, loss and slow links, between real namespaces: what a
//! client was promised is there exactly once, and what was lost was rerun in time.
//!
//! Timings are the defaults (a beat each second, lost after three), because the figures are promised for them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::netns::{Lost, Net, Place, Placed, skipped};
use super::{busy, figure, ready, shown, submitted, texts, worker_token};
use crate::support::{Pool, children, cpu_ticks, eventually, guest};

/// Promised are 5 s after a silent loss; a machine that builds other things meanwhile may be late.
const RERUN_WITHIN: Duration = Duration::from_secs(8);

/// What a run must come to.
enum Expected {
    Text(String),
    Bytes(u64),
}

/// Everything that was submitted: nothing of it may be lost, doubled or wrong, and nothing else may be there.
#[derive(Default)]
struct History(Vec<(String, u64, Expected)>);

impl History {
    async fn check(&self, pool: &Pool) {
        for (id, votes, expected) in &self.0 {
            let run = pool.finished(id).await;
            assert_eq!(
                (&run["state"], &run["verdict"]["votes"]),
                (&json!("succeeded"), &json!(votes)),
                "{run}"
            );
            match expected {
                Expected::Text(text) => assert_eq!(run["stdout"]["text"], *text, "{run}"),
                Expected::Bytes(size) => assert_eq!(run["stdout"]["size"], *size, "{run}"),
            }
        }
        let mut listed = Vec::new();
        let mut cursor = String::new();
        loop {
            let (_, page) = pool.get(&format!("/v1/runs?limit=100{cursor}")).await;
            listed.extend(page["items"].as_array().unwrap().iter().map(|run| run["id"].clone()));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        listed.reverse();
        let submitted: Vec<_> = self.0.iter().map(|(id, ..)| json!(id)).collect();
        assert_eq!(listed, submitted);
        let count = submitted.len() as u64;
        assert_eq!(figure(pool, "lockstep_runs_submitted_total").await, count);
        assert_eq!(figure(pool, "lockstep_runs_finished_total{state=\"succeeded\"}").await, count);
    }
}

/// A pool, its workers and the network between them; stopped in this order.
struct Scene {
    workers: Vec<Placed>,
    pool: Pool,
    _dir: tempfile::TempDir,
    net: Net,
    module: String,
    history: History,
}

impl Scene {
    /// `None` where no network can be made.
    async fn set(workers: usize) -> Option<Scene> {
        let mut net = Net::make()?;
        let listen = format!("{}:0", net.coordinator());
        let pool = Pool::with(&["--listen", &listen, "--allow-plaintext", "--workers", "0"]).await;
        let token = worker_token(&pool).await;
        let dir = tempfile::tempdir().unwrap();
        let spawn =
            |number: usize| net.spawn(&pool.url, &dir.path().join(number.to_string()), &["--token", &token]);
        let mut workers: Vec<_> = (0..workers).map(spawn).collect();
        for placed in &mut workers {
            placed.worker.id = placed.worker.joined().await;
        }
        ready(&pool, workers.len()).await;
        let module = pool.push(guest("misbehave.wasm")).await;
        Some(Scene { workers, pool, _dir: dir, net, module, history: History::default() })
    }

    async fn submit(&mut self, request: Value, expected: Expected) -> String {
        let run = submitted(&self.pool, &request).await;
        let votes = request["verify"]["n"].as_u64().unwrap_or(1);
        self.history.0.push((run.clone(), votes, expected));
        run
    }

    /// Some runs that take no time.
    async fn quick(&mut self, count: usize, verify: Value) -> Vec<String> {
        let mut runs = Vec::new();
        for _ in 0..count {
            let word = format!("word-{}", self.history.0.len());
            let request = json!({"module": self.module, "args": ["args", word], "verify": verify});
            runs.push(self.submit(request, Expected::Text(format!("{word}\n"))).await);
        }
        runs
    }

    /// A run that a worker has just begun and executes for a second or more, and who.
    async fn executing(&mut self) -> (String, usize) {
        let mut request = busy(&self.module);
        request["args"] = json!(["work", "800000000"]);
        let known = self.pool.run(request.clone()).await;
        let text = || Expected::Text(known["stdout"]["text"].as_str().unwrap().to_owned());
        self.history.0.push((known["id"].as_str().unwrap().to_owned(), 1, text()));
        let used = |placed: &Placed| children(placed.worker.pid()).into_iter().map(cpu_ticks).sum::<u64>();
        let before: Vec<_> = self.workers.iter().map(used).collect();
        request["seed"] = json!(1);
        let run = self.submit(request, text()).await;
        let holder = eventually("it is executed", async || {
            let holder =
                self.seen(&run).await["attempts"][0]["worker"].as_str().map(|name| self.index(name))?;
            (used(&self.workers[holder]) > before[holder] + 10).then_some(holder)
        })
        .await;
        (run, holder)
    }

    fn index(&self, worker: &str) -> usize {
        self.workers.iter().position(|placed| placed.worker.id == worker).unwrap()
    }

    fn places(&self) -> Vec<Place> {
        self.workers.iter().map(|placed| placed.place.clone()).collect()
    }

    async fn seen(&self, run: &str) -> Value {
        self.pool.get(&format!("/v1/runs/{run}")).await.1
    }

    /// Waits for a second attempt; how the first one's worker stood meanwhile.
    async fn rerun(&self, run: &str, worker: &str) -> Vec<String> {
        let mut standings = Vec::new();
        eventually("a rerun", async || {
            let standing = shown(&self.pool, worker).await["standing"].as_str()?.to_owned();
            if standings.last() != Some(&standing) {
                standings.push(standing);
            }
            (self.seen(run).await["attempts"].as_array()?.len() > 1).then_some(())
        })
        .await;
        standings
    }
}

fn once() -> Value {
    json!({"policy": "once"})
}

/// A partition that lasts until its attempt was rerun and is final, and its end.
async fn partition(what: &str, cut: impl Fn(&Net, &Place), heal: impl Fn(&Net, &Place)) {
    let Some(mut scene) = Scene::set(3).await else { return };
    let (run, victim) = scene.executing().await;
    let (name, place) = (scene.workers[victim].worker.id.clone(), scene.places()[victim].clone());
    cut(&scene.net, &place);
    let since = Instant::now();
    scene.quick(4, once()).await;
    let standings = scene.rerun(&run, &name).await;
    let rerun_after = since.elapsed();
    assert!(rerun_after < RERUN_WITHIN, "{rerun_after:?}");

    let whole = scene.pool.finished(&run).await;
    let [lost, rerun] = &whole["attempts"].as_array().unwrap()[..] else { panic!("{whole}") };
    assert_eq!((&lost["worker"], &lost["fault"]["kind"]), (&json!(name), &json!("lost")), "{whole}");
    assert_ne!(rerun["worker"], lost["worker"], "{whole}");
    assert_eq!(rerun["state"], "voted", "{whole}");
    let explained = texts(&whole);
    // a beat that would have said that it had begun may be lost too
    let ended = explained.lines().find(|line| line.starts_with(&format!("attempt 1 on {name} ended")));
    assert!(ended.is_some_and(|line| line.ends_with(": its worker was lost")), "{explained}");
    assert!(explained.contains(&format!("the rerun avoids {name}")), "{explained}");
    let dark = shown(&scene.pool, &name).await;
    assert!(["lost", "gone"].contains(&dark["standing"].as_str().unwrap()), "{dark}");
    scene.quick(4, once()).await;

    heal(&scene.net, &place);
    let healed = Instant::now();
    ready(&scene.pool, 3).await;
    let back_after = healed.elapsed();
    // what it voted in the dark it says now: that frees what it held, and changes nothing
    eventually("it holds nothing", async || {
        shown(&scene.pool, &name).await["holds"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    for run in scene.quick(3, json!({"policy": "quorum", "n": 3})).await {
        let run = scene.pool.finished(&run).await;
        assert_eq!(run["verdict"]["dissenters"], json!([]), "{run}");
    }
    assert_eq!(scene.seen(&run).await, whole, "what is final stays as it was");
    assert_eq!(shown(&scene.pool, &name).await["dissents"], 0);
    scene.history.check(&scene.pool).await;
    eprintln!(
        "partition, {what}: rerun {rerun_after:.1?} after the cut, back {back_after:.1?} after its end; {standings:?}"
    );
}

#[tokio::test]
async fn a_link_that_is_down_for_longer_than_a_loss() {
    partition("both ways", Net::unplug, Net::plug).await;
}

#[tokio::test]
async fn packets_to_the_coordinator_vanish() {
    let what = Lost::ToCoordinator;
    let (cut, heal) =
        (|net: &Net, of: &Place| net.lose(what, of), |net: &Net, of: &Place| net.let_pass(what, of));
    partition("worker to coordinator", cut, heal).await;
}

#[tokio::test]
async fn packets_to_the_worker_vanish() {
    let what = Lost::ToWorker;
    let (cut, heal) =
        (|net: &Net, of: &Place| net.lose(what, of), |net: &Net, of: &Place| net.let_pass(what, of));
    partition("coordinator to worker", cut, heal).await;
}

#[tokio::test]
async fn a_partition_that_is_shorter_than_a_loss_costs_nothing() {
    let Some(mut scene) = Scene::set(2).await else { return };
    let (run, _) = scene.executing().await;
    let since = Instant::now();
    for place in scene.places() {
        scene.net.unplug(&place);
    }
    let mut runs = scene.quick(4, once()).await;
    runs.push(run);
    // the kernel's pauses between two tries double: after a longer one it may try again only after the loss
    let dark = eventually("a second is over", async || {
        let dark = since.elapsed();
        (dark >= Duration::from_secs(1)).then_some(dark)
    })
    .await;
    assert!(scene.seen(&runs[0]).await["state"] != "succeeded", "it is dark");
    for place in scene.places() {
        scene.net.plug(&place);
    }
    for run in runs {
        let run = scene.pool.finished(&run).await;
        assert_eq!(run["attempts"].as_array().unwrap().len(), 1, "{run}");
    }
    ready(&scene.pool, 2).await;
    for placed in &scene.workers {
        let worker = shown(&scene.pool, &placed.worker.id).await;
        assert_eq!((&worker["standing"], &worker["faults"]), (&json!("active"), &json!(0)), "{worker}");
        assert!(!placed.worker.stderr().contains("ended"), "its session outlives it");
    }
    scene.history.check(&scene.pool).await;
    eprintln!("short partition: {dark:.1?} without a link, nothing lost, no second attempt");
}

/// Slow enough to be met in the middle of an upload; `false` where that cannot be had.
fn slowed(scene: &Scene, rate: &str) -> bool {
    let slow = scene.net.queue(&scene.places(), &format!("tbf rate {rate} burst 32kb latency 300ms"));
    slow.inspect_err(|why| skipped("a slow link", why)).is_ok()
}

#[tokio::test]
async fn connections_that_are_reset_in_the_middle_of_an_upload() {
    const SIZE: u64 = 8_000_000;
    let Some(mut scene) = Scene::set(1).await else { return };
    if !slowed(&scene, "30mbit") {
        return;
    }
    let before = scene.net.received();
    let request = json!({"module": scene.module, "args": ["flood", SIZE.to_string()], "verify": once()});
    let run = scene.submit(request, Expected::Bytes(SIZE)).await;
    eventually("half of it has arrived", async || (scene.net.received() > before + SIZE / 2).then_some(()))
        .await;
    let place = scene.places().remove(0);
    scene.net.reset(&place).unwrap();
    let run = scene.pool.finished(&run).await;
    if !scene.workers[0].worker.stderr().contains("the session with the coordinator ended") {
        return skipped("reset connections", "this kernel cannot (INET_DIAG_DESTROY)");
    }
    assert_eq!(run["attempts"].as_array().unwrap().len(), 1, "{run}");
    let received = scene.net.received() - before;
    assert!(received > SIZE + SIZE / 2, "it begins again: {received}");
    assert_eq!(shown(&scene.pool, &scene.workers[0].worker.id).await["faults"], 0);
    scene.history.check(&scene.pool).await;
    eprintln!("upload of {SIZE} bytes, reset in its middle: sent again ({received} bytes came), one attempt");
}

#[tokio::test]
async fn a_link_that_goes_down_in_the_middle_of_an_upload() {
    const SIZE: u64 = 8_000_000;
    let Some(mut scene) = Scene::set(2).await else { return };
    if !slowed(&scene, "30mbit") {
        return;
    }
    let verify = json!({"policy": "quorum", "n": 2});
    let request = json!({"module": scene.module, "args": ["flood", SIZE.to_string()], "verify": verify});
    let before = scene.net.received();
    let run = scene.submit(request, Expected::Bytes(SIZE)).await;
    eventually("half of it has arrived", async || (scene.net.received() > before + SIZE / 2).then_some(()))
        .await;
    let explained = texts(&scene.seen(&run).await);
    let asked = explained.split("collects the result from ").nth(1).and_then(|rest| rest.split(' ').next());
    let asked = scene.index(asked.unwrap());
    let place = scene.places()[asked].clone();
    scene.net.unplug(&place);
    let since = Instant::now();
    let run = scene.pool.finished(&run).await;
    let took = since.elapsed();
    let name = scene.workers[asked].worker.id.clone();
    let explained = texts(&run);
    assert!(explained.contains(&format!("{name} did not deliver the result of attempt")), "{explained}");
    let other = &scene.workers[1 - asked].worker.id;
    assert!(explained.contains(&format!("collects the result from {other}")), "{explained}");
    assert_eq!(run["attempts"].as_array().unwrap().len(), 2, "no attempt more: {run}");
    scene.net.plug(&place);
    ready(&scene.pool, 2).await;
    assert_eq!(scene.seen(run["id"].as_str().unwrap()).await, run, "what is final stays as it was");
    scene.history.check(&scene.pool).await;
    eprintln!("upload of {SIZE} bytes, link down in its middle: whole from the next voter {took:.1?} later");
}

#[tokio::test]
async fn links_that_lose_and_are_slow() {
    let Some(mut scene) = Scene::set(3).await else { return };
    let places = scene.places();
    let mut kinds = Vec::new();
    match scene.net.queue(&places, "netem delay 30ms 10ms loss 3%") {
        Ok(()) => kinds.push("netem: 30 ± 10 ms and 3 % lost, each way"),
        Err(why) => {
            skipped("delay by netem", &why);
            match scene.net.drop_some(50) {
                Ok(()) => kinds.push("firewall: 5 % lost, each way"),
                Err(why) => skipped("loss by the firewall", &why),
            }
            if slowed(&scene, "2mbit") {
                kinds.push("tbf: 2 Mbit/s, up to 300 ms in its queue");
            }
        }
    }
    let since = Instant::now();
    scene.executing().await;
    scene.quick(40, json!({"policy": "quorum", "n": 2})).await;
    let request = json!({"module": scene.module, "args": ["flood", "500000"], "verify": once()});
    scene.submit(request, Expected::Bytes(500_000)).await;
    scene.history.check(&scene.pool).await;
    let took = since.elapsed();
    let reruns = figure(&scene.pool, "lockstep_reruns_total").await;
    assert!(reruns <= 2, "a bad link is no lost worker: {reruns}");
    ready(&scene.pool, 3).await;
    eprintln!("{}: 43 runs in {took:.1?}, {reruns} reruns", kinds.join("; "));
}
