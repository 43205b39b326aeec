//! The calls to ARM. Infallible in type: whatever happens is an answer that the domain can decide on.
//!
//! A call waits for its turn, goes out with a token, and is read by [`super::operation`]. What is repeated within a
//! call: a 401 that blames the token, once, with a new one; a refusal, once, as our app in the customer's tenant, where
//! that is allowed. Nothing sleeps here: Retry-After is part of the answer.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Method, StatusCode};
use tracing::{Span, field, info};
use url::Url;
use uuid::Uuid;

use super::Application;
use super::admission::{Admission, Class, Permit};
use super::call::{Call, Outcome, Turn};
use super::challenge;
use super::delegations::Looked;
use super::host_rule::{ArmHost, InvalidEndpoint, UrlRefused};
use super::operation::{self, Answer};
use super::throttle::Throttle;
use super::transport::{Proxy, Received, Transport};
use crate::access::claims::Claims;
use crate::access::credential::{BearerToken, NoToken, TokenSource, scope_of};
use crate::access::gdap::{Gdap, GdapError};
use crate::clock::Clock;
use crate::metrics;
use crate::rollout::failure::POLLING_URL_REFUSED;
use crate::rollout::resource_id::is_guid;
use crate::rollout::{ApplicationId, Operation, PollAnswer, ReadAnswer, RemoteError, SubmitAnswer, Version};

/// The API version of subscriptions, asked without a token for the tenant behind one.
pub(super) const SUBSCRIPTIONS_API_VERSION: &str = "2022-12-01";
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");

/// How to call ARM.
#[derive(Clone, Debug)]
pub struct ArmConfig {
    /// `ARM_ENDPOINT`: https, or http to loopback.
    pub endpoint: Url,
    /// `ARM_AUDIENCE`: what the token is for.
    pub audience: String,
    /// `ARM_API_VERSION`.
    pub api_version: String,
    /// `ARM_MAX_CONCURRENCY`: calls at once in this process.
    pub max_concurrency: usize,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a call may take once its turn has come; above the 60 s that ARM waits for a provider
    /// (contracts/arm.md §2.5).
    pub call_timeout: Duration,
    /// The proxy to tunnel through, if any.
    pub proxy: Option<Proxy>,
}

impl ArmConfig {
    /// The defaults of design §7, for one endpoint that is its own audience.
    pub fn for_endpoint(endpoint: Url) -> Self {
        Self {
            audience: endpoint.as_str().trim_end_matches('/').to_owned(),
            endpoint,
            api_version: "2019-07-01".to_owned(),
            max_concurrency: 64,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(100),
            proxy: None,
        }
    }
}

/// Why ARM cannot be called as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArmConfig {
    /// The endpoint.
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    /// The API version.
    #[error("the ARM API version {api_version:?} is not of the form 2019-07-01 or 2023-12-01-preview")]
    ApiVersion {
        /// As it was given.
        api_version: String,
    },
}

/// What came of a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// What ARM answered.
    pub answer: SubmitAnswer,
    /// ARM's `x-ms-correlation-request-id`: what support and the activity log know.
    pub correlation_id: Option<String>,
    /// How long ARM wants no call for this subscription, if it said so, now or before.
    pub throttled_for: Option<Duration>,
    /// The tenant that a 401 named.
    pub tenant_id: Option<String>,
}

/// What came of a look at an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Polled {
    /// What ARM answered.
    pub answer: PollAnswer,
    /// How long ARM wants no call for this subscription, if it said so, now or before.
    pub throttled_for: Option<Duration>,
}

/// What came of reading an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// What it says of a refresh.
    pub answer: ReadAnswer,
    /// The application, if there was one to be read.
    pub application: Option<Application>,
    /// How long ARM wants no call for this subscription, if it said so, now or before.
    pub throttled_for: Option<Duration>,
    /// The tenant that a 401 named.
    pub tenant_id: Option<String>,
}

/// Whose tokens go along.
#[derive(Clone)]
enum Caller {
    /// Our own identity's; where it is refused, those of our app in the customer's tenant, if there are any.
    Own { tokens: Arc<TokenSource>, guest: Option<Arc<TokenSource>> },
    /// Our app and user, in one customer's tenant.
    Gdap { gdap: Arc<Gdap>, tenant: Arc<str> },
}

