//! One deployment in words: what it has and should have, who has to act on it, and with which command.
//!
//! Pure: a view of the API in, text out; nothing of others reaches the terminal unescaped.

use std::fmt::Write as _;

use super::plain_text::{plain, table};
use crate::functions::wire::api::{
    DeploymentDetail, DeploymentView, LatestRefreshView, PastView, RefreshView, RefreshWord, RolloutWord,
};
use crate::rollout::counted::times;
use crate::rollout::{Actor, Hold, Timestamp, Version, advice};

/// Who has to act, on what, and the command that comes next.
struct Turn {
    who: &'static str,
    what: String,
    next: Option<String>,
}

/// All that is known of a deployment.
pub fn standing(shown: &DeploymentDetail) -> String {
    let mut text = format!("{}\n", shown.deployment.application_id);
    for (name, value) in facts(shown) {
        let _ = writeln!(text, "  {name:<12} {}", plain(&value));
    }
    if let Some(latest) = &shown.latest_refresh {
        now(&mut text, latest);
    }
    let turn = turn(shown);
    let _ = writeln!(text, "\nWho has to act\n  {}: {}", turn.who, plain(&turn.what));
    if let Some(next) = &turn.next {
        let _ = writeln!(text, "  next: {}", plain(next));
    }
    if let Some(by_hand) = &shown.by_hand {
        let _ = writeln!(text, "  by hand, for this one deployment: {}", plain(&by_hand.command));
    }
    history(&mut text, &shown.deployment.history);
    text
}

/// Its state in a few words.
pub fn state(deployment: &DeploymentView) -> String {
    match &deployment.hold {
        Some(hold) => held(hold),
        None => existence(deployment),
    }
}

fn held(hold: &Hold) -> String {
    match hold {
        Hold { until: Some(until), why, .. } => format!("on hold until {}: {}", moment(*until), plain(why)),
        Hold { until: None, why, .. } => format!("on hold: {}", plain(why)),
    }
}

fn existence(deployment: &DeploymentView) -> String {
    match &deployment.provisioning_state {
        _ if deployment.gone_since.is_some() => "gone".to_owned(),
        _ if !deployment.confirmed => "unconfirmed".to_owned(),
        Some(state) => state.clone(),
        None => "known".to_owned(),
    }
}

fn facts(shown: &DeploymentDetail) -> Vec<(&'static str, String)> {
    let deployment = &shown.deployment;
    let mut facts = Vec::new();
    if let (Some(publisher), Some(offer), Some(plan)) = (&deployment.publisher, &deployment.offer, &deployment.plan) {
        let preview = if deployment.preview { " (preview)" } else { "" };
        facts.push(("plan", format!("{publisher}/{offer}/{plan}{preview}")));
    }
    facts.push(("in Azure", existence(deployment)));
    facts.push((
        "has",
        match (&deployment.applied, &deployment.version) {
            (Some(applied), _) => format!("{}, refreshed to it {}", applied.version, moment(applied.at)),
            (None, Some(version)) => format!("{version}, deployed with it and never refreshed"),
            (None, None) => "nobody knows: it was never refreshed".to_owned(),
        },
    ));
    facts.push((
        "should have",
        match shown.wanted_version {
            Some(wanted) if has(deployment, wanted) => wanted.to_string(),
            Some(wanted) => format!("{wanted}: it is behind"),
            None => "nothing yet: no version was brought out".to_owned(),
        },
    ));
    if let Some(hold) = &deployment.hold {
        facts.push(("hold", held(hold)));
    }
    facts.extend(deployment.maintenance_windows.iter().map(|window| ("window", window.to_string())));
    if let Some(ways) = &deployment.ways {
        facts.extend(ways.worked.map(|way| ("way", format!("{} worked, and is tried first", way.word()))));
        let refused = ways.refused.iter();
        facts.extend(refused.map(|refused| ("way", format!("{} was refused: {}", refused.way.word(), refused.code))));
    }
    if deployment.management_mode.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("unmanaged")) {
        facts.push(("management", "none by the publisher: only a delegation or the customer lets us in".to_owned()));
    }
    if let Some(jit) = deployment.jit.as_ref().filter(|jit| jit.enabled) {
        let by = if jit.approvers.is_empty() { String::new() } else { format!(", by {}", jit.approvers.join(", ")) };
        facts.push(("just in time", format!("access on request only{by}")));
    }
    facts.extend(deployment.tenant_id.clone().map(|tenant| ("tenant", tenant)));
    facts.extend(deployment.location.clone().map(|location| ("region", location)));
    facts.push(("key", deployment.key.to_string()));
    facts
}

