//! A virtual world around the real pool: workers, links, a store, people who cancel and drain, and a clock.
//!
//! One seed determines everything. Things happen in the order of (time, seeded tie-break); each event of the pool is judged
//! by the oracle and by the pool's own invariants.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use lockstep_core::{Class, Config, Effect, Event, Joining, Submission, SubmitError, Time, Vote, Write};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::{Fault, Outcome};
use vocabulary::spec::{Placement, Policy, Retry, Verify};

use crate::agents::{Agent, Behaviour, Held, Inbox, Said, Told, truth};
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::shim::{Mutant, Shim};
use crate::store::Store;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// The world begins here, so that nothing rests on a clock that starts at zero.
const START: u64 = 1_000_000 * SECOND;
/// How long things go wrong.
const TROUBLE: u64 = 40 * SECOND;
/// How long everything may take to end once they do not.
const PATIENCE: u64 = 300 * SECOND;
const MEMORY: u64 = 64 << 20;

/// What may go wrong in a world; each seed leaves some of it out, because a mix of everything hides what a few make.
#[derive(Debug)]
pub struct Features {
    crashes: bool,
    hangs: bool,
    lies: bool,
    refuses: bool,
    slow: bool,
    keeps_nothing: bool,
    deaf: bool,
    kills: bool,
    cuts: bool,
    freezes: bool,
    restarts: bool,
    same_epoch: bool,
    refused_writes: bool,
    cancels: bool,
    quarantines: bool,
    drains: bool,
    deadlines: bool,
    in_memory: bool,
    tried_once: bool,
    labels: bool,
    domains: bool,
    classes: bool,
    killer_modules: bool,
    late_modules: bool,
    large_quorums: bool,
    inline_results: bool,
    tight_memory: bool,
}

impl Features {
    fn drawn(rng: &mut Rng) -> Features {
        let mut draw = || rng.chance(45);
        Features {
            crashes: draw(),
            hangs: draw(),
            lies: draw(),
            refuses: draw(),
            slow: draw(),
            keeps_nothing: draw(),
            deaf: draw(),
            kills: draw(),
            cuts: draw(),
            freezes: draw(),
            restarts: draw(),
            same_epoch: draw(),
            refused_writes: draw(),
            cancels: draw(),
            quarantines: draw(),
            drains: draw(),
            deadlines: draw(),
            in_memory: draw(),
            tried_once: draw(),
            labels: draw(),
            domains: draw(),
            classes: draw(),
            killer_modules: draw(),
            late_modules: draw(),
            large_quorums: draw(),
            inline_results: draw(),
            tight_memory: draw(),
        }
    }
}

enum Item {
    Tick,
    Heard { agent: usize, session: u64, said: Said },
    Reaches { agent: usize, session: u64, told: Told },
    Ends { agent: usize, attempt: AttemptId, stamp: u64 },
    Beat { agent: usize, session: u64 },
    Commit { life: u32 },
    /// What a voter delivered is stored.
    Stored { life: u32, attempt: AttemptId },
    Connect { agent: usize, session: u64 },
    Thaw { agent: usize },
    Submit,
    Chaos,
    ModuleReady(Digest),
    Peace,
    /// The coordinator goes on after it was stopped.
    Awake { life: u32, ms: u64 },
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
    /// The coordinator hears and does nothing until then.
    away_until: u64,
    stamps: u64,
    submitted: u64,
    to_submit: u64,
    is_peace: bool,
    peace_at: u64,
    /// One line per event, when somebody wants to read it.
    trace: bool,
}

