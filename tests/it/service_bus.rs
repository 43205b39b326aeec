//! Service Bus over HTTP: what is sent, what each answer means, and that nothing secret is told. What a queue must do is in
//! `contracts/queue.rs`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use permafresh::access::credential::{IdentityConfig, TokenSource};
use permafresh::clock::Clock;
use permafresh::queue::service_bus::batch::{CONTENT_TYPE, LARGEST_BATCH};
use permafresh::queue::service_bus::simulator::{
    Answer, Call, OnCall, QueueStats, Recorded, Simulator, SimulatorConfig,
};
use permafresh::queue::service_bus::{
    InvalidServiceBus, SCOPE, ServiceBusConfig, ServiceBusCredential, ServiceBusQueue,
};
use permafresh::queue::{LockToken, Outgoing, Queue, QueueError};
use permafresh::rollout::Timestamp;
use permafresh::settings::{ServiceBusConnection, Settings};
use serde_json::{Value, json};

use crate::host_stub::{Ground, Stub, done, eventually, queue_function, reply_with};
use crate::manual_clock::ManualClock;

const KEY_NAME: &str = "RootManageSharedAccessKey";
const KEY: &str = "simulated/key+of=no=account";
const LOCK: Duration = Duration::from_secs(60);

/// A queue over a simulator, with the key that it takes.
pub fn with_key(simulator: &Simulator, clock: Arc<dyn Clock>) -> ServiceBusQueue {
    let credential = ServiceBusCredential::SharedKey { key_name: KEY_NAME.to_owned(), key: KEY.to_owned() };
    open(ServiceBusConfig::at(simulator.endpoint().clone(), credential), clock).unwrap()
}

fn open(config: ServiceBusConfig, clock: Arc<dyn Clock>) -> Result<ServiceBusQueue, InvalidServiceBus> {
    let tokens = TokenSource::new(IdentityConfig::default(), || Ok(http()), clock.clone());
    ServiceBusQueue::new(config, http(), Arc::new(tokens), clock)
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

/// A namespace with the queue `q`, a clock, and somebody who may use it.
struct Namespace {
    clock: ManualClock,
    simulator: Simulator,
    queue: ServiceBusQueue,
}

fn namespace() -> Namespace {
    namespace_with(|_| {})
}

fn namespace_with(change: impl FnOnce(&mut SimulatorConfig)) -> Namespace {
    let clock = ManualClock::new();
    let mut config = SimulatorConfig {
        queues: vec!["q".to_owned()],
        keep_requests: 1_000,
        clock: Arc::new(clock.clone()),
        ..SimulatorConfig::default()
    };
    change(&mut config);
    let simulator = Simulator::start(config).unwrap();
    let queue = with_key(&simulator, Arc::new(clock.clone()));
    Namespace { clock, simulator, queue }
}

impl Namespace {
    /// Sends one message while the namespace answers so, to `calls` calls; what came of it.
    async fn send_while(&self, answer: OnCall, calls: usize) -> Result<(), QueueError> {
        self.simulator.on(Call::Send, vec![answer; calls]);
        self.queue.send("q", &[message("a")]).await
    }

    async fn received(&self) -> Vec<String> {
        self.queue.receive("q", 1_000, LOCK).await.unwrap().into_iter().map(|delivery| delivery.id).collect()
    }

    fn taken(&self) -> (u64, u64) {
        let QueueStats { taken, duplicates, .. } = self.simulator.stats("q");
        (taken, duplicates)
    }
}

fn message(id: &str) -> Outgoing {
    Outgoing { id: id.to_owned(), body: format!("body of {id}"), due: None }
}

fn messages(count: usize) -> Vec<Outgoing> {
    (0..count).map(|number| message(&number.to_string())).collect()
}

fn items(request: &Recorded) -> Vec<Value> {
    serde_json::from_slice(&request.body).unwrap()
}

fn authorization(request: &Recorded) -> String {
    request.headers["authorization"].to_str().unwrap().to_owned()
}

/// An identity whose tokens are `token-1`, `token-2`, and so on.
#[derive(Debug, Default)]
struct Identity {
    issued: AtomicU32,
    scopes: Mutex<Vec<String>>,
}

#[async_trait]
impl TokenCredential for Identity {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        self.scopes.lock().unwrap().extend(scopes.iter().map(|scope| (*scope).to_owned()));
        let expires_on = OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
        Ok(AccessToken::new(Secret::new(format!("token-{number}")), expires_on))
    }
}

