//! The numbers of the reference, and the rule once more in floating point.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::evidence::error_ppb;

const NO_AUDIT: u64 = u64::MAX;

fn digest(result: u8) -> Digest {
    Digest::from_bytes([result; 32])
}

fn opinion(worker: u32, result: u8, faulty_ppb: u64, k: u64) -> Opinion {
    let error_ppb = error_ppb(faulty_ppb, k * 1_000);
    let weight = Weight { error_ppb, k_milli: k * 1_000, domain: worker, is_arbiter: false };
    Opinion { worker: WorkerId(worker), result: digest(result), weight }
}

fn foreign(worker: u32, result: u8, k: u64) -> Opinion {
    opinion(worker, result, 200_000_000, k)
}

fn arbiter(worker: u32, result: u8) -> Opinion {
    Opinion { weight: arbiter_weight(worker, 0), ..foreign(worker, result, 0) }
}

fn rule(epsilon_ppb: u64) -> Rule {
    Rule { epsilon_ppb, lottery: NO_AUDIT, arbiters: 0, reverify: None, is_nondeterministic: false }
}

const STANDARD: u64 = 1_000_000;
const HIGH: u64 = 1_000;

fn wanted(said: Weighing) -> Option<Seat> {
    match said {
        Weighing::Wanting { seat, .. } => Some(seat),
        _ => None,
    }
}

fn decided(result: u8) -> Weighing {
    Weighing::Decided { result: digest(result) }
}

#[test]
fn the_numbers_of_the_reference() {
    let two: Vec<Opinion> = (0..2).map(|worker| opinion(worker, 1, 100_000_000, 100)).collect();
    let error = group_error_ppb(&two, digest(1));
    assert!((160..175).contains(&error), "two of k = 100 at f = .1: 1.7e-7, not {error}e-9");
    let five: Vec<Opinion> = (0..5).map(|worker| foreign(worker, 1, 0)).collect();
    let error = group_error_ppb(&five, digest(1));
    assert!((970_000..980_000).contains(&error), "five newcomers at f = .2: 9.8e-4, not {error}e-9");
    assert_eq!(wanted(weigh(&rule(STANDARD), &five[..4])), Some(Seat::Voter));
    assert_eq!(weigh(&rule(STANDARD), &five), decided(1));
    assert_eq!(weigh(&rule(STANDARD), &[foreign(1, 1, 92)]), decided(1));
    assert_eq!(wanted(weigh(&rule(STANDARD), &[foreign(1, 1, 91)])), Some(Seat::Voter));
    assert_eq!(wanted(weigh(&rule(HIGH), &[foreign(1, 1, 1_000)])), Some(Seat::Voter), "never one alone");
    assert_eq!(weigh(&rule(HIGH), &[foreign(1, 1, 100), foreign(2, 1, 100)]), decided(1));
}

#[test]
fn members_of_one_domain_count_as_the_best_of_them() {
    let mut votes: Vec<Opinion> = (0..5).map(|worker| foreign(worker, 1, u64::from(worker))).collect();
    votes.iter_mut().for_each(|vote| vote.weight.domain = 9);
    assert_eq!(group_error_ppb(&votes, digest(1)), group_error_ppb(&votes[4..], digest(1)));
}

#[test]
fn a_newcomer_never_stands_alone_even_where_the_numbers_would_do() {
    // an operator's own worker: 1e-3 is reached at k = 8
    let own = |k| opinion(1, 1, 20_000_000, k);
    assert!(group_error_ppb(&[own(9)], digest(1)) <= STANDARD);
    let said = weigh(&rule(STANDARD), &[own(9)]);
    assert_eq!(said, Weighing::Wanting { seat: Seat::Voter, why: Why::Newcomers { k_milli: 9_000 } });
    assert_eq!(wanted(weigh(&rule(STANDARD), &[own(13)])), Some(Seat::Voter), "audited 13 times in 13");
    assert_eq!(weigh(&rule(STANDARD), &[own(14)]), decided(1));
    let newcomers: Vec<Opinion> = (0..5).map(|worker| foreign(worker, 1, 0)).collect();
    let with_arbiter = Rule { arbiters: 1, ..rule(STANDARD) };
    assert_eq!(wanted(weigh(&with_arbiter, &newcomers)), Some(Seat::Arbiter));
}

