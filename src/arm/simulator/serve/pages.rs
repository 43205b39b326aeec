//! Applications as the simulator shows them, one by one and in pages.

use std::fmt::Write;

use super::super::Shared;
use super::super::scripts::{OnRead, Reply};
use super::super::world::{ApplicationSpec, PRINCIPAL, ROLE};
use super::refresh::application_key;
use super::{Act, query_value, without_api_version};

pub(super) fn read(shared: &Shared, head: &http::request::Parts, path: &str) -> Act {
    let mut world = shared.world();
    let world = &mut *world;
    world.stats.reads += 1;
    if let Some(reply) = without_api_version(head) {
        return reply.into();
    }
    let Some(&index) = world.by_id.get(application_key(path).as_ref()) else {
        return Reply::resource_not_found().into();
    };
    let application = &mut world.applications[index as usize];
    if application.is_gone && application.on_read.is_empty() {
        return Reply::resource_not_found().into();
    }
    let mut body = String::with_capacity(1_500);
    match application.on_read.pop_front() {
        None => show(&mut body, &application.spec, &application.spec.provisioning_state),
        Some(OnRead::State(state)) => show(&mut body, &application.spec, &state),
        Some(OnRead::Reply(reply)) => return reply.into(),
        Some(OnRead::Reset) => return Act::Reset,
        Some(OnRead::Hang) => return Act::Hang,
    }
    Reply::json(200, body).into()
}

pub(super) fn list(shared: &Shared, head: &http::request::Parts, subscription: &str, group: Option<&str>) -> Reply {
    if let Some(reply) = without_api_version(head) {
        return reply;
    }
    let mut world = shared.world();
    world.stats.pages += 1;
    if let Some(reply) = world.on_list.pop_front() {
        return reply;
    }
    let skip = match query_value(head, "$skiptoken").map(|token| token.strip_suffix("%3D%3D").map(str::parse::<usize>))
    {
        None => 0,
        Some(Some(Ok(skip))) => skip,
        Some(_) => return Reply::error(400, "InvalidSkipToken", "The skip token is not one of ours."),
    };
    let size = shared.config.page_size.max(1);
    let none = Vec::new();
    let indexes = world.by_subscription.get(subscription).unwrap_or(&none).iter();
    let group = group.map(application_key);
    let mut listed = indexes
        .map(|index| &world.applications[*index as usize])
        .filter(|application| !application.is_gone)
        .map(|application| &application.spec)
        .filter(|spec| group.as_ref().is_none_or(|group| spec.id.resource_group().to_lowercase() == **group));
    let mut body = String::from(r#"{"value":["#);
    for (place, spec) in listed.by_ref().skip(skip).take(size).enumerate() {
        if place > 0 {
            body.push(',');
        }
        show(&mut body, spec, &spec.provisioning_state);
    }
    body.push(']');
    if listed.next().is_some() {
        let api_version = query_value(head, "api-version").unwrap_or_default();
        write!(
            body,
            r#","nextLink":"{}{}?api-version={api_version}&$skiptoken={}%3D%3D""#,
            shared.origin,
            head.uri.path(),
            skip + size
        )
        .expect("writing to a String cannot fail");
    }
    body.push('}');
    Reply::json(200, body)
}

/// Appends an application as contracts/arm.md §1.3 describes it.
fn show(body: &mut String, spec: &ApplicationSpec, provisioning_state: &str) {
    let ApplicationSpec { id, location, jit_access_policy, .. } = spec;
    let name = id.name();
    let subscription = id.subscription();
    let write = |body: &mut String| -> std::fmt::Result {
        write!(
            body,
            r#"{{"id":"{id}","name":"{name}","type":"Microsoft.Solutions/applications","location":"{location}""#
        )?;
        match &spec.plan {
            Some(plan) => write!(
                body,
                r#","kind":"MarketPlace","plan":{{"publisher":"{}","product":"{}","name":"{}","version":"{}"}}"#,
                plan.publisher, plan.product, plan.name, plan.version
            )?,
            None => body.write_str(r#","kind":"ServiceCatalog","plan":null,"sku":null,"tags":null"#)?,
        }
        write!(
            body,
            r#","properties":{{"managedResourceGroupId":"/subscriptions/{subscription}/resourceGroups/mrg-{name}","parameters":{{"adminPassword":{{"type":"SecureString"}}}},"outputs":{{}},"provisioningState":"{provisioning_state}","publisherTenantId":"5d0f7a10-0000-4000-8000-00000000f001","managementMode":"{}","authorizations":[{{"principalId":"{PRINCIPAL}","roleDefinitionId":"{ROLE}"}}]"#,
            spec.management_mode
        )?;
        if let Some(policy) = jit_access_policy {
            write!(body, r#","jitAccessPolicy":{policy}"#)?;
        }
        body.write_str("}}")
    };
    write(body).expect("writing to a String cannot fail");
}
