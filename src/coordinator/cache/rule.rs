//! Whether a result that was verified under one policy would do for another.
//!
//! What counts is what was reached, not what was asked for:
//!
//! - `once` takes any verified result: it asked for less.
//! - `quorum: n` takes one that compared at least n votes, more than half of n of them for it; votes of one trust domain count
//!   once, unless all are of one domain, where each worker counts. A result of `quorum: m`, m >= n, does in any case: it was
//!   placed as this run would be.
//! - `standard` and `high` take one whose error was weighed and is within what they allow; `high` no vote that stood alone.
//!   A quorum states no error, so it serves neither.
//!
//! It takes only the result of a run that asked for the same placement: labels may name workers that are less trusted than any,
//! as well as such that are more. How often it may be tried, how long, until when and how urgently makes no difference to an answer that takes no attempt.

use std::collections::BTreeSet;

use crate::core::{Opinion, group_error_ppb, majority};
use crate::digest::Digest;
use crate::result::VerdictKind;
use crate::spec::{Policy, Verify};
use crate::store::CastVote;

/// What verifying a result has reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    verify: Verify,
    is_compared: bool,
    /// Votes that were compared, and those of them that won, counted as above.
    voters: usize,
    agreed: usize,
    /// The probability that it is wrong, in parts per billion, if it was weighed.
    error_ppb: Option<u64>,
}

impl Reached {
    /// Of a result that these votes were counted for and against; `None` if it was not verified.
    pub fn of(verify: Verify, verdict: VerdictKind, won: Digest, votes: &[CastVote]) -> Option<Reached> {
        let is_compared = match verdict {
            VerdictKind::Agreed => true,
            VerdictKind::Vouched => false,
            _ => return None,
        };
        let winners: Vec<&CastVote> = votes.iter().filter(|vote| vote.result == won).collect();
        let domains: BTreeSet<&str> = votes.iter().map(|vote| vote.domain.as_str()).collect();
        let apart = |votes: &mut dyn Iterator<Item = &CastVote>| match domains.len() {
            1 => votes.map(|vote| vote.worker).collect::<BTreeSet<_>>().len(),
            _ => votes.map(|vote| vote.domain.as_str()).collect::<BTreeSet<_>>().len(),
        };
        let opinion = |vote: &CastVote| {
            Some(Opinion { worker: vote.worker, result: vote.result, weight: vote.weight? })
        };
        let opinions: Option<Vec<Opinion>> = votes.iter().map(opinion).collect();
        (!winners.is_empty()).then(|| Reached {
            verify,
            is_compared,
            voters: apart(&mut votes.iter()),
            agreed: apart(&mut winners.iter().copied()),
            error_ppb: opinions.map(|opinions| group_error_ppb(&opinions, won)),
        })
    }

    /// Whether it was weighed: results that were only counted serve others.
    pub fn is_weighed(&self) -> bool {
        self.error_ppb.is_some()
    }

    /// Whether nobody else's vote was compared with it.
    pub fn is_alone(&self) -> bool {
        !self.is_compared
    }

    /// Whether it does for fewer than another one.
    pub fn does_for_fewer_than(&self, other: &Reached) -> bool {
        let more = |one: &Reached, than: &Reached| {
            let all = [Verify::Once, Verify::Standard, Verify::High].into_iter();
            let mut all = all.chain((2..=Verify::QUORUM_MAX).map(|n| Verify::Quorum { n }));
            all.any(|wanted| one.serves(wanted) && !than.serves(wanted))
        };
        more(other, self) && !more(self, other)
    }

    /// Whether it would do for a run that is to be verified so.
    pub fn serves(&self, wanted: Verify) -> bool {
        match wanted {
            Verify::Once => true,
            Verify::Quorum { n } => {
                let is_counted = self.voters >= usize::from(n) && self.agreed >= majority(n);
                let is_stricter = matches!(self.verify, Verify::Quorum { n: of } if of >= n);
                self.is_compared && (is_counted || is_stricter)
            }
            Verify::Standard | Verify::High => {
                let allowed = wanted.epsilon_ppb().unwrap_or(0);
                (self.is_compared || wanted != Verify::High)
                    && self.error_ppb.is_some_and(|error_ppb| error_ppb <= allowed)
            }
        }
    }
}

