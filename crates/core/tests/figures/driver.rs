//! A pool at work: submits, lets workers answer in random order, repairs as a shell would, and keeps count.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{
    Class, Conclusion, Config, CountedVote, Dissent, Effect, Event, Final, Joining, PastVote, PastVoter,
    Pool, Portable, Prior, Reverify, Standing, Submission, Suspect, Time, Vote, Write, WriteKind,
    group_error_ppb, is_decisive, repair_order,
};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::Outcome;
use vocabulary::spec::{Policy, Profile, Verify};

use crate::behaviour::{Behaviour, Mind, truth};
use crate::rng::Rng;

/// Slots of an arbiter: enough that nobody waits for it.
const ARBITER_SLOTS: u32 = 8;
/// Attempts of ordinary workers that are out at once, of 100: a few are always free to be drawn.
const BUSY_PERCENT: u32 = 90;
/// A final whose verification came to nothing is submitted so often.
const TRIES_MAX: u32 = 3;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub workers: u32,
    pub cheats: u32,
    pub behaviour: Behaviour,
    pub arbiters: u32,
    pub verify: Verify,
    /// Confirmations that everybody begins with.
    pub warm_k: u64,
}

/// What came of it; sums over seeds.
#[derive(Clone, Default, Debug)]
pub struct Figures {
    pub seeds: u64,
    pub runs: u64,
    pub exposed: u64,
    pub left: u64,
    pub undecided: u64,
    /// Worlds in which the one module, which is deterministic, was called nondeterministic: from then on nobody is blamed.
    pub miscalled: u64,
    pub unfinished: u64,
    pub cheats: u64,
    pub caught: u64,
    pub honest_quarantined: u64,
    /// Of those, let in again because what was held against them turned out wrong.
    pub rehabilitated: u64,
    /// Cheats that were let in again for the same reason: of what they lied about in other runs, nothing was known yet.
    pub let_in_again: u64,
    pub attempts: u64,
    pub arbiter_attempts: u64,
    pub anew: u64,
    pub anew_attempts: u64,
    pub corrected: u64,
    /// Finals after which the last cheat was caught, of the slowest seed.
    pub all_caught_after: u64,
}

impl Figures {
    pub fn add(&mut self, other: &Figures) {
        self.seeds += other.seeds;
        self.runs += other.runs;
        self.exposed += other.exposed;
        self.left += other.left;
        self.undecided += other.undecided;
        self.miscalled += other.miscalled;
        self.unfinished += other.unfinished;
        self.cheats += other.cheats;
        self.caught += other.caught;
        self.honest_quarantined += other.honest_quarantined;
        self.rehabilitated += other.rehabilitated;
        self.let_in_again += other.let_in_again;
        self.attempts += other.attempts;
        self.arbiter_attempts += other.arbiter_attempts;
        self.anew += other.anew;
        self.anew_attempts += other.anew_attempts;
        self.corrected += other.corrected;
        self.all_caught_after = self.all_caught_after.max(other.all_caught_after);
    }

    fn percent(&self, part: u64) -> f64 {
        part as f64 * 100.0 / self.runs.max(1) as f64
    }

    pub fn exposed_percent(&self) -> f64 {
        self.percent(self.exposed)
    }

    pub fn arbiter_percent(&self) -> f64 {
        self.percent(self.arbiter_attempts)
    }

    pub fn attempts_per_run(&self) -> f64 {
        self.attempts as f64 / self.runs.max(1) as f64
    }

    pub fn heading() -> String {
        format!(
            "{:<20} {:>8} {:>9} {:>6} {:>9} {:>9} {:>9} {:>6} {:>9} {:>8} {:>9} {:>9} {:>10}",
            "workers",
            "arbiters",
            "exposed %",
            "left",
            "no verdict",
            "caught",
            "honest q.",
            "back",
            "att./run",
            "arb. %",
            "anew %",
            "anew att.",
            "all caught"
        )
    }

    pub fn row(&self, name: &str, case: &Case) -> String {
        let caught = format!("{}/{}", self.caught, self.cheats);
        format!(
            "{name:<20} {:>8} {:>9.4} {:>6} {:>10} {caught:>9} {:>9} {:>6} {:>9.3} {:>8.2} {:>9.2} {:>9} {:>10}",
            case.arbiters,
            self.exposed_percent(),
            self.left,
            self.undecided,
            self.honest_quarantined,
            self.rehabilitated,
            self.attempts_per_run(),
            self.arbiter_percent(),
            self.percent(self.anew),
            self.anew_attempts,
            self.all_caught_after,
        )
    }
}

