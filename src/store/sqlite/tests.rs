//! SQLite held to the conformance suite, and what is its own: locks, schema, full disks, crashes.

use super::*;
use crate::store::conformance::{Place, conformance};

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn store(&self, options: Options) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(self.0.path(), options, Failure::new())
    }
}

#[async_trait::async_trait]
impl Place for Directory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store(Options::default()).unwrap())
    }
}

conformance!(Directory::new());
