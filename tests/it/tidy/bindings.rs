//! The bindings under `functions/`, and the sample settings they are resolved from, against the rules of the Functions
//! host and our own (contracts/custom-handler.md §4, design §2 and §8).

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{expect_none, files_below, read, root};

/// Modules of `src/functions` that are no function of their own, and what they are.
const NOT_A_FUNCTION: &[(&str, &str)] = &[
    ("mod", "the router"),
    ("wire", "what the functions share at the wire"),
    ("invocation", "what is under way in each of them"),
];

/// Functions that anybody may call, and what guards them instead of a key.
const ANONYMOUS: &[(&str, &str)] =
    &[("Notification", "the `sig` in its URL"), ("Consent", "a signed state"), ("Dashboard", "its own login")];

#[test]
fn every_binding_is_one_that_the_host_accepts() {
    let good =
        r#"{"bindings": [{"name": "tick", "type": "timerTrigger", "direction": "in", "schedule": "%X_SCHEDULE%"}]}"#;
    assert_eq!(binding_problems("PollOperations", good), [""; 0]);
    let queue = r#"{"bindings": [{"name": "message", "type": "serviceBusTrigger", "direction": "in", "queueName": "%Q%",
        "connection": "ServiceBusConnection", "dataType": "binary"}]}"#;
    assert_eq!(binding_problems("PlanRollout", queue), [""; 0]);
    let http = r#"{"bindings": [
        {"name": "req", "type": "httpTrigger", "direction": "in", "authLevel": "function", "methods": ["get"], "route": "x/{*path}"},
        {"name": "res", "type": "http", "direction": "out"}]}"#;
    assert_eq!(binding_problems("Rollouts", http), [""; 0]);

    for (name, text) in [
        ("_Poll", good.to_owned()),
        ("host", good.to_owned()),
        ("Poll", "not JSON".to_owned()),
        ("Poll", good.replace("bindings", "Bindings")),
        ("Poll", good.replace(r#""tick""#, r#""poll_tick""#)),
        ("Poll", good.replace("timerTrigger", "timer")),
        ("Poll", good.replace("%X_SCHEDULE%", "0 * * * * *")),
        ("Poll", queue.replace("binary", "string")),
        ("Poll", queue.replace("%Q%", "rollouts")),
        ("Poll", http.replace("x/{*path}", "admin/x")),
        ("Poll", http.replace(r#""res""#, r#""REQ""#)),
        ("Poll", http.replace(r#""http""#, r#""serviceBus""#)),
        ("Poll", http.replace(r#""function""#, r#""anonymous""#)),
        ("Notification", http.to_owned()),
    ] {
        assert_eq!(binding_problems(name, &text).len(), 1, "{name}: {text}: {:?}", binding_problems(name, &text));
    }

    expect_none(functions().iter().flat_map(|(name, text)| binding_problems(name, text)));
}

#[test]
fn a_function_s_folder_holds_its_bindings_and_nothing_else() {
    let folder = root().join("functions");
    let files = files_below(&folder).into_iter().map(|path| path.strip_prefix(&folder).unwrap().to_path_buf());
    let stray = files.filter(|path| !(path.components().count() == 2 && path.ends_with("function.json")));
    expect_none(stray.map(|path| format!("functions/{} would be taken for a script by the host", path.display())));
}

#[test]
fn every_function_has_one_module_and_every_module_one_function() {
    let problems = pair_problems(["PollOperations", "Rollouts"], ["mod", "poll_operations", "stray"]);
    assert_eq!(
        problems,
        ["functions/Rollouts has no src/functions/rollouts.rs", "src/functions/stray.rs has no function"]
    );

    let entries = fs::read_dir(root().join("src/functions")).unwrap().map(|entry| entry.unwrap().path());
    let modules = entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect::<BTreeSet<_>>();
    expect_none(pair_problems(functions().iter().map(|(name, _)| name.as_str()), modules.iter().map(String::as_str)));
}

#[test]
fn every_setting_that_a_binding_names_is_in_the_sample_and_in_the_readme() {
    let bindings = r#"{"schedule": "%A_SCHEDULE%", "queueName": "x-%B%-y", "connection": "C", "route": "100%"}"#;
    assert_eq!(settings_named(bindings), ["A_SCHEDULE", "B", "C"].map(str::to_owned).into());

    let sample = serde_json::from_str::<Value>(&read("local.settings.sample.json")).unwrap();
    assert_eq!(sample["IsEncrypted"], false);
    let values = sample["Values"].as_object().unwrap();
    assert!(values.values().all(Value::is_string), "the host takes strings only");
    let readme = read("README.md");
    for (function, text) in functions() {
        for name in settings_named(&text) {
            assert!(values.contains_key(&name), "{function}: local.settings.sample.json has no {name}");
            assert!(readme.contains(&format!("`{name}`")), "{function}: README.md does not explain `{name}`");
        }
    }
    for name in values.keys() {
        assert!(readme.contains(&format!("`{name}`")), "README.md does not explain `{name}` of the sample settings");
    }
}

fn binding_problems(function: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_name(function, "_-") || function.eq_ignore_ascii_case("host") {
        problems.push("is no name for a function".to_owned());
    }
    let parsed = serde_json::from_str::<Value>(text).unwrap_or_default();
    let Some(bindings) = parsed["bindings"].as_array() else {
        problems.push("has no `bindings`".to_owned());
        return problems.iter().map(|problem| format!("{function}: {problem}")).collect();
    };
    let mut names = BTreeSet::new();
    let mut triggers = 0;
    for binding in bindings {
        let text = |key: &str| binding[key].as_str().unwrap_or_default();
        let name = text("name");
        if !is_name(name, "") && name != "$return" {
            problems.push(format!("`{name}` is no name for a binding"));
        }
        if !names.insert(name.to_lowercase()) {
            problems.push(format!("`{name}` is there twice"));
        }
        let kind = text("type");
        triggers += usize::from(kind.ends_with("Trigger"));
        let key = ANONYMOUS.iter().any(|(name, _)| *name == function);
        match kind {
            "httpTrigger" if text("authLevel") != if key { "anonymous" } else { "function" } => {
                problems.push(format!("`authLevel` is {}", text("authLevel")));
            }
            "httpTrigger" if !is_route(text("route")) => problems.push(format!("`{}` is no route", text("route"))),
            "timerTrigger" if !is_setting(text("schedule")) => problems.push("its schedule is no setting".to_owned()),
            "serviceBusTrigger" if !is_setting(text("queueName")) => {
                problems.push("its queue is no setting".to_owned());
            }
            "serviceBusTrigger" if text("connection") != "ServiceBusConnection" || text("dataType") != "binary" => {
                problems.push("its messages would not come as bytes, over our connection".to_owned());
            }
            "httpTrigger" | "timerTrigger" | "serviceBusTrigger" => {}
            "http" if text("direction") == "out" => {}
            // Messages are sent by us: output bindings carry neither an id nor a scheduled time.
            other => problems.push(format!("no binding of type `{other}` is used here")),
        }
    }
    if problems.is_empty() && triggers != 1 {
        problems.push(format!("has {triggers} triggers"));
    }
    problems.iter().map(|problem| format!("{function}: {problem}")).collect()
}

fn pair_problems<'a>(
    functions: impl IntoIterator<Item = &'a str>,
    modules: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let functions = functions.into_iter().map(|name| (snake_case(name), name)).collect::<Vec<_>>();
    let is_function = |module: &&str| !NOT_A_FUNCTION.iter().any(|(name, _)| name == module);
    let modules = modules.into_iter().filter(is_function).collect::<BTreeSet<_>>();
    let without_module = functions.iter().filter(|(snake, _)| !modules.contains(snake.as_str()));
    let without_function = modules.iter().filter(|module| !functions.iter().any(|(snake, _)| snake == *module));
    without_module
        .map(|(snake, name)| format!("functions/{name} has no src/functions/{snake}.rs"))
        .chain(without_function.map(|module| format!("src/functions/{module}.rs has no function")))
        .collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn is_name(text: &str, also: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

fn is_route(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default().to_lowercase();
    !first.starts_with("admin") && !first.starts_with("runtime") && !text.starts_with('/') && !text.is_empty()
}

fn is_setting(text: &str) -> bool {
    text.len() > 2 && text.starts_with('%') && text.ends_with('%') && text.matches('%').count() == 2
}

/// What the host looks up before a function can run: `%NAME%` anywhere in a text, and the connection.
fn settings_named(text: &str) -> BTreeSet<String> {
    fn look(key: &str, value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::String(text) if key == "connection" => _ = into.insert(text.clone()),
            Value::String(text) => {
                let parts = text.split('%').collect::<Vec<_>>();
                let whole = parts.len() - usize::from(parts.len() % 2 == 0);
                into.extend(parts[..whole].iter().skip(1).step_by(2).map(|&name| name.to_owned()));
            }
            Value::Array(items) => items.iter().for_each(|item| look(key, item, into)),
            Value::Object(members) => members.iter().for_each(|(key, value)| look(key, value, into)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    look("", &serde_json::from_str(text).unwrap(), &mut names);
    names
}

/// Every function by its name, with the text of its `function.json`.
fn functions() -> Vec<(String, String)> {
    let files = files_below(&root().join("functions")).into_iter().filter(|path| path.ends_with("function.json"));
    let functions = files.map(|path| {
        let name = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let text = read(path.strip_prefix(root()).unwrap().to_str().unwrap());
        (name, text)
    });
    let functions = functions.collect::<Vec<_>>();
    assert!(!functions.is_empty(), "there are functions to look at");
    functions
}
