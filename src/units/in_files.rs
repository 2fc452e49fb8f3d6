//! The units as values of a configuration file: a text with a unit, or a plain number.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    UnitError, format_bytes_exact, format_cpus, format_duration_ms, parse_bytes, parse_cpus,
    parse_duration_ms,
};

/// A size in bytes: `"256M"` or `268435456`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A duration in milliseconds: `"1h30m"`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationMs(pub u64);

/// Thousandths of a CPU: `0.5`, `2` or `"0.5"`, all of them numbers of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus(pub u64);

/// Reads a number by way of its text, so that a number and the same number in quotes are one value.
struct Quantity {
    expecting: &'static str,
    parse: fn(&str) -> Result<u64, UnitError>,
}

impl Visitor<'_> for Quantity {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! quantity {
    ($type:ident, $expecting:literal, $parse:ident, $format:ident) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let visitor = Quantity {
                    expecting: $expecting,
                    parse: $parse,
                };
                deserializer.deserialize_any(visitor).map(Self)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$format(self.0))
            }
        }
    };
}

quantity!(Bytes, "a size such as \"256M\"", parse_bytes, format_bytes_exact);
quantity!(
    DurationMs,
    "a duration such as \"1h30m\"",
    parse_duration_ms,
    format_duration_ms
);
quantity!(Cpus, "a number of CPUs such as 0.5", parse_cpus, format_cpus);
