//! Labels, trust domains and classes through the whole pool.

use super::*;
use vocabulary::spec::Placement;

fn labelled(number: u32, label: &str, value: &str) -> Joining {
    Joining { labels: BTreeMap::from([(label.to_owned(), value.to_owned())]), ..joining(number) }
}

fn asking(run: u128, verify: Verify, labels: &[(&str, &str)]) -> Submission {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut submission = submission(run, 7, verify);
    submission.policy.placement = Placement::Labels { labels };
    submission
}

impl Bench {
    pub(super) fn refused(&mut self, submission: Submission) -> SubmitError {
        let answer = self.pool.submit(self.now, submission, &mut self.effects);
        answer.expect_err("it is refused")
    }
}

#[test]
fn a_run_goes_only_to_workers_with_its_labels() {
    let mut bench = Bench::start(&[]);
    bench.join(joining(1));
    bench.join(labelled(2, "gpu", "yes"));
    bench.join(labelled(3, "gpu", "no"));
    bench.submit(asking(5, Verify::Once, &[("gpu", "yes")]));
    assert_eq!(bench.assigned(), [(5, 1, 7, 2)]);
}

#[test]
fn a_label_that_nobody_has_is_refused_by_its_name() {
    let mut bench = Bench::start(&[]);
    assert_eq!(bench.refused(submission(4, 7, Verify::Once)).to_string(), "no worker is there");
    bench.join(labelled(1, "gpu", "no"));
    bench.join(labelled(2, "zone", "a"));
    let refused = bench.refused(asking(5, Verify::Once, &[("gpu", "yes")]));
    assert_eq!(refused.to_string(), "no worker has label gpu=yes");
    let refused = bench.refused(asking(5, Verify::Once, &[("gpu", "no"), ("zone", "a")]));
    assert_eq!(refused.to_string(), "no worker has all of the labels gpu=no, zone=a");
    let mut large = asking(5, Verify::Once, &[("zone", "a")]);
    large.memory_bytes = 2 << 30;
    assert_eq!(
        bench.refused(large).to_string(),
        "no worker with zone=a has the 2048 MiB of memory that it may use"
    );
    let refused = bench.refused(asking(5, Verify::Quorum { n: 2 }, &[("zone", "a")]));
    assert_eq!(refused, SubmitError::TooFewWorkers { wanted: 2, there: 1 });
}

#[test]
fn a_run_whose_only_worker_went_says_what_it_waits_for() {
    let mut bench = Bench::start(&[]);
    bench.join(labelled(1, "gpu", "yes"));
    bench.join(joining(2));
    bench.submit(asking(5, Verify::Once, &[("gpu", "yes")]));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    bench.step(Event::WorkerLeft { worker: worker(1) });
    assert!(bench.says(5, "waits for a worker: none has label gpu=yes"), "{:?}", bench.explained(5));
    bench.join(labelled(3, "gpu", "yes"));
    assert_eq!(bench.assigned(), [(5, 2, 7, 3)]);
}

#[test]
fn voters_sit_in_distinct_domains_where_there_are_that_many() {
    // (domains of the workers, voters, how many different ones the voters sit in)
    let table: &[(&[&str], u8, usize)] = &[
        (&["a", "a", "b"], 2, 2),
        (&["a", "a", "a"], 2, 1),
        (&["a", "a", "b", "c"], 3, 3),
        (&["a", "a", "a", "b", "b", "c"], 3, 3),
        (&["a", "b", "c", "d"], 3, 3),
    ];
    for (domains, n, expected) in table {
        let mut bench = Bench::start(&[]);
        for (number, domain) in (1..).zip(*domains) {
            bench.join(Joining { domain: (*domain).to_owned(), ..joining(number) });
        }
        bench.submit(submission(5, 7, Verify::Quorum { n: *n }));
        let voters = bench.assigned();
        assert_eq!(voters.len(), usize::from(*n), "{domains:?}");
        let mut sat: Vec<&str> = voters.iter().map(|(.., by)| domains[*by as usize - 1]).collect();
        sat.sort_unstable();
        sat.dedup();
        assert_eq!(sat.len(), *expected, "{domains:?}, {n} voters: {voters:?}");
    }
}

#[test]
fn too_few_domains_leave_each_worker_as_its_own() {
    let mut bench = Bench::start(&[]);
    for (number, domain) in [(1, "a"), (2, "a"), (3, "b")] {
        bench.join(Joining { domain: domain.to_owned(), ..joining(number) });
    }
    bench.submit(submission(5, 7, Verify::Quorum { n: 3 }));
    assert_eq!(bench.assigned().len(), 3);
}

