//! What Entra's token endpoint says when it gives no token, and what follows from it (contracts/access.md §2.4).
//!
//! Pure. The OAuth word decides whose business it is; numbers only refine it, since Microsoft says that they change. An
//! unknown number falls back to the word, an unknown word to the HTTP status. Entra's texts are never kept: they may name
//! users, and what matters is in the words.

use std::time::Duration;

use serde::Deserialize;

/// What follows from a refused token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// Nothing is wrong with us: again, later.
    Retry,
    /// The refresh token is of no use any more: a person signs in again, and until then all GDAP work stops.
    SignInAgain,
    /// The customer's tenant has not consented to our app: ask for consent, then once more.
    Consent,
    /// The resource has no service principal in the customer's tenant (contracts/access.md §2.7).
    ServicePrincipal,
    /// The customer's conditional access does not admit us: park this customer.
    CustomerPolicy,
    /// The tenant does not exist, or our user has no place there: look at the GDAP relationship.
    Relationship,
    /// Our registration or our credential is wrong: stop, since it fails everywhere.
    Misconfigured,
}

/// An error of the token endpoint, reduced to words and numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Entra answered {status} {}{}", word(code), of(numbers))]
pub struct OAuthError {
    /// The HTTP status.
    pub status: u16,
    /// `error`, if it could be read.
    pub code: Option<String>,
    /// `suberror`, if there is one.
    pub suberror: Option<String>,
    /// The AADSTS numbers: `error_codes`, or the one that begins the text.
    pub numbers: Vec<u32>,
    /// The wait that Entra named.
    pub wait: Option<Duration>,
}

fn word(code: &Option<String>) -> &str {
    code.as_deref().unwrap_or("with what is no OAuth error")
}

fn of(numbers: &[u32]) -> String {
    numbers.iter().map(|number| format!(" AADSTS{number}")).collect()
}

/// The longest word that is taken over; OAuth's are shorter.
const LONGEST_WORD: usize = 64;

#[derive(Deserialize)]
struct Body {
    error: Option<String>,
    suberror: Option<String>,
    #[serde(default)]
    error_codes: Vec<serde_json::Value>,
    error_description: Option<String>,
}

impl OAuthError {
    /// Reads an answer without a token. Whatever it is, it becomes an error that says what to do.
    pub fn read(status: u16, wait: Option<Duration>, body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            return Self { status, code: None, suberror: None, numbers: Vec::new(), wait };
        };
        let is_number = |value: &serde_json::Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let mut numbers: Vec<u32> = body.error_codes.iter().filter_map(is_number).collect();
        if numbers.is_empty() {
            numbers.extend(body.error_description.as_deref().and_then(first_number));
        }
        Self { status, code: tame(body.error), suberror: tame(body.suberror), numbers: numbers, wait }
    }

    /// What follows.
    pub fn reaction(&self) -> Reaction {
        let by_number = self.numbers.iter().find_map(|number| of_number(*number));
        let by_suberror = || self.suberror.as_deref().and_then(of_suberror);
        let code = self.code.as_deref().unwrap_or_default();
        // A client that is refused is our own affair, a wait that is named is not, whatever the number.
        if self.status == 429 || self.status >= 500 {
            return Reaction::Retry;
        }
        by_number.or_else(by_suberror).or_else(|| of_word(code)).unwrap_or(match self.status {
            408 => Reaction::Retry,
            // A proxy's page, a maintenance notice: nothing is known, so nothing is given up.
            200..=399 => Reaction::Retry,
            _ if self.code.is_none() => Reaction::Retry,
            _ => Reaction::Misconfigured,
        })
    }
}

/// A word as OAuth spells them, and nothing else.
fn tame(word: Option<String>) -> Option<String> {
    word.filter(|word| {
        (1..=LONGEST_WORD).contains(&word.len())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    })
}

fn first_number(text: &str) -> Option<u32> {
    let digits = text.split_once("AADSTS")?.1;
    digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}

/// The numbers of contracts/access.md §2.4.
fn of_number(number: u32) -> Option<Reaction> {
    Some(match number {
        // Expired, unused for too long, revoked, invalid; MFA needed, which only a new sign-in brings.
        70_008 | 700_082 | 50_173 | 70_000 | 50_076 | 50_079 => Reaction::SignInAgain,
        70_043 | 53_003 => Reaction::CustomerPolicy,
        65_001 | 700_016 => Reaction::Consent,
        500_011 | 650_052 => Reaction::ServicePrincipal,
        650_057 | 7_000_215 | 7_000_222 => Reaction::Misconfigured,
        90_002 | 50_020 => Reaction::Relationship,
        90_006 | 90_024 | 90_012 => Reaction::Retry,
        _ => return None,
    })
}

