//! Event streams whose readers read nothing: they cost little memory, nobody waits for them, and they hear how it ended when
//! they read again. (That one which reads nothing for a minute is cut is tested where its timer is, in
//! `coordinator/http/patient.rs`; that one which lost events hears so, in `coordinator/service/streams.rs`.)

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{PATIENCE, Pool, status_bytes, wat};

/// Streams of the run that nobody reads, and as many of the pool.
const SILENT: usize = 32;
/// Every event of the run carries its arguments.
const EVENT_BYTES: usize = 120_000;
/// Each attempt that times out changes the run at least twice.
const ATTEMPTS: usize = 20;
/// What all silent readers together may cost the coordinator: an event or two for each, instead of all that were told.
const ROOM: u64 = 64 << 20;
/// What is read of a stream at once.
const PIECE: usize = 64 << 10;

/// Opens a stream of events and reads up to the first one. Its receive buffer is small, so that not reading is felt.
async fn open(pool: &Pool, path: &str, first: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(pool.address().parse().unwrap()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", pool.token);
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, first).await;
    stream
}

/// Reads until `what` came; how many bytes that were.
async fn read_until(stream: &mut TcpStream, what: &str) -> usize {
    let reading = async {
        let (mut tail, mut piece, mut count) = (Vec::new(), vec![0; PIECE], 0);
        loop {
            let read = stream.read(&mut piece).await.expect("the stream goes on");
            assert!(read > 0, "the stream ended before `{what}`");
            count += read;
            tail.extend_from_slice(&piece[..read]);
            if tail.windows(what.len()).any(|window| window == what.as_bytes()) {
                return count;
            }
            tail.drain(..tail.len().saturating_sub(what.len()));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("waited in vain for `{what}`"))
}

#[tokio::test]
async fn readers_that_never_read_cost_little_and_hold_up_nobody() {
    let pool = Pool::with(&["--workers", "1", "--slots", "1"]).await;
    let endless = pool.push(wat("(module (func (export \"_start\") (loop (br 0))))")).await;
    let once = json!({"policy": "once"});
    let mut peak = 0;
    for silent in [0, SILENT] {
        let before = peak;
        // queued behind another one, so that everybody watches it from its beginning
        let request = json!({"module": endless, "verify": once, "timeout_ms": 600_000});
        let (_, blocker) = pool.post("/v1/runs", &request).await;
        let request = json!({"module": endless, "args": ["x".repeat(EVENT_BYTES)], "verify": once,
            "timeout_ms": 20, "attempts_max": ATTEMPTS});
        let (status, run) = pool.post("/v1/runs", &request).await;
        assert_eq!(status, 201, "{}", run["detail"]);
        let id = run["id"].as_str().unwrap();
        let events = format!("/v1/runs/{id}/events");
        let mut reader = open(&pool, &events, "event: run").await;
        let (mut of_run, mut of_pool) = (Vec::new(), Vec::new());
        for _ in 0..silent {
            of_run.push(open(&pool, &events, "event: run").await);
            of_pool.push(open(&pool, "/v1/events", "event: open").await);
        }
        let blocker = blocker["id"].as_str().unwrap();
        assert_eq!(pool.post(&format!("/v1/runs/{blocker}/cancel"), &json!({})).await.0, 200);

        // whoever reads sees all of it
        let came = read_until(&mut reader, "event: end").await;
        assert!(came > 2 * ATTEMPTS * EVENT_BYTES, "only {came} bytes were told");
        let ended = pool.finished(id).await;
        assert_eq!((&ended["state"], &ended["reason"]), (&json!("failed"), &json!("timed_out")));
        assert_eq!(ended["attempts"].as_array().map(Vec::len), Some(ATTEMPTS));
        // and others are served while the silent ones are still there
        let stats = tokio::time::timeout(Duration::from_secs(10), pool.get("/v1/stats")).await;
        assert_eq!(stats.expect("it answers at once").0, 200);

        peak = status_bytes(pool.child.id(), "VmHWM");
        if silent > 0 {
            let grown = peak - before;
            assert!(
                grown < ROOM,
                "{silent} silent readers took {grown} bytes more than the {before} of before"
            );
        }
        for (run, pool) in of_run.iter_mut().zip(&mut of_pool).take(2) {
            read_until(run, "event: end").await;
            read_until(pool, id).await;
        }
    }
}
