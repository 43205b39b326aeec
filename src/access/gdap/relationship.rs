//! GDAP relationships: what one is asked to be, where it stands, and what its events mean (contracts/access.md §2.8).
//!
//! Pure. Words that Graph does not have yet are data.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Cloud Application Administrator: may consent for an app, for a day (contracts/access.md §2.2).
pub const CLOUD_APPLICATION_ADMINISTRATOR: &str = "158c047a-c907-4556-b7ef-446551a6b5f7";
/// Directory Readers: the least role that makes a user count for Azure (contracts/access.md §2.2).
pub const DIRECTORY_READERS: &str = "88d8e3e3-8f55-4a1e-953a-9b9898b8876b";
/// The longest name that Graph takes.
const LONGEST_NAME: usize = 50;

/// Where a relationship stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Status {
    /// Made, and not yet offered to the customer.
    Created,
    /// Offered; the customer has not answered.
    ApprovalPending,
    /// Accepted; on its way to active.
    Activating,
    /// In force.
    Active,
    /// In force, and about to end.
    Expiring,
    /// On its way out.
    Terminating,
    /// Over.
    Ended,
    /// A word that we do not know.
    Other(String),
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.as_str() {
            "created" => Self::Created,
            "approvalPending" => Self::ApprovalPending,
            "approved" | "activating" => Self::Activating,
            "active" => Self::Active,
            "expiring" => Self::Expiring,
            "terminationRequested" | "terminating" => Self::Terminating,
            "expired" | "terminated" => Self::Ended,
            _ => Self::Other(word.chars().filter(char::is_ascii_alphanumeric).take(40).collect()),
        }
    }
}

impl From<Status> for String {
    fn from(status: Status) -> Self {
        match status {
            Status::Created => "created".into(),
            Status::ApprovalPending => "approvalPending".into(),
            Status::Activating => "activating".into(),
            Status::Active => "active".into(),
            Status::Expiring => "expiring".into(),
            Status::Terminating => "terminating".into(),
            Status::Ended => "terminated".into(),
            Status::Other(word) => word,
        }
    }
}

impl Status {
    /// Whether its roles hold now.
    pub fn is_in_force(&self) -> bool {
        matches!(self, Self::Active | Self::Expiring)
    }

    /// Whether it will never hold again.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Terminating | Self::Ended)
    }
}

/// A relationship as Graph shows it; members that we do not use are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relationship {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub display_name: String,
    /// Where it stands.
    pub status: Status,
    /// The customer, once known.
    #[serde(default)]
    pub customer: Option<Customer>,
    /// When it ends.
    #[serde(default)]
    pub end_date_time: Option<String>,
    /// The roles it brings.
    #[serde(default)]
    pub access_details: AccessDetails,
    /// The version that guards changes.
    #[serde(default, rename = "@odata.etag", skip_serializing)]
    pub etag: Option<String>,
}

/// The customer of a relationship.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Customer {
    /// The tenant.
    pub tenant_id: String,
    /// Its name.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// Roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessDetails {
    /// One for each.
    #[serde(default)]
    pub unified_roles: Vec<Role>,
}

impl AccessDetails {
    /// Whether `role` is among them.
    pub fn has(&self, role: &str) -> bool {
        self.unified_roles.iter().any(|known| known.role_definition_id.eq_ignore_ascii_case(role))
    }
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Its definition.
    pub role_definition_id: String,
}

impl Relationship {
    /// The customer's tenant, lower-case.
    pub fn tenant_id(&self) -> Option<String> {
        self.customer.as_ref().map(|customer| customer.tenant_id.to_ascii_lowercase())
    }

    /// Whether it brings `role`.
    pub fn has_role(&self, role: &str) -> bool {
        self.access_details.has(role)
    }
}

