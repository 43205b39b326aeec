//! The form of the repository itself: which module may import which, where the clock is read, what every file begins
//! with, and that bindings, code, settings and README say the same. Each check is shown to fail on a bad sample first.
//!
//! Checks no behaviour.

mod bindings;
mod documents;
mod rust_source;

use std::fs;
use std::path::{Path, PathBuf};

use rust_source::{Token, crate_modules, lines_with, tokens_outside_tests};

/// The layers, from the top. A module imports from its own and from lower ones (design: imports point down only).
const LAYERS: &[&[&str]] = &[
    &["main", "lib", "cli"],
    &["settings", "telemetry"],
    &["host", "functions"],
    &["engine"],
    &["access", "arm", "partner_center", "queue", "store", "webhook"],
    &["sqlite", "metrics"],
    &["clock", "ncrontab", "loopback", "trace"],
    &["timespan", "secret", "lighthouse"],
    &["rollout"],
];

/// Imports from a neighbour in the same layer, and why they are borne. Anything else sideways is an error.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    ("arm", "access", "a call needs a token"),
    ("partner_center", "access", "so does a call there"),
    ("partner_center", "arm", "the same wire, under the same rule about hosts"),
    ("queue", "access", "Service Bus needs a token, and the transport for the old line of the SDK"),
    ("store", "access", "so does Azure Table Storage"),
];

/// How long a file of `src` may be without its unit tests, and a file of tests or benches in all.
const LONGEST_SOURCE: usize = 600;
const LONGEST_TEST: usize = 1_000;

#[test]
fn imports_point_down_only() {
    let upwards = "use crate::{rollout::Refresh, engine::{Engine, host}};";
    assert_eq!(
        import_problems("src/store/sqlite.rs", upwards),
        ["src/store/sqlite.rs:1: store imports engine, which is not below it"]
    );
    assert_eq!(import_problems("src/store/sqlite.rs", "fn f() { super::super::host::run() }").len(), 1);
    assert_eq!(import_problems("src/store/mod.rs", "use crate::queue::Queue;").len(), 1, "a neighbour");
    assert_eq!(import_problems("src/store/mod.rs", "use crate::elsewhere::X;").len(), 1, "no known layer");
    assert_eq!(import_problems("src/engine/mod.rs", "use crate::{arm, store::Store}; // crate::host"), [""; 0]);
    assert_eq!(import_problems("src/arm/mod.rs", "#[cfg(test)] mod tests { use crate::engine::Engine; }"), [""; 0]);

    expect_none(product_files().iter().flat_map(|(path, source)| import_problems(path, source)));
}

#[test]
fn only_the_clock_asks_the_machine_for_the_time() {
    assert_eq!(clock_problems("src/engine/mod.rs", "fn f() -> T { chrono::Utc::now() }").len(), 1);
    assert_eq!(clock_problems("src/engine/mod.rs", "use std::time::SystemTime;").len(), 1);
    assert_eq!(clock_problems("src/engine/mod.rs", "fn f() { Uuid::now_v7(); }").len(), 1);
    assert_eq!(clock_problems("src/engine/mod.rs", "fn f() { clock.now() } // Utc::now()"), [""; 0]);

    expect_none(product_files().iter().flat_map(|(path, source)| clock_problems(path, source)));
    let clock = read("src/clock.rs");
    assert!(!clock_problems("src/elsewhere.rs", &clock).is_empty(), "the exempted file is the one that does it");
}

#[test]
fn every_file_says_first_what_its_one_job_is() {
    assert_eq!(opening_problems("src/a.rs", "use std::fmt;\n//! Later.").len(), 1);
    assert_eq!(opening_problems("src/a.rs", "//!\nuse std::fmt;").len(), 1, "empty");
    assert_eq!(opening_problems("src/a.rs", "//! Keeps the time."), [""; 0]);

    let files = ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect::<Vec<_>>();
    assert!(files.iter().any(|(path, _)| path == "tests/it/tidy.rs"), "this file is among those looked at");
    expect_none(files.iter().flat_map(|(path, source)| opening_problems(path, source)));
}

