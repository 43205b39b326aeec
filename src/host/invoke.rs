//! Runs one invocation: waits for the handler, posts the envelope, judges the answer, sends the outputs. It knows no
//! trigger.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{header, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    acceptance::{self, Accepted, Envelope, Rejected},
    client::{ClientError, HandlerClient},
    metadata::Function,
    output_lines::{HandlerLine, LineSink, Severity},
    outputs::{self, HttpAnswer, OutputError, Results},
    process::{HandlerProcess, Running, StopReason},
};
use crate::{
    clock::Clock,
    queue::{Outgoing, Queue, QueueError},
};

/// How long the end of a process may take to be noticed after its port is closed.
const DEATH_NOTICED: Duration = Duration::from_millis(250);

/// How closely the real host is followed where it helps nobody (contracts/custom-handler.md §11, E13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fidelity {
    /// An answer that would hang until the timeout fails at once, outputs that look like base64 are warned about, and
    /// an event that meets a handler just dead waits for the next one instead of failing.
    #[default]
    Kinder,
    /// As the real host does.
    Exact,
}

/// A function that can be called.
#[derive(Debug)]
pub struct Target {
    /// The function.
    pub function: Function,
    path: PathAndQuery,
}

impl Target {
    /// Of that function.
    pub fn new(function: Function) -> Self {
        let path = PathAndQuery::try_from(format!("/{}", function.name));
        Self { path: path.expect("function names are letters, digits, _ and -"), function }
    }
}

/// Calls the handler.
pub struct Invoker {
    /// The connections.
    pub client: HandlerClient,
    /// The process.
    pub process: HandlerProcess,
    /// How long an invocation may take.
    pub function_timeout: Option<Duration>,
    /// How long it may wait for the handler.
    pub ready_timeout: Duration,
    /// How exact to be.
    pub fidelity: Fidelity,
    /// Where output messages go.
    pub queue: Arc<dyn Queue>,
    /// Where log lines go.
    pub sink: LineSink,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Woken whenever the handler has answered: what it sent meanwhile can be received.
    pub answered: Notify,
}

/// The invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// There is no handler and there will be none.
    #[error("the handler is not running")]
    NoHandler,
    /// It could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It answered, but not with a success.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It answered with nothing.
    #[error("the handler answered a success without an envelope; the real host would wait until functionTimeout")]
    NeverCompletes,
    /// It took too long.
    #[error("the invocation took longer than functionTimeout, {limit_ms} ms")]
    TimedOut {
        /// The limit.
        limit_ms: u128,
    },
    /// An output cannot be sent.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An output could not be sent.
    #[error(transparent)]
    Send(#[from] QueueError),
}

impl Invoker {
    /// Runs one attempt to its end, outputs included.
    ///
    /// # Errors
    /// Whatever makes it fail; outputs that were sent before the failure stay sent.
    pub async fn invoke(
        &self,
        target: &Target,
        invocation: Uuid,
        body: Bytes,
    ) -> Result<Option<HttpAnswer>, InvocationError> {
        let mut running = self.ready().await?;
        let envelope = loop {
            match self.within_time(running, self.call(target, running, invocation, body.clone())).await? {
                // Nothing was sent: the handler has died and only its supervisor does not know yet.
                Err(InvocationError::Client(ClientError::Unreachable { .. }))
                    if self.fidelity == Fidelity::Kinder && self.process.ends_within(running, DEATH_NOTICED).await =>
                {
                    running = self.ready().await?;
                }
                called => break called?,
            }
        };
        for text in &envelope.logs {
            self.sink.take(HandlerLine { severity: Severity::Information, text });
        }
        let results = outputs::results(&target.function.outputs, &envelope)?;
        self.warn_of_base64(target, &results);
        for (queue, bodies) in results.messages {
            let outgoing = |body| Outgoing { id: Uuid::new_v4().to_string(), body, due: None };
            let messages: Vec<_> = bodies.into_iter().map(outgoing).collect();
            if !messages.is_empty() {
                self.queue.send(&queue, &messages).await?;
            }
        }
        Ok(results.http)
    }

    /// The handler once it is ready. If that takes too long the host stops.
    ///
    /// # Errors
    /// If it will not be.
    pub async fn ready(&self) -> Result<Running, InvocationError> {
        match tokio::time::timeout(self.ready_timeout, self.process.ready()).await {
            Ok(Some(running)) => Ok(running),
            Ok(None) => Err(InvocationError::NoHandler),
            Err(_) => {
                self.process.stop(StopReason::HandlerNeverReady { waited_ms: self.ready_timeout.as_millis() });
                Err(InvocationError::NoHandler)
            }
        }
    }

    /// Lets something take as long as an invocation may; if it takes longer the handler is killed.
    ///
    /// # Errors
    /// If it takes longer.
    pub async fn within_time<F: Future>(&self, running: Running, work: F) -> Result<F::Output, InvocationError> {
        let done = match self.function_timeout {
            None => Ok(work.await),
            Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| {
                self.process.timed_out(running.generation);
                InvocationError::TimedOut { limit_ms: limit.as_millis() }
            }),
        };
        self.answered.notify_waiters();
        done
    }

    async fn call(
        &self,
        target: &Target,
        running: Running,
        invocation: Uuid,
        body: Bytes,
    ) -> Result<Envelope, InvocationError> {
        let response = self.client.post(running.port, target.path.clone(), invocation, body).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| ClientError::Broken { source: error.into() })?.to_bytes();
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match acceptance::judge(head.status, content_type, &body)? {
            Accepted::Success(envelope) => Ok(envelope),
            Accepted::NeverCompletes if self.fidelity == Fidelity::Kinder => Err(InvocationError::NeverCompletes),
            Accepted::NeverCompletes => std::future::pending().await,
        }
    }

    fn warn_of_base64(&self, target: &Target, results: &Results) {
        if self.fidelity == Fidelity::Kinder {
            for output in &results.taken_for_base64 {
                let function = &target.function.name;
                tracing::warn!(
                    function,
                    "output {output} of {function} is a text that is valid base64, so the message is System.Byte[]: \
                     send an array of texts"
                );
            }
        }
    }
}
