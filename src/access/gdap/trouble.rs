//! Why GDAP does not get us in, classified once by who has to act.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exchange::Refused;
use super::oauth::Reaction;
use super::vault::VaultError;
use super::wire::NoAnswer;

/// What stands between us and a customer's tenant. Texts name no user, token or address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GdapError {
    /// Nothing is wrong with us or the customer: again, after the wait that was named, if one was.
    #[error("{why}; it is tried again")]
    Retry {
        /// What happened.
        why: String,
        /// The wait that the service named.
        wait: Option<Duration>,
    },
    /// Our app is not consented to in this tenant: ask for consent through Partner Center.
    #[error("tenant {tenant_id} has not consented to our app: {why}")]
    NeedsConsent {
        /// The customer.
        tenant_id: String,
        /// What happened.
        why: String,
    },
    /// An administrator of the customer has to consent, or change something, since we may not: send them the link.
    #[error("tenant {tenant_id}: {why}; send its administrator the link of `permafresh gdap link`")]
    NeedsAdministrator {
        /// The customer.
        tenant_id: String,
        /// What happened.
        why: String,
    },
    /// A service that our app asks for has no service principal in this tenant (contracts/access.md §2.7).
    #[error("tenant {tenant_id} lacks a service principal{}: {why}", of(missing))]
    ServicePrincipalMissing {
        /// The customer.
        tenant_id: String,
        /// App ids of the resources, where they are known.
        missing: Vec<String>,
        /// What happened.
        why: String,
    },
    /// It has consented to less than is asked for; what a refresh needs is there.
    #[error(
        "tenant {tenant_id} has consented, and not to {}: {why}; `permafresh gdap consent --replace` withdraws its consent and asks for all anew",
        lacking.join(", ")
    )]
    ConsentLacks {
        /// The customer.
        tenant_id: String,
        /// What is missing: permissions of an app id.
        lacking: Vec<String>,
        /// What happened.
        why: String,
    },
    /// The customer's conditional access does not admit us.
    #[error("tenant {tenant_id} does not admit us: {why}; it is often the customer's own conditional access")]
    CustomerPolicy {
        /// The customer.
        tenant_id: String,
        /// What happened.
        why: String,
    },
    /// There is no GDAP relationship with this customer, or none that lets us do this.
    #[error("there is no GDAP relationship that would let us into tenant {tenant_id}: {why}")]
    NoRelationship {
        /// The customer.
        tenant_id: String,
        /// What happened.
        why: String,
    },
    /// What was to be made is there already, and is something else, or stands where it cannot be made.
    #[error("{why}")]
    InTheWay {
        /// What is in the way, and what to do.
        why: String,
    },
    /// The refresh token is of no use: all of GDAP waits until a person signs in.
    #[error("a person has to sign in again with `permafresh gdap sign-in`: {why}")]
    SignInAgain {
        /// What happened.
        why: String,
    },
    /// Our own registration, credential or vault is wrong: it fails for every customer.
    #[error("GDAP is not set up rightly: {why}")]
    Misconfigured {
        /// What happened, and what to do.
        why: String,
    },
}

fn of(missing: &[String]) -> String {
    if missing.is_empty() { String::new() } else { format!(" of {}", missing.join(", ")) }
}

/// For whom something has to be done, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standstill {
    /// Nobody: time.
    Time,
    /// This customer's, until it consents, admits us or has a relationship with us.
    Customer,
    /// Ours, and nothing works for any customer until then.
    Publisher,
}

impl GdapError {
    /// Who has to act.
    pub fn standstill(&self) -> Standstill {
        match self {
            Self::Retry { .. } => Standstill::Time,
            Self::NeedsConsent { .. }
            | Self::NeedsAdministrator { .. }
            | Self::ServicePrincipalMissing { .. }
            | Self::ConsentLacks { .. }
            | Self::CustomerPolicy { .. }
            | Self::NoRelationship { .. } => Standstill::Customer,
            Self::InTheWay { .. } | Self::SignInAgain { .. } | Self::Misconfigured { .. } => Standstill::Publisher,
        }
    }

    /// What a refused token request for `tenant` means.
    pub(super) fn of_refusal(refused: Refused, tenant: &str) -> Self {
        let tenant_id = tenant.to_owned();
        let error = match refused {
            Refused::OAuth(error) => error,
            Refused::NoAnswer(error) => return error.into(),
            Refused::NoProof(error) => {
                let why = format!(
                    "the managed identity that stands for the app has no token ({}): give the app registration a federated credential for it",
                    error.reason
                );
                return Self::Retry { why, wait: None };
            }
            Refused::CannotSign => {
                return Self::Misconfigured { why: format!("{refused}: make GDAP_CLIENT_CERTIFICATE anew") };
            }
        };
        let why = error.to_string();
        match error.reaction() {
            Reaction::Retry => Self::Retry { why, wait: error.wait },
            Reaction::SignInAgain => Self::SignInAgain { why },
            Reaction::Consent => Self::NeedsConsent { tenant_id, why },
            Reaction::ServicePrincipal => Self::ServicePrincipalMissing { tenant_id, missing: Vec::new(), why },
            Reaction::CustomerPolicy => Self::CustomerPolicy { tenant_id, why },
            Reaction::Relationship => Self::NoRelationship { tenant_id, why },
            Reaction::Misconfigured => Self::Misconfigured {
                why: format!(
                    "{why}: check GDAP_CLIENT_ID, its secret, certificate or federated credential, and its API permissions"
                ),
            },
        }
    }
}

impl From<NoAnswer> for GdapError {
    fn from(error: NoAnswer) -> Self {
        Self::Retry { why: error.to_string(), wait: None }
    }
}

impl From<VaultError> for GdapError {
    fn from(error: VaultError) -> Self {
        let why = error.to_string();
        match error {
            VaultError::Unavailable { wait, .. } => Self::Retry { why, wait },
            VaultError::Refused { .. } => Self::Misconfigured { why },
        }
    }
}
