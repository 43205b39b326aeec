//! Where the refresh token lives: a Key Vault secret, or a file that only its owner can read.
//!
//! Reads the newest version, writes a new one, retires the one before. Nothing keeps the token longer than a call needs it,
//! and nothing shows it.

mod file;
mod key_vault;

use std::fmt;
use std::time::Duration;

pub use file::TokenFile;
pub use key_vault::{InvalidVault, KeyVault};

use crate::rollout::Timestamp;
use crate::secret::Secret;

/// How long a refresh token lives (contracts/access.md §2.3).
pub const LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How often a version that was overtaken is written anew.
const RACES: usize = 3;

/// A refresh token and what is known of it.
#[derive(Clone)]
pub struct StoredToken {
    /// The token.
    pub refresh_token: Secret,
    /// Which version of the secret it is; opaque.
    pub version: String,
    /// When it was minted, if that is known.
    pub minted_at: Option<Timestamp>,
    /// Whose it is.
    pub user: Option<String>,
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredToken")
            .field("version", &self.version)
            .field("minted_at", &self.minted_at)
            .finish_non_exhaustive()
    }
}

/// Why the secret could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// It may work later.
    #[error("the secret could not be {action}: {reason}")]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// Why it failed; no body, no token.
        reason: String,
        /// The wait that the vault named.
        wait: Option<Duration>,
    },
    /// It will not work before somebody changes something.
    #[error("the secret could not be {action}: {reason}")]
    Refused {
        /// What was attempted.
        action: &'static str,
        /// Why it failed, and what to do.
        reason: String,
    },
}

/// The place. Two lives, so an enum: a trait would need boxed futures and say no more.
#[derive(Debug)]
pub enum Vault {
    /// Azure Key Vault.
    KeyVault(KeyVault),
    /// A file on this machine.
    File(TokenFile),
}

impl Vault {
    /// The newest version that is enabled; `None` if nobody has signed in yet.
    pub async fn read(&self) -> Result<Option<StoredToken>, VaultError> {
        match self {
            Self::KeyVault(vault) => vault.read().await,
            Self::File(file) => file.read(),
        }
    }

    /// Stores a new version, durable when this returns, and gives its name.
    pub async fn save(&self, refresh_token: &Secret, user: Option<&str>, now: Timestamp) -> Result<String, VaultError> {
        match self {
            Self::KeyVault(vault) => vault.save(refresh_token, user, now).await,
            Self::File(file) => file.save(refresh_token, user, now),
        }
    }

    /// Stores a new version that is the newest in the end, whoever writes at the same time, and switches off what it supersedes.
    /// The inner error is what could not be switched off.
    pub async fn replace(
        &self,
        refresh_token: &Secret,
        user: Option<&str>,
        now: Timestamp,
    ) -> Result<Result<(), VaultError>, VaultError> {
        // Whatever is there is superseded, even if it cannot be read any more.
        let mut above = self.read().await.ok().flatten().map(|stored| stored.version);
        let mut superseded = Vec::new();
        for _ in 0..RACES {
            superseded.extend(above.take());
            let ours = self.save(refresh_token, user, now).await?;
            match self.read().await {
                Ok(Some(newest)) if newest.version != ours => {
                    superseded.push(ours);
                    above = Some(newest.version);
                }
                _ => break,
            }
        }
        let mut outcome = Ok(());
        for version in superseded {
            outcome = outcome.and(self.retire(&version).await);
        }
        Ok(outcome)
    }

    /// The versions that are not switched off, in no order. For who has lost track: it takes a right of its own, and many calls.
    pub async fn enabled_versions(&self) -> Result<Vec<String>, VaultError> {
        match self {
            Self::KeyVault(vault) => vault.enabled_versions().await,
            // The file holds one version only.
            Self::File(_) => Ok(Vec::new()),
        }
    }

    /// Switches an older version off. One that is gone is off.
    pub async fn retire(&self, version: &str) -> Result<(), VaultError> {
        match self {
            Self::KeyVault(vault) => vault.retire(version).await,
            // The file holds one version only.
            Self::File(_) => Ok(()),
        }
    }
}
