//! Turns what the handler put out into messages and an answer for the HTTP caller, traps included. It sends nothing.
//!
//! The rules are those of contracts/custom-handler.md §6.2–6.4: a bare text that happens to be base64 becomes bytes and
//! reaches a queue as the words `System.Byte[]`. Arrays of texts are the way to be left alone.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::value::RawValue;

use super::{
    acceptance::{Envelope, Members},
    indent::indented,
    metadata::{Base64, Output, OutputKind},
};

/// What .NET prints for an array of bytes.
const BYTES_AS_TEXT: &str = "System.Byte[]";

/// As lenient as .NET about the unused bits of the last character.
const DOTNET_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What goes where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Bodies to send, by queue.
    pub messages: Vec<(String, Vec<String>)>,
    /// The answer for the HTTP caller, if the function has an HTTP output.
    pub http: Option<HttpAnswer>,
    /// Names of outputs whose text was taken for base64.
    pub taken_for_base64: Vec<String>,
}

/// What the HTTP caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// An output that makes the invocation fail.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A text in braces or brackets that is not JSON.
    #[error("output {output} looks like JSON but is not")]
    NotJson {
        /// Which output.
        output: String,
    },
    /// An HTTP output that is not an object.
    #[error("output {output} has to be an object with statusCode, body and headers")]
    NotAnAnswer {
        /// Which output.
        output: String,
    },
    /// A status or header that cannot be sent.
    #[error("output {output} has a status or header that cannot be sent")]
    Unsendable {
        /// Which output.
        output: String,
    },
}

/// Works out where everything goes.
///
/// # Errors
/// If an output cannot be sent as it is.
pub fn results(bindings: &[Output], envelope: &Envelope) -> Result<Results, OutputError> {
    let mut results = Results::default();
    if bindings.is_empty() {
        return Ok(results);
    }
    let returned = returned_members(bindings, envelope);
    for binding in bindings {
        let name = &binding.name;
        let own = |members: &'_ [(String, Box<RawValue>)]| {
            members.iter().rev().find(|(member, _)| member == name).map(|(_, value)| value.clone())
        };
        // Members of an object that was returned come without step A.
        let from_return = returned.as_deref().and_then(own);
        let untouched = from_return.is_some();
        let value = match name.as_str() {
            "$return" => envelope.return_value.clone(),
            _ => from_return.or_else(|| envelope.outputs.as_deref().and_then(own)),
        };
        match &binding.kind {
            OutputKind::Http => results.http = Some(http_answer(name, value.as_deref(), envelope)?),
            OutputKind::Queue { queue, base64 } => {
                let Some(value) = value.filter(|value| value.get() != "null") else {
                    continue;
                };
                let base64 = if untouched { Base64::Kept } else { *base64 };
                if base64 == Base64::Decoded && text_of(&value).is_some_and(|text| is_base64(&text)) {
                    results.taken_for_base64.push(name.clone());
                }
                results.messages.push((queue.clone(), messages(name, &value, base64)?));
            }
        }
    }
    Ok(results)
}

/// The members of a returned object, which act as outputs if there is no `$return` binding.
fn returned_members(bindings: &[Output], envelope: &Envelope) -> Option<Vec<(String, Box<RawValue>)>> {
    let bound = bindings.iter().any(|binding| binding.name == "$return");
    let value = envelope.return_value.as_ref().filter(|_| !bound)?;
    serde_json::from_str::<Members>(value.get()).ok().map(|Members(members)| members)
}

/// The bodies one output becomes.
///
/// # Errors
/// If it is a text in braces or brackets that is not JSON.
pub fn messages(output: &str, value: &RawValue, base64: Base64) -> Result<Vec<String>, OutputError> {
    let Some(text) = text_of(value) else {
        return Ok(elements(value));
    };
    if base64 == Base64::Decoded && is_base64(&text) {
        return Ok(vec![BYTES_AS_TEXT.to_owned()]);
    }
    let trimmed = text.trim();
    let looks_like_json = |open, close| trimmed.starts_with(open) && trimmed.ends_with(close);
    if looks_like_json('{', '}') || looks_like_json('[', ']') {
        let parsed: Box<RawValue> =
            serde_json::from_str(trimmed).map_err(|_| OutputError::NotJson { output: output.to_owned() })?;
        return Ok(elements(&parsed));
    }
    Ok(vec![text])
}

