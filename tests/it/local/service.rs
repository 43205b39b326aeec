//! A simulated Azure, and `permafresh local` that works with it.

use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use permafresh::arm::simulator::{ApplicationSpec, Simulator, SimulatorConfig};
use permafresh::partner_center::simulator as partner_center;
use permafresh::queue::service_bus::simulator as bus;
use permafresh::rollout::ApplicationId;
use serde_json::{Value, json};

use crate::processes::{Ended, Home, Running, run, until};

/// Azure for one test, on a runtime of its own.
pub struct Azure {
    pub simulator: Simulator,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Azure {
    /// One whose operations take `operation`, and that wants to be asked every second.
    pub fn start(operation: Duration) -> Self {
        Self::asked_every(Duration::from_secs(1), operation)
    }

    pub fn asked_every(retry_after: Duration, operation: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = SimulatorConfig {
            operation,
            retry_after: Some(retry_after),
            keep_requests: 1_000,
            ..SimulatorConfig::default()
        };
        let simulator = runtime.block_on(Simulator::start(config)).unwrap();
        let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
        // The provider that the binary installs in its main function.
        let _once_is_enough = rustls::crypto::ring::default_provider().install_default();
        Self { simulator, client: builder.build().unwrap(), runtime }
    }

    /// So many applications, each in a subscription of its own.
    pub fn applications(&self, count: u32) -> Vec<ApplicationId> {
        let ids: Vec<_> = (1..=count).map(application).collect();
        self.simulator.add_applications(ids.iter().cloned().map(ApplicationSpec::new));
        ids
    }

    /// A server of the test's own, with one answer to every GET.
    pub fn serve(&self, answer: impl Fn() -> (u16, String) + Clone + Send + Sync + 'static) -> String {
        let answer = get(move || {
            let (status, body) = answer();
            std::future::ready((axum::http::StatusCode::from_u16(status).unwrap(), body))
        });
        self.serve_router(Router::new().fallback(answer))
    }

    /// A server of the test's own, on the runtime of this Azure.
    pub fn serve_router(&self, router: Router) -> String {
        let listener = self.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        self.runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    /// A Partner Center beside it, and the authority that issues its tokens.
    pub fn partner_center(&self) -> partner_center::Simulator {
        self.runtime.block_on(partner_center::Simulator::start(partner_center::SimulatorConfig::default())).unwrap()
    }

    /// A Service Bus namespace beside it.
    pub fn service_bus(&self) -> bus::Simulator {
        self.runtime.block_on(async { bus::Simulator::start(bus::SimulatorConfig::default()) }).unwrap()
    }

    /// One HTTP call: status and body.
    pub fn call(&self, method: &str, url: &str, key: Option<&str>, body: Option<&Value>) -> Option<(u16, String)> {
        let mut request = self.client.request(method.parse().unwrap(), url);
        if let Some(key) = key {
            request = request.header("x-functions-key", key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            Some((response.status().as_u16(), response.text().await.ok()?))
        })
    }

    /// The status of a GET that carries one more header.
    pub fn get_with(&self, url: &str, key: &str, (name, value): (&str, &str)) -> u16 {
        let request = self.client.get(url).header("x-functions-key", key).header(name, value);
        self.runtime.block_on(async { request.send().await }).unwrap().status().as_u16()
    }

    /// The settings that point a service here.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let endpoint = self.simulator.endpoint().as_str().trim_end_matches('/').to_owned();
        vec![
            ("STATE_STORE", "sqlite:state.db".to_owned()),
            ("ARM_ENDPOINT", endpoint),
            ("IDENTITY_ENDPOINT", self.simulator.identity_endpoint()),
            ("IDENTITY_HEADER", self.simulator.identity_header().to_owned()),
            ("POLL_SCHEDULE", "*/1 * * * * *".to_owned()),
            ("NOTIFICATION_SIG", "the-old-sig-of-before,the-new-sig-of-today".to_owned()),
        ]
    }
}

pub fn application(number: u32) -> ApplicationId {
    format!(
        "/subscriptions/{number:08}-0000-4000-8000-000000000000/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger-{number:03}"
    )
    .parse()
    .unwrap()
}

/// `permafresh local`, which serves.
pub struct Local<'a> {
    pub process: Running,
    pub url: String,
    pub home: &'a Home,
    pub azure: &'a Azure,
}

