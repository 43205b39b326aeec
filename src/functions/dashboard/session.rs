//! Sessions of the dashboard: signed, with an end, and kept by nobody but the browser, so that every instance knows them.
//!
//! The keys are derived from `DASHBOARD_KEY`: whoever changes it ends every session. One that is ended by its visitor is noted
//! in the store ([`crate::engine::signed_out`]). Refuses to hold anything else than when a session ends and what tells it
//! apart from others.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::rollout::Timestamp;

/// How long a session lasts, whatever is done in it.
pub const LIFE: Duration = Duration::from_secs(8 * 60 * 60);

/// What signs sessions and their tokens.
pub struct Sessions {
    sessions: hmac::Key,
    tokens: hmac::Key,
}

/// A session that was signed by us and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What is signed: its end and its own random id.
    body: String,
    /// When it ends by itself.
    pub ends_at: Timestamp,
}

impl Session {
    /// What tells it apart from others, and lets nobody in.
    pub fn id(&self) -> String {
        Sha256::digest(&self.body).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Sessions {
    /// What signs with keys derived from `key`.
    pub fn new(key: &str) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let derived = |purpose: &str| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose.as_bytes()).as_ref());
        Self { sessions: derived("permafresh dashboard session 1"), tokens: derived("permafresh dashboard form 1") }
    }

    /// A new session, as the cookie has it.
    pub fn begin(&self, now: Timestamp) -> String {
        // Two random UUIDs: 244 bits from the system's source of randomness.
        let random = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let body = format!("1.{}.{random}", (now + LIFE).timestamp());
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.sessions, body.as_bytes()));
        format!("{body}.{signature}")
    }

    /// The session of a cookie, if it is one of ours and has not ended.
    pub fn known(&self, cookie: &str, now: Timestamp) -> Option<Session> {
        let (body, signature) = cookie.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.sessions, body.as_bytes(), &signature).ok()?;
        let mut parts = body.split('.');
        let ("1", end) = (parts.next()?, parts.next()?.parse::<i64>().ok()?) else { return None };
        let ends_at = Timestamp::from_timestamp(end, 0)?;
        (now < ends_at).then(|| Session { body: body.to_owned(), ends_at })
    }

    /// The token that every form of a session carries.
    pub fn form_token(&self, session: &Session) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.tokens, session.body.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn a_session_is_known_to_whoever_has_the_key_until_it_ends() {
        let cookie = Sessions::new("the key").begin(now());
        let another_instance = Sessions::new("the key");
        let session = another_instance.known(&cookie, now()).unwrap();
        assert!(another_instance.known(&cookie, now() + LIFE - Duration::from_secs(1)).is_some());
        assert_eq!(another_instance.known(&cookie, now() + LIFE), None);
        assert_eq!(Sessions::new("another key").known(&cookie, now()), None, "the key was changed");
        assert_eq!(another_instance.form_token(&session), Sessions::new("the key").form_token(&session));
        assert_ne!(another_instance.form_token(&session), Sessions::new("another key").form_token(&session));
    }

    #[test]
    fn a_session_that_was_changed_is_none() {
        let sessions = Sessions::new("the key");
        let cookie = sessions.begin(now());
        let later = cookie.replacen("1.18", "1.19", 1);
        assert_ne!(later, cookie);
        let unsigned = cookie.rsplit_once('.').unwrap().0.to_owned();
        for wrong in [later, unsigned, String::new(), ".".into(), "1.9999999999.x.".into(), cookie[1..].to_owned()] {
            assert_eq!(sessions.known(&wrong, now()), None, "{wrong}");
        }
    }

    #[test]
    fn every_session_has_a_token_of_its_own_which_does_not_tell_the_session() {
        let sessions = Sessions::new("the key");
        let cookies = [(); 2].map(|()| sessions.begin(now()));
        let [mine, others] =
            cookies.clone().map(|cookie| sessions.form_token(&sessions.known(&cookie, now()).unwrap()));
        assert_ne!(mine, others);
        assert!(!cookies[0].contains(&mine) && sessions.known(&mine, now()).is_none());
        let [id, others_id] = cookies.clone().map(|cookie| sessions.known(&cookie, now()).unwrap().id());
        assert_ne!(id, others_id);
        assert!(!cookies[0].contains(&id));
    }
}
