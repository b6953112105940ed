//! The poison rule, and who is believed when it is about crashes.

use super::*;
use vocabulary::spec::Retry;

/// Somebody else's machine, in a trust domain of its own.
fn foreign(number: u32) -> Joining {
    let domain = format!("domain-{number}");
    Joining { prior: Prior::Foreign, domain, ..joining(number) }
}

impl Bench {
    fn of(workers: impl IntoIterator<Item = Joining>) -> Bench {
        let mut bench = Bench::start(&[]);
        bench.wait(Config::default().start_grace_ms);
        workers.into_iter().for_each(|joining| bench.join(joining));
        bench
    }

    /// Only this worker takes anything.
    fn only(&mut self, number: u32) {
        let all = self.pool.workers().into_iter().map(|view| view.worker);
        for it in all.collect::<Vec<_>>() {
            let credits = if it == worker(number) { 4 } else { 0 };
            self.step(Event::Credits { worker: it, credits });
        }
    }

    fn crash(&mut self, run: u128, number: u32, by: u32) {
        let fault = Fault::Crashed { signal: Some(11), detail: String::new() };
        self.step(Event::AttemptFaulted {
            attempt: attempt(run, number),
            epoch: Epoch(1),
            worker: worker(by),
            fault,
            begun: true,
            cpu_us: 1,
        });
    }

    /// Each run crashes on the workers of its list, in this order, and ends on `then`, if there is one.
    fn runs_that_crash_on(&mut self, runs: std::ops::Range<u128>, on: &[u32], then: Option<u32>) {
        for run in runs {
            self.only(0);
            let retry = if on.len() == 1 && then.is_none() { Retry::Never } else { Retry::Reassign };
            let policy = Policy { verify: Verify::Once, durable: false, retry, ..Policy::default() };
            let submission = Submission { policy, ..submission(run, 1, Verify::Once) };
            if self.pool.submit(self.now, submission, &mut self.effects).is_err() {
                return;
            }
            for (number, by) in (1..).zip(on) {
                self.only(*by);
                self.only(0);
                self.crash(run, number, *by);
            }
            if let Some(by) = then {
                self.only(by);
                self.vote(run, on.len() as u32 + 1, 1, by, 7);
            }
        }
    }

    fn is_quarantined(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::QuarantineModule { .. }))
    }
}

#[test]
fn one_foreign_worker_that_says_crashed_again_and_again_quarantines_nothing() {
    let mut bench = Bench::of((1..=3).map(foreign));
    bench.runs_that_crash_on(1..40, &[1], Some(2));
    assert!(!bench.is_quarantined(), "one that lies takes a module from everybody");
    // nor where no other ever has it
    bench.runs_that_crash_on(40..60, &[1], None);
    assert!(!bench.is_quarantined());
    // what honest workers see is counted without it
    bench.runs_that_crash_on(60..64, &[2], Some(3));
    assert!(!bench.is_quarantined());
    bench.runs_that_crash_on(64..65, &[3], Some(2));
    assert!(bench.is_quarantined(), "five runs crashed whatever the first says");
}

#[test]
fn two_workers_of_one_domain_are_one_witness() {
    let ada = |number| Joining { domain: "ada".to_owned(), ..foreign(number) };
    let mut bench = Bench::of([ada(1), ada(2), foreign(3)]);
    bench.runs_that_crash_on(1..20, &[1, 2], Some(3));
    assert!(!bench.is_quarantined());
}

#[test]
fn a_module_that_crashes_on_two_fault_domains_is_quarantined() {
    let mut bench = Bench::of((1..=3).map(foreign));
    bench.runs_that_crash_on(1..5, &[1, 2], Some(3));
    assert!(!bench.is_quarantined());
    bench.runs_that_crash_on(5..6, &[1, 2], Some(3));
    assert!(bench.is_quarantined());
}

#[test]
fn what_the_operators_own_worker_or_an_arbiter_sees_is_enough() {
    let arbiter = |number| Joining { is_arbiter: true, ..foreign(number) };
    for trusted in [joining(1), Joining { domain: "rack-2".to_owned(), ..joining(1) }, arbiter(1)] {
        let mut bench = Bench::of([trusted.clone(), foreign(2), foreign(3)]);
        let is_arbiter = trusted.is_arbiter;
        if is_arbiter {
            // it gets ordinary work only where nobody else is left
            for number in [2, 3] {
                let why = "away".to_owned();
                bench.step(Event::WorkerDraining { worker: worker(number), why });
            }
        }
        bench.runs_that_crash_on(1..6, &[1], None);
        assert!(bench.is_quarantined(), "{trusted:?}");
    }
}

#[test]
fn a_foreign_domain_is_never_believed_alone_whoever_else_is_there() {
    // as after a restart, when nobody else is back yet
    let ada = |number| Joining { domain: "ada".to_owned(), ..foreign(number) };
    for workers in [1, 3] {
        let mut bench = Bench::of((1..=workers).map(ada));
        let on: Vec<u32> = (1..=workers.min(2)).collect();
        bench.runs_that_crash_on(1..20, &on, (workers == 3).then_some(3));
        assert!(!bench.is_quarantined(), "{workers} of its workers say so");
        (1..20).for_each(|run| bench.step(Event::Cancel { run: RunId(run) }));
        // the operator's own says the same of five
        bench.join(Joining { domain: "rack".to_owned(), ..joining(9) });
        bench.runs_that_crash_on(20..25, &[9], None);
        assert!(bench.is_quarantined());
    }
}