/// Whether a result of a run under the policy `had` may answer one under `wanted`.
pub fn may_answer(had: &Policy, reached: &Reached, wanted: &Policy) -> bool {
    let is_placed = wanted.placement == had.placement;
    // what is in memory only answers nothing that is to be kept
    is_placed && (had.durable || !wanted.durable) && reached.serves(wanted.verify)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::{Class, Weight};
    use crate::id::WorkerId;
    use crate::spec::Placement;

    const WON: Digest = Digest::EMPTY;

    fn vote(worker: u32, domain: &str, error_ppb: Option<u64>) -> CastVote {
        CastVote {
            number: worker,
            worker: WorkerId(worker),
            key: [0; 32],
            domain: domain.to_owned(),
            nonce: [0; 16],
            class: Class(Digest::EMPTY),
            code: Class(Digest::EMPTY),
            artifact: Digest::EMPTY,
            result: WON,
            proof: None,
            weight: error_ppb.map(|error_ppb| Weight {
                error_ppb,
                k_milli: 100_000,
                domain: worker,
                is_arbiter: false,
            }),
        }
    }

    fn lost(worker: u32, domain: &str) -> CastVote {
        CastVote { result: Digest::of(b"lost"), ..vote(worker, domain, None) }
    }

    fn quorum(n: u8) -> Verify {
        Verify::Quorum { n }
    }

    /// For which of these policies a result does.
    fn serves(verify: Verify, verdict: VerdictKind, votes: &[CastVote]) -> Vec<Verify> {
        let all = [Verify::Once, quorum(2), quorum(3), quorum(4), quorum(5), Verify::Standard, Verify::High];
        let reached = Reached::of(verify, verdict, WON, votes).unwrap();
        all.into_iter().filter(|wanted| reached.serves(*wanted)).collect()
    }

    #[test]
    fn what_was_reached_decides_for_whom_it_does() {
        use VerdictKind::{Agreed, Vouched};
        let (once, standard, high) = (Verify::Once, Verify::Standard, Verify::High);
        let plain = |count: u32, domain: &str| {
            (1..=count).map(|worker| vote(worker, domain, None)).collect::<Vec<_>>()
        };
        let apart = |count: u32| {
            (1..=count).map(|worker| vote(worker, &worker.to_string(), None)).collect::<Vec<_>>()
        };
        assert_eq!(serves(quorum(2), Agreed, &plain(2, "here")), [once, quorum(2)]);
        assert_eq!(serves(quorum(3), Agreed, &plain(3, "here")), [once, quorum(2), quorum(3)]);
        assert_eq!(serves(quorum(5), Agreed, &apart(5)).len(), 5, "a quorum states no error");
        // two of three is what a quorum of three asks for
        let two_of_three = [vote(1, "a", None), vote(2, "b", None), lost(3, "c")];
        assert_eq!(serves(quorum(3), Agreed, &two_of_three), [once, quorum(2), quorum(3)]);
        assert_eq!(serves(quorum(2), Agreed, &two_of_three), [once, quorum(2), quorum(3)]);
        // and no more than that
        let two_of_four = [vote(1, "a", None), vote(2, "b", None), lost(3, "c"), lost(4, "d")];
        assert_eq!(serves(quorum(2), Agreed, &two_of_four), [once, quorum(2), quorum(3)]);
        // three of two domains are two votes, but a quorum that was placed so did what it could
        let crowded =
            [vote(1, "a", Some(10_000_000)), vote(2, "a", Some(10_000_000)), vote(3, "b", Some(10_000_000))];
        assert_eq!(serves(standard, Agreed, &crowded), [once, quorum(2), standard]);
        let crowded = crowded.map(|vote| CastVote { weight: None, ..vote });
        assert_eq!(serves(quorum(3), Agreed, &crowded), [once, quorum(2), quorum(3)]);
        // weighed
        assert_eq!(serves(standard, Vouched, &[vote(1, "a", Some(900_000))]), [once, standard]);
        assert_eq!(
            serves(standard, Vouched, &[vote(1, "a", Some(900))]),
            [once, standard],
            "high takes none alone"
        );
        let good = [vote(1, "a", Some(500_000)), vote(2, "b", Some(500_000))];
        assert_eq!(serves(standard, Agreed, &good), [once, quorum(2), standard, high]);
        let fair = [vote(1, "a", Some(5_000_000)), vote(2, "b", Some(5_000_000))];
        assert_eq!(serves(standard, Agreed, &fair), [once, quorum(2), standard]);
    }

    #[test]
    fn what_was_not_verified_does_for_nobody() {
        for kind in [
            VerdictKind::Pending,
            VerdictKind::Unchecked,
            VerdictKind::Disputed,
            VerdictKind::Nondeterministic,
        ] {
            assert_eq!(Reached::of(Verify::Once, kind, WON, &[vote(1, "a", None)]), None);
        }
        assert_eq!(Reached::of(quorum(2), VerdictKind::Agreed, WON, &[lost(1, "a")]), None);
    }

    #[test]
    fn labels_and_durability_are_kept() {
        let votes = [vote(1, "a", None), vote(2, "a", None)];
        let reached = Reached::of(quorum(2), VerdictKind::Agreed, WON, &votes).unwrap();
        let any = Policy { verify: quorum(2), ..Policy::default() };
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let placed = Policy { placement: Placement::Labels { labels }, ..any.clone() };
        let in_memory = Policy { durable: false, ..any.clone() };
        let hurried =
            Policy { deadline_ms: Some(1), timeout_ms: 1, priority: 9, attempts_max: 1, ..any.clone() };
        let table = [
            (&any, &any, true),
            (&any, &hurried, true),
            (&any, &placed, false),
            (&placed, &placed, true),
            (&placed, &any, false),
            (&any, &in_memory, true),
            (&in_memory, &any, false),
            (&in_memory, &in_memory, true),
        ];
        for (had, wanted, expected) in table {
            assert_eq!(may_answer(had, &reached, wanted), expected, "{had:?} for {wanted:?}");
        }
    }
}
