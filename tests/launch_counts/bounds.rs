//! The recorded bounds, and what is said where a count is above its own.

use std::collections::BTreeMap;

pub(crate) type Bounds = BTreeMap<String, BTreeMap<String, f64>>;

pub(crate) const TEXT: &str = include_str!("bounds.toml");

pub(crate) fn read() -> Bounds {
    let numbers: BTreeMap<String, BTreeMap<String, i64>> = toml::from_str(TEXT).expect("bounds.toml");
    let exact = |value: i64| f64::from(i32::try_from(value).expect("a small number"));
    let of_part = |(part, of): (String, BTreeMap<String, i64>)| {
        let bounds = of.into_iter().map(|(what, most)| (what, exact(most)));
        (part, bounds.collect())
    };
    numbers.into_iter().map(of_part).collect()
}

/// Fails with all counts that are above their bounds. Every count has one.
pub(crate) fn assert_within(counts: &[(&str, &str, f64)]) {
    let bounds = read();
    let mut above = Vec::new();
    for &(part, what, count) in counts {
        let most = bounds[part][what];
        println!("{part} {what}: {count:.1} of {most}");
        if count > most {
            above.push(format!("{part} {what}: {count:.1}, at most {most}"));
        }
    }
    assert!(
        above.is_empty(),
        "more than before for each launch:\n{}",
        above.join("\n")
    );
}
