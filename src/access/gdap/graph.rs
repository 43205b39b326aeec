//! Microsoft Graph for GDAP: relationships and their access assignments in the partner's tenant, service principals in the
//! customer's (contracts/access.md §2.6–2.8).
//!
//! Follows next pages on the configured host only, and only so many. Deletes nothing.

use std::collections::BTreeMap;

use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use super::link::at;
use super::relationship::{self, AccessDetails, Relationship, Status, Wish};
use super::scopes::{Grant, Offered, Required};
use super::trouble::GdapError;
use super::wire::{self, NoAnswer};
use super::{Gdap, wire::Received};

const SERVICE: &str = "Microsoft Graph";
/// The most pages of one list that are read; a partner with 300,000 relationships has them all.
const MOST_PAGES: usize = 1_000;
const RELATIONSHIPS: &str = "v1.0/tenantRelationships/delegatedAdminRelationships";

#[derive(Deserialize)]
struct Page<T> {
    value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
}

/// Roles given to a group within a relationship.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Assignment {
    /// Its id.
    pub id: String,
    /// pending, active, deleting, deleted, error, or a newer word.
    pub status: String,
    /// Who has it.
    #[serde(default, rename = "accessContainer", skip_serializing)]
    container: Option<Container>,
    #[serde(default, rename = "accessDetails", skip_serializing)]
    details: Option<AccessDetails>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    access_container_id: String,
}

impl Assignment {
    /// Whether it is one of `group`, and not on its way out.
    fn is_of(&self, group: &str) -> bool {
        let is_over = ["deleting", "deleted", "error"].iter().any(|word| self.status.eq_ignore_ascii_case(word));
        !is_over && self.container.as_ref().is_some_and(|of| of.access_container_id.eq_ignore_ascii_case(group))
    }

    fn has(&self, roles: &[String]) -> bool {
        self.details.as_ref().is_some_and(|of| roles.iter().all(|role| of.has(role)))
    }
}

impl Gdap {
    /// Those of `grants` whose resource has no service principal in `tenant`.
    pub async fn missing_service_principals(&self, tenant: &str, grants: &[Grant]) -> Result<Vec<String>, GdapError> {
        let mut missing = Vec::new();
        for grant in grants {
            let app = &grant.enterprise_application_id;
            let found: Vec<Value> = self.of_app(tenant, "servicePrincipals", app, "id,appId,appDisplayName").await?;
            if found.is_empty() {
                missing.push(app.clone());
            }
        }
        Ok(missing)
    }

