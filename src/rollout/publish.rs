//! An offer publish: what was published, for whom, why; and the keys by which the same publish is known again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::lint::AllowedActions;
use super::resource_id::{ApplicationId, hex};
use super::{Strategy, Timestamp, Version};

/// The suffix of `plan.product` in a preview purchase (contracts/arm.md §3.1, contracts/offer-publish.md §2).
const PREVIEW_SUFFIX: &str = "-preview";

/// One plan of one offer, all parts lower-case and the offer without `-preview`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// Partner Center's publisher id (`plan.publisher` in ARM).
    pub publisher: String,
    /// Partner Center's offer id (`plan.product` in ARM).
    pub offer: String,
    /// Partner Center's plan id (`plan.name` in ARM).
    pub plan: String,
}

/// An identifier of Partner Center that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is not an identifier of Partner Center: expected 1 to 128 letters, digits, '-', '_' or '.'")]
pub struct InvalidPlan {
    /// Which of `publisher`, `offer`, `plan` is wrong.
    pub field: &'static str,
}

impl Plan {
    /// A plan from its three ids in any case; the second value says whether the offer carried the suffix `-preview`.
    pub fn parse(publisher: &str, offer: &str, plan: &str) -> Result<(Self, bool), InvalidPlan> {
        let publisher = identifier("publisher", publisher)?;
        let offer = identifier("offer", offer)?;
        let plan = identifier("plan", plan)?;
        Ok(match offer.strip_suffix(PREVIEW_SUFFIX) {
            Some(bare) if !bare.is_empty() => (Self { publisher, offer: bare.to_owned(), plan }, true),
            _ => (Self { publisher, offer, plan }, false),
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.publisher, self.offer, self.plan)
    }
}

fn identifier(field: &'static str, text: &str) -> Result<String, InvalidPlan> {
    let legal = (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if legal { Ok(text.to_ascii_lowercase()) } else { Err(InvalidPlan { field }) }
}

/// How far the version has come in Partner Center.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Publisher sign-off: preview purchases can have it, and `targetVersion` can name it.
    Preview,
    /// In the Marketplace for everybody.
    Live,
}

/// Which deployments a rollout is for (design §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Audience {
    /// Preview purchases and the named canaries.
    Preview,
    /// Every deployment of the plan.
    All,
}

/// Why a version is brought out (design §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// A new version; the only purpose with a content key.
    #[default]
    RollOut,
    /// An older, known-good version on purpose.
    Repair,
    /// The permissions were published back: recorded, refreshes nobody unless asked.
    Restore,
    /// The wanted version over everything, raised by ScheduledRefresh only.
    Scheduled,
}

/// One rollout's id: a UUID, ordered by the time it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RolloutId(pub Uuid);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RolloutId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The fact "version V of this plan has reached preview or live", checked and normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferPublish {
    /// What was published.
    #[serde(flatten)]
    pub plan: Plan,
    /// The version that deployments are to have.
    pub version: Version,
    /// How far it has come.
    pub target: Target,
    /// Who is to have it.
    pub audience: Audience,
    /// Why.
    pub purpose: Purpose,
    /// Partner Center's submission, where known.
    pub submission_id: Option<String>,
    /// When Partner Center published it, where known.
    pub published_at: Option<Timestamp>,
    /// Only these deployments; empty means all of the audience.
    pub scope: Vec<ApplicationId>,
    /// How it is to be brought out.
    #[serde(deserialize_with = "super::strategy::stored")]
    pub strategy: Strategy,
    /// Whether it may end a rollout of another version that is still on its way.
    pub supersede: Supersede,
    /// A person's words.
    pub note: Option<String>,
    /// The actions that the version allows, where whoever announced it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<AllowedActions>,
}

/// What a publish does to a rollout of another version of the same plan that is planning or running (design §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Supersede {
    /// It is refused.
    #[default]
    Refuse,
    /// It takes the other's place.
    Replace,
    /// It waits until the other has ended: nobody is there to be told no.
    Wait,
}

/// The keys by which a publish is known again (design §3.1, contracts/offer-publish.md §8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentKeys {
    /// With the submission's id, or `-` where there is none.
    pub exact: String,
    /// Without the submission's id: joins a post from CI with what the watcher sees of the same publish.
    pub joining: String,
}

impl OfferPublish {
    /// Whether it is only written down: a restore refreshes nobody unless asked, by naming deployments (design §4).
    pub fn is_record_only(&self) -> bool {
        self.purpose == Purpose::Restore && self.scope.is_empty()
    }

    /// The content keys, each the lower-case hex SHA-256 of the parts with `|` between them.
    pub fn content_keys(&self) -> ContentKeys {
        let target = match self.target {
            Target::Preview => "preview",
            Target::Live => "live",
        };
        let audience = match self.audience {
            Audience::Preview => "preview",
            Audience::All => "all",
        };
        let Plan { publisher, offer, plan } = &self.plan;
        let content = format!("v1|{publisher}|{offer}|{plan}|{}|{target}|{audience}", self.version);
        let key = |submission: &str| hex(&Sha256::digest(format!("{content}|{}", submission.to_lowercase())));
        ContentKeys { exact: key(self.submission_id.as_deref().unwrap_or("-")), joining: key("-") }
    }
}

#[cfg(test)]
impl OfferPublish {
    /// Version 1.4.0, live, to everybody: what the unit tests of the domain change as they need it.
    pub(crate) fn sample() -> Self {
        Self {
            plan: Plan::parse("fabrikam", "ledger", "standard").expect("these are ids").0,
            version: "1.4.0".parse().expect("this is a version"),
            target: Target::Live,
            audience: Audience::All,
            purpose: Purpose::RollOut,
            submission_id: None,
            published_at: None,
            scope: Vec::new(),
            strategy: Strategy::default(),
            supersede: Supersede::Refuse,
            note: None,
            actions: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(submission: Option<&str>) -> OfferPublish {
        let (plan, preview) = Plan::parse("Fabrikam", "Ledger-Preview", "Standard").unwrap();
        assert!(preview);
        OfferPublish { plan, submission_id: submission.map(str::to_owned), ..OfferPublish::sample() }
    }

    #[test]
    fn a_plan_is_known_in_any_case_and_as_a_preview_purchase() {
        assert_eq!(publish(None).plan, Plan::parse("fabrikam", "ledger", "standard").unwrap().0);
    }

    #[test]
    fn a_post_without_submission_and_one_with_it_meet_in_the_joining_key() {
        let (with, without) = (publish(Some("115")).content_keys(), publish(None).content_keys());
        assert_eq!(with.joining, without.exact);
        assert_eq!(without.exact, without.joining);
        assert_ne!(with.exact, without.exact);
        assert_ne!(OfferPublish { target: Target::Preview, ..publish(None) }.content_keys().exact, without.exact);
        assert_ne!(OfferPublish { audience: Audience::Preview, ..publish(None) }.content_keys().exact, without.exact);
    }

    #[test]
    fn an_identifier_that_could_leave_its_place_in_a_url_is_refused() {
        for bad in ["", "a/b", "a|b", "a b", "ä", &"x".repeat(129)] {
            assert!(Plan::parse("fabrikam", bad, "standard").is_err(), "{bad:?} was accepted");
        }
        assert_eq!(Plan::parse("fabrikam", "-preview", "standard").unwrap().0.offer, "-preview");
    }
}
