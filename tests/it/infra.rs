//! What `infra/`, `host.json`, the code and docs/operations-in-azure.md say about the same things: settings, queues and
//! times. Nothing here asks Azure; CI parses the Bicep files themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use permafresh::rollout::refresh::CALL;
use permafresh::settings::{Settings, named_by_functions};
use permafresh::timespan;
use serde_json::Value;

/// Settings that Bicep does not write, and why.
const NOT_WRITTEN: &[(&str, &str)] = &[
    ("AzureWebJobsStorage", "a connection string would win over the identity"),
    ("ServiceBusConnection", "a connection string would win over the identity"),
    ("IDENTITY_ENDPOINT", "set by Azure"),
    ("IDENTITY_HEADER", "set by Azure"),
    ("FUNCTIONS_CUSTOMHANDLER_PORT", "set by the host"),
    ("LOCAL_FUNCTION_KEYS", "for the embedded host"),
    ("LOCAL_QUEUE", "for the embedded host"),
];

/// Settings that Bicep writes for the platform and that we do not read.
const OF_THE_PLATFORM: &[&str] = &[
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__queueServiceUri",
];

/// Settings that Flex Consumption refuses, since `functionAppConfig` says it
/// (learn.microsoft.com/azure/azure-functions/functions-app-settings).
const REFUSED_ON_FLEX: &[&str] = &[
    "ENABLE_ORYX_BUILD",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_WORKER_RUNTIME_VERSION",
    "FUNCTIONS_WORKER_PROCESS_COUNT",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "WEBSITE_CONTENTSHARE",
    "WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT",
    "WEBSITE_RUN_FROM_PACKAGE",
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The settings in the objects of `app-settings.bicep`: indented `NAME: value`, where the name has the form of a setting.
fn written(bicep: &str) -> BTreeMap<String, String> {
    let lines = bicep.lines().filter(|line| !line.trim_start().starts_with("//"));
    let pairs = lines.flat_map(|line| line.split(['{', '}'])).filter_map(|part| part.trim().split_once(": "));
    let is_setting = |name: &str| {
        let upper = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        name.contains("__") || upper && !name.is_empty()
    };
    pairs.filter(|(name, _)| is_setting(name)).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn bicep_writes_every_setting_and_none_that_nobody_reads() {
    let sample = "var a = {\n  // B: 'no'\n  MODE: mode\n  A__b: 'x'\n}\nvar c = { D__e: f }\nparam mode string\n";
    assert_eq!(written(sample).into_keys().collect::<Vec<_>>(), ["A__b", "D__e", "MODE"]);

    let written = written(&read("infra/modules/app-settings.bicep"));
    let known: BTreeSet<_> = Settings::ALL.iter().map(|setting| setting.name).collect();
    let left_out: BTreeSet<_> = NOT_WRITTEN.iter().map(|(name, _)| *name).collect();
    for name in &known {
        assert_ne!(written.contains_key(*name), left_out.contains(name), "{name}: written, or left out for a reason");
    }
    for name in written.keys().map(String::as_str) {
        assert!(known.contains(name) || OF_THE_PLATFORM.contains(&name), "{name} is read by nobody");
        assert!(!REFUSED_ON_FLEX.contains(&name), "{name} is refused on Flex Consumption");
    }
    assert!(left_out.is_subset(&known) && OF_THE_PLATFORM.iter().all(|name| written.contains_key(*name)));
}

#[test]
fn what_the_host_looks_up_has_the_same_value_in_bicep_as_anywhere() {
    let written = written(&read("infra/modules/app-settings.bicep"));
    let resources = read("infra/resources.bicep");
    for (name, default) in named_by_functions() {
        let value = written.get(name).map_or("", String::as_str);
        // Queues are made from the same variable that the setting gets.
        let value = match value {
            "rolloutQueue" | "refreshQueue" => {
                assert!(
                    resources.contains(&format!("{value}: {value}\n"))
                        && resources.contains("queues: [rolloutQueue, refreshQueue]")
                );
                let begin = format!("var {value} = ");
                resources.lines().find_map(|line| line.strip_prefix(&begin)).unwrap()
            }
            literal => literal,
        };
        assert_eq!(value, format!("'{default}'"), "{name}");
    }
    for (name, value) in
        [("STATE_STORE", "'tables'"), ("MODE", "mode"), ("ServiceBusConnection__credential", "'managedidentity'")]
    {
        assert_eq!(written[name], value, "{name}");
    }
    for file in ["infra/main.bicep", "infra/resources.bicep"] {
        assert!(read(file).contains("param mode string = 'observe'"), "{file}: an installation begins by observing");
    }
}

#[test]
fn no_key_and_no_open_door_is_in_bicep() {
    for (file, expected) in [
        (
            "storage",
            &["allowSharedKeyAccess: false", "allowBlobPublicAccess: false", "minimumTlsVersion: 'TLS1_2'"][..],
        ),
        (
            "service-bus",
            &["disableLocalAuth: true", "requiresDuplicateDetection: true", "deadLetteringOnMessageExpiration: true"],
        ),
        ("telemetry", &["DisableLocalAuth: true"]),
        ("key-vault", &["enableRbacAuthorization: true", "enablePurgeProtection: true"]),
        (
            "function-app",
            &["httpsOnly: true", "minTlsVersion: '1.2'", "ftpsState: 'Disabled'", "name: 'custom'", "version: '1.0'"],
        ),
    ] {
        let text = read(&format!("infra/modules/{file}.bicep"));
        for line in expected {
            assert!(text.lines().any(|found| found.trim() == *line), "infra/modules/{file}.bicep: {line}");
        }
        assert!(!text.contains("listKeys("), "{file}: keys are nobody's");
    }
}

#[test]
fn parameters_and_outputs_say_what_they_are() {
    let undescribed = |text: &str| -> Vec<String> {
        let mut before = "";
        let mut missing = Vec::new();
        for line in text.lines() {
            if (line.starts_with("param ") || line.starts_with("output ")) && !before.starts_with("@description('") {
                missing.push(line.to_owned());
            }
            before = line;
        }
        missing
    };
    assert_eq!(undescribed("@description('x')\nparam a string\nparam b string\n"), ["param b string"]);
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/modules");
    let modules =
        fs::read_dir(modules).unwrap().map(|entry| format!("infra/modules/{}", entry.unwrap().file_name().display()));
    for file in modules.chain(["infra/main.bicep".to_owned(), "infra/resources.bicep".to_owned()]) {
        assert_eq!(undescribed(&read(&file)), [""; 0], "{file}");
    }
    let parameters: Value = serde_json::from_str(&read("infra/main.parameters.json")).unwrap();
    let main = read("infra/main.bicep");
    for name in parameters["parameters"].as_object().unwrap().keys() {
        assert!(main.contains(&format!("\nparam {name} ")), "infra/main.bicep has no parameter {name}");
    }
    let readme = read("infra/README.md");
    for line in main.lines().filter(|line| line.starts_with("param ") || line.starts_with("output ")) {
        let name = line.split(' ').nth(1).unwrap();
        assert!(readme.contains(&format!("`{name}`")), "infra/README.md does not name {name}");
    }
}

/// Roles are assigned by their ids; what each is called is said beside it, and for people in the README.
#[test]
fn the_identity_has_exactly_the_roles_that_are_explained() {
    let roles = [
        ("storage", "storageBlobDataOwner", "b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "Storage Blob Data Owner"),
        (
            "storage",
            "storageTableDataContributor",
            "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
            "Storage Table Data Contributor",
        ),
        (
            "service-bus",
            "serviceBusDataReceiver",
            "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0",
            "Azure Service Bus Data Receiver",
        ),
        (
            "service-bus",
            "serviceBusDataSender",
            "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39",
            "Azure Service Bus Data Sender",
        ),
        ("service-bus", "reader", "acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader"),
        (
            "telemetry",
            "monitoringMetricsPublisher",
            "3913510d-42f4-4e42-8a64-420c390055eb",
            "Monitoring Metrics Publisher",
        ),
        ("key-vault", "keyVaultSecretsUser", "4633458b-17de-408a-b874-0445c86b69e6", "Key Vault Secrets User"),
        // For who deploys, not for the service.
        ("key-vault", "keyVaultSecretsOfficer", "b86a8fe4-44ce-4948-aee5-eccb2c155cd7", "Key Vault Secrets Officer"),
    ];
    let is_id = |word: &&str| word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    let mut assigned = BTreeSet::new();
    for file in ["storage", "service-bus", "telemetry", "key-vault", "function-app", "app-settings"] {
        let text = read(&format!("infra/modules/{file}.bicep"));
        assigned.extend(text.split('\'').filter(is_id).map(|id| (file, id.to_owned())));
    }
    assert_eq!(assigned, roles.iter().map(|(file, _, id, _)| (*file, (*id).to_owned())).collect());
    let readme = read("infra/README.md");
    for (file, name, id, title) in roles {
        let text = read(&format!("infra/modules/{file}.bicep"));
        assert!(text.lines().any(|line| line.contains(name) && line.ends_with(&format!("'{id}'"))), "{file}: {name}");
        assert!(readme.contains(title), "infra/README.md does not explain {title}");
    }
}

#[test]
fn the_times_of_host_queue_and_engine_fit_together() {
    let host: Value = serde_json::from_str(&read("host.json")).unwrap();
    let span = |text: &Value| timespan::parse(text.as_str().unwrap()).unwrap();
    let function_timeout = span(&host["functionTimeout"]);
    let renewal = span(&host["extensions"]["serviceBus"]["maxAutoLockRenewalDuration"]);
    let lock = minutes(&bicep_value("lockDuration"));
    let documented = documented_times();
    let time = |name: &str| documented[name].0;

    assert_eq!(time("functionTimeout"), function_timeout);
    assert_eq!(time("maxAutoLockRenewalDuration"), renewal);
    assert_eq!(time("lockDuration"), lock);
    assert_eq!(
        time("duplicateDetectionHistoryTimeWindow"),
        minutes(&bicep_value("duplicateDetectionHistoryTimeWindow"))
    );
    for (name, (value, source)) in &documented {
        if source.starts_with("src/") {
            assert_eq!(Some(*value), time_in_source(&read(source), name), "{name} in {source}");
        }
    }

    // We give up first, then the host, then the lock: nobody works on a message that somebody else has got.
    assert!(time("INVOCATION_DEADLINE") < function_timeout && function_timeout <= renewal && function_timeout <= lock);
    // A step: its turn, a place, the call, and a third as much again for the store and the queue.
    let step = time("ADMISSION") + time("PLACE") + time("call_timeout");
    assert!(step + Duration::from_secs(60) <= time("INVOCATION_DEADLINE"));
    // And a whole sending that nobody answers, with something to spare.
    let sending = time("REPEATS_BEGIN") + time("CALL_TIMEOUT");
    assert!(step + sending < time("INVOCATION_DEADLINE"));
    // Nobody takes over what is still being asked.
    assert!(time("call_timeout") <= CALL);
    assert!(time("LOOK_PLACE") + CALL < time("CLAIM") && time("PLACE") + CALL < time("LEASE"));
    assert!(
        time("LEASE") <= time("INVOCATION_DEADLINE")
            && time("TICK") + time("LOOK_PLACE") + time("call_timeout") < time("INVOCATION_DEADLINE")
    );
    // A message sent again has another id; one id is repeated only after an unclear answer, at once.
    assert!(time("INVOCATION_DEADLINE") < time("duplicateDetectionHistoryTimeWindow"));
    let calls = host["extensions"]["serviceBus"]["maxConcurrentCalls"].to_string();
    assert_eq!(host["extensions"]["serviceBus"]["prefetchCount"], 0, "a message that waits here would lose its lock");
    let document = read("docs/operations-in-azure.md");
    for fact in
        [format!("`maxConcurrentCalls` {calls}"), format!("`maxDeliveryCount` {}", bicep_value("maxDeliveryCount"))]
    {
        assert!(document.contains(&fact), "docs/operations-in-azure.md does not say {fact}");
    }
}

fn bicep_value(name: &str) -> String {
    let text = read("infra/modules/service-bus.bicep");
    let begin = format!("{name}: ");
    text.lines().find_map(|line| line.trim().strip_prefix(&begin)).unwrap().trim_matches('\'').to_owned()
}

/// `PT5M`.
fn minutes(text: &str) -> Duration {
    Duration::from_secs(60 * text.strip_prefix("PT").unwrap().strip_suffix('M').unwrap().parse::<u64>().unwrap())
}

/// The rows `| `NAME` | 240 s | `where` | … |` of the document: how long, and in which file.
fn documented_times() -> BTreeMap<String, (Duration, String)> {
    let document = read("docs/operations-in-azure.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        let (name, value, source) = (cells.next()?, cells.next()?, cells.next()?);
        let seconds = value.strip_suffix(" s")?.parse().ok()?;
        Some((name, (Duration::from_secs(seconds), source)))
    };
    document.lines().filter_map(row).collect()
}

/// The value of `NAME: Duration = Duration::from_secs(3 * 60)`, or of a member `name: Duration::from_secs(100)`.
fn time_in_source(source: &str, name: &str) -> Option<Duration> {
    let begins = [format!("const {name}: Duration = Duration::from_secs("), format!(" {name}: Duration::from_secs(")];
    let (_, rest) = begins.iter().find_map(|begin| source.split_once(begin.as_str()))?;
    let (factors, _) = rest.split_once(')')?;
    let factors = factors.split('*').map(|factor| factor.trim().parse::<u64>().ok());
    Some(Duration::from_secs(factors.collect::<Option<Vec<_>>>()?.into_iter().product()))
}
