//! The simulator's HTTP side: connections, the order of checks, and which answer belongs to which path.

mod delegations;
pub(super) mod identity;
mod inventory;
mod pages;
mod refresh;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::scripts::Reply;
use super::signed_url::Record;
use super::world::World;
use super::{Recorded, Shared};
use crate::loopback::{self, Dropped, HeaderCase};
use crate::rollout::Timestamp;

/// What to do with one request.
enum Act {
    Answer(Response<Full<Bytes>>),
    Reset,
    Hang,
}

impl From<Reply> for Act {
    fn from(reply: Reply) -> Self {
        Self::Answer(response(reply))
    }
}

/// Serves until it is aborted, and its connections with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let case = if shared.config.title_case_headers { HeaderCase::Title } else { HeaderCase::Lower };
    let counted = Arc::clone(&shared);
    let opened = move || counted.world().stats.connections += 1;
    match loopback::serve(listener, case, opened, move |request| answer(Arc::clone(&shared), request)).await {}
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    let _under_way = UnderWay::new(&shared);
    let (head, body) = request.into_parts();
    let body = if hyper::body::Body::is_end_stream(&body) {
        Bytes::new()
    } else {
        body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()
    };
    if shared.config.keep_requests > 0 {
        keep(&shared, &head);
    }
    if !shared.config.latency.is_zero() {
        tokio::time::sleep(shared.config.latency).await;
    }
    match act(&shared, &head, &body) {
        Act::Answer(response) => {
            let failed = response.status().is_client_error() || response.status().is_server_error();
            if failed && response.headers().contains_key(RETRY_AFTER) {
                shared.world().stats.waits += 1;
            }
            Ok(response)
        }
        Act::Reset => Err(Dropped),
        Act::Hang => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
    }
}

