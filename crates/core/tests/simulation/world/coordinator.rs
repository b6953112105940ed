//! The coordinator's side of a world: what its shell does with effects, its store, and its restarts.

use lockstep_core::{
    AttemptRecord, AttemptState, Class, Dissent, Effect, Event, Evidence, PastVote, PastVoter, Reverify,
    Submission, SubmitError, Time, Weight, Write, is_decisive,
};
use vocabulary::digest::Digest;
use vocabulary::id::{Epoch, RunId, WorkerId, WorkspaceId};
use vocabulary::result::{Outcome, Trap};
use vocabulary::spec::{Placement, Policy, Profile, Retry, Verify};

use super::{Item, MEMORY, MS, START, World, config};
use crate::agents::Told;
use crate::shim::Shim;

impl World {
    pub(super) fn step(&mut self, event: Event) -> Result<(), String> {
        if self.trace {
            println!("{:>7} ms  {event:?}", (self.now - START) / MS);
        }
        let holds = match &event {
            Event::WorkerJoined(joining) => Some((joining.holds.clone(), joining.worker)),
            _ => None,
        };
        self.oracle.before(self.now, &event);
        let mut effects = Vec::new();
        self.pool.step(Time(self.now), event, &mut effects);
        if let Some((holds, worker)) = holds {
            let back = self.oracle.claimed(&holds, worker, &self.pool);
            self.kept.kept +=
                back.into_iter().filter(|attempt| self.awaited.remove(&(*attempt, worker))).count() as u64;
        }
        self.follow(effects)
    }

    /// Judges and carries out what a step brought.
    pub(super) fn follow(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        // shown before they are judged: what is wrong is among them
        for effect in effects.iter().filter(|effect| self.trace && !matches!(effect, Effect::Changed { .. }))
        {
            println!("            → {effect:?}");
        }
        self.oracle.after(&effects, &self.pool)?;
        self.pool.check_invariants()?;
        for effect in effects {
            self.carry_out(effect);
        }
        while let Some(worker) = self.repairs.pop() {
            self.repair(worker)?;
        }
        let next = self.pool.next_deadline().map(|at| at.0.max(self.now));
        if next != self.tick_at {
            self.tick_at = next;
            if let Some(at) = next {
                self.at(at, Item::Tick);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Write(write) => {
                self.store.queued.push(write);
                if !self.is_committing {
                    self.is_committing = true;
                    let after = self.rng.range(MS, 20 * MS);
                    self.later(after, Item::Commit { life: self.life });
                }
            }
            Effect::Assign { attempt, epoch, worker } => {
                if let Some(agent) = self.connected(worker) {
                    self.agents[agent].sent += u64::from(self.tells(agent, Told::Assign { attempt, epoch }));
                }
            }
            Effect::Abort { attempt, worker } => {
                if let Some(agent) = self.connected(worker) {
                    let _ = self.tells(agent, Told::Abort(attempt));
                }
            }
            Effect::Release { attempt, worker } => {
                if let Some(agent) = self.connected(worker) {
                    let _ = self.tells(agent, Told::Release(attempt));
                }
            }
            Effect::Collect { attempt, worker, .. } => {
                if let Some(agent) = self.connected(worker) {
                    let _ = self.tells(agent, Told::Collect(attempt));
                }
            }
            Effect::Evidence { worker, attempt, at, evidence, .. } => {
                self.testify(worker, attempt.map(|attempt| attempt.run), at, evidence);
            }
            Effect::Repair { worker } => self.repairs.push(worker),
            Effect::Reverified(done) => drop(self.anew.remove(&done.last.run)),
            Effect::Finished(_)
            | Effect::KeepDissent { .. }
            | Effect::Changed { .. }
            | Effect::WorkerChanged { .. }
            | Effect::QuarantineModule { .. }
            | Effect::Faulted { .. }
            | Effect::QuarantineWorker { .. }
            | Effect::Rehabilitated { .. }
            | Effect::NondeterministicModule { .. }
            | Effect::Dissented { .. } => {}
        }
    }

    /// One more entry of a worker's log.
    pub(super) fn testify(&mut self, worker: WorkerId, about: Option<RunId>, at: Time, evidence: Evidence) {
        let standing = self.evidence.entry(worker).or_default();
        *standing = standing.with(at, about, evidence);
    }

    /// Submits the finals that rest on a worker to be verified anew.
    pub(super) fn repair(&mut self, worker: WorkerId) -> Result<(), String> {
        let mut found = Vec::new();
        for (run, row) in
            self.store.rows.iter().filter(|(run, row)| !row.is_foreign && !self.anew.contains(run))
        {
            let Some((last, result)) = row.last.as_ref().and_then(|last| Some((last, last.result?))) else {
                continue;
            };
            let weight =
                |worker| last.votes.iter().find(|vote| vote.worker == worker).map(|vote| vote.weight);
            let votes = last.attempts.iter().filter_map(|attempt| match attempt.state {
                AttemptState::Voted { result, won: Some(_), .. } => {
                    let weight = weight(attempt.worker).unwrap_or(Weight::UNKNOWN);
                    Some(PastVote { worker: attempt.worker, result, weight })
                }
                _ => None,
            });
            let votes: Vec<PastVote> = votes.collect();
            let is_out = |worker| self.oracle.is_quarantined(worker);
            let rests = votes.iter().any(|vote| vote.worker == worker && vote.result == result);
            if rests && is_decisive(row.submission.policy.verify, result, &votes, is_out) {
                found.push(*run);
            }
        }
        for run in found {
            // what follows from one may have submitted the next already
            if !self.anew.contains(&run) {
                self.verify_anew(run)?;
            }
        }
        Ok(())
    }

    fn verify_anew(&mut self, run: RunId) -> Result<(), String> {
        let row = &self.store.rows[&run];
        let Some(last) = &row.last else { return Ok(()) };
        let won = |state: &AttemptState| matches!(state, AttemptState::Voted { won: Some(true), .. });
        let winners =
            last.attempts.iter().filter(|attempt| won(&attempt.state)).map(|attempt| attempt.worker);
        let voters = winners.clone();
        let class = winners.clone().next().map(|worker| self.agents[worker.0 as usize - 1].class);
        let is_native = row.submission.profile == Profile::Det1;
        let reverify = Reverify {
            result: last.result.expect("only results are verified anew"),
            revision: last.revision,
            voters: voters.filter_map(|worker| self.past_voter(worker)).collect(),
            attempts: last.attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0),
            dissents: last.attempts.iter().filter_map(|attempt| self.dissent(attempt)).collect(),
            class: class.filter(|_| is_native),
            overflowed: matches!(last.outcome, Some(Outcome::Trapped { trap: Trap::StackOverflow })),
            codes: winners.map(|worker| self.agents[worker.0 as usize - 1].portable.code).collect(),
        };
        let submission = Submission {
            epoch: Epoch(self.epoch),
            recovered: false,
            module_ready: true,
            submitted_at: Time(self.now),
            reverify: Some(reverify),
            share: None,
            policy: Policy { deadline_ms: None, retry: Retry::Reassign, ..row.submission.policy.clone() },
            ..row.submission.clone()
        };
        self.anew.insert(run);
        self.oracle.verified_anew(&submission);
        let mut effects = Vec::new();
        let answer = self.pool.submit(Time(self.now), submission, &mut effects);
        answer.map_err(|error| format!("repair: {run} was refused: {error}"))?;
        self.follow(effects)
    }

