//! The tenant that a 401 names: `WWW-Authenticate: Bearer authorization_uri="https://login.microsoftonline.com/{tenant}", …`.
//!
//! Only the tenant's id is taken, and its address is never called. Whatever is not exactly one tenant is none: a customer's
//! tenant decides whose tokens are asked for.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Uri};

use crate::rollout::resource_id::is_guid;

/// The longest header that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// The one tenant that the challenges name, in lower case.
pub fn tenant(headers: &HeaderMap) -> Option<String> {
    let mut tenants: Vec<String> = Vec::new();
    for header in headers.get_all(WWW_AUTHENTICATE) {
        let text = header.to_str().ok().filter(|text| text.len() <= LONGEST)?;
        for (scheme, name, value) in parameters(text)? {
            if scheme.eq_ignore_ascii_case("Bearer") && name.eq_ignore_ascii_case("authorization_uri") {
                tenants.push(tenant_in(&value)?);
            }
        }
    }
    tenants.dedup();
    match &mut tenants[..] {
        [tenant] => Some(std::mem::take(tenant)),
        _ => None,
    }
}

/// The tenant of a login address: https, and its id as the whole path.
fn tenant_in(address: &str) -> Option<String> {
    let uri: Uri = address.parse().ok()?;
    let is_plain =
        uri.scheme_str() == Some("https") && uri.authority().is_some_and(|host| !host.as_str().contains('@'));
    let path = uri.path().strip_prefix('/')?;
    let id = path.strip_suffix('/').unwrap_or(path);
    let is_somebody = is_guid(id) && id.bytes().any(|byte| !matches!(byte, b'0' | b'-'));
    (is_plain && uri.query().is_none() && is_somebody).then(|| id.to_ascii_lowercase())
}

/// The parameters of every challenge in a header (RFC 9110 §11.6.1), each with its scheme; `None` if it cannot be read.
fn parameters(text: &str) -> Option<Vec<(&str, &str, String)>> {
    let mut found = Vec::new();
    let mut scheme = "";
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (token, behind) = rest.split_at(end);
        if token.is_empty() {
            return None;
        }
        let value = behind.trim_start().strip_prefix('=').map(str::trim_start);
        rest = match value {
            Some(value) if !scheme.is_empty() => {
                let (value, behind) = if let Some(quoted) = value.strip_prefix('"') {
                    unquoted(quoted)?
                } else {
                    let end = value.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(value.len());
                    (value[..end].to_owned(), &value[end..])
                };
                found.push((scheme, token, value));
                behind
            }
            // A scheme, with its parameters or the next challenge behind it.
            None if behind.is_empty() || behind.starts_with([' ', '\t', ',']) => {
                scheme = token;
                behind
            }
            Some(_) | None => return None,
        };
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    Some(found)
}

/// A quoted text without its quotes, and what follows it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TENANT: &str = "5d0f7a10-0000-4000-8000-00000000c001";

    fn named(challenges: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for challenge in challenges {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(challenge.as_bytes()).unwrap());
        }
        tenant(&headers)
    }

    #[test]
    fn the_tenant_is_the_whole_path_of_the_login_address() {
        let uri = format!("authorization_uri=\"https://login.microsoftonline.com/{TENANT}\"");
        for challenge in [
            format!("Bearer {uri}, error=\"invalid_token\", error_description=\"a \\\"text\\\", with = and ,\""),
            format!("bearer error=\"x\", {uri}"),
            format!("Bearer {}", uri.replace('"', "")),
            format!("Bearer Authorization_Uri = \"https://login.windows.net/{}/\"", TENANT.to_uppercase()),
            format!("Negotiate, Bearer {uri}"),
            format!("Basic realm=\"authorization_uri=https://x/y\", Bearer {uri}"),
        ] {
            assert_eq!(named(&[&challenge]).as_deref(), Some(TENANT), "{challenge}");
        }
        let challenge = format!("Bearer {uri}");
        assert_eq!(named(&[&challenge, "PoP x=\"y\""]).as_deref(), Some(TENANT));
        assert_eq!(named(&[&challenge, &challenge]).as_deref(), Some(TENANT), "the same twice");
    }

    #[test]
    fn whatever_is_not_exactly_one_tenant_is_none() {
        let other = TENANT.replace('5', "6");
        let bearer = |uri: &str| format!("Bearer authorization_uri=\"{uri}\"");
        for challenge in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer error=\"invalid_token\"".to_owned(),
            bearer(""),
            bearer("https://login.microsoftonline.com/"),
            bearer("https://login.microsoftonline.com/common"),
            bearer(&format!("http://login.microsoftonline.com/{TENANT}")),
            bearer(&format!("https://user@login.microsoftonline.com/{TENANT}")),
            bearer(&format!("https://login.microsoftonline.com/{TENANT}/oauth2")),
            bearer(&format!("https://login.microsoftonline.com/x/{TENANT}")),
            bearer(&format!("https://login.microsoftonline.com/{TENANT}?x=1")),
            bearer(&format!("/{TENANT}")),
            bearer(TENANT),
            bearer("https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000"),
            bearer(&format!("https://login.microsoftonline.com/{{{TENANT}}}")),
            format!("Basic authorization_uri=\"https://login.microsoftonline.com/{TENANT}\""),
            format!("authorization_uri=\"https://login.microsoftonline.com/{TENANT}\""),
            format!("Bearer xauthorization_uri=\"https://login.microsoftonline.com/{TENANT}\""),
            format!("Bearer authorization_uri=\"https://login.microsoftonline.com/{TENANT}"),
            format!("{}, error=\"", bearer(&format!("https://login.microsoftonline.com/{TENANT}"))),
            format!("{} {}", bearer(&format!("https://login.microsoftonline.com/{TENANT}")), "x".repeat(LONGEST)),
        ] {
            assert_eq!(named(&[&challenge]), None, "{challenge:.120}");
        }
        let two = [bearer(&format!("https://a.example/{TENANT}")), bearer(&format!("https://a.example/{other}"))];
        assert_eq!(named(&[&two[0], &two[1]]), None, "two tenants");
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(text in "[ -~]{0,80}", more in "(Bearer|authorization_uri|=|\"|,| |\\\\|https://x/){0,12}") {
            let _ = named(&[&text, &more]);
        }
    }
}