fn config() -> Config {
    Config { quorum_wait_ms: 8_000, collect_timeout_ms: 2_000, module_crashes_max: 4, ..Config::default() }
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, trace: bool) -> World {
        let mut rng = Rng::new(seed);
        let features = Features::drawn(&mut rng);
        if trace {
            println!("{features:?}");
        }
        let modules = (0..5u8).map(|i| {
            let nature = match i {
                3 if features.killer_modules => Nature::Killer,
                4 if features.hangs => Nature::Endless,
                _ => Nature::Good,
            };
            (Digest::from_bytes([i + 1; 32]), nature, !features.late_modules || i < 2)
        });
        let modules = modules.collect();
        let to_submit = rng.range(5, 50);
        let mut world = World {
            pool: Shim::new(config(), Time(START), mutant),
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
            trace,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let count = self.rng.range(2, 8) as usize;
        for place in 0..count {
            let agent = self.agent(place);
            self.agents.push(agent);
            let at = self.rng.below(200 * MS);
            self.later(at, Item::Connect { agent: place, session: 0 });
        }
        for _ in 0..self.to_submit {
            let at = self.rng.below(TROUBLE * 3 / 4);
            self.later(at, Item::Submit);
        }
        for _ in 0..self.rng.below(30) {
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
            refuses: rate(features.refuses, 50),
            keeps_nothing: rate(features.keeps_nothing, 80),
            slow: rate(features.slow, 2) == 1,
            deaf: rate(features.deaf, 2) == 1,
        };
        let class = if features.classes && rng.chance(30) { 2 } else { 1 };
        let domain = if features.domains { rng.range(0, 4) } else { 0 };
        Agent {
            id: WorkerId(place as u32 + 1),
            class: Class(Digest::from_bytes([class; 32])),
            domain: format!("domain {domain}"),
            // one of each: a run that nobody could ever execute may wait for ever
            zone: if place == 0 || place > 1 && rng.chance(60) { "a" } else { "b" },
            slots: rng.range(1, 4) as u32,
            memory_bytes: if features.tight_memory { MEMORY * 2 } else { MEMORY * 64 },
            behaviour,
            is_connected: false,
            session: 0,
            is_frozen: false,
            backlog: Vec::new(),
            holding: BTreeMap::new(),
            unsent: Vec::new(),
            outputs: Default::default(),
            received: 0,
            sent: 0,
            last_up: 0,
            last_down: 0,
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
    pub fn run(mut self) -> Result<BTreeMap<&'static str, u64>, String> {
        while let Some(Reverse(Due { at, item, .. })) = self.due.pop() {
            self.now = at.max(self.away_until);
            self.happens(item).map_err(|broken| format!("{broken} (at {} ms)", (self.now - START) / MS))?;
            if self.is_peace && (self.all_ended() || self.now > self.peace_at + PATIENCE) {
                break;
            }
        }
        self.check_ended()?;
        Ok(self.oracle.seen)
    }

    fn all_ended(&self) -> bool {
        let is_open = |run: &RunId| {
            let known = &self.oracle.runs[run];
            let is_committed = self.store.rows.get(run).is_some_and(|row| row.last.is_some());
            let is_told = !known.submission.policy.durable && known.last.is_some();
            !(known.is_foreign || is_committed || is_told)
        };
        !self.oracle.runs.keys().any(is_open)
    }

    /// L1: everything that was acknowledged has ended.
    fn check_ended(&self) -> Result<(), String> {
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
                if self.tick_at.is_some_and(|at| at > self.now) {
                    return Ok(());
                }
                self.tick_at = None;
                if self.now == self.away_until {
                    // as the shell does it: everybody has a moment to speak before a timer fires
                    self.tick_at = Some(self.now + SECOND);
                    self.later(SECOND, Item::Tick);
                    return Ok(());
                }
                self.step(Event::Tick)
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
                        let held: Vec<AttemptId> = self.agents[agent].holding.keys().copied().collect();
                        held.into_iter().for_each(|attempt| self.says(agent, Said::Begun(attempt)));
                        self.says(agent, Said::Beat);
                        let credits = Said::Credits {
                            credits: self.agents[agent].credits(),
                            received: self.agents[agent].received,
                        };
                        self.says(agent, credits);
                    }
                    self.later(SECOND, Item::Beat { agent, session });
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
                if self.agents[agent].session == session && !self.agents[agent].is_connected {
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
            Item::Awake { life, ms } if life == self.life => self.step(Event::WasAway { ms }),
            Item::Awake { .. } => Ok(()),
        }
    }
}

