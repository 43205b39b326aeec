//! What the host's tests stand on: a handler that is a real process but does what the test says, a queue in memory, a
//! clock that is moved by hand, and a script root in a temporary folder.
//!
//! The process is this test binary, started again. It passes every connection on its port through to the test, so that a
//! test sees each request as it was sent and answers it with a closure, while starting, crashing and being killed are real.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
};
use http::{HeaderMap, Method, Request, Response};
use permafresh::{
    clock::Clock,
    host::{Fidelity, FunctionKeys, HandlerLine, Host, HostConfig, HostError, LineSink, RunningHost, Severity},
    queue::Queue,
    rollout::Timestamp,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
};

use crate::host_queue_fake::FakeQueue;

/// Nothing in these tests takes anywhere near this long unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The name under which the test binary plays the handler.
const PLAY: &str = "host_stub::the_stub_passes_connections_on_and_ends_as_it_is_told";

/// A request the handler got.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// Path and query, as sent.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Call {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the host sends JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the host sends plain headers"))
    }
}

/// One start of the handler process, as it told of itself.
#[derive(Clone, Debug)]
pub struct Start {
    pub variables: BTreeMap<String, String>,
    pub folder: String,
    pub arguments: Vec<String>,
}

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Answer = Arc<dyn Fn(Call) -> Answering + Send + Sync>;

/// The test's side of the handler.
pub struct Stub {
    control: SocketAddr,
    http: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    calls: Mutex<Vec<Call>>,
    probes: Mutex<Vec<tokio::time::Instant>>,
    starts: Mutex<Vec<(Start, Option<OwnedWriteHalf>)>>,
}

#[derive(Clone)]
struct Director {
    seen: Arc<Seen>,
    answer: Answer,
}

/// Answers with that status and JSON.
pub fn reply(status: u16, body: &Value) -> Response<Body> {
    reply_with(status, Some("application/json"), &body.to_string())
}

/// Answers with that status, content type and body.
pub fn reply_with(status: u16, content_type: Option<&str>, body: &str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    if let Some(content_type) = content_type {
        response = response.header("content-type", content_type);
    }
    response.body(Body::from(body.to_owned())).expect("tests answer with valid heads")
}

/// The smallest success.
pub fn done() -> Response<Body> {
    reply(200, &json!({"Outputs": {}, "Logs": [], "ReturnValue": null}))
}

impl Stub {
    /// A handler that answers at once with what the closure makes of a call; `GET /` is answered 404.
    pub async fn answering(answer: impl Fn(&Call) -> Response<Body> + Send + Sync + 'static) -> Self {
        Self::awaiting(move |call| {
            let response = answer(&call);
            Box::pin(async move { response })
        })
        .await
    }

    /// A handler that takes its time.
    pub async fn awaiting(answer: impl Fn(Call) -> Answering + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Seen::default());
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (control, http) = (bind().await.expect("loopback has ports"), bind().await.expect("loopback has ports"));
        let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let stub = Self { control: address(&control), http: address(&http), seen: Arc::clone(&seen) };
        let director = Director { seen: Arc::clone(&seen), answer: Arc::new(answer) };
        let router = Router::new().fallback(direct).with_state(director);
        tokio::spawn(async move { axum::serve(http, router).await });
        tokio::spawn(async move {
            while let Ok((connection, _)) = control.accept().await {
                tokio::spawn(note_start(connection, Arc::clone(&seen)));
            }
        });
        stub
    }

    /// The calls so far, probes left out.
    pub fn calls(&self) -> Vec<Call> {
        self.seen.calls.lock().expect("no test panics with it").clone()
    }

    /// When it was probed.
    pub fn probes(&self) -> Vec<tokio::time::Instant> {
        self.seen.probes.lock().expect("no test panics with it").clone()
    }

    pub fn starts(&self) -> Vec<Start> {
        self.seen.starts.lock().expect("no test panics with it").iter().map(|(start, _)| start.clone()).collect()
    }

    pub async fn wait_for_calls(&self, count: usize) -> Vec<Call> {
        eventually(&format!("{count} calls"), || self.calls().len() >= count).await;
        self.calls()
    }

    pub async fn wait_for_starts(&self, count: usize) -> Vec<Start> {
        eventually(&format!("{count} starts"), || self.starts().len() >= count).await;
        self.starts()
    }

    /// Tells the process that started as number `start` (from 1): `listen`, `exit 3`, `abort`, `out words`, `err words`.
    pub async fn tell(&self, start: usize, order: &str) {
        self.wait_for_starts(start).await;
        let writer = self.seen.starts.lock().expect("no test panics with it")[start - 1].1.take();
        let mut writer = writer.expect("orders are given one after another");
        // A process that has just been killed hears no more.
        let _gone = writer.write_all(format!("{order}\n").as_bytes()).await;
        self.seen.starts.lock().expect("no test panics with it")[start - 1].1 = Some(writer);
    }
}

