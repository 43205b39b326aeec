//! `permafresh doctor`: the whole output against every simulator, where all is well and where nothing is.

use std::future::Future;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use permafresh::access::gdap::simulator as gdap;
use permafresh::arm::simulator::{ApplicationSpec, Area, OnRead, Reply, Simulator, SimulatorConfig};
use permafresh::clock::{Clock, SystemClock};
use permafresh::engine::standstill::GdapStandstill;
use permafresh::lighthouse::role::{APPLICATION_OPERATOR, READER, REFRESH};
use permafresh::partner_center::simulator as partner_center;
use permafresh::queue::service_bus::simulator as bus;
use permafresh::store::sqlite::SqliteStore;
use permafresh::store::{Versioned, document};
use serde_json::{Value, json};

use super::{Run, command, run};
use crate::azurite;

const SERVICE: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";
const TENANT: &str = "6a1b3c5d-0e2f-4a6b-8c7d-9e0f1a2b3c44";
const APPLICATION: &str = "/subscriptions/7c0d9b8a-1111-4222-8333-444455556666/resourceGroups/rg-apps/providers/Microsoft.Solutions/applications/ledger";
/// What nobody may see.
const SECRETS: [&str; 4] = [
    "the-sig-of-notifications",
    "the-key-of-the-dashboard",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "of-the-webhook",
];

/// Azure for one test.
struct Azure {
    arm: Simulator,
    bus: bus::Simulator,
    partner: partner_center::Simulator,
    runtime: tokio::runtime::Runtime,
}

impl Azure {
    /// In which everything is as it should be.
    fn start() -> Self {
        Self::with_queues(&["rollouts", "refreshes"])
    }

    fn with_queues(queues: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        let bus = bus::SimulatorConfig { queues, keep_requests: 100, ..bus::SimulatorConfig::default() };
        let (arm, bus, partner) = runtime.block_on(async {
            let arm = Simulator::start(SimulatorConfig { keep_requests: 100, ..SimulatorConfig::default() });
            let partner = partner_center::Simulator::start(partner_center::SimulatorConfig::default());
            (arm.await.unwrap(), bus::Simulator::start(bus).unwrap(), partner.await.unwrap())
        });
        arm.add_application(ApplicationSpec::new(APPLICATION.parse().unwrap()));
        arm.add_provider("Microsoft.Solutions", &[(REFRESH, false)]);
        let operator = json!([{"actions": ["*/read", "Microsoft.Solutions/*/action"]}]);
        let properties = json!({"roleName": "Operator", "type": "BuiltInRole", "permissions": operator});
        arm.define_role(APPLICATION_OPERATOR, json!({"name": APPLICATION_OPERATOR, "properties": properties}));
        partner.publish(&partner_center::Publication::live("1.4.0", REFRESH));
        Self { arm, bus, partner, runtime }
    }

    fn wait_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The command, with all that a service in Azure has.
    fn doctor(&self, folder: &Path, storage: &str, arguments: &[&str]) -> Command {
        let mut command = self.local_doctor(folder, arguments);
        let partner = self.partner.endpoint().as_str().trim_end_matches('/');
        command.envs([
            ("STATE_STORE", "tables"),
            ("AzureWebJobsStorage", storage),
            ("ServiceBusConnection", &self.bus.connection_string()),
            ("AZURE_AUTHORITY_HOST", partner),
            ("PARTNER_CENTER_ENDPOINT", partner),
            ("PARTNER_CENTER_TENANT_ID", "5d0f7a10-0000-4000-8000-00000000f001"),
            ("PARTNER_CENTER_CLIENT_ID", "0b1ec700-0000-4000-8000-00000000aa01"),
            ("PARTNER_CENTER_CLIENT_SECRET", "simulated"),
            ("OFFERS", r#"[{"publisher": "fabrikam", "offer": "ledger", "plans": [{"plan": "standard"}]}]"#),
            ("NOTIFICATION_SIG", SECRETS[0]),
            ("DASHBOARD_KEY", SECRETS[1]),
            ("NOTIFY_SECRET", SECRETS[2]),
            ("NOTIFY_URL", &format!("https://hooks.example/{}", SECRETS[3])),
        ]);
        command
    }

    /// The command, with nothing but Azure Resource Manager.
    fn local_doctor(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = command(&["doctor"]);
        command
            .args(arguments)
            .current_dir(folder)
            .env("ARM_ENDPOINT", self.arm.endpoint().as_str().trim_end_matches('/'))
            .env("IDENTITY_ENDPOINT", self.arm.identity_endpoint())
            .env("IDENTITY_HEADER", self.arm.identity_header())
            .env("AZURE_TENANT_ID", TENANT);
        command
    }

    /// What is another each time, by its name.
    fn mask(&self, run: Run) -> Run {
        let mut out = run.out;
        for (url, name) in
            [(self.arm.endpoint(), "[ARM]"), (self.bus.endpoint(), "[BUS]"), (self.partner.endpoint(), "[PARTNER]")]
        {
            out = out.replace(url.as_str().trim_end_matches('/'), name);
        }
        for (before, after) in [("next run ", " UTC"), ("clock is ", " s "), ("RequestId:", "\n"), ("Time:", "\n")] {
            let mut masked = String::new();
            let mut rest = out.as_str();
            while let Some((head, tail)) = rest.split_once(before) {
                let end = tail.find(after).unwrap_or(tail.len());
                masked += &format!("{head}{before}[…]");
                rest = &tail[end..];
            }
            out = masked + rest;
        }
        Run { out, ..run }
    }
}

/// A storage account whose tables are there.
fn storage_with_tables(azure: &Azure) -> String {
    azure.wait_for(async {
        let connection = azurite::connection_string("doctor");
        azurite::make_tables("doctor", Arc::new(SystemClock)).await;
        connection
    })
}

/// The outcome of each check, by its name.
fn outcomes(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    report["checks"].as_array().unwrap().iter().map(|check| (text(&check["name"]), text(&check["outcome"]))).collect()
}

fn outcome(report: &Value, name: &str) -> String {
    outcomes(report).into_iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}: {report}")).1
}

