//! What the session does because time passes: timeouts, heartbeats, live output.

use std::io::{self, PipeReader, Read as _};

use super::dispatch::wall_us;
use super::pace::SHORT_NS;
use super::session::Session;
use super::slot::{Doom, InFlight, RunnerKey};
use crate::id::AttemptId;
use crate::protocol::agent::{Beat, FromAgent};
use crate::result::Fault;
use crate::runner::clock::monotonic_ns;

/// What was handed ahead is taken back when the attempt before it takes so long.
const TAKE_BACK_NS: u64 = 4 * SHORT_NS;
/// Between two looks at a runner that has not begun, at the least.
const LOOK_NS: u64 = 1_000_000;
/// Between two looks at watched output.
const TAIL_NS: u64 = 150_000_000;

impl Session {
    /// When something is due next, by the monotonic clock.
    pub(super) fn wake_ns(&self) -> u64 {
        let mut wake = self.beat_ns.min(self.tail_ns);
        if let Some(drain) = self.drain.filter(|drain| !drain.over) {
            wake = wake.min(drain.deadline_ns);
        }
        if self.lacks_spares() {
            wake = wake.min(self.spare_after_ns);
        }
        let now_ns = monotonic_ns();
        let ahead = self.grants_ahead();
        let crowded = self.held.len() > self.config.slots as usize;
        for runner in self.runners.values().filter(|runner| !runner.inflight.is_empty()) {
            wake = wake.min(runner.check_ns);
            // Then it grants no more than its slots.
            let turns_long = runner.front_ns + SHORT_NS;
            if ahead && turns_long > now_ns {
                wake = wake.min(turns_long);
            }
            // Then what waits behind it is handed back.
            let turns_away = runner.front_ns + TAKE_BACK_NS;
            if crowded && turns_away > now_ns {
                wake = wake.min(turns_away);
            }
        }
        wake
    }

    pub(super) fn on_time(&mut self) {
        let now_ns = monotonic_ns();
        let due = |runner: &&RunnerKey| self.runners.get(*runner).is_some_and(|it| it.check_ns <= now_ns);
        let due: Vec<RunnerKey> = self.runners.keys().filter(due).copied().collect();
        for key in due {
            self.check(key, now_ns);
        }
        if self.tail_ns <= now_ns {
            self.tail(now_ns);
        }
        if self.beat_ns <= now_ns {
            self.beat(now_ns);
        }
        if self.drain.is_some_and(|drain| !drain.over && drain.deadline_ns <= now_ns) {
            self.end_drain();
        }
    }

    /// Decides when to look at a runner's first attempt: it has just been handed to it, or has moved up.
    pub(super) fn arm(&mut self, key: RunnerKey, now_ns: u64) {
        let begin_ns = self.config.begin_ns();
        let Some(runner) = self.runners.get_mut(&key) else { return };
        let front = runner.inflight.front();
        let timeout =
            front.and_then(|front| self.held.get(&front.attempt)).map(|held| held.assignment.timeout_ms);
        let wait_ns = timeout.unwrap_or(0).saturating_mul(1_000_000).min(begin_ns);
        runner.check_ns = match runner.inflight.len() {
            0 => u64::MAX,
            1 => now_ns + wait_ns,
            _ => now_ns + wait_ns.min(TAKE_BACK_NS),
        };
    }

