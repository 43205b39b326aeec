//! Consent of customers' tenants to our app, one record for each (contracts/access.md §2.5, §2.7, §2.8).
//!
//! Whatever brings a tenant here (a refusal, an administrator's answer, a webhook, a person) only makes it *wanted*; a
//! message then leads to [`Engine::consent_step`], which proves it with a token of Entra's, asks Partner Center where there
//! is none, and lets go what waited. Saved before sending; a step may run twice, late or at once; RenewTokens and
//! `permafresh gdap consent` find what was lost. Asking, and replacing a consent by another one, is [`asking`]; what follows from relationships that
//! begin and end is `relationships`.

pub mod asking;
mod relationships;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Engine, EngineError};
use crate::access::credential::BearerToken;
use crate::access::gdap::scopes::Grant;
use crate::access::gdap::{Gdap, GdapError, Standstill};
use crate::access::guests::Guests;
use crate::queue::{Message, Outgoing};
use crate::rollout::refresh::Gate;
use crate::rollout::{Event, RefreshState, RetryPolicy, Standing, Timestamp};
use crate::store::document::{self, Document};
use crate::store::{PageRequest, Versioned};

pub use asking::Replacing;

/// How often a consent is tried before a person is asked for.
pub const ATTEMPTS: u32 = 12;
/// How late a step may be before it counts as lost.
pub const LOST_AFTER: Duration = Duration::from_secs(60 * 60);
/// How many waiting refreshes are let go in one write.
const PAGE: usize = 1_000;

/// What is known of a customer's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomerConsent {
    /// The customer's tenant, lower-case.
    pub tenant_id: String,
    /// Where it stands.
    pub state: ConsentState,
    /// What is consented to.
    pub grants: Vec<Grant>,
    /// Since when it stands there.
    pub since: Timestamp,
}

impl CustomerConsent {
    /// Whether it is proven, and for all of `grants`.
    pub fn is_granted_for(&self, grants: &[Grant]) -> bool {
        self.state == ConsentState::Granted && grants.iter().all(|grant| grant.is_within(&self.grants))
    }
}

/// Where a consent stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ConsentState {
    /// It is being asked for, or proven.
    Wanted {
        /// The attempt that is next, 1-based.
        attempt: u32,
        /// When.
        due: Timestamp,
        /// Partner Center's idempotency key, kept over all attempts.
        request_id: Uuid,
        /// What Partner Center knows the whole action by.
        correlation_id: Uuid,
        /// What was met last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<String>,
        /// Whether the consent that is there may be withdrawn for it, and how far that is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replacing: Option<Replacing>,
    },
    /// Entra gives us tokens.
    Granted,
    /// Somebody has to act first.
    Parked {
        /// Who.
        standstill: Standstill,
        /// Why, in words for them.
        why: String,
        /// Whether it is the relationship that ended: then Entra is not even asked.
        #[serde(default)]
        relationship_ended: bool,
    },
}

/// Found by the tenant.
impl Document for CustomerConsent {
    const COLLECTION: &'static str = "customer-consent";
    fn name(&self) -> String {
        self.tenant_id.clone()
    }
}

impl Engine {
    /// The same engine, with GDAP.
    #[must_use]
    pub fn with_gdap(self, gdap: Gdap) -> Self {
        Self { gdap: Some(Arc::new(gdap)), ..self }
    }

    /// The same engine, whose own app may enter customers' tenants.
    #[must_use]
    pub fn with_guests(self, guests: Guests) -> Self {
        Self { guests: Some(guests), ..self }
    }

    /// GDAP, where it is set up.
    pub fn gdap(&self) -> Option<&Gdap> {
        self.gdap.as_deref()
    }

    /// A token for Azure Resource Manager in a customer's tenant, on the way *gdap*. Where consent is missing it is asked for
    /// from here on, and [`Engine::open_consent_gate`] follows when it is there.
    ///
    /// # Errors
    /// The outer error is ours; the inner one says who has to act.
    pub async fn gdap_token(&self, tenant: &str) -> Result<Result<BearerToken, GdapError>, EngineError> {
        let Some(gdap) = &self.gdap else {
            let why = "GDAP_CLIENT_ID is absent".to_owned();
            return Ok(Err(GdapError::Misconfigured { why }));
        };
        let tenant = tenant.to_ascii_lowercase();
        if let Some(known) = document::get::<CustomerConsent>(&*self.store, &tenant).await?
            && let ConsentState::Parked { relationship_ended: true, why, .. } = known.value.state
        {
            return Ok(Err(GdapError::NoRelationship { tenant_id: tenant, why }));
        }
        let token = gdap.arm_token(&tenant).await;
        if matches!(token, Err(GdapError::NeedsConsent { .. })) {
            self.want_consent(&tenant, &[Grant::arm()]).await?;
        }
        Ok(token)
    }

