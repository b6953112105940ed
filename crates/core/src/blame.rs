//! What a comparison says about the workers whose votes it compared.
//!
//! Confirmations and faults of integrity are told to the shell as evidence, and the same entries move the standing that the
//! pool itself decides by. Blame follows an agreed result only: never a dispute, never a run whose trusted executions
//! differ, never a module that was called nondeterministic (I15).

use super::AttemptState;
use super::credibility::{Rule, Word, arbitrated, group_error_ppb, split};
use super::discord::Blamed;
use super::evidence::{Evidence, Witness, day_of};
use super::explain::{DaysBefore, Fate, Note};
use super::floor::{Floor, Followup};
use super::kin::Frame;
use super::pool::Pool;
use super::run::Run;
use super::{Dissent, Effect, PastVoter};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, RunId, WorkerId};
use vocabulary::result::FailReason;

/// A vote that lost.
struct Lost {
    voter: PastVoter,
    result: Digest,
    /// Of its attempt; 0 stands for the revision before.
    number: u32,
}

/// Why a worker is out that lied with others.
fn colluded(run: RunId, with: usize) -> String {
    let others = if with == 1 { "1 more worker".to_owned() } else { format!("{with} more workers") };
    format!("its result of run {run} was wrong, and {others} named the very same")
}

impl Floor {
    /// Arbiters that could execute a run, so that their votes are among those of a frame.
    pub(super) fn arbiters_in(&self, run: &Run, frame: Option<Frame>) -> u32 {
        let suits = |place: &&usize| {
            let worker = self.crew.at(**place);
            worker.is_eligible()
                && worker.memory_bytes >= run.memory_bytes
                && frame.is_none_or(|frame| worker.class_of(frame.kin) == frame.class)
                && !run.has_voted_elsewhere(frame, worker.id)
                && run.labels.as_ref().is_none_or(|labels| worker.carries(labels))
        };
        self.crew.arbiters().iter().filter(suits).count() as u32
    }

    /// Who may decide what is worked out anew when somebody is trusted noticeably more, or less: with every doubling of its
    /// confirmations, and only where classes differ.
    fn trust_changed(&mut self, before: u32, after: u32) {
        if before != after && self.crew.is_mixed() {
            self.followups.push(Followup::Trust);
        }
    }

    /// Tells an entry of a worker's log, and takes it into its standing.
    pub(super) fn witness(&mut self, worker: WorkerId, attempt: Option<AttemptId>, evidence: Evidence) {
        let at = self.now;
        let Some(known) = self.crew.get_mut(worker) else { return };
        let before = known.trust();
        known.learn(at, attempt.map(|attempt| attempt.run), evidence);
        let (class, portable, after) = (known.class, Some(known.portable), known.trust());
        self.trust_changed(before, after);
        self.effects.push(Effect::Evidence { worker, class, portable, attempt, at, evidence });
    }

    /// What an agreed result says of its voters, told once per run.
    pub(super) fn judge(&mut self, run: &mut Run, won: Digest) {
        if let Some(rule) = run.rule() {
            let opinions = run.opinions();
            let note = match arbitrated(&opinions, won, rule.reverify) {
                Some(Word::Settled { executions }) => Note::Arbitrated { result: won, executions },
                Some(Word::Upheld) => Note::Upheld { result: won },
                None => {
                    let error_ppb = group_error_ppb(&opinions, won);
                    Note::Weighed { error_ppb, epsilon_ppb: rule.epsilon_ppb }
                }
            };
            self.note(run, note);
        }
        self.confirm(run, won);
        let lost = run.voted.iter().filter_map(|position| {
            let attempt = &run.attempts[*position];
            let ballot = run.compared(*position).filter(|ballot| ballot.result != won)?;
            let (worker, number) = (attempt.record.worker, attempt.record.number);
            Some(Lost {
                voter: PastVoter { worker, class: None, code: None, is_out: false },
                result: ballot.result,
                number,
            })
        });
        let mut lost: Vec<Lost> = lost.collect();
        if let Some(reverify) = run.reverify.as_ref().filter(|reverify| reverify.result != won) {
            // those that named the result of before are not among the voters of now
            let result = reverify.result;
            let voters = reverify.voters.iter().filter(|voter| run.is_comparable_with(voter));
            lost.extend(voters.map(|voter| Lost { voter: *voter, result, number: 0 }));
        }
        self.blame_losers(run, &lost);
        self.absolve(run, won);
    }

