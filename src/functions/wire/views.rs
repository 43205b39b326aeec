//! Domain records in the shapes of the API.

use super::api::{
    self, AppliedView, AuditView, CommandView, DeploymentView, DryRunCall, DryRunSkip, ErrorView, GoodVersion,
    HeldByView, LastGoodView, LatestRefreshView, PastView, RefreshView, RefreshWord, ResultView, RolloutView,
    RolloutWord, WaysView,
};
use crate::engine::audit::{AuditEntry, Outcome};
use crate::engine::dry_run::DryRun;
use crate::engine::last_good::{Good, LastGood};
use crate::engine::switch::{HeldBy, Stopped};
use crate::rollout::hand_over;
use crate::rollout::refresh::Gate;
use crate::rollout::{
    Actor, Applied, Deployment, Evidence, HandOver, KnownWays, PastRefresh, PastResult, Phase, Refresh, RefreshState,
    Rollout, RolloutState, SkipReason, Standing, Tally, Timestamp, Version,
};

/// A rollout with its counts.
pub fn rollout(rollout: &Rollout, tally: &Tally) -> RolloutView {
    let publish = &rollout.publish;
    RolloutView {
        id: rollout.id,
        publisher: publish.plan.publisher.clone(),
        offer: publish.plan.offer.clone(),
        plan: publish.plan.plan.clone(),
        version: publish.version,
        target: publish.target,
        audience: publish.audience,
        purpose: publish.purpose,
        state: rollout_word(&rollout.state),
        why: rollout.state.why(),
        held_by: Vec::new(),
        lint: rollout.lint.as_ref().map(|lint| lint.findings.clone()).unwrap_or_default(),
        wave: rollout.wave,
        waves: rollout.waves(),
        created_at: rollout.created_at,
        ended_at: rollout.ended_at,
        counts: tally.counts(),
        changes: None,
        changed: rollout.changed,
    }
}

fn rollout_word(state: &RolloutState) -> RolloutWord {
    match state {
        RolloutState::Waiting { .. } => RolloutWord::Waiting,
        RolloutState::Planning => RolloutWord::Planning,
        RolloutState::Running => RolloutWord::Running,
        RolloutState::Paused { .. } => RolloutWord::Paused,
        RolloutState::Halted { .. } => RolloutWord::Halted,
        RolloutState::Completed => RolloutWord::Completed,
        RolloutState::Canceled { .. } => RolloutWord::Canceled,
    }
}

/// A deployment's latest refresh, with where its rollout stands.
pub fn latest_refresh(rollout: &Rollout, refresh: &Refresh) -> LatestRefreshView {
    LatestRefreshView {
        rollout_id: rollout.id,
        rollout_state: rollout_word(&rollout.state),
        refresh: self::refresh(refresh),
    }
}

/// A command for a person.
pub fn by_hand(command: HandOver) -> CommandView {
    CommandView { command: command.bash, command_powershell: command.powershell }
}

/// One refresh.
pub fn refresh(refresh: &Refresh) -> RefreshView {
    let (verified, why) = said(refresh);
    let hand_over = match &refresh.state {
        RefreshState::HandedOver { hand_over } => Some(hand_over),
        _ => None,
    };
    let error = match &refresh.state {
        RefreshState::Failed { failure, .. } => Some(failure.clone().into()),
        RefreshState::HandedOver { hand_over } => Some(match hand_over.error.clone() {
            Some(error) => ErrorView { actor: Actor::Customer, code: error.code, message: error.message },
            None => ErrorView {
                actor: Actor::Customer,
                code: "HandedOver".to_owned(),
                message: "by the settings of the offer nobody but the customer may call: they have to run the command"
                    .to_owned(),
            },
        }),
        RefreshState::TimedOut { failure: Some(failure) } => Some(failure.clone().into()),
        RefreshState::TimedOut { failure: None } => Some(ErrorView {
            actor: Actor::Microsoft,
            code: "TimedOut".to_owned(),
            message: "Azure accepted the refresh, and its operation never ended; neither did the one of a second try"
                .to_owned(),
        }),
        state if state.is_terminal() => None,
        _ => refresh.last_error.clone().map(|error| error.blame(Phase::Post).into()),
    };
    RefreshView {
        application_id: refresh.application_id.clone(),
        state: word(&refresh.state),
        why,
        way: refresh.way,
        version: Some(refresh.version),
        version_before: refresh.version_before,
        wave: Some(refresh.wave),
        attempts: refresh.attempts,
        polls: refresh.polls,
        percent_complete: refresh.percent_complete,
        verified,
        error,
        refusals: refresh.refusals.iter().map(Into::into).collect(),
        correlation_id: refresh.correlation_id.clone(),
        submitted_at: refresh.submitted_at,
        ended_at: refresh.ended_at,
        next_look: next_look(&refresh.state),
        opens_at: match refresh.state {
            RefreshState::AwaitingAccess { gate: Gate::Window, next_look, .. } => Some(next_look),
            _ => None,
        },
        command: hand_over.map(|hand_over| hand_over.bash.clone()),
        command_powershell: hand_over.map(|hand_over| hand_over.powershell.clone()),
        result: hand_over.map(|_| ResultView {
            how: hand_over::RESULT.to_owned(),
            command: hand_over::RESULT_BASH.to_owned(),
            command_powershell: hand_over::RESULT_POWERSHELL.to_owned(),
            expected_minutes: hand_over::EXPECTED.as_secs() / 60,
        }),
    }
}