/// What a new relationship is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its name, unique among the partner's.
    pub display_name: String,
    /// How long: P1D to P2Y.
    pub duration: String,
    /// Whether it goes on by half a year each time.
    pub auto_extend: Extend,
    /// The customer's tenant, if it is for one only.
    pub tenant_id: Option<String>,
    /// Role definitions.
    pub roles: Vec<String>,
}

/// Whether a relationship is prolonged without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// By 180 days.
    HalfAYear,
    /// It ends when it ends.
    Never,
}

impl Wish {
    /// The relationship of one day that lets us consent and nothing else (contracts/access.md §2.8).
    pub fn one_day(display_name: String, tenant_id: &str) -> Self {
        Self {
            display_name,
            duration: "P1D".to_owned(),
            auto_extend: Extend::Never,
            tenant_id: Some(tenant_id.to_owned()),
            roles: vec![CLOUD_APPLICATION_ADMINISTRATOR.to_owned()],
        }
    }

    /// What is wrong with it, each with its field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let length = self.display_name.chars().count();
        if !(1..=LONGEST_NAME).contains(&length) || self.display_name.chars().any(char::is_control) {
            problems.push(format!("name: 1 to {LONGEST_NAME} characters"));
        }
        match days(&self.duration) {
            Some(1..=730) => {}
            _ => problems.push("duration: P1D to P2Y, such as P730D".to_owned()),
        }
        if self.roles.is_empty() {
            problems.push("role: at least one".to_owned());
        }
        for (what, id) in
            self.roles.iter().map(|role| ("role", role)).chain(self.tenant_id.iter().map(|id| ("tenant", id)))
        {
            if uuid::Uuid::try_parse(id).is_err() {
                problems.push(format!("{what}: {id:?} is no GUID"));
            }
        }
        if self.auto_extend == Extend::HalfAYear
            && self.roles.iter().any(|role| role.eq_ignore_ascii_case("62e90394-69f5-4237-9190-012177145e10"))
        {
            problems.push("role: a relationship with Global Administrator cannot be prolonged by itself".to_owned());
        }
        problems
    }

    /// Whether `known` has the name that is wished for.
    pub fn names(&self, known: &Relationship) -> bool {
        known.display_name.trim().eq_ignore_ascii_case(self.display_name.trim())
    }

    /// Whether `known` is what is wished for, and not over. How long it lasts is not compared, since Graph counts from its beginning.
    pub fn is(&self, known: &Relationship) -> bool {
        !known.status.is_over() && self.is_for(known) && self.has_roles_of(known)
    }

    /// In which way `known` is something else.
    pub fn differs(&self, known: &Relationship) -> &'static str {
        if !self.is_for(known) {
            "for another customer"
        } else if !self.has_roles_of(known) {
            "with other roles"
        } else {
            "and a name stays taken"
        }
    }

    fn is_for(&self, known: &Relationship) -> bool {
        match (&self.tenant_id, known.tenant_id()) {
            (Some(wished), known) => known.is_some_and(|known| wished.eq_ignore_ascii_case(&known)),
            // For anybody: whoever has accepted it was given its invitation.
            (None, _) => true,
        }
    }

    fn has_roles_of(&self, known: &Relationship) -> bool {
        let its = &known.access_details.unified_roles;
        self.roles.iter().all(|role| known.has_role(role))
            && its
                .iter()
                .all(|role| self.roles.iter().any(|wished| wished.eq_ignore_ascii_case(&role.role_definition_id)))
    }

    /// The body that Graph takes.
    pub fn body(&self) -> Value {
        let roles: Vec<_> = self.roles.iter().map(|role| json!({"roleDefinitionId": role})).collect();
        let mut body = json!({
            "displayName": self.display_name,
            "duration": self.duration,
            "autoExtendDuration": match self.auto_extend { Extend::HalfAYear => "P180D", Extend::Never => "PT0S" },
            "accessDetails": {"unifiedRoles": roles},
        });
        if let Some(tenant) = &self.tenant_id {
            body["customer"] = json!({"tenantId": tenant});
        }
        body
    }
}

