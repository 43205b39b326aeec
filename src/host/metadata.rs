//! Finds the functions: one `function.json` in each direct child folder, read strictly. It starts nothing.
//!
//! A function whose file is wrong is in error and told so; the others load (contracts/custom-handler.md §4). What Azure
//! would accept but the embedded host cannot do (topics, sessions, batches, other bindings) is an error too, never a
//! silent difference.

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    app_settings::{AppSettings, Unresolved},
    config::{HostJson, HttpMode},
    retry_policy::{RetryPolicy, RetryPolicyError},
    route::{RouteError, RouteTemplate},
};
use crate::ncrontab::{Schedule, ScheduleError};

/// One function that can be run.
#[derive(Clone, Debug)]
pub struct Function {
    /// The folder's name, in its own case.
    pub name: String,
    /// The name of the trigger binding: the member of `Data`.
    pub trigger_name: String,
    /// What starts it.
    pub trigger: Trigger,
    /// Where its results go.
    pub outputs: Vec<Output>,
    /// How failed runs are retried; honoured for timers.
    pub retry: Option<RetryPolicy>,
}

/// What starts a function.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// An HTTP request.
    Http(HttpTrigger),
    /// The clock.
    Timer(TimerTrigger),
    /// A message.
    ServiceBus(ServiceBusTrigger),
}

/// `httpTrigger`.
#[derive(Clone, Debug)]
pub struct HttpTrigger {
    /// The route, prefix included.
    pub route: RouteTemplate,
    /// Upper-case methods; empty means all.
    pub methods: Vec<String>,
    /// Who may call.
    pub auth: AuthLevel,
    /// How the request reaches the handler.
    pub mode: HttpMode,
}

/// `authLevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthLevel {
    /// Everybody.
    Anonymous,
    /// Who shows a key (`function` and `admin`; the embedded host has one set of keys).
    Key,
}

/// `timerTrigger`.
#[derive(Clone, Debug)]
pub struct TimerTrigger {
    /// When.
    pub schedule: Schedule,
    /// Whether missed runs are noticed.
    pub monitor: Monitor,
    /// Whether it also runs at every start.
    pub on_startup: OnStartup,
}

/// `useMonitor`, forced off for schedules of more than one run a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// The last and next run are stored.
    On,
    /// Nothing is stored.
    Off,
}

/// `runOnStartup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStartup {
    /// It runs.
    Run,
    /// It waits for its time.
    Wait,
}

/// `serviceBusTrigger` on a queue, one message at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceBusTrigger {
    /// The queue.
    pub queue: String,
    /// How the body is passed on.
    pub body: BodyKind,
}

/// `dataType` of a queue trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// As text, whose JSON members are merged into the metadata.
    Text,
    /// As base64, exactly as sent.
    Binary,
}

/// An output binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The member of `Outputs`, or `$return`.
    pub name: String,
    /// Where it goes.
    pub kind: OutputKind,
}

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// To the HTTP caller.
    Http,
    /// To a queue.
    Queue {
        /// Which one.
        queue: String,
        /// Whether base64 is looked for.
        base64: Base64,
    },
}

/// What `dataType` says about texts in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base64 {
    /// A text that happens to be base64 becomes bytes.
    Decoded,
    /// It stays text (`dataType: "binary"`).
    Kept,
}

/// A function that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("function {function}: {problem}")]
pub struct FunctionError {
    /// Its folder.
    pub function: String,
    /// What is wrong.
    #[source]
    pub problem: FunctionProblem,
}

