//! What holds for one authorization: its principal, its role, its name (L04 to L08, L19, L21, L22).

use super::{Judge, guid, no_guid};
use crate::lighthouse::delegation::entries;
use crate::lighthouse::node::{List, Node, Text};
use crate::lighthouse::principal::PrincipalKind;
use crate::lighthouse::role::{LIST_OF, OWNER, USER_ACCESS_ADMINISTRATOR};

/// One authorization, active or eligible.
pub(super) struct Entry<'a> {
    pub(super) node: Node<'a>,
    pub(super) principal: Node<'a>,
    pub(super) name: Node<'a>,
    pub(super) role: Node<'a>,
    pub(super) delegated: Node<'a>,
    pub(super) policy: Node<'a>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(node: Node<'a>) -> Self {
        Self {
            principal: node.member("principalId"),
            name: node.member("principalIdDisplayName"),
            role: node.member("roleDefinitionId"),
            delegated: node.member("delegatedRoleDefinitionIds"),
            policy: node.member("justInTimeAccessPolicy"),
            node,
        }
    }

    pub(super) fn role_id(&self) -> Option<String> {
        guid(self.role.text())
    }

    pub(super) fn principal_id(&self) -> Option<String> {
        guid(self.principal.text())
    }

    pub(super) fn approvers(&self) -> Node<'a> {
        self.policy.member("managedByTenantApprovers")
    }

    /// Everybody it names.
    pub(super) fn principals(&self) -> Vec<String> {
        let approvers = entries(&self.approvers());
        let approvers = approvers.iter().filter_map(|approver| guid(approver.member("principalId").text()));
        self.principal_id().into_iter().chain(approvers).collect()
    }
}

/// What a principal is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Active,
    Eligible,
    Approver,
}

