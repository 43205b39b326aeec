//! The registry of deployments: what notifications, imports and a person's commands do to it. A notification stores a
//! fact and asks for a check; only ARM's answer ([`super::check`]) decides what becomes of it.

use std::collections::HashMap;

use tracing::{info, warn};

use super::{Engine, EngineError};
use crate::queue::{Message, Outgoing};
use crate::rollout::joining::Joiner;
use crate::rollout::{
    ApplicationId, Deployment, DeploymentKey, HandOver, Hold, MaintenanceWindow, Plan, Refresh, Timestamp, Version,
    WantedVersion,
};
use crate::store::{PageRequest, Versioned, document};

/// What ARM notified us of (contracts/arm.md §3.1), already parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The application.
    pub application_id: ApplicationId,
    /// PUT, PATCH or DELETE, as it was spelt.
    pub event_type: String,
    /// Accepted, Succeeded, Failed, Deleting, Deleted, as it was spelt.
    pub provisioning_state: String,
    /// When it happened.
    pub event_time: Timestamp,
    /// The plan and whether it is a preview purchase; `None` for a service-catalog application.
    pub plan: Option<(Plan, bool)>,
    /// The version it was deployed with.
    pub version: Option<String>,
    /// What failed, in words.
    pub error: Option<String>,
}

/// One line of an import, already parsed. What is `None` leaves what is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// The application.
    pub application_id: ApplicationId,
    /// Whether the operator says that it exists; else ARM is asked.
    pub is_vouched: bool,
    /// The plan and whether it is a preview purchase.
    pub plan: Option<(Plan, bool)>,
    /// The version it was deployed with.
    pub version: Option<String>,
    /// The customer's tenant.
    pub tenant_id: Option<String>,
    /// The managed resource group's id.
    pub managed_resource_group_id: Option<String>,
    /// Its region.
    pub location: Option<String>,
    /// When it may be refreshed.
    pub maintenance_windows: Option<Vec<MaintenanceWindow>>,
}

/// How many deployments an import made and changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// New ones.
    pub imported: usize,
    /// Known ones.
    pub updated: usize,
    /// Those that have other maintenance windows than before.
    pub windows_set: usize,
    /// Those that have no maintenance windows any more.
    pub windows_lifted: usize,
}

impl std::ops::AddAssign for Imported {
    fn add_assign(&mut self, other: Self) {
        self.imported += other.imported;
        self.updated += other.updated;
        self.windows_set += other.windows_set;
        self.windows_lifted += other.windows_lifted;
    }
}

/// How many deployments are written at once.
const PAGE: usize = 1_000;

impl Engine {
    /// Stores what a notification says and asks for a check. Once this is `Ok`, ARM may be answered 200.
    ///
    /// An event that is older than one we know changes nothing. One of the same time, which is the same event or as good as
    /// it, only sends the message of the check again, or asks for another check where that one is done.
    pub async fn notify(&self, mut notification: Notification) -> Result<(), EngineError> {
        let key = notification.application_id.key();
        // Whoever knows `sig` could otherwise outdate every later event with one from the future.
        notification.event_time = notification.event_time.min(self.now());
        for _ in 0..super::RACES {
            let now = self.now();
            let known = self.deployment(&key).await?;
            let newest = known.as_ref().and_then(|known| known.value.event_time);
            if newest > Some(notification.event_time) {
                info!(deployment.key = %key, "A notification about {} is older than one before it", notification.application_id);
                return Ok(());
            }
            let is_being_checked = known.as_ref().is_some_and(|known| known.value.check.is_some());
            let is_same = newest == Some(notification.event_time) && is_being_checked;
            let before = known.as_ref().map(|known| known.value.clone());
            let mut deployment =
                known.unwrap_or_else(|| Versioned::new(Deployment::new(notification.application_id.clone(), now)));
            if !is_same {
                note(&mut deployment.value, &notification, now);
                self.expect_joiners(deployment.value.joiner_after(before.as_ref(), now)).await?;
                if !self.store.save_deployments(std::slice::from_ref(&deployment)).await?[0].is_stored() {
                    continue;
                }
            }
            return self.send_check(&deployment.value).await;
        }
        Err(EngineError::Contended { what: format!("deployment {key}") })
    }

