//! SQLite held to the conformance suite, and what is its own: locks, schema, full disks, I/O errors, crashes.

mod crash;

use std::process::Command;

use super::*;
use crate::store::conformance::fixtures::*;
use crate::store::conformance::{Place, conformance};

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn store(&self, options: Options) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(self.0.path(), options, Failure::new())
    }

    /// Somebody else's hands in the database.
    fn tamper(&self, sql: &str) {
        let connection = Connection::open(self.0.path().join(DATABASE_FILE)).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

#[async_trait::async_trait]
impl Place for Directory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store(Options::default()).unwrap())
    }
}

conformance!(Directory::new());

/// Somebody else who holds the database below `directory`: nothing can be written until this is dropped.
pub(crate) fn held(directory: &Path) -> Connection {
    let database = Connection::open(directory.join("lockstep.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    database
}

/// A file system of a few MiB in memory; unmounted when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not permitted.
    pub(crate) fn mount(size: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(SmallDisk(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because files may still be open for a moment.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).output());
    }
}

#[tokio::test]
async fn a_directory_is_open_once_at_a_time() {
    let directory = Directory::new();
    let store = directory.store(Options::default()).unwrap();
    let second = directory.store(Options::default()).map(drop);
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    assert!(second.unwrap_err().to_string().contains("in use by another process"));
    store.close().await;
    directory.store(Options::default()).unwrap().close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched() {
    let directory = Directory::new();
    directory.open().await.close().await;
    directory.tamper("PRAGMA user_version = 4711");
    let refused = directory.store(Options::default()).map(drop);
    assert!(matches!(refused, Err(OpenError::NewerSchema { found: 4711, .. })), "{refused:?}");
    directory.tamper(&format!("PRAGMA user_version = {}", schema::NEWEST));
    directory.open().await.close().await;
}

#[tokio::test]
async fn a_database_of_the_first_schema_becomes_one_of_the_newest() {
    let directory = Directory::new();
    let mut connection = Connection::open(directory.0.path().join(DATABASE_FILE)).unwrap();
    schema::migrate_to(&mut connection, 0, 1).unwrap();
    connection
        .execute_batch(
            "INSERT INTO tokens (hash, name, workspace, scopes, created_at) VALUES (zeroblob(32), 'admin', 0, '[\"admin\"]', 7);
             INSERT INTO workers (key, name, domain, quarantined, created_at) VALUES (zeroblob(32), 'local-1', 'local', 'lied', 8);",
        )
        .unwrap();
    drop(connection);
    // twice: the second time there is nothing to do
    for _ in 0..2 {
        let store = directory.open().await;
        let token = &store.tokens().await.unwrap()[0];
        assert_eq!((token.name.as_str(), &token.domain, token.last_used_at), ("admin", &None, None));
        let worker = &store.workers().await.unwrap()[0];
        assert_eq!((worker.name.as_str(), worker.quarantined.as_deref()), ("local-1", Some("lied")));
        assert!(worker.embedded, "the first schema knew no others");
        assert_eq!((worker.enrolled_by, &worker.session), (None, &None));
        store.note_tokens_used(vec![(token.id, Time(9))]).await.unwrap();
        assert_eq!(store.tokens().await.unwrap()[0].last_used_at, Some(Time(9)));
        store.close().await;
        directory.tamper("UPDATE tokens SET last_used_at = NULL");
    }
}

#[tokio::test]
async fn answers_of_before_are_corrected_along_after_the_upgrade() {
    use crate::store::records::{Ending, Request};
    use crate::store::{FinalRun, Source};

    let directory = Directory::new();
    let mut connection = Connection::open(directory.0.path().join(DATABASE_FILE)).unwrap();
    schema::migrate_to(&mut connection, 0, 7).unwrap();
    let insert = "INSERT INTO runs (id, workspace, epoch, state, module, created_at, finished_at, inputs, outputs, request,
                      ending, votes, seq, supporters, revision)
                  VALUES (?1, 0, 1, 1, zeroblob(32), 1, ?2, x'', x'', ?3, ?4, ?5, ?2, ?6, ?7)";
    // the second revision of the first, and what was answered with another result before that; the last one's is gone
    let sources = [
        None,
        Some(Source::Cached(run_id(1))),
        Some(Source::Shared(run_id(1))),
        Some(Source::Cached(run_id(9))),
    ];
    for (number, source) in (1_u64..).zip(sources) {
        let mut end = FinalRun { source, ..final_run(number, Time(50)) };
        let votes = crate::store::votes::encode(&end.votes);
        end.record.revision = if source.is_none() { 2 } else { 1 };
        if source.is_some() {
            end.record.attempts.clear();
        }
        let supporters: &[u8] = if source.is_none() { &[0, 0, 0, 2] } else { &[] };
        let row = rusqlite::params![
            values::run_key(run_id(number)),
            50 + number as i64,
            Request::encode(&new_run(number)),
            Ending::encode(&end),
            votes,
            supporters,
            end.record.revision,
        ];
        connection.execute(insert, row).unwrap();
    }
    drop(connection);
    let store = directory.open().await;
    for name in ["stdout of 1", "picture"] {
        put(&*store, name, FOREVER).await;
    }
    let right = store.run(run_id(1)).await.unwrap().unwrap();
    let manifest = right.manifest.clone().unwrap();
    let row = BlobRow { size: 1, inline: Some(manifest.canonical().into()) };
    store.put_blob(right.result.unwrap(), row, FOREVER).await.unwrap();
    let followed = store.follow_corrections(Time(90), 9, 9).await.unwrap();
    let ids: Vec<_> = followed.corrected.iter().map(|run| run.id).collect();
    assert_eq!((ids, followed.has_more), ([2, 3].map(run_id).to_vec(), false));
    for number in [2, 3] {
        let run = store.run(run_id(number)).await.unwrap().unwrap();
        assert_eq!((run.revision, run.result), (2, right.result));
        assert_eq!(store.revisions(run.id).await.unwrap().len(), 2);
    }
    assert_eq!(store.run(run_id(4)).await.unwrap().unwrap().revision, 1);
}

#[tokio::test]
async fn finals_of_before_are_found_by_those_that_they_rest_on() {
    use crate::store::records::{Ending, Request};

    let directory = Directory::new();
    let mut connection = Connection::open(directory.0.path().join(DATABASE_FILE)).unwrap();
    schema::migrate_to(&mut connection, 0, 4).unwrap();
    let insert = "INSERT INTO runs (id, workspace, epoch, state, module, created_at, finished_at, inputs, outputs, request, ending)
                  VALUES (?1, 0, 1, ?2, zeroblob(32), 1, ?3, x'', x'', ?4, ?5)";
    for number in 1..=4_u64 {
        let ending = match number {
            // still open, and damaged
            1 => None,
            4 => Some(b"{".to_vec()),
            _ => Some(Ending::encode(&final_run(number, Time(50)))),
        };
        let at = ending.as_ref().map(|_| 50);
        let state = i64::from(ending.is_some());
        let row = rusqlite::params![
            values::run_key(run_id(number)),
            state,
            at,
            Request::encode(&new_run(number)),
            ending
        ];
        connection.execute(insert, row).unwrap();
    }
    connection
        .execute_batch(
            "INSERT INTO workers (id, key, name, domain, quarantined, created_at) VALUES
                 (1, zeroblob(32), 'one', 'lab', NULL, 8), (2, x'01', 'two', 'lab', 'lied', 8);",
        )
        .unwrap();
    drop(connection);
    let store = directory.open().await;
    let found = store.supported_finals(WorkerId(2), 0, 9).await.unwrap();
    assert_eq!(found.iter().map(|last| last.run.id).collect::<Vec<_>>(), [2, 3].map(run_id));
    assert!(store.supported_finals(WorkerId(4), 0, 9).await.unwrap().is_empty(), "its vote had lost");
    let repair = store.repairs().await.unwrap().remove(0);
    assert_eq!((repair.worker, repair.finals, repair.is_complete), (WorkerId(2), 2, false));
    assert!(repair.since > Time(1_700_000_000_000_000));
    // what ends from now on comes behind them
    assert_eq!(write(&*store, finish(final_run(1, Time(60)))).await.unwrap(), WriteAnswer::Committed);
    let behind = store.supported_finals(WorkerId(2), found[1].seq, 9).await.unwrap();
    assert_eq!(behind.iter().map(|last| last.run.id).collect::<Vec<_>>(), [run_id(1)]);
    store.close().await;
    directory.tamper("DELETE FROM runs WHERE ending = x'7b'");
    let store = directory.open().await;
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 9 };
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 3);
    assert!(store.supported_finals(WorkerId(2), 0, 9).await.unwrap().is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_final_of_an_older_build_has_no_votes_and_damaged_ones_are_no_votes() {
    let directory = Directory::new();
    let store = directory.open().await;
    store.write_runs(vec![insert(new_run(1)), finish(final_run(1, Time(50)))].into()).await.unwrap();
    store.close().await;
    directory.tamper("UPDATE runs SET votes = NULL");
    let store = directory.open().await;
    assert_eq!(store.votes(run_id(1), 1).await.unwrap(), None);
    store.close().await;
    directory.tamper("UPDATE runs SET votes = x'0101'");
    let store = directory.open().await;
    assert!(matches!(store.votes(run_id(1), 1).await, Err(StoreError::Decode { .. })));
    let last = store.supported_finals(WorkerId(2), 0, 9).await.unwrap().remove(0);
    assert_eq!((last.run.id, last.votes), (run_id(1), Vec::new()));
    // a row that is damaged itself stands in nobody's way
    store.write_runs(vec![insert(new_run(2)), finish(final_run(2, Time(51)))].into()).await.unwrap();
    store.close().await;
    directory.tamper("UPDATE runs SET ending = x'0101' WHERE row = 1");
    let store = directory.open().await;
    let found = store.supported_finals(WorkerId(2), 0, 1).await.unwrap();
    assert_eq!(found.iter().map(|last| last.run.id).collect::<Vec<_>>(), [run_id(2)]);
    store.close().await;
}

#[test]
fn an_old_sqlite_is_refused() {
    assert!(check_version(3_051_002, "3.51.2").is_err());
    assert!(check_version(3_051_003, "3.51.3").is_ok());
    assert!(check_version(rusqlite::version_number(), rusqlite::version()).is_ok());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = Directory::new();
    std::fs::write(directory.0.path().join(DATABASE_FILE), [7; 8_192]).unwrap();
    let refused = directory.store(Options::default()).map(drop);
    assert!(matches!(refused, Err(OpenError::Sqlite(_))), "{refused:?}");
}

#[tokio::test]
async fn a_row_that_does_not_decode_is_an_error_of_its_own() {
    let directory = Directory::new();
    let store = directory.open().await;
    insert_all(&*store, [1, 2]).await;
    store.close().await;
    directory.tamper(r#"UPDATE runs SET request = CAST('{"v":9,"record":{}}' AS BLOB) WHERE row = 1"#);
    let store = directory.open().await;
    let refused = store.run(run_id(1)).await.map(drop);
    let expected = "a stored run request does not decode: version 9 is not known to this build";
    assert_eq!(refused.unwrap_err().to_string(), expected);
    assert!(store.run(run_id(2)).await.unwrap().is_some());
    // it can still be finished, and then retained away
    write(&*store, finish(canceled(1, Time(5)))).await.unwrap();
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 9 };
    assert_eq!(store.retain(everything).await.unwrap().gone.len(), 1);
}

#[tokio::test]
async fn the_self_check_finds_and_repairs_wrong_counts() {
    let directory = Directory::new();
    let store = directory.open().await;
    insert_all(&*store, [1]).await;
    put(&*store, "loose", FOREVER).await;
    store.close().await;
    directory.tamper("UPDATE blobs SET refs = 1 - refs");
    let store = directory.open().await;
    let found: std::collections::BTreeSet<_> =
        store.recount_references().await.unwrap().into_iter().collect();
    assert_eq!(found, ["module", "stdin", "file", "loose"].map(digest).into());
    check_references(&*store).await;
    assert_eq!(store.take_garbage(Time(0), 9).await.unwrap().taken, 0);
}

#[tokio::test]
async fn a_full_database_refuses_writes_and_goes_on_when_there_is_room() {
    let directory = Directory::new();
    let failure = Failure::new();
    let options = Options { pages_max: Some(200) };
    let store = SqliteStore::open(directory.0.path(), options, failure.clone()).unwrap();
    full_disk(&store, &failure).await;
    // room is made by the retention itself
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 9_999 };
    assert!(!store.retain(everything).await.unwrap().gone.is_empty());
    assert!(store.take_garbage(FOREVER, 9_999).await.unwrap().taken > 0);
    insert_all(&store, [9_999]).await;
    check_references(&store).await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("6M") else {
        eprintln!("not permitted to mount a small disk: skipped");
        return;
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 3 << 20]).unwrap();
    let failure = Failure::new();
    let store = SqliteStore::open(disk.path(), Options::default(), failure.clone()).unwrap();
    full_disk(&store, &failure).await;
    std::fs::remove_file(ballast).unwrap();
    insert_all(&store, [9_999]).await;
    check_references(&store).await;
    store.close().await;
}

