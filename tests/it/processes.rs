//! The real binary as processes: each in a folder of its own, with nothing of this machine's environment, waited for by
//! what it says and not by time. Refuses to leave one behind: a test that does fails.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take on a machine that is busy with everything else.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain waited for: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A folder that processes live in, and know by their environment.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder }
    }

    /// A path in the folder that commands run in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_permafresh"));
        command
            .args(arguments)
            .env_clear()
            .envs([self.mark()])
            .current_dir(self.folder.path().join("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The variable by which a process lives here, wherever it was started.
    pub fn mark(&self) -> (String, String) {
        ("TMPDIR".to_owned(), self.folder.path().join("tmp").display().to_string())
    }

    /// The processes that live here: whoever started them, what they have started still has the folder in its environment.
    pub fn processes(&self) -> Vec<Process> {
        let (_, mark) = self.mark();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let read = |name| {
                String::from_utf8_lossy(&std::fs::read(entry.path().join(name)).unwrap_or_default()).into_owned()
            };
            let environment = read("environ");
            // One that has ended, and whose parent has not looked yet, has no environment any more.
            if environment.contains(&mark) {
                let words = read("cmdline").split('\0').map(str::to_owned).collect();
                found.push(Process { id, words, environment });
            }
        }
        found
    }

    pub fn handlers(&self) -> Vec<Process> {
        self.processes()
            .into_iter()
            .filter(|process| process.words.get(1).is_some_and(|word| word == "handler"))
            .collect()
    }

    /// Waits for a handler that is none of `others`.
    pub fn another_handler(&self, others: &[u32]) -> Process {
        until("a handler", || self.handlers().into_iter().find(|process| !others.contains(&process.id)))
    }

    /// What is left in the folder for temporary things.
    pub fn temporary(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("tmp")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// That everything that was started here has ended and has cleaned up.
    pub fn assert_left(&self) {
        until("the end of every process", || self.processes().is_empty().then_some(()));
        assert_eq!(self.temporary(), [""; 0]);
    }

    /// Every file under the folder whose bytes hold `text`.
    pub fn files_with(&self, text: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, text: &[u8], found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, text, found);
                } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text)) {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), text.as_bytes(), &mut found);
        found
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let left = self.processes();
        for process in &left {
            signal(process.id, "KILL");
        }
        let words: Vec<_> = left.iter().map(|process| process.words.join(" ")).collect();
        assert!(left.is_empty() || std::thread::panicking(), "left behind: {words:?}");
    }
}

/// A process that somebody started.
#[derive(Clone, Debug)]
pub struct Process {
    pub id: u32,
    words: Vec<String>,
    environment: String,
}

impl Process {
    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        let value = |pair: &str| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        self.environment.split('\0').find_map(value)
    }
}

pub fn signal(process: u32, name: &str) {
    let done = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).stderr(Stdio::null()).status();
    done.unwrap();
}

/// A command that runs.
pub struct Running {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![
            read(child.stdout.take().unwrap(), Arc::clone(&out)),
            read(child.stderr.take().unwrap(), Arc::clone(&err)),
        ];
        Self { child, out, err, readers }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    pub fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    /// Waits until `look` finds something in stdout and stderr.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&str, &str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Asked first, so that what a process says last counts.
            let ended = self.child.try_wait().unwrap();
            let (out, err) = (self.out(), self.err());
            if let Some(found) = look(&out, &err) {
                return found;
            }
            let late = Instant::now() >= deadline;
            assert!(
                ended.is_none() && !late,
                "in vain waited for {what}; ended {ended:?}, stdout:\n{out}\nstderr:\n{err}"
            );
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits until it has ended, and has said all it had to.
    pub fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end; stdout:\n{}\nstderr:\n{}", self.out(), self.err());
            std::thread::sleep(LOOK_EVERY);
        };
        for reader in self.readers.drain(..) {
            // Whoever inherited the pipe may hold it still; that is found by `Home`.
            until("the end of the output", || reader.is_finished().then_some(()));
        }
        Ended { code: status.code(), signal: status.signal(), out: self.out(), err: self.err() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("process {} said\n{}\n{}", self.id(), self.out(), self.err());
        }
    }
}

/// Runs a command to its end.
pub fn run(command: Command) -> Ended {
    Running::start(command).end()
}

fn read(mut from: impl Read + Send + 'static, to: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut bytes, mut rest) = ([0; 8192], Vec::new());
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            rest.extend_from_slice(&bytes[..count]);
            let whole = match std::str::from_utf8(&rest) {
                Ok(_) => rest.len(),
                Err(error) => error.valid_up_to(),
            };
            let left = rest.split_off(whole);
            to.lock().unwrap().push_str(&String::from_utf8(std::mem::replace(&mut rest, left)).unwrap());
        }
    })
}
