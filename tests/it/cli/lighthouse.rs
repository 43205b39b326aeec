//! `permafresh lighthouse …`: files written and judged, and delegations looked at through the ARM simulator.

use std::fs;
use std::path::Path;

use permafresh::arm::simulator::{Reply, Simulator, SimulatorConfig};
use permafresh::lighthouse::role::APPLICATION_OPERATOR;
use serde_json::{Value, json};

use super::{Run, command, run};

const TENANT: &str = "6a1b3c5d-0e2f-4a6b-8c7d-9e0f1a2b3c44";
const SERVICE: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";
const SUPPORT: &str = "5d7a4f7e-2f86-4b7a-a7f9-3c5f4f0c9d55";
const SUBSCRIPTION: &str = "/subscriptions/7c0d9b8a-1111-4222-8333-444455556666";
const GROUP: &str = "/subscriptions/7c0d9b8a-1111-4222-8333-444455556666/resourceGroups/rg-northlight";

fn lighthouse(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = command(&["lighthouse"]);
    command.current_dir(folder).args(arguments);
    run(command)
}

fn template(folder: &Path, arguments: &[&str]) -> Run {
    let ours = ["template", "--tenant", TENANT, "--principal", SERVICE, "--offer", "Northlight refresh"];
    lighthouse(folder, &[&ours, arguments].concat())
}

#[test]
fn a_template_is_written_with_its_parameters_and_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--scope", "resource-group", "--support-group", SUPPORT, "--longest", "PT150M", "--jit"];
    let run = template(folder.path(), &arguments);
    insta::assert_snapshot!("lighthouse_template", run.shown());
    let files = ["lighthouse.json", "lighthouse.parameters.json"];
    let [written, _] = files.map(|file| fs::read_to_string(folder.path().join(file)).unwrap());
    assert!(written.contains(r#""maximumActivationDuration": "PT2H30M""#), "durations are told by value");

    let judged =
        lighthouse(folder.path(), &[&["validate"], &files[..], &["--principal", SERVICE, "--licensed"]].concat());
    assert_eq!(judged.code, 0, "{}", judged.shown());

    let again = template(folder.path(), &arguments);
    assert_eq!((again.code, again.out.as_str()), (1, ""));
    assert!(again.err.contains("lighthouse.json is there already"), "{}", again.err);
    let forced = template(folder.path(), &[&arguments[..], &["--force"]].concat());
    assert_eq!(forced.code, 0);
    assert_eq!(fs::read_to_string(folder.path().join(files[0])).unwrap(), written, "the same bytes");
    let json = template(folder.path(), &[&arguments[..], &["--force", "--json"]].concat());
    let said: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(said, serde_json::json!({"template": files[0], "parameters": files[1]}));
}

#[test]
fn options_that_do_not_fit_are_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--scope", "subscription", "--resource-group", "rg"][..],
        &["--scope", "resource-group", "--resource-group", "a", "--resource-group", "b"],
        &["--scope", "resource-groups"],
        &["--scope", "tenant"],
        &["--scope", "subscription", "--support-group", "support@northlight.example"],
        &["--scope", "subscription", "--approver", SUPPORT],
        &["--scope", "subscription", "--support-group", SUPPORT, "--longest", "PT9H"],
        &["--scope", "subscription", "--support-group", SUPPORT, "--longest", "8h"],
        &["--scope", "subscription", "--support-group", SERVICE],
        &["--scope", "subscription", "--support-group", "00000000-0000-0000-0000-000000000000"],
        &["--scope", "subscription", "--out", "template.txt"],
    ] {
        let run = template(folder.path(), arguments);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.lines().last().unwrap().starts_with("hint: "), "{}", run.err);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn findings_name_file_place_rule_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let broken = include_str!("../../data/lighthouse/parameters.invalid.json");
    fs::write(folder.path().join("broken.json"), broken).unwrap();
    fs::write(folder.path().join("no.json"), "{\"resources\": \u{1b}[2J").unwrap();
    let arguments = ["validate", "broken.json", "no.json", "--principal", SERVICE];
    insta::assert_snapshot!("lighthouse_validate", lighthouse(folder.path(), &arguments).shown());
    let json = lighthouse(folder.path(), &[&arguments[..], &["--json"]].concat());
    assert_eq!(json.code, 1);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json["errors"].as_u64(), json["warnings"].as_u64()), (Some(6), Some(1)));
    assert_eq!(json["findings"][0]["file"], "no.json");
    assert!(json["findings"].as_array().unwrap().iter().any(|finding| finding["rule"] == "L17"
        && finding["severity"] == "error"
        && finding["path"] == "$.eligibleAuthorizations[2].justInTimeAccessPolicy"));
}