fn assert_no_secret(run: &Run, azure: &Azure) {
    let keys = [azure.bus.connection_string().rsplit_once("SharedAccessKey=").unwrap().1.to_owned()];
    for secret in SECRETS
        .iter()
        .copied()
        .chain(keys.iter().map(String::as_str))
        .chain([azure.arm.identity_header(), "AccountKey"])
    {
        let secret = secret.split(';').next().unwrap();
        assert!(!run.out.contains(secret) && !run.err.contains(secret), "{secret} was shown: {}", run.shown());
    }
}

#[test]
fn where_all_is_well_every_check_says_what_it_tried_and_nothing_has_to_be_done() {
    let (azure, folder) = (Azure::start(), tempfile::tempdir().unwrap());
    azure.arm.assign_role(&APPLICATION[..51], SERVICE, APPLICATION_OPERATOR);
    let storage = storage_with_tables(&azure);
    let arguments = ["--application", APPLICATION, "--principal", SERVICE];
    let whole = azure.mask(run(azure.doctor(folder.path(), &storage, &arguments)));
    assert_no_secret(&whole, &azure);
    insta::assert_snapshot!("doctor_good", whole.shown());

    let json = run(azure.doctor(folder.path(), &storage, &[&arguments[..], &["--json"]].concat()));
    assert_no_secret(&json, &azure);
    let report: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &report["counts"]["failed"], &report["counts"]["warnings"]), (0, &json!(0), &json!(0)));
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["tried"].is_string() && check["means"].is_string()), "{report}");

    assert_eq!(azure.arm.stats().posts, 0, "nothing is posted");
    assert!(azure.arm.requests().iter().all(|request| request.method == "GET"), "Azure is only read");
    assert!(azure.bus.ids("rollouts").is_empty() && azure.bus.ids("refreshes").is_empty(), "nothing is sent");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "and nothing is left behind");
}

