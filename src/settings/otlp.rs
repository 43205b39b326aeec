//! Where spans and metrics go: OpenTelemetry's own variables, under the same rules as every other address and secret.
//!
//! Refuses nothing that is not used: without an endpoint the rest is not read.

use std::str::FromStr as _;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::reader::Reader;
use super::{OtlpSettings, Secret, default_of};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const NAME: &str = "OTEL_SERVICE_NAME";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// The collector, if one is named.
pub fn read(reader: &mut Reader<'_>) -> Option<OtlpSettings> {
    reader.text(ENDPOINT)?;
    let endpoint = reader.endpoint(ENDPOINT);
    let headers = pairs(reader, HEADERS, |name, value| {
        HeaderName::from_str(name).is_ok() && HeaderValue::from_str(value).is_ok()
    });
    let attributes = pairs(reader, ATTRIBUTES, |name, _| !name.is_empty());
    if reader.text(PROTOCOL).is_some_and(|protocol| protocol != "http/protobuf") {
        reader.odd(
            PROTOCOL,
            "only http/protobuf is spoken",
            "leave it out, and name the collector's port for HTTP, often 4318",
        );
    }
    let named = attributes.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.clone());
    let service_name = reader.text(NAME).map(str::to_owned).or(named);
    Some(OtlpSettings {
        endpoint: endpoint?,
        headers: headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
        service_name: service_name.or(default_of(NAME).map(str::to_owned)).unwrap_or_default(),
        attributes,
        names_sampler: reader.text("OTEL_TRACES_SAMPLER").is_some(),
        names_delay: reader.text("OTEL_BSP_SCHEDULE_DELAY").is_some(),
    })
}

/// `name=value` with commas between, percent-encoded (<https://www.w3.org/TR/baggage/>).
fn pairs(reader: &mut Reader<'_>, setting: &str, is_good: impl Fn(&str, &str) -> bool) -> Vec<(String, String)> {
    let text = reader.text(setting).unwrap_or_default();
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let read = parts.map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?.into_owned();
        is_good(name.trim(), &value).then(|| (name.trim().to_owned(), value))
    });
    read.collect::<Option<_>>().unwrap_or_else(|| {
        reader.wrong(
            setting,
            "it is not a list of name=value with commas between",
            "write it so; a comma in a value is %2C",
        );
        Vec::new()
    })
}
