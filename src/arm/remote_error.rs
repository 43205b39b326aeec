//! Errors as ARM reports them, in the body of an answer or of an operation (contracts/arm.md §2.6).
//!
//! Reads leniently: the body may be missing, HTML, or nested. Does not say who has to act: that is the domain's
//! `RemoteError::blame`.

use http::StatusCode;
use serde_json::Value;

use crate::rollout::RemoteError;

/// The code where the body had none.
pub const UNKNOWN: &str = "Unknown";
/// The longest message that is kept, in characters.
pub const LONGEST_MESSAGE: usize = 4_000;
/// How deep nested details are read.
const DEEPEST: usize = 8;

/// The error in the body of an answer with `status`; the status itself where the body says nothing.
pub fn from_answer(status: StatusCode, body: &[u8]) -> RemoteError {
    let parsed = serde_json::from_slice::<Value>(body).unwrap_or_default();
    // ARM wraps its errors in `error`; some providers behind it do not.
    let error = match parsed.get("error") {
        Some(error) => error,
        None => &parsed,
    };
    let (code, message) = read(error);
    RemoteError {
        status: Some(status.as_u16()),
        code: code.unwrap_or_else(|| UNKNOWN.to_owned()),
        message: message.unwrap_or_else(|| format!("ARM answered {status} without an error that can be read")),
    }
}

/// The error of an operation that ended, as the text of its `error` member; `otherwise` is the message if it has none.
pub fn from_operation(error: Option<&str>, otherwise: &str) -> RemoteError {
    let parsed = error.and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default();
    let (code, message) = read(&parsed);
    RemoteError {
        status: None,
        code: code.unwrap_or_else(|| UNKNOWN.to_owned()),
        message: message.unwrap_or_else(|| otherwise.to_owned()),
    }
}

fn read(error: &Value) -> (Option<String>, Option<String>) {
    if let Value::String(message) = error {
        return (None, Some(clipped(message.clone())));
    }
    let mut message = String::new();
    join(error, 0, &mut message);
    (text(error, "code").map(str::to_owned), (!message.is_empty()).then(|| clipped(message)))
}

/// Appends an error's message and those of what it nests, each with its code in front but the outermost.
fn join(error: &Value, depth: usize, joined: &mut String) {
    if depth > DEEPEST || joined.len() > 4 * LONGEST_MESSAGE {
        return;
    }
    if let Some(message) = text(error, "message") {
        if !joined.is_empty() {
            joined.push(' ');
        }
        if let Some(code) = text(error, "code").filter(|_| depth > 0) {
            joined.push_str(code);
            joined.push_str(": ");
        }
        joined.push_str(message);
    }
    let details = error.get("details").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for nested in details.iter().chain(error.get("innererror")) {
        join(nested, depth + 1, joined);
    }
}

fn text<'a>(error: &'a Value, member: &str) -> Option<&'a str> {
    error.get(member)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// Cuts a message to [`LONGEST_MESSAGE`] characters, and says so with its last one.
fn clipped(mut message: String) -> String {
    if let Some((cut, _)) = message.char_indices().nth(LONGEST_MESSAGE - 1)
        && message[cut..].chars().nth(1).is_some()
    {
        message.truncate(cut);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_details_are_joined_into_the_message() {
        let error = from_operation(
            Some(
                r#"{"code":"Conflict","message":"Outer message.","details":[{"code":"RoleAssignmentUpdateNotPermitted",
                "message":"Inner message.","details":[{"code":"PrincipalNotFound","message":"Innermost message."}]}],
                "innererror":{"code":"Example"}}"#,
            ),
            "unused",
        );
        assert_eq!((error.status, error.code.as_str()), (None, "Conflict"));
        assert_eq!(
            error.message,
            "Outer message. RoleAssignmentUpdateNotPermitted: Inner message. PrincipalNotFound: Innermost message."
        );
    }

    #[test]
    fn a_body_that_is_no_error_leaves_the_status() {
        for body in
            ["", "<html>not JSON</html>", "null", "[]", "{}", r#"{"error":null}"#, r#"{"error":{"code":7}}"#, "\u{0}"]
        {
            let error = from_answer(StatusCode::BAD_GATEWAY, body.as_bytes());
            assert_eq!((error.status, error.code.as_str()), (Some(502), UNKNOWN), "{body}");
            assert!(error.message.contains("502"), "{}", error.message);
        }
    }

    #[test]
    fn errors_outside_the_usual_wrapping_are_read_too() {
        let bare = from_answer(StatusCode::BAD_REQUEST, br#"{"code":"BadRequest","message":"text"}"#);
        assert_eq!((bare.code.as_str(), bare.message.as_str()), ("BadRequest", "text"));
        let spelt = from_answer(StatusCode::BAD_REQUEST, br#"{"error":"invalid_request"}"#);
        assert_eq!((spelt.code.as_str(), spelt.message.as_str()), (UNKNOWN, "invalid_request"));
    }

    #[test]
    fn messages_are_cut_at_four_thousand_characters() {
        for (length, kept) in
            [(LONGEST_MESSAGE, LONGEST_MESSAGE), (LONGEST_MESSAGE + 1, LONGEST_MESSAGE), (100_000, LONGEST_MESSAGE)]
        {
            let body = serde_json::json!({"message": "ü".repeat(length)}).to_string();
            let message = from_operation(Some(&body), "").message;
            assert_eq!(message.chars().count(), kept);
            assert_eq!(message.ends_with('…'), length > kept);
        }
    }
}
