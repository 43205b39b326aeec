//! The command line (design §9): what people and scripts type, and nothing that the HTTP API could not do too.
//!
//! Help is the doc comments. Data goes to stdout, everything else to stderr; a failure ends with a hint. The commands of
//! [`rollout`], [`deployments`], [`offers`] and [`publish`] talk to a service through [`client`]; [`local`] and [`handler`] are services.

pub mod client;
pub mod demo;
pub mod deployments;
pub mod dry_run;
pub mod failure;
pub mod gdap;
pub mod handler;
pub mod lighthouse;
pub mod lint;
pub mod local;
pub mod offers;
pub mod operations;
pub mod output;
pub mod package;
mod partner_demo;
pub mod plain_text;
pub mod publish;
pub mod repair;
pub mod rollout;
pub mod script_root;
pub mod summary;
pub mod watch;
mod wiring;

use clap::{Parser, Subcommand};

use crate::telemetry;
use failure::{Exit, Failure};

/// What every help page ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed, or the service refused it
  2  the command line or a setting is wrong
  3  the rollout ended with failures, or is paused, halted or canceled
  4  the service cannot be reached
  5  the lint rejects an action";

const EXAMPLES: &str = "\
Examples:
  See it work, with nothing set up and Azure simulated:
    permafresh demo
  Run the service on this machine:
    permafresh local
  Bring version 1.4.0 to every deployment of a plan, and watch:
    permafresh publish --publisher fabrikam --offer ledger --plan standard \\
        --version 1.4.0 --target live --watch
  Who has to act on what:
    permafresh rollout report latest
";

/// Keeps the permissions of deployed Azure Managed Applications fresh
///
/// When a new version of a Marketplace offer is published with other permissions, every deployment that customers already
/// run keeps its old ones until somebody calls refreshPermissions on it. Permafresh does that: for every deployment, wave
/// by wave, with retries, and with a report that says who has to act on what is left.
#[derive(Debug, Parser)]
#[command(name = "permafresh", version, max_term_width = 100, after_long_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Local(local::LocalArgs),
    Handler(handler::HandlerArgs),
    Package(package::PackageArgs),
    Publish(publish::PublishArgs),
    Offers(offers::OffersArgs),
    Lint(lint::LintArgs),
    /// List, show, watch and steer rollouts
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// List, import, export, look for, hold, release and forget deployments
    #[command(subcommand)]
    Deployments(deployments::DeploymentsCommand),
    /// Onboard customers by Azure Lighthouse: write, check and look at delegations
    #[command(subcommand)]
    Lighthouse(lighthouse::LighthouseCommand),
    /// Into customers' tenants by GDAP: sign in, ask for consent, look after relationships
    #[command(subcommand)]
    Gdap(gdap::GdapCommand),
    Stop(operations::StopArgs),
    Start(operations::StartArgs),
    Audit(operations::AuditArgs),
}

impl Cli {
    /// Does what the command line asks; returns when that is done.
    pub fn run(self) -> Result<Exit, Failure> {
        match self.command {
            // These start logging themselves, since each has its own readers.
            Command::Demo(args) => on_all_cores(demo::run(args)),
            Command::Local(args) => on_all_cores(local::run(args)),
            Command::Handler(args) => on_all_cores(handler::run(args)),
            Command::Package(args) => package::run(&args),
            Command::Publish(args) => on_one_core(publish::run(args)),
            Command::Offers(args) => on_one_core(offers::run(args)),
            Command::Lint(args) => on_one_core(lint::run(args)),
            Command::Rollout(command) => on_one_core(rollout::run(command)),
            Command::Deployments(command) => on_one_core(deployments::run(command)),
            Command::Lighthouse(command) => on_one_core(command.run()),
            Command::Gdap(command) => on_one_core(command.run()),
            Command::Stop(args) => on_one_core(operations::stop(args)),
            Command::Start(args) => on_one_core(operations::start(args)),
            Command::Audit(args) => on_one_core(operations::audit(args)),
        }
    }
}

fn on_all_cores(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    run(tokio::runtime::Builder::new_multi_thread(), work)
}

fn on_one_core(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    telemetry::start(telemetry::Reader::Command, None);
    run(tokio::runtime::Builder::new_current_thread(), work)
}

fn run(
    mut runtime: tokio::runtime::Builder,
    work: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|error| Failure::new(error, "look at the limits of this process, such as the number of open files"))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
