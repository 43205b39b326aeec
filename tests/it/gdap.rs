//! GDAP over HTTP: tokens, rotation, consent, webhooks and the call-back, against a simulated Entra, Key Vault, Partner
//! Center and Graph; every refusal, and no secret in any log.

mod consent;
mod crash;
mod registration;
mod renewal;
mod replacing;
pub mod scene;
mod secrecy;
mod sign_in;
mod tokens;
mod ways;
mod webhook;
