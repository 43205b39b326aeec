//! What an operator has decided, read once from the environment and checked before the first request (design §7).
//!
//! [`Settings::from_env`] names every problem at once, each with what to do. It reads, checks and types values; it connects
//! to nothing, and it does not know whether a backend that is asked for is in this build. Names it does not know are other
//! people's environment variables; members it does not know inside JSON are mistakes.

mod concerns;
mod connections;
mod documentation;
mod endpoint;
mod offers;
mod otlp;
mod problem;
mod reader;

use std::collections::BTreeMap;
use std::path::PathBuf;

use reader::Reader;

use crate::access::certificate::ClientCertificate;
use crate::access::gdap::exchange::TokenEndpoint;
use crate::access::guests::AllowedTenants;
use crate::rollout::resource_id::is_guid;
use crate::rollout::submission::States;

pub use crate::secret::Secret;
pub use concerns::*;
pub use connections::{ConnectionIdentity, ServiceBusConnection, StorageConnection};
pub use documentation::{ALL, SettingDoc, default_of, named_by_functions};
pub use endpoint::{Endpoint, InvalidEndpoint, is_loopback};
pub use offers::{DEFAULT_ORDER, Offer, OfferPlan, OfferSettings};
pub use problem::{Problem, SettingsError};

impl Settings {
    /// Every setting by name, default and meaning.
    pub const ALL: &'static [SettingDoc] = ALL;

    /// Reads the settings of this process.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::from_map(&environment())
    }

    /// Reads settings from a map of names to values; an empty value counts as absent.
    pub fn from_map(values: &BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(values);
        refuse_unresolved_references(&mut reader);
        let settings = Self {
            store: store(&mut reader),
            queues: queues(&mut reader),
            schedules: ScheduleSettings {
                poll: reader.schedule("POLL_SCHEDULE"),
                bulk_refresh: reader.schedule("BULK_REFRESH_SCHEDULE"),
                watch_offers: reader.schedule("WATCH_OFFERS_SCHEDULE"),
                sync: reader.schedule("SYNC_SCHEDULE"),
                renew_tokens: reader.schedule("RENEW_TOKENS_SCHEDULE"),
            },
            mode: reader.word("MODE", &[("act", Mode::Act), ("observe", Mode::Observe)]).unwrap_or(Mode::Act),
            arm: arm(&mut reader),
            identity: identity(&mut reader),
            notifications: NotificationSettings { sigs: reader.secrets("NOTIFICATION_SIG") },
            offers: offers::read(&mut reader),
            partner_center: partner_center(&mut reader),
            gdap: gdap(&mut reader),
            jit: jit(&mut reader),
            notify: notify(&mut reader),
            dashboard: dashboard(&mut reader),
            otlp: otlp::read(&mut reader),
            host: HostSettings {
                function_keys: reader.secrets("LOCAL_FUNCTION_KEYS"),
                queue_file: reader.text("LOCAL_QUEUE").map(PathBuf::from),
                custom_handler_port: reader
                    .number("FUNCTIONS_CUSTOMHANDLER_PORT", 1..=65_535, "a port")
                    .and_then(|port| u16::try_from(port).ok()),
            },
            retention_days: reader.number("RETENTION_DAYS", 1..=3_650, "days").unwrap_or(400),
            remarks: Vec::new(),
        };
        refuse_managed_identities_that_nobody_manages(&mut reader, &settings);
        if !reader.problems.is_empty() {
            return Err(SettingsError { problems: reader.problems });
        }
        Ok(Self { remarks: reader.remarks, ..settings })
    }
}

/// The environment of this process, without what is not Unicode.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Azure leaves the text of a Key Vault reference where it cannot read the secret. Taken for the secret it would be one
/// that anybody can guess.
fn refuse_unresolved_references(reader: &mut Reader<'_>) {
    for setting in ALL {
        if reader.text(setting.name).is_some_and(|text| text.starts_with("@Microsoft.KeyVault(")) {
            reader.wrong(
                setting.name,
                "it is a Key Vault reference that Azure could not resolve",
                "set the secret, and let the identity read it (Key Vault Secrets User)",
            );
        }
    }
}

