//! GDAP with the secure application model: into a customer's tenant as our app and our user (contracts/access.md §2).
//!
//! A person signs in once, with a second factor ([`sign_in`]); the refresh token goes into a [`vault`]. The [`broker`]
//! exchanges it for an access token of a customer's tenant ([`exchange`]); what Entra says instead is read by [`oauth`] and
//! becomes a [`GdapError`] that says who has to act. Where consent is missing, [`partner`] asks Partner Center for it, with
//! the names that [`scopes`] finds; where that may not, the customer's administrator gets a [`link`]. Relationships
//! ([`relationship`]) are made over `graph`; [`webhook`] tells when they change, once it is registered ([`registration`]).
//!
//! Nothing here stores state but the vault, decides when to try again, or waits. No text of an error or a log holds a
//! token, a secret, an address or anything that a service wrote.

pub mod broker;
pub mod claims;
pub mod exchange;
mod graph;
pub mod link;
pub mod oauth;
pub mod partner;
pub mod registration;
pub mod relationship;
pub mod scopes;
pub mod sign_in;
pub mod simulator;

mod trouble;
pub mod vault;
pub mod webhook;
mod wire;

use std::fmt;

use rustls::pki_types::CertificateDer;
use url::Url;
use uuid::Uuid;

pub use broker::Broker;
pub use graph::Assignment;
pub use trouble::{GdapError, Standstill};

use super::credential::{BearerToken, scope_of};
use crate::rollout::Timestamp;
use crate::secret::Secret;
use link::{State, StateKey};
use scopes::{GRAPH_APP, Grant};
use webhook::Verifier;

/// The path of the admin-consent call-back, below `PUBLIC_URL`.
pub const CALLBACK_PATH: &str = "api/consent/callback";
/// The path of Partner Center's webhook, below `PUBLIC_URL`.
pub const WEBHOOK_PATH: &str = "api/consent/webhook";
/// The audience of Graph where `GRAPH_ENDPOINT` is a simulator.
const PUBLIC_GRAPH: &str = "https://graph.microsoft.com";

/// What GDAP has to be told; filled from the settings.
pub struct GdapConfig {
    /// The partner's tenant (`AZURE_TENANT_ID`), lower-case.
    pub partner_tenant: String,
    /// `PARTNER_API_ENDPOINT`.
    pub partner_api_endpoint: Url,
    /// `GRAPH_ENDPOINT`.
    pub graph_endpoint: Url,
    /// `ARM_AUDIENCE`.
    pub arm_audience: String,
    /// `PUBLIC_URL`; without it links come back to nobody.
    pub public_url: Option<Url>,
    /// `CONSENT_STATE_KEY`.
    pub consent_state_key: Option<Secret>,
    /// What the customer sees beside the consent.
    pub display_name: String,
    /// Roots that are trusted for webhooks besides the machine's.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

/// The way into customers' tenants.
pub struct Gdap {
    config: GdapConfig,
    broker: Broker,
    http: reqwest::Client,
    state_key: Option<StateKey>,
    verifier: Verifier,
}

impl Gdap {
    /// Over a broker, and a client that follows no redirect. Asks nobody yet.
    pub fn new(config: GdapConfig, broker: Broker, http: reqwest::Client) -> Self {
        let verifier = Verifier::new(http.clone(), config.partner_api_endpoint.clone(), config.extra_roots.clone());
        let state_key = config.consent_state_key.as_ref().map(|key| StateKey::new(key.expose()));
        Self { config, broker, http, state_key, verifier }
    }

    /// Tokens, and the vault.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The partner's tenant.
    pub fn partner_tenant(&self) -> &str {
        &self.config.partner_tenant
    }

    /// A token for Azure Resource Manager in a customer's tenant.
    ///
    /// # Errors
    /// [`GdapError`] says who has to act.
    pub async fn arm_token(&self, tenant: &str) -> Result<BearerToken, GdapError> {
        self.broker.token(tenant, &scope_of(&self.config.arm_audience)).await
    }

    /// Those of `grants` that `tenant` has not consented to, Azure Resource Manager's left out: whoever has its token knows.
    /// Asked of Entra, whatever is cached.
    ///
    /// # Errors
    /// [`GdapError`] where Entra does not say.
    pub async fn lacking(&self, tenant: &str, grants: &[Grant]) -> Result<Vec<Grant>, GdapError> {
        let mut lacking = Vec::new();
        for grant in grants.iter().filter(|grant| !grant.is_for_same_as(&Grant::arm())) {
            let resource = &grant.enterprise_application_id;
            let scope = match resource.eq_ignore_ascii_case(GRAPH_APP) {
                true => self.graph_scope(),
                false => scope_of(resource),
            };
            let lacks = match self.broker.exchange(tenant, &scope).await {
                Ok((tokens, _)) => tokens.lacks_any_of(&grant.scope),
                Err(GdapError::NeedsConsent { .. } | GdapError::ServicePrincipalMissing { .. }) => true,
                Err(error) => return Err(error),
            };
            if lacks {
                lacking.push(grant.clone());
            }
        }
        Ok(lacking)
    }

    /// A token other than `refused`, which ARM did not take.
    ///
    /// # Errors
    /// As [`Self::arm_token`].
    pub async fn fresh_arm_token(&self, tenant: &str, refused: &BearerToken) -> Result<BearerToken, GdapError> {
        self.broker.fresh(tenant, &scope_of(&self.config.arm_audience), refused).await
    }

    /// Whether Entra gives us tokens for Azure Resource Manager at all, whatever is cached: asked in our own tenant.
    ///
    /// # Errors
    /// As [`Self::arm_token`].
    pub async fn try_at_home(&self) -> Result<(), GdapError> {
        self.broker.exchange(self.partner_tenant(), &scope_of(&self.config.arm_audience)).await.map(|_| ())
    }

    /// The link by which the administrator of `tenant` consents: with a call-back where we can be reached, plain otherwise.
    pub fn admin_link(&self, tenant: &str, now: Timestamp) -> Url {
        let endpoint = self.broker.endpoint();
        let (Some(key), Some(public)) = (&self.state_key, &self.config.public_url) else {
            return link::plain_admin_consent(&endpoint.authority, tenant, &endpoint.client_id);
        };
        let state = State {
            tenant_id: tenant.to_ascii_lowercase(),
            expires: (now + link::LIFETIME).timestamp(),
            nonce: Uuid::new_v4().simple().to_string(),
        };
        let redirect = link::at(public, CALLBACK_PATH);
        let (authority, resource) = (&endpoint.authority, &self.config.arm_audience);
        link::admin_consent(authority, tenant, &endpoint.client_id, resource, redirect.as_str(), &key.sign(&state))
    }

    /// The key that signs states, if there is one.
    pub fn state_key(&self) -> Option<&StateKey> {
        self.state_key.as_ref()
    }

    /// Who believes webhooks or does not.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Whatever the registration has for Graph; in the partner's tenant that has to include the relationships.
    fn graph_scope(&self) -> String {
        let endpoint = &self.config.graph_endpoint;
        let is_public = endpoint.scheme() == "https";
        scope_of(if is_public { endpoint.as_str() } else { PUBLIC_GRAPH })
    }
}

impl fmt::Debug for Gdap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gdap").field("broker", &self.broker).finish_non_exhaustive()
    }
}