    /// Imports deployments that an operator vouches for; later lines win over earlier ones of the same deployment.
    pub async fn import(&self, imports: Vec<Import>) -> Result<Imported, EngineError> {
        let mut imported = Imported::default();
        for batch in imports.chunks(PAGE) {
            let mut left: Vec<&Import> = batch.iter().collect();
            for _ in 0..super::RACES {
                left = self.import_batch(&left, &mut imported).await?;
                if left.is_empty() {
                    break;
                }
            }
            if let Some(import) = left.first() {
                return Err(EngineError::Contended { what: format!("deployment {}", import.application_id.key()) });
            }
        }
        Ok(imported)
    }

    /// Writes a batch, and nothing for a line that says what is known; returns the lines that have to be tried again, since
    /// somebody else changed their deployments. Where a plan is missing, ARM is asked for it.
    async fn import_batch<'i>(
        &self,
        imports: &[&'i Import],
        imported: &mut Imported,
    ) -> Result<Vec<&'i Import>, EngineError> {
        let now = self.now();
        let mut lines: HashMap<DeploymentKey, Vec<&'i Import>> = HashMap::with_capacity(imports.len());
        for import in imports {
            lines.entry(import.application_id.key()).or_default().push(import);
        }
        let keys: Vec<DeploymentKey> = lines.keys().cloned().collect();
        let known = self.store.deployments_by_key(&keys).await?;
        let (mut writes, mut joiners, mut windows_changed) = (Vec::new(), Vec::new(), Vec::new());
        for (key, known) in keys.iter().zip(known) {
            let lines = &lines[key];
            let before = known.as_ref().map(|known| known.value.clone());
            let mut deployment =
                known.unwrap_or_else(|| Versioned::new(Deployment::new(lines[0].application_id.clone(), now)));
            for line in lines {
                merge(&mut deployment.value, line);
            }
            let is_doubtful = before.is_none() && !deployment.value.confirmed;
            if (deployment.value.plan.is_none() || is_doubtful) && deployment.value.check.is_none() {
                deployment.value.ask_check(now);
            }
            if before.as_ref() == Some(&deployment.value) {
                imported.updated += lines.len();
            } else {
                deployment.value.updated_at = now;
                joiners.extend(deployment.value.joiner_after(before.as_ref(), now));
                let windows_before = before.map(|before| before.maintenance_windows).unwrap_or_default();
                windows_changed.push(windows_before != deployment.value.maintenance_windows);
                writes.push(deployment);
            }
        }
        self.expect_joiners(joiners).await?;
        let saved = self.store.save_deployments(&writes).await?;
        let (mut again, mut messages) = (Vec::new(), Vec::new());
        for ((saved, write), windows_changed) in saved.iter().zip(&writes).zip(windows_changed) {
            let lines = &lines[&write.value.key];
            if !saved.is_stored() {
                again.extend(lines);
                continue;
            }
            let new = usize::from(write.etag.is_none());
            imported.imported += new;
            imported.updated += lines.len() - new;
            match write.value.maintenance_windows.is_empty() {
                _ if !windows_changed => {}
                true => imported.windows_lifted += 1,
                false => imported.windows_set += 1,
            }
            let asks = write.value.plan.is_none() || !write.value.confirmed;
            messages.extend(check_message(&write.value, now).filter(|_| asks));
        }
        self.send_refresh_messages(&messages).await?;
        Ok(again)
    }

    /// Removes a deployment from the registry; whether it was there. A later notification brings it back.
    pub async fn forget(&self, key: &DeploymentKey) -> Result<bool, EngineError> {
        for _ in 0..super::RACES {
            let Some(known) = self.deployment(key).await? else { return Ok(false) };
            if self.store.remove_deployment(&known).await?.is_stored() {
                return Ok(true);
            }
        }
        Err(EngineError::Contended { what: format!("deployment {key}") })
    }

    /// Puts a deployment on hold, or releases it; the deployment then, or `None` if there is none. The same hold again keeps
    /// when it began. Once it is released, or its hold ends, it is a late joiner of what it has missed.
    pub async fn change_hold(
        &self,
        key: &DeploymentKey,
        hold: Option<Hold>,
    ) -> Result<Option<Deployment>, EngineError> {
        for _ in 0..super::RACES {
            let now = self.now();
            let Some(known) = self.deployment(key).await? else { return Ok(None) };
            let mut next = known.value.clone();
            next.hold = match (hold.clone(), &next.hold) {
                (Some(hold), Some(before)) if before.is_on(now) => Some(Hold { since: before.since, ..hold }),
                (hold, _) => hold,
            };
            if next.hold == known.value.hold {
                return Ok(Some(next));
            }
            next.updated_at = now;
            let joins_at = match &next.hold {
                Some(hold) => hold.until,
                None => Some(now),
            };
            // Before it is stored, so that nobody is forgotten where the process dies in between.
            if let (Some(at), Some(plan)) = (joins_at, next.plan.clone()) {
                self.set_joiner(Joiner { key: key.clone(), plan, at }).await?;
            }
            if self.store.save_deployments(&[known.with(next.clone())]).await?[0].is_stored() {
                let now_is = if next.hold.is_some() { "on hold" } else { "released" };
                info!(deployment.key = %key, "{} is {now_is}", next.application_id);
                return Ok(Some(next));
            }
        }
        Err(EngineError::Contended { what: format!("deployment {key}") })
    }

    /// One deployment.
    pub async fn deployment(&self, key: &DeploymentKey) -> Result<Option<Versioned<Deployment>>, EngineError> {
        Ok(self.store.deployments_by_key(std::slice::from_ref(key)).await?.into_iter().next().flatten())
    }

    /// Sends the message for the check that is under way, if one is.
    pub(super) async fn send_check(&self, deployment: &Deployment) -> Result<(), EngineError> {
        let message: Vec<_> = check_message(deployment, self.now()).into_iter().collect();
        self.send_refresh_messages(&message).await
    }

    /// Sends again the messages of checks that are overdue, and forgets what has been gone for long.
    pub(super) async fn send_lost_checks(&self) -> Result<(), EngineError> {
        let now = self.now();
        let lost = self.store.due_checks(now - crate::rollout::refresh::LOST_AFTER, PAGE).await?;
        for mut deployment in lost {
            if let Some(check) = &mut deployment.value.check {
                check.due = now;
                check.message += 1;
            }
            if self.store.save_deployments(std::slice::from_ref(&deployment)).await?[0].is_stored() {
                warn!(deployment.key = %deployment.value.key, "The check of {} was lost and is sent again", deployment.value.application_id);
                self.send_check(&deployment.value).await?;
            }
        }
        self.store.forget_gone(now - crate::rollout::deployment::TOMBSTONE).await?;
        Ok(())
    }

    /// Plans that a scheduled refresh is for: those with a wanted version, stored or of the settings.
    pub(super) async fn plans_with_wanted_version(&self) -> Result<Vec<Plan>, EngineError> {
        let mut plans: Vec<Plan> = document::all::<WantedVersion>(&*self.store, "")
            .await?
            .into_iter()
            .map(|wanted| wanted.value.plan)
            .collect();
        for offer in &self.config.offers {
            for (name, _) in &offer.plans {
                let plan = Plan { publisher: offer.publisher.clone(), offer: offer.offer.clone(), plan: name.clone() };
                if !plans.contains(&plan) {
                    plans.push(plan);
                }
            }
        }
        Ok(plans)
    }

    /// The version that the deployments of a plan should have, if any was named yet.
    pub async fn wanted_version(&self, plan: &Plan) -> Result<Option<Version>, EngineError> {
        Ok(self.wanted(plan).await?.value.version)
    }

    /// The command that brings a refresh's version to its deployment by hand.
    pub fn by_hand(&self, refresh: &Refresh) -> HandOver {
        HandOver::new(&refresh.application_id, refresh.version, None, &self.config.policy)
    }

    /// Deployments for a list.
    pub async fn deployments(
        &self,
        plan: Option<&Plan>,
        page: &PageRequest,
    ) -> Result<crate::store::Page<Versioned<Deployment>>, EngineError> {
        Ok(self.store.deployments(plan, page).await?)
    }
}

