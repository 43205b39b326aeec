//! Where a delegation is looked for: a subscription, or a resource group in one, parsed strictly before it is put into a URL.
//!
//! Knows no scope below a group: the one that holds an application is what a refresh is asked at.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::rollout::ApplicationId;
use crate::rollout::resource_id::is_guid;

/// A subscription, or a resource group in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    subscription: String,
    group: Option<String>,
}

/// A text that is no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a subscription's id, /subscriptions/{{id}}, /subscriptions/{{id}}/resourceGroups/{{name}}, or the id of a managed application"
)]
pub struct InvalidScope;

impl Scope {
    /// The scope of the resource group that an application is in.
    pub fn of_application(id: &ApplicationId) -> Self {
        Self { subscription: id.subscription().to_owned(), group: Some(id.resource_group().to_owned()) }
    }

    /// The subscription's id, in lower case.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// The scope of the subscription alone.
    pub fn of_subscription(&self) -> Self {
        Self { subscription: self.subscription.clone(), group: None }
    }

    /// Whether it is but a group.
    pub fn is_group(&self) -> bool {
        self.group.is_some()
    }

    /// Whether it is the group of this name.
    pub fn is_in_group(&self, group: &str) -> bool {
        self.group.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(group))
    }

    /// As a path of a URL.
    pub fn url_path(&self) -> String {
        let group =
            self.group.iter().map(|group| format!("/resourceGroups/{}", utf8_percent_encode(group, NON_ALPHANUMERIC)));
        format!("/subscriptions/{}", self.subscription) + &group.collect::<String>()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "/subscriptions/{}/resourceGroups/{group}", self.subscription),
            None => write!(f, "/subscriptions/{}", self.subscription),
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if is_guid(text) {
            return Ok(Self { subscription: text.to_ascii_lowercase(), group: None });
        }
        if let Ok(id) = text.parse::<ApplicationId>() {
            return Ok(Self::of_application(&id));
        }
        let trimmed = text.trim_matches('/');
        let (subscription, group) = match trimmed.split('/').collect::<Vec<_>>()[..] {
            [subscriptions, id] if subscriptions.eq_ignore_ascii_case("subscriptions") => (id, None),
            [subscriptions, id, groups, group]
                if subscriptions.eq_ignore_ascii_case("subscriptions")
                    && groups.eq_ignore_ascii_case("resourceGroups") =>
            {
                (id, Some(group))
            }
            _ => return Err(InvalidScope),
        };
        // An application in it is parsed more strictly than anything here could.
        let sample = format!(
            "/subscriptions/{subscription}/resourceGroups/{}/providers/Microsoft.Solutions/applications/sample",
            group.unwrap_or("sample")
        );
        sample.parse::<ApplicationId>().map_err(|_| InvalidScope)?;
        Ok(Self { subscription: subscription.to_ascii_lowercase(), group: group.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBSCRIPTION: &str = "7c0d9b8a-1111-4222-8333-444455556666";

    #[test]
    fn scopes_are_parsed_strictly() {
        let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg (1)");
        for (text, path) in [
            (SUBSCRIPTION.to_uppercase(), format!("/subscriptions/{SUBSCRIPTION}")),
            (format!("/Subscriptions/{SUBSCRIPTION}/"), format!("/subscriptions/{SUBSCRIPTION}")),
            (
                format!("subscriptions/{SUBSCRIPTION}/resourcegroups/größe"),
                format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/gr%C3%B6%C3%9Fe"),
            ),
            (
                format!(
                    "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger"
                ),
                format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"),
            ),
        ] {
            assert_eq!(text.parse::<Scope>().unwrap().url_path(), path);
        }
        for bad in [
            "",
            "x",
            "/subscriptions",
            "/subscriptions/x",
            &format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/.."),
            &group,
            &format!("{SUBSCRIPTION}?x=1"),
            &format!("https://management.azure.com/subscriptions/{SUBSCRIPTION}"),
        ] {
            assert_eq!(bad.parse::<Scope>(), Err(InvalidScope), "{bad}");
        }
    }
}
