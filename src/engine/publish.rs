//! A rollout begins: an offer publish becomes one rollout, however often it arrives.

use std::time::Duration;

use tracing::info;
use uuid::Uuid;

use super::{Engine, EngineError};
use crate::rollout::lifecycle::Vetting;
use crate::rollout::publish::Supersede;
use crate::rollout::{Audience, OfferPublish, Plan, Purpose, Rollout, RolloutId, RolloutState, Timestamp, Version};
use crate::store::{Claim, Versioned};

/// How long a post without a submission's id and one with it count as the same publish (contracts/offer-publish.md §8).
const JOINING_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an `Idempotency-Key` header is remembered (design §3.1).
const HEADER_WINDOW: Duration = JOINING_WINDOW;

/// By what a publish is known again.
#[derive(Clone, Debug)]
pub enum Identity {
    /// By its content: `purpose: rollOut`.
    Content,
    /// By the caller's `Idempotency-Key` header.
    Header(String),
    /// By plan and due time: a scheduled rollout.
    Due(Timestamp),
    /// By nothing: every arrival is a new one.
    None,
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The rollout.
    pub rollout_id: RolloutId,
    /// The key by which the same publish is known again.
    pub idempotency_key: String,
    /// Whether an earlier arrival had started it.
    pub is_duplicate: bool,
}

/// The open rollouts of the same plan that a publish has to do with.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Those whose place it takes.
    superseded: Vec<RolloutId>,
    /// The one that it waits for.
    waits_for: Option<RolloutId>,
}

/// Why a publish starts nothing.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another version of the plan is on its way.
    #[error(
        "version {version} of {plan} is on its way (rollout {blocker}); wait for its end, cancel it, or say \"supersede\": true"
    )]
    OnItsWay {
        /// The plan.
        plan: Plan,
        /// The other version.
        version: Version,
        /// Its rollout.
        blocker: RolloutId,
    },
    /// It would go back to an older version by accident.
    #[error(
        "version {version} is lower than the wanted version {wanted} of {plan}; to go back on purpose, say \"purpose\": \"repair\""
    )]
    Lower {
        /// The plan.
        plan: Plan,
        /// The version of the publish.
        version: Version,
        /// The wanted version.
        wanted: Version,
    },
    /// A part of ours failed; nothing is half-done that a second try would not complete.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<crate::store::StoreError> for PublishError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Engine(error.into())
    }
}

impl Engine {
    /// Starts the rollout of a publish, or answers with the one that an earlier arrival started.
    ///
    /// The order is claim, store, supersede, send: a process that dies in between leaves a claim whose rollout the next
    /// arrival completes, or a rollout that the timer finds.
    pub async fn start_rollout(&self, publish: OfferPublish, identity: &Identity) -> Result<Started, PublishError> {
        let now = self.now();
        let (key, mut holder) = match identity {
            Identity::Content => {
                let keys = publish.content_keys();
                let holder = self.content_holder(&publish, now).await?;
                (keys.exact, holder)
            }
            Identity::Header(header) => self.header_holder(&publish.plan, header, now).await?,
            Identity::Due(due) => {
                let key = format!("due|{}|{}", publish.plan, due.timestamp());
                let holder = self.store.key_holder(&key).await?;
                (key, holder)
            }
            Identity::None => (format!("once|{}", Uuid::new_v4()), None),
        };
        let is_stored = match &holder {
            Some(holder) => self.store.rollout(holder.rollout_id).await?.is_some(),
            None => false,
        };
        // A claim whose rollout was never stored gives no right to start beside another.
        let others = if is_stored { Others::default() } else { self.refuse_or_supersede(&publish).await? };
        let claim = Claim { rollout_id: new_rollout_id(now), at: now };
        if holder.is_none() {
            holder = self.store.claim_key(&key, &claim).await?;
        }
        let is_duplicate = holder.is_some();
        let claim = holder.unwrap_or(claim);
        if matches!(identity, Identity::Content) {
            self.store.claim_key(&publish.content_keys().joining, &claim).await?;
        }
        let rollout_id = claim.rollout_id;
        let mut rollout = Rollout::new(rollout_id, publish, now);
        if matches!(identity, Identity::Content) && rollout.publish.scope.is_empty() {
            rollout.vetting = Vetting::Due;
        }
        if let Some(on) = others.waits_for {
            rollout.state = RolloutState::Waiting { on };
        }
        let rollout = self.store_once(rollout).await?;
        // Only now, so that nobody is called off for a rollout that never came to be; what is cut off here is done before
        // the rollout begins.
        for blocker in others.superseded {
            self.supersede(blocker, rollout_id).await?;
        }
        if rollout.state == RolloutState::Planning {
            self.send_planning_message(&rollout).await?;
        }
        Ok(Started { rollout_id, idempotency_key: key, is_duplicate })
    }

