//! Entra, Key Vault, Partner Center's consents and Graph that are none, on one address: what tests and the demo ask.
//!
//! They speak the parts of contracts/access.md §2 that we use, and believe each other's tokens only. Customers are added by
//! [`Simulator::add_customer`]; what is done otherwise is told call by call ([`Simulator::on`]). Listens on loopback only, and
//! keeps everything in memory.

mod serve;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};
use url::Url;

use super::relationship;
use crate::clock::{Clock, SystemClock};
use crate::loopback::{Place, Server};
use crate::rollout::Timestamp;

/// How a simulator behaves where nothing else is said.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The partner's tenant.
    pub partner_tenant: String,
    /// The app.
    pub client_id: String,
    /// Its secret; a signed assertion is taken as well.
    pub client_secret: String,
    /// Seconds that an access token lasts.
    pub token_seconds: u64,
    /// How the user signed in.
    pub amr: Vec<String>,
    /// Who is told of each token: the token, its tenant, its audience and its end. For a simulator that has to take it.
    pub on_token: Option<OnToken>,
    /// Decides when tokens expire.
    pub clock: Arc<dyn Clock>,
}

/// Told of a token that was issued.
pub type OnToken = Arc<dyn Fn(&str, &str, &str, Timestamp) + Send + Sync>;

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            port: 0,
            partner_tenant: "b5a1e2d1-77aa-4b31-9f2e-5c6d7e8f9a02".to_owned(),
            client_id: "d1e2f3a4-b5c6-4d7e-8f90-a1b2c3d4e5f6".to_owned(),
            client_secret: "simulated-app-secret".to_owned(),
            token_seconds: 3_600,
            amr: vec!["pwd".to_owned(), "mfa".to_owned()],
            on_token: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What a call is for; each has scripts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// A token for a refresh token, or for a code.
    Token,
    /// The page that a browser signs in on.
    SignIn,
    /// A secret, read.
    ReadSecret,
    /// A secret, written.
    WriteSecret,
    /// A version, switched off.
    RetireSecret,
    /// The versions, listed.
    ListSecret,
    /// A consent, given.
    Consent,
    /// A consent, withdrawn.
    Withdraw,
    /// The registration of webhooks.
    Registration,
    /// A trial of the webhook.
    Trial,
    /// Anything of Graph.
    Graph,
    /// The certificate that signs webhooks.
    Certificate,
}

/// What to do with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnCall {
    /// What it asks for.
    AsUsual,
    /// Answers this.
    Answer(Reply),
    /// Does what it asks for, and drops the connection instead of answering.
    DoAndDrop,
    /// Does what it asks for, and never answers.
    DoAndHang,
    /// Drops the connection.
    Reset,
}

/// A canned answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    /// Any body.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// An error of the token endpoint.
    pub fn oauth(status: u16, error: &str, number: u32) -> Self {
        let description = format!("AADSTS{number}: simulated, for anna@fabrikam.example");
        Self::json(status, &json!({"error": error, "error_codes": [number], "error_description": description}))
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What it was for.
    pub call: Call,
    /// The method and the target.
    pub line: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// A customer's tenant.
#[derive(Clone, Debug, Default)]
pub struct Customer {
    /// Whether it consents to the app, for Azure Resource Manager.
    pub has_consented: bool,
    /// What else it has consented to: permissions by app id.
    pub beyond: BTreeMap<String, BTreeSet<String>>,
    /// Whether Partner Center adds to a consent that is there, for another app id; else it answers 409 as long as there is one.
    pub takes_more: bool,
    /// Whether Partner Center may consent for it.
    pub has_relationship: bool,
    /// App ids of resources without a service principal.
    pub missing: BTreeSet<String>,
}

/// A version of the secret.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// The refresh token.
    pub value: String,
    /// Whether it can be read.
    pub enabled: bool,
    /// What was sent along.
    pub attributes: Value,
    /// Tags.
    pub tags: Value,
}

/// A running simulator; dropping it closes every connection.
pub struct Simulator {
    endpoint: Url,
    shared: Arc<Shared>,
    _server: Server,
}

struct Shared {
    config: SimulatorConfig,
    origin: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    customers: BTreeMap<String, Customer>,
    refresh_tokens: HashMap<String, bool>,
    access_tokens: HashMap<String, (String, String, Timestamp)>,
    /// By code: the challenge and the nonce.
    codes: HashMap<String, (String, String)>,
    versions: Vec<Version>,
    relationships: BTreeMap<String, Value>,
    assignments: BTreeMap<String, Vec<Value>>,
    certificate: Vec<u8>,
    registration: Option<Value>,
    issued: u64,
    scripts: HashMap<Call, VecDeque<OnCall>>,
    hanging: usize,
    requests: Vec<Recorded>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    fn mint(&mut self) -> String {
        let token = format!("1.refresh-{}-{}", self.next(), "s3cr3t".repeat(10));
        self.refresh_tokens.insert(token.clone(), true);
        token
    }
}

