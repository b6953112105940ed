//! What callers do with runs: submit them, look at them, wait for them, watch them.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{FinalReceiver, Owner, Submit, Watch};
use crate::coordinator::open_run::{OpenRun, Waiter, join_waiters};
use crate::coordinator::service::{RunDetail, RunEvent, ServiceError};
use crate::core::{Event, Explained, Submission, SubmitError};
use crate::id::{AttemptId, RunId, WorkspaceId};
use crate::spec::CacheUse;
use crate::store::NewRun;

impl Owner {
    pub(super) fn submit(&mut self, submit: Submit) {
        let Submit { new, module_ready, live, wait, room, reply, why_verify } = submit;
        let new = Arc::new(*new);
        if let Some((key, payload)) = &new.idempotency {
            if let Some((run, known)) = self.keys.get(&(new.workspace, key.clone())) {
                let same_payload = known == payload;
                let _ = reply.send(Err(ServiceError::Duplicate { run: *run, same_payload }));
                return;
            }
            self.keys.insert((new.workspace, key.clone()), (new.id, *payload));
        }
        let mut open = OpenRun::new(Arc::clone(&new), live, !new.policy.durable);
        open.room = room;
        let waiters = if wait || !open.is_durable() { &mut open.finals } else { &mut open.acks };
        waiters.push(reply);
        self.enter(open);
        let mut effects = std::mem::take(&mut self.effects);
        let admitted = self.admitted.get(&new.spec.module).copied();
        let module_ready = module_ready || admitted == Some(true);
        let mut submission = submission(&new, module_ready, self.parts.key.lottery(new.id));
        if live || !self.parts.cache.is_on() {
            // its own output is watched as it comes
            submission.share = None;
        }
        submission.explained.extend(why_verify.map(|why| Explained::kept(new.created_at, why)));
        let answer = self.parts.pool.submit(self.now(), submission, &mut effects);
        match answer {
            Ok(()) => {
                if !new.policy.durable {
                    self.count_acknowledged(new.workspace, new.created_at);
                }
                self.carry_out(&mut effects);
            }
            Err(error) => {
                effects.clear();
                self.parts.metrics.runs_rejected.inc();
                self.fail(new.id, refusal(error));
            }
        }
        self.effects = effects;
        if admitted == Some(false) {
            self.step(Event::ModuleRefused { module: new.spec.module });
        }
    }

    pub(super) fn see(&mut self, workspace: WorkspaceId, run: RunId) -> Option<Arc<RunDetail>> {
        if let Some(detail) = self.ring.get(workspace, run).or_else(|| self.unwritten(workspace, run)) {
            return Some(detail);
        }
        let view = self.parts.pool.run(run)?;
        self.visible(workspace, run).map(|open| Arc::new(open.detail(view)))
    }

    pub(super) fn acknowledge_to(&mut self, workspace: WorkspaceId, run: RunId, reply: Waiter) {
        let Err(reply) = self.await_hit(workspace, run, reply) else { return };
        let is_its = |open: &&mut OpenRun| open.new.workspace == workspace && open.anew.is_none();
        match self.runs.get_mut(&run).filter(is_its) {
            Some(open) if !open.visible => join_waiters(&mut open.acks, reply),
            _ => {
                let seen = self.see(workspace, run);
                // not open: it became final between the caller's question and this answer, and is in the store
                let _ = reply.send(seen.ok_or(ServiceError::TakenOver));
            }
        }
    }

    pub(super) fn await_final(&mut self, workspace: WorkspaceId, run: RunId) -> Option<FinalReceiver> {
        let open = self.visible(workspace, run)?;
        let (waiter, receiver) = oneshot::channel();
        join_waiters(&mut open.finals, waiter);
        Some(receiver)
    }

    pub(super) fn watch(&mut self, workspace: WorkspaceId, run: RunId) -> Option<Watch> {
        let detail = self.see(workspace, run)?;
        let live: Vec<AttemptId> = detail
            .run
            .attempts
            .iter()
            .filter(|attempt| attempt.state.is_live())
            .map(|attempt| AttemptId { run, number: attempt.number })
            .collect();
        let open = self.visible(workspace, run)?;
        open.live = true;
        let (kept, next) = open.watch();
        let mut now = vec![RunEvent::Changed(detail)];
        now.extend(kept);
        self.show_live(&live);
        Some(Watch { now, next })
    }

    /// The open run, if callers of this workspace may see it.
    fn visible(&mut self, workspace: WorkspaceId, run: RunId) -> Option<&mut OpenRun> {
        self.runs.get_mut(&run).filter(|open| open.visible && open.new.workspace == workspace)
    }
}

/// A run as the core hears of it.
pub(super) fn submission(new: &NewRun, module_ready: bool, lottery: u64) -> Submission {
    Submission {
        run: new.id,
        epoch: new.epoch,
        workspace: new.workspace,
        module: new.spec.module,
        memory_bytes: new.spec.limits.held_bytes(),
        policy: new.policy.clone(),
        module_ready,
        submitted_at: new.created_at,
        recovered: false,
        history: Vec::new(),
        explained: Vec::new(),
        lottery,
        reverify: None,
        share: (new.policy.cache == CacheUse::Use).then_some(new.run_key),
        profile: new.spec.profile,
    }
}

fn refusal(error: SubmitError) -> ServiceError {
    match error {
        SubmitError::QueueFull { queued } => ServiceError::QueueFull { queued },
        SubmitError::TooFewWorkers { wanted, there } => ServiceError::TooFewWorkers { wanted, there },
        SubmitError::Undecidable { verify, there, domains, error_ppb } => {
            ServiceError::Undecidable { verify, there, domains, error_ppb }
        }
        SubmitError::NoWorker { lacks } => ServiceError::NoWorker { lacks },
        SubmitError::ModuleQuarantined { why } => ServiceError::ModuleQuarantined(why),
    }
}
