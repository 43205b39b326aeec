//! Each part of the service, asked the least that shows whether it answers and lets us in.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Patient;
use super::check::{Check, Verdict};
use crate::access::credential::FEDERATION_SCOPE;
use crate::access::gdap::Standstill;
use crate::access::gdap::vault::{LIFETIME, VaultError};
use crate::arm::access_control::{FAR, NEAR};
use crate::arm::{ArmClient, Looked};
use crate::cli::wiring::{self, parts};
use crate::engine::standstill::{self, GdapStandstill};
use crate::lighthouse::role::{APPLICATION_OPERATOR, REFRESH};
use crate::queue::QueueError;
use crate::rollout::lint::Provider;
use crate::rollout::{RemoteError, counted};
use crate::settings::{Credential, FederatedApp, StateStore};
use crate::store::document::{self, Document};
use crate::store::{Store, StoreError, Versioned};

/// The provider of managed applications.
const SOLUTIONS: &str = "Microsoft.Solutions";
/// How many offers are looked up.
const MOST_OFFERS: usize = 5;
/// How many dead letters are counted.
const MOST_DEAD: usize = 10;
/// How long the daily renewal may have failed before somebody should look (contracts/access.md §2.9).
const OLD: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// The checks of the parts.
pub fn checks(patient: &Patient) -> Vec<Check<'_>> {
    let settings = &patient.settings;
    let queues = &settings.queues;
    let mut checks = vec![
        Check::new("identity", tried_identity(patient), identity(patient)),
        Check::new("clock", "the date of an answer of Azure Resource Manager, beside this machine's", clock(patient)),
        Check::new(
            "Azure Resource Manager",
            "a list of the subscriptions that the identity sees",
            subscriptions(patient),
        ),
        Check::new("refresh operation", format!("whether {SOLUTIONS} offers {REFRESH}"), operation(patient)),
        Check::new("role", "what Azure defines Managed Application Operator Role to be", role(patient)),
        Check::new("store", "writing, reading and removing a record of its own", store(patient)),
    ];
    if let Credential::ManagedIdentity { app: Some(app), .. } = &settings.identity.credential {
        let tried =
            format!("a token of the managed identity, by which the app registration {} proves itself", app.client_id);
        checks.insert(1, Check::new("federated identity", tried, federated_identity(patient)));
    }
    for name in [&queues.rollout_queue, &queues.refresh_queue] {
        let tried = "a look at its dead letters; nothing was sent";
        checks.push(Check::new(format!("queue {name}"), tried, queue(patient, name)));
    }
    if settings.gdap.client_id.is_some() {
        let place = if settings.gdap.key_vault_url.is_some() { "key vault" } else { "GDAP token file" };
        checks.push(Check::new(place, "reading the GDAP refresh token; nothing was written", vault(patient)));
        checks.push(Check::new("GDAP", "a token for our own tenant, in exchange for the refresh token", gdap(patient)));
    }
    if settings.partner_center.app.is_some() {
        checks.push(Check::new("Partner Center", "looking up the products of OFFERS", partner_center(patient)));
    }
    checks
}

pub(super) fn arm(patient: &Patient) -> Result<ArmClient, Verdict> {
    wiring::arm_client(&patient.settings, Arc::clone(&patient.clock))
        .map_err(|error| Verdict::failed(format!("{error:#}"), "correct the setting that it names"))
}

/// Azure's words, and what to do about them.
pub(super) fn said(error: &RemoteError) -> String {
    format!("{}: {}", error.code, error.message)
}

fn unanswered(error: &RemoteError) -> Verdict {
    let to_do = match error.status {
        Some(401 | 403) => "look at the identity: it has to be known to Azure Resource Manager",
        Some(429) => "run this again later",
        Some(_) => "look at ARM_ENDPOINT",
        None => "look at ARM_ENDPOINT, the network and the identity",
    };
    Verdict::failed(said(error), to_do)
}

fn tried_identity(patient: &Patient) -> String {
    let identity = &patient.settings.identity;
    let who = match &identity.credential {
        Credential::ClientSecret { tenant_id, client_id, .. } => {
            format!("the app registration {client_id} of tenant {tenant_id}, with its secret")
        }
        Credential::ManagedIdentity { client_id, app: Some(app), .. } => {
            let FederatedApp { tenant_id, client_id: app } = app;
            let client_id = client_id.as_deref().unwrap_or("of the system");
            format!(
                "the app registration {app} of tenant {tenant_id}, for which the managed identity {client_id} stands"
            )
        }
        Credential::ManagedIdentity { client_id: Some(client_id), .. } => {
            format!("the user-assigned managed identity {client_id}")
        }
        Credential::ManagedIdentity { client_id: None, .. } => "the system-assigned managed identity".to_owned(),
        Credential::DeveloperTools => "whoever is signed in to Azure's command line tools".to_owned(),
    };
    format!("a token for {} as {who}", patient.settings.arm.audience)
}

