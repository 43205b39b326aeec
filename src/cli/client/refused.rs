//! What went wrong with a call to the service: in words, with a hint and an exit code.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};

use crate::cli::failure::{Exit, Failure};
use crate::functions::wire::api::{PROBLEM_JSON, Problem};

/// Why the service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("cannot reach the service at {url}: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// It answered with an error.
    #[error("the service refused to {action}: {}", describe(.status, .problem))]
    Refused {
        /// What was attempted.
        action: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        problem: Option<Box<Problem>>,
    },
    /// It answered with something that is not of this API.
    #[error("the answer to {action} cannot be read: {reason}")]
    Unreadable {
        /// What was attempted.
        action: &'static str,
        /// Why.
        reason: String,
    },
    /// The next page would be somewhere else.
    #[error("the service names a next page on another host, to which the key does not go")]
    ForeignPage,
}

fn describe(status: &StatusCode, problem: &Option<Box<Problem>>) -> String {
    let Some(problem) = problem else { return format!("HTTP {status}") };
    let text = problem.detail.as_deref().unwrap_or(&problem.title);
    let mut text = format!("{text} (HTTP {})", status.as_u16());
    for error in &problem.errors {
        text.push_str(&format!("\n  {}: {}", error.field, error.why));
    }
    text
}

/// Announcing an offer publish: what it, and the next, may meet is a rollout that is on its way.
pub(super) const PUBLISH: &str = "take the offer publish";
/// Starting a rollout by hand.
pub(super) const START: &str = "start the rollout";

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (hint, exit) = match &error {
            ClientError::Unreachable { .. } => (
                "start a service with `permafresh local`, or name another one with --url or PERMAFRESH_URL",
                Exit::Unreachable,
            ),
            ClientError::Refused { status, action, .. } => (
                match status.as_u16() {
                    401 | 403 => {
                        "give a function key with --key-file or PERMAFRESH_KEY; `permafresh local` prints where its key is"
                    }
                    404 => {
                        "look for it with `permafresh rollout list` or `permafresh deployments list`, and check --url"
                    }
                    409 if [PUBLISH, START].contains(action) => {
                        "look at `permafresh rollout list`; to replace a rollout that is on its way, publish with --supersede"
                    }
                    409 => {
                        "look how it stands, with `permafresh rollout show ROLLOUT` or `permafresh deployments show APPLICATION-ID`"
                    }
                    400 | 422 => "correct what is named above; `--help` shows examples",
                    300..=399 => "the service redirects, which is not followed; give its final address with --url",
                    413 => "send it in parts: the service takes 100 MiB at once",
                    503 => "the service is starting or not set up for this; read its log, then try again",
                    500..=599 => "read the log of the service, then try again",
                    _ => "read the log of the service",
                },
                Exit::Failure,
            ),
            ClientError::Unreadable { .. } => {
                ("check that --url is the address of a Permafresh service", Exit::Failure)
            }
            ClientError::ForeignPage => {
                ("give the address under which the service knows itself with --url", Exit::Failure)
            }
        };
        Self::new(error, hint).exit(exit)
    }
}

/// The answer, if it is one of success.
pub(super) async fn answered(action: &'static str, response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let is_problem = media_type(&response).is_some_and(|media| media == PROBLEM_JSON);
    let problem = if is_problem { response.json().await.ok().map(Box::new) } else { None };
    Err(ClientError::Refused { action, status, problem })
}

fn media_type(response: &Response) -> Option<String> {
    let value = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}
