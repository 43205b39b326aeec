//! What several pages are made of: bars, states, times, groups of failures, pagers.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::HOME;
use super::super::lists::SEARCHED;
use super::super::load::{Failures, GROUPED, Group};
use crate::functions::wire::api::{HeldByView, RefreshView, RefreshWord, RefusalView, RolloutView, RolloutWord};
use crate::rollout::counted::plural;
use crate::rollout::{Actor, ApplicationId, Counts, DeploymentKey, RolloutId, Timestamp, advice};

/// The width of a bar in its own units.
const WIDTH: u64 = 1_000;

/// A number with its thousands apart.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 deployment`, `3 deployments`.
pub fn counted(value: u64, noun: &str) -> String {
    format!("{} {}", number(value), plural(value, noun))
}

/// A whole number of percent, which is 0 only for nothing and 100 only for all.
pub fn percent(part: u64, whole: u64) -> u64 {
    match (part, whole) {
        (0, _) | (_, 0) => 0,
        (part, whole) if part >= whole => 100,
        (part, whole) => (u128::from(part) * 100 / u128::from(whole)).clamp(1, 99).try_into().unwrap_or(99),
    }
}

/// A bar of parts, each with its class; what is left of `whole` stays empty.
pub fn bar(label: &str, whole: u64, parts: &[(&str, u64)]) -> Markup {
    let at =
        |value: u64| u64::try_from(u128::from(value) * u128::from(WIDTH) / u128::from(whole.max(1))).unwrap_or(WIDTH);
    let mut before = 0_u64;
    let mut rects = Vec::new();
    for (class, value) in parts {
        let end = before.saturating_add(*value).min(whole);
        // One of a hundred thousand is still to be seen.
        let width = if end > before { (at(end) - at(before)).max(4) } else { 0 };
        rects.push((*class, at(before).min(WIDTH - 4), width));
        before = end;
    }
    html! {
        svg.bar role="img" aria-label=(label) viewBox="0 0 1000 10" preserveAspectRatio="none" {
            @for (class, x, width) in rects {
                @if width > 0 { rect class=(class) x=(x) y="0" width=(width) height="10" {} }
            }
        }
    }
}

/// How far it has come, of `whole`: each state in its own colour, so that only what succeeded looks like success.
pub fn progress(counts: &Counts, whole: u64) -> Markup {
    let told = RefreshWord::in_order_of_telling(counts);
    let words =
        told.iter().filter(|(_, count)| *count > 0).map(|(state, count)| format!("{count} {}", state.in_words()));
    let label = words.chain([format!("of {whole}")]).collect::<Vec<_>>().join(", ");
    let parts = told.map(|(state, count)| (class_of(state), count));
    bar(&label, whole.max(counts.total), &parts)
}

/// The counts of a rollout that are not zero.
pub fn counts(counts: &Counts) -> Markup {
    html! {
        ul.counts {
            @for (state, count) in RefreshWord::in_order_of_telling(counts) {
                @if count > 0 { li { span.dot.(class_of(state)) {} b { (number(count)) } " " (state.in_words()) } }
            }
            li.all { b { (number(counts.total)) } " in all" }
        }
    }
}

/// What keeps every rollout from posting.
pub fn held_by(held_by: &[HeldByView], now: Timestamp) -> Markup {
    html! {
        @for held in held_by {
            @if held.by == "observe" {
                p.banner { b { "Observing only." } " Nothing is posted to Azure until " code { "MODE" } " is " code { "act" } "." }
            } @else {
                p.banner.stopped {
                    b { "Everything is stopped." }
                    " Nothing is posted to Azure"
                    @if let Some(since) = held.since { " since " (moment(since, now)) }
                    @if let Some(who) = &held.who { ", says " bdi { (who) } }
                    "." @if let Some(why) = &held.why { " " bdi { (why) } }
                }
            }
        }
    }
}

/// The state of a rollout.
pub fn rollout_state(state: RolloutWord) -> Markup {
    let class = match state {
        RolloutWord::Planning | RolloutWord::Running => "running",
        RolloutWord::Paused => "waiting",
        RolloutWord::Halted => "failed",
        RolloutWord::Completed => "done",
        RolloutWord::Waiting | RolloutWord::Canceled | RolloutWord::Unknown => "neutral",
    };
    html! { span.state.(class) { (state.in_words()) } }
}

