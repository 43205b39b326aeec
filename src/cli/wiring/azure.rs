//! Parts of Azure that the settings name: Table Storage and Service Bus, each with its HTTP client and its identity; and
//! the clients for the webhook and for the collector, which are nobody's identity.
//!
//! Makes only what is asked for: a client reads the machine's certificates, and a process that keeps everything on this
//! machine should not wait for that. Asks Azure nothing.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use url::Url;

use super::backends::beside_store;
use crate::access::credential::{IdentityConfig, TokenSource};
use crate::access::gdap::exchange::{AppProof as GdapProof, Exchange};
use crate::access::gdap::vault::{KeyVault, TokenFile, Vault};
use crate::access::gdap::{Broker, Gdap, GdapConfig};
use crate::access::guests::{AllowedTenants, Guests};
use crate::clock::Clock;
use crate::queue::service_bus::{ServiceBusConfig, ServiceBusCredential, ServiceBusQueue};
use crate::settings::{
    AppProof, ConnectionIdentity, Credential, Secret, ServiceBusConnection, Settings, StorageConnection, is_loopback,
};
use crate::store::tables::TablesStore;

/// How long a connection may take to come about; what is sent over it has a deadline of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of the secret with the refresh token where `GDAP_SECRET_NAME` is absent.
const DEFAULT_SECRET: &str = "gdap-refresh-token";

/// Where a client's requests go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Anywhere, through the machine's proxy if there is one.
    Anywhere,
    /// To this very machine, or to what only it reaches, so that no proxy should see them.
    ThisMachine,
}

/// What Azure is reached with.
pub struct Azure<'a> {
    settings: &'a Settings,
    clock: Arc<dyn Clock>,
    tokens: Arc<TokenSource>,
    /// The managed identity itself, where an app registration is what calls.
    platform: Option<Arc<TokenSource>>,
    http: OnceCell<reqwest::Client>,
}

impl<'a> Azure<'a> {
    /// Nothing is made yet that is not needed.
    pub fn new(settings: &'a Settings, clock: Arc<dyn Clock>) -> Self {
        // A managed identity's endpoint is on this very machine, and speaks plain HTTP.
        let platform = match &settings.identity.credential {
            Credential::ManagedIdentity { .. } => {
                Some(token_source(managed_identity(settings), Reach::ThisMachine, Arc::clone(&clock)))
            }
            Credential::ClientSecret { .. } | Credential::DeveloperTools => None,
        };
        let tokens = match (&platform, app(settings, platform.as_ref())) {
            (_, Some(app)) => token_source(app, entra(settings), Arc::clone(&clock)),
            (Some(platform), None) => Arc::clone(platform),
            (None, None) => token_source(IdentityConfig::default(), Reach::Anywhere, Arc::clone(&clock)),
        };
        Self { settings, clock, tokens, platform, http: OnceCell::new() }
    }

    /// Our app in customers' tenants, where the settings allow that.
    pub fn guests(&self) -> Option<Guests> {
        let allowed = self.settings.identity.additional_tenants.clone();
        let app = app(self.settings, self.platform.as_ref()).filter(|_| allowed != AllowedTenants::None)?;
        let reach = entra(self.settings);
        Some(Guests::new(app, allowed, move || client(reach), Arc::clone(&self.clock)))
    }

    /// The managed identity that stands for the app registration that calls, where there is one.
    pub fn federated_identity(&self) -> Option<Arc<TokenSource>> {
        let stands_for_app =
            matches!(&self.settings.identity.credential, Credential::ManagedIdentity { app: Some(_), .. });
        self.platform.clone().filter(|_| stands_for_app)
    }

    /// Tokens for what is ours: of the managed identity where there is one, whatever stands in for it elsewhere.
    fn own_tokens(&self) -> Arc<TokenSource> {
        Arc::clone(self.platform.as_ref().unwrap_or(&self.tokens))
    }

    /// Tokens of the identity that calls Azure Resource Manager.
    pub fn tokens(&self) -> Arc<TokenSource> {
        Arc::clone(&self.tokens)
    }

    /// Tokens of the application that watches offers, where there is one.
    pub fn partner_center_tokens(&self) -> Option<TokenSource> {
        let app = self.settings.partner_center.app.as_ref()?;
        let authority = &self.settings.identity.authority_host;
        let mut config = IdentityConfig {
            tenant_id: Some(app.tenant_id.clone()),
            client_id: Some(app.client_id.clone()),
            authority_host: Some(authority.as_str().to_owned()),
            ..IdentityConfig::default()
        };
        match &app.proof {
            AppProof::Secret(secret) => config.client_secret = Some(secret.clone()),
            AppProof::Certificate(certificate) => config.client_certificate = Some(certificate.clone()),
        }
        let reach = entra(self.settings);
        Some(TokenSource::new(config, move || client(reach), Arc::clone(&self.clock)))
    }

