//! The small bodies of commands: why, and until when.

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::api::{FieldError, Problem};
use super::problem;
use crate::rollout::{Timestamp, Version};

/// The longest reason, in characters.
const LONGEST: usize = 500;

/// What a hold says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRequest {
    /// Until when; without end if `None`.
    pub until: Option<Timestamp>,
    /// Why.
    pub why: String,
}

/// `{"why"?}`; no body at all is none.
pub fn optional(body: &Bytes) -> Result<Option<String>, Problem> {
    let mut members = members(body)?;
    let mut errors = Vec::new();
    let why = why(&mut members, &mut errors);
    finish(members, errors, why)
}

/// `{"until"?, "why"}`; `until` has to be after `now`.
pub fn hold(body: &Bytes, now: Timestamp) -> Result<HoldRequest, Problem> {
    let mut members = members(body)?;
    let mut errors = Vec::new();
    let why = why(&mut members, &mut errors);
    if why.is_none() && errors.is_empty() {
        errors.push(wrong("why", "it is required: who finds the hold wants to know"));
    }
    let until = match members.remove("until").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => match Timestamp::deserialize(value) {
            Ok(until) if until > now => Some(until),
            Ok(_) => {
                errors.push(wrong("until", "it is in the past"));
                None
            }
            Err(_) => {
                errors.push(wrong("until", "expected a time in RFC 3339, such as \"2026-03-14T22:00:00Z\""));
                None
            }
        },
    };
    finish(members, errors, HoldRequest { until, why: why.unwrap_or_default() })
}

/// `{"version"?, "why"?}`; no body at all is neither.
pub fn ran(body: &Bytes) -> Result<(Option<Version>, Option<String>), Problem> {
    let mut members = members(body)?;
    let mut errors = Vec::new();
    let why = why(&mut members, &mut errors);
    let version = match members.remove("version").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => {
            let version = value.as_str().and_then(|text| text.parse().ok());
            if version.is_none() {
                errors.push(wrong("version", "expected a version such as \"1.5.0\""));
            }
            version
        }
    };
    finish(members, errors, (version, why))
}

fn members(body: &Bytes) -> Result<Map<String, Value>, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|error| problem::invalid_field("body", format!("expected a JSON object: {error}")))
}

fn why(members: &mut Map<String, Value>, errors: &mut Vec<FieldError>) -> Option<String> {
    match members.remove("why").filter(|value| !value.is_null())? {
        Value::String(text) if !text.trim().is_empty() && text.chars().count() <= LONGEST => {
            Some(text.trim().to_owned())
        }
        _ => {
            errors.push(wrong("why", &format!("expected a text of 1 to {LONGEST} characters")));
            None
        }
    }
}

fn wrong(field: &str, why: &str) -> FieldError {
    FieldError { field: field.to_owned(), why: why.to_owned() }
}

fn finish<T>(rest: Map<String, Value>, mut errors: Vec<FieldError>, value: T) -> Result<T, Problem> {
    errors.extend(rest.keys().map(|name| wrong(name, "there is no such member")));
    if errors.is_empty() { Ok(value) } else { Err(problem::invalid(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_member_is_named() {
        let now: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let fields = |body: &'static str| {
            let problem = hold(&Bytes::from_static(body.as_bytes()), now).unwrap_err();
            problem.errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(""), ["why"]);
        assert_eq!(fields(r#"{"why": " "}"#), ["why"]);
        assert_eq!(fields(r#"{"why": 7, "until": "tomorrow", "unti": 1}"#), ["why", "until", "unti"]);
        assert_eq!(fields(r#"{"why": "x", "until": "2026-03-10T12:00:00Z"}"#), ["until"]);
        assert_eq!(fields("[]"), ["body"]);
        let body = Bytes::from_static(br#"{"why": " freeze ", "until": "2026-03-10T12:00:01Z"}"#);
        assert_eq!(hold(&body, now).unwrap().why, "freeze");
        assert_eq!(optional(&Bytes::new()).unwrap(), None);
        assert!(optional(&Bytes::from_static(br#"{"until": null}"#)).is_err());
        let problem = ran(&Bytes::from_static(br#"{"version": "1.5", "why": 1, "who": "x"}"#)).unwrap_err();
        let fields: Vec<_> = problem.errors.into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["why", "version", "who"]);
    }
}
