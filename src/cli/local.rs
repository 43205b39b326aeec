//! `permafresh local`: the service on this machine, with an embedded Functions host and an embedded store.
//!
//! Listens on loopback only. stdout gets one line, once it serves; everything else goes to stderr.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Exit, Failure};
use super::script_root::ScriptRoot;
use super::{output, wiring};
use crate::clock::{Clock, SystemClock};
use crate::functions::dashboard;
use crate::host::{FunctionKeys, Host, HostConfig, LineSink, RunningHost};
use crate::secret::others_can_read;
use crate::settings::{self, Secret, Settings, StateStore, named_by_functions};
use crate::telemetry::{self, Format, Reader};

const EXAMPLES: &str = "\
Examples:
  permafresh local
  ARM_ENDPOINT=http://127.0.0.1:4000 permafresh local --port 0

Settings come from the environment, then from local.settings.json in the script root, then from
their defaults.";

/// How long what runs may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Run the service on this machine, with an embedded Functions host and an embedded store
///
/// Prints one line on stdout when it serves: `listening http://127.0.0.1:PORT`. Ends with Ctrl-C; everything is kept and
/// goes on at the next start.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LocalArgs {
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 7071)]
    port: u16,
    /// Script root: folder with host.json and functions/ [default: the current folder if it is one, else the built-in one]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Form of the log
    #[arg(long, value_name = "FORM", default_value = "text")]
    log_format: Format,
}

/// Everything that is decided before the host starts.
#[derive(Debug)]
pub struct LocalService {
    /// `host.json` and the functions.
    pub script_root: ScriptRoot,
    /// Every setting by name, defaults that the host resolves included: what the handler gets as its environment.
    pub values: BTreeMap<String, String>,
    /// The same, read.
    pub settings: Settings,
    /// The function keys.
    pub keys: Vec<Secret>,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// The form of the handler's log.
    pub log_format: Format,
}

/// Serves until Ctrl-C.
pub async fn run(args: LocalArgs) -> Result<Exit, Failure> {
    telemetry::start(Reader::Terminal(args.log_format), None);
    serve(prepare(&args, settings::environment())?).await
}

/// Starts the embedded host, prints the line with its address, and serves until Ctrl-C or until the host gives up.
async fn serve(service: LocalService) -> Result<Exit, Failure> {
    let host = start_host(&service, LineSink::new(|line| output::say(line.text))).await?;
    say_dashboard(&service.settings, host.local_addr().port());
    print_listening(host.local_addr().port())?;
    let mut terminate = signal(SignalKind::terminate())
        .context("cannot listen for the signal to end")
        .map_err(|error| Failure::new(error, "start it again"))?;
    tokio::select! {
        reason = host.stopped() => {
            host.shutdown(GRACE).await;
            Err(Failure::new(anyhow::anyhow!("the host stopped: {reason}"), "the lines above say why; correct it and start again"))
        }
        _ = tokio::signal::ctrl_c() => end(host).await,
        _ = terminate.recv() => end(host).await,
    }
}

async fn end(host: RunningHost) -> Result<Exit, Failure> {
    output::say("ending what runs");
    host.shutdown(GRACE).await;
    Ok(Exit::Success)
}

/// Starts the embedded host over the script root, with this program as the handler.
pub async fn start_host(service: &LocalService, sink: LineSink) -> Result<RunningHost, Failure> {
    let start = async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // The handler opens the store too, but would be started in vain again and again where that cannot be done.
        let (queue, store) = wiring::host_parts(&service.settings, Arc::clone(&clock))?;
        store.create_tables().await?;
        let state = wiring::beside_store(&service.settings, ".host");
        let (root, functions) = (service.script_root.path().to_owned(), service.script_root.functions());
        let mut config = HostConfig::new(root, functions, state, queue, clock);
        config.settings = handler_environment(service)?;
        config.port = service.port;
        config.keys = FunctionKeys::new(service.keys.iter().cloned());
        config.sink = sink;
        Ok::<_, anyhow::Error>(Host::start(config).await?)
    };
    let host = start.await.map_err(|error| Failure::new(error, "correct what is named, and start again"))?;
    let in_error = host.functions_in_error();
    if in_error.is_empty() {
        return Ok(host);
    }
    let errors: Vec<_> = in_error.iter().map(ToString::to_string).collect();
    let error = anyhow::anyhow!("functions cannot be loaded: {}", errors.join("; "));
    host.shutdown(Duration::ZERO).await;
    Err(Failure::new(error, "correct their settings; every setting is in local.settings.sample.json").exit(Exit::Usage))
}