fn with_identity(namespace: &Namespace) -> (ServiceBusQueue, Arc<Identity>) {
    let (identity, clock) = (Arc::new(Identity::default()), Arc::new(namespace.clock.clone()));
    let tokens = TokenSource::from_credential(identity.clone(), clock.clone());
    let config = ServiceBusConfig::at(namespace.simulator.endpoint().clone(), ServiceBusCredential::Identity);
    (ServiceBusQueue::new(config, http(), Arc::new(tokens), clock).unwrap(), identity)
}

#[tokio::test]
async fn a_batch_is_one_request_with_exactly_the_content_type_of_a_batch() {
    let namespace = namespace();
    let due = namespace.clock.now() + LOCK;
    let body = "{\"a\": \"\u{1f680} \\u0000 'x'\"}\r\n ".to_owned();
    let scheduled = Outgoing { id: "ü".to_owned(), body: body.clone(), due: Some(due) };
    namespace.queue.send("q", &[message("a"), scheduled]).await.unwrap();
    let requests = namespace.simulator.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/q/messages"));
    let content_types: Vec<_> = request.headers.get_all("content-type").iter().collect();
    assert_eq!(content_types, ["application/vnd.microsoft.servicebus.json"]);
    assert!(!request.headers.contains_key("brokerproperties"), "headers of the request do not count for its items");
    let expected = json!([
        {"Body": "body of a", "BrokerProperties": {"MessageId": "a"}},
        {"Body": body, "BrokerProperties":
            {"MessageId": "ü", "ScheduledEnqueueTimeUtc": "Tue, 10 Mar 2026 12:01:00 GMT"}},
    ]);
    assert_eq!(Value::Array(items(request)), expected);
}

#[tokio::test]
async fn batches_have_a_hundred_items_and_192_kib_at_most() {
    for (count, expected) in [(100, &[100][..]), (101, &[100, 1]), (250, &[100, 100, 50])] {
        let namespace = namespace();
        namespace.queue.send("q", &messages(count)).await.unwrap();
        let sizes: Vec<usize> = namespace.simulator.requests().iter().map(|request| items(request).len()).collect();
        assert_eq!(sizes, expected);
        assert_eq!(namespace.received().await, (0..count).map(|n| n.to_string()).collect::<Vec<_>>());
    }
    let namespace = namespace();
    let empty = r#"[{"Body":"","BrokerProperties":{"MessageId":"0"}}]"#.len();
    let of = |id: &str, size: usize| Outgoing { body: "x".repeat(size - empty), ..message(id) };
    // Two arrays in one have two brackets less and a comma more.
    let half = LARGEST_BATCH / 2;
    namespace.queue.send("q", &[of("0", half), of("1", half + 1), of("2", half), of("3", half + 2)]).await.unwrap();
    let sizes: Vec<usize> = namespace.simulator.requests().iter().map(|request| request.body.len()).collect();
    assert_eq!(sizes, [LARGEST_BATCH, half, half + 2]);

    namespace.queue.send("q", &[of("4", LARGEST_BATCH)]).await.unwrap();
    let told = namespace.queue.send("q", &[message("5"), of("6", LARGEST_BATCH + 1)]).await.unwrap_err();
    assert!(matches!(told, QueueError::Refused { .. }) && told.to_string().contains("too large"), "{told}");
    assert_eq!(namespace.simulator.ids("q"), ["0", "1", "2", "3", "4"], "nothing of the refused call was sent");
}

