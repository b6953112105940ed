//! The rule of the votes, and nothing else.
//!
//! Votes are taken in the order in which they arrived. Among the first n their order is irrelevant; later ones decide
//! only what these left open, so a decision never changes because of a further vote. The caller sees to it that the
//! votes are of distinct workers (I4) and of one class.

use vocabulary::digest::Digest;
use vocabulary::id::WorkerId;
use vocabulary::spec::Verify;

/// Voters that a quorum may add, one at a time, when the first n disagree.
pub const EXTRA_VOTERS_MAX: u8 = 2;

/// What the votes say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tally {
    /// Nothing yet.
    Open {
        /// Further votes to ask for at once, at least 1.
        more: u32,
    },
    /// The vote of a trusted executor is wanted.
    Arbiter,
    /// One result won.
    Decided {
        /// The result.
        result: Digest,
        /// Votes for it.
        votes: u32,
        /// Who voted for anything else, in the order of their votes.
        dissenters: Vec<WorkerId>,
    },
    /// All voters that the policy allows have voted, and no result won.
    Disputed,
    /// Executions that are trusted differ.
    Nondeterministic,
}

/// Equal votes that a quorum of `n` needs: a majority of n, also when more than n have voted.
pub const fn majority(n: u8) -> usize {
    n as usize / 2 + 1
}

/// Applies the policy to the votes.
///
/// `once`: the first vote decides. The adaptive policies weigh their votes (`credibility`); counted here, one would do. `quorum n`: as soon as n votes are in, a result with floor(n/2)+1 of them wins;
/// otherwise one more vote at a time, until one has as many or n + 2 have voted.
pub fn tally(verify: Verify, votes: &[(WorkerId, Digest)]) -> Tally {
    let (first, needed, last) = match verify {
        Verify::Once | Verify::Standard | Verify::High => (1, 1, 1),
        Verify::Quorum { n } => (usize::from(n), majority(n), usize::from(n + EXTRA_VOTERS_MAX)),
    };
    if votes.len() < first {
        return Tally::Open { more: (first - votes.len()) as u32 };
    }
    for heard in first..=votes.len().min(last) {
        if let Some(result) = winner(&votes[..heard], needed) {
            let dissents = |(_, voted): &&(WorkerId, Digest)| *voted != result;
            let dissenters: Vec<WorkerId> =
                votes.iter().filter(dissents).map(|(worker, _)| *worker).collect();
            return Tally::Decided { result, votes: (votes.len() - dissenters.len()) as u32, dissenters };
        }
    }
    if votes.len() < last { Tally::Open { more: 1 } } else { Tally::Disputed }
}

