//! Kill -9 and failing writes, in a child process that says what was acknowledged to it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::*;

/// Set for the child: the directory to write to.
const CHILD_DIR: &str = "LOCKSTEP_TEST_STORE_DIR";

/// This test binary, running only the test `name`, as the child. `limit` (KiB, of any file) makes writes fail.
fn child(name: &str, dir: &Path, limit: Option<u32>) -> Child {
    // An ignored SIGXFSZ stays ignored over exec, and then a write beyond the limit fails with EFBIG.
    let limit = limit.map_or(String::new(), |limit| format!("trap '' XFSZ; ulimit -f {limit}; "));
    let script = format!(r#"{limit}exec "$0" --exact "$1" --nocapture --test-threads 1"#);
    Command::new("bash")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(format!("store::sqlite::tests::crash::{name}"))
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the child says, line by line: `inserted N`, `finished N` or `failed WHY`, until its end.
fn said(child: &mut Child) -> impl Iterator<Item = (String, String)> + use<> {
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    lines.filter_map(|line| {
        // The test harness leaves its own words (`test NAME ... `) before our first ones.
        let ours = line.rsplit_once("... ").map_or(line.as_str(), |(_, ours)| ours);
        let (word, rest) = ours.split_once(' ')?;
        ["inserted", "finished", "failed"].contains(&word).then(|| (word.to_owned(), rest.to_owned()))
    })
}

/// The child: many tasks write runs, and say which are acknowledged, until the store fails.
async fn write_for_ever(dir: PathBuf) -> (SqliteStore, Failure, StoreError) {
    let failure = Failure::new();
    let store = SqliteStore::open(&dir, Options::default(), failure.clone()).unwrap();
    let first = store.usage().await.unwrap().runs * 2;
    let store = Arc::new(store);
    let mut writers = tokio::task::JoinSet::new();
    for lane in 0..16 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in (1 + first + lane..).step_by(16) {
                let end = finish(final_run(number, Time(number)));
                let written = if number % 3 == 0 {
                    store.write_runs(vec![insert(new_run(number)), end].into()).await
                } else {
                    match store.write_runs(vec![insert(new_run(number))].into()).await {
                        Ok(_) => {
                            println!("inserted {number}");
                            store.write_runs(vec![end].into()).await
                        }
                        Err(error) => Err(error),
                    }
                };
                match written {
                    Ok(_) => println!("finished {number}"),
                    Err(error) => return error,
                }
            }
            StoreError::Closed
        });
    }
    let error = writers.join_next().await.unwrap().unwrap();
    writers.abort_all();
    while writers.join_next().await.is_some() {}
    (Arc::into_inner(store).unwrap(), failure, error)
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

/// Everything that was acknowledged is there and the database is sound. Answers how many runs there are.
async fn check(directory: &Directory, inserted: &[u64], finished: &[u64]) -> u64 {
    let store = directory.open().await;
    for number in inserted {
        assert!(store.run(run_id(*number)).await.unwrap().is_some(), "run {number} is lost");
    }
    for number in finished {
        let run = store.run(run_id(*number)).await.unwrap().expect("a finished run is there");
        assert_eq!(text(&run), text(&as_finished(&new_run(*number), &final_run(*number, Time(*number)))));
    }
    check_references(&*store).await;
    let runs = store.usage().await.unwrap().runs;
    store.close().await;
    let connection = Connection::open(directory.0.path().join(DATABASE_FILE)).unwrap();
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_nine_at_any_moment() {
    if let Some(dir) = child_dir() {
        let (_, _, error) = write_for_ever(dir).await;
        panic!("nothing but a kill may end it: {error}");
    }
    let directory = Directory::new();
    let (mut inserted, mut finished) = (Vec::new(), Vec::new());
    // The moments differ by how much was acknowledged; where in a commit they fall is up to the machine.
    for acknowledged in [1, 2, 17, 60, 150, 333] {
        let mut child =
            child("what_was_acknowledged_survives_kill_nine_at_any_moment", directory.0.path(), None);
        let mut heard = 0;
        for (word, number) in said(&mut child) {
            let list = if word == "inserted" { &mut inserted } else { &mut finished };
            list.push(number.parse().unwrap());
            heard += 1;
            if heard == acknowledged {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(heard >= acknowledged, "the child ended by itself after {heard}");
        check(&directory, &inserted, &finished).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_disk_ends_the_store_for_good_and_loses_nothing() {
    if let Some(dir) = child_dir() {
        let (store, failure, error) = write_for_ever(dir).await;
        assert!(matches!(error, StoreError::Fatal(_)), "{error:?}");
        let why = failure.reported().await;
        // nothing is tried again
        for _ in 0..3 {
            let write = store.write_runs(vec![insert(new_run(1_000_000))].into()).await.map(drop);
            assert!(matches!(write, Err(StoreError::Fatal(_))), "{write:?}");
            let read = store.run(run_id(1)).await.map(drop);
            assert!(matches!(read, Err(StoreError::Fatal(_))), "{read:?}");
        }
        store.close().await;
        println!("\nfailed {why}");
        return;
    }
    let directory = Directory::new();
    let name = "a_failing_disk_ends_the_store_for_good_and_loses_nothing";
    let mut child = child(name, directory.0.path(), Some(2_048));
    let (mut inserted, mut finished, mut failed) = (Vec::new(), Vec::new(), None);
    for (word, rest) in said(&mut child) {
        match word.as_str() {
            "inserted" => inserted.push(rest.parse().unwrap()),
            "finished" => finished.push(rest.parse().unwrap()),
            _ => failed = Some(rest),
        }
    }
    assert!(child.wait().unwrap().success());
    let why = failed.expect("the child said how it failed");
    assert!(why.contains("disk I/O error"), "{why}");
    assert!(!finished.is_empty());
    let runs = check(&directory, &inserted, &finished).await;
    assert!(runs >= (inserted.len() as u64).max(finished.len() as u64));
}
