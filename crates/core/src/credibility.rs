//! The rule of the adaptive policies: when the votes of workers that are trusted to different degrees decide.
//!
//! Group credibility (Sarmenta 2001): for groups of equal results, with P(g good) the product of the members'
//! credibilities and P(g bad) that of their errors,
//!
//! ```text
//! Cr(a) = P(a good) · Π P(i bad), i ≠ a  /  ( Π P(j bad) + Σ P(j good) · Π P(i bad), i ≠ j )
//! ```
//!
//! Divided by Π P(j bad) this is r_a / (1 + Σ r_j), where r is the product of the members' odds (1 − e) / e: products and
//! sums of integers, the same on every machine. Members of one fault domain count as the best of them. The caller sees
//! to it that votes are of one class and of distinct workers (arbiters excepted: one may be asked twice).

use super::discord::ends_divided;
use super::evidence::{ERROR_MIN_PPB, ONE_PPB, PROVEN_K_MILLI};
use vocabulary::digest::Digest;
use vocabulary::id::WorkerId;

/// Voters (arbiters not counted) after whom a run ends as disputed.
pub const VOTERS_MAX: usize = 7;
/// The same where an error below [`HIGH_EPSILON_PPB`] is asked for: ten foreign newcomers that agree leave 10^-6, so with
/// seven a new pool could never decide anything.
pub const VOTERS_MAX_HIGH: usize = 12;
/// Newcomers that agree and are then checked by an arbiter, where there is one, if their number alone does not do.
const NEWCOMERS_MAX: usize = 4;
/// Below this error more voters are allowed, in parts per billion.
const HIGH_EPSILON_PPB: u64 = 100_000;
/// Every accepted result is audited by a peer at least so often, in parts per million.
pub const AUDIT_MIN_PPM: u64 = 10_000;
/// The audit rate of a worker is this, divided by its confirmations. BOINC's adaptive replication has 10 in effect; with 13
/// workers that begin to cheat once they are trusted expose less than 0.15 % (`tests/figures`), with 10 a little more.
pub const AUDITS_OF_K: u64 = 13;
/// Every accepted result is audited by an arbiter, where there is one, so often, in parts per million.
pub const ARBITER_AUDIT_PPM: u64 = 10_000;
/// An error (in parts per billion) up to which a proven worker's word is good enough to divide a run (see `discord.rs`), or
/// to verify anew.
const TRUSTED_ERROR_PPB: u64 = 10_000_000;
/// Odds are kept in thousandths.
const MILLI: u128 = 1_000;

/// How much a worker's vote weighs: a copy of its standing when it voted, or when it was handed the attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Weight {
    /// The probability that it is wrong, in parts per billion.
    pub error_ppb: u64,
    /// Its confirmations, in thousandths.
    pub k_milli: u64,
    /// Its fault domain: workers of one are assumed to cheat together.
    pub domain: u32,
    /// Whether it is a trusted executor of the operator.
    pub is_arbiter: bool,
}

impl Weight {
    /// Of a worker that nothing is known of.
    pub const UNKNOWN: Weight =
        Weight { error_ppb: 200_000_000, k_milli: 0, domain: u32::MAX, is_arbiter: false };

    /// Whether it may stand alone: newcomers never do.
    pub fn is_proven(&self) -> bool {
        self.is_arbiter || self.k_milli >= PROVEN_K_MILLI
    }

    /// Whether its word counts where trusted executions are asked for.
    pub(super) fn is_trusted(&self) -> bool {
        self.is_proven() && self.error_ppb <= TRUSTED_ERROR_PPB
    }

    /// (1 − e) / e in thousandths, rounded down.
    pub(super) fn odds_milli(&self) -> u128 {
        odds_milli(self.error_ppb)
    }
}

fn odds_milli(error_ppb: u64) -> u128 {
    let error = u128::from(error_ppb.clamp(1, ONE_PPB));
    (u128::from(ONE_PPB) - error) * MILLI / error
}

/// A vote as the rule sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opinion {
    /// Whose.
    pub worker: WorkerId,
    /// For what.
    pub result: Digest,
    /// How much it weighs.
    pub weight: Weight,
}

/// What a run asks of its votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The error that is allowed, in parts per billion.
    pub epsilon_ppb: u64,
    /// The run's draw in the audit lottery, uniform over all numbers.
    pub lottery: u64,
    /// Arbiters that could execute it now.
    pub arbiters: u32,
    /// What is verified anew, if anything is.
    pub reverify: Option<Digest>,
    /// Whether the module is known to give different results.
    pub is_nondeterministic: bool,
}

