//! `log.level`: a filter of the tracing crate.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Says what is wrong with a filter. To the crate a word that is no level is the name of a module, whose every event is
/// logged, and nothing else: a misspelt level would silence the log.
pub(super) fn check(filter: &str) -> Result<(), String> {
    let words = filter.split(',').map(str::trim).filter(|word| !word.is_empty());
    for word in words {
        if !word.contains(['=', '[']) && word.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{word:?} is no level (error, warn, info, debug, trace, off); a module has one after it: {word}=debug"
            ));
        }
    }
    match EnvFilter::builder().parse(filter) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for right in [
            "info",
            "WARN",
            "off",
            "",
            "info,stockade::server=debug",
            "stockade[span]=trace",
        ] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for wrong in [
            "warning",
            "inof",
            "info,stockade",
            "nonsense,,==",
            "stockade=loud",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
