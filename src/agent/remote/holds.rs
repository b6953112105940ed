//! What a worker holds of its coordinator: attempts that it was assigned, until nobody needs anything of them any more.
//!
//! Invariant: a vote is kept until it is released or aborted, a fault until a message with it was taken; so whatever a cut
//! connection swallowed is said again. Bounded, because the worker grants nothing beyond [`GRANTED_MAX`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::id::{AttemptId, Epoch};
use crate::protocol::agent::{Assignment, AssignmentMac, FromAgent, VoteReport};
use crate::protocol::wire;
use crate::result::Fault;

/// Nothing more is granted while so much is held.
pub(super) const GRANTED_MAX: usize = wire::HOLDS_MAX / 2;

struct Hold {
    epoch: Epoch,
    mac: AssignmentMac,
    said: Said,
}

/// What was to be said of an attempt.
enum Said {
    Nothing,
    Vote(Box<VoteReport>),
    Fault {
        fault: Fault,
        begun_at_us: Option<u64>,
        cpu_us: u64,
        /// Number of the message of this session that it was said in.
        message: Option<u64>,
    },
}

#[derive(Default)]
pub(super) struct Holds {
    all: BTreeMap<AttemptId, Hold>,
    /// Those of which nothing is to be said yet.
    open: usize,
}

impl Holds {
    pub(super) fn assigned(&mut self, assignment: &Assignment) {
        let hold = Hold { epoch: assignment.epoch, mac: assignment.mac, said: Said::Nothing };
        if let Entry::Vacant(vacant) = self.all.entry(assignment.attempt) {
            vacant.insert(hold);
            self.open += 1;
        }
    }

    /// A vote; `false` if nobody wants it any more.
    pub(super) fn voted(&mut self, report: &VoteReport) -> bool {
        self.is_over(report.attempt, Said::Vote(Box::new(report.clone())))
    }

    /// A fault; `false` if nobody wants to hear of it any more.
    pub(super) fn faulted(
        &mut self,
        attempt: AttemptId,
        fault: Fault,
        begun_at_us: Option<u64>,
        cpu_us: u64,
    ) -> bool {
        self.is_over(attempt, Said::Fault { fault, begun_at_us, cpu_us, message: None })
    }

    fn is_over(&mut self, attempt: AttemptId, said: Said) -> bool {
        let Some(hold) = self.all.get_mut(&attempt) else { return false };
        self.open -= usize::from(matches!(hold.said, Said::Nothing));
        hold.said = said;
        true
    }

    /// A fault leaves in this message.
    pub(super) fn leaves(&mut self, attempt: AttemptId, number: u64) {
        if let Some(Hold { said: Said::Fault { message, .. }, .. }) = self.all.get_mut(&attempt) {
            *message = Some(number);
        }
    }

    /// The coordinator has heard so many messages of this session.
    pub(super) fn taken(&mut self, messages: u64) {
        self.all.retain(
            |_, hold| !matches!(hold.said, Said::Fault { message: Some(number), .. } if number <= messages),
        );
    }

