//! `permafresh gdap consent`, `link`, `status` and `scopes`: who lets our app in, and for what.

use std::collections::BTreeSet;

use clap::Args;
use futures_util::StreamExt as _;
use serde::Serialize;

use super::{SETTINGS, guid};
use crate::access::gdap::Gdap;
use crate::access::gdap::scopes::{Finding, Grant, grants};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{print, print_json, say};
use crate::cli::plain_text::{plain, table};
use crate::engine::Engine;
use crate::engine::consents::{ConsentState, CustomerConsent};
use crate::engine::renewal::TokenRenewal;
use crate::rollout::counted;

const EXAMPLES: &str = "\
Examples:
  One customer:
    permafresh gdap consent --tenant TENANT
  Everybody with an active GDAP relationship; run it again to go on where it stopped:
    permafresh gdap consent --all
  For Microsoft Graph too, where a consent to Azure alone is there and cannot be added to:
    permafresh gdap consent --tenant TENANT --graph --replace
  With a relationship of one day, which is ended as soon as the consent is proven:
    permafresh gdap relationship create --one-day --tenant TENANT --name \"Consent, Fabrikam\" --offer
    permafresh gdap consent --tenant TENANT --then-end RELATIONSHIP

Exit codes:
  0  everybody has consented
  1  it failed
  2  the command line or a setting is wrong
  3  some have not consented; the table says why, and who has to act
  4  Microsoft's services cannot be reached";

/// How many customers are asked for at once; Partner Center allows 50 calls a second.
const AT_ONCE: usize = 8;

/// Ask for customers' consent to the app through Partner Center
///
/// Works where a GDAP relationship gives your user the role Cloud Application Administrator (or Application Administrator).
/// Each consent is proven by a token of the customer's tenant; what needs time is gone on with by the service.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{SETTINGS}"))]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["tenants", "all"])))]
pub struct ConsentArgs {
    /// Customer's tenant; may be given more than once
    #[arg(long = "tenant", value_name = "TENANT", value_parser = guid)]
    tenants: Vec<String>,
    /// Every customer with an active GDAP relationship
    #[arg(long)]
    all: bool,
    /// Ask for reading service principals in Microsoft Graph too, by which missing ones are named
    #[arg(long)]
    graph: bool,
    /// Ask again where consent was given before
    #[arg(long)]
    again: bool,
    /// Withdraw a consent that is there, where what is asked for cannot be had beside it, or is less. Until the new one is
    /// proven, as a rule within seconds, nothing of yours gets into that tenant
    #[arg(long)]
    replace: bool,
    /// End this GDAP relationship once the consent of its customer is proven
    #[arg(long, value_name = "RELATIONSHIP", conflicts_with = "all")]
    then_end: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks, proves, and says who has to act.
pub async fn run(args: &ConsentArgs, engine: &Engine, gdap: &Gdap) -> Result<Exit, Failure> {
    let tenants: BTreeSet<String> = match args.all {
        true => {
            let relationships = gdap.relationships().await?;
            relationships
                .iter()
                .filter(|known| known.status.is_in_force())
                .filter_map(crate::access::gdap::relationship::Relationship::tenant_id)
                .collect()
        }
        false => args.tenants.iter().cloned().collect(),
    };
    let mut asked = vec![Grant::arm()];
    if args.graph {
        asked.push(Grant::graph());
    }
    let known = engine.consents().await?;
    let has_consented = |tenant: &String| {
        known.iter().any(|consent| {
            let is_no_wider = !args.replace || consent.grants.iter().all(|grant| grant.is_within(&asked));
            consent.tenant_id == *tenant && consent.is_granted_for(&asked) && is_no_wider
        })
    };
    let todo: Vec<&String> = tenants.iter().filter(|tenant| args.again || !has_consented(tenant)).collect();
    let skipped = tenants.len() - todo.len();
    if skipped > 0 {
        say(&format!(
            "{} consented before and are not asked again (--again asks)",
            counted(skipped as u64, "customer")
        ));
    }
    if args.replace && !todo.is_empty() {
        say("Where a consent has to be withdrawn first, refreshes of that customer wait until it is given anew.");
    }
    let asked = &asked;
    let mut steps = futures_util::stream::iter(todo.iter().map(|tenant| async move {
        match args.replace {
            true => engine.replace_consent(tenant, asked).await?,
            false => engine.want_consent(tenant, asked).await?,
        };
        engine.consent_step(tenant).await
    }))
    .buffer_unordered(AT_ONCE);
    let mut done = 0;
    while let Some(step) = steps.next().await {
        step?;
        done += 1;
        if done % 100 == 0 {
            say(&format!("{done} of {}", counted(todo.len() as u64, "customer")));
        }
    }
    drop(steps);
    let mut consents = engine.consents().await?;
    consents.retain(|consent| tenants.contains(&consent.tenant_id));
    if let Some(id) = &args.then_end {
        end(gdap, id, &consents).await?;
    }
    show(&consents, args.json)?;
    let all = consents.iter().all(|consent| consent.state == ConsentState::Granted);
    Ok(if all { Exit::Success } else { Exit::RolloutNotClean })
}

/// Ends the relationship that was only for consenting, once that is proven for its customer.
async fn end(gdap: &Gdap, id: &str, consents: &[CustomerConsent]) -> Result<(), Failure> {
    let missing = || {
        Failure::new(
            anyhow::anyhow!("there is no GDAP relationship of this id"),
            "see `permafresh gdap relationship list`",
        )
    };
    let relationship = gdap.relationship(id).await?.ok_or_else(missing)?;
    let is_proven = |consent: &CustomerConsent| {
        consent.state == ConsentState::Granted && relationship.tenant_id().as_ref() == Some(&consent.tenant_id)
    };
    if !consents.iter().any(is_proven) {
        say(
            "The relationship is kept, since the consent of its customer is not proven; it ends by itself after its time.",
        );
        return Ok(());
    }
    if relationship.status.is_over() {
        return Ok(());
    }
    match gdap.terminate(id).await?.is_over() {
        true => say("The consent is proven, and the relationship is being ended."),
        false => say("The consent is proven; the relationship cannot be ended where it stands, and ends by itself."),
    }
    Ok(())
}

/// Write the link by which a customer's administrator consents
///
/// For customers where Partner Center may not consent for you. With PUBLIC_URL and CONSENT_STATE_KEY the link comes back to
/// the service, which goes on by itself; it can be used for 14 days.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:\n  permafresh gdap link --tenant TENANT\n\n{SETTINGS}"))]
pub struct LinkArgs {
    /// Customer's tenant
    #[arg(long, value_name = "TENANT", value_parser = guid)]
    tenant: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link<'a> {
    tenant_id: &'a str,
    link: String,
    comes_back: bool,
}

/// Writes it.
pub fn link(args: &LinkArgs, engine: &Engine, gdap: &Gdap) -> Result<Exit, Failure> {
    let link = gdap.admin_link(&args.tenant, engine.now());
    let comes_back = link.query_pairs().any(|(name, _)| name == "state");
    if args.json {
        print_json(&Link { tenant_id: &args.tenant, link: link.into(), comes_back })?;
        return Ok(Exit::Success);
    }
    print(&format!("{link}\n"))?;
    if !comes_back {
        say("The link comes back to nobody, since PUBLIC_URL or CONSENT_STATE_KEY is absent.");
        say(&format!("Afterwards run `permafresh gdap consent --tenant {}`.", args.tenant));
    }
    Ok(Exit::Success)
}

/// See how old the refresh token is, and which customers have consented
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:\n  permafresh gdap status --json\n\n{SETTINGS}"))]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    minted_at: Option<crate::rollout::Timestamp>,
    renewal: &'a TokenRenewal,
    consents: &'a [CustomerConsent],
}

