//! A certificate in the place of a client secret: signs the assertion that Microsoft Entra takes for it.
//!
//! The SDK's own certificate credential needs OpenSSL, which neither this binary nor its package carries; signing the
//! assertion takes `ring`, which is here anyway. PEM only, as Key Vault hands a certificate out: certificate and RSA key.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::Clock;

/// How long an assertion lasts, in seconds; Entra advises 5 to 10 minutes.
const LIFETIME: i64 = 300;

/// A certificate and its key, never shown.
#[derive(Clone)]
pub struct ClientCertificate {
    key: Arc<RsaKeyPair>,
    /// SHA-256 of the certificate, as `x5t#S256` has it.
    thumbprint: String,
}

/// Why a text is no certificate that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// No PEM block of a certificate.
    #[error("it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// No PEM block of a key.
    #[error("it holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// Not an RSA key of 2048 bits or more.
    #[error("its private key is not an RSA key of at least 2,048 bits")]
    NotRsa,
}

impl ClientCertificate {
    /// Reads a certificate and its private key, in any order. A `\n` written out counts as the end of a line, since a setting
    /// may have to be one line.
    pub fn from_pem(text: &str) -> Result<Self, InvalidCertificate> {
        let text = text.replace("\\n", "\n");
        let certificate =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| InvalidCertificate::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| InvalidCertificate::NoKey)?;
        let key = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(InvalidCertificate::NotRsa),
        };
        let key = key.map_err(|_| InvalidCertificate::NotRsa)?;
        Ok(Self { key: Arc::new(key), thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)) })
    }

    /// The signed assertion that `client_id` is who asks `audience` for a token, from `now` on, in seconds.
    pub(super) fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        now: i64,
    ) -> Result<String, ring::error::Unspecified> {
        let header = serde_json::json!({"alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint});
        let claims = serde_json::json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": Uuid::new_v4(),
            "nbf": now - 30, "iat": now, "exp": now + LIFETIME,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(redacted)")
    }
}

/// What the SDK's credential asks for an assertion.
#[derive(Clone)]
pub(super) struct Signer {
    pub certificate: ClientCertificate,
    pub client_id: String,
    pub audience: String,
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

#[async_trait]
impl ClientAssertion for Signer {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        self.certificate
            .assertion(&self.client_id, &self.audience, self.clock.now().timestamp())
            .map_err(|_| Error::with_message(ErrorKind::Credential, "the certificate's key could not sign"))
    }
}
