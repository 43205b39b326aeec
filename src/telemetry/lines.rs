//! The form of a line: what a log says, the fields of its event, and those of the spans around it, each once and at the top.
//!
//! So `rollout.id` is in the same place wherever it came from. Decides neither what is logged nor where it goes.

use std::fmt::{self, Write as _};

use chrono::SecondsFormat;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{Colour, Format};
use crate::clock::{Clock as _, SystemClock};

/// The fields of a span, or of an event.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        // Those are for exporters: how a span is called and of which kind it is.
        if field.name().starts_with("otel.") {
            return;
        }
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some(known) => known.1 = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// Keeps the fields of spans for the lines within them.
pub struct Remember;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Remember {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }
}

/// Stands where others would write the fields of spans as text: [`Remember`] has them.
pub struct Unwritten;

impl<'writer> FormatFields<'writer> for Unwritten {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(&self, _: Writer<'writer>, _: R) -> fmt::Result {
        Ok(())
    }
}

/// Writes lines of one form.
pub struct Lines {
    /// The form.
    pub format: Format,
    /// Whether text is coloured.
    pub colour: Colour,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // The innermost says it best.
        for span in context.event_scope().into_iter().flatten() {
            if let Some(around) = span.extensions().get::<Fields>() {
                for (name, value) in &around.0 {
                    if fields.0.iter().all(|(known, _)| known != name) {
                        fields.0.push((name, value.clone()));
                    }
                }
            }
        }
        let message = match fields.0.iter().position(|(name, _)| *name == "message") {
            Some(at) => fields.0.remove(at).1,
            None => Value::Null,
        };
        let message = message.as_str().unwrap_or_default();
        let at = SystemClock.now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let metadata = event.metadata();
        match self.format {
            Format::Json => {
                let line = json(&at, *metadata.level(), metadata.target(), message, &fields);
                writeln!(writer, "{line}")
            }
            Format::Text => self.text(writer, &at, *metadata.level(), message, &fields),
        }
    }
}

impl Lines {
    /// A sentence, then the fields that it does not name already.
    fn text(&self, mut writer: Writer<'_>, at: &str, level: Level, message: &str, fields: &Fields) -> fmt::Result {
        let (dim, level_colour, plain) = match self.colour {
            Colour::Off => ("", "", ""),
            Colour::On => ("\x1b[2m", colour_of(level), "\x1b[0m"),
        };
        write!(writer, "{dim}{at}{plain} {level_colour}{level:>5}{plain} {}", printable(message))?;
        for (name, value) in &fields.0 {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !message.contains(&value) {
                write!(writer, " {dim}{name}={}{plain}", printable(&value))?;
            }
        }
        writeln!(writer)
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// One line whatever it holds: what Azure or a customer wrote can neither begin a line of its own nor steer a terminal.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

fn json(at: &str, level: Level, target: &str, message: &str, fields: &Fields) -> String {
    let mut line = String::with_capacity(256);
    let mut put = |name: &str, value: &Value| {
        line.push(if line.is_empty() { '{' } else { ',' });
        let _never_fails = write!(line, "{}:{value}", Value::from(name));
    };
    put("timestamp", &at.into());
    put("level", &level.as_str().into());
    put("message", &message.into());
    put("target", &target.into());
    for (name, value) in &fields.0 {
        put(name, value);
    }
    line.push('}');
    if level == Level::ERROR { without_warn(line) } else { line }
}

/// The Functions host makes a warning of a line on stderr that holds the word "warn" in any case (contracts/custom-handler.md
/// §1), also where an error only quotes it. Escaped, it is the same JSON without the word. A `w` is never part of an escape.
fn without_warn(line: String) -> String {
    let lower = line.to_ascii_lowercase();
    let mut escaped = String::new();
    let mut from = 0;
    for (at, _) in lower.match_indices("warn") {
        escaped.push_str(&line[from..at]);
        escaped.push_str(if line[at..].starts_with('w') { "\\u0077" } else { "\\u0057" });
        from = at + 1;
    }
    escaped.push_str(&line[from..]);
    escaped
}
