//! The trace that work belongs to, in the form of W3C Trace Context: read from whoever called, carried through messages,
//! told to whom we call. Exports nothing and draws no spans: that is `telemetry`'s, where a collector is configured.
//!
//! Without a collector what came is handed on unchanged, as the recommendation wants of those who only forward, and work
//! that nobody traced gets a trace of its own; so the lines of a publish and of all that follows from it bear one id.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

/// The header, and the member of our messages' bodies by another name.
pub const HEADER: &str = "traceparent";

/// Whether spans are drawn and exported in this process.
static EXPORTS: AtomicBool = AtomicBool::new(false);

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// A `traceparent`: which trace, and the span in it that what follows is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent` (<https://www.w3.org/TR/trace-context/>, §3.2): also one of a later version, of which only the
    /// four known parts count. `None` for what is none; nobody is to be refused for that.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, rest) = (text.get(..2)?, text.get(2..55)?);
        let more = text.get(55..)?;
        let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !hex(version) || version == "ff" || !(more.is_empty() || version != "00" && more.starts_with('-')) {
            return None;
        }
        let mut parts = rest.strip_prefix('-')?.split('-');
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        if (trace.len(), span.len(), flags.len()) != (32, 16, 2) || ![trace, span, flags].into_iter().all(hex) {
            return None;
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace, 16).ok()?,
            span_id: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }

    /// A trace of its own, for work that nobody traced. Not sampled, since nobody draws its spans.
    fn new() -> Self {
        // One question to the system instead of two: a span's id has to differ only within its trace, which has no other yet.
        let id = Uuid::new_v4();
        Self { trace_id: id.as_u128(), span_id: id.as_u64_pair().1, flags: 0 }
    }

    /// Whether both are of one trace.
    pub fn is_of_the_trace_of(&self, other: &Self) -> bool {
        self.trace_id == other.trace_id
    }

    fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        })
    }

    fn remote(self) -> SpanContext {
        let (trace, span) = (TraceId::from(self.trace_id), SpanId::from(self.span_id));
        SpanContext::new(trace, span, TraceFlags::new(self.flags), true, TraceState::NONE)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// From now on spans of this process are drawn and exported.
pub fn set_exported() {
    EXPORTS.store(true, Ordering::Relaxed);
}

/// What the work under way hands on: the innermost span, or what its caller handed to it. `None` outside of [`within`].
pub fn current() -> Option<TraceContext> {
    drawn().or_else(|| CURRENT.try_with(|context| *context).ok())
}

/// The innermost span that is drawn: what may be told to those who are not ours.
pub fn drawn() -> Option<TraceContext> {
    if !EXPORTS.load(Ordering::Relaxed) {
        return None;
    }
    TraceContext::of(Span::current().context().span().span_context())
}

/// Does work in a span that continues `parent`'s trace, or begins one, and that also belongs to `link`. Fills the span's
/// field `trace.id`.
pub async fn within<F: Future>(
    span: Span,
    parent: Option<TraceContext>,
    link: Option<TraceContext>,
    work: F,
) -> F::Output {
    let drawn = EXPORTS.load(Ordering::Relaxed).then(|| {
        if let Some(parent) = parent {
            // It was made a moment ago, so that it cannot have been drawn already.
            let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent.remote()));
        }
        if let Some(link) = link {
            span.add_link(link.remote());
        }
        TraceContext::of(span.context().span().span_context())
    });
    let context = drawn.flatten().or(parent).unwrap_or_else(TraceContext::new);
    span.record("trace.id", field::display(format_args!("{:032x}", context.trace_id)));
    CURRENT.scope(context, work.instrument(span)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_it_was() {
        assert_eq!(TraceContext::parse(GOOD).unwrap().to_string(), GOOD);
        let later = format!("cc{}-and-more", &GOOD[2..]);
        assert_eq!(TraceContext::parse(&later).unwrap().to_string(), GOOD, "a later version is one we speak, to us");
        let own = TraceContext::new();
        assert_eq!(TraceContext::parse(&own.to_string()), Some(own));
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ü1",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn without_a_collector_what_came_is_handed_on_and_untraced_work_gets_a_trace_of_its_own() {
        let given = TraceContext::parse(GOOD);
        assert_eq!(current(), None);
        assert_eq!(within(Span::none(), given, None, async { current() }).await, given);
        let own = within(Span::none(), None, None, async { (current(), drawn()) }).await;
        assert!(own.0.is_some() && own.1.is_none());
    }
}