#[test]
fn warnings_fail_only_where_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(template(folder.path(), &["--scope", "subscription", "--support-group", SUPPORT]).code, 0);
    let judged = |more: &[&str]| lighthouse(folder.path(), &[&["validate", "lighthouse.json"], more].concat()).code;
    assert_eq!((judged(&[]), judged(&["--deny-warnings"]), judged(&["--deny-warnings", "--licensed"])), (0, 1, 0));
    assert_eq!(judged(&["--cloud", "china", "--licensed"]), 1);
    assert_eq!(judged(&["--customer-tenant", TENANT]), 1);
}

#[test]
fn what_others_say_of_roles_and_principals_is_taken_into_account() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(template(folder.path(), &["--scope", "subscription"]).code, 0);
    let write = |file: &str, value: Value| fs::write(folder.path().join(file), value.to_string()).unwrap();
    write(
        "roles.json",
        json!([{"name": APPLICATION_OPERATOR, "roleName": "Operator", "roleType": "CustomRole", "permissions": []}]),
    );
    write("graph.json", json!({"value": [{"@odata.type": "#microsoft.graph.application", "id": SERVICE}]}));
    write("odd.json", json!({"value": 7}));
    let judged = |more: &[&str]| lighthouse(folder.path(), &[&["validate", "lighthouse.json"], more].concat());
    let roles = judged(&["--roles", "roles.json"]);
    assert!(roles.code == 1 && roles.out.contains("Operator is a custom role"), "{}", roles.shown());
    let graph = judged(&["--principals", "graph.json"]);
    assert!(graph.code == 1 && graph.out.contains("app registration"), "{}", graph.shown());
    for bad in [&["--roles", "odd.json"][..], &["--principals", "odd.json"], &["--roles", "/nonexistent"]] {
        assert_eq!(judged(bad).code, 2, "{bad:?}");
    }
    assert_eq!(lighthouse(folder.path(), &["validate", "/nonexistent.json"]).code, 2);
    assert_eq!(lighthouse(folder.path(), &["validate", "."]).code, 2);
}

/// A simulated Azure, and the binary that asks it.
struct Azure {
    simulator: Simulator,
    _runtime: tokio::runtime::Runtime,
}

impl Azure {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = SimulatorConfig { keep_requests: 100, page_size: 1, ..SimulatorConfig::default() };
        let simulator = runtime.block_on(Simulator::start(config)).unwrap();
        Self { simulator, _runtime: runtime }
    }

    /// With the assignment of the contract's example on `scope`, and the role of it defined.
    fn delegated(scope: &str) -> Self {
        let azure = Self::start();
        let example: Value = serde_json::from_str(include_str!("../../data/lighthouse/assignments.json")).unwrap();
        let mut assignment = example["value"][0].clone();
        assignment["id"] =
            format!("{scope}/providers/Microsoft.ManagedServices/registrationAssignments/31415926").into();
        azure.simulator.add_registration_assignment(scope, assignment);
        let permissions = json!([{"actions": ["*/read", "Microsoft.Solutions/*/action"], "notActions": []}]);
        let properties = json!({"roleName": "Operator", "type": "BuiltInRole", "permissions": permissions});
        azure
            .simulator
            .define_role(APPLICATION_OPERATOR, json!({"name": APPLICATION_OPERATOR, "properties": properties}));
        azure
    }

    fn check(&self, scope: &str, more: &[&str]) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(&["lighthouse", "check", scope, "--tenant", TENANT, "--principal", SERVICE]);
        command
            .args(more)
            .current_dir(folder.path())
            .env("ARM_ENDPOINT", self.simulator.endpoint().as_str())
            .env("IDENTITY_ENDPOINT", self.simulator.identity_endpoint())
            .env("IDENTITY_HEADER", self.simulator.identity_header());
        run(command)
    }
}

