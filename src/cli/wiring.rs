//! What the services of this command line share before they start: settings read, and asked for only what is there.

use std::collections::BTreeMap;

use super::failure::{Exit, Failure};
use crate::settings::{Settings, SettingsError, StateStore};

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(error, "correct what is named above; every setting is in local.settings.sample.json")
            .exit(Exit::Usage)
    }
}

/// The settings in `values`, if this build has the backends that they ask for.
pub(super) fn settings(values: &BTreeMap<String, String>) -> Result<Settings, Failure> {
    let settings = Settings::from_map(values)?;
    let missing = if settings.store.state_store == StateStore::Tables {
        Some(("STATE_STORE=tables", "set STATE_STORE to sqlite:PATH"))
    } else if settings.queues.service_bus.is_some() {
        Some(("ServiceBusConnection", "leave it out to use the embedded queue"))
    } else {
        None
    };
    match missing {
        Some((what, hint)) => {
            Err(Failure::new(anyhow::anyhow!("{what} asks for a backend that this build does not have yet"), hint)
                .exit(Exit::Usage))
        }
        None => Ok(settings),
    }
}

/// Logs what is odd about the settings, once logging has started.
pub(super) fn log_remarks(settings: &Settings) {
    for remark in &settings.remarks {
        tracing::warn!(setting.name = %remark.name, "{remark}");
    }
}
