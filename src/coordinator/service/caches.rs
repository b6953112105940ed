//! What the hot path needs of the store and must not read for every call: modules and tokens.
//!
//! A cache is filled from the store and emptied by whoever changes the row; it never is the truth. Bounded in entries and
//! bytes by being emptied when it is full: a pool has few hot modules and few tokens.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::Time;
use crate::digest::Digest;
use crate::sandbox::Analysis;
use crate::spec::Verify;
use crate::store::{ModuleState, Outlook, TokenRow, Usage};

/// Entries kept at most, of each kind.
const ENTRIES_MAX: usize = 4_096;
/// Bytes that the analyses of the modules kept may have together.
const MODULE_BYTES_MAX: usize = 64 << 20;
/// What a name among the types of a function takes, in bytes, about.
const TYPE_NAME_BYTES: usize = 32;

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
    /// How its runs are verified that ask for nothing else.
    pub verify: Option<Verify>,
}

impl ModuleFacts {
    /// About what it takes in memory, in bytes.
    fn weight(&self) -> usize {
        let Some(analysis) = &self.analysis else { return size_of::<ModuleFacts>() };
        let imports = analysis.imports.iter().map(|import| {
            size_of_val(import) + import.module.len() + import.name.len() + import.signature.len()
        });
        let exports = analysis.exports.iter().map(|export| {
            let types = export.function.as_ref().map_or(0, |it| it.params.len() + it.results.len());
            size_of_val(export) + export.name.len() + export.signature.len() + types * TYPE_NAME_BYTES
        });
        size_of::<ModuleFacts>() + imports.chain(exports).sum::<usize>()
    }
}

/// Modules by digest.
#[derive(Default)]
pub struct ModuleCache {
    entries: Mutex<Modules>,
}

#[derive(Default)]
struct Modules {
    facts: HashMap<Digest, Arc<ModuleFacts>>,
    bytes: usize,
    generation: u64,
}

impl ModuleCache {
    /// What is known.
    pub fn get(&self, module: Digest) -> Option<Arc<ModuleFacts>> {
        lock(&self.entries).facts.get(&module).cloned()
    }

    /// Changes whenever a row does. Taken before the store is read.
    pub fn generation(&self) -> u64 {
        lock(&self.entries).generation
    }

    /// Remembers what the store said, unless a row has changed since `generation`: it may be of before.
    pub fn remember(&self, module: Digest, facts: Arc<ModuleFacts>, generation: u64) {
        let weight = facts.weight();
        let mut entries = lock(&self.entries);
        if entries.generation != generation {
            return;
        }
        entries.forget(module);
        if entries.facts.len() >= ENTRIES_MAX || entries.bytes + weight > MODULE_BYTES_MAX {
            *entries = Modules { generation, ..Modules::default() };
        }
        entries.bytes += weight;
        entries.facts.insert(module, facts);
    }

    /// Its row changed.
    pub fn forget(&self, module: Digest) {
        let mut entries = lock(&self.entries);
        entries.generation += 1;
        entries.forget(module);
    }
}

impl Modules {
    fn forget(&mut self, module: Digest) {
        if let Some(facts) = self.facts.remove(&module) {
            self.bytes -= facts.weight();
        }
    }
}

/// Tokens by the hash of their text.
#[derive(Default)]
pub struct TokenCache {
    entries: Mutex<Tokens>,
    /// When tokens were used since that was last written, by their number.
    uses: Mutex<HashMap<u32, Time>>,
}

#[derive(Default)]
struct Tokens {
    rows: HashMap<Digest, Arc<TokenRow>>,
    generation: u64,
}

impl TokenCache {
    /// The row, if it was seen.
    pub fn known(&self, hash: Digest) -> Option<Arc<TokenRow>> {
        lock(&self.entries).rows.get(&hash).cloned()
    }

    /// Changes whenever a row does. Taken before the store is read.
    pub fn generation(&self) -> u64 {
        lock(&self.entries).generation
    }

    /// Remembers a row as it was read, unless one has changed since `generation`: it may be revoked by now.
    pub fn remember(&self, row: Arc<TokenRow>, generation: u64) {
        let mut entries = lock(&self.entries);
        if entries.generation != generation {
            return;
        }
        if entries.rows.len() >= ENTRIES_MAX {
            entries.rows.clear();
        }
        entries.rows.insert(row.hash, row);
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
        let mut entries = lock(&self.entries);
        entries.generation += 1;
        entries.rows.clear();
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

/// Nothing that is done while it is held can panic half-way.
fn lock<V>(entries: &Mutex<V>) -> MutexGuard<'_, V> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::examine;

    fn facts(exports: usize) -> Arc<ModuleFacts> {
        let exports: String = (0..exports).map(|i| format!(r#"(export "{i:01000}" (func 0))"#)).collect();
        let wasm = wat::parse_str(format!("(module (func) {exports})")).unwrap();
        let analysis = Some(examine(&wasm).unwrap());
        Arc::new(ModuleFacts {
            state: ModuleState::Ready,
            analysis,
            refusal: None,
            quarantined: None,
            verify: None,
        })
    }

    #[test]
    fn modules_with_much_to_tell_are_kept_up_to_a_bound_in_bytes() {
        let cache = ModuleCache::default();
        let (small, large) = (facts(1), facts(1_000));
        assert!(large.weight() > 1_000_000, "{}", large.weight());
        cache.remember(Digest::of(b"small"), Arc::clone(&small), 0);
        for number in 0..200_u32 {
            cache.remember(Digest::of(&number.to_be_bytes()), Arc::clone(&large), 0);
            cache.remember(Digest::of(&number.to_be_bytes()), Arc::clone(&large), 0);
            let entries = lock(&cache.entries);
            assert!(entries.bytes <= MODULE_BYTES_MAX);
            assert_eq!(entries.bytes, entries.facts.values().map(|facts| facts.weight()).sum::<usize>());
        }
        assert!(cache.get(Digest::of(b"small")).is_none(), "it was emptied");
        let last = Digest::of(&199_u32.to_be_bytes());
        assert!(cache.get(last).is_some());
        cache.forget(last);
        assert!(cache.get(last).is_none());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let module = Digest::of(b"module");
        let cache = ModuleCache::default();
        let before = cache.generation();
        cache.remember(module, facts(1), before);
        assert!(cache.get(module).is_some());
        // another caller read the row before it changed, and is slow
        cache.forget(module);
        cache.remember(module, facts(1), before);
        assert!(cache.get(module).is_none());
        cache.remember(module, facts(1), cache.generation());
        assert!(cache.get(module).is_some());

        let row = TokenRow {
            id: 1,
            hash: Digest::of(b"token"),
            name: String::new(),
            workspace: crate::id::WorkspaceId::default(),
            scopes: Vec::new(),
            domain: None,
            owned: false,
            arbiter: false,
            created_at: Time(0),
            expires_at: None,
            last_used_at: None,
        };
        let tokens = TokenCache::default();
        let before = tokens.generation();
        tokens.forget_all();
        tokens.remember(Arc::new(row.clone()), before);
        assert!(tokens.known(row.hash).is_none(), "it was revoked");
        tokens.remember(Arc::new(row.clone()), tokens.generation());
        assert!(tokens.known(row.hash).is_some());
    }
}
