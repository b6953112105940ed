//! Finals that are verified anew: seen by nobody until they are corrected, and then by everybody.

use super::*;
use crate::coordinator::repair::Anew;
use crate::coordinator::service::PoolEvent;
use crate::core::{PastVoter, Reverify, day_of};
use crate::store::Reverdict;

/// A pool in which w1 vouched alone for a final, and two that are trusted have joined since.
async fn believed() -> (Bench, Arc<RunDetail>) {
    let mut bench = Bench::new();
    let liar = bench.join(1);
    let (run, answer) = bench.submit(true);
    let assignment = bench.is_assigned(liar);
    bench.votes(liar, &assignment, b"a lie", b"file", true);
    assert_eq!(bench.commit_all().len(), 1);
    let detail = answer.await.unwrap().unwrap();
    assert_eq!((detail.run.id, detail.run.revision), (run, 1));
    assert!(matches!(bench.hears(liar), ToAgent::Release(_)));
    let day = day_of(bench.owner.now());
    let trusted = Standing { k_milli: 500_000, day, ..Standing::default() };
    for number in [2, 3] {
        bench.join_with(number, trusted);
    }
    bench.owner.order(
        liar,
        WorkerOrder::Quarantine("it lied".to_owned(), oneshot::channel().0),
        oneshot::channel().0,
    );
    (bench, detail)
}

fn anew(detail: &RunDetail) -> Command {
    let reverify = Reverify {
        result: detail.run.result.unwrap(),
        revision: detail.run.revision,
        voters: vec![PastVoter { worker: WorkerId(1), class: Some(CLASS), code: None, is_out: true }],
        attempts: 1,
        dissents: Vec::new(),
        class: Some(CLASS),
        overflowed: false,
        codes: Vec::new(),
    };
    Command::VerifyAnew(Box::new(Anew { run: detail.run.clone(), reverify }))
}

impl Bench {
    /// The worker that has the next attempt, and the attempt.
    fn next_assignment(&mut self) -> (WorkerId, Assignment) {
        for worker in [2, 3].map(WorkerId) {
            if let Ok(ToAgent::Assign(assignment)) = self.workers.get_mut(&worker).unwrap().try_recv() {
                return (worker, *assignment);
            }
        }
        panic!("nobody has it")
    }

    /// Both that are trusted say this.
    fn both_vote(&mut self, stdout: &[u8]) {
        for number in [2, 3] {
            let (worker, assignment) = self.next_assignment();
            assert_eq!(assignment.attempt.number, number, "numbers go on");
            self.votes(worker, &assignment, stdout, b"file", true);
        }
    }

    pub(super) fn sees(&mut self, run: RunId) -> Option<Arc<RunDetail>> {
        let (reply, mut answer) = oneshot::channel();
        self.owner.handle(Command::See(WorkspaceId(0), run, reply));
        answer.try_recv().unwrap()
    }
}

#[tokio::test]
async fn a_wrong_final_is_corrected_and_everybody_hears_of_it() {
    let (mut bench, detail) = believed().await;
    let id = detail.run.id;
    let mut events = bench.owner.parts.events.subscribe();
    bench.owner.handle(anew(&detail));
    // nobody sees it or waits for it, and it is nobody's open run
    assert!(bench.sees(id).is_none());
    let (reply, mut acknowledged) = oneshot::channel();
    bench.owner.handle(Command::Acknowledge(WorkspaceId(0), id, reply));
    assert!(matches!(acknowledged.try_recv().unwrap(), Err(ServiceError::TakenOver)));
    assert!(bench.owner.await_final(WorkspaceId(0), id).is_none());
    let queue = bench.owner.glance(WorkspaceId(0)).queue;
    assert_eq!((queue.queued, queue.running), (0, 0));
    // once is enough
    bench.owner.handle(anew(&detail));
    assert!(matches!(bench.ended.try_recv(), Ok(Ended::Dropped(run, 0)) if run == id));
    bench.both_vote(b"the truth");
    assert_eq!(bench.owner.glance(WorkspaceId(0)).queue.running, 0);
    while events.try_recv().is_ok() {}
    let corrected = bench.commit_all().remove(0);
    assert_eq!((corrected.record.revision, corrected.record.state), (2, RunState::Succeeded));
    assert_eq!(corrected.votes.len(), 2);
    assert!(corrected.votes.iter().all(|vote| vote.weight.is_some()));
    assert_ne!(corrected.record.result, detail.run.result);
    let texts: Vec<String> = corrected.record.explain.iter().map(|said| said.text()).collect();
    assert!(texts.iter().any(|text| text == "corrected: this is revision 2"), "{texts:?}");
    let heard: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).map(|(_, event)| event).collect();
    assert!(heard.contains(&PoolEvent::Corrected(id, 2)) && heard.contains(&PoolEvent::Run(id)), "{heard:?}");
    assert!(matches!(bench.ended.try_recv(), Ok(Ended::Corrected(run)) if run == id));
    assert!(bench.owner.runs.is_empty());
}

#[tokio::test]
async fn a_right_final_is_confirmed_without_a_write() {
    let (mut bench, detail) = believed().await;
    bench.owner.handle(anew(&detail));
    bench.both_vote(b"a lie");
    assert!(bench.commit_all().is_empty(), "it stays as it is");
    let Ok(Ended::Stays(stays)) = bench.ended.try_recv() else { panic!("the repairer hears of it") };
    assert_eq!((stays.verdict, stays.revision, stays.numbers), (Reverdict::Confirmed, 1, 3));
    let confirmed: Vec<WorkerId> = stays.confirmations.iter().map(|vote| vote.worker).collect();
    assert_eq!(confirmed.len(), 2);
    assert!(stays.explain.iter().any(|said| said.text() == "confirmed: revision 1 stays as it is"));
    assert!(bench.owner.runs.is_empty());
}

#[tokio::test]
async fn a_correction_that_the_store_does_not_take_is_tried_again() {
    let (mut bench, detail) = believed().await;
    bench.owner.handle(anew(&detail));
    bench.both_vote(b"the truth");
    bench.commit(|_| WriteAnswer::Refused);
    assert!(matches!(bench.ended.try_recv(), Ok(Ended::Dropped(run, 3)) if run == detail.run.id));
    assert!(bench.ended.try_recv().is_err(), "told once");
    assert!(bench.owner.runs.is_empty());
}

#[tokio::test]
async fn a_final_of_somebody_who_was_taken_out_meanwhile_is_looked_at() {
    let mut bench = Bench::new();
    let liar = bench.join(1);
    let (_, _answer) = bench.submit(true);
    let assignment = bench.is_assigned(liar);
    bench.votes(liar, &assignment, b"a lie", b"file", true);
    // its final is on the way
    bench.owner.parts.quarantined.set(liar, true);
    bench.owner.order(
        liar,
        WorkerOrder::Quarantine("it lied".to_owned(), oneshot::channel().0),
        oneshot::channel().0,
    );
    assert_eq!(bench.commit_all().len(), 1);
    let woken = tokio::time::timeout(PATIENCE, bench.owner.parts.repair.woken()).await;
    assert!(woken.is_ok(), "nobody looks at it");
}
