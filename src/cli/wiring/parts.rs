//! The parts of a service, each made by itself, so that one which cannot be made hides no other: for `doctor`.

use std::sync::Arc;

use super::azure::Azure;
use super::backends::{self, OpenStore};
use crate::access::credential::TokenSource;
use crate::access::gdap::Gdap;
use crate::clock::Clock;
use crate::partner_center::PartnerCenter;
use crate::queue::Queue;
use crate::settings::Settings;

/// The store.
pub fn store(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<OpenStore> {
    OpenStore::open(settings, &Azure::new(settings, clock))
}

/// The queues.
pub fn queue(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Queue>> {
    backends::queue(settings, &Azure::new(settings, Arc::clone(&clock)), clock)
}

/// The managed identity itself, where an app registration is what calls and this stands for it.
pub fn federated_identity(settings: &Settings, clock: Arc<dyn Clock>) -> Option<Arc<TokenSource>> {
    Azure::new(settings, clock).federated_identity()
}

/// GDAP, where the settings name an app for it.
pub fn gdap(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Option<Gdap>> {
    Azure::new(settings, clock).gdap()
}

/// Partner Center, where the settings name an app that watches offers.
pub fn partner_center(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Option<PartnerCenter>> {
    super::partner_center(settings, &Azure::new(settings, Arc::clone(&clock)), clock)
}
