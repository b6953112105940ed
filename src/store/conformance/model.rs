//! Random histories against a second, naive implementation in memory.
//!
//! The model keeps whole values in maps and counts references afresh whenever it needs them; it has no batches, no
//! indexes and no counters, and so none of a backend's mistakes.

mod compare;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::compare::compare;
use self::steps::{Step, Write, step};
use super::Place;
use super::fixtures::*;
use crate::core::Time;
use crate::digest::Digest;
use crate::id::{Epoch, RunId};
use crate::result::OutputRef;
use crate::spec::RunSpec;
use crate::store::dependents::follow;
use crate::store::{
    BlobRow, CastVote, FinalRun, Garbage, ModuleState, NewRun, Retention, RunWrite, Source, Store,
    StoredModule, StoredRun, Usage, WriteAnswer,
};

fn small(blob_number: u8) -> (Digest, Bytes) {
    blob(&format!("blob {blob_number}"))
}

struct ModelRun {
    stored: StoredRun,
    key: Option<(String, Digest)>,
    refers: BTreeSet<Digest>,
    /// The run that computed its result.
    source: Option<RunId>,
    /// Beyond the retention, but for those that have its result.
    held: bool,
    /// What was replaced, the first one first.
    before: Vec<StoredRun>,
    /// The votes of every revision.
    votes: Vec<Vec<CastVote>>,
}

struct ModelBlob {
    bytes: Bytes,
    pinned_until: u64,
}

#[derive(Default)]
struct Model {
    runs: BTreeMap<RunId, ModelRun>,
    blobs: BTreeMap<Digest, ModelBlob>,
    modules: BTreeSet<Digest>,
    /// Ends are distinct, so that the retention's order is defined.
    clock: u64,
}

impl Model {
    fn is_referred_to(&self, digest: Digest) -> bool {
        self.modules.contains(&digest) || self.runs.values().any(|run| run.refers.contains(&digest))
    }

    /// Takes the blobs that come along, or answers which one is missing.
    fn refer(&mut self, refers: &BTreeSet<Digest>, brought: &[(Digest, Bytes)]) -> Option<WriteAnswer> {
        let is_there = |digest: &&Digest| {
            self.blobs.contains_key(digest) || brought.iter().any(|(brought, _)| brought == *digest)
        };
        if let Some(missing) = refers.iter().find(|digest| !is_there(digest)) {
            return Some(WriteAnswer::MissingBlob(*missing));
        }
        for (digest, bytes) in brought {
            let new = ModelBlob { bytes: bytes.clone(), pinned_until: 0 };
            self.blobs.entry(*digest).or_insert(new);
        }
        None
    }

    fn insert(&mut self, run: &NewRun) -> WriteAnswer {
        if self.runs.contains_key(&run.id) {
            return WriteAnswer::Refused;
        }
        if let Some((key, payload)) = &run.idempotency {
            for (owner, other) in &self.runs {
                if let Some((other_key, other_payload)) = &other.key
                    && other_key == key
                {
                    return WriteAnswer::Duplicate { run: *owner, same_payload: payload == other_payload };
                }
            }
        }
        let refers = run.spec.inputs().collect();
        if let Some(missing) = self.refer(&refers, &run.blobs) {
            return missing;
        }
        let stored = as_stored(run);
        self.runs.insert(
            run.id,
            ModelRun {
                stored,
                key: run.idempotency.clone(),
                refers,
                source: None,
                held: false,
                before: vec![],
                votes: vec![],
            },
        );
        WriteAnswer::Committed
    }

    fn finish(&mut self, end: &FinalRun) -> WriteAnswer {
        let owned = self.runs.get(&end.record.run);
        let Some(run) =
            owned.filter(|run| !run.stored.state.is_final() && run.stored.epoch == end.record.epoch)
        else {
            return WriteAnswer::Refused;
        };
        let outputs = end.manifest.iter().flat_map(|manifest| manifest.outputs().map(|output| output.digest));
        let dissents = end.dissents.iter().map(|(_, digest)| *digest);
        let mut refers: BTreeSet<_> = outputs.chain(end.record.result).chain(dissents).collect();
        refers.extend(end.blobs.iter().map(|(digest, _)| *digest));
        // what it held before needs no second look
        let new = refers.difference(&run.refers).copied().collect();
        let computed = |run: &&ModelRun| run.stored.state.is_final() && run.source.is_none();
        let source = end.source.map(Source::run);
        let source = source.filter(|source| self.runs.get(source).filter(computed).is_some());
        let is_hit = matches!(end.source, Some(Source::Cached(_)));
        let missing = match end.record.result {
            Some(result) if end.source.is_some() && source.is_none() => {
                Some(WriteAnswer::MissingBlob(result))
            }
            _ => self.refer(&new, &end.blobs),
        };
        if let Some(missing) = missing {
            if is_hit {
                self.runs.remove(&end.record.run);
            }
            return missing;
        }
        if let Some(run) = self.runs.get_mut(&end.record.run) {
            run.source = source;
            let record = end.record.clone();
            let stored = StoredRun {
                state: record.state,
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
                ..run.stored.clone()
            };
            run.stored = stored;
            run.refers.extend(refers);
            run.votes.push(end.votes.clone());
        }
        WriteAnswer::Committed
    }

