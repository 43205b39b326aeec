//! Answers HTTP: finds the function, checks the key, passes the request on. It never looks into a body.
//!
//! Routes are tried in the order of the functions' names, a wrong method is a 404, and a failed invocation is a 500
//! with nothing in it, as on the real host (contracts/custom-handler.md §7, §8).

use std::{error::Error, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    envelope::{self, Sys},
    http_envelope,
    invoke::{InvocationError, Invoker, Target},
    keys::FunctionKeys,
    metadata::{AuthLevel, HttpTrigger, ServiceBusTrigger},
    outputs::HttpAnswer,
    proxy,
    route::RouteValues,
    timers::Timer,
};
use crate::{
    host::config::HttpMode,
    queue::{Delivery, LockToken},
};

/// The greatest request body, in bytes, as on the platform.
const MOST_BYTES: usize = 100 * 1024 * 1024;

/// What the HTTP side knows.
pub struct Front {
    /// HTTP functions, in the order their routes are tried.
    pub http: Vec<HttpFunction>,
    /// The others, to be fired by hand.
    pub by_hand: Vec<ByHand>,
    /// Who may call.
    pub keys: FunctionKeys,
    /// Calls functions.
    pub invoker: Arc<Invoker>,
}

/// A function with an HTTP trigger.
pub struct HttpFunction {
    /// The function.
    pub target: Target,
    /// Its trigger.
    pub trigger: HttpTrigger,
}

/// A function that something else triggers.
pub enum ByHand {
    /// The clock.
    Timer {
        /// Its name.
        name: String,
        /// The timer.
        timer: Arc<Timer>,
    },
    /// A queue.
    Queue {
        /// The function.
        target: Arc<Target>,
        /// Its trigger.
        trigger: ServiceBusTrigger,
    },
}

/// The routes of the host: everything goes through one place.
pub fn router(front: Front) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(front))
}

async fn answer(State(front): State<Arc<Front>>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    if path == "/" {
        return empty(StatusCode::OK);
    }
    if let Some(name) = path.strip_prefix("/admin/functions/") {
        let name = name.to_owned();
        return front.fire(&name, request).await;
    }
    let found = front.http.iter().find_map(|function| {
        let methods = &function.trigger.methods;
        let allowed = methods.is_empty() || methods.iter().any(|method| method == request.method().as_str());
        let params = allowed.then(|| function.trigger.route.matches(path))?;
        params.map(|params| (function, params))
    });
    let Some((function, params)) = found else {
        return empty(StatusCode::NOT_FOUND);
    };
    if function.trigger.auth == AuthLevel::Key && !front.keys.admit(request.headers(), request.uri()) {
        return empty(StatusCode::UNAUTHORIZED);
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > MOST_BYTES as u64) {
        return empty(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let invocation = Uuid::new_v4();
    let answered = match function.trigger.mode {
        HttpMode::Proxying => {
            let limited = request.map(|body| Body::new(Limited::new(body, MOST_BYTES)));
            proxy::forward(&front.invoker, invocation, limited).await
        }
        HttpMode::Envelope => front.in_envelope(function, invocation, params, request).await,
    };
    answered.unwrap_or_else(|error| {
        if too_long(&error) {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        }
        tracing::error!(%invocation, "{} failed: {error}", function.target.function.name);
        empty(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

impl Front {
    async fn in_envelope(
        &self,
        function: &HttpFunction,
        invocation: Uuid,
        params: RouteValues,
        request: Request<Body>,
    ) -> Result<Response<Body>, InvocationError> {
        let (head, body) = request.into_parts();
        let Ok(body) = to_bytes(body, MOST_BYTES).await else {
            return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE));
        };
        let metadata = &function.target.function;
        let sys = Sys::new(&metadata.name, self.invoker.clock.now());
        let envelope = http_envelope::http(&metadata.trigger_name, &head, &params, &body, &sys);
        let answer = self.invoker.invoke(&function.target, invocation, envelope).await?;
        Ok(answer.map_or_else(|| empty(StatusCode::OK), response))
    }

    /// `POST /admin/functions/{name}` fires a function that has no HTTP trigger; 202 says that it was begun.
    async fn fire(&self, name: &str, request: Request<Body>) -> Response<Body> {
        if !self.keys.admit(request.headers(), request.uri()) {
            return empty(StatusCode::UNAUTHORIZED);
        }
        let Some(function) = self.by_hand.iter().find(|function| function.name().eq_ignore_ascii_case(name)) else {
            return empty(StatusCode::NOT_FOUND);
        };
        if request.method() != Method::POST {
            return empty(StatusCode::NOT_FOUND);
        }
        let Ok(body) = to_bytes(request.into_body(), MOST_BYTES).await else {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let Ok(Fired { input }) = serde_json::from_slice(&body) else {
            return empty(StatusCode::BAD_REQUEST);
        };
        let input = match input {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        match function {
            ByHand::Timer { timer, .. } => {
                let timer = Arc::clone(timer);
                tokio::spawn(async move { timer.run_by_hand().await });
            }
            ByHand::Queue { target, trigger } => self.deliver_by_hand(Arc::clone(target), trigger, input),
        }
        empty(StatusCode::ACCEPTED)
    }

    fn deliver_by_hand(&self, target: Arc<Target>, trigger: &ServiceBusTrigger, input: String) {
        let now = self.invoker.clock.now();
        let delivery = Delivery {
            id: Uuid::new_v4().to_string(),
            body: input.into_bytes(),
            delivery_count: 1,
            sequence_number: 0,
            enqueued_at: now,
            lock: LockToken(Uuid::new_v4().to_string()),
            locked_until: now,
        };
        let function = &target.function;
        let sys = Sys::new(&function.name, now);
        let body = envelope::message(&function.trigger_name, &delivery, trigger.body, sys);
        let invoker = Arc::clone(&self.invoker);
        tokio::spawn(async move {
            let invocation = Uuid::new_v4();
            if let Err(error) = invoker.invoke(&target, invocation, body).await {
                tracing::error!(%invocation, "{}, fired by hand, failed: {error}", target.function.name);
            }
        });
    }
}

impl ByHand {
    fn name(&self) -> &str {
        match self {
            Self::Timer { name, .. } => name,
            Self::Queue { target, .. } => &target.function.name,
        }
    }
}

#[derive(Deserialize)]
struct Fired {
    #[serde(default)]
    input: Value,
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn response(answer: HttpAnswer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Whether the invocation failed because the caller sent too much: the limit is met while the body is on its way.
fn too_long(error: &InvocationError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