/// The state of a refresh.
pub fn refresh_state(state: RefreshWord) -> Markup {
    html! { span.state.(class_of(state)) { (state.in_words()) } }
}

/// The colour of a state.
fn class_of(state: RefreshWord) -> &'static str {
    match state {
        RefreshWord::Succeeded => "done",
        RefreshWord::Failed | RefreshWord::TimedOut => "failed",
        RefreshWord::Running | RefreshWord::Verifying => "running",
        RefreshWord::AwaitingAccess | RefreshWord::HandedOver => "waiting",
        RefreshWord::Queued => "queued",
        RefreshWord::Canceled | RefreshWord::Skipped | RefreshWord::Superseded | RefreshWord::Unknown => "neutral",
    }
}

/// A moment, as far from now as people say it.
pub fn moment(at: Timestamp, now: Timestamp) -> Markup {
    let exact = at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    html! { time datetime=(at.to_rfc3339()) title=(exact) { (distance(at, now)) } }
}

fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = (now - at).num_seconds();
    let span = |seconds: i64| match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    };
    match seconds {
        -86_399..0 => format!("in {}", span(-seconds)),
        0..86_400 => format!("{} ago", span(seconds)),
        _ => at.format("%Y-%m-%d %H:%M UTC").to_string(),
    }
}

/// The ways that were refused, where the last error is not all that there is to say of them.
pub fn earlier_refusals(refresh: &RefreshView) -> Vec<Markup> {
    let refusals = if refresh.refusals.len() > 1 { &refresh.refusals[..] } else { &[] };
    let one = |refusal: &RefusalView| {
        html! { "by the way " (refusal.way.word()) ": " code { (refusal.code) } " " bdi { (refusal.message) } }
    };
    refusals.iter().map(one).collect()
}

/// A link to a deployment, with where it is.
pub fn deployment_link(id: &ApplicationId) -> Markup {
    html! {
        a.name href=(deployment_path(&id.key())) { bdi { (id.name()) } }
        span.where { bdi { (id.resource_group()) } " · " (id.subscription()) }
    }
}

/// What a rollout is called.
pub fn rollout_name(view: &RolloutView) -> Markup {
    html! { bdi { (view.offer) "/" wbr; (view.plan) } " → " b { (view.version) } }
}

/// The address of a deployment.
pub fn deployment_path(key: &DeploymentKey) -> String {
    format!("{HOME}/deployments/{key}")
}

/// The address of a rollout.
pub fn rollout_path(id: RolloutId) -> String {
    format!("{HOME}/rollouts/{id}")
}

/// Who has to act on what.
pub fn failures(found: &Failures, view: &RolloutView, level: Level) -> Markup {
    let mut last = None;
    html! {
        @for group in &found.groups {
            @if last.replace(group.actor) != Some(group.actor) {
                @let title = html! { (advice::who(group.actor)) (retry(view, group.actor)) };
                @match level {
                    Level::Three => h3.actor { (title) },
                    Level::Four => h4.actor { (title) },
                }
            }
            article.failure {
                p.what { code { (group.code) } " " span.times { (counted(group.count.try_into().unwrap_or(u64::MAX), "deployment")) @if group.is_handed_over { ", handed over" } } }
                p.message { bdi { (shortened(&group.message)) } }
                p.todo { b { "What to do: " } (todo(group)) "." }
                ul.named {
                    @for refresh in &group.named {
                        li {
                            (deployment_link(&refresh.application_id))
                            @if let (Actor::Microsoft, Some(id)) = (group.actor, &refresh.correlation_id) {
                                span.where { "correlation id " code { (id) } }
                            }
                        }
                    }
                    @if group.count > group.named.len() { li.more { "and " (group.count - group.named.len()) " more" } }
                }
            }
        }
        @if found.unseen > 0 {
            p.hint { (number(found.unseen)) " more, behind the first " (GROUPED) ": they are in the list below and in the report." }
        }
    }
}

/// How deep a heading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Below a section.
    Three,
    /// Below a part of one.
    Four,
}