    fn check(&mut self, key: RunnerKey, now_ns: u64) {
        let begin_ns = self.config.begin_ns();
        let Some(runner) = self.runners.get_mut(&key) else { return };
        runner.check_ns = u64::MAX;
        let Some(front) = runner.inflight.front().copied() else { return };
        let begun = runner.look(now_ns);
        if runner.lies(begun) {
            return runner.kill(Doom::Broken("it marked begun what it was not handed".to_owned()));
        }
        // What was dropped has no time of its own left: it is skipped at once, or its runner was killed.
        let held = self.held.get(&front.attempt).filter(|_| !front.dropped);
        let timeout_ns = held.map_or(0, |held| held.assignment.timeout_ms).saturating_mul(1_000_000);
        // Whatever the page says: a runner that lies there must not outlive its attempt's time.
        let last_ns = runner.front_ns.saturating_add(begin_ns).saturating_add(timeout_ns);
        if now_ns >= last_ns {
            return runner.kill(match front.dropped {
                true => Doom::Broken("it did not answer for what was taken back".to_owned()),
                false => Doom::TimedOut(front.attempt),
            });
        }
        if begun.seq > front.seq || front.dropped {
            // Its answer is on its way, or its runner's end.
            runner.check_ns = now_ns + TAKE_BACK_NS;
            return;
        }
        if begun.seq < front.seq {
            // It may begin at any time from now on: then its timeout is not over before the next look.
            let next_ns = now_ns + timeout_ns.max(LOOK_NS);
            runner.check_ns = next_ns.min((runner.front_ns + begin_ns).max(now_ns + LOOK_NS));
            if now_ns >= runner.front_ns + begin_ns {
                runner.kill(Doom::Broken("it did not begin what it was handed".to_owned()));
            }
            return;
        }
        let begun_ns = runner.front_begun_ns.unwrap_or(now_ns);
        let deadline_ns = begun_ns.saturating_add(timeout_ns).min(last_ns);
        if now_ns >= deadline_ns {
            return runner.kill(Doom::TimedOut(front.attempt));
        }
        runner.check_ns = deadline_ns;
        let behind: Vec<_> = runner.inflight.iter().skip(1).filter(|entry| !entry.dropped).copied().collect();
        if behind.is_empty() {
            return;
        }
        if now_ns < begun_ns + TAKE_BACK_NS {
            runner.check_ns = deadline_ns.min(begun_ns + TAKE_BACK_NS);
            return;
        }
        // The last first, so that they queue in the order in which they came.
        for entry in behind.into_iter().rev() {
            let revoked = self.runners.get_mut(&key).is_some_and(|runner| runner.revoke(entry.seq));
            if revoked && let Some(held) = self.held.get_mut(&entry.attempt) {
                held.runner = None;
                self.queue.push_front(entry.attempt);
            }
        }
    }

    /// Hands back what it holds beyond its slots and has not given to a runner, the last first, once what it executes
    /// has turned out to be long: another worker may have room. While it drains everything stays.
    pub(super) fn hand_back(&mut self) {
        let excess = self.held.len().saturating_sub(self.config.slots as usize);
        if excess == 0 || self.drain.is_some() || self.longest_ns(monotonic_ns()) < TAKE_BACK_NS {
            return;
        }
        let keep = self.queue.len().saturating_sub(excess);
        let mut surplus: Vec<_> = self.queue.drain(keep..).rev().collect();
        let preparing = self.held.iter().filter(|(_, held)| held.prepared.is_none());
        surplus.extend(preparing.map(|(attempt, _)| *attempt).take(excess - surplus.len()));
        for attempt in surplus {
            let Some(held) = self.held.remove(&attempt) else { continue };
            self.say(FromAgent::Returned { attempt, epoch: held.assignment.epoch });
        }
    }

    fn beat(&mut self, now_ns: u64) {
        // The nanoseconds of the clock are jitter enough to keep workers out of step.
        let period_ns = self.config.heartbeat_ms * 1_000_000;
        self.beat_ns = now_ns + period_ns * 4 / 5 + now_ns % (period_ns * 2 / 5).max(1);
        for runner in self.runners.values_mut() {
            runner.look(now_ns);
        }
        let beats = self.held.keys().map(|attempt| self.beat_of(*attempt, now_ns)).collect();
        self.mention(FromAgent::Heartbeat(beats));
    }

    fn beat_of(&self, attempt: AttemptId, now_ns: u64) -> Beat {
        let not_begun = Beat { attempt, cpu_us: 0, begun_at_us: None };
        let runner = self.held.get(&attempt).and_then(|held| held.runner);
        let Some(runner) = runner.and_then(|key| self.runners.get(&key)) else { return not_begun };
        let front = runner.inflight.front().filter(|front| front.attempt == attempt);
        let (Some(_), Some(begun_ns)) = (front, runner.front_begun_ns) else { return not_begun };
        let used = runner.child.as_ref().map_or(0, |child| child.cpu_us());
        let cpu_us = used.saturating_sub(runner.process.page.begun().cpu_us);
        Beat { attempt, cpu_us, begun_at_us: Some(wall_us(begun_ns, now_ns)) }
    }

    /// Tells what watched attempts have written since the last look.
    fn tail(&mut self, now_ns: u64) {
        let watched = |entry: &InFlight| self.held.get(&entry.attempt).is_some_and(|held| held.watched);
        let fronts = self.runners.iter().filter_map(|(key, runner)| Some((*key, *runner.inflight.front()?)));
        let fronts: Vec<_> = fronts.filter(|(_, entry)| watched(entry)).collect();
        let anybody = self.held.values().any(|held| held.watched);
        self.tail_ns = if anybody { now_ns + TAIL_NS } else { u64::MAX };
        for (key, entry) in fronts {
            self.tell_live(key, entry);
        }
    }

