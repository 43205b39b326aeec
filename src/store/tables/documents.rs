//! Documents: a partition for each collection, a row for each name.

use serde_json::Value;

use super::facts::{operation, save as save_row};
use super::place::quoted;
use super::row::{Guard, Row, Stamp};
use super::service::{Committed, Service, Table, Write};
use crate::store::document::{DocumentName, after_name, continuation_after, prefix_range};
use crate::store::{ETag, Page, PageRequest, Saved, StoreError, Versioned};

fn partition(collection: &str) -> String {
    format!("document~{collection}")
}

fn read(collection: &'static str, row: &Row) -> Result<Versioned<Value>, StoreError> {
    let stamp = Stamp { etag: row.etag.clone().unwrap_or_default(), filed: Vec::new() };
    Ok(Versioned { value: row.body(collection)?, etag: Some(stamp.to_etag()) })
}

/// One document. One request.
pub async fn one(
    service: &Service,
    collection: &'static str,
    name: &DocumentName,
) -> Result<Option<Versioned<Value>>, StoreError> {
    let row = service.row(Table::Facts, &partition(collection), name.as_str()).await?;
    row.map(|row| read(collection, &row)).transpose()
}

/// Writes a document, guarded. One request.
pub async fn save(
    service: &Service,
    collection: &'static str,
    name: &DocumentName,
    document: &Versioned<Value>,
) -> Result<Saved, StoreError> {
    let partition = partition(collection);
    let row = Row::new(partition.as_str(), name.as_str(), &operation()).with_body(collection, &document.value)?;
    save_row(service, &partition, row, Guard::of(document.etag.as_ref(), 0)).await
}

/// Removes a document, guarded. One request.
pub async fn remove(
    service: &Service,
    collection: &'static str,
    name: &DocumentName,
    etag: &ETag,
) -> Result<Saved, StoreError> {
    let Guard::Is(stamp) = Guard::of(Some(etag), 0) else { return Ok(Saved::Conflict) };
    let delete = Write::Delete { key: name.as_str().to_owned(), etag: stamp.etag };
    Ok(match service.commit(Table::Facts, &partition(collection), &[delete]).await? {
        Committed::Done(_) => Saved::Stored(etag.clone()),
        Committed::Refused => Saved::Conflict,
    })
}

/// Documents in the order of their names. One request for each thousand.
pub async fn by_name(
    service: &Service,
    collection: &'static str,
    prefix: &str,
    request: &PageRequest,
) -> Result<Page<(DocumentName, Versioned<Value>)>, StoreError> {
    let (from, to) = prefix_range(prefix);
    let after = after_name(request.continuation.as_deref())?.map(|after| format!(" and RowKey gt {}", quoted(&after)));
    let filter = format!(
        "PartitionKey eq {} and RowKey ge {} and RowKey lt {}{}",
        quoted(&partition(collection)),
        quoted(&from),
        quoted(&to),
        after.unwrap_or_default(),
    );
    let top = request.top.max(1);
    let (rows, _) = service.rows(Table::Facts, &filter, top + 1).await?;
    let read = |row: &Row| Ok((DocumentName::from_stored(row.key.clone()), read(collection, row)?));
    let items = rows.iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
    Ok(super::page(items, top, |(name, _)| continuation_after(name)))
}
