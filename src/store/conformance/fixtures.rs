//! Runs, finals and blobs for the cases, small and distinct.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::{AttemptRecord, AttemptState, Class, Explained, Final, Time};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use crate::receipt::VoteProof;
use crate::receipt::merkle::PATH_MAX;
use crate::result::{Fault, Outcome, OutputFile, OutputRef, ResultManifest, RunState, Verdict, VerdictKind};
use crate::spec::{FileInput, Policy, Retry, RunSpec};
use crate::store::{
    BlobRow, CastVote, FinalRun, NewRun, Quarantine, RunWrite, Store, StoreError, StoredRun, WriteAnswer,
};

/// For ever, as far as pins go.
pub(crate) const FOREVER: Time = Time(u64::MAX);

pub(crate) fn blob(name: &str) -> (Digest, Bytes) {
    (Digest::of(name.as_bytes()), Bytes::copy_from_slice(name.as_bytes()))
}

pub(crate) fn digest(name: &str) -> Digest {
    blob(name).0
}

/// Stores a small blob, pinned until `pin_until`.
pub(crate) async fn put(store: &dyn Store, name: &str, pin_until: Time) -> Digest {
    let (digest, bytes) = blob(name);
    let row = BlobRow { size: bytes.len() as u64, inline: Some(bytes) };
    store.put_blob(digest, row, pin_until).await.unwrap();
    digest
}

/// A run of the module `module`, with stdin and a file, and everything else unlike its default.
pub(crate) fn new_run(number: u64) -> NewRun {
    let mut spec = RunSpec::new(digest("module"));
    spec.args = vec![number.to_string(), "ü \"\\".to_owned()];
    spec.stdin = digest("stdin");
    spec.files.insert("/data/a".parse().unwrap(), FileInput::Blob(digest("file")));
    let policy = Policy { retry: Retry::Never, priority: -3, deadline_ms: Some(9), ..Policy::default() };
    NewRun {
        id: run_id(number),
        workspace: WorkspaceId(0),
        epoch: Epoch(1),
        run_key: spec.key(),
        spec: Arc::new(spec),
        policy,
        created_at: Time(1_000 * number),
        idempotency: None,
        rerun_of: Some(run_id(999)),
        blobs: vec![blob("module"), blob("stdin"), blob("file")],
    }
}