impl Caller {
    /// The same as the one of the two that is to be tried first, or last.
    fn alone(tokens: &Arc<TokenSource>) -> Self {
        Self::Own { tokens: Arc::clone(tokens), guest: None }
    }

    async fn token(&self, scope: &str) -> Result<BearerToken, NoToken> {
        match self {
            Self::Own { tokens, .. } => tokens.token(scope).await,
            Self::Gdap { gdap, tenant } => gdap.arm_token(tenant).await.map_err(|error| no_token(scope, error)),
        }
    }

    async fn fresh(&self, scope: &str, refused: &BearerToken) -> Result<BearerToken, NoToken> {
        match self {
            Self::Own { tokens, .. } => tokens.fresh(scope, refused).await,
            Self::Gdap { gdap, tenant } => {
                gdap.fresh_arm_token(tenant, refused).await.map_err(|error| no_token(scope, error))
            }
        }
    }
}

fn no_token(scope: &str, error: GdapError) -> NoToken {
    NoToken { scope: scope.to_owned(), reason: error.to_string(), advice: "see docs/access.md" }
}

/// Calls ARM as one identity. Clones share connections, the limit on calls at once, and what is known of throttling.
#[derive(Clone)]
pub struct ArmClient {
    pub(super) shared: Arc<Shared>,
    caller: Caller,
}

pub(super) struct Shared {
    pub(super) host: ArmHost,
    scope: String,
    pub(super) api_version: String,
    transport: Transport,
    admission: Admission,
    throttle: Throttle,
    /// The subscriptions that our app entered as a guest last.
    as_guest: Mutex<HashSet<Box<str>>>,
    clock: Arc<dyn Clock>,
}

impl ArmClient {
    /// A client of one endpoint. Opens no connection yet.
    pub fn new(config: ArmConfig, tokens: Arc<TokenSource>, clock: Arc<dyn Clock>) -> Result<Self, InvalidArmConfig> {
        let host = ArmHost::new(&config.endpoint)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if config.api_version.is_empty() || !config.api_version.bytes().all(plain) {
            return Err(InvalidArmConfig::ApiVersion { api_version: config.api_version });
        }
        let shared = Shared {
            host,
            scope: scope_of(&config.audience),
            api_version: config.api_version,
            transport: Transport::new(
                config.max_concurrency,
                config.connect_timeout,
                config.call_timeout,
                config.proxy,
            ),
            admission: Admission::new(config.max_concurrency),
            throttle: Throttle::default(),
            as_guest: Mutex::default(),
            clock,
        };
        Ok(Self { shared: Arc::new(shared), caller: Caller::Own { tokens, guest: None } })
    }

    /// The same client with the tokens of another identity: another way to a deployment (design §5).
    pub fn with_tokens(&self, tokens: Arc<TokenSource>) -> Self {
        Self { shared: Arc::clone(&self.shared), caller: Caller::Own { tokens, guest: None } }
    }

    /// The same client, which calls with `guest`, our app's tokens in the customer's tenant, where its own are refused.
    #[must_use]
    pub fn or_as_guest(&self, guest: Arc<TokenSource>) -> Self {
        let caller = match &self.caller {
            Caller::Own { tokens, .. } => Caller::Own { tokens: Arc::clone(tokens), guest: Some(guest) },
            Caller::Gdap { .. } => self.caller.clone(),
        };
        Self { shared: Arc::clone(&self.shared), caller }
    }

    /// The same client as our app and user in a customer's tenant: for subscriptions of that tenant alone.
    #[must_use]
    pub fn in_tenant(&self, gdap: Arc<Gdap>, tenant: &str) -> Self {
        Self { shared: Arc::clone(&self.shared), caller: Caller::Gdap { gdap, tenant: tenant.into() } }
    }

    /// How long ARM wants no call for `subscription`; `None` if one may go now.
    pub fn throttled_for(&self, subscription: &str) -> Option<Duration> {
        self.shared.throttle.remaining(subscription, self.shared.clock.now())
    }

    /// Leaves `subscription` alone for `wait`: what another process learned, and the store remembered.
    pub fn hold_back(&self, subscription: &str, wait: Duration) {
        self.shared.throttle.hold(subscription, Some(wait), self.shared.clock.now());
    }

    /// Waits for one of the process's places for calls (`ARM_MAX_CONCURRENCY`), before any look that waits. Taken
    /// before the last reading of the store, so that the POST follows that reading at once.
    pub async fn admit_post(&self) -> Permit {
        self.shared.admission.admit(Class::Post).await
    }

