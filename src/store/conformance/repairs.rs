//! Corrections, revisions, and what is kept of verifying anew (I2, I6, I12).

use std::sync::Arc;

use super::Place;
use super::fixtures::*;
use crate::core::{Explained, Time};
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkerId};
use crate::result::{FailReason, Outcome, RunState};
use crate::store::{
    Concluded, DueSuspect, Enrolment, FinalRun, Looked, Quarantine, Repair, Retention, Reverdict,
    Reverification, Store, Suspicion, UNDECIDED_AFTER, WriteAnswer,
};

/// What run `number` turns out to be: another output, a failure, found at `at` by w8.
pub(super) fn correction(number: u64, revision: u32, at: u64) -> FinalRun {
    let mut end = final_run(number, Time(at));
    let (out, bytes) = blob(&format!("revision {revision} of {number}"));
    let mut manifest = end.manifest.take().unwrap();
    manifest.outcome = Outcome::Exited { code: 3 };
    manifest.stdout.digest = out;
    manifest.stdout.size = bytes.len() as u64;
    let canonical = bytes::Bytes::from(manifest.canonical());
    let result = Digest::of(&canonical);
    let mut vote = cast_votes(result).remove(1);
    (vote.number, vote.worker) = (7, WorkerId(8));
    end.votes = vec![vote];
    let state =
        crate::core::AttemptState::Voted { result, outcome: Some(manifest.outcome.clone()), won: Some(true) };
    end.record.attempts = vec![crate::core::AttemptRecord { worker: WorkerId(8), ..attempt(7, state) }];
    end.record.revision = revision;
    end.record.state = RunState::Failed;
    end.record.reason = Some(FailReason::ExitCode);
    end.record.outcome = Some(manifest.outcome.clone());
    end.record.result = Some(result);
    end.dissents.clear();
    end.blobs = vec![(out, bytes), (result, canonical)];
    end.manifest = Some(manifest);
    end
}

pub(super) async fn finished(store: &dyn Store, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let writes = vec![insert(new_run(number)), finish(final_run(number, Time(50 + number)))];
        assert_eq!(store.write_runs(writes.into()).await.unwrap(), vec![WriteAnswer::Committed; 2]);
    }
}

pub(crate) async fn a_correction_takes_the_place_of_the_revision_before(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1]).await;
    let first = store.run(run_id(1)).await.unwrap().unwrap();
    let second = correction(1, 2, 90);
    // of another revision, of an earlier owner, of a run that is not final or not there, or no end at all
    let early = FinalRun {
        record: crate::core::Final { epoch: Epoch(0), ..second.record.clone() },
        ..second.clone()
    };
    let open = FinalRun {
        record: crate::core::Final { state: RunState::Running, ..second.record.clone() },
        ..second.clone()
    };
    insert_all(&*store, [2]).await;
    for refused in
        [correction(1, 3, 90), correction(1, 1, 90), early, open, correction(2, 2, 90), correction(9, 2, 90)]
    {
        assert_eq!(write(&*store, correct(refused)).await.unwrap(), WriteAnswer::Refused);
    }
    assert_eq!(text(&store.run(run_id(1)).await.unwrap().unwrap()), text(&first));
    let mut incomplete = second.clone();
    incomplete.blobs.remove(0);
    let missing = WriteAnswer::MissingBlob(digest("revision 2 of 1"));
    assert_eq!(write(&*store, correct(incomplete)).await.unwrap(), missing);
    // of two that race one is the next
    let answers =
        store.write_runs(vec![correct(second.clone()), correct(second.clone())].into()).await.unwrap();
    assert_eq!(answers, [WriteAnswer::Committed, WriteAnswer::Refused]);
    let expected = as_corrected(&first, &second);
    assert_eq!(text(&store.run(run_id(1)).await.unwrap().unwrap()), text(&expected));
    assert_eq!(expected.finished_at, first.finished_at, "when it ended stays");
    for late in [finish(final_run(1, Time(99))), insert(new_run(1))] {
        assert_eq!(write(&*store, late).await.unwrap(), WriteAnswer::Refused);
    }
    store.close().await;

    let store = place.open().await;
    let third = FinalRun {
        record: crate::core::Final { epoch: Epoch(4), ..correction(1, 3, 95).record },
        ..correction(1, 3, 95)
    };
    assert_eq!(write(&*store, correct(third.clone())).await.unwrap(), WriteAnswer::Committed);
    let last = as_corrected(&expected, &third);
    let all = store.revisions(run_id(1)).await.unwrap();
    let now = |run: &crate::store::StoredRun| crate::store::StoredRun { epoch: Epoch(4), ..run.clone() };
    let texts: Vec<_> = all.iter().map(text).collect();
    assert_eq!(texts, [text(&now(&first)), text(&now(&expected)), text(&last)]);
    for (revision, run) in (1..).zip(&texts) {
        let one = store.revision(run_id(1), revision).await.unwrap().unwrap();
        assert_eq!(text(&one), *run);
    }
    for (revision, votes) in
        [(1, Some(final_run(1, Time(51)).votes)), (2, Some(second.votes)), (3, Some(third.votes)), (4, None)]
    {
        assert_eq!(store.votes(run_id(1), revision).await.unwrap(), votes, "revision {revision}");
    }
    assert!(store.revision(run_id(1), 4).await.unwrap().is_none());
    assert!(store.revision(run_id(2), 1).await.unwrap().is_none(), "it is not final");
    assert!(store.revisions(run_id(2)).await.unwrap().is_empty());
}

