//! The sign-in that mints the first refresh token: authorization code with PKCE (contracts/access.md §2.3).
//!
//! Pure: what is sent, and whether what comes back belongs to it. Who listens, and who opens a browser, is the command
//! line's business.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::claims::Claims;
use super::exchange::Tokens;
use super::link::at;
use super::partner;
use crate::secret::Secret;

/// One sign-in, with what makes it ours.
pub struct SignIn {
    state: Secret,
    nonce: Secret,
    verifier: Secret,
    redirect: String,
}

/// Why a sign-in is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// Somebody else's answer, or none to this question.
    #[error("the browser came back with an answer to another sign-in")]
    OtherState,
    /// Entra, or the person, said no.
    #[error("Entra did not sign in: {0}")]
    Refused(String),
    /// Neither a code nor an error.
    #[error("the browser came back without a code")]
    NoCode,
    /// It is not the sign-in that was asked for.
    #[error("the identity token belongs to another sign-in")]
    OtherNonce,
    /// It was not the user's own tenant.
    #[error("the user belongs to tenant {0}, which is not AZURE_TENANT_ID")]
    OtherTenant(String),
    /// There was no second factor.
    #[error("the sign-in had no second factor, and Partner Center takes only tokens of one that had")]
    NoSecondFactor,
    /// There is no refresh token.
    #[error("Entra gave no refresh token")]
    NoRefreshToken,
}

/// What is asked for: Partner Center, whose token shows how the user signed in, and a refresh token.
pub fn scope() -> String {
    format!("{} openid profile offline_access", partner::SCOPE)
}

impl SignIn {
    /// A sign-in that comes back to `redirect`, a loopback address.
    pub fn new(redirect: String) -> Self {
        // From the system's source of randomness; the verifier is 64 characters, of at most 128.
        let random = || Secret::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
        Self { state: random(), nonce: random(), verifier: random(), redirect }
    }

