//! Why a run is where it is, in sentences.
//!
//! A decision is noted as a value and put into words only when somebody reads it, or when it is written: never by the
//! one who decides. The log is bounded: a run that is tossed about keeps its first notes and a count of the others.

mod words;

use std::sync::Arc;

pub(super) use self::words::{DaysBefore, Ppb};

use super::credibility::Why;
use super::kin::Frame;
use super::placement::Bar;
use super::signs::Sign;
use super::{Class, Time};
use vocabulary::digest::Digest;
use vocabulary::id::{RunId, WorkerId};
use vocabulary::result::{FailReason, Fault, Outcome};

/// Notes that a run keeps; what follows is counted.
const NOTES_MAX: usize = 200;

/// Why a worker was chosen among those that were free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    /// It executed the module lately.
    Loaded,
    /// It grants the most attempts.
    Roomiest,
    /// It held an attempt of the run before, and no other free worker may have it.
    Again,
    /// By lot, among those whose agreement would decide.
    Decides,
    /// By lot, because no free worker's agreement would decide.
    Drawn,
}

/// One decision.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Note {
    Submitted {
        ahead: usize,
        free: usize,
        active: usize,
    },
    ModuleAwaited,
    Recovered {
        attempts: usize,
    },
    Held {
        workers: usize,
        wait_ms: u64,
    },
    GraceOver {
        early: bool,
    },
    Kept(Box<str>),
    Assigned {
        number: u32,
        worker: WorkerId,
        choice: Choice,
        credits: u32,
        voter: u32,
        voters: u32,
    },
    Voted {
        number: u32,
        worker: WorkerId,
        result: Digest,
        cpu_us: u64,
    },
    Faulted {
        number: u32,
        worker: WorkerId,
        fault: Fault,
        begun: bool,
    },
    Serial {
        crashes: u32,
        crashes_max: u32,
    },
    Excluding {
        workers: Vec<WorkerId>,
        wait_ms: u64,
    },
    Claimers {
        workers: Vec<WorkerId>,
        wait_ms: u64,
    },
    NoOther {
        barred: Vec<(WorkerId, Bar)>,
        more: usize,
    },
    FreshWaitOver {
        wait_ms: u64,
        busy: Vec<WorkerId>,
        more: usize,
    },
    NobodySuits {
        lacks: Box<str>,
    },
    Short {
        wanted: u32,
        there: usize,
        wait_ms: u64,
    },
    Differ {
        votes: usize,
        results: usize,
    },
    OneMore {
        why: Why,
        epsilon_ppb: u64,
    },
    Vouched {
        worker: WorkerId,
        result: Digest,
        k_milli: u64,
        error_ppb: u64,
        epsilon_ppb: u64,
        ppm: u64,
    },
    /// An arbiter stood alone.
    Trusted {
        worker: WorkerId,
        result: Digest,
        error_ppb: u64,
        epsilon_ppb: u64,
    },
    Weighed {
        error_ppb: u64,
        epsilon_ppb: u64,
    },
    Arbitrated {
        result: Digest,
        executions: usize,
    },
    Upheld {
        result: Digest,
    },
    Blamed {
        worker: WorkerId,
        fate: Fate,
    },
    Divided {
        results: usize,
        divisions: usize,
    },
    NobodyBlamed {
        why: &'static str,
    },
    TrustLost {
        worker: WorkerId,
    },
    Absolved {
        worker: WorkerId,
    },
    TakenBack {
        worker: WorkerId,
        run: RunId,
    },
    Rehabilitated {
        worker: WorkerId,
    },
    Hedged {
        number: u32,
        worker: WorkerId,
        took_ms: u64,
        slow_ms: u64,
    },
    Reverifies {
        result: Digest,
        revision: u32,
    },
    Parked {
        most: usize,
    },
    Confirmed {
        revision: u32,
    },
    Corrected {
        revision: u32,
    },
    Follows {
        leader: RunId,
    },
    Adrift {
        leader: RunId,
        keep_together: bool,
    },
    Shared {
        leader: RunId,
        outcome: Outcome,
    },
    Agreed {
        result: Digest,
        votes: u32,
        dissenters: Vec<WorkerId>,
    },
    Unchecked {
        number: u32,
        worker: WorkerId,
        result: Digest,
    },
    Collecting {
        number: u32,
        worker: WorkerId,
    },
    Undelivered {
        number: u32,
        worker: WorkerId,
        fault: Fault,
    },
    NobodyDelivers {
        result: Digest,
    },
    CollectsAnew,
    VoteDiscarded {
        number: u32,
        worker: WorkerId,
        why: Box<str>,
    },
    Withdrawn {
        number: u32,
        worker: WorkerId,
        why: Box<str>,
    },
    Turned {
        frame: Frame,
        votes: usize,
    },
    Idle {
        class: Class,
        wait_ms: u64,
    },
    Returned {
        number: u32,
        worker: WorkerId,
    },
    HandedBack {
        number: u32,
        worker: WorkerId,
    },
    Sign {
        number: u32,
        worker: WorkerId,
        sign: Sign,
    },
    Stopped {
        number: u32,
        worker: WorkerId,
    },
    Accepted {
        outcome: Outcome,
    },
    Failed {
        reason: FailReason,
        why: Box<str>,
    },
    Canceled,
    More(u32),
}