#[test]
fn where_nothing_is_well_each_check_says_what_that_means_and_what_to_do() {
    let (azure, folder) = (Azure::with_queues(&["rollouts"]), tempfile::tempdir().unwrap());
    let late = httpdate::fmt_http_date((SystemClock.now() + Duration::from_secs(3_600)).into());
    let empty = Reply::json(200, json!({"value": []}).to_string()).with("date", late);
    azure.arm.on_area(Area::Subscriptions, std::iter::repeat_n(empty, 3));
    azure.arm.on_area(Area::Operations, [Reply::forbidden()]);
    azure.arm.on_read(&APPLICATION.parse().unwrap(), [OnRead::Reply(Reply::resource_not_found())]);
    azure.arm.assign_role(APPLICATION, SERVICE, READER);
    let all = json!([{"actions": ["*"], "notActions": ["*/read"]}]);
    let deny = json!({"denyAssignmentName": "Only the owners", "scope": APPLICATION, "permissions": all,
        "principals": [{"id": SERVICE, "type": "ServicePrincipal"}], "excludePrincipals": []});
    azure.arm.deny(APPLICATION, deny);
    let forbidden = partner_center::OnCall::Answer(Reply::forbidden());
    azure.partner.on(partner_center::Call::Product, [forbidden]);
    // Where nobody answers.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let storage =
        format!("DefaultEndpointsProtocol=http;AccountName=doctor;AccountKey={key};TableEndpoint=http://{free}/doctor");
    let mut command = azure.doctor(folder.path(), &storage, &["--application", APPLICATION, "--principal", SERVICE]);
    command
        .env("MODE", "observe")
        .env("NOTIFICATION_SIG", "")
        .env("DASHBOARD_KEY", "")
        .env("SYNC_SCHEDULE", "0 0 25 * * *");
    let whole = azure.mask(run(command));
    assert_no_secret(&whole, &azure);
    assert!(!whole.out.contains(key), "the account's key was shown");
    insta::assert_snapshot!("doctor_bad", whole.shown().replace(&free, "[NOBODY]"));
}

#[test]
fn a_check_that_never_ends_is_given_up_and_holds_up_no_other() {
    let (azure, folder) = (Azure::start(), tempfile::tempdir().unwrap());
    azure.bus.on(bus::Call::Receive, std::iter::repeat_n(bus::OnCall::Hang, 2));
    let mut command = azure.local_doctor(folder.path(), &["--json", "--timeout", "2"]);
    command.env("ServiceBusConnection", azure.bus.connection_string());
    let ended = run(command);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(ended.code, 1, "{report}");
    for queue in ["queue rollouts", "queue refreshes"] {
        assert_eq!(outcome(&report, queue), "failed");
    }
    let hung = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "queue rollouts").unwrap();
    assert_eq!(hung["means"], "nothing came back within 2 s");
    for sound in ["identity", "clock", "Azure Resource Manager", "refresh operation", "role"] {
        assert_eq!(outcome(&report, sound), "ok", "{sound}: {report}");
    }
    assert_eq!((outcome(&report, "store"), outcome(&report, "function Notification")), ("note".into(), "note".into()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it makes no store where there is none");
}

#[test]
fn a_machine_without_an_identity_is_told_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = command(&["doctor", "--json"]);
    command.current_dir(folder.path()).env("ARM_ENDPOINT", format!("http://{free}"));
    command.env("IDENTITY_ENDPOINT", format!("http://{free}/token")).env("IDENTITY_HEADER", "the-header");
    let ended = run(command);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, outcome(&report, "identity")), (1, "failed".to_owned()), "{report}");
    assert_eq!(outcome(&report, "Azure Resource Manager"), "failed");
    for check in report["checks"].as_array().unwrap().iter().filter(|check| check["outcome"] != "ok") {
        assert!(check["toDo"].as_str().is_some_and(|to_do| !to_do.is_empty()), "{check}");
    }
    assert!(!ended.out.contains("the-header"), "{}", ended.out);
}

#[test]
fn settings_that_are_wrong_are_all_named_before_anything_is_asked() {
    let (azure, folder) = (Azure::start(), tempfile::tempdir().unwrap());
    let mut command = azure.local_doctor(folder.path(), &[]);
    command.env("MODE", "perhaps").env("RETENTION_DAYS", "many");
    let ended = run(command);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""));
    assert!(ended.err.contains("MODE") && ended.err.contains("RETENTION_DAYS"), "{}", ended.err);
    assert!(azure.arm.requests().is_empty());
    let ended = run(azure.local_doctor(folder.path(), &["--application", "ledger"]));
    assert_eq!(ended.code, 2, "{}", ended.shown());
}

