//! Prints JSON anew with an indent of two, members in their order, as Newtonsoft does. It checks nothing.

use serde_json::value::RawValue;

/// The value, indented. serde_json's own printer would need the value as a tree, which forgets the members' order.
pub fn indented(value: &RawValue) -> String {
    let text = value.get();
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut opened = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let token = match first {
            '"' => string_length(rest),
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(token);
        match first {
            ' ' | '\t' | '\r' | '\n' => {}
            '{' | '[' => {
                out.push(first);
                if !after.trim_start().starts_with(['}', ']']) {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                if !opened {
                    depth = depth.saturating_sub(1);
                    new_line(&mut out, depth);
                }
                out.push(first);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            // Escapes that are not needed go away, as they do when a string is read and printed.
            '"' => match serde_json::from_str::<String>(token).and_then(|text| serde_json::to_string(&text)) {
                Ok(text) => out.push_str(&text),
                Err(_) => out.push_str(token),
            },
            _ => out.push_str(token),
        }
        // White space was written for nobody, so it does not end "just opened".
        opened = matches!(first, '{' | '[') || opened && first.is_ascii_whitespace();
        rest = after;
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// The length of the string at the start, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_keeps_its_order() {
        for (json, expected) in [
            (r#"{"id":1}"#, "{\n  \"id\": 1\n}"),
            (
                r#"{"b":[1,2.50,{"c":null}],"a":"x"}"#,
                "{\n  \"b\": [\n    1,\n    2.50,\n    {\n      \"c\": null\n    }\n  ],\n  \"a\": \"x\"\n}",
            ),
            ("{ }", "{}"),
            ("[ [ ] , { } ]", "[\n  [],\n  {}\n]"),
            (r#"{"a":"{","b":"x\"]"}"#, "{\n  \"a\": \"{\",\n  \"b\": \"x\\\"]\"\n}"),
            (r#""\u00e9\/""#, "\"é/\""),
            ("true", "true"),
        ] {
            let value: Box<RawValue> = serde_json::from_str(json).expect("the table is JSON");
            assert_eq!(indented(&value), expected, "{json}");
        }
    }
}