/// One message for each item of an array, one for anything else, none for null.
fn elements(value: &RawValue) -> Vec<String> {
    match serde_json::from_str::<Vec<Box<RawValue>>>(value.get()) {
        Ok(items) => items.iter().filter_map(|item| element(item)).collect(),
        Err(_) => element(value).into_iter().collect(),
    }
}

fn element(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        "true" => Some("True".to_owned()),
        "false" => Some("False".to_owned()),
        _ => Some(text_of(value).unwrap_or_else(|| indented(value))),
    }
}

fn text_of(value: &RawValue) -> Option<String> {
    if value.get().starts_with('"') { serde_json::from_str(value.get()).ok() } else { None }
}

/// White space is passed over, and nothing at all is base64 too.
fn is_base64(text: &str) -> bool {
    from_base64(text).is_some()
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let packed: String = text.chars().filter(|character| !matches!(character, ' ' | '\t' | '\r' | '\n')).collect();
    DOTNET_BASE64.decode(packed).ok()
}

fn http_answer(name: &str, value: Option<&RawValue>, envelope: &Envelope) -> Result<HttpAnswer, OutputError> {
    let plain = |body: &'static str| HttpAnswer {
        status: StatusCode::OK,
        headers: if body.is_empty() { Vec::new() } else { vec![text_plain()] },
        body: Bytes::from_static(body.as_bytes()),
    };
    let Some(value) = value else {
        return Ok(plain(if envelope.outputs.is_some() && name != "$return" { "{}" } else { "" }));
    };
    let held;
    let json = match text_of(value) {
        Some(text) if name == "$return" && is_base64(&text) => {
            let body = Bytes::from(from_base64(&text).unwrap_or_default());
            return Ok(HttpAnswer { body, ..plain("") });
        }
        Some(text) => {
            held = text;
            held.as_str()
        }
        None => value.get(),
    };
    let Ok(Members(members)) = serde_json::from_str::<Members>(json) else {
        return Err(OutputError::NotAnAnswer { output: name.to_owned() });
    };
    let member = |wanted: &str| {
        let found = members.iter().rev().find(|(member, _)| member.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| &**value).filter(|value| value.get() != "null")
    };
    let unsendable = || OutputError::Unsendable { output: name.to_owned() };
    let status = member("statusCode").and_then(|value| scalar(value).trim().parse::<u16>().ok());
    let status = StatusCode::from_u16(status.unwrap_or(200)).map_err(|_| unsendable())?;
    let mut headers = Vec::new();
    if let Some(given) = member("headers") {
        let Ok(Members(given)) = serde_json::from_str::<Members>(given.get()) else {
            return Err(unsendable());
        };
        for (name, value) in given {
            let name = HeaderName::try_from(name).map_err(|_| unsendable())?;
            headers.push((name, HeaderValue::try_from(scalar(&value)).map_err(|_| unsendable())?));
        }
    }
    let body = member("body");
    if body.is_some() && !headers.iter().any(|(name, _)| name == header::CONTENT_TYPE) {
        headers.push(text_plain());
    }
    Ok(HttpAnswer { status, headers, body: body.map(scalar).unwrap_or_default().into() })
}

fn text_plain() -> (HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))
}

fn scalar(value: &RawValue) -> String {
    element(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_was_taken_for_base64_is_told_of_but_not_one_in_an_array() {
        let binding = |name: &str, base64| Output {
            name: name.to_owned(),
            kind: OutputKind::Queue { queue: "q".to_owned(), base64 },
        };
        let bindings = [
            binding("bare", Base64::Decoded),
            binding("array", Base64::Decoded),
            binding("binary", Base64::Kept),
            binding("plain", Base64::Decoded),
        ];
        let envelope = serde_json::from_str::<Envelope>(
            r#"{"Outputs": {"bare": "done", "array": ["done"], "binary": "done", "plain": "done!"}}"#,
        );
        let results = results(&bindings, &envelope.expect("this is an envelope")).expect("nothing fails");
        assert_eq!(results.taken_for_base64, ["bare"]);
    }
}
