//! Signs of life: dead, slow and stuck told apart.
//!
//! Three things are seen of an attempt on another machine: whether its worker is heard of, whether it still uses CPU time,
//! and how long others of its module took. None of them changes what an attempt is; they explain it while it runs, and
//! a worker that is silent gets nothing new. Notes are bounded per attempt, so that one that stutters for hours does
//! not fill its run's log.

use std::fmt;

use super::explain::Note;
use super::floor::Floor;
use super::pool::Pool;
use super::run::Run;
use super::timers::Timer;
use super::{Beat, Config, Effect, Time};
use vocabulary::id::WorkerId;
use vocabulary::result::Fault;

/// Notes of this kind that one attempt may bring.
const NOTES_MAX: u8 = 8;

impl Config {
    /// How long a worker may be silent before it is suspect: two beats are missing then, however late they may be.
    pub(super) fn suspect_after_ms(&self) -> u64 {
        self.heartbeat_ms.saturating_mul(5) / 2
    }

    /// How long a worker that is alive may say nothing of an attempt: a loss, and two beats for the way to it.
    pub(super) fn unmentioned_after_ms(&self) -> u64 {
        self.worker_lost_ms.saturating_add(self.heartbeat_ms.saturating_mul(2))
    }
}

/// How a live attempt fares.
pub(super) struct Signs {
    /// Since when it has used no CPU time, as far as its worker said.
    flat_since: Time,
    /// When its worker last said that it holds it.
    pub mentioned_at: Time,
    is_slow: bool,
    is_stuck: bool,
    notes: u8,
}

/// Something to be said about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    /// It takes longer than most, and computes.
    Slow { cpu_us: u64, took_ms: u64 },
    /// It takes its time and does not compute.
    Stuck { flat_ms: u64 },
    /// It computes again.
    Moves { flat_ms: u64 },
    /// Its worker is alive and says nothing of it.
    Unmentioned { for_ms: u64 },
    /// Its worker is not heard of.
    Suspect { silent_ms: u64 },
    /// Its worker is heard of again.
    Heard { silent_ms: u64 },
}

impl Signs {
    /// Of an attempt that is handed out.
    pub(super) fn new(now: Time) -> Signs {
        Signs { flat_since: now, mentioned_at: now, is_slow: false, is_stuck: false, notes: 0 }
    }
}

/// Milliseconds as seconds, to a tenth.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} s", self.0 / 1_000, self.0 % 1_000 / 100)
    }
}

impl Sign {
    /// The sentence about an attempt.
    pub(super) fn tell(self, number: u32, worker: WorkerId, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sign::Slow { cpu_us, took_ms } => {
                let (cpu, took) = (Seconds(cpu_us / 1_000), Seconds(took_ms));
                write!(f, "attempt {number} on {worker} is slow: still computing, {cpu} of CPU in {took}")
            }
            Sign::Stuck { flat_ms } => {
                let flat = Seconds(flat_ms);
                write!(f, "attempt {number} on {worker} is stuck: no CPU time used for {flat}")
            }
            Sign::Moves { flat_ms } => {
                let flat = Seconds(flat_ms);
                write!(f, "attempt {number} on {worker} computes again, after {flat} without CPU time")
            }
            Sign::Unmentioned { for_ms } => {
                let unmentioned = Seconds(for_ms);
                write!(f, "{worker} is alive and says nothing of attempt {number} for {unmentioned}")
            }
            Sign::Suspect { silent_ms } => {
                let silent = Seconds(silent_ms);
                write!(
                    f,
                    "{worker} was not heard of for {silent}: attempt {number} stays there, nothing new goes there"
                )
            }
            Sign::Heard { silent_ms } => {
                let silent = Seconds(silent_ms);
                write!(f, "{worker} is heard of again after {silent}: attempt {number} goes on")
            }
        }
    }
}

impl Floor {
    /// What a worker said about a live attempt of it.
    pub(super) fn beat(&mut self, run: &mut Run, position: usize, beat: Beat) {
        let cpu_us = self.plausible_us(run, position, beat.cpu_us);
        if let Some(at) = beat.begun_at {
            self.begun(run, position, at);
        }
        let now = self.now;
        run.attempts[position].signs.mentioned_at = now;
        let tail_us = self.modules[run.module].tail_us;
        let attempt = &mut run.attempts[position];
        let Some(begun_at) = attempt.record.begun_at else { return };
        let signs = &mut attempt.signs;
        let flat_ms = now.ms_since(signs.flat_since.max(begun_at));
        let took_ms = now.ms_since(begun_at);
        let mut sign = None;
        let slow_ms = self.config.slow_after_ms.max(tail_us.saturating_mul(3) / 2 / 1_000);
        if cpu_us > attempt.record.cpu_us {
            attempt.record.cpu_us = cpu_us;
            signs.flat_since = now;
            run.is_changed = true;
            if std::mem::take(&mut signs.is_stuck) {
                sign = Some(Sign::Moves { flat_ms });
            } else if took_ms > slow_ms && !signs.is_slow {
                signs.is_slow = true;
                sign = Some(Sign::Slow { cpu_us, took_ms });
            }
        } else if flat_ms >= self.config.stuck_after_ms && !signs.is_stuck {
            signs.is_stuck = true;
            sign = Some(Sign::Stuck { flat_ms });
        }
        if let Some(sign) = sign {
            self.remark(run, position, sign);
        }
        if took_ms > slow_ms {
            self.hedge(run, position, took_ms, slow_ms);
        }
    }

