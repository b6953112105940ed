//! The crew: who is there, what each holds, and who is free.
//!
//! Invariants: memory leased equals the sum of what the held attempts lease (I13); a worker is free only if it is
//! active, connected and grants an attempt (I14). A worker keeps its place for the life of the coordinator, because
//! workers are numbered at enrolment and there are as many as somebody enrolled.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::bits::Bits;
use super::credibility::{Weight, arbiter_weight};
use super::evidence::{Evidence, Prior, Standing, Witness, day_of};
use super::hash::Map;
use super::{Class, Joining, OWN_DOMAIN, Portable, Time, WorkerStanding, WorkerView};
use vocabulary::class::Classes;
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, RunId, WorkerId};

/// Attempts that a worker may hold for each of its slots: well above what is handed ahead, so that it binds none but
/// one that grants without end.
const HOLDS_PER_SLOT_MAX: u64 = 64;
/// Modules that a worker is believed to have loaded: about what a runner's pool keeps warm.
const LOADED_MAX: usize = 64;
/// Confirmations (in thousandths) of a worker for each that waits to be told with others.
const BUNDLE_K_MILLI: u64 = 16_000;

/// A worker as the pool keeps it.
pub(super) struct Worker {
    pub id: WorkerId,
    pub class: Class,
    pub domain: String,
    pub labels: BTreeMap<String, String>,
    pub slots: u32,
    pub memory_bytes: u64,
    pub memory_leased: u64,
    /// Attempts that it would take now.
    pub credits: u32,
    /// Attempts that it holds and was not told of yet: no figure of its own includes them.
    pub reserved: u32,
    /// Whether its session is open.
    pub is_connected: bool,
    /// Whether it missed two heartbeats.
    pub is_suspect: bool,
    /// Whether it missed so many that it is lost.
    pub is_silent: bool,
    /// When it is asked whether it was heard of.
    pub silence_at: Option<Time>,
    /// Why it gets no new work. Ends with its session: a worker that comes back has been mended or upgraded.
    pub drain: Option<String>,
    /// Why it gets nothing and counts for nothing, over all sessions.
    pub quarantine: Option<String>,
    /// Whether the pool itself quarantined it, for its votes.
    pub for_votes: bool,
    /// Whether what it showed in another class is enough for a quarantine.
    pub condemned_elsewhere: bool,
    pub holds: Vec<AttemptId>,
    /// Runs that are not final and have a vote of it.
    pub voted: BTreeSet<RunId>,
    /// Different modules that failed on it and not elsewhere, since its last vote.
    pub failed: Vec<Digest>,
    /// Modules (by number) that it executed lately, the oldest first.
    pub loaded: VecDeque<u32>,
    pub votes: u64,
    /// When it last voted.
    pub voted_at: Time,
    pub dissents: u64,
    pub faults: u64,
    pub heard_at: Time,
    /// What its evidence says, as far as it was told to the shell.
    pub evidence: Standing,
    pub prior: Prior,
    pub is_arbiter: bool,
    pub portable: Portable,
    /// Different modules of which it said that their stack overflowed, which nobody confirmed, the oldest first; one less for
    /// each result of it that somebody confirmed.
    pub unconfirmed: VecDeque<Digest>,
    /// Confirmations by peers and by arbiters that were not told yet.
    pending: [u32; 2],
    /// Its trust domain, by number.
    domain_number: u32,
}

impl Worker {
    fn new(joining: Joining, domain_number: u32, now: Time) -> Worker {
        Worker {
            id: joining.worker,
            class: joining.class,
            domain: joining.domain,
            labels: joining.labels,
            slots: joining.slots,
            memory_bytes: joining.memory_bytes,
            memory_leased: 0,
            credits: 0,
            reserved: 0,
            is_connected: true,
            is_suspect: false,
            is_silent: false,
            silence_at: None,
            drain: None,
            quarantine: joining.quarantined.then(|| "quarantined in an earlier session".to_owned()),
            for_votes: joining.quarantined && joining.for_votes,
            condemned_elsewhere: joining.condemned_elsewhere,
            holds: Vec::new(),
            voted: BTreeSet::new(),
            failed: Vec::new(),
            loaded: VecDeque::new(),
            votes: 0,
            voted_at: Time(0),
            dissents: 0,
            faults: 0,
            heard_at: now,
            evidence: joining.standing,
            prior: joining.prior,
            is_arbiter: joining.is_arbiter,
            portable: joining.portable,
            unconfirmed: VecDeque::new(),
            pending: [0; 2],
            domain_number,
        }
    }

    /// Whether it gets work.
    pub(super) fn standing(&self) -> WorkerStanding {
        if self.quarantine.is_some() {
            WorkerStanding::Quarantined
        } else if !self.is_connected || self.is_silent {
            WorkerStanding::Lost
        } else if self.drain.is_some() {
            WorkerStanding::Draining
        } else if self.is_suspect {
            WorkerStanding::Suspect
        } else {
            WorkerStanding::Active
        }
    }

