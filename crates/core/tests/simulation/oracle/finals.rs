//! Judges how runs end: by which votes, for which reason, once.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{Class, Final, Submission};
use vocabulary::digest::Digest;
use vocabulary::id::{RunId, WorkerId};
use vocabulary::result::{FailReason, RunState, VerdictKind};
use vocabulary::spec::{Retry, Verify};

use super::{CRASHES_MAX, Heard, Known, Oracle};

/// Words of the explanations that show rare states.
const EXPLAINED: [(&str, &str); 11] = [
    ("ended early: those that waited", "a follower whose leader was canceled or expired"),
    ("gave no result: it is executed", "a follower that was executed after all"),
    ("a second one is handed out", "a hedge"),
    ("audit lottery drew it", "an audit"),
    ("verified anew at once", "a run verified anew that waited for its turn"),
    ("lost its confirmations elsewhere", "a vote that lost its weight"),
    ("is slow", "a slow attempt"),
    ("is stuck", "a stuck attempt"),
    ("was not heard of", "a suspect worker"),
    ("is heard of again", "a suspect worker that was heard of again"),
    ("grace after the restart is over", "a run that was held back for the whole grace"),
];

impl Oracle {
    /// I2, I3, I7, I8: the final is the only one and rests on what was heard.
    pub(super) fn ended(&mut self, last: &Final) -> Result<(), String> {
        let Some(known) = self.runs.get(&last.run) else {
            return Err(format!("I1: a final of {}, which nobody knows", last.run));
        };
        if known.last.is_some() {
            return Err(format!("I2: a second final of {}", last.run));
        }
        if known.epoch != last.epoch {
            return Err(format!("I6: the final of {} names another term", last.run));
        }
        if known.was_canceled && last.state != RunState::Canceled {
            return Err(format!("I8: {} was canceled and is {}", last.run, last.state.name()));
        }
        if let Some(result) = last.result.filter(|_| last.shared_with.is_none()) {
            let known = self.runs.get_mut(&last.run).ok_or("I1: nobody knows it")?;
            known.set_aside(last, result)?;
            let (is_aside, is_portable) = (!known.aside.is_empty(), known.is_portable());
            let overflowed = known.votes.iter().any(|vote| vote.result == result && vote.overflowed());
            let rare = [
                (is_aside, "a vote that cannot be compared"),
                (is_portable, "a result of portable code"),
                (overflowed && is_portable, "a result that a stack overflowed"),
            ];
            rare.into_iter().filter(|(is_it, _)| *is_it).for_each(|(_, what)| self.saw(what));
        }
        let Some(known) = self.runs.get(&last.run) else { return Ok(()) };
        let rare = match last.result {
            Some(_) if last.shared_with.is_some() => {
                known.check_shared(last, &self.runs)?;
                vec!["a run that shared attempts"]
            }
            Some(result) => known.check_result(last, result)?,
            None => known.check_no_result(last, &self.poisoned, &self.refused)?,
        };
        if let Some(known) = self.runs.get_mut(&last.run) {
            known.last = Some(last.clone());
        }
        rare.into_iter().for_each(|what| self.saw(what));
        for explained in last.explain.iter() {
            for (words, what) in EXPLAINED {
                if explained.text().contains(words) {
                    self.saw(what);
                }
            }
        }
        Ok(())
    }
}

