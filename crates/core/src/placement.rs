//! Which workers may execute what, and which of the free ones does.
//!
//! Runs that ask the same of a worker share a [`Shape`]; the set of workers that suit a shape is worked out once and
//! again only when somebody joins, leaves or changes standing. Whether a shape can be placed right now is then a matter
//! of two bit sets, whatever the number of queued runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bits::Bits;
use super::credibility::Seat;
use super::credibility::voters_max;
use super::explain::Choice;
use super::kin::Kin;
use super::reach::Group;
use super::workers::{Crew, Worker};
use super::{Class, Time, WorkerStanding};
use vocabulary::id::WorkerId;

/// The least that an attempt leases: below it the bookkeeping costs more than the memory.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// What a run asks of a worker.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Shape {
    /// Labels that it must carry.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    /// Memory to lease, see [`leased_bytes`].
    pub memory_bytes: u64,
    /// Workers of one class that the policy needs; 1 for `once`.
    pub voters: u8,
    /// The error that is allowed where votes are weighed, in parts per billion: then the operator's own machines count one
    /// by one and not as one domain.
    pub epsilon_ppb: Option<u64>,
    /// Who is asked.
    pub seat: Seat,
    /// Votes that are still to come from workers without a seat, whether they are asked for at once or not.
    pub missing: u8,
    /// Which of a worker's classes counts.
    pub kin: Kin,
    /// The class that the run is bound to.
    pub class: Option<Class>,
    /// Workers with a live attempt or a vote of the run, ascending: never again (I4, I5).
    pub seated: Vec<WorkerId>,
    /// Workers that held an attempt and may get another only when no other one can be had, ascending.
    pub avoided: Vec<WorkerId>,
}

/// The workers that suit a shape.
#[derive(Default, Debug)]
pub(super) struct Suited {
    /// Their places, without those to avoid.
    pub places: Bits,
    /// Their number, with those to avoid; for an unbound quorum run, in the largest class.
    pub there: usize,
    /// Since when a quorum run of this shape could not get its voters.
    pub short_since: Option<Time>,
}

impl Shape {
    /// Whether a worker could ever execute it.
    pub(super) fn suits(&self, worker: &Worker) -> bool {
        worker.is_eligible()
            && worker.memory_bytes >= self.memory_bytes
            && self.labels.as_ref().is_none_or(|labels| worker.carries(labels))
            && self.class.is_none_or(|class| worker.class_of(self.kin) == class)
    }

    /// Where a worker sits: with all of its trust domain, or apart.
    fn place_of<'a>(&self, worker: &'a Worker) -> (&'a str, Option<WorkerId>) {
        let (domain, own) = worker.own_place();
        (domain, own.filter(|_| self.epsilon_ppb.is_some()))
    }
}

/// Memory that is leased for a run that may use `memory_bytes`: rounded up to an eighth of its power of two, so that
/// callers cannot make a shape of their own by an odd byte more.
pub(super) fn leased_bytes(memory_bytes: u64) -> u64 {
    let bytes = memory_bytes.max(MEMORY_BYTES_MIN);
    let step = 1 << (bytes.ilog2() - 3);
    bytes.checked_next_multiple_of(step).unwrap_or(bytes)
}

