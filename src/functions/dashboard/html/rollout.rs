//! Rollouts: the list, and one with its waves, its course, who has to act, and every refresh.

use maud::{Markup, html};

use super::super::HOME;
use super::super::lists::Rows;
use super::super::load::{Failures, Standings, WaveRow};
use super::super::pages::ListQuery;
use super::Page;
use super::parts::{self, Level};
use super::plot::plot;
use crate::functions::wire::api::{RefreshView, RefreshWord, RolloutView, RolloutWord};
use crate::rollout::{Audience, Purpose, Target, Timestamp};

/// How often a rollout under way is looked at again, in seconds.
const LIVELY: u32 = 2;
const STOPPED: u32 = 15;

/// The list.
pub fn list(rows: &Rows<RolloutView>, query: &ListQuery, now: Timestamp) -> Page {
    let content = html! {
        h1 { "Rollouts" }
        section #list data-live aria-label="All rollouts" {
            @if rows.items.is_empty() { p.hint { "There is none." } } @else { (table(&rows.items, "Rollouts", now)) }
            (parts::pager(&format!("{HOME}/rollouts"), &[], &query.continuation, rows.next.as_deref(), false))
        }
    };
    Page { title: "Rollouts".to_owned(), refresh: Some(STOPPED), say: String::new(), content }
}

/// Rollouts as a table.
pub fn table(views: &[RolloutView], caption: &str, now: Timestamp) -> Markup {
    html! {
        div.card {
            table {
                caption.hidden { (caption) }
                thead { tr {
                    th scope="col" { "Rollout" } th scope="col" { "State" } th scope="col" { "Progress" }
                    th.wide scope="col" { "Purpose" } th.wide scope="col" { "Began" }
                } }
                tbody {
                    @for view in views {
                        tr {
                            th scope="row" {
                                a.name href=(parts::rollout_path(view.id)) { (parts::rollout_name(view)) }
                                span.where { bdi { (view.publisher) } }
                            }
                            td { (parts::rollout_state(view.state)) }
                            td.progress {
                                (parts::progress(&view.counts, view.counts.total))
                                span.share { (parts::number(view.counts.ended())) " of " (parts::number(view.counts.total)) @if view.counts.failed + view.counts.timed_out > 0 { ", " span.bad { (parts::number(view.counts.failed + view.counts.timed_out)) " failed" } } }
                            }
                            td.wide { (purpose(view)) }
                            td.wide { (parts::moment(view.created_at, now)) }
                        }
                    }
                }
            }
        }
    }
}

/// One rollout.
pub fn page(
    standings: &Standings,
    failures: &Failures,
    rows: &Rows<RefreshView>,
    query: &ListQuery,
    now: Timestamp,
) -> Page {
    let view = &standings.view;
    let content = html! {
        nav.crumbs aria-label="Where this is" { a href=(format!("{HOME}/rollouts")) { "Rollouts" } " › " span aria-current="page" { (view.version) } }
        h1 { (parts::rollout_name(view)) }
        @if let Some(said) = done(&query.done) { p.banner.good role="status" { (said) } }
        section #standing .card data-live aria-label="Where it stands" {
            p.sub { (parts::rollout_state(view.state)) " " (where_it_stands(standings, now)) }
            (parts::progress(&view.counts, view.counts.total))
            (parts::counts(&view.counts))
            (buttons(standings))
            (parts::held_by(&view.held_by, now))
        }
        section #facts .card data-live aria-labelledby="facts-title" {
            h2 #facts-title { "What it brings" }
            dl.facts {
                div { dt { "Plan" } dd { bdi { (view.publisher) "/" (view.offer) "/" (view.plan) } } }
                div { dt { "Purpose" } dd { (purpose(view)) ", " (target(view)) } }
                div { dt { "Began" } dd { (parts::moment(view.created_at, now)) } }
                @if let Some(ended) = view.ended_at { div { dt { "Ended" } dd { (parts::moment(ended, now)) } } }
                @if let Some(note) = &standings.note { div { dt { "Note" } dd { bdi { (note) } } } }
                div { dt { "Id" } dd { code { (view.id) } } }
            }
        }
        (changes(view))
        (lint(view))
        section #waves .card data-live aria-labelledby="waves-title" {
            h2 #waves-title { "Waves" }
            @if standings.waves.is_empty() { p.hint { "The deployments are being counted." } }
            ol.waves { @for wave in &standings.waves { (wave_row(wave, view)) } }
        }
        section #course .card data-live aria-labelledby="course-title" {
            h2 #course-title { "Course" }
            (plot(&standings.course, "Refreshes over time"))
        }
        @if !failures.groups.is_empty() {
            section #failures .card.act data-live aria-labelledby="failures-title" {
                h2 #failures-title { "Who has to act" }
                (parts::failures(failures, view, Level::Three))
            }
        }
        section.card aria-labelledby="refreshes-title" {
            h2 #refreshes-title { "Deployments" }
            (filter(view, query))
            div #refreshes data-live { (refreshes(rows, now)) }
            (parts::pager(
                &parts::rollout_path(view.id),
                &[("state", &query.state), ("find", &query.find)],
                &query.continuation, rows.next.as_deref(), rows.was_cut,
            ))
        }
    };
    let refresh = match view.state {
        state if state.is_ended() && view.counts.ended() == view.counts.total => None,
        state if state.is_stopped() => Some(STOPPED),
        _ => Some(LIVELY),
    };
    Page { title: format!("{}/{} {}", view.offer, view.plan, view.version), refresh, say: say(view), content }
}

