//! Where runs wait for workers, and whose turn it is.
//!
//! ```text
//! share (one per workspace) ─▶ shelf (one per shape) ─▶ lane (one per module and priority) ─▶ runs, oldest first
//! ```
//!
//! Between workspaces: deficit round robin, charged in CPU time. Within one: priority, then age; what needs more memory than
//! the free workers have left is passed over, for a while ([`Queue::keep_for_large`]). Runs of one lane ask the
//! same of a worker and of their module, so if the first cannot be placed, none can: what an event costs grows with the
//! number of workspaces and shapes that wait, never with the number of runs (L2). Shapes in which nobody waits are kept
//! for a while, so that a pool in which nobody waits long does not work out who suits each run anew.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use super::credibility::Seat;
use super::hash::Map;
use super::modules::Modules;
use super::placement::{Shape, Suited, is_placeable, suited};
use super::slab::Slab;
use super::workers::Crew;
use super::{Config, Time};
use vocabulary::id::{RunId, WorkspaceId};

/// CPU time that a workspace may use when its turn comes, in microseconds: long beside a short attempt, short beside
/// what people wait for.
const QUANTUM_US: i64 = 10_000;

/// When runs of a shape were passed over for so long, a worker is kept for them: those that lease less had each slot that came
/// free, and with it the memory that they needed.
const PASSED_OVER_MS: u64 = 5_000;

/// Shapes that are kept although nobody waits in them.
const IDLE_SHAPES_MAX: usize = 256;

/// Where a queued run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    /// Its lane's number.
    pub lane: u32,
    /// Its age: the order of submission, kept by reruns.
    pub age: u64,
}

/// Order within a workspace: priority first, then age.
type Turn = (Reverse<i8>, u64);

/// A workspace's part of the pool.
#[derive(Default)]
struct Share {
    /// Microseconds that it may still use in this round; below zero it must wait for others.
    deficit_us: i64,
    /// Runs that are not final.
    runs: usize,
    /// Its lanes that may be served, by shape.
    shelves: BTreeMap<u32, BTreeSet<(Turn, u32)>>,
}

struct Lane {
    workspace: WorkspaceId,
    shape: u32,
    priority: i8,
    module: u32,
    runs: BTreeMap<u64, RunId>,
    /// Off its shelf until its module admits an attempt.
    is_gated: bool,
}

impl Lane {
    fn turn(&self) -> Option<Turn> {
        self.runs.first_key_value().map(|(age, _)| (Reverse(self.priority), *age))
    }
}

struct Known {
    shape: Shape,
    suited: Suited,
    lanes: BTreeSet<u32>,
    timer_at: Option<Time>,
    /// Since when others are served although these were there first: the free workers have too little memory left for them.
    passed_over_since: Option<Time>,
    /// Whether it stands in the line of idle shapes; it may have been taken up again since.
    is_idle: bool,
}

/// The queue of the whole pool.
#[derive(Default)]
pub(super) struct Queue {
    shares: BTreeMap<WorkspaceId, Share>,
    /// Whose turn it is, or was last.
    turn: WorkspaceId,
    lanes: Slab<Lane>,
    lane_numbers: Map<(WorkspaceId, u32, i8, u32), u32>,
    shapes: Slab<Known>,
    /// Ordered, not hashed: callers choose the labels in it.
    shape_numbers: BTreeMap<Shape, u32>,
    /// Shapes in which nobody waits, or nobody did a while ago, the oldest first.
    idle_shapes: VecDeque<u32>,
    queued: usize,
}

impl Queue {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Runs that wait.
    pub(super) fn len(&self) -> usize {
        self.queued
    }

    /// Workers that suit a shape, and its number.
    pub(super) fn suited(&mut self, shape: &Shape, crew: &Crew, now: Time) -> (u32, &Suited) {
        let number = match self.shape_numbers.get(shape) {
            Some(number) => *number,
            None => {
                let suited = suited(shape, crew, None, now);
                let known = Known {
                    shape: shape.clone(),
                    suited,
                    lanes: BTreeSet::new(),
                    timer_at: None,
                    passed_over_since: None,
                    is_idle: false,
                };
                let number = self.shapes.insert(known);
                self.shape_numbers.insert(shape.clone(), number);
                self.idle(number);
                number
            }
        };
        (number, &self.shapes[number].suited)
    }

    /// Nobody waits in this shape; it is kept until others have come to rest after it.
    fn idle(&mut self, number: u32) {
        if !std::mem::replace(&mut self.shapes[number].is_idle, true) {
            self.idle_shapes.push_back(number);
        }
        if self.idle_shapes.len() > IDLE_SHAPES_MAX
            && let Some(oldest) = self.idle_shapes.pop_front()
        {
            self.unless_taken_up(oldest);
        }
    }

