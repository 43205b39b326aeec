//! What our identity can see at all: subscriptions, what Azure Resource Graph knows of them, and which resource groups are
//! managed by an application (contracts/arm.md §3.2).
//!
//! Every reading says whether it came to its end. What was read before it stopped exists; what is missing may exist too.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Application;
use super::call::{Call, Outcome};
use super::client::{ArmClient, SUBSCRIPTIONS_API_VERSION, refused};
use super::listing::{ListEnd, stopped};
use crate::rollout::ApplicationId;
use crate::rollout::resource_id::is_guid;

const GRAPH_API_VERSION: &str = "2021-03-01";
const GROUPS_API_VERSION: &str = "2021-04-01";
/// What these calls are held back together by: they belong to no subscription.
const SUBSCRIPTIONS: &str = "subscriptions";
const GRAPH: &str = "resource-graph";
/// The rows of one page, the most that Resource Graph gives (contracts/arm.md §2.5).
const ROWS: usize = 1_000;
/// The most pages of one question.
const MOST_GRAPH_PAGES: usize = 100;

/// Managed applications; `properties` without what may hold a customer's data.
const APPLICATIONS: &str = "resources | where type =~ 'microsoft.solutions/applications' \
    | project id, name, location, kind, plan, tenantId, properties = bag_pack('provisioningState', \
    properties.provisioningState, 'managedResourceGroupId', properties.managedResourceGroupId) | order by id asc";
/// Resource groups that an application manages.
const MANAGED_GROUPS: &str = "resourcecontainers | where type =~ 'microsoft.resources/subscriptions/resourcegroups' \
    and managedBy contains '/providers/microsoft.solutions/applications/' | project id, managedBy, tenantId | order by id asc";

/// A subscription that we can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its id, lower-case.
    pub id: String,
    /// The customer's tenant, where it is said.
    pub tenant_id: Option<String>,
}

/// One page of the subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionPage {
    /// Those of this page.
    pub subscriptions: Vec<Subscription>,
    /// Items that are none.
    pub unreadable: usize,
    /// Where the next page is; `None` on the last one.
    pub next: Option<String>,
}

/// An application that Resource Graph knows, or that a resource group names as its manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: ApplicationId,
    /// The customer's tenant, where it is said.
    pub tenant_id: Option<String>,
    /// The application, if it is not only named.
    pub application: Option<Application>,
    /// The managed resource group that names it.
    pub managed_resource_group_id: Option<String>,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// What was read, all of it only if `end` says so.
    pub rows: Vec<Row>,
    /// Rows that are nothing of the kind.
    pub unreadable: usize,
    /// How it ended.
    pub end: ListEnd,
}

impl ArmClient {
    /// The subscriptions that we can see: the first page, or the one behind `link`.
    pub async fn list_subscriptions(&self, link: Option<&str>) -> Result<SubscriptionPage, ListEnd> {
        let first = format!("/subscriptions?api-version={SUBSCRIPTIONS_API_VERSION}");
        let mut page = SubscriptionPage::default();
        let mut take = |item: &RawValue| match subscription(item) {
            Some(subscription) => page.subscriptions.push(subscription),
            None => page.unreadable += 1,
        };
        let next = self.read_page(link.unwrap_or(&first), SUBSCRIPTIONS, &mut None, &mut take).await?;
        Ok(SubscriptionPage { next, ..page })
    }

    /// The applications that manage resource groups of a subscription.
    pub async fn list_managed_groups(&self, subscription: &str) -> Rows {
        let first = format!("/subscriptions/{subscription}/resourcegroups?api-version={GROUPS_API_VERSION}");
        let (mut rows, mut unreadable) = (Vec::new(), 0);
        let take = |item: &RawValue| match serde_json::from_str::<Item>(item.get()) {
            // Most groups are managed by nobody.
            Ok(item) => rows.extend(item.group()),
            Err(_) => unreadable += 1,
        };
        let (end, _) = self.read_pages(subscription, first, take).await;
        Rows { rows, unreadable, end }
    }