pub(crate) async fn what_earlier_revisions_refer_to_stays_as_long_as_their_run(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1]).await;
    assert_eq!(write(&*store, correct(correction(1, 2, 90))).await.unwrap(), WriteAnswer::Committed);
    check_references(&*store).await;
    assert_eq!(store.take_garbage(FOREVER, 99).await.unwrap().taken, 0);
    for revision in store.revisions(run_id(1)).await.unwrap() {
        for output in revision.manifest.unwrap().outputs().filter(|output| output.digest != Digest::EMPTY) {
            assert!(store.blob(output.digest).await.unwrap().is_some(), "revision {}", revision.revision);
        }
        assert!(store.blob(revision.result.unwrap()).await.unwrap().is_some());
    }
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 9 };
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 1);
    assert!(store.revisions(run_id(1)).await.unwrap().is_empty());
    assert!(store.votes(run_id(1), 1).await.unwrap().is_none());
    assert!(store.take_garbage(FOREVER, 99).await.unwrap().taken > 6);
    assert_eq!(store.usage().await.unwrap().blobs, 0);
    // the next run with that row is none of theirs
    finished(&*store, [2]).await;
    assert_eq!(store.revisions(run_id(2)).await.unwrap().len(), 1);
    assert_eq!(on(&*store, 2, 0).await, [run_id(2)]);
}

/// The finals that rest on a worker, all pages of one.
async fn on(store: &dyn Store, worker: u32, after: u64) -> Vec<RunId> {
    let (mut found, mut after) = (Vec::new(), after);
    loop {
        let page = store.supported_finals(WorkerId(worker), after, 1).await.unwrap();
        let Some(last) = page.last() else { return found };
        assert!(last.seq > after);
        after = last.seq;
        found.extend(page.iter().map(|last| last.run.id));
    }
}

fn found(verdict: Reverdict) -> Reverification {
    let explain = Arc::new(vec![Explained::kept(Time(70), "looked at again")]);
    Reverification { at: Time(71), verdict, explain }
}

fn done(revision: u32, verdict: Reverdict) -> Concluded {
    Concluded::Done { revision, found: found(verdict), confirmations: Vec::new() }
}

