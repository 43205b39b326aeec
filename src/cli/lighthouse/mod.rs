//! `permafresh lighthouse …`: onboarding by Azure Lighthouse, written, judged and looked at.
//!
//! [`template`] and [`validate`] work on files alone; [`check`] reads Azure, and changes nothing there.

pub mod check;
pub mod template;
pub mod validate;

use clap::Subcommand;

use super::failure::{Exit, Failure};
use crate::rollout::resource_id::is_guid;

/// What to do about delegations.
// Its variants have no doc comments, since those would stand in for the help of each command.
#[derive(Debug, Subcommand)]
pub(super) enum LighthouseCommand {
    Template(template::TemplateArgs),
    Validate(validate::ValidateArgs),
    Check(check::CheckArgs),
}

impl LighthouseCommand {
    /// Does one of the commands.
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Template(args) => template::run(args),
            Self::Validate(args) => validate::run(&args),
            Self::Check(args) => check::run(args).await,
        }
    }
}

/// A GUID on the command line, in lower case.
fn guid(text: &str) -> Result<String, String> {
    let text = text.trim();
    if is_guid(text) { Ok(text.to_ascii_lowercase()) } else { Err("expected a GUID".to_owned()) }
}
