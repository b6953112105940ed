//! Classes, with real workers: whose votes are compared under which profile, and what an upgrade means.

use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::remote::{Worker, crew, empty_pool, ready, shown, worker_token};
use crate::support::{Pool, eventually, guest, wat};

const OTHER_CPU: &[&str] = &["--unsafe-misbehave", "cpu:1"];
const OTHER_BUILD: &[&str] = &["--unsafe-misbehave", "corpus:2"];

/// A command beside the pool.
async fn cli(pool: &Pool, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().env("LOCKSTEP_DATA", &pool.data).args(args).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

fn votes(run: &Value) -> (&Value, &Value) {
    (&run["verdict"]["kind"], &run["verdict"]["votes"])
}

#[tokio::test]
async fn machines_with_other_cpus_vote_together_under_the_portable_profile() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let workers = crew(&pool, dir.path(), &[&[], OTHER_CPU]).await;
    let module = pool.push(guest("mandelbrot.wasm")).await;
    let two = json!({"policy": "quorum", "n": 2});
    let request = |profile: &str| json!({"module": module, "args": ["32", "24", "50"], "profile": profile, "verify": two});
    let (status, problem) = pool.post("/v1/runs", &request("det-1")).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_few_workers")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("det-1-portable"), "{problem}");
    let run = pool.run(request("det-1-portable")).await;
    assert_eq!((&run["state"], votes(&run)), (&json!("succeeded"), (&json!("agreed"), &json!(2))), "{run}");
    assert_eq!(run["spec"]["profile"], "det-1-portable", "{run}");

    // a stack that overflows: both execute the same machine code, so they agree
    let endless = wat("(module (func $f (export \"f\") (result i64) (i64.add (call $f) (i64.const 1))))");
    let endless = pool.push(endless).await;
    let deep = json!({"module": endless, "entry": "f", "profile": "det-1-portable", "verify": two});
    let deep = pool.run(deep).await;
    assert_eq!((&deep["state"], votes(&deep)), (&json!("failed"), (&json!("agreed"), &json!(2))), "{deep}");
    assert_eq!(deep["outcome"]["trap"], "stack_overflow", "{deep}");

    // fuel is the same too
    let mut fuel = request("det-1-portable");
    fuel["limits"] = json!({"fuel": 1_000_000_000});
    let fueled = pool.run(fuel).await;
    assert_eq!(
        (&fueled["state"], votes(&fueled)),
        (&json!("succeeded"), (&json!("agreed"), &json!(2))),
        "{fueled}"
    );

    // the classes, with what they are made of
    let [one, other] = [&workers[0], &workers[1]].map(|worker| worker.id.clone());
    let (one, other) = (shown(&pool, &one).await, shown(&pool, &other).await);
    assert_ne!(one["class"], other["class"]);
    assert_eq!(one["portable_class"], other["portable_class"]);
    for worker in [&one, &other] {
        assert_eq!((&worker["peers"], &worker["portable_peers"]), (&json!(0), &json!(1)), "{worker}");
        assert_eq!(worker["class_parts"]["policy"], "det-1.0", "{worker}");
    }
    assert_eq!(one["class_parts"]["corpus"], other["class_parts"]["corpus"]);
    let (_, info) = pool.get("/v1/info").await;
    assert_eq!(
        info["server"]["class"], one["class"],
        "the coordinator finds out the same about this machine"
    );
    assert_eq!(info["server"]["portable_class"], one["portable_class"]);
    assert_eq!(info["server"]["profiles"], json!(["det-1", "det-1-portable"]));
    let list = cli(&pool, &["workers"]).await.1;
    assert!(list.contains("class has no peer: only det-1-portable can be compared"), "{list}");
    assert!(workers[0].stdout().contains(" (portable: "), "{}", workers[0].stdout());

    // certified, and executed again: by a machine of neither's class as well
    let receipt = dir.path().join("receipt.json").to_str().unwrap().to_owned();
    let module = dir.path().join("module.wasm");
    std::fs::write(&module, guest("mandelbrot.wasm")).unwrap();
    let module = module.to_str().unwrap();
    let (code, text) = cli(&pool, &["receipt", run["id"].as_str().unwrap(), "-o", &receipt]).await;
    assert_eq!(code, 0, "{text}");
    let (code, text) = cli(&pool, &["verify", &receipt, "--any-key", "--replay", module]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("executed again here: the same result\n"), "{text}");
    let bytes = std::fs::read(&receipt).unwrap();
    let predicate = lockstep::receipt::check(&bytes).unwrap().statement.predicate;
    assert_eq!(json!(predicate.class), one["portable_class"]);
    assert_eq!(predicate.class_inputs.unwrap()["policy"], "det-1-portable.0");
}

#[tokio::test]
async fn the_command_line_asks_for_the_profile() {
    let pool = Pool::start().await;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/prebuilt/numbers.wasm");
    let path = path.to_str().unwrap();
    let args = ["run", path, "--entry", "fib", "--profile", "det-1-portable", "--json", "30"];
    let (code, text) = cli(&pool, &args).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("\"profile\": \"det-1-portable\"") || text.contains("\"profile\":\"det-1-portable\""),
        "{text}"
    );
    let (code, text) = cli(&pool, &["run", path, "--profile", "det-2", "--entry", "fib", "30"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("det-1-portable"), "it names what there is: {text}");
}