#[test]
fn no_file_grows_beyond_what_is_read_in_one_go() {
    let long = "fn f() {}\n".repeat(LONGEST_SOURCE + 1);
    assert_eq!(length_problems("src/a.rs", &long).len(), 1);
    assert_eq!(
        length_problems("src/a.rs", &format!("#[cfg(test)]\nmod tests;\n{long}")).len(),
        1,
        "they lie elsewhere"
    );
    assert_eq!(length_problems("tests/it/a.rs", &long), [""; 0]);
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(length_problems("src/a.rs", &tested), [""; 0], "unit tests beside the code do not count");
    assert_eq!(length_problems("src/a/tests.rs", &long), [""; 0]);
    assert_eq!(length_problems("src/a/tests.rs", &"\n".repeat(LONGEST_TEST + 1)).len(), 1);

    let files = ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect::<Vec<_>>();
    expect_none(files.iter().flat_map(|(path, source)| length_problems(path, source)));
}

#[test]
fn nothing_but_a_test_may_stop_the_process() {
    for bad in ["a.unwrap()", "a.unwrap_err()", "panic!(\"x\")", "todo!()", "unimplemented!()", "dbg!(a)", "unsafe {}"]
    {
        assert_eq!(stop_problems("src/a.rs", &format!("fn f() {{ {bad}; }}")).len(), 1, "{bad}");
    }
    assert_eq!(stop_problems("src/a.rs", "#[cfg(test)] mod tests { fn f() { a.unwrap() } }"), [""; 0]);
    assert_eq!(
        stop_problems("src/a.rs", "fn f() { \"panic!()\"; a.unwrap_or(1); std::panic::catch_unwind(g) }"),
        [""; 0]
    );

    expect_none(product_files().iter().flat_map(|(path, source)| stop_problems(path, source)));
}

#[test]
fn no_file_names_a_package_registry_or_a_path_of_one_machine() {
    assert_eq!(word_problems("a.md", concat!("see https://static.cra", "tes.io/x")).len(), 1);
    assert_eq!(word_problems("a.md", concat!("in /ro", "ot/.cargo")).len(), 1);
    assert_eq!(word_problems("a.md", concat!("in '/wo", "rk/main'")).len(), 1);
    assert_eq!(word_problems("a.md", "https://example.org/work/main, and /home/site/wwwroot in Azure"), [""; 0]);

    let files = text_files();
    assert!(files.iter().any(|(path, _)| path == ".ci/run"), "hidden files are looked at too");
    expect_none(files.iter().flat_map(|(path, text)| word_problems(path, text)));
}

#[test]
fn the_readme_and_ci_run_the_same_two_commands() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    let begin = "cargo run -- demo\ncargo test --locked\n";
    assert!(readme.contains(begin), "the README begins with two commands");
    assert!(ci.contains("cargo run --locked -- demo") && ci.contains("cargo test --locked"));
}

#[test]
fn every_setting_is_explained_in_the_readme() {
    let settings =
        documented_settings("const ALL: &[S] = &[with(\"MODE\", \"act\", \"m\"), without(\"NOT_THERE\", \"x\")];");
    assert_eq!(settings, ["MODE", "NOT_THERE"]);
    assert_eq!(missing_from("`MODE` only, and OTHER_NOT_THERE", &settings), ["NOT_THERE"]);

    let settings = documented_settings(&read("src/settings/documentation.rs"));
    assert!(settings.iter().any(|name| name == "STATE_STORE"), "the settings were found");
    let missing = missing_from(&read("README.md"), &settings);
    expect_none(missing.into_iter().map(|name| format!("README.md does not explain `{name}`")));
}

