//! What goes over the wire when messages are sent: items of a batch, and where a batch ends
//! (contracts/service-bus-and-tables.md §1.4, §1.5, §1.7).
//!
//! Pure: sends nothing, and changes neither ids nor bodies.

use chrono::{DurationRound as _, TimeDelta};
use serde::Serialize;

use crate::queue::{Message, Outgoing, Postmark};
use crate::rollout::Timestamp;

/// The content type of a batch. With anything behind it, such as a charset, the array would be taken for one message.
pub const CONTENT_TYPE: &str = "application/vnd.microsoft.servicebus.json";
/// The most messages in one request.
pub const MOST_ITEMS: usize = 100;
/// The largest request body, in bytes; Service Bus takes 256 KB, its own additions included.
pub const LARGEST_BATCH: usize = 192 * 1024;
/// How long a message id, and a correlation id, may be, in characters.
pub const LONGEST_ID: usize = 128;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    body: &'a str,
    broker_properties: BrokerProperties<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_properties: Option<UserProperties>,
}

/// What the Functions host takes up: its own trace of the delivery then continues ours.
#[derive(Serialize)]
struct UserProperties {
    #[serde(rename = "Diagnostic-Id")]
    diagnostic_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BrokerProperties<'a> {
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_enqueue_time_utc: Option<String>,
}

/// Each message as an item of a batch.
///
/// # Errors
/// Why Service Bus would refuse one of them: its id, or its size.
pub fn items(messages: &[Outgoing], now: Timestamp) -> Result<Vec<String>, String> {
    messages.iter().map(|message| item(message, now)).collect()
}

fn item(message: &Outgoing, now: Timestamp) -> Result<String, String> {
    let length = message.id.chars().count();
    if !(1..=LONGEST_ID).contains(&length) {
        return Err(format!("a message id has 1 to {LONGEST_ID} characters, and one has {length}"));
    }
    let (label, correlation_id) = subject(&message.body);
    let item = Item {
        body: &message.body,
        broker_properties: BrokerProperties {
            message_id: &message.id,
            correlation_id,
            label,
            // What is due is sent without a time, so that a clock that is behind cannot hold it up.
            scheduled_enqueue_time_utc: message.due.filter(|due| *due > now).map(http_date),
        },
        user_properties: Postmark::of(message.body.as_bytes())
            .trace
            .map(|trace| UserProperties { diagnostic_id: trace.to_string() }),
    };
    let json = serde_json::to_string(&item).map_err(|error| format!("a message cannot be written as JSON: {error}"))?;
    let size = json.len() + "[]".len();
    if size > LARGEST_BATCH {
        return Err(format!("a message of {size} bytes is too large: {LARGEST_BATCH} is the most"));
    }
    Ok(json)
}

/// Label and correlation id: what kind of message it is, and what it is about. They are for people who look into a queue.
fn subject(body: &str) -> (Option<&'static str>, Option<String>) {
    let Ok(message) = Message::from_body(body.as_bytes()) else { return (None, None) };
    let kind = message.kind();
    let about = match message {
        Message::PlanRollout { rollout_id } => Some(rollout_id.to_string()),
        Message::Refresh { rollout_id, key } => Some(format!("{rollout_id}:{key}")),
        Message::CheckDeployment { key } => Some(key.to_string()),
        Message::SyncDeployments { run } => Some(run),
        Message::ConsentOfTenant { tenant_id } => Some(tenant_id),
        Message::LookAtRelationship { relationship_id } => Some(relationship_id),
        Message::PollShare { .. } => None,
        Message::Tell { note } => Some(note),
    };
    (Some(kind), about)
}

