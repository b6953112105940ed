//! The virtual clock: time passes when the guest looks at it or waits for it, and only then.
//!
//! The wall clock starts at the time that the spec says, the monotonic clock and the two CPU time clocks at 0; all four
//! advance together, by [`STEP_NS`] with each reading (so that two readings always differ, and a loop that waits for a
//! time ends), and by as much as a guest sleeps, at once. A poll is one reading. Nothing ever overflows: the clock stays
//! at its last instant.

use super::Errno;

/// What one reading takes, in nanoseconds; also the resolution that the guest is told.
pub const STEP_NS: u64 = 1_000;

/// The clocks of preview 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockId {
    /// Since the Unix epoch.
    Realtime,
    /// Since the start; the CPU time clocks read the same.
    Monotonic,
}

impl ClockId {
    /// From the number that a guest gives.
    pub fn from_number(number: u32) -> Result<ClockId, Errno> {
        match number {
            0 => Ok(ClockId::Realtime),
            1..=3 => Ok(ClockId::Monotonic),
            _ => Err(Errno::INVAL),
        }
    }
}

/// The clock of one run. Instants inside are nanoseconds since the start.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    start_ns: u64,
    elapsed_ns: u64,
}

impl VirtualClock {
    /// Starts at `start_ns` since the Unix epoch.
    pub fn new(start_ns: u64) -> VirtualClock {
        VirtualClock { start_ns, elapsed_ns: 0 }
    }

    /// What `clock` says; then the time of one reading passes.
    pub fn read(&mut self, clock: ClockId) -> u64 {
        let elapsed = self.step();
        match clock {
            ClockId::Realtime => self.start_ns.saturating_add(elapsed),
            ClockId::Monotonic => elapsed,
        }
    }

    /// One reading, as nanoseconds since the start.
    pub fn step(&mut self) -> u64 {
        let elapsed = self.elapsed_ns;
        self.elapsed_ns = elapsed.saturating_add(STEP_NS);
        elapsed
    }

    /// The instant at which a timeout is over that was asked for at `now`.
    pub fn deadline(&self, clock: ClockId, timeout_ns: u64, absolute: bool, now: u64) -> u64 {
        match (absolute, clock) {
            (false, _) => now.saturating_add(timeout_ns),
            (true, ClockId::Realtime) => timeout_ns.saturating_sub(self.start_ns),
            (true, ClockId::Monotonic) => timeout_ns,
        }
    }

    /// Waits until `deadline`; one that has passed changes nothing.
    pub fn sleep_until(&mut self, deadline: u64) {
        self.elapsed_ns = self.elapsed_ns.max(deadline);
    }
}
