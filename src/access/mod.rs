//! Who we are to Azure, and by which way a deployment is reached (design §5).

pub mod certificate;
pub mod claims;
pub mod credential;
pub mod gdap;
pub mod guests;
pub mod legacy_transport;
mod sdk_transport;
pub mod shared_access;
