//! What each command does to each state, and what an approval is.

use super::*;

#[test]
fn each_command_leads_where_the_table_says() {
    let unfinished = tally(&[(1, Standing::Pending, 3)]);
    let table = [
        ("waiting", ["paused", "=", "!", "canceled", "waiting"]),
        ("planning", ["paused", "=", "!", "canceled", "planning"]),
        ("paused", ["=", "planning", "!", "canceled", "paused"]),
        ("paused", ["=", "waiting", "!", "canceled", "paused"]),
        ("running", ["paused", "=", "!", "canceled", "running"]),
        ("paused", ["=", "running", "!", "canceled", "paused"]),
        ("halted", ["=", "running", "!", "canceled", "halted"]),
        ("completed", ["!", "!", "!", "!", "running"]),
        ("canceled", ["!", "!", "!", "=", "!"]),
        ("canceled", ["!", "!", "!", "=", "!"]),
        ("paused", ["=", "!", "running", "canceled", "paused"]),
        ("paused", ["=", "!", "planning", "canceled", "paused"]),
        ("running", ["paused", "=", "=", "canceled", "running"]),
    ];
    for (rollout, (state, expected)) in every_state().iter().zip(table) {
        assert_eq!(rollout.state.name(), state);
        for (command, expected) in COMMANDS.into_iter().zip(expected) {
            let got = match rollout.command(command, &unfinished, later(1)) {
                Ok(Some(next)) => next.state.name(),
                Ok(None) => "=",
                Err(illegal) => {
                    let words = illegal.to_string();
                    let names = words.contains(state) || illegal == IllegalCommand::WaitsForApproval;
                    assert!(names && words.contains(command.name()), "{words}");
                    "!"
                }
            };
            assert_eq!(got, expected, "{} on {:?}", command.name(), rollout.state);
        }
    }
}

#[test]
fn a_paused_rollout_that_waited_waits_again() {
    let waiting = &every_state()[0];
    let paused = waiting.command(Command::Pause, &Tally::default(), later(1)).unwrap().unwrap();
    let resumed = paused.command(Command::Resume, &Tally::default(), later(2)).unwrap().unwrap();
    assert_eq!(resumed.state, waiting.state);
    assert_eq!(resumed.walk.message, waiting.walk.message, "nobody is asked to plan it");
}

#[test]
fn retrying_a_completed_rollout_without_anything_to_retry_leaves_it_as_it_ended() {
    let completed = &every_state()[7];
    let done = tally(&[(1, Standing::Succeeded, 3)]);
    assert_eq!(completed.command(Command::Retry(Retried::Failed), &done, later(1)), Ok(None));
}

#[test]
fn commands_are_known_by_their_words() {
    for command in COMMANDS {
        assert_eq!(Command::from_word(command.name()), Some(command));
    }
    for bad in ["", "Pause", "stop", "retry "] {
        assert_eq!(Command::from_word(bad), None);
    }
}

#[test]
fn only_approve_approves_and_only_while_that_is_asked() {
    let state = |rollout: &Rollout| rollout.state.name();
    let rollout = running(r#"{"canaries": 0, "waves": [4, "100%"], "approveLastWave": true}"#, 10, 1);
    let none = Tally::default();
    let refused = Err(IllegalCommand::NothingToApprove { state: "running" });
    assert_eq!(rollout.command(Command::Approve, &none, later(1)), refused);
    let mut paused = rollout.command(Command::Pause, &none, later(1)).unwrap().unwrap();
    let refused = Err(IllegalCommand::NothingToApprove { state: "paused" });
    assert_eq!(paused.command(Command::Approve, &none, later(1)), refused, "paused, but not for that");
    paused = paused.command(Command::Resume, &none, later(1)).unwrap().unwrap();
    let done = tally(&[(1, Standing::Succeeded, 4)]);
    assert_eq!(paused.review(&done, later(2)), Review::AskApproval);
    paused.accept(&Review::AskApproval, None, later(2));
    assert_eq!(paused.command(Command::Resume, &done, later(3)), Err(IllegalCommand::WaitsForApproval));
    let approved = paused.command(Command::Approve, &done, later(3)).unwrap().unwrap();
    assert_eq!((state(&approved), approved.review(&done, later(3))), ("running", Review::NextWave));
    assert_eq!(approved.command(Command::Approve, &done, later(4)), Ok(None), "again");
    let mut halted = paused.clone();
    halted.accept(&Review::Halt, None, later(3));
    let refused = Err(IllegalCommand::NothingToApprove { state: "halted" });
    assert_eq!(halted.command(Command::Approve, &done, later(3)), refused);
    let resumed = halted.command(Command::Resume, &done, later(4)).unwrap().unwrap();
    assert_eq!(resumed.review(&done, later(4)), Review::AskApproval, "the question comes again");
    let canceled = approved.command(Command::Cancel, &done, later(4)).unwrap().unwrap();
    let refused = Err(IllegalCommand::NothingToApprove { state: "canceled" });
    assert_eq!(canceled.command(Command::Approve, &done, later(5)), refused);
}

#[test]
fn an_approval_forgives_no_failure() {
    let mut rollout =
        running(r#"{"canaries": 0, "waves": [4, "100%"], "maxFailures": 1, "approveLastWave": true}"#, 10, 1);
    let one = tally(&[(1, Standing::Succeeded, 3), (1, Standing::Failed, 1)]);
    assert_eq!(rollout.review(&one, later(1)), Review::AskApproval);
    rollout.accept(&Review::AskApproval, None, later(1));
    let approved = rollout.command(Command::Approve, &one, later(2)).unwrap().unwrap();
    let two = tally(&[(1, Standing::Succeeded, 2), (1, Standing::Failed, 2)]);
    assert!(matches!(approved.review(&two, later(3)), Review::Pause { .. }));
}
