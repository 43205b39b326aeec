//! Sessions of the dashboard that were ended before their time, kept until they would have ended by themselves: a session is
//! signed and known to nobody else, so this is how every instance learns that it counts no more.

use serde::{Deserialize, Serialize};

use super::{Engine, EngineError};
use crate::rollout::Timestamp;
use crate::store::document::{self, Document};
use crate::store::{PageRequest, Versioned};

/// A session that counts no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedOut {
    /// What tells it apart from others; nothing by which anybody could come in.
    session: String,
    /// When it would have ended by itself.
    ends_at: Timestamp,
}

/// Found by its end and its session, so that the first to be forgotten come first.
impl Document for SignedOut {
    const COLLECTION: &'static str = "signed-out";
    fn name(&self) -> String {
        format!("{:012}.{}", self.ends_at.timestamp(), self.session)
    }
}

impl Engine {
    /// Ends a session for every instance; the same again changes nothing.
    pub async fn sign_out(&self, session: String, ends_at: Timestamp) -> Result<(), EngineError> {
        // A conflict says that it has ended already.
        document::save(&*self.store, &Versioned::new(SignedOut { session, ends_at })).await?;
        Ok(())
    }

    /// Whether a session was ended. One read by its name: another instance may have ended it a moment ago.
    pub async fn is_signed_out(&self, session: String, ends_at: Timestamp) -> Result<bool, EngineError> {
        let name = SignedOut { session, ends_at }.name();
        Ok(document::get::<SignedOut>(&*self.store, &name).await?.is_some())
    }

    /// Forgets sessions that have ended by themselves, at most so many; whether that was all.
    pub(super) async fn forget_signed_out(&self, at_most: usize) -> Result<bool, EngineError> {
        let request = PageRequest { continuation: None, top: at_most };
        let page = document::page::<SignedOut>(&*self.store, "", &request).await?;
        let now = self.now();
        for known in page.items.iter().take_while(|known| known.value.ends_at <= now) {
            document::remove(&*self.store, known).await?;
        }
        Ok(page.next.is_none() || page.items.last().is_some_and(|last| last.value.ends_at > now))
    }
}