async fn direct(State(director): State<Director>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or(String::new(), ToString::to_string);
    if head.method == Method::GET && path == "/" {
        director.seen.probes.lock().expect("no test panics with it").push(tokio::time::Instant::now());
        return reply_with(404, None, "");
    }
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return reply_with(400, None, "");
    };
    let call = Call { method: head.method, path, headers: head.headers, body: body.to_vec() };
    director.seen.calls.lock().expect("no test panics with it").push(call.clone());
    (director.answer)(call).await
}

async fn note_start(connection: TcpStream, seen: Arc<Seen>) {
    let (reader, writer) = connection.into_split();
    let mut lines = BufReader::new(reader).lines();
    let Ok(Some(line)) = lines.next_line().await else { return };
    let told: Value = serde_json::from_str(&line).expect("the stub tells JSON");
    let start = Start {
        variables: serde_json::from_value(told["variables"].clone()).expect("the stub tells its variables"),
        folder: told["folder"].as_str().unwrap_or_default().to_owned(),
        arguments: serde_json::from_value(told["arguments"].clone()).expect("the stub tells its arguments"),
    };
    seen.starts.lock().expect("no test panics with it").push((start, Some(writer)));
    // Held open: the process ends when the test does.
    let _closed = lines.next_line().await;
}

/// Waits until the condition holds, or fails the test.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}

/// A clock that stands still until it is moved.
#[derive(Clone, Debug)]
pub struct HandClock(Arc<Mutex<Timestamp>>);

impl HandClock {
    pub fn at(time: &str) -> Self {
        Self(Arc::new(Mutex::new(time.parse().expect("tests have valid times"))))
    }

    pub fn set(&self, time: &str) {
        *self.0.lock().expect("no test panics with it") = time.parse().expect("tests have valid times");
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no test panics with it")
    }
}

/// A script root, and everything else a host needs.
pub struct Ground {
    pub folder: TempDir,
    pub queue: Arc<FakeQueue>,
    pub clock: HandClock,
    pub config: HostConfig,
    pub lines: Arc<Mutex<Vec<(Severity, String)>>>,
}

/// The key that lets callers in.
pub const KEY: &str = "the-key";

impl Ground {
    /// A host.json that starts the stub, with changes at its top level, and function.json files.
    pub fn new(stub: &Stub, changes: &Value, functions: &[(&str, Value)]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let clock = HandClock::at("2026-01-16T08:30:11.7562691Z");
        let queue = Arc::new(FakeQueue::new(clock.clone()));
        let executable = std::env::current_exe().expect("tests know their binary");
        let mut host_json = json!({
            "version": "2.0",
            "functionTimeout": "00:00:20",
            "customHandler": {
                "description": {
                    "defaultExecutablePath": executable,
                    "arguments": [PLAY, "--exact", "--nocapture"]
                },
                "enableProxyingHttpRequest": true
            }
        });
        merge(&mut host_json, changes);
        std::fs::write(folder.path().join("host.json"), host_json.to_string()).expect("the folder is ours");
        for (name, function) in functions {
            put_function(folder.path(), name, &function.to_string());
        }
        let (root, state) = (folder.path().to_owned(), folder.path().join("state"));
        let dynamic: Arc<dyn Queue> = queue.clone();
        let mut config = HostConfig::new(root.clone(), root.join("functions"), state, dynamic, Arc::new(clock.clone()));
        config.settings = BTreeMap::from([
            ("STUB_CONTROL".to_owned(), stub.control.to_string()),
            ("STUB_HTTP".to_owned(), stub.http.to_string()),
        ]);
        config.keys = FunctionKeys::new([KEY.to_owned()]);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&lines);
        config.sink = LineSink::new(move |line: HandlerLine<'_>| {
            taken.lock().expect("no test panics with it").push((line.severity, line.text.to_owned()));
        });
        Self { folder, queue, clock, config, lines }
    }

    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.config.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn exact(mut self) -> Self {
        self.config.fidelity = Fidelity::Exact;
        self
    }

    pub async fn start(&self) -> RunningHost {
        self.try_start().await.expect("the host starts")
    }

    pub async fn try_start(&self) -> Result<RunningHost, HostError> {
        Host::start(self.config.clone()).await
    }

    pub fn line_was_passed_on(&self, severity: Severity, text: &str) -> bool {
        let lines = self.lines.lock().expect("no test panics with it");
        lines.iter().any(|(of, line)| *of == severity && line == text)
    }
}

