//! Logs: who reads them, in which form (`lines`), on which stream; and [`export`] to a collector, where there is one.
//!
//! One name for one thing, in lines and spans: `rollout.id`, `rollout.state`, `deployment.key`, `application.id`,
//! `subscription.id`, `refresh.attempt`, `refresh.state`, `refresh.version`, `invocation.id`, `http.route`, `trace.id`,
//! `error.code`, `error.actor`, `delay_ms`. infra/queries.kql asks for them, and a test keeps it to what lines carry.
//!
//! The Functions host makes an error of every line on stderr, or a warning of one that holds the word "warn"
//! (contracts/custom-handler.md §1), so a handler writes there only what is one. At a terminal stdout belongs to data, so
//! all logs go to stderr. Nothing here decides what is logged.

pub mod export;
mod lines;

use std::collections::BTreeMap;
use std::io::IsTerminal;

use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{EnvFilter, Registry};

use export::Export;
use lines::{Lines, Remember, Unwritten};

/// Crates whose information is noise to whoever runs this service.
const QUIET: &str = "hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,h2=warn,azure_core=warn,azure_identity=warn";

/// Who reads the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The Functions host, real or embedded: warnings and errors on stderr, the rest on stdout.
    FunctionsHost(Format),
    /// A person running a service at a terminal: everything on stderr.
    Terminal(Format),
    /// A person running a command: warnings and errors on stderr, unless `RUST_LOG` asks for more.
    Command,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Readable text.
    Text,
}

impl Format {
    /// JSON inside Functions, where a machine reads it; text elsewhere.
    pub fn for_environment(environment: &BTreeMap<String, String>) -> Self {
        let inside = ["FUNCTIONS_WORKER_RUNTIME", "WEBSITE_INSTANCE_ID"];
        if inside.iter().any(|name| environment.get(*name).is_some_and(|value| !value.is_empty())) {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// Starts logging for this process, and drawing spans for `export` if there is one. A second call changes nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "logging starts before the settings are read, so that their problems are logged"
)]
pub fn start(reader: Reader, export: Option<&Export>) {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let default = if reader == Reader::Command { "warn".to_owned() } else { format!("info,{QUIET}") };
    let (filter, mistake) = match asked.map(|text| text.parse::<EnvFilter>()) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default), Some(error)),
        None => (EnvFilter::new(default), None),
    };
    let started = match reader {
        Reader::FunctionsHost(format) => {
            let lines = Lines { format, colour: Colour::Off };
            log_to(written(lines, filter, by_level(std::io::stdout, std::io::stderr)), export)
        }
        Reader::Terminal(_) | Reader::Command => {
            let format = if let Reader::Terminal(format) = reader { format } else { Format::Text };
            log_to(written(Lines { format, colour: Colour::where_seen() }, filter, std::io::stderr), export)
        }
    };
    if let (Ok(()), Some(error)) = (started, mistake) {
        tracing::warn!(%error, "RUST_LOG cannot be read, so the default filter is used");
    }
}

/// Whether lines are coloured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    On,
    Off,
}

impl Colour {
    /// Where a person sees stderr and has not asked for no colours (<https://no-color.org>).
    #[expect(clippy::disallowed_methods, reason = "a terminal's convention, no setting of the service")]
    fn where_seen() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stderr().is_terminal() && !unwanted { Self::On } else { Self::Off }
    }
}

/// Warnings and errors to `err`, the rest to `out`.
fn by_level<O, E>(out: O, err: E) -> impl for<'a> MakeWriter<'a> + Send + Sync + 'static
where
    O: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    E: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    err.with_max_level(Level::WARN).or_else(out)
}

/// What a handler writes into `out` and `err` with the default filter; for tests of what lines carry.
pub fn handler_lines<O, E>(format: Format, out: O, err: E) -> impl Subscriber + Send + Sync
where
    O: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    E: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(format!("info,{QUIET}"));
    Registry::default().with(written(Lines { format, colour: Colour::Off }, filter, by_level(out, err)))
}

/// Lines for whom `writer` serves, and spans for `export` if there is one; fails if this process logs already.
///
/// Each layer has its own filter and none stands above them, not even an empty one: the least that is above makes tracing ask
/// all filters anew for each line and span that nobody wants, and keep such a span.
fn log_to(written: impl Layer<Registry> + Send + Sync, export: Option<&Export>) -> Result<(), SetGlobalDefaultError> {
    let written = Registry::default().with(written);
    match export {
        Some(export) => tracing::subscriber::set_global_default(written.with(export.layer())),
        None => tracing::subscriber::set_global_default(written),
    }
}

fn written<W>(lines: Lines, filter: EnvFilter, writer: W) -> impl Layer<Registry> + Send + Sync + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let ansi = lines.colour == Colour::On;
    let harmless = filter_fn(is_harmless).with_max_level_hint(LevelFilter::TRACE);
    Remember
        .and_then(
            tracing_subscriber::fmt::layer()
                .fmt_fields(Unwritten)
                .event_format(lines)
                .with_ansi(ansi)
                .with_writer(writer),
        )
        .with_filter(filter.and(harmless))
}

