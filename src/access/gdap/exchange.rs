//! Entra's token endpoint: a refresh token, or the code of a sign-in, for tokens (contracts/access.md §2.4).
//!
//! Knows how our app proves who it is. Keeps nothing: what comes back goes to who asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::link::at;
use super::oauth::OAuthError;
use super::wire::{self, NoAnswer};
use crate::access::certificate::ClientCertificate;
use crate::access::credential::{BearerToken, FEDERATION_SCOPE, NoToken, TokenSource};
use crate::clock::Clock;
use crate::secret::Secret;

const ENTRA: &str = "Microsoft Entra";

/// How our app proves who it is.
#[derive(Clone)]
pub enum AppProof {
    /// By its secret.
    Secret(Secret),
    /// By a certificate, with which it signs an assertion for each request.
    Certificate(ClientCertificate),
    /// By a managed identity that its registration trusts as a federated credential: no secret at all.
    ManagedIdentity(Arc<TokenSource>),
    /// Not at all: a registration that allows public client flows, on a developer's machine.
    Public,
}

impl fmt::Debug for AppProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(redacted)",
            Self::Certificate(_) => "Certificate(redacted)",
            Self::ManagedIdentity(_) => "ManagedIdentity",
            Self::Public => "Public",
        })
    }
}

/// Which of Entra's token endpoints exchanges the refresh token (`GDAP_TOKEN_ENDPOINT`). A sign-in goes by the newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenEndpoint {
    /// The one of today, which takes a `scope`.
    #[default]
    V2,
    /// The one before, which takes a `resource`, as the vendor's samples have it.
    V1,
}

impl TokenEndpoint {
    fn path(self, tenant: &str) -> String {
        match self {
            Self::V2 => format!("{tenant}/oauth2/v2.0/token"),
            Self::V1 => format!("{tenant}/oauth2/token"),
        }
    }
}

/// Tokens as Entra gives them.
#[derive(Deserialize)]
pub struct Tokens {
    /// For the audience asked for.
    pub access_token: Secret,
    /// Seconds.
    #[serde(deserialize_with = "seconds")]
    pub expires_in: u64,
    /// What it admits to, with spaces between, where Entra says so.
    pub scope: Option<String>,
    /// The replacement, where `offline_access` was asked for.
    pub refresh_token: Option<Secret>,
    /// Who signed in, where `openid` was asked for.
    pub id_token: Option<String>,
}

/// A number, or a number as text, as the older endpoint writes it.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    number.ok_or_else(|| serde::de::Error::custom("no number of seconds"))
}

impl Tokens {
    /// Whether the access token is of no use for one of `names` (permissions, commas between), as far as Entra says.
    pub fn lacks_any_of(&self, names: &str) -> bool {
        let Some(scope) = &self.scope else { return false };
        // The newer endpoint puts the resource before the name, the older one does not.
        let given: Vec<_> = scope.split_whitespace().map(|name| name.rsplit('/').next().unwrap_or(name)).collect();
        let is_given = |name: &str| given.iter().any(|given| given.eq_ignore_ascii_case(name));
        names.split(',').map(str::trim).any(|name| !name.is_empty() && !is_given(name))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Why there are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Entra said why.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    /// Entra said nothing.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// Our app could not prove who it is.
    #[error(transparent)]
    NoProof(#[from] NoToken),
    /// The key of our certificate does not sign.
    #[error("the key of the app's certificate could not sign")]
    CannotSign,
}

/// The token endpoint as our app uses it.
#[derive(Clone)]
pub struct Exchange {
    /// `AZURE_AUTHORITY_HOST`.
    pub authority: Url,
    /// `GDAP_CLIENT_ID`.
    pub client_id: String,
    /// How the app proves who it is.
    pub proof: AppProof,
    /// Where refresh tokens are exchanged.
    pub endpoint: TokenEndpoint,
    /// Follows no redirect.
    pub http: reqwest::Client,
    /// Now.
    pub clock: Arc<dyn Clock>,
}

impl Exchange {
    /// A refresh token for tokens of `tenant`.
    pub async fn refresh(&self, tenant: &str, refresh_token: &Secret, scope: &str) -> Result<Tokens, Refused> {
        // The older endpoint gives a replacement unasked.
        let (name, value) = match self.endpoint {
            TokenEndpoint::V2 => ("scope", format!("{scope} offline_access")),
            TokenEndpoint::V1 => ("resource", scope.strip_suffix("/.default").unwrap_or(scope).to_owned()),
        };
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose()), (name, &*value)];
        self.post(self.endpoint, tenant, &form).await
    }

    /// The code of a sign-in for tokens.
    pub async fn code(
        &self,
        tenant: &str,
        code: &str,
        verifier: &Secret,
        redirect: &str,
        scope: &str,
    ) -> Result<Tokens, Refused> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier.expose()),
            ("redirect_uri", redirect),
            ("scope", scope),
        ];
        self.post(TokenEndpoint::V2, tenant, &form).await
    }

    async fn post(&self, endpoint: TokenEndpoint, tenant: &str, fields: &[(&str, &str)]) -> Result<Tokens, Refused> {
        let url = at(&self.authority, &endpoint.path(tenant));
        let assertion = match &self.proof {
            AppProof::ManagedIdentity(tokens) => Some(Secret::new(tokens.token(FEDERATION_SCOPE).await?.secret())),
            AppProof::Certificate(certificate) => {
                let now = self.clock.now().timestamp();
                let signed = certificate.assertion(&self.client_id, url.as_str(), now);
                Some(Secret::new(signed.map_err(|_| Refused::CannotSign)?))
            }
            AppProof::Secret(_) | AppProof::Public => None,
        };
        let mut form = vec![("client_id", &*self.client_id)];
        match (&self.proof, &assertion) {
            (AppProof::Secret(secret), _) => form.push(("client_secret", secret.expose())),
            (_, Some(assertion)) => {
                form.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
                form.push(("client_assertion", assertion.expose()));
            }
            _ => {}
        }
        form.extend(fields);
        let received = wire::send(ENTRA, wire::form(self.http.post(url), &form)).await?;
        if received.status.is_success() {
            let tokens: Tokens = received.json(ENTRA)?;
            let token = tokens.access_token.expose();
            let is_sendable = !token.is_empty() && BearerToken::new(token).is_some();
            return match is_sendable && tokens.expires_in > 0 {
                true => Ok(tokens),
                false => Err(NoAnswer::Unreadable { service: ENTRA, status: received.status.as_u16() }.into()),
            };
        }
        let wait = received.wait(self.clock.now());
        Err(OAuthError::read(received.status.as_u16(), wait, &received.body).into())
    }
}

/// How long a token is used: until five minutes before its end, or half its life if that is shorter.
pub fn usable(expires_in: u64) -> Duration {
    let life = Duration::from_secs(expires_in.min(24 * 60 * 60));
    life - Duration::from_secs(300).min(life / 2)
}
