//! The one place at which a final is known to be durable: the first one, and each correction of it, its own or one of the
//! run whose result it has.
//!
//! Whoever has to act on finals (tell a caller elsewhere, forget what was kept by run key) does it here and nowhere else: it
//! is called once for each revision, after its commit and before anybody waiting hears of it, never for a run that is not
//! written. A restart between commit and call is theirs to deal with: what must not get lost belongs into the final's write.

use std::sync::Arc;

use super::Owner;
use crate::coordinator::service::RunDetail;
use crate::core::AttemptState;
use crate::store::{Source, StoredRun};

impl Owner {
    /// Revision `detail.run.revision` of a run is durable.
    pub(super) fn final_committed(&mut self, detail: &Arc<RunDetail>) {
        let run = &detail.run;
        if self.rests_on_somebody_out(run) {
            // quarantined while it was written: its finals may have been looked at before this one was there
            self.parts.repair.wake();
        }
        if let Some(Source::Cached(source)) = run.source
            && !self.parts.cache.holds(source)
        {
            // withdrawn while it was on its way: if that one was corrected, this one is to be
            self.parts.repair.wake();
        }
        if run.policy.callback.is_some() {
            // the delivery was made in the same write
            self.parts.callback_made.notify_one();
        }
    }

    fn rests_on_somebody_out(&self, run: &StoredRun) -> bool {
        let won = |state: &AttemptState| matches!(state, AttemptState::Voted { won: Some(true), .. });
        let mut voters = run.attempts.iter().filter(|attempt| won(&attempt.state));
        voters.any(|attempt| self.parts.quarantined.has(attempt.worker))
    }
}
