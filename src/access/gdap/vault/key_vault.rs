//! The refresh token in Azure Key Vault, over the SDK's client and our HTTP client (contracts/access.md §2.9).
//!
//! The SDK asks first without a token, learns from the 401 which audience the vault is of, and asks again; that audience has
//! to be the vault's own domain. Its errors carry bodies of answers, so only status and code are taken over.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::StatusCode;
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::models::{
    SecretAttributes, SecretClientGetSecretOptions, SecretClientUpdateSecretPropertiesOptions, SetSecretParameters,
    UpdateSecretPropertiesParameters,
};
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient, SecretClientOptions};
use futures_util::{StreamExt as _, TryStreamExt as _};
use url::Url;

use super::{LIFETIME, StoredToken, VaultError};
use crate::access::credential::TokenSource;
use crate::access::sdk_transport::{Authority, options_for_one_host};
use crate::clock::Clock;
use crate::rollout::Timestamp;
use crate::secret::Secret;

/// How long one call may take, the question for the audience included.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most versions that are listed: one is written a day, and none is ever removed.
const MOST_VERSIONS: usize = 10_000;
const CONTENT_TYPE: &str = "application/x-refresh-token";

/// The address or the name of the secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("KEY_VAULT_URL cannot be used: {0}")]
pub struct InvalidVault(String);

/// One secret of one vault.
pub struct KeyVault {
    client: SecretClient,
    name: String,
}

impl KeyVault {
    /// The secret `name` of the vault at `url`. Asks nobody yet.
    ///
    /// # Errors
    /// If the SDK cannot use the address.
    pub fn new(
        url: &Url,
        name: &str,
        http: &reqwest::Client,
        tokens: Arc<TokenSource>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidVault> {
        // Only a simulator on this machine has an audience that is not its own domain.
        let is_loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        // The SDK insists on https, which the transport undoes for that simulator alone.
        let authority = Authority::of(Some(url.as_str()));
        let address = authority.for_sdk().unwrap_or_else(|| url.to_string());
        let options = SecretClientOptions {
            client_options: options_for_one_host(http, &authority, url),
            verify_challenge_resource: Some(!is_loopback),
            ..SecretClientOptions::default()
        };
        let credential = Arc::new(Lent { tokens, clock });
        let client =
            SecretClient::new(&address, credential, Some(options)).map_err(|error| InvalidVault(error.to_string()))?;
        Ok(Self { client, name: name.to_owned() })
    }

    pub(super) async fn read(&self) -> Result<Option<StoredToken>, VaultError> {
        let answer = in_time(self.client.get_secret(&self.name, Some(SecretClientGetSecretOptions::default()))).await;
        let secret = match answer {
            Ok(answer) => answer.into_model().map_err(|error| failed("read", &error))?,
            Err(Trouble::Sdk(error)) if error.http_status() == Some(StatusCode::NotFound) => return Ok(None),
            Err(trouble) => return Err(trouble.into_error("read")),
        };
        let version = secret.resource_id().ok().and_then(|id| id.version);
        let (Some(refresh_token), Some(version)) = (secret.value, version) else {
            return Err(unreadable("read"));
        };
        let tags = secret.tags.unwrap_or_default();
        let created = secret.attributes.and_then(|attributes| attributes.created);
        let minted_at = tags
            .get("mintedAt")
            .and_then(|text| text.parse().ok())
            .or_else(|| created.and_then(|at| Timestamp::from_timestamp(at.unix_timestamp(), 0)));
        Ok(Some(StoredToken {
            refresh_token: refresh_token.into(),
            version,
            minted_at,
            user: tags.get("user").cloned(),
        }))
    }

    pub(super) async fn save(
        &self,
        refresh_token: &Secret,
        user: Option<&str>,
        now: Timestamp,
    ) -> Result<String, VaultError> {
        let mut tags = HashMap::from([("mintedAt".to_owned(), now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))]);
        tags.extend(user.map(|user| ("user".to_owned(), user.to_owned())));
        let parameters = SetSecretParameters {
            content_type: Some(CONTENT_TYPE.to_owned()),
            secret_attributes: Some(SecretAttributes {
                enabled: Some(true),
                expires: OffsetDateTime::from_unix_timestamp((now + LIFETIME).timestamp()).ok(),
                ..SecretAttributes::default()
            }),
            tags: Some(tags),
            value: Some(refresh_token.expose().to_owned()),
        };
        let body = parameters.try_into().map_err(|error| failed("written", &error))?;
        let answer = in_time(self.client.set_secret(&self.name, body, None)).await;
        let secret = answer.map_err(|trouble| trouble.into_error("written"))?.into_model();
        let id = secret.map_err(|error| failed("written", &error))?.resource_id();
        id.ok().and_then(|id| id.version).ok_or_else(|| unreadable("written"))
    }

