//! Runs that share attempts, and hits whose row is on its way.

use super::*;
use crate::coordinator::cache::Entry;
use crate::core::WriteKind;
use crate::store::{Source, StoredRun};

fn quorum(durable: bool) -> Policy {
    Policy { verify: Verify::Quorum { n: 2 }, durable, ..Policy::default() }
}

impl Bench {
    /// Both workers vote for these outputs.
    fn two_vote(&mut self, workers: [WorkerId; 2], stdout: &[u8], file: &[u8]) {
        for worker in workers {
            let assignment = self.is_assigned(worker);
            self.votes(worker, &assignment, stdout, file, true);
        }
    }
}

#[tokio::test]
async fn equal_runs_in_flight_share_attempts_and_all_have_the_result() {
    for durable in [true, false] {
        let mut bench = Bench::caching();
        let workers = [1, 2].map(|number| bench.join(number));
        let all: Vec<_> = (0..5).map(|_| bench.submit_with(quorum(durable))).collect();
        bench.commit_all();
        let leader = all[0].0;
        bench.two_vote(workers, b"out", b"a file");
        let finals = bench.commit_all();
        if durable {
            assert_eq!(finals.len(), 5);
            let blobs = |last: &FinalRun| last.blobs.iter().map(|(digest, _)| *digest).collect::<Vec<_>>();
            assert!(finals.iter().all(|last| last.manifest.is_some() && blobs(last) == blobs(&finals[0])));
            assert!(finals.iter().all(|last| last.reusable == (last.record.run == leader)));
        }
        for (run, answer) in all {
            let detail = answer.await.unwrap().unwrap();
            assert_eq!((detail.run.id, detail.run.state), (run, RunState::Succeeded));
            assert_eq!(detail.stdout.as_deref(), Some(b"out".as_slice()));
            let source = (run != leader).then_some(Source::Shared(leader));
            assert_eq!(
                (detail.run.source, detail.run.attempts.len()),
                (source, if run == leader { 2 } else { 0 })
            );
            if !durable {
                let file = bench.owner.ring.output(WorkspaceId(0), run, Digest::of(b"a file"));
                assert_eq!(file.as_deref(), Some(b"a file".as_slice()));
            }
        }
        assert_eq!(bench.owner.parts.metrics.runs_shared.get(), 4);
        assert!(bench.owner.landed.is_empty());
    }
}

#[tokio::test]
async fn a_leader_that_is_canceled_hands_over_and_a_follower_that_is_changes_nothing() {
    let mut bench = Bench::caching();
    let workers = [1, 2].map(|number| bench.join(number));
    let [leader, second, third, fourth] = [(); 4].map(|()| bench.submit_with(quorum(true)));
    bench.commit_all();
    for worker in workers {
        bench.is_assigned(worker);
    }
    let cancel = |bench: &mut Bench, run| {
        bench.owner.step(Event::Cancel { run });
        bench.owner.flush();
        bench.commit_all()
    };
    assert_eq!(cancel(&mut bench, third.0).len(), 1, "the others go on");
    assert!([leader.0, second.0].iter().all(|run| bench.owner.parts.pool.run(*run).is_some()));
    assert_eq!(cancel(&mut bench, leader.0).len(), 1);
    for worker in workers {
        // what the leader had is stopped, and its heir begins anew
        assert!(matches!(bench.hears(worker), ToAgent::Abort(_)));
    }
    bench.two_vote(workers, b"out", b"a file");
    let finals = bench.commit_all();
    assert_eq!(finals.len(), 2);
    let detail = fourth.1.await.unwrap().unwrap();
    assert_eq!((detail.run.state, detail.run.source), (RunState::Succeeded, Some(Source::Shared(second.0))));
    assert_eq!(leader.1.await.unwrap().unwrap().run.state, RunState::Canceled);
    assert_eq!(third.1.await.unwrap().unwrap().run.state, RunState::Canceled);
}

