//! Reads host.json: the handler's command line, time limits, the HTTP mode and the queue concurrency.
//!
//! It looks at no function and starts nothing. Members the embedded host has no use for (logging, extension bundle) are
//! passed over; those that would change what it does but that it cannot do are refused (contracts/custom-handler.md §4).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{
    app_settings::AppSettings,
    retry_policy::{RetryPolicy, RetryPolicyError},
};
use crate::timespan;

/// What host.json says.
#[derive(Clone, Debug)]
pub struct HostJson {
    /// How the handler is started.
    pub handler: HandlerDescription,
    /// How long one invocation may take; `None` is for ever.
    pub function_timeout: Option<Duration>,
    /// How long the handler may take until it answers its first request.
    pub initialization_timeout: Duration,
    /// The port the handler gets; `None` lets the machine choose.
    pub handler_port: Option<u16>,
    /// How HTTP requests reach the handler.
    pub http_mode: HttpMode,
    /// What every route starts with, without slashes; may be empty.
    pub route_prefix: String,
    /// How queues are listened to.
    pub service_bus: ServiceBusOptions,
    /// The retry policy of functions that have none of their own.
    pub retry: Option<RetryPolicy>,
    /// Only these functions are loaded, if it is given.
    pub functions: Option<Vec<String>>,
}

/// `customHandler.description`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerDescription {
    /// `defaultExecutablePath`, as written.
    pub executable: String,
    /// `arguments`, `defaultWorkerPath` and `workerArguments`, joined as the host joins them.
    pub arguments: String,
    /// Where the handler runs.
    pub working_directory: PathBuf,
    /// Where a relative executable is looked for.
    pub worker_directory: PathBuf,
}

/// How HTTP requests reach the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMode {
    /// As a JSON envelope (contract §5.3).
    Envelope,
    /// As they are, streamed (`enableProxyingHttpRequest`, contract §7).
    Proxying,
}

/// `extensions.serviceBus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceBusOptions {
    /// Invocations at once, per function.
    pub max_concurrent_calls: usize,
    /// For how long the lock of a message being worked on is renewed.
    pub max_auto_lock_renewal: Duration,
}

