//! What the functions share at the wire: envelopes, the API's shapes, problems, lists, the publish body, imports, exports,
//! reports. No function of its own, and no decision.

pub mod api;
pub mod caller;
pub mod cell;
pub mod command_request;
pub mod envelope;
pub mod export;
pub mod import;
pub mod jit_view;
pub mod list;
pub mod offers_api;
pub mod principal;
pub mod problem;
pub mod publish_request;
pub mod reason;
pub mod report;
pub mod sync_view;
pub mod views;

/// Why an answer is a failure: put into its extensions, so that the log has it in one line with the invocation's id.
#[derive(Clone, Debug)]
pub struct Reason(pub String);
