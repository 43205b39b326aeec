//! Child processes, and what `/proc` says of them. Knows nothing of what they do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What `/proc/PID/stat` counts CPU time in: always a hundredth of a second on Linux's usual machines.
const TICK: Duration = Duration::from_millis(10);

/// A child process that ends with this value, and whatever it started with it.
pub struct Process {
    child: Child,
    name: &'static str,
}

impl Process {
    /// Starts `command`; its standard output is read by [`Process::first_line`] or dropped.
    pub fn start(name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { child, name })
    }

    /// Starts this program again in another mode.
    pub fn this_program(name: &'static str, arguments: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        Self::start(name, Command::new(program).args(arguments).stdout(Stdio::piped()))
    }

    /// The first line it prints, without the prefix `expected`. The rest is read and dropped, so that it never blocks.
    pub fn first_line(&mut self, expected: &str) -> anyhow::Result<String> {
        let output = self.child.stdout.take().with_context(|| format!("{}'s output was read before", self.name))?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let Some(value) = line.trim_end().strip_prefix(expected) else {
            bail!("{} printed {line:?} instead of {expected:?} first", self.name)
        };
        let value = value.to_owned();
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Ok(value)
    }

    /// All it prints until it ends.
    pub fn output(mut self) -> anyhow::Result<String> {
        let output = self.child.stdout.take().with_context(|| format!("{}'s output was read before", self.name))?;
        let text = std::io::read_to_string(output)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        Ok(text)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The one process it has started and that still runs.
    pub fn only_child(&self) -> anyhow::Result<u32> {
        match children(self.id()).as_slice() {
            [child] => Ok(*child),
            others => bail!("{} has {} processes under it instead of one", self.name, others.len()),
        }
    }

    /// Asks it to end, and waits until it has.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.end_gently().with_context(|| format!("end {}", self.name))
    }

    fn end_gently(&mut self) -> anyhow::Result<()> {
        let below = children(self.id());
        signal("-TERM", self.id())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.child.try_wait()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        // A handler left behind would go on working in the middle of the next measurement.
        for child in below.into_iter().filter(|child| Path::new(&format!("/proc/{child}")).exists()) {
            signal("-KILL", child)?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) && self.end_gently().is_err() {
            eprintln!("{} may still be running", self.name);
        }
    }
}

/// CPU time a process has had so far, user and system.
pub fn cpu(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("read the CPU time of a process")?;
    // The name, in parentheses, may hold spaces; `utime` and `stime` are the 12th and 13th field behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).context("read a CPU time");
    Ok(TICK * (ticks(11)? + ticks(12)?))
}

/// Resident memory of a process now, in MiB.
pub fn resident_mib(process: u32) -> anyhow::Result<f64> {
    memory_mib(process, "VmRSS:")
}

/// The most it had since its start, or since [`forget_peak`], in MiB.
pub fn peak_mib(process: u32) -> anyhow::Result<f64> {
    memory_mib(process, "VmHWM:")
}

/// Counts the peak of a process from now on.
pub fn forget_peak(process: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5").context("forget the most memory of a process")
}

/// The load of the machine, averaged over the last minute.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("?").to_owned()
}

fn memory_mib(process: u32, which: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("read the memory of a process")?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)).context("a process without memory")?;
    let kib = line.trim().trim_end_matches(" kB").parse::<f64>()?;
    Ok(kib / 1024.0)
}

/// The machine in a few words.
pub fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, {} GiB, Linux {}", kib.unwrap_or_default() / (1024 * 1024), kernel.trim())
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        // A child that has ended and was not waited for yet is no longer one.
        let runs = fields.next().is_some_and(|state| state != "Z");
        runs && fields.next().and_then(|id| id.parse::<u32>().ok()) == Some(parent)
    };
    processes.filter(is_child).collect()
}

fn signal(name: &str, process: u32) -> anyhow::Result<()> {
    Command::new("kill").arg(name).arg(process.to_string()).status()?;
    Ok(())
}
