//! Who has to act on what: the summary of a rollout in words.
//!
//! Pure: views of the API in, text out. It shows at most a few deployments of each kind, since the full list is the
//! report's business, and nothing of others reaches the terminal unescaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::plain_text::{plain, shortened};
use crate::functions::wire::api::{
    ErrorView, HeldByView, RefreshView, RefreshWord, RefusalView, RolloutView, RolloutWord,
};
use crate::rollout::{Actor, Audience, Counts, Target, advice, counted};

/// The states whose refreshes a summary wants to see; the others are only counted.
pub const STATES: [RefreshWord; 5] = [
    RefreshWord::Failed,
    RefreshWord::TimedOut,
    RefreshWord::HandedOver,
    RefreshWord::AwaitingAccess,
    RefreshWord::Skipped,
];

/// How many refreshes of each state a summary is worth fetching.
pub const ENOUGH: usize = 2_000;

const SHOWN_DEPLOYMENTS: usize = 3;
const SHOWN_COMMANDS: usize = 3;
const MESSAGE_LENGTH: usize = 300;

/// The summary of a rollout; `refreshes` are those in [`STATES`], or the first of them.
pub fn summary(rollout: &RolloutView, refreshes: &[RefreshView]) -> String {
    let mut text = heading(rollout);
    let _ = writeln!(text, "\n{}", counts(&rollout.counts));
    if let Some(changed) = rollout.changed {
        let _ = writeln!(text, "{} had another version before", counted(changed, "deployment"));
    }
    actions(&mut text, rollout, refreshes);
    hand_overs(&mut text, rollout, refreshes);
    waiting(&mut text, refreshes);
    skipped(&mut text, refreshes);
    text
}

/// What a rollout brings to whom, where it stands and why: one line, or two.
pub fn heading(rollout: &RolloutView) -> String {
    let target = match rollout.target {
        Target::Preview => "preview",
        Target::Live => "live",
    };
    let audience = match rollout.audience {
        Audience::Preview => "preview deployments",
        Audience::All => "all deployments",
    };
    let RolloutView { publisher, offer, plan, version, .. } = rollout;
    let mut text = format!("{publisher}/{offer}/{plan} {version} ({target}, {audience}): {}", rollout.state.in_words());
    if let Some(ended_at) = rollout.ended_at {
        let _ = write!(text, " after {}", duration(ended_at - rollout.created_at));
    }
    text = plain(&text);
    if let Some(why) = &rollout.why {
        let _ = write!(text, "\n  {}", plain(why));
    }
    for held_by in &rollout.held_by {
        let _ = write!(text, "\n  {}", self::held_by(held_by));
    }
    let _ = writeln!(text, "\n  rollout {}", rollout.id);
    text
}

/// What keeps every rollout from posting, in words.
pub fn held_by(held_by: &HeldByView) -> String {
    let HeldByView { by, since, who, why } = held_by;
    let text = match by.as_str() {
        "stop" => {
            let since = since.map(|since| format!(" since {}", since.format("%Y-%m-%d %H:%M:%SZ"))).unwrap_or_default();
            let who = who.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("everything is stopped{since}{who}{why}; `permafresh start` lets it go on")
        }
        "observe" => "the service only observes and posts nothing (MODE=observe)".to_owned(),
        other => format!("held by {other}"),
    };
    plain(&text)
}

/// The counts that are not zero, and the total.
pub fn counts(counts: &Counts) -> String {
    let told = RefreshWord::in_order_of_telling(counts).into_iter().filter(|(_, count)| *count > 0);
    let mut parts: Vec<_> = told.map(|(state, count)| format!("{count} {}", state.in_words())).collect();
    parts.push(format!("{} in all", counts.total));
    parts.join(", ")
}

