//! A collector that keeps what it gets, and reads it as a real one would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use prost::Message as _;

use crate::local::service::Azure;

/// One span, as far as tests ask.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: u128,
    pub id: u64,
    /// 0 for none.
    pub parent: u64,
    pub name: String,
    pub attributes: BTreeMap<String, String>,
}

type Kept = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

pub struct Collector {
    pub endpoint: String,
    kept: Kept,
}

impl Collector {
    pub fn start(azure: &Azure) -> Self {
        let kept = Kept::default();
        let router = Router::new().fallback(post(keep)).with_state(Arc::clone(&kept));
        Self { endpoint: azure.serve_router(router), kept }
    }

    fn bodies(&self, path: &str) -> Vec<Bytes> {
        let kept = self.kept.lock().unwrap();
        kept.iter().filter(|(at, ..)| at == path).map(|(.., body)| body.clone()).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let requests =
            self.bodies("/v1/traces").into_iter().map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|of| of.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans).map(|span| Span {
            trace: u128::from_be_bytes(span.trace_id.try_into().unwrap()),
            id: u64::from_be_bytes(span.span_id.try_into().unwrap()),
            parent: span.parent_span_id.try_into().map_or(0, u64::from_be_bytes),
            name: span.name,
            attributes: read(span.attributes),
        });
        spans.collect()
    }

    /// The attributes of the process that sent the last spans.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let last = ExportTraceServiceRequest::decode(self.bodies("/v1/traces").pop().unwrap()).unwrap();
        read(last.resource_spans[0].resource.clone().unwrap().attributes)
    }

    /// The names of all metrics.
    pub fn metrics(&self) -> BTreeSet<String> {
        let requests =
            self.bodies("/v1/metrics").into_iter().map(|body| ExportMetricsServiceRequest::decode(body).unwrap());
        let scopes = requests.flat_map(|request| request.resource_metrics).flat_map(|of| of.scope_metrics);
        scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name).collect()
    }

    /// What a gauge showed in each export, one after the other.
    pub fn gauge(&self, name: &str) -> Vec<Vec<(BTreeMap<String, String>, i64)>> {
        let requests =
            self.bodies("/v1/metrics").into_iter().map(|body| ExportMetricsServiceRequest::decode(body).unwrap());
        let exports = requests.map(|request| {
            let scopes = request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
            let metrics = scopes.flat_map(|scope| scope.metrics).filter(|metric| metric.name == name);
            let points = metrics.flat_map(|metric| match metric.data {
                Some(metric::Data::Gauge(gauge)) => gauge.data_points,
                other => panic!("{name} is no gauge: {other:?}"),
            });
            let value = |value| match value {
                Some(number_data_point::Value::AsInt(number)) => number,
                other => panic!("{name} counts whole things: {other:?}"),
            };
            points.map(|point| (read(point.attributes), value(point.value))).collect()
        });
        exports.collect()
    }

    pub fn headers(&self) -> Vec<HeaderMap> {
        self.kept.lock().unwrap().iter().map(|(_, headers, _)| headers.clone()).collect()
    }

    /// Whether any byte that came holds `text`.
    pub fn holds(&self, text: &str) -> bool {
        let kept = self.kept.lock().unwrap();
        kept.iter().any(|(_, _, body)| body.windows(text.len()).any(|part| part == text.as_bytes()))
    }
}

async fn keep(State(kept): State<Kept>, uri: Uri, headers: HeaderMap, body: Bytes) {
    kept.lock().unwrap().push((uri.path().to_owned(), headers, body));
}

fn read(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}
