//! `permafresh gdap relationship …`: the life of a GDAP relationship.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{SETTINGS, guid};
use crate::access::gdap::Gdap;
use crate::access::gdap::relationship::{
    CLOUD_APPLICATION_ADMINISTRATOR, DIRECTORY_READERS, Extend, Relationship, Status, Wish, invitation,
};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{print, print_json, say};
use crate::cli::plain_text::table;

/// What to do about relationships.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "a doc comment would stand in for the help of the command")]
pub enum RelationshipCommand {
    Create(CreateArgs),
    /// Offer a relationship to its customer: from then on it cannot be changed
    #[command(after_help = format!("Examples:\n  permafresh gdap relationship offer RELATIONSHIP\n\n{SETTINGS}"))]
    Offer {
        /// The relationship's id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the relationships
    #[command(after_help = format!("Examples:\n  permafresh gdap relationship list --tenant TENANT --json\n\n{SETTINGS}"))]
    List {
        /// Only those of this customer's tenant
        #[arg(long, value_name = "TENANT", value_parser = guid)]
        tenant: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give roles of an active relationship to the members of your security group
    #[command(after_help = format!("Examples:\n  permafresh gdap relationship assign RELATIONSHIP --group GROUP\n\n{SETTINGS}"))]
    Assign {
        /// The relationship's id
        id: String,
        /// Object id of the security group
        #[arg(long, value_name = "GROUP", value_parser = guid)]
        group: String,
        /// Role definition; may be given more than once [default: all of the relationship's]
        #[arg(long = "role", value_name = "ROLE", value_parser = guid)]
        roles: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a relationship
    #[command(after_help = format!("Examples:\n  permafresh gdap relationship end RELATIONSHIP --yes\n\n{SETTINGS}"))]
    End {
        /// The relationship's id
        id: String,
        /// End it, though customers cannot be reached through it any more
        #[arg(long)]
        yes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

const EXAMPLES: &str = "\
Examples:
  For two years, prolonged by itself:
    permafresh gdap relationship create --name \"Refresh, Fabrikam\" --tenant TENANT --extend --offer
  For one day, to consent and nothing else:
    permafresh gdap relationship create --name \"Consent, Fabrikam\" --tenant TENANT --one-day --offer";

/// Make a relationship, and write the invitation for the customer's administrator
///
/// Without --role it brings Directory Readers, which is the least that lets your group into Azure; with --one-day it brings
/// Cloud Application Administrator for a day, which lets you consent.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{SETTINGS}"))]
pub struct CreateArgs {
    /// Name, up to 50 characters and unique among yours
    #[arg(long)]
    name: String,
    /// Customer's tenant; anybody who gets the invitation if it is left out
    #[arg(long, value_name = "TENANT", value_parser = guid)]
    tenant: Option<String>,
    /// How long, P1D to P2Y
    #[arg(long, default_value = "P730D", conflicts_with = "one_day")]
    duration: String,
    /// Role definition; may be given more than once
    #[arg(long = "role", value_name = "ROLE", value_parser = guid, conflicts_with = "one_day")]
    roles: Vec<String>,
    /// Prolong it by half a year each time
    #[arg(long, conflicts_with = "one_day")]
    extend: bool,
    /// One day, to consent and nothing else
    #[arg(long, requires = "tenant")]
    one_day: bool,
    /// Offer it at once
    #[arg(long)]
    offer: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl CreateArgs {
    fn wish(&self) -> Wish {
        if let (true, Some(tenant)) = (self.one_day, &self.tenant) {
            return Wish::one_day(self.name.clone(), tenant);
        }
        let roles = match self.roles.is_empty() {
            true => vec![DIRECTORY_READERS.to_owned()],
            false => self.roles.clone(),
        };
        Wish {
            display_name: self.name.clone(),
            duration: self.duration.clone(),
            auto_extend: if self.extend { Extend::HalfAYear } else { Extend::Never },
            tenant_id: self.tenant.clone(),
            roles,
        }
    }
}

impl RelationshipCommand {
    /// Does one of the commands.
    pub(super) async fn run(self, gdap: &Gdap) -> Result<Exit, Failure> {
        match self {
            Self::Create(args) => return create(&args, gdap).await,
            Self::Offer { id, json } => {
                let status = gdap.lock_for_approval(&id).await?;
                let is_pending = status == Status::ApprovalPending;
                if !is_pending && !matches!(status, Status::Activating | Status::Active | Status::Expiring) {
                    return Err(cannot("offered", status));
                }
                let invitation = is_pending.then(|| invitation(&id));
                match invitation {
                    _ if json => {
                        let status = String::from(status);
                        print_json(&json!({"id": id, "status": status, "invitation": invitation}))?;
                    }
                    Some(invitation) => {
                        print(&format!("{invitation}\n"))?;
                        say("Send this to an administrator of the customer, who accepts it there within 90 days.");
                    }
                    None => say(&format!("The customer has accepted it already: it is {}.", String::from(status))),
                }
            }
            Self::List { tenant, json } => {
                let mut relationships = gdap.relationships().await?;
                relationships.retain(|known| tenant.is_none() || known.tenant_id() == tenant);
                if json {
                    print_json(&relationships)?;
                } else {
                    print(&table(["RELATIONSHIP", "CUSTOMER", "STATUS", "CONSENTS", "NAME"], &rows(&relationships)))?;
                }
            }
            Self::Assign { id, group, roles, json } => {
                let missing = || {
                    let error = anyhow::anyhow!("there is no GDAP relationship of this id");
                    Failure::new(error, "see `permafresh gdap relationship list`")
                };
                let relationship = gdap.relationship(&id).await?.ok_or_else(missing)?;
                if !relationship.status.is_in_force() {
                    let status = String::from(relationship.status.clone());
                    let error =
                        anyhow::anyhow!("the relationship is {status}, and roles can be given when it is active");
                    return Err(Failure::new(error, "wait until the customer has accepted it"));
                }
                if let Some(role) = roles.iter().find(|role| !relationship.has_role(role)) {
                    let error = anyhow::anyhow!("the relationship does not bring the role {role}");
                    return Err(
                        Failure::new(error, "name roles of the relationship, or leave --role out").exit(Exit::Usage)
                    );
                }
                let own = relationship.access_details.unified_roles.into_iter().map(|role| role.role_definition_id);
                let roles = if roles.is_empty() { own.collect() } else { roles };
                let assignment = gdap.assign(&id, &group, &roles).await?;
                if json {
                    let (assigned, status) = (&assignment.id, &assignment.status);
                    print_json(
                        &json!({"id": assigned, "status": status, "relationshipId": id, "group": group, "roles": roles}),
                    )?;
                    return Ok(Exit::Success);
                }
                print(&format!(
                    "{} {}\n",
                    crate::cli::plain_text::plain(&assignment.id),
                    crate::cli::plain_text::plain(&assignment.status)
                ))?;
            }
            Self::End { yes: false, .. } => {
                let error = anyhow::anyhow!("ending a relationship takes your access to the customer away");
                return Err(Failure::new(error, "say --yes if that is meant").exit(Exit::Usage));
            }
            Self::End { id, yes: true, json } => {
                let status = gdap.terminate(&id).await?;
                if !status.is_over() {
                    return Err(cannot("ended", status));
                }
                if json {
                    print_json(&json!({"id": id, "ending": true}))?;
                } else {
                    say("The relationship is being ended.");
                }
            }
        }
        Ok(Exit::Success)
    }
}

fn cannot(what: &str, status: Status) -> Failure {
    let error = anyhow::anyhow!("the relationship is {}, and cannot be {what}", String::from(status));
    Failure::new(error, "see `permafresh gdap relationship list`; one that has ended needs a new one in its place")
}

async fn create(args: &CreateArgs, gdap: &Gdap) -> Result<Exit, Failure> {
    let wish = args.wish();
    let problems = wish.problems();
    if !problems.is_empty() {
        let error = anyhow::anyhow!("the relationship cannot be made: {}", problems.join("; "));
        return Err(Failure::new(error, "correct what is named").exit(Exit::Usage));
    }
    let made = gdap.create_relationship(&wish).await?;
    // One of this name may have been there, and further on.
    let status = if args.offer { gdap.lock_for_approval(&made.id).await? } else { made.status.clone() };
    let link = (args.offer && status == Status::ApprovalPending).then(|| invitation(&made.id));
    if args.json {
        let mut shown = serde_json::to_value(&made).unwrap_or_default();
        shown["invitation"] = link.map_or(serde_json::Value::Null, Into::into);
        print_json(&shown)?;
        return Ok(Exit::Success);
    }
    print(&format!("{}\n", crate::cli::plain_text::plain(&made.id)))?;
    match link {
        Some(link) => say(&format!("Send this to an administrator of the customer:\n  {link}")),
        None if status == Status::Created => {
            say(&format!("Offer it with `permafresh gdap relationship offer {}`.", made.id));
        }
        None => say(&format!("It was there already, and is {}.", String::from(status))),
    }
    Ok(Exit::Success)
}

fn rows(relationships: &[Relationship]) -> Vec<[String; 5]> {
    let row = |known: &Relationship| {
        let consents = if known.has_role(CLOUD_APPLICATION_ADMINISTRATOR) { "yes" } else { "-" };
        let customer = known.tenant_id().unwrap_or_else(|| "-".to_owned());
        [known.id.clone(), customer, known.status.clone().into(), consents.to_owned(), known.display_name.clone()]
    };
    relationships.iter().map(row).collect()
}