impl Rule {
    /// How often the lone result of a worker with so many confirmations is audited, in parts per million:
    /// [`AUDITS_OF_K`]/k, [`AUDIT_MIN_PPM`] at least.
    pub fn audit_ppm(k_milli: u64) -> u64 {
        (AUDITS_OF_K * 1_000_000_000 / k_milli.max(1)).clamp(AUDIT_MIN_PPM, 1_000_000)
    }

    /// Whether the lottery asks a peer to check the lone result of a worker with so many confirmations.
    fn draws_peer(&self, k_milli: u64) -> bool {
        (self.lottery >> 32) * 1_000_000 < Rule::audit_ppm(k_milli) << 32
    }

    /// Whether it asks an arbiter: by the other half of the draw, so that neither tells of the other.
    fn draws_arbiter(&self) -> bool {
        self.arbiters > 0 && (self.lottery & u64::from(u32::MAX)) * 1_000_000 < ARBITER_AUDIT_PPM << 32
    }
}

/// Who is to execute it next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seat {
    /// A worker like any other.
    Voter,
    /// A trusted executor.
    Arbiter,
}

/// Why the votes so far do not decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// There is none.
    First,
    /// The group's error is above what is allowed.
    Short {
        /// The group's error, in parts per billion.
        error_ppb: u64,
    },
    /// One newcomer's vote stands alone, or a group has members of one fault domain only and none is proven.
    Newcomers {
        /// The most confirmations of one of them, in thousandths.
        k_milli: u64,
    },
    /// The lottery drew a check by a peer.
    Audit {
        /// Confirmations of the worker that is checked, in thousandths.
        k_milli: u64,
        /// How often such a worker is checked, in parts per million.
        ppm: u64,
    },
    /// The lottery drew a check by an arbiter.
    ArbiterAudit,
    /// A group of newcomers only is checked by an arbiter.
    ArbiterForNewcomers,
    /// Results differ, and nobody is there to arbitrate.
    Differ {
        /// Different results.
        results: usize,
        /// The leading group's error, in parts per billion.
        error_ppb: u64,
    },
    /// Results differ: the arbiter executes it, and once more to see whether it agrees with itself.
    Arbitrate {
        /// Whether it has done so once.
        again: bool,
    },
    /// A result is verified anew.
    Reverify,
}

/// What the votes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weighing {
    /// Nothing yet.
    Wanting {
        /// Who is asked.
        seat: Seat,
        /// Why.
        why: Why,
    },
    /// One result won.
    Decided {
        /// Which.
        result: Digest,
    },
    /// As many as may have voted, and no group is good enough.
    Disputed,
    /// Executions that are trusted differ.
    Nondeterministic,
}

/// Product of the members' odds in thousandths, each fault domain counted once, by its best member.
fn group_odds(votes: &[Opinion], result: Digest) -> u128 {
    let mut odds = MILLI;
    for (position, vote) in votes.iter().enumerate() {
        if vote.result == result && stands_for_domain(votes, position) {
            odds = odds.saturating_mul(vote.weight.odds_milli()) / MILLI;
        }
    }
    odds
}

/// Whether a vote is the best of its fault domain for its result.
fn stands_for_domain(votes: &[Opinion], position: usize) -> bool {
    let vote = &votes[position];
    let is_better = |(other, rival): (usize, &Opinion)| {
        let is_rival = rival.result == vote.result && rival.weight.domain == vote.weight.domain;
        let (mine, its) = (vote.weight.error_ppb, rival.weight.error_ppb);
        is_rival && (its < mine || (its == mine && other < position))
    };
    !votes.iter().enumerate().any(is_better)
}

/// Fault domains that named a result.
fn domains(votes: &[Opinion], result: Digest) -> usize {
    let stands = |position: &usize| votes[*position].result == result && stands_for_domain(votes, *position);
    (0..votes.len()).filter(stands).count()
}

/// Different results, in the order in which they were named.
fn results(votes: &[Opinion]) -> Vec<Digest> {
    let mut results: Vec<Digest> = Vec::with_capacity(2);
    for vote in votes {
        if !results.contains(&vote.result) {
            results.push(vote.result);
        }
    }
    results
}