    /// Those that had lost against the revision before, and had named what is known now to be right: what this run said
    /// against them is taken back, and the quarantine too if it rested on nothing else.
    fn absolve(&mut self, run: &mut Run, won: Digest) {
        let Some(reverify) = run.reverify.as_ref().filter(|reverify| reverify.result != won) else { return };
        let right: Vec<Dissent> =
            reverify.dissents.iter().filter(|dissent| dissent.result == won).copied().collect();
        for Dissent { number, worker, class, .. } in right {
            let attempt = run.attempt_id(number);
            self.note(run, Note::Absolved { worker });
            let why = format!("its result of run {} had been right", run.id);
            self.unblame(run, Blamed { worker, attempt, class }, why);
        }
    }

    /// What a run said against a worker is taken back, and its quarantine if that rested on nothing else.
    fn unblame(&mut self, run: &mut Run, blamed: Blamed, why: String) {
        let (Blamed { worker, attempt, class }, at, evidence) = (blamed, self.now, Evidence::Absolved);
        // of a worker that is not here, or has another class now, only the log is told
        if let Some(known) = self.crew.get_mut(worker).filter(|known| known.class == class) {
            known.learn(at, Some(attempt.run), evidence);
            if known.is_cleared() {
                self.note(run, Note::Rehabilitated { worker });
                self.followups.push(Followup::Rehabilitate(worker, why));
            }
        }
        let attempt = Some(attempt);
        self.effects.push(Effect::Evidence { worker, class, portable: None, attempt, at, evidence });
    }

    /// Workers of different fault domains that named the same confirm each other; an arbiter confirms everybody.
    fn confirm(&mut self, run: &Run, won: Digest) {
        let mut winners: Vec<(usize, u32, u32, bool)> = Vec::with_capacity(run.voted.len());
        for position in &run.voted {
            let attempt = &run.attempts[*position];
            if run.compared(*position).is_some_and(|ballot| ballot.result == won)
                && let Some(place) = self.crew.place(attempt.record.worker)
            {
                let (domain, is_arbiter) = (self.crew.fault_domain(place), self.crew.at(place).is_arbiter);
                winners.push((place, domain, attempt.record.number, is_arbiter));
            }
        }
        let has_arbiter = winners.iter().any(|(.., is_arbiter)| *is_arbiter);
        for (place, domain, number, is_arbiter) in &winners {
            let by = match winners.iter().any(|(_, other, ..)| other != domain) {
                _ if *is_arbiter => continue,
                _ if has_arbiter => Witness::Arbiter,
                true => Witness::Peer,
                false => continue,
            };
            let (at, attempt) = (self.now, Some(run.attempt_id(*number)));
            let known = self.crew.at(*place);
            let (worker, class, portable) = (known.id, known.class, Some(known.portable));
            let ballot = run.position(*number).and_then(|position| run.attempts[position].counted());
            if ballot.is_none_or(|ballot| ballot.classes != known.classes()) {
                // it came back as something else since, and what it was says nothing of that
                continue;
            }
            let Some(known) = self.crew.get_mut(worker) else { continue };
            let before = known.trust();
            let told = known.confirm(at, by);
            let after = known.trust();
            self.trust_changed(before, after);
            for evidence in told.into_iter().flatten() {
                self.effects.push(Effect::Evidence { worker, class, portable, attempt, at, evidence });
            }
        }
    }

