//! The calls that commands make, each by its name in the API. How a call travels is the business of [`super`].

use std::time::Duration;

use reqwest::Method;
use serde::de::DeserializeOwned;

use super::refused::{PUBLISH, START, answered};
use super::{ApiClient, Body, BodyFormat, ClientError};
use crate::cli::failure::Failure;
use crate::functions::wire::api::{
    DeploymentRow, ImportResult, LintResult, PublishAccepted, PublishRequest, RefreshWord,
};
use crate::functions::wire::sync_view::SyncView;

/// How long an export may take: it comes piece by piece.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

impl ApiClient {
    /// Announces an offer publish.
    pub async fn publish(&self, request: &PublishRequest) -> Result<PublishAccepted, ClientError> {
        let action = PUBLISH;
        let body = Body::json(action, request)?;
        self.read(action, self.send(action, Method::POST, "/api/offer-publishes", Some(body)).await?).await
    }

    /// Starts a rollout by hand.
    pub async fn start<T: DeserializeOwned>(&self, request: &PublishRequest) -> Result<T, ClientError> {
        let action = START;
        let body = Body::json(action, request)?;
        self.read(action, self.send(action, Method::POST, "/api/rollouts", Some(body)).await?).await
    }

    /// Says what a publish would do.
    pub async fn dry_run<T: DeserializeOwned>(&self, request: &PublishRequest) -> Result<T, ClientError> {
        let action = "say what the publish would do";
        let body = Body::json(action, request)?;
        self.read(action, self.send(action, Method::POST, "/api/rollouts?dryRun=true", Some(body)).await?).await
    }

    /// The same, as the service wrote it.
    pub async fn dry_run_document(&self, request: &PublishRequest, format: BodyFormat) -> Result<String, ClientError> {
        let action = "say what the publish would do";
        let path = format!("/api/rollouts?dryRun=true&format={}", format.word());
        let body = Body::json(action, request)?;
        let response = self.send(action, Method::POST, &path, Some(body)).await?;
        response.text().await.map_err(|error| self.unreachable(error))
    }

    /// What the lint says of a version that the service knows.
    pub async fn lint(&self, request: &PublishRequest) -> Result<LintResult, ClientError> {
        let action = "lint the version";
        let body = Body::json(action, request)?;
        self.read(action, self.send(action, Method::POST, "/api/offer-publishes/lint", Some(body)).await?).await
    }

    /// The refreshes of a rollout that are in `state`, at most `limit`.
    pub async fn refreshes<T: DeserializeOwned>(
        &self,
        rollout: &str,
        state: Option<RefreshWord>,
        limit: usize,
    ) -> Result<Vec<T>, ClientError> {
        let state = state.map(|state| format!("?state={}", state.word())).unwrap_or_default();
        self.list("list the refreshes", &format!("/api/rollouts/{rollout}/refreshes{state}"), limit).await
    }

    /// Gives a rollout a command: `pause`, `resume`, `approve`, `cancel` or `retry`, with its query.
    pub async fn command<T: DeserializeOwned>(
        &self,
        action: &'static str,
        rollout: &str,
        command: &str,
    ) -> Result<T, ClientError> {
        let path = format!("/api/rollouts/{rollout}/{command}");
        self.read(action, self.send(action, Method::POST, &path, Some(Body::empty())).await?).await
    }

    /// The report of a rollout, as the service wrote it.
    pub async fn report(&self, rollout: &str, format: BodyFormat) -> Result<String, ClientError> {
        let path = format!("/api/rollouts/{rollout}/report?format={}", format.word());
        let response = self.send("write the report", Method::GET, &path, None).await?;
        response.text().await.map_err(|error| self.unreachable(error))
    }

    /// Opens a page as a browser does.
    pub async fn open(&self, action: &'static str, path: &str) -> Result<(), ClientError> {
        self.send(action, Method::GET, path, None).await.map(|_| ())
    }

    /// Imports deployments: [`DeploymentRow`]s as a JSON array, or as CSV.
    pub async fn import(&self, bytes: Vec<u8>, format: BodyFormat) -> Result<ImportResult, ClientError> {
        let action = "import the deployments";
        let media = match format {
            BodyFormat::Json => "application/json",
            BodyFormat::Csv => "text/csv",
        };
        let body = Body { media, bytes };
        self.read(action, self.send(action, Method::PUT, "/api/deployments", Some(body)).await?).await
    }

    /// Writes the registry piece by piece, as it comes; `query` chooses from it. An answer that ends too soon is an error.
    pub async fn export(
        &self,
        format: BodyFormat,
        query: &str,
        mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let format = match format {
            BodyFormat::Json => "json",
            BodyFormat::Csv => "csv",
        };
        let url = format!("{}/api/deployments?format={format}{query}", self.base);
        let request = self.http.get(url).timeout(EXPORT_TIMEOUT);
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let mut response = answered("export the deployments", response).await?;
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            write(&piece)?;
        }
        Ok(())
    }

    /// Imports rows, such as those of the demo.
    pub async fn import_rows(&self, rows: &[DeploymentRow]) -> Result<ImportResult, ClientError> {
        let body = Body::json("import the deployments", &rows)?;
        self.import(body.bytes, BodyFormat::Json).await
    }

    /// Begins to look for deployments in Azure.
    pub async fn start_sync(&self, is_dry_run: bool) -> Result<SyncView, ClientError> {
        let action = "look for deployments";
        let path = format!("/api/deployments/sync?dryRun={is_dry_run}");
        self.read(action, self.send(action, Method::POST, &path, Some(Body::empty())).await?).await
    }

    /// Forgets a deployment.
    pub async fn forget(&self, key: &str) -> Result<(), ClientError> {
        let path = format!("/api/deployments/{key}");
        self.send("forget the deployment", Method::DELETE, &path, None).await.map(drop)
    }
}