async fn identity(patient: &Patient) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    match arm.caller().await {
        Ok(claims) => Verdict::ok(match (claims.object_id, claims.tenant_id) {
            (Some(object), Some(tenant)) => format!("it was issued, to object {object} of tenant {tenant}"),
            _ => "it was issued; it does not say to whom".to_owned(),
        }),
        Err(error) => Verdict::failed(error.reason, error.advice),
    }
}

/// The managed identity by itself: where this is well and the app has no token, it is the app that does not trust it.
async fn federated_identity(patient: &Patient) -> Verdict {
    let Some(tokens) = parts::federated_identity(&patient.settings, Arc::clone(&patient.clock)) else {
        return Verdict::note("no managed identity stands for an app registration", "nothing");
    };
    match tokens.token(FEDERATION_SCOPE).await {
        Ok(_) => Verdict::ok(
            "it was issued; whether the app registration takes it is shown by the identity, above: there it has to be a federated credential",
        ),
        Err(error) => Verdict::failed(error.reason, error.advice),
    }
}

async fn clock(patient: &Patient) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    let ahead = match arm.surroundings().await {
        Ok(surroundings) => surroundings.ahead_seconds,
        Err(error) => {
            return Verdict::note(
                format!("cannot be told, since there was no good answer ({})", error.code),
                "see below",
            );
        }
    };
    let Some(ahead) = ahead else {
        return Verdict::note("cannot be told, since the answer bears no date", "compare the machine's clock by hand");
    };
    let apart = Duration::from_secs(ahead.unsigned_abs());
    let side = if ahead > 0 { "behind" } else { "ahead of" };
    let means = format!("this machine's clock is {} s {side} Azure's", apart.as_secs());
    let to_do = "set the machine's clock by NTP: tokens and signatures are refused, and times in reports are wrong";
    match apart {
        apart if apart <= NEAR => Verdict::ok("the clocks agree"),
        apart if apart <= FAR => Verdict::warning(means, to_do),
        _ => Verdict::failed(means, to_do),
    }
}

async fn subscriptions(patient: &Patient) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    match arm.surroundings().await {
        Ok(seen) if seen.subscriptions.is_empty() => Verdict::warning(
            "it answers, and shows the identity no subscription: the sync will find no deployment",
            "name the identity in the authorizations of your plans, or have customers delegate (permafresh lighthouse template)",
        ),
        Ok(seen) => {
            let more = if seen.has_more { " and more" } else { "" };
            Verdict::ok(format!("it shows {}{more}", counted(seen.subscriptions.len() as u64, "subscription")))
        }
        Err(error) => unanswered(&error),
    }
}

async fn operation(patient: &Patient) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    match arm.provider_operations(SOLUTIONS).await {
        Provider::Known(operations) if operations.iter().any(|known| known.name.eq_ignore_ascii_case(REFRESH)) => {
            Verdict::ok("it is registered under this name")
        }
        Provider::Known(_) => Verdict::warning(
            "Azure does not list it: a role that names it may be worth nothing, one with a wildcard such as Microsoft.Solutions/*/action works",
            "use roles with a wildcard; try one deployment with a rollout of one application",
        ),
        Provider::Unknown => Verdict::warning(
            format!("Azure shows the identity no provider {SOLUTIONS}"),
            "nothing, if refreshes work: this is a look only",
        ),
        Provider::Unread { why } => {
            let to_do = "let the identity read Microsoft.Authorization/providerOperations: the lint of a version needs that too";
            Verdict::warning(why, to_do)
        }
    }
}

