//! Verification by credibility, one run from its submission to its end: audits, arbiters, blame, verifying anew, and second
//! attempts of slow ones.

use super::*;
use vocabulary::result::VerdictKind;

/// The confirmations of a worker that is proven and hardly ever audited, in thousandths.
const PROVEN: u64 = 500_000;
/// A draw in the lottery that asks nobody to check.
const NO_AUDIT: u64 = u64::MAX;
/// One that asks a peer, but no arbiter.
const PEER_AUDIT: u64 = u32::MAX as u64;
const ARBITER: u32 = 9;

impl Bench {
    /// Workers 1 to `count`, proven, each of a domain of its own; with an arbiter if there is to be one.
    fn with_proven(count: u32, has_arbiter: bool) -> Bench {
        let mut bench = Bench::start(&[]);
        for number in 1..=count {
            let standing = Standing { k_milli: PROVEN, ..Standing::default() };
            bench.join(Joining {
                standing,
                domain: format!("d{number}"),
                prior: Prior::Foreign,
                ..joining(number)
            });
        }
        if has_arbiter {
            bench.join(Joining { is_arbiter: true, domain: "ours".to_owned(), ..joining(ARBITER) });
        }
        bench
    }

    fn submit_with(&mut self, run: u128, verify: Verify, lottery: u64) {
        self.submit(Submission { lottery, ..submission(run, 1, verify) });
    }

    /// Submits it and lets those who are asked vote for what `result_of` says, until nobody is asked; how many were.
    fn drive(&mut self, run: u128, verify: Verify, lottery: u64, result_of: impl Fn(u32) -> u8) -> Vec<u32> {
        self.submit_with(run, verify, lottery);
        self.answer(result_of)
    }

    fn answer(&mut self, result_of: impl Fn(u32) -> u8) -> Vec<u32> {
        let mut asked = Vec::new();
        let mut seen = Vec::new();
        loop {
            let new = self.effects.split_off(0);
            let assigned: Vec<(AttemptId, WorkerId)> = new
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Assign { attempt, worker, .. } => Some((*attempt, *worker)),
                    _ => None,
                })
                .collect();
            seen.extend(new.into_iter().filter(|effect| !matches!(effect, Effect::Assign { .. })));
            if assigned.is_empty() {
                self.effects = seen;
                return asked;
            }
            for (attempt, by) in assigned {
                asked.push(by.0);
                self.vote(attempt.run.0, attempt.number, 1, by.0, result_of(by.0));
                self.step(Event::Credits { worker: by, credits: 4 });
            }
        }
    }

    fn finished(&mut self) -> Final {
        let last = self.last_final().expect("it is final").clone();
        self.step(Event::Committed { run: last.run, write: WriteKind::Finished });
        last
    }

    /// What was told of workers since the last look.
    fn told(&mut self) -> Vec<String> {
        let told = |effect: &Effect| match effect {
            Effect::Evidence { worker, evidence, .. } => match evidence {
                Evidence::Confirmed { .. } => None,
                other => Some(format!("{worker} {}", other.name())),
            },
            Effect::QuarantineWorker { worker, .. } => Some(format!("{worker} quarantined")),
            Effect::Repair { worker } => Some(format!("{worker} repair")),
            Effect::NondeterministicModule { .. } => Some("module nondeterministic".to_owned()),
            _ => None,
        };
        let all = self.effects.iter().filter_map(told).collect();
        self.effects.clear();
        all
    }

    /// Verifies the result of a run anew that was `known`, on the votes of these.
    fn reverify(&mut self, run: u128, known: u8, voters: &[u32]) {
        let reverify = Reverify {
            result: vote(known).result,
            revision: 1,
            voters: voters
                .iter()
                .map(|number| PastVoter { worker: worker(*number), class: None, code: None, is_out: false })
                .collect(),
            attempts: voters.len() as u32,
            dissents: Vec::new(),
            class: Some(Class(Digest::from_bytes([1; 32]))),
            overflowed: false,
            codes: Vec::new(),
        };
        self.submit(Submission { reverify: Some(reverify), ..submission(run, 1, Verify::Standard) });
    }

    fn reverified(&self) -> Option<&Reverified> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Reverified(reverified) => Some(reverified.as_ref()),
            _ => None,
        })
    }
}

