//! How a version is brought out: canaries, waves, failure budget, how many at once.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::resource_id::ApplicationId;

/// A rollout's strategy (design §4). Every member has a default; an unknown member is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Strategy {
    /// Who goes first, alone: a number of deployments, or named ones.
    pub canaries: Canaries,
    /// The waves after the canaries: shares of the whole or counts, cumulative. The last is always everything.
    pub waves: Vec<Share>,
    /// How many refreshes may fail before the rollout pauses, per wave and among all started.
    pub max_failures: Share,
    /// How many refreshes may be between their first message and their end at once.
    pub max_in_flight: MaxInFlight,
    /// How long to wait between the end of a wave and the next one.
    #[serde(with = "iso_duration")]
    pub pause_between_waves: Duration,
    /// Whether a person has to approve the last wave; the only wave, where there is but one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approve_last_wave: bool,
}

/// The members of a strategy, by the names that it is written with.
const MEMBERS: [&str; 6] = ["canaries", "waves", "maxFailures", "maxInFlight", "pauseBetweenWaves", "approveLastWave"];

/// Reads a strategy as it is stored: what a newer version says besides is passed over, so that both may run beside each
/// other. What a person writes is read strictly.
pub(crate) fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Strategy, D::Error> {
    known_members(serde_json::Map::deserialize(deserializer)?, &MEMBERS)
}

/// Reads what has these members and no others; whatever else is there is passed over.
pub(super) fn known_members<T: DeserializeOwned, E: serde::de::Error>(
    mut members: serde_json::Map<String, serde_json::Value>,
    known: &[&str],
) -> Result<T, E> {
    members.retain(|name, _| known.contains(&name.as_str()));
    serde_json::from_value(serde_json::Value::Object(members)).map_err(E::custom)
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            canaries: Canaries::Count(1),
            waves: vec![Share::Percent(Percent(10)), Share::Percent(Percent(100))],
            max_failures: Share::Percent(Percent(5)),
            max_in_flight: MaxInFlight(2_000),
            pause_between_waves: Duration::ZERO,
            approve_last_wave: false,
        }
    }
}

/// The deployments that go first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a count of deployments, or a list of application ids")]
pub enum Canaries {
    /// So many; 0 means none.
    Count(u32),
    /// These, such as the publisher's own test deployments.
    Named(Vec<ApplicationId>),
}

impl Canaries {
    /// How many deployments go first.
    pub fn count(&self) -> u64 {
        match self {
            Self::Count(count) => u64::from(*count),
            Self::Named(ids) => ids.len() as u64,
        }
    }
}

/// A share of the whole such as `"10%"`, or a plain count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a count, or a percentage such as \"10%\"")]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(Percent),
}

impl Share {
    fn rounded_up(self, whole: u64) -> u64 {
        match self {
            Self::Count(count) => u64::from(count),
            Self::Percent(Percent(percent)) => (whole * u64::from(percent)).div_ceil(100),
        }
    }

    /// The budget that this share is of `members`: rounded down, as design §4 says.
    pub fn rounded_down(self, members: u64) -> u64 {
        match self {
            Self::Count(count) => u64::from(count),
            Self::Percent(Percent(percent)) => members * u64::from(percent) / 100,
        }
    }
}

/// A whole percentage from 0 to 100, written `"10%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// A percentage, if `value` is at most 100.
    pub fn new(value: u8) -> Option<Self> {
        (value <= 100).then_some(Self(value))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}%", self.0))
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_suffix('%')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .and_then(Self::new)
            .ok_or_else(|| serde::de::Error::custom("expected a percentage from \"0%\" to \"100%\""))
    }
}

/// How many refreshes of a rollout may be on their way at once; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct MaxInFlight(u32);

impl MaxInFlight {
    /// The number.
    pub fn get(self) -> u64 {
        u64::from(self.0)
    }
}

impl TryFrom<u32> for MaxInFlight {
    type Error = &'static str;

    fn try_from(value: u32) -> Result<Self, Self::Error> {
        if value == 0 { Err("maxInFlight must be at least 1") } else { Ok(Self(value)) }
    }
}

impl From<MaxInFlight> for u32 {
    fn from(value: MaxInFlight) -> Self {
        value.0
    }
}

impl Strategy {
    /// Where each wave ends, as a cumulative number of deployments of `whole`; the canaries, if any, are the first.
    /// Each wave adds at least one deployment and the last is always `whole`; empty only if `whole` is 0.
    pub fn wave_ends(&self, whole: u64) -> Vec<u64> {
        let canaries = self.canaries.count();
        let first = (canaries > 0).then_some(canaries);
        let shares = self.waves.iter().map(|share| share.rounded_up(whole));
        let mut ends: Vec<u64> = Vec::new();
        for end in first.into_iter().chain(shares).chain([whole]) {
            let before = ends.last().copied().unwrap_or(0);
            if before < whole {
                ends.push(end.max(before + 1).min(whole));
            }
        }
        ends
    }

    /// Whether the first wave is one of canaries.
    pub fn has_canaries(&self) -> bool {
        self.canaries.count() > 0
    }
}

