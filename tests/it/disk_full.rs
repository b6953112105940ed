//! A disk without room: submissions are refused, nothing that was acknowledged is lost, and with room it goes on.
//!
//! The data folder is a small file system of its own, which only root may mount. Where this cannot be, the test says so.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Pool, eventually, guest};

/// A small file system; unmounted when it is dropped.
struct SmallDisk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Result<SmallDisk, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("disk");
        std::fs::create_dir(&path).expect("a folder");
        let options = format!("size={size},mode=0700");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "lockstep-test"])
            .arg(&path)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(SmallDisk { path, _dir: dir })
    }

    /// Takes all room but `left` bytes.
    fn fill(&self, left: usize) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = std::fs::File::create(&path).expect("a file");
        let piece = vec![7; 64 * 1024];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&[7; 512]).is_ok() {}
        let size = file.metadata().expect("it is open").len();
        file.set_len(size.saturating_sub(left as u64)).expect("it can be shortened");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // lazily: the pool may still be on its way out
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Submits until one is refused with 507; the acknowledged ones with what they must print.
async fn submit_until_full(pool: &Pool, module: &str, acknowledged: &mut Vec<(String, String)>) {
    // so that a row is not small beside what is left
    let padding = "x".repeat(20_000);
    for number in 0..2_000 {
        let word = format!("{number}-{}", acknowledged.len());
        let body = json!({"module": module, "args": ["args", word, padding], "verify": {"policy": "once"}});
        let (status, answer) = pool.post("/v1/runs", &body).await;
        match status {
            200..=202 => {
                let id = answer["id"].as_str().expect("an id").to_owned();
                acknowledged.push((id, format!("{word}\n{padding}\n")));
            }
            507 => {
                assert_eq!(answer["status"], 507, "{answer}");
                for field in ["code", "title", "detail"] {
                    assert!(answer[field].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
                }
                return;
            }
            other => panic!("{other} {answer}"),
        }
    }
    panic!("the disk never became full");
}

async fn finished_right(pool: &Pool, runs: &[(String, String)]) {
    for (id, words) in runs {
        let run = pool.finished(id).await;
        assert_eq!(run["state"], "succeeded", "{run}");
        let stdout = pool.request(Method::GET, &format!("/v1/runs/{id}/stdout")).send().await.unwrap();
        assert_eq!(stdout.text().await.unwrap(), *words, "{id}");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_submissions_and_harms_nothing() {
    let disk = match SmallDisk::mount("96m") {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("\n!!! SKIPPED: a small disk cannot be mounted here, so nothing was tested: {why}\n");
            return;
        }
    };
    let args = ["--workers", "2", "--slots", "1"].map(str::to_owned).to_vec();
    let mut pool = Pool::over(disk.path.join("data"), args, None).await;
    let module = pool.push(guest("misbehave.wasm")).await;
    let mut acknowledged = Vec::new();
    let early = pool.run(json!({"module": module, "args": ["args", "early"]})).await;
    assert_eq!(early["state"], "succeeded", "{early}");

    let filler = disk.fill(2 << 20);
    submit_until_full(&pool, &module, &mut acknowledged).await;
    let large = vec![9; 4 << 20];
    let (status, refusal) = Pool::json(pool.request(Method::POST, "/v1/blobs").body(large.clone())).await;
    assert_eq!(status, 507, "{refusal}");
    // it was refused before it was read, so that connection ends: the next request must not be on it
    pool.http = crate::support::http();
    // what is there can be read, and the process lives
    let id = early["id"].as_str().expect("an id");
    assert_eq!(pool.get(&format!("/v1/runs/{id}")).await.1, early);
    assert_eq!(pool.get("/healthz").await.0, 200);

    // in the middle of it: power cut, and a start on a disk that has room again
    pool.kill();
    std::fs::remove_file(&filler).expect("the filler is there");
    pool.start_again();
    finished_right(&pool, &acknowledged).await;

    // the other way: room returns while it runs
    let before = acknowledged.len();
    let filler = disk.fill(2 << 20);
    submit_until_full(&pool, &module, &mut acknowledged).await;
    std::fs::remove_file(&filler).expect("the filler is there");
    let accepted = eventually("it takes runs again", async || {
        let (status, run) = pool.post("/v1/runs", &json!({"module": module, "args": ["args", "late"]})).await;
        assert!(matches!(status, 200..=202 | 507), "{status} {run}");
        (status != 507).then_some(run)
    })
    .await;
    let (status, blob) = Pool::json(pool.request(Method::POST, "/v1/blobs").body(large)).await;
    assert_eq!(status, 201, "{blob}");
    finished_right(&pool, &acknowledged[before..]).await;
    assert_eq!(pool.finished(accepted["id"].as_str().expect("an id")).await["state"], "succeeded");
    assert_eq!(integrity(&pool.data), "ok");
    let (_, runs) = pool.get("/v1/runs?state=failed").await;
    assert_eq!(runs["items"], Value::Array(vec![]));
}

/// What SQLite says of the database.
fn integrity(data: &Path) -> String {
    let path = data.join("lockstep.db");
    let database = rusqlite::Connection::open(path).expect("the database is there");
    database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it answers")
}
