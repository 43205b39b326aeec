//! Tokens: chosen by the settings, cached by scope, asked for once at a time, renewed before they expire.
//!
//! The Azure SDK gets them; this decides when. A token never appears in a log, an error or a `Debug` text.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret as SdkSecret, TokenCredential};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::ClientMethodOptions;
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use http::HeaderValue;

use super::certificate::{ClientCertificate, Signer};
use super::sdk_transport::{Authority, client_options};
use crate::clock::Clock;
use crate::rollout::Timestamp;
use crate::secret::Secret;

/// How long before its expiry a token is renewed, if half its life is not shorter.
pub const MARGIN: Duration = Duration::from_secs(5 * 60);
/// How long a renewal that failed, or brought the same token, is left before the next, while the old token lasts.
const BREATHER: Duration = Duration::from_secs(30);
/// Microsoft Entra, where no other is named.
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// What a managed identity's token is for when it stands for an app registration (workload identity federation).
pub const FEDERATION_SCOPE: &str = "api://AzureADTokenExchange/.default";
/// How long the SDK may take for one token.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest reason that is kept of a failure, in characters.
const LONGEST_REASON: usize = 500;

/// Who we are, by Azure's conventions (design §7).
#[derive(Clone, Default)]
pub struct IdentityConfig {
    /// `AZURE_TENANT_ID`.
    pub tenant_id: Option<String>,
    /// `AZURE_CLIENT_ID`: of the app registration, or of a user-assigned identity.
    pub client_id: Option<String>,
    /// `AZURE_CLIENT_SECRET`.
    pub client_secret: Option<Secret>,
    /// A certificate in the place of the secret, which wins over it.
    pub client_certificate: Option<ClientCertificate>,
    /// The managed identity that the app registration trusts in the place of a secret (workload identity federation).
    pub federated_by: Option<Arc<TokenSource>>,
    /// `IDENTITY_ENDPOINT`: whether there is a managed identity. The SDK reads it, and `IDENTITY_HEADER`, from the
    /// environment of the process.
    pub identity_endpoint: Option<String>,
    /// `AZURE_AUTHORITY_HOST`, for sovereign clouds; https, or http to loopback.
    pub authority_host: Option<String>,
}

impl fmt::Debug for IdentityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityConfig")
            .field("tenant_id", &self.tenant_id)
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret)
            .field("client_certificate", &self.client_certificate)
            .field("federated_by", &self.federated_by)
            .field("identity_endpoint", &self.identity_endpoint)
            .field("authority_host", &self.authority_host)
            .finish()
    }
}

/// Which kind of identity the settings amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKind {
    /// An app registration with a secret.
    ClientSecret,
    /// An app registration with a certificate.
    ClientCertificate,
    /// An app registration that a managed identity stands for: no secret at all.
    FederatedIdentity,
    /// A managed identity: system-assigned, or user-assigned where a client id is set.
    ManagedIdentity,
    /// Whoever is signed in to the Azure CLI or the Azure Developer CLI.
    DeveloperTools,
}

impl IdentityConfig {
    /// A client secret if complete, else the app registration that a managed identity stands for, else a managed identity if
    /// there is one, else developer tools.
    pub fn kind(&self) -> IdentityKind {
        let set = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
        let has_secret = self.client_secret.as_ref().is_some_and(|secret| !secret.expose().is_empty());
        if set(&self.tenant_id) && set(&self.client_id) && self.client_certificate.is_some() {
            IdentityKind::ClientCertificate
        } else if set(&self.tenant_id) && set(&self.client_id) && has_secret {
            IdentityKind::ClientSecret
        } else if set(&self.tenant_id) && set(&self.client_id) && self.federated_by.is_some() {
            IdentityKind::FederatedIdentity
        } else if set(&self.identity_endpoint) {
            IdentityKind::ManagedIdentity
        } else {
            IdentityKind::DeveloperTools
        }
    }

