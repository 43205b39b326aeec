//! Gains access by the way that the domain chose: the client whose token fits, or what keeps us out, as an answer that the
//! domain decides on. Remembers with each deployment what worked and what was refused. Chooses no way.

use std::sync::Arc;

use super::{Engine, EngineError, RACES};
use crate::access::gdap::{GdapError, Standstill};
use crate::arm::ArmClient;
use crate::arm::admission::Permit;
use crate::engine::consents::{self, ConsentState, CustomerConsent};
use crate::engine::tenancy::TenantAnswer;
use crate::lighthouse::Scope;
use crate::rollout::failure::{
    CONSENT_MISSING, CUSTOMER_POLICY, GDAP_MISCONFIGURED, GDAP_UNAVAILABLE, NO_RELATIONSHIP, SERVICE_PRINCIPAL_MISSING,
    SIGN_IN_NEEDED, UNMANAGED,
};
use crate::rollout::refresh::Gate;
use crate::rollout::{
    Deployment, DeploymentKey, KnownWays, Refresh, RefreshState, Refusal, RemoteError, SubmitAnswer, Way,
};
use crate::store::document;

/// What came of asking for access.
pub(super) enum Access {
    /// With this client.
    Open(ArmClient),
    /// Not now, or not by this way.
    Shut(SubmitAnswer),
}

impl Engine {
    /// Access for the POST of a refresh, by the way stored in it. `place` is the one that the worker holds.
    pub(super) async fn gain_access(
        &self,
        refresh: &Refresh,
        is_unmanaged: bool,
        place: &Permit,
    ) -> Result<Access, EngineError> {
        match refresh.way {
            // A guest may have been given a role by the customer, which no delegation shows.
            Some(Way::Publisher)
                if is_unmanaged && self.guests.is_none() && self.is_delegated(refresh, place).await == Some(false) =>
            {
                let message = "the plan gives its publisher no access to this deployment (managementMode is Unmanaged), and no delegation \
                               by Azure Lighthouse can be seen, so our own identity was not tried";
                Ok(Access::Shut(SubmitAnswer::Refused { error: ours(UNMANAGED, message.to_owned()) }))
            }
            Some(Way::Gdap) => self.gain_gdap(refresh.application_id.subscription(), place).await,
            Some(Way::Jit) => self.gain_jit(refresh, place).await,
            _ => Ok(Access::Open(self.arm_as_publisher(refresh.application_id.subscription(), Some(place)).await?)),
        }
    }

    /// Whether a customer has delegated the application's group, or its subscription; `None` where Azure does not say.
    async fn is_delegated(&self, refresh: &Refresh, place: &Permit) -> Option<bool> {
        let group = Scope::of_application(&refresh.application_id);
        for scope in [group.of_subscription(), group] {
            match self.arm.has_delegation(&scope, place).await {
                Some(false) => {}
                seen => return seen,
            }
        }
        Some(false)
    }

    /// Our own client, which may enter the customer's tenant as a guest where the settings allow it.
    async fn arm_as_publisher(&self, subscription: &str, place: Option<&Permit>) -> Result<ArmClient, EngineError> {
        let Some(guests) = &self.guests else { return Ok(self.arm.clone()) };
        let guest = match self.tenant_asked(subscription, place).await? {
            TenantAnswer::Known(tenant) => guests.tokens_of(&tenant),
            TenantAnswer::NoSubscription | TenantAnswer::Unclear { .. } => None,
        };
        Ok(guest.map_or_else(|| self.arm.clone(), |guest| self.arm.or_as_guest(guest)))
    }