/// The probability that `result` is wrong, in parts per billion, rounded up: 1 − Cr of its group.
pub fn group_error_ppb(votes: &[Opinion], result: Digest) -> u64 {
    let rivals = results(votes).into_iter().filter(|rival| *rival != result);
    let mut rest = rivals.fold(MILLI, |rest, rival| rest.saturating_add(group_odds(votes, rival)));
    let mut total = rest.saturating_add(group_odds(votes, result));
    while rest > u128::MAX / u128::from(ONE_PPB) {
        (rest, total) = (rest >> 1, total >> 1);
    }
    (rest * u128::from(ONE_PPB)).div_ceil(total.max(1)).min(u128::from(ONE_PPB)) as u64
}

/// The result whose group is the best, the first of equals; with its error.
pub fn leading(votes: &[Opinion]) -> Option<(Digest, u64)> {
    let mut best: Option<(Digest, u128)> = None;
    for result in results(votes) {
        let odds = group_odds(votes, result);
        if best.is_none_or(|(_, most)| odds > most) {
            best = Some((result, odds));
        }
    }
    best.map(|(result, _)| (result, group_error_ppb(votes, result)))
}

/// The odds in thousandths that one more member of another fault domain needs to bring a group without rivals to
/// `epsilon_ppb`; 0 if it is there already.
pub(super) fn missing_odds_milli(votes: &[Opinion], result: Digest, epsilon_ppb: u64) -> u128 {
    // error = 1 / (1 + r), so r has to be (1 − ε) / ε
    let needed = (u128::from(ONE_PPB - epsilon_ppb) * MILLI).div_ceil(u128::from(epsilon_ppb.max(1)));
    let there = group_odds(votes, result).max(1);
    if there >= needed { 0 } else { (needed * MILLI).div_ceil(there) }
}

/// Applies a rule to the votes, in the order in which they came.
pub fn weigh(rule: &Rule, votes: &[Opinion]) -> Weighing {
    if let Some(said) = trusted(rule, votes) {
        return said;
    }
    let said = match votes.first() {
        None => Weighing::Wanting { seat: Seat::Voter, why: Why::First },
        Some(first) if votes.iter().all(|vote| vote.result == first.result) => same(rule, votes, first),
        Some(_) => differ(rule, votes),
    };
    let voters = votes.iter().filter(|vote| !vote.weight.is_arbiter).count();
    let most = voters_max(rule.epsilon_ppb);
    match said {
        Weighing::Wanting { seat: Seat::Voter, .. } if voters >= most => Weighing::Disputed,
        said => said,
    }
}

/// Voters (arbiters not counted) after whom a run ends as disputed, where so much error is allowed.
pub(super) fn voters_max(epsilon_ppb: u64) -> usize {
    if epsilon_ppb < HIGH_EPSILON_PPB { VOTERS_MAX_HIGH } else { VOTERS_MAX }
}

/// What arbiters settle, where there are any.
fn trusted(rule: &Rule, votes: &[Opinion]) -> Option<Weighing> {
    let mut arbiters = votes.iter().filter(|vote| vote.weight.is_arbiter).map(|vote| vote.result);
    let word = arbiters.next();
    let (mut said, mut differ) = (usize::from(word.is_some()), false);
    for result in arbiters {
        said += 1;
        differ |= Some(result) != word;
    }
    if differ {
        return Some(Weighing::Nondeterministic);
    }
    let known = rule.reverify.or_else(|| votes.first().map(|vote| vote.result));
    let is_disputed = votes.iter().any(|vote| Some(vote.result) != known);
    let ask = |why| (rule.arbiters > 0).then_some(Weighing::Wanting { seat: Seat::Arbiter, why });
    match word {
        Some(result) if is_disputed && said >= 2 => Some(Weighing::Decided { result }),
        Some(result) if !is_disputed && rule.reverify.is_some() => Some(Weighing::Decided { result }),
        _ if is_disputed => ask(Why::Arbitrate { again: said > 0 }),
        _ if rule.reverify.is_some() => ask(Why::Reverify),
        _ => None,
    }
}

/// How arbiters decided what they did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// Results differed, the one of before included, and they executed it so often and named this one each time.
    Settled { executions: usize },
    /// It is what was known before, and nobody says otherwise.
    Upheld,
}