    /// Forgets a shape that left the line of idle ones, if nobody waits in it.
    fn unless_taken_up(&mut self, number: u32) {
        self.shapes[number].is_idle = false;
        if self.shapes[number].lanes.is_empty() {
            self.shape_numbers.remove(&self.shapes[number].shape);
            self.shapes.remove(number);
        }
    }

    /// The shape of a waiting run, by its number.
    pub(super) fn shape(&self, number: u32) -> (&Shape, &Suited) {
        let known = &self.shapes[number];
        (&known.shape, &known.suited)
    }

    /// The number of the shape in which a run waits.
    pub(super) fn shape_of(&self, ticket: Ticket) -> u32 {
        self.lanes[ticket.lane].shape
    }

    /// Works out anew who suits which shape; gives the numbers of those that became short of workers.
    pub(super) fn crew_changed(&mut self, crew: &Crew, now: Time) -> Vec<u32> {
        for idle in std::mem::take(&mut self.idle_shapes) {
            self.unless_taken_up(idle);
        }
        let mut short = Vec::new();
        for number in self.shapes.keys() {
            let Known { shape, suited: before, .. } = &self.shapes[number];
            let was_short = before.short_since;
            let after = suited(shape, crew, was_short, now);
            if was_short.is_none() && after.short_since.is_some() {
                short.push(number);
            }
            self.shapes[number].suited = after;
        }
        short
    }

    /// Runs that wait in a shape.
    pub(super) fn runs_of_shape(&self, number: u32) -> Vec<RunId> {
        let lanes = self.shapes[number].lanes.iter();
        lanes.flat_map(|lane| self.lanes[*lane].runs.values().copied()).collect()
    }

    /// Runs that wait for an arbiter.
    pub(super) fn runs_for_arbiters(&self) -> Vec<RunId> {
        let shapes = self.shapes.keys().into_iter();
        let asked = shapes.filter(|number| self.shapes[*number].shape.seat == Seat::Arbiter);
        asked.flat_map(|number| self.runs_of_shape(number)).collect()
    }

    /// Runs that wait in a lane, the oldest first.
    pub(super) fn runs_of_lane(&self, lane: u32) -> impl Iterator<Item = RunId> + '_ {
        self.lanes[lane].runs.values().copied()
    }

    /// When the shape's timer will ask whether it has been short for too long.
    pub(super) fn timer_of_shape(&mut self, number: u32) -> &mut Option<Time> {
        &mut self.shapes[number].timer_at
    }
}

/// Joining and leaving.
impl Queue {
    /// A run waits. Answers where, and its shape if that is short of workers.
    pub(super) fn enter(
        &mut self,
        place: (WorkspaceId, i8, u64, RunId),
        shape: Shape,
        module: u32,
        shared: (&Crew, &mut Modules, &Config),
        now: Time,
    ) -> (Ticket, Option<u32>) {
        let (workspace, priority, age, run) = place;
        let (crew, modules, config) = shared;
        let (shape, _) = self.suited(&shape, crew, now);
        let known = &mut self.shapes[shape];
        let mut short = None;
        if known.suited.short_since.is_some() {
            if known.lanes.is_empty() {
                // it counts from when somebody waits
                known.suited.short_since = Some(now);
            }
            // also where others wait: those may be about to give up, and then no timer is set for them
            short = Some(shape);
        }
        let lane = self.lane(workspace, shape, priority, module, modules, config);
        let before = self.lanes[lane].turn();
        self.lanes[lane].runs.insert(age, run);
        self.shelve(lane, before);
        self.queued += 1;
        (Ticket { lane, age }, short)
    }

    fn lane(
        &mut self,
        workspace: WorkspaceId,
        shape: u32,
        priority: i8,
        module: u32,
        modules: &mut Modules,
        config: &Config,
    ) -> u32 {
        if let Some(number) = self.lane_numbers.get(&(workspace, shape, priority, module)) {
            return *number;
        }
        let is_gated = !modules[module].admits(config);
        let lane = Lane { workspace, shape, priority, module, runs: BTreeMap::new(), is_gated };
        let number = self.lanes.insert(lane);
        self.lane_numbers.insert((workspace, shape, priority, module), number);
        self.shapes[shape].lanes.insert(number);
        modules[module].lanes.insert(number);
        if is_gated {
            modules[module].gated.push(number);
        }
        number
    }

