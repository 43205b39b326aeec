//! ARM resource ids of managed applications, parsed strictly before they become part of a URL or a key.
//!
//! Refuses everything that is not exactly one application: no trailing action, no query, no other provider. ARM
//! compares ids without case (contracts/arm.md §1.3), so the [`DeploymentKey`] is taken from the lower-cased id.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What may stand unescaped in one segment of a path (RFC 3986 unreserved, and the parentheses Azure allows).
pub(crate) const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'(').remove(b')');

/// The ARM id of one managed application, in canonical spelling: segment names as ARM documents them, resource names as
/// they were given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApplicationId {
    subscription: String,
    resource_group: String,
    name: String,
}

/// Why a text is not the id of a managed application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the resource id of a managed application: {why}; expected /subscriptions/{{guid}}/resourceGroups/{{group}}/providers/Microsoft.Solutions/applications/{{name}}"
)]
pub struct InvalidApplicationId {
    why: &'static str,
}

impl ApplicationId {
    /// The id of the subscription, lower-case.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// The resource group that holds the application (not the managed one).
    pub fn resource_group(&self) -> &str {
        &self.resource_group
    }

    /// The name of the application.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key under which the deployment is stored: lower-case hex SHA-256 of the lower-cased id (design §8).
    pub fn key(&self) -> DeploymentKey {
        DeploymentKey(hex(&Sha256::digest(self.to_string().to_lowercase())))
    }

    /// The id as a path of a URL, every segment escaped.
    pub fn url_path(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Solutions/applications/{}",
            self.subscription,
            utf8_percent_encode(&self.resource_group, SEGMENT),
            utf8_percent_encode(&self.name, SEGMENT),
        )
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Solutions/applications/{}",
            self.subscription, self.resource_group, self.name
        )
    }
}

impl FromStr for ApplicationId {
    type Err = InvalidApplicationId;

