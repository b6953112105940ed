//! What goes wrong in a world, and the end of it.

use lockstep_core::{Event, Evidence, Time};
use vocabulary::id::{RunId, WorkerId};

use super::{Item, MS, SECOND, World};
use crate::agents::Behaviour;

impl World {
    pub(super) fn chaos(&mut self) -> Result<(), String> {
        let agent = self.rng.below(self.agents.len() as u64) as usize;
        let worker = self.agents[agent].id;
        match self.rng.below(14) {
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
                self.step(Event::WorkerQuarantined { worker, why: "somebody said so".to_owned() })?;
                self.repair(worker)
            }
            7 if self.features.drains && self.oracle.knows(worker) => {
                self.oracle.saw("a draining worker");
                self.step(Event::WorkerDraining { worker, why: "maintenance".to_owned() })
            }
            8 if self.features.quarantines && self.oracle.knows(worker) => self.readmit(worker),
            9 | 10 if self.features.blocks => {
                self.block(agent);
                Ok(())
            }
            11 if self.features.freezes => {
                self.oracle.saw("a coordinator that was away");
                let away_ms = self.rng.range(1_000, 8_000);
                self.now += away_ms * MS;
                self.away_until = self.now;
                self.step(Event::WasAway { ms: away_ms })
            }
            12 | 13 if self.features.module_orders => self.order_module(),
            _ => Ok(()),
        }
    }

    /// An operator or the admission changes its mind about a module.
    fn order_module(&mut self) -> Result<(), String> {
        let (module, ..) = *self.rng.pick(&self.modules);
        match self.rng.below(4) {
            0 => {
                self.oracle.saw("a module quarantined by an operator");
                self.step(Event::ModuleQuarantined { module, why: "somebody said so".to_owned() })
            }
            1 => {
                self.oracle.saw("a module that was refused");
                self.step(Event::ModuleRefused { module })?;
                let after = self.rng.range(100 * MS, 10 * SECOND);
                self.later(after, Item::ModuleReady(module));
                Ok(())
            }
            _ => {
                self.oracle.saw("a module that was readmitted");
                self.step(Event::ModuleReadmitted { module })
            }
        }
    }

    /// Nothing gets through for a while: up, down, or both ways. Then what was said arrives, or the session ends.
    fn block(&mut self, agent: usize) {
        let until = self.now + self.rng.range(100 * MS, 10 * SECOND);
        let way = self.rng.below(3);
        let link = &mut self.agents[agent];
        if way != 1 {
            link.blocked_up = until;
        }
        if way != 0 {
            link.blocked_down = until;
        }
    }

    fn any_run(&mut self) -> Option<RunId> {
        let runs: Vec<RunId> = self.oracle.runs.keys().copied().collect();
        (!runs.is_empty()).then(|| *self.rng.pick(&runs))
    }

    /// From now on every worker is honest, there and trusted, and the store takes everything; or most are, and the others
    /// stay as they are or never come back. Two are healthy in any case, one of each zone.
    pub(super) fn peace(&mut self) -> Result<(), String> {
        self.is_peace = true;
        for agent in 0..self.agents.len() {
            if agent > 1 && self.features.lasting && self.rng.chance(50) {
                self.oracle.saw("a worker that stayed broken");
                if self.rng.chance(30) {
                    self.agents[agent].is_gone = true;
                    self.cut(agent, true)?;
                }
                continue;
            }
            let link = &mut self.agents[agent];
            link.behaviour = Behaviour::default();
            (link.blocked_up, link.blocked_down) = (0, 0);
            self.thaw(agent)?;
            let worker = self.agents[agent].id;
            if self.oracle.knows(worker) {
                self.readmit(worker)?;
            }
        }
        Ok(())
    }

    /// An operator trusts a worker again. The store notes the end of a quarantine in its log by itself, because the pool may
    /// not have heard of the worker since a restart.
    fn readmit(&mut self, worker: WorkerId) -> Result<(), String> {
        if self.oracle.is_quarantined(worker) && self.pool.workers().iter().all(|it| it.worker != worker) {
            self.oracle.saw("a worker that was readmitted before it was back");
            self.testify(worker, None, Time(self.now), Evidence::Readmitted);
            self.oracle.witnessed(worker, None, Evidence::Readmitted)?;
        }
        self.step(Event::WorkerReadmitted { worker })
    }
}
