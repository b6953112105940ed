//! Who is next: fair between workspaces, by priority and age within one, without looking twice at what cannot start.
//!
//! Runs that want an attempt stand in *lanes*: one lane per workspace and constraint (which workers they may not have), so that
//! a head that no free worker may take speaks for everybody behind it. Workspaces take turns by the CPU time that
//! they were charged (start-time fair queueing, Goyal 1996: the deficit of round robin without its rounds). It knows no worker's
//! state and no rule about runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::core::Class;
use crate::id::{RunId, WorkerId, WorkspaceId};

/// What decides which workers may take a run: equal constraints share a lane.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Constraint {
    /// Bound to this class by its first attempt.
    pub class: Option<Class>,
    /// Workers that may not have it now, sorted.
    pub excluded: Vec<WorkerId>,
    /// Trust domains that voted or may vote already, sorted; empty where domains do not matter.
    pub domains: Vec<String>,
    /// Labels that the worker must carry.
    pub labels: BTreeMap<String, String>,
    /// Its module was not ready or on probation when it came: its runs wait by themselves, in front of nobody else.
    pub gate: Option<crate::digest::Digest>,
}

/// Place of a run in its lane: higher priority first, then age.
pub type Place = (Reverse<i8>, u64);

#[derive(Debug, Default)]
struct Workspace {
    lanes: BTreeMap<Constraint, BTreeMap<Place, RunId>>,
    /// CPU time charged so far, in microseconds, on the common scale.
    charged_us: u64,
    runs: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Queue {
    workspaces: BTreeMap<WorkspaceId, Workspace>,
    /// Workspaces that have runs here, the least charged first.
    turns: BTreeSet<(u64, WorkspaceId)>,
}

impl Queue {
    /// Adds a run. A workspace that comes back from idleness starts level with the least charged one: idle time is not saved up.
    pub fn insert(&mut self, workspace: WorkspaceId, constraint: Constraint, place: Place, run: RunId) {
        let floor = self.turns.first().map_or(0, |(charged, _)| *charged);
        let entry = self.workspaces.entry(workspace).or_default();
        if entry.runs == 0 {
            entry.charged_us = entry.charged_us.max(floor);
            self.turns.insert((entry.charged_us, workspace));
        }
        if entry.lanes.entry(constraint).or_default().insert(place, run).is_none() {
            entry.runs += 1;
        }
    }

    /// Takes a run out of its lane.
    pub fn remove(&mut self, workspace: WorkspaceId, constraint: &Constraint, place: Place) {
        let Some(entry) = self.workspaces.get_mut(&workspace) else { return };
        let Some(lane) = entry.lanes.get_mut(constraint) else { return };
        if lane.remove(&place).is_none() {
            return;
        }
        if lane.is_empty() {
            entry.lanes.remove(constraint);
        }
        entry.runs -= 1;
        if entry.runs == 0 {
            self.turns.remove(&(entry.charged_us, workspace));
        }
    }

    /// Charges a workspace for CPU time.
    pub fn charge(&mut self, workspace: WorkspaceId, cpu_us: u64) {
        let Some(entry) = self.workspaces.get_mut(&workspace) else { return };
        let is_waiting = self.turns.remove(&(entry.charged_us, workspace));
        entry.charged_us = entry.charged_us.saturating_add(cpu_us);
        if is_waiting {
            self.turns.insert((entry.charged_us, workspace));
        }
    }

    /// The heads of all lanes in the order in which they should be tried: the least charged workspace first, in it by place.
    pub fn heads(&self) -> impl Iterator<Item = RunId> + '_ {
        self.turns.iter().flat_map(|(_, workspace)| {
            let lanes = self.workspaces.get(workspace).map(|entry| &entry.lanes);
            let mut heads: Vec<(Place, RunId)> = lanes
                .into_iter()
                .flat_map(BTreeMap::values)
                .filter_map(|lane| lane.first_key_value().map(|(place, run)| (*place, *run)))
                .collect();
            heads.sort_unstable();
            heads.into_iter().map(|(_, run)| run)
        })
    }

    /// Every run that waits.
    pub fn runs(&self) -> impl Iterator<Item = RunId> + '_ {
        self.workspaces
            .values()
            .flat_map(|entry| entry.lanes.values().flat_map(|lane| lane.values().copied()))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.workspaces.values().map(|entry| entry.runs).sum()
    }
}
