//! The one switch for everything (`/api/stop`, `/api/start`): while it is off, no instance posts anything to ARM. What ARM
//! has accepted is followed to its end, and planning goes on.

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Engine, EngineError, Mode, RACES};
use crate::rollout::Timestamp;
use crate::store::document::{self, Document};
use crate::store::{StoreError, Versioned};

/// The switch as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Switch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
}

const NAME: &str = "everything";

impl Document for Switch {
    const COLLECTION: &'static str = "switch";

    fn name(&self) -> String {
        NAME.to_owned()
    }
}

/// That everything is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stopped {
    /// Since when.
    pub since: Timestamp,
    /// Who stopped it.
    pub who: String,
    /// Why, in a person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What keeps every rollout from posting, whatever its own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// Somebody has stopped everything.
    Stop(Stopped),
    /// The service only observes (`MODE`).
    Observe,
}

impl Engine {
    /// Whether everything is stopped. Read anew each time, since another instance may have stopped it.
    pub async fn stopped(&self) -> Result<Option<Stopped>, StoreError> {
        let switch = document::get::<Switch>(&*self.store, NAME).await?;
        Ok(switch.and_then(|switch| switch.value.stopped))
    }

    /// What keeps every rollout from posting now.
    pub async fn held_by(&self) -> Result<Vec<HeldBy>, StoreError> {
        let observes = (self.config.mode == Mode::Observe).then_some(HeldBy::Observe);
        Ok(self.stopped().await?.map(HeldBy::Stop).into_iter().chain(observes).collect())
    }

    /// Whether anything keeps every rollout from posting now.
    pub(super) async fn is_held(&self) -> Result<bool, StoreError> {
        Ok(self.config.mode == Mode::Observe || self.stopped().await?.is_some())
    }

    /// Stops everything; a stop that is in force stays as it is. Returns it.
    pub async fn stop(&self, who: &str, why: Option<String>) -> Result<Stopped, EngineError> {
        let stop = Stopped { since: self.now(), who: who.to_owned(), why };
        let stopped = self.turn(|before| Some(before.unwrap_or_else(|| stop.clone()))).await?;
        let stopped = stopped.unwrap_or(stop);
        warn!("Everything is stopped since {} by {}: nothing is posted", stopped.since, stopped.who);
        Ok(stopped)
    }

    /// Lets everything go on; what waited is released by the next tick.
    pub async fn start(&self, who: &str) -> Result<(), EngineError> {
        self.turn(|_| None).await?;
        info!("Everything goes on, says {who}");
        Ok(())
    }

    async fn turn(
        &self,
        change: impl Fn(Option<Stopped>) -> Option<Stopped> + Send + Sync,
    ) -> Result<Option<Stopped>, EngineError> {
        for _ in 0..RACES {
            let known = document::get::<Switch>(&*self.store, NAME).await?;
            let known = known.unwrap_or_else(|| Versioned::new(Switch::default()));
            let next = Switch { stopped: change(known.value.stopped.clone()) };
            if next == known.value || document::save(&*self.store, &known.with(next.clone())).await?.is_stored() {
                return Ok(next.stopped);
            }
        }
        Err(EngineError::Contended { what: "the switch for everything".to_owned() })
    }
}