pub(crate) async fn finals_are_found_by_those_that_they_rest_on(place: &dyn Place) {
    let store = place.open().await;
    insert_all(&*store, [1, 2, 3, 4]).await;
    // in the order of their ends, not of their submission
    for number in [3, 1, 2] {
        write(&*store, finish(final_run(number, Time(50)))).await.unwrap();
    }
    write(&*store, finish(canceled(4, Time(50)))).await.unwrap();
    assert_eq!(on(&*store, 2, 0).await, [3, 1, 2].map(run_id), "w2 voted for what won");
    assert!(on(&*store, 4, 0).await.is_empty(), "w4 did not");
    let page = store.supported_finals(WorkerId(2), 0, 9).await.unwrap();
    assert_eq!(page[0].votes, final_run(3, Time(50)).votes);
    assert!(page[0].confirmations.is_empty() && page[0].run.verification.is_none());
    let seen = page[2].seq;
    // who confirmed it holds it up as well, and everybody who has looked already sees it once more
    let mut vote = cast_votes(page[1].run.result.unwrap()).remove(0);
    vote.worker = WorkerId(6);
    let confirmations = vec![vote];
    let concluded = Concluded::Done {
        revision: 1,
        found: found(Reverdict::Confirmed),
        confirmations: confirmations.clone(),
    };
    store.conclude_suspect(run_id(1), concluded).await.unwrap();
    assert_eq!(on(&*store, 2, 0).await, [3, 2, 1].map(run_id));
    assert_eq!((on(&*store, 2, seen).await, on(&*store, 6, 0).await), (vec![run_id(1)], vec![run_id(1)]));
    store.close().await;
    let store = place.open().await;
    let confirmed = store.supported_finals(WorkerId(6), 0, 9).await.unwrap().remove(0);
    assert_eq!(confirmed.confirmations, confirmations);
    assert_eq!(store.confirmations(run_id(1)).await.unwrap(), confirmations);
    assert!(store.confirmations(run_id(2)).await.unwrap().is_empty());
    let verification = confirmed.run.verification.unwrap();
    assert_eq!((verification.at, verification.verdict), (Time(71), Reverdict::Confirmed));
    let last = confirmed.run.explain.last().unwrap().text();
    assert_eq!((confirmed.run.explain.len(), last.as_str()), (2, "looked at again"));
    // what a correction rests on is something else
    assert_eq!(write(&*store, correct(correction(1, 2, 90))).await.unwrap(), WriteAnswer::Committed);
    assert_eq!((on(&*store, 2, 0).await, on(&*store, 6, 0).await), ([3, 2].map(run_id).to_vec(), vec![]));
    let corrected = store.supported_finals(WorkerId(8), 0, 9).await.unwrap().remove(0);
    assert_eq!((corrected.run.revision, corrected.confirmations.len()), (2, 0));
    assert!(corrected.run.verification.is_none());
    // of the revision that it was about
    assert_eq!(
        store.revision(run_id(1), 1).await.unwrap().unwrap().verification.unwrap().verdict,
        Reverdict::Confirmed
    );
    store.conclude_suspect(run_id(1), done(1, Reverdict::Undecided)).await.unwrap();
    assert!(
        store.run(run_id(1)).await.unwrap().unwrap().verification.is_none(),
        "that was of the one before"
    );
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 9 };
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 4);
    assert!(on(&*store, 2, 0).await.is_empty() && on(&*store, 8, 0).await.is_empty());
}

pub(super) async fn worker(store: &dyn Store, key: u8) -> WorkerId {
    let enrolment = Enrolment {
        key: [key; 32],
        name: format!("w{key}"),
        domain: "lab".to_owned(),
        embedded: false,
        owned: false,
        arbiter: false,
        token: None,
        at: Time(1),
    };
    store.enrol_worker(enrolment).await.unwrap().id
}

pub(super) fn suspicion(number: u64, error_ppb: u64, at: u64) -> Suspicion {
    Suspicion { run: run_id(number), error_ppb, finished_at: Time(at) }
}

fn due(number: u64, tries: u32, numbers: u32) -> DueSuspect {
    DueSuspect { run: run_id(number), tries, numbers }
}

pub(super) async fn figures(store: &dyn Store, worker: WorkerId) -> Repair {
    let all = store.repairs().await.unwrap();
    all.into_iter().find(|repair| repair.worker == worker).expect("it is there")
}

