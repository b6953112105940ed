//! Equal runs in flight: one of them, the leader, is executed; the others, its followers, get its result.
//!
//! A follower is a run like any other, with a row, a deadline and a final of its own; it only has no attempts. It may be
//! canceled or expire by itself, which the leader does not notice. The result of the leader is that of each follower, in the
//! same step; its end without a result is not: where it was canceled, expired, or was taken over by somebody else, the
//! oldest follower leads the others from then on; where its budgets were used up or its votes decided nothing, each is
//! executed by itself, with budgets of its own. Runs of an earlier life may lead but never follow: they may have attempts.
//! What makes two runs equal is the caller's: [`super::Submission::share`].

use std::collections::{BTreeMap, BTreeSet};

use super::explain::Note;
use super::floor::{Floor, Followup};
use super::pool::Pool;
use super::run::{Phase, Run};
use super::settle::Ending;
use vocabulary::digest::Digest;
use vocabulary::id::{RunId, WorkspaceId};
use vocabulary::spec::{Policy, Retry};

/// Who executes for whom.
#[derive(Default)]
pub(super) struct Flights {
    /// By workspace and what makes runs equal.
    leaders: BTreeMap<(WorkspaceId, Digest), RunId>,
    /// By leader, each with its age.
    followers: BTreeMap<RunId, BTreeSet<(u64, RunId)>>,
}

impl Flights {
    /// Ends the part of a run: those that it executed for.
    fn leave(&mut self, run: &Run) -> Vec<RunId> {
        if let Phase::Following(leader) = run.phase
            && let Some(others) = self.followers.get_mut(&leader)
        {
            others.remove(&(run.age, run.id));
        }
        let key = run.share.map(|share| (run.workspace, share));
        if key.is_some_and(|key| self.leaders.get(&key) == Some(&run.id)) {
            key.and_then(|key| self.leaders.remove(&key));
        }
        let followers = self.followers.remove(&run.id).unwrap_or_default();
        followers.into_iter().map(|(_, follower)| follower).collect()
    }
}

/// Whether a run may wait for the result of another, which is equal to it: it gets what it asked for, when its own attempts
/// would have got it. A stricter leader would hold it up, one elsewhere placed may be waiting for a worker.
fn serves(of: &Policy, wanted: &Policy) -> bool {
    of.verify == wanted.verify
        && of.durable == wanted.durable
        && of.placement == wanted.placement
        // it is not held up for longer, nor behind others, than its own attempts would be
        && of.timeout_ms <= wanted.timeout_ms
        && of.priority >= wanted.priority
}

/// Whether a run shares at all. What is tried at most once is nobody else's attempt.
fn shares(run: &Run) -> Option<Digest> {
    run.share.filter(|_| run.policy.retry == Retry::Reassign && run.reverify.is_none())
}

impl Floor {
    /// Lets a run wait for the result of its leader; without one it leads those that come after it, unless somebody does.
    pub(super) fn board(&mut self, run: &mut Run, leader: Option<RunId>) {
        let Some(share) = shares(run) else { return };
        match leader {
            Some(leader) => {
                run.phase = Phase::Following(leader);
                self.flights.followers.entry(leader).or_default().insert((run.age, run.id));
                self.note(run, Note::Follows { leader });
            }
            None => {
                self.flights.leaders.entry((run.workspace, share)).or_insert(run.id);
            }
        }
    }

    /// A run ends with a result: those that follow it have it too.
    pub(super) fn land(&mut self, run: &Run, ending: &Ending) {
        let followers = self.flights.leave(run);
        if !followers.is_empty() {
            self.followups.push(Followup::Landed(followers, Box::new(ending.shared(run.id))));
        }
    }

    /// A run ends without a result: those that follow it share attempts of one of them, or none any more.
    pub(super) fn set_adrift(&mut self, run: &Run, keep_together: bool) {
        let followers = self.flights.leave(run);
        if !followers.is_empty() {
            self.followups.push(Followup::Adrift { followers, leader: run.id, keep_together });
        }
    }
}

impl Pool {
    /// Runs that end with a run which is not served any more: itself and those that follow it.
    pub(super) fn ends_with(&self, leader: RunId) -> usize {
        1 + self.floor.flights.followers.get(&leader).map_or(0, BTreeSet::len)
    }

