//! What several tests of this folder need.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::Time;
use crate::digest::Digest;
use crate::id::{Epoch, RunId, WorkspaceId};
use crate::spec::{Policy, RunSpec};
use crate::store::{BlobRow, NewRun, Store};

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A run of a small module that comes along, under a new id.
pub fn new_run() -> NewRun {
    let module = Bytes::from_static(b"module");
    let spec = RunSpec::new(Digest::of(&module));
    NewRun {
        id: RunId(uuid::Uuid::now_v7().as_u128()),
        workspace: WorkspaceId(0),
        epoch: Epoch(1),
        run_key: spec.key(),
        policy: Policy::default(),
        created_at: Time(1),
        idempotency: None,
        rerun_of: None,
        blobs: vec![(spec.module, module)],
        spec: Arc::new(spec),
    }
}

/// Fills a store with blobs that nothing refers to, until there is no room for a single row more. Collecting them makes
/// room again ([`make_room`]); no chore does so of its own accord.
pub async fn make_full(store: &dyn Store) {
    let at = Time(u64::MAX >> 2);
    for size in [3_000_u64, 1] {
        // one that fails says that its own page is full; so many in a row, that all are
        let mut failed_in_a_row = 0;
        let mut number = 0_u64;
        while failed_in_a_row < 200 {
            let name = [size, number].map(u64::to_be_bytes).concat();
            let inline = (size > 1).then(|| Bytes::from([name.as_slice(), &[0; 2_984]].concat()));
            let digest = inline.as_ref().map_or_else(|| Digest::of(&name), |bytes| Digest::of(bytes));
            let row = BlobRow { size, inline };
            failed_in_a_row =
                if store.put_blob(digest, row, at).await.is_err() { failed_in_a_row + 1 } else { 0 };
            number += 1;
            assert!(number < 100_000, "the store never gets full");
        }
    }
}

/// Polls until `probe` gives something.
pub async fn eventually<T>(mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.expect("waited in vain")
}

/// Makes room in a store that [`make_full`] has filled. A call that shares its transaction with one that finds no room fails
/// with it.
pub async fn make_room(store: &dyn Store) {
    eventually(async || store.take_garbage(Time(u64::MAX), 10_000).await.ok()).await;
}
