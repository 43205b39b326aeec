//! The simulator's HTTP side: connections, who may call, and which call belongs to which path.

use std::sync::Arc;

use azure_core_legacy::auth::Secret;
use azure_core_legacy::hmac::hmac_sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as RequestBody;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::broker::{BrokerQueue, Incoming, Stored};
use super::{Answer, Call, OnCall, Recorded, Shared, Tokens};
use crate::loopback::{self, Dropped, HeaderCase};
use crate::queue::service_bus::batch::{CONTENT_TYPE as BATCH, LONGEST_ID, MOST_ITEMS, http_date};
use crate::rollout::Timestamp;

/// Serves until it is aborted, and its connections with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let answer = move |request| answer(Arc::clone(&shared), request);
    match loopback::serve(listener, HeaderCase::Lower, || {}, answer).await {}
}

async fn answer(shared: Arc<Shared>, request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    keep(&shared, &head, &body);
    let script = call_of(&head).and_then(|call| shared.state().scripts.get_mut(&call)?.pop_front());
    match script.unwrap_or(OnCall::AsUsual) {
        OnCall::AsUsual => Ok(response(act(&shared, &head, &body))),
        OnCall::Answer(answer) => Ok(response(answer)),
        OnCall::DoAndAnswer(answer) => {
            act(&shared, &head, &body);
            Ok(response(answer))
        }
        OnCall::Reset => Err(Dropped),
        OnCall::LoseAnswer => {
            act(&shared, &head, &body);
            Err(Dropped)
        }
        OnCall::Hang => std::future::pending().await,
    }
}

/// Where a path leads: the queue, whether its dead letters are meant, and what is behind `messages`.
fn place(path: &str) -> Option<(String, bool, Vec<&str>)> {
    let (queue, rest) = path.trim_start_matches('/').split_once("/messages")?;
    let queue = queue.to_ascii_lowercase();
    let (queue, dead) = match queue.strip_suffix("/$deadletterqueue") {
        Some(queue) => (queue.to_owned(), true),
        None => (queue, false),
    };
    Some((queue, dead, rest.split('/').skip(1).collect()))
}

fn call_of(head: &Parts) -> Option<Call> {
    let (_, _, rest) = place(head.uri.path())?;
    match rest[..] {
        [] => Some(Call::Send),
        ["head"] => Some(Call::Receive),
        _ => Some(Call::Settle),
    }
}

fn act(shared: &Shared, head: &Parts, body: &Bytes) -> Answer {
    let (now, rules) = (shared.config.clock.now(), shared.rules());
    if let Err(why) = authenticated(shared, &head.headers, now) {
        return Answer::error(401, why);
    }
    let Some((name, dead, rest)) = place(head.uri.path()) else { return Answer::error(404, "nothing is here") };
    let mut state = shared.state();
    let Some(queue) = state.queues.get_mut(&name) else {
        return Answer::error(410, "the queue does not exist");
    };
    match (&head.method, &rest[..]) {
        (&Method::POST, []) if !dead => send(shared, queue, &head.headers, body, now),
        (&Method::POST, ["head"]) => match queue.receive(dead, now, rules) {
            Some(message) => delivery(shared, &name, dead, message),
            None => Answer::status(204),
        },
        (method, [message, lock]) => {
            let (Ok(sequence), Ok(lock)) = (message.parse(), lock.parse()) else {
                return Answer::error(404, "there is no such message");
            };
            let held = match *method {
                Method::DELETE => queue.complete(dead, sequence, lock, now),
                Method::PUT => queue.abandon(dead, sequence, lock, now, rules),
                Method::POST => queue.renew(dead, sequence, lock, now, rules),
                _ => return Answer::error(405, "not in this way"),
            };
            if held { Answer::status(200) } else { Answer::error(404, "the lock is not held") }
        }
        _ => Answer::error(405, "not in this way"),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Item {
    body: String,
    #[serde(default)]
    broker_properties: Properties,
    #[serde(default, rename = "UserProperties")]
    _user_properties: serde::de::IgnoredAny,
}

/// Names that are not known are ignored, as in Azure.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Properties {
    message_id: Option<String>,
    scheduled_enqueue_time_utc: Option<String>,
}

fn send(shared: &Shared, queue: &mut BrokerQueue, headers: &HeaderMap, body: &Bytes, now: Timestamp) -> Answer {
    if body.len() > shared.config.largest_body {
        return Answer::error(413, "the request is too large");
    }
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let incoming = match text(CONTENT_TYPE) {
        Some(BATCH) => batch(body),
        Some(trap) if trap.starts_with(BATCH) => Err("a batch has exactly its content type, and nothing behind it"),
        content_type => {
            let properties = text(HeaderName::from_static("brokerproperties")).unwrap_or("{}");
            serde_json::from_str::<Properties>(properties)
                .map_err(|_| "BrokerProperties are no JSON")
                .and_then(|properties| message(properties, body.clone(), content_type.map(str::to_owned)))
                .map(|message| vec![message])
        }
    };
    match incoming {
        Ok(messages) => {
            queue.send(messages, now, shared.rules());
            Answer::status(201)
        }
        Err(why) => Answer::error(400, why),
    }
}

fn batch(body: &Bytes) -> Result<Vec<Incoming>, &'static str> {
    let items: Vec<Item> = serde_json::from_slice(body).map_err(|_| "the batch is no array of messages")?;
    if !(1..=MOST_ITEMS).contains(&items.len()) {
        return Err("a batch has 1 to 100 messages");
    }
    items.into_iter().map(|item| message(item.broker_properties, item.body.into(), None)).collect()
}

