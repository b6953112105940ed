//! The two clocks that runner and agent read, in the units of their frames.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the machine's monotonic clock: comparable between processes.
pub fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// CPU time of this process, in microseconds.
pub fn cpu_us() -> u64 {
    read(ClockId::ProcessCPUTime) / 1_000
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is ever negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
