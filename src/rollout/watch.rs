//! What is remembered of Partner Center: for each offer when to look again, for each plan which publishes were seen, for each
//! version what it lets whom do.
//!
//! Pure: what was seen becomes what is to be raised, once. A version lower than one seen before raises nothing, however
//! submissions vanish or go backwards. Asks nobody anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::submission::{Standing, Submission};
use super::{Package, Plan, RolloutId, Target, Timestamp, Version};

/// How long an offer is left alone while nothing moves (contracts/offer-publish.md §3.5). A little less than the hour, so that
/// a timer that comes some moments early does not wait for its next turn.
pub const REST: Duration = Duration::from_secs(60 * 60 - 30);
/// No wait that Partner Center names is believed to be longer.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 60 * 60);
/// How many submissions are kept to be shown, the newest.
const SHOWN: usize = 20;

/// How it stands with looking at one offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferWatch {
    /// Partner Center's publisher id.
    pub publisher: String,
    /// Partner Center's offer id.
    pub offer: String,
    /// When it was last looked at with success.
    pub looked_at: Option<Timestamp>,
    /// When it was last looked at, with success or without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
    /// When to look again; the next run of the timer if absent.
    pub next_look: Option<Timestamp>,
    /// Why the last look failed.
    pub trouble: Option<NotedTrouble>,
    /// The newest submissions as they were last seen, the newest first.
    #[serde(default)]
    pub submissions: Vec<ShownSubmission>,
}

/// A look that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotedTrouble {
    /// Which kind.
    pub kind: String,
    /// What happened and what to do.
    pub what: String,
    /// Since when looks fail.
    pub since: Timestamp,
}

/// A submission as it is shown: Partner Center's own words, and what we make of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownSubmission {
    /// Its id.
    pub id: String,
    /// `state`.
    pub state: String,
    /// `substate`.
    pub substate: String,
    /// Its targets.
    pub targets: Vec<String>,
    /// What we make of it.
    pub standing: Standing,
}

impl OfferWatch {
    /// An offer that nobody has looked at.
    pub fn new(publisher: &str, offer: &str) -> Self {
        let (publisher, offer) = (publisher.to_owned(), offer.to_owned());
        let (looked_at, tried_at, next_look, trouble) = (None, None, None, None);
        Self { publisher, offer, looked_at, tried_at, next_look, trouble, submissions: Vec::new() }
    }

    /// Whether to look now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_look.is_none_or(|at| at <= now)
    }

    /// A look succeeded: while anything moves the next run looks again, else one in an hour.
    pub fn note_look(&mut self, seen: Vec<(Submission, Standing)>, now: Timestamp) {
        let moves = seen.iter().any(|(_, standing)| *standing == Standing::Moving);
        let mut seen = seen;
        seen.sort_by_key(|(submission, _)| std::cmp::Reverse(submission.age()));
        self.submissions = seen
            .into_iter()
            .take(SHOWN)
            .map(|(Submission { id, state, substate, scopes, .. }, standing)| ShownSubmission {
                id,
                state,
                substate,
                targets: scopes,
                standing,
            })
            .collect();
        self.looked_at = Some(now);
        self.tried_at = Some(now);
        self.next_look = (!moves).then(|| now + REST);
        self.trouble = None;
    }

    /// A look succeeded that did not show everything; `before` is what was said before it. Whether that is news.
    pub fn note_odd(&mut self, before: Option<&NotedTrouble>, what: String, now: Timestamp) -> bool {
        let is_news = before.is_none_or(|before| before.what != what);
        let since = before.map_or(now, |before| before.since);
        self.trouble = Some(NotedTrouble { kind: "incomplete".to_owned(), what, since });
        is_news
    }

    /// A look failed: the next run looks again, unless a wait was named. Whether that is news.
    pub fn note_trouble(&mut self, kind: &str, what: String, wait: Option<Duration>, now: Timestamp) -> bool {
        let since = self.trouble.as_ref().map_or(now, |known| known.since);
        let is_news = self.trouble.as_ref().is_none_or(|known| known.kind != kind);
        self.trouble = Some(NotedTrouble { kind: kind.to_owned(), what, since });
        self.tried_at = Some(now);
        self.next_look = wait.map(|wait| now + wait.min(LONGEST_WAIT));
        is_news
    }
}

/// What was seen of one plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanWatch {
    /// The plan.
    pub plan: Plan,
    /// When it was first seen.
    pub since: Timestamp,
    /// The highest version seen at sign-off.
    pub preview: Option<Seen>,
    /// The highest version seen live.
    pub live: Option<Seen>,
    /// The versions of package instances that were read, as far as Partner Center still lists them.
    #[serde(default)]
    pub instances: BTreeMap<String, Version>,
    /// The published versions that were last reported as wider than the wanted one.
    #[serde(default)]
    pub wider: Vec<Version>,
}

