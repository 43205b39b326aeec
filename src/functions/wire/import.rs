//! The body of an import, JSON or CSV, row by row: each is read and checked on its own, so that a file of any length needs
//! no more memory than itself, and a row that is wrong is named with its line while the others are taken.

use std::fmt;

use axum::http::{HeaderMap, header};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::api::{DeploymentRow, Problem};
use super::{cell, problem};
use crate::engine::registry::Import;
use crate::rollout::openness::MOST_WINDOWS;
use crate::rollout::{MaintenanceWindow, Plan, counted};

/// The most rows of one import: so many rejected ones can still be named in one answer.
pub const MOST_ROWS: usize = 500_000;

/// The rows of one import, in their order.
pub enum Rows<'b> {
    /// The items of a JSON array.
    Json(std::iter::Enumerate<std::vec::IntoIter<&'b RawValue>>),
    /// The records of a CSV file.
    Csv(Box<Csv<'b>>),
}

impl<'b> Rows<'b> {
    /// Reads the body as its `Content-Type` says. What is no list of rows at all is refused here, before any row is taken.
    pub fn read(headers: &HeaderMap, body: &'b [u8]) -> Result<Self, Problem> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A byte order mark, as spreadsheets write it, would become part of the first name.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if body.trim_ascii().is_empty() {
            return Err(problem::invalid_field("body", "it is empty"));
        }
        if body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff") {
            return Err(problem::invalid_field("body", "it is UTF-16: save it as UTF-8"));
        }
        match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/json" => Self::json(body),
            "text/csv" => Csv::read(body).map(|csv| Self::Csv(Box::new(csv))),
            _ => Err(problem::invalid_field("Content-Type", "expected application/json or text/csv")),
        }
    }

    fn json(body: &'b [u8]) -> Result<Self, Problem> {
        let FewRows(rows) = serde_json::from_slice(body)
            .map_err(|error| problem::invalid_field("body", format!("expected a JSON array of objects: {error}")))?;
        few_enough(rows.len())?;
        Ok(Self::Json(rows.into_iter().enumerate()))
    }
}

/// The items of an array, and one more than there may be at most: a place for each of fifty million would cost a gigabyte.
struct FewRows<'b>(Vec<&'b RawValue>);

impl<'de> Deserialize<'de> for FewRows<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = FewRows<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = items.next_element()? {
                    if rows.len() <= MOST_ROWS {
                        rows.push(row);
                    }
                }
                Ok(FewRows(rows))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

impl Iterator for Rows<'_> {
    /// The row's line, or its 1-based place in the array; and what it says, or why it is rejected.
    type Item = (u64, Result<Import, String>);

    fn next(&mut self) -> Option<Self::Item> {
        let (line, row) = match self {
            Self::Json(rows) => {
                let (at, row) = rows.next()?;
                (at as u64 + 1, object(row))
            }
            Self::Csv(csv) => csv.next()?,
        };
        Some((line, row.and_then(check)))
    }
}

/// Serde takes an array for a struct, so that what is no object is refused first.
fn object(row: &RawValue) -> Result<DeploymentRow, String> {
    if !row.get().starts_with('{') {
        return Err("it is not an object".to_owned());
    }
    serde_json::from_str(row.get()).map_err(|error| wrong_members(row).unwrap_or_else(|| error.to_string()))
}

/// Which members of an object cannot be read, each with why; `None` where it is not for a single one.
fn wrong_members(row: &RawValue) -> Option<String> {
    let members: serde_json::Map<String, Value> = serde_json::from_str(row.get()).ok()?;
    let why = |(name, value): (String, Value)| {
        let alone = Value::Object([(name.clone(), value)].into_iter().collect());
        let error = serde_json::from_value::<DeploymentRow>(alone).err()?.to_string();
        Some(if error.starts_with(&name) { error } else { format!("{name}: {error}") })
    };
    let wrong: Vec<String> = members.into_iter().filter_map(why).collect();
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

fn few_enough(rows: usize) -> Result<(), Problem> {
    if rows <= MOST_ROWS {
        return Ok(());
    }
    Err(problem::invalid_field("body", format!("more than {MOST_ROWS} rows; send them in parts")))
}

/// A CSV file that is being read.
pub struct Csv<'b> {
    reader: csv::Reader<&'b [u8]>,
    names: csv::StringRecord,
    record: csv::StringRecord,
    lines: Lines<'b>,
}