    /// What our registration asks for, and what the resources offer (contracts/access.md §2.6).
    pub async fn permissions(&self) -> Result<(Required, BTreeMap<String, Vec<Offered>>), GdapError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Scopes {
            #[serde(default)]
            oauth2_permission_scopes: Vec<Offered>,
        }
        let home = &self.config.partner_tenant;
        let client_id = &self.broker.endpoint().client_id;
        let found: Vec<Required> = self.of_app(home, "applications", client_id, "requiredResourceAccess").await?;
        let Some(required) = found.into_iter().next() else {
            let why = "the partner's tenant (AZURE_TENANT_ID) has no app registration GDAP_CLIENT_ID".to_owned();
            return Err(GdapError::Misconfigured { why });
        };
        let mut offered = BTreeMap::new();
        for resource in &required.required_resource_access {
            let app = resource.resource_app_id.to_ascii_lowercase();
            if uuid::Uuid::try_parse(&app).is_err() {
                continue;
            }
            let found: Vec<Scopes> = self.of_app(home, "servicePrincipals", &app, "oauth2PermissionScopes").await?;
            if let Some(scopes) = found.into_iter().next() {
                offered.insert(app, scopes.oauth2_permission_scopes);
            }
        }
        Ok((required, offered))
    }

    /// Every relationship of the partner.
    pub async fn relationships(&self) -> Result<Vec<Relationship>, GdapError> {
        self.list(&self.config.partner_tenant, self.graph(RELATIONSHIPS)).await
    }

    /// One relationship; `None` if there is none of this id.
    pub async fn relationship(&self, id: &str) -> Result<Option<Relationship>, GdapError> {
        let received = self.call(&self.config.partner_tenant, Method::GET, self.one(id, ""), None).await?;
        match received.status.as_u16() {
            404 => Ok(None),
            _ => self.taken(&received, &self.config.partner_tenant).map(Some),
        }
    }

    /// Makes one; the customer has not heard of it yet. Where one of this name is there already, as after an answer that was
    /// lost, it is that one, if it is what is wished for.
    pub async fn create_relationship(&self, wish: &Wish) -> Result<Relationship, GdapError> {
        let url = self.graph(RELATIONSHIPS);
        let received = self.call(&self.config.partner_tenant, Method::POST, url, Some(wish.body())).await?;
        if received.status != http::StatusCode::CONFLICT {
            return self.taken(&received, &self.config.partner_tenant);
        }
        let named: Vec<_> = self.relationships().await?.into_iter().filter(|known| wish.names(known)).collect();
        if let Some(known) = named.iter().find(|known| wish.is(known)) {
            return Ok(known.clone());
        }
        let why = match named.first() {
            Some(known) => {
                let status = String::from(known.status.clone());
                format!(
                    "relationship {} has this name and is {status}, {}: give another name",
                    known.id,
                    wish.differs(known)
                )
            }
            None => {
                "Graph answered 409 to a new relationship, and shows none of this name: wait a few minutes".to_owned()
            }
        };
        Err(GdapError::InTheWay { why })
    }

    /// Offers one to its customer: from now on it is as it is. Where it stands then; one that was offered before stays where it
    /// was.
    pub async fn lock_for_approval(&self, id: &str) -> Result<Status, GdapError> {
        self.request(id, "lockForApproval", Status::ApprovalPending).await
    }

    /// Ends one. Where it stands then; one that cannot be ended stays where it was.
    pub async fn terminate(&self, id: &str) -> Result<Status, GdapError> {
        self.request(id, "terminate", Status::Terminating).await
    }

    /// Gives `roles` of a relationship in force to the members of a security group. Where the group has them already, it is that
    /// assignment.
    pub async fn assign(&self, id: &str, group: &str, roles: &[String]) -> Result<Assignment, GdapError> {
        let body = relationship::assignment(group, roles);
        let home = &self.config.partner_tenant;
        let received = self.call(home, Method::POST, self.one(id, "/accessAssignments"), Some(body)).await?;
        if received.status != http::StatusCode::CONFLICT {
            return self.taken(&received, home);
        }
        let known: Vec<_> = self.assignments(id).await?.into_iter().filter(|known| known.is_of(group)).collect();
        if let Some(known) = known.iter().find(|known| known.has(roles)) {
            return Ok(known.clone());
        }
        let why = match known.first() {
            Some(known) => format!(
                "the group has assignment {} of this relationship, with other roles ({}): change it in Partner Center",
                known.id, known.status
            ),
            None => "Graph answered 409 to the assignment: see whether the relationship is active, and try again in a few minutes"
                .to_owned(),
        };
        Err(GdapError::InTheWay { why })
    }

    /// The assignments of a relationship.
    pub async fn assignments(&self, id: &str) -> Result<Vec<Assignment>, GdapError> {
        self.list(&self.config.partner_tenant, self.one(id, "/accessAssignments")).await
    }

    async fn request(&self, id: &str, action: &str, then: Status) -> Result<Status, GdapError> {
        let home = &self.config.partner_tenant;
        let body = Some(json!({"action": action}));
        let received = self.call(home, Method::POST, self.one(id, "/requests"), body).await?;
        if received.status == http::StatusCode::CONFLICT {
            // It does not stand where that could be asked: as a rule since it was asked before, and the answer was lost.
            let why = "Graph answered 409: another request for the relationship is being worked on".to_owned();
            return match self.relationship(id).await? {
                Some(known) if known.status != Status::Created => Ok(known.status),
                _ => Err(GdapError::Retry { why, wait: None }),
            };
        }
        let _: Value = self.taken(&received, home)?;
        Ok(then)
    }

    fn graph(&self, path: &str) -> Url {
        at(&self.config.graph_endpoint, path)
    }

    fn one(&self, id: &str, behind: &str) -> Url {
        let id = utf8_percent_encode(id, NON_ALPHANUMERIC).to_string().replace("%2D", "-");
        self.graph(&format!("{RELATIONSHIPS}/{id}{behind}"))
    }

    async fn of_app<T: DeserializeOwned>(
        &self,
        tenant: &str,
        kind: &str,
        app: &str,
        select: &str,
    ) -> Result<Vec<T>, GdapError> {
        let mut url = self.graph(&format!("v1.0/{kind}"));
        url.query_pairs_mut().append_pair("$filter", &format!("appId eq '{app}'")).append_pair("$select", select);
        self.list(tenant, url).await
    }

    async fn list<T: DeserializeOwned>(&self, tenant: &str, first: Url) -> Result<Vec<T>, GdapError> {
        let mut items = Vec::new();
        let mut next = Some(first);
        for _ in 0..MOST_PAGES {
            let Some(url) = next else { return Ok(items) };
            let received = self.call(tenant, Method::GET, url, None).await?;
            let page: Page<T> = self.taken(&received, tenant)?;
            items.extend(page.value);
            next = match page.next {
                None => None,
                Some(link) => match Url::parse(&link) {
                    Ok(url) if wire::is_same_origin(&url, &self.config.graph_endpoint) => Some(url),
                    _ => {
                        let why = "Graph's next page is not on GRAPH_ENDPOINT, and no token goes elsewhere".to_owned();
                        return Err(GdapError::Retry { why, wait: None });
                    }
                },
            };
        }
        Err(GdapError::Retry { why: format!("Graph's list has more than {MOST_PAGES} pages"), wait: None })
    }

    async fn call(&self, tenant: &str, method: Method, url: Url, body: Option<Value>) -> Result<Received, GdapError> {
        let scope = self.graph_scope();
        let mut token = self.broker.token(tenant, &scope).await?;
        let mut renewed = false;
        loop {
            let mut request = self.http.request(method.clone(), url.clone());
            request = request.header(AUTHORIZATION, token.authorization()).header(ACCEPT, "application/json");
            if let Some(body) = &body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
            }
            let received = wire::send(SERVICE, request).await?;
            if received.status != http::StatusCode::UNAUTHORIZED || renewed {
                return Ok(received);
            }
            token = self.broker.fresh(tenant, &scope, &token).await?;
            renewed = true;
        }
    }

    fn taken<T: DeserializeOwned>(&self, received: &Received, tenant: &str) -> Result<T, GdapError> {
        let status = received.status.as_u16();
        let why = format!("Graph answered {status}");
        let at_home = tenant == self.config.partner_tenant;
        match status {
            200..=299 if received.body.is_empty() => {
                serde_json::from_str("null").map_err(|_| NoAnswer::Unreadable { service: SERVICE, status }.into())
            }
            200..=299 => Ok(received.json(SERVICE)?),
            401 | 403 if at_home => Err(GdapError::Misconfigured {
                why: format!(
                    "{why}: the app needs the delegated permission DelegatedAdminRelationship.ReadWrite.All (and Application.Read.All to read permissions), and the user a role that may use it"
                ),
            }),
            401 | 403 => Err(GdapError::NeedsAdministrator { tenant_id: tenant.to_owned(), why }),
            408 | 429 | 500.. => Err(GdapError::Retry { why, wait: received.wait(self.broker.endpoint().clock.now()) }),
            300..=399 => Err(GdapError::Retry { why, wait: None }),
            _ => Err(GdapError::Misconfigured { why: format!("{why}{}", code(&received.body)) }),
        }
    }
}

/// Graph's error code, which is one word.
fn code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let word = body["error"]["code"].as_str().unwrap_or_default();
    let is_word =
        !word.is_empty() && word.len() <= 60 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_word { format!(" {word}") } else { String::new() }
}
