//! The link by which a customer's administrator consents, and the signed state that brings the answer back to us
//! (contracts/access.md §2.7).
//!
//! Pure. The state says for which tenant the link was made and until when; a valid one proves that we made the link and
//! nothing about who came back with it. Whether the tenant consented is for Entra to say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::rollout::Timestamp;

/// How long a link may be used: an administrator has to find time for it.
pub const LIFETIME: std::time::Duration = std::time::Duration::from_secs(14 * 24 * 60 * 60);
/// The longest state that is looked at.
const LONGEST: usize = 1_024;
/// What the signature is for, so that no other signature by the same key is taken for one.
const PURPOSE: &[u8] = b"permafresh consent state v1\n";

/// What a link was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The customer's tenant, lower-case.
    #[serde(rename = "t")]
    pub tenant_id: String,
    /// Until when, in seconds since 1970.
    #[serde(rename = "e")]
    pub expires: i64,
    /// Makes each link another.
    #[serde(rename = "n")]
    pub nonce: String,
}

/// Why a state is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidState {
    /// It was not made by us, or changed on its way.
    #[error("the link is not one of ours")]
    Forged,
    /// It is too old.
    #[error("the link has expired")]
    Expired,
}

/// The key that signs states (`CONSENT_STATE_KEY`).
pub struct StateKey(hmac::Key);

impl StateKey {
    /// The key made of a secret text.
    pub fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// The state as it goes into a link.
    pub fn sign(&self, state: &State) -> String {
        let payload = serde_json::to_vec(state).expect("strings and a number always serialise");
        let signature = hmac::sign(&self.0, &[PURPOSE, &payload].concat());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(signature))
    }

    /// What a state says, if it is ours and not too old. The signature is compared in constant time, and before anything
    /// else is read.
    ///
    /// # Errors
    /// [`InvalidState`].
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<State, InvalidState> {
        let parts = text.split_once('.').filter(|_| text.len() <= LONGEST).ok_or(InvalidState::Forged)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidState::Forged);
        let (payload, signature) = (decode(parts.0)?, decode(parts.1)?);
        hmac::verify(&self.0, &[PURPOSE, &payload].concat(), &signature).map_err(|_| InvalidState::Forged)?;
        let state: State = serde_json::from_slice(&payload).map_err(|_| InvalidState::Forged)?;
        if state.expires < now.timestamp() { Err(InvalidState::Expired) } else { Ok(state) }
    }
}

impl std::fmt::Debug for StateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateKey(redacted)")
    }
}

/// The link of the v2 endpoint, which comes back to `redirect` with `state`. `resource` is what is consented to.
pub fn admin_consent(
    authority: &Url,
    tenant: &str,
    client_id: &str,
    resource: &str,
    redirect: &str,
    state: &str,
) -> Url {
    let mut link = at(authority, &format!("{tenant}/v2.0/adminconsent"));
    link.query_pairs_mut()
        .append_pair("client_id", client_id)
        .append_pair("scope", &format!("{}/.default", resource.trim_end_matches('/')))
        .append_pair("redirect_uri", redirect)
        .append_pair("state", state);
    link
}

/// The plain link, after which nobody tells us anything: for where there is no public address.
pub fn plain_admin_consent(authority: &Url, tenant: &str, client_id: &str) -> Url {
    let mut link = at(authority, &format!("{tenant}/adminconsent"));
    link.query_pairs_mut().append_pair("client_id", client_id);
    link
}

/// A path below a base address.
pub(super) fn at(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a-key-of-more-than-32-characters-for-tests";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).unwrap()
    }

    fn state() -> State {
        State { tenant_id: "a4f0e2d1-77aa-4b31-9f2e-5c6d7e8f9a01".into(), expires: 1_000, nonce: "n".into() }
    }

    #[test]
    fn a_state_is_believed_until_its_last_second() {
        let key = StateKey::new(KEY);
        let text = key.sign(&state());
        assert_eq!(key.verify(&text, at(1_000)), Ok(state()));
        assert_eq!(key.verify(&text, at(1_001)), Err(InvalidState::Expired));
    }

    #[test]
    fn a_state_of_another_key_or_with_one_bit_changed_is_not_ours() {
        let key = StateKey::new(KEY);
        let text = key.sign(&state());
        assert_eq!(
            StateKey::new("another-key-of-more-than-32-characters").verify(&text, at(0)),
            Err(InvalidState::Forged)
        );
        for position in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(key.verify(&changed, at(0)), Err(InvalidState::Forged), "position {position}");
        }
        for bad in ["", ".", "a.b", "a", "ü.ü", &"x".repeat(5_000)] {
            assert_eq!(key.verify(bad, at(0)), Err(InvalidState::Forged), "{bad:.20}");
        }
        assert_eq!(format!("{key:?}"), "StateKey(redacted)");
    }

    #[test]
    fn a_link_carries_each_part_encoded() {
        let authority = "https://login.microsoftonline.com".parse().unwrap();
        let link = admin_consent(
            &authority,
            "t",
            "c",
            "https://management.azure.com/",
            "https://x.example/api/consent/callback",
            "a.b",
        );
        assert_eq!(
            link.as_str(),
            "https://login.microsoftonline.com/t/v2.0/adminconsent?client_id=c&scope=https%3A%2F%2Fmanagement.azure.com%2F.default&redirect_uri=https%3A%2F%2Fx.example%2Fapi%2Fconsent%2Fcallback&state=a.b"
        );
        assert_eq!(
            plain_admin_consent(&authority, "t", "c").as_str(),
            "https://login.microsoftonline.com/t/adminconsent?client_id=c"
        );
    }
}
