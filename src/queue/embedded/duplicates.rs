//! Duplicate detection: which message ids were sent to a queue within the window.
//!
//! An id counts from the moment it was sent, whether or not its message is due, locked, completed or dead. A duplicate does
//! not prolong that.

use rusqlite::{Connection, OptionalExtension, Result, named_params};
use sha2::{Digest, Sha256};

/// A message id as it is remembered: short, and the same length for all.
pub type IdHash = [u8; 16];

/// How many more forgotten ids are removed with each sending than ids are added: so the table shrinks after a rush.
const SPARE_REMOVALS: i64 = 64;

/// The hash of a message id.
pub fn hash(id: &str) -> IdHash {
    let digest = Sha256::digest(id);
    std::array::from_fn(|at| digest[at])
}

/// Remembers that `id` is sent now; `false` if it was sent after `since` already.
pub fn remember(connection: &Connection, queue: &str, id: &IdHash, now: i64, since: i64) -> Result<bool> {
    let insert = || {
        connection
            .prepare_cached(
                "INSERT INTO sent (queue, id, sent_at) VALUES (:queue, :id, :now) ON CONFLICT (queue, id) DO NOTHING",
            )?
            .execute(named_params! {":queue": queue, ":id": id, ":now": now})
            .map(|added| added == 1)
    };
    let forget = || {
        connection
            .prepare_cached("DELETE FROM sent WHERE queue = :queue AND id = :id AND sent_at <= :since")?
            .execute(named_params! {":queue": queue, ":id": id, ":since": since})
            .map(|removed| removed == 1)
    };
    // Inserted anew rather than updated, so that the numbers stay in the order of time.
    Ok(insert()? || (forget()? && insert()?))
}

/// Removes some of the ids that were sent at or before `since`, more than the `added` ones; how many.
pub fn clean(connection: &Connection, added: usize, since: i64) -> Result<usize> {
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT sent_at FROM sent ORDER BY number LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    if oldest.is_none_or(|oldest| oldest > since) {
        return Ok(0);
    }
    let at_most = i64::try_from(added).unwrap_or(i64::MAX).saturating_add(SPARE_REMOVALS);
    connection
        .prepare_cached(
            "DELETE FROM sent
             WHERE number IN (SELECT number FROM sent ORDER BY number LIMIT :at_most) AND sent_at <= :since",
        )?
        .execute(named_params! {":at_most": at_most, ":since": since})
}
