//! Writes the request bodies for timers and queue messages: `{Data, Metadata}`. It sends nothing.
//!
//! The encoding is the real host's, oddities included (contracts/custom-handler.md §5): texts are JSON texts carried as
//! texts, numbers are texts, times have no fraction and some no zone, nulls are left out. Bodies are written straight
//! from structs: every queue message pays for this.

use base64::display::Base64Display;
use bytes::Bytes;
use chrono::SecondsFormat;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::metadata::BodyKind;
use crate::{queue::Delivery, rollout::Timestamp};

/// Messages without an end of life expire with .NET's calendar.
const NEVER_UTC: &str = "9999-12-31T23:59:59";
const NEVER: &str = "9999-12-31T23:59:59+00:00";

/// The `sys` member: what the host says about the event.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Sys<'a> {
    method_name: &'a str,
    utc_now: String,
    rand_guid: Uuid,
}

impl<'a> Sys<'a> {
    /// For one event of that function.
    pub fn new(function: &'a str, now: Timestamp) -> Self {
        // Seven decimals, always.
        let mut utc_now = now.to_rfc3339_opts(SecondsFormat::Nanos, true);
        utc_now.truncate(utc_now.len() - 3);
        utc_now.push('Z');
        Self { method_name: function, utc_now, rand_guid: Uuid::new_v4() }
    }
}

/// What a timer function is told.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TimerInfo {
    schedule: TimerSchedule,
    schedule_status: Option<TimerStatus>,
    is_past_due: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct TimerSchedule {
    #[serde(rename = "AdjustForDST")]
    adjust_for_dst: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TimerStatus {
    last: String,
    next: String,
    last_updated: String,
}

/// Times of a monitored timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerTimes {
    /// The last run; `None` before the first.
    pub last: Option<Timestamp>,
    /// When this run was due.
    pub next: Timestamp,
    /// When that was worked out.
    pub last_updated: Timestamp,
}

/// Whether a run is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Punctuality {
    /// It is on time.
    OnTime,
    /// Its time went by while the host was down.
    PastDue,
}

impl TimerInfo {
    /// For one run; `times` is `None` without a monitor.
    pub fn new(schedule: &crate::ncrontab::Schedule, times: Option<TimerTimes>, punctuality: Punctuality) -> Self {
        Self {
            schedule: TimerSchedule { adjust_for_dst: schedule.keeps_to_the_wall_clock() },
            schedule_status: times.map(|times| TimerStatus {
                last: times.last.map_or_else(|| "0001-01-01T00:00:00+00:00".to_owned(), with_fraction),
                next: with_fraction(times.next),
                last_updated: with_fraction(times.last_updated),
            }),
            is_past_due: punctuality == Punctuality::PastDue,
        }
    }
}

/// `RetryContext`: present from the first attempt on when a retry policy applies.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RetryContext {
    /// Retries made so far.
    retry_count: u32,
    /// How many there may be; -1 is any number.
    max_retry_count: i64,
    exception: Option<RetryException>,
    instance: Option<()>,
    state: Empty,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RetryException {
    class_name: &'static str,
    message: String,
}

