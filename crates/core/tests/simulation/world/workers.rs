//! The workers' side of a world: sessions that break, attempts that run, and what the coordinator hears of it.

use std::collections::BTreeMap;

use lockstep_core::{Event, Joining, Time, Vote};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch};
use vocabulary::result::{Fault, Outcome, Trap};
use vocabulary::spec::Profile;

use super::{Item, MS, Nature, SECOND, World};
use crate::agents::{Held, Inbox, Said, Told, truth};

impl World {
    pub(super) fn says(&mut self, agent: usize, said: Said) {
        let delay = self.rng.range(100, 5 * MS);
        let link = &mut self.agents[agent];
        link.last_up = (link.last_up + 1).max(self.now.max(link.blocked_up) + delay);
        let (at, session) = (link.last_up, link.session);
        self.at(at, Item::Heard { agent, session, said });
    }

    pub(super) fn connect(&mut self, agent: usize) {
        let link = &mut self.agents[agent];
        link.is_connected = true;
        link.session += 1;
        link.received = 0;
        link.sent = 0;
        let session = link.session;
        let hides = self.rng.chance(link.behaviour.hides);
        let link = &mut self.agents[agent];
        let holds = if hides { Vec::new() } else { link.holds() };
        let mut ended = std::mem::take(&mut link.unsent);
        ended.extend(link.kept.values().cloned());
        self.says(agent, Said::Hello(holds));
        if hides {
            // it has room, and what it ended before comes when it was given something new
            self.agents[agent].holding.clear();
            self.grants(agent);
        }
        for said in ended {
            let after = if hides { self.rng.range(5 * SECOND, 20 * SECOND) } else { 0 };
            self.later(after, Item::Says { agent, session, said });
        }
        self.later(0, Item::Beat { agent, session });
    }

    /// The session breaks; what is on its way in either direction is lost. It comes back by itself.
    pub(super) fn disconnect(&mut self, agent: usize, dies: bool) {
        self.agents[agent].is_connected = false;
        self.agents[agent].is_heard = false;
        self.agents[agent].session += 1;
        // what it had not read yet went down with the session
        self.agents[agent].backlog.retain(|inbox| matches!(inbox, Inbox::Ends { .. }));
        if dies {
            self.agents[agent].die();
        }
        let longest = if self.features.kills || self.features.cuts { 8 * SECOND } else { 4 * SECOND };
        let after = if self.is_peace { self.rng.range(MS, SECOND) } else { self.rng.range(10 * MS, longest) };
        let link = &mut self.agents[agent];
        (link.blocked_up, link.blocked_down) = (0, 0);
        let session = link.session;
        self.later(after, Item::Connect { agent, session });
    }

    /// The same while the coordinator lives. A break that nobody notices is found out by the missing heartbeats.
    pub(super) fn cut(&mut self, agent: usize, dies: bool) -> Result<(), String> {
        // of a session that had said nothing nobody notices the end
        let was_heard = self.agents[agent].is_heard;
        self.disconnect(agent, dies);
        let session = self.agents[agent].session;
        if was_heard && self.rng.chance(70) {
            return self.heard(agent, session, Said::Bye);
        }
        Ok(())
    }

    pub(super) fn deal(&mut self, agent: usize, inbox: Inbox) -> Result<(), String> {
        if self.agents[agent].is_frozen {
            self.agents[agent].backlog.push(inbox);
            return Ok(());
        }
        match inbox {
            Inbox::Told(Told::Assign { attempt, epoch }) => self.begin(agent, attempt, epoch)?,
            Inbox::Told(Told::Abort(attempt)) => {
                if self.agents[agent].holding.remove(&attempt).is_some() {
                    self.grants(agent);
                }
                self.agents[agent].kept.remove(&attempt);
                self.agents[agent].unsent.retain(|said| match said {
                    Said::Faulted { attempt: ended, .. } => *ended != attempt,
                    _ => true,
                });
            }
            Inbox::Told(Told::Collect(attempt)) => {
                let vanishes = self.rng.chance(self.agents[agent].behaviour.keeps_nothing);
                let has_it = self.agents[agent].outputs.contains(&attempt) && !vanishes;
                self.says(agent, if has_it { Said::Delivered(attempt) } else { Said::NotDelivered(attempt) });
            }
            Inbox::Told(Told::Release(attempt)) => {
                self.agents[agent].outputs.remove(&attempt);
                self.agents[agent].kept.remove(&attempt);
            }
            Inbox::Ends { attempt, stamp } => self.ends(agent, attempt, stamp),
        }
        Ok(())
    }