impl<'b> Csv<'b> {
    fn read(body: &'b [u8]) -> Result<Self, Problem> {
        // Every row but the last ends with one, and a line break inside a field only makes the count too high.
        // A record may also end in a carriage return alone, as old files have it.
        let ends = |pair: &[u8]| pair[0] == b'\n' || pair[0] == b'\r' && pair[1] != b'\n';
        let last = usize::from(body.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')));
        few_enough((body.windows(2).filter(|pair| ends(pair)).count() + last).saturating_sub(1))?;
        // Spreadsheets write semicolons where a comma is part of a number, and tabs where somebody chose text.
        for delimiter in [b',', b';', b'\t'] {
            let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(body);
            let names = reader.headers().map_err(|error| {
                problem::invalid_field("body", format!("the first line of the CSV: {}", why(&error)))
            })?;
            if names.iter().any(|name| name == "applicationId") {
                let (names, lines) = (names.clone(), Lines { text: body, counted_to: 0, line: 1 });
                return Ok(Self { reader, names, record: csv::StringRecord::new(), lines });
            }
        }
        Err(problem::invalid_field("body", "the first line of the CSV has no column applicationId"))
    }

    fn next(&mut self) -> Option<(u64, Result<DeploymentRow, String>)> {
        let (begin, row) = match self.reader.read_record(&mut self.record) {
            Ok(false) => return None,
            Ok(true) => {
                let begin = self.record.position().cloned();
                // As it was before an export made it harmless.
                let mut cells: csv::StringRecord = self.record.iter().map(cell::as_it_was).collect();
                cells.set_position(begin.clone());
                (begin, cells.deserialize(Some(&self.names)))
            }
            Err(error) => (error.position().cloned(), Err(error)),
        };
        let line = self.lines.of_record_at(begin.map_or(0, |begin| begin.byte()));
        Some((line, row.map_err(|error| why(&error))))
    }
}

/// Counts lines, since the reader's own count is one behind after a line that ends in CRLF or is empty.
struct Lines<'b> {
    text: &'b [u8],
    counted_to: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line on which the record begins that the reader found at `byte`; records are asked for in their order.
    fn of_record_at(&mut self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX).clamp(self.counted_to, self.text.len());
        let ends = self.text[byte..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let begin = byte + ends;
        self.line += self.text[self.counted_to..begin].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.counted_to = begin;
        self.line
    }
}

/// What is wrong with a record, without the reader's own idea of where it is.
fn why(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.kind().to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {} where the first line has {expected_len}", counted(*len, "field"))
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

fn check(row: DeploymentRow) -> Result<Import, String> {
    let text = |value: Option<String>| value.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let application_id = text(row.application_id)
        .ok_or("applicationId is required")?
        .parse()
        .map_err(|error| format!("applicationId: {error}"))?;
    let plan = match (text(row.publisher), text(row.offer), text(row.plan)) {
        (None, None, None) => None,
        (Some(publisher), Some(offer), Some(plan)) => {
            let (plan, preview) = Plan::parse(&publisher, &offer, &plan).map_err(|error| error.to_string())?;
            Some((plan, row.preview.unwrap_or(preview)))
        }
        _ => return Err("publisher, offer and plan belong together: name all three, or none".to_owned()),
    };
    let tenant_id = text(row.tenant_id);
    if tenant_id.as_deref().is_some_and(|id| !crate::rollout::resource_id::is_guid(id)) {
        return Err("tenantId is not a GUID".to_owned());
    }
    let short = |name: &str, value: Option<String>| match text(value) {
        Some(text) if text.len() > 500 => Err(format!("{name} has more than 500 characters")),
        text => Ok(text),
    };
    let maintenance_windows = row.maintenance_windows.map(windows).transpose()?.flatten();
    Ok(Import {
        application_id,
        is_vouched: row.confirmed.unwrap_or(true),
        plan,
        version: short("version", row.version)?,
        tenant_id,
        managed_resource_group_id: short("managedResourceGroupId", row.managed_resource_group_id)?,
        location: short("location", row.location)?,
        maintenance_windows,
    })
}

/// Windows, as an array or as the text of one; an empty text says nothing of them.
fn windows(value: Value) -> Result<Option<Vec<MaintenanceWindow>>, String> {
    let named = |error: serde_json::Error| format!("maintenanceWindows: {error}");
    let windows: Vec<MaintenanceWindow> = match value {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => serde_json::from_str(&text).map_err(named)?,
        value => serde_json::from_value(value).map_err(named)?,
    };
    if windows.len() > MOST_WINDOWS {
        return Err(format!("maintenanceWindows: more than {MOST_WINDOWS}"));
    }
    Ok(Some(windows))
}
