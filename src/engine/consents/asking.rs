//! One attempt at a consent: proven with tokens, asked for beside what is there, and only where that does not do, and somebody
//! has allowed it, withdrawn and asked for anew (contracts/access.md §2.5).
//!
//! Withdrawing takes everything away, Azure included, until the new consent is there. So each half of it is saved before it is
//! sent, one worker has it for itself for a while, and a message that comes after that while goes on where it was left.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use super::{ConsentState, CustomerConsent};
use crate::access::gdap::partner::{Consented, RequestIds};
use crate::access::gdap::scopes::Grant;
use crate::access::gdap::{Gdap, GdapError};
use crate::engine::{Engine, EngineError};
use crate::store::document;
use crate::store::{Saved, Versioned};

/// How long one worker has a replacement for itself: longer than its calls may take.
pub const LEASE: Duration = Duration::from_secs(5 * 60);

/// From which attempt on a consent that proves to be another one than was asked for is withdrawn once more.
const PATIENCE: u32 = 3;

/// How far the replacement of a consent by another one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Replacing {
    /// The one that is there may be withdrawn, if nothing else does.
    Allowed,
    /// It is being withdrawn.
    Withdrawing,
    /// It is withdrawn, and the new one is being asked for.
    Asking,
}

/// An attempt's record as it is stored now, and what came of it.
type Attempt = (Versioned<CustomerConsent>, Result<(), GdapError>);

/// Whether somebody has begun to withdraw.
pub(super) fn is_under_way(replacing: Option<Replacing>) -> bool {
    matches!(replacing, Some(Replacing::Withdrawing | Replacing::Asking))
}

/// How `grants` are to be had where `before` is known. What has begun goes on; what allows more than is asked for now has to be
/// withdrawn, if it may.
pub(super) fn course(
    before: Option<&CustomerConsent>,
    grants: &[Grant],
    allowed: Option<Replacing>,
) -> Option<Replacing> {
    let known = before.and_then(|before| match before.state {
        ConsentState::Wanted { replacing, .. } => replacing,
        _ => None,
    });
    if is_under_way(known) {
        return known;
    }
    let allowed = allowed.or(known)?;
    let narrows = before.is_some_and(|before| {
        before.state == ConsentState::Granted && !before.grants.iter().all(|grant| grant.is_within(grants))
    });
    Some(if narrows { Replacing::Withdrawing } else { allowed })
}

impl Engine {
    /// Obtains the consent that `known` wants; `None` where somebody else goes on with it.
    pub(super) async fn obtain_consent(
        &self,
        gdap: &Gdap,
        known: Versioned<CustomerConsent>,
    ) -> Result<Option<Attempt>, EngineError> {
        let ConsentState::Wanted { request_id, correlation_id, replacing, .. } = known.value.state else {
            return Ok(None);
        };
        if is_under_way(replacing) {
            return self.replace(gdap, known).await;
        }
        let ids = RequestIds { request: request_id, correlation: correlation_id };
        // Who may withdraw works alone: what another one asks for meanwhile would land between the two halves.
        let known = match replacing {
            None => known,
            Some(stage) => match self.claim_half(&known, stage).await? {
                Some((claimed, _)) => claimed,
                None => return Ok(None),
            },
        };
        let (tenant, grants) = (&known.value.tenant_id, &known.value.grants);
        if let Err(error) = obtain_azure(gdap, tenant, grants, ids).await {
            return Ok(Some((known, Err(error))));
        }
        let outcome = match gdap.lacking(tenant, grants).await {
            Ok(lacking) if lacking.is_empty() => return Ok(Some((known, Ok(())))),
            Ok(lacking) => obtain_beside(gdap, tenant, &lacking, ids.beside()).await,
            Err(error) => Err(error),
        };
        // Whatever becomes of the rest, a refresh has what it needs. Before it is stored, since nobody would find the gate open.
        self.open_consent_gate(tenant).await?;
        match outcome {
            Err(GdapError::ConsentLacks { .. }) if replacing == Some(Replacing::Allowed) => {
                self.replace(gdap, known).await
            }
            outcome => Ok(Some((known, outcome))),
        }
    }