    fn grants(&mut self, agent: usize) {
        let credits = self.agents[agent].credits();
        let received = self.agents[agent].received;
        self.says_or_keeps(agent, Said::Credits { credits, received });
    }

    fn says_or_keeps(&mut self, agent: usize, said: Said) {
        if let Said::Voted(attempt, ..) = &said {
            self.agents[agent].kept.insert(*attempt, said.clone());
        }
        if self.agents[agent].is_connected {
            self.says(agent, said);
        } else if matches!(said, Said::Faulted { .. }) {
            self.agents[agent].unsent.push(said);
        }
    }

    /// An assignment arrives; the worker begins it and knows already when it will end.
    fn begin(&mut self, agent: usize, attempt: AttemptId, epoch: Epoch) -> Result<(), String> {
        self.agents[agent].received += 1;
        let Some(known) = self.oracle.runs.get(&attempt.run) else { return Ok(()) };
        let memory_bytes = known.submission.memory_bytes;
        let timeout = known.submission.policy.timeout_ms * MS;
        let nature = self.nature(known.submission.module);
        if self.rng.chance(self.agents[agent].behaviour.refuses) {
            let fault = Fault::Refused { detail: "no room".to_owned() };
            self.says(agent, Said::Faulted { attempt, epoch, fault, begun: false });
            self.grants(agent);
            return Ok(());
        }
        if self.rng.chance(self.agents[agent].behaviour.returns) {
            self.says(agent, Said::Returned(attempt, epoch));
            self.grants(agent);
            return Ok(());
        }
        self.stamps += 1;
        let stamp = self.stamps;
        if self.agents[agent].behaviour.hides > 0
            && let Some(said) = self.agents[agent].kept.get(&attempt).cloned()
        {
            // it has executed one of that number before, and says so once more
            self.says(agent, said);
        }
        let behaviour = self.agents[agent].behaviour;
        let hangs = nature == Nature::Endless || self.rng.chance(behaviour.hangs);
        let is_idle = hangs && self.rng.chance(50);
        let held = Held { epoch, memory_bytes, stamp, begun_at: self.now, is_idle };
        self.agents[agent].holding.insert(attempt, held);
        self.agents[agent].check()?;
        self.says(agent, Said::Begun(attempt));
        let most = if self.features.long { 5 * SECOND } else { 150 * MS };
        let mut lasts = self.rng.range(MS, most) * if behaviour.slow { 12 } else { 1 };
        if hangs {
            lasts = timeout;
        }
        if !(hangs && behaviour.deaf) {
            self.later(lasts.min(timeout), Item::Ends { agent, attempt, stamp });
        }
        Ok(())
    }

    fn nature(&self, module: Digest) -> Nature {
        self.modules.iter().find(|known| known.0 == module).map_or(Nature::Good, |known| known.1)
    }