    /// The tables of a storage account.
    pub fn tables(&self, storage: &StorageConnection) -> anyhow::Result<TablesStore> {
        let config = storage.tables();
        let tokens = match storage {
            StorageConnection::Identity { identity, .. } => self.tokens_of(identity),
            StorageConnection::Development | StorageConnection::SharedKey { .. } => self.tokens(),
        };
        let http = self.client_for(&config.endpoint)?;
        TablesStore::connect(&config, http, tokens, Arc::clone(&self.clock))
            .context("AzureWebJobsStorage cannot be used")
    }

    /// The queues of a namespace.
    pub fn service_bus(&self, connection: &ServiceBusConnection) -> anyhow::Result<ServiceBusQueue> {
        let shared_key = |key_name: &str, key: &Secret| ServiceBusCredential::SharedKey {
            key_name: key_name.to_owned(),
            key: key.expose().to_owned(),
        };
        let (config, tokens) = match connection {
            ServiceBusConnection::SharedKey { namespace, key_name, key } => {
                (ServiceBusConfig::namespace(namespace, shared_key(key_name, key)), self.tokens())
            }
            ServiceBusConnection::Emulator { endpoint, key_name, key } => {
                (Ok(ServiceBusConfig::at(endpoint.url().clone(), shared_key(key_name, key))), self.tokens())
            }
            ServiceBusConnection::Identity { namespace, identity } => {
                (ServiceBusConfig::namespace(namespace, ServiceBusCredential::Identity), self.tokens_of(identity))
            }
        };
        let unusable = "ServiceBusConnection cannot be used";
        let config = config.context(unusable)?;
        let http = self.client_for(&config.endpoint)?;
        ServiceBusQueue::new(config, http, tokens, Arc::clone(&self.clock)).context(unusable)
    }

    /// GDAP, where the settings name an app for it.
    pub fn gdap(&self) -> anyhow::Result<Option<Gdap>> {
        let (settings, gdap) = (self.settings, &self.settings.gdap);
        let Some(client_id) = &gdap.client_id else { return Ok(None) };
        let partner_tenant = settings.identity.tenant_id.as_ref();
        let partner_tenant = partner_tenant
            .context("GDAP_CLIENT_ID is set, and AZURE_TENANT_ID is absent: it is the partner's tenant")?;
        let proof = match &settings.identity.credential {
            _ if gdap.certificate.is_some() => {
                gdap.certificate.clone().map_or(GdapProof::Public, GdapProof::Certificate)
            }
            Credential::ClientSecret { client_id: own, secret, .. } if own.eq_ignore_ascii_case(client_id) => {
                GdapProof::Secret(secret.clone())
            }
            Credential::ManagedIdentity { .. } => GdapProof::ManagedIdentity(self.own_tokens()),
            Credential::ClientSecret { .. } | Credential::DeveloperTools => GdapProof::Public,
        };
        let vault = match &gdap.key_vault_url {
            Some(url) => {
                let name = gdap.secret_name.as_deref().unwrap_or(DEFAULT_SECRET);
                let vault = KeyVault::new(
                    url.url(),
                    name,
                    &self.client_for(url.url())?,
                    self.own_tokens(),
                    Arc::clone(&self.clock),
                );
                Vault::KeyVault(vault.context("the key vault cannot be used")?)
            }
            None => Vault::File(TokenFile::at(beside_store(settings, ".gdap-token"))),
        };
        let authority = settings.identity.authority_host.url().clone();
        let http = self.client_for(&authority)?;
        let clock = Arc::clone(&self.clock);
        let exchange = Exchange {
            authority,
            client_id: client_id.clone(),
            proof,
            endpoint: gdap.token_endpoint,
            http: http.clone(),
            clock,
        };
        let config = GdapConfig {
            partner_tenant: partner_tenant.to_ascii_lowercase(),
            partner_api_endpoint: gdap.partner_api_endpoint.url().clone(),
            graph_endpoint: gdap.graph_endpoint.url().clone(),
            arm_audience: settings.arm.audience.clone(),
            public_url: gdap.public_url.as_ref().map(|url| url.url().clone()),
            consent_state_key: gdap.consent_state_key.clone(),
            display_name: "Permafresh".to_owned(),
            extra_roots: Vec::new(),
        };
        let broker = Broker::new(exchange, vault, &config.partner_tenant);
        Ok(Some(Gdap::new(config, broker, http)))
    }

