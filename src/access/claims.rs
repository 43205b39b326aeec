//! What one of our own tokens says about us: tenant and object id.
//!
//! Read for people who ask who they are, never to decide whether a token is good: only who takes it can. The signature is
//! not looked at, and a token that is no JSON Web Token says nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::credential::BearerToken;

/// Who a token was issued to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The tenant (`tid`).
    #[serde(rename = "tid")]
    pub tenant_id: Option<String>,
    /// The object id of the user or service principal (`oid`).
    #[serde(rename = "oid")]
    pub object_id: Option<String>,
    /// The groups it is in, where the token names them.
    pub groups: Vec<String>,
}

impl Claims {
    /// The claims of a token; none if it cannot be read.
    pub fn of(token: &BearerToken) -> Self {
        Self::read(token.secret()).unwrap_or_default()
    }

    fn read(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_it_is_and_anything_else_says_nothing() {
        let token = |payload: &str| format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(payload));
        let claims = Claims::read(&token(r#"{"tid": "t", "oid": "o", "groups": ["g"], "aud": ["x"]}"#)).unwrap();
        assert_eq!((claims.tenant_id.as_deref(), claims.object_id.as_deref()), (Some("t"), Some("o")));
        assert_eq!(claims.groups, ["g"]);
        assert_eq!(Claims::read(&token("{}")), Some(Claims::default()));
        for bad in
            ["", "opaque", "a.b.c", "..", "simulated.1.0123", &token("[1]"), &token("{"), &token(r#"{"tid": 7}"#)]
        {
            assert!(Claims::read(bad).is_none_or(|claims| claims == Claims::default()), "{bad}");
        }
    }
}
