//! Writes a package: both parts beside their places first, then moved there, so that there is never half of one.
//!
//! It replaces nothing but a package, and that only if told to: a slip in `--out` must not cost a folder.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::binary::Binary;
use super::contents::{BINARY, Package};

/// What to do with a package that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Keep,
    /// The new one takes its place.
    Replace,
}

/// Where the package is.
#[derive(Debug)]
pub struct Written {
    /// The folder.
    pub folder: PathBuf,
    /// The zip beside it.
    pub zip: PathBuf,
}

/// The package could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is something already.
    #[error("{path} is there already")]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// What is there is no package.
    #[error("{path} holds {stranger}, which is no part of a package, so it is not replaced")]
    NoPackage {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        stranger: String,
    },
    /// The path has no name that could be given to a zip.
    #[error("{path} is no name for a folder")]
    Nameless {
        /// The path.
        path: PathBuf,
    },
    /// A file or folder could not be written.
    #[error("could not write {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The zip could not be written.
    #[error("could not write {path}")]
    Zip {
        /// Which.
        path: PathBuf,
        /// Why.
        source: zip::result::ZipError,
    },
}

impl WriteError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "give --force to replace an earlier package, or name another folder with --out",
            Self::NoPackage { .. } | Self::Nameless { .. } => "name another folder with --out",
            Self::Io { .. } | Self::Zip { .. } => "check the free space and the rights of the folder",
        }
    }
}

/// Writes the folder `out` and the zip beside it.
///
/// # Errors
/// If something is in the way, or cannot be written. Nothing is replaced then, unless moving the new package to its place
/// is what fails.
pub fn write(out: &Path, package: &Package, binary: &Binary, existing: Existing) -> Result<Written, WriteError> {
    let nameless = || WriteError::Nameless { path: out.to_owned() };
    let mut zip_name = out.file_name().ok_or_else(nameless)?.to_owned();
    zip_name.push(".zip");
    let zip = out.with_file_name(zip_name);
    look_for_what_is_in_the_way(out, &zip, existing)?;

    let parent = match out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).map_err(failed(parent))?;
    let folder = tempfile::Builder::new().prefix(".permafresh-").tempdir_in(parent).map_err(failed(parent))?;
    write_folder(folder.path(), package, binary)?;
    let archive = NamedTempFile::new_in(parent).map_err(failed(parent))?;
    write_zip(archive.as_file(), package, binary).map_err(|source| WriteError::Zip { path: zip.clone(), source })?;

    if out.exists() {
        std::fs::remove_dir_all(out).map_err(failed(out))?;
    }
    readable_by_all(folder.path(), 0o755).map_err(failed(out))?;
    std::fs::rename(TempDir::keep(folder), out).map_err(failed(out))?;
    readable_by_all(archive.path(), 0o644).map_err(failed(&zip))?;
    archive.persist(&zip).map_err(|error| failed(&zip)(error.error))?;
    Ok(Written { folder: out.to_owned(), zip })
}

fn look_for_what_is_in_the_way(out: &Path, zip: &Path, existing: Existing) -> Result<(), WriteError> {
    if out.is_dir() {
        let strangers = strangers(out).map_err(failed(out))?;
        match (strangers, existing) {
            (Inside::Nothing, _) | (Inside::Package, Existing::Replace) => {}
            (Inside::Package | Inside::Stranger(_), Existing::Keep) => {
                return Err(WriteError::Exists { path: out.to_owned() });
            }
            (Inside::Stranger(stranger), Existing::Replace) => {
                return Err(WriteError::NoPackage { path: out.to_owned(), stranger });
            }
        }
    } else if out.exists() {
        return Err(WriteError::Exists { path: out.to_owned() });
    }
    if zip.is_dir() || zip.exists() && existing == Existing::Keep {
        return Err(WriteError::Exists { path: zip.to_owned() });
    }
    Ok(())
}

/// What is in a folder.
enum Inside {
    Nothing,
    /// What a package has and nothing else, or an interrupted one's part of that.
    Package,
    /// Something else, by name.
    Stranger(String),
}

fn strangers(folder: &Path) -> io::Result<Inside> {
    let mut inside = Inside::Nothing;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = if entry.file_type()?.is_dir() {
            let mut files = std::fs::read_dir(entry.path())?;
            files.all(|file| file.is_ok_and(|file| file.file_name() == "function.json"))
        } else {
            name == "host.json" || name == BINARY
        };
        if !known {
            return Ok(Inside::Stranger(name));
        }
        inside = Inside::Package;
    }
    Ok(inside)
}

fn write_folder(folder: &Path, package: &Package, binary: &Binary) -> Result<(), WriteError> {
    for (path, bytes) in &package.files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        std::fs::write(&path, bytes).map_err(failed(&path))?;
    }
    let path = folder.join(BINARY);
    std::fs::write(&path, &binary.bytes).map_err(failed(&path))?;
    readable_by_all(&path, 0o755).map_err(failed(&path))
}

/// The same bytes for the same package: sorted, with one fixed time, and with rights that are ours and not this machine's.
fn write_zip(file: &File, package: &Package, binary: &Binary) -> zip::result::ZipResult<()> {
    let mut entries: Vec<_> = package.files.iter().map(|(path, bytes)| (path.as_str(), bytes, 0o644)).collect();
    entries.push((BINARY, &binary.bytes, 0o755));
    entries.sort_unstable_by_key(|(path, ..)| *path);
    let mut zip = ZipWriter::new(BufWriter::new(file));
    for (path, bytes, mode) in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(mode);
        zip.start_file(path, options)?;
        zip.write_all(bytes)?;
    }
    let file = zip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(())
}

#[cfg(unix)]
fn readable_by_all(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn readable_by_all(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError::Io { path, source }
}
