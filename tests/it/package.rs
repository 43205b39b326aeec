//! The package for Azure: what is in the folder and in the zip, that it runs as a script root, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use permafresh::cli::script_root;
use permafresh::clock::{Clock, SystemClock};
use permafresh::host::{FunctionKeys, Host, HostConfig};
use permafresh::queue::embedded::{EmbeddedQueue, EmbeddedQueueConfig};
use permafresh::settings::named_by_functions;
use serde_json::Value;
use tempfile::TempDir;
use zip::ZipArchive;

const BINARY: &str = env!("CARGO_BIN_EXE_permafresh");
const KEY: &str = "a-key-of-the-package-s-test";

fn package(arguments: &[&Path]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("package").args(arguments).env_clear();
    command.output().unwrap()
}

fn flag(name: &str) -> &Path {
    Path::new(name)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A small thing to package where it is never run.
fn small_binary(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("small");
    fs::write(&path, "#!/bin/sh\nexit 1\n").unwrap();
    path
}

/// The files below a folder, by their path in it, with what is in them.
fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            files.extend(files_of(&entry.path()).into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// What the repository says has to be in a package, without the binary.
fn expected() -> BTreeMap<String, Vec<u8>> {
    let files = script_root::FILES.iter();
    files.map(|(path, text)| (path.trim_start_matches("functions/").to_owned(), text.as_bytes().to_vec())).collect()
}

/// A script root that may be spoiled.
fn script_root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    script_root::write_to(root.path()).unwrap();
    root
}

fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn a_package_is_a_folder_and_the_same_zip_beside_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let binary = small_binary(&folder);
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("deep").join("package");
    let output = package(&[flag("--out"), &out, flag("--binary"), &binary]);
    assert!(output.status.success(), "{}", said(&output));
    let zip = out.with_file_name("package.zip");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n{}\n", out.display(), zip.display()));

    let mut files = files_of(&out);
    let in_zip = zip_contents(&zip);
    assert_eq!(
        in_zip.iter().map(|(path, ..)| path).collect::<Vec<_>>(),
        files.keys().collect::<Vec<_>>(),
        "sorted too"
    );
    for (path, mode, bytes) in &in_zip {
        assert_eq!(*mode, Some(if path == "permafresh" { 0o100_755 } else { 0o100_644 }), "{path}");
        assert!(*bytes == files[path], "{path}");
    }
    assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 2, "nothing is left over");
    assert_eq!(files.remove("permafresh").unwrap(), fs::read(&binary).unwrap());
    assert_eq!(files, expected());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&out), mode(&out.join("permafresh"))), (0o755, 0o755));
    }
}

fn zip_contents(path: &Path) -> Vec<(String, Option<u32>, Vec<u8>)> {
    let mut archive = ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    let entries = 0..archive.len();
    let read = |at| {
        let mut entry = archive.by_index(at).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.name().unwrap().into_owned(), entry.unix_mode(), bytes)
    };
    entries.map(read).collect()
}

#[test]
fn the_same_package_is_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let binary = small_binary(&folder);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    for out in [&one, &two] {
        let output = package(&[flag("--out"), out, flag("--binary"), &binary]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("warning: it is no Linux program for x86-64"), "{}", said(&output));
    }
    assert!(fs::read(one.with_extension("zip")).unwrap() == fs::read(two.with_extension("zip")).unwrap());
    let three = folder.path().join("three");
    let output = package(&[flag("--out"), &three, flag("--binary"), &binary, flag("--json")]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["folder"].as_str(), json["zip"].as_str()), (three.to_str(), three.with_extension("zip").to_str()));
    assert_eq!(json["warnings"][0].as_str().map(|warning| warning.contains("x86-64")), Some(true), "{json}");
}

#[test]
fn only_an_earlier_package_is_replaced_and_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let binary = small_binary(&folder);
    let out = folder.path().join("package");
    let again = |force: &[&Path]| package(&[&[flag("--out"), &out, flag("--binary"), &binary], force].concat());
    fs::create_dir(&out).unwrap();
    assert!(again(&[]).status.success(), "an empty folder is in nobody's way");
    let refused = again(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("is there already\nhint: give --force"), "{}", said(&refused));
    fs::remove_dir_all(&out).unwrap();
    assert_eq!(again(&[]).status.code(), Some(1), "the zip is still there");
    assert!(again(&[flag("--force")]).status.success());

    fs::write(&binary, "#!/bin/sh\nexit 2\n").unwrap();
    assert!(again(&[flag("--force")]).status.success());
    assert_eq!(fs::read(out.join("permafresh")).unwrap(), fs::read(&binary).unwrap());

    fs::write(out.join("Rollouts").join("thesis.txt"), "years of work").unwrap();
    let refused = again(&[flag("--force")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("holds Rollouts, which is no part of a package"), "{}", said(&refused));
    assert!(out.join("Rollouts").join("thesis.txt").is_file());
}