/// One publish that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Its version.
    pub version: Version,
    /// Its submission.
    pub submission_id: String,
    /// When Partner Center published it.
    pub published_at: Option<Timestamp>,
    /// When we saw it.
    pub seen_at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a publish that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// It was there at first sight, and starts nothing.
    Baseline,
    /// It is to be raised.
    Due,
    /// It was.
    Raised {
        /// The rollout.
        rollout_id: RolloutId,
    },
    /// It could not be.
    Refused {
        /// Why.
        why: String,
    },
}

/// What the first sight of a plan does (`rolloutOnFirstSight`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstSight {
    /// It is a baseline and starts nothing.
    #[default]
    Baseline,
    /// It starts rollouts.
    Rollout,
}

/// One publish as Partner Center shows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// How far it has come.
    pub target: Target,
    /// Its version.
    pub version: Version,
    /// Its submission.
    pub submission_id: String,
    /// When it was published.
    pub published_at: Option<Timestamp>,
}

impl PlanWatch {
    /// A plan that nothing was seen of.
    pub fn new(plan: Plan, now: Timestamp) -> Self {
        Self { plan, since: now, preview: None, live: None, instances: BTreeMap::new(), wider: Vec::new() }
    }

    /// Notes what Partner Center shows, the newest publish of each target; whether anything is new. `first` is what to do with
    /// it if this is the first sight of the plan.
    pub fn note(&mut self, sightings: &[Sighting], first: Option<FirstSight>, now: Timestamp) -> bool {
        let mut is_news = false;
        for Sighting { target, version, submission_id, published_at } in sightings {
            let known = self.seen_mut(*target);
            if known.as_ref().is_some_and(|known| known.version >= *version) {
                continue;
            }
            let outcome = if first == Some(FirstSight::Baseline) { Outcome::Baseline } else { Outcome::Due };
            let (submission_id, published_at) = (submission_id.clone(), *published_at);
            *known = Some(Seen { version: *version, submission_id, published_at, seen_at: now, outcome });
            is_news = true;
        }
        is_news
    }

    /// Notes which package instances Partner Center lists now and which of them were read; the others are forgotten. Whether
    /// anything changed.
    pub fn note_instances(&mut self, listed: &BTreeSet<String>, read: &BTreeMap<String, Version>) -> bool {
        let before = self.instances.clone();
        self.instances.extend(read.iter().map(|(id, version)| (id.clone(), *version)));
        self.instances.retain(|id, _| listed.contains(id));
        self.instances != before
    }

    /// What is to be raised, sign-off before live.
    pub fn due(&self) -> Vec<(Target, Seen)> {
        let due = |target, seen: &Option<Seen>| {
            seen.clone().filter(|seen| seen.outcome == Outcome::Due).map(|seen| (target, seen))
        };
        due(Target::Preview, &self.preview).into_iter().chain(due(Target::Live, &self.live)).collect()
    }

    /// Notes what became of a publish that was due, unless a newer one has taken its place.
    pub fn settle(&mut self, target: Target, version: Version, outcome: Outcome) -> bool {
        match self.seen_mut(target) {
            Some(seen) if seen.version == version && seen.outcome == Outcome::Due => {
                seen.outcome = outcome;
                true
            }
            _ => false,
        }
    }

    fn seen_mut(&mut self, target: Target) -> &mut Option<Seen> {
        match target {
            Target::Preview => &mut self.preview,
            Target::Live => &mut self.live,
        }
    }
}

/// What one published version lets whom do, as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The plan.
    pub plan: Plan,
    /// The version.
    pub version: Version,
    /// Its permissions.
    pub package: Package,
    /// The package instance that was read.
    pub instance_id: String,
    /// When it was first read.
    pub read_at: Timestamp,
    /// Whether the same version was seen with other permissions: then nobody knows which of them a deployment has.
    #[serde(default)]
    pub is_restated: bool,
}

impl Snapshot {
    /// Takes in what another instance of the same version says; whether that changes anything.
    pub fn restate(&mut self, other: &Self) -> bool {
        if self.package == other.package {
            return false;
        }
        let read_at = self.read_at;
        *self = Self { read_at, is_restated: true, ..other.clone() };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-10T12:00:00Z".parse().unwrap()
    }

    fn watch() -> PlanWatch {
        PlanWatch::new(Plan::parse("fabrikam", "ledger", "standard").unwrap().0, now())
    }

