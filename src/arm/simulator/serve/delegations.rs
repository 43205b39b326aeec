//! Delegations as the simulator shows them: registration assignments of a scope, role definitions, and who has which role.

use serde_json::{Value, json};

use super::super::Shared;
use super::super::scripts::Reply;
use super::{query_value, without_api_version};

pub(super) fn list(shared: &Shared, head: &http::request::Parts) -> Reply {
    if let Some(reply) = without_api_version(head) {
        return reply;
    }
    let mut world = shared.world();
    world.stats.pages += 1;
    if let Some(reply) = world.on_list.pop_front() {
        return reply;
    }
    let path = head.uri.path();
    let skip = query_value(head, "$skiptoken").map_or(Some(0), |token| token.parse().ok());
    let Some(skip) = skip else { return Reply::error(400, "InvalidSkipToken", "The skip token is not one of ours.") };
    let scope = percent_encoding::percent_decode_str(path).decode_utf8_lossy().to_lowercase();
    let scope = scope.split("/providers/").next().unwrap_or_default();
    let is_expanded = query_value(head, "$expandRegistrationDefinition") == Some("true");
    let size = shared.config.page_size.max(1);
    let all = world.assignments.get(scope).map(Vec::as_slice).unwrap_or_default();
    let page = all.iter().skip(skip).take(size).cloned().map(|mut assignment| {
        if !is_expanded && let Some(properties) = assignment["properties"].as_object_mut() {
            properties.remove("registrationDefinition");
        }
        assignment
    });
    let mut body = json!({"value": page.collect::<Vec<Value>>()});
    if all.len() > skip + size {
        let api_version = query_value(head, "api-version").unwrap_or_default();
        body["nextLink"] = format!(
            "{}{path}?$expandRegistrationDefinition={is_expanded}&api-version={api_version}&$skiptoken={}",
            shared.origin,
            skip + size
        )
        .into();
    }
    Reply::json(200, body.to_string())
}

/// The role or deny assignments of a scope and above it, those of one principal where the filter names it.
pub(super) fn access(shared: &Shared, head: &http::request::Parts, kind: &str) -> Reply {
    if let Some(reply) = without_api_version(head) {
        return reply;
    }
    let mut world = shared.world();
    world.stats.pages += 1;
    if let Some(reply) = world.on_list.pop_front() {
        return reply;
    }
    let path = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8_lossy().to_lowercase();
    let scope = path.rsplit_once("/providers/microsoft.authorization/").map_or("", |(scope, _)| scope);
    let filter =
        query_value(head, "$filter").map(|filter| percent_encoding::percent_decode_str(filter).decode_utf8_lossy());
    let wanted = filter.as_deref().and_then(|filter| filter.strip_prefix("assignedTo('")?.strip_suffix("')"));
    let above =
        world.access.iter().filter(|((of, at), _)| of.eq_ignore_ascii_case(kind) && scope.starts_with(at.as_str()));
    let value: Vec<&Value> = above
        .flat_map(|(_, all)| all)
        .filter(|item| wanted.is_none_or(|wanted| item["properties"]["principalId"] == wanted))
        .collect();
    Reply::json(200, json!({ "value": value }).to_string())
}

pub(super) fn role(shared: &Shared, head: &http::request::Parts, role: &str) -> Reply {
    if let Some(reply) = without_api_version(head) {
        return reply;
    }
    let mut world = shared.world();
    if let Some(reply) = world.on_list.pop_front() {
        return reply;
    }
    match world.roles.get(&role.to_ascii_lowercase()) {
        Some(definition) => Reply::json(200, definition.to_string()),
        None => Reply::error(404, "RoleDefinitionDoesNotExist", "There is no role definition of this id."),
    }
}