/// A time as HTTP writes it, in whole seconds and never before `at`.
pub fn http_date(at: Timestamp) -> String {
    let second = TimeDelta::seconds(1);
    let down = at.duration_trunc(second).unwrap_or(at);
    let up = if down < at { down.checked_add_signed(second).unwrap_or(down) } else { down };
    up.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Cuts items into batches, in order, each as large as it may be.
pub fn batches(items: &[String]) -> Vec<&[String]> {
    let mut batches = Vec::new();
    let (mut from, mut size) = (0, 1);
    for (at, item) in items.iter().enumerate() {
        // A comma or a bracket behind each, and one bracket before all.
        let with_it = size + item.len() + 1;
        if at > from && (at - from == MOST_ITEMS || with_it > LARGEST_BATCH) {
            batches.push(&items[from..at]);
            (from, size) = (at, 1 + item.len() + 1);
        } else {
            size = with_it;
        }
    }
    if from < items.len() {
        batches.push(&items[from..]);
    }
    batches
}

/// The body of a request.
pub fn body(items: &[String]) -> String {
    format!("[{}]", items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_to_the_second_that_an_http_date_can_say() {
        for (at, expected) in [
            ("1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("1994-11-06T08:49:37.000000001Z", "Sun, 06 Nov 1994 08:49:38 GMT"),
            ("2026-12-31T23:59:59.999Z", "Fri, 01 Jan 2027 00:00:00 GMT"),
            ("2026-03-09T15:00:05Z", "Mon, 09 Mar 2026 15:00:05 GMT"),
        ] {
            assert_eq!(http_date(at.parse().unwrap()), expected, "{at}");
        }
    }

    #[test]
    fn a_batch_has_a_hundred_items_at_most() {
        let sizes = |count: usize| -> Vec<usize> {
            let items = vec!["{}".to_owned(); count];
            batches(&items).iter().map(|batch| batch.len()).collect()
        };
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(100), [100]);
        assert_eq!(sizes(101), [100, 1]);
        assert_eq!(sizes(250), [100, 100, 50]);
    }

    #[test]
    fn a_batch_fills_its_bytes_to_the_last_one() {
        let of = |length: usize| "x".repeat(length);
        let whole = LARGEST_BATCH - "[,]".len();
        let items = [of(whole - 10), of(10)];
        assert_eq!(batches(&items).len(), 1);
        assert_eq!(body(&items).len(), LARGEST_BATCH);
        let items = [of(whole - 10), of(11), of(whole - 11), of(1)];
        let cut: Vec<usize> = batches(&items).iter().map(|batch| batch.len()).collect();
        assert_eq!(cut, [1, 2, 1], "one byte more than fits begins a batch");
        assert!(batches(&items).iter().all(|batch| body(batch).len() <= LARGEST_BATCH));
    }

    #[test]
    fn an_item_says_what_it_is_about_and_only_what_is_not_due_yet_has_a_time() {
        let now: Timestamp = "2026-03-09T15:00:00Z".parse().unwrap();
        let rollout = "0198f000-0000-7000-8000-000000000001";
        let key = "ab".repeat(32);
        let body = format!(r#"{{"kind":"refresh","rolloutId":"{rollout}","key":"{key}"}}"#);
        let later = Outgoing { id: "i".to_owned(), body: body.clone(), due: Some(now + TimeDelta::milliseconds(1)) };
        let json: serde_json::Value = serde_json::from_str(&item(&later, now).unwrap()).unwrap();
        let expected = serde_json::json!({"Body": body, "BrokerProperties": {
            "MessageId": "i", "CorrelationId": format!("{rollout}:{key}"), "Label": "refresh",
            "ScheduledEnqueueTimeUtc": "Mon, 09 Mar 2026 15:00:01 GMT",
        }});
        assert_eq!(json, expected);
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = format!(r#"{{"kind":"refresh","rolloutId":"{rollout}","key":"{key}","trace":"{trace}"}}"#);
        let traced = Outgoing { body: traced, ..later };
        let json: serde_json::Value = serde_json::from_str(&item(&traced, now).unwrap()).unwrap();
        assert_eq!(json["UserProperties"], serde_json::json!({"Diagnostic-Id": trace}));
        let due = Outgoing { id: "i".to_owned(), body: "no message of ours".to_owned(), due: Some(now) };
        assert_eq!(item(&due, now).unwrap(), r#"{"Body":"no message of ours","BrokerProperties":{"MessageId":"i"}}"#);
    }
}