fn import_problems(path: &str, source: &str) -> Vec<String> {
    let importer = path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
    let Some(layer) = layer_of(importer) else { return vec![format!("{path}: {importer} belongs to no layer")] };
    let mut problems = Vec::new();
    for (imported, line) in crate_modules(path, &tokens_outside_tests(path, source)) {
        let allowed = match layer_of(&imported) {
            Some(below) => {
                below > layer
                    || imported == importer
                    || SIDEWAYS.iter().any(|&(from, to, _)| (from, to) == (importer, imported.as_str()))
            }
            None => false,
        };
        if !allowed {
            problems.push(format!("{path}:{line}: {importer} imports {imported}, which is not below it"));
        }
    }
    problems
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn clock_problems(path: &str, source: &str) -> Vec<String> {
    if path == "src/clock.rs" {
        return Vec::new();
    }
    let tokens = tokens_outside_tests(path, source);
    let patterns = ["Utc : : now", "Local : : now", "SystemTime", "now_v7"];
    report(path, &tokens, &patterns, "reads the machine's clock instead of asking the Clock")
}

fn stop_problems(path: &str, source: &str) -> Vec<String> {
    let tokens = tokens_outside_tests(path, source);
    let patterns =
        [". unwrap (", ". unwrap_err (", "panic !", "todo !", "unimplemented !", "dbg !", "unsafe {", "unsafe fn"];
    report(path, &tokens, &patterns, "has no place outside tests")
}

fn report(path: &str, tokens: &[Token], patterns: &[&str], why: &str) -> Vec<String> {
    let found = patterns.iter().flat_map(|pattern| lines_with(tokens, pattern).into_iter().map(move |l| (l, pattern)));
    found.map(|(line, pattern)| format!("{path}:{line}: `{}` {why}", pattern.replace(' ', ""))).collect()
}

fn opening_problems(path: &str, source: &str) -> Vec<String> {
    let opens =
        source.lines().next().is_some_and(|line| line.strip_prefix("//! ").is_some_and(|text| !text.trim().is_empty()));
    if opens { Vec::new() } else { vec![format!("{path} does not begin with `//!` and what it is for")] }
}

fn length_problems(path: &str, source: &str) -> Vec<String> {
    let (lines, at_most) = if is_product(path) {
        let own = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(source);
        (own.lines().count(), LONGEST_SOURCE)
    } else {
        (source.lines().count(), LONGEST_TEST)
    };
    if lines <= at_most { Vec::new() } else { vec![format!("{path} has {lines} lines, and may have {at_most}")] }
}

fn word_problems(path: &str, text: &str) -> Vec<String> {
    // Put together from parts, so that this file does not hold them itself.
    let hosts = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("deb.debian", ".org"),
    ];
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tm", "p/bash_jobs")];
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let host = hosts.iter().find(|host| line.contains(*host));
        let folder = folders.iter().find(|folder| {
            // Only where a path begins: the same letters may well stand inside a URL.
            line.match_indices(*folder)
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "}._-".contains(c)))
        });
        problems.extend(host.or(folder).map(|word| format!("{path}:{number}: `{word}` does not belong in a file")));
    }
    problems
}

/// The names in the list of settings: the first argument of each `with(..)` and `without(..)`.
fn documented_settings(source: &str) -> Vec<String> {
    let tokens = tokens_outside_tests("settings", source);
    let entries =
        tokens.windows(3).filter(|entry| matches!(entry[0].text.as_str(), "with" | "without") && entry[1].text == "(");
    entries.filter_map(|entry| Some(entry[2].text.strip_prefix('"')?.strip_suffix('"')?.to_owned())).collect()
}

fn missing_from(readme: &str, names: &[String]) -> Vec<String> {
    names.iter().filter(|name| !readme.contains(&format!("`{name}`"))).cloned().collect()
}

fn expect_none(problems: impl IntoIterator<Item = String>) {
    let problems = problems.into_iter().collect::<Vec<_>>();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a folder, as paths from the root with `/`, without what is never committed.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths = entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    paths.sort();
    let kept = paths.into_iter().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        !matches!(&*name, ".git" | "target" | "node_modules" | "Cargo.lock" | "local.settings.json")
            && !name.contains(".db")
    });
    kept.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn rust_files(folder: &str) -> Vec<(String, String)> {
    texts(&root().join(folder)).into_iter().filter(|(path, _)| path.ends_with(".rs")).collect()
}

/// Whether a file is part of the program: unit tests in a file of their own are not.
fn is_product(path: &str) -> bool {
    path.starts_with("src/") && !path.ends_with("/tests.rs") && !path.contains("/tests/")
}

fn product_files() -> Vec<(String, String)> {
    rust_files("src").into_iter().filter(|(path, _)| is_product(path)).collect()
}

fn text_files() -> Vec<(String, String)> {
    texts(root())
}

fn texts(folder: &Path) -> Vec<(String, String)> {
    let files = files_below(folder).into_iter();
    let named = files.map(|file| (file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"), file));
    // What is not text is left out.
    named.filter_map(|(path, file)| Some((path, fs::read_to_string(file).ok()?))).collect()
}