/// Whether it has a version, as far as anybody can know.
fn has(deployment: &DeploymentView, version: Version) -> bool {
    match &deployment.applied {
        Some(applied) => applied.version == version,
        None => deployment.version.as_deref().and_then(|text| text.parse().ok()) == Some(version),
    }
}

fn now(text: &mut String, latest: &LatestRefreshView) {
    let RefreshView { version, state, attempts, polls, .. } = &latest.refresh;
    let version = version.map(|version| format!(" to {version}")).unwrap_or_default();
    let _ = writeln!(text, "\nLatest refresh{version}: {}", state.in_words());
    let rollout_state = latest.rollout_state.in_words();
    let _ = writeln!(text, "  rollout {}, which is {rollout_state}", latest.rollout_id);
    let way = latest.refresh.way.map(|way| format!(", by the way {}", way.word())).unwrap_or_default();
    let _ = writeln!(text, "  posted {}, looked at {}{way}", times((*attempts).into()), times((*polls).into()));
    if let Some(why) = &latest.refresh.why {
        let _ = writeln!(text, "  {}", plain(why));
    }
    if let Some(error) = &latest.refresh.error {
        let _ = writeln!(text, "  {}: {}", plain(&error.code), plain(&error.message));
    }
    for refusal in latest.refresh.refusals.iter().filter(|_| latest.refresh.refusals.len() > 1) {
        let (code, message) = (plain(&refusal.code), plain(&refusal.message));
        let _ = writeln!(text, "  refused by the way {}: {code}: {message}", refusal.way.word());
    }
    if let Some(correlation) = &latest.refresh.correlation_id {
        let _ = writeln!(text, "  correlation id {}", plain(correlation));
    }
    if let Some(next_look) = latest.refresh.next_look {
        let _ = writeln!(text, "  looked at next {}", moment(next_look));
    }
}