#[tokio::test]
async fn every_answer_means_what_the_contract_says() {
    const UNCLEAR: bool = true;
    const REFUSED: bool = false;
    let error = |status: u16| OnCall::Answer(Answer::error(status, "some detail"));
    for (answer, calls, expected, words) in [
        (error(400), 1, REFUSED, "cannot make sense of the request (HTTP 400: <Error><Code>400"),
        (error(401), 2, REFUSED, "Azure Service Bus Data Sender"),
        (error(403), 1, UNCLEAR, "the queue is full"),
        (error(404), 1, REFUSED, "correct ROLLOUT_QUEUE or REFRESH_QUEUE"),
        (error(410), 1, REFUSED, "correct ROLLOUT_QUEUE or REFRESH_QUEUE"),
        (error(413), 1, REFUSED, "too large by itself"),
        (error(408), 4, UNCLEAR, "busy or has failed (HTTP 408"),
        (error(429), 4, UNCLEAR, "busy or has failed (HTTP 429"),
        (error(500), 4, UNCLEAR, "busy or has failed (HTTP 500"),
        (error(502), 4, UNCLEAR, "busy or has failed (HTTP 502"),
        (error(503), 4, UNCLEAR, "busy or has failed (HTTP 503"),
        (error(504), 4, UNCLEAR, "busy or has failed (HTTP 504"),
        (OnCall::Answer(Answer::busy(7)), 4, UNCLEAR, "asks to be left alone for 7 s (HTTP 503"),
        (
            OnCall::Answer(Answer::status(429).with("retry-after", "Tue, 10 Mar 2026 12:00:09 GMT")),
            4,
            UNCLEAR,
            "asks to be left alone for 9 s (HTTP 429)",
        ),
        (OnCall::Answer(Answer::status(307).with("location", "http://127.0.0.1:1/")), 1, REFUSED, "HTTP 307"),
        // Nobody waits here for so long.
        (OnCall::Answer(Answer::busy(16)), 1, UNCLEAR, "asks to be left alone for 16 s (HTTP 503"),
        (OnCall::Reset, 4, UNCLEAR, "the connection failed"),
    ] {
        let namespace = namespace();
        let told = namespace.send_while(answer.clone(), calls).await.unwrap_err();
        assert_eq!(matches!(told, QueueError::Unclear { .. }), expected, "{answer:?}: {told}");
        assert!(told.to_string().contains(words), "{answer:?}: {told}");
        assert!(told.to_string().starts_with("the queue q "), "{told}");
        assert_eq!(namespace.simulator.requests().len(), calls, "{answer:?}");
        assert_eq!(namespace.taken(), (0, 0));
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up() {
    let namespace = namespace();
    let credential = ServiceBusCredential::SharedKey { key_name: KEY_NAME.to_owned(), key: KEY.to_owned() };
    let mut config = ServiceBusConfig::at(namespace.simulator.endpoint().clone(), credential);
    config.call_timeout = Duration::from_millis(50);
    let queue = open(config, Arc::new(namespace.clock.clone())).unwrap();
    namespace.simulator.on(Call::Send, vec![OnCall::Hang; 4]);
    let told = queue.send("q", &[message("a")]).await.unwrap_err();
    assert!(matches!(told, QueueError::Unclear { .. }), "{told}");
    assert!(told.to_string().contains("no answer came within 0.05 s"), "{told}");
}

#[tokio::test]
async fn what_is_sent_again_after_an_unclear_answer_is_not_delivered_twice() {
    for unclear in [OnCall::LoseAnswer, OnCall::DoAndAnswer(Answer::busy(1)), OnCall::DoAndAnswer(Answer::status(500))]
    {
        let namespace = namespace();
        namespace.simulator.on(Call::Send, [unclear.clone(), unclear]);
        namespace.queue.send("q", &[message("a"), message("b")]).await.unwrap();
        let requests = namespace.simulator.requests();
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|request| items(request) == items(&requests[0])), "with the same ids");
        assert_eq!(namespace.taken(), (2, 4));
        assert_eq!(namespace.received().await, ["a", "b"]);
    }
}