    async fn gain_gdap(&self, subscription: &str, place: &Permit) -> Result<Access, EngineError> {
        let Some(gdap) = &self.gdap else {
            let error = ours(GDAP_MISCONFIGURED, "GDAP_CLIENT_ID is absent".to_owned());
            return Ok(Access::Shut(SubmitAnswer::Refused { error }));
        };
        let tenant = match self.tenant_asked(subscription, Some(place)).await? {
            TenantAnswer::Known(tenant) => tenant,
            TenantAnswer::NoSubscription => {
                let message = "Azure knows no tenant of this subscription".to_owned();
                let error = RemoteError { status: Some(404), code: "SubscriptionNotFound".to_owned(), message };
                return Ok(Access::Shut(SubmitAnswer::Refused { error }));
            }
            TenantAnswer::Unclear { error, wait } => return Ok(Access::Shut(SubmitAnswer::Retry { error, wait })),
        };
        if let Some(standstill) = self.gdap_standstill().await? {
            let error = ours(&standstill.code, standstill.why);
            return Ok(Access::Shut(SubmitAnswer::Gated { error, gate: Gate::SignIn }));
        }
        match self.gdap_token(&tenant).await? {
            Ok(_) => Ok(Access::Open(self.arm.in_tenant(Arc::clone(gdap), &tenant))),
            Err(error) => {
                if error.standstill() == Standstill::Publisher {
                    self.note_standstill(&error).await?;
                }
                Ok(Access::Shut(obstacle(error)))
            }
        }
    }

    /// The client for a look on behalf of a refresh: by the way that posted it. What could not be had now is an error that the
    /// look is answered with.
    pub(super) async fn arm_for_look(&self, refresh: &Refresh) -> Result<Result<ArmClient, RemoteError>, EngineError> {
        match refresh.way {
            Some(Way::Gdap) => self.gdap_client(refresh.application_id.subscription()).await,
            _ => self.arm_as_publisher(refresh.application_id.subscription(), None).await.map(Ok),
        }
    }

    /// The client for reading a deployment outside a refresh: by the way that would be tried first, else as ourselves.
    pub(super) async fn arm_for_check(&self, deployment: &Deployment) -> Result<ArmClient, EngineError> {
        let ways = self.policy_for(deployment.plan.as_ref(), &deployment.ways, self.now()).ways;
        let by_gdap = match ways.first() {
            Some(Way::Gdap) => self.gdap_client(deployment.application_id.subscription()).await?.ok(),
            _ => None,
        };
        match by_gdap {
            Some(arm) => Ok(arm),
            None => self.arm_as_publisher(deployment.application_id.subscription(), None).await,
        }
    }

    async fn gdap_client(&self, subscription: &str) -> Result<Result<ArmClient, RemoteError>, EngineError> {
        let Some(gdap) = &self.gdap else {
            return Ok(Err(ours(GDAP_MISCONFIGURED, "GDAP_CLIENT_ID is absent".to_owned())));
        };
        Ok(match self.tenant_of(subscription).await? {
            TenantAnswer::Known(tenant) => Ok(self.arm.in_tenant(Arc::clone(gdap), &tenant)),
            TenantAnswer::NoSubscription => {
                Err(ours(GDAP_UNAVAILABLE, "Azure knows no tenant of this subscription".to_owned()))
            }
            TenantAnswer::Unclear { error, .. } => Err(error),
        })
    }

    /// Whether the gate that a refresh waits at is open.
    pub(super) async fn is_open(&self, refresh: &Refresh) -> Result<bool, EngineError> {
        let RefreshState::AwaitingAccess { gate, .. } = &refresh.state else { return Ok(false) };
        match gate {
            Gate::Consent { tenant_id } => {
                let tenant = tenant_id.to_ascii_lowercase();
                let known = document::get::<CustomerConsent>(self.store(), &tenant).await?.map(|known| known.value);
                match known.map(|known| (known.state, known.grants)) {
                    Some((ConsentState::Granted, _)) => Ok(true),
                    // Its message was lost: it is asked for again.
                    Some((ConsentState::Wanted { due, .. }, grants)) if due + consents::LOST_AFTER <= self.now() => {
                        self.want_consent(&tenant, &grants).await?;
                        Ok(false)
                    }
                    _ => Ok(false),
                }
            }
            Gate::SignIn => Ok(self.gdap_standstill().await?.is_none()),
            Gate::Jit { .. } | Gate::Window => Ok(false),
        }
    }