/// The workers that suit `shape`, whether they are free or not.
///
/// Voters sit in distinct trust domains if there are as many domains as voters; otherwise each worker counts as a
/// fault domain of its own.
/// `short_since` is what was known before; it is kept while the shape stays short.
pub(super) fn suited(shape: &Shape, crew: &Crew, short_since: Option<Time>, now: Time) -> Suited {
    let mut candidates: Vec<&Worker> = crew.iter().filter(|worker| shape.suits(worker)).collect();
    if shape.seat == Seat::Arbiter {
        return suited_arbiters(shape, &candidates, crew);
    }
    let mut there = candidates.len();
    if shape.voters > 1 && shape.class.is_none() {
        there = keep_large_classes(shape, &mut candidates, crew, now);
    }
    // bound without a vote it verifies anew what only this class can tell: one alone has nobody to be compared with
    let least = if shape.voters > 1 && shape.seated.is_empty() { 2 } else { 1 };
    if there < usize::from(least) {
        candidates.clear();
    }
    // arbiters are kept for disputes and audits, unless there is nobody else (any more)
    let mut arbiters: Vec<&Worker> = Vec::new();
    if !crew.arbiters().is_empty() {
        (arbiters, candidates) = candidates.into_iter().partition(|worker| worker.is_arbiter);
    }
    if !shape.seated.is_empty() {
        unseat(shape, &mut candidates, crew);
        arbiters.retain(|worker| !shape.seated.contains(&worker.id));
    }
    if candidates.is_empty() {
        candidates = arbiters;
    }
    if !shape.seated.is_empty() {
        there = candidates.len();
    }
    // as long as no class is settled, it takes one that is large enough for the whole policy
    let needed = shape.missing.max(if shape.class.is_none() { shape.voters } else { least });
    let is_short = shape.voters > 1 && there < usize::from(needed);
    let mut places = Bits::default();
    for worker in candidates.iter().filter(|worker| !shape.avoided.contains(&worker.id)) {
        if let Some(place) = crew.place(worker.id) {
            places.set(place, true);
        }
    }
    Suited { places, there, short_since: is_short.then(|| short_since.unwrap_or(now)) }
}

/// Keeps those whose class could decide. The size of the largest of these classes, or of any if there is none.
fn keep_large_classes(shape: &Shape, candidates: &mut Vec<&Worker>, crew: &Crew, now: Time) -> usize {
    let (classes, largest) = deciding_classes(shape, candidates, crew, now);
    candidates.retain(|worker| classes.contains(&worker.class_of(shape.kin)));
    largest
}

/// The classes that a run may be bound to, and the size of the largest, or of the largest of all if there is none.
///
/// They have as many workers as the policy needs; of these the ones whose votes could decide where votes are weighed, or with
/// as many trust domains where they are counted, if there are such: a class is what its workers say that they are, so one or
/// two domains could make up a class of their own, have runs bound to it, and be alone there. The operator's own machines
/// count one by one here even where votes are counted: all of them together are no less than two of one stranger.
fn deciding_classes(
    shape: &Shape,
    candidates: &[&Worker],
    crew: &Crew,
    now: Time,
) -> (BTreeSet<Class>, usize) {
    /// How many workers, where they sit, and what they weigh.
    type Members<'a> = (usize, BTreeSet<(&'a str, Option<WorkerId>)>, Group);
    let needed = usize::from(shape.voters);
    let most = shape.epsilon_ppb.map(voters_max);
    let mut classes: BTreeMap<Class, Members> = BTreeMap::new();
    for worker in candidates {
        let (workers, domains, group) = classes.entry(worker.class_of(shape.kin)).or_default();
        *workers += 1;
        domains.insert(worker.own_place());
        if let (Some(most), Some(place)) = (most, crew.place(worker.id)) {
            group.add(crew.weight(place, now), most);
        }
    }
    let largest = |classes: &BTreeMap<Class, Members>| {
        classes.values().map(|(workers, ..)| *workers).max().unwrap_or(0)
    };
    let of_all = largest(&classes);
    classes.retain(|_, (workers, ..)| *workers >= needed);
    let decides = |(_, domains, group): &Members| match shape.epsilon_ppb {
        Some(epsilon_ppb) => group.decides(epsilon_ppb),
        None => domains.len() >= needed,
    };
    if classes.values().any(decides) {
        classes.retain(|_, members| decides(members));
    }
    let there = if classes.is_empty() { of_all } else { largest(&classes) };
    (classes.into_keys().collect(), there)
}

/// The arbiters among the candidates. One that voted may do so again, if there is no other; they are never too few,
/// because a run does without them when they are gone.
fn suited_arbiters(shape: &Shape, candidates: &[&Worker], crew: &Crew) -> Suited {
    let may = |worker: &&&Worker| worker.is_arbiter && !shape.seated.contains(&worker.id);
    let arbiters: Vec<&&Worker> = candidates.iter().filter(may).collect();
    let mut places = Bits::default();
    for worker in arbiters.iter().filter(|worker| !shape.avoided.contains(&worker.id)) {
        if let Some(place) = crew.place(worker.id) {
            places.set(place, true);
        }
    }
    Suited { places, there: arbiters.len(), short_since: None }
}

