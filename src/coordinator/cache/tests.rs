use std::sync::Arc;

use super::*;
use crate::id::Epoch;
use crate::result::{Outcome, OutputRef, ResultManifest, RunState, Verdict, VerdictKind};
use crate::spec::{RunSpec, Verify};
use crate::store::{Source, StoredRun};

const CLASS: Class = Class(Digest::EMPTY);
const MINUTE: u64 = 60_000_000;

fn cache(entries_max: usize) -> ResultCache {
    ResultCache::new(CacheConfig { entries_max, bytes_max: 1 << 20, age_ms: 60_000 })
}

fn vote(worker: u32, class: Class, result: Digest) -> CastVote {
    CastVote {
        number: worker,
        worker: WorkerId(worker),
        key: [0; 32],
        domain: "here".to_owned(),
        nonce: [0; 16],
        class,
        code: class,
        artifact: Digest::EMPTY,
        result,
        proof: None,
        weight: None,
    }
}

/// A success of run `number` that ended at `at` microseconds after the first minute, agreed on by two workers.
struct Made {
    number: u128,
    workspace: u32,
    seed: u64,
    stdout: Vec<u8>,
    at: u64,
    class: Class,
    workers: [u32; 2],
    durable: bool,
}

fn made(number: u128) -> Made {
    let at = u64::try_from(number).unwrap();
    Made {
        number,
        workspace: 0,
        seed: 0,
        stdout: b"out".to_vec(),
        at,
        class: CLASS,
        workers: [1, 2],
        durable: true,
    }
}

impl Made {
    fn run(&self) -> (RunDetail, Vec<CastVote>) {
        let spec = RunSpec { seed: self.seed, ..RunSpec::new(Digest::of(b"module")) };
        let manifest = ResultManifest {
            outcome: Outcome::Exited { code: 0 },
            stdout: OutputRef::of(&self.stdout),
            stderr: OutputRef::of(b""),
            files: Vec::new(),
            fuel_used: None,
        };
        let result = Digest::of(&manifest.canonical());
        let run = StoredRun {
            id: RunId(self.number),
            workspace: WorkspaceId(self.workspace),
            epoch: Epoch(1),
            state: RunState::Succeeded,
            reason: None,
            run_key: spec.key(),
            spec: Arc::new(spec),
            policy: Policy { verify: Verify::Quorum { n: 2 }, durable: self.durable, ..Policy::default() },
            revision: 1,
            outcome: Some(manifest.outcome.clone()),
            verdict: Verdict { kind: VerdictKind::Agreed, votes: 2, dissenters: Vec::new() },
            result: Some(result),
            manifest: Some(manifest),
            attempts: Vec::new(),
            explain: Arc::default(),
            dissents: Vec::new(),
            rerun_of: None,
            created_at: Time(MINUTE),
            finished_at: Some(Time(MINUTE + self.at)),
            source: None,
            corrected_at: None,
            verification: None,
        };
        let votes = self.workers.map(|worker| vote(worker, self.class, result)).to_vec();
        let shown = |bytes: &[u8]| Some(Bytes::copy_from_slice(bytes));
        (RunDetail { run, stdout: shown(&self.stdout), stderr: shown(b"") }, votes)
    }

    fn entry(&self) -> Entry {
        let (detail, votes) = self.run();
        Entry::of(Arc::new(detail), BTreeMap::new(), &votes).unwrap()
    }

    fn key(&self) -> (WorkspaceId, Digest) {
        let (detail, _) = self.run();
        (detail.run.workspace, detail.run.run_key)
    }
}

/// A result that two workers, 1 and 2, agreed on, of the first day.
pub(super) fn agreed() -> Entry {
    made(1).entry()
}

/// A result that rests on the word of one worker alone.
pub(super) fn vouched(worker: u32, finished_at: u64) -> Entry {
    let (mut detail, mut votes) = Made { workers: [worker, 9], ..made(1) }.run();
    detail.run.verdict.kind = VerdictKind::Vouched;
    detail.run.finished_at = Some(Time(finished_at));
    votes.truncate(1);
    Entry::of(Arc::new(detail), BTreeMap::new(), &votes).unwrap()
}

/// The run that answers an equal one of this.
fn answers(cache: &ResultCache, of: &Made, policy: &Policy) -> Option<u128> {
    answers_at(cache, of, policy, Time(MINUTE + 1_000))
}

