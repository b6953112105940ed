//! Tables, and how an older database becomes a newer one.
//!
//! Invariants: migrations only go forward and each is one transaction together with its number in `user_version`; a
//! database of a newer build is refused untouched. A published migration is never edited: a change is a new one.

use rusqlite::{Connection, TransactionBehavior};

use super::OpenError;

/// Times are microseconds since the Unix epoch, digests 32 bytes, run ids 16 bytes (big endian: they sort as the ids do).
const MIGRATIONS: &[&str] = &[
    // 1: the first schema.
    "
    CREATE TABLE runs (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        workspace INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        -- 0 while it is not final, then 1 succeeded, 2 failed, 3 canceled
        state INTEGER NOT NULL,
        module BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        finished_at INTEGER,
        idempotency_key TEXT,
        fingerprint BLOB,
        -- the distinct digests that the run refers to since its insertion, one after the other
        inputs BLOB NOT NULL,
        -- those that came with its final and are not among `inputs`
        outputs BLOB,
        -- records.rs: Request, Ending, and the explain log until it is final
        request BLOB NOT NULL,
        ending BLOB,
        explain BLOB
    );
    CREATE UNIQUE INDEX runs_id ON runs (id);
    CREATE UNIQUE INDEX runs_idempotency ON runs (workspace, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE INDEX runs_module ON runs (module, id);
    -- for the restart; small, because most rows are final
    CREATE INDEX runs_open ON runs (id, module) WHERE state = 0;
    -- what people look for among many successes
    CREATE INDEX runs_unsuccessful ON runs (id) WHERE state >= 2;
    -- for the retention
    CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

    -- attempts of runs that are not final; a final run has them in its ending
    CREATE TABLE attempts (
        run INTEGER NOT NULL,
        number INTEGER NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (run, number)
    ) WITHOUT ROWID;

    -- small rows, so that counting references and sums stays cheap; inline bytes are apart
    CREATE TABLE blobs (
        digest BLOB PRIMARY KEY,
        size INTEGER NOT NULL,
        refs INTEGER NOT NULL,
        pinned_until INTEGER NOT NULL,
        bytes_row INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX blobs_garbage ON blobs (pinned_until) WHERE refs = 0;
    CREATE TABLE blob_bytes (row INTEGER PRIMARY KEY, bytes BLOB NOT NULL);

    CREATE TABLE modules (
        row INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        name TEXT,
        state TEXT NOT NULL,
        analysis TEXT,
        refusal_code TEXT,
        refusal_text TEXT,
        quarantined TEXT,
        created_at INTEGER NOT NULL
    );
    CREATE INDEX modules_created ON modules (created_at, digest);

    CREATE TABLE tokens (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        hash BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        workspace INTEGER NOT NULL,
        -- a JSON array of texts
        scopes TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER
    );

    CREATE TABLE workers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        domain TEXT NOT NULL,
        quarantined TEXT,
        created_at INTEGER NOT NULL
    );

    CREATE TABLE evidence (
        row INTEGER PRIMARY KEY,
        worker INTEGER NOT NULL,
        class BLOB NOT NULL,
        kind TEXT NOT NULL,
        run BLOB NOT NULL,
        number INTEGER NOT NULL,
        result BLOB,
        at INTEGER NOT NULL
    );
    CREATE INDEX evidence_worker ON evidence (worker, row);

    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    -- the highest epoch that was ever adopted
    CREATE TABLE epoch (only INTEGER PRIMARY KEY CHECK (only = 0), value INTEGER NOT NULL);
    INSERT INTO epoch VALUES (0, 0);
    ",
    // 2: workers on other machines.
    "
    -- the trust domain in which workers land that enrol with the token; NULL where the token names none
    ALTER TABLE tokens ADD COLUMN domain TEXT;
    ALTER TABLE tokens ADD COLUMN last_used_at INTEGER;

    -- 1 for an agent within the coordinator's process
    ALTER TABLE workers ADD COLUMN embedded INTEGER NOT NULL DEFAULT 0;
    -- the token it enrolled with
    ALTER TABLE workers ADD COLUMN enrolled_by INTEGER;
    -- its latest session, all NULL before the first: labels are a JSON object of texts
    ALTER TABLE workers ADD COLUMN labels TEXT;
    ALTER TABLE workers ADD COLUMN class BLOB;
    ALTER TABLE workers ADD COLUMN version TEXT;
    ALTER TABLE workers ADD COLUMN slots INTEGER;
    ALTER TABLE workers ADD COLUMN connected_at INTEGER;
    -- NULL while it is connected, and after a coordinator that ended without a word
    ALTER TABLE workers ADD COLUMN left_at INTEGER;
    ALTER TABLE workers ADD COLUMN seen_at INTEGER;
    -- until now every worker was embedded
    UPDATE workers SET embedded = 1;
    ",
    // 3: receipts.
    "
    -- votes.rs; NULL until the run is final, and of those that became so before
    ALTER TABLE runs ADD COLUMN votes BLOB;
    ",
    // 4: verification by credibility.
    "
    -- results that a confirmation stands for; 1 for everything else
    ALTER TABLE evidence ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
    -- what the whole log of a worker in a class says, also of entries that were trimmed: see core::Standing
    CREATE TABLE standings (
        worker INTEGER NOT NULL,
        class BLOB NOT NULL,
        k_milli INTEGER NOT NULL,
        suspect_since INTEGER,
        day INTEGER NOT NULL,
        PRIMARY KEY (worker, class)
    ) WITHOUT ROWID;
    -- 1 for machines of the operator, and for trusted executors
    ALTER TABLE tokens ADD COLUMN owned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE tokens ADD COLUMN arbiter INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE workers ADD COLUMN owned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE workers ADD COLUMN arbiter INTEGER NOT NULL DEFAULT 0;
    UPDATE workers SET owned = 1 WHERE embedded = 1;
    -- how runs of it are verified that ask for nothing else; NULL: as the pool does
    ALTER TABLE modules ADD COLUMN verify TEXT;
    ",
    // 5: what rested on a worker is verified anew.
    "
    -- of its final; only a correction raises it
    ALTER TABLE runs ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
    -- the place of its final in the order in which what finals rest on changed last; NULL until it is final
    ALTER TABLE runs ADD COLUMN seq INTEGER;
    -- on whom it rests, four bytes each: what `supports` has of it
    ALTER TABLE runs ADD COLUMN supporters BLOB;
    -- records.rs: what verifying it anew said last; votes.rs: the votes that confirmed it
    ALTER TABLE runs ADD COLUMN reverified BLOB;
    ALTER TABLE runs ADD COLUMN confirmations BLOB;
    CREATE TABLE sequence (only INTEGER PRIMARY KEY CHECK (only = 0), value INTEGER NOT NULL);
    INSERT INTO sequence SELECT 0, coalesce(max(row), 0) FROM runs;
    -- finals by the workers that voted for what won, or confirmed it
    CREATE TABLE supports (
        worker INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        run INTEGER NOT NULL,
        PRIMARY KEY (worker, seq)
    ) WITHOUT ROWID;
    -- revisions that were replaced; what they refer to is among the run's outputs
    CREATE TABLE revisions (
        run INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        state INTEGER NOT NULL,
        ending BLOB NOT NULL,
        votes BLOB,
        reverified BLOB,
        PRIMARY KEY (run, revision)
    ) WITHOUT ROWID;

    ALTER TABLE workers ADD COLUMN for_votes INTEGER NOT NULL DEFAULT 0;
    -- faults of integrity that may be taken back, see evidence.rs; whether there are more
    ALTER TABLE standings ADD COLUMN lapses BLOB;
    ALTER TABLE standings ADD COLUMN has_more INTEGER NOT NULL DEFAULT 0;
    -- workers whose finals are looked at
    CREATE TABLE repairs (
        worker INTEGER PRIMARY KEY,
        since INTEGER NOT NULL,
        why TEXT NOT NULL,
        finals INTEGER NOT NULL,
        looked_at INTEGER NOT NULL DEFAULT 0,
        decisive INTEGER NOT NULL DEFAULT 0,
        confirmed INTEGER NOT NULL DEFAULT 0,
        corrected INTEGER NOT NULL DEFAULT 0,
        undecided INTEGER NOT NULL DEFAULT 0,
        not_verifiable INTEGER NOT NULL DEFAULT 0,
        -- up to which `seq`
        cursor INTEGER NOT NULL DEFAULT 0,
        is_complete INTEGER NOT NULL DEFAULT 0,
        lifted_at INTEGER
    );
    -- finals that wait to be verified anew
    CREATE TABLE suspects (
        run BLOB NOT NULL,
        worker INTEGER NOT NULL,
        error_ppb INTEGER NOT NULL,
        finished_at INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        -- 0: now
        due_at INTEGER NOT NULL DEFAULT 0,
        numbers INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (run, worker)
    ) WITHOUT ROWID;
    CREATE INDEX suspects_worker ON suspects (worker);
    CREATE INDEX suspects_due ON suspects (error_ppb DESC, finished_at DESC, run, tries, numbers) WHERE due_at = 0;
    CREATE INDEX suspects_resting ON suspects (due_at) WHERE due_at > 0;

    -- finals of before, by the votes that their endings have; a row that is no JSON any more rests on nobody
    UPDATE runs SET
        seq = row,
        supporters = (
            SELECT unhex(group_concat(printf('%08x', worker), '')) FROM (
                SELECT DISTINCT CAST(substr(json_extract(attempt.value, '$.worker'), 2) AS INTEGER) AS worker
                FROM json_each(
                    CASE WHEN json_valid(CAST(ending AS TEXT)) THEN CAST(ending AS TEXT) ELSE '{}' END,
                    '$.record.attempts') AS attempt
                WHERE json_extract(attempt.value, '$.state.voted.won') = 1))
        WHERE ending IS NOT NULL;
    INSERT OR IGNORE INTO supports (worker, seq, run)
        SELECT CAST(substr(json_extract(attempt.value, '$.worker'), 2) AS INTEGER), runs.row, runs.row
        FROM runs, json_each(
            CASE WHEN json_valid(CAST(runs.ending AS TEXT)) THEN CAST(runs.ending AS TEXT) ELSE '{}' END,
            '$.record.attempts') AS attempt
        WHERE runs.ending IS NOT NULL AND json_extract(attempt.value, '$.state.voted.won') = 1;
    -- of those that are out already nobody has looked yet
    INSERT INTO repairs (worker, since, why, finals)
        SELECT id, CAST(strftime('%s', 'now') AS INTEGER) * 1000000, quarantined,
            (SELECT count(*) FROM supports WHERE worker = workers.id)
        FROM workers WHERE quarantined IS NOT NULL;
    ",
    // 6: callbacks, what a workspace has settled, and modules that were found out.
    "
    -- what is to be told to others when a revision becomes final: made in the transaction of that final, gone with its run
    CREATE TABLE callbacks (
        row INTEGER PRIMARY KEY,
        -- of the run
        run INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        url TEXT NOT NULL,
        -- host and port of the URL: no receiver may take all of the deliverer's places
        receiver TEXT NOT NULL,
        -- 0 pending, 1 delivered, 2 given up
        state INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
        -- from when its tries and their time count: since then it was made, or asked for again
        since INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        last_at INTEGER,
        last_status INTEGER,
        last_error TEXT,
        -- NULL unless it is pending
        next_at INTEGER
    );
    CREATE UNIQUE INDEX callbacks_run ON callbacks (run, revision);
    CREATE INDEX callbacks_due ON callbacks (next_at) WHERE next_at IS NOT NULL;

    -- a workspace without a row has settled nothing
    CREATE TABLE workspaces (id INTEGER PRIMARY KEY, verify TEXT);

    -- the run that showed a module to be nondeterministic, and when
    ALTER TABLE modules ADD COLUMN nondeterministic_run BLOB;
    ALTER TABLE modules ADD COLUMN nondeterministic_at INTEGER;
    CREATE INDEX modules_nondeterministic ON modules (digest) WHERE nondeterministic_at IS NOT NULL;
    ",
    // 7: results that answer equal runs.
    "
    -- 1 for finals that may; few enough that their index is small
    ALTER TABLE runs ADD COLUMN reusable INTEGER;
    CREATE INDEX runs_reusable ON runs (id) WHERE reusable = 1;
    -- withdrawal.rs; what is NULL is not looked at
    CREATE TABLE withdrawals (
        row INTEGER PRIMARY KEY,
        workspace INTEGER,
        run BLOB,
        worker INTEGER,
        class BLOB,
        module BLOB,
        after INTEGER,
        before INTEGER,
        until INTEGER NOT NULL
    );
    ",
    // 8: how many finals there are; whose turn it is among the receivers of callbacks; results that rest on one word.
    "
    -- of what is counted too often to be counted each time
    CREATE TABLE counts (only INTEGER PRIMARY KEY CHECK (only = 0), finals INTEGER NOT NULL);
    INSERT INTO counts SELECT 0, count(*) FROM runs WHERE finished_at IS NOT NULL;

    ALTER TABLE withdrawals ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;

    -- that of the run
    ALTER TABLE callbacks ADD COLUMN workspace INTEGER NOT NULL DEFAULT 0;
    UPDATE callbacks SET workspace = coalesce((SELECT workspace FROM runs WHERE runs.row = callbacks.run), 0);
    DROP INDEX callbacks_due;
    CREATE INDEX callbacks_pending ON callbacks (workspace, receiver, next_at) WHERE next_at IS NOT NULL;
    -- who has pending ones, and how many; kept true by the triggers below
    CREATE TABLE receivers (
        workspace INTEGER NOT NULL,
        receiver TEXT NOT NULL,
        pending INTEGER NOT NULL,
        -- when the last try ended, of those since when some are pending; 0: none did
        tried_at INTEGER NOT NULL,
        -- when its turn comes: when its first one is due, and behind all that waited when it was tried last
        turn_at INTEGER NOT NULL,
        PRIMARY KEY (workspace, receiver)
    ) WITHOUT ROWID;
    CREATE INDEX receivers_turn ON receivers (turn_at);
    CREATE INDEX receivers_pending ON receivers (pending);
    CREATE TABLE outboxes (workspace INTEGER PRIMARY KEY, pending INTEGER NOT NULL);
    INSERT INTO receivers SELECT workspace, receiver, count(*), 0, min(next_at) FROM callbacks
        WHERE next_at IS NOT NULL GROUP BY workspace, receiver;
    INSERT INTO outboxes SELECT workspace, count(*) FROM callbacks WHERE next_at IS NOT NULL GROUP BY workspace;

    CREATE TRIGGER callbacks_made AFTER INSERT ON callbacks WHEN new.next_at IS NOT NULL BEGIN
        INSERT INTO outboxes VALUES (new.workspace, 1)
            ON CONFLICT (workspace) DO UPDATE SET pending = pending + 1;
        INSERT INTO receivers VALUES (new.workspace, new.receiver, 1, 0, new.next_at)
            ON CONFLICT (workspace, receiver) DO UPDATE SET pending = pending + 1,
                turn_at = max(tried_at, (SELECT min(next_at) FROM callbacks
                    WHERE workspace = new.workspace AND receiver = new.receiver AND next_at IS NOT NULL));
    END;
    CREATE TRIGGER callbacks_again AFTER UPDATE OF next_at ON callbacks
    WHEN old.next_at IS NULL AND new.next_at IS NOT NULL BEGIN
        INSERT INTO outboxes VALUES (new.workspace, 1)
            ON CONFLICT (workspace) DO UPDATE SET pending = pending + 1;
        INSERT INTO receivers VALUES (new.workspace, new.receiver, 1, 0, new.next_at)
            ON CONFLICT (workspace, receiver) DO UPDATE SET pending = pending + 1,
                turn_at = max(tried_at, (SELECT min(next_at) FROM callbacks
                    WHERE workspace = new.workspace AND receiver = new.receiver AND next_at IS NOT NULL));
    END;
    CREATE TRIGGER callbacks_tried AFTER UPDATE OF next_at ON callbacks WHEN old.next_at IS NOT NULL BEGIN
        UPDATE outboxes SET pending = pending - (new.next_at IS NULL) WHERE workspace = new.workspace;
        UPDATE receivers SET pending = pending - (new.next_at IS NULL),
            tried_at = max(tried_at, coalesce(new.last_at, 0)),
            turn_at = max(tried_at, coalesce(new.last_at, 0), coalesce((SELECT min(next_at) FROM callbacks
                WHERE workspace = new.workspace AND receiver = new.receiver AND next_at IS NOT NULL), 0))
            WHERE workspace = new.workspace AND receiver = new.receiver;
        DELETE FROM receivers WHERE workspace = new.workspace AND receiver = new.receiver AND pending = 0;
    END;
    CREATE TRIGGER callbacks_gone AFTER DELETE ON callbacks WHEN old.next_at IS NOT NULL BEGIN
        UPDATE outboxes SET pending = pending - 1 WHERE workspace = old.workspace;
        UPDATE receivers SET pending = pending - 1,
            turn_at = max(tried_at, coalesce((SELECT min(next_at) FROM callbacks
                WHERE workspace = old.workspace AND receiver = old.receiver AND next_at IS NOT NULL), 0))
            WHERE workspace = old.workspace AND receiver = old.receiver;
        DELETE FROM receivers WHERE workspace = old.workspace AND receiver = old.receiver AND pending = 0;
    END;
    ",
    // 9: corrections reach the runs that were answered with what turned out wrong.
    "
    -- the row of the run that computed its result, if that is another one; it stays as long as this one does
    ALTER TABLE runs ADD COLUMN source INTEGER;
    CREATE INDEX runs_source ON runs (source) WHERE source IS NOT NULL;
    -- 1 for a final that retention would have taken, but for those that have its result
    ALTER TABLE runs ADD COLUMN held INTEGER;
    DROP INDEX runs_finished;
    CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL AND held IS NULL;
    -- finals that were corrected, and how far those are that have their results
    CREATE TABLE corrections (
        -- row of the run that computed it
        run INTEGER PRIMARY KEY,
        -- on whose account it was verified anew, four bytes each
        workers BLOB NOT NULL,
        -- 1 while some may have a result of before, behind the row `cursor`
        due INTEGER NOT NULL,
        cursor INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX corrections_due ON corrections (run) WHERE due = 1;
    -- runs that were corrected along
    ALTER TABLE repairs ADD COLUMN dependents INTEGER NOT NULL DEFAULT 0;

    -- answers of before, by what their endings say; they rest on nobody
    UPDATE runs SET source = (
        SELECT other.row FROM runs AS other
        WHERE other.state > 0 AND other.id = unhex(coalesce(
            json_extract(CAST(runs.ending AS TEXT), '$.record.cached_from'),
            json_extract(CAST(runs.ending AS TEXT), '$.record.shared_with')), '-'))
        WHERE ending IS NOT NULL AND coalesce(length(supporters), 0) = 0 AND json_valid(CAST(ending AS TEXT));
    -- those of which the result was corrected since have it still
    INSERT INTO corrections (run, workers, due) SELECT row, x'', 1 FROM runs WHERE revision > 1;
    ",
    // 10: confirmations are worth something with the classes for portable results that they were earned with.
    "
    -- those of its latest evidence; NULL of before
    ALTER TABLE standings ADD COLUMN results BLOB;
    ALTER TABLE standings ADD COLUMN code BLOB;
    ",
];

/// This build's schema.
#[cfg(test)]
pub(super) const NEWEST: usize = MIGRATIONS.len();

/// Brings the database to this build's schema.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let known = MIGRATIONS.len();
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    if done > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    migrate_to(connection, done, known)
}

/// Takes the steps beyond the first `done`, up to the one numbered `last`.
pub(super) fn migrate_to(connection: &mut Connection, done: usize, last: usize) -> Result<(), OpenError> {
    for (number, script) in (1_u32..).zip(&MIGRATIONS[..last]).skip(done) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(script)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}
