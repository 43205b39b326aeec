//! Tables of settings: what each means, and what is said about each mistake.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::rollout::watch::FirstSight;
use crate::rollout::{Plan, Way};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    Settings::from_map(&map(pairs)).unwrap()
}

fn problems(pairs: &[(&str, &str)]) -> Vec<Problem> {
    Settings::from_map(&map(pairs)).unwrap_err().problems
}

fn names(pairs: &[(&str, &str)]) -> Vec<String> {
    problems(pairs).into_iter().map(|problem| problem.name).collect()
}

/// What the platform sets where there is a managed identity.
const PLATFORM: [(&str, &str); 2] =
    [("IDENTITY_ENDPOINT", "http://169.254.255.2:8081/msi/token"), ("IDENTITY_HEADER", "h")];

#[test]
fn nothing_at_all_is_a_complete_set_of_settings() {
    let settings = settings(&[]);
    assert_eq!(settings.mode, Mode::Act);
    assert_eq!(settings.store.state_store, StateStore::Sqlite { path: "permafresh.db".into() });
    assert!(settings.queues.service_bus.is_none());
    assert_eq!(
        (settings.queues.rollout_queue.as_str(), settings.queues.refresh_queue.as_str()),
        ("rollouts", "refreshes")
    );
    assert_eq!(settings.arm.endpoint.as_str(), "https://management.azure.com");
    assert_eq!(settings.arm.audience, "https://management.azure.com");
    assert_eq!((settings.arm.max_concurrency, settings.arm.verify_after_success), (64, true));
    assert!(matches!(settings.identity.credential, Credential::DeveloperTools));
    assert!(settings.notifications.sigs.is_empty() && settings.offers.offers.is_empty());
    assert_eq!(settings.retention_days, 400);
    assert!(settings.remarks.is_empty());
}

#[test]
fn every_documented_default_is_the_value_of_an_absent_setting() {
    let absent = format!("{:?}", settings(&[]));
    let mut seen = BTreeSet::new();
    for setting in Settings::ALL {
        assert!(seen.insert(setting.name), "{} is documented twice", setting.name);
        assert!(!setting.meaning.is_empty());
        assert_eq!(format!("{:?}", settings(&[(setting.name, "  ")])), absent, "{} empty", setting.name);
        if let Some(default) = setting.default {
            assert_eq!(format!("{:?}", settings(&[(setting.name, default)])), absent, "{}", setting.name);
        }
    }
}

#[test]
fn every_problem_is_named_at_once_with_what_to_do_and_without_its_value() {
    let wrong = [
        ("STATE_STORE", "postgres://private"),
        ("MODE", "private"),
        ("ARM_ENDPOINT", "http://private.example"),
        ("ARM_API_VERSION", "private"),
        ("ARM_MAX_CONCURRENCY", "private"),
        ("AZURE_TENANT_ID", "private/../x"),
        ("IDENTITY_ENDPOINT", "http://private.example"),
        ("POLL_SCHEDULE", "private"),
        ("VERIFY_AFTER_SUCCESS", "private"),
        ("KEY_VAULT_URL", "https://private:x@vault.example"),
        ("CONSENT_STATE_KEY", "private"),
        ("JIT_PRINCIPAL_ID", "private"),
        ("NOTIFY_URL", "http://private.example/?sig=private"),
        ("DASHBOARD_AUTH", "private"),
        ("RETENTION_DAYS", "-1"),
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "65536"),
        ("ROLLOUT_QUEUE", "private queue"),
        ("ServiceBusConnection", "Endpoint=private"),
        ("OFFERS", "private"),
    ];
    let error = Settings::from_map(&map(&wrong)).unwrap_err();
    let named: BTreeSet<_> = error.problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(named, wrong.iter().map(|(name, _)| *name).collect());
    assert!(error.problems.iter().all(|problem| !problem.why.is_empty() && !problem.fix.is_empty()));
    let text = error.to_string();
    assert!(text.starts_with("19 settings are wrong\n"), "{text}");
    assert!(!text.contains("private"), "{text}");
}

