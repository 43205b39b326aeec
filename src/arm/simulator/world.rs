//! What the simulator knows: applications, operations, tokens, and what was asked of it. No HTTP here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::scripts::{Acceptance, Area, OnPoll, OnPost, OnRead, Outcome, Reply};
use crate::rollout::{ApplicationId, Timestamp};

/// The customer's tenant where nothing else was said.
const TENANT: &str = "5d0f7a10-0000-4000-8000-00000000c001";

/// An application that the simulator has.
#[derive(Clone, Debug)]
pub struct ApplicationSpec {
    /// Its id.
    pub id: ApplicationId,
    /// Its plan; none makes it a service-catalog application.
    pub plan: Option<PlanSpec>,
    /// Its region.
    pub location: Arc<str>,
    /// The customer's tenant.
    pub tenant_id: Arc<str>,
    /// `provisioningState`.
    pub provisioning_state: Arc<str>,
    /// `jitAccessPolicy`, as JSON.
    pub jit_access_policy: Option<Arc<str>>,
}

/// The plan of a Marketplace application. Bulk additions should share the texts.
#[derive(Clone, Debug)]
pub struct PlanSpec {
    /// `plan.publisher`.
    pub publisher: Arc<str>,
    /// `plan.product`.
    pub product: Arc<str>,
    /// `plan.name`.
    pub name: Arc<str>,
    /// `plan.version`.
    pub version: Arc<str>,
}

impl ApplicationSpec {
    /// A Marketplace application at rest, of the plan fabrikam/ledger/standard 1.4.0.
    pub fn new(id: ApplicationId) -> Self {
        Self {
            id,
            plan: Some(PlanSpec {
                publisher: "fabrikam".into(),
                product: "ledger".into(),
                name: "standard".into(),
                version: "1.4.0".into(),
            }),
            location: "westeurope".into(),
            tenant_id: TENANT.into(),
            provisioning_state: "Succeeded".into(),
            jit_access_policy: None,
        }
    }
}

/// What was asked of the simulator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// POSTs of `refreshPermissions` that came with a good token.
    pub posts: u64,
    /// Operations started.
    pub operations: u64,
    /// Operations started while another one of the same application was running.
    pub overlapping_operations: u64,
    /// Looks at operations.
    pub polls: u64,
    /// Looks that came earlier than the answer before had allowed.
    pub impatient_polls: u64,
    /// POSTs that came earlier than the answer before had allowed.
    pub impatient_posts: u64,
    /// Calls for a subscription that was to be left alone.
    pub throttled: u64,
    /// Answers that told the caller to wait: errors with Retry-After.
    pub waits: u64,
    /// Readings of one application.
    pub reads: u64,
    /// Pages of lists.
    pub pages: u64,
    /// Pages of subscriptions, of Resource Graph and of resource groups.
    pub inventory: u64,
    /// Lists of a provider's operations.
    pub operation_lists: u64,
    /// Tokens issued.
    pub tokens: u64,
    /// Calls without a good token.
    pub refused_tokens: u64,
    /// Calls with a token of another customer's tenant than the subscription's.
    pub foreign_tokens: u64,
    /// Looks with a URL that was not byte for byte one of ours.
    pub altered_urls: u64,
    /// Connections accepted.
    pub connections: u64,
    /// The most calls that were under way at once.
    pub most_at_once: usize,
}

/// An application with its history.
#[derive(Debug)]
pub(super) struct Application {
    pub spec: ApplicationSpec,
    /// Whether it was deleted.
    pub is_gone: bool,
    pub on_post: VecDeque<OnPost>,
    pub on_poll: VecDeque<OnPoll>,
    pub on_read: VecDeque<OnRead>,
    pub posts: u32,
    pub operations: u32,
    pub last_operation: Option<u32>,
    pub not_before: Option<Timestamp>,
}

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub application: u32,
    pub version: Arc<str>,
    pub started: Timestamp,
    pub ends: Timestamp,
    pub outcome: Arc<Outcome>,
    pub not_before: Option<Timestamp>,
}