fn turn(shown: &DeploymentDetail) -> Turn {
    let deployment = &shown.deployment;
    let nobody = |what: &str, next: Option<String>| Turn { who: "Nobody", what: what.to_owned(), next };
    if deployment.gone_since.is_some() {
        return nobody("it is not in Azure any more", None);
    }
    if deployment.hold.is_some() {
        let next = format!("permafresh deployments release {}", deployment.application_id);
        let what = "it is on hold, and gets what it has missed once it is released".to_owned();
        return Turn { who: advice::who(Actor::Publisher), what, next: Some(next) };
    }
    let is_behind = shown.wanted_version.filter(|wanted| !has(deployment, *wanted));
    let Some(latest) = &shown.latest_refresh else {
        return match is_behind {
            Some(_) => nobody("the scheduled refresh brings it, or the next rollout", None),
            None => nobody("it was part of no rollout yet", None),
        };
    };
    let rollout = latest.rollout_id;
    match (latest.refresh.state, &latest.refresh.error) {
        (RefreshWord::HandedOver, _) => Turn {
            who: advice::who(Actor::Customer),
            what: match &latest.refresh.command {
                Some(command) => format!("has to run: {command}"),
                None => "has to run the command of the report".to_owned(),
            },
            next: Some(format!("permafresh deployments refreshed {}   (once they have)", deployment.application_id)),
        },
        (RefreshWord::Failed | RefreshWord::TimedOut, error) => {
            let (actor, code) = match (error, latest.refresh.state) {
                (Some(error), _) => (error.actor, error.code.as_str()),
                (None, RefreshWord::TimedOut) => (Actor::Microsoft, "TimedOut"),
                (None, _) => (Actor::Publisher, "Unknown"),
            };
            // What the version itself is to blame for fails again.
            let next =
                (actor != Actor::Offer).then(|| format!("permafresh rollout retry {rollout} --actor {}", actor.word()));
            Turn { who: advice::who(actor), what: advice::what_to_do(actor, code).to_owned(), next }
        }
        (RefreshWord::AwaitingAccess, _) => {
            let what = latest.refresh.why.clone().unwrap_or_else(|| "it waits for access".to_owned());
            if latest.refresh.opens_at.is_some() {
                return nobody(&what, Some(format!("permafresh rollout watch {rollout}")));
            }
            let next = match deployment.jit.as_ref().is_some_and(|jit| jit.enabled) {
                true => format!("permafresh jit show {}", deployment.application_id),
                false => "permafresh gdap status".to_owned(),
            };
            Turn { who: "Whoever lets us in", what, next: Some(next) }
        }
        (RefreshWord::Queued | RefreshWord::Running | RefreshWord::Verifying, _) => match latest.rollout_state {
            RolloutWord::Paused | RolloutWord::Halted if latest.refresh.state == RefreshWord::Queued => Turn {
                who: advice::who(Actor::Publisher),
                what: "its rollout stands still".to_owned(),
                next: Some(format!("permafresh rollout show {rollout}")),
            },
            _ => nobody("it is under way", Some(format!("permafresh rollout watch {rollout}"))),
        },
        _ => match is_behind {
            Some(wanted) => nobody(
                "the scheduled refresh brings what it should have; sooner does a repair of this one",
                Some(format!(
                    "permafresh rollout repair {rollout} --version {wanted} --scope {}",
                    deployment.application_id
                )),
            ),
            None => nobody("all is done", None),
        },
    }
}

fn history(text: &mut String, history: &[PastView]) {
    if history.is_empty() {
        text.push_str("\nNo refresh of it has ended yet.\n");
        return;
    }
    let row = |past: &PastView| {
        let verified = if past.verified == Some(true) { ", verified" } else { "" };
        let code = past.code.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
        [
            moment(past.at),
            past.version.to_string(),
            format!("{}{verified}{code}", past.result.in_words()),
            past.rollout_id.to_string(),
        ]
    };
    let rows: Vec<_> = history.iter().rev().map(row).collect();
    let _ = write!(text, "\nHistory, the latest first\n{}", table(["ENDED", "VERSION", "RESULT", "ROLLOUT"], &rows));
}