/// The coordinator's side.
impl World {
    fn step(&mut self, event: Event) -> Result<(), String> {
        if self.trace {
            println!("{:>7} ms  {event:?}", (self.now - START) / MS);
        }
        let holds = match &event {
            Event::WorkerJoined(joining) => Some((joining.holds.clone(), joining.worker)),
            _ => None,
        };
        self.oracle.before(&event);
        let mut effects = Vec::new();
        self.pool.step(Time(self.now), event, &mut effects);
        if let Some((holds, worker)) = holds {
            self.oracle.claimed(&holds, worker, &self.pool);
        }
        self.follow(effects)
    }

    /// Judges and carries out what a step brought.
    fn follow(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        self.oracle.after(&effects, &self.pool)?;
        self.pool.check_invariants()?;
        for effect in effects {
            if self.trace && !matches!(effect, Effect::Changed { .. }) {
                println!("            → {effect:?}");
            }
            self.carry_out(effect);
        }
        let next = self.pool.next_deadline().map(|at| at.0.max(self.now));
        if next != self.tick_at {
            self.tick_at = next;
            if let Some(at) = next {
                self.at(at, Item::Tick);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Write(write) => {
                self.store.queued.push(write);
                if !self.is_committing {
                    self.is_committing = true;
                    let after = self.rng.range(MS, 20 * MS);
                    self.later(after, Item::Commit { life: self.life });
                }
            }
            Effect::Assign { attempt, epoch, worker } => {
                if let Some(agent) = self.connected(worker) {
                    self.agents[agent].sent += 1;
                    self.tells(agent, Told::Assign { attempt, epoch });
                }
            }
            Effect::Abort { attempt, worker } => {
                if let Some(agent) = self.connected(worker) {
                    self.tells(agent, Told::Abort(attempt));
                }
            }
            Effect::Release { attempt, worker } => {
                if let Some(agent) = self.connected(worker) {
                    self.tells(agent, Told::Release(attempt));
                }
            }
            Effect::Collect { attempt, worker, .. } => {
                if let Some(agent) = self.connected(worker) {
                    self.tells(agent, Told::Collect(attempt));
                }
            }
            Effect::Finished(_)
            | Effect::KeepDissent { .. }
            | Effect::Changed { .. }
            | Effect::WorkerChanged { .. }
            | Effect::QuarantineModule { .. }
            | Effect::Faulted { .. }
            | Effect::Dissented { .. } => {}
        }
    }

    fn connected(&self, worker: WorkerId) -> Option<usize> {
        let agent = worker.0 as usize - 1;
        self.agents[agent].is_connected.then_some(agent)
    }

    fn tells(&mut self, agent: usize, told: Told) {
        let delay = self.rng.range(100, 5 * MS);
        let link = &mut self.agents[agent];
        link.last_down = (link.last_down + 1).max(self.now + delay);
        let (at, session) = (link.last_down, link.session);
        self.at(at, Item::Reaches { agent, session, told });
    }

    /// The store commits what is queued. Some writes are refused, as if somebody else had taken the run over.
    fn commit(&mut self) -> Result<(), String> {
        self.is_committing = false;
        for write in std::mem::take(&mut self.store.queued) {
            let run = match &write {
                Write::Insert { run, .. } | Write::Attempt { run, .. } => *run,
                Write::Finish(last) => last.run,
            };
            if self.features.refused_writes && !self.is_peace && self.rng.chance(3) {
                if let Some(row) = self.store.rows.get_mut(&run) {
                    row.is_foreign = true;
                } else {
                    self.step(Event::Refused { run })?;
                    continue;
                }
            }
            if let Write::Finish(last) = &write
                && self.features.refused_writes
                && last.result.is_some()
                && !self.is_peace
                && self.rng.chance(5)
            {
                self.step(Event::BlobsMissing { run })?;
                continue;
            }
            let submission = self.oracle.runs.get(&run).map(|known| known.submission.clone());
            let answer = self.store.commit(write, submission.as_ref());
            self.step(answer)?;
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), String> {
        self.submitted += 1;
        let submission = self.submission();
        let mut effects = Vec::new();
        match self.pool.submit(Time(self.now), submission.clone(), &mut effects) {
            Ok(()) => {
                if self.trace {
                    println!("{:>7} ms  {submission:?}", (self.now - START) / MS);
                }
                self.oracle.accepted(&submission);
                self.follow(effects)
            }
            Err(error) => {
                let rare = match error {
                    SubmitError::QueueFull { .. } => "a full queue",
                    SubmitError::TooFewWorkers { .. } => "too few workers for a submission",
                    SubmitError::ModuleQuarantined { .. } => "a submission of a quarantined module",
                };
                self.oracle.saw(rare);
                if effects.is_empty() { Ok(()) } else { Err(format!("refused, and yet {effects:?}")) }
            }
        }
    }

    fn submission(&mut self) -> Submission {
        let features = &self.features;
        let rng = &mut self.rng;
        let largest = if features.large_quorums { 6 } else { 4 };
        let verify = match rng.chance(40) {
            true => Verify::Once,
            false => Verify::Quorum { n: rng.range(2, largest) as u8 },
        };
        let (module, _, module_ready) = *rng.pick(&self.modules);
        let labels = [("zone".to_owned(), rng.pick(&["a", "b"]).to_string())];
        let placement = match features.labels && rng.chance(40) {
            true => Placement::Labels { labels: labels.into_iter().collect() },
            false => Placement::Any,
        };
        let retry = if features.tried_once && rng.chance(30) { Retry::Never } else { Retry::Reassign };
        let policy = Policy {
            verify,
            retry,
            attempts_max: rng.range(1, 4) as u32,
            placement,
            timeout_ms: rng.range(200, 3_000),
            deadline_ms: (features.deadlines && rng.chance(20)).then(|| rng.range(500, 20_000)),
            priority: rng.below(3) as i8,
            durable: !(features.in_memory && rng.chance(30)),
        };
        Submission {
            run: RunId(u128::from(self.submitted) << 64 | u128::from(rng.next())),
            epoch: Epoch(self.epoch),
            workspace: WorkspaceId(rng.below(3) as u32),
            module,
            memory_bytes: *rng.pick(&[MEMORY / 2, MEMORY, MEMORY * 2]),
            policy,
            module_ready,
            recovered: false,
            submitted_at: Time(self.now),
            history: vec![],
            explained: vec![],
        }
    }

    /// The coordinator is killed and starts anew from what the store committed.
    fn restart(&mut self) -> Result<(), String> {
        self.life += 1;
        self.epoch += u64::from(!self.features.same_epoch);
        self.store.queued.clear();
        self.is_committing = false;
        self.pool = Shim::new(config(), Time(self.now), self.mutant);
        self.tick_at = None;
        self.oracle.restarted();
        for agent in 0..self.agents.len() {
            self.disconnect(agent, false);
        }
        let epoch = Epoch(self.epoch);
        let mut recovered = Vec::new();
        for (run, _) in self.store.rows.iter().filter(|(_, row)| row.is_foreign) {
            self.oracle.lost_to_another(*run);
        }
        for row in self.store.rows.values_mut().filter(|row| row.last.is_none() && !row.is_foreign) {
            row.epoch = epoch;
            recovered.push(Submission {
                epoch,
                recovered: true,
                module_ready: self
                    .modules
                    .iter()
                    .any(|(module, _, ready)| *module == row.submission.module && *ready),
                history: row.attempts.values().cloned().collect(),
                ..row.submission.clone()
            });
        }
        for submission in recovered {
            self.oracle.recovered(&submission);
            let mut effects = Vec::new();
            let answer = self.pool.submit(Time(self.now), submission, &mut effects);
            answer.map_err(|error| format!("I1: a recovered run was refused: {error}"))?;
            for effect in effects {
                self.carry_out(effect.clone());
                // judged below with all the others: until everything is recovered, runs are missing
                if let Some(last) = crate::shim::finished(&effect)
                    && let Some(known) = self.oracle.runs.get_mut(&last.run)
                {
                    known.last = Some(last.clone());
                }
            }
        }
        self.follow(Vec::new())
    }
}

/// The workers' side.
impl World {
    fn says(&mut self, agent: usize, said: Said) {
        let delay = self.rng.range(100, 5 * MS);
        let link = &mut self.agents[agent];
        link.last_up = (link.last_up + 1).max(self.now + delay);
        let (at, session) = (link.last_up, link.session);
        self.at(at, Item::Heard { agent, session, said });
    }

    fn connect(&mut self, agent: usize) {
        let link = &mut self.agents[agent];
        link.is_connected = true;
        link.session += 1;
        link.received = 0;
        link.sent = 0;
        let session = link.session;
        let holds = link.holds();
        let unsent = std::mem::take(&mut link.unsent);
        self.says(agent, Said::Hello(holds));
        for said in unsent {
            self.says(agent, said);
        }
        self.later(0, Item::Beat { agent, session });
    }

    /// The session breaks; what is on its way in either direction is lost. It comes back by itself.
    fn disconnect(&mut self, agent: usize, dies: bool) {
        self.agents[agent].is_connected = false;
        self.agents[agent].session += 1;
        // what it had not read yet went down with the session
        self.agents[agent].backlog.retain(|inbox| matches!(inbox, Inbox::Ends { .. }));
        if dies {
            self.agents[agent].die();
        }
        let after =
            if self.is_peace { self.rng.range(MS, SECOND) } else { self.rng.range(10 * MS, 8 * SECOND) };
        let session = self.agents[agent].session;
        self.later(after, Item::Connect { agent, session });
    }

    /// The same while the coordinator lives. A break that nobody notices is found out by the missing heartbeats.
    fn cut(&mut self, agent: usize, dies: bool) -> Result<(), String> {
        let was_connected = self.agents[agent].is_connected;
        self.disconnect(agent, dies);
        let session = self.agents[agent].session;
        if was_connected && self.oracle.knows(self.agents[agent].id) && self.rng.chance(70) {
            return self.heard(agent, session, Said::Bye);
        }
        Ok(())
    }

    fn deal(&mut self, agent: usize, inbox: Inbox) -> Result<(), String> {
        if self.agents[agent].is_frozen {
            self.agents[agent].backlog.push(inbox);
            return Ok(());
        }
        match inbox {
            Inbox::Told(Told::Assign { attempt, epoch }) => self.begin(agent, attempt, epoch)?,
            Inbox::Told(Told::Abort(attempt)) => {
                if self.agents[agent].holding.remove(&attempt).is_some() {
                    self.grants(agent);
                }
                self.agents[agent].unsent.retain(|said| match said {
                    Said::Voted(ended, ..) | Said::Faulted { attempt: ended, .. } => *ended != attempt,
                    _ => true,
                });
            }
            Inbox::Told(Told::Collect(attempt)) => {
                let vanishes = self.rng.chance(self.agents[agent].behaviour.keeps_nothing);
                let has_it = self.agents[agent].outputs.contains(&attempt) && !vanishes;
                self.says(agent, if has_it { Said::Delivered(attempt) } else { Said::NotDelivered(attempt) });
            }
            Inbox::Told(Told::Release(attempt)) => drop(self.agents[agent].outputs.remove(&attempt)),
            Inbox::Ends { attempt, stamp } => self.ends(agent, attempt, stamp),
        }
        Ok(())
    }

    fn grants(&mut self, agent: usize) {
        let credits = self.agents[agent].credits();
        let received = self.agents[agent].received;
        self.says_or_keeps(agent, Said::Credits { credits, received });
    }

    fn says_or_keeps(&mut self, agent: usize, said: Said) {
        if self.agents[agent].is_connected {
            self.says(agent, said);
        } else if matches!(said, Said::Voted(..) | Said::Faulted { .. }) {
            self.agents[agent].unsent.push(said);
        }
    }

    /// An assignment arrives; the worker begins it and knows already when it will end.
    fn begin(&mut self, agent: usize, attempt: AttemptId, epoch: Epoch) -> Result<(), String> {
        self.agents[agent].received += 1;
        let Some(known) = self.oracle.runs.get(&attempt.run) else { return Ok(()) };
        let memory_bytes = known.submission.memory_bytes;
        let timeout = known.submission.policy.timeout_ms * MS;
        let nature = self.nature(known.submission.module);
        if self.rng.chance(self.agents[agent].behaviour.refuses) {
            let fault = Fault::Refused { detail: "no room".to_owned() };
            self.says(agent, Said::Faulted { attempt, epoch, fault, begun: false });
            self.grants(agent);
            return Ok(());
        }
        self.stamps += 1;
        let stamp = self.stamps;
        self.agents[agent].holding.insert(attempt, Held { epoch, memory_bytes, stamp, has_begun: true });
        self.agents[agent].check()?;
        self.says(agent, Said::Begun(attempt));
        let behaviour = self.agents[agent].behaviour;
        let hangs = nature == Nature::Endless || self.rng.chance(behaviour.hangs);
        let mut lasts = self.rng.range(MS, 150 * MS) * if behaviour.slow { 12 } else { 1 };
        if hangs {
            lasts = timeout;
        }
        if !(hangs && behaviour.deaf) {
            self.later(lasts.min(timeout), Item::Ends { agent, attempt, stamp });
        }
        Ok(())
    }

    fn nature(&self, module: Digest) -> Nature {
        self.modules.iter().find(|known| known.0 == module).map_or(Nature::Good, |known| known.1)
    }

    fn ends(&mut self, agent: usize, attempt: AttemptId, stamp: u64) {
        let here = &mut self.agents[agent];
        let Some(held) = here.holding.get(&attempt).filter(|held| held.stamp == stamp) else { return };
        let (epoch, begun) = (held.epoch, held.has_begun);
        here.holding.remove(&attempt);
        let behaviour = here.behaviour;
        let Some(known) = self.oracle.runs.get(&attempt.run) else { return self.grants(agent) };
        let nature = self.nature(known.submission.module);
        let faulted = |fault| Said::Faulted { attempt, epoch, fault, begun };
        let said = if nature == Nature::Endless || self.rng.chance(behaviour.hangs) {
            faulted(Fault::TimedOut)
        } else if nature == Nature::Killer || self.rng.chance(behaviour.crashes) {
            faulted(Fault::Crashed { signal: Some(11), detail: String::new() })
        } else {
            let lies = self.rng.chance(behaviour.lies);
            let mut result = truth(attempt.run.0);
            if lies {
                let mut bytes = *result.as_bytes();
                bytes[16..24].copy_from_slice(&self.rng.next().to_be_bytes());
                result = Digest::from_bytes(bytes);
            }
            let outcome = if attempt.run.0.is_multiple_of(5) {
                Outcome::OutOfFuel
            } else {
                Outcome::Exited { code: 0 }
            };
            let complete = self.features.inline_results && self.rng.chance(50);
            self.agents[agent].outputs.insert(attempt);
            let cpu_us = self.rng.range(100, 100_000);
            Said::Voted(attempt, epoch, Vote { result, outcome, cpu_us, complete })
        };
        self.says_or_keeps(agent, said);
        self.grants(agent);
    }

    /// What a worker said arrives at the coordinator.
    fn heard(&mut self, agent: usize, session: u64, said: Said) -> Result<(), String> {
        let here = &self.agents[agent];
        if here.session != session {
            return Ok(());
        }
        let worker = here.id;
        match said {
            Said::Hello(holds) => {
                let joining = Joining {
                    worker,
                    class: here.class,
                    domain: here.domain.clone(),
                    labels: BTreeMap::from([("zone".to_owned(), here.zone.to_owned())]),
                    slots: here.slots,
                    memory_bytes: here.memory_bytes,
                    holds,
                    quarantined: self.oracle.is_quarantined(worker),
                };
                self.step(Event::WorkerJoined(Box::new(joining)))
            }
            Said::Credits { credits, received } => {
                // as the shell does it: what was sent and not received is not free
                let credits = credits.saturating_sub((here.sent - received) as u32);
                self.step(Event::Credits { worker, credits })
            }
            Said::Beat => self.step(Event::Heartbeat { worker }),
            Said::Begun(attempt) => self.step(Event::AttemptBegun { attempt, worker, at: Time(self.now) }),
            Said::Voted(attempt, epoch, vote) => {
                self.step(Event::AttemptVoted { attempt, epoch, worker, vote })
            }
            Said::Faulted { attempt, epoch, fault, begun } => {
                let event = Event::AttemptFaulted { attempt, epoch, worker, fault, begun, cpu_us: 500 };
                self.step(event)
            }
            Said::Delivered(attempt) => {
                self.step(Event::Delivered { attempt })?;
                // a full disk takes longer than any voter may
                let after = if self.rng.chance(10) { self.rng.range(SECOND, 6 * SECOND) } else { MS };
                self.later(after, Item::Stored { life: self.life, attempt });
                Ok(())
            }
            Said::NotDelivered(attempt) => {
                let fault = Fault::Corrupt { detail: "a blob is missing".to_owned() };
                self.step(Event::CollectFailed { attempt, fault })
            }
            Said::Bye => self.step(Event::WorkerLeft { worker }),
        }
    }

    fn thaw(&mut self, agent: usize) -> Result<(), String> {
        if !std::mem::take(&mut self.agents[agent].is_frozen) {
            return Ok(());
        }
        for inbox in std::mem::take(&mut self.agents[agent].backlog) {
            self.deal(agent, inbox)?;
        }
        self.grants(agent);
        Ok(())
    }
}

/// What goes wrong, and the end of it.
impl World {
    fn chaos(&mut self) -> Result<(), String> {
        let agent = self.rng.below(self.agents.len() as u64) as usize;
        let worker = self.agents[agent].id;
        match self.rng.below(10) {
            9 if self.features.freezes => {
                self.oracle.saw("a coordinator that was away");
                let away = self.rng.range(SECOND, 8 * SECOND);
                self.away_until = self.now + away;
                self.later(away, Item::Awake { life: self.life, ms: away / MS });
                Ok(())
            }
            0 if self.features.kills => self.cut(agent, true),
            1 if self.features.cuts => self.cut(agent, false),
            2 if self.features.freezes => {
                self.agents[agent].is_frozen = true;
                let after = self.rng.range(100 * MS, 10 * SECOND);
                self.later(after, Item::Thaw { agent });
                Ok(())
            }
            3 if self.features.restarts => self.restart(),
            4 | 5 if self.features.cancels => match self.any_run() {
                Some(run) => self.step(Event::Cancel { run }),
                None => Ok(()),
            },
            6 if self.features.quarantines && self.oracle.knows(worker) => {
                self.oracle.saw("a quarantined worker");
                self.step(Event::WorkerQuarantined { worker, why: "somebody said so".to_owned() })
            }
            7 if self.features.drains && self.oracle.knows(worker) => {
                self.oracle.saw("a draining worker");
                self.step(Event::WorkerDraining { worker, why: "maintenance".to_owned() })
            }
            8 if self.features.quarantines && self.oracle.knows(worker) => {
                self.step(Event::WorkerReadmitted { worker })
            }
            _ => Ok(()),
        }
    }

    fn any_run(&mut self) -> Option<RunId> {
        let runs: Vec<RunId> = self.oracle.runs.keys().copied().collect();
        (!runs.is_empty()).then(|| *self.rng.pick(&runs))
    }

    /// From now on every worker is honest, there and trusted, and the store takes everything.
    fn peace(&mut self) -> Result<(), String> {
        self.is_peace = true;
        for agent in 0..self.agents.len() {
            self.agents[agent].behaviour = Behaviour::default();
            self.thaw(agent)?;
            let worker = self.agents[agent].id;
            if self.oracle.knows(worker) {
                self.step(Event::WorkerReadmitted { worker })?;
            }
        }
        Ok(())
    }
}