fn message(properties: Properties, body: Bytes, content_type: Option<String>) -> Result<Incoming, &'static str> {
    let id = properties.message_id.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
    if !(1..=LONGEST_ID).contains(&id.chars().count()) {
        return Err("a message id has 1 to 128 characters");
    }
    let due = match properties.scheduled_enqueue_time_utc {
        Some(text) => {
            let time = chrono::DateTime::parse_from_rfc2822(&text).map(|at| at.to_utc());
            // Only this form is documented: `+0000` in place of `GMT`, or ISO 8601, is not it.
            Some(time.ok().filter(|at| http_date(*at) == text).ok_or("ScheduledEnqueueTimeUtc is no HTTP date")?)
        }
        None => None,
    };
    Ok(Incoming { id, body, content_type, due })
}

fn delivery(shared: &Shared, queue: &str, dead: bool, message: Stored) -> Answer {
    let down = |at: Timestamp| Timestamp::from_timestamp(at.timestamp(), 0).map(http_date).unwrap_or_default();
    let lock = message.lock.map(|lock| lock.to_string()).unwrap_or_default();
    let properties = serde_json::json!({
        "DeliveryCount": message.deliveries,
        "EnqueuedSequenceNumber": 0,
        "EnqueuedTimeUtc": down(message.due),
        "LockToken": lock,
        "LockedUntilUtc": down(message.available_at),
        "MessageId": message.id,
        "SequenceNumber": message.sequence,
        "State": "Active",
        "TimeToLive": 922_337_203_685.477_5_f64,
    });
    let below = if dead { "/$deadletterqueue" } else { "" };
    let location = format!("{}/{queue}{below}/messages/{}/{lock}", shared.origin, message.sequence);
    let mut answer = Answer { body: message.body, ..Answer::status(201) }
        .with("brokerproperties", &ascii(&properties.to_string()))
        .with("location", &location);
    if let Some(content_type) = &message.content_type {
        answer = answer.with("content-type", content_type);
    }
    if let Some((reason, description)) = &message.died_of {
        answer = answer
            .with("deadletterreason", &format!("\"{reason}\""))
            .with("deadlettererrordescription", &format!("\"{description}\""));
    }
    answer
}

/// JSON with everything beyond ASCII escaped, since it goes into a header.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            text.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

/// Whether the call carries a token that is taken, or a signature that is right and lasts.
fn authenticated(shared: &Shared, headers: &HeaderMap, now: Timestamp) -> Result<(), &'static str> {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or("MissingToken")?;
    if let Some(token) = value.strip_prefix("Bearer ") {
        let taken = match shared.config.tokens {
            Tokens::Any => !token.is_empty(),
            Tokens::Listed => shared.state().tokens.contains(token),
        };
        return if taken { Ok(()) } else { Err("InvalidToken: the token is not taken") };
    }
    let signature = value.strip_prefix("SharedAccessSignature ").ok_or("MalformedToken")?;
    let part = |name: &str| {
        signature.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, v)| v)
    };
    let (Some(resource), Some(sig), Some(expiry), Some(key_name)) = (part("sr"), part("sig"), part("se"), part("skn"))
    else {
        return Err("MalformedToken");
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let key = Secret::new(STANDARD.encode(&shared.config.key));
    let right = hmac_sha256(&format!("{resource}\n{expiry}"), &key).is_ok_and(|right| right == decoded(sig));
    if decoded(key_name) != shared.config.key_name || !right {
        return Err("InvalidSignature: the token has an invalid signature");
    }
    // A signature is for everything below what it names.
    if decoded(resource) != format!("{}/", shared.origin) {
        return Err("InvalidAudience: the token is for another namespace");
    }
    let lasts = expiry.parse::<i64>().is_ok_and(|expiry| now.timestamp() < expiry);
    if lasts { Ok(()) } else { Err("ExpiredToken: the token has expired") }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    loopback::response(answer.status, answer.headers, answer.body)
}

fn keep(shared: &Shared, head: &Parts, body: &Bytes) {
    loopback::keep(&mut shared.state().requests, shared.config.keep_requests, || Recorded {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers.clone(),
        body: body.clone(),
    });
}