#[test]
fn a_delegation_of_the_subscription_covers_everything_in_it() {
    let azure = Azure::delegated(SUBSCRIPTION);
    let application = format!("{GROUP}/providers/Microsoft.Solutions/applications/ledger");
    for scope in [SUBSCRIPTION, GROUP, &application] {
        let run = azure.check(scope, &[]);
        assert_eq!(run.code, 0, "{}", run.shown());
        assert!(run.out.contains("covered: the service may refresh") && run.out.contains("(Operator)"), "{}", run.out);
    }
    let asked = azure.simulator.requests();
    assert!(asked.iter().all(|request| request.method == "GET"), "looking changes nothing");
    let first = asked.iter().find(|request| request.target.contains("ManagedServices")).unwrap();
    let query = "registrationAssignments?$expandRegistrationDefinition=true&api-version=2022-10-01";
    assert!(first.target.ends_with(query), "{}", first.target);
}

#[test]
fn a_delegation_of_the_group_covers_the_refresh_but_not_the_status() {
    let azure = Azure::delegated(GROUP);
    insta::assert_snapshot!("lighthouse_check", azure.check(GROUP, &[]).shown());
    let json = azure.check(GROUP, &["--json"]);
    let report: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &report["coverage"]), (3, &json!("refreshOnly")));
    assert_eq!(report["assignments"][0]["offer"], "Northlight permission refresh");
    assert_eq!(azure.check(SUBSCRIPTION, &[]).code, 1, "the subscription itself is not delegated");
}

#[test]
fn every_page_is_read_and_groups_count_where_they_are_named() {
    let azure = Azure::delegated(SUBSCRIPTION);
    let example: Value = serde_json::from_str(include_str!("../../data/lighthouse/assignments.json")).unwrap();
    let mut second = example["value"][0].clone();
    second["id"] = format!("{SUBSCRIPTION}/providers/Microsoft.ManagedServices/registrationAssignments/2").into();
    second["properties"]["registrationDefinition"]["properties"]["authorizations"][0]["principalId"] = SUPPORT.into();
    azure.simulator.add_registration_assignment(SUBSCRIPTION, second);
    let report = |more: &[&str]| serde_json::from_str::<Value>(&azure.check(SUBSCRIPTION, more).out).unwrap();
    let each = |report: &Value| [0, 1].map(|at| report["assignments"][at]["coverage"].as_str().unwrap().to_owned());
    assert_eq!(each(&report(&["--json"])), ["all", "nothing"]);
    assert_eq!(each(&report(&["--json", "--group", SUPPORT])), ["all", "all"]);
}

#[test]
fn being_refused_means_not_delegated() {
    let azure = Azure::start();
    let nothing = azure.check(SUBSCRIPTION, &[]);
    assert!(nothing.code == 1 && nothing.out.contains("not delegated"), "{}", nothing.shown());
    for reply in [Reply::forbidden(), Reply::subscription_not_found(), Reply::wrong_tenant(SUPPORT)] {
        azure.simulator.on_list([reply.clone(), reply]);
        let run = azure.check(GROUP, &[]);
        assert!(run.code == 1 && run.out.contains("note: Azure shows no delegations of"), "{}", run.shown());
    }
    // The group may be seen though the subscription is not.
    let group = Azure::delegated(GROUP);
    group.simulator.on_list([Reply::forbidden()]);
    assert_eq!(group.check(GROUP, &[]).code, 3);
}

