//! The audit list.

use maud::html;

use super::super::HOME;
use super::super::load::Rows;
use super::super::pages::ListQuery;
use super::{Page, parts};
use crate::functions::wire::api::AuditView;
use crate::rollout::{RolloutId, Timestamp};

/// Who did what, and what the service had to note by itself.
pub fn page(rows: &Rows<AuditView>, query: &ListQuery, now: Timestamp) -> Page {
    let content = html! {
        h1 { "Audit list" }
        div #entries .card data-live {
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
            (parts::pager(&format!("{HOME}/audit"), &[], &query.continuation, rows.next.as_deref(), false))
        }
    };
    Page { title: "Audit list".to_owned(), refresh: Some(30), say: String::new(), content }
}

fn link(on: &str) -> maud::Markup {
    match on.parse::<RolloutId>() {
        Ok(id) => html! { a href=(parts::rollout_path(id)) { (on) } },
        Err(_) => html! { bdi { (on) } },
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
