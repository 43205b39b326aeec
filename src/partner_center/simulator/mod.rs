//! A Partner Center that is none: what tests and the demo ask instead of Microsoft's.
//!
//! It speaks the part of the submission API that contracts/offer-publish.md §3 tells of, and hands out the only tokens it
//! takes, as Entra does. Offers are published in it by [`Simulator::publish`]; what it does otherwise it is told call by call
//! ([`Simulator::on`]). It listens on loopback only, and keeps everything in memory.

mod serve;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

pub use crate::arm::simulator::Reply;
use crate::clock::{Clock, SystemClock};
use crate::loopback::{Place, Server};
use crate::rollout::Timestamp;

/// How a simulator behaves where nothing else is said.
#[derive(Clone)]
pub struct SimulatorConfig {
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Items on one page of a list.
    pub page_size: usize,
    /// How pages name the next one.
    pub next_link: NextLink,
    /// How long a token lasts, by the clock.
    pub token_lifetime: Duration,
    /// The secret that a token is given for; a signed assertion is taken as well.
    pub client_secret: String,
    /// How many of the last requests are kept for [`Simulator::requests`].
    pub keep_requests: usize,
    /// Decides when tokens expire.
    pub clock: Arc<dyn Clock>,
}

/// How pages name the next one (contracts/offer-publish.md §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextLink {
    /// `@odata.nextLink` with a whole URL, as the specification says.
    OData,
    /// `nextLink` with a path that lacks its slash, as scripts have met.
    Bare,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            port: 0,
            page_size: 100,
            next_link: NextLink::OData,
            token_lifetime: Duration::from_secs(60 * 60),
            client_secret: "simulated".to_owned(),
            keep_requests: 0,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What a call is for; each has scripts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// A token.
    Token,
    /// The product of an offer.
    Product,
    /// Its plans.
    Variants,
    /// Its submissions.
    Submissions,
    /// A package configuration.
    Package,
}

/// What to do with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnCall {
    /// What it asks for.
    AsUsual,
    /// Answers this.
    Answer(Reply),
    /// Drops the connection.
    Reset,
    /// Never answers.
    Hang,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

/// A submission to be published: one package for one plan.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The offer's id.
    pub offer: String,
    /// The plan's id.
    pub plan: String,
    /// The package version.
    pub version: String,
    /// `state`.
    pub state: String,
    /// `substate`.
    pub substate: String,
    /// The value of the target `Scope`.
    pub scope: String,
    /// Members of the package configuration besides those it has anyway.
    pub package: Value,
}

impl Publication {
    /// A version of fabrikam's ledger/standard that has reached sign-off, and lets customers do `action`.
    pub fn preview(version: &str, action: &str) -> Self {
        Self {
            offer: "ledger".into(),
            plan: "standard".into(),
            version: version.into(),
            state: "Published".into(),
            substate: "ReadyToPublish".into(),
            scope: "preview".into(),
            package: json!({"allowedCustomerActions": [action], "canEnableCustomerActions": true}),
        }
    }

    /// The same, live.
    pub fn live(version: &str, action: &str) -> Self {
        Self { substate: "InStore".into(), scope: "live".into(), ..Self::preview(version, action) }
    }

    /// The same, on its way.
    pub fn moving(self) -> Self {
        Self { state: "InProgress".into(), substate: "Submitted".into(), ..self }
    }
}

/// A running simulator; dropping it closes every connection.
pub struct Simulator {
    endpoint: Url,
    shared: Arc<Shared>,
    _server: Server,
}

struct Shared {
    config: SimulatorConfig,
    /// Without a slash at the end.
    origin: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By offer id.
    products: BTreeMap<String, Product>,
    /// Package configurations by instance id.
    packages: HashMap<String, Value>,
    tokens: HashMap<String, Timestamp>,
    issued: u64,
    last_id: u64,
    scripts: HashMap<Call, VecDeque<OnCall>>,
    outage: Option<Reply>,
    calls: HashMap<Call, u64>,
    requests: VecDeque<Recorded>,
}

struct Product {
    id: String,
    variants: Vec<Value>,
    submissions: Vec<Value>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_id(&mut self) -> String {
        self.last_id += 1;
        (1_152_921_505_690_000_000 + self.last_id).to_string()
    }

    fn product(&mut self, offer: &str) -> &mut Product {
        self.products.entry(offer.to_owned()).or_insert_with(|| Product {
            id: Uuid::new_v5(&Uuid::NAMESPACE_URL, offer.as_bytes()).to_string(),
            variants: Vec::new(),
            submissions: Vec::new(),
        })
    }

    fn submission(&mut self, id: &str) -> Option<&mut Value> {
        self.products.values_mut().flat_map(|product| &mut product.submissions).find(|found| found["id"] == id)
    }
}

