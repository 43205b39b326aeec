//! Versions of a plan's technical configuration: three integers with dots, compared by number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A package version `a.b.c`, the value of `targetVersion` (contracts/arm.md §1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version([u32; 3]);

/// A text that is not a package version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a package version: expected three integers with dots and without leading zeros, such as 1.4.0")]
pub struct InvalidVersion;

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.').map(part);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => Ok(Self([major, minor, patch])),
            _ => Err(InvalidVersion),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// One part: digits only, since `parse` alone would take a sign; no leading zero, since the text goes to Azure as it is.
fn part(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_text() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.10.0") > version("1.9.9"));
        assert!(version("2.0.0") > version("1.99.99"));
        assert_eq!(version("1.4.0").to_string(), "1.4.0");
    }

    #[test]
    fn anything_but_three_plain_integers_is_refused() {
        for bad in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "1.2.x",
            "+1.2.3",
            "-1.2.3",
            "01.2.3",
            "1.2.3 ",
            "1..3",
            "1.2.4294967296",
            "1.2.3&x=1",
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?} was accepted");
        }
        assert!("0.0.4294967295".parse::<Version>().is_ok());
    }
}
