//! Stacks that overflow under `det-1-portable`, in seeded small pools of several machine codes with liars among them.
//!
//! Of every run it is known what each machine code honestly gives. Whoever lies and in which order the votes come is drawn. A
//! run ends with the honest answer of one machine code whenever its liars are too few to win, blames nobody honest, and asks
//! for a bounded number of votes.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{
    AttemptState, Class, Config, Effect, Event, Evidence, Final, Joining, Pool, Portable, Prior, Standing,
    Submission, Time, Vote, Write,
};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::{Policy, Profile, Verify};

use crate::rng::Rng;

const WORLDS: u64 = 4_000;
const RUNS: u128 = 6;
/// Votes that a run may ask for, by quorum: twice n + 2.
const VOTES_OF_N: usize = 2;

/// What one of the machines gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Overflow,
    Result(u8),
}

impl Answer {
    fn vote(self) -> Vote {
        let (result, outcome) = match self {
            Answer::Overflow => (9, Outcome::Trapped { trap: Trap::StackOverflow }),
            Answer::Result(result) => (result, Outcome::Exited { code: 0 }),
        };
        Vote { result: Digest::from_bytes([result; 32]), outcome, cpu_us: 10, complete: true }
    }
}

/// What a liar says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    /// That it overflows.
    Overflow,
    /// Something of its own.
    Other,
}

/// A pool that is told less than it should know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    /// Takes all machine code for the same.
    OneCode,
    /// Compares overflows with everything.
    NoOverflow,
}

struct World {
    rng: Rng,
    pool: Pool,
    now: Time,
    effects: Vec<Effect>,
    /// The machine code of each worker, by its number from 0.
    codes: Vec<u8>,
    liars: BTreeMap<u32, Lie>,
    n: u8,
    mutant: Option<Mutant>,
}

