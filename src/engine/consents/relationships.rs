//! What follows for consents when a GDAP relationship begins or ends (contracts/access.md §2.8). An event only has us look:
//! Graph decides. Since events get lost, those that waited for a new relationship are looked at every day as well.

use tracing::{info, warn};

use super::{ConsentState, CustomerConsent};
use crate::access::gdap::scopes::Grant;
use crate::access::gdap::{Gdap, GdapError, Standstill};
use crate::engine::{Engine, EngineError, RACES};
use crate::queue::{Message, Outgoing};
use crate::store::document;
use crate::store::{StoreError, Versioned};

impl Engine {
    /// Looks again at a GDAP relationship of which an event told; the message alone proves nothing.
    pub async fn look_at_relationship_later(&self, id: &str, event_id: &str) -> Result<(), EngineError> {
        let body = Message::LookAtRelationship { relationship_id: id.to_owned() }.to_body();
        let id = format!("relationship:{event_id}");
        self.send_refresh_messages(&[Outgoing { id, body, due: None }]).await
    }

    /// Reads a relationship from Graph, which decides: in force it makes the consent wanted; over it parks the customer,
    /// unless another one is in force.
    pub async fn look_at_relationship(&self, id: &str) -> Result<(), EngineError> {
        let Some(gdap) = &self.gdap else { return Ok(()) };
        let unavailable = |error: GdapError| StoreError::Unavailable {
            action: "read a GDAP relationship",
            reason: error.to_string(),
        };
        let relationship = match gdap.relationship(id).await {
            Ok(Some(relationship)) => relationship,
            Ok(None) => return Ok(()),
            // The queue brings the message again.
            Err(error @ GdapError::Retry { .. }) => return Err(unavailable(error).into()),
            Err(error) => {
                warn!("A GDAP relationship changed and could not be read: {error}");
                return Ok(());
            }
        };
        let Some(tenant) = relationship.tenant_id() else { return Ok(()) };
        if relationship.status.is_in_force() {
            return self.want_consent(&tenant, &[Grant::arm()]).await.map(|_| ());
        }
        if !relationship.status.is_over() {
            return Ok(());
        }
        let others = match gdap.relationships().await {
            Ok(others) => others,
            Err(error) => return Err(unavailable(error).into()),
        };
        if others.iter().any(|other| other.status.is_in_force() && other.tenant_id().as_deref() == Some(&*tenant)) {
            return Ok(());
        }
        gdap.broker().forget(&tenant);
        self.park_customer(&tenant, "its GDAP relationship with us has ended: offer it a new one").await
    }

    /// Notes that a customer's relationship has ended.
    async fn park_customer(&self, tenant: &str, why: &str) -> Result<(), EngineError> {
        for _ in 0..RACES {
            let known = document::get::<CustomerConsent>(&*self.store, tenant).await?;
            let grants = known.as_ref().map_or_else(|| vec![Grant::arm()], |known| known.value.grants.clone());
            let state = ConsentState::Parked {
                standstill: Standstill::Customer,
                why: why.to_owned(),
                relationship_ended: true,
            };
            let parked = CustomerConsent { tenant_id: tenant.to_owned(), state, grants, since: self.now() };
            let record = Versioned { value: parked, etag: known.and_then(|known| known.etag) };
            if document::save(&*self.store, &record).await?.is_stored() {
                warn!(tenant.id = %tenant, "Tenant {tenant} is parked: {why}");
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("the consent of tenant {tenant}") })
    }

    /// Asks for the consent of customers whose relationship had ended and who have one in force again.
    pub(in crate::engine) async fn take_customers_back(&self, gdap: &Gdap) -> Result<(), EngineError> {
        let has_ended =
            |consent: &CustomerConsent| matches!(consent.state, ConsentState::Parked { relationship_ended: true, .. });
        let ended: Vec<_> = self.consents().await?.into_iter().filter(has_ended).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let relationships = match gdap.relationships().await {
            Ok(relationships) => relationships,
            Err(error) => {
                info!("Whether customers have a GDAP relationship again could not be seen today: {error}");
                return Ok(());
            }
        };
        for CustomerConsent { tenant_id, grants, .. } in ended {
            let is_theirs = |tenant: Option<String>| tenant.as_deref() == Some(&*tenant_id);
            if relationships.iter().any(|known| known.status.is_in_force() && is_theirs(known.tenant_id())) {
                info!(tenant.id = %tenant_id, "Tenant {tenant_id} has a GDAP relationship with us again");
                self.want_consent(&tenant_id, &grants).await?;
            }
        }
        Ok(())
    }
}
