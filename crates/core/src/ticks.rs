//! What happens because time has passed.

use super::explain::Note;
use super::floor::{Floor, Followup};
use super::placement::busy;
use super::pool::Pool;
use super::reach::too_few;
use super::timers::Timer;
use super::{AttemptState, Effect, Time};
use vocabulary::id::AttemptId;
use vocabulary::result::{FailReason, Fault};

impl Pool {
    /// Works off every timer that is due.
    pub(super) fn tick(&mut self) {
        while let Some(timer) = self.floor.timers.due(self.floor.now) {
            match timer {
                Timer::Grace => self.grace_is_over(false),
                Timer::Silent(place) => self.check_silent(place),
                Timer::Short(shape) => self.check_short(shape),
                Timer::Deadline(run) => self.with_run(run, |floor, run| {
                    let ms = run.policy.deadline_ms.unwrap_or_default();
                    floor.fail(run, FailReason::Expired, &format!("its deadline of {ms} ms passed"));
                }),
                Timer::Fresh(run) => self.with_run(run, |floor, run| {
                    run.fresh_until = None;
                    run.is_relaxed = true;
                    let wait_ms = floor.config.fresh_worker_wait_ms;
                    let shape = run.ticket.map(|ticket| floor.queue.shape(floor.queue.shape_of(ticket)));
                    let (busy, more) =
                        shape.map(|(shape, suited)| busy(shape, suited, &floor.crew)).unwrap_or_default();
                    floor.note(run, Note::FreshWaitOver { wait_ms, busy, more });
                    floor.advance(run);
                }),
                Timer::Idle(run) => self.with_run(run, Floor::idle),
                Timer::Timeout(attempt) => self.overdue(attempt),
                Timer::Unserved(module) => {
                    if let Some(module) = self.floor.modules.known(module) {
                        self.fail_waiting(module);
                    }
                }
                Timer::Collect(attempt) => {
                    let detail = format!("nothing came for {} ms", self.floor.config.collect_timeout_ms);
                    self.collect_failed(attempt, Fault::Corrupt { detail });
                }
            }
        }
    }

    /// A worker should have killed an attempt at its timeout and did not say so, or should have begun it.
    fn overdue(&mut self, attempt: AttemptId) {
        self.with_run(attempt.run, |floor, run| {
            let Some(position) = run.position(attempt.number) else { return };
            let found = &mut run.attempts[position];
            found.timeout_at = None;
            if found.is_live() {
                let worker = found.record.worker;
                let within_ms = floor.config.begin_within_ms;
                let fault = match found.record.state {
                    AttemptState::Assigned if found.epoch == run.epoch => {
                        Fault::Refused { detail: format!("it was not begun within {within_ms} ms") }
                    }
                    _ => Fault::TimedOut,
                };
                floor.effects.push(Effect::Abort { attempt, worker });
                floor.faulted(run, position, fault.clone(), fault == Fault::TimedOut, 0);
            }
        });
    }

    /// Ends the quorum runs of a shape that was short of workers for too long.
    fn check_short(&mut self, shape: u32) {
        let wait_ms = self.floor.config.quorum_wait_ms;
        *self.floor.queue.timer_of_shape(shape) = None;
        let suited = self.floor.queue.shape(shape).1;
        let (Some(since), there) = (suited.short_since, suited.there) else { return };
        let since = since.max(self.floor.grace_until);
        let mut next: Option<Time> = None;
        for id in self.floor.queue.runs_of_shape(shape) {
            let Some(run) = self.runs.get(&id) else { continue };
            // asked again in time, because the end of the grace may not be known yet
            let due = since.max(run.waits_since).plus_ms(wait_ms);
            if due <= self.floor.now {
                let why = too_few(run, wait_ms, there);
                self.floor.followups.push(Followup::Short(id, why));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        if let Some(at) = next.map(|at| at.min(self.floor.now.plus_ms(wait_ms.max(1)))) {
            *self.floor.queue.timer_of_shape(shape) = Some(at);
            self.floor.timers.set(at, Timer::Short(shape));
        }
    }
}
