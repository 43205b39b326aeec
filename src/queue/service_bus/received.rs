//! Reads what Service Bus answers to a receiver: `BrokerProperties` and the properties of dead letters
//! (contracts/service-bus-and-tables.md §1.5).
//!
//! Times come as HTTP dates, so in whole seconds.

use azure_core_legacy::CollectedResponse;
use azure_core_legacy::headers::HeaderName;
use serde::Deserialize;
use uuid::Uuid;

use crate::queue::{DeadLetter, Delivery, LockToken};
use crate::rollout::Timestamp;
use crate::rollout::counted::times;

/// Why Service Bus itself buries a message.
const TOO_MANY_DELIVERIES: &str = "MaxDeliveryCountExceeded";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BrokerProperties {
    #[serde(default)]
    message_id: String,
    delivery_count: u32,
    sequence_number: i64,
    lock_token: Uuid,
    #[serde(deserialize_with = "http_date")]
    locked_until_utc: Timestamp,
    #[serde(deserialize_with = "http_date")]
    enqueued_time_utc: Timestamp,
}

fn http_date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    chrono::DateTime::parse_from_rfc2822(&text).map(|at| at.to_utc()).map_err(serde::de::Error::custom)
}

/// The right to settle one delivery, as the path of its address says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    sequence: i64,
    token: Uuid,
}

impl Lock {
    /// The lock of a token, if it is one of Service Bus.
    pub fn of(token: &LockToken) -> Option<Self> {
        let (sequence, token) = token.0.split_once('/')?;
        Some(Self { sequence: sequence.parse().ok()?, token: token.parse().ok()? })
    }

    /// Below `…/messages/`.
    pub fn path(self) -> String {
        format!("{}/{}", self.sequence, self.token)
    }
}

/// The message in an answer.
///
/// # Errors
/// If `BrokerProperties` are missing, or not what the contract says.
pub fn delivery(answer: &CollectedResponse) -> Result<Delivery, String> {
    let text = header(answer, "brokerproperties").ok_or("a message came without BrokerProperties")?;
    let properties: BrokerProperties = serde_json::from_str(&text)
        .map_err(|error| format!("a message came with BrokerProperties that cannot be read: {error}"))?;
    let lock = Lock { sequence: properties.sequence_number, token: properties.lock_token };
    Ok(Delivery {
        id: properties.message_id,
        body: answer.body().to_vec(),
        delivery_count: properties.delivery_count,
        sequence_number: properties.sequence_number,
        enqueued_at: properties.enqueued_time_utc,
        lock: LockToken(lock.path()),
        locked_until: properties.locked_until_utc,
    })
}

/// The dead letter in an answer, and its lock. When it died is not said over HTTP; when it became deliverable is.
///
/// # Errors
/// As [`delivery`].
pub fn dead_letter(answer: &CollectedResponse) -> Result<(DeadLetter, LockToken), String> {
    let delivery = delivery(answer)?;
    let reason = header(answer, "deadletterreason");
    let description = header(answer, "deadlettererrordescription");
    // Each look at a dead letter counts as a delivery, so what it died of is more telling than its count.
    let deliveries = description.as_deref().filter(|_| reason.as_deref() == Some(TOO_MANY_DELIVERIES)).and_then(number);
    let letter = DeadLetter {
        id: delivery.id,
        body: delivery.body,
        delivery_count: deliveries.unwrap_or(delivery.delivery_count),
        reason: match (deliveries, reason, description) {
            (Some(deliveries), ..) => format!("it was delivered {} and never completed", times(u64::from(deliveries))),
            (None, Some(reason), Some(description)) => format!("{reason}: {description}"),
            (None, Some(reason), None) => reason,
            (None, None, description) => description.unwrap_or_else(|| "Service Bus gives no reason".to_owned()),
        },
        at: delivery.enqueued_at,
    };
    Ok((letter, delivery.lock))
}

/// A header; texts among the custom properties come in quotes.
fn header(answer: &CollectedResponse, name: &'static str) -> Option<String> {
    let value = answer.headers().get_optional_string(&HeaderName::from_static(name))?;
    Some(serde_json::from_str::<String>(&value).unwrap_or(value))
}

/// The first number in a text.
fn number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use azure_core_legacy::StatusCode;
    use azure_core_legacy::headers::Headers;

    use super::*;

    const PROPERTIES: &str = r#"{"DeliveryCount":12,"EnqueuedSequenceNumber":0,"EnqueuedTimeUtc":"Mon, 09 Mar 2026 15:00:05 GMT",
        "LockToken":"5c4f52ab-30e0-4f1a-8a30-6d7bb1f5d3a1","LockedUntilUtc":"Mon, 09 Mar 2026 15:01:05 GMT",
        "MessageId":"m","SequenceNumber":4294967297,"State":"Active","TimeToLive":922337203685.47754}"#;

    fn answer(headers: &[(&'static str, &str)]) -> CollectedResponse {
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(*name, (*value).to_owned());
        }
        CollectedResponse::new(StatusCode::Created, all, "\u{0}\u{fe}".into())
    }

    #[test]
    fn a_delivery_is_read_from_broker_properties() {
        let delivery = delivery(&answer(&[("brokerproperties", PROPERTIES)])).unwrap();
        assert_eq!((delivery.id.as_str(), delivery.delivery_count, delivery.sequence_number), ("m", 12, 4294967297));
        assert_eq!(delivery.locked_until.to_rfc3339(), "2026-03-09T15:01:05+00:00");
        assert_eq!(delivery.lock.0, "4294967297/5c4f52ab-30e0-4f1a-8a30-6d7bb1f5d3a1");
        assert_eq!(Lock::of(&delivery.lock).map(Lock::path), Some(delivery.lock.0));
    }

    #[test]
    fn a_message_without_usable_properties_is_told_apart() {
        for headers in [&[][..], &[("brokerproperties", "{}")], &[("brokerproperties", "no JSON")]] {
            assert!(delivery(&answer(headers)).unwrap_err().contains("BrokerProperties"));
        }
    }

    #[test]
    fn a_dead_letter_says_what_it_died_of() {
        let of = |headers: &[(&'static str, &str)]| {
            let headers: Vec<_> = [("brokerproperties", PROPERTIES)].iter().chain(headers).copied().collect();
            let (letter, _) = dead_letter(&answer(&headers)).unwrap();
            (letter.delivery_count, letter.reason)
        };
        let spent = "Message could not be consumed after 10 delivery attempts.";
        let reason = ("deadletterreason", "MaxDeliveryCountExceeded");
        assert_eq!(
            of(&[reason, ("deadlettererrordescription", spent)]),
            (10, "it was delivered 10 times and never completed".to_owned())
        );
        assert_eq!(of(&[reason]), (12, "MaxDeliveryCountExceeded".to_owned()));
        let expired = [("deadletterreason", "\"TTLExpired\""), ("deadlettererrordescription", "\"after 7 days\"")];
        assert_eq!(of(&expired), (12, "TTLExpired: after 7 days".to_owned()));
        assert_eq!(of(&[]), (12, "Service Bus gives no reason".to_owned()));
    }
}
