//! Why just-in-time access came to nothing, and what each of them means for a customer: text, and the code that goes with it.

use serde::{Deserialize, Serialize};

use super::RemoteError;
use super::jit::{Approval, is_missing_p2};

/// Where requests are approved, both ways (contracts/access.md §4.4).
pub const WHERE: &str = "in the Azure portal, on the managed application under JIT Access > Approve Requests, or in Microsoft Entra \
     Privileged Identity Management under Approve requests > Azure managed applications";

/// Why there is no access just in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Trouble {
    /// Our own settings name no principal.
    NotSetUp,
    /// The deployment has no just-in-time access.
    NotEnabled,
    /// The plan gives the publisher no access, so there is nothing to raise.
    Unmanaged,
    /// The plan does not list our principal.
    PrincipalNotAuthorized {
        /// The principal.
        principal_id: String,
    },
    /// The plan lists our principal with another role.
    RoleNotAuthorized {
        /// The role.
        role_id: String,
    },
    /// The customer's longest window is too short for a refresh.
    WindowTooShort {
        /// As Azure spells it.
        maximum: String,
    },
    /// We may not even read the application.
    Unreadable {
        /// Azure's code.
        code: String,
        /// Azure's words.
        message: String,
    },
    /// Nobody knows where to file it.
    NoGroup,
    /// Nobody knows the region to name.
    NoLocation,
    /// As many were filed in a day as an application gets.
    TooMany,
    /// The tenant has no licence for it.
    NoP2,
    /// We may not file one.
    NotPermitted {
        /// Azure's words.
        message: String,
    },
    /// Azure does not take it.
    NotTaken {
        /// Azure's code.
        code: String,
        /// Azure's words.
        message: String,
    },
    /// An approver said no.
    Denied,
    /// Azure could not carry it out.
    Failed {
        /// Azure's words, where it gave any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// It was canceled or deleted.
    Withdrawn,
    /// Azure ended it: its window passed.
    Expired,
    /// Azure ended it: nobody answered.
    TimedOut,
    /// Nobody answered for 24 hours.
    Unanswered,
}

impl Trouble {
    /// Why a filing that Azure refused came to nothing.
    pub fn not_taken(error: RemoteError) -> Self {
        if is_missing_p2(&error) {
            return Self::NoP2;
        }
        match error.status {
            Some(401 | 403) => Self::NotPermitted { message: error.message },
            _ => Self::NotTaken { code: error.code, message: error.message },
        }
    }