/// A final as the shell keeps it.
struct Kept {
    result: Digest,
    votes: Vec<CountedVote>,
    revision: u32,
    attempts: u32,
    at: Time,
    is_open: bool,
    tries: u32,
}

struct Driver {
    case: Case,
    pool: Pool,
    rng: Rng,
    now: u64,
    minds: Vec<Mind>,
    live: Vec<(AttemptId, Epoch, WorkerId)>,
    finals: BTreeMap<RunId, Kept>,
    /// Runs whose final rests on a worker.
    rests: BTreeMap<WorkerId, BTreeSet<RunId>>,
    quarantined: BTreeSet<WorkerId>,
    /// Cheats that were quarantined at some time.
    caught: BTreeSet<WorkerId>,
    anew: BTreeSet<RunId>,
    open: u64,
    ended: u64,
    last_seen: Digest,
    figures: Figures,
    effects: Vec<Effect>,
    /// To be looked at when the step is over.
    repairs: Vec<WorkerId>,
}

/// Lives through one seed.
pub fn live(case: &Case, runs: u64, seed: u64) -> Figures {
    let mut driver = Driver::new(case, seed);
    let busiest = (case.workers * BUSY_PERCENT / 100) as usize;
    let mut submitted = 0;
    for round in 0.. {
        let arbiters = driver.case.workers;
        let busy = driver.live.iter().filter(|(.., worker)| worker.0 <= arbiters).count();
        let standing = case.workers as usize - driver.quarantined.len();
        if submitted < runs && busy < busiest.min(standing * BUSY_PERCENT as usize / 100).max(1) {
            submitted += 1;
            driver.submit(u128::from(submitted));
        } else if driver.live.is_empty() {
            // nobody works and nobody may be submitted: only time can help
            if submitted == runs && driver.open == 0 && driver.anew.is_empty() {
                break;
            }
            if round > runs * 40 {
                break;
            }
            driver.pass(1_000_000);
        } else {
            driver.answer_one();
        }
        if round % 1_000 == 0 {
            driver.beat();
        }
    }
    driver.sum_up()
}

