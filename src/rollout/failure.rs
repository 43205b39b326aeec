//! Failures, and who has to act on them.

use serde::{Deserialize, Serialize};

/// The code of the error that stands for a call that was not made, since ARM wants none for the subscription yet.
pub const HELD_BACK: &str = "HeldBack";

/// The code of the failure of a refresh that was put off for so long that nobody was called.
pub const NOT_POSTED: &str = "NotPosted";

/// The code of the error that stands for a polling URL to which no token may go (contracts/arm.md §2.2).
pub const POLLING_URL_REFUSED: &str = "PollingUrlRefused";

/// Who has to act on a failure (design §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Actor {
    /// The publisher's own people: access, configuration, a look by hand.
    Publisher,
    /// The customer: approvals, policies, locks, a busy application.
    Customer,
    /// Microsoft: the platform failed or did not answer.
    Microsoft,
    /// The published version itself: it would fail everywhere.
    Offer,
}

/// Why a refresh ended badly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Who has to act.
    pub actor: Actor,
    /// Azure's error code, or ours where Azure gave none.
    pub code: String,
    /// Azure's message, or ours.
    pub message: String,
}

/// An error as ARM reported it, in the body of an answer or of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteError {
    /// The HTTP status, where the error came with one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The error code, as it was spelt; `Unknown` where the body had none.
    pub code: String,
    /// The message, with those of nested details behind it; at most 4,000 characters.
    pub message: String,
}

/// The code of the error that stands for a call that could not be made for want of a token.
pub const NO_TOKEN: &str = "NoToken";

/// The code of the error of a tenant that has not consented to our app.
pub const CONSENT_MISSING: &str = "ConsentMissing";
/// The code of the error of a tenant in which a service that we ask for is not there.
pub const SERVICE_PRINCIPAL_MISSING: &str = "ServicePrincipalMissing";
/// The code of the error of a tenant whose own rules do not admit us.
pub const CUSTOMER_POLICY: &str = "CustomerPolicy";
/// The code of the error of a tenant that has no GDAP relationship with us.
pub const NO_RELATIONSHIP: &str = "NoRelationship";
/// The code of the error that a person has to sign in for GDAP again.
pub const SIGN_IN_NEEDED: &str = "SignInNeeded";
/// The code of the error that GDAP is not set up, or not rightly.
pub const GDAP_MISCONFIGURED: &str = "GdapMisconfigured";
/// The code of the error that GDAP could not be asked for a token just now.
pub const GDAP_UNAVAILABLE: &str = "GdapUnavailable";
/// The code of the error that there is nothing that could file a just-in-time request.
pub const JIT_UNAVAILABLE: &str = "JitUnavailable";

/// The code of the failure of a refresh whose messages died one after the other.
pub const DEAD_LETTERED: &str = "DeadLettered";

/// In which step an error was met: the same code means another thing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// ARM refused the POST.
    Post,
    /// ARM accepted the POST and the operation ended Failed.
    Operation,
}

impl RemoteError {
    /// Whether it passes by itself: throttled, busy, broken down, or no answer at all. A polling URL that must not be asked
    /// got no answer either, and never will.
    pub fn is_passing(&self) -> bool {
        match self.status {
            Some(status) => matches!(status, 408 | 429 | 500..),
            None => self.code != POLLING_URL_REFUSED,
        }
    }

    /// Whether the call was not made at all, since ARM wants none for the subscription yet.
    pub fn is_held_back(&self) -> bool {
        self.status.is_none() && self.code == HELD_BACK
    }

    /// The failure that this error is, with the one who has to act on it.
    ///
    /// Codes decide (contracts/arm.md §2.6), compared without case. The one exception is the wrong action name: its
    /// code is not documented, only its message is, so the message is read (contracts/arm.md §1.2 and §2.6).
    pub fn blame(self, phase: Phase) -> Failure {
        let actor = if phase == Phase::Operation && unsupported_action(&self.message).is_some() {
            Actor::Offer
        } else {
            self.actor_by_code(phase)
        };
        Failure { actor, code: self.code, message: self.message }
    }

    fn actor_by_code(&self, phase: Phase) -> Actor {
        match self.code.to_ascii_lowercase().as_str() {
            "invalidactionornotaction" | "invalidpermissions" => Actor::Offer,
            "requestdisallowedbypolicy"
            | "scopelocked"
            | "denyassignmentauthorizationfailed"
            | "linkedauthorizationfailed"
            | "readonlydisabledsubscription"
            | "subscriptionnotregistered"
            | "missingsubscriptionregistration"
            | "consentmissing"
            | "serviceprincipalmissing"
            | "customerpolicy"
            | "operationcanceled"
            | "operationcancelled" => Actor::Customer,
            "internalservererror" | "serviceunavailable" | "gatewaytimeout" | "internalerror" | "servertimeout" => {
                Actor::Microsoft
            }
            _ => match (phase, self.status) {
                (_, Some(500..)) => Actor::Microsoft,
                _ => Actor::Publisher,
            },
        }
    }
}

/// The action that a message says no provider offers, without the typographical damage around it.
///
/// Two forms are known: "'X' does not match any of the actions supported by the providers" (the refresh recipe) and
/// "the action 'X' is not offered by any provider". `X` may have spaces after its dots.
pub fn unsupported_action(message: &str) -> Option<String> {
    let lower = message.to_lowercase();
    let says_so = lower.contains("does not match any of the actions")
        || lower.contains("not offered by any provider")
        || lower.contains("actions supported by the providers");
    if !says_so {
        return None;
    }
    message
        .split(['\'', '"', '\u{2018}', '\u{2019}'])
        .map(|quoted| quoted.split_whitespace().collect::<String>())
        .find(|quoted| quoted.contains('/') && quoted.contains('.') && !quoted.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: Option<u16>, code: &str, message: &str) -> RemoteError {
        RemoteError { status, code: code.into(), message: message.into() }
    }

    #[test]
    fn a_wrong_action_name_is_the_offers_whatever_the_code() {
        for (message, action) in [
            (
                "Refresh permissions for application App failed with exception 'Microsoft. KeyVauIt/vauIts/secrets/getSecret/action' does not match any of the actions supported by the providers.",
                "Microsoft.KeyVauIt/vauIts/secrets/getSecret/action",
            ),
            (
                "Refreshing the permissions of application 'ledger-prod' failed: the action 'Microsoft.KeyVault/vaults/secrets/getSecret/action' is not offered by any provider.",
                "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            ),
        ] {
            assert_eq!(unsupported_action(message).as_deref(), Some(action));
            assert_eq!(error(None, "Anything", message).blame(Phase::Operation).actor, Actor::Offer);
        }
    }

    #[test]
    fn each_failure_names_who_has_to_act() {
        for (phase, status, code, actor) in [
            (Phase::Operation, None, "RequestDisallowedByPolicy", Actor::Customer),
            (Phase::Operation, None, "scopelocked", Actor::Customer),
            (Phase::Operation, None, "InternalServerError", Actor::Microsoft),
            (Phase::Operation, None, "SomethingNew", Actor::Publisher),
            (Phase::Post, Some(400), "BadRequest", Actor::Publisher),
            (Phase::Post, Some(503), "Unknown", Actor::Microsoft),
        ] {
            assert_eq!(error(status, code, "text").blame(phase).actor, actor, "{code}");
        }
    }

    #[test]
    fn a_message_that_only_quotes_an_action_does_not_blame_the_offer() {
        let message = "no authorization to perform action 'Microsoft.Solutions/applications/refreshPermissions/action'";
        assert_eq!(unsupported_action(message), None);
    }
}