/// What the version changes for its deployments, where its permissions are recorded.
fn changes(view: &RolloutView) -> Markup {
    html! {
        @if let Some(changes) = &view.changes {
            section #changes .card data-live aria-labelledby="changes-title" {
                h2 #changes-title { "What it changes" @if let Some(against) = changes.against { " since " (against) } }
                ul.lines { @for line in changes.lines() { li { bdi { (line) } } } }
            }
        }
    }
}

/// What the lint says of its actions.
fn lint(view: &RolloutView) -> Markup {
    html! {
        @if !view.lint.is_empty() {
            section #lint .card data-live aria-labelledby="lint-title" {
                h2 #lint-title { "What the lint says" }
                ul.lines {
                    @for finding in &view.lint { li { b { (finding.severity.word()) } ": " bdi { (finding.to_string()) } } }
                }
            }
        }
    }
}

/// What has changed, for a screen reader: no more than states and waves, or it would never be silent.
pub fn say(view: &RolloutView) -> String {
    let state = match view.state {
        RolloutWord::Running => format!("in wave {} of {}", view.wave, view.waves),
        RolloutWord::Completed => "completed".to_owned(),
        RolloutWord::Paused => "paused".to_owned(),
        RolloutWord::Halted => "halted".to_owned(),
        RolloutWord::Canceled => "canceled".to_owned(),
        RolloutWord::Waiting => "waiting".to_owned(),
        RolloutWord::Planning | RolloutWord::Unknown => "being planned".to_owned(),
    };
    format!("The rollout of {} is {state}.", view.version)
}

/// The wave, and why it stands still.
pub fn where_it_stands(standings: &Standings, now: Timestamp) -> Markup {
    let view = &standings.view;
    html! {
        @if view.wave > 0 && !view.state.is_ended() { "wave " (view.wave) " of " (view.waves) }
        @if let Some(at) = standings.next_wave_at { ", the next one " (parts::moment(at, now)) }
        @if let Some(why) = &view.why { span.why { bdi { (why) } } }
        @if view.state.is_ended() { @if let Some(ended) = view.ended_at { (parts::moment(ended, now)) } }
    }
}

/// What can be done with a rollout. Each leads to a page that says what will happen.
pub fn buttons(standings: &Standings) -> Markup {
    let view = &standings.view;
    let failed = view.counts.failed + view.counts.timed_out;
    let mut all = Vec::new();
    match view.state {
        RolloutWord::Waiting | RolloutWord::Planning | RolloutWord::Running => all.push(("pause", "Pause…")),
        RolloutWord::Paused if standings.asks_approval => all.push(("approve", "Approve the last wave…")),
        RolloutWord::Paused | RolloutWord::Halted => all.push(("resume", "Resume…")),
        RolloutWord::Completed | RolloutWord::Canceled | RolloutWord::Unknown => {}
    }
    if failed > 0 && view.state != RolloutWord::Canceled {
        all.push(("retry", "Retry failed…"));
    }
    if !view.state.is_ended() {
        all.push(("cancel", "Cancel…"));
    }
    html! {
        @if !all.is_empty() {
            form.buttons method="get" action=(format!("{}/confirm", parts::rollout_path(view.id))) aria-label=(format!("Commands for the rollout of {}", view.version)) {
                @for (word, text) in all { button type="submit" name="command" value=(word) class=(word) { (text) } }
            }
        }
    }
}

fn done(command: &str) -> Option<&'static str> {
    Some(match command {
        "pause" => "It is paused: nothing more is posted. What Azure has accepted is followed to its end.",
        "resume" => "It goes on.",
        "approve" => "The last wave is approved.",
        "cancel" => "It is canceled. What Azure has accepted is followed to its end.",
        "retry" => "What failed is queued again.",
        _ => return None,
    })
}

