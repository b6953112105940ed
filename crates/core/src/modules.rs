//! What the pool knows of modules: readiness, probation, the poison rule, and where they are loaded.
//!
//! The poison rule hears of crashes from workers, and a worker may make them up. So it asks for [`Config::module_crashes_max`]
//! crashed runs *without the word of any one foreign fault domain*: runs that one of the operator's own workers, an arbiter
//! or two trust domains saw crash, and those that only one saw, except those of the one that says so most often. That holds
//! where nobody else is there as well: others may only be away, or not back yet after a restart. Runs of a module that one
//! foreign domain is left alone with end by their own budgets.
//!
//! A module without runs is forgotten after [`IDLE_MAX`] others, unless it is quarantined or called nondeterministic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::bits::Bits;
use super::claims::Claims;
use super::discord::Discord;
use super::hash::Map;
use super::slab::Slab;
use super::workers::Crew;
use super::{Config, Time};
use vocabulary::digest::Digest;
use vocabulary::id::{RunId, WorkerId};

/// Modules without runs that are remembered: enough that one in use every now and then stays proven.
const IDLE_MAX: usize = 4_096;
/// Window of the poison rule.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// What an attempt is charged before any of its module has ended, in microseconds.
const FIRST_ESTIMATE_US: u64 = 1_000;

/// A run that a module crashed.
pub(super) struct Crashed {
    at: Time,
    run: RunId,
    /// The foreign worker that says so; `None` if it is believed, or somebody of another domain says the same.
    only: Option<WorkerId>,
}

/// A module as the pool keeps it.
pub(super) struct Module {
    pub digest: Digest,
    /// Its artifact is there.
    pub is_ready: bool,
    /// Why nothing of it may be handed out.
    pub quarantined: Option<String>,
    /// An attempt of it voted: it is off probation.
    pub is_proven: bool,
    /// Attempts that workers hold.
    pub live: u32,
    /// Runs that are not final.
    pub runs: usize,
    /// Its lanes, by number.
    pub lanes: BTreeSet<u32>,
    /// Those of them that were taken off their shelves until it admits an attempt again.
    pub gated: Vec<u32>,
    /// Places of the workers that executed it lately.
    pub loaded: Bits,
    /// Runs that it crashed within a day, the oldest first. Of those that are one worker's word only, as many of each worker
    /// as quarantine a module.
    pub crashed: VecDeque<Crashed>,
    /// Moving average of the CPU time of its attempts, in microseconds.
    pub estimate_us: u64,
    /// Wall time that about 19 of 20 of its attempts stay below, in microseconds; 0 before the first has voted.
    pub tail_us: u64,
    /// Admission refused it: it will never be ready.
    pub is_refused: bool,
    /// Trusted executions of it differed: nobody is blamed for a run of it.
    pub is_nondeterministic: bool,
    /// How its results compare.
    pub discord: Discord,
    /// Who said in vain that its stack overflowed.
    pub claims: Claims,
    /// Whether it stands in the line of idle modules.
    is_idle: bool,
}

impl Module {
    fn new(digest: Digest) -> Module {
        Module {
            digest,
            is_ready: false,
            quarantined: None,
            is_proven: false,
            live: 0,
            runs: 0,
            lanes: BTreeSet::new(),
            gated: Vec::new(),
            loaded: Bits::default(),
            crashed: VecDeque::new(),
            estimate_us: FIRST_ESTIMATE_US,
            tail_us: 0,
            is_refused: false,
            is_nondeterministic: false,
            discord: Discord::default(),
            claims: Claims::default(),
            is_idle: false,
        }
    }

    /// Whether one more attempt may be handed out: it is ready, and proven or with room on probation.
    pub(super) fn admits(&self, config: &Config) -> bool {
        self.is_ready && self.is_served() && (self.is_proven || self.live < config.probation_attempts_max)
    }

    /// Whether runs of it may go on: those that wait end otherwise, a bounded number at once.
    pub(super) fn is_served(&self) -> bool {
        self.quarantined.is_none() && !self.is_refused
    }

    /// Takes an ended attempt's CPU time into the average; the newest weighs an eighth.
    pub(super) fn measured(&mut self, cpu_us: u64) {
        self.estimate_us = self.estimate_us.saturating_mul(7).saturating_add(cpu_us) / 8;
    }

