//! Rollouts: one partition, in which each has its record, a copy under the time it was made, and a mark while it is open.
//!
//! The three are written in one transaction. The mark is only a candidate: whether a rollout that has ended still has
//! refreshes without a result is counted when it is asked for.

use uuid::Uuid;

use super::place::{moment, quoted};
use super::row::{Guard, Row, Stamp};
use super::service::{Committed, Service, Table, Write};
use crate::rollout::{Rollout, RolloutId, Timestamp};
use crate::sqlite::{from_nanos, to_nanos};
use crate::store::{Page, PageRequest, Saved, StoreError, Versioned};

const WHAT: &str = "rollout";
const PARTITION: &str = "rollouts";
/// When a mark was written.
const MARKED: &str = "markedAt";

fn record_key(id: RolloutId) -> String {
    format!("r~{id}")
}

/// Sorts the newest first, and of those made at once the highest id.
fn copy_key(created_at: i64, id: RolloutId) -> String {
    let age = u64::MAX - created_at.cast_unsigned().wrapping_add(1 << 63);
    format!("n~{age:016x}~{:032x}", u128::MAX - id.0.as_u128())
}

fn mark_key(id: RolloutId) -> String {
    format!("o~{id}")
}

/// One rollout. One request.
pub async fn one(service: &Service, id: RolloutId) -> Result<Option<Versioned<Rollout>>, StoreError> {
    let Some(row) = service.row(Table::Rollouts, PARTITION, &record_key(id)).await? else { return Ok(None) };
    let value: Rollout = row.body(WHAT)?;
    let filed = vec![copy_key(to_nanos(value.created_at), id)];
    let stamp = Stamp { etag: row.etag.clone().unwrap_or_default(), filed };
    Ok(Some(Versioned { value, etag: Some(stamp.to_etag()) }))
}

/// Writes a rollout, guarded. One request.
pub async fn save(service: &Service, rollout: &Versioned<Rollout>, now: Timestamp) -> Result<Saved, StoreError> {
    let value = &rollout.value;
    let operation = Uuid::new_v4().simple().to_string();
    let record = Row::new(PARTITION, record_key(value.id), &operation).with_body(WHAT, value)?;
    let copy_key = copy_key(to_nanos(value.created_at), value.id);
    let mut writes = Vec::new();
    match Guard::of(rollout.etag.as_ref(), 1) {
        Guard::Absent => writes.push(Write::Insert(record)),
        Guard::Is(stamp) => {
            writes.push(Write::Replace(record, stamp.etag));
            writes.extend(
                stamp.filed.into_iter().filter(|before| *before != copy_key).map(|key| Write::DeleteAny { key }),
            );
        }
        Guard::Never => return Ok(Saved::Conflict),
    }
    writes.push(Write::Put(Row::new(PARTITION, copy_key.as_str(), &operation).with_body(WHAT, value)?));
    if !value.state.is_ended() {
        writes.push(Write::Put(mark(value.id, &operation, now)));
    }
    Ok(match service.commit(Table::Rollouts, PARTITION, &writes).await? {
        Committed::Done(etags) => {
            let etag = etags.into_iter().next().unwrap_or_default();
            Saved::Stored(Stamp { etag, filed: vec![copy_key] }.to_etag())
        }
        Committed::Refused => Saved::Conflict,
    })
}

fn mark(id: RolloutId, operation: &str, now: Timestamp) -> Row {
    Row::new(PARTITION, mark_key(id), operation).with(MARKED, moment(now))
}

/// Marks a rollout as open, whatever its record says: one of its refreshes is about to be without a result. One request.
pub async fn mark_open(service: &Service, id: RolloutId, now: Timestamp) -> Result<(), StoreError> {
    let operation = Uuid::new_v4().simple().to_string();
    service.commit(Table::Rollouts, PARTITION, &[Write::Put(mark(id, &operation, now))]).await.map(|_| ())
}