    /// Brings the permissions of an application to those of `version` (contracts/arm.md §1.2).
    ///
    /// `turn` is one of the process's places for calls ([`ArmClient::admit_post`]); `request_id` names this attempt to
    /// ARM: the same attempt has to bring the same one.
    pub async fn refresh_permissions(
        &self,
        turn: Permit,
        id: &ApplicationId,
        version: Version,
        request_id: Uuid,
    ) -> Posted {
        let target = format!(
            "{}/refreshPermissions?api-version={}&targetVersion={version}",
            id.url_path(),
            self.shared.api_version
        );
        let unsent = |answer, throttled_for| Posted { answer, correlation_id: None, throttled_for, tenant_id: None };
        let uri = match self.shared.host.at(&target) {
            Ok(uri) => uri,
            Err(why) => return unsent(SubmitAnswer::Rejected { error: refused("UrlRefused", &target, why) }, None),
        };
        let call = Call {
            name: "refreshPermissions",
            method: Method::POST,
            uri,
            request_id,
            subscription: id.subscription(),
            body: Bytes::new(),
        };
        match self.call(call, Some(turn)).await {
            Outcome::Answered { received, throttled_for } => Posted {
                answer: operation::submitted(&self.answer(&received), &self.shared.host),
                correlation_id: header(&received.headers, &CORRELATION_ID),
                throttled_for,
                tenant_id: challenge_of(&received),
            },
            Outcome::Unanswered { error, wait, throttled_for } => {
                unsent(SubmitAnswer::Retry { error, wait }, throttled_for)
            }
        }
    }

    /// The same for a look, behind any POST that waits.
    pub async fn admit_look(&self) -> Permit {
        self.shared.admission.admit(Class::Look).await
    }

    /// Looks at an operation. Its URL goes out byte for byte, to the configured endpoint or not at all.
    pub async fn poll(&self, operation: &Operation, request_id: Uuid) -> Polled {
        self.poll_from(operation, request_id, None).await
    }

    /// The same for whoever may hold one of the places for calls.
    pub async fn poll_from(&self, operation: &Operation, request_id: Uuid, place: Option<&Permit>) -> Polled {
        let url = operation.url.expose();
        let uri = match self.shared.host.admit(url) {
            Ok(uri) => uri,
            Err(why) => {
                let error = refused(POLLING_URL_REFUSED, url, why);
                return Polled { answer: PollAnswer::Unreadable { error, wait: None }, throttled_for: None };
            }
        };
        let subscription = subscription_in(uri.path()).to_ascii_lowercase();
        let call = Call { name: "poll", request_id, ..Call::look(uri, &subscription) };
        match self.call_from(call, place).await {
            Outcome::Answered { received, throttled_for } => Polled {
                answer: operation::polled(&self.answer(&received), operation.monitor, &self.shared.host),
                throttled_for,
            },
            Outcome::Unanswered { error, wait, throttled_for } => {
                Polled { answer: PollAnswer::Unreadable { error, wait }, throttled_for }
            }
        }
    }

    /// Reads an application.
    pub async fn read_application(&self, id: &ApplicationId) -> ReadOutcome {
        self.read_application_from(id, None).await
    }

    /// The same for whoever may hold one of the places for calls.
    pub async fn read_application_from(&self, id: &ApplicationId, place: Option<&Permit>) -> ReadOutcome {
        let target = format!("{}?api-version={}", id.url_path(), self.shared.api_version);
        let unread = |error, wait, throttled_for| ReadOutcome {
            answer: ReadAnswer::Unreadable { error, wait },
            application: None,
            throttled_for,
            tenant_id: None,
        };
        let uri = match self.shared.host.at(&target) {
            Ok(uri) => uri,
            Err(why) => return unread(refused("UrlRefused", &target, why), None, None),
        };
        let call = Call { name: "readApplication", ..Call::look(uri, id.subscription()) };
        match self.call_from(call, place).await {
            Outcome::Answered { received, throttled_for } => {
                let (answer, application) = operation::read(&self.answer(&received));
                ReadOutcome { answer, application, throttled_for, tenant_id: challenge_of(&received) }
            }
            Outcome::Unanswered { error, wait, throttled_for } => unread(error, wait, throttled_for),
        }
    }

