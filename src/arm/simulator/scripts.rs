//! What the simulator is told to answer: canned replies, and how an accepted operation goes on.
//!
//! One constructor for each form of answer in contracts/arm.md §2.

use std::borrow::Cow;
use std::time::Duration;

/// What a canned answer is given instead of, where it is no single application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// The subscriptions.
    Subscriptions,
    /// Azure Resource Graph.
    Graph,
    /// The resource groups of a subscription.
    Groups,
    /// The operations of a provider.
    Operations,
}

/// A canned answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Headers, besides those every answer has.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// A status and nothing else: 200, 202 and 204 to a POST mean that there is no monitor.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// A JSON body.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::status(status).with("content-type", "application/json; charset=utf-8").with_body(body)
    }

    /// ARM's own error (§2.6).
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({"error": {"code": code, "message": message}});
        Self::json(status, body.to_string()).with("x-ms-failure-cause", "gateway")
    }

    /// An HTML page with any status.
    pub fn html(status: u16) -> Self {
        Self::status(status).with("content-type", "text/html").with_body("<html>not JSON</html>")
    }

    /// 429 with a wait in seconds.
    pub fn throttled(seconds: u64) -> Self {
        let message = format!("Number of requests for the subscription exceeded. Try again after '{seconds}' seconds.");
        Self::error(429, "SubscriptionRequestsThrottled", &message).with("retry-after", seconds)
    }

    /// 503 with a wait in seconds.
    pub fn unavailable(seconds: u64) -> Self {
        Self::error(503, "ServiceUnavailable", "The service is not available.").with("retry-after", seconds)
    }

    /// 504.
    pub fn gateway_timeout() -> Self {
        Self::error(504, "GatewayTimeout", "The provider did not answer within 60 seconds.")
    }

    /// 409: another operation is running.
    pub fn busy() -> Self {
        Self::error(409, "Conflict", "Another operation on this application is in progress.")
    }

    /// 401: the token has expired.
    pub fn expired_token() -> Self {
        Self::error(401, "ExpiredAuthenticationToken", "The access token has expired.")
    }

    /// 401: the token is of another tenant than the subscription, which the challenge names.
    pub fn wrong_tenant(tenant_id: &str) -> Self {
        let message = "The access token comes from another issuer than the tenant of this subscription.";
        let challenge = format!(
            "Bearer authorization_uri=\"https://login.microsoftonline.com/{tenant_id}\", error=\"invalid_token\""
        );
        Self::error(401, "InvalidAuthenticationTokenTenant", message).with("www-authenticate", challenge)
    }

    /// 403: the role does not cover the action.
    pub fn forbidden() -> Self {
        let message = "The client has no authorization to perform action \
                       'Microsoft.Solutions/applications/refreshPermissions/action' over the scope of the application.";
        Self::error(403, "AuthorizationFailed", message)
    }

    /// 403: a deny assignment refuses.
    pub fn denied() -> Self {
        let message = "The client may perform the action, but a deny assignment refuses it.";
        Self::error(403, "DenyAssignmentAuthorizationFailed", message)
    }

    /// 404: the subscription is gone, or invisible.
    pub fn subscription_not_found() -> Self {
        Self::error(404, "SubscriptionNotFound", "The subscription could not be found.")
    }

    /// 404: the application is gone.
    pub fn resource_not_found() -> Self {
        Self::error(404, "ResourceNotFound", "The resource under the resource group was not found.")
    }

    /// 404: its resource group is gone.
    pub fn group_not_found() -> Self {
        Self::error(404, "ResourceGroupNotFound", "The resource group could not be found.")
    }

    /// 307 to another place.
    pub fn redirect(to: &str) -> Self {
        Self::status(307).with("location", to)
    }

    /// The same with one more header.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((Cow::Borrowed(name), value.to_string()));
        self
    }

    /// The same with another body.
    pub fn with_body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }
}

/// What the simulator does with one POST of `refreshPermissions`.
#[derive(Clone, Debug, PartialEq)]
pub enum OnPost {
    /// Starts an operation.
    Accept(Acceptance),
    /// Answers, and starts nothing.
    Reply(Reply),
    /// Drops the connection and starts nothing.
    Reset,
    /// Starts an operation and drops the connection: the answer is lost.
    LoseAnswer(Acceptance),
    /// Never answers.
    Hang,
}

/// What the simulator does with one look at an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum OnPoll {
    /// As the operation stands.
    AsItStands,
    /// Answers this.
    Reply(Reply),
    /// Drops the connection.
    Reset,
    /// Never answers.
    Hang,
}

