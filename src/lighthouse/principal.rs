//! What Microsoft Graph says of principals: user, group, service principal, or something that is none.
//!
//! Reads the answer of `directoryObjects/getByIds` that somebody saved; it asks nobody.

use std::collections::HashMap;

use serde::Deserialize;

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A person, or an account like one.
    User,
    /// A group that can be given access.
    SecurityGroup,
    /// A group that cannot.
    OtherGroup,
    /// An application's or a managed identity's account.
    ServicePrincipal,
    /// An app registration, which is no principal.
    Registration,
    /// Something else.
    Other,
}

/// Everything that was said, by lower-cased id.
#[derive(Clone, Debug, Default)]
pub struct Principals {
    kinds: HashMap<String, PrincipalKind>,
    /// The service principal of each client id.
    by_client: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DirectoryObject {
    id: String,
    #[serde(default, rename = "@odata.type")]
    kind: String,
    #[serde(default)]
    app_id: Option<String>,
    #[serde(default)]
    security_enabled: Option<bool>,
}

impl Principals {
    /// Reads the answer, or its bare list.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a list of directory objects")]
        enum List {
            Page { value: Vec<DirectoryObject> },
            Bare(Vec<DirectoryObject>),
        }
        let (List::Page { value: objects } | List::Bare(objects)) = serde_json::from_str(text)?;
        let mut principals = Self::default();
        for object in objects {
            let kind = match object.kind.rsplit('.').next().unwrap_or_default() {
                "user" => PrincipalKind::User,
                // Only a clear no counts: the member may not have been asked for.
                "group" if object.security_enabled == Some(false) => PrincipalKind::OtherGroup,
                "group" => PrincipalKind::SecurityGroup,
                "servicePrincipal" => PrincipalKind::ServicePrincipal,
                "application" => PrincipalKind::Registration,
                _ => PrincipalKind::Other,
            };
            let id = object.id.to_ascii_lowercase();
            if let (PrincipalKind::ServicePrincipal, Some(client)) = (kind, object.app_id) {
                principals.by_client.insert(client.to_ascii_lowercase(), id.clone());
            }
            principals.kinds.insert(id, kind);
        }
        Ok(principals)
    }

    /// What a principal is, if it was mentioned.
    pub fn kind(&self, id: &str) -> Option<PrincipalKind> {
        self.kinds.get(&id.to_ascii_lowercase()).copied()
    }

    /// The service principal with this client id.
    pub fn of_client(&self, client: &str) -> Option<&str> {
        self.by_client.get(&client.to_ascii_lowercase()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_what_graph_says_and_client_ids_lead_to_them() {
        let text = r##"{"@odata.context": "x", "value": [
            {"@odata.type": "#microsoft.graph.user", "id": "A1"},
            {"@odata.type": "#microsoft.graph.group", "id": "b", "securityEnabled": true},
            {"@odata.type": "#microsoft.graph.group", "id": "c", "securityEnabled": false},
            {"@odata.type": "#microsoft.graph.servicePrincipal", "id": "d", "appId": "DD", "unknown": {}},
            {"@odata.type": "#microsoft.graph.application", "id": "e", "appId": "DD"},
            {"id": "f"}]}"##;
        let principals = Principals::from_json(text).unwrap();
        for (id, kind) in [
            ("a1", Some(PrincipalKind::User)),
            ("B", Some(PrincipalKind::SecurityGroup)),
            ("c", Some(PrincipalKind::OtherGroup)),
            ("d", Some(PrincipalKind::ServicePrincipal)),
            ("e", Some(PrincipalKind::Registration)),
            ("f", Some(PrincipalKind::Other)),
            ("g", None),
        ] {
            assert_eq!(principals.kind(id), kind, "{id}");
        }
        assert_eq!(principals.of_client("dd"), Some("d"));
        assert!(Principals::from_json("[]").unwrap().kind("a").is_none());
        for bad in ["", "{}", "[{}]", "7"] {
            assert!(Principals::from_json(bad).is_err(), "{bad}");
        }
    }
}