fn of_class(number: u32, class: u8) -> Joining {
    Joining { class: Class(Digest::from_bytes([class; 32])), ..joining(number) }
}

#[test]
fn a_worker_says_how_many_peers_its_class_has() {
    let mut bench = Bench::start(&[]);
    bench.join(of_class(1, 1));
    bench.join(of_class(2, 2));
    bench.join(of_class(3, 2));
    bench.join(of_class(4, 2));
    bench.step(Event::WorkerDraining { worker: worker(4), why: "maintenance".to_owned() });
    let peers = |bench: &Bench| bench.pool.workers().iter().map(|view| view.peers).collect::<Vec<_>>();
    assert_eq!(peers(&bench), [0, 1, 1, 2]);
    for view in bench.pool.workers() {
        assert_eq!(bench.pool.worker(view.worker).unwrap().peers, view.peers);
    }
}

#[test]
fn a_quorum_that_no_class_can_fill_is_refused_or_ends_after_a_minute() {
    let mut bench = Bench::start(&[]);
    bench.join(of_class(1, 1));
    bench.join(of_class(2, 2));
    bench.join(of_class(3, 2));
    let refused = bench.refused(submission(4, 7, Verify::Quorum { n: 3 }));
    assert_eq!(refused, SubmitError::TooFewWorkers { wanted: 3, there: 2 });
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    let voters = bench.assigned();
    assert!(voters.iter().all(|(.., by)| *by != 1), "{voters:?}");
    bench.step(Event::WorkerLeft { worker: worker(3) });
    bench.wait_with(59_000, &[1, 2]);
    assert!(bench.last_final().is_none());
    bench.wait_with(2_000, &[1, 2]);
    assert_eq!(bench.last_final().expect("it gave up").reason, Some(FailReason::NoQuorum));
}

fn once(run: u128, memory_bytes: u64) -> Submission {
    let policy = Policy { verify: Verify::Once, durable: false, ..Policy::default() };
    Submission { memory_bytes, policy, ..submission(run, 7, Verify::Once) }
}

/// Two workers that are busy with small runs for ever, of which there is always one more, and a large one that waits. Every
/// half second `meddle` is called with its number. Gives when the large one was handed out, in half seconds.
fn large_among_small(mut meddle: impl FnMut(&mut Bench, u32)) -> Option<u32> {
    let mut bench = Bench::with_workers(2);
    // a vote first: its module is proven, and more than three attempts of it may run at once
    bench.submit(once(1, 1 << 28));
    bench.vote(1, 1, 7, bench.pool.attempt(attempt(1, 1)).unwrap().record.worker.0, 5);
    let mut held: Vec<(u128, u32)> = Vec::new();
    let mut next = 10;
    bench.effects.clear();
    (next..next + 8).for_each(|run| bench.submit(once(run, 1 << 28)));
    next += 8;
    bench.submit(once(2, 1 << 30));
    for half_seconds in 0..60 {
        meddle(&mut bench, half_seconds);
        for (run, _, _, by) in bench.assigned() {
            if run == 2 {
                // all that was kept is one worker: the other one went on
                assert!(!held.is_empty());
                return Some(half_seconds);
            }
            held.push((run, by));
        }
        // the oldest one ends, and another one comes before: there is always one that could have the slot
        bench.submit(once(next, 1 << 28));
        next += 1;
        if !held.is_empty() {
            let (run, by) = held.remove(0);
            bench.vote(run, 1, 7, by, 5);
            bench.step(Event::Credits { worker: worker(by), credits: 4 });
        }
        let all: Vec<u32> = bench.pool.workers().iter().map(|view| view.worker.0).collect();
        bench.wait_with(500, &all);
    }
    None
}

#[test]
fn a_run_that_needs_much_memory_is_passed_over_for_a_while_and_not_for_ever() {
    let when = large_among_small(|_, _| ()).expect("it is not starved");
    assert!(when >= 10, "small ones are served before it at first: {when}");
}

#[test]
fn no_worker_is_kept_that_takes_nothing() {
    let when = large_among_small(|bench, half_seconds| {
        if half_seconds == 0 {
            bench.step(Event::WorkerJoined(Box::new(Joining { memory_bytes: 1 << 40, ..joining(3) })));
        }
    });
    assert!(when.is_some(), "one without credits keeps it waiting");
}

#[test]
fn one_that_submits_and_cancels_keeps_no_other_run_of_the_size_waiting() {
    let when = large_among_small(|bench, half_seconds| {
        let run = 100_000 + u128::from(half_seconds);
        let other = Submission { workspace: WorkspaceId(1), ..once(run, 1 << 30) };
        bench.submit(other);
        bench.step(Event::Cancel { run: RunId(run) });
    });
    assert!(when.is_some(), "it is starved");
}