impl RetryContext {
    /// For the attempt after so many retries; a later one names the function that failed.
    pub fn new(function: &str, retries_made: u32, most: Option<u32>) -> Self {
        Self {
            retry_count: retries_made,
            max_retry_count: most.map_or(-1, i64::from),
            exception: (retries_made > 0).then(|| RetryException {
                class_name: "Microsoft.Azure.WebJobs.Host.FunctionInvocationException",
                message: format!("Exception while executing function: Functions.{function}"),
            }),
            instance: None,
            state: Empty {},
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<D, M> {
    data: D,
    metadata: M,
}

/// An object of one member.
struct One<'a, T>(&'a str, T);

impl<T: Serialize> Serialize for One<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TimerMetadata<'a> {
    #[serde(rename = "sys")]
    sys: Sys<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_context: Option<RetryContext>,
}

/// The body for one run of a timer.
pub fn timer(binding: &str, info: &TimerInfo, sys: Sys<'_>, retry_context: Option<RetryContext>) -> Bytes {
    written(&Request { data: One(binding, info), metadata: TimerMetadata { sys, retry_context } })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MessageMetadata<'a> {
    message_receiver: Empty,
    message_session: Empty,
    message_actions: Empty,
    session_actions: Empty,
    receive_actions: Empty,
    client: QueueClient,
    delivery_count: String,
    lock_token: Quoted<'a>,
    expires_at_utc: &'static str,
    expires_at: &'static str,
    enqueued_time_utc: String,
    enqueued_time: String,
    message_id: Quoted<'a>,
    sequence_number: String,
    application_properties: Empty,
    user_properties: Empty,
    #[serde(rename = "sys")]
    sys: Sys<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct QueueClient {
    fully_qualified_namespace: &'static str,
    is_closed: bool,
    transport_type: u8,
    identifier: &'static str,
}

/// The body for one message.
pub fn message(binding: &str, delivery: &Delivery, kind: BodyKind, sys: Sys<'_>) -> Bytes {
    let enqueued_time_utc = without_zone(delivery.enqueued_at);
    let metadata = MessageMetadata {
        message_receiver: Empty {},
        message_session: Empty {},
        message_actions: Empty {},
        session_actions: Empty {},
        receive_actions: Empty {},
        client: QueueClient {
            fully_qualified_namespace: "localhost",
            is_closed: false,
            transport_type: 0,
            identifier: "localhost-embedded",
        },
        delivery_count: delivery.delivery_count.to_string(),
        lock_token: Quoted(&delivery.lock.0),
        expires_at_utc: NEVER_UTC,
        expires_at: NEVER,
        enqueued_time: format!("{enqueued_time_utc}+00:00"),
        enqueued_time_utc,
        message_id: Quoted(&delivery.id),
        sequence_number: delivery.sequence_number.to_string(),
        application_properties: Empty {},
        user_properties: Empty {},
        sys,
    };
    match kind {
        BodyKind::Binary => written(&Request { data: One(binding, InBase64(&delivery.body)), metadata }),
        BodyKind::Text => {
            let text = String::from_utf8_lossy(&delivery.body);
            let mut members = object(&metadata);
            merge_body(&mut members, &text);
            written(&Request { data: One(binding, Quoted(&text)), metadata: finished(members) })
        }
    }
}

/// Merges the top-level members of a text that is a JSON object into the metadata, names compared without regard to
/// case; what is there is overwritten, which is how a sender can forge it.
pub fn merge_body(metadata: &mut Map<String, Value>, text: &str) {
    let trimmed = text.trim();
    if !(trimmed.starts_with('{') && trimmed.ends_with('}')) {
        return;
    }
    let Ok(Value::Object(members)) = serde_json::from_str(trimmed) else {
        return;
    };
    for (name, value) in members {
        let value = match value {
            Value::Null | Value::Array(_) => continue,
            object @ Value::Object(_) => object,
            Value::Bool(true) => quoted("True"),
            Value::Bool(false) => quoted("False"),
            Value::Number(number) => quoted(&number.to_string()),
            Value::String(text) => quoted(date_as_dotnet_prints_it(&text).as_deref().unwrap_or(&text)),
        };
        put(metadata, &name, value);
    }
}

/// Sets a member; a member whose name differs only in case keeps its name and gets the value.
pub fn put(metadata: &mut Map<String, Value>, name: &str, value: Value) {
    let known = metadata.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    metadata.insert(known.unwrap_or_else(|| name.to_owned()), value);
}

/// The metadata as it is sent: members whose names end in "trigger" are dropped.
pub fn finished(mut metadata: Map<String, Value>) -> Map<String, Value> {
    metadata.retain(|name, _| !name.to_ascii_lowercase().ends_with("trigger"));
    metadata
}

/// A text as the host carries it: its JSON text, as a text.
pub fn quoted(text: &str) -> Value {
    Value::String(json_text(text))
}

/// A struct as an object that members can be put into.
pub fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// A body: data and metadata.
pub fn request(binding: &str, data: &Value, metadata: Map<String, Value>) -> Bytes {
    written(&Request { data: One(binding, data), metadata: finished(metadata) })
}

fn written(request: &impl Serialize) -> Bytes {
    serde_json::to_vec(request).expect("envelopes have text keys and no maps that could fail").into()
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("text always serialises")
}

struct Quoted<'a>(&'a str);

impl Serialize for Quoted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&json_text(self.0))
    }
}

struct InBase64<'a>(&'a [u8]);

impl Serialize for InBase64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &base64::engine::general_purpose::STANDARD))
    }
}

fn without_zone(time: Timestamp) -> String {
    let mut text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
    text.truncate(text.len() - 1);
    text
}

/// Up to seven decimals, the last one not zero.
fn with_fraction(time: Timestamp) -> String {
    let ticks = time.timestamp_subsec_nanos() / 100;
    let fraction = if ticks == 0 { String::new() } else { format!(".{ticks:07}") };
    format!("{}{}+00:00", without_zone(time), fraction.trim_end_matches('0'))
}

/// Newtonsoft takes texts that look like ISO times for times and prints them its own way.
fn date_as_dotnet_prints_it(text: &str) -> Option<String> {
    let format = "%m/%d/%Y %H:%M:%S";
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.naive_utc().format(format).to_string());
    }
    let local = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(local.format(format).to_string())
}
