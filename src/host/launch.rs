//! Turns the handler's description into a command line: executable, arguments, folder, environment. It starts nothing.
//!
//! The odd rules are the real host's (contracts/custom-handler.md §1): arguments are joined with spaces and split
//! again, so one with a space in it becomes two, and `%NAME%` is put in from the environment.

use std::{collections::BTreeMap, convert::Infallible, path::PathBuf, process::Stdio};

use tokio::process::Command;

use super::{
    app_settings::{AppSettings, expand},
    config::HandlerDescription,
};

/// Everything about a start but the port.
#[derive(Clone, Debug)]
pub struct Launch {
    /// How host.json describes the handler.
    pub description: HandlerDescription,
    /// The folder with host.json.
    pub script_root: PathBuf,
    /// The app settings, which become environment variables.
    pub settings: AppSettings,
    /// Tells this host's handler from others.
    pub worker_id: String,
}

impl Launch {
    /// The command that starts the handler on that port. Its output is piped, and it is killed if it is dropped.
    pub fn command(&self, port: u16) -> Command {
        let own = self.own_variables(port);
        let value_of = |name: &str| {
            let set = own.get(name).cloned().or_else(|| self.settings.get(name).map(str::to_owned));
            set.or_else(|| std::env::var(name).ok())
        };
        // In the path an unknown name stays as it is, in the arguments it becomes nothing.
        let executable = infallible(expand(&self.description.executable, |name| Ok(value_of(name))));
        let arguments =
            infallible(expand(&self.description.arguments, |name| Ok(Some(value_of(name).unwrap_or_default()))));
        let in_package = self.description.worker_directory.join(&executable);
        let mut command = Command::new(if in_package.is_file() { in_package } else { PathBuf::from(executable) });
        command
            .args(split_arguments(&arguments))
            .current_dir(&self.description.working_directory)
            .envs(self.settings.given())
            .envs(own)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C is for the host, which lets the handler finish what it is doing before it kills it.
        #[cfg(unix)]
        command.process_group(0);
        command
    }

    fn own_variables(&self, port: u16) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()),
            ("FUNCTIONS_HTTPWORKER_PORT", port.to_string()),
            ("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", self.worker_id.clone()),
            ("FUNCTIONS_HTTPWORKER_ID", self.worker_id.clone()),
            ("FUNCTIONS_APP_ROOT_PATH", self.script_root.to_string_lossy().into_owned()),
        ])
    }
}

fn infallible(expanded: Result<String, Infallible>) -> String {
    match expanded {
        Ok(text) => text,
        Err(never) => match never {},
    }
}

/// Splits as .NET does on Unix: at blanks outside double quotes; backslashes count only before a quote.
fn split_arguments(line: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut argument: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let mut slashes = 1;
                while characters.next_if_eq(&'\\').is_some() {
                    slashes += 1;
                }
                let before_quote = characters.peek() == Some(&'"');
                let kept = if before_quote { slashes / 2 } else { slashes };
                let text = argument.get_or_insert_default();
                text.extend(std::iter::repeat_n('\\', kept));
                if before_quote && slashes % 2 == 1 {
                    text.extend(characters.next());
                }
            }
            '"' => {
                argument.get_or_insert_default();
                // A doubled quote within quotes is one quote.
                if quoted && characters.next_if_eq(&'"').is_some() {
                    argument.get_or_insert_default().push('"');
                } else {
                    quoted = !quoted;
                }
            }
            ' ' | '\t' if !quoted => arguments.extend(argument.take()),
            other => argument.get_or_insert_default().push(other),
        }
    }
    arguments.extend(argument);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_as_dotnet_splits_them() {
        for (line, arguments) in [
            ("", &[][..]),
            ("handler", &["handler"]),
            ("a b  c", &["a", "b", "c"]),
            ("--x \"a b\" c", &["--x", "a b", "c"]),
            ("a\"b c\"d", &["ab cd"]),
            ("\"\"", &[""]),
            ("a\\b", &["a\\b"]),
            ("a\\\"b", &["a\"b"]),
            ("\"a\\\\\" b", &["a\\", "b"]),
            ("\"a\"\"b\"", &["a\"b"]),
        ] {
            assert_eq!(split_arguments(line), arguments, "{line}");
        }
    }

    #[test]
    fn an_executable_is_taken_from_the_worker_directory_only_if_it_is_there() {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        std::fs::write(folder.path().join("present"), "").expect("the folder is ours");
        let mut launch = Launch {
            description: HandlerDescription {
                executable: "%WHICH%".to_owned(),
                arguments: "%WHICH% %ABSENT% port=%FUNCTIONS_CUSTOMHANDLER_PORT%".to_owned(),
                working_directory: folder.path().to_owned(),
                worker_directory: folder.path().to_owned(),
            },
            script_root: folder.path().to_owned(),
            settings: AppSettings::new(BTreeMap::from([("WHICH".to_owned(), "present".to_owned())])),
            worker_id: "w".to_owned(),
        };
        let command = launch.command(7);
        assert_eq!(command.as_std().get_program(), folder.path().join("present"));
        assert_eq!(command.as_std().get_args().collect::<Vec<_>>(), ["present", "port=7"]);

        launch.settings = AppSettings::new(BTreeMap::from([("WHICH".to_owned(), "absent".to_owned())]));
        assert_eq!(launch.command(7).as_std().get_program(), "absent");
    }
}
