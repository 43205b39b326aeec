//! Partner Center's webhooks: whether a post is from Microsoft, and what it says (contracts/access.md §2.8).
//!
//! A post is believed when its body is signed by a certificate that leads to a trusted root, is valid now, and belongs to
//! Microsoft. Even then it only says where to look: Graph's answer decides. The certificate is fetched without any
//! authorization, from hosts of Microsoft only, and nothing of a refused post is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use serde::Deserialize;
use tokio::sync::Semaphore;
use url::Url;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use super::wire::{self, NoAnswer};
use crate::rollout::Timestamp;

const SERVICE: &str = "the host of Partner Center's certificate";
/// Whose certificate signs.
const ORGANISATION: &str = "Microsoft Corporation";
/// The largest certificate file.
const LARGEST_CERTIFICATE: usize = 64 * 1024;
/// The largest post; Partner Center's are below 1 KB.
pub const BODY_LIMIT: usize = 64 * 1024;
/// How long a fetched certificate is kept.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// How many certificates are kept.
const MOST_KEPT: usize = 16;
/// How many issuers are fetched where the file holds the last certificate alone.
const MOST_ISSUERS: usize = 3;
/// How many posts may have certificates fetched at once: anybody can post, and have us wait for a host that is slow.
const AT_ONCE: usize = 4;
/// How long one file may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How chains of certificates are signed.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
];

/// Why a post is not believed. Says nothing to the sender that would help to forge one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// A header is missing or unreadable.
    #[error("the header {0} is missing or wrong")]
    Header(&'static str),
    /// The certificate is not on a host of Microsoft.
    #[error("the certificate is not on a host that is allowed")]
    CertificateHost,
    /// The certificate cannot be fetched now: Partner Center posts again.
    #[error("the certificate could not be fetched")]
    CertificateUnavailable,
    /// The certificate is none, leads nowhere, is out of date, or is somebody else's.
    #[error("the certificate is not one of Microsoft's: {0}")]
    Certificate(&'static str),
    /// The body is not what was signed.
    #[error("the signature does not fit the body")]
    Signature,
    /// The body is not an event.
    #[error("the body is not an event of Partner Center")]
    Body,
}

/// What a post says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Something about this relationship, or about access within it: look at it.
    Relationship {
        /// Its id.
        id: String,
        /// The event's name.
        event: String,
    },
    /// A trial of the webhook, or an event that is not our business.
    Nothing {
        /// The event's name.
        event: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event_name: String,
    resource_uri: Option<String>,
}

/// Reads the body of a post that is believed.
pub fn read(body: &[u8]) -> Result<Happened, NotBelieved> {
    let event: Event = serde_json::from_slice(body).map_err(|_| NotBelieved::Body)?;
    let name = event.event_name;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') || name.len() > 100 {
        return Err(NotBelieved::Body);
    }
    if !name.starts_with("granular-admin-") {
        return Ok(Happened::Nothing { event: name });
    }
    // …/granularAdminRelationships/{id}, with more behind it for an access assignment.
    let uri = event.resource_uri.ok_or(NotBelieved::Body)?;
    let behind = uri.split_once("granularAdminRelationships/").ok_or(NotBelieved::Body)?.1;
    let id = behind.split(['/', '?']).next().unwrap_or_default();
    let is_id = (1..=100).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_id { Ok(Happened::Relationship { id: id.to_owned(), event: name }) } else { Err(NotBelieved::Body) }
}

type Chain = Arc<Vec<CertificateDer<'static>>>;

/// Believes or does not.
pub struct Verifier {
    http: reqwest::Client,
    /// Partner Center itself, which may serve its certificate too.
    partner_api: Url,
    /// Roots besides the machine's; tests have their own.
    extra_roots: Vec<CertificateDer<'static>>,
    roots: OnceLock<Vec<TrustAnchor<'static>>>,
    fetched: Mutex<HashMap<String, (Chain, Timestamp)>>,
    fetching: Semaphore,
}

impl Verifier {
    /// A verifier that trusts the machine's roots, and these.
    pub fn new(http: reqwest::Client, partner_api: Url, extra_roots: Vec<CertificateDer<'static>>) -> Self {
        let (roots, fetched) = (OnceLock::new(), Mutex::default());
        Self { http, partner_api, extra_roots, roots, fetched, fetching: Semaphore::new(AT_ONCE) }
    }