/// What is wrong with a function.
#[derive(Debug, thiserror::Error)]
pub enum FunctionProblem {
    /// The folder's name cannot be a function's.
    #[error("the name has to start with a letter, have at most 128 letters, digits, _ or -, and not be host")]
    Name,
    /// The file could not be read.
    #[error("could not read function.json: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is not JSON.
    #[error("function.json is not valid JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// There is no list of bindings.
    #[error("bindings has to be an array of objects")]
    Bindings,
    /// No trigger, or several.
    #[error("exactly one trigger binding is needed, found {found}")]
    Triggers {
        /// How many.
        found: usize,
    },
    /// A binding's name cannot be used.
    #[error("binding name {name:?} has to be letters and digits, start with a letter and be unique")]
    BindingName {
        /// The name.
        name: String,
    },
    /// No such binding.
    #[error("binding {name} has a type the embedded host does not know: {kind}")]
    UnknownType {
        /// The binding.
        name: String,
        /// Its type.
        kind: String,
    },
    /// A binding property is wrong.
    #[error("binding {name}: {property} {problem}")]
    Property {
        /// The binding.
        name: String,
        /// Which property.
        property: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A setting is missing.
    #[error("binding {name}: {property}: {source}")]
    Unresolved {
        /// The binding.
        name: String,
        /// Which property.
        property: &'static str,
        /// Which setting.
        source: Unresolved,
    },
    /// The schedule cannot be read.
    #[error("{0}")]
    Schedule(#[from] ScheduleError),
    /// The route cannot be read.
    #[error("{0}")]
    Route(#[from] RouteError),
    /// The retry policy cannot be used.
    #[error("retry: {0}")]
    Retry(#[from] RetryPolicyError),
}

/// What was found.
#[derive(Debug, Default)]
pub struct Functions {
    /// Those that load, in the order of their names without regard to case, which is the order routes are tried in.
    pub loaded: Vec<Function>,
    /// Those in error.
    pub in_error: Vec<FunctionError>,
}

/// Reads every direct child folder of `folder` that holds a `function.json`.
///
/// # Errors
/// If the folder itself cannot be listed.
pub fn discover(folder: &Path, host: &HostJson, settings: &AppSettings) -> Result<Functions, std::io::Error> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().join("function.json").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    if let Some(only) = &host.functions {
        names.retain(|name| only.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)));
    }
    names.sort_by_key(|name| name.to_lowercase());
    let mut functions = Functions::default();
    for name in names {
        let file = folder.join(&name).join("function.json");
        let read = std::fs::read(file)
            .map_err(FunctionProblem::from)
            .and_then(|text| Function::read(&name, &text, host, settings));
        match read {
            Ok(function) => functions.loaded.push(function),
            Err(problem) => functions.in_error.push(FunctionError { function: name, problem }),
        }
    }
    Ok(functions)
}

impl Function {
    /// Reads one function.json.
    ///
    /// # Errors
    /// Whatever puts this function in error.
    pub fn read(name: &str, text: &[u8], host: &HostJson, settings: &AppSettings) -> Result<Self, FunctionProblem> {
        if !is_function_name(name) {
            return Err(FunctionProblem::Name);
        }
        let json: Value = serde_json::from_slice(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text))?;
        let bindings = json.get("bindings").and_then(Value::as_array).ok_or(FunctionProblem::Bindings)?;
        let bindings = bindings
            .iter()
            .map(|binding| Ok(Binding::new(binding.as_object().ok_or(FunctionProblem::Bindings)?, settings)))
            .collect::<Result<Vec<_>, FunctionProblem>>()?;
        check_names(&bindings)?;
        let (triggers, others): (Vec<_>, Vec<_>) = bindings.iter().partition(|binding| binding.is_trigger());
        let &[trigger] = triggers.as_slice() else {
            return Err(FunctionProblem::Triggers { found: triggers.len() });
        };
        let outputs = others.into_iter().map(Binding::output).collect::<Result<Vec<_>, _>>()?;
        // Only a function of exactly one HTTP trigger and one HTTP output is proxied; the rest gets the envelope.
        let plain_http = matches!(outputs.as_slice(), [Output { kind: OutputKind::Http, .. }]);
        let mode = if plain_http { host.http_mode } else { HttpMode::Envelope };
        let retry = match json.get("retry").filter(|retry| !retry.is_null()) {
            Some(retry) => Some(RetryPolicy::read(retry)?),
            None => host.retry,
        };
        Ok(Self {
            name: name.to_owned(),
            trigger_name: trigger.name.clone(),
            trigger: trigger.trigger(name, &host.route_prefix, mode)?,
            outputs,
            retry,
        })
    }
}

fn check_names(bindings: &[Binding<'_>]) -> Result<(), FunctionProblem> {
    for (at, binding) in bindings.iter().enumerate() {
        let twice = bindings[..at].iter().any(|other| other.name.eq_ignore_ascii_case(&binding.name));
        if twice || !is_binding_name(&binding.name) {
            return Err(FunctionProblem::BindingName { name: binding.name.clone() });
        }
    }
    Ok(())
}

fn is_function_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(plain)
        && !name.eq_ignore_ascii_case("host")
}

fn is_binding_name(name: &str) -> bool {
    let plain = name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain || name == "$return"
}

/// The properties of one binding; their names are matched without regard to case.
struct Binding<'a> {
    name: String,
    kind: String,
    members: &'a Map<String, Value>,
    settings: &'a AppSettings,
}

impl<'a> Binding<'a> {
    fn new(members: &'a Map<String, Value>, settings: &'a AppSettings) -> Self {
        let mut binding = Self { name: String::new(), kind: String::new(), members, settings };
        binding.name = binding.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        binding.kind = binding.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        binding
    }

    fn is_trigger(&self) -> bool {
        self.kind.to_ascii_lowercase().ends_with("trigger")
    }

