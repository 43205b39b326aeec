//! Reads timer schedules as Azure Functions does: NCRONTAB of six or five fields, or a TimeSpan. It fires nothing.
//!
//! NCRONTAB is not what cron libraries read. It has no `L`, `W`, `#`, `?`, `+`, nicknames or years, Sunday is only 0,
//! `a/n` runs from `a` to the end, a reversed range is turned round (`FRI-MON` is Monday to Friday), a step of 0 counts
//! as 1, any beginning of an English name stands for it, and a day has to satisfy the day of month *and* the day of
//! week. croner differs in every one of these, so the fields are read here and handed to croner as plain lists; croner
//! does what it is good at, the calendar. Times are UTC, as in Azure (contracts/custom-handler.md §10).

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use super::timespan;
use crate::rollout::Timestamp;

/// When a timer runs.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Cron { times: Box<Cron>, seconds: usize },
    Every(Duration),
}

/// A schedule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither five nor six fields, nor a TimeSpan.
    #[error("schedule {schedule:?} is neither NCRONTAB of six (or five) fields nor hh:mm:ss")]
    Shape {
        /// The schedule.
        schedule: String,
    },
    /// A field cannot be read.
    #[error("schedule {schedule:?}: {field} cannot be {value:?}")]
    Field {
        /// The schedule.
        schedule: String,
        /// Which field.
        field: &'static str,
        /// The part that is wrong.
        value: String,
    },
    /// No such day exists.
    #[error("schedule {schedule:?} never comes round")]
    Never {
        /// The schedule.
        schedule: String,
    },
}

struct Field {
    name: &'static str,
    least: usize,
    greatest: usize,
    words: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field { name: "second", least: 0, greatest: 59, words: &[] },
    Field { name: "minute", least: 0, greatest: 59, words: &[] },
    Field { name: "hour", least: 0, greatest: 23, words: &[] },
    Field { name: "day", least: 1, greatest: 31, words: &[] },
    Field {
        name: "month",
        least: 1,
        greatest: 12,
        words: &[
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ],
    },
    Field {
        name: "day of week",
        least: 0,
        greatest: 6,
        words: &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"],
    },
];

