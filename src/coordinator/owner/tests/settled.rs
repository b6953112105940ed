//! What the pool finds out and what an operator says, one behind the other: store and memory end with the later word.

use super::*;
use crate::core::{Lapse, day_of};
use crate::store::Enrolment;

/// Enrols a worker, which has the number that it is given.
async fn enrol(store: &dyn Store) -> u32 {
    let name = "w".to_owned();
    let enrolment = Enrolment {
        key: [1; 32],
        name,
        domain: "local".to_owned(),
        embedded: true,
        owned: true,
        arbiter: false,
        token: None,
        at: Time(1),
    };
    store.enrol_worker(enrolment).await.unwrap().id.0
}

/// A record for which the pool quarantines whoever joins with it.
fn condemned(now: Time) -> Standing {
    let day = day_of(now);
    let lapse = Lapse { run: RunId(1), is_lone: false, day, k_milli: 0, suspect_before: None };
    Standing { day, lapses: [Some(lapse), None, None, None], ..Standing::default() }
}

async fn reason(bench: &Bench, worker: WorkerId) -> Option<String> {
    let rows = bench.store.workers().await.unwrap();
    rows.into_iter().find(|row| row.id == worker).unwrap().quarantined
}

impl Bench {
    fn say(&mut self, worker: WorkerId, order: impl FnOnce(Stored) -> WorkerOrder) -> Answer {
        let (stored, is_stored) = oneshot::channel();
        self.owner.handle(Command::Order(worker, order(stored), oneshot::channel().0));
        self.owner.flush();
        is_stored
    }

    fn say_of_module(&mut self, module: Digest, why: Option<&str>) -> Answer {
        let (stored, is_stored) = oneshot::channel();
        self.owner.handle(Command::ModuleQuarantine(module, why.map(str::to_owned), stored));
        is_stored
    }
}

type Answer = oneshot::Receiver<Result<bool, crate::store::StoreError>>;

#[tokio::test]
async fn a_quarantine_by_the_pool_that_is_still_to_be_written_does_not_undo_a_readmission() {
    let mut bench = Bench::new();
    let number = enrol(bench.store.as_ref()).await;
    let worker = bench.join_with(number, condemned(bench.owner.now()));
    let standing = |bench: &Bench| bench.owner.parts.pool.worker(worker).unwrap().standing;
    assert_eq!(standing(&bench), WorkerStanding::Quarantined);
    // this test's one thread has written nothing of it yet
    let stored = bench.say(worker, WorkerOrder::Readmit);
    assert!(stored.await.unwrap().unwrap());
    assert_eq!(standing(&bench), WorkerStanding::Active);
    assert!(!bench.owner.parts.quarantined.has(worker));
    assert_eq!(reason(&bench, worker).await, None, "what the operator said last holds in the store too");
    let row = bench.store.workers().await.unwrap().remove(0);
    assert!(!row.standings.values().any(Standing::condemns), "it is a newcomer");

    // the other way round
    let first = bench.say(worker, |stored| WorkerOrder::Quarantine("an order".to_owned(), stored));
    let second = bench.say(worker, WorkerOrder::Readmit);
    let third = bench.say(worker, |stored| WorkerOrder::Quarantine("another".to_owned(), stored));
    for stored in [first, second, third] {
        assert!(stored.await.unwrap().unwrap());
    }
    assert_eq!(standing(&bench), WorkerStanding::Quarantined);
    assert_eq!(reason(&bench, worker).await.as_deref(), Some("another"));
    let nobody = bench.say(WorkerId(99), WorkerOrder::Readmit);
    assert!(!nobody.await.unwrap().unwrap(), "there is no such worker");
}