#[tokio::test]
async fn a_follower_whose_leader_was_refused_is_executed_itself() {
    let mut bench = Bench::caching();
    let workers = [1, 2].map(|number| bench.join(number));
    let [leader, follower] = [(); 2].map(|()| bench.submit_with(quorum(true)));
    bench.two_vote(workers, b"out", b"a file");
    // the insertion of the one is refused, and all of it is in one batch
    let result = std::cell::Cell::new(None);
    bench.commit(|write| match (crate::coordinator::pump::subject(write), write) {
        ((run, WriteKind::Inserted), _) if run == leader.0 => {
            WriteAnswer::Duplicate { run: RunId(1), same_payload: true }
        }
        ((run, _), _) if run == leader.0 => WriteAnswer::Refused,
        ((_, WriteKind::Finished), RunWrite::Finish(last)) if last.source.is_some() => {
            result.set(last.record.result);
            WriteAnswer::MissingBlob(last.record.result.unwrap())
        }
        _ => WriteAnswer::Committed,
    });
    assert!(matches!(leader.1.await.unwrap(), Err(ServiceError::Duplicate { .. })));
    assert!(result.get().is_some() && bench.owner.parts.pool.run(follower.0).is_some());
    for worker in workers {
        assert!(matches!(bench.hears(worker), ToAgent::Release(_)), "of what led");
    }
    bench.two_vote(workers, b"out", b"a file");
    let finals = bench.commit_all();
    assert_eq!(finals.len(), 1);
    assert_eq!((finals[0].record.result, finals[0].source), (result.get(), None));
    assert_eq!(finals[0].votes.len(), 2, "its votes are its own");
    let detail = follower.1.await.unwrap().unwrap();
    assert_eq!((detail.run.state, detail.run.source), (RunState::Succeeded, None));
}

#[tokio::test]
async fn runs_that_ask_for_more_or_for_themselves_are_executed_by_themselves() {
    let mut bench = Bench::caching();
    bench.join(1);
    let once = Policy { verify: Verify::Once, ..Policy::default() };
    let policies = [
        once.clone(),
        Policy { cache: CacheUse::Refresh, ..once.clone() },
        Policy { cache: CacheUse::Off, ..once.clone() },
        Policy { retry: crate::spec::Retry::Never, ..once.clone() },
        Policy { durable: false, ..once.clone() },
        Policy { timeout_ms: 10, ..once.clone() },
        Policy { priority: 1, ..once.clone() },
        // and one that is content with what the first gets
        Policy { priority: -1, timeout_ms: 60_000, deadline_ms: Some(60_000), ..once },
    ];
    let mut shared = Vec::new();
    for policy in policies {
        let (run, _answer) = bench.submit_with(policy);
        let explained = bench.owner.parts.pool.run(run).unwrap().explain;
        shared.push(explained.iter().any(|line| line.text().contains("is equal to it and in flight")));
    }
    assert_eq!(shared, [false, false, false, false, false, false, false, true]);
}

pub(super) fn hit(bench: &Bench, of: &RunDetail, durable: bool, reply: Option<Waiter>) -> Hit {
    let spec = Arc::clone(&of.run.spec);
    let new = NewRun {
        id: RunId(uuid::Uuid::now_v7().as_u128()),
        workspace: WorkspaceId(0),
        epoch: Epoch(1),
        run_key: spec.key(),
        spec,
        policy: quorum(durable),
        created_at: bench.owner.now(),
        idempotency: None,
        rerun_of: None,
        blobs: Vec::new(),
    };
    let run = StoredRun {
        id: new.id,
        source: Some(Source::Cached(of.run.id)),
        policy: new.policy.clone(),
        attempts: Vec::new(),
        ..of.run.clone()
    };
    let detail = Arc::new(RunDetail { run, stdout: of.stdout.clone(), stderr: of.stderr.clone() });
    let is_counted = reply.is_none() && durable && bench.owner.parts.cache.begin_unwritten();
    Hit { new: Box::new(new), detail, outputs: BTreeMap::new(), reply, is_counted }
}

