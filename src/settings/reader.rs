//! Reads single values from the map of settings and collects what is wrong with them.
//!
//! An empty value counts as absent, because that is how application settings are switched off without being removed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::Secret;
use super::endpoint::{Endpoint, InvalidEndpoint};
use super::problem::Problem;

/// What a value must be, in words, when it is an endpoint.
const ENDPOINT: &str = "give an https address, or http to localhost, such as https://management.azure.com";

/// Below so many characters a secret can be guessed.
const SHORT: usize = 16;

/// The settings as they came, and the problems found so far.
pub(super) struct Reader<'a> {
    values: &'a BTreeMap<String, String>,
    pub(super) problems: Vec<Problem>,
    pub(super) remarks: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(values: &'a BTreeMap<String, String>) -> Self {
        Self { values, problems: Vec::new(), remarks: Vec::new() }
    }

    /// The value, trimmed; none if it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.text(name).map(Secret::new)
    }

    /// A secret that somebody else might guess where it is short.
    pub(super) fn long_secret(&mut self, name: &str) -> Option<Secret> {
        let secret = self.secret(name)?;
        if secret.expose().len() < SHORT {
            self.odd(name, format!("it is shorter than {SHORT} characters"), "use a long random value");
        }
        Some(secret)
    }

    /// Notes that a setting is wrong.
    pub(super) fn wrong(&mut self, name: impl Into<String>, why: impl ToString, fix: impl Into<String>) {
        self.problems.push(Problem { name: name.into(), why: why.to_string(), fix: fix.into() });
    }

    /// Notes that a setting is odd but can be started with.
    pub(super) fn odd(&mut self, name: impl Into<String>, why: impl ToString, fix: impl Into<String>) {
        self.remarks.push(Problem { name: name.into(), why: why.to_string(), fix: fix.into() });
    }

    /// The value if `is` says that it is one; else a problem with `why` and `fix`, and none.
    pub(super) fn checked(&mut self, name: &str, is: impl Fn(&str) -> bool, why: &str, fix: &str) -> Option<String> {
        let value = self.text(name)?;
        if is(value) {
            return Some(value.to_owned());
        }
        self.wrong(name, why, fix);
        None
    }

    /// One of some words, in any case.
    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.text(name)?;
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value));
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(name, "it is not a word this setting knows", format!("give {}", words.join(" or ")));
        }
        found.map(|(_, meaning)| *meaning)
    }

    pub(super) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.word(name, &[("true", true), ("false", false)])
    }

    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<u32>, unit: &str) -> Option<u32> {
        let value = self.text(name)?;
        let number = value.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            self.wrong(name, "it is not a number in its range", format!("give {unit} from {low} to {high}"));
        }
        number
    }

    pub(super) fn guid(&mut self, name: &str) -> Option<String> {
        let is_guid = |text: &str| uuid::Uuid::try_parse(text).is_ok() && text.len() == 36;
        self.checked(name, is_guid, "it is not a GUID", "give it as 00000000-0000-0000-0000-000000000000")
    }

    /// A tenant or client id. Names of tenants and the ids of simulators are allowed, whatever could leave its place in a
    /// URL is not.
    pub(super) fn directory_id(&mut self, name: &str) -> Option<String> {
        self.checked(
            name,
            |text| text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')),
            "it holds something else than letters, digits, '-' and '.'",
            "give the id (a GUID) from Microsoft Entra",
        )
    }

    pub(super) fn endpoint(&mut self, name: &str) -> Option<Endpoint> {
        let parsed = Endpoint::parse(self.text(name)?);
        self.taken(name, parsed)
    }

    /// An endpoint, or the default of the setting.
    pub(super) fn endpoint_or_default(&mut self, name: &str) -> Endpoint {
        self.endpoint(name).unwrap_or_else(|| super::default_endpoint(name))
    }

    pub(super) fn taken(&mut self, name: &str, parsed: Result<Endpoint, InvalidEndpoint>) -> Option<Endpoint> {
        match parsed {
            Ok(endpoint) => Some(endpoint),
            Err(why) => {
                self.wrong(name, why, ENDPOINT);
                None
            }
        }
    }

    /// A list with commas; empty items are dropped, so that a comma at the end does no harm.
    pub(super) fn secrets(&mut self, name: &str) -> Vec<Secret> {
        let items = self.text(name).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty());
        let items: Vec<_> = items.collect();
        if items.iter().any(|item| item.len() < SHORT) {
            let why = format!("one of its values is shorter than {SHORT} characters");
            self.odd(name, why, "use long random values");
        }
        items.into_iter().map(Secret::new).collect()
    }

    /// A schedule: six NCRONTAB fields, or five without seconds. Their meaning is the host's business.
    pub(super) fn schedule(&mut self, name: &str) -> String {
        self.checked(
            name,
            |text| matches!(text.split_whitespace().count(), 5 | 6),
            "it does not have six fields",
            "give {second} {minute} {hour} {day} {month} {day of week}, such as 0 */5 * * * *",
        )
        .unwrap_or_else(|| super::default_of(name).unwrap_or_default().to_owned())
    }
}
