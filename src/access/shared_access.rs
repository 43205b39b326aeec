//! Shared access signatures of Service Bus: made from a policy's key, kept for an hour, renewed before they run out.
//!
//! Knows keys of a whole namespace only. Neither key nor signature appears in a `Debug` text or an error.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_core_legacy::auth::Secret as SdkSecret;
use azure_core_legacy::hmac::hmac_sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::credential::NoToken;
use crate::clock::Clock;
use crate::rollout::Timestamp;
use crate::secret::Secret;

/// How long a signature is valid.
pub const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// How long before its end a new one is made; clocks may differ.
pub const MARGIN: Duration = Duration::from_secs(5 * 60);
/// What a URI leaves as it is (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The key of a shared access policy, and the signature made last.
pub struct SharedAccess {
    resource: String,
    key_name: String,
    /// Base64 of the key's text, since that is what the SDK's HMAC decodes.
    key: SdkSecret,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
}

#[derive(Clone)]
struct Held {
    authorization: HeaderValue,
    renew_at: Timestamp,
}

impl SharedAccess {
    /// Signatures for everything below `endpoint`, with the policy `key_name`.
    pub fn new(endpoint: &Url, key_name: &str, key: &str, clock: Arc<dyn Clock>) -> Self {
        // The signature's scope is a prefix, so that one of the namespace serves all its queues.
        let resource = format!("{}/", endpoint.origin().ascii_serialization());
        Self {
            resource: utf8_percent_encode(&resource, ENCODED).to_string(),
            key_name: utf8_percent_encode(key_name, ENCODED).to_string(),
            key: SdkSecret::new(STANDARD.encode(key)),
            clock,
            held: Mutex::default(),
        }
    }

    /// The whole value of an `authorization` header, from the cache while it lasts.
    ///
    /// # Errors
    /// [`NoToken`] if the policy's name or key cannot be used.
    pub fn authorization(&self) -> Result<HeaderValue, NoToken> {
        let now = self.clock.now();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref().filter(|held| now < held.renew_at) {
            return Ok(held.authorization.clone());
        }
        let authorization = self.sign(now)?;
        *held = Some(Held { authorization: authorization.clone(), renew_at: now + (LIFETIME - MARGIN) });
        Ok(authorization)
    }

    /// A new signature, after the last one was refused.
    ///
    /// # Errors
    /// As [`Self::authorization`].
    pub fn fresh(&self) -> Result<HeaderValue, NoToken> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.authorization()
    }

    fn sign(&self, now: Timestamp) -> Result<HeaderValue, NoToken> {
        let failed = |reason: &str| NoToken {
            scope: self.resource.clone(),
            reason: reason.to_owned(),
            advice: "copy the connection string anew from the Azure portal",
        };
        let (resource, key_name) = (&self.resource, &self.key_name);
        let expiry = (now + LIFETIME).timestamp();
        let signature = hmac_sha256(&format!("{resource}\n{expiry}"), &self.key)
            .map_err(|_| failed("nothing can be signed with the key"))?;
        let signature = utf8_percent_encode(&signature, ENCODED);
        let text = format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={key_name}");
        Secret::new(text).into_header().ok_or_else(|| failed("the signature cannot be sent in a header"))
    }
}

impl fmt::Debug for SharedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedAccess").field("key_name", &self.key_name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp::from_timestamp(1_773_144_000, 0).unwrap_or_default()
        }
    }

    #[test]
    fn a_signature_is_what_others_make_of_the_same_key() {
        let endpoint = "https://fabrikam.servicebus.windows.net/".parse().unwrap();
        let access = SharedAccess::new(&endpoint, "send only", "a+key/of=no=account", Arc::new(Noon));
        let value = access.authorization().unwrap();
        // Made with Python's hmac and urllib.
        let expected = "SharedAccessSignature \
            sr=https%3A%2F%2Ffabrikam.servicebus.windows.net%2F&sig=gDg%2FZEURU3dgy2CiSeiSmHh8D01q%2FY97sKYdJjG8LWI%3D&se=1773147600&skn=send%20only";
        assert_eq!(value.to_str().unwrap(), expected);
        assert!(value.is_sensitive());
        assert_eq!(format!("{access:?}"), "SharedAccess { key_name: \"send%20only\", .. }");
    }
}