    fn credential(
        &self,
        http: &reqwest::Client,
        clock: &Arc<dyn Clock>,
    ) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let authority = Authority::of(self.authority_host.as_deref());
        let mut options = client_options(http, &authority);
        if let Some(authority_host) = authority.for_sdk() {
            let mut cloud = CustomConfiguration::default();
            cloud.authority_host = authority_host;
            options.cloud = Some(Arc::new(CloudConfiguration::Custom(cloud)));
        }
        let client_id = self.client_id.clone().filter(|id| !id.is_empty());
        match self.kind() {
            IdentityKind::ClientSecret => {
                let secret = self.client_secret.as_ref().map(Secret::expose).unwrap_or_default();
                let secret = SdkSecret::new(secret.to_owned());
                let options = ClientSecretCredentialOptions { client_options: options };
                let tenant_id = self.tenant_id.as_deref().unwrap_or_default();
                Ok(ClientSecretCredential::new(tenant_id, client_id.unwrap_or_default(), secret, Some(options))?)
            }
            IdentityKind::ClientCertificate => {
                let (tenant_id, client_id) =
                    (self.tenant_id.clone().unwrap_or_default(), client_id.unwrap_or_default());
                let host = self.authority_host.as_deref().unwrap_or(PUBLIC_AUTHORITY).trim_end_matches('/');
                let certificate = self.client_certificate.clone();
                let signer = certificate.map(|certificate| Signer {
                    certificate,
                    client_id: client_id.clone(),
                    audience: format!("{host}/{tenant_id}/oauth2/v2.0/token"),
                    clock: Arc::clone(clock),
                });
                let signer = signer.expect("the kind is this one only where there is a certificate");
                let options = ClientAssertionCredentialOptions { client_options: options };
                Ok(ClientAssertionCredential::new(tenant_id, client_id, signer, Some(options))?)
            }
            IdentityKind::FederatedIdentity => {
                let identity = self.federated_by.clone();
                let identity = identity.expect("the kind is this one only where there is such an identity");
                let options = ClientAssertionCredentialOptions { client_options: options };
                let (tenant_id, client_id) =
                    (self.tenant_id.clone().unwrap_or_default(), client_id.unwrap_or_default());
                Ok(ClientAssertionCredential::new(tenant_id, client_id, Federation(identity), Some(options))?)
            }
            IdentityKind::ManagedIdentity => {
                Ok(ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id: client_id.map(UserAssignedId::ClientId),
                    client_options: options,
                }))?)
            }
            IdentityKind::DeveloperTools => Ok(DeveloperToolsCredential::new(None)?),
        }
    }
}

/// A managed identity's token as the app's proof.
#[derive(Clone, Debug)]
struct Federation(Arc<TokenSource>);

#[async_trait]
impl ClientAssertion for Federation {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let token = self.0.token(FEDERATION_SCOPE).await;
        token
            .map(|token| token.secret().to_owned())
            .map_err(|error| Error::with_message(ErrorKind::Credential, error.to_string()))
    }
}

/// A token for one scope, never shown, and overwritten when its last copy is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken {
    authorization: HeaderValue,
}

impl BearerToken {
    /// The token `text`; `None` if it cannot be sent in a header.
    pub(in crate::access) fn new(text: &str) -> Option<Self> {
        Some(Self { authorization: Secret::new(format!("Bearer {text}")).into_header()? })
    }

    /// The whole value of an `authorization` header, marked as sensitive.
    pub fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    /// The token alone.
    pub fn secret(&self) -> &str {
        self.authorization.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(redacted)")
    }
}

/// Why there is no token, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token for {scope}: {reason}; {advice}")]
pub struct NoToken {
    /// What it was for.
    pub scope: String,
    /// What the identity said.
    pub reason: String,
    /// What to do.
    pub advice: &'static str,
}

/// Tokens of one identity.
pub struct TokenSource {
    origin: Origin,
    clock: Arc<dyn Clock>,
    slots: RwLock<HashMap<Box<str>, Arc<Slot>>>,
}

/// Makes the client when the first token is asked for.
type MakeClient = Box<dyn FnOnce() -> Result<reqwest::Client, String> + Send>;

enum Origin {
    Configured { config: IdentityConfig, http: LazyLock<Result<reqwest::Client, String>, MakeClient> },
    Given { credential: Arc<dyn TokenCredential> },
}

/// What is known for one scope.
#[derive(Default)]
struct Slot {
    held: Mutex<Option<Held>>,
    /// Locked while a request is in flight; keeps the failure of the last one for those who waited for it.
    flight: tokio::sync::Mutex<Option<NoToken>>,
    /// How many requests have ended.
    landed: AtomicU64,
}

#[derive(Clone)]
struct Held {
    token: BearerToken,
    renew_at: Timestamp,
    expires_on: Timestamp,
}

impl Slot {
    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}

impl TokenSource {
    /// Tokens of the identity that the settings name, asked for over the client that `http` makes: at the first request,
    /// since a client reads the machine's certificates, and a process that asks for nothing should not hold them.
    pub fn new<F>(config: IdentityConfig, http: F, clock: Arc<dyn Clock>) -> Self
    where
        F: FnOnce() -> Result<reqwest::Client, String> + Send + 'static,
    {
        let http = LazyLock::new(Box::new(http) as MakeClient);
        Self { origin: Origin::Configured { config, http }, clock, slots: RwLock::default() }
    }

    /// Tokens of any credential of the Azure SDK.
    pub fn from_credential(credential: Arc<dyn TokenCredential>, clock: Arc<dyn Clock>) -> Self {
        Self { origin: Origin::Given { credential }, clock, slots: RwLock::default() }
    }

