//! The owner with everything around it in the test's hands: what the store answers, what workers say, its own queue.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::coordinator::cache::{CacheConfig, ResultCache};
use crate::coordinator::open_run::Waiter;
use crate::coordinator::pump::Written;
use crate::coordinator::repair::Ended;
use crate::coordinator::service::RunDetail;
use crate::coordinator::testing::{PATIENCE, eventually, make_full, make_room, new_run};
use crate::core::{Class, Config, Explained, Standing, WorkerStanding};
use crate::protocol::agent::{Assignment, BlobBody, FromAgent, ToAgent, VoteReport};
use crate::result::{Fault, Outcome, OutputFile, OutputRef, ResultManifest, RunState};
use crate::spec::{CacheUse, Policy, RunSpec, Verify};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Failure, FinalRun, ModuleState, NewRun, StoredModule, WriteAnswer};

mod anew;
mod cached;
mod dependents;
mod divided;
mod settled;

const CLASS: Class = Class(Digest::EMPTY);

struct Bench {
    owner: Owner,
    writes: mpsc::UnboundedReceiver<Vec<RunWrite>>,
    commands: mpsc::UnboundedReceiver<Command>,
    ended: mpsc::UnboundedReceiver<Ended>,
    workers: BTreeMap<WorkerId, mpsc::Receiver<ToAgent>>,
    store: Arc<dyn Store>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap());
        Bench::over(dir, store)
    }

    /// One that answers equal runs.
    fn caching() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap());
        Bench::with(dir, store, 100)
    }

    fn over(dir: tempfile::TempDir, store: Arc<dyn Store>) -> Bench {
        Bench::with(dir, store, 0)
    }

    fn with(dir: tempfile::TempDir, store: Arc<dyn Store>, entries_max: usize) -> Bench {
        let blobs = Blobs::open(&dir.path().join("blobs"), Arc::clone(&store), Failure::new()).unwrap();
        let (commands, queue) = mpsc::unbounded_channel();
        let (writes, written) = mpsc::unbounded_channel();
        let (repair, ended) = crate::coordinator::repair::Handle::new();
        let clock = Clock::start(Time(0));
        let config = Config { start_grace_ms: 0, ..Config::default() };
        let owner = Owner::new(Parts {
            open_runs: Arc::default(),
            pool: Pool::new(config, clock.now()),
            clock,
            store: Arc::clone(&store),
            blobs: Arc::new(blobs),
            metrics: Arc::new(Metrics::new()),
            writes,
            commands,
            events: broadcast::Sender::new(16),
            modules: Arc::default(),
            // equal runs are submitted to see them executed
            cache: Arc::new(ResultCache::new(CacheConfig {
                entries_max,
                bytes_max: 1 << 20,
                age_ms: 60_000,
            })),
            classes: Arc::default(),
            key: AssignmentKey::new(&[7; 32]),
            quarantined: Default::default(),
            repair,
            epoch: Epoch(1),
            callback_made: Arc::default(),
            reconnect_ms: 1_000,
        });
        let workers = BTreeMap::new();
        Bench { owner, writes: written, commands: queue, ended, workers, store, _dir: dir }
    }

    /// A worker of eight slots opens its session.
    fn join(&mut self, number: u32) -> WorkerId {
        self.join_with(number, Standing::default())
    }

    /// One with a record.
    fn join_with(&mut self, number: u32, standing: Standing) -> WorkerId {
        self.join_as(number, standing, |_| ())
    }

    fn join_as(&mut self, number: u32, standing: Standing, change: impl Fn(&mut WorkerRow)) -> WorkerId {
        let worker = WorkerId(number);
        let mut row = WorkerRow {
            id: worker,
            key: [0; 32],
            name: format!("w{number}"),
            domain: "local".to_owned(),
            embedded: true,
            enrolled_by: None,
            owned: true,
            arbiter: false,
            standings: [(CLASS.0, standing)].into(),
            proven_as: BTreeMap::new(),
            quarantined: None,
            for_votes: false,
            created_at: Time(0),
            session: None,
        };
        change(&mut row);
        let (to, inbox) = mpsc::channel(1_024);
        self.workers.insert(worker, inbox);
        self.owner.handle(Command::Join { row: Box::new(row), to, session: 1, remote: None });
        let hello = FromAgent::Hello {
            classes: Classes::alike(CLASS),
            about: Vec::new(),
            slots: 8,
            memory_bytes: 1 << 40,
            labels: BTreeMap::new(),
            holds: Vec::new(),
            version: String::new(),
        };
        self.says(worker, hello);
        self.says(worker, FromAgent::Credits { credits: 8, received: 0 });
        worker
    }

    fn says(&mut self, worker: WorkerId, message: FromAgent) {
        self.owner.handle(Command::Said(worker, 1, message));
        self.owner.flush();
    }

    /// What a worker hears next; nothing is an error.
    fn hears(&mut self, worker: WorkerId) -> ToAgent {
        self.workers.get_mut(&worker).unwrap().try_recv().expect("the worker is told something")
    }

    fn is_assigned(&mut self, worker: WorkerId) -> Assignment {
        match self.hears(worker) {
            ToAgent::Assign(assignment) => *assignment,
            other => panic!("{other:?}"),
        }
    }

    /// Submits a run that is believed unchecked.
    fn submit(&mut self, durable: bool) -> (RunId, FinalReceiver) {
        self.submit_with(Policy { verify: Verify::Once, durable, ..Policy::default() })
    }

    fn submit_with(&mut self, policy: Policy) -> (RunId, FinalReceiver) {
        let spec = RunSpec::new(Digest::of(b"module"));
        let id = RunId(uuid::Uuid::now_v7().as_u128());
        let new = NewRun {
            id,
            workspace: WorkspaceId(0),
            epoch: Epoch(1),
            run_key: spec.key(),
            spec: Arc::new(spec),
            policy,
            created_at: self.owner.now(),
            idempotency: None,
            rerun_of: None,
            blobs: Vec::new(),
        };
        let (reply, answer) = oneshot::channel();
        let submit = Submit {
            new: Box::new(new),
            module_ready: true,
            live: false,
            wait: true,
            room: None,
            reply,
            why_verify: None,
        };
        self.owner.handle(Command::Submit(submit));
        self.owner.flush();
        (id, answer)
    }

    /// The store commits everything that it was sent, but for what `answer` says otherwise. Gives the finals.
    fn commit(&mut self, answer: impl Fn(&RunWrite) -> WriteAnswer) -> Vec<FinalRun> {
        let mut finals = Vec::new();
        while let Ok(writes) = self.writes.try_recv() {
            let answers = writes
                .iter()
                .map(|write| (crate::coordinator::pump::subject(write), Written::Answered(answer(write))));
            let answers = answers.collect();
            self.owner.handle(Command::Written(answers));
            self.owner.flush();
            finals.extend(writes.into_iter().filter_map(|write| match write {
                RunWrite::Finish(last) | RunWrite::Correct(last) => Some(*last),
                _ => None,
            }));
        }
        finals
    }

    fn commit_all(&mut self) -> Vec<FinalRun> {
        self.commit(|_| WriteAnswer::Committed)
    }

    /// A vote for these outputs, all of which come with it or none.
    fn votes(&mut self, worker: WorkerId, assignment: &Assignment, stdout: &[u8], file: &[u8], inline: bool) {
        self.votes_as(Digest::EMPTY, worker, assignment, stdout, file, inline);
    }

    /// The same, executed as this machine code.
    fn votes_as(
        &mut self,
        artifact: Digest,
        worker: WorkerId,
        assignment: &Assignment,
        stdout: &[u8],
        file: &[u8],
        inline: bool,
    ) {
        let manifest = ResultManifest {
            outcome: Outcome::Exited { code: 0 },
            stdout: OutputRef::of(stdout),
            stderr: OutputRef::of(b""),
            files: vec![OutputFile {
                path: "/out/file".parse().unwrap(),
                digest: Digest::of(file),
                size: file.len() as u64,
            }],
            fuel_used: None,
        };
        let canonical = Bytes::from(manifest.canonical());
        let came = [stdout, file].map(|bytes| (Digest::of(bytes), Bytes::copy_from_slice(bytes)));
        let report = VoteReport {
            attempt: assignment.attempt,
            epoch: assignment.epoch,
            nonce: assignment.nonce,
            run_key: assignment.run_key,
            class: CLASS,
            artifact,
            result: Digest::of(&canonical),
            manifest: canonical,
            inline: if inline { came.to_vec() } else { Vec::new() },
            cpu_us: 10,
            begun_at_us: self.owner.now().0,
            proof: None,
        };
        self.says(worker, FromAgent::Voted(Box::new(report)));
    }

    /// The worker delivers what it is asked for.
    fn delivers(&mut self, worker: WorkerId, outputs: &[&[u8]]) {
        let ToAgent::Collect { attempt, digests } = self.hears(worker) else {
            panic!("nothing is collected")
        };
        let body = |bytes: &&[u8]| (Digest::of(bytes), BlobBody::Inline(Bytes::copy_from_slice(bytes)));
        let blobs: Vec<_> = outputs.iter().map(body).filter(|(digest, _)| digests.contains(digest)).collect();
        assert_eq!(blobs.len(), digests.len());
        self.says(worker, FromAgent::Blobs { attempt, blobs });
    }

    /// Handles the next command that a task of the owner sends.
    async fn goes_on(&mut self) {
        let next = tokio::time::timeout(PATIENCE, self.commands.recv()).await;
        self.owner.handle(next.expect("a task answers").expect("the owner holds a sender"));
        self.owner.flush();
    }
}

