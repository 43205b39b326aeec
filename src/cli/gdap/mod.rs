//! `permafresh gdap …`: sign in, ask for consent, and look after GDAP relationships.
//!
//! Works with the settings of the service, its vault and its store, so that what is begun here is ended there. No token is
//! ever printed.

pub mod consent;
pub mod relationship;
pub mod sign_in;
pub mod webhook;

use std::path::Path;

use clap::Subcommand;

use super::failure::{Exit, Failure};
use super::local::local_settings;
use super::wiring;
use crate::access::gdap::{GdapError, Standstill};
use crate::engine::{Engine, EngineError};
use crate::rollout::resource_id::is_guid;
use crate::settings;

/// What every help page of these commands ends with.
const SETTINGS: &str = "\
Settings come from the environment, then from local.settings.json in the current folder:
AZURE_TENANT_ID (your tenant), GDAP_CLIENT_ID (the app), KEY_VAULT_URL (or a file beside the store).";

/// What to do about GDAP.
// Its variants have no doc comments, since those would stand in for the help of each command.
#[derive(Debug, Subcommand)]
pub(super) enum GdapCommand {
    SignIn(sign_in::SignInArgs),
    Consent(consent::ConsentArgs),
    Link(consent::LinkArgs),
    Status(consent::StatusArgs),
    Scopes(consent::ScopesArgs),
    /// Make, offer, list, assign and end GDAP relationships
    #[command(subcommand)]
    Relationship(relationship::RelationshipCommand),
    /// Register the webhook by which Partner Center tells of relationships
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
}

impl GdapCommand {
    /// Does one of the commands.
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let engine = engine()?;
        let gdap = engine.gdap().ok_or_else(|| {
            let error = anyhow::anyhow!("GDAP is not set up: GDAP_CLIENT_ID is absent");
            Failure::new(error, "set it to the app registration that customers consent to").exit(Exit::Usage)
        })?;
        match self {
            Self::SignIn(args) => sign_in::run(&args, &engine, gdap).await,
            Self::Consent(args) => consent::run(&args, &engine, gdap).await,
            Self::Link(args) => consent::link(&args, &engine, gdap),
            Self::Status(args) => consent::status(&args, &engine, gdap).await,
            Self::Scopes(args) => consent::scopes(&args, gdap).await,
            Self::Relationship(command) => command.run(gdap).await,
            Self::Webhook(command) => command.run(gdap).await,
        }
    }
}

fn engine() -> Result<Engine, Failure> {
    let mut values = local_settings(Path::new("."))?;
    values.extend(settings::environment());
    let settings = wiring::settings(&values)?;
    let (app, _) = wiring::app(&settings)
        .map_err(|error| Failure::new(error, "correct the setting that it names").exit(Exit::Usage))?;
    Ok(app.engine)
}

impl From<GdapError> for Failure {
    fn from(error: GdapError) -> Self {
        let (hint, exit) = match error.standstill() {
            _ if matches!(error, GdapError::InTheWay { .. }) => {
                ("look at `permafresh gdap relationship list`", Exit::Failure)
            }
            Standstill::Time => ("try again in a few minutes", Exit::Unreachable),
            Standstill::Customer => ("see docs/access.md, GDAP: who has to do what", Exit::Failure),
            Standstill::Publisher => ("see docs/access.md, GDAP: setting it up", Exit::Failure),
        };
        Self::new(error, hint).exit(exit)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(error, "look whether the store and the queue can be reached; nothing is half-done, so try again")
    }
}

/// A GUID on the command line, in lower case.
fn guid(text: &str) -> Result<String, String> {
    let text = text.trim();
    if is_guid(text) { Ok(text.to_ascii_lowercase()) } else { Err("expected a GUID".to_owned()) }
}
