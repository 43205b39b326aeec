//! Writes the delegation that a refresh needs (contracts/access.md §3.4), as an ARM template with its parameters.
//!
//! The function's identity gets narrow roles at any time, since it can never elevate itself; people get a wide one on request.
//! The same options give the same bytes. Who gets what is in the template itself, where the customer reads it and no parameter
//! changes it.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::API_VERSION;
use super::role::{APPLICATION_OPERATOR, APPLICATIONS_READER, CONTRIBUTOR, READER, REGISTRATION_DELETE};

const DEFINITIONS: &str = "Microsoft.ManagedServices/registrationDefinitions";
const ASSIGNMENTS: &str = "Microsoft.ManagedServices/registrationAssignments";
const SUBSCRIPTION_SCHEMA: &str =
    "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#";
const GROUP_SCHEMA: &str = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";
const PARAMETERS_SCHEMA: &str =
    "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentParameters.json#";
const DEFINITION_ID: &str =
    "[subscriptionResourceId('Microsoft.ManagedServices/registrationDefinitions', variables('definitionName'))]";

/// What is to be delegated, and to whom. Ids and names are taken as they are: [`super::rules`] judges the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is delegated.
    pub scope: Scope,
    /// The offer's name: one for each scope.
    pub offer: String,
    /// What the customer reads about it.
    pub description: String,
    /// The publisher's tenant.
    pub tenant: String,
    /// The function's identity.
    pub service: Principal,
    /// Whether it also files just-in-time requests.
    pub jit: bool,
    /// Who may look in at any time, and do more on request.
    pub support: Option<Support>,
}

/// What is delegated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A whole subscription.
    Subscription,
    /// One resource group that exists; without a name the customer is asked for it.
    ResourceGroup(Option<String>),
    /// Several resource groups that exist, all of one subscription.
    ResourceGroups(Vec<String>),
}

/// A principal of the publisher's tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its object id.
    pub id: String,
    /// What the customer reads.
    pub name: String,
}

/// People who help when something does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// Their group.
    pub group: Principal,
    /// How long an activation lasts at most.
    pub longest: Duration,
    /// Who has to approve; nobody has to if there are none.
    pub approvers: Vec<Principal>,
}

/// A template and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The template, as JSON text.
    pub template: String,
    /// The parameter file.
    pub parameters: String,
}