fn honest(_: u32) -> u8 {
    1
}

#[test]
fn a_proven_worker_stands_alone_and_says_so() {
    let mut bench = Bench::with_proven(3, false);
    assert_eq!(bench.drive(5, Verify::Standard, NO_AUDIT, honest).len(), 1);
    let last = bench.finished();
    assert!(last.verdict.kind == VerdictKind::Vouched, "{:?}", last.verdict);
    assert!(last.error_ppb.is_some_and(|error| error <= 1_000_000), "{:?}", last.error_ppb);
}

#[test]
fn the_lottery_asks_a_peer_and_then_the_result_is_agreed_on() {
    let mut bench = Bench::with_proven(3, false);
    let asked = bench.drive(5, Verify::Standard, PEER_AUDIT, honest);
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0], asked[1]);
    assert!(bench.finished().verdict.kind == VerdictKind::Agreed);
}

#[test]
fn the_lottery_asks_an_arbiter_who_is_a_second_voter() {
    let mut bench = Bench::with_proven(3, true);
    let asked = bench.drive(5, Verify::Standard, u64::MAX << 32, honest);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1], ARBITER);
    assert!(bench.finished().verdict.kind == VerdictKind::Agreed);
}

#[test]
fn high_is_never_one_worker_alone() {
    let mut bench = Bench::with_proven(3, false);
    assert_eq!(bench.drive(5, Verify::High, NO_AUDIT, honest).len(), 2);
    assert!(bench.finished().error_ppb.is_some_and(|error| error <= 1_000));
}

#[test]
fn an_arbiter_settles_a_dispute_by_executing_twice_and_the_loser_is_suspect() {
    let mut bench = Bench::with_proven(3, true);
    let asked = bench.drive(5, Verify::Standard, PEER_AUDIT, |by| if by == 1 { 2 } else { 1 });
    assert_eq!(asked.iter().filter(|by| **by == ARBITER).count(), 2, "{asked:?}");
    let last = bench.finished();
    assert_eq!(last.result, Some(vote(1).result));
    let words = last.explain.iter().map(|it| it.text()).collect::<Vec<_>>().join("\n");
    assert!(words.contains("arbiters, who are trusted, executed it 2 times"), "{words}");
    assert!(!words.contains("leave an error of"), "the bound was not what decided: {words}");
    let dissented = if asked[..2].contains(&1) { vec!["w1 lone_dissent".to_owned()] } else { vec![] };
    assert_eq!(bench.told(), dissented);
    assert_eq!(bench.standing(1), WorkerStanding::Active, "once is an accident");
}

#[test]
fn a_run_waits_for_no_arbiter_that_came_back_as_one_that_cannot_settle_it() {
    let mut bench = Bench::with_proven(3, true);
    bench.step(Event::Credits { worker: worker(ARBITER), credits: 0 });
    let asked = bench.drive(5, Verify::Standard, PEER_AUDIT, |by| if by == 1 { 2 } else { 1 });
    assert!(asked.contains(&1) && asked.len() == 2, "they differ, and the arbiter has no room: {asked:?}");
    // its session is a new one, and so is its class
    let class = Class(Digest::from_bytes([2; 32]));
    let upgraded = Joining { class, is_arbiter: true, domain: "ours".to_owned(), ..joining(ARBITER) };
    bench.step(Event::WorkerJoined(Box::new(upgraded)));
    let third = bench.assigned();
    assert_eq!(third.len(), 1, "{:?}", bench.explained(5));
    assert!(!asked.contains(&third[0].3) && third[0].3 != ARBITER, "{third:?}");
}

