//! The binary: reads the command line, does what it asks, and ends with the exit code that its help names.

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use permafresh::cli::Cli;
use permafresh::cli::failure::Exit;
use permafresh::cli::output;

fn main() -> ExitCode {
    let cli = match Cli::for_host(std::env::args_os().skip(1)).map_or_else(Cli::try_parse, Ok) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this cannot be printed.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => ExitCode::from(Exit::Usage as u8),
                _ => {
                    output::say("hint: `--help` after any command shows examples");
                    ExitCode::from(Exit::Usage as u8)
                }
            };
        }
    };
    // There is one provider per process; nobody was here before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.run() {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            output::say(failure.text().trim_end());
            ExitCode::from(failure.exit as u8)
        }
    }
}