#[tokio::test]
async fn a_full_disk_costs_time_and_is_nobodys_fault() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { pages_max: Some(400) };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path(), options, Failure::new()).unwrap());
    make_full(store.as_ref()).await;
    let mut bench = Bench::over(dir, store);
    let worker = bench.join(1);
    let (run, _answer) = bench.submit(true);
    bench.commit_all();
    let assignment = bench.is_assigned(worker);
    let large = vec![b'x'; 100_000];
    bench.votes(worker, &assignment, b"out", &large, false);
    bench.delivers(worker, &[b"out", &large]);
    // it is tried in vain for longer than one pause
    let answer = tokio::time::timeout(Duration::from_millis(700), bench.commands.recv()).await;
    assert!(answer.is_err(), "nothing may be said while the disk is full");
    make_room(bench.store.as_ref()).await;
    bench.goes_on().await;
    let finals = bench.commit_all();
    assert_eq!(finals.len(), 1);
    assert_eq!((finals[0].record.run, finals[0].record.state), (run, RunState::Succeeded));
    assert_eq!(finals[0].record.attempts.len(), 1);
}

#[tokio::test]
async fn small_outputs_that_were_collected_go_with_the_final_and_large_ones_are_stored() {
    let mut bench = Bench::new();
    let worker = bench.join(1);
    let (_, answer) = bench.submit(true);
    bench.commit_all();
    let assignment = bench.is_assigned(worker);
    let (small, large) = (vec![b's'; 10_000], vec![b'l'; 20_000]);
    bench.votes(worker, &assignment, &small, &large, false);
    bench.delivers(worker, &[&small, &large]);
    bench.goes_on().await;
    let finals = bench.commit_all();
    let with_final: Vec<Digest> = finals[0].blobs.iter().map(|(digest, _)| *digest).collect();
    assert!(with_final.contains(&Digest::of(&small)) && !with_final.contains(&Digest::of(&large)));
    assert!(bench.store.blob(Digest::of(&small)).await.unwrap().is_none());
    assert!(bench.store.blob(Digest::of(&large)).await.unwrap().is_some());
    let detail = answer.await.unwrap().unwrap();
    assert_eq!(detail.stdout.as_deref(), Some(small.as_slice()));
}