/// Writes runs of 8 KiB until the disk is full; then what was answered must be there and nothing else.
async fn full_disk(store: &SqliteStore, failure: &Failure) {
    let mut there = 0;
    let refused = loop {
        let number = there + 1;
        let mut end = final_run(number, Time(number));
        end.blobs.push(blob(&format!("{number:08192}")));
        // the first of the batch would fit where the second does not
        let writes = vec![insert(new_run(number)), finish(end), insert(new_run(number + 5_000))];
        match store.write_runs(writes.into()).await {
            Ok(answers) => assert_eq!(answers, vec![WriteAnswer::Committed; 3]),
            Err(error) => break error,
        }
        there += 1;
        assert!(there < 4_000);
    };
    assert!(matches!(refused, StoreError::Full), "{refused:?}");
    assert!(there > 10, "{there}");
    assert_eq!(failure.reason(), None);
    assert_eq!(store.usage().await.unwrap().runs, 2 * there, "nothing of the refused batch is there");
    assert!(store.run(run_id(there)).await.unwrap().is_some());
    assert!(store.run(run_id(there + 1)).await.unwrap().is_none());
    let end = store.run(run_id(there + 5_000)).await.unwrap();
    assert!(end.is_some());
    check_references(store).await;
}

#[tokio::test]
async fn every_list_has_its_index() {
    let directory = Directory::new();
    directory.open().await.close().await;
    let connection = Connection::open(directory.0.path().join(DATABASE_FILE)).unwrap();
    let plan = |condition: &str, order: &str| -> String {
        let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM runs WHERE {condition} ORDER BY {order} LIMIT 9");
        let mut plan = connection.prepare(&sql).unwrap();
        let lines = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    for (condition, order, index) in [
        ("true", "id DESC", "runs_id"),
        ("true AND id < x'01'", "id DESC", "runs_id"),
        ("true AND module = x'01'", "id DESC", "runs_module"),
        ("true AND id < x'01' AND module = x'01'", "id DESC", "runs_module"),
        ("true AND state = 0 AND state = 0", "id DESC", "runs_open"),
        ("true AND state >= 2 AND state = 2", "id DESC", "runs_unsuccessful"),
        ("finished_at IS NOT NULL AND held IS NULL", "finished_at DESC, row DESC", "runs_finished"),
        ("finished_at IS NOT NULL AND held IS NULL", "finished_at, row", "runs_finished"),
        ("source = 1 AND row > 2", "row", "runs_source"),
    ] {
        let plan = plan(condition, order);
        assert!(plan.contains(index), "{condition}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{condition}: {plan}");
    }
    for (sql, index) in [
        (
            "SELECT run, tries, numbers FROM suspects WHERE due_at = 0
             ORDER BY error_ppb DESC, finished_at DESC, run LIMIT 9",
            "suspects_due",
        ),
        ("SELECT run FROM suspects WHERE due_at > 0 AND due_at <= 9", "suspects_resting"),
        ("SELECT count(*) FROM suspects WHERE worker = 1", "suspects_worker"),
        (
            "SELECT run, cursor, workers FROM corrections WHERE due = 1 ORDER BY run LIMIT 1",
            "corrections_due",
        ),
        ("SELECT run FROM supports WHERE worker = 1 AND seq > 2 ORDER BY seq LIMIT 9", "PRIMARY KEY"),
    ] {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
        let plan = lines.map(Result::unwrap).collect::<Vec<_>>().join("; ");
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[test]
fn calls_that_share_a_transaction_see_each_other_and_count_as_if_apart() {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection).unwrap();
    let mut batch = batch::Batch::new(&connection);
    let write = |batch: &mut batch::Batch<'_>, write| batch.write_run(PreparedWrite::of(&write)).unwrap();
    let everything = Retention { finished_before: FOREVER, runs_max: 0, batch_max: 9 };
    let bare = |number| {
        let mut run = new_run(number);
        run.blobs.clear();
        insert(run)
    };
    // an insertion that is held back is a row for whoever comes next
    assert_eq!(write(&mut batch, insert(new_run(1))), WriteAnswer::Committed);
    assert_eq!(write(&mut batch, bare(2)), WriteAnswer::Committed);
    assert_eq!(done(rows::delete_module(&mut batch, digest("module"))), WriteAnswer::Refused);
    assert_eq!(done(rows::take_garbage(&mut batch, FOREVER, 9)).taken, 0);
    let epoch = done(rows::adopt_open_runs(&mut batch));
    assert_eq!(write(&mut batch, finish(canceled(1, Time(5)))), WriteAnswer::Refused);
    for number in [1, 2] {
        let mut end = canceled(number, Time(number));
        end.record.epoch = epoch;
        assert_eq!(write(&mut batch, finish(end)), WriteAnswer::Committed);
    }
    // what one call frees is gone for the next
    assert_eq!(done(rows::retain(&mut batch, everything)).gone.len(), 2);
    assert_eq!(done(rows::take_garbage(&mut batch, FOREVER, 9)).taken, 3);
    assert!(matches!(write(&mut batch, bare(3)), WriteAnswer::MissingBlob(_)));
    assert_eq!(write(&mut batch, insert(new_run(3))), WriteAnswer::Committed);
    batch.flush().unwrap();
    assert_eq!(references::miscounted(&connection).unwrap(), vec![]);
}

fn done<T>(result: Result<T, writer::Abort>) -> T {
    match result {
        Ok(value) => value,
        Err(writer::Abort::Sql(error)) => panic!("{error}"),
        Err(writer::Abort::Own(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_number_of_finals_is_known_without_counting_and_true() {
    let directory = Directory::new();
    let mut connection = Connection::open(directory.0.path().join(DATABASE_FILE)).unwrap();
    schema::migrate_to(&mut connection, 0, 7).unwrap();
    for (number, at) in [(91, Some(1)), (92, Some(2)), (93, None)] {
        let insert =
            "INSERT INTO runs (id, workspace, epoch, state, module, created_at, finished_at, inputs, request)
                      VALUES (?1, 0, 1, ?2, zeroblob(32), 1, ?3, x'', x'')";
        let row = rusqlite::params![values::run_key(run_id(number)), i64::from(at.is_some()), at];
        connection.execute(insert, row).unwrap();
    }
    drop(connection);
    let store = directory.open().await;
    let is_true = || {
        let connection = Connection::open(directory.0.path().join(DATABASE_FILE)).unwrap();
        let both = "SELECT finals, (SELECT count(*) FROM runs WHERE finished_at IS NOT NULL) FROM counts";
        let (kept, counted): (i64, i64) =
            connection.query_row(both, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(kept, counted);
        kept
    };
    assert_eq!(is_true(), 2, "those of before");
    // in one commit with their insertion, in one of their own, refused, corrected, gone
    insert_all(&*store, [1, 2, 3]).await;
    assert_eq!(write(&*store, finish(canceled(1, Time(5)))).await.unwrap(), WriteAnswer::Committed);
    assert_eq!(write(&*store, finish(canceled(1, Time(6)))).await.unwrap(), WriteAnswer::Refused);
    let whole = vec![insert(new_run(4)), finish(canceled(4, Time(7))), finish(canceled(2, Time(8)))];
    store.write_runs(whole.into()).await.unwrap();
    let mut second = canceled(2, Time(9));
    second.record.revision = 2;
    assert_eq!(write(&*store, correct(second)).await.unwrap(), WriteAnswer::Committed);
    assert_eq!(is_true(), 5);
    let newest = Retention { finished_before: Time(0), runs_max: 2, batch_max: 2 };
    assert_eq!(store.retain(newest).await.unwrap().gone, [91, 92].map(run_id));
    assert_eq!(store.retain(newest).await.unwrap().gone, [run_id(1)]);
    assert_eq!((store.retain(newest).await.unwrap().gone.len(), is_true()), (0, 2));
    store.close().await;
}
