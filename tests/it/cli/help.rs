//! Help, wrong command lines, bad settings.

use std::collections::BTreeMap;

use permafresh::cli::failure::Exit;

use super::service::Service;
use super::{command, empty_page, run};

#[test]
fn the_help_of_every_command_is_as_recorded() {
    let mut all = String::new();
    for words in [
        "",
        "demo",
        "local",
        "handler",
        "package",
        "lint",
        "doctor",
        "publish",
        "rollout",
        "rollout list",
        "rollout show",
        "rollout watch",
        "rollout pause",
        "rollout resume",
        "rollout approve",
        "rollout cancel",
        "rollout retry",
        "rollout repair",
        "rollout report",
        "deployments",
        "deployments list",
        "deployments import",
        "deployments export",
        "deployments sync",
        "deployments hold",
        "deployments release",
        "deployments refreshed",
        "deployments forget",
        "gdap",
        "gdap sign-in",
        "gdap consent",
        "gdap link",
        "gdap status",
        "gdap scopes",
        "gdap relationship",
        "gdap relationship create",
        "gdap relationship assign",
        "gdap webhook",
        "gdap webhook register",
        "gdap webhook test",
        "jit",
        "jit list",
        "jit request",
        "jit show",
        "lighthouse",
        "lighthouse template",
        "lighthouse validate",
        "lighthouse check",
        "stop",
        "start",
        "audit",
        "completions",
        "man",
    ] {
        let mut arguments: Vec<_> = words.split_whitespace().collect();
        arguments.push("--help");
        let run = run(command(&arguments));
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{words}");
        all.push_str(&format!("$ permafresh {}\n{}\n", arguments.join(" "), run.out));
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn a_wrong_command_line_ends_with_a_hint_and_sends_nothing() {
    let service = Service::start(|_, _| empty_page());
    for arguments in [
        &["rollouts"][..],
        &["rollout", "show"],
        &["rollout", "show", "7"],
        &["rollout", "show", "latest", "--state", "unhappy"],
        &["rollout", "list", "--limit", "0"],
        &["deployments", "forget", "x"],
        &["deployments", "import", "rows.txt"],
        &["demo", "--deployments", "0"],
        &["local", "--port", "65536"],
        &["local", "--root", "/nonexistent"],
        &["publish", "--publisher", "fabrikam"],
        &["publish", "--publisher", "f", "--offer", "l", "--plan", "s", "--version", "1.4", "--target", "live"],
        &[
            "publish",
            "--publisher",
            "f",
            "--offer",
            "l",
            "--plan",
            "s",
            "--version",
            "1.4.0",
            "--target",
            "live",
            "--strategy",
            r#"{"canary": 1}"#,
        ],
    ] {
        let run = service.run(arguments);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.starts_with("error: "), "{}", run.err);
        assert!(run.err.lines().last().unwrap().starts_with("hint: "), "{}", run.err);
    }
    assert_eq!(service.got(), []);
}

#[test]
fn bad_settings_stop_the_start_with_every_problem_named() {
    let folder = tempfile::tempdir().unwrap();
    for start in ["handler", "local"] {
        let mut command = command(&[start]);
        command
            .current_dir(folder.path())
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", "1")
            .env("MODE", "maybe")
            .env("ARM_ENDPOINT", "http://management.azure.com")
            .env("AZURE_CLIENT_SECRET", "hunter2")
            .env("OFFERS", r#"[{"publisher": "fabrikam", "offer": "ledger", "plans": [{"plan": "standard", "verison": "1.4.0"}]}]"#);
        let run = run(command);
        insta::allow_duplicates! { insta::assert_snapshot!("bad_settings", run.shown()) }
    }
}

#[test]
fn the_exit_codes_are_documented_as_they_are() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).unwrap();
    let table: BTreeMap<u8, &str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter_map(|(code, meaning)| Some((code.parse().ok()?, meaning)))
        .collect();
    let known: BTreeMap<u8, &str> = Exit::ALL.into_iter().map(|(exit, meaning)| (exit as u8, meaning)).collect();
    assert_eq!(table, known);
    let help = run(command(&["--help"])).out;
    for (code, meaning) in known {
        assert!(help.contains(&format!("  {code}  {meaning}\n")), "{help}");
    }
}

#[test]
fn every_shell_can_complete_and_every_command_has_a_man_page() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let run = run(command(&["completions", shell]));
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{shell}");
        for word in ["permafresh", "rollout", "interval-ms", "completions"] {
            assert!(run.out.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(run(command(&["completions", "tcsh"])).code, 2);
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let run = run(command(&["man", "--out", pages.to_str().unwrap()]));
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("permafresh.1").contains("Exit codes:"));
    let watch = page("permafresh-rollout-watch.1");
    assert!(watch.contains(".TH") && watch.contains("Examples:") && watch.contains("interval"), "{watch}");
}
