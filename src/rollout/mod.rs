//! The domain: refreshes, rollouts, deployments, and every decision about them.
//!
//! Pure: no I/O, no clock, no async, no tracing. Time, chance and settings are arguments. Read in this order:
//! [`refresh`] (one deployment's state machine), [`lifecycle`] (the rollout around it), [`tally`] (what the rollout is
//! judged by), [`strategy`] (waves and budget), [`failure`] (who has to act), [`ways`] (how a deployment is reached),
//! [`jit`] (asking a customer for a window of access), [`retry`] (when to try again), [`joining`] (what becomes of
//! those that come late), [`lint`] (are the published actions real).

pub mod advice;
pub mod answer;
pub mod changes;
pub mod counted;
pub mod course;
pub mod deployment;
pub mod difference;
pub mod eligibility;
pub mod failure;
pub mod hand_over;
pub mod jit;
pub mod jit_words;
pub mod joining;
pub mod lifecycle;
pub mod lint;
pub mod news;
pub mod openness;
pub mod package;
pub mod publish;
pub mod refresh;
pub mod resource_id;
pub mod retry;
pub mod sighting;
pub mod strategy;
pub mod submission;
pub mod tally;
pub mod version;
pub mod wanted;
pub mod watch;
pub mod ways;

pub use answer::{Monitor, Operation, PollAnswer, PollingUrl, ReadAnswer, SubmitAnswer};
pub use changes::Changes;
pub use counted::counted;
pub use course::Course;
pub use deployment::{Applied, Deployment, PastRefresh, PastResult, Readiness};
pub use difference::Difference;
pub use failure::{Actor, Failure, Phase, RemoteError};
pub use hand_over::{HandOver, Way};
pub use jit::{JitAccess, JitAnswer, JitRequest, JitTerms};
pub use lifecycle::{Command, Retried, Review, Rollout, RolloutState};
pub use news::{Happening, News};
pub use openness::{Hold, MaintenanceWindow};
pub use package::{Authorization, CloudAccess, Package};
pub use publish::{Audience, OfferPublish, Plan, Purpose, RolloutId, Target};
pub use refresh::{Event, Evidence, Next, Policy, Refresh, RefreshState, SkipReason};
pub use resource_id::{ApplicationId, DeploymentKey};
pub use retry::RetryPolicy;
pub use strategy::Strategy;
pub use submission::Submission;
pub use tally::{Counts, Standing, Tally};
pub use version::Version;
pub use wanted::WantedVersion;
pub use ways::{KnownWays, Refusal};

/// A moment in UTC, as it is stored and shown.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
