//! The rules of `Store`, by what they are about.

pub mod deployments;
pub mod documents;
pub mod refreshes;
pub mod retention;
pub mod rollouts;