#[tokio::test]
async fn a_busy_namespace_is_left_alone_for_as_long_as_it_says_and_otherwise_for_seconds() {
    for (answer, shortest, longest) in
        [(Answer::busy(7), 7.0, 7.0), (Answer::status(429), 1.5, 2.0), (Answer::status(500), 1.5, 2.0)]
    {
        let namespace = namespace();
        let clock = Waited::default();
        let queue = with_key(&namespace.simulator, Arc::new(clock.clone()));
        namespace.simulator.on(Call::Send, [OnCall::Answer(answer.clone())]);
        queue.send("q", &[message("a")]).await.unwrap();
        let waits = clock.0.lock().unwrap();
        let [wait] = waits[..] else { panic!("{answer:?}: {waits:?}") };
        assert!((shortest..=longest).contains(&wait.as_secs_f64()), "{answer:?}: {wait:?}");
    }
}

/// A clock that does not wait, and remembers for how long it was to.
#[derive(Clone, Default)]
struct Waited(Arc<Mutex<Vec<Duration>>>);

#[async_trait]
impl Clock for Waited {
    fn now(&self) -> Timestamp {
        "2026-03-10T12:00:00Z".parse().unwrap()
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.0.lock().unwrap().push((at - self.now()).to_std().unwrap());
    }
}

