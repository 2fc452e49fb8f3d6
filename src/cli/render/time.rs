use std::time::Duration;

use prost_types::Timestamp;

use super::Style;

/// RFC 3339 in UTC, to the microsecond at most.
pub(super) fn rfc3339(time: &Timestamp) -> String {
    time.to_string()
}

/// For people: how long ago, or the date.
pub(super) fn shown(time: Option<&Timestamp>, now: &Timestamp, style: Style) -> String {
    match time {
        None => String::new(),
        Some(time) if style.relative_times => ago(span(time, now).unwrap_or_default()),
        Some(time) => rfc3339(time),
    }
}

/// From `start` to `end`; `None` where the clock went back in between.
pub(super) fn span(start: &Timestamp, end: &Timestamp) -> Option<Duration> {
    let nanos = |time: &Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let span = u64::try_from(nanos(end) - nanos(start)).ok()?;
    Some(Duration::from_nanos(span))
}

/// How long something took, short enough for a column.
pub(super) fn short(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..10 => format!("{:.1}s", span.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn ago(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => "just now".to_owned(),
        1..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        colours: false,
        relative_times: false,
    };

    #[test]
    fn dates_are_rfc_3339() {
        let time = Timestamp {
            seconds: 1_700_000_000,
            nanos: 123_456_000,
        };
        assert_eq!(rfc3339(&time), "2023-11-14T22:13:20.123456Z");
        let time = Timestamp {
            seconds: -1,
            nanos: 999_999_000,
        };
        assert_eq!(rfc3339(&time), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn times_are_relative_on_a_terminal_alone() {
        let then = Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        };
        let now = Timestamp {
            seconds: 1_700_000_200,
            nanos: 0,
        };
        assert_eq!(shown(Some(&then), &now, PLAIN), "2023-11-14T22:13:20Z");
        let terminal = Style {
            relative_times: true,
            ..PLAIN
        };
        assert_eq!(shown(Some(&then), &now, terminal), "3m ago");
        assert_eq!(shown(Some(&now), &then, terminal), "just now");
        assert_eq!(shown(None, &now, terminal), "");
    }

    #[test]
    fn spans_fit_a_column() {
        for (milliseconds, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1250, "1.2s"),
            (59_999, "59s"),
            (61_000, "1m01s"),
            (3_660_000, "1h01m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(short(Duration::from_millis(milliseconds)), text);
        }
    }
}
