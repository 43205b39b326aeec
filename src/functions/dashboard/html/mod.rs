//! The pages as HTML: pure functions of what was loaded. Everything from outside goes through maud, which escapes it;
//! nothing here is raw, and nothing carries a script, a style or a key.

pub mod audit;
pub mod confirm;
pub mod deployment;
pub mod entry;
pub mod overview;
pub mod parts;
pub mod plot;
pub mod rollout;

use maud::{DOCTYPE, Markup, html};

use super::HOME;
use super::guard::Visitor;

/// Where in the dashboard a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nav {
    /// The front page.
    Overview,
    /// Rollouts, and one of them.
    Rollouts,
    /// Deployments, and one of them.
    Deployments,
    /// Who did what.
    Audit,
}

/// The content of a page.
pub struct Page {
    /// Its title.
    pub title: String,
    /// After how many seconds it is worth looking again; none for what does not change by itself.
    pub refresh: Option<u32>,
    /// What a screen reader is told when it has changed.
    pub say: String,
    /// Its content.
    pub content: Markup,
}

/// A page for somebody who was let in.
pub fn frame(visitor: &Visitor, nav: Nav, page: Page) -> Markup {
    let links = [
        (Nav::Overview, "Overview", HOME.to_owned()),
        (Nav::Rollouts, "Rollouts", format!("{HOME}/rollouts")),
        (Nav::Deployments, "Deployments", format!("{HOME}/deployments")),
        (Nav::Audit, "Audit", format!("{HOME}/audit")),
    ];
    let body = html! {
        a.skip href="#main" { "Skip to the content" }
        header.top {
            a.brand href=(HOME) { img src=(format!("{HOME}/assets/icon.svg")) alt="" width="24" height="24"; "Permafresh" }
            nav aria-label="Dashboard" {
                ul {
                    @for (here, text, path) in &links {
                        li { a href=(path) aria-current=[(*here == nav).then_some("page")] { (text) } }
                    }
                }
            }
            @if visitor.can_leave() {
                form.leave method="post" action=(format!("{HOME}/logout")) {
                    input type="hidden" name="token" value=(visitor.token);
                    button.quiet type="submit" { "Sign out" }
                }
            } @else {
                span.who { bdi { (visitor.who) } }
            }
        }
        main #main tabindex="-1" data-refresh=[page.refresh] data-say=(page.say) {
            (page.content)
        }
        footer.foot {
            p #updated { "As of the time this page was loaded." }
            @if page.refresh.is_some() {
                noscript { p { a href="" { "Load it again" } " to see what has changed." } }
            }
        }
        div #announce .hidden role="status" aria-live="polite" {}
    };
    document(&page.title, &body)
}

/// The document around a body.
pub fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Permafresh" }
                link rel="icon" href=(format!("{HOME}/assets/icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(format!("{HOME}/assets/style.css"));
                script src=(format!("{HOME}/assets/script.js")) defer {}
            }
            body { (body) }
        }
    }
}