#[test]
fn a_script_root_that_would_not_run_is_refused_with_everything_named() {
    let folder = tempfile::tempdir().unwrap();
    let binary = small_binary(&folder);
    let root = script_root();
    let functions = root.path().join("functions");
    let bindings = |name: &str| functions.join(name).join("function.json");
    change(&root.path().join("host.json"), |host| {
        host["customHandler"]["description"]["defaultExecutablePath"] = "bin/handler".into();
        host["customHandler"]["description"]["workingDirectory"] = "bin".into();
        host["functions"] =
            serde_json::json!(["Rollouts", "Deployments", "PlanRollout", "PollOperations", "Notification"]);
    });
    change(&bindings("Deployments"), |json| json["bindings"][0]["name"] = "the_request".into());
    change(&bindings("PollOperations"), |json| json["bindings"][0]["schedule"] = "%NOT_DOCUMENTED%".into());
    change(&bindings("PlanRollout"), |json| json["bindings"][0]["connection"] = "OtherBus".into());
    change(&bindings("Notification"), |json| json["bindings"] = serde_json::json!([]));
    fs::write(functions.join("Rollouts").join("run.sh"), "").unwrap();
    fs::write(functions.join("notes.md"), "").unwrap();
    fs::create_dir(functions.join("Empty")).unwrap();

    let out = folder.path().join("package");
    let output = package(&[flag("--out"), &out, flag("--binary"), &binary, flag("--root"), root.path()]);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    for problem in [
        "host.json: customHandler.description.defaultExecutablePath is \"bin/handler\", and the package holds only \"permafresh\"",
        "host.json: customHandler.description.workingDirectory has to be the script root",
        "host.json: functions limits what is loaded",
        "function Deployments: binding name \"the_request\"",
        "PollOperations: binding tick: schedule: %NOT_DOCUMENTED%",
        "PlanRollout: the connection \"OtherBus\" is no setting",
        "function Notification: exactly one trigger binding is needed, found 0",
        "Rollouts/run.sh: the host would take it for a script",
        "notes.md: is no folder of a function",
        "Empty: has no function.json",
    ] {
        assert!(said.contains(problem), "{problem}\n{said}");
    }
    assert!(!out.exists() && !out.with_extension("zip").exists(), "nothing is written");
}

#[test]
fn a_host_json_or_a_binary_that_is_none_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("package");
    let root = script_root();
    change(&root.path().join("host.json"), |host| host["version"] = "1.0".into());
    let output = package(&[flag("--out"), &out, flag("--root"), root.path()]);
    assert!(said(&output).contains("host.json: version has to be \"2.0\""), "{}", said(&output));
    assert_eq!(output.status.code(), Some(2));
    let nowhere = folder.path().join("nowhere");
    for arguments in
        [[flag("--root"), nowhere.as_path()], [flag("--binary"), &nowhere], [flag("--binary"), folder.path()]]
    {
        let output = package(&[&[flag("--out"), out.as_path()], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(&arguments[1].display().to_string()), "{}", said(&output));
    }
    assert!(!out.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_runs_as_the_script_root_of_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("package");
    let output = package(&[flag("--out"), &out]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).starts_with("The binary needs glibc 2."),
        "its own, read from its headers: {}",
        said(&output)
    );

    // The functions lie beside host.json and nothing says where the handler is, just as in Azure.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let state = folder.path().join("state.db");
    let queue =
        EmbeddedQueue::open(&folder.path().join("state.db.queue"), EmbeddedQueueConfig::default(), clock.clone());
    let mut config =
        HostConfig::new(out.clone(), out.clone(), folder.path().join("host"), Arc::new(queue.unwrap()), clock);
    config.settings = named_by_functions().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    config.settings.insert("STATE_STORE".to_owned(), format!("sqlite:{}", state.display()));
    config.keys = FunctionKeys::new([KEY.to_owned()]);
    let host = Host::start(config).await.unwrap();
    assert!(host.functions_in_error().is_empty(), "{:?}", host.functions_in_error());

    // Whoever was first in this process has installed the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("http://{}/api/rollouts", host.local_addr());
    let answer = reqwest::Client::new().get(url).header("x-functions-key", KEY).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap(), serde_json::json!({"value": []}));
    host.shutdown(Duration::from_secs(5)).await;
}
