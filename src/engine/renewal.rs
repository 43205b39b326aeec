//! Keeps the GDAP refresh token alive: one exchange and one new version a day, by one instance (contracts/access.md §2.9).
//!
//! The new version is in the vault before anybody uses it, and the one before is switched off only then. Dying in between
//! leaves versions that all work, and notes by which all but the newest are found the next time; where a version may have been
//! written that nobody could note, the vault is asked for its list.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{Engine, EngineError};
use crate::access::gdap::partner;
use crate::access::gdap::{Gdap, GdapError};
use crate::rollout::{Timestamp, counted};
use crate::secret::Secret;
use crate::store::Versioned;
use crate::store::document::{self, Document};

/// How long one instance has the renewal for itself.
pub const LEASE: Duration = Duration::from_secs(5 * 60);
/// How soon a renewal that worked is not done again, so that instances and repeats do not pile up versions.
const FRESH: Duration = Duration::from_secs(60 * 60);
const DAY: i64 = 24 * 60 * 60;
/// From how many days without renewal on it is a warning, and an error (contracts/access.md §2.9).
const WORRYING: (i64, i64) = (60, 80);

/// What is known of the renewals; there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRenewal {
    /// Who is at it, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<(Uuid, Timestamp)>,
    /// When it worked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<Timestamp>,
    /// The versions to switch off, each noted before the new one is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<String>,
    /// The version that was written last: to be switched off when it is the newest no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// Whether one was being written when this was stored: there may be one that is noted nowhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_writing: bool,
    /// Why it failed last, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Document for TokenRenewal {
    const COLLECTION: &'static str = "token-renewal";
    fn name(&self) -> String {
        "gdap".to_owned()
    }
}

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is a new version.
    Renewed,
    /// Entra gave no other token: the one in the vault is as good as new.
    Unchanged,
    /// Somebody else is at it, or it was just done.
    NotNeeded,
    /// GDAP is not set up.
    NotConfigured,
    /// It failed.
    Failed(GdapError),
}

impl Engine {
    /// One run of RenewTokens.
    pub async fn renew_tokens(&self) -> Result<Renewal, EngineError> {
        let Some(gdap) = &self.gdap else { return Ok(Renewal::NotConfigured) };
        let Some(mut held) = self.claim_renewal().await? else { return Ok(Renewal::NotNeeded) };
        let outcome = self.renew(gdap, &mut held).await?;
        let now = self.now();
        let mut record = TokenRenewal { lease: None, ..held.value.clone() };
        match &outcome {
            Renewal::Renewed | Renewal::Unchanged => {
                record.renewed_at = Some(now);
                record.failure = None;
                info!("The GDAP refresh token is renewed");
            }
            Renewal::Failed(failure) => {
                record.failure = Some(failure.to_string());
                self.lament(gdap, failure, now).await;
            }
            Renewal::NotNeeded | Renewal::NotConfigured => {}
        }
        // A lost race here means that the lease ran out and somebody else is at it: theirs counts.
        document::save(&*self.store, &held.with(record)).await?;
        if !matches!(outcome, Renewal::Failed(_)) {
            self.end_standstill().await?;
            self.resume_consents().await?;
            self.take_customers_back(gdap).await?;
        }
        Ok(outcome)
    }

    /// What is known of the renewals.
    pub async fn token_renewal(&self) -> Result<TokenRenewal, EngineError> {
        let known = document::get::<TokenRenewal>(&*self.store, "gdap").await?;
        Ok(known.map(|known| known.value).unwrap_or_default())
    }

    async fn claim_renewal(&self) -> Result<Option<Versioned<TokenRenewal>>, EngineError> {
        let now = self.now();
        let known = document::get::<TokenRenewal>(&*self.store, "gdap").await?;
        let known = known.unwrap_or_else(|| Versioned::new(TokenRenewal::default()));
        let is_held = known.value.lease.is_some_and(|(_, until)| now < until);
        let is_fresh = known.value.failure.is_none() && known.value.renewed_at.is_some_and(|at| now < at + FRESH);
        if is_held || is_fresh {
            return Ok(None);
        }
        self.save_renewal(&known, TokenRenewal { lease: Some((Uuid::new_v4(), now + LEASE)), ..known.value.clone() })
            .await
    }

    async fn save_renewal(
        &self,
        known: &Versioned<TokenRenewal>,
        next: TokenRenewal,
    ) -> Result<Option<Versioned<TokenRenewal>>, EngineError> {
        Ok(match document::save(&*self.store, &known.with(next.clone())).await? {
            crate::store::Saved::Stored(etag) => Some(Versioned { value: next, etag: Some(etag) }),
            crate::store::Saved::Conflict => None,
        })
    }

