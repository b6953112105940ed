//! What is said of a rerun's place: who may have it, who not, and why.

use super::*;

impl Bench {
    fn times_out(&mut self, run: u128, number: u32, by: u32) {
        let (attempt, worker) = (attempt(run, number), worker(by));
        self.step(Event::AttemptBegun { attempt, worker, at: self.now });
        let fault = Fault::TimedOut;
        self.step(Event::AttemptFaulted { attempt, epoch: Epoch(7), worker, fault, begun: true, cpu_us: 1 });
    }

    /// The last note of a rerun that need not avoid anybody.
    fn why_no_other(&self, run: u128) -> String {
        let notes = self.explained(run);
        let found = notes.iter().rev().find(|text| text.contains("to a worker that held an attempt"));
        found.unwrap_or_else(|| panic!("{notes:?}")).clone()
    }
}

#[test]
fn a_rerun_that_nobody_else_may_have_says_what_keeps_each_from_it() {
    let mut bench = Bench::with_workers(3);
    bench.submit(submission(5, 7, Verify::Quorum { n: 2 }));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1), (5, 2, 7, 2)]);
    bench.times_out(5, 1, 1);
    assert!(bench.says(5, "the rerun avoids w1; it waits up to 5000 ms"), "{:?}", bench.explained(5));
    assert_eq!(bench.assigned(), [(5, 3, 7, 3)]);
    // w2 executes it all the while: it is there, and may not have a second one
    bench.times_out(5, 3, 3);
    assert_eq!(
        bench.why_no_other(5),
        "the rerun may go to a worker that held an attempt: no other may have it (w2 has an attempt of it, or voted)"
    );
    let again = bench.assigned();
    assert!(matches!(again[..], [(5, 4, 7, 1 | 3)]), "{again:?}");
}

#[test]
fn workers_that_are_there_and_get_no_work_are_named() {
    let mut bench = Bench::start(&[]);
    bench.join(joining(1));
    bench.submit(submission(5, 7, Verify::Once));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    bench.join(joining(2));
    bench.step(Event::WorkerDraining { worker: worker(2), why: "an upgrade".to_owned() });
    bench.join(Joining { memory_bytes: 1 << 19, ..joining(3) });
    bench.join(joining(4));
    bench.step(Event::WorkerLeft { worker: worker(4) });
    bench.times_out(5, 1, 1);
    assert_eq!(
        bench.why_no_other(5),
        "the rerun may go to a worker that held an attempt: no other may have it (w2 is draining, w3 has too little \
         memory, w4 is lost)"
    );
    assert_eq!(bench.assigned(), [(5, 2, 7, 1)]);
}

#[test]
fn in_a_pool_of_one_there_is_no_other() {
    let mut bench = Bench::with_workers(1);
    bench.submit(submission(5, 7, Verify::Once));
    bench.times_out(5, 1, 1);
    assert!(bench.why_no_other(5).ends_with(": there is no other"), "{:?}", bench.explained(5));
}

#[test]
fn a_rerun_that_waits_for_a_busy_worker_says_for_whom_it_waited() {
    let mut bench = Bench::with_workers(2);
    bench.submit(submission(5, 7, Verify::Once));
    assert_eq!(bench.assigned(), [(5, 1, 7, 1)]);
    bench.step(Event::Credits { worker: worker(2), credits: 0 });
    bench.times_out(5, 1, 1);
    assert_eq!(bench.assigned(), [], "w2 is busy, and waited for");
    bench.wait_with(5_500, &[1, 2]);
    assert!(
        bench
            .says(5, "after 5000 ms without a free worker that held none (w2 busy), the rerun may go to any"),
        "{:?}",
        bench.explained(5)
    );
    assert_eq!(bench.assigned(), [(5, 2, 7, 1)]);
}

#[test]
fn only_some_of_many_are_named() {
    let mut bench = Bench::start(&[]);
    bench.join(joining(1));
    bench.submit(submission(5, 7, Verify::Once));
    for number in 2..=12 {
        bench.join(joining(number));
        bench.step(Event::WorkerDraining { worker: worker(number), why: "an upgrade".to_owned() });
    }
    bench.times_out(5, 1, 1);
    assert!(bench.why_no_other(5).ends_with("w7 is draining and 5 more)"), "{}", bench.why_no_other(5));
}

#[test]
fn where_nothing_is_compared_a_vote_that_nobody_can_deliver_makes_way_for_another() {
    let mut bench = Bench::with_workers(2);
    bench.submit(submission(5, 7, Verify::Once));
    bench.vote(5, 1, 7, 1, 3);
    assert!(bench.last_final().is_some());
    bench.step(Event::WorkerLeft { worker: worker(1) });
    bench.effects.clear();
    bench.step(Event::BlobsMissing { run: RunId(5) });
    assert_eq!(bench.assigned(), [(5, 2, 7, 2)], "nobody has the blobs any more");
    // the module names something else each time, and there was nothing to compare
    bench.vote(5, 2, 7, 2, 4);
    let last = bench.last_final().expect("the second vote is as good");
    assert_eq!(last.result, Some(vote(4).result));
    let won: Vec<_> = last.attempts.iter().map(|record| record.state.clone()).collect();
    assert!(
        matches!(
            won[..],
            [AttemptState::Voted { won: None, .. }, AttemptState::Voted { won: Some(true), .. }]
        ),
        "{won:?}"
    );
}
