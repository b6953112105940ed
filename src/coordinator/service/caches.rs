//! What the hot path needs of the store and must not read for every call: modules and tokens.
//!
//! A cache is filled from the store and emptied by whoever changes the row; it never is the truth. Bounded by being
//! emptied when it is full: a pool has few hot modules and few tokens.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::Time;
use crate::digest::Digest;
use crate::sandbox::Analysis;
use crate::store::{ModuleState, Outlook, TokenRow, Usage};

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
    /// When tokens were used since that was last written, by their number.
    uses: Mutex<HashMap<u32, Time>>,
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

    /// A request came with a token.
    pub fn used(&self, token: u32, at: Time) {
        remember(&self.uses, token, at);
    }

    /// The uses that are not written yet.
    pub fn uses(&self) -> HashMap<u32, Time> {
        lock(&self.uses).clone()
    }

    /// Takes the uses that are not written yet.
    pub fn take_uses(&self) -> Vec<(u32, Time)> {
        lock(&self.uses).drain().collect()
    }

    /// One was revoked.
    pub fn forget_all(&self) {
        lock(&self.entries).clear();
    }
}

/// How much is stored: counting it reads an index of every row, so it is not done for every look at the pool.
#[derive(Default)]
pub struct UsageCache {
    counted: Mutex<Option<(Instant, Usage, Outlook)>>,
}

/// Figures of the store may be so old.
const USAGE_AGE_MAX: Duration = Duration::from_secs(2);

impl UsageCache {
    /// What was counted, unless that is too long ago.
    pub fn fresh(&self) -> Option<(Usage, Outlook)> {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.filter(|(at, ..)| at.elapsed() < USAGE_AGE_MAX).map(|(_, usage, outlook)| (usage, outlook))
    }

    /// Remembers what was just counted.
    pub fn remember(&self, usage: Usage, outlook: Outlook) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), usage, outlook));
    }
}

fn remember<K: Eq + Hash, V>(entries: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut entries = lock(entries);
    if entries.len() >= ENTRIES_MAX && !entries.contains_key(&key) {
        entries.clear();
    }
    entries.insert(key, value);
}

/// A panic while it was held cannot have left a map of whole entries half-changed.
fn lock<K, V>(entries: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}