fn purpose(view: &RolloutView) -> &'static str {
    match view.purpose {
        Purpose::RollOut => "new version",
        Purpose::Repair => "repair",
        Purpose::Restore => "restore",
        Purpose::Scheduled => "scheduled refresh",
    }
}

fn target(view: &RolloutView) -> &'static str {
    match (view.target, view.audience) {
        (Target::Preview, Audience::Preview) => "in preview, for preview deployments",
        (Target::Preview, Audience::All) => "in preview, for all deployments",
        (Target::Live, Audience::Preview) => "live, for preview deployments",
        (Target::Live, Audience::All) => "live, for all deployments",
    }
}

fn wave_row(wave: &WaveRow, view: &RolloutView) -> Markup {
    let total = wave.counts.total;
    let whole = wave.planned.unwrap_or(total).max(total);
    let is_now = wave.number == view.wave && !view.state.is_ended();
    html! {
        li class=[is_now.then_some("now")] aria-current=[is_now.then_some("step")] {
            span.number { @if wave.is_canary { "Canaries" } @else { "Wave " (wave.number) } }
            (parts::progress(&wave.counts, whole))
            span.share {
                @if total == 0 && wave.number > view.wave { @match wave.planned { Some(planned) => { "about " (parts::number(planned)) " to come" }, None => "the rest" } }
                @else { (parts::number(wave.counts.ended())) " of " (parts::number(total)) }
            }
        }
    }
}

fn filter(view: &RolloutView, query: &ListQuery) -> Markup {
    html! {
        form.filter method="get" action=(parts::rollout_path(view.id)) role="search" aria-label="Deployments of this rollout" {
            span { label for="state" { "State" } select #state name="state" {
                option value="" { "all" }
                @for word in RefreshWord::ALL {
                    option value=(word.word()) selected[query.state == word.word()] { (word.in_words()) }
                }
            } }
            span.grow { label for="find" { "Name or ARM id" } input #find type="search" name="find" value=(query.find) maxlength="300"; }
            button type="submit" { "Show" }
            a.button href=(format!("{}/report.csv", parts::rollout_path(view.id))) { "Report as CSV" }
        }
    }
}

fn refreshes(rows: &Rows<RefreshView>, now: Timestamp) -> Markup {
    html! {
        @if rows.items.is_empty() { p.hint { "None." } } @else {
            table.rows {
                caption.hidden { "Deployments of this rollout" }
                thead { tr {
                    th scope="col" { "Deployment" } th scope="col" { "State" } th.wide scope="col" { "Attempts" }
                    th scope="col" { "What there is to say" }
                } }
                tbody { @for refresh in &rows.items { (refresh_row(refresh, now)) } }
            }
        }
    }
}

fn refresh_row(refresh: &RefreshView, now: Timestamp) -> Markup {
    html! {
        tr {
            th scope="row" { (parts::deployment_link(&refresh.application_id)) }
            td { (parts::refresh_state(refresh.state)) }
            td.wide.number { (refresh.attempts) }
            td.said {
                @if let Some(error) = &refresh.error { p { code { (error.code) } " " bdi { (error.message) } } }
                @for refusal in parts::earlier_refusals(refresh) { p.muted { (refusal) } }
                @if let Some(why) = &refresh.why { p { bdi { (why) } } }
                @if let Some(at) = refresh.ended_at { p.muted { (parts::moment(at, now)) } }
                @else if let Some(at) = refresh.next_look { p.muted { "next look " (parts::moment(at, now)) } }
                (handed_over(refresh))
            }
        }
    }
}

/// What a customer has to run, where it was handed over: the command, and the one that reads the result.
pub fn handed_over(refresh: &RefreshView) -> Markup {
    html! {
        @if let Some(bash) = &refresh.command {
            details {
                summary { "The customer's command" }
                (shell("bash", "Command", bash))
                @if let Some(text) = &refresh.command_powershell { (shell("PowerShell", "Command", text)) }
                @if let Some(result) = &refresh.result {
                    p { "The result: " (result.how) ". It takes up to " (result.expected_minutes) " minutes." }
                    (shell("bash", "Result", &result.command))
                    (shell("PowerShell", "Result", &result.command_powershell))
                }
            }
        }
    }
}

/// A command for one shell.
pub fn shell(name: &str, what: &str, text: &str) -> Markup {
    html! { p { (name) } pre tabindex="0" role="region" aria-label=(format!("{what} for {name}")) { code { (text) } } }
}
