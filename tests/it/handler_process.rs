//! `permafresh handler` as a Functions host starts it: by environment variables, and watched by what it prints.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::processes::{Home, Running, run, until};

/// The guard of notifications.
pub const SIG: &str = "short";

/// A handler, on a port that was free a moment ago.
pub struct Handler {
    process: Running,
    pub port: u16,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

pub fn command(home: &Home) -> (Command, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = home.command(&["handler"]);
    command.envs([
        ("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string().as_str()),
        ("STATE_STORE", "sqlite:state.db"),
        ("ARM_ENDPOINT", "http://127.0.0.1:1"),
        ("NOTIFICATION_SIG", SIG),
    ]);
    (command, port)
}

impl Handler {
    pub fn of((command, port): (Command, u16)) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _once_is_enough = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        Self { process: Running::start(command), port, client, runtime }
    }

    pub fn call(&self, method: &str, path: &str, body: String) -> Option<(u16, String)> {
        let request = self.client.request(method.parse().unwrap(), format!("http://127.0.0.1:{}{path}", self.port));
        let request = request.header("X-Azure-Functions-InvocationId", "the-invocation").body(body);
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            Some((response.status().as_u16(), response.text().await.ok()?))
        })
    }

    pub fn is_up(&self) -> Option<()> {
        (self.call("GET", "/", String::new())?.0 == 200).then_some(())
    }
}

#[test]
fn a_handler_that_no_host_has_started_says_what_to_do() {
    let home = Home::new();
    let (mut command, _) = command(&home);
    let ended = run({
        command.env_remove("FUNCTIONS_CUSTOMHANDLER_PORT");
        command
    });
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{}", ended.err);
    assert!(ended.err.contains("hint: run `permafresh local`"), "{}", ended.err);
    assert!(!home.path("state.db").exists());
}

#[test]
fn a_handler_answers_at_once_while_its_store_is_not_to_be_had_and_then_gives_up() {
    let home = Home::new();
    let store = rusqlite::Connection::open(home.path("state.db")).unwrap();
    store.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let handler = Handler::of(command(&home));
    until("an answer", || handler.is_up());
    assert!(!handler.process.out().contains("The functions are ready"));
    // What comes early waits, and is told so when nothing comes of it.
    let started = Instant::now();
    if let Some((status, body)) = handler.call("GET", "/api/rollouts", String::new()) {
        assert_eq!(status, 500, "{body}");
    }
    let ended = handler.process.end();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("cannot open the store") && ended.err.contains("locked"), "{}", ended.err);
}

#[test]
fn a_store_that_is_locked_for_a_moment_only_delays_the_first_answers() {
    let home = Home::new();
    let store = rusqlite::Connection::open(home.path("state.db")).unwrap();
    store.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut handler = Handler::of(command(&home));
    until("an answer", || handler.is_up());
    store.execute_batch("ROLLBACK").unwrap();
    let (status, body) = handler.call("GET", "/api/rollouts", String::new()).unwrap();
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()["value"].clone()), (200, json!([])));
    handler.process.until("the news", |out, _| out.contains("The functions are ready").then_some(()));
    assert_eq!(std::fs::metadata(home.path("state.db.queue")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_handler_writes_errors_and_warnings_to_stderr_and_the_rest_to_stdout() {
    for (runtime, is_json) in [(Some("custom"), true), (None, false)] {
        let home = Home::new();
        let (mut command, port) = command(&home);
        command.envs(runtime.map(|runtime| ("FUNCTIONS_WORKER_RUNTIME", runtime)));
        let mut handler = Handler::of((command, port));
        handler.process.until("the start", |out, _| out.contains("The functions are ready").then_some(()));
        let (status, body) =
            handler.call("POST", "/RefreshDeployment", r#"{"Data":{"message":"e30="}}"#.into()).unwrap();
        assert_eq!(status, 500, "{body}");
        handler.process.until("why", |_, err| err.contains("the-invocation").then_some(()));
        let (out, err) = (handler.process.out(), handler.process.err());
        let warnings: Vec<_> = err.lines().filter(|line| line.contains("NOTIFICATION_SIG")).collect();
        assert!(warnings.len() == 1 && warnings[0].contains("WARN") && !out.contains("NOTIFICATION_SIG"), "{err}");
        let failures: Vec<_> = err.lines().filter(|line| line.contains("the-invocation")).collect();
        // Once, with the reason and the id in one line: many invocations fail at the same time.
        assert_eq!((failures.len(), err.matches("not one of ours").count()), (1, 1), "{err}");
        assert!(failures[0].contains("not one of ours") && failures[0].contains("ERROR"), "{err}");
        // A word that would make a warning of an error.
        assert!(!failures.iter().any(|line| line.to_lowercase().contains("warn")), "{err}");
        assert!(!out.contains("ERROR") && !out.contains("the-invocation"), "{out}");
        for line in out.lines().chain(err.lines()) {
            assert_eq!(serde_json::from_str::<Value>(line).is_ok(), is_json, "{line}");
        }
    }
}

#[test]
fn whatever_comes_a_handler_goes_on() {
    let home = Home::new();
    let handler = Handler::of(command(&home));
    until("an answer", || handler.is_up());
    for (method, path, body, expected) in [
        ("POST", "/RefreshDeployment", "", 500),
        ("POST", "/PlanRollout", r#"{"Data":{"message":"%%%"}}"#, 500),
        ("POST", "/PollOperations", "[]", 500),
        ("POST", "/ScheduledRefresh", "not JSON", 500),
        ("POST", "/NoFunction", "{}", 404),
        ("PATCH", "/api/rollouts", "", 405),
        ("POST", "/api/offer-publishes", "\u{0}", 400),
        ("GET", "/api/rollouts/not-an-id", "", 400),
        ("PUT", "/api/deployments", "[[", 400),
    ] {
        let (status, answer) = handler.call(method, path, body.to_owned()).unwrap();
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert!(!answer.is_empty(), "{path}: an empty answer hangs the host");
    }
    handler.is_up().unwrap();
}

#[test]
fn a_port_that_is_taken_ends_the_handler_with_a_hint() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut command, _) = command(&home);
    command.env("FUNCTIONS_CUSTOMHANDLER_PORT", taken.local_addr().unwrap().port().to_string());
    let ended = run(command);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("cannot listen on port") && ended.err.contains("\nhint: "), "{}", ended.err);
}
