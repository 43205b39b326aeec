//! The shape of the settings: a struct per concern, filled by [`super::Settings::from_map`].
//!
//! Shapes only; what is read from where, and what is refused, is said in the modules beside this one.

use std::path::PathBuf;

use crate::access::certificate::ClientCertificate;
use crate::access::gdap::exchange::TokenEndpoint;
use crate::access::guests::AllowedTenants;
use crate::rollout::submission::States;

use super::{Endpoint, OfferSettings, Problem, Secret, ServiceBusConnection, StorageConnection};

/// Everything that was decided, by concern.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether refreshes are posted at all.
    pub mode: Mode,
    /// Where state is kept.
    pub store: StoreSettings,
    /// How messages travel.
    pub queues: QueueSettings,
    /// When the timers fire.
    pub schedules: ScheduleSettings,
    /// Azure Resource Manager.
    pub arm: ArmSettings,
    /// Who we are to Azure.
    pub identity: IdentitySettings,
    /// Who may post notifications.
    pub notifications: NotificationSettings,
    /// The offers we look after.
    pub offers: OfferSettings,
    /// Watching offers.
    pub partner_center: PartnerCenterSettings,
    /// Access by GDAP, and consent to it.
    pub gdap: GdapSettings,
    /// Access just in time.
    pub jit: JitSettings,
    /// The outgoing webhook.
    pub notify: NotifySettings,
    /// The page for people.
    pub dashboard: DashboardSettings,
    /// Where spans and metrics go, if anywhere (`OTEL_EXPORTER_OTLP_ENDPOINT`).
    pub otlp: Option<OtlpSettings>,
    /// What only the embedded host and the handler's start need.
    pub host: HostSettings,
    /// How many days ended rollouts are kept.
    pub retention_days: u32,
    /// What is odd, though it can be started with: worth a warning each.
    pub remarks: Vec<Problem>,
}

/// Whether refreshes are posted (`MODE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    Act,
    /// Everything but the POST.
    Observe,
}

/// Where state is kept.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The backend (`STATE_STORE`).
    pub state_store: StateStore,
    /// The storage account, always there for [`StateStore::Tables`].
    pub storage: Option<StorageConnection>,
}

/// The backend that keeps state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateStore {
    /// A SQLite file.
    Sqlite {
        /// The file, relative to the current folder unless absolute.
        path: PathBuf,
    },
    /// Azure Table Storage.
    Tables,
}

/// How messages travel.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Service Bus; none means the embedded queue.
    pub service_bus: Option<ServiceBusConnection>,
    /// The queue that plans rollouts.
    pub rollout_queue: String,
    /// The queue that refreshes deployments.
    pub refresh_queue: String,
}

/// When the timers fire, in NCRONTAB with six fields (or five, without seconds). Only the number of fields was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each the schedule of the function of that name")]
pub struct ScheduleSettings {
    pub poll: String,
    pub bulk_refresh: String,
    pub watch_offers: String,
    pub sync: String,
    pub renew_tokens: String,
}

/// Azure Resource Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmSettings {
    /// Its address.
    pub endpoint: Endpoint,
    /// The audience of its tokens.
    pub audience: String,
    /// The API version of `Microsoft.Solutions`.
    pub api_version: String,
    /// Calls at once, per process.
    pub max_concurrency: usize,
    /// Whether each application is read after its refresh succeeded.
    pub verify_after_success: bool,
}

/// Who we are to Azure.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// How a token is had.
    pub credential: Credential,
    /// Where the platform hands out tokens of managed identities, if it does, whatever the credential is: connections may
    /// name one of their own.
    pub platform: Option<Endpoint>,
    /// The publisher's tenant, where it is named.
    pub tenant_id: Option<String>,
    /// In which customers' tenants the app registration may ask for tokens of its own.
    pub additional_tenants: AllowedTenants,
    /// Microsoft Entra.
    pub authority_host: Endpoint,
}

/// How a token is had: a client secret if complete, else a managed identity if present, else developer tools.
#[derive(Clone, Debug)]
pub enum Credential {
    /// An app registration and its secret.
    ClientSecret {
        /// The tenant.
        tenant_id: String,
        /// The app registration.
        client_id: String,
        /// Its secret.
        secret: Secret,
    },
    /// A managed identity.
    ManagedIdentity {
        /// Where the platform hands out tokens.
        endpoint: Endpoint,
        /// The platform's proof that we are inside.
        header: Secret,
        /// The client id of a user-assigned identity.
        client_id: Option<String>,
        /// The app registration that it stands for, if it does.
        app: Option<FederatedApp>,
    },
    /// Whoever is signed in with Azure's command line tools.
    DeveloperTools,
}

