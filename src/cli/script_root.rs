//! `host.json` and `functions/*/function.json`, carried in the binary so that it runs from any folder.
//!
//! A test keeps this table equal to the files of the repository.

use std::path::{Path, PathBuf};

/// Every file of the script root, by its path in it.
pub const FILES: &[(&str, &str)] = &[
    ("host.json", include_str!("../../host.json")),
    ("functions/Consent/function.json", include_str!("../../functions/Consent/function.json")),
    ("functions/Dashboard/function.json", include_str!("../../functions/Dashboard/function.json")),
    ("functions/Deployments/function.json", include_str!("../../functions/Deployments/function.json")),
    ("functions/Notification/function.json", include_str!("../../functions/Notification/function.json")),
    ("functions/OfferPublishes/function.json", include_str!("../../functions/OfferPublishes/function.json")),
    ("functions/Offers/function.json", include_str!("../../functions/Offers/function.json")),
    ("functions/Operations/function.json", include_str!("../../functions/Operations/function.json")),
    ("functions/PlanRollout/function.json", include_str!("../../functions/PlanRollout/function.json")),
    ("functions/PollOperations/function.json", include_str!("../../functions/PollOperations/function.json")),
    ("functions/RefreshDeployment/function.json", include_str!("../../functions/RefreshDeployment/function.json")),
    ("functions/RenewTokens/function.json", include_str!("../../functions/RenewTokens/function.json")),
    ("functions/Rollouts/function.json", include_str!("../../functions/Rollouts/function.json")),
    ("functions/ScheduledRefresh/function.json", include_str!("../../functions/ScheduledRefresh/function.json")),
    ("functions/SyncDeployments/function.json", include_str!("../../functions/SyncDeployments/function.json")),
    ("functions/WatchOffers/function.json", include_str!("../../functions/WatchOffers/function.json")),
];

/// A folder with `host.json` and `functions/`.
#[derive(Debug)]
pub struct ScriptRoot {
    path: PathBuf,
    /// Removed with the folder in it when dropped, where it was written out.
    _written: Option<tempfile::TempDir>,
}

impl ScriptRoot {
    /// Writes the embedded files to a temporary folder that lives as long as the value.
    pub fn written_out() -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("permafresh-").tempdir()?;
        write_to(folder.path())?;
        Ok(Self { path: folder.path().to_owned(), _written: Some(folder) })
    }

    /// The folder `path`, if it holds a `host.json`.
    pub fn at(path: &Path) -> Option<Self> {
        path.join("host.json").is_file().then(|| Self { path: path.to_owned(), _written: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the folders of the functions are: in `functions/` as in the repository, or beside `host.json` as in a package.
    pub fn functions(&self) -> PathBuf {
        let inner = self.path.join("functions");
        if inner.is_dir() { inner } else { self.path.clone() }
    }
}

/// Writes the embedded files into `folder`, which exists.
pub fn write_to(folder: &Path) -> std::io::Result<()> {
    for (path, text) in FILES {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn files_of_the_repository() -> BTreeMap<String, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| (path.to_owned(), std::fs::read_to_string(root.join(path)).unwrap());
        let mut files = BTreeMap::from([read("host.json")]);
        for folder in std::fs::read_dir(root.join("functions")).unwrap() {
            let folder = folder.unwrap();
            for file in std::fs::read_dir(folder.path()).unwrap() {
                let (folder, file) = (folder.file_name(), file.unwrap().file_name());
                files.extend([read(&format!("functions/{}/{}", folder.display(), file.display()))]);
            }
        }
        files
    }

    #[test]
    fn the_embedded_files_are_those_of_the_repository() {
        let embedded: BTreeMap<_, _> =
            FILES.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert_eq!(embedded, files_of_the_repository());
    }

    #[test]
    fn a_written_root_is_a_root_and_goes_with_its_value() {
        let root = ScriptRoot::written_out().unwrap();
        let path = root.path().to_owned();
        let again = ScriptRoot::at(&path).unwrap();
        assert_eq!(std::fs::read_dir(again.functions()).unwrap().count(), FILES.len() - 1);
        drop(root);
        assert!(!path.exists());
        assert!(ScriptRoot::at(&path).is_none());
    }
}
