//! Reads the `hh:mm:ss` durations of host.json and function.json. It knows no other duration format.

use std::time::Duration;

/// Reads `[d.]hh:mm[:ss[.fffffff]]`, as .NET's TimeSpan does.
///
/// A plain number is refused: .NET would take it for days, which nobody means. Negative values are refused too; the
/// one that has a meaning (`-1`, no timeout) is read by its own field.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let mut parts = text.split(':');
    let (first, minutes, seconds) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let (days, hours) = match first.split_once('.') {
        Some((days, hours)) => (number(days, 10_000_000)?, hours),
        None => (0, first),
    };
    let (hours, minutes) = (number(hours, 23)?, number(minutes, 59)?);
    let (seconds, nanos) = match seconds.map(|seconds| seconds.split_once('.').unwrap_or((seconds, ""))) {
        None => (0, 0),
        Some((seconds, fraction)) => (number(seconds, 59)?, fraction_in_nanos(fraction)?),
    };
    Some(Duration::new(((days * 24 + hours) * 60 + minutes) * 60 + seconds, nanos))
}

fn number(digits: &str, greatest: u64) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|value| plain && *value <= greatest)
}

fn fraction_in_nanos(digits: &str) -> Option<u32> {
    if digits.len() > 7 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<9}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_dotnet_reads_them() {
        for (text, millis) in [
            ("00:05:00", Some(300_000)),
            ("00:00:01.5", Some(1_500)),
            ("1.02:03:04", Some(93_784_000)),
            ("00:05", Some(300_000)),
            (" 23:59:59 ", Some(86_399_000)),
            ("24:00:00", None),
            ("00:60:00", None),
            ("5", None),
            ("-1", None),
            ("-00:00:01", None),
            ("+1:00:00", None),
            ("00:00:00.12345678", None),
            ("1:2:3:4", None),
            ("", None),
        ] {
            assert_eq!(parse(text).map(|span| span.as_millis()), millis, "{text:?}");
        }
    }
}
