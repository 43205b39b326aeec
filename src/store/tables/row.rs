//! Rows: how a record becomes properties of bounded size, and how its version is written down.
//!
//! A string of Table Storage holds 32 Ki UTF-16 units, a row 1 MiB (contracts/service-bus-and-tables.md §2.4): a record's
//! JSON is cut over `body0`, `body1`, … and what does not fit a row is refused, never shortened.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::store::{ETag, StoreError};

/// The longest piece of a body, in UTF-16 units.
const PIECE: usize = 30_000;
/// The longest body, in UTF-16 units: a row is at most 1 MiB of which some is for names and the rest.
const LONGEST: usize = 480_000;
/// Marks a write, so that one whose answer was lost is known again (§2.3).
pub const OPERATION: &str = "opId";

/// A row: its key within its partition, and its properties.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `PartitionKey`.
    pub partition: String,
    /// `RowKey`.
    pub key: String,
    /// The version that the service gave it; none before it is written.
    pub etag: Option<String>,
    properties: Map<String, Value>,
}

impl Row {
    /// A row without properties, to be written by the operation `operation`.
    pub fn new(partition: impl Into<String>, key: impl Into<String>, operation: &str) -> Self {
        let mut properties = Map::new();
        properties.insert(OPERATION.to_owned(), operation.into());
        Self { partition: partition.into(), key: key.into(), etag: None, properties }
    }

    /// The same with a property.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.properties.insert(name.to_owned(), value.into());
        self
    }

    /// The same with a record.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it is larger than a row can be.
    pub fn with_body<T: Serialize>(mut self, what: &'static str, record: &T) -> Result<Self, StoreError> {
        let body = serde_json::to_string(record)
            .expect("records have only string keys and finite parts, which always serialise");
        let units = body.encode_utf16().count();
        if units > LONGEST {
            let reason = format!("the {what} takes {units} UTF-16 units, and a row of Table Storage holds {LONGEST}");
            return Err(StoreError::Unavailable { action: "write a record", reason });
        }
        for (number, piece) in pieces(&body).into_iter().enumerate() {
            self.properties.insert(format!("body{number}"), piece.into());
        }
        Ok(self)
    }

    /// A row as the service sent it. `None` if it is none.
    pub fn received(mut properties: Map<String, Value>) -> Option<Self> {
        let mut text = |name: &str| match properties.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (partition, key) = (text("PartitionKey")?, text("RowKey")?);
        let etag = text("odata.etag");
        properties.retain(|name, _| !name.contains('.') && !name.contains('@') && name != "Timestamp");
        Some(Self { partition, key, etag, properties })
    }

    /// A property that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.properties.get(name).and_then(Value::as_str)
    }

    /// A property that is a small number.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.properties.get(name).and_then(Value::as_u64).and_then(|number| number.try_into().ok())
    }

    /// The record in it.
    pub fn body<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, StoreError> {
        let mut body = String::new();
        for number in 0.. {
            match self.text(&format!("body{number}")) {
                Some(piece) => body.push_str(piece),
                None => break,
            }
        }
        serde_json::from_str(&body).map_err(|error| StoreError::Corrupt { what, reason: error.to_string() })
    }

    /// About how many bytes it takes on the way.
    pub fn weight(&self) -> usize {
        200 + self.properties.values().map(|value| value.as_str().map_or(16, str::len) + 16).sum::<usize>()
    }

    /// What is sent.
    pub fn to_entity(&self) -> Map<String, Value> {
        let mut entity = self.properties.clone();
        entity.insert("PartitionKey".to_owned(), self.partition.clone().into());
        entity.insert("RowKey".to_owned(), self.key.clone().into());
        entity
    }
}

/// Cuts a text into pieces that a property holds.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut units) = (0, 0);
    for (at, character) in text.char_indices() {
        if units + character.len_utf16() > PIECE {
            pieces.push(&text[start..at]);
            (start, units) = (at, 0);
        }
        units += character.len_utf16();
    }
    pieces.push(&text[start..]);
    pieces
}

/// A version as it is given out: the service's own, and what the rows beside the record (counts, due times) are to be
/// changed from. A writer that has the right version needs not read what it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The service's version.
    pub etag: String,
    /// What the record was filed under.
    pub filed: Vec<String>,
}

/// What a write is guarded by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// There must be no such record.
    Absent,
    /// It must have this version.
    Is(Stamp),
    /// A version that we never gave out.
    Never,
}

impl Stamp {
    /// The version as callers see it.
    pub fn to_etag(&self) -> ETag {
        ETag(Value::from_iter([Value::from(self.etag.as_str()), Value::from(self.filed.clone())]).to_string())
    }
}

impl Guard {
    /// The guard that callers hold; `filed` is how many parts the stamps of such records have.
    pub fn of(etag: Option<&ETag>, filed: usize) -> Self {
        let Some(ETag(text)) = etag else { return Self::Absent };
        match serde_json::from_str::<(String, Vec<String>)>(text) {
            // `*` would match whatever is there.
            Ok((etag, parts)) if etag.starts_with("W/\"") && parts.len() == filed => {
                Self::Is(Stamp { etag, filed: parts })
            }
            _ => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_cut_between_characters_and_read_back() {
        for text in ["", "short", &"x".repeat(PIECE), &"\u{1f680}".repeat(PIECE), &"aü".repeat(PIECE + 1)] {
            let row = Row::new("p", "k", "1").with_body("text", &text).unwrap();
            assert_eq!(row.body::<String>("text").unwrap(), *text);
            let longest = row.properties.values().filter_map(Value::as_str).map(|piece| piece.encode_utf16().count());
            assert!(longest.max() <= Some(PIECE));
        }
    }

    #[test]
    fn a_body_that_no_row_holds_is_refused_and_the_longest_is_not() {
        let text = |units: usize| "x".repeat(units - 2);
        assert!(Row::new("p", "k", "1").with_body("text", &text(LONGEST)).is_ok());
        let refused = Row::new("p", "k", "1").with_body("text", &text(LONGEST + 1)).unwrap_err().to_string();
        assert!(refused.contains("480001"), "{refused}");
    }

    #[test]
    fn only_versions_that_we_gave_out_guard_anything() {
        let stamp = Stamp { etag: "W/\"datetime'2026'\"".to_owned(), filed: vec!["a\"b".to_owned(), String::new()] };
        assert_eq!(Guard::of(Some(&stamp.to_etag()), 2), Guard::Is(stamp.clone()));
        assert_eq!(Guard::of(Some(&stamp.to_etag()), 3), Guard::Never);
        assert_eq!(Guard::of(None, 2), Guard::Absent);
        for foreign in ["W/\"no version of ours\"", "17", "*", "[\"*\",[\"\",\"\"]]"] {
            assert_eq!(Guard::of(Some(&ETag(foreign.to_owned())), 2), Guard::Never, "{foreign}");
        }
    }

    #[test]
    fn what_the_service_adds_is_not_taken_for_ours() {
        let sent = r#"{"odata.type":"a.T","odata.etag":"W/\"1\"","PartitionKey":"p","RowKey":"k","opId":"1",
            "Timestamp@odata.type":"Edm.DateTime","Timestamp":"2026-01-01T00:00:00Z","wave":2}"#;
        let row = Row::received(serde_json::from_str(sent).unwrap()).unwrap();
        let expected = Row { etag: Some("W/\"1\"".to_owned()), ..Row::new("p", "k", "1").with("wave", 2) };
        assert_eq!(row, expected);
        assert_eq!((row.number("wave"), row.text("none")), (Some(2), None));
    }
}