#[test]
fn numbers_are_taken_up_to_their_limits_and_not_beyond() {
    for (name, low, high) in
        [("ARM_MAX_CONCURRENCY", 1, 1_024), ("RETENTION_DAYS", 1, 3_650), ("FUNCTIONS_CUSTOMHANDLER_PORT", 1, 65_535)]
    {
        for good in [low, high] {
            settings(&[(name, &good.to_string())]);
        }
        for bad in [(low - 1).to_string(), (high + 1).to_string(), "1.5".into(), "99999999999999999999".into()] {
            assert_eq!(names(&[(name, &bad)]), [name], "{bad}");
        }
    }
}

#[test]
fn schedules_have_six_fields_or_five() {
    assert_eq!(settings(&[("POLL_SCHEDULE", "*/1 * * * * *")]).schedules.poll, "*/1 * * * * *");
    settings(&[("POLL_SCHEDULE", "*/5 * * * *")]);
    for bad in ["* * * *", "* * * * * * *", "hourly"] {
        assert_eq!(names(&[("POLL_SCHEDULE", bad)]), ["POLL_SCHEDULE"]);
    }
}

#[test]
fn the_state_store_is_a_file_or_tables_and_no_file_inside_azure() {
    let inside = ("WEBSITE_INSTANCE_ID", "abc");
    let bus = ("ServiceBusConnection__fullyQualifiedNamespace", "fabrikam.servicebus.windows.net");
    let path = |text: &str| settings(&[("STATE_STORE", text)]).store.state_store;
    assert_eq!(path("sqlite:/tmp/a b.db"), StateStore::Sqlite { path: "/tmp/a b.db".into() });
    assert_eq!(path("sqlite:C:\\x.db"), StateStore::Sqlite { path: "C:\\x.db".into() });
    assert_eq!(names(&[("STATE_STORE", "sqlite:")]), ["STATE_STORE"]);
    assert_eq!(names(&[("STATE_STORE", "tables")]), ["AzureWebJobsStorage"]);
    assert_eq!(names(&[inside, bus]), ["STATE_STORE"]);
    assert_eq!(names(&[inside, bus, ("STATE_STORE", "sqlite:x.db")]), ["STATE_STORE"]);
    let tables = [inside, ("STATE_STORE", "tables"), ("AzureWebJobsStorage__accountName", "fabrikam")];
    assert_eq!(names(&tables), ["ServiceBusConnection"]);
    let settings = settings(&[&tables[..], &[bus]].concat());
    assert_eq!(settings.store.state_store, StateStore::Tables);
}

#[test]
fn a_storage_setting_that_only_the_host_uses_is_not_judged() {
    let sas = ("AzureWebJobsStorage", "TableEndpoint=https://x.example;SharedAccessSignature=sv=1&sig=abc");
    assert!(settings(&[sas]).store.storage.is_none());
    assert_eq!(names(&[sas, ("STATE_STORE", "tables")]), ["AzureWebJobsStorage"]);
}

