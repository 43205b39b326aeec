//! Statements about refreshes, and the tally that is kept with them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Result, named_params};

use crate::rollout::{DeploymentKey, Refresh, RolloutId, Standing, Tally};
use crate::sqlite::to_nanos;
use crate::store::{Saved, Versioned};

use super::record::{Guard, Record, etag as as_etag, key_bytes, write};

/// The columns of a refresh that is to be written.
pub struct Row {
    rollout: RolloutId,
    key: [u8; 32],
    wave: u32,
    standing: Standing,
    wake_at: Option<i64>,
    body: String,
    guard: Guard,
}

impl Row {
    /// The columns of `refresh`.
    pub fn of(refresh: &Refresh, guard: Guard) -> Self {
        Self {
            rollout: refresh.rollout_id,
            key: key_bytes(&refresh.key),
            wave: refresh.wave,
            standing: Standing::of(refresh),
            wake_at: refresh.wake_at().map(to_nanos),
            body: write(refresh),
            guard,
        }
    }

    /// The columns of `refresh`, guarded by its version.
    pub fn guarded(refresh: &Versioned<Refresh>) -> Self {
        Self::of(&refresh.value, Guard::of(refresh))
    }
}

/// How the tally changes, collected over one piece of work.
#[derive(Default)]
struct Changes(BTreeMap<(RolloutId, u32, Standing), i64>);

impl Changes {
    fn add(&mut self, rollout: RolloutId, wave: u32, standing: Standing, by: i64) {
        *self.0.entry((rollout, wave, standing)).or_default() += by;
    }

    fn write(self, connection: &Connection) -> Result<()> {
        for ((rollout, wave, standing), by) in self.0.into_iter().filter(|(_, by)| *by != 0) {
            connection
                .prepare_cached(
                    "INSERT INTO tallies (rollout, wave, standing, has_result, count)
                     VALUES (:rollout, :wave, :standing, :has_result, :by)
                     ON CONFLICT (rollout, wave, standing) DO UPDATE SET count = count + :by",
                )?
                .execute(named_params! {
                    ":rollout": rollout.0.as_bytes(),
                    ":wave": wave,
                    ":standing": standing.word(),
                    ":has_result": has_result(standing),
                    ":by": by,
                })?;
        }
        Ok(())
    }
}

/// Whether a refresh that stands there has its result. One that is parked at a gate has not.
fn has_result(standing: Standing) -> bool {
    standing.is_out_of_the_wave() && standing != Standing::AwaitingAccess
}

/// Adds refreshes that are not there yet; returns how many.
pub fn insert(connection: &Connection, rows: &[Row]) -> Result<usize> {
    let mut changes = Changes::default();
    let mut added = 0;
    for row in rows {
        if let Guard::New(etag) = row.guard
            && insert_one(connection, row, etag)?
        {
            changes.add(row.rollout, row.wave, row.standing, 1);
            added += 1;
        }
    }
    changes.write(connection)?;
    Ok(added)
}

/// Writes refreshes, each guarded for itself.
pub fn save(connection: &Connection, rows: &[Row]) -> Result<Vec<Saved>> {
    let mut changes = Changes::default();
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        answers.push(match row.guard {
            Guard::New(etag) if insert_one(connection, row, etag)? => {
                changes.add(row.rollout, row.wave, row.standing, 1);
                Saved::Stored(as_etag(etag))
            }
            Guard::Is(etag) => update_one(connection, row, etag, &mut changes)?,
            Guard::New(_) | Guard::Never => Saved::Conflict,
        });
    }
    changes.write(connection)?;
    Ok(answers)
}

/// Removes refreshes of a rollout; how many.
pub fn remove(connection: &Connection, rollout: RolloutId, at_most: i64) -> Result<usize> {
    let rows: Vec<(i64, u32, Standing)> = connection
        .prepare_cached(
            "SELECT number, wave, standing FROM refreshes WHERE rollout = :rollout ORDER BY key LIMIT :at_most",
        )?
        .query_map(named_params! {":rollout": rollout.0.as_bytes(), ":at_most": at_most}, |row| {
            Ok((row.get(0)?, row.get(1)?, standing_at(row, 2)?))
        })?
        .collect::<Result<_>>()?;
    let mut changes = Changes::default();
    for (number, wave, standing) in &rows {
        connection
            .prepare_cached("DELETE FROM refreshes WHERE number = :number")?
            .execute(named_params! {":number": number})?;
        changes.add(rollout, *wave, *standing, -1);
    }
    changes.write(connection)?;
    Ok(rows.len())
}

fn insert_one(connection: &Connection, row: &Row, etag: i64) -> Result<bool> {
    let added = connection
        .prepare_cached(
            "INSERT INTO refreshes (rollout, key, wave, standing, wake_at, etag, body)
             VALUES (:rollout, :key, :wave, :standing, :wake_at, :etag, :body) ON CONFLICT (rollout, key) DO NOTHING",
        )?
        .execute(named_params! {
            ":rollout": row.rollout.0.as_bytes(),
            ":key": row.key,
            ":wave": row.wave,
            ":standing": row.standing.word(),
            ":wake_at": row.wake_at,
            ":etag": etag,
            ":body": row.body,
        })?;
    Ok(added == 1)
}

