//! What is looked at, in which order it is verified anew, and what becomes of what cannot be.

use super::*;
use crate::coordinator::testing::{PATIENCE, eventually, new_run};
use crate::core::{AttemptRecord, AttemptState, Class, Final, PastVoter, Time, Weight};
use crate::digest::Digest;
use crate::id::{Epoch, WorkerId};
use crate::result::{Outcome, RunState, Verdict};
use crate::spec::{Policy, Verify};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Enrolment, Failure, FinalRun, NewRun, Quarantine, RunWrite, StoredModule, WriteAnswer};

mod dependents;

const CLASS: Class = Class(Digest::EMPTY);

/// A repairer over a store, with the owner's part in the test's hands.
struct Bench {
    store: Arc<dyn Store>,
    handle: Handle,
    commands: mpsc::UnboundedReceiver<Command>,
    task: tokio::task::JoinHandle<()>,
    metrics: Arc<Metrics>,
    _dir: Arc<tempfile::TempDir>,
}

impl Bench {
    fn over(store: Arc<dyn Store>, dir: Arc<tempfile::TempDir>) -> Bench {
        Bench::with(store, dir, 100)
    }

    fn with(store: Arc<dyn Store>, dir: Arc<tempfile::TempDir>, callbacks_max: u64) -> Bench {
        let (handle, ended) = Handle::new();
        let (commands, queue) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new());
        let repairer = Repairer {
            store: Arc::clone(&store),
            commands,
            clock: Clock::start(Time(0)),
            metrics: Arc::clone(&metrics),
            handle: handle.clone(),
            callbacks_max,
        };
        let task = tokio::spawn(repairer.run(ended));
        Bench { store, handle, commands: queue, task, metrics, _dir: dir }
    }

    async fn asks(&mut self) -> Anew {
        match tokio::time::timeout(PATIENCE, self.commands.recv()).await.expect("it asks") {
            Some(Command::VerifyAnew(anew)) => *anew,
            _ => panic!("it asks for nothing else"),
        }
    }

    /// The coordinator ends, and another one begins.
    fn again(self) -> Bench {
        self.task.abort();
        Bench::over(Arc::clone(&self.store), Arc::clone(&self._dir))
    }

    async fn repair(&self) -> Repair {
        self.store.repairs().await.unwrap().remove(0)
    }
}

/// A store with three workers of the operator's own and the module of all runs.
async fn store() -> (Arc<dyn Store>, Arc<tempfile::TempDir>) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(dir.path(), Options::default(), Failure::new()).unwrap());
    for number in 1..=3 {
        let enrolment = Enrolment {
            key: [number; 32],
            name: format!("w{number}"),
            domain: "here".to_owned(),
            embedded: false,
            owned: false,
            arbiter: false,
            token: None,
            at: Time(1),
        };
        assert_eq!(store.enrol_worker(enrolment).await.unwrap().id, WorkerId(number.into()));
    }
    (store, dir)
}

async fn put_module(store: &dyn Store) {
    let module = StoredModule {
        digest: Digest::of(b"module"),
        size: 6,
        name: None,
        state: ModuleState::Ready,
        analysis: None,
        refusal: None,
        quarantined: None,
        verify: None,
        created_at: Time(0),
        nondeterministic: None,
    };
    assert!(store.put_module(module).await.unwrap());
}

/// A final of these voters, all of one mind but for those that named something else.
async fn ended(store: &dyn Store, verify: Verify, won: &[u32], lost: &[u32], at: u64) -> RunId {
    let new = NewRun { policy: Policy { verify, ..Policy::default() }, ..new_run() };
    let id = new.id;
    let (result, other) = (Digest::of(b"result"), Digest::of(b"other"));
    let voted = |number: usize, worker: u32, result, won| AttemptRecord {
        number: number as u32 + 1,
        worker: WorkerId(worker),
        state: AttemptState::Voted { result, outcome: None, won: Some(won) },
        assigned_at: Time(1),
        begun_at: None,
        ended_at: Some(Time(at)),
        cpu_us: 0,
    };
    let voters = won.iter().map(|worker| (*worker, result, true));
    let voters = voters.chain(lost.iter().map(|worker| (*worker, other, false)));
    let attempts: Vec<AttemptRecord> =
        voters.enumerate().map(|(place, (worker, result, won))| voted(place, worker, result, won)).collect();
    let votes = attempts.iter().map(|attempt| CastVote {
        number: attempt.number,
        worker: attempt.worker,
        key: [0; 32],
        domain: "here".to_owned(),
        nonce: [0; 16],
        class: CLASS,
        code: CLASS,
        artifact: Digest::EMPTY,
        result: if won.contains(&attempt.worker.0) { result } else { other },
        proof: None,
        weight: None,
    });
    let votes = votes.collect();
    let record = Final {
        run: id,
        epoch: Epoch(1),
        revision: 1,
        state: RunState::Succeeded,
        reason: None,
        outcome: Some(Outcome::Exited { code: 0 }),
        verdict: Verdict::default(),
        result: Some(result),
        votes: Vec::new(),
        error_ppb: None,
        attempts,
        explain: Arc::default(),
        finished_at: Time(at),
        shared_with: None,
    };
    let last = FinalRun {
        record,
        manifest: None,
        blobs: Vec::new(),
        dissents: Vec::new(),
        votes,
        source: None,
        reusable: false,
        callback: None,
    };
    let writes = vec![RunWrite::Insert(Arc::new(new)), RunWrite::Finish(Box::new(last))];
    assert_eq!(store.write_runs(writes.into()).await.unwrap(), vec![WriteAnswer::Committed; 2]);
    id
}

