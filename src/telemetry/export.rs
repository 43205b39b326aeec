//! Spans and metrics to an OpenTelemetry collector (OTLP over HTTP), where `OTEL_EXPORTER_OTLP_ENDPOINT` names one.
//!
//! Work never waits for it: spans are gathered in a bounded buffer and sent from a thread of its own; what does not
//! fit, or cannot be sent, is dropped. Only our own spans go out, and of log lines only warnings and errors. Makes no
//! HTTP client: it is lent one, when the first batch goes out.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, Protocol, SpanExporter};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

use crate::clock::Clock;
use crate::{metrics, trace};

/// How long one request to the collector may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long a span waits for others. Short, since the Functions host kills a handler without a word.
const GATHERED: Duration = Duration::from_secs(1);
/// How long the end of the process waits for what is still to be sent.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A collector, and who we are to it. Shows nothing of itself, since headers hold keys.
pub struct ExportConfig {
    /// Its address without a slash at its end, to which the paths of the signals are added; checked by the config.
    pub endpoint: String,
    /// Headers for every request.
    pub headers: HashMap<String, String>,
    /// `service.name`.
    pub service_name: String,
    /// Attributes of everything that is sent.
    pub attributes: Vec<(String, String)>,
    /// Whether `OTEL_TRACES_SAMPLER`, which OpenTelemetry reads itself, says which spans are drawn.
    pub names_sampler: bool,
    /// Whether `OTEL_BSP_SCHEDULE_DELAY`, likewise, says how long spans are gathered.
    pub names_delay: bool,
}

/// The way to a collector.
pub struct Export {
    tracer: SdkTracer,
    spans: SdkTracerProvider,
    meters: SdkMeterProvider,
}

impl Export {
    /// Opens it: two threads, and no request yet. `client` is asked for the HTTP client with the first one.
    ///
    /// # Errors
    /// If a variable of OpenTelemetry's own asks for what is not built in, such as compression.
    pub fn start<C>(config: &ExportConfig, client: C, clock: Arc<dyn Clock>) -> Result<Self, ExporterBuildError>
    where
        C: Fn() -> Result<reqwest::Client, String> + Send + Sync + 'static,
    {
        let sender: Arc<dyn HttpClient> = Arc::new(Sender {
            runtime: Handle::current(),
            shared: Arc::new(Shared {
                make: Box::new(client),
                client: OnceCell::new(),
                is_lost: AtomicBool::new(false),
            }),
        });
        let at = |path: &str| format!("{}{path}", config.endpoint);
        let spans = SpanExporter::builder()
            .with_http()
            .with_shared_http_client(Arc::clone(&sender))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(at("/v1/traces"))
            .with_headers(config.headers.clone())
            .with_timeout(REQUEST)
            .build()?;
        let measured = MetricExporter::builder()
            .with_http()
            .with_shared_http_client(sender)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(at("/v1/metrics"))
            .with_headers(config.headers.clone())
            .with_timeout(REQUEST)
            .build()?;
        let resource = resource(config);
        let mut batches = BatchConfigBuilder::default();
        if !config.names_delay {
            batches = batches.with_scheduled_delay(GATHERED);
        }
        let processor = BatchSpanProcessor::builder(spans).with_batch_config(batches.build()).build();
        let mut spans = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource.clone());
        if !config.names_sampler {
            // Not by the parent's word: the Functions host marks its own spans as not sampled where nobody else draws them.
            spans = spans.with_sampler(Sampler::AlwaysOn);
        }
        let spans = spans.build();
        let reader = PeriodicReader::builder(measured).build();
        let meters = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
        metrics::start(&meters.meter("permafresh"), clock);
        trace::set_exported();
        Ok(Self { tracer: spans.tracer("permafresh"), spans, meters })
    }

    /// What draws our spans.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_exported))
    }

    /// Sends what is left, and ends. Waits for that, but not for long, and not at all for a collector that is gone.
    pub async fn end(self) {
        let (done, ended) = tokio::sync::oneshot::channel();
        // A thread that nobody waits for: it must not hold up the end of the process.
        std::thread::spawn(move || {
            let _down = self.spans.shutdown_with_timeout(LAST_WORDS);
            let _down = self.meters.shutdown_with_timeout(LAST_WORDS);
            let _ended = done.send(());
        });
        let _too_late = tokio::time::timeout(LAST_WORDS, ended).await;
    }
}

/// Our spans in all detail, and our warnings within them; nothing of the crates below, which know addresses and tokens.
fn is_exported(what: &Metadata<'_>) -> bool {
    what.target().starts_with("permafresh")
        && (what.is_span() && *what.level() <= Level::DEBUG || *what.level() <= Level::WARN)
}

/// Who we are to the collector.
fn resource(config: &ExportConfig) -> Resource {
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        // Of every instance, or their counters would be taken for one.
        KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
    ];
    let given = config.attributes.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder()
        .with_attributes(own)
        .with_attributes(given)
        .with_service_name(config.service_name.clone())
        .build()
}

/// Sends with the service's own client, on the service's own runtime, though exporters ask from threads of theirs.
struct Sender {
    runtime: Handle,
    shared: Arc<Shared>,
}

struct Shared {
    make: Box<dyn Fn() -> Result<reqwest::Client, String> + Send + Sync>,
    client: OnceCell<reqwest::Client>,
    is_lost: AtomicBool,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let shared = Arc::clone(&self.shared);
        let sent = self.runtime.spawn(async move {
            let sent = tokio::time::timeout(REQUEST, shared.send(request)).await;
            let sent = sent.unwrap_or_else(|_| Err(format!("no answer within {} s", REQUEST.as_secs())));
            shared.note(&sent);
            sent
        });
        Ok(sent.await.map_err(|_| "the process ends")??)
    }
}

impl Shared {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let client = self.client.get_or_try_init(|| std::future::ready((self.make)())).await?;
        let request = reqwest::Request::try_from(request).map_err(|error| error.without_url().to_string())?;
        let response = client.execute(request).await.map_err(|error| error.without_url().to_string())?;
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        *answer.body_mut() = response.bytes().await.map_err(|error| error.without_url().to_string())?;
        Ok(answer)
    }

    /// Says once that the collector is lost, and once that it is back.
    fn note(&self, sent: &Result<Response<Bytes>, String>) {
        let trouble = match sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(why) => Some(why.clone()),
        };
        let was_lost = self.is_lost.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(why) if !was_lost => {
                tracing::warn!("The OpenTelemetry collector takes nothing, so spans and metrics are dropped: {why}");
            }
            None if was_lost => tracing::info!("The OpenTelemetry collector takes spans and metrics again"),
            _ => {}
        }
    }
}
