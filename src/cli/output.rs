//! Data to stdout, words to stderr.
//!
//! A reader that has seen enough (`| head`) is no error. What comes from others is made harmless where a person sees it,
//! and left as it is where a program reads it.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Context as _;
use serde::Serialize;

use super::failure::Failure;
use super::plain_text::plain_lines;

/// Prints text of ours, in which that of others is harmless already.
pub fn print(text: &str) -> Result<(), Failure> {
    write(text.as_bytes())
}

/// Prints a value as JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).context("cannot write the answer as JSON");
    let text = text.map_err(|error| Failure::new(error, "leave --json out"))?;
    print_document(&(text + "\n"))
}

/// Prints a value as JSON in one line, for programs that read line by line.
pub fn print_json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).context("cannot write the answer as JSON");
    let text = text.map_err(|error| Failure::new(error, "leave --json out"))?;
    print_document(&(text + "\n"))
}

/// Prints a document of the service: as it is for a program, harmless for a person.
pub fn print_document(text: &str) -> Result<(), Failure> {
    if is_seen() { write(plain_lines(text).as_bytes()) } else { write(text.as_bytes()) }
}

/// Prints a piece of a document for a program, as it is.
pub fn print_piece(bytes: &[u8]) -> Result<(), Failure> {
    write(bytes)
}

/// Whether a person sees what is printed.
pub fn is_seen() -> bool {
    std::io::stdout().is_terminal()
}

/// Says something about what is going on.
pub fn say(text: &str) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[expect(clippy::exit, reason = "whoever closed the pipe has what they want: nothing is left to be done or said")]
fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written
            .context("cannot write to stdout")
            .map_err(|error| Failure::new(error, "check where the output goes")),
    }
}
