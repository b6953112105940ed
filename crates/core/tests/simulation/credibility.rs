//! The adaptive policies once more: credibility in floating point, acceptance, blame and repair, sharing no code with the
//! core.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{Effect, Evidence, Final, Joining, Prior};
use vocabulary::digest::Digest;
use vocabulary::id::{RunId, WorkerId};
use vocabulary::result::VerdictKind;
use vocabulary::spec::Verify;

use crate::oracle::{Heard, Known, Oracle};
use crate::shim::finished;

/// Everything that was ever said of a worker, each with the run that it is about.
type Said = Vec<(Option<RunId>, Evidence)>;

/// What is known of the workers.
#[derive(Default)]
pub struct Books {
    k: BTreeMap<WorkerId, f64>,
    /// Of each worker what it began with, and its log.
    logs: BTreeMap<WorkerId, (f64, Said)>,
    faulty: BTreeMap<WorkerId, f64>,
    arbiters: BTreeSet<WorkerId>,
    pub nondeterministic: BTreeSet<Digest>,
    /// Of each module the runs of which trusted workers named three results.
    pub divided: BTreeMap<Digest, BTreeSet<RunId>>,
}

impl Books {
    pub fn joined(&mut self, joining: &Joining) {
        let worker = joining.worker;
        // a world does not last long enough for anything to age
        let k = joining.standing.k_milli as f64 / 1e3;
        self.k.entry(worker).or_insert(k);
        self.logs.entry(worker).or_insert((k, Vec::new()));
        self.faulty.insert(worker, if joining.prior == Prior::Owned { 0.02 } else { 0.2 });
        if joining.is_arbiter {
            self.arbiters.insert(worker);
        }
    }

    pub fn is_owned(&self, worker: WorkerId) -> bool {
        self.faulty.get(&worker).is_some_and(|faulty| *faulty < 0.1)
    }

    pub fn is_arbiter(&self, worker: WorkerId) -> bool {
        self.arbiters.contains(&worker)
    }

    /// One more entry: confirmations, and whether the log would quarantine, counted anew from the beginning and without what
    /// was taken back.
    fn told(&mut self, worker: WorkerId, about: Option<RunId>, evidence: Evidence) {
        let (start, log) = self.logs.entry(worker).or_default();
        match evidence {
            Evidence::Absolved => log.retain(|(run, said)| {
                *run != about || !matches!(said, Evidence::LoneDissent | Evidence::Collusion)
            }),
            said => log.push((about, said)),
        }
        let count = |k: f64, (_, said): &(Option<RunId>, Evidence)| match said {
            Evidence::Confirmed { count, .. } => (k + f64::from(*count)).min(1_000.0),
            _ => 0.0,
        };
        self.k.insert(worker, log.iter().fold(*start, count));
    }

    /// Whether what is left of its log is enough for a quarantine: all of it is of one day.
    fn is_condemned(&self, worker: WorkerId) -> bool {
        let log = self.logs.get(&worker).map(|(_, log)| log.as_slice()).unwrap_or_default();
        let since = log.iter().rposition(|(_, said)| *said == Evidence::Readmitted).map_or(0, |at| at + 1);
        let runs = |kind| -> BTreeSet<Option<RunId>> {
            log[since..].iter().filter(|(_, said)| *said == kind).map(|(run, _)| *run).collect()
        };
        !runs(Evidence::Collusion).is_empty() || runs(Evidence::LoneDissent).len() > 1
    }

    /// Probability of error, confirmations, and whether it is an arbiter.
    pub fn weight(&self, worker: WorkerId) -> (f64, f64, bool) {
        let k = self.k.get(&worker).copied().unwrap_or(0.0);
        let f = self.faulty.get(&worker).copied().unwrap_or(0.2);
        if self.is_arbiter(worker) {
            return (1e-4, k, true);
        }
        let error = if k < 1.0 { f } else { f / ((1.0 - f) * std::f64::consts::E * k) };
        (error.min(f).max(1e-4), k, false)
    }
}

