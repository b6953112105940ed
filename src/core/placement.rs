//! Which worker gets which run.
//!
//! A run that wants attempts stands in the queue under a constraint. Each placement takes the first head that some free worker
//! may have; nothing behind a head is looked at. With no free worker nothing is looked at at all.

use std::collections::{BTreeMap, BTreeSet};

use super::pool::Pool;
use super::queue::Constraint;
use super::run::{Phase, Run};
use super::timers::Timer;
use super::types::{AttemptRecord, AttemptState, Class, Effect, Time, Write};
use super::worker::Worker;
use crate::id::{RunId, WorkerId};
use crate::spec::{Placement, Retry, Verify};

/// A module's first attempts are charged so much until one has shown what they cost, in microseconds.
const UNKNOWN_CPU_US: u64 = 1_000;

impl Pool {
    /// Puts a run where it now belongs in the queue: called whenever what it wants may have changed.
    pub(super) fn reconsider(&mut self, now: Time, id: RunId, _effects: &mut Vec<Effect>) {
        self.dequeue(id);
        let Some(run) = self.runs.get(&id) else { return };
        if run.phase != Phase::Open || run.wants() == 0 {
            return;
        }
        if !run.attempts.is_empty() {
            self.wait_for_a_fresh_worker(now, id);
            self.watch_for_voters(now, id);
        }
        let Some(run) = self.runs.get(&id) else { return };
        let constraint = self.constraint(run);
        let (workspace, place) = (run.workspace, run.place());
        self.queue.insert(workspace, constraint.clone(), place, id);
        if let Some(run) = self.runs.get_mut(&id) {
            run.queued = Some(constraint);
        }
    }

    /// A rerun avoids workers that held an attempt while there are others, and for a bounded time.
    fn wait_for_a_fresh_worker(&mut self, now: Time, id: RunId) {
        let wait = self.config.fresh_worker_wait_ms;
        let Some(run) = self.runs.get(&id) else { return };
        let held = |record: &AttemptRecord| {
            matches!(record.state, AttemptState::Faulted { .. }) && record.begun_at.is_some()
        };
        if run.takes_any || !run.attempts.iter().any(held) {
            return;
        }
        let fresh = self.eligible(run).any(|worker| !run.excludes(worker.view.worker));
        let since = run.waits_since.unwrap_or(now);
        let is_over = now >= since.plus_ms(wait);
        let Some(run) = self.runs.get_mut(&id) else { return };
        if fresh && !is_over {
            if run.waits_since.is_none() {
                run.waits_since = Some(now);
                self.timers.set(now.plus_ms(wait), Timer::FreshWorker(id));
            }
            return;
        }
        run.takes_any = true;
        let text = match fresh {
            true => {
                format!("no worker that held none of its attempts had room for {wait} ms: any worker will do")
            }
            false => {
                "every worker that could run it has held an attempt of it: any of them will do".to_owned()
            }
        };
        run.explain(now, text);
    }

    /// A quorum run that nobody could vote on ends after a while.
    pub(super) fn watch_for_voters(&mut self, now: Time, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        if run.policy.verify == Verify::Once || run.voteless_since.is_some() || self.could_vote(run) {
            return;
        }
        let wait = self.config.quorum_wait_ms;
        if let Some(run) = self.runs.get_mut(&id) {
            run.voteless_since = Some(now);
            run.explain(
                now,
                format!("no worker is there that could cast the next vote: waiting up to {wait} ms"),
            );
        }
        self.timers.set(now.plus_ms(wait), Timer::Voteless(id));
    }

    /// Whether some worker that is there could cast another vote of this run.
    pub(super) fn could_vote(&self, run: &Run) -> bool {
        let spent = |worker: WorkerId| {
            run.attempts
                .iter()
                .filter(|record| record.worker == worker)
                .any(|record| record.state.is_live() || matches!(record.state, AttemptState::Voted { .. }))
        };
        self.eligible(run).any(|worker| !spent(worker.view.worker))
    }