// Structs rather than maps, since members should stand in the order in which people read them.

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Template {
    #[serde(rename = "$schema")]
    schema: &'static str,
    content_version: &'static str,
    parameters: Parameters,
    variables: Variables,
    resources: Vec<Resource>,
    outputs: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    offer_name: Value,
    offer_description: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_group: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_groups: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Variables {
    definition_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    assignment_name: Option<&'static str>,
    active: Vec<Authorization>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    eligible: Vec<Authorization>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    principal_id: String,
    principal_id_display_name: String,
    role_definition_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    just_in_time_access_policy: Option<Policy>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    multi_factor_auth_provider: &'static str,
    maximum_activation_duration: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    managed_by_tenant_approvers: Vec<Approver>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Approver {
    principal_id: String,
    principal_id_display_name: String,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(rename = "type")]
    kind: &'static str,
    api_version: &'static str,
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_group: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depends_on: Option<[&'static str; 1]>,
    properties: Value,
}

/// Writes a delegation.
pub fn write(options: &Options) -> Written {
    let eligible = eligible(options);
    let mut definition = json!({
        "registrationDefinitionName": "[parameters('offerName')]",
        "description": "[parameters('offerDescription')]",
        "managedByTenantId": literal(&options.tenant),
        "authorizations": "[variables('active')]",
    });
    if !eligible.is_empty() {
        definition["eligibleAuthorizations"] = "[variables('eligible')]".into();
    }
    let definition = Resource {
        kind: DEFINITIONS,
        api_version: API_VERSION,
        name: "[variables('definitionName')]",
        properties: definition,
        ..Resource::default()
    };
    let (assignment_name, assignment) = assignment(&options.scope);
    let text = |default: &str| json!({"type": "string", "defaultValue": literal(default)});
    let template = Template {
        schema: SUBSCRIPTION_SCHEMA,
        content_version: "1.0.0.0",
        parameters: Parameters {
            offer_name: text(&options.offer),
            offer_description: text(&options.description),
            resource_group: matches!(options.scope, Scope::ResourceGroup(_)).then(|| json!({"type": "string"})),
            resource_groups: matches!(options.scope, Scope::ResourceGroups(_)).then(|| json!({"type": "array"})),
        },
        variables: Variables {
            definition_name: "[guid(parameters('offerName'))]",
            assignment_name,
            active: active(options),
            eligible,
        },
        resources: vec![definition, assignment],
        outputs: json!({"definition": {"type": "string", "value": "[variables('definitionName')]"}}),
    };
    Written { template: pretty(&template), parameters: pretty(&parameters(options)) }
}

fn active(options: &Options) -> Vec<Authorization> {
    let service = |role, purpose: &str| Authorization {
        principal_id: options.service.id.clone(),
        principal_id_display_name: literal(&format!("{}{purpose}", options.service.name)),
        role_definition_id: role,
        just_in_time_access_policy: None,
    };
    let mut active = vec![service(APPLICATION_OPERATOR, "")];
    if options.jit {
        active.push(service(APPLICATIONS_READER, " (JIT requests)"));
    }
    active.push(service(REGISTRATION_DELETE, " (offboarding)"));
    active.extend(options.support.iter().map(|support| Authorization {
        principal_id: support.group.id.clone(),
        principal_id_display_name: literal(&support.group.name),
        role_definition_id: READER,
        just_in_time_access_policy: None,
    }));
    active
}

fn eligible(options: &Options) -> Vec<Authorization> {
    let approver = |approver: &Principal| Approver {
        principal_id: approver.id.clone(),
        principal_id_display_name: literal(&approver.name),
    };
    let eligible = options.support.iter().map(|support| Authorization {
        principal_id: support.group.id.clone(),
        principal_id_display_name: literal(&support.group.name),
        role_definition_id: CONTRIBUTOR,
        just_in_time_access_policy: Some(Policy {
            multi_factor_auth_provider: "Azure",
            maximum_activation_duration: iso_duration(support.longest),
            managed_by_tenant_approvers: support.approvers.iter().map(approver).collect(),
        }),
    });
    eligible.collect()
}

/// The assignment, in the group or groups where there are such, and what `assignmentName` stands for.
fn assignment(scope: &Scope) -> (Option<&'static str>, Resource) {
    let plain = |name, id| {
        json!({
            "type": ASSIGNMENTS,
            "apiVersion": API_VERSION,
            "name": name,
            "properties": {"registrationDefinitionId": id},
        })
    };
    let template = |resource| json!({"$schema": GROUP_SCHEMA, "contentVersion": "1.0.0.0", "resources": [resource]});
    let nested = Resource {
        kind: "Microsoft.Resources/deployments",
        api_version: "2021-04-01",
        depends_on: Some([DEFINITION_ID]),
        ..Resource::default()
    };
    match scope {
        // Named as its definition is.
        Scope::Subscription => (
            None,
            Resource {
                kind: ASSIGNMENTS,
                api_version: API_VERSION,
                name: "[variables('definitionName')]",
                depends_on: Some([DEFINITION_ID]),
                properties: json!({"registrationDefinitionId": DEFINITION_ID}),
                ..Resource::default()
            },
        ),
        Scope::ResourceGroup(_) => (
            Some("[guid(parameters('offerName'), parameters('resourceGroup'))]"),
            Resource {
                name: "[concat('delegate-', variables('assignmentName'))]",
                resource_group: Some("[parameters('resourceGroup')]"),
                properties: json!({
                    "mode": "Incremental",
                    "template": template(plain("[variables('assignmentName')]", DEFINITION_ID)),
                }),
                ..nested
            },
        ),
        // A scope of its own within, so that nothing hangs on how an outer loop is seen from there.
        Scope::ResourceGroups(_) => {
            const NAME: &str = "[guid(parameters('offerName'), parameters('resourceGroups')[copyIndex()].rgName)]";
            let mut inner = template(plain("[parameters('assignmentName')]", "[parameters('definitionId')]"));
            inner["parameters"] = json!({"assignmentName": {"type": "string"}, "definitionId": {"type": "string"}});
            (
                None,
                Resource {
                    name: "[concat('delegate-', guid(parameters('offerName'), parameters('resourceGroups')[copyIndex()].rgName))]",
                    copy: Some(json!({"name": "groups", "count": "[length(parameters('resourceGroups'))]"})),
                    resource_group: Some("[parameters('resourceGroups')[copyIndex()].rgName]"),
                    properties: json!({
                        "mode": "Incremental",
                        "expressionEvaluationOptions": {"scope": "inner"},
                        "parameters": {"assignmentName": {"value": NAME}, "definitionId": {"value": DEFINITION_ID}},
                        "template": inner,
                    }),
                    ..nested
                },
            )
        }
    }
}

fn parameters(options: &Options) -> Value {
    let mut values = json!({
        "offerName": {"value": options.offer},
        "offerDescription": {"value": options.description},
    });
    match &options.scope {
        Scope::Subscription => {}
        Scope::ResourceGroup(group) => {
            if let Some(group) = group {
                values["resourceGroup"] = json!({"value": group});
            }
        }
        Scope::ResourceGroups(groups) => {
            let groups: Vec<_> = groups.iter().map(|group| json!({"rgName": group})).collect();
            values["resourceGroups"] = json!({"value": groups});
        }
    }
    json!({"$schema": PARAMETERS_SCHEMA, "contentVersion": "1.0.0.0", "parameters": values})
}

/// A text that ARM takes as it is, and never for an expression. Parameter files hold none, so there it is not needed.
fn literal(text: &str) -> String {
    if text.starts_with('[') { format!("[{text}") } else { text.to_owned() }
}

/// A duration in hours and minutes, as the portal offers them.
fn iso_duration(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("PT{minutes}M"),
        (hours, 0) => format!("PT{hours}H"),
        (hours, minutes) => format!("PT{hours}H{minutes}M"),
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("texts and lists are always JSON") + "\n"
}