fn class(number: u8) -> Class {
    Class(Digest::from_bytes([number; 32]))
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut rng = Rng::new(seed);
        let n = rng.range(2, 5) as u8;
        let kinds = rng.range(1, 4) as u8;
        // with one liar among them, each machine code has enough honest workers left for the quorum
        let codes: Vec<u8> =
            (1..=kinds).flat_map(|code| vec![code; usize::from(n) + 1 + rng.below(2) as usize]).collect();
        let lies = [Lie::Overflow, Lie::Other];
        let mut liars = BTreeMap::new();
        if rng.chance(60) {
            liars.insert(rng.below(codes.len() as u64) as u32, *rng.pick(&lies));
        }
        let pool = Pool::new(Config::default(), Time(1));
        let mut world = World { rng, pool, now: Time(1), effects: Vec::new(), codes, liars, n, mutant };
        let mut order: Vec<u32> = (0..world.codes.len() as u32).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, world.rng.below(place as u64 + 1) as usize);
        }
        order.into_iter().for_each(|number| world.join(number));
        world
    }

    fn join(&mut self, number: u32) {
        let code = if self.mutant == Some(Mutant::OneCode) { 1 } else { self.codes[number as usize] };
        let joining = Joining {
            worker: WorkerId(number),
            class: class(number as u8),
            domain: "here".to_owned(),
            labels: BTreeMap::new(),
            slots: 4,
            memory_bytes: 1 << 30,
            holds: vec![],
            quarantined: false,
            standing: Standing::default(),
            prior: Prior::Owned,
            is_arbiter: false,
            portable: Portable { results: class(100), code: class(code) },
            for_votes: false,
            condemned_elsewhere: false,
        };
        self.step(Event::WorkerJoined(Box::new(joining)));
        self.grant(number);
    }

    fn grant(&mut self, number: u32) {
        self.step(Event::Credits { worker: WorkerId(number), credits: 4 });
    }

    fn step(&mut self, event: Event) {
        self.now = self.now.plus_ms(1);
        self.pool.step(self.now, event, &mut self.effects);
        self.pool.check_invariants().expect("the invariants hold");
    }

    /// What each machine code honestly gives: the same, or an overflow for some.
    fn truth(&mut self) -> BTreeMap<u8, Answer> {
        let overflows = *self.rng.pick(&[0, 50, 100]);
        (1..=3)
            .map(|code| (code, if self.rng.chance(overflows) { Answer::Overflow } else { Answer::Result(1) }))
            .collect()
    }

    fn submit(&mut self, run: RunId) {
        let submission = Submission {
            run,
            epoch: Epoch(1),
            workspace: WorkspaceId(0),
            module: Digest::from_bytes([run.0 as u8; 32]),
            memory_bytes: 1 << 20,
            policy: Policy { verify: Verify::Quorum { n: self.n }, ..Policy::default() },
            module_ready: true,
            recovered: false,
            submitted_at: self.now,
            history: vec![],
            explained: vec![],
            lottery: self.rng.next(),
            reverify: None,
            share: None,
            profile: Profile::Det1Portable,
        };
        self.pool.submit(self.now, submission, &mut self.effects).expect("there are enough workers");
    }

    /// Lives until a run is final; everybody votes, in any order. Gives the final and how many voted.
    fn end(&mut self, truth: &BTreeMap<u8, Answer>) -> Result<(Final, usize), String> {
        let mut open: Vec<(AttemptId, WorkerId)> = Vec::new();
        let mut votes = 0;
        loop {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Assign { attempt, worker, .. } => open.push((attempt, worker)),
                    Effect::Write(Write::Finish(last)) => return Ok((*last, votes)),
                    Effect::Dissented { worker, .. } if !self.liars.contains_key(&worker.0) => {
                        return Err(format!("I15: {worker} is honest and dissented"));
                    }
                    Effect::Evidence { worker, evidence, .. }
                        if !matches!(evidence, Evidence::Confirmed { .. })
                            && !self.liars.contains_key(&worker.0) =>
                    {
                        return Err(format!("I15: {worker} is honest and blamed: {evidence:?}"));
                    }
                    _ => {}
                }
            }
            if open.is_empty() {
                return Err("L1: it waits for nobody".to_owned());
            }
            let (attempt, worker) = open.swap_remove(self.rng.below(open.len() as u64) as usize);
            let honest = truth[&self.codes[worker.0 as usize]];
            let answer = match self.liars.get(&worker.0) {
                None => honest,
                Some(Lie::Overflow) => Answer::Overflow,
                Some(Lie::Other) => Answer::Result(7),
            };
            let mut vote = answer.vote();
            if self.mutant == Some(Mutant::NoOverflow) {
                vote.outcome = Outcome::Exited { code: 0 };
            }
            votes += 1;
            self.step(Event::AttemptVoted { attempt, epoch: Epoch(1), worker, vote });
            self.grant(worker.0);
        }
    }

    /// Executes a few runs. Gives how often stacks overflowed for some and not for others.
    fn live(mut self) -> Result<usize, String> {
        let mut divided = 0;
        for run in 1..=RUNS {
            let truth = self.truth();
            let run = RunId(run);
            self.submit(run);
            let (last, votes) = self.end(&truth)?;
            self.judge(&last, &truth, votes)?;
            self.step(Event::Committed { run, write: lockstep_core::WriteKind::Finished });
            let there: BTreeSet<u8> = self.codes.iter().copied().collect();
            let answers: Vec<Answer> = there.iter().map(|code| truth[code]).collect();
            divided += usize::from(answers.iter().any(|answer| *answer != answers[0]));
        }
        Ok(divided)
    }

    fn judge(&self, last: &Final, truth: &BTreeMap<u8, Answer>, votes: usize) -> Result<(), String> {
        let most = VOTES_OF_N * (usize::from(self.n) + 2);
        if votes > most {
            return Err(format!("I9: {votes} votes for a quorum of {}", self.n));
        }
        let Some(result) = last.result else {
            return Err(format!("I3: nobody was right: {:?}", last.explain));
        };
        let winner = |number: u32| {
            let record = last.attempts.iter().find(|record| record.number == number)?;
            matches!(record.state, AttemptState::Voted { won: Some(true), .. }).then_some(record.worker)
        };
        let winners: Vec<WorkerId> = last.attempts.iter().filter_map(|it| winner(it.number)).collect();
        let codes: BTreeSet<u8> = winners.iter().map(|worker| self.codes[worker.0 as usize]).collect();
        let honest = |code: &u8| truth[code].vote().result == result;
        if !codes.iter().all(honest) {
            return Err(format!("I3: {result} is not what {codes:?} give"));
        }
        let overflowed = result == Answer::Overflow.vote().result;
        if overflowed && codes.len() > 1 {
            return Err(format!("I3: an overflow was compared over {codes:?}"));
        }
        if winners.len() < usize::from(self.n) / 2 + 1 {
            return Err(format!("I3: {winners:?} are too few for a quorum of {}", self.n));
        }
        Ok(())
    }
}

fn live_through(seed: u64, mutant: Option<Mutant>) -> Result<usize, String> {
    World::new(seed, mutant).live().map_err(|broken| {
        format!("{broken} (seed {seed}: LOCKSTEP_SEED={seed} repeats it alone, mutant {mutant:?})")
    })
}

#[test]
fn overflows_bind_no_run_to_a_lie_and_blame_nobody_honest() {
    let only: Option<u64> = std::env::var("LOCKSTEP_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut divided = 0;
    for seed in only.map_or(0..WORLDS, |seed| seed..seed + 1) {
        divided += live_through(seed, None).unwrap_or_else(|broken| panic!("{broken}"));
    }
    assert!(only.is_some() || divided > WORLDS as usize / 2, "machine codes differ: {divided}");
}

#[test]
fn a_pool_that_does_not_tell_machine_codes_apart_is_noticed() {
    for mutant in [Mutant::OneCode, Mutant::NoOverflow] {
        let broken = (0..WORLDS).find_map(|seed| live_through(seed, Some(mutant)).err());
        let broken = broken.unwrap_or_else(|| panic!("{mutant:?} was not noticed"));
        assert!(broken.starts_with("I15") || broken.starts_with("I3"), "{mutant:?}: {broken}");
    }
}