    /// Stores the rollout unless it is there; returns it as it is stored.
    async fn store_once(&self, mut rollout: Rollout) -> Result<Rollout, EngineError> {
        let id = rollout.id;
        if rollout.publish.is_record_only() {
            rollout.state = RolloutState::Completed;
            rollout.ended_at = Some(rollout.created_at);
        }
        let mut versioned = Versioned::new(rollout.clone());
        let stored = self.save_rollout(&mut versioned).await?.is_stored();
        rollout = versioned.value;
        if stored {
            let OfferPublish { plan, version, .. } = &rollout.publish;
            info!(rollout.id = %id, plan = %plan, refresh.version = %version, "Rollout {id} of version {version} for {plan} is stored");
        } else if let Some(known) = self.store.rollout(id).await? {
            rollout = known.value;
        }
        Ok(rollout)
    }

    /// Who holds the content keys of a publish: the exact one, or the joining one where the earlier arrival named no
    /// submission and is at most a day old.
    async fn content_holder(&self, publish: &OfferPublish, now: Timestamp) -> Result<Option<Claim>, EngineError> {
        let keys = publish.content_keys();
        let exact = self.store.key_holder(&keys.exact).await?;
        if exact.is_some() || publish.submission_id.is_none() {
            return Ok(exact);
        }
        let Some(holder) = self.store.key_holder(&keys.joining).await? else { return Ok(None) };
        // A rollout that was not stored yet is this one, too: both are of the same content at the same time.
        let rollout = self.store.rollout(holder.rollout_id).await?;
        let names_none = rollout.is_none_or(|rollout| rollout.value.publish.submission_id.is_none());
        if names_none && holder.at + JOINING_WINDOW >= now {
            // From now on this submission's key finds it without the window.
            self.store.claim_key(&keys.exact, &holder).await?;
            return Ok(Some(holder));
        }
        Ok(None)
    }

    /// The key that stands for a header within its window, and who holds it. A key that has run out is never used again.
    async fn header_holder(
        &self,
        plan: &Plan,
        header: &str,
        now: Timestamp,
    ) -> Result<(String, Option<Claim>), EngineError> {
        let mut turn = 0u32;
        loop {
            let key = format!("header|{plan}|{header}|{turn}");
            match self.store.key_holder(&key).await? {
                Some(holder) if holder.at + HEADER_WINDOW < now => turn += 1,
                holder => return Ok((key, holder)),
            }
        }
    }

    /// The rollouts of the same plan whose place this publish takes, or why it may not start (design §4).
    pub(super) async fn refuse_or_supersede(&self, publish: &OfferPublish) -> Result<Others, PublishError> {
        if matches!(publish.purpose, Purpose::Restore | Purpose::Scheduled) {
            return Ok(Others::default());
        }
        if publish.purpose == Purpose::RollOut && publish.audience == Audience::All {
            let wanted = self.wanted(&publish.plan).await?.value.version;
            if let Some(wanted) = wanted.filter(|wanted| publish.version < *wanted) {
                let OfferPublish { plan, version, .. } = publish.clone();
                return Err(PublishError::Lower { plan, version, wanted });
            }
        }
        let mut others = Others::default();
        for open in self.store.open_rollouts().await? {
            let other = &open.value;
            if other.publish.plan != publish.plan || other.publish.version == publish.version {
                continue;
            }
            // A version that only previews are to have takes no place from one that is for all, unless somebody says so.
            let reaches_as_far = publish.audience == Audience::All || other.publish.audience == Audience::Preview;
            let waits = publish.supersede == Supersede::Wait;
            match other.state {
                RolloutState::Paused { .. } | RolloutState::Halted { .. } if waits && !reaches_as_far => {}
                RolloutState::Paused { .. } | RolloutState::Halted { .. }
                    if publish.version > other.publish.version || publish.purpose == Purpose::Repair =>
                {
                    others.superseded.push(other.id);
                }
                // Of those that wait the newest wins.
                RolloutState::Waiting { .. } if waits && reaches_as_far && publish.version > other.publish.version => {
                    others.superseded.push(other.id);
                }
                RolloutState::Planning | RolloutState::Running | RolloutState::Waiting { .. } if waits => {
                    // Which of several does not matter: when it begins it looks again.
                    others.waits_for = Some(other.id);
                }
                RolloutState::Planning | RolloutState::Running | RolloutState::Waiting { .. } => {
                    if publish.supersede == Supersede::Refuse && publish.purpose != Purpose::Repair {
                        return Err(PublishError::OnItsWay {
                            plan: publish.plan.clone(),
                            version: other.publish.version,
                            blocker: other.id,
                        });
                    }
                    others.superseded.push(other.id);
                }
                _ => {}
            }
        }
        Ok(others)
    }

