//! Which store and which queue the settings ask for, and where on this machine the embedded parts keep their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::azure::Azure;
use crate::clock::Clock;
use crate::queue::Queue;
use crate::queue::embedded::{EmbeddedQueue, EmbeddedQueueConfig};
use crate::settings::{self, Settings, StateStore};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::store::tables::TablesStore;

/// The store, opened or about to be asked for the first time.
pub enum OpenStore {
    /// In a file, which is there.
    Sqlite(Arc<SqliteStore>),
    /// In tables, which may be missing still: see [`TablesStore::create_tables`].
    Tables(Arc<TablesStore>),
}

impl OpenStore {
    /// The store that the settings ask for.
    pub fn open(settings: &Settings, azure: &Azure<'_>) -> anyhow::Result<Self> {
        match &settings.store.state_store {
            StateStore::Sqlite { path } => {
                Ok(Self::Sqlite(Arc::new(SqliteStore::open(path).context("cannot open the store")?)))
            }
            StateStore::Tables => {
                let storage = settings.store.storage.as_ref().context("AzureWebJobsStorage is absent")?;
                Ok(Self::Tables(Arc::new(azure.tables(storage)?)))
            }
        }
    }

    /// As the engine knows it.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::clone(store) as _,
            Self::Tables(store) => Arc::clone(store) as _,
        }
    }

    /// Creates the tables that are missing.
    pub async fn create_tables(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Tables(store) => Ok(store.create_tables().await?),
        }
    }
}

/// Service Bus, or the embedded queue in its file: the handler sends to it, the embedded host takes from it.
pub fn queue(settings: &Settings, azure: &Azure<'_>, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Queue>> {
    if let Some(connection) = &settings.queues.service_bus {
        return Ok(Arc::new(azure.service_bus(connection)?));
    }
    let queue = EmbeddedQueue::open(&queue_file(settings), EmbeddedQueueConfig::default(), clock);
    Ok(Arc::new(queue.context("cannot open the queue")?))
}

/// The file of the embedded queue (`LOCAL_QUEUE`).
pub fn queue_file(settings: &Settings) -> PathBuf {
    settings.host.queue_file.clone().unwrap_or_else(|| beside_store(settings, ".queue"))
}

/// A file or folder that belongs to the store: its name with something behind it. A store that is not on this machine has
/// it where the file of the default one would be.
pub fn beside_store(settings: &Settings, behind: &str) -> PathBuf {
    let default = settings::default_of("STATE_STORE").and_then(|default| default.strip_prefix("sqlite:"));
    let path = match &settings.store.state_store {
        StateStore::Sqlite { path } => path,
        StateStore::Tables => Path::new(default.unwrap_or_default()),
    };
    let mut name = path.as_os_str().to_owned();
    name.push(behind);
    name.into()
}
