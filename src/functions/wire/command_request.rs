//! What may come with a command: for a retry, whose failures it is for. Refuses what a command does not take.

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::api::Problem;
use super::problem;
use crate::rollout::{Actor, Command, Retried};

const ACTORS: &str = "expected \"publisher\", \"customer\", \"microsoft\" or \"offer\"";

/// The query of a command.
#[derive(Debug, Default, Deserialize)]
pub struct CommandRequest {
    actor: Option<String>,
}

/// The same command, a retry for the actor that query or body name.
pub fn with_actor(command: Command, query: CommandRequest, body: &Bytes) -> Result<Command, Problem> {
    let mut members = match body.trim_ascii() {
        b"" | b"null" => Map::new(),
        text => serde_json::from_slice::<Map<String, Value>>(text)
            .map_err(|error| problem::invalid_field("body", error.to_string()))?,
    };
    let said = members.remove("actor").filter(|actor| !actor.is_null());
    if let Some(name) = members.keys().next() {
        return Err(problem::invalid_field(name, "there is no such member"));
    }
    let actor = match (query.actor.map(Value::from), said) {
        (Some(query), Some(body)) if query != body => {
            return Err(problem::invalid_field("actor", "the query names another one than the body"));
        }
        (query, body) => query.or(body),
    };
    let Some(actor) = actor else { return Ok(command) };
    let actor: Actor = serde_json::from_value(actor).map_err(|_| problem::invalid_field("actor", ACTORS))?;
    match command {
        Command::Retry(_) => Ok(Command::Retry(Retried::Of(actor))),
        _ => Err(problem::invalid_field("actor", "only retry takes it")),
    }
}
