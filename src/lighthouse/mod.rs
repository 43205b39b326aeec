//! Azure Lighthouse: what a customer deploys so that we may refresh from our own tenant (contracts/access.md §3).
//!
//! A delegation names principals of the publisher's tenant and built-in roles. [`template`] writes one, [`rules`] judges
//! anybody's (L01 to L26) as [`document`] reads it and [`delegation`] finds it in there, and [`coverage`] says whether one
//! that Azure shows lets us refresh in a [`Scope`]. [`role`] knows what the built-in roles allow.
//!
//! Pure: texts and values in, texts and findings out. Reads no file and calls nobody.

pub mod coverage;
pub mod delegation;
pub mod document;
pub mod finding;
pub mod node;
pub mod principal;
pub mod role;
pub mod rules;
pub mod scope;
pub mod template;

pub use delegation::Batch;
pub use document::Document;
pub use finding::{Finding, Severity};
pub use rules::{Cloud, Context, judge};
pub use scope::Scope;

/// The API version of `Microsoft.ManagedServices` that knows eligible authorizations and is stable (§3.1).
pub const API_VERSION: &str = "2022-10-01";
