//! A virtual world around the real pool: workers, links, a store, people who cancel and drain, and a clock.
//!
//! One seed determines everything. Things happen in the order of (time, seeded tie-break); each event of the pool is judged
//! by the oracle and by the pool's own invariants.

mod coordinator;
mod features;
mod trouble;
mod workers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use lockstep_core::{Class, Config, Event, OWN_DOMAIN, Portable, Prior, Standing, Submission, Time};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, RunId, WorkerId};

use self::features::Features;
use crate::agents::{Agent, Behaviour, Inbox, Said, Told};
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::shim::{Mutant, Shim};
use crate::store::Store;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// The world begins here, so that nothing rests on a clock that starts at zero.
const START: u64 = 1_000_000 * SECOND;
/// The day of the beginning, counted as the core counts days: nothing has aged.
const TODAY: u32 = (START / (24 * 60 * 60 * SECOND)) as u32;
/// How long things go wrong.
const TROUBLE: u64 = 40 * SECOND;
/// How long everything may take to end once they do not.
const PATIENCE: u64 = 300 * SECOND;
const MEMORY: u64 = 64 << 20;

enum Item {
    Tick,
    Heard {
        agent: usize,
        session: u64,
        said: Said,
    },
    Reaches {
        agent: usize,
        session: u64,
        told: Told,
    },
    Ends {
        agent: usize,
        attempt: AttemptId,
        stamp: u64,
    },
    Beat {
        agent: usize,
        session: u64,
    },
    Says {
        agent: usize,
        session: u64,
        said: Said,
    },
    Commit {
        life: u32,
    },
    /// What a voter delivered is stored.
    Stored {
        life: u32,
        attempt: AttemptId,
    },
    Connect {
        agent: usize,
        session: u64,
    },
    Thaw {
        agent: usize,
    },
    Submit,
    Chaos,
    ModuleReady(Digest),
    Peace,
}

struct Due {
    at: u64,
    tie: u64,
    item: Item,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

/// What a module does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nature {
    Good,
    Killer,
    Endless,
    /// Something else each time.
    Erratic,
}

/// Attempts that were executing when a coordinator ended, all lives together.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kept {
    /// How many there were.
    pub running: u64,
    /// How many went on.
    pub kept: u64,
    /// How many of their runs were given more attempts than they have voters.
    pub doubled: u64,
}

pub struct World {
    rng: Rng,
    now: u64,
    due: BinaryHeap<Reverse<Due>>,
    features: Features,
    mutant: Option<Mutant>,
    pool: Shim,
    life: u32,
    epoch: u64,
    agents: Vec<Agent>,
    store: Store,
    is_committing: bool,
    oracle: Oracle,
    modules: Vec<(Digest, Nature, bool)>,
    tick_at: Option<u64>,
    /// The world stood still until then; what was due meanwhile happens now.
    away_until: u64,
    stamps: u64,
    submitted: u64,
    to_submit: u64,
    is_peace: bool,
    peace_at: u64,
    /// What became of the attempts that were executing at a restart.
    pub kept: Kept,
    /// Those of the last restart that nobody has come back with.
    awaited: BTreeSet<(AttemptId, WorkerId)>,
    /// What the logs of evidence say.
    evidence: BTreeMap<WorkerId, Standing>,
    /// Workers whose votes gave them away: what rests on them is to be looked for.
    repairs: Vec<WorkerId>,
    /// What was submitted last.
    latest: Option<Submission>,
    /// Finals that are to be verified anew, or are.
    anew: BTreeSet<RunId>,
    /// One line per event, when somebody wants to read it.
    trace: bool,
}