#[test]
fn no_usable_answer_is_told_apart_from_no_delegation() {
    let azure = Azure::delegated(SUBSCRIPTION);
    for (reply, said) in [
        (Reply::html(200), "a page of the list cannot be read"),
        (Reply::html(502), "502"),
        (Reply::throttled(17), "hint: ask again in 17 s"),
        (Reply::unavailable(3), "hint: ask again in 3 s"),
        (Reply::json(200, r#"{"value": 7}"#), "cannot be read"),
        (Reply::json(200, r#"{"value": [], "nextLink": "https://evil.example/x"}"#), "was not called"),
        (Reply::redirect("https://evil.example/x"), "307"),
    ] {
        azure.simulator.on_list([reply]);
        let run = azure.check(SUBSCRIPTION, &[]);
        assert_eq!((run.code, run.out.as_str()), (4, ""), "{said}: {}", run.err);
        assert!(run.err.contains(said), "{said}: {}", run.err);
    }
    let mut nobody = command(&["lighthouse", "check", SUBSCRIPTION, "--tenant", TENANT, "--principal", SERVICE]);
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    nobody.current_dir(folder.path()).env("ARM_ENDPOINT", format!("http://{free}"));
    nobody.env("IDENTITY_ENDPOINT", azure.simulator.identity_endpoint()).env("IDENTITY_HEADER", "simulated");
    assert_eq!(run(nobody).code, 4);
}

#[test]
fn a_role_that_cannot_be_read_is_taken_as_it_was_known() {
    let azure = Azure::delegated(SUBSCRIPTION);
    let page = |at: usize| {
        let example: Value = serde_json::from_str(include_str!("../../data/lighthouse/assignments.json")).unwrap();
        let mut value = example["value"][at].clone();
        value["id"] = "/subscriptions/x/providers/y".into();
        Reply::json(200, json!({"value": [value, "odd"]}).to_string())
    };
    for role in [Reply::forbidden(), Reply::html(200), Reply::json(200, "[]")] {
        azure.simulator.on_list([page(0), role]);
        let run = azure.check(SUBSCRIPTION, &[]);
        assert_eq!(run.code, 0, "{}", run.shown());
        assert!(run.out.contains("Managed Application Operator Role is taken as it was on"), "{}", run.out);
        assert!(run.out.contains("1 assignment of"), "{}", run.out);
    }
    // The role as Azure defines it now wins over what was known.
    let narrow = json!({"name": APPLICATION_OPERATOR, "properties": {"roleName": "Operator", "type": "BuiltInRole",
        "permissions": [{"actions": ["*/read"]}]}});
    azure.simulator.define_role(APPLICATION_OPERATOR, narrow);
    let run = azure.check(SUBSCRIPTION, &[]);
    assert!(run.code == 1 && run.out.contains("(Operator) do not cover refreshPermissions"), "{}", run.shown());
}

#[test]
fn who_asks_has_to_be_known() {
    let azure = Azure::delegated(SUBSCRIPTION);
    let folder = tempfile::tempdir().unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = command(&["lighthouse", "check"]);
        command
            .args(arguments)
            .current_dir(folder.path())
            .env("ARM_ENDPOINT", azure.simulator.endpoint().as_str())
            .env("IDENTITY_ENDPOINT", azure.simulator.identity_endpoint())
            .env("IDENTITY_HEADER", azure.simulator.identity_header());
        run(command)
    };
    // The simulator's tokens say nothing about anybody.
    let run = ask(&[SUBSCRIPTION]);
    assert!(run.code == 2 && run.err.contains("hint: give --tenant"), "{}", run.err);
    let run = ask(&[SUBSCRIPTION, "--tenant", TENANT]);
    assert!(run.code == 2 && run.err.contains("hint: give --principal"), "{}", run.err);
    for bad in [&["nowhere"][..], &["/subscriptions/x"], &[SUBSCRIPTION, "--principal", "x"]] {
        assert_eq!(ask(bad).code, 2, "{bad:?}");
    }
    // The file stands in for the environment.
    fs::write(folder.path().join("local.settings.json"), format!(r#"{{"Values": {{"AZURE_TENANT_ID": "{TENANT}"}}}}"#))
        .unwrap();
    assert_eq!(ask(&[SUBSCRIPTION, "--principal", SERVICE]).code, 0);
    assert!(azure.simulator.stats().tokens > 0 && azure.simulator.stats().posts == 0);
}