/// What every worker that is there lacks to execute a shape: the rest of a sentence that begins with "no worker".
pub(super) fn lacking(shape: &Shape, crew: &Crew) -> String {
    let there: Vec<&Worker> = crew.iter().filter(|worker| worker.is_eligible()).collect();
    if there.is_empty() {
        return "is there".to_owned();
    }
    let labels: Vec<(&String, &String)> = shape.labels.iter().flat_map(|labels| labels.iter()).collect();
    let has = |worker: &Worker, (name, value): (&String, &String)| worker.labels.get(name) == Some(value);
    for (name, value) in &labels {
        if !there.iter().any(|worker| has(worker, (*name, *value))) {
            return format!("has label {name}={value}");
        }
    }
    let carrying: Vec<&&Worker> =
        there.iter().filter(|worker| labels.iter().all(|label| has(worker, *label))).collect();
    let named =
        || labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ");
    if carrying.is_empty() {
        return format!("has all of the labels {}", named());
    }
    let mebibytes = shape.memory_bytes.div_ceil(1 << 20);
    if carrying.iter().all(|worker| worker.memory_bytes < shape.memory_bytes) {
        let with = if labels.is_empty() { String::new() } else { format!(" with {}", named()) };
        return format!("{with} has the {mebibytes} MiB of memory that it may use").trim_start().to_owned();
    }
    "may take another attempt of it".to_owned()
}

/// What keeps a worker from an attempt of a shape, whether it is free or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bar {
    /// It gets no work.
    Standing(WorkerStanding),
    /// It has an attempt of the run, or a vote.
    Seated,
    /// It has too little memory.
    Memory,
    /// It lacks a label.
    Labels,
    /// The run is bound to another class.
    Class,
    /// Its class is too small for the policy.
    FewPeers,
    /// It is kept for disputes and audits.
    Arbiter,
    /// An arbiter is wanted.
    NoArbiter,
    /// Its trust domain has a voter.
    Domain,
}

/// Barred workers that are named at most.
const NAMED_MAX: usize = 6;

/// What keeps the workers from a shape that it does not avoid, some of them by name, and how many more there are. For words
/// only: [`suited`] decides.
pub(super) fn barred(shape: &Shape, crew: &Crew, now: Time) -> (Vec<(WorkerId, Bar)>, usize) {
    let others = || crew.iter().filter(|worker| !shape.avoided.contains(&worker.id));
    let candidates: Vec<&Worker> = crew.iter().filter(|worker| shape.suits(worker)).collect();
    let (classes, _) = deciding_classes(shape, &candidates, crew, now);
    let named = others().take(NAMED_MAX).map(|worker| (worker.id, bar(shape, worker, &classes))).collect();
    (named, others().count().saturating_sub(NAMED_MAX))
}

fn bar(shape: &Shape, worker: &Worker, classes: &BTreeSet<Class>) -> Bar {
    let wants_arbiter = shape.seat == Seat::Arbiter;
    let class = worker.class_of(shape.kin);
    if !worker.is_eligible() {
        Bar::Standing(worker.standing())
    } else if shape.seated.contains(&worker.id) {
        Bar::Seated
    } else if worker.memory_bytes < shape.memory_bytes {
        Bar::Memory
    } else if shape.labels.as_ref().is_some_and(|labels| !worker.carries(labels)) {
        Bar::Labels
    } else if shape.class.is_some_and(|bound| class != bound) {
        Bar::Class
    } else if wants_arbiter && !worker.is_arbiter {
        Bar::NoArbiter
    } else if worker.is_arbiter {
        Bar::Arbiter
    } else if shape.voters > 1 && shape.class.is_none() && !classes.contains(&class) {
        Bar::FewPeers
    } else {
        Bar::Domain
    }
}

/// Workers that suit a shape and cannot take an attempt of it now, some of them, and how many more there are.
pub(super) fn busy(shape: &Shape, suited: &Suited, crew: &Crew) -> (Vec<WorkerId>, usize) {
    let is_busy = |worker: &&Worker| {
        let suits = crew.place(worker.id).is_some_and(|place| suited.places.contains(place));
        suits && (worker.credits == 0 || worker.memory_free() < shape.memory_bytes)
    };
    let busy: Vec<WorkerId> = crew.iter().filter(is_busy).map(|worker| worker.id).collect();
    let named = busy.iter().copied().take(NAMED_MAX).collect();
    (named, busy.len().saturating_sub(NAMED_MAX))
}

