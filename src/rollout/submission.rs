//! What a submission in Partner Center means: how far it has come, and what follows for each plan.
//!
//! Azure's words are data: the table can be overridden by configuration, and a word that is in no table is shown as it is and
//! judged by its target (contracts/offer-publish.md §3.3, §10.1). Asks nobody anything.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Target, Timestamp};

/// One submission, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    /// Its id.
    pub id: String,
    /// `state`, as Partner Center spells it.
    pub state: String,
    /// `substate`, likewise; empty where there is none.
    pub substate: String,
    /// The values of `targets[type=Scope]`, likewise.
    pub scopes: Vec<String>,
    /// Grows from one submission of an offer to the next.
    pub release_number: Option<i64>,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// The package's instance for each variant.
    pub packages: BTreeMap<String, String>,
    /// The package's instance for every variant that names none.
    pub package_of_all: Option<String>,
}

impl Submission {
    /// The instance of the package that it brings for a variant.
    pub fn package(&self, variant_id: &str) -> Option<&str> {
        self.packages.get(variant_id).or(self.package_of_all.as_ref()).map(String::as_str)
    }

    /// Orders submissions by age, the newest last. Ids are numbers that grow, so that the shorter one is the older.
    pub fn age(&self) -> impl Ord + use<> {
        (self.release_number, self.published_at, self.id.len(), self.id.clone())
    }
}

/// What a pair of state and substate means (`PARTNER_CENTER_STATES`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Meaning {
    /// Not yet: look again soon.
    Moving,
    /// It failed: nothing was published.
    Failed,
    /// Publisher sign-off.
    Preview,
    /// In the Marketplace.
    Live,
    /// Published, and the target says where.
    ByTarget,
}

/// Which pairs mean what. Compared without regard to case; an absent substate means any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Meaning>")]
pub struct States(BTreeMap<(String, Option<String>), Meaning>);

/// A pair that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pair:?} is no pair of states: expected State/Substate or State/*")]
pub struct InvalidPair {
    /// As it was given.
    pub pair: String,
}

impl Default for States {
    fn default() -> Self {
        use Meaning::{ByTarget, Failed, Live, Moving, Preview};
        let table = [
            ("InProgress/Failed", Failed),
            ("InProgress/FailedInCertification", Failed),
            ("Published/Failed", Failed),
            ("Published/FailedInCertification", Failed),
            ("Published/ReadyToPublish", Preview),
            ("Published/InStore", Live),
            ("InProgress/*", Moving),
            ("Published/*", ByTarget),
        ];
        let pairs = table.into_iter().filter_map(|(text, meaning)| Some((pair(text).ok()?, meaning)));
        Self(pairs.collect())
    }
}

impl TryFrom<BTreeMap<String, Meaning>> for States {
    type Error = InvalidPair;

    /// The default table with these pairs in the place of its own.
    fn try_from(given: BTreeMap<String, Meaning>) -> Result<Self, InvalidPair> {
        let mut states = Self::default();
        for (text, meaning) in given {
            states.0.insert(pair(&text)?, meaning);
        }
        Ok(states)
    }
}

fn pair(text: &str) -> Result<(String, Option<String>), InvalidPair> {
    match text.split_once('/') {
        Some((state, substate)) if !state.trim().is_empty() && !substate.trim().is_empty() => {
            let word = |word: &str| word.trim().to_ascii_lowercase();
            Ok((word(state), (substate.trim() != "*").then(|| word(substate))))
        }
        _ => Err(InvalidPair { pair: text.to_owned() }),
    }
}

/// Where a submission stands, for people and for the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Not yet.
    Moving,
    /// It failed.
    Failed,
    /// It has reached this target.
    Reached(Target),
    /// Published, but nobody said where.
    Unclear,
}