/// Rollouts that may be open, each with the row that marks it. One request.
pub async fn marked(service: &Service) -> Result<Vec<(RolloutId, Row)>, StoreError> {
    let filter = format!("PartitionKey eq {} and RowKey ge 'o~' and RowKey lt 'o~~'", quoted(PARTITION));
    let (rows, _) = service.rows(Table::Rollouts, &filter, usize::MAX).await?;
    let id = |row: &Row| row.key.strip_prefix("o~").and_then(|id| id.parse().ok());
    Ok(rows.into_iter().filter_map(|row| Some((id(&row)?, row))).collect())
}

/// Removes a mark, unless it was set again since it was read, or so lately that a refresh may still be on its way.
pub async fn unmark(service: &Service, row: Row, before: Timestamp) -> Result<(), StoreError> {
    if row.text(MARKED).is_some_and(|marked| marked >= moment(before).as_str()) {
        return Ok(());
    }
    let delete = Write::Delete { etag: row.etag.unwrap_or_default(), key: row.key };
    service.commit(Table::Rollouts, PARTITION, &[delete]).await.map(|_| ())
}

/// Rollouts, the newest first. One request for each thousand.
pub async fn newest_first(service: &Service, request: &PageRequest) -> Result<Page<Rollout>, StoreError> {
    let top = request.top.max(1);
    let from = match request.continuation.as_deref().map(after).transpose()? {
        Some((created_at, id)) => format!("RowKey gt {}", quoted(&copy_key(created_at, id))),
        None => "RowKey ge 'n~'".to_owned(),
    };
    let filter = format!("PartitionKey eq {} and {from} and RowKey lt 'n~~'", quoted(PARTITION));
    let (mut rows, _) = service.rows(Table::Rollouts, &filter, top + 1).await?;
    let goes_on = rows.len() > top;
    rows.truncate(top);
    let items = rows.iter().map(|row| row.body(WHAT)).collect::<Result<Vec<Rollout>, _>>()?;
    let mark = |last: &Rollout| format!("o.{}.{}", to_nanos(last.created_at), last.id);
    let next = items.last().filter(|_| goes_on).map(mark);
    Ok(Page { items, next })
}

/// Rollouts made before `before`, the earliest first: their copies, and so perhaps a moment old. One request for each thousand.
pub async fn made_before(service: &Service, before: Timestamp) -> Result<Vec<Rollout>, StoreError> {
    let from = copy_key(to_nanos(before), RolloutId(Uuid::nil()));
    let filter = format!("PartitionKey eq {} and RowKey gt {} and RowKey lt 'n~~'", quoted(PARTITION), quoted(&from));
    let (rows, _) = service.rows(Table::Rollouts, &filter, usize::MAX).await?;
    rows.iter().rev().map(|row| row.body(WHAT)).collect()
}

/// Removes a rollout, guarded, with its copy; its mark goes by itself. One request.
pub async fn remove(service: &Service, rollout: &Versioned<Rollout>) -> Result<Saved, StoreError> {
    let Guard::Is(stamp) = Guard::of(rollout.etag.as_ref(), 1) else { return Ok(Saved::Conflict) };
    let mut writes = vec![Write::Delete { key: record_key(rollout.value.id), etag: stamp.etag.clone() }];
    writes.extend(stamp.filed.iter().map(|key| Write::DeleteAny { key: key.clone() }));
    Ok(match service.commit(Table::Rollouts, PARTITION, &writes).await? {
        Committed::Done(_) => Saved::Stored(stamp.to_etag()),
        Committed::Refused => Saved::Conflict,
    })
}

fn after(continuation: &str) -> Result<(i64, RolloutId), StoreError> {
    let parts = continuation.strip_prefix("o.").and_then(|rest| rest.split_once('.'));
    parts
        .and_then(|(created_at, id)| Some((created_at.parse().ok()?, id.parse().ok()?)))
        .ok_or(StoreError::InvalidContinuation)
}

/// The moment before which a mark that is no longer true may be removed.
pub fn unmarkable(now: Timestamp) -> Timestamp {
    from_nanos(to_nanos(now - super::due::GRACE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_sorts_first_and_then_the_highest_id() {
        let id = |number| RolloutId(Uuid::from_u128(number));
        let keys = [(i64::MAX, 1), (7, 9), (7, 2), (0, 3), (-1, 3), (i64::MIN, 1)].map(|(at, of)| copy_key(at, id(of)));
        assert!(keys.is_sorted(), "{keys:?}");
    }
}
