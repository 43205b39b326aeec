//! Service Bus over HTTP: what is sent, what each answer means, and that nothing secret is told. What a queue must do is in
//! `contracts/queue.rs`.

use std::sync::Arc;

use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use permafresh::access::credential::{IdentityConfig, TokenSource};
use permafresh::clock::Clock;
use permafresh::queue::service_bus::simulator::Simulator;
use permafresh::queue::service_bus::{ServiceBusConfig, ServiceBusCredential, ServiceBusQueue};

/// A queue over a simulator, with the key that it takes.
pub fn with_key(simulator: &Simulator, clock: Arc<dyn Clock>) -> ServiceBusQueue {
    let credential = ServiceBusCredential::SharedKey {
        key_name: "RootManageSharedAccessKey".to_owned(),
        key: "simulated/key+of=no=account".to_owned(),
    };
    let config = ServiceBusConfig::at(simulator.endpoint().clone(), credential);
    let tokens = TokenSource::new(IdentityConfig::default(), reqwest::Client::new(), clock.clone());
    ServiceBusQueue::new(config, reqwest::Client::new(), Arc::new(tokens), clock).unwrap()
}
