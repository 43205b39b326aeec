//! Addresses of services: https, or http to this very machine, since tokens travel there (design §7).
//!
//! Refuses user names, queries and fragments: an endpoint is a place, not a request.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// The base address of a service, without a slash at its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Why an address is not one that we send tokens to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It is not an absolute URL with a host.
    #[error("it is not an absolute URL")]
    NotAUrl,
    /// It is neither https nor http.
    #[error("its scheme is neither https nor http")]
    Scheme,
    /// It is http to another machine.
    #[error("it is plain http to another machine, where a token could be read on the way")]
    PlainHttp,
    /// It carries a user name or a password.
    #[error("it carries a user name or a password")]
    UserInfo,
    /// It has a query or a fragment.
    #[error("it has a query or a fragment")]
    Query,
}

impl Endpoint {
    /// Parses an address: https, or http to loopback.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let url = absolute(text)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidEndpoint::Query);
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(InvalidEndpoint::PlainHttp);
        }
        Ok(Self(url))
    }

    /// Parses the address that the platform gives for managed identities.
    ///
    /// On Linux it is plain http to an address that only this machine's sandbox reaches (link-local or private), so those
    /// are allowed here and nowhere else; a host name other than `localhost` is not.
    pub(super) fn parse_platform(text: &str) -> Result<Self, InvalidEndpoint> {
        let url = absolute(text)?;
        let within_the_machine = match url.host() {
            Some(Host::Ipv4(address)) => address.is_link_local() || address.is_private(),
            _ => false,
        };
        if url.scheme() == "http" && !is_loopback(&url) && !within_the_machine {
            return Err(InvalidEndpoint::PlainHttp);
        }
        Ok(Self(url))
    }

    /// The address as a URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The address as text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Whether a URL names this very machine: `localhost`, 127.0.0.0/8 or `[::1]`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

pub(super) fn absolute(text: &str) -> Result<Url, InvalidEndpoint> {
    let url = Url::parse(text).map_err(|_| InvalidEndpoint::NotAUrl)?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(InvalidEndpoint::Scheme);
    }
    if url.host().is_none() {
        return Err(InvalidEndpoint::NotAUrl);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidEndpoint::UserInfo);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, InvalidEndpoint as E};

    #[test]
    fn an_endpoint_is_https_or_this_machine() {
        for (text, expected) in [
            ("https://management.azure.com", Ok("https://management.azure.com")),
            ("https://management.azure.com/", Ok("https://management.azure.com")),
            ("http://127.0.0.1:7071", Ok("http://127.0.0.1:7071")),
            ("http://127.8.9.10", Ok("http://127.8.9.10")),
            ("http://localhost:1/base/", Ok("http://localhost:1/base")),
            ("http://[::1]:7071", Ok("http://[::1]:7071")),
            ("http://management.azure.com", Err(E::PlainHttp)),
            ("http://localhost.evil.example", Err(E::PlainHttp)),
            ("http://127.0.0.1.evil.example", Err(E::PlainHttp)),
            ("http://169.254.129.2:8081", Err(E::PlainHttp)),
            ("http://0.0.0.0:1", Err(E::PlainHttp)),
            ("https://user@management.azure.com", Err(E::UserInfo)),
            ("https://:word@management.azure.com", Err(E::UserInfo)),
            ("https://management.azure.com?x=1", Err(E::Query)),
            ("https://management.azure.com/#x", Err(E::Query)),
            ("ftp://127.0.0.1", Err(E::Scheme)),
            ("file:///etc/passwd", Err(E::Scheme)),
            ("management.azure.com", Err(E::NotAUrl)),
            ("https://", Err(E::NotAUrl)),
        ] {
            let parsed = Endpoint::parse(text);
            assert_eq!(parsed.as_ref().map(Endpoint::as_str), expected.as_ref().copied(), "{text}");
        }
    }

    #[test]
    fn the_platforms_own_identity_endpoint_may_be_inside_the_sandbox_only() {
        for good in
            ["http://169.254.255.2:8081/msi/token", "http://172.16.1.5:8081/msi/token", "http://localhost:4141/"]
        {
            assert!(Endpoint::parse_platform(good).is_ok(), "{good}");
        }
        for bad in ["http://203.0.113.7/msi/token", "http://identity.example/msi/token"] {
            assert_eq!(Endpoint::parse_platform(bad), Err(E::PlainHttp), "{bad}");
        }
    }
}
