//! `log.level`: levels, and modules with levels of their own.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// What is logged where the text names nothing.
const DEFAULT: LevelFilter = LevelFilter::INFO;

/// The filter that `text` names, such as `info,stockade::server=debug`; or what is wrong with it.
///
/// Each word of it needs a level: taken for the name of a module, a misspelt level would silence the log.
pub(crate) fn parse(text: &str) -> Result<Targets, String> {
    let mut words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .peekable();
    if words.peek().is_none() {
        return Ok(Targets::new().with_default(DEFAULT));
    }
    words.try_fold(Targets::new(), |filter, word| {
        let (module, level) = match word.rsplit_once('=') {
            Some((module, level)) => (Some(module.trim()), level.trim()),
            None => (None, word),
        };
        let level = match level.parse::<LevelFilter>() {
            Ok(known) if !level.is_empty() => known,
            _ => {
                return Err(format!(
                    "{level:?} is no level (error, warn, info, debug, trace, off); a module has one after it: \
                     stockade::server=debug"
                ));
            }
        };
        match module {
            None => Ok(filter.with_default(level)),
            Some(module) if is_module(module) => Ok(filter.with_target(module, level)),
            Some(other) => Err(format!("{other:?} is no module, such as stockade::server")),
        }
    })
}

fn is_module(text: &str) -> bool {
    let of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    !text.is_empty() && text.chars().all(of_names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::filter::LevelFilter as Level;

    fn filter(text: &str) -> Targets {
        parse(text).expect("a filter")
    }

    #[test]
    fn levels_and_modules_are_taken_together() {
        assert_eq!(filter("WARN"), Targets::new().with_default(Level::WARN));
        let both = Targets::new()
            .with_default(Level::INFO)
            .with_target("stockade::server", Level::DEBUG);
        assert_eq!(filter("info, stockade::server=debug,"), both);
        assert_eq!(filter("stockade::server=debug,info"), both);
    }

    #[test]
    fn nothing_is_the_usual_and_off_is_off() {
        assert_eq!(filter(""), Targets::new().with_default(DEFAULT));
        assert_eq!(filter(" , "), Targets::new().with_default(DEFAULT));
        assert_eq!(filter("off"), Targets::new().with_default(Level::OFF));
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for wrong in [
            "warning",
            "inof",
            "info,stockade",
            "nonsense,,==",
            "stockade=loud",
            "stockade=",
            "=info",
            "stockade[span]=trace",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
