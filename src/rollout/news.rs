//! What there is to tell of a rollout: each change of its state that somebody outside wants to hear of, once and numbered.
//!
//! [`Rollout::note_news`] compares the state with what was noted last, so that the news are stored by the very write that
//! makes them true. It tells nobody anything.

use serde::{Deserialize, Serialize};

use super::{Rollout, RolloutId, RolloutState, Timestamp};

/// How many news a rollout keeps; older ones were told long ago.
const KEPT: usize = 20;

/// One change of a rollout's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct News {
    /// Its number, 1-based: with the rollout's id, what it is known by everywhere.
    pub number: u32,
    /// What happened.
    pub what: Happening,
    /// When it was stored.
    pub at: Timestamp,
    /// Why, where the state has a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What may happen to a rollout that is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Happening {
    /// Its first wave is under way.
    Started,
    /// It waits for a person.
    Paused,
    /// It would fail everywhere.
    Halted,
    /// It goes on after a pause, a halt or its end.
    Resumed,
    /// Every refresh has its result.
    Completed,
    /// It was called off, or superseded.
    Canceled,
}

impl Happening {
    /// Its word, as in `rollout.paused`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Resumed => "resumed",
            Self::Completed => "completed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether it goes on only if a person acts.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Self::Paused | Self::Halted)
    }
}

impl Rollout {
    /// Notes what is new since the last time; the numbers that were added.
    pub fn note_news(&mut self, now: Timestamp) -> Option<u32> {
        let last = self.news.last();
        let what = match self.state {
            RolloutState::Waiting { .. } | RolloutState::Planning => return None,
            RolloutState::Running => match last.map(|news| news.what) {
                None => Happening::Started,
                Some(Happening::Started | Happening::Resumed) => return None,
                Some(_) => Happening::Resumed,
            },
            RolloutState::Paused { .. } => Happening::Paused,
            RolloutState::Halted { .. } => Happening::Halted,
            RolloutState::Completed => Happening::Completed,
            RolloutState::Canceled { .. } => Happening::Canceled,
        };
        let why = self.state.why();
        if last.is_some_and(|last| last.what == what && last.why == why) {
            return None;
        }
        let number = last.map_or(0, |last| last.number) + 1;
        self.news.push(News { number, what, at: now, why });
        let old = self.news.len().saturating_sub(KEPT);
        self.news.drain(..old);
        Some(number)
    }
}

/// The id by which a receiver knows the same news again.
pub fn news_id(rollout: RolloutId, number: u32) -> String {
    format!("{rollout}.{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::OfferPublish;

    #[test]
    fn each_change_is_noted_once_whatever_else_is_saved() {
        let now: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let mut rollout = Rollout::new(RolloutId(uuid::Uuid::nil()), OfferPublish::sample(), now);
        assert_eq!(rollout.note_news(now), None, "planning");
        rollout.begin(10, now);
        assert_eq!((rollout.note_news(now), rollout.note_news(now)), (Some(1), None));
        let paused = |why: &str| RolloutState::Paused { why: why.to_owned(), on: None };
        for state in [paused("a"), paused("b"), RolloutState::Running, RolloutState::Completed] {
            rollout.state = state;
            assert!(rollout.note_news(now).is_some());
            assert_eq!(rollout.note_news(now), None);
        }
        use Happening::{Completed, Paused, Resumed, Started};
        let told: Vec<_> = rollout.news.iter().map(|news| (news.number, news.what)).collect();
        assert_eq!(told, [(1, Started), (2, Paused), (3, Paused), (4, Resumed), (5, Completed)]);
        for turn in 0..100 {
            rollout.state = paused(&turn.to_string());
            rollout.note_news(now);
        }
        assert_eq!((rollout.news.len(), rollout.news.last().map(|news| news.number)), (KEPT, Some(105)));
    }
}
