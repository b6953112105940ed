//! A store that commits later, refuses at times, and forgets at a restart what it had not committed.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{AttemptRecord, Event, Final, Submission, Write, WriteKind};
use vocabulary::id::{Epoch, RunId, WorkerId};

/// A run as it is stored.
pub struct Row {
    pub submission: Submission,
    pub epoch: Epoch,
    pub attempts: BTreeMap<u32, AttemptRecord>,
    pub last: Option<Final>,
    /// Another coordinator took it over: everything that ours still writes is refused.
    pub is_foreign: bool,
}

#[derive(Default)]
pub struct Store {
    pub rows: BTreeMap<RunId, Row>,
    pub queued: Vec<Write>,
    /// Workers whose session has begun and not ended, as far as anybody noticed.
    pub sessions: BTreeSet<WorkerId>,
}

impl Store {
    /// Commits one write or refuses it, and gives the answer for the pool.
    pub fn commit(&mut self, write: Write, submission: Option<&Submission>) -> Event {
        match write {
            Write::Insert { run, epoch } => {
                let Some(submission) = submission.filter(|_| !self.rows.contains_key(&run)) else {
                    return Event::Refused { run };
                };
                let row = Row {
                    submission: submission.clone(),
                    epoch,
                    attempts: BTreeMap::new(),
                    last: None,
                    is_foreign: false,
                };
                self.rows.insert(run, row);
                Event::Committed { run, write: WriteKind::Inserted }
            }
            Write::Attempt { run, epoch, record } => match self.owned(run, epoch) {
                Some(row) => {
                    let number = record.number;
                    row.attempts.insert(number, record);
                    Event::Committed { run, write: WriteKind::Attempt(number) }
                }
                None => Event::Refused { run },
            },
            Write::Correct(last) => {
                let run = last.run;
                let is_next = |row: &&mut Row| {
                    let before = row.last.as_ref().map(|last| last.revision);
                    !row.is_foreign && before == Some(last.revision - 1)
                };
                match self.rows.get_mut(&run).filter(is_next) {
                    Some(row) => {
                        row.last = Some(*last);
                        Event::Committed { run, write: WriteKind::Finished }
                    }
                    None => Event::Refused { run },
                }
            }
            Write::Finish(last) => match self.owned(last.run, last.epoch) {
                Some(row) => {
                    let run = last.run;
                    row.last = Some(*last);
                    Event::Committed { run, write: WriteKind::Finished }
                }
                None => Event::Refused { run: last.run },
            },
        }
    }

    /// I6 and I7: the row, if the writer still owns it and it is not final.
    fn owned(&mut self, run: RunId, epoch: Epoch) -> Option<&mut Row> {
        self.rows.get_mut(&run).filter(|row| row.epoch == epoch && row.last.is_none() && !row.is_foreign)
    }
}
