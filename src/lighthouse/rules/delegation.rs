//! What holds for a delegation as a whole: tenant, name, what it lacks (L01 to L03, L20, L23 to L25).

use super::entry::Entry;
use super::{Cloud, Judge, guid, no_guid};
use crate::lighthouse::delegation::Delegation;
use crate::lighthouse::node::{List, Node, Text};
use crate::lighthouse::role::{APPLICATION_OPERATOR, REGISTRATION_DELETE};

impl Judge<'_> {
    pub(super) fn delegation(&mut self, delegation: &Delegation<'_>) {
        self.tenant(&delegation.tenant);
        self.offer(&delegation.offer);
        let active = self.active(&delegation.active);
        let eligible = self.eligible(&delegation.eligible, active.as_deref());
        self.clouds(delegation, !eligible.is_empty());
        if !eligible.is_empty() && !self.context.licensed {
            self.warn(
                "L24",
                &delegation.eligible,
                "eligible authorizations need licences of Microsoft Entra ID Governance or P2 in the publisher's tenant",
                "see that there are some, and say so with --licensed",
            );
        }
        let ids: Vec<_> = active.iter().flatten().chain(&eligible).flat_map(Entry::principals).collect();
        if self.context.principals.is_none() && !ids.is_empty() {
            self.unasked(&delegation.whole, ids);
        }
    }

    fn tenant(&mut self, tenant: &Node<'_>) {
        if tenant.is_computed() {
            return self.unknown(tenant, "the managing tenant");
        }
        if let Some(why) = no_guid(tenant.text()) {
            self.error("L01", tenant, format!("managedByTenantId {why}"), "give the id of the publisher's own tenant");
        } else if guid(tenant.text()) == self.context.customer_tenant.as_ref().map(|id| id.to_ascii_lowercase()) {
            self.error(
                "L01",
                tenant,
                "managedByTenantId is the customer's own tenant",
                "give the id of the publisher's tenant: nothing can be delegated within one tenant",
            );
        }
    }

    fn offer(&mut self, offer: &Node<'_>) {
        const FIX: &str =
            "give each offer a name of its own; deploying the same name again replaces its authorizations";
        match offer.text() {
            Text::Computed => self.unknown(offer, "the offer's name"),
            Text::Absent => self.error("L02", offer, "the offer has no name", FIX),
            Text::Wrong => self.error("L02", offer, "the offer's name is not a text", FIX),
            Text::Is(name) if name.trim().is_empty() => self.error("L02", offer, "the offer's name is empty", FIX),
            Text::Is(_) => {}
        }
    }

    /// The active entries; `None` where they are not known.
    fn active<'a>(&mut self, node: &Node<'a>) -> Option<Vec<Entry<'a>>> {
        const FIX: &str =
            "list at least one principal with a role; permanent access is what an unattended refresh needs";
        let entries = match node.list() {
            List::Computed => {
                self.unknown(node, "the list of authorizations");
                return None;
            }
            List::Absent => {
                self.error("L03", node, "authorizations are missing", FIX);
                return Some(Vec::new());
            }
            List::Wrong => {
                self.error("L03", node, "authorizations are not a list", FIX);
                return Some(Vec::new());
            }
            List::Of(entries) => entries,
        };
        if entries.is_empty() {
            self.error("L03", node, "authorizations are empty", FIX);
            return Some(Vec::new());
        }
        let entries: Vec<Entry<'a>> = entries.into_iter().map(Entry::new).collect();
        entries.iter().for_each(|entry| self.active_entry(entry));
        if entries.iter().all(|entry| !entry.node.is_computed() && entry.role.text() != Text::Computed) {
            self.offboarding(node, &entries);
            self.covers_refresh(node, &entries);
        }
        Some(entries)
    }

    fn offboarding(&mut self, node: &Node<'_>, entries: &[Entry<'_>]) {
        if !entries.iter().any(|entry| entry.role_id().as_deref() == Some(REGISTRATION_DELETE)) {
            self.warn(
                "L23",
                node,
                "nobody has the Managed Services Registration Assignment Delete Role, so the publisher cannot end this delegation",
                format!("add an authorization with role {REGISTRATION_DELETE}"),
            );
        }
    }

    fn covers_refresh(&mut self, node: &Node<'_>, entries: &[Entry<'_>]) {
        let fix = format!("add an authorization with the Managed Application Operator Role, {APPLICATION_OPERATOR}");
        let context = self.context;
        let covers = |entry: &Entry<'_>| {
            entry.role_id().and_then(|id| context.roles.get(&id)).is_some_and(|role| role.traits.refreshes)
        };
        match &context.principal {
            Some(principal) => {
                let is_ours =
                    |entry: &&Entry<'_>| entry.principal_id().is_some_and(|id| id.eq_ignore_ascii_case(principal));
                // Who is named only at deployment may be it.
                let may_be_ours = |entry: &&Entry<'_>| entry.principal.text() == Text::Computed && covers(entry);
                if entries.iter().filter(is_ours).any(covers) {
                    return;
                }
                if let Some(entry) = entries.iter().find(may_be_ours) {
                    return self.unknown(&entry.principal, "who gets the role of the refresh");
                }
                let message = format!("the principal {principal} has no active role that covers refreshPermissions");
                self.error("L25", node, message, format!("{fix}, for it"));
            }
            None if !entries.iter().any(covers) => {
                self.warn("L25", node, "no active authorization covers refreshPermissions", fix);
            }
            None => {}
        }
    }

    fn clouds(&mut self, delegation: &Delegation<'_>, has_eligible: bool) {
        if has_eligible && self.context.cloud != Cloud::Public {
            self.error(
                "L20",
                &delegation.eligible,
                "eligible authorizations are not there in national clouds",
                "leave them out; give narrow permanent roles instead",
            );
        }
        if self.context.customer_cloud.is_some_and(|customer| customer != self.context.cloud) {
            self.error(
                "L20",
                &delegation.whole,
                "publisher and customer are in different clouds",
                "delegate from a tenant of the customer's cloud",
            );
        }
    }

    fn unasked(&mut self, whole: &Node<'_>, mut ids: Vec<String>) {
        ids.sort();
        ids.dedup();
        let body = serde_json::json!({"ids": ids});
        self.note(
            "L21",
            whole,
            "what the principals are is not in the files, so L10, L15, L21 and L22 were applied only as far as --principal goes",
            format!(
                "give --principals FILE with what this prints: az rest --method post --url \
                 https://graph.microsoft.com/v1.0/directoryObjects/getByIds --body '{body}'"
            ),
        );
    }
}
