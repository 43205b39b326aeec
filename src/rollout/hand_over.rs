//! What a customer has to run where we may not call: the exact command for two shells, how to read the result, and how long
//! that takes.
//!
//! A bare `&` ends a command in every shell, and each quotes it in a way of its own. On Windows `az` is a batch file, so
//! what PowerShell hands over is read once more by cmd, twice within a block in parentheses; elsewhere it is a script, which
//! would take quotes meant for cmd as part of the URL. So the command for PowerShell has no character that any of them
//! minds: it runs in Windows PowerShell 5.1, PowerShell 7 on any system, and cmd.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ApplicationId, Policy, RemoteError, Version};

/// The ways into a customer's tenant, in the words of `OFFERS` (design §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// The publisher's own identity, Lighthouse included.
    Publisher,
    /// App and user, exchanged for the customer's tenant.
    Gdap,
    /// A just-in-time request on top.
    Jit,
    /// The customer runs the command.
    HandOver,
}

impl Way {
    /// Its word in settings, API and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Gdap => "gdap",
            Self::Jit => "jit",
            Self::HandOver => "handOver",
        }
    }
}

/// A refresh put into the customer's hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandOver {
    /// The command for bash, zsh and sh.
    pub bash: String,
    /// The command for PowerShell, in which a bare `&` would end the command.
    pub powershell: String,
    /// Why we could not do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RemoteError>,
}

/// How long the operation takes at most, as a rule (contracts/arm.md §1.2).
pub const EXPECTED: Duration = Duration::from_secs(15 * 60);

/// Reads the operation, in bash, zsh and sh, with its signed URL, byte for byte, in the place of `URL`.
pub const RESULT_BASH: &str = "az rest --method get --url 'URL'";

/// The same in PowerShell. The quotes in it are for cmd, and there only on Windows.
pub const RESULT_POWERSHELL: &str =
    "$url = 'URL'; $q = if ($IsLinux -or $IsMacOS) { '' } else { '\"' }; az rest --method get --url \"$q$url$q\"";

/// How the result is read, in words for the customer.
pub const RESULT: &str = "the command prints the headers of the answer: with 202 Azure has accepted it; put the URL of \
Azure-AsyncOperation (or of Location, where that is missing) in the place of URL in the second command, and run that until \
status is Succeeded, Failed or Canceled; with 200 or 204 it is done at once";

impl HandOver {
    /// The command that brings `version` to the application. An [`ApplicationId`] holds no quote, so both are safe.
    pub fn new(application_id: &ApplicationId, version: Version, error: Option<RemoteError>, policy: &Policy) -> Self {
        let Policy { arm_endpoint, arm_api_version, .. } = policy;
        let url = format!("{}{}/refreshPermissions", arm_endpoint.trim_end_matches('/'), application_id.url_path());
        // The batch file has its arguments within parentheses, which one of theirs would close.
        let plain = url.replace('(', "%28").replace(')', "%29");
        Self {
            bash: format!(
                "az rest --method post --verbose --url '{url}?api-version={arm_api_version}&targetVersion={version}'"
            ),
            powershell: format!(
                "az rest --method post --verbose --url {plain} --uri-parameters api-version={arm_api_version} targetVersion={version}"
            ),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn policy() -> Policy {
        Policy {
            ways: vec![Way::HandOver],
            verify_after_success: true,
            arm_endpoint: "https://management.azure.com/".to_owned(),
            arm_api_version: "2019-07-01".to_owned(),
        }
    }

    /// With every character that a name may have.
    fn hand_over() -> HandOver {
        let id = "/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg_(1).a-b/providers/Microsoft.Solutions/applications/Ledger_(x).1-2";
        HandOver::new(&id.parse().unwrap(), "1.5.0".parse().unwrap(), None, &policy())
    }

    /// The arguments that an `az` gets which does nothing but tell them, one a line.
    fn arguments(shell: &str, command: &str) -> Vec<String> {
        let script = format!("az() {{ printf '%s\\n' \"$@\"; }}\n{command}\n");
        let output = Command::new(shell).args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    const APPLICATION: &str = "https://management.azure.com/subscriptions/a1000000-0000-4000-8000-000000000001/resourceGroups/rg_(1).a-b/providers/Microsoft.Solutions/applications/Ledger_(x).1-2/refreshPermissions";

    #[test]
    fn az_gets_the_whole_url_from_bash_and_from_sh() {
        for shell in ["bash", "sh"] {
            let url = format!("{APPLICATION}?api-version=2019-07-01&targetVersion=1.5.0");
            let wanted = ["rest", "--method", "post", "--verbose", "--url", &url];
            assert_eq!(arguments(shell, &hand_over().bash), wanted, "{shell}");
        }
    }

    #[test]
    fn the_command_for_powershell_has_nothing_that_powershell_or_cmd_minds_and_runs_in_bash_too() {
        let command = hand_over().powershell;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " -_.:/%=".contains(c);
        assert!(command.chars().all(is_plain), "{command}");
        // cmd replaces %NAME% where there is such a variable; none begins with a digit and holds a slash.
        let names = command.split('%').skip(1).collect::<Vec<_>>();
        assert!(names.iter().all(|name| name.starts_with(|c: char| c.is_ascii_digit())), "{command}");
        let got = arguments("bash", &command);
        let url = APPLICATION.replace('(', "%28").replace(')', "%29");
        let wanted = ["rest", "--method", "post", "--verbose", "--url", &url];
        assert_eq!(got[..6], wanted);
        assert_eq!(got[6..], ["--uri-parameters", "api-version=2019-07-01", "targetVersion=1.5.0"]);
    }

    #[test]
    fn a_signed_url_is_read_byte_for_byte() {
        let url = "https://management.azure.com/subscriptions/x/providers/Microsoft.Solutions/locations/WESTEUROPE/operationStatuses/a*b?api-version=2019-07-01&t=638&c=MII-_&s=$x`y`&h=z==";
        for shell in ["bash", "sh"] {
            let got = arguments(shell, &RESULT_BASH.replace("URL", url));
            assert_eq!(got, ["rest", "--method", "get", "--url", url], "{shell}");
        }
    }
}
