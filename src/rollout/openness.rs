//! When a deployment may be touched: holds, and maintenance windows.
//!
//! A hold, with an end or without, takes a deployment out of every rollout: its refresh ends skipped, so that rollouts end,
//! and it is a late joiner once the hold is over. A maintenance window only says *when*: its refresh waits, parked outside
//! its wave, spends nothing, and is skipped where no window could be used for [`PATIENCE`].

use std::fmt;
use std::time::Duration;

use chrono::{Datelike, Days, NaiveTime, Timelike, Weekday};
use serde::{Deserialize, Deserializer, Serialize};

use super::Timestamp;
use super::strategy::{iso_duration, known_members};

/// How long a refresh waits for a window that it can use: two openings of a weekly one, and a day.
pub const PATIENCE: Duration = Duration::from_secs(15 * 24 * 60 * 60);
/// How many windows a deployment may have.
pub const MOST_WINDOWS: usize = 14;
/// The shortest window: shorter ones would be missed between two rounds of the timer.
const SHORTEST: Duration = Duration::from_secs(10 * 60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The greatest distance of a local time from UTC, in minutes.
const FARTHEST: i32 = 14 * 60;

/// Somebody's word that a deployment is not to be touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Until when; without end until it is released if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why, in a person's words.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

impl Hold {
    /// Whether it is in force.
    pub fn is_on(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// A time of each week within which a deployment may be refreshed: when the POST may be made, not when it has to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct MaintenanceWindow {
    days: Vec<Weekday>,
    start: NaiveTime,
    duration: Duration,
    /// Minutes that local time is ahead of UTC.
    offset: i32,
}

/// A window as it is written: `{"days": ["sat", "sun"], "start": "22:00", "duration": "PT4H", "utcOffset": "+02:00"}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    days: Vec<String>,
    start: String,
    #[serde(with = "iso_duration")]
    duration: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    utc_offset: Option<String>,
}

/// The members of a window, by the names that it is written with.
const MEMBERS: [&str; 4] = ["days", "start", "duration", "utcOffset"];

/// Reads windows as they are stored: what a newer version says besides is passed over, so that both may run beside each
/// other. What a person writes is read strictly.
pub(crate) fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MaintenanceWindow>, D::Error> {
    let windows = Vec::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)?;
    windows.into_iter().map(|window| known_members(window, &MEMBERS)).collect()
}

impl TryFrom<Written> for MaintenanceWindow {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let mut days = Vec::with_capacity(written.days.len());
        for word in &written.days {
            let day = WEEK.iter().find(|(known, _)| known == word);
            let (_, day) = day.ok_or_else(|| format!("days: {word:?} is none of mon, tue, wed, thu, fri, sat, sun"))?;
            if days.contains(day) {
                return Err(format!("days: {word} is there twice"));
            }
            days.push(*day);
        }
        if days.is_empty() {
            return Err("days: name at least one".to_owned());
        }
        let start = clock_time(&written.start).ok_or("start: expected a time of day such as \"22:00\"")?;
        if !(SHORTEST..=LONGEST).contains(&written.duration) {
            return Err("duration: expected from PT10M to PT24H".to_owned());
        }
        let offset = match written.utc_offset.as_deref() {
            None => 0,
            Some(text) => offset(text).ok_or("utcOffset: expected an offset such as \"+02:00\", at most 14 hours")?,
        };
        Ok(Self { days, start, duration: written.duration, offset })
    }
}

impl From<MaintenanceWindow> for Written {
    fn from(window: MaintenanceWindow) -> Self {
        let word = |day: &Weekday| WEEK.iter().find(|(_, known)| known == day).map_or("", |(word, _)| word).to_owned();
        let sign = if window.offset < 0 { '-' } else { '+' };
        let offset = window.offset.unsigned_abs();
        Self {
            days: window.days.iter().map(word).collect(),
            start: format!("{:02}:{:02}", window.start.hour(), window.start.minute()),
            duration: window.duration,
            utc_offset: (offset != 0).then(|| format!("{sign}{:02}:{:02}", offset / 60, offset % 60)),
        }
    }
}

/// In words: `sat, sun 22:00 (+02:00) for 240 min`.
impl fmt::Display for MaintenanceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { days, start, duration, utc_offset } = self.clone().into();
        let (days, zone, minutes) = (days.join(", "), utc_offset.as_deref().unwrap_or("UTC"), duration.as_secs() / 60);
        write!(f, "{days} {start} ({zone}) for {minutes} min")
    }
}

const WEEK: [(&str, Weekday); 7] = [
    ("mon", Weekday::Mon),
    ("tue", Weekday::Tue),
    ("wed", Weekday::Wed),
    ("thu", Weekday::Thu),
    ("fri", Weekday::Fri),
    ("sat", Weekday::Sat),
    ("sun", Weekday::Sun),
];

/// `HH:MM`, five characters.
fn clock_time(text: &str) -> Option<NaiveTime> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |digits: &str| {
        // `parse` alone would take a sign.
        let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|_| plain)
    };
    NaiveTime::from_hms_opt(two(hours)?, two(minutes)?, 0)
}

/// `+HH:MM` or `-HH:MM`, in minutes.
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) =
        text.strip_prefix('+').map(|rest| (1, rest)).or(text.strip_prefix('-').map(|rest| (-1, rest)))?;
    let time = clock_time(rest)?;
    let minutes = i32::try_from(time.hour() * 60 + time.minute()).ok()?;
    (minutes <= FARTHEST).then_some(sign * minutes)
}

