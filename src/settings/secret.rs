//! A value that must not be seen: keys, client secrets, `sig`.
//!
//! Refuses to be printed, serialised or compared with `==`: only [`Secret::matches`], in constant time.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// A secret text; `Debug` shows that there is one and nothing else.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one who has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `presented` is this secret, in a time that tells neither how much of it is right nor its length.
    pub fn matches(&self, presented: &str) -> bool {
        self.compare(presented).into()
    }

    /// Whether `presented` is one of `accepted`; the time does not tell which.
    pub fn any_matches(accepted: &[Self], presented: &str) -> bool {
        accepted.iter().fold(Choice::from(0), |found, secret| found | secret.compare(presented)).into()
    }

    /// Digests are compared, since they have one length whatever is presented.
    fn compare(&self, presented: &str) -> Choice {
        Sha256::digest(&self.0).as_slice().ct_eq(Sha256::digest(presented).as_slice())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_matched_whole_and_never_shown() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches("hunter2"));
        for wrong in ["", "hunter", "hunter22", "Hunter2"] {
            assert!(!secret.matches(wrong), "{wrong:?} was accepted");
        }
        assert_eq!(format!("{secret:?}"), "[redacted]");
    }

    #[test]
    fn any_of_several_secrets_opens_and_none_of_none_does() {
        let accepted = [Secret::new("old"), Secret::new("new")];
        assert!(Secret::any_matches(&accepted, "old") && Secret::any_matches(&accepted, "new"));
        assert!(!Secret::any_matches(&accepted, "older"));
        assert!(!Secret::any_matches(&[], ""));
    }
}