    /// Somebody who voted for a final and is no arbiter.
    fn past_voter(&self, worker: WorkerId) -> Option<PastVoter> {
        let agent = &self.agents[worker.0 as usize - 1];
        let is_out = self.oracle.is_quarantined(worker);
        (!agent.is_arbiter).then_some(PastVoter {
            worker,
            class: Some(agent.class),
            code: Some(agent.portable.code),
            is_out,
        })
    }

    /// The vote of an attempt, if it lost.
    fn dissent(&self, attempt: &AttemptRecord) -> Option<Dissent> {
        let AttemptState::Voted { result, won: Some(false), .. } = attempt.state else { return None };
        let (number, worker) = (attempt.number, attempt.worker);
        let class: Class = self.agents[worker.0 as usize - 1].class;
        Some(Dissent { number, worker, class, result })
    }

    fn connected(&self, worker: WorkerId) -> Option<usize> {
        let agent = worker.0 as usize - 1;
        self.agents[agent].is_heard.then_some(agent)
    }

    /// False if the worker's queue is full, because nothing gets through to it: then it never hears of it.
    fn tells(&mut self, agent: usize, told: Told) -> bool {
        let may_get_lost = matches!(told, Told::Assign { .. }) && self.agents[agent].blocked_down > self.now;
        if may_get_lost && self.rng.chance(40) {
            self.oracle.saw("a message that found no room");
            return false;
        }
        let delay = self.rng.range(100, 5 * MS);
        let link = &mut self.agents[agent];
        link.last_down = (link.last_down + 1).max(self.now.max(link.blocked_down) + delay);
        let (at, session) = (link.last_down, link.session);
        self.at(at, Item::Reaches { agent, session, told });
        true
    }

