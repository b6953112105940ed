//! What the store costs: durable runs per second with 64 waiters, beside a bare log that syncs for all of them at once.
//!
//! Both sides get the same waiters, the same channel and as many bytes per record; the bare log is the limit that a
//! store on this disk could reach if rows, indexes and conditions were free. Each figure is the median of three
//! interleaved rounds. The last figures are a lone writer, a lone reader, and opening 100,000 stored runs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep::core::{AttemptRecord, AttemptState, Class, Explained, Final, Time};
use lockstep::digest::Digest;
use lockstep::id::{Epoch, RunId, WorkerId, WorkspaceId};
use lockstep::result::{Outcome, OutputRef, ResultManifest, RunState, Verdict, VerdictKind};
use lockstep::spec::{Policy, RunSpec};
use lockstep::store::sqlite::{Options, SqliteStore};
use lockstep::store::{CastVote, Failure, FinalRun, NewRun, RunWrite, Store, WriteAnswer};
use tokio::sync::{mpsc, oneshot};

const WAITERS: u64 = 64;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
/// A run's row when inserted and when finished, about.
const RECORD_BYTES: usize = 1_024;
const STORED_RUNS: u64 = 100_000;

fn new_run(number: u64) -> NewRun {
    let mut spec = RunSpec::new(Digest::of(b"module"));
    spec.args = vec!["-n".to_owned(), number.to_string()];
    NewRun {
        id: RunId(u128::from(number)),
        workspace: WorkspaceId(0),
        epoch: Epoch(1),
        run_key: Digest::from_bytes([7; 32]),
        spec: Arc::new(spec),
        policy: Policy::default(),
        created_at: Time(number),
        idempotency: None,
        rerun_of: None,
        blobs: vec![(Digest::of(b"module"), Bytes::from_static(b"module"))],
    }
}

fn final_run(number: u64) -> FinalRun {
    let stdout = Bytes::from(format!("the answer is {number}\n"));
    let manifest = ResultManifest {
        outcome: Outcome::Exited { code: 0 },
        stdout: OutputRef::of(&stdout),
        stderr: OutputRef::of(b""),
        files: vec![],
        fuel_used: None,
    };
    let canonical = Bytes::from(manifest.canonical());
    let result = Digest::of(&canonical);
    let attempt = |number| AttemptRecord {
        number,
        worker: WorkerId(number),
        state: AttemptState::Voted { result, outcome: Some(manifest.outcome.clone()), won: Some(true) },
        assigned_at: Time(1),
        begun_at: Some(Time(2)),
        ended_at: Some(Time(3)),
        cpu_us: 17,
    };
    let vote = |number| CastVote {
        number,
        worker: WorkerId(number),
        key: [7; 32],
        domain: "local".to_owned(),
        nonce: [9; 16],
        class: Class(Digest::of(b"class")),
        code: Class(Digest::of(b"class")),
        artifact: Digest::of(b"artifact"),
        result,
        proof: None,
        weight: None,
    };
    FinalRun {
        record: Final {
            run: RunId(u128::from(number)),
            epoch: Epoch(1),
            revision: 1,
            state: RunState::Succeeded,
            reason: None,
            outcome: Some(manifest.outcome.clone()),
            verdict: Verdict { kind: VerdictKind::Agreed, votes: 2, dissenters: vec![] },
            result: Some(result),
            votes: Vec::new(),
            error_ppb: None,
            attempts: vec![attempt(1), attempt(2)],
            explain: Arc::new(vec![Explained::kept(Time(3), "accepted: 2 of 2 votes are equal")]),
            finished_at: Time(number),
            shared_with: None,
        },
        blobs: vec![(manifest.stdout.digest, stdout), (result, canonical)],
        dissents: vec![],
        votes: vec![vote(1), vote(2)],
        source: None,
        // as every verified final is
        reusable: true,
        manifest: Some(manifest),
        callback: None,
    }
}

fn insert(number: u64) -> RunWrite {
    RunWrite::Insert(Arc::new(new_run(number)))
}

fn finish(number: u64) -> RunWrite {
    RunWrite::Finish(Box::new(final_run(number)))
}

/// The limit: a preallocated file, one sync for all that wait.
#[derive(Clone)]
struct BareLog(mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>);