    /// Whose result a run may wait for.
    pub(super) fn leader_for(&self, run: &Run) -> Option<RunId> {
        let share = shares(run).filter(|_| !run.is_recovered && run.attempts.is_empty())?;
        let flights = &self.floor.flights;
        let leader = *flights.leaders.get(&(run.workspace, share))?;
        let others = flights.followers.get(&leader).map_or(0, BTreeSet::len);
        let may_follow = others < self.floor.config.followers_max
            && self
                .runs
                .get(&leader)
                .is_some_and(|leader| !leader.is_settled() && serves(&leader.policy, &run.policy));
        may_follow.then_some(leader)
    }

    /// The result of a leader is that of its followers.
    pub(super) fn landed(&mut self, followers: Vec<RunId>, ending: &Ending) {
        for follower in followers {
            self.with_run(follower, |floor, run| floor.take_shared(run, ending.clone()));
        }
    }

    /// The leader is gone and left nothing.
    pub(super) fn adrift(&mut self, followers: Vec<RunId>, leader: RunId, keep_together: bool) {
        for follower in followers {
            let next =
                self.runs.get(&follower).filter(|_| keep_together).and_then(|run| self.leader_for(run));
            self.with_run(follower, |floor, run| {
                if !matches!(run.phase, Phase::Following(_)) {
                    return;
                }
                run.phase = Phase::Open;
                floor.note(run, Note::Adrift { leader, keep_together });
                if keep_together {
                    floor.board(run, next);
                } else {
                    run.share = None;
                }
                floor.advance(run);
            });
        }
    }

    /// Checks what must hold between events.
    pub(super) fn check_flights(&self) -> Result<(), String> {
        let flights = &self.floor.flights;
        for ((workspace, share), leader) in &flights.leaders {
            let known = self.runs.get(leader);
            if known.is_none_or(|run| {
                run.is_settled() || (run.workspace, run.share) != (*workspace, Some(*share))
            }) {
                return Err(format!("share: {leader} leads and should not"));
            }
        }
        for (leader, followers) in &flights.followers {
            if followers.len() > self.floor.config.followers_max || !self.runs.contains_key(leader) {
                return Err(format!("share: {leader} has {} followers", followers.len()));
            }
            for (_, follower) in followers {
                let known = self.runs.get(follower);
                if known.is_none_or(|run| run.phase != Phase::Following(*leader)) {
                    return Err(format!("share: {follower} does not follow {leader}"));
                }
            }
        }
        for run in self.runs.values() {
            let Phase::Following(leader) = run.phase else { continue };
            let is_listed =
                flights.followers.get(&leader).is_some_and(|all| all.contains(&(run.age, run.id)));
            if !is_listed || self.runs.get(&leader).is_none_or(|leader| leader.is_settled()) {
                return Err(format!("L1: {} waits for {leader}, which brings nothing", run.id));
            }
            if !run.attempts.is_empty() || run.ticket.is_some() || run.is_held {
                return Err(format!("share: {} follows and is executed", run.id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::spec::{Placement, Verify};

    use super::*;

    #[test]
    fn a_run_waits_only_for_one_that_asks_for_the_same() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let any = Policy { verify: Verify::Quorum { n: 3 }, timeout_ms: 1_000, ..Policy::default() };
        let with = |change: fn(&mut Policy)| {
            let mut policy = any.clone();
            change(&mut policy);
            policy
        };
        let placed = Policy { placement: Placement::Labels { labels }, ..any.clone() };
        let table = [
            (any.clone(), true),
            (with(|it| it.verify = Verify::Quorum { n: 2 }), false),
            (with(|it| it.verify = Verify::Once), false),
            (with(|it| it.verify = Verify::High), false),
            (with(|it| it.durable = !it.durable), false),
            (with(|it| it.timeout_ms = 999), false),
            (with(|it| it.timeout_ms = 1_001), true),
            (with(|it| it.priority = 1), false),
            (with(|it| it.priority = -1), true),
            (placed.clone(), false),
        ];
        for (wanted, expected) in table {
            assert_eq!(serves(&any, &wanted), expected, "{wanted:?}");
        }
        assert!(serves(&placed, &placed) && !serves(&placed, &any));
    }
}