/// `suberror`, as Microsoft's own libraries read it.
fn of_suberror(suberror: &str) -> Option<Reaction> {
    Some(match suberror {
        "consent_required" => Reaction::Consent,
        "bad_token" | "token_expired" | "user_password_expired" => Reaction::SignInAgain,
        "protection_policy_required" | "unauthorized_client" => Reaction::CustomerPolicy,
        _ => return None,
    })
}

fn of_word(code: &str) -> Option<Reaction> {
    Some(match code {
        // The most likely meaning for one customer alone is that this customer does not admit us; it must not stop all.
        "invalid_grant" | "interaction_required" | "login_required" | "access_denied" => Reaction::CustomerPolicy,
        "consent_required" => Reaction::Consent,
        "invalid_client" | "unauthorized_client" | "invalid_scope" | "invalid_request" | "unsupported_grant_type" => {
            Reaction::Misconfigured
        }
        "invalid_resource" => Reaction::ServicePrincipal,
        "temporarily_unavailable" | "server_error" => Reaction::Retry,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reaction as R;

    fn read(status: u16, body: &str) -> OAuthError {
        OAuthError::read(status, None, body.as_bytes())
    }

    #[test]
    fn every_number_of_the_contract_has_its_reaction() {
        for (numbers, expected) in [
            (&[70_008, 700_082, 50_173, 70_000, 50_076, 50_079][..], R::SignInAgain),
            (&[70_043, 53_003], R::CustomerPolicy),
            (&[65_001, 700_016], R::Consent),
            (&[500_011, 650_052], R::ServicePrincipal),
            (&[650_057, 7_000_215, 7_000_222], R::Misconfigured),
            (&[90_002, 50_020], R::Relationship),
            (&[90_006, 90_024, 90_012], R::Retry),
        ] {
            for number in numbers {
                let by_list = read(400, &format!(r#"{{"error":"invalid_grant","error_codes":[{number}]}}"#));
                assert_eq!(by_list.reaction(), expected, "{number}");
                let text = format!(r#"{{"error":"invalid_grant","error_description":"AADSTS{number}: words"}}"#);
                assert_eq!(read(400, &text).reaction(), expected, "{number} in the text alone");
            }
        }
    }

    #[test]
    fn what_has_no_known_number_goes_by_its_word_and_then_by_its_status() {
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_grant","suberror":"consent_required","error_codes":[1]}"#, R::Consent),
            (400, r#"{"error":"invalid_grant","suberror":"bad_token"}"#, R::SignInAgain),
            (400, r#"{"error":"invalid_grant","error_codes":[999999]}"#, R::CustomerPolicy),
            (400, r#"{"error":"interaction_required"}"#, R::CustomerPolicy),
            (401, r#"{"error":"invalid_client"}"#, R::Misconfigured),
            (400, r#"{"error":"invalid_resource"}"#, R::ServicePrincipal),
            (400, r#"{"error":"temporarily_unavailable"}"#, R::Retry),
            (400, r#"{"error":"never_heard_of"}"#, R::Misconfigured),
            (400, r#"{"error":7}"#, R::Retry),
            (403, "<html>a proxy</html>", R::Retry),
            (200, r#"{"access_tok"#, R::Retry),
            (302, "", R::Retry),
            (408, "", R::Retry),
            (429, r#"{"error":"invalid_grant","error_codes":[70008]}"#, R::Retry),
            (503, r#"{"error":"invalid_client"}"#, R::Retry),
        ] {
            assert_eq!(read(status, body).reaction(), expected, "{status} {body}");
        }
    }

    #[test]
    fn nothing_of_entras_text_is_kept() {
        let error = read(
            400,
            r#"{"error":"invalid_grant","error_codes":["x",65001,-1],"error_description":"AADSTS65001: user anna@fabrikam.example 0.AXoA"}"#,
        );
        assert_eq!(error.to_string(), "Entra answered 400 invalid_grant AADSTS65001");
        assert!(!format!("{error:?}").contains("anna"));
        let odd = read(400, r#"{"error":"<script>","suberror":"a b"}"#);
        assert_eq!((odd.code, odd.suberror), (None, None));
    }
}