#[test]
fn the_second_lone_dissent_ends_in_quarantine_and_in_looking_at_what_rested_on_it() {
    let mut bench = Bench::with_proven(3, true);
    for run in [5, 6] {
        assert_eq!(bench.standing(1), WorkerStanding::Active);
        bench.drive(run, Verify::Quorum { n: 3 }, NO_AUDIT, |by| if by == 1 { 2 } else { 1 });
        bench.finished();
    }
    assert_eq!(
        bench.told(),
        ["w1 lone_dissent", "w1 lone_dissent", "w1 quarantined", "w1 repair"].map(str::to_owned)
    );
    assert_eq!(bench.standing(1), WorkerStanding::Quarantined);
}

#[test]
fn the_same_wrong_digest_from_two_is_no_accident() {
    let mut bench = Bench::with_proven(2, true);
    bench.join(Joining { domain: "d3".to_owned(), ..joining(3) });
    bench.drive(5, Verify::Quorum { n: 3 }, NO_AUDIT, |by| if by == 3 { 1 } else { 2 });
    bench.finished();
    assert_eq!(bench.told(), ["w3 lone_dissent".to_owned()], "two of three are a majority, as was asked for");
    bench.reverify(5, 2, &[1, 2]);
    let asked = bench.answer(|by| if by == ARBITER { 1 } else { 2 });
    assert!(asked.contains(&ARBITER), "{asked:?}");
    let told = bench.told();
    for number in [1, 2] {
        assert!(told.contains(&format!("w{number} collusion")), "{told:?}");
        assert_eq!(bench.standing(number), WorkerStanding::Quarantined);
    }
}

#[test]
fn where_trusted_executions_differ_the_module_is_to_blame() {
    let mut bench = Bench::with_proven(3, true);
    bench.submit_with(5, Verify::Standard, PEER_AUDIT);
    let mut executions = 0;
    while bench.last_final().is_none() {
        let assigned = bench.assigned();
        assert!(!assigned.is_empty(), "{:?}", bench.explained(5));
        for (run, number, epoch, by) in assigned {
            executions += 1;
            bench.vote(run, number, epoch, by, executions);
        }
    }
    let last = bench.finished();
    assert_eq!(last.reason, Some(FailReason::Nondeterministic));
    assert_eq!(executions, 4, "two workers, and the arbiter twice");
    assert_eq!(bench.told(), ["module nondeterministic".to_owned()]);
    // and nobody is blamed for it afterwards
    bench.drive(6, Verify::Quorum { n: 3 }, NO_AUDIT, |by| if by == 1 { 2 } else { 1 });
    bench.finished();
    assert_eq!(bench.told(), Vec::<String>::new());
}

/// Submits a run that a peer checks, of which every execution gives what `result_of` says: of which worker, and how many were
/// before. How it ends, in an instant.
fn executed(bench: &mut Bench, run: u128, result_of: impl Fn(u32, u8) -> u8) -> Final {
    let executions = std::cell::Cell::new(0);
    bench.drive(run, Verify::Standard, PEER_AUDIT, |by| {
        executions.set(executions.get() + 1);
        result_of(by, executions.get())
    });
    bench.finished()
}

#[test]
fn a_nondeterministic_module_is_found_after_three_runs_where_there_is_no_arbiter() {
    for workers in [3, 4, 9] {
        let mut bench = Bench::with_proven(workers, false);
        for run in [5, 6] {
            let last = executed(&mut bench, run, |_, executions| executions);
            assert_eq!(last.reason, Some(FailReason::NoQuorum), "{workers} workers");
            assert_eq!(last.attempts.len(), workers.min(7) as usize);
            let words = last.explain.iter().map(|it| it.text()).collect::<Vec<_>>().join("\n");
            assert!(words.contains("or its module is not deterministic"), "{words}");
            assert_eq!(bench.told(), Vec::<String>::new());
        }
        let last = executed(&mut bench, 7, |_, executions| executions);
        assert_eq!((last.reason, last.attempts.len()), (Some(FailReason::Nondeterministic), 3));
        assert_eq!(bench.told(), ["module nondeterministic".to_owned()]);
        let last = executed(&mut bench, 8, |_, executions| executions);
        assert_eq!(
            (last.reason, last.attempts.len()),
            (Some(FailReason::Nondeterministic), 3),
            "from now on"
        );
    }
}