    /// Exchange, note, write, note, switch off: in this order.
    async fn renew(&self, gdap: &Gdap, held: &mut Versioned<TokenRenewal>) -> Result<Renewal, EngineError> {
        let vault = gdap.broker().vault();
        // Before the newest is read, so that what is listed besides it is older.
        let listed = match held.value.is_writing {
            true => Some(vault.enabled_versions().await),
            false => None,
        };
        let (tokens, stored) = match gdap.broker().exchange(gdap.partner_tenant(), partner::SCOPE).await {
            Ok(exchanged) => exchanged,
            Err(error) => return Ok(Renewal::Failed(error)),
        };
        match listed {
            Some(Ok(versions)) => {
                held.value.superseded.extend(versions);
                held.value.is_writing = false;
            }
            Some(Err(error)) => {
                warn!("A superseded refresh token may be left that is noted nowhere: {error}; it is looked for again");
            }
            None => {}
        }
        held.value.superseded.extend(held.value.written.take_if(|version| *version != stored.version));
        // What runs before this one could not switch off, or died before they did.
        switch_off(gdap, held, &stored.version).await;
        let is_new = |token: &Secret| !token.expose().is_empty() && !token.matches(stored.refresh_token.expose());
        let Some(replacement) = tokens.refresh_token.filter(is_new) else { return Ok(Renewal::Unchanged) };
        let was_writing = held.value.is_writing;
        let mut next = TokenRenewal { is_writing: true, ..held.value.clone() };
        next.superseded.push(stored.version.clone());
        let Some(noted) = self.save_renewal(held, next).await? else { return Ok(Renewal::NotNeeded) };
        *held = noted;
        // Somebody may have signed in since it was read: then theirs is the newest, and ours would hide it.
        let newest = vault.read().await;
        if !matches!(&newest, Ok(Some(newest)) if newest.version == stored.version) {
            held.value.is_writing = was_writing;
            return Ok(newest.map_or_else(|error| Renewal::Failed(error.into()), |_| Renewal::NotNeeded));
        }
        let ours = match vault.save(&replacement, stored.user.as_deref(), self.now()).await {
            Ok(version) => version,
            Err(error) => return Ok(Renewal::Failed(error.into())),
        };
        let next = TokenRenewal { is_writing: was_writing, written: Some(ours.clone()), ..held.value.clone() };
        // Who has taken the renewal over meanwhile finds the mark, and lists.
        let Some(noted) = self.save_renewal(held, next).await? else { return Ok(Renewal::NotNeeded) };
        *held = noted;
        let newest = match vault.read().await {
            Ok(Some(newest)) => newest.version,
            // Where it cannot be told now, the next run tells.
            _ => ours.clone(),
        };
        let is_overtaken = newest != ours;
        if is_overtaken {
            held.value.superseded.extend(held.value.written.take());
        }
        switch_off(gdap, held, &newest).await;
        Ok(if is_overtaken { Renewal::NotNeeded } else { Renewal::Renewed })
    }

    /// Says how bad it is.
    async fn lament(&self, gdap: &Gdap, failure: &GdapError, now: Timestamp) {
        let minted_at = gdap.broker().vault().read().await.ok().flatten().and_then(|stored| stored.minted_at);
        let days = minted_at.map(|at| (now - at).num_seconds() / DAY);
        let age = days.map(|days| format!(" and is {} old", counted(days.unsigned_abs(), "day"))).unwrap_or_default();
        let is_grave = matches!(failure, GdapError::SignInAgain { .. } | GdapError::Misconfigured { .. });
        if is_grave || days.is_some_and(|days| days >= WORRYING.1) {
            error!("The GDAP refresh token could not be renewed{age}; it ends after 90 days: {failure}");
        } else if days.is_some_and(|days| days >= WORRYING.0) {
            warn!("The GDAP refresh token could not be renewed{age}; it ends after 90 days: {failure}");
        } else {
            info!("The GDAP refresh token could not be renewed today{age}: {failure}");
        }
    }
}

/// Switches off what is superseded, but for the newest version; what cannot be now stays noted.
async fn switch_off(gdap: &Gdap, held: &mut Versioned<TokenRenewal>, newest: &str) {
    let mut superseded = std::mem::take(&mut held.value.superseded);
    superseded.sort_unstable();
    superseded.dedup();
    for version in superseded.into_iter().filter(|version| version != newest) {
        if let Err(error) = gdap.broker().vault().retire(&version).await {
            warn!("A superseded refresh token could not be switched off yet: {error}");
            held.value.superseded.push(version);
        }
    }
}