async fn quarantine(store: &dyn Store, worker: u32, at: u64) {
    let quarantine = Quarantine { why: "lied".to_owned(), at: Time(at), for_votes: true };
    assert!(store.quarantine_worker(WorkerId(worker), Some(quarantine), Time(50)).await.unwrap());
}

fn voter(number: u32, is_out: bool) -> PastVoter {
    PastVoter { worker: WorkerId(number), class: Some(CLASS), code: Some(CLASS), is_out }
}

fn stays(run: RunId, verdict: Reverdict) -> Ended {
    Ended::Stays(Box::new(Stays {
        run,
        revision: 1,
        verdict,
        reason: None,
        explain: Arc::new(vec![Explained::kept(Time(9), "looked at again")]),
        confirmations: Vec::new(),
        numbers: 7,
    }))
}

#[tokio::test]
async fn the_weakest_come_first_and_a_restart_forgets_nothing() {
    let (store, dir) = store().await;
    let checked = ended(&*store, Verify::Quorum { n: 2 }, &[1, 2], &[3], 10).await;
    let alone = ended(&*store, Verify::Once, &[1], &[], 11).await;
    ended(&*store, Verify::Quorum { n: 3 }, &[1, 2, 3], &[], 12).await;
    ended(&*store, Verify::Once, &[2], &[], 13).await;
    put_module(&*store).await;
    let mut bench = Bench::over(Arc::clone(&store), dir);
    quarantine(&*store, 1, 20).await;
    bench.handle.wake();
    // one newcomer against another is less than nobody at all
    let first = bench.asks().await;
    assert_eq!(first.run.id, checked);
    let of_first = first.reverify;
    assert_eq!((of_first.attempts, of_first.voters), (3, vec![voter(1, true), voter(2, false)]));
    let dissent = Dissent { number: 3, worker: WorkerId(3), class: CLASS, result: Digest::of(b"other") };
    assert_eq!(of_first.dissents, [dissent], "who lost may have been right");
    assert_eq!(of_first.class, Some(CLASS), "no other class may correct it");
    assert_eq!((of_first.overflowed, of_first.codes), (false, vec![CLASS]));
    let second = bench.asks().await;
    assert_eq!((second.run.id, second.reverify.voters), (alone, vec![voter(1, true)]));
    // what had been handed out is handed out again
    let mut bench = bench.again();
    assert_eq!([bench.asks().await.run.id, bench.asks().await.run.id], [checked, alone]);
    bench.handle.tell(stays(alone, Reverdict::Confirmed));
    bench.handle.tell(stays(checked, Reverdict::Undecided));
    eventually(async || (bench.repair().await.confirmed == 1).then_some(())).await;
    let repair = bench.repair().await;
    assert_eq!((repair.finals, repair.looked_at, repair.decisive, repair.pending), (3, 3, 2, 1));
    let confirmed = store.run(alone).await.unwrap().unwrap();
    assert_eq!(confirmed.verification.unwrap().verdict, Reverdict::Confirmed);
    assert_eq!(confirmed.explain.last().unwrap().text(), "looked at again");
    // what nobody could tell comes again after its pause, with attempts of its own
    eventually(async || store.due_suspects(Time(u64::MAX / 4), 9).await.unwrap().pop()).await;
    bench.handle.wake();
    let again = bench.asks().await;
    assert_eq!((again.run.id, again.reverify.attempts), (checked, 7));
    let text = bench.metrics.render(crate::core::Stats::default(), crate::store::Usage::default(), 0);
    assert!(text.contains("lockstep_reverifications_total{verdict=\"confirmed\"} 1"), "{text}");
}

