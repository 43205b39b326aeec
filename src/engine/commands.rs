//! A person steps in: pause, resume, approve, cancel, retry. Each is exact and may be given twice.

use tracing::info;

use super::{Engine, EngineError};
use crate::rollout::lifecycle::IllegalCommand;
use crate::rollout::{Command, Event, Retried, Rollout, RolloutId, RolloutState};
use crate::store::PageRequest;

/// How many refreshes are tried again in one write.
const PAGE: usize = 1_000;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such rollout.
    #[error("there is no rollout {id}")]
    NotFound {
        /// The id that was asked for.
        id: RolloutId,
    },
    /// Its state does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalCommand),
    /// A part of ours failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Engine {
    /// Carries a command out and returns the rollout as it is then.
    pub async fn command(&self, id: RolloutId, command: Command) -> Result<Rollout, CommandError> {
        if let Command::Retry(retried) = command {
            self.retry(id, retried).await?;
        }
        if command == Command::Cancel
            && let Some(rollout) = self.store.rollout(id).await.map_err(EngineError::from)?
        {
            // First, since nobody comes back to it once the rollout is canceled. A completed one has nothing to revert.
            self.revert_wanted(&rollout.value).await?;
        }
        let now = self.now();
        let mut illegal = None;
        let changed = self
            .change_rollout(id, |rollout, tally| match rollout.command(command, tally, now) {
                Ok(Some(next)) => {
                    let differs = next != *rollout;
                    *rollout = next;
                    differs
                }
                Ok(None) => false,
                Err(error) => {
                    illegal = Some(error);
                    false
                }
            })
            .await?;
        let Some((rollout, changed)) = changed else { return Err(CommandError::NotFound { id }) };
        if let Some(illegal) = illegal {
            return Err(illegal.into());
        }
        if changed {
            info!(rollout.id = %id, "Rollout {id} is {} after the command {}", rollout.state.name(), command.name());
        }
        // Both done again even where nothing changed, since the first try may have died before, or its canaries were just done;
        // the message's id is the same.
        if command == Command::Cancel {
            self.revert_wanted(&rollout).await?;
        }
        let asks_planner = matches!(rollout.state, RolloutState::Planning | RolloutState::Running)
            && !rollout.walk.wave_is_planned
            && matches!(command, Command::Resume | Command::Approve);
        if asks_planner {
            self.send_planning_message(&rollout).await?;
        }
        if rollout.state == RolloutState::Running {
            self.review_rollout(id).await?;
        }
        let now_stored = self.store.rollout(id).await.map_err(EngineError::from)?;
        Ok(now_stored.map_or(rollout, |rollout| rollout.value))
    }

    /// Queues again what `retried` is for, each as a new generation.
    async fn retry(&self, id: RolloutId, retried: Retried) -> Result<(), CommandError> {
        let Some(rollout) = self.store.rollout(id).await.map_err(EngineError::from)? else {
            return Err(CommandError::NotFound { id });
        };
        if matches!(rollout.value.state, RolloutState::Canceled { .. }) {
            // The domain's own refusal, before anything is touched.
            rollout.value.command(Command::Retry(retried), &crate::rollout::Tally::default(), self.now())?;
        }
        let mut page = PageRequest { continuation: None, top: PAGE };
        loop {
            let mut refreshes =
                self.store.refreshes(id, Some(retried.standings()), &page).await.map_err(EngineError::from)?;
            refreshes.items.retain(|refresh| retried.includes(&refresh.value));
            // First, so that what is tried again goes by every way.
            let keys: Vec<_> = refreshes.items.iter().map(|refresh| refresh.value.key.clone()).collect();
            self.forget_refusals(&keys).await?;
            self.apply_to_all(&refreshes.items, &Event::Retry).await?;
            match refreshes.next {
                Some(next) => page.continuation = Some(next),
                None => return Ok(()),
            }
        }
    }
}