    fn sighting(target: Target, version: &str) -> Sighting {
        let version = version.parse().unwrap();
        Sighting { target, version, submission_id: "115".into(), published_at: None }
    }

    fn due(watch: &PlanWatch) -> Vec<String> {
        watch.due().into_iter().map(|(target, seen)| format!("{target:?} {}", seen.version)).collect()
    }

    #[test]
    fn the_first_sight_is_a_baseline_unless_it_is_to_start_rollouts() {
        let both = [sighting(Target::Live, "1.4.0"), sighting(Target::Preview, "1.5.0")];
        let mut first = watch();
        assert!(first.note(&both, Some(FirstSight::Baseline), now()));
        assert_eq!(due(&first), [""; 0]);
        let mut eager = watch();
        eager.note(&both, Some(FirstSight::Rollout), now());
        assert_eq!(due(&eager), ["Preview 1.5.0", "Live 1.4.0"]);
    }

    #[test]
    fn a_higher_version_is_raised_once_for_each_target_and_a_lower_one_never() {
        let mut watch = watch();
        watch.note(&[sighting(Target::Live, "1.4.0")], Some(FirstSight::Baseline), now());
        assert!(watch.note(&[sighting(Target::Preview, "1.10.0")], None, now()), "none was at sign-off before");
        assert!(watch.settle(Target::Preview, "1.10.0".parse().unwrap(), Outcome::Baseline));
        for gone_backwards in ["1.10.0", "1.9.0", "1.4.0"] {
            assert!(!watch.note(&[sighting(Target::Preview, gone_backwards)], None, now()));
        }
        assert!(watch.note(&[sighting(Target::Live, "1.10.0")], None, now()));
        assert_eq!(due(&watch), ["Live 1.10.0"]);
        watch.note(&[sighting(Target::Live, "1.11.0")], None, now());
        assert!(!watch.settle(Target::Live, "1.10.0".parse().unwrap(), Outcome::Baseline), "a newer one is due");
        assert_eq!(due(&watch), ["Live 1.11.0"]);
    }

    #[test]
    fn only_package_instances_that_are_listed_are_kept() {
        let mut watch = watch();
        let listed = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<BTreeSet<_>>();
        let read = BTreeMap::from(["1", "2"].map(|id| (id.to_owned(), "1.4.0".parse().unwrap())));
        assert!(watch.note_instances(&listed(&["1", "2", "3"]), &read));
        assert!(!watch.note_instances(&listed(&["1", "2"]), &BTreeMap::new()));
        assert!(watch.note_instances(&listed(&["2", "3"]), &BTreeMap::new()));
        assert_eq!(watch.instances.keys().collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn an_offer_is_looked_at_by_every_run_while_something_moves_and_hourly_otherwise() {
        let submission = Submission {
            id: "115".into(),
            state: "InProgress".into(),
            substate: String::new(),
            scopes: vec![],
            release_number: None,
            published_at: None,
            packages: BTreeMap::new(),
            package_of_all: None,
        };
        let mut watch = OfferWatch::new("fabrikam", "ledger");
        assert!(watch.is_due(now()));
        watch.note_look(vec![(submission.clone(), Standing::Moving)], now());
        assert!(watch.is_due(now()));
        watch.note_look(vec![(submission, Standing::Reached(Target::Live))], now());
        assert!(!watch.is_due(now() + Duration::from_secs(59 * 60)));
        assert!(watch.is_due(now() + Duration::from_secs(60 * 60)));
        assert!(watch.note_trouble("throttled", "x".into(), Some(Duration::from_secs(600)), now()));
        assert!(!watch.note_trouble("throttled", "y".into(), None, now()), "said once");
        assert!(watch.is_due(now()) && watch.looked_at.is_some());
        let mut failing = OfferWatch::new("fabrikam", "other");
        assert_eq!(failing.tried_at, None, "it comes before all that were tried");
        failing.note_trouble("unreachable", "x".into(), None, now());
        assert_eq!((failing.tried_at, failing.looked_at), (Some(now()), None), "and then after them");
    }

    #[test]
    fn the_same_version_with_other_permissions_is_doubtful_for_good() {
        let snapshot = |action: &str| Snapshot {
            plan: watch().plan,
            version: "1.4.0".parse().unwrap(),
            package: Package { allowed_control_actions: vec![action.into()], ..Package::default() },
            instance_id: action.into(),
            read_at: now(),
            is_restated: false,
        };
        let mut known = snapshot("a");
        assert!(!known.restate(&Snapshot { instance_id: "b".into(), ..snapshot("a") }));
        assert!(known.restate(&snapshot("b")) && known.is_restated);
        assert!(known.restate(&snapshot("a")) && known.is_restated);
    }
}