/// Writes a function.json; its text may be anything.
pub fn put_function(root: &Path, name: &str, text: &str) {
    let folder = root.join("functions").join(name);
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    std::fs::write(folder.join("function.json"), text).expect("the folder is ours");
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(into.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// A queue function.
pub fn queue_function(data_type: &str) -> Value {
    json!({"bindings": [{
        "name": "order", "type": "serviceBusTrigger", "direction": "in", "queueName": "orders",
        "connection": "ServiceBusConnection", "dataType": data_type
    }]})
}

/// An anonymous HTTP function with a route of its own.
pub fn http_function(route: &str) -> Value {
    json!({"bindings": [
        {"name": "req", "type": "httpTrigger", "direction": "in", "authLevel": "anonymous", "route": route},
        {"name": "res", "type": "http", "direction": "out"}
    ]})
}

/// A timer.
pub fn timer_function(schedule: &str) -> Value {
    json!({"bindings": [{"name": "tick", "type": "timerTrigger", "direction": "in", "schedule": schedule}]})
}

/// An answer of the host, read to its end.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

/// Sends a request to the host.
pub async fn ask(host: &RunningHost, request: Request<Body>) -> Got {
    let port = host.local_addr().port();
    let (mut head, body) = request.into_parts();
    head.uri = format!("http://127.0.0.1:{port}{}", head.uri).parse().expect("tests ask for valid paths");
    let client = permafresh::host::client::HandlerClient::default();
    let asked = tokio::time::timeout(DEADLINE, client.send(port, Request::from_parts(head, body))).await;
    let response = asked.expect("the host answers in time").expect("the host can be reached");
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("the host answers to the end");
    Got { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() }
}

pub async fn get(host: &RunningHost, path: &str) -> Got {
    ask(host, Request::get(path).body(Body::empty()).expect("tests ask for valid paths")).await
}

pub async fn post(host: &RunningHost, path: &str, body: &str) -> Got {
    let request = Request::post(path).header("x-functions-key", KEY).header("content-type", "application/json");
    ask(host, request.body(Body::from(body.to_owned())).expect("tests ask for valid paths")).await
}

/// Plays the handler if it was started as one; otherwise starts itself so and tries it out.
#[test]
fn the_stub_passes_connections_on_and_ends_as_it_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    match std::env::var("STUB_CONTROL") {
        Ok(control) => runtime.block_on(play(&control)),
        Err(_) => runtime.block_on(try_out()),
    }
}

async fn play(control: &str) {
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let told = json!({
        "variables": variables,
        "folder": std::env::current_dir().expect("there is a working directory"),
        "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
    });
    let connection = TcpStream::connect(control).await.expect("the test listens");
    let (orders, mut telling) = connection.into_split();
    telling.write_all(format!("{told}\n").as_bytes()).await.expect("the test reads");
    let port = variables["FUNCTIONS_CUSTOMHANDLER_PORT"].parse().expect("the port is a number");
    let through = variables["STUB_HTTP"].clone();
    if !variables.contains_key("STUB_IS_SLOW") {
        tokio::spawn(pass_through(port, through.clone()));
    }
    let mut orders = BufReader::new(orders).lines();
    while let Ok(Some(order)) = orders.next_line().await {
        match order.split_once(' ').unwrap_or((&order, "")) {
            ("exit", code) => std::process::exit(code.parse().expect("exit codes are numbers")),
            ("abort", _) => std::process::abort(),
            ("out", text) => println!("{text}"),
            ("err", text) => eprintln!("{text}"),
            ("listen", _) => drop(tokio::spawn(pass_through(port, through.clone()))),
            (other, _) => panic!("no such order: {other}"),
        }
    }
    // The test is gone.
    std::process::exit(3);
}

async fn pass_through(port: u16, to: String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free");
    while let Ok((mut outside, _)) = listener.accept().await {
        let to = to.clone();
        tokio::spawn(async move {
            let mut inside = TcpStream::connect(to).await?;
            outside.set_nodelay(true)?;
            inside.set_nodelay(true)?;
            copy_bidirectional(&mut outside, &mut inside).await
        });
    }
}

async fn try_out() {
    let stub = Stub::answering(|call| reply_with(201, None, &call.path)).await;
    let ground = Ground::new(&stub, &json!({}), &[("F", http_function("f"))]);
    let host = ground.start().await;
    let got = get(&host, "/api/f?x=1").await;
    assert_eq!((got.status, got.body.as_str()), (201, "/api/f?x=1"));
    stub.tell(1, "exit 200").await;
    stub.wait_for_starts(2).await;
    assert_eq!(stub.calls().len(), 1);
}
