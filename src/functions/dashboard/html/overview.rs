//! The front page: is the new version everywhere, what is stuck, who has to act.

use chrono::TimeDelta;
use maud::{Markup, html};

use super::super::HOME;
use super::super::load::{Overview, PlanRow, Spread, Standings};
use super::parts::{self, Level};
use super::plot::plot;
use super::{Page, rollout};
use crate::engine::coverage::Coverage;
use crate::functions::wire::api::HeldByView;
use crate::rollout::Timestamp;

/// How often it is looked at again while something is under way, and while nothing is; in seconds.
const LIVELY: u32 = 2;
const QUIET: u32 = 30;
/// From when on the age of a count is told.
const AGED: TimeDelta = TimeDelta::seconds(2);

/// The page.
pub fn page(found: &Overview, now: Timestamp) -> Page {
    let content = html! {
        h1 { "Overview" }
        div #held data-live { (held(&found.held_by, now)) (dead_letters(found.dead_letters)) }
        section #plans data-live aria-labelledby="plans-title" {
            h2 #plans-title { "Offers and plans" }
            (plans(&found.plans, now))
        }
        section #open data-live aria-labelledby="open-title" {
            h2 #open-title { "Under way" }
            @if found.open.is_empty() { p.hint { "No rollout is under way." } }
            @for (standings, failures) in &found.open {
                (card(standings, now))
                @if !failures.groups.is_empty() {
                    div.card.act { h3 { "Who has to act" } (parts::failures(failures, &standings.view, Level::Four)) }
                }
            }
        }
        @if !found.left.is_empty() {
            section #left data-live aria-labelledby="left-title" {
                h2 #left-title { "Left over" }
                @for (view, failures) in &found.left {
                    div.card.act {
                        h3 { a href=(parts::rollout_path(view.id)) { (parts::rollout_name(view)) } " " (parts::rollout_state(view.state)) }
                        (parts::failures(failures, view, Level::Four))
                    }
                }
            }
        }
        section #recent data-live aria-labelledby="recent-title" {
            h2 #recent-title { "Latest rollouts" }
            @if found.recent.is_empty() {
                p.hint { "There was none yet. Post an offer publish, or use " code { "permafresh publish" } "." }
            } @else {
                (rollout::table(&found.recent, "Latest rollouts", now))
                p { a href=(format!("{HOME}/rollouts")) { "All rollouts" } }
            }
        }
    };
    let say = found.open.iter().map(|(standings, _)| rollout::say(&standings.view)).collect::<Vec<_>>().join(" ");
    let refresh =
        if found.open.iter().any(|(standings, _)| !standings.view.state.is_stopped()) { LIVELY } else { QUIET };
    Page { title: "Overview".to_owned(), refresh: Some(refresh), say, content }
}

/// What keeps everything from posting, and the switch.
fn held(held_by: &[HeldByView], now: Timestamp) -> Markup {
    let is_stopped = held_by.iter().any(|held| held.by == "stop");
    let (word, text) = if is_stopped { ("start", "Let everything go on…") } else { ("stop", "Stop everything…") };
    html! {
        (parts::held_by(held_by, now))
        form.switch method="get" action=(format!("{HOME}/switch")) {
            button.small type="submit" name="to" value=(word) { (text) }
        }
    }
}

/// Messages that nobody could work off: what they were for goes on, and somebody should know why they died.
fn dead_letters(count: usize) -> Markup {
    html! {
        @if count > 0 {
            p.banner {
                b { (parts::counted(count.try_into().unwrap_or(u64::MAX), "message")) " could not be worked off" } " in the last day. "
                a href=(format!("{HOME}/audit?state=dead")) { "See which" }
            }
        }
    }
}

fn plans(rows: &[PlanRow], now: Timestamp) -> Markup {
    if rows.is_empty() {
        return html! { p.hint { "No plan is known: register deployments and publish a version, or name offers in " code { "OFFERS" } "." } };
    }
    html! {
        div.card {
            table.plans {
                caption.hidden { "Plans, the version that each should have, and how many of its deployments have it" }
                thead { tr {
                    th scope="col" { "Plan" } th scope="col" { "Wanted" } th scope="col" { "Deployments that have it" }
                } }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" {
                                a.name href=(format!("{HOME}/deployments?plan={}", percent_encoding::utf8_percent_encode(&row.plan.to_string(), percent_encoding::NON_ALPHANUMERIC))) {
                                    bdi { (row.plan.offer) "/" wbr; (row.plan.plan) }
                                }
                                span.where { bdi { (row.plan.publisher) } }
                            }
                            td { @match row.wanted { Some(version) => b { (version) }, None => span.muted { "not set" } } }
                            td { (spread(row, now)) }
                        }
                    }
                }
            }
        }
    }
}

fn spread(row: &PlanRow, now: Timestamp) -> Markup {
    match &row.spread {
        Spread::BeingCounted => html! { span.muted { "being counted…" } },
        Spread::Registered(deployments) => html! { (parts::counted(*deployments, "deployment")) " registered" },
        Spread::Counted(counted) => {
            let Coverage { deployments, have, version, at, .. } = counted;
            let label = format!("{have} of {} with {version}", parts::counted(*deployments, "deployment"));
            html! {
                (parts::bar(&label, *deployments, &[("done", *have)]))
                span.share {
                    b { (parts::percent(*have, *deployments)) " %" }
                    " · " (parts::number(*have)) " of " (parts::number(*deployments))
                    @if now - *at >= AGED { span.muted { " · counted " (parts::moment(*at, now)) } }
                }
            }
        }
    }
}

fn card(standings: &Standings, now: Timestamp) -> Markup {
    let view = &standings.view;
    html! {
        article.card aria-label=(format!("Rollout of {}", view.version)) {
            h3 { a href=(parts::rollout_path(view.id)) { (parts::rollout_name(view)) } " " (parts::rollout_state(view.state)) }
            p.sub { (rollout::where_it_stands(standings, now)) }
            (parts::progress(&view.counts, view.counts.total))
            (parts::counts(&view.counts))
            (rollout::buttons(standings))
            (plot(&standings.course, "Refreshes over time"))
        }
    }
}