/// Writes into the record what the notification says. The state it names is a claim until ARM was read, except that a
/// deletion under way stops work at once: the worst that a forged one can do is delay.
fn note(deployment: &mut Deployment, notification: &Notification, now: Timestamp) {
    if let Some((plan, preview)) = &notification.plan {
        // A known plan stays until ARM says otherwise, since whoever knows `sig` can post anything.
        if deployment.plan.is_none() || !deployment.confirmed {
            deployment.plan = Some(plan.clone());
            deployment.preview = *preview;
        }
        deployment.kind.get_or_insert_with(|| "MarketPlace".to_owned());
    } else {
        deployment.kind.get_or_insert_with(|| "ServiceCatalog".to_owned());
    }
    if deployment.version.is_none() {
        deployment.version.clone_from(&notification.version);
    }
    let is_late_put = notification.event_type.eq_ignore_ascii_case("PUT");
    if !deployment.confirmed || !is_late_put || notification.provisioning_state.eq_ignore_ascii_case("Succeeded") {
        deployment.provisioning_state = Some(stated(notification));
        deployment.state_is_claimed = true;
    }
    deployment.event_time = Some(notification.event_time);
    deployment.event_error.clone_from(&notification.error);
    deployment.updated_at = now;
    deployment.ask_check(now);
}

