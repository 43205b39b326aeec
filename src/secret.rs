//! A value that must not be seen: keys, client secrets, tokens, `sig`.
//!
//! Refuses to be printed, serialised or compared with `==`: only [`Secret::matches`], in constant time. What it held is
//! overwritten when it is dropped; copies that others make of it are theirs to overwrite (docs/security.md).

use std::fmt;
use std::fs::File;

use bytes::Bytes;
use http::HeaderValue;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// A secret text; `Debug` shows that there is one and nothing else.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl ZeroizeOnDrop for Secret {}

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// As the value of a header, marked as sensitive; `None` if no header can carry it. Its clones share one place in memory,
    /// which is overwritten when the last of them is dropped.
    pub fn into_header(self) -> Option<HeaderValue> {
        struct Kept(Secret);
        impl AsRef<[u8]> for Kept {
            fn as_ref(&self) -> &[u8] {
                self.0.expose().as_bytes()
            }
        }
        if !self.expose().is_ascii() {
            return None;
        }
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(Kept(self))).ok()?;
        value.set_sensitive(true);
        Some(value)
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
        Sha256::digest(self.0.as_bytes()).as_slice().ct_eq(Sha256::digest(presented).as_slice())
    }
}

/// Whether anybody but its owner can read an open file: of the file itself, so that it cannot be exchanged in between. The pipe
/// of a shell is its owner's alone.
#[cfg(unix)]
pub fn others_can_read(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

/// Where files have no such rights, nobody can tell.
#[cfg(not(unix))]
pub fn others_can_read(_file: &File) -> std::io::Result<bool> {
    Ok(false)
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// What others write: an answer with a token, a file that holds one.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
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
        let read: Secret = serde_json::from_str(r#""hunter\u0032""#).unwrap();
        assert!(read.matches("hunter2"));
    }

    #[test]
    fn what_it_held_is_overwritten_when_it_is_dropped() {
        fn is_overwritten<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let secret = Secret::new("hunter2");
        is_overwritten(&secret);
        is_overwritten(&secret.0);
    }

    #[test]
    fn a_header_and_its_clones_are_the_secret_itself_and_no_copies() {
        let secret = Secret::new("Bearer hunter2");
        let place = secret.expose().as_ptr();
        let header = secret.into_header().unwrap();
        assert_eq!(header, "Bearer hunter2");
        assert!(header.is_sensitive());
        assert_eq!((header.as_bytes().as_ptr(), header.clone().as_bytes().as_ptr()), (place, place));
        for unfit in ["a\nb", "\u{e4}", "\u{7f}"] {
            assert!(Secret::new(unfit).into_header().is_none(), "{unfit:?}");
        }
    }

    #[test]
    fn any_of_several_secrets_opens_and_none_of_none_does() {
        let accepted = [Secret::new("old"), Secret::new("new")];
        assert!(Secret::any_matches(&accepted, "old") && Secret::any_matches(&accepted, "new"));
        assert!(!Secret::any_matches(&accepted, "older"));
        assert!(!Secret::any_matches(&[], ""));
    }
}
