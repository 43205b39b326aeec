//! Passes on what the handler prints, line by line, with the severity the real host gives it. It interprets nothing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// How many error lines a crash message quotes.
const QUOTED: usize = 3;

/// One line the handler printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerLine<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// Without the end of line.
    pub text: &'a str,
}

/// How bad a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For the host's own logs only: lines that start with `LanguageWorkerConsoleLog`.
    System,
    /// Standard output, and `Logs` of an envelope.
    Information,
    /// Standard error with "warn" in it.
    Warning,
    /// Any other line of standard error.
    Error,
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Takes the lines. The default writes them to `tracing`.
#[derive(Clone)]
pub struct LineSink(Arc<dyn Fn(HandlerLine<'_>) + Send + Sync>);

/// The last error lines, for the crash message.
#[derive(Clone, Debug, Default)]
pub struct LastErrors(Arc<Mutex<VecDeque<String>>>);

impl LineSink {
    /// Lines go to this function.
    pub fn new(take: impl Fn(HandlerLine<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Passes one line on.
    pub fn take(&self, line: HandlerLine<'_>) {
        (self.0)(line);
    }
}

impl Default for LineSink {
    fn default() -> Self {
        Self::new(|line| match line.severity {
            Severity::System => tracing::debug!(target: "permafresh::handler", "{}", line.text),
            Severity::Information => tracing::info!(target: "permafresh::handler", "{}", line.text),
            Severity::Warning => tracing::warn!(target: "permafresh::handler", "{}", line.text),
            Severity::Error => tracing::error!(target: "permafresh::handler", "{}", line.text),
        })
    }
}

impl std::fmt::Debug for LineSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LineSink")
    }
}

impl Severity {
    /// What the real host makes of a line (contracts/custom-handler.md §1).
    pub fn of(stream: Stream, text: &str) -> Self {
        if text.starts_with("LanguageWorkerConsoleLog") {
            return Self::System;
        }
        match stream {
            Stream::Out => Self::Information,
            Stream::Err if text.to_lowercase().contains("warn") => Self::Warning,
            Stream::Err => Self::Error,
        }
    }
}

impl LastErrors {
    fn note(&self, text: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == QUOTED {
            lines.pop_front();
        }
        lines.push_back(text.to_owned());
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Reads to the end of the stream.
pub async fn pass_on(from: impl AsyncRead + Unpin, stream: Stream, sink: LineSink, errors: LastErrors) {
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    // An unreadable pipe is as good as a closed one: the process's end is watched elsewhere.
    while from.read_until(b'\n', &mut bytes).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\r', '\n']);
        let severity = Severity::of(stream, text);
        if severity == Severity::Error {
            errors.note(text);
        }
        if !text.is_empty() {
            sink.take(HandlerLine { severity, text });
        }
        bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_get_the_severity_the_host_gives_them() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = LineSink::new({
            let seen = Arc::clone(&seen);
            move |line| seen.lock().expect("no test panics here").push((line.severity, line.text.to_owned()))
        });
        let errors = LastErrors::default();
        pass_on(&b"hello\r\nLanguageWorkerConsoleLog x\n\nerror here\n"[..], Stream::Out, sink.clone(), errors.clone())
            .await;
        pass_on(&b"one\nWARNing\ntwo\nthree\nfour"[..], Stream::Err, sink, errors.clone()).await;
        let expected = [
            (Severity::Information, "hello"),
            (Severity::System, "LanguageWorkerConsoleLog x"),
            (Severity::Information, "error here"),
            (Severity::Error, "one"),
            (Severity::Warning, "WARNing"),
            (Severity::Error, "two"),
            (Severity::Error, "three"),
            (Severity::Error, "four"),
        ];
        let seen = seen.lock().expect("no test panics here");
        assert_eq!(*seen, expected.map(|(severity, text)| (severity, text.to_owned())));
        assert_eq!(errors.lines(), ["two", "three", "four"]);
    }
}