/// A run that was executed and is in the cache.
pub(super) async fn executed(bench: &mut Bench) -> (Arc<RunDetail>, Entry) {
    let workers = [1, 2].map(|number| bench.join(number));
    let (_, answer) = bench.submit_with(quorum(true));
    bench.commit_all();
    bench.two_vote(workers, b"out", b"a file");
    bench.commit_all();
    let detail = answer.await.unwrap().unwrap();
    let key = (WorkspaceId(0), detail.run.run_key);
    let entry = bench.owner.parts.cache.find(key, &quorum(true), CLASS, bench.owner.now()).unwrap();
    (detail, entry)
}

#[tokio::test]
async fn a_hit_is_shown_before_its_row_is_written() {
    let mut bench = Bench::caching();
    let (detail, entry) = executed(&mut bench).await;
    assert_eq!(entry.detail.run.id, detail.run.id);
    let (reply, mut waits) = oneshot::channel();
    let [answered, awaited] = [hit(&bench, &detail, true, None), hit(&bench, &detail, true, Some(reply))];
    let ids = [answered.new.id, awaited.new.id];
    bench.owner.handle(Command::Hit(answered));
    bench.owner.handle(Command::Hit(awaited));
    bench.owner.flush();
    let shown = bench.sees(ids[0]).expect("whoever got the id may ask for it");
    assert_eq!(
        (shown.run.state, shown.run.source),
        (RunState::Succeeded, Some(Source::Cached(detail.run.id)))
    );
    assert!(bench.owner.see(WorkspaceId(1), ids[0]).is_none());
    assert!(waits.try_recv().is_err(), "its row is not written");
    let (waiter, mut acknowledged) = oneshot::channel();
    bench.owner.handle(Command::Acknowledge(WorkspaceId(0), ids[0], waiter));
    assert!(acknowledged.try_recv().is_err());

    let finals = bench.commit_all();
    assert_eq!(finals.iter().map(|last| last.record.run).collect::<Vec<_>>(), ids);
    assert!(finals.iter().all(|last| !last.reusable && last.source == Some(Source::Cached(detail.run.id))));
    assert_eq!(waits.try_recv().unwrap().unwrap().run.id, ids[1]);
    assert_eq!(acknowledged.try_recv().unwrap().unwrap().run.id, ids[0]);
    assert!(bench.sees(ids[0]).is_none(), "it is in the store");
    assert!(bench.owner.hits.is_empty());
}

#[tokio::test]
async fn a_hit_in_memory_is_in_the_ring_at_once() {
    let mut bench = Bench::caching();
    let (detail, _) = executed(&mut bench).await;
    let hit = hit(&bench, &detail, false, None);
    let id = hit.new.id;
    bench.owner.handle(Command::Hit(hit));
    bench.owner.flush();
    assert_eq!(bench.sees(id).unwrap().run.id, id);
    assert_eq!(bench.commit_all().len(), 0);
}

#[tokio::test]
async fn a_full_disk_stops_answers_that_nobody_would_remember() {
    let mut bench = Bench::caching();
    let (detail, _) = executed(&mut bench).await;
    let refused = hit(&bench, &detail, true, None);
    let id = refused.new.id;
    bench.owner.handle(Command::Hit(refused));
    bench.owner.flush();
    let writes = bench.writes.try_recv().unwrap();
    let answers = writes.iter().map(|write| (crate::coordinator::pump::subject(write), Written::DiskFull));
    bench.owner.handle(Command::Written(answers.collect()));
    assert!(bench.sees(id).is_none());
    let find = |bench: &Bench| {
        let key = (WorkspaceId(0), detail.run.run_key);
        bench.owner.parts.cache.find(key, &quorum(true), CLASS, bench.owner.now()).is_some()
    };
    assert!(!find(&bench), "a submission has to hear that the disk is full");
    // something is written again, and no hit is: nothing answers from the cache before
    let (other, _answer) = bench.submit_with(Policy { cache: CacheUse::Off, ..quorum(true) });
    let committed = Written::Answered(WriteAnswer::Committed);
    bench.owner.handle(Command::Written(vec![((other, WriteKind::Inserted), committed)]));
    assert!(find(&bench));
}

