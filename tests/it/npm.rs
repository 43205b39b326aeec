//! Parts of tests that come from npm: installed on first use, exactly as their `package-lock.json` says, below the build's
//! own folder. Without Node.js, npm and the registry the tests that need them fail: they are never skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uuid::Uuid;

/// The folder in which what `sources` locks is installed. Moved there when it is complete, so that test processes may do it
/// at once.
pub fn installed(sources: &Path) -> PathBuf {
    let lock = std::fs::read(sources.join("package-lock.json")).unwrap();
    let (of, version) = (sources.file_name().unwrap().to_string_lossy(), Uuid::new_v5(&Uuid::NAMESPACE_OID, &lock));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{of}-{version}"));
    if folder.is_dir() {
        return folder;
    }
    let unfinished = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(sources.join(file), unfinished.path().join(file)).unwrap();
    }
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(unfinished.path())
        .stdout(Stdio::null())
        .status()
        .expect("npm is needed: it comes with Node.js");
    assert!(npm.success(), "npm could not install what tests/{of}/package-lock.json names");
    if std::fs::rename(unfinished.path(), &folder).is_err() {
        assert!(folder.is_dir(), "what was installed could not be moved to {}", folder.display());
    }
    folder
}
