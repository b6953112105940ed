//! Workers as they may be: honest, lying, slow, broken, frozen, gone.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{Beat, Class, Portable, Prior, Time, Vote};
use vocabulary::digest::Digest;
use vocabulary::id::{AttemptId, Epoch, WorkerId};
use vocabulary::result::Fault;

/// What a worker says to the coordinator.
#[derive(Clone, Debug)]
pub enum Said {
    Hello(Vec<(AttemptId, Epoch)>),
    Credits { credits: u32, received: u64 },
    Beat(Vec<Beat>),
    Begun(AttemptId),
    Voted(AttemptId, Epoch, Vote),
    Faulted { attempt: AttemptId, epoch: Epoch, fault: Fault, begun: bool },
    Returned(AttemptId, Epoch),
    Delivered(AttemptId),
    NotDelivered(AttemptId),
    Bye,
}

/// What the coordinator says to a worker.
#[derive(Clone, Debug)]
pub enum Told {
    Assign { attempt: AttemptId, epoch: Epoch },
    Abort(AttemptId),
    Collect(AttemptId),
    Release(AttemptId),
}

/// How a worker's machine behaves; each figure in percent of attempts.
#[derive(Clone, Copy, Default, Debug)]
pub struct Behaviour {
    pub crashes: u64,
    pub hangs: u64,
    pub lies: u64,
    /// Names the same wrong digest as all others that do.
    pub colludes: u64,
    pub refuses: u64,
    /// Hands back what it has not begun.
    pub returns: u64,
    pub slow: bool,
    /// Vanishes between its vote and the upload.
    pub keeps_nothing: u64,
    /// Does not even notice a timeout: the core must.
    pub deaf: bool,
    /// Sends what is not what it says it is; the shell notices.
    pub corrupts: u64,
    /// Comes back without showing what it holds.
    pub hides: u64,
}

/// An attempt on a worker.
pub struct Held {
    pub epoch: Epoch,
    pub memory_bytes: u64,
    /// Which execution it is: an end that was planned for another one is void.
    pub stamp: u64,
    pub begun_at: u64,
    /// It waits for nothing that will come: no CPU time is used.
    pub is_idle: bool,
}

/// A worker.
pub struct Agent {
    pub id: WorkerId,
    pub class: Class,
    pub portable: Portable,
    pub prior: Prior,
    pub is_arbiter: bool,
    pub domain: String,
    pub zone: &'static str,
    pub slots: u32,
    pub memory_bytes: u64,
    pub behaviour: Behaviour,
    pub is_connected: bool,
    /// It never comes back.
    pub is_gone: bool,
    /// The pool has heard its first word in this session: before, it speaks to nobody.
    pub is_heard: bool,
    /// Numbers its sessions; what belongs to an old one is lost.
    pub session: u64,
    pub is_frozen: bool,
    /// What arrived while it was frozen.
    pub backlog: Vec<Inbox>,
    pub holding: BTreeMap<AttemptId, Held>,
    /// Faults that could not be told because there was no session, in order.
    pub unsent: Vec<Said>,
    /// Votes, until it is told that it may forget them: told again in each session.
    pub kept: BTreeMap<AttemptId, Said>,
    pub outputs: BTreeSet<AttemptId>,
    pub received: u64,
    /// Assignments sent in this session, as the shell counts them.
    pub sent: u64,
    /// When the last message of each direction arrives: links keep the order.
    pub last_up: u64,
    pub last_down: u64,
    /// Until when nothing gets through in each direction; then all of it does, in order.
    pub blocked_up: u64,
    pub blocked_down: u64,
}

/// What a worker has to deal with.
#[derive(Clone, Debug)]
pub enum Inbox {
    Told(Told),
    Ends { attempt: AttemptId, stamp: u64 },
}

impl Agent {
    /// Attempts that it would take beyond those it holds.
    pub fn credits(&self) -> u32 {
        self.slots.saturating_sub(self.holding.len() as u32)
    }

    /// What it shows when it comes back.
    pub fn holds(&self) -> Vec<(AttemptId, Epoch)> {
        let running = self.holding.iter().map(|(attempt, held)| (*attempt, held.epoch));
        let ended = self.unsent.iter().chain(self.kept.values()).filter_map(|said| match said {
            Said::Voted(attempt, epoch, _) | Said::Faulted { attempt, epoch, .. } => Some((*attempt, *epoch)),
            _ => None,
        });
        running.chain(ended).collect()
    }

    /// What it says of the attempts that it executes.
    pub fn beats(&self, now: u64) -> Vec<Beat> {
        let beat = |(attempt, held): (&AttemptId, &Held)| Beat {
            attempt: *attempt,
            cpu_us: if held.is_idle { 50 } else { now - held.begun_at },
            begun_at: Some(Time(held.begun_at)),
        };
        self.holding.iter().map(beat).collect()
    }

    /// Its process ends: everything is gone.
    pub fn die(&mut self) {
        self.holding.clear();
        self.unsent.clear();
        self.kept.clear();
        self.outputs.clear();
        self.backlog.clear();
        self.is_frozen = false;
    }

    /// I13: what it holds must fit into what it declared.
    pub fn check(&self) -> Result<(), String> {
        let memory: u64 = self.holding.values().map(|held| held.memory_bytes).sum();
        if self.holding.len() > self.slots as usize || memory > self.memory_bytes {
            let count = self.holding.len();
            return Err(format!(
                "I13: {} has {} slots and holds {count}, {memory} bytes",
                self.id, self.slots
            ));
        }
        Ok(())
    }
}

/// What an honest worker finds.
pub fn truth(run: u128) -> Digest {
    let mut bytes = [7; 32];
    bytes[..16].copy_from_slice(&run.to_be_bytes());
    Digest::from_bytes(bytes)
}
