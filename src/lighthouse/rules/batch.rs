//! What holds between delegations: names that collide, and access that one takes away with another (L02, L26).

use std::collections::{BTreeMap, BTreeSet};

use super::Judge;
use super::entry::Entry;
use crate::lighthouse::delegation::{Delegation, entries};
use crate::lighthouse::node::Text;

impl Judge<'_> {
    pub(super) fn several(&mut self, delegations: &[Delegation<'_>]) {
        let all: Vec<_> = delegations.iter().map(grants).collect();
        let mut by_name = BTreeMap::new();
        let mut by_grant = BTreeMap::new();
        for (at, (later, own)) in delegations.iter().zip(&all).enumerate() {
            let Text::Is(name) = later.offer.text() else { continue };
            let first = *by_name.entry(name).or_insert(at);
            if first != at && delegations[first].deployment == later.deployment {
                self.error(
                    "L02",
                    &later.offer,
                    "another delegation of the same deployment has the same offer's name",
                    "give each its own name, or put their authorizations together",
                );
            } else if all[first] != *own {
                self.warn(
                    "L02",
                    &later.offer,
                    format!("{} delegates something else under the same offer's name", delegations[first].offer.file),
                    "where both go to one subscription the later one replaces the earlier: give it another name",
                );
            }
            let mut told = false;
            for grant in own {
                let (other, file) = *by_grant.entry(grant).or_insert((name, &later.active.file));
                if other != name && !told {
                    told = true;
                    let (principal, role) = grant;
                    self.warn(
                        "L26",
                        &later.active,
                        format!("{file} gives {principal} the role {role} too: removing one can take both away"),
                        "keep to one delegation for each principal and role in a subscription",
                    );
                }
            }
        }
    }
}

/// Who gets which role, at any time or on request.
fn grants(delegation: &Delegation<'_>) -> BTreeSet<(String, String)> {
    let all = entries(&delegation.active).into_iter().chain(entries(&delegation.eligible));
    all.map(Entry::new).filter_map(|entry| Some((entry.principal_id()?, entry.role_id()?))).collect()
}
