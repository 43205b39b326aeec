//! Azure Resource Manager for managed applications: `refreshPermissions`, its operations, and reading applications.
//!
//! Follows contracts/arm.md §2. Every outcome of a call is an answer of the domain ([`crate::rollout::SubmitAnswer`],
//! [`crate::rollout::PollAnswer`], [`crate::rollout::ReadAnswer`]); nothing here decides what to do about it, sleeps, or
//! repeats a call, but for one new token after a 401. Read in this order: [`client`] (the calls), [`operation`] (what an
//! answer means), [`host_rule`] (where a token may go), [`admission`] and [`throttle`] (when a call may go), [`listing`] and
//! [`inventory`] (what there is), [`jit`] (asking for access).

pub mod access_control;
pub mod admission;
pub mod application;
mod call;
pub mod challenge;
pub mod client;
pub mod delegations;
pub mod host_rule;
pub mod inventory;
pub mod jit;
pub mod listing;
pub mod operation;
pub mod provider_operations;
pub mod remote_error;
pub mod retry_after;
pub mod simulator;
pub mod throttle;
mod transport;

pub use application::Application;
pub use client::{ArmClient, ArmConfig, InvalidArmConfig, Polled, Posted, ReadOutcome};
pub use delegations::Looked;
pub use listing::{ListEnd, Listing};
pub use transport::Proxy;
pub(crate) use transport::{NoAnswer, Received, Transport};
