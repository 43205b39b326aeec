//! Partner Center: which version of a plan was published, and with which permissions (contracts/offer-publish.md §3).
//!
//! Only reads, over the submission API, which is the one that Microsoft supports for Azure applications. [`client`] asks,
//! [`answers`] reads what comes back, [`trouble`] says what went wrong and whose business it is. What a submission means is
//! the domain's ([`crate::rollout::submission`]); nothing here publishes, promotes or cancels, though the API could.
//!
//! # Where the Product Ingestion API would go
//!
//! Microsoft says that its newer API (contracts/offer-publish.md §4) will come to every offer type; it has not come to this
//! one, and no schema of a managed application's technical configuration is public. It would be a second client beside this
//! one with the same four methods: the product of an offer, its variants (there: plans), its submissions (there:
//! `submission/{product}`, whose `target.targetType` is the scope and whose `status` and `result` are the states, through the
//! same table), and the package that a submission brings. A submission that goes live keeps its id there, which is why an id
//! may be raised once for each target. With two of them there would be a trait; with one there is none.

pub mod answers;
pub mod client;
pub mod simulator;
pub mod trouble;

pub use answers::{Published, Variant};
pub use client::{PartnerCenter, PartnerCenterConfig};
pub use trouble::{Trouble, TroubleKind};
