//! The command line (design §9): what people and scripts type, and nothing that the HTTP API could not do too.
//!
//! Help is the doc comments. Data goes to stdout, everything else to stderr; a failure ends with a hint. The commands
//! of [`rollout`], [`deployments`], [`offers`] and [`publish`] talk to a service through [`client`]; [`local`] and
//! [`handler`] are services.

pub mod client;
pub mod demo;
pub mod deployments;
pub mod doctor;
pub mod dry_run;
pub mod failure;
pub mod gdap;
mod gdap_demo;
pub mod handler;
pub mod jit;
mod jit_demo;
pub mod lighthouse;
pub mod lint;
pub mod local;
pub mod manual;
pub mod offers;
pub mod operations;
pub mod output;
pub mod pace;
pub mod package;
mod partner_demo;
pub mod plain_text;
pub mod publish;
pub mod repair;
pub mod rollout;
pub mod script_root;
pub mod standing;
pub mod summary;
pub mod watch;
mod wiring;

use std::ffi::OsString;
use std::pin::Pin;

use clap::{Parser, Subcommand};

use crate::telemetry;
use failure::{Exit, Failure};

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

/// What every command ends with, as its exit code says it.
fn exit_codes() -> String {
    let lines = Exit::ALL.map(|(exit, meaning)| format!("\n  {}  {meaning}", exit as u8));
    format!("Exit codes:{}", lines.concat())
}

