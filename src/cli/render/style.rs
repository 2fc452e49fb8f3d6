use std::io::{IsTerminal, stdout};

use clap::ColorChoice;

/// What the reader of the standard output is: a person at a terminal, or a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Style {
    pub(in crate::cli) colours: bool,
    /// "3m ago" instead of a date.
    pub(in crate::cli) relative_times: bool,
}

/// Of the words that tell how a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Colour {
    Red,
    Green,
    Yellow,
    Cyan,
    Bold,
}

impl Style {
    pub(in crate::cli) fn new(choice: ColorChoice) -> Self {
        let terminal = stdout().is_terminal();
        // https://no-color.org: any value but the empty one.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colours: match choice {
                ColorChoice::Auto => terminal && !refused,
                ColorChoice::Always => true,
                ColorChoice::Never => false,
            },
            relative_times: terminal,
        }
    }

    /// `text` in `colour`, by the SGR sequences of ECMA-48.
    pub(in crate::cli) fn paint(self, colour: Option<Colour>, text: &str) -> String {
        match colour {
            Some(colour) if self.colours => format!("\u{1b}[{}m{text}\u{1b}[0m", colour.code()),
            _ => text.to_owned(),
        }
    }
}

impl Colour {
    const fn code(self) -> u8 {
        match self {
            Self::Bold => 1,
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Cyan => 36,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_left_out_where_they_are_not_wanted() {
        let plain = Style::new(ColorChoice::Never);
        assert_eq!(plain.paint(Some(Colour::Red), "x"), "x");
        let always = Style::new(ColorChoice::Always);
        assert_eq!(always.paint(Some(Colour::Red), "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(always.paint(None, "x"), "x");
    }
}
