//! Decides what one response of the handler means: success, failure, or an invocation that never completes. Pure.
//!
//! The rules are those of contracts/custom-handler.md §6.1.

use http::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// `{Outputs, Logs, ReturnValue}`, values kept as they were written.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// By name, case kept; `None` if absent or null.
    pub outputs: Option<Vec<(String, Box<RawValue>)>>,
    /// Log lines.
    pub logs: Vec<String>,
    /// The return value; `None` if absent or null.
    pub return_value: Option<Box<RawValue>>,
}

/// What a response means.
#[derive(Debug)]
pub enum Accepted {
    /// The invocation succeeded, as far as the handler is concerned.
    Success(Envelope),
    /// No result is ever set: the invocation hangs until its timeout.
    NeverCompletes,
}

/// The invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// Not 2xx. The body is not looked at.
    #[error("the handler answered {status}")]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// A body that is not said to be JSON.
    #[error("the handler answered with content type {content_type:?} instead of application/json")]
    ContentType {
        /// What it is said to be.
        content_type: String,
    },
    /// A body that is not an envelope.
    #[error("the handler's answer is not the envelope of outputs, logs and return value")]
    Malformed {
        /// Where it breaks.
        source: serde_json::Error,
    },
}

/// Judges a response.
///
/// # Errors
/// If it makes the invocation fail.
pub fn judge(status: StatusCode, content_type: Option<&str>, body: &[u8]) -> Result<Accepted, Rejected> {
    if !status.is_success() {
        return Err(Rejected::Status { status });
    }
    if body.is_empty() {
        return Ok(Accepted::NeverCompletes);
    }
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !["application/json", "text/json"].iter().any(|json| media.eq_ignore_ascii_case(json)) {
        return Err(Rejected::ContentType { content_type: media.to_owned() });
    }
    let envelope: Option<Envelope> = serde_json::from_slice(body).map_err(|source| Rejected::Malformed { source })?;
    Ok(envelope.map_or(Accepted::NeverCompletes, Accepted::Success))
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Envelope, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(name) = members.next_key::<String>()? {
            if name.eq_ignore_ascii_case("Outputs") {
                envelope.outputs = members.next_value::<Option<Members>>()?.map(|Members(members)| members);
            } else if name.eq_ignore_ascii_case("Logs") {
                envelope.logs = members
                    .next_value::<Option<Vec<LogLine>>>()?
                    .unwrap_or_default()
                    .into_iter()
                    .map(|line| line.0)
                    .collect();
            } else if name.eq_ignore_ascii_case("ReturnValue") {
                let value = members.next_value::<Box<RawValue>>()?;
                envelope.return_value = (value.get() != "null").then_some(value);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(envelope)
    }
}

/// The members of an object, in their order.
pub struct Members(pub Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = from.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// A log line: any scalar, as text.
struct LogLine(String);

impl<'de> Deserialize<'de> for LogLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Null => Ok(Self(String::new())),
            scalar @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_)) => Ok(Self(scalar.to_string())),
            _ => Err(D::Error::custom("a log line has to be text")),
        }
    }
}
