//! What goes into a package: read from a script root, and checked by the very rules that the embedded host loads it by
//! (contracts/custom-handler.md §4). Nothing is written here.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::super::script_root::ScriptRoot;
use crate::host::app_settings::AppSettings;
use crate::host::config::{ConfigError, HostJson};
use crate::host::metadata::{FunctionError, FunctionProblem, Functions, discover};
use crate::settings::{Settings, named_by_functions};

/// What the binary is called in a package, and so what `host.json` has to start.
pub const BINARY: &str = "permafresh";

/// The files of a package without the binary, by their path in it.
#[derive(Debug)]
pub struct Package {
    /// Their bytes.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// One thing that keeps a script root from running in Azure.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// host.json cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Several things are wrong.
    #[error("{}", .0.join("\n"))]
    Rules(Vec<String>),
}

impl Package {
    /// Reads host.json and each function.json, and checks them with every problem named.
    ///
    /// # Errors
    /// If a file cannot be read, or the host would refuse the whole or a part.
    pub fn read(root: &ScriptRoot) -> Result<Self, Problem> {
        let settings = AppSettings::new(
            named_by_functions().map(|(name, default)| (name.to_owned(), default.to_owned())).collect(),
        );
        let host = HostJson::load(root.path(), &settings)?;
        let folder = root.functions();
        let functions = discover(&folder, &host, &settings).map_err(unreadable(&folder))?;
        let mut problems = executable_problems(&host, root.path());
        problems.extend(function_problems(&functions));
        problems.extend(omitted_problems(&host));
        let inside_root = folder == root.path();
        let mut files = BTreeMap::new();
        let path = root.path().join("host.json");
        files.insert("host.json".to_owned(), std::fs::read(&path).map_err(unreadable(&path))?);
        for name in names(&folder)? {
            let path = folder.join(&name);
            if !path.is_dir() {
                // Beside host.json there are other files, which stay where they are.
                if !inside_root {
                    problems.push(format!("{name}: is no folder of a function"));
                }
                continue;
            }
            let inside = names(&path)?;
            if !inside.iter().any(|file| file == "function.json") {
                if !inside_root {
                    problems.push(format!("{name}: has no function.json"));
                }
                continue;
            }
            for stray in inside.iter().filter(|file| *file != "function.json") {
                problems.push(format!("{name}/{stray}: the host would take it for a script, so it has no place there"));
            }
            if name.eq_ignore_ascii_case(BINARY) {
                problems.push(format!("{name}: is the name of the binary"));
            }
            let file = path.join("function.json");
            let text = std::fs::read(&file).map_err(unreadable(&file))?;
            problems.extend(connection_problems(&name, &text));
            files.insert(format!("{name}/function.json"), text);
        }
        if problems.is_empty() { Ok(Self { files }) } else { Err(Problem::Rules(problems)) }
    }
}

/// `defaultExecutablePath` is looked for in the worker's folder, and left to PATH if it is not there.
fn executable_problems(host: &HostJson, root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let inside = |path: &Path| Some(plain(path.strip_prefix(root).ok()?));
    let handler = &host.handler;
    if inside(&handler.worker_directory.join(&handler.executable)).as_deref() != Some(Path::new(BINARY)) {
        problems.push(format!(
            "host.json: customHandler.description.defaultExecutablePath is {:?}, and the package holds only {BINARY:?}",
            handler.executable
        ));
    }
    if inside(&handler.working_directory).as_deref() != Some(Path::new("")) {
        problems.push("host.json: customHandler.description.workingDirectory has to be the script root".to_owned());
    }
    problems
}

/// The path without `.`; with `..` left in it, so that it equals nothing inside.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

fn function_problems(functions: &Functions) -> Vec<String> {
    let mut problems: Vec<_> = functions.in_error.iter().map(describe).collect();
    if functions.loaded.is_empty() && problems.is_empty() {
        problems.push("there is no function".to_owned());
    }
    problems
}

fn describe(error: &FunctionError) -> String {
    match &error.problem {
        FunctionProblem::Unresolved { name, property, source } => format!(
            "{}: binding {name}: {property}: %{}% is no setting whose value every installation has",
            error.function, source.name
        ),
        _ => error.to_string(),
    }
}

/// `functions` in host.json leaves functions out; in a package that is more likely forgotten than meant.
fn omitted_problems(host: &HostJson) -> Vec<String> {
    let listed = host.functions.is_some();
    listed
        .then(|| "host.json: functions limits what is loaded, and has no place in a package".to_owned())
        .into_iter()
        .collect()
}

/// Every connection has to be a documented setting: the host looks it up by name.
fn connection_problems(function: &str, text: &[u8]) -> Vec<String> {
    let json: Value = serde_json::from_slice(text).unwrap_or_default();
    let bindings = json["bindings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let members = bindings.iter().filter_map(Value::as_object).flatten();
    let connections =
        members.filter(|(key, _)| key.eq_ignore_ascii_case("connection")).filter_map(|(_, name)| name.as_str());
    let unknown = connections.filter(|name| !Settings::ALL.iter().any(|setting| setting.name == *name));
    unknown.map(|name| format!("{function}: the connection {name:?} is no setting")).collect()
}

/// The names of what is in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, Problem> {
    let list = || -> std::io::Result<Vec<String>> {
        let entries = std::fs::read_dir(folder)?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    list().map_err(unreadable(folder))
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Problem {
    let path = path.to_owned();
    move |source| Problem::Unreadable { path, source }
}
