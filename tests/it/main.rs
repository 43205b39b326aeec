//! What a user relies on, through the real parts: one binary, one module for each subject.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops at once where something is not as it should be, and owns its clock and its clients"
)]

mod tidy;
