//! The calls to ARM. Infallible in type: whatever happens is an answer that the domain can decide on.
//!
//! A call waits for its turn, goes out with a token, and is read by [`super::operation`]. The one thing repeated within a call
//! is a 401 that blames the token, once, with a new one. Nothing sleeps here: Retry-After is part of the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use url::Url;
use uuid::Uuid;

use super::Application;
use super::admission::{Admission, Class, Permit};
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
use crate::rollout::failure::{HELD_BACK, NO_TOKEN, POLLING_URL_REFUSED};
use crate::rollout::resource_id::is_guid;
use crate::rollout::{ApplicationId, Operation, PollAnswer, ReadAnswer, RemoteError, SubmitAnswer, Version};

/// The API version of subscriptions, asked without a token for the tenant behind one.
pub(super) const SUBSCRIPTIONS_API_VERSION: &str = "2022-12-01";
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
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
    /// Our own identity's.
    Own(Arc<TokenSource>),
    /// Our app and user, in one customer's tenant.
    Gdap { gdap: Arc<Gdap>, tenant: Arc<str> },
}

impl Caller {
    async fn token(&self, scope: &str) -> Result<BearerToken, NoToken> {
        match self {
            Self::Own(tokens) => tokens.token(scope).await,
            Self::Gdap { gdap, tenant } => gdap.arm_token(tenant).await.map_err(|error| no_token(scope, error)),
        }
    }

    async fn fresh(&self, scope: &str, refused: &BearerToken) -> Result<BearerToken, NoToken> {
        match self {
            Self::Own(tokens) => tokens.fresh(scope, refused).await,
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
            clock,
        };
        Ok(Self { shared: Arc::new(shared), caller: Caller::Own(tokens) })
    }

    /// The same client with the tokens of another identity: another way to a deployment (design §5).
    pub fn with_tokens(&self, tokens: Arc<TokenSource>) -> Self {
        Self { shared: Arc::clone(&self.shared), caller: Caller::Own(tokens) }
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

    /// Waits for one of the process's places for calls (`ARM_MAX_CONCURRENCY`), before any look that waits. Taken before the
    /// last reading of the store, so that the POST follows that reading at once.
    pub async fn admit_post(&self) -> Permit {
        self.shared.admission.admit(Class::Post).await
    }

    /// Brings the permissions of an application to those of `version` (contracts/arm.md §1.2).
    ///
    /// `turn` is one of the process's places for calls ([`ArmClient::admit_post`]); `request_id` names this attempt to ARM:
    /// the same attempt has to bring the same one.
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
        let call = Call { method: Method::POST, uri, request_id, subscription: id.subscription(), body: Bytes::new() };
        match self.call(call, Some(turn)).await {
            Outcome::Answered { received, throttled_for } => Posted {
                answer: operation::submitted(&self.answer(&received)),
                correlation_id: header(&received.headers, &CORRELATION_ID),
                throttled_for,
                tenant_id: challenge_of(&received),
            },
            Outcome::Unanswered { error, wait, throttled_for } => {
                unsent(SubmitAnswer::Retry { error, wait }, throttled_for)
            }
        }
    }

