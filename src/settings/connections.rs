//! Connections to Azure Storage and Service Bus, written as the Functions host reads them.
//!
//! A plain value is a connection string and wins; otherwise `NAME__…` settings name an identity
//! (contracts/custom-handler.md §4). Refused: shared access signatures (they run out), entity paths, and plain http to
//! another machine.

use std::collections::BTreeMap;

use url::Url;

use super::Secret;
use super::endpoint::{Endpoint, is_loopback};
use super::reader::Reader;
use crate::store::tables::{TablesConfig, TablesCredential};

/// How to send to Service Bus.
#[derive(Clone, Debug)]
pub enum ServiceBusConnection {
    /// With the key of a shared access policy.
    SharedKey {
        /// The namespace's host name, such as `fabrikam.servicebus.windows.net`.
        namespace: String,
        /// The policy's name.
        key_name: String,
        /// The policy's key.
        key: Secret,
    },
    /// With an identity.
    Identity {
        /// The namespace's host name.
        namespace: String,
        /// Which identity.
        identity: ConnectionIdentity,
    },
    /// The emulator on this machine, plain http.
    Emulator {
        /// Where it listens.
        endpoint: Endpoint,
        /// The policy's name.
        key_name: String,
        /// The policy's key.
        key: Secret,
    },
}

/// How to reach Table Storage.
#[derive(Clone, Debug)]
pub enum StorageConnection {
    /// Azurite on this machine, with its well-known account (`UseDevelopmentStorage=true`).
    Development,
    /// With an account key.
    SharedKey {
        /// The account's name.
        account: String,
        /// The account's key, base64.
        key: Secret,
        /// The address of its tables.
        table_endpoint: Endpoint,
    },
    /// With an identity.
    Identity {
        /// The address of its tables.
        table_endpoint: Endpoint,
        /// Which identity.
        identity: ConnectionIdentity,
    },
}

impl StorageConnection {
    /// The tables of this account, for the store. An identity is that of the tokens which the store is given.
    pub fn tables(&self) -> TablesConfig {
        match self {
            Self::Development => TablesConfig::development(None),
            Self::SharedKey { account, key, table_endpoint } => {
                let credential = TablesCredential::SharedKey { account: account.clone(), key: key.expose().to_owned() };
                TablesConfig::new(table_endpoint.url().clone(), credential)
            }
            Self::Identity { table_endpoint, .. } => {
                TablesConfig::new(table_endpoint.url().clone(), TablesCredential::Identity)
            }
        }
    }
}

/// The identity that a connection names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionIdentity {
    /// Whatever [`super::IdentitySettings`] choose.
    Default,
    /// A managed identity (`__credential` = `managedidentity`).
    Managed {
        /// The client id of a user-assigned one; the system-assigned one otherwise.
        client_id: Option<String>,
    },
}

const STORAGE: &str = "AzureWebJobsStorage";
const SERVICE_BUS: &str = "ServiceBusConnection";
const PORTAL: &str = "copy the connection string from the Azure portal, or name an identity instead";

/// The Service Bus connection, where there is one.
pub(super) fn service_bus(reader: &mut Reader<'_>) -> Option<ServiceBusConnection> {
    // The host looks each connection up with this prefix too.
    let prefixed = format!("AzureWebJobs{SERVICE_BUS}");
    for name in [SERVICE_BUS, &prefixed] {
        if let Some(text) = reader.text(name) {
            return service_bus_string(reader, name, text);
        }
        let host_name = format!("{name}__fullyQualifiedNamespace");
        if reader.text(&host_name).is_some() {
            let namespace = reader.checked(
                &host_name,
                is_host_name,
                "it is not a host name",
                "give the host name alone, such as fabrikam.servicebus.windows.net",
            );
            let identity = identity(reader, name);
            return Some(ServiceBusConnection::Identity { namespace: namespace?, identity: identity? });
        }
        refuse_identity_without_address(reader, name, &host_name);
    }
    None
}

fn service_bus_string(reader: &mut Reader<'_>, name: &str, text: &str) -> Option<ServiceBusConnection> {
    let mut parts = parts(reader, name, text)?;
    if parts.remove("entitypath").is_some() {
        reader.wrong(name, "it names one queue (EntityPath)", "use a policy of the namespace, not of one queue");
        return None;
    }
    if parts.contains_key("sharedaccesssignature") {
        reader.wrong(name, "it carries a shared access signature, which runs out", PORTAL);
        return None;
    }
    let (Some(endpoint), Some(key_name), Some(key)) =
        (parts.get("endpoint"), parts.get("sharedaccesskeyname"), parts.get("sharedaccesskey"))
    else {
        reader.wrong(name, "it lacks Endpoint, SharedAccessKeyName or SharedAccessKey", PORTAL);
        return None;
    };
    let (key_name, key) = (key_name.clone(), Secret::new(key));
    let url = Url::parse(endpoint).ok().filter(|url| url.scheme() == "sb");
    let Some((url, host)) = url.and_then(|url| url.host_str().map(str::to_owned).map(|host| (url, host))) else {
        reader.wrong(name, "its Endpoint is not an address such as sb://fabrikam.servicebus.windows.net/", PORTAL);
        return None;
    };
    if !parts.get("usedevelopmentemulator").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        if !is_host_name(&host) || url.port().is_some() {
            reader.wrong(name, "its Endpoint is not the host name of a namespace", PORTAL);
            return None;
        }
        return Some(ServiceBusConnection::SharedKey { namespace: host, key_name, key });
    }
    // `sb` is no special scheme to the parser of URLs, so hosts are read anew as http.
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let endpoint = Endpoint::parse(&format!("http://{host}{port}"));
    if endpoint.as_ref().is_ok_and(|endpoint| is_loopback(endpoint.url())) {
        return endpoint.ok().map(|endpoint| ServiceBusConnection::Emulator { endpoint, key_name, key });
    }
    reader.wrong(
        name,
        "it names an emulator on another machine, which would be plain http",
        "run the emulator on this machine, such as Endpoint=sb://localhost;…;UseDevelopmentEmulator=true",
    );
    None
}

