//! Statements about messages, their locks and dead letters.

use rusqlite::{Connection, Result, named_params};

use crate::queue::{DeadLetter, Delivery, LockToken};
use crate::sqlite::from_nanos;

use super::duplicates::{self, IdHash};

/// A message that is to be sent.
pub struct Sending {
    /// Its id.
    pub id: String,
    /// Its id as duplicate detection knows it.
    pub hash: IdHash,
    /// Its body.
    pub body: String,
    /// When it is deliverable first; not before now.
    pub due: i64,
}

/// The right to settle a delivery: a message and which of its deliveries it is. No two are the same, since every
/// delivery is counted and sequence numbers are never used again.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    sequence: i64,
    delivery: u32,
}

impl Lock {
    /// The lock of a token, if it is one of ours.
    pub fn of(token: &LockToken) -> Option<Self> {
        let (sequence, delivery) = token.0.split_once('.')?;
        Some(Self { sequence: sequence.parse().ok()?, delivery: delivery.parse().ok()? })
    }

    fn token(self) -> LockToken {
        LockToken(format!("{}.{}", self.sequence, self.delivery))
    }
}

/// A dead letter. Its number may be given again once it is removed, so that the moment belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Dead {
    number: i64,
    at: i64,
}

impl Dead {
    /// The dead letter of a token, if it is one of ours.
    pub fn of(token: &LockToken) -> Option<Self> {
        let (number, at) = token.0.split_once('.')?;
        Some(Self { number: number.parse().ok()?, at: at.parse().ok()? })
    }

    fn token(self) -> LockToken {
        LockToken(format!("{}.{}", self.number, self.at))
    }
}

/// Takes the messages, but those whose id was sent after `since`.
pub fn send(connection: &Connection, queue: &str, messages: &[Sending], now: i64, since: i64) -> Result<()> {
    for message in messages {
        if duplicates::remember(connection, queue, &message.hash, now, since)? {
            connection
                .prepare_cached(
                    "INSERT INTO messages (queue, id, due, available_at, body) VALUES (:queue, :id, :due, :due, :body)",
                )?
                .execute(named_params! {
                    ":queue": queue, ":id": message.id, ":due": message.due, ":body": message.body.as_bytes()
                })?;
        }
    }
    duplicates::clean(connection, messages.len(), since).map(|_| ())
}

/// Locks up to `at_most` deliverable messages until `until`. Those that were delivered `max_deliveries` times and not
/// settled become dead letters instead.
pub fn receive(
    connection: &Connection,
    queue: &str,
    at_most: usize,
    now: i64,
    until: i64,
    max_deliveries: u32,
) -> Result<Vec<Delivery>> {
    let mut received = Vec::new();
    loop {
        let missing = i64::try_from(at_most - received.len()).unwrap_or(i64::MAX);
        let deliverable: Vec<Delivery> = connection
            .prepare_cached(
                "SELECT sequence, id, due, deliveries, body FROM messages
                 WHERE queue = :queue AND available_at <= :now ORDER BY available_at, sequence LIMIT :missing",
            )?
            .query_map(named_params! {":queue": queue, ":now": now, ":missing": missing}, |row| {
                let lock = Lock { sequence: row.get(0)?, delivery: row.get::<_, u32>(3)?.saturating_add(1) };
                Ok(Delivery {
                    id: row.get(1)?,
                    body: row.get(4)?,
                    delivery_count: lock.delivery,
                    sequence_number: lock.sequence,
                    enqueued_at: from_nanos(row.get(2)?),
                    lock: lock.token(),
                    locked_until: from_nanos(until),
                })
            })?
            .collect::<Result<_>>()?;
        let mut buried = 0;
        for delivery in deliverable {
            if delivery.delivery_count > max_deliveries {
                bury(connection, delivery.sequence_number, now)?;
                buried += 1;
            } else {
                connection
                    .prepare_cached(
                        "UPDATE messages SET is_locked = 1, deliveries = :deliveries, available_at = :until
                         WHERE sequence = :sequence",
                    )?
                    .execute(named_params! {
                        ":deliveries": delivery.delivery_count, ":until": until, ":sequence": delivery.sequence_number
                    })?;
                received.push(delivery);
            }
        }
        if buried == 0 {
            return Ok(received);
        }
    }
}

