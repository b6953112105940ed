//! What follows for one run after anything happened to it: more attempts, collecting, or its end.

use super::credibility::Seat;
use super::explain::Note;
use super::floor::Floor;
use super::pool::REFUSED;
use super::quorum::Tally;
use super::run::{Phase, Run};
use super::timers::Timer;
use super::{AttemptState, Class, Effect, Vote, Write};
use vocabulary::class::Classes;
use vocabulary::digest::Digest;
use vocabulary::id::WorkerId;
use vocabulary::result::{FailReason, Fault};
use vocabulary::spec::Verify;

impl Floor {
    /// Brings a run to where its votes and faults put it. Called after every change; does nothing if nothing follows.
    pub(super) fn advance(&mut self, run: &mut Run) {
        if run.is_settled() || matches!(run.phase, Phase::Following(_)) {
            return;
        }
        self.choose_frame(run);
        let tally = self.look(run);
        if self.is_divided_for_good(run, &tally) {
            let why = super::reach::nobody_left(run);
            return self.turn_or_fail(run, &why);
        }
        match tally {
            Tally::Decided { result, .. } => self.deliver(run, result),
            Tally::Open { .. } | Tally::Arbiter if run.votes_left() == 0 && run.live() == 0 => {
                self.fail(run, FailReason::NoQuorum, &super::reach::disputed(run));
            }
            Tally::Open { more } => {
                self.stop_collecting(run);
                let more = match run.live() {
                    // where a stack overflowed it is seen first what those find that execute it already
                    live if live > 0 && run.overflows().0 => more.min(live),
                    live => more.min(run.votes_left().saturating_add(live)),
                };
                self.want(run, more, Seat::Voter);
            }
            Tally::Arbiter => {
                self.stop_collecting(run);
                self.want(run, run.live() + 1, Seat::Arbiter);
            }
            Tally::Nondeterministic => self.nondeterministic(run),
            Tally::Disputed => {
                self.fail(run, FailReason::NoQuorum, &super::reach::disputed(run));
            }
        }
    }

    /// What the votes say, in the light of who could arbitrate now; explains why more are asked.
    fn look(&mut self, run: &mut Run) -> Tally {
        if run.rule().is_none() {
            return run.tally();
        }
        run.arbiters = self.arbiters_in(run, run.frame());
        self.watch_discord(run);
        run.is_nondeterministic = self.modules[run.module].is_nondeterministic;
        let Some(rule) = run.rule() else { return run.tally() };
        let (tally, why) = run.weighed(&rule);
        if why != run.why {
            run.why = why;
            if let Some(why) = why.filter(|why| !matches!(why, super::credibility::Why::First)) {
                self.note(run, Note::OneMore { why, epsilon_ppb: rule.epsilon_ppb });
            }
        }
        tally
    }

    /// The votes decided: takes the result from the first voter that can give it.
    fn deliver(&mut self, run: &mut Run, result: Digest) {
        let can_deliver = |position: &usize| {
            run.compared(*position).is_some_and(|ballot| ballot.result == result && ballot.delivers)
        };
        let voters: Vec<usize> = run.voted.iter().copied().filter(can_deliver).collect();
        let is_complete = |position: &&usize| {
            run.attempts[**position].ballot.as_ref().is_some_and(|ballot| ballot.complete)
        };
        if let Some(position) = voters.iter().find(is_complete) {
            return self.accept(run, *position);
        }
        let is_known = run.reverify.as_ref().is_some_and(|reverify| reverify.result == result);
        if let Some(position) = voters.first().filter(|_| is_known) {
            // the same as before: its blobs are in the store
            return self.accept(run, *position);
        }
        if let Phase::Collecting { result: collecting, .. } = run.phase {
            if collecting == result {
                return;
            }
            self.stop_collecting(run);
        }
        let is_reachable = |position: &&usize| {
            self.crew.get(run.attempts[**position].record.worker).is_some_and(|worker| worker.is_reachable())
        };
        let is_active = |position: &&usize| {
            self.crew.get(run.attempts[**position].record.worker).is_some_and(|worker| worker.is_active())
        };
        match voters.iter().find(is_active).or_else(|| voters.iter().find(is_reachable)) {
            Some(position) => {
                self.unqueue(run);
                self.unset_fresh(run);
                self.collect(run, *position, result);
            }
            None if self.give_way(run, result) => self.advance(run),
            None => {
                if run.live() == 0 && run.is_tried_once() {
                    let why = "the policy allows no second attempt, and none of its voters delivers";
                    return self.fail(run, FailReason::Lost, why);
                }
                if run.live() == 0 && run.ticket.is_none() {
                    self.note(run, Note::NobodyDelivers { result });
                }
                self.want(run, 1, Seat::Voter);
            }
        }
    }