#[test]
fn storage_is_connected_to_as_the_functions_host_does() {
    let storage = |pairs: &[(&str, &str)]| {
        let pairs = [&[("STATE_STORE", "tables")], pairs].concat();
        settings(&pairs).store.storage.unwrap()
    };
    assert!(matches!(
        storage(&[("AzureWebJobsStorage", "UseDevelopmentStorage=true")]),
        StorageConnection::Development
    ));
    let key =
        "DefaultEndpointsProtocol=https;AccountName=fabrikam;AccountKey=c2VjcmV0PT0=;EndpointSuffix=core.windows.net";
    match storage(&[("AzureWebJobsStorage", key)]) {
        StorageConnection::SharedKey { account, key, table_endpoint } => {
            assert_eq!((account.as_str(), key.expose()), ("fabrikam", "c2VjcmV0PT0="));
            assert_eq!(table_endpoint.as_str(), "https://fabrikam.table.core.windows.net");
        }
        other => panic!("{other:?}"),
    }
    let local = "AccountName=devstoreaccount1;AccountKey=eA==;TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;";
    match storage(&[("AzureWebJobsStorage", local)]) {
        StorageConnection::SharedKey { table_endpoint, .. } => {
            assert_eq!(table_endpoint.as_str(), "http://127.0.0.1:10002/devstoreaccount1");
        }
        other => panic!("{other:?}"),
    }
    let tables = storage(&[("AzureWebJobsStorage", local)]).tables();
    assert_eq!(tables.endpoint, StorageConnection::Development.tables().endpoint);
    assert!(!format!("{tables:?}").contains("eA=="));
    match storage(&[
        ("AzureWebJobsStorage__accountName", "fabrikam"),
        ("AzureWebJobsStorage__credential", "managedIdentity"),
        ("AzureWebJobsStorage__clientId", "11111111-2222-3333-4444-555555555555"),
        PLATFORM[0],
        PLATFORM[1],
    ]) {
        StorageConnection::Identity {
            table_endpoint,
            identity: ConnectionIdentity::Managed { client_id: Some(_) },
        } => {
            assert_eq!(table_endpoint.as_str(), "https://fabrikam.table.core.windows.net");
        }
        other => panic!("{other:?}"),
    }
    match storage(&[("AzureWebJobsStorage__tableServiceUri", "https://fabrikam.table.core.usgovcloudapi.net")]) {
        StorageConnection::Identity { table_endpoint, identity: ConnectionIdentity::Default } => {
            assert_eq!(table_endpoint.as_str(), "https://fabrikam.table.core.usgovcloudapi.net");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_storage_connection_that_cannot_work_is_refused() {
    for (name, value) in [
        ("AzureWebJobsStorage", "nonsense"),
        ("AzureWebJobsStorage", "AccountName=fabrikam"),
        ("AzureWebJobsStorage", "AccountName=a/b;AccountKey=eA=="),
        ("AzureWebJobsStorage", "DefaultEndpointsProtocol=http;AccountName=fabrikam;AccountKey=eA=="),
        ("AzureWebJobsStorage", "AccountName=fabrikam;AccountKey=eA==;EndpointSuffix=evil.example/x?"),
        ("AzureWebJobsStorage", "AccountName=fabrikam;AccountName=fabrikam;AccountKey=eA=="),
        ("AzureWebJobsStorage__tableServiceUri", "http://fabrikam.table.core.windows.net"),
        ("AzureWebJobsStorage__accountName", "Not-An-Account"),
    ] {
        assert_eq!(names(&[("STATE_STORE", "tables"), (name, value)]), [name], "{value}");
    }
    let orphan = [("STATE_STORE", "tables"), ("AzureWebJobsStorage__credential", "managedidentity")];
    assert_eq!(names(&orphan), ["AzureWebJobsStorage__accountName"]);
}

#[test]
fn service_bus_is_connected_to_as_the_functions_host_does() {
    let bus = |pairs: &[(&str, &str)]| settings(pairs).queues.service_bus.unwrap();
    let key = "Endpoint=sb://Fabrikam.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=c2VjcmV0PT0=";
    for name in ["ServiceBusConnection", "AzureWebJobsServiceBusConnection"] {
        match bus(&[(name, key)]) {
            ServiceBusConnection::SharedKey { namespace, key_name, key } => {
                assert!(namespace.eq_ignore_ascii_case("fabrikam.servicebus.windows.net"));
                assert_eq!((key_name.as_str(), key.expose()), ("send", "c2VjcmV0PT0="));
            }
            other => panic!("{other:?}"),
        }
    }
    for (endpoint, expected) in
        [("sb://localhost", "http://localhost"), ("sb://127.0.0.1:5300/", "http://127.0.0.1:5300")]
    {
        let text = format!("Endpoint={endpoint};SharedAccessKeyName=a;SharedAccessKey=b;UseDevelopmentEmulator=true;");
        match bus(&[("ServiceBusConnection", &text)]) {
            ServiceBusConnection::Emulator { endpoint, .. } => assert_eq!(endpoint.as_str(), expected),
            other => panic!("{other:?}"),
        }
    }
    let name = ("ServiceBusConnection__fullyQualifiedNamespace", "fabrikam.servicebus.windows.net");
    assert!(matches!(bus(&[name]), ServiceBusConnection::Identity { identity: ConnectionIdentity::Default, .. }));
    assert!(matches!(
        bus(&[name, ("ServiceBusConnection__credential", "managedidentity"), PLATFORM[0], PLATFORM[1]]),
        ServiceBusConnection::Identity { identity: ConnectionIdentity::Managed { client_id: None }, .. }
    ));
    assert!(matches!(bus(&[name, ("ServiceBusConnection", key)]), ServiceBusConnection::SharedKey { .. }));
}

#[test]
fn a_service_bus_connection_that_cannot_work_is_refused() {
    let keys = "SharedAccessKeyName=a;SharedAccessKey=b";
    for value in [
        "nonsense".to_owned(),
        format!("Endpoint=https://fabrikam.servicebus.windows.net;{keys}"),
        format!("Endpoint=sb://localhost;{keys}"),
        format!("Endpoint=sb://evil.example;{keys};UseDevelopmentEmulator=true"),
        format!("Endpoint=sb://fabrikam.servicebus.windows.net;{keys};EntityPath=refreshes"),
        "Endpoint=sb://fabrikam.servicebus.windows.net;SharedAccessSignature=x".to_owned(),
    ] {
        assert_eq!(names(&[("ServiceBusConnection", &value)]), ["ServiceBusConnection"], "{value}");
    }
    let host = "ServiceBusConnection__fullyQualifiedNamespace";
    for value in ["https://fabrikam.servicebus.windows.net", "fabrikam", "fabrikam..net", "a.b/c"] {
        assert_eq!(names(&[(host, value)]), [host], "{value}");
    }
    assert_eq!(names(&[("ServiceBusConnection__clientId", "x")]), [host]);
    let certificate = ("ServiceBusConnection__credential", "certificate");
    assert_eq!(names(&[(host, "a.b"), certificate]), ["ServiceBusConnection__credential"]);
}

#[test]
fn a_managed_identity_is_refused_where_nobody_manages_one() {
    let storage = [
        ("STATE_STORE", "tables"),
        ("AzureWebJobsStorage__accountName", "fabrikam"),
        ("AzureWebJobsStorage__credential", "managedidentity"),
    ];
    let bus = [
        ("ServiceBusConnection__fullyQualifiedNamespace", "fabrikam.servicebus.windows.net"),
        ("ServiceBusConnection__clientId", "11111111-2222-3333-4444-555555555555"),
    ];
    let both = [&storage[..], &bus].concat();
    let expected = ["AzureWebJobsStorage__credential", "ServiceBusConnection__credential"];
    assert_eq!(names(&both), expected);
    assert_eq!(names(&[&both[..], &PLATFORM[..1]].concat()), expected, "without the header nobody answers");
    assert!(settings(&storage[1..]).remarks.is_empty(), "without tables it is the host's business");
    // It is there for connections even where calls of ARM go by an app registration.
    let app = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
    let settings = settings(&[&both[..], &PLATFORM, &app].concat());
    assert!(matches!(settings.identity.credential, Credential::ClientSecret { .. }));
    assert_eq!(settings.identity.platform.unwrap().as_str(), PLATFORM[0].1);
}

#[test]
fn an_app_may_be_let_into_named_tenants_or_all() {
    const NAME: &str = "AZURE_ADDITIONALLY_ALLOWED_TENANTS";
    const TENANT: &str = "A4F0E2D1-77aa-4b31-9f2e-5c6d7e8f9a01";
    let app = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
    let tenants = |text: &str| settings(&[&app[..], &[(NAME, text)]].concat()).identity.additional_tenants;
    assert_eq!(tenants("*"), AllowedTenants::All);
    assert_eq!(tenants(""), AllowedTenants::None);
    let two = tenants(&format!("{TENANT}; b5a1e2d1-77aa-4b31-9f2e-5c6d7e8f9a02;"));
    assert!(two.allows(&TENANT.to_lowercase()) && two.allows(TENANT) && !two.allows("c"), "{two:?}");
    for bad in ["contoso.com", "*;*", ";", "a,b"] {
        assert_eq!(names(&[&app[..], &[(NAME, bad)]].concat()), [NAME], "{bad}");
    }
    let nobody = settings(&[(NAME, "*")]);
    assert_eq!(nobody.identity.additional_tenants, AllowedTenants::None);
    assert_eq!(nobody.remarks[0].name, NAME);
}

#[test]
fn the_identity_is_the_secret_if_complete_else_the_managed_one_else_the_developers() {
    let credential = |pairs: &[(&str, &str)]| settings(pairs).identity.credential;
    let app = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
    let managed = PLATFORM;
    assert!(matches!(credential(&[&app[..], &managed].concat()), Credential::ClientSecret { .. }));
    assert!(matches!(credential(&managed), Credential::ManagedIdentity { client_id: None, .. }));
    assert!(matches!(
        credential(&[&app[1..2], &managed].concat()),
        Credential::ManagedIdentity { client_id: Some(_), .. }
    ));
    assert!(matches!(credential(&app[..2]), Credential::DeveloperTools));
    assert!(matches!(credential(&managed[..1]), Credential::DeveloperTools));
    let incomplete = settings(&app[1..]);
    assert_eq!(incomplete.remarks[0].name, "AZURE_CLIENT_SECRET");
    let stood_for = [("AZURE_MANAGED_IDENTITY_CLIENT_ID", "m")];
    let parts = |pairs: &[(&str, &str)]| match credential(&[pairs, &stood_for, &managed].concat()) {
        Credential::ManagedIdentity { client_id, app, .. } => (client_id.unwrap(), app.map(|app| app.client_id)),
        other => panic!("{other:?}"),
    };
    assert_eq!(parts(&app[..2]), ("m".to_owned(), Some("c".to_owned())), "the identity stands for the app");
    assert_eq!(parts(&[app[0], ("AZURE_CLIENT_ID", "M")]), ("m".to_owned(), None), "it is the identity itself");
    assert_eq!(parts(&app[..1]), ("m".to_owned(), None));
    assert!(matches!(credential(&[&app[..], &stood_for, &managed].concat()), Credential::ClientSecret { .. }));
    assert_eq!(
        names(&[&app[1..2], &stood_for, &managed].concat()),
        ["AZURE_TENANT_ID"],
        "the app's tenant is not known"
    );
    for (given, endpoint) in [
        ("login.microsoftonline.us", "https://login.microsoftonline.us"),
        ("https://login.partner.microsoftonline.cn/", "https://login.partner.microsoftonline.cn"),
    ] {
        assert_eq!(settings(&[("AZURE_AUTHORITY_HOST", given)]).identity.authority_host.as_str(), endpoint);
    }
}

#[test]
fn a_dashboard_that_believes_a_header_which_nobody_guards_is_remarked() {
    let names = |settings: Settings| -> Vec<_> { settings.remarks.into_iter().map(|remark| remark.name).collect() };
    let (auth, on) = (("DASHBOARD_AUTH", "easyauth"), ("WEBSITE_AUTH_ENABLED", "True"));
    assert_eq!(names(settings(&[auth])), ["DASHBOARD_AUTH"]);
    assert_eq!(names(settings(&[auth, ("WEBSITE_AUTH_ENABLED", "False")])), ["DASHBOARD_AUTH"]);
    assert_eq!(names(settings(&[auth, on])), [""; 0]);
    assert_eq!(names(settings(&[])), [""; 0]);
}

#[test]
fn the_audience_follows_the_endpoint_unless_it_is_given() {
    let simulated = ("ARM_ENDPOINT", "http://127.0.0.1:4000/");
    assert_eq!(settings(&[simulated]).arm.audience, "http://127.0.0.1:4000");
    let own = ("ARM_AUDIENCE", "https://management.core.windows.net/");
    assert_eq!(settings(&[simulated, own]).arm.audience, own.1);
    let government = ("ARM_ENDPOINT", "https://management.usgovcloudapi.net/");
    assert_eq!(settings(&[government]).arm.audience, "https://management.core.usgovcloudapi.net");
    let china = ("ARM_ENDPOINT", "https://management.chinacloudapi.cn");
    assert_eq!(settings(&[china]).arm.audience, china.1);
}

#[test]
fn offers_are_read_whole_and_plans_are_known_without_case() {
    let offers = r#"[{"publisher": "Fabrikam", "offer": "Ledger", "plans": [{"plan": "Standard", "wantedVersion": "1.4.0"}, {"plan": "pro"}],
        "strategy": {"canaries": 0, "maxFailures": 20}, "access": {"order": ["gdap", "handOver"]},
        "previewApplications": ["/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.Solutions/applications/app"],
        "rolloutOnFirstSight": true}]"#;
    let offers = settings(&[("OFFERS", offers)]).offers;
    let plan = Plan::parse("fabrikam", "ledger-preview", "STANDARD").unwrap().0;
    let offer = offers.offer_of(&plan).unwrap();
    assert_eq!(offer.plans[0].plan, plan);
    assert_eq!(offer.plans[0].wanted_version, Some("1.4.0".parse().unwrap()));
    assert_eq!(offers.ways_for(&plan), [Way::Gdap, Way::HandOver]);
    assert!(!offers.strategy_for(&plan).has_canaries());
    assert_eq!((offer.preview_applications.len(), offer.first_sight), (1, FirstSight::Rollout));
    assert_eq!(offers.plans().count(), 2);
    let other = Plan::parse("contoso", "ledger", "standard").unwrap().0;
    assert_eq!(offers.offer_of(&other), None);
    assert_eq!(offers.ways_for(&other), [Way::Publisher, Way::Gdap, Way::Jit, Way::HandOver]);
    assert!(offers.strategy_for(&other).has_canaries());
}

#[test]
fn every_mistake_in_offers_is_named_by_its_place() {
    let offers = r#"[
        {"publisher": "fabrikam", "offer": "ledger", "plans": [{"plan": "standard", "wanted": "1.4.0"}, {"plan": "a b"}, {"plan": "standard"}, 7], "stratgey": {}},
        {"publisher": "fabrikam", "offer": "LEDGER", "plans": [{"plan": "x", "wantedVersion": "1.4"}], "strategy": {"canary": 1}},
        {"offer": "x", "plans": []},
        {"publisher": "fabrikam", "offer": "till-preview", "plans": [{"plan": "x"}], "access": {"order": []}},
        {"publisher": "fabrikam", "offer": "till", "plans": [], "access": {"order": ["jit", "jit"]}, "rolloutOnFirstSight": "yes"},
        {"publisher": "fa/brikam", "offer": "x", "plans": [{"plan": "x"}], "previewApplications": ["x"], "access": {"sequence": []}},
        "ledger"]"#;
    assert_eq!(
        names(&[("OFFERS", offers)]),
        [
            "OFFERS[0].stratgey",
            "OFFERS[0].plans[0].wanted",
            "OFFERS[0].plans[1].plan",
            "OFFERS[0].plans[2]",
            "OFFERS[0].plans[3]",
            "OFFERS[1].strategy",
            "OFFERS[1].plans[0].wantedVersion",
            "OFFERS[1]",
            "OFFERS[2].publisher",
            "OFFERS[3].access.order",
            "OFFERS[3].offer",
            "OFFERS[4].rolloutOnFirstSight",
            "OFFERS[4].access.order",
            "OFFERS[4].plans",
            "OFFERS[5].access",
            "OFFERS[5].previewApplications",
            "OFFERS[5].publisher",
        ]
        .into_iter()
        .chain(["OFFERS[6]"])
        .collect::<Vec<_>>()
    );
    assert_eq!(names(&[("OFFERS", r#"{"publisher": "x"}"#)]), ["OFFERS"]);
}

#[test]
fn a_webhook_needs_a_secret_that_can_be_used() {
    let url = ("NOTIFY_URL", "https://hooks.example/?sig=abc");
    assert_eq!(names(&[url]), ["NOTIFY_SECRET"]);
    assert_eq!(names(&[url, ("NOTIFY_SECRET", "whsec_%")]), ["NOTIFY_SECRET"]);
    settings(&[url, ("NOTIFY_SECRET", "whsec_AAEC")]);
    settings(&[url, ("NOTIFY_SECRET", "any long text")]);
}

#[test]
fn a_reference_that_azure_could_not_resolve_is_no_secret() {
    let reference = "@Microsoft.KeyVault(SecretUri=https://fabrikam.vault.azure.net/secrets/NOTIFICATION-SIG/)";
    let pairs = [("NOTIFICATION_SIG", reference), ("DASHBOARD_KEY", reference), ("NOT_OURS", reference)];
    assert_eq!(names(&pairs), ["NOTIFICATION_SIG", "DASHBOARD_KEY"]);
    assert!(problems(&pairs).iter().all(|problem| !problem.to_string().contains("fabrikam")));
}

#[test]
fn lists_of_secrets_are_split_at_commas_and_short_ones_are_remarked() {
    let settings = settings(&[
        ("NOTIFICATION_SIG", "0123456789abcdef, fedcba9876543210,"),
        ("LOCAL_FUNCTION_KEYS", "tiny"),
        ("DASHBOARD_KEY", "fifteen-letters"),
        ("NOTIFY_URL", "https://hooks.example/?sig=abc"),
        ("NOTIFY_SECRET", "a key that nobody else has"),
    ]);
    let sigs: Vec<_> = settings.notifications.sigs.iter().map(Secret::expose).collect();
    assert_eq!(sigs, ["0123456789abcdef", "fedcba9876543210"]);
    let remarks: Vec<_> = settings.remarks.iter().map(|remark| remark.name.as_str()).collect();
    assert_eq!(remarks, ["DASHBOARD_KEY", "LOCAL_FUNCTION_KEYS"]);
    let shown = format!("{settings:?}");
    for secret in ["0123456789abcdef", "fedcba9876543210", "tiny", "fifteen-letters", "sig=abc", "a key that"] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}

#[test]
fn a_jit_request_is_filed_in_the_managed_group_or_a_named_one() {
    let group = |name: &str| settings(&[("JIT_RESOURCE_GROUP", name)]).jit.resource_group;
    assert_eq!(group("Managed"), JitResourceGroup::Managed);
    assert_eq!(group("rg-jit"), JitResourceGroup::Named("rg-jit".into()));
    assert_eq!(names(&[("JIT_RESOURCE_GROUP", "a/b")]), ["JIT_RESOURCE_GROUP"]);
    let guid = "0b1ec700-0000-4000-8000-00000000aa01";
    let role_alone = settings(&[("JIT_ROLE_ID", guid)]);
    assert_eq!(role_alone.remarks[0].name, "JIT_ROLE_ID");
    assert_eq!(settings(&[("JIT_PRINCIPAL_ID", guid), ("JIT_ROLE_ID", guid)]).remarks, []);
}

#[test]
fn the_sample_settings_name_every_setting_and_are_good_settings() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase", deny_unknown_fields)]
    struct Sample {
        is_encrypted: bool,
        values: BTreeMap<String, String>,
    }
    let text = include_str!("../../local.settings.sample.json");
    let sample: Sample = serde_json::from_str(text).unwrap();
    assert!(!sample.is_encrypted);
    let documented = Settings::ALL.iter().map(|setting| setting.name).chain(["FUNCTIONS_WORKER_RUNTIME"]);
    assert_eq!(sample.values.keys().map(String::as_str).collect::<BTreeSet<_>>(), documented.collect::<BTreeSet<_>>());
    for setting in Settings::ALL {
        if let Some(default) = setting.default.filter(|_| setting.name != "OFFERS") {
            assert_eq!(sample.values[setting.name], default, "{}", setting.name);
        }
    }
    let settings = Settings::from_map(&sample.values).unwrap();
    assert!(!settings.offers.offers.is_empty(), "the sample shows an offer");
    assert_eq!(settings.remarks, []);
}

#[test]
fn what_a_function_json_names_has_a_default_to_write_out() {
    let named: BTreeMap<_, _> = named_by_functions().collect();
    assert_eq!(named.len(), 7);
    assert_eq!(named["POLL_SCHEDULE"], "*/15 * * * * *");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("functions");
    for function in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(function.unwrap().path().join("function.json")).unwrap();
        for name in text.split('%').skip(1).step_by(2) {
            assert!(named.contains_key(name), "{name} has no default");
        }
    }
}

#[test]
fn partner_center_is_watched_with_a_secret_or_a_certificate_and_its_states_can_be_named() {
    let pem = include_str!("../../tests/data/certificates/client.pem");
    let ids = [
        ("PARTNER_CENTER_TENANT_ID", "5d0f7a10-0000-4000-8000-00000000f001"),
        ("PARTNER_CENTER_CLIENT_ID", "0b1ec700-0000-4000-8000-00000000aa01"),
    ];
    let with = |more: &[(&str, &str)]| Settings::from_map(&map(&[&ids, more].concat()));
    let proof = |more| with(more).unwrap().partner_center.app.map(|app| app.proof);
    assert!(matches!(proof(&[("PARTNER_CENTER_CLIENT_SECRET", "hush")]), Some(AppProof::Secret(_))));
    let both = [("PARTNER_CENTER_CLIENT_SECRET", "hush"), ("PARTNER_CENTER_CLIENT_CERTIFICATE", pem)];
    assert!(matches!(proof(&both), Some(AppProof::Certificate(_))), "the certificate wins");
    assert!(proof(&[]).is_none());
    let bad = [("PARTNER_CENTER_CLIENT_CERTIFICATE", "hush"), ("PARTNER_CENTER_STATES", r#"{"Published": "live"}"#)];
    let problems = with(&bad).unwrap_err().problems;
    let names: Vec<_> = problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(names, ["PARTNER_CENTER_CLIENT_CERTIFICATE", "PARTNER_CENTER_STATES"]);
    assert!(!format!("{problems:?}").contains("hush"));
}

#[test]
fn a_collector_is_read_under_the_rules_of_every_other_address_and_secret() {
    assert!(
        settings(&[("OTEL_EXPORTER_OTLP_HEADERS", "no list")]).otlp.is_none(),
        "nothing is read without an endpoint"
    );
    let all = settings(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example/otlp/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%2Cecret, x-team = a=b,"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=named,deployment.environment=t%20est"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ]);
    assert_eq!(
        all.remarks.iter().map(|remark| remark.name.as_str()).collect::<Vec<_>>(),
        ["OTEL_EXPORTER_OTLP_PROTOCOL"]
    );
    let otlp = all.otlp.unwrap();
    assert!(!format!("{otlp:?}").contains("ecret"), "{otlp:?}");
    let headers: Vec<_> = otlp.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(
        (otlp.endpoint.as_str(), headers),
        ("https://collector.example/otlp", vec![("api-key", "s,ecret"), ("x-team", "a=b")])
    );
    assert_eq!((otlp.service_name.as_str(), otlp.attributes[1].1.as_str()), ("named", "t est"));
    let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    assert_eq!(settings(&[here, ("OTEL_SERVICE_NAME", "mine")]).otlp.unwrap().service_name, "mine");
    for (bad, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:key@collector.example"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=sec%0Aret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
    ] {
        let problems = problems(&[here, (bad, value)]);
        assert_eq!(problems.len(), 1, "{bad}={value}");
        assert!(problems[0].name == bad && !problems[0].to_string().contains("sec"), "{problems:?}");
    }
}

#[test]
fn the_app_of_gdap_proves_itself_with_a_certificate_and_by_the_endpoint_that_is_named() {
    let pem = include_str!("../../tests/data/certificates/client.pem");
    let ids = [
        ("AZURE_TENANT_ID", "5d0f7a10-0000-4000-8000-00000000f001"),
        ("GDAP_CLIENT_ID", "0b1ec700-0000-4000-8000-00000000aa01"),
    ];
    let with = |more: &[(&str, &str)]| Settings::from_map(&map(&[&ids, more].concat()));
    let gdap = with(&[]).unwrap().gdap;
    assert!(gdap.certificate.is_none() && gdap.token_endpoint == TokenEndpoint::V2);
    let gdap = with(&[("GDAP_CLIENT_CERTIFICATE", pem), ("GDAP_TOKEN_ENDPOINT", "V1")]).unwrap().gdap;
    assert!(gdap.certificate.is_some() && gdap.token_endpoint == TokenEndpoint::V1);
    let bad = [("GDAP_CLIENT_CERTIFICATE", "hush"), ("GDAP_TOKEN_ENDPOINT", "v3")];
    let problems = with(&bad).unwrap_err().problems;
    let names: Vec<_> = problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(names, ["GDAP_CLIENT_CERTIFICATE", "GDAP_TOKEN_ENDPOINT"]);
    assert!(!format!("{problems:?}").contains("hush"));
}
