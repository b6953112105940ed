//! The way to one worker: nothing that was said is lost on it but with the whole session.
//!
//! The owner never waits, and a worker's channel is short. What does not fit at once waits here, in its order, for a task
//! that waits instead. Whoever lets [`WAITING_MAX`] messages gather has stopped reading: then the channel is closed,
//! which ends the session as any other end does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::protocol::agent::ToAgent;

/// Messages that may wait for one worker: more than one commit of many finished runs releases.
pub const WAITING_MAX: usize = 1 << 18;

/// See the module.
pub struct Outbox {
    /// `None` once it was closed.
    to: Option<mpsc::Sender<ToAgent>>,
    /// Where messages wait, made when the first one has to.
    backlog: Option<mpsc::UnboundedSender<ToAgent>>,
    /// Messages that were put into the backlog and are not in the channel yet.
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

impl Outbox {
    /// Over a worker's channel.
    pub fn new(to: mpsc::Sender<ToAgent>) -> Outbox {
        Outbox { to: Some(to), backlog: None, waiting: Arc::default(), waiting_max: WAITING_MAX }
    }

    /// Says something, now or as soon as there is room. `false`: the session is over, or ends because of this.
    pub fn send(&mut self, message: ToAgent) -> bool {
        let Some(to) = &self.to else { return false };
        let waiting = self.waiting.load(Ordering::Acquire);
        if waiting == 0 {
            match to.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(message)) => return self.keep(message),
            }
        }
        if waiting >= self.waiting_max {
            self.close();
            return false;
        }
        self.keep(message)
    }

    fn keep(&mut self, message: ToAgent) -> bool {
        let Some(to) = &self.to else { return false };
        let waiting = &self.waiting;
        let backlog = self.backlog.get_or_insert_with(|| {
            let (backlog, messages) = mpsc::unbounded_channel();
            tokio::spawn(pass_on(messages, to.clone(), Arc::clone(waiting)));
            backlog
        });
        waiting.fetch_add(1, Ordering::AcqRel);
        backlog.send(message).is_ok()
    }

    /// Ends the session; what waits is gone with it.
    fn close(&mut self) {
        self.backlog = None;
        self.to = None;
    }
}

/// Passes on what waits, in its order. A message counts as waiting until it is in the channel, so that nothing can
/// overtake it.
async fn pass_on(
    mut messages: mpsc::UnboundedReceiver<ToAgent>,
    to: mpsc::Sender<ToAgent>,
    waiting: Arc<AtomicUsize>,
) {
    while let Some(message) = messages.recv().await {
        if messages.is_closed() || to.send(message).await.is_err() {
            return;
        }
        waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AttemptId, RunId};

    fn message(number: u32) -> ToAgent {
        ToAgent::Release(AttemptId { run: RunId(1), number })
    }

    fn number(message: &ToAgent) -> u32 {
        match message {
            ToAgent::Release(attempt) => attempt.number,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_in_its_order() {
        let (to, mut worker) = mpsc::channel(4);
        let mut outbox = Outbox::new(to);
        assert!((0..3_000).all(|at| outbox.send(message(at))));
        let mut heard = Vec::new();
        while heard.len() < 3_000 {
            heard.push(number(&worker.recv().await.expect("the session goes on")));
            // what is said while others wait comes after them
            if heard.len() == 1_000 {
                assert!((3_000..3_010).all(|at| outbox.send(message(at))));
            }
        }
        for at in 3_010..3_020 {
            assert!(outbox.send(message(at)));
        }
        while heard.len() < 3_020 {
            heard.push(number(&worker.recv().await.expect("the session goes on")));
        }
        assert_eq!(heard, (0..3_020).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_worker_that_has_stopped_reading_is_cut_off() {
        let (to, mut worker) = mpsc::channel(4);
        let mut outbox = Outbox { waiting_max: 100, ..Outbox::new(to) };
        let taken = (0..200).take_while(|at| outbox.send(message(*at))).count();
        assert_eq!(taken, 104);
        assert!(!outbox.send(message(0)));
        // the channel ends: so does the session
        while worker.recv().await.is_some() {}
    }
}