/// The command that starts a service in `home`.
pub fn local(home: &Home, azure: &Azure) -> Command {
    let mut command = home.command(&["local", "--port", "0"]);
    command.envs(azure.settings());
    command
}

impl<'a> Local<'a> {
    pub fn start(home: &'a Home, azure: &'a Azure) -> Self {
        Self::of(local(home, azure), home, azure)
    }

    pub fn of(command: Command, home: &'a Home, azure: &'a Azure) -> Self {
        let mut process = Running::start(command);
        let url = process.until("the line with the address", |out, _| {
            Some(out.strip_suffix('\n')?.strip_prefix("listening ")?.to_owned())
        });
        Self { process, url, home, azure }
    }

    pub fn key(&self) -> String {
        std::fs::read_to_string(self.home.path("state.db.keys")).unwrap().trim().to_owned()
    }

    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let (status, text) = until("an answer", || self.azure.call(method, &url, Some(&self.key()), body));
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A command of the same binary that talks to this service.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("PERMAFRESH_URL", &self.url).env("PERMAFRESH_KEY_FILE", self.home.path("state.db.keys"));
        command
    }

    /// Runs such a command and expects that exit code.
    pub fn run(&self, arguments: &[&str], code: i32) -> Ended {
        let ended = run(self.command(arguments));
        assert_eq!(ended.code, Some(code), "{arguments:?}\n{}\n{}\n{}", ended.out, ended.err, self.process.err());
        ended
    }

    /// Registers deployments as a person would.
    pub fn import(&self, applications: &[ApplicationId]) {
        let mut rows = String::from("applicationId,publisher,offer,plan,version\n");
        for id in applications {
            rows.push_str(&format!("{id},fabrikam,ledger,standard,1.4.0\n"));
        }
        let file = self.home.path("rows.csv");
        std::fs::write(&file, rows).unwrap();
        let ended = self.run(&["deployments", "import", file.to_str().unwrap()], 0);
        assert_eq!(ended.out, format!("imported {}, updated 0, rejected 0\n", applications.len()));
    }

    /// Publishes to everybody at once and returns the rollout's id.
    pub fn publish(&self) -> String {
        self.publish_by(&json!({"canaries": 0, "waves": ["100%"]}))
    }

    pub fn publish_by(&self, strategy: &Value) -> String {
        let body = json!({"publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.5.0",
            "target": "live", "strategy": strategy});
        let (status, answer) = self.call("POST", "/api/offer-publishes", Some(&body));
        assert_eq!(status, 202, "{answer}");
        answer["rolloutId"].as_str().unwrap().to_owned()
    }

    pub fn rollout(&self, id: &str) -> Value {
        let (status, answer) = self.call("GET", &format!("/api/rollouts/{id}"), None);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Waits until the rollout is in `state` and returns its counts.
    pub fn until_rollout(&self, id: &str, state: &str) -> Value {
        let mut last = Value::Null;
        until(&format!("the rollout to be {state}"), || {
            let rollout = self.rollout(id);
            if rollout["counts"] != last["counts"] {
                // Seen only where the test fails.
                println!("{rollout}");
                last = rollout.clone();
            }
            (rollout["state"] == state).then(|| rollout["counts"].clone())
        })
    }

    /// Waits until Azure has accepted so many, and the service has noted it: whoever is killed before that waits for the
    /// lease of what it was about.
    pub fn until_accepted(&self, id: &str, count: usize) {
        until(&format!("{count} to be accepted"), || {
            let accepted = self.refreshes(id).iter().filter(|refresh| refresh["submittedAt"].is_string()).count();
            (accepted == count).then_some(())
        });
    }

    pub fn refreshes(&self, id: &str) -> Vec<Value> {
        let (status, answer) = self.call("GET", &format!("/api/rollouts/{id}/refreshes?top=1000"), None);
        assert_eq!(status, 200, "{answer}");
        answer["value"].as_array().unwrap().clone()
    }

    /// Asks it to end, as a terminal or a service manager would.
    pub fn stop(self, signal: &str) -> Ended {
        self.process.signal(signal);
        let ended = self.process.end();
        assert_eq!((ended.code, ended.signal), (Some(0), None), "{}", ended.err);
        self.home.assert_left();
        ended
    }
}