    /// A token for `scope` (`https://management.azure.com/.default`), from the cache while it lasts.
    ///
    /// One request is in flight for a scope; who waits for it shares its outcome, a failure included. While the old token
    /// lasts nobody waits but the one who renews it, and a renewal that fails is tried again later.
    pub async fn token(&self, scope: &str) -> Result<BearerToken, NoToken> {
        let slot = self.slot(scope);
        let before = slot.landed.load(Ordering::Acquire);
        let now = self.clock.now();
        let mut flight = match slot.held() {
            Some(held) if now < held.renew_at => return Ok(held.token),
            Some(held) if now < held.expires_on => match slot.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(held.token),
            },
            _ => slot.flight.lock().await,
        };
        let now = self.clock.now();
        let lasting = slot.held().filter(|held| now < held.expires_on);
        if let Some(held) = lasting.as_ref().filter(|held| now < held.renew_at) {
            return Ok(held.token.clone());
        }
        if let Some(failure) = flight.as_ref().filter(|_| slot.landed.load(Ordering::Acquire) != before) {
            return lasting.map(|held| held.token).ok_or_else(|| failure.clone());
        }
        match (self.fetch(scope, &slot, &mut flight).await, lasting) {
            (Err(_), Some(held)) => {
                let token = held.token.clone();
                slot.hold(Held { renew_at: now + BREATHER, ..held });
                Ok(token)
            }
            (outcome, _) => outcome,
        }
    }

    /// A token other than `refused`, which ARM did not take: the cached one if it has changed meanwhile, else a new one.
    pub async fn fresh(&self, scope: &str, refused: &BearerToken) -> Result<BearerToken, NoToken> {
        let slot = self.slot(scope);
        let before = slot.landed.load(Ordering::Acquire);
        let mut flight = slot.flight.lock().await;
        let now = self.clock.now();
        if let Some(held) = slot.held().filter(|held| held.token != *refused && now < held.expires_on) {
            return Ok(held.token);
        }
        match flight.as_ref() {
            Some(failure) if slot.landed.load(Ordering::Acquire) != before => Err(failure.clone()),
            _ => self.fetch(scope, &slot, &mut flight).await,
        }
    }

    async fn fetch(&self, scope: &str, slot: &Slot, flight: &mut Option<NoToken>) -> Result<BearerToken, NoToken> {
        let outcome = self.ask(scope).await.map(|held| {
            let token = held.token.clone();
            slot.hold(held);
            token
        });
        *flight = outcome.as_ref().err().cloned();
        slot.landed.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    async fn ask(&self, scope: &str) -> Result<Held, NoToken> {
        let failed =
            |reason: String| NoToken { scope: scope.to_owned(), reason: one_line(&reason), advice: self.advice() };
        // The SDK's credentials keep tokens themselves, by the machine's clock and with no way to force a new one: a
        // credential is made for each request, and the cache is here.
        let credential = match &self.origin {
            Origin::Given { credential } => Arc::clone(credential),
            Origin::Configured { config, http } => {
                let http = http.as_ref().map_err(|reason| failed(reason.clone()))?;
                config.credential(http, &self.clock).map_err(|error| failed(error.to_string()))?
            }
        };
        let token = tokio::time::timeout(PATIENCE, credential.get_token(&[scope], None))
            .await
            .map_err(|_| failed(format!("the identity did not answer within {} s", PATIENCE.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        let bearer = BearerToken::new(token.token.secret())
            .ok_or_else(|| failed("the identity answered with a token that cannot be sent in a header".to_owned()))?;
        let now = self.clock.now();
        // Where our clock is wrong a new token may look old; it is kept for a while, or each call would ask for one.
        let at_least = now + BREATHER;
        let expires_on =
            Timestamp::from_timestamp(token.expires_on.unix_timestamp(), 0).unwrap_or(at_least).max(at_least);
        let life = (expires_on - now).to_std().unwrap_or_default();
        let renew_at = expires_on - MARGIN.min(life / 2);
        Ok(Held { token: bearer, renew_at, expires_on })
    }

    fn advice(&self) -> &'static str {
        match &self.origin {
            Origin::Given { .. } => "look at the identity that was given",
            Origin::Configured { config, .. } => match config.kind() {
                IdentityKind::ClientSecret => {
                    "check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, and whether the secret has expired"
                }
                IdentityKind::ClientCertificate => "check the app registration's tenant, client id and certificate",
                IdentityKind::FederatedIdentity => {
                    "check that the app registration AZURE_CLIENT_ID has the managed identity AZURE_MANAGED_IDENTITY_CLIENT_ID as a federated credential, with the audience api://AzureADTokenExchange"
                }
                IdentityKind::ManagedIdentity => {
                    "check that the function app has the managed identity, and AZURE_CLIENT_ID if it is user-assigned"
                }
                IdentityKind::DeveloperTools => {
                    "sign in with `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
                }
            },
        }
    }

    fn slot(&self, scope: &str) -> Arc<Slot> {
        if let Some(slot) = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(scope) {
            return Arc::clone(slot);
        }
        Arc::clone(self.slots.write().unwrap_or_else(PoisonError::into_inner).entry(scope.into()).or_default())
    }
}

/// The scope of everything behind an audience (`ARM_AUDIENCE`).
pub fn scope_of(audience: &str) -> String {
    format!("{}/.default", audience.strip_suffix('/').unwrap_or(audience))
}

fn one_line(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    words.join(" ").chars().take(LONGEST_REASON).collect()
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("TokenSource");
        match &self.origin {
            Origin::Configured { config, .. } => text.field("config", config),
            Origin::Given { credential } => text.field("credential", credential),
        };
        text.finish_non_exhaustive()
    }
}