    /// Nobody needs it any more.
    pub(super) fn forget(&mut self, attempt: AttemptId) {
        if let Some(hold) = self.all.remove(&attempt) {
            self.open -= usize::from(matches!(hold.said, Said::Nothing));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Attempts that are still to be executed, or are executed now.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of it, with proof.
    pub(super) fn shown(&self) -> Vec<wire::Hold> {
        let show = |(attempt, hold): (&AttemptId, &Hold)| wire::Hold {
            attempt: (*attempt).into(),
            epoch: hold.epoch.0,
            mac: hold.mac,
        };
        self.all.iter().take(wire::HOLDS_MAX).map(show).collect()
    }

    /// A session begins: everything that is to be said in it again.
    pub(super) fn again(&mut self) -> Vec<FromAgent> {
        let again = |(attempt, hold): (&AttemptId, &mut Hold)| match &mut hold.said {
            Said::Nothing => None,
            Said::Vote(report) => Some(FromAgent::Voted(report.clone())),
            Said::Fault { fault, begun_at_us, cpu_us, message } => {
                *message = None;
                Some(FromAgent::Faulted {
                    attempt: *attempt,
                    epoch: hold.epoch,
                    fault: fault.clone(),
                    begun_at_us: *begun_at_us,
                    cpu_us: *cpu_us,
                })
            }
        };
        self.all.iter_mut().filter_map(again).collect()
    }
}

/// The worker's grants as a session counts them: an agent counts assignments over its whole life, a session anew.
#[derive(Default)]
pub(super) struct Grants {
    /// Assignments passed on to the agent.
    passed: u64,
    /// The same when this session began.
    base: u64,
    /// Assignments of this session that never reached the agent.
    skipped: u64,
    /// What the agent said last: credits, and assignments that it had received.
    last: (u32, u64),
    /// The same as the coordinator was told it last in this session.
    told: (u32, u64),
    /// It was told of no credits, because too much was held.
    is_kept_back: bool,
}

impl Grants {
    pub(super) fn begin(&mut self) {
        (self.base, self.skipped, self.told) = (self.passed, 0, (0, 0));
    }

    pub(super) fn pass(&mut self) {
        self.passed += 1;
    }

    pub(super) fn skip(&mut self) {
        self.skipped += 1;
    }

    pub(super) fn granted(&mut self, credits: u32, received: u64) {
        self.last = (credits, received);
    }

    /// The coordinator is told so now.
    pub(super) fn told(&mut self, credits: u32, received: u64) {
        self.told = (credits, received);
    }

    /// Assignments that may come although the coordinator hears nothing more.
    pub(super) fn outstanding(&self) -> u64 {
        let (credits, received) = self.told;
        let came = self.passed - self.base + self.skipped;
        u64::from(credits).saturating_sub(came.saturating_sub(received))
    }

    /// What has to be said now that only so many are `held`, if the agent was kept from taking more when that was said last: it
    /// will not say it again.
    pub(super) fn again(&mut self, held: usize) -> Option<FromAgent> {
        (self.is_kept_back && held < GRANTED_MAX).then(|| self.words(held))
    }

    /// What is said in this session; nothing while too much is `held`.
    pub(super) fn words(&mut self, held: usize) -> FromAgent {
        self.is_kept_back = held >= GRANTED_MAX;
        let (credits, received) = self.last;
        // of an earlier session, on their way inside the worker when it counted
        let unseen = u32::try_from(self.base.saturating_sub(received)).unwrap_or(u32::MAX);
        let credits = if self.is_kept_back { 0 } else { credits.saturating_sub(unseen) };
        FromAgent::Credits { credits, received: received.saturating_sub(self.base) + self.skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(grants: &mut Grants) -> (u32, u64) {
        match grants.words(0) {
            FromAgent::Credits { credits, received } => (credits, received),
            _ => panic!("credits"),
        }
    }

    #[test]
    fn grants_count_from_the_beginning_of_the_session() {
        let mut grants = Grants::default();
        grants.begin();
        grants.granted(4, 0);
        assert_eq!(words(&mut grants), (4, 0));
        (0..3).for_each(|_| grants.pass());
        grants.granted(2, 2);
        assert_eq!(words(&mut grants), (2, 2), "the coordinator knows of the third itself");
        grants.begin();
        assert_eq!(
            words(&mut grants),
            (1, 0),
            "the third is on its way, and this session knows nothing of it"
        );
        grants.pass();
        grants.granted(1, 4);
        assert_eq!(words(&mut grants), (1, 1));
        grants.skip();
        assert_eq!(words(&mut grants), (1, 2));
        assert_eq!(grants.outstanding(), 0, "nothing was told in this session");
        grants.told(3, 2);
        assert_eq!(grants.outstanding(), 3);
        (0..2).for_each(|_| grants.pass());
        assert_eq!(grants.outstanding(), 1);
        (0..2).for_each(|_| grants.pass());
        assert_eq!(grants.outstanding(), 0);
        assert!(matches!(grants.words(GRANTED_MAX), FromAgent::Credits { credits: 0, .. }));
        let mut again = |held| grants.again(held).is_some();
        assert!(!again(GRANTED_MAX) && again(GRANTED_MAX - 1), "else it would be idle for ever");
        assert!(!again(GRANTED_MAX) && !again(GRANTED_MAX - 2), "it was told");
    }
}