/// The settings as the handler gets them. The handler is this very program, wherever the script root is, and the paths of
/// the settings are as seen from here.
fn handler_environment(service: &LocalService) -> anyhow::Result<BTreeMap<String, String>> {
    let mut values = service.values.clone();
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    values.insert(
        "AzureFunctionsJobHost__customHandler__description__defaultExecutablePath".to_owned(),
        program.display().to_string(),
    );
    // Else the handler would go by FUNCTIONS_WORKER_RUNTIME, which local settings name for Azure's own tools.
    let format = match service.log_format {
        Format::Json => "--log-format=json",
        Format::Text => "--log-format=text",
    };
    values.insert("AzureFunctionsJobHost__customHandler__description__arguments__1".to_owned(), format.to_owned());
    let full = |path: &Path| {
        let path =
            std::path::absolute(path).with_context(|| format!("cannot find the full path of {}", path.display()))?;
        Ok::<_, anyhow::Error>(path.display().to_string())
    };
    if let StateStore::Sqlite { path } = &service.settings.store.state_store {
        values.insert("STATE_STORE".to_owned(), format!("sqlite:{}", full(path)?));
    }
    values.insert("LOCAL_QUEUE".to_owned(), full(&wiring::queue_file(&service.settings))?);
    Ok(values)
}

/// Says where the dashboard is, if anybody is let in. Its key is no part of the address, which a browser remembers.
pub(super) fn say_dashboard(settings: &Settings, port: u16) {
    if settings.dashboard.key.is_some() {
        output::say(&format!("  dashboard    http://127.0.0.1:{port}{}", dashboard::HOME));
    }
}

/// The line that says where the service is: the only one on stdout.
pub fn print_listening(port: u16) -> Result<(), Failure> {
    output::print(&format!("listening http://127.0.0.1:{port}\n"))
}

fn prepare(args: &LocalArgs, environment: BTreeMap<String, String>) -> Result<LocalService, Failure> {
    let script_root = script_root(args.root.as_deref())?;
    let values = with_defaults(environment, local_settings(script_root.path())?);
    Ok(LocalService { log_format: args.log_format, ..from_values(script_root, values, args.port)? })
}

/// A service over the built-in script root with these settings and nothing else but defaults.
pub(super) fn built_in(values: BTreeMap<String, String>, port: u16) -> Result<LocalService, Failure> {
    from_values(written_out()?, with_defaults(values, BTreeMap::new()), port)
}

fn from_values(script_root: ScriptRoot, values: BTreeMap<String, String>, port: u16) -> Result<LocalService, Failure> {
    let settings = wiring::settings(&values)?;
    let keys = function_keys(&settings)?;
    Ok(LocalService { script_root, values, settings, keys, port, log_format: Format::Text })
}

fn written_out() -> Result<ScriptRoot, Failure> {
    ScriptRoot::written_out()
        .context("cannot write host.json and the functions to a temporary folder")
        .map_err(|error| Failure::new(error, "check the free space and the rights of the temporary folder"))
}

fn script_root(named: Option<&Path>) -> Result<ScriptRoot, Failure> {
    if let Some(path) = named {
        return ScriptRoot::at(path).ok_or_else(|| {
            let error = anyhow::anyhow!("there is no host.json in {}", path.display());
            Failure::new(error, "give a folder with host.json and functions/, or leave --root out").exit(Exit::Usage)
        });
    }
    match ScriptRoot::at(Path::new(".")) {
        Some(root) => Ok(root),
        None => written_out(),
    }
}

/// The values of `local.settings.json` in the script root, as Azure's own tools read it; none if it is not there.
pub(super) fn local_settings(root: &Path) -> Result<BTreeMap<String, String>, Failure> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct LocalSettings {
        #[serde(default)]
        is_encrypted: bool,
        #[serde(default)]
        values: BTreeMap<String, String>,
    }
    let path = root.join("local.settings.json");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text.context("cannot open it"),
    };
    let settings = text.and_then(|text| serde_json::from_str::<LocalSettings>(&text).context("it is not settings"));
    match settings {
        Ok(LocalSettings { is_encrypted: false, values }) => Ok(values),
        Ok(_) => Err(anyhow::anyhow!("its values are encrypted")),
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot read {}", path.display()))
    .map_err(|error| Failure::new(error, "correct it after local.settings.sample.json, or remove it").exit(Exit::Usage))
}

