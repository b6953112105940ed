//! The one-way signal that storage cannot be trusted any more.
//!
//! Invariant: once reported it stays reported, with the first reason. Whoever runs the process waits for it and ends the
//! process; a restart recovers from what is durable. It knows nothing about stores or files.

use tokio::sync::watch;

/// A handle on the signal; clones share it. The shell makes one and hands it to the store and to the blobs.
#[derive(Clone, Debug)]
pub struct Failure {
    reason: watch::Sender<Option<String>>,
}

impl Default for Failure {
    fn default() -> Failure {
        Failure { reason: watch::Sender::new(None) }
    }
}

impl Failure {
    /// A signal that nobody has given.
    pub fn new() -> Failure {
        Failure::default()
    }

    /// Gives the signal; only the first reason is kept.
    pub fn report(&self, reason: &str) {
        self.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason.to_owned());
            }
            first
        });
    }

    /// The reason, if the signal was given.
    pub fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Waits for the signal and answers its reason.
    pub async fn reported(&self) -> String {
        let mut watch = self.reason.subscribe();
        loop {
            if let Some(reason) = watch.borrow_and_update().clone() {
                return reason;
            }
            if watch.changed().await.is_err() {
                // `self` holds a sender, so the channel cannot close; wait for ever rather than invent a failure.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays() {
        let failure = Failure::new();
        assert_eq!(failure.reason(), None);
        let waiter = tokio::spawn({
            let failure = failure.clone();
            async move { failure.reported().await }
        });
        failure.report("first");
        failure.report("second");
        assert_eq!(waiter.await.unwrap(), "first");
        assert_eq!(failure.reported().await, "first");
    }
}