impl Driver {
    fn new(case: &Case, seed: u64) -> Driver {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 42);
        let mut minds = vec![Mind::default(); (case.workers + case.arbiters) as usize + 1];
        let mut cheats = 0;
        while cheats < case.cheats {
            let who = rng.range(1, u64::from(case.workers) + 1) as usize;
            if !std::mem::replace(&mut minds[who].is_cheat, true) {
                cheats += 1;
            }
        }
        // nobody minds how slow they are here
        let config = Config { hedge_permille: 0, ..Config::default() };
        let mut driver = Driver {
            case: *case,
            pool: Pool::new(config, Time(1)),
            rng,
            now: 1,
            minds,
            live: Vec::new(),
            finals: BTreeMap::new(),
            rests: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            caught: BTreeSet::new(),
            anew: BTreeSet::new(),
            open: 0,
            ended: 0,
            last_seen: truth(0),
            figures: Figures { seeds: 1, cheats: u64::from(case.cheats), ..Figures::default() },
            effects: Vec::new(),
            repairs: Vec::new(),
        };
        for worker in 1..=case.workers + case.arbiters {
            driver.join(worker);
        }
        driver
    }

    fn join(&mut self, number: u32) {
        let is_arbiter = number > self.case.workers;
        let slots = if is_arbiter { ARBITER_SLOTS } else { 1 };
        let worker = WorkerId(number);
        let joining = Joining {
            worker,
            class: Class(Digest::EMPTY),
            domain: format!("domain {number}"),
            labels: BTreeMap::new(),
            slots,
            memory_bytes: 1 << 40,
            holds: vec![],
            quarantined: false,
            standing: Standing { k_milli: self.case.warm_k * 1_000, ..Standing::default() },
            prior: if is_arbiter { Prior::Owned } else { Prior::Foreign },
            is_arbiter,
            portable: Portable::alike(Class(Digest::EMPTY)),
            for_votes: false,
            condemned_elsewhere: false,
        };
        self.step(Event::WorkerJoined(Box::new(joining)));
        self.step(Event::Credits { worker, credits: slots });
    }

    fn submission(&mut self, run: RunId, reverify: Option<Reverify>) -> Submission {
        Submission {
            run,
            epoch: Epoch(1),
            workspace: WorkspaceId(0),
            module: Digest::from_bytes([7; 32]),
            memory_bytes: 1 << 20,
            policy: Policy { verify: self.case.verify, durable: false, ..Policy::default() },
            module_ready: true,
            recovered: false,
            submitted_at: Time(self.now),
            history: vec![],
            explained: vec![],
            lottery: self.rng.next(),
            reverify,
            share: None,
            profile: Profile::Det1,
        }
    }

    fn submit(&mut self, run: u128) {
        let submission = self.submission(RunId(run), None);
        let mut effects = std::mem::take(&mut self.effects);
        self.pool.submit(Time(self.now), submission, &mut effects).expect("it is accepted");
        self.open += 1;
        self.follow(effects);
    }

    fn step(&mut self, event: Event) {
        self.now += 100;
        let mut effects = std::mem::take(&mut self.effects);
        self.pool.step(Time(self.now), event, &mut effects);
        self.follow(effects);
    }

    fn pass(&mut self, us: u64) {
        self.beat();
        self.now += us;
        if self.pool.next_deadline().is_some_and(|at| at.0 <= self.now) {
            self.step(Event::Tick);
        }
    }

    fn beat(&mut self) {
        for number in 1..=self.case.workers + self.case.arbiters {
            let worker = WorkerId(number);
            let held = self.live.iter().filter(|(_, _, by)| *by == worker);
            let beat = |(attempt, ..): &(AttemptId, Epoch, WorkerId)| lockstep_core::Beat {
                attempt: *attempt,
                cpu_us: 1,
                begun_at: None,
            };
            let beats = held.map(beat).collect();
            self.step(Event::Heartbeat { worker, beats });
        }
    }

    fn answer_one(&mut self) {
        let which = self.rng.below(self.live.len() as u64) as usize;
        let (attempt, epoch, worker) = self.live.swap_remove(which);
        let mind = &mut self.minds[worker.0 as usize];
        let result = self.case.behaviour.answer(mind, attempt.run.0, self.last_seen, &mut self.rng);
        let result = if worker.0 > self.case.workers { truth(attempt.run.0) } else { result };
        self.last_seen = result;
        let outcome = Outcome::Exited { code: 0 };
        let vote = Vote { result, outcome, cpu_us: 10, complete: true };
        self.step(Event::AttemptVoted { attempt, epoch, worker, vote });
        self.free(worker);
    }

    fn free(&mut self, worker: WorkerId) {
        let slots = if worker.0 > self.case.workers { ARBITER_SLOTS } else { 1 };
        let held = self.live.iter().filter(|(_, _, by)| *by == worker).count() as u32;
        self.step(Event::Credits { worker, credits: slots.saturating_sub(held) });
    }

    fn follow(&mut self, mut effects: Vec<Effect>) {
        let mut freed = Vec::new();
        let mut committed = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Assign { attempt, epoch, worker } => {
                    self.live.push((attempt, epoch, worker));
                    let is_arbiter = worker.0 > self.case.workers;
                    self.figures.arbiter_attempts += u64::from(is_arbiter);
                    match self.anew.contains(&attempt.run) {
                        true => self.figures.anew_attempts += u64::from(!is_arbiter),
                        false => self.figures.attempts += u64::from(!is_arbiter),
                    }
                }
                Effect::Abort { attempt, worker } => {
                    self.live.retain(|(live, ..)| *live != attempt);
                    freed.push(worker);
                }
                Effect::Finished(last) => {
                    self.open -= 1;
                    self.ended += 1;
                    self.keep(*last);
                }
                Effect::Write(Write::Correct(last)) => {
                    committed.push(last.run);
                    self.figures.corrected += 1;
                    self.anew.remove(&last.run);
                    self.keep(*last);
                }
                Effect::Reverified(done) => {
                    let run = done.last.run;
                    self.anew.remove(&run);
                    match done.conclusion {
                        Conclusion::Confirmed => self.keep(done.last),
                        Conclusion::Undecided | Conclusion::Nondeterministic => {
                            let kept = self.finals.get_mut(&run).expect("it was final");
                            (kept.is_open, kept.tries) = (false, kept.tries + 1);
                        }
                    }
                }
                Effect::QuarantineWorker { worker, .. } => {
                    self.quarantined.insert(worker);
                    if self.minds[worker.0 as usize].is_cheat {
                        self.caught.insert(worker);
                        self.figures.all_caught_after = self.ended;
                    } else {
                        self.figures.honest_quarantined += 1;
                    }
                }
                Effect::Rehabilitated { worker, .. } => {
                    self.quarantined.remove(&worker);
                    match self.minds[worker.0 as usize].is_cheat {
                        true => self.figures.let_in_again += 1,
                        false => self.figures.rehabilitated += 1,
                    }
                }
                Effect::NondeterministicModule { .. } => self.figures.miscalled += 1,
                Effect::Repair { worker } => self.repairs.push(worker),
                _ => {}
            }
        }
        self.effects = effects;
        for run in committed {
            self.step(Event::Committed { run, write: WriteKind::Finished });
        }
        for worker in freed {
            self.free(worker);
        }
        while let Some(worker) = self.repairs.pop() {
            self.repair(worker);
        }
    }

    fn keep(&mut self, last: Final) {
        let Some(result) = last.result else {
            self.figures.undecided += 1;
            return;
        };
        if last.revision == 1 && !self.finals.contains_key(&last.run) {
            self.figures.exposed += u64::from(result != truth(last.run.0));
        }
        for vote in last.votes.iter().filter(|vote| vote.result == result) {
            self.rests.entry(vote.worker).or_default().insert(last.run);
        }
        let attempts = last.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0);
        let (tries, at) = (0, last.finished_at);
        let kept =
            Kept { result, votes: last.votes, revision: last.revision, attempts, at, is_open: false, tries };
        self.finals.insert(last.run, kept);
        // somebody on whom it rests may have been caught while it was decided
        let out: Vec<WorkerId> = self.finals[&last.run].votes.iter().map(|vote| vote.worker).collect();
        if let Some(worker) = out.into_iter().find(|worker| self.quarantined.contains(worker)) {
            self.repairs.push(worker);
        }
    }

    /// Submits what rested on a worker to be verified anew.
    fn repair(&mut self, worker: WorkerId) {
        let errors: BTreeMap<WorkerId, u64> =
            self.pool.workers().into_iter().map(|view| (view.worker, view.error_ppb)).collect();
        let mut suspects = Vec::new();
        for run in self.rests.get(&worker).into_iter().flatten() {
            let Some(kept) = self.finals.get(run).filter(|kept| !kept.is_open && kept.tries < TRIES_MAX)
            else {
                continue;
            };
            let past = kept.votes.iter().map(|vote| {
                let mut weight = vote.weight;
                let now = if weight.is_arbiter { 0 } else { errors.get(&vote.worker).copied().unwrap_or(0) };
                weight.error_ppb = weight.error_ppb.max(now);
                PastVote { worker: vote.worker, result: vote.result, weight }
            });
            let votes: Vec<PastVote> = past.collect();
            if is_decisive(self.case.verify, kept.result, &votes, |worker| self.quarantined.contains(&worker))
            {
                let rest = votes.iter().filter(|vote| !self.quarantined.contains(&vote.worker));
                let rest = rest.map(|vote| lockstep_core::Opinion {
                    worker: vote.worker,
                    result: vote.result,
                    weight: vote.weight,
                });
                let error_ppb = group_error_ppb(&rest.collect::<Vec<_>>(), kept.result);
                suspects.push(Suspect { run: *run, error_ppb, finished_at: kept.at });
            }
        }
        repair_order(&mut suspects);
        for suspect in suspects {
            let Some(kept) = self.finals.get_mut(&suspect.run).filter(|kept| !kept.is_open) else { continue };
            kept.is_open = true;
            let voters =
                kept.votes.iter().filter(|vote| vote.result == kept.result && !vote.weight.is_arbiter);
            let voters = voters
                .map(|vote| PastVoter { worker: vote.worker, class: None, code: None, is_out: false })
                .collect();
            let (result, revision, attempts) = (kept.result, kept.revision, kept.attempts);
            let lost = kept.votes.iter().filter(|vote| vote.result != kept.result);
            let dissents = lost.map(|vote| Dissent {
                number: vote.number,
                worker: vote.worker,
                class: Class(Digest::EMPTY),
                result: vote.result,
            });
            let dissents = dissents.collect();
            let reverify = Reverify {
                result,
                revision,
                voters,
                attempts,
                dissents,
                class: None,
                overflowed: false,
                codes: vec![],
            };
            self.figures.anew += 1;
            self.anew.insert(suspect.run);
            let submission = self.submission(suspect.run, Some(reverify));
            let mut effects = std::mem::take(&mut self.effects);
            self.pool.submit(Time(self.now), submission, &mut effects).expect("it is accepted");
            self.follow(effects);
        }
    }

    fn sum_up(mut self) -> Figures {
        self.pool.check_invariants().expect("the invariants hold");
        self.figures.runs = self.ended;
        self.figures.caught = self.caught.len() as u64;
        self.figures.unfinished = self.open + self.anew.len() as u64;
        self.figures.left =
            self.finals.iter().filter(|(run, kept)| kept.result != truth(run.0)).count() as u64;
        self.figures
    }
}
