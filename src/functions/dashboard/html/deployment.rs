//! Deployments: the registry, and one deployment with its history.

use maud::{Markup, html};

use super::super::HOME;
use super::super::lists::Rows;
use super::super::load::Current;
use super::super::pages::ListQuery;
use super::parts;
use super::{Page, rollout};
use crate::functions::wire::api::RefreshWord;
use crate::functions::wire::views;
use crate::rollout::{Deployment, JitTerms, PastRefresh, PastResult, Timestamp, Version, WantedVersion, advice};

/// The registry.
pub fn list(rows: &Rows<Deployment>, plans: &[WantedVersion], query: &ListQuery, now: Timestamp) -> Page {
    let path = format!("{HOME}/deployments");
    let wanted = |deployment: &Deployment| {
        let of = plans.iter().find(|wanted| Some(&wanted.plan) == deployment.plan.as_ref())?;
        of.version
    };
    let is_listed = plans.iter().any(|known| known.plan.to_string() == query.plan);
    let content = html! {
        h1 { "Deployments" }
        div.card {
            form.filter method="get" action=(path) role="search" aria-label="Deployments" {
                span { label for="plan" { "Plan" } select #plan name="plan" {
                    option value="" { "all" }
                    @if !query.plan.is_empty() && !is_listed { option value=(query.plan) selected { (query.plan) } }
                    @for known in plans {
                        @let name = known.plan.to_string();
                        option value=(name) selected[query.plan == name] { (name) }
                    }
                } }
                span.grow { label for="find" { "Name, tenant or ARM id" } input #find type="search" name="find" value=(query.find) maxlength="300"; }
                button type="submit" { "Show" }
            }
            @if rows.items.is_empty() { p.hint { "None." } } @else {
                table.rows {
                    caption.hidden { "Deployments" }
                    thead { tr {
                        th scope="col" { "Deployment" } th scope="col" { "Has" } th.wide scope="col" { "Plan" }
                        th.wide scope="col" { "Region" } th scope="col" { "Last refresh" }
                    } }
                    tbody {
                        @for deployment in &rows.items {
                            tr {
                                th scope="row" { (parts::deployment_link(&deployment.application_id)) }
                                td { (version(deployment)) @if wanted(deployment).is_some_and(|wanted| !deployment.has(wanted)) { " " span.state.waiting { "behind" } } @if deployment.is_on_hold(now) { " " span.state.waiting { "on hold" } } @if deployment.gone_since.is_some() { " " span.state.neutral { "gone" } } }
                                td.wide { @if let Some(plan) = &deployment.plan { bdi { (plan.offer) "/" (plan.plan) } } }
                                td.wide { @if let Some(location) = &deployment.location { bdi { (location) } } }
                                td { @match deployment.history.last() { Some(past) => { (result(past)) " " span.muted { (parts::moment(past.at, now)) } }, None => span.muted { "none yet" } } }
                            }
                        }
                    }
                }
            }
            (parts::pager(&path, &[("plan", &query.plan), ("find", &query.find)], &query.continuation, rows.next.as_deref(), rows.was_cut))
        }
    };
    Page { title: "Deployments".to_owned(), refresh: None, say: String::new(), content }
}

/// One deployment.
pub fn page(
    deployment: &Deployment,
    wanted: Option<Version>,
    under_way: &[Current],
    done: &str,
    now: Timestamp,
) -> Page {
    let id = &deployment.application_id;
    let goes_on = under_way.iter().any(|current| !current.rollout.state.is_ended());
    let content = html! {
        nav.crumbs aria-label="Where this is" { a href=(format!("{HOME}/deployments")) { "Deployments" } " › " span aria-current="page" { bdi { (id.name()) } } }
        h1 { bdi { (id.name()) } @if deployment.gone_since.is_some() { " " span.state.neutral { "gone" } } }
        @match done {
            "hold" => p.banner.good role="status" { "It is on hold: nothing is posted to it." },
            "release" => p.banner.good role="status" { "It is released, and gets what it has missed." },
            _ => {}
        }
        @if let Some(hold) = deployment.hold.as_ref().filter(|hold| hold.is_on(now)) {
            p.banner { b { "On hold" } @if let Some(until) = hold.until { " until " (until.format("%Y-%m-%d %H:%M UTC")) } ": " bdi { (hold.why) } }
        }
        (buttons(deployment, now))
        @if !under_way.is_empty() {
            section #now .card data-live aria-labelledby="now-title" {
                h2 #now-title { @if goes_on { "Now" } @else { "Latest refresh" } }
                @for one in under_way { (current(one, now)) }
            }
        }
        section.card aria-labelledby="history-title" {
            h2 #history-title { "History" }
            @if deployment.history.is_empty() { p.hint { "No refresh of it has ended yet." } } @else {
                table {
                    caption.hidden { "Refreshes that have ended, the latest first" }
                    thead { tr { th scope="col" { "Version" } th scope="col" { "Result" } th scope="col" { "Rollout" } th scope="col" { "Ended" } } }
                    tbody {
                        @for past in deployment.history.iter().rev() {
                            tr {
                                th scope="row" { (past.version) }
                                td { (result(past)) @if past.generation > 0 { " " span.muted { "retry " (past.generation) } } }
                                td { a href=(parts::rollout_path(past.rollout_id)) { code { (past.rollout_id.to_string().chars().take(8).collect::<String>()) } } }
                                td { (parts::moment(past.at, now)) }
                            }
                        }
                    }
                }
            }
        }
        section.card aria-labelledby="facts-title" {
            h2 #facts-title { "What is known of it" }
            dl.facts {
                (fact("ARM id", Some(&id.to_string())))
                (fact("Plan", deployment.plan.as_ref().map(ToString::to_string).as_deref()))
                (fact("Deployed with", deployment.version.as_deref()))
                div { dt { "Has" } dd { (version(deployment)) } }
                div { dt { "Should have" } dd { @match wanted {
                    Some(wanted) => { b { (wanted) } @if !deployment.has(wanted) { " " span.state.waiting { "behind" } } },
                    None => span.muted { "nothing yet" },
                } } }
                (fact("Tenant", deployment.tenant_id.as_deref()))
                (fact("Managed resource group", deployment.managed_resource_group_id.as_deref()))
                (fact("Region", deployment.location.as_deref()))
                (fact("State in Azure", deployment.provisioning_state.as_deref()))
                (fact("Kind", deployment.kind.as_deref()))
                @for window in &deployment.maintenance_windows { div { dt { "Maintenance window" } dd { (window) } } }
                (ways(deployment, now))
                @if let Some(jit) = &deployment.jit { div { dt { "Just-in-time access" } dd { (just_in_time(jit)) } } }
                @if deployment.is_unmanaged() { div { dt { "Management" } dd { "none by the publisher: only a delegation or the customer lets us in" } } }
                @if deployment.preview { div { dt { "Preview" } dd { "yes" } } }
                @if !deployment.confirmed { div { dt { "Confirmed" } dd { "not yet: known from a notification only" } } }
                div { dt { "First heard of" } dd { (parts::moment(deployment.created_at, now)) } }
                div { dt { "Key" } dd { code { (deployment.key) } } }
            }
        }
    };
    let refresh = goes_on.then_some(5);
    Page { title: id.name().to_owned(), refresh, say: String::new(), content }
}