impl Oracle {
    pub fn witnessed(
        &mut self,
        worker: WorkerId,
        about: Option<RunId>,
        evidence: Evidence,
    ) -> Result<(), String> {
        if evidence == Evidence::Absolved {
            self.check_absolved(worker, about)?;
        }
        self.books.told(worker, about, evidence);
        if evidence == Evidence::LoneDissent {
            self.saw("a lone dissenter");
            let (error, k, _) = self.books.weight(worker);
            for known in self.runs.values_mut().filter(|known| known.last.is_none()) {
                for vote in known.votes.iter_mut().filter(|vote| vote.worker == worker && !vote.is_arbiter) {
                    (vote.error, vote.k) = (error, k);
                }
            }
        }
        Ok(())
    }

    /// Only who had named what a correction found is told to have been right; or who lost in a divided run of a module that is
    /// to blame itself.
    fn check_absolved(&mut self, worker: WorkerId, about: Option<RunId>) -> Result<(), String> {
        let known = about.and_then(|run| self.runs.get(&run));
        let module = known.map(|known| known.submission.module);
        let is_to_blame = |module: &Digest| {
            let divided = self.books.divided.get(module);
            self.books.nondeterministic.contains(module)
                && divided.is_some_and(|runs| about.is_some_and(|run| runs.contains(&run)))
        };
        if module.as_ref().is_some_and(is_to_blame) {
            return Ok(());
        }
        let reverify = known.and_then(|known| Some((known, known.submission.reverify.as_ref()?)));
        let Some((known, reverify)) = reverify else {
            return Err(format!("integrity: {worker} is absolved of nothing that was looked at again"));
        };
        let named = reverify.dissents.iter().filter(|dissent| dissent.worker == worker);
        let is_right = |result: Digest| {
            let is_new = result != reverify.result && known.votes.iter().any(|vote| vote.result == result);
            known.last.as_ref().map_or(is_new, |last| is_new && last.result == Some(result))
        };
        if !named.clone().any(|dissent| is_right(dissent.result)) {
            return Err(format!("integrity: {worker} is absolved and had not been right"));
        }
        self.saw("a dissenter that had been right");
        Ok(())
    }

    /// I15: the disagreement of one run calls a module nondeterministic only if it is one of arbiters.
    pub fn check_called(&mut self, module: Digest, run: RunId) -> Result<(), String> {
        let votes = self.runs.get(&run).map(|known| known.votes.as_slice()).unwrap_or_default();
        let arbiters: BTreeSet<Digest> =
            votes.iter().filter(|vote| vote.is_arbiter).map(|vote| vote.result).collect();
        let divided = self.books.divided.get(&module).map_or(0, BTreeSet::len);
        if arbiters.len() < 2 && divided < 3 {
            return Err(format!("I15: {divided} runs do not make a module nondeterministic ({run})"));
        }
        self.books.nondeterministic.insert(module);
        Ok(())
    }

    /// A quarantine ends by itself only if nothing is left of what it was for.
    pub fn check_rehabilitated(&mut self, worker: WorkerId) -> Result<(), String> {
        if !self.is_quarantined(worker) || !self.is_out_for_votes(worker) || self.books.is_condemned(worker) {
            return Err(format!("I14: {worker} is let in, and what it was quarantined for stands"));
        }
        self.saw("a worker that was let in again");
        Ok(())
    }

    /// Blame follows an agreed result and nothing else, and is never forgotten; what rested on a liar is looked for.
    pub fn check_evidence(&mut self, effects: &[Effect]) -> Result<(), String> {
        for effect in effects {
            if let Effect::Evidence { worker, attempt: Some(attempt), evidence, .. } = effect {
                if *evidence == Evidence::Absolved {
                    // judged when it was told
                    continue;
                }
                let is_blame = matches!(evidence, Evidence::LoneDissent | Evidence::Collusion);
                let Some(known) = self.runs.get(&attempt.run) else { continue };
                let result = known.last.as_ref().and_then(|last| last.result);
                let mine =
                    known.votes.iter().find(|vote| vote.number == attempt.number).map(|vote| vote.result);
                if is_blame && known.aside.iter().any(|vote| vote.number == attempt.number) {
                    return Err(format!("I15: {worker} is blamed for {attempt}, which was not compared"));
                }
                let is_told_apart = self.books.nondeterministic.contains(&known.submission.module);
                if is_blame && (result.is_none() || mine == result || is_told_apart) {
                    return Err(format!("I15: {worker} is blamed for {attempt}"));
                }
                if !is_blame && result.is_some() && mine != result {
                    return Err(format!("integrity: {worker} is confirmed by {attempt}, which lost"));
                }
            }
            if let Effect::QuarantineWorker { worker, .. } = effect
                && !effects.iter().any(|other| matches!(other, Effect::Repair { worker: it } if it == worker))
            {
                return Err(format!("repair: nobody looks for what rests on {worker}"));
            }
        }
        let ended: Vec<RunId> = effects.iter().filter_map(finished).map(|last| last.run).collect();
        ended.into_iter().try_for_each(|run| self.check_blame(run, effects))
    }