impl BareLog {
    fn open(path: &Path) -> BareLog {
        let mut file = File::create(path).expect("a file can be made");
        file.write_all(&vec![0; 256 << 20]).expect("the file can be filled");
        file.sync_all().expect("the file can be synced");
        let (queue, mut records) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>(4_096);
        std::thread::spawn(move || {
            let mut offset = 0;
            while let Some(first) = records.blocking_recv() {
                let mut batch = vec![first];
                while batch.len() < 256
                    && let Ok(next) = records.try_recv()
                {
                    batch.push(next);
                }
                let bytes: Vec<u8> = batch.iter().flat_map(|(record, _)| record.iter().copied()).collect();
                offset = if offset + bytes.len() as u64 > 256 << 20 { 0 } else { offset };
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, offset).expect("the log is written");
                file.sync_data().expect("the log is synced");
                offset += bytes.len() as u64;
                for (_, waiter) in batch {
                    waiter.send(()).unwrap_or(());
                }
            }
        });
        BareLog(queue)
    }

    async fn append(&self) {
        let (waiter, done) = oneshot::channel();
        self.0.send((vec![1; RECORD_BYTES], waiter)).await.unwrap_or(());
        done.await.expect("the log answers");
    }
}

/// Runs `cycle` in a loop by every waiter, each with its own numbers, and answers cycles per second.
async fn rate<F>(next: &mut u64, cycle: impl Fn(u64) -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    // Numbers rise over all waiters together, as the ids of runs do.
    let numbers = Arc::new(std::sync::atomic::AtomicU64::new(*next));
    for _ in 0..WAITERS {
        tasks.spawn(cycle(numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
    }
    let mut done = 0_u32;
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a cycle succeeds");
        done += 1;
        if begun.elapsed() < ROUND {
            tasks.spawn(cycle(numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        }
    }
    *next = numbers.load(std::sync::atomic::Ordering::Relaxed);
    f64::from(done) / begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median time of 500 calls, one after the other.
async fn latency<F: Future<Output = ()>>(call: impl Fn(u64) -> F) -> f64 {
    let mut times = Vec::new();
    for number in 0..500 {
        let begun = Instant::now();
        call(number).await;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    median(times)
}

async fn committed(store: &SqliteStore, writes: Vec<RunWrite>) {
    let answers = store.write_runs(writes.into()).await.expect("the store answers");
    assert!(answers.iter().all(|answer| *answer == WriteAnswer::Committed), "{answers:?}");
}

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, Options::default(), Failure::new()).expect("the store opens")
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let log = BareLog::open(&dir.path().join("log"));
    let store = Arc::new(open(dir.path()));
    let mut next = 1;
    let (mut bare, mut two, mut one) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let bare_cycle = |_| {
            let log = log.clone();
            async move {
                log.append().await;
                log.append().await;
            }
        };
        bare.push(rate(&mut 0, bare_cycle).await);
        let two_commits = |number| {
            let store = Arc::clone(&store);
            async move {
                committed(&store, vec![insert(number)]).await;
                committed(&store, vec![finish(number)]).await;
            }
        };
        two.push(rate(&mut next, two_commits).await);
        let one_commit = |number| {
            let store = Arc::clone(&store);
            async move { committed(&store, vec![insert(number), finish(number)]).await }
        };
        one.push(rate(&mut next, one_commit).await);
    }
    let (bare, two, one) = (median(bare), median(two), median(one));
    println!("durable runs per second, {WAITERS} waiters:");
    println!("  bare log, two synced records per run        {bare:>9.0}   1.00");
    println!("  insert, then finish                         {two:>9.0}   {:.2}", two / bare);
    println!("  insert and finish in one transaction        {one:>9.0}   {:.2}", one / bare);

    let first = next;
    let lone = latency(|number| committed(&store, vec![insert(first + number)])).await;
    let bare = latency(|_| log.append()).await;
    let read = latency(|number| {
        let store = Arc::clone(&store);
        async move { drop(store.run(RunId(u128::from(1 + number))).await.expect("the store answers")) }
    });
    let read = read.await;
    next += 500;
    println!(
        "one caller, median: synced record {bare:.0} us, insert {lone:.0} us ({:.2}), read {read:.0} us",
        lone / bare
    );

    while next < STORED_RUNS {
        let numbers = next..next + 500;
        committed(&store, numbers.flat_map(|number| [insert(number), finish(number)]).collect()).await;
        next += 500;
    }
    store.close().await;
    let begun = Instant::now();
    let store = open(dir.path());
    let opened = begun.elapsed();
    store.adopt_open_runs().await.expect("the store answers");
    let open_runs = store.open_runs(None, 1_000).await.expect("the store answers").len();
    let runs = store.usage().await.expect("the store answers").runs;
    println!(
        "{runs} stored runs: opened in {:.1} ms, with {open_runs} open runs adopted and read and all counted in {:.1} ms",
        opened.as_secs_f64() * 1e3,
        begun.elapsed().as_secs_f64() * 1e3
    );
    store.close().await;
}
