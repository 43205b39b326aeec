//! The plot of a rollout's course: stacked areas as SVG, with a legend and a table beside it. Shapes only; every text is
//! HTML, so that it keeps its size on a phone.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::parts::number;
use crate::rollout::Timestamp;
use crate::rollout::course::Sample;

const WIDTH: i64 = 1_000;
const HEIGHT: u64 = 200;
/// How many rows the table beside it has.
const ROWS: usize = 12;

/// A class, a word, and what is counted.
type Layer = (&'static str, &'static str, fn(&Sample) -> u64);

/// What is stacked, from the bottom.
const LAYERS: [Layer; 4] = [
    ("done", "done", |sample| sample.done),
    ("failed", "failed", |sample| sample.failed),
    ("running", "running", |sample| sample.running),
    ("queued", "queued", |sample| sample.queued),
];

/// The plot of `samples`; nothing while there is only one.
pub fn plot(samples: &[Sample], title: &str) -> Markup {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return html! {} };
    let most = samples.iter().map(Sample::total).max().unwrap_or_default();
    if samples.len() < 2 || most == 0 || last.at <= first.at {
        return html! { p.hint { "The plot begins with the second look at the rollout." } };
    }
    let span = (last.at - first.at).num_milliseconds().max(1);
    let x = |at: Timestamp| (at - first.at).num_milliseconds() * WIDTH / span;
    let y = |value: u64| {
        HEIGHT - u64::try_from(u128::from(value) * u128::from(HEIGHT) / u128::from(most)).unwrap_or(HEIGHT)
    };
    let mut below = vec![0_u64; samples.len()];
    let mut shapes = Vec::new();
    for (class, _, of) in LAYERS {
        let above: Vec<u64> =
            samples.iter().zip(&below).map(|(sample, below)| below.saturating_add(of(sample))).collect();
        if above != below {
            let mut path = String::new();
            let edge = samples.iter().zip(&above).chain(samples.iter().zip(&below).rev());
            for (at, (sample, value)) in edge.enumerate() {
                let letter = if at == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{} {}", x(sample.at), y(*value));
            }
            path.push('Z');
            shapes.push((class, path));
        }
        below = above;
    }
    let every = samples.len().div_ceil(ROWS).max(1);
    let shown: Vec<&Sample> = samples.iter().step_by(every).chain([last]).collect();
    html! {
        figure.plot {
            figcaption { (title) }
            div.axis { span { (number(most)) } span.legend {
                @for (class, word, _) in LAYERS { span { span.dot.(class) {} (word) } }
            } }
            svg role="img" aria-label=(summary(last, most)) viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" {
                @for quarter in 1..4u64 {
                    line.grid x1="0" x2=(WIDTH) y1=(HEIGHT * quarter / 4) y2=(HEIGHT * quarter / 4) {}
                }
                @for (class, path) in &shapes { path class=(class) d=(path) {} }
            }
            div.axis { (label(first.at, last.at, first.at)) (label(first.at, last.at, last.at)) }
            details {
                summary { "The same as a table" }
                table {
                    caption.hidden { (title) }
                    thead { tr { th scope="col" { "Time (UTC)" } @for (_, word, _) in LAYERS { th.number scope="col" { (word) } } } }
                    tbody {
                        @for sample in shown {
                            tr {
                                th scope="row" { (sample.at.format("%m-%d %H:%M:%S")) }
                                @for (_, _, of) in LAYERS { td.number { (number(of(sample))) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn summary(last: &Sample, most: u64) -> String {
    let parts: Vec<String> = LAYERS.iter().map(|(_, word, of)| format!("{} {word}", of(last))).collect();
    format!("Refreshes over time, at most {most}; at the end {}", parts.join(", "))
}

/// A moment as short as the span allows.
fn label(first: Timestamp, last: Timestamp, at: Timestamp) -> Markup {
    let form = match (last - first).num_seconds() {
        0..600 => "%H:%M:%S UTC",
        600..86_400 => "%H:%M UTC",
        _ => "%Y-%m-%d %H:%M UTC",
    };
    html! { time datetime=(at.to_rfc3339()) { (at.format(form)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, queued: u64, running: u64, done: u64, failed: u64) -> Sample {
        Sample { at: Timestamp::from_timestamp(1_000_000 + second, 0).unwrap(), queued, running, done, failed }
    }

    #[test]
    fn areas_lie_on_each_other_and_reach_from_edge_to_edge() {
        let text = plot(&[sample(0, 4, 0, 0, 0), sample(5, 1, 1, 1, 1), sample(10, 0, 0, 3, 1)], "x").into_string();
        for path in [
            r#"<path class="done" d="M0 200L500 150L1000 50L1000 200L500 200L0 200Z">"#,
            r#"<path class="failed" d="M0 200L500 100L1000 0L1000 50L500 150L0 200Z">"#,
            r#"<path class="queued" d="M0 0L500 0L1000 0L1000 0L500 50L0 200Z">"#,
        ] {
            assert!(text.contains(path), "{path} is not in\n{text}");
        }
        assert!(text.contains("at the end 3 done, 1 failed, 0 running, 0 queued"), "{text}");
    }

    #[test]
    fn too_little_for_a_plot_is_said() {
        for samples in [&[][..], &[sample(0, 1, 0, 0, 0)], &[sample(0, 0, 0, 0, 0), sample(9, 0, 0, 0, 0)]] {
            assert!(!plot(samples, "x").into_string().contains("<svg"), "{samples:?}");
        }
    }
}
