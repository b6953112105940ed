//! Whether the owner was there to hear what others said.
//!
//! A process that was stopped, a machine that slept, a batch that took long: then every worker seems silent and every timer
//! is due at once. The owner tells the pool how long it was away, and gives everybody a moment to speak before the
//! next timer fires.

use crate::core::Time;

/// Away for less than this is nothing to speak of: about the time between two heartbeats.
const AWAY_MS: u64 = 1_000;

/// See the module.
pub struct Attention {
    /// When it last had nothing to do but to listen.
    listened_at: Time,
    /// Timers wait until then.
    held_until: Option<Time>,
}

impl Attention {
    /// From now on.
    pub fn new(now: Time) -> Attention {
        Attention { listened_at: now, held_until: None }
    }

    /// When the timer that is due at `at` may fire.
    pub fn hold(&self, at: Option<Time>) -> Option<Time> {
        at.map(|at| self.held_until.map_or(at, |held| at.max(held)))
    }

    /// How long it was away, in milliseconds, if that is worth speaking of. It listened until `woke`, and should have
    /// woken at `deadline` at the latest; until `now` it was busy.
    pub fn was_away(&mut self, deadline: Option<Time>, woke: Time, now: Time) -> Option<u64> {
        let late_ms = deadline.map_or(0, |at| woke.ms_since(at.max(self.listened_at)));
        let away_ms = late_ms + now.ms_since(woke);
        self.listened_at = now;
        let is_away = away_ms >= AWAY_MS;
        self.held_until = match self.held_until {
            None if is_away => Some(now.plus_ms(AWAY_MS)),
            // only once in a row: an owner that is always late must still see to its timers
            Some(held) if held > now => Some(held),
            _ => None,
        };
        is_away.then_some(away_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Time {
        Time(0).plus_ms(ms)
    }

    #[test]
    fn being_late_or_busy_counts_and_waiting_does_not() {
        let mut watch = Attention::new(ms(0));
        // nothing was due, and something came after ten seconds
        assert_eq!(watch.was_away(None, ms(10_000), ms(10_001)), None);
        // the timer fired in time
        assert_eq!(watch.was_away(Some(ms(12_000)), ms(12_003), ms(12_003)), None);
        assert_eq!(watch.hold(Some(ms(12_500))), Some(ms(12_500)));
        // it fired five seconds late: others have a second to speak
        assert_eq!(watch.was_away(Some(ms(13_000)), ms(18_000), ms(18_000)), Some(5_000));
        assert_eq!(watch.hold(Some(ms(12_500))), Some(ms(19_000)));
        assert_eq!(watch.hold(None), None);
        assert_eq!(watch.was_away(Some(ms(19_000)), ms(19_001), ms(19_001)), None);
        assert_eq!(watch.hold(Some(ms(12_500))), Some(ms(12_500)));
        // a timer that was due long ago, while it was listening to others all the time
        assert_eq!(watch.was_away(Some(ms(12_500)), ms(19_002), ms(19_003)), None);
        // a batch that took two seconds
        assert_eq!(watch.was_away(None, ms(19_010), ms(21_010)), Some(2_000));
    }

    #[test]
    fn one_that_is_always_late_sees_to_its_timers_every_other_time() {
        let mut watch = Attention::new(ms(0));
        let mut fired = 0;
        for round in 0..10 {
            let woke = ms(round * 2_000);
            let now = woke.plus_ms(2_000);
            assert_eq!(watch.was_away(None, woke, now), Some(2_000));
            fired += u32::from(watch.hold(Some(woke)).is_some_and(|at| at <= now));
        }
        assert_eq!(fired, 5);
    }
}