async fn role(patient: &Patient) -> Verdict {
    let arm = match arm(patient) {
        Ok(arm) => arm,
        Err(verdict) => return verdict,
    };
    let scope = match arm.surroundings().await {
        Ok(seen) => seen.subscriptions.first().and_then(|id| id.parse().ok()),
        Err(error) => return unanswered(&error),
    };
    let Some(scope) = scope else {
        return Verdict::note("there is no subscription to read it in", "see Azure Resource Manager, above");
    };
    match arm.role_definition(&scope, APPLICATION_OPERATOR).await {
        Looked::Seen(role) if role.traits.refreshes && role.traits.polls => {
            Verdict::ok("it covers the refresh, reading the application and reading the operation's status")
        }
        Looked::Seen(role) if role.traits.refreshes => Verdict::warning(
            "it covers the refresh, and not reading the operation's status: results are judged by reading the application",
            "delegate a role that covers Microsoft.Solutions/locations/operationStatuses/read too",
        ),
        Looked::Seen(_) => Verdict::failed(
            format!("it does not cover {REFRESH} any more"),
            "delegate another role that does, such as Managed Application Contributor Role, or one of your own",
        ),
        Looked::Refused { error } | Looked::Unclear { error, .. } => {
            Verdict::warning(said(&error), "let the identity read role definitions, or look at the role in the portal")
        }
    }
}

/// A record that is nobody's.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Trial {
    id: Uuid,
}

impl Document for Trial {
    const COLLECTION: &'static str = "doctor";
    fn name(&self) -> String {
        self.id.to_string()
    }
}

async fn store(patient: &Patient) -> Verdict {
    let settings = &patient.settings;
    if let StateStore::Sqlite { path } = &settings.store.state_store
        && !path.exists()
    {
        let means = format!("there is no file {} yet", path.display());
        return Verdict::note(means, "nothing, if the service has never run here: it makes the file");
    }
    let to_do = match settings.store.state_store {
        StateStore::Sqlite { .. } => "look at the file, its folder's rights and the room on its disk",
        StateStore::Tables => {
            "look at the account's address, and give the identity Storage Table Data Contributor on it"
        }
    };
    let opened = match parts::store(settings, Arc::clone(&patient.clock)) {
        Ok(opened) => opened,
        Err(error) => return Verdict::failed(format!("{error:#}"), to_do),
    };
    match try_store(&*opened.store()).await {
        Ok(true) => Verdict::ok("it keeps what it is given"),
        Ok(false) => Verdict::failed("what was written did not come back", to_do),
        Err(error) => Verdict::failed(error.to_string(), to_do),
    }
}

async fn try_store(store: &dyn Store) -> Result<bool, StoreError> {
    let trial = Versioned::new(Trial { id: Uuid::new_v4() });
    let is_stored = document::save(store, &trial).await?.is_stored();
    let read = document::get::<Trial>(store, &trial.value.name()).await?;
    let Some(read) = read.filter(|read| is_stored && read.value == trial.value) else { return Ok(false) };
    Ok(document::remove(store, &read).await?.is_stored())
}

async fn queue(patient: &Patient, name: &str) -> Verdict {
    let settings = &patient.settings;
    let is_embedded = settings.queues.service_bus.is_none();
    if is_embedded && !wiring::queue_file(settings).exists() {
        let means = format!("there is no file {} yet", wiring::queue_file(settings).display());
        return Verdict::note(means, "nothing, if the service has never run here: it makes the file");
    }
    let to_do = if is_embedded {
        "look at the file, its folder's rights and the room on its disk"
    } else {
        "make the queue if it is missing, and give the identity Azure Service Bus Data Receiver and Data Sender on the namespace"
    };
    let queue = match parts::queue(settings, Arc::clone(&patient.clock)) {
        Ok(queue) => queue,
        Err(error) => return Verdict::failed(format!("{error:#}"), to_do),
    };
    match queue.dead_letters(name, MOST_DEAD).await {
        Ok(letters) if letters.is_empty() => Verdict::ok("it is there, it may be read, and it has no dead letters"),
        Ok(letters) => Verdict::warning(
            format!("it is there, with {} or more", counted(letters.len() as u64, "dead letter")),
            "see that PollOperations runs: it takes note of them within minutes (permafresh audit), and goes on with what they were for",
        ),
        Err(QueueError::Unclear { reason, .. } | QueueError::Refused { reason, .. }) => Verdict::failed(reason, to_do),
    }
}