impl Schedule {
    /// Reads one.
    ///
    /// # Errors
    /// If it is neither NCRONTAB nor a TimeSpan above zero, or can never come round.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let schedule = || text.to_owned();
        if let Some(every) = timespan::parse(text) {
            return match every.is_zero() {
                true => Err(ScheduleError::Never { schedule: schedule() }),
                false => Ok(Self { text: schedule(), rule: Rule::Every(every) }),
            };
        }
        let mut fields: Vec<&str> = text.split(' ').filter(|field| !field.is_empty()).collect();
        match fields.len() {
            5 => fields.insert(0, "0"),
            6 => {}
            _ => return Err(ScheduleError::Shape { schedule: schedule() }),
        }
        let mut lists = Vec::with_capacity(FIELDS.len());
        for (field, written) in FIELDS.iter().zip(fields) {
            let values = field.values(written).map_err(|value| ScheduleError::Field {
                schedule: schedule(),
                field: field.name,
                value,
            })?;
            lists.push(values);
        }
        let pattern: Vec<String> = FIELDS.iter().zip(&lists).map(|(field, values)| field.listed(values)).collect();
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).dom_and_dow(true).build();
        let never = || ScheduleError::Never { schedule: schedule() };
        let times = Box::new(parser.parse(&pattern.join(" ")).map_err(|_| never())?);
        let parsed = Self { text: schedule(), rule: Rule::Cron { times, seconds: lists[0].len() } };
        parsed.next_after(DateTime::UNIX_EPOCH).ok_or_else(never)?;
        Ok(parsed)
    }

    /// The first time after that one; `None` only beyond croner's calendar, which ends in the year 5000.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Cron { times, .. } => times.find_next_occurrence(&time, false).ok(),
            Rule::Every(every) => time.checked_add_signed(TimeDelta::from_std(*every).ok()?),
        }
    }

    /// Whether it may run more than once within a minute: such timers are not monitored.
    pub fn runs_more_than_once_a_minute(&self) -> bool {
        match &self.rule {
            Rule::Cron { seconds, .. } => *seconds > 1,
            Rule::Every(every) => *every < Duration::from_secs(60),
        }
    }

    /// Whether it keeps to the wall clock (`Schedule.AdjustForDST` in the envelope).
    pub fn keeps_to_the_wall_clock(&self) -> bool {
        matches!(self.rule, Rule::Cron { .. })
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Field {
    /// The values a field names, or the part of it that cannot be read.
    fn values(&self, written: &str) -> Result<Vec<usize>, String> {
        let mut named = vec![false; self.greatest + 1];
        for part in written.split(',') {
            let (from, to, step) = self.range(part).ok_or_else(|| part.to_owned())?;
            named[from..=to].iter_mut().step_by(step).for_each(|value| *value = true);
        }
        Ok((0..named.len()).filter(|value| named[*value]).collect())
    }

    fn range(&self, part: &str) -> Option<(usize, usize, usize)> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(digits(step)?.max(1))),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.greatest),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None if step.is_some() => (self.value(range)?, self.greatest),
            None => (self.value(range)?, self.value(range)?),
        };
        Some((from.min(to), from.max(to), step.unwrap_or(1)))
    }

    fn value(&self, written: &str) -> Option<usize> {
        if written.starts_with(|first: char| first.is_ascii_digit()) {
            return digits(written).filter(|value| (self.least..=self.greatest).contains(value));
        }
        let written = written.to_ascii_lowercase();
        let at = self.words.iter().position(|word| !written.is_empty() && word.starts_with(&written))?;
        Some(at + self.least)
    }

    fn listed(&self, values: &[usize]) -> String {
        if values.len() == self.greatest - self.least + 1 {
            return "*".to_owned();
        }
        values.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

fn digits(written: &str) -> Option<usize> {
    let plain = !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_digit());
    written.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("the tables have valid times")
    }

    #[test]
    fn the_next_times_are_those_of_ncrontab() {
        // 2026-01-16 is a Friday.
        for (schedule, from, next) in [
            ("*/5 * * * * *", "2026-01-16T08:30:11Z", &["2026-01-16T08:30:15Z", "2026-01-16T08:30:20Z"][..]),
            ("0 */5 * * * *", "2026-01-16T08:30:00Z", &["2026-01-16T08:35:00Z"]),
            ("0 5,55,10 * * * *", "2026-01-16T08:10:00Z", &["2026-01-16T08:55:00Z", "2026-01-16T09:05:00Z"]),
            ("0 0 9-11 * * *", "2026-01-16T10:00:00Z", &["2026-01-16T11:00:00Z", "2026-01-17T09:00:00Z"]),
            ("0 10-20/5 8 * * *", "2026-01-16T08:00:00Z", &["2026-01-16T08:10:00Z", "2026-01-16T08:15:00Z"]),
            // a/n runs from a to the end of the field.
            (
                "0 50/4 * * * *",
                "2026-01-16T08:30:00Z",
                &["2026-01-16T08:50:00Z", "2026-01-16T08:54:00Z", "2026-01-16T08:58:00Z", "2026-01-16T09:50:00Z"],
            ),
            (
                "0 0 0 */10 * *",
                "2026-01-16T00:00:00Z",
                &["2026-01-21T00:00:00Z", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"],
            ),
            // A step beyond the field, and a step of nothing.
            ("0 3/100 * * * *", "2026-01-16T08:30:00Z", &["2026-01-16T09:03:00Z", "2026-01-16T10:03:00Z"]),
            ("0 10-12/0 * * * *", "2026-01-16T08:10:00Z", &["2026-01-16T08:11:00Z"]),
            // Names, in full or begun, in any case.
            ("0 0 2 * Jan,FEBRUARY Mon-Fri", "2026-01-16T03:00:00Z", &["2026-01-19T02:00:00Z"]),
            ("0 0 2 * * sun", "2026-01-16T00:00:00Z", &["2026-01-18T02:00:00Z"]),
            ("0 0 0 1 Ju *", "2026-01-16T00:00:00Z", &["2026-06-01T00:00:00Z"]),
            ("0 0 2 * * 0", "2026-01-16T00:00:00Z", &["2026-01-18T02:00:00Z", "2026-01-25T02:00:00Z"]),
            ("0 0 2 * * 6", "2026-01-16T00:00:00Z", &["2026-01-17T02:00:00Z"]),
            ("0 0 2 * * 0-6", "2026-01-16T02:00:00Z", &["2026-01-17T02:00:00Z"]),
            // A reversed range is turned round: Monday to Friday.
            ("0 0 2 * * FRI-MON", "2026-01-16T03:00:00Z", &["2026-01-19T02:00:00Z", "2026-01-20T02:00:00Z"]),
            // Day of month and day of week have to agree.
            (
                "0 0 0 13 * FRI",
                "2026-01-16T00:00:00Z",
                &["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z", "2026-11-13T00:00:00Z"],
            ),
            ("0 0 0 1-7 * MON", "2026-01-16T00:00:00Z", &["2026-02-02T00:00:00Z", "2026-03-02T00:00:00Z"]),
            // Ends of months, leap years.
            ("0 0 0 31 * *", "2026-01-31T00:00:00Z", &["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]),
            ("0 0 0 30 * *", "2026-01-30T00:00:00Z", &["2026-03-30T00:00:00Z"]),
            ("0 0 0 29 2 *", "2026-01-16T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            ("0 0 0 29 FEB *", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]),
            ("0 0 0 29 2 MON", "2026-01-16T00:00:00Z", &["2044-02-29T00:00:00Z"]),
            ("59 59 23 31 12 *", "2026-12-31T23:59:58Z", &["2026-12-31T23:59:59Z", "2027-12-31T23:59:59Z"]),
            ("0 0 0 1 1 *", "2026-12-31T23:59:59Z", &["2027-01-01T00:00:00Z"]),
            // Five fields have no seconds.
            ("*/15 8 * * *", "2026-01-16T08:30:11Z", &["2026-01-16T08:45:00Z", "2026-01-17T08:00:00Z"]),
            // Fractions of a second do not make a time come twice.
            ("* * * * * *", "2026-01-16T08:30:10.7Z", &["2026-01-16T08:30:11Z", "2026-01-16T08:30:12Z"]),
            ("  0   0 2 * * * ", "2026-01-16T03:00:00Z", &["2026-01-17T02:00:00Z"]),
            // A TimeSpan counts from wherever it is.
            ("00:00:15", "2026-01-16T08:30:11Z", &["2026-01-16T08:30:26Z", "2026-01-16T08:30:41Z"]),
            ("1.00:00:00", "2026-01-16T08:30:11Z", &["2026-01-17T08:30:11Z"]),
        ] {
            let parsed = Schedule::parse(schedule).expect(schedule);
            let mut time = at(from);
            for expected in next {
                time = parsed.next_after(time).expect(schedule);
                assert_eq!(time, at(expected), "{schedule} after {from}");
            }
        }
    }

    #[test]
    fn what_ncrontab_does_not_have_is_refused() {
        for schedule in [
            "",
            "*",
            "* * * *",
            "* * * * * * *",
            "0 0 0 1 1 * 2027",
            "@daily",
            "@every 5s",
            "0 0 0 L * *",
            "0 0 0 LW * *",
            "0 0 0 15W * *",
            "0 0 0 * * 5L",
            "0 0 0 * * MON#2",
            "0 0 0 ? * MON",
            "0 0 0 1 * ?",
            "0 0 0 1 * +MON",
            "0 0 0 * * 7",
            "0 0 0 * * 1-7",
            "60 * * * * *",
            "0 60 * * * *",
            "0 0 24 * * *",
            "0 0 0 0 * *",
            "0 0 0 32 * *",
            "0 0 0 * 0 *",
            "0 0 0 * 13 *",
            "0 0 0 * Foo *",
            "0 0 MON * * *",
            "/5 * * * * *",
            "*/ * * * * *",
            "*/x * * * * *",
            "*/-5 * * * * *",
            "1, * * * * *",
            ",1 * * * * *",
            "1,,2 * * * * *",
            "1- * * * * *",
            "-1 * * * * *",
            "1-2-3 * * * * *",
            "** * * * * *",
            "*-5 * * * * *",
            "+1 * * * * *",
            "1.5 * * * * *",
            "0\t0 0 * * *",
            "0 0 0 * * Mond ay",
            "0 0 0 * * Mondays",
            "00:00:00",
            "5",
            "25:00:00",
        ] {
            assert!(Schedule::parse(schedule).is_err(), "{schedule:?} was accepted");
        }
    }

    #[test]
    fn a_day_that_does_not_exist_never_comes_round() {
        for schedule in ["0 0 0 30 2 *", "0 0 0 31 4,6,9,11 *"] {
            let never = ScheduleError::Never { schedule: schedule.to_owned() };
            assert_eq!(Schedule::parse(schedule).map(drop), Err(never));
        }
    }

    #[test]
    fn an_error_names_the_field_and_the_part() {
        let error = Schedule::parse("0 0 5,2x * * *").expect_err("this is wrong");
        assert_eq!(error.to_string(), "schedule \"0 0 5,2x * * *\": hour cannot be \"2x\"");
    }

    #[test]
    fn only_timers_of_at_most_one_run_a_minute_are_monitored() {
        for (schedule, often) in [
            ("0 * * * * *", false),
            ("30 * * * * *", false),
            ("*/30 * * * * *", true),
            ("*/15 8 * * *", false),
            ("00:00:59", true),
            ("00:01:00", false),
        ] {
            let parsed = Schedule::parse(schedule).expect(schedule);
            assert_eq!(parsed.runs_more_than_once_a_minute(), often, "{schedule}");
        }
    }
}
