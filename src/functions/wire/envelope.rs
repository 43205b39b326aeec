//! The envelopes of the custom-handler protocol (contracts/custom-handler.md §5, §6): reads what a trigger carries and
//! writes the answer. Metadata is never read, since a sender can forge it (§5.2).

use std::borrow::Cow;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Reason;
use crate::engine::EngineError;
use crate::queue::{Message, Postmark};
use crate::rollout::Timestamp;

/// A success without outputs; never empty, since an empty answer hangs until the function's timeout (§6.1).
const DONE: &str = r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#;

/// The envelope of a Service Bus trigger with `dataType: binary` whose binding is named `message`.
#[derive(Deserialize)]
struct MessageEnvelope<'a> {
    #[serde(rename = "Data", borrow)]
    data: MessageData<'a>,
}

#[derive(Deserialize)]
struct MessageData<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// The envelope of a timer trigger whose binding is named `tick`.
#[derive(Deserialize)]
struct TimerEnvelope {
    #[serde(rename = "Data")]
    data: TimerData,
}

#[derive(Deserialize)]
struct TimerData {
    tick: Tick,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tick {
    schedule_status: Option<ScheduleStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScheduleStatus {
    next: Option<Timestamp>,
}

/// An envelope that cannot be read: the host, or somebody in its place, sent what the protocol does not have.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEnvelope {
    /// Not the JSON that the trigger carries.
    #[error("the envelope is not what the trigger sends: {0}")]
    Envelope(serde_json::Error),
    /// The message is not base64.
    #[error("the message is not base64, as dataType binary makes it")]
    Base64,
    /// The body is not one of our messages, of any version.
    #[error("the message is not one of ours: {0}")]
    Message(serde_json::Error),
}

/// The message of a Service Bus trigger, and what it says of its way.
pub fn message(body: &Bytes) -> Result<(Message, Postmark), UnreadableEnvelope> {
    let envelope: MessageEnvelope = serde_json::from_slice(body).map_err(UnreadableEnvelope::Envelope)?;
    let bytes = STANDARD.decode(envelope.data.message.as_bytes()).map_err(|_| UnreadableEnvelope::Base64)?;
    Ok((Message::from_body(&bytes).map_err(UnreadableEnvelope::Message)?, Postmark::of(&bytes)))
}

/// The time at which a timer's run was due; `None` where the host keeps no schedule for it.
pub fn timer_due(body: &Bytes) -> Result<Option<Timestamp>, UnreadableEnvelope> {
    let envelope: TimerEnvelope = serde_json::from_slice(body).map_err(UnreadableEnvelope::Envelope)?;
    Ok(envelope.data.tick.schedule_status.and_then(|status| status.next))
}

/// The answer to an invocation that did its work, or why it could not: 500, so that the message is delivered again and in
/// the end becomes a dead letter instead of being lost.
pub fn answer<E: Into<InvocationError>>(result: Result<(), E>) -> Response<Body> {
    match result.map_err(Into::into) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], DONE).into_response(),
        Err(error) => {
            let reason = error.to_string();
            let told = (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], reason.clone());
            (Extension(Reason(reason)), told).into_response()
        }
    }
}

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// The envelope cannot be read.
    #[error(transparent)]
    Envelope(#[from] UnreadableEnvelope),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The message belongs on another queue.
    #[error("the message does not belong on this queue")]
    WrongQueue,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_from_the_binary_form_of_the_trigger() {
        let sent = Message::PollShare { at_most: 7 };
        let body = format!(
            r#"{{"Data":{{"message":"{}"}},"Metadata":{{"MessageId":"\"x\"","message":"forged"}}}}"#,
            STANDARD.encode(sent.to_body())
        );
        assert_eq!(message(&Bytes::from(body)).unwrap(), (sent, Postmark::default()));
    }

    #[test]
    fn what_is_no_message_is_an_error_and_no_panic() {
        for bad in ["", "{}", r#"{"Data":{}}"#, r#"{"Data":{"message":"%"}}"#, r#"{"Data":{"message":"e30="}}"#, "[1]"]
        {
            assert!(message(&Bytes::from(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_timer_says_when_it_was_due_or_that_nobody_keeps_its_schedule() {
        let due = r#"{"Data":{"tick":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":{"Last":"0001-01-01T00:00:00+00:00","Next":"2026-01-16T02:00:00.0013456+00:00","LastUpdated":"2026-01-15T02:00:00+00:00"},"IsPastDue":true}},"Metadata":{}}"#;
        let due = timer_due(&Bytes::from(due)).unwrap().unwrap();
        assert_eq!(due.timestamp(), 1_768_528_800);
        let none = r#"{"Data":{"tick":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":false}}}"#;
        assert_eq!(timer_due(&Bytes::from(none)).unwrap(), None);
        assert!(timer_due(&Bytes::from("{}")).is_err());
    }
}