    /// Looks at an operation. Its URL goes out byte for byte, to the configured endpoint or not at all.
    pub async fn poll(&self, operation: &Operation, request_id: Uuid) -> Polled {
        let url = operation.url.expose();
        let uri = match self.shared.host.admit(url) {
            Ok(uri) => uri,
            Err(why) => {
                let error = refused(POLLING_URL_REFUSED, url, why);
                return Polled { answer: PollAnswer::Unreadable { error, wait: None }, throttled_for: None };
            }
        };
        let subscription = subscription_in(uri.path()).to_ascii_lowercase();
        let call = Call { method: Method::GET, uri, request_id, subscription: &subscription, body: Bytes::new() };
        match self.call(call, None).await {
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
        match self.call(Call::look(uri, id.subscription()), None).await {
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

    /// The tenant behind a subscription, which ARM names to anybody in its 401 (design §5). No token goes along. Whoever holds
    /// one of the places for calls asks from there, or all of them might wait for one more.
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
        let shared = &*self.shared;
        let held_back = || shared.throttle.remaining(call.subscription, shared.clock.now());
        if let Some(rest) = held_back() {
            return Outcome::held_back(rest);
        }
        let token = match self.caller.token(&shared.scope).await {
            Ok(token) => token,
            Err(error) => return Outcome::without_token(error),
        };
        let _turn = match turn {
            Some(turn) => turn,
            None => shared.admission.admit(Class::Look).await,
        };
        // While this call waited, another one may have been told to leave the subscription alone.
        if let Some(rest) = held_back() {
            return Outcome::held_back(rest);
        }
        let first = self.exchange(&call, &token).await;
        let again = match &first {
            Outcome::Answered { received, .. } if received.status == StatusCode::UNAUTHORIZED => {
                operation::blames_token(&self.answer(received).error())
            }
            _ => false,
        };
        if !again {
            return first;
        }
        match self.caller.fresh(&shared.scope, &token).await {
            Ok(token) => self.exchange(&call, &token).await,
            Err(error) => Outcome::without_token(error),
        }
    }

    async fn exchange(&self, call: &Call<'_>, token: &BearerToken) -> Outcome {
        let shared = &*self.shared;
        let Some(request) = call.request(Some(token)) else {
            let message = "the request could not be put together".to_owned();
            let error = RemoteError { status: None, code: "InvalidRequest".to_owned(), message };
            return Outcome::Unanswered { error, wait: None, throttled_for: None };
        };
        match shared.transport.send(request).await {
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
        (!subscription.is_empty()).then(|| self.shared.throttle.hold(subscription, wait, answer.at))
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

/// One call, ready to go out as often as needed.
pub(super) struct Call<'a> {
    method: Method,
    uri: Uri,
    request_id: Uuid,
    /// Lower-case; empty if the call is nobody's.
    subscription: &'a str,
    /// JSON, or nothing.
    body: Bytes,
}

impl<'a> Call<'a> {
    pub(super) fn look(uri: Uri, subscription: &'a str) -> Self {
        Self { method: Method::GET, uri, request_id: Uuid::new_v4(), subscription, body: Bytes::new() }
    }

    /// A question that is posted, and changes nothing.
    pub(super) fn query(uri: Uri, scope: &'a str, body: Bytes) -> Self {
        Self { method: Method::POST, uri, request_id: Uuid::new_v4(), subscription: scope, body }
    }

    fn request(&self, token: Option<&BearerToken>) -> Option<Request<Full<Bytes>>> {
        let mut id = Uuid::encode_buffer();
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("permafresh/", env!("CARGO_PKG_VERSION"))));
        headers
            .insert(CLIENT_REQUEST_ID, HeaderValue::from_str(self.request_id.hyphenated().encode_lower(&mut id)).ok()?);
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.authorization().clone());
        }
        if self.method == Method::POST {
            // Azure's front end answers 411 to a POST without it (contracts/arm.md §2.5).
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        if !self.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Some(request)
    }
}

/// What became of a call.
pub(super) enum Outcome {
    Answered { received: Received, throttled_for: Option<Duration> },
    Unanswered { error: RemoteError, wait: Option<Duration>, throttled_for: Option<Duration> },
}

impl Outcome {
    fn held_back(rest: Duration) -> Self {
        let message = format!(
            "not called: ARM throttles this subscription and wants no call for another {} s",
            rest.as_secs_f64().ceil()
        );
        let error = RemoteError { status: None, code: HELD_BACK.to_owned(), message };
        Self::Unanswered { error, wait: Some(rest), throttled_for: Some(rest) }
    }

    fn without_token(error: NoToken) -> Self {
        let error = RemoteError { status: None, code: NO_TOKEN.to_owned(), message: error.to_string() };
        Self::Unanswered { error, wait: None, throttled_for: None }
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