    /// Active workers that could execute the run, whatever they do now.
    pub(super) fn eligible<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = &'a Worker> {
        self.workers.values().filter(|worker| worker.is_active() && run.suits(&worker.view))
    }

    /// Eligible workers of the class that has most of them.
    pub(super) fn largest_class(&self, run: &Run) -> usize {
        let mut sizes = BTreeMap::<Class, usize>::new();
        for worker in self.eligible(run) {
            *sizes.entry(worker.view.class).or_default() += 1;
        }
        sizes.into_values().max().unwrap_or(0)
    }

    fn constraint(&self, run: &Run) -> Constraint {
        let gate = self.modules.get(&run.module).is_none_or(|module| !module.ready || !module.proven);
        let labels = match &run.policy.placement {
            Placement::Any => BTreeMap::new(),
            Placement::Labels { labels } => labels.clone(),
        };
        Constraint {
            class: run.class,
            excluded: run.excluded(),
            domains: self.domains_taken(run),
            labels,
            gate: gate.then_some(run.module),
        }
    }

    /// Trust domains that may not vote again: those of its voters, if there are enough domains for all votes. Where there
    /// are not (one machine, one owner) each worker counts as its own.
    fn domains_taken(&self, run: &Run) -> Vec<String> {
        let of = |record: &AttemptRecord| {
            let counts = record.state.is_live() || matches!(record.state, AttemptState::Voted { .. });
            counts
                .then(|| self.workers.get(&record.worker))
                .flatten()
                .map(|worker| worker.view.domain.clone())
        };
        let mut taken: Vec<String> = run.attempts.iter().filter_map(of).collect();
        if taken.is_empty() {
            return taken;
        }
        let there: BTreeSet<&str> = self.eligible(run).map(|worker| worker.view.domain.as_str()).collect();
        taken.sort_unstable();
        taken.dedup();
        let free = there.iter().filter(|domain| !taken.iter().any(|other| other == *domain)).count();
        if there.len() < usize::from(run.policy.verify.voters()) || free == 0 {
            taken.clear();
        }
        taken
    }

    /// Places whatever can be placed.
    pub(super) fn place(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while !self.free.is_empty() {
            let choice = self.queue.heads().find_map(|id| self.choose(id).map(|worker| (id, worker)));
            let Some((id, worker)) = choice else { return };
            self.assign(now, id, worker, effects);
        }
    }

    /// The best free worker for a run: one that has the module loaded, then the one with the most room.
    fn choose(&self, id: RunId) -> Option<WorkerId> {
        let run = self.runs.get(&id)?;
        let constraint = run.queued.as_ref()?;
        let module = self.modules.get(&run.module)?;
        if !module.ready || (!module.proven && module.live >= self.config.probation_attempts_max) {
            return None;
        }
        let may = |worker: &&Worker| {
            worker.has_room(run.memory_bytes)
                && run.suits(&worker.view)
                && constraint.excluded.binary_search(&worker.view.worker).is_err()
                && !constraint.domains.contains(&worker.view.domain)
                && (run.class.is_some() || self.class_is_large_enough(run, worker.view.class))
        };
        let free = self.free.iter().filter_map(|worker| self.workers.get(worker)).filter(may);
        let best = free.max_by_key(|worker| {
            let view = &worker.view;
            (worker.has_loaded(run.module), view.credits, std::cmp::Reverse((view.votes, view.worker)))
        });
        best.map(|worker| worker.view.worker)
    }

    /// A run is bound to the class of its first attempt, so that class must be able to cast all its votes.
    fn class_is_large_enough(&self, run: &Run, class: Class) -> bool {
        let voters = usize::from(run.policy.verify.voters());
        voters == 1
            || self.eligible(run).filter(|worker| worker.view.class == class).nth(voters - 1).is_some()
    }

    fn assign(&mut self, now: Time, id: RunId, to: WorkerId, effects: &mut Vec<Effect>) {
        let (Some(run), Some(worker)) = (self.runs.get_mut(&id), self.workers.get_mut(&to)) else { return };
        let number = run.next_number();
        let attempt = run.attempt_id(number);
        let is_loaded = worker.has_loaded(run.module);
        self.running += usize::from(run.attempts.is_empty());
        self.live += 1;
        run.class = Some(worker.view.class);
        run.waits_since = None;
        run.voteless_since = None;
        let record = AttemptRecord {
            number,
            worker: to,
            state: AttemptState::Assigned,
            assigned_at: now,
            begun_at: None,
            ended_at: None,
            cpu_us: 0,
        };
        run.attempts.push(record.clone());
        let why = if is_loaded { "its module is loaded there" } else { "it has the most room" };
        run.explain(now, format!("attempt {number} goes to {to}: {why}"));
        worker.lease(attempt, run.memory_bytes);
        worker.loads(run.module);
        if worker.view.credits == 0 {
            self.free.remove(&to);
        }
        let module = self.modules.entry(run.module).or_default();
        module.live += 1;
        let estimate = if module.cpu_us == 0 { UNKNOWN_CPU_US } else { module.cpu_us };
        let (epoch, workspace) = (run.epoch, run.workspace);
        if run.policy.retry == Retry::Never && run.policy.durable {
            effects.push(Effect::Write(Write::Attempt { run: id, epoch, record }));
        } else {
            effects.push(Effect::Assign { attempt, epoch, worker: to });
        }
        effects.push(Effect::Changed { run: id });
        self.queue.charge(workspace, estimate);
        self.reconsider(now, id, effects);
    }
}