    fn correct(&mut self, end: &FinalRun) -> WriteAnswer {
        let is_next = |run: &&ModelRun| {
            let (stored, record) = (&run.stored, &end.record);
            let is_next = stored.epoch <= record.epoch && stored.revision + 1 == record.revision;
            stored.state.is_final() && run.source.is_none() && is_next
        };
        let Some(run) = self.runs.get(&end.record.run).filter(is_next) else { return WriteAnswer::Refused };
        let stored = as_corrected(&run.stored, end);
        let outputs = end.manifest.iter().flat_map(|manifest| manifest.outputs().map(|output| output.digest));
        let mut refers: BTreeSet<_> = outputs.chain(end.record.result).collect();
        refers.extend(end.blobs.iter().map(|(digest, _)| *digest));
        refers.extend(end.dissents.iter().map(|(_, digest)| *digest));
        let new = refers.difference(&run.refers).copied().collect();
        if let Some(missing) = self.refer(&new, &end.blobs) {
            return missing;
        }
        if let Some(run) = self.runs.get_mut(&end.record.run) {
            run.before.push(std::mem::replace(&mut run.stored, stored));
            run.refers.extend(refers);
            run.votes.push(end.votes.clone());
        }
        WriteAnswer::Committed
    }

    fn apply(&mut self, write: &RunWrite) -> WriteAnswer {
        match write {
            RunWrite::Insert(run) => self.insert(run),
            RunWrite::Finish(end) => self.finish(end),
            RunWrite::Correct(end) => self.correct(end),
            RunWrite::Attempt { run, epoch, record, explain } => match self.runs.get_mut(run) {
                Some(run) if !run.stored.state.is_final() && run.stored.epoch == *epoch => {
                    run.stored.attempts.retain(|attempt| attempt.number != record.number);
                    run.stored.attempts.push(record.clone());
                    run.stored.attempts.sort_by_key(|attempt| attempt.number);
                    run.stored.explain = explain.clone();
                    WriteAnswer::Committed
                }
                _ => WriteAnswer::Refused,
            },
        }
    }

    fn collect(&mut self, now: u64) -> Garbage {
        let unpinned = self.blobs.iter().filter(|(_, blob)| blob.pinned_until <= now);
        let loose = unpinned.map(|(digest, _)| *digest).filter(|blob| !self.is_referred_to(*blob));
        let loose: Vec<_> = loose.collect();
        let gone = loose.iter().filter_map(|digest| self.blobs.remove(digest));
        let bytes = gone.map(|blob| blob.bytes.len() as u64).sum();
        Garbage { taken: u32::try_from(loose.len()).unwrap(), bytes, files: vec![] }
    }

    /// Runs that have a result which was replaced in the run that computed it, with their next revision.
    fn outdated(&self, at: Time) -> Vec<(RunId, FinalRun)> {
        let next = |run: &ModelRun| {
            let right = &self.runs[&run.source?].stored;
            let next = follow(&run.stored, run.stored.source?, right, at)?;
            (right.revision > 1).then_some((run.stored.id, next))
        };
        self.runs.values().filter_map(next).collect()
    }

    fn follow(&mut self, next: &FinalRun) {
        let run = self.runs.get_mut(&next.record.run).unwrap();
        let stored = as_corrected(&run.stored, next);
        run.before.push(std::mem::replace(&mut run.stored, stored));
        run.refers.extend(next.record.result);
        run.refers.extend(next.manifest.iter().flat_map(|manifest| manifest.outputs().map(|it| it.digest)));
        run.votes.push(vec![]);
    }

    fn has_dependents(&self, id: RunId) -> bool {
        self.runs.values().any(|run| run.source == Some(id))
    }