    /// Whether it may be given work now.
    pub(super) fn is_active(&self) -> bool {
        self.standing() == WorkerStanding::Active
    }

    /// Whether it may be given work at some time: a suspect one is waited for, as it will be heard of or lost soon.
    pub(super) fn is_eligible(&self) -> bool {
        matches!(self.standing(), WorkerStanding::Active | WorkerStanding::Suspect)
    }

    /// Whether it may be asked for blobs.
    pub(super) fn is_reachable(&self) -> bool {
        matches!(self.standing(), WorkerStanding::Active | WorkerStanding::Suspect | WorkerStanding::Draining)
    }

    fn why(&self) -> Option<String> {
        match self.standing() {
            WorkerStanding::Active => None,
            WorkerStanding::Suspect => Some("it missed two heartbeats".to_owned()),
            WorkerStanding::Draining => self.drain.clone(),
            WorkerStanding::Quarantined => self.quarantine.clone(),
            WorkerStanding::Lost if self.is_connected => Some("it missed its heartbeats".to_owned()),
            WorkerStanding::Lost => Some("its session ended".to_owned()),
        }
    }

    /// Memory that is not leased, in bytes.
    pub(super) fn memory_free(&self) -> u64 {
        self.memory_bytes.saturating_sub(self.memory_leased)
    }

    /// Whether it carries all of these labels.
    pub(super) fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// Whether it is quarantined, and nothing is left of what it was quarantined for.
    pub(super) fn is_cleared(&self) -> bool {
        self.quarantine.is_some() && self.for_votes && !self.condemned_elsewhere && !self.evidence.condemns()
    }

    /// Whether it is a fault domain of its own, whoever else is there: it is one of the operator's own machines, and these
    /// are not assumed to cheat together.
    pub(super) fn is_apart(&self) -> bool {
        self.prior == Prior::Owned && self.domain == OWN_DOMAIN
    }

    /// Where it sits if the operator's own machines count one by one: its trust domain, and which one of them it is.
    pub(super) fn own_place(&self) -> (&str, Option<WorkerId>) {
        (self.domain.as_str(), self.is_apart().then_some(self.id))
    }

    /// All of its classes.
    pub(super) fn classes(&self) -> Classes {
        Classes { native: self.class, portable: self.portable }
    }

    /// How much it is trusted, roughly: the number of binary digits of its confirmations.
    pub(super) fn trust(&self) -> u32 {
        (self.evidence.k_milli / 1_000).checked_ilog2().map_or(0, |digits| digits + 1)
    }

    /// Takes an entry into its standing.
    pub(super) fn learn(&mut self, at: Time, about: Option<RunId>, evidence: Evidence) {
        self.evidence = self.evidence.with(at, about, evidence);
        if !matches!(evidence, Evidence::Confirmed { .. } | Evidence::Absolved) {
            self.pending = [0; 2];
        }
    }

    /// One more of its results was confirmed. Gives the entries that are due: a newcomer's one by one, those of a proven
    /// worker in bundles of a sixteenth of what it has, so that the log grows with the logarithm of the work.
    pub(super) fn confirm(&mut self, at: Time, by: Witness) -> [Option<Evidence>; 2] {
        self.unconfirmed.pop_front();
        self.pending[usize::from(by == Witness::Arbiter)] += 1;
        let [peers, arbiters] = self.pending;
        if u64::from(peers + arbiters) < (self.evidence.k_milli / BUNDLE_K_MILLI).max(1) {
            return [None; 2];
        }
        self.pending = [0; 2];
        let bundle = |count, by| (count > 0).then_some(Evidence::Confirmed { count, by });
        let due = [bundle(peers, Witness::Peer), bundle(arbiters, Witness::Arbiter)];
        due.into_iter().flatten().for_each(|evidence| self.learn(at, None, evidence));
        due
    }

    /// As others may see it; `peers` are the other active workers of its class, and of that for portable results.
    pub(super) fn view(&self, [peers, portable_peers]: [usize; 2]) -> WorkerView {
        WorkerView {
            worker: self.id,
            standing: self.standing(),
            why: self.why(),
            class: self.class,
            peers,
            domain: self.domain.clone(),
            labels: self.labels.clone(),
            slots: self.slots,
            credits: self.credits,
            holds: self.holds.clone(),
            memory_bytes: self.memory_bytes,
            memory_leased: self.memory_leased,
            votes: self.votes,
            dissents: self.dissents,
            faults: self.faults,
            heard_at: self.heard_at,
            evidence: self.evidence,
            error_ppb: self.evidence.error_ppb(self.prior),
            is_arbiter: self.is_arbiter,
            portable: self.portable,
            portable_peers,
        }
    }
}