impl Known {
    /// I3 and I12: what a result must rest on. Gives the rare states that it shows.
    fn check_result(&self, last: &Final, result: Digest) -> Result<Vec<&'static str>, String> {
        let run = last.run;
        let mut rare = Vec::new();
        let for_it: Vec<&Heard> = self.votes.iter().filter(|vote| vote.result == result).collect();
        let Some(first) = for_it.first() else {
            return Err(format!("I3: nobody voted for the result of {run}"));
        };
        let is_known = self.submission.reverify.as_ref().is_some_and(|reverify| reverify.result == result);
        if !is_known && !for_it.iter().any(|vote| vote.is_there) {
            return Err(format!("I12: the result of {run} was not collected"));
        }
        if last.outcome.as_ref() != Some(&first.outcome) {
            return Err(format!("I3: the outcome of {run} is not what was voted for"));
        }
        if (last.state == RunState::Succeeded) != first.outcome.is_success()
            || last.state == RunState::Canceled
        {
            return Err(format!("I3: {run} is {} by {:?}", last.state.name(), first.outcome));
        }
        if self.submission.reverify.is_some() || self.submission.policy.verify.epsilon_ppb().is_some() {
            return self.check_weighed(last, result);
        }
        if !first.is_there {
            rare.push("the next voter delivered");
        }
        match self.submission.policy.verify {
            Verify::Once if last.verdict.kind != VerdictKind::Unchecked => {
                Err(format!("I3: {run} compared nothing and is {:?}", last.verdict.kind))
            }
            Verify::Once | Verify::Standard | Verify::High => Ok(rare),
            Verify::Quorum { n } => {
                let n = usize::from(n);
                let workers: BTreeSet<WorkerId> = self.votes.iter().map(|vote| vote.worker).collect();
                let classes: BTreeSet<Class> = self.votes.iter().map(|vote| self.class_of(vote)).collect();
                if last.verdict.kind != VerdictKind::Agreed {
                    return Err(format!("I3: {run} has a result and is {:?}", last.verdict.kind));
                }
                if workers.len() != self.votes.len() {
                    return Err(format!("I4: a worker counts twice in {run}"));
                }
                if self.votes.len() < n || for_it.len() * 2 <= n || classes.len() != 1 {
                    let (all, classes) = (self.votes.len(), classes.len());
                    return Err(format!(
                        "I3: {} of {all} votes of {classes} classes for {run}",
                        for_it.len()
                    ));
                }
                let lost: Vec<WorkerId> =
                    self.votes.iter().filter(|vote| vote.result != result).map(|vote| vote.worker).collect();
                if last.verdict.votes as usize != for_it.len() || last.verdict.dissenters != lost {
                    return Err(format!("I3: the figures of the verdict of {run} are wrong"));
                }
                if self.votes.len() > n {
                    rare.push("a dispute that a further vote resolved");
                }
                Ok(rare)
            }
        }
    }

    /// I2 and I3: a result that another run's attempts gave is the result of that run, which is equal and asked for no less.
    fn check_shared(&self, last: &Final, runs: &BTreeMap<RunId, Known>) -> Result<(), String> {
        let (run, leader) = (last.run, last.shared_with.expect("it shared"));
        let known =
            runs.get(&leader).ok_or_else(|| format!("share: {run} and {leader}, which nobody knows"))?;
        let theirs = known.last.as_ref().ok_or_else(|| format!("share: {leader} has no final for {run}"))?;
        let of = |it: &Final| {
            (it.state, it.reason, it.outcome.clone(), it.verdict.clone(), it.result, it.error_ppb)
        };
        if of(last) != of(theirs) || theirs.shared_with.is_some() {
            return Err(format!("share: {run} is not what {leader} is"));
        }
        let (mine, other) = (&self.submission, &known.submission);
        if mine.share.is_none() || (mine.share, mine.workspace) != (other.share, other.workspace) {
            return Err(format!("share: {run} and {leader} are not equal"));
        }
        let asked = |it: &Submission| (it.policy.verify, it.policy.placement.clone());
        if asked(mine) != asked(other) {
            return Err(format!("share: {run} did not ask for what {leader} did"));
        }
        let once = [mine, other].iter().any(|it| it.policy.retry == Retry::Never);
        if once || !last.attempts.is_empty() || !last.votes.is_empty() {
            return Err(format!("share: {run} has attempts of its own"));
        }
        Ok(())
    }

    /// A run that ends without a result must have a reason that is true.
    fn check_no_result(
        &self,
        last: &Final,
        poisoned: &BTreeSet<Digest>,
        refused: &BTreeSet<Digest>,
    ) -> Result<Vec<&'static str>, String> {
        let run = last.run;
        if matches!(last.verdict.kind, VerdictKind::Agreed | VerdictKind::Unchecked) || last.outcome.is_some()
        {
            return Err(format!("I3: {run} has no result and is {:?}", last.verdict.kind));
        }
        if last.state == RunState::Canceled {
            return if self.was_canceled {
                Ok(vec!["a cancel in time"])
            } else {
                Err(format!("{run}: no cancel"))
            };
        }
        let is_poisoned = poisoned.contains(&self.submission.module);
        if last.reason != Some(FailReason::Nondeterministic)
            && last.verdict.kind == VerdictKind::Nondeterministic
        {
            return Err(format!("I3: {run} is {:?} for another reason", last.verdict.kind));
        }
        match last.reason {
            Some(FailReason::Poisoned) if is_poisoned => Ok(vec!["a run of a quarantined module"]),
            Some(FailReason::Poisoned) if self.crashes >= CRASHES_MAX => Ok(vec!["a poisoned run"]),
            Some(FailReason::Poisoned) => Err(format!("I10: {run} is poisoned by {} crashes", self.crashes)),
            Some(FailReason::ModuleRefused) if refused.contains(&self.submission.module) => {
                Ok(vec!["a run of a refused module"])
            }
            Some(FailReason::Nondeterministic) => self.check_nondeterministic(run),
            Some(FailReason::NoQuorum)
                if self.submission.policy.verify == Verify::Once && self.submission.reverify.is_none() =>
            {
                Err(format!("{run} needs no quorum"))
            }
            Some(FailReason::NoQuorum) if last.verdict.kind == VerdictKind::Disputed => {
                Ok(vec!["no quorum: disputed"])
            }
            Some(FailReason::NoQuorum) => Ok(vec!["no quorum: too few workers"]),
            Some(FailReason::TimedOut) => Ok(vec!["a run timed out"]),
            Some(FailReason::Lost) => Ok(vec!["a run lost"]),
            Some(FailReason::Crashed) => match self.submission.policy.retry {
                Retry::Never => Ok(vec!["a crash that allows no rerun"]),
                Retry::Reassign => Err(format!("{run} may be rerun after a crash")),
            },
            Some(FailReason::Expired) => match self.submission.policy.deadline_ms {
                Some(_) => Ok(vec!["a deadline passed"]),
                None => Err(format!("{run} has no deadline")),
            },
            reason => Err(format!("{run} failed without a result: {reason:?}")),
        }
    }
}
