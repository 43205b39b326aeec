//! What a customer has to run where we may not call: the exact command, quoted for two shells.

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

impl HandOver {
    /// The command that brings `version` to the application. Both quotings are safe: an [`ApplicationId`] holds no quote.
    pub fn new(application_id: &ApplicationId, version: Version, error: Option<RemoteError>, policy: &Policy) -> Self {
        let url = format!(
            "{}{}/refreshPermissions?api-version={}&targetVersion={version}",
            policy.arm_endpoint.trim_end_matches('/'),
            application_id.url_path(),
            policy.arm_api_version,
        );
        Self {
            bash: format!("az rest --method post --verbose --url '{url}'"),
            // az on Windows is a batch file, so the quotes have to survive a second reading by cmd.
            powershell: format!("az rest --method post --verbose --url '\"{url}\"'"),
            error,
        }
    }
}