/// A span of time in its two largest units.
pub fn duration(span: chrono::TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Failures by who has to act and by code.
fn actions(text: &mut String, rollout: &RolloutView, refreshes: &[RefreshView]) {
    let mut groups: BTreeMap<(usize, String), Vec<(&RefreshView, ErrorView)>> = BTreeMap::new();
    for refresh in refreshes {
        let error = match (refresh.state, &refresh.error) {
            (RefreshWord::Failed | RefreshWord::TimedOut, Some(error)) => error.clone(),
            (RefreshWord::Failed, None) => ErrorView {
                actor: Actor::Publisher,
                code: "Unknown".to_owned(),
                message: "the service did not say why".to_owned(),
            },
            (RefreshWord::TimedOut, None) => ErrorView {
                actor: Actor::Microsoft,
                code: "TimedOut".to_owned(),
                message: "Azure accepted the refresh, but its operation never ended".to_owned(),
            },
            _ => continue,
        };
        groups.entry((rank(error.actor), error.code.to_lowercase())).or_default().push((refresh, error));
    }
    if groups.is_empty() {
        if rollout.state == RolloutWord::Completed && rollout.counts.total == 0 {
            text.push_str("\nNo deployment of this plan is known: import some with `permafresh deployments import`, then POST /api/rollouts with the same body.\n");
        } else if rollout.state == RolloutWord::Completed && rollout.counts.handed_over == 0 {
            text.push_str("\nNobody has to act.\n");
        }
        return;
    }
    text.push_str("\nWho has to act\n");
    let mut last = None;
    for members in groups.values() {
        let Some((_, error)) = members.first() else { continue };
        if last.replace(error.actor) != Some(error.actor) {
            let _ = writeln!(text, "\n  {}", advice::who(error.actor));
        }
        let message = shortened(&plain(&error.message), MESSAGE_LENGTH);
        let _ =
            writeln!(text, "    {} ({}): {message}", plain(&error.code), counted(members.len() as u64, "deployment"));
        let _ = writeln!(text, "      what to do: {}", advice::what_to_do(error.actor, &error.code));
        for (refresh, error) in members.iter().take(SHOWN_DEPLOYMENTS) {
            let _ = write!(text, "      {}", refresh.application_id);
            // Microsoft's support asks for this first.
            if let (Actor::Microsoft, Some(correlation)) = (error.actor, &refresh.correlation_id) {
                let _ = write!(text, "  correlation id {}", plain(correlation));
            }
            text.push('\n');
        }
        more(text, members.len(), SHOWN_DEPLOYMENTS, rollout);
    }
    let unseen = (rollout.counts.failed + rollout.counts.timed_out)
        .saturating_sub(groups.values().map(|members| members.len() as u64).sum());
    if unseen > 0 {
        let _ = writeln!(text, "\n  {} more, not looked at here: see the report", counted(unseen, "failure"));
    }
}

fn hand_overs(text: &mut String, rollout: &RolloutView, refreshes: &[RefreshView]) {
    let handed: Vec<_> = refreshes.iter().filter(|refresh| refresh.state == RefreshWord::HandedOver).collect();
    if handed.is_empty() {
        return;
    }
    let count = rollout.counts.handed_over.max(handed.len() as u64);
    let _ = writeln!(text, "\nHanded over: {}, whose customer has to run the command", counted(count, "deployment"));
    for refresh in handed.iter().take(SHOWN_COMMANDS) {
        let _ = writeln!(text, "  {}", refresh.application_id);
        if refresh.refusals.len() > 1 {
            for RefusalView { way, code, message, at: _ } in &refresh.refusals {
                let message = shortened(&plain(message), MESSAGE_LENGTH);
                let _ = writeln!(text, "    refused by the way {}: {}: {message}", way.word(), plain(code));
            }
        } else if let Some(error) = &refresh.error {
            let message = shortened(&plain(&error.message), MESSAGE_LENGTH);
            let _ = writeln!(text, "    because: {}: {message}", plain(&error.code));
        }
        if let Some(command) = &refresh.command {
            let _ = writeln!(text, "    {}", plain(command));
        }
    }
    more(text, usize::try_from(count).unwrap_or(usize::MAX), SHOWN_COMMANDS, rollout);
    if let Some(result) = handed.iter().find_map(|refresh| refresh.result.as_ref()) {
        let minutes = result.expected_minutes;
        let _ = writeln!(text, "  It takes up to about {minutes} minutes: {}:", plain(&result.how));
        let _ = writeln!(text, "    {}", plain(&result.command));
        let _ = writeln!(text, "  The report has both commands for PowerShell too. When a customer has run it:");
        let _ = writeln!(text, "    permafresh deployments refreshed APPLICATION-ID");
    }
}

fn waiting(text: &mut String, refreshes: &[RefreshView]) {
    let waiting: Vec<_> = refreshes.iter().filter(|refresh| refresh.state == RefreshWord::AwaitingAccess).collect();
    if waiting.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nWaiting for access: {}", counted(waiting.len() as u64, "deployment"));
    for refresh in waiting.iter().take(SHOWN_DEPLOYMENTS) {
        let _ = write!(text, "  {}", refresh.application_id);
        if let Some(why) = &refresh.why {
            let _ = write!(text, ": {}", plain(why));
        }
        text.push('\n');
    }
}

fn skipped(text: &mut String, refreshes: &[RefreshView]) {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for refresh in refreshes.iter().filter(|refresh| refresh.state == RefreshWord::Skipped) {
        *reasons.entry(refresh.why.as_deref().unwrap_or("for no reason that is known here")).or_default() += 1;
    }
    if reasons.is_empty() {
        return;
    }
    text.push_str("\nSkipped\n");
    for (why, count) in reasons {
        let _ = writeln!(text, "  {}: {}", counted(count, "deployment"), plain(why));
    }
}

fn more(text: &mut String, count: usize, shown: usize, rollout: &RolloutView) {
    if count > shown {
        let _ =
            writeln!(text, "      and {} more: permafresh rollout report {} --format csv", count - shown, rollout.id);
    }
}

/// The order of the summary.
fn rank(actor: Actor) -> usize {
    advice::ORDER.iter().position(|known| *known == actor).unwrap_or(advice::ORDER.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(state: &str, counts: serde_json::Value) -> RolloutView {
        let mut all = serde_json::to_value(Counts::default()).unwrap();
        all.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
        serde_json::from_value(serde_json::json!({
            "id": "01990000-0000-7000-8000-000000000001", "publisher": "fabrikam", "offer": "ledger", "plan": "standard",
            "version": "1.4.0", "target": "live", "audience": "all", "purpose": "rollOut", "state": state,
            "wave": 3, "waves": 3, "createdAt": "2026-01-02T03:00:00Z", "endedAt": "2026-01-02T03:00:42Z",
            "counts": all
        }))
        .unwrap()
    }

    fn refresh(name: &str, more: serde_json::Value) -> RefreshView {
        let mut value = serde_json::json!({
            "applicationId": format!("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.Solutions/applications/app-{name}"),
            "attempts": 1, "polls": 2
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn failed(name: &str, actor: &str, code: &str, message: &str) -> RefreshView {
        let error = serde_json::json!({"actor": actor, "code": code, "message": message});
        refresh(name, serde_json::json!({"state": "failed", "error": error, "correlationId": format!("c-{name}")}))
    }

    #[test]
    fn a_clean_rollout_asks_nobody_to_act() {
        let text = summary(&rollout("completed", serde_json::json!({"succeeded": 3, "total": 3})), &[]);
        assert_eq!(
            text,
            "fabrikam/ledger/standard 1.4.0 (live, all deployments): completed after 42 s\n  rollout 01990000-0000-7000-8000-000000000001\n\n3 succeeded, 3 in all\n\nNobody has to act.\n"
        );
    }

    #[test]
    fn a_scheduled_refresh_says_whose_version_was_another_one() {
        let mut rollout = rollout("completed", serde_json::json!({"succeeded": 3, "total": 3}));
        rollout.changed = Some(1);
        assert!(summary(&rollout, &[]).contains("3 in all\n1 deployment had another version before\n"));
    }

    #[test]
    fn a_rollout_that_found_nobody_says_what_is_missing() {
        let text = summary(&rollout("completed", serde_json::json!({})), &[]);
        assert!(text.contains("permafresh deployments import") && !text.contains("Nobody has to act"), "{text}");
    }

    #[test]
    fn failures_are_grouped_by_who_has_to_act_and_by_code() {
        let mut refreshes: Vec<_> =
            (0..5).map(|n| failed(&format!("locked{n}"), "customer", "ScopeLocked", "locked")).collect();
        refreshes.push(failed("broken", "microsoft", "InternalServerError", "try again"));
        refreshes.push(failed("policy", "customer", "RequestDisallowedByPolicy", "no"));
        refreshes.push(failed(
            "wrong",
            "offer",
            "BadAction",
            "the action 'Microsoft.X/y' is not offered by any provider",
        ));
        refreshes.push(refresh("slow", serde_json::json!({"state": "timedOut"})));
        let counts = serde_json::json!({"failed": 8, "timedOut": 1, "succeeded": 1, "total": 10});
        let text = summary(&rollout("completed", counts), &refreshes);
        let places: Vec<_> = [
            "1 succeeded, 8 failed, 1 timed out, 10 in all",
            "The publisher, on the offer itself",
            "BadAction (1 deployment)",
            "publish a new version",
            "The customer",
            "RequestDisallowedByPolicy (1 deployment)",
            "ScopeLocked (5 deployments): locked",
            "remove the lock",
            "applications/app-locked2\n",
            "and 2 more: permafresh rollout report 01990000-0000-7000-8000-000000000001 --format csv",
            "Microsoft\n",
            "InternalServerError (1 deployment)",
            "correlation id c-broken",
            "TimedOut (1 deployment)",
        ]
        .map(|wanted| text.find(wanted).unwrap_or_else(|| panic!("{wanted:?} is not in\n{text}")))
        .into();
        assert!(places.is_sorted(), "{text}");
        assert!(!text.contains("locked3") && !text.contains("c-policy"), "{text}");
        assert_eq!(text.matches("The customer\n").count(), 1);
    }

    #[test]
    fn what_is_handed_over_shows_the_very_command() {
        let command = "az rest --method post --verbose --url 'https://management.azure.com/x?api-version=2019-07-01'";
        let error = serde_json::json!({"actor": "customer", "code": "AuthorizationFailed", "message": "not allowed"});
        let handed = refresh("app", serde_json::json!({"state": "handedOver", "command": command, "error": error}));
        let text = summary(&rollout("completed", serde_json::json!({"handedOver": 1, "total": 1})), &[handed]);
        assert!(text.contains(&format!("    {command}\n")), "{text}");
        assert!(text.contains("because: AuthorizationFailed: not allowed"), "{text}");
        assert!(!text.contains("Nobody has to act"), "{text}");
    }

    #[test]
    fn what_waits_and_what_was_skipped_says_why() {
        let refreshes = [
            refresh("a", serde_json::json!({"state": "awaitingAccess", "why": "consent of tenant t"})),
            refresh("b", serde_json::json!({"state": "skipped", "why": "alreadyApplied"})),
            refresh("c", serde_json::json!({"state": "skipped", "why": "alreadyApplied"})),
        ];
        let text = summary(
            &rollout("running", serde_json::json!({"awaitingAccess": 1, "skipped": 2, "total": 3})),
            &refreshes,
        );
        assert!(text.contains("applications/app-a: consent of tenant t\n"), "{text}");
        assert!(text.contains("  2 deployments: alreadyApplied\n"), "{text}");
    }

    #[test]
    fn failures_that_were_not_fetched_are_counted_all_the_same() {
        let refreshes = [failed("a", "customer", "ScopeLocked", "locked")];
        let text = summary(&rollout("completed", serde_json::json!({"failed": 7, "total": 7})), &refreshes);
        assert!(text.contains("6 failures more, not looked at here"), "{text}");
    }

    #[test]
    fn nothing_of_others_reaches_the_terminal_unescaped() {
        let mut rollout = rollout("halted", serde_json::json!({"failed": 1, "total": 1}));
        rollout.why = Some("why\u{1b}[2J".into());
        rollout.offer = "led\u{7}ger".into();
        let mut hostile = failed("a", "microsoft", "Co\u{1b}]0;de", "line one\nline two \u{202e}\u{9b}1m");
        hostile.correlation_id = Some("c\u{1b}".into());
        let handed = refresh("b", serde_json::json!({"state": "handedOver", "command": "az \u{1b}[8m"}));
        let skipped = refresh("c", serde_json::json!({"state": "skipped", "why": "\u{1b}c"}));
        let text = summary(&rollout, &[hostile, handed, skipped]);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'), "{text:?}");
        assert!(text.contains("line one line two"), "{text}");
    }

    #[test]
    fn spans_of_time_are_short() {
        for (seconds, expected) in
            [(-1, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(chrono::TimeDelta::seconds(seconds)), expected);
        }
    }
}
