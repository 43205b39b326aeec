//! A world with GDAP: the whole service over the simulators, the refresh token in the simulated vault.

use std::sync::Arc;

use permafresh::access::credential::TokenSource;
use permafresh::access::gdap::exchange::{AppProof, Exchange, TokenEndpoint};
use permafresh::access::gdap::simulator::{Customer, OnToken, Simulator, SimulatorConfig};
use permafresh::access::gdap::vault::{KeyVault, Vault};
use permafresh::access::gdap::{Broker, Gdap, GdapConfig};
use permafresh::engine::Engine;
use permafresh::engine::consents::{ConsentState, CustomerConsent};
use permafresh::functions::{App, Handle, router};
use permafresh::store::document;
use rustls::pki_types::CertificateDer;

use crate::arm_fixture::Issued;
use crate::world::{Options, World};

pub const TENANT: &str = "a4f0e2d1-77aa-4b31-9f2e-5c6d7e8f9a01";
pub const STATE_KEY: &str = "a-key-of-more-than-32-characters-for-tests";

pub struct Scene {
    pub world: World,
    pub simulator: Simulator,
    pub roots: Vec<CertificateDer<'static>>,
    /// How the app proves itself, if not by its secret.
    pub proof: Option<AppProof>,
    pub endpoint: TokenEndpoint,
    /// The first refresh token.
    pub token: String,
}

pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

impl Scene {
    /// Somebody has signed in, and one customer has a relationship with us.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut SimulatorConfig)) -> Self {
        Self::over(Options::default(), change).await
    }

    /// The same over a world of its own kind. ARM's simulator takes the tokens of this one.
    pub async fn over(options: Options, change: impl FnOnce(&mut SimulatorConfig)) -> Self {
        let world = World::with(options).await;
        let arm = Arc::clone(&world.simulator);
        let on_token: OnToken = Arc::new(move |token, tenant, audience, until| {
            if audience == "https://management.azure.com" {
                arm.accept_token(token, tenant, until);
            }
        });
        let clock = Arc::new(world.clock.clone());
        let mut config = SimulatorConfig { clock, on_token: Some(on_token), ..SimulatorConfig::default() };
        change(&mut config);
        let simulator = Simulator::start(config).await.unwrap();
        let token = simulator.mint();
        simulator.put_secret(&token);
        simulator.add_customer(TENANT, Customer { has_relationship: true, ..Customer::default() });
        let mut scene = Self { world, simulator, roots: Vec::new(), proof: None, endpoint: TokenEndpoint::V2, token };
        scene.serve();
        scene
    }

    /// Puts a handler with GDAP in the place of the one without.
    pub fn serve(&mut self) {
        let app = self.world.app(Arc::clone(&self.world.store), Arc::clone(&self.world.queue));
        let app = App { engine: app.engine.with_gdap(self.gdap()), ..app };
        self.world.replace_handler(router(Handle::ready(app)));
    }

    /// An instance of its own over the same store and vault.
    pub fn engine(&self) -> Engine {
        let app = self.world.app(Arc::clone(&self.world.store), Arc::clone(&self.world.queue));
        app.engine.with_gdap(self.gdap())
    }

    pub fn gdap(&self) -> Gdap {
        self.gdap_over(self.simulator.endpoint().clone())
    }

    /// With Entra elsewhere.
    pub fn gdap_over(&self, authority: url::Url) -> Gdap {
        let clock = Arc::new(self.world.clock.clone());
        let config = self.simulator.config();
        let tokens = TokenSource::from_credential(Arc::new(Issued::new(&self.world.simulator)), clock.clone());
        let endpoint = self.simulator.endpoint();
        let vault = KeyVault::new(endpoint, "gdap-refresh-token", &http(), Arc::new(tokens), clock.clone()).unwrap();
        let exchange = Exchange {
            authority,
            client_id: config.client_id.clone(),
            proof: self.proof.clone().unwrap_or_else(|| AppProof::Secret(config.client_secret.clone().into())),
            endpoint: self.endpoint,
            http: http(),
            clock,
        };
        let gdap = GdapConfig {
            partner_tenant: config.partner_tenant.clone(),
            partner_api_endpoint: endpoint.clone(),
            graph_endpoint: endpoint.clone(),
            arm_audience: "https://management.azure.com".into(),
            public_url: Some("https://permafresh.example".parse().unwrap()),
            consent_state_key: Some(STATE_KEY.into()),
            display_name: "Permafresh".into(),
            extra_roots: self.roots.clone(),
        };
        let broker = Broker::new(exchange, Vault::KeyVault(vault), &config.partner_tenant);
        Gdap::new(gdap, broker, http())
    }

    pub fn change_customer(&self, change: impl FnOnce(&mut Customer)) {
        let mut customer = self.simulator.customer(TENANT).unwrap();
        change(&mut customer);
        self.simulator.add_customer(TENANT, customer);
    }

    pub async fn consent(&self) -> Option<CustomerConsent> {
        document::get::<CustomerConsent>(&*self.world.store, TENANT).await.unwrap().map(|consent| consent.value)
    }

    pub async fn has_consented(&self) -> bool {
        matches!(self.consent().await, Some(CustomerConsent { state: ConsentState::Granted, .. }))
    }

    /// The words of what a customer waits for; none if it does not.
    pub async fn parked(&self) -> Option<String> {
        match self.consent().await?.state {
            ConsentState::Parked { why, .. } => Some(why),
            _ => None,
        }
    }
}
