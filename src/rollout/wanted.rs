//! The wanted version of a plan: what every deployment should have (design §4).

use serde::{Deserialize, Serialize};

use super::{Plan, RolloutId, Version};

/// One plan and the version its deployments should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedVersion {
    /// The plan.
    pub plan: Plan,
    /// The version; `None` until one was set or a rollout has passed its canaries.
    pub version: Option<Version>,
    /// The rollout that raised it and the version before, until that rollout is completed.
    pub raised: Option<Raised>,
    /// The rollout that brought this version to all deployments last: late joiners join it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brought_by: Option<RolloutId>,
}

/// A raise that is taken back if its rollout is halted or canceled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Raised {
    /// The rollout.
    pub by: RolloutId,
    /// The wanted version before it.
    pub before: Option<Version>,
    /// The rollout that had brought that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brought_by_before: Option<RolloutId>,
}

impl WantedVersion {
    /// A plan whose wanted version is `first` (`OFFERS.wantedVersion`), or not known.
    pub fn new(plan: Plan, first: Option<Version>) -> Self {
        Self { plan, version: first, raised: None, brought_by: None }
    }

    /// The rollout `by` has passed its canaries with `version`. A second time changes nothing.
    pub fn raise(&mut self, by: RolloutId, version: Version) {
        if self.raised.as_ref().is_none_or(|raised| raised.by != by) && self.version != Some(version) {
            self.raised = Some(Raised { by, before: self.version, brought_by_before: self.brought_by });
            self.version = Some(version);
            self.brought_by = Some(by);
        }
    }

    /// The rollout `by` was halted or canceled before completion.
    pub fn revert(&mut self, by: RolloutId) {
        if let Some(raised) = self.raised.take_if(|raised| raised.by == by) {
            self.version = raised.before;
            self.brought_by = raised.brought_by_before;
        }
    }

    /// The rollout `by` is completed: its version stays. `everywhere` is the version if all deployments were to have it.
    pub fn settle(&mut self, by: RolloutId, everywhere: Option<Version>) {
        self.raised.take_if(|raised| raised.by == by);
        if everywhere.is_some() && everywhere == self.version {
            self.brought_by = Some(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_raise_is_taken_back_by_its_own_rollout_only_and_once() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        let (first, second) = (RolloutId(Uuid::from_u128(1)), RolloutId(Uuid::from_u128(2)));
        let plan = Plan::parse("fabrikam", "ledger", "standard").unwrap().0;
        let mut wanted = WantedVersion::new(plan, Some(version("1.3.0")));
        wanted.raise(first, version("1.4.0"));
        wanted.raise(first, version("1.4.0"));
        wanted.revert(second);
        assert_eq!(wanted.version, Some(version("1.4.0")));
        wanted.revert(first);
        wanted.revert(first);
        assert_eq!((wanted.version, wanted.brought_by), (Some(version("1.3.0")), None));
        wanted.raise(first, version("1.4.0"));
        wanted.settle(first, None);
        wanted.revert(first);
        assert_eq!((wanted.version, wanted.brought_by), (Some(version("1.4.0")), Some(first)));
        wanted.settle(second, Some(version("1.5.0")));
        assert_eq!(wanted.brought_by, Some(first), "of another version");
        wanted.settle(second, Some(version("1.4.0")));
        assert_eq!(wanted.brought_by, Some(second), "the same version again, everywhere");
    }
}
