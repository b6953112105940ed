//! TLS end to end: certificates made by the binary, served by it, checked by its own client commands.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::support::remote::{Worker, ready, worker_token};
use crate::support::{Pool, eventually, guest, signal};

/// A client that finds nothing on this machine by itself.
fn lockstep(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    let nowhere = tempfile::tempdir().unwrap();
    command.env_clear().env("LOCKSTEP_DATA", nowhere.path()).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Certificates for the loopback address, in a folder.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Certificates {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates(dir);
        let made = certificates.cert(&[]);
        assert!(made.status.success(), "{}", stderr(&made));
        certificates
    }

    fn cert(&self, more: &[&str]) -> Output {
        let out = self.0.path().join("tls").to_str().unwrap().to_owned();
        let out = out.as_str();
        lockstep(&[&["cert", "--out", out][..], more].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("tls").join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    async fn pool(&self) -> Pool {
        let (cert, key) = (self.text("server.pem"), self.text("server.key"));
        Pool::with(&["--workers", "2", "--slots", "1", "--tls-cert", &cert, "--tls-key", &key]).await
    }
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_served_and_used_in_tls() {
    let certificates = Certificates::make();
    let pool = certificates.pool().await;
    assert!(pool.url.starts_with("https://127.0.0.1:"), "{}", pool.url);
    let ca = certificates.text("ca.pem");
    let wordcount = concat!(env!("CARGO_MANIFEST_DIR"), "/guest-examples/prebuilt/wordcount.wasm");
    let connect = ["--server", &pool.url, "--token", &pool.token];

    let run = [&["run", wordcount, "--ca", &ca][..], &connect].concat();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().args(&run).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hello hello TLS\n").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", stderr(&ended));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("2 hello"), "{ended:?}");

    // by the environment
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    let output = command.env_clear().env("LOCKSTEP_CA", &ca).arg("runs").args(connect).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));

    // without the CA, in clear words
    let refused = lockstep(&[&["runs"][..], &connect].concat());
    assert_eq!(refused.status.code(), Some(1));
    let words = stderr(&refused);
    assert!(
        words.contains("signed by nobody that this machine trusts") && words.contains("--ca FILE"),
        "{words}"
    );

    // beside the server nothing has to be named
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    let own = command.env_clear().env("LOCKSTEP_DATA", &pool.data).arg("workers").output().unwrap();
    assert!(own.status.success(), "{}", stderr(&own));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_joins_over_tls_and_one_that_trusts_nobody_says_why() {
    let certificates = Certificates::make();
    let (cert, key) = (certificates.text("server.pem"), certificates.text("server.key"));
    let mut pool = Pool::with(&["--workers", "0", "--tls-cert", &cert, "--tls-key", &key]).await;
    let trusted = lockstep::tls::client_config(Some(&certificates.path("ca.pem"))).unwrap();
    pool.http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(trusted).build().unwrap();
    let token = worker_token(&pool).await;
    let (dir, ca) = (tempfile::tempdir().unwrap(), certificates.text("ca.pem"));

    let stranger = Worker::spawn(&pool.url, &dir.path().join("stranger"), &["--token", &token]);
    eventually("it says why it does not join", async || {
        stranger.stderr().contains("signed by nobody that this machine trusts").then_some(())
    })
    .await;

    let mut workers = Vec::new();
    for name in ["one", "two"] {
        let args = ["--token", &token, "--ca", &ca];
        workers.push(Worker::join(&pool.url, &dir.path().join(name), &args).await);
    }
    ready(&pool, 2).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    // more than travels with a vote: its output is put over TLS too
    let run = pool
        .run(json!({"module": module, "args": ["random", "65536"], "verify": {"policy": "quorum", "n": 2}}))
        .await;
    assert_eq!((&run["state"], &run["verdict"]["votes"]), (&json!("succeeded"), &json!(2)), "{run}");
    let mut voters: Vec<&str> =
        run["attempts"].as_array().unwrap().iter().filter_map(|it| it["worker"].as_str()).collect();
    voters.sort_unstable();
    assert_eq!(voters, [workers[0].id.as_str(), workers[1].id.as_str()], "{run}");
    let url = format!("{}/v1/runs/{}/stdout", pool.url, run["id"].as_str().unwrap());
    let answer = pool.http.get(url).bearer_auth(&pool.token).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len(), 2 * 65_536 + 1, "in hex, and a line end");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_secure_sides_that_meet_say_so() {
    let certificates = Certificates::make();
    let secure = certificates.pool().await;
    let url = secure.url.replace("https://", "http://");
    let plain_client = lockstep(&["runs", "--server", &url, "--token", "x"]);
    let words = stderr(&plain_client);
    assert!(
        words.contains("this port speaks TLS: use https://") && words.contains("(tls_required)"),
        "{words}"
    );
    let answer = crate::support::http().get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");

    let plain = Pool::with(&["--workers", "1", "--slots", "1"]).await;
    let url = plain.url.replace("http://", "https://");
    let secure_client = lockstep(&["runs", "--server", &url, "--token", "x"]);
    let words = stderr(&secure_client);
    assert!(words.contains("it does not speak TLS") && words.contains("use http://"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_is_named() {
    let certificates = Certificates::make();
    let pool = certificates.pool().await;
    let port = pool.url.rsplit(':').next().unwrap();
    // the same machine by an address that the certificate has not
    let url = format!("https://127.0.0.2:{port}");
    let listening =
        lockstep(&["runs", "--server", &url, "--token", "x", "--ca", &certificates.text("ca.pem")]);
    let words = stderr(&listening);
    // a pool on 127.0.0.1 alone does not answer there; then the words are others
    let expected = ["its certificate is not for 127.0.0.2, but for", "no server answers at"];
    assert!(expected.iter().any(|expected| words.contains(expected)), "{words}");

    let url = format!("https://localhost:{port}");
    let ca = certificates.text("ca.pem");
    let known = lockstep(&["runs", "--server", &url, "--token", &pool.token, "--ca", &ca]);
    assert!(known.status.success(), "{}", stderr(&known));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_up_while_connections_last() {
    let certificates = Certificates::make();
    let pool = certificates.pool().await;
    let left = pool.data.join("certificate.pem");
    let first = std::fs::read_to_string(&left).unwrap();
    // a connection that is kept through the change
    let ca = certificates.path("ca.pem");
    let tls = lockstep::tls::client_config(Some(&ca)).unwrap();
    let kept = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).pool_max_idle_per_host(1);
    let kept = kept.build().unwrap();
    assert_eq!(kept.get(format!("{}/healthz", pool.url)).send().await.unwrap().status(), 200);

    let renewed = certificates.cert(&["--renew"]);
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    let second = eventually("the new certificate is shown", async || {
        let now = std::fs::read_to_string(&left).ok()?;
        (now != first).then_some(now)
    })
    .await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    let own = command.env_clear().env("LOCKSTEP_DATA", &pool.data).arg("workers").output().unwrap();
    assert!(own.status.success(), "{}", stderr(&own));
    assert_eq!(kept.get(format!("{}/healthz", pool.url)).send().await.unwrap().status(), 200);

    // a broken file changes nothing, and neither does a signal then
    std::fs::write(certificates.path("server.pem"), "broken").unwrap();
    signal(pool.child.id(), "HUP");
    let ca = certificates.text("ca.pem");
    let still = lockstep(&["runs", "--server", &pool.url, "--token", &pool.token, "--ca", &ca]);
    assert!(still.status.success(), "{}", stderr(&still));
    assert_eq!(std::fs::read_to_string(&left).unwrap(), second);

    // and a signal takes up what is good
    let renewed = certificates.cert(&["--renew", "--name", "renewed.example.org"]);
    assert!(renewed.status.success(), "{}", stderr(&renewed));
    signal(pool.child.id(), "HUP");
    eventually("the third certificate is shown", async || {
        (std::fs::read_to_string(&left).ok()? != second).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_reload_does_not_end_a_plain_pool() {
    let mut pool = Pool::with(&["--workers", "1", "--slots", "1"]).await;
    signal(pool.child.id(), "HUP");
    assert_eq!(pool.get("/healthz").await.0, 200);
    assert!(pool.child.try_wait().unwrap().is_none());
}

#[test]
fn certificates_are_made_once_and_more_are_issued_beside_them() {
    let certificates = Certificates::make();
    for (name, expected) in
        [("ca.pem", 0o644), ("ca.key", 0o600), ("server.pem", 0o644), ("server.key", 0o600)]
    {
        assert_eq!(mode(&certificates.path(name)) & !0o022, expected & !0o022, "{name}");
    }
    assert_eq!(mode(&certificates.path("ca.key")), 0o600);
    let before =
        ["ca.pem", "ca.key", "server.pem"].map(|name| std::fs::read(certificates.path(name)).unwrap());
    let again = certificates.cert(&[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("exists and is not overwritten: --renew"), "{}", stderr(&again));

    let second =
        certificates.cert(&["--file", "east", "--name", "east.example.org", "--days", "30", "--json"]);
    assert!(second.status.success(), "{}", stderr(&second));
    let made: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!((&made["ca_is_new"], &made["names"][0]), (&false.into(), &"east.example.org".into()));
    assert!(certificates.path("east.key").exists());
    let after =
        ["ca.pem", "ca.key", "server.pem"].map(|name| std::fs::read(certificates.path(name)).unwrap());
    assert_eq!(before, after);

    for (wrong, words) in [
        (&["--name", "http://a", "--file", "b"][..], "expected a DNS name or an IP address"),
        (&["--file", "../b"], "a name of letters"),
        (&["--file", "b", "--days", "0"], "0 is not in"),
    ] {
        let refused = certificates.cert(wrong);
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
    std::fs::remove_file(certificates.path("ca.key")).unwrap();
    let refused = certificates.cert(&["--file", "b"]);
    assert!(stderr(&refused).contains("but no `"), "{}", stderr(&refused));
}

#[test]
fn serve_names_the_file_that_it_cannot_use() {
    let certificates = Certificates::make();
    let data = certificates.text("data");
    let (cert, key) = (certificates.text("server.pem"), certificates.text("server.key"));
    let absent = certificates.text("absent");
    for (cert, key, words) in [
        (&absent, &key, "cannot read the certificate"),
        (&cert, &certificates.text("ca.key"), "cannot be used together"),
        (&key, &key, "holds no certificate"),
    ] {
        let args =
            ["serve", "--data", &data, "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key];
        let refused = lockstep(&args);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
    let half = lockstep(&["serve", "--data", &data, "--tls-cert", &cert]);
    assert!(stderr(&half).contains("give --tls-key too"), "{}", stderr(&half));
}