impl Bench {
    fn leave(&mut self, number: u32) {
        self.step(Event::WorkerLeft { worker: worker(number) });
    }
}

#[test]
fn a_foreign_domain_that_is_alone_for_a_moment_quarantines_nothing() {
    let ada = |number| Joining { domain: "ada".to_owned(), ..foreign(number) };
    let mut bench = Bench::of([ada(1), ada(2), foreign(3), foreign(4)]);
    bench.leave(3);
    bench.leave(4);
    bench.runs_that_crash_on(1..20, &[1, 2], None);
    (1..20).for_each(|run| bench.step(Event::Cancel { run: RunId(run) }));
    bench.runs_that_crash_on(20..40, &[1], None);
    assert!(!bench.is_quarantined(), "two workers of one domain");
    bench.leave(2);
    bench.runs_that_crash_on(40..60, &[1], None);
    assert!(!bench.is_quarantined(), "a worker that others left alone");
    // nor is it believed afterwards
    bench.join(foreign(3));
    bench.join(foreign(4));
    bench.runs_that_crash_on(60..64, &[3], Some(4));
    assert!(!bench.is_quarantined());
    bench.runs_that_crash_on(64..65, &[3], Some(4));
    assert!(bench.is_quarantined(), "five, whatever one of them says");
}

/// A pool with one worker without a free slot, and so many runs of one module that wait for it.
fn crowd(runs: u128) -> Bench {
    let mut bench = Bench::of([joining(1)]);
    bench.only(0);
    for run in 1..=runs {
        let policy = Policy { verify: Verify::Once, durable: false, ..Policy::default() };
        let submission = Submission { policy, ..submission(run, 1, Verify::Once) };
        bench.pool.submit(bench.now, submission, &mut bench.effects).expect("it is accepted");
    }
    bench.effects.clear();
    bench
}

impl Bench {
    fn ended(&self) -> usize {
        let ended =
            |effect: &&Effect| matches!(effect, Effect::Finished(last) if last.state == RunState::Failed);
        self.effects.iter().filter(ended).count()
    }

    fn is_anything_assigned(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Assign { .. }))
    }
}

#[test]
fn what_waits_of_a_module_that_is_taken_out_ends_in_bounded_steps() {
    for quarantined in [true, false] {
        let mut bench = crowd(2_500);
        bench.step(match quarantined {
            true => Event::ModuleQuarantined { module: MODULE, why: "an order".to_owned() },
            false => Event::ModuleRefused { module: MODULE },
        });
        assert_eq!(bench.ended(), 1_000, "in one step");
        bench.only(1);
        assert!(!bench.is_anything_assigned(), "what still waits is not handed out");
        bench.wait(1);
        assert_eq!(bench.ended(), 2_500);
        assert_eq!(bench.pool.stats().queued, 0);
    }
}

#[test]
fn who_readmits_a_module_keeps_the_runs_that_have_not_ended_by_then() {
    let mut bench = crowd(1_200);
    bench.step(Event::ModuleQuarantined { module: MODULE, why: "an order".to_owned() });
    bench.only(1);
    bench.step(Event::ModuleReadmitted { module: MODULE });
    assert!(bench.is_anything_assigned());
    bench.wait(1);
    assert_eq!(bench.ended(), 1_000);
}

#[test]
fn those_that_follow_are_counted_too() {
    let mut bench = Bench::of([joining(1)]);
    bench.only(0);
    for run in 1..=3_000_u128 {
        let policy = Policy { verify: Verify::Once, durable: false, ..Policy::default() };
        let share = Some(Digest::of(&(run % 10).to_be_bytes()));
        let submission = Submission { policy, share, ..submission(run, 1, Verify::Once) };
        bench.pool.submit(bench.now, submission, &mut bench.effects).expect("it is accepted");
    }
    bench.effects.clear();
    bench.step(Event::ModuleQuarantined { module: MODULE, why: "an order".to_owned() });
    assert_eq!(bench.ended(), 900, "three with all that follow them");
    bench.wait(1);
    assert_eq!(bench.ended(), 3_000);
}

#[test]
fn runs_that_others_executed_and_agreed_on_crashed_nobody() {
    // 1 and 4 each say that five different runs crashed, and 2 and 3 execute every one of them
    let mut bench = Bench::of((1..=4).map(foreign));
    for run in 10..20 {
        let liar = if run < 15 { 1 } else { 4 };
        bench.only(0);
        bench.submit(submission(run, 1, Verify::Quorum { n: 2 }));
        bench.only(liar);
        bench.only(0);
        bench.crash(run, 1, liar);
        for (number, by) in [(2, 2), (3, 3)] {
            bench.only(by);
            bench.only(0);
            bench.vote(run, number, 1, by, 7);
        }
        let last = bench.last_final().map(|last| (last.run.0, last.state));
        assert_eq!(last, Some((run, RunState::Succeeded)), "{:?}", bench.effects);
        bench.step(Event::Committed { run: RunId(run), write: WriteKind::Finished });
    }
    assert!(!bench.is_quarantined());
}