    /// The code in reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSetUp => "JitNotSetUp",
            Self::NotEnabled => "JitNotEnabled",
            Self::Unmanaged => "JitUnmanaged",
            Self::PrincipalNotAuthorized { .. } => "JitPrincipalNotAuthorized",
            Self::RoleNotAuthorized { .. } => "JitRoleNotAuthorized",
            Self::WindowTooShort { .. } => "JitWindowTooShort",
            Self::Unreadable { .. } => "JitUnreadable",
            Self::NoGroup | Self::NoLocation => "JitApplicationIncomplete",
            Self::TooMany => "JitTooManyRequests",
            Self::NoP2 => "JitNeedsEntraP2",
            Self::NotPermitted { .. } => "JitNotPermitted",
            Self::NotTaken { .. } => "JitNotTaken",
            Self::Denied => "JitDenied",
            Self::Failed { .. } => "JitFailed",
            Self::Withdrawn => "JitCanceled",
            Self::Expired => "JitExpired",
            Self::TimedOut => "JitTimeout",
            Self::Unanswered => "JitUnanswered",
        }
    }

    /// The sentence that a person needs. `request` names the request, where there is one.
    pub fn sentence(&self, request: Option<&str>) -> String {
        let the_request = request
            .map_or_else(|| "the just-in-time request".to_owned(), |name| format!("just-in-time request {name}"));
        match self {
            Self::NotSetUp => "just-in-time access is not set up: the setting JIT_PRINCIPAL_ID is absent".to_owned(),
            Self::NotEnabled => "just-in-time access is not enabled for this deployment, which can only be done while deploying".to_owned(),
            Self::Unmanaged => "the plan gives its publisher no access to this deployment (managementMode is Unmanaged), so there is nothing that \
                 just-in-time access could raise: the customer runs the command, or delegates by Azure Lighthouse"
                .to_owned(),
            Self::PrincipalNotAuthorized { principal_id } => format!(
                "the plan's authorizations do not list the principal {principal_id} itself, and being in a listed group is not enough for \
                 just-in-time access: add it to the plan in a new version"
            ),
            Self::RoleNotAuthorized { role_id } => format!(
                "the plan's authorizations give our principal another role than {role_id}: set JIT_ROLE_ID to one of them, or leave it out"
            ),
            Self::WindowTooShort { maximum } => format!(
                "a refresh takes up to a quarter of an hour, and the customer allows windows of at most {maximum}: ask them to set the \
                 maximum duration under JIT Configuration of the managed application to an hour or more"
            ),
            Self::NoGroup => "Azure does not show the application's managed resource group, in which the request is to be filed: set \
                 JIT_RESOURCE_GROUP"
                .to_owned(),
            Self::NoLocation => "Azure does not show the application's region, which a just-in-time request has to name".to_owned(),
            Self::Unreadable { code, message } => format!(
                "whether there is just-in-time access cannot be seen, since Azure does not show us the application ({code}: {message})"
            ),
            Self::TooMany => "six just-in-time requests were filed for this application within 24 hours, and none of their windows was of use: \
                 look at them with `permafresh jit show`, then file another with `permafresh jit request`"
                .to_owned(),
            Self::NoP2 => format!(
                "{the_request} cannot be approved, since the customer's tenant has no Microsoft Entra ID P2. To recover, assign a licence (a \
                 trial will do), then retry, and approve {WHERE}. Without one the customer runs the command; just-in-time access \
                 cannot be turned off for a deployment that has it"
            ),
            Self::NotPermitted { message } => format!(
                "Azure does not let us file just-in-time requests there ({message}): our identity needs Microsoft.Solutions/jitRequests/* in \
                 that resource group, see JIT_RESOURCE_GROUP"
            ),
            Self::NotTaken { code, message } => format!("Azure did not take {the_request} ({code}): {message}"),
            Self::Denied => format!(
                "an approver of the customer denied {the_request}: ask them why; after a retry they approve the next one {WHERE}, or they \
                 run the command"
            ),
            Self::Failed { message } => format!(
                "{the_request} failed in Azure{}. The most frequent reason is that the customer's tenant has no Microsoft Entra ID P2: \
                 look at it {WHERE}; then retry, or run the command",
                message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default()
            ),
            Self::Withdrawn => format!(
                "{the_request} was canceled, or deleted, before anybody approved it: retry to file a new one, or run the command"
            ),
            Self::Expired => format!(
                "the window of {the_request} passed before anybody approved it: retry when an approver is there, who approves {WHERE}; or \
                 run the command"
            ),
            Self::TimedOut => format!(
                "nobody answered {the_request} in the time that Azure gives: retry when an approver is there, who approves {WHERE}; or run \
                 the command"
            ),
            Self::Unanswered => format!(
                "nobody answered {the_request} for 24 hours: retry when an approver is there, who approves {WHERE}; or run the command"
            ),
        }
    }

    /// The same as an error, for the report.
    pub fn error(&self, request: Option<&str>) -> RemoteError {
        RemoteError { status: None, code: self.code().to_owned(), message: self.sentence(request) }
    }
}

/// Whether a code says that just-in-time access was never a way into a deployment.
pub fn is_no_way(code: &str) -> bool {
    [Trouble::NotSetUp.code(), Trouble::NotEnabled.code()].contains(&code)
}

impl Approval {
    /// Who has to approve a request, and where.
    pub fn who_and_where(&self) -> String {
        let who = match self.approvers.as_slice() {
            _ if self.automatic => return "is approved automatically, which may take minutes".to_owned(),
            [] => "an approver of the customer".to_owned(),
            names => names.join(" or "),
        };
        format!("is to be approved by {who}, {WHERE}")
    }
}