async fn vault(patient: &Patient) -> Verdict {
    let gdap = match parts::gdap(&patient.settings, Arc::clone(&patient.clock)) {
        Ok(Some(gdap)) => gdap,
        Ok(None) => return Verdict::note("GDAP is not set up", "nothing"),
        Err(error) => return Verdict::failed(format!("{error:#}"), "correct the setting that it names"),
    };
    let sign_in = "sign in with `permafresh gdap sign-in`";
    match gdap.broker().vault().read().await {
        Ok(None) => Verdict::failed("there is none: nobody has signed in yet", sign_in),
        Ok(Some(stored)) => match stored.minted_at.map(|at| patient.clock.now() - at) {
            Some(age) if age.to_std().is_ok_and(|age| age > OLD) => Verdict::warning(
                format!(
                    "it is {} old, and lasts {}",
                    counted(age.num_days().unsigned_abs(), "day"),
                    LIFETIME.as_secs() / 86_400
                ),
                format!("look at RenewTokens, which fails or does not run; else {sign_in}"),
            ),
            Some(age) => Verdict::ok(format!("it is there, and {} old", counted(age.num_days().unsigned_abs(), "day"))),
            None => Verdict::ok("it is there; nobody has noted when it was minted"),
        },
        Err(VaultError::Unavailable { reason, .. }) => Verdict::failed(reason, "look at KEY_VAULT_URL and the network"),
        Err(VaultError::Refused { reason, .. }) => Verdict::failed(
            reason,
            "give the identity Key Vault Secrets Officer on the secret: RenewTokens writes it as well",
        ),
    }
}

async fn gdap(patient: &Patient) -> Verdict {
    let gdap = match parts::gdap(&patient.settings, Arc::clone(&patient.clock)) {
        Ok(Some(gdap)) => gdap,
        Ok(None) => return Verdict::note("GDAP is not set up", "nothing"),
        Err(error) => return Verdict::failed(format!("{error:#}"), "correct the setting that it names"),
    };
    let standstill = standstill(patient).await;
    match gdap.arm_token(gdap.partner_tenant()).await {
        Ok(_) => match standstill {
            None => Verdict::ok("Microsoft Entra takes the refresh token"),
            Some(noted) => Verdict::warning(
                format!(
                    "Microsoft Entra takes the refresh token; the service has noted a standstill since {} ({})",
                    at(&noted),
                    noted.why
                ),
                "see that PollOperations runs: it asks again every five minutes, and what waits goes on then",
            ),
        },
        Err(error) if standstill.is_some() => {
            let since = standstill.map(|noted| at(&noted)).unwrap_or_default();
            let means = format!("GDAP stands still for every customer since {since}: {error}");
            Verdict::failed(means, "do what it says; refreshes go by other ways, or wait up to 14 days")
        }
        Err(error) => {
            let to_do = match error.standstill() {
                Standstill::Time => "run this again later",
                Standstill::Customer => "consent to the app in your own tenant too, or look at your conditional access",
                Standstill::Publisher => "do what it says; no customer can be reached by GDAP until then",
            };
            Verdict::failed(error.to_string(), to_do)
        }
    }
}

/// The standstill that the service has noted, as far as the store says.
async fn standstill(patient: &Patient) -> Option<GdapStandstill> {
    if let StateStore::Sqlite { path } = &patient.settings.store.state_store
        && !path.exists()
    {
        return None;
    }
    // That the store cannot be read is a finding of its own.
    let opened = parts::store(&patient.settings, Arc::clone(&patient.clock)).ok()?;
    standstill::noted(&*opened.store()).await.ok().flatten()
}

fn at(noted: &GdapStandstill) -> String {
    noted.since.format("%Y-%m-%d %H:%M UTC").to_string()
}

async fn partner_center(patient: &Patient) -> Verdict {
    let client = match parts::partner_center(&patient.settings, Arc::clone(&patient.clock)) {
        Ok(Some(client)) => client,
        Ok(None) => return Verdict::note("offers are not watched", "nothing"),
        Err(error) => return Verdict::failed(format!("{error:#}"), "correct the setting that it names"),
    };
    let offers = &patient.settings.offers.offers;
    let mut unknown = Vec::new();
    for offer in offers.iter().take(MOST_OFFERS) {
        match client.product(&offer.offer).await {
            Ok(Some(_)) => {}
            Ok(None) => unknown.push(offer.offer.as_str()),
            Err(trouble) => return Verdict::failed(trouble.kind.to_string(), trouble.kind.remedy()),
        }
    }
    match (offers.len(), unknown.len()) {
        (0, _) => Verdict::note("OFFERS names none, so nothing was asked", "list your offers and plans in OFFERS"),
        (_, 0) => {
            let looked = offers.len().min(MOST_OFFERS) as u64;
            Verdict::ok(format!("it lets us in, and has {}", counted(looked, "product")))
        }
        _ => Verdict::failed(
            format!("it lets us in, and has no Azure application for {}", unknown.join(", ")),
            "correct the offer ids in OFFERS, or use the account that the offers belong to",
        ),
    }
}
