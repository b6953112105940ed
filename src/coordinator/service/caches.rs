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
#[derive(Default)]
pub struct ModuleCache {
    entries: Mutex<HashMap<Digest, Arc<ModuleFacts>>>,
}

impl ModuleCache {
    /// What is known.
    pub fn get(&self, module: Digest) -> Option<Arc<ModuleFacts>> {
        lock(&self.entries).get(&module).cloned()
    }

    /// Remembers what the store says.
    pub fn remember(&self, module: Digest, facts: Arc<ModuleFacts>) {
        remember(&self.entries, module, facts);
    }

    /// Its row changed.
    pub fn forget(&self, module: Digest) {
        lock(&self.entries).remove(&module);
    }
}

/// Tokens by the hash of their text.
#[derive(Default)]
pub struct TokenCache {
    entries: Mutex<HashMap<Digest, TokenRow>>,
}

impl TokenCache {
    /// The row, if it was seen.
    pub fn known(&self, hash: Digest) -> Option<TokenRow> {
        lock(&self.entries).get(&hash).cloned()
    }

    /// Remembers a row.
    pub fn remember(&self, row: TokenRow) {
        remember(&self.entries, row.hash, row);
    }

    /// One was revoked.
    pub fn forget_all(&self) {
        lock(&self.entries).clear();
    }
}

fn remember<V>(entries: &Mutex<HashMap<Digest, V>>, key: Digest, value: V) {
    let mut entries = lock(entries);
    if entries.len() >= ENTRIES_MAX {
        entries.clear();
    }
    entries.insert(key, value);
}

/// A panic while it was held cannot have left a map of whole entries half-changed.
fn lock<V>(entries: &Mutex<HashMap<Digest, V>>) -> MutexGuard<'_, HashMap<Digest, V>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}