pub(crate) async fn a_quarantine_puts_down_what_is_looked_at_and_nothing_is_lost(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, 1..=5).await;
    let (_, second, third) = (worker(&*store, 1).await, worker(&*store, 2).await, worker(&*store, 3).await);
    assert_eq!((second, third), (WorkerId(2), WorkerId(3)));
    assert!(store.repairs().await.unwrap().is_empty());
    assert!(!store.quarantine_worker(WorkerId(99), quarantine(60, false), Time(50)).await.unwrap());
    assert!(store.quarantine_worker(second, quarantine(60, true), Time(50)).await.unwrap());
    assert!(store.quarantine_worker(third, quarantine(61, false), Time(50)).await.unwrap());
    let order: Vec<_> = store.repairs().await.unwrap().into_iter().map(|repair| repair.worker).collect();
    assert_eq!(order, [third, second], "the latest first");
    let begun = figures(&*store, second).await;
    assert_eq!((begun.finals, begun.looked_at, begun.is_complete, begun.since), (5, 0, false, Time(60)));
    assert_eq!((figures(&*store, third).await.finals, begun.why.as_str()), (0, "lied"));

    let seqs: Vec<u64> =
        store.supported_finals(second, 0, 9).await.unwrap().iter().map(|last| last.seq).collect();
    let looked = |(since, after), count, cursor, is_complete, suspects| {
        let since = Time(since);
        Looked { since, after, count, cursor, is_complete, suspects }
    };
    let first_page = looked(
        (60, 0),
        3,
        seqs[2],
        false,
        vec![suspicion(1, 5, 51), suspicion(2, 9, 52), suspicion(3, 9, 53)],
    );
    assert!(store.put_suspects(second, first_page.clone()).await.unwrap());
    store.close().await;
    let store = place.open().await;
    // the same page once more would count twice: who is behind has to read again
    assert_eq!(figures(&*store, second).await.cursor, seqs[2]);
    assert!(!store.put_suspects(second, first_page).await.unwrap());
    let rest = looked((60, seqs[2]), 2, seqs[4], true, vec![suspicion(5, 7, 55)]);
    let of_another = Looked { since: Time(59), ..rest.clone() };
    assert!(!store.put_suspects(second, of_another).await.unwrap(), "it is another repair now");
    assert!(store.put_suspects(second, rest).await.unwrap());
    assert!(store.put_suspects(third, looked((61, 0), 0, 0, true, vec![])).await.unwrap());
    // two of them on account of both
    let shared = looked((61, 0), 2, 0, true, vec![suspicion(1, 5, 51), suspicion(5, 8, 55)]);
    assert!(store.put_suspects(third, shared).await.unwrap());
    let now = figures(&*store, second).await;
    assert_eq!((now.looked_at, now.decisive, now.pending, now.is_complete), (5, 4, 4, true));
    // another reason for what is out already begins nothing anew
    let reason = Quarantine { why: "bad memory".to_owned(), at: Time(65), for_votes: false };
    assert!(store.quarantine_worker(second, Some(reason), Time(65)).await.unwrap());
    let same = Repair { why: "bad memory".to_owned(), ..now };
    assert_eq!(figures(&*store, second).await, same);

    // the weakest first, then the newest, each once
    let all = [due(3, 0, 0), due(2, 0, 0), due(5, 0, 0), due(1, 0, 0)];
    assert_eq!(store.due_suspects(Time(70), 9).await.unwrap(), all);
    assert_eq!(store.due_suspects(Time(70), 2).await.unwrap(), all[..2]);
    let again = Concluded::Again { due_at: Time(80), numbers: 12, found: None };
    store.conclude_suspect(run_id(3), again).await.unwrap();
    assert_eq!(store.due_suspects(Time(79), 9).await.unwrap(), all[1..]);
    // one whose turn comes later was not tried
    store.conclude_suspect(run_id(2), Concluded::Later { due_at: Time(75) }).await.unwrap();
    assert_eq!(store.due_suspects(Time(74), 9).await.unwrap(), all[2..]);
    assert_eq!(store.due_suspects(Time(75), 9).await.unwrap(), all[1..]);
    store.conclude_suspect(run_id(2), done(1, Reverdict::Confirmed)).await.unwrap();
    assert_eq!(write(&*store, correct(correction(5, 2, 78))).await.unwrap(), WriteAnswer::Committed);
    store.conclude_suspect(run_id(1), done(1, Reverdict::NotVerifiable)).await.unwrap();
    store.close().await;
    let store = place.open().await;
    assert_eq!(store.due_suspects(Time(80), 9).await.unwrap(), [due(3, 1, 12)]);
    // tried often enough it counts as undecided, says so, and waits on
    for tries in 1..UNDECIDED_AFTER {
        let before = figures(&*store, second).await;
        assert_eq!((before.undecided, before.pending), (0, 1), "try {tries}");
        let found = Some((1, found(Reverdict::Undecided)));
        let again = Concluded::Again { due_at: Time(98), numbers: 13, found };
        store.conclude_suspect(run_id(3), again).await.unwrap();
    }
    let undecided = figures(&*store, second).await;
    assert_eq!((undecided.undecided, undecided.pending), (1, 0));
    let kept = store.run(run_id(3)).await.unwrap().unwrap().verification.unwrap();
    assert_eq!(kept.verdict, Reverdict::Undecided);
    assert_eq!(store.due_suspects(Time(98), 9).await.unwrap(), [due(3, UNDECIDED_AFTER, 13)]);
    store.conclude_suspect(run_id(3), done(1, Reverdict::Confirmed)).await.unwrap();
    assert!(store.due_suspects(Time(99), 9).await.unwrap().is_empty());
    let now = figures(&*store, second).await;
    let counts = |it: &Repair| (it.confirmed, it.corrected, it.undecided, it.not_verifiable, it.pending);
    assert_eq!(counts(&now), (2, 1, 0, 1, 0));
    assert_eq!(counts(&figures(&*store, third).await), (0, 1, 0, 1, 0), "what was shared counts for both");
    let kept = store.run(run_id(3)).await.unwrap().unwrap().verification.unwrap();
    assert_eq!(kept.verdict, Reverdict::Confirmed);
    // a later quarantine begins anew
    assert!(store.quarantine_worker(second, None, Time(50)).await.unwrap());
    assert_eq!(figures(&*store, second).await, now, "to let it in again takes nothing back");
    assert!(store.quarantine_worker(second, quarantine(90, false), Time(50)).await.unwrap());
    let anew = figures(&*store, second).await;
    assert_eq!((anew.since, anew.finals, counts(&anew), anew.cursor), (Time(90), 4, (0, 0, 0, 0, 0), 0));
}

