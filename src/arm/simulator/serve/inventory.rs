//! What the simulator shows of the whole: subscriptions, Resource Graph, resource groups with who manages them, and the
//! operations of providers.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::Shared;
use super::super::scripts::{Area, Reply};
use super::super::world::{ApplicationSpec, World};
use super::{nothing_here, query_value, without_api_version};

/// A path that belongs to no subscription.
pub(super) fn tenant_wide(shared: &Shared, head: &http::request::Parts, segments: &[&str], body: &Bytes) -> Reply {
    let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
    if let Some(reply) = without_api_version(head) {
        return reply;
    }
    match (head.method.as_str(), segments) {
        ("GET", [subscriptions]) if is(subscriptions, "subscriptions") => list_subscriptions(shared, head),
        ("POST", [providers, graph, resources])
            if is(providers, "providers") && is(graph, "Microsoft.ResourceGraph") && is(resources, "resources") =>
        {
            query(shared, body)
        }
        ("GET", [providers, authorization, operations, namespace])
            if is(providers, "providers")
                && is(authorization, "Microsoft.Authorization")
                && is(operations, "providerOperations") =>
        {
            provider_operations(shared, head, namespace)
        }
        _ => nothing_here(),
    }
}

fn list_subscriptions(shared: &Shared, head: &http::request::Parts) -> Reply {
    let mut world = shared.world();
    world.stats.inventory += 1;
    if let Some(reply) = world.scripted(Area::Subscriptions) {
        return reply;
    }
    let ids = world.visible_subscriptions();
    let skip = query_value(head, "$skiptoken").and_then(|token| token.parse().ok()).unwrap_or(0);
    let size = shared.config.page_size.max(1);
    let value: Vec<Value> = ids
        .iter()
        .skip(skip)
        .take(size)
        .map(|id| {
            let tenant = &*world.tenant_of(id);
            json!({"id": format!("/subscriptions/{id}"), "subscriptionId": id, "displayName": id, "state": "Enabled",
                "tenantId": tenant})
        })
        .collect();
    let mut page = json!({"value": value, "count": {"type": "Total", "value": ids.len()}});
    if skip + size < ids.len() {
        let version = query_value(head, "api-version").unwrap_or_default();
        page["nextLink"] =
            json!(format!("{}/subscriptions?api-version={version}&$skiptoken={}", shared.origin, skip + size));
    }
    Reply::json(200, page.to_string())
}

/// The resource groups of a subscription: one that holds applications, and one that each of them manages.
pub(super) fn list_groups(shared: &Shared, head: &http::request::Parts, subscription: &str) -> Reply {
    if let Some(reply) = without_api_version(head) {
        return reply;
    }
    let mut world = shared.world();
    world.stats.inventory += 1;
    if let Some(reply) = world.scripted(Area::Groups) {
        return reply;
    }
    let mut value =
        vec![json!({"id": format!("/subscriptions/{subscription}/resourceGroups/rg-apps"), "name": "rg-apps"})];
    value.extend(world.specs_in(subscription).map(managed_group));
    Reply::json(200, json!({ "value": value }).to_string())
}

fn managed_group(spec: &ApplicationSpec) -> Value {
    let (subscription, name) = (spec.id.subscription(), spec.id.name());
    json!({"id": format!("/subscriptions/{subscription}/resourceGroups/mrg-{name}"), "name": format!("mrg-{name}"),
        "type": "microsoft.resources/subscriptions/resourcegroups", "managedBy": spec.id, "tenantId": &*spec.tenant_id})
}

fn query(shared: &Shared, body: &Bytes) -> Reply {
    let mut world = shared.world();
    world.stats.inventory += 1;
    if let Some(reply) = world.scripted(Area::Graph) {
        return reply;
    }
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return Reply::error(400, "BadRequest", "The body of the request is not JSON.");
    };
    let query = request["query"].as_str().unwrap_or_default();
    let wanted = request["subscriptions"].as_array().cloned().unwrap_or_default();
    let wanted: Vec<&str> = wanted.iter().filter_map(Value::as_str).collect();
    let specs = wanted.iter().flat_map(|id| world.specs_in(id));
    let rows: Vec<Value> = if query.starts_with("resourcecontainers") {
        specs.map(managed_group).collect()
    } else if world.graph_is_blind {
        Vec::new()
    } else {
        specs.map(row).collect()
    };
    let skip = request["options"]["$skipToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
    let size = shared.config.page_size.max(1);
    let data: Vec<&Value> = rows.iter().skip(skip).take(size).collect();
    let mut page = json!({"totalRecords": rows.len(), "count": data.len(), "data": data, "facets": [],
        "resultTruncated": "false"});
    if skip + size < rows.len() {
        page["$skipToken"] = json!((skip + size).to_string());
    }
    Reply::json(200, page.to_string())
}

fn row(spec: &ApplicationSpec) -> Value {
    let plan = spec.plan.as_ref().map(|plan| {
        json!({"publisher": &*plan.publisher, "product": &*plan.product, "name": &*plan.name, "version": &*plan.version})
    });
    let kind = if plan.is_some() { "MarketPlace" } else { "ServiceCatalog" };
    let group = &managed_group(spec)["id"];
    json!({"id": spec.id, "name": spec.id.name(), "location": &*spec.location, "kind": kind, "plan": plan,
        "tenantId": &*spec.tenant_id,
        "properties": {"provisioningState": &*spec.provisioning_state, "managedResourceGroupId": group}})
}

fn provider_operations(shared: &Shared, head: &http::request::Parts, namespace: &str) -> Reply {
    let mut world = shared.world();
    world.stats.operation_lists += 1;
    if let Some(reply) = world.scripted(Area::Operations) {
        return reply;
    }
    let Some(operations) = world.providers.get(namespace.to_ascii_lowercase().as_str()) else {
        return Reply::error(404, "ProviderOperationsNotFound", "There is no such provider.");
    };
    let operations: Vec<Value> =
        operations.iter().map(|(name, is_data)| json!({"name": name, "isDataAction": is_data})).collect();
    let mut body = json!({"name": namespace, "type": "Microsoft.Authorization/providerOperations", "operations": []});
    if query_value(head, "$expand") == Some("resourceTypes") {
        body["resourceTypes"] = json!([{"name": "all", "operations": operations}]);
    }
    Reply::json(200, body.to_string())
}

impl World {
    fn scripted(&mut self, area: Area) -> Option<Reply> {
        self.on_area.get_mut(&area)?.pop_front()
    }

    /// The subscriptions that the caller can see. Kept until that changes, since each page of them asks for all.
    fn visible_subscriptions(&mut self) -> Arc<[Box<str>]> {
        if let Some(known) = &self.visible_subscriptions {
            return Arc::clone(known);
        }
        let there = self.by_subscription.keys().filter(|id| !self.hidden.contains(*id));
        let mut ids: Vec<Box<str>> = there.filter(|id| self.specs_in(id).next().is_some()).cloned().collect();
        ids.extend(self.empty_subscriptions.iter().cloned());
        ids.sort_unstable();
        Arc::clone(self.visible_subscriptions.insert(ids.into()))
    }

    fn specs_in(&self, subscription: &str) -> impl Iterator<Item = &ApplicationSpec> {
        let indexes = self.by_subscription.get(subscription).map(Vec::as_slice).unwrap_or_default();
        indexes.iter().map(|index| &self.applications[*index as usize]).filter(|a| !a.is_gone).map(|a| &a.spec)
    }
}
