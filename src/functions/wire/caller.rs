//! Who is calling, as far as the handler can know it.
//!
//! The Functions host has checked the key before the request comes here, and tells nothing of it: in the proxying mode
//! neither the key's name nor the identities reach a custom handler (contracts/custom-handler.md §7). What does is the key
//! itself, in `x-functions-key` or `code`; so it is known by a fingerprint, which two calls with the same key share and from
//! which no key can be had. `X-MS-CLIENT-PRINCIPAL` is set by App Service authentication, and by anybody where that is not
//! in front: it counts only where `DASHBOARD_AUTH=easyauth` says that it is.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};

use super::principal;
use crate::functions::App;

/// How many bytes of a key's hash are shown.
const SHOWN: usize = 4;

/// Who is calling, for the audit list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(String);

impl Caller {
    /// The caller in words.
    pub fn who(&self) -> String {
        self.0.clone()
    }

    /// The caller of a request with these headers and this query; `is_vouched` says that App Service authentication stands
    /// before us.
    pub fn of(headers: &HeaderMap, query: &str, is_vouched: IsVouched) -> Self {
        let key = headers.get("x-functions-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let key = key.or_else(|| {
            let pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.into_iter().find(|(name, _)| name == "code").map(|(_, key)| key.into_owned())
        });
        let key = key.filter(|key| !key.is_empty()).map(|key| format!("key {}", fingerprint(&key)));
        let person = match is_vouched {
            IsVouched::Yes => principal::signed_in(headers),
            IsVouched::No => None,
        };
        Self(match (person, key) {
            (Some(person), Some(key)) => format!("{person} ({key})"),
            (Some(who), None) | (None, Some(who)) => who,
            (None, None) => "unknown".to_owned(),
        })
    }
}

/// Whether App Service authentication stands before us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsVouched {
    /// It does, so that its header counts.
    Yes,
    /// It does not, or nobody has said so.
    No,
}

impl FromRequestParts<()> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &()) -> Result<Self, Infallible> {
        let is_vouched = parts.extensions.get::<Arc<App>>().map_or(IsVouched::No, |app| app.principals);
        Ok(Self::of(&parts.headers, parts.uri.query().unwrap_or_default(), is_vouched))
    }
}

/// What a key is known by. The prefix keeps it from being the hash of the key for any other purpose.
fn fingerprint(key: &str) -> String {
    let digest = Sha256::new().chain_update("permafresh function key\0").chain_update(key).finalize();
    digest[..SHOWN].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_is_known_by_a_fingerprint_wherever_it_stands() {
        let by_header = Caller::of(&headers(&[("x-functions-key", "secret+/=")]), "code=other", IsVouched::No);
        let by_query = Caller::of(&headers(&[]), "top=1&code=secret%2B%2F%3D", IsVouched::No);
        assert_eq!(by_header, by_query);
        assert!(by_header.0.starts_with("key ") && by_header.0.len() == 12 && !by_header.0.contains("secret"));
        assert_ne!(by_header, Caller::of(&headers(&[]), "code=other", IsVouched::No));
        assert_eq!(Caller::of(&headers(&[]), "code=", IsVouched::No).0, "unknown");
    }

    #[test]
    fn a_principal_counts_only_where_somebody_vouches_for_it() {
        let json = r#"{"auth_typ":"aad","name_typ":"n","role_typ":"r","claims":[{"typ":"x","val":"no"},{"typ":"n","val":"alice@contoso.example"}]}"#;
        let headers = headers(&[("x-ms-client-principal", &STANDARD.encode(json))]);
        assert_eq!(Caller::of(&headers, "", IsVouched::No).0, "unknown");
        assert_eq!(Caller::of(&headers, "", IsVouched::Yes).0, "alice@contoso.example");
        assert!(Caller::of(&headers, "code=k", IsVouched::Yes).0.starts_with("alice@contoso.example (key "));
    }
}