fn update_one(connection: &Connection, row: &Row, etag: i64, changes: &mut Changes) -> Result<Saved> {
    let stored = connection
        .prepare_cached(
            "SELECT number, wave, standing FROM refreshes WHERE rollout = :rollout AND key = :key AND etag = :etag",
        )?
        .query_row(named_params! {":rollout": row.rollout.0.as_bytes(), ":key": row.key, ":etag": etag}, |stored| {
            Ok((stored.get::<_, i64>(0)?, stored.get::<_, u32>(1)?, standing_at(stored, 2)?))
        })
        .optional()?;
    let Some((number, wave, standing)) = stored else { return Ok(Saved::Conflict) };
    if standing == row.standing {
        // A statement that does not name `standing` leaves that index alone.
        connection
            .prepare_cached(
                "UPDATE refreshes SET wave = :wave, wake_at = :wake_at, etag = :etag + 1, body = :body
                 WHERE number = :number",
            )?
            .execute(named_params! {
                ":number": number, ":wave": row.wave, ":wake_at": row.wake_at, ":etag": etag, ":body": row.body
            })?;
    } else {
        connection
            .prepare_cached(
                "UPDATE refreshes
                 SET wave = :wave, standing = :standing, wake_at = :wake_at, etag = :etag + 1, body = :body
                 WHERE number = :number",
            )?
            .execute(named_params! {
                ":number": number,
                ":wave": row.wave,
                ":standing": row.standing.word(),
                ":wake_at": row.wake_at,
                ":etag": etag,
                ":body": row.body,
            })?;
    }
    changes.add(row.rollout, wave, standing, -1);
    changes.add(row.rollout, row.wave, row.standing, 1);
    Ok(Saved::Stored(as_etag(etag + 1)))
}

/// One refresh.
pub fn one(connection: &Connection, rollout: RolloutId, key: &[u8; 32]) -> Result<Option<Record>> {
    connection
        .prepare_cached("SELECT etag, body FROM refreshes WHERE rollout = :rollout AND key = :key")?
        .query_row(named_params! {":rollout": rollout.0.as_bytes(), ":key": key}, |row| Record::from_row(row, 0))
        .optional()
}

/// Refreshes of a rollout in the order of their keys, from the one after `after` on.
pub fn by_key(connection: &Connection, rollout: RolloutId, after: Option<[u8; 32]>, top: i64) -> Result<Vec<Record>> {
    connection
        .prepare_cached(
            "SELECT etag, body FROM refreshes WHERE rollout = :rollout AND key > :after ORDER BY key LIMIT :top",
        )?
        .query_map(
            named_params! {":rollout": rollout.0.as_bytes(), ":after": after_bytes(&after), ":top": top},
            |row| Record::from_row(row, 0),
        )?
        .collect()
}

/// The same of those with some standings. Each standing is walked in its own index, so that few among many are found
/// without looking at the many.
pub fn by_standing(
    connection: &Connection,
    rollout: RolloutId,
    standings: &[Standing],
    after: Option<[u8; 32]>,
    top: i64,
) -> Result<Vec<Record>> {
    let mut found: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for standing in standings {
        let mut statement = connection.prepare_cached(
            "SELECT key, number FROM refreshes
             WHERE rollout = :rollout AND standing = :standing AND key > :after ORDER BY key LIMIT :top",
        )?;
        let rows = statement.query_map(
            named_params! {
                ":rollout": rollout.0.as_bytes(),
                ":standing": standing.word(),
                ":after": after_bytes(&after),
                ":top": top,
            },
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        for row in rows {
            let (key, number) = row?;
            found.insert(key, number);
        }
    }
    let mut by_number = connection.prepare_cached("SELECT etag, body FROM refreshes WHERE number = :number")?;
    let wanted = found.into_values().take(usize::try_from(top).unwrap_or(usize::MAX));
    wanted
        .map(|number| by_number.query_row(named_params! {":number": number}, |row| Record::from_row(row, 0)))
        .collect()
}

/// Where the refreshes of a rollout stand.
pub fn tally(connection: &Connection, rollout: RolloutId) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut statement = connection
        .prepare_cached("SELECT wave, standing, count FROM tallies WHERE rollout = :rollout AND count > 0")?;
    let mut rows = statement.query(named_params! {":rollout": rollout.0.as_bytes()})?;
    while let Some(row) = rows.next()? {
        tally.add(row.get(0)?, standing_at(row, 1)?, row.get::<_, i64>(2)?.unsigned_abs());
    }
    Ok(tally)
}

/// Refreshes that are due, the longest due first.
pub fn due(connection: &Connection, now: i64, at_most: i64) -> Result<Vec<Record>> {
    connection
        .prepare_cached(
            "SELECT etag, body FROM refreshes WHERE wake_at <= :now ORDER BY wake_at, number LIMIT :at_most",
        )?
        .query_map(named_params! {":now": now, ":at_most": at_most}, |row| Record::from_row(row, 0))?
        .collect()
}

/// The earliest time at which one is due.
pub fn next_wake(connection: &Connection) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT wake_at FROM refreshes WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// The letter of the list of refreshes in continuations.
pub const LIST: char = 'r';

/// The key of a refresh that was read: where its page ends.
pub fn key_of(refresh: &Versioned<Refresh>) -> &DeploymentKey {
    &refresh.value.key
}

/// Before every key, if there is none to start after.
fn after_bytes(after: &Option<[u8; 32]>) -> &[u8] {
    after.as_ref().map_or(&[], |key| key)
}

fn standing_at(row: &rusqlite::Row<'_>, column: usize) -> Result<Standing> {
    let word = row.get_ref(column)?.as_str()?;
    Standing::from_word(word).ok_or_else(|| {
        let told = format!("{word:?} is no standing of a refresh");
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, told.into())
    })
}
