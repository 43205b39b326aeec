//! The token endpoint of a managed identity in App Service (API version 2019-08-01).

use std::time::Duration;

use super::super::Shared;
use super::super::scripts::Reply;
use super::query_value;
use crate::rollout::Timestamp;

/// A token like Entra's in length, and when it expires.
pub(in super::super) fn issue(shared: &Shared, lifetime: Duration) -> (String, Timestamp) {
    // Whole seconds, since that is how the expiry is told.
    let now = shared.config.clock.now();
    let expires = Timestamp::from_timestamp((now + lifetime).timestamp(), 0).unwrap_or(now);
    let mut world = shared.world();
    world.stats.tokens += 1;
    let token = format!("simulated.{}.{}", world.stats.tokens, "0123456789abcdef".repeat(80));
    world.tokens.insert(token.clone(), expires);
    (token, expires)
}

pub(super) fn answer(shared: &Shared, head: &http::request::Parts) -> Reply {
    let header = head.headers.get("x-identity-header").map(http::HeaderValue::as_bytes);
    if header != Some(shared.config.identity_header.as_bytes()) {
        return Reply::json(401, r#"{"statusCode":401,"message":"the X-IDENTITY-HEADER header is missing or wrong"}"#);
    }
    if query_value(head, "api-version") != Some("2019-08-01") {
        return Reply::json(400, r#"{"statusCode":400,"message":"api-version is not 2019-08-01"}"#);
    }
    let Some(resource) = query_value(head, "resource").filter(|resource| !resource.is_empty()) else {
        return Reply::json(400, r#"{"statusCode":400,"message":"resource is missing"}"#);
    };
    let resource = percent_encoding::percent_decode_str(resource).decode_utf8_lossy();
    let (token, expires) = issue(shared, shared.config.token_lifetime);
    let body = serde_json::json!({
        "access_token": token,
        "expires_on": expires.timestamp().to_string(),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": query_value(head, "client_id").unwrap_or("00000000-0000-4000-8000-000000000000"),
    });
    Reply::json(200, body.to_string())
}
