//! The HTTP API from outside (design §8): the commands' only way to a service.
//!
//! The key travels in a header, over https or to this very machine only; redirects are not followed and pages are followed
//! on the same host only, so the key never leaves for another one.

mod calls;
mod refused;

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::refused::answered;
use super::failure::{Exit, Failure};
use crate::functions::wire::api::{MAX_TOP, Page};
use crate::secret::others_can_read;
use crate::settings::{Endpoint, Secret, is_loopback};

pub use self::refused::ClientError;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take; an import of many thousand rows is slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// No list is that long; a service that says so is going round in circles.
const MAX_PAGES: usize = 100_000;

/// Which service to talk to.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// Address of the service: https, or http to this machine
    #[arg(
        long,
        help_heading = "Service",
        env = "PERMAFRESH_URL",
        default_value = "http://127.0.0.1:7071",
        value_name = "URL"
    )]
    pub url: String,
    /// Function key of the service; better set PERMAFRESH_KEY, which the list of processes does not show
    #[arg(long, help_heading = "Service", env = "PERMAFRESH_KEY", hide_env_values = true, value_name = "KEY", value_parser = secret)]
    pub key: Option<Secret>,
    /// File whose first line is the function key, such as the one that `permafresh local` writes
    #[arg(long, help_heading = "Service", env = "PERMAFRESH_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.trim()))
}

/// The format of a report or an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// JSON.
    Json,
    /// Comma-separated values with a head.
    Csv,
}

impl BodyFormat {
    fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

/// A service, with the key to it.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: reqwest::Client,
    base: Endpoint,
}

impl ApiClient {
    /// A client for the service that the command line names; nothing is sent yet.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the command line's one client: with time limits, without redirects"
    )]
    pub fn new(args: &ServiceArgs) -> Result<Self, Failure> {
        let usage = |error: anyhow::Error, hint: &str| Failure::new(error, hint).exit(Exit::Usage);
        let address = args.url.trim().trim_end_matches('/');
        let base = Endpoint::parse(address.strip_suffix("/api").unwrap_or(address))
            .context("the address of the service cannot be used")
            .map_err(|error| usage(error, "give an https address, or http to this machine, with --url"))?;
        let key = match &args.key_file {
            Some(path) => Some(key_in(path)?),
            None => args.key.clone().filter(|key| !key.expose().is_empty()),
        };
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(key.expose()).map_err(|_| {
                usage(anyhow::anyhow!("the key holds characters that no header can carry"), "copy the key again")
            })?;
            value.set_sensitive(true);
            headers.insert("x-functions-key", value);
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("permafresh/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT);
        // A proxy must not see the key in plain http.
        let builder = if is_loopback(base.url()) { builder.no_proxy() } else { builder };
        let http = builder
            .build()
            .context("cannot set up HTTP")
            .map_err(|error| Failure::new(error, "check the certificates of this machine"))?;
        Ok(Self { http, base })
    }

    /// The address of the service.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// Reads one thing.
    pub async fn get<T: DeserializeOwned>(&self, action: &'static str, path: &str) -> Result<T, ClientError> {
        self.read(action, self.send(action, Method::GET, path, None).await?).await
    }

    /// Reads a list page by page until `limit` items are there.
    pub async fn list<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
        limit: usize,
    ) -> Result<Vec<T>, ClientError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut next = format!("{path}{separator}top={}", limit.clamp(1, MAX_TOP));
        let mut items = Vec::new();
        for _ in 0..MAX_PAGES {
            let page: Page<T> = self.get(action, &next).await?;
            items.extend(page.value);
            match page.next_link {
                Some(link) if items.len() < limit => {
                    let link = self.on_this_host(&link)?;
                    if link == next {
                        break;
                    }
                    next = link;
                }
                _ => {
                    items.truncate(limit);
                    return Ok(items);
                }
            }
        }
        Err(ClientError::Unreadable { action, reason: "the list goes round in circles".to_owned() })
    }

    /// Posts something.
    pub async fn post<T: DeserializeOwned>(
        &self,
        action: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = Body::json(action, body)?;
        self.read(action, self.send(action, Method::POST, path, Some(body)).await?).await
    }

    /// Path and query of a next page; refused if it is anywhere else than this service.
    fn on_this_host(&self, link: &str) -> Result<String, ClientError> {
        let url = self.base.url().join(link).map_err(|_| ClientError::ForeignPage)?;
        if url.origin() != self.base.url().origin() || !url.username().is_empty() || url.password().is_some() {
            return Err(ClientError::ForeignPage);
        }
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        // A link from the root of the host may or may not know of the path that the service stands under.
        let prefix = self.base.url().path().trim_end_matches('/');
        Ok(path.strip_prefix(prefix).filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned())
    }

    async fn send(
        &self,
        action: &'static str,
        method: Method,
        path: &str,
        body: Option<Body>,
    ) -> Result<Response, ClientError> {
        let request = self.http.request(method, format!("{}{path}", self.base)).header(ACCEPT, "*/*");
        let request = match body {
            Some(Body { media, bytes }) => request.header(CONTENT_TYPE, media).body(bytes),
            None => request,
        };
        answered(action, request.send().await.map_err(|error| self.unreachable(error))?).await
    }

    /// The last cause is the one that tells; the others name the layers in between.
    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        let reason = if error.is_timeout() {
            "it did not answer in time".to_owned()
        } else {
            anyhow::Error::from(error.without_url()).root_cause().to_string()
        };
        ClientError::Unreachable { url: self.url().to_owned(), reason }
    }

    async fn read<T: DeserializeOwned>(&self, action: &'static str, response: Response) -> Result<T, ClientError> {
        let bytes = response.bytes().await.map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Unreadable { action, reason: error.to_string() })
    }
}