    /// Every vote that lost is evidence, and the same wrong digest from two workers takes both out.
    fn check_blame(&mut self, run: RunId, effects: &[Effect]) -> Result<(), String> {
        let Some(known) = self.runs.get_mut(&run) else { return Ok(()) };
        let Some(result) = known.last.as_ref().and_then(|last| last.result) else { return Ok(()) };
        let compares = known.submission.policy.verify != Verify::Once || known.submission.reverify.is_some();
        let was_judged = std::mem::replace(&mut known.is_judged, true);
        let known = &self.runs[&run];
        if was_judged || !compares || self.books.nondeterministic.contains(&known.submission.module) {
            return Ok(());
        }
        if known.trusted_results() >= 3 {
            // two of them may have lied, or the module is to blame
            return Ok(());
        }
        for vote in known.votes.iter().filter(|vote| vote.result != result) {
            let same = |other: &Heard| other.result == vote.result && other.worker != vote.worker;
            let colludes = known.votes.iter().any(same);
            let is_told = effects.iter().any(|effect| match effect {
                Effect::Evidence { worker, evidence, .. } => {
                    *worker == vote.worker && matches!(evidence, Evidence::LoneDissent | Evidence::Collusion)
                }
                _ => false,
            });
            let is_out = effects.iter().any(
                |effect| matches!(effect, Effect::QuarantineWorker { worker, .. } if *worker == vote.worker),
            );
            if !is_told || (colludes && !is_out) {
                return Err(format!("integrity: {} lied about {run} and nothing follows", vote.worker));
            }
        }
        Ok(())
    }
}

/// The error of a result by the formula, members of one domain counted as the best of them.
fn error_of(votes: &[(&Heard, u32)], result: Digest) -> f64 {
    let mut groups: BTreeMap<Digest, BTreeMap<u32, f64>> = BTreeMap::new();
    for (vote, domain) in votes {
        let best = groups.entry(vote.result).or_default().entry(*domain).or_insert(1.0);
        *best = best.min(vote.error);
    }
    let good = |group: &BTreeMap<u32, f64>| group.values().map(|error| 1.0 - error).product::<f64>();
    let bad = |group: &BTreeMap<u32, f64>| group.values().product::<f64>();
    let term = |result: &Digest| {
        let others = groups.iter().filter(|(other, _)| *other != result);
        good(&groups[result]) * others.map(|(_, group)| bad(group)).product::<f64>()
    };
    let all_bad: f64 = groups.values().map(bad).product();
    let rest: f64 = all_bad + groups.keys().filter(|other| **other != result).map(term).sum::<f64>();
    rest / (rest + term(&result))
}