/// Removes the workers that have a seat already, and those of their domains where domains matter.
fn unseat(shape: &Shape, candidates: &mut Vec<&Worker>, crew: &Crew) {
    let domains: BTreeSet<(&str, Option<WorkerId>)> =
        candidates.iter().map(|worker| shape.place_of(worker)).collect();
    // an arbiter sits beside the voters, not among them
    // nor do those whose votes cannot be compared
    let is_peer = |worker: &Worker| shape.class.is_none_or(|class| worker.class_of(shape.kin) == class);
    let is_voter =
        |worker: &&WorkerId| crew.get(**worker).is_none_or(|worker| !worker.is_arbiter && is_peer(worker));
    let seats = usize::from(shape.voters).max(shape.seated.iter().filter(is_voter).count() + 1);
    let mut taken: BTreeSet<(&str, Option<WorkerId>)> = BTreeSet::new();
    if shape.voters > 1 && domains.len() >= seats {
        let seated = shape.seated.iter().filter(is_voter).filter_map(|worker| crew.get(*worker));
        taken.extend(seated.map(|worker| shape.place_of(worker)));
    }
    candidates
        .retain(|worker| !shape.seated.contains(&worker.id) && !taken.contains(&shape.place_of(worker)));
}

/// Whether a free worker could take an attempt of this shape now.
pub(super) fn is_placeable(shape: &Shape, suited: &Suited, crew: &Crew) -> bool {
    suited.places.both(crew.free()).any(|place| crew.has_room(place, shape.memory_bytes))
}

/// How a further voter of a run under an adaptive policy is chosen.
#[derive(Clone, Copy)]
pub(super) struct Draw {
    /// The odds (in thousandths) with which its agreement would decide.
    pub odds_milli: u128,
    /// The run's draw in the audit lottery: no worker can tell whom it will be checked by.
    pub lottery: u64,
    pub now: Time,
}