/// Shows it.
pub async fn status(args: &StatusArgs, engine: &Engine, gdap: &Gdap) -> Result<Exit, Failure> {
    let stored = gdap.broker().vault().read().await.map_err(crate::access::gdap::GdapError::from)?;
    let known = engine.token_renewal().await?;
    let renewal = TokenRenewal { renewed_at: known.renewed_at, failure: known.failure, ..TokenRenewal::default() };
    let consents = engine.consents().await?;
    if args.json {
        let minted_at = stored.as_ref().and_then(|stored| stored.minted_at);
        print_json(&Status { minted_at, renewal: &renewal, consents: &consents })?;
        return Ok(Exit::Success);
    }
    match stored {
        None => say("nobody has signed in yet: run `permafresh gdap sign-in`"),
        Some(stored) => {
            let days = stored.minted_at.map(|at| (engine.now() - at).num_days());
            let age = days.map_or_else(
                || "of unknown age".to_owned(),
                |days| format!("{} old", counted(days.unsigned_abs(), "day")),
            );
            say(&format!("the refresh token is {age}; it ends 90 days after it was last renewed"));
        }
    }
    if let Some(failure) = &renewal.failure {
        say(&format!("it could not be renewed: {}", plain(failure)));
    }
    show(&consents, false)?;
    Ok(Exit::Success)
}

fn show(consents: &[CustomerConsent], json: bool) -> Result<(), Failure> {
    if json {
        return print_json(&consents);
    }
    if consents.is_empty() {
        say("no customer is known; run `permafresh gdap consent --all`");
        return Ok(());
    }
    let rows: Vec<_> = consents
        .iter()
        .map(|consent| {
            let (state, why) = match &consent.state {
                ConsentState::Granted => ("consented", String::new()),
                ConsentState::Wanted { last, .. } => ("under way", last.clone().unwrap_or_default()),
                ConsentState::Parked { why, .. } => ("waits", why.clone()),
            };
            [consent.tenant_id.clone(), state.to_owned(), why]
        })
        .collect();
    print(&table(["TENANT", "CONSENT", "WHY"], &rows))
}

const SCOPES_HELP: &str = "\
Examples:
  permafresh gdap scopes --json

Exit codes:
  0  they are in order
  1  consent cannot work with them";

/// Check the permissions of the app registration, by the names that a consent asks for
#[derive(Debug, Args)]
#[command(after_help = format!("{SCOPES_HELP}\n\n{SETTINGS}"))]
pub struct ScopesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Scopes {
    grants: Vec<Grant>,
    findings: Vec<Finding>,
}

/// Checks them.
pub async fn scopes(args: &ScopesArgs, gdap: &Gdap) -> Result<Exit, Failure> {
    let (required, offered) = gdap.permissions().await?;
    let (grants, findings) = grants(&required, &offered);
    let is_clean = !findings.iter().any(|finding| finding.is_error);
    if args.json {
        print_json(&Scopes { grants, findings })?;
    } else {
        let rows: Vec<_> = grants.into_iter().map(|grant| [grant.enterprise_application_id, grant.scope]).collect();
        print(&table(["RESOURCE", "PERMISSIONS"], &rows))?;
        for finding in &findings {
            let word = if finding.is_error { "error" } else { "warning" };
            say(&format!("{word}: {}", plain(&finding.what)));
        }
    }
    Ok(if is_clean { Exit::Success } else { Exit::Failure })
}