    /// Explains how an attempt fares, unless enough was said about it.
    fn remark(&self, run: &mut Run, position: usize, sign: Sign) {
        let attempt = &mut run.attempts[position];
        if attempt.signs.notes == NOTES_MAX {
            return;
        }
        attempt.signs.notes += 1;
        let (number, worker) = (attempt.record.number, attempt.record.worker);
        self.note(run, Note::Sign { number, worker, sign });
    }

    /// When a worker that is connected is to be looked at, as far as is known now.
    fn silent_at(&self, place: usize) -> Time {
        let worker = self.crew.at(place);
        let lost_at = worker.heard_at.plus_ms(self.config.worker_lost_ms).max(self.grace_until);
        if worker.is_suspect {
            return lost_at;
        }
        lost_at.min(worker.heard_at.plus_ms(self.config.suspect_after_ms()))
    }

    /// Watches that a worker is heard of, as long as it is connected and not lost.
    pub(super) fn watch_silence(&mut self, place: usize) {
        let worker = self.crew.at(place);
        if worker.silence_at.is_some() || !worker.is_connected || worker.is_silent {
            return;
        }
        let at = self.silent_at(place).max(Time(self.now.0 + 1));
        self.crew.update(place, |worker| worker.silence_at = Some(at));
        self.timers.set(at, Timer::Silent(place));
    }
}

impl Pool {
    /// A worker's heartbeat.
    pub(super) fn beats(&mut self, worker: WorkerId, beats: Vec<Beat>) {
        let Some(place) = self.heard(worker) else { return };
        for beat in beats {
            match self.live_on(beat.attempt, worker) {
                Some(position) => {
                    self.with_run(beat.attempt.run, |floor, run| floor.beat(run, position, beat));
                }
                // it was told to stop, or should have been: an order that got lost is given again
                None => self.floor.effects.push(Effect::Abort { attempt: beat.attempt, worker }),
            }
        }
        self.check_mentioned(place);
    }

    /// A connected worker said something; gives its place. One that was suspect or thought lost is back.
    pub(super) fn heard(&mut self, worker: WorkerId) -> Option<usize> {
        let place = self.floor.crew.place(worker)?;
        let now = self.floor.now;
        if !self.floor.crew.at(place).is_connected {
            return None;
        }
        let silent_ms = now.ms_since(self.floor.crew.at(place).heard_at);
        let (was_silent, was_suspect) = self.floor.crew.update(place, |worker| {
            worker.heard_at = now;
            (std::mem::take(&mut worker.is_silent), std::mem::take(&mut worker.is_suspect))
        });
        if was_silent || was_suspect {
            self.floor.crew_changed();
            self.floor.effects.push(Effect::WorkerChanged { worker });
            self.floor.watch_silence(place);
        }
        if was_silent {
            self.reachable_again(place);
        } else if was_suspect {
            self.remark_held(place, Sign::Heard { silent_ms });
        }
        Some(place)
    }

    /// A heartbeat names everything that its worker holds. What it has not named for long never reached it, or was
    /// forgotten: nobody executes it.
    pub(super) fn check_mentioned(&mut self, place: usize) {
        let patience_ms = self.floor.config.unmentioned_after_ms();
        for attempt in self.floor.crew.at(place).holds.clone() {
            self.with_run(attempt.run, |floor, run| {
                let Some(position) = run.position(attempt.number) else { return };
                let found = &run.attempts[position];
                let for_ms = floor.now.ms_since(found.signs.mentioned_at);
                if !found.sent || for_ms < patience_ms {
                    return;
                }
                let (worker, begun) = (found.record.worker, found.record.begun_at.is_some());
                floor.remark(run, position, Sign::Unmentioned { for_ms });
                floor.effects.push(Effect::Abort { attempt, worker });
                floor.faulted(run, position, Fault::Lost, begun, 0);
            });
        }
    }

    /// Explains what happened to a worker to the runs that it holds.
    fn remark_held(&mut self, place: usize, sign: Sign) {
        for attempt in self.floor.crew.at(place).holds.clone() {
            self.with_run(attempt.run, |floor, run| {
                if let Some(position) = run.position(attempt.number) {
                    floor.remark(run, position, sign);
                }
            });
        }
    }

    /// Asks whether a worker was silent for too long.
    pub(super) fn check_silent(&mut self, place: usize) {
        let floor = &mut self.floor;
        floor.crew.update(place, |worker| worker.silence_at = None);
        let worker = floor.crew.at(place);
        if !worker.is_connected || worker.is_silent {
            // one that comes back is watched again from then on
            return;
        }
        if floor.silent_at(place) > floor.now {
            return floor.watch_silence(place);
        }
        let silent_ms = floor.now.ms_since(worker.heard_at);
        let lost_at = worker.heard_at.plus_ms(floor.config.worker_lost_ms).max(floor.grace_until);
        if lost_at <= floor.now {
            floor.crew.update(place, |worker| worker.is_silent = true);
            floor.crew_changed();
            self.vanish(place, &Fault::Lost, true);
            return;
        }
        let worker = worker.id;
        floor.crew.update(place, |worker| worker.is_suspect = true);
        floor.crew_changed();
        floor.effects.push(Effect::WorkerChanged { worker });
        floor.watch_silence(place);
        self.remark_held(place, Sign::Suspect { silent_ms });
    }
}