/// What can be done with a deployment. It leads to a page that says what will happen.
fn buttons(deployment: &Deployment, now: Timestamp) -> Markup {
    let (word, text) = if deployment.is_on_hold(now) { ("release", "Release…") } else { ("hold", "Put on hold…") };
    html! {
        @if deployment.gone_since.is_none() {
            form.buttons method="get" action=(format!("{}/confirm", parts::deployment_path(&deployment.key))) {
                button.small type="submit" name="command" value=(word) { (text) }
            }
        }
    }
}

/// What is remembered of the ways to it, while it counts.
fn ways(deployment: &Deployment, now: Timestamp) -> Markup {
    html! {
        @if let Some(known) = views::ways(&deployment.ways, now) {
            div { dt { "Ways" } dd {
                @if let Some(worked) = known.worked { div { (worked.word()) " worked, and is tried first" } }
                @for refused in &known.refused { div { (refused.way.word()) " was refused: " code { (refused.code) } } }
            } }
        }
    }
}

fn current(one: &Current, now: Timestamp) -> Markup {
    let Current { rollout: view, refresh, by_hand } = one;
    html! {
        p { a href=(parts::rollout_path(view.id)) { (parts::rollout_name(view)) } " " (parts::refresh_state(refresh.state)) }
        dl.facts {
            div { dt { "Attempts" } dd { (refresh.attempts) } }
            div { dt { "Looks" } dd { (refresh.polls) } }
            @if let Some(at) = refresh.next_look { div { dt { "Next look" } dd { (parts::moment(at, now)) } } }
            @if let Some(error) = &refresh.error { div { dt { "Error" } dd { code { (error.code) } " " bdi { (error.message) } } } }
            @if let Some(error) = refresh.error.as_ref().filter(|_| matches!(refresh.state, RefreshWord::Failed | RefreshWord::TimedOut)) {
                div { dt { "What to do" } dd { (advice::who(error.actor)) ": " (advice::what_to_do(error.actor, &error.code)) } }
            }
            @for refusal in parts::earlier_refusals(refresh) { div { dt { "Refused" } dd { (refusal) } } }
            (fact("Why", refresh.why.as_deref()))
            (fact("Correlation id", refresh.correlation_id.as_deref()))
        }
        (rollout::handed_over(refresh))
        @if let Some(command) = by_hand {
            details {
                summary { "The same by hand, for this one deployment" }
                (rollout::shell("bash", "Command", &command.command))
                (rollout::shell("PowerShell", "Command", &command.command_powershell))
            }
        }
    }
}

fn just_in_time(jit: &JitTerms) -> Markup {
    html! {
        @if jit.enabled {
            "on"
            @if let Some(mode) = &jit.approval_mode { ", " bdi { (mode) } }
            @if let Some(longest) = &jit.maximum_duration { ", at most " bdi { (longest) } }
            @if !jit.approvers.is_empty() { ", by " bdi { (jit.approvers.join(", ")) } }
        } @else { "off" }
    }
}

fn version(deployment: &Deployment) -> Markup {
    html! {
        @match (&deployment.applied, &deployment.version) {
            (Some(applied), _) => b { (applied.version) },
            (None, Some(version)) => bdi { (version) },
            (None, None) => span.muted { "not known" },
        }
    }
}

fn result(past: &PastRefresh) -> Markup {
    html! {
        @match &past.result {
            PastResult::Succeeded { verified } => { span.state.done { "succeeded" } @if *verified { span.muted { " verified" } } },
            PastResult::Failed { code } => { span.state.failed { "failed" } " " code { (code) } },
            PastResult::TimedOut => span.state.failed { "timed out" },
        }
    }
}

fn fact(name: &str, value: Option<&str>) -> Markup {
    html! { @if let Some(value) = value { div { dt { (name) } dd { bdi { (value) } } } } }
}
