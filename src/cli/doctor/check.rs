//! One check: what it tries, and what came of it, within its time. Knows nothing of what is checked.

use std::pin::Pin;
use std::time::Duration;

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It is as it should be.
    Ok,
    /// It is off, or cannot be told; nothing has to be done if that is meant.
    Note,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
}

impl Outcome {
    /// Its word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        }
    }
}

/// What came of a check.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was tried.
    pub tried: String,
    /// What that means.
    pub means: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_do: Option<String>,
    /// Whether it shows that a refresh would be let in; `None` where it says nothing of that.
    #[serde(skip)]
    pub lets_in: Option<bool>,
}

/// What a check concludes.
pub struct Verdict {
    outcome: Outcome,
    means: String,
    to_do: Option<String>,
    lets_in: Option<bool>,
}

impl Verdict {
    /// All is well.
    pub fn ok(means: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, means: means.into(), to_do: None, lets_in: None }
    }

    /// It is off, or cannot be told.
    pub fn note(means: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self { outcome: Outcome::Note, means: means.into(), to_do: Some(to_do.into()), lets_in: None }
    }

    /// Somebody should look at it.
    pub fn warning(means: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warning, means: means.into(), to_do: Some(to_do.into()), lets_in: None }
    }

    /// It does not work.
    pub fn failed(means: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, means: means.into(), to_do: Some(to_do.into()), lets_in: None }
    }

    /// The same, which says whether a refresh would be let in.
    pub fn letting_in(self, lets_in: bool) -> Self {
        Self { lets_in: Some(lets_in), ..self }
    }

    /// The finding of that name.
    pub fn of(self, name: impl Into<String>, tried: impl Into<String>) -> Finding {
        let Self { outcome, means, to_do, lets_in } = self;
        Finding { name: name.into(), outcome, tried: tried.into(), means, to_do, lets_in }
    }
}

/// A check that is still to be made.
pub struct Check<'a> {
    name: String,
    tried: String,
    work: Pin<Box<dyn Future<Output = Verdict> + 'a>>,
}

impl<'a> Check<'a> {
    /// A check that tries something by `work`.
    pub fn new(name: impl Into<String>, tried: impl Into<String>, work: impl Future<Output = Verdict> + 'a) -> Self {
        Self { name: name.into(), tried: tried.into(), work: Box::pin(work) }
    }

    /// Makes it, within `limit`.
    pub async fn run(self, limit: Duration) -> Finding {
        let Self { name, tried, work } = self;
        let verdict = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let means = format!("nothing came back within {} s", limit.as_secs());
            Verdict::failed(means, "look at the network between this machine and what was asked: names, routes, proxy, firewall; --timeout waits longer")
        });
        verdict.of(name, tried)
    }
}
