//! What is remembered of the ways into one deployment, and the order that follows from it.
//!
//! What worked comes first, what was refused comes last; both only for a time (contracts/access.md §3.5), so that nobody is
//! locked out: a way that was refused is still tried before the customer has to run anything. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refresh::Gate;
use super::{RemoteError, Timestamp, Way};

/// How long a way that worked comes first.
pub const WORKED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a way that was refused comes last.
pub const REFUSED_FOR: Duration = Duration::from_secs(60 * 60);
/// How much of a refusal's words a deployment remembers, in characters.
const WORDS: usize = 500;

/// A way that was refused, and what was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The way.
    pub way: Way,
    /// What Azure said, or what kept us from asking.
    pub error: RemoteError,
    /// When.
    pub at: Timestamp,
    /// What would open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
}

/// A way that worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worked {
    /// The way.
    pub way: Way,
    /// When it did last, or at most half of [`WORKED_FOR`] before that.
    pub at: Timestamp,
}

/// What is remembered of one deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownWays {
    /// What worked, where that is not simply the first of the configured ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked: Option<Worked>,
    /// What was refused, each way once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
}

impl KnownWays {
    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.worked.is_none() && self.refused.is_empty()
    }

    /// The way that worked, while that counts.
    pub fn worked(&self, now: Timestamp) -> Option<Worked> {
        self.worked.filter(|worked| now < worked.at + WORKED_FOR)
    }

    /// The refusals that count.
    pub fn refused(&self, now: Timestamp) -> impl Iterator<Item = &Refusal> {
        self.refused.iter().filter(move |refusal| now < refusal.at + REFUSED_FOR)
    }

    /// The ways to try, in order, of those that are configured: up to [`Way::HandOver`], which is always the last.
    pub fn order(&self, configured: &[Way], now: Timestamp) -> Vec<Way> {
        let mut ways: Vec<_> = configured.iter().copied().take_while(|way| *way != Way::HandOver).collect();
        let worked = self.worked(now).map(|worked| worked.way);
        // Stable, so that what is as good stays in the configured order.
        ways.sort_by_key(|way| match way {
            _ if worked == Some(*way) => 0,
            _ if self.refused(now).any(|refusal| refusal.way == *way) => 2,
            _ => 1,
        });
        ways.push(Way::HandOver);
        ways
    }

    /// Notes that ARM accepted a call by `way`; whether that is worth a write. The first of the configured ways need not be
    /// remembered.
    pub fn note_success(&mut self, way: Way, configured: &[Way], now: Timestamp) -> bool {
        let refusals = self.refused.len();
        self.refused.retain(|refusal| refusal.way != way);
        let renews = match self.worked {
            Some(worked) if worked.way == way => worked.at + WORKED_FOR / 2 <= now,
            _ => configured.first() != Some(&way),
        };
        if renews {
            self.worked = Some(Worked { way, at: now });
        }
        renews || self.refused.len() != refusals
    }

    /// Notes that a way was refused: what is remembered of its success counts no more.
    pub fn note_refusal(&mut self, mut refusal: Refusal) {
        self.worked.take_if(|worked| worked.way == refusal.way);
        let now = refusal.at;
        self.refused.retain(|known| known.way != refusal.way && now < known.at + REFUSED_FOR);
        if let Some((end, _)) = refusal.error.message.char_indices().nth(WORDS) {
            refusal.error.message.truncate(end);
        }
        self.refused.push(refusal);
    }

    /// Forgets what was refused, since somebody has changed something; whether there was anything.
    pub fn forget_refusals(&mut self) -> bool {
        !std::mem::take(&mut self.refused).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: [Way; 4] = [Way::Publisher, Way::Gdap, Way::Jit, Way::HandOver];

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn refusal(way: Way, seconds: u64) -> Refusal {
        let error = RemoteError { status: Some(403), code: "AuthorizationFailed".into(), message: "ü".repeat(1_000) };
        Refusal { way, error, at: at(seconds), gate: None }
    }

    #[test]
    fn what_worked_comes_first_and_what_was_refused_last_until_their_last_second() {
        let mut known = KnownWays::default();
        assert_eq!(known.order(&ORDER, at(0)), ORDER);
        assert!(known.note_success(Way::Jit, &ORDER, at(0)));
        known.note_refusal(refusal(Way::Publisher, 0));
        assert_eq!(known.order(&ORDER, at(3_599)), [Way::Jit, Way::Gdap, Way::Publisher, Way::HandOver]);
        assert_eq!(known.order(&ORDER, at(3_600)), [Way::Jit, Way::Publisher, Way::Gdap, Way::HandOver]);
        assert_eq!(known.order(&ORDER, at(86_399))[0], Way::Jit);
        assert_eq!(known.order(&ORDER, at(86_400)), ORDER);
        assert_eq!(known.order(&[Way::HandOver, Way::Jit], at(0)), [Way::HandOver], "who hands over calls nobody");
        assert_eq!(known.order(&[Way::Gdap], at(0)), [Way::Gdap, Way::HandOver], "what is not configured is not tried");
    }

    #[test]
    fn a_success_is_written_only_where_it_changes_the_order_or_grows_old() {
        let mut known = KnownWays::default();
        assert!(!known.note_success(Way::Publisher, &ORDER, at(0)), "it comes first anyway");
        assert!(known.note_success(Way::Gdap, &ORDER, at(0)));
        assert!(!known.note_success(Way::Gdap, &ORDER, at(43_199)));
        assert!(known.note_success(Way::Gdap, &ORDER, at(43_200)));
        known.note_refusal(refusal(Way::Publisher, 43_200));
        assert!(known.note_success(Way::Publisher, &ORDER, at(43_201)), "it was remembered as refused");
        assert_eq!(known.refused, []);
    }

    #[test]
    fn a_refusal_takes_the_place_of_what_was_remembered_of_the_same_way() {
        let mut known = KnownWays::default();
        known.note_success(Way::Gdap, &ORDER, at(0));
        known.note_refusal(refusal(Way::Gdap, 1));
        known.note_refusal(refusal(Way::Gdap, 2));
        assert_eq!((known.worked, known.refused.len()), (None, 1));
        assert_eq!(known.refused[0].error.message.chars().count(), WORDS);
        known.note_refusal(refusal(Way::Publisher, 3_602));
        assert_eq!(known.refused.len(), 1, "what is old is dropped");
        assert!(known.forget_refusals() && known.is_empty());
        assert!(!known.forget_refusals());
    }
}