    /// Parses an id in any case and with or without its leading slash (contracts/arm.md §3.1).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why| Err(InvalidApplicationId { why });
        let mut segments = text.strip_prefix('/').unwrap_or(text).split('/');
        let mut named = |name: &str| match segments.next() {
            Some(segment) if segment.eq_ignore_ascii_case(name) => segments.next(),
            _ => None,
        };
        let Some(subscription) = named("subscriptions") else {
            return refuse("it does not start with /subscriptions/{guid}");
        };
        let Some(resource_group) = named("resourceGroups") else {
            return refuse("no /resourceGroups/{group} after the subscription");
        };
        let Some(provider) = named("providers") else {
            return refuse("no /providers/Microsoft.Solutions after the resource group");
        };
        let Some(name) = named("applications") else {
            return refuse("no /applications/{name} after the provider");
        };
        if segments.next().is_some() {
            return refuse("something follows the application's name");
        }
        if !is_guid(subscription) {
            return refuse("the subscription is not a GUID");
        }
        if !provider.eq_ignore_ascii_case("Microsoft.Solutions") {
            return refuse("the provider is not Microsoft.Solutions");
        }
        if !is_resource_name(resource_group, 1, 90) {
            return refuse("the resource group's name is not 1 to 90 letters, digits, '.', '_', '-', '(' or ')'");
        }
        if !is_resource_name(name, 3, 64) {
            return refuse("the application's name is not 3 to 64 letters, digits, '.', '_', '-', '(' or ')'");
        }
        Ok(Self {
            subscription: subscription.to_ascii_lowercase(),
            resource_group: resource_group.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl TryFrom<String> for ApplicationId {
    type Error = InvalidApplicationId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ApplicationId> for String {
    fn from(id: ApplicationId) -> Self {
        id.to_string()
    }
}

/// The key of a deployment in store, queue and API: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentKey(String);

/// A text that is not 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a deployment key: expected the 64 lower-case hex digits of a SHA-256")]
pub struct InvalidDeploymentKey;

impl DeploymentKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeploymentKey {
    type Err = InvalidDeploymentKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits { Ok(Self(text.to_owned())) } else { Err(InvalidDeploymentKey) }
    }
}

impl TryFrom<String> for DeploymentKey {
    type Error = InvalidDeploymentKey;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeploymentKey> for String {
    fn from(key: DeploymentKey) -> Self {
        key.0
    }
}

/// The name of the resource group in the id of one, if it is one.
pub fn resource_group(id: &str) -> Option<&str> {
    let mut segments = id.strip_prefix('/').unwrap_or(id).split('/');
    let is_group = segments.next()?.eq_ignore_ascii_case("subscriptions")
        && is_guid(segments.next()?)
        && segments.next()?.eq_ignore_ascii_case("resourceGroups");
    segments.next().filter(|name| is_group && segments.next().is_none() && is_resource_name(name, 1, 90))
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// Whether `text` is a GUID in its 36-character form.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Azure's rule for names of groups and applications; a final dot is refused, so `.` and `..` never pass.
fn is_resource_name(text: &str, at_least: usize, at_most: usize) -> bool {
    let length = text.chars().count();
    (at_least..=at_most).contains(&length)
        && !text.ends_with('.')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '(' | ')'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg-Apps/providers/Microsoft.Solutions/applications/ledger-prod";

    #[test]
    fn case_and_leading_slash_do_not_make_another_deployment() {
        let id: ApplicationId = ID.parse().unwrap();
        let odd: ApplicationId = ID[1..].replace("resourceGroups", "resourcegroups").to_uppercase().parse().unwrap();
        assert_eq!(id.key(), odd.key());
        assert_eq!(id.to_string(), ID);
        assert_eq!(id.url_path(), ID);
        assert_eq!(id.key().as_str().parse::<DeploymentKey>().unwrap(), id.key());
    }

    #[test]
    fn names_outside_ascii_are_escaped_in_the_url() {
        let id: ApplicationId = ID.replace("rg-Apps", "rg-größe").parse().unwrap();
        assert!(id.url_path().contains("/resourceGroups/rg-gr%C3%B6%C3%9Fe/"));
    }

    #[test]
    fn whatever_is_not_exactly_one_application_is_refused() {
        for bad in [
            "",
            "/",
            &ID.replace("a1000000", "a100000"),
            &ID.replace("a1000000-0000", "a1000000_0000"),
            &ID.replace("rg-Apps", ""),
            &ID.replace("rg-Apps", ".."),
            &ID.replace("rg-Apps", "a%2f"),
            &ID.replace("rg-Apps", "a?b"),
            &ID.replace("rg-Apps", &"g".repeat(91)),
            &ID.replace("Solutions", "Compute"),
            &ID.replace("ledger-prod", "ab"),
            &ID.replace("ledger-prod", &"n".repeat(65)),
            &ID.replace("applications", "applicationDefinitions"),
            &format!("{ID}/"),
            &format!("{ID}/refreshPermissions"),
            &format!("{ID}?x=1"),
            &format!("{ID}#x"),
            &format!(" {ID}"),
            &format!("/{ID}"),
            &format!("https://management.azure.com{ID}"),
        ] {
            assert!(bad.parse::<ApplicationId>().is_err(), "{bad:?} was accepted");
        }
        for good in [ID.replace("rg-Apps", &"g".repeat(90)), ID.replace("ledger-prod", &"n".repeat(64))] {
            assert!(good.parse::<ApplicationId>().is_ok(), "{good:?} was refused");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<ApplicationId>();
            let _ = text.parse::<DeploymentKey>();
        }

        #[test]
        fn what_is_parsed_prints_to_something_that_parses_to_the_same(
            group in "[A-Za-z0-9_()-]{1,90}", name in "[A-Za-z0-9-]{3,64}"
        ) {
            let text = ID.replace("rg-Apps", &group).replace("ledger-prod", &name);
            let id: ApplicationId = text.parse().unwrap();
            prop_assert_eq!(id.to_string().parse::<ApplicationId>().unwrap(), id);
        }
    }
}
