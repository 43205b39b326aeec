//! The app settings as the host sees them: looked up without regard to case, put in for `%NAME%`, laid over host.json.
//!
//! It reads nothing by itself: whoever starts the host says what the settings are (contracts/custom-handler.md §4).

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// The prefix of the settings that override a value of host.json.
const OVERRIDE: &str = "azurefunctionsjobhost__";

/// Settings by name. Values may be secrets, so `Debug` shows only names.
#[derive(Clone, Default)]
pub struct AppSettings {
    given: BTreeMap<String, String>,
    by_lower_name: HashMap<String, String>,
}

/// A name between percent signs that no setting has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("%{name}% is not among the app settings")]
pub struct Unresolved {
    /// The name.
    pub name: String,
}

impl AppSettings {
    /// Keeps the settings.
    pub fn new(given: BTreeMap<String, String>) -> Self {
        let by_lower_name = given.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        Self { given, by_lower_name }
    }

    /// The value under that name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_lower_name.get(&name.to_lowercase()).map(String::as_str)
    }

    /// All of them, as they were given: what the handler gets as its environment.
    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    /// Puts values in for every `%NAME%`, as binding properties want it. A lone percent sign stays.
    ///
    /// # Errors
    /// If a name between two percent signs is not set.
    pub fn resolve(&self, text: &str) -> Result<String, Unresolved> {
        expand(text, |name| match self.get(name) {
            Some(value) => Ok(Some(value.to_owned())),
            None => Err(Unresolved { name: name.to_owned() }),
        })
    }

    /// Lays `AzureFunctionsJobHost__a__b` settings over the parsed host.json; a number addresses a place in an array.
    pub fn lay_over(&self, host_json: &mut Value) {
        for (name, value) in &self.given {
            let Some(path) = name.to_lowercase().strip_prefix(OVERRIDE).map(|_| &name[OVERRIDE.len()..]) else {
                continue;
            };
            put(host_json, &path.split("__").collect::<Vec<_>>(), value);
        }
    }
}

impl std::fmt::Debug for AppSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.given.keys()).finish()
    }
}

/// Puts in what `value_of` says for each `%NAME%`; `None` leaves the text as it is.
///
/// # Errors
/// The first one of `value_of`.
pub fn expand<E>(text: &str, value_of: impl Fn(&str) -> Result<Option<String>, E>) -> Result<String, E> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let Some((name, after_name)) = after.split_once('%') else {
            break;
        };
        out.push_str(before);
        match value_of(name)? {
            Some(value) => {
                out.push_str(&value);
                rest = after_name;
            }
            None => {
                out.push('%');
                out.push_str(name);
                // The closing sign may open the next name.
                rest = &after[name.len()..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn put(at: &mut Value, path: &[&str], text: &str) {
    let Some((first, rest)) = path.split_first() else {
        *at = Value::String(text.to_owned());
        return;
    };
    if let (Value::Array(items), Ok(index)) = (&mut *at, first.parse::<usize>()) {
        if index >= items.len() {
            items.push(Value::Null);
        }
        let last = items.len() - 1;
        put(&mut items[index.min(last)], rest, text);
        return;
    }
    if !at.is_object() {
        *at = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(members) = at {
        let known = members.keys().find(|key| key.eq_ignore_ascii_case(first)).cloned();
        put(members.entry(known.unwrap_or_else(|| (*first).to_owned())).or_insert(Value::Null), rest, text);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> AppSettings {
        AppSettings::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn names_between_percent_signs_are_put_in_wherever_they_stand() {
        let settings = settings(&[("QUEUE", "orders"), ("Empty", "")]);
        for (text, resolved) in [
            ("%QUEUE%", "orders"),
            ("%queue%", "orders"),
            ("a-%QUEUE%-b-%QUEUE%", "a-orders-b-orders"),
            ("100%", "100%"),
            ("%EMPTY%", ""),
            ("plain", "plain"),
        ] {
            assert_eq!(settings.resolve(text).as_deref(), Ok(resolved), "{text}");
        }
        assert_eq!(settings.resolve("x%NOPE%"), Err(Unresolved { name: "NOPE".to_owned() }));
    }

    #[test]
    fn settings_override_host_json_without_regard_to_case() {
        let mut host_json = json!({"extensions": {"serviceBus": {"maxConcurrentCalls": 8}}, "a": ["x", "y"]});
        settings(&[
            ("AzureFunctionsJobHost__extensions__SERVICEBUS__maxConcurrentCalls", "3"),
            ("AzureFunctionsJobHost__functionTimeout", "00:01:00"),
            ("azurefunctionsjobhost__a__1", "z"),
            ("Other__a", "no"),
        ])
        .lay_over(&mut host_json);
        assert_eq!(
            host_json,
            json!({
                "extensions": {"serviceBus": {"maxConcurrentCalls": "3"}},
                "functionTimeout": "00:01:00",
                "a": ["x", "z"]
            })
        );
    }

    #[test]
    fn debug_output_shows_no_values() {
        assert_eq!(format!("{:?}", settings(&[("KEY", "secret")])), r#"{"KEY"}"#);
    }
}