/// The state that a notification names, in ARM's words for the application: a failed deletion leaves it in place.
fn stated(notification: &Notification) -> String {
    let is_delete = notification.event_type.eq_ignore_ascii_case("DELETE");
    if is_delete && notification.provisioning_state.eq_ignore_ascii_case("Failed") {
        "Succeeded".to_owned()
    } else {
        notification.provisioning_state.clone()
    }
}

/// The message for the check that is under way, if one is.
pub(super) fn check_message(deployment: &Deployment, now: Timestamp) -> Option<Outgoing> {
    let due = deployment.check.as_ref().map(|check| check.due)?;
    let body = Message::CheckDeployment { key: deployment.key.clone() }.to_body();
    Some(Outgoing { id: deployment.check_message_id()?, body, due: (due > now).then_some(due) })
}

fn merge(deployment: &mut Deployment, import: &Import) {
    if let Some((plan, preview)) = &import.plan {
        deployment.plan = Some(plan.clone());
        deployment.preview = *preview;
    }
    for (known, said) in [
        (&mut deployment.version, &import.version),
        (&mut deployment.tenant_id, &import.tenant_id),
        (&mut deployment.managed_resource_group_id, &import.managed_resource_group_id),
        (&mut deployment.location, &import.location),
    ] {
        if said.is_some() {
            known.clone_from(said);
        }
    }
    if let Some(windows) = &import.maintenance_windows {
        deployment.maintenance_windows.clone_from(windows);
    }
    deployment.confirmed |= import.is_vouched;
    if import.is_vouched && deployment.gone_since.take().is_some() {
        // What was known of it when it went says nothing of it now.
        deployment.provisioning_state = None;
        deployment.applied = None;
    }
}