#[tokio::test]
async fn what_is_not_what_it_is_called_is_the_workers_fault() {
    let mut bench = Bench::new();
    let worker = bench.join(1);
    let _answer = bench.submit(true);
    bench.commit_all();
    let assignment = bench.is_assigned(worker);
    let large = vec![b'l'; 20_000];
    bench.votes(worker, &assignment, b"out", &large, false);
    let ToAgent::Collect { attempt, digests } = bench.hears(worker) else { panic!("nothing is collected") };
    let wrong = |digest| (digest, BlobBody::Inline(Bytes::from_static(b"something else")));
    bench.says(worker, FromAgent::Blobs { attempt, blobs: digests.into_iter().map(wrong).collect() });
    bench.goes_on().await;
    let view = bench.owner.parts.pool.run(attempt.run).unwrap();
    let state = view.attempts[0].state.clone();
    assert!(
        matches!(state, crate::core::AttemptState::Faulted { fault: Fault::Corrupt { .. } }),
        "{state:?}"
    );
}

#[tokio::test]
async fn a_final_whose_blobs_are_gone_is_collected_anew() {
    let mut bench = Bench::new();
    let worker = bench.join(1);
    let (run, answer) = bench.submit(true);
    bench.commit_all();
    let assignment = bench.is_assigned(worker);
    let large = vec![b'l'; 20_000];
    bench.votes(worker, &assignment, b"out", &large, false);
    for round in 0..2 {
        bench.delivers(worker, &[b"out", &large]);
        bench.goes_on().await;
        let finals = bench.commit(|write| match write {
            RunWrite::Finish(_) if round == 0 => WriteAnswer::MissingBlob(Digest::of(&large)),
            _ => WriteAnswer::Committed,
        });
        assert_eq!(finals.len(), 1);
        assert_eq!(finals[0].record.state, RunState::Succeeded);
    }
    let detail = answer.await.unwrap().unwrap();
    assert_eq!((detail.run.id, detail.run.state, detail.run.attempts.len()), (run, RunState::Succeeded, 1));
}