/// The days of `PnD` or `PnY`, which is how durations of this length are written.
fn days(text: &str) -> Option<u32> {
    let count = |end: char| text.strip_prefix('P')?.strip_suffix(end)?.parse::<u32>().ok();
    count('D').or_else(|| count('Y')?.checked_mul(365))
}

/// Where the customer accepts a relationship.
pub fn invitation(id: &str) -> String {
    format!("https://admin.microsoft.com/AdminPortal/Home#/partners/invitation/granularAdminRelationships/{id}")
}

/// The body of an access assignment: `roles` go to a security group.
pub fn assignment(group: &str, roles: &[String]) -> Value {
    let roles: Vec<_> = roles.iter().map(|role| json!({"roleDefinitionId": role})).collect();
    json!({
        "accessContainer": {"accessContainerId": group, "accessContainerType": "securityGroup"},
        "accessDetails": {"unifiedRoles": roles},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_contract_is_known_and_another_one_is_data() {
        for (word, in_force, over) in [
            ("created", false, false),
            ("approvalPending", false, false),
            ("approved", false, false),
            ("activating", false, false),
            ("active", true, false),
            ("expiring", true, false),
            ("expired", false, true),
            ("terminationRequested", false, true),
            ("terminating", false, true),
            ("terminated", false, true),
            ("frozen<b>", false, false),
        ] {
            let status = Status::from(word.to_owned());
            assert_eq!((status.is_in_force(), status.is_over()), (in_force, over), "{word}");
        }
        assert_eq!(String::from(Status::from("frozen<b>".to_owned())), "frozenb");
    }

    #[test]
    fn a_wish_is_what_the_contract_sends() {
        let wish = Wish {
            display_name: "Northlight refresh 2026-03 Fabrikam".into(),
            duration: "P730D".into(),
            auto_extend: Extend::HalfAYear,
            tenant_id: Some("a4f0e2d1-77aa-4b31-9f2e-5c6d7e8f9a01".into()),
            roles: vec![DIRECTORY_READERS.into(), CLOUD_APPLICATION_ADMINISTRATOR.into()],
        };
        assert_eq!(wish.problems(), [""; 0]);
        let mut expected: Value =
            serde_json::from_str(include_str!("../../../tests/data/gdap/gdap.relationship.create.json")).unwrap();
        expected["customer"].as_object_mut().unwrap().remove("displayName");
        assert_eq!(wish.body(), expected);
    }

    #[test]
    fn what_graph_would_refuse_is_refused_here_by_name() {
        let good = Wish::one_day("consent".into(), "a4f0e2d1-77aa-4b31-9f2e-5c6d7e8f9a01");
        assert_eq!(good.problems(), [""; 0]);
        for (wish, field) in [
            (Wish { display_name: String::new(), ..good.clone() }, "name"),
            (Wish { display_name: "x".repeat(51), ..good.clone() }, "name"),
            (Wish { duration: "PT1H".into(), ..good.clone() }, "duration"),
            (Wish { duration: "P731D".into(), ..good.clone() }, "duration"),
            (Wish { duration: "P3Y".into(), ..good.clone() }, "duration"),
            (Wish { duration: "soon".into(), ..good.clone() }, "duration"),
            (Wish { roles: vec![], ..good.clone() }, "role"),
            (Wish { roles: vec!["admin".into()], ..good.clone() }, "role"),
            (Wish { tenant_id: Some("../x".into()), ..good.clone() }, "tenant"),
        ] {
            let problems = wish.problems();
            assert!(problems.len() == 1 && problems[0].starts_with(field), "{field}: {problems:?}");
        }
        for duration in ["P1D", "P2Y", "P365D"] {
            assert_eq!(Wish { duration: duration.into(), ..good.clone() }.problems(), [""; 0], "{duration}");
        }
    }
}
