//! Who App Service authentication says is calling: `X-MS-CLIENT-PRINCIPAL`, read strictly. Whether it counts at all is for
//! whoever asks: the dashboard's guard, and [`super::caller`].

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The header: base64 of JSON.
const HEADER: &str = "x-ms-client-principal";
/// The longest header that is read.
const LONGEST: usize = 32 * 1024;
/// The longest name that is shown or noted.
const LONGEST_NAME: usize = 200;

#[derive(Deserialize)]
struct ClientPrincipal {
    auth_typ: String,
    #[serde(default)]
    name_typ: Option<String>,
    claims: Vec<Claim>,
}

#[derive(Deserialize)]
struct Claim {
    typ: String,
    val: String,
}

/// The name of whoever is signed in; none unless there is exactly one header that can be read, from a provider, with a
/// name in it.
pub fn signed_in(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    if value.len() > LONGEST {
        return None;
    }
    let principal: ClientPrincipal = serde_json::from_slice(&STANDARD.decode(value.as_bytes()).ok()?).ok()?;
    if principal.auth_typ.trim().is_empty() {
        return None;
    }
    let claimed = |wanted: &str| {
        let claim = principal.claims.iter().find(|claim| claim.typ == wanted)?;
        let name = claim.val.trim();
        let is_name = !name.is_empty() && name.chars().count() <= LONGEST_NAME && !name.chars().any(char::is_control);
        is_name.then(|| name.to_owned())
    };
    let names = [principal.name_typ.as_deref().unwrap_or_default(), "preferred_username", "name"];
    names.into_iter().filter(|name| !name.is_empty()).find_map(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::json;

    fn named(json: &serde_json::Value) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(&STANDARD.encode(json.to_string())).unwrap());
        signed_in(&headers)
    }

    #[test]
    fn whoever_is_signed_in_has_a_name() {
        let claims = json!([{"typ": "upn", "val": "kim@fabrikam.example"}, {"typ": "name", "val": "Kim"}]);
        let principal = json!({"auth_typ": "aad", "name_typ": "upn", "role_typ": "roles", "claims": claims});
        assert_eq!(named(&principal).as_deref(), Some("kim@fabrikam.example"));
        let principal = json!({"auth_typ": "aad", "claims": claims});
        assert_eq!(named(&principal).as_deref(), Some("Kim"));
    }

    #[test]
    fn what_cannot_be_read_as_a_principal_is_nobody() {
        let claims = json!([{"typ": "name", "val": "Kim"}]);
        for wrong in [
            json!(null),
            json!("Kim"),
            json!({"claims": claims}),
            json!({"auth_typ": "", "claims": claims}),
            json!({"auth_typ": "aad"}),
            json!({"auth_typ": "aad", "claims": []}),
            json!({"auth_typ": "aad", "claims": [{"typ": "name"}]}),
            json!({"auth_typ": "aad", "claims": [{"typ": "name", "val": " "}]}),
            json!({"auth_typ": "aad", "claims": [{"typ": "name", "val": "Kim\u{1b}[2J"}]}),
            json!({"auth_typ": "aad", "claims": [{"typ": "name", "val": "x".repeat(LONGEST_NAME + 1)}]}),
        ] {
            assert_eq!(named(&wrong), None, "{wrong}");
        }
        let good = STANDARD.encode(json!({"auth_typ": "aad", "claims": claims}).to_string());
        let mut headers = HeaderMap::new();
        assert_eq!(signed_in(&headers), None);
        headers.append(HEADER, HeaderValue::from_str(&good).unwrap());
        assert!(signed_in(&headers).is_some());
        headers.append(HEADER, HeaderValue::from_str(&good).unwrap());
        assert_eq!(signed_in(&headers), None, "two headers");
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static("not base64"));
        assert_eq!(signed_in(&headers), None);
    }
}
