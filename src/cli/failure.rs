//! How a command ends: exit codes, and errors that finish with a hint.

use std::fmt::Write as _;

use super::plain_text::plain;

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Success = 0,
    /// It failed, or the service refused it.
    Failure = 1,
    /// The command line or a setting is wrong.
    Usage = 2,
    /// The rollout ended with failures, or is paused, halted or canceled; a delegation covers only a part.
    RolloutNotClean = 3,
    /// The service cannot be reached.
    Unreachable = 4,
    /// The lint rejects an action.
    LintRejected = 5,
}

impl Exit {
    /// Every exit code, and what it means: the one place where that is said.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Success, "done"),
        (Self::Failure, "it failed, or the service refused it"),
        (Self::Usage, "the command line or a setting is wrong"),
        (Self::RolloutNotClean, "the rollout ended with failures, or is paused, halted or canceled"),
        (Self::Unreachable, "the service cannot be reached"),
        (Self::LintRejected, "the lint rejects an action"),
    ];
}

/// Why a command failed, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// What was attempted and why it failed.
    pub error: anyhow::Error,
    /// What to do.
    pub hint: String,
    /// The exit code.
    pub exit: Exit,
}

impl Failure {
    /// A failure with a hint; the exit code is [`Exit::Failure`].
    pub fn new(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self { error: error.into(), hint: hint.into(), exit: Exit::Failure }
    }

    /// The same with another exit code.
    pub fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// What is printed to stderr: the error, its causes, the hint.
    pub fn text(&self) -> String {
        let mut text = String::from("error: ");
        let mut before = String::new();
        for (depth, cause) in self.error.chain().enumerate() {
            let cause = cause.to_string();
            if depth > 0 && before.contains(&cause) {
                continue;
            }
            if depth > 0 {
                text.push_str("  because: ");
            }
            for line in cause.lines() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{}", plain(line));
            }
            before = cause;
        }
        text + "hint: " + &plain(&self.hint) + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_causes_once_and_ends_with_the_hint() {
        let error = anyhow::anyhow!("connection refused").context("cannot reach \u{1b}[31mthe service");
        let failure = Failure::new(error, "start it").exit(Exit::Unreachable);
        assert_eq!(
            failure.text(),
            "error: cannot reach \\u{1b}[31mthe service\n  because: connection refused\nhint: start it\n"
        );
        assert_eq!(failure.exit as u8, 4);
    }
}