/// A UUIDv7 of 1970: the runs here are made in its first milliseconds.
pub(crate) fn run_id(number: u64) -> RunId {
    RunId(0x0000_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

pub(crate) fn attempt(number: u32, state: AttemptState) -> AttemptRecord {
    AttemptRecord {
        number,
        worker: WorkerId(number + 1),
        state,
        assigned_at: Time(10),
        begun_at: Some(Time(11)),
        ended_at: None,
        cpu_us: 12,
    }
}

pub(crate) fn faulted(number: u32) -> AttemptRecord {
    let fault = Fault::Crashed { signal: Some(9), detail: "killed".to_owned() };
    attempt(number, AttemptState::Faulted { fault })
}

/// A success of run `number` with stdout, an output file and a dissent; `finished_at` is `at`.
pub(crate) fn final_run(number: u64, at: Time) -> FinalRun {
    let (out, out_bytes) = blob(&format!("stdout of {number}"));
    let file = blob("picture");
    let manifest = ResultManifest {
        outcome: Outcome::Exited { code: 0 },
        stdout: OutputRef { digest: out, size: out_bytes.len() as u64 },
        stderr: OutputRef::of(b""),
        files: vec![OutputFile { path: "/out/p".parse().unwrap(), digest: file.0, size: 7 }],
        fuel_used: Some(5),
    };
    let canonical = Bytes::from(manifest.canonical());
    let result = Digest::of(&canonical);
    let dissent = blob("dissent");
    FinalRun {
        record: Final {
            run: run_id(number),
            epoch: Epoch(1),
            revision: 1,
            state: RunState::Succeeded,
            reason: None,
            outcome: Some(manifest.outcome.clone()),
            verdict: Verdict { kind: VerdictKind::Agreed, votes: 2, dissenters: vec![WorkerId(4)] },
            result: Some(result),
            votes: Vec::new(),
            error_ppb: None,
            attempts: vec![
                attempt(
                    1,
                    AttemptState::Voted { result, outcome: Some(manifest.outcome.clone()), won: Some(true) },
                ),
                attempt(2, AttemptState::Canceled),
                faulted(3),
            ],
            explain: Arc::new(vec![Explained::kept(Time(3), "accepted: 2 of 3 votes are equal")]),
            finished_at: at,
            shared_with: None,
        },
        source: None,
        reusable: false,
        dissents: vec![(AttemptId { run: run_id(number), number: 3 }, dissent.0)],
        votes: cast_votes(result),
        blobs: vec![(out, out_bytes), file, (result, canonical), dissent],
        manifest: Some(manifest),
        callback: None,
    }
}

/// A final without any blob.
pub(crate) fn canceled(number: u64, at: Time) -> FinalRun {
    let run = final_run(number, at);
    FinalRun {
        record: Final {
            state: RunState::Canceled,
            outcome: None,
            result: None,
            verdict: Verdict::default(),
            ..run.record
        },
        manifest: None,
        blobs: vec![],
        dissents: vec![],
        votes: vec![],
        source: None,
        reusable: false,
        callback: None,
    }
}

/// A vote of an embedded worker, one of a remote worker, and one that lost.
pub(crate) fn cast_votes(result: Digest) -> Vec<CastVote> {
    let vote = |number: u8, proof| CastVote {
        number: number.into(),
        worker: WorkerId(u32::from(number) + 1),
        key: [number; 32],
        domain: if number == 1 { "local" } else { "rack-2" }.to_owned(),
        nonce: [number; 16],
        class: Class(digest("class")),
        code: Class(digest("class")),
        artifact: digest("artifact"),
        result: if number == 3 { digest("dissent") } else { result },
        proof,
        weight: None,
    };
    let proof = VoteProof { root: [1; 32], count: 5, index: 4, path: vec![[2; 32]], signature: [3; 64] };
    let longest = VoteProof { count: u32::MAX, path: vec![[4; 32]; PATH_MAX], ..proof.clone() };
    vec![vote(1, None), vote(2, Some(Box::new(proof))), vote(3, Some(Box::new(longest)))]
}

/// What a store must answer for an open run.
pub(crate) fn as_stored(run: &NewRun) -> StoredRun {
    StoredRun {
        id: run.id,
        workspace: run.workspace,
        epoch: run.epoch,
        state: RunState::Queued,
        reason: None,
        spec: Arc::clone(&run.spec),
        run_key: run.run_key,
        policy: run.policy.clone(),
        revision: 0,
        outcome: None,
        verdict: Verdict::default(),
        result: None,
        manifest: None,
        attempts: vec![],
        explain: Arc::default(),
        dissents: vec![],
        rerun_of: run.rerun_of,
        created_at: run.created_at,
        finished_at: None,
        source: None,
        corrected_at: None,
        verification: None,
    }
}

/// What a store must answer for a final run.
pub(crate) fn as_finished(run: &NewRun, end: &FinalRun) -> StoredRun {
    let record = end.record.clone();
    StoredRun {
        state: record.state,
        reason: record.reason,
        revision: record.revision,
        outcome: record.outcome,
        verdict: record.verdict,
        result: record.result,
        manifest: end.manifest.clone(),
        attempts: record.attempts,
        explain: record.explain,
        dissents: end.dissents.clone(),
        finished_at: Some(record.finished_at),
        source: end.source,
        ..as_stored(run)
    }
}

/// What a store must answer for a final run after a correction.
pub(crate) fn as_corrected(before: &StoredRun, end: &FinalRun) -> StoredRun {
    let record = end.record.clone();
    StoredRun {
        epoch: record.epoch,
        state: record.state,
        reason: record.reason,
        revision: record.revision,
        outcome: record.outcome,
        verdict: record.verdict,
        result: record.result,
        manifest: end.manifest.clone(),
        attempts: record.attempts,
        explain: record.explain,
        dissents: end.dissents.clone(),
        source: end.source,
        corrected_at: Some(record.finished_at),
        verification: None,
        ..before.clone()
    }
}

/// The quarantine of a worker by an operator, or for its votes.
pub(crate) fn quarantine(at: u64, for_votes: bool) -> Option<Quarantine> {
    Some(Quarantine { why: "lied".to_owned(), at: Time(at), for_votes })
}

/// Stored runs have no equality of their own; every field of theirs shows in this text.
pub(crate) fn text(run: &StoredRun) -> String {
    format!("{run:?}")
}

pub(crate) fn insert(run: NewRun) -> RunWrite {
    RunWrite::Insert(Arc::new(run))
}

pub(crate) fn correct(run: FinalRun) -> RunWrite {
    RunWrite::Correct(Box::new(run))
}

pub(crate) fn finish(run: FinalRun) -> RunWrite {
    RunWrite::Finish(Box::new(run))
}

/// One write, one answer.
pub(crate) async fn write(store: &dyn Store, write: RunWrite) -> Result<WriteAnswer, StoreError> {
    let mut answers = store.write_runs(vec![write].into()).await?;
    assert_eq!(answers.len(), 1);
    Ok(answers.remove(0))
}

/// Inserts runs by number; each must commit.
pub(crate) async fn insert_all(store: &dyn Store, numbers: impl IntoIterator<Item = u64>) {
    let writes: Vec<_> = numbers.into_iter().map(|number| insert(new_run(number))).collect();
    let answers = store.write_runs(writes.into()).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == WriteAnswer::Committed), "{answers:?}");
}

/// Every count of references must be right at the end of a case.
pub(crate) async fn check_references(store: &dyn Store) {
    assert_eq!(store.recount_references().await.unwrap(), vec![]);
}