#[tokio::test]
async fn what_a_worker_loses_is_evidence_whether_or_not_its_runs_are_written() {
    let mut bench = Bench::new();
    let worker = bench.join(1);
    let mut runs = Vec::new();
    for durable in [true, false] {
        runs.push(bench.submit(durable));
        bench.commit_all();
        bench.is_assigned(worker);
    }
    bench.owner.handle(Command::Gone(worker, 1));
    bench.owner.flush();
    let store = Arc::clone(&bench.store);
    let evidence = eventually(async || {
        let evidence = store.evidence(worker, None, 10).await.unwrap();
        (evidence.len() == 2).then_some(evidence)
    })
    .await;
    assert!(evidence.iter().all(|(_, seen)| seen.kind == "lost"), "{evidence:?}");
    assert!(runs.iter().all(|(run, _)| {
        evidence.iter().any(|(_, seen)| seen.attempt.is_some_and(|attempt| attempt.run == *run))
    }));
}

#[tokio::test]
async fn a_quarantine_that_finds_no_room_is_stored_when_there_is_some() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { pages_max: Some(400) };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path(), options, Failure::new()).unwrap());
    let new = new_run();
    let module = new.spec.module;
    store.write_runs(Arc::new(vec![RunWrite::Insert(Arc::new(new))])).await.unwrap();
    let row = StoredModule {
        digest: module,
        size: 6,
        name: None,
        state: ModuleState::Ready,
        analysis: None,
        refusal: None,
        quarantined: None,
        verify: None,
        created_at: Time(1),
        nondeterministic: None,
    };
    store.put_module(row).await.unwrap();
    make_full(store.as_ref()).await;
    let mut bench = Bench::over(dir, store);
    // longer than the room that is left in its row's page
    bench.owner.perform(Effect::QuarantineModule { module, why: "x".repeat(20_000) });
    // its first try stands before this in the store's queue
    tokio::task::yield_now().await;
    make_room(bench.store.as_ref()).await;
    let store = Arc::clone(&bench.store);
    eventually(async || store.module(module).await.unwrap().unwrap().quarantined).await;
}

#[tokio::test]
async fn a_module_that_is_found_out_is_stored_and_nobody_is_blamed_for_it_in_a_later_life() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap());
    let new = new_run();
    let (module, run) = (new.spec.module, new.id);
    store.write_runs(Arc::new(vec![RunWrite::Insert(Arc::new(new))])).await.unwrap();
    let row = StoredModule {
        digest: module,
        size: 6,
        name: None,
        state: ModuleState::Ready,
        analysis: None,
        refusal: None,
        quarantined: None,
        verify: None,
        created_at: Time(1),
        nondeterministic: None,
    };
    store.put_module(row).await.unwrap();
    let mut bench = Bench::over(dir, Arc::clone(&store));
    bench.owner.perform(Effect::NondeterministicModule { module, run });
    let found = eventually(async || store.module(module).await.unwrap().unwrap().nondeterministic).await;
    assert_eq!(found.run, run);
    assert_eq!(store.nondeterministic_modules().await.unwrap(), [module]);

    // what a start does with it: a vote loses, and it is not the voter's fault
    let mut bench = Bench::new();
    let workers = [1, 2, 3].map(|number| bench.join(number));
    let quorum = Policy { verify: Verify::Quorum { n: 3 }, durable: false, ..Policy::default() };
    for is_told in [false, true] {
        if is_told {
            bench.owner.nondeterministic(Digest::of(b"module"));
        }
        let (_, answer) = bench.submit_with(quorum.clone());
        for (worker, out) in workers.iter().zip([b"odd", b"out", b"out"]) {
            let assignment = bench.is_assigned(*worker);
            bench.votes(*worker, &assignment, out, b"file", true);
        }
        let detail = answer.await.unwrap().unwrap();
        let said = detail.run.explain.iter().map(Explained::text).collect::<Vec<_>>().join("; ");
        assert_eq!(said.contains("nobody is blamed: trusted executions"), is_told, "{said}");
        workers.iter().for_each(|worker| while bench.workers.get_mut(worker).unwrap().try_recv().is_ok() {});
    }
}

