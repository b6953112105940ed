//! The rule of the votes: what a set of votes says under a policy.
//!
//! Pure arithmetic over (worker, digest) pairs, each worker at most once (I4). It knows no attempt, no class and no
//! time; the pool hands in only votes that may be compared.

use crate::digest::Digest;
use crate::id::WorkerId;
use crate::spec::Verify;

/// What the votes say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tally {
    /// So many voters in all are needed before the votes can decide.
    Wanting(u8),
    /// This digest won.
    Decided(Digest),
    /// No further vote can decide: the policy is exhausted.
    Hopeless,
}

/// Voters beyond the quorum that a disagreement may cost.
pub const EXTRA_VOTERS_MAX: u8 = 2;

/// Tallies `votes`, in the order in which they came.
///
/// `once`: the first vote decides. `quorum: n`: with n votes in, the digest with floor(n/2)+1 of them wins; otherwise one
/// more voter at a time, up to n+2.
pub fn tally(verify: Verify, votes: &[(WorkerId, Digest)]) -> Tally {
    let n = match verify {
        Verify::Once => {
            return votes.first().map_or(Tally::Wanting(1), |(_, digest)| Tally::Decided(*digest));
        }
        Verify::Quorum { n } => n,
    };
    let cast = u8::try_from(votes.len()).unwrap_or(u8::MAX);
    if cast < n {
        return Tally::Wanting(n);
    }
    let needed = usize::from(n / 2 + 1);
    let count = |digest: Digest| votes.iter().filter(|(_, other)| *other == digest).count();
    if let Some((_, winner)) = votes.iter().find(|(_, digest)| count(*digest) >= needed) {
        return Tally::Decided(*winner);
    }
    if cast >= n + EXTRA_VOTERS_MAX { Tally::Hopeless } else { Tally::Wanting(cast + 1) }
}
