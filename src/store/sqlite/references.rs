//! How many rows refer to each blob, counted in the transaction of the row that refers.
//!
//! A holder (a run, a module) counts once per distinct digest, however often it names it. Counts are summed up over
//! a batch, so that a hundred runs of one module change its blob's row once. The empty blob needs no row and is never
//! counted.

use std::collections::HashMap;

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use super::values::{int, split};
use crate::digest::Digest;

/// The changes of one transaction so far.
pub(super) struct References<'c> {
    connection: &'c Connection,
    /// Blobs that are known to have a row, with what is to be added to their count.
    known: HashMap<Digest, i64>,
}

impl<'c> References<'c> {
    pub(super) fn new(connection: &'c Connection) -> References<'c> {
        References { connection, known: HashMap::new() }
    }

    /// Whether a blob may be referred to.
    pub(super) fn exists(&mut self, digest: Digest) -> rusqlite::Result<bool> {
        if digest == Digest::EMPTY || self.known.contains_key(&digest) {
            return Ok(true);
        }
        let mut select = self.connection.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?;
        let found = select.exists(params![digest.as_bytes()])?;
        if found {
            self.known.insert(digest, 0);
        }
        Ok(found)
    }

    /// Counts one more holder; makes the row from `bytes` if there is none.
    pub(super) fn hold(&mut self, digest: Digest, bytes: Option<&Bytes>) -> rusqlite::Result<()> {
        if digest == Digest::EMPTY {
            return Ok(());
        }
        if !self.exists(digest)?
            && let Some(bytes) = bytes
        {
            insert_blob(self.connection, digest, bytes.len() as u64, Some(bytes), 1, 0)?;
            self.known.insert(digest, 0);
            return Ok(());
        }
        *self.known.entry(digest).or_default() += 1;
        Ok(())
    }

    /// Counts one holder less.
    pub(super) fn release(&mut self, digest: Digest) {
        *self.known.entry(digest).or_default() -= 1;
    }

    /// Writes the counts and forgets what is known, because rows may go now.
    pub(super) fn flush(&mut self) -> rusqlite::Result<()> {
        let mut update =
            self.connection.prepare_cached("UPDATE blobs SET refs = refs + ?2 WHERE digest = ?1")?;
        for (digest, change) in self.known.drain() {
            if change != 0 {
                update.execute(params![digest.as_bytes(), change])?;
            }
        }
        Ok(())
    }
}

/// Makes a blob's row; there must be none.
pub(super) fn insert_blob(
    connection: &Connection,
    digest: Digest,
    size: u64,
    inline: Option<&Bytes>,
    refs: i64,
    pinned_until: i64,
) -> rusqlite::Result<()> {
    let bytes_row = match inline {
        Some(bytes) => {
            connection
                .prepare_cached("INSERT INTO blob_bytes (bytes) VALUES (?1)")?
                .execute(params![bytes.as_ref()])?;
            Some(connection.last_insert_rowid())
        }
        None => None,
    };
    connection
        .prepare_cached(
            "INSERT INTO blobs (digest, size, refs, pinned_until, bytes_row) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![digest.as_bytes(), int(size), refs, pinned_until, bytes_row])?;
    Ok(())
}

/// Deletes a blob's row and its inline bytes.
pub(super) fn delete_blob(
    connection: &Connection,
    digest: Digest,
    bytes_row: Option<i64>,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM blobs WHERE digest = ?1")?.execute(params![digest.as_bytes()])?;
    if let Some(row) = bytes_row {
        connection.prepare_cached("DELETE FROM blob_bytes WHERE row = ?1")?.execute(params![row])?;
    }
    Ok(())
}

/// What a run refers to, from its columns `inputs` and `outputs`.
pub(super) fn of_run(inputs: ValueRef<'_>, outputs: ValueRef<'_>) -> rusqlite::Result<Vec<Digest>> {
    let mut digests = split(inputs.as_blob()?);
    digests.extend(split(outputs.as_blob_or_null()?.unwrap_or_default()));
    Ok(digests)
}

/// Counts afresh who refers to what: every blob whose count differs, with the true one.
pub(super) fn miscounted(connection: &Connection) -> rusqlite::Result<Vec<(Digest, i64)>> {
    let mut counts: HashMap<Digest, i64> = HashMap::new();
    let mut runs = connection.prepare("SELECT inputs, outputs FROM runs")?;
    let mut rows = runs.query([])?;
    while let Some(row) = rows.next()? {
        for digest in of_run(row.get_ref(0)?, row.get_ref(1)?)? {
            *counts.entry(digest).or_default() += 1;
        }
    }
    let mut modules = connection.prepare("SELECT digest FROM modules")?;
    let mut rows = modules.query([])?;
    while let Some(row) = rows.next()? {
        *counts.entry(Digest::from_bytes(row.get(0)?)).or_default() += 1;
    }
    let mut differing = Vec::new();
    let mut blobs = connection.prepare("SELECT digest, refs FROM blobs")?;
    let mut rows = blobs.query([])?;
    while let Some(row) = rows.next()? {
        let digest = Digest::from_bytes(row.get(0)?);
        let counted: i64 = row.get(1)?;
        let true_count = counts.remove(&digest).unwrap_or(0);
        if counted != true_count {
            differing.push((digest, true_count));
        }
    }
    // What is left is referred to and has no row: nothing can be set right, but it must be seen.
    differing.extend(counts);
    Ok(differing)
}

/// Sets a count right.
pub(super) fn set_count(connection: &Connection, digest: Digest, count: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE blobs SET refs = ?2 WHERE digest = ?1")?
        .execute(params![digest.as_bytes(), count])?;
    Ok(())
}
