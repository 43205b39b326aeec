//! Who we are to Azure, and by which way a deployment is reached (design §5).

pub mod credential;
mod sdk_transport;
