//! The registry out of a file and into one.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::cli::client::{ApiClient, BodyFormat};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::plain_text::table;
use crate::rollout::counted;
use crate::rollout::counted::were;

/// The form of an import or an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// A head and one line per deployment
    Csv,
    /// An array of objects
    Json,
}

/// Takes a file in; `-` is standard input.
pub async fn import(client: &ApiClient, file: &Path, format: FileFormat, json: bool) -> Result<Exit, Failure> {
    let bytes = crate::cli::publish::read_input(file)?;
    let result = client.import(bytes, body_format(format)).await.map_err(|error| {
        let failure = Failure::from(error);
        Failure { error: failure.error.context(format!("cannot import {}", file.display())), ..failure }
    })?;
    let rejected = result.rejected.len() as u64;
    if json {
        output::print_json(&result)?;
    } else {
        output::print(&format!("imported {}, updated {}, rejected {rejected}\n", result.imported, result.updated))?;
    }
    if rejected == 0 {
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = result.rejected.into_iter().map(|row| [row.line.to_string(), row.why]).collect();
    if !json {
        output::print(&table(["LINE", "WHY"], &rows))?;
    }
    let error = anyhow::anyhow!("{} {} rejected", counted(rejected, "row"), were(rejected));
    Err(Failure::new(
        error,
        "correct these lines and import again; what was taken stays, and taking it twice changes nothing",
    ))
}

/// A file gets its name only once it is whole.
pub async fn export(client: &ApiClient, file: &Path, format: BodyFormat, query: &str) -> Result<Exit, Failure> {
    if file == Path::new("-") {
        let mut seen = Vec::new();
        let is_seen = output::is_seen();
        client
            .export(format, query, |piece| {
                if is_seen {
                    seen.extend_from_slice(piece);
                    return Ok(());
                }
                output::print_piece(piece)
            })
            .await?;
        if is_seen {
            output::print_document(&String::from_utf8_lossy(&seen))?;
        }
        return Ok(Exit::Success);
    }
    let unwritten = |error: std::io::Error| {
        let error = anyhow::Error::from(error).context(format!("cannot write {}", file.display()));
        Failure::new(error, "check that the folder exists and may be written to")
    };
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let written = async {
        let mut out = std::io::BufWriter::new(std::fs::File::create(&unfinished).map_err(unwritten)?);
        client.export(format, query, |piece| out.write_all(piece).map_err(unwritten)).await?;
        out.into_inner().map_err(|error| unwritten(error.into_error()))?.sync_all().map_err(unwritten)?;
        std::fs::rename(&unfinished, file).map_err(unwritten)
    };
    let written = written.await;
    if written.is_err() {
        // What is left of it is of no use; that it cannot be removed either says nothing new.
        let _ = std::fs::remove_file(&unfinished);
    }
    written?;
    output::say(&format!("written to {}", file.display()));
    Ok(Exit::Success)
}

/// As the client calls it.
pub fn body_format(format: FileFormat) -> BodyFormat {
    match format {
        FileFormat::Csv => BodyFormat::Csv,
        FileFormat::Json => BodyFormat::Json,
    }
}

/// The form that the name of a file shows.
pub fn by_extension(file: &Path) -> Option<FileFormat> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "csv" => Some(FileFormat::Csv),
        "json" => Some(FileFormat::Json),
        _ => None,
    }
}
