//! Partner Center's API of customers: consent to our app in a customer's tenant (contracts/access.md §2.5).
//!
//! What its answers mean is [`judge`], which is pure. Asks once; who repeats it keeps the request id, which is Partner
//! Center's idempotency key.

use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::claims::Claims;
use super::link::at;
use super::scopes::Grant;
use super::trouble::GdapError;
use super::wire::Received;
use super::{Gdap, wire};

/// The audience of the API.
pub const SCOPE: &str = "https://api.partnercenter.microsoft.com/.default";
const SERVICE: &str = "Partner Center";
/// The code of a 404 that says that the tenant is not known.
const UNKNOWN_TENANT: u32 = 60_003;

/// By what Partner Center knows a request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIds {
    /// `MS-RequestId`: kept when the same request is sent again.
    pub request: Uuid,
    /// `MS-CorrelationId`: of the whole action.
    pub correlation: Uuid,
}

impl RequestIds {
    /// The same action's request for something else, which is another request: its id is as lasting as the first one's.
    #[must_use]
    pub fn beside(self) -> Self {
        Self { request: Uuid::from_u128(self.request.as_u128() ^ 1), ..self }
    }
}

/// What came of asking for consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consented {
    /// Partner Center has consented to just this.
    Now,
    /// There was a consent already, to whatever it was asked for then (contracts/access.md §2.5).
    Before,
}

/// What an answer to a consent means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is there now, or was there before.
    Consented(Consented),
    /// The request itself was not taken: a service principal may be missing, or a scope is unknown.
    Malformed,
    /// The token was not taken.
    Unauthorized,
    /// There is no relationship with this customer.
    NoRelationship,
    /// We may not, and the customer's administrator may.
    NotPermitted,
    /// Later.
    Later,
    /// It was not understood.
    Unknown,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: Option<serde_json::Value>,
}

/// The error code of a body, as a number.
fn code_of(body: &[u8]) -> Option<u32> {
    let code = serde_json::from_slice::<ErrorBody>(body).ok()?.code?;
    code.as_u64().and_then(|code| u32::try_from(code).ok()).or_else(|| code.as_str()?.parse().ok())
}

/// What an answer means, by status and code.
pub fn judge(status: u16, code: Option<u32>) -> Judged {
    match (status, code) {
        (200 | 201 | 204, _) => Judged::Consented(Consented::Now),
        // It comes where the consent exists already (contracts/access.md §2.5).
        (409, _) => Judged::Consented(Consented::Before),
        (400, _) => Judged::Malformed,
        (401, _) => Judged::Unauthorized,
        (403, Some(20_002)) | (404, _) => Judged::NoRelationship,
        (403, _) => Judged::NotPermitted,
        (408 | 429 | 500.., _) => Judged::Later,
        _ => Judged::Unknown,
    }
}

impl Gdap {
    /// Asks Partner Center to consent to our app in `tenant`, for `grants`.
    pub async fn consent(&self, tenant: &str, grants: &[Grant], ids: RequestIds) -> Result<Consented, GdapError> {
        let client_id = &self.broker.endpoint().client_id;
        let path = format!("v1/customers/{tenant}/applicationconsents");
        let body =
            json!({"applicationId": client_id, "displayName": self.config.display_name, "applicationGrants": grants});
        let answer = self.ask_partner_center(Method::POST, &path, Some(&body), ids).await?;
        let (status, code) = (answer.received.status.as_u16(), code_of(&answer.received.body));
        let why = said(status, code);
        let tenant_id = tenant.to_owned();
        match judge(status, code) {
            Judged::Consented(consented) => Ok(consented),
            Judged::Malformed => match self.missing_service_principals(tenant, grants).await {
                Ok(missing) if !missing.is_empty() => {
                    Err(GdapError::ServicePrincipalMissing { tenant_id, missing, why })
                }
                Ok(_) => Err(GdapError::Misconfigured {
                    why: format!(
                        "{why}: run `permafresh gdap scopes` to see whether the app's permissions are in order"
                    ),
                }),
                // Graph cannot be asked before there is consent for it: the customer's administrator can do both.
                Err(_) => Err(GdapError::NeedsAdministrator { tenant_id, why }),
            },
            judged => Err(self.refusal(judged, tenant, why, &answer)),
        }
    }

    /// Withdraws our app's consent in `tenant`, all of it: nothing of ours works there until it consents anew. One that is gone
    /// already is withdrawn.
    pub async fn withdraw_consent(&self, tenant: &str, ids: RequestIds) -> Result<(), GdapError> {
        let client_id = &self.broker.endpoint().client_id;
        let path = format!("v1/customers/{tenant}/applicationconsents/{client_id}");
        let answer = self.ask_partner_center(Method::DELETE, &path, None, ids).await?;
        let (status, code) = (answer.received.status.as_u16(), code_of(&answer.received.body));
        match (status, code) {
            (200..300, _) => return Ok(()),
            (404, code) if code != Some(UNKNOWN_TENANT) => return Ok(()),
            _ => {}
        }
        let judged = match judge(status, code) {
            Judged::Consented(_) => Judged::Later,
            Judged::Malformed => Judged::NotPermitted,
            judged => judged,
        };
        Err(self.refusal(judged, tenant, said(status, code), &answer))
    }

