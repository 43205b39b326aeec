//! The simulator's HTTP side: who may call, which call belongs to which path, and pages.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Call, NextLink, OnCall, Recorded, Reply, Shared};
use crate::loopback::{self, Answer, Dropped, HeaderCase};
use crate::rollout::Timestamp;

const BASE: &str = "/v1.0/ingestion/products";
const SCOPE: &str = "https://api.partner.microsoft.com/.default";

/// Serves until it is aborted, and its connections with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let answer = move |request| answer(Arc::clone(&shared), request);
    match loopback::serve(listener, HeaderCase::Lower, || {}, answer).await {}
}

/// A token, and when it expires.
pub(super) fn issue(shared: &Shared) -> (String, Timestamp) {
    // Whole seconds, since that is how the expiry is told.
    let now = shared.config.clock.now();
    let expires = Timestamp::from_timestamp((now + shared.config.token_lifetime).timestamp(), 0).unwrap_or(now);
    let mut state = shared.state();
    state.issued += 1;
    let token = format!("partner.{}.{}", state.issued, "0123456789abcdef".repeat(40));
    state.tokens.insert(token.clone(), expires);
    (token, expires)
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    keep(&shared, &head, &body);
    let path = head.uri.path().to_owned();
    let segments: Vec<&str> =
        path.strip_prefix(BASE).unwrap_or_default().split('/').filter(|part| !part.is_empty()).collect();
    let call = match (&head.method, &segments[..]) {
        (&Method::POST, _) if path.ends_with("/oauth2/v2.0/token") => Call::Token,
        (&Method::GET, []) if path == BASE => Call::Product,
        (&Method::GET, [_, "variants"]) => Call::Variants,
        (&Method::GET, [_, "submissions"]) => Call::Submissions,
        (&Method::GET, [_, "packageConfigurations", _]) => Call::Package,
        // Above all no POST: nobody is to publish, promote or cancel anything here.
        _ => return Ok(response(error(405, "there is nothing here for this method"))),
    };
    let script = {
        let mut state = shared.state();
        *state.calls.entry(call).or_default() += 1;
        state.scripts.get_mut(&call).and_then(std::collections::VecDeque::pop_front)
    };
    match script.unwrap_or(OnCall::AsUsual) {
        OnCall::AsUsual => Ok(response(act(&shared, &head, call, &segments, &body))),
        OnCall::Answer(reply) => Ok(response(reply)),
        OnCall::Reset => Err(Dropped),
        OnCall::Hang => std::future::pending().await,
    }
}

fn act(shared: &Shared, head: &Parts, call: Call, segments: &[&str], body: &str) -> Reply {
    if call == Call::Token {
        return token(shared, body);
    }
    if let Some(outage) = shared.state().outage.clone() {
        return outage;
    }
    let now = shared.config.clock.now();
    let token = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let state = shared.state();
    if token.and_then(|token| state.tokens.get(token)).is_none_or(|expires| now >= *expires) {
        return error(401, "the token is missing, unknown or expired");
    }
    if call == Call::Product {
        let query = percent_decode_str(head.uri.query().unwrap_or_default()).decode_utf8_lossy();
        let offer =
            query.split_once("i/value eq '").and_then(|(_, rest)| rest.split_once('\'')).map(|(offer, _)| offer);
        let found = offer.and_then(|offer| Some((offer, state.products.get(offer)?)));
        let items: Vec<_> = found
            .map(|(offer, product)| {
                json!({"resourceType": "AzureApplication", "name": offer, "id": product.id,
                    "externalIDs": [{"type": "AzureOfferId", "value": offer}]})
            })
            .into_iter()
            .collect();
        return page(shared, head, &items);
    }
    let Some(product) = state.products.values().find(|product| Some(&product.id.as_str()) == segments.first()) else {
        return error(404, "there is no such product");
    };
    match call {
        Call::Variants => page(shared, head, &product.variants),
        Call::Submissions => page(shared, head, &product.submissions),
        _ => {
            let call = segments.last().copied().unwrap_or_default();
            let instance = call.strip_prefix("getByInstanceID(instanceID=").and_then(|rest| rest.strip_suffix(')'));
            match instance.and_then(|instance| state.packages.get(instance)) {
                Some(package) => page(shared, head, std::slice::from_ref(package)),
                None => error(404, "there is no such instance"),
            }
        }
    }
}

/// One page of a list; where it begins is in `skip`.
fn page(shared: &Shared, head: &Parts, items: &[Value]) -> Reply {
    let query = head.uri.query().unwrap_or_default();
    let skip = query.split('&').find_map(|pair| pair.strip_prefix("skip=")?.parse::<usize>().ok()).unwrap_or_default();
    let rest = items.get(skip..).unwrap_or_default();
    let shown = &rest[..rest.len().min(shared.config.page_size)];
    let mut page = json!({"value": shown});
    if shown.len() < rest.len() {
        let others: Vec<_> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("skip=")).collect();
        let query = [others, vec![&*format!("skip={}", skip + shown.len())]].concat().join("&");
        let link = format!("{}?{query}", head.uri.path());
        match shared.config.next_link {
            NextLink::OData => page["@odata.nextLink"] = format!("{}{link}", shared.origin).into(),
            NextLink::Bare => page["nextLink"] = link.trim_start_matches('/').into(),
        }
    }
    Reply::json(200, page.to_string())
}

/// Entra's token endpoint, for the client credentials of one application.
fn token(shared: &Shared, body: &str) -> Reply {
    let value = |name: &str| {
        let found = body.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
        found.map(|(_, value)| percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
    };
    let proven = value("client_secret").is_some_and(|secret| secret == shared.config.client_secret)
        || value("client_assertion").is_some_and(|assertion| assertion.split('.').count() == 3);
    if value("grant_type").as_deref() != Some("client_credentials") || value("scope").as_deref() != Some(SCOPE) {
        return Reply::json(400, json!({"error": "invalid_request"}).to_string());
    }
    if !proven {
        let text = "AADSTS7000215: Invalid client secret provided.";
        return Reply::json(401, json!({"error": "invalid_client", "error_description": text}).to_string());
    }
    let (token, _) = issue(shared);
    let lifetime = shared.config.token_lifetime.as_secs();
    let body = json!({"token_type": "Bearer", "expires_in": lifetime, "access_token": token});
    Reply::json(200, body.to_string())
}

/// Errors are declared as bare strings.
fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, json!(message).to_string())
}

fn response(reply: Reply) -> Answer {
    loopback::response(reply.status, reply.headers, reply.body)
}

fn keep(shared: &Shared, head: &Parts, body: &str) {
    loopback::keep(&mut shared.state().requests, shared.config.keep_requests, || Recorded {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers.clone(),
        body: body.to_owned(),
    });
}