    /// Faults of integrity: a lone dissenter is suspect and the second time quarantined; the same wrong digest from two
    /// workers is no accident.
    fn blame_losers(&mut self, run: &mut Run, lost: &[Lost]) {
        if lost.is_empty() {
            return;
        }
        if self.modules[run.module].is_nondeterministic {
            let why = "trusted executions of its module have differed before";
            return self.note(run, Note::NobodyBlamed { why });
        }
        let is_divided = !split(&run.opinions()).is_empty();
        if is_divided && !self.modules[run.module].discord.blames() {
            let why =
                "trusted workers named three results, and too little is known of its module to say who lied";
            return self.note(run, Note::NobodyBlamed { why });
        }
        for Lost { voter, result, number } in lost {
            let same = |other: &&Lost| other.result == *result && other.voter.worker != voter.worker;
            let with = lost.iter().filter(same).count();
            // number 0 stands for the revision before
            let attempt = run.attempt_id(*number);
            let class = voter.class.or_else(|| self.crew.get(voter.worker).map(|known| known.class));
            if let Some(class) = class.filter(|_| is_divided) {
                let blamed = Blamed { worker: voter.worker, attempt, class };
                self.modules[run.module].discord.blamed(blamed);
            }
            self.blame_one(run, *voter, Some(attempt), with);
        }
    }

    /// A voter of before that has not joined this pool as what it was: its log is told, and it is kept out if that is enough.
    fn blame_absent(&mut self, run: &mut Run, voter: PastVoter, attempt: Option<AttemptId>, with: usize) {
        let PastVoter { worker, class: Some(class), is_out, .. } = voter else { return };
        let at = self.now;
        let evidence = if with > 0 { Evidence::Collusion } else { Evidence::LoneDissent };
        self.effects.push(Effect::Evidence { worker, class, portable: None, attempt, at, evidence });
        if is_out {
            return;
        }
        // of a lone one its log knows whether it is the second: then it is kept out when it joins
        let fate = if with > 0 { Fate::Colluded { with } } else { Fate::Suspect };
        self.note(run, Note::Blamed { worker, fate });
        if with > 0 {
            self.followups.push(Followup::Quarantine(worker, colluded(run.id, with)));
        }
    }

    fn blame_one(&mut self, run: &mut Run, voter: PastVoter, attempt: Option<AttemptId>, with: usize) {
        let (now, worker) = (self.now, voter.worker);
        let Some(known) = self.crew.get(worker) else {
            return self.blame_absent(run, voter, attempt, with);
        };
        if voter.class.is_some_and(|class| class != known.class) {
            // it is here as something else since, and what it did is told of what it was
            return self.blame_absent(run, voter, attempt, with);
        }
        let evidence = if with > 0 { Evidence::Collusion } else { Evidence::LoneDissent };
        if known.quarantine.is_some() {
            // it is out; what else it did is kept, so that it is not let in for one thing while there are others
            if !known.evidence.has_more {
                self.witness(worker, attempt, evidence);
            }
            return;
        }
        if voter.is_out {
            // it was let in again since: it has begun anew
            return;
        }
        let after = known.evidence.with(now, attempt.map(|attempt| attempt.run), evidence);
        let fate = match known.evidence.suspect_since {
            _ if with > 0 => Fate::Colluded { with },
            Some(since) if after.condemns() => Fate::Again { days: day_of(now).saturating_sub(since) },
            _ => Fate::Suspect,
        };
        self.note(run, Note::Blamed { worker, fate });
        self.witness(worker, attempt, evidence);
        let id = run.id;
        let why = match fate {
            Fate::Suspect => return self.doubted.push(worker),
            Fate::Again { days } => {
                format!("its result of run {id} was wrong, as another one had been {}", DaysBefore(days))
            }
            Fate::Colluded { with } => colluded(id, with),
        };
        self.followups.push(Followup::Quarantine(worker, why));
    }

