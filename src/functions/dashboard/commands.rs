//! What buttons ask for: a page that says what will happen, and the command once somebody has confirmed it. The same
//! engine commands as the API's; that the form is ours was checked in [`super::guard`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use chrono::NaiveDateTime;
use serde::Deserialize;

use super::HOME;
use super::guard::{Form, Visitor, see_other};
use super::html::{self, Nav, entry};
use super::load;
use super::pages::{Refused, no_deployment, no_rollout, rollout_id, show, the_deployment};
use crate::engine::commands::CommandError;
use crate::functions::operations::{self, Turn};
use crate::functions::{App, deployments, rollouts};
use crate::rollout::{Actor, Command, Hold, Retried, RolloutId, Timestamp};

/// The longest reason, in characters.
const LONGEST_WHY: usize = 500;

/// What is to be confirmed.
#[derive(Deserialize)]
pub struct Asked {
    command: String,
    #[serde(default)]
    actor: String,
}

/// `GET …/confirm?command=`: what it will do.
pub async fn confirm(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refused> {
    let command = command(&asked.command, &asked.actor)?;
    let standings = load::rollout(&app, rollout_id(&id)?).await?.ok_or_else(no_rollout)?;
    let page = html::confirm::page(&standings, command, &asked.actor, &visitor);
    Ok(show(&visitor, Nav::Rollouts, page))
}

/// `POST …/command`: carries it out and leads back to the rollout.
pub async fn carry_out(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Extension(form): Extension<Form>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    let id = rollout_id(&id)?;
    let command = command(form.get("command").unwrap_or_default(), form.get("actor").unwrap_or_default())?;
    give(&app, &visitor, id, command).await?;
    Ok(see_other(&format!("{HOME}/rollouts/{id}?done={}", command.name())).into_response())
}

/// What can be done with a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldCommand {
    /// Nothing is posted to it any more.
    Hold,
    /// It may be refreshed again.
    Release,
}

impl HoldCommand {
    /// Its word in forms and addresses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
        }
    }

    fn from_word(word: &str) -> Result<Self, Refused> {
        let found = [Self::Hold, Self::Release].into_iter().find(|command| command.word() == word);
        found.ok_or_else(|| entry::missing("There is no such command.").into())
    }
}

/// `GET …/deployments/{key}/confirm?command=`: what a hold, or a release, does.
pub async fn confirm_hold(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Path(key): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refused> {
    let command = HoldCommand::from_word(&asked.command)?;
    let deployment = the_deployment(&app, &key).await?;
    Ok(show(&visitor, Nav::Deployments, html::confirm::hold(&deployment, command, &visitor)))
}

/// `POST …/deployments/{key}/command`: holds it or releases it, and leads back to it.
pub async fn change_hold(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Extension(form): Extension<Form>,
    Path(key): Path<String>,
) -> Result<Response, Refused> {
    let command = HoldCommand::from_word(form.get("command").unwrap_or_default())?;
    let key = the_deployment(&app, &key).await?.key;
    let now = app.engine.now();
    let changed = match command {
        HoldCommand::Hold => {
            let why = why(&form).ok_or_else(|| entry::invalid("Say why: whoever finds the hold wants to know."))?;
            let hold = Hold { until: until(&form, now)?, why, since: now };
            deployments::put_on_hold(&app, visitor.who, &key, hold).await?
        }
        HoldCommand::Release => deployments::let_go(&app, visitor.who, &key, why(&form)).await?,
    };
    changed.ok_or_else(no_deployment)?;
    Ok(see_other(&format!("{HOME}/deployments/{key}?done={}", command.word())).into_response())
}

fn why(form: &Form) -> Option<String> {
    let why = form.get("why").map(str::trim).filter(|why| !why.is_empty());
    why.map(|why| why.chars().take(LONGEST_WHY).collect())
}

/// When a hold ends, as a browser writes it: `2026-03-14T22:00`, with seconds if they are not zero.
fn until(form: &Form, now: Timestamp) -> Result<Option<Timestamp>, Refused> {
    let Some(text) = form.get("until").map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let read = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
    let read = read.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let until = read.map(|until| until.and_utc()).filter(|until| *until > now);
    until.map(Some).ok_or_else(|| entry::invalid("The hold has to end in the future, or not at all.").into())
}

/// Where the switch for everything is to be turned.
#[derive(Deserialize)]
pub struct AskedTurn {
    #[serde(default)]
    to: String,
}

/// `GET …/switch?to=`: what stop and go do.
pub async fn confirm_switch(
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<AskedTurn>,
) -> Result<Response, Refused> {
    let turn = turn(&asked.to)?;
    Ok(show(&visitor, Nav::Overview, html::confirm::switch(turn, &visitor)))
}

/// `POST …/switch`: stop or go, for everything.
pub async fn switch(
    Extension(app): Extension<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    Extension(form): Extension<Form>,
) -> Result<Response, Refused> {
    operations::turn(&app, visitor.who.clone(), turn(form.get("to").unwrap_or_default())?, why(&form)).await?;
    Ok(see_other(HOME).into_response())
}

fn turn(word: &str) -> Result<Turn, Refused> {
    match word {
        "stop" => Ok(Turn::Stop),
        "start" => Ok(Turn::Start),
        _ => Err(entry::missing("There is no such command.").into()),
    }
}

async fn give(app: &App, visitor: &Visitor, id: RolloutId, command: Command) -> Result<(), Refused> {
    match rollouts::carry_out(app, visitor.who.clone(), id, command).await {
        Ok(_) => Ok(()),
        Err(CommandError::NotFound { .. }) => Err(no_rollout()),
        Err(CommandError::Illegal(illegal)) => Err(entry::conflict(&illegal.to_string()).into()),
        Err(CommandError::Engine(error)) => Err(error.into()),
    }
}

/// The command of a form, for the actor it names.
fn command(word: &str, actor: &str) -> Result<Command, Refused> {
    let none = || Refused::from(entry::missing("There is no such command."));
    let command = Command::from_word(word).ok_or_else(none)?;
    let actor: Option<Actor> = match actor {
        "" => return Ok(command),
        word => serde_json::from_value(word.into()).ok(),
    };
    match (command, actor) {
        (Command::Retry(_), Some(actor)) => Ok(Command::Retry(Retried::Of(actor))),
        _ => Err(none()),
    }
}
