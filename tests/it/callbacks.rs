//! Callbacks over real sockets: told once, signed, tried again, over a kill; and nowhere where they may not go.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::receiver::Receiver;
use crate::support::{Pool, eventually, guest};

const CREW: [&str; 4] = ["--workers", "3", "--slots", "1"];

/// A pool that may tell this machine.
async fn pool() -> Pool {
    Pool::with(&[&CREW[..], &["--callback-allow", "loopback"]].concat()).await
}

/// Submits a run that is told of; its id.
async fn submit(pool: &Pool, module: &str, url: &str, args: &[&str]) -> String {
    let request = json!({"module": module, "args": args, "callback": {"url": url}});
    let (status, run) = pool.post("/v1/runs", &request).await;
    assert_eq!(status, 201, "{run}");
    run["id"].as_str().unwrap().to_owned()
}

async fn deliveries(pool: &Pool, run: &str) -> Vec<Value> {
    let (status, page) = pool.get(&format!("/v1/runs/{run}/callbacks")).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().unwrap().clone()
}

/// The only delivery of a run, when it is as it should be.
async fn delivery(pool: &Pool, run: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("the delivery {what}"), async || {
        let all = deliveries(pool, run).await;
        assert!(all.len() <= 1, "{all:?}");
        all.into_iter().find(|one| is_so(one))
    })
    .await
}

async fn delivered(pool: &Pool, run: &str) -> Value {
    delivery(pool, run, "succeeds", |one| one["state"] == "delivered").await
}