struct Body {
    media: &'static str,
    bytes: Vec<u8>,
}

impl Body {
    fn json(action: &'static str, value: &impl Serialize) -> Result<Self, ClientError> {
        let bytes =
            serde_json::to_vec(value).map_err(|error| ClientError::Unreadable { action, reason: error.to_string() })?;
        Ok(Self { media: "application/json", bytes })
    }

    fn empty() -> Self {
        Self { media: "application/json", bytes: b"{}".to_vec() }
    }
}

/// The most that is read of a file with a key.
const LONGEST_KEY_FILE: u64 = 64 * 1024;

/// The first line of a file that only its owner can read.
fn key_in(path: &std::path::Path) -> Result<Secret, Failure> {
    let hint = "give the file that `permafresh local` names when it starts";
    let unread = |error: std::io::Error| {
        let error = anyhow::Error::from(error).context(format!("cannot read the key from {}", path.display()));
        Failure::new(error, hint).exit(Exit::Usage)
    };
    let file = std::fs::File::open(path).map_err(unread)?;
    if others_can_read(&file).map_err(unread)? {
        let error = anyhow::anyhow!("others can read the key in {}", path.display());
        let hint = "make it yours alone (chmod 600), or give the key in PERMAFRESH_KEY";
        return Err(Failure::new(error, hint).exit(Exit::Usage));
    }
    let mut text = String::new();
    file.take(LONGEST_KEY_FILE).read_to_string(&mut text).map_err(unread)?;
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(key) => Ok(Secret::new(key)),
        None => Err(Failure::new(anyhow::anyhow!("no key in {}", path.display()), hint).exit(Exit::Usage)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str) -> Result<ApiClient, Failure> {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        ApiClient::new(&ServiceArgs { url: url.to_owned(), key: Some(Secret::new("k")), key_file: None })
    }

    #[test]
    fn the_key_travels_over_https_or_on_this_machine_only() {
        for (url, expected) in [
            ("http://127.0.0.1:7071", Some("http://127.0.0.1:7071")),
            ("https://fabrikam.azurewebsites.net/api/", Some("https://fabrikam.azurewebsites.net")),
            ("http://fabrikam.azurewebsites.net", None),
            ("https://key@fabrikam.azurewebsites.net", None),
            ("fabrikam", None),
        ] {
            match (client(url), expected) {
                (Ok(client), Some(expected)) => assert_eq!(client.url(), expected),
                (Err(failure), None) => assert_eq!(failure.exit, Exit::Usage),
                (other, _) => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_next_page_is_on_this_host_or_refused() {
        let client = client("https://gateway.example/permafresh").unwrap();
        for (link, expected) in [
            ("/api/rollouts?continuation=a%2Fb&top=2", Some("/api/rollouts?continuation=a%2Fb&top=2")),
            ("/permafresh/api/rollouts?x=1", Some("/api/rollouts?x=1")),
            ("https://gateway.example/api/rollouts", Some("/api/rollouts")),
            ("//evil.example/api/rollouts", None),
            ("https://evil.example/api/rollouts", None),
            ("http://gateway.example/api/rollouts", None),
            ("https://gateway.example:8443/api/rollouts", None),
            ("https://gateway.example@evil.example/api", None),
            ("/\\evil.example/api", None),
        ] {
            assert_eq!(client.on_this_host(link).ok().as_deref(), expected, "{link}");
        }
    }
}