/// The result that has `needed` of these votes. There is at most one: `needed` is a majority of the first n, and each
/// further vote is looked at alone.
fn winner(votes: &[(WorkerId, Digest)], needed: usize) -> Option<Digest> {
    let count = |result: Digest| votes.iter().filter(|(_, voted)| *voted == result).count();
    votes.iter().map(|(_, result)| *result).find(|result| count(*result) >= needed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn votes(results: &[u8]) -> Vec<(WorkerId, Digest)> {
        results.iter().enumerate().map(|(i, r)| (WorkerId(i as u32), Digest::from_bytes([*r; 32]))).collect()
    }

    fn result(tally: &Tally) -> Option<u8> {
        match tally {
            Tally::Decided { result, .. } => Some(result.as_bytes()[0]),
            _ => None,
        }
    }

    #[test]
    fn the_table_of_small_quorums() {
        let open = |more| Tally::Open { more };
        let quorum = |n, results: &[u8]| tally(Verify::Quorum { n }, &votes(results));
        assert_eq!(tally(Verify::Once, &[]), open(1));
        assert_eq!(result(&tally(Verify::Once, &votes(&[7]))), Some(7));
        assert_eq!(quorum(2, &[]), open(2));
        assert_eq!(quorum(2, &[1]), open(1));
        assert_eq!(result(&quorum(2, &[1, 1])), Some(1));
        assert_eq!(quorum(2, &[1, 2]), open(1));
        assert_eq!(result(&quorum(2, &[1, 2, 2])), Some(2));
        assert_eq!(quorum(2, &[1, 2, 3]), open(1));
        assert_eq!(result(&quorum(2, &[1, 2, 3, 1])), Some(1));
        assert_eq!(quorum(2, &[1, 2, 3, 4]), Tally::Disputed);
        assert_eq!(quorum(3, &[1, 1]), open(1), "a majority of three waits for the third vote");
        assert_eq!(result(&quorum(3, &[1, 2, 1])), Some(1));
        assert_eq!(quorum(4, &[1, 1, 2, 2]), open(1));
        assert_eq!(result(&quorum(4, &[1, 1, 2, 2, 2])), Some(2));
        assert_eq!(
            quorum(3, &[1, 2, 1]),
            Tally::Decided { result: Digest::from_bytes([1; 32]), votes: 2, dissenters: vec![WorkerId(1)] }
        );
    }

    /// The rule once more, by counting whole histograms and no shared code: replays the votes one by one and stops at
    /// the first moment at which the policy is satisfied.
    fn naive(n: usize, results: &[u8]) -> (Option<u8>, bool) {
        let mut histogram: BTreeMap<u8, usize> = BTreeMap::new();
        let mut decided = None;
        for (position, result) in results.iter().enumerate() {
            *histogram.entry(*result).or_default() += 1;
            let heard = position + 1;
            if decided.is_none() && heard >= n && heard <= n + 2 {
                decided = histogram.iter().find(|(_, count)| **count * 2 > n).map(|(result, _)| *result);
            }
        }
        (decided, decided.is_none() && results.len() >= n + 2)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn it_agrees_with_the_naive_rule(n in 2u8..=15, results in prop::collection::vec(0u8..4, 0..20)) {
            let said = tally(Verify::Quorum { n }, &votes(&results));
            let (decided, disputed) = naive(usize::from(n), &results);
            prop_assert_eq!(result(&said), decided);
            prop_assert_eq!(said == Tally::Disputed, disputed);
        }

        #[test]
        fn the_order_of_the_first_n_votes_is_irrelevant(
            (results, shuffled) in prop::collection::vec(0u8..3, 2..=15)
                .prop_flat_map(|results| (Just(results.clone()), Just(results).prop_shuffle()))
        ) {
            let policy = Verify::Quorum { n: results.len() as u8 };
            prop_assert_eq!(result(&tally(policy, &votes(&results))), result(&tally(policy, &votes(&shuffled))));
        }

        #[test]
        fn a_further_vote_never_changes_a_decision(
            n in 2u8..=7, results in prop::collection::vec(0u8..3, 0..12), further in 0u8..3
        ) {
            let policy = Verify::Quorum { n };
            let before = result(&tally(policy, &votes(&results)));
            let mut after = results.clone();
            after.push(further);
            if before.is_some() {
                prop_assert_eq!(result(&tally(policy, &votes(&after))), before);
            }
        }

        #[test]
        fn a_minority_of_n_never_wins(n in 2u8..=15, results in prop::collection::vec(0u8..4, 0..17)) {
            if let Tally::Decided { result, votes: count, dissenters } =
                tally(Verify::Quorum { n }, &votes(&results))
            {
                let byte = result.as_bytes()[0];
                let for_it = results.iter().filter(|voted| **voted == byte).count();
                prop_assert!(for_it * 2 > usize::from(n));
                prop_assert_eq!(count as usize, for_it);
                prop_assert_eq!(dissenters.len(), results.len() - for_it);
            }
        }

        #[test]
        fn what_is_asked_for_is_never_too_much(n in 2u8..=15, results in prop::collection::vec(0u8..4, 0..20)) {
            if let Tally::Open { more } = tally(Verify::Quorum { n }, &votes(&results)) {
                let after = results.len() + more as usize;
                prop_assert!(more >= 1 && after <= usize::from(n + EXTRA_VOTERS_MAX));
                prop_assert!(more == 1 || after == usize::from(n));
            }
        }
    }
}