/// The storage connection, where there is one.
pub(super) fn storage(reader: &mut Reader<'_>) -> Option<StorageConnection> {
    if let Some(text) = reader.text(STORAGE) {
        return storage_string(reader, text);
    }
    let (account, address) = (format!("{STORAGE}__accountName"), format!("{STORAGE}__tableServiceUri"));
    if reader.text(&address).is_some() {
        let table_endpoint = reader.endpoint(&address);
        let identity = identity(reader, STORAGE);
        return Some(StorageConnection::Identity { table_endpoint: table_endpoint?, identity: identity? });
    }
    if reader.text(&account).is_some() {
        let name =
            reader.checked(&account, is_account, "it is not the name of an account", "give 3 to 24 letters and digits");
        let identity = identity(reader, STORAGE);
        let table_endpoint = public_tables(&name?, "https", "core.windows.net")?;
        return Some(StorageConnection::Identity { table_endpoint, identity: identity? });
    }
    refuse_identity_without_address(reader, STORAGE, &account);
    None
}

fn storage_string(reader: &mut Reader<'_>, text: &str) -> Option<StorageConnection> {
    let parts = parts(reader, STORAGE, text)?;
    if parts.get("usedevelopmentstorage").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        return Some(StorageConnection::Development);
    }
    if parts.contains_key("sharedaccesssignature") {
        reader.wrong(STORAGE, "it carries a shared access signature, which runs out", PORTAL);
        return None;
    }
    let (Some(account), Some(key)) =
        (parts.get("accountname").filter(|name| is_account(name)), parts.get("accountkey"))
    else {
        reader.wrong(STORAGE, "it lacks AccountName or AccountKey", PORTAL);
        return None;
    };
    let table_endpoint = match parts.get("tableendpoint") {
        Some(address) => Endpoint::parse(address).ok(),
        None => {
            let scheme = parts.get("defaultendpointsprotocol").map_or("https", String::as_str);
            let suffix = parts.get("endpointsuffix").map_or("core.windows.net", String::as_str);
            public_tables(account, scheme, suffix)
        }
    };
    let Some(table_endpoint) = table_endpoint else {
        let why = "its tables are neither at an https address nor on this machine";
        reader.wrong(STORAGE, why, "use DefaultEndpointsProtocol=https, or a TableEndpoint of Azurite on this machine");
        return None;
    };
    Some(StorageConnection::SharedKey { account: account.clone(), key: Secret::new(key), table_endpoint })
}

fn public_tables(account: &str, scheme: &str, suffix: &str) -> Option<Endpoint> {
    Endpoint::parse(&format!("{scheme}://{account}.table.{suffix}")).ok()
}

fn identity(reader: &mut Reader<'_>, name: &str) -> Option<ConnectionIdentity> {
    let credential = format!("{name}__credential");
    let client_id = reader.directory_id(&format!("{name}__clientId"));
    if reader.text(&credential).is_none() && client_id.is_none() {
        return Some(ConnectionIdentity::Default);
    }
    if reader.text(&credential).is_none_or(|word| word.eq_ignore_ascii_case("managedidentity")) {
        return Some(ConnectionIdentity::Managed { client_id });
    }
    reader.wrong(credential, "it is not a credential we know", "give managedidentity, or leave it out");
    None
}

fn refuse_identity_without_address(reader: &mut Reader<'_>, name: &str, missing: &str) {
    let parts = ["credential", "clientId"].map(|part| format!("{name}__{part}"));
    if parts.iter().any(|part| reader.text(part).is_some()) {
        reader.wrong(missing, "it is missing beside the identity", "say where to connect to, or remove the identity");
    }
}

/// `Key=value;…` with names in lower case, since Azure compares them without case; a value may hold `=`.
fn parts(reader: &mut Reader<'_>, name: &str, text: &str) -> Option<BTreeMap<String, String>> {
    let mut parts = BTreeMap::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            reader.wrong(name, "it is not a connection string: a part has no '='", PORTAL);
            return None;
        };
        if parts.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned()).is_some() {
            reader.wrong(name, "it is not a connection string: a part is there twice", PORTAL);
            return None;
        }
    }
    Some(parts)
}

fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_account(text: &str) -> bool {
    (3..=24).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