    /// Remembers with the deployment what `answer` says of the way of `refresh`, where that changes the order of its
    /// ways. `known` is what was remembered of those that are `configured`. What is lost of this is learned again.
    pub(super) async fn remember_way(
        &self,
        refresh: &Refresh,
        answer: &SubmitAnswer,
        known: &KnownWays,
        configured: &[Way],
    ) -> Result<(), EngineError> {
        // With one way there is nothing to put in order.
        let others = configured.iter().filter(|way| **way != Way::HandOver).count() > 1;
        let (Some(way), true) = (refresh.way, others) else { return Ok(()) };
        let now = self.now();
        let note = |known: &mut KnownWays| match answer {
            SubmitAnswer::Accepted { .. } | SubmitAnswer::NoMonitor => known.note_success(way, configured, now),
            SubmitAnswer::Refused { error } => {
                known.note_refusal(Refusal { way, error: error.clone(), at: now, gate: None });
                true
            }
            _ => false,
        };
        if note(&mut known.clone()) { self.change_known_ways(&refresh.key, note).await } else { Ok(()) }
    }

    /// Forgets what was refused to these deployments: somebody says that it has changed.
    pub(super) async fn forget_refusals(&self, keys: &[DeploymentKey]) -> Result<(), EngineError> {
        let deployments = self.store.deployments_by_key(keys).await?;
        for deployment in deployments.into_iter().flatten().filter(|known| !known.value.ways.refused.is_empty()) {
            self.change_known_ways(&deployment.value.key, KnownWays::forget_refusals).await?;
        }
        Ok(())
    }

    async fn change_known_ways(
        &self,
        key: &DeploymentKey,
        change: impl Fn(&mut KnownWays) -> bool + Send,
    ) -> Result<(), EngineError> {
        for _ in 0..RACES {
            let Some(mut deployment) = self.deployment(key).await? else { return Ok(()) };
            if !change(&mut deployment.value.ways)
                || self.store.save_deployments(std::slice::from_ref(&deployment)).await?[0].is_stored()
            {
                return Ok(());
            }
        }
        Err(EngineError::Contended { what: format!("deployment {key}") })
    }

    /// Learns the tenant that a 401 named. A token of another one was the wrong one and no refusal: the call goes out again.
    pub(super) async fn learn_from(
        &self,
        refresh: &Refresh,
        answer: SubmitAnswer,
        named: Option<&str>,
    ) -> Result<SubmitAnswer, EngineError> {
        let (SubmitAnswer::Refused { error }, Some(named), Some(_)) = (&answer, named, &self.gdap) else {
            return Ok(answer);
        };
        let subscription = refresh.application_id.subscription();
        let before = match refresh.way {
            Some(Way::Gdap) => self.tenant_of(subscription).await?,
            _ => TenantAnswer::NoSubscription,
        };
        self.learn_tenant(subscription, named).await?;
        let has_moved = matches!(before, TenantAnswer::Known(tenant) if !tenant.eq_ignore_ascii_case(named));
        Ok(if has_moved { SubmitAnswer::Retry { error: error.clone(), wait: None } } else { answer })
    }
}

/// What stands between us and a tenant, in the domain's words.
fn obstacle(error: GdapError) -> SubmitAnswer {
    let message = error.to_string();
    let refused = |code: &str| SubmitAnswer::Refused { error: ours(code, message.clone()) };
    let gated = |code: &str, gate| SubmitAnswer::Gated { error: ours(code, message.clone()), gate };
    match error {
        GdapError::Retry { wait, .. } => SubmitAnswer::Retry { error: ours(GDAP_UNAVAILABLE, message), wait },
        GdapError::NeedsConsent { tenant_id, .. }
        | GdapError::NeedsAdministrator { tenant_id, .. }
        | GdapError::ConsentLacks { tenant_id, .. } => gated(CONSENT_MISSING, Gate::Consent { tenant_id }),
        GdapError::ServicePrincipalMissing { .. } => refused(SERVICE_PRINCIPAL_MISSING),
        GdapError::CustomerPolicy { .. } => refused(CUSTOMER_POLICY),
        GdapError::NoRelationship { .. } => refused(NO_RELATIONSHIP),
        GdapError::SignInAgain { .. } => gated(SIGN_IN_NEEDED, Gate::SignIn),
        GdapError::Misconfigured { .. } | GdapError::InTheWay { .. } => gated(GDAP_MISCONFIGURED, Gate::SignIn),
    }
}

fn ours(code: &str, message: String) -> RemoteError {
    RemoteError { status: None, code: code.to_owned(), message }
}