    /// The applications that Resource Graph knows in some subscriptions.
    pub async fn query_applications(&self, subscriptions: &[&str]) -> Rows {
        self.query(APPLICATIONS, subscriptions, Item::application).await
    }

    /// The applications that manage resource groups of some subscriptions, as far as Resource Graph knows.
    pub async fn query_managed_groups(&self, subscriptions: &[&str]) -> Rows {
        self.query(MANAGED_GROUPS, subscriptions, |item, _| item.group()).await
    }

    async fn query(&self, query: &str, subscriptions: &[&str], read: impl Fn(Item, &RawValue) -> Option<Row>) -> Rows {
        let mut rows = Rows { rows: Vec::new(), unreadable: 0, end: ListEnd::Complete };
        let (mut token, mut read_rows) = (None::<String>, 0);
        let mut seen = HashSet::new();
        rows.end = loop {
            let mut options = json!({"resultFormat": "objectArray", "$top": ROWS});
            if let Some(token) = &token {
                options["$skipToken"] = token.as_str().into();
            }
            let body = json!({"subscriptions": subscriptions, "query": query, "options": options});
            let page = match self.graph_page(body.to_string().into()).await {
                Ok(page) => page,
                Err(end) => break end,
            };
            read_rows += page.data.len() as u64;
            for item in &page.data {
                let row = serde_json::from_str::<Item>(item.get()).ok().and_then(|parsed| read(parsed, item));
                match row {
                    Some(row) => rows.rows.push(row),
                    None => rows.unreadable += 1,
                }
            }
            match page.skip_token.filter(|token| !token.is_empty()) {
                Some(next) if !seen.insert(next.clone()) => {
                    break stopped("ListLoops", "Resource Graph names a page before this one as the next".to_owned());
                }
                Some(_) if seen.len() > MOST_GRAPH_PAGES => {
                    break stopped("ListTooLong", format!("the answer has more than {MOST_GRAPH_PAGES} pages"));
                }
                Some(next) => token = Some(next),
                None if page.is_limited || page.truncated.0 => {
                    break stopped("ResultTruncated", "Resource Graph says that it left something out".to_owned());
                }
                None if page.total_records.is_some_and(|total| total > read_rows) => {
                    let message =
                        format!("Resource Graph gave {read_rows} rows of {}", page.total_records.unwrap_or(0));
                    break stopped("ResultTruncated", message);
                }
                None => break ListEnd::Complete,
            }
        };
        rows
    }

    async fn graph_page(&self, body: Bytes) -> Result<GraphPage, ListEnd> {
        let target = format!("/providers/Microsoft.ResourceGraph/resources?api-version={GRAPH_API_VERSION}");
        let uri = self
            .shared
            .host
            .at(&target)
            .map_err(|why| ListEnd::Stopped { error: refused("UrlRefused", &target, why), wait: None })?;
        let received = match self.call(Call::query(uri, GRAPH, body), None).await {
            Outcome::Answered { received, .. } => received,
            Outcome::Unanswered { error, wait, .. } => return Err(ListEnd::Stopped { error, wait }),
        };
        if let Some(wait) = quota_wait(&received.headers) {
            self.hold_scope(GRAPH, wait);
        }
        let answer = self.answer(&received);
        if received.status != StatusCode::OK {
            return Err(ListEnd::Stopped { error: answer.error(), wait: answer.wait() });
        }
        let is_object = received.body.trim_ascii_start().starts_with(b"{");
        let page: Option<GraphPage> = is_object.then(|| serde_json::from_slice(&received.body).ok()).flatten();
        let mut page =
            page.ok_or_else(|| stopped("UnreadableBody", "Resource Graph's answer cannot be read".to_owned()))?;
        page.is_limited = is_header(&received.headers, "x-ms-tenant-subscription-limit-hit", "true");
        Ok(page)
    }
}

