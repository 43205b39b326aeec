//! Azurite, Microsoft's emulator of Azure Storage: installed on first use as `tests/azurite/package-lock.json` says, and
//! started once for this process, on a free port, with nothing kept.
//!
//! Without Node.js, npm and the registry the tests that need it fail: they are never skipped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use permafresh::access::credential::TokenSource;
use permafresh::clock::Clock;
use permafresh::store::tables::{TablesConfig, TablesCredential, TablesStore};
use url::Url;
use uuid::Uuid;

use crate::manual_clock::ManualClock;
use crate::npm;

/// Accounts for services whose settings name no tables of their own: one for each test that starts such a service.
const ACCOUNTS: &[&str] = &["packaged", "localwithbus", "localwithout", "doctor"];

/// What to set as `AzureWebJobsStorage`, for an account that nobody else uses.
pub fn connection_string(account: &str) -> String {
    assert!(ACCOUNTS.contains(&account), "{account} is not among the accounts");
    let mut tables = endpoint();
    tables.set_path(account);
    let key = azure_storage::EMULATOR_ACCOUNT_KEY;
    format!("DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};TableEndpoint={tables}")
}

/// Where its tables are.
pub fn endpoint() -> Url {
    // Kept for as long as the process lives: the emulator ends when its stdin does.
    static AZURITE: OnceLock<(Url, Child)> = OnceLock::new();
    AZURITE.get_or_init(start).0.clone()
}

fn start() -> (Url, Child) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/azurite");
    // Without its own account Azurite would not have it either.
    let accounts = [azure_storage::EMULATOR_ACCOUNT].into_iter().chain(ACCOUNTS.iter().copied());
    let accounts: Vec<_> =
        accounts.map(|account| format!("{account}:{}", azure_storage::EMULATOR_ACCOUNT_KEY)).collect();
    let mut azurite = Command::new("node")
        .env("AZURITE_ACCOUNTS", accounts.join(";"))
        .arg(sources.join("serve.js"))
        .arg(npm::installed(&sources))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node.js is needed to run Azurite");
    let mut line = String::new();
    BufReader::new(azurite.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening ").unwrap_or_else(|| panic!("Azurite did not start: {line:?}"));
    (Url::parse(&format!("{address}/devstoreaccount1")).unwrap(), azurite)
}

/// Tables of their own in Azurite.
pub fn new_tables() -> TablesConfig {
    tables_at(endpoint())
}

/// Tables of their own behind another address of Azurite.
pub fn tables_at(endpoint: Url) -> TablesConfig {
    let mut config = TablesConfig::development(Some(endpoint));
    config.table_prefix = format!("t{}", Uuid::new_v4().simple());
    config
}

/// Makes the tables that a service has in this account.
pub async fn make_tables(account: &str, clock: Arc<dyn Clock>) {
    assert!(ACCOUNTS.contains(&account), "{account} is not among the accounts");
    let mut tables = endpoint();
    tables.set_path(account);
    let key = azure_storage::EMULATOR_ACCOUNT_KEY.to_owned();
    let config = TablesConfig::new(tables, TablesCredential::SharedKey { account: account.to_owned(), key });
    connect(&config, clock).create_tables().await.unwrap();
}

/// A store in some tables.
pub fn open(config: &TablesConfig, clock: &ManualClock) -> TablesStore {
    connect(config, Arc::new(clock.clone()))
}

fn connect(config: &TablesConfig, clock: Arc<dyn Clock>) -> TablesStore {
    // Another test may have been first; either way there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let tokens = TokenSource::new(
        Default::default(),
        {
            let http = http.clone();
            move || Ok(http)
        },
        clock.clone(),
    );
    TablesStore::connect(config, http, Arc::new(tokens), clock).unwrap()
}