#[tokio::test]
async fn a_hit_whose_blobs_went_at_that_moment_is_no_run_and_never_executed() {
    for kind in [WriteKind::Inserted, WriteKind::Finished] {
        let mut bench = Bench::caching();
        let (detail, _) = executed(&mut bench).await;
        let (reply, mut waits) = oneshot::channel();
        let hits = [hit(&bench, &detail, true, Some(reply)), hit(&bench, &detail, true, None)];
        let ids = [hits[0].new.id, hits[1].new.id];
        for hit in hits {
            bench.owner.handle(Command::Hit(hit));
        }
        // another request with the same key
        let (joins, mut joined) = oneshot::channel();
        bench.owner.handle(Command::Acknowledge(WorkspaceId(0), ids[0], joins));
        bench.owner.flush();
        bench.commit(|write| match (crate::coordinator::pump::subject(write).1, kind) {
            (WriteKind::Inserted, WriteKind::Finished) => WriteAnswer::Committed,
            (WriteKind::Finished, WriteKind::Inserted) => WriteAnswer::Refused,
            _ => WriteAnswer::MissingBlob(Digest::of(b"out")),
        });
        assert!(ids.iter().all(|id| bench.sees(*id).is_none() && bench.owner.parts.pool.run(*id).is_none()));
        // its caller submits it then as if nothing had been found
        assert!(matches!(waits.try_recv(), Ok(Err(ServiceError::AnswerGone))));
        assert!(matches!(joined.try_recv(), Ok(Err(ServiceError::AnswerGone))));
        assert!(bench.owner.hits.is_empty());
        assert!(bench.owner.parts.cache.begin_unwritten());
    }
}

#[tokio::test]
async fn a_hit_whose_result_was_withdrawn_meanwhile_is_not_answered() {
    let mut bench = Bench::caching();
    let (detail, _) = executed(&mut bench).await;
    let (reply, mut waits) = oneshot::channel();
    let hit = hit(&bench, &detail, true, Some(reply));
    bench.owner.withdraw_run(detail.run.id);
    bench.owner.handle(Command::Hit(hit));
    bench.owner.flush();
    assert!(matches!(waits.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    assert!(bench.owner.hits.is_empty() && bench.writes.try_recv().is_err());
}

#[tokio::test]
async fn a_hit_with_a_callback_wakes_who_delivers() {
    let mut bench = Bench::caching();
    let (detail, _) = executed(&mut bench).await;
    let mut hit = hit(&bench, &detail, true, None);
    let callback = Some(crate::spec::Callback { url: "https://example.org/done".into() });
    hit.new.policy.callback.clone_from(&callback);
    let mut shown = hit.detail.as_ref().clone();
    shown.run.policy.callback.clone_from(&callback);
    hit.detail = Arc::new(shown);
    let made = Arc::clone(&bench.owner.parts.callback_made);
    bench.owner.handle(Command::Hit(hit));
    bench.owner.flush();
    let finals = bench.commit_all();
    assert_eq!(finals[0].callback, callback);
    tokio::time::timeout(Duration::from_secs(5), made.notified()).await.unwrap();
}

#[tokio::test]
async fn what_rests_on_a_quarantined_worker_or_a_nondeterministic_module_is_withdrawn() {
    for by_worker in [true, false] {
        let mut bench = Bench::caching();
        let (detail, _) = executed(&mut bench).await;
        let effect = match by_worker {
            true => Effect::QuarantineWorker { worker: WorkerId(2), why: "it lied".to_owned() },
            false => Effect::NondeterministicModule { module: detail.run.spec.module, run: detail.run.id },
        };
        bench.owner.perform(effect);
        let key = (WorkspaceId(0), detail.run.run_key);
        assert!(bench.owner.parts.cache.find(key, &quorum(true), CLASS, bench.owner.now()).is_none());
        // and stays so after a start
        let store = Arc::clone(&bench.store);
        eventually(async || (store.withdrawals().await.unwrap().len() == 1).then_some(())).await;
    }
}