fn config(features: &Features) -> Config {
    let usual = Config::default();
    let bounds = match features.small_bounds {
        true => Config {
            runs_max: 14,
            runs_per_workspace_max: 8,
            followers_max: 2,
            reverify_percent: 5,
            losses_max: 2,
            refusals_max: 2,
            probation_attempts_max: 1,
            worker_failures_max: 2,
            ..usual
        },
        false => usual,
    };
    let hedge_permille = if features.eager_hedges { 1_000 } else { 50 };
    Config {
        quorum_wait_ms: 8_000,
        collect_timeout_ms: 2_000,
        module_crashes_max: 4,
        // where it is counted what a restart doubles, nothing else may double it
        hedge_permille: if features.long { 0 } else { hedge_permille },
        ..bounds
    }
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, trace: bool) -> World {
        let mut rng = Rng::new(seed);
        let features = Features::drawn(&mut rng);
        World::with(rng, features, mutant, trace)
    }

    /// A world in which the coordinator is killed now and then and nothing else is wrong.
    pub fn of_restarts(seed: u64, mutant: Option<Mutant>, trace: bool) -> World {
        World::with(Rng::new(seed), Features::only_restarts(), mutant, trace)
    }

    fn with(mut rng: Rng, features: Features, mutant: Option<Mutant>, trace: bool) -> World {
        if trace {
            println!("{features:?}");
        }
        let modules = (0..5u8).map(|i| {
            let nature = match i {
                3 if features.killer_modules => Nature::Killer,
                4 if features.hangs => Nature::Endless,
                2 if features.erratic_modules => Nature::Erratic,
                _ => Nature::Good,
            };
            (Digest::from_bytes([i + 1; 32]), nature, !features.late_modules || i < 2)
        });
        let modules = modules.collect();
        let to_submit = rng.range(5, 50);
        let mut world = World {
            pool: Shim::new(config(&features), Time(START), &BTreeSet::new(), mutant),
            rng,
            now: START,
            due: BinaryHeap::new(),
            features,
            mutant,
            life: 0,
            epoch: 1,
            agents: Vec::new(),
            store: Store::default(),
            is_committing: false,
            oracle: Oracle::default(),
            modules,
            tick_at: None,
            away_until: 0,
            stamps: 0,
            submitted: 0,
            to_submit,
            is_peace: false,
            peace_at: START + TROUBLE,
            kept: Kept::default(),
            awaited: BTreeSet::new(),
            evidence: BTreeMap::new(),
            repairs: Vec::new(),
            latest: None,
            anew: BTreeSet::new(),
            trace,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let count = self.rng.range(2, 8) as usize;
        for place in 0..count {
            let agent = self.agent(place);
            let k = *self.rng.pick(&[0, 0, 4, 40, 1_000]);
            self.evidence
                .insert(agent.id, Standing { k_milli: k * 1_000, day: TODAY, ..Standing::default() });
            self.agents.push(agent);
            let at = self.rng.below(200 * MS);
            self.later(at, Item::Connect { agent: place, session: 0 });
        }
        let mut at = 0;
        for _ in 0..self.to_submit {
            at = match self.features.repeats && self.rng.chance(60) {
                true => at + self.rng.below(60 * MS),
                false => self.rng.below(TROUBLE * 3 / 4),
            };
            self.later(at, Item::Submit);
        }
        let troubles = if self.features.long { 40 } else { 30 };
        for _ in 0..self.rng.below(troubles) {
            let at = self.rng.below(TROUBLE);
            self.later(at, Item::Chaos);
        }
        for place in 0..self.modules.len() {
            let at = self.rng.below(TROUBLE / 2);
            self.later(at, Item::ModuleReady(self.modules[place].0));
        }
        self.later(TROUBLE, Item::Peace);
    }

    fn agent(&mut self, place: usize) -> Agent {
        let features = &self.features;
        let rng = &mut self.rng;
        let mut rate = |is_on: bool, most: u64| if is_on && rng.chance(40) { rng.below(most) } else { 0 };
        let behaviour = Behaviour {
            crashes: rate(features.crashes, 60),
            hangs: rate(features.hangs, 40),
            lies: rate(features.lies, 100),
            colludes: rate(features.colludes, 100),
            refuses: rate(features.refuses, 50),
            returns: rate(features.returns, 60),
            keeps_nothing: rate(features.keeps_nothing, 80),
            slow: rate(features.slow, 2) == 1,
            deaf: rate(features.deaf, 2) == 1,
            corrupts: rate(features.corrupts, 60),
            hides: rate(features.hides, 100),
        };
        let is_arbiter = features.arbiters && place > 1 && rng.chance(30);
        // an arbiter is trusted because it is the operator's
        let behaviour = if is_arbiter { Behaviour { lies: 0, colludes: 0, ..behaviour } } else { behaviour };
        let prior = if is_arbiter || rng.chance(40) { Prior::Owned } else { Prior::Foreign };
        let class = if features.classes && rng.chance(30) { 2u64 } else { 1 };
        let of = |number: u64| Class(Digest::from_bytes([number as u8; 32]));
        // the same machine code gives the same results
        let results = if features.portable && rng.chance(15) { 20 } else { 10 };
        let portable = match features.portable {
            true => Portable { results: of(results), code: of(results + rng.range(1, 4)) },
            false => Portable::alike(of(class)),
        };
        let domain = if features.domains { rng.range(0, 4) } else { 0 };
        Agent {
            id: WorkerId(place as u32 + 1),
            class: of(class),
            portable,
            prior,
            is_arbiter,
            domain: if domain == 0 { OWN_DOMAIN.to_owned() } else { format!("domain {domain}") },
            // one of each: a run that nobody could ever execute may wait for ever
            zone: if place == 0 || place > 1 && rng.chance(60) { "a" } else { "b" },
            slots: rng.range(1, 4) as u32,
            memory_bytes: if features.tight_memory { MEMORY * 2 } else { MEMORY * 64 },
            behaviour,
            is_connected: false,
            is_gone: false,
            is_heard: false,
            session: 0,
            is_frozen: false,
            backlog: Vec::new(),
            holding: BTreeMap::new(),
            unsent: Vec::new(),
            kept: BTreeMap::new(),
            outputs: Default::default(),
            received: 0,
            sent: 0,
            last_up: 0,
            last_down: 0,
            blocked_up: 0,
            blocked_down: 0,
        }
    }

    fn later(&mut self, after: u64, item: Item) {
        self.at(self.now + after, item);
    }

    fn at(&mut self, at: u64, item: Item) {
        let tie = self.rng.next();
        self.due.push(Reverse(Due { at, tie, item }));
    }

    /// Lives through it. Gives the rare states that were seen, or the rule that was broken.
    pub fn run(self) -> Result<BTreeMap<&'static str, u64>, String> {
        self.live().map(|world| world.oracle.seen)
    }

    /// The same; gives the world at its end.
    pub fn live(mut self) -> Result<World, String> {
        while let Some(Reverse(Due { at, item, .. })) = self.due.pop() {
            self.now = at.max(self.away_until);
            self.happens(item).map_err(|broken| format!("{broken} (at {} ms)", (self.now - START) / MS))?;
            if self.is_peace && (self.all_ended() || self.now > self.peace_at + PATIENCE) {
                break;
            }
        }
        self.check_ended()?;
        self.kept.doubled += self.oracle.doubled();
        Ok(self)
    }

    fn all_ended(&self) -> bool {
        let is_open = |run: &RunId| {
            let known = &self.oracle.runs[run];
            let is_committed = self.store.rows.get(run).is_some_and(|row| row.last.is_some());
            let is_told = !known.submission.policy.durable && known.last.is_some();
            !(known.is_foreign || is_committed || is_told)
        };
        self.anew.is_empty() && !self.oracle.runs.keys().any(is_open)
    }

    /// L1: everything that was acknowledged has ended.
    fn check_ended(&self) -> Result<(), String> {
        if let Some(run) = self.anew.first() {
            return Err(format!("L1: {run} is verified anew without end: {:#?}", self.pool.run(*run)));
        }
        for (run, known) in &self.oracle.runs {
            let row = self.store.rows.get(run);
            let is_final = match known.submission.policy.durable {
                true => row.is_some_and(|row| row.last.is_some()),
                false => known.last.is_some(),
            };
            if known.is_acked && !known.is_foreign && !is_final {
                let view = self.pool.run(*run);
                return Err(format!("L1: {run} has not ended: {view:#?}"));
            }
        }
        Ok(())
    }

    fn happens(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Tick => {
                if self.tick_at == Some(self.now) {
                    self.tick_at = None;
                    self.step(Event::Tick)?;
                }
                Ok(())
            }
            Item::Heard { agent, session, said } => self.heard(agent, session, said),
            Item::Reaches { agent, session, told } => {
                if self.agents[agent].session == session {
                    self.deal(agent, Inbox::Told(told))?;
                }
                Ok(())
            }
            Item::Ends { agent, attempt, stamp } => self.deal(agent, Inbox::Ends { attempt, stamp }),
            Item::Beat { agent, session } => {
                let here = &self.agents[agent];
                if here.session == session && here.is_connected {
                    if !here.is_frozen {
                        let beats = here.beats(self.now);
                        self.says(agent, Said::Beat(beats));
                        let credits = Said::Credits {
                            credits: self.agents[agent].credits(),
                            received: self.agents[agent].received,
                        };
                        self.says(agent, credits);
                    }
                    let period = self.rng.range(800 * MS, 1_200 * MS);
                    self.later(period, Item::Beat { agent, session });
                }
                Ok(())
            }
            Item::Says { agent, session, said } => {
                if self.agents[agent].session == session {
                    self.says(agent, said);
                }
                Ok(())
            }
            Item::Commit { life } => {
                if life == self.life {
                    self.commit()
                } else {
                    Ok(())
                }
            }
            Item::Stored { life, attempt } => {
                if life == self.life {
                    self.step(Event::Collected { attempt })
                } else {
                    Ok(())
                }
            }
            Item::Connect { agent, session } => {
                let here = &self.agents[agent];
                if here.session == session && !here.is_connected && !here.is_gone {
                    self.connect(agent);
                }
                Ok(())
            }
            Item::Thaw { agent } => self.thaw(agent),
            Item::Submit => self.submit(),
            Item::Chaos => self.chaos(),
            Item::ModuleReady(module) => {
                for known in self.modules.iter_mut().filter(|known| known.0 == module) {
                    known.2 = true;
                }
                self.step(Event::ModuleReady { module })
            }
            Item::Peace => self.peace(),
        }
    }
}
