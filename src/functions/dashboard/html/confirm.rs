//! What a command will do, before it does it.

use maud::html;

use super::super::HOME;
use super::super::commands::HoldCommand;
use super::super::guard::Visitor;
use super::super::load::Standings;
use super::Page;
use super::parts;
use crate::functions::operations::Turn;
use crate::rollout::{Command, Deployment, Retried, advice};

/// The page with the one button that does it.
pub fn page(standings: &Standings, command: Command, actor: &str, visitor: &Visitor) -> Page {
    let view = &standings.view;
    let counts = &view.counts;
    let (title, button) = match command {
        Command::Pause => ("Pause this rollout?", "Pause"),
        Command::Approve => ("Approve the last wave?", "Approve"),
        Command::Resume => ("Resume this rollout?", "Resume"),
        Command::Cancel => ("Cancel this rollout?", "Cancel the rollout"),
        Command::Retry(_) => ("Try again what failed?", "Retry"),
    };
    let what = match command {
        Command::Pause => format!(
            "Nothing more is posted until somebody resumes it. {} that Azure has accepted are followed to their end.",
            parts::number(counts.running + counts.verifying)
        ),
        Command::Resume => "It goes on where it stood. Failures so far count no more against its budget.".to_owned(),
        Command::Approve => match &view.why {
            Some(why) if standings.asks_approval => format!("The rollout {why}."),
            _ => "Nothing waits for approval now.".to_owned(),
        },
        Command::Cancel => format!(
            "{} that were not posted yet are called off, and it cannot be resumed. What Azure has accepted is followed to its end. The wanted version goes back to the one before.",
            parts::number(counts.queued + counts.awaiting_access)
        ),
        Command::Retry(Retried::Failed) => {
            format!("{} are queued again.", parts::counted(counts.failed + counts.timed_out, "failed deployment"))
        }
        Command::Retry(Retried::Of(actor)) => {
            format!("Everything that waits for “{}” is queued again.", advice::who(actor))
        }
    };
    let content = html! {
        div.card.confirm {
            h1 { (title) }
            p { (parts::rollout_name(view)) " " (parts::rollout_state(view.state)) }
            p { (what) }
            form.buttons method="post" action=(format!("{}/command", parts::rollout_path(view.id))) {
                input type="hidden" name="token" value=(visitor.token);
                input type="hidden" name="command" value=(command.name());
                @if !actor.is_empty() { input type="hidden" name="actor" value=(actor); }
                button.primary type="submit" { (button) }
                a.button href=(parts::rollout_path(view.id)) { "Leave it as it is" }
            }
        }
    };
    Page { title: title.to_owned(), refresh: None, say: String::new(), content }
}

/// The page before a deployment is put on hold, or released.
pub fn hold(deployment: &Deployment, command: HoldCommand, visitor: &Visitor) -> Page {
    let (title, what, button) = match command {
        HoldCommand::Hold => (
            "Put this deployment on hold?",
            "Nothing is posted to it until somebody releases it or the hold ends: a refresh that comes meanwhile ends skipped, and is made up for afterwards. What Azure has accepted is followed to its end.",
            "Put on hold",
        ),
        HoldCommand::Release => {
            ("Release this deployment?", "It may be refreshed again, and gets what it has missed.", "Release")
        }
    };
    let path = parts::deployment_path(&deployment.key);
    let content = html! {
        div.card.confirm {
            h1 { (title) }
            p { (parts::deployment_link(&deployment.application_id)) }
            p { (what) }
            form.buttons method="post" action=(format!("{path}/command")) {
                input type="hidden" name="token" value=(visitor.token);
                input type="hidden" name="command" value=(command.word());
                @if command == HoldCommand::Hold {
                    label.why for="why" { "Why, for whoever finds the hold" input #why type="text" name="why" maxlength="500" required; }
                    label.why for="until" { "Until, in UTC; empty for no end" input #until type="datetime-local" name="until"; }
                } @else {
                    label.why for="why" { "Why, for the audit list" input #why type="text" name="why" maxlength="500"; }
                }
                button.primary type="submit" { (button) }
                a.button href=(path) { "Leave it as it is" }
            }
        }
    };
    Page { title: title.to_owned(), refresh: None, say: String::new(), content }
}

/// The page before everything is stopped, or goes on.
pub fn switch(turn: Turn, visitor: &Visitor) -> Page {
    let (word, title, what) = match turn {
        Turn::Stop => (
            "stop",
            "Stop everything?",
            "No rollout posts anything any more, in any instance, until somebody lets it go on. What Azure has accepted is followed to its end.",
        ),
        Turn::Start => (
            "start",
            "Let everything go on?",
            "Every rollout goes on where it stood; those that are paused stay paused.",
        ),
    };
    let content = html! {
        div.card.confirm {
            h1 { (title) }
            p { (what) }
            form.buttons method="post" action=(format!("{HOME}/switch")) {
                input type="hidden" name="token" value=(visitor.token);
                input type="hidden" name="to" value=(word);
                label.why for="why" { "Why, for the audit list" input #why type="text" name="why" maxlength="500"; }
                button.primary type="submit" { @match turn { Turn::Stop => "Stop everything", Turn::Start => "Go on" } }
                a.button href=(HOME) { "Leave it as it is" }
            }
        }
    };
    Page { title: title.to_owned(), refresh: None, say: String::new(), content }
}
