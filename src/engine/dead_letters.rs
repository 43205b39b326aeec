//! Dead letters: messages that were delivered again and again and that nobody could work off. The timer takes note of them in
//! the audit list, tells people, and takes them away; what each was for goes on later, or ends in a failure that `retry`
//! takes back.

use std::sync::PoisonError;
use std::time::Duration;

use serde_json::json;
use tracing::error;
use uuid::Uuid;

use super::audit::{AuditEntry, DEAD_LETTER, OURSELVES, Outcome};
use super::{Engine, EngineError};
use crate::queue::{DeadLetter, Message};
use crate::rollout::deployment::CHECK_LOOKS;
use crate::rollout::refresh::AFTER_DEATH;
use crate::rollout::{DeploymentKey, Event, RolloutId};
use crate::store::Versioned;

/// How often one process looks; each look is a request to each queue in Azure.
const GAP: Duration = Duration::from_secs(60);
/// How many one look takes of each queue.
const AT_ONCE: usize = 32;

impl Engine {
    /// Looks for dead letters, unless this process has just done so.
    pub(super) async fn take_note_of_dead_letters(&self) -> Result<(), EngineError> {
        let now = self.now();
        {
            let mut looked_at = self.looked_for_dead.lock().unwrap_or_else(PoisonError::into_inner);
            if looked_at.is_some_and(|at| at + GAP > now && at <= now) {
                return Ok(());
            }
            *looked_at = Some(now);
        }
        let mut result = Ok(());
        for queue in [&self.config.rollout_queue, &self.config.refresh_queue] {
            // A queue that may only be sent to holds back neither the other nor the tick.
            result = result.and(self.take_note_of(queue).await);
        }
        result
    }

    async fn take_note_of(&self, queue: &str) -> Result<(), EngineError> {
        let mut result = Ok(());
        for (letter, token) in self.queue.take_dead_letters(queue, AT_ONCE).await? {
            // One that cannot be noted now stays, and holds back no other.
            match self.bury(queue, &letter).await {
                Ok(()) => _ = self.queue.remove_dead_letters(queue, &[token]).await?,
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Everything that follows from a dead letter; done twice it is done once.
    async fn bury(&self, queue: &str, letter: &DeadLetter) -> Result<(), EngineError> {
        let message = Message::from_body(&letter.body).ok();
        let on = match &message {
            Some(Message::PlanRollout { rollout_id }) => {
                self.bury_plan(*rollout_id, letter).await?;
                Some(rollout_id.to_string())
            }
            Some(Message::Refresh { rollout_id, key }) => Some(self.bury_refresh(*rollout_id, key, letter).await?),
            Some(Message::CheckDeployment { key }) => Some(self.bury_check(key, letter).await?),
            _ => None,
        };
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{queue}:{}", letter.id).as_bytes());
        error!(message.id = %letter.id, "The message {} of the queue {queue} is dead: {}", letter.id, letter.reason);
        self.note_finding(AuditEntry {
            id,
            at: letter.at,
            who: OURSELVES.to_owned(),
            what: DEAD_LETTER.to_owned(),
            on: on.clone(),
            from: None,
            to: None,
            why: None,
            outcome: Outcome::Done,
            problem: Some(format!("{}: {}", letter.id, letter.reason)),
        })
        .await?;
        let data = json!({"messageId": letter.id, "queue": queue, "on": on, "why": letter.reason, "needsPerson": true});
        self.tell(format!("dead.{id}"), DEAD_LETTER, data).await
    }

    /// Only the message that is awaited counts: another one was sent in its place already.
    async fn bury_plan(&self, id: RolloutId, letter: &DeadLetter) -> Result<(), EngineError> {
        let change = self.change_rollout(id, |rollout, _| {
            rollout.planning_message_id() == letter.id && rollout.planner_died(&letter.reason)
        });
        change.await.map(|_| ())
    }

    async fn bury_refresh(
        &self,
        id: RolloutId,
        key: &DeploymentKey,
        letter: &DeadLetter,
    ) -> Result<String, EngineError> {
        let Some(refresh) = self.store.refresh(id, key).await? else { return Ok(key.to_string()) };
        let application_id = refresh.value.application_id.to_string();
        if refresh.value.message_id() == letter.id {
            self.apply_to_all(&[refresh], &Event::DeadLettered { reason: letter.reason.clone() }).await?;
        }
        Ok(application_id)
    }

    /// A check that nobody could make counts as a look.
    async fn bury_check(&self, key: &DeploymentKey, letter: &DeadLetter) -> Result<String, EngineError> {
        let Some(known) = self.deployment(key).await? else { return Ok(key.to_string()) };
        let application_id = known.value.application_id.to_string();
        if known.value.check_message_id().as_deref() == Some(letter.id.as_str()) {
            let mut deployment = known.value.clone();
            if let Some(check) = &mut deployment.check {
                check.looks += 1;
                check.message += 1;
                check.due = self.now() + AFTER_DEATH;
            }
            deployment.check.take_if(|check| check.looks >= CHECK_LOOKS);
            let known: Versioned<_> = known.with(deployment);
            if self.store.save_deployments(std::slice::from_ref(&known)).await?[0].is_stored() {
                self.send_check(&known.value).await?;
            }
        }
        Ok(application_id)
    }
}
