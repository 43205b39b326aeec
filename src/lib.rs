//! Permafresh keeps the permissions of deployed Azure Managed Applications fresh.
//!
//! The publisher of such an application changes its permissions in Partner Center and publishes a new version. Every
//! customer who already runs it keeps the old permissions until somebody calls `refreshPermissions` with that version on
//! their deployment, and follows the long-running operation to its end. This service does it for all of them: a canary
//! first, then wave by wave, never sooner than Azure allows, stopping before a bad permission reaches the next customer.
//!
//! # One publish, end to end
//!
//! A post to `/api/offer-publishes` reaches [`functions::offer_publishes`] through the Functions host (Azure's, or
//! [`host`] on one machine). [`functions::wire::publish_request`] names every bad field, or makes an
//! [`OfferPublish`](rollout::OfferPublish) of it. [`engine::publish`] claims its content key, so that the same publish
//! again finds the same rollout, stores a [`Rollout`](rollout::Rollout), sends one message and answers.
//!
//! The message reaches [`functions::plan_rollout`]. [`engine::planning`] walks the deployments in the order of their keys,
//! writes a [`Refresh`](rollout::Refresh) for each of the current wave, and sends a message for as many as have a place.
//!
//! Each of those reaches [`functions::refresh_deployment`]. [`engine::step`] takes one of the places for calls, reads
//! everything once more, asks [`Refresh::apply`](rollout::Refresh::apply), saves *submitting* under a lease, and posts.
//! [`arm`] says in a [`SubmitAnswer`](rollout::SubmitAnswer) what Azure's answer means; the refresh says what follows from
//! it: running with a polling URL, queued again for the time Azure named, handed over, failed.
//!
//! The timer [`functions::poll_operations`] does the rest. [`engine::polling`] claims what is due and looks;
//! [`engine::upkeep`] judges each rollout by its [`Tally`](rollout::Tally), starts the next wave, pauses or halts it, and
//! sends again what was lost. A refresh ends in exactly one result, and the rollout when all have.
//!
//! Everything may come twice, late, out of order or never, and the process may die between any two lines. So: decide in
//! the pure domain, save under an ETag before sending, let the timer find what was lost.
//!
//! # The map, in reading order
//!
//! | module | what it is | it may use |
//! |---|---|---|
//! | [`rollout`] | the domain: pure, no I/O, no clock, no async | nothing |
//! | [`lighthouse`] | delegations of Azure Lighthouse, written and judged: pure too | the domain |
//! | [`timespan`], [`secret`], [`ncrontab`], [`clock`], [`sqlite`], [`loopback`], [`trace`], [`metrics`] | durations, secrets, schedules, time, one SQLite file, the simulators' HTTP server, which trace work belongs to, what is measured | the domain |
//! | [`store`], [`queue`] | state and messages: a trait each, one folder per backend | the above; Azure's also `access` |
//! | [`access`], [`arm`], [`webhook`] | tokens, Azure Resource Manager and its simulator, telling people | the above |
//! | [`partner_center`] | which versions were published, with which permissions, and its simulator | the above |
//! | [`engine`] | the only code that acts: load, decide, call, save, send | the above |
//! | [`functions`] | one file per `functions/*/function.json`: envelope in, one engine call, envelope out | the engine |
//! | [`host`] | the Functions host on one machine | `queue`, `clock` |
//! | [`settings`], [`telemetry`] | read once and checked at the start; logs, spans and metrics | the above |
//! | [`cli`] | the command line, and the wiring of all of it | everything |
//!
//! Imports point down this table only; `tests/it/tidy.rs` keeps it so.

pub mod access;
pub mod arm;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod functions;
pub mod host;
pub mod lighthouse;
pub mod loopback;
pub mod metrics;
pub mod ncrontab;
pub mod partner_center;
pub mod queue;
pub mod rollout;
pub mod secret;
pub mod settings;
pub mod sqlite;
pub mod store;
pub mod telemetry;
pub mod timespan;
pub mod trace;
pub mod webhook;
