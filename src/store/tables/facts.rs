//! What belongs to no single deployment: idempotency keys, throttles; and when upkeep was last done.
//!
//! One row each, named by a hash where the name is anybody's choice. Knows no other table.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::place::{moment, quoted};
use super::row::{Guard, Row, Stamp};
use super::service::{Committed, Service, Table, Write};
use crate::rollout::Timestamp;
use crate::store::{Claim, Saved, StoreError};

const CLAIM: &str = "claim";
const THROTTLE: &str = "throttle";
/// How often a throttle is tried while others change it.
const TRIES: usize = 40;

/// A name as a key: letters, digits and length are anybody's choice, a hash's are not.
fn hashed(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name for a write.
pub fn operation() -> String {
    Uuid::new_v4().simple().to_string()
}

fn claim_place(key: &str) -> (String, String) {
    let name = hashed(key);
    (format!("claim~{}", &name[..2]), name)
}

/// Claims a key, or tells who holds it. One request, or two.
pub async fn claim(service: &Service, key: &str, claim: &Claim) -> Result<Option<Claim>, StoreError> {
    let (partition, name) = claim_place(key);
    let row = Row::new(partition.as_str(), name, &operation()).with_body(CLAIM, claim)?;
    match service.commit(Table::Facts, &partition, &[Write::Insert(row)]).await? {
        Committed::Done(_) => Ok(None),
        Committed::Refused => match holder(service, key).await? {
            Some(holder) => Ok(Some(holder)),
            None => Err(StoreError::Unavailable {
                action: "claim a key",
                reason: "the service says that it is held and by nobody".to_owned(),
            }),
        },
    }
}

/// Who holds a key. One request.
pub async fn holder(service: &Service, key: &str) -> Result<Option<Claim>, StoreError> {
    let (partition, name) = claim_place(key);
    service.row(Table::Facts, &partition, &name).await?.map(|row| row.body(CLAIM)).transpose()
}

/// All claims, each with what removes it. One request for each thousand.
pub async fn claims(service: &Service) -> Result<Vec<(Row, Claim)>, StoreError> {
    let filter = "PartitionKey ge 'claim~' and PartitionKey lt 'claim~~'";
    let (rows, _) = service.rows(Table::Facts, filter, usize::MAX).await?;
    rows.into_iter().map(|row| row.body(CLAIM).map(|claim| (row, claim))).collect()
}

/// Removes a row that was read; whether it was still the same. One request.
pub async fn remove(service: &Service, row: Row) -> Result<bool, StoreError> {
    let delete = Write::Delete { etag: row.etag.unwrap_or_default(), key: row.key };
    Ok(service.commit(Table::Facts, &row.partition, &[delete]).await? != Committed::Refused)
}

/// Throttles that ended before `before`, at most so many. One request for each thousand that there are.
pub async fn old_throttles(service: &Service, before: Timestamp, at_most: usize) -> Result<Vec<Row>, StoreError> {
    let filter = format!("PartitionKey eq {}", quoted(THROTTLE));
    let (rows, _) = service.rows(Table::Facts, &filter, usize::MAX).await?;
    let mut old = Vec::new();
    for row in rows {
        if old.len() < at_most && row.body::<Timestamp>(THROTTLE)? < before {
            old.push(row);
        }
    }
    Ok(old)
}

/// Notes of upkeep from before `before`. One request for each thousand.
pub async fn old_upkeep(service: &Service, before: Timestamp) -> Result<Vec<Row>, StoreError> {
    let hour = moment(before)[..13].to_owned();
    let filter = format!("PartitionKey eq 'upkeep' and RowKey lt {}", quoted(&hour));
    Ok(service.rows(Table::Facts, &filter, usize::MAX).await?.0)
}

/// Until when a subscription is throttled. One request.
pub async fn throttled_until(service: &Service, subscription: &str) -> Result<Option<Timestamp>, StoreError> {
    let row = service.row(Table::Facts, THROTTLE, &hashed(subscription)).await?;
    row.map(|row| row.body(THROTTLE)).transpose()
}

/// Throttles a subscription until then, or longer where it is already. Two requests.
pub async fn throttle(service: &Service, subscription: &str, until: Timestamp) -> Result<(), StoreError> {
    for _ in 0..TRIES {
        let name = hashed(subscription);
        let guard = match service.row(Table::Facts, THROTTLE, &name).await? {
            Some(row) if row.body::<Timestamp>(THROTTLE)? >= until => return Ok(()),
            Some(row) => Guard::Is(Stamp { etag: row.etag.unwrap_or_default(), filed: Vec::new() }),
            None => Guard::Absent,
        };
        let row = Row::new(THROTTLE, name, &operation()).with_body(THROTTLE, &until)?;
        if save(service, THROTTLE, row, guard).await?.is_stored() {
            return Ok(());
        }
    }
    Err(StoreError::Unavailable { action: "note a throttle", reason: format!("others changed it {TRIES} times") })
}

/// Takes a piece of upkeep for this hour; whether nobody had it yet. One request.
pub async fn take_upkeep(service: &Service, hour: Timestamp) -> Result<bool, StoreError> {
    let hour = moment(hour)[..13].to_owned();
    let row = Row::new("upkeep", hour, &operation());
    Ok(service.commit(Table::Facts, "upkeep", &[Write::Insert(row)]).await? != Committed::Refused)
}

/// Writes a row, guarded. One request.
pub async fn save(service: &Service, partition: &str, row: Row, guard: Guard) -> Result<Saved, StoreError> {
    let write = match guard {
        Guard::Absent => Write::Insert(row),
        Guard::Is(stamp) => Write::Replace(row, stamp.etag),
        Guard::Never => return Ok(Saved::Conflict),
    };
    Ok(match service.commit(Table::Facts, partition, &[write]).await? {
        Committed::Done(etags) => {
            let etag = etags.into_iter().next().unwrap_or_default();
            Saved::Stored(Stamp { etag, filed: Vec::new() }.to_etag())
        }
        Committed::Refused => Saved::Conflict,
    })
}
