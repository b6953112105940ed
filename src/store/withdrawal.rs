//! Which cached results are not to be used any more.
//!
//! A withdrawal is a rule, not a list of entries: it also covers results that are not in memory now, and so it holds after a
//! restart. It covers what ended up to the moment at which it was made, never anything later.

use crate::core::Time;
use crate::digest::Digest;
use crate::id::{Class, RunId, WorkerId, WorkspaceId};

/// Everything that ended by `until` and meets all that is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Withdrawal {
    /// Of one workspace; `None` for all.
    pub workspace: Option<WorkspaceId>,
    /// Computed by this run.
    pub run: Option<RunId>,
    /// Resting on a vote of this worker.
    pub worker: Option<WorkerId>,
    /// Resting on one vote alone.
    pub alone: bool,
    /// Of this class.
    pub class: Option<Class>,
    /// Of this module.
    pub module: Option<Digest>,
    /// Ended at or after.
    pub after: Option<Time>,
    /// Ended before.
    pub before: Option<Time>,
    /// When it was made.
    pub until: Time,
}

/// What a withdrawal looks at.
#[derive(Clone, Copy, Debug)]
pub struct Withdrawable<'a> {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which run computed it.
    pub run: RunId,
    /// Who voted for it.
    pub workers: &'a [WorkerId],
    /// Whether one of them was enough.
    pub is_alone: bool,
    /// As what it was executed.
    pub class: Class,
    /// What was executed.
    pub module: Digest,
    /// When it ended.
    pub finished_at: Time,
}

impl Withdrawal {
    /// Everything that there is.
    pub fn everything(until: Time) -> Withdrawal {
        Withdrawal {
            workspace: None,
            run: None,
            worker: None,
            alone: false,
            class: None,
            module: None,
            after: None,
            before: None,
            until,
        }
    }

    /// Whatever rests on a worker.
    pub fn of_worker(worker: WorkerId, until: Time) -> Withdrawal {
        Withdrawal { worker: Some(worker), ..Withdrawal::everything(until) }
    }

    /// Whatever rests on the word of a worker alone.
    pub fn of_its_word(worker: WorkerId, until: Time) -> Withdrawal {
        Withdrawal { alone: true, ..Withdrawal::of_worker(worker, until) }
    }

    /// Whatever a module gave.
    pub fn of_module(module: Digest, until: Time) -> Withdrawal {
        Withdrawal { module: Some(module), ..Withdrawal::everything(until) }
    }

    /// What one run computed.
    pub fn of_run(run: RunId, until: Time) -> Withdrawal {
        Withdrawal { run: Some(run), ..Withdrawal::everything(until) }
    }

    /// Whether a result is not to be used any more.
    pub fn covers(&self, it: &Withdrawable<'_>) -> bool {
        it.finished_at <= self.until
            && self.workspace.is_none_or(|workspace| workspace == it.workspace)
            && self.run.is_none_or(|run| run == it.run)
            && self.worker.is_none_or(|worker| it.workers.contains(&worker))
            && (!self.alone || it.is_alone)
            && self.class.is_none_or(|class| class == it.class)
            && self.module.is_none_or(|module| module == it.module)
            && self.after.is_none_or(|after| it.finished_at >= after)
            && self.before.is_none_or(|before| it.finished_at < before)
    }

    /// Whether it covers all that one of before covers: it asks for nothing that the other does not ask for too.
    pub fn contains(&self, earlier: &Withdrawal) -> bool {
        fn asks_no_more<T: PartialEq>(it: Option<T>, earlier: Option<T>) -> bool {
            it.is_none() || it == earlier
        }
        earlier.until <= self.until
            && asks_no_more(self.workspace, earlier.workspace)
            && asks_no_more(self.run, earlier.run)
            && asks_no_more(self.worker, earlier.worker)
            && (!self.alone || earlier.alone)
            && asks_no_more(self.class, earlier.class)
            && asks_no_more(self.module, earlier.module)
            && asks_no_more(self.after, earlier.after)
            && asks_no_more(self.before, earlier.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawal_covers_what_meets_all_that_it_names() {
        let it = Withdrawable {
            workspace: WorkspaceId(1),
            run: RunId(2),
            workers: &[WorkerId(3), WorkerId(4)],
            is_alone: false,
            class: Class(Digest::of(b"class")),
            module: Digest::of(b"module"),
            finished_at: Time(50),
        };
        let all = Withdrawal::everything(Time(50));
        let table = [
            (all, true),
            (Withdrawal { until: Time(49), ..all }, false),
            (Withdrawal { workspace: Some(WorkspaceId(1)), ..all }, true),
            (Withdrawal { workspace: Some(WorkspaceId(0)), ..all }, false),
            (Withdrawal::of_run(RunId(2), Time(50)), true),
            (Withdrawal::of_run(RunId(3), Time(50)), false),
            (Withdrawal::of_worker(WorkerId(4), Time(60)), true),
            (Withdrawal::of_its_word(WorkerId(4), Time(60)), false),
            (Withdrawal::of_worker(WorkerId(5), Time(60)), false),
            (Withdrawal::of_module(Digest::of(b"module"), Time(60)), true),
            (Withdrawal::of_module(Digest::of(b"other"), Time(60)), false),
            (Withdrawal { class: Some(Class(Digest::of(b"class"))), ..all }, true),
            (Withdrawal { class: Some(Class(Digest::of(b"other"))), ..all }, false),
            (Withdrawal { after: Some(Time(50)), ..all }, true),
            (Withdrawal { after: Some(Time(51)), ..all }, false),
            (Withdrawal { before: Some(Time(51)), ..all }, true),
            (Withdrawal { before: Some(Time(50)), ..all }, false),
            (Withdrawal { worker: Some(WorkerId(3)), before: Some(Time(50)), ..all }, false),
        ];
        for (withdrawal, expected) in table {
            assert_eq!(withdrawal.covers(&it), expected, "{withdrawal:?}");
            assert_eq!(all.contains(&withdrawal), withdrawal.until <= all.until);
        }
        assert!(!Withdrawal::of_run(RunId(2), Time(99)).contains(&all));
        let [word, whole] =
            [Withdrawal::of_its_word, Withdrawal::of_worker].map(|of| of(WorkerId(4), Time(60)));
        assert!(word.covers(&Withdrawable { is_alone: true, ..it }));
        assert!(!word.covers(&Withdrawable { is_alone: true, workers: &[WorkerId(3)], ..it }));
        assert!(whole.contains(&word) && !word.contains(&whole));
        assert!(word.contains(&Withdrawal { until: Time(59), ..word }), "said again, it is one rule");
        assert!(!word.contains(&Withdrawal { until: Time(61), ..word }));
    }
}