/// One deployment.
pub fn deployment(deployment: &Deployment) -> DeploymentView {
    let plan = deployment.plan.as_ref();
    DeploymentView {
        key: deployment.key.clone(),
        application_id: deployment.application_id.clone(),
        publisher: plan.map(|plan| plan.publisher.clone()),
        offer: plan.map(|plan| plan.offer.clone()),
        plan: plan.map(|plan| plan.plan.clone()),
        preview: deployment.preview,
        version: deployment.version.clone(),
        kind: deployment.kind.clone(),
        tenant_id: deployment.tenant_id.clone(),
        managed_resource_group_id: deployment.managed_resource_group_id.clone(),
        location: deployment.location.clone(),
        provisioning_state: deployment.provisioning_state.clone(),
        confirmed: deployment.confirmed,
        gone_since: deployment.gone_since,
        applied: deployment.applied.as_ref().map(|Applied { version, rollout_id, at }| AppliedView {
            version: *version,
            rollout_id: *rollout_id,
            at: *at,
        }),
        hold: deployment.hold.clone(),
        maintenance_windows: deployment.maintenance_windows.clone(),
        jit: deployment.jit.clone(),
        management_mode: deployment.management_mode.clone(),
        ways: None,
        history: deployment.history.iter().map(past).collect(),
        created_at: deployment.created_at,
        updated_at: deployment.updated_at,
    }
}

/// What is remembered of the ways to a deployment, if anything counts now.
pub fn ways(known: &KnownWays, now: Timestamp) -> Option<WaysView> {
    let worked = known.worked(now).map(|worked| worked.way);
    let refused: Vec<_> = known.refused(now).map(Into::into).collect();
    (worked.is_some() || !refused.is_empty()).then_some(WaysView { worked, refused })
}

/// What keeps every rollout from posting.
pub fn held_by(held_by: HeldBy) -> HeldByView {
    match held_by {
        HeldBy::Stop(Stopped { since, who, why }) => {
            HeldByView { by: "stop".to_owned(), since: Some(since), who: Some(who), why }
        }
        HeldBy::Observe => HeldByView { by: "observe".to_owned(), since: None, who: None, why: None },
    }
}

/// One entry of the audit list.
pub fn audit_entry(entry: AuditEntry) -> AuditView {
    let AuditEntry { at, who, what, on, from, to, why, outcome, problem, id: _ } = entry;
    let outcome = match outcome {
        Outcome::Begun => "begun",
        Outcome::Done => "done",
        Outcome::Refused => "refused",
    };
    AuditView { at, who, what, on, from, to, why, outcome: outcome.to_owned(), problem }
}

fn past(past: &PastRefresh) -> PastView {
    let (result, verified, code) = match &past.result {
        PastResult::Succeeded { verified } => (RefreshWord::Succeeded, Some(*verified), None),
        PastResult::Failed { code } => (RefreshWord::Failed, None, Some(code.clone())),
        PastResult::TimedOut => (RefreshWord::TimedOut, None, None),
    };
    PastView { version: past.version, rollout_id: past.rollout_id, at: past.at, result, verified, code }
}

/// What the deployments of a plan could go back to.
pub fn last_good(found: &LastGood) -> LastGoodView {
    LastGoodView {
        bad_version: found.bad,
        version: found.versions.first().map(|good| good.version),
        deployments: found.deployments,
        with_bad_version: found.with_bad,
        without_other: found.without_other,
        versions: found
            .versions
            .iter()
            .map(|&Good { version, deployments, last_at }| GoodVersion {
                version,
                deployments,
                last_succeeded_at: last_at,
            })
            .collect(),
    }
}

/// What a publish would do.
pub fn dry_run(run: DryRun, version: Version) -> api::DryRun {
    let called = run.called.into_iter().map(|call| {
        let (command, command_powershell) = match call.hand_over {
            Some(HandOver { bash, powershell, .. }) => (Some(bash), Some(powershell)),
            None => (None, None),
        };
        DryRunCall {
            application_id: call.member.application_id,
            wave: call.wave,
            version: Some(version),
            version_before: call.member.version_before,
            way: Some(call.way),
            opens_at: call.opens_at,
            command,
            command_powershell,
        }
    });
    let skipped = run.skipped.into_iter().map(|(member, why)| DryRunSkip {
        application_id: member.application_id,
        why: skip_reason(why).to_owned(),
        version_before: member.version_before,
    });
    api::DryRun {
        version,
        held_by: Vec::new(),
        lint: run.lint,
        refused: run.refused,
        called: called.collect(),
        skipped: skipped.collect(),
    }
}

