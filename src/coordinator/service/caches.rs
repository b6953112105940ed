//! What the hot path needs of the store and must not read for every call: modules and tokens.
//!
//! A cache is filled from the store and emptied by whoever changes the row; it never is the truth. Bounded by being
//! emptied when it is full: a pool has few hot modules and few tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;
use crate::sandbox::Analysis;
use crate::store::{ModuleState, TokenRow};

/// Entries kept at most, of each kind.
const ENTRIES_MAX: usize = 4_096;

/// What a submission needs to know of its module.
#[derive(Clone, Debug)]
pub struct ModuleFacts {
    /// Where it stands.
    pub state: ModuleState,
    /// What it imports and exports.
    pub analysis: Option<Analysis>,
    /// Why it was refused: stable code and text.
    pub refusal: Option<(String, String)>,
    /// Why it is out of service.
    pub quarantined: Option<String>,
}

/// Modules by digest.
pub type ModuleCache = Cache<ModuleFacts>;

/// Tokens by the hash of their text.
pub type TokenCache = Cache<TokenRow>;

/// What the store said, by the digest that names it.
///
/// A reading that began before a row was changed must not be remembered after the change: whoever reads the store takes
/// the [`Cache::generation`] before and hands it in with what was read.
pub struct Cache<V> {
    inner: Mutex<Inner<V>>,
}

struct Inner<V> {
    generation: u64,
    entries: HashMap<Digest, Arc<V>>,
}

impl<V> Default for Cache<V> {
    fn default() -> Cache<V> {
        Cache { inner: Mutex::new(Inner { generation: 0, entries: HashMap::new() }) }
    }
}

impl<V> Cache<V> {
    /// What is known.
    pub fn get(&self, name: Digest) -> Option<Arc<V>> {
        self.lock().entries.get(&name).cloned()
    }

    /// Changes whenever something is forgotten. Taken before the store is read.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Remembers what the store said, unless something was forgotten since `generation`.
    pub fn remember(&self, name: Digest, value: Arc<V>, generation: u64) {
        let mut inner = self.lock();
        if inner.generation != generation {
            return;
        }
        if inner.entries.len() >= ENTRIES_MAX {
            inner.entries.clear();
        }
        inner.entries.insert(name, value);
    }

    /// A row changed.
    pub fn forget(&self, name: Digest) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.entries.remove(&name);
    }

    /// Any row may have changed.
    pub fn forget_all(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.entries.clear();
    }

    /// A panic while it was held cannot have left a map of whole entries half-changed.
    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let (token, other) = (Digest::of(b"token"), Digest::of(b"other"));
        let cache = Cache::<&str>::default();
        let before = cache.generation();
        // another caller's reading, all of it before the change
        cache.remember(token, Arc::new("valid"), before);
        assert_eq!(cache.get(token).as_deref(), Some(&"valid"));
        cache.forget(token);
        cache.remember(token, Arc::new("valid"), before);
        assert_eq!(cache.get(token), None);
        let before = cache.generation();
        cache.forget_all();
        cache.remember(other, Arc::new("valid"), before);
        assert_eq!(cache.get(other), None);
        cache.remember(other, Arc::new("valid"), cache.generation());
        assert_eq!(cache.get(other).as_deref(), Some(&"valid"));
    }

    #[test]
    fn it_is_bounded() {
        let cache = Cache::<u32>::default();
        for number in 0..u32::try_from(2 * ENTRIES_MAX).unwrap() {
            cache.remember(Digest::of(&number.to_be_bytes()), Arc::new(number), 0);
            assert!(cache.lock().entries.len() <= ENTRIES_MAX);
        }
    }
}
