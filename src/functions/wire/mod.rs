//! What the functions share at the wire: envelopes, the API's shapes, problems, lists, the publish body, reports. No
//! function of its own, and no decision.

pub mod api;
pub mod envelope;
pub mod list;
pub mod problem;
pub mod publish_request;
pub mod report;
pub mod views;
