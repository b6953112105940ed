//! The coordinator's clock: wall time at the start, monotonic from then on.
//!
//! A step of the machine's clock must not make a timer fire or a record go back in time, so the wall is read once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::Time;

/// Gives the core its `now`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall_us: u64,
    started: Instant,
}

impl Clock {
    /// Reads the wall clock, once. `not_before`: the latest instant in the store, which no record may precede.
    pub fn start(not_before: Time) -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wall_us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX / 2);
        Clock { wall_us: wall_us.max(not_before.0), started: Instant::now() }
    }

    /// Now; never earlier than a former reading.
    pub fn now(&self) -> Time {
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX / 2);
        Time(self.wall_us.saturating_add(elapsed))
    }

    /// The process-local instant of `time`, for timers.
    pub fn instant(&self, time: Time) -> Instant {
        self.started + Duration::from_micros(time.0.saturating_sub(self.wall_us))
    }
}

/// A core time as a timestamp.
pub fn timestamp(time: Time) -> jiff::Timestamp {
    let micros = i64::try_from(time.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX)
}
