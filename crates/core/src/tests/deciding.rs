//! Whether those who are there could decide a run under a policy that weighs votes.

use super::*;
use vocabulary::result::VerdictKind;
use vocabulary::spec::Placement;

fn own(number: u32) -> Joining {
    Joining { domain: OWN_DOMAIN.to_owned(), ..joining(number) }
}

fn foreign(number: u32, domain: &str) -> Joining {
    Joining { domain: domain.to_owned(), prior: Prior::Foreign, ..joining(number) }
}

fn arbiter(number: u32) -> Joining {
    Joining { is_arbiter: true, ..own(number) }
}

/// A run under `standard`; what is refused, or who is asked at once.
fn submitted(bench: &mut Bench, verify: Verify) -> Result<usize, SubmitError> {
    bench.pool.submit(bench.now, submission(5, 7, verify), &mut bench.effects)?;
    Ok(bench.assigned().len())
}

/// Everybody who is asked names the same until it ends; its verdict and its attempts.
fn agreed(bench: &mut Bench) -> (VerdictKind, usize) {
    loop {
        let view = bench.pool.run(RunId(5)).expect("it is open");
        let live = view.attempts.iter().find(|attempt| attempt.state.is_live()).expect("somebody is asked");
        let (number, by) = (live.number, live.worker.0);
        bench.vote(5, number, 7, by, 1);
        if let Some(last) = bench.last_final() {
            return (last.verdict.kind, last.attempts.len());
        }
    }
}

#[test]
fn one_worker_alone_decides_nothing_and_two_of_the_operators_own_do() {
    let mut bench = Bench::start(&[]);
    bench.join(own(1));
    for verify in [Verify::Standard, Verify::High] {
        let refused = submitted(&mut bench, verify).expect_err("it is refused");
        assert_eq!(refused, SubmitError::Undecidable { verify, there: 1, domains: 1, error_ppb: 20_000_000 });
    }
    bench.join(own(2));
    assert_eq!(submitted(&mut bench, Verify::Standard), Ok(2));
    assert_eq!(agreed(&mut bench), (VerdictKind::Agreed, 2));
}

#[test]
fn one_that_carries_the_labels_is_as_good_as_alone() {
    let mut bench = Bench::start(&[]);
    bench.join(Joining { labels: BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]), ..own(1) });
    bench.join(own(2));
    let mut asking = submission(5, 7, Verify::Standard);
    asking.policy.placement = Placement::Labels { labels: [("gpu".to_owned(), "yes".to_owned())].into() };
    let refused = bench.pool.submit(bench.now, asking, &mut bench.effects).expect_err("it is refused");
    assert!(matches!(refused, SubmitError::Undecidable { there: 1, .. }), "{refused}");
}

#[test]
fn strangers_of_one_domain_need_five_and_of_two_domains_somebody_more() {
    let mut bench = Bench::start(&[]);
    (1..=4).for_each(|number| bench.join(foreign(number, "ada")));
    let refused = submitted(&mut bench, Verify::Standard).expect_err("4^4 is below 999");
    assert!(
        matches!(refused, SubmitError::Undecidable { there: 4, domains: 4, error_ppb: 3_891_051, .. }),
        "each is a fault domain where there is but one domain: {refused:?}"
    );
    bench.join(foreign(5, "ada"));
    // a sixth, of another domain, makes one of the five
    bench.join(foreign(6, "bob"));
    let refused = submitted(&mut bench, Verify::Standard).expect_err("two domains");
    assert!(matches!(refused, SubmitError::Undecidable { there: 6, domains: 2, .. }), "{refused:?}");
    bench.step(Event::WorkerLeft { worker: worker(6) });
    submitted(&mut bench, Verify::Standard).expect("it is accepted");
    assert_eq!(agreed(&mut bench), (VerdictKind::Agreed, 5));
}

#[test]
fn a_stranger_takes_nothing_from_the_operators_own() {
    let mut bench = Bench::start(&[]);
    (1..=2).for_each(|number| bench.join(own(number)));
    bench.step(Event::WorkerJoined(Box::new(foreign(3, "ada"))));
    assert_eq!(submitted(&mut bench, Verify::Standard), Ok(2), "it has no room, and need not be waited for");
    assert_eq!(agreed(&mut bench), (VerdictKind::Agreed, 2));
}

#[test]
fn the_operators_own_of_another_domain_count_once() {
    let mut bench = Bench::start(&[]);
    (1..=3).for_each(|number| bench.join(Joining { domain: "rack".to_owned(), ..joining(number) }));
    bench.join(foreign(4, "ada"));
    let refused = submitted(&mut bench, Verify::Standard).expect_err("49 · 4 is below 999");
    assert!(matches!(refused, SubmitError::Undecidable { there: 4, domains: 2, .. }), "{refused:?}");
    bench.join(own(5));
    submitted(&mut bench, Verify::Standard).expect("49 · 49 · 4 is not");
    assert_eq!(agreed(&mut bench).0, VerdictKind::Agreed);
}

#[test]
fn where_nobody_else_is_left_an_arbiter_votes() {
    let mut bench = Bench::start(&[]);
    bench.join(foreign(1, "ada"));
    bench.join(arbiter(2));
    assert_eq!(submitted(&mut bench, Verify::Standard), Ok(2));
    assert_eq!(agreed(&mut bench), (VerdictKind::Agreed, 2));
    let refused = {
        let next = submission(6, 7, Verify::High);
        bench.pool.submit(bench.now, next, &mut bench.effects).expect_err("4 · 9999 is below 10^6")
    };
    assert!(matches!(refused, SubmitError::Undecidable { there: 2, domains: 2, .. }), "{refused:?}");
}

#[test]
fn those_of_another_class_are_no_help() {
    let mut bench = Bench::start(&[]);
    bench.join(own(1));
    bench.join(Joining { class: Class(Digest::from_bytes([2; 32])), ..own(2) });
    let refused = submitted(&mut bench, Verify::Standard).expect_err("nobody to compare with");
    assert!(matches!(refused, SubmitError::Undecidable { there: 1, .. }), "{refused:?}");
}

#[test]
fn a_run_whose_second_voter_vanishes_ends_and_says_what_is_missing() {
    let mut bench = Bench::start(&[]);
    (1..=2).for_each(|number| bench.join(own(number)));
    assert_eq!(submitted(&mut bench, Verify::Standard), Ok(2));
    bench.vote(5, 1, 7, 1, 1);
    bench.step(Event::WorkerLeft { worker: worker(2) });
    bench.wait_with(59_000, &[1]);
    assert!(bench.last_final().is_none());
    assert!(bench.says(5, "none may take another attempt of it"), "{:?}", bench.explained(5));
    bench.wait_with(2_000, &[1]);
    let last = bench.last_final().expect("it gave up");
    assert_eq!(last.reason, Some(FailReason::NoQuorum));
    let words = last.explain.last().expect("it says why").text();
    assert!(
        words.contains("the votes leave an error of 0.02, and 0.001 is allowed: more workers"),
        "{words}"
    );
}
