//! The command line against a real pool: what a user types, sees, and gets as an exit code.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Pool, eventually, guest, signal};

/// A command that ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ended {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("the output is text")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The path of a guest example.
fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/prebuilt").join(name);
    path.to_str().expect("the repository has a plain path").to_owned()
}

/// A command beside the pool: it finds address and token by itself, and sees nothing else of this environment.
fn command(pool: &Pool, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    command.env_clear().env("LOCKSTEP_DATA", &pool.data).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(mut child: Child, stdin: &[u8]) -> Ended {
    let mut pipe = child.stdin.take().expect("it is piped");
    let stdin = stdin.to_vec();
    // A command that does not read it may be gone already.
    let writing = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
    let output = child.wait_with_output().expect("the child is ours");
    writing.join().expect("writing does not panic");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ended { code: output.status.code(), stdout: output.stdout, stderr }
}

/// Runs a command to its end, off the async threads.
async fn cli_with(pool: &Pool, args: &[&str], stdin: &[u8]) -> Ended {
    let child = command(pool, args).spawn().expect("the binary starts");
    let stdin = stdin.to_vec();
    tokio::task::spawn_blocking(move || ended(child, &stdin)).await.expect("waiting does not panic")
}

async fn cli(pool: &Pool, args: &[&str]) -> Ended {
    cli_with(pool, args, b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_module_is_listed_shown_downloaded_and_deleted() {
    let pool = Pool::start().await;
    let file = example("wordcount.wasm");
    let pushed = cli(&pool, &["push", &file]).await;
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let digest = pushed.text().split_whitespace().next().expect("a digest").to_owned();
    assert!(pushed.text().contains("command, verifiable"), "{pushed:?}");
    assert!(cli(&pool, &["push", &file]).await.text().contains("was there"));

    let short = &digest["sha256:".len()..][..8];
    assert!(cli(&pool, &["modules"]).await.text().contains(short));
    assert!(cli(&pool, &["modules", "show", short]).await.text().contains("wasi_snapshot_preview1.fd_write"));
    assert_eq!(cli(&pool, &["modules", "show", &digest, "--json"]).await.json()["name"], "wordcount.wasm");
    let wasm = cli(&pool, &["modules", "download", short, "-o", "-"]).await;
    assert_eq!(wasm.stdout, guest("wordcount.wasm"));

    let quarantined = cli(&pool, &["modules", "quarantine", short, "--why", "a test"]).await;
    assert!(quarantined.text().contains("quarantine a test"), "{quarantined:?}");
    let refused = cli(&pool, &["run", short]).await;
    assert_eq!(refused.code, Some(119));
    assert!(refused.stderr.contains("(module_quarantined)"), "{refused:?}");
    assert_eq!(cli(&pool, &["modules", "readmit", short]).await.code, Some(0));

    assert_eq!(cli(&pool, &["modules", "rm", short]).await.code, Some(0));
    let gone = cli(&pool, &["modules", "show", short]).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("`lockstep modules` lists"), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_uploads_executes_and_prints_what_was_agreed_on() {
    let pool = Pool::start().await;
    let input = b"the cat and the dog\nand THE bird\n";
    let args = ["run", &example("wordcount.wasm"), "--quorum", "3", "--explain", "--", "-n", "1"];
    let ended = cli_with(&pool, &args, input).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.text().contains("        3 the\n"), "{ended:?}");
    assert!(ended.stderr.contains("agreed: 3 votes for the same result"), "{ended:?}");

    let runs = cli(&pool, &["runs", "--json"]).await.json();
    let id = runs[0]["id"].as_str().expect("an id").to_owned();
    let shown = cli(&pool, &["runs", "show", &id]).await;
    assert!(shown.text().contains("exited with code 0"), "{shown:?}");
    assert_eq!(cli(&pool, &["runs", "stdout", &id]).await.stdout, ended.stdout);
    let again = cli(&pool, &["runs", "rerun", &id]).await;
    let waited = cli(&pool, &["runs", "wait", again.text().trim()]).await;
    assert_eq!((waited.code, waited.stdout), (Some(0), ended.stdout));
    assert!(cli(&pool, &["workers"]).await.text().contains("active"));
    let workers = cli(&pool, &["workers", "--json"]).await.json();
    assert_eq!(workers[0]["peers"], 2, "{workers}");

    let refused = cli(&pool, &["run", &example("wordcount.wasm"), "--label", "gpu=yes"]).await;
    assert_eq!(refused.code, Some(119), "{refused:?}");
    assert!(refused.stderr.contains("no worker has label gpu=yes"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_tells_how_the_guest_ended() {
    let pool = Pool::start().await;
    let file = example("misbehave.wasm");
    for (options, verb, code) in [
        (&[][..], &["exit", "7"][..], 7),
        (&[], &["trap"], 120),
        (&["--fuel", "1000000"], &["loop"], 121),
        (&["--output-limit", "1KiB"], &["flood"], 122),
        (&["--timeout", "300ms", "--attempts-max", "1"], &["loop"], 124),
    ] {
        let line: Vec<&str> = ["run", &file]
            .into_iter()
            .chain(options.iter().copied())
            .chain(["--"])
            .chain(verb.iter().copied())
            .collect();
        let ended = cli(&pool, &line).await;
        assert_eq!(ended.code, Some(code), "{verb:?} {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_reach_the_guest_whole_whatever_their_size() {
    let pool = Pool::start().await;
    let file = example("misbehave.wasm");
    let large: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let copied = cli_with(&pool, &["run", &file, "--once", "--", "stdin"], &large).await;
    assert_eq!(copied.code, Some(0), "{}", copied.stderr);
    assert!(copied.stdout == large, "{} bytes came back of {}", copied.stdout.len(), large.len());

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("inner")).unwrap();
    std::fs::write(dir.path().join("inner/a.txt"), "from a tree").unwrap();
    std::fs::write(dir.path().join("b.bin"), &large).unwrap();
    let tree = format!("--dir=/data={}", dir.path().display());
    let single = format!("--file=/single={}", dir.path().join("b.bin").display());
    let read = cli(&pool, &["run", &file, &tree, "--once", "--", "cat", "/data/inner/a.txt"]).await;
    assert_eq!(read.text(), "from a tree", "{read:?}");
    let read = cli(&pool, &["run", &file, &single, "--once", "--", "cat", "/single"]).await;
    assert!(read.stdout == large, "{}", read.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_print_their_values_and_files_are_downloaded() {
    let pool = Pool::start().await;
    let count = cli(&pool, &["run", &example("primes.wasm"), "--entry", "count", "100000"]).await;
    assert_eq!((count.code, count.text()), (Some(0), "9592\n"), "{count:?}");

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new");
    let out_text = out.to_str().expect("a plain path");
    let args = ["run", &example("misbehave.wasm"), "--out", out_text, "--", "write-files", "2", "1000"];
    let ended = cli(&pool, &args).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, [out.join("file-0001.bin"), out.join("file-0002.bin")]);
    assert_eq!(std::fs::metadata(&names[0]).unwrap().len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_output_ends_as_the_verified_output() {
    let pool = Pool::start().await;
    let args = ["run", &example("misbehave.wasm"), "--live", "--quorum", "2", "--", "work", "60000000", "6"];
    let live = cli(&pool, &args).await;
    assert_eq!(live.code, Some(0), "{live:?}");
    let id = cli(&pool, &["runs", "--json"]).await.json()[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(live.stdout, cli(&pool, &["runs", "stdout", &id]).await.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_run_is_followed_canceled_and_stays_so() {
    let pool = Pool::start().await;
    let file = example("misbehave.wasm");
    let detached = cli(&pool, &["run", &file, "--detach", "--timeout", "60s", "--", "loop"]).await;
    let id = detached.text().trim().to_owned();
    let open = cli(&pool, &["runs", "stdout", &id]).await;
    assert_eq!(open.code, Some(1));
    assert!(open.stderr.contains("runs wait"), "{open:?}");
    assert_eq!(cli(&pool, &["runs", "cancel", &id]).await.code, Some(0));
    assert_eq!(cli(&pool, &["runs", "wait", &id]).await.code, Some(118));
    let watched = cli(&pool, &["runs", "watch", &id]).await;
    assert!(watched.text().contains("canceled"), "{watched:?}");
    let listed = cli(&pool, &["runs", "--state", "canceled", "--json"]).await.json();
    assert_eq!(listed[0]["id"], Value::String(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupting_a_run_cancels_it() {
    let pool = Pool::start().await;
    let args = ["run", &example("misbehave.wasm"), "--timeout", "60s", "--", "loop"];
    let child = command(&pool, &args).spawn().expect("the binary starts");
    let pid = child.id();
    let waiting = tokio::task::spawn_blocking(move || ended(child, b""));
    eventually("the run is executed", async || {
        let (_, runs) = pool.get("/v1/runs?state=running").await;
        (runs["items"].as_array()?.len() == 1).then_some(())
    })
    .await;
    signal(pid, "INT");
    let ended = waiting.await.expect("waiting does not panic");
    assert_eq!(ended.code, Some(118), "{ended:?}");
    let (_, runs) = pool.get("/v1/runs").await;
    assert_eq!(runs["items"][0]["state"], "canceled", "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_do() {
    let mut pool = Pool::start().await;
    let stranger = cli(&pool, &["runs", "--token", "wrong"]).await;
    assert_eq!(stranger.code, Some(1));
    assert!(stranger.stderr.contains("LOCKSTEP_TOKEN"), "{stranger:?}");
    let absent = cli(&pool, &["run", "no-such-file.wasm"]).await;
    assert_eq!(absent.code, Some(119));
    assert!(absent.stderr.contains("no file `no-such-file.wasm`"), "{absent:?}");
    let dir = tempfile::tempdir().unwrap();
    let junk = dir.path().join("junk.wasm");
    std::fs::write(&junk, "no wasm at all").unwrap();
    let refused = cli(&pool, &["push", junk.to_str().expect("a plain path")]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("(module_refused)"), "{refused:?}");

    assert!(pool.data.join("address").exists());
    assert!(pool.stop().success(), "SIGTERM ends in order");
    assert!(!pool.data.join("address").exists());
    let args = ["runs", "--server", &pool.url];
    let unreachable = cli(&pool, &args).await;
    assert_eq!(unreachable.code, Some(1));
    assert!(unreachable.stderr.contains("no server answers at"), "{unreachable:?}");
}

#[test]
fn serve_refuses_what_it_cannot_do_before_it_does_anything() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (args, words) in [
        (&["--listen", "0.0.0.0:0"][..], "--allow-plaintext"),
        (&["--workers", "257"], "`workers` (from --workers): 257 is out of bounds"),
        (&["--set", "worker=1"], "there is no such setting"),
        (&["--config", "absent.toml"], "cannot read the configuration file"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        let output = command.env_clear().arg("serve").arg("--data").arg(&data).args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    assert!(!data.exists());
}

#[test]
fn completions_and_help_need_no_server() {
    for (args, words) in [
        (&["completions", "bash"][..], "complete -F _lockstep"),
        (&["run", "--help"], "Exit codes:"),
        (&["serve", "--check"], "workers = 3\n"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        let output = command.env_clear().args(args).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(words), "{args:?}");
    }
}
