//! What ARM's answers mean: the two decision tables of contracts/arm.md §2.4, and the one for reading an application.
//!
//! Pure functions of status, headers and body. They decide what was said, never what to do about it.

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Application;
use super::host_rule::ArmHost;
use super::remote_error;
use super::retry_after::retry_after;
use crate::rollout::{Monitor, Operation, PollAnswer, PollingUrl, ReadAnswer, RemoteError, SubmitAnswer, Timestamp};

/// One answer of ARM, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
    /// When it came.
    pub at: Timestamp,
}

impl Answer<'_> {
    /// The error in it.
    pub fn error(&self) -> RemoteError {
        remote_error::from_answer(self.status, self.body)
    }

    /// The wait it names.
    pub fn wait(&self) -> Option<std::time::Duration> {
        retry_after(self.headers, self.at)
    }

    fn url(&self, header: impl http::header::AsHeaderName) -> Option<PollingUrl> {
        let value = std::str::from_utf8(self.headers.get(header)?.as_bytes()).ok()?;
        (!value.is_empty()).then(|| PollingUrl::new(value))
    }
}

/// Whether an error says that the token is at fault, so that a new one may help (contracts/arm.md §2.6).
pub fn blames_token(error: &RemoteError) -> bool {
    const CODES: [&str; 3] = ["ExpiredAuthenticationToken", "InvalidAuthenticationToken", "AuthenticationFailed"];
    error.status == Some(401) && CODES.iter().any(|code| code.eq_ignore_ascii_case(&error.code))
}

/// What an answer to `refreshPermissions` means.
///
/// A 401 that still blames the token here has been repeated with a new one: that is our trouble and not this
/// deployment's, so it is retried rather than taken as a refusal, which would hand over one customer after the other.
pub fn submitted(answer: &Answer<'_>, host: &ArmHost) -> SubmitAnswer {
    match answer.status.as_u16() {
        201 | 202 => accepted(answer, host),
        200..300 => SubmitAnswer::NoMonitor,
        401 => {
            let error = answer.error();
            if blames_token(&error) {
                SubmitAnswer::Retry { error, wait: answer.wait() }
            } else {
                SubmitAnswer::Refused { error }
            }
        }
        403 => SubmitAnswer::Refused { error: answer.error() },
        404 => {
            let error = answer.error();
            if error.code.eq_ignore_ascii_case("SubscriptionNotFound") {
                SubmitAnswer::Refused { error }
            } else {
                SubmitAnswer::NotFound { error }
            }
        }
        408 | 409 | 429 | 500.. => SubmitAnswer::Retry { error: answer.error(), wait: answer.wait() },
        _ => SubmitAnswer::Rejected { error: answer.error() },
    }
}

/// Of two URLs one that may not be called is as good as none (contracts/arm.md §2.2); alone it is kept, since its refusal
/// says what is wrong.
fn accepted(answer: &Answer<'_>, host: &ArmHost) -> SubmitAnswer {
    let may_be_called = |url: &PollingUrl| host.admit(url.expose()).is_ok();
    let (url, monitor, fallback) = match (answer.url("azure-asyncoperation"), answer.url(LOCATION)) {
        (Some(url), Some(location)) => match (may_be_called(&url), may_be_called(&location)) {
            (false, true) => (location, Monitor::Location, None),
            (true, false) => (url, Monitor::AsyncOperation, None),
            _ => (url, Monitor::AsyncOperation, Some(location)),
        },
        (Some(url), None) => (url, Monitor::AsyncOperation, None),
        (None, Some(url)) => (url, Monitor::Location, None),
        (None, None) => return SubmitAnswer::NoMonitor,
    };
    let wait = answer.wait();
    // Kept in whole seconds and never shorter than ARM said, or the next look would be an impatient one.
    let last_wait_seconds = wait.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    SubmitAnswer::Accepted { operation: Operation { url, monitor, fallback, last_wait_seconds }, wait }
}

/// What an answer of the operation's monitor means.
///
/// The body of `Azure-AsyncOperation` decides; other statuses there mean that the reading failed, not the operation.
/// `Location` ends as a synchronous call would have answered, an error included (contracts/arm.md §2.1).
pub fn polled(answer: &Answer<'_>, monitor: Monitor, host: &ArmHost) -> PollAnswer {
    match (answer.status.as_u16(), monitor) {
        (202, Monitor::Location) => running(answer, None, monitor, host),
        (204, Monitor::Location) => PollAnswer::Succeeded,
        (200..300, _) => by_body(answer, monitor, host),
        (401 | 403, _) => PollAnswer::AccessLost { error: answer.error() },
        (404 | 410, _) => PollAnswer::Gone,
        (408 | 429, _) => unreadable(answer, answer.error()),
        (400..500, Monitor::Location) => PollAnswer::Failed { error: answer.error() },
        _ => unreadable(answer, answer.error()),
    }
}

/// The members of a monitor's body that matter, unread: one that is odd must not hide the others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MonitorBody<'a> {
    #[serde(default, borrow)]
    status: Option<&'a RawValue>,
    #[serde(default, borrow)]
    percent_complete: Option<&'a RawValue>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

