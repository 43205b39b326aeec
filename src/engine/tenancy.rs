//! Whose a subscription is: asked of ARM once, and remembered for a time.
//!
//! A subscription may move to another tenant, so what is remembered runs out; and whoever is told another tenant by a 401 says
//! so at once. What could not be asked is not remembered. Decides no way into that tenant.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Engine, EngineError, RACES};
use crate::arm::Looked;
use crate::arm::admission::Permit;
use crate::rollout::{RemoteError, Timestamp};
use crate::store::document::{self, Document};
use crate::store::{Saved, Versioned};

/// How long a tenant is remembered.
pub const KNOWN_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long it is remembered that ARM knows no such subscription.
pub const UNKNOWN_FOR: Duration = Duration::from_secs(60 * 60);

/// What is remembered of one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenancy {
    /// The subscription's id, lower-case.
    pub subscription: String,
    /// Its tenant; none if ARM knows no such subscription.
    #[serde(default)]
    pub tenant_id: Option<String>,
    /// Until when this counts.
    pub expires: Timestamp,
}

/// Found by its subscription.
impl Document for Tenancy {
    const COLLECTION: &'static str = "tenancy";
    fn name(&self) -> String {
        self.subscription.clone()
    }
}

/// What is known of a subscription's tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantAnswer {
    /// It is this one.
    Known(String),
    /// ARM knows no such subscription.
    NoSubscription,
    /// It could not be asked just now.
    Unclear {
        /// Why.
        error: RemoteError,
        /// The wait ARM named.
        wait: Option<Duration>,
    },
}

impl Engine {
    /// The tenant of a subscription: as remembered, else as ARM's challenge says.
    pub async fn tenant_of(&self, subscription: &str) -> Result<TenantAnswer, EngineError> {
        self.tenant_asked(subscription, None).await
    }

    /// The same for a worker that holds one of the places for calls.
    pub(super) async fn tenant_asked(
        &self,
        subscription: &str,
        place: Option<&Permit>,
    ) -> Result<TenantAnswer, EngineError> {
        let subscription = subscription.to_ascii_lowercase();
        if let Some(known) = document::get::<Tenancy>(&*self.store, &subscription).await?
            && self.now() < known.value.expires
        {
            return Ok(known.value.tenant_id.map_or(TenantAnswer::NoSubscription, TenantAnswer::Known));
        }
        let (tenant_id, answer) = match self.arm.tenant_of(&subscription, place).await {
            Looked::Seen(tenant) => (Some(tenant.clone()), TenantAnswer::Known(tenant)),
            Looked::Refused { .. } => (None, TenantAnswer::NoSubscription),
            Looked::Unclear { error, wait } => return Ok(TenantAnswer::Unclear { error, wait }),
        };
        self.remember_tenant(subscription, tenant_id).await?;
        Ok(answer)
    }

    /// Remembers the tenant that a 401 named, which may be another one than before.
    pub async fn learn_tenant(&self, subscription: &str, tenant: &str) -> Result<(), EngineError> {
        self.remember_tenant(subscription.to_ascii_lowercase(), Some(tenant.to_ascii_lowercase())).await
    }

    async fn remember_tenant(&self, subscription: String, tenant_id: Option<String>) -> Result<(), EngineError> {
        let lasting = if tenant_id.is_some() { KNOWN_FOR } else { UNKNOWN_FOR };
        let tenancy = Tenancy { expires: self.now() + lasting, subscription, tenant_id };
        for _ in 0..RACES {
            let before = document::get::<Tenancy>(&*self.store, &tenancy.subscription).await?;
            let next = Versioned { value: tenancy.clone(), etag: before.and_then(|before| before.etag) };
            if !matches!(document::save(&*self.store, &next).await?, Saved::Conflict) {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("the tenant of subscription {}", tenancy.subscription) })
    }
}
