//! Lists, page by page: applications, and whatever else comes as `value` and `nextLink`.
//!
//! Follows `nextLink` as it is given, under the same rule about hosts as polling URLs, and only so far. A list that
//! could not be read to its end says so: whoever removes what is not listed must look at [`Listing::end`].

use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Application;
use super::call::{Call, Outcome};
use super::client::{ArmClient, refused};
use crate::rollout::RemoteError;
use crate::rollout::resource_id::is_guid;

/// The most pages of one list that are read.
pub const MOST_PAGES: usize = 1_000;
/// What came of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The applications read, all of them only if `end` says so.
    pub applications: Vec<Application>,
    /// Items that are no applications.
    pub unreadable: usize,
    /// How it ended.
    pub end: ListEnd,
    /// How long ARM wants no call for this subscription, if it said so, now or before.
    pub throttled_for: Option<Duration>,
}

/// How a list ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEnd {
    /// It was read to its last page.
    Complete,
    /// A page could not be read: what is missing from the list may well exist.
    Stopped {
        /// Why.
        error: RemoteError,
        /// The wait ARM named.
        wait: Option<Duration>,
    },
}

impl ArmClient {
    /// All applications of a subscription that we may see.
    pub async fn list_applications(&self, subscription: &str) -> Listing {
        self.list(subscription, format!("/subscriptions/{subscription}/providers/Microsoft.Solutions/applications"))
            .await
    }

    /// All applications of a resource group that we may see.
    pub async fn list_applications_in_group(&self, subscription: &str, resource_group: &str) -> Listing {
        let group = percent_encoding::utf8_percent_encode(resource_group, percent_encoding::NON_ALPHANUMERIC);
        let path =
            format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Solutions/applications");
        self.list(subscription, path).await
    }

    async fn list(&self, subscription: &str, path: String) -> Listing {
        let mut listing =
            Listing { applications: Vec::new(), unreadable: 0, end: ListEnd::Complete, throttled_for: None };
        let first = format!("{path}?api-version={}", self.shared.api_version);
        let (end, throttled_for) = self
            .read_pages(subscription, first, |item| match Application::from_json(item.get().as_bytes()) {
                Ok(application) => listing.applications.push(application),
                Err(_) => listing.unreadable += 1,
            })
            .await;
        (listing.end, listing.throttled_for) = (end, throttled_for);
        listing
    }

    /// Reads a list of a subscription to its end, if it has one; and how long ARM wants no call for it.
    pub(super) async fn read_pages(
        &self,
        subscription: &str,
        first: String,
        mut take: impl FnMut(&RawValue),
    ) -> (ListEnd, Option<Duration>) {
        if !is_guid(subscription) {
            let message = "what was to be listed is not a subscription's id".to_owned();
            return (stopped("InvalidSubscription", message), None);
        }
        let subscription = subscription.to_ascii_lowercase();
        let (mut next, mut throttled_for) = (Some(first), None);
        let mut seen = HashSet::new();
        while let Some(link) = next {
            if seen.len() == MOST_PAGES {
                return (stopped("ListTooLong", format!("the list has more than {MOST_PAGES} pages")), throttled_for);
            }
            if seen.contains(&link) {
                let message = "a page names itself or one before it as the next".to_owned();
                return (stopped("ListLoops", message), throttled_for);
            }
            match self.read_page(&link, &subscription, &mut throttled_for, &mut take).await {
                Ok(further) => next = further,
                Err(end) => return (end, throttled_for),
            }
            seen.insert(link);
        }
        (ListEnd::Complete, throttled_for)
    }

    /// Reads one page of a list, wherever it is on the configured host; returns where the next one is.
    pub(super) async fn read_page(
        &self,
        link: &str,
        scope: &str,
        throttled: &mut Option<Duration>,
        take: &mut impl FnMut(&RawValue),
    ) -> Result<Option<String>, ListEnd> {
        let uri = self
            .shared
            .host
            .admit(link)
            .map_err(|why| ListEnd::Stopped { error: refused("NextLinkRefused", link, why), wait: None })?;
        let received = match self.call(Call::look(uri, scope), None).await {
            Outcome::Answered { received, throttled_for } => {
                *throttled = throttled_for;
                received
            }
            Outcome::Unanswered { error, wait, throttled_for } => {
                *throttled = throttled_for;
                return Err(ListEnd::Stopped { error, wait });
            }
        };
        let answer = self.answer(&received);
        if received.status != StatusCode::OK {
            return Err(ListEnd::Stopped { error: answer.error(), wait: answer.wait() });
        }
        let page = ListPage::from_json(&received.body)
            .ok_or_else(|| stopped("UnreadableBody", "a page of the list cannot be read".to_owned()))?;
        page.value.into_iter().for_each(take);
        Ok(page.next_link.filter(|link| !link.is_empty()))
    }
}

pub(super) fn stopped(code: &str, message: String) -> ListEnd {
    ListEnd::Stopped { error: RemoteError { status: None, code: code.to_owned(), message }, wait: None }
}

#[derive(Deserialize)]
struct ListPage<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
    #[serde(default, rename = "nextLink")]
    next_link: Option<String>,
}

impl<'a> ListPage<'a> {
    /// Serde takes an array for a struct, so that what is no object is refused first.
    fn from_json(text: &'a [u8]) -> Option<Self> {
        text.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(text).ok())?
    }
}