impl Draw {
    /// Where a place comes in the lot: SplitMix64's finisher (Steele, Lea, Flood 2014) over draw and place.
    fn lot(&self, place: usize) -> u64 {
        let mut mixed = self.lottery ^ (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The free worker that checks what others computed: one that held none of the run, then one whose agreement would decide,
/// then by lot.
pub(super) fn draw(
    shape: &Shape,
    suited: &Suited,
    crew: &Crew,
    held: &[WorkerId],
    draw: Draw,
) -> Option<(usize, Choice)> {
    let free = suited.places.both(crew.free());
    let fits = free.filter(|place| crew.has_room(*place, shape.memory_bytes));
    let rank = |place: &usize| {
        let decides = crew.weight(*place, draw.now).odds_milli() >= draw.odds_milli;
        (!held.contains(&crew.at(*place).id), decides, draw.lot(*place), std::cmp::Reverse(*place))
    };
    let place = fits.max_by_key(rank)?;
    let (is_fresh, decides, ..) = rank(&place);
    let choice = match (is_fresh, decides) {
        (false, _) => Choice::Again,
        (true, true) => Choice::Decides,
        (true, false) => Choice::Drawn,
    };
    Some((place, choice))
}

/// The free worker that takes an attempt of this shape: one that held none of the run before one that did, then one
/// that has the module loaded, then the one that grants the most attempts, then the first.
pub(super) fn choose(
    shape: &Shape,
    suited: &Suited,
    crew: &Crew,
    loaded: &Bits,
    held: &[WorkerId],
) -> Option<(usize, Choice)> {
    let free = suited.places.both(crew.free());
    let fits = free.filter(|place| crew.has_room(*place, shape.memory_bytes));
    let rank = |place: &usize| {
        let worker = crew.at(*place);
        (!held.contains(&worker.id), loaded.contains(*place), worker.credits, std::cmp::Reverse(*place))
    };
    let place = fits.max_by_key(rank)?;
    let (is_fresh, is_loaded, ..) = rank(&place);
    let choice = match (is_fresh, is_loaded) {
        (false, _) => Choice::Again,
        (true, true) => Choice::Loaded,
        (true, false) => Choice::Roomiest,
    };
    Some((place, choice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Joining, Portable, Prior, Standing};
    use vocabulary::digest::Digest;

    fn crew(workers: &[(u32, &str, u8)]) -> Crew {
        let mut crew = Crew::default();
        for (worker, domain, class) in workers {
            let joining = Joining {
                worker: WorkerId(*worker),
                class: Class(Digest::from_bytes([*class; 32])),
                domain: (*domain).to_owned(),
                labels: BTreeMap::new(),
                slots: 2,
                memory_bytes: 1 << 30,
                holds: vec![],
                quarantined: false,
                standing: Standing::default(),
                prior: Prior::Owned,
                is_arbiter: false,
                portable: Portable::alike(Class(Digest::EMPTY)),
                for_votes: false,
                condemned_elsewhere: false,
            };
            let place = crew.join(joining, Time(0));
            crew.update(place, |worker| worker.credits = 2);
        }
        crew
    }

    fn shape(voters: u8, seated: &[u32]) -> Shape {
        Shape {
            labels: None,
            memory_bytes: 1 << 20,
            voters,
            epsilon_ppb: None,
            seat: Seat::Voter,
            missing: voters.saturating_sub(seated.len() as u8).max(1),
            kin: Kin::Native,
            class: None,
            seated: seated.iter().map(|worker| WorkerId(*worker)).collect(),
            avoided: vec![],
        }
    }

    fn names(shape: &Shape, crew: &Crew) -> Vec<u32> {
        let suited = suited(shape, crew, None, Time(0));
        crew.iter()
            .enumerate()
            .filter(|(place, _)| suited.places.contains(*place))
            .map(|(_, w)| w.id.0)
            .collect()
    }

    #[test]
    fn a_quorum_keeps_to_classes_that_are_large_enough() {
        let crew = crew(&[(1, "a", 1), (2, "a", 2), (3, "a", 2)]);
        assert_eq!(names(&shape(1, &[]), &crew), [1, 2, 3]);
        assert_eq!(names(&shape(2, &[]), &crew), [2, 3]);
        assert_eq!(names(&shape(3, &[]), &crew), [0; 0]);
    }

    #[test]
    fn voters_sit_in_distinct_domains_where_there_are_enough() {
        let two_domains = crew(&[(1, "a", 1), (2, "a", 1), (3, "b", 1)]);
        assert_eq!(names(&shape(2, &[1]), &two_domains), [3]);
        let one_domain = crew(&[(1, "a", 1), (2, "a", 1), (3, "a", 1)]);
        assert_eq!(names(&shape(2, &[1]), &one_domain), [2, 3]);
        assert_eq!(names(&shape(2, &[1, 3]), &two_domains), [2], "a third voter finds no third domain");
    }

    #[test]
    fn odd_sizes_of_memory_share_a_few_shapes() {
        let sizes: BTreeSet<u64> = (1..100_000u64).map(|i| leased_bytes(i * 12_345)).collect();
        assert!(sizes.len() <= 8 * 12, "{}", sizes.len());
        for bytes in [1, 1 << 20, (1 << 20) + 1, 256 << 20, 300 << 20, 4 << 30] {
            let leased = leased_bytes(bytes);
            assert!(
                leased >= bytes && leased <= (bytes + bytes / 8).max(MEMORY_BYTES_MIN),
                "{bytes} {leased}"
            );
        }
        assert_eq!(leased_bytes(256 << 20), 256 << 20, "a power of two is leased as it is");
    }

    #[test]
    fn a_free_worker_with_the_module_goes_before_a_roomier_one() {
        let mut crew = crew(&[(1, "a", 1), (2, "a", 1)]);
        crew.update(1, |worker| worker.credits = 9);
        let shape = shape(1, &[]);
        let suited = suited(&shape, &crew, None, Time(0));
        let mut loaded = Bits::default();
        assert_eq!(choose(&shape, &suited, &crew, &loaded, &[]), Some((1, Choice::Roomiest)));
        loaded.set(0, true);
        assert_eq!(choose(&shape, &suited, &crew, &loaded, &[]), Some((0, Choice::Loaded)));
        assert_eq!(choose(&shape, &suited, &crew, &loaded, &[WorkerId(1)]), Some((1, Choice::Roomiest)));
        crew.update(0, |worker| worker.credits = 0);
        crew.update(1, |worker| worker.credits = 0);
        assert!(!is_placeable(&shape, &suited, &crew));
    }
}
