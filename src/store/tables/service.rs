//! The requests we make of Table Storage: read one row, read a range, write one transaction.
//!
//! Every write is a transaction and says for each row what must be true of it; there is no write that does not say so.
//! Knows rows, and nothing of what is in them. A write whose answer was lost is read back here.

use std::sync::Arc;

use azure_core_legacy::error::{Error, ErrorKind};
use azure_core_legacy::{ClientOptions, Etag, RetryOptions, StatusCode, TransportOptions};
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::{TableClient, TableServiceClient, TableServiceClientBuilder};
use azure_storage::{CloudLocation, StorageCredentials};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::row::{OPERATION, Row};
use super::transport::Lent;
use crate::store::StoreError;

/// The most rows that one answer holds (contracts/service-bus-and-tables.md §2.3).
pub const PAGE: usize = 1_000;
/// The most rows of one transaction (§2.5).
pub const TRANSACTION: usize = 100;

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Rollouts, and which of them are open.
    Rollouts,
    /// Refreshes, and their counts.
    Refreshes,
    /// When refreshes wake.
    Wakes,
    /// Deployments, and their counts.
    Deployments,
    /// When checks of deployments are due.
    Checks,
    /// Since when deployments are gone.
    Gone,
    /// Idempotency keys, wanted versions, throttles.
    Facts,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 7] =
        [Self::Rollouts, Self::Refreshes, Self::Wakes, Self::Deployments, Self::Checks, Self::Gone, Self::Facts];

    fn name(self) -> &'static str {
        match self {
            Self::Rollouts => "Rollouts",
            Self::Refreshes => "Refreshes",
            Self::Wakes => "Wakes",
            Self::Deployments => "Deployments",
            Self::Checks => "Checks",
            Self::Gone => "Gone",
            Self::Facts => "Facts",
        }
    }
}

/// One write of a transaction.
#[derive(Clone, Debug)]
pub enum Write {
    /// There must be no such row.
    Insert(Row),
    /// The row must have this version.
    Replace(Row, String),
    /// Whatever is there is overwritten: only for rows that are not guarded.
    Put(Row),
    /// The row must have this version.
    Delete {
        /// Its key.
        key: String,
        /// Its version.
        etag: String,
    },
    /// The row must be there in any version.
    DeleteAny {
        /// Its key.
        key: String,
    },
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All of it is stored; the versions of the rows, in the order of the writes, empty for those that are gone.
    Done(Vec<String>),
    /// Something was not as a write said: nothing was written. Which it was has to be read.
    Refused,
}

/// The service.
pub struct Service {
    client: TableServiceClient,
    transport: Arc<Lent>,
    prefix: String,
    created: OnceCell<()>,
}

impl Service {
    /// The service behind `transport`, at `endpoint`; table names begin with `prefix`. Asks nothing.
    pub fn new(endpoint: &str, prefix: String, transport: Lent) -> Self {
        let transport = Arc::new(transport);
        let location = CloudLocation::Custom { account: String::new(), uri: endpoint.to_owned() };
        // Anonymous, as far as the SDK is concerned: the transport says who we are.
        let client = TableServiceClientBuilder::with_location(location, StorageCredentials::anonymous())
            .client_options(
                ClientOptions::default()
                    .retry(RetryOptions::none())
                    .transport(TransportOptions::new(Arc::clone(&transport) as Arc<_>)),
            )
            .build();
        Self { client, transport, prefix, created: OnceCell::new() }
    }

    /// How many requests were sent so far.
    pub fn requests(&self) -> u64 {
        self.transport.sent()
    }