/// A connection may name a managed identity only where the platform hands out tokens for one.
fn refuse_managed_identities_that_nobody_manages(reader: &mut Reader<'_>, settings: &Settings) {
    if settings.identity.platform.is_some() {
        return;
    }
    let storage = match (&settings.store.state_store, &settings.store.storage) {
        (StateStore::Tables, Some(StorageConnection::Identity { identity, .. })) => Some(identity),
        _ => None,
    };
    let service_bus = match &settings.queues.service_bus {
        Some(ServiceBusConnection::Identity { identity, .. }) => Some(identity),
        _ => None,
    };
    for (name, identity) in [("AzureWebJobsStorage", storage), ("ServiceBusConnection", service_bus)] {
        if matches!(identity, Some(ConnectionIdentity::Managed { .. })) {
            reader.wrong(
                format!("{name}__credential"),
                "it asks for a managed identity, and IDENTITY_ENDPOINT and IDENTITY_HEADER are absent, as they are outside Azure",
                format!("leave it and {name}__clientId out: then it is the identity of AZURE_…, or who is signed in with az login"),
            );
        }
    }
}

/// Whether these are the settings of an instance inside Azure.
fn is_inside_azure(reader: &Reader<'_>) -> bool {
    reader.text("WEBSITE_INSTANCE_ID").is_some()
}

fn store(reader: &mut Reader<'_>) -> StoreSettings {
    const NAME: &str = "STATE_STORE";
    const FIX: &str = "give sqlite:PATH or tables";
    let text = reader.text(NAME).or(default_of(NAME)).unwrap_or_default();
    let state_store = match text.split_once(':') {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("sqlite") && !path.is_empty() => {
            if is_inside_azure(reader) {
                reader.wrong(
                    NAME,
                    "it is sqlite (the default where it is absent), and a file does not outlive an instance in Azure",
                    "set it to tables and AzureWebJobsStorage to the storage account",
                );
            }
            StateStore::Sqlite { path: PathBuf::from(path) }
        }
        None if text.eq_ignore_ascii_case("tables") => StateStore::Tables,
        _ => {
            reader.wrong(NAME, "it names no store that we know", FIX);
            StateStore::Sqlite { path: PathBuf::new() }
        }
    };
    let known = reader.problems.len();
    let storage = connections::storage(reader);
    if state_store != StateStore::Tables {
        // The host needs AzureWebJobsStorage for itself and takes more forms of it than we do.
        reader.problems.truncate(known);
    } else if storage.is_none() && reader.problems.len() == known {
        reader.wrong(
            "AzureWebJobsStorage",
            "it is absent, and STATE_STORE is tables",
            "set it, or AzureWebJobsStorage__accountName with an identity",
        );
    }
    StoreSettings { state_store, storage }
}

fn queues(reader: &mut Reader<'_>) -> QueueSettings {
    let known = reader.problems.len();
    let service_bus = connections::service_bus(reader);
    if service_bus.is_none() && reader.problems.len() == known && is_inside_azure(reader) {
        reader.wrong(
            "ServiceBusConnection",
            "it is absent, and the embedded queue does not outlive an instance in Azure",
            "set it, or ServiceBusConnection__fullyQualifiedNamespace with an identity",
        );
    }
    let mut queue = |name: &str| {
        let is_queue = |text: &str| {
            (1..=260).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/'))
                && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
        };
        let fix = "give up to 260 letters, digits, '.', '-', '_' or '/', beginning and ending with a letter or digit";
        reader
            .checked(name, is_queue, "it is not the name of a queue", fix)
            .unwrap_or_else(|| default_of(name).unwrap_or_default().to_owned())
    };
    let (rollout_queue, refresh_queue) = (queue("ROLLOUT_QUEUE"), queue("REFRESH_QUEUE"));
    if rollout_queue.eq_ignore_ascii_case(&refresh_queue) {
        reader.wrong("REFRESH_QUEUE", "it is the same queue as ROLLOUT_QUEUE", "give each its own queue");
    }
    QueueSettings { service_bus, rollout_queue, refresh_queue }
}

fn arm(reader: &mut Reader<'_>) -> ArmSettings {
    let endpoint = reader.endpoint_or_default("ARM_ENDPOINT");
    let audience = reader
        .checked(
            "ARM_AUDIENCE",
            |text| text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic()),
            "it is not an audience",
            "give the resource's identifier, such as https://management.azure.com",
        )
        .unwrap_or_else(|| audience_of(&endpoint));
    let api_version = reader
        .checked(
            "ARM_API_VERSION",
            is_api_version,
            "it is not an API version",
            "give a date such as 2019-07-01, with or without -preview",
        )
        .unwrap_or_else(|| "2019-07-01".to_owned());
    ArmSettings {
        endpoint,
        audience,
        api_version,
        max_concurrency: reader
            .number("ARM_MAX_CONCURRENCY", 1..=1_024, "calls at once")
            .and_then(|calls| usize::try_from(calls).ok())
            .unwrap_or(64),
        verify_after_success: reader.boolean("VERIFY_AFTER_SUCCESS").unwrap_or(true),
    }
}

