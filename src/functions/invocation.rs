//! What is under way: an invocation with its id and route, as the host names it, in the trace that it belongs to.
//!
//! Every line within bears `invocation.id`, `http.route` and `trace.id`. Answers nothing itself.

use axum::body::Bytes;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode};
use tracing::{Span, field, info_span};

use super::wire::envelope::{self, InvocationError};
use crate::metrics;
use crate::queue::{Message, Postmark};
use crate::rollout::Timestamp;
use crate::trace::{self, TraceContext};

/// The id of the invocation (contracts/custom-handler.md §5).
const ID: &str = "x-azure-functions-invocationid";
/// The functions that queues call: their traces come with the message.
const OF_QUEUES: [&str; 2] = ["/PlanRollout", "/RefreshDeployment"];

/// An invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The host's id of it, or `-`.
    pub id: String,
    /// The route, without what a caller put into it.
    pub route: String,
    method: Method,
    caller: Option<TraceContext>,
}

impl Invocation {
    /// The invocation that a request is.
    pub fn of(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
        Self {
            id: header(request.headers(), ID).unwrap_or("-").to_owned(),
            route: route.to_owned(),
            method: request.method().clone(),
            caller: header(request.headers(), trace::HEADER).and_then(TraceContext::parse),
        }
    }

    /// Whether a queue calls, so that [`Invocation::on_message`] does the work.
    pub fn brings_message(&self) -> bool {
        OF_QUEUES.contains(&self.route.as_str())
    }

    /// Does the work of a request or a timer.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        let name = match self.route.strip_prefix("/api/") {
            Some(_) => format!("{} {}", self.method, self.route),
            None => self.route.trim_start_matches('/').to_owned(),
        };
        trace::within(self.span(&name, "server"), self.caller, None, work).await
    }

    /// Does the work of a message, as part of the trace that sent it. The host's own trace counts where it continues that one,
    /// and is linked where it does not.
    pub async fn on_message<F>(
        &self,
        body: &Bytes,
        now: Timestamp,
        work: impl FnOnce(Message) -> F,
    ) -> Result<(), InvocationError>
    where
        F: Future<Output = Result<(), InvocationError>>,
    {
        let (message, Postmark { trace: sender, due }) = envelope::message(body)?;
        if let Some(due) = due {
            metrics::queue_age(message.kind(), due, now);
        }
        let (parent, link) = match (self.caller, sender) {
            (Some(host), Some(sender)) if !host.is_of_the_trace_of(&sender) => (Some(sender), Some(host)),
            (host, sender) => (host.or(sender), None),
        };
        let span = self.span(self.route.trim_start_matches('/'), "consumer");
        note_subject(&span, &message);
        let work = async {
            let done = work(message).await;
            if done.is_err() {
                Span::current().record("otel.status_code", "ERROR");
            }
            done
        };
        trace::within(span, parent, link, work).await
    }

    fn span(&self, name: &str, kind: &str) -> Span {
        info_span!(
            "invocation",
            otel.name = name,
            otel.kind = kind,
            otel.status_code = field::Empty,
            invocation.id = self.id,
            http.route = self.route,
            http.response.status_code = field::Empty,
            message.kind = field::Empty,
            rollout.id = field::Empty,
            deployment.key = field::Empty,
            refresh.attempt = field::Empty,
            trace.id = field::Empty,
        )
    }
}

fn note_subject(span: &Span, message: &Message) {
    span.record("message.kind", message.kind());
    if let Message::PlanRollout { rollout_id } | Message::Refresh { rollout_id, .. } = message {
        span.record("rollout.id", field::display(rollout_id));
    }
    if let Message::Refresh { key, .. } | Message::CheckDeployment { key } = message {
        span.record("deployment.key", field::display(key));
    }
}

/// Notes on the span under way how it was answered.
pub fn note_answer(status: StatusCode) {
    let span = Span::current();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