fn todo(group: &Group) -> &'static str {
    if group.is_handed_over {
        return "send the customer the command that each deployment's page holds";
    }
    advice::what_to_do(group.actor, &group.code)
}

/// A button that tries again what waits for one actor.
fn retry(view: &RolloutView, actor: Actor) -> Markup {
    html! {
        @if view.state != RolloutWord::Canceled && actor != Actor::Offer {
            form.inline method="get" action=(format!("{}/confirm", rollout_path(view.id))) {
                input type="hidden" name="command" value="retry";
                input type="hidden" name="actor" value=(actor.word());
                button.small type="submit" aria-label=(format!("Retry these… that wait for: {}", advice::who(actor))) { "Retry these…" }
            }
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(400) {
        Some((cut, _)) => format!("{}…", text[..cut].trim_end()),
        None => text.to_owned(),
    }
}

/// Links to the first and to the next page of a list.
pub fn pager(path: &str, filter: &[(&str, &str)], continuation: &str, next: Option<&str>, was_cut: bool) -> Markup {
    let link = |continuation: Option<&str>| {
        let pairs = filter.iter().copied().filter(|(_, value)| !value.is_empty());
        let pairs = pairs.chain(continuation.map(|next| ("continuation", next)));
        let query: Vec<String> =
            pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    };
    html! {
        @if was_cut {
            p.hint { "The search has looked at " (number(SEARCHED.try_into().unwrap_or_default())) " of them so far, or found a page full." }
        }
        @if next.is_some() || !continuation.is_empty() {
            nav.pager aria-label="Pages of the list" {
                @if !continuation.is_empty() { a.button href=(link(None)) { "First page" } }
                @if let Some(next) = next {
                    a.button rel="next" href=(link(Some(next))) { @if was_cut { "Search on" } @else { "Next page" } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_shares_are_told_as_people_read_them() {
        assert_eq!((number(0).as_str(), number(999).as_str()), ("0", "999"));
        assert_eq!(number(100_000), "100\u{202f}000");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        for (part, whole, expected) in
            [(0, 0, 0), (0, 9, 0), (1, 100_000, 1), (99_999, 100_000, 99), (3, 3, 100), (5, 3, 100)]
        {
            assert_eq!(percent(part, whole), expected, "{part} of {whole}");
        }
    }

    #[test]
    fn a_bar_shows_the_smallest_part_and_never_leaves_its_frame() {
        let text = bar("x", 100_000, &[("done", 99_999), ("failed", 1)]).into_string();
        assert!(text.contains(r#"<rect class="failed" x="996" y="0" width="4""#), "{text}");
        let text = bar("x", 0, &[("done", 5)]).into_string();
        assert!(!text.contains("rect"), "{text}");
    }

    #[test]
    fn only_what_succeeded_looks_like_success() {
        let counts = Counts { succeeded: 1, canceled: 8, handed_over: 1, total: 10, ..Counts::default() };
        let text = progress(&counts, counts.total).into_string();
        assert!(text.contains(r#"<rect class="done" x="0" y="0" width="100""#), "{text}");
        assert!(text.contains(r#"<rect class="neutral" x="200" y="0" width="800""#), "{text}");
        assert!(text.contains("1 succeeded, 1 handed over, 8 canceled, of 10"), "{text}");
    }

    #[test]
    fn what_comes_from_outside_is_text_and_nothing_else() {
        let text = bar("\"><script>", 1, &[]).into_string();
        assert!(!text.contains("<script>"), "{text}");
        let text = pager("/x", &[("find", "a&b\"<")], "", Some("n.\"'<>"), false).into_string();
        assert!(text.contains("/x?find=a%26b%22%3C&amp;continuation=n%2E%22%27%3C%3E"), "{text}");
    }

    #[test]
    fn times_are_told_from_now_for_a_day_and_by_the_calendar_after_it() {
        let now = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
        for (seconds, expected) in [
            (5, "5 s ago"),
            (125, "2 min ago"),
            (3_700, "1 h 1 min ago"),
            (-30, "in 30 s"),
            (90_000, "2027-01-14 07:00 UTC"),
        ] {
            assert_eq!(distance(now - chrono::TimeDelta::seconds(seconds), now), expected);
        }
    }
}
