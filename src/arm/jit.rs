//! Just-in-time requests: filed, read and listed (contracts/arm.md §1.4, contracts/access.md §4.3).
//!
//! Names go into paths escaped, and to the configured host only. What a state means, and when to look, is the domain's.

use bytes::Bytes;
use http::StatusCode;
use percent_encoding::utf8_percent_encode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::admission::Permit;
use super::call::{Call, Outcome};
use super::client::{ArmClient, refused};
use super::listing::ListEnd;
use super::{Received, operation, remote_error};
use crate::rollout::resource_id::SEGMENT;
use crate::rollout::{ApplicationId, JitAnswer, JitRequest, RemoteError};

/// A request as a list shows it, read leniently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRequest {
    /// Its name.
    pub name: String,
    /// `jitRequestState`, as it is spelt.
    pub state: String,
}

/// What ARM shows of a request, as far as anybody here asks for it.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    properties: Option<ShownProperties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShownProperties {
    #[serde(default)]
    jit_request_state: Option<String>,
    #[serde(default)]
    application_resource_id: Option<String>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

impl ArmClient {
    /// Files a request. The same one again changes nothing. Whoever holds one of the places for calls asks from `place`.
    pub async fn file_jit_request(
        &self,
        application: &ApplicationId,
        request: &JitRequest,
        place: Option<&Permit>,
    ) -> JitAnswer {
        let body = json!({
            "location": request.location,
            "properties": {
                "applicationResourceId": application.to_string(),
                "jitAuthorizationPolicies": [
                    {"principalId": request.principal_id, "roleDefinitionId": request.role_id},
                ],
                "jitSchedulingPolicy": {
                    "type": "Once",
                    "duration": duration(request.duration.as_secs()),
                    "startTime": request.starts.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                },
            },
        });
        self.ask(application, request, Some(Bytes::from(body.to_string())), place).await
    }

    /// Reads a request.
    pub async fn read_jit_request(
        &self,
        application: &ApplicationId,
        request: &JitRequest,
        place: Option<&Permit>,
    ) -> JitAnswer {
        self.ask(application, request, None, place).await
    }

    async fn ask(
        &self,
        application: &ApplicationId,
        request: &JitRequest,
        body: Option<Bytes>,
        place: Option<&Permit>,
    ) -> JitAnswer {
        let target = format!(
            "{}/{}?api-version={}",
            requests_in(application.subscription(), &request.resource_group),
            utf8_percent_encode(&request.name, SEGMENT),
            self.shared.api_version
        );
        let uri = match self.shared.host.at(&target) {
            Ok(uri) => uri,
            Err(why) => return JitAnswer::Refused { error: refused("UrlRefused", &target, why) },
        };
        let is_filing = body.is_some();
        let call = match body {
            Some(body) => Call::put(uri, application.subscription(), body),
            None => Call::look(uri, application.subscription()),
        };
        match self.call_from(call, place).await {
            Outcome::Answered { received, .. } => {
                let wait = self.answer(&received).wait();
                let error = || remote_error::from_answer(received.status, &received.body);
                match received.status.as_u16() {
                    200..300 => stands(&received),
                    404 if !is_filing => JitAnswer::Missing,
                    // It was filed already, or something goes on there; a look will tell.
                    409 if is_filing => JitAnswer::Stands { word: None, error: None },
                    408 | 429 | 500.. => JitAnswer::Unclear { error: error(), wait },
                    401 if operation::blames_token(&error()) => JitAnswer::Unclear { error: error(), wait },
                    _ => JitAnswer::Refused { error: error() },
                }
            }
            Outcome::Unanswered { error, wait, .. } => JitAnswer::Unclear { error, wait },
        }
    }

    /// The requests for one application in a resource group, as Azure lists them.
    ///
    /// # Errors
    /// Why the list could not be read to its end.
    pub async fn list_jit_requests(
        &self,
        application: &ApplicationId,
        group: &str,
    ) -> Result<Vec<ListedRequest>, RemoteError> {
        let first =
            format!("{}?api-version={}", requests_in(application.subscription(), group), self.shared.api_version);
        let mut found = Vec::new();
        let (end, _) = self
            .read_pages(application.subscription(), first, |item| {
                let Ok(Shown { name: Some(name), properties: Some(properties) }) = serde_json::from_str(item.get())
                else {
                    return;
                };
                let of = properties.application_resource_id.and_then(|id| id.parse::<ApplicationId>().ok());
                if of.is_some_and(|of| of.key() == application.key()) {
                    found.push(ListedRequest { name, state: properties.jit_request_state.unwrap_or_default() });
                }
            })
            .await;
        match end {
            ListEnd::Complete => Ok(found),
            ListEnd::Stopped { error, .. } => Err(error),
        }
    }
}

/// The path of the requests in a resource group.
fn requests_in(subscription: &str, group: &str) -> String {
    let group = utf8_percent_encode(group, SEGMENT);
    format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Solutions/jitRequests")
}

fn stands(received: &Received) -> JitAnswer {
    let properties = serde_json::from_slice::<Shown>(&received.body).ok().and_then(|shown| shown.properties);
    let (word, error) = properties.map_or((None, None), |shown| (shown.jit_request_state, shown.error));
    // Azure's specification shows no error there; where one stands, it says why a request has failed.
    let error = error.map(|error| {
        let body = json!({ "error": error }).to_string();
        remote_error::from_answer(StatusCode::OK, body.as_bytes())
    });
    JitAnswer::Stands { word, error }
}

/// A duration in the form of the documented requests: `PT8H`, `PT1H30M`.
fn duration(seconds: u64) -> String {
    let parts = [(seconds / 3_600, 'H'), (seconds / 60 % 60, 'M'), (seconds % 60, 'S')];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}"));
    format!("PT{}", parts.collect::<String>())
}