    /// Withdraws the consent and asks for all of it anew, or goes on with that.
    async fn replace(
        &self,
        gdap: &Gdap,
        mut known: Versioned<CustomerConsent>,
    ) -> Result<Option<Attempt>, EngineError> {
        let tenant = known.value.tenant_id.clone();
        let has_to_withdraw =
            !matches!(known.value.state, ConsentState::Wanted { replacing: Some(Replacing::Asking), .. });
        let first = if has_to_withdraw { Replacing::Withdrawing } else { Replacing::Asking };
        let Some((claimed, mut ids)) = self.claim_half(&known, first).await? else { return Ok(None) };
        known = claimed;
        if has_to_withdraw {
            warn!(tenant.id = %tenant, "The consent of tenant {tenant} is withdrawn, to be asked for anew");
            if let Err(error) = gdap.withdraw_consent(&tenant, ids).await {
                return Ok(Some((known, Err(error))));
            }
            // Too late, the message is there already, and who has it goes on.
            if !matches!(known.value.state, ConsentState::Wanted { due, .. } if due > self.now()) {
                return Ok(None);
            }
            let Some((next, its)) = self.claim_half(&known, Replacing::Asking).await? else { return Ok(None) };
            (known, ids) = (next, its);
        }
        let outcome = match ask_anew(gdap, &tenant, &known.value.grants, ids).await {
            Ok((_, true)) => Ok(()),
            Ok((consented, false)) => {
                if consented == Consented::Before
                    && let ConsentState::Wanted { attempt, request_id, replacing, .. } = &mut known.value.state
                    && *attempt >= PATIENCE
                {
                    // Somebody else asked for less in between, and that is what is there now.
                    (*request_id, *replacing) = (Uuid::new_v4(), Some(Replacing::Withdrawing));
                }
                Err(not_known_yet(&tenant))
            }
            Err(error) => Err(error),
        };
        Ok(Some((known, outcome)))
    }

    /// Takes the replacement, or the next half of it, for itself, and notes what is sent next and by which id. A message comes
    /// when the lease has run out: should this die, that goes on.
    async fn claim_half(
        &self,
        known: &Versioned<CustomerConsent>,
        stage: Replacing,
    ) -> Result<Option<(Versioned<CustomerConsent>, RequestIds)>, EngineError> {
        let ConsentState::Wanted { attempt, due, request_id, correlation_id, last, replacing } =
            known.value.state.clone()
        else {
            return Ok(None);
        };
        let now = self.now();
        let is_next = replacing != Some(stage);
        let state = ConsentState::Wanted {
            attempt,
            // Within one lease it stays the time that the message comes at.
            due: if due > now { due } else { now + LEASE },
            request_id: if is_next { Uuid::new_v4() } else { request_id },
            correlation_id,
            last,
            replacing: Some(stage),
        };
        let ConsentState::Wanted { request_id: request, .. } = state else { return Ok(None) };
        let next = CustomerConsent { state, ..known.value.clone() };
        let Saved::Stored(etag) = document::save(self.store(), &known.with(next.clone())).await? else {
            return Ok(None);
        };
        if due <= now {
            self.send_consent(&next).await?;
        }
        let ids = RequestIds { request, correlation: correlation_id };
        Ok(Some((Versioned { value: next, etag: Some(etag) }, ids)))
    }
}

/// Proves the consent with a token of Azure Resource Manager's, and asks for all of it where there is none.
async fn obtain_azure(gdap: &Gdap, tenant: &str, grants: &[Grant], ids: RequestIds) -> Result<(), GdapError> {
    // What is cached proves nothing of now.
    gdap.broker().forget(tenant);
    match gdap.arm_token(tenant).await {
        Ok(_) => return Ok(()),
        Err(GdapError::NeedsConsent { .. } | GdapError::ServicePrincipalMissing { .. }) => {}
        Err(error) => return Err(error),
    }
    gdap.consent(tenant, grants, ids).await?;
    gdap.broker().forget(tenant);
    gdap.arm_token(tenant).await.map(|_| ())
}

/// Asks for what is missing beside what is there, which takes nothing away.
async fn obtain_beside(gdap: &Gdap, tenant: &str, lacking: &[Grant], ids: RequestIds) -> Result<(), GdapError> {
    let consented = gdap.consent(tenant, lacking, ids).await?;
    let lacking = gdap.lacking(tenant, lacking).await?;
    match (lacking.is_empty(), consented) {
        (true, _) => Ok(()),
        (false, Consented::Now) => Err(not_known_yet(tenant)),
        (false, Consented::Before) => Err(GdapError::ConsentLacks {
            tenant_id: tenant.to_owned(),
            lacking: lacking.iter().map(|grant| format!("{} of {}", grant.scope, grant.resource())).collect(),
            why: "Partner Center adds nothing to a consent that is there".to_owned(),
        }),
    }
}

/// Asks for all of it where nothing is left; and whether it is proven, since Entra may go on for a while with what it knew.
async fn ask_anew(
    gdap: &Gdap,
    tenant: &str,
    grants: &[Grant],
    ids: RequestIds,
) -> Result<(Consented, bool), GdapError> {
    let consented = gdap.consent(tenant, grants, ids).await?;
    gdap.broker().forget(tenant);
    match gdap.arm_token(tenant).await {
        Ok(_) => Ok((consented, gdap.lacking(tenant, grants).await?.is_empty())),
        Err(GdapError::NeedsConsent { .. }) => Ok((consented, false)),
        Err(error) => Err(error),
    }
}

fn not_known_yet(tenant: &str) -> GdapError {
    let why = "Partner Center has consented, and Entra does not know all of it yet".to_owned();
    GdapError::NeedsConsent { tenant_id: tenant.to_owned(), why }
}