    /// Tells what an attempt has written since the last look, if it is watched.
    pub(super) fn tell_live(&mut self, key: RunnerKey, entry: InFlight) {
        let attempt = entry.attempt;
        for stream in 0..2 {
            let Some(held) = self.held.get_mut(&attempt).filter(|held| held.watched) else { return };
            let Some(runner) = self.runners.get(&key) else { return };
            let Some((offset, bytes)) = runner.process.page.live(entry.seq, stream, held.told[stream]) else {
                continue;
            };
            held.told[stream] = offset + bytes.len() as u64;
            let is_stderr = stream == 1;
            self.mention(FromAgent::Live { attempt, is_stderr, offset, bytes: bytes.into() });
        }
    }

    /// The time is over: what still runs is killed, what waits is handed back.
    fn end_drain(&mut self) {
        let waiting: Vec<_> =
            self.held.iter().filter(|(_, held)| held.runner.is_none()).map(|(attempt, _)| *attempt).collect();
        for attempt in waiting {
            self.fault(attempt, Fault::Drained, None, 0);
        }
        self.queue.clear();
        for runner in self.runners.values_mut() {
            runner.kill(Doom::Drained);
        }
        // Their ends are what is waited for now.
        if let Some(drain) = &mut self.drain {
            drain.over = true;
        }
    }
}

/// Words of runners that go into the log in each minute, in bytes; a runner that was taken over must not fill a disk.
const WORDS_BYTES_PER_MINUTE: usize = 64 * 1024;
const MINUTE_NS: u64 = 60_000_000_000;

/// How much more may be logged in this minute.
#[derive(Default)]
struct WordsBudget {
    since_ns: u64,
    used: usize,
}

impl WordsBudget {
    /// Takes `bytes` if they may be logged. `None`: for the first time in this minute they may not.
    fn take(&mut self, now_ns: u64, bytes: usize) -> Option<bool> {
        if self.used == 0 || now_ns.saturating_sub(self.since_ns) >= MINUTE_NS {
            *self = WordsBudget { since_ns: now_ns, used: 0 };
        }
        let had_room = self.used < WORDS_BYTES_PER_MINUTE;
        self.used = self.used.saturating_add(bytes);
        let has_room = self.used < WORDS_BYTES_PER_MINUTE;
        if had_room && !has_room { None } else { Some(has_room) }
    }
}

/// Puts what runners say to their standard error into the log: panics, and why one could not start. Guests cannot
/// write there.
///
/// # Errors
///
/// If the machine has no thread left.
pub(super) fn log_words(agent: String, mut words: PipeReader) -> io::Result<()> {
    let read = move || {
        let mut piece = [0; 4096];
        let mut budget = WordsBudget::default();
        // Ends with the last process that holds the other end.
        while let Ok(count @ 1..) = words.read(&mut piece) {
            match budget.take(monotonic_ns(), count) {
                None => tracing::warn!(agent, "runners say too much: for a minute it is not logged"),
                Some(false) => {}
                Some(true) => {
                    let text = String::from_utf8_lossy(&piece[..count]);
                    tracing::warn!(agent, "a runner said: {}", text.trim_end().escape_debug());
                }
            }
        }
    };
    std::thread::Builder::new().name("runner-words".to_owned()).spawn(read)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runners_say_is_logged_up_to_a_bound_in_each_minute() {
        let mut budget = WordsBudget::default();
        let logged = |budget: &mut WordsBudget, now_ns| {
            (0..100).filter(|_| budget.take(now_ns, 4_096) == Some(true)).count()
        };
        assert_eq!(logged(&mut budget, 5), WORDS_BYTES_PER_MINUTE / 4_096 - 1);
        assert_eq!(logged(&mut budget, 5 + MINUTE_NS - 1), 0);
        assert_eq!(logged(&mut budget, 5 + MINUTE_NS), WORDS_BYTES_PER_MINUTE / 4_096 - 1);
        let first_refusal = (0..100).filter(|_| budget.take(5 + 2 * MINUTE_NS, 4_096).is_none()).count();
        assert_eq!(first_refusal, 1, "it is said once");
    }
}