fn by_body(answer: &Answer<'_>, monitor: Monitor, host: &ArmHost) -> PollAnswer {
    let text = answer.body.trim_ascii();
    let parsed = text.starts_with(b"{").then(|| serde_json::from_slice::<MonitorBody<'_>>(text));
    let Some(Ok(body)) = parsed else {
        return match (answer.status, monitor) {
            (StatusCode::ACCEPTED, _) => running(answer, None, monitor, host),
            (_, Monitor::Location) if text.is_empty() => PollAnswer::Succeeded,
            _ => no_status(answer),
        };
    };
    let Some(status) = body.status.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok()) else {
        return match (answer.status, monitor) {
            (StatusCode::ACCEPTED, _) => running(answer, None, monitor, host),
            (_, Monitor::Location) => PollAnswer::Succeeded,
            (_, Monitor::AsyncOperation) => no_status(answer),
        };
    };
    let is = |word: &str| status.trim().eq_ignore_ascii_case(word);
    if is("Succeeded") {
        PollAnswer::Succeeded
    } else if is("Failed") {
        let error = body.error.map(RawValue::get);
        PollAnswer::Failed {
            error: remote_error::from_operation(error, "the operation ended Failed and ARM named no error"),
        }
    } else if is("Canceled") || is("Cancelled") {
        PollAnswer::Canceled
    } else {
        running(answer, body.percent_complete.and_then(percent), monitor, host)
    }
}

fn running(answer: &Answer<'_>, percent: Option<f64>, monitor: Monitor, host: &ArmHost) -> PollAnswer {
    let moved = match monitor {
        // A new `Location` is followed only where it may be: one of another host is as good as none.
        Monitor::Location => answer.url(LOCATION).filter(|url| host.admit(url.expose()).is_ok()),
        Monitor::AsyncOperation => None,
    };
    PollAnswer::Running { percent, wait: answer.wait(), moved }
}

fn no_status(answer: &Answer<'_>) -> PollAnswer {
    let error = RemoteError {
        status: Some(answer.status.as_u16()),
        code: "NoStatus".to_owned(),
        message: format!(
            "ARM answered {} to the look at the operation, without a status that can be read",
            answer.status
        ),
    };
    unreadable(answer, error)
}

fn unreadable(answer: &Answer<'_>, error: RemoteError) -> PollAnswer {
    PollAnswer::Unreadable { error, wait: answer.wait() }
}

/// `percentComplete`, a number or the text of one, from 0 to 100.
fn percent(raw: &RawValue) -> Option<f64> {
    let text = raw.get().trim_matches(['"', ' ', '%']);
    text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| value.clamp(0.0, 100.0))
}

/// What an answer to reading an application means, with the application if one was read.
pub fn read(answer: &Answer<'_>) -> (ReadAnswer, Option<Application>) {
    match answer.status.as_u16() {
        200 => match Application::from_json(answer.body) {
            Ok(application) => (standing(&application), Some(application)),
            Err(error) => {
                let error = RemoteError {
                    status: Some(200),
                    code: "UnreadableBody".to_owned(),
                    message: format!("ARM answered 200 with a body that is no application: {error}"),
                };
                (ReadAnswer::Unreadable { error, wait: answer.wait() }, None)
            }
        },
        404 => (ReadAnswer::NotFound, None),
        _ => (ReadAnswer::Unreadable { error: answer.error(), wait: answer.wait() }, None),
    }
}

/// What `provisioningState` says (contracts/arm.md §1.3): at rest and in order only for the words known to mean that; a
/// resource without it counts as Succeeded (§2.1), and a word we do not know means that something goes on.
fn standing(application: &Application) -> ReadAnswer {
    let Some(state) =
        application.properties.provisioning_state.as_deref().map(str::trim).filter(|state| !state.is_empty())
    else {
        return ReadAnswer::Ready;
    };
    let is = |words: &[&str]| words.iter().any(|word| state.eq_ignore_ascii_case(word));
    let provisioning_state = state.to_owned();
    if is(&["Succeeded", "Ready", "Created"]) {
        ReadAnswer::Ready
    } else if is(&["Failed", "Canceled", "Cancelled"]) {
        ReadAnswer::Broken { provisioning_state }
    } else if is(&["Deleting", "Deleted"]) {
        ReadAnswer::Deleting
    } else {
        ReadAnswer::Busy { provisioning_state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_answer_makes_the_tables_panic_or_lets_a_url_pass_that_may_not_be_called(
            status in 100_u16..1_000, body in prop_oneof![".*", r#"\{"status":".{0,9}","error":.{0,30}\}"#],
            location in "[ -~]*", wait in "[ -~]*",
        ) {
            let host = ArmHost::new(&"https://management.azure.com".parse().unwrap()).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            headers.insert(http::header::RETRY_AFTER, wait.parse().unwrap());
            let at = "2026-03-10T12:00:00Z".parse().unwrap();
            let answer =
                Answer { status: StatusCode::from_u16(status).unwrap(), headers: &headers, body: body.as_bytes(), at };
            let _ = submitted(&answer, &host);
            let _ = read(&answer);
            for monitor in [Monitor::AsyncOperation, Monitor::Location] {
                if let PollAnswer::Running { moved: Some(url), .. } = polled(&answer, monitor, &host) {
                    prop_assert!(host.admit(url.expose()).is_ok());
                }
            }
        }
    }
}
