//! The few claims of a token that we look at before it is used.
//!
//! Pure, and no verification: the tokens come straight from Entra over TLS, and whom they are for is who verifies them. What
//! is looked at here only spares a call that would be refused, or a person a sign-in that would be worth nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// How the user signed in.
    #[serde(default)]
    pub amr: Vec<String>,
    /// The app, in tokens of version 1.
    pub appid: Option<String>,
    /// The app, in tokens of version 2.
    pub azp: Option<String>,
    /// The tenant.
    pub tid: Option<String>,
    /// Who it is for.
    pub aud: Option<String>,
    /// What was sent along with the sign-in.
    pub nonce: Option<String>,
    /// The user's name.
    pub preferred_username: Option<String>,
    /// The user's name, in tokens of version 1.
    pub upn: Option<String>,
}

impl Claims {
    /// The claims of a token; `None` if it shows none, as tokens may.
    pub fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// The app that the token was given to.
    pub fn app(&self) -> Option<&str> {
        self.appid.as_deref().or(self.azp.as_deref())
    }

    /// Whether the sign-in had more than one factor, which Partner Center asks for (contracts/access.md §2.3).
    pub fn has_mfa(&self) -> bool {
        self.amr.iter().any(|method| method == "mfa" || method == "ngcmfa")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_and_what_is_no_token_has_none() {
        let token = format!("x.{}.y", URL_SAFE_NO_PAD.encode(r#"{"amr":["pwd","mfa"],"appid":"a","tid":"t","exp":1}"#));
        let claims = Claims::of(&token).unwrap();
        assert!(claims.has_mfa());
        assert_eq!(claims.app(), Some("a"));
        for bad in ["", "opaque", "a.b", "a.!.c", "a.e30", "..", "a.W10.c"] {
            assert_eq!(Claims::of(bad), None, "{bad}");
        }
        assert!(!Claims::of("a.e30.c").unwrap().has_mfa());
    }
}
