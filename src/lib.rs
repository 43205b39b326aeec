//! Permafresh.
pub mod access;
pub mod arm;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod functions;
pub mod host;
pub mod ncrontab;
pub mod queue;
pub mod rollout;
pub mod settings;
pub mod sqlite;
pub mod store;
pub mod telemetry;
pub mod timespan;