#[test]
fn what_a_nondeterministic_module_said_against_workers_is_taken_back() {
    let mut bench = Bench::with_proven(9, false);
    for run in 100..124 {
        assert!(executed(&mut bench, run, |_, _| 1).result.is_some());
    }
    bench.told();
    // it is known to agree, so the two that lose first are blamed for it
    let mut blamed: Vec<String> = Vec::new();
    for run in [5, 6] {
        let lies = std::cell::Cell::new(1);
        let last = executed(&mut bench, run, |by, _| {
            let is_first = !blamed.iter().any(|it| it.starts_with(&format!("w{by} ")));
            lies.set(lies.get() + u8::from(is_first));
            if is_first && lies.get() <= 3 { lies.get() } else { 1 }
        });
        assert_eq!(last.result, Some(vote(1).result));
        blamed.extend(bench.told());
    }
    let dissents: Vec<&String> =
        blamed.iter().filter(|it| it.ends_with(&Evidence::LoneDissent.name())).collect();
    assert_eq!(dissents.len(), 4, "{blamed:?}");
    let who: Vec<String> = dissents.iter().map(|it| it[..2].to_owned()).collect();
    let view = |bench: &Bench, who: &str| bench.pool.worker(worker(who[1..].parse().unwrap())).unwrap();
    assert!(who.iter().all(|it| view(&bench, it).evidence.suspect_since.is_some()));
    let last = executed(&mut bench, 7, |_, executions| executions);
    assert_eq!(last.reason, Some(FailReason::Nondeterministic));
    let told = bench.told();
    for it in &who {
        assert!(told.contains(&format!("{it} {}", Evidence::Absolved.name())), "{told:?}");
        let evidence = view(&bench, it).evidence;
        assert!(evidence.suspect_since.is_none() && evidence.k_milli > PROVEN / 2, "{evidence:?}");
    }
}

#[test]
fn a_divided_run_waits_for_those_that_are_away_for_a_moment() {
    for is_back in [true, false] {
        let mut bench = Bench::with_proven(7, false);
        (4..=7).for_each(|number| bench.step(Event::WorkerLeft { worker: worker(number) }));
        assert_eq!(bench.drive(5, Verify::Standard, PEER_AUDIT, |by| by as u8).len(), 3);
        bench.wait_with(10_000, &[1, 2, 3]);
        assert!(bench.last_final().is_none(), "they could settle it");
        if is_back {
            let standing = Standing { k_milli: PROVEN, ..Standing::default() };
            let domain = "d4".to_owned();
            bench.join(Joining { standing, domain, prior: Prior::Foreign, ..joining(4) });
            assert_eq!(bench.answer(|_| 1), [4]);
        } else {
            bench.wait_with(55_000, &[1, 2, 3]);
            assert_eq!(bench.finished().reason, Some(FailReason::NoQuorum));
        }
    }
}

#[test]
fn two_liars_that_contradict_each_other_make_no_module_nondeterministic() {
    let mut bench = Bench::with_proven(7, false);
    // both lie, whoever else is asked
    let lie = |by, _| if by <= 2 { 10 + by as u8 } else { 1 };
    let mut divided = 0;
    for run in 5..60 {
        let last = executed(&mut bench, run, lie);
        if let Some(result) = last.result.filter(|_| last.votes.len() > 1) {
            assert_eq!(result, vote(1).result);
        }
        let words = last.explain.iter().map(|it| it.text()).collect::<Vec<_>>().join("\n");
        divided += usize::from(words.contains("trusted workers named 3 different results"));
        assert!(!bench.told().contains(&"module nondeterministic".to_owned()));
        for liar in [1, 2] {
            let standing = Standing { k_milli: PROVEN, ..Standing::default() };
            bench.step(Event::WorkerReadmitted { worker: worker(liar) });
            let domain = format!("d{liar}");
            bench.join(Joining { standing, domain, prior: Prior::Foreign, ..joining(liar) });
        }
    }
    assert!(divided >= 1, "{divided}");
}