/// What tokens for an endpoint are for: the endpoint itself, but in Azure Government (contracts/arm.md §2.7).
fn audience_of(endpoint: &Endpoint) -> String {
    match endpoint.url().host_str() {
        Some("management.usgovcloudapi.net") => "https://management.core.usgovcloudapi.net".to_owned(),
        _ => endpoint.as_str().to_owned(),
    }
}

fn is_api_version(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    date.len() == 10 && date.parse::<chrono::NaiveDate>().is_ok()
}

fn identity(reader: &mut Reader<'_>) -> IdentitySettings {
    const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
    let authority_host = reader.text(AUTHORITY).map(|host| {
        // Azure's own tools take a bare host name here.
        if host.contains("://") { Endpoint::parse(host) } else { Endpoint::parse(&format!("https://{host}")) }
    });
    let authority_host = authority_host.and_then(|parsed| reader.taken(AUTHORITY, parsed));
    let authority_host = authority_host.unwrap_or_else(|| default_endpoint(AUTHORITY));
    let tenant_id = reader.directory_id("AZURE_TENANT_ID");
    let client_id = reader.directory_id("AZURE_CLIENT_ID");
    let secret = reader.secret("AZURE_CLIENT_SECRET");
    let managed = reader.directory_id("AZURE_MANAGED_IDENTITY_CLIENT_ID");
    let endpoint = reader.text("IDENTITY_ENDPOINT").map(Endpoint::parse_platform);
    let endpoint = endpoint.and_then(|parsed| reader.taken("IDENTITY_ENDPOINT", parsed));
    let header = reader.secret("IDENTITY_HEADER");
    let platform = endpoint.clone().filter(|_| header.is_some());
    let credential = match (&tenant_id, client_id, secret, endpoint, header) {
        (Some(tenant_id), Some(client_id), Some(secret), ..) => {
            Credential::ClientSecret { tenant_id: tenant_id.clone(), client_id, secret }
        }
        (_, client_id, secret, endpoint, header) => {
            if secret.is_some() {
                reader.odd(
                    "AZURE_CLIENT_SECRET",
                    "it is not used, since AZURE_TENANT_ID or AZURE_CLIENT_ID is absent",
                    "set all three, or none",
                );
            }
            match (endpoint, header) {
                (Some(endpoint), Some(header)) => {
                    let (client_id, app) = stood_for(reader, tenant_id.as_deref(), client_id, managed);
                    Credential::ManagedIdentity { endpoint, header, client_id, app }
                }
                _ => Credential::DeveloperTools,
            }
        }
    };
    let additional_tenants = additional_tenants(reader, &credential);
    IdentitySettings { credential, platform, tenant_id, additional_tenants, authority_host }
}

/// Which managed identity it is, and the app registration it stands for: where both are named, and are not the same.
fn stood_for(
    reader: &mut Reader<'_>,
    tenant_id: Option<&str>,
    client_id: Option<String>,
    managed: Option<String>,
) -> (Option<String>, Option<FederatedApp>) {
    let Some(managed) = managed else { return (client_id, None) };
    let app = client_id.filter(|app| !app.eq_ignore_ascii_case(&managed));
    let app = match (app, tenant_id) {
        (Some(client_id), Some(tenant_id)) => Some(FederatedApp { tenant_id: tenant_id.to_owned(), client_id }),
        (Some(_), None) => {
            reader.wrong(
                "AZURE_TENANT_ID",
                "it is absent, and AZURE_CLIENT_ID names an app registration that AZURE_MANAGED_IDENTITY_CLIENT_ID stands for",
                "set it to the tenant of the app registration",
            );
            None
        }
        (None, _) => None,
    };
    (Some(managed), app)
}

