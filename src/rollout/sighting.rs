//! What a list of Azure says of one deployment, and what it changes in what is known (design §2, SyncDeployments).
//!
//! The newest knowledge wins, by time. ARM's own list says what is; Azure Resource Graph, which lags behind, and the managed
//! resource group only give a reason to read the application. Nothing is concluded here from what a list leaves out.

use serde::{Deserialize, Serialize};

use super::{ApplicationId, Deployment, Plan, Timestamp};

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// ARM's list of applications.
    List,
    /// Azure Resource Graph.
    Graph,
    /// A resource group that the application manages.
    Group,
}

/// One deployment as a list shows it. What is `None` was not said.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The application.
    pub application_id: ApplicationId,
    /// Who says so.
    pub source: Source,
    /// When the list was asked for: what was learned later is newer.
    pub at: Timestamp,
    /// The plan and whether it is a preview purchase.
    pub plan: Option<(Plan, bool)>,
    /// The version it was deployed with.
    pub version: Option<String>,
    /// `MarketPlace` or `ServiceCatalog`.
    pub kind: Option<String>,
    /// Its region.
    pub location: Option<String>,
    /// The customer's tenant.
    pub tenant_id: Option<String>,
    /// The managed resource group's id.
    pub managed_resource_group_id: Option<String>,
    /// `provisioningState`.
    pub provisioning_state: Option<String>,
}

/// How what Azure shows differs from what was known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "difference", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Discovery {
    /// Nobody had told us of it.
    New,
    /// It was taken for gone.
    Back,
    /// Something about it is not as it was known.
    Changed {
        /// What, by the names of the API.
        members: Vec<String>,
    },
    /// It is known, and in no list that was read to its end.
    Missing,
}

impl Sighting {
    /// A sighting that says nothing but that it is there.
    pub fn bare(application_id: ApplicationId, source: Source, at: Timestamp) -> Self {
        Self {
            application_id,
            source,
            at,
            plan: None,
            version: None,
            kind: None,
            location: None,
            tenant_id: None,
            managed_resource_group_id: None,
            provisioning_state: None,
        }
    }

    /// What the registry is to hold from now on, and what is different about it; `None` if nothing is.
    pub fn meet(&self, known: Option<&Deployment>, now: Timestamp) -> Option<(Deployment, Discovery)> {
        let Some(known) = known else {
            let mut deployment = Deployment::new(self.application_id.clone(), now);
            self.tell(&mut deployment);
            deployment.confirmed = self.source == Source::List;
            // As after a notification, ARM's own word about this one application comes next.
            deployment.ask_check(now);
            return Some((deployment, Discovery::New));
        };
        // Somebody learned something after the list was asked for.
        if known.updated_at >= self.at {
            return None;
        }
        let mut next = known.clone();
        let discovery = if known.gone_since.is_some() {
            if self.source == Source::List {
                next.gone_since = None;
                next.confirmed = true;
                next.state_is_claimed = false;
                self.tell(&mut next);
            }
            Discovery::Back
        } else {
            let mut members = self.differences(known);
            if self.source == Source::List {
                if !known.confirmed {
                    members.push("confirmed".to_owned());
                    next.confirmed = true;
                }
                self.tell(&mut next);
            } else if !known.confirmed && members.is_empty() && known.check.is_none() {
                members.push("confirmed".to_owned());
            }
            if members.is_empty() {
                return None;
            }
            Discovery::Changed { members }
        };
        if next.tenant_id.is_none() {
            next.tenant_id.clone_from(&self.tenant_id);
        }
        let is_only_told = self.source == Source::List && matches!(discovery, Discovery::Changed { .. });
        let is_tenant = discovery == Discovery::Changed { members: vec!["tenantId".to_owned()] };
        if next.check.is_none() && !is_only_told && !is_tenant {
            next.ask_check(now);
        }
        if next == *known {
            // Its check is under way and will tell.
            return None;
        }
        next.updated_at = now;
        Some((next, discovery))
    }

    /// What is said and otherwise than known, by the names of the API.
    fn differences(&self, known: &Deployment) -> Vec<String> {
        let mut members = Vec::new();
        let mut compare = |name: &str, known: Option<&str>, said: Option<&str>| {
            if said.is_some_and(|said| known.is_none_or(|known| plain(known) != plain(said))) {
                members.push(name.to_owned());
            }
        };
        compare("version", known.version.as_deref(), self.version.as_deref());
        compare("kind", known.kind.as_deref(), self.kind.as_deref());
        compare("location", known.location.as_deref(), self.location.as_deref());
        let group = (known.managed_resource_group_id.as_deref(), self.managed_resource_group_id.as_deref());
        compare("managedResourceGroupId", group.0, group.1);
        // A state that a notification claims is being asked about already.
        if !known.state_is_claimed {
            compare("provisioningState", known.provisioning_state.as_deref(), self.provisioning_state.as_deref());
        }
        if known.tenant_id.is_none() && self.tenant_id.is_some() {
            members.push("tenantId".to_owned());
        }
        if let Some((plan, preview)) = &self.plan
            && (known.plan.as_ref() != Some(plan) || known.preview != *preview)
        {
            members.push("plan".to_owned());
        }
        members
    }