    /// How many went, and how many were looked at.
    fn retain(&mut self, retention: Retention) -> (usize, u32) {
        let ended = self.runs.iter().filter(|(_, run)| !run.held);
        let ended = ended.filter_map(|(id, run)| Some((run.stored.finished_at?, *id)));
        let mut ended: Vec<_> = ended.collect();
        ended.sort();
        let too_many = ended.len().saturating_sub(usize::try_from(retention.runs_max).unwrap());
        let too_old = ended.partition_point(|(at, _)| *at < retention.finished_before);
        ended.truncate(too_many.max(too_old).min(usize::try_from(retention.batch_max).unwrap()));
        let (before, looked_at) = (self.runs.len(), u32::try_from(ended.len()).unwrap());
        for (_, id) in ended {
            if self.has_dependents(id) {
                self.runs.get_mut(&id).unwrap().held = true;
                continue;
            }
            let source = self.runs.remove(&id).and_then(|run| run.source);
            let is_last = |source: &RunId| self.runs[source].held && !self.has_dependents(*source);
            if let Some(source) = source.filter(is_last) {
                self.runs.remove(&source);
            }
        }
        (before - self.runs.len(), looked_at)
    }

    /// The epoch that a write must name now.
    fn epoch(&self, run: u64, stale: bool) -> Epoch {
        let current = self.runs.get(&run_id(run)).map_or(1, |run| run.stored.epoch.0);
        Epoch(current + u64::from(stale))
    }

    /// The write as a caller would make it.
    fn write(&mut self, write: &Write) -> RunWrite {
        self.clock += 1;
        match write {
            Write::Insert { run, module, stdin, brings, key } => {
                let mut spec = RunSpec::new(small(*module).0);
                spec.stdin = small(*stdin).0;
                let mut run = NewRun { run_key: spec.key(), spec: Arc::new(spec), ..new_run(*run) };
                run.blobs = if *brings { vec![small(*module), small(*stdin)] } else { vec![] };
                run.idempotency = key.map(|(key, payload)| (key.to_string(), small(payload).0));
                insert(run)
            }
            Write::Attempt { run, stale, number } => RunWrite::Attempt {
                run: run_id(*run),
                epoch: self.epoch(*run, *stale),
                record: faulted(*number),
                explain: Arc::default(),
            },
            Write::Correct { run, stale, skips, stdout, brings } => {
                let whole = Write::Finish {
                    run: *run,
                    stale: false,
                    stdout: *stdout,
                    dissent: None,
                    brings: *brings,
                    source: None,
                };
                let RunWrite::Finish(mut end) = self.write(&whole) else { panic!("a finish is a finish") };
                let known = self.runs.get(&run_id(*run)).map(|run| &run.stored);
                // an owner of before is refused, a later one is not
                end.record.epoch =
                    Epoch(known.map_or(1, |run| run.epoch.0).saturating_sub(u64::from(*stale)));
                end.record.revision = known.map_or(0, |run| run.revision) + 1 + u32::from(*skips);
                RunWrite::Correct(end)
            }
            Write::Finish { run, stale, stdout, dissent, brings, source } => {
                let mut end = final_run(*run, Time(self.clock));
                end.record.epoch = self.epoch(*run, *stale);
                let mut manifest = end.manifest.take().unwrap();
                let (stdout, bytes) = small(*stdout);
                manifest.stdout = OutputRef { digest: stdout, size: bytes.len() as u64 };
                manifest.files.clear();
                let canonical = Bytes::from(manifest.canonical());
                end.record.result = Some(Digest::of(&canonical));
                end.blobs = vec![(Digest::of(&canonical), canonical)];
                end.dissents.truncate(usize::from(dissent.is_some()));
                for (kept, dissent) in end.dissents.iter_mut().zip(dissent) {
                    kept.1 = small(*dissent).0;
                }
                if *brings {
                    end.blobs.push((stdout, bytes));
                    end.blobs.extend(dissent.map(small));
                }
                end.manifest = Some(manifest);
                if let Some((source, is_hit)) = source {
                    let kind = if *is_hit { Source::Cached } else { Source::Shared };
                    end.source = Some(kind(run_id(*source)));
                    (end.record.attempts, end.votes) = (vec![], vec![]);
                }
                finish(end)
            }
        }
    }

    fn usage(&self) -> Usage {
        let sizes = |blobs: &mut dyn Iterator<Item = (&Digest, &ModelBlob)>| {
            blobs.map(|(_, blob)| blob.bytes.len() as u64).sum()
        };
        Usage {
            runs: self.runs.len() as u64,
            runs_open: self.runs.values().filter(|run| !run.stored.state.is_final()).count() as u64,
            modules: self.modules.len() as u64,
            blobs: self.blobs.len() as u64,
            blob_bytes: sizes(&mut self.blobs.iter()),
            garbage_bytes: sizes(&mut self.blobs.iter().filter(|(digest, _)| !self.is_referred_to(**digest))),
        }
    }
}

