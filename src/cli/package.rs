//! `permafresh package`: the folder and the zip that Azure Functions takes as a script root.
//!
//! Puts together and checks; it builds no binary and uploads nothing. Nothing is written unless everything is right, and
//! only an earlier package is ever replaced.

mod binary;
mod contents;
mod output;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::failure::{Exit, Failure};
use super::output::{print, print_json, say};
use super::script_root::ScriptRoot;
use binary::Binary;
use contents::Package;

const EXAMPLES: &str = "\
Examples:
  permafresh package --out dist/permafresh
  permafresh package --out dist/permafresh --force \\
      --binary target/x86_64-unknown-linux-gnu/release/permafresh

scripts/package.sh builds the binary for Azure's images first; infra/README.md says how to deploy.";

/// Make the folder and the zip that Azure Functions runs
///
/// DIR becomes a script root: host.json, a folder with function.json for each function, and the binary as `permafresh`.
/// DIR.zip beside it holds the same, byte for byte the same each time. Both are printed, one a line.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PackageArgs {
    /// Folder to make; the zip gets the same name with .zip behind it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Binary to package [default: this one]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Folder with host.json and functions/ [default: what is built in]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Replace an earlier package
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes the package.
pub fn run(args: &PackageArgs) -> Result<Exit, Failure> {
    let root = script_root(args.root.as_deref())?;
    let package = Package::read(&root)
        .context("the script root would not run in Azure")
        .map_err(|error| Failure::new(error, "correct what is named, and package again").exit(Exit::Usage))?;
    let binary = binary(args.binary.as_deref())?;
    let replace = if args.force { output::Existing::Replace } else { output::Existing::Keep };
    let written = output::write(&args.out, &package, &binary, replace).map_err(|error| {
        let hint = error.hint();
        Failure::new(error, hint)
    })?;
    say(&format!("The binary {}", binary.needs));
    for warning in binary.needs.warnings() {
        say(&format!("warning: {warning}"));
    }
    if args.json {
        let needs = binary.needs.to_string();
        print_json(
            &json!({"folder": written.folder, "zip": written.zip, "binary": needs, "warnings": binary.needs.warnings()}),
        )?;
        return Ok(Exit::Success);
    }
    print(&format!("{}\n{}\n", written.folder.display(), written.zip.display()))?;
    Ok(Exit::Success)
}

fn script_root(named: Option<&Path>) -> Result<ScriptRoot, Failure> {
    let Some(path) = named else {
        let written = ScriptRoot::written_out().context("cannot write the functions to a temporary folder");
        return written
            .map_err(|error| Failure::new(error, "check the free space and the rights of the temporary folder"));
    };
    ScriptRoot::at(path).ok_or_else(|| {
        let error = anyhow::anyhow!("there is no host.json in {}", path.display());
        Failure::new(error, "give a folder with host.json and functions/, or leave --root out").exit(Exit::Usage)
    })
}

fn binary(named: Option<&Path>) -> Result<Binary, Failure> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .context("cannot find this program's own file")
            .map_err(|error| Failure::new(error, "name it with --binary"))?,
    };
    Binary::read(&path)
        .with_context(|| format!("cannot read the binary {}", path.display()))
        .map_err(|error| Failure::new(error, "name another one with --binary").exit(Exit::Usage))
}