    /// Where nothing is compared, votes that nobody can deliver give way to one that somebody can. Whether there is one:
    /// otherwise the run would wait for another vote for the very same result, and be executed again and again where none
    /// comes.
    fn give_way(&self, run: &mut Run, result: Digest) -> bool {
        let is_other = |position: &usize| {
            let attempt = &run.attempts[*position];
            let ballot = attempt.ballot.as_ref();
            let can_deliver = self.crew.get(attempt.record.worker).is_some_and(|it| it.is_reachable());
            can_deliver && ballot.is_some_and(|it| it.counts && it.delivers && it.result != result)
        };
        if run.compares() || !run.voted.iter().any(is_other) {
            return false;
        }
        let ballots = run.attempts.iter_mut().filter_map(|attempt| attempt.ballot.as_mut());
        ballots.filter(|ballot| ballot.result == result).for_each(|ballot| ballot.counts = false);
        true
    }

    fn collect(&mut self, run: &mut Run, position: usize, result: Digest) {
        let (from, worker) = (run.attempts[position].record.number, run.attempts[position].record.worker);
        let attempt = run.attempt_id(from);
        let until = self.now.plus_ms(self.config.collect_timeout_ms);
        run.phase = Phase::Collecting { result, from, until: Some(until) };
        self.timers.set(until, Timer::Collect(attempt));
        self.effects.push(Effect::Collect { attempt, worker, result });
        self.note(run, Note::Collecting { number: from, worker });
    }

    /// Nobody is asked any more.
    pub(super) fn stop_collecting(&mut self, run: &mut Run) {
        if let Phase::Collecting { from, until, .. } = run.phase {
            if let Some(at) = until {
                self.timers.unset(at, Timer::Collect(run.attempt_id(from)));
            }
            run.phase = Phase::Open;
        }
    }

    /// The voter that was asked has delivered: storing what came may take as long as it takes.
    pub(super) fn delivered(&mut self, run: &mut Run, number: u32) {
        if let Phase::Collecting { result, from, until: Some(at) } = run.phase
            && from == number
        {
            self.timers.unset(at, Timer::Collect(run.attempt_id(from)));
            run.phase = Phase::Collecting { result, from, until: None };
        }
    }

    /// A voter does not deliver: it is a fault of its attempt, and the next voter is asked.
    pub(super) fn undelivered(&mut self, run: &mut Run, position: usize, fault: Fault) {
        let Phase::Collecting { from, .. } = run.phase else { return };
        let record = &run.attempts[position].record;
        if record.number != from {
            return;
        }
        let (number, worker) = (from, record.worker);
        self.stop_collecting(run);
        self.note(run, Note::Undelivered { number, worker, fault: fault.clone() });
        run.attempts[position].fault(self.now, fault);
        if !run.compares()
            && let Some(ballot) = &mut run.attempts[position].ballot
        {
            // nothing was compared with it, so the next attempt's result is as good
            ballot.counts = false;
        }
        if let Some(worker) = self.crew.get_mut(worker) {
            worker.faults += 1;
        }
        self.note_fault(run, position);
        self.write_row(run, position);
        self.advance(run);
    }

    /// Tells what an attempt's fault says about its worker, whether or not the run is written.
    fn note_fault(&mut self, run: &Run, position: usize) {
        let record = &run.attempts[position].record;
        if let AttemptState::Faulted { fault } = &record.state
            && *fault != Fault::Drained
        {
            let (worker, attempt) = (record.worker, run.attempt_id(record.number));
            self.effects.push(Effect::Faulted { worker, attempt, fault: fault.clone() });
        }
    }

    fn write_row(&mut self, run: &Run, position: usize) {
        // the row of what is verified anew is final: its attempts are written with the correction, if one comes
        if run.policy.durable && run.reverify.is_none() {
            let record = run.attempts[position].record.clone();
            self.effects.push(Effect::Write(Write::Attempt { run: run.id, epoch: run.epoch, record }));
        }
    }

