//! Queues of Azure Service Bus, over HTTP (contracts/service-bus-and-tables.md, part 1).
//!
//! In Azure this only sends, and the Functions host receives. The receiving half is for tests, for the embedded host in
//! front of a [`simulator`], and for looking at dead letters: one request for each message, locked for as long as the queue
//! says, not the caller. A batch that is too large is sent in halves, and one whose answer was unclear again, with the same
//! ids, a few times within a minute; after that who sends decides ([`QueueError::Unclear`]). Nothing else is repeated, but
//! for a request whose token was refused.
//!
//! Sending is the SDK's. Receiving is not: what its receiver answers with cannot be settled by anyone else or after a
//! restart, and it takes a body that is not UTF-8 for a failure. Both go through [`LegacyTransport`].

pub mod batch;
mod received;
pub mod simulator;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core_legacy::error::{Error, ErrorKind};
use azure_core_legacy::headers::CONTENT_LENGTH;
use azure_core_legacy::{CollectedResponse, HttpClient, Method, Request, StatusCode};
use azure_messaging_servicebus::service_bus::{QueueClient, SendMessageOptions};
use url::{Host, Url};

use super::{DeadLetter, Delivery, LockToken, Outgoing, Queue, QueueError};
use crate::access::credential::TokenSource;
use crate::access::legacy_transport::{Authorization, LegacyTransport, NoAnswer, Refusal};
use crate::access::shared_access::SharedAccess;
use crate::clock::Clock;
use crate::rollout::{RetryPolicy, Timestamp};
use received::Lock;

/// What a token is for; the same in every cloud.
pub const SCOPE: &str = "https://servicebus.azure.net/.default";
/// How long a call may take: well below the minute for which the message that led to it is locked.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Repeats of a batch whose answer was unclear. Service Bus wants two seconds when it is busy (§1.8).
const REPEATS: RetryPolicy = RetryPolicy {
    attempts: 4,
    base: Duration::from_secs(2),
    ceiling: Duration::from_secs(8),
    shortest_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(15),
};
/// How long after the beginning of a sending a repeat may still begin: an invocation has to end.
const REPEATS_BEGIN: Duration = Duration::from_secs(35);
/// The queue of dead letters, below each queue.
const DEAD_LETTERS: &str = "$deadletterqueue";
/// The longest path of a queue, in characters.
const LONGEST_QUEUE: usize = 260;

/// Where a namespace is and who we are to it.
#[derive(Clone, Debug)]
pub struct ServiceBusConfig {
    /// `https://{namespace}`, or http to this machine. Only scheme, host and port count.
    pub endpoint: Url,
    /// Who we are.
    pub credential: ServiceBusCredential,
    /// How long a call may take.
    pub call_timeout: Duration,
}

impl ServiceBusConfig {
    /// The namespace with a host name such as `fabrikam.servicebus.windows.net`.
    ///
    /// # Errors
    /// [`InvalidServiceBus::Namespace`] if it is not a host name.
    pub fn namespace(host: &str, credential: ServiceBusCredential) -> Result<Self, InvalidServiceBus> {
        let endpoint = Url::parse(&format!("https://{host}/")).ok().filter(|url| url.host_str() == Some(host));
        let endpoint = endpoint.ok_or_else(|| InvalidServiceBus::Namespace { host: host.to_owned() })?;
        Ok(Self::at(endpoint, credential))
    }

    /// A namespace by its address: that of a [`simulator`], for one.
    pub fn at(endpoint: Url, credential: ServiceBusCredential) -> Self {
        Self { endpoint, credential, call_timeout: CALL_TIMEOUT }
    }
}

/// Who we are to a namespace.
#[derive(Clone)]
pub enum ServiceBusCredential {
    /// A shared access policy of the namespace.
    SharedKey {
        /// The policy's name.
        key_name: String,
        /// The policy's key.
        key: String,
    },
    /// The identity whose tokens [`ServiceBusQueue::new`] is given.
    Identity,
}