fn additional_tenants(reader: &mut Reader<'_>, credential: &Credential) -> AllowedTenants {
    const NAME: &str = "AZURE_ADDITIONALLY_ALLOWED_TENANTS";
    let is_list = |text: &str| {
        let all: Vec<_> = text.split(';').map(str::trim).filter(|part| !part.is_empty()).collect();
        !all.is_empty() && (all == ["*"] || all.iter().all(|part| is_guid(part)))
    };
    let fix = "give the ids (GUIDs) of the tenants with ; between them, or * for all";
    let Some(text) = reader.checked(NAME, is_list, "it is no list of tenants", fix) else {
        return AllowedTenants::None;
    };
    let is_app =
        matches!(credential, Credential::ClientSecret { .. } | Credential::ManagedIdentity { app: Some(_), .. });
    if !is_app {
        reader.odd(
            NAME,
            "it is not used, since only an app registration can be let into other tenants",
            "set AZURE_CLIENT_ID to a multitenant app registration, with a secret or with a managed identity that stands for it",
        );
        return AllowedTenants::None;
    }
    if text.trim() == "*" {
        return AllowedTenants::All;
    }
    let tenants = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    AllowedTenants::These(tenants.map(str::to_ascii_lowercase).collect())
}

fn partner_center(reader: &mut Reader<'_>) -> PartnerCenterSettings {
    const STATES: &str = "PARTNER_CENTER_STATES";
    let endpoint = reader.endpoint_or_default("PARTNER_CENTER_ENDPOINT");
    let tenant_id = reader.directory_id("PARTNER_CENTER_TENANT_ID");
    let client_id = reader.directory_id("PARTNER_CENTER_CLIENT_ID");
    let certificate = certificate(reader, "PARTNER_CENTER_CLIENT_CERTIFICATE").map(AppProof::Certificate);
    let secret = reader.secret("PARTNER_CENTER_CLIENT_SECRET").map(AppProof::Secret);
    let app = match (tenant_id, client_id, certificate.or(secret)) {
        (Some(tenant_id), Some(client_id), Some(proof)) => Some(PartnerCenterApp { tenant_id, client_id, proof }),
        (None, None, None) => None,
        _ => {
            reader.odd(
                "PARTNER_CENTER_CLIENT_SECRET",
                "offers are not watched, since not all of PARTNER_CENTER_TENANT_ID, _CLIENT_ID and _CLIENT_SECRET (or _CLIENT_CERTIFICATE) are there",
                "set all three, or none",
            );
            None
        }
    };
    let states = match reader.text(STATES).map(str::parse::<States>) {
        Some(Ok(states)) => states,
        None => States::default(),
        Some(Err(why)) => {
            let fix = "give a JSON object such as {\"Published/ReadyToPublish\": \"preview\"}; meanings are moving, failed, preview, live and byTarget";
            reader.wrong(STATES, why, fix);
            States::default()
        }
    };
    PartnerCenterSettings { endpoint, app, states }
}

fn certificate(reader: &mut Reader<'_>, name: &str) -> Option<ClientCertificate> {
    match ClientCertificate::from_pem(reader.text(name)?) {
        Ok(certificate) => Some(certificate),
        Err(why) => {
            reader.wrong(name, why, "give certificate and RSA key as PEM, as Key Vault hands them out");
            None
        }
    }
}

fn gdap(reader: &mut Reader<'_>) -> GdapSettings {
    let settings = GdapSettings {
        partner_api_endpoint: reader.endpoint_or_default("PARTNER_API_ENDPOINT"),
        graph_endpoint: reader.endpoint_or_default("GRAPH_ENDPOINT"),
        key_vault_url: reader.endpoint("KEY_VAULT_URL"),
        client_id: reader.directory_id("GDAP_CLIENT_ID"),
        certificate: certificate(reader, "GDAP_CLIENT_CERTIFICATE"),
        token_endpoint: reader
            .word("GDAP_TOKEN_ENDPOINT", &[("v2", TokenEndpoint::V2), ("v1", TokenEndpoint::V1)])
            .unwrap_or_default(),
        secret_name: reader.checked(
            "GDAP_SECRET_NAME",
            |text| text.len() <= 127 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
            "it is not the name of a secret",
            "give up to 127 letters, digits and '-'",
        ),
        consent_state_key: reader
            .checked(
                "CONSENT_STATE_KEY",
                |text| text.len() >= 32,
                "it is shorter than 32 characters",
                "give a long random value, such as the output of openssl rand -base64 48",
            )
            .map(Secret::new),
        public_url: reader.endpoint("PUBLIC_URL"),
    };
    if settings.client_id.is_none() {
        if settings.certificate.is_some() {
            reader.odd(
                "GDAP_CLIENT_CERTIFICATE",
                "it is not used, since GDAP_CLIENT_ID is absent",
                "set both, or none",
            );
        }
        return settings;
    }
    if settings.key_vault_url.is_none() && is_inside_azure(reader) {
        reader.wrong(
            "KEY_VAULT_URL",
            "it is absent, and a file with the GDAP refresh token does not outlive an instance in Azure",
            "set it to the address of the key vault",
        );
    }
    if reader.text("AZURE_TENANT_ID").is_none() {
        reader.wrong("AZURE_TENANT_ID", "it is absent, and GDAP_CLIENT_ID is set", "set it to the partner's tenant");
    }
    if settings.public_url.is_some() != settings.consent_state_key.is_some() {
        reader.odd(
            "CONSENT_STATE_KEY",
            "consent links come back to nobody, since not both of CONSENT_STATE_KEY and PUBLIC_URL are there",
            "set both",
        );
    }
    settings
}