/// Durations in ISO 8601 (`PT10M`), whole seconds.
pub(crate) mod iso_duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("PT{}S", duration.as_secs()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom(
                "expected a duration in ISO 8601 of at most 30 days, such as \"PT10M\" or \"P1DT2H\"",
            )
        })
    }

    /// Days, hours, minutes and seconds, each at most once and in this order; at most 30 days in all.
    pub fn parse(text: &str) -> Option<Duration> {
        let (days, time) = match text.strip_prefix('P')?.split_once('T') {
            Some((days, time)) if !time.is_empty() => (days, time),
            Some(_) => return None,
            None => (text.strip_prefix('P')?, ""),
        };
        let mut seconds = 0u64;
        let mut any = false;
        let mut rest = days;
        for (unit, worth) in [('D', 86_400), ('T', 0), ('H', 3_600), ('M', 60), ('S', 1)] {
            if unit == 'T' {
                if !rest.is_empty() {
                    return None;
                }
                rest = time;
            } else if let Some((digits, after)) = rest.split_once(unit) {
                let digits = (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)?;
                seconds = seconds.checked_add(digits.parse::<u64>().ok()?.checked_mul(worth)?)?;
                rest = after;
                any = true;
            }
        }
        (any && rest.is_empty() && seconds <= 30 * 86_400).then_some(Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Canaries, Duration, Share, Strategy, iso_duration};

    fn strategy(json: &str) -> Strategy {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_default_is_one_canary_then_a_tenth_then_the_rest() {
        assert_eq!(Strategy::default().wave_ends(300), [1, 30, 300]);
        assert_eq!(Strategy::default().wave_ends(3), [1, 2, 3]);
        assert_eq!(Strategy::default().wave_ends(1), [1]);
        assert_eq!(Strategy::default().wave_ends(0), [0u64; 0]);
        assert_eq!(strategy("{}"), Strategy::default());
    }

    #[test]
    fn shares_round_up_counts_are_cumulative_and_the_last_wave_is_everything() {
        assert_eq!(
            strategy(r#"{"canaries": 0, "waves": ["10%", 500, "50%"]}"#).wave_ends(2_001),
            [201, 500, 1_001, 2_001]
        );
        assert_eq!(strategy(r#"{"canaries": 0, "waves": ["100%"]}"#).wave_ends(7), [7]);
        assert_eq!(strategy(r#"{"canaries": 5, "waves": []}"#).wave_ends(3), [3]);
        assert_eq!(strategy(r#"{"canaries": 5, "waves": [2, 2]}"#).wave_ends(9), [5, 6, 7, 9]);
    }

    #[test]
    fn a_budget_is_rounded_down() {
        let budget = Strategy::default().max_failures;
        assert_eq!([1, 19, 20, 39, 40].map(|members| budget.rounded_down(members)), [0, 0, 1, 1, 2]);
        assert_eq!(Share::Count(20).rounded_down(1), 20);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (bad, word) in [
            (r#"{"canary": 1}"#, "canary"),
            (r#"{"waves": ["101%"]}"#, "percentage"),
            (r#"{"waves": ["-1%"]}"#, "percentage"),
            (r#"{"waves": [-1]}"#, "count"),
            (r#"{"maxInFlight": 0}"#, "at least 1"),
            (r#"{"pauseBetweenWaves": "10 minutes"}"#, "ISO 8601"),
            (r#"{"pauseBetweenWaves": "PT"}"#, "ISO 8601"),
            (r#"{"pauseBetweenWaves": "P31D"}"#, "ISO 8601"),
            (r#"{"canaries": ["x"]}"#, "canaries"),
            (r#"{"approveLastWave": "yes"}"#, "boolean"),
        ] {
            let error = serde_json::from_str::<Strategy>(bad).unwrap_err().to_string();
            assert!(error.contains(word) || word == "canaries", "{bad}: {error}");
        }
    }

    #[test]
    fn a_stored_one_may_say_more_and_everything_that_is_written_is_read() {
        #[derive(serde::Deserialize)]
        struct Stored(#[serde(deserialize_with = "super::stored")] Strategy);
        let written = Strategy { approve_last_wave: true, canaries: Canaries::Count(3), ..Strategy::default() };
        let mut json = serde_json::to_value(&written).unwrap();
        assert_eq!(
            json.as_object().unwrap().len(),
            super::MEMBERS.len(),
            "each member has its name among the known ones"
        );
        json["addedLater"] = serde_json::json!({"by": "a newer version"});
        assert_eq!(serde_json::from_value::<Stored>(json).unwrap().0, written);
    }

    #[test]
    fn durations_are_read_in_iso_8601() {
        for (text, seconds) in
            [("PT10M", 600), ("P1DT2H", 93_600), ("PT0S", 0), ("P30D", 2_592_000), ("PT1H1M1S", 3_661)]
        {
            assert_eq!(iso_duration::parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "P", "PT", "10", "PT1M1H", "P1H", "PT1D", "PT1.5S", "PTM", "P1DT", "PT99999999999999999999S"] {
            assert_eq!(iso_duration::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_wave_adds_someone_and_together_they_are_everyone(
            canaries in 0u32..20, shares in proptest::collection::vec(0u32..3_000, 0..6), whole in 0u64..3_000
        ) {
            let strategy = Strategy {
                canaries: Canaries::Count(canaries),
                waves: shares.into_iter().map(Share::Count).collect(),
                ..Strategy::default()
            };
            let ends = strategy.wave_ends(whole);
            prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(ends.last().copied().unwrap_or(0), whole);
            prop_assert!(ends.first().is_none_or(|first| *first > 0));
        }
    }
}