fn moment(at: Timestamp) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ID: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";
    const ROLLOUT: &str = "01990000-0000-7000-8000-000000000001";

    fn shown(more: Value, refresh: Value) -> DeploymentDetail {
        let mut value = json!({"key": "ab".repeat(32), "applicationId": ID, "publisher": "fabrikam", "offer": "ledger",
            "plan": "standard", "preview": false, "confirmed": true, "provisioningState": "Succeeded",
            "version": "1.3.0", "wantedVersion": "1.5.0",
            "createdAt": "2026-01-02T03:00:00Z", "updatedAt": "2026-01-02T03:00:00Z"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        if !refresh.is_null() {
            let mut latest = json!({"rolloutId": ROLLOUT, "rolloutState": "running", "applicationId": ID,
                "version": "1.5.0", "attempts": 1, "polls": 2});
            latest.as_object_mut().unwrap().extend(refresh.as_object().unwrap().clone());
            value["latestRefresh"] = latest;
        }
        serde_json::from_value(value).unwrap()
    }

    fn error(actor: &str, code: &str) -> Value {
        json!({"actor": actor, "code": code, "message": "no"})
    }

    #[test]
    fn each_standing_says_whose_turn_it_is_and_which_command_is_next() {
        let retry = format!("next: permafresh rollout retry {ROLLOUT} --actor ");
        let hold = json!({"hold": {"why": "freeze", "since": "2026-01-02T03:00:00Z"}});
        let jit = json!({"jit": {"enabled": true}});
        for (more, refresh, expected) in [
            (
                json!({"goneSince": "2026-01-02T03:00:00Z"}),
                json!({"state": "failed"}),
                vec!["Nobody: it is not in Azure"],
            ),
            (hold, Value::Null, vec!["The publisher: it is on hold", "next: permafresh deployments release /sub"]),
            (json!({}), Value::Null, vec!["Nobody: the scheduled refresh", "1.5.0: it is behind", "No refresh of it"]),
            (
                json!({"version": "1.5.0"}),
                Value::Null,
                vec!["Nobody: it was part of no rollout", "should have  1.5.0\n"],
            ),
            (
                json!({}),
                json!({"state": "failed", "error": error("customer", "ScopeLocked")}),
                vec!["The customer: ask the customer to remove the lock", &format!("{retry}customer\n")],
            ),
            (
                json!({}),
                json!({"state": "failed", "error": error("offer", "BadAction")}),
                vec!["on the offer itself: correct the permissions"],
            ),
            (json!({}), json!({"state": "timedOut"}), vec!["Microsoft: retry", &format!("{retry}microsoft\n")]),
            (
                json!({}),
                json!({"state": "handedOver", "command": "az rest x"}),
                vec!["The customer: has to run: az rest x", "next: permafresh deployments refreshed /sub"],
            ),
            (
                jit,
                json!({"state": "awaitingAccess", "why": "waits for approval"}),
                vec!["Whoever lets us in: waits for approval", "next: permafresh jit show /sub"],
            ),
            (
                json!({}),
                json!({"state": "awaitingAccess", "why": "waits for the consent of tenant t"}),
                vec!["next: permafresh gdap status"],
            ),
            (
                json!({}),
                json!({"state": "awaitingAccess", "opensAt": "2026-01-03T03:00:00Z"}),
                vec!["Nobody: it waits for access", "next: permafresh rollout watch"],
            ),
            (json!({}), json!({"state": "running"}), vec!["Nobody: it is under way", "next: permafresh rollout watch"]),
            (
                json!({}),
                json!({"state": "queued", "rolloutState": "paused"}),
                vec!["The publisher: its rollout stands still", "next: permafresh rollout show"],
            ),
            (json!({}), json!({"state": "succeeded"}), vec!["--version 1.5.0 --scope /subscriptions"]),
            (json!({"version": "1.5.0"}), json!({"state": "succeeded"}), vec!["Nobody: all is done\n"]),
        ] {
            let text = standing(&shown(more, refresh));
            for expected in &expected {
                assert!(text.contains(expected), "{expected:?} is not in\n{text}");
            }
            let asks = expected.iter().any(|expected| expected.contains("next:") || expected.contains("--scope"));
            assert_eq!(text.contains("  next: "), asks, "{text}");
        }
    }

    #[test]
    fn nothing_of_others_reaches_the_terminal_unescaped() {
        let evil = "\u{1b}[2J\u{202e}\nx";
        let more = json!({"location": evil, "provisioningState": evil, "version": evil, "tenantId": evil,
            "hold": {"why": evil, "since": "2026-01-02T03:00:00Z"},
            "jit": {"enabled": true, "approvers": [evil]},
            "byHand": {"command": evil, "commandPowerShell": evil},
            "history": [{"version": "1.4.0", "rolloutId": ROLLOUT, "at": "2026-01-02T03:00:00Z", "result": "failed", "code": evil}]});
        let refresh = json!({"state": "failed", "why": evil, "correlationId": evil,
            "error": {"actor": "customer", "code": evil, "message": evil},
            "refusals": [{"way": "gdap", "code": evil, "message": evil, "at": "2026-01-02T03:00:00Z"},
                {"way": "publisher", "code": evil, "message": evil, "at": "2026-01-02T03:00:00Z"}]});
        let text = standing(&shown(more, refresh));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with('x')), "{text}");
    }
}