    fn ends(&mut self, agent: usize, attempt: AttemptId, stamp: u64) {
        let here = &mut self.agents[agent];
        let Some(held) = here.holding.get(&attempt).filter(|held| held.stamp == stamp) else { return };
        let (epoch, begun) = (held.epoch, true);
        here.holding.remove(&attempt);
        let behaviour = here.behaviour;
        let Some(known) = self.oracle.runs.get(&attempt.run) else { return self.grants(agent) };
        let nature = self.nature(known.submission.module);
        let faulted = |fault| Said::Faulted { attempt, epoch, fault, begun };
        let said = if nature == Nature::Endless || self.rng.chance(behaviour.hangs) {
            faulted(Fault::TimedOut)
        } else if nature == Nature::Killer || self.rng.chance(behaviour.crashes) {
            faulted(Fault::Crashed { signal: Some(11), detail: String::new() })
        } else if self.rng.chance(behaviour.corrupts) {
            faulted(Fault::Corrupt { detail: "it does not hash to its name".to_owned() })
        } else {
            let lies = self.rng.chance(behaviour.lies);
            let mut result = truth(attempt.run.0);
            // where a stack ends is another depth in other machine code: here some reach it and some do not
            let code = self.agents[agent].portable.code.0.as_bytes()[0];
            let is_portable = known.submission.profile == Profile::Det1Portable;
            let overflows = is_portable && attempt.run.0.is_multiple_of(3) && code.is_multiple_of(2);
            if overflows {
                let mut bytes = *result.as_bytes();
                bytes[30] = code;
                result = Digest::from_bytes(bytes);
            }
            if self.rng.chance(behaviour.colludes) {
                let mut bytes = *result.as_bytes();
                bytes[31] = 99;
                result = Digest::from_bytes(bytes);
            }
            if lies || nature == Nature::Erratic {
                let mut bytes = *result.as_bytes();
                bytes[16..24].copy_from_slice(&self.rng.next().to_be_bytes());
                result = Digest::from_bytes(bytes);
            }
            let outcome = if overflows {
                Outcome::Trapped { trap: Trap::StackOverflow }
            } else if attempt.run.0.is_multiple_of(5) {
                Outcome::OutOfFuel
            } else {
                Outcome::Exited { code: 0 }
            };
            let complete = self.features.inline_results && self.rng.chance(50);
            self.agents[agent].outputs.insert(attempt);
            let cpu_us = self.rng.range(100, 100_000);
            Said::Voted(attempt, epoch, Vote { result, outcome, cpu_us, complete })
        };
        self.says_or_keeps(agent, said);
        self.grants(agent);
    }

    /// What a worker said arrives at the coordinator.
    pub(super) fn heard(&mut self, agent: usize, session: u64, said: Said) -> Result<(), String> {
        let here = &self.agents[agent];
        if here.session != session {
            return Ok(());
        }
        let worker = here.id;
        match said {
            Said::Hello(holds) => {
                let joining = Joining {
                    worker,
                    class: here.class,
                    domain: here.domain.clone(),
                    labels: BTreeMap::from([("zone".to_owned(), here.zone.to_owned())]),
                    slots: here.slots,
                    memory_bytes: here.memory_bytes,
                    holds,
                    quarantined: self.oracle.is_quarantined(worker),
                    standing: self.evidence[&worker],
                    prior: here.prior,
                    is_arbiter: here.is_arbiter,
                    portable: here.portable,
                    for_votes: self.oracle.is_out_for_votes(worker),
                    condemned_elsewhere: false,
                };
                self.store.sessions.insert(worker);
                self.agents[agent].is_heard = true;
                self.step(Event::WorkerJoined(Box::new(joining)))
            }
            Said::Credits { credits, received } => {
                // as the shell does it: what was sent and not received is not free
                let credits = credits.saturating_sub((here.sent - received) as u32);
                self.step(Event::Credits { worker, credits })
            }
            Said::Beat(beats) => self.step(Event::Heartbeat { worker, beats }),
            Said::Begun(attempt) => self.step(Event::AttemptBegun { attempt, worker, at: Time(self.now) }),
            Said::Voted(attempt, epoch, vote) => {
                self.step(Event::AttemptVoted { attempt, epoch, worker, vote })
            }
            Said::Faulted { attempt, epoch, fault, begun } => {
                let event = Event::AttemptFaulted { attempt, epoch, worker, fault, begun, cpu_us: 500 };
                self.step(event)
            }
            Said::Returned(attempt, epoch) => self.step(Event::AttemptReturned { attempt, epoch, worker }),
            Said::Delivered(attempt) => {
                self.step(Event::Delivered { attempt })?;
                // a full disk takes longer than any voter may
                let after = if self.rng.chance(10) { self.rng.range(SECOND, 6 * SECOND) } else { MS };
                self.later(after, Item::Stored { life: self.life, attempt });
                Ok(())
            }
            Said::NotDelivered(attempt) => {
                let fault = Fault::Corrupt { detail: "a blob is missing".to_owned() };
                self.step(Event::CollectFailed { attempt, fault })
            }
            Said::Bye => {
                self.store.sessions.remove(&worker);
                self.step(Event::WorkerLeft { worker })
            }
        }
    }

    pub(super) fn thaw(&mut self, agent: usize) -> Result<(), String> {
        if !std::mem::take(&mut self.agents[agent].is_frozen) {
            return Ok(());
        }
        for inbox in std::mem::take(&mut self.agents[agent].backlog) {
            self.deal(agent, inbox)?;
        }
        self.grants(agent);
        Ok(())
    }
}