fn jit(reader: &mut Reader<'_>) -> JitSettings {
    let is_group = |text: &str| {
        text.len() <= 90
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'(' | b')'))
            && !text.ends_with('.')
    };
    let group = reader.checked(
        "JIT_RESOURCE_GROUP",
        is_group,
        "it is not the name of a resource group",
        "give managed, or a name of up to 90 letters, digits, '.', '_', '-', '(' and ')'",
    );
    if reader.text("JIT_PRINCIPAL_ID").is_none() && reader.text("JIT_ROLE_ID").is_some() {
        reader.odd(
            "JIT_ROLE_ID",
            "just-in-time access is not asked for, since JIT_PRINCIPAL_ID is absent",
            "set JIT_PRINCIPAL_ID to the object id of the service's identity",
        );
    }
    JitSettings {
        principal_id: reader.guid("JIT_PRINCIPAL_ID"),
        role_id: reader.guid("JIT_ROLE_ID"),
        resource_group: match group {
            Some(name) if !name.eq_ignore_ascii_case("managed") => JitResourceGroup::Named(name),
            _ => JitResourceGroup::Managed,
        },
    }
}

fn notify(reader: &mut Reader<'_>) -> NotifySettings {
    let url = reader.text("NOTIFY_URL").and_then(|text| {
        // Unlike other addresses it may have a query: that is where webhooks carry their secret.
        let why = match endpoint::absolute(text) {
            Ok(url) if url.scheme() == "https" || is_loopback(&url) => return Some(Secret::new(text)),
            Ok(_) => InvalidEndpoint::PlainHttp,
            Err(why) => why,
        };
        reader.wrong("NOTIFY_URL", why, "give an https address, or http to localhost");
        None
    });
    let secret = reader.secret("NOTIFY_SECRET");
    if secret.as_ref().is_some_and(|secret| crate::webhook::key_bytes(secret.expose()).is_none()) {
        reader.wrong(
            "NOTIFY_SECRET",
            "it begins with whsec_, and the rest is not base64",
            "give whsec_ and the output of openssl rand -base64 32, or any other long text",
        );
    }
    if url.is_some() && secret.is_none() {
        reader.wrong(
            "NOTIFY_SECRET",
            "it is absent, and NOTIFY_URL is there: its receiver could not tell our messages from forged ones",
            "set it to whsec_ and the output of openssl rand -base64 32, and give it to the receiver too",
        );
    }
    NotifySettings { url, secret }
}

fn dashboard(reader: &mut Reader<'_>) -> DashboardSettings {
    let key = reader.long_secret("DASHBOARD_KEY");
    let auth = reader.word("DASHBOARD_AUTH", &[("easyauth", DashboardAuth::EasyAuth)]).unwrap_or(DashboardAuth::Key);
    // What App Service sets where its authentication stands before the app.
    let is_on = reader.text("WEBSITE_AUTH_ENABLED").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    if auth == DashboardAuth::EasyAuth && !is_on {
        reader.odd(
            "DASHBOARD_AUTH",
            "it is easyauth, and WEBSITE_AUTH_ENABLED does not say that App Service authentication is on: without it anybody may say who they are",
            "switch it on for the app, or take the setting away",
        );
    }
    DashboardSettings { key, auth }
}

fn default_endpoint(name: &str) -> Endpoint {
    let default = default_of(name).and_then(|default| Endpoint::parse(default).ok());
    default.expect("a test reads the default of every endpoint")
}

#[cfg(test)]
mod tests;
