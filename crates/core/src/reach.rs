//! Whether the workers that are there could decide a run under a policy that weighs votes, and what is missing if not.
//!
//! Asked when a run is submitted: what can come to no verdict is refused then and not after a minute. It looks at as many
//! workers as it takes to find enough, a handful as a rule; at all of them only to refuse. Placement asks the same of each
//! class before a run is bound to one, and `frame.rs` of what is left when it is.

use std::collections::BTreeMap;

use super::SubmitError;
use super::credibility::{Opinion, Rule, Weight, leading, voters_max};
use super::evidence::ONE_PPB;
use super::explain::Ppb;
use super::floor::Floor;
use super::placement::Shape;
use super::run::Run;
use vocabulary::digest::Digest;
use vocabulary::id::{Class, WorkerId};

/// Odds are kept in thousandths.
const MILLI: u128 = 1_000;

/// The workers of one class, and what they could do if all of them agreed.
#[derive(Default)]
pub(super) struct Group {
    /// Arbiters included.
    pub workers: usize,
    domains: Vec<u32>,
    /// The best of each fault domain, the best first; as many as may vote.
    voters: Vec<Weight>,
    arbiters: Vec<Weight>,
}

impl Group {
    /// Adds a worker that weighs so much; of at most `voters_max` the votes are looked at.
    pub(super) fn add(&mut self, weight: Weight, voters_max: usize) {
        self.workers += 1;
        if !self.domains.contains(&weight.domain) {
            self.domains.push(weight.domain);
        }
        if weight.is_arbiter {
            return self.arbiters.push(weight);
        }
        if let Some(rival) = self.voters.iter().position(|rival| rival.domain == weight.domain) {
            if self.voters[rival].error_ppb <= weight.error_ppb {
                return;
            }
            self.voters.remove(rival);
        }
        let position = self.voters.partition_point(|better| better.error_ppb <= weight.error_ppb);
        self.voters.insert(position, weight);
        self.voters.truncate(voters_max);
    }

    /// The error that is left if all of them name the same, in parts per billion, rounded up. Arbiters are asked where
    /// there is nobody else.
    fn error_ppb(&self) -> u64 {
        let members = self.voters.iter().chain(&self.arbiters);
        let odds = members.fold(MILLI, |odds, weight| odds.saturating_mul(weight.odds_milli()) / MILLI);
        let total = MILLI.saturating_add(odds);
        (MILLI * u128::from(ONE_PPB)).div_ceil(total).min(u128::from(ONE_PPB)) as u64
    }

    /// Whether that is good enough. Somebody has to be there to check with; and newcomers of one domain are no check of
    /// each other.
    pub(super) fn decides(&self, epsilon_ppb: u64) -> bool {
        let is_proven = self.voters.first().is_some_and(Weight::is_proven) || !self.arbiters.is_empty();
        self.workers >= 2 && (is_proven || self.voters.len() >= 2) && self.error_ppb() <= epsilon_ppb
    }

    /// Their votes, `most` at most, and those of the arbiters, each asked twice, if all of them named `result`.
    pub(super) fn opinions(&self, result: Digest, most: usize) -> impl Iterator<Item = Opinion> + '_ {
        let arbiters = self.arbiters.iter().chain(&self.arbiters);
        let weights = self.voters.iter().take(most).chain(arbiters).copied();
        // whose they are does not matter to the rule
        weights.map(move |weight| Opinion { worker: WorkerId(u32::MAX), result, weight })
    }
}

/// Refuses a run that could come to no verdict, although every worker that may execute it agreed.
pub(super) fn could_decide(run: &Run, shape: &Shape, rule: &Rule, floor: &Floor) -> Result<(), SubmitError> {
    let most = voters_max(rule.epsilon_ppb);
    let mut classes: BTreeMap<Class, Group> = BTreeMap::new();
    for (place, worker) in floor.crew.iter().enumerate() {
        if !shape.suits(worker) {
            continue;
        }
        let group = classes.entry(worker.class_of(shape.kin)).or_default();
        group.add(floor.crew.weight(place, floor.now), most);
        if group.decides(rule.epsilon_ppb) {
            return Ok(());
        }
    }
    let best = classes.values().min_by_key(|group| group.error_ppb());
    let (there, domains, error_ppb) =
        best.map_or((0, 0, ONE_PPB), |group| (group.workers, group.domains.len(), group.error_ppb()));
    Err(SubmitError::Undecidable { verify: run.policy.verify, there, domains, error_ppb })
}

/// What the best of the votes leaves open, where they are weighed.
fn left_open(run: &Run) -> Option<String> {
    let epsilon = Ppb(run.rule()?.epsilon_ppb);
    Some(match leading(&run.opinions()) {
        Some((_, error_ppb)) => {
            format!("the votes leave an error of {}, and {epsilon} is allowed", Ppb(error_ppb))
        }
        None => format!("there is no vote yet, and an error of {epsilon} is allowed"),
    })
}

/// Why a run gives up that waited for voters for so long.
pub(super) fn too_few(run: &Run, wait_ms: u64, there: usize) -> String {
    match (left_open(run), run.bound()) {
        (Some(open), Some(frame)) => format!(
            "only workers of class {}, which computed it, and arbiters of that class can tell whether it is right, and for \
             {wait_ms} ms too few others of it were there ({there}); {open}",
            frame.class.0.short()
        ),
        (Some(open), None) => format!(
            "for {wait_ms} ms too few other workers were there to vote ({there}); {open}: more workers, of other trust \
             domains, or an arbiter would decide it"
        ),
        (None, _) => format!("for {wait_ms} ms there were too few workers to vote ({there})"),
    }
}

/// Why nobody is asked to verify anew what only one class can tell.
pub(super) fn out_of_reach(run: &Run) -> String {
    let class = run.bound().map_or_else(|| "unknown".to_owned(), |frame| frame.class.0.short().to_string());
    format!(
        "only workers of class {class}, which computed it, and arbiters of that class can tell whether it is right, and those \
         that are left of it could not, whatever they found"
    )
}

/// Why a run ends of which trusted workers named three results, when nobody is there who could settle it.
pub(super) fn nobody_left(run: &Run) -> String {
    let open = left_open(run).unwrap_or_default();
    format!(
        "trusted workers named three results or more, and nobody else is there whose vote could settle it; {open}: either two \
         of them lie, or the module is not deterministic"
    )
}

/// Why a run gives up whose class has no room for it, and that has turned to others as often as it may.
pub(super) fn idle_for_good(run: &Run, class: Class, wait_ms: u64) -> String {
    let open = left_open(run).map(|open| format!("; {open}")).unwrap_or_default();
    format!(
        "for {wait_ms} ms nobody of class {} had room for it, and it has turned to others as often as a run may{open}",
        class.0.short()
    )
}

/// Why a run gives up that has as many votes as it may.
pub(super) fn disputed(run: &Run) -> String {
    let votes = run.votes().len();
    match left_open(run) {
        Some(open) => {
            format!("{votes} votes, as many as may be asked, and no result has enough of them: {open}")
        }
        None => format!("{votes} votes, and no result has enough of them"),
    }
}