/// The environment wins over the file, and what a function.json names is there in any case.
fn with_defaults(environment: BTreeMap<String, String>, file: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut values = file;
    values.extend(environment);
    for (name, default) in named_by_functions() {
        let value = values.entry(name.to_owned()).or_default();
        if value.trim().is_empty() {
            default.clone_into(value);
        }
    }
    values
}

/// The keys of the setting, or those in the file beside the store, which is made if it is not there.
fn function_keys(settings: &Settings) -> Result<Vec<Secret>, Failure> {
    if !settings.host.function_keys.is_empty() {
        return Ok(settings.host.function_keys.clone());
    }
    let file = wiring::beside_store(settings, ".keys");
    let key = key_in_file(&file).with_context(|| format!("cannot keep a function key in {}", file.display()));
    let key = key.map_err(|error| Failure::new(error, "set LOCAL_FUNCTION_KEYS, or check the rights of the folder"))?;
    output::say(&format!("function key: in {} (use it with --key-file)", file.display()));
    Ok(vec![key])
}

fn key_in_file(path: &Path) -> anyhow::Result<Secret> {
    use std::io::{Read as _, Write as _};
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(mut file) => {
            // Two random UUIDs: 244 bits from the system's source of randomness.
            let key = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
            writeln!(file, "{key}")?;
            file.sync_all()?;
            Ok(Secret::new(key))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut file = std::fs::File::open(path)?;
            anyhow::ensure!(!others_can_read(&file)?, "others can read the file; its rights should be 0600");
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let key = text.lines().map(str::trim).find(|line| !line.is_empty()).context("the file holds no key")?;
            Ok(Secret::new(key))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_defaults_fill_the_rest() {
        let environment = map(&[("POLL_SCHEDULE", "*/1 * * * * *"), ("MODE", "observe")]);
        let file = map(&[("POLL_SCHEDULE", "0 * * * * *"), ("SYNC_SCHEDULE", ""), ("RETENTION_DAYS", "7")]);
        let values = with_defaults(environment, file);
        for (name, expected) in [
            ("POLL_SCHEDULE", "*/1 * * * * *"),
            ("MODE", "observe"),
            ("RETENTION_DAYS", "7"),
            ("SYNC_SCHEDULE", "0 30 2 * * *"),
            ("ROLLOUT_QUEUE", "rollouts"),
        ] {
            assert_eq!(values[name], expected, "{name}");
        }
    }

    #[test]
    fn a_key_is_made_once_kept_to_ourselves_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db.keys");
        let first = key_in_file(&path).unwrap();
        assert_eq!(first.expose().len(), 64);
        assert!(first.matches(key_in_file(&path).unwrap().expose()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            mode(0o644);
            assert!(key_in_file(&path).unwrap_err().to_string().contains("0600"));
            mode(0o600);
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(key_in_file(&path).is_err());
    }

    #[test]
    fn a_service_is_prepared_from_a_folder_and_its_settings() {
        let root = ScriptRoot::written_out().unwrap();
        let store = root.path().join("state.db");
        let settings =
            format!(r#"{{"IsEncrypted": false, "Values": {{"STATE_STORE": "sqlite:{}"}}}}"#, store.display());
        std::fs::write(root.path().join("local.settings.json"), settings).unwrap();
        let args = LocalArgs { port: 0, root: Some(root.path().to_owned()), log_format: Format::Text };
        let service = prepare(&args, map(&[("MODE", "observe")])).unwrap();
        assert_eq!(service.settings.store.state_store, StateStore::Sqlite { path: store.clone() });
        assert_eq!(service.settings.mode, settings::Mode::Observe);
        assert_eq!(service.keys.len(), 1);
        assert!(store.with_file_name("state.db.keys").is_file());
        let own = prepare(&args, map(&[("LOCAL_FUNCTION_KEYS", "aaaaaaaaaaaaaaaa,bbbbbbbbbbbbbbbb")])).unwrap();
        assert_eq!(own.keys.len(), 2);
        std::fs::write(root.path().join("local.settings.json"), "{").unwrap();
        assert_eq!(prepare(&args, map(&[])).unwrap_err().exit, Exit::Usage);
    }
}
