//! `poll_oneoff`: waiting that never waits.
//!
//! Files and streams are always ready. If nothing but clocks is asked for, the virtual clock jumps to the first deadline.
//! A subscription that cannot be served is answered by an event with its errno, at once. Events come in the order of their
//! subscriptions. Nothing is allocated, whatever their number.

use super::abi::rights;
use super::clock::ClockId;
use super::memory::aligned;
use super::table::Target;
use super::{Answer, Call, Errno, Fail};

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
const ABSOLUTE: u16 = 1;
const EVENT_CLOCK: u8 = 0;
const EVENT_FD_READ: u8 = 1;
const EVENT_FD_WRITE: u8 = 2;
/// Flag of an event: the other side of a stream is gone.
const HANGUP: u16 = 1;

/// What a guest waits for.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    wanted: Wanted,
}

enum Wanted {
    Time { deadline: u64 },
    Ready(u32),
    Nonsense(Errno),
}

impl Call<'_> {
    pub(super) fn poll_oneoff(
        &mut self,
        subscriptions: u32,
        events: u32,
        count: u32,
        answered: u32,
    ) -> Answer {
        if count == 0 {
            return Err(Errno::INVAL.into());
        }
        aligned(subscriptions, 8)?;
        aligned(events, 8)?;
        // Both arrays are checked as a whole, so that the sums below cannot overflow.
        for (array, size) in [(subscriptions, SUBSCRIPTION_BYTES), (events, EVENT_BYTES)] {
            let length = count.checked_mul(size).ok_or(Errno::INVAL)?;
            self.memory.bytes(array, length)?;
        }
        let now = self.wasi.clock.step();
        let mut first: Option<u64> = None;
        for index in 0..count {
            let wanted = self.subscription(subscriptions + index * SUBSCRIPTION_BYTES, now)?.wanted;
            let at = if let Wanted::Time { deadline } = wanted { deadline } else { now };
            first = Some(first.map_or(at, |first| first.min(at)));
        }
        let until = first.unwrap_or(now).max(now);
        self.wasi.clock.sleep_until(until);
        let mut written = 0;
        for index in 0..count {
            let subscription = self.subscription(subscriptions + index * SUBSCRIPTION_BYTES, now)?;
            if matches!(subscription.wanted, Wanted::Time { deadline } if deadline > until) {
                continue;
            }
            let event = self.event(&subscription);
            self.memory.write(events + written * EVENT_BYTES, &event)?;
            written += 1;
        }
        Ok(self.memory.write_u32(answered, written)?)
    }

    fn subscription(&self, at: u32, now: u64) -> Result<Subscription, Fail> {
        let record: [u8; SUBSCRIPTION_BYTES as usize] = self.memory.read(at)?;
        let kind = record[8];
        let wanted = match kind {
            EVENT_CLOCK => {
                let absolute = u16::from_le_bytes(field(&record, 40)) & ABSOLUTE != 0;
                let timeout = u64::from_le_bytes(field(&record, 24));
                match ClockId::from_number(u32::from_le_bytes(field(&record, 16))) {
                    Ok(clock) => {
                        Wanted::Time { deadline: self.wasi.clock.deadline(clock, timeout, absolute, now) }
                    }
                    Err(errno) => Wanted::Nonsense(errno),
                }
            }
            EVENT_FD_READ | EVENT_FD_WRITE => Wanted::Ready(u32::from_le_bytes(field(&record, 16))),
            _ => return Err(Errno::INVAL.into()),
        };
        Ok(Subscription { userdata: field(&record, 0), kind, wanted })
    }

    fn event(&self, subscription: &Subscription) -> [u8; EVENT_BYTES as usize] {
        let answer = match subscription.wanted {
            Wanted::Time { .. } => Ok((0, 0)),
            Wanted::Ready(fd) => self.readiness(fd, subscription.kind),
            Wanted::Nonsense(errno) => Err(errno),
        };
        let (errno, (bytes, flags)) = match answer {
            Ok(ready) => (Errno::SUCCESS, ready),
            Err(errno) => (errno, (0, 0)),
        };
        let mut event = [0; EVENT_BYTES as usize];
        event[0..8].copy_from_slice(&subscription.userdata);
        event[8..10].copy_from_slice(&errno.0.to_le_bytes());
        event[10] = subscription.kind;
        event[16..24].copy_from_slice(&bytes.to_le_bytes());
        event[24..26].copy_from_slice(&flags.to_le_bytes());
        event
    }

    /// Bytes that can be read or written, and flags.
    fn readiness(&self, fd: u32, kind: u8) -> Result<(u64, u16), Errno> {
        let descriptor = self.wasi.table.get(fd)?;
        let right = if kind == EVENT_FD_READ { rights::FD_READ } else { rights::FD_WRITE };
        descriptor.check(rights::POLL_FD_READWRITE).map_err(|_| Errno::BADF)?;
        descriptor.check(right)?;
        match descriptor.target {
            Target::Stdin => {
                let unread = self.wasi.stdio.unread();
                Ok((unread, if unread == 0 { HANGUP } else { 0 }))
            }
            Target::Stdout | Target::Stderr => Ok((self.wasi.stdio.room(), 0)),
            Target::File(open) if kind == EVENT_FD_READ => {
                Ok((self.wasi.vfs.remaining(open).map_err(|_| Errno::BADF)?, 0))
            }
            Target::File(_) => Ok((self.wasi.vfs.bytes_left(), 0)),
            Target::Directory { .. } => Err(Errno::BADF),
        }
    }
}

fn field<const N: usize>(record: &[u8; SUBSCRIPTION_BYTES as usize], at: usize) -> [u8; N] {
    *record[at..].first_chunk().expect("every field lies within the record")
}