/// Removes a delivered message; whether its lock held.
pub fn complete(connection: &Connection, queue: &str, lock: Lock, now: i64) -> Result<bool> {
    connection
        .prepare_cached(
            "DELETE FROM messages WHERE sequence = :sequence AND queue = :queue
             AND is_locked = 1 AND deliveries = :delivery AND available_at > :now",
        )?
        .execute(named_params! {
            ":sequence": lock.sequence, ":queue": queue, ":delivery": lock.delivery, ":now": now
        })
        .map(|removed| removed == 1)
}

/// Gives a message back to its old place, or buries it; whether its lock held.
pub fn abandon(connection: &Connection, queue: &str, lock: Lock, now: i64, max_deliveries: u32) -> Result<bool> {
    let held = connection
        .prepare_cached(
            "UPDATE messages SET is_locked = 0, available_at = due WHERE sequence = :sequence AND queue = :queue
             AND is_locked = 1 AND deliveries = :delivery AND available_at > :now",
        )?
        .execute(named_params! {
            ":sequence": lock.sequence, ":queue": queue, ":delivery": lock.delivery, ":now": now
        })?
        == 1;
    if held && lock.delivery >= max_deliveries {
        bury(connection, lock.sequence, now)?;
    }
    Ok(held)
}

/// Prolongs a lock until `until`; whether it held.
pub fn renew(connection: &Connection, queue: &str, lock: Lock, now: i64, until: i64) -> Result<bool> {
    connection
        .prepare_cached(
            "UPDATE messages SET available_at = :until WHERE sequence = :sequence AND queue = :queue
             AND is_locked = 1 AND deliveries = :delivery AND available_at > :now",
        )?
        .execute(named_params! {
            ":until": until, ":sequence": lock.sequence, ":queue": queue, ":delivery": lock.delivery, ":now": now
        })
        .map(|changed| changed == 1)
}

/// The oldest dead letters, each with the token that removes it; those whose last lock has run out are buried first.
pub fn dead_letters(
    connection: &Connection,
    queue: &str,
    at_most: i64,
    now: i64,
    max_deliveries: u32,
) -> Result<Vec<(DeadLetter, LockToken)>> {
    let spent: Vec<i64> = connection
        .prepare_cached(
            "SELECT sequence FROM messages WHERE queue = :queue AND available_at <= :now AND deliveries >= :max
             ORDER BY available_at, sequence",
        )?
        .query_map(named_params! {":queue": queue, ":now": now, ":max": max_deliveries}, |row| row.get(0))?
        .collect::<Result<_>>()?;
    for sequence in spent {
        bury(connection, sequence, now)?;
    }
    connection
        .prepare_cached(
            "SELECT number, id, deliveries, reason, at, body FROM dead_letters
             WHERE queue = :queue ORDER BY number LIMIT :at_most",
        )?
        .query_map(named_params! {":queue": queue, ":at_most": at_most}, |row| {
            let letter = DeadLetter {
                id: row.get(1)?,
                body: row.get(5)?,
                delivery_count: row.get(2)?,
                reason: row.get(3)?,
                at: from_nanos(row.get(4)?),
            };
            Ok((letter, Dead { number: row.get(0)?, at: row.get(4)? }.token()))
        })?
        .collect()
}

/// Removes a dead letter; whether it was there.
pub fn remove_dead_letter(connection: &Connection, queue: &str, dead: Dead) -> Result<bool> {
    connection
        .prepare_cached("DELETE FROM dead_letters WHERE queue = :queue AND number = :number AND at = :at")?
        .execute(named_params! {":queue": queue, ":number": dead.number, ":at": dead.at})
        .map(|removed| removed == 1)
}

/// Moves a message to the dead letters.
fn bury(connection: &Connection, sequence: i64, now: i64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO dead_letters (queue, id, deliveries, reason, at, body)
             SELECT queue, id, deliveries, 'it was delivered ' || deliveries || ' times and never completed', :now, body
             FROM messages WHERE sequence = :sequence",
        )?
        .execute(named_params! {":now": now, ":sequence": sequence})?;
    connection
        .prepare_cached("DELETE FROM messages WHERE sequence = :sequence")?
        .execute(named_params! {":sequence": sequence})?;
    Ok(())
}