/// Everything behind the simulator's lock.
#[derive(Debug, Default)]
pub(super) struct World {
    pub applications: Vec<Application>,
    /// By lower-cased id.
    pub by_id: HashMap<Box<str>, u32>,
    pub by_subscription: HashMap<Box<str>, Vec<u32>>,
    pub operations: Vec<Operation>,
    pub tokens: HashMap<String, Timestamp>,
    /// The tenant of each token that is of a customer's.
    pub tenants: HashMap<String, String>,
    /// Subscriptions that a token of no customer's tenant may not enter.
    pub closed: HashSet<Box<str>>,
    pub throttled: HashMap<Box<str>, Timestamp>,
    pub on_list: VecDeque<Reply>,
    pub on_challenge: VecDeque<Reply>,
    /// Registration assignments, by lower-cased scope.
    pub assignments: HashMap<String, Vec<serde_json::Value>>,
    /// Role definitions, by GUID.
    pub roles: HashMap<String, serde_json::Value>,
    pub on_area: HashMap<Area, VecDeque<Reply>>,
    /// Subscriptions that are there and in no list.
    pub hidden: HashSet<Box<str>>,
    /// Subscriptions that are in the list, and empty.
    pub empty_subscriptions: HashSet<Box<str>>,
    /// Whether Resource Graph shows no application, but their managed groups.
    pub graph_is_blind: bool,
    /// The operations of each provider, by its lower-case namespace, with whether each is a data action.
    pub providers: HashMap<Box<str>, Vec<(String, bool)>>,
    pub bad_versions: HashMap<Box<str>, Arc<Outcome>>,
    pub stats: Stats,
    succeeded: Option<Arc<Outcome>>,
}

impl World {
    /// The tenant of a subscription: of its first application, or the one that all are in otherwise.
    pub fn tenant_of(&self, subscription: &str) -> Arc<str> {
        let first = self.by_subscription.get(subscription.to_ascii_lowercase().as_str()).and_then(|all| all.first());
        first.map_or_else(|| TENANT.into(), |index| Arc::clone(&self.applications[*index as usize].spec.tenant_id))
    }

    pub fn add(&mut self, spec: ApplicationSpec) {
        let index = u32::try_from(self.applications.len()).expect("no machine holds four billion applications");
        let key = spec.id.to_string().to_lowercase().into_boxed_str();
        if let Some(&index) = self.by_id.get(&key) {
            self.applications[index as usize].spec = spec;
            self.applications[index as usize].is_gone = false;
            return;
        }
        self.by_id.insert(key, index);
        self.by_subscription.entry(spec.id.subscription().into()).or_default().push(index);
        self.applications.push(Application {
            spec,
            is_gone: false,
            on_post: VecDeque::new(),
            on_poll: VecDeque::new(),
            on_read: VecDeque::new(),
            posts: 0,
            operations: 0,
            last_operation: None,
            not_before: None,
        });
    }

    pub fn find(&self, id: &ApplicationId) -> Option<&Application> {
        let index = *self.by_id.get(id.to_string().to_lowercase().as_str())?;
        Some(&self.applications[index as usize])
    }

    pub fn find_mut(&mut self, id: &ApplicationId) -> Option<&mut Application> {
        let index = *self.by_id.get(id.to_string().to_lowercase().as_str())?;
        Some(&mut self.applications[index as usize])
    }

    /// Starts an operation and returns its number. A version with a bad permission fails whatever was asked for.
    pub fn start(
        &mut self,
        application: u32,
        version: &str,
        acceptance: &Acceptance,
        usual: Duration,
        now: Timestamp,
    ) -> u32 {
        let number = u32::try_from(self.operations.len()).expect("no run starts four billion operations");
        let outcome = match self.bad_versions.get(version) {
            Some(outcome) => Arc::clone(outcome),
            None if acceptance.outcome == Outcome::succeeded() => {
                Arc::clone(self.succeeded.get_or_insert_with(|| Arc::new(Outcome::succeeded())))
            }
            None => Arc::new(acceptance.outcome.clone()),
        };
        let last = self.applications[application as usize].last_operation;
        let (overlaps, version) = match last.map(|number| &self.operations[number as usize]) {
            Some(last) if *last.version == *version => (last.ends > now, Arc::clone(&last.version)),
            Some(last) => (last.ends > now, Arc::from(version)),
            None => (false, self.shared_version(version)),
        };
        self.stats.overlapping_operations += u64::from(overlaps);
        self.stats.operations += 1;
        let ends = now + acceptance.duration.unwrap_or(usual);
        self.operations.push(Operation { application, version, started: now, ends, outcome, not_before: None });
        let application = &mut self.applications[application as usize];
        application.operations += 1;
        application.last_operation = Some(number);
        number
    }

    /// The text of a version, shared with the operation before where it is the same.
    fn shared_version(&self, version: &str) -> Arc<str> {
        match self.operations.last() {
            Some(last) if *last.version == *version => Arc::clone(&last.version),
            _ => Arc::from(version),
        }
    }
}