/// What the simulator does with one reading of an application.
#[derive(Clone, Debug, PartialEq)]
pub enum OnRead {
    /// Shows it with this `provisioningState`.
    State(Cow<'static, str>),
    /// Answers this.
    Reply(Reply),
    /// Drops the connection.
    Reset,
    /// Never answers.
    Hang,
}

/// What the simulator does with one filing of a just-in-time request.
#[derive(Clone, Debug, PartialEq)]
pub enum OnJit {
    /// Takes it, and it is decided by itself.
    Decide {
        /// How long after that, by the clock.
        after: Duration,
        /// `jitRequestState` from then on, as it is to be spelt.
        word: Cow<'static, str>,
        /// `error`, as JSON.
        error: Option<Cow<'static, str>>,
    },
    /// Takes it, and it waits for [`super::Simulator::decide_jit`].
    Wait,
    /// Takes it, and the answer is lost.
    LoseAnswer,
    /// Answers, and takes nothing.
    Reply(Reply),
}

impl OnJit {
    /// It is decided after a time.
    pub fn after(after: Duration, word: &'static str) -> Self {
        Self::Decide { after, word: Cow::Borrowed(word), error: None }
    }

    /// It fails since the tenant has no licence, in the words of Privileged Identity Management.
    pub fn without_p2() -> Self {
        let error = r#"{"code":"AadPremiumLicenseRequired","message":"The tenant needs to have Microsoft Entra ID P2 or Microsoft Entra ID Governance license."}"#;
        Self::Decide { after: Duration::ZERO, word: Cow::Borrowed("Failed"), error: Some(Cow::Borrowed(error)) }
    }
}

/// How a POST is accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Acceptance {
    /// 202, or 201.
    pub status: u16,
    /// Which headers name the monitor.
    pub monitor: MonitorForm,
    /// What Retry-After says.
    pub retry_after: WaitForm,
    /// How the operation ends.
    pub outcome: Outcome,
    /// How long it takes, if not as long as usual.
    pub duration: Option<Duration>,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self {
            status: 202,
            monitor: MonitorForm::AsyncOperation,
            retry_after: WaitForm::Usual,
            outcome: Outcome::succeeded(),
            duration: None,
        }
    }
}

impl Acceptance {
    /// Accepted as usual, with this end.
    pub fn ending(outcome: Outcome) -> Self {
        Self { outcome, ..Self::default() }
    }

    /// Accepted as usual, but for the monitor.
    pub fn monitored_by(monitor: MonitorForm) -> Self {
        Self { monitor, ..Self::default() }
    }

    /// Accepted as usual, but for the wait.
    pub fn waiting(retry_after: WaitForm) -> Self {
        Self { retry_after, ..Self::default() }
    }
}

/// Which headers name the monitor of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorForm {
    /// Both.
    Both,
    /// `Azure-AsyncOperation`.
    AsyncOperation,
    /// `Location`.
    Location,
    /// None.
    None,
    /// `Azure-AsyncOperation`, with this URL instead of a good one.
    Elsewhere(String),
}

/// What Retry-After says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitForm {
    /// The simulator's setting.
    Usual,
    /// Nothing.
    None,
    /// This text.
    Text(String),
    /// An HTTP date, so far from now.
    Date(Duration),
}

/// How an operation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `status`, as it is to be spelt.
    pub word: Cow<'static, str>,
    /// `error`, as JSON.
    pub error: Option<Cow<'static, str>>,
}

impl Outcome {
    /// It succeeds.
    pub fn succeeded() -> Self {
        Self { word: Cow::Borrowed("Succeeded"), error: None }
    }

    /// It ends with any word and no error.
    pub fn word(word: impl Into<Cow<'static, str>>) -> Self {
        Self { word: word.into(), error: None }
    }

    /// It fails with a code and a message.
    pub fn failed(code: &str, message: &str) -> Self {
        let error = serde_json::json!({"code": code, "message": message}).to_string();
        Self { word: Cow::Borrowed("Failed"), error: Some(error.into()) }
    }

    /// It fails because the offer names an action that no provider has, in the words of the refresh recipe
    /// (contracts/arm.md §1.2).
    pub fn bad_action(action: &str) -> Self {
        let message = format!(
            "Refresh permissions for application App failed with exception '{action}' does not match any of the actions \
             supported by the providers."
        );
        Self::failed("RefreshPermissionsFailed", &message)
    }

    /// It fails, and the cause is two levels deep.
    pub fn failed_nested() -> Self {
        let error = r#"{"code":"Conflict","message":"Outer message.","target":"authorizations","details":[
            {"code":"RoleAssignmentUpdateNotPermitted","message":"Inner message.","details":[
                {"code":"PrincipalNotFound","message":"Innermost message."}]}],
            "additionalInfo":[{"type":"PolicyViolation","info":{}}],"innererror":{"code":"Example"}}"#;
        Self { word: Cow::Borrowed("Failed"), error: Some(Cow::Borrowed(error)) }
    }

    /// It is canceled.
    pub fn canceled() -> Self {
        Self {
            word: Cow::Borrowed("Canceled"),
            error: Some(Cow::Borrowed(r#"{"code":"OperationCanceled","message":"The operation was canceled."}"#)),
        }
    }

    /// Whether the permissions are refreshed by it.
    pub fn is_success(&self) -> bool {
        self.word.eq_ignore_ascii_case("Succeeded")
    }
}
