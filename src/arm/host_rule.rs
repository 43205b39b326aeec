//! The one rule about where a token may go: to the configured ARM endpoint, and nowhere else (contracts/arm.md §2.2).
//!
//! Polling URLs, next links and moved locations all pass here before they are called. What passes keeps its path and query
//! byte for byte; scheme and authority are always the configured ones. Follows no redirect and repairs no URL.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use url::Url;

/// The configured endpoint, as calls are addressed to it.
#[derive(Clone, Debug)]
pub struct ArmHost {
    scheme: Scheme,
    authority: Authority,
    port: u16,
}

/// Why an endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ARM endpoint {endpoint} cannot be used: {why}")]
pub struct InvalidEndpoint {
    /// The endpoint, without any user info.
    pub endpoint: String,
    /// Why.
    pub why: &'static str,
}

/// Why a URL is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// It is no absolute URL and no absolute path.
    #[error("it is not a URL")]
    NotAUrl,
    /// It carries user info, which hides the host from a reader.
    #[error("it carries user info")]
    UserInfo,
    /// Its scheme is not the endpoint's; plain HTTP would show the token.
    #[error("its scheme is not that of the configured endpoint")]
    Scheme,
    /// Its host or port is not the endpoint's.
    #[error("its host is not that of the configured endpoint")]
    Host,
}

impl ArmHost {
    /// The rule for one endpoint: https, or http to loopback, without path, query or user info.
    pub fn new(endpoint: &Url) -> Result<Self, InvalidEndpoint> {
        let refuse = |why| {
            let endpoint = format!("{}://{}", endpoint.scheme(), endpoint.host_str().unwrap_or_default());
            Err(InvalidEndpoint { endpoint, why })
        };
        let loopback = match endpoint.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            None => return refuse("it has no host"),
        };
        let scheme = match endpoint.scheme() {
            "https" => Scheme::HTTPS,
            "http" if loopback => Scheme::HTTP,
            "http" => return refuse("plain HTTP is for loopback only"),
            _ => return refuse("its scheme is not https"),
        };
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            return refuse("it carries user info");
        }
        if endpoint.path() != "/" || endpoint.query().is_some() || endpoint.fragment().is_some() {
            return refuse("it has a path or a query");
        }
        match endpoint.authority().parse::<Authority>() {
            Ok(authority) => {
                let port = endpoint.port_or_known_default().unwrap_or_default();
                Ok(Self { scheme, authority, port })
            }
            Err(_) => refuse("its host cannot be called"),
        }
    }

    /// Whether calls are encrypted.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Where to send a call for `url`: the configured endpoint, with the path and query of `url` byte for byte.
    ///
    /// An absolute path is taken as one of the endpoint's, since `Location` may be relative (RFC 9110 §10.2.2).
    pub fn admit(&self, url: &str) -> Result<Uri, UrlRefused> {
        if url.starts_with('/') && !url.starts_with("//") {
            return self.at(url);
        }
        let parts = url.parse::<Uri>().map_err(|_| UrlRefused::NotAUrl)?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(UrlRefused::NotAUrl);
        };
        if authority.as_str().contains('@') {
            return Err(UrlRefused::UserInfo);
        }
        if scheme != self.scheme {
            return Err(UrlRefused::Scheme);
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str().len() > authority.host().len() => return Err(UrlRefused::NotAUrl),
            None if scheme == Scheme::HTTPS => 443,
            None => 80,
        };
        if port != self.port || !authority.host().eq_ignore_ascii_case(self.authority.host()) {
            return Err(UrlRefused::Host);
        }
        Ok(self.with(parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"))))
    }

    /// The endpoint's address of an absolute path with its query.
    pub fn at(&self, path_and_query: &str) -> Result<Uri, UrlRefused> {
        path_and_query.parse().map(|path_and_query| self.with(path_and_query)).map_err(|_| UrlRefused::NotAUrl)
    }

    fn with(&self, path_and_query: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts).expect("scheme, authority and path are all there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(endpoint: &str) -> ArmHost {
        ArmHost::new(&endpoint.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_url_of_the_endpoint_keeps_its_path_and_query_byte_for_byte() {
        let host = host("https://management.azure.com");
        for path in [
            "/subscriptions/a/operationStatuses/6f1d*3F9A?api-version=2019-07-01&t=6388&c=MII_-x%2D%2d&s=a_b&h='~!$()+,;:@",
            "/a/./b/../c//d?x={y}|'&z=%zz",
            "/?q=1",
        ] {
            for prefix in ["https://management.azure.com", "https://MANAGEMENT.azure.com:443", ""] {
                let uri = host.admit(&format!("{prefix}{path}")).unwrap();
                assert_eq!(uri.to_string(), format!("https://management.azure.com{path}"));
            }
        }
    }

    #[test]
    fn a_url_of_anybody_else_is_refused() {
        let host = host("https://management.azure.com");
        for (url, why) in [
            ("https://evil.example/x", UrlRefused::Host),
            ("https://management.azure.com.evil.example/x", UrlRefused::Host),
            ("https://management.azure.com:8443/x", UrlRefused::Host),
            ("https://westeurope.management.azure.com/x", UrlRefused::Host),
            ("http://management.azure.com/x", UrlRefused::Scheme),
            ("http://management.azure.com:443/x", UrlRefused::Scheme),
            ("ftp://management.azure.com/x", UrlRefused::Scheme),
            ("https://management.azure.com@evil.example/x", UrlRefused::UserInfo),
            ("https://user:word@management.azure.com/x", UrlRefused::UserInfo),
            ("https://management.azure.com\\@evil.example/x", UrlRefused::NotAUrl),
            ("https://management.azure.com:99999/x", UrlRefused::NotAUrl),
            ("https://management.azure.com:/x", UrlRefused::NotAUrl),
            ("https://management.azure.com/a b", UrlRefused::NotAUrl),
            ("//evil.example/x", UrlRefused::NotAUrl),
            ("evil.example/x", UrlRefused::NotAUrl),
            ("relative", UrlRefused::NotAUrl),
            ("", UrlRefused::NotAUrl),
        ] {
            assert_eq!(host.admit(url).unwrap_err(), why, "{url}");
        }
        let local = self::host("http://127.0.0.1:8080");
        assert_eq!(local.admit("http://127.0.0.1:8081/x").unwrap_err(), UrlRefused::Host);
        assert_eq!(local.admit("http://localhost:8080/x").unwrap_err(), UrlRefused::Host);
        assert!(local.admit("http://127.0.0.1:8080/x").is_ok());
    }

    #[test]
    fn an_endpoint_is_https_or_loopback_and_nothing_but_a_host() {
        for bad in [
            "http://management.azure.com",
            "ftp://127.0.0.1",
            "https://user@management.azure.com",
            "https://management.azure.com/path",
            "https://management.azure.com?x=1",
            "data:text/plain,x",
        ] {
            assert!(ArmHost::new(&bad.parse().unwrap()).is_err(), "{bad} was accepted");
        }
        for good in
            ["https://management.usgovcloudapi.net", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"]
        {
            assert!(ArmHost::new(&good.parse().unwrap()).is_ok(), "{good} was refused");
        }
    }
}
