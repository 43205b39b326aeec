//! The questions to Partner Center's submission API, each answered whole or with a [`Trouble`].
//!
//! Follows next pages to the configured endpoint only, so many and so long only. The one thing repeated within a call is a 401,
//! once, with a new token. Nothing sleeps here: the wait that Partner Center names is part of the trouble.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderName, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::answers::{self, Published, Variant};
use super::trouble::{Trouble, TroubleKind};
use crate::access::credential::{BearerToken, TokenSource, scope_of};
use crate::arm::host_rule::{ArmHost, InvalidEndpoint, UrlRefused};
use crate::arm::retry_after::retry_after;
use crate::arm::{NoAnswer, Proxy, Received, Transport};
use crate::clock::Clock;
use crate::rollout::Submission;

/// Where the API begins (contracts/offer-publish.md §3).
const BASE: &str = "/v1.0/ingestion";
/// What a token has to be for (contracts/offer-publish.md §3.1).
const AUDIENCE: &str = "https://api.partner.microsoft.com";
/// The most pages of one list that are read.
pub const MOST_PAGES: usize = 50;
/// How long the pages of one list may take together.
pub const LONGEST_LIST: Duration = Duration::from_secs(100);
/// The longest message that is kept of a refusal, in characters.
const LONGEST_MESSAGE: usize = 300;
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");

/// How to call Partner Center.
#[derive(Clone, Debug)]
pub struct PartnerCenterConfig {
    /// `PARTNER_CENTER_ENDPOINT`: https, or http to loopback.
    pub endpoint: Url,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How long the pages of one list may take together.
    pub list_timeout: Duration,
    /// The proxy to tunnel through, if any.
    pub proxy: Option<Proxy>,
}

impl PartnerCenterConfig {
    /// The defaults, for one endpoint.
    pub fn for_endpoint(endpoint: Url) -> Self {
        Self {
            endpoint,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            list_timeout: LONGEST_LIST,
            proxy: None,
        }
    }
}

/// Asks Partner Center as one application.
pub struct PartnerCenter {
    host: ArmHost,
    transport: Transport,
    list_timeout: Duration,
    tokens: TokenSource,
    scope: String,
    clock: Arc<dyn Clock>,
}

type Object = Map<String, Value>;

