//! The audit list.

use maud::html;

use super::super::HOME;
use super::super::lists::{EntryKind, Rows};
use super::super::pages::ListQuery;
use super::{Page, parts};
use crate::functions::wire::api::AuditView;
use crate::rollout::{ApplicationId, RolloutId, Timestamp};

/// Who did what, and what the service had to note by itself.
pub fn page(rows: &Rows<AuditView>, query: &ListQuery, now: Timestamp) -> Page {
    let content = html! {
        h1 { "Audit list" }
        div.card {
            form.filter method="get" action=(format!("{HOME}/audit")) role="search" aria-label="Entries of the audit list" {
                span { label for="state" { "Kind" } select #state name="state" {
                    option value="" { "all" }
                    @for (_, word, name) in EntryKind::ALL {
                        option value=(word) selected[query.state == word] { (name) }
                    }
                } }
                span.grow { label for="find" { "Who, or on what" } input #find type="search" name="find" value=(query.find) maxlength="300"; }
                button type="submit" { "Show" }
            }
            @if query.state == "dead" {
                p.hint { "Messages that were delivered again and again and that nobody could work off. What each was for goes on by itself, or ends in a failure that a retry takes back; why it died is a matter for the service's log." }
            }
            div #entries data-live {
                @if rows.items.is_empty() { p.hint { "Nothing yet." } } @else {
                    table.rows {
                        caption.hidden { "Commands, the latest first" }
                        thead { tr {
                            th scope="col" { "What" } th scope="col" { "Who" } th scope="col" { "When" } th scope="col" { "Outcome" }
                        } }
                        tbody {
                            @for entry in &rows.items {
                                tr {
                                    th scope="row" { b { (entry.what) } @if let Some(on) = &entry.on { span.where { (link(on)) } } }
                                    td { bdi { (entry.who) } }
                                    td { (parts::moment(entry.at, now)) }
                                    td.said {
                                        (outcome(&entry.outcome))
                                        @if let Some(from) = &entry.from { " " bdi { (from) } }
                                        @if let Some(to) = &entry.to { " → " bdi { (to) } }
                                        @if let Some(why) = &entry.why { p { "“" bdi { (why) } "”" } }
                                        @if let Some(problem) = &entry.problem { p.bad { bdi { (problem) } } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            (parts::pager(
                &format!("{HOME}/audit"),
                &[("state", &query.state), ("find", &query.find)],
                &query.continuation, rows.next.as_deref(), rows.was_cut,
            ))
        }
    };
    Page { title: "Audit list".to_owned(), refresh: Some(30), say: String::new(), content }
}

fn link(on: &str) -> maud::Markup {
    match (on.parse::<RolloutId>(), on.parse::<ApplicationId>()) {
        (Ok(id), _) => html! { a href=(parts::rollout_path(id)) { (on) } },
        (_, Ok(id)) => html! { a href=(parts::deployment_path(&id.key())) { bdi { (on) } } },
        _ => html! { bdi { (on) } },
    }
}

fn outcome(word: &str) -> maud::Markup {
    let class = match word {
        "done" => "done",
        "refused" => "failed",
        _ => "waiting",
    };
    html! { span.state.(class) { (word) } }
}
