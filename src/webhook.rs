//! The outgoing webhook: one signed POST to the address that the operator has configured, and what its answer means.
//!
//! The form is that of Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`, the last
//! `v1,` and the base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`. It follows no redirect, reads nothing of an answer but
//! its status, keeps nothing, and repeats nothing: who calls it does. The address is a secret, and is in no error.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use ring::hmac;
use url::Url;

use crate::rollout::Timestamp;

/// How long the receiver may take; less than the shortest lock of the message that led here.
const TIMEOUT: Duration = Duration::from_secs(15);
/// What a secret in the form of Standard Webhooks begins with.
const ENCODED: &str = "whsec_";

/// Where to tell, and how to sign. The client it is made with must not follow redirects.
pub struct Webhook {
    url: Url,
    key: hmac::Key,
    http: LazyLock<Result<reqwest::Client, String>, MakeClient>,
}

type MakeClient = Box<dyn FnOnce() -> Result<reqwest::Client, String> + Send>;

/// What became of a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The receiver has it.
    Taken,
    /// It has not, as far as we know.
    NotTaken {
        /// Why, in words without the address.
        why: String,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
}

/// A webhook that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWebhook {
    /// The address is no URL.
    #[error("the address of the webhook is not a URL")]
    Url,
    /// The secret says that it is base64, and is not.
    #[error("the secret of the webhook begins with whsec_, and the rest is not base64")]
    Secret,
}

impl Webhook {
    /// A webhook at `url`, signed with `secret`: what follows `whsec_` is base64 of the key, anything else is the key itself.
    /// `http` makes the client when it is needed first.
    ///
    /// # Errors
    /// [`InvalidWebhook`] if either cannot be used.
    pub fn new(
        url: &str,
        secret: &str,
        http: impl FnOnce() -> Result<reqwest::Client, String> + Send + 'static,
    ) -> Result<Self, InvalidWebhook> {
        let url = Url::parse(url).map_err(|_| InvalidWebhook::Url)?;
        let key = key_bytes(secret).ok_or(InvalidWebhook::Secret)?;
        Ok(Self { url, key: hmac::Key::new(hmac::HMAC_SHA256, &key), http: LazyLock::new(Box::new(http)) })
    }

    /// Posts `body`, known to the receiver by `id` however often it comes.
    pub async fn tell(&self, id: &str, body: String, now: Timestamp) -> Told {
        let timestamp = now.timestamp();
        let http = match &*self.http {
            Ok(http) => http,
            Err(why) => return Told::NotTaken { why: why.clone(), wait: None },
        };
        let request = http
            .post(self.url.clone())
            .timeout(TIMEOUT)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.signature(id, timestamp, &body))
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Told::Taken,
            Ok(answer) => {
                let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
                let why = format!("the webhook's receiver answered {}", answer.status().as_u16());
                Told::NotTaken { why, wait: wait.map(Duration::from_secs) }
            }
            Err(error) if error.is_timeout() => {
                Told::NotTaken { why: "the webhook's receiver did not answer in time".to_owned(), wait: None }
            }
            Err(_) => Told::NotTaken { why: "the webhook's receiver cannot be reached".to_owned(), wait: None },
        }
    }

    fn signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook")
    }
}

/// The key of a secret; `None` if it should be base64 and is not, or is empty.
pub fn key_bytes(secret: &str) -> Option<Vec<u8>> {
    let bytes = match secret.strip_prefix(ENCODED) {
        Some(encoded) => STANDARD.decode(encoded).ok()?,
        None => secret.as_bytes().to_vec(),
    };
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example that the libraries of Standard Webhooks share.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let webhook = Webhook::new("https://hooks.example/", secret, || Err("nothing is sent".to_owned())).unwrap();
        assert_eq!(
            webhook.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_is_base64_only_where_it_says_so() {
        assert_eq!(key_bytes("whsec_AAEC"), Some(vec![0, 1, 2]));
        assert_eq!(key_bytes("AAEC"), Some(b"AAEC".to_vec()));
        assert_eq!([key_bytes("whsec_%"), key_bytes("whsec_"), key_bytes("")], [None, None, None]);
    }
}