#[tokio::test]
async fn a_failure_in_the_middle_leaves_the_rest_to_the_same_ids() {
    let namespace = namespace();
    let busy = OnCall::Answer(Answer::busy(60));
    namespace.simulator.on(Call::Send, [OnCall::AsUsual, busy]);
    assert!(namespace.queue.send("q", &messages(250)).await.is_err());
    assert_eq!(namespace.simulator.requests().len(), 2, "the third batch has to wait too");
    namespace.queue.send("q", &messages(250)).await.unwrap();
    assert_eq!(namespace.taken(), (250, 100));
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_the_queue_is_sent_in_halves() {
    let namespace = namespace_with(|config| config.largest_body = 200);
    namespace.queue.send("q", &messages(10)).await.unwrap();
    assert_eq!(namespace.received().await, (0..10).map(|n| n.to_string()).collect::<Vec<_>>(), "in their order");
    let sends = namespace.simulator.requests().into_iter().filter(|request| request.target == "/q/messages");
    let sizes: Vec<usize> = sends.map(|request| items(&request).len()).collect();
    assert_eq!(sizes, [10, 5, 2, 3, 5, 2, 3]);

    let long = Outgoing { body: "x".repeat(200), ..message("long") };
    let told = namespace.queue.send("q", &[message("before"), long, message("after")]).await.unwrap_err();
    assert!(matches!(&told, QueueError::Refused { reason, .. } if reason.contains("by itself")), "{told}");
    assert_eq!(namespace.received().await, ["before"]);
}

#[tokio::test]
async fn a_scheduled_message_comes_in_the_next_whole_second() {
    let namespace = namespace();
    let due = namespace.clock.now() + Duration::from_millis(1);
    namespace.queue.send("q", &[Outgoing { due: Some(due), ..message("a") }]).await.unwrap();
    let properties = items(&namespace.simulator.requests()[0])[0]["BrokerProperties"].clone();
    assert_eq!(properties["ScheduledEnqueueTimeUtc"], "Tue, 10 Mar 2026 12:00:01 GMT");
    namespace.clock.advance(Duration::from_millis(999));
    assert_eq!(namespace.received().await, [""; 0]);
    namespace.clock.advance(Duration::from_millis(1));
    assert_eq!(namespace.received().await, ["a"]);
}

#[tokio::test]
async fn a_signature_is_for_the_namespace_and_an_hour_and_renewed_before_its_end() {
    let namespace = namespace();
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    for (id, wait) in [("a", 0), ("b", 54), ("c", 1), ("d", 120)] {
        namespace.clock.advance(minutes(wait));
        namespace.queue.send("q", &[message(id)]).await.unwrap();
    }
    let sent: Vec<String> = namespace.simulator.requests().iter().map(authorization).collect();
    assert_eq!(sent.len(), 4, "none was refused");
    assert_eq!(sent[0], sent[1], "kept while it lasts for more than five minutes");
    assert!(sent[1] != sent[2] && sent[2] != sent[3]);

    let resource = format!("http%3A%2F%2F127.0.0.1%3A{}%2F", namespace.simulator.endpoint().port().unwrap());
    let (resource_part, rest) = sent[0].split_once("&sig=").unwrap();
    assert_eq!(resource_part, format!("SharedAccessSignature sr={resource}"));
    let (signature, rest) = rest.split_once('&').unwrap();
    assert!(signature.ends_with("%3D") && !signature.contains(['/', '+', '=']), "{signature}");
    let start: i64 = 1_773_144_000;
    assert_eq!(rest, format!("se={}&skn={KEY_NAME}", start + 3_600));
}

#[tokio::test]
async fn an_identity_is_asked_for_a_token_of_service_bus() {
    let namespace = namespace();
    let (queue, identity) = with_identity(&namespace);
    namespace.simulator.accept_token("token-1");
    queue.send("q", &[message("a")]).await.unwrap();
    queue.send("q", &[message("b")]).await.unwrap();
    assert_eq!(queue.receive("q", 10, LOCK).await.unwrap().len(), 2);
    assert_eq!(*identity.scopes.lock().unwrap(), [SCOPE]);
    assert_eq!(SCOPE, "https://servicebus.azure.net/.default");
    assert!(namespace.simulator.requests().iter().all(|request| authorization(request) == "Bearer token-1"));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let namespace = namespace();
    let (queue, identity) = with_identity(&namespace);
    namespace.simulator.accept_token("token-2");
    queue.send("q", &[message("a")]).await.unwrap();
    let sent: Vec<String> = namespace.simulator.requests().iter().map(authorization).collect();
    assert_eq!(sent, ["Bearer token-1", "Bearer token-2"]);

    namespace.simulator.revoke_tokens();
    let told = queue.send("q", &[message("b")]).await.unwrap_err();
    assert!(matches!(&told, QueueError::Refused { reason, .. } if reason.contains("HTTP 401")), "{told}");
    assert_eq!(identity.issued.load(Ordering::SeqCst), 3);
    assert_eq!(namespace.simulator.requests().len(), 4);
    assert_eq!(namespace.taken(), (1, 0));
}

#[test]
fn plain_http_is_for_this_machine_only() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let at = |url: &str| {
        open(ServiceBusConfig::at(url.parse().unwrap(), ServiceBusCredential::Identity), clock.clone()).map(|_| ())
    };
    for good in
        ["https://fabrikam.servicebus.windows.net", "http://localhost:5672", "http://127.0.0.1", "http://[::1]:1"]
    {
        assert_eq!(at(good), Ok(()), "{good}");
    }
    for bad in ["http://fabrikam.servicebus.windows.net", "http://localhost.evil.example", "ftp://127.0.0.1"] {
        assert!(matches!(at(bad), Err(InvalidServiceBus::PlainHttp { .. })), "{bad}");
    }
    for bad in ["", "fabrikam.servicebus.windows.net/q", "user@fabrikam.example", "a b", "fabrikam.example:1"] {
        let told = ServiceBusConfig::namespace(bad, ServiceBusCredential::Identity).unwrap_err();
        assert_eq!(told, InvalidServiceBus::Namespace { host: bad.to_owned() });
    }
    let config =
        ServiceBusConfig::namespace("fabrikam.servicebus.windows.net", ServiceBusCredential::Identity).unwrap();
    assert_eq!(config.endpoint.as_str(), "https://fabrikam.servicebus.windows.net/");
}