    /// Asks for the consent of a tenant, unless that is under way already. What had been parked or granted is looked at
    /// anew, and what was asked for before stays asked for.
    pub async fn want_consent(&self, tenant: &str, grants: &[Grant]) -> Result<CustomerConsent, EngineError> {
        self.want(tenant, grants, None).await
    }

    /// Asks for the consent of a tenant to `grants` and nothing else. Where that cannot be had beside the consent that is there, it
    /// is withdrawn first, and then the tenant lets nobody in for a moment.
    pub async fn replace_consent(&self, tenant: &str, grants: &[Grant]) -> Result<CustomerConsent, EngineError> {
        self.want(tenant, grants, Some(Replacing::Allowed)).await
    }

    async fn want(
        &self,
        tenant: &str,
        asked: &[Grant],
        allowed: Option<Replacing>,
    ) -> Result<CustomerConsent, EngineError> {
        let tenant = tenant.to_ascii_lowercase();
        for _ in 0..super::RACES {
            let now = self.now();
            let known = document::get::<CustomerConsent>(&*self.store, &tenant).await?;
            let before = known.as_ref().map(|known| &known.value);
            let grants = match before {
                Some(before) if allowed.is_none() => together(&before.grants, asked),
                _ => asked.to_vec(),
            };
            let replacing = asking::course(before, &grants, allowed);
            let is_all = before.is_some_and(|before| {
                before.grants == grants
                    && matches!(&before.state, ConsentState::Wanted { replacing: known, .. } if *known == replacing)
            });
            if let Some(before) = before
                && let ConsentState::Wanted { due, .. } = &before.state
                && *due + LOST_AFTER > now
                // Who is in the middle of withdrawing it ends that first.
                && (is_all || (asking::is_under_way(replacing) && *due > now))
            {
                return Ok(before.clone());
            }
            // What was lost goes on as it was, with the id that Partner Center knows; another request has another one.
            let (attempt, request_id, correlation_id) = match before.map(|before| &before.state) {
                Some(ConsentState::Wanted { attempt, request_id, correlation_id, .. }) if is_all => {
                    (*attempt, *request_id, *correlation_id)
                }
                _ => (1, Uuid::new_v4(), Uuid::new_v4()),
            };
            let wanted = CustomerConsent {
                tenant_id: tenant.clone(),
                state: ConsentState::Wanted { attempt, due: now, request_id, correlation_id, last: None, replacing },
                grants,
                since: now,
            };
            let record = Versioned { value: wanted.clone(), etag: known.and_then(|known| known.etag) };
            if document::save(&*self.store, &record).await?.is_stored() {
                self.send_consent(&wanted).await?;
                return Ok(wanted);
            }
        }
        Err(EngineError::Contended { what: format!("the consent of tenant {tenant}") })
    }

    /// One attempt for one tenant. A message that comes twice, or too late, changes nothing.
    pub async fn consent_step(&self, tenant: &str) -> Result<(), EngineError> {
        let Some(gdap) = &self.gdap else { return Ok(()) };
        let Some(known) = document::get::<CustomerConsent>(&*self.store, tenant).await? else { return Ok(()) };
        match &known.value.state {
            ConsentState::Wanted { due, .. } if *due <= self.now() => {}
            _ => return Ok(()),
        }
        // Somebody else goes on with it where there is nothing.
        let Some((known, outcome)) = self.obtain_consent(gdap, known).await? else { return Ok(()) };
        let ConsentState::Wanted { attempt, request_id, correlation_id, replacing, .. } = known.value.state.clone()
        else {
            return Ok(());
        };
        let now = self.now();
        let state = match outcome {
            Ok(()) => ConsentState::Granted,
            Err(error) => {
                let why = error.to_string();
                let wait = match &error {
                    GdapError::Retry { wait, .. } => Some(*wait),
                    // Partner Center has consented, and Entra does not know it everywhere yet.
                    GdapError::NeedsConsent { .. } => Some(None),
                    _ => None,
                };
                match wait.filter(|_| attempt < ATTEMPTS) {
                    Some(named) => ConsentState::Wanted {
                        attempt: attempt + 1,
                        due: now + RetryPolicy::POST.wait(attempt, named, tenant),
                        request_id,
                        correlation_id,
                        last: Some(why),
                        replacing,
                    },
                    None => ConsentState::Parked { standstill: error.standstill(), why, relationship_ended: false },
                }
            }
        };
        let next = CustomerConsent { state, since: now, ..known.value.clone() };
        if !document::save(&*self.store, &known.with(next.clone())).await?.is_stored() {
            // Somebody else went on with it, or wants it anew: their message follows.
            return Ok(());
        }
        match &next.state {
            ConsentState::Granted => {
                info!(tenant.id = %tenant, "Tenant {tenant} has consented");
                self.open_consent_gate(tenant).await?;
                Ok(())
            }
            ConsentState::Wanted { last, .. } => {
                info!(tenant.id = %tenant, "The consent of tenant {tenant} is tried again: {}", last.as_deref().unwrap_or_default());
                self.send_consent(&next).await
            }
            ConsentState::Parked { why, .. } => {
                warn!(tenant.id = %tenant, "The consent of tenant {tenant} waits for somebody: {why}");
                Ok(())
            }
        }
    }

