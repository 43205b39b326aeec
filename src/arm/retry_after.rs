//! How long ARM wants us to wait: every form of Retry-After that is seen (contracts/arm.md §2.1, §2.3).
//!
//! Only reads; clamping and our own waits are the domain's (`rollout::RetryPolicy`).

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

use crate::rollout::Timestamp;

/// No wait is believed to be longer; keeps sums of times within range.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The wait that an answer names, counted from `now`; none if it names none, zero, a time past, or nonsense.
///
/// The variants in milliseconds go first because they say the same more exactly. An HTTP date is measured against the
/// answer's own `Date`, so that our clock may be wrong.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let wait = milliseconds(headers, "x-ms-retry-after-ms")
        .or_else(|| milliseconds(headers, "retry-after-ms"))
        .or_else(|| seconds_or_date(headers, now))?;
    (!wait.is_zero()).then(|| wait.min(LONGEST))
}

fn milliseconds(headers: &HeaderMap, name: &'static str) -> Option<Duration> {
    number(headers.get(name)?.to_str().ok()?).map(|value| seconds(value / 1000.0))
}

fn seconds_or_date(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    if let Some(value) = number(value) {
        return Some(seconds(value));
    }
    let until = httpdate::parse_http_date(value.trim()).ok()?;
    let from = headers
        .get(DATE)
        .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok())
        .unwrap_or_else(|| now.into());
    until.duration_since(from).ok()
}

/// Digits with at most one point: `parse` alone would take signs, exponents and `inf`.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn wait(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        let now = "2026-03-10T12:00:00Z".parse().unwrap();
        let headers = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        retry_after(&headers.collect(), now)
    }

    #[test]
    fn every_form_of_retry_after_is_understood() {
        let seconds = |value| Some(Duration::from_secs_f64(value));
        for (pairs, expected) in [
            (&[][..], None),
            (&[("retry-after", "15")], seconds(15.0)),
            (&[("retry-after", " 15 ")], seconds(15.0)),
            (&[("retry-after", "0.5")], seconds(0.5)),
            (&[("retry-after-ms", "250")], seconds(0.25)),
            (&[("x-ms-retry-after-ms", "1500")], seconds(1.5)),
            (&[("x-ms-retry-after-ms", "1500"), ("retry-after", "2")], seconds(1.5)),
            (&[("retry-after-ms", "soon"), ("retry-after", "2")], seconds(2.0)),
            (&[("retry-after", "Tue, 10 Mar 2026 12:01:30 GMT")], seconds(90.0)),
            (
                &[("retry-after", "Tue, 10 Mar 2026 12:01:30 GMT"), ("date", "Tue, 10 Mar 2026 12:01:00 GMT")],
                seconds(30.0),
            ),
            (&[("retry-after", "Tue, 10 Mar 2026 12:01:30 GMT"), ("date", "yesterday")], seconds(90.0)),
        ] {
            assert_eq!(wait(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn zero_the_past_and_nonsense_name_no_wait() {
        for value in [
            "0",
            "0.0",
            "",
            ".",
            "-1",
            "+1",
            "1e3",
            "inf",
            "NaN",
            "1 2",
            "1,2",
            "Mon, 09 Mar 2026 12:00:00 GMT",
            "soon",
        ] {
            assert_eq!(wait(&[("retry-after", value)]), None, "{value:?}");
        }
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        let nines = "9".repeat(400);
        for value in ["18446744073709551615", "99999999999999999999", &nines, "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(wait(&[("retry-after", value)]), Some(LONGEST), "{value:?}");
        }
    }
}
