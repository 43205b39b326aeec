//! Statements about deployments.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Result, named_params};

use crate::rollout::{Deployment, PastRefresh, Plan};
use crate::sqlite::to_nanos;
use crate::store::{Saved, Versioned};

use super::record::{Guard, Record, key_bytes, saved, write};

/// The letter of the list of deployments in continuations.
pub const LIST: char = 'd';

/// The columns of a deployment that is to be written.
pub struct Row {
    key: [u8; 32],
    plan: Option<String>,
    check_due: Option<i64>,
    gone_since: Option<i64>,
    applied_at: Option<i64>,
    body: String,
    guard: Guard,
}

impl Row {
    /// The columns of `deployment`, guarded by its version.
    pub fn guarded(deployment: &Versioned<Deployment>) -> Self {
        let value = &deployment.value;
        Self {
            key: key_bytes(&value.key),
            plan: value.plan.as_ref().map(Plan::to_string),
            check_due: value.check.as_ref().map(|check| to_nanos(check.due)),
            gone_since: value.gone_since.map(to_nanos),
            applied_at: value.applied.as_ref().map(|applied| to_nanos(applied.at)),
            body: write(value),
            guard: Guard::of(deployment),
        }
    }
}

/// Some deployments, in the order of `keys`.
pub fn some(connection: &Connection, keys: &[[u8; 32]]) -> Result<Vec<Option<Record>>> {
    let mut statement = connection.prepare_cached("SELECT etag, body FROM deployments WHERE key = :key")?;
    keys.iter()
        .map(|key| statement.query_row(named_params! {":key": key}, |row| Record::from_row(row, 0)).optional())
        .collect()
}

/// Writes deployments, each guarded for itself.
pub fn save(connection: &Connection, rows: &[Row]) -> Result<Vec<Saved>> {
    rows.iter().map(|row| save_one(connection, row)).collect()
}

fn save_one(connection: &Connection, row: &Row) -> Result<Saved> {
    let (sql, before, after) = match row.guard {
        Guard::New(etag) => (
            "INSERT INTO deployments (key, plan, check_due, gone_since, applied_at, etag, body)
             VALUES (:key, :plan, :check_due, :gone_since, :applied_at, :etag, :body) ON CONFLICT (key) DO NOTHING",
            etag,
            etag,
        ),
        Guard::Is(etag) => (
            "UPDATE deployments
             SET plan = :plan, check_due = :check_due, gone_since = :gone_since, applied_at = :applied_at,
                 etag = :etag + 1, body = :body
             WHERE key = :key AND etag = :etag",
            etag,
            etag + 1,
        ),
        Guard::Never => return Ok(Saved::Conflict),
    };
    let changed = connection.prepare_cached(sql)?.execute(named_params! {
        ":key": row.key,
        ":plan": row.plan,
        ":check_due": row.check_due,
        ":gone_since": row.gone_since,
        ":applied_at": row.applied_at,
        ":etag": before,
        ":body": row.body,
    })?;
    Ok(saved(changed, after))
}

/// Deployments in the order of their keys, from the one after `after` on.
pub fn by_key(connection: &Connection, plan: Option<&str>, after: Option<[u8; 32]>, top: i64) -> Result<Vec<Record>> {
    let after: &[u8] = after.as_ref().map_or(&[], |key| key);
    match plan {
        Some(plan) => connection
            .prepare_cached(
                "SELECT etag, body FROM deployments WHERE plan = :plan AND key > :after ORDER BY key LIMIT :top",
            )?
            .query_map(named_params! {":plan": plan, ":after": after, ":top": top}, |row| Record::from_row(row, 0))?
            .collect(),
        None => connection
            .prepare_cached("SELECT etag, body FROM deployments WHERE key > :after ORDER BY key LIMIT :top")?
            .query_map(named_params! {":after": after, ":top": top}, |row| Record::from_row(row, 0))?
            .collect(),
    }
}

/// How many deployments a plan has, tombstones not included.
pub fn count(connection: &Connection, plan: &str) -> Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM deployments WHERE plan = :plan AND gone_since IS NULL")?
        .query_row(named_params! {":plan": plan}, |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

/// Deployments whose check is due, the longest due first.
pub fn due(connection: &Connection, now: i64, at_most: i64) -> Result<Vec<Record>> {
    connection
        .prepare_cached(
            "SELECT etag, body FROM deployments WHERE check_due <= :now ORDER BY check_due, number LIMIT :at_most",
        )?
        .query_map(named_params! {":now": now, ":at_most": at_most}, |row| Record::from_row(row, 0))?
        .collect()
}

/// Notes how a refresh ended, inside the record as it is stored now: reading and writing are one transaction.
pub fn record_past(connection: &Connection, key: &[u8; 32], past: &PastRefresh) -> Result<()> {
    let Some(record) = some(connection, std::slice::from_ref(key))?.into_iter().next().flatten() else { return Ok(()) };
    let mut deployment = record
        .read::<Deployment>("deployment")
        .map_err(|error| Error::FromSqlConversionFailure(1, Type::Text, error.into()))?;
    if deployment.value.note_past(past) {
        save_one(connection, &Row::guarded(&deployment))?;
    }
    Ok(())
}

/// Removes deployments that are gone since before `before`.
pub fn forget_gone(connection: &Connection, before: i64) -> Result<usize> {
    connection
        .prepare_cached("DELETE FROM deployments WHERE gone_since < :before")?
        .execute(named_params! {":before": before})
}

/// Removes one deployment, guarded.
pub fn remove(connection: &Connection, key: &[u8; 32], etag: i64) -> Result<Saved> {
    connection
        .prepare_cached("DELETE FROM deployments WHERE key = :key AND etag = :etag")?
        .execute(named_params! {":key": key, ":etag": etag})
        .map(|changed| saved(changed, etag))
}