/// Keeps the permissions of deployed Azure Managed Applications fresh
///
/// When a new version of a Marketplace offer is published with other permissions, every deployment that customers already
/// run keeps its old ones until somebody calls refreshPermissions on it. Permafresh does that: for every deployment, wave
/// by wave, with retries, and with a report that says who has to act on what is left.
#[derive(Debug, Parser)]
#[command(name = "permafresh", version, max_term_width = 100, after_long_help = format!("{EXAMPLES}\n{}", exit_codes()))]
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
    Doctor(doctor::DoctorArgs),
    /// List, show, watch and steer rollouts
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// List, show, import, export, look for, hold, release and forget deployments, and record customers' own refreshes
    #[command(subcommand)]
    Deployments(deployments::DeploymentsCommand),
    /// Onboard customers by Azure Lighthouse: write, check and look at delegations
    #[command(subcommand)]
    Lighthouse(lighthouse::LighthouseCommand),
    /// Into customers' tenants by GDAP: sign in, ask for consent, look after relationships
    #[command(subcommand)]
    Gdap(gdap::GdapCommand),
    /// Just-in-time access: ask customers for it, and see what became of it
    #[command(subcommand)]
    Jit(jit::JitCommand),
    Stop(operations::StopArgs),
    Start(operations::StartArgs),
    Audit(operations::AuditArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

impl Cli {
    /// The command that the Functions host starts, if `arguments` (behind the program's name) are just that. Everybody else
    /// may wait the half millisecond that it takes to lay out all commands with their help; whoever scales out may not.
    pub fn for_host(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let is_it = arguments.next().is_some_and(|command| command == "handler") && arguments.next().is_none();
        is_it.then(|| Self { command: Command::Handler(handler::HandlerArgs::default()) })
    }

    /// Does what the command line asks; returns when that is done.
    pub fn run(self) -> Result<Exit, Failure> {
        match self.command {
            // These start logging themselves, since each has its own readers.
            Command::Demo(args) => on_all_cores(|| demo::run(args)),
            Command::Local(args) => on_all_cores(|| local::run(args)),
            Command::Handler(args) => on_all_cores(|| handler::run(args)),
            Command::Package(args) => package::run(&args),
            Command::Publish(args) => on_one_core(|| publish::run(args)),
            Command::Offers(args) => on_one_core(|| offers::run(args)),
            Command::Lint(args) => on_one_core(|| lint::run(args)),
            Command::Doctor(args) => on_one_core(|| doctor::run(args)),
            Command::Rollout(command) => on_one_core(|| rollout::run(command)),
            Command::Deployments(command) => on_one_core(|| deployments::run(command)),
            Command::Lighthouse(command) => on_one_core(|| command.run()),
            Command::Gdap(command) => on_one_core(|| command.run()),
            Command::Jit(command) => on_one_core(|| jit::run(command)),
            Command::Stop(args) => on_one_core(|| operations::stop(args)),
            Command::Start(args) => on_one_core(|| operations::start(args)),
            Command::Audit(args) => on_one_core(|| operations::audit(args)),
            Command::Completions(args) => manual::completions(&args),
            Command::Man(args) => manual::man(&args),
        }
    }
}

/// Runs what `work` makes. It is made in here and moved to the heap at once; otherwise the stack would have room for the work of
/// every command, and for what that is moved through: 90 KiB, all of them touched at the start.
#[inline(never)]
fn on_all_cores<F: Future<Output = Result<Exit, Failure>>>(work: impl FnOnce() -> F) -> Result<Exit, Failure> {
    run(tokio::runtime::Builder::new_multi_thread(), Box::pin(work()))
}

/// The same on this thread alone.
#[inline(never)]
fn on_one_core<F: Future<Output = Result<Exit, Failure>>>(work: impl FnOnce() -> F) -> Result<Exit, Failure> {
    telemetry::start(telemetry::Reader::Command, None);
    run(tokio::runtime::Builder::new_current_thread(), Box::pin(work()))
}

fn run(
    mut runtime: tokio::runtime::Builder,
    work: Pin<Box<impl Future<Output = Result<Exit, Failure>>>>,
) -> Result<Exit, Failure> {
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|error| Failure::new(error, "look at the limits of this process, such as the number of open files"))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_host_starts_is_what_the_command_line_would_have_read() {
        let for_host = |line: &str| Cli::for_host(line.split_whitespace().map(Into::into));
        let read = Cli::try_parse_from(["permafresh", "handler"]).unwrap();
        assert_eq!(format!("{:?}", for_host("handler").unwrap()), format!("{read:?}"));
        for other in ["", "handler --help", "handler --log-format json", "local", "--version"] {
            assert!(for_host(other).is_none(), "{other:?}");
        }
    }

    fn leaves(command: &clap::Command, path: &str, into: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name());
        if command.get_subcommands().next().is_none() {
            into.push((path.clone(), command.clone()));
        }
        for inner in command.get_subcommands() {
            leaves(inner, &path, into);
        }
    }

    /// Commands without `--json`, and why.
    const NOT_FOR_PROGRAMS: [(&str, &str); 5] = [
        (" permafresh demo", "a show for people; its service speaks the API"),
        (" permafresh local", "a service: its one line is a contract, its log has --log-format json"),
        (" permafresh handler", "a service, started by the Functions host"),
        (" permafresh completions", "its output is a script of a shell"),
        (" permafresh man", "it writes files and prints nothing"),
    ];

    /// Whether the output of a command can be read by a program: `--json`, or a `--format` that has it.
    fn is_for_programs(command: &clap::Command) -> bool {
        command.get_arguments().any(|argument| match argument.get_long() {
            Some("json") => true,
            Some("format") => argument.get_possible_values().iter().any(|value| value.get_name() == "json"),
            _ => false,
        })
    }

    #[test]
    fn every_command_that_prints_a_result_prints_it_as_json_too() {
        let mut commands = Vec::new();
        leaves(&super::Cli::command(), "", &mut commands);
        let without: Vec<_> =
            commands.iter().filter(|(_, command)| !is_for_programs(command)).map(|(path, _)| path.as_str()).collect();
        assert_eq!(without, NOT_FOR_PROGRAMS.map(|(path, _)| path));
    }

    #[test]
    fn the_help_of_every_command_shows_it_in_an_example() {
        let mut commands = Vec::new();
        leaves(&super::Cli::command(), "", &mut commands);
        assert!(commands.len() > 30);
        // Started by machines only.
        for (path, command) in commands.iter().filter(|(path, _)| !path.ends_with(" handler")) {
            let help = command.get_after_long_help().or(command.get_after_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{path} has no examples"));
            assert!(examples.contains(path.trim()), "{path}: an example shows the command itself");
        }
    }
}