/// The standings that a word of the API stands for.
pub fn standings(word: RefreshWord) -> Vec<Standing> {
    Standing::ALL.into_iter().filter(|standing| standing_word(*standing) == word).collect()
}

fn standing_word(standing: Standing) -> RefreshWord {
    match standing {
        Standing::Pending | Standing::Queued => RefreshWord::Queued,
        Standing::Submitting | Standing::Running => RefreshWord::Running,
        Standing::AwaitingAccess => RefreshWord::AwaitingAccess,
        Standing::Verifying => RefreshWord::Verifying,
        Standing::Succeeded | Standing::SucceededUnproven => RefreshWord::Succeeded,
        Standing::Failed | Standing::FailedUnproven | Standing::FailedByOffer => RefreshWord::Failed,
        Standing::Canceled => RefreshWord::Canceled,
        Standing::TimedOut => RefreshWord::TimedOut,
        Standing::Skipped => RefreshWord::Skipped,
        Standing::HandedOver => RefreshWord::HandedOver,
        Standing::Superseded => RefreshWord::Superseded,
    }
}

fn word(state: &RefreshState) -> RefreshWord {
    match state {
        RefreshState::Queued { .. } => RefreshWord::Queued,
        RefreshState::Submitting { .. } | RefreshState::Running { .. } => RefreshWord::Running,
        RefreshState::AwaitingAccess { .. } => RefreshWord::AwaitingAccess,
        RefreshState::Verifying { .. } => RefreshWord::Verifying,
        RefreshState::Succeeded { .. } => RefreshWord::Succeeded,
        RefreshState::Failed { .. } => RefreshWord::Failed,
        RefreshState::Canceled => RefreshWord::Canceled,
        RefreshState::TimedOut { .. } => RefreshWord::TimedOut,
        RefreshState::Skipped { .. } => RefreshWord::Skipped,
        RefreshState::HandedOver { .. } => RefreshWord::HandedOver,
        RefreshState::Superseded { .. } => RefreshWord::Superseded,
    }
}

/// Whether it was verified, and what else there is to say about the state.
fn said(refresh: &Refresh) -> (Option<bool>, Option<String>) {
    match &refresh.state {
        RefreshState::Succeeded { evidence } => match evidence {
            Evidence::Status => (None, None),
            Evidence::StatusAndApplication => (Some(true), None),
            Evidence::StatusOnly { unproven } => (Some(false), Some(unproven.clone())),
            Evidence::ApplicationOnly => {
                (Some(true), Some("judged by reading the application; the operation's end was not seen".to_owned()))
            }
            Evidence::ShownByAzure => {
                let why = "the customer has run it: since the hand-over Azure shows this version; the operation's end was not seen";
                (Some(false), Some(why.to_owned()))
            }
            Evidence::Reported { by } => {
                (Some(false), Some(format!("the customer has run it, as {by} has recorded; nothing was seen of it")))
            }
        },
        RefreshState::Skipped { why } => (None, Some(skip_reason(*why).to_owned())),
        RefreshState::Superseded { by } => (None, Some(format!("rollout {by} took its place"))),
        RefreshState::AwaitingAccess { gate, next_look, .. } => (
            None,
            Some(match gate {
                Gate::Jit { request, approval } => {
                    format!("waits for just-in-time request {request}, which {}", approval.who_and_where())
                }
                Gate::Consent { tenant_id } => format!("waits for the consent of tenant {tenant_id}"),
                Gate::SignIn => "waits until GDAP works again: somebody of the publisher has to sign in \
                                 (`permafresh gdap sign-in`), or to put right what the error names"
                    .to_owned(),
                Gate::Window => format!(
                    "waits for its maintenance window, which opens at {}",
                    next_look.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
                ),
            }),
        ),
        _ => (None, None),
    }
}

/// Why there was nothing to do, in a word for scripts and one for people.
pub fn skip_reason(why: SkipReason) -> &'static str {
    match why {
        SkipReason::AlreadyApplied => "alreadyApplied: it has this version",
        SkipReason::NewerApplied => "newerApplied: it has a newer version",
        SkipReason::Gone => "gone: Azure says that it is not there",
        SkipReason::Deleting => "deleting: it is being deleted",
        SkipReason::NotReady => "notReady: its own deployment is not done, or failed",
        SkipReason::Unconfirmed => "unconfirmed: known from a notification only, Azure has not confirmed it",
        SkipReason::OnHold => "onHold: somebody put it on hold",
        SkipReason::MissedWindow => "missedWindow: none of its maintenance windows could be used",
    }
}

fn next_look(state: &RefreshState) -> Option<Timestamp> {
    match state {
        RefreshState::Queued { due, .. } => *due,
        RefreshState::AwaitingAccess { next_look, .. } | RefreshState::Verifying { next_look, .. } => Some(*next_look),
        RefreshState::Running { next_poll, .. } => Some(*next_poll),
        _ => None,
    }
}
