use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[test]
fn sizes_are_powers_of_1024() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("1k", 1 << 10),
        ("256M", 256 << 20),
        ("256MB", 256 << 20),
        ("16MiB", 16 << 20),
        ("256Mi", 256 << 20),
        ("1Gi", 1 << 30),
        ("64ki", 64 << 10),
        (" 16 mib ", 16 << 20),
        ("1.5G", 3 << 29),
        ("2T", 2 << 40),
        ("0.0001K", 0),
    ] {
        assert_eq!(parse_bytes(text), Ok(bytes), "{text:?}");
    }
}

#[test]
fn what_is_no_size_is_refused() {
    let too_many_digits = "9".repeat(65);
    for text in [
        "",
        " ",
        "M",
        "-1",
        "+1",
        "1e3",
        "1X",
        "iB",
        "1iB",
        "1i",
        "1Bi",
        "1MBi",
        "1Mii",
        "1BB",
        "1MiBB",
        "1.2.3",
        ".5",
        "5.",
        "0x10",
        "1 0",
        "NaN",
        "inf",
        "18446744073709551616",
        "16777216T",
        "1\0",
        "١",
        &too_many_digits,
    ] {
        let refused = parse_bytes(text).expect_err(text);
        assert!(refused.to_string().contains("size"), "{refused}");
    }
}

#[test]
fn durations_default_to_seconds() {
    for (text, milliseconds) in [
        ("10", 10_000),
        ("0.25", 250),
        ("10s", 10_000),
        ("500ms", 500),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("1 d", 86_400_000),
        ("0s", 0),
        ("1.5h", 5_400_000),
    ] {
        assert_eq!(parse_duration_ms(text), Ok(milliseconds), "{text:?}");
    }
}

#[test]
fn what_is_no_duration_is_refused() {
    // M would be months to some readers and minutes to others.
    for text in [
        "",
        "s",
        "-1s",
        "1M",
        "1y",
        "1h30",
        "1us",
        "h1",
        "1h-5m",
        "18446744073709551615s 1000ms",
        "99999999999d 99999999999999999d",
    ] {
        assert!(parse_duration_ms(text).is_err(), "{text:?}");
    }
}

#[test]
fn cpus_are_thousandths() {
    for (text, millis) in [("1", 1000), ("0.5", 500), ("2.25", 2250), ("0.3333", 333)] {
        assert_eq!(parse_cpus(text), Ok(millis), "{text:?}");
    }
    for text in ["", "500m", "-1", "1,5", "NaN"] {
        assert!(parse_cpus(text).is_err(), "{text:?}");
    }
}

#[test]
fn people_read_rounded_sizes() {
    for (bytes, text) in [
        (0, "0"),
        (1023, "1023"),
        (1 << 10, "1K"),
        (123_456_789, "117.7M"),
        (u64::MAX, "16777215.9T"),
    ] {
        assert_eq!(format_bytes(bytes), text);
    }
}

#[test]
fn a_refusal_quotes_neither_much_nor_raw() {
    let hostile = "\u{1b}[31m\n".repeat(1000);
    let message = parse_bytes(&hostile).expect_err("no size").to_string();
    assert!(
        message.len() < 1000 && !message.chars().any(char::is_control),
        "{message}"
    );
}

#[test]
fn files_hold_numbers_or_texts() {
    #[derive(Deserialize, Debug, PartialEq)]
    struct File {
        memory: Bytes,
        time: DurationMs,
        cpus: Cpus,
    }
    let expected = File {
        memory: Bytes(4096),
        time: DurationMs(1500),
        cpus: Cpus(2000),
    };
    for text in [
        "memory = 4096\ntime = 1.5\ncpus = 2",
        "memory = '4K'\ntime = '1.5'\ncpus = '2.0'",
    ] {
        assert_eq!(toml::from_str::<File>(text).expect(text), expected);
    }
    for text in [
        "memory = -1\ntime = 1\ncpus = 1",
        "memory = true\ntime = 1\ncpus = 1",
        "memory = 1\ntime = nan\ncpus = 1",
        "memory = 1\ntime = 1\ncpus = -inf",
    ] {
        assert!(toml::from_str::<File>(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn exact_forms_read_back(value: u64) {
        prop_assert_eq!(parse_bytes(&format_bytes_exact(value)), Ok(value));
        prop_assert_eq!(parse_duration_ms(&format_duration_ms(value)), Ok(value));
        prop_assert_eq!(parse_cpus(&format_cpus(value)), Ok(value));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}|[0-9.]{0,70}[a-zA-Z ]{0,4}") {
        let _ = (parse_bytes(&text), parse_duration_ms(&text), parse_cpus(&text));
    }
}
