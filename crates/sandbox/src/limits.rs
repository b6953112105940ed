//! One budget over all memories and tables of an attempt.
//!
//! Invariant: whether a growth succeeds depends on the limits and on what the guest did before, never on the host.
//! A growth beyond the budget is refused here and the guest sees -1, the same everywhere. A growth that was
//! approved and then failed is the host's failure: it ends the attempt with [`HostRefused`], which is no answer.
//!
//! This is exact because the engine asks before every growth (custom page sizes are off; they are the one case in
//! which it would fail a growth without having asked).

use wasmtime::{Error, ResourceLimiter, Result};

use super::engine::{MEMORIES_MAX, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// What one element of a table counts, in bytes.
pub const TABLE_ELEMENT_BYTES: u64 = 8;

/// The host could not carry out a growth that the budget allowed.
#[derive(Debug, thiserror::Error)]
#[error("the host could not grow a memory or table that its limits allow: {0}")]
pub(super) struct HostRefused(String);

/// The memories and tables that the module declares do not fit its budget; nothing of it ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the memories and tables of the module need more than {budget} bytes from the start")]
pub(super) struct MinimumOverBudget {
    budget: u64,
}

/// Keeps the account.
#[derive(Debug)]
pub(super) struct Limiter {
    budget: u64,
    used: u64,
    /// Memories and tables that instantiation has yet to make: their first "growth" is their creation.
    uncreated: u64,
    /// Whether the last request was approved, so that its failure is the host's.
    approved: bool,
}

impl Limiter {
    /// An account of `budget` bytes for a module that defines `spaces` memories and tables.
    pub(super) fn new(budget: u64, spaces: u64) -> Limiter {
        Limiter { budget, used: 0, uncreated: spaces, approved: false }
    }

    /// Bytes that memories and tables hold now.
    #[cfg(test)]
    fn used(&self) -> u64 {
        self.used
    }

    fn request(&mut self, current: u64, desired: u64, fits: bool) -> Result<bool> {
        let creation = self.uncreated > 0;
        self.uncreated = self.uncreated.saturating_sub(1);
        let wanted = self.used.saturating_add(desired.saturating_sub(current));
        self.approved = fits && wanted <= self.budget;
        if self.approved {
            self.used = wanted;
        } else if creation {
            return Err(Error::new(MinimumOverBudget { budget: self.budget }));
        }
        Ok(self.approved)
    }

    fn failed(&mut self, error: &Error) -> Result<()> {
        if self.approved { Err(Error::new(HostRefused(error.to_string()))) } else { Ok(()) }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let fits = desired <= maximum.unwrap_or(usize::MAX).min(MEMORY_BYTES_MAX);
        self.request(current as u64, desired as u64, fits)
    }

    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        self.failed(&error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let fits = desired <= maximum.unwrap_or(usize::MAX).min(TABLE_ELEMENTS_MAX);
        let bytes = |elements: usize| (elements as u64).saturating_mul(TABLE_ELEMENT_BYTES);
        self.request(bytes(current), bytes(desired), fits)
    }

    fn table_grow_failed(&mut self, error: Error) -> Result<()> {
        self.failed(&error)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 1 << 16;

    #[test]
    fn the_budget_covers_all_memories_and_tables_together() {
        let mut limiter = Limiter::new(3 * PAGE as u64, 3);
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert_eq!(limiter.used(), 2 * PAGE as u64 + 80);
        assert!(!limiter.memory_growing(PAGE, 2 * PAGE, None).unwrap());
        assert!(limiter.table_growing(10, PAGE / 8, None).unwrap(), "exactly full");
        assert!(!limiter.table_growing(PAGE / 8, PAGE / 8 + 1, None).unwrap());
        assert_eq!(limiter.used(), 3 * PAGE as u64);
    }

    #[test]
    fn a_declared_maximum_is_refused_before_the_host_is_asked() {
        let mut limiter = Limiter::new(u64::MAX, 0);
        assert!(!limiter.memory_growing(0, 2 * PAGE, Some(PAGE)).unwrap());
        assert!(limiter.memory_grow_failed(Error::msg("unused")).is_ok());
        assert!(!limiter.memory_growing(0, MEMORY_BYTES_MAX + PAGE, None).unwrap());
        assert!(!limiter.table_growing(0, TABLE_ELEMENTS_MAX + 1, None).unwrap());
        assert!(limiter.table_grow_failed(Error::msg("unused")).is_ok());
    }

    #[test]
    fn a_failure_after_approval_is_the_hosts() {
        let mut limiter = Limiter::new(u64::MAX, 0);
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        let error = limiter.memory_grow_failed(Error::msg("no memory")).unwrap_err();
        assert!(error.downcast_ref::<HostRefused>().is_some());
    }

    #[test]
    fn only_a_creation_that_does_not_fit_ends_the_attempt() {
        let mut limiter = Limiter::new(PAGE as u64, 1);
        let error = limiter.memory_growing(0, 2 * PAGE, None).unwrap_err();
        assert!(error.downcast_ref::<MinimumOverBudget>().is_some());
        assert!(!limiter.memory_growing(0, 2 * PAGE, None).unwrap(), "a growth gets -1");
    }
}