    pub(super) async fn retire(&self, version: &str) -> Result<(), VaultError> {
        let parameters = UpdateSecretPropertiesParameters {
            secret_attributes: Some(SecretAttributes { enabled: Some(false), ..SecretAttributes::default() }),
            ..UpdateSecretPropertiesParameters::default()
        };
        let body = parameters.try_into().map_err(|error| failed("retired", &error))?;
        let options = SecretClientUpdateSecretPropertiesOptions {
            secret_version: Some(version.to_owned()),
            ..SecretClientUpdateSecretPropertiesOptions::default()
        };
        match in_time(self.client.update_secret_properties(&self.name, body, Some(options))).await {
            Ok(_) => Ok(()),
            Err(Trouble::Sdk(error)) if error.http_status() == Some(StatusCode::NotFound) => Ok(()),
            Err(trouble) => Err(trouble.into_error("retired")),
        }
    }
}

impl KeyVault {
    pub(super) async fn enabled_versions(&self) -> Result<Vec<String>, VaultError> {
        let listed = async {
            let pages = self.client.list_secret_properties_versions(&self.name, None)?;
            let is_enabled = |attributes: &SecretAttributes| attributes.enabled != Some(false);
            pages
                .take(MOST_VERSIONS)
                .try_filter_map(|version| async move {
                    let enabled = version.attributes.as_ref().is_none_or(is_enabled);
                    Ok(version.resource_id()?.version.filter(|_| enabled))
                })
                .try_collect()
                .await
        };
        in_time(listed).await.map_err(|trouble| trouble.into_error("listed"))
    }
}

enum Trouble {
    Sdk(Error),
    Slow,
}

impl Trouble {
    fn into_error(self, action: &'static str) -> VaultError {
        match self {
            Self::Sdk(error) => failed(action, &error),
            Self::Slow => {
                let reason = format!("Key Vault did not answer within {} s", PATIENCE.as_secs());
                VaultError::Unavailable { action, reason, wait: None }
            }
        }
    }
}

async fn in_time<T>(call: impl Future<Output = azure_core::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(Trouble::Sdk),
        Err(_) => Err(Trouble::Slow),
    }
}

fn unreadable(action: &'static str) -> VaultError {
    let reason = "Key Vault's answer is not what it should be".to_owned();
    VaultError::Unavailable { action, reason, wait: None }
}

/// By status alone: the SDK's text holds what the vault answered.
fn failed(action: &'static str, error: &Error) -> VaultError {
    if let ErrorKind::HttpResponse { status, .. } = error.kind() {
        let status = u16::from(*status);
        return match status {
            401 => VaultError::Refused { action, reason: "Key Vault takes no token of this identity (401)".to_owned() },
            403 => VaultError::Refused {
                action,
                reason: "the identity may not (403): give it Key Vault Secrets Officer on this secret, and look at the vault's firewall, and whether the newest version is disabled or expired".to_owned(),
            },
            400..=499 if status != 408 && status != 429 => {
                VaultError::Refused { action, reason: format!("Key Vault answered {status}") }
            }
            _ => VaultError::Unavailable { action, reason: format!("Key Vault answered {status}"), wait: None },
        };
    }
    match error.kind() {
        ErrorKind::Credential => {
            VaultError::Unavailable { action, reason: "the identity has no token for Key Vault".to_owned(), wait: None }
        }
        ErrorKind::Connection | ErrorKind::Io => {
            VaultError::Unavailable { action, reason: "Key Vault could not be reached".to_owned(), wait: None }
        }
        _ => unreadable(action),
    }
}

/// Our tokens, as the SDK asks for them.
struct Lent {
    tokens: Arc<TokenSource>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl TokenCredential for Lent {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let scope = scopes.first().copied().unwrap_or_default();
        let token = self
            .tokens
            .token(scope)
            .await
            .map_err(|error| Error::with_error(ErrorKind::Credential, error, "no token for Key Vault"))?;
        // The cache that counts is ours: the SDK, which goes by the machine's clock, asks each time.
        let now =
            OffsetDateTime::from_unix_timestamp(self.clock.now().timestamp()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Ok(AccessToken::new(token.secret().to_owned(), now))
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyVault").field("name", &self.name).finish_non_exhaustive()
    }
}