    /// Queues again every refresh that waits for the consent of `tenant`; how many there were.
    pub async fn open_consent_gate(&self, tenant: &str) -> Result<usize, EngineError> {
        let waits = |gate: &Gate| matches!(gate, Gate::Consent { tenant_id } if tenant_id.eq_ignore_ascii_case(tenant));
        let opened = self.open_gates(waits).await?;
        if opened > 0 {
            info!(tenant.id = %tenant, "Tenant {tenant} lets us in; refreshes that go on: {opened}");
        }
        Ok(opened)
    }

    /// Queues again every refresh that waits at a gate of which `is_open` says so; how many there were.
    pub(super) async fn open_gates(&self, is_open: impl Fn(&Gate) -> bool + Send) -> Result<usize, EngineError> {
        let mut opened = 0;
        for rollout in self.store.open_rollouts().await? {
            let mut page = PageRequest { continuation: None, top: PAGE };
            loop {
                let parked = [Standing::AwaitingAccess];
                let refreshes = self.store.refreshes(rollout.value.id, Some(&parked), &page).await?;
                let waiting: Vec<_> = refreshes
                    .items
                    .into_iter()
                    .filter(|refresh| matches!(&refresh.value.state, RefreshState::AwaitingAccess { gate, .. } if is_open(gate)))
                    .collect();
                opened += waiting.len();
                let keys: Vec<_> = waiting.iter().map(|refresh| refresh.value.key.clone()).collect();
                self.forget_refusals(&keys).await?;
                self.apply_to_all(&waiting, &Event::Release).await?;
                match refreshes.next {
                    Some(next) => page.continuation = Some(next),
                    None => break,
                }
            }
        }
        Ok(opened)
    }

    /// Every customer's consent.
    pub async fn consents(&self) -> Result<Vec<CustomerConsent>, EngineError> {
        let all = document::all::<CustomerConsent>(&*self.store, "").await?;
        Ok(all.into_iter().map(|consent| consent.value).collect())
    }

    /// Takes up what was lost, and what waited for us alone; how many. For RenewTokens, once it has a token again.
    pub async fn resume_consents(&self) -> Result<usize, EngineError> {
        let mut resumed = 0;
        for consent in self.consents().await? {
            let is_due = match &consent.state {
                ConsentState::Wanted { due, .. } => *due + LOST_AFTER <= self.now(),
                ConsentState::Parked { standstill, .. } => *standstill == Standstill::Publisher,
                ConsentState::Granted => false,
            };
            if is_due {
                self.want_consent(&consent.tenant_id, &consent.grants).await?;
                resumed += 1;
            }
        }
        Ok(resumed)
    }

    async fn send_consent(&self, consent: &CustomerConsent) -> Result<(), EngineError> {
        let ConsentState::Wanted { attempt, due, request_id, .. } = &consent.state else { return Ok(()) };
        let tenant_id = consent.tenant_id.clone();
        // The due time is a part of it, so that what is sent again after a loss is not taken for the lost one.
        let id = format!("consent:{tenant_id}:{request_id}:{attempt}:{}", due.timestamp_millis());
        let body = Message::ConsentOfTenant { tenant_id }.to_body();
        let due = Some(*due).filter(|due| *due > self.now());
        self.send_refresh_messages(&[Outgoing { id, body, due }]).await
    }
}

/// What was asked for before, with what is asked for now in the place of the same resource's.
fn together(before: &[Grant], now: &[Grant]) -> Vec<Grant> {
    let is_asked_now = |grant: &&Grant| !now.iter().any(|asked| asked.is_for_same_as(grant));
    now.iter().chain(before.iter().filter(is_asked_now)).cloned().collect()
}