    fn get(&self, property: &str) -> Option<&'a Value> {
        let same = |(key, value): (&'a String, &'a Value)| key.eq_ignore_ascii_case(property).then_some(value);
        self.members.iter().find_map(same).filter(|value| !value.is_null())
    }

    fn wrong(&self, property: &'static str, problem: &str) -> FunctionProblem {
        FunctionProblem::Property { name: self.name.clone(), property, problem: problem.to_owned() }
    }

    fn text(&self, property: &'static str) -> Result<Option<String>, FunctionProblem> {
        let Some(value) = self.get(property) else {
            return Ok(None);
        };
        let text = value.as_str().ok_or_else(|| self.wrong(property, "has to be text"))?;
        self.settings.resolve(text).map(Some).map_err(|source| FunctionProblem::Unresolved {
            name: self.name.clone(),
            property,
            source,
        })
    }

    fn needed(&self, property: &'static str) -> Result<String, FunctionProblem> {
        let text = self.text(property)?.filter(|text| !text.trim().is_empty());
        text.ok_or_else(|| self.wrong(property, "is missing or empty"))
    }

    fn flag(&self, property: &'static str) -> Result<Option<bool>, FunctionProblem> {
        match self.get(property) {
            None => Ok(None),
            Some(value) => value.as_bool().map(Some).ok_or_else(|| self.wrong(property, "has to be true or false")),
        }
    }

    fn trigger(&self, function: &str, prefix: &str, mode: HttpMode) -> Result<Trigger, FunctionProblem> {
        match self.kind.to_ascii_lowercase().as_str() {
            "httptrigger" => self.http(function, prefix, mode).map(Trigger::Http),
            "timertrigger" => self.timer().map(Trigger::Timer),
            "servicebustrigger" => self.service_bus().map(Trigger::ServiceBus),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> FunctionProblem {
        FunctionProblem::UnknownType { name: self.name.clone(), kind: self.kind.clone() }
    }

    fn http(&self, function: &str, prefix: &str, mode: HttpMode) -> Result<HttpTrigger, FunctionProblem> {
        let route = self.text("route")?.unwrap_or(function.to_owned());
        let auth = match self.text("authLevel")?.unwrap_or_default().to_ascii_lowercase().as_str() {
            "anonymous" => AuthLevel::Anonymous,
            "" | "function" | "admin" => AuthLevel::Key,
            _ => return Err(self.wrong("authLevel", "has to be anonymous, function or admin")),
        };
        let methods = match self.get("methods") {
            None => Vec::new(),
            Some(methods) => methods
                .as_array()
                .and_then(|methods| methods.iter().map(|one| Some(one.as_str()?.to_ascii_uppercase())).collect())
                .ok_or_else(|| self.wrong("methods", "has to be an array of texts"))?,
        };
        Ok(HttpTrigger { route: RouteTemplate::parse(prefix, &route)?, methods, auth, mode })
    }

    fn timer(&self) -> Result<TimerTrigger, FunctionProblem> {
        let schedule = Schedule::parse(&self.needed("schedule")?)?;
        let wanted = self.flag("useMonitor")?.unwrap_or(true) && !schedule.runs_more_than_once_a_minute();
        let on_startup = self.flag("runOnStartup")?.unwrap_or(false);
        Ok(TimerTrigger {
            schedule,
            monitor: if wanted { Monitor::On } else { Monitor::Off },
            on_startup: if on_startup { OnStartup::Run } else { OnStartup::Wait },
        })
    }

    fn service_bus(&self) -> Result<ServiceBusTrigger, FunctionProblem> {
        if self.get("topicName").is_some() {
            return Err(self.wrong("topicName", "is not served by the embedded host: use queueName"));
        }
        if self.flag("isSessionsEnabled")? == Some(true) {
            return Err(self.wrong("isSessionsEnabled", "is not served by the embedded host"));
        }
        if self.flag("autoCompleteMessages")? == Some(false) {
            return Err(self.wrong("autoCompleteMessages", "has to be true: a custom handler cannot settle messages"));
        }
        match self.text("cardinality")?.unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "one" => {}
            _ => return Err(self.wrong("cardinality", "has to be one: the embedded host delivers no batches")),
        }
        let body = match self.text("dataType")?.unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "string" => BodyKind::Text,
            "binary" => BodyKind::Binary,
            _ => return Err(self.wrong("dataType", "has to be string or binary")),
        };
        self.connection()?;
        Ok(ServiceBusTrigger { queue: self.needed("queueName")?, body })
    }

    /// The connection has to be named, but its setting may be absent: the embedded queue takes the namespace's place.
    fn connection(&self) -> Result<(), FunctionProblem> {
        self.needed("connection").map(drop)
    }

    fn output(&self) -> Result<Output, FunctionProblem> {
        let kind = self.kind.to_ascii_lowercase();
        if !matches!(kind.as_str(), "http" | "servicebus") {
            return Err(self.unknown());
        }
        if !self.text("direction")?.is_some_and(|direction| direction.eq_ignore_ascii_case("out")) {
            return Err(self.wrong("direction", "has to be out"));
        }
        if kind == "http" {
            return Ok(Output { name: self.name.clone(), kind: OutputKind::Http });
        }
        if self.get("topicName").is_some() {
            return Err(self.wrong("topicName", "is not served by the embedded host: use queueName"));
        }
        self.connection()?;
        let binary = self.text("dataType")?.is_some_and(|kind| kind.eq_ignore_ascii_case("binary"));
        let base64 = if binary { Base64::Kept } else { Base64::Decoded };
        Ok(Output { name: self.name.clone(), kind: OutputKind::Queue { queue: self.needed("queueName")?, base64 } })
    }
}