    /// Takes the wall time of an attempt that voted into the estimate of their 95th percentile: a step up is 19 times
    /// a step down, so it rests where one in twenty is above.
    pub(super) fn lasted(&mut self, took_us: u64) {
        let step = self.tail_us / 128;
        if self.tail_us == 0 {
            self.tail_us = took_us;
        } else if took_us > self.tail_us {
            self.tail_us = self.tail_us.saturating_add(19 * step.max(1)).min(took_us);
        } else {
            self.tail_us -= step;
        }
    }

    /// A worker says that it crashed a run, and is believed or not; gives what it did if that is once too often.
    pub(super) fn crashed(
        &mut self,
        now: Time,
        run: RunId,
        (worker, is_believed): (WorkerId, bool),
        crew: &Crew,
        most: usize,
    ) -> Option<String> {
        while self.crashed.front().is_some_and(|crash| now.ms_since(crash.at) >= DAY_MS) {
            self.crashed.pop_front();
        }
        let only = (!is_believed).then_some(worker);
        match self.crashed.iter_mut().find(|crash| crash.run == run) {
            Some(crash) => match (crash.only, only) {
                (Some(before), Some(worker)) if crew.trust_domain(before) == crew.trust_domain(worker) => {}
                _ => crash.only = None,
            },
            None => {
                let is_its = |crash: &Crashed| only.is_some() && crash.only == only;
                if self.crashed.iter().filter(|crash| is_its(crash)).count() >= most
                    && let Some(oldest) = self.crashed.iter().position(is_its)
                {
                    self.crashed.remove(oldest);
                }
                self.crashed.push_back(Crashed { at: now, run, only });
            }
        }
        let runs = self.crashed_for_sure(crew);
        (runs >= most && self.quarantined.is_none())
            .then(|| format!("it crashed {runs} different runs within a day"))
    }

    /// A run was executed, and a comparison agrees on its result: whoever alone said that it crashed there is no witness of
    /// that, as otherwise two foreign domains could have any module taken out.
    pub(super) fn survived(&mut self, run: RunId) {
        self.crashed.retain(|crash| crash.run != run || crash.only.is_none());
    }

    /// Runs that it crashed whichever one of the foreign domains lies.
    fn crashed_for_sure(&self, crew: &Crew) -> usize {
        let mut alone: BTreeMap<u32, usize> = BTreeMap::new();
        for domain in self.crashed.iter().filter_map(|crash| crew.trust_domain(crash.only?)) {
            *alone.entry(domain).or_default() += 1;
        }
        self.crashed.len() - alone.values().max().unwrap_or(&0)
    }
}

/// All modules by number.
#[derive(Default)]
pub(super) struct Modules {
    numbers: Map<Digest, u32>,
    slab: Slab<Module>,
    idle: VecDeque<u32>,
}

impl Modules {
    /// The number of a module, new if need be.
    pub(super) fn number(&mut self, digest: Digest) -> u32 {
        if let Some(number) = self.numbers.get(&digest) {
            return *number;
        }
        let number = self.slab.insert(Module::new(digest));
        self.numbers.insert(digest, number);
        number
    }

    /// The number of a module that is known.
    pub(super) fn known(&self, digest: Digest) -> Option<u32> {
        self.numbers.get(&digest).copied()
    }

    /// Every number.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.slab.keys()
    }

    /// A module has no runs any more; gives the number of one that was forgotten for it.
    pub(super) fn rest(&mut self, number: u32) -> Option<u32> {
        let module = &mut self.slab[number];
        if !module.is_idle {
            module.is_idle = true;
            self.idle.push_back(number);
        }
        if self.idle.len() <= IDLE_MAX {
            return None;
        }
        let oldest = self.idle.pop_front()?;
        let module = &mut self.slab[oldest];
        module.is_idle = false;
        if module.runs > 0 || module.quarantined.is_some() || module.is_nondeterministic {
            return None;
        }
        self.numbers.remove(&module.digest);
        self.slab.remove(oldest);
        Some(oldest)
    }
}

impl std::ops::Index<u32> for Modules {
    type Output = Module;

    fn index(&self, number: u32) -> &Module {
        &self.slab[number]
    }
}

impl std::ops::IndexMut<u32> for Modules {
    fn index_mut(&mut self, number: u32) -> &mut Module {
        &mut self.slab[number]
    }
}