    /// Leaves what has no subscription alone for `wait`.
    pub(super) fn hold_scope(&self, scope: &str, wait: Duration) {
        self.shared.throttle.hold(scope, Some(wait), self.shared.clock.now());
    }

    /// Who we are to ARM, as far as our token says.
    pub async fn caller(&self) -> Result<Claims, NoToken> {
        self.caller.token(&self.shared.scope).await.map(|token| Claims::of(&token))
    }

    /// The tenant behind a subscription, which ARM names to anybody in its 401 (design §5). No token goes along.
    /// Whoever holds one of the places for calls asks from there, or all of them might wait for one more.
    pub async fn tenant_of(&self, subscription: &str, place: Option<&Permit>) -> Looked<String> {
        let unclear = |code: &str, message: &str| {
            let error = RemoteError { status: None, code: code.to_owned(), message: message.to_owned() };
            Looked::Unclear { error, wait: None }
        };
        if !is_guid(subscription) {
            return unclear("InvalidSubscription", "what was asked for is not a subscription's id");
        }
        let subscription = subscription.to_ascii_lowercase();
        let target = format!("/subscriptions/{subscription}?api-version={SUBSCRIPTIONS_API_VERSION}");
        let request = self.shared.host.at(&target).ok().and_then(|uri| Call::look(uri, &subscription).request(None));
        let Some(request) = request else {
            return unclear("InvalidRequest", "the request could not be put together");
        };
        let _turn = match place {
            Some(_) => None,
            None => Some(self.shared.admission.admit(Class::Look).await),
        };
        match self.shared.transport.send(request).await {
            Ok(received) => {
                let answer = self.answer(&received);
                match (received.status, challenge_of(&received)) {
                    (_, Some(tenant)) => Looked::Seen(tenant),
                    (StatusCode::NOT_FOUND, None) => Looked::Refused { error: answer.error() },
                    (_, None) => Looked::Unclear { error: answer.error(), wait: answer.wait() },
                }
            }
            Err(problem) => Looked::Unclear { error: problem.into(), wait: None },
        }
    }

    pub(super) async fn call(&self, call: Call<'_>, turn: Option<Permit>) -> Outcome {
        self.call_by(call, turn.map_or(Turn::Wanted, Turn::Given)).await
    }

    /// A call of whoever may hold one of the places for calls: they make it from there, or all of them might wait for
    /// one more.
    pub(super) async fn call_from(&self, call: Call<'_>, place: Option<&Permit>) -> Outcome {
        self.call_by(call, if place.is_some() { Turn::Held } else { Turn::Wanted }).await
    }

    async fn call_by(&self, call: Call<'_>, turn: Turn) -> Outcome {
        let Caller::Own { tokens, guest: Some(guest) } = &self.caller else {
            return self.call_as(&self.caller, &call, turn).await.0;
        };
        let was_guest = self.lock_guests().contains(call.subscription);
        let (first, second) = if was_guest { (guest, tokens) } else { (tokens, guest) };
        let (outcome, turn) = self.call_as(&Caller::alone(first), &call, turn).await;
        let is_shut = outcome.is_refusal() || was_guest && outcome.lacks_token();
        if !is_shut {
            return outcome;
        }
        let (again, _) = self.call_as(&Caller::alone(second), &call, turn).await;
        if again.is_refusal() || again.lacks_token() {
            // Two doors are closed; the first is the one that was to be used.
            return outcome;
        }
        let mut guests = self.lock_guests();
        if was_guest {
            guests.remove(call.subscription);
        } else {
            guests.insert(call.subscription.into());
        }
        again
    }

