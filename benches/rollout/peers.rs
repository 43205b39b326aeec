//! Others who do the same rollout, against a fresh simulator each: the bare loop, one deployment after the other as a
//! script around `az rest` does it, and the Azure SDK for Python. Each is a process of its own that says itself what it took.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::azure::{self, Azure, Seen, Simulator};
use crate::process::{self, Process};

/// The threads of the pool, as many as Permafresh makes calls at once.
const THREADS: usize = 64;

/// What somebody took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Took {
    /// From the first deployment to the last, in seconds.
    pub wall: f64,
    /// Processor time of all its processes, in seconds.
    pub cpu: f64,
    /// The most memory they had together, in MiB.
    pub peak_mib: f64,
}

impl Took {
    /// What this process has taken, `wall` seconds of it for the work.
    pub fn by_this_process(wall: f64) -> anyhow::Result<Self> {
        let id = std::process::id();
        Ok(Self { wall, cpu: process::cpu(id)?.as_secs_f64(), peak_mib: process::peak_mib(id)? })
    }
}

/// The bare loop: the same calls at once, no state.
pub async fn bare_loop(azure: &Azure, at_once: usize) -> anyhow::Result<(Took, Seen)> {
    let simulator = Simulator::start(azure)?;
    let arguments = ["--bare-loop".to_owned(), azure.argument(), at_once.to_string(), simulator.greeting_text()?];
    let output = Process::this_program("the bare loop", &arguments)?.output()?;
    Ok((serde_json::from_str(&output)?, simulator.stats().await?))
}

/// One deployment after the other: POST, sleep as long as `Retry-After` says, look, until it has ended.
pub async fn one_by_one(azure: &Azure) -> anyhow::Result<(Took, Seen)> {
    let simulator = Simulator::start(azure)?;
    let arguments = ["--one-by-one".to_owned(), azure.argument(), simulator.greeting_text()?];
    let output = Process::this_program("the loop of one by one", &arguments)?.output()?;
    Ok((serde_json::from_str(&output)?, simulator.stats().await?))
}

/// The mode `--one-by-one`. Kinder than `az rest`: its connection stays open, and no program is started for each call.
pub async fn run_one_by_one(arguments: &[String]) -> anyhow::Result<()> {
    let azure = Azure::from_arguments(arguments)?;
    let caller = azure::Caller::new(arguments.get(1).context("where Azure is was not said")?, 1).await?;
    let begin = Instant::now();
    for number in 0..azure.applications {
        let monitor = caller.post(&azure.application_id(number)).await?;
        loop {
            tokio::time::sleep(azure.retry_after).await;
            if caller.has_ended(&monitor).await? {
                break;
            }
        }
    }
    println!("{}", serde_json::to_string(&Took::by_this_process(begin.elapsed().as_secs_f64())?)?);
    Ok(())
}

/// The Azure SDK for Python with a pool of threads and its own poller; installed on its first use.
pub async fn python(azure: &Azure) -> anyhow::Result<(Took, Seen)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/rollout/python");
    let python = installed(&folder)?;
    let simulator = Simulator::start(azure)?;
    let applications = (0..azure.applications).map(|number| azure.application_id(number)).collect::<Vec<_>>();
    let token = azure::token(simulator.greeting()).await?;
    let task =
        json!({"endpoint": simulator.endpoint(), "token": token, "threads": THREADS, "applications": applications});
    let mut child = Command::new(python)
        .arg(folder.join("rollout.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start Python")?;
    serde_json::to_writer(child.stdin.take().context("no standard input")?, &task)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("the Azure SDK for Python ended with {}", output.status);
    }
    Ok((serde_json::from_slice(&output.stdout)?, simulator.stats().await?))
}

fn installed(folder: &Path) -> anyhow::Result<PathBuf> {
    let environment = crate::target_folder()?.join("bench-python/venv");
    let python = environment.join("bin/python");
    let mut import = Command::new(&python);
    import.args(["-c", "import azure.mgmt.managedapplications"]).stderr(Stdio::null());
    if !import.status().is_ok_and(|status| status.success()) {
        eprintln!("installing the Azure SDK for Python …");
        let status = Command::new(folder.join("install.sh")).arg(&environment).status()?;
        if !status.success() {
            bail!("the Azure SDK for Python could not be installed");
        }
    }
    Ok(python)
}