    /// Puts a lane on its shelf where its first run belongs; `before` is where it stood.
    fn shelve(&mut self, number: u32, before: Option<Turn>) {
        let lane = &self.lanes[number];
        let turn = lane.turn();
        if lane.is_gated || turn == before {
            return;
        }
        let shelves = &mut self.shares.entry(lane.workspace).or_default().shelves;
        let shelf = shelves.entry(lane.shape).or_default();
        if let Some(before) = before {
            shelf.remove(&(before, number));
        }
        match turn {
            Some(turn) => drop(shelf.insert((turn, number))),
            None if shelf.is_empty() => drop(shelves.remove(&lane.shape)),
            None => {}
        }
    }

    /// A run waits no longer. Answers the number and the timer of its shape if one was set and
    /// nobody else of that shape waits.
    pub(super) fn leave(&mut self, ticket: Ticket, modules: &mut Modules) -> Option<(u32, Time)> {
        let before = self.lanes[ticket.lane].turn();
        self.lanes[ticket.lane].runs.remove(&ticket.age);
        self.queued -= 1;
        self.shelve(ticket.lane, before);
        let lane = &self.lanes[ticket.lane];
        if !lane.runs.is_empty() {
            return None;
        }
        let (workspace, shape, priority, module) = (lane.workspace, lane.shape, lane.priority, lane.module);
        self.lane_numbers.remove(&(workspace, shape, priority, module));
        self.lanes.remove(ticket.lane);
        modules[module].lanes.remove(&ticket.lane);
        modules[module].gated.retain(|gated| *gated != ticket.lane);
        let known = &mut self.shapes[shape];
        known.lanes.remove(&ticket.lane);
        if !known.lanes.is_empty() {
            return None;
        }
        // not before: others of the shape have waited for as long, whoever gives up
        known.passed_over_since = None;
        let timer_at = known.timer_at.take();
        self.idle(shape);
        timer_at.map(|at| (shape, at))
    }

    /// The lanes of a module go back to their shelves: it may admit an attempt now.
    pub(super) fn ungate(&mut self, module: u32, modules: &mut Modules) {
        for number in std::mem::take(&mut modules[module].gated) {
            self.lanes[number].is_gated = false;
            self.shelve(number, None);
        }
    }
}

/// Whose turn it is.
impl Queue {
    /// The run that is to be given an attempt now, if any of them can be placed.
    pub(super) fn next(
        &mut self,
        crew: &Crew,
        modules: &mut Modules,
        config: &Config,
    ) -> Option<(Ticket, RunId)> {
        let mut waiting = Vec::new();
        let order = (Bound::Included(self.turn), Bound::Unbounded);
        let wrapped = (Bound::Unbounded, Bound::Excluded(self.turn));
        let cycle: Vec<WorkspaceId> = self
            .shares
            .range(order)
            .chain(self.shares.range(wrapped))
            .map(|(workspace, _)| *workspace)
            .collect();
        for workspace in cycle {
            let Some((_, lane)) = self.first_placeable(workspace, crew, modules, config) else { continue };
            let deficit_us = self.shares[&workspace].deficit_us;
            if deficit_us > 0 {
                return self.serve(workspace, lane);
            }
            waiting.push((workspace, lane, deficit_us));
        }
        // Nobody who could be served has time left. As many rounds pass as it takes until somebody has; to count
        // them is the same as to go round so often.
        let rounds = waiting.iter().map(|(.., deficit_us)| -deficit_us / QUANTUM_US + 1).min()?;
        for (workspace, ..) in &waiting {
            if let Some(share) = self.shares.get_mut(workspace) {
                share.deficit_us += rounds * QUANTUM_US;
            }
        }
        // the one that had its turn last comes last
        let is_next = |(workspace, ..): &&(WorkspaceId, u32, i64)| self.shares[workspace].deficit_us > 0;
        let others = waiting.iter().filter(|(workspace, ..)| *workspace != self.turn);
        let (workspace, lane, _) = others.chain(waiting.first()).find(is_next)?;
        self.serve(*workspace, *lane)
    }

    /// Keeps a worker for the shape that was passed over for longest, if that is too long: the one with the most memory left of
    /// those that would take an attempt now; others may never. It gets nothing smaller until it has room, so what runs there
    /// ends and the run has its turn, among what its worker has room for: a steady stream of a higher priority goes before
    /// it all the same.
    pub(super) fn keep_for_large(&mut self, crew: &mut Crew, modules: &Modules, config: &Config, now: Time) {
        crew.keep(None);
        let Queue { shares, shapes, lanes, .. } = self;
        if shares.values().map(|share| share.shelves.len()).sum::<usize>() < 2 {
            // nobody is there who could be served before it
            return;
        }
        let mut longest: Option<(Time, usize, u64)> = None;
        for (number, shelf) in shares.values().flat_map(|share| &share.shelves) {
            let known = &mut shapes[*number];
            let Known { shape, suited, .. } = &*known;
            let waits = shelf.first().is_some_and(|(_, lane)| modules[lanes[*lane].module].admits(config));
            if !waits || suited.places.both(crew.free()).next().is_none() {
                continue;
            }
            if is_placeable(shape, suited, crew) {
                known.passed_over_since = None;
                continue;
            }
            let since = known.passed_over_since.unwrap_or(now);
            // what one has free only grows while it is kept, and another one is kept instead only if it has more
            let places = suited.places.both(crew.free());
            let roomiest = places.max_by_key(|place| (crew.at(*place).memory_free(), Reverse(*place)));
            if now.ms_since(since) >= PASSED_OVER_MS
                && longest.is_none_or(|(longest, ..)| since < longest)
                && let Some(place) = roomiest
            {
                longest = Some((since, place, shape.memory_bytes));
            }
            known.passed_over_since = Some(since);
        }
        crew.keep(longest.map(|(_, place, memory_bytes)| (place, memory_bytes)));
    }

