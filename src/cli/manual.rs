//! `permafresh completions` and `permafresh man`: the description of the command line, for shells and for `man`.
//!
//! Both come from what `--help` shows; nothing is described here.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::shells;

use super::failure::{Exit, Failure};
use super::{Cli, output};

const COMPLETIONS_HELP: &str = "\
Examples:
  permafresh completions bash > ~/.local/share/bash-completion/completions/permafresh
  permafresh completions zsh > ~/.zfunc/_permafresh        # where fpath has ~/.zfunc
  permafresh completions fish > ~/.config/fish/completions/permafresh.fish
  permafresh completions powershell >> $PROFILE";

const MAN_HELP: &str = "\
Examples:
  permafresh man --out ~/.local/share/man/man1 && man permafresh-rollout-watch";

/// Print what a shell needs to complete this command line
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// The shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

/// Write a man page for every command into a folder
#[derive(Debug, Args)]
#[command(after_help = MAN_HELP)]
pub struct ManArgs {
    /// The folder; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints the script for a shell.
pub fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    let name = command.get_name().to_owned();
    match args.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, name, &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, name, &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, name, &mut script),
        Shell::Powershell => clap_complete::generate(shells::PowerShell, &mut command, name, &mut script),
    }
    output::print_piece(&script)?;
    Ok(Exit::Success)
}

/// Writes the pages.
pub fn man(args: &ManArgs) -> Result<Exit, Failure> {
    std::fs::create_dir_all(&args.out)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.out))
        .with_context(|| format!("cannot write man pages into {}", args.out.display()))
        .map_err(|error| Failure::new(error, "name a folder that may be written to"))?;
    Ok(Exit::Success)
}