    /// The store commits what is queued. Some writes are refused, as if somebody else had taken the run over.
    pub(super) fn commit(&mut self) -> Result<(), String> {
        self.is_committing = false;
        for write in std::mem::take(&mut self.store.queued) {
            let run = match &write {
                Write::Insert { run, .. } | Write::Attempt { run, .. } => *run,
                Write::Finish(last) | Write::Correct(last) => last.run,
            };
            if self.features.refused_writes && !self.is_peace && self.rng.chance(3) {
                if let Some(row) = self.store.rows.get_mut(&run) {
                    row.is_foreign = true;
                    self.anew.remove(&run);
                } else {
                    self.step(Event::Refused { run })?;
                    continue;
                }
            }
            if let Write::Finish(last) = &write
                && self.features.refused_writes
                && last.result.is_some()
                && !self.is_peace
                && self.rng.chance(5)
            {
                self.step(Event::BlobsMissing { run })?;
                continue;
            }
            let submission = self.oracle.runs.get(&run).map(|known| known.submission.clone());
            let is_correction = matches!(write, Write::Correct(_));
            let voters: Vec<WorkerId> = match &write {
                Write::Finish(last) => last.attempts.iter().map(|attempt| attempt.worker).collect(),
                _ => Vec::new(),
            };
            let answer = self.store.commit(write, submission.as_ref());
            if is_correction {
                self.anew.remove(&run);
            }
            self.step(answer)?;
            // what rested on a worker as it was caught and was not committed then is found now
            for voter in
                voters.into_iter().filter(|voter| self.oracle.is_quarantined(*voter)).collect::<Vec<_>>()
            {
                self.repair(voter)?;
            }
        }
        Ok(())
    }

    pub(super) fn submit(&mut self) -> Result<(), String> {
        self.submitted += 1;
        let submission = self.submission();
        let mut effects = Vec::new();
        match self.pool.submit(Time(self.now), submission.clone(), &mut effects) {
            Ok(()) => {
                if self.trace {
                    println!("{:>7} ms  {submission:?}", (self.now - START) / MS);
                }
                self.oracle.accepted(&submission);
                self.follow(effects)
            }
            Err(error) => {
                let rare = match error {
                    SubmitError::QueueFull { .. } => "a full queue",
                    SubmitError::TooFewWorkers { .. } => "too few workers for a submission",
                    SubmitError::Undecidable { .. } => "a submission that nobody could decide",
                    SubmitError::NoWorker { .. } => "a submission that no worker suits",
                    SubmitError::ModuleQuarantined { .. } => "a submission of a quarantined module",
                };
                self.oracle.saw(rare);
                if effects.is_empty() { Ok(()) } else { Err(format!("refused, and yet {effects:?}")) }
            }
        }
    }

    fn submission(&mut self) -> Submission {
        if self.features.repeats
            && self.rng.chance(60)
            && let Some(latest) = self.latest.clone()
        {
            let is_ready = self.is_ready(latest.module);
            return self.again(latest, is_ready);
        }
        let submission = self.another();
        self.latest = Some(submission.clone());
        submission
    }

    /// The same once more.
    fn again(&mut self, latest: Submission, module_ready: bool) -> Submission {
        Submission {
            run: RunId(u128::from(self.submitted) << 64 | u128::from(self.rng.next())),
            epoch: Epoch(self.epoch),
            module_ready,
            submitted_at: Time(self.now),
            lottery: self.rng.next(),
            ..latest
        }
    }

    fn is_ready(&self, digest: Digest) -> bool {
        self.modules.iter().any(|(module, _, ready)| *module == digest && *ready)
    }

