//! Chance by seed, and what ARM does by chance: throttles, fails, hangs, resets, answers garbage, changes its mind, names
//! hosts that are not its own.

use std::time::Duration;

use permafresh::arm::simulator::{Acceptance, MonitorForm, OnPoll, OnPost, OnRead, Outcome, Reply, WaitForm};

use super::mixed;

/// Numbers that look like chance and that only the seed decides.
#[derive(Clone, Debug)]
pub struct Chance {
    seed: u64,
    turn: usize,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self { seed, turn: 0 }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.turn += 1;
        mixed(self.seed, self.turn) % end.max(1)
    }

    /// A number from `first` to `last`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap())).unwrap()
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    /// Another row of numbers.
    pub fn branch(&mut self) -> Self {
        Self::new(mixed(self.seed, usize::MAX / 2) ^ self.below(u64::MAX))
    }
}

/// What a polling URL of somebody else carries, which must not be seen anywhere.
pub const SECRET: &str = "c2VjcmV0LW9mLXNvbWVib2R5LWVsc2U";

/// Something that ARM does once. `elsewhere` is a host that nobody may call.
pub fn on_post(chance: &mut Chance, elsewhere: &str, hangs: bool) -> OnPost {
    let acceptance = acceptance(chance, elsewhere);
    match chance.below(30) {
        0..=2 => OnPost::Reply(Reply::throttled(chance.between(1, 900))),
        3 => OnPost::Reply(Reply::unavailable(chance.between(1, 300))),
        4 => OnPost::Reply(Reply::gateway_timeout()),
        5 => OnPost::Reply(Reply::html(502)),
        6 => OnPost::Reply(Reply::busy()),
        7 => OnPost::Reply(Reply::expired_token()),
        8 => OnPost::Reply(Reply::resource_not_found()),
        9 => OnPost::Reply(Reply::redirect(&format!("{elsewhere}?sig={SECRET}"))),
        10 => OnPost::Reply(Reply::status(200)),
        11 => OnPost::Reply(garbage(chance)),
        12 => OnPost::Reset,
        13..=14 => OnPost::LoseAnswer(acceptance),
        15 if hangs => OnPost::Hang,
        16 if chance.one_in(4) => OnPost::Reply(Reply::denied()),
        _ => OnPost::Accept(acceptance),
    }
}

fn acceptance(chance: &mut Chance, elsewhere: &str) -> Acceptance {
    Acceptance {
        status: chance.pick(&[202, 202, 201]),
        monitor: match chance.below(16) {
            0 => MonitorForm::None,
            1 => MonitorForm::Location,
            2..=4 => MonitorForm::Both,
            5 if chance.one_in(2) => MonitorForm::Elsewhere(format!("{elsewhere}/operations/1?sig={SECRET}")),
            _ => MonitorForm::AsyncOperation,
        },
        retry_after: match chance.below(8) {
            0 => WaitForm::None,
            1 => WaitForm::Text(chance.pick(&["0", "-1", "soon", "1.5", "99999999999999999999", ""]).to_owned()),
            2 => WaitForm::Date(Duration::from_secs(chance.between(0, 300))),
            3 => WaitForm::Text(chance.between(1, 500).to_string()),
            _ => WaitForm::Usual,
        },
        outcome: match chance.below(16) {
            0 => Outcome::failed("InternalServerError", "it broke"),
            1 => Outcome::canceled(),
            2 => Outcome::failed_nested(),
            3 => Outcome::word("Succeeded "),
            4 if chance.one_in(4) => Outcome::bad_action("Microsoft.KeyVault/vaults/secrets/getSecret/action"),
            _ => Outcome::succeeded(),
        },
        duration: match chance.below(6) {
            0 => Some(Duration::ZERO),
            1 => Some(Duration::from_secs(chance.between(60, 1_800))),
            2 if chance.one_in(5) => Some(Duration::from_secs(4 * 3_600)),
            _ => None,
        },
    }
}

pub fn on_poll(chance: &mut Chance, elsewhere: &str, hangs: bool) -> OnPoll {
    OnPoll::Reply(match chance.below(24) {
        0..=3 => Reply::throttled(chance.between(1, 550)),
        4 => Reply::unavailable(chance.between(1, 550)),
        5 => Reply::gateway_timeout(),
        6 => Reply::html(500),
        7 => Reply::expired_token(),
        8 => Reply::forbidden(),
        9 => Reply::resource_not_found(),
        10 => Reply::redirect(&format!("{elsewhere}/o?sig={SECRET}")),
        11 => Reply::status(202).with("location", format!("{elsewhere}/o?sig={SECRET}")),
        12..=13 => garbage(chance),
        14 => Reply::json(200, r#"{"status":"Pondering"}"#),
        15 => Reply::json(200, r#"{"status":"Running","percentComplete":-7}"#).with("retry-after", "400"),
        16 => return OnPoll::Reset,
        17 if hangs => return OnPoll::Hang,
        _ => return OnPoll::AsItStands,
    })
}

pub fn on_read(chance: &mut Chance, hangs: bool) -> OnRead {
    match chance.below(14) {
        0 => OnRead::Reply(Reply::throttled(chance.between(1, 500))),
        1 => OnRead::Reply(Reply::html(500)),
        2 => OnRead::Reply(Reply::resource_not_found()),
        3 => OnRead::Reply(garbage(chance)),
        4 => OnRead::Reply(Reply::forbidden()),
        5 => OnRead::Reset,
        6 if hangs => OnRead::Hang,
        7 => OnRead::State("Updating".into()),
        8 => OnRead::State("Failed".into()),
        9 => OnRead::State("SomethingNew".into()),
        10 if chance.one_in(3) => OnRead::State("Deleting".into()),
        _ => OnRead::State("Succeeded".into()),
    }
}

/// Whether this says of an application that it is not there.
pub fn says_gone(on_read: &OnRead) -> bool {
    *on_read == OnRead::Reply(Reply::resource_not_found())
}

fn garbage(chance: &mut Chance) -> Reply {
    let body = match chance.below(7) {
        0 => String::new(),
        1 => "{".to_owned(),
        2 => "[".repeat(chance.index(5_000)),
        3 => r#"{"status":{"status":"Succeeded"}}"#.to_owned(),
        4 => r#"{"error":[],"status":null}"#.to_owned(),
        5 => "\u{0}\u{7}<!doctype html>".to_owned(),
        _ => "null".to_owned(),
    };
    Reply::json(chance.pick(&[200, 202, 200, 400, 418, 500]), body)
}