/// host.json cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("could not read {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not JSON.
    #[error("{path} is not valid JSON")]
    NotJson {
        /// Which file.
        path: PathBuf,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// One member cannot be used.
    #[error("host.json: {member} {problem}")]
    Member {
        /// The path of the member, dotted.
        member: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The retry policy cannot be used.
    #[error("host.json: retry {0}")]
    Retry(#[from] RetryPolicyError),
}

impl HostJson {
    /// Reads `host.json` in the script root and lays the settings' overrides over it.
    ///
    /// # Errors
    /// If the file is missing, is not JSON, or a member is wrong or asks for what is not supported.
    pub fn load(script_root: &Path, settings: &AppSettings) -> Result<Self, ConfigError> {
        let path = script_root.join("host.json");
        let text = std::fs::read(&path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let mut json = serde_json::from_slice(text).map_err(|source| ConfigError::NotJson { path, source })?;
        settings.lay_over(&mut json);
        Self::read(&json, script_root)
    }

    fn read(json: &Value, script_root: &Path) -> Result<Self, ConfigError> {
        let file = Members(json);
        if file.text("version")?.as_deref() != Some("2.0") {
            return Err(wrong("version", "has to be \"2.0\""));
        }
        if file.at("customHandler").is_none() {
            let hint = if file.at("httpWorker").is_some() { ": httpWorker is not supported here" } else { "" };
            return Err(wrong("customHandler", &format!("is missing{hint}")));
        }
        if file.flag("customHandler.enableForwardingHttpRequest")? {
            let problem = "is not supported here: use enableProxyingHttpRequest";
            return Err(wrong("customHandler.enableForwardingHttpRequest", problem));
        }
        if file.at("customHandler.http.routes").is_some() {
            return Err(wrong("customHandler.http.routes", "is not supported here: use function.json files"));
        }
        if !file.flag_or("extensions.serviceBus.autoCompleteMessages", true)? {
            let problem = "has to be true: a custom handler cannot settle messages";
            return Err(wrong("extensions.serviceBus.autoCompleteMessages", problem));
        }
        let proxying = file.flag("customHandler.enableProxyingHttpRequest")?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let calls = file.number("extensions.serviceBus.maxConcurrentCalls")?;
        Ok(Self {
            handler: HandlerDescription::read(&file, script_root)?,
            function_timeout: function_timeout(&file)?,
            initialization_timeout: file
                .span("customHandler.initializationTimeout")?
                .unwrap_or(Duration::from_secs(30)),
            handler_port: match file.number("customHandler.port")? {
                None | Some(0) => None,
                Some(port) => {
                    Some(u16::try_from(port).map_err(|_| wrong("customHandler.port", "is greater than 65535"))?)
                }
            },
            http_mode: if proxying { HttpMode::Proxying } else { HttpMode::Envelope },
            route_prefix: file
                .text("extensions.http.routePrefix")?
                .unwrap_or("api".into())
                .trim_matches('/')
                .to_owned(),
            service_bus: ServiceBusOptions {
                max_concurrent_calls: match calls {
                    None => 16 * processors,
                    Some(0) => return Err(wrong("extensions.serviceBus.maxConcurrentCalls", "has to be at least 1")),
                    Some(calls) => usize::try_from(calls).unwrap_or(usize::MAX).min(10_000),
                },
                max_auto_lock_renewal: file
                    .span("extensions.serviceBus.maxAutoLockRenewalDuration")?
                    .unwrap_or(Duration::from_secs(5 * 60)),
            },
            retry: file.at("retry").map(RetryPolicy::read).transpose()?,
            functions: file.texts("functions")?,
        })
    }
}

impl HandlerDescription {
    fn read(file: &Members<'_>, script_root: &Path) -> Result<Self, ConfigError> {
        let executable = file.text("customHandler.description.defaultExecutablePath")?.unwrap_or_default();
        if executable.trim().is_empty() {
            return Err(wrong("customHandler.description.defaultExecutablePath", "is missing or empty"));
        }
        let folder = |member| -> Result<PathBuf, ConfigError> {
            Ok(script_root.join(file.text(member)?.filter(|folder| !folder.is_empty()).unwrap_or(".".into())))
        };
        let mut arguments = file.texts("customHandler.description.arguments")?.unwrap_or_default();
        if let Some(path) = file.text("customHandler.description.defaultWorkerPath")?.filter(|path| !path.is_empty()) {
            arguments.push(format!("\"{path}\""));
        }
        arguments.extend(file.texts("customHandler.description.workerArguments")?.unwrap_or_default());
        Ok(Self {
            executable,
            arguments: arguments.join(" "),
            working_directory: folder("customHandler.description.workingDirectory")?,
            worker_directory: folder("customHandler.description.workerDirectory")?,
        })
    }
}

fn function_timeout(file: &Members<'_>) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = file.text("functionTimeout")? else {
        return Ok(Some(Duration::from_secs(30 * 60)));
    };
    if matches!(text.as_str(), "-1" | "-00:00:00.0010000") {
        return Ok(None);
    }
    match timespan::parse(&text) {
        Some(span) if span >= Duration::from_secs(1) => Ok(Some(span)),
        _ => Err(wrong("functionTimeout", &format!("has to be hh:mm:ss of at least a second, or -1, not {text:?}"))),
    }
}

fn wrong(member: &'static str, problem: &str) -> ConfigError {
    ConfigError::Member { member, problem: problem.to_owned() }
}

/// Typed access by dotted path. As in .NET's configuration a value may always be given as text, since overrides are.
struct Members<'a>(&'a Value);

impl Members<'_> {
    fn at(&self, path: &str) -> Option<&Value> {
        path.split('.')
            .try_fold(self.0, |at, name| {
                let members = at.as_object()?;
                members
                    .get(name)
                    .or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
            })
            .filter(|value| !value.is_null())
    }

    fn text(&self, path: &'static str) -> Result<Option<String>, ConfigError> {
        match self.at(path) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(wrong(path, "has to be text")),
        }
    }

    fn texts(&self, path: &'static str) -> Result<Option<Vec<String>>, ConfigError> {
        let parsed;
        let items = match self.at(path) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            // An override gives the whole array as one text.
            Some(Value::String(text)) => match serde_json::from_str(text) {
                Ok(Value::Array(items)) => {
                    parsed = items;
                    &parsed
                }
                _ => return Err(wrong(path, "has to be a JSON array")),
            },
            Some(_) => return Err(wrong(path, "has to be an array")),
        };
        let texts = items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>();
        texts.map(Some).ok_or_else(|| wrong(path, "has to hold only texts"))
    }

    fn number(&self, path: &'static str) -> Result<Option<u64>, ConfigError> {
        let number = match self.at(path) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong(path, "has to be a whole number, not negative"))
    }

    fn flag(&self, path: &'static str) -> Result<bool, ConfigError> {
        self.flag_or(path, false)
    }

    fn flag_or(&self, path: &'static str, absent: bool) -> Result<bool, ConfigError> {
        match self.at(path) {
            None => Ok(absent),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(wrong(path, "has to be true or false")),
        }
    }

    fn span(&self, path: &'static str) -> Result<Option<Duration>, ConfigError> {
        let Some(text) = self.text(path)? else {
            return Ok(None);
        };
        timespan::parse(&text).map(Some).ok_or_else(|| wrong(path, &format!("has to be hh:mm:ss, not {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: &Value) -> Result<HostJson, String> {
        HostJson::read(json, Path::new("/app")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_has_the_hosts_defaults() {
        let host = read(&json!({"version": "2.0", "customHandler": {"description": {"defaultExecutablePath": "h"}}}))
            .expect("the smallest host.json is enough");
        assert_eq!(host.function_timeout, Some(Duration::from_secs(1_800)));
        assert_eq!(host.initialization_timeout, Duration::from_secs(30));
        assert_eq!((host.http_mode, host.route_prefix.as_str()), (HttpMode::Envelope, "api"));
        assert_eq!(host.service_bus.max_auto_lock_renewal, Duration::from_secs(300));
        assert_eq!(host.handler.working_directory, Path::new("/app/."));
        assert_eq!((host.handler.arguments.as_str(), host.handler_port), ("", None));
    }

    #[test]
    fn a_byte_order_mark_as_editors_write_it_is_passed_over() {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let text =
            "\u{feff}{\"version\": \"2.0\", \"customHandler\": {\"description\": {\"defaultExecutablePath\": \"h\"}}}";
        std::fs::write(folder.path().join("host.json"), text).expect("the folder is ours");
        let host = HostJson::load(folder.path(), &AppSettings::default()).expect("the host reads it too");
        assert_eq!(host.handler.executable, "h");
    }

    #[test]
    fn everything_can_be_said_and_said_as_text() {
        let host = read(&json!({
            "version": "2.0",
            "functionTimeout": "-1",
            "functions": ["A"],
            "customHandler": {
                "description": {
                    "defaultExecutablePath": "bin/h",
                    "arguments": "[\"a\", \"b c\"]",
                    "defaultWorkerPath": "main script.js",
                    "workerArguments": ["x"],
                    "workingDirectory": "work",
                    "workerDirectory": "/opt"
                },
                "enableProxyingHttpRequest": "True",
                "initializationTimeout": "00:00:05",
                "port": "8123"
            },
            "extensions": {
                "http": {"routePrefix": ""},
                "serviceBus": {"maxConcurrentCalls": "7", "maxAutoLockRenewalDuration": "00:10:00"}
            }
        }))
        .expect("this is valid");
        assert_eq!(host.handler.arguments, "a b c \"main script.js\" x");
        assert_eq!(host.handler.working_directory, Path::new("/app/work"));
        assert_eq!(host.handler.worker_directory, Path::new("/opt"));
        assert_eq!((host.http_mode, host.route_prefix.as_str()), (HttpMode::Proxying, ""));
        assert_eq!((host.handler_port, host.function_timeout), (Some(8123), None));
        assert_eq!(host.service_bus.max_concurrent_calls, 7);
        assert_eq!(host.functions.as_deref(), Some(&["A".to_owned()][..]));
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        for (change, problem) in [
            (json!({"version": "1.0"}), "host.json: version has to be \"2.0\""),
            (json!({"customHandler": null}), "host.json: customHandler is missing"),
            (
                json!({"customHandler": null, "httpWorker": {}}),
                "host.json: customHandler is missing: httpWorker is not supported here",
            ),
            (
                json!({"customHandler": {"description": {"defaultExecutablePath": " "}}}),
                "host.json: customHandler.description.defaultExecutablePath is missing or empty",
            ),
            (
                json!({"customHandler": {"enableForwardingHttpRequest": true}}),
                "host.json: customHandler.enableForwardingHttpRequest is not supported here: use enableProxyingHttpRequest",
            ),
            (
                json!({"functionTimeout": "00:00:00"}),
                "host.json: functionTimeout has to be hh:mm:ss of at least a second, or -1, not \"00:00:00\"",
            ),
            (
                json!({"extensions": {"serviceBus": {"maxConcurrentCalls": "many"}}}),
                "host.json: extensions.serviceBus.maxConcurrentCalls has to be a whole number, not negative",
            ),
            (
                json!({"extensions": {"serviceBus": {"autoCompleteMessages": false}}}),
                "host.json: extensions.serviceBus.autoCompleteMessages has to be true: a custom handler cannot settle messages",
            ),
        ] {
            let mut json = json!({"version": "2.0", "customHandler": {"description": {"defaultExecutablePath": "h"}}});
            for (name, value) in change.as_object().expect("changes are objects") {
                json[name] = value.clone();
            }
            assert_eq!(read(&json).map(drop), Err(problem.to_owned()));
        }
    }
}