    /// So many more votes are wanted: waits for workers, unless a budget is used up.
    fn want(&mut self, run: &mut Run, more: u32, seat: Seat) {
        let more = if run.wants_hedge { more.max(run.live()) + 1 } else { more };
        let missing = run.missing(more, self.config.crashes_max);
        if missing == 0 {
            self.unqueue(run);
            self.unset_fresh(run);
            return;
        }
        if let Some(why) = &self.modules[run.module].quarantined {
            let why = format!("its module is quarantined: {why}");
            return self.fail(run, FailReason::Poisoned, &why);
        }
        if self.modules[run.module].is_refused {
            return self.fail(run, FailReason::ModuleRefused, REFUSED);
        }
        if let Some((reason, why)) = run.second_try() {
            return self.fail(run, reason, &why);
        }
        if let Some((reason, why)) = run.spent().exhausted(&self.config, run.policy.attempts_max) {
            return self.fail(run, reason, &why);
        }
        if !run.is_held {
            self.requeue(run, more.saturating_sub(run.live()), seat);
            self.watch_idle(run);
        }
    }

    /// A worker voted on a live attempt.
    pub(super) fn voted(&mut self, run: &mut Run, position: usize, mut vote: Vote) {
        vote.cpu_us = self.plausible_us(run, position, vote.cpu_us);
        self.end(run, position, vote.cpu_us);
        let module = &mut self.modules[run.module];
        module.measured(run.attempts[position].record.cpu_us);
        if !module.is_proven {
            module.is_proven = true;
            self.ungate(run.module);
        }
        if let Some(begun_at) = run.attempts[position].record.begun_at {
            self.modules[run.module].lasted(self.now.0.saturating_sub(begun_at.0));
        }
        let vote = Vote { cpu_us: run.attempts[position].record.cpu_us, ..vote };
        let (result, cpu_us) = (vote.result, vote.cpu_us);
        let attempt = &mut run.attempts[position];
        let (classes, domain) = self.crew.place(attempt.record.worker).map_or_else(
            || (Classes::alike(Class(Digest::EMPTY)), u32::MAX),
            |place| (self.crew.at(place).classes(), self.crew.fault_domain(place)),
        );
        attempt.vote(self.now, vote, classes, domain);
        let (number, worker) = (attempt.record.number, attempt.record.worker);
        if run.rule().is_some()
            && let Some(place) = self.crew.place(worker)
        {
            run.attempts[position].weight = self.crew.weight(place, self.now);
        }
        run.voted.push(position);
        self.credit_vote(run, worker);
        if run.voted.len() == 1 {
            // It can be executed, so whoever failed at it before is to blame.
            for failed in 0..run.attempts.len() {
                self.blame_worker(run, failed);
            }
        }
        self.note(run, Note::Voted { number, worker, result, cpu_us });
        self.note_difference(run);
        self.advance(run);
    }

    /// Remembers a vote on the side of its worker.
    fn credit_vote(&mut self, run: &Run, worker: WorkerId) {
        let Some(place) = self.crew.place(worker) else { return };
        if let Some(worker) = self.crew.get_mut(worker) {
            worker.votes += 1;
            worker.voted_at = self.now;
            worker.failed.clear();
            worker.voted.insert(run.id);
        }
        if !self.modules[run.module].loaded.contains(place) {
            self.modules[run.module].loaded.set(place, true);
            if let Some(cold) = self.crew.loaded(place, run.module) {
                self.modules[cold].loaded.set(place, false);
            }
        }
    }

    fn note_difference(&self, run: &mut Run) {
        let votes = run.votes();
        let Verify::Quorum { n } = run.policy.verify else { return };
        if votes.len() >= usize::from(n) && matches!(run.tally(), Tally::Open { .. }) {
            let mut results: Vec<Digest> = votes.iter().map(|(_, result)| *result).collect();
            results.sort_unstable();
            results.dedup();
            self.note(run, Note::Differ { votes: votes.len(), results: results.len() });
        }
    }

    /// A live attempt met a fault.
    pub(super) fn faulted(&mut self, run: &mut Run, position: usize, fault: Fault, begun: bool, cpu_us: u64) {
        let cpu_us = self.plausible_us(run, position, cpu_us);
        self.end(run, position, cpu_us);
        let attempt = &mut run.attempts[position];
        if begun {
            attempt.record.begun_at.get_or_insert(self.now);
        }
        attempt.fault(self.now, fault.clone());
        let (number, worker) = (attempt.record.number, attempt.record.worker);
        let begun = attempt.record.begun_at.is_some();
        self.note(run, Note::Faulted { number, worker, fault, begun });
        self.blame(run, position);
        self.note_fault(run, position);
        self.write_row(run, position);
        match run.second_try() {
            Some((reason, why)) => self.fail(run, reason, &why),
            None => self.advance(run),
        }
    }
}