    /// Whether `body` is from Partner Center.
    ///
    /// # Errors
    /// [`NotBelieved`].
    pub async fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), NotBelieved> {
        let text = |name: &'static str| headers.get(name).and_then(|value| value.to_str().ok());
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let signature = authorization.and_then(|value| value.strip_prefix("Signature "));
        // The scheme is there too, in Microsoft's own sample of a receiver.
        let signature =
            signature.or_else(|| text("x-ms-signature").map(|value| value.strip_prefix("Signature ").unwrap_or(value)));
        let signature =
            signature.and_then(|text| STANDARD.decode(text.trim()).ok()).filter(|bytes| bytes.len() <= 1_024);
        let signature = signature.ok_or(NotBelieved::Header("Authorization"))?;
        if !text("x-ms-signature-algorithm").is_some_and(|name| name.trim().eq_ignore_ascii_case("rsa-sha256")) {
            return Err(NotBelieved::Header("X-MS-Signature-Algorithm"));
        }
        let url = text("x-ms-certificate-url").and_then(|text| Url::parse(text.trim()).ok());
        let url = url.ok_or(NotBelieved::Header("X-MS-Certificate-Url"))?;
        if !may_hold_certificates(&url, &self.partner_api) {
            return Err(NotBelieved::CertificateHost);
        }
        let chain = self.chain(&url, now).await?;
        self.check(&chain, body, &signature, now)
    }

    async fn chain(&self, url: &Url, now: Timestamp) -> Result<Chain, NotBelieved> {
        let known = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).get(url.as_str()).cloned();
        if let Some((chain, _)) = known.filter(|(_, until)| now < *until) {
            return Ok(chain);
        }
        // Nobody waits for a place, since who waits costs memory too: Partner Center posts again.
        let _place = self.fetching.try_acquire().map_err(|_| NotBelieved::CertificateUnavailable)?;
        let mut chain = self.fetch(url).await?;
        for _ in 0..MOST_ISSUERS {
            let Some(issuer) = chain.last().and_then(issuer_url).filter(is_issuer_host) else { break };
            if self.leads_to_a_root(&chain, now).is_ok() {
                break;
            }
            chain.extend(self.fetch(&issuer).await?);
        }
        self.leads_to_a_root(&chain, now)?;
        belongs_to_microsoft(chain.first().ok_or(NotBelieved::Certificate("it cannot be read"))?)?;
        let chain = Arc::new(chain);
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.retain(|_, (_, until)| now < *until);
        // Only Microsoft's own gets here, so that nobody else can crowd out the others.
        if fetched.len() < MOST_KEPT {
            fetched.insert(url.to_string(), (Arc::clone(&chain), now + KEPT));
        }
        Ok(chain)
    }

    async fn fetch(&self, url: &Url) -> Result<Vec<CertificateDer<'static>>, NotBelieved> {
        let request = self.http.get(url.clone()).timeout(FETCH_TIMEOUT);
        let received = wire::send_for(SERVICE, request, LARGEST_CERTIFICATE).await.map_err(|error| match error {
            NoAnswer::TooLarge { .. } => NotBelieved::Certificate("it is too large"),
            _ => NotBelieved::CertificateUnavailable,
        })?;
        if received.status != http::StatusCode::OK {
            return Err(NotBelieved::CertificateUnavailable);
        }
        if !received.body.starts_with(b"-----") {
            return Ok(vec![CertificateDer::from(received.body.to_vec())]);
        }
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&received.body).collect();
        all.ok().filter(|all| !all.is_empty()).ok_or(NotBelieved::Certificate("it cannot be read"))
    }

    fn leads_to_a_root(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> Result<(), NotBelieved> {
        let (leaf, issuers) = chain.split_first().ok_or(NotBelieved::Certificate("it cannot be read"))?;
        let certificate = EndEntityCert::try_from(leaf).map_err(|_| NotBelieved::Certificate("it cannot be read"))?;
        let since_1970 = Duration::from_secs(u64::try_from(now.timestamp()).unwrap_or_default());
        let time = UnixTime::since_unix_epoch(since_1970);
        certificate
            .verify_for_usage(ALGORITHMS, self.roots(), issuers, time, AnyUsage, None, None)
            .map_err(|_| NotBelieved::Certificate("it leads to no trusted root, or is not valid now"))?;
        Ok(())
    }

    fn check(
        &self,
        chain: &[CertificateDer<'static>],
        body: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<(), NotBelieved> {
        // Again, since a kept one may have run out.
        self.leads_to_a_root(chain, now)?;
        let leaf = chain.first().ok_or(NotBelieved::Certificate("it cannot be read"))?;
        let certificate = EndEntityCert::try_from(leaf).map_err(|_| NotBelieved::Certificate("it cannot be read"))?;
        certificate
            .verify_signature(webpki::ring::RSA_PKCS1_2048_8192_SHA256, body, signature)
            .map_err(|_| NotBelieved::Signature)
    }

    /// The machine's roots are read at the first post, since few processes ever see one.
    fn roots(&self) -> &[TrustAnchor<'static>] {
        self.roots.get_or_init(|| {
            let mut roots = rustls_native_certs::load_native_certs().certs;
            roots.extend(self.extra_roots.iter().cloned());
            let anchor = |root: &CertificateDer<'static>| Some(webpki::anchor_from_trusted_cert(root).ok()?.to_owned());
            roots.iter().filter_map(anchor).collect()
        })
    }
}

fn belongs_to_microsoft(leaf: &CertificateDer<'static>) -> Result<(), NotBelieved> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| NotBelieved::Certificate("it cannot be read"))?;
    let mut organisations = parsed.subject().iter_organization();
    match (organisations.next().map(x509_parser::prelude::AttributeTypeAndValue::as_str), organisations.next()) {
        (Some(Ok(ORGANISATION)), None) => Ok(()),
        _ => Err(NotBelieved::Certificate("it belongs to somebody else")),
    }
}

/// Hosts of Microsoft, over https; and Partner Center itself, wherever the settings say that it is.
fn may_hold_certificates(url: &Url, partner_api: &Url) -> bool {
    if !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let is_microsofts = [".microsoft.com", ".blob.core.windows.net"].iter().any(|end| host.ends_with(end));
    (url.scheme() == "https" && url.port().is_none() && is_microsofts) || wire::is_same_origin(url, partner_api)
}

/// No page says what the certificate is meant for besides signing these posts.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Where the issuer's certificate is.
fn issuer_url(certificate: &CertificateDer<'static>) -> Option<Url> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let access = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(access),
        _ => None,
    })?;
    // 1.3.6.1.5.5.7.48.2: caIssuers.
    access.accessdescs.iter().filter(|access| access.access_method.to_id_string() == "1.3.6.1.5.5.7.48.2").find_map(
        |access| match access.access_location {
            GeneralName::URI(uri) => Url::parse(uri).ok(),
            _ => None,
        },
    )
}