pub(crate) async fn a_quarantine_is_lifted_only_if_it_was_for_votes(place: &dyn Place) {
    let store = place.open().await;
    finished(&*store, [1]).await;
    let (first, second) = (worker(&*store, 1).await, worker(&*store, 2).await);
    assert!(!store.lift_quarantine(first, Time(70)).await.unwrap(), "it is not out");
    assert!(store.quarantine_worker(first, quarantine(60, false), Time(50)).await.unwrap());
    assert!(!store.lift_quarantine(first, Time(70)).await.unwrap(), "an operator said so");
    // what the pool had found out before may be written later
    assert!(store.quarantine_worker(first, quarantine(59, true), Time(59)).await.unwrap());
    assert!(!store.lift_quarantine(first, Time(70)).await.unwrap(), "an operator's word stands");
    assert!(store.quarantine_worker(second, quarantine(60, true), Time(50)).await.unwrap());
    let rows = store.workers().await.unwrap();
    assert_eq!((rows[0].for_votes, rows[1].for_votes), (false, true));
    let suspects = vec![suspicion(1, 5, 51)];
    let looked = Looked { since: Time(60), after: 0, count: 1, cursor: 1, is_complete: true, suspects };
    assert!(store.put_suspects(second, looked.clone()).await.unwrap());
    assert!(store.lift_quarantine(second, Time(70)).await.unwrap());
    let row = store.workers().await.unwrap().remove(1);
    assert_eq!((row.quarantined, row.for_votes), (None, false));
    assert_eq!(figures(&*store, second).await.lifted_at, Some(Time(70)));
    assert!(store.due_suspects(Time(99), 9).await.unwrap().is_empty(), "nothing of it is looked at any more");
    assert!(!store.put_suspects(second, looked).await.unwrap());
    assert!(!store.lift_quarantine(second, Time(71)).await.unwrap(), "once");
}