/// All workers by their places.
#[derive(Default)]
pub(super) struct Crew {
    places: Map<WorkerId, usize>,
    workers: Vec<Worker>,
    free: Bits,
    /// Places of those that joined as arbiters at some time.
    arbiters: Vec<usize>,
    domains: BTreeMap<String, u32>,
    /// Whether all that may get work answer to one trust domain: then each is a fault domain of its own.
    is_one_domain: bool,
    /// Whether not all of them are of one class.
    is_mixed: bool,
    /// A place that is kept for runs that lease at least so much memory, in bytes.
    kept: Option<(usize, u64)>,
}

impl Crew {
    /// The place of a worker that joined at some time.
    pub(super) fn place(&self, worker: WorkerId) -> Option<usize> {
        self.places.get(&worker).copied()
    }

    /// The worker, if it ever joined.
    pub(super) fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.place(worker).map(|place| &self.workers[place])
    }

    /// The worker, to be changed in what does not decide whether it is free.
    pub(super) fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Worker> {
        self.place(worker).map(|place| &mut self.workers[place])
    }

    /// The worker at a place.
    pub(super) fn at(&self, place: usize) -> &Worker {
        &self.workers[place]
    }

    /// Changes a worker and keeps the set of the free ones true.
    pub(super) fn update<T>(&mut self, place: usize, change: impl FnOnce(&mut Worker) -> T) -> T {
        let worker = &mut self.workers[place];
        let answer = change(worker);
        self.free.set(place, worker.is_active() && worker.credits > 0);
        answer
    }

    /// Workers that joined at some time.
    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Every worker, in the order in which they first joined.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter()
    }

    /// Nobody could be heard for so long, which is held against no one.
    pub(super) fn excuse(&mut self, now: Time, ms: u64) {
        for worker in &mut self.workers {
            worker.heard_at = worker.heard_at.plus_ms(ms).min(now);
        }
    }

    /// Somebody joined, left or changed standing: looks at the trust domains of those that are there.
    pub(super) fn survey(&mut self) {
        let mut domains = self.workers.iter().filter(|worker| worker.is_eligible());
        let first = domains.next().map(|worker| worker.domain_number);
        self.is_one_domain = domains.all(|worker| Some(worker.domain_number) == first);
        let mut classes = self.workers.iter().filter(|worker| worker.is_eligible()).map(Worker::classes);
        let first = classes.next();
        self.is_mixed = classes.any(|classes| Some(classes) != first);
    }

    /// Whether those that may get work are of different classes.
    pub(super) fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    /// Whether anybody joined as an arbiter.
    pub(super) fn arbiters(&self) -> &[usize] {
        &self.arbiters
    }

    /// The fault domain of a worker.
    pub(super) fn fault_domain(&self, place: usize) -> u32 {
        // in a pool of one domain its place, otherwise the number of its trust domain, from the other half
        if self.is_one_domain { place as u32 } else { self.steady_domain(place) }
    }

    /// Where the worker at a place sits, whoever else is there: its trust domain, by number from the upper half, or its place
    /// if it is one of the operator's own.
    pub(super) fn steady_domain(&self, place: usize) -> u32 {
        let worker = &self.workers[place];
        if worker.is_apart() { place as u32 } else { worker.domain_number | 1 << 31 }
    }

    /// The trust domain of a worker, by number, whoever else is there.
    pub(super) fn trust_domain(&self, worker: WorkerId) -> Option<u32> {
        self.get(worker).map(|worker| worker.domain_number)
    }

    /// How much a worker's vote weighs now.
    pub(super) fn weight(&self, place: usize, now: Time) -> Weight {
        let worker = &self.workers[place];
        let (domain, evidence) = (self.fault_domain(place), worker.evidence.aged(day_of(now)));
        if worker.is_arbiter {
            return arbiter_weight(domain, evidence.k_milli);
        }
        let error_ppb = evidence.error_ppb(worker.prior);
        Weight { error_ppb, k_milli: evidence.k_milli, domain, is_arbiter: false }
    }

    /// Fault domains of the workers that may get work and are trusted now.
    pub(super) fn trusted_domains(&self, now: Time) -> usize {
        let there = (0..self.workers.len()).filter(|place| self.workers[*place].is_eligible());
        let trusted = there.map(|place| self.weight(place, now)).filter(Weight::is_trusted);
        trusted.map(|weight| weight.domain).collect::<BTreeSet<u32>>().len()
    }

    fn domain_number(&mut self, domain: &str) -> u32 {
        if let Some(number) = self.domains.get(domain) {
            return *number;
        }
        let number = self.domains.len() as u32;
        self.domains.insert(domain.to_owned(), number);
        number
    }

    /// Keeps one place for runs that lease at least so much memory, in place of what was kept.
    pub(super) fn keep(&mut self, kept: Option<(usize, u64)>) {
        self.kept = kept;
    }

    /// Whether the worker at a place has so much memory for a run that leases it.
    pub(super) fn has_room(&self, place: usize, memory_bytes: u64) -> bool {
        let is_kept = self.kept.is_some_and(|(kept, least)| kept == place && memory_bytes < least);
        !is_kept && self.workers[place].memory_free() >= memory_bytes
    }

    /// Places of the workers that would take an attempt now.
    pub(super) fn free(&self) -> &Bits {
        &self.free
    }

    /// Takes a worker in, or its new session. What it holds stays as it was.
    pub(super) fn join(&mut self, joining: Joining, now: Time) -> usize {
        let domain_number = self.domain_number(&joining.domain);
        if let Some(place) = self.place(joining.worker) {
            self.note_arbiter(place, joining.is_arbiter);
            self.update(place, |worker| {
                let is_other = worker.class != joining.class;
                if worker.portable != joining.portable {
                    // these are its own word only; what it did wrong may not be stored yet
                    worker.evidence = worker.evidence.unproven();
                    worker.pending = [0; 2];
                }
                if is_other || joining.standing.suspect_since > worker.evidence.suspect_since {
                    worker.evidence = joining.standing;
                    worker.pending = [0; 2];
                }
                worker.prior = joining.prior;
                worker.is_arbiter = joining.is_arbiter;
                worker.domain_number = domain_number;
                worker.class = joining.class;
                worker.portable = joining.portable;
                worker.domain = joining.domain;
                worker.labels = joining.labels;
                worker.slots = joining.slots;
                worker.memory_bytes = joining.memory_bytes;
                worker.credits = 0;
                worker.is_connected = true;
                worker.heard_at = now;
                worker.is_suspect = false;
                worker.is_silent = false;
                worker.drain = None;
                worker.condemned_elsewhere = joining.condemned_elsewhere;
                if joining.quarantined && worker.quarantine.is_none() {
                    worker.quarantine = Some("quarantined by the store's record".to_owned());
                    worker.for_votes = joining.for_votes;
                }
            });
            return place;
        }
        let place = self.workers.len();
        self.places.insert(joining.worker, place);
        self.note_arbiter(place, joining.is_arbiter);
        self.workers.push(Worker::new(joining, domain_number, now));
        place
    }

    fn note_arbiter(&mut self, place: usize, is_arbiter: bool) {
        self.arbiters.retain(|arbiter| *arbiter != place);
        if is_arbiter {
            self.arbiters.push(place);
        }
    }

    /// A worker takes an attempt.
    pub(super) fn lease(&mut self, place: usize, attempt: AttemptId, memory_bytes: u64) {
        self.update(place, |worker| {
            worker.holds.push(attempt);
            worker.memory_leased += memory_bytes;
            worker.credits = worker.credits.saturating_sub(1);
        });
    }

    /// A worker grants so many attempts beyond those that it was told of.
    pub(super) fn grant(&mut self, place: usize, credits: u32) {
        self.update(place, |worker| {
            // whatever it grants, it is believed to begin so much soon and no more
            let most = u64::from(worker.slots) * HOLDS_PER_SLOT_MAX;
            let room = most.saturating_sub(worker.holds.len() as u64);
            let credits = credits.saturating_sub(worker.reserved);
            worker.credits = credits.min(u32::try_from(room).unwrap_or(u32::MAX));
        });
    }

    /// A worker shows an attempt that it holds from before; its credits do not include it.
    pub(super) fn hold(&mut self, place: usize, attempt: AttemptId, memory_bytes: u64) {
        let worker = &mut self.workers[place];
        worker.holds.push(attempt);
        worker.memory_leased += memory_bytes;
    }

    /// A worker holds an attempt no longer. Its credits grow only when it says so.
    pub(super) fn release(&mut self, worker: WorkerId, attempt: AttemptId, memory_bytes: u64) {
        let Some(worker) = self.get_mut(worker) else { return };
        if let Some(position) = worker.holds.iter().position(|held| *held == attempt) {
            worker.holds.swap_remove(position);
            worker.memory_leased -= memory_bytes;
        }
    }

    /// Remembers that a worker executed a module; gives the module that this pushed out.
    pub(super) fn loaded(&mut self, place: usize, module: u32) -> Option<u32> {
        let loaded = &mut self.workers[place].loaded;
        loaded.push_back(module);
        if loaded.len() > LOADED_MAX { loaded.pop_front() } else { None }
    }

    /// Forgets a module, because its number will be given to another one.
    pub(super) fn unload(&mut self, module: u32) {
        for worker in &mut self.workers {
            worker.loaded.retain(|loaded| *loaded != module);
        }
    }
}