#[tokio::test]
async fn a_lone_voter_does_not_say_which_machine_code_is_right_and_agreed_ones_do() {
    let mut bench = Bench::new();
    // the operator's own, elsewhere: strangers teach nobody anything
    let own = |number| bench.join_as(number, Standing::default(), |row| row.embedded = false);
    let workers = [1, 2, 3].map(own);
    let code = |name: &str| Digest::of(name.as_bytes());
    // whoever votes first under `once` fixes nothing
    let (run, answer) = bench.submit(false);
    let holder = bench.owner.parts.pool.run(run).unwrap().attempts[0].worker;
    let assignment = bench.is_assigned(holder);
    bench.votes_as(code("wrong"), holder, &assignment, b"out", b"file", true);
    assert_eq!(answer.await.unwrap().unwrap().run.state, RunState::Succeeded);
    assert!(matches!(bench.hears(holder), ToAgent::Release(_)));

    let quorum = Policy { verify: Verify::Quorum { n: 2 }, durable: false, ..Policy::default() };
    for (names, state) in [(["right", "right"], "voted"), (["wrong", "right"], "faulted")] {
        let (run, _answer) = bench.submit_with(quorum.clone());
        let holders: Vec<WorkerId> =
            bench.owner.parts.pool.run(run).unwrap().attempts.iter().map(|attempt| attempt.worker).collect();
        for (worker, name) in holders.iter().zip(names) {
            let assignment = bench.is_assigned(*worker);
            bench.votes_as(code(name), *worker, &assignment, b"out", b"file", true);
            if state == "faulted" {
                let view = bench.owner.parts.pool.run(run).unwrap();
                assert_eq!(view.attempts[0].state.name(), state, "{:?}", view.attempts);
                break;
            }
        }
        if state == "voted" {
            assert!(bench.owner.parts.pool.run(run).is_none(), "they agree");
            for worker in &holders {
                assert!(matches!(bench.hears(*worker), ToAgent::Release(_)));
            }
        }
    }
    assert!(workers.iter().all(|worker| bench.owner.links.contains_key(worker)));
}

#[tokio::test]
async fn an_operators_drain_outlives_the_workers_session() {
    let mut bench = Bench::new();
    let worker = bench.join(1);
    let order = |bench: &mut Bench, order| {
        let (reply, mut answer) = oneshot::channel();
        bench.owner.handle(Command::Order(worker, order, reply));
        answer.try_recv().unwrap()
    };
    let standing = |bench: &Bench| bench.owner.parts.pool.worker(worker).unwrap().standing;
    assert!(order(&mut bench, WorkerOrder::Drain("its disk is old".to_owned())));
    for _ in 0..2 {
        bench.owner.handle(Command::Gone(worker, 1));
        bench.join(1);
        assert_eq!(standing(&bench), WorkerStanding::Draining);
        let why = bench.owner.parts.pool.worker(worker).unwrap().why;
        assert_eq!(why.as_deref(), Some("its disk is old"));
        // it grants attempts, and gets none
        bench.submit(false);
        assert!(bench.workers.get_mut(&worker).unwrap().try_recv().is_err());
    }
    // also one that is away is readmitted
    bench.owner.handle(Command::Gone(worker, 1));
    assert!(!order(&mut bench, WorkerOrder::Readmit(oneshot::channel().0)));
    bench.join(1);
    assert_eq!(standing(&bench), WorkerStanding::Active);
}
