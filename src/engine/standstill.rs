//! The standstill of GDAP: our refresh token or registration is of no use, so that it works for no customer until a person
//! has acted (contracts/access.md §2.4). Entra is asked by one instance every few minutes, not by every refresh; once it
//! gives tokens again, what waited goes on. Loses and fails nothing meanwhile.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, info};

use super::{Engine, EngineError};
use crate::access::gdap::{GdapError, Standstill};
use crate::rollout::Timestamp;
use crate::rollout::failure::{GDAP_MISCONFIGURED, SIGN_IN_NEEDED};
use crate::rollout::refresh::Gate;
use crate::store::document::{self, Document};
use crate::store::{Store, StoreError, Versioned};

/// How often Entra is asked whether it gives tokens again.
pub(super) const GAP: Duration = Duration::from_secs(5 * 60);

/// That GDAP stands still; there is one, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GdapStandstill {
    /// Since when.
    pub since: Timestamp,
    /// Why, in a word.
    pub code: String,
    /// Why, and what to do.
    pub why: String,
    /// When to ask again.
    pub next_try: Timestamp,
}

/// The only one.
impl Document for GdapStandstill {
    const COLLECTION: &'static str = "gdap-standstill";
    fn name(&self) -> String {
        NAME.to_owned()
    }
}

const NAME: &str = "gdap";

/// The standstill that is noted in `store`, if one is.
///
/// # Errors
/// As the store says.
pub async fn noted(store: &dyn Store) -> Result<Option<GdapStandstill>, StoreError> {
    Ok(document::get::<GdapStandstill>(store, NAME).await?.map(|known| known.value))
}

impl Engine {
    pub(super) async fn gdap_standstill(&self) -> Result<Option<GdapStandstill>, EngineError> {
        Ok(noted(self.store()).await?)
    }

    /// Notes that GDAP stands still; whoever was first has said so.
    pub(super) async fn note_standstill(&self, why: &GdapError) -> Result<(), EngineError> {
        let now = self.now();
        let code = match why {
            GdapError::SignInAgain { .. } => SIGN_IN_NEEDED,
            _ => GDAP_MISCONFIGURED,
        };
        let standstill =
            GdapStandstill { since: now, code: code.to_owned(), why: why.to_string(), next_try: now + GAP };
        if document::save(self.store(), &Versioned::new(standstill)).await?.is_stored() {
            error!("GDAP stands still for every customer: {why}; refreshes go by other ways, or wait");
        }
        Ok(())
    }

    /// Asks Entra again, if it is time, and ends the standstill once it gives tokens.
    pub(super) async fn end_standstill_if_over(&self) -> Result<(), EngineError> {
        let Some(gdap) = &self.gdap else { return Ok(()) };
        let now = self.now();
        let Some(known) = document::get::<GdapStandstill>(self.store(), NAME).await? else { return Ok(()) };
        if now < known.value.next_try {
            return Ok(());
        }
        let next = GdapStandstill { next_try: now + GAP, ..known.value.clone() };
        if !document::save(self.store(), &known.with(next)).await?.is_stored() {
            return Ok(());
        }
        match gdap.try_at_home().await {
            // Our own tenant may have no Azure: that is no matter of ours being broken.
            Ok(()) => self.end_standstill().await,
            Err(error) if error.standstill() == Standstill::Customer => self.end_standstill().await,
            Err(_) => Ok(()),
        }
    }

    /// Ends the standstill, if there is one: what waited for it goes on.
    pub(super) async fn end_standstill(&self) -> Result<(), EngineError> {
        let Some(known) = document::get::<GdapStandstill>(self.store(), NAME).await? else { return Ok(()) };
        // First, so that what goes on finds none. Should this die here, each refresh's next look finds the gate open.
        document::remove(self.store(), &known).await?;
        let opened = self.open_gates(|gate| *gate == Gate::SignIn).await?;
        info!("GDAP works again; refreshes that go on: {opened}");
        self.resume_consents().await.map(|_| ())
    }
}