impl Note {
    /// Bytes that it holds beyond its own size.
    fn heap_bytes(&self) -> usize {
        match self {
            Note::Kept(text)
            | Note::NobodySuits { lacks: text }
            | Note::VoteDiscarded { why: text, .. }
            | Note::Withdrawn { why: text, .. }
            | Note::Failed { why: text, .. } => text.len(),
            Note::Faulted { fault, .. } | Note::Undelivered { fault, .. } => fault.to_string().len(),
            Note::Excluding { workers, .. }
            | Note::Claimers { workers, .. }
            | Note::FreshWaitOver { busy: workers, .. }
            | Note::Agreed { dissenters: workers, .. } => size_of_val(&workers[..]),
            Note::NoOther { barred, .. } => size_of_val(&barred[..]),
            _ => 0,
        }
    }
}

/// One decision, put into words by whoever reads it.
#[derive(Clone, Debug)]
pub struct Explained {
    /// When.
    pub at: Time,
    note: Note,
}

impl Explained {
    /// A decision of an earlier life, in the words in which it was stored.
    pub fn kept(at: Time, text: impl Into<Box<str>>) -> Explained {
        Explained { at, note: Note::Kept(text.into()) }
    }

    /// A sentence without its full stop, for people: names workers, attempts and figures.
    pub fn text(&self) -> String {
        self.note.to_string()
    }

    /// Memory that it takes, in bytes.
    pub fn held_bytes(&self) -> usize {
        size_of::<Explained>() + self.note.heap_bytes()
    }
}

/// Equal if they say the same, whether the words were read back or are still to be found.
impl PartialEq for Explained {
    fn eq(&self, other: &Explained) -> bool {
        self.at == other.at && (self.note == other.note || self.text() == other.text())
    }
}

impl Eq for Explained {}

/// What becomes of a worker whose vote lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Its first lone dissent for long.
    Suspect,
    /// The second one.
    Again { days: u32 },
    /// Others named the same wrong digest.
    Colluded { with: usize },
}

/// The notes of one run. They are shared with whoever looks at it; only a log that somebody looks at is copied when the
/// next note comes.
#[derive(Default)]
pub(super) struct Log {
    notes: Arc<Vec<Explained>>,
    more: u32,
}

impl Log {
    /// The notes of an earlier life.
    pub(super) fn of(notes: Vec<Explained>) -> Log {
        Log { notes: Arc::new(notes), more: 0 }
    }

    /// Keeps a note, or counts it if there are too many.
    pub(super) fn note(&mut self, at: Time, note: Note) {
        if self.notes.len() < NOTES_MAX {
            Arc::make_mut(&mut self.notes).push(Explained { at, note });
        } else {
            self.more += 1;
        }
    }

    /// The last word is kept in any case.
    pub(super) fn conclude(&mut self, at: Time, note: Note) {
        Arc::make_mut(&mut self.notes).push(Explained { at, note });
    }

    /// Everything so far.
    pub(super) fn all(&self) -> Arc<Vec<Explained>> {
        let mut notes = Arc::clone(&self.notes);
        if self.more > 0
            && let Some(at) = notes.last().map(|last| last.at)
        {
            Arc::make_mut(&mut notes).push(Explained { at, note: Note::More(self.more) });
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_says_what_it_left_out() {
        let mut log = Log::default();
        for _ in 0..NOTES_MAX + 7 {
            log.note(Time(1), Note::NoOther { barred: Vec::new(), more: 0 });
        }
        log.conclude(Time(2), Note::Canceled);
        let texts = log.all();
        assert_eq!(texts.len(), NOTES_MAX + 2);
        assert_eq!(texts[NOTES_MAX].text(), "canceled on request");
        assert_eq!(texts[NOTES_MAX + 1].text(), "… 7 more");
    }
}