    /// One vote stood alone.
    pub(super) fn explain_vouched(&self, run: &mut Run, position: usize) {
        let Some(rule) = run.rule() else { return };
        let attempt = &run.attempts[position];
        let Some(result) = attempt.ballot.as_ref().map(|ballot| ballot.result) else { return };
        let (worker, weight) = (attempt.record.worker, attempt.weight);
        let (k_milli, error_ppb, epsilon_ppb) = (weight.k_milli, weight.error_ppb, rule.epsilon_ppb);
        if weight.is_arbiter {
            return self.note(run, Note::Trusted { worker, result, error_ppb, epsilon_ppb });
        }
        let ppm = Rule::audit_ppm(k_milli);
        self.note(run, Note::Vouched { worker, result, k_milli, error_ppb, epsilon_ppb, ppm });
    }

    /// The module of a run is to blame, from now on and for everybody: also for what was blamed on workers when it was
    /// divided before.
    pub(super) fn call_nondeterministic(&mut self, run: &mut Run) {
        let module = &mut self.modules[run.module];
        if std::mem::replace(&mut module.is_nondeterministic, true) {
            return;
        }
        let (module, blamed) = (module.digest, module.discord.take_blamed());
        self.effects.push(Effect::NondeterministicModule { module, run: run.id });
        for it in blamed {
            self.note(run, Note::TakenBack { worker: it.worker, run: it.attempt.run });
            let why = format!("the module of run {} is not deterministic", it.attempt.run);
            self.unblame(run, it, why);
        }
    }

    /// Executions that are trusted differ.
    pub(super) fn nondeterministic(&mut self, run: &mut Run) {
        self.call_nondeterministic(run);
        self.note(run, Note::NobodyBlamed { why: "the module gives different results where it is trusted" });
        self.fail(run, FailReason::Nondeterministic, "executions that are trusted gave different results");
    }
}

impl Pool {
    /// What a worker voted gives it away: nothing of it counts any more, and what rested on it is looked at again.
    pub(super) fn distrust(&mut self, worker: WorkerId, why: String) {
        if self.floor.crew.get(worker).is_some_and(|known| known.quarantine.is_some()) {
            return;
        }
        self.floor.effects.push(Effect::QuarantineWorker { worker, why: why.clone() });
        self.quarantine(worker, why, true);
        self.floor.effects.push(Effect::Repair { worker });
    }

    /// Workers lost their confirmations: their votes in open runs weigh as much as they do now, and what that means for these
    /// runs is looked at afterwards.
    pub(super) fn doubt(&mut self, workers: &[WorkerId]) {
        let mut reweighed: Vec<RunId> = workers.iter().flat_map(|worker| self.reweigh(*worker)).collect();
        reweighed.sort_unstable();
        reweighed.dedup();
        self.resume_last(reweighed.into_iter());
    }

    fn reweigh(&mut self, worker: WorkerId) -> Vec<RunId> {
        let Some(place) = self.floor.crew.place(worker) else { return Vec::new() };
        let known = self.floor.crew.at(place);
        let held = known.holds.iter().map(|attempt| attempt.run);
        let mut runs: Vec<RunId> = known.voted.iter().copied().chain(held).collect();
        runs.sort_unstable();
        runs.dedup();
        for run in &runs {
            self.with_run(*run, |floor, run| {
                if run.is_settled() || run.rule().is_none() {
                    return;
                }
                let weight = floor.crew.weight(place, floor.now);
                let its = |state: &AttemptState| !matches!(state, AttemptState::Canceled);
                let attempts = run.attempts.iter_mut();
                for attempt in attempts.filter(|it| it.record.worker == worker && its(&it.record.state)) {
                    attempt.weight = weight;
                }
                floor.note(run, Note::TrustLost { worker });
            });
        }
        runs
    }
}