    /// Where the browser has to go.
    pub fn url(&self, authority: &Url, tenant: &str, client_id: &str) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose()));
        let mut url = at(authority, &format!("{tenant}/oauth2/v2.0/authorize"));
        url.query_pairs_mut()
            .append_pair("client_id", client_id)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("response_mode", "query")
            .append_pair("scope", &scope())
            .append_pair("state", self.state.expose())
            .append_pair("nonce", self.nonce.expose())
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            // The service's own user, not whoever happens to be signed in to this browser.
            .append_pair("prompt", "select_account");
        url
    }

    /// The proof that who exchanges the code is who asked for it.
    pub fn verifier(&self) -> &Secret {
        &self.verifier
    }

    /// Where the browser comes back to.
    pub fn redirect(&self) -> &str {
        &self.redirect
    }

    /// The code of an answer; the state is compared first and in constant time.
    ///
    /// # Errors
    /// [`SignInError`].
    pub fn code(&self, query: &str) -> Result<String, SignInError> {
        let value = |name: &str| {
            url::form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let state = value("state").unwrap_or_default();
        if !self.state.matches(&state) {
            return Err(SignInError::OtherState);
        }
        if let Some(error) = value("error") {
            let is_word = error.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return Err(SignInError::Refused(if is_word { error } else { "it gave no reason".to_owned() }));
        }
        value("code").filter(|code| !code.is_empty()).ok_or(SignInError::NoCode)
    }

    /// The refresh token and its user's name, if the tokens are worth keeping.
    ///
    /// # Errors
    /// [`SignInError`].
    pub fn accept(&self, tokens: Tokens, tenant: &str) -> Result<(Secret, Option<String>), SignInError> {
        let identity = tokens.id_token.as_deref().and_then(Claims::of).ok_or(SignInError::OtherNonce)?;
        let nonce = identity.nonce.as_deref().unwrap_or_default();
        if !self.nonce.matches(nonce) {
            return Err(SignInError::OtherNonce);
        }
        match &identity.tid {
            Some(tid) if !tid.eq_ignore_ascii_case(tenant) && Uuid::try_parse(tenant).is_ok() => {
                return Err(SignInError::OtherTenant(tid.chars().take(36).collect()));
            }
            _ => {}
        }
        let access = Claims::of(tokens.access_token.expose()).unwrap_or_default();
        if !access.has_mfa() && !identity.has_mfa() {
            return Err(SignInError::NoSecondFactor);
        }
        let user = identity.preferred_username.or(access.upn);
        let token =
            tokens.refresh_token.filter(|token| !token.expose().is_empty()).ok_or(SignInError::NoRefreshToken)?;
        Ok((token, user))
    }
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").field("redirect", &self.redirect).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "b5a1e2d1-77aa-4b31-9f2e-5c6d7e8f9a02";

    fn token(claims: &serde_json::Value) -> String {
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn tokens(sign_in: &SignIn, change: impl Fn(&mut serde_json::Value, &mut serde_json::Value)) -> Tokens {
        let mut access = serde_json::json!({"amr": ["pwd", "mfa"]});
        let mut identity = serde_json::json!({"nonce": sign_in.nonce.expose(), "tid": TENANT, "preferred_username": "obo@fabrikam.example"});
        change(&mut access, &mut identity);
        let refresh_token = Some("1.refresh".into());
        let id_token = Some(token(&identity));
        Tokens { access_token: token(&access).into(), expires_in: 3_600, scope: None, refresh_token, id_token }
    }

    #[test]
    fn a_sign_in_asks_for_a_code_that_only_its_verifier_opens() {
        let sign_in = SignIn::new("http://localhost:4000".into());
        let url = sign_in.url(&"https://login.microsoftonline.com".parse().unwrap(), TENANT, "app");
        let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(query["code_challenge"], URL_SAFE_NO_PAD.encode(Sha256::digest(sign_in.verifier().expose())));
        assert_eq!(query["code_challenge_method"], "S256");
        assert!(!url.as_str().contains(sign_in.verifier().expose()));
        assert!((43..=128).contains(&sign_in.verifier().expose().len()));
        assert!(!format!("{sign_in:?}").contains(sign_in.state.expose()));
        assert!(!sign_in.state.matches(SignIn::new(String::new()).state.expose()));
    }

    #[test]
    fn only_the_answer_to_this_sign_in_is_taken() {
        let sign_in = SignIn::new("http://localhost:4000".into());
        let state = sign_in.state.expose();
        for (query, expected) in [
            (format!("code=abc%2Fd&state={state}"), Ok("abc/d".to_owned())),
            (
                format!("state={state}&error=access_denied&error_description=x"),
                Err(SignInError::Refused("access_denied".into())),
            ),
            (format!("state={state}&error=%3Cscript%3E"), Err(SignInError::Refused("it gave no reason".into()))),
            (format!("state={state}"), Err(SignInError::NoCode)),
            (format!("state={state}&code="), Err(SignInError::NoCode)),
            ("code=abc".to_owned(), Err(SignInError::OtherState)),
            (format!("code=abc&state={state}0"), Err(SignInError::OtherState)),
            ("error=access_denied".to_owned(), Err(SignInError::OtherState)),
        ] {
            assert_eq!(sign_in.code(&query), expected, "{query}");
        }
    }

    #[test]
    fn a_sign_in_without_a_second_factor_or_of_another_tenant_is_not_kept() {
        let sign_in = SignIn::new(String::new());
        let accept = |tokens| sign_in.accept(tokens, TENANT).map(|(token, user)| (token.expose().to_owned(), user));
        let good = accept(tokens(&sign_in, |_, _| {}));
        assert_eq!(good, Ok(("1.refresh".into(), Some("obo@fabrikam.example".into()))));
        let no_mfa = tokens(&sign_in, |access, _| access["amr"] = serde_json::json!(["pwd"]));
        assert_eq!(accept(no_mfa), Err(SignInError::NoSecondFactor));
        let replayed = tokens(&sign_in, |_, identity| identity["nonce"] = "other".into());
        assert_eq!(accept(replayed), Err(SignInError::OtherNonce));
        let elsewhere = tokens(&sign_in, |_, identity| identity["tid"] = "t".into());
        assert_eq!(accept(elsewhere), Err(SignInError::OtherTenant("t".into())));
        let mut bare = tokens(&sign_in, |_, _| {});
        bare.id_token = None;
        assert_eq!(accept(bare), Err(SignInError::OtherNonce));
        let mut bare = tokens(&sign_in, |_, _| {});
        bare.refresh_token = None;
        assert_eq!(accept(bare), Err(SignInError::NoRefreshToken));
    }
}