fn cli(pool: &Pool, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().env("LOCKSTEP_DATA", &pool.data).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_told_once_signed_and_again_when_somebody_asks() {
    let (pool, receiver) = (pool().await, Receiver::start().await);
    let module = pool.push(guest("misbehave.wasm")).await;
    let url = receiver.url("/hook?project=7");
    let run = submit(&pool, &module, &url, &["args", "hello"]).await;
    let told = receiver.first(1).await.remove(0);
    assert_eq!((told.path.as_str(), told.header("content-type")), ("/hook", "application/json"));
    assert_eq!(told.header("webhook-id"), format!("{run}_1"));
    assert_eq!(told.header("lockstep-event"), "run.final");
    assert!(told.header("user-agent").starts_with("lockstep/"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let at: u64 = told.header("webhook-timestamp").parse().unwrap();
    assert!(now.abs_diff(at) < 60, "{at} is not {now}");
    let (_, secret) = pool.get("/v1/callbacks/secret").await;
    assert!(told.is_signed_with(secret["secret"].as_str().unwrap()), "{told:?}");
    // the body is the run as the API shows it, without a callback's own ornament
    let (_, shown) = pool.get(&format!("/v1/runs/{run}")).await;
    let body = told.json();
    assert_eq!((&body["type"], &body["timestamp"]), (&json!("run.final"), &shown["finished_at"]));
    assert_eq!(body["data"], shown);
    assert_eq!(shown["policy"]["callback"], json!({"url": url}));
    assert_eq!(shown["stdout"]["text"], "hello\n");

    let done = delivered(&pool, &run).await;
    assert_eq!((&done["tries"], &done["last_status"]), (&json!(1), &json!(200)));
    assert_eq!((&done["last_error"], &done["next_at"]), (&Value::Null, &Value::Null));
    assert_eq!((&done["id"], &done["url"]), (&json!(format!("{run}_1")), &json!(url)));
    // a run without one, and one that is told after it: whoever comes later would have been preceded
    let quiet = pool.run(json!({"module": module, "args": ["args", "quiet"]})).await;
    assert_eq!(deliveries(&pool, quiet["id"].as_str().unwrap()).await, Vec::<Value>::new());
    let second = submit(&pool, &module, &url, &["exit", "3"]).await;
    let both = receiver.first(2).await;
    assert_eq!((both.len(), both[1].header("webhook-id")), (2, &*format!("{second}_1")));
    assert_eq!(both[1].json()["data"]["state"], "failed");

    // a new secret signs beside the old one, and the delivery keeps its name
    let (_, rotated) = pool.post("/v1/callbacks/secret/rotate", &json!({})).await;
    assert_ne!(rotated["secret"], secret["secret"]);
    assert_eq!(rotated["previous"]["secret"], secret["secret"]);
    // whoever did not hear the answer asks again: it is the same one, and the old secret signs on
    let rotate = async |key: &str| {
        let request = pool.request(reqwest::Method::POST, "/v1/callbacks/secret/rotate");
        Pool::json(request.header("idempotency-key", key).json(&json!({}))).await
    };
    let (status, first) = rotate("again").await;
    assert_eq!((status, &first["previous"]["secret"]), (200, &rotated["secret"]));
    assert_eq!(rotate("again").await, (200, first.clone()));
    assert_eq!(rotate("").await.0, 400);
    let (secret, rotated) = (rotated, first);
    let (status, again) = pool.post(&format!("/v1/runs/{run}/callbacks/redeliver"), &json!({})).await;
    assert_eq!((status, &again["items"][0]["state"]), (202, &json!("pending")), "{again}");
    let third = receiver.first(3).await.remove(2);
    assert_eq!((third.header("webhook-id"), &third.body), (told.header("webhook-id"), &told.body));
    for known in [&rotated["secret"], &secret["secret"]] {
        assert!(third.is_signed_with(known.as_str().unwrap()));
    }
    let (status, _) = pool.post(&format!("/v1/runs/{run}/callbacks/redeliver?revision=2"), &json!({})).await;
    assert_eq!(status, 404);
    let (_, text) = pool.get("/metrics").await;
    assert!(text.as_str().unwrap().contains("lockstep_callbacks_tried_total{how=\"delivered\"} "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_until_it_succeeds() {
    let (pool, receiver) = (pool().await, Receiver::start().await);
    let module = pool.push(guest("misbehave.wasm")).await;
    receiver.answers(500, &[]);
    receiver.answers(503, &[("retry-after", "1")]);
    let run = submit(&pool, &module, &receiver.url("/a"), &["args"]).await;
    let failed = delivery(&pool, &run, "fails", |one| one["last_status"] == 500).await;
    assert_eq!((&failed["state"], &failed["tries"]), (&json!("pending"), &json!(1)));
    assert_eq!(failed["last_error"], "the receiver answered 500");
    assert!(failed["next_at"].as_str() > failed["last_at"].as_str(), "{failed}");
    let done = delivered(&pool, &run).await;
    assert_eq!((&done["tries"], &done["last_error"]), (&json!(3), &Value::Null));
    let ids: Vec<_> = receiver.received().iter().map(|it| it.header("webhook-id").to_owned()).collect();
    assert_eq!(ids, vec![format!("{run}_1"); 3], "the receiver can tell that it is the same");

    // nobody listens: then somebody does
    let address = Receiver::start().await.address;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_ne!(silent, address);
    let run = submit(&pool, &module, &format!("http://localhost:{}/b", silent.port()), &["args"]).await;
    let refused = delivery(&pool, &run, "is refused", |one| one["last_error"].is_string()).await;
    let why = refused["last_error"].as_str().unwrap();
    assert!(why.starts_with("no connection: ") && refused["last_status"].is_null(), "{refused}");
    let late = Receiver::on(silent).await;
    delivered(&pool, &run).await;
    assert_eq!(late.received().len(), 1);

    // one that wants nothing more gets nothing more
    receiver.answers(410, &[]);
    let run = submit(&pool, &module, &receiver.url("/c"), &["args"]).await;
    let over = delivery(&pool, &run, "is given up", |one| one["state"] == "given_up").await;
    assert_eq!((&over["tries"], &over["next_at"]), (&json!(1), &Value::Null));
    let (status, _) = pool.post(&format!("/v1/runs/{run}/callbacks/redeliver"), &json!({})).await;
    assert_eq!(status, 202);
    delivered(&pool, &run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_delivered_survives_a_kill() {
    let (mut pool, receiver) = (pool().await, Receiver::start().await);
    receiver.otherwise(500);
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut runs = Vec::new();
    for number in 0..5 {
        runs.push(submit(&pool, &module, &receiver.url("/hook"), &["args", &number.to_string()]).await);
    }
    for run in &runs {
        delivery(&pool, run, "fails", |one| one["last_status"] == 500).await;
    }
    let (_, secret) = pool.get("/v1/callbacks/secret").await;
    pool.kill();
    let before = receiver.received().len();
    receiver.otherwise(204);
    pool.start_again();
    for run in &runs {
        let done = delivered(&pool, run).await;
        assert_eq!(done["last_status"], 204, "{done}");
        assert!(done["tries"].as_u64().unwrap() >= 2, "{done}");
    }
    let after = receiver.received().split_off(before);
    for run in &runs {
        let of_run = after.iter().filter(|it| it.header("webhook-id") == format!("{run}_1"));
        assert!(of_run.count() >= 1, "{run} is told by the next life");
    }
    assert!(after.iter().all(|it| it.is_signed_with(secret["secret"].as_str().unwrap())), "the secret stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_where_the_operator_does_not_allow_it() {
    let mut pool = pool().await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let receiver = Receiver::start().await;
    // a name: it was allowed when it was submitted, and is not any more when it is resolved
    receiver.otherwise(500);
    let names = [format!("http://localhost:{}/x", receiver.address.port()), receiver.url("/y")];
    let mut runs = Vec::new();
    for url in &names {
        runs.push(submit(&pool, &module, url, &["args"]).await);
    }
    for run in &runs {
        delivery(&pool, run, "fails", |one| one["last_status"] == 500).await;
    }
    pool.stop();
    let before = receiver.received().len();
    let args = CREW.map(str::to_owned).to_vec();
    let strict = Pool::over(pool.data.clone(), args, None).await;
    for run in &runs {
        let refused = delivery(&strict, run, "is refused", |one| one["last_status"].is_null()).await;
        let why = refused["last_error"].as_str().unwrap();
        let is_name = refused["url"].as_str().unwrap().contains("localhost");
        // which addresses a name has inside is not shown to whoever submits runs
        let expected = if is_name {
            "its name leads to no address"
        } else {
            " is loopback: callbacks go to public addresses only"
        };
        assert!(why.contains(expected), "{refused}");
        assert!(why.contains("--callback-allow"), "{refused}");
    }
    assert_eq!(receiver.received().len(), before, "not a byte");

    for (url, words) in [
        (receiver.url("/"), "127.0.0.1 is loopback"),
        ("https://localhost/".to_owned(), "localhost is loopback"),
        ("https://[::ffff:10.0.0.1]/".to_owned(), "10.0.0.1 is private"),
        ("https://169.254.169.254/latest/meta-data/".to_owned(), "link-local (also cloud metadata)"),
        ("http://0x7f000001/".to_owned(), "127.0.0.1 is loopback"),
        ("http://example.org/".to_owned(), "plain http"),
        ("https://ada:secret@example.org/".to_owned(), "user name or password"),
        ("gopher://example.org/".to_owned(), "its scheme is `gopher`"),
        (format!("https://example.org/{}", "x".repeat(2_048)), "2048"),
    ] {
        let (status, refused) =
            strict.post("/v1/runs", &json!({"module": module, "callback": {"url": url}})).await;
        assert_eq!((status, &refused["code"]), (422, &json!("callback_refused")), "{url}: {refused}");
        assert!(refused["detail"].as_str().unwrap().contains(words), "{url}: {refused}");
        assert_eq!(refused["pointer"], "/callback/url");
    }
    let unkept = json!({"module": module, "callback": {"url": "https://example.org/"}, "durable": false, "wait_ms": 1});
    let (status, refused) = strict.post("/v1/runs", &unkept).await;
    assert_eq!((status, &refused["pointer"]), (422, &json!("/callback")), "{refused}");
    // the secret is the operator's
    let body = json!({"name": "ci", "scopes": ["submit"]});
    let (_, token) = strict.post("/v1/tokens", &body).await;
    let request = strict.anonymous(reqwest::Method::GET, "/v1/callbacks/secret");
    let (status, _) = Pool::json(request.bearer_auth(token["secret"].as_str().unwrap())).await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_no_answer_is_shown() {
    let (pool, receiver) = (pool().await, Receiver::start().await);
    let module = pool.push(guest("misbehave.wasm")).await;
    let elsewhere = receiver.url("/elsewhere");
    for status in [301, 302, 307, 308] {
        receiver.answers(status, &[("location", &elsewhere)]);
        let before = receiver.received().len();
        let run = submit(&pool, &module, &receiver.url("/hook"), &["args", &status.to_string()]).await;
        let failed = delivery(&pool, &run, "fails", |one| one["last_status"] == status).await;
        let why = format!("the receiver answered {status}: redirects are not followed");
        assert_eq!(failed["last_error"], json!(why));
        assert!(!failed.to_string().contains("nobody's business"), "{failed}");
        delivered(&pool, &run).await;
        let paths: Vec<_> = receiver.received().split_off(before).into_iter().map(|it| it.path).collect();
        assert_eq!(paths, ["/hook", "/hook"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_receiver_has_to_show_a_certificate_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tls");
    let made = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .env_clear()
        .args(["cert", "--out", out.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
    // a server that speaks TLS, and has no use for callbacks
    let tls: &[&str] = &["--workers", "0", "--tls-cert", &cert, "--tls-key", &key];
    let server = Pool::with(tls).await;
    let allow: &[&str] = &["--callback-allow", "loopback"];
    for (more, expected) in [
        (&[][..], "the TLS handshake failed: its certificate is signed by nobody that this machine trusts"),
        (&["--callback-ca", &ca][..], "the receiver answered 404"),
    ] {
        let pool = Pool::with(&[&CREW[..], allow, more].concat()).await;
        let module = pool.push(guest("misbehave.wasm")).await;
        let run = submit(&pool, &module, &format!("{}/hook", server.url), &["args"]).await;
        let failed = delivery(&pool, &run, "fails", |one| one["last_error"].is_string()).await;
        assert_eq!(failed["last_error"], expected, "{failed}");
    }
    let absent = dir.path().join("absent.pem");
    let refused = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .env_clear()
        .args(["serve", "--listen", "127.0.0.1:0", "--data", dir.path().join("data").to_str().unwrap()])
        .args(["--callback-ca", absent.to_str().unwrap()])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("callbacks cannot be sent: "), "{words}");
}

/// Takes connections on every address of the machine itself and says nothing; its port.
async fn tarpit() -> (u16, tokio::task::JoinHandle<()>) {
    let tarpit = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = tarpit.local_addr().unwrap().port();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = tarpit.accept().await {
            held.push(connection);
        }
    });
    (port, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_does_not_hold_up_the_others() {
    let (pool, receiver) = (pool().await, Receiver::start().await);
    let module = pool.push(guest("misbehave.wasm")).await;
    let (port, held) = tarpit().await;
    // more than there are places
    for number in 0..30 {
        submit(&pool, &module, &format!("http://127.0.0.1:{port}/"), &["args", &number.to_string()]).await;
    }
    let started = std::time::Instant::now();
    let run = submit(&pool, &module, &receiver.url("/"), &["args", "quick"]).await;
    pool.finished(&run).await;
    delivered(&pool, &run).await;
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}: it waited for the others", started.elapsed());
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_were_never_tried_and_hang_do_not_hold_up_one_that_answers() {
    let (pool, receiver) = (pool().await, Receiver::start().await);
    let module = pool.push(guest("misbehave.wasm")).await;
    let (port, held) = tarpit().await;
    let known = submit(&pool, &module, &receiver.url("/"), &["args", "known"]).await;
    delivered(&pool, &known).await;
    // each of them another receiver, and more than there are places
    let strangers: Vec<_> = (1..=60)
        .map(|number| (format!("http://127.0.1.{number}:{port}/"), format!("hangs {number}")))
        .collect();
    let submissions =
        strangers.iter().map(|(url, word)| async { submit(&pool, &module, url, &["args", word]).await });
    let hanging = futures_util::future::join_all(submissions).await;
    for run in &hanging {
        pool.finished(run).await;
    }
    let started = std::time::Instant::now();
    let run = submit(&pool, &module, &receiver.url("/"), &["args", "quick"]).await;
    pool.finished(&run).await;
    delivered(&pool, &run).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}: it waited for the others", started.elapsed());
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_for_callbacks_and_shows_them() {
    let (pool, receiver) = (pool().await, Receiver::start().await);
    let module = pool.push(guest("misbehave.wasm")).await;
    let url = receiver.url("/cli");
    let run = text(&cli(&pool, &["run", &module, "--callback", &url, "--detach", "--", "args", "hi"]));
    let run = run.trim();
    let told = receiver.first(1).await.remove(0);
    assert_eq!(told.json()["data"]["id"], run);
    delivered(&pool, run).await;
    let listed = text(&cli(&pool, &["callbacks", "list", run]));
    assert!(
        listed.contains("run.final") && listed.contains("delivered") && listed.contains(&url),
        "{listed}"
    );
    let secret = text(&cli(&pool, &["callbacks", "secret"]));
    assert!(told.is_signed_with(secret.trim()), "{secret}");
    assert!(text(&cli(&pool, &["callbacks", "redeliver", run])).contains("pending"));
    receiver.first(2).await;
    let rotated = text(&cli(&pool, &["callbacks", "secret", "--rotate"]));
    assert!(rotated.starts_with("whsec_") && rotated != secret, "{rotated}");
    let shown: Value =
        serde_json::from_str(&text(&cli(&pool, &["callbacks", "list", run, "--json"]))).unwrap();
    assert_eq!(shown[0]["event"], "run.final");
    assert!(text(&cli(&pool, &["runs", "show", run])).contains(&url));
}