#[tokio::test]
async fn an_upgrade_is_a_new_class_that_grows_as_workers_restart() {
    let pool = empty_pool(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut old = crew(&pool, dir.path(), &[&[], &[], &[], &[]]).await;
    let module = pool.push(guest("hello.wasm")).await;
    let run = async |seed: u32, n: u32| {
        let verify = json!({"policy": "quorum", "n": n});
        let run = pool.run(json!({"module": module, "seed": seed, "verify": verify})).await;
        assert_eq!(
            (&run["state"], votes(&run)),
            (&json!("succeeded"), (&json!("agreed"), &json!(n))),
            "{run}"
        );
        run
    };
    // all of them vote, so that each is confirmed
    for seed in 0..3 {
        run(seed, 4).await;
    }
    let upgraded = old.remove(0);
    let id = upgraded.id.clone();
    let before = eventually("its confirmations are in its log", async || {
        let worker = pool.get(&format!("/v1/workers/{id}")).await.1;
        worker["evidence"]["counts"]["confirmed"].is_number().then_some(worker)
    })
    .await;
    assert!(before["confirmations"].as_f64().unwrap() > 0.0, "{before}");
    drop(upgraded);
    let token = worker_token(&pool).await;
    let args = [&["--token", &token][..], OTHER_BUILD].concat();
    let mut new = vec![Worker::join(&pool.url, &dir.path().join("0"), &args).await];
    ready(&pool, 4).await;

    // one of another build: alone, shown as such, and a newcomer in its class
    let after = shown(&pool, &id).await;
    assert_ne!(after["class"], before["class"]);
    assert_ne!(after["portable_class"], before["portable_class"]);
    assert_eq!((&after["peers"], &after["portable_peers"]), (&json!(0), &json!(0)), "{after}");
    assert_eq!(after["confirmations"], 0.0, "evidence belongs to the class: {after}");
    let list = cli(&pool, &["workers"]).await.1;
    assert!(list.contains("class has no peer: cannot be compared"), "{list}");
    for seed in 6..12 {
        let run = run(seed, 2).await;
        for attempt in run["attempts"].as_array().unwrap() {
            assert_ne!(attempt["worker"], id.as_str(), "a quorum stays within a class: {run}");
        }
    }

    // the second one: both classes are large enough; then the old one is gone, and nothing stands still
    for (number, seeds) in [(1, 12..24), (2, 24..30), (3, 30..36)] {
        drop(old.remove(0));
        let folder = dir.path().join(number.to_string());
        new.push(Worker::join(&pool.url, &folder, &args).await);
        ready(&pool, 4).await;
        for seed in seeds {
            run(seed, 2).await;
        }
    }
    run(36, 4).await;
    let (_, workers) = pool.get("/v1/workers").await;
    let workers = workers["items"].as_array().unwrap();
    assert!(
        workers.iter().all(|worker| worker["class"] == after["class"] && worker["peers"] == 3),
        "{workers:?}"
    );
    let log = eventually("its log has both classes", async || {
        let (_, log) = pool.get(&format!("/v1/workers/{id}/evidence")).await;
        let has = |class: &Value| log["items"].as_array().unwrap().iter().any(|item| &item["class"] == class);
        (has(&before["class"]) && has(&after["class"])).then_some(log)
    })
    .await;
    assert!(log["items"].as_array().unwrap().len() >= 2, "{log}");

    // and back to the build before: what it had earned there counts again
    drop(new.remove(0));
    let _back = Worker::join(&pool.url, &dir.path().join("0"), &["--token", &token]).await;
    ready(&pool, 4).await;
    let back = shown(&pool, &id).await;
    assert_eq!(back["class"], before["class"]);
    assert!(back["confirmations"].as_f64().unwrap() > 0.0, "{back}");
}

#[tokio::test]
async fn the_corpus_is_executed_once_and_again_only_where_its_answers_are_not_known() {
    let mut pool = Pool::with(&["--workers", "1", "--log", "info"]).await;
    let (_, first) = pool.get("/v1/info").await;
    let kept = pool.data.join("cache").join("corpus");
    let written = std::fs::read(&kept).unwrap();
    let touched = |path: &std::path::Path| std::fs::metadata(path).unwrap().modified().unwrap();
    let at = touched(&kept);
    pool.stop();
    pool.start_again();
    let (_, second) = pool.get("/v1/info").await;
    assert_eq!(second["server"]["class"], first["server"]["class"]);
    assert_eq!(touched(&kept), at, "its answers were taken from where they are kept");
    pool.stop();
    // what was not sealed by this machine is not believed
    let mut forged = written.clone();
    *forged.last_mut().unwrap() ^= 1;
    std::fs::write(&kept, &forged).unwrap();
    pool.start_again();
    let (_, third) = pool.get("/v1/info").await;
    assert_eq!(third["server"]["class"], first["server"]["class"]);
    assert_eq!(std::fs::read(&kept).unwrap(), written, "executed again, with the same answers");
    let request = pool.request(Method::GET, "/v1/workers").send().await.unwrap();
    assert_eq!(request.status(), 200);
}
