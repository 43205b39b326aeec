//! `permafresh rollout watch`: for people and for programs.

#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::service::{Service, ok, problem};
use super::{ROLLOUT, empty_page, failed_refresh, rollout};
#[cfg(target_os = "linux")]
use super::{Run, run};

#[test]
fn watching_shows_progress_survives_a_restart_and_ends_with_who_has_to_act() {
    let service = Service::start(|got, before| {
        if got.path.contains("/refreshes?state=failed") {
            return ok(json!({"value": [failed_refresh()]}));
        }
        if got.path.contains("/refreshes?") {
            return empty_page();
        }
        match before {
            0 => ok(rollout("planning", json!({}))),
            1 | 3 => ok(rollout("running", json!({"running": 2, "total": 2}))),
            2 => problem(503, json!({"title": "starting", "status": 503})),
            _ => ok(rollout("completed", json!({"succeeded": 1, "failed": 1, "total": 2}))),
        }
    });
    let run = service.run(&["rollout", "watch", ROLLOUT, "--interval-ms", "50"]);
    insta::assert_snapshot!("watch", run.shown());
}

#[test]
fn the_exit_code_of_watching_says_how_the_rollout_ended() {
    for (state, counts, expected) in [
        ("completed", json!({"succeeded": 3, "skipped": 1, "total": 4}), 0),
        ("completed", json!({"timedOut": 1, "total": 1}), 3),
        ("halted", json!({"failed": 1, "queued": 4, "total": 5}), 3),
        ("paused", json!({"failed": 1, "queued": 4, "total": 5}), 3),
        ("canceled", json!({"canceled": 1, "total": 1}), 3),
    ] {
        let view = rollout(state, counts);
        let service = Service::start(move |got, _| match got.path.as_str() {
            "/api/rollouts?top=1" => ok(json!({"value": [view]})),
            path if path.contains("/refreshes") => empty_page(),
            _ => ok(view.clone()),
        });
        assert_eq!(service.run(&["rollout", "watch", "latest"]).code, expected, "{state}");
    }
}

/// A rollout whose looks show one stand after the other, with the same refresh failed in the second and after.
fn course() -> Service {
    let looks = AtomicUsize::new(0);
    Service::start(move |got, _| {
        if got.path.contains("/refreshes?state=failed") {
            return ok(json!({"value": [failed_refresh()]}));
        }
        if got.path.contains("/refreshes?") {
            return empty_page();
        }
        match looks.fetch_add(1, Ordering::SeqCst) {
            0 => ok(rollout("running", json!({"running": 3, "total": 3}))),
            1 | 2 => ok(rollout("running", json!({"running": 2, "failed": 1, "total": 3}))),
            3 => {
                let mut second = rollout("running", json!({"running": 1, "failed": 1, "succeeded": 1, "total": 3}));
                second["wave"] = 2.into();
                ok(second)
            }
            _ => ok(rollout("completed", json!({"failed": 1, "succeeded": 2, "total": 3}))),
        }
    })
}

#[test]
fn a_program_gets_one_object_a_line_and_each_failure_once() {
    let run = course().run(&["rollout", "watch", ROLLOUT, "--interval-ms", "50", "--json"]);
    assert_eq!((run.code, run.err.as_str()), (3, ""));
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["progress", "failure", "progress", "progress", "progress", "ended"], "{}", run.out);
    assert_eq!(lines[1]["refresh"]["error"]["code"], "ScopeLocked");
    assert_eq!((&lines[3]["rollout"]["wave"], &lines[4]["rollout"]["state"]), (&json!(2), &json!("completed")));
    assert!(lines[0]["perMinute"].is_null() && lines[0]["at"].is_string());
    assert_eq!((&lines[5]["exitCode"], &lines[5]["rollout"]["counts"]["succeeded"]), (&json!(3), &json!(2)));
}

#[test]
fn without_a_terminal_failures_and_waves_come_as_plain_lines() {
    let run = course().run(&["rollout", "watch", ROLLOUT, "--interval-ms", "50"]);
    insta::assert_snapshot!("watch_lines", run.shown());
}

/// A command at a terminal of 100 columns, as util-linux makes one; what it draws, in the order of drawing.
#[cfg(target_os = "linux")]
fn at_a_terminal(service: &Service, arguments: &[&str]) -> Run {
    let command = service.command(arguments);
    let words: Vec<_> =
        [command.get_program()].into_iter().chain(command.get_args()).map(|word| word.to_str().unwrap()).collect();
    assert!(words.iter().all(|word| !word.contains([' ', '\''])), "{words:?}");
    let mut terminal = Command::new("script");
    let typed = format!("stty cols 100 rows 40; exec {}", words.join(" "));
    terminal.args(["--quiet", "--return", "--command", &typed, "/dev/null"]);
    terminal.env_clear().env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh").env("TERM", "xterm").stdin(Stdio::null());
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(terminal)
}

#[cfg(target_os = "linux")]
#[test]
fn at_a_terminal_a_bar_is_drawn_and_redrawn_and_only_failures_waves_and_the_summary_stay() {
    let shown = at_a_terminal(&course(), &["rollout", "watch", ROLLOUT, "--interval-ms", "200"]);
    assert_eq!(shown.code, 3, "{}", shown.shown());
    let drawn = shown.out.replace("\r\n", "\n");
    // Redrawn in its place: back to the beginning of the line, which is cleared.
    let bars: Vec<_> = drawn.split('\r').filter(|piece| piece.contains("/3  running, wave ")).collect();
    assert!(bars.len() >= 2, "{drawn:?}");
    assert!(bars.iter().all(|bar| bar.contains("\u{1b}[2K") && !bar.contains('\n')), "{bars:?}");
    assert!(bars.iter().any(|bar| bar.contains("0/3  running, wave 1 of 3; 3 running, 0 failed")), "{bars:?}");
    assert!(drawn.contains("2/3  running, wave 2 of 3; 1 running, 1 failed"), "{drawn:?}");
    // What stays has a line of its own; the plain lines of those without a terminal are not there.
    let stays = |text: &str| drawn.lines().filter(|line| line.contains(text)).count();
    assert_eq!((stays("  wave 1 of 3 done: "), stays("failed: /subscriptions/")), (1, 1), "{drawn:?}");
    assert_eq!(stays("running, wave 1 of 3: "), 0, "{drawn:?}");
    assert!(drawn.contains("Who has to act"), "{drawn:?}");
}
