//! Where Partner Center posts its events: the registration of our webhook (contracts/access.md §2.8).
//!
//! A partner has one registration for all its events. So what is there already stays: events are added to ours, and one that
//! belongs to another address is left alone unless somebody says so. What has to be done is [`Needed::of`], which is pure.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::link::at;
use super::partner::{Answered, RequestIds};
use super::trouble::GdapError;
use super::wire::NoAnswer;
use super::{Gdap, WEBHOOK_PATH};

const SERVICE: &str = "Partner Center";
const PATH: &str = "webhooks/v1/registration";

/// What we want to hear of; `test-created` is what a trial posts.
pub const EVENTS: [&str; 9] = [
    "granular-admin-relationship-approved",
    "granular-admin-relationship-activated",
    "granular-admin-relationship-expired",
    "granular-admin-relationship-terminated",
    "granular-admin-access-assignment-created",
    "granular-admin-access-assignment-activated",
    "granular-admin-access-assignment-updated",
    "granular-admin-access-assignment-deleted",
    "test-created",
];

/// A registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Where events are posted.
    #[serde(rename = "WebhookUrl", alias = "webhookUrl")]
    pub url: String,
    /// Which.
    #[serde(rename = "WebhookEvents", alias = "webhookEvents", default)]
    pub events: Vec<String>,
    /// What else it says, which is kept as it is.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

impl Registration {
    /// Ours, at `url`.
    pub fn ours(url: &Url) -> Self {
        let events = EVENTS.iter().map(|event| (*event).to_owned()).collect();
        Self { url: url.to_string(), events, rest: BTreeMap::new() }
    }

    fn has(&self, event: &str) -> bool {
        self.events.iter().any(|known| known.eq_ignore_ascii_case(event))
    }

    fn is_at(&self, url: &str) -> bool {
        match (Url::parse(&self.url), Url::parse(url)) {
            (Ok(one), Ok(other)) => one == other,
            _ => self.url == url,
        }
    }
}

/// What has to be done so that ours is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Nothing.
    Nothing,
    /// It has to be made.
    Make(Registration),
    /// It is there, and lacks events.
    Extend(Registration),
    /// Another address has it: ours would take all events away from there.
    TakeOver(Registration),
}

impl Needed {
    /// What `wanted` takes where `known` is registered.
    pub fn of(known: Option<&Registration>, wanted: Registration) -> Self {
        let Some(known) = known else { return Self::Make(wanted) };
        if !known.is_at(&wanted.url) {
            return Self::TakeOver(wanted);
        }
        let more: Vec<_> = wanted.events.into_iter().filter(|event| !known.has(event)).collect();
        match more.is_empty() {
            true => Self::Nothing,
            false => Self::Extend(Registration { events: [&known.events[..], &more].concat(), ..known.clone() }),
        }
    }
}

/// What became of a trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Trial {
    /// Partner Center's word: completed, inProgress, or a newer one.
    pub status: String,
    /// One for each try.
    pub results: Vec<Delivery>,
}

/// One try to post an event to us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delivery {
    /// What we answered, in words of HTTP.
    pub response_code: String,
    /// Whether it was Partner Center that failed.
    pub system_error: bool,
}

impl Trial {
    /// Whether a try got through to us, and was believed.
    pub fn got_through(&self) -> bool {
        self.results.iter().any(|try_| !try_.system_error && matches!(try_.response_code.as_str(), "OK" | "200"))
    }

    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        self.status.eq_ignore_ascii_case("completed") || self.got_through()
    }
}

impl Gdap {
    /// Where Partner Center reaches us; `None` without `PUBLIC_URL`.
    pub fn webhook_url(&self) -> Option<Url> {
        self.config.public_url.as_ref().map(|public| at(public, WEBHOOK_PATH))
    }

    /// What is registered, if anything is.
    pub async fn registration(&self) -> Result<Option<Registration>, GdapError> {
        let answer = self.ask(Method::GET, PATH, None).await?;
        match answer.received.status.as_u16() {
            404 | 204 => Ok(None),
            200 if matches!(&answer.received.body[..], b"" | b"null") => Ok(None),
            200..=299 => Ok(Some(answer.received.json(SERVICE)?)),
            _ => Err(self.not_registered(&answer)),
        }
    }