impl Known {
    /// I3 under the policies that weigh votes, and when a final is verified anew.
    pub fn check_weighed(&self, last: &Final, result: Digest) -> Result<Vec<&'static str>, String> {
        let run = last.run;
        let named: Vec<(WorkerId, Digest)> =
            last.votes.iter().map(|vote| (vote.worker, vote.result)).collect();
        let heard: Vec<(WorkerId, Digest)> =
            self.votes.iter().map(|vote| (vote.worker, vote.result)).collect();
        if named != heard {
            return Err(format!("I3: {run} counts {named:?} and {heard:?} were heard"));
        }
        // who shares a fault domain is the pool's word; what each is worth is not
        let domains = last.votes.iter().map(|vote| vote.weight.domain);
        let votes: Vec<(&Heard, u32)> = self.votes.iter().zip(domains).collect();
        let is_disputed = votes.iter().any(|(vote, _)| vote.result != result);
        let arbiters: Vec<Digest> =
            self.votes.iter().filter(|vote| vote.is_arbiter).map(|vote| vote.result).collect();
        let arbiters_for = arbiters.iter().filter(|named| **named == result).count();
        let trusted: BTreeSet<u32> = votes
            .iter()
            .filter(|(vote, _)| vote.result == result && vote.error <= 0.010_01)
            .map(|(_, domain)| *domain)
            .collect();
        let for_it: BTreeSet<u32> =
            votes.iter().filter(|(vote, _)| vote.result == result).map(|(_, domain)| *domain).collect();
        let epsilon = self.submission.policy.verify.epsilon_ppb().unwrap_or(1_000_000) as f64 / 1e9;
        let is_enough = error_of(&votes, result) <= epsilon * 1.003;
        if arbiters_for < arbiters.len() {
            return Err(format!("I3: arbiters disagree about {run}"));
        }
        if let Some(reverify) = &self.submission.reverify {
            let changed = result != reverify.result;
            if reverify.class.is_some_and(|class| self.votes.iter().any(|vote| vote.class != class)) {
                return Err(format!("I3: {run} was verified anew by workers of another class"));
            }
            let by_arbiters = arbiters_for > usize::from(changed || is_disputed);
            let by_peers = is_enough && trusted.len() >= 2;
            if !by_arbiters && !by_peers {
                return Err(format!("I3: {run} was verified anew by {} votes", votes.len()));
            }
            if last.revision != reverify.revision + u32::from(changed) {
                return Err(format!("I2: {run} is revision {} after {}", last.revision, reverify.revision));
            }
            return Ok(vec![if changed {
                "a final that was corrected"
            } else {
                "a final that was confirmed"
            }]);
        }
        if is_disputed && arbiters_for >= 2 {
            return Ok(vec!["a result that an arbiter settled"]);
        }
        if !is_enough || (is_disputed && for_it.len() < 2) {
            return Err(format!("I3: {run} is accepted with an error of {}", error_of(&votes, result)));
        }
        let is_alone = votes.len() == 1;
        let expected = if is_alone { VerdictKind::Vouched } else { VerdictKind::Agreed };
        if last.verdict.kind != expected {
            return Err(format!("I3: {run} has {} votes and is {:?}", votes.len(), last.verdict.kind));
        }
        if let [(vote, _)] = votes.as_slice()
            && !vote.is_arbiter
        {
            let drawn = (self.submission.lottery >> 32) as f64 / 4_294_967_296.0;
            if vote.k < 10.0 {
                return Err(format!("I3: {} is a newcomer and stands alone for {run}", vote.worker));
            }
            if drawn < (13.0 / vote.k).max(0.01) - 1e-5 {
                return Err(format!("I3: {run} was drawn to be audited and was not"));
            }
            return Ok(vec!["a result that one vouched for"]);
        }
        Ok(Vec::new())
    }

    /// Different results that trusted workers named, of whatever class.
    pub fn trusted_results(&self) -> usize {
        let trusted =
            self.votes.iter().filter(|vote| vote.error <= 0.010_01 && (vote.is_arbiter || vote.k >= 10.0));
        trusted.map(|vote| vote.result).collect::<BTreeSet<Digest>>().len()
    }

    /// I15: a module is called nondeterministic only where executions that are trusted differ.
    pub fn check_nondeterministic(&self, run: RunId) -> Result<Vec<&'static str>, String> {
        let arbiters: BTreeSet<Digest> =
            self.votes.iter().filter(|vote| vote.is_arbiter).map(|vote| vote.result).collect();
        if arbiters.len() < 2 && self.trusted_results() < 3 {
            return Err(format!("I15: nothing shows that {run} is nondeterministic"));
        }
        Ok(vec!["a nondeterministic module"])
    }
}