impl Judge<'_> {
    pub(super) fn active_entry(&mut self, entry: &Entry<'_>) {
        if entry.node.is_computed() {
            return self.unknown(&entry.node, "this authorization");
        }
        if entry.node.object().is_none() {
            return self.error(
                "L03",
                &entry.node,
                "this authorization is not an object",
                "give principalId and roleDefinitionId",
            );
        }
        self.principal(&entry.principal, Part::Active);
        self.role(&entry.role, Part::Active);
        self.delegated_roles(entry);
        if is_blank(entry.name.text()) {
            self.warn(
                "L19",
                &entry.name,
                "this authorization has no principalIdDisplayName, so the customer sees an id and no name",
                "give a name that tells the customer who it is",
            );
        }
    }

    /// Whoever may be named: an id, and of the right kind.
    pub(super) fn principal(&mut self, node: &Node<'_>, part: Part) {
        let rule = match part {
            Part::Active => "L22",
            Part::Eligible => "L10",
            Part::Approver => "L14",
        };
        if let Some(why) = no_guid(node.text()) {
            let fix =
                "give the object id of a user, a security group, or (for active authorizations) a service principal";
            return self.error(rule, node, format!("principalId {why}"), fix);
        }
        let Some(id) = guid(node.text()) else { return };
        let is_ours = self.context.principal.as_ref().is_some_and(|ours| ours.eq_ignore_ascii_case(&id));
        let known = self
            .context
            .principals
            .as_ref()
            .map(|principals| (principals.kind(&id), principals.of_client(&id).map(str::to_owned)));
        let kind = match known {
            Some((Some(kind), _)) => kind,
            Some((None, Some(right))) => {
                return self.error(
                    "L22",
                    node,
                    "principalId is a client id (application id)",
                    format!("give the object id of its service principal, {right}"),
                );
            }
            Some((None, None)) if !is_ours => {
                return self.warn(
                    "L22",
                    node,
                    "Graph does not know this principal in the tenant that was asked",
                    "give an object id of the publisher's tenant",
                );
            }
            Some((None, None)) | None if is_ours => PrincipalKind::ServicePrincipal,
            Some((None, None)) | None => return,
        };
        self.kind(node, part, kind);
    }

    fn kind(&mut self, node: &Node<'_>, part: Part, kind: PrincipalKind) {
        match (kind, part) {
            (PrincipalKind::ServicePrincipal, Part::Eligible) => self.error(
                "L10",
                node,
                "a service principal cannot be eligible: it has no way to elevate itself",
                "give it an active authorization with a narrow role, and make a user or a group eligible",
            ),
            (PrincipalKind::ServicePrincipal, Part::Approver) => self.error(
                "L15",
                node,
                "a service principal cannot approve",
                "name users or groups of people",
            ),
            (PrincipalKind::OtherGroup, _) => self.error(
                "L21",
                node,
                "this group is not a security group",
                "name a security group, or make this one security-enabled",
            ),
            (PrincipalKind::Registration, _) => self.error(
                "L22",
                node,
                "principalId is the object id of an app registration; Azure answers that it wants a principal of type Application",
                "give the object id of its service principal (`az ad sp show --id CLIENT_ID --query id`)",
            ),
            (PrincipalKind::Other, _) => self.warn(
                "L22",
                node,
                "Graph does not say that this is a user, a group or a service principal",
                "look it up again, with its @odata.type",
            ),
            (PrincipalKind::User | PrincipalKind::SecurityGroup | PrincipalKind::ServicePrincipal, _) => {}
        }
    }

    /// Whether a role can be delegated at all.
    pub(super) fn role(&mut self, node: &Node<'_>, part: Part) {
        if node.is_computed() {
            return self.unknown(node, "this role");
        }
        if let Some(why) = no_guid(node.text()) {
            let fix = "give the bare GUID of a built-in role, without the path before it";
            return self.error("L04", node, format!("roleDefinitionId {why}"), fix);
        }
        let Some(id) = guid(node.text()) else { return };
        match id.as_str() {
            OWNER => {
                return self.error(
                    "L05",
                    node,
                    "Owner cannot be delegated",
                    "give the narrowest role that does, or Contributor",
                );
            }
            USER_ACCESS_ADMINISTRATOR => {
                if part == Part::Eligible {
                    self.error(
                        "L09",
                        node,
                        "User Access Administrator cannot be eligible",
                        "leave it out, or choose another role",
                    );
                }
                return;
            }
            _ => {}
        }
        let Some(role) = self.context.roles.get(&id) else {
            if self.context.roles.is_complete() {
                self.error("L04", node, format!("{id} is none of the roles that were listed"), "give a built-in role");
            } else {
                self.warn(
                    "L04",
                    node,
                    format!("{id} is none of the built-in roles of {LIST_OF}; Azure refuses custom roles"),
                    "see that it is a built-in role, or give --roles FILE from `az role definition list`",
                );
            }
            return;
        };
        if !role.built_in {
            self.error(
                "L04",
                node,
                format!("{} is a custom role", role.name),
                "give a built-in role: Azure refuses others",
            );
        }
        if role.traits.data {
            self.error(
                "L06",
                node,
                format!("{} has actions on data (DataActions)", role.name),
                "give a role without them",
            );
        }
        if role.traits.grants_access {
            self.error(
                "L07",
                node,
                format!("{} may change access or locks (Microsoft.Authorization)", role.name),
                "give a role that may not",
            );
        }
    }

    /// User Access Administrator needs a list of what it may give; nobody else may have one.
    fn delegated_roles(&mut self, entry: &Entry<'_>) {
        let Some(role) = entry.role_id() else { return };
        let is_administrator = role == USER_ACCESS_ADMINISTRATOR;
        let roles = match entry.delegated.list() {
            List::Computed => return,
            List::Wrong => {
                let fix = "list the bare GUIDs of built-in roles, or leave it out";
                return self.error("L08", &entry.delegated, "delegatedRoleDefinitionIds are not a list", fix);
            }
            List::Absent => Vec::new(),
            List::Of(roles) => roles,
        };
        match (is_administrator, roles.is_empty()) {
            (true, true) => self.error(
                "L08",
                &entry.delegated,
                "User Access Administrator without delegatedRoleDefinitionIds",
                "list the roles that it may give to managed identities, or leave the authorization out",
            ),
            (false, false) => self.error(
                "L08",
                &entry.delegated,
                "delegatedRoleDefinitionIds belong to User Access Administrator only",
                "leave them out",
            ),
            (true, false) | (false, true) => {}
        }
        for role in roles.iter().filter(|_| is_administrator) {
            if let Some(why) = no_guid(role.text()) {
                self.error("L04", role, format!("this role {why}"), "give the bare GUID of a built-in role");
            } else if guid(role.text()).is_some_and(|id| id == OWNER) {
                self.error("L05", role, "Owner cannot be given by way of a delegation", "leave it out");
            } else if guid(role.text()).is_some_and(|id| id == USER_ACCESS_ADMINISTRATOR) {
                self.error(
                    "L08",
                    role,
                    "User Access Administrator cannot be given by way of a delegation",
                    "leave it out",
                );
            }
        }
    }
}

/// Whether a name says nothing; what cannot be known is taken for a name.
pub(super) fn is_blank(text: Text<'_>) -> bool {
    match text {
        Text::Absent | Text::Wrong => true,
        Text::Is(text) => text.trim().is_empty(),
        Text::Computed => false,
    }
}