fn answers_at(cache: &ResultCache, of: &Made, policy: &Policy, now: Time) -> Option<u128> {
    cache.find(of.key(), policy, CLASS, now).map(|entry| entry.detail.run.id.0)
}

fn put(cache: &ResultCache, of: &Made) {
    cache.insert(of.entry(), Time(MINUTE + 1_000));
}

fn quorum(n: u8) -> Policy {
    Policy { verify: Verify::Quorum { n }, ..Policy::default() }
}

#[test]
fn a_result_answers_equal_runs_of_its_workspace_that_ask_for_no_more() {
    let cache = cache(10);
    put(&cache, &made(1));
    assert_eq!(answers(&cache, &made(1), &quorum(2)), Some(1));
    assert_eq!(answers(&cache, &made(1), &quorum(3)), None);
    assert_eq!(answers(&cache, &Made { seed: 7, ..made(1) }, &quorum(2)), None);
    assert_eq!(answers(&cache, &Made { workspace: 1, ..made(1) }, &quorum(2)), None);
    let stats = cache.stats(WorkspaceId(0));
    assert_eq!((stats.entries, stats.hits, stats.misses), (1, 1, 2));
    assert_eq!(cache.stats(WorkspaceId(1)), CacheStats { misses: 1, ..CacheStats::default() });
    assert_eq!(cache.totals().misses, 3);
}

#[test]
fn a_newer_result_replaces_an_older_one_of_its_class_only() {
    let cache = cache(10);
    let other = Class(Digest::of(b"other"));
    put(&cache, &made(1));
    put(&cache, &Made { class: other, stdout: b"as the other class has it".to_vec(), ..made(2) });
    cache.set_classes([other].into());
    assert_eq!(answers(&cache, &made(1), &quorum(2)), Some(1), "the coordinator's own class comes first");
    put(&cache, &made(3));
    assert_eq!(answers(&cache, &made(1), &quorum(2)), Some(3));
    put(&cache, &made(1));
    assert_eq!(
        answers(&cache, &made(1), &quorum(2)),
        Some(3),
        "an older one that comes late changes nothing"
    );
    assert_eq!(cache.stats(WorkspaceId(0)).entries, 2);
    // two verified results of one class: one of them is wrong, and the newer one was asked for last
    put(&cache, &Made { stdout: b"different".to_vec(), durable: false, ..made(4) });
    assert_eq!(answers(&cache, &made(1), &Policy { durable: false, ..quorum(2) }), Some(4));
    assert_eq!(answers(&cache, &made(1), &quorum(2)), Some(2), "what is kept is of the other class");
    cache.set_classes(HashSet::new());
    assert_eq!(answers(&cache, &made(1), &quorum(2)), None, "which is not there any more");
}

#[test]
fn a_weaker_result_takes_the_place_of_no_stronger_one() {
    let cache = cache(10);
    let verified = |number: u128, voters: u32| {
        let (mut detail, votes) = made(number).run();
        let result = votes[0].result;
        detail.run.policy = quorum(u8::try_from(voters).unwrap());
        let votes: Vec<_> = (1..=voters).map(|worker| vote(worker, CLASS, result)).collect();
        Entry::of(Arc::new(detail), BTreeMap::new(), &votes).unwrap()
    };
    for (number, voters, left) in [(1, 5, 1), (2, 2, 1), (3, 5, 3), (4, 7, 4)] {
        cache.insert(verified(number, voters), Time(MINUTE + 1_000));
        assert_eq!(answers(&cache, &made(1), &quorum(5)), Some(left));
        assert_eq!(cache.totals().entries, 1);
    }
    // unless that is too old to answer anybody
    let late = Made { at: 61_000_000, ..made(5) };
    cache.insert(late.entry(), Time(MINUTE + 61_000_000));
    assert_eq!(answers_at(&cache, &made(1), &quorum(2), Time(MINUTE + 61_000_000)), Some(5));
}

#[test]
fn what_rests_on_a_suspect_alone_goes() {
    let cache = cache(10);
    let (mut detail, mut votes) = made(1).run();
    detail.run.verdict.kind = VerdictKind::Vouched;
    votes.truncate(1);
    cache.insert(Entry::of(Arc::new(detail), BTreeMap::new(), &votes).unwrap(), Time(MINUTE + 1_000));
    put(&cache, &Made { seed: 2, ..made(2) });
    let doubt = |worker| cache.withdraw(Withdrawal::of_its_word(WorkerId(worker), Time(2 * MINUTE)));
    assert_eq!(doubt(2).0, 0);
    let (count, kept) = doubt(1);
    assert_eq!((count, kept.alone), (1, true), "one rule, that is kept for later lives");
    assert_eq!((doubt(1).0, cache.lock().withdrawals.len()), (0, 2), "said again, it is one rule");
    assert_eq!(cache.totals().entries, 1, "what others said too stays");
}

