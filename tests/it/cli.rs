//! The binary's whole output, against a service that answers what each test tells it to.

mod deployments;
mod doctor;
mod help;
mod lighthouse;
mod publish;
mod rollout;
mod service;
mod talking;
mod watch;

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use service::{Answer, ok};

const ROLLOUT: &str = "01990000-0000-7000-8000-000000000001";
const APPLICATION: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.Solutions/applications/ledger";
const KEY: &str = "a-function-key";

/// What a command printed and how it ended.
#[derive(Debug)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    fn shown(&self) -> String {
        format!("exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_permafresh"));
    // Nothing of the machine's own environment may reach a recording.
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn rollout(state: &str, counts: Value) -> Value {
    let mut all = json!({"queued": 0, "awaitingAccess": 0, "running": 0, "verifying": 0, "succeeded": 0, "failed": 0,
        "canceled": 0, "timedOut": 0, "skipped": 0, "handedOver": 0, "superseded": 0, "total": 0});
    all.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
    json!({"id": ROLLOUT, "publisher": "fabrikam", "offer": "ledger", "plan": "standard", "version": "1.4.0",
        "target": "live", "audience": "all", "purpose": "rollOut", "state": state, "wave": 1, "waves": 3,
        "createdAt": "2026-01-02T03:00:00Z", "counts": all})
}

fn failed_refresh() -> Value {
    json!({"applicationId": APPLICATION, "state": "failed", "attempts": 1, "polls": 3,
        "error": {"actor": "customer", "code": "ScopeLocked", "message": "the scope is locked\u{1b}[2J"}})
}

fn empty_page() -> Answer {
    ok(json!({"value": []}))
}
