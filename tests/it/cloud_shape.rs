//! The shape in which it runs in Azure: the package as the script root of a host, Table Storage, Service Bus and a managed
//! identity, and nothing embedded in the path. Azure's own parts are Azurite and the simulators.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use permafresh::arm::simulator::{Acceptance, ApplicationSpec, OnPost, Outcome, Reply, Simulator, SimulatorConfig};
use permafresh::clock::{Clock, SystemClock};
use permafresh::host::{FunctionKeys, Host, HostConfig, LineSink, RunningHost};
use permafresh::queue::service_bus::simulator as bus;
use permafresh::rollout::ApplicationId;
use permafresh::settings::named_by_functions;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::azurite;
use crate::processes::{Home, PATIENCE, run, signal, until};
use crate::service_bus::with_key;

const DEPLOYMENTS: u32 = 200;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Deployments in one subscription.
const TOGETHER: u32 = 5;
const KEY: &str = "a-function-key-of-the-cloud-shape";
const SIG: &str = "a-sig-of-the-cloud-shape";

/// A deployment of a customer, five to a subscription.
fn application(number: u32) -> ApplicationId {
    let (subscription, group) = (number / TOGETHER, number % TOGETHER);
    format!(
        "/subscriptions/{subscription:08}-0000-4000-8000-000000000000/resourceGroups/rg-{group}/providers/Microsoft.Solutions/applications/ledger-{number:03}"
    )
    .parse()
    .unwrap()
}

/// Deployments in the order in which a rollout takes them.
fn applications() -> Vec<ApplicationId> {
    let mut ids: Vec<_> = (0..DEPLOYMENTS).map(application).collect();
    ids.sort_by_key(ApplicationId::key);
    ids
}

/// Azure, and the package under a host that stands for Azure's.
struct Cloud {
    arm: Simulator,
    bus: bus::Simulator,
    host: RunningHost,
    http: reqwest::Client,
    lines: Arc<Mutex<Vec<String>>>,
    home: Home,
}