    fn serve(&mut self, workspace: WorkspaceId, lane: u32) -> Option<(Ticket, RunId)> {
        self.turn = workspace;
        let (age, run) = self.lanes[lane].runs.first_key_value()?;
        Some((Ticket { lane, age: *age }, *run))
    }

    /// The first lane of a workspace whose first run could be placed now.
    fn first_placeable(
        &mut self,
        workspace: WorkspaceId,
        crew: &Crew,
        modules: &mut Modules,
        config: &Config,
    ) -> Option<(Turn, u32)> {
        let share = self.shares.get_mut(&workspace)?;
        let mut best: Option<(Turn, u32)> = None;
        let mut has_empty = false;
        for (shape, shelf) in &mut share.shelves {
            let Known { shape, suited, .. } = &self.shapes[*shape];
            if !is_placeable(shape, suited, crew) {
                continue;
            }
            while let Some((turn, number)) = shelf.first().copied() {
                let lane = &mut self.lanes[number];
                if modules[lane.module].admits(config) {
                    best = Some(best.map_or((turn, number), |best| best.min((turn, number))));
                    break;
                }
                lane.is_gated = true;
                modules[lane.module].gated.push(number);
                shelf.pop_first();
            }
            has_empty |= shelf.is_empty();
        }
        if has_empty {
            share.shelves.retain(|_, shelf| !shelf.is_empty());
        }
        best
    }

    /// Charges a workspace for CPU time, or gives some back.
    pub(super) fn charge(&mut self, workspace: WorkspaceId, cpu_us: i64) {
        if let Some(share) = self.shares.get_mut(&workspace) {
            share.deficit_us = share.deficit_us.saturating_sub(cpu_us).min(QUANTUM_US);
        }
    }

    /// A run of a workspace was accepted.
    pub(super) fn opened(&mut self, workspace: WorkspaceId) {
        self.shares.entry(workspace).or_default().runs += 1;
    }

    /// A run of a workspace is gone. A workspace without runs loses what it saved or owed.
    pub(super) fn closed(&mut self, workspace: WorkspaceId) {
        if let Some(share) = self.shares.get_mut(&workspace) {
            share.runs -= 1;
            if share.runs == 0 {
                self.shares.remove(&workspace);
            }
        }
    }

    /// Runs of a workspace that are not final.
    pub(super) fn runs_of_workspace(&self, workspace: WorkspaceId) -> usize {
        self.shares.get(&workspace).map_or(0, |share| share.runs)
    }

    /// Checks what must hold between events; `waiting` is every ticket that a run has.
    pub(super) fn check(
        &self,
        waiting: &BTreeMap<(u32, u64), RunId>,
        modules: &Modules,
    ) -> Result<(), String> {
        if waiting.len() != self.queued {
            return Err(format!("{} runs have a ticket and {} are queued", waiting.len(), self.queued));
        }
        for ((lane, age), run) in waiting {
            if self.lanes[*lane].runs.get(age) != Some(run) {
                return Err(format!("{run} is not where its ticket says"));
            }
        }
        for number in self.shapes.keys() {
            let known = &self.shapes[number];
            if known.suited.short_since.is_some() && !known.lanes.is_empty() && known.timer_at.is_none() {
                return Err(format!(
                    "L1: nothing ends the waiting in shape {number}, which is short of workers"
                ));
            }
        }
        for number in self.lanes.keys() {
            let lane = &self.lanes[number];
            let shelf = self.shares.get(&lane.workspace).and_then(|share| share.shelves.get(&lane.shape));
            let is_shelved =
                lane.turn().is_some_and(|turn| shelf.is_some_and(|s| s.contains(&(turn, number))));
            if is_shelved == lane.is_gated || lane.is_gated != modules[lane.module].gated.contains(&number) {
                return Err(format!("lane {number} is neither on its shelf nor gated, or both"));
            }
        }
        Ok(())
    }
}