/// Issuers are fetched where Microsoft and its certificate authority publish them; plainly, since they are signed.
fn is_issuer_host(url: &Url) -> bool {
    let hosts = ["www.microsoft.com", "caissuers.microsoft.com", "cacerts.digicert.com"];
    matches!(url.scheme(), "http" | "https")
        && url.port().is_none()
        && url.host_str().is_some_and(|host| hosts.contains(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_leads_to_its_relationship() {
        let example = include_bytes!("../../../tests/data/gdap/gdap.webhook.approved.json");
        let expected = Happened::Relationship {
            id: "4e5f6071-8293-4a4b-9c5d-6e7f80910213".into(),
            event: "granular-admin-relationship-approved".into(),
        };
        assert_eq!(read(example), Ok(expected));
        let test = Happened::Nothing { event: "test-created".into() };
        assert_eq!(read(br#"{"EventName":"test-created"}"#), Ok(test));
        let assigned = br#"{"EventName":"granular-admin-access-assignment-activated","ResourceUri":"https://x/granularAdminRelationships/a-1/accessAssignments/b"}"#;
        assert!(matches!(read(assigned), Ok(Happened::Relationship { id, .. }) if id == "a-1"));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"EventName":"a b"}"#,
            r#"{"EventName":"granular-admin-relationship-approved"}"#,
            r#"{"EventName":"granular-admin-relationship-approved","ResourceUri":"https://x/other/1"}"#,
            r#"{"EventName":"granular-admin-relationship-approved","ResourceUri":"https://x/granularAdminRelationships/"}"#,
            r#"{"EventName":"granular-admin-relationship-approved","ResourceUri":"https://x/granularAdminRelationships/..%2f"}"#,
        ] {
            assert_eq!(read(bad.as_bytes()), Err(NotBelieved::Body), "{bad}");
        }
    }

    #[test]
    fn certificates_are_fetched_from_microsoft_only() {
        let partner_api = "http://127.0.0.1:4000".parse().unwrap();
        for (url, allowed) in [
            ("https://pcwebhooks.blob.core.windows.net/c.cer", true),
            ("https://3psostorageacct.blob.core.windows.net/cert/pcnotifications-dispatch.microsoft.com.cer", true),
            ("https://www.microsoft.com/c.cer", true),
            ("http://127.0.0.1:4000/c.cer", true),
            ("http://127.0.0.1:4001/c.cer", false),
            ("http://www.microsoft.com/c.cer", false),
            ("https://www.microsoft.com:8443/c.cer", false),
            ("https://www.microsoft.com.evil.example/c.cer", false),
            ("https://evilmicrosoft.com/c.cer", false),
            ("https://microsoft.com@evil.example/c.cer", false),
            ("https://user@www.microsoft.com/c.cer", false),
            ("https://169.254.169.254/c.cer", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(may_hold_certificates(&url.parse().unwrap(), &partner_api), allowed, "{url}");
        }
    }
}