impl fmt::Debug for ServiceBusCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedKey { key_name, .. } => {
                f.debug_struct("SharedKey").field("key_name", key_name).field("key", &"redacted").finish()
            }
            Self::Identity => f.write_str("Identity"),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServiceBus {
    /// The namespace is not a host name.
    #[error("{host} is not the host name of a Service Bus namespace")]
    Namespace {
        /// What was given.
        host: String,
    },
    /// Tokens would travel in plain http.
    #[error("the Service Bus at {host} would be called in plain http, which is for this machine only")]
    PlainHttp {
        /// Where it is.
        host: String,
    },
}

/// The queues of one namespace.
#[derive(Debug)]
pub struct ServiceBusQueue {
    endpoint: Url,
    transport: Arc<LegacyTransport>,
    clock: ClockOf,
}

/// The clock, which has nothing to show.
struct ClockOf(Arc<dyn Clock>);

impl fmt::Debug for ClockOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl ServiceBusQueue {
    /// The queues of a namespace, called over `http`, which must not follow redirects. `tokens` are for
    /// [`ServiceBusCredential::Identity`], `clock` for signatures and for what is due already. Nothing is sent yet.
    ///
    /// # Errors
    /// [`InvalidServiceBus::PlainHttp`] if the endpoint is neither https nor on this machine.
    pub fn new(
        config: ServiceBusConfig,
        http: reqwest::Client,
        tokens: Arc<TokenSource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidServiceBus> {
        let ServiceBusConfig { endpoint, credential, call_timeout } = config;
        if endpoint.scheme() != "https" && !(endpoint.scheme() == "http" && is_loopback(&endpoint)) {
            return Err(InvalidServiceBus::PlainHttp { host: endpoint.host_str().unwrap_or_default().to_owned() });
        }
        let authorization = match credential {
            ServiceBusCredential::Identity => Authorization::Bearer { tokens, scope: SCOPE.to_owned() },
            ServiceBusCredential::SharedKey { key_name, key } => {
                Authorization::SharedAccess(SharedAccess::new(&endpoint, &key_name, &key, Arc::clone(&clock)))
            }
        };
        let transport = LegacyTransport::new(http, endpoint.clone(), authorization, call_timeout, Arc::clone(&clock));
        Ok(Self { endpoint, transport: Arc::new(transport), clock: ClockOf(clock) })
    }

    /// Sends one batch, in halves where it is too large, and again where the answer is unclear. `began` is when the sending
    /// of all batches did.
    async fn send_batch(
        &self,
        client: &QueueClient,
        items: &[String],
        began: Timestamp,
    ) -> azure_core_legacy::Result<()> {
        let mut rest = vec![items];
        let mut failures = 0;
        while let Some(items) = rest.pop() {
            let options =
                SendMessageOptions { content_type: Some(batch::CONTENT_TYPE.to_owned()), ..Default::default() };
            match client.send_message(&batch::body(items), Some(options)).await {
                Ok(()) => {}
                Err(error) if is_unclear(&error) => {
                    failures += 1;
                    let named = error.downcast_ref::<Refusal>().and_then(|refusal| refusal.wait);
                    let seed = items.first().map_or("", String::as_str);
                    let again_at = self.clock.0.now() + REPEATS.wait(failures, named, seed);
                    // Nobody waits here for longer than it takes; what was not sent is found by the timer.
                    let is_too_late = named.is_some_and(|wait| wait > REPEATS.longest_wait)
                        || !REPEATS.allows_another(failures)
                        || again_at > began + REPEATS_BEGIN;
                    if is_too_late {
                        return Err(error);
                    }
                    self.clock.0.sleep_until(again_at).await;
                    rest.push(items);
                }
                Err(error) if status(&error) == Some(413) && items.len() > 1 => {
                    let (first, second) = items.split_at(items.len() / 2);
                    rest.extend([second, first]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next message of a queue or of its dead letters, locked; none if there is none at once.
    async fn next(&self, place: &Place<'_>, path: &str) -> Result<Option<CollectedResponse>, QueueError> {
        let answer = self.call(place, Method::Post, &format!("{path}/messages/head"), Some("timeout=0")).await?;
        match answer.status() {
            StatusCode::NoContent => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            _ => Err(place.refused(&self.transport.refusal(&answer))),
        }
    }

    /// Locks the oldest dead letters, until an answer is no success.
    async fn lock_dead_letters(
        &self,
        place: &Place<'_>,
        path: &str,
        at_most: usize,
    ) -> (Vec<(DeadLetter, LockToken)>, Result<(), QueueError>) {
        let mut taken = Vec::new();
        while taken.len() < at_most {
            let next = match self.next(place, path).await {
                Ok(Some(answer)) => received::dead_letter(&answer).map_err(|reason| place.unclear(reason)),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match next {
                Ok(letter) => taken.push(letter),
                Err(error) => return (taken, Err(error)),
            }
        }
        (taken, Ok(()))
    }

    /// Settles or renews a delivery; whether its lock held.
    async fn settle(&self, place: &Place<'_>, path: &str, lock: &LockToken, how: Method) -> Result<bool, QueueError> {
        let Some(lock) = Lock::of(lock) else { return Ok(false) };
        let answer = self.call(place, how, &format!("{path}/messages/{}", lock.path()), None).await?;
        match answer.status() {
            // Neither such a message nor such a lock; a queue that is not there is 410.
            StatusCode::NotFound => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(place.refused(&self.transport.refusal(&answer))),
        }
    }

    async fn call(
        &self,
        place: &Place<'_>,
        method: Method,
        path: &str,
        query: Option<&str>,
    ) -> Result<CollectedResponse, QueueError> {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        url.set_query(query);
        let mut request = Request::new(url, method);
        request.insert_header(CONTENT_LENGTH, "0");
        self.transport.call(&request).await.map_err(|error| place.failed(&error))
    }
}

#[async_trait]
impl Queue for ServiceBusQueue {
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError> {
        let place = Place::new(queue, "take the messages")?;
        let items = batch::items(messages, self.clock.0.now()).map_err(|reason| place.refuse(reason))?;
        // The SDK wants a namespace and a key to sign with; the transport puts the endpoint and a signature of its own.
        let http: Arc<dyn HttpClient> = self.transport.clone();
        let client = QueueClient::new(http, "namespace", queue, "", String::new()).map_err(|e| place.failed(&e))?;
        let began = self.clock.0.now();
        for items in batch::batches(&items) {
            self.send_batch(&client, items, began).await.map_err(|error| place.failed(&error))?;
        }
        Ok(())
    }

    /// The lock lasts as long as the queue's settings say, whatever is asked for.
    async fn receive(&self, queue: &str, at_most: usize, _: Duration) -> Result<Vec<Delivery>, QueueError> {
        let place = Place::new(queue, "deliver")?;
        let mut received = Vec::new();
        while received.len() < at_most {
            let next = match self.next(&place, queue).await {
                Ok(Some(answer)) => received::delivery(&answer).map_err(|reason| place.unclear(reason)),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match next {
                Ok(delivery) => received.push(delivery),
                // Those that are locked already would be lost to everybody until their locks run out.
                Err(_) if !received.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(received)
    }

    async fn complete(&self, queue: &str, locks: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        let place = Place::new(queue, "complete messages")?;
        let mut held = Vec::with_capacity(locks.len());
        for lock in locks {
            held.push(self.settle(&place, queue, lock, Method::Delete).await?);
        }
        Ok(held)
    }

    async fn abandon(&self, queue: &str, lock: &LockToken) -> Result<bool, QueueError> {
        self.settle(&Place::new(queue, "take a message back")?, queue, lock, Method::Put).await
    }

    /// Holds the lock for as long as the queue's settings say, whatever is asked for.
    async fn renew(&self, queue: &str, token: &LockToken, _: Duration) -> Result<bool, QueueError> {
        self.settle(&Place::new(queue, "renew a lock")?, queue, token, Method::Post).await
    }

    /// Locks them for the time of the look, since HTTP knows no other way to read; others see fewer meanwhile.
    async fn dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<DeadLetter>, QueueError> {
        let place = Place::new(queue, "list its dead letters")?;
        let path = format!("{queue}/{DEAD_LETTERS}");
        let (taken, outcome) = self.lock_dead_letters(&place, &path, at_most).await;
        for (_, lock) in &taken {
            // One that cannot be given back comes back by itself.
            let _ = self.settle(&place, &path, lock, Method::Put).await;
        }
        outcome.map(|()| taken.into_iter().map(|(letter, _)| letter).collect())
    }

    async fn take_dead_letters(&self, queue: &str, at_most: usize) -> Result<Vec<(DeadLetter, LockToken)>, QueueError> {
        let place = Place::new(queue, "take its dead letters")?;
        match self.lock_dead_letters(&place, &format!("{queue}/{DEAD_LETTERS}"), at_most).await {
            // Those that are locked already are noted now rather than when their locks have run out.
            (taken, Err(error)) if taken.is_empty() => Err(error),
            (taken, _) => Ok(taken),
        }
    }

    async fn remove_dead_letters(&self, queue: &str, taken: &[LockToken]) -> Result<Vec<bool>, QueueError> {
        let place = Place::new(queue, "remove dead letters")?;
        let path = format!("{queue}/{DEAD_LETTERS}");
        let mut held = Vec::with_capacity(taken.len());
        for lock in taken {
            held.push(self.settle(&place, &path, lock, Method::Delete).await?);
        }
        Ok(held)
    }
}

/// What is attempted on which queue, for errors.
struct Place<'a> {
    queue: &'a str,
    action: &'static str,
}

impl<'a> Place<'a> {
    /// Refuses a name that would lead elsewhere in the namespace.
    fn new(queue: &'a str, action: &'static str) -> Result<Self, QueueError> {
        let place = Self { queue, action };
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if queue.len() <= LONGEST_QUEUE && queue.split('/').all(is_name) {
            Ok(place)
        } else {
            Err(place.refuse("this is not the name of a queue: correct ROLLOUT_QUEUE or REFRESH_QUEUE".to_owned()))
        }
    }

    fn unclear(&self, reason: String) -> QueueError {
        QueueError::Unclear { queue: self.queue.to_owned(), action: self.action, reason }
    }

    fn refuse(&self, reason: String) -> QueueError {
        QueueError::Refused { queue: self.queue.to_owned(), action: self.action, reason }
    }

    fn failed(&self, error: &Error) -> QueueError {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return self.refused(refusal);
        }
        match (error.downcast_ref::<NoAnswer>(), error.kind()) {
            (Some(no_answer), _) => self.unclear(no_answer.to_string()),
            (None, ErrorKind::Io) => self.unclear(error.to_string()),
            (None, _) => self.refuse(error.to_string()),
        }
    }

    /// The table of contracts/service-bus-and-tables.md §1.8.
    fn refused(&self, refusal: &Refusal) -> QueueError {
        match refusal.status {
            401 => self.refuse(format!(
                "Service Bus takes neither our token nor a new one ({refusal}): give the identity the role Azure Service \
                 Bus Data Sender on the queue, or copy the connection string anew"
            )),
            // Its other meaning, a message that is too large, was ruled out before sending.
            403 => self.unclear(format!("the queue is full, or may not be used by us ({refusal})")),
            404 | 410 => self.refuse(format!(
                "there is no such queue ({refusal}): create it, or correct ROLLOUT_QUEUE or REFRESH_QUEUE"
            )),
            413 => self.refuse(format!("a message is too large by itself ({refusal})")),
            408 | 429 | 500.. => {
                let wait = refusal.wait.map(|wait| format!(", and asks to be left alone for {} s", wait.as_secs_f64()));
                self.unclear(format!("Service Bus is busy or has failed{} ({refusal})", wait.unwrap_or_default()))
            }
            _ => self.refuse(format!("Service Bus cannot make sense of the request ({refusal})")),
        }
    }
}

/// Whether the same batch may be taken at once, or has been: no answer, or one that says so (§1.8).
fn is_unclear(error: &Error) -> bool {
    match (error.downcast_ref::<Refusal>(), error.downcast_ref::<NoAnswer>()) {
        (Some(refusal), _) => matches!(refusal.status, 408 | 429 | 500..),
        (None, Some(no_answer)) => !matches!(no_answer, NoAnswer::NoToken(_)),
        (None, None) => false,
    }
}

fn status(error: &Error) -> Option<u16> {
    error.downcast_ref::<Refusal>().map(|refusal| refusal.status)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