    /// Creates the tables that are missing; asks once in the life of this value.
    pub async fn create_tables(&self) -> Result<(), StoreError> {
        let create = async |table: Table| match self.bare_table(table).create().await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(StatusCode::Conflict) => Ok(()),
            Err(error) => Err(unavailable("create its tables", &error)),
        };
        self.created.get_or_try_init(|| async { try_join_all(Table::ALL.map(create)).await.map(|_| ()) }).await.copied()
    }

    fn bare_table(&self, table: Table) -> TableClient {
        self.client.table_client(format!("{}{}", self.prefix, table.name()))
    }

    async fn table(&self, table: Table) -> Result<TableClient, StoreError> {
        self.create_tables().await?;
        Ok(self.bare_table(table))
    }

    /// One row. One request.
    pub async fn row(&self, table: Table, partition: &str, key: &str) -> Result<Option<Row>, StoreError> {
        let client = self.table(table).await?.partition_key_client(partition).entity_client(key);
        match client.get::<Map<String, Value>>().await {
            Ok(found) => {
                let mut row = Row::received(found.entity).ok_or_else(no_row)?;
                row.etag = Some(found.etag.as_ref().to_owned());
                Ok(Some(row))
            }
            Err(error) if status(&error) == Some(StatusCode::NotFound) => Ok(None),
            Err(error) => Err(unavailable("read a row", &error)),
        }
    }

    /// The first rows of a range that `filter` lets through, in the order of partitions and keys; at least `enough` of them
    /// unless there are fewer. The second value says whether that is all. One request for each thousand, or wherever the
    /// service stops early.
    pub async fn rows(&self, table: Table, filter: &str, enough: usize) -> Result<(Vec<Row>, bool), StoreError> {
        let top = u32::try_from(enough.clamp(1, PAGE)).unwrap_or(1);
        let mut query = self.table(table).await?.query().top(top);
        if !filter.is_empty() {
            query = query.filter(filter.to_owned());
        }
        let mut pages = query.into_stream::<Map<String, Value>>();
        let mut rows = Vec::new();
        // An empty page may be followed by others (§2.3).
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| unavailable("read rows", &error))?;
            let is_last = azure_core_legacy::Continuable::continuation(&page).is_none();
            for entity in page.entities {
                rows.push(Row::received(entity).ok_or_else(no_row)?);
            }
            if is_last {
                return Ok((rows, true));
            }
            if rows.len() >= enough {
                return Ok((rows, false));
            }
        }
        Ok((rows, true))
    }

    /// Writes rows of one partition, all or none; at most [`TRANSACTION`], each once. One request, and one for each row
    /// where the answer was lost.
    pub async fn commit(&self, table: Table, partition: &str, writes: &[Write]) -> Result<Committed, StoreError> {
        if writes.is_empty() {
            return Ok(Committed::Done(Vec::new()));
        }
        let client = self.table(table).await?;
        let mut transaction = client.partition_key_client(partition).transaction();
        for write in writes {
            let added = match write {
                Write::Insert(row) => transaction.insert(row.to_entity()),
                Write::Replace(row, etag) => transaction.update(row.key.as_str(), row.to_entity(), Some(guard(etag))),
                Write::Put(row) => transaction.insert_or_replace(row.key.as_str(), row.to_entity()),
                Write::Delete { key, etag } => transaction.delete(key.as_str(), Some(guard(etag))),
                Write::DeleteAny { key } => transaction.delete(key.as_str(), Some(IfMatchCondition::Any)),
            };
            transaction = added.map_err(|error| unavailable("write rows", &error))?;
        }
        match transaction.await {
            Ok(answer) => {
                let answers = answer.operation_responses;
                if let Some(failed) = answers.iter().find(|answer| !answer.status_code.is_success()) {
                    return match failed.status_code {
                        StatusCode::NotFound | StatusCode::Conflict | StatusCode::PreconditionFailed => {
                            Ok(Committed::Refused)
                        }
                        other => self.read_back(table, partition, writes, &format!("answered {other}")).await,
                    };
                }
                if answers.len() != writes.len() {
                    return self.read_back(table, partition, writes, "answered only some of the writes").await;
                }
                let etag = |etag: Option<Etag>| etag.map(|etag| etag.as_ref().to_owned()).unwrap_or_default();
                Ok(Committed::Done(answers.into_iter().map(|answer| etag(answer.etag)).collect()))
            }
            Err(error) => match status(&error) {
                Some(StatusCode::NotFound | StatusCode::Conflict | StatusCode::PreconditionFailed) => {
                    Ok(Committed::Refused)
                }
                // Turned away, or never sent: it has not happened.
                Some(StatusCode::TooManyRequests | StatusCode::ServiceUnavailable) => {
                    Err(unavailable("write rows", &error))
                }
                Some(status) if status.is_client_error() && status != StatusCode::RequestTimeout => {
                    Err(unavailable("write rows", &error))
                }
                None if matches!(error.kind(), ErrorKind::Other | ErrorKind::Credential) => {
                    Err(unavailable("write rows", &error))
                }
                _ => self.read_back(table, partition, writes, &told(&error)).await,
            },
        }
    }

    /// Whether a transaction happened whose answer was lost (§2.3): all of it or nothing, so its first row tells.
    async fn read_back(
        &self,
        table: Table,
        partition: &str,
        writes: &[Write],
        reason: &str,
    ) -> Result<Committed, StoreError> {
        let lost = || StoreError::Unavailable { action: "write rows", reason: reason.to_owned() };
        let mut etags = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Insert(row) | Write::Replace(row, _) | Write::Put(row) => {
                    let stored = self.row(table, partition, &row.key).await?;
                    match stored.filter(|stored| stored.text(OPERATION) == row.text(OPERATION)) {
                        Some(stored) => etags.push(stored.etag.unwrap_or_default()),
                        None => return Err(lost()),
                    }
                }
                Write::Delete { key, .. } | Write::DeleteAny { key } => {
                    if self.row(table, partition, key).await?.is_some() {
                        return Err(lost());
                    }
                    etags.push(String::new());
                }
            }
        }
        Ok(Committed::Done(etags))
    }
}

fn guard(etag: &str) -> IfMatchCondition {
    IfMatchCondition::Etag(etag.into())
}

fn status(error: &Error) -> Option<StatusCode> {
    match error.kind() {
        ErrorKind::HttpResponse { status, .. } => Some(*status),
        _ => None,
    }
}

/// What failed, without the headers and bodies that the SDK would show.
fn told(error: &Error) -> String {
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code } => {
            let advice = match status {
                StatusCode::Unauthorized | StatusCode::Forbidden => {
                    "; does the identity have the role Storage Table Data Contributor, or is the key right?"
                }
                _ => "",
            };
            format!("the service answered {}{}{advice}", *status as u16, code(error_code.as_deref()))
        }
        _ => {
            let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        }
    }
}

fn code(code: Option<&str>) -> String {
    code.map(|code| format!(" {code}")).unwrap_or_default()
}

fn unavailable(action: &'static str, error: &Error) -> StoreError {
    StoreError::Unavailable { action, reason: told(error) }
}

fn no_row() -> StoreError {
    StoreError::Corrupt { what: "row", reason: "it has no PartitionKey or RowKey".to_owned() }
}