impl Simulator {
    /// Starts one.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub async fn start(config: SimulatorConfig) -> std::io::Result<Self> {
        let Place { listener, origin, endpoint } = Place::take(config.port).await?;
        let shared = Arc::new(Shared { config, origin, state: Mutex::default() });
        let server = Server::start(serve::run(listener, Arc::clone(&shared)));
        Ok(Self { endpoint, shared, _server: server })
    }

    /// Where all of them are.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// As it was configured.
    pub fn config(&self) -> &SimulatorConfig {
        &self.shared.config
    }

    /// Adds or changes a customer.
    pub fn add_customer(&self, tenant: &str, customer: Customer) {
        self.shared.state().customers.insert(tenant.to_owned(), customer);
    }

    /// A customer as it is now.
    pub fn customer(&self, tenant: &str) -> Option<Customer> {
        self.shared.state().customers.get(tenant).cloned()
    }

    /// A refresh token as a sign-in gives it.
    pub fn mint(&self) -> String {
        self.shared.state().mint()
    }

    /// Puts a refresh token into the vault, as somebody who signs in elsewhere would.
    pub fn put_secret(&self, value: &str) -> String {
        let now = self.shared.config.clock.now();
        let mut state = self.shared.state();
        let name = format!("{:032x}", state.next());
        let tags = json!({"mintedAt": now.to_rfc3339(), "user": "obo@fabrikam.example"});
        state.versions.push(Version {
            name: name.clone(),
            value: value.to_owned(),
            enabled: true,
            attributes: json!({}),
            tags,
        });
        name
    }

    /// Entra takes a refresh token no longer.
    pub fn revoke(&self, token: &str) {
        self.shared.state().refresh_tokens.insert(token.to_owned(), false);
    }

    /// The versions of the secret, the oldest first.
    pub fn versions(&self) -> Vec<Version> {
        self.shared.state().versions.clone()
    }

    /// Adds a relationship.
    pub fn add_relationship(&self, id: &str, tenant: &str, status: &str) {
        let value = json!({"id": id, "displayName": id, "status": status, "customer": {"tenantId": tenant},
            "accessDetails": {"unifiedRoles": [{"roleDefinitionId": relationship::DIRECTORY_READERS}]}, "@odata.etag": "\"1\""});
        self.shared.state().relationships.insert(id.to_owned(), value);
    }

    /// Moves a relationship.
    pub fn move_relationship(&self, id: &str, status: &str) {
        if let Some(relationship) = self.shared.state().relationships.get_mut(id) {
            relationship["status"] = status.into();
        }
    }

    /// A relationship as Graph shows it.
    pub fn relationship(&self, id: &str) -> Option<Value> {
        self.shared.state().relationships.get(id).cloned()
    }

    /// What is registered as a webhook.
    pub fn registration(&self) -> Option<Value> {
        self.shared.state().registration.clone()
    }

    /// Registers a webhook, as somebody else would.
    pub fn register(&self, registration: Value) {
        self.shared.state().registration = Some(registration);
    }

    /// What is served as the certificate of Partner Center's webhooks.
    pub fn serve_certificate(&self, bytes: Vec<u8>) {
        self.shared.state().certificate = bytes;
    }

    /// What to do with the next calls of a kind, one after the other.
    pub fn on(&self, call: Call, scripts: impl IntoIterator<Item = OnCall>) {
        self.shared.state().scripts.entry(call).or_default().extend(scripts);
    }

    /// The requests of a kind, the oldest first.
    pub fn requests(&self, call: Call) -> Vec<Recorded> {
        self.shared.state().requests.iter().filter(|request| request.call == call).cloned().collect()
    }

    /// The requests of every kind, the oldest first.
    pub fn all_requests(&self) -> Vec<Recorded> {
        self.shared.state().requests.clone()
    }

    /// How many calls were done and never answered ([`OnCall::DoAndHang`]).
    pub fn hanging(&self) -> usize {
        self.shared.state().hanging
    }

    /// How long an access token lasts.
    pub fn token_lifetime(&self) -> Duration {
        Duration::from_secs(self.shared.config.token_seconds)
    }
}
