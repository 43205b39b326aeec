//! SQL of the table `documents`.

use rusqlite::{Connection, OptionalExtension, Result, named_params};

use super::record::{Guard, Record, saved};
use crate::store::Saved;

/// One document.
pub fn one(connection: &Connection, collection: &str, name: &str) -> Result<Option<Record>> {
    connection
        .prepare_cached("SELECT etag, body FROM documents WHERE collection = :collection AND name = :name")?
        .query_row(named_params! {":collection": collection, ":name": name}, |row| Record::from_row(row, 0))
        .optional()
}

/// Writes a document, guarded.
pub fn save(connection: &Connection, collection: &str, name: &str, body: &str, guard: Guard) -> Result<Saved> {
    match guard {
        Guard::New(etag) => connection
            .prepare_cached(
                "INSERT INTO documents (collection, name, etag, body) VALUES (:collection, :name, :etag, :body)
                 ON CONFLICT (collection, name) DO NOTHING",
            )?
            .execute(named_params! {":collection": collection, ":name": name, ":etag": etag, ":body": body})
            .map(|changed| saved(changed, etag)),
        Guard::Is(etag) => connection
            .prepare_cached(
                "UPDATE documents SET etag = :etag + 1, body = :body
                 WHERE collection = :collection AND name = :name AND etag = :etag",
            )?
            .execute(named_params! {":collection": collection, ":name": name, ":etag": etag, ":body": body})
            .map(|changed| saved(changed, etag + 1)),
        Guard::Never => Ok(Saved::Conflict),
    }
}

/// Removes a document that has this version.
pub fn remove(connection: &Connection, collection: &str, name: &str, etag: i64) -> Result<Saved> {
    connection
        .prepare_cached("DELETE FROM documents WHERE collection = :collection AND name = :name AND etag = :etag")?
        .execute(named_params! {":collection": collection, ":name": name, ":etag": etag})
        .map(|changed| saved(changed, etag))
}

/// Documents whose names lie in `from..to` and behind `after`, in the order of names.
pub fn by_name(
    connection: &Connection,
    collection: &str,
    (from, to): (&str, &str),
    after: Option<&str>,
    rows: i64,
) -> Result<Vec<(String, Record)>> {
    connection
        .prepare_cached(
            "SELECT name, etag, body FROM documents
             WHERE collection = :collection AND name >= :from AND name < :to AND name > :after
             ORDER BY name LIMIT :rows",
        )?
        .query_map(
            named_params! {
                ":collection": collection, ":from": from, ":to": to, ":after": after.unwrap_or(""), ":rows": rows,
            },
            |row| Ok((row.get(0)?, Record::from_row(row, 1)?)),
        )?
        .collect()
}