#[test]
fn it_is_bounded_in_entries_bytes_and_age() {
    let cache = cache(3);
    for number in 1..=3 {
        put(&cache, &Made { seed: number, ..made(number.into()) });
    }
    // used just now: it stays
    assert_eq!(answers(&cache, &Made { seed: 1, ..made(1) }, &quorum(2)), Some(1));
    put(&cache, &Made { seed: 4, ..made(4) });
    let there = (1..=4).map(|seed| answers(&cache, &Made { seed, ..made(seed.into()) }, &quorum(2)));
    assert_eq!(there.collect::<Vec<_>>(), [Some(1), None, Some(3), Some(4)]);

    let old = Time(MINUTE + 60_000_000 + 2);
    assert_eq!(answers_at(&cache, &Made { seed: 1, ..made(1) }, &quorum(2), old), None);
    assert_eq!(answers_at(&cache, &Made { seed: 3, ..made(3) }, &quorum(2), old), Some(3));

    let small = ResultCache::new(CacheConfig { entries_max: 1_000, bytes_max: 100_000, age_ms: 60_000 });
    for number in 1..=100 {
        put(&small, &Made { seed: number, stdout: vec![b'x'; 10_000], ..made(number.into()) });
        assert!(small.totals().bytes <= 100_000);
    }
    let stats = small.totals();
    assert!((5..10).contains(&stats.entries), "{stats:?}");
    let all: Vec<RunId> = (1..=100).map(RunId).collect();
    small.forget(&all);
    assert_eq!((small.totals().entries, small.totals().bytes), (0, 0));
}

#[test]
fn what_grows_when_its_outputs_are_read_stays_within_the_bound() {
    let cache = ResultCache::new(CacheConfig { entries_max: 1_000, bytes_max: 100_000, age_ms: 60_000 });
    let of = |number: u64| Made { seed: number, stdout: vec![b'x'; 10_000], ..made(number.into()) };
    for number in 1..=20 {
        let mut entry = of(number).entry();
        let detail = RunDetail { stdout: None, ..entry.detail.as_ref().clone() };
        entry.detail = Arc::new(detail);
        cache.insert(entry, Time(MINUTE + 1_000));
    }
    assert_eq!(cache.totals().entries, 20);
    for number in 1..=20 {
        cache.refine(RunId(number.into()), of(number).entry().detail);
        assert!(cache.totals().bytes <= 100_000);
    }
    assert!(cache.totals().entries < 20);
    cache.forget(&(1..=20).map(RunId).collect::<Vec<_>>());
    assert_eq!((cache.totals().entries, cache.totals().bytes, cache.lock().bytes), (0, 0, 0));
}

#[test]
fn what_is_withdrawn_does_not_come_back() {
    let cache = cache(10);
    let of = |seed| Made { seed, workers: [u32::try_from(seed).unwrap(), 9], ..made(seed.into()) };
    (1..=4).for_each(|seed| put(&cache, &of(seed)));
    let now = Time(MINUTE + 100);
    assert_eq!(cache.withdraw(Withdrawal::of_worker(WorkerId(2), now)).0, 1);
    assert_eq!(cache.withdraw(Withdrawal::of_run(RunId(3), now)).0, 1);
    assert_eq!(cache.withdraw(Withdrawal::of_run(RunId(3), now)).0, 0);
    let there = |cache: &ResultCache| -> Vec<u64> {
        (1..=4).filter(|seed| answers(cache, &of(*seed), &quorum(2)).is_some()).collect()
    };
    assert_eq!(there(&cache), [1, 4]);
    assert_eq!(cache.stats(WorkspaceId(0)).withdrawn, 2);
    // the store still has them, and reads them late
    (1..=4).for_each(|seed| put(&cache, &of(seed)));
    assert_eq!(there(&cache), [1, 4]);
    // what ended later is another result
    put(&cache, &Made { at: 101, ..of(2) });
    assert_eq!(there(&cache), [1, 2, 4]);
    // after a start
    let next = self::cache(10);
    assert_eq!(next.recall(vec![Withdrawal::of_worker(WorkerId(9), now)], now), None);
    (1..=4).for_each(|seed| put(&next, &of(seed)));
    assert_eq!(there(&next), Vec::<u64>::new());
}