/// How long Resource Graph wants no question, once its quota is used up (contracts/arm.md §2.5).
fn quota_wait(headers: &HeaderMap) -> Option<Duration> {
    if !is_header(headers, "x-ms-user-quota-remaining", "0") {
        return None;
    }
    let after = headers.get("x-ms-user-quota-resets-after")?.to_str().ok()?;
    let parts: Vec<u64> = after.trim().split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, seconds] = parts[..] else { return None };
    (hours < 24 && minutes < 60 && seconds < 60)
        .then(|| Duration::from_secs((hours * 60 + minutes) * 60 + seconds).max(Duration::from_secs(1)))
}

fn is_header(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|said| said.as_bytes().trim_ascii().eq_ignore_ascii_case(value.as_bytes()))
}

fn subscription(item: &RawValue) -> Option<Subscription> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        subscription_id: String,
        tenant_id: Option<String>,
    }
    let item: Item = serde_json::from_str(item.get()).ok()?;
    let tenant_id = item.tenant_id.filter(|id| is_guid(id)).map(|id| id.to_ascii_lowercase());
    is_guid(&item.subscription_id).then(|| Subscription { id: item.subscription_id.to_ascii_lowercase(), tenant_id })
}

/// What a row of Resource Graph and a resource group have in common.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: Option<String>,
    managed_by: Option<String>,
    tenant_id: Option<String>,
}

impl Item {
    fn application(self, row: &RawValue) -> Option<Row> {
        let application = Application::from_json(row.get().as_bytes()).ok()?;
        let id = application.application_id()?;
        Some(Row { id, tenant_id: self.tenant(), application: Some(application), managed_resource_group_id: None })
    }

    fn group(self) -> Option<Row> {
        let id = self.managed_by.as_deref()?.parse().ok()?;
        Some(Row { id, tenant_id: self.tenant(), application: None, managed_resource_group_id: self.id })
    }

    fn tenant(&self) -> Option<String> {
        self.tenant_id.as_deref().filter(|id| is_guid(id)).map(str::to_ascii_lowercase)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraphPage {
    total_records: Option<u64>,
    data: Vec<Box<RawValue>>,
    #[serde(default, rename = "resultTruncated")]
    truncated: Truncated,
    #[serde(default, rename = "$skipToken")]
    skip_token: Option<String>,
    #[serde(skip)]
    is_limited: bool,
}

/// `"true"` or `"false"`, as text; a Boolean is as good.
#[derive(Default, Deserialize)]
#[serde(from = "serde_json::Value")]
struct Truncated(bool);

impl From<serde_json::Value> for Truncated {
    fn from(value: serde_json::Value) -> Self {
        Self(value.as_bool().unwrap_or_else(|| value.as_str().is_some_and(|word| word.eq_ignore_ascii_case("true"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_quota_says_how_long_to_wait() {
        let headers = |remaining: &str, after: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-user-quota-remaining", remaining.parse().unwrap());
            headers.insert("x-ms-user-quota-resets-after", after.parse().unwrap());
            quota_wait(&headers)
        };
        assert_eq!(headers("0", "00:00:05"), Some(Duration::from_secs(5)));
        assert_eq!(headers("0", "01:00:00"), Some(Duration::from_secs(3_600)));
        assert_eq!(headers("0", "00:00:00"), Some(Duration::from_secs(1)));
        for (remaining, after) in [("1", "00:00:05"), ("0", "5"), ("0", "a:b:c"), ("0", "99:00:00"), ("0", "")] {
            assert_eq!(headers(remaining, after), None, "{remaining} {after}");
        }
    }

    #[test]
    fn a_truncated_answer_is_known_in_any_spelling() {
        for (text, truncated) in
            [("\"true\"", true), ("true", true), ("\"false\"", false), ("7", false), ("null", false)]
        {
            assert_eq!(serde_json::from_str::<Truncated>(text).unwrap().0, truncated, "{text}");
        }
    }
}
