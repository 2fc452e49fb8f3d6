//! Sizes, durations and CPU shares as people write them.
//!
//! Sizes follow systemd and docker: `K`, `M`, `G` and `T` are powers of 1024, however the suffix is spelled
//! (`256M`, `256MB`, `256MiB`, and `256Mi` as Kubernetes has it). What is finer than one byte, one millisecond or a thousandth of a CPU is cut off.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

mod in_files;

pub use in_files::{Bytes, Cpus, DurationMs};

/// A text that is not of the unit that was expected. Its message quotes the text, escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct UnitError {
    pub text: String,
    pub expected: &'static str,
}

/// No honest quantity is longer; it also bounds what an error message quotes.
const LONGEST_TEXT: usize = 64;

const SIZE: &str = "a size: bytes, or a number with K, M, G or T, such as 256M";
const DURATION: &str = "a duration: seconds, or numbers with ms, s, m, h or d, such as 1h30m";
const CPUS: &str = "a number of CPUs, such as 2 or 0.5";

const SIZE_UNITS: [(&str, u64); 5] = [
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("", 1),
];
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Bytes from `4096`, `256M`, `16MiB`, `64Ki`, `1.5G`.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    sized(text).ok_or_else(|| refused(text, SIZE))
}

/// Milliseconds from `10` (seconds), `500ms`, `2m`, `1h 30m`, `0.5s`.
pub fn parse_duration_ms(text: &str) -> Result<u64, UnitError> {
    let trimmed = text.trim();
    let parsed = if trimmed.len() > LONGEST_TEXT {
        None
    } else {
        decimal(trimmed, 1000).or_else(|| sum_of_durations(trimmed))
    };
    parsed.ok_or_else(|| refused(text, DURATION))
}

/// Thousandths of a CPU from `2`, `0.5`.
pub fn parse_cpus(text: &str) -> Result<u64, UnitError> {
    decimal(text.trim(), 1000).ok_or_else(|| refused(text, CPUS))
}

/// For people: at most one decimal, so it may be rounded down. `256M`, `117.7M`, `512`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    let (suffix, unit) = largest_unit(&SIZE_UNITS, bytes);
    let tenths = (bytes % unit) * 10 / unit;
    match tenths {
        0 => format!("{}{suffix}", bytes / unit),
        _ => format!("{}.{tenths}{suffix}", bytes / unit),
    }
}

/// For files: [`parse_bytes`] gives back the same value. `256M`, `123456789`.
#[must_use]
pub fn format_bytes_exact(bytes: u64) -> String {
    let whole = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    let (suffix, unit) = SIZE_UNITS.iter().find(whole).unwrap_or(&("", 1));
    format!("{}{suffix}", bytes / unit)
}

/// Exact: [`parse_duration_ms`] gives back the same value. `1h30m`, `2s500ms`, `0s`.
#[must_use]
pub fn format_duration_ms(milliseconds: u64) -> String {
    let mut rest = milliseconds;
    let mut text = String::new();
    for (suffix, unit) in DURATION_UNITS {
        if rest >= unit {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{suffix}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Exact: [`parse_cpus`] gives back the same value. `2`, `0.5`.
#[must_use]
pub fn format_cpus(millis: u64) -> String {
    match millis % 1000 {
        0 => (millis / 1000).to_string(),
        part => format!("{}.{part:03}", millis / 1000)
            .trim_end_matches('0')
            .to_owned(),
    }
}

fn refused(text: &str, expected: &'static str) -> UnitError {
    UnitError {
        text: text.chars().take(LONGEST_TEXT).collect(),
        expected,
    }
}

fn largest_unit(units: &[(&'static str, u64)], value: u64) -> (&'static str, u64) {
    units
        .iter()
        .copied()
        .find(|(_, unit)| value >= *unit)
        .unwrap_or(("", 1))
}

fn sized(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.to_ascii_uppercase();
    let unit = match suffix.as_str() {
        "" | "B" => "",
        _ => suffix
            .strip_suffix("IB")
            .or_else(|| suffix.strip_suffix(['B', 'I']))
            .unwrap_or(&suffix),
    };
    let scale = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1;
    if unit.is_empty() && !matches!(suffix.as_str(), "" | "B") {
        return None;
    }
    decimal(number.trim_end(), scale)
}

fn sum_of_durations(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let end = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (suffix, tail) = tail.split_at(end);
        let scale = DURATION_UNITS.iter().find(|(name, _)| *name == suffix)?.1;
        total = total.checked_add(decimal(number.trim_end(), scale)?)?;
        rest = tail.trim_start();
    }
    (!text.is_empty()).then_some(total)
}

/// `text` times `scale`, cut to a whole number. Digits and at most one point, no sign, no exponent.
fn decimal(text: &str, scale: u64) -> Option<u64> {
    if text.len() > LONGEST_TEXT {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    // Digits behind the eighteenth change no result: no scale is that large.
    let fraction = &fraction[..fraction.len().min(18)];
    let numerator = fraction.parse::<u128>().ok()? * u128::from(scale);
    let part = numerator / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests;