    fn another(&mut self) -> Submission {
        let features = &self.features;
        let rng = &mut self.rng;
        let largest = if features.large_quorums { 6 } else { 4 };
        let verify = match rng.below(10) {
            0 | 1 | 4 if features.adaptive => Verify::Standard,
            5 | 6 if features.adaptive => Verify::High,
            0..=3 => Verify::Once,
            _ => Verify::Quorum { n: rng.range(2, largest) as u8 },
        };
        let (module, _, module_ready) = *rng.pick(&self.modules);
        let labels = [("zone".to_owned(), rng.pick(&["a", "b"]).to_string())];
        let placement = match features.labels && rng.chance(40) {
            true => Placement::Labels { labels: labels.into_iter().collect() },
            false => Placement::Any,
        };
        let retry = if features.tried_once && rng.chance(30) { Retry::Never } else { Retry::Reassign };
        let policy = Policy {
            verify,
            retry,
            attempts_max: rng.range(1, 4) as u32,
            placement,
            timeout_ms: if features.long { 30_000 } else { rng.range(200, 3_000) },
            deadline_ms: (features.deadlines && rng.chance(20)).then(|| rng.range(500, 20_000)),
            priority: rng.below(3) as i8,
            durable: !(features.in_memory && rng.chance(30)),
            ..Policy::default()
        };
        let profile = if features.portable && rng.chance(50) { Profile::Det1Portable } else { Profile::Det1 };
        let memory_bytes = *rng.pick(&[MEMORY / 2, MEMORY, MEMORY * 2]);
        let equal = [memory_bytes.to_be_bytes(), rng.below(2).to_be_bytes()].concat();
        let share = (features.sharing && rng.chance(70))
            .then(|| Digest::of(&[module.as_bytes().as_slice(), &equal].concat()));
        Submission {
            run: RunId(u128::from(self.submitted) << 64 | u128::from(rng.next())),
            epoch: Epoch(self.epoch),
            workspace: WorkspaceId(rng.below(3) as u32),
            module,
            memory_bytes,
            policy,
            module_ready,
            recovered: false,
            submitted_at: Time(self.now),
            history: vec![],
            explained: vec![],
            lottery: rng.next() >> (rng.below(2) * 5),
            reverify: None,
            share,
            profile,
        }
    }

    /// The coordinator is killed and starts anew from what the store committed.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        self.life += 1;
        self.epoch += 1;
        self.store.queued.clear();
        self.is_committing = false;
        self.note_running();
        let expected = self.store.sessions.clone();
        self.pool = Shim::new(config(&self.features), Time(self.now), &expected, self.mutant);
        self.tick_at = None;
        if !self.anew.is_empty() {
            self.oracle.saw("a restart while finals were verified anew");
        }
        self.oracle.restarted(self.now, expected);
        for agent in 0..self.agents.len() {
            self.disconnect(agent, false);
        }
        let epoch = Epoch(self.epoch);
        let mut recovered = Vec::new();
        for (run, _) in self.store.rows.iter().filter(|(_, row)| row.is_foreign) {
            self.oracle.lost_to_another(*run);
        }
        for row in self.store.rows.values_mut().filter(|row| row.last.is_none() && !row.is_foreign) {
            row.epoch = epoch;
            let is_ready =
                |(module, _, ready): &(Digest, _, bool)| *module == row.submission.module && *ready;
            recovered.push(Submission {
                epoch,
                recovered: true,
                module_ready: self.modules.iter().any(is_ready),
                history: row.attempts.values().cloned().collect(),
                ..row.submission.clone()
            });
        }
        for submission in recovered {
            self.oracle.recovered(&submission);
            let mut effects = Vec::new();
            let answer = self.pool.submit(Time(self.now), submission, &mut effects);
            answer.map_err(|error| format!("I1: a recovered run was refused: {error}"))?;
            for effect in effects {
                self.carry_out(effect.clone());
                // judged below with all the others: until everything is recovered, runs are missing
                if let Some(last) = crate::shim::finished(&effect)
                    && let Some(known) = self.oracle.runs.get_mut(&last.run)
                {
                    known.last = Some(last.clone());
                }
            }
        }
        self.follow(Vec::new())?;
        for module in self.oracle.books.nondeterministic.clone() {
            self.step(Event::ModuleNondeterministic { module })?;
        }
        for module in self.oracle.poisoned.clone() {
            self.step(Event::ModuleQuarantined { module, why: "it was before".to_owned() })?;
        }
        self.step(Event::Serving)?;
        std::mem::take(&mut self.anew).into_iter().try_for_each(|run| {
            let row = self.store.rows.get(&run).filter(|row| !row.is_foreign);
            if row.is_some() { self.verify_anew(run) } else { Ok(()) }
        })
    }

    /// What the workers execute, or have executed and were not released from, as the coordinator ends.
    fn note_running(&mut self) {
        if self.oracle.is_grace() {
            // a second restart before anybody knew: they are counted with it
            self.kept.running -= self.awaited.len() as u64;
        }
        self.awaited.clear();
        for agent in self.agents.iter().filter(|agent| self.store.sessions.contains(&agent.id)) {
            for (attempt, _) in agent.holds() {
                let row = self.store.rows.get(&attempt.run);
                if row.is_some_and(|row| row.last.is_none() && !row.is_foreign) {
                    self.awaited.insert((attempt, agent.id));
                }
            }
        }
        self.kept.running += self.awaited.len() as u64;
        self.kept.doubled += self.oracle.doubled();
    }
}
