//! Runs that are bound to a class whose workers never have a free slot.
//!
//! The first attempt binds a run to a class (`kin.rs`). If whoever else is of that class is there and never has room, the run
//! is not short of workers, and would wait for as long as they like. So one that has waited for as long as it would wait for a
//! quorum turns to another class that could decide it and has room for it now. Its votes are kept: they count again if it
//! turns back, which it does only where no others will do (`Run::left`), or if they decide it after all.
//!
//! Bounded: it is looked at once in `quorum_wait_ms`, turns as often as a run may turn at all, and has as many votes as all
//! frames together may have (`frame.rs`). One that may turn no more ends, as others would have room. Where nobody of another
//! class is free either, it keeps its place.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::credibility::Seat;
use super::explain::Note;
use super::floor::Floor;
use super::frame::Patience;
use super::kin::Frame;
use super::placement::is_placeable;
use super::reach::idle_for_good;
use super::run::Run;
use super::timers::Timer;
use super::{Class, Time};
use vocabulary::result::FailReason;

impl Run {
    /// Whether it waits for a further vote that another class could give as well.
    fn may_leave(&self) -> bool {
        self.compares()
            && self.ticket.is_some()
            && self.live() == 0
            && self.has_ballot()
            && self.bound().is_none()
    }

    /// It turns away from all votes that it has: there is nobody, or no room, where these are looked at.
    pub(super) fn leave(&mut self) {
        for frame in self.frames().into_iter().chain(self.frame()) {
            if !self.left.contains(&frame) {
                self.left.push(frame);
            }
        }
    }
}

impl Floor {
    /// A run waits for a worker: asks again when it has done so for long.
    pub(super) fn watch_idle(&mut self, run: &mut Run) {
        if run.idle_at.is_none() && run.may_leave() {
            let at = run.waits_since.plus_ms(self.config.quorum_wait_ms).max(Time(self.now.0 + 1));
            run.idle_at = Some(at);
            self.timers.set(at, Timer::Idle(run.id));
        }
    }

    /// It waits no longer, or for something else.
    pub(super) fn unwatch_idle(&mut self, run: &mut Run) {
        if let Some(at) = run.idle_at.take() {
            self.timers.unset(at, Timer::Idle(run.id));
        }
    }

    /// A run has waited for long.
    pub(super) fn idle(&mut self, run: &mut Run) {
        run.idle_at = None;
        if !run.may_leave() {
            return;
        }
        let wait_ms = self.config.quorum_wait_ms;
        match (self.class_with_room(run), run.class) {
            (Some(_), Some(class)) if !run.may_turn() => {
                self.fail(run, FailReason::NoQuorum, &idle_for_good(run, class, wait_ms));
            }
            (Some(frame), Some(class)) => {
                self.note(run, Note::Idle { class, wait_ms });
                run.leave();
                self.turn_to(run, frame);
                self.advance(run);
            }
            _ => {
                let at = self.now.plus_ms(wait_ms.max(1));
                run.idle_at = Some(at);
                self.timers.set(at, Timer::Idle(run.id));
            }
        }
    }

    /// Another class that could decide a run and has room for it, if its own has none; the one in which most have.
    fn class_with_room(&self, run: &Run) -> Option<Frame> {
        let (shape, suited) = self.queue.shape(self.queue.shape_of(run.ticket?));
        // what becomes of one whose class is too small is looked at by itself (`Floor::short`)
        let waits_for_others = shape.seat != Seat::Voter
            || suited.short_since.is_some()
            || is_placeable(shape, suited, &self.crew)
            || !self.modules[run.module].admits(&self.config);
        if waits_for_others {
            return None;
        }
        let (seated, wide) = (run.seated(), self.wide_classes(run, Patience::Over));
        let mut classes: BTreeMap<Class, usize> = BTreeMap::new();
        for place in self.crew.free().both(self.crew.free()) {
            let worker = self.crew.at(place);
            let class = worker.class_of(run.base);
            let is_open = Some(class) != run.class
                && !worker.is_arbiter
                && !seated.contains(&worker.id)
                && self.may_vote(run, worker, Patience::Over)
                && self.crew.has_room(place, run.memory_bytes)
                && wide.as_ref().is_none_or(|wide| wide.contains(&class));
            if is_open {
                *classes.entry(class).or_default() += 1;
            }
        }
        let mut classes: Vec<(Class, usize)> = classes.into_iter().collect();
        classes.sort_by_key(|(class, free)| (Reverse(*free), *class));
        let frames = classes.into_iter().map(|(class, _)| Frame { kin: run.base, class });
        frames.into_iter().find(|frame| self.may_decide(run, *frame, Patience::Over))
    }
}