    fn lock_guests(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        self.shared.as_guest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call, with the tokens of one; and the place that it had, for another one.
    async fn call_as(&self, caller: &Caller, call: &Call<'_>, turn: Turn) -> (Outcome, Turn) {
        let shared = &*self.shared;
        let held_back = || shared.throttle.remaining(call.subscription, shared.clock.now());
        if let Some(rest) = held_back() {
            return (Outcome::held_back(rest), turn);
        }
        let token = match caller.token(&shared.scope).await {
            Ok(token) => token,
            Err(error) => return (Outcome::without_token(error), turn),
        };
        let turn = match turn {
            Turn::Wanted => Turn::Given(shared.admission.admit(Class::Look).await),
            turn => turn,
        };
        // While this call waited, another one may have been told to leave the subscription alone.
        if let Some(rest) = held_back() {
            return (Outcome::held_back(rest), turn);
        }
        let first = self.exchange(call, &token).await;
        let again = match &first {
            Outcome::Answered { received, .. } if received.status == StatusCode::UNAUTHORIZED => {
                operation::blames_token(&self.answer(received).error())
            }
            _ => false,
        };
        if !again {
            return (first, turn);
        }
        let outcome = match caller.fresh(&shared.scope, &token).await {
            Ok(token) => self.exchange(call, &token).await,
            Err(error) => Outcome::without_token(error),
        };
        (outcome, turn)
    }

    // At this level it costs nothing where no collector wants it. Its address stays out of it: signatures are in its query.
    #[tracing::instrument(level = "debug", name = "arm", skip_all, fields(
        otel.name = call.name,
        otel.kind = "client",
        otel.status_code = field::Empty,
        http.request.method = call.method.as_str(),
        http.response.status_code = field::Empty,
        error.r#type = field::Empty,
        subscription.id = call.subscription,
        request.id = %call.request_id,
    ))]
    async fn exchange(&self, call: &Call<'_>, token: &BearerToken) -> Outcome {
        let shared = &*self.shared;
        let Some(request) = call.request(Some(token)) else {
            let message = "the request could not be put together".to_owned();
            let error = RemoteError { status: None, code: "InvalidRequest".to_owned(), message };
            return Outcome::Unanswered { error, wait: None, throttled_for: None };
        };
        let began = Instant::now();
        let sent = shared.transport.send(request).await;
        match &sent {
            Ok(received) => {
                metrics::arm_call(call.name, began.elapsed(), Ok(received.status.as_u16()));
                Span::current().record("http.response.status_code", received.status.as_u16());
            }
            Err(problem) => {
                metrics::arm_call(call.name, began.elapsed(), Err(problem.code()));
                Span::current().record("error.type", problem.code()).record("otel.status_code", "ERROR");
            }
        }
        match sent {
            Ok(received) => {
                let throttled_for = self.learn(call.subscription, &received);
                Outcome::Answered { received, throttled_for }
            }
            Err(problem) => Outcome::Unanswered { error: problem.into(), wait: None, throttled_for: None },
        }
    }

    /// Remembers a 429, or a 503 that names a wait, for the subscription: but not where a provider says 429 for "busy",
    /// which is one application's state and not the subscription's (contracts/arm.md §2.5).
    fn learn(&self, subscription: &str, received: &Received) -> Option<Duration> {
        let answer = self.answer(received);
        let wait = match received.status {
            StatusCode::TOO_MANY_REQUESTS if answer.error().code != "RetryableErrorDueToAnotherOperation" => {
                answer.wait()
            }
            StatusCode::SERVICE_UNAVAILABLE => Some(answer.wait()?),
            _ => return None,
        };
        if subscription.is_empty() {
            return None;
        }
        metrics::arm_throttle();
        let rest = self.shared.throttle.hold(subscription, wait, answer.at);
        let (delay_ms, status) = (rest.as_millis(), received.status.as_u16());
        info!(
            subscription.id = subscription,
            delay_ms,
            http.response.status_code = status,
            "Azure Resource Manager wants no call for subscription {subscription} for {delay_ms} ms"
        );
        Some(rest)
    }

    pub(super) fn answer<'a>(&self, received: &'a Received) -> Answer<'a> {
        Answer {
            status: received.status,
            headers: &received.headers,
            body: &received.body,
            at: self.shared.clock.now(),
        }
    }
}

/// An error about a URL, which is named without its query: that is where the signature is.
pub(super) fn refused(code: &str, url: &str, why: UrlRefused) -> RemoteError {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let bare = bare.rsplit_once('@').map_or(bare, |(_, rest)| rest);
    RemoteError { status: None, code: code.to_owned(), message: format!("{bare} was not called: {why}") }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The tenant that a 401 names.
fn challenge_of(received: &Received) -> Option<String> {
    (received.status == StatusCode::UNAUTHORIZED).then(|| challenge::tenant(&received.headers)).flatten()
}

/// The subscription in a path of ARM, or nothing.
fn subscription_in(path: &str) -> &str {
    let mut segments = path.trim_start_matches('/').split('/');
    match (segments.next(), segments.next()) {
        (Some(name), Some(id)) if name.eq_ignore_ascii_case("subscriptions") => id,
        _ => "",
    }
}