#[tokio::test]
async fn what_nobody_can_tell_counts_as_undecided_and_is_tried_on() {
    let (store, dir) = store().await;
    let run = ended(&*store, Verify::Once, &[1], &[], 11).await;
    put_module(&*store).await;
    quarantine(&*store, 1, 20).await;
    let mut bench = Bench::over(Arc::clone(&store), dir);
    for tries in 0..UNDECIDED_AFTER {
        assert_eq!((bench.asks().await.run.id, bench.repair().await.undecided), (run, 0), "try {tries}");
        bench.handle.tell(stays(run, Reverdict::Undecided));
        // its pause is over at once
        let due = async || store.due_suspects(Time(u64::MAX / 4), 9).await.unwrap().pop();
        eventually(async || {
            let repair = bench.repair().await;
            (repair.undecided > 0 && due().await.is_some()
                || due().await.is_some_and(|due| due.tries > tries))
            .then_some(())
        })
        .await;
        bench.handle.wake();
    }
    let repair = bench.repair().await;
    assert_eq!((repair.undecided, repair.pending), (1, 0));
    let kept = store.run(run).await.unwrap().unwrap().verification.unwrap();
    assert_eq!(kept.verdict, Reverdict::Undecided);
    // somebody may be there by now who can tell
    assert_eq!(bench.asks().await.run.id, run);
    bench.handle.tell(stays(run, Reverdict::Confirmed));
    eventually(async || (bench.repair().await.confirmed == 1).then_some(())).await;
    assert_eq!((bench.repair().await.undecided, bench.repair().await.pending), (0, 0));
    assert_eq!([UNDECIDED_AFTER - 2, UNDECIDED_AFTER - 1].map(pause_ms), [64 * PAUSE_MS, LONG_PAUSE_MS]);
}

#[tokio::test]
async fn what_needs_something_that_is_gone_is_recorded_and_not_tried() {
    let (store, dir) = store().await;
    // nobody has uploaded its module, or it was deleted since
    let run = ended(&*store, Verify::Once, &[1], &[], 11).await;
    quarantine(&*store, 1, 20).await;
    let mut bench = Bench::over(Arc::clone(&store), dir);
    eventually(async || (bench.repair().await.not_verifiable == 1).then_some(())).await;
    assert!(bench.commands.try_recv().is_err());
    let kept = store.run(run).await.unwrap().unwrap();
    assert_eq!(kept.verification.unwrap().verdict, Reverdict::NotVerifiable);
    assert!(kept.explain.last().unwrap().text().contains("its module was deleted"));
}

#[tokio::test]
async fn what_waits_for_a_module_that_is_quarantined_is_not_given_up() {
    let (store, dir) = store().await;
    let run = ended(&*store, Verify::Once, &[1], &[], 11).await;
    put_module(&*store).await;
    let module = Digest::of(b"module");
    assert!(store.quarantine_module(module, "it crashes workers".to_owned()).await.unwrap());
    quarantine(&*store, 1, 20).await;
    let mut bench = Bench::over(Arc::clone(&store), dir);
    // it is not due before its pause is over
    eventually(async || {
        let is_found = bench.repair().await.pending == 1;
        (is_found && store.due_suspects(Time(0), 9).await.unwrap().is_empty()).then_some(())
    })
    .await;
    assert!(bench.commands.try_recv().is_err());
    assert!(store.readmit_module(module).await.unwrap());
    let due = store.due_suspects(Time(u64::MAX / 4), 9).await.unwrap().remove(0);
    assert_eq!((due.run, due.tries), (run, 0), "it was not tried");
    bench.handle.wake();
    assert_eq!(bench.asks().await.run.id, run);
}

#[tokio::test]
async fn what_ends_while_its_voter_is_taken_out_is_looked_at_too() {
    let (store, dir) = store().await;
    quarantine(&*store, 1, 20).await;
    let mut bench = Bench::over(Arc::clone(&store), dir);
    eventually(async || bench.repair().await.is_complete.then_some(())).await;
    put_module_of_a_run(&*store).await;
    let late = ended(&*store, Verify::Once, &[1], &[], 19).await;
    bench.handle.wake();
    assert_eq!(bench.asks().await.run.id, late);
    // let in again as a newcomer: what it does now is its own, what it did before is not
    assert!(store.quarantine_worker(WorkerId(1), None, Time(50)).await.unwrap());
    let before = ended(&*store, Verify::Once, &[1], &[], 20).await;
    ended(&*store, Verify::Once, &[1], &[], 30).await;
    bench.handle.wake();
    let asked = bench.asks().await;
    assert_eq!(asked.run.id, before);
    // and neither is it held against it once more
    assert_eq!(asked.reverify.voters, [PastVoter { class: None, ..voter(1, true) }]);
    eventually(async || (bench.repair().await.looked_at == 3).then_some(())).await;
    assert_eq!(bench.repair().await.decisive, 2);
}

