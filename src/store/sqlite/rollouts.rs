//! Statements about rollouts and about what belongs to no single deployment: idempotency keys, wanted versions, throttles.

use rusqlite::{Connection, OptionalExtension, Result, named_params};

use crate::rollout::{Rollout, RolloutId};
use crate::sqlite::to_nanos;
use crate::store::{Saved, Versioned};

use super::record::{Guard, Record, saved, write};

/// The columns of a rollout that is to be written.
pub struct Row {
    id: RolloutId,
    created_at: i64,
    is_ended: bool,
    body: String,
    guard: Guard,
}

impl Row {
    /// The columns of `rollout`.
    pub fn of(rollout: &Versioned<Rollout>) -> Self {
        Self {
            id: rollout.value.id,
            created_at: to_nanos(rollout.value.created_at),
            is_ended: rollout.value.state.is_ended(),
            body: write(&rollout.value),
            guard: Guard::of(rollout),
        }
    }
}

/// One rollout.
pub fn one(connection: &Connection, id: RolloutId) -> Result<Option<Record>> {
    connection
        .prepare_cached("SELECT etag, body FROM rollouts WHERE id = :id")?
        .query_row(named_params! {":id": id.0.as_bytes()}, |row| Record::from_row(row, 0))
        .optional()
}

/// Writes a rollout, guarded.
pub fn save(connection: &Connection, row: &Row) -> Result<Saved> {
    let id = row.id.0.as_bytes();
    match row.guard {
        Guard::New(etag) => connection
            .prepare_cached(
                "INSERT INTO rollouts (id, created_at, is_ended, etag, body)
                 VALUES (:id, :created_at, :is_ended, :etag, :body) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(named_params! {
                ":id": id, ":created_at": row.created_at, ":is_ended": row.is_ended, ":etag": etag, ":body": row.body
            })
            .map(|changed| saved(changed, etag)),
        Guard::Is(etag) => connection
            .prepare_cached(
                "UPDATE rollouts SET created_at = :created_at, is_ended = :is_ended, etag = :etag + 1, body = :body
                 WHERE id = :id AND etag = :etag",
            )?
            .execute(named_params! {
                ":id": id, ":created_at": row.created_at, ":is_ended": row.is_ended, ":etag": etag, ":body": row.body
            })
            .map(|changed| saved(changed, etag + 1)),
        Guard::Never => Ok(Saved::Conflict),
    }
}

/// Rollouts, the newest first, from the one after `after` on.
pub fn newest_first(connection: &Connection, after: Option<(i64, RolloutId)>, top: i64) -> Result<Vec<Record>> {
    // An id is 16 bytes, so that 17 of the highest are after every one.
    let (created_at, id) = after.map_or((i64::MAX, vec![0xff; 17]), |(at, id)| (at, id.0.as_bytes().to_vec()));
    connection
        .prepare_cached(
            "SELECT etag, body FROM rollouts WHERE (created_at, id) < (:created_at, :id)
             ORDER BY created_at DESC, id DESC LIMIT :top",
        )?
        .query_map(named_params! {":created_at": created_at, ":id": id, ":top": top}, |row| Record::from_row(row, 0))?
        .collect()
}

/// Rollouts that have not ended, or have refreshes without a result.
pub fn open(connection: &Connection) -> Result<Vec<Record>> {
    connection
        .prepare_cached(
            "WITH wanted (id) AS (
                 SELECT id FROM rollouts WHERE is_ended = 0
                 UNION SELECT rollout FROM tallies WHERE has_result = 0 AND count > 0
             )
             SELECT etag, body FROM wanted JOIN rollouts USING (id) ORDER BY created_at, id",
        )?
        .query_map([], |row| Record::from_row(row, 0))?
        .collect()
}

/// Rollouts that have ended, made before `before`, whose refreshes all have a result; the earliest made first.
pub fn ended_made_before(connection: &Connection, before: i64) -> Result<Vec<Record>> {
    connection
        .prepare_cached(
            "SELECT etag, body FROM rollouts WHERE created_at < :before AND is_ended = 1
             AND NOT EXISTS (SELECT 1 FROM tallies WHERE rollout = id AND has_result = 0 AND count > 0)
             ORDER BY created_at, id",
        )?
        .query_map(named_params! {":before": before}, |row| Record::from_row(row, 0))?
        .collect()
}

/// Removes a rollout with its counts, if it has this version and no refreshes.
pub fn remove(connection: &Connection, id: RolloutId, etag: i64) -> Result<Saved> {
    let id = id.0.as_bytes();
    let removed = connection
        .prepare_cached(
            "DELETE FROM rollouts WHERE id = :id AND etag = :etag
             AND NOT EXISTS (SELECT 1 FROM refreshes WHERE rollout = :id)",
        )?
        .execute(named_params! {":id": id, ":etag": etag})?;
    if removed > 0 {
        connection.prepare_cached("DELETE FROM tallies WHERE rollout = :id")?.execute(named_params! {":id": id})?;
    }
    Ok(saved(removed, etag))
}

/// All claims.
pub fn claims(connection: &Connection) -> Result<Vec<(String, String)>> {
    connection
        .prepare_cached("SELECT key, body FROM claims")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Removes those of some claims whose rollouts are not stored; how many.
pub fn forget_claims(connection: &Connection, claims: &[(String, RolloutId)]) -> Result<usize> {
    let mut removed = 0;
    for (key, rollout) in claims {
        removed += connection
            .prepare_cached(
                "DELETE FROM claims WHERE key = :key AND NOT EXISTS (SELECT 1 FROM rollouts WHERE id = :rollout)",
            )?
            .execute(named_params! {":key": key, ":rollout": rollout.0.as_bytes()})?;
    }
    Ok(removed)
}

/// Removes throttles that ended before `before`; how many.
pub fn forget_throttles(connection: &Connection, before: i64, at_most: i64) -> Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM throttles WHERE subscription IN
             (SELECT subscription FROM throttles WHERE until < :before LIMIT :at_most)",
        )?
        .execute(named_params! {":before": before, ":at_most": at_most})
}

/// Claims an idempotency key; the body of the claim that holds it, if it is held.
pub fn claim(connection: &Connection, key: &str, body: &str) -> Result<Option<String>> {
    let claimed = connection
        .prepare_cached("INSERT INTO claims (key, body) VALUES (:key, :body) ON CONFLICT (key) DO NOTHING")?
        .execute(named_params! {":key": key, ":body": body})?;
    if claimed == 1 { Ok(None) } else { holder(connection, key) }
}

/// The body of the claim that holds an idempotency key.
pub fn holder(connection: &Connection, key: &str) -> Result<Option<String>> {
    connection
        .prepare_cached("SELECT body FROM claims WHERE key = :key")?
        .query_row(named_params! {":key": key}, |row| row.get(0))
        .optional()
}

/// Until when a subscription is throttled.
pub fn throttled_until(connection: &Connection, subscription: &str) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT until FROM throttles WHERE subscription = :subscription")?
        .query_row(named_params! {":subscription": subscription}, |row| row.get(0))
        .optional()
}

/// Throttles a subscription until then, or longer where it is already.
pub fn throttle(connection: &Connection, subscription: &str, until: i64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO throttles (subscription, until) VALUES (:subscription, :until)
             ON CONFLICT (subscription) DO UPDATE SET until = max(until, excluded.until)",
        )?
        .execute(named_params! {":subscription": subscription, ":until": until})
        .map(|_| ())
}