impl PartnerCenter {
    /// A client of one endpoint, with tokens of the application that has the Manager role. Opens no connection yet.
    pub fn new(
        config: PartnerCenterConfig,
        tokens: TokenSource,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidEndpoint> {
        Ok(Self {
            host: ArmHost::new(&config.endpoint)?,
            transport: Transport::new(2, config.connect_timeout, config.call_timeout, config.proxy),
            list_timeout: config.list_timeout,
            tokens,
            scope: scope_of(AUDIENCE),
            clock,
        })
    }

    /// The product behind an offer id; `None` if the account has none that is an Azure application.
    pub async fn product(&self, offer: &str) -> Result<Option<String>, Trouble> {
        const ASKED: &str = "the product of an offer";
        let filter = format!("externalIDs/Any(i:i/type%20eq%20'AzureOfferId'%20and%20i/value%20eq%20'{offer}')");
        let products = self.list(ASKED, format!("{BASE}/products?$filter={filter}")).await?;
        // Not everything is taken on the filter's word: another offer's version would be brought to this one's customers.
        let is_meant =
            |product: &&Object| answers::is_azure_application(product) && answers::is_of_offer(product, offer);
        let found = products.iter().find(is_meant);
        found.map(answers::id).transpose().map_err(|why| unreadable(ASKED, why))
    }

    /// The managed-application plans of a product.
    pub async fn variants(&self, product: &str) -> Result<Vec<Variant>, Trouble> {
        const ASKED: &str = "the plans of an offer";
        let items = self.list(ASKED, format!("{BASE}/products/{product}/variants")).await?;
        let variants: Result<_, String> = items.iter().filter_map(answers::variant).collect();
        variants.map_err(|why| unreadable(ASKED, why))
    }

    /// The submissions of a product, in the order of the answer.
    pub async fn submissions(&self, product: &str) -> Result<Vec<Submission>, Trouble> {
        const ASKED: &str = "the submissions of an offer";
        let items = self.list(ASKED, format!("{BASE}/products/{product}/submissions")).await?;
        let submissions: Result<_, String> = items.iter().map(answers::submission).collect();
        submissions.map_err(|why| unreadable(ASKED, why))
    }

    /// What a package instance holds. That of a submission is what was published, not the draft.
    pub async fn package(&self, product: &str, instance: &str) -> Result<Published, Trouble> {
        const ASKED: &str = "the permissions of a published package";
        let path = format!("{BASE}/products/{product}/packageConfigurations/getByInstanceID(instanceID={instance})");
        let items = self.list(ASKED, path).await?;
        let found = items.iter().find_map(answers::published);
        let found = found.unwrap_or_else(|| Err("it holds no package of a managed application".to_owned()));
        found.map_err(|why| unreadable(ASKED, why))
    }

    /// The items of a list, all pages of it.
    async fn list(&self, asked: &'static str, path: String) -> Result<Vec<Object>, Trouble> {
        let read = tokio::time::timeout(self.list_timeout, self.pages(asked, path)).await;
        read.unwrap_or_else(|_| {
            let why = format!("it took longer than {} s", self.list_timeout.as_secs_f64());
            Err(trouble(asked, TroubleKind::Endless { why }))
        })
    }

    async fn pages(&self, asked: &'static str, path: String) -> Result<Vec<Object>, Trouble> {
        let endless = |why: String| trouble(asked, TroubleKind::Endless { why });
        let mut items = Vec::new();
        let mut seen = HashSet::new();
        let mut next = Some(path);
        while let Some(link) = next {
            let uri = self.admit(&link).map_err(|why| {
                let kind = TroubleKind::LinkRefused { why: why.to_string() };
                trouble(asked, kind)
            })?;
            if seen.len() == MOST_PAGES {
                return Err(endless(format!("it has more than {MOST_PAGES} pages")));
            }
            if !seen.insert(uri.to_string()) {
                return Err(endless("a page names itself or one before it as the next".to_owned()));
            }
            let page = self.get(asked, uri).await?;
            let mut page = object(page).ok_or_else(|| unreadable(asked, "it is no JSON object".to_owned()))?;
            match page.remove("value") {
                Some(Value::Array(values)) => {
                    for value in values {
                        let item = object(value).ok_or_else(|| unreadable(asked, "an item is no object".to_owned()))?;
                        items.push(item);
                    }
                }
                _ => return Err(unreadable(asked, "it is no list".to_owned())),
            }
            // The specification says one name, the API the other (contracts/offer-publish.md §3.2).
            next = ["@odata.nextLink", "nextLink"].into_iter().find_map(|name| match page.remove(name) {
                Some(Value::String(link)) if !link.trim().is_empty() => Some(link),
                _ => None,
            });
        }
        Ok(items)
    }

    /// Where a link leads: to the configured endpoint, or nowhere. It may lack the slash in front, and hold spaces.
    fn admit(&self, link: &str) -> Result<Uri, UrlRefused> {
        let link = link.trim().replace(' ', "%20");
        let link = if link.starts_with(&BASE[1..]) { format!("/{link}") } else { link };
        self.host.admit(&link)
    }

    /// One answer with 200, parsed.
    async fn get(&self, asked: &'static str, uri: Uri) -> Result<Value, Trouble> {
        let no_token = |error: crate::access::credential::NoToken| {
            let kind = TroubleKind::NoToken { reason: error.reason };
            trouble(asked, kind)
        };
        let token = self.tokens.token(&self.scope).await.map_err(no_token)?;
        let mut received = self.send(asked, &uri, &token).await?;
        if received.1.status == StatusCode::UNAUTHORIZED {
            let token = self.tokens.fresh(&self.scope, &token).await.map_err(no_token)?;
            received = self.send(asked, &uri, &token).await?;
        }
        let (request_id, received) = received;
        let wait = retry_after(&received.headers, self.clock.now());
        let failed = |kind| Trouble { asked, kind, wait, request_id: Some(request_id) };
        let status = received.status.as_u16();
        match status {
            200 => {}
            401 => return Err(failed(TroubleKind::Unauthorized)),
            403 => return Err(failed(TroubleKind::Forbidden)),
            404 => return Err(failed(TroubleKind::NotFound)),
            429 => return Err(failed(TroubleKind::Throttled)),
            408 | 500.. => return Err(failed(TroubleKind::Unavailable { status })),
            _ => return Err(failed(TroubleKind::Rejected { status, message: beginning(&received.body) })),
        }
        let value: Value = serde_json::from_slice(&received.body)
            .map_err(|_| failed(TroubleKind::Unreadable { why: "it is no JSON".to_owned() }))?;
        // Errors of the API's own back end come with 200 (contracts/offer-publish.md §3.1).
        match value.get("statusCode").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok()) {
            Some(status) if status >= 500 => Err(failed(TroubleKind::Unavailable { status })),
            _ => Ok(value),
        }
    }

    async fn send(&self, asked: &'static str, uri: &Uri, token: &BearerToken) -> Result<(Uuid, Received), Trouble> {
        let request_id = Uuid::new_v4();
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.authorization().clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("permafresh/", env!("CARGO_PKG_VERSION"))));
        if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
            headers.insert(CLIENT_REQUEST_ID, id);
        }
        match self.transport.send(request).await {
            Ok(received) => Ok((request_id, received)),
            Err(why) => {
                let kind = TroubleKind::NoAnswer { reason: reason(why) };
                Err(Trouble { asked, kind, wait: None, request_id: Some(request_id) })
            }
        }
    }
}

fn trouble(asked: &'static str, kind: TroubleKind) -> Trouble {
    Trouble { asked, kind, wait: None, request_id: None }
}

fn unreadable(asked: &'static str, why: String) -> Trouble {
    trouble(asked, TroubleKind::Unreadable { why })
}

fn reason(why: NoAnswer) -> String {
    match why {
        NoAnswer::Timeout { within } => format!("within {} s", within.as_secs_f64()),
        NoAnswer::Unreachable { reason } => format!("no connection: {reason}"),
        NoAnswer::Broken { reason } => format!("the connection broke: {reason}"),
        NoAnswer::TooLarge => "it is too large".to_owned(),
        NoAnswer::NoTrust { reason } => format!("no trusted certificates: {reason}"),
    }
}

fn object(value: Value) -> Option<Object> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// The first words of a body, on one line; error bodies are declared as bare strings.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<_> = text.split_whitespace().collect();
    let words = words.join(" ").replace(|c: char| c.is_control(), "");
    if words.is_empty() { "without a word".to_owned() } else { words.chars().take(LONGEST_MESSAGE).collect() }
}
