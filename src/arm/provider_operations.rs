//! The operations of one resource provider, for the lint of allowed actions (contracts/offer-publish.md §3.6).
//!
//! Reads leniently, and says "not known" of whatever is not surely whole: a lint must not reject what it has not seen.

use http::StatusCode;
use serde::Deserialize;

use super::call::{Call, Outcome};
use super::client::{ArmClient, refused};
use crate::rollout::RemoteError;
use crate::rollout::lint::{Operation, Provider};

const API_VERSION: &str = "2022-04-01";
/// What these calls are held back together by: they belong to no subscription.
const SCOPE: &str = "provider-operations";

impl ArmClient {
    /// The operations of the provider with this namespace.
    pub async fn provider_operations(&self, namespace: &str) -> Provider {
        let unread = |error: RemoteError| Provider::Unread { why: format!("{}: {}", error.code, error.message) };
        if namespace.is_empty() || !namespace.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
            return Provider::Unknown;
        }
        let target = format!(
            "/providers/Microsoft.Authorization/providerOperations/{namespace}?api-version={API_VERSION}&$expand=resourceTypes"
        );
        let uri = match self.shared.host.at(&target) {
            Ok(uri) => uri,
            Err(why) => return unread(refused("UrlRefused", &target, why)),
        };
        match self.call(Call::look(uri, SCOPE), None).await {
            Outcome::Answered { received, .. } if received.status == StatusCode::OK => {
                read(&received.body).unwrap_or_else(|why| Provider::Unread { why: why.to_owned() })
            }
            Outcome::Answered { received, .. } if received.status == StatusCode::NOT_FOUND => Provider::Unknown,
            Outcome::Answered { received, .. } => unread(self.answer(&received).error()),
            Outcome::Unanswered { error, .. } => unread(error),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    operations: Option<Vec<Item>>,
    resource_types: Option<Vec<ResourceType>>,
}

#[derive(Deserialize)]
struct ResourceType {
    operations: Option<Vec<Item>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: Option<String>,
    is_data_action: Option<bool>,
}

fn read(body: &[u8]) -> Result<Provider, &'static str> {
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let body: Option<Body> = is_object.then(|| serde_json::from_slice(body).ok()).flatten();
    let body = body.ok_or("the answer cannot be read")?;
    let types = body.resource_types.ok_or("the answer leaves the resource types out")?;
    let items = body.operations.into_iter().chain(types.into_iter().filter_map(|of_type| of_type.operations)).flatten();
    let operations: Vec<Operation> = items
        .filter_map(|item| Some(Operation { name: item.name?, is_data: item.is_data_action.unwrap_or_default() }))
        .collect();
    if operations.is_empty() { Err("the answer names no operation") } else { Ok(Provider::Known(operations)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_the_provider_and_of_its_types_are_read_together() {
        let body =
            br#"{"id": "x", "operations": [{"name": "M.K/register/action", "isDataAction": false}, {"origin": 7}],
            "resourceTypes": [{"name": "v", "operations": [{"name": "M.K/v/get/action", "isDataAction": true}]},
                              {"name": "w", "operations": null}, {"name": "y"}]}"#;
        let operation = |name: &str, is_data| Operation { name: name.to_owned(), is_data };
        let expected = vec![operation("M.K/register/action", false), operation("M.K/v/get/action", true)];
        assert_eq!(read(body).unwrap(), Provider::Known(expected));
    }

    #[test]
    fn what_is_not_whole_is_not_known() {
        for body in [
            "",
            "<html>",
            "[]",
            "null",
            r#"{"operations": [{"name": "a.b/c"}]}"#,
            r#"{"resourceTypes": []}"#,
            r#"{"resourceTypes": [{"operations": [{"name": "a.b/c"}]"#,
            r#"{"resourceTypes": [{"operations": [{"name": 7}]}]}"#,
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