#[test]
fn what_is_confirmed_stays_and_is_told() {
    let mut bench = Bench::with_proven(3, true);
    bench.reverify(5, 1, &[3]);
    let asked = bench.answer(honest);
    let reverified = bench.reverified().expect("it has ended");
    assert_eq!(reverified.conclusion, Conclusion::Confirmed);
    assert_eq!((reverified.last.revision, reverified.last.result), (1, Some(vote(1).result)));
    assert_eq!(asked, [ARBITER], "its word is enough for what was known");
    let words = reverified.last.explain.iter().map(|it| it.text()).collect::<Vec<_>>().join("\n");
    assert!(
        words.contains("confirmed by the word of an arbiter") && !words.contains("leave an error"),
        "{words}"
    );
    assert!(bench.pool.run(RunId(5)).is_none(), "the pool has forgotten it");
}

#[test]
fn without_an_arbiter_two_trusted_domains_confirm() {
    let mut bench = Bench::with_proven(3, false);
    bench.reverify(5, 1, &[3]);
    assert_eq!(bench.answer(honest).len(), 2);
    assert_eq!(bench.reverified().map(|it| it.conclusion), Some(Conclusion::Confirmed));
}

#[test]
fn what_was_wrong_becomes_the_next_revision() {
    let mut bench = Bench::with_proven(3, true);
    bench.reverify(5, 2, &[3]);
    bench.answer(honest);
    let corrected = bench.effects.iter().find_map(|effect| match effect {
        Effect::Write(Write::Correct(last)) => Some(last.as_ref().clone()),
        _ => None,
    });
    let corrected = corrected.expect("a correction");
    assert_eq!((corrected.revision, corrected.result), (2, Some(vote(1).result)));
    let words = corrected.explain.iter().map(|it| it.text()).collect::<Vec<_>>().join("\n");
    assert!(words.contains("arbiters, who are trusted, executed it 2 times"), "{words}");
    assert!(bench.reverified().is_none());
    bench.step(Event::Committed { run: RunId(5), write: WriteKind::Finished });
    assert!(bench.pool.run(RunId(5)).is_none());
}

#[test]
fn what_nobody_can_verify_stays_undecided() {
    let mut bench = Bench::with_proven(2, false);
    bench.reverify(5, 1, &[1]);
    bench.step(Event::WorkerQuarantined { worker: worker(1), why: "seen lying".to_owned() });
    bench.answer(honest);
    for _ in 0..140 {
        bench.wait_with(500, &[2]);
    }
    assert_eq!(bench.reverified().map(|it| it.conclusion), Some(Conclusion::Undecided));
}

#[test]
fn a_slow_attempt_gets_company_and_the_first_to_vote_is_taken() {
    let mut bench = Bench::with_proven(2, false);
    // forty attempts earn two second ones
    for run in 100..140 {
        assert_eq!(bench.drive(run, Verify::Once, NO_AUDIT, honest).len(), 1);
        bench.finished();
    }
    bench.effects.clear();
    bench.submit_with(5, Verify::Once, NO_AUDIT);
    let first = bench.assigned()[0];
    bench.step(Event::AttemptBegun { attempt: attempt(5, 1), worker: worker(first.3), at: bench.now });
    for _ in 0..4 {
        bench.wait(500);
        let cpu_us = bench.now.0 / 2;
        bench.beat(first.3, vec![Beat { attempt: attempt(5, 1), cpu_us, begun_at: None }]);
        bench.beat(3 - first.3, Vec::new());
    }
    let second = bench.assigned();
    assert_eq!(second.iter().map(|it| (it.0, it.1, it.3)).collect::<Vec<_>>(), [(5, 2, 3 - first.3)]);
    bench.vote(5, 2, 1, 3 - first.3, 1);
    assert!(bench.last_final().is_some(), "nobody waits for the slow one");
    let aborted = Effect::Abort { attempt: attempt(5, 1), worker: worker(first.3) };
    assert!(bench.effects.contains(&aborted));
}