#[test]
fn the_lottery_draws_as_often_as_it_should_and_its_halves_are_independent() {
    assert_eq!(Rule::audit_ppm(100_000), 130_000);
    assert_eq!(Rule::audit_ppm(1_000_000), 13_000);
    assert_eq!(Rule::audit_ppm(u64::MAX), AUDIT_MIN_PPM);
    assert_eq!(Rule::audit_ppm(0), 1_000_000);
    let votes = [foreign(1, 1, 200)];
    let (mut peers, mut arbiters, mut both) = (0, 0, 0);
    let mut lottery = 1u64;
    for _ in 0..100_000 {
        lottery = lottery.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (lottery ^ (lottery >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let rule = Rule { lottery: mixed ^ (mixed >> 32), arbiters: 1, ..rule(STANDARD) };
        let peer = rule.draws_peer(200_000);
        let arbiter = rule.draws_arbiter();
        (peers, arbiters, both) =
            (peers + u32::from(peer), arbiters + u32::from(arbiter), both + u32::from(peer && arbiter));
        let expected = if arbiter { Some(Seat::Arbiter) } else { peer.then_some(Seat::Voter) };
        assert_eq!(wanted(weigh(&rule, &votes)), expected);
    }
    assert!((6_200..6_800).contains(&peers), "{peers} of 6,500");
    assert!((870..1_130).contains(&arbiters), "{arbiters} of 1,000");
    assert!((30..110).contains(&both), "{both} of 65");
}

#[test]
fn an_arbiter_settles_a_dispute_by_executing_twice() {
    let rule = Rule { arbiters: 1, ..rule(STANDARD) };
    let mut votes = vec![foreign(1, 1, 500), foreign(2, 2, 500)];
    let asked = |again| Weighing::Wanting { seat: Seat::Arbiter, why: Why::Arbitrate { again } };
    assert_eq!(weigh(&rule, &votes), asked(false));
    votes.push(arbiter(9, 2));
    assert_eq!(weigh(&rule, &votes), asked(true));
    votes.push(arbiter(9, 2));
    assert_eq!(weigh(&rule, &votes), decided(2));
    votes[3] = arbiter(9, 3);
    assert_eq!(weigh(&rule, &votes), Weighing::Nondeterministic);
}

#[test]
fn without_an_arbiter_a_dispute_needs_a_group_or_ends() {
    let rule = rule(STANDARD);
    let proven = |worker, result| foreign(worker, result, 1_000);
    assert_eq!(wanted(weigh(&rule, &[proven(1, 1), foreign(2, 2, 0)])), Some(Seat::Voter), "never by one");
    assert_eq!(weigh(&rule, &[proven(1, 1), foreign(2, 2, 0), proven(3, 1)]), decided(1));
    let three = [proven(1, 1), proven(2, 2), proven(3, 3)];
    assert_eq!(wanted(weigh(&rule, &three)), Some(Seat::Voter), "two of them may lie");
    let known = Rule { is_nondeterministic: true, ..rule };
    assert_eq!(weigh(&known, &three), Weighing::Nondeterministic);
    assert_eq!(split(&three).len(), 3);
    assert!(split(&[proven(1, 1), proven(2, 2), foreign(3, 3, 0)]).is_empty(), "a newcomer divides nothing");
    assert!(split(&[proven(1, 1), proven(2, 2), proven(2, 3)]).is_empty(), "nor do two domains");
    let seven: Vec<Opinion> = (0..7).map(|worker| foreign(worker, worker as u8 % 3, 0)).collect();
    assert_eq!(weigh(&rule, &seven), Weighing::Disputed);
    assert_eq!(wanted(weigh(&rule, &seven[..6])), Some(Seat::Voter));
}

#[test]
fn what_is_verified_anew_needs_an_arbiter_or_two_that_are_proven() {
    let again = |arbiters| Rule { arbiters, reverify: Some(digest(1)), ..rule(STANDARD) };
    assert_eq!(wanted(weigh(&again(1), &[])), Some(Seat::Arbiter));
    assert_eq!(weigh(&again(1), &[arbiter(9, 1)]), decided(1), "it confirms");
    assert_eq!(wanted(weigh(&again(1), &[arbiter(9, 2)])), Some(Seat::Arbiter), "a change is checked");
    assert_eq!(weigh(&again(1), &[arbiter(9, 2), arbiter(9, 2)]), decided(2));
    assert_eq!(weigh(&again(1), &[arbiter(9, 2), arbiter(9, 1)]), Weighing::Nondeterministic);
    assert_eq!(wanted(weigh(&again(0), &[])), Some(Seat::Voter));
    assert_eq!(wanted(weigh(&again(0), &[foreign(1, 1, 500)])), Some(Seat::Voter));
    assert_eq!(weigh(&again(0), &[foreign(1, 2, 500), foreign(2, 2, 500)]), decided(2));
    let newcomers: Vec<Opinion> = (0..6).map(|worker| foreign(worker, 1, 1)).collect();
    assert_eq!(wanted(weigh(&again(0), &newcomers)), Some(Seat::Voter), "newcomers do not do");
}

/// The group credibility as it is written in the literature, in floating point.
fn naive_error(votes: &[Opinion], result: Digest) -> f64 {
    let mut groups: BTreeMap<Digest, BTreeMap<u32, f64>> = BTreeMap::new();
    for vote in votes {
        let error = vote.weight.error_ppb as f64 / 1e9;
        let best = groups.entry(vote.result).or_default().entry(vote.weight.domain).or_insert(1.0);
        *best = best.min(error);
    }
    let good = |group: &BTreeMap<u32, f64>| group.values().map(|error| 1.0 - error).product::<f64>();
    let bad = |group: &BTreeMap<u32, f64>| group.values().product::<f64>();
    let term = |result: &Digest| {
        let others = groups.iter().filter(|(other, _)| *other != result);
        good(&groups[result]) * others.map(|(_, group)| bad(group)).product::<f64>()
    };
    let all_bad: f64 = groups.values().map(bad).product();
    let rest: f64 = all_bad + groups.keys().filter(|other| **other != result).map(term).sum::<f64>();
    rest / (rest + term(&result))
}

fn any_votes() -> impl Strategy<Value = Vec<Opinion>> {
    let one = (0u8..3, prop_oneof![Just(0u64), 1u64..20, 20u64..2_000], 0u32..9, prop::bool::weighted(0.1));
    prop::collection::vec(one, 1..8).prop_map(|votes| {
        let of = |(place, (result, k, domain, owned)): (usize, (u8, u64, u32, bool))| {
            let faulty = if owned { 20_000_000 } else { 200_000_000 };
            let vote = opinion(place as u32, result, faulty, k);
            Opinion { weight: Weight { domain, ..vote.weight }, ..vote }
        };
        votes.into_iter().enumerate().map(of).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_integers_agree_with_the_formula(votes in any_votes()) {
        for result in results(&votes) {
            let (said, exact) = (group_error_ppb(&votes, result) as f64 / 1e9, naive_error(&votes, result));
            // odds are cut to thousandths: of the smallest, 4.0, that is a quarter of a thousandth each
            prop_assert!((said - exact).abs() <= 2e-9 + exact * 2e-3, "{said} {exact}");
        }
    }

    #[test]
    fn what_is_accepted_without_an_arbiter_satisfies_the_naive_rule(votes in any_votes(), lottery: u64) {
        let rule = Rule { lottery, ..rule(STANDARD) };
        if let Weighing::Decided { result } = weigh(&rule, &votes) {
            prop_assert!(naive_error(&votes, result) <= 1.003e-3);
            let mine: Vec<&Opinion> = votes.iter().filter(|vote| vote.result == result).collect();
            let is_disputed = mine.len() < votes.len();
            if mine.len() == 1 {
                prop_assert!(mine[0].weight.k_milli >= 10_000 && !is_disputed);
                let drawn = (lottery >> 32) as f64 / 2f64.powi(32);
                prop_assert!(drawn >= (13.0 / (mine[0].weight.k_milli as f64 / 1e3)).max(0.01) - 1e-6);
            }
        }
    }

    #[test]
    fn a_better_member_never_makes_its_group_worse(votes in any_votes(), which in 0usize..8, k in 0u64..2_000) {
        let which = which % votes.len();
        let result = votes[which].result;
        let mut better = votes.clone();
        let error = error_ppb(200_000_000, k * 1_000).min(votes[which].weight.error_ppb);
        better[which].weight.error_ppb = error;
        prop_assert!(group_error_ppb(&better, result) <= group_error_ppb(&votes, result));
    }

    #[test]
    fn a_worker_with_the_missing_odds_brings_the_group_over(votes in any_votes(), k in 0u64..2_000) {
        let result = votes[0].result;
        let group: Vec<Opinion> = votes.into_iter().filter(|vote| vote.result == result).collect();
        let missing = missing_odds_milli(&group, result, STANDARD);
        prop_assert_eq!(missing == 0, group_error_ppb(&group, result) <= STANDARD);
        let mut with = group.clone();
        with.push(foreign(99, result.as_bytes()[0], k));
        if with[group.len()].weight.odds_milli() >= missing {
            prop_assert!(group_error_ppb(&with, result) <= STANDARD + 300, "rounding only");
        }
    }
}