impl MaintenanceWindow {
    /// When it opens, if it is closed now; `None` if it is open.
    fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ahead = chrono::TimeDelta::minutes(i64::from(self.offset));
        let today = (now + ahead).date_naive();
        let mut next: Option<Timestamp> = None;
        // Yesterday's may still be open, and the same day of next week is the farthest.
        for date in
            [today.pred_opt()].into_iter().flatten().chain((0..=7).filter_map(|n| today.checked_add_days(Days::new(n))))
        {
            if !self.days.contains(&date.weekday()) {
                continue;
            }
            let opens = date.and_time(self.start).and_utc() - ahead;
            if opens <= now && now < opens + self.duration {
                return None;
            }
            if opens > now {
                next = Some(next.map_or(opens, |next| next.min(opens)));
            }
        }
        next
    }
}

/// When the first of some windows opens, if all are closed now; `None` if one is open, or there are none.
pub fn opens_at(windows: &[MaintenanceWindow], now: Timestamp) -> Option<Timestamp> {
    let mut next: Option<Timestamp> = None;
    for window in windows {
        let opens = window.opens_at(now)?;
        next = Some(next.map_or(opens, |next| next.min(opens)));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(json: &str) -> Result<MaintenanceWindow, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn opens(json: &str, now: &str) -> Option<String> {
        let windows = [window(json).unwrap()];
        opens_at(&windows, now.parse().unwrap()).map(|at| at.format("%a %d %H:%M").to_string())
    }

    #[test]
    fn a_window_is_open_from_its_start_to_its_end_and_over_midnight() {
        // 2026-03-14 is a Saturday.
        let saturday = r#"{"days": ["sat"], "start": "22:00", "duration": "PT4H"}"#;
        for (now, expected) in [
            ("2026-03-10T12:00:00Z", Some("Sat 14 22:00")),
            ("2026-03-14T21:59:59Z", Some("Sat 14 22:00")),
            ("2026-03-14T22:00:00Z", None),
            ("2026-03-15T01:59:59Z", None),
            ("2026-03-15T02:00:00Z", Some("Sat 21 22:00")),
        ] {
            assert_eq!(opens(saturday, now).as_deref(), expected, "{now}");
        }
    }

    #[test]
    fn days_are_those_of_the_local_time() {
        let east = r#"{"days": ["mon"], "start": "01:00", "duration": "PT1H", "utcOffset": "+13:00"}"#;
        assert_eq!(opens(east, "2026-03-10T00:00:00Z").as_deref(), Some("Sun 15 12:00"));
        let west = r#"{"days": ["mon"], "start": "23:00", "duration": "PT1H", "utcOffset": "-05:30"}"#;
        assert_eq!(opens(west, "2026-03-10T00:00:00Z").as_deref(), Some("Tue 10 04:30"));
        assert_eq!(opens(west, "2026-03-10T04:30:00Z"), None);
    }

    #[test]
    fn of_several_windows_the_first_counts() {
        let windows = [
            window(r#"{"days": ["sun"], "start": "02:00", "duration": "PT2H"}"#).unwrap(),
            window(r#"{"days": ["wed", "fri"], "start": "02:00", "duration": "PT2H"}"#).unwrap(),
        ];
        let at = |now: &str| opens_at(&windows, now.parse().unwrap()).map(|at| at.format("%a %H").to_string());
        assert_eq!(at("2026-03-10T12:00:00Z").as_deref(), Some("Wed 02"));
        assert_eq!(at("2026-03-15T03:00:00Z"), None);
        assert_eq!(opens_at(&[], "2026-03-15T03:00:00Z".parse().unwrap()), None);
    }

    #[test]
    fn a_window_is_written_back_as_it_was_read() {
        for json in [
            r#"{"days":["sat","sun"],"start":"22:00","duration":"PT14400S"}"#,
            r#"{"days":["mon"],"start":"00:05","duration":"PT600S","utcOffset":"-05:30"}"#,
        ] {
            assert_eq!(serde_json::to_string(&window(json).unwrap()).unwrap(), json);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (json, why) in [
            (r#"{"days": [], "start": "22:00", "duration": "PT4H"}"#, "days"),
            (r#"{"days": ["Sat"], "start": "22:00", "duration": "PT4H"}"#, "days"),
            (r#"{"days": ["sat", "sat"], "start": "22:00", "duration": "PT4H"}"#, "twice"),
            (r#"{"days": ["sat"], "start": "24:00", "duration": "PT4H"}"#, "start"),
            (r#"{"days": ["sat"], "start": "2:00", "duration": "PT4H"}"#, "start"),
            (r#"{"days": ["sat"], "start": "22:00", "duration": "PT9M"}"#, "duration"),
            (r#"{"days": ["sat"], "start": "22:00", "duration": "PT24H1S"}"#, "duration"),
            (r#"{"days": ["sat"], "start": "22:00", "duration": "4h"}"#, "ISO 8601"),
            (r#"{"days": ["sat"], "start": "22:00", "duration": "PT4H", "utcOffset": "2"}"#, "utcOffset"),
            (r#"{"days": ["sat"], "start": "22:00", "duration": "PT4H", "utcOffset": "++1:00"}"#, "utcOffset"),
            (r#"{"days": ["sat"], "start": "+1:00", "duration": "PT4H"}"#, "start"),
            (r#"{"days": ["sat"], "start": "22:00", "duration": "PT4H", "utcOffset": "+14:01"}"#, "utcOffset"),
            (r#"{"days": ["sat"], "start": "22:00", "duration": "PT4H", "timeZone": "CET"}"#, "timeZone"),
        ] {
            let refused = window(json).unwrap_err();
            assert!(refused.contains(why), "{json}: {refused}");
        }
    }
}