impl Cloud {
    async fn start() -> Self {
        // The provider that the binary installs in its main function.
        let _once_is_enough = rustls::crypto::ring::default_provider().install_default();
        let home = Home::new();
        let package = home.path("package");
        let packaged = block_in_place(|| run(home.command(&["package", "--out", package.to_str().unwrap()])));
        assert_eq!(packaged.code, Some(0), "{}", packaged.err);

        let arm = SimulatorConfig {
            operation: Duration::from_secs(2),
            // So that one look is enough for most.
            retry_after: Some(Duration::from_secs(2)),
            ..SimulatorConfig::default()
        };
        let arm = Simulator::start(arm).await.unwrap();
        let bus = bus::Simulator::start(bus::SimulatorConfig { keep_requests: 1_000, ..Default::default() }).unwrap();
        let mut settings: BTreeMap<_, _> =
            named_by_functions().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        settings.extend([home.mark()]);
        for (name, value) in [
            ("STATE_STORE", "tables"),
            ("AzureWebJobsStorage", &block_in_place(|| azurite::connection_string("packaged"))),
            ("ServiceBusConnection", &bus.connection_string()),
            ("ARM_ENDPOINT", arm.endpoint().as_str().trim_end_matches('/')),
            ("IDENTITY_ENDPOINT", &arm.identity_endpoint()),
            ("IDENTITY_HEADER", arm.identity_header()),
            ("POLL_SCHEDULE", "*/1 * * * * *"),
            ("NOTIFICATION_SIG", SIG),
            // What Azure sets for every instance; files are refused then.
            ("WEBSITE_INSTANCE_ID", "0123"),
            ("RUST_LOG", "debug"),
        ] {
            settings.insert(name.to_owned(), value.to_owned());
        }
        let lines = Arc::new(Mutex::new(Vec::new()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let queue = Arc::new(with_key(&bus, Arc::clone(&clock)));
        let mut config = HostConfig::new(package.clone(), package, home.path("host"), queue, clock);
        config.settings = settings;
        config.keys = FunctionKeys::new([KEY.to_owned()]);
        let taken = Arc::clone(&lines);
        config.sink = LineSink::new(move |line| taken.lock().unwrap().push(line.text.to_owned()));
        let host = Host::start(config).await.unwrap();
        assert!(host.functions_in_error().is_empty(), "{:?}", host.functions_in_error());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { arm, bus, host, http, lines, home }
    }

    /// One call of the API.
    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("http://{}{path}", self.host.local_addr());
        let mut request = self.http.request(method.parse().unwrap(), url).header("x-functions-key", KEY);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Waits until `look` finds something, for as long as anything goes on: a busy machine is slow, and a deadlock silent.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let (mut seen, mut deadline) = (String::new(), Instant::now() + PATIENCE);
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            let stats = format!("{:?}", self.arm.stats());
            if stats != seen {
                (seen, deadline) = (stats, Instant::now() + PATIENCE);
            }
            let lines = || self.lines.lock().unwrap().join("\n");
            assert!(Instant::now() < deadline, "in vain waited for {what}, {seen}\n{}", lines());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until Azure has accepted so many operations. The service is not asked: counting a rollout is work for the tables.
    async fn until_accepted(&self, operations: u64) {
        let look = async |cloud: &Self| (cloud.arm.stats().operations >= operations).then_some(());
        self.until(&format!("{operations} operations"), look).await;
        assert_eq!(self.arm.stats().operations, operations);
    }

    /// Waits for the end of a rollout and returns its counts.
    async fn until_completed(&self, id: &str) -> Value {
        self.until("the end of the rollout", async |cloud| {
            let (status, rollout) = cloud.call("GET", &format!("/api/rollouts/{id}"), None).await;
            ((status, &rollout["state"]) == (200, &json!("completed"))).then(|| rollout["counts"].clone())
        })
        .await
    }

    /// Whether somebody has tried to send the message of a deployment.
    fn has_tried_to_send(&self, id: &ApplicationId) -> bool {
        let key = id.key().to_string();
        let names_it = |body: &[u8]| body.windows(key.len()).any(|part| part == key.as_bytes());
        self.bus.requests().iter().any(|request| names_it(&request.body))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_of_200_in_the_shape_of_azure_survives_throttling_and_the_death_of_its_handler() {
    let cloud = Cloud::start().await;
    let ids = applications();
    cloud.arm.add_applications(ids.iter().cloned().map(ApplicationSpec::new));
    // Behind the canary: some are refused for a while, and some for good.
    let mut refusals: HashMap<&ApplicationId, u32> = HashMap::new();
    for (at, id) in ids.iter().enumerate().skip(1) {
        let replies = match at % 20 {
            1 => vec![Reply::throttled(1)],
            8 => vec![Reply::unavailable(1), Reply::throttled(1)],
            15 => vec![Reply::busy().with("retry-after", 1)],
            _ => continue,
        };
        refusals.insert(id, u32::try_from(replies.len()).unwrap());
        cloud.arm.on_post(id, replies.into_iter().map(OnPost::Reply));
    }
    cloud.arm.on_post(&ids[5], [OnPost::Reply(Reply::forbidden())]);
    let policy = Outcome::failed("RequestDisallowedByPolicy", "The policy of this tenant disallows the change.");
    // The last of the second wave takes longer, so that nothing of the third is sent before this test looks for it.
    let longer = Acceptance { duration: Some(Duration::from_secs(5)), ..Acceptance::default() };
    cloud.arm.on_post(&ids[99], [OnPost::Accept(longer)]);
    cloud.arm.on_post(&ids[150], [OnPost::Accept(Acceptance::ending(policy))]);

    let rows = ids.iter().map(|id| {
        json!({"applicationId": id.to_string(), "publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.4.0"})
    });
    let (status, imported) = cloud.call("PUT", "/api/deployments", Some(&Value::Array(rows.collect()))).await;
    assert_eq!((status, &imported["imported"]), (200, &json!(DEPLOYMENTS)), "{imported}");
    let publish = json!({"publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.5.0",
        "target": "live", "strategy": {"canaries": 1, "waves": [100, "100%"], "maxInFlight": 200}});
    let (status, accepted) = cloud.call("POST", "/api/offer-publishes", Some(&publish)).await;
    assert_eq!(status, 202, "{accepted}");
    let id = accepted["rolloutId"].as_str().unwrap().to_owned();

    // When Azure has accepted all of the second wave, nothing is sent any more but the plan of the third: one message that
    // asks for it, and the messages of the wave. The handler dies when the wave is stored and none of these was taken.
    cloud.until_accepted(99).await;
    cloud.bus.on(bus::Call::Send, [bus::OnCall::AsUsual, bus::OnCall::Hang]);
    let tried = async |cloud: &Cloud| cloud.has_tried_to_send(&ids[199]).then_some(());
    cloud.until("the messages of the third wave", tried).await;
    // The host works on the threads of this test, which must not be held up.
    let second = block_in_place(|| {
        let first = cloud.home.another_handler(&[]);
        signal(first.id, "KILL");
        cloud.home.another_handler(&[first.id])
    });

    cloud.until_accepted(199).await;
    let counts = cloud.until_completed(&id).await;
    let of = |state: &str| counts[state].as_u64().unwrap();
    assert_eq!((of("succeeded"), of("failed"), of("handedOver"), of("total")), (198, 1, 1, 200), "{counts}");
    let (_, listed) = cloud.call("GET", &format!("/api/rollouts/{id}/refreshes?top=1000"), None).await;
    let results = listed["value"].as_array().unwrap();
    let named: BTreeSet<_> = results.iter().map(|refresh| refresh["applicationId"].as_str().unwrap()).collect();
    assert_eq!((results.len(), named.len()), (200, 200));
    assert!(results.iter().all(|refresh| refresh["endedAt"].is_string()), "{listed}");

    for id in &ids {
        assert_eq!(cloud.arm.posts_of(id), 1 + refusals.get(id).copied().unwrap_or_default(), "{id}");
    }
    let stats = cloud.arm.stats();
    assert_eq!((stats.operations, stats.overlapping_operations), (199, 0));
    assert_eq!((stats.impatient_posts, stats.impatient_polls, stats.altered_urls, stats.refused_tokens), (0, 0, 0, 0));
    assert!(cloud.home.handlers().iter().any(|handler| handler.id == second.id), "the second one lived to the end");

    for queue in ["rollouts", "refreshes"] {
        let is_empty = || (cloud.bus.stats(queue).waiting == 0).then_some(());
        block_in_place(|| until(&format!("{queue} to be empty"), is_empty));
        assert_eq!(cloud.bus.stats(queue).dead, 0, "{queue}");
    }
    cloud.host.shutdown(Duration::from_secs(10)).await;
    let lines = cloud.lines.lock().unwrap();
    assert!(lines.iter().any(|line| line.contains("The functions are ready")), "{lines:?}");
    for line in lines.iter() {
        for secret in [
            KEY,
            SIG,
            azure_storage::EMULATOR_ACCOUNT_KEY,
            "simulated/key+of=no=account",
            "SharedAccessSignature",
            "SharedKey ",
            "sig=",
            "simulated.1.",
            "0123456789abcdef0123456789abcdef",
            "&s=",
            "&c=MII",
        ] {
            assert!(!line.contains(secret), "{secret} is in {line}");
        }
    }
}