impl States {
    /// Where a submission stands. A state that is in no table counts as on its way: to look again costs nothing.
    pub fn standing(&self, submission: &Submission) -> Standing {
        let (state, substate) = (submission.state.to_ascii_lowercase(), submission.substate.to_ascii_lowercase());
        let exact = self.0.get(&(state.clone(), Some(substate)));
        match exact.or_else(|| self.0.get(&(state, None))) {
            None | Some(Meaning::Moving) => Standing::Moving,
            Some(Meaning::Failed) => Standing::Failed,
            Some(Meaning::Preview) => Standing::Reached(Target::Preview),
            Some(Meaning::Live) => Standing::Reached(Target::Live),
            Some(Meaning::ByTarget) => match scope(&submission.scopes) {
                Some(target) => Standing::Reached(target),
                None => Standing::Unclear,
            },
        }
    }
}

/// The furthest target among the scopes; words that are no target do not count.
fn scope(scopes: &[String]) -> Option<Target> {
    let names = |target: &str| scopes.iter().any(|scope| scope.eq_ignore_ascii_case(target));
    if names("live") {
        Some(Target::Live)
    } else if names("preview") {
        Some(Target::Preview)
    } else {
        None
    }
}

impl FromStr for States {
    type Err = String;

    /// The default table with the pairs of a JSON object in the place of its own.
    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(state: &str, substate: &str, scopes: &[&str]) -> Submission {
        Submission {
            id: "115".into(),
            state: state.into(),
            substate: substate.into(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            release_number: Some(8),
            published_at: None,
            packages: BTreeMap::new(),
            package_of_all: None,
        }
    }

    #[test]
    fn every_pair_of_the_contract_has_its_meaning_and_unknown_words_have_one_too() {
        use Standing::{Failed, Moving, Reached, Unclear};
        for (state, substate, scopes, expected) in [
            ("InProgress", "InDraft", &["preview"][..], Moving),
            ("InProgress", "Submitted", &["preview"], Moving),
            ("InProgress", "Publishing", &["live"], Moving),
            ("InProgress", "SomethingNew", &["live"], Moving),
            ("inprogress", "FAILED", &["live"], Failed),
            ("InProgress", "FailedInCertification", &["live"], Failed),
            ("Published", "Failed", &["live"], Failed),
            ("Published", "ReadyToPublish", &["preview"], Reached(Target::Preview)),
            ("Published", "InStore", &["live"], Reached(Target::Live)),
            ("Published", "Ready", &["preview"], Reached(Target::Preview)),
            ("Published", "Ready", &["LIVE"], Reached(Target::Live)),
            ("Published", "Published", &["preview", "live"], Reached(Target::Live)),
            ("Published", "", &["preview"], Reached(Target::Preview)),
            ("Published", "Ready", &["moon"], Unclear),
            ("Published", "Ready", &[], Unclear),
            ("Evaporated", "Ready", &["live"], Moving),
        ] {
            let found = States::default().standing(&submission(state, substate, scopes));
            assert_eq!(found, expected, "{state}/{substate} {scopes:?}");
        }
    }

    #[test]
    fn the_configuration_overrides_single_pairs_and_leaves_the_rest() {
        let states: States = r#"{"Published/ReadyToPublish": "moving", "Evaporated/*": "failed"}"#.parse().unwrap();
        let standing = |state, substate| states.standing(&submission(state, substate, &["live"]));
        assert_eq!(standing("Published", "ReadyToPublish"), Standing::Moving);
        assert_eq!(standing("Evaporated", "anything"), Standing::Failed);
        assert_eq!(standing("Published", "InStore"), Standing::Reached(Target::Live));
        for bad in ["[]", r#"{"Published": "live"}"#, r#"{"/x": "live"}"#, r#"{"a/b": "somewhere"}"#] {
            assert!(bad.parse::<States>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_newest_is_the_one_with_the_highest_number_then_the_longest_id() {
        let older = submission("Published", "InStore", &[]);
        let newer = Submission { release_number: Some(9), ..older.clone() };
        assert!(newer.age() > older.age());
        let longer = Submission { id: "1000".into(), ..older.clone() };
        assert!(longer.age() > older.age());
    }
}