/// Whether lines of this kind hold nothing that must stay secret: in detail the Azure SDK shows whole requests, and the
/// records in them hold signed URLs. So `RUST_LOG` cannot ask for that.
fn is_harmless(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || !line.target().starts_with("azure_")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::field;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str) -> (String, String) {
        let (out, err) = (Log::default(), Log::default());
        let (to_out, to_err) = (out.clone(), err.clone());
        let writer = by_level(move || to_out.clone(), move || to_err.clone());
        let lines = Lines { format, colour: Colour::Off };
        let subscriber = Registry::default().with(written(lines, EnvFilter::new(filter), writer));
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("a detail");
            tracing::info!(rollout.id = "r1", "the rollout r1 has begun");
            tracing::info!(target: "hyper", "noise");
            tracing::debug!(target: "azure_core::policies::transport", "&s=a-signature");
            tracing::warn!("something is odd");
            let invocation =
                tracing::info_span!("invocation", invocation.id = "i1", otel.kind = "server", trace.id = field::Empty);
            invocation.record("trace.id", "t1");
            let _within = invocation.entered();
            let _step = tracing::info_span!("step", rollout.id = "r2", rollout.state = "running").entered();
            tracing::error!(rollout.id = "r1", "something\nbroke: a Warning of Azure");
        });
        (out.text(), err.text())
    }

    #[test]
    fn nobody_can_ask_for_whole_requests_of_the_sdk() {
        for asked in ["debug", "trace", "azure_core::policies=trace"] {
            let (out, err) = logged(Format::Json, asked);
            assert!(!out.contains("&s=") && !err.contains("&s="), "{asked}: {out}{err}");
        }
        assert!(logged(Format::Json, "debug").0.contains("a detail"), "all else is shown");
    }

    #[test]
    fn the_functions_host_sees_errors_and_warnings_on_stderr_and_the_rest_on_stdout() {
        let (out, err) = logged(Format::Json, &format!("info,{QUIET}"));
        let out: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(out.len(), 1, "{out:?}");
        assert_eq!((&out[0]["message"], &out[0]["rollout.id"]), (&"the rollout r1 has begun".into(), &"r1".into()));
        let err: Vec<_> = err.lines().collect();
        assert_eq!(err.len(), 2, "{err:?}");
        assert!(err[0].contains("something is odd") && err[0].to_lowercase().contains("warn"));
        assert!(!err[1].to_lowercase().contains("warn"), "it is an error, whatever it quotes: {}", err[1]);
        let error: serde_json::Value = serde_json::from_str(err[1]).unwrap();
        assert_eq!(error["message"], "something\nbroke: a Warning of Azure");
    }

    #[test]
    fn a_line_bears_the_fields_of_the_spans_around_it_once_each_and_the_innermost_wins() {
        let (_, err) = logged(Format::Json, "info");
        let line: BTreeMap<String, serde_json::Value> = serde_json::from_str(err.lines().last().unwrap()).unwrap();
        let expected = [
            ("invocation.id", "i1"),
            ("level", "ERROR"),
            ("message", "something\nbroke: a Warning of Azure"),
            ("rollout.id", "r1"),
            ("rollout.state", "running"),
            ("target", "permafresh::telemetry::tests"),
            ("trace.id", "t1"),
        ];
        let told: Vec<_> = line.iter().filter(|(name, _)| *name != "timestamp").collect();
        assert_eq!(told.len(), expected.len(), "{line:?}");
        assert!(
            told.iter().zip(expected).all(|((name, value), (key, text))| *name == key && **value == text),
            "{line:?}"
        );
        assert_eq!(err.lines().last().unwrap().matches("rollout.id").count(), 1);
    }

    #[test]
    fn a_warning_is_known_as_one_in_readable_lines_too() {
        let (out, err) = logged(Format::Text, "debug");
        assert!(out.contains("a detail") && out.contains("INFO the rollout r1 has begun\n"), "{out}");
        let err: Vec<_> = err.lines().collect();
        assert!(err[0].contains("WARN") && !err[1].contains("WARN") && err.len() == 2, "{err:?}");
        let error = r"ERROR something\nbroke: a Warning of Azure rollout.id=r1 rollout.state=running invocation.id=i1 trace.id=t1";
        assert!(err[1].ends_with(error), "{}", err[1]);
    }

    #[test]
    fn inside_functions_lines_are_json() {
        let environment = |name: &str| BTreeMap::from([(name.to_owned(), "custom".to_owned())]);
        assert_eq!(Format::for_environment(&environment("FUNCTIONS_WORKER_RUNTIME")), Format::Json);
        assert_eq!(Format::for_environment(&environment("WEBSITE_INSTANCE_ID")), Format::Json);
        assert_eq!(Format::for_environment(&environment("PATH")), Format::Text);
    }
}
