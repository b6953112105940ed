//! Sessions of workers: which one is the worker's, and what its end means.
//!
//! Invariant: what a session that was replaced says, and its end, change nothing. The end of an embedded worker's session is the
//! end of the worker. A remote one may have lost only its connection: it gets nothing meanwhile, and is lost if it is not
//! back in time (or silent for too long, which the core finds out by itself).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::outbox::Outbox;
use super::{Command, Link, Owner, Remote, WorkerOrder};
use crate::class::Classes;
use crate::core::{Event, Joining};
use crate::digest::Digest;
use crate::id::{AttemptId, Epoch, RunId, WorkerId};
use crate::protocol::agent::ToAgent;
use crate::spec::Limits;
use crate::store::{Withdrawal, WorkerRow};

/// A worker's first word, its MACs checked.
pub(super) struct Hello {
    pub(super) classes: Classes,
    pub(super) slots: u32,
    pub(super) memory_bytes: u64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) holds: Vec<(AttemptId, Epoch)>,
    pub(super) version: String,
}

impl Owner {
    /// A session begins. The worker is told of nothing before it has said its hello.
    pub(super) fn join(
        &mut self,
        row: WorkerRow,
        to: mpsc::Sender<ToAgent>,
        session: u64,
        remote: Option<Remote>,
    ) {
        let (worker, classes) = (row.id, self.links.get(&row.id).and_then(|old| old.classes));
        // the session in the row is an earlier one; this one begins with the worker's first word
        let row = WorkerRow { session: None, ..row };
        let link = Link {
            row,
            to: Some(Outbox::new(to)),
            session,
            remote,
            classes,
            sent: 0,
            has_drained: false,
            cpu_us: HashMap::new(),
        };
        if let Some(old) = self.links.insert(worker, link)
            && old.to.is_some()
        {
            tracing::info!(%worker, session, old = old.session, "a newer session takes the place of an older one");
        }
    }

    /// Whether this is the worker's session.
    pub(super) fn is_current(&self, worker: WorkerId, session: u64) -> bool {
        self.links.get(&worker).is_some_and(|link| link.session == session)
    }

    /// A session ended.
    pub(super) fn gone(&mut self, worker: WorkerId, session: u64) {
        if !self.is_current(worker, session) {
            return;
        }
        let Some(link) = self.links.get_mut(&worker) else { return };
        link.to = None;
        if link.remote.is_none() || link.has_drained {
            return self.still_gone(worker, session);
        }
        self.step(Event::Credits { worker, credits: 0 });
        let (commands, wait) = (self.parts.commands.clone(), Duration::from_millis(self.parts.reconnect_ms));
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = commands.send(Command::StillGone(worker, session));
        });
    }

    /// A remote worker had its time to come back.
    pub(super) fn still_gone(&mut self, worker: WorkerId, session: u64) {
        if self.is_current(worker, session) {
            // what this means for its attempts is noted against it, so it is forgotten afterwards
            self.step(Event::WorkerLeft { worker });
            self.keeping.retain(|_, (from, _)| *from != worker);
            self.asked.retain(|(from, _)| *from != worker);
            if let Some(link) = self.links.remove(&worker) {
                self.tell_classes();
                self.end_session(link.row);
            }
        }
    }

    /// What an operator says of a worker; answers whether it has a session. A drain lasts over its sessions.
    pub(super) fn order(&mut self, worker: WorkerId, order: WorkerOrder, reply: oneshot::Sender<bool>) {
        let known = self.links.contains_key(&worker);
        // to one that never joined nothing of this happens; one whose session is over is known to the pool as it was
        match order {
            WorkerOrder::Drain(why) if known => {
                self.drains.insert(worker, why.clone());
                self.step(Event::WorkerDraining { worker, why });
            }
            WorkerOrder::Drain(_) => {}
            WorkerOrder::Quarantine(why, stored) => {
                self.parts.quarantined.set(worker, true);
                self.step(Event::WorkerQuarantined { worker, why: why.clone() });
                // now that nothing new rests on it, whether somebody still waits for the answer or not
                self.withdraw(Withdrawal::of_worker(worker, self.now()));
                self.note_order(worker, Some(why), stored);
            }
            WorkerOrder::Readmit(stored) => {
                self.drains.remove(&worker);
                self.parts.quarantined.set(worker, false);
                self.step(Event::WorkerReadmitted { worker });
                self.note_order(worker, None, stored);
            }
        }
        let _ = reply.send(known);
    }

    /// A worker is back with these attempts: what it was asked for and may not have heard is asked again.
    pub(super) fn ask_again(&mut self, worker: WorkerId, holds: Vec<AttemptId>) {
        for attempt in holds {
            if let Some((_, wanted)) = self.keeping.get(&attempt).filter(|(from, _)| *from == worker) {
                let digests = wanted.clone();
                self.tell(worker, ToAgent::Collect { attempt, digests });
            }
            let Some(open) = self.runs.get(&attempt.run) else { continue };
            let asked = open.collecting.get(&attempt) == Some(&worker);
            let digests = open.wanted_from(attempt);
            if asked && !digests.is_empty() {
                self.tell(worker, ToAgent::Collect { attempt, digests });
            }
        }
    }

    /// Remembers what was asked, and asks.
    pub(super) fn ask(&mut self, attempt: AttemptId, worker: WorkerId, digests: Vec<Digest>) {
        let Some(open) = self.runs.get_mut(&attempt.run) else { return };
        open.collecting.insert(attempt, worker);
        self.asked.insert((worker, attempt));
        self.tell(worker, ToAgent::Collect { attempt, digests });
    }

    /// How long a blob may be that this worker was asked for, in bytes; `None` if it was not.
    pub(super) fn asked_for(&self, worker: WorkerId, digest: Digest) -> Option<u64> {
        let first = AttemptId { run: RunId(0), number: 0 };
        let last = AttemptId { run: RunId(u128::MAX), number: u32::MAX };
        let of_open = self.asked.range((worker, first)..=(worker, last)).find_map(|(_, attempt)| {
            let open = self.runs.get(&attempt.run)?;
            let reported = open.voted.get(attempt).and_then(|result| open.reported.get(result))?;
            let output = reported.manifest.outputs().find(|output| output.digest == digest)?;
            Some(output.size)
        });
        let dissents =
            || self.keeping.values().any(|(from, wanted)| *from == worker && wanted.contains(&digest));
        // what was voted for is within the limits of its run
        of_open.or_else(|| dissents().then_some(Limits::MAX.file_bytes.max(Limits::MAX.output_bytes)))
    }

    /// Puts `Joining` together from what a worker says and what the store knows.
    pub(super) fn joining(&self, link: &Link, hello: Hello) -> Joining {
        Joining {
            worker: link.row.id,
            class: hello.classes.native,
            domain: link.row.domain.clone(),
            labels: hello.labels,
            slots: hello.slots,
            memory_bytes: hello.memory_bytes,
            holds: hello.holds,
            // not as its row says: that was read before, and is written later
            quarantined: self.parts.quarantined.has(link.row.id),
            standing: link.row.standing_as(hello.classes),
            prior: link.row.prior(),
            is_arbiter: link.row.arbiter,
            portable: hello.classes.portable,
            for_votes: link.row.for_votes,
            condemned_elsewhere: link.row.is_condemned_elsewhere(hello.classes.native.0),
        }
    }
}
