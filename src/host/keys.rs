//! The keys that callers of HTTP functions have to show. It never tells which one was shown, nor prints any.

use axum::http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;

use crate::secret::Secret;

/// The keys that are accepted, for functions and for the admin addresses alike. None means that nobody gets in.
#[derive(Clone, Default)]
pub struct FunctionKeys(Vec<Secret>);

impl FunctionKeys {
    /// Keeps the keys; empty ones are left out, since an empty key would let everybody in.
    pub fn new(keys: impl IntoIterator<Item = impl Into<Secret>>) -> Self {
        let trimmed = |key: Secret| Secret::new(key.expose().trim());
        let keys = keys.into_iter().map(|key| trimmed(key.into()));
        Self(keys.filter(|key| !key.expose().is_empty()).collect())
    }

    /// Whether the request shows one of them, in `x-functions-key` or else in the query as `code`. Every key is
    /// compared, and in constant time, so that the answer's timing tells nothing.
    pub fn admit(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        let shown = match headers.get("x-functions-key") {
            Some(value) => value.to_str().ok().map(str::to_owned),
            None => query_value(uri.query().unwrap_or_default(), "code"),
        };
        shown.is_some_and(|shown| Secret::any_matches(&self.0, &shown))
    }
}

impl std::fmt::Debug for FunctionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FunctionKeys({} keys)", self.0.len())
    }
}

fn query_value(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_known_key_gets_in_and_the_header_goes_before_the_query() {
        let keys = FunctionKeys::new(["first".to_owned(), String::new(), "se=cond/".to_owned()]);
        for (header, uri, admitted) in [
            (Some("first"), "/", true),
            (Some("second"), "/", false),
            (Some("firs"), "/", false),
            (Some("first "), "/", false),
            (None, "/?code=first", true),
            (None, "/?a=1&Code=se%3Dcond%2F", true),
            (None, "/?code=", false),
            (None, "/?code", false),
            (Some(""), "/", false),
            (Some("wrong"), "/?code=first", false),
            (None, "/", false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert("x-functions-key", HeaderValue::from_static(header));
            }
            assert_eq!(keys.admit(&headers, &Uri::from_static(uri)), admitted, "{header:?} {uri}");
        }
    }

    #[test]
    fn without_keys_nobody_gets_in() {
        assert!(!FunctionKeys::default().admit(&HeaderMap::new(), &Uri::from_static("/?code=")));
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", FunctionKeys::new(["secret".to_owned()])), "FunctionKeys(1 keys)");
    }
}
