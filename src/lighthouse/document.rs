//! One file as somebody wrote it: its JSON, and whether it is a template or parameters.
//!
//! Takes what Azure's tools take (comments, a byte order mark, unknown members) and refuses what would only cost: files
//! larger than ARM takes, JSON nested without end. Knows no rule.

use serde_json::Value;

use super::finding::{Finding, Severity};

/// The largest file that is read, in bytes; ARM takes templates of 4 MB.
pub const LARGEST: usize = 4 * 1024 * 1024;

/// A file that could be read.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its name, as it was given.
    pub file: String,
    /// What is in it.
    pub value: Value,
    /// What it is.
    pub kind: Kind,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ARM template.
    Template,
    /// A parameter file of ARM: `{"parameters": {"name": {"value": …}}}`.
    Parameters,
    /// The values themselves: `{"managedByTenantId": …, "authorizations": […]}`.
    Values,
}

impl Document {
    /// Reads one; what is wrong with it is a finding `L00`.
    pub fn read(file: &str, text: &[u8]) -> Result<Self, Finding> {
        let refuse = |message: String, fix: &str| Finding {
            severity: Severity::Error,
            rule: "L00",
            file: file.to_owned(),
            path: "$".to_owned(),
            message,
            fix: fix.to_owned(),
        };
        if text.len() > LARGEST {
            return Err(refuse(format!("it is larger than {LARGEST} bytes"), "Azure refuses it too: make it smaller"));
        }
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        if file.to_ascii_lowercase().ends_with(".bicep") || file.to_ascii_lowercase().ends_with(".bicepparam") {
            return Err(refuse("it is Bicep, not JSON".to_owned(), "give what `az bicep build` makes of it"));
        }
        let value: Value = serde_json::from_slice(&without_comments(text))
            .map_err(|error| refuse(format!("it is not JSON: {error}"), "correct the JSON at the place named"))?;
        let kind = kind_of(&value).ok_or_else(|| {
            refuse(
                "it is neither an ARM template nor its parameters".to_owned(),
                "give a template (with `resources`), a parameter file (with `parameters`), or an object with `authorizations`",
            )
        })?;
        Ok(Self { file: file.to_owned(), value, kind })
    }
}

fn kind_of(value: &Value) -> Option<Kind> {
    let object = value.as_object()?;
    let schema = object.get("$schema").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if schema.contains("deploymentparameters.json") {
        Some(Kind::Parameters)
    } else if schema.contains("deploymenttemplate.json") || object.contains_key("resources") {
        Some(Kind::Template)
    } else if object.get("parameters").is_some_and(Value::is_object) {
        Some(Kind::Parameters)
    } else if ["authorizations", "eligibleAuthorizations"].iter().any(|name| object.contains_key(*name)) {
        Some(Kind::Values)
    } else {
        None
    }
}

/// The text with its comments (`//` and `/* */`) made blank, so that places in it stay what they are.
fn without_comments(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    let mut at = 0;
    let mut in_string = false;
    while at < out.len() {
        let next = out.get(at + 1).copied();
        match out[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'/' if !in_string && next == Some(b'/') => {
                while at < out.len() && out[at] != b'\n' {
                    out[at] = b' ';
                    at += 1;
                }
            }
            b'/' if !in_string && next == Some(b'*') => {
                let end = text[at + 2..].windows(2).position(|pair| pair == b"*/").map(|end| at + 2 + end + 2);
                // One that never ends stays, and is not JSON.
                let Some(end) = end else { return out };
                out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_parameters_and_bare_values_are_told_apart() {
        for (text, kind) in [
            (r#"{"$schema": "https://x/2019-08-01/subscriptionDeploymentTemplate.json#"}"#, Kind::Template),
            (r#"{"resources": [], "parameters": {}}"#, Kind::Template),
            (r#"{"$schema": "https://x/2018-05-01/subscriptionDeploymentParameters.json#"}"#, Kind::Parameters),
            (r#"{"parameters": {"authorizations": {"value": []}}}"#, Kind::Parameters),
            (r#"{"authorizations": [], "_note": 1}"#, Kind::Values),
            ("\u{feff}// said first\n{/* \" */ \"resources\": [\"http://x\", \"\\\"//\"] }", Kind::Template),
        ] {
            assert_eq!(Document::read("a.json", text.as_bytes()).unwrap().kind, kind, "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_what_to_do() {
        let deep = "[".repeat(200_000);
        let large = format!("{{\"resources\": [{}]}}", " ".repeat(LARGEST));
        for (text, said) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("{} /* without end", "not JSON"),
            ("\u{0}", "not JSON"),
            ("[]", "neither"),
            ("7", "neither"),
            (r#"{"parameters": []}"#, "neither"),
            (deep.as_str(), "recursion limit"),
            (large.as_str(), "larger than"),
        ] {
            let finding = Document::read("a.json", text.as_bytes()).unwrap_err();
            assert_eq!((finding.rule, finding.file.as_str()), ("L00", "a.json"));
            assert!(finding.message.contains(said) && !finding.fix.is_empty(), "{}", finding.message);
        }
        assert!(Document::read("a.BICEP", b"param x string").unwrap_err().fix.contains("az bicep build"));
    }

    proptest! {
        #[test]
        fn blanking_comments_keeps_every_place_and_leaves_plain_json_alone(text in ".{0,200}") {
            let blank = without_comments(text.as_bytes());
            prop_assert_eq!(blank.len(), text.len());
            let json = serde_json::json!({"a": text}).to_string();
            prop_assert_eq!(without_comments(json.as_bytes()), json.as_bytes());
        }
    }
}