/// The module's blob comes with a run.
async fn put_module_of_a_run(store: &dyn Store) {
    ended(store, Verify::Once, &[2], &[], 5).await;
    put_module(store).await;
}

#[tokio::test]
async fn what_was_confirmed_rests_on_those_that_confirmed_it() {
    let (store, dir) = store().await;
    let run = ended(&*store, Verify::Quorum { n: 2 }, &[1, 2], &[], 10).await;
    put_module(&*store).await;
    quarantine(&*store, 1, 20).await;
    let mut bench = Bench::over(Arc::clone(&store), dir);
    let anew = bench.asks().await;
    let mut vote = store.votes(run, 1).await.unwrap().unwrap().remove(0);
    (vote.number, vote.worker) = (7, WorkerId(3));
    vote.weight = Some(Weight { error_ppb: 100_000, k_milli: 900_000, domain: 3, is_arbiter: true });
    let Ended::Stays(mut confirmed) = stays(run, Reverdict::Confirmed) else { panic!("it stays") };
    confirmed.confirmations = vec![vote];
    bench.handle.tell(Ended::Stays(confirmed));
    // it is looked at once more, and that is the end of it
    eventually(async || (bench.repair().await.looked_at == 2).then_some(())).await;
    bench.handle.wake();
    let done = bench.repair().await;
    assert_eq!((done.confirmed, done.decisive, done.pending, anew.run.id), (1, 1, 0, run));
    assert!(bench.commands.try_recv().is_err());
    // unless who confirmed it is out as well
    quarantine(&*store, 3, 30).await;
    bench.handle.wake();
    let again = bench.asks().await;
    assert_eq!(again.run.id, run);
    let blamed: Vec<WorkerId> = again.reverify.voters.iter().map(|voter| voter.worker).collect();
    assert_eq!(blamed, [1, 2].map(WorkerId), "an arbiter is trusted for what it is");
}

#[tokio::test]
async fn who_was_overruled_by_a_correction_that_is_doubted_is_heard_again() {
    let (store, dir) = store().await;
    let run = ended(&*store, Verify::Quorum { n: 2 }, &[1, 2], &[], 10).await;
    put_module(&*store).await;
    let truth = Digest::of(b"result");
    let number = 11;
    let mut vote = store.votes(run, 1).await.unwrap().unwrap().remove(0);
    (vote.number, vote.worker, vote.result) = (number, WorkerId(3), Digest::of(b"lie"));
    let was = store.run(run).await.unwrap().unwrap();
    let attempt = AttemptRecord {
        number,
        worker: WorkerId(3),
        state: AttemptState::Voted { result: vote.result, outcome: None, won: Some(true) },
        ..was.attempts[0].clone()
    };
    let record = Final {
        run,
        epoch: Epoch(1),
        revision: 2,
        state: RunState::Succeeded,
        reason: None,
        outcome: was.outcome.clone(),
        verdict: Verdict::default(),
        result: Some(vote.result),
        votes: Vec::new(),
        error_ppb: None,
        attempts: vec![attempt],
        explain: Arc::default(),
        finished_at: Time(20),
        shared_with: None,
    };
    let (blobs, dissents, votes) = (Vec::new(), Vec::new(), vec![vote]);
    let last = FinalRun {
        record,
        manifest: None,
        blobs,
        dissents,
        votes,
        callback: None,
        source: None,
        reusable: false,
    };
    let write = vec![RunWrite::Correct(Box::new(last))];
    assert_eq!(store.write_runs(write.into()).await.unwrap(), [WriteAnswer::Committed]);
    quarantine(&*store, 3, 30).await;
    let mut bench = Bench::over(Arc::clone(&store), dir);
    let asked = bench.asks().await.reverify;
    assert_eq!((asked.revision, asked.voters), (2, vec![voter(3, true)]));
    let right =
        |worker: u32| Dissent { number: worker, worker: WorkerId(worker), class: CLASS, result: truth };
    assert_eq!(asked.dissents, [1, 2].map(right));
}