#[test]
fn a_pool_that_is_slow_as_a_whole_is_not_made_slower() {
    let mut bench = Bench::with_proven(4, false);
    let mut second = 0;
    for run in 5..8 {
        bench.submit_with(run, Verify::Once, NO_AUDIT);
        let first = bench.assigned()[0];
        bench.step(Event::AttemptBegun { attempt: attempt(run, 1), worker: worker(first.3), at: bench.now });
    }
    for tick in 1..8 {
        bench.wait(500);
        for number in 1..=4 {
            let holds = bench.pool.worker(worker(number)).unwrap().holds;
            let beat = |attempt| Beat { attempt, cpu_us: tick * 400_000, begun_at: None };
            bench.beat(number, holds.into_iter().map(beat).collect());
        }
        second += bench.assigned().len();
    }
    assert_eq!(second, 0, "three attempts have earned less than one second attempt");
}

#[test]
fn a_worker_that_is_found_wrong_weighs_less_in_what_is_still_open() {
    let mut bench = Bench::with_proven(3, false);
    bench.submit_with(5, Verify::High, NO_AUDIT);
    let [first, second] = bench.assigned()[..] else { panic!("as few as could do, at once") };
    bench.vote(5, 1, 1, first.3, 1);
    // meanwhile it is the lone dissenter of another run
    bench.drive(6, Verify::Quorum { n: 3 }, NO_AUDIT, |by| if by == first.3 { 2 } else { 1 });
    assert!(bench.says(5, "lost its confirmations elsewhere: its vote weighs less here"));
    let votes = bench
        .pool
        .run(RunId(5))
        .unwrap()
        .attempts
        .iter()
        .filter(|it| matches!(it.state, AttemptState::Voted { .. }))
        .count();
    assert_eq!(votes, 2, "two of them would have done before");
    bench.vote(5, 2, 1, second.3, 1);
    assert!(bench.last_final().is_some_and(|last| last.run == RunId(5) && last.verdict.votes == 3));
}

/// A worker of a domain of its own, with so many confirmations.
fn confirmed(number: u32, k: u64) -> Joining {
    let standing = Standing { k_milli: k * 1_000, ..Standing::default() };
    Joining { standing, domain: format!("d{number}"), prior: Prior::Foreign, ..joining(number) }
}

#[test]
fn nothing_is_decided_by_a_vote_whose_worker_was_caught_by_the_same_event() {
    let mut bench = Bench::start(&[]);
    let open =
        |run, verify| Submission { recovered: true, lottery: PEER_AUDIT, ..submission(run, 1, verify) };
    // all but w3 agree on run 6: its word makes that too little
    bench.join(confirmed(1, 100));
    bench.join(confirmed(3, 0));
    bench.submit(Submission { memory_bytes: 1 << 29, ..open(6, Verify::High) });
    assert_eq!(bench.answer(|by| if by == 3 { 2 } else { 1 }).len(), 2);
    bench.step(Event::Credits { worker: worker(3), credits: 0 });
    bench.join(confirmed(4, 150));
    assert_eq!(bench.answer(honest), [4]);
    // w1 and w3 name the same on run 5, the others something else
    let lies = |by: u32| if by < 4 { 2 } else { 1 };
    bench.submit(open(5, Verify::Standard));
    assert_eq!(bench.answer(lies).len(), 2);
    bench.step(Event::Credits { worker: worker(3), credits: 4 });
    assert_eq!(bench.answer(lies), [3]);
    bench.join(Joining { memory_bytes: 1 << 28, ..confirmed(5, 150) });
    assert_eq!(bench.answer(lies), [5]);
    assert!(bench.last_final().is_none());
    bench.step(Event::WorkerQuarantined { worker: worker(3), why: "bad memory".to_owned() });
    // run 5 is decided and tells of w1 that it lied: by its word run 6 cannot be any more
    assert_eq!(bench.last_final().map(|last| last.run), Some(RunId(5)));
    assert!(bench.says(6, "lost its confirmations"), "{:?}", bench.explained(6));
}