    fn refusal(&self, judged: Judged, tenant: &str, why: String, answer: &Answered) -> GdapError {
        let tenant_id = tenant.to_owned();
        match judged {
            Judged::Unauthorized if answer.lacks_mfa => {
                GdapError::SignInAgain { why: format!("{why}, since the sign-in had no second factor") }
            }
            Judged::Unauthorized => GdapError::Misconfigured {
                why: format!(
                    "{why}: the user who signed in has to be a member of AdminAgents, and the app needs the API permission of Partner Center"
                ),
            },
            Judged::NoRelationship => GdapError::NoRelationship { tenant_id, why },
            Judged::NotPermitted | Judged::Malformed => GdapError::NeedsAdministrator { tenant_id, why },
            Judged::Later => GdapError::Retry { why, wait: answer.received.wait(self.broker.endpoint().clock.now()) },
            // A redirect, a page of a proxy: not Partner Center's own word.
            Judged::Unknown | Judged::Consented(_) => {
                GdapError::Retry { why, wait: Some(Duration::from_secs(60 * 60)) }
            }
        }
    }

    /// One call of Partner Center's API as our user; a token that is not taken is replaced once.
    pub(super) async fn ask_partner_center(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        ids: RequestIds,
    ) -> Result<Answered, GdapError> {
        let home = &self.config.partner_tenant;
        let mut token = self.broker.token(home, SCOPE).await?;
        let client_id = &self.broker.endpoint().client_id;
        if let Some(claims) = Claims::of(token.secret())
            && claims.app().is_some_and(|app| !app.eq_ignore_ascii_case(client_id))
        {
            let why = "the token belongs to another app than GDAP_CLIENT_ID, and an app can consent for itself only"
                .to_owned();
            return Err(GdapError::Misconfigured { why });
        }
        let url = at(&self.config.partner_api_endpoint, path);
        let mut renewed = false;
        loop {
            let request = self.http.request(method.clone(), url.clone());
            let mut request = request
                .header(AUTHORIZATION, token.authorization())
                .header(ACCEPT, "application/json")
                .header("MS-CorrelationId", ids.correlation.to_string())
                .header("MS-RequestId", ids.request.to_string())
                .header("MS-Contract-Version", "v1");
            if let Some(body) = body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
            }
            let received = wire::send(SERVICE, request).await?;
            if received.status == http::StatusCode::UNAUTHORIZED && !renewed {
                token = self.broker.fresh(home, SCOPE, &token).await?;
                renewed = true;
                continue;
            }
            let lacks_mfa = Claims::of(token.secret()).is_some_and(|claims| !claims.has_mfa());
            return Ok(Answered { received, lacks_mfa });
        }
    }
}

/// What Partner Center answered, and whether the token was of a sign-in that it does not take.
pub(super) struct Answered {
    pub received: Received,
    lacks_mfa: bool,
}

fn said(status: u16, code: Option<u32>) -> String {
    format!("Partner Center answered {status}{}", code.map(|code| format!(" with code {code}")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_the_contract_has_its_meaning() {
        for (status, code, expected) in [
            (200, None, Judged::Consented(Consented::Now)),
            (201, None, Judged::Consented(Consented::Now)),
            (409, Some(7), Judged::Consented(Consented::Before)),
            (400, Some(2_000), Judged::Malformed),
            (401, None, Judged::Unauthorized),
            (403, Some(20_002), Judged::NoRelationship),
            (403, Some(2_032), Judged::NotPermitted),
            (403, None, Judged::NotPermitted),
            (404, Some(60_003), Judged::NoRelationship),
            (408, None, Judged::Later),
            (429, None, Judged::Later),
            (500, None, Judged::Later),
            (503, Some(20_002), Judged::Later),
            (302, None, Judged::Unknown),
            (418, None, Judged::Unknown),
        ] {
            assert_eq!(judge(status, code), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn a_code_is_read_as_number_or_text_and_nothing_else() {
        let example = include_bytes!("../../../tests/data/gdap/applicationconsents.error.json");
        assert_eq!(code_of(example), Some(20_002));
        assert_eq!(code_of(br#"{"code":2032}"#), Some(2_032));
        for bad in ["", "<html>", "{}", r#"{"code":{}}"#, r#"{"code":-1}"#] {
            assert_eq!(code_of(bad.as_bytes()), None, "{bad}");
        }
    }
}