/// Whether arbiters decided it by their word: see [`trusted`]. `known` is what is verified anew, if anything is.
pub(super) fn arbitrated(votes: &[Opinion], won: Digest, known: Option<Digest>) -> Option<Word> {
    let is_disputed = votes.iter().any(|vote| vote.result != won) || known.is_some_and(|known| known != won);
    let executions = votes.iter().filter(|vote| vote.weight.is_arbiter && vote.result == won).count();
    match executions {
        2.. if is_disputed => Some(Word::Settled { executions }),
        1.. if !is_disputed && known.is_some() => Some(Word::Upheld),
        _ => None,
    }
}

/// All votes are for one result.
fn same(rule: &Rule, votes: &[Opinion], first: &Opinion) -> Weighing {
    let wanting = |seat, why| Weighing::Wanting { seat, why };
    let has_arbiter = votes.iter().any(|vote| vote.weight.is_arbiter);
    if rule.draws_arbiter() && !has_arbiter {
        return wanting(Seat::Arbiter, Why::ArbiterAudit);
    }
    let error_ppb = group_error_ppb(votes, first.result);
    let is_new = !votes.iter().any(|vote| vote.weight.is_proven());
    if is_new && rule.arbiters > 0 && (votes.len() >= NEWCOMERS_MAX || error_ppb <= rule.epsilon_ppb) {
        return wanting(Seat::Arbiter, Why::ArbiterForNewcomers);
    }
    if error_ppb > rule.epsilon_ppb {
        return wanting(Seat::Voter, Why::Short { error_ppb });
    }
    let k_milli = votes.iter().map(|vote| vote.weight.k_milli).max().unwrap_or(0);
    if is_new && domains(votes, first.result) < 2 {
        return wanting(Seat::Voter, Why::Newcomers { k_milli });
    }
    if votes.len() == 1 && !has_arbiter && rule.draws_peer(k_milli) {
        return wanting(Seat::Voter, Why::Audit { k_milli, ppm: Rule::audit_ppm(k_milli) });
    }
    if rule.reverify.is_some() && trusted_domains(votes, first.result) < 2 {
        return wanting(Seat::Voter, Why::Reverify);
    }
    Weighing::Decided { result: first.result }
}

/// Fault domains of trusted workers that named a result.
fn trusted_domains(votes: &[Opinion], result: Digest) -> usize {
    let is_one = |position: &usize| {
        let vote = &votes[*position];
        vote.result == result && vote.weight.is_trusted() && stands_for_domain(votes, *position)
    };
    (0..votes.len()).filter(is_one).count()
}

/// What trusted workers named, each with a number for the result; nothing, unless three of different fault domains named
/// three different results.
pub(super) fn split(votes: &[Opinion]) -> Vec<(WorkerId, u8)> {
    let mut results: Vec<Digest> = Vec::with_capacity(3);
    let (mut said, mut apart) = (Vec::new(), Vec::with_capacity(3));
    for vote in votes.iter().filter(|vote| vote.weight.is_trusted()) {
        let known = results.iter().position(|result| *result == vote.result);
        let number = known.unwrap_or(results.len());
        if known.is_none() {
            results.push(vote.result);
            if !apart.contains(&vote.weight.domain) {
                apart.push(vote.weight.domain);
            }
        }
        said.push((vote.worker, u8::try_from(number).unwrap_or(u8::MAX)));
    }
    if apart.len() >= 3 { said } else { Vec::new() }
}

/// Results differ and no arbiter settles it.
fn differ(rule: &Rule, votes: &[Opinion]) -> Weighing {
    if let Some(said) = ends_divided(rule, votes) {
        return said;
    }
    let results = results(votes);
    let Some((result, error_ppb)) = leading(votes) else {
        return Weighing::Wanting { seat: Seat::Voter, why: Why::First };
    };
    let is_known = rule.reverify.is_none() || trusted_domains(votes, result) >= 2;
    if error_ppb <= rule.epsilon_ppb && domains(votes, result) >= 2 && is_known {
        return Weighing::Decided { result };
    }
    Weighing::Wanting { seat: Seat::Voter, why: Why::Differ { results: results.len(), error_ppb } }
}

/// The weight of an arbiter: as good as a worker can be.
pub(super) fn arbiter_weight(domain: u32, k_milli: u64) -> Weight {
    Weight { error_ppb: ERROR_MIN_PPB, k_milli, domain, is_arbiter: true }
}

#[cfg(test)]
#[path = "credibility/tests.rs"]
mod tests;
