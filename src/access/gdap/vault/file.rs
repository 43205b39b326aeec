//! The refresh token in a file of the local mode, refused where anybody but its owner can read it.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{StoredToken, VaultError};
use crate::rollout::Timestamp;
use crate::secret::{Secret, others_can_read};

/// The most that is read of it; a token has a few KB.
const LONGEST: usize = 64 * 1024;

/// The file.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
}

/// Its content; a secret is read as such, and written only here.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content<T> {
    refresh_token: T,
    version: String,
    minted_at: Timestamp,
    user: Option<String>,
}

impl TokenFile {
    /// The file at a path; it need not be there yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self) -> Result<Option<StoredToken>, VaultError> {
        let refused = |reason: String| VaultError::Refused { action: "read", reason };
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(format!("{}: {error}", self.path.display()))),
        };
        if others_can_read(&file).map_err(|error| refused(format!("{}: {error}", self.path.display())))? {
            let path = self.path.display();
            return Err(refused(format!(
                "others can read {path}: run `chmod 600 {path}`, and sign in anew if they may have read it"
            )));
        }
        // Room for more than it ever has, since what is moved to a larger place leaves a copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(LONGEST));
        let read = file.take(LONGEST as u64).read_to_end(&mut text);
        read.map_err(|error| refused(format!("{}: {error}", self.path.display())))?;
        let content: Content<Secret> = serde_json::from_slice(&text).map_err(|_| {
            refused(format!("{} is damaged: sign in again with `permafresh gdap sign-in`", self.path.display()))
        })?;
        Ok(Some(StoredToken {
            refresh_token: content.refresh_token,
            version: content.version,
            minted_at: Some(content.minted_at),
            user: content.user,
        }))
    }

    /// Written beside and moved over, so that there is always a whole one.
    pub(super) fn save(
        &self,
        refresh_token: &Secret,
        user: Option<&str>,
        now: Timestamp,
    ) -> Result<String, VaultError> {
        let failed = |error: std::io::Error| VaultError::Unavailable {
            action: "written",
            reason: format!("{}: {error}", self.path.display()),
            wait: None,
        };
        let content = Content {
            refresh_token: refresh_token.expose(),
            version: Uuid::new_v4().simple().to_string(),
            minted_at: now,
            user: user.map(str::to_owned),
        };
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Made with 0600 by the crate.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        let mut text = Zeroizing::new(Vec::with_capacity(LONGEST));
        serde_json::to_writer(&mut *text, &content).expect("strings and a time always serialise");
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(content.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_timestamp(1_773_144_000, 0).unwrap()
    }

    #[test]
    fn a_token_is_kept_for_its_owner_alone_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::at(folder.path().join("token"));
        assert!(file.read().unwrap().is_none());
        let first = file.save(&"one".into(), Some("anna"), now()).unwrap();
        let second = file.save(&"two".into(), None, now()).unwrap();
        assert_ne!(first, second);
        let stored = file.read().unwrap().unwrap();
        assert_eq!((stored.refresh_token.expose(), stored.version, stored.minted_at), ("two", second, Some(now())));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::at(folder.path().join("token"));
        file.save(&"hunter2".into(), None, now()).unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let error = file.read().unwrap_err();
            assert!(matches!(error, VaultError::Refused { .. }), "{mode:o}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn half_a_file_is_said_to_be_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::at(folder.path().join("token"));
        file.save(&"hunter2".into(), None, now()).unwrap();
        let text = fs::read(file.path()).unwrap();
        fs::write(file.path(), &text[..text.len() / 2]).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("sign in again") && !error.contains("hunter2"), "{error}");
    }
}
