//! The check of one deployment: reads the application from ARM and brings the registry up to date. ARM's answer decides,
//! not what a notification said (design §2).

use tracing::{info, warn};

use super::{Engine, EngineError};
use crate::arm::Application;
use crate::rollout::deployment::CHECK_LOOKS;
use crate::rollout::refresh::SECOND_LOOK;
use crate::rollout::{Deployment, DeploymentKey, Plan, ReadAnswer, Readiness, RetryPolicy, Timestamp};

impl Engine {
    /// One look at ARM for one deployment.
    pub async fn check_deployment(&self, key: &DeploymentKey) -> Result<(), EngineError> {
        let Some(known) = self.deployment(key).await? else { return Ok(()) };
        let is_due = known.value.check.as_ref().is_some_and(|check| check.due <= self.now());
        if !is_due {
            return Ok(());
        }
        let arm = self.arm_for_check(&known.value).await?;
        let read = arm.read_application(&known.value.application_id).await;
        let mut known = known;
        for _ in 0..super::RACES {
            let now = self.now();
            let mut changed = known.value.clone();
            conclude(&mut changed, &read.answer, read.application.as_ref(), now);
            self.expect_joiners(changed.joiner_after(Some(&known.value), now)).await?;
            self.recognise_run(&known.value, &changed).await?;
            if self.store.save_deployments(&[known.with(changed.clone())]).await?[0].is_stored() {
                info!(
                    deployment.key = %key,
                    "ARM was read for {}: {}", changed.application_id, describe(&changed)
                );
                return self.send_check(&changed).await;
            }
            match self.deployment(key).await? {
                // A newer notification has asked for a check of its own.
                Some(newer) if newer.value.check != known.value.check => return Ok(()),
                Some(newer) => known = newer,
                None => return Ok(()),
            }
        }
        Err(EngineError::Contended { what: format!("deployment {key}") })
    }
}

/// What ARM's answer makes of the record, the next look included.
fn conclude(deployment: &mut Deployment, answer: &ReadAnswer, application: Option<&Application>, now: Timestamp) {
    deployment.updated_at = now;
    deployment.hold.take_if(|hold| !hold.is_on(now));
    let was_leaving =
        deployment.gone_since.is_none() && matches!(deployment.readiness(), Readiness::Leaving | Readiness::Uncertain);
    if let Some(application) = application {
        adopt(deployment, application);
    }
    let held_back = matches!(answer, ReadAnswer::Unreadable { error, .. } if error.is_held_back());
    let looks = deployment.check.as_ref().map_or(0, |check| check.looks) + u32::from(!held_back);
    let seemed_gone = deployment.check.as_ref().is_some_and(|check| check.seems_gone);
    let next = match answer {
        // It was said to be going, and ARM may not show it yet.
        ReadAnswer::Ready | ReadAnswer::Broken { .. } if was_leaving => Some(SECOND_LOOK),
        ReadAnswer::Ready | ReadAnswer::Broken { .. } => None,
        ReadAnswer::Busy { .. } | ReadAnswer::Deleting => Some(SECOND_LOOK),
        ReadAnswer::NotFound if seemed_gone || says_deleted(deployment) => {
            deployment.gone_since.get_or_insert(now);
            deployment.provisioning_state = Some("Deleted".to_owned());
            deployment.state_is_claimed = false;
            None
        }
        ReadAnswer::NotFound => Some(SECOND_LOOK),
        ReadAnswer::Unreadable { error, wait } => {
            warn!(deployment.key = %deployment.key, error.code = %error.code, "{} could not be read", deployment.application_id);
            Some(RetryPolicy::POST.wait(looks.max(1), *wait, deployment.key.as_str()))
        }
    };
    // That it is gone takes two words in a row, and is always asked to its end.
    let is_missing = *answer == ReadAnswer::NotFound || held_back && seemed_gone;
    match (next.filter(|_| looks < CHECK_LOOKS || is_missing), &mut deployment.check) {
        (Some(wait), Some(check)) => {
            check.due = now + wait;
            check.looks = looks;
            check.seems_gone = is_missing || was_leaving;
        }
        _ => deployment.check = None,
    }
}

/// Whether the newest notification said that the deletion is done: then one look that finds nothing is enough.
fn says_deleted(deployment: &Deployment) -> bool {
    deployment.provisioning_state.as_deref().is_some_and(|state| state.eq_ignore_ascii_case("Deleted"))
}

/// Takes over what ARM says; what it leaves out stays, except the plan of a service-catalog application, which has none.
fn adopt(deployment: &mut Deployment, application: &Application) {
    deployment.confirmed = true;
    if deployment.gone_since.take().is_some() {
        // It was made anew: what the one before it had says nothing of it.
        deployment.applied = None;
    }
    if let Some(plan) = &application.plan
        && let Ok((known, preview)) = Plan::parse(&plan.publisher, &plan.product, &plan.name)
    {
        deployment.plan = Some(known);
        deployment.preview = preview;
        if plan.version.is_some() {
            deployment.version.clone_from(&plan.version);
        }
    } else if application.is_service_catalog() {
        deployment.plan = None;
        deployment.preview = false;
    }
    for (known, said) in [
        (&mut deployment.kind, &application.kind),
        (&mut deployment.location, &application.location),
        (&mut deployment.management_mode, &application.properties.management_mode),
        (&mut deployment.managed_resource_group_id, &application.properties.managed_resource_group_id),
        (&mut deployment.provisioning_state, &application.properties.provisioning_state),
    ] {
        if said.is_some() {
            known.clone_from(said);
        }
    }
    // Not there is an answer too: it cannot be turned on later.
    deployment.jit = application.jit_terms();
    deployment.state_is_claimed &= application.properties.provisioning_state.is_none();
}

fn describe(deployment: &Deployment) -> &str {
    match (&deployment.gone_since, &deployment.provisioning_state) {
        (Some(_), _) => "it is gone",
        (None, Some(state)) => state,
        (None, None) => "its state is not known",
    }
}