    fn tell(&self, deployment: &mut Deployment) {
        if let Some((plan, preview)) = &self.plan {
            deployment.plan = Some(plan.clone());
            deployment.preview = *preview;
        }
        for (known, said) in [
            (&mut deployment.version, &self.version),
            (&mut deployment.kind, &self.kind),
            (&mut deployment.location, &self.location),
            (&mut deployment.managed_resource_group_id, &self.managed_resource_group_id),
        ] {
            if said.is_some() {
                known.clone_from(said);
            }
        }
        if deployment.tenant_id.is_none() {
            deployment.tenant_id.clone_from(&self.tenant_id);
        }
        if !deployment.state_is_claimed && self.provisioning_state.is_some() {
            deployment.provisioning_state.clone_from(&self.provisioning_state);
        }
    }
}

/// A word as it is compared: Azure changes case, and writes a region with and without spaces.
fn plain(word: &str) -> String {
    word.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        "2026-03-10T12:00:00Z".parse::<Timestamp>().unwrap() + std::time::Duration::from_secs(60 * minute as u64)
    }

    fn id() -> ApplicationId {
        "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/Microsoft.Solutions/applications/one"
            .parse()
            .unwrap()
    }

    fn known() -> Deployment {
        let mut known = Deployment::new(id(), at(0));
        known.confirmed = true;
        known.version = Some("1.0.0".to_owned());
        known.location = Some("West Europe".to_owned());
        known.provisioning_state = Some("Succeeded".to_owned());
        known
    }

    fn seen(source: Source, minute: i64) -> Sighting {
        Sighting {
            version: Some("1.0.0".to_owned()),
            location: Some("westeurope".to_owned()),
            provisioning_state: Some("succeeded".to_owned()),
            ..Sighting::bare(id(), source, at(minute))
        }
    }

    #[test]
    fn what_is_as_it_was_known_changes_nothing() {
        for source in [Source::List, Source::Graph, Source::Group] {
            assert_eq!(seen(source, 5).meet(Some(&known()), at(6)), None, "{source:?}");
        }
    }

    #[test]
    fn the_newest_knowledge_wins_by_time() {
        let mut other = seen(Source::List, 5);
        other.version = Some("2.0.0".to_owned());
        let mut known = known();
        known.updated_at = at(5);
        assert_eq!(other.meet(Some(&known), at(9)), None, "learned when the list was asked for, or after");
        known.updated_at = at(4);
        let (next, discovery) = other.meet(Some(&known), at(9)).unwrap();
        assert_eq!((next.version.as_deref(), next.updated_at), (Some("2.0.0"), at(9)));
        assert_eq!(discovery, Discovery::Changed { members: vec!["version".to_owned()] });
        assert_eq!(next.check, None, "ARM has just said so");
    }

    #[test]
    fn hearsay_is_a_reason_to_read_and_nothing_more() {
        let mut other = seen(Source::Graph, 5);
        other.version = Some("2.0.0".to_owned());
        let (next, _) = other.meet(Some(&known()), at(6)).unwrap();
        assert_eq!((next.version.as_deref(), next.check.is_some()), (Some("1.0.0"), true));
        let mut gone = known();
        gone.gone_since = Some(at(1));
        for source in [Source::Graph, Source::Group] {
            let (next, discovery) = seen(source, 5).meet(Some(&gone), at(6)).unwrap();
            assert_eq!((discovery, next.gone_since, next.check.is_some()), (Discovery::Back, Some(at(1)), true));
            assert_eq!(seen(source, 5).meet(Some(&next), at(7)), None, "it is being read already");
        }
        let (next, discovery) = seen(Source::List, 5).meet(Some(&gone), at(6)).unwrap();
        assert_eq!((discovery, next.gone_since, next.confirmed), (Discovery::Back, None, true));
    }

    #[test]
    fn a_new_one_is_read_and_only_arm_s_own_list_confirms_it() {
        for (source, confirmed) in [(Source::List, true), (Source::Graph, false), (Source::Group, false)] {
            let (next, discovery) = seen(source, 5).meet(None, at(6)).unwrap();
            assert_eq!((discovery, next.confirmed, next.check.is_some()), (Discovery::New, confirmed, true));
            assert_eq!(next.version.as_deref(), Some("1.0.0"));
        }
    }

    #[test]
    fn a_deletion_that_a_notification_claims_is_left_to_its_check() {
        let mut leaving = known();
        leaving.provisioning_state = Some("Deleting".to_owned());
        leaving.state_is_claimed = true;
        leaving.ask_check(at(1));
        for source in [Source::List, Source::Graph] {
            assert_eq!(seen(source, 5).meet(Some(&leaving), at(6)), None, "{source:?}");
        }
    }

    #[test]
    fn a_tenant_is_taken_over_without_a_reading() {
        let mut other = seen(Source::Graph, 5);
        other.tenant_id = Some("5d0f7a10-0000-4000-8000-00000000c001".to_owned());
        let (next, _) = other.meet(Some(&known()), at(6)).unwrap();
        assert_eq!((next.tenant_id, next.check), (other.tenant_id.clone(), None));
    }
}
