//! Writes the envelope of an HTTP request, for functions that are not proxied (contracts/custom-handler.md §5.3). It
//! sends nothing.

use std::collections::BTreeMap;

use axum::body::Bytes;
use base64::Engine as _;
use http::{HeaderMap, header, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::{
    envelope::{self, Sys, merge_body, object, put, quoted},
    route::RouteValues,
};

/// The body for one request.
pub fn http(binding: &str, head: &Parts, params: &RouteValues, body: &Bytes, sys: &Sys<'_>) -> Bytes {
    let query = query_pairs(head.uri.query().unwrap_or_default());
    let text = body_text(&head.headers, body);
    let mut data = Map::new();
    data.insert("Url".into(), url(head).into());
    data.insert("Method".into(), head.method.as_str().into());
    data.insert("Query".into(), joined(&query));
    data.insert(
        "Headers".into(),
        header_values(&head.headers).into_iter().map(|(name, all)| (name, json!(all))).collect::<Map<_, _>>().into(),
    );
    data.insert(
        "Params".into(),
        params.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect::<Map<_, _>>().into(),
    );
    data.insert("Identities".into(), nobody());
    if let Some(text) = &text {
        data.insert("Body".into(), text.as_str().into());
    }
    let mut metadata = Map::new();
    if let Some(text) = &text {
        merge_body(&mut metadata, text);
    }
    let last: BTreeMap<&str, &str> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (name, value) in last.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("code")) {
        put(&mut metadata, name, quoted(value));
    }
    for (name, value) in params {
        put(&mut metadata, name, quoted(value));
    }
    put(&mut metadata, "Query", json!(last));
    let plain = header_values(&head.headers).into_iter().map(|(name, all)| (name, all.join(", ").into()));
    put(&mut metadata, "Headers", plain.collect::<Map<_, _>>().into());
    put(&mut metadata, "sys", object(sys).into());
    envelope::request(binding, &data.into(), metadata)
}

fn url(head: &Parts) -> String {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}{}", head.uri.path_and_query().map_or("/", |path| path.as_str()))
}

/// Only with a Content-Length above zero: raw text, or base64 for what is not text.
fn body_text(headers: &HeaderMap, body: &Bytes) -> Option<String> {
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
    if length == 0 {
        return None;
    }
    let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    let media = media.to_ascii_lowercase();
    let binary = media.starts_with("application/octet-stream") || media.starts_with("multipart/");
    Some(match binary {
        true => base64::engine::general_purpose::STANDARD.encode(body),
        false => String::from_utf8_lossy(body).into_owned(),
    })
}

fn query_pairs(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

/// Repeats are joined with a comma.
fn joined(query: &[(String, String)]) -> Value {
    let mut members: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in query {
        members
            .entry(name)
            .and_modify(|all| {
                all.push(',');
                all.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
    json!(members)
}

/// Header values by name. HTTP/1 names arrive in lower case here; the real host shows them as they are usually written.
fn header_values(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let written = |name: &str| name.split('-').map(capitalised).collect::<Vec<_>>().join("-");
    let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.keys().map(|name| (written(name.as_str()), headers.get_all(name).iter().map(value).collect())).collect()
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}

/// The host authenticates nobody by itself.
fn nobody() -> Value {
    json!([{
        "AuthenticationType": null,
        "IsAuthenticated": false,
        "Actor": null,
        "BootstrapContext": null,
        "Claims": [],
        "Label": null,
        "Name": null,
        "NameClaimType": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
        "RoleClaimType": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
    }])
}