    /// Ends the older rollouts whose place this one takes, before it begins: its arrival may have died before it did.
    pub(super) async fn finish_superseding(&self, rollout: &Rollout) -> Result<(), EngineError> {
        let blockers = match self.refuse_or_supersede(&rollout.publish).await {
            Ok(others) => others.superseded,
            Err(PublishError::Engine(error)) => return Err(error),
            // It was let in, so what would refuse it now came after it, or it waits for it.
            Err(PublishError::OnItsWay { .. } | PublishError::Lower { .. }) => return Ok(()),
        };
        // Ids sort by the time they were made.
        for blocker in blockers.into_iter().filter(|blocker| *blocker < rollout.id) {
            self.supersede(blocker, rollout.id).await?;
        }
        Ok(())
    }

    /// The rollout of another version that this one must not run beside: an older one that came at the same instant, so that
    /// neither was refused, or went on meanwhile; or a younger one that began while this one was parked.
    /// A scheduled one must run beside no other at all.
    pub(super) async fn blocker(&self, rollout: &Rollout) -> Result<Option<RolloutId>, EngineError> {
        let publish = &rollout.publish;
        if publish.purpose == Purpose::Restore {
            return Ok(None);
        }
        let is_scheduled = publish.purpose == Purpose::Scheduled;
        // These have taken the place of the older ones already.
        let replaces = publish.purpose == Purpose::Repair || publish.supersede == Supersede::Replace;
        let open = self.store.open_rollouts().await?;
        let on_its_way = open.iter().map(|open| &open.value).filter(|other| {
            let is_planning = other.state == RolloutState::Planning;
            let is_running = other.state == RolloutState::Running;
            let blocks = if other.id < rollout.id {
                !replaces && (is_planning || is_running)
            } else if is_scheduled {
                // Whatever a person or a publish has begun goes before.
                other.publish.purpose != Purpose::Scheduled && (is_planning || is_running)
            } else {
                // One that is planned looks for older ones itself and waits for this one; a scheduled one does not.
                is_running || is_planning && other.publish.purpose == Purpose::Scheduled
            };
            blocks && other.publish.plan == publish.plan && other.publish.version != publish.version
        });
        Ok(on_its_way.map(|other| other.id).min())
    }

    /// Ends `blocker` in favour of `by`; its queued refreshes follow when the timer looks at it.
    async fn supersede(&self, blocker: RolloutId, by: RolloutId) -> Result<(), EngineError> {
        let now = self.now();
        let Some(known) = self.store.rollout(blocker).await? else { return Ok(()) };
        // First, since nobody comes back to it once the rollout is canceled.
        self.revert_wanted(&known.value).await?;
        let changed = self
            .change_rollout(blocker, |rollout, _| {
                let goes_on = !rollout.state.is_ended();
                if goes_on {
                    rollout.cancel(Some(by), now);
                }
                goes_on
            })
            .await?;
        if let Some((rollout, true)) = changed {
            info!(rollout.id = %blocker, superseded_by = %by, "Rollout {blocker} is superseded by rollout {by}");
            // Once more, in case its canaries were just done.
            self.revert_wanted(&rollout).await?;
        }
        Ok(())
    }
}

/// An id that sorts by the time it was made.
fn new_rollout_id(now: Timestamp) -> RolloutId {
    let mut random = [0; 10];
    random.copy_from_slice(&Uuid::new_v4().as_bytes()[..10]);
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    RolloutId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}