/// An app registration that trusts a managed identity, so that there is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedApp {
    /// Its tenant.
    pub tenant_id: String,
    /// Its client id.
    pub client_id: String,
}

/// Who may post notifications.
#[derive(Clone, Debug)]
pub struct NotificationSettings {
    /// The accepted values of `sig`; none means that every notification is refused.
    pub sigs: Vec<Secret>,
}

/// Watching offers in Partner Center.
#[derive(Clone, Debug)]
pub struct PartnerCenterSettings {
    /// The ingestion API.
    pub endpoint: Endpoint,
    /// The app that watches; none means that offers are not watched.
    pub app: Option<PartnerCenterApp>,
    /// What Partner Center's states mean.
    pub states: States,
}

/// The app registration that watches offers.
#[derive(Clone, Debug)]
pub struct PartnerCenterApp {
    /// Its tenant.
    pub tenant_id: String,
    /// Its client id.
    pub client_id: String,
    /// How it proves who it is.
    pub proof: AppProof,
}

/// How an app registration proves who it is.
#[derive(Clone, Debug)]
pub enum AppProof {
    /// With a secret.
    Secret(Secret),
    /// With a certificate.
    Certificate(ClientCertificate),
}

/// Access by GDAP, and consent to it.
#[derive(Clone, Debug)]
pub struct GdapSettings {
    /// Partner Center's API of customers and consents.
    pub partner_api_endpoint: Endpoint,
    /// Microsoft Graph.
    pub graph_endpoint: Endpoint,
    /// The key vault with the refresh token.
    pub key_vault_url: Option<Endpoint>,
    /// The app that customers consent to.
    pub client_id: Option<String>,
    /// Its certificate, where it proves itself by one.
    pub certificate: Option<ClientCertificate>,
    /// Which of Entra's endpoints exchanges the refresh token.
    pub token_endpoint: TokenEndpoint,
    /// The name of the refresh token's secret.
    pub secret_name: Option<String>,
    /// What signs the state of consent links.
    pub consent_state_key: Option<Secret>,
    /// Where customers and Partner Center reach this service.
    pub public_url: Option<Endpoint>,
}

/// Access just in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitSettings {
    /// For whom requests are made.
    pub principal_id: Option<String>,
    /// The role they ask for.
    pub role_id: Option<String>,
    /// Where they are filed.
    pub resource_group: JitResourceGroup,
}

/// Where just-in-time requests are filed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JitResourceGroup {
    /// In the managed resource group.
    Managed,
    /// In the resource group of this name, in the application's subscription.
    Named(String),
}

/// The outgoing webhook.
#[derive(Clone, Debug)]
pub struct NotifySettings {
    /// Its address, query included: often the only secret of a webhook.
    pub url: Option<Secret>,
    /// What signs the messages.
    pub secret: Option<Secret>,
}

/// The page for people.
#[derive(Clone, Debug)]
pub struct DashboardSettings {
    /// The key for the login form; none means that there is no login.
    pub key: Option<Secret>,
    /// Whether `X-MS-CLIENT-PRINCIPAL` counts.
    pub auth: DashboardAuth,
}

/// Who vouches for people at the dashboard (`DASHBOARD_AUTH`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DashboardAuth {
    /// Our own login form only.
    Key,
    /// App Service authentication, whose header counts.
    EasyAuth,
}

/// What only the embedded host and the handler's start need.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The embedded host's function keys; none means that one is made.
    pub function_keys: Vec<Secret>,
    /// The file of the embedded queue; none means beside the store.
    pub queue_file: Option<PathBuf>,
    /// The port the Functions host gave to the handler.
    pub custom_handler_port: Option<u16>,
}

/// An OpenTelemetry collector, and who we are to it.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Its address, to which the paths of the signals are added.
    pub endpoint: Endpoint,
    /// Headers for every request: that is where its key is.
    pub headers: Vec<(String, Secret)>,
    /// `service.name`.
    pub service_name: String,
    /// Attributes of everything that is sent.
    pub attributes: Vec<(String, String)>,
    /// Whether `OTEL_TRACES_SAMPLER`, which OpenTelemetry reads itself, says which spans are drawn.
    pub names_sampler: bool,
    /// Whether `OTEL_BSP_SCHEDULE_DELAY`, likewise, says how long spans are gathered.
    pub names_delay: bool,
}