#[test]
fn withdrawals_are_bounded_by_withdrawing_everything() {
    let cache = cache(10);
    put(&cache, &made(1));
    for number in 0..WITHDRAWALS_MAX {
        let of = Withdrawal::of_worker(WorkerId(100 + u32::try_from(number).unwrap()), Time(MINUTE + 50));
        assert_eq!(cache.withdraw(of), (0, of));
    }
    let last = Withdrawal::of_worker(WorkerId(99), Time(MINUTE + 60));
    assert_eq!(cache.withdraw(last), (1, Withdrawal::everything(last.until)));
    assert_eq!(cache.lock().withdrawals.len(), 1);
}

#[test]
fn withdrawals_of_what_is_too_old_anyway_are_dropped() {
    let (early, late) = (Time(MINUTE), Time(3 * MINUTE));
    let cache = cache(10);
    for number in 0..WITHDRAWALS_MAX {
        cache.withdraw(Withdrawal::of_worker(WorkerId(100 + u32::try_from(number).unwrap()), early));
    }
    let last = Withdrawal::of_worker(WorkerId(99), late);
    assert_eq!(cache.withdraw(last), (0, last));
    assert_eq!(cache.lock().withdrawals, [last]);
    // after a start one takes the place of all of them in the store
    let old = [1, 2].map(|worker| Withdrawal::of_worker(WorkerId(worker), early));
    let together = cache.recall(vec![old[0], old[1], last], late);
    assert_eq!(together, Some(Withdrawal::everything(early)));
    assert_eq!(cache.lock().withdrawals, [last]);
    assert_eq!(cache.recall(vec![old[0], last], late), None);
}

#[test]
fn what_is_corrected_goes_without_a_rule_that_is_kept() {
    let cache = cache(10);
    put(&cache, &made(1));
    assert_eq!((cache.correct(RunId(1)), cache.correct(RunId(1))), (1, 0));
    assert_eq!((cache.totals().withdrawn, cache.lock().withdrawals.len()), (1, 0));
    // it was read just before
    put(&cache, &made(1));
    assert_eq!(answers(&cache, &made(1), &quorum(2)), None);
    cache.end_loading();
    assert!(cache.lock().corrected.is_empty());
}

#[test]
fn a_nondeterministic_module_is_not_cached_until_it_is_readmitted() {
    let cache = cache(10);
    let module = Digest::of(b"module");
    cache.bar(module);
    put(&cache, &made(1));
    assert_eq!(answers(&cache, &made(1), &quorum(2)), None);
    cache.unbar(module);
    put(&cache, &made(1));
    assert_eq!(answers(&cache, &made(1), &quorum(2)), Some(1));
}

#[test]
fn only_verified_results_that_are_there_as_a_whole_are_taken() {
    let entry = |change: &dyn Fn(&mut RunDetail)| {
        let (mut detail, votes) = made(1).run();
        change(&mut detail);
        Entry::of(Arc::new(detail), BTreeMap::new(), &votes)
    };
    assert!(entry(&|_| {}).is_some());
    assert!(entry(&|detail| detail.run.verdict.kind = VerdictKind::Unchecked).is_none());
    assert!(entry(&|detail| detail.run.verdict.kind = VerdictKind::Disputed).is_none());
    assert!(entry(&|detail| detail.run.source = Some(Source::Cached(RunId(9)))).is_none());
    assert!(entry(&|detail| detail.run.result = None).is_none());
    // a verified failure is a result
    assert!(entry(&|detail| detail.run.state = RunState::Failed).is_some());
    // of a run in memory, what is large may go at any time
    assert!(entry(&|detail| detail.stdout = None).is_some());
    assert!(entry(&|detail| (detail.stdout, detail.run.policy.durable) = (None, false)).is_none());
}

#[test]
fn answers_whose_row_is_not_written_are_bounded() {
    let cache = cache(10);
    assert!((0..UNWRITTEN_MAX).all(|_| cache.begin_unwritten()));
    assert!(!cache.begin_unwritten());
    cache.end_unwritten();
    assert!(cache.begin_unwritten());
    put(&cache, &made(1));
    cache.suspend(true);
    assert_eq!(answers(&cache, &made(1), &quorum(2)), None);
    cache.suspend(false);
    assert_eq!(answers(&cache, &made(1), &quorum(2)), Some(1));
}