#[tokio::test]
async fn a_session_that_begins_with_a_row_of_before_the_readmission_quarantines_nobody_again() {
    let mut bench = Bench::new();
    let number = enrol(bench.store.as_ref()).await;
    let worker = bench.join(number);
    let stored = bench.say(worker, |stored| WorkerOrder::Quarantine("an order".to_owned(), stored));
    stored.await.unwrap().unwrap();
    let read_before = bench.store.workers().await.unwrap().remove(0);
    assert!(read_before.quarantined.is_some());
    bench.say(worker, WorkerOrder::Readmit).await.unwrap().unwrap();
    let link = bench.owner.links.get_mut(&worker).unwrap();
    link.row = read_before;
    let hello = FromAgent::Hello {
        classes: Classes::alike(CLASS),
        about: Vec::new(),
        slots: 8,
        memory_bytes: 1 << 40,
        labels: BTreeMap::new(),
        holds: Vec::new(),
        version: String::new(),
    };
    bench.says(worker, hello);
    assert_eq!(bench.owner.parts.pool.worker(worker).unwrap().standing, WorkerStanding::Active);
}

#[tokio::test]
async fn a_module_that_the_pool_has_quarantined_is_readmitted_for_good() {
    let mut bench = Bench::new();
    let new = new_run();
    let module = new.spec.module;
    bench.store.write_runs(Arc::new(vec![RunWrite::Insert(Arc::new(new))])).await.unwrap();
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
    bench.store.put_module(row).await.unwrap();
    let quarantined = async |bench: &Bench| bench.store.module(module).await.unwrap().unwrap().quarantined;
    bench.owner.perform(Effect::QuarantineModule { module, why: "it crashed".to_owned() });
    bench.owner.perform(Effect::NondeterministicModule { module, run: RunId(1) });
    let stored = bench.say_of_module(module, None);
    assert!(stored.await.unwrap().unwrap());
    let row = bench.store.module(module).await.unwrap().unwrap();
    assert_eq!((row.quarantined, row.nondeterministic), (None, None));

    let first = bench.say_of_module(module, None);
    let second = bench.say_of_module(module, Some("an order"));
    first.await.unwrap().unwrap();
    assert!(second.await.unwrap().unwrap());
    assert_eq!(quarantined(&bench).await.as_deref(), Some("an order"));
    assert!(!bench.say_of_module(Digest::of(b"absent"), None).await.unwrap().unwrap());
}

#[tokio::test]
async fn on_a_full_disk_an_order_is_answered_and_what_rested_on_the_worker_answers_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { pages_max: Some(400) };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path(), options, Failure::new()).unwrap());
    let worker = WorkerId(enrol(store.as_ref()).await);
    let mut bench = Bench::with(dir, store, 100);
    let (detail, _) = cached::executed(&mut bench).await;
    let key = (WorkspaceId(0), detail.run.run_key);
    let policy = Policy { verify: Verify::Quorum { n: 2 }, ..Policy::default() };
    let find = |bench: &Bench| bench.owner.parts.cache.find(key, &policy, CLASS, bench.owner.now()).is_some();
    assert!(find(&bench));
    make_full(bench.store.as_ref()).await;
    // longer than the room that is left in its row's page
    let order = |stored| WorkerOrder::Quarantine("x".repeat(20_000), stored);
    let is_stored = bench.say(worker, order);
    assert!(!find(&bench), "at once, whether anybody waits for the answer or not");
    let answer = tokio::time::timeout(PATIENCE, is_stored).await.expect("it is answered").unwrap();
    assert!(matches!(answer, Err(crate::store::StoreError::Full)));
}

#[tokio::test]
async fn on_a_full_disk_an_order_behind_evidence_is_answered_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { pages_max: Some(400) };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path(), options, Failure::new()).unwrap());
    let number = enrol(store.as_ref()).await;
    let mut bench = Bench::over(dir, store);
    let worker = bench.join(number);
    make_full(bench.store.as_ref()).await;
    let attempt = AttemptId { run: RunId(1), number: 1 };
    // longer than the room that is left in any page
    bench.owner.note(worker, &"x".repeat(20_000), attempt, None);
    let is_stored = bench.say(worker, |stored| WorkerOrder::Quarantine("broken".to_owned(), stored));
    let answer = tokio::time::timeout(PATIENCE, is_stored).await.expect("it is answered").unwrap();
    assert!(matches!(answer, Err(crate::store::StoreError::Full)));
}
