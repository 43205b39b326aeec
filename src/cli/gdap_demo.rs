//! `permafresh demo --gdap`: one deployment to which only GDAP leads, in a tenant that has not consented yet. Its refresh is
//! parked, the tenant's administrator consents, and it goes on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use uuid::Uuid;

use super::client::ApiClient;
use super::failure::Failure;
use super::output;
use super::partner_demo::wait;
use crate::access::gdap::link::{State, StateKey};
use crate::access::gdap::simulator::{Call, Customer, OnCall, OnToken, Reply, Simulator, SimulatorConfig};
use crate::arm::simulator::{ApplicationSpec, Simulator as Arm};
use crate::clock::{Clock, SystemClock};
use crate::functions::wire::api::{RefreshView, RefreshWord};
use crate::rollout::{ApplicationId, RolloutId, Timestamp, Way};

/// The customer's tenant.
const CUSTOMER: &str = "c0117050-0000-4000-8000-00000000c002";
/// What tokens for Azure Resource Manager are for.
const AUDIENCE: &str = "https://management.azure.com";
/// How long the administrator takes, so that one can see it wait.
const THINKING: Duration = Duration::from_secs(2);

/// Entra, Key Vault and Partner Center for the length of a demo.
pub struct SimulatedGdap {
    simulator: Simulator,
    application: ApplicationId,
    state_key: String,
}

impl SimulatedGdap {
    /// Where somebody of the publisher has signed in, and the customer of `application` has not consented.
    pub async fn start(arm: &Arc<Arm>, application: &ApplicationId) -> Result<Self, Failure> {
        let takes_tokens = Arc::clone(arm);
        let on_token: OnToken = Arc::new(move |token, tenant, audience, until| {
            if audience == AUDIENCE {
                takes_tokens.accept_token(token, tenant, until);
            }
        });
        let simulator = Simulator::start(SimulatorConfig { on_token: Some(on_token), ..SimulatorConfig::default() })
            .await
            .context("cannot start the simulated Microsoft Entra")
            .map_err(|error| Failure::new(error, "check that this machine lets a program listen on 127.0.0.1"))?;
        simulator.put_secret(&simulator.mint());
        simulator.add_customer(CUSTOMER, Customer { has_relationship: true, ..Customer::default() });
        // Partner Center may not consent for this customer: its administrator has to.
        let not_permitted = Reply::json(403, &serde_json::json!({"code": 2032, "description": "simulated"}));
        simulator.on(Call::Consent, vec![OnCall::Answer(not_permitted); 10]);
        arm.add_application(ApplicationSpec {
            tenant_id: CUSTOMER.into(),
            ..ApplicationSpec::new(application.clone())
        });
        arm.close_to_publisher(application.subscription());
        let state_key = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Ok(Self { simulator, application: application.clone(), state_key })
    }

    /// What leads the service here.
    pub fn settings(&self) -> impl Iterator<Item = (String, String)> {
        let endpoint = self.simulator.endpoint().as_str().trim_end_matches('/');
        let config = self.simulator.config();
        [
            ("AZURE_AUTHORITY_HOST", endpoint),
            ("AZURE_TENANT_ID", &config.partner_tenant),
            ("GDAP_CLIENT_ID", &config.client_id),
            ("KEY_VAULT_URL", endpoint),
            ("PARTNER_API_ENDPOINT", endpoint),
            ("GRAPH_ENDPOINT", endpoint),
            ("PUBLIC_URL", "https://permafresh.example"),
            ("CONSENT_STATE_KEY", &self.state_key),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
    }

    /// Waits until the refresh is parked, consents as the tenant's administrator would, and waits for its end.
    pub async fn consent(&self, client: &ApiClient, rollout: RolloutId) -> Result<(), Failure> {
        let parked = self.reached(client, rollout, RefreshWord::AwaitingAccess, "the parked refresh").await?;
        output::say(&format!("  parked       {}", self.application.name()));
        for refusal in &parked.refusals {
            output::say(&format!("               refused by the way {}: {}", refusal.way.word(), refusal.code));
        }
        if let Some(why) = &parked.why {
            output::say(&format!("               {why}"));
        }
        tokio::time::sleep(THINKING).await;
        self.simulator
            .add_customer(CUSTOMER, Customer { has_consented: true, has_relationship: true, ..Customer::default() });
        output::say("  consented    by the tenant's administrator, at the link of `permafresh gdap link`");
        client.open("bring the administrator back", &self.callback(SystemClock.now())).await?;
        let done = self.reached(client, rollout, RefreshWord::Succeeded, "the refresh that went on").await?;
        let way = done.way.map(Way::word).unwrap_or_default();
        output::say(&format!("  un-parked    {} succeeded by the way {way}", self.application.name()));
        Ok(())
    }

    async fn reached(
        &self,
        client: &ApiClient,
        rollout: RolloutId,
        state: RefreshWord,
        what: &str,
    ) -> Result<RefreshView, Failure> {
        wait(what, async || {
            let refreshes: Vec<RefreshView> = client.refreshes(&rollout.to_string(), Some(state), usize::MAX).await?;
            Ok(refreshes.into_iter().find(|refresh| refresh.application_id == self.application))
        })
        .await
    }

    /// Where Entra sends the administrator's browser.
    fn callback(&self, now: Timestamp) -> String {
        let expires = (now + Duration::from_secs(60 * 60)).timestamp();
        let state = State { tenant_id: CUSTOMER.to_owned(), expires, nonce: Uuid::new_v4().simple().to_string() };
        let state = StateKey::new(&self.state_key).sign(&state);
        format!("/api/consent/callback?admin_consent=True&tenant={CUSTOMER}&state={state}")
    }
}