/// Does one step on both and compares the answers.
async fn take(step: &Step, place: &dyn Place, store: &mut Arc<dyn Store>, model: &mut Model) {
    match step {
        Step::Batch(writes) => {
            // Epochs are those before the batch, as for callers that do not see each other.
            let writes: Vec<_> = writes.iter().map(|write| model.write(write)).collect();
            let expected: Vec<_> = writes.iter().map(|write| model.apply(write)).collect();
            assert_eq!(store.write_runs(writes.into()).await.unwrap(), expected);
        }
        Step::Put { blob, pin } => {
            let (digest, bytes) = small(*blob);
            let row = BlobRow { size: bytes.len() as u64, inline: Some(bytes.clone()) };
            let was_there = store.put_blob(digest, row, Time(*pin)).await.unwrap();
            assert_eq!(was_there, model.blobs.contains_key(&digest));
            let stored = model.blobs.entry(digest).or_insert(ModelBlob { bytes, pinned_until: 0 });
            stored.pinned_until = stored.pinned_until.max(*pin);
        }
        Step::Pin { blob, pin } => {
            let digest = small(*blob).0;
            let row = store.pin_blob(digest, Time(*pin)).await.unwrap();
            let stored = model.blobs.get_mut(&digest);
            assert_eq!(row.and_then(|row| row.inline), stored.as_ref().map(|blob| blob.bytes.clone()));
            if let Some(stored) = stored {
                stored.pinned_until = stored.pinned_until.max(*pin);
            }
        }
        Step::Collect { now } => {
            assert_eq!(store.take_garbage(Time(*now), 999).await.unwrap(), model.collect(*now));
        }
        Step::Retain { age, runs_max, batch_max } => {
            let finished_before = Time(model.clock.saturating_sub(*age));
            let retention = Retention { finished_before, runs_max: *runs_max, batch_max: *batch_max };
            let retained = store.retain(retention).await.unwrap();
            assert_eq!((retained.gone.len(), retained.looked_at), model.retain(retention));
        }
        Step::PutModule(blob) => {
            let digest = small(*blob).0;
            let module = StoredModule {
                digest,
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
            let there = model.blobs.contains_key(&digest);
            assert_eq!(store.put_module(module).await.is_ok(), there);
            if there {
                model.modules.insert(digest);
            }
        }
        Step::DeleteModule(blob) => {
            let digest = small(*blob).0;
            let is_open = |run: &ModelRun| run.stored.spec.module == digest && !run.stored.state.is_final();
            let expected = match model.runs.values().any(is_open) {
                true => WriteAnswer::Refused,
                false => {
                    model.modules.remove(&digest);
                    WriteAnswer::Committed
                }
            };
            assert_eq!(store.delete_module(digest).await.unwrap(), expected);
        }
        Step::Follow { limit } => {
            model.clock += 1;
            let at = Time(model.clock);
            let followed = store.follow_corrections(at, *limit, u32::MAX).await.unwrap();
            assert!(followed.corrected.len() <= *limit as usize);
            for run in followed.corrected {
                let outdated = model.outdated(at).into_iter().find(|(id, _)| *id == run.id);
                model.follow(&outdated.expect("its result was replaced").1);
                assert_eq!(text(&run), text(&model.runs[&run.id].stored));
            }
            assert!(followed.has_more || model.outdated(at).is_empty());
        }
        Step::Adopt => {
            let epoch = store.adopt_open_runs().await.unwrap();
            for run in model.runs.values_mut().filter(|run| !run.stored.state.is_final()) {
                assert!(epoch > run.stored.epoch);
                run.stored.epoch = epoch;
            }
        }
        Step::Reopen => {
            store.close().await;
            *store = place.open().await;
        }
    }
}

/// Random histories end as the model does, step by step.
pub(crate) fn histories<P: Place>(fresh: impl Fn() -> P) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let history = prop::collection::vec(step(), 1..40);
    let checked = TestRunner::new(config).run(&history, |steps| {
        runtime.block_on(async {
            let place = fresh();
            let (mut store, mut model) = (place.open().await, Model::default());
            for step in &steps {
                take(step, &place, &mut store, &mut model).await;
            }
            compare(&*store, &model).await;
            store.close().await;
        });
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