#[tokio::test]
async fn no_key_signature_or_token_is_told() {
    let namespace = namespace();
    let credential = ServiceBusCredential::SharedKey { key_name: KEY_NAME.to_owned(), key: KEY.to_owned() };
    let mut told = vec![format!("{credential:?} {:?}", namespace.queue)];
    told.push(format!("{:?}", ServiceBusConfig::at(namespace.simulator.endpoint().clone(), credential.clone())));
    namespace.queue.send("q", &[message("a")]).await.unwrap();
    let signature = authorization(&namespace.simulator.requests()[0]);
    let sig = signature.split("sig=").nth(1).unwrap().split('&').next().unwrap().to_owned();

    // A service that repeats what we sent, once in an error that is told whole.
    let echo = OnCall::Answer(Answer::error(400, &signature));
    told.push(namespace.send_while(echo, 1).await.unwrap_err().to_string());
    assert!(told[2].contains("withheld"), "{}", told[2]);
    told.push(namespace.send_while(OnCall::Reset, 4).await.unwrap_err().to_string());
    let (queue, _) = with_identity(&namespace);
    let echo = OnCall::Answer(Answer::error(500, "Bearer token-1"));
    namespace.simulator.on(Call::Send, vec![echo; 4]);
    told.push(queue.send("q", &[message("a")]).await.unwrap_err().to_string());
    told.push(format!("{queue:?}"));

    let endpoint = namespace.simulator.endpoint().clone();
    drop(namespace.simulator);
    let gone = open(ServiceBusConfig::at(endpoint, credential), Arc::new(namespace.clock)).unwrap();
    told.push(gone.send("q", &[message("a")]).await.unwrap_err().to_string());
    told.push(format!("{gone:?}"));
    for text in told {
        for secret in [KEY, &sig, "token-1", "SharedAccessSignature"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn a_name_that_is_no_queue_leads_nowhere() {
    let namespace = namespace();
    let long = "q".repeat(261);
    for bad in ["", "q?x=1", "../other", "q/../other", "q#x", "$Resources", "q/", "ü", "q q", &long] {
        let told = [
            namespace.queue.send(bad, &[message("a")]).await.unwrap_err(),
            namespace.queue.receive(bad, 1, LOCK).await.unwrap_err(),
            namespace.queue.dead_letters(bad, 1).await.unwrap_err(),
            namespace.queue.complete(bad, &[]).await.unwrap_err(),
        ];
        assert!(told.iter().all(|told| matches!(told, QueueError::Refused { .. })), "{bad}: {told:?}");
    }
    assert!(namespace.simulator.requests().is_empty());
}

#[tokio::test]
async fn a_receiver_gets_what_was_locked_before_the_failure() {
    let namespace = namespace();
    namespace.queue.send("q", &messages(5)).await.unwrap();
    namespace.simulator.on(Call::Receive, [OnCall::AsUsual, OnCall::AsUsual, OnCall::Answer(Answer::busy(1))]);
    assert_eq!(namespace.received().await, ["0", "1"]);
    namespace.simulator.on(Call::Receive, [OnCall::Answer(Answer::busy(1))]);
    let told = namespace.queue.receive("q", 9, LOCK).await.unwrap_err();
    assert!(matches!(told, QueueError::Unclear { .. }), "{told}");
    // The message of an answer that was lost comes back once its lock has run out.
    namespace.simulator.on(Call::Receive, [OnCall::LoseAnswer]);
    assert!(namespace.queue.receive("q", 1, LOCK).await.is_err());
    assert_eq!(namespace.received().await, ["3", "4"]);
    namespace.clock.advance(LOCK);
    assert_eq!(namespace.received().await.len(), 5);
    let told = namespace.queue.receive("missing", 1, LOCK).await.unwrap_err();
    assert!(matches!(&told, QueueError::Refused { queue, .. } if queue == "missing"), "{told}");
}

#[tokio::test]
async fn settling_tells_a_lost_lock_from_a_failure() {
    let namespace = namespace();
    namespace.queue.send("q", &[message("a")]).await.unwrap();
    let lock = namespace.queue.receive("q", 1, LOCK).await.unwrap().remove(0).lock;
    for (answer, is_unclear) in [(Answer::busy(1), true), (Answer::status(500), true), (Answer::status(410), false)] {
        namespace.simulator.on(Call::Settle, vec![OnCall::Answer(answer.clone()); 3]);
        let told = [
            namespace.queue.complete("q", std::slice::from_ref(&lock)).await.unwrap_err(),
            namespace.queue.abandon("q", &lock).await.unwrap_err(),
            namespace.queue.renew("q", &lock, LOCK).await.unwrap_err(),
        ];
        assert!(told.iter().all(|told| matches!(told, QueueError::Unclear { .. }) == is_unclear), "{told:?}");
    }
    namespace.simulator.on(Call::Settle, [OnCall::LoseAnswer]);
    assert!(namespace.queue.complete("q", std::slice::from_ref(&lock)).await.is_err());
    assert_eq!(namespace.queue.complete("q", &[lock]).await.unwrap(), [false], "it was completed, as it turns out");
    let before = namespace.simulator.requests().len();
    let strange = ["1", "1/2", "x/0198f000-0000-7000-8000-000000000001", "../q"].map(|text| LockToken(text.to_owned()));
    assert_eq!(namespace.queue.complete("q", &strange).await.unwrap(), [false; 4]);
    assert_eq!(namespace.simulator.requests().len(), before, "nobody is asked about a lock that is none");
}

#[tokio::test]
async fn looking_at_dead_letters_leaves_them_there_even_if_the_look_fails() {
    let namespace = namespace_with(|config| config.max_delivery_count = 1);
    namespace.queue.send("q", &messages(3)).await.unwrap();
    for delivery in namespace.queue.receive("q", 3, LOCK).await.unwrap() {
        assert!(namespace.queue.abandon("q", &delivery.lock).await.unwrap());
    }
    namespace.simulator.on(Call::Receive, [OnCall::AsUsual, OnCall::Answer(Answer::status(500))]);
    assert!(namespace.queue.dead_letters("q", 10).await.is_err());
    let dead = namespace.queue.dead_letters("q", 2).await.unwrap();
    assert_eq!(dead.iter().map(|dead| dead.id.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    let again = namespace.queue.dead_letters("q", 10).await.unwrap();
    assert_eq!((again.len(), &again[..2]), (3, &dead[..]));
    assert!(again.iter().all(|dead| dead.delivery_count == 1 && dead.reason.contains("delivered once")), "{again:?}");
    assert_eq!(namespace.simulator.stats("q").dead, 3);
}

#[tokio::test]
async fn the_connection_string_of_a_simulator_is_a_setting() {
    let namespace = namespace();
    let values = BTreeMap::from([("ServiceBusConnection".to_owned(), namespace.simulator.connection_string())]);
    let settings = Settings::from_map(&values).unwrap();
    let Some(ServiceBusConnection::Emulator { endpoint, key_name, key }) = settings.queues.service_bus else {
        panic!("no emulator: {:?}", settings.queues.service_bus)
    };
    let credential = ServiceBusCredential::SharedKey { key_name, key: key.expose().to_owned() };
    let config = ServiceBusConfig::at(endpoint.url().clone(), credential);
    open(config, Arc::new(namespace.clock.clone())).unwrap().send("q", &[message("a")]).await.unwrap();
    assert_eq!(namespace.taken(), (1, 0));

    let wrong = ServiceBusCredential::SharedKey { key_name: KEY_NAME.to_owned(), key: "another".to_owned() };
    let config = ServiceBusConfig::at(endpoint.url().clone(), wrong);
    let told = open(config, Arc::new(namespace.clock)).unwrap().send("q", &[message("b")]).await.unwrap_err();
    assert!(matches!(&told, QueueError::Refused { reason, .. } if reason.contains("InvalidSignature")), "{told}");
}

#[tokio::test]
async fn the_simulator_insists_on_what_azure_documents() {
    let namespace = namespace();
    namespace.queue.send("q", &[message("a")]).await.unwrap();
    let authorization = authorization(&namespace.simulator.requests()[0]);
    let url = namespace.simulator.endpoint().join("q/messages").unwrap();
    let post = async |content_type: &str, properties: &str, body: String| {
        let request = http().post(url.clone()).header("authorization", &authorization).body(body);
        let request = request.header("content-type", content_type).header("brokerproperties", properties);
        request.send().await.unwrap().status().as_u16()
    };
    let batch = |items: &[Value]| Value::from(items.to_vec()).to_string();
    let one = |properties: Value| batch(&[json!({"Body": "x", "BrokerProperties": properties})]);
    assert_eq!(post("text/plain", r#"{"MessageId":"single","Unknown":1}"#, "x".to_owned()).await, 201);
    assert_eq!(post("text/plain", r#"{"MessageId":"single"}"#, "x".to_owned()).await, 201, "a duplicate is a success");
    assert_eq!(post("text/plain", "no JSON", "x".to_owned()).await, 400);
    assert_eq!(post(CONTENT_TYPE, "{}", one(json!({"MessageId": "a", "Label": "x"}))).await, 201);
    assert_eq!(namespace.taken(), (2, 2));
    let with_charset = format!("{CONTENT_TYPE}; charset=utf-8");
    assert_eq!(post(&with_charset, "{}", one(json!({"MessageId": "b"}))).await, 400);
    for time in ["2026-03-10T12:00:01Z", "Tue, 10 Mar 2026 12:00:01 +0000"] {
        assert_eq!(post(CONTENT_TYPE, "{}", one(json!({"ScheduledEnqueueTimeUtc": time}))).await, 400, "{time}");
    }
    assert_eq!(post(CONTENT_TYPE, "{}", one(json!({"MessageId": "x".repeat(129)}))).await, 400);
    assert_eq!(post(CONTENT_TYPE, "{}", batch(&vec![json!({"Body": "x"}); 101])).await, 400);
    assert_eq!(post(CONTENT_TYPE, "{}", batch(&vec![json!({"Body": "x"}); 100])).await, 201);
    assert_eq!(post(CONTENT_TYPE, "{}", batch(&[json!({"Body": "x".repeat(256 * 1024)})])).await, 413);
    assert_eq!(post(CONTENT_TYPE, "{}", "{}".to_owned()).await, 400);
    assert_eq!(namespace.taken(), (102, 2));
    namespace.clock.advance(Duration::from_secs(60 * 60));
    assert_eq!(post("text/plain", "{}", "x".to_owned()).await, 401, "the signature has run out");
}

#[tokio::test]
async fn the_embedded_host_takes_its_messages_from_a_namespace() {
    let stub = Stub::answering(|call| {
        if call.json()["Metadata"]["DeliveryCount"] == "1" { reply_with(500, None, "") } else { done() }
    })
    .await;
    let namespace = namespace_with(|config| config.queues = vec!["orders".to_owned()]);
    let mut ground = Ground::new(&stub, &json!({}), &[("F", queue_function("binary"))]);
    let clock = Arc::new(namespace.clock.clone());
    ground.config.queue = Arc::new(with_key(&namespace.simulator, clock));
    let _host = ground.start().await;
    namespace.queue.send("orders", &messages(3)).await.unwrap();
    eventually("an empty queue", || {
        namespace.simulator.stats("orders").taken == 3 && namespace.simulator.stats("orders").waiting == 0
    })
    .await;
    assert_eq!(
        (stub.calls().len(), namespace.simulator.stats("orders").dead),
        (6, 0),
        "each once more after its failure"
    );
}
