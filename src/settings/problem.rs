//! What is wrong with the settings: every problem at once, each with what to do about it.
//!
//! Values are never repeated, because any of them may be a secret in the wrong place.

use std::fmt;

/// One setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting's name, with the place inside where it is JSON: `OFFERS[0].plans[1]`.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
    pub fix: String,
}

/// Settings that cannot be started with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    /// Everything that is wrong, in the order of the settings.
    pub problems: Vec<Problem>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("one setting is wrong")?,
            count => write!(f, "{count} settings are wrong")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.name, self.why, self.fix)
    }
}