    /// Tokens of the identity that a connection names: often the one that calls Azure Resource Manager.
    fn tokens_of(&self, named: &ConnectionIdentity) -> Arc<TokenSource> {
        let ConnectionIdentity::Managed { client_id } = named else { return self.own_tokens() };
        if matches!(&self.settings.identity.credential, Credential::ManagedIdentity { client_id: own, .. } if own == client_id)
        {
            return self.own_tokens();
        }
        let platform = self.settings.identity.platform.as_ref();
        let config = IdentityConfig {
            client_id: client_id.clone(),
            identity_endpoint: platform.map(|endpoint| endpoint.as_str().to_owned()),
            ..IdentityConfig::default()
        };
        token_source(config, Reach::ThisMachine, Arc::clone(&self.clock))
    }

    /// A client for an endpoint; those away from this machine share theirs, and with it their connections.
    fn client_for(&self, endpoint: &Url) -> anyhow::Result<reqwest::Client> {
        if is_loopback(endpoint) {
            return client(Reach::ThisMachine).map_err(anyhow::Error::msg);
        }
        if let Some(http) = self.http.get() {
            return Ok(http.clone());
        }
        let http = client(Reach::Anywhere).map_err(anyhow::Error::msg)?;
        Ok(self.http.get_or_init(|| http).clone())
    }
}

/// What makes the client for a webhook: when it is needed, since most processes have nothing to tell when they start.
pub fn webhook_client(url: &str) -> impl FnOnce() -> Result<reqwest::Client, String> + Send + 'static {
    let is_here = Url::parse(url).is_ok_and(|url| is_loopback(&url));
    move || client(if is_here { Reach::ThisMachine } else { Reach::Anywhere })
}

/// What makes the client for a collector, likewise.
pub fn collector_client(endpoint: &Url) -> impl Fn() -> Result<reqwest::Client, String> + Send + Sync + 'static {
    let reach = if is_loopback(endpoint) { Reach::ThisMachine } else { Reach::Anywhere };
    move || client(reach)
}

fn token_source(config: IdentityConfig, reach: Reach, clock: Arc<dyn Clock>) -> Arc<TokenSource> {
    Arc::new(TokenSource::new(config, move || client(reach), clock))
}

/// A client that follows no redirects: what it is authorized with is for the endpoint alone.
#[expect(clippy::disallowed_methods, reason = "wiring is where clients are made")]
fn client(reach: Reach) -> Result<reqwest::Client, String> {
    let builder =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(CONNECT_TIMEOUT);
    let builder = if reach == Reach::ThisMachine { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| format!("cannot make an HTTP client: {error}"))
}

/// The managed identity that the settings name.
fn managed_identity(settings: &Settings) -> IdentityConfig {
    let mut config = IdentityConfig::default();
    if let Credential::ManagedIdentity { endpoint, client_id, .. } = &settings.identity.credential {
        config.identity_endpoint = Some(endpoint.as_str().to_owned());
        config.client_id.clone_from(client_id);
    }
    config
}

/// The app registration that the settings name, if they do; `platform` is the managed identity that stands for it.
fn app(settings: &Settings, platform: Option<&Arc<TokenSource>>) -> Option<IdentityConfig> {
    let config = IdentityConfig {
        authority_host: Some(settings.identity.authority_host.as_str().to_owned()),
        ..IdentityConfig::default()
    };
    match &settings.identity.credential {
        Credential::ClientSecret { tenant_id, client_id, secret } => Some(IdentityConfig {
            tenant_id: Some(tenant_id.clone()),
            client_id: Some(client_id.clone()),
            client_secret: Some(secret.clone()),
            ..config
        }),
        Credential::ManagedIdentity { app: Some(app), .. } => Some(IdentityConfig {
            tenant_id: Some(app.tenant_id.clone()),
            client_id: Some(app.client_id.clone()),
            federated_by: platform.cloned(),
            ..config
        }),
        Credential::ManagedIdentity { app: None, .. } | Credential::DeveloperTools => None,
    }
}

/// How Microsoft Entra is reached.
fn entra(settings: &Settings) -> Reach {
    if is_loopback(settings.identity.authority_host.url()) { Reach::ThisMachine } else { Reach::Anywhere }
}