    /// Registers `registration` where there is none; `false` if there is one now.
    pub async fn make_registration(&self, registration: &Registration) -> Result<bool, GdapError> {
        let answer = self.ask(Method::POST, PATH, Some(registration)).await?;
        match answer.received.status.as_u16() {
            200..=299 => Ok(true),
            409 => Ok(false),
            _ => Err(self.not_registered(&answer)),
        }
    }

    /// Puts `registration` in the place of the one that is there.
    pub async fn change_registration(&self, registration: &Registration) -> Result<(), GdapError> {
        let answer = self.ask(Method::PUT, PATH, Some(registration)).await?;
        if answer.received.status.is_success() { Ok(()) } else { Err(self.not_registered(&answer)) }
    }

    /// Has Partner Center post a trial to the registered address; by which id to ask for it. Takes two a minute.
    pub async fn start_trial(&self) -> Result<Uuid, GdapError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Started {
            #[serde(alias = "CorrelationId")]
            correlation_id: Uuid,
        }
        let answer = self.ask(Method::POST, &format!("{PATH}/validationEvents"), None).await?;
        match answer.received.status.is_success() {
            true => Ok(answer.received.json::<Started>(SERVICE)?.correlation_id),
            false => Err(self.not_registered(&answer)),
        }
    }

    /// What became of a trial; nothing yet where Partner Center does not know it yet.
    pub async fn trial(&self, id: Uuid) -> Result<Trial, GdapError> {
        let answer = self.ask(Method::GET, &format!("{PATH}/validationEvents/{id}"), None).await?;
        match answer.received.status.as_u16() {
            404 => Ok(Trial::default()),
            200..=299 => Ok(answer.received.json(SERVICE)?),
            _ => Err(self.not_registered(&answer)),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Registration>) -> Result<Answered, GdapError> {
        let ids = RequestIds { request: Uuid::new_v4(), correlation: Uuid::new_v4() };
        let body = body.map(|body| json!(body));
        self.ask_partner_center(method, path, body.as_ref(), ids).await
    }

    fn not_registered(&self, answer: &Answered) -> GdapError {
        let status = answer.received.status.as_u16();
        let why = format!("Partner Center answered {status}");
        match status {
            400 | 404 => GdapError::Misconfigured {
                why: format!(
                    "{why}: PUBLIC_URL has to be an https address that it reaches, with a webhook registered there"
                ),
            },
            401 | 403 => GdapError::Misconfigured {
                why: format!(
                    "{why}: the user who signed in has to be a member of AdminAgents, and the app needs the API permission of Partner Center"
                ),
            },
            408 | 429 | 500.. => {
                let wait = answer.received.wait(self.broker.endpoint().clock.now());
                GdapError::Retry { why, wait }
            }
            _ => NoAnswer::Unreadable { service: SERVICE, status }.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(url: &str, events: &[&str]) -> Registration {
        let value = json!({"WebhookUrl": url, "WebhookEvents": events, "SignatureTokenToMsSignatureHeader": true});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_there_is_added_to_and_never_taken_from_somebody_else_unasked() {
        let ours = || Registration::ours(&"https://x.example/api/consent/webhook".parse().unwrap());
        assert_eq!(Needed::of(None, ours()), Needed::Make(ours()));
        assert_eq!(Needed::of(Some(&ours()), ours()), Needed::Nothing);
        let other = registered("https://other.example/hook", &["subscription-updated"]);
        assert_eq!(Needed::of(Some(&other), ours()), Needed::TakeOver(ours()));
        let some = registered("https://X.example:443/api/consent/webhook", &["subscription-updated", "Test-Created"]);
        let Needed::Extend(extended) = Needed::of(Some(&some), ours()) else { panic!("it lacks events") };
        assert_eq!(extended.events[..2], some.events[..]);
        assert_eq!(extended.events.len(), 2 + EVENTS.len() - 1);
        let sent = serde_json::to_value(&extended).unwrap();
        assert_eq!(sent["SignatureTokenToMsSignatureHeader"], true, "what we do not know is kept");
        assert_eq!(Needed::of(Some(&extended), ours()), Needed::Nothing);
    }
}