impl Simulator {
    /// Starts one on loopback. Fails if the port cannot be had.
    pub async fn start(config: SimulatorConfig) -> std::io::Result<Self> {
        let Place { listener, origin, endpoint } = Place::take(config.port).await?;
        let shared = Arc::new(Shared { config, origin, state: Mutex::default() });
        let server = Server::start(serve::run(listener, Arc::clone(&shared)));
        Ok(Self { endpoint, shared, _server: server })
    }

    /// What to set as `PARTNER_CENTER_ENDPOINT`, and as `AZURE_AUTHORITY_HOST` for its tokens.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// A token as its authority issues them, and when it expires.
    pub fn issue_token(&self) -> (String, Timestamp) {
        serve::issue(&self.shared)
    }

    /// Takes every token back that was issued.
    pub fn revoke_tokens(&self) {
        self.shared.state().tokens.clear();
    }

    /// Adds an offer and a managed-application plan of it; a second time changes nothing.
    pub fn add_plan(&self, offer: &str, plan: &str) {
        let mut state = self.shared.state();
        let id = variant_id(offer, plan);
        let product = state.product(offer);
        if product.variants.iter().all(|variant| variant["id"] != id) {
            product.variants.push(json!({
                "resourceType": "AzureSkuVariant", "subType": "managed-application", "state": "Active",
                "friendlyName": plan, "externalID": plan, "id": id,
            }));
        }
    }

    /// Adds a submission with its package, and returns its id. The offer and the plan are added where they are missing.
    pub fn publish(&self, publication: &Publication) -> String {
        let Publication { offer, plan, version, state, substate, scope, package } = publication;
        self.add_plan(offer, plan);
        let now = self.shared.config.clock.now();
        let mut world = self.shared.state();
        let (instance, id) = (world.next_id(), world.next_id());
        let mut configuration = json!({
            "resourceType": "AzureManagedApplicationPackageConfiguration", "version": version, "id": world.next_id(),
            "@odata.etag": format!("\"{instance}\""), "azureGovernmentAuthorizations": [], "policies": [],
        });
        if let (Some(known), Some(more)) = (configuration.as_object_mut(), package.as_object()) {
            known.extend(more.clone());
        }
        world.packages.insert(instance.clone(), configuration);
        let product = world.product(offer);
        let release = product.submissions.len() + 1;
        product.submissions.push(json!({
            "resourceType": "Submission", "state": state, "substate": substate,
            "targets": [{"type": "Scope", "value": scope}],
            "resources": [{"type": "Listing", "value": "1152921505690000101"}],
            "variantResources": [{"variantID": variant_id(offer, plan), "resources": [{"type": "Package", "value": instance}]}],
            "releaseNumber": release, "friendlyName": format!("Submission {release}"), "id": id,
            "publishedTimeInUtc": now,
        }));
        id
    }

    /// Moves a submission to another state.
    pub fn move_to(&self, submission: &str, state: &str, substate: &str, scope: &str) {
        self.edit(submission, |item| {
            item["state"] = state.into();
            item["substate"] = substate.into();
            item["targets"] = json!([{"type": "Scope", "value": scope}]);
        });
    }

    /// Changes whatever is to be changed of a submission.
    pub fn edit(&self, submission: &str, change: impl FnOnce(&mut Value)) {
        if let Some(item) = self.shared.state().submission(submission) {
            change(item);
        }
    }

    /// Changes the package configuration that a submission brings.
    pub fn edit_package(&self, submission: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.shared.state();
        let Some(item) = state.submission(submission) else { return };
        let instance = item["variantResources"][0]["resources"][0]["value"].as_str().unwrap_or_default().to_owned();
        if let Some(package) = state.packages.get_mut(&instance) {
            change(package);
        }
    }

    /// Lets a submission vanish from the list.
    pub fn remove(&self, submission: &str) {
        for product in self.shared.state().products.values_mut() {
            product.submissions.retain(|item| item["id"] != submission);
        }
    }

    /// What to do with the next calls of a kind, one after the other.
    pub fn on(&self, call: Call, scripts: impl IntoIterator<Item = OnCall>) {
        self.shared.state().scripts.entry(call).or_default().extend(scripts);
    }

    /// From now on every call but those for tokens is answered so; `None` ends it.
    pub fn outage(&self, reply: Option<Reply>) {
        self.shared.state().outage = reply;
    }

    /// How many calls of a kind there were.
    pub fn calls(&self, call: Call) -> u64 {
        self.shared.state().calls.get(&call).copied().unwrap_or_default()
    }

    /// The last requests, oldest first, as many as the configuration keeps.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.state().requests.iter().cloned().collect()
    }
}

fn variant_id(offer: &str, plan: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{offer}/{plan}").as_bytes()).to_string()
}