#[test]
fn the_key_vault_and_gdap_are_asked_where_they_are_set_up() {
    let (azure, folder) = (Azure::start(), tempfile::tempdir().unwrap());
    let entra = azure.wait_for(gdap::Simulator::start(gdap::SimulatorConfig::default())).unwrap();
    let endpoint = entra.endpoint().as_str().trim_end_matches('/').to_owned();
    let report = |code: i32| {
        let config = entra.config();
        let mut command = azure.local_doctor(folder.path(), &["--json"]);
        command.envs([
            ("AZURE_TENANT_ID", config.partner_tenant.as_str()),
            ("AZURE_AUTHORITY_HOST", &endpoint),
            ("GDAP_CLIENT_ID", &config.client_id),
            ("KEY_VAULT_URL", &endpoint),
            ("PARTNER_API_ENDPOINT", &endpoint),
            ("GRAPH_ENDPOINT", &endpoint),
        ]);
        let ended = run(command);
        for version in entra.versions() {
            assert!(!ended.out.contains(&version.value) && !ended.err.contains(&version.value), "the token was shown");
        }
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(ended.code, code, "{report}");
        (outcome(&report, "key vault"), outcome(&report, "GDAP"))
    };
    let both = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    assert_eq!(report(1), both("failed", "failed"), "nobody has signed in");
    let token = entra.mint();
    entra.put_secret(&token);
    assert_eq!(report(0), both("ok", "ok"));
    entra.revoke(&token);
    assert_eq!(report(1), both("ok", "failed"), "it is there, and of no use");
    entra.on(gdap::Call::ReadSecret, std::iter::repeat_n(gdap::OnCall::Answer(gdap::Reply::text(403, "no")), 2));
    assert_eq!(report(1), both("failed", "failed"));
}

#[test]
fn an_app_that_a_managed_identity_stands_for_is_told_apart_from_the_identity() {
    let (azure, folder) = (Azure::start(), tempfile::tempdir().unwrap());
    let entra = azure.wait_for(gdap::Simulator::start(gdap::SimulatorConfig::default())).unwrap();
    let refused = gdap::OnCall::Answer(gdap::Reply::oauth(400, "unauthorized_client", 70_021));
    entra.on(gdap::Call::Token, std::iter::repeat_n(refused, 20));
    let mut command = azure.local_doctor(folder.path(), &["--json"]);
    command.envs([
        ("AZURE_TENANT_ID", entra.config().partner_tenant.as_str()),
        ("AZURE_CLIENT_ID", &entra.config().client_id),
        ("AZURE_MANAGED_IDENTITY_CLIENT_ID", "11112222-3333-4444-8555-666677778888"),
        ("AZURE_AUTHORITY_HOST", entra.endpoint().as_str().trim_end_matches('/')),
    ]);
    let ended = run(command);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(ended.code, 1, "{report}");
    assert_eq!(outcome(&report, "federated identity"), "ok", "the managed identity has its token");
    let finding = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "identity").unwrap();
    assert_eq!(finding["outcome"], "failed");
    let tried = finding["tried"].as_str().unwrap();
    assert!(tried.contains(&entra.config().client_id) && tried.contains("managed identity 11112222"), "{tried}");
    assert!(finding["toDo"].as_str().unwrap().contains("federated credential"), "{finding}");
}

#[test]
fn a_standstill_that_the_service_has_noted_is_named_with_its_beginning() {
    let (azure, folder) = (Azure::start(), tempfile::tempdir().unwrap());
    let entra = azure.wait_for(gdap::Simulator::start(gdap::SimulatorConfig::default())).unwrap();
    let endpoint = entra.endpoint().as_str().trim_end_matches('/').to_owned();
    let token = entra.mint();
    entra.put_secret(&token);
    let store = SqliteStore::open(&folder.path().join("permafresh.db")).unwrap();
    let since = "2026-03-08T10:00:00Z".parse().unwrap();
    let noted =
        GdapStandstill { since, code: "SignInNeeded".into(), why: "a person has to sign in".into(), next_try: since };
    assert!(azure.wait_for(document::save(&store, &Versioned::new(noted))).unwrap().is_stored());
    drop(store);
    let gdap = || {
        let mut command = azure.local_doctor(folder.path(), &["--json"]);
        command.envs([
            ("AZURE_TENANT_ID", entra.config().partner_tenant.as_str()),
            ("AZURE_AUTHORITY_HOST", &endpoint),
            ("GDAP_CLIENT_ID", &entra.config().client_id),
            ("KEY_VAULT_URL", &endpoint),
            ("PARTNER_API_ENDPOINT", &endpoint),
            ("GRAPH_ENDPOINT", &endpoint),
        ]);
        let report: Value = serde_json::from_str(&run(command).out).unwrap();
        report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "GDAP").unwrap().clone()
    };
    let finding = gdap();
    assert_eq!(finding["outcome"], "warning");
    assert!(finding["means"].as_str().unwrap().contains("since 2026-03-08 10:00 UTC"), "{finding}");
    entra.revoke(&token);
    let finding = gdap();
    assert_eq!(finding["outcome"], "failed");
    let means = finding["means"].as_str().unwrap();
    assert!(means.contains("stands still for every customer since 2026-03-08 10:00 UTC"), "{means}");
    assert!(means.contains("gdap sign-in"), "{means}");
}