/// The checks in ARM's order: who calls, whether the subscription is throttled, then what is asked.
fn act(shared: &Shared, head: &http::request::Parts, body: &Bytes) -> Act {
    let path = head.uri.path();
    if path == "/msi/token" {
        return identity::answer(shared, head).into();
    }
    let now = shared.config.clock.now();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let in_subscription = in_subscription(&segments);
    let is_tenant_wide = segments.len() == 1 || segments.first().is_some_and(|first| *first == "providers");
    if in_subscription.is_none() && !is_tenant_wide {
        return nothing_here().into();
    }
    if let Err(reply) = authenticated(shared, &head.headers, in_subscription.map(|(id, _)| id), now) {
        return reply.into();
    }
    let Some((subscription, rest)) = in_subscription else {
        return inventory::tenant_wide(shared, head, &segments, body).into();
    };
    let subscription = subscription.to_ascii_lowercase();
    if let Some(reply) = throttled(shared, &subscription, now) {
        return reply.into();
    }
    let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
    let solutions = |provider: &str| is(provider, "Microsoft.Solutions");
    match (&head.method, rest) {
        (&Method::GET, ["providers", provider, "locations", _, record, name]) if solutions(provider) => {
            let record = if is(record, Record::Status.segment()) { Record::Status } else { Record::Result };
            refresh::poll(shared, head, &subscription, record, name, now)
        }
        (&Method::GET, [providers, provider, applications])
            if is(providers, "providers") && solutions(provider) && is(applications, "applications") =>
        {
            pages::list(shared, head, &subscription, None).into()
        }
        (&Method::GET, [groups, group, _, provider, applications])
            if is(groups, "resourceGroups") && solutions(provider) && is(applications, "applications") =>
        {
            pages::list(shared, head, &subscription, Some(group)).into()
        }
        (&Method::GET, [.., providers, provider, assignments])
            if is(providers, "providers")
                && is(provider, "Microsoft.ManagedServices")
                && is(assignments, "registrationAssignments") =>
        {
            delegations::list(shared, head).into()
        }
        (&Method::GET, ["providers", provider, definitions, role])
            if is(provider, "Microsoft.Authorization") && is(definitions, "roleDefinitions") =>
        {
            delegations::role(shared, head, role).into()
        }
        (&Method::GET, [groups]) if is(groups, "resourceGroups") => {
            inventory::list_groups(shared, head, &subscription).into()
        }
        (&Method::GET, []) => Reply::json(200, format!(r#"{{"subscriptionId":"{subscription}"}}"#)).into(),
        (&Method::GET, [groups, _, _, provider, applications, _])
            if is(groups, "resourceGroups") && solutions(provider) && is(applications, "applications") =>
        {
            pages::read(shared, head, path)
        }
        (&Method::POST, [groups, _, _, provider, applications, _, action])
            if is(groups, "resourceGroups")
                && solutions(provider)
                && is(applications, "applications")
                && is(action, "refreshPermissions") =>
        {
            refresh::post(shared, head, &path[..path.len() - action.len() - 1], now)
        }
        _ => shared.world().on_list.pop_front().unwrap_or_else(nothing_here).into(),
    }
}

fn in_subscription<'a, 'b>(segments: &'a [&'b str]) -> Option<(&'b str, &'a [&'b str])> {
    match segments {
        [subscriptions, id, rest @ ..] if subscriptions.eq_ignore_ascii_case("subscriptions") => Some((id, rest)),
        _ => None,
    }
}

fn nothing_here() -> Reply {
    Reply::error(404, "InvalidResourcePath", "There is nothing at this path for this method.")
}

/// Whether the call carries a token that was issued and lasts.
fn authenticated(
    shared: &Shared,
    headers: &HeaderMap,
    subscription: Option<&str>,
    now: Timestamp,
) -> Result<(), Reply> {
    let mut world = shared.world();
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let expires = token.and_then(|token| world.tokens.get(token).copied());
    let reply = match (token, expires) {
        (Some(token), Some(expires)) if now < expires => {
            let admitted = admitted(&world, token, subscription);
            world.stats.foreign_tokens += u64::from(admitted.as_ref().is_err_and(|reply| reply.status == 401));
            return admitted;
        }
        (_, Some(_)) => Reply::expired_token(),
        (Some(_), None) => Reply::error(401, "InvalidAuthenticationToken", "The access token is invalid."),
        (None, None) => Reply::error(401, "AuthenticationFailed", "The 'Authorization' header is missing."),
    };
    world.stats.refused_tokens += 1;
    if token.is_none()
        && let Some(reply) = world.on_challenge.pop_front()
    {
        return Err(reply);
    }
    let challenged = reply.headers.iter().any(|(name, _)| name == WWW_AUTHENTICATE.as_str());
    Err(if challenged {
        reply
    } else {
        let tenant = world.tenant_of(subscription.unwrap_or_default());
        let uri = format!("https://login.microsoftonline.com/{tenant}");
        reply.with("www-authenticate", format!("Bearer authorization_uri=\"{uri}\", error=\"invalid_token\""))
    })
}

/// Whether a good token may enter a subscription.
fn admitted(world: &World, token: &str, subscription: Option<&str>) -> Result<(), Reply> {
    let Some(subscription) = subscription else { return Ok(()) };
    match world.tenants.get(token) {
        Some(tenant) if !world.tenant_of(subscription).eq_ignore_ascii_case(tenant) => {
            Err(Reply::wrong_tenant(&world.tenant_of(subscription)))
        }
        None if world.closed.contains(&*subscription.to_ascii_lowercase()) => Err(Reply::forbidden()),
        _ => Ok(()),
    }
}

/// 429 while the subscription is to be left alone; such a call is not processed.
fn throttled(shared: &Shared, subscription: &str, now: Timestamp) -> Option<Reply> {
    let mut world = shared.world();
    let rest = (*world.throttled.get(subscription)? - now).to_std().ok().filter(|rest| !rest.is_zero());
    match rest {
        Some(rest) => {
            world.stats.throttled += 1;
            Some(Reply::throttled(rest.as_secs() + u64::from(rest.subsec_nanos() > 0)))
        }
        None => {
            world.throttled.remove(subscription);
            None
        }
    }
}

/// One value of the query, as it stands there.
fn query_value<'a>(head: &'a http::request::Parts, name: &str) -> Option<&'a str> {
    head.uri
        .query()?
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

/// The error for a call without `api-version`.
fn without_api_version(head: &http::request::Parts) -> Option<Reply> {
    let missing = query_value(head, "api-version").is_none_or(str::is_empty);
    missing.then(|| Reply::error(400, "MissingApiVersionParameter", "The api-version query parameter is required."))
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut id = Uuid::encode_buffer();
    if let Ok(id) = HeaderValue::from_str(Uuid::new_v4().hyphenated().encode_lower(&mut id)) {
        headers.insert("x-ms-request-id", id.clone());
        headers.insert("x-ms-correlation-request-id", id);
    }
    for (name, value) in reply.headers {
        let name = match name {
            std::borrow::Cow::Borrowed("content-type") => Some(CONTENT_TYPE),
            name => HeaderName::try_from(name.as_ref()).ok(),
        };
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(Bytes::from(value))) {
            headers.insert(name, value);
        }
    }
    response
}

fn keep(shared: &Shared, head: &http::request::Parts) {
    let recorded =
        Recorded { method: head.method.to_string(), target: head.uri.to_string(), headers: head.headers.clone() };
    let mut requests = shared.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if requests.len() == shared.config.keep_requests {
        requests.pop_front();
    }
    requests.push_back(recorded);
}

/// Counts a call while it is under way.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn new(shared: &Arc<Shared>) -> Self {
        let at_once = shared.at_once.fetch_add(1, Ordering::AcqRel) + 1;
        let mut world = shared.world();
        world.stats.most_at_once = world.stats.most_at_once.max(at_once);
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::AcqRel);
    }
}
